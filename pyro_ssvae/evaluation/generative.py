"""Metrics of the generative half, read off a pair's traces: bounds, how the latents are used, reconstructions."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ..data.notices import say
from ..errors import InputError
from ..infer import bounds
from ..infer.automatic import few_rows
from ..infer.batched import NUMBERS as NUMBERS_AT_A_TIME
from ..infer.batched import batched, evaluating, rows_at_a_time
from ..infer.draws import enumerated
from ..infer.expected import reconstructed
from ..infer.latent_use import active_units, elbo_and_kl, mutual_information
from ..infer.pairs import is_pair
from ..infer.protocols import Reconstructs
from ..infer.terms import Draw
from ..infer.traces import Site, has_bound, need_site, plain, traced
from ..train.progress import progress_bar
from .bootstrap import Metrics

LIKELIHOOD_ROWS = 1000  # of the importance-weighted bound, at most
NUMBERS = 1_500_000_000  # values of x under all draws and labels that it is taken of, at most
UNIT_ROWS = 1000  # that active units are counted over, at most
INFORMATION_ROWS = 200  # of the mutual information, at most: the guide runs once for each


def generative_metrics(
    pair: nn.Module,
    x: Tensor,
    num_samples: int,
    likelihood_rows: int | Literal["auto"] | None,
    seed: int,
    batch_size: int,
    pixel_bits: int | None = None,
) -> Metrics:
    """Return what the pair has of these; they never see y, and a pair without a bound has the last alone.

    ======================== ======================================================================================
    ``elbo``                 mean bound on log p(x), nats a point: ``reconstruction - kl``
    ``reconstruction``       mean of E_q log p(x | z, y), nats a point
    ``kl``                   mean of E_q log q(z, y | x) / p(z, y) of all latents, missing labels among them, nats a
                             point; near 0 where the decoder goes without them
    ``density``              False where the points lie outside what the likelihood has a probability or a density for,
                             such as grey pixels under a Bernoulli: then the three above, and ``log_likelihood``, are
                             no bounds on log p(x), and compare with none
    ``elbo_per_dimension``   ``elbo`` a value of x that is there (not NaN), nats; of a density alone
    ``bits_per_dimension``   of 8-bit pixels, also of a density alone: ``-elbo_per_dimension / log 2``, plus 8 where the
                             density is over [0, 1] and not over the 256 levels
    ``log_likelihood``       mean importance-weighted bound on log p(x) of ``num_samples`` draws, nats a point, over
                             ``likelihood_rows`` rows drawn at random by ``seed``; ``"auto"`` is 1,000, fewer where
                             points are very wide. A pair with a latent that all rows share has none
    ``active_units``         of the ``latent_units`` continuous latent dimensions, those whose posterior mean has a
                             variance above 0.01 over (at most 1,000 random) points
    ``mutual_information``   estimate of I_q(x; z), nats, over ``mutual_information_rows`` of the rows, at most 200; at
                             most their number's logarithm
    ``reconstruction_error`` mean squared error: a pixel of images, on [0, 1]; else a value, in units of the feature's
                             (a series': channel's) standard deviation over these rows, so that the mean has 1
    ======================== ======================================================================================

    :param pixel_bits: 8 where x was given as bytes.
    """
    result = Metrics()
    if bounded(pair, x):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
        result |= bound_metrics(pair, x, seed, pixel_bits)
        if rows_are_independent(pair, x, seed):
            most = affordable_rows(pair, x, num_samples) if likelihood_rows == "auto" else likelihood_rows
            some = x if most is None or most >= len(x) else x[order[:most]]
            result["log_likelihood"] = float(log_likelihood(pair, some, num_samples, seed).double().mean())
            result["log_likelihood_samples"], result["log_likelihood_rows"] = num_samples, len(some)
        result |= latent_metrics(pair, x[order[:UNIT_ROWS]], seed)
    x_hat = reconstructions(pair, x, seed, batch_size)
    if x_hat is not None:
        result["reconstruction_error"] = reconstruction_error(x, x_hat)
    return result


def rows_are_independent(pair: nn.Module, x: Tensor, seed: int) -> bool:
    """Whether each row has a likelihood of its own: every site is in the plate over rows, and none is subsampled."""
    with evaluating(pair, seed):
        few, _ = few_rows(pair, x, None)
        ((p, q),) = enumerated(pair, few, None)
    return Draw(p, q, len(few)).joined_rows() is None


def affordable_rows(pair: nn.Module, x: Tensor, num_samples: int) -> int:
    """Return the rows of the importance-weighted bound, at most 1,000, that :data:`NUMBERS` are enough for."""
    numbers = NUMBERS_AT_A_TIME / rows_at_a_time(pair, x, None, num_samples)
    return max(50, min(LIKELIHOOD_ROWS, int(NUMBERS / (num_samples * numbers))))


def log_likelihood(pair: nn.Module, x: Tensor, num_samples: int, seed: int) -> Tensor:
    """Return the importance-weighted bounds of all rows, ``[N]``; where they take long, with a progress bar."""
    rows = rows_at_a_time(pair, x, None, num_samples)
    long = len(x) * num_samples * NUMBERS_AT_A_TIME / rows > NUMBERS / 4 and rows < LIKELIHOOD_ROWS
    if long:
        say(f"evaluate: the importance-weighted bound of {len(x)} rows, {num_samples} draws each")
    with evaluating(pair, seed), progress_bar(len(x), long, "evaluation") as show:
        parts = []
        for part in x.split(rows):
            parts.append(bounds.log_likelihood(pair, part, num_samples=num_samples))
            show(sum(map(len, parts)), f"{sum(map(len, parts))} of {len(x)} rows")
        return torch.cat(parts)


def bound_metrics(pair: nn.Module, x: Tensor, seed: int, pixel_bits: int | None) -> Metrics:
    """The bound and its two parts, in nats a point and a value."""
    with evaluating(pair, seed):
        elbo, kl = elbo_and_kl(pair, x).double().mean(0).tolist()
    if isinstance(pair, bounds.HasBound):
        with evaluating(pair, seed):
            elbo = float(bounds.elbo(pair, x).double().mean())
    result: Metrics = {"elbo": elbo, "reconstruction": elbo + kl, "kl": kl}
    density, discrete = support_of(pair, x, seed)
    result["density"] = density
    if density:
        values = (~x.isnan()).sum().item() / len(x)  # of a point that are there
        result["elbo_per_dimension"] = elbo / values
        if pixel_bits is not None:
            bits = -result["elbo_per_dimension"] / math.log(2)
            result["bits_per_dimension"] = bits if discrete else bits + pixel_bits
    return result


def latent_metrics(pair: nn.Module, x: Tensor, seed: int) -> Metrics:
    """Active units, where there are continuous latents and two points, and mutual information."""
    result = Metrics()
    if len(x) < 2:
        return result
    with evaluating(pair, seed):
        active, units = active_units(pair, x)
    if units:
        result["active_units"], result["latent_units"] = active, units
    rows = min(len(x), INFORMATION_ROWS, rows_at_a_time(pair, x, None))
    with evaluating(pair, seed):
        result["mutual_information"] = mutual_information(pair, x[:rows])
    result["mutual_information_rows"] = rows
    return result


def support_of(pair: nn.Module, x: Tensor, seed: int) -> tuple[bool, bool]:
    """Return whether all points lie in the support of the site ``x``, and whether that support is discrete.

    A distribution that does not say what its support is counts as a density.
    """
    found = []
    with evaluating(pair, seed):
        for some in x.split(rows_at_a_time(pair, x, None)):
            found.append(support_at(need_site(traced(pair, some, None, exact=True)[0], "x", "evaluate")))
    return all(there for there, _ in found), found[0][1]


def support_at(site: Site) -> tuple[bool, bool]:
    """Return whether a site's values, but missing ones, are in its support; and whether that is discrete."""
    value = site["value"]
    try:
        support = plain(site["fn"]).support
        there = support.check(value)
        if there.shape != value.shape:  # a support of whole points
            there = support.check(value.nan_to_num(nan=0.0))
    except (AttributeError, NotImplementedError):
        return True, False
    missing = value.isnan()
    there = there | missing if there.shape == missing.shape else there
    return bool(there.all()), bool(support.is_discrete)


