"""Likelihoods p(x | decoder's output): what a data point is taken to be, and in which units.

A likelihood turns the decoder's output ``[..., *input_shape]`` into a distribution over ``x``. It also owns the units:
``standardize(x)`` is what the encoder sees, ``fit(x)`` takes the units from training data.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, cast

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError, nearest
from .networks import AddClass


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

    distribution: ClassVar[Any] = dist.Normal
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
LikelihoodName = Literal["bernoulli", "normal", "laplace"]
LIKELIHOODS: dict[str, type[Likelihood]] = {"bernoulli": Bernoulli, "normal": Normal, "laplace": Laplace}


def named_likelihood(name: str, input_shape: tuple[int, ...], **options: Any) -> Likelihood:
    """Return the likelihood of that name; raise :class:`InputError` where there is none."""
    if name not in LIKELIHOODS:
        raise InputError(f"likelihood: there is no {name!r}{nearest(name, LIKELIHOODS)}")
    return LIKELIHOODS[name](input_shape, **options)


def likelihood_for(
    likelihood: str | nn.Module | None, decoder: nn.Module, latent_dim: int, class_dim: int
) -> tuple[Likelihood, tuple[int, ...]]:
    """Return the likelihood, by default Bernoulli for images and Normal for the rest, and the decoder's shape.

    :raises InputError: no likelihood of that name, or a decoder that does not fit.
    """
    p = next(decoder.parameters())
    z, c = p.new_zeros(2, latent_dim), p.new_zeros(2, class_dim)
    training = decoder.training
    try:
        with torch.no_grad():
            input_shape = tuple(decoder.eval()(z, c).shape[1:])
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:150]
        raise InputError(f"decoder: it does not take z of latent_dim {latent_dim} ({reason})") from None
    finally:
        decoder.train(training)
    inner = decoder.decoder if isinstance(decoder, AddClass) else decoder
    shaping = (nn.Flatten, nn.Unflatten, nn.Identity)
    last = [None, *(module for module in inner.modules() if not isinstance(module, shaping))][-1]
    if isinstance(last, nn.Sigmoid):
        raise InputError("decoder: it ends in a Sigmoid, but likelihoods take its output before that; leave it out")
    if isinstance(likelihood, nn.Module):
        return cast(Likelihood, likelihood), input_shape
    return named_likelihood(
        likelihood or ("bernoulli" if len(input_shape) == 3 else "normal"), input_shape
    ), input_shape
