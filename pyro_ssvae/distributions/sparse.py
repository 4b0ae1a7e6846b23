"""Sparsemax, a categorical distribution that enumerates only the classes it leaves, and likelihoods of these alone.

Source: Correia, Niculae, Aziz, Martins (2020), arXiv:2007.01919; sparsemax: Martins, Astudillo (2016),
arXiv:1602.02068.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.types import _size


def sparsemax(logits: Tensor) -> Tensor:
    """``argmin_p ||p - logits||²`` over the simplex: probabilities ``[..., K]``, many of them exactly zero."""
    logits = logits - logits.amax(-1, keepdim=True).detach()  # else large logits cost the sum to 1 its precision
    ordered = logits.sort(-1, descending=True).values
    rank = torch.arange(1, logits.shape[-1] + 1, device=logits.device, dtype=logits.dtype)
    total = ordered.cumsum(-1) - 1
    support = (rank * ordered > total).sum(-1, keepdim=True)
    threshold = total.gather(-1, support - 1) / support
    return (logits - threshold).clamp_min(0)


class SparseCategorical(dist.TorchDistribution):
    """A categorical distribution whose ``enumerate_support`` holds, a row, its non-zero classes only.

    With S the largest number of non-zero classes of any row, the support is ``[S, *batch_shape]``. A row with fewer
    is filled up with -1, which has probability zero: TraceEnum_ELBO leaves it out of its sums, and no
    decoder need see it.

    :param probs: ``[..., K]`` that sum to 1, zeros allowed.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"probs": constraints.simplex}
    has_enumerate_support = True

    def __init__(self, probs: Tensor, validate_args: bool | None = None) -> None:
        self.probs = probs
        super().__init__(probs.shape[:-1], validate_args=validate_args)

    @property
    def support(self) -> Any:
        return constraints.integer_interval(0, self.probs.shape[-1] - 1)

    def expand(self, batch_shape: _size, _instance: object = None) -> SparseCategorical:
        return SparseCategorical(
            self.probs.expand(torch.Size(batch_shape) + self.probs.shape[-1:]), validate_args=False
        )

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        return torch.distributions.Categorical(probs=self.probs).sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        value, probs = torch.broadcast_tensors(value.long().unsqueeze(-1), self.probs)
        value = value[..., :1]
        chosen = (probs.gather(-1, value.clamp_min(0)) * (value >= 0)).squeeze(-1)
        positive = chosen > 0
        # The inner where keeps log(0) out of the backward pass, where 0 * inf would be NaN.
        return torch.where(positive, torch.where(positive, chosen, 1.0).log(), -torch.inf)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        # While a program is captured there are no numbers to count, and all K stand for the S.
        width = self.probs.shape[-1] if get_proxy_mode() else int((self.probs > 0).sum(-1).max())
        top = self.probs.topk(width, -1)
        return torch.where(top.values > 0, top.indices, -1).movedim(-1, 0)


class Scattered(dist.TorchDistribution):
    """A likelihood that was computed at some places of its batch shape only; the others have log-probability 0.

    :param base: the likelihood at N places, batch shape ``[N]``.
    :param place: int64 ``[N]``, which enumerated value each is for.
    :param row: int64 ``[N]``, which data point.
    :param batch_shape: ``[S, B]``.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, base: Any, place: Tensor, row: Tensor, batch_shape: torch.Size) -> None:
        self.base, self.place, self.row = base, place, row
        super().__init__(batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.base.support

    def expand(self, batch_shape: _size, _instance: object = None) -> Scattered:
        if torch.Size(batch_shape) != self.batch_shape:
            raise ValueError(f"Scattered: batch shape {tuple(self.batch_shape)} is the only one, not {batch_shape}")
        return self

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        drawn = self.base.sample(sample_shape)
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        result: Tensor = drawn.new_zeros(shape)
        result[(slice(None),) * len(torch.Size(sample_shape)) + (self.place, self.row)] = drawn
        return result

    @property
    def mean(self) -> Tensor:
        """The likelihood's mean, 0 at places that were not computed."""
        some: Tensor = self.base.mean
        return some.new_zeros(self.batch_shape + self.event_shape).index_put((self.place, self.row), some)

    def log_prob(self, value: Tensor) -> Tensor:
        """``[S, B]`` of points ``[B, *event_shape]``."""
        some = self.base.log_prob(value[self.row])
        return some.new_zeros(self.batch_shape).index_put((self.place, self.row), some)
