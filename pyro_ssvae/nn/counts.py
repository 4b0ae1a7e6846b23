"""Likelihoods of counts: Poisson, negative binomial, and the latter with further zeros."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..distributions.counts import GivenSize, log_size
from .likelihood_base import Likelihood, Shape

MOST = 30.0  # of the logarithm of a rate, up or down
LARGEST_DISPERSION = 1000.0  # θ above which a negative binomial is a Poisson, for counts of ordinary size


class Poisson(Likelihood):
    """Counts: ``x ~ Poisson(λ)``, ``λ = m exp(out)`` with m the feature's mean in the training data.

    The encoder sees ``log(1 + x)``, standardised, or ``log(1 + x / ℓ)``.

    :param library_size: True takes counts relative to how many a row holds in all: ``λ = ℓ m exp(out)`` with ℓ the
        row's mean count over that of an ordinary row (the median of those with counts). The bound is then on
        log p(x | ℓ), ℓ read off x; a draw has ℓ = 1, and a reconstruction its row's ℓ. Source: scVI, Lopez et al.
        (2018).
    """

    kind = "poisson"
    measure = "mass"
    augmentation = "none"
    scales_pixels = False
    needs = "counts, whole numbers of at least 0"

    def __init__(self, input_shape: Shape, *, missing: bool = False, library_size: bool = False) -> None:
        super().__init__(input_shape, missing=missing)
        self.library_size = library_size
        self.units = (input_shape[0],) + (1,) * (len(input_shape) - 1)
        self.shift: Tensor
        self.spread: Tensor
        self.log_mean: Tensor
        self.size: Tensor
        self.register_buffer("shift", torch.zeros(self.units))
        self.register_buffer("spread", torch.ones(self.units))
        self.register_buffer("log_mean", torch.zeros(self.units))
        self.register_buffer("size", torch.ones((1,) * len(input_shape)))

    def wrong(self, x: Tensor) -> Tensor:
        return (x < 0) | ((x != x.round()) & ~x.isnan())

    def take_units(self, x: Tensor) -> None:
        """Take the mean of each feature and of an ordinary row; a feature without counts has half a count in all."""
        dims = [0, *range(2, x.dim())]
        x = x.double()
        least = 0.5 * x.shape[1] / x.numel()
        rows = x.reshape(len(x), -1).nanmean(1)
        some = rows[rows > 0]  # a row without counts is ordinary, whatever an ordinary row holds
        self.size.copy_(some.median().expand_as(self.size) if len(some) else torch.ones_like(self.size))
        relative = self.relative(x)
        self.log_mean.copy_(relative.nanmean(dims).clamp_min(least).log().reshape(self.units))
        seen = torch.log1p(relative)
        shift = seen.nanmean(dims, keepdim=True)
        spread = ((seen - shift) ** 2).nanmean(dims).sqrt().reshape(self.units)
        self.shift.copy_(shift.reshape(self.units))
        self.spread.copy_(torch.where(spread > 1e-6, spread, 1.0))

    def relative(self, x: Tensor) -> Tensor:
        """Counts, or ``x / ℓ``."""
        return x * torch.exp(-log_size(x, self.size, self.event_dim)) if self.library_size else x

    def to_units(self, x: Tensor, missing: Tensor) -> Tensor:
        # A guide may see points with noise, a count below 0 among them.
        seen = torch.log1p(self.relative(x.clamp_min(0)))
        return torch.where(missing, 0.0, (seen - self.shift) / self.spread)

    def log_rate(self, out: Tensor, size: Tensor | float = 0.0) -> Tensor:
        """``log λ`` of a row of log-size ``log ℓ``."""
        return (self.log_mean + size + out).clamp(-MOST, MOST)

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        if not self.library_size:
            return self.entries(self.base(out, 0.0))
        return GivenSize(lambda size: self.entries(self.base(out, size)), self.size, self.event_dim)

    def base(self, out: Tensor, size: Tensor | float) -> dist.TorchDistribution:
        """The entries' distributions, of a row of log-size ``log ℓ``."""
        return dist.Poisson(self.log_rate(out, size).exp(), validate_args=False)


class NegativeBinomial(Poisson):
    """As :class:`Poisson` with ``x ~ NB(mean λ, inverse dispersion θ)``: variance ``λ + λ² / θ``.

    θ is learned, one a feature or channel; up to 1,000.
    """

    kind = "negative-binomial"

    def __init__(self, input_shape: Shape, *, missing: bool = False, library_size: bool = False) -> None:
        super().__init__(input_shape, missing=missing, library_size=library_size)
        self.raw_dispersion = nn.Parameter(torch.zeros(self.units))

    @property
    def dispersion(self) -> Tensor:
        """θ: about ``exp(raw_dispersion)`` far below its largest value, and at least 0.001."""
        return 1e-3 + LARGEST_DISPERSION * torch.sigmoid(self.raw_dispersion - math.log(LARGEST_DISPERSION))

    def base(self, out: Tensor, size: Tensor | float) -> dist.TorchDistribution:
        log_rate = self.log_rate(out, size)
        theta = self.dispersion.expand_as(log_rate)
        return dist.NegativeBinomial(theta, logits=log_rate - theta.log(), validate_args=False)


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """As :class:`NegativeBinomial`, a count being 0 with probability σ(gate) before all else (drop-out).

    The decoder puts out two numbers an entry, ``out`` and the gate's logit.
    """

    kind = "zero-inflated-negative-binomial"
    per_entry = 2

    def base(self, out: Tensor, size: Tensor | float) -> dist.TorchDistribution:
        rate, gate = self.split(out, self.per_entry)
        log_rate = self.log_rate(rate, size)
        theta = self.dispersion.expand_as(log_rate)
        logits = log_rate - theta.log()
        return dist.ZeroInflatedNegativeBinomial(
            theta, logits=logits, gate_logits=gate.expand_as(logits), validate_args=False
        )
