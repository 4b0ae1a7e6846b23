"""DIVA without its domain latent: one latent that the label is a prior on and can be read from, and one for the rest.

Source: Ilse, Tomczak, Louizos, Welling (2020), arXiv:1905.10427.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..errors import InputError, counted
from ..infer.batched import checked
from ..infer.label_inference import MOST_VALUES, default_how
from ..infer.protocols import Intervention
from ..infer.traces import drawn
from ..labels import MISSING, Labels
from ..nn.networks import features, with_class_input
from .config import LabelConfig, Size
from .fixed_draws import fixed_draws, fixed_noise
from .generative import gaussian_head, positive, standard_normal
from .interventions import asked_labels, check_part, times
from .label_mixin import LabelMixin
from .rewritten import overridden_since, prior_of


@dataclass(frozen=True, kw_only=True)
class DIVAConfig(LabelConfig):
    """Options of DIVA."""

    label_dim: Size | None = None
    """Width of z_c, of all labels together; half of the latent dimensions where it is not given."""


class DIVA(LabelMixin):
    """z = (z_c, z_s); the label is a conditional prior on z_c, and a classifier reads it from there::

        generative:  p(y) p(z_c | y) p(z_s) p(x | z_c, z_s)        p(z_s) = N(0, I)
        inference:   q(z_c | x) q(z_s | x) q(y | z_c)              q(y | z_c) = softmax(head(z_c))

        L(x, y) = E_q(z|x)[ log p(x | z) + β log p(z_c | y) p(z_s) / q(z | x) + log p(y) + α log q(y | z_c) ]  y known
        U(x)    = the same with α = 0, and Σ_y q(y | z_c) [ ... + log p(y) - log q(y | z_c) ]                  y missing

    As x depends on y through z_c alone, one decode a point serves every value of y. ``p(z_c | y)`` is a diagonal
    Gaussian whose mean and log-scale are linear in the encoded y: one Gaussian a class; of attributes (choice) a sum
    of one term each, over the whole of z_c. A missing y is summed over exactly, up to 1,024 classes, attributes jointly
    up to 2^10 values; beyond, attributes are straight-through and classes drawn
    (:class:`~pyro_ssvae.infer.label_inference.LabelInference`).

    The paper has an encoder for each latent and a third for the domain; here one trunk serves both (choice), as in all
    models that this is compared with. The prior on π of :class:`~pyro_ssvae.infer.auxiliary.HeadTerms` is not the
    paper's; weights of 0 leave it out.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param decoder: ``z [..., D]`` → ``[..., *input_shape]``.
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param options: those of :class:`DIVAConfig`; ``likelihood`` may be a module.

    Sites, all in the plate ``data`` over B: ``y`` (event [] or [A]; p(y) / known: a point mass, missing: q(y | z_c)),
    ``z_c`` (event [D_c]; p(z_c | y) / q(z_c | x)), ``z_s`` (event [D_s]; N(0, I) / q(z_s | x)), ``x`` (event
    input_shape) and the guide's factor ``head``. While enumerated, ``y`` has a further dimension on the left.
    """

    Config: ClassVar[type[DIVAConfig]] = DIVAConfig
    config: DIVAConfig
    latents = ("z_c", "z_s")

    def __init__(self, encoder: nn.Module, decoder: nn.Module, labels: Labels, **options: Any) -> None:
        super().__init__()
        likelihood = self.set_options(options)
        dim = self.config.dim
        self.set_label(labels, default_how(labels, MOST_VALUES), summed=MOST_VALUES)
        d = self.config.label_dim or max(1, dim // 2)
        if dim <= d:
            raise InputError(f"latent_dim: {dim}; z_c alone takes {d}, and z_s needs at least 1 more")
        self.label_dim = d
        self.encoder = encoder
        self.decoder = with_class_input(decoder, dim, 0)
        self.set_likelihood(likelihood, 0)
        self.loc, self.log_scale = gaussian_head(features(encoder), dim)
        self.head = nn.Linear(d, labels.size)
        self.prior_loc = nn.Linear(labels.size, d)
        self.prior_log_scale = nn.Linear(labels.size, d)
        self.start_apart()
        self.noise: Tensor
        self.register_buffer("noise", fixed_noise(d), persistent=False)

    @torch.no_grad()
    def start_apart(self) -> None:
        """Begin with p(z_c | y) at ±1 along a direction of z_c for each attribute, at 2 for each class, of scale 1, and
        with q(y | z_c) as its inverse (choice, as in the ReVAE): means that begin at random take far longer to part."""
        nn.init.orthogonal_(self.prior_loc.weight)
        self.head.weight.copy_(2 * self.prior_loc.weight.t())
        self.prior_loc.weight.mul_(2)
        self.prior_loc.bias.zero_()
        if self.labels.event_shape:
            self.prior_loc.bias.sub_(self.prior_loc.weight.sum(1) / 2)
        for p in (self.head.bias, *self.prior_log_scale.parameters()):
            p.zero_()

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, **options: Any) -> DIVA:
        encoder, decoder = cls.networks(input_shape, 0, options)
        return cls(encoder, decoder, labels, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(y) p(z_c | y) p(z_s) p(x | z_c, z_s)``."""
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            with self.kl_scale():
                z_c = pyro.sample("z_c", self.p_z_c(self.class_input(y, x)))
                z_s = pyro.sample("z_s", self.p_z_s(x))
            out = self.decoder(torch.cat([z_c, z_s], -1), None)
            return pyro.sample("x", self.p_x(out), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(z_c | x) q(z_s | x) q(y | z_c)``."""
        x = self.begin(x)
        y = self.targets(y, x)
        q_c, q_s = self.q_z(x)
        with self.plate(x):
            with self.kl_scale():
                z_c = pyro.sample("z_c", q_c)
                pyro.sample("z_s", q_s)
            self.infer_label(self.head(z_c), y)

    def p_z_c(self, c: Tensor) -> dist.TorchDistribution:
        """p(z_c | y) of class inputs ``[..., K]`` or ``[..., A]``."""
        return dist.Normal(self.prior_loc(c), positive(self.prior_log_scale(c))).to_event(1)

    def p_z_s(self, x: Tensor) -> dist.TorchDistribution:
        """``N(0, I)``."""
        return standard_normal(x, self.config.dim - self.label_dim)

    def q_z(self, x: Tensor) -> tuple[dist.TorchDistribution, dist.TorchDistribution]:
        """q(z_c | x) and q(z_s | x)."""
        h = self.encoder(self.likelihood.standardize(x))
        loc, scale, d = self.loc(h), positive(self.log_scale(h)), self.label_dim
        return dist.Normal(loc[:, :d], scale[:, :d]).to_event(1), dist.Normal(loc[:, d:], scale[:, d:]).to_event(1)

    def q_y(self, x: Tensor) -> Tensor:
        """``E_q(z_c|x)[ q(y | z_c) ]``, by 100 fixed draws."""
        logits = self.head(fixed_draws(self.q_z(x)[0], self.noise))
        return self.label_inference.probs(logits).mean(0)

    def parts(self, z: Tensor) -> dict[str, Tensor]:
        return {"z_c": z[:, : self.label_dim], "z_s": z[:, self.label_dim :]}

    def read_off(self, parts: dict[str, Tensor]) -> Tensor:
        return self.labels.mode(self.label_inference.probs(self.head(parts["z_c"])))

    @torch.no_grad()
    def intervene(self, x: ArrayLike, values: Intervention, *, num_samples: int | None = None) -> Tensor:
        """Encode ``x``, draw all of z_c from the model's p(z_c | y), y as predicted but for the named values, keep z_s,
        decode.

        :param values: ``{"Smiling": 1}``; for class labels a class, by number or name.
        :param num_samples: S draws: ``[S, B, *input_shape]``; None for one without the first dimension.
        :raises InputError: an attribute or class that does not exist, or a value that is neither 0 nor 1.
        """
        asked, (x, _) = asked_labels(self.labels, values, self.device), checked(self, x)
        z_s, y = self.encode(x).mean[:, self.label_dim :], self.predict(x)
        given = {"y": torch.where(asked == MISSING, y, asked), "z_s": z_s}
        heard = (given["y"],) if overridden_since(self, "model", "default") else ()

        def draw() -> Tensor:
            z_c = drawn(prior_of(self, "z_c", len(z_s), given)) if len(z_s) else z_s.new_zeros(0, self.label_dim)
            return self.decode(torch.cat([z_c, z_s], -1), *heard, like=x)

        return times(draw, num_samples)

    def swap(self, x: ArrayLike, donor: ArrayLike, name: str = "class") -> Tensor:
        """``x`` with the donor's z_c: ``[B, *input_shape]``. No attribute has a part of its own, so all of z_c moves.

        :param donor: as many points as ``x``, or one for all.
        """
        check_part(self.labels, name)
        x, _ = checked(self, x)
        z, theirs, d = self.encode(x).mean.clone(), self.encode(donor).mean, self.label_dim
        if len(theirs) not in (1, len(z)):
            raise InputError(
                f"swap: {counted(len(z), 'point')} and {counted(len(theirs), 'donor')}; as many or one donor are needed"
            )
        z[:, :d] = theirs[:, :d]
        return self.decode(z, like=x)
