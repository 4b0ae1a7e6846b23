"""Draws of a pair's posterior as ArviZ data, every dimension named, for ArviZ's own plots and summaries."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import infer_discrete
from torch import Tensor, nn

from ..distributions.clamped import ObservedLabels
from ..distributions.counts import sized_as
from ..errors import InputError, counted, whole_number
from ..infer.batched import checked, evaluating, once_per_input
from ..infer.expected import expected_x
from ..infer.pairs import PairLike, as_pair, programs
from ..infer.traces import Site, Trace, mark_rows, parallel, row_frame, sampled, traced
from ..labels import MISSING, AttributeLabels, ClassLabels, Labels, labels_of
from .site_terms import kind

if TYPE_CHECKING:
    import xarray as xr

INPUT_DIMS = {1: ("feature",), 2: ("channel", "step"), 3: ("channel", "row", "column")}


def posterior(
    vae: PairLike,
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    num_samples: int = 400,
    chains: int | None = None,
    points: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Any:
    """Draw from the guide at ``x`` (and ``y``), run the model against each draw, and return it all as ArviZ data.

    ======================== =======================================================================================
    ``posterior``            the guide's draws of every latent site, and what the model computes of them
                             (``pyro.deterministic``)
    ``posterior_predictive`` a draw of each observed site's distribution, at each of these; of counts given how many a
                             row holds, as many
    ``log_likelihood``       ``log p(x | z, ...)`` of each point at each of these, without the objective's scales
    ``observed_data``        the observed sites; NaN where a label is missing
    ``constant_data``        what the guide has as a point mass (a MAP estimate)
    ======================== =======================================================================================

    Dimensions: ``chain``, ``draw``; ``point`` (the plate over points), ``attribute`` and ``class`` by name,
    ``channel``, ``row``, ``column`` (or ``step``, ``feature``) of x, ``<site>_dim`` of a latent, and every other
    plate under its own name. Each variable's attribute ``kind`` is that of :func:`~pyro_ssvae.sites`.

    A missing label is drawn from q(y | x) as a label, also where the model is trained with a relaxed one. A site k that
    the model alone enumerates is drawn from its posterior given the guide's draws, ``p(k | x, z)``.

    These are draws of q(z, y | x), the approximation, not of p(z, y | x); they are independent of each other, and how
    they are dealt to chains means nothing. ``az.loo`` runs, but each point has latents of its own, so that leaving it
    out leaves nothing of its posterior: compare models by ``vae.log_likelihood(x)`` instead.

    :param x: points ``[B, ...]``. All draws are held in memory: ``num_samples`` × B × the size of a point.
    :param y: labels, -1 where missing.
    :param chains: by default 4 where ``num_samples`` is a multiple of that, which lets ArviZ's diagnostics run, else 1.
    :param points: the points' names, such as their rows in the data set; by default 0 to B - 1.
    :returns: ``arviz.InferenceData``; from ArviZ 1.0 on an ``xarray.DataTree``.
    :raises InputError: points or labels that do not fit the model.

    Example::

        data = ps.posterior(vae, x[:8], num_samples=400)
        az.summary(data, var_names="z")
        az.plot_forest(data, var_names="z", coords={"point": [3]})
    """
    pair = as_pair(vae)
    x, y = checked(pair, x, y)
    num_samples = whole_number("num_samples", num_samples)
    chains = chains if chains is not None else 4 if num_samples % 4 == 0 else 1
    if not isinstance(chains, int) or chains < 1 or num_samples % chains:
        raise InputError(f"chains: {chains}; a number that divides num_samples, {num_samples}, is needed")
    names = list(range(len(x))) if points is None else list(points)
    if len(names) != len(x):
        raise InputError(
            f"points: {counted(len(names), 'name')}, but x has {counted(len(x), 'point')}; both need the same number"
        )
    with evaluating(pair, seed), once_per_input(pair):
        draws = [one_draw(*run(pair, x, y)) for _ in range(num_samples)]
    about = {"model": type(pair).__name__, "num_samples": num_samples, "seed": seed, "library": "pyro_ssvae"}
    return container(grouped(draws, x, labels_of(pair), names, chains), about)


def expected_draws(
    vae: PairLike, x: ArrayLike, y: ArrayLike | None = None, *, num_samples: int = 100, seed: int = 0
) -> Tensor:
    """Return ``E[x | z, y]`` at draws of the guide, without the noise of x itself: ``[num_samples, B, *x.shape[1:]]``.

    :param x: points ``[B, ...]``.
    :param y: labels, -1 where missing.
    """
    pair = as_pair(vae)
    points, labels = checked(pair, x, y)
    num_samples = whole_number("num_samples", num_samples)
    drawn = []
    with evaluating(pair, seed), once_per_input(pair):
        for _ in range(num_samples):
            p, _ = run(pair, points, labels)
            values = {name: site["value"] for name, site in sampled(p).items() if name != "x"}
            drawn.append(expected_x(pair, points, values))
    return torch.stack(drawn).cpu()


def run(pair: nn.Module, x: Tensor, y: Tensor | None) -> tuple[Trace, Trace]:
    """The model's trace against one draw of the guide, and the guide's; sites that the model alone enumerates from
    their posterior given all others."""
    p, q = traced(pair, x, y, exact=True)
    given, sites = sampled(q), sampled(p)
    alone = [name for name, site in sites.items() if site["infer"].get("enumerate") and name not in given]
    if alone:
        dims = [f.dim for site in [*sites.values(), *given.values()] for f in site["cond_indep_stack"] if f.dim]
        known = poutine.condition(programs(pair)[0], {name: site["value"] for name, site in given.items()})
        found = infer_discrete(parallel(known), first_available_dim=min(dims, default=0) - 1)
        drawn, every = poutine.trace(found).get_trace(x, y), q.copy()
        for name in alone:
            every.add_node(name, **drawn.nodes[name])
        p = poutine.trace(poutine.replay(programs(pair)[0], every)).get_trace(x, y)
        mark_rows(next(iter(sites.values()))["row_plates"], p)
    return p, q


@dataclass(frozen=True)
class Value:
    """A site at one draw: what it is, and its value, or what was computed of it."""

    site: Site
    kind: str
    value: Tensor


Draw = dict[str, dict[str, Value]]  # by group and site


def grouped(
    draws: list[Draw], x: Tensor, labels: Labels | None, names: Sequence[Hashable], chains: int
) -> dict[str, xr.Dataset]:
    """Return the draws as one data set a group, every dimension named."""
    import xarray as xr

    coords: dict[str, Sequence[Hashable]] = {"point": names}
    if labels is not None:
        label = "attribute" if isinstance(labels, AttributeLabels) else "class"
        coords[label] = list(labels.names)
    groups = {}
    for group in draws[0]:
        arrays = {}
        for name, first in draws[0][group].items():
            value, own = first.value, dims(name, first, x, labels, reduced=group == "log_likelihood")
            if group not in ("observed_data", "constant_data"):
                value = torch.stack([draw[group][name].value for draw in draws]).unflatten(0, (chains, -1))
                own = ["chain", "draw", *own]
            arrays[name] = xr.DataArray(value.detach().cpu().numpy(), dims=own, attrs={"kind": first.kind})
        if arrays:
            groups[group] = with_coordinates(xr.Dataset(arrays), coords)
    holder = "posterior" if "posterior" in groups else "observed_data"
    if labels is not None and holder in groups:  # the names of y's values, even where no site has one for each
        groups[holder] = groups[holder].assign_coords({label: coords[label]})
    return groups


def container(groups: dict[str, xr.Dataset], attrs: dict[str, object]) -> Any:
    """Return the groups as the installed ArviZ holds them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what ArviZ says of its next version when it is imported
        import arviz as az  # seconds, so only where it is needed
    if int(az.__version__.split(".")[0]) < 1:
        return az.InferenceData(attrs=attrs, **groups)  # type: ignore[arg-type]
    import xarray as xr

    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in groups.items()})
    tree.attrs.update(attrs)
    return tree


