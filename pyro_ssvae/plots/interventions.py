"""Pictures of what interventions, swaps and walks do to images, and of what the judge says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor, nn

from ..data.augment import unit_scale
from ..errors import InputError, nearest
from ..evaluation.evaluate import batched, evaluating
from ..labels import AttributeLabels, ClassLabels
from .summary import BLUE, GREY, VERMILLION, _fit, _gap, _inches, _mosaic, styled

CELL = 0.62
"""An image's side in inches."""
BAND = 9
"""Most attributes side by side."""
HALO = withStroke(linewidth=3, foreground="white")
"""Around lines that cross pictures or bars, so that they are seen in grey too."""
BEFORE = ("image", "recon-\nstruction")


@styled
def interventions(
    model: nn.Module, x: Any, attributes: Sequence[str] | None = None, *, y: Any = None, seed: int = 0
) -> Figure:
    """Each point as it is and reconstructed, and with each attribute set to 0 and to 1; class labels: to each class.

    A frame marks what is set against the point's label (against the model's own prediction, where y is missing).

    :param x: images ``[n, C, H, W]``, one a row.
    :param attributes: these only, by name.
    :param y: their labels, if known.
    """
    labels, x = _labels(model, "intervene"), _images(x)
    names = list(attributes or (labels.names if isinstance(labels, AttributeLabels) else ["class"]))
    current = batched(model, model.predict, x, seed=seed)  # type: ignore[arg-type]
    y = labels.check(y, len(x)).cpu()
    current = torch.where(y < 0, current, y)
    groups: list[Part] = []
    frames: dict[str, Tensor] = {}
    for name in names:
        if isinstance(labels, AttributeLabels):
            if name not in labels.names:
                raise InputError(f"attribute: there is no {name!r}{nearest(name, labels.names)}")
            grid = torch.stack([_intervene(model, x, {name: v}, seed) for v in (0, 1)], 1)
            frames[name] = current[:, [list(labels.names).index(name)]] != torch.arange(2)
            groups.append(Part(grid, ["0", "1"], name))
        else:
            grid = torch.stack([_intervene(model, x, v, seed) for v in range(labels.size)], 1)
            frames[name] = current.unsqueeze(-1) != torch.arange(labels.size)
            groups.append(Part(grid, [_fit(word, 10, lines=2) for word in labels.names], name))
    before = torch.stack([unit_scale(x), _reconstruct(model, x, seed)], 1)
    start = Part(before, BEFORE)
    figure, axes = _lay([[start, *groups[i : i + BAND]] for i in range(0, len(groups), BAND)], bottom=0.22)
    for row in axes:
        for ax, part in zip(row[1:], groups):
            _frame(ax, part.grid, frames[part.title])
        groups = groups[BAND:]
    left = axes[0][0].get_position().x0
    figure.text(left, 0.01, "framed: other than in the image", fontsize=7, color=VERMILLION, va="bottom")
    return figure


@styled
def intervention_draws(
    model: nn.Module, x: Any, values: Mapping[str, int] | str | int, draws: int = 8, *, seed: int = 0
) -> Figure:
    """Each point as it is, reconstructed, and after ``draws`` repetitions of one intervention: its diversity.

    :param values: ``{"Smiling": 1, "Hat": 0}``, or a class.
    """
    labels, x = _labels(model, "intervene"), _images(x)
    grid = _intervene(model, x, values, seed, draws).transpose(0, 1)
    before = torch.stack([unit_scale(x), _reconstruct(model, x, seed)], 1)
    if isinstance(values, Mapping):
        title = ", ".join(f"{name} = {v}" for name, v in values.items())
    else:
        title = f"class = {values if isinstance(values, str) else labels.names[values]}"
    return _lay([[Part(before, BEFORE), Part(grid, [], f"{title}, {draws} draws")]])[0]


@styled
def swaps(model: nn.Module, x: Any, donor: Any, name: str = "class", *, seed: int = 0) -> Figure:
    """Receivers, donors, and the receivers with the donors' characteristic, one a row.

    :param donor: as many images as ``x``, or one for all.
    """
    _labels(model, "swap")
    x, donor = _images(x), _images(donor)
    with evaluating(model, seed):
        result = model.swap(x, donor, name).cpu()  # type: ignore[operator]
    donor = donor.expand(len(x), *donor.shape[1:])
    recon = _reconstruct(model, x, seed)
    before = torch.stack([unit_scale(x), recon, unit_scale(donor)], 1)
    first = Part(before, ["receiver", "recon-\nstruction", "donor"])
    return _lay([[first, Part(result.unsqueeze(1), [f"with its\n{_fit(name, 12)}"])]])[0]


