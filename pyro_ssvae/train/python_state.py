"""Plain attributes of a module's parts in Python, which a captured program cannot follow: noted, compared, put back."""

from __future__ import annotations

from types import NoneType
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.distributions import Transform

PLAIN = (int, float, str, tuple, NoneType, Tensor)


class Attribute(NamedTuple):
    """A plain attribute: where it is held, its name, its value, and whether it is a cache.

    A flow's transforms cache their latest input and what they computed of it. No value outlives the step.
    """

    held: dict[str, Any]
    name: str
    value: object
    cache: bool


def python_state(module: nn.Module) -> list[Attribute]:
    """Return the plain attributes of a module's parts, and of what objects they hold."""
    internal = set(vars(nn.Module())) - {"training"}
    parts: list[object] = list(module.modules())
    others = [value for part in parts for name, value in vars(part).items() if name not in internal]
    parts += [value for value in others if hasattr(value, "__dict__") and not isinstance(value, (type, *PLAIN))]
    return [
        Attribute(vars(part), name, value, isinstance(part, Transform) and name.startswith("_cache"))
        for part in parts
        for name, value in vars(part).items()
        if name not in internal and isinstance(value, PLAIN)
    ]


def changed(state: list[Attribute]) -> str | None:
    """Return the name of an attribute that is no longer what it was, caches left out."""
    return next((a.name for a in state if not a.cache and not same(a.held.get(a.name), a.value)), None)


def restore(state: list[Attribute]) -> None:
    """Put back the values that attributes had."""
    for attribute in state:
        if attribute.held.get(attribute.name) is not attribute.value:
            attribute.held[attribute.name] = attribute.value


def same(now: object, before: object) -> bool:
    """Whether two plain values are the same; tensors by identity."""
    if now is before:
        return True
    if isinstance(now, tuple) and isinstance(before, tuple):
        return len(now) == len(before) and all(map(same, now, before))
    return not isinstance(now, Tensor) and not isinstance(before, Tensor) and bool(now == before)
