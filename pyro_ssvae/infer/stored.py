"""Parameters that a pair's programs keep in Pyro's store and its module does not hold: those of ``pyro.param``."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ..labels import labels_of
from .batched import evaluating, like
from .pairs import Pair
from .traces import Trace, traced

KEY = "pyro.param/"
"""What the name of such a parameter begins with in a file of weights."""
_noted: WeakKeyDictionary[nn.Module, frozenset[str]] = WeakKeyDictionary()


def outside_of(pair: nn.Module, trace: Trace) -> dict[str, Tensor]:
    """Return the parameters of a trace that the pair does not hold, unconstrained, by their names in Pyro's store."""
    own = {id(p) for p in pair.parameters()}
    sites = {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "param"}
    values: dict[str, Tensor] = {name: value.unconstrained() for name, value in sites.items()}
    return {name: p for name, p in values.items() if id(p) not in own and p.requires_grad}


def stored_parameters(pair: nn.Module) -> dict[str, Tensor] | None:
    """Return what :func:`outside_of` a run of the pair is, on two rows of zeros without labels, and of the first label.

    :returns: None where the pair has no ``input_shape``, or cannot run on such rows.
    """
    shape = getattr(pair, "input_shape", None)
    if not isinstance(shape, tuple):
        return None
    labels, x = labels_of(pair), like(pair, None).new_zeros(2, *shape)
    known = [] if labels is None else [torch.zeros(2, *labels.event_shape, dtype=torch.long, device=x.device)]
    try:
        with evaluating(pair, 0), pyro.validation_enabled(False), poutine.trace(param_only=True) as run:
            for y in (None, *known):
                traced(pair, x, y)
    except Exception:  # of a program of one's own, which may need other rows
        return None
    return outside_of(pair, run.trace)


def note_stored(pair: nn.Module, names: Iterable[str]) -> None:
    """Remember of a pair, for as long as it lives, the names of the parameters that it uses and does not hold."""
    for module in parts_of(pair):
        _noted[module] = frozenset(names)


def may_use(pair: nn.Module) -> list[str]:
    """Return what was noted of a pair; else all names in Pyro's store that may be its, networks' of others left out."""
    noted = [_noted[module] for module in parts_of(pair) if module in _noted]
    if noted:
        return sorted(frozenset.union(*noted))
    own = {id(p) for p in pair.parameters()}
    return sorted(n for n, p in pyro.get_param_store().named_parameters() if "$$$" not in n and id(p) not in own)


def parts_of(pair: nn.Module) -> list[nn.Module]:
    """Return the modules by which a pair is known again: itself, or of ``(model, guide)`` its parts."""
    return list(pair.children()) if isinstance(pair, Pair) else [pair]


def stored_name(p: Tensor) -> str:
    """Return a parameter's name in Pyro's store."""
    name = pyro.get_param_store().param_name(p)
    assert name is not None
    return name
