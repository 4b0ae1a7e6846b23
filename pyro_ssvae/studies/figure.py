"""The picture of a study: its main metrics over the number of labels, one line a method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median_low

from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure

from ..errors import InputError
from ..plots.style import COLOURS, DASHES, GREY, MARKERS, styled
from .cells import Result
from .intervals import Interval, Where, by_seed, counts, interval, methods, rows
from .plan import Column, Study

PER_ROW = 3


@styled
def figure(study: Study, results: Sequence[Result]) -> Figure:
    """Draw one panel a column of the study that wants one, means with 95 % intervals.

    :raises InputError: where no result has such a metric.
    """
    every = rows(results)
    panels = [c for c in study.columns if c.panel and any(by_seed(results, c.path, at) for at in every)]
    if not panels:
        raise InputError(f"study {study.name}: no cell has a metric to draw")
    names = methods(results)
    wide = min(PER_ROW, len(panels))
    high = math.ceil(len(panels) / wide)
    legend_rows = math.ceil(len(names) / (2 * wide))
    drawn = Figure(figsize=(3.3 * wide, 2.6 * high + 0.24 * legend_rows + 0.3), layout="constrained")
    handles: dict[str, Container] = {}
    for i, column in enumerate(panels):
        handles |= draw_panel(drawn.add_subplot(high, wide, i + 1), column, results)
    ordered = [*(name for name in names if name in handles), *(name for name in handles if name not in names)]
    shown = [handles[name] for name in ordered]
    drawn.legend(shown, ordered, loc="outside lower center", ncols=2 * wide)  # type: ignore[call-overload]
    return drawn


def draw_panel(ax: Axes, column: Column, results: Sequence[Result]) -> dict[str, Container]:
    """Draw a metric of every method over the number of labels, and return what the legend shows, by name."""
    places, names = counts(results), methods(results)
    handles: dict[str, Container] = {}
    drawn: list[Interval] = []
    for j, name in enumerate(names):
        found = [(x, interval(results, column.path, Where(name, labels))) for x, labels in enumerate(places)]
        there = [(x, value) for x, value in found if value is not None]
        drawn += [value for _, value in there]
        if not there:
            continue
        shift = 0.3 * ((j + 0.5) / len(names) - 0.5)  # error bars side by side
        handles[name] = ax.errorbar(
            [x + shift for x, _ in there],
            [value.mean for _, value in there],
            yerr=[value.half or 0.0 for _, value in there],
            color=COLOURS[j % len(COLOURS)],
            marker=MARKERS[j % len(MARKERS)],
            linestyle=DASHES[j // len(COLOURS) % len(DASHES)] if len(there) > 1 else "",
            elinewidth=0.8,
            capsize=2,
        )
    levels = [(x, chance(results, column.chance, labels)) for x, labels in enumerate(places)]
    guess = [(x, value) for x, value in levels if value is not None]
    if guess:
        handles["chance (mean over methods)"] = ax.errorbar(
            [x for x, _ in guess], [value.mean for _, value in guess], color=GREY, linestyle=":", marker="_"
        )
        drawn += [value for _, value in guess]
    ax.set_ylim(*limits(drawn))
    ax.set_title(column.words + ("" if column.better == "higher" else " (lower is better)"))
    ax.set_xticks(range(len(places)), places)
    ax.set_xlim(-0.4, len(places) - 0.6)
    ax.set_xlabel("labels")
    ax.grid(True, axis="y")
    return handles


def chance(results: Sequence[Result], path: str | None, labels: str) -> Interval | None:
    """Return what a metric would be by chance at a number of labels, the mean over methods; without an interval."""
    found = [interval(results, path, Where(name, labels)) for name in methods(results)] if path else []
    means = [value.mean for value in found if value is not None]
    return Interval(sum(means) / len(means), None, None, 1) if means else None


def limits(shown: Sequence[Interval]) -> tuple[float, float]:
    """Return an axis' limits: from the lowest to the highest mean, and as much beyond as intervals reach.

    That is at most half of that span or, where it is more, the intervals' lower median half: a few intervals of two or
    three seeds are so wide that nothing else could be told apart; these run out of the panel.
    """
    means, halves = [value.mean for value in shown], [value.half for value in shown if value.half]
    low, high = min(means), max(means)
    most = max(0.5 * (high - low), median_low(halves) if halves else 0.0) or 0.05 * abs(high) or 0.05
    below = min(most, max(low - (value.mean - (value.half or 0.0)) for value in shown))
    above = min(most, max(value.mean + (value.half or 0.0) - high for value in shown))
    edge = 0.1 * most
    return low - max(below, 0) - edge, high + max(above, 0) + edge
