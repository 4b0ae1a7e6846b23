"""Counts relative to what a row holds in all, and codes of categories."""

from __future__ import annotations

from collections.abc import Callable

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.types import _size


class GivenSize(dist.TorchDistribution):
    """Counts ``x`` given how large a row is: ``log p(x | ℓ)`` with ``ℓ = mean of x over its observed entries / size``.

    As in scVI with observed library sizes, ℓ is read off x and is no random variable: the log-probability is that of x
    given ℓ. ``mean`` and draws are those of a row of ordinary size, ℓ = 1; :meth:`at` has another row's.

    Source: Lopez et al. (2018), Nature Methods 15, 1053.

    :param of_size: the distribution over entries ``[..., *entries]`` of the log-sizes ``log ℓ [..., 1, …]``.
    :param size: the mean count of an ordinary row.
    :param event_dim: the number of dimensions of ``entries``.
    """

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, of_size: Callable[[Tensor], dist.TorchDistribution], size: Tensor, event_dim: int) -> None:
        self.of_size, self.size, self.entries = of_size, size, event_dim
        self.ordinary = of_size(torch.zeros_like(size))
        super().__init__(self.ordinary.batch_shape, self.ordinary.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint | None:
        return self.ordinary.support

    def expand(self, batch_shape: _size, _instance: object = None) -> GivenSize:
        shape = torch.Size(batch_shape)
        return GivenSize(lambda log_size: self.of_size(log_size).expand(shape), self.size, self.entries)

    def at(self, x: Tensor) -> dist.TorchDistribution:
        """The distribution of rows as large as those of ``x [..., *entries]``; a row without counts is ordinary."""
        return self.of_size(log_size(x, self.size, self.entries))

    def log_prob(self, value: Tensor) -> Tensor:
        log_p: Tensor = self.at(value).log_prob(value)
        return log_p

    @property
    def mean(self) -> Tensor:
        mean: Tensor = self.ordinary.mean
        return mean

    @property
    def variance(self) -> Tensor:
        variance: Tensor = self.ordinary.variance
        return variance

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        drawn: Tensor = self.ordinary.sample(torch.Size(sample_shape))
        return drawn


def log_size(x: Tensor, size: Tensor, event_dim: int) -> Tensor:
    """``log ℓ`` of rows ``[..., *entries]``, 0 where a row has no count: ``[..., 1, …]``."""
    dims = list(range(-event_dim, 0))
    mean = x.nanmean(dims, keepdim=True)
    return torch.where(mean > 0, mean / size, 1.0).log()


def sized_as(fn: dist.TorchDistribution, x: Tensor) -> dist.TorchDistribution:
    """Return the distribution of rows as large as those of ``x``, where it is one given their size; else as it is."""
    return fn.at(x) if isinstance(fn, GivenSize) else fn


class Codes(dist.TorchDistribution):
    """Categories as the numbers 0 to C - 1, in floats: ``p(x = k) = softmax(logits)_k``.

    ``mean`` is the most probable code: codes have no other.

    :param logits: ``[..., C]``; the batch shape is what comes before C.
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-1], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.logits.shape[-1] - 1)

    def expand(self, batch_shape: _size, _instance: object = None) -> Codes:
        return Codes(self.logits.expand(torch.Size(batch_shape) + self.logits.shape[-1:]))

    def log_prob(self, value: Tensor) -> Tensor:
        index, log_p = torch.broadcast_tensors(value.long().unsqueeze(-1), self.logits.log_softmax(-1))
        return log_p.gather(-1, index[..., :1]).squeeze(-1)

    @property
    def mean(self) -> Tensor:
        return self.logits.argmax(-1).to(self.logits.dtype)

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        drawn = dist.Categorical(logits=self.logits.detach()).sample(torch.Size(sample_shape))
        return drawn.to(self.logits.dtype)