@styled
def swap_table(model: nn.Module, x: Any, donors: Any, name: str = "class", *, seed: int = 0) -> Figure:
    """Every receiver (rows, their reconstructions) with every donor's characteristic (columns)."""
    _labels(model, "swap")
    x, donors = _images(x), _images(donors)
    with evaluating(model, seed):
        results = [model.swap(x, donor.unsqueeze(0), name).cpu() for donor in donors]  # type: ignore[operator]
    top = unit_scale(donors).unsqueeze(0)
    side = _reconstruct(model, x, seed).unsqueeze(1)
    corner = Part(torch.ones(1, 1, *x.shape[1:]), [])
    title = f"donors of {_fit(name, 24)}"
    figure, axes = _lay([[corner, Part(top, [], title)], [Part(side, []), Part(torch.stack(results, 1), [])]], left=0.3)
    axes[1][0].set_ylabel("receivers")
    return figure


@styled
def walk(
    model: nn.Module,
    x: Any,
    first: str,
    second: str | None = None,
    *,
    steps: int = 7,
    k: float = 2.0,
    seed: int = 0,
) -> Figure:
    """Walks from ``μ_0 - kσ_0`` to ``μ_1 + kσ_1``: of one attribute with a point a row, of two with a point a panel."""
    _labels(model, "walk")
    x = _images(x)
    with evaluating(model, seed):
        images = model.walk(x, first, second, steps=steps, k=k).cpu()  # type: ignore[operator]
    along = f"{_fit(first, 24)}:  0  →  1"
    if second is None:
        before = torch.stack([unit_scale(x), _reconstruct(model, x, seed)], 1)
        figure, axes = _lay([[Part(before, BEFORE), Part(images, [])]], bottom=0.3)
        axes[0][1].set_xlabel(along)
        return figure
    panels = [Part(grid.flip(0), []) for grid in images]
    figure, axes = _lay([panels[i : i + 3] for i in range(0, len(panels), 3)], bottom=0.3, left=0.3, between=0.4)
    for row in axes:
        for ax in row:
            ax.set_xlabel(along)
            ax.set_ylabel(f"{_fit(second, 24)}:  0  →  1")
    return figure


