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
from ..errors import InputError
from ..infer.batched import evaluating
from ..infer.protocols import Classifies, Generates, require
from ..labels import MISSING, ClassLabels, Labels
from .style import BLUE, GREY, VERMILLION, fit_text, make_panels, styled, text_width

MOST_ROWS = 40
"""Rows of a figure with a row a class."""
LineStyle = tuple[str, str | tuple[int, tuple[int, int]], float]
"""Colour, dashes and width."""


@styled
def reconstructions(
    x: ArrayLike, x_hat: ArrayLike, titles: Sequence[str] = (), columns: int = 10, ax: Axes | None = None
) -> Figure:
    """Plot each point above its reconstruction; vectors and series as lines, the reconstruction dashed on the point.

    :param x: images ``[n, C, H, W]`` (on [0, 1], or uint8), vectors ``[n, D]`` or series ``[n, C, T]``.
    :param x_hat: their mean images, same shape.
    :param titles: n words, one a pair.
    :param columns: pairs a row, for images.
    """
    points, means = (unit_scale(torch.as_tensor(v).detach().cpu()) for v in (x, x_hat))
    means = means.reshape(points.shape)
    if points.dim() != 4:
        pairs = [points[:, None], means[:, None]]
        return draw_lines(pairs, ["input", "reconstruction"], list(titles) or [""] * len(points), points, ax)
    blocks = [slice(start, start + columns) for start in range(0, len(points), columns)]
    if ax is not None:
        blocks = [slice(0, len(points))]
    size = min(columns, len(points))
    figure, axes = make_panels(ax, len(blocks), (0.75 * size + 1.3, (1.95 if titles else 1.6) * len(blocks)))
    for panel, block in zip(axes, blocks, strict=True):
        mosaic(panel, torch.stack([points[block], means[block]]), ["input", "reconstruction"], size)
        if titles:
            name_columns(panel, points, [fit_text(title, 11, lines=2) for title in titles[block]])
    return figure


@styled
def samples_by_class(model: nn.Module, n_per_class: int = 10, seed: int = 0, ax: Axes | None = None) -> Figure:
    """Plot a row of samples for each class, or for each attribute at 0 and at 1 (the others left to the model).

    Of more than :data:`MOST_ROWS` such rows, so many are drawn, evenly spaced. Every row starts from the same random
    state, so that columns tend to share what the label does not say. Plain samples stand for a model that predicts no
    labels, or whose ``generate`` refuses ``y``.
    """
    rows: list[Tensor] = []
    title = ""
    if isinstance(model, Classifies):
        names, asked = one_label_a_row(model.labels)
        if len(names) > MOST_ROWS:
            title = f"{MOST_ROWS} of {len(names)} rows"
            some = torch.linspace(0, len(names) - 1, MOST_ROWS).round().long().tolist()
            names, asked = [names[i] for i in some], [asked[i] for i in some]
        try:
            rows = [generated(model, n_per_class, y.expand(n_per_class, *y.shape), seed) for y in asked]
        except InputError:
            rows = []
    if not rows:
        names = [""] * 5
        rows = list(generated(model, 5 * n_per_class, None, seed).unflatten(0, (5, n_per_class)))
    grid = torch.stack(rows)
    if grid.dim() != 5:
        figure = draw_lines([grid], ["sample"], names, grid[0], ax)
        if title:
            figure.axes[0].set_title(title, loc="right")
        return figure
    words = [fit_text(name, 28, lines=2) for name in names]
    cell = 0.6 if len(words) <= 20 else 0.45
    figure, (panel,) = make_panels(ax, 1, (cell * n_per_class + text_width(words) + 0.3, cell * len(words) + 0.3))
    mosaic(panel, grid, words, n_per_class)
    panel.set_title(title, loc="right")
    return figure


@styled
def samples(model: nn.Module, n: int = 10, y: ArrayLike | None = None, seed: int = 0, title: str = "") -> Figure:
    """Plot ``n`` samples, of label ``y`` where it is given; images ten a row.

    :param y: one label for all, as ``model.generate`` takes it: a number or, of attributes, ``[A]`` with -1 for any.
    """
    drawn = generated(model, n, None if y is None else torch.as_tensor(y), seed)
    rows = drawn.split(min(n, 10)) if drawn.dim() == 4 else [drawn]
    if drawn.dim() != 4:
        figure = draw_lines([drawn[None]], ["sample"], [title], drawn, None)
    else:
        height = 0.62 * len(rows) + (0.25 if title else 0.02)
        figure, panels = make_panels(None, len(rows), (0.6 * len(rows[0]) + 0.1, height))
        for panel, row in zip(panels, rows, strict=True):
            mosaic(panel, row[None], [""], len(rows[0]))
        panels[0].set_title(fit_text(title, 40), loc="left")
    return figure


