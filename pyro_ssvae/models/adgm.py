"""ADGM: an auxiliary latent makes the posterior of M2 richer.

Source: Maaløe, Sønderby, Sønderby, Winther (2016), arXiv:1602.05473.
"""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..infer.label_inference import default_how
from ..labels import Labels
from ..nn.networks import ClassHead, features, with_class_input
from .conditional_decoder import ConditionalDecoder
from .fixed_draws import fixed_draws, fixed_noise
from .generative import gaussian_head, positive, standard_normal

HIDDEN = 256  # units of the hidden layer of each Gaussian
MOST_DECODES = 16  # of attributes' values a point, where nobody says how missing labels are inferred


class Gaussian(nn.Module):
    """``N(loc(h), scale(h)²)``, h one hidden layer of the inputs side by side, whose leading dimensions broadcast."""

    def __init__(self, inputs: int, dim: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU())
        self.loc, self.log_scale = gaussian_head(hidden, dim)

    def forward(self, *inputs: Tensor) -> dist.TorchDistribution:
        shape = torch.broadcast_shapes(*(t.shape[:-1] for t in inputs))
        h = self.body(torch.cat([t.expand(*shape, -1) for t in inputs], -1))
        return dist.Normal(self.loc(h), positive(self.log_scale(h))).to_event(1)


class ADGM(ConditionalDecoder):
    """``p(y) p(z) p(a | z, y) p(x | z, y)`` with the guide ``q(a | x) q(y | a, x) q(z | a, y, x)``::

        L(x, y) = E_q[ log p(x | z, y) + β log p(z) p(a | z, y) / ( q(a | x) q(z | a, y, x) ) + log p(y)
                       + α log q(y | a, x) ]
        U(x)    = E_q(a|x) Σ_y q(y | a, x) [ ... - log q(y | a, x) ] + head terms of q(y | a, x)

    a is in the joint without changing p(x, y, z); with it the posterior of z and y is no longer Gaussian. A missing y
    is inferred as in :class:`~pyro_ssvae.M2`.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``.
    :param decoder: ``(z, c)`` → ``[..., *input_shape]``, or of ``z`` alone, which is then extended.
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param options: those of :class:`~pyro_ssvae.models.config.LabelConfig`; D is the width of z and of a;
        ``likelihood`` may be a module.

    Sites, all in the plate ``data`` over B: ``y`` (event [] or [A]; p(y) / known: a point mass, missing: q(y | a, x)),
    ``z`` (event [D]; N(0, I) / q(z | a, y, x)), ``a`` (event [D]; p(a | z, y) / q(a | x)), ``x`` (event input_shape)
    and the guide's factor ``head``. While enumerated, ``y``, ``z`` and ``x`` have a further dimension on the left.
    """

    hears_label = True

    def __init__(self, encoder: nn.Module, decoder: nn.Module, labels: Labels, **options: Any) -> None:
        super().__init__()
        likelihood = self.set_options(options)
        dim, size = self.config.dim, labels.size
        self.set_label(labels, default_how(labels, MOST_DECODES))
        self.encoder = encoder
        self.decoder = with_class_input(decoder, dim, size)
        self.set_likelihood(likelihood, size)
        width = features(encoder)
        self.p_a, self.q_a = Gaussian(dim + size, dim), Gaussian(width, dim)
        self.q_z = Gaussian(width + dim + size, dim)
        self.head = ClassHead(encoder, size, dim)
        self.noise: Tensor
        self.register_buffer("noise", fixed_noise(dim), persistent=False)

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, **options: Any) -> ADGM:
        encoder, decoder = cls.networks(input_shape, labels.size, options)
        return cls(encoder, decoder, labels, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(y) p(z) p(a | z, y) p(x | z, y)``."""
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            with self.kl_scale():
                z = pyro.sample("z", self.p_z(x))
                pyro.sample("a", self.p_a(z, self.class_input(y, x)))
            return pyro.sample("x", self.p_x_given(z, y, x), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(a | x) q(y | a, x) q(z | a, y, x)``."""
        x = self.begin(x)
        y = self.targets(y, x)
        h = self.encoder(self.likelihood.standardize(x))
        with self.plate(x):
            with self.kl_scale():
                a = pyro.sample("a", self.q_a(h))
            y = self.infer_label(self.logits(h, a), y)
            with self.kl_scale():
                pyro.sample("z", self.q_z(h, a, self.class_input(y, x)))

    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        """``N(0, I)``."""
        return standard_normal(x, self.config.dim)

    def logits(self, h: Tensor, a: Tensor) -> Tensor:
        """Logits of q(y | a, x)."""
        out: Tensor = self.head(torch.cat([h.expand(*a.shape[:-1], -1), a], -1))
        return out

    def q_y(self, x: Tensor) -> Tensor:
        """``E_q(a|x)[ q(y | a, x) ]``, by 100 fixed draws."""
        h = self.encoder(self.likelihood.standardize(x))
        return self.label_inference.probs(self.logits(h, fixed_draws(self.q_a(h), self.noise))).mean(0)
