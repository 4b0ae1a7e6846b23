"""Parts of models with labels: a classifier's verbs, and a label that is a latent of the joint."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from typing import ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from pyro import poutine
from torch import Tensor, nn

from ..data.inputs import numbers
from ..distributions.relaxed import AcceptRelaxed
from ..distributions.sparse import Scattered
from ..errors import InputError
from ..infer.auxiliary import HeadTerms
from ..infer.batched import evaluating, seeded
from ..infer.label_inference import MOST_SUMMED, AcceptLabels, How, Known, LabelInference
from ..infer.label_prior import LabelPrior
from ..infer.traces import Unobserved, need_site
from ..labels import MISSING, Labels, value_counts
from ..nn.likelihood_base import Likelihood
from ..nn.networks import ClassHead, mixes_rows
from .base import Model, given_labels
from .config import HeadConfig, LabelConfig
from .generative import GenerativeModel
from .interventions import prior_of
from .rewritten import completed, guided_probs, overridden_since, probs_of

ROUNDING = 1e-4  # of a probability
SMALL = 256  # numbers of a point, whose decode costs no more than to find those that need one


class ClassifierMixin(Model):
    """A model with a class head. Its ``q_y(x)`` gives the probabilities ``[B, K]`` or ``[B, A]``.

    :ivar y_is_observed: whether known labels are observed by the model's site y, and the guide has none.
    """

    labels: Labels
    y_is_observed: ClassVar[bool] = False

    def q_y(self, x: Tensor) -> Tensor:
        """The probabilities of q(y | x): ``[B, K]`` or ``[B, A]``."""
        raise NotImplementedError

    def expected_error(self, x: Tensor, y: Tensor) -> float | None:
        """How often simple methods miss labels that they have not seen; None of other points than vectors.

        See :func:`~pyro_ssvae.infer.expected_error.expected_error`. A sample of streamed rows has lost its labels.
        """
        if x.dim() != 2 or len(x) != len(y) or not isinstance(self.likelihood, Likelihood):
            return None
        from ..infer.expected_error import expected_error, rows_to_ask

        rows = rows_to_ask(y)
        return expected_error(self.likelihood.standardize(self.inputs(x[rows.to(x.device)])), y[rows.to(y.device)])

    def prepare_head(self, x: Tensor, y: Tensor, terms: HeadTerms | None) -> None:
        """Take from the training data what its labels say: p(y), ε, and how far the features of a table serve."""
        error = cache(lambda: self.expected_error(x, y))
        if terms is not None:
            terms.prepare(y, error)
        heads = [part for part in self.modules() if isinstance(part, ClassHead) and part.of_table]
        if heads:
            values = 2 if self.labels.event_shape else self.labels.size
            n = int(value_counts(y, values).sum()) / math.prod(self.labels.event_shape)
            for head in heads:
                head.lean_on_input(error() or 0.0, 1 - 1 / values, n)

    def class_probs(self, x: Tensor) -> Tensor:
        """The probabilities of the site y: :meth:`q_y`, unless a program that was rewritten since has others.

        It is the guide's site; the model's, in the mean of the guide's draws, where :attr:`y_is_observed`.
        """
        rewritten = ("model", "guide") if self.y_is_observed else ("guide",)
        if any(overridden_since(self, program, "q_y") for program in rewritten):
            return guided_probs(self, x, of_model=self.y_is_observed)
        return self.q_y(x)

    def predict_proba(self, x: ArrayLike) -> Tensor:
        """q(y | x): ``[B, K]`` class or ``[B, A]`` attribute probabilities."""
        return self.read(self.class_probs, x)

    def predict(self, x: ArrayLike) -> Tensor:
        """The most probable labels: int64 ``[B]`` or ``[B, A]``."""
        return self.labels.mode(self.predict_proba(x))


class LabelMixin(ClassifierMixin, GenerativeModel):
    """A label that is a latent of the joint: p(y), how it is inferred, and what trains the head.

    :ivar head_terms: what trains the head beside the bound, and p(y) as its ``label_prior``.
    :ivar label_inference: how a missing label is inferred.
    """

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
        self.head_terms.factor(logits, y, self.label_inference.divergence(gentle, y, self.p_y))
        return self.label_inference("y", gentle, y, known=self.known_places() if self.training else "own")

    def known_places(self) -> Known:
        """What an enumeration in training has at a row whose label is known."""
        return "repeat" if any(mixes_rows(network) for network in self.networks_of_label()) else "own"

    def networks_of_label(self) -> tuple[nn.Module, ...]:
        """The networks that hear the label."""
        return ()

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

    def drawn_labels(self, n: int, y: ArrayLike | None) -> dict[str, Tensor]:
        if y is None:
            return {}
        known = given_labels(y, n, self.labels, self.device)
        self.check_labels_first(n)
        if not n or not bool((known == MISSING).any()):
            return {"y": known}
        site = need_site(poutine.trace(self.model).get_trace(self.stand_in(n), None), "y", "generate")
        return {"y": completed(site["fn"], site["value"], known, self.labels)}


class ConditionalDecoder(LabelMixin):
    """A model whose decoder hears z and the label: ``p(y) p(z) p(x | z, y)``.

    ``decode(z, y)`` takes integers, one a row or for all, or inputs ``[B, K]`` from 0 to 1; a missing label enters as
    its probabilities under p(y).

    :ivar decodes: with ``label_inference="sparse"``, how many decodes a point the latest batch took.
    :ivar mostly_known: whether more than half of the rows that :meth:`prepare` saw have a class, and a decode costs
        more than to find them.
    """

    Config: ClassVar[type[LabelConfig]] = LabelConfig
    config: LabelConfig
    mostly_known = False

    def prepare(self, x: Tensor, y: Tensor) -> None:
        super().prepare(x, y)
        self.mostly_known = (
            not self.labels.event_shape
            and x[0].numel() > SMALL
            and int(value_counts(y, self.labels.size).sum()) > len(y) / 2
        )

    def known_places(self) -> Known:
        """With few labels missing, a known one is decoded once.

        Not on a GPU, where the number of decodes would have to be asked for: that keeps a step from being a CUDA graph,
        and costs more than the decodes.
        """
        known = super().known_places()
        if known == "own" and self.mostly_known and self.device.type == "cpu":
            return "skip"
        return known

    def set_label(self, labels: Labels, how: How, *, summed: int = MOST_SUMMED, joint: bool = True) -> None:
        super().set_label(labels, how, summed=summed, joint=joint)
        if self.label_inference.how == "sparse":
            self.decodes: Tensor
            self.register_buffer("decodes", torch.tensor(1.0), persistent=False)

    def count_decodes(self) -> Tensor | None:
        """How many decodes a point the latest batch took; None where it is the same number always."""
        return self.decodes if self.label_inference.how == "sparse" else None

    def networks_of_label(self) -> tuple[nn.Module, ...]:
        return (self.decoder,)

    def p_x_given(self, z: Tensor, y: Tensor, x: Tensor) -> dist.TorchDistribution:
        """p(x | z, y). Places of an enumeration that no class takes are not decoded."""
        c = self.class_input(y, x)
        sparse = self.label_inference.how == "sparse"
        gaps = sparse or (self.training and self.known_places() == "skip")
        if not gaps or y.is_floating_point() or y.dim() < 2:
            return self.p_x(self.decoder(z, c))
        needed = y != MISSING
        place, row = needed.nonzero(as_tuple=True)
        if sparse:
            self.decodes.copy_(needed.sum() / len(x))
        torch._check(row.shape[0] >= len(x))  # what a captured program may rely on
        z = z[row] if z.dim() == 2 else z.expand(*needed.shape, -1)[place, row]
        return Scattered(self.p_x(self.decoder(z, c[place, row])), place, row, needed.shape)

    @property
    def takes_probs(self) -> bool:
        """Whether x is decoded of a missing label's probabilities; what was rewritten and never trained on any may take
        labels alone, such as by ``one_hot``."""
        parts = ("model", "p_x_given", "class_input")
        return self.label_inference.relaxed or not any(overridden_since(self, part, "default") for part in parts)

    def decode(self, z: Tensor, y: ArrayLike | None = None, *, like: ArrayLike | None = None) -> Tensor:
        try:
            return super().decode(z, y, like=like)
        except (RuntimeError, TypeError, IndexError):  # of a program of one's own
            if self.takes_probs or not self.label_values(len(z), y)["y"].is_floating_point():
                raise
        raise InputError(
            "decode: the model as it was rewritten takes labels, and no probabilities; all labels are needed"
        )

    def label_values(self, n: int, y: ArrayLike | None) -> dict[str, Tensor]:
        if isinstance(y, (Tensor, np.ndarray)) and is_float(y) and y.ndim == 2:
            given = numbers(y, "y").to(self.device)
            if not (self.labels.event_shape and are_values(given)):
                return {"y": self.checked_inputs(given, n)}
        known = self.labels.check(None, n, self.device) if y is None else given_labels(y, n, self.labels, self.device)
        missing = bool((known == MISSING).any())
        return {"y": self.labels.impute(self.prior_probs(n), known) if missing else known}

    def prior_probs(self, n: int) -> Tensor:
        """The probabilities of p(y), as the model has it, for ``n`` points: ``[n, K]`` or ``[n, A]``."""
        rewritten = overridden_since(self, "model", "default")
        p_y = prior_of(self, "y", n, {}, "decode") if rewritten else self.p_y()
        return probs_of(p_y, "decode: p(y)", "all labels are needed").expand(n, -1)

    def checked_inputs(self, c: Tensor, n: int) -> Tensor:
        """Inputs of the label for ``n`` points, from inputs a row or from one row for all."""
        size = self.labels.size
        if c.shape not in ((n, size), (1, size)):
            raise InputError(f"y: shape {list(c.shape)}; labels, or inputs [{n}, {size}] of them, are needed")
        wrong = ~((c >= -ROUNDING) & (c <= 1 + ROUNDING))
        if bool(wrong.any()):
            row = int(wrong.any(1).nonzero()[0])
            raise InputError(f"y: row {row} holds {float(c[row][wrong[row]][0]):g}; inputs of a label are from 0 to 1")
        return c.expand(n, -1)


def is_float(y: Tensor | np.ndarray) -> bool:
    """Whether labels are no integers, such as probabilities."""
    return y.is_floating_point() if isinstance(y, Tensor) else y.dtype.kind == "f"


def are_values(y: Tensor) -> bool:
    """Whether numbers are attributes' values, missing ones among them, and no shares."""
    return bool(((y == MISSING) | (y == 0) | (y == 1) | y.isnan()).all())


def gaussian_head(width: int, latent_dim: int) -> tuple[nn.Linear, nn.Linear]:
    """Layers to the mean and to the log-scale of a Gaussian."""
    return nn.Linear(width, latent_dim), nn.Linear(width, latent_dim)
