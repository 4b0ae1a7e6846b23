"""A picture of intervals: one panel a place, one row a method by its name, a shade for each number of labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median_low, quantiles

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..plots.style import BLUE, GREY, HALO, MARKERS, entitle, fit_text, styled, text_width
from .intervals import Interval

PER_ROW = 3
FAR, NEAR = 3.0, 0.5
"""Means that lie further than this many quartile ranges from the quartiles are said at the panel's edge, but for those
that follow the others within so much of their span."""


@dataclass(frozen=True)
class Panel:
    """A place, or a metric.

    :param values: the intervals of each method, by series: the number of labels, or ``""`` where there is one alone.
    :param xlabel: what is measured, in its unit.
    :param scale: what values are multiplied by before they are drawn.
    :param within: the least and the largest value that can be, at which intervals end.
    :param zero: draw a line at 0, as for differences.
    :param chance: what each method would have by chance, drawn as a grey tick.
    """

    title: str
    values: Mapping[str, Mapping[str, Interval]]
    xlabel: str = ""
    scale: float = 1.0
    within: tuple[float, float] = (-math.inf, math.inf)
    zero: bool = True
    chance: Mapping[str, float] = field(default_factory=dict)

    @property
    def every(self) -> list[Interval]:
        """All intervals, scaled, their ends within what can be."""
        return [self.scaled(value) for some in self.values.values() for value in some.values()]

    def scaled(self, value: Interval) -> Interval:
        """Return an interval as it is drawn."""
        low, high = (None if end is None else self.scale * self.clip(end) for end in (value.low, value.high))
        return Interval(self.scale * value.mean, low, high, value.n)

    def clip(self, value: float) -> float:
        """Return the nearest value that can be."""
        return min(max(value, self.within[0]), self.within[1])


def over_seeds(panels: Iterable[Panel]) -> str:
    """Return what the points of panels are, in words: means over their seeds with intervals, or one seed's values."""
    n = sorted({value.n for panel in panels for value in panel.every})
    if max(n, default=1) == 1:
        return "one seed"
    return f"means over {f'{n[0]} to {n[-1]}' if len(n) > 1 else n[0]} seeds with 95 % intervals"


@styled
def forest(panels: Sequence[Panel], xlabel: str = "", title: str = "", series: Sequence[str] = ("",)) -> Figure:
    """Draw the panels, at least one, methods from above in the order of their first appearance.

    :param xlabel: what all panels measure, where they have no words of their own.
    :param series: all of the series, numbers of labels, in their order.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.values))
    there = {kind for panel in panels for some in panel.values.values() for kind in some}
    kinds = [kind for kind in series if kind in there]
    wide = min(PER_ROW, len(panels))
    high = math.ceil(len(panels) / wide)
    row = max(0.21, 0.095 * len(kinds) + 0.06)
    size = (2.6 * wide + text_width(names) + 0.3, (row * len(names) + 0.85) * high + 0.7)
    drawn = Figure(figsize=size, layout="constrained")
    looks = looks_of(kinds)
    for i, panel in enumerate(panels):
        draw(drawn.add_subplot(high, wide, i + 1), panel, names, looks, named=i % wide == 0)
    if xlabel:
        drawn.supxlabel(xlabel, fontsize=9)
    if len(kinds) > 1:
        shown = [Line2D([], [], color=colour, marker=marker, lw=1.0) for colour, marker in looks.values()]
        drawn.legend(shown, list(looks), title="labels", loc="outside lower center", ncols=len(kinds))
    entitle(drawn, title)
    return drawn


def looks_of(kinds: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return a colour, from light to dark, and a marker for each series."""
    if len(kinds) == 1:
        return {kinds[0]: (BLUE, MARKERS[0])}
    shades = matplotlib.colormaps["viridis_r"]
    places = [0.15 + 0.85 * i / (len(kinds) - 1) for i in range(len(kinds))]
    colours = [matplotlib.colors.to_hex(shades(place)) for place in places]
    return {kind: (colour, MARKERS[i % len(MARKERS)]) for i, (kind, colour) in enumerate(zip(kinds, colours))}


