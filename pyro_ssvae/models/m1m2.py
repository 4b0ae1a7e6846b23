"""M1+M2: an M2 on the latents of an M1, one model of two layers.

Source: Kingma, Mohamed, Rezende, Welling (2014), arXiv:1406.5298, section 3.3.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ..infer.label_inference import default_how
from ..labels import Labels
from ..nn.likelihoods import Normal
from ..nn.networks import (
    ClassHead,
    Decoder,
    Encoder,
    features,
    mlp,
    with_class_input,
)
from .config import LabelConfig
from .fixed_draws import mean_of
from .generative import gaussian_head, positive, standard_normal
from .label_mixin import LabelMixin

HIDDEN = 128  # units of the upper networks' layers
MOST_VALUES = 16  # of attributes that are enumerated where nobody says how missing labels are inferred


class M1M2(LabelMixin):
    """``p(y) p(z) p(z_1 | z, y) p(x | z_1)`` with the guide ``q(z_1 | x) q(y | x) q(z | z_1, y)``::

        L(x, y) = E_q(z_1|x)[ log p(x | z_1) - β log q(z_1 | x) + L_M2(z_1, y) ]       q(y | x) = softmax(head(E[z_1]))

    L_M2 is the objective of :class:`~pyro_ssvae.M2` with z_1 for its data, under a Normal of learned scale, weighted by
    β. Both layers are trained at once, for the bound of the whole (choice). The paper trains the VAE first and an M2
    on its features then, for days; in a few minutes that gave 0.82 to 0.94 on MNIST with 100 labels, both at once 0.954
    (results/trials/baselines.md; docs/baselines.md has the two calls for the paper's way). The classifier reads the
    mean of z_1, as half of its dimensions are noise.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``.
    :param decoder: ``z_1 [..., D]`` → ``[..., *input_shape]``.
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param upper_encoder, upper_decoder: networks of the upper layer, z_1 → features and ``(z, c)`` → the mean of z_1;
        MLPs by default.
    :param options: those of :class:`~pyro_ssvae.models.config.LabelConfig`; D is the width of z_1 and of z, β weighs
        the terms of both; ``likelihood``, of x, may be a module.

    Sites (plate ``data`` over B): ``y`` and the guide's factor ``head`` as :class:`~pyro_ssvae.M2` has them; ``z``
    (event [D]; N(0, I) / q(z | z_1, y)); ``z_1`` (event [D]; p(z_1 | z, y) / q(z_1 | x)); ``x`` (event input_shape).
    While y is enumerated, z_1 is one draw under K priors, and x is decoded once.
    """

    Config: ClassVar[type[LabelConfig]] = LabelConfig
    config: LabelConfig
    latents = ("z_1",)

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        labels: Labels,
        *,
        upper_encoder: nn.Module | None = None,
        upper_decoder: nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        likelihood = self.set_options(options)
        dim = self.config.dim
        self.set_label(labels, default_how(labels, MOST_VALUES))
        self.encoder = encoder
        self.decoder = with_class_input(decoder, dim, 0)
        self.set_likelihood(likelihood, 0)
        self.loc_1, self.log_scale_1 = gaussian_head(features(encoder), dim)
        self.upper_encoder = upper_encoder or Encoder(*mlp([dim, HIDDEN, HIDDEN]), out_features=HIDDEN)
        self.upper_decoder = upper_decoder or Decoder(dim, labels.size, HIDDEN, nn.Linear(HIDDEN, dim), (dim,))
        self.upper_likelihood = Normal((dim,))
        self.class_encoder = deepcopy(self.upper_encoder)
        width = features(self.upper_encoder)
        self.head = ClassHead(self.upper_encoder, labels.size)
        self.from_c = nn.Linear(labels.size, width, bias=False)
        self.loc, self.log_scale = gaussian_head(width, dim)

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, **options: Any) -> M1M2:
        encoder, decoder = cls.networks(input_shape, 0, options)
        return cls(encoder, decoder, labels, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(y) p(z) p(z_1 | z, y) p(x | z_1)``."""
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            with self.kl_scale():
                z = pyro.sample("z", self.p_z(x))
                z_1 = pyro.sample("z_1", self.p_z_1(z, self.class_input(y, x)))
            return pyro.sample("x", self.p_x(self.decoder(z_1, None)), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(z_1 | x) q(y | x) q(z | z_1, y)``."""
        x = self.begin(x)
        y = self.targets(y, x)
        q_1 = self.q_z_1(x)
        with self.plate(x):
            with self.kl_scale():
                z_1 = pyro.sample("z_1", q_1)
            h = self.upper_encoder(z_1.reshape(-1, z_1.shape[-1])).reshape(*z_1.shape[:-1], -1)
            y = self.infer_label(self.head(self.class_encoder(mean_of(q_1, x.device))), y)
            with self.kl_scale():
                pyro.sample("z", self.q_z(h, self.class_input(y, x)))

    def networks_of_label(self) -> tuple[nn.Module, ...]:
        return (self.upper_decoder,)

    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        """``N(0, I)``."""
        return standard_normal(x, self.config.dim)

    def p_z_1(self, z: Tensor, c: Tensor) -> dist.TorchDistribution:
        """p(z_1 | z, y) of class inputs ``[..., B, K]``."""
        p_z_1: dist.TorchDistribution = self.upper_likelihood(self.upper_decoder(z, c))
        return p_z_1

    def q_z_1(self, x: Tensor) -> dist.TorchDistribution:
        """q(z_1 | x)."""
        h = self.encoder(self.likelihood.standardize(x))
        return dist.Normal(self.loc_1(h), positive(self.log_scale_1(h))).to_event(1)

    def q_z(self, h: Tensor, c: Tensor) -> dist.TorchDistribution:
        """q(z | z_1, y) of features ``[B, H]`` and class inputs ``[..., B, K]``."""
        r = (h + self.from_c(c)).relu()
        return dist.Normal(self.loc(r), positive(self.log_scale(r))).to_event(1)

    def q_y(self, x: Tensor) -> Tensor:
        return self.label_inference.probs(self.head(self.class_encoder(mean_of(self.q_z_1(x), x.device))))
