"""Which likelihood suits a column of numbers, by their spread, skewness and tails."""

from __future__ import annotations

import numpy as np

from ..errors import InputError

LARGEST_COUNT = 10_000
"""A column of larger whole numbers is one of numbers, not of counts."""
SAMPLE = 200_000
"""Cells of which skewness and tails are taken."""


def likelihood_of(known: np.ndarray, whole: bool, told: str | None, where: str) -> str:
    """Return the name of the likelihood that suits a column's known numbers ``[N]``, the first that applies of

    - zero-inflated log-normal: amounts, of which a tenth of the cells and more are 0 (:func:`is_amount`);
    - Poisson or negative binomial: whole numbers from 0 on whose variance is at least half their mean; Poisson where it
      is at most 1.5 times the mean;
    - log-normal: numbers from 0 on with a long tail, whose logarithms are far less skewed;
    - Student's t: a kurtosis above 12;
    - normal.

    :param whole: whether all are whole numbers.
    :param told: ``number`` or ``count`` where a person says so.
    :param where: the column, in words.
    :raises InputError: counts that are no whole numbers from 0 on.
    """
    some = known[:: int(np.ceil(len(known) / SAMPLE))]
    mean, variance = some.mean(), some.var()
    if told != "count" and known.min() == 0 and is_amount(some, whole):
        return "zero-inflated-log-normal"
    if told == "count" and (not whole or known.min() < 0):
        raise InputError(f"{where}: {known.min():g} to {known.max():g}; counts are whole numbers from 0 on")
    counts = whole and known.min() == 0 and known.max() <= LARGEST_COUNT and variance >= 0.5 * mean
    if told == "count" or (told is None and counts and known.max() > 2):
        return "poisson" if variance <= 1.5 * mean else "negative-binomial"
    if known.min() >= 0 and some.max() > 0 and tailed(some, np.quantile(some[some > 0], 0.05)):
        return "log-normal"
    return "student-t" if skewness_and_kurtosis(some)[1] > 12 else "normal"


def is_amount(x: np.ndarray, whole: bool) -> bool:
    """Whether numbers from 0 on are 0 in a tenth of the cells and more, and a log-normal amount in the others: with a
    long tail, or far from 0. Small whole numbers are counts."""
    above = x[x > 0]
    if len(above) > 0.9 * len(x) or len(np.unique(above)) < 5:
        return False
    low = np.quantile(above, 0.05)
    return bool((tailed(above) or low > 0.25 * np.median(above)) and not (whole and low < 10))


def tailed(x: np.ndarray, shift: float = 0.0) -> bool:
    """Whether numbers have a long tail to the right, and ``log(x + shift)`` is far less skewed."""
    skew = skewness_and_kurtosis(x)[0]
    return skew > 1.5 and abs(skewness_and_kurtosis(np.log(x + shift))[0]) < 0.7 * skew


def skewness_and_kurtosis(x: np.ndarray) -> tuple[float, float]:
    """Return skewness and kurtosis (of a normal 0 and 3)."""
    z = (x - x.mean()) / max(x.std(), 1e-300)
    return float((z**3).mean()), float((z**4).mean())
