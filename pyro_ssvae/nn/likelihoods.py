"""Likelihoods p(x | decoder's output): what a data point is taken to be, and in which units.

A likelihood turns the decoder's output ``[..., *decoder_shape]`` into a distribution over ``x``. It also owns the
units: ``standardize(x)`` is what the encoder sees, ``fit(x)`` takes the units from training data.

=================================== ======================================= ==================== ===================
name                                values                                  log p is             numbers an entry
=================================== ======================================= ==================== ===================
``bernoulli``                       [0, 1], black or white                  no density of greys  1
``continuous-bernoulli``            [0, 1]                                  a density            1
``binomial``                        grey levels k / n                       a probability        1
``discretized-logistic-mixture``    8-bit levels k / 255                    a probability        15
``normal``, ``laplace``             real                                    a density            1
``student-t``                       real, heavy tails                       a density            1
``log-normal``                      0 and above, skewed                     a density            1
``zero-inflated-log-normal``        as it, many of them 0                   both                 2
``poisson``                         counts                                  a probability        1
``negative-binomial``               counts, overdispersed                   a probability        1
``zero-inflated-negative-binomial`` counts with further zeros               a probability        2
``categorical``                     codes 0 to C - 1                        a probability        C
``mixed``                           a kind for each column                  both                 by column
=================================== ======================================= ==================== ===================

The default is ``normal`` for vectors and series, and ``bernoulli`` for images. A NaN in x is an entry that was not
observed, for each of them.
"""

from __future__ import annotations

from typing import Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import InputError, nearest
from .columns import Categorical, Mixed
from .counts import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from .likelihood_base import Likelihood, LikelihoodOptions, Shape
from .networks import AddClass, default_encoder, evaluation, table_encoder
from .pixels import Bernoulli, Binomial, ContinuousBernoulli, DiscretizedLogisticMixture
from .reals import Laplace, LogNormal, Normal, StudentT, ZeroInflatedLogNormal

LikelihoodName = Literal[
    "bernoulli", "continuous-bernoulli", "binomial", "discretized-logistic-mixture", "normal", "laplace", "student-t",
    "log-normal", "zero-inflated-log-normal", "poisson", "negative-binomial", "zero-inflated-negative-binomial",
    "categorical", "mixed",
]  # fmt: skip
LIKELIHOODS: dict[str, type[Likelihood]] = {
    kind.kind: kind
    for kind in (
        Bernoulli, ContinuousBernoulli, Binomial, DiscretizedLogisticMixture, Normal, Laplace, StudentT, LogNormal,
        ZeroInflatedLogNormal, Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial, Categorical, Mixed,
    )
}  # fmt: skip


def default_likelihood(input_shape: Shape) -> LikelihoodName:
    """The likelihood of points of this shape where none is named: ``normal``, of grey pictures of at least 20 pixels
    ``continuous-bernoulli``, of colour pictures ``bernoulli``, which is no density of theirs (docs/likelihoods.md)."""
    if len(input_shape) < 3 or (input_shape[0] == 1 and min(input_shape[1:]) < 20):
        return "normal"
    return "continuous-bernoulli" if input_shape[0] == 1 else "bernoulli"


def named_likelihood(
    name: str | None,
    input_shape: Shape,
    options: LikelihoodOptions = LikelihoodOptions(),  # noqa: B008
) -> Likelihood:
    """Return the likelihood of that name, by default that of the columns or of the shape.

    :raises InputError: no likelihood of that name, or an option that it does not have.
    """
    name = name or ("mixed" if options.columns else default_likelihood(input_shape))
    if name not in LIKELIHOODS:
        raise InputError(f"likelihood: there is no {name!r}{nearest(name, LIKELIHOODS)}")
    kind, missing = LIKELIHOODS[name], options.missing
    counts = issubclass(kind, Poisson)
    for option, given, taken in (
        ("columns", options.columns, kind is Mixed),
        ("categories", options.categories, kind is Categorical),
        ("library_size", options.library_size, counts),
    ):
        if given and not taken:
            raise InputError(f"{option}: likelihood={name!r} has no such option; leave it out")
    if issubclass(kind, Mixed):
        return kind(input_shape, missing=missing, columns=options.columns)
    if issubclass(kind, Categorical):
        return kind(input_shape, missing=missing, categories=options.categories)
    if issubclass(kind, Poisson):
        return kind(input_shape, missing=missing, library_size=options.library_size)
    return kind(input_shape, missing=missing)


@runtime_checkable
class OwnLikelihood(Protocol):
    """What a model needs of a likelihood, beside the distribution that it returns when it is called."""

    def fit(self, x: Tensor) -> None: ...
    def standardize(self, x: Tensor) -> Tensor: ...
    def target(self, x: Tensor) -> Tensor: ...


