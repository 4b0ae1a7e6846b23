"""Likelihoods p(x | decoder's output): what a data point is taken to be, and in which units.

A likelihood turns the decoder's output ``[..., *input_shape]`` into a distribution over ``x``. It also owns the units:
``standardize(x)`` is what the encoder sees, ``fit(x)`` takes the units from training data.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError


class Bernoulli(nn.Module):
    """Pixels in [0, 1]: ``log p(x | out) = Σ x log σ(out) + (1 - x) log(1 - σ(out))``.

    :param binarize: True draws black-or-white pixels ``b ~ Bernoulli(x)`` afresh at every evaluation. False, the
        default, is the continuous relaxation: the formula above on grey levels, which is the expectation of the former
        over its draws (the same gradient on average, with less noise), but no normalised density of grey levels.
    """

    def __init__(self, input_shape: tuple[int, ...], *, binarize: bool = False) -> None:
        super().__init__()
        self.event_dim = len(input_shape)
        self.binarize = binarize

    def fit(self, x: Tensor) -> None:
        """Pixels carry their own units: nothing to take from the data, which must lie in [0, 1]."""
        low, high = x.amin().item(), x.amax().item()
        if low < 0 or high > 1:
            raise InputError(
                f"x: values from {low:g} to {high:g}, but a Bernoulli likelihood needs them in [0, 1]; "
                "scale them, or use likelihood='normal'"
            )

    def standardize(self, x: Tensor) -> Tensor:
        return x

    def target(self, x: Tensor) -> Tensor:
        """What the site ``x`` observes."""
        return torch.bernoulli(x) if self.binarize else x

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        # Grey levels lie outside a Bernoulli's support, so Pyro's check of the value is off.
        return dist.Bernoulli(logits=out, validate_args=False).to_event(self.event_dim)

    def mean(self, out: Tensor) -> Tensor:
        """E[x | out], the image to show."""
        return out.sigmoid()


class Normal(nn.Module):
    """Real features: ``x ~ N(m + s out, (s σ)^2)`` with m, s the training data's mean and standard deviation.

    Working in standardised units makes the same networks and learning rate fit features of any size; densities are in
    the data's own units all the same.

    :param scale: ``"learned"`` (one σ a feature; a channel, for series and images) or a fixed σ > 0, in standardised
        units. A learned σ is kept above 0.05, so that a constant feature cannot swallow the bound.
    """

    distribution: Any = dist.Normal
    fixed_scale: Tensor

    def __init__(self, input_shape: tuple[int, ...], *, scale: float | Literal["learned"] = "learned") -> None:
        super().__init__()
        self.event_dim = len(input_shape)
        units = (input_shape[0],) + (1,) * (len(input_shape) - 1)
        self.shift: Tensor
        self.spread: Tensor
        self.register_buffer("shift", torch.zeros(units))
        self.register_buffer("spread", torch.ones(units))
        if scale == "learned":
            self.raw_scale = nn.Parameter(torch.full(units, math.log(math.expm1(1.0))))
        elif isinstance(scale, (int, float)) and scale > 0:
            self.register_buffer("fixed_scale", torch.tensor(float(scale)))
        else:
            raise InputError(f"scale: {scale!r}; 'learned' or a number above 0 is needed")
        self.learned = scale == "learned"

    @property
    def scale(self) -> Tensor:
        """σ in standardised units."""
        return F.softplus(self.raw_scale).clamp_min(0.05) if self.learned else self.fixed_scale

    def fit(self, x: Tensor) -> None:
        """Take m and s from training data ``[N, *input_shape]``; a constant feature keeps s = 1."""
        dims = [0, *range(2, x.dim())]
        x = x.double()
        self.shift.copy_(x.mean(dims).reshape(self.shift.shape))
        spread = x.std(dims, correction=0).reshape(self.spread.shape)
        self.spread.copy_(torch.where(spread > 1e-8 * x.abs().amax().clamp_min(1e-30), spread, 1.0))

    def standardize(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.spread

    def target(self, x: Tensor) -> Tensor:
        return x

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        return self.distribution(self.mean(out), (self.spread * self.scale).expand_as(out)).to_event(self.event_dim)

    def mean(self, out: Tensor) -> Tensor:
        return self.shift + self.spread * out


class Laplace(Normal):
    """As :class:`Normal` with ``x ~ Laplace(m + s out, s b)``: errors count by size, not by square (ReVAE's CelebA)."""

    distribution = dist.Laplace


Likelihood = Bernoulli | Normal
LIKELIHOODS: dict[str, Any] = {"bernoulli": Bernoulli, "normal": Normal, "laplace": Laplace}
