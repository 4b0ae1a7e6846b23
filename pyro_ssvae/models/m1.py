"""M1: a VAE, and a classifier on its latents.

Source: Kingma, Mohamed, Rezende, Welling (2014), arXiv:1406.5298, section 3.
"""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from ..infer.label_prior import zero_head
from ..labels import Labels
from ..nn.likelihoods import Likelihood
from ..nn.networks import default_decoder, default_encoder, mlp
from .base import Classifying, deterministic, labels_of, standard_normal
from .vae import VAE

HIDDEN = 256  # units of the classifier's one hidden layer
POOL = 1000  # draws of z that one of a given label is taken from


class M1(VAE, Classifying):
    """The VAE's ELBO, and a classifier that reads its latents without moving them::

        L(x, y) = ELBO(x) + α E_q(z|x)[ 1[y known] log q(y | sg(z)) ]        q(y | z) = softmax(head(z))

    ``sg`` stops the gradient, so that the VAE is the one that no label had a part in. The paper trains the VAE first
    and a classifier on its features then; both at once have the same optimum (choice), and as the VAE ignores the
    classifier, α only scales the classifier's learning rate. The head is an MLP of one hidden layer (the paper's, a
    transductive SVM, has no q(y | z)). The generative model is the VAE's, so that ``elbo`` and ``log_likelihood`` bound
    log p(x) whatever y is given.

    :param encoder, decoder, latent_dim, beta, likelihood: as for :class:`~pyro_ssvae.VAE`.
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param alpha: α.

    Sites, all in the plate ``data`` over B: ``z`` (event [D]), ``y_observed`` (the known labels under q(y | z)),
    ``y_unobserved`` (a draw from it, which does not enter the objective), ``y`` (the two, interleaved; event [] or [A])
    and ``x`` (event input_shape).
    """

    labels: Labels
    augmentation = "none"  # a VAE of moved pictures has latents of their position first, of the class last

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        labels: Labels,
        *,
        latent_dim: int,
        alpha: float = 1.0,
        beta: float = 1.0,
        likelihood: str | Likelihood | None = None,
    ) -> None:
        super().__init__(encoder, decoder, labels, latent_dim=latent_dim, beta=beta, likelihood=likelihood)
        self.alpha = alpha
        self.head = nn.Sequential(*mlp([latent_dim, HIDDEN], norm=False), zero_head(HIDDEN, labels.size))

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels | None, latent_dim: int, **options: Any) -> M1:
        """The model with the networks that suit the input's shape."""
        assert labels is not None
        encoder, decoder = default_encoder(input_shape), default_decoder(input_shape, latent_dim, 0)
        return cls(encoder, decoder, labels, latent_dim=latent_dim, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(z) p(x | z)``, and α log q(y | sg(z)) for the known y."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=self.beta):
                z = pyro.sample("z", standard_normal(x, self.latent_dim))
            logits = self.head(z.detach())
            self.observe(logits, y, self.alpha)
            guess = pyro.sample("y_unobserved", self.labels.given(logits.detach(), y))
            deterministic("y", guess, logits, len(self.labels.event_shape))
            return pyro.sample("x", self.likelihood(self.decoder(z, None)), obs=self.likelihood.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(z | x)``, and a draw of the missing labels."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=self.beta):
                z = pyro.sample("z", self.posterior(x))
            pyro.sample("y_unobserved", self.labels.given(self.head(z.detach()).detach(), y))

    def class_logits(self, x: Tensor) -> Tensor:
        """Logits of q(y | z) at the posterior's mean."""
        return self.head(self.posterior(x).mean)

    def generate(self, n: int, y: Any = None) -> Tensor:
        """``n`` mean images of z ~ N(0, I), or of ``p(z | y) ∝ N(z; 0, I) q(y | z)`` where labels are given.

        :param y: None, one label for all (a number, a class name, or A values), or labels a row, -1 where missing. z is
            then resampled from 1,000 draws by q(y | z).
        """
        if y is None:
            return super().generate(n)
        with self.inference():
            known = labels_of(y, n, self.labels, self.device)
            z = torch.randn(POOL, self.latent_dim, device=self.device, dtype=self.loc.weight.dtype)
            logits = self.head(z).unsqueeze(1).expand(-1, n, -1)
            weights = self.labels.observed(logits, known).log_prob(self.labels.values(known, logits))
            return self.decode(z[dist.Categorical(logits=weights.t()).sample()])
