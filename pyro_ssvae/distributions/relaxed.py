"""Relaxed labels: values between the labels' own, through which a gradient passes to the class head.

A label is an integer; a relaxed label is floating, ``[..., K]`` for a class and ``[..., A]`` for attributes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.types import _size

from ..errors import InputError
from .clamped import MISSING, ClampedBernoulli
from .wrapped import Wrapped

TEMPERATURE = 0.5  # of the straight-through gradient
SUMMED = "where some are missing, label_inference 'enumerate' or 'sample' is needed"


class PlugIn(dist.TorchDistribution):
    """q(y | x) whose draw is its mean: the probabilities, with their gradient. It scores 0 nats.

    Its batch and event shape are those of labels; a draw of a class has one dimension more.

    :param exact: the same q(y | x) as a distribution of labels.
    :param mean: its mean, ``[..., K]`` or ``[..., A]``: a known label's point mass, a missing one's probabilities.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, exact: Any, mean: Tensor) -> None:
        self.exact, self.relaxed = exact, mean
        super().__init__(exact.batch_shape, exact.event_shape, validate_args=False)

    def expand(self, batch_shape: _size, _instance: object = None) -> PlugIn:
        shape = torch.Size(batch_shape)
        return PlugIn(self.exact.expand(shape), self.relaxed.expand(shape + self.relaxed.shape[-1:]))

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:
        return self.relaxed.expand(torch.Size(sample_shape) + self.relaxed.shape)

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        return self.rsample(sample_shape).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        return value.new_zeros(value.shape[:-1])


class StraightThrough(PlugIn):
    """Exact draws of q(y | x), with the gradient of a relaxed draw (biased). It scores 0 nats::

        attributes:  value = 1[t > 0],        d value = d sigmoid(t / 0.5),   t = logits + logistic noise
        classes:     value = onehot(argmax t), d value = d softmax(t / 0.5),   t = logits + Gumbel noise

    Source: Jang, Gu, Poole (2017), arXiv:1611.01144.

    :param exact: the same q(y | x) as a distribution of labels.
    :param logits: ``[..., K]`` or ``[..., A]``.
    :param y: int64 ``[...]`` or ``[..., A]``, -1 where missing.
    """

    def __init__(self, exact: Any, logits: Tensor, y: Tensor) -> None:
        super().__init__(exact, logits)
        self.y = y

    def expand(self, batch_shape: _size, _instance: object = None) -> StraightThrough:
        shape = torch.Size(batch_shape)
        y = self.y.expand(shape + self.exact.event_shape)
        return StraightThrough(self.exact.expand(shape), self.relaxed.expand(shape + self.relaxed.shape[-1:]), y)

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:
        u = torch.rand(torch.Size(sample_shape) + self.relaxed.shape).to(self.relaxed)
        return self.at(torch.logit(u, 1e-6) if self.exact.event_shape else -(-u.clamp(1e-6, 1 - 1e-6).log()).log())

    def at(self, noise: Tensor) -> Tensor:
        """The value at the given logistic (attributes) or Gumbel (classes) noise."""
        t = self.relaxed + noise
        if self.exact.event_shape:
            soft = (t / TEMPERATURE).sigmoid()
            hard = (t > 0).to(soft)
            missing, known = self.y == MISSING, self.y.to(soft)
        else:
            soft = (t / TEMPERATURE).softmax(-1)
            hard = F.one_hot(t.argmax(-1), t.shape[-1]).to(soft)
            missing = (self.y == MISSING).unsqueeze(-1)
            known = (self.y.unsqueeze(-1) == torch.arange(t.shape[-1], device=t.device)).to(soft)
        return torch.where(missing, hard + (soft - soft.detach()), known)


