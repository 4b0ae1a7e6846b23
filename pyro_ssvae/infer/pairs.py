"""A pair: a model and a guide, as one module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, cast

from torch import nn

from ..errors import InputError, kind_of

Program: TypeAlias = Callable[..., object]
PairLike: TypeAlias = nn.Module | tuple[Program, Program]
"""A module with ``model(x, y)`` and ``guide(x, y)``, or the two as functions."""


class Pair(nn.Module):
    """``model(x, y)`` and ``guide(x, y)`` as one module. Modules among them, or whose methods they are, are parts."""

    model: Program
    guide: Program

    def __init__(self, model: Program, guide: Program) -> None:
        super().__init__()
        self.model, self.guide = model, guide
        for name, program in (("model_of", model), ("guide_of", guide)):
            owner = getattr(program, "__self__", None)
            if isinstance(owner, nn.Module):
                self.add_module(name, owner)


def as_pair(pair: PairLike) -> nn.Module:
    """Return a module with ``model`` and ``guide``; raise :class:`InputError` for anything else."""
    if isinstance(pair, (tuple, list)) and len(pair) == 2 and all(callable(program) for program in pair):
        return Pair(*pair)
    if isinstance(pair, nn.Module) and is_pair(pair):
        return pair
    what = type(pair).__name__
    raise InputError(f"a module with model(x, y) and guide(x, y), or (model, guide), is needed, not a {what}")


def name_of_pair(pair: nn.Module) -> str:
    """Return what a pair is in words: ``an M2``; of two programs ``(model, guide)``."""
    return "(model, guide)" if isinstance(pair, Pair) else kind_of(pair)


def programs(pair: nn.Module) -> tuple[Program, Program]:
    """Return a pair's model and guide."""
    return cast(Program, pair.model), cast(Program, pair.guide)


def is_pair(module: object) -> bool:
    """Whether it is a module with ``model`` and ``guide``."""
    programs = (getattr(module, name, None) for name in ("model", "guide"))
    return isinstance(module, nn.Module) and all(map(callable, programs))


def networks(pair: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts of a pair, and of the pairs in it, that are called as networks."""
    seen: set[int] = set()
    for part in pair.children():
        if is_pair(part):
            yield from networks(part)
        elif id(part) not in seen:
            seen.add(id(part))
            yield part


def replaced(model: nn.Module) -> list[str]:
    """Return the methods that a model or a part of it has in the place of its class's: ``p_z``, ``decoder.forward``."""
    return [
        f"{path}.{name}".lstrip(".")
        for path, part in model.named_modules()
        for name, value in vars(part).items()
        if callable(value) and callable(getattr(type(part), name, None))
    ]
