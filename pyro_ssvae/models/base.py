"""What every model shares: its name in Pyro's store, its checks at the door, and verbs read off its traces."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from pyro import poutine
from pyro.infer import ELBO, TraceEnum_ELBO
from pyro.infer.util import is_validation_enabled
from torch import Tensor, nn

from ..data.dataset import labels_in_words, times
from ..data.inputs import finite, numbers
from ..data.label_values import label_values
from ..data.schema import Schema
from ..distributions.observed import entrywise
from ..errors import InputError, kind_of, whole_number
from ..infer import bounds
from ..infer.batched import batched, evaluating, opened
from ..infer.traces import Means, expected_x, sampled
from ..labels import ClassLabels, Labels
from ..nn.likelihoods import Likelihood, check_encoder, encoder_for, likelihood_for
from ..nn.networks import default_decoder
from .config import Config as AnyConfig
from .config import VAEConfig, make_config

_numbers = itertools.count()
Json = dict[str, Any]


class Model(nn.Module):
    """A Pyro ``model``/``guide`` pair: a plain ``nn.Module``.

    :ivar labels: what ``y`` means; None for a model without labels.
    :ivar input_shape: shape of one data point.
    :ivar config: its options.
    :ivar augmentation: what ``augment="auto"`` of :func:`pyro_ssvae.fit` means for this model; ``"auto"`` leaves it to
        the likelihood.
    :ivar column_names: of the table that it was trained on; None where its columns had none.
    :ivar schema: how tables become points, of a model made for a table: :func:`pyro_ssvae.data.read_table`.
    :ivar pixel_range: the least and the largest value of the pictures that it was trained on.
    :ivar white_level: the number that is white in the pictures that it was trained on, where these were of 16 bits, or
        black and white by 1 and 0; None for any others.
    :ivar recipe: how :func:`pyro_ssvae.create_model` made this model; None for one made from networks of one's own.
    """

    Config: ClassVar[type[AnyConfig]] = AnyConfig
    labels: Labels | None
    input_shape: tuple[int, ...]
    encoder: nn.Module
    likelihood: Likelihood
    config: AnyConfig
    augmentation: ClassVar[str] = "auto"

    def __init__(self) -> None:
        super().__init__()
        self.recipe: Json | None = None
        self.column_names: tuple[str, ...] | None = None
        self.pixel_range: tuple[float, float] | None = None
        self.white_level: int | None = None
        self.schema: Schema | None = None
        self._name = f"{type(self).__name__}{next(_numbers)}"

    def __setstate__(self, state: Json) -> None:
        # A copy is a model of its own: under its original's name Pyro would train the original.
        super().__setstate__(state)
        self._name = f"{type(self).__name__}{next(_numbers)}"

    def __repr__(self) -> str:
        """Say what the model is, in a few lines; :meth:`architecture` lists its networks."""
        parts = vars(self)
        if not {"config", "input_shape", "labels"} <= parts.keys():  # not made whole yet
            return super().__repr__()
        name = "" if self.recipe is None else f" {self.recipe['name']!r}"
        count = sum(p.numel() for p in self.parameters())
        lines = [f"{type(self).__name__}{name}, {count:,} parameters on {self.device}", *self.about()]
        return "\n  ".join([*lines, "architecture() lists the networks"])

    def about(self) -> list[str]:
        """Return lines on what goes in and what comes out."""
        return [f"x: {times(self.input_shape)}", f"y: {labels_in_words(self.labels)}"]

    def architecture(self) -> str:
        """Return all modules as text, as PyTorch prints them: ``print(vae.architecture())``."""
        return super().__repr__()

    def set_options(self, options: Json) -> str | nn.Module | None:
        """Make :attr:`config` of the options, and return the likelihood: its name, or a module of one's own."""
        likelihood = options.get("likelihood")
        self.config = make_config(type(self).Config, options)
        return likelihood

    @classmethod
    def networks(cls, input_shape: tuple[int, ...], class_dim: int, options: Json) -> tuple[nn.Module, nn.Module]:
        """Return the encoder and decoder that suit points of a shape and what the likelihood makes of them."""
        config = make_config(cls.Config, options)
        deep = config.networks == "deep"
        encoder, out = encoder_for(options.get("likelihood"), input_shape, config.likelihood_options, deep)
        return encoder, default_decoder(out, config.latent_dim, class_dim, deep)

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, **options: Any) -> Model:
        """Return the model with the networks that suit the input's shape."""
        raise NotImplementedError

    def model(self, x: Tensor, y: Tensor | None = None) -> object:
        raise NotImplementedError

    def guide(self, x: Tensor, y: Tensor | None = None) -> object:
        raise NotImplementedError

    def objective(self) -> ELBO:
        """The ELBO to train the pair with: ``SVI(m.model, m.guide, optimiser, loss=m.objective())``."""
        return TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)

    def prepare(self, x: Tensor, y: Tensor) -> None:
        """Take from the training data what is not trained: the likelihood's units, the prior over labels."""
        self.likelihood.fit(self.inputs(x))

    def check_points(self, x: Tensor) -> Tensor:
        """Return points as the programs take them; NaN is an entry that is missing.

        :raises InputError: naming the first entry that the likelihood does not take.
        """
        if isinstance(self.likelihood, Likelihood) and x.is_floating_point():
            self.likelihood.check(x)
        return x

    @property
    def takes_pixels(self) -> bool:
        """Whether uint8 values mean pixels in [0, 1]: of pictures, and where the likelihood takes numbers in [0, 1];
        else they are numbers as any others."""
        return not isinstance(self.likelihood, Likelihood) or self.likelihood.takes_pixels

    def begin(self, x: Tensor) -> Tensor:
        """Tell Pyro of the parameters, so that ``SVI`` trains them, and return :meth:`inputs`.

        Every instance has a name of its own. Without gradients nothing can be trained, and nothing is told.
        """
        if torch.is_grad_enabled():
            pyro.module(self._name, self)
        return self.inputs(x)

    def inputs(self, x: Tensor) -> Tensor:
        """``x`` as this model computes with it: on its device, in its precision, pixels scaled to [0, 1]."""
        p = next(self.parameters())
        x = torch.as_tensor(x, device=p.device)
        if tuple(x.shape[1:]) != self.input_shape:
            raise InputError(f"x: shape {list(x.shape)}; this model needs [N, {', '.join(map(str, self.input_shape))}]")
        if (
            len(x) == 1
            and self.training
            and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.modules())
        ):
            raise InputError("x: 1 row; in training mode batch normalisation needs at least 2")
        return x.to(p.dtype) / 255 if x.dtype == torch.uint8 and self.takes_pixels else x.to(p.dtype)

    def targets(self, y: Tensor | None, x: Tensor) -> Tensor:
        """``y`` for the rows of ``x``, all missing where it is None; its values are checked while Pyro validates."""
        assert self.labels is not None
        return self.labels.check(y, len(x), x.device, values=is_validation_enabled())

    def plate(self, x: Tensor) -> AbstractContextManager[object]:
        """The plate ``data`` over the rows of ``x``."""
        plate: AbstractContextManager[object] = pyro.plate("data", len(x), dim=-1)
        return plate

    def read(self, rows: Callable[..., Tensor], x: ArrayLike, y: ArrayLike | None = None) -> Tensor:
        """``rows(x)``, or ``rows(x, y)`` where labels are given, checked and some rows at a time."""
        return batched(self, rows, *opened(self, x, y))

    def features(self, x: Tensor) -> Tensor:
        """What the encoder makes of points: ``[B, H]``."""
        h: Tensor = self.encoder(self.likelihood.standardize(self.inputs(x)))
        return h

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


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
        return [f"{x}, likelihood {kind}", y, f"{latents}: {self.config.latent_dim} dimensions"]

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
            likelihood, self.decoder, self.config.latent_dim, class_dim, self.config.likelihood_options
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

    def posterior_trace(self, x: Tensor, y: Tensor | None) -> dict[str, Any]:
        """The guide's sites at some rows, each at its mean where it has one."""
        guide = Means()(self.guide)
        return sampled(poutine.trace(guide).get_trace(x, self.point_labels(x, y)))

    def point_labels(self, x: Tensor, y: Tensor | None) -> Tensor | None:
        """The labels that stand for missing ones where a verb takes one value of each; here missing ones stay."""
        return y

    def joined(self, sites: dict[str, Any], moment: str) -> Tensor:
        """Means or standard deviations of the latent sites side by side, ``[B, D]``."""
        return torch.cat([moment_of(site["fn"], moment) for site in self.latent_sites(sites)], -1)

    def latent_sites(self, sites: dict[str, Any]) -> list[Any]:
        """The guide's sites of :attr:`latents`; raise :class:`InputError` where a rewritten guide lacks one."""
        for name in self.latents:
            if name not in sites:
                raise InputError(f"encode: the guide has no site {name!r} (its sites: {', '.join(sites)}); the class's "
                                 "'latents' says which are encoded")  # fmt: skip
        return [sites[name] for name in self.latents]

    def parts(self, z: Tensor) -> dict[str, Tensor]:
        """Latents ``[B, D]`` as the sites have them."""
        return {self.latents[0]: z}

    def decode(self, z: Tensor, y: ArrayLike | None = None) -> Tensor:
        """E[x | z] of latents ``[..., D]``, as :meth:`encode` orders them: ``[..., *input_shape]``."""
        with evaluating(self):
            z = finite(numbers(z, "z"), "z").to(next(self.parameters()))
            if z.shape[-1:] != (self.config.latent_dim,):
                raise InputError(f"z: shape {list(z.shape)}; this model needs [..., {self.config.latent_dim}]")
            rows = z.reshape(-1, z.shape[-1])
            n = len(rows)
            parts, label = self.parts(rows), self.label_values(n, y)
            needed = [*parts, *(label if y is not None else ())]
            x = expected_x(self, self.stand_in(n), {**parts, **label}, needed)
            return x.reshape(z.shape[:-1] + x.shape[1:])

    def label_values(self, n: int, y: ArrayLike | None) -> dict[str, Tensor]:
        """The site ``y`` of ``n`` given labels, for a decoder that hears it; here none."""
        return {}

    def reconstruct(self, x: ArrayLike, y: ArrayLike | None = None) -> Tensor:
        """E[x | z] at the means of the guide's sites."""

        def rows(x: Tensor, y: Tensor | None = None) -> Tensor:
            sites = self.posterior_trace(x, y)
            return expected_x(self, x, self.reconstruction_values(x, y, sites))

        return self.read(rows, x, y)

    def reconstruction_values(self, x: Tensor, y: Tensor | None, sites: dict[str, Any]) -> dict[str, Tensor]:
        """The values that :meth:`reconstruct` gives the model's latent sites."""
        return {name: site["value"] for name, site in sites.items() if not site["is_observed"]}

    def generate(self, n: int, y: ArrayLike | None = None) -> Tensor:
        """``n`` draws from the model: E[x | z] of latents drawn from the prior, of the given labels where given.

        :param y: None, one label for all (a number, a class name, or A values), or labels a row, -1 for missing ones,
            which are drawn.
        """
        n = whole_number("generate", n, 0)
        with evaluating(self):
            values = self.drawn_labels(n, y)
            return expected_x(self, self.stand_in(n), values, values, "generate")

    def drawn_labels(self, n: int, y: ArrayLike | None) -> dict[str, Tensor]:
        """The site ``y`` of ``n`` points to generate; empty where it is the model's to draw."""
        if y is not None:
            raise InputError(f"generate: {kind_of(self)} has no labels to generate from; y=None is needed")
        return {}

    def stand_in(self, n: int) -> Tensor:
        """``n`` points of zeros, for programs that need to know how many."""
        return next(self.parameters()).new_zeros(n, *self.input_shape)


def moment_of(fn: Any, moment: str, draws: int = 100) -> Tensor:
    """Mean or standard deviation of a distribution, of draws where it does not know it."""
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


def given_labels(y: ArrayLike, n: int, labels: Labels, device: torch.device) -> Tensor:
    """``y`` for ``n`` points, from labels a row, or from one label (a number or its name) for all."""
    if isinstance(y, str):
        if not isinstance(labels, ClassLabels) or y not in labels.names:
            raise InputError(f"label: {y!r} is not one of {', '.join(labels.names)}")
        y = list(labels.names).index(y)
    y = label_values(y, labels)
    if y.shape == labels.event_shape:
        y = y.expand((n, *labels.event_shape))
    return labels.check(y, n, device)
