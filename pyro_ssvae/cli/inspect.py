"""The command ``inspect``: what a trained model believes of a point, and which points it is least sure of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..data.augment import unit_scale
from ..errors import InputError
from ..evaluation.posterior import posterior
from ..evaluation.sites import Sites, sites
from ..evaluation.uncertainty import class_posterior, least_sure
from ..experiment.run import OptionalInt, OptionalPath, OptionalStr
from ..labels import MISSING, ClassLabels
from ..models import Model
from ..models.saving import load
from ..plots import posterior as pictures
from ..plots.summary import reconstructions
from .intervene import check, run_data, save_picture


@dataclass(frozen=True)
class Inspect:
    """Show what a model believes of a point, site by site; without --index, the points that it is least sure of.

    Example: pyro-ssvae inspect runs/digits-augmented-50 --index 17
    """

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    index: OptionalInt = None
    """The point: a row of the run's test set."""
    train: bool = False
    """Take points of the data's training rows in place of its test set."""
    labelled: bool = False
    """Let the model see the point's label; by default it does not."""
    n: int = 10
    """Without --index: how many points."""
    by: OptionalStr = None
    """Without --index: rank by label, reconstruction or "KL of z" alone."""
    draws: int = 100
    """Draws from the guide, for one point."""
    out: OptionalPath = None
    """The picture's file (.png, .pdf or .svg), which must not exist; by default a new one in the run's figures."""
    seed: int = 0
    """Of the draws."""


def run_inspect(command: Inspect) -> None:
    """``pyro-ssvae inspect``."""
    check(command, n=(1, 1000), draws=(2, 10_000))
    model = load(command.run)
    whole = run_data(command.run, model)
    x, y = (whole.x, whole.y) if command.train else (whole.x_test, whole.y_test)
    part = "training" if command.train else "test"
    if command.index is None:
        list_least_sure(command, model, x, y, part)
        return
    if not 0 <= command.index < len(x):
        raise InputError(f"--index: {command.index}; a {part} point from 0 to {len(x) - 1} is needed")
    rows = slice(command.index, command.index + 1)
    inspect_point(command, model, x[rows], y[rows], part)


def list_least_sure(command: Inspect, model: Any, x: Tensor, y: Tensor, part: str) -> None:
    """The points that the model is least sure of, as a table and as a picture."""
    try:
        found = least_sure(model, x, n=command.n, by=command.by, seed=command.seed)
    except InputError as error:
        raise InputError(f"--{error}" if str(error).startswith("by:") else str(error)) from None
    table = Table(title=f"{part} points that the model is least sure of", title_justify="left")
    table.caption = (
        "score: standard deviations above the mean of all points; H(y): entropy of q(y | x), "
        "-log p(x): of x given z, KL(z): of q(z | x) from p(z), all in nats"
    )
    table.caption_justify = "left"
    units = {"label_entropy": "H(y)", "reconstruction": "-log p(x)", "kl": "KL(z)"}
    shown = [name for name in units if name in found]
    predicted = "first" in found
    table.add_column("index", justify="right", no_wrap=True)
    table.add_column("why", no_wrap=True)
    for word in ("score", *(units[name] for name in shown)):
        table.add_column(word, justify="right", no_wrap=True)
    for word in ("predicted", "or", "label") if predicted else ():
        table.add_column(word)
    for i, row in found.iterrows():
        cells = [str(i), row["why"], f"{row['score']:.1f}", *(f"{row[name]:.2f}" for name in shown)]
        if predicted:
            cells += [
                f"{row['first']} {row['p_first']:.2f}",
                f"{row['second']} {row['p_second']:.2f}",
                named(model, y[i]),
            ]
        table.add_row(*cells)
    Console().print(table)
    rows = torch.tensor([int(i) for i in found.index])
    if hasattr(model, "reconstruct"):
        titles = [f"{i}: {why}" for i, why in zip(found.index, found["why"])]
        figure = reconstructions(unit_scale(x[rows]), model.reconstruct(x[rows]), titles)
        print(f"picture: {save_picture(figure, command.out, command.run, 'least_sure')}")
    print(f"more of one: pyro-ssvae inspect {command.run}{' --train' if command.train else ''} --index {rows[0]}")


