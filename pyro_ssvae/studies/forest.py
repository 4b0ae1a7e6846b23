"""A picture of intervals: one panel a place, one row a method, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plots.style import COLOURS, GREY, MARKERS, styled, text_width
from .intervals import Interval

PER_ROW = 3


@dataclass(frozen=True)
class Panel:
    """A place: its title, and an interval for each method.

    :param scale: what values are multiplied by before they are drawn.
    """

    title: str
    values: Mapping[str, Interval]
    scale: float = 1.0


@styled
def forest(panels: Sequence[Panel], xlabel: str) -> Figure:
    """Draw the panels, at least one, methods from above in the order of their first appearance."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.values))
    wide = min(PER_ROW, len(panels))
    high = math.ceil(len(panels) / wide)
    size = (2.3 * wide + text_width(names) + 0.3, (0.19 * len(names) + 0.7) * high + 0.3)
    drawn = Figure(figsize=size, layout="constrained")
    for i, panel in enumerate(panels):
        draw(drawn.add_subplot(high, wide, i + 1), panel, names, named=i % wide == 0)
    drawn.supxlabel(xlabel, fontsize=9)
    return drawn


def draw(ax: Axes, panel: Panel, names: Sequence[str], named: bool) -> None:
    """Draw a panel.

    :param named: whether the rows have their names.
    """
    ax.axvline(0, color=GREY, linewidth=0.8)
    for row, name in enumerate(names):
        found = panel.values.get(name)
        if found is not None:
            ax.errorbar(
                panel.scale * found.mean,
                row,
                xerr=panel.scale * (found.half or 0.0),
                color=COLOURS[row % len(COLOURS)],
                marker=MARKERS[row % len(MARKERS)],
                elinewidth=1.0,
                capsize=2,
            )
    ax.set_xlim(*limits(list(panel.values.values()), panel.scale))
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), names if named else [""] * len(names))
    ax.tick_params(axis="y", length=0)
    ax.grid(True, axis="both")
    ax.set_title(panel.title)


def limits(shown: Sequence[Interval], scale: float) -> tuple[float, float]:
    """Return an axis' limits, with 0: intervals count up to as much beyond the means as these lie apart."""
    means = [0.0, *(scale * value.mean for value in shown)]
    most = max(means) - min(means) or 1.0
    low = min([*means, *(scale * (value.mean - min(value.half or 0.0, most / scale)) for value in shown)])
    high = max([*means, *(scale * (value.mean + min(value.half or 0.0, most / scale)) for value in shown)])
    return low - 0.05 * (high - low), high + 0.05 * (high - low)