def reconstructions(pair: nn.Module, x: Tensor, seed: int, batch_size: int) -> Tensor | None:
    """The points as the pair reconstructs them; None where it does not."""
    if isinstance(pair, Reconstructs):
        return batched(pair, pair.reconstruct, x, rows=batch_size, seed=seed).to(x.device).reshape(x.shape)
    if not bounded(pair, x):
        return None
    try:
        x_hat = batched(pair, lambda part: reconstructed(pair, part), x, rows=batch_size, seed=seed).to(x.device)
    except InputError:  # a site x without a mean
        return None
    return x_hat if x_hat.shape == x.shape else None


def reconstruction_error(x: Tensor, x_hat: Tensor) -> float:
    """Return the mean squared error of the values that are there; of other data than images in standardised units."""
    there, x = ~x.isnan(), x.double()
    error = (x - x_hat.double()).square()
    if x.dim() < 4:
        dims = [0, *range(2, x.dim())]
        filled, n = x.where(there, 0.0), there.sum(dims, keepdim=True).clamp_min(1)
        mean = filled.sum(dims, keepdim=True) / n
        variance = (filled - mean).where(there, 0.0).square().sum(dims, keepdim=True) / n
        least = (1e-8 * filled.abs().amax(dims, keepdim=True)).square()
        error = error / torch.where(variance > least, variance, 1.0)  # a constant feature keeps its unit
    return float(error[there].mean())


def bounded(pair: nn.Module, x: Tensor) -> bool:
    """Whether the module is a pair that has a bound on log p(x)."""
    with evaluating(pair, 0):
        return is_pair(pair) and has_bound(pair, x)
