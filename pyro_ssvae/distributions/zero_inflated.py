"""An amount that is often exactly 0: a point mass there, and a density of what lies above."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.nn import functional as F
from torch.types import _size


class ZeroInflated(dist.TorchDistribution):
    """``P(x = 0) = σ(gate)``, else x is of a density: ``log p(x) = log σ(-gate) + log p_base(x)`` for x ≠ 0.

    The base gives the one number 0 no probability, so that the two never add up, as they do in Pyro's
    ``ZeroInflatedDistribution``, which is one of counts.

    :param gate: logits, of the base's batch shape.
    :param base: a density, with a mean and a variance.
    """

    arg_constraints = {"gate": constraints.real}  # noqa: RUF012

    def __init__(self, gate: Tensor, base: dist.TorchDistribution) -> None:
        self.gate, self.base = gate.expand(base.batch_shape), base
        super().__init__(base.batch_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.nonnegative

    def expand(self, batch_shape: _size, _instance: object = None) -> ZeroInflated:
        shape = torch.Size(batch_shape)
        return ZeroInflated(self.gate.expand(shape), self.base.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        zero = value == 0
        above: Tensor = self.base.log_prob(torch.where(zero, 1.0, value))
        return torch.where(zero, F.logsigmoid(self.gate), F.logsigmoid(-self.gate) + above)

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        value: Tensor = self.base.sample(torch.Size(sample_shape))
        return value.masked_fill(torch.rand_like(value) < self.gate.sigmoid(), 0.0)

    @property
    def mean(self) -> Tensor:
        return self.gate.neg().sigmoid() * self.base.mean

    @property
    def variance(self) -> Tensor:
        return self.gate.neg().sigmoid() * (self.base.variance + self.base.mean**2) - self.mean**2
