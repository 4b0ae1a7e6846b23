"""Means over seeds with their 95 % intervals, of a metric and of the difference between two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .cells import Cell, Json, Result


@dataclass(frozen=True)
class Where:
    """A row of a table: a method and its number of labels."""

    method: str
    labels: str


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds and the 95 % interval ``mean ± t_{n-1} s / √n``; no ends where n is 1."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half the interval's width."""
        return None if self.high is None else self.high - self.mean


def t_interval(values: Sequence[float]) -> Interval | None:
    """Return Student's 95 % interval for the mean; None of no values.

    It takes the values for draws of a normal distribution, seed by seed.
    """
    n = len(values)
    if n == 0:
        return None
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, None, None, 1)
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def look_up(metrics: Json, path: str) -> float | None:
    """Return the number at a path of keys joined by dots; None where there is none."""
    found: object = metrics
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return float(found) if isinstance(found, (int, float)) and math.isfinite(found) else None


def where(cell: Cell) -> Where:
    """Return the row that a cell belongs to."""
    return Where(cell.method, cell.labels)


def by_seed(results: Sequence[Result], path: str, at: Where) -> dict[int, float]:
    """Return a metric of a row, by seed: the mean over the seed's cells, one for each class where classes take turns.

    A seed that lacks a class that another one has does not count, for its mean would be of something else.
    """
    found: dict[int, dict[tuple[str, ...], float]] = {}
    for result in results:
        value = look_up(result.metrics, path) if where(result.cell) == at else None
        if value is not None:
            found.setdefault(result.cell.seed, {})[result.cell.classes] = value
    every = {classes for values in found.values() for classes in values}
    return {seed: float(np.mean(list(v.values()))) for seed, v in sorted(found.items()) if v.keys() == every}


def interval(results: Sequence[Result], path: str, at: Where) -> Interval | None:
    """Return the mean of a row's metric over seeds."""
    return t_interval(list(by_seed(results, path, at).values()))


def difference(results: Sequence[Result], path: str, a: Where, b: Where, path_b: str | None = None) -> Interval | None:
    """Return the mean of ``a - b`` over the seeds that both have: the same seed is the same labels, so they are pairs.

    :param path_b: the metric of ``b``, where it is another.
    """
    first, second = by_seed(results, path, a), by_seed(results, path_b or path, b)
    return t_interval([first[seed] - second[seed] for seed in first if seed in second])


def by_data(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the results of each data set, in the order of the plan."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.cell.data, []).append(result)
    return found


def rows(results: Sequence[Result]) -> list[Where]:
    """Return the table's rows: by labels, then by method, in the order of the plan."""
    every = list(dict.fromkeys(where(result.cell) for result in results))
    order = list(dict.fromkeys(at.labels for at in every))
    methods = list(dict.fromkeys(at.method for at in every))
    return sorted(every, key=lambda at: (count_key(at.labels, order), methods.index(at.method)))


def counts(results: Sequence[Result]) -> list[str]:
    """Return the numbers of labels, from few to all."""
    return list(dict.fromkeys(at.labels for at in rows(results)))


def methods(results: Sequence[Result]) -> list[str]:
    """Return the methods, in the order of the plan."""
    return list(dict.fromkeys(result.cell.method for result in results))


def count_key(labels: str, order: Sequence[str]) -> tuple[float, int]:
    """Return where a number of labels stands: fractions come by size, then counts by size, then all."""
    try:
        value = math.inf if labels == "all" else float(labels)
    except ValueError:
        value = math.inf
    return value, order.index(labels)