@styled
def intervention_bars(metrics: Mapping[str, Any]) -> Figure:
    """Success, preservation and carry-over with their intervals, a line at chance, a diamond at the judge's ceiling.

    :param metrics: what :func:`~.interventions.evaluate_interventions` returned.
    """
    panels = [
        (key, title)
        for key, title in (
            ("success", "success"),
            ("preservation", "the other attributes preserved"),
            ("carry_over", "the donor's kind carried over"),
        )
        if key in metrics and metrics[key]["mean"]["value"] is not None
    ]
    tables = [next(value for name, value in metrics[key].items() if name != "mean") for key, _ in panels]
    tables = [{"mean": metrics[key]["mean"], **table} for (key, _), table in zip(panels, tables)]
    rows = max(len(table) for table in tables)
    words = [word for table in tables for word in (_fit(name, 20) for name in table)]
    size = ((2.4 + _inches(words)) * len(panels), 0.27 * rows + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    for i, ((_, title), table) in enumerate(zip(panels, tables)):
        panel = figure.add_subplot(1, len(panels), i + 1)
        there = {name: entry for name, entry in table.items() if entry["value"] is not None}
        for place, entry in enumerate(there.values()):
            value = entry["value"]
            panel.barh(place, value, 0.62, color=BLUE, alpha=1.0 if place == 0 else 0.6)
            if entry["low"] is not None:
                panel.plot([entry["low"], entry["high"]], [place, place], color="black", lw=1.0)
            panel.text(1.08, place, f"{value:.2f}", va="center", fontsize=7)
            best = entry["ceiling"]["reconstruction"]
            if entry["chance"] is not None:
                line = [entry["chance"]] * 2
                panel.plot(line, [place - 0.42, place + 0.42], color=VERMILLION, lw=1.6, path_effects=[HALO])
            if best is not None:
                panel.plot(best, place, "D", color="white", markeredgecolor="black", markersize=4, clip_on=False)
        panel.set_yticks(range(len(there)), [_fit(name, 20) for name in there])
        panel.set_ylim(rows - 0.4, -0.6)
        panel.set_xlim(0, 1.07)
        panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        panel.grid(True, axis="x")
        panel.tick_params(axis="y", length=0)
        panel.set_title(title, loc="left")
    note = "vertical line: chance;  diamond: what the judge reads on reconstructions"
    figure.supxlabel(note, fontsize=8, color=GREY)
    return figure


def unable(verb: str) -> str:
    """What is said of a model that does not have the verb."""
    if verb == "walk":
        return "has no walk; a revae is needed"
    return "has no interventions; a revae, m2, mvae or diva is needed"


def _labels(model: nn.Module, verb: str) -> AttributeLabels | ClassLabels:
    """The labels of a model that has the verb."""
    labels = getattr(model, "labels", None)
    if not hasattr(model, verb) or labels is None:
        raise InputError(f"{verb}: a {type(model).__name__} {unable(verb)}")
    return labels


def _images(x: Any) -> Tensor:
    x = torch.as_tensor(x).detach().cpu()
    if x.dim() != 4 or not len(x):
        raise InputError(f"x: shape {list(x.shape)}; images [n, C, H, W] are needed")
    return x


def _intervene(model: nn.Module, x: Tensor, values: Any, seed: int, draws: int | None = None) -> Tensor:
    with evaluating(model, seed):
        return model.intervene(x, values, num_samples=draws).cpu()  # type: ignore[operator]


def _reconstruct(model: nn.Module, x: Tensor, seed: int) -> Tensor:
    return batched(model, model.reconstruct, x, seed=seed).reshape(x.shape)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Part:
    """Images ``[rows, n, C, H, W]``, a word for each column, and a title over them."""

    grid: Tensor
    words: Sequence[str]
    title: str = ""


def _lay(
    bands: Sequence[Sequence[Part]], *, bottom: float = 0.08, left: float = 0.08, between: float = 0.14
) -> tuple[Figure, list[list[Axes]]]:
    """Parts side by side, bands of them below one another, at one scale, so that rows and columns are in line.

    :param bottom: room in inches below each band, ``left`` on the left of it, ``between`` between parts.
    """

    def size(part: Part) -> tuple[float, float]:
        rows, n, _, height, width = part.grid.shape
        gap = _gap(part.grid)
        inches = CELL / (max(height, width) + gap)
        return (n * (width + gap) - gap) * inches, (rows * (height + gap) - gap) * inches

    def head(part: Part) -> float:
        words = 0.12 * max((1 + word.count("\n") for word in part.words), default=0)
        return words + (0.17 * (1 + _title(part).count("\n")) if part.title else 0.0) + 0.05

    widths = [sum(max(size(part)[0], _inches([_title(part)], 9)) + between for part in band) for band in bands]
    heights = [max(head(part) + size(part)[1] for part in band) + bottom for band in bands]
    width, height = left + max(widths) - between + 0.08, sum(heights) + 0.05
    figure = Figure(figsize=(width, height))
    axes: list[list[Axes]] = []
    down = 0.03
    for band, tall in zip(bands, heights):
        across, under = left, down + max(head(part) for part in band)
        axes.append([])
        for part in band:
            w, h = size(part)
            ax = figure.add_axes((across / width, 1 - (under + h) / height, w / width, h / height))
            _mosaic(ax, part.grid, [""] * len(part.grid), part.grid.shape[1])
            ax.set_yticks([])
            pitch = part.grid.shape[-1] + _gap(part.grid)
            ax.xaxis.tick_top()
            ax.set_xticks([i * pitch + (part.grid.shape[-1] - 1) / 2 for i in range(len(part.words))], list(part.words))
            ax.tick_params(axis="x", length=0, labelsize=7, pad=1)
            if part.title:
                ax.set_title(_title(part), pad=2)
            axes[-1].append(ax)
            across += max(w, _inches([_title(part)], 9)) + between
        down += tall
    return figure, axes


def _title(part: Part) -> str:
    """A part's title, as many letters wide as there is room for."""
    return _fit(part.title, max(14, 8 * part.grid.shape[1]), lines=2)


def _frame(ax: Axes, grid: Tensor, frames: Tensor) -> None:
    """Frame some images of a mosaic."""
    height, width = grid.shape[-2:]
    gap = _gap(grid)
    for i, j in frames.nonzero().tolist():
        corner = (j * (width + gap) - 0.5 - gap / 4, i * (height + gap) - 0.5 - gap / 4)
        ax.add_patch(
            Rectangle(
                corner,
                width + gap / 2,
                height + gap / 2,
                fill=False,
                ec=VERMILLION,
                lw=1.4,
                clip_on=False,
                path_effects=[HALO],
            )
        )
