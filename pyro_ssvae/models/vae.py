"""The ordinary VAE: no labels, the reference that the unsupervised tasks are compared with.

Source: Kingma, Welling (2014), arXiv:1312.6114.
"""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from ..errors import InputError
from ..labels import Labels
from ..nn.likelihoods import Likelihood
from ..nn.networks import AddClass, default_decoder, default_encoder, features, takes_class_input
from .base import Model, make_likelihood, positive, standard_normal


class VAE(Model):
    """``ELBO(x) = E_q(z|x)[ log p(x | z) ] - β KL( N(loc(h), scale(h)²) || N(0, I) )``, ``h = encoder(x)``.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param decoder: ``z [..., D]`` → ``[..., *input_shape]``, the likelihood's logits or mean.
    :param labels: not used in training; says what labels the data has, for evaluation.
    :param latent_dim: D.
    :param beta: β.
    :param likelihood: as for :class:`~pyro_ssvae.AugmentedVAE`.

    Sites, all in the plate ``data`` over B: ``z`` (event [D]) and ``x`` (event input_shape). ``y`` is ignored.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        labels: Labels | None = None,
        *,
        latent_dim: int,
        beta: float = 1.0,
        likelihood: str | Likelihood | None = None,
    ) -> None:
        super().__init__()
        self.labels = labels
        self.latent_dim = latent_dim
        self.beta = beta
        self.encoder = encoder
        self.decoder = decoder if takes_class_input(decoder) else AddClass(decoder, latent_dim, 0)
        self.likelihood, self.input_shape = make_likelihood(likelihood, self.decoder, latent_dim, 0)
        width = features(encoder)
        self.loc = nn.Linear(width, latent_dim)
        self.log_scale = nn.Linear(width, latent_dim)

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels | None, latent_dim: int, **options: Any) -> VAE:
        """The model with the networks that suit the input's shape."""
        encoder, decoder = default_encoder(input_shape), default_decoder(input_shape, latent_dim, 0)
        return cls(encoder, decoder, labels, latent_dim=latent_dim, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(z) p(x | z)``."""
        self.register()
        x = self.inputs(x)
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=self.beta):
                z = pyro.sample("z", standard_normal(x, self.latent_dim))
            return pyro.sample("x", self.likelihood(self.decoder(z, None)), obs=self.likelihood.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(z | x)``."""
        self.register()
        x = self.inputs(x)
        with pyro.plate("data", len(x)), poutine.scale(scale=self.beta):
            pyro.sample("z", self.posterior(x))

    def posterior(self, x: Tensor) -> dist.TorchDistribution:
        """q(z | x), with gradients."""
        h = self.encoder(self.likelihood.standardize(x))
        return dist.Normal(self.loc(h), positive(self.log_scale(h))).to_event(1)

    def encode(self, x: Any) -> dist.TorchDistribution:
        """q(z | x), batch shape [B], event shape [D]."""

        def verb(x: Tensor) -> Tensor:
            q = self.posterior(x)
            return torch.stack([q.mean, q.stddev], 1)

        parts = self.each(verb, x)
        return dist.Normal(parts[:, 0], parts[:, 1]).to_event(1)

    def decode(self, z: Tensor) -> Tensor:
        """The mean image of latents ``[B, D]``."""
        with self.inference():
            return self.likelihood.mean(self.decoder(torch.as_tensor(z).to(self.loc.weight), None))

    def reconstruct(self, x: Any) -> Tensor:
        """The mean image of the posterior's mean."""
        return self.each(lambda x: self.likelihood.mean(self.decoder(self.posterior(x).mean, None)), x)

    def reconstruction_log_prob(self, x: Any) -> Tensor:
        """``log p(x | z)`` at one draw of z: ``[B]`` nats."""
        return self.each(lambda x: self._log_p(self.likelihood.target(x), self.posterior(x).sample()), x)

    def _log_p(self, target: Tensor, z: Tensor) -> Tensor:
        return self.likelihood(self.decoder(z, None)).log_prob(target)

    def generate(self, n: int, y: Any = None) -> Tensor:
        """``n`` mean images of z ~ N(0, I)."""
        if y is not None:
            raise InputError("generate: a plain VAE has no labels to generate from; y=None is needed")
        return self.decode(torch.randn(n, self.latent_dim))

    def elbo(self, x: Any, y: Any = None, *, num_samples: int = 1) -> Tensor:
        """Lower bound on log p(x), β = 1: ``[B]`` nats, the mean over draws of z."""
        return self.each(lambda x: self._log_weights(x, num_samples).mean(0), x)

    def log_likelihood(self, x: Any, y: Any = None, *, num_samples: int = 100) -> Tensor:
        """Importance-weighted bound ``log 1/S Σ_s p(x, z_s) / q(z_s | x)``: ``[B]`` nats."""
        return self.each(lambda x: self._log_weights(x, num_samples).logsumexp(0) - math.log(num_samples), x)

    def _log_weights(self, x: Tensor, num_samples: int) -> Tensor:
        q, p = self.posterior(x), standard_normal(x, self.latent_dim)
        target = self.likelihood.target(x)  # one black-and-white image for all draws: the bound is one of its density
        draws = (q.sample() for _ in range(num_samples))
        return torch.stack([self._log_p(target, z) + p.log_prob(z) - q.log_prob(z) for z in draws])
