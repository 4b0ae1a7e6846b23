"""Distributions of labels of which some are known: point masses there, a distribution where a label is missing."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F
from torch.types import _size

from .wrapped import Wrapped

MISSING = -1


class ClampedBernoulli(dist.TorchDistribution):
    """A binary entries as one event, some of them known: ``Π_known 1[v = y] Π_missing Bernoulli(v; logits)``.

    Its support is enumerated jointly (2^A values), because what depends on the attributes (the decoder) depends on
    all of them at once.

    :param logits: ``[..., A]``.
    :param y: int64 ``[..., A]``, -1 where missing.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.independent(constraints.real, 1)}
    support = constraints.independent(constraints.boolean, 1)
    has_enumerate_support = True

    def __init__(self, logits: Tensor, y: Tensor, validate_args: bool | None = None) -> None:
        self.logits, self.y = torch.broadcast_tensors(logits, y)
        super().__init__(self.logits.shape[:-1], self.logits.shape[-1:], validate_args=validate_args)

    @property
    def probs(self) -> Tensor:
        """The probability of a 1, ``[..., A]``: 0 or 1 where an entry is known."""
        return torch.where(self.y == MISSING, self.logits.sigmoid(), self.y.to(self.logits))

    @property
    def mean(self) -> Tensor:
        """:attr:`probs`."""
        return self.probs

    def expand(self, batch_shape: _size, _instance: object = None) -> ClampedBernoulli:
        shape = torch.Size(batch_shape) + self.event_shape
        return ClampedBernoulli(self.logits.expand(shape), self.y.expand(shape), validate_args=False)

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        drawn = torch.distributions.Bernoulli(logits=self.logits, validate_args=False).sample(sample_shape)
        return torch.where(self.y == MISSING, drawn.long(), self.y)

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(self.logits.shape, value.shape)
        logits, v = self.logits.expand(shape), value.to(self.logits).expand(shape)
        free = -F.binary_cross_entropy_with_logits(logits, v, reduction="none")
        fixed = torch.zeros_like(free).masked_fill(value != self.y, -torch.inf)
        return torch.where(self.y == MISSING, free, fixed).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        a = self.event_shape[0]
        bits = (torch.arange(2**a, device=self.y.device).unsqueeze(-1) >> torch.arange(a, device=self.y.device)) & 1
        values = bits.reshape((-1,) + (1,) * len(self.batch_shape) + (a,))
        return values.expand((-1, *self.batch_shape, -1)) if expand else values


class KnownPlaces(Wrapped):
    """A clamped q(y | x) whose enumeration has something else at the places of values that a known label is not.

    :param base: q(y | x), whose enumeration has each label at a place of its own.
    :param y: int64 ``[..., *event_shape]``, -1 where missing.
    """

    has_enumerate_support = True

    def __init__(self, base: Any, y: Tensor) -> None:
        self.y = y
        super().__init__(base)

    @property
    def mean(self) -> Tensor:
        """That of the base."""
        mean: Tensor = self.base.mean
        return mean

    def expand(self, batch_shape: _size, _instance: object = None) -> KnownPlaces:
        shape = torch.Size(batch_shape)
        return type(self)(self.base.expand(shape), self.y.expand(shape + self.event_shape))


class RepeatKnown(KnownPlaces):
    """A known label stands at every place of the enumeration; it counts at its own place alone.

    What depends on y is computed at every place. At the labels that a row does not have it would be computed for
    nothing, and batch normalisation would take these into its statistics. So each row is as much of a batch as any
    other: a missing label at all its values, a known one as often. Shapes are those of any enumeration.
    """

    def __init__(self, base: Any, y: Tensor) -> None:
        self.places: Tensor | None = None  # the base's values, once it is enumerated
        super().__init__(base, y)

    def log_prob(self, value: Tensor) -> Tensor:
        """Of a draw; of all values in turn, once :meth:`enumerate_support` gave them: -inf at a repetition."""
        if self.places is not None and value.numel() == self.places.numel() and value.dim() > self.y.dim():
            value = self.places.reshape(value.shape)
        log_q: Tensor = self.base.log_prob(value)
        return log_q

    def enumerate_support(self, expand: bool = True) -> Tensor:
        self.places = self.base.enumerate_support(expand=True)
        return torch.where(self.y == MISSING, self.places, self.y)


class SkipKnown(KnownPlaces):
    """A known class stands once in the enumeration; -1 is at its other places.

    These have probability zero, and no decoder need see them, as in
    :class:`~pyro_ssvae.distributions.sparse.SparseCategorical`.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        log_q: Tensor = self.base.log_prob(value.clamp_min(0))
        return log_q.masked_fill(value == MISSING, -torch.inf)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values: Tensor = self.base.enumerate_support(expand=True)
        return torch.where((self.y == MISSING) | (values == self.y), values, MISSING)


class ObservedLabels(Wrapped):
    """``log p(y_O)``: the base's log-probability of a known label; a missing one, -1, counts 0.

    What is scored is the value itself, also one that ``pyro.condition`` sets; labels of any type of number.
    """

    def expand(self, batch_shape: _size, _instance: object = None) -> ObservedLabels:
        return ObservedLabels(self.base.expand(torch.Size(batch_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        known = value != MISSING
        log_p: Tensor = self.base.log_prob((value * known).to(self.base.logits))
        return torch.where(known, log_p, 0.0)


def clamped_logits(logits: Tensor, y: Tensor) -> Tensor:
    """``logits [..., K]`` where ``y [...]`` is missing; 0 at the known value and -inf at the others elsewhere."""
    value = torch.arange(logits.shape[-1], device=y.device)
    point = torch.zeros_like(logits).masked_fill(value != y.unsqueeze(-1), -torch.inf)
    return torch.where((y == MISSING).unsqueeze(-1), logits, point)
