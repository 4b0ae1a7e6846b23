"""A label that is a latent of the joint: p(y), how it is inferred, and what trains the head."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from pyro import poutine
from torch import Tensor, nn

from ..distributions.relaxed import AcceptRelaxed
from ..errors import InputError
from ..infer.auxiliary import HeadTerms
from ..infer.batched import evaluating, seeded
from ..infer.label_inference import MOST_SUMMED, AcceptLabels, How, Known, LabelInference
from ..infer.label_prior import LabelPrior
from ..infer.traces import Unobserved, need_site
from ..labels import MISSING, Labels
from ..nn.likelihood_base import Likelihood
from ..nn.networks import mixes_rows
from .base import given_labels
from .classifier_mixin import ClassifierMixin
from .config import HeadConfig
from .generative import GenerativeModel
from .rewritten import completed, overridden_since, prior_of


class LabelMixin(ClassifierMixin, GenerativeModel):
    """A label that is a latent of the joint: p(y), how it is inferred, and what trains the head.

    :ivar head_terms: what trains the head beside the bound, and p(y) as its ``label_prior``.
    :ivar label_inference: how a missing label is inferred.
    :cvar hears_label: whether an encoded latent of the guide, as it was written here, depends on y.
    """

    hears_label: ClassVar[bool] = False
    Config: ClassVar[type[HeadConfig]] = HeadConfig
    labels: Labels
    config: HeadConfig

    def set_label(self, labels: Labels, how: How, *, summed: int = MOST_SUMMED, joint: bool = True) -> None:
        """Make the parts that have to do with y; called once, by ``__init__``."""
        c = self.config
        self.labels = labels
        self.label_inference = LabelInference(labels, c.label_inference or how, summed=summed, joint=joint)
        prior = LabelPrior(labels, c.label_prior)
        smoothing = c.label_smoothing if c.entropy_weight or c.label_smoothing is not None else 0.0
        self.head_terms = HeadTerms(labels, prior, c.alpha, c.entropy_weight, c.alignment_weight, smoothing)

    def set_likelihood(self, likelihood: str | nn.Module | None, class_dim: int) -> None:
        """Make the likelihood too, and weigh the labels' terms by what it gains."""
        super().set_likelihood(likelihood, class_dim)
        if isinstance(self.likelihood, Likelihood):
            self.head_terms.times(self.likelihood.label_weight)

    @property
    def label_prior(self) -> LabelPrior:
        """p(y)."""
        return self.head_terms.label_prior

    def p_y(self) -> dist.TorchDistribution:
        """p(y)."""
        return self.label_prior()

    def plate(self, x: Tensor) -> AbstractContextManager[object]:
        """The plate ``data`` over the rows of ``x``, in which p(y) takes relaxed labels too."""
        stack = ExitStack()
        stack.enter_context(super().plate(x))
        stack.enter_context(AcceptLabels())
        return stack

    def prepare(self, x: Tensor, y: Tensor) -> None:
        self.check_plate()
        super().prepare(x, y)
        self.prepare_head(x, y, self.head_terms)

    def check_plate(self) -> None:
        """Raise :class:`InputError` where a rewritten model's p(y), or its x, does not take the relaxed labels of the
        guide."""
        if not (self.label_inference.relaxed and overridden_since(self, "model", "default")):
            return
        store = pyro.get_param_store()
        try:
            with seeded(self.device, 0), store.scope(store.get_state()):
                site = prior_of(self, "y", 2, {})
        except Exception:  # of points that are none of the data's: the training itself says what is wrong
            return
        if not isinstance(site, AcceptRelaxed):
            raise InputError(
                f"label_inference: {self.label_inference.how} hands the model relaxed labels; its plate must be "
                "'with self.plate(x):', or label_inference='enumerate' is needed"
            )
        n = self.labels.size + 2  # another number than that of the inputs, with which they must not broadcast
        whole = self.labels.mode(torch.zeros(n, self.labels.size, device=self.device))
        if self.runs_on(whole) and not self.runs_on(self.label_prior.logits.new_full((n, self.labels.size), 0.5)):
            raise InputError(
                f"label_inference: {self.label_inference.how} hands the model relaxed labels, of which its x takes "
                "none; self.class_input(y, x) does, or label_inference='enumerate' is needed"
            )

    def runs_on(self, y: Tensor) -> bool:
        """Whether the model, as it is, runs on values of the site y."""
        store, model = pyro.get_param_store(), poutine.condition(Unobserved()(self.model), {"y": y})
        try:
            with seeded(self.device, 0), store.scope(store.get_state()), evaluating(self), poutine.block():
                model(self.stand_in(len(y)), None)
        except Exception:  # of a program of one's own
            return False
        return True

    def set_progress(self, progress: float) -> None:
        """β as :meth:`.GenerativeModel.set_progress` has it, and what reaches the head:
        :meth:`HeadTerms.set_progress <pyro_ssvae.infer.auxiliary.HeadTerms.set_progress>`."""
        super().set_progress(progress)
        self.head_terms.set_progress(progress)

    def remarks(self) -> list[str]:
        """What a person should know of p(y) after a training, a line each."""
        remark = self.head_terms.shares.remark() if self.head_terms.alignment_weight else None
        return [] if remark is None else [remark]

    def set_class_weights(self, weights: Tensor | None) -> None:
        """:meth:`HeadTerms.set_class_weights <pyro_ssvae.infer.auxiliary.HeadTerms.set_class_weights>`."""
        self.head_terms.set_class_weights(weights)

    def scale_gradient(self, value: Tensor, share: float = 1.0) -> Tensor:
        """:meth:`HeadTerms.scale_gradient <pyro_ssvae.infer.auxiliary.HeadTerms.scale_gradient>`."""
        return self.head_terms.scale_gradient(value, share)

    def infer_label(self, logits: Tensor, y: Tensor) -> Tensor:
        """Guide sites ``head`` and ``y``: what trains the head, and q(y | x); return the site y's value."""
        gentle = self.scale_gradient(logits)
        self.head_terms.factor(logits, y, self.label_inference.negative_entropy(gentle, y))
        return self.label_inference("y", gentle, y, known=self.known_places() if self.training else "own")

    def known_places(self) -> Known:
        """What an enumeration in training has at a row whose label is known."""
        return "repeat" if any(mixes_rows(network) for network in self.networks_of_label()) else "own"

    def networks_of_label(self) -> tuple[nn.Module, ...]:
        """The networks that hear the label."""
        return ()

    def point_labels(self, x: Tensor, y: Tensor | None) -> Tensor | None:
        """Missing labels as the most probable ones, where encoded latents hear them, or what was rewritten may hear
        drawn ones."""
        rewritten = any(overridden_since(self, program, "default") for program in ("model", "guide"))
        if not (self.hears_label or (rewritten and not self.label_inference.relaxed)):
            return y
        known = self.labels.check(y, len(x), x.device)
        return torch.where(known == MISSING, self.labels.mode(self.class_probs(x)), known)

    def class_input(self, y: Tensor, like: Tensor) -> Tensor:
        """A value of the site y as a network takes it, ``[..., B, K]`` or ``[..., B, A]``, of rows ``[B, ...]``."""
        c = self.labels.inputs(y, like)
        return c.expand(len(like), -1) if c.dim() == 1 else c

    def check_labels_first(self, n: int) -> None:
        """Raise :class:`InputError` where the model's y depends on what is drawn before, of which a draw given y would
        be one of the posterior."""
        if not n:
            return
        with seeded(self.device, 0):
            one, other = (prior_of(self, "y", n, {}, "generate") for _ in range(2))
            value = one.sample()
            alike = torch.equal(one.log_prob(value), other.log_prob(value))
        if not alike:
            raise InputError(
                "generate: the model's y depends on what it draws before, which would not be drawn given y; "
                "y=None draws all of it"
            )

    def label_values(self, n: int, y: ArrayLike | None, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of a rewritten model, whose x may hear y: the labels that are given, or else read off the latents."""
        if not overridden_since(self, "model", "default"):
            return {}
        known = self.labels.check(None, n, self.device) if y is None else given_labels(y, n, self.labels, self.device)
        told = self.read_off(parts)
        known = known if told is None else torch.where(known == MISSING, told, known)
        if bool((known == MISSING).any()):
            return {} if y is None else self.drawn_labels(n, y)
        return {"y": self.as_site(known)}

    def read_off(self, parts: dict[str, Tensor]) -> Tensor | None:
        """The most probable labels ``[n]`` or ``[n, A]`` of latents; None where these do not tell.

        :param parts: as the sites have them.
        """
        return None

    def as_site(self, y: Tensor) -> Tensor:
        """Labels ``[n]`` or ``[n, A]`` as the site y has them."""
        return y

    def drawn_labels(self, n: int, y: ArrayLike | None) -> dict[str, Tensor]:
        if y is None:
            return {}
        known = given_labels(y, n, self.labels, self.device)
        self.check_labels_first(n)
        if not n or not bool((known == MISSING).any()):
            return {"y": known}
        site = need_site(poutine.trace(self.model).get_trace(self.stand_in(n), None), "y", "generate")
        return {"y": completed(site["fn"], site["value"], known, self.labels)}