def draw(ax: Axes, panel: Panel, names: Sequence[str], looks: Mapping[str, tuple[str, str]], named: bool) -> None:
    """Draw a panel.

    :param looks: a series' colour and marker.
    :param named: whether the rows have their names.
    """
    low, high = limits(panel.every, panel.zero)
    if panel.zero:
        ax.axvline(0, color=GREY, linewidth=0.8)
    for row, name in enumerate(names):
        if row % 2:
            ax.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", lw=0)
        if name in panel.chance:
            at = panel.scale * panel.chance[name]
            ax.plot([at, at], [row - 0.4, row + 0.4], color=GREY, lw=1.2, ls=":")
        for j, (kind, look) in enumerate(looks.items()):
            value = panel.values.get(name, {}).get(kind)
            if value is not None:
                place = row + 0.8 * ((j + 0.5) / len(looks) - 0.5)
                draw_interval(ax, panel.scaled(value), place, look, (low, high))
    ax.set_xlim(low, high)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), names if named else [""] * len(names))
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=5)
    ax.ticklabel_format(axis="x", useOffset=False)
    ax.grid(True, axis="x")
    ax.set_title(fit_text(panel.title, 44))
    if panel.xlabel:
        ax.set_xlabel(fit_text(panel.xlabel, 48))


def draw_interval(ax: Axes, value: Interval, place: float, look: tuple[str, str], limits: tuple[float, float]) -> None:
    """Draw a mean with its interval as far as the panel goes; of a mean beyond it, an arrow and the number."""
    (colour, marker), (low, high) = look, limits
    ends = [min(max(end if end is not None else value.mean, low), high) for end in (value.low, value.high)]
    ax.plot(ends, [place, place], color=colour, lw=1.0)
    if low <= value.mean <= high:
        ax.plot(value.mean, place, color=colour, marker=marker, ms=3.6, ls="")
        return
    left = value.mean < low
    ax.plot(low if left else high, place, color=colour, marker="<" if left else ">", ms=4, ls="", clip_on=False)
    words = f"  {value.mean:.3g}  "
    text = ax.text(low if left else high, place, words, ha="left" if left else "right", va="center", fontsize=6)
    text.set_path_effects([HALO])  # another interval may cross it


def limits(shown: Sequence[Interval], zero: bool = True) -> tuple[float, float]:
    """Return an axis' limits: all means but those that lie far from the others, and intervals as far as these reach.

    An interval counts up to as much beyond the means as these lie apart, or as the lower median of the intervals
    reaches: one of two or three seeds may be so wide that nothing else could be told apart.

    :param zero: 0 is one of the means.
    """
    means = [*([0.0] if zero else []), *near([value.mean for value in shown])]
    least, most = min(means), max(means)
    halves = [value.half for value in shown if value.half and least <= value.mean <= most]
    reach = max(most - least, 1.05 * median_low(halves) if halves else 0.0) or 0.05 * abs(most) or 0.05
    inside = [value for value in shown if least <= value.mean <= most]
    low = min([least, *(max(value.low, least - reach) for value in inside if value.low is not None)])
    high = max([most, *(min(value.high, most + reach) for value in inside if value.high is not None)])
    edge = 0.06 * (high - low or reach)
    return low - edge, high + edge


def near(means: Sequence[float]) -> list[float]:
    """Return the means that lie within :data:`FAR` quartile ranges of the quartiles, or not far from one that does.

    All of four or fewer, and all where that would cut little off.
    """
    if len(means) < 5:
        return list(means)
    first, _, third = quantiles(means, n=4, method="inclusive")
    low, high = first - FAR * (third - first), third + FAR * (third - first)
    kept = [mean for mean in means if low <= mean <= high]
    for mean in sorted(means, key=lambda mean: abs(mean - (first + third) / 2)):
        least, most = min(kept), max(kept)
        if max(least - mean, mean - most) <= NEAR * (most - least):
            kept.append(mean)
    least, most = min(kept), max(kept)
    whole = max(means) - min(means) <= 2 * (most - least) or most == least
    return list(means) if whole else [mean for mean in means if least <= mean <= most]
