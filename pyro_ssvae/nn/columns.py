"""Likelihoods of categories, and of tables whose columns are of several kinds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..distributions.columns import Columns
from ..distributions.counts import Codes
from ..errors import InputError, nearest
from .counts import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from .likelihood_base import Likelihood, LikelihoodOptions, Shape
from .pixels import Bernoulli, Binomial, ContinuousBernoulli
from .reals import Laplace, LogNormal, Normal, StudentT, ZeroInflatedLogNormal


class Categorical(Likelihood):
    """Codes 0 to C - 1: ``p(x = k | out) = softmax(out)_k``. The encoder sees C columns or channels, one-hot.

    The mean is the most probable code.

    :param categories: C, the number of values that an entry may have.
    """

    kind = "categorical"
    measure = "mass"
    augmentation = "none"
    scales_pixels = False

    def __init__(self, input_shape: Shape, *, missing: bool = False, categories: int | None = None) -> None:
        super().__init__(input_shape, missing=missing)
        self.categories = number_of(categories)

    @classmethod
    def numbers(cls, options: LikelihoodOptions) -> int:
        return number_of(options.categories)

    @property
    def encoded(self) -> int:
        return self.categories * self.input_shape[0]

    @property
    def decoded(self) -> int:
        return self.categories * self.input_shape[0]

    @property
    def codes(self) -> list[int]:
        return list(range(self.input_shape[0]))

    def wrong(self, x: Tensor) -> Tensor:
        return ((x < 0) | (x >= self.categories) | (x != x.round())) & ~x.isnan()

    def wanted(self, x: Tensor) -> str:
        return f"a category of {self.categories} is a whole number from 0 to {self.categories - 1}"

    def to_units(self, x: Tensor, missing: Tensor) -> Tensor:
        codes = torch.arange(self.categories, device=x.device, dtype=x.dtype)
        hot = x.unsqueeze(-self.event_dim - 1) == codes.reshape(-1, *(1,) * self.event_dim)
        return hot.to(x.dtype).flatten(-self.event_dim - 1, -self.event_dim)

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        logits = out.unflatten(-self.event_dim, (self.categories, -1)).movedim(-self.event_dim - 1, -1)
        return self.entries(Codes(logits))


def number_of(categories: int | None) -> int:
    """The number of categories; raise :class:`InputError` where it is not given."""
    if categories is None or categories < 2:
        raise InputError(f"categories: {categories}; 'categorical' needs how many values an entry may have, at least 2")
    return categories


KINDS: dict[str, type[Likelihood]] = {
    kind.kind: kind
    for kind in (
        Normal, Laplace, StudentT, LogNormal, ZeroInflatedLogNormal, Bernoulli, ContinuousBernoulli, Binomial,
        Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial, Categorical,
    )
}  # fmt: skip
"""What a column of a table may be."""


class Mixed(Likelihood):
    """A table whose columns are of several kinds: ``log p(x | out) = Σ_d log p_d(x_d | out_d)``.

    Columns of a kind share a module; each keeps units and parameters of its own. The encoder sees numbers in
    standardised units, those beyond 3 drawn in (:func:`drawn_in`), categories one-hot.

    :param columns: the kind of each column: ``"normal"``, ``"laplace"``, ``"student-t"``, ``"log-normal"``,
        ``"zero-inflated-log-normal"``, ``"bernoulli"``, ``"continuous-bernoulli"``, ``"binomial"``, ``"poisson"``,
        ``"negative-binomial"``, ``"zero-inflated-negative-binomial"``, or ``"categorical:3"``, of 3 values.

    Source: Nazábal et al. (2020), arXiv:1807.03653.
    """

    kind = "mixed"
    measure = "mixed"
    scales_pixels = False
    augmentation = "hide"

    def __init__(self, input_shape: Shape, *, missing: bool = False, columns: Sequence[str] = ()) -> None:
        super().__init__(input_shape, missing=missing)
        if len(input_shape) != 1 or len(columns) != input_shape[0]:
            raise InputError(
                f"columns: {len(columns)} are named, and x has shape {list(input_shape)}; a kind for each column of a "
                "table is needed, such as columns=('normal', 'categorical:3')"
            )
        self.columns = tuple(columns)
        self.groups = groups_of(self.columns)
        self.parts = nn.ModuleList(part_of(self.columns[group[0]], len(group)) for group in self.groups)
        for i, group in enumerate(self.groups):
            self.register_buffer(f"place_{i}", torch.tensor(group), persistent=False)

    @property
    def likelihoods(self) -> list[Likelihood]:
        """The likelihood of each group of columns."""
        return [part for part in self.parts if isinstance(part, Likelihood)]

    @property
    def places(self) -> list[Tensor]:
        """The columns of each group."""
        return [self.get_buffer(f"place_{i}") for i in range(len(self.groups))]

    @property
    def encoded(self) -> int:
        return sum(part.encoded for part in self.likelihoods)

    @property
    def decoded(self) -> int:
        return sum(part.decoded for part in self.likelihoods)

    @property
    def codes(self) -> list[int]:
        return [group[i] for part, group in zip(self.likelihoods, self.groups) for i in part.codes]

    def take_units(self, x: Tensor) -> None:
        for part, place in zip(self.likelihoods, self.places):
            part.take_units(x[:, place])

    def check(self, x: Tensor) -> None:
        super().check(x)
        for part, group, place in zip(self.likelihoods, self.groups, self.places):
            part.check_support(x[:, place], group)

    def to_units(self, x: Tensor, missing: Tensor) -> Tensor:
        parts = (part.to_units(x[:, at], missing[:, at]) for part, at in zip(self.likelihoods, self.places))
        return drawn_in(torch.cat(list(parts), -1))

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        outs = out.split([math.prod(part.decoder_shape) for part in self.likelihoods], -1)
        return Columns([part(some) for part, some in zip(self.likelihoods, outs)], self.places)


def groups_of(columns: Sequence[str]) -> list[list[int]]:
    """Return the columns that share a module: those of a kind, or each alone where a module has one unit for all."""
    groups: dict[tuple[str, int], list[int]] = {}
    for i, column in enumerate(columns):
        kind = KINDS.get(str(column).partition(":")[0])
        alone = kind is not None and not kind.by_column
        groups.setdefault((column, i if alone else -1), []).append(i)
    return list(groups.values())


def drawn_in(z: Tensor, most: float = 3.0) -> Tensor:
    """Return what the encoder sees of standardised numbers: beyond ±``most`` they grow with their logarithm alone, so
    that one cell that is far off does not drown a row's others."""
    size = z.abs()
    return torch.where(size > most, z.sign() * (most + torch.log1p((size - most).clamp_min(0))), z)


def part_of(column: str, size: int) -> Likelihood:
    """Return the likelihood of ``size`` columns of one kind; raise :class:`InputError` where there is no such kind."""
    name, colon, number = str(column).partition(":")
    if name not in KINDS:
        raise InputError(f"columns: there is no {name!r}{nearest(name, KINDS)}")
    if name != "categorical":
        if colon:
            raise InputError(f"columns: {column!r}; {name!r} alone is needed")
        return KINDS[name]((size,))
    if not number.isdecimal() or int(number) < 2:
        raise InputError(f"columns: {column!r}; the number of values is needed, such as 'categorical:3'")
    return Categorical((size,), categories=int(number))
