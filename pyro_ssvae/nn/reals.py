"""Likelihoods of real numbers, in standardised units: Normal, Laplace, Student's t, log-normal, and it with zeros."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..distributions.shifted_log_normal import ShiftedLogNormal
from ..distributions.zero_inflated import ZeroInflated
from ..errors import InputError
from .likelihood_base import Likelihood, Measure, Shape, floored

SMALLEST_SCALE = 0.05  # of a learned σ, in standardised units
MOST_SPREAD = 6e18  # of a feature; the square of three of them is a number in float32
MOST_LOG = 30.0  # of the logarithm of a number, up or down from the mean
MOST_SORTED = 1_000_000  # values of a column whose quantiles are taken


def mean_and_spread(x: Tensor, dims: list[int]) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of each feature of x in double precision, without gaps; dimensions
    are kept."""
    mean = x.nanmean(dims, keepdim=True)
    return mean, ((x - mean) ** 2).nanmean(dims, keepdim=True).sqrt()


def of_rounding(x: Tensor, dims: list[int]) -> Tensor:
    """Return the spread that rounding alone may give a constant ``[C]``: each feature is judged by its own size."""
    return 1e-8 * x.nan_to_num().abs().amax(dims)


class Normal(Likelihood):
    """Real features: ``x ~ N(m + s out, (s σ)^2)`` with m, s the training data's mean and standard deviation.

    Working in standardised units makes the same networks and learning rate fit features of any size; densities are in
    the data's own units all the same. Missing entries have no part in m and s.

    :param scale: ``"learned"`` (one σ a feature; a channel, for series and images) or a fixed σ > 0, in standardised
        units. A learned σ is kept above 0.05, so that a constant feature cannot swallow the bound; at the floor it
        keeps the gradient that leads back up. It begins at 1: the label is used before z is. From 0.3, on digits, z
        took over what y says (of enumerated labels, do(y=k) read as k in .73 of the draws).
    :cvar least_spread: the smallest s whose density float32 can hold.
    """

    kind = "normal"
    least_spread: ClassVar[float] = 1e-18
    fixed_scale: Tensor

    def __init__(
        self, input_shape: Shape, *, missing: bool = False, scale: float | Literal["learned"] = "learned"
    ) -> None:
        super().__init__(input_shape, missing=missing)
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
        return floored(F.softplus(self.raw_scale), SMALLEST_SCALE) if self.learned else self.fixed_scale

    def take_units(self, x: Tensor) -> None:
        """Take m and s from training data ``[N, *input_shape]``; a constant feature keeps s = 1.

        :raises InputError: s is beyond what float32 can hold a density of.
        """
        dims = [0, *range(2, x.dim())]
        x = x.double()
        shift, spread = self.centre_and_spread(x, dims)
        varied = spread > of_rounding(x, dims)
        outside = varied & ((spread < self.least_spread) | (spread > MOST_SPREAD))
        if outside.any():
            some = x[:, int(outside.nonzero()[0])]
            some = some[~some.isnan()]
            what = "column" if x.dim() == 2 else "channel"
            raise InputError(
                f"x: {what} of values from {some.min():g} to {some.max():g}; a spread from {self.least_spread:g} to "
                f"{MOST_SPREAD:g} is needed, in another unit"
            )
        self.shift.copy_(shift.reshape(self.shift.shape))
        self.spread.copy_(torch.where(varied, spread, 1.0).reshape(self.spread.shape))

    def centre_and_spread(self, x: Tensor, dims: list[int]) -> tuple[Tensor, Tensor]:
        """m and s of each feature, ``[C]``."""
        shift, spread = mean_and_spread(x, dims)
        return shift.flatten(), spread.flatten()

    def to_units(self, x: Tensor, missing: Tensor) -> Tensor:
        return torch.where(missing, 0.0, (x - self.shift) / self.spread)

    def located(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of each entry, in the units of x."""
        return self.shift + self.spread * out, (self.spread * self.scale).expand_as(out)

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        return self.entries(dist.Normal(*self.located(out)), self.shift)


class Laplace(Normal):
    """As :class:`Normal` with ``x ~ Laplace(m + s out, s b)``: errors count by size, not by square (ReVAE's CelebA)."""

    kind = "laplace"
    least_spread = 1e-36

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        return self.entries(dist.Laplace(*self.located(out)), self.shift)


class StudentT(Normal):
    """As :class:`Normal` with ``x ~ m + s (out + σ t_ν)``: heavy tails, in which outliers hardly count.

    ν > 1 is learned, one a feature or channel (below 1 there would be no mean). m is the median and s the interquartile
    range over a normal's, 1.349, which outliers do not move.
    """

    kind = "student-t"
    least_spread = 1e-36

    def __init__(
        self, input_shape: Shape, *, missing: bool = False, scale: float | Literal["learned"] = "learned"
    ) -> None:
        super().__init__(input_shape, missing=missing, scale=scale)
        self.raw_df = nn.Parameter(torch.full_like(self.shift, 4.0))

    @property
    def df(self) -> Tensor:
        """ν."""
        return 1.1 + F.softplus(self.raw_df)

    def centre_and_spread(self, x: Tensor, dims: list[int]) -> tuple[Tensor, Tensor]:
        rows = x.movedim(1, 0).flatten(1)
        rows = rows[:, :: math.ceil(rows.shape[1] / MOST_SORTED)]
        at = torch.tensor([0.25, 0.5, 0.75], dtype=x.dtype, device=x.device)
        low, middle, high = rows.nanquantile(at, 1)
        _, spread = super().centre_and_spread(x, dims)
        middle = torch.where(middle.isnan(), 0.0, middle)
        return middle, torch.where(high > low, (high - low) / 1.349, spread)

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        loc, scale = self.located(out)
        return self.entries(dist.StudentT(self.df.expand_as(out), loc, scale), self.shift)


class LogNormal(Normal):
    """Positive numbers of widely different size: ``log(x + c) ~ N(m + s out, (s σ)^2)``, m and s those of log(x + c).

    A density of x, in its own units: that of the logarithm over ``x + c``. The encoder sees the standardised logarithm.
    c is the 5 % quantile of a feature's positive training values, so that 0 has a density and the smallest values,
    whose logarithms lie far off, do not stretch the scale.
    """

    kind = "log-normal"
    augmentation = "none"
    scales_pixels = False
    needs = "numbers of at least 0"

    def __init__(
        self, input_shape: Shape, *, missing: bool = False, scale: float | Literal["learned"] = "learned"
    ) -> None:
        super().__init__(input_shape, missing=missing, scale=scale)
        self.least: Tensor
        self.register_buffer("least", torch.ones_like(self.shift))

    def wrong(self, x: Tensor) -> Tensor:
        return x < 0

    def take_units(self, x: Tensor) -> None:
        rows = x.movedim(1, 0).flatten(1)
        rows = rows[:, :: math.ceil(rows.shape[1] / MOST_SORTED)].double()
        least = torch.where(rows > 0, rows, torch.nan).nanquantile(0.05, 1).nan_to_num(1.0)
        self.least.copy_(least.reshape(self.least.shape))
        super().take_units((x.double() + self.least).log())

    def to_units(self, x: Tensor, missing: Tensor) -> Tensor:
        # A guide may see points with noise, a number below 0 among them.
        return super().to_units((x.clamp_min(0) + self.least).log(), missing)

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        loc, scale = self.located(out.clamp(-MOST_LOG, MOST_LOG))
        return self.entries(ShiftedLogNormal(loc, scale, self.least), 1.0)


class ZeroInflatedLogNormal(LogNormal):
    """As :class:`LogNormal` of the numbers above 0; 0 itself has the probability ``σ(gate + log(n_0 / n_+))``.

    For amounts that many rows have none of, such as debts. n_0 and n_+ are how many of a feature's training values are
    0 and above; m, s and c are of those above. The decoder puts out two numbers an entry, ``out`` and ``gate``. The
    encoder sees two: the standardised logarithm, 0 where there is none, and 1 or -1, whether there is one.
    """

    kind = "zero-inflated-log-normal"
    measure: ClassVar[Measure] = "mixed"
    per_entry = 2

    def __init__(
        self, input_shape: Shape, *, missing: bool = False, scale: float | Literal["learned"] = "learned"
    ) -> None:
        super().__init__(input_shape, missing=missing, scale=scale)
        self.log_odds: Tensor
        self.register_buffer("log_odds", torch.zeros_like(self.shift))

    @property
    def encoded(self) -> int:
        return 2 * self.input_shape[0]

    def take_units(self, x: Tensor) -> None:
        dims = [0, *range(2, x.dim())]
        zeros, others = (x == 0).sum(dims) + 0.5, (x > 0).sum(dims) + 0.5
        self.log_odds.copy_((zeros / others).log().reshape(self.log_odds.shape))
        super().take_units(torch.where(x > 0, x, torch.nan))

    def centre_and_spread(self, x: Tensor, dims: list[int]) -> tuple[Tensor, Tensor]:
        shift, spread = super().centre_and_spread(x, dims)
        return shift.nan_to_num(), spread.nan_to_num()  # of a feature without a number above 0

    def to_units(self, x: Tensor, missing: Tensor) -> Tensor:
        amount = super().to_units(x, missing | (x <= 0))
        there = torch.where(missing, 0.0, (x > 0).to(amount) * 2 - 1)
        return torch.cat([amount, there], -self.event_dim)

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        amount, gate = self.split(out, self.per_entry)
        loc, scale = self.located(amount.clamp(-MOST_LOG, MOST_LOG))
        above = ShiftedLogNormal(loc, scale, self.least)
        return self.entries(ZeroInflated(gate + self.log_odds, above), 1.0)
