"""Vectors and series as lines, rows below one another on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import pad

from .style import BLUE, GREY, VERMILLION, entitle, fit_names, make_panels, text_width

MOST_NAMED = 6
"""Channels whose names have room over a series."""
LineStyle = tuple[str, str | tuple[int, tuple[int, int]], float]
"""Colour, dashes and width."""


def draw_lines(
    groups: Sequence[Tensor],
    labels: Sequence[str],
    names: Sequence[str],
    like: Tensor,
    ax: Axes | None,
    *,
    title: str = "",
    band: tuple[Tensor, Tensor] | None = None,
) -> Figure:
    """Draw vectors or series as lines, each group ``[rows, n, ...]`` over the one before, rows below one another.

    :param names: of the rows.
    :param like: points ``[n, ...]`` of the shape that is drawn.
    :param band: the lower and the upper end of an interval around the last group, ``[rows, ...]`` each.
    """
    words = fit_names(names, 28, lines=2)
    rows, many = len(words), groups[0].shape[1] > 1
    figure, (panel,) = make_panels(ax, 1, (7.5 + text_width(words), 0.7 * rows + 1.2))
    every = torch.cat([part.flatten().float() for part in (*groups, *(band or ()))])
    every = every[every.isfinite()]
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)

    def placed(values: Tensor, row: int) -> Tensor:
        return 0.9 * (channels_apart(values, like) - low) / max(high - low, 1e-12) - 0.45 + rows - 1 - row

    steps = channels_apart(torch.arange(float(like[0].numel())), like).numpy()
    styles: Sequence[LineStyle] = [("#B0B0B0", "-", 2.0), (VERMILLION, (0, (5, 1)), 0.9)]
    if len(groups) == 1:
        styles = [(BLUE, "-", 0.6 if many else 1.0)]
    if band is not None:
        for i, (below, above) in enumerate(zip(*band)):
            low_end, high_end = placed(below, i).numpy(), placed(above, i).numpy()
            panel.fill_between(steps, low_end, high_end, color=VERMILLION, alpha=0.15, lw=0)
    for group, label, (colour, dashes, width) in zip(groups, labels, styles, strict=True):
        for i, row in enumerate(group):
            for j, line in enumerate(row):
                name = label if i == j == 0 else None
                panel.plot(
                    steps,
                    placed(line, i).numpy(),
                    color=colour,
                    ls=dashes,
                    lw=width,
                    alpha=0.5 if many else 1.0,
                    label=name,
                )
    panel.set_yticks(range(rows - 1, -1, -1), words)
    panel.set_ylim(-0.6, rows - 0.4 + 0.25 * (like.dim() > 2))  # room for the channels' names
    panel.tick_params(axis="y", length=0)
    panel.margins(x=0.01)
    name_places(panel, like)
    panel.set_xlabel(f"{panel.get_xlabel()}; every row from {low:.3g} to {high:.3g}")
    if len(groups) > 1:
        panel.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=2, borderaxespad=0.2)
    if ax is None:
        entitle(figure, title)
    return figure


def channels_apart(values: Tensor, like: Tensor) -> Tensor:
    """Return the values of a point one channel after another, NaN between two: no line joins them."""
    return pad(values.float().reshape(-1, like.shape[-1]), (0, 1), value=float("nan")).flatten()[:-1]


def name_places(panel: Axes, like: Tensor) -> None:
    """Say what the places along the lines are: features, or the time steps of one channel after another."""
    length, channels = like.shape[-1], like.shape[1] if like.dim() > 2 else 0
    if not channels:
        panel.set_xlabel("feature")
        return
    for border in range(length, length * channels, length):
        panel.axvline(border - 0.5, color=GREY, linewidth=0.6, linestyle=":")
    if 1 < channels <= MOST_NAMED:
        half = length // 2
        ticks = [c * length + step for c in range(channels) for step in (0, half)]
        panel.set_xticks(ticks, [str(step) for _ in range(channels) for step in (0, half)])
        for c in range(channels):
            top = panel.get_ylim()[1]
            panel.text((c + 0.5) * length - 0.5, top, f"channel {c}", ha="center", va="top", fontsize=7)
    panel.set_xlabel("time step" + (", one channel after another" if channels > 1 else ""))
