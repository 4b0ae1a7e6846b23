"""The ordinary VAE: no labels, the reference that the unsupervised tasks are compared with.

Source: Kingma, Welling (2014), arXiv:1312.6114.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ..labels import Labels
from ..nn.networks import features, with_class_input
from .config import VAEConfig
from .generative import GenerativeModel, gaussian_head, outside, positive, standard_normal


class VAE(GenerativeModel):
    """``ELBO(x) = E_q(z|x)[ log p(x | z) ] - β KL( N(loc(h), scale(h)²) || N(0, I) )``, ``h = encoder(x)``.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param decoder: ``z [..., D]`` → ``[..., *input_shape]``, the likelihood's logits or mean.
    :param labels: not used in training; says what labels the data has, for evaluation.
    :param options: those of :class:`~pyro_ssvae.models.config.VAEConfig`; ``likelihood`` may be a module.

    Sites, all in the plate ``data`` over B: ``z`` (event [D]) and ``x`` (event input_shape). ``y`` is ignored.
    """

    Config: ClassVar[type[VAEConfig]] = VAEConfig
    config: VAEConfig
    by_columns = True

    def __init__(self, encoder: nn.Module, decoder: nn.Module, labels: Labels | None = None, **options: Any) -> None:
        super().__init__()
        likelihood = self.set_options(options)
        dim = self.config.dim
        self.labels = labels
        self.encoder = encoder
        self.decoder = with_class_input(decoder, dim, 0)
        self.set_likelihood(likelihood, 0)
        self.loc, self.log_scale = gaussian_head(features(encoder), dim)

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels | None, **options: Any) -> VAE:
        encoder, decoder = cls.networks(input_shape, 0, options)
        return cls(encoder, decoder, labels, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(z) p(x | z)``."""
        x = self.begin(x)
        with self.plate(x):
            with self.kl_scale():
                z = pyro.sample("z", self.p_z(x))
            return pyro.sample("x", self.p_x(self.decoder(z, None)), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(z | x)``."""
        x = self.begin(x)
        with self.plate(x), self.kl_scale():
            pyro.sample("z", self.q_z(x))

    def hurried(self) -> list[Tensor]:
        """Of a table, all but the encoder; see :class:`~.augmented.AugmentedVAE`."""
        return outside(self, self.encoder) if self.config.columns else []

    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        """``N(0, I)``."""
        return standard_normal(x, self.config.dim)

    def q_z(self, x: Tensor) -> dist.TorchDistribution:
        """``N(loc(h), scale(h)²)``."""
        h = self.encoder(self.likelihood.standardize(x))
        return dist.Normal(self.loc(h), positive(self.log_scale(h))).to_event(1)
