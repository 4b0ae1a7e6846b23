"""MVAE: labels are modalities beside x, joined by a product of experts.

Source: Wu, Goodman (2018), arXiv:1802.05335.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Annotated, Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from pyro import poutine
from torch import Tensor, nn

from ..errors import InputError, whole_number
from ..infer.batched import checked, evaluating, need_numbers
from ..infer.expected import expected_x
from ..infer.label_inference import observe_label
from ..infer.protocols import Intervention
from ..infer.subsampled_elbo import SubsampledELBO
from ..infer.traces import sampled
from ..labels import MISSING, AttributeLabels, Labels
from ..nn.networks import features, mlp, with_class_input, zeroed
from .base import given_labels
from .classifier_mixin import ClassifierMixin
from .config import Range, VAEConfig, Weight
from .fixed_draws import fixed_draws, fixed_noise
from .generative import GenerativeModel, gaussian_head, positive, scaled, standard_normal
from .interventions import asked_labels, swapped_labels, times
from .rewritten import overridden_since

HIDDEN = 256  # units of the labels' decoder


@dataclass(frozen=True, kw_only=True)
class MVAEConfig(VAEConfig):
    """Options of the MVAE."""

    alpha: Weight = 5000.0
    """Weight of the labels' likelihood, which is of a few nats beside the image's hundreds to thousands."""
    subsets: Annotated[int, Range(0)] | None = None
    """Random subsets of x and the labels that each step trains, beside the whole and each alone; classes 0, else 1."""


class MVAE(ClassifierMixin, GenerativeModel):
    """``p(z) p(x | z) Π_i p(y_i | z)`` with a product of experts, one for each modality that is there::

        q(z | x, y_O) ∝ N(z; 0, I) q~(z | x) Π_{i in O} q~(z | y_i)          each expert a diagonal Gaussian

        ELBO(x, y_O) = E_q(z|x,y_O)[ log p(x | z) + α Σ_{i in O} log p(y_i | z) ] - β KL( q(z | x, y_O) || N(0, I) )

    A missing label is an absent modality; nothing has to be summed over. The product's precision is the sum of the
    experts' (1 for the prior), its mean their means weighted by it. The objective,
    :class:`~pyro_ssvae.infer.subsampled_elbo.SubsampledELBO`, adds the bounds of some modalities alone, without which
    no expert would learn to work by itself. α (the paper's λ) is the best of 50, 500 and 5,000 (results/trials).

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param decoder: ``z [..., D]`` → ``[..., *input_shape]``.
    :param labels: :class:`~pyro_ssvae.ClassLabels` (one modality) or :class:`~pyro_ssvae.AttributeLabels` (A).
    :param options: those of :class:`MVAEConfig`; ``likelihood`` may be a module.

    Sites, all in the plate ``data`` over B: ``z`` (event [D]; N(0, I) / q(z | x, y_O)), ``y`` (event [] or [A]; the
    model's, observed under p(y | z) where a label is known, no part of the joint where it is missing) and ``x`` (event
    input_shape). x depends on z alone.
    """

    Config: ClassVar[type[MVAEConfig]] = MVAEConfig
    config: MVAEConfig
    y_is_observed = True

    def __init__(self, encoder: nn.Module, decoder: nn.Module, labels: Labels, **options: Any) -> None:
        super().__init__()
        likelihood = self.set_options(options)
        dim = self.config.dim
        self.labels = labels
        factors = (labels.size, 2) if isinstance(labels, AttributeLabels) else (1, labels.size)
        self.subsets = int(factors[0] > 1) if self.config.subsets is None else self.config.subsets
        self.encoder = encoder
        self.decoder = with_class_input(decoder, dim, 0)
        self.set_likelihood(likelihood, 0)
        self.loc, self.log_scale = gaussian_head(features(encoder), dim)
        self.label_loc = nn.Parameter(self.apart().reshape(*factors, dim))
        self.label_log_scale = nn.Parameter(torch.zeros(*factors, dim))
        self.head = nn.Sequential(*mlp([dim, HIDDEN], norm=False), zeroed(nn.Linear(HIDDEN, labels.size)))
        self.noise: Tensor
        self.register_buffer("noise", fixed_noise(dim), persistent=False)
        self._experts: list[tuple[Tensor, tuple[Tensor, Tensor]]] | None = None

    def apart(self) -> Tensor:
        """Where the labels' experts begin: the product with N(0, I) is at ±1 along a direction of z for each attribute,
        at 1 for each class (choice, as in the ReVAE): means that begin together take far longer to part."""
        directions = 2 * nn.init.orthogonal_(torch.empty(self.labels.size, self.config.dim))
        return torch.stack([-directions, directions], 1) if self.labels.event_shape else directions

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, **options: Any) -> MVAE:
        encoder, decoder = cls.networks(input_shape, 0, options)
        return cls(encoder, decoder, labels, **options)

    def objective(self) -> SubsampledELBO:
        """The sum of the bounds of several subsets of the modalities.

        :raises InputError: a ``model`` or ``guide`` of one's own that cannot be told where x is not there.
        """
        for name, program in (("model", self.model), ("guide", self.guide)):
            try:
                signature(program).bind(None, None, True)
            except TypeError:
                raise InputError(
                    f"{name}: an MVAE's must be {name}(x, y=None, seen=True), as it is trained without x too; "
                    "seen says of which rows x is there"
                ) from None
        return SubsampledELBO(self)

    def model(self, x: Tensor, y: Tensor | None = None, seen: Tensor | bool = True) -> Tensor | None:
        """``p(z) p(x | z) Π p(y_i | z)``.

        :param seen: of which rows x is there, ``[B]`` or one for all; elsewhere its likelihood does not count. Where
            it is False nothing is decoded: there is no site ``x``.
        """
        x = self.begin(x)
        y = self.targets(y, x)
        with self.plate(x):
            with self.kl_scale():
                z = pyro.sample("z", self.p_z(x))
            with scaled(self.config.alpha):
                observe_label(self.labels, self.head(z), y)
            if seen is False:
                return None
            with poutine.mask(mask=seen):  # type: ignore[arg-type]
                return pyro.sample("x", self.p_x(self.decoder(z, None)), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None, seen: Tensor | bool = True) -> None:
        """``q(z | x, y_O)``, without the expert of x in the rows where x is not ``seen``."""
        x = self.begin(x)
        y = self.targets(y, x)
        with self.plate(x), self.kl_scale():
            pyro.sample("z", self.q_z(x, y, seen))

    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        """``N(0, I)``."""
        return standard_normal(x, self.config.dim)

    def q_z(self, x: Tensor, y: Tensor, seen: Tensor | bool = True) -> dist.TorchDistribution:
        """q(z | x, y_O), the product of the prior and the experts that are there."""
        precision, weighted = self.label_experts(y)
        if seen is not False:
            there = torch.as_tensor(seen, device=x.device).reshape(-1, 1)
            t, t_loc = self.image_expert(x)
            precision, weighted = precision + t * there, weighted + t_loc * there
        precision = 1 + precision
        return dist.Normal(weighted / precision, precision.rsqrt()).to_event(1)

    def image_expert(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The precision of x's expert, and its mean weighted by it: ``[B, D]``."""
        for known, expert in self._experts or ():
            if known is x:
                return expert
        h = self.encoder(self.likelihood.standardize(x))
        t = positive(-2 * self.log_scale(h), 30.0)
        expert = t, t * self.loc(h)
        if self._experts is not None:
            self._experts.append((x, expert))
        return expert

    @contextmanager
    def encoding_once(self) -> Iterator[None]:
        """For a while the bounds of one x share its expert: as long as neither weights nor x change."""
        self._experts = []
        try:
            yield
        finally:
            self._experts = None

    def label_experts(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the precisions of the known labels' experts, and of their means weighted by it: ``[B, D]``."""
        y = y.reshape(len(y), len(self.label_loc))
        i, at = torch.arange(y.shape[1], device=y.device), y.clamp_min(0)
        t = (-2 * self.label_log_scale[i, at]).exp() * (y != MISSING).unsqueeze(-1)
        return t.sum(1), (t * self.label_loc[i, at]).sum(1)

    def q_y(self, x: Tensor) -> Tensor:
        """``E_q(z|x)[ p(y | z) ]``, by 100 fixed draws."""
        q = self.q_z(x, self.targets(None, x))
        return self.labels.probs(self.head(fixed_draws(q, self.noise))).mean(0)

    def generate(self, n: int, y: ArrayLike | None = None) -> Tensor:
        """``n`` points E[x | z], z drawn from the prior or, where labels are given, from q(z | y_O).

        :param y: None, one label for all (a number, a class name, or A values), or labels a row, -1 where missing.
        """
        if y is None:
            return super().generate(n)
        n = whole_number("generate", n, 0)
        need_numbers(self)
        with evaluating(self):
            x, known = self.stand_in(n), given_labels(y, n, self.labels, self.device)
            if n and overridden_since(self, "guide", "q_z"):
                q = sampled(poutine.trace(self.guide).get_trace(x, known, False))
                values = {name: site["value"] for name, site in q.items()}
            else:
                values = {"z": self.q_z(x, known, False).sample()}
            return expected_x(self, self.unseen(n), values, (), "generate", stand_in=True)

    def intervene(self, x: ArrayLike, values: Intervention, *, num_samples: int | None = None) -> Tensor:
        """Draw z from ``q(z | x, y_i = v)``, the product of x's expert and those of the named values, and decode.

        :param values: ``{"Smiling": 1}``; for class labels a class, by number or name.
        :param num_samples: S draws: ``[S, B, *input_shape]``; None for one without the first dimension.
        :raises InputError: an attribute or class that does not exist, or a value that is neither 0 nor 1.
        """
        asked = asked_labels(self.labels, values, self.device)
        x, _ = checked(self, x)
        y = asked.expand(len(x), *asked.shape)
        return times(lambda: self.read(self.drawn_from, x, y), num_samples)

    def drawn_from(self, x: Tensor, y: Tensor) -> Tensor:
        """E[x | z] of a draw of the guide."""
        q = sampled(poutine.trace(self.guide).get_trace(x, y))
        return expected_x(self, x, {name: site["value"] for name, site in q.items() if not site["is_observed"]})

    def swap(self, x: ArrayLike, donor: ArrayLike, name: str = "class") -> Tensor:
        """``x`` under the expert of the value that the donor's attribute (or class) is predicted to have, at the mean
        of ``q(z | x, y_i)``: ``[B, *input_shape]``.

        :param donor: as many points as ``x``, or one for all.
        """
        x, _ = checked(self, x)
        nothing = self.labels.check(None, len(x), self.device)
        return self.reconstruct(x, swapped_labels(self.labels, nothing, self.predict(donor), name))
