"""MVAE: labels are modalities beside x, joined by a product of experts.

Source: Wu, Goodman (2018), arXiv:1802.05335.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

from ..errors import InputError
from ..infer.label_prior import gaussian, zero_head
from ..labels import MISSING, AttributeLabels, Labels
from ..nn.likelihoods import Likelihood
from ..nn.networks import AddClass, default_decoder, default_encoder, features, mlp, takes_class_input
from .base import (
    Classifying,
    DifferentiableELBO,
    deterministic,
    labels_of,
    make_likelihood,
    mean_logits,
    positive,
    standard_normal,
)
from .interventions import Interventions, repeated

HIDDEN = 256  # units of the labels' decoder


class MVAE(Interventions, Classifying):
    """``p(z) p(x | z) Π_i p(y_i | z)`` with a product of experts, one for each modality that is there::

        q(z | x, y_O) ∝ N(z; 0, I) q~(z | x) Π_{i in O} q~(z | y_i)          each expert a diagonal Gaussian

        ELBO(x, y_O) = E_q(z|x,y_O)[ log p(x | z) + λ Σ_{i in O} log p(y_i | z) ] - β KL( q(z | x, y_O) || N(0, I) )

    A missing label is an absent modality; nothing has to be summed over. The product's precision is the sum of the
    experts' (1 for the prior), its mean their means weighted by it. The objective, :class:`SubsampledELBO`, adds the
    bounds of some modalities alone, without which no expert would learn to work by itself.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param decoder: ``z [..., D]`` → ``[..., *input_shape]``.
    :param labels: :class:`~pyro_ssvae.ClassLabels` (one modality) or :class:`~pyro_ssvae.AttributeLabels` (A).
    :param latent_dim: D.
    :param alpha: λ, the weight of the labels' likelihood, which is of a few nats beside the image's hundreds to
        thousands; the default is the best of 50, 500 and 5,000 (docs/baselines.md).
    :param beta: β.
    :param subsets: random subsets of the modalities a step, see :class:`SubsampledELBO`; by default 1 for attributes
        and 0 for classes, of which there are no further subsets.
    :param likelihood: as for :class:`~pyro_ssvae.AugmentedVAE`.

    Sites, all in the plate ``data`` over B: ``z`` (event [D]; N(0, I) / q(z | x, y_O)), ``y_observed`` (the known
    labels under p(y | z), weighted by λ), ``y_unobserved`` (missing ones, drawn from p(y | z) by model and guide alike,
    so that they do not enter the objective), ``y`` (the two, interleaved; event [] or [A]) and ``x`` (event
    input_shape).
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        labels: Labels,
        *,
        latent_dim: int,
        alpha: float = 5000.0,
        beta: float = 1.0,
        subsets: int | None = None,
        likelihood: str | Likelihood | None = None,
    ) -> None:
        super().__init__()
        if subsets is not None and subsets < 0:
            raise InputError(f"subsets: {subsets}; a whole number of at least 0 is needed")
        self.labels = labels
        self.latent_dim = latent_dim
        self.alpha, self.beta = alpha, beta
        factors = (labels.size, 2) if isinstance(labels, AttributeLabels) else (1, labels.size)
        self.subsets = int(factors[0] > 1) if subsets is None else subsets
        self.encoder = encoder
        self.decoder = decoder if takes_class_input(decoder) else AddClass(decoder, latent_dim, 0)
        self.likelihood, self.input_shape = make_likelihood(likelihood, self.decoder, latent_dim, 0)
        width = features(encoder)
        self.loc = nn.Linear(width, latent_dim)
        self.log_scale = nn.Linear(width, latent_dim)
        self.label_loc = nn.Parameter(self.apart().reshape(*factors, latent_dim))
        self.label_log_scale = nn.Parameter(torch.zeros(*factors, latent_dim))
        self.head = nn.Sequential(*mlp([latent_dim, HIDDEN], norm=False), zero_head(HIDDEN, labels.size))
        self.noise: Tensor
        noise = torch.randn(100, 1, latent_dim, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", noise, persistent=False)
        self._experts: list[tuple[Tensor, tuple[Tensor, Tensor]]] | None = None

    def apart(self) -> Tensor:
        """Where the labels' experts begin: the product with N(0, I) is at ±1 along a direction of z for each attribute,
        at 1 for each class (choice, as in the ReVAE): means that begin together take far longer to part."""
        directions = 2 * nn.init.orthogonal_(torch.empty(self.labels.size, self.latent_dim))
        return torch.stack([-directions, directions], 1) if self.labels.event_shape else directions

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, latent_dim: int, **options: Any) -> MVAE:
        """The model with the networks that suit the input's shape."""
        encoder, decoder = default_encoder(input_shape), default_decoder(input_shape, latent_dim, 0)
        return cls(encoder, decoder, labels, latent_dim=latent_dim, **options)

    def objective(self) -> SubsampledELBO:
        """The sum of the bounds of several subsets of the modalities."""
        return SubsampledELBO(self)

    def model(self, x: Tensor, y: Tensor | None = None, seen: Tensor | bool = True) -> Tensor | None:
        """``p(z) p(x | z) Π p(y_i | z)``.

        :param seen: of which rows x is there, ``[B]`` or one for all; elsewhere its likelihood does not count. Where
            it is False nothing is decoded: there is no site ``x``.
        """
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=self.beta):
                z = pyro.sample("z", standard_normal(x, self.latent_dim))
            logits = self.head(z)
            self.observe(logits, y, self.alpha)
            guess = pyro.sample("y_unobserved", self.labels.given(logits.detach(), y))
            deterministic("y", guess, logits, len(self.labels.event_shape))
            if seen is False:
                return None
            with poutine.mask(mask=seen):  # type: ignore[arg-type]
                return pyro.sample("x", self.likelihood(self.decoder(z, None)), obs=self.likelihood.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None, seen: Tensor | bool = True) -> None:
        """``q(z | x, y_O)``, without the expert of x in the rows where x is not ``seen``."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=self.beta):
                z = pyro.sample("z", self.posterior(x, y, seen))
            pyro.sample("y_unobserved", self.labels.given(self.head(z).detach(), y))

    def posterior(self, x: Tensor, y: Tensor, seen: Tensor | bool = True) -> dist.TorchDistribution:
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
        y = y.reshape(len(y), -1)
        i, at = torch.arange(y.shape[1], device=y.device), y.clamp_min(0)
        t = (-2 * self.label_log_scale[i, at]).exp() * (y != MISSING).unsqueeze(-1)
        return t.sum(1), (t * self.label_loc[i, at]).sum(1)

    def class_logits(self, x: Tensor) -> Tensor:
        """Logits of ``E_q(z|x)[ p(y | z) ]``, by 100 fixed draws."""
        q = self.posterior(x, self.targets(None, x)).base_dist
        return mean_logits(self.labels, self.head(q.loc + q.scale * self.noise))

    def encode(self, x: Any, y: Any = None) -> dist.TorchDistribution:
        """q(z | x, y_O), batch shape [B], event shape [D]."""

        def verb(x: Tensor, y: Tensor | None = None) -> Tensor:
            q = self.posterior(x, self.targets(y, x))
            return torch.stack([q.mean, q.stddev], 1)

        return gaussian(self.each(verb, x, y))

    def decode(self, z: Tensor) -> Tensor:
        """The mean image of latents ``[B, D]``."""
        with self.inference():
            return self.likelihood.mean(self.decoder(torch.as_tensor(z).to(self.loc.weight), None))

    def reconstruct(self, x: Any, y: Any = None) -> Tensor:
        """The mean image of the mean of q(z | x, y_O)."""
        return self.decode(self.encode(x, y).mean)

    def reconstruction_log_prob(self, x: Any) -> Tensor:
        """``log p(x | z)`` at one draw of q(z | x): ``[B]`` nats."""

        def verb(x: Tensor) -> Tensor:
            z = self.posterior(x, self.targets(None, x)).sample()
            return self.likelihood(self.decoder(z, None)).log_prob(self.likelihood.target(x))

        return self.each(verb, x)

    def generate(self, n: int, y: Any = None) -> Tensor:
        """``n`` mean images of q(z | y_O), which is N(0, I) where no label is given.

        :param y: None, one label for all (a number, a class name, or A values), or labels a row, -1 where missing.
        """
        with self.inference():
            known = self.labels.check(None, n, self.device) if y is None else labels_of(y, n, self.labels, self.device)
            return self.decode(self.posterior(self.loc.weight.new_zeros(n, *self.input_shape), known, False).sample())

    def elbo(self, x: Any, y: Any = None, *, num_samples: int = 1) -> Tensor:
        """``ELBO(x, y_O)`` at λ = β = 1, a bound on log p(x, y_O): ``[B]`` nats, the mean over draws of z."""
        return self.each(lambda x, y=None: self._log_weights(x, y, num_samples).mean(0), x, y)

    def log_likelihood(self, x: Any, y: Any = None, *, num_samples: int = 100) -> Tensor:
        """Importance-weighted bound ``log 1/S Σ_s p(x, y_O, z_s) / q(z_s | x, y_O)``: ``[B]`` nats."""

        def verb(x: Tensor, y: Tensor | None = None) -> Tensor:
            return self._log_weights(x, y, num_samples).logsumexp(0) - math.log(num_samples)

        return self.each(verb, x, y)

    def _log_weights(self, x: Tensor, y: Tensor | None, num_samples: int) -> Tensor:
        y = self.targets(y, x)
        q, p, target = self.posterior(x, y), standard_normal(x, self.latent_dim), self.likelihood.target(x)

        def log_w(z: Tensor) -> Tensor:
            logits = self.head(z)
            log_p_y = self.labels.observed(logits, y).log_prob(self.labels.values(y, logits))
            log_p_x = self.likelihood(self.decoder(z, None)).log_prob(target)
            return log_p_x + log_p_y + p.log_prob(z) - q.log_prob(z)

        return torch.stack([log_w(q.sample()) for _ in range(num_samples)])

    def intervene(self, x: Any, values: Mapping[str, int] | str | int, *, num_samples: int | None = None) -> Tensor:
        """Draw z from ``q(z | x, y_i = v)``, the product of x's expert and those of the named values, and decode.

        :param values: ``{"Smiling": 1}``; for class labels a class, by number or name.
        :param num_samples: S draws: ``[S, B, *input_shape]``; None for one without the first dimension.
        :raises InputError: an attribute or class that does not exist, or a value that is neither 0 nor 1.
        """
        asked = self._asked(values)
        q = self.encode(x, asked.expand(len(x), *asked.shape))
        return repeated(lambda: self.decode(q.sample()), num_samples)

    def swap(self, x: Any, donor: Any, name: str = "class") -> Tensor:
        """``x`` under the expert of the value that the donor's attribute (or class) is predicted to have, at the mean
        of ``q(z | x, y_i)``: ``[B, *input_shape]``.

        :param donor: as many points as ``x``, or one for all.
        """
        x, donor = self._pair(x, donor, name)
        nothing = self.labels.check(None, len(x), self.device)
        return self.reconstruct(x, self._given(nothing, self.predict(donor), name))


class SubsampledELBO(DifferentiableELBO):
    """The sub-sampled training paradigm, for rows with some known label::

        ELBO(x, y_O) + ELBO(x) + ELBO(y_O) + Σ over random subsets S of {x, y_O}  ELBO(S)

    A row without any has ELBO(x), once. In a random subset, x and every known label is there with probability 1/2.
    (Choice: the paper takes each attribute by itself beside random subsets; here all known ones together, and what is
    in between is left to the random ones.)
    """

    def __init__(self, vae: MVAE) -> None:
        super().__init__(max_plate_nesting=1, strict_enumeration_warning=False)
        self.vae = vae

    def parts(self, model: Any, guide: Any, x: Any, y: Any = None) -> list[tuple[str, Any, Any, tuple[Any, ...]]]:
        """The bounds that it is the sum of, the full one first: a name, a model, a guide and their arguments."""
        x = self.vae.inputs(x)
        full = ("ELBO(x, y)", model, guide, (x, y))
        if y is None:
            return [full]
        y = self.vae.targets(y, x)
        labelled = (y != MISSING).reshape(len(y), -1).any(1)
        model, guide = poutine.mask(model, mask=labelled), poutine.mask(guide, mask=labelled)
        more: list[tuple[str, Tensor | None, Tensor | bool]] = [("ELBO(x)", None, True), ("ELBO(y)", y, False)]
        for i in range(self.vae.subsets):
            kept = torch.rand(y.shape, device=y.device) < 0.5
            seen = torch.rand(len(y), device=y.device) < 0.5
            more.append((f"ELBO(subset {i + 1})", torch.where(kept, y, MISSING), seen))
        return [full, *((name, model, guide, (x, some, seen)) for name, some, seen in more)]

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The negative sum, over the batch too; ``args`` are x and y."""
        with self.vae.encoding_once():
            losses = [
                TraceEnum_ELBO.differentiable_loss(self, model, guide, *of)
                for _, model, guide, of in self.parts(model, guide, *args, **kwargs)
            ]
        return torch.stack(losses).sum()

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """The same number, without gradients."""
        parts = self.parts(model, guide, *args, **kwargs)
        with torch.no_grad(), self.vae.encoding_once():
            return sum(float(TraceEnum_ELBO.loss(self, model, guide, *of)) for _, model, guide, of in parts)
