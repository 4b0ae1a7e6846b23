"""AugVAE, the classifier-head VAE: a class layer beside the encoder's mean and scale, fed to the decoder with z.

Source: Berkhahn, Keys, Ouertani, Shetty, Geißler (2019), arXiv:1908.03015.
"""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..labels import MISSING, Labels
from ..nn.networks import ClassHead, features, with_class_input
from .conditional_decoder import ConditionalDecoder
from .generative import gaussian_head, outside, positive, standard_normal

FEW = 16
"""Values of y up to which a table's missing labels are enumerated."""


class AugmentedVAE(ConditionalDecoder):
    """A VAE whose encoder also classifies, and whose decoder is told the class::

        h = encoder(x)         q(z | x) = N(loc(h), scale(h)²)         π = softmax(head(h))

        -L(x, y) = E_q(z|x)[ log p(x | z, c) ] - β KL( q(z | x) || N(0, I) ) + α 1[y known] log π_y

    ``c`` is ``onehot(y)`` where y is known, which adds log p(y) to L. Where it is missing, ``label_inference`` decides
    (:class:`~pyro_ssvae.infer.label_inference.LabelInference`). By default (``"plug-in"``, the paper's) c = π: one
    decode a point, and the reconstruction's gradient reaches the head. ``"enumerate"`` has y as a discrete latent:
    ``Σ_y π_y [ log p(x | z, y) + log p(y) - log π_y ]``, K decodes a point; it is the default of tables with up to 16
    values of y, whose π is seldom near 0 or 1: a decoder that has heard such alone is a poor one of a label.
    ``"sparse"`` decodes the classes alone that sparsemax leaves. The supervised term is the softmax cross-entropy in
    all, which is finite where sparsemax gives the true class nothing.

    With few labels, a prior on π of the unlabelled rows keeps the classes apart
    (:class:`~pyro_ssvae.infer.auxiliary.HeadTerms`; a choice). Set both its weights to 0 for the paper's objective.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param decoder: ``(z, c)`` → ``[..., *input_shape]``, or of ``z`` alone, which is then extended
        (:class:`~pyro_ssvae.nn.networks.AddClass`). Its output is the likelihood's logits or mean.
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param options: those of :class:`~pyro_ssvae.models.config.LabelConfig`; ``likelihood`` may be a module.

    Sites (plate ``data`` over B; D latent dimensions, K classes, A attributes):

    ======== ============ =============== =====================================================
    site     batch shape  event shape     in the model / in the guide
    ======== ============ =============== =====================================================
    ``y``    [B]          [] or [A]       p(y) / known: a point mass; missing: q(y | x)
    ``z``    [B]          [D]             N(0, I) / q(z | x)
    ``x``    [B]          input_shape     p(x | z, y) / not in the guide
    ``head`` [B]          [0]             not in the model / a factor: what trains the head
    ======== ============ =============== =====================================================

    While enumerated, ``y`` has a further dimension of size K (classes), 2^A (attributes, which are enumerated jointly
    because x depends on all of them at once), or of the largest sparsemax support, on the left.
    """

    by_columns = True

    def __init__(self, encoder: nn.Module, decoder: nn.Module, labels: Labels, **options: Any) -> None:
        super().__init__()
        likelihood = self.set_options(options)
        dim = self.config.dim
        few = bool(self.config.columns) and labels.num_configurations <= FEW
        self.set_label(labels, "enumerate" if few else "plug-in")
        self.encoder = encoder
        self.decoder = with_class_input(decoder, dim, labels.size)
        self.set_likelihood(likelihood, labels.size)
        width = features(encoder)
        self.loc, self.log_scale = gaussian_head(width, dim)
        self.head = ClassHead(encoder, labels.size)

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, **options: Any) -> AugmentedVAE:
        encoder, decoder = cls.networks(input_shape, labels.size, options)
        return cls(encoder, decoder, labels, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(y) p(z) p(x | z, y)``."""
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            with self.kl_scale():
                z = pyro.sample("z", self.p_z(x))
            return pyro.sample("x", self.p_x_given(z, y, x), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(z | x) q(y | x)``."""
        x = self.begin(x)
        y = self.targets(y, x)
        h = self.encoder(self.likelihood.standardize(x))
        with self.plate(x):
            with self.kl_scale():
                pyro.sample("z", self.q_z(h))
            self.infer_label(self.head(h), y)

    def hurried(self) -> list[Tensor]:
        """Of a table what the bound alone trains, all but encoder and class head: it learns up to five times as fast
        where a training passes fewer than 400 times over the rows (:func:`~pyro_ssvae.train.optimizer.hurry`)."""
        return outside(self, self.encoder, self.head) if self.config.columns else []

    def scale_gradient(self, value: Tensor, share: float = 1.0) -> Tensor:
        """The head hears the whole of an exact sum from the start; a relaxed label's part grows."""
        return super().scale_gradient(value, share) if self.label_inference.relaxed else value

    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        """``N(0, I)``."""
        return standard_normal(x, self.config.dim)

    def q_z(self, h: Tensor) -> dist.TorchDistribution:
        """``N(loc(h), scale(h)²)``."""
        return dist.Normal(self.loc(h), positive(self.log_scale(h))).to_event(1)

    def q_y(self, x: Tensor) -> Tensor:
        """π, or what sparsemax leaves of it."""
        return self.label_inference.probs(self.head(self.encoder(self.likelihood.standardize(x))))

    def reconstruction_values(self, x: Tensor, y: Tensor | None, sites: dict[str, Any]) -> dict[str, Tensor]:
        """A missing label enters as its probabilities; the most probable one where the model takes labels alone."""
        probs, known = self.class_probs(x), self.targets(y, x)
        if self.takes_probs:
            c = self.labels.impute(probs, known)
        else:
            c = torch.where(known == MISSING, self.labels.mode(probs), known)
        return {**super().reconstruction_values(x, y, sites), "y": c}
