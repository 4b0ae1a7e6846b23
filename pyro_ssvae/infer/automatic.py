"""Pyro's automatic guides: whether one keeps a latent for each row of its first call, so that it knows no other rows.

Such a guide takes its shape from the rows that it sees first, and from no later ones.
"""

from __future__ import annotations

from typing import TypeAlias

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide.effect import AutoMessenger
from pyro.infer.autoguide.guides import AutoCallable, AutoGuide, AutoGuideList, prototype_hide_fn
from pyro.poutine import Trace
from torch import Tensor, nn

from ..errors import InputError
from .pairs import programs
from .protocols import HasObjective

Automatic: TypeAlias = AutoGuide | AutoMessenger


def row_latents(pair: nn.Module, x: Tensor, y: Tensor | None) -> list[tuple[Automatic, str]]:
    """Return the automatic guides of a pair that keep a latent for each row, and the first such latent of each.

    The model alone is run: a run would bind the guide to these rows.
    """
    found: list[tuple[Automatic, str]] = []
    for guide in pair.modules():
        if not isinstance(guide, (AutoGuide, AutoMessenger)) or isinstance(guide, (AutoGuideList, AutoCallable)):
            continue
        two, three = (latent_shapes(guide, *other_rows(x, y, n)) for n in (2, 3))
        found += [(guide, name) for name, shape in two.items() if three.get(name) != shape][:1]
    return found


def latent_shapes(guide: Automatic, x: Tensor, y: Tensor | None) -> dict[str, torch.Size]:
    """Return the shapes of the latents that a guide stands for, by a run of its model."""
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []), torch.no_grad():
        model = poutine.block(guide.model, prototype_hide_fn)
        trace = poutine.block(poutine.trace(model).get_trace)(x, y)
    return shapes_of(trace)


def shapes_of(trace: Trace) -> dict[str, torch.Size]:
    """Return the shapes of a trace's latents."""
    return {name: torch.as_tensor(site["value"]).shape for name, site in trace.iter_stochastic_nodes()}


def refuse_row_latents(pair: nn.Module, x: Tensor, y: Tensor | None, verb: str) -> None:
    """Raise :class:`InputError` where an automatic guide keeps a latent for each row."""
    for guide, name in row_latents(pair, x, y):
        raise InputError(
            f"{verb}: an {type(guide).__name__} keeps {name!r} of each row that it saw first, and knows no other rows; "
            "a guide that computes it from x is needed"
        )


def check_row_latents(pair: nn.Module, x: Tensor, y: Tensor | None) -> None:
    """Raise :class:`InputError` where an automatic guide keeps a latent for each of a number of rows, and these are not
    as many."""
    for guide, name in row_latents(pair, x, y):
        known = guide.prototype_trace if isinstance(guide, AutoGuide) else None
        if known is not None and shapes_of(known)[name] != latent_shapes(guide, x, y)[name]:
            raise InputError(
                f"x: {len(x)} rows, but the {type(guide).__name__} keeps {name!r} of each row that it was made with; "
                "the same rows are needed"
            )


def few_rows(pair: nn.Module, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return two of the rows, for a run that looks at shapes; all where an automatic guide has a latent of each, or
    programs hold values a row, such as what they are conditioned on."""
    check_row_latents(pair, x, y)
    two = x[:2], None if y is None else y[:2]
    own = not isinstance(pair, HasObjective) or bool({"model", "guide"} & vars(pair).keys())
    return (x, y) if row_latents(pair, x, y) or (own and not runs(pair, *two)) else two


def runs(pair: nn.Module, x: Tensor, y: Tensor | None) -> bool:
    """Whether a pair's programs run on some rows; random numbers and Pyro's parameters are put back."""
    model, guide = programs(pair)
    store = pyro.get_param_store()
    try:
        forked = torch.random.fork_rng([x.device] if x.device.type == "cuda" else [])
        with forked, store.scope(store.get_state()), torch.no_grad():
            q = poutine.trace(guide).get_trace(x, y)
            poutine.trace(poutine.replay(model, q)).get_trace(x, y).compute_log_prob()
    except (RuntimeError, ValueError, IndexError):  # of shapes
        return False
    return True


def other_rows(x: Tensor, y: Tensor | None, n: int) -> tuple[Tensor, Tensor | None]:
    """Return n rows, the first ones, again from the beginning where there are fewer."""
    rows = torch.arange(n, device=x.device) % len(x)
    return x[rows], None if y is None else y[rows.to(y.device)]
