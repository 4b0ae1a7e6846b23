"""Means over points with 95% bootstrap intervals, ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

import numpy as np
import torch
from torch import Tensor

Metrics: TypeAlias = dict[str, Any]
"""Numbers by name, nested, ready for JSON."""


class Estimate(TypedDict):
    """A mean over ``n`` points, its 95% interval, the value at chance, and what an ideal model would reach."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    chance: float | None
    ceiling: dict[str, float | None]


def masked(values: Tensor, where: Tensor) -> Tensor:
    """Return the values as float64, NaN elsewhere."""
    return values.double().masked_fill(~where, math.nan)


def resample(n: int, resamples: int, seed: int) -> np.ndarray:
    """Draw how often each resample of n points takes each: ``[resamples, n]``."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)


def estimates(
    table: Tensor,
    names: Sequence[str],
    sampled: np.ndarray,
    chance: Tensor | None = None,
    ceiling: Mapping[str, Tensor] | None = None,
) -> tuple[Estimate, dict[str, Estimate]]:
    """Return the mean over points of all columns and of each, with 95% bootstrap intervals over points.

    :param table: ``[n, columns]``, NaN where a point does not count. A column without any point does not count.
    :param sampled: what :func:`resample` drew.
    :param chance: ``[columns]``; ``ceiling`` by name, likewise.
    """
    values = table.numpy()
    there = ~np.isnan(values)
    filled = np.where(there, values, 0.0)
    with np.errstate(invalid="ignore"):  # a column that no point of a resample counts in is NaN
        means = filled.sum(0) / there.sum(0)
        resampled = (sampled @ filled) / (sampled @ there)

    def entry(columns: slice) -> Estimate:
        ok = ~np.isnan(means[columns])

        def mean(values: Tensor | None) -> float | None:
            if values is None or not ok.any():
                return None
            return finite_or_none(float(values[columns][torch.from_numpy(ok)].double().nanmean()))

        low, high = interval(resampled[:, columns][:, ok])
        return {
            "value": float(means[columns][ok].mean()) if ok.any() else None,
            "low": low,
            "high": high,
            "n": int(there[:, columns].any(1).sum()),
            "chance": mean(chance),
            "ceiling": {key: mean((ceiling or {}).get(key)) for key in ("real", "reconstruction")},
        }

    return entry(slice(None)), {name: entry(slice(i, i + 1)) for i, name in enumerate(names)}


def interval(resampled: np.ndarray) -> tuple[float | None, float | None]:
    """Return the 95% interval of the mean over columns of ``[R, columns]``, NaN left out; None without numbers."""
    known = ~np.isnan(resampled)
    rows = known.any(1)
    if not rows.any():
        return None, None
    means = np.where(known, resampled, 0).sum(1)[rows] / known.sum(1)[rows]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share of n independent points (Wilson 1927)."""
    from scipy.stats import binomtest

    low, high = binomtest(successes, n).proportion_ci(0.95, "wilson")
    return float(low), float(high)


def finite_or_none(value: float) -> float | None:
    """Return the number, or None where it is not finite."""
    return value if math.isfinite(value) else None
