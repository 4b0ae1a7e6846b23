"""M1+M2: an M2 on the latents of an M1, one model of two layers.

Source: Kingma, Mohamed, Rezende, Welling (2014), arXiv:1406.5298, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from ..infer.label_inference import Missing, bound_over_labels
from ..infer.label_prior import ClassPrior
from ..labels import Labels
from ..nn.likelihoods import Likelihood, Normal
from ..nn.networks import Decoder, Encoder, default_decoder, default_encoder, mlp
from .base import Classifying
from .m2 import M2
from .vae import VAE

HIDDEN = 128  # units of the upper networks' layers


class M1M2(Classifying):
    """``p(y) p(z) p(z_1 | z, y) p(x | z_1)`` with the guide ``q(z_1 | x) q(y | x) q(z | z_1, y)``::

        L(x, y) = E_q(z_1|x)[ log p(x | z_1) - β log q(z_1 | x) + L_M2(z_1, y) ]       q(y | x) = softmax(head(E[z_1]))

    L_M2 is the objective of :class:`~pyro_ssvae.M2` with z_1 for its data, under a Normal of learned scale, weighted by
    β. Both layers are trained at once, for the bound of the whole (choice). The paper trains the VAE first and an M2
    on its features then, for days; in a few minutes that gave 0.88 to 0.94 on MNIST with 100 labels, both at once
    0.963 (docs/baselines.md, which also has the two calls for the paper's way). The classifier reads the mean of z_1,
    as half of its dimensions are noise.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``.
    :param decoder: ``z_1 [..., D]`` → ``[..., *input_shape]``.
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param latent_dim: D, the width of z_1 and of z.
    :param beta: weight of the terms of z_1 and of z.
    :param missing, alpha, entropy_weight, balance_weight, class_prior: of the upper model, as for
        :class:`~pyro_ssvae.M2`.
    :param likelihood: of x, as for :class:`~pyro_ssvae.AugmentedVAE`.
    :param upper_encoder, upper_decoder: networks of the upper model, z_1 → features and ``(z, c)`` → the mean of z_1;
        MLPs by default.

    Sites (plate ``data`` over B): those of :class:`~pyro_ssvae.M2` that concern y and z; ``z_1`` (event [D];
    p(z_1 | z, y) / q(z_1 | x)); ``x`` (event input_shape). While y is enumerated, z_1 is one draw under K priors,
    and x is decoded once.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        labels: Labels,
        *,
        latent_dim: int,
        missing: Missing | None = None,
        alpha: float = 500.0,
        beta: float = 1.0,
        entropy_weight: float = 20.0,
        balance_weight: float = 50.0,
        class_prior: ClassPrior = "estimated",
        likelihood: str | Likelihood | None = None,
        upper_encoder: nn.Module | None = None,
        upper_decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.labels = labels
        self.latent_dim = latent_dim
        self.m1 = VAE(encoder, decoder, latent_dim=latent_dim, beta=beta, likelihood=likelihood)
        self.m2 = M2(
            upper_encoder or Encoder(*mlp([latent_dim, HIDDEN, HIDDEN]), out_features=HIDDEN),
            upper_decoder or Decoder(latent_dim, labels.size, HIDDEN, nn.Linear(HIDDEN, latent_dim), (latent_dim,)),
            labels,
            latent_dim=latent_dim,
            missing=missing,
            alpha=alpha,
            beta=beta,
            entropy_weight=entropy_weight,
            balance_weight=balance_weight,
            class_prior=class_prior,
            likelihood=Normal((latent_dim,)),
        )
        self.class_encoder = deepcopy(self.m2.encoder)
        self.likelihood, self.input_shape = self.m1.likelihood, self.m1.input_shape

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, latent_dim: int, **options: Any) -> M1M2:
        """The model with the networks that suit the input's shape."""
        encoder, decoder = default_encoder(input_shape), default_decoder(input_shape, latent_dim, 0)
        return cls(encoder, decoder, labels, latent_dim=latent_dim, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(y) p(z) p(z_1 | z, y) p(x | z_1)``, and α log q(y | x) for the known y."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        with pyro.plate("data", len(x)):
            z, c = self.m2.p_latents(x, y)
            with poutine.scale(scale=self.m2.beta):
                z_1 = pyro.sample("z_1", self.m2.likelihood(self.m2.decoder(z, c)))
            return pyro.sample("x", self.likelihood(self.m1.decoder(z_1, None)), obs=self.likelihood.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(z_1 | x) q(y | x) q(z | z_1, y)``."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        q_1 = self.m1.posterior(x)
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=self.m2.beta):
                z_1 = pyro.sample("z_1", q_1)
            self.m2.q_latents(z_1, y, self.logits_of(q_1))

    def prepare(self, x: Tensor, y: Tensor) -> None:
        super().prepare(x, y)
        self.m2.estimate_prior(y)

    def anneal(self, progress: float) -> None:
        """:meth:`M2.anneal <pyro_ssvae.infer.label_prior.LabelPrior.anneal>` of the upper model."""
        self.m2.anneal(progress)

    def class_logits(self, x: Tensor) -> Tensor:
        """Logits of q(y | x)."""
        return self.logits_of(self.m1.posterior(x))

    def logits_of(self, q_1: dist.TorchDistribution) -> Tensor:
        """Logits of q(y | x), of q(z_1 | x)."""
        return self.m2.head(self.class_encoder(q_1.mean))

    def encode(self, x: Any) -> dist.TorchDistribution:
        """q(z_1 | x), batch shape [B], event shape [D]."""
        return self.m1.encode(x)

    def decode(self, z_1: Tensor) -> Tensor:
        """The mean image of latents z_1 ``[B, D]``."""
        return self.m1.decode(z_1)

    def reconstruct(self, x: Any) -> Tensor:
        """The mean image of the mean of q(z_1 | x)."""
        return self.m1.reconstruct(x)

    def reconstruction_log_prob(self, x: Any) -> Tensor:
        """``log p(x | z_1)`` at one draw of z_1: ``[B]`` nats."""
        return self.m1.reconstruction_log_prob(x)

    def generate(self, n: int, y: Any = None) -> Tensor:
        """``n`` mean images of z ~ N(0, I), the given labels (missing ones drawn from p(y)) and z_1 ~ p(z_1 | z, y)."""
        with self.inference():
            c = self.labels.encode(self.m2.drawn_labels(n, y)).to(self.m1.loc.weight)
            z = torch.randn(n, self.latent_dim, device=self.device, dtype=c.dtype)
            return self.decode(self.m2.likelihood(self.m2.decoder(z, c)).sample())

    def elbo(self, x: Any, y: Any = None, *, num_samples: int = 1) -> Tensor:
        """Bound on log p(x), or log p(x, y) for known labels, of the stacked model: ``[B]``, the mean of draws.

        A missing y is summed over.
        """
        return self.each(lambda x, y=None: self._bound(x, y, num_samples, importance=False), x, y, rows=250)

    def log_likelihood(self, x: Any, y: Any = None, *, num_samples: int = 100) -> Tensor:
        """Importance-weighted bound of the stacked model, a missing y summed over: ``[B]``."""
        return self.each(lambda x, y=None: self._bound(x, y, num_samples, importance=True), x, y, rows=250)

    def _bound(self, x: Tensor, y: Tensor | None, num_samples: int, importance: bool) -> Tensor:
        q_1, target = self.m1.posterior(x), self.likelihood.target(x)
        logits = self.logits_of(q_1)

        def draw() -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            z_1 = q_1.sample()
            h = self.m2.encoder(z_1)
            log_p_x = self.likelihood(self.m1.decoder(z_1, None)).log_prob(target) - q_1.log_prob(z_1)
            return logits, lambda values: self.m2.log_ratio(z_1, h, values) + log_p_x

        return bound_over_labels(self.m2, self.targets(y, x), draw, num_samples, importance=importance)
