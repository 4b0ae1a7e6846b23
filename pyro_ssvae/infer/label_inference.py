"""A missing label as a latent: summed over or drawn with a relaxed gradient, and bounds that sum over it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..errors import InputError
from ..labels import MISSING, AttributeLabels, PartlyKnownBernoulli
from .label_prior import LabelPrior

Missing = Literal["enumerate", "relax"]
TEMPERATURE = 0.5  # of the straight-through gradient


class MissingLabels(LabelPrior):
    """The sites ``y_unobserved`` of a model in which y is a latent where it is missing.

    :ivar missing: ``"enumerate"``: every value in turn; ``"relax"``: a draw that passes a gradient on.
    """

    missing: str

    def set_missing(self, missing: Missing | None, most: int) -> None:
        """How a missing label is dealt with; by default it is enumerated up to ``most`` configurations of y."""
        if missing is not None and missing not in get_args(Missing):
            raise InputError(f"missing: {missing!r}; 'enumerate' or 'relax' is needed")
        if missing == "relax" and not isinstance(self.labels, AttributeLabels):
            raise InputError("missing: 'relax' is for attributes; classes are enumerated")
        self.missing = missing or ("enumerate" if self.labels.num_configurations <= most else "relax")
        if self.missing == "enumerate" and self.labels.num_configurations > 1024:
            raise InputError(
                f"missing: 'enumerate' over {self.labels.size} attributes means {self.labels.num_configurations} "
                "configurations; 'relax' needs one"
            )

    def p_missing(self, logits: Tensor, y: Tensor) -> Tensor:
        """Model site ``y_unobserved``: p(y). With ``relax``, ``y_divergence`` has -KL(q(y|x) || p(y)) instead."""
        p = self.labels.given(self.prior_logits.expand_as(logits), y)
        if self.missing == "enumerate":
            value: Tensor = pyro.sample("y_unobserved", p)
            return value
        with poutine.mask(mask=False):
            value = pyro.sample("y_unobserved", p)
        log_q, log_p = self.labels.log_probs(self.annealed(logits)), self.labels.log_probs(self.prior_logits)
        divergence = (log_q.exp() * (log_q - log_p)).sum(-1)
        pyro.factor("y_divergence", -(divergence * (y == MISSING)).sum(-1))
        return value

    def q_missing(self, logits: Tensor, y: Tensor) -> Tensor:
        """Guide site ``y_unobserved``: q(y | x), every value in turn, or a draw that passes a gradient on."""
        if self.missing == "enumerate":
            q = self.labels.given(self.annealed(logits), y)
            value: Tensor = pyro.sample("y_unobserved", q, infer={"enumerate": "parallel"})
            return value
        with poutine.mask(mask=False):  # scored exactly, by y_divergence
            value = pyro.sample("y_unobserved", StraightThroughBernoulli(self.annealed(logits), y))
        return value


class StraightThroughBernoulli(PartlyKnownBernoulli):
    """:class:`PartlyKnownBernoulli` whose draws are 0 or 1, with the gradient of a relaxed draw::

        value = 1[t > 0],   d value = d sigmoid(t / 0.5),   t = logits + logistic noise

    The values are exact draws; the gradient is biased. Source: Jang, Gu, Poole (2017), arXiv:1611.01144.
    """

    has_rsample = True
    has_enumerate_support = False

    def expand(self, batch_shape: Any, _instance: Any = None) -> StraightThroughBernoulli:
        shape = torch.Size(batch_shape) + self.event_shape
        return StraightThroughBernoulli(self.logits.expand(shape), self.y.expand(shape), validate_args=False)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        u = torch.rand(torch.Size(sample_shape) + self.logits.shape).to(self.logits)
        return self.at(torch.logit(u, 1e-6))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def at(self, noise: Tensor) -> Tensor:
        """The value at the given logistic noise."""
        soft = ((self.logits + noise) / TEMPERATURE).sigmoid()
        hard = (self.logits + noise > 0).to(soft) + (soft - soft.detach())
        return torch.where(self.y == MISSING, hard, self.y.to(hard))


Draw = Callable[[], tuple[Tensor, Callable[[Tensor], Tensor]]]


def bound_over_labels(
    model: LabelPrior, y: Tensor, draw: Draw, num_samples: int, *, importance: bool, most: int = 64
) -> Tensor:
    """Bound on log p(x, y_O), the missing labels summed over: ``[B]`` nats, of ``num_samples`` draws of z::

        Σ_y q(y|x,z) [ log w(y) - log q(y|x,z) ], its mean            w(y) = p(y) p(x, z | y) / q(z | x, y)
        log mean of Σ_y w(y)                                          where ``importance``

    :param draw: draws z and returns the logits of q(y | x, z) ``[B, K]`` and ``log p(x, z | y) - log q(z | x, y)``,
        a function of values of y, ``[V, B, ...]`` → ``[V, B]``.
    :param most: more configurations of y than these (attributes) are sampled instead.
    """
    enumerated = model.labels.num_configurations <= most
    draws = []
    for _ in range(num_samples):
        logits, log_ratio = draw()
        q_y = model.labels.given(logits, y)
        p_y = model.labels.given(model.prior_logits.expand_as(logits), torch.full_like(y, MISSING))
        values = q_y.enumerate_support(expand=False) if enumerated else q_y.sample((1,))
        log_q, log_w = q_y.log_prob(values), log_ratio(values) + p_y.log_prob(values)
        if importance and enumerated:
            draws.append(log_w.masked_fill(log_q == -torch.inf, -torch.inf).logsumexp(0))
        elif enumerated:
            draws.append((log_q.exp() * torch.where(log_q > -torch.inf, log_w - log_q, 0.0)).sum(0))
        else:
            draws.append((log_w - log_q)[0])
    bounds = torch.stack(draws)
    return bounds.logsumexp(0) - math.log(num_samples) if importance else bounds.mean(0)
