"""The trunk with a class layer alone: what labels without unlabelled points give, the baseline of every model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..errors import InputError
from ..infer.auxiliary import HeadTerms, supervised
from ..infer.label_inference import observe_label
from ..infer.label_prior import LabelPrior
from ..labels import MISSING, Labels
from ..nn.likelihoods import Likelihood, encoder_for, named_likelihood
from ..nn.networks import ClassHead
from .classifier_mixin import ClassifierMixin
from .config import Config, Weight, make_config


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(Config):
    """Options of the classifier; ``latent_dim`` has no effect, and of the likelihood only its units count.

    The supervised term has the weight 1: a model with α has the same balance at its own weights over α.
    """

    label_prior: str | tuple[float, ...] = "estimated"
    """p(y): estimated (from the known labels), uniform, or probabilities; of no effect without alignment."""
    entropy_weight: Weight = 0.0
    """Weight of the entropy of the missing labels' probabilities (entropy minimisation)."""
    alignment_weight: Weight = 0.0
    """Weight that keeps the classes as frequent as the prior over labels says (distribution alignment)."""


class Classifier(ClassifierMixin):
    """``L(x, y) = 1[y known] ω_y log π_y``, ``π = softmax(head(encoder(x)))`` (a sigmoid for each attribute).

    With ``entropy_weight`` or ``alignment_weight`` above 0 it also learns from rows without a label, as the other
    models' heads do (:class:`~pyro_ssvae.infer.auxiliary.HeadTerms`): what they are without a decoder.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param input_shape: shape of one point.
    :param options: those of :class:`ClassifierConfig`. A likelihood says its units only: ``"normal"`` standardises
        features, ``"bernoulli"`` takes pixels as they are.

    Sites, all in the plate ``data`` over B: ``y`` (event [] or [A]; the model's, observed where a label is known under
    π, no part of the objective where it is missing) and, where classes have weights, the factor ``class_weights``. With
    terms of the missing labels, the factor ``head`` instead: all terms of the head, less the site ``y``'s. The guide
    has no site.
    """

    Config: ClassVar[type[ClassifierConfig]] = ClassifierConfig
    config: ClassifierConfig
    y_is_observed = True

    def __init__(self, encoder: nn.Module, labels: Labels, *, input_shape: tuple[int, ...], **options: Any) -> None:
        super().__init__()
        likelihood = self.set_options(options)
        self.labels: Labels = labels
        self.input_shape = tuple(input_shape)
        self.encoder = encoder
        self.head = ClassHead(encoder, labels.size, alone=True)
        self.class_weights: Tensor | None = None
        self.likelihood = self.units(likelihood)
        c = self.config
        self.head_terms: HeadTerms | None = None
        if c.entropy_weight or c.alignment_weight:
            prior = LabelPrior(labels, c.label_prior)
            smoothing = None if c.entropy_weight else 0.0
            self.head_terms = HeadTerms(labels, prior, 1.0, c.entropy_weight, c.alignment_weight, smoothing)

    def units(self, likelihood: str | nn.Module | None) -> Likelihood:
        """The likelihood whose units the encoder sees; it has nothing to learn here: its parameters are constants."""
        if isinstance(likelihood, nn.Module):
            return likelihood  # type: ignore[return-value]
        made = named_likelihood(likelihood, self.input_shape, self.config.likelihood_options)
        for part in made.modules():  # buffers, of the same names: Pyro warns of a parameter that has no gradient
            for name, value in list(part.named_parameters(recurse=False)):
                delattr(part, name)
                part.register_buffer(name, value.detach())
        return made

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, **options: Any) -> Classifier:
        config = make_config(cls.Config, options)
        deep = config.networks == "deep"
        encoder, _ = encoder_for(options.get("likelihood"), input_shape, config.likelihood_options, deep)
        return cls(encoder, labels, input_shape=input_shape, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``π_y`` of the known labels."""
        x = self.begin(x)
        y = self.targets(y, x)
        logits = self.logits(x)
        with self.plate(x):
            if self.class_weights is not None:
                more = supervised(self.labels, logits, y, self.class_weights.to(logits) - 1)
                pyro.factor("class_weights", more)
            if self.head_terms is not None:
                pyro.factor("head", self.head_terms(logits, y) - supervised(self.labels, logits, y))
            return observe_label(self.labels, logits, y)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """No latent site."""
        self.begin(x)

    def logits(self, x: Tensor) -> Tensor:
        """The head's output."""
        out: Tensor = self.head(self.encoder(self.likelihood.standardize(x)))
        return out

    def q_y(self, x: Tensor) -> Tensor:
        return self.labels.probs(self.logits(x))

    def encode(self, x: ArrayLike) -> dist.TorchDistribution:
        """The features as a point mass, batch shape [B], event shape [H]."""
        return dist.Delta(self.read(lambda x: self.encoder(self.likelihood.standardize(x)), x), event_dim=1)

    def prepare(self, x: Tensor, y: Tensor) -> None:
        """Take units and p(y) from the data; raise :class:`InputError` where no label is known, which would teach it
        nothing."""
        if not bool((y != MISSING).any()):
            raise InputError("y: no label is known; a classifier learns from labels alone, and needs some")
        super().prepare(x, y)
        self.prepare_head(x, y, self.head_terms)

    def set_progress(self, progress: float) -> None:
        """:meth:`HeadTerms.set_progress <pyro_ssvae.infer.auxiliary.HeadTerms.set_progress>`."""
        if self.head_terms is not None:
            self.head_terms.set_progress(progress)

    def set_class_weights(self, weights: Tensor | None) -> None:
        """Set ω: ``[K]``, a weight of each class (attributes ``[A, 2]``, of each value); None: all count alike."""
        if self.head_terms is not None:
            self.head_terms.set_class_weights(weights)
        else:
            self.class_weights = None if weights is None else torch.as_tensor(weights)