def inspect_point(command: Inspect, model: Any, x: Tensor, y: Tensor, part: str) -> None:
    """One point: its label, the trace's sites with the ELBO's terms, and a picture of these and of its latents."""
    seen = y if command.labelled and model.labels is not None else None
    if command.labelled and (seen is None or not bool((seen != MISSING).any())):
        raise InputError(
            f"--labelled: {part} point {command.index} has no label that this model could see; leave it out"
        )
    found = sites(model, x, seen, num_samples=command.draws, seed=command.seed)
    data = posterior(model, x, seen, num_samples=command.draws, points=[command.index], seed=command.seed)
    beliefs: dict[str, list[float]] = {}
    if hasattr(model, "predict_proba"):
        beliefs["q(y | x)"] = model.predict_proba(x)[0].tolist()
        if hasattr(model, "log_likelihood"):
            beliefs["p(y | x)"] = class_posterior(model, x, num_samples=command.draws, seed=command.seed)[0].tolist()
    title = f"{part} point {command.index}"
    label = named(model, y[0])
    if label:
        title += f", labelled {label}" + ("" if command.labelled else " (unseen)")
    show_sites(title, found)
    if beliefs:
        show_beliefs(model, beliefs, command.draws)
    known: list[int] = []
    if model.labels is not None:
        classes = isinstance(model.labels, ClassLabels)
        known = [int(y[0])] if classes else [i for i, value in enumerate(y[0].tolist()) if value == 1]
    figure = pictures.inspection(data, dict(found.terms.iloc[0]), beliefs, known, title)
    print(f"picture: {save_picture(figure, command.out, command.run, f'inspect_{command.index}')}")


def named(model: Model, y: Tensor) -> str:
    """A point's label in words, empty where it is missing."""
    labels = model.labels
    if labels is None or bool((y == MISSING).all()):
        return ""
    if isinstance(labels, ClassLabels):
        return str(labels.names[int(y)])
    return ", ".join(name for name, value in zip(labels.names, y.tolist()) if value == 1) or "none"


def show_sites(title: str, found: Sites) -> None:
    """Print the table of the trace's sites."""
    table = Table(title=title, title_justify="left", caption="nats; terms sum to the ELBO", caption_justify="left")
    for column in ("site", "kind", "shape"):
        table.add_column(column, no_wrap=True)
    for column in ("log p", "log q", "term"):
        table.add_column(column, justify="right", no_wrap=True)

    def cell(value: Any) -> str:
        return "" if pd.isna(value) else f"{value:.2f}"

    for name, row in found.table.iterrows():
        numbers = [cell(row[column]) for column in ("log p", "log q", "term")]
        table.add_row(str(name), row["kind"], row["shape"], *numbers)
    table.add_section()
    table.add_row("ELBO", found.bound, "", "", "", cell(float(found.elbo[0])))
    Console().print(table)


def show_beliefs(model: Model, beliefs: dict[str, list[float]], draws: int) -> None:
    """Print the most probable labels under the guide and under the generative model."""
    caption = f"q: the guide's head; p: the generative model, exact over y, importance-weighted over {draws} draws of z"
    table = Table(caption=caption if len(beliefs) > 1 else None, caption_justify="left")
    table.add_column("class" if isinstance(model.labels, ClassLabels) else "attribute")
    for word in beliefs:
        table.add_column(word, justify="right")
    columns = list(beliefs.values())
    order = list(range(len(columns[0])))
    if isinstance(model.labels, ClassLabels):
        order = sorted(order, key=lambda k: -max(column[k] for column in columns))[:5]
    assert model.labels is not None
    for k in order:
        table.add_row(str(model.labels.names[k]), *(f"{column[k]:.3f}" for column in columns))
    Console().print(table)
