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
from .pairs import programs
from .traces import (
    PARTS_OF_X,
    Site,
    Unobserved,
    is_computed,
    mark_rows,
    need_site,
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
    model = poutine.condition(Unobserved(all_sites=stand_in)(programs(pair)[0]), values)
    checks = pyro.validation_enabled(False) if stand_in else nullcontext()
    with ExpectedX(), checks:
        p = poutine.trace(model).get_trace(x, None)
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


def reconstructed(pair: nn.Module, x: Tensor) -> Tensor:
    """Return ``E[x | z]`` at the means of the guide's sites, a draw where a site has none: ``[B, *input_shape]``."""
    q = poutine.trace(Means()(programs(pair)[1])).get_trace(x, None)
    sites = sampled(q)
    values = {name: site["value"] for name, site in sites.items() if not site["is_observed"]}
    return expected_x(pair, x, values, own_latents(sites), "reconstruct")
