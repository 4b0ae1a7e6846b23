"""p(y) of a model, and what the known labels leave of it to the rows without one."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..labels import Labels

Prior = str | Sequence[float]
"""``estimated``, ``uniform``, or probabilities: K of classes, A (of a 1) of attributes."""


class LabelPrior(nn.Module):
    """p(y): estimated from the known labels, uniform, or given.

    :param labels: what y means.
    :param prior: ``"estimated"`` (by :meth:`estimate`), ``"uniform"``, or probabilities.
    :ivar logits: log p(y), ``[K]``; of attributes logit p(y = 1), ``[A]``.
    :ivar log_left: ``[K]`` or ``[A, 1]``: log of the values' shares among the rows without a label, less log p(y).
        0 without a call of :meth:`estimate`.
    """

    logits: Tensor
    log_left: Tensor

    def __init__(self, labels: Labels, prior: Prior = "estimated") -> None:
        super().__init__()
        self.labels, self.prior = labels, prior
        self.register_buffer("logits", given_logits(labels, prior))
        self.register_buffer("log_left", torch.zeros_like(labels.log_probs(torch.zeros(labels.size))))

    def forward(self) -> dist.TorchDistribution:
        """p(y)."""
        return self.labels.prior(self.logits)

    @torch.no_grad()
    def estimate(self, y: Tensor) -> None:
        """Take p(y) from the labels, where it is estimated, and the shares that the known ones leave to the others."""
        if self.prior == "estimated":
            self.logits.copy_(self.labels.prior_logits(y))
        self.log_left.copy_(self.labels.log_left(self.logits, y))

    def log_probs(self) -> Tensor:
        """log p of each value among the rows without a label: ``[K]`` or ``[A, 2]``."""
        return self.labels.log_probs(self.logits) + self.log_left


def given_logits(labels: Labels, prior: Prior) -> Tensor:
    """The logits of a prior as it was given; 0 where it is estimated or uniform."""
    if isinstance(prior, str):
        if prior not in ("estimated", "uniform"):
            raise InputError(f"label_prior: {prior!r}; 'estimated', 'uniform' or probabilities are needed")
        return torch.zeros(labels.size)
    probs = torch.as_tensor(prior, dtype=torch.double)
    if probs.shape != (labels.size,) or not bool(((probs > 0) & (probs < 1)).all() or labels.size == 1):
        raise InputError(f"label_prior: {list(prior)}; {labels.size} probabilities above 0 and below 1 are needed")
    if labels.event_shape:
        return torch.logit(probs).float()
    if abs(float(probs.sum()) - 1) > 1e-3:
        raise InputError(f"label_prior: {list(prior)}; probabilities that sum to 1 are needed")
    return (probs / probs.sum()).log().float()
