"""Bounds on log p(x), or on log p(x, y) of known labels, read off the traces of any pair.

A pair states its joint once. At one draw of the guide, with missing labels and marked sites at every value, let ::

    log w = Σ_model log p - Σ_guide log q                         q of the sites that are not enumerated

    ELBO = E_q Σ_y q(y) [ log w - log q(y) ]                      y: the enumerated sites of the guide
    importance-weighted bound = log 1/S Σ_s Σ_y w_s               Burda, Grosse, Salakhutdinov (2016), arXiv:1509.00519

Scales (β, α) and factors of the guide, which train a class head, are no part of a joint and do not count; factors of
the model do. A latent of the model that the guide lacks, and that is not enumerated, is drawn from its prior, which
cancels. An edited model, a further site, another prior or a flow in the guide need no further code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..errors import InputError, whole_number
from .batched import batched, checked, rows_at_a_time
from .draws import enumerated, several_at_once
from .pairs import PairLike, as_pair
from .terms import Draw
from .traces import (
    PARTS_OF_X,
    Trace,
    need_site,
)

FEW_ROWS = 250  # a run of fewer costs hardly less, as most of it is Python's


@runtime_checkable
class HasBound(Protocol):
    """A pair whose bound with known labels is its own, such as the ReVAE's."""

    def bound(self, x: Tensor, y: Tensor | None) -> Tensor: ...


def elbo(pair: PairLike, x: ArrayLike, y: ArrayLike | None = None, *, num_samples: int = 1) -> Tensor:
    """Return a lower bound on log p(x), or on log p(x, y) for known labels: ``[B]`` nats, the mean of draws.

    :param pair: a module with ``model(x, y)`` and ``guide(x, y)``, or ``(model, guide)``.
    :param x: points ``[B, ...]``.
    :param y: labels, -1 where missing.
    :param num_samples: draws of the guide.
    :raises InputError: points or labels that do not fit, or a pair without latent sites.
    """
    num_samples = whole_number("num_samples", num_samples)

    def rows(module: nn.Module, x: Tensor, y: Tensor | None, most: int, every: int) -> Tensor:
        if isinstance(module, HasBound):
            return not_nan(torch.stack([module.bound(x, y) for _ in range(num_samples)])).mean(0)
        draws = several_at_once(module, x, y, num_samples, min(most, FEW_ROWS))
        return _of_each(draws, len(x), Draw.elbo, every).mean(0)

    return _in_batches(pair, rows, x, y, num_samples)


def log_likelihood(pair: PairLike, x: ArrayLike, y: ArrayLike | None = None, *, num_samples: int = 100) -> Tensor:
    """Return the importance-weighted bound on log p(x), or on log p(x, y) for known labels: ``[B]`` nats.

    A missing label is summed over inside the logarithm. Arguments and errors as for :func:`elbo`.
    """
    num_samples = whole_number("num_samples", num_samples)

    def rows(module: nn.Module, x: Tensor, y: Tensor | None, most: int, every: int) -> Tensor:
        draws = several_at_once(module, x, y, num_samples, min(most, FEW_ROWS))
        return _of_each(draws, len(x), Draw.log_weight, every).logsumexp(0) - math.log(num_samples)

    return _in_batches(pair, rows, x, y, num_samples)


def reconstruction(pair: PairLike, x: ArrayLike, y: ArrayLike | None = None) -> Tensor:
    """Return ``E_q log p(x | z, y)`` at one draw of the guide, missing labels as the pair infers them: ``[B]`` nats."""

    def rows(module: nn.Module, x: Tensor, y: Tensor | None, most: int, every: int) -> Tensor:
        ((p, q),) = enumerated(module, x, y, exact=False)
        need_site(p, "x", "reconstruction")
        draw = Draw(p, q, len(x), every)
        return draw.expected(["x" if "x" in draw.p else PARTS_OF_X[0]])

    return _in_batches(pair, rows, x, y, 1)


def _of_each(draws: Iterable[tuple[Trace, Trace, int]], n: int, of: Callable[[Draw], Tensor], every: int) -> Tensor:
    """Return a number a row ``[B]`` of each draw: ``[S, B]``."""
    found = []
    for p, q, k in draws:
        draw = Draw(p, q, k * n, None if k > 1 else every)
        found.append(of(draw).reshape(k, n))
    return not_nan(torch.cat(found), draw)  # a parameter that is NaN is so in each draw


def not_nan(values: Tensor, draw: Draw | None = None) -> Tensor:
    """Return a bound's values; raise :class:`InputError` where one is NaN, naming the site that is at a draw."""
    if bool(values.isnan().any()):
        where = draw.no_number() if draw is not None else None
        raise InputError(f"{where or 'the bound'}: a log-probability is NaN; parameters that are numbers, and values "
                         "in the support, are needed")  # fmt: skip
    return values


def _in_batches(
    pair: PairLike,
    rows: Callable[[nn.Module, Tensor, Tensor | None, int, int], Tensor],
    x: ArrayLike,
    y: ArrayLike | None,
    num_samples: int,
) -> Tensor:
    module = as_pair(pair)
    x, y = checked(module, x, y)
    most = rows_at_a_time(module, x, y, num_samples)
    every = len(x)
    return batched(module, lambda x, y=None: rows(module, x, y, most, every), x, y, rows=most)
