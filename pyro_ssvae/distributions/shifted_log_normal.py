"""A log-normal that may take 0: positive numbers of widely different size."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.types import _size


class ShiftedLogNormal(dist.TorchDistribution):
    """``log(x + c) ~ N(loc, scale)``, a density of x > -c: ``N(log(x + c); loc, scale) / (x + c)``.

    A draw below 0, where data have none, is 0; mean and variance are those of the density.

    :param loc: of the logarithm.
    :param scale: of the logarithm.
    :param shift: c ≥ 0.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}  # noqa: RUF012
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, shift: Tensor) -> None:
        self.loc, self.scale, self.shift = torch.broadcast_tensors(loc, scale, shift)
        super().__init__(self.loc.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.greater_than(-self.shift)

    def expand(self, batch_shape: _size, _instance: object = None) -> ShiftedLogNormal:
        shape = torch.Size(batch_shape)
        return ShiftedLogNormal(self.loc.expand(shape), self.scale.expand(shape), self.shift.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        log = torch.log(value + self.shift)
        log_p: Tensor = dist.Normal(self.loc, self.scale, validate_args=False).log_prob(log) - log
        return log_p

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:
        log: Tensor = dist.Normal(self.loc, self.scale).rsample(torch.Size(sample_shape))
        return (log.exp() - self.shift).clamp_min(0)

    @property
    def mean(self) -> Tensor:
        return (self.loc + self.scale**2 / 2).exp() - self.shift

    @property
    def variance(self) -> Tensor:
        return torch.expm1(self.scale**2) * (2 * self.loc + self.scale**2).exp()
