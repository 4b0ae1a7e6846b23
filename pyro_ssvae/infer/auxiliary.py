"""What trains a class head beside the bound: one ``pyro.factor`` of the guide."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import torch
from torch import Tensor, nn

from ..distributed import all_reduce_sum
from ..label_arrays import value_counts
from ..labels import MISSING, Labels
from .label_prior import LabelPrior, UnlabelledShares

MOST_SMOOTHING, SHARE = 0.04, 0.5
HEAD = "head"
"""The guide's factor from which a class head learns."""


class HeadTerms(nn.Module):
    """The classifier's cross-entropy, entropy minimisation and distribution alignment, of a row's π = q(y | x)::

        α 1[y known] ω_y ( (1 - ε) log π_y + ε/K Σ_k log π_k )
        - 1[y missing] ( w_H max(0, H(π) - H_ε) + w_m c Σ_k π_k log(m_k / s_k) )

    ε is the label smoothing (Szegedy et al. (2016), arXiv:1512.00567), and H_ε the entropy of a π that gives ε to the
    other values, evenly: a head that knows no more than n labels is made no surer than 1 - ε. m is the running mean of
    π over the missing labels, s the shares of the values among these rows, and c how sure these are
    (:class:`~.label_prior.UnlabelledShares`); the last term's gradient is that of ``w_m c KL(m || s)``. Sources:
    entropy minimisation, Grandvalet, Bengio (2004); distribution alignment, Berthelot et al. (2020), arXiv:1911.09785.
    With ε and both weights at 0 the papers' objectives are left (choice).

    :param labels: what y means.
    :param prior: p(y).
    :param alpha: α, nats a labelled row.
    :param entropy_weight: w_H.
    :param alignment_weight: w_m.
    :param smoothing: ε; None for :func:`smoothing_for` of what :meth:`prepare` sees.
    :ivar epsilon: ε.
    :ivar warmup: the share of w_H, and of what reaches the head beside the labels, in force: :meth:`set_progress`.
    :ivar class_weights: ω, ``[K]`` (attributes ``[A, 2]``); 1 without a call of :meth:`set_class_weights`.
    :ivar weighted: whether there was such a call.
    """

    mean_probs: Tensor
    class_weights: Tensor
    epsilon: Tensor
    warmup: Tensor

    def __init__(
        self,
        labels: Labels,
        prior: LabelPrior,
        alpha: float,
        entropy_weight: float,
        alignment_weight: float,
        smoothing: float | None = 0.0,
    ) -> None:
        super().__init__()
        self.labels, self.smoothing = labels, smoothing
        self.alpha, self.entropy_weight, self.alignment_weight = alpha, entropy_weight, alignment_weight
        self.label_prior, self.weighted = prior, False
        self.shares = UnlabelledShares(prior)
        uniform = labels.log_probs(torch.zeros(labels.size)).exp()
        self.register_buffer("mean_probs", uniform)
        self.register_buffer("class_weights", torch.ones_like(uniform))
        self.register_buffer("epsilon", torch.tensor(smoothing or 0.0))
        self.register_buffer("warmup", torch.tensor(1.0), persistent=False)

    def times(self, weight: float) -> None:
        """Multiply α, w_H and w_m."""
        self.alpha *= weight
        self.entropy_weight *= weight
        self.alignment_weight *= weight

    def prepare(self, y: Tensor, error: Callable[[], float | None] = lambda: None) -> None:
        """Take p(y), the shares among the rows without a label, and ε from the labels of the training.

        :param error: says what a head is expected to err at least, where that is known; asked where ε is not given.
        """
        self.label_prior.estimate(y)
        self.shares.prepare(self.label_prior, y)
        if self.smoothing is None:
            self.epsilon.fill_(smoothing_for(self.labels, y, error()))

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """The terms of each row, ``[..., B]`` nats; in training the running mean of π follows."""
        if self.training and self.alignment_weight:
            self.track(logits, y)
        terms = self.alpha * supervised(self.labels, logits, y, self.class_weights, self.epsilon)
        return terms + self.regularizer(logits, y) if self.entropy_weight or self.alignment_weight else terms

    def factor(self, logits: Tensor, y: Tensor, negative_entropy: Tensor | float = 0.0) -> None:
        """Guide site ``head``, in the plate over rows.

        :param negative_entropy: of a relaxed label, which its own site does not score.
        """
        pyro.factor(HEAD, negative_entropy - self(logits, y), has_rsample=True)

    def regularizer(self, logits: Tensor, y: Tensor) -> Tensor:
        """``- w_H max(0, H(π) - H_ε) - w_m c Σ_k π_k log(m_k / s_k)`` of the missing labels, ``[..., B]``."""
        log_pi = self.labels.log_probs(logits)
        pi = log_pi.exp()
        log_ratio = self.mean_probs.clamp_min(1e-8).log() - self.shares.log_shares
        alignment = (pi * (self.shares.weight(self.warmup) * log_ratio)).sum(-1)
        entropy = (-(pi * log_pi).sum(-1) - self.least_entropy(pi.shape[-1])).clamp_min(0.0)
        value = -(self.warmup * self.entropy_weight * entropy + self.alignment_weight * alignment) * (y == MISSING)
        return value.sum(-1) if self.labels.event_shape else value

    def least_entropy(self, size: int) -> Tensor:
        """``H_ε`` of ``size`` values: ``-(1 - ε) log(1 - ε) - ε log(ε / (size - 1))``, 0 of one."""
        e = self.epsilon
        return -torch.xlogy(1 - e, 1 - e) - torch.xlogy(e, e / max(size - 1, 1))

    @torch.no_grad()
    def track(self, logits: Tensor, y: Tensor, momentum: float = 0.9) -> None:
        """Move the running mean of π towards this batch's, over the missing labels (of all processes).

        What is known of the values' shares follows, and an estimated p(y).
        """
        weights = (y == MISSING).unsqueeze(-1).to(logits)
        probs = self.labels.log_probs(logits).exp()
        rows = probs.dim() - self.mean_probs.dim()  # dimensions of rows, and of draws before them
        weights = weights.expand(*probs.shape[:-1], 1).flatten(0, rows - 1)
        probs = probs.flatten(0, rows - 1)
        probs = torch.cat([probs, 1 - probs.amax(-1, keepdim=True)], -1)
        sums = (weights * probs).sum(0)
        count, sums = all_reduce_sum(torch.stack([weights.sum(0).expand_as(sums), sums])).unbind()
        mean, count = sums / count.clamp_min(1), count[..., :1]
        mean, doubt = mean[..., :-1], mean[..., -1:]
        self.mean_probs.lerp_(torch.where(count > 0, mean, self.mean_probs), 1 - momentum)
        self.shares.observe(mean, doubt, count, self.warmup)
        share = self.warmup * (1 - self.shares.certainty)
        self.label_prior.follow(self.mean_probs, share)

    def scale_gradient(self, value: Tensor, share: float = 1.0) -> Tensor:
        """Return ``value``, of whose gradient only a part is passed on, which grows to ``share``."""
        return torch.lerp(value.detach(), value, share * self.warmup)

    def set_progress(self, progress: float) -> None:
        """Let two things grow from nothing to their whole between a tenth and four tenths of the training.

        These are the entropy's weight w_H, and the share of the gradient that reaches the head from what depends on a
        missing label, such as the reconstruction: before the labels have given the classes their meaning, either would
        fix early mistakes. Without a call, as under plain ``SVI``, both are whole from the start.

        :param progress: the share of the training that is done, 0 to 1.
        """
        self.warmup.fill_(min(1.0, max(0.0, (progress - 0.1) / 0.3)))

    def set_class_weights(self, weights: Tensor | None) -> None:
        """Set ω: ``[K]``, a weight of each class (attributes ``[A, 2]``, of each value); None: all count alike."""
        own = torch.ones_like(self.class_weights) if weights is None else torch.as_tensor(weights)
        self.class_weights.copy_(own.reshape(self.class_weights.shape))
        self.weighted = weights is not None


