"""Plots of points: images as mosaics, vectors and series as lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..data.augment import unit_scale
from ..errors import InputError, counted
from ..infer.batched import evaluating
from ..infer.protocols import Classifies, Generates, require
from ..labels import MISSING, ClassLabels, Labels
from .lines import draw_lines
from .style import entitle, fit_names, fit_text, make_panels, styled, text_width
from .tables import Units, draw_dots, draw_heat

MOST_ROWS = 40
"""Rows of a figure with a row a class."""


@styled
def reconstructions(
    x: ArrayLike,
    x_hat: ArrayLike,
    titles: Sequence[str] = (),
    columns: int = 10,
    ax: Axes | None = None,
    *,
    units: Units | None = None,
    title: str = "",
) -> Figure:
    """Plot each point above its reconstruction; vectors and series as lines, the reconstruction dashed on the point.

    :param x: images ``[n, C, H, W]`` (on [0, 1], or uint8), vectors ``[n, D]`` or series ``[n, C, T]``.
    :param x_hat: their mean images, same shape.
    :param titles: n words, one a pair.
    :param columns: pairs a row, for images.
    :param units: of vectors: draw rows of a table instead, a panel each (:func:`units_of`).
    :param title: of the figure.
    """
    points, means = (unit_scale(torch.as_tensor(v).detach().cpu()) for v in (x, x_hat))
    means = means.reshape(points.shape)
    names = list(titles) or [""] * len(points)
    if points.dim() == 2 and units is not None and ax is None:
        return draw_dots(points, means, names, units, title=title)
    if points.dim() != 4:
        pairs = [points[:, None], means[:, None]]
        return draw_lines(pairs, ["input", "reconstruction"], names, points, ax, title=title)
    blocks = [slice(start, start + columns) for start in range(0, len(points), columns)]
    if ax is not None:
        blocks = [slice(0, len(points))]
    size, words = min(columns, len(points)), fit_names(names, 12, lines=2)
    figure, axes = make_panels(ax, len(blocks), (0.75 * size + 1.3, (1.95 if titles else 1.6) * len(blocks)))
    for panel, block in zip(axes, blocks, strict=True):
        mosaic(panel, torch.stack([points[block], means[block]]), ["input", "reconstruction"], size)
        if titles:
            name_columns(panel, points, words[block])
    if ax is None:
        entitle(figure, title)
    return figure


@styled
def samples_by_class(
    model: nn.Module, n_per_class: int = 10, seed: int = 0, ax: Axes | None = None, *, units: Units | None = None
) -> Figure:
    """Plot a row of samples for each class, or for each attribute at 0 and at 1 (the others left to the model).

    At most :data:`MOST_ROWS` rows are drawn, evenly spaced. Every row starts from the same random
    state, so that columns tend to share what the label does not say. Plain samples stand for a model that predicts no
    labels, or whose ``generate`` refuses ``y``.

    :param units: of a table: draw each row's mean over the samples instead (:func:`units_of`).
    """
    rows: list[Tensor] = []
    title = f"{counted(n_per_class, 'draw')} of each label, a row each"
    if units is not None:
        title = f"mean of {counted(n_per_class, 'draw')} of each label"
    if isinstance(model, Classifies):
        names, asked = one_label_a_row(model.labels)
        if len(names) > MOST_ROWS:
            title += f"; {MOST_ROWS} of {len(names)} labels"
            some = torch.linspace(0, len(names) - 1, MOST_ROWS).round().long().tolist()
            names, asked = [names[i] for i in some], [asked[i] for i in some]
        try:
            rows = [generated(model, n_per_class, y.expand(n_per_class, *y.shape), seed) for y in asked]
        except InputError:
            rows = []
    of_labels = bool(rows)
    if not of_labels:
        names, title = [""] * 5, f"{5 * n_per_class} draws"
        rows = list(generated(model, 5 * n_per_class, None, seed).unflatten(0, (5, n_per_class)))
        if units is not None:
            names = [f"draws {i * n_per_class + 1} to {(i + 1) * n_per_class}" for i in range(5)]
            title += ", means"
    grid = torch.stack(rows)
    if units is not None and grid.dim() == 3:
        return draw_heat(grid, names, units, title=title, ax=ax)
    if grid.dim() != 5:
        return draw_lines([grid], ["sample"], names, grid[0], ax, title=title)
    words = fit_names(names, 28, lines=2)
    cell = 0.6 if len(words) <= 20 else 0.45
    figure, (panel,) = make_panels(ax, 1, (cell * n_per_class + text_width(words) + 0.3, cell * len(words) + 0.3))
    mosaic(panel, grid, words, n_per_class)
    if ax is None:
        entitle(figure, title + ("; a column shares what the label does not say" if of_labels else ""))
    return figure


@styled
def samples(
    model: nn.Module,
    n: int = 10,
    y: ArrayLike | None = None,
    seed: int = 0,
    title: str = "",
    *,
    units: Units | None = None,
) -> Figure:
    """Plot ``n`` samples, of label ``y`` where it is given; images ten a row, rows of a table below one another.

    :param y: one label for all, as ``model.generate`` takes it: a number or, of attributes, ``[A]`` with -1 for any.
    :param title: of the figure; by default how many draws there are.
    :param units: of a table, its columns (:func:`units_of`).
    """
    title = title or counted(n, "draw") + ("" if y is None else " of one label")
    drawn = generated(model, n, None if y is None else torch.as_tensor(y), seed)
    rows = drawn.split(min(n, 10)) if drawn.dim() == 4 else [drawn]
    if units is not None and drawn.dim() == 2:
        return draw_heat(drawn[:, None], [f"draw {i + 1}" for i in range(n)], units, title=title)
    if drawn.dim() != 4:
        return draw_lines([drawn[None]], ["sample"], [""], drawn, None, title=title)
    figure, panels = make_panels(None, len(rows), (0.6 * len(rows[0]) + 0.1, 0.62 * len(rows) + 0.25))
    for panel, row in zip(panels, rows, strict=True):
        mosaic(panel, row[None], [""], len(rows[0]))
    entitle(figure, title)
    return figure


@styled
def contact_sheet(
    x: ArrayLike, titles: Sequence[str], columns: int = 5, *, units: Units | None = None, title: str = ""
) -> Figure:
    """Plot points side by side, each under its title of up to two lines; vectors and series as lines.

    :param x: images ``[n, C, H, W]``, vectors ``[n, D]`` or series ``[n, C, T]``.
    :param units: of a table, its columns (:func:`units_of`).
    :param title: of the figure.
    """
    points = unit_scale(torch.as_tensor(x).detach().cpu())
    names = [words.replace("\n", " ") for words in titles]
    if points.dim() == 2 and units is not None:
        return draw_heat(points[:, None], names, units, title=title)
    if points.dim() != 4:
        return draw_lines([points[:, None]], ["point"], names, points, None, title=title)
    rows = math.ceil(len(points) / columns)
    figure = Figure(figsize=(1.5 * columns, 1.85 * rows + 0.25 * bool(title)), layout="constrained")
    for i, words in enumerate(titles):
        panel = figure.add_subplot(rows, columns, i + 1)
        mosaic(panel, points[None, i : i + 1].float(), [""], 1)
        panel.set_anchor("S")
        panel.set_title("\n".join(fit_text(line, 20) for line in words.split("\n")), fontsize=7)
    entitle(figure, title)
    return figure


def one_label_a_row(labels: Labels) -> tuple[list[str], list[Tensor]]:
    """Return names and values of each class, or of each attribute at 0 and at 1, the others missing."""
    if isinstance(labels, ClassLabels):
        return list(labels.names), list(torch.arange(labels.num_classes))
    names, rows = [], []
    for i, name in enumerate(fit_names(labels.names, 24)):
        for value, word in enumerate(labels.words[i]):
            rows.append(torch.full((len(labels.names),), MISSING))
            rows[-1][i] = value
            names.append(f"{name} = {word}")
    return names, rows


def generated(model: nn.Module, n: int, y: Tensor | None, seed: int) -> Tensor:
    """Return samples, the global random state left as it was."""
    generative = require(model, Generates)
    with evaluating(model, seed):
        return generative.generate(n, y).cpu()


def gap_between(images: Tensor) -> int:
    """Return the width in pixels of the white line between images ``[..., H, W]``."""
    return max(1, min(images.shape[-2:]) // 14)


def mosaic(ax: Axes, images: Tensor, names: Sequence[str], columns: int) -> None:
    """Draw images ``[rows, n, C, H, W]`` with white lines between them and room for ``columns``; name the rows.

    Black is 0 and white 1 in every picture, so that any two can be compared; what lies beyond is black or white.
    """
    rows, n, channels, height, width = images.shape
    if channels not in (3, 4):
        images = images.mean(2, keepdim=True)
    gap = gap_between(images)
    canvas = torch.ones(rows, columns, images.shape[2], height + gap, width + gap)
    canvas[:, :n, :, :height, :width] = images.clamp(0, 1)
    picture = canvas.permute(0, 3, 1, 4, 2).reshape(rows * (height + gap), columns * (width + gap), -1)
    ax.imshow(picture[:-gap, :-gap].squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    ax.set_anchor("NW")  # constrained layout leaves too little room for labels on the sides that an image recedes from
    ax.set_xticks([])
    ax.set_yticks([i * (height + gap) + (height - 1) / 2 for i in range(rows)], names)
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)


def name_columns(ax: Axes, images: Tensor, words: Sequence[str]) -> None:
    """Write words above the columns of a mosaic of images ``[..., H, W]``."""
    width = images.shape[-1]
    pitch = width + gap_between(images)
    ax.xaxis.tick_top()
    ax.set_xticks([i * pitch + (width - 1) / 2 for i in range(len(words))], list(words))
    ax.tick_params(axis="x", length=0, labelsize=7)
