"""Show what a model believes of a point, site by site.

Without --index: the points that it is least sure of.

Example: pyro-ssvae inspect runs/digits-augmented-50 --index 17
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..errors import InputError, counted
from .arguments import read
from .pictures import check, save_picture

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table
    from torch import Tensor

    from ..evaluation.sites import Sites
    from ..labels import Labels
    from ..models import Model
    from ..plots import Units

Beliefs = dict[str, list[float]]
"""Probabilities of each label, by what gives them: ``q(y | x)``, ``p(y | x)``."""
SHORT = {"label": "H(y)", "reconstruction": "-log p(x)", "KL of z": "KL(z)"}
"""What a table says of the reason, as its columns do."""


@dataclass(frozen=True)
class Inspect:
    """The command's options."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    index: int | None = None
    """The point: a row of the run's test set."""
    train: bool = False
    """Take points of the data's training rows in place of its test set."""
    labelled: bool = False
    """Let the model see the point's label; by default it does not."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 10
    """Without --index: how many points."""
    by: str | None = None
    """Without --index: rank by label, reconstruction or "KL of z" alone."""
    draws: int = 100
    """Draws from the guide, for one point."""
    out: Path | None = None
    """The picture's file (.png, .pdf or .svg), which must not exist; by default a new one in the run's figures."""
    seed: int = 0
    """Of the draws."""

    @property
    def part(self) -> str:
        """Which points, in words."""
        return "training" if self.train else "test"


def parse(arguments: Sequence[str]) -> Inspect:
    """Return the options that were typed."""
    return read("inspect", Inspect, arguments, __doc__)


def run(options: Inspect) -> None:
    """Print the tables, draw the picture and say where it is."""
    from .. import plots
    from ..experiment.data import point_names, run_data
    from ..models.saving import load

    check(options, n=(1, 1000), draws=(2, 10_000))
    if options.index is None and options.labelled:
        raise InputError("--labelled: one point is seen with its label; --index says which")
    if options.index is not None and options.by is not None:
        raise InputError(f"--by {options.by}: many points are ranked, not one; leave it or --index out")
    model = load(options.run)
    dataset = run_data(options.run, model)
    x, y = (dataset.x, dataset.y) if options.train else (dataset.x_test, dataset.y_test)
    ids = point_names(options.run, dataset)[0 if options.train else 1]
    if options.index is None:
        list_uncertain(options, model, x, y, ids)
        return
    if not 0 <= options.index < len(x):
        raise InputError(f"--index: {options.index}; a {options.part} point from 0 to {len(x) - 1} is needed")
    rows = slice(options.index, options.index + 1)
    name = "" if ids is None else f" ({ids[options.index]})"
    inspect_point(options, model, x[rows], y[rows], plots.units_of(model, x), name)


def list_uncertain(options: Inspect, model: Model, x: Tensor, y: Tensor, ids: Sequence[str] | None) -> None:
    """Print the points that the model is least sure of as a table, and draw them.

    :param ids: the points' names in their source.
    """
    import torch

    from .. import plots
    from ..data.augment import unit_scale
    from ..evaluation.uncertainty import most_uncertain
    from ..explore.view import label_words
    from ..infer.protocols import Reconstructs
    from .tables import show

    try:
        found = most_uncertain(model, x, n=options.n, by=options.by, seed=options.seed)
    except InputError as error:
        raise InputError(f"--{error}" if str(error).startswith("by:") else str(error)) from None
    names = None if ids is None else [ids[int(i)] for i in found.index]
    show(uncertain_table(found, options.part, [label_words(model.labels, y[i]) for i in found.index], names))
    rows = torch.tensor([int(i) for i in found.index])
    if isinstance(model, Reconstructs):
        titles = [f"{i}: {SHORT.get(why, why)}" for i, why in zip(found.index, found["why"])]
        seen, x_hat, units = unit_scale(x[rows]), model.reconstruct(x[rows]), plots.units_of(model, x)
        title = f"the {counted(len(rows), f'{options.part} point')} that the model is least sure of, and why"
        figure = plots.reconstructions(seen, x_hat, titles, units=units, title=title)
        print(f"picture: {save_picture(figure, options.out, options.run, 'least_sure')}")
    words = ["pyro-ssvae", "inspect", str(options.run), *["--train"] * options.train, "--index", str(int(rows[0]))]
    print(f"more of one: {shlex.join(words)}")


def uncertain_table(found: pd.DataFrame, part: str, labels: Sequence[str], names: Sequence[str] | None = None) -> Table:
    """Return what :func:`~pyro_ssvae.least_sure` found as a table for people.

    :param labels: of the points found, in words.
    :param names: of these points in their source.
    """
    from rich.table import Table

    table = Table(title=f"{part} points that the model is least sure of", title_justify="left", padding=(0, 0))
    table.caption = (
        "score: standard deviations above the mean of all points; H(y): entropy of q(y | x), "
        "-log p(x): of x given z, KL(z): of q(z | x) from p(z), all in nats"
    )
    table.caption_justify = "left"
    units = {"label_entropy": "H(y)", "reconstruction": "-log p(x)", "kl": "KL(z)"}
    shown = [name for name in units if name in found]
    predicted = "first" in found
    table.add_column("index", justify="right", no_wrap=True)
    for word in () if names is None else ("id",):
        table.add_column(word, overflow="fold")
    table.add_column("why", no_wrap=True)
    for word in ("score", *(units[name] for name in shown)):
        table.add_column(word, justify="right", no_wrap=True)
    for word in ("guesses", "label") if predicted else ():
        table.add_column(word, overflow="fold")
    for place, ((i, row), label) in enumerate(zip(found.iterrows(), labels, strict=True)):
        numbers = [f"{row[name]:.{2 if abs(row[name]) < 100 else 0}f}" for name in shown]
        known = [] if names is None else [names[place]]
        cells = [str(i), *known, SHORT.get(row["why"], row["why"]), f"{row['score']:.1f}", *numbers]
        if predicted:
            cells += [f"{row['first']} {row['p_first']:.2f}, {row['second']} {row['p_second']:.2f}", label]
        table.add_row(*cells)
    return table


def inspect_point(options: Inspect, model: Model, x: Tensor, y: Tensor, units: Units | None, name: str = "") -> None:
    """Print a point's label and the trace's sites with the objective's terms, and draw these and its latents.

    :param name: the point's in its source, as it stands behind its number.
    """
    from .. import plots
    from ..data.label_words import answers
    from ..evaluation.posterior import expected_draws, posterior
    from ..evaluation.sites import sites
    from ..explore.view import label_words
    from ..infer.protocols import Reconstructs
    from ..labels import MISSING, ClassLabels

    seen = y if options.labelled and model.labels is not None else None
    if options.labelled and (seen is None or not bool((seen != MISSING).any())):
        raise InputError(
            f"--labelled: {options.part} point {options.index} has no label that this model could see; leave it out"
        )
    found = sites(model, x, seen, num_samples=options.draws, seed=options.seed)
    data = posterior(model, x, seen, num_samples=options.draws, points=[options.index], seed=options.seed)
    beliefs = beliefs_of(model, x, options)
    title = f"{options.part} point {options.index}{name}"
    label = label_words(model.labels, y[0])
    if label:
        title += f", labelled {label}" + ("" if options.labelled else " (unseen)")
    show_sites(title, found)
    known: list[int] = []
    if model.labels is not None:
        if beliefs:
            show_beliefs(model.labels, beliefs, belief_draws(options))
        classes = isinstance(model.labels, ClassLabels)
        known = [int(y[0])] if classes else (y[0] == 1).nonzero().flatten().tolist()
        known = [i for i in known if i != MISSING]
    names = () if model.labels is None else answers(model.labels)
    expected = None
    if isinstance(model, Reconstructs) and x.dim() == 4:
        expected = expected_draws(model, x, seen, num_samples=options.draws, seed=options.seed)[:, 0]
    terms = dict(found.terms.iloc[0])
    figure = plots.inspection(data, terms, beliefs, known, title, names=names, expected=expected, units=units)
    print(f"picture: {save_picture(figure, options.out, options.run, f'inspect_{options.index}')}")


def beliefs_of(model: Model, x: Tensor, options: Inspect) -> Beliefs:
    """Return the labels' probabilities of one point under the guide and, where x depends on y, under the model."""
    from ..evaluation.uncertainty import class_posterior
    from ..infer.protocols import Classifies

    beliefs: Beliefs = {}
    if isinstance(model, Classifies):
        beliefs["q(y | x)"] = model.predict_proba(x)[0].tolist()
        with contextlib.suppress(InputError):
            p = class_posterior(model, x, num_samples=belief_draws(options), seed=options.seed)
            beliefs["p(y | x)"] = p[0].tolist()
    return beliefs


