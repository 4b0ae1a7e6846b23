"""Entries that are independent given the latents, of which some may not have been observed."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.util import sum_rightmost
from torch import Tensor
from torch.types import _size

from .sparse import Scattered


class ObservedEntries(dist.Independent):
    """``log p(x_obs) = Σ_i 1[x_i observed] log p(x_i)``: a NaN in a value is an entry that was not observed.

    Entries are independent given the latents, so that leaving one out of the sum integrates it out. Gradients are
    finite: an unobserved entry is replaced before its log-probability is taken, never multiplied by 0.

    :param base: one distribution an entry, batch shape ``[..., *entries]``.
    :param event_dim: the number of dimensions of ``entries``.
    :param fill: what stands for an unobserved entry, a value inside of the support; broadcasts over the entries.
    """

    def __init__(self, base: dist.TorchDistribution, event_dim: int, fill: Tensor | float = 0.0) -> None:
        super().__init__(base, event_dim)
        self.fill = fill

    def expand(self, batch_shape: _size, _instance: object = None) -> ObservedEntries:
        shape = torch.Size(batch_shape) + self.event_shape
        return ObservedEntries(self.base_dist.expand(shape), self.reinterpreted_batch_ndims, self.fill)

    def log_prob(self, value: Tensor) -> Tensor:
        """``[...]`` of values ``[..., *entries]``, NaN where an entry was not observed."""
        missing = value.isnan()
        log_p = self.base_dist.log_prob(torch.where(missing, self.fill, value))
        total: Tensor = sum_rightmost(torch.where(missing, 0.0, log_p), self.reinterpreted_batch_ndims)
        return total


def entrywise(fn: dist.TorchDistribution) -> dist.TorchDistribution:
    """Return independent entries as :class:`ObservedEntries`; any other distribution, also of independent vectors, as
    it is."""
    if not isinstance(fn, dist.Independent) or isinstance(fn, ObservedEntries) or fn.base_dist.event_shape:
        return fn
    return ObservedEntries(fn.base_dist, fn.reinterpreted_batch_ndims, stand_in(fn.base_dist))


def joined(fn: Any) -> str | None:
    """The name of a distribution of PyTorch or Pyro over whole points, of which no entry can be left out, else None.

    Those of this library, and of one's own, may know what a gap is.
    """
    while isinstance(fn, (dist.MaskedDistribution, dist.ExpandedDistribution, Scattered)):
        fn = fn.base if isinstance(fn, Scattered) else fn.base_dist
    known = type(fn).__module__.startswith(("torch.", "pyro."))
    return type(fn).__name__ if known and fn.event_shape else None


def stand_in(base: dist.TorchDistribution) -> Tensor | float:
    """What stands for an unobserved entry: its mean, of whole numbers its mode. Where that is no number, such as the
    mean of a Cauchy or the mode of a fair coin, the mode, or 0."""
    value: Tensor | float = 0.0
    whole_numbers = base.support is not None and base.support.is_discrete
    for moment in ("mode",) if whole_numbers else ("mode", "mean"):
        try:
            found: Tensor = getattr(base, moment)
        except (AttributeError, NotImplementedError):
            continue
        value = torch.where(found.isfinite(), found, value)
    return value
