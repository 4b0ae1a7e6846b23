"""What every likelihood p(x | decoder's output) has: shapes, units, the check of values, entries that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..distributions.observed import ObservedEntries
from ..errors import InputError

Shape = tuple[int, ...]
Measure = Literal["density", "mass", "relaxation", "mixed"]


@dataclass(frozen=True, kw_only=True)
class LikelihoodOptions:
    """Options of likelihoods that are made by name."""

    missing: bool = False
    """Whether the encoder also sees which entries of x are there."""
    columns: tuple[str, ...] = ()
    """Of ``mixed``: the kind of each column."""
    categories: int | None = None
    """Of ``categorical``: the number of values that an entry may have."""
    library_size: bool = False
    """Of counts: given how many a row holds in all."""


class Likelihood(nn.Module):
    """A distribution over the entries of a point, given the decoder's output, and the units that x has.

    Entries are independent given the latents. One that is NaN was not observed: the log-probability is summed over
    the others, and the encoder sees 0 in its place, in standardised units.

    :param input_shape: shape of a point: ``(D,)``, ``(C, T)`` or ``(C, H, W)``.
    :param missing: True gives the encoder the mask, 1 where an entry is there, as further columns or channels.
    :cvar kind: the likelihood's name.
    :cvar measure: what ``log_prob`` is of: a density in the units of x, a probability of its values, or neither.
    :cvar augmentation: what ``augment="auto"`` of :func:`pyro_ssvae.fit` means: noise suits no counts or categories.
    :cvar by_column: whether its units are of each column or channel; else of all of x.
    :cvar scales_pixels: whether uint8 values mean pixels in [0, 1]; None where those of pictures do.
    :cvar needs: the values that it takes, in words.
    :cvar label_weight: what the weights of the labels' terms are multiplied by, where z gains that much more of x.
    :cvar per_entry: how many numbers the decoder puts out for an entry, where no option says.

    Sources: Nazábal et al. (2020), arXiv:1807.03653; Mattei, Frellsen (2019), arXiv:1812.02633.
    """

    kind: ClassVar[str] = ""
    measure: ClassVar[Measure] = "density"
    augmentation: ClassVar[str] = "auto"
    by_column: ClassVar[bool] = True
    scales_pixels: ClassVar[bool | None] = None
    needs: ClassVar[str] = "finite numbers"
    label_weight: ClassVar[float] = 1.0
    per_entry: ClassVar[int] = 1

    def __init__(self, input_shape: Shape, *, missing: bool = False) -> None:
        super().__init__()
        self.input_shape = tuple(input_shape)
        self.missing = missing
        self.event_dim = len(self.input_shape)

    @classmethod
    def numbers(cls, options: LikelihoodOptions) -> int:
        """How many numbers the decoder puts out for an entry."""
        return cls.per_entry

    @property
    def takes_pixels(self) -> bool:
        """Whether uint8 values mean pixels in [0, 1], and no numbers."""
        return self.event_dim == 3 if self.scales_pixels is None else self.scales_pixels

    @property
    def encoded(self) -> int:
        """Columns or channels that the encoder sees, without the mask."""
        return self.input_shape[0]

    @property
    def decoded(self) -> int:
        """Columns or channels that the decoder puts out."""
        return self.per_entry * self.input_shape[0]

    @property
    def codes(self) -> list[int]:
        """Columns or channels whose values are codes: one is not more than another."""
        return []

    @property
    def encoder_shape(self) -> Shape:
        """Shape of what :meth:`standardize` gives."""
        return (self.encoded + self.missing * self.input_shape[0], *self.input_shape[1:])

    @property
    def decoder_shape(self) -> Shape:
        """Shape of what the decoder puts out: several numbers of an entry lie ``[number, column, …]`` in its first."""
        return (self.decoded, *self.input_shape[1:])

    def fit(self, x: Tensor) -> None:
        """Check training data ``[N, *input_shape]``, and take the units from them.

        :raises InputError: values that this likelihood does not take, or a column or channel without any value.
        """
        self.check(x)
        empty = x.isnan().all(0).reshape(self.input_shape[0], -1).all(1)
        if empty.any():
            what = "column" if self.event_dim == 1 else "channel"
            raise InputError(f"x: {what} {int(empty.nonzero()[0])} has no value in any row; leave it out")
        self.take_units(x)

    def take_units(self, x: Tensor) -> None:
        """Take the units from checked training data; here there is nothing to take."""

    def check(self, x: Tensor) -> None:
        """Raise :class:`InputError` naming the first entry that cannot be used, or a row without any value."""
        complain(x, x.isinf(), "finite numbers are needed, or NaN where an entry is missing")
        empty = x.isnan().reshape(len(x), -1).all(1)
        if empty.any():
            raise InputError(f"x: row {int(empty.nonzero()[0])} has no value at all, only NaN; leave it out")
        self.check_support(x)

    def check_support(self, x: Tensor, columns: Sequence[int] | None = None) -> None:
        """Raise :class:`InputError` naming the first entry outside of the support.

        :param columns: numbers of the columns of ``x``, where it is a part of a table.
        """
        wrong = self.wrong(x)
        if wrong.any():  # its words take a look at all of x, which has a value only then
            complain(x, wrong, self.wanted(x), columns)

    def wrong(self, x: Tensor) -> Tensor:
        """Which entries are outside of the support; NaN is not."""
        return torch.zeros_like(x, dtype=torch.bool)

    def wanted(self, x: Tensor) -> str:
        """What would be right, in words."""
        return f"likelihood={self.kind!r} needs {self.needs}"

    def standardize(self, x: Tensor) -> Tensor:
        """What the encoder sees of ``x [B, *input_shape]``: ``[B, *encoder_shape]``, 0 where an entry is missing."""
        missing = x.isnan()
        seen = self.to_units(x, missing)
        return torch.cat([seen, (~missing).to(seen)], -self.event_dim) if self.missing else seen

    def to_units(self, x: Tensor, missing: Tensor) -> Tensor:
        """``x`` in the encoder's units, 0 where an entry is missing."""
        return torch.where(missing, 0.0, x)

    def target(self, x: Tensor) -> Tensor:
        """What the site ``x`` observes, in the units of x; NaN where an entry is missing."""
        return x

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        """The distribution of x of decoder outputs ``[..., *decoder_shape]``, event shape ``input_shape``."""
        raise NotImplementedError

    def entries(self, base: dist.TorchDistribution, fill: Tensor | float = 0.0) -> ObservedEntries:
        """The entries' distributions as one event."""
        return ObservedEntries(base, self.event_dim, fill)

    def split(self, out: Tensor, numbers: int) -> Sequence[Tensor]:
        """The numbers of each entry, ``[..., *input_shape]`` each."""
        return out.unflatten(-self.event_dim, (numbers, -1)).unbind(-self.event_dim - 1)

    def mean(self, out: Tensor) -> Tensor:
        """E[x | out], in the units of x."""
        mean: Tensor = self(out).mean
        return mean


def complain(x: Tensor, wrong: Tensor, words: str, columns: Sequence[int] | None = None) -> None:
    """Raise :class:`InputError` naming the first wrong entry of ``x``, if any, and what would be right."""
    if not wrong.any():
        return
    row, *entry = (int(i) for i in wrong.nonzero()[0])
    value = float(x[(row, *entry)])
    if columns is not None:
        entry = [columns[entry[0]]]
    place = f"column {entry[0]}" if len(entry) == 1 else f"entry {entry}"
    raise InputError(f"x: row {row}, {place} is {value:g}; {words}")


class _Floor(torch.autograd.Function):
    """``max(value, floor)`` whose gradient below the floor passes where a step along it leads back up."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, value: Tensor, floor: float) -> Tensor:
        ctx.save_for_backward(value < floor)
        return value.clamp_min(floor)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        (below,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return torch.where(below & (gradients[0] > 0), 0.0, gradients[0]), None


def floored(value: Tensor, floor: float) -> Tensor:
    """``max(value, floor)``: below the floor a loss can raise the value, and not lower it any further.

    A clamp has no gradient there, so that what once fell below it would stay for good.
    """
    result: Tensor = _Floor.apply(value, floor)
    return result
