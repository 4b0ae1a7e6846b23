"""Distributions over grey levels k / n in [0, 1], k = 0 … n: binomial, and a mixture of discretised logistics."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.nn import functional as F
from torch.types import _size

LEVELS = 255  # n of 8-bit pixels
NEAR = 1e-3  # of a level, which single precision is off by at most


class GreyLevels(constraints.Constraint):
    """The numbers k / n, k = 0 … n.

    :param levels: n, of each entry or of all.
    """

    is_discrete = True

    def __init__(self, levels: Tensor | int) -> None:
        self.levels = levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Bool of the value's shape."""
        k = value * self.levels
        return (value >= 0) & (value <= 1) & ((k - k.round()).abs() < NEAR)


class BinomialLevels(dist.TorchDistribution):
    """``p(x = k / n) = C(n, k) π^k (1 - π)^(n - k)``, ``π = σ(logits)``: a probability of each of the n + 1 levels.

    A value between two levels counts as the nearer one.

    :param logits: any shape; it is the batch shape.
    :param levels: n, a number of at least 1, as a tensor without dimensions.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012

    def __init__(self, logits: Tensor, levels: Tensor) -> None:
        self.logits, self.levels = logits, levels
        super().__init__(logits.shape, validate_args=False)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return GreyLevels(self.levels)

    def expand(self, batch_shape: _size, _instance: object = None) -> BinomialLevels:
        return BinomialLevels(self.logits.expand(torch.Size(batch_shape)), self.levels)

    def log_prob(self, value: Tensor) -> Tensor:
        n, k = self.levels, (value * self.levels).round()
        choices = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
        return choices + k * self.logits - n * F.softplus(self.logits)

    @property
    def mean(self) -> Tensor:
        """π, in the units of x."""
        return self.logits.sigmoid()

    @property
    def variance(self) -> Tensor:
        p = self.logits.sigmoid()
        return p * (1 - p) / self.levels

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        p = self.logits.detach().sigmoid().expand(torch.Size(sample_shape) + self.batch_shape)
        return torch.binomial(self.levels.expand_as(p).contiguous(), p.contiguous()) / self.levels


class LogisticMixtureLevels(dist.TorchDistribution):
    """Mixture of logistics of which each 8-bit level has the mass of its interval, the outer ones that of the tails::

        p(x = k / 255) = Σ_m w_m [ F_m((k + ½) / 255) - F_m((k - ½) / 255) ]       F_m(t) = σ((t - μ_m) / s_m)

    with F = 0 below the lowest level, and F = 1 above the highest. Entries are independent given the latents: channels
    are not chained, unlike in the source (choice; a missing channel is then left out like any entry). A value between
    two levels counts as the nearer one.

    Source: Salimans et al. (2017), arXiv:1701.05517, equation 2.

    :param logits: of the weights w, ``[..., M]``.
    :param loc: μ, ``[..., M]``, in units of x.
    :param scale: s, ``[..., M]``, in units of x.
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012
    support = GreyLevels(LEVELS)

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor) -> None:
        self.logits, self.loc, self.scale = torch.broadcast_tensors(logits, loc, scale)
        super().__init__(self.loc.shape[:-1], validate_args=False)

    def expand(self, batch_shape: _size, _instance: object = None) -> LogisticMixtureLevels:
        shape = torch.Size(batch_shape) + self.loc.shape[-1:]
        return LogisticMixtureLevels(*(part.expand(shape) for part in (self.logits, self.loc, self.scale)))

    def log_prob(self, value: Tensor) -> Tensor:
        k = (value * LEVELS).round().unsqueeze(-1)
        width = 1 / (LEVELS * self.scale)
        upper = ((k + 0.5) / LEVELS - self.loc) / self.scale
        lower = upper - width
        # σ(b) - σ(a) = σ(b) σ(-a) (1 - exp(a - b)), without a difference of close numbers
        inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-width))
        log_p = torch.where(k <= 0, F.logsigmoid(upper), torch.where(k >= LEVELS, F.logsigmoid(-lower), inner))
        return torch.logsumexp(self.logits.log_softmax(-1) + log_p, -1)

    @property
    def mean(self) -> Tensor:
        """``∫_0^1 (1 - F)``: the mean of the mixture with its tails at 0 and 1, within half a level of the levels'."""
        mean = self.scale * (F.softplus(self.loc / self.scale) - F.softplus((self.loc - 1) / self.scale))
        return (self.logits.softmax(-1) * mean).sum(-1)

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        shape = torch.Size(sample_shape) + self.loc.shape
        with torch.no_grad():
            logits = self.logits.expand(shape)
            gumbel = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-7, 1 - 1e-7)))
            component = (logits + gumbel).argmax(-1, keepdim=True)
            loc, scale = (part.expand(shape).gather(-1, component).squeeze(-1) for part in (self.loc, self.scale))
            x = loc + scale * torch.logit(torch.rand_like(loc), eps=1e-6)
            return (x * LEVELS).round().clamp(0, LEVELS) / LEVELS
