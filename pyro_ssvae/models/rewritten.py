"""Programs that were rewritten: what verbs read off their sites."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.runtime import NonlocalExit
from torch import Tensor, nn

from ..distributions.relaxed import PlugIn, factorizes
from ..distributions.wrapped import Wrapped
from ..errors import InputError
from ..infer.batched import seeded
from ..infer.label_inference import MOST_VALUES
from ..infer.pairs import programs
from ..infer.traces import Site, Unobserved, need_site
from ..labels import MISSING, Labels
from ..nn.networks import evaluation
from .base import Model

DRAWS = 100  # of the guide, where y depends on what it draws before


def overridden_since(part: object, name: str, other: str) -> bool:
    """Whether a method was overridden by a class that is further down, or on the instance, than the other's, or was put
    in the place of this library's own."""
    places = [part, *type(part).__mro__]
    first, second = (
        next((i for i, place in enumerate(places) if method in vars(place)), len(places)) for method in (name, other)
    )
    return first < second or (first < len(places) and patched(places[first], name))


def patched(owner: object, name: str) -> bool:
    """Whether a method of one of this library's classes is a function that was written elsewhere."""
    if not isinstance(owner, type) or not owner.__module__.startswith(f"{__package__}."):
        return False
    made_in = getattr(vars(owner)[name], "__module__", None)
    return made_in is not None and made_in != owner.__module__


def prior_of(
    model: Model, site: str, n: int, values: dict[str, Tensor], verb: str = "intervene"
) -> dist.TorchDistribution:
    """Return what the model, as it is, draws a site of ``n`` points from, given values of other sites.

    The model's program runs, in evaluation mode and unseen by handlers around it, until it comes to that site; what it
    draws before, and is not given, is drawn.

    :raises InputError: a model without that site.
    """
    given = poutine.condition(Unobserved()(model.model), values)
    until = poutine.escape(given, escape_fn=lambda msg: msg["name"] == site)
    try:
        with evaluation(model), poutine.block():
            trace = poutine.trace(until).get_trace(model.stand_in(n), None)
    except NonlocalExit as found:
        site_of: Site = found.site  # type: ignore[assignment]
    else:
        site_of = need_site(trace, site, verb)  # there is none
    fn: dist.TorchDistribution = site_of["fn"]
    return fn


def guided_probs(pair: nn.Module, x: Tensor, *, of_model: bool = False) -> Tensor:
    """Return the probabilities of the guide's site y, ``[B, K]`` or ``[B, A]``: of 100 draws, always the same ones,
    where it depends on a latent.

    :param of_model: the model's site y, given the guide's draws, instead.
    :raises InputError: a program without a site y, or whose y has no probabilities.
    """
    model, guide = programs(pair)

    def probs() -> Tensor:
        trace = poutine.trace(guide).get_trace(x, None)
        if of_model:
            trace = poutine.trace(poutine.replay(model, trace)).get_trace(x, None)
        site = need_site(trace, "y", "predict_proba")
        found, dims = probs_of(site["fn"]), len(site["fn"].batch_shape)
        if dims < 2:
            return found
        return (found[..., 1] if found.dim() > dims else found).t()  # in a plate over attributes: [A, B]

    if torch.compiler.is_exporting():  # refused where they are of draws
        return probs()
    with seeded(x.device, 0):
        found = [probs(), probs()]
        if not torch.equal(*found):
            found += [probs() for _ in range(DRAWS - len(found))]
    return torch.stack(found).mean(0)


def probs_of(fn: Any, what: str = "predict_proba: the guide's y", instead: str = "override q_y") -> Tensor:
    """The probabilities of a distribution of labels; raise :class:`InputError` where it has none.

    :param what: it is, in words; ``instead``, what would be right.
    """
    fn = fn.exact if isinstance(fn, PlugIn) else fn
    while isinstance(fn, (Wrapped, dist.Independent, dist.MaskedDistribution, dist.ExpandedDistribution)):
        fn = fn.base if isinstance(fn, Wrapped) else fn.base_dist
    try:
        probs: Tensor = fn.probs
    except AttributeError:
        raise InputError(f"{what} is a {type(fn).__name__}, without probs; {instead}") from None
    return probs


def completed(fn: Any, drawn: Tensor, y: Tensor, labels: Labels) -> Tensor:
    """Return labels whose missing ones are drawn from p(y), given the known ones of the same row.

    :param fn: p(y).
    :param drawn: a draw of it, ``[B]`` or ``[B, A]``.
    :param y: int64, -1 where missing.
    :raises InputError: too many attributes that may depend on one another.
    """
    fn = fn.base if isinstance(fn, Wrapped) else fn
    partly = (y != MISSING).reshape(len(y), -1).any(1) & (y == MISSING).reshape(len(y), -1).any(1)
    if labels.event_shape and bool(partly.any()) and not factorizes(fn):
        if labels.num_configurations > MOST_VALUES:
            raise InputError(
                f"generate: given some of {labels.size} attributes that may depend on one another, the others have "
                f"{labels.num_configurations} values; up to {MOST_VALUES} are taken in turn, so all are needed"
            )
        values = labels.configurations(y.device)
        log_p: Tensor = fn.log_prob(values.unsqueeze(1).to(torch.get_default_dtype()).expand(-1, len(y), -1))
        fits = ((y == MISSING) | (values.unsqueeze(1) == y)).all(-1)
        chosen = dist.Categorical(logits=log_p.expand(fits.shape).masked_fill(~fits, -torch.inf).T).sample()
        drawn = values[chosen]
    return torch.where(y == MISSING, drawn.long(), y)
