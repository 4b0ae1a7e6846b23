"""Pictures of what interventions, swaps and walks do to images, and of what the judge says of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from .errors import InputError
from .evaluate import batched, evaluating, unit_scale
from .figures import BLUE, GREY, VERMILLION, _fit, _gap, _inches, _mosaic, styled
from .labels import AttributeLabels, ClassLabels

CELL = 0.62
"""An image's side in inches."""
BAND = 8
"""Most attributes side by side."""


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
    groups: list[tuple[str, Tensor, list[str], Tensor]] = []
    for name in names:
        if isinstance(labels, AttributeLabels):
            grid = torch.stack([_intervene(model, x, {name: v}, seed) for v in (0, 1)], 1)
            frames = current[:, [list(labels.names).index(name)]] != torch.arange(2)
            groups.append((name, grid, ["0", "1"], frames))
        else:
            grid = torch.stack([_intervene(model, x, v, seed) for v in range(labels.size)], 1)
            frames = current.unsqueeze(-1) != torch.arange(labels.size)
            groups.append(("class set to", grid, list(labels.names), frames))
    before = torch.stack([unit_scale(x), _reconstruct(model, x, seed)], 1)
    start = ("", before, ["image", "recon-\nstruction"], torch.zeros(len(x), 2, dtype=torch.bool))
    bands = [[start, *groups[i : i + BAND]] for i in range(0, len(groups), BAND)]
    wide = max(sum(grid.shape[1] for _, grid, _, _ in band) for band in bands)
    size = (CELL * wide + 0.12 * (BAND + 1), len(bands) * (CELL * len(x) + 0.55))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.02, wspace=0.0))
    for subfigure, band in zip(figure.subfigures(len(bands), 1, squeeze=False).flat, bands, strict=True):
        ratios = [grid.shape[1] for _, grid, _, _ in band]
        ratios += [wide - sum(ratios)] if sum(ratios) < wide else []
        axes = subfigure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
        for ax in axes[len(band) :]:
            ax.set_axis_off()
        for ax, (title, grid, words, frames) in zip(axes, band, strict=False):
            _columns(ax, grid, words, title=title)
            _frame(ax, grid, frames)
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
    return _panels([(before, ["image", "recon-\nstruction"], ""), (grid, [""] * draws, f"{title}, {draws} draws")])


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
    words = ["receiver", "recon-\nstruction", "donor"]
    return _panels([(before, words, ""), (result.unsqueeze(1), [f"with its\n{_fit(name, 12)}"], "")])


@styled
def swap_table(model: nn.Module, x: Any, donors: Any, name: str = "class", *, seed: int = 0) -> Figure:
    """Every receiver (rows, their reconstructions) with every donor's characteristic (columns)."""
    _labels(model, "swap")
    x, donors = _images(x), _images(donors)
    with evaluating(model, seed):
        columns = [model.swap(x, donor.unsqueeze(0), name).cpu() for donor in donors]  # type: ignore[operator]
    grid = torch.stack(columns, 1)
    corner = torch.ones(1, *grid.shape[2:])
    top = torch.cat([corner, unit_scale(donors).expand(len(donors), *grid.shape[2:])])
    rows = torch.cat([_reconstruct(model, x, seed).unsqueeze(1), grid], 1)
    whole = torch.cat([top.unsqueeze(0), rows])
    figure = _panels([(whole, [""] * whole.shape[1], "")])
    ax = figure.axes[0]
    pitch = grid.shape[-1] + _gap(grid)
    ax.set_title(f"donors of {_fit(name, 24)}")
    ax.set_ylabel("receivers")
    for line in (ax.axhline, ax.axvline):
        line(pitch - _gap(grid) / 2 - 0.5, color="black", linewidth=1.0)
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
        recon = _reconstruct(model, x, seed)
        before = torch.stack([unit_scale(x), recon], 1)
        figure = _panels([(before, ["image", "recon-\nstruction"], ""), (images, [""] * steps, "")])
        figure.axes[1].set_xlabel(along)
        return figure
    wide = min(len(x), 3)
    high = math.ceil(len(x) / wide)
    side = 0.8 * CELL * steps
    figure = Figure(figsize=(wide * (side + 0.5), high * (side + 0.5)), layout="constrained")
    for i, grid in enumerate(images):
        ax = figure.add_subplot(high, wide, i + 1)
        _mosaic(ax, grid.flip(0), [""] * steps, steps)
        ax.set_xlabel(along)
        ax.set_ylabel(f"{_fit(second, 24)}:  0  →  1")
    return figure


@styled
def intervention_bars(metrics: Mapping[str, Any], ax: Axes | None = None) -> Figure:
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
                panel.plot([entry["chance"]] * 2, [place - 0.42, place + 0.42], color=VERMILLION, lw=1.6)
            if best is not None:
                panel.plot(best, place, "D", color="white", markeredgecolor="black", markersize=4, clip_on=False)
        panel.set_yticks(range(len(there)), [_fit(name, 20) for name in there])
        panel.set_ylim(rows - 0.4, -0.6)
        panel.set_xlim(0, 1.07)
        panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        panel.grid(True, axis="x")
        panel.tick_params(axis="y", length=0)
        panel.set_title(title, loc="left")
    chance = "red line: chance"
    figure.supxlabel(f"{chance};  diamond: what the judge reads on reconstructions", fontsize=8, color=GREY)
    return figure


def _labels(model: nn.Module, verb: str) -> AttributeLabels | ClassLabels:
    """The labels of a model that has the verb."""
    labels = getattr(model, "labels", None)
    if not hasattr(model, verb) or labels is None:
        raise InputError(f"{verb}: a {type(model).__name__} has no interventions; a revae is needed")
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


def _panels(parts: Sequence[tuple[Tensor, list[str], str]]) -> Figure:
    """Mosaics ``[rows, n, C, H, W]`` side by side, each with words above its columns and a title."""
    ratios = [grid.shape[1] for grid, _, _ in parts]
    rows = len(parts[0][0])
    figure = Figure(figsize=(CELL * sum(ratios) + 0.2 * len(parts), CELL * rows + 0.6), layout="constrained")
    for ax, (grid, words, title) in zip(figure.subplots(1, len(parts), width_ratios=ratios, squeeze=False)[0], parts):
        _columns(ax, grid, words, title=title)
    return figure


def _columns(ax: Axes, grid: Tensor, words: Sequence[str], title: str = "") -> None:
    """A mosaic with a word above each column."""
    _mosaic(ax, grid, [""] * len(grid), grid.shape[1])
    ax.set_yticks([])
    width, pitch = grid.shape[-1], grid.shape[-1] + _gap(grid)
    ax.xaxis.tick_top()
    ax.set_xticks([i * pitch + (width - 1) / 2 for i in range(len(words))], list(words))
    ax.tick_params(axis="x", length=0, labelsize=7, pad=1)
    if title:
        ax.set_title(_fit(title, max(10, 7 * len(words)), lines=2), pad=3)


def _frame(ax: Axes, grid: Tensor, frames: Tensor) -> None:
    """Frame some images of a mosaic."""
    height, width = grid.shape[-2:]
    gap = _gap(grid)
    for i, j in frames.nonzero().tolist():
        corner = (j * (width + gap) - 0.5 - gap / 4, i * (height + gap) - 0.5 - gap / 4)
        ax.add_patch(
            Rectangle(corner, width + gap / 2, height + gap / 2, fill=False, ec=VERMILLION, lw=1.4, clip_on=False)
        )