def encoder_for(
    likelihood: str | nn.Module | None, input_shape: Shape, options: LikelihoodOptions, deep: bool = False
) -> tuple[nn.Module, Shape]:
    """Return the default encoder of what the likelihood makes of points of a shape, and the shape that it has decoders
    put out."""
    made = likelihood if isinstance(likelihood, nn.Module) else named_likelihood(likelihood, input_shape, options)
    if isinstance(made, Mixed):
        return table_encoder(made.encoder_shape[0], deep), made.decoder_shape
    if isinstance(made, Likelihood):
        return default_encoder(made.encoder_shape, deep), made.decoder_shape
    return default_encoder(input_shape, deep), input_shape


def likelihood_for(
    likelihood: str | nn.Module | None,
    decoder: nn.Module,
    latent_dim: int,
    class_dim: int,
    options: LikelihoodOptions = LikelihoodOptions(),  # noqa: B008
) -> tuple[Likelihood, Shape]:
    """Return the likelihood, by default that of :func:`default_likelihood`, and the shape of a point.

    :raises InputError: no likelihood of that name, or a decoder that does not fit.
    """
    out_shape = decoded_shape(decoder, latent_dim, class_dim)
    if isinstance(likelihood, nn.Module):
        if not isinstance(likelihood, OwnLikelihood):
            kind = type(likelihood).__name__
            raise InputError(f"likelihood: a {kind}; a subclass of Likelihood, or its fit, standardize and target, are "
                             "needed")  # fmt: skip
        if not isinstance(likelihood, Likelihood):
            return cast(Likelihood, likelihood), out_shape
        made = likelihood
    else:
        made = named_likelihood(likelihood, point_shape(likelihood, out_shape, options), options)
    if made.decoder_shape != out_shape:
        name = made.kind or type(made).__name__
        raise InputError(f"decoder: it puts out {list(out_shape)}; {name!r} needs {list(made.decoder_shape)}")
    return made, made.input_shape


def check_encoder(encoder: nn.Module, likelihood: nn.Module) -> None:
    """Raise :class:`InputError` where an encoder does not take what the likelihood makes of points."""
    if not isinstance(likelihood, Likelihood) or likelihood.encoder_shape == likelihood.input_shape:
        return
    try:
        with torch.no_grad(), evaluation(encoder):
            encoder(next(encoder.parameters()).new_zeros(2, *likelihood.encoder_shape))
    except (RuntimeError, ValueError):
        needed = f"[B, {', '.join(map(str, likelihood.encoder_shape))}]"
        what = ", the mask among them" if likelihood.missing else ""
        raise InputError(f"encoder: it must take {needed}, which {likelihood.kind!r} makes of x{what}") from None


def decoded_shape(decoder: nn.Module, latent_dim: int, class_dim: int) -> Shape:
    """Return the shape of what a decoder puts out for a point, by a run on zeros."""
    p = next(decoder.parameters())
    z, c = p.new_zeros(2, latent_dim), p.new_zeros(2, class_dim)
    try:
        with torch.no_grad(), evaluation(decoder):
            out_shape = tuple(decoder(z, c).shape[1:])
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:150]
        raise InputError(f"decoder: it does not take z of latent_dim {latent_dim} ({reason})") from None
    inner = decoder.decoder if isinstance(decoder, AddClass) else decoder
    shaping = (nn.Flatten, nn.Unflatten, nn.Identity)
    last = [None, *(module for module in inner.modules() if not isinstance(module, shaping))][-1]
    if isinstance(last, nn.Sigmoid):
        raise InputError("decoder: it ends in a Sigmoid, but likelihoods take its output before that; leave it out")
    return out_shape


def point_shape(name: str | None, out_shape: Shape, options: LikelihoodOptions) -> Shape:
    """Return the shape of a point that a decoder's output is of."""
    if name == "mixed" or (name is None and options.columns):
        return (len(options.columns),)
    if name is None or name not in LIKELIHOODS:
        return out_shape
    numbers = LIKELIHOODS[name].numbers(options)
    if out_shape[0] % numbers:
        raise InputError(
            f"decoder: it puts out {list(out_shape)}; likelihood={name!r} needs {numbers} numbers an entry, so that "
            f"the first dimension is a multiple of {numbers}"
        )
    return (out_shape[0] // numbers, *out_shape[1:])


__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Binomial",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogisticMixture",
    "Laplace",
    "Likelihood",
    "LikelihoodName",
    "LikelihoodOptions",
    "LogNormal",
    "Mixed",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "StudentT",
    "ZeroInflatedLogNormal",
    "ZeroInflatedNegativeBinomial",
    "check_encoder",
    "default_likelihood",
    "encoder_for",
    "likelihood_for",
    "named_likelihood",
]
