"""The trunk with a class layer alone: what labels without unlabelled points give, the baseline of every model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..infer.auxiliary import supervised
from ..labels import Labels
from ..nn.likelihoods import Likelihood, named_likelihood
from ..nn.networks import default_encoder, features
from .config import Config
from .labelled import ClassifierMixin, zero_head


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(Config):
    """Options of the classifier; ``latent_dim`` has no effect, and of the likelihood only its units count."""


class Classifier(ClassifierMixin):
    """``L(x, y) = 1[y known] ω_y log π_y``, ``π = softmax(head(encoder(x)))`` (a sigmoid for each attribute).

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param input_shape: shape of one point.
    :param options: those of :class:`ClassifierConfig`. A likelihood says its units only: ``"normal"`` standardises
        features, ``"bernoulli"`` takes pixels as they are.

    Sites, all in the plate ``data`` over B: ``y`` (event [] or [A]; the model's, observed where a label is known under
    π, no part of the objective where it is missing) and, where classes have weights, the factor ``class_weights``. The
    guide has no site.
    """

    Config: ClassVar[type[ClassifierConfig]] = ClassifierConfig

    def __init__(self, encoder: nn.Module, labels: Labels, *, input_shape: tuple[int, ...], **options: Any) -> None:
        super().__init__()
        likelihood = self.set_options(options)
        self.labels: Labels = labels
        self.input_shape = tuple(input_shape)
        self.encoder = encoder
        self.head = zero_head(features(encoder), labels.size)
        self.class_weights: Tensor | None = None
        self.likelihood = self.units(likelihood)

    def units(self, likelihood: str | nn.Module | None) -> Likelihood:
        """The likelihood whose units the encoder sees; it has nothing to learn here."""
        if isinstance(likelihood, nn.Module):
            return likelihood  # type: ignore[return-value]
        name = likelihood or ("bernoulli" if len(self.input_shape) == 3 else "normal")
        return named_likelihood(name, self.input_shape, **({} if name == "bernoulli" else {"scale": 1.0}))

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, **options: Any) -> Classifier:
        return cls(default_encoder(input_shape), labels, input_shape=input_shape, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``π_y`` of the known labels."""
        x = self.begin(x)
        y = self.targets(y, x)
        logits = self.logits(x)
        with self.plate(x):
            if self.class_weights is not None:
                more = supervised(self.labels, logits, y, self.class_weights.to(logits) - 1)
                pyro.factor("class_weights", more)
            return pyro.sample("y", self.labels.masked(logits, y), obs=self.labels.safe_values(y, logits))

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

    def set_class_weights(self, weights: Tensor) -> None:
        """Set ω: ``[K]``, a weight of each class (attributes ``[A, 2]``, of each value)."""
        self.class_weights = torch.as_tensor(weights)
