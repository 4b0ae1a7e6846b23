"""How much a pair makes of its latents: KL, reconstruction, active units, mutual information. A decoder that goes
without them has *collapsed*: KL near 0, hardly an active unit, every picture of a class alike."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pyro
import torch
from numpy.typing import ArrayLike
from pyro import poutine
from torch import Tensor, nn

from ..errors import InputError
from .automatic import few_rows
from .batched import batched, checked, evaluating, once_per_input, rows_at_a_time
from .draws import enumerated
from .label_inference import ExactLabels
from .pairs import PairLike, as_pair, programs
from .terms import Draw
from .traces import Site, Trace, mark_rows, parallel, plate_nesting, row_plates, sampled, trace_log_prob, traced

ACTIVE = 0.01
"""A unit is active where the variance over points of its posterior mean is above this (Burda et al. 2016)."""
DRAWS = 16  # of a guide whose means are not known, or differ from draw to draw


def elbo_and_kl(
    pair: PairLike, x: ArrayLike, y: ArrayLike | None = None, *, summed: bool = True, rows: int | None = None
) -> Tensor:
    """Return the ELBO and the KL of all latents, at one draw of the guide: ``[B, 2]`` nats a row::

        ELBO = E_q log p(x | z) - KL        KL = E_q[ log q(z) - log p(z) ]        z: all that is not observed

    Missing labels are latents and count in the KL; the first term is what the reconstruction is worth. Where q has no
    closed form, as a flow, the KL is that of the draw.

    :param summed: sum over missing labels; False draws them, which costs one decode a row and has the same mean.
    :param rows: at a time; by default as many as the values of the labels allow.
    :raises InputError: points or labels that do not fit, or a pair without latent sites.
    """

    def measure(x: Tensor, y: Tensor | None = None) -> Tensor:
        if summed:
            ((p, q),) = enumerated(module, x, y)
        else:
            p, q = map(with_log_probs, traced(module, x, y, exact=True))
        draw = Draw(p, q, len(x), every)
        return torch.stack([draw.elbo(), draw.divergence()], -1)

    module = as_pair(pair)
    x, y = checked(module, x, y)
    every = len(x)
    return batched(module, measure, x, y, rows=rows or rows_at_a_time(module, x, y))


def active_units(
    pair: PairLike, x: ArrayLike, y: ArrayLike | None = None, *, rows: int | None = None
) -> tuple[int, int]:
    """Return how many latent dimensions are active, and how many there are.

    A dimension is active where ``Var_x( E_q(z|x)[z_d] ) > 0.01``. Dimensions are those of the guide's continuous sites
    in the plate over rows. Source: Burda, Grosse, Salakhutdinov (2016), arXiv:1509.00519, section 5.2.
    """
    variance = unit_variances(pair, x, y, rows=rows)
    return int((variance > ACTIVE).sum()), len(variance)


def unit_variances(pair: PairLike, x: ArrayLike, y: ArrayLike | None = None, *, rows: int | None = None) -> Tensor:
    """Return ``Var_x( E_q(z|x)[z_d] )`` of each latent dimension, ``[D]`` in float64.

    A site's mean given what it depends on is averaged over draws, and exactly over enumerated labels. Of S draws the
    variance *within* points, over S, is taken off the variance *between* them: no bias is left of the draws' noise.
    """
    module = as_pair(pair)
    x, y = checked(module, x, y)
    if len(x) < 2:
        raise InputError(f"active units: {len(x)} row; a variance over points needs at least 2")
    most = rows or rows_at_a_time(module, x, y)
    for draws in (2, DRAWS):

        def measure(x: Tensor, y: Tensor | None = None, draws: int = draws) -> Tensor:
            return torch.stack([row_means(draw) for draw in guide_draws(module, x, y, draws)], 1).double()

        means = batched(module, measure, x, y, rows=most)
        within = means.var(1).mean(0)
        if bool((within <= 1e-9).all()):
            break
    return (means.mean(1).var(0) - within / means.shape[1]).clamp_min(0.0)


def mutual_information(pair: PairLike, x: ArrayLike) -> float:
    """Return an estimate of ``I_q(x; z)`` over N points, nats; it is at most log N::

        1/N Σ_i [ log q(z_i | x_i) - log 1/N Σ_j q(z_i | x_j) ],        z_i ~ q(z | x_i)

    z: all of the guide's sites in the plate over rows, missing labels included. The guide is run N times.
    Source: Hoffman, Johnson (2016), "ELBO surgery".
    """
    module = as_pair(pair)
    x, _ = checked(module, x)
    n, guide = len(x), ExactLabels(enumerate_most=0)(programs(module)[1])
    names: list[frozenset[str]] = []

    def run(values: dict[str, Tensor]) -> Draw:
        q = poutine.trace(poutine.condition(guide, values)).get_trace(x, None)
        names.append(names[0] if names else row_plates(module, x, None, q))
        mark_rows(names[0], q)
        return Draw(poutine.Trace(), with_log_probs(q), n)

    with evaluating(module), once_per_input(module), pyro.validation_enabled(False):
        first = run({})
        at = {name: row_axis(first, site) for name, site in first.q.items()}
        log_q = x.new_empty(n, n)  # of z_i, at the place [i, j], given x_j
        place = torch.arange(n, device=x.device)
        for k in range(n):
            sites = first.q.items()
            values = {s: v["value"] if at[s] is None else v["value"].roll(-k, at[s]) for s, v in sites}
            log_q[(place + k) % n, place] = total_log_q(run(values)).to(log_q)
    log_q = log_q.double()
    return float((log_q.diagonal() - log_q.logsumexp(1)).mean()) + math.log(n)


def guide_draws(pair: nn.Module, x: Tensor, y: Tensor | None, num_samples: int) -> Iterator[Draw]:
    """Yield draws of the guide alone, missing labels at every value."""
    nest = plate_nesting(pair, *few_rows(pair, x, y))
    guide = poutine.enum(ExactLabels()(parallel(programs(pair)[1])), first_available_dim=-1 - nest)
    for _ in range(num_samples):
        q = with_log_probs(poutine.trace(guide).get_trace(x, y))
        mark_rows(row_plates(pair, x, y, q), q)
        yield Draw(poutine.Trace(), q, len(x))


def with_log_probs(trace: Trace) -> Trace:
    """Return the trace with each site's log-probability noted."""
    for site in sampled(trace).values():
        trace_log_prob(site)
    return trace


