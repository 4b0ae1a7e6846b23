"""The picture of a study: its main metrics, a row a method, a shade for each number of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from ..errors import InputError
from .cells import Result
from .forest import Panel, forest, over_seeds
from .intervals import Interval, Where, by_seed, counts, difference, interval, methods, rows
from .plan import Column, Study

SHARES = (
    "accuracy", "average_precision", "calibration_error", "nmi", "anomaly", "success", "preservation", "carry_over",
)  # fmt: skip
"""Metrics from 0 to 1, by a part of their path."""
POSITIVE = ("reconstruction_error", "diversity_pixels", "diversity_features")
"""Metrics of at least 0."""
NATS = ("elbo", "log_likelihood")
"""Metrics in nats a point."""


def figure(study: Study, results: Sequence[Result]) -> Figure:
    """Draw one panel a column of the study that wants one, means over seeds with 95 % intervals.

    A metric that the study's baseline has too is drawn as the difference to it, seed by seed.

    :raises InputError: where no result has such a metric.
    """
    every = rows(results)
    columns = [c for c in study.columns if c.panel and any(by_seed(results, c.path, at) for at in every)]
    if not columns:
        raise InputError(f"study {study.name}: no cell has a metric to draw")
    panels = [panel_of(column, results, study.baseline) for column in columns]
    chance = "; dotted: chance" if any(panel.chance for panel in panels) else ""
    title = f"{study.title}; {over_seeds(panels)}{chance}"
    return forest(panels, title=title, series=counts(results))


def panel_of(column: Column, results: Sequence[Result], baseline: str | None) -> Panel:
    """Return a metric of every method at every number of labels, less that of the baseline where it has one."""
    title = column.words + ("" if column.better == "higher" else " (lower is better)")
    bases = base_places(column, results, baseline)
    if bases:
        found = {at: difference(results, column.path, at, bases[at]) for at in rows(results) if at in bases}
        levels = [value.mean for base in set(bases.values()) if (value := interval(results, column.path, base))]
        span = " to ".join(f"{level:.3g}" for level in dict.fromkeys([min(levels), max(levels)]))
        return Panel(title, by_method(results, found), f"less that of {baseline}, {span}")
    found = {at: interval(results, column.path, at) for at in rows(results)}
    chance = {
        name: level for name in methods(results) if (level := chance_of(results, column.chance, name)) is not None
    }
    unit = "nats a point" if column.path in NATS else ""
    return Panel(title, by_method(results, found), unit, within=possible(column.path), zero=False, chance=chance)


def base_places(column: Column, results: Sequence[Result], baseline: str | None) -> dict[Where, Where]:
    """Return what each other method's place is compared with: the baseline on as many labels, or its only place."""
    there = [at for at in rows(results) if at.method == baseline and by_seed(results, column.path, at)]
    found: dict[Where, Where] = {}
    for at in rows(results):
        same = [base for base in there if base.labels == at.labels] or (there if len(there) == 1 else [])
        if at.method != baseline and same and difference(results, column.path, at, same[0]) is not None:
            found[at] = same[0]
    return found


def by_method(results: Sequence[Result], found: dict[Where, Interval | None]) -> dict[str, dict[str, Interval]]:
    """Return the intervals by method and number of labels, both in the order of the study."""
    made: dict[str, dict[str, Interval]] = {}
    for name in methods(results):
        for labels in counts(results):
            value = found.get(Where(name, labels))
            if value is not None:
                made.setdefault(name, {})[labels] = value
    return made


def chance_of(results: Sequence[Result], path: str | None, method: str) -> float | None:
    """Return what a metric of a method would be by chance, the mean over its numbers of labels."""
    found = [interval(results, path, Where(method, labels)) for labels in counts(results)] if path else []
    means = [value.mean for value in found if value is not None]
    return sum(means) / len(means) if means else None


def possible(path: str) -> tuple[float, float]:
    """Return the least and the largest value that a metric can have."""
    if any(word in path for word in SHARES):
        return 0.0, 1.0
    return (0.0, math.inf) if any(word in path for word in POSITIVE) else (-math.inf, math.inf)
