"""The continuous Bernoulli: a density on [0, 1] with the Bernoulli's log-odds."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.types import _size

SMALL = 0.1  # log-odds below which series take the place of differences of close numbers


class ContinuousBernoulli(dist.TorchDistribution):
    """``p(x) = a exp(a x) / (exp(a) - 1)`` on [0, 1] with the log-odds a; uniform at a = 0.

    With λ = σ(a) this is ``C(λ) λ^x (1 - λ)^(1 - x)``, ``C(λ) = 2 artanh(1 - 2λ) / (1 - 2λ)``. Written in a it is exact
    for every finite a, where ``torch.distributions.ContinuousBernoulli`` cuts λ off.

    Source: Loaiza-Ganem, Cunningham (2019), arXiv:1907.06845.

    :param logits: a, any shape; it is the batch shape.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    def expand(self, batch_shape: _size, _instance: object = None) -> ContinuousBernoulli:
        return ContinuousBernoulli(self.logits.expand(torch.Size(batch_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """``a x - log((exp(a) - 1) / a)``."""
        a, size = self.logits, self.logits.abs()
        small = size < SMALL
        safe = torch.where(small, 1.0, size)
        # log((e^a - 1) / a) = a/2 + log(2 sinh(|a|/2) / |a|)
        large = safe / 2 + torch.log1p(-torch.exp(-safe)) - safe.log()
        square = torch.where(small, a, 0.0) ** 2
        series = square / 24 - square**2 / 2880
        return a * (value - 0.5) - torch.where(small, series, large)

    @property
    def mean(self) -> Tensor:
        """``1 / (1 - exp(-a)) - 1 / a``, whose sum at a and -a is 1."""
        a, size = self.logits, self.logits.abs()
        small = size < SMALL
        safe, near = torch.where(small, 1.0, size), torch.where(small, a, 0.0)
        above = -1 / torch.expm1(-safe) - 1 / safe  # of -|a| the exponential would overflow, and its gradient be NaN
        large = torch.where(a > 0, above, 1 - above)
        return torch.where(small, 0.5 + near / 12 - near**3 / 720, large)

    @property
    def variance(self) -> Tensor:
        """``1 / a² - 1 / (4 sinh²(a / 2))``."""
        a = self.logits
        small = a.abs() < SMALL
        safe, near = torch.where(small, 1.0, a), torch.where(small, a, 0.0)
        large = 1 / safe**2 - 1 / (4 * torch.sinh((safe / 2).clamp(-40, 40)) ** 2)
        return torch.where(small, 1 / 12 - near**2 / 240, large)

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:
        """``x = log(1 - u + u exp(a)) / a`` of uniform u."""
        a = self.logits.expand(torch.Size(sample_shape) + self.batch_shape)
        u = torch.rand_like(a).clamp(1e-7, 1 - 1e-7)
        small = a.abs() < 1e-3
        safe = torch.where(small, 1.0, a)
        large = torch.logaddexp(u.log() + safe, torch.log1p(-u)) / safe
        return torch.where(small, u + a * u * (1 - u) / 2, large).clamp(0, 1)