def row_means(draw: Draw) -> Tensor:
    """Return the means of the continuous sites given their parents' draws, side by side: ``[B, D]``."""
    found = [site_mean(draw, site) for site in draw.q.values() if is_unit(draw, site)]
    return torch.cat(found, -1) if found else torch.zeros(draw.n, 0)


def is_unit(draw: Draw, site: Site) -> bool:
    """Whether a site of the guide is a continuous latent of each row; labels, taken exactly, are whole numbers."""
    return bool(site["value"].is_floating_point()) and draw.row_dim(site) is not None


def site_mean(draw: Draw, site: Site) -> Tensor:
    """Return a site's mean, or its value where the distribution knows none, averaged over enumerated labels."""
    value, batch = site["value"], site["unscaled_log_prob"].shape
    try:
        mean = site["fn"].mean
    except (AttributeError, NotImplementedError):  # a flow
        mean = value
    mean = mean.expand(batch + mean.shape[len(mean.shape) - site["fn"].event_dim :])
    mean = mean.reshape((1,) * (draw.nest - len(batch)) + batch + (-1,))
    varies = draw.linked(frozenset(d for d in draw.dims if -d < mean.dim() and mean.shape[d - 1] > 1))
    row = draw.row_dim(site)
    assert row is not None
    mean = mean.transpose(row - 1, -2)
    terms = [term for term in draw.log_q if term.enumerated & varies]
    if terms:
        log_q = sum((term.value for term in terms), mean.new_zeros(()))
        over = tuple(sorted(frozenset().union(*(term.enumerated for term in terms))))
        weight = log_q.exp().unsqueeze(-1)
        mean = torch.where(weight > 0, weight * mean, 0.0).sum([d - 1 for d in over], keepdim=True)
    mean = mean.reshape(mean.shape[-1 - draw.nest :])  # plates, rows, units
    return mean.movedim(-2, 0).reshape(draw.n, -1)


def row_axis(draw: Draw, site: Site) -> int | None:
    """Return the axis of a site's value that rows lie along, from the right; None outside of the plate over rows."""
    row = draw.row_dim(site)
    return None if row is None else row - int(site["fn"].event_dim)


def total_log_q(draw: Draw) -> Tensor:
    """Return ``log q`` of all sites in the plate over rows, ``[B]``."""
    terms = [draw.term(site) for site in draw.q.values() if draw.row_dim(site) is not None]
    return torch.stack([draw.over_plates(term.value).expand(draw.n) for term in terms]).sum(0)
