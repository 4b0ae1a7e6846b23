"""p(y) of a model, and what is known of the labels' shares among the rows without one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..label_arrays import value_counts
from ..labels import Labels

Prior = str | Sequence[float]
"""One of :data:`WORDS`, or probabilities: K of classes, A (of a 1) of attributes."""
FROM_LABELS = ("estimated", "proportional")
WORDS = (*FROM_LABELS, "unlabelled", "uniform")
SURE = 0.5
"""Share of the doubt e within which labels and predictions may disagree for the labels to count (choice)."""
EARLY = 200
"""Batches after which the head is no longer asked: taught on by few labels, it forgets what it does not know."""


class LabelPrior(nn.Module):
    """p(y), of all rows.

    - probabilities, or ``"uniform"``: as they are given.
    - ``"estimated"``: the known labels' shares, counts plus one, as far as the rows without a label agree with them
      (:class:`UnlabelledShares`); for the rest the running mean of π over those rows, which is the M-step of p(y).
    - ``"proportional"``: the same of labels that were drawn in the classes' own proportions, such as
      :func:`~pyro_ssvae.data.hide_labels` draws: their shares have no sampling error, and no count is added.
    - ``"unlabelled"``: that mean alone. For labels that were drawn class by class, or chosen: their numbers say
      nothing of the classes' frequencies.

    :param labels: what y means.
    :param prior: one of these.
    :ivar logits: log p(y), ``[K]``; of attributes logit p(y = 1), ``[A]``.
    :ivar counted: the same, as the labels alone have it, or as it was given.
    """

    logits: Tensor
    counted: Tensor

    def __init__(self, labels: Labels, prior: Prior = "estimated") -> None:
        super().__init__()
        self.labels, self.prior = labels, prior
        self.register_buffer("logits", given_logits(labels, prior))
        self.register_buffer("counted", self.logits.clone())

    def forward(self) -> dist.TorchDistribution:
        """p(y)."""
        return self.labels.prior(self.logits)

    @property
    def estimated(self) -> bool:
        """Whether it is estimated, from labels or from rows without one."""
        return self.prior in (*FROM_LABELS, "unlabelled")

    @torch.no_grad()
    def estimate(self, y: Tensor) -> None:
        """Take p(y) from the labels, where they say something of it."""
        if self.prior in FROM_LABELS:
            self.counted.copy_(self.labels.prior_logits(y, plus=1.0 if self.prior == "estimated" else 0.0))
        self.logits.copy_(self.counted)

    @torch.no_grad()
    def follow(self, mean: Tensor, share: Tensor) -> None:
        """Let p(y) be ``(1 - share)`` of what the labels say and ``share`` of the mean of π, where it is estimated."""
        if self.estimated:
            counted = self.labels.log_probs(self.counted).exp()
            self.logits.copy_(self.labels.logits_of(torch.lerp(counted, mean, share.expand_as(counted))))


class UnlabelledShares(nn.Module):
    """The shares s of the values among the rows without a label, and how sure they are.

    s is what the known labels leave of p(y). Where that was given, or the labels were drawn in proportion, it is
    enforced. Of labels as they came nobody knows whether they were drawn at random: drawn evenly per class they say
    nothing of frequencies. So the head is asked, before anything but the labels has taught it (while ``warmup`` is 0,
    over the first :data:`EARLY` batches at most): with r the mean of its π over the rows without a label, and
    e = E[1 - max π] the share of these rows in which it expects to err, ::

        certainty = max(0, 1 - (TV(r, s)² + δ²) / (e / 2)²) (1 - e / e_0),        TV(r, s) = ½ Σ_k |r_k - s_k|

    δ = ½ Σ_k √(2 s_k (1 - s_k) / (π n)) is how far n labels drawn at random are off in the mean. It is 0 where they
    are as many of each class (to one), as no random draw is where classes are many.
    Predictions that err in a share e of the rows have class shares within e of the true ones, in total variation.
    Shares s further away cannot be these rows', and what lies within may be due to errors, which s then helps to
    mend (the half is a choice). A head that knows no more than chance, e_0 = 1 - 1/K, confirms nothing. Of attributes
    each has its own. Without a measurement, as under plain ``SVI``, the
    certainty of an estimate is 0: it is not enforced. Where a class has no label at all (semi-unsupervised), the head
    cannot tell, and s is taken for granted.

    Source of what it weighs: distribution alignment, Berthelot et al. (2020), arXiv:1911.09785. Of the estimation from
    rows without labels: Saerens, Latinne, Decaestecker (2002).

    :ivar log_shares: log s, ``[K]`` or ``[A, 2]``.
    :ivar early: r. :ivar doubt: e, ``[1]`` or ``[A, 1]``. :ivar seen: batches that both are of.
    :ivar certainty: ``[1]`` or ``[A, 1]``.
    :ivar checked: whether the certainty is measured.
    :ivar counts: known labels, ``[1]`` or ``[A, 1]``. :ivar spread: δ.
    """

    log_shares: Tensor
    early: Tensor
    doubt: Tensor
    seen: Tensor
    certainty: Tensor
    checked: Tensor
    counts: Tensor
    spread: Tensor

    def __init__(self, prior: LabelPrior) -> None:
        super().__init__()
        log_shares = prior.labels.log_probs(prior.logits)
        one = torch.ones_like(log_shares[..., :1])
        self.register_buffer("log_shares", log_shares)
        self.register_buffer("early", torch.zeros_like(log_shares))
        for name in ("doubt", "seen", "counts", "spread"):
            self.register_buffer(name, torch.zeros_like(one))
        self.register_buffer("certainty", torch.zeros_like(one) if prior.estimated else one)
        self.register_buffer("checked", torch.tensor(prior.prior == "estimated"))
        self.estimated, self.labels, self.prior = prior.prior in FROM_LABELS, prior.labels, prior.prior

    @torch.no_grad()
    def prepare(self, prior: LabelPrior, y: Tensor) -> None:
        """Take s from p(y) and the known labels; what was measured is forgotten."""
        labels = prior.labels
        self.log_shares.copy_(labels.log_probs(prior.logits) + labels.log_left(prior.logits, y))
        known = value_counts(y, 2 if labels.event_shape else labels.size).sum(1)
        self.counts.copy_(known.reshape(-1, 1) if labels.event_shape else known)
        self.spread.copy_(self.sampling_error(y))
        if self.estimated:
            self.seen.zero_()
            told = bool(labels.event_shape) or int((value_counts(y, labels.size) > 0).sum()) == labels.size
            measured = told and self.prior == "estimated"
            self.checked.fill_(measured)
            self.certainty.fill_(0.0 if measured else 1.0)

    def sampling_error(self, y: Tensor) -> Tensor:
        """δ of the labels, ``[1]`` or ``[A, 1]``."""
        s = self.log_shares.exp()
        spread = 0.5 * (2 * s * (1 - s) / (math.pi * self.counts.clamp_min(1))).sqrt().sum(-1, keepdim=True)
        if self.labels.event_shape:
            return spread
        per_class = value_counts(y, self.labels.size)
        return spread * (int(per_class.max() - per_class.min()) > 1)

    @property
    def taken_for_granted(self) -> bool:
        """Whether nobody can say what s is, or nobody has: a class without a label has 1/K."""
        return self.prior == "unlabelled" or (self.estimated and not bool(self.checked))

    @torch.no_grad()
    def observe(self, mean: Tensor, doubt: Tensor, count: Tensor, warmup: Tensor) -> None:
        """Take in a batch's mean of π and of 1 - max π, over ``count`` rows without a label, while ``warmup`` is 0.

        Both are averages over the batches so far in which late ones count more (polynomial decay, of power 3).
        """
        fresh = (count > 0) & (warmup == 0) & (self.seen < EARLY)
        self.seen.add_(fresh)
        rate = torch.where(fresh, 4 / (self.seen + 3), 0.0)
        self.early.lerp_(mean.to(self.early), rate.expand_as(self.early))
        self.doubt.lerp_(doubt.to(self.doubt), rate)
        ratio = (self.distance().square() + self.spread.square()) / (SURE * self.doubt).square().clamp_min(1e-12)
        learnt = 1 - self.doubt / max(1 - 1 / self.early.shape[-1], 1e-8)
        found = (1 - ratio).clamp_min(0.0) * learnt.clamp_min(0.0)
        self.certainty.copy_(torch.where(self.checked & (self.seen > 0), found, self.certainty))

    def distance(self) -> Tensor:
        """Total variation between r and s: ``[1]`` or ``[A, 1]``."""
        return 0.5 * (self.early - self.log_shares.exp()).abs().sum(-1, keepdim=True)

    def weight(self, warmup: Tensor) -> Tensor:
        """How much of the alignment is in force: the certainty; where it is measured, from the warm-up on."""
        return self.certainty * torch.where(self.checked, warmup, 1.0)

    def contradicted(self) -> Tensor:
        """Whether r and s differ by more than the errors of r allow, ``[1]`` or ``[A, 1]``.

        And, where s comes from n labels, by more than these allow if they were drawn at random: two standard
        deviations of some value's share.
        """
        s = self.log_shares.exp()
        spread = 2 * (s * (1 - s) / self.counts.clamp_min(1)).sqrt() * self.checked
        beyond = ((self.early - s).abs() > spread).any(-1, keepdim=True)
        return beyond & (self.distance() > SURE * self.doubt) & (self.seen > 0)

    def remark(self) -> str | None:
        """A line on shares that the predictions contradict; None where there is none."""
        against = self.contradicted().squeeze(-1)
        if self.taken_for_granted or not bool(against.any()):
            return None
        gap = self.early - self.log_shares.exp()
        if self.labels.event_shape:
            at = int((gap[:, 1].abs() * against).argmax())
            r, s = float(self.early[at, 1]), float(self.log_shares[at, 1].exp())
        else:
            at = int(gap.argmax())  # the class that is most of all more frequent than s says
            r, s = float(self.early[at]), float(self.log_shares[at].exp())
        name, whose = self.labels.names[at], "the labels' shares say" if self.estimated else "label_prior says"
        then = "that share is not enforced" if self.estimated else "that share is enforced"
        return (
            f"{whose} that {s:.0%} of the rows without a label are {name!r}, a head taught by the labels alone finds "
            f"{r:.0%}; {then}, and label_prior can give the right ones"
        )


def given_logits(labels: Labels, prior: Prior) -> Tensor:
    """The logits of a prior as it was given; 0 where it is estimated or uniform."""
    if isinstance(prior, str):
        if prior not in WORDS:
            raise InputError(f"label_prior: {prior!r}; {', '.join(map(repr, WORDS))} or probabilities are needed")
        return torch.zeros(labels.size)
    probs = torch.as_tensor(prior, dtype=torch.double)
    certain = labels.size == 1 and not labels.event_shape  # the only class there is
    if probs.shape != (labels.size,) or not bool(((probs > 0) & (probs < 1)).all() or certain):
        raise InputError(f"label_prior: {list(prior)}; {labels.size} probabilities above 0 and below 1 are needed")
    if labels.event_shape:
        return torch.logit(probs).float()
    if abs(float(probs.sum()) - 1) > 1e-3:
        raise InputError(f"label_prior: {list(prior)}; probabilities that sum to 1 are needed")
    return (probs / probs.sum()).log().float()
