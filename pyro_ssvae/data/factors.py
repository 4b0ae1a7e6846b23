"""Drawn data: attributes that a model sees, and the factors behind them, kinds that only an evaluation sees.

Every attribute is drawn on its own, with its probability, and every factor uniformly among the values that fit its
attribute: all are statistically independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..labels import MISSING


@dataclass(frozen=True)
class Factor:
    """What a point shows beyond its attributes: one of ``present`` where ``attribute`` is 1, else one of ``absent``.

    Where there are none, the factor does not apply. Without an attribute, every point shows one of ``present``.
    """

    attribute: str | None
    present: tuple[str, ...]
    absent: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Of all values, in the order of their numbers."""
        return [*self.absent, *self.present]


@dataclass(frozen=True, eq=False)
class Factors:
    """The true factors of a split's points, for evaluation only.

    :param names: the names of each factor's values.
    :param values: int64 ``[N]`` a factor, an index into ``names``; -1 where it does not apply (a face without glasses).
    :param attributes: the attribute that each factor refines, None where there is none.
    """

    names: dict[str, list[str]]
    values: dict[str, Tensor]
    attributes: dict[str, str | None]


def draw_factors(
    n: int, seed: tuple[int, ...], attributes: Mapping[str, float], factors: Mapping[str, Factor]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return attributes ``[n, A]`` and factors ``[n]``; a smaller n gives the first rows of a larger one.

    :param attributes: the probability of each.
    """
    uniform = np.random.default_rng(seed).random((n, len(attributes) + len(factors)))
    y = (uniform[:, : len(attributes)] < list(attributes.values())).astype(np.int64)
    columns = dict(zip(attributes, y.T))
    values = {}
    for i, (factor, about) in enumerate(factors.items(), len(attributes)):
        present = columns[about.attribute] == 1 if about.attribute else np.ones(n, bool)
        count = np.where(present, len(about.present), len(about.absent))
        value = np.floor(uniform[:, i] * count).astype(np.int64) + np.where(present, len(about.absent), 0)
        values[factor] = np.where(count > 0, value, MISSING)
    return y, values


def named(factors: Mapping[str, Factor], values: Mapping[str, np.ndarray]) -> Factors:
    """Return what :func:`draw_factors` drew with the names of its values."""
    return Factors(
        {name: about.names for name, about in factors.items()},
        {name: torch.from_numpy(value) for name, value in values.items()},
        {name: about.attribute for name, about in factors.items()},
    )