def supervised(
    labels: Labels, logits: Tensor, y: Tensor, weights: Tensor | float = 1.0, smoothing: Tensor | float = 0.0
) -> Tensor:
    """``1[y known] ω_y ( (1 - ε) log π_y + ε/K Σ_k log π_k )``, ``[..., B]``, of logits ``[..., B, K]`` or
    ``[..., B, A]``; of each attribute K is 2.

    :param weights: ω, of each class ``[K]`` or of each attribute's values ``[A, 2]``.
    :param smoothing: ε.
    """
    log_pi = labels.log_probs(logits)
    log_pi = (log_pi + smoothing * (log_pi.mean(-1, keepdim=True) - log_pi)) * weights
    known = y.clamp_min(0).unsqueeze(-1).expand(*log_pi.shape[:-1], 1)
    picked = torch.where(y == MISSING, 0.0, log_pi.gather(-1, known).squeeze(-1))
    return picked.sum(-1) if labels.event_shape else picked


def smoothing_for(labels: Labels, y: Tensor, error: float | None = None) -> float:
    """Return ε of n known labels (of attributes: a mean over them): ``max( min(0.04, 1 / (n + 2)), e / 2 )``.

    A head that makes no mistake on n labels will make one on the next with the probability 1 / (n + 2) (Laplace's rule
    of succession), and is not to say that it errs more rarely; the 0.04 is a choice. On MNIST with 100 labels (2,000
    steps) 0.03 had .984 at a calibration error of .013, none .987 at .007.

    :param error: e, :func:`~.expected_error.expected_error`, of vectors alone. Where the classes of a table overlap, no
        row without a label tells them apart, and a head that is made sure of all is wrong. The half is a choice
        (docs/recipe.md). Of images these methods say nothing: they err in a quarter of MNIST with 100 labels, the head
        in one of a hundred.
    """
    known = value_counts(y, 2 if labels.event_shape else labels.size).sum()
    n = int(known) / (labels.size if labels.event_shape else 1)
    return max(min(MOST_SMOOTHING, 1 / (n + 2)), SHARE * (error or 0.0))
