"""What a model expects x to be at values of its latents, by a run under ``poutine.condition``."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor, nn

from ..distributions.counts import sized_as
from ..errors import InputError
from ..labels import labels_of
from .pairs import programs
from .traces import (
    PARTS_OF_X,
    OtherRowsError,
    SameRows,
    Site,
    Trace,
    Unobserved,
    is_computed,
    mark_rows,
    need_site,
    observations,
    own_latents,
    plain,
    row_frame,
    row_plates,
    sampled,
)

NO_MEAN = (dist.Categorical, dist.Cauchy)
"""Distributions whose ``mean`` PyTorch fills with NaN."""


class ExpectedX(poutine.messenger.Messenger):
    """At the site ``x``, and at the two that it is joined from under an ``obs_mask``, take the distribution's mean in
    place of a draw."""

    def _pyro_sample(self, msg: Site) -> None:
        if msg["name"] not in ("x", *PARTS_OF_X) or is_computed(msg):
            return
        fn, x = msg["fn"], msg["infer"].get("obs")
        fn = fn if x is None else sized_as(fn, x)
        try:
            if isinstance(plain(fn), NO_MEAN):
                raise NotImplementedError
            msg["value"], msg["done"] = fn.mean, True
        except NotImplementedError:
            raise InputError(f"site x: a {type(plain(fn)).__name__} has no mean to show") from None


class Means(poutine.messenger.Messenger):
    """At every site of the guide that has one take the mean in place of a draw."""

    def _pyro_sample(self, msg: Site) -> None:
        fn = msg["fn"]
        if msg["done"] or msg["is_observed"] or isinstance(fn, _Subsample):
            return
        try:
            mean = fn.mean
        except (AttributeError, NotImplementedError):  # a flow: one draw stands for it
            return
        if torch.is_tensor(mean) and mean.is_floating_point() and not bool(mean.isnan().any()):
            # A program that keeps a parameter itself as an attribute of its module would register it there.
            msg["value"], msg["done"] = mean.view_as(mean) if isinstance(mean, nn.Parameter) else mean, True


def expected_x(
    pair: nn.Module,
    x: Tensor,
    values: dict[str, Tensor],
    needed: Iterable[str] = (),
    verb: str = "decode",
    *,
    stand_in: bool = False,
) -> Tensor:
    """Return ``E[x | values]`` where the model's other latents are drawn: ``[B, *input_shape]``.

    :param x: points, of which the model's other observed sites are too.
    :param values: of latent sites, by name.
    :param needed: those of them that the model must have.
    :param verb: that asks, for words.
    :param stand_in: ``x`` says no more than a shape, and nothing is observed.
    :raises InputError: a model without one of these sites, or without a site ``x``, or that reads points of which
        nothing is known (NaN), as one does that draws an entry of x given the others.
    """
    if not len(x):  # Pyro has no plate of no rows
        return x
    checks = pyro.validation_enabled(False) if stand_in else nullcontext()
    with ExpectedX(), checks:
        p, own = run_at(pair, x, values, stand_in)
        held = held_values(pair, x) if stand_in and own and not torch.compiler.is_exporting() else own
        other = {name for name, value in held.items() if name in values and not equal(value, values[name])}
        for name in other.intersection(needed):
            raise InputError(f"{verb}: the model has {name!r} at a value of its own, as by pyro.condition, and takes "
                             "no other; a model with it as a latent is needed")  # fmt: skip
        if other or (stand_in and held):
            given = {name: value for name, value in values.items() if name not in other}
            p, _ = run_at(pair, x, given, stand_in, frozenset(held))
    for name in needed:
        need_site(p, name, verb)
    site = need_site(p, "x", verb)
    mean: Tensor = site["value"]
    if len(site["cond_indep_stack"]) > 1:  # a plate over its entries
        mark_rows(row_plates(pair, x, None, p), p)
        if frame := row_frame(site, len(x)):
            mean = mean.movedim((frame.dim or 0) - len(site["fn"].event_shape), 0)
    if stand_in and not torch.compiler.is_exporting() and bool(mean.isnan().any() & x.isnan().all()):
        raise InputError(f"{verb}: the mean of site x is no number, as the model reads x itself, which is not given; "
                         "reconstruct(x), or decode(z, like=x), has it")  # fmt: skip
    if mean.shape != x.shape:
        raise InputError(f"{verb}: site x has shape {list(mean.shape)}, and points {list(x.shape)}")
    return mean


def run_at(
    pair: nn.Module, x: Tensor, values: dict[str, Tensor], stand_in: bool, held: frozenset[str] = frozenset()
) -> tuple[Trace, dict[str, Tensor]]:
    """Return the model's trace at values of some sites, and the values that sites beside x were observed at in it.

    :param held: sites that stay observed, where ``stand_in`` draws all others.
    """
    unobserved = Unobserved(all_sites=stand_in, but=held)
    p = poutine.trace(poutine.condition(unobserved(programs(pair)[0]), values)).get_trace(x, None)
    return p, unobserved.observed


def held_values(pair: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the values that the model observes whatever x and y are, as under ``pyro.condition``; none where it
    cannot be run on other points.

    :param x: of as many rows.
    """
    labels = labels_of(pair)
    y = None if labels is None else torch.zeros(len(x), *labels.event_shape, dtype=torch.long, device=x.device)
    try:
        with SameRows(), poutine.block(hide_types=["param"]):
            runs = [(torch.zeros_like(x), None), (torch.ones_like(x), y)]
            first, second = (observations(poutine.trace(programs(pair)[0]).get_trace(*run)) for run in runs)
    except OtherRowsError:
        raise
    except Exception:  # of a program of one's own
        return {}
    both = (first.keys() & second.keys()) - {"x", *PARTS_OF_X}
    return {name: first[name] for name in both if equal(first[name], second[name])}


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two values are the same in every row; one without rows is that of all."""
    try:
        return bool((torch.as_tensor(one) == torch.as_tensor(other)).all())
    except RuntimeError:  # of other shapes
        return False


def reconstructed(pair: nn.Module, x: Tensor) -> Tensor:
    """Return ``E[x | z]`` at the means of the guide's sites, a draw where a site has none: ``[B, *input_shape]``."""
    q = poutine.trace(Means()(programs(pair)[1])).get_trace(x, None)
    sites = sampled(q)
    values = {name: site["value"] for name, site in sites.items() if not site["is_observed"]}
    return expected_x(pair, x, values, own_latents(sites), "reconstruct")
