"""What trains a class head beside the bound: one ``pyro.factor`` of the guide."""

from __future__ import annotations

import pyro
import torch
from torch import Tensor, nn

from ..distributed import all_reduce_sum
from ..labels import MISSING, Labels
from .label_prior import LabelPrior


class HeadTerms(nn.Module):
    """The classifier's cross-entropy, entropy minimisation and distribution alignment, of a row's π = q(y | x)::

        α 1[y known] ω_y log π_y  -  1[y missing] ( w_H H(π) + w_m Σ_k π_k log(m_k / p_k) )

    with m the running mean of π over the missing labels and p the shares of the values among these rows: p(y), less
    what the known labels have had of it (:class:`~.label_prior.LabelPrior`). The last term's gradient is that of
    ``w_m KL(m || p)``. Sources: entropy minimisation, Grandvalet, Bengio (2004); distribution alignment, Berthelot et
    al. (2020), arXiv:1911.09785. With both weights at 0 the papers' objectives are left (choice).

    :param labels: what y means.
    :param prior: p(y).
    :param alpha: α, nats a labelled row.
    :param entropy_weight: w_H.
    :param alignment_weight: w_m.
    :ivar warmup: the share of w_H, and of what reaches the head beside the labels, in force: :meth:`set_progress`.
    :ivar class_weights: ω, ``[K]`` (attributes ``[A, 2]``); 1 without a call of :meth:`set_class_weights`.
    :ivar weighted: whether there was such a call.
    """

    mean_probs: Tensor
    class_weights: Tensor
    warmup: Tensor

    def __init__(
        self, labels: Labels, prior: LabelPrior, alpha: float, entropy_weight: float, alignment_weight: float
    ) -> None:
        super().__init__()
        self.labels = labels
        self.alpha, self.entropy_weight, self.alignment_weight = alpha, entropy_weight, alignment_weight
        self.label_prior, self.weighted = prior, False
        uniform = labels.log_probs(torch.zeros(labels.size)).exp()
        self.register_buffer("mean_probs", uniform)
        self.register_buffer("class_weights", torch.ones_like(uniform))
        self.register_buffer("warmup", torch.tensor(1.0), persistent=False)

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """The terms of each row, ``[..., B]`` nats; in training the running mean of π follows."""
        if self.training and self.alignment_weight:
            self.track(logits, y)
        terms = self.alpha * supervised(self.labels, logits, y, self.class_weights)
        return terms + self.regularizer(logits, y) if self.entropy_weight or self.alignment_weight else terms

    def factor(self, logits: Tensor, y: Tensor, divergence: Tensor | float = 0.0) -> None:
        """Guide site ``head``, in the plate over rows.

        :param divergence: KL of a relaxed label, which its own site does not score.
        """
        pyro.factor("head", divergence - self(logits, y), has_rsample=True)

    def regularizer(self, logits: Tensor, y: Tensor) -> Tensor:
        """``- w_H H(π) - w_m Σ_k π_k log(m_k / p_k)`` of the missing labels, ``[..., B]``."""
        log_pi = self.labels.log_probs(logits)
        log_ratio = self.mean_probs.clamp_min(1e-8).log() - self.label_prior.log_probs()
        terms = self.warmup * self.entropy_weight * log_pi - self.alignment_weight * log_ratio
        value = (log_pi.exp() * terms).sum(-1) * (y == MISSING)
        return value.sum(-1) if self.labels.event_shape else value

    @torch.no_grad()
    def track(self, logits: Tensor, y: Tensor, momentum: float = 0.9) -> None:
        """Move the running mean of π towards this batch's, over the missing labels (of all processes)."""
        weights = (y == MISSING).unsqueeze(-1).to(logits)
        probs = self.labels.log_probs(logits).exp()
        rows = probs.dim() - self.mean_probs.dim()  # dimensions of rows, and of draws before them
        weights = weights.expand(*probs.shape[:-1], 1)
        weights, weighted = weights.flatten(0, rows - 1), (weights * probs).flatten(0, rows - 1)
        counted, sums = torch.broadcast_tensors(weights.sum(0), weighted.sum(0))
        count, sums = all_reduce_sum(torch.stack([counted, sums])).unbind()
        mean = torch.where(count > 0, sums / count.clamp_min(1), self.mean_probs)
        self.mean_probs.lerp_(mean, 1 - momentum)

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

    def set_class_weights(self, weights: Tensor) -> None:
        """Set ω: ``[K]``, a weight of each class (attributes ``[A, 2]``, of each value)."""
        self.class_weights.copy_(torch.as_tensor(weights).reshape(self.class_weights.shape))
        self.weighted = True


def supervised(labels: Labels, logits: Tensor, y: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """``1[y known] ω_y log π_y``, ``[..., B]``, of logits ``[..., B, K]`` or ``[..., B, A]``.

    :param weights: ω, of each class ``[K]`` or of each attribute's values ``[A, 2]``.
    """
    log_pi = labels.log_probs(logits) * weights
    known = y.clamp_min(0).unsqueeze(-1).expand(*log_pi.shape[:-1], 1)
    picked = torch.where(y == MISSING, 0.0, log_pi.gather(-1, known).squeeze(-1))
    return picked.sum(-1) if labels.event_shape else picked