def one_draw(p: Trace, q: Trace) -> Draw:
    """Return what each site is, and its value at this draw, by group and site."""
    p, q = sampled(p), sampled(q)
    groups = ("posterior", "posterior_predictive", "log_likelihood", "observed_data", "constant_data")
    found: Draw = {name: {} for name in groups}
    for name, site in {**q, **p}.items():
        what = kind(p.get(name), q.get(name))
        if what == "deterministic" and name in q:
            found["constant_data"][name] = Value(site, what, site["value"])
        elif what in ("latent", "enumerated", "auxiliary", "deterministic"):
            found["posterior"][name] = Value(site, what, site["value"])
        elif what == "observed" and bool((known := known_entries(site)).any()):  # else a label that no point has
            value = site["value"]
            if not bool(known.all()):
                value = value.to(torch.get_default_dtype()).masked_fill(~known, torch.nan)
            log_prob = site["fn"].log_prob(site["value"])
            some = known.reshape(*log_prob.shape, -1).any(-1)
            found["observed_data"][name] = Value(site, what, value)
            found["log_likelihood"][name] = Value(site, what, log_prob.masked_fill(~some, torch.nan))
            found["posterior_predictive"][name] = Value(site, what, sized_as(site["fn"], site["value"]).sample())
    return found


def known_entries(site: Site) -> Tensor:
    """Return which entries of an observed site count, by its masks or as labels: bool, of its value's shape."""
    shape, fn = site["value"].shape, site["fn"]
    masks = [(site["mask"], len(fn.event_shape))]
    while hasattr(fn, "base_dist") and not isinstance(fn, dist.TransformedDistribution):
        masks.append((getattr(fn, "_mask", None), len(fn.event_shape)))
        fn = fn.base_dist
    known = torch.ones(shape, dtype=torch.bool, device=site["value"].device)
    for mask, event_dim in masks:
        if mask is not None:
            mask = torch.as_tensor(mask, device=known.device)
            known = known & mask.reshape(*mask.shape, *[1] * event_dim)
    return known & (site["value"] != MISSING) if isinstance(fn, ObservedLabels) else known


