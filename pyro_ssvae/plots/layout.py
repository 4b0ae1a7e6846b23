"""Images in aligned rows and columns, parts of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from .points import gap_between, mosaic, name_columns
from .style import HALO, VERMILLION, fit_text, text_width, title_lines

CELL = 0.62
"""An image's side in inches."""


@dataclass(frozen=True)
class Part:
    """Images ``[rows, n, C, H, W]``, a word for each column, and a title over them."""

    grid: Tensor
    words: Sequence[str]
    title: str = ""


def lay_out(
    bands: Sequence[Sequence[Part]],
    *,
    bottom: float = 0.08,
    left: float = 0.08,
    between: float = 0.14,
    title: str = "",
) -> tuple[Figure, list[list[Axes]]]:
    """Place parts side by side, in bands below one another, at one scale, so that rows and columns are aligned.

    :param bottom: inches below each band; ``left`` of it; ``between`` parts.
    :param title: of the whole figure.
    """

    def size(part: Part) -> tuple[float, float]:
        rows, n, _, height, width = part.grid.shape
        gap = gap_between(part.grid)
        inches = CELL / (max(height, width) + gap)
        return (n * (width + gap) - gap) * inches, (rows * (height + gap) - gap) * inches

    def head(part: Part) -> float:
        words = 0.12 * max((1 + word.count("\n") for word in part.words), default=0)
        return words + (0.17 * (1 + short_title(part).count("\n")) if part.title else 0.0) + 0.05

    widths = [sum(max(size(part)[0], text_width([short_title(part)], 9)) + between for part in band) for band in bands]
    heights = [max(map(head, band)) + max(size(part)[1] for part in band) + bottom for band in bands]
    width = left + max(widths) - between + 0.08
    lines = title_lines(title, width)
    over = 0.19 * len(lines) + (0.06 if lines else 0.0)
    height = sum(heights) + 0.05 + over
    figure = Figure(figsize=(width, height))
    if lines:
        figure.text(0.05 / width, 1 - 0.05 / height, "\n".join(lines), fontsize=10, va="top")
    axes: list[list[Axes]] = []
    down = 0.03 + over
    for band, tall in zip(bands, heights):
        across, under = left, down + max(head(part) for part in band)
        axes.append([])
        for part in band:
            w, h = size(part)
            ax = figure.add_axes((across / width, 1 - (under + h) / height, w / width, h / height))
            mosaic(ax, part.grid, [""] * len(part.grid), part.grid.shape[1])
            ax.set_yticks([])
            name_columns(ax, part.grid, part.words)
            ax.tick_params(axis="x", pad=1)
            if part.title:
                ax.set_title(short_title(part), pad=2)
            axes[-1].append(ax)
            across += max(w, text_width([short_title(part)], 9)) + between
        down += tall
    return figure, axes


def short_title(part: Part) -> str:
    """Return a part's title, cut to the room that there is."""
    return fit_text(part.title, max(14, 8 * part.grid.shape[1]), lines=2)


def draw_frames(ax: Axes, grid: Tensor, frames: Tensor) -> None:
    """Draw frames around the images of a mosaic where ``frames [rows, n]`` is true."""
    height, width = grid.shape[-2:]
    gap = gap_between(grid)
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
