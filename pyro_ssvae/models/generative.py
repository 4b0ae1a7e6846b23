"""What models with latents share: the verbs that are read off the traces of ``model`` and ``guide``."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from pyro import poutine
from pyro.infer import ELBO, TraceEnum_ELBO
from torch import Tensor, nn

from ..data.inputs import finite, numbers
from ..distributions.observed import entrywise
from ..errors import InputError, kind_of, whole_number
from ..infer import bounds
from ..infer.automatic import row_latents
from ..infer.batched import checked, evaluating, need_numbers, seeded
from ..infer.expected import Means, expected_x
from ..infer.pairs import Program, replaced
from ..infer.traces import Site, is_factor, mark_rows, own_latents, plain, plate_nesting, row_frame, row_plates, sampled
from ..nn.likelihoods import Likelihood, check_encoder, likelihood_for
from .base import Json, Model
from .config import VAEConfig
from .rewritten import overridden_since, prior_of


class GenerativeModel(Model):
    """A model with latents and a site ``x``. Its verbs are read off the traces of ``model`` and ``guide``.

    An edited prior, likelihood, guide or a further site is followed by all of them.

    :ivar latents: sites that :meth:`encode` gives, in order.
    """

    latents: ClassVar[tuple[str, ...]] = ("z",)
    encoder: nn.Module
    decoder: nn.Module
    kl_share: Tensor

    def set_options(self, options: Json) -> str | nn.Module | None:
        likelihood = super().set_options(options)
        if isinstance(self.config, VAEConfig) and self.config.kl_warmup:
            self.register_buffer("kl_share", torch.tensor(1.0), persistent=False)
        return likelihood

    def about(self) -> list[str]:
        x, y = super().about()
        kind = self.likelihood.kind if isinstance(self.likelihood, Likelihood) else type(self.likelihood).__name__
        latents = " and ".join(self.latents)
        return [f"{x}, likelihood {kind}", y, f"{latents}: {self.config.dim} dimensions"]

    def objective(self) -> ELBO:
        return TraceEnum_ELBO(max_plate_nesting=self.plate_dims(1), strict_enumeration_warning=False)

    def plate_dims(self, own: int) -> int:
        """The dimensions of plates: this library's ``own``, or more that an edited model has."""
        stock = type(self).__module__.startswith(f"{__package__}.") and not replaced(self)
        if stock and not any(overridden_since(self, program, "default") for program in ("model", "guide")):
            return own
        store = pyro.get_param_store()
        try:
            with seeded(self.device, 0), store.scope(store.get_state()), evaluating(self):
                return max(own, plate_nesting(self, self.stand_in(2), None))
        except Exception:  # of a program of one's own, which a step will name
            return own

    def kl_scale(self) -> AbstractContextManager[object]:
        """The scale of the latents' sites: β, of which a part is in force while :meth:`set_progress` lets it grow."""
        assert isinstance(self.config, VAEConfig)
        beta = self.config.beta
        return scaled(beta * self.kl_share if self.config.kl_warmup else beta)

    def set_progress(self, progress: float) -> None:
        """Let β grow linearly from 0 over the training's first ``kl_warmup``, so that the decoder learns to use z
        before z has a price. Without a call, as under plain ``SVI``, it is whole from the start. Bounds never scale.

        Source: Bowman et al. (2016), arXiv:1511.06349; Fu et al. (2019), arXiv:1903.10145.

        :param progress: the share of the training that is done, 0 to 1.
        """
        if isinstance(self.config, VAEConfig) and self.config.kl_warmup:
            self.kl_share.fill_(min(1.0, progress / self.config.kl_warmup))

    def set_likelihood(self, likelihood: str | nn.Module | None, class_dim: int) -> None:
        """Make :attr:`likelihood` and :attr:`input_shape` by the decoder's output; called once, by ``__init__``."""
        self.likelihood, self.input_shape = likelihood_for(
            likelihood, self.decoder, self.config.dim, class_dim, self.config.likelihood_options
        )
        check_encoder(self.encoder, self.likelihood)

    def p_x(self, out: Tensor) -> dist.TorchDistribution:
        """The likelihood, of the decoder's output; entries of x that are NaN do not count."""
        p_x: dist.TorchDistribution = self.likelihood(out)
        return entrywise(p_x)

    def elbo(self, x: ArrayLike, y: ArrayLike | None = None, *, num_samples: int = 1) -> Tensor:
        """Lower bound on log p(x), or on log p(x, y) for known labels: :func:`pyro_ssvae.elbo`."""
        return bounds.elbo(self, x, y, num_samples=num_samples)

    def log_likelihood(self, x: ArrayLike, y: ArrayLike | None = None, *, num_samples: int = 100) -> Tensor:
        """Importance-weighted bound on log p(x), or on log p(x, y): :func:`pyro_ssvae.log_likelihood`."""
        return bounds.log_likelihood(self, x, y, num_samples=num_samples)

    def encode(self, x: ArrayLike, y: ArrayLike | None = None) -> dist.TorchDistribution:
        """The posterior of the latents as a Normal, batch shape [B], event shape [D].

        What they depend on in the guide is at its mean. Where the guide has no Normal there (a flow), mean and standard
        deviation of 100 draws.
        """

        def rows(x: Tensor, y: Tensor | None = None) -> Tensor:
            q = self.posterior_trace(x, y)
            return torch.stack([self.joined(q, "mean"), self.joined(q, "stddev")], 1)

        parts = self.read(rows, x, y)
        return dist.Normal(parts[:, 0], parts[:, 1]).to_event(1)

    def posterior_trace(self, x: Tensor, y: Tensor | None) -> dict[str, Site]:
        """The guide's sites at some rows, each at its mean where it has one."""
        guide = Means()(self.guide)
        return sampled(poutine.trace(guide).get_trace(x, self.point_labels(x, y)))

    def point_labels(self, x: Tensor, y: Tensor | None) -> Tensor | None:
        """The labels that stand for missing ones where a verb takes one value of each; here missing ones stay."""
        return y

    def joined(self, sites: dict[str, Site], moment: str) -> Tensor:
        """Means or standard deviations of the latent sites side by side, ``[B, D]``, whatever their event shapes."""
        return torch.cat([flat(site, moment_of(site["fn"], moment)) for site in self.latent_sites(sites)], -1)

    def latent_sites(self, sites: dict[str, Site]) -> list[Site]:
        """The guide's sites of :attr:`latents`; raise :class:`InputError` where a rewritten guide lacks one."""
        for name in self.latents:
            if name not in sites:
                raise InputError(f"encode: the guide has no site {name!r} (its sites: {', '.join(sites)}); the class's "
                                 "'latents' says which are encoded")  # fmt: skip
        return [sites[name] for name in self.latents]

    def parts(self, z: Tensor) -> dict[str, Tensor]:
        """Latents ``[B, D]`` as the sites have them."""
        shapes = self.shapes()
        values = z.split([shape.numel() for shape in shapes], -1)
        return {n: v.reshape(v.shape[:-1] + shape) for n, v, shape in zip(self.latents, values, shapes)}

    def widths(self) -> list[int]:
        """The dimensions of each of :attr:`latents`."""
        return [shape.numel() for shape in self.shapes()]

    def shapes(self) -> list[torch.Size]:
        """The event shapes of :attr:`latents`; of a class that edits them, as its model has them."""
        alone = len(self.latents) == 1  # else a class of this library has parts of its own
        edits = ("latents", "model", "p_z") if alone else ("latents",)
        if not any(overridden_since(self, part, "default") for part in edits):
            return [torch.Size([self.config.dim])]
        with seeded(self.device, 0):
            return [prior_of(self, name, 1, {}, "decode").event_shape for name in self.latents]

    def decode(self, z: Tensor, y: ArrayLike | None = None, *, like: ArrayLike | None = None) -> Tensor:
        """E[x | z] of latents ``[..., D]``, as :meth:`encode` orders them: ``[..., *input_shape]``.

        :param like: points, one for each latent, whose rows' sizes counts have (``library_size``); else ordinary ones.
            Latents that the guide of a rewritten pair has beside these are theirs too; else the prior draws them. What
            all rows share, such as weights, is as the guide has it (:meth:`shared_latents`).
        """
        need_numbers(self)
        with evaluating(self):
            z = finite(numbers(z, "z"), "z").to(next(self.parameters()))
            width = sum(self.widths())
            if z.shape[-1:] != (width,):
                raise InputError(f"z: shape {list(z.shape)}; this model needs [..., {width}]")
            rows = z.reshape(-1, z.shape[-1])
            n = len(rows)
            parts = self.parts(rows)
            label = self.label_values(n, y, parts)
            needed = [*parts, *(label if y is not None else ())]
            x = self.unseen(n) if like is None else checked(self, like)[0]
            if len(x) != n:
                raise InputError(f"like: {len(x)} points for {n} latents; each needs one")
            further = self.shared_latents(drawn=False) if like is None else self.further_latents(x)
            x = expected_x(self, x, {**further, **parts, **label}, needed, stand_in=like is None)
            return x.reshape(z.shape[:-1] + x.shape[1:])

    def unseen(self, n: int) -> Tensor:
        """:meth:`stand_in`, of a rewritten model with all entries missing: what it reads of them is no number."""
        x, parts = self.stand_in(n), ("model", "p_z", "p_z_s", "p_x_given")
        return x.fill_(torch.nan) if any(overridden_since(self, part, "default") for part in parts) else x

    def further_latents(self, x: Tensor) -> dict[str, Tensor]:
        """The values at points of the guide's latents beside z and y, at their means, which a rewritten x may hear."""
        if not len(x) or not any(overridden_since(self, program, "default") for program in ("model", "guide")):
            return {}
        sites = self.posterior_trace(x, None)
        return {n: site["value"] for n, site in sites.items() if not (site["is_observed"] or n in (*self.latents, "y"))}

    def shared_latents(self, *, drawn: bool = True) -> dict[str, Tensor]:
        """The guide's latents that all rows share, such as weights of a decoder: what was learnt of them.

        :param drawn: a draw of them, else their means.
        """
        if not any(overridden_since(self, program, "default") for program in ("model", "guide")):
            return {}
        x = self.stand_in(2)
        if row_latents(self, x, None):  # a run would bind it to these rows
            return {}

        def values(guide: Program) -> dict[str, Tensor]:
            q = poutine.trace(guide).get_trace(x, None)
            mark_rows(row_plates(self, x, None, q), q)
            sites = {name: site for name, site in sampled(q).items() if not (site["is_observed"] or is_factor(site))}
            return {name: site["value"] for name, site in sites.items() if row_frame(site, len(x)) is None}

        with seeded(self.device, 0):
            means = values(Means()(self.guide))
        return values(self.guide) if means and drawn else means

    def label_values(self, n: int, y: ArrayLike | None, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The site ``y`` of ``n`` given labels, for an x that hears it; here none.

        :param parts: the latents that are decoded, as the sites have them.
        """
        return {}

    def reconstruct(self, x: ArrayLike, y: ArrayLike | None = None) -> Tensor:
        """E[x | z] at the means of the guide's sites."""

        def rows(x: Tensor, y: Tensor | None = None) -> Tensor:
            sites = self.posterior_trace(x, y)
            return expected_x(self, x, self.reconstruction_values(x, y, sites), own_latents(sites), "reconstruct")

        return self.read(rows, x, y)

    def reconstruction_values(self, x: Tensor, y: Tensor | None, sites: dict[str, Site]) -> dict[str, Tensor]:
        """The values that :meth:`reconstruct` gives the model's latent sites."""
        return {name: site["value"] for name, site in sites.items() if not site["is_observed"]}

    def generate(self, n: int, y: ArrayLike | None = None) -> Tensor:
        """``n`` draws from the model: E[x | z] of latents drawn from the prior, of the given labels where given.

        Latents that all rows share are drawn from the guide.

        :param y: None, one label for all (a number, a class name, or A values), or labels a row, -1 for missing ones,
            which are drawn.
        """
        n = whole_number("generate", n, 0)
        need_numbers(self)
        with evaluating(self):
            shared, labels = self.shared_latents(), self.drawn_labels(n, y)
            return expected_x(self, self.unseen(n), {**shared, **labels}, labels, "generate", stand_in=True)

    def drawn_labels(self, n: int, y: ArrayLike | None) -> dict[str, Tensor]:
        """The site ``y`` of ``n`` points to generate; empty where it is the model's to draw."""
        if y is not None:
            raise InputError(f"generate: {kind_of(self)} has no labels to generate from; y=None is needed")
        return {}


def outside(model: nn.Module, *parts: nn.Module) -> list[Tensor]:
    """Return a model's parameters that are in none of some of its parts."""
    inside = {id(parameter) for part in parts for parameter in part.parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in inside]


def flat(site: Site, value: Tensor) -> Tensor:
    """A number of each entry of a latent as ``[B, D]``; raise :class:`InputError` where a plate has several a row."""
    if value.dim() - len(site["fn"].event_shape) != 1:
        raise InputError(f"encode: site {site['name']!r} has batch shape {list(site['fn'].batch_shape)}; a latent of "
                         "each row is needed, with its other dimensions in the event")  # fmt: skip
    return value.flatten(1) if value.dim() > 1 else value.unsqueeze(-1)


def moment_of(fn: Any, moment: str, draws: int = 100) -> Tensor:
    """Mean or standard deviation of a distribution, of draws where it does not know it.

    :raises InputError: of categories, which have none.
    """
    if isinstance(plain(fn), dist.Categorical):
        raise InputError(f"encode: a {type(plain(fn)).__name__} latent has no mean; a OneHotCategorical has")
    try:
        value: Tensor = getattr(fn, moment)
    except NotImplementedError:
        drawn = fn.sample((draws,))
        value = drawn.mean(0) if moment == "mean" else drawn.std(0)
    return value


def scaled(weight: float | Tensor) -> AbstractContextManager[object]:
    """``poutine.scale``; a weight of 0, which Pyro refuses, is the smallest number, whose products are 0."""
    if isinstance(weight, Tensor):
        weight = weight.clamp_min(torch.finfo(weight.dtype).tiny)
    else:
        weight = max(weight, sys.float_info.min)
    scale: AbstractContextManager[object] = poutine.scale(scale=weight)
    return scale


def positive(log_scale: Tensor, most: float = 15.0) -> Tensor:
    """A scale from its logarithm, which is kept within ±``most``: far from all training points it would be 0 or ∞."""
    return log_scale.clamp(-most, most).exp()


def standard_normal(like: Tensor, dim: int) -> dist.TorchDistribution:
    """N(0, I) over ``dim`` dimensions as one event."""
    return dist.Normal(like.new_zeros(dim), like.new_ones(dim)).to_event(1)


def gaussian_head(width: int, latent_dim: int) -> tuple[nn.Linear, nn.Linear]:
    """Layers to the mean and to the log-scale of a Gaussian."""
    return nn.Linear(width, latent_dim), nn.Linear(width, latent_dim)
