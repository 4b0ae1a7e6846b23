"""What models with a class head share: p(y), and a prior on π = q(y | x) of the missing labels."""

from __future__ import annotations

from typing import Any, Literal, get_args

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..distributed import total
from ..errors import InputError
from ..labels import MISSING, Labels
from ..models.base import Classifying, labels_of

ClassPrior = Literal["estimated", "uniform"]


class LabelPrior(Classifying):
    """p(y) and, for the rows without a label, a prior on π = q(y | x)::

        log class_prior(π) = - w_H H(π) - w_m Σ_k π_k log(m_k / p_k)

    with m the running mean of π and p the shares of the values among these rows: p(y), less what the known labels have
    had of it (with every label of some classes known, the others' rows are what is left). The first favours a confident
    π, the second classes as frequent as p says. (Choice; the gradient of the second is that of ``w_m KL(m || p)``.)
    Both at 0 leave the papers' objectives.

    :ivar prior_logits: log p(y), attributes: logit p(y = 1).
    :ivar log_left: log p - log p(y); 0 without a call of :meth:`prepare`.
    :ivar warmth: the share of w_H, and of what reaches the head beside the labels, in force: :meth:`anneal`.
    """

    labels: Labels
    prior_logits: Tensor
    log_left: Tensor
    mean_probs: Tensor
    warmth: Tensor

    def set_label_prior(
        self, labels: Labels, class_prior: ClassPrior, entropy_weight: float, balance_weight: float
    ) -> None:
        """Set the options and the buffers; called once, by ``__init__``."""
        if class_prior not in get_args(ClassPrior):
            raise InputError(f"class_prior: {class_prior!r}; 'estimated' or 'uniform' is needed")
        self.labels = labels
        self.class_prior = class_prior
        self.entropy_weight, self.balance_weight = entropy_weight, balance_weight
        self.register_buffer("prior_logits", torch.zeros(labels.size))
        self.register_buffer("mean_probs", labels.log_probs(torch.zeros(labels.size)).exp())
        self.register_buffer("log_left", torch.zeros_like(self.mean_probs))
        self.register_buffer("warmth", torch.tensor(1.0), persistent=False)

    def prepare(self, x: Tensor, y: Tensor) -> None:
        super().prepare(x, y)
        self.estimate_prior(y)

    def estimate_prior(self, y: Tensor) -> None:
        """Take p(y), where it is estimated, and the shares that the known labels leave to the others."""
        if self.class_prior == "estimated":
            self.prior_logits.copy_(self.labels.prior_logits(y))
        self.log_left.copy_(self.labels.log_left(self.prior_logits, y))

    def log_class_prior(self, logits: Tensor, y: Tensor) -> Tensor:
        """``- w_H H(π) - w_m Σ_k π_k log(m_k / p_k)`` of the missing labels, ``[B]``."""
        log_pi = self.labels.log_probs(logits)
        log_p = self.labels.log_probs(self.prior_logits) + self.log_left
        log_ratio = self.mean_probs.clamp_min(1e-8).log() - log_p
        terms = self.warmth * self.entropy_weight * log_pi - self.balance_weight * log_ratio
        value = (log_pi.exp() * terms).sum(-1) * (y == MISSING)
        return value.sum(-1) if self.labels.event_shape else value

    @torch.no_grad()
    def track(self, logits: Tensor, y: Tensor, momentum: float = 0.9) -> None:
        """Move the running mean of π towards this batch's, over the missing labels (of all processes)."""
        weights = (y == MISSING).unsqueeze(-1).to(logits)
        probs = self.labels.log_probs(logits).exp()
        counted, sums = torch.broadcast_tensors(weights.sum(0), (weights * probs).sum(0))
        count, sums = total(torch.stack([counted, sums])).unbind()
        mean = torch.where(count > 0, sums / count.clamp_min(1), self.mean_probs)
        self.mean_probs.lerp_(mean, 1 - momentum)

    def annealed(self, value: Tensor, share: float = 1.0) -> Tensor:
        """``value``, of whose gradient only a part is passed on, which grows to ``share``: :meth:`anneal`."""
        return torch.lerp(value.detach(), value, share * self.warmth)

    def anneal(self, progress: float) -> None:
        """Let two things grow from nothing to their whole between a tenth and four tenths of the training.

        These are the entropy's weight w_H, and the share of the gradient that reaches the head from what depends on a
        missing label, such as the reconstruction: before the labels have given the classes their meaning, either would
        fix early mistakes. Without a call, as under plain ``SVI``, both are whole from the start.

        :param progress: the share of the training that is done, 0 to 1.
        """
        self.warmth.fill_(min(1.0, max(0.0, (progress - 0.1) / 0.3)))

    def class_inputs(self, value: Tensor, like: Tensor) -> Tensor:
        """A site's value of y as a network takes it, ``[..., K]`` or ``[..., A]``; relaxed ones keep their gradient."""
        return value.to(like) if self.labels.event_shape else self.labels.encode(value.long()).to(like)

    def drawn_labels(self, n: int, y: Any) -> Tensor:
        """``n`` labels as given (see :func:`~.base.labels_of`), missing ones drawn from p(y)."""
        known = self.labels.check(None, n, self.device) if y is None else labels_of(y, n, self.labels, self.device)
        return self.labels.given(self.prior_logits.expand(n, -1), known).sample().long()


class ToldDecoder(LabelPrior):
    """Verbs of a model ``p(z) p(y) p(x | z, y)`` whose decoder takes z and a class input."""

    latent_dim: int
    decoder: nn.Module

    def decode(self, z: Tensor, y: Any) -> Tensor:
        """The mean image of latents ``[B, D]`` and of labels: integers, one a row or for all, or inputs ``[B, K]``."""
        with self.inference():
            c = torch.as_tensor(y, device=self.device) if not isinstance(y, str) else None
            if c is None or not c.is_floating_point():
                labels = labels_of(y, len(z), self.labels, self.device)
                c = self.labels.fill(self.labels.probs(self.prior_logits).expand(len(z), -1), labels)
            z = torch.as_tensor(z, device=self.device).to(self.prior_logits)
            return self.likelihood.mean(self.decoder(z, c.to(z)))

    def generate(self, n: int, y: Any = None) -> Tensor:
        """``n`` mean images of z ~ N(0, I) and the given labels; missing ones are drawn from p(y).

        :param y: None, one label for all (a number or a class name), or labels a row with -1 for missing.
        """
        with self.inference():
            labels = self.drawn_labels(n, y)
            z = torch.randn(n, self.latent_dim, device=self.device, dtype=self.prior_logits.dtype)
            return self.decode(z, labels)


def zero_head(width: int, size: int) -> nn.Linear:
    """A linear layer to logits that begins at zero: every point at the prior's entropy, on no class's side."""
    head = nn.Linear(width, size)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def gaussian(parts: Tensor) -> dist.TorchDistribution:
    """The distribution of means and scales ``[B, 2, D]``."""
    return dist.Normal(parts[:, 0], parts[:, 1]).to_event(1)
