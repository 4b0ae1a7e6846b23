"""Likelihoods of numbers in [0, 1], such as pixels. The encoder sees them as they are."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn import functional as F

from ..distributions.continuous_bernoulli import ContinuousBernoulli as ContinuousBernoulliDistribution
from ..distributions.grey_levels import LEVELS, BinomialLevels, LogisticMixtureLevels
from .likelihood_base import Likelihood, Shape

COMPONENTS = 5  # of the logistic mixture
SMALLEST_SCALE = 2e-4  # of a logistic, in units of x: a twentieth of an 8-bit level


class Pixels(Likelihood):
    """Numbers in [0, 1]."""

    scales_pixels = True
    needs = "numbers in [0, 1]; scale them, or use likelihood='normal'"

    def wrong(self, x: Tensor) -> Tensor:
        return (x < 0) | (x > 1)

    def wanted(self, x: Tensor) -> str:
        low, high = x[~x.isnan()].amin().item(), x[~x.isnan()].amax().item()
        return f"the values go from {low:g} to {high:g}, and {super().wanted(x)}"


class Bernoulli(Pixels):
    """``log p(x | out) = Σ x log σ(out) + (1 - x) log(1 - σ(out))``.

    :param binarize: True draws black-or-white pixels ``b ~ Bernoulli(x)`` afresh at every evaluation. False, the
        default, is the continuous relaxation: the formula above on grey levels, which is the expectation of the former
        over its draws (the same gradient on average, with less noise), but no normalised density of grey levels.
    """

    kind = "bernoulli"
    measure = "relaxation"

    def __init__(self, input_shape: Shape, *, missing: bool = False, binarize: bool = False) -> None:
        super().__init__(input_shape, missing=missing)
        self.binarize = binarize

    def target(self, x: Tensor) -> Tensor:
        """What the site ``x`` observes."""
        if not self.binarize:
            return x
        missing = x.isnan()
        return torch.where(missing, x, torch.bernoulli(torch.where(missing, 0.0, x)))

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        # Grey levels lie outside a Bernoulli's support, so Pyro's check of the value is off.
        return self.entries(dist.Bernoulli(logits=out, validate_args=False))


class ContinuousBernoulli(Pixels):
    """``p(x | out) = a exp(a x) / (exp(a) - 1)``, ``a = out``: a density of grey levels, in nats of x in [0, 1].

    Of pictures with pixels near 0 and 1, z gains about ten times the nats of a Bernoulli's; the labels' terms, whose
    weights are in a Bernoulli's nats, count ten times (choice: docs/recipe.md).

    Source: Loaiza-Ganem, Cunningham (2019), arXiv:1907.06845.
    """

    kind = "continuous-bernoulli"
    label_weight = 10.0

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        return self.entries(ContinuousBernoulliDistribution(out), 0.5)


class Binomial(Pixels):
    """``x = k / n``, ``k ~ Binomial(n, σ(out))``: a probability of each of n + 1 grey levels.

    n is taken from the training data: the smallest up to 255 of which all values are multiples of 1/n (digits: 16;
    black and white: 1, a Bernoulli), and 255 where there is none. A value between two levels counts as the nearer one.
    """

    kind = "binomial"
    measure = "mass"
    by_column = False

    def __init__(self, input_shape: Shape, *, missing: bool = False, levels: int | None = None) -> None:
        super().__init__(input_shape, missing=missing)
        self.levels: Tensor
        self.register_buffer("levels", torch.tensor(float(levels or LEVELS)))
        self.given = levels is not None

    def take_units(self, x: Tensor) -> None:
        if not self.given:
            self.levels.fill_(number_of_levels(x))

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        return self.entries(BinomialLevels(out, self.levels))


def number_of_levels(x: Tensor) -> int:
    """Return the smallest n up to 255 such that every value in [0, 1] is a multiple of 1 / n; 255 where there is none.

    A value may be 1e-4 of a level off, so that it is found in single precision too.
    """
    values = x[~x.isnan()].unique().double()
    for n in range(1, LEVELS):
        if bool(((values * n - (values * n).round()).abs() < 1e-4).all()):
            return n
    return LEVELS


class DiscretizedLogisticMixture(Pixels):
    """Mixture of five logistics for each entry, each 8-bit level with the mass of its interval.

    The decoder puts out 15 numbers an entry: weights, means (of which the first ones lie evenly over [0, 1]) and
    scales. ``log p`` is of the 256 levels.

    Source: Salimans et al. (2017), arXiv:1701.05517.
    """

    kind = "discretized-logistic-mixture"
    measure = "mass"
    per_entry = 3 * COMPONENTS

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        logits, loc, raw = (torch.stack(list(p), -1) for p in _thirds(self.split(out, self.per_entry)))
        centres = (torch.arange(COMPONENTS, device=out.device, dtype=out.dtype) + 0.5) / COMPONENTS
        scale = SMALLEST_SCALE + F.softplus(raw - 3)
        return self.entries(LogisticMixtureLevels(logits, loc + centres, scale))


def _thirds(parts: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    n = len(parts) // 3
    return parts[:n], parts[n : 2 * n], parts[2 * n :]