@styled
def contact_sheet(x: ArrayLike, titles: Sequence[str], columns: int = 5) -> Figure:
    """Plot points side by side, each under its title of up to two lines; vectors and series as lines.

    :param x: images ``[n, C, H, W]``, vectors ``[n, D]`` or series ``[n, C, T]``.
    """
    points = unit_scale(torch.as_tensor(x).detach().cpu())
    if points.dim() != 4:
        return draw_lines([points[:, None]], ["point"], [title.replace("\n", " ") for title in titles], points, None)
    rows = math.ceil(len(points) / columns)
    figure = Figure(figsize=(1.5 * columns, 1.85 * rows), layout="constrained")
    for i, title in enumerate(titles):
        panel = figure.add_subplot(rows, columns, i + 1)
        mosaic(panel, points[None, i : i + 1].float(), [""], 1)
        panel.set_anchor("S")
        panel.set_title("\n".join(fit_text(line, 20) for line in title.split("\n")), fontsize=7)
    return figure


def one_label_a_row(labels: Labels) -> tuple[list[str], list[Tensor]]:
    """Return names and values of each class, or of each attribute at 0 and at 1, the others missing."""
    if isinstance(labels, ClassLabels):
        return list(labels.names), list(torch.arange(labels.num_classes))
    names, rows = [], []
    for i, name in enumerate(labels.names):
        for value in (0, 1):
            rows.append(torch.full((len(labels.names),), MISSING))
            rows[-1][i] = value
            names.append(f"{fit_text(name, 24, lines=1)} = {value}")
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
    """Draw images ``[rows, n, C, H, W]`` with white lines between them and room for ``columns``; name the rows."""
    rows, n, channels, height, width = images.shape
    if channels not in (3, 4):
        images = images.mean(2, keepdim=True)
    low, high, gap = min(0.0, float(images.min())), max(1.0, float(images.max())), gap_between(images)
    canvas = torch.ones(rows, columns, images.shape[2], height + gap, width + gap)
    canvas[:, :n, :, :height, :width] = (images - low) / (high - low)
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


def draw_lines(
    groups: Sequence[Tensor], labels: Sequence[str], names: Sequence[str], like: Tensor, ax: Axes | None
) -> Figure:
    """Draw vectors or series as lines, each group ``[rows, n, ...]`` over the one before, rows below one another."""
    words = [fit_text(name, 28, lines=2) for name in names]
    rows, many = len(words), groups[0].shape[1] > 1
    figure, (panel,) = make_panels(ax, 1, (7.5 + text_width(words), 0.7 * rows + 1.0))
    low, high = min(float(g.min()) for g in groups), max(float(g.max()) for g in groups)
    dashed = (0, (5, 1))
    styles: Sequence[LineStyle] = [("#B0B0B0", "-", 2.0), (VERMILLION, dashed, 0.9)]
    if len(groups) == 1:
        styles = [(BLUE, "-", 0.6 if many else 1.0)]
    for group, label, (colour, dashes, width) in zip(groups, labels, styles, strict=True):
        lines = 0.9 * (group.flatten(2) - low) / max(high - low, 1e-12) - 0.45
        for i, row in enumerate(lines):
            for j, line in enumerate(row):
                place = line.numpy() + rows - 1 - i
                name = label if i == j == 0 else None
                panel.plot(place, color=colour, ls=dashes, lw=width, alpha=0.5 if many else 1.0, label=name)
    length = like.shape[-1]
    series = like.dim() > 2
    for border in range(length, length * like.shape[1], length) if series else ():
        panel.axvline(border - 0.5, color=GREY, linewidth=0.6, linestyle=":")
    panel.set_yticks(range(rows - 1, -1, -1), words)
    panel.set_ylim(-0.6, rows - 0.4)
    panel.set_xlabel("time step, one channel after another" if series else "feature")
    panel.tick_params(axis="y", length=0)
    panel.margins(x=0.01)
    if len(groups) > 1:
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    return figure