def belief_draws(options: Inspect) -> int:
    """How many draws p(y | x) takes, which needs more than pictures do: at least 1,000."""
    return max(options.draws, 1000)


def show_sites(title: str, found: Sites) -> None:
    """Print the table of the trace's sites."""
    import pandas as pd
    from rich.table import Table

    from .tables import show

    table = Table(title=title, title_justify="left", caption="nats; terms sum to the objective", caption_justify="left")
    for column in ("site", "kind", "shape"):
        table.add_column(column, overflow="fold")
    for column in ("log p", "log q", "term"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in found.table.iterrows():
        numbers = ["" if pd.isna(row[column]) else f"{row[column]:.2f}" for column in ("log p", "log q", "term")]
        table.add_row(str(name), row["kind"], row["shape"], *numbers)
    table.add_section()
    table.add_row("objective", found.bound, "", "", "", f"{float(found.elbo[0]):.2f}")
    show(table)


def show_beliefs(labels: Labels, beliefs: Beliefs, draws: int) -> None:
    """Print the most probable labels under the guide and under the generative model."""
    from rich.table import Table

    from ..data.label_words import answers
    from ..labels import ClassLabels
    from .tables import show

    table = Table()
    table.add_column("class" if isinstance(labels, ClassLabels) else "attribute", overflow="fold")
    for word in beliefs:
        table.add_column(word, justify="right", no_wrap=True)
    columns = list(beliefs.values())
    order = list(range(len(columns[0])))
    if isinstance(labels, ClassLabels):
        order = sorted(order, key=lambda k: -max(column[k] for column in columns))[:5]
    for k in order:
        table.add_row(answers(labels)[k], *(f"{column[k]:.3f}" for column in columns))
    show(table)
    if len(beliefs) > 1:
        print(
            f"q: the guide's head; p: the generative model, exact over y,\nimportance-weighted over {draws} draws of z"
        )