class AcceptRelaxed(Wrapped):
    """p(y) as a site has it whose guide may hand over a relaxed label: a label scores log p(y), and a relaxed one
    ``E_q log p(y)``, or 0 nats where the guide says no q.

    Among relaxed labels the known ones, which are points, score log p(y) as they would without the others.

    :ivar known: bool ``[...]``, of attributes ``[..., A]``: which of the relaxed labels are known; None where no guide
        says it: then rows of attributes that are 0 and 1 alone.
    :ivar log_q: log q(y | x) of each value, ``[..., K]``, of attributes ``[..., A, 2]``; None where it does not count.

    :param base: p(y); ``[...]`` of classes, ``[..., A]`` as one event of attributes. Values are integers, -1 (a place
        of an enumeration that no label takes) is scored as 0.
    """

    def __init__(self, base: Any) -> None:
        self.has_enumerate_support = bool(base.has_enumerate_support)
        self.known: Tensor | None = None
        self.log_q: Tensor | None = None
        super().__init__(base)

    def expand(self, batch_shape: _size, _instance: object = None) -> AcceptRelaxed:
        return AcceptRelaxed(self.base.expand(torch.Size(batch_shape)))

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        drawn: Tensor = self.base.sample(sample_shape)
        return drawn.long()

    def log_prob(self, value: Tensor) -> Tensor:
        if value.is_floating_point():
            return self.of_known(value)
        return self.of_labels(value.clamp_min(0))

    def of_labels(self, value: Tensor) -> Tensor:
        """``log p(y)`` of labels."""
        log_p: Tensor = self.base.log_prob(value.to(numbers_of(self.base)) if self.event_shape else value.long())
        return log_p

    def of_known(self, value: Tensor) -> Tensor:
        """``log p(y)`` of relaxed labels ``[..., K]`` or ``[..., A]``, ``E_q log p(y)`` or 0 where they are missing."""
        known = self.points(value) if self.known is None else self.known
        if not self.event_shape:
            return torch.where(known, self.of_labels(value.argmax(-1)), self.expected(value.shape[-1])).to(value)
        if factorizes(self.base):
            p = self.base.mean.to(value)
            log_p = torch.stack([1 - p, p], -1).log()
            missing = value.new_zeros(()) if self.log_q is None else (self.log_q.exp() * log_p).sum(-1)
            return torch.where(known, torch.where(value > 0.5, log_p[..., 1], log_p[..., 0]), missing).sum(-1)
        return torch.where(known.all(-1), self.of_labels(value.round()), 0.0)

    def expected(self, k: int) -> Tensor | float:
        """``Σ_y q(y | x) log p(y)`` of k classes."""
        if self.log_q is None:
            return 0.0
        values = torch.arange(k, device=self.log_q.device).reshape(k, *[1] * len(self.base.batch_shape))
        log_p: Tensor = self.base.log_prob(values).movedim(0, -1)
        return (self.log_q.exp() * log_p).sum(-1)

    def points(self, value: Tensor) -> Tensor:
        """Which values are known where no guide says it: of attributes rows of 0 and 1 alone, labels as a Bernoulli has
        them."""
        if not self.event_shape:
            return torch.zeros(value.shape[:-1], dtype=torch.bool, device=value.device)
        return ((value == 0) | (value == 1)).all(-1, keepdim=True).expand_as(value)

    def set_known(self, known: Tensor | None, log_q: Tensor | None = None) -> None:
        """Say which of the relaxed labels are known, and what q(y | x) the others are of.

        :raises InputError: attributes that may depend on one another, some of them missing, which would have to be
            summed over: some of a row's, or any where q counts.
        """
        self.known, self.log_q = known, log_q
        if known is None or not self.event_shape or factorizes(self.base):
            return
        counts = known.any(-1) if log_q is None else torch.ones_like(known[..., 0])
        if bool((counts & ~known.all(-1)).any()):
            kind = type(self.base).__name__
            raise InputError(f"p(y): {kind}, whose attributes may depend on one another; {SUMMED}")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values: Tensor = self.base.enumerate_support(expand)
        return values.long()


def factorizes(p_y: object) -> bool:
    """Whether attributes are independent under p(y)."""
    while isinstance(p_y, (dist.MaskedDistribution, dist.ExpandedDistribution)):
        p_y = p_y.base_dist
    bernoulli = isinstance(p_y, dist.Independent) and isinstance(p_y.base_dist, torch.distributions.Bernoulli)
    return isinstance(p_y, ClampedBernoulli) or bernoulli


def numbers_of(p_y: Any) -> torch.dtype:
    """The dtype that a distribution of attributes takes its values in."""
    try:
        dtype: torch.dtype = p_y.mean.dtype
    except NotImplementedError:
        dtype = torch.get_default_dtype()
    return dtype