def dims(name: str, found: Value, x: Tensor, labels: Labels | None, *, reduced: bool = False) -> list[str]:
    """Return the names of the dimensions of a site's value.

    :param reduced: of its log-probability instead, which lacks the event's.
    """
    value, site = found.value, found.site
    event, stack = tuple(site["fn"].event_shape), site["cond_indep_stack"]
    frames = {f.dim: f.name for f in stack if f.dim is not None}
    row = row_frame(site, len(x))
    over = None if row is None else row.dim
    deepest = max((-d for d in frames), default=0)
    if len(event) >= value.dim() and deepest and not reduced:  # pyro.deterministic counts every dimension as the event
        event = event[deepest:]
    width = value.dim() if reduced else value.dim() - len(event)
    named = {"attributes": "attribute"}
    batch = []
    for i in range(-width, 0):
        plate = frames.get(i)
        batch.append("point" if plate is not None and i == over else named.get(plate or "", plate or f"batch{i}"))
    if reduced:
        return batch
    of_label = name.partition("_")[0] == "y"
    if event == tuple(x.shape[1:]) and not of_label and found.kind == "observed":
        inside = list(INPUT_DIMS.get(len(event), ()))
    elif len(event) == 1 and of_label and labels is not None and event[0] == len(labels.names):
        inside = ["class" if isinstance(labels, ClassLabels) else "attribute"]
    else:
        inside = [f"{name}_dim"] if len(event) == 1 else []
    return [*batch, *(inside or [f"{name}_dim_{i}" for i in range(len(event))])]


def with_coordinates(data: xr.Dataset, coords: dict[str, Sequence[Hashable]]) -> xr.Dataset:
    """Return the data with every dimension's names, or numbers from 0 on."""
    numbers = {name: np.arange(size) for name, size in data.sizes.items()}
    return data.assign_coords({**numbers, **{name: v for name, v in coords.items() if name in data.sizes}})
