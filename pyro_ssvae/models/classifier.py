"""The trunk with a class layer alone: what labels without unlabelled points give, the baseline of every model."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ..labels import Labels
from ..nn.likelihoods import Likelihood
from ..nn.networks import default_encoder, features
from .base import Classifying, deterministic, named_likelihood


class Classifier(Classifying):
    """``L(x, y) = 1[y known] log π_y``, ``π = softmax(head(encoder(x)))`` (a sigmoid for each attribute).

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param input_shape: shape of one point.
    :param likelihood: its units only: ``"normal"`` standardises features, ``"bernoulli"`` takes pixels as they are.

    Sites, all in the plate ``data`` over B: ``logits`` (event [K], handed over by the guide, not scored),
    ``y_observed`` (the known labels), ``y_unobserved`` (a draw from π; it does not enter the objective) and ``y``.
    """

    def __init__(
        self,
        encoder: nn.Module,
        labels: Labels,
        *,
        input_shape: tuple[int, ...],
        likelihood: str | Likelihood | None = None,
    ) -> None:
        super().__init__()
        self.labels: Labels = labels
        self.input_shape = tuple(input_shape)
        self.encoder = encoder
        self.head = nn.Linear(features(encoder), labels.size)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        made = likelihood or ("bernoulli" if len(input_shape) == 3 else "normal")
        fixed = {} if made == "bernoulli" else {"scale": 1.0}  # nothing to learn here
        self.likelihood = named_likelihood(made, self.input_shape, **fixed) if isinstance(made, str) else made

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, latent_dim: int = 0, **options: Any) -> Classifier:
        """The model with the encoder that suits the input's shape."""
        return cls(default_encoder(input_shape), labels, input_shape=input_shape, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``π_y`` of the known labels."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        with pyro.plate("data", len(x)):
            logits = self.handed_over(x)
            self.observe(logits, y)
            guess = pyro.sample("y_unobserved", self.labels.given(logits.detach(), y))
            return deterministic("y", guess, logits, len(self.labels.event_shape))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """The head's output, and a draw of the missing labels."""
        self.register()
        x = self.inputs(x)
        logits = self.class_logits(x)
        with pyro.plate("data", len(x)):
            pyro.sample("logits", dist.Delta(logits, event_dim=1))
            pyro.sample("y_unobserved", self.labels.given(logits.detach(), self.targets(y, x)))

    def class_logits(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.likelihood.standardize(x)))

    def encode(self, x: Any) -> dist.TorchDistribution:
        """The features as a point mass, batch shape [B], event shape [H]."""
        return dist.Delta(self.each(lambda x: self.encoder(self.likelihood.standardize(x)), x), event_dim=1)
