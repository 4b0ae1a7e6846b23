"""What a pair holds in Python, which a captured program cannot follow: noted, compared, put back.

Attributes of its parts and of their classes, its parts themselves, and what they hold: objects, lists, dictionaries,
sets and small arrays, within each other; of functions written elsewhere than in a library also what they take from
outside: global variables and those of a closure.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from io import IOBase
from itertools import count
from operator import length_hint
from types import CellType, CodeType, FunctionType, MethodType, ModuleType, NoneType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.distributions import Transform

PLAIN = (int, float, str, tuple, NoneType, Tensor)
CONTAINERS = (list, tuple, deque, dict)
FUNCTIONS = (FunctionType, MethodType, staticmethod, classmethod, property, partial)
LIBRARIES = {"torch", "pyro", "pyro_ssvae", "numpy", "builtins", "lightning", *sys.stdlib_module_names} - {"__main__"}
LARGEST = 1000  # members of a list, a dictionary, a set or an array that is watched
MOST = 5000  # values that are watched beside those of modules; the nearest ones
SIZE, CONTENT, PLACE = "<size>", "<content>", "<place>"


class Attribute(NamedTuple):
    """A value: what holds it (a container, a class or a cell), its name there, and whether it is a cache.

    :data:`SIZE` is the length of a container, :data:`CONTENT` a copy of what a set or an array holds, :data:`PLACE` how
    far an iterator is. A flow's transforms cache their latest input and what they computed of it. No value outlives
    the step.
    """

    held: Any
    name: Any
    value: object
    cache: bool = False

    def now(self) -> object:
        """Return the current value."""
        try:
            if self.name is SIZE:
                return len(self.held)
            if self.name is CONTENT:
                return self.held
            if self.name is PLACE:
                return place_of(self.held)
            if isinstance(self.held, type):
                return vars(self.held)[self.name]
            return self.held.cell_contents if isinstance(self.held, CellType) else self.held[self.name]
        except (KeyError, IndexError, ValueError):
            return None


def python_state(module: nn.Module, programs: Sequence[object] = ()) -> list[Attribute]:
    """Return what a module and some programs hold in Python.

    What a library's object has made anew is no change: it may do so in every step. What is plain in it must stay.
    """
    state: list[Attribute] = []
    waiting = deque[tuple[object, bool, bool]]((value, True, True) for value in [*module.modules(), *programs])
    seen: dict[int, object] = {}  # holds what it has seen, so that no other value gets its number
    beside = 0
    while waiting and beside < MOST:
        value, near, exact = waiting.popleft()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        held, inside = list(members(value, near)), isinstance(value, CONTAINERS)
        if not isinstance(value, (*CONTAINERS, set, np.ndarray)):  # which are as what holds them
            exact = isinstance(value, (type, ModuleType, *FUNCTIONS)) or not of_library(type(value))
        state += [each for each in held if exact or isinstance(each.value, (*PLAIN, nn.Module))]
        beside += 0 if isinstance(value, nn.Module) else len(held)
        part = isinstance(value, (nn.Module, *FUNCTIONS)) or (near and inside)
        waiting.extend((each.value, part, exact) for each in held if not each.cache and each.name is not CONTENT)
        if not isinstance(value, (type, ModuleType)) and not of_library(type(value)):
            waiting.extend((kind, False, True) for kind in type(value).__mro__)
    return state


def members(value: object, near: bool) -> Iterator[Attribute]:
    """Yield what a value holds: members of a container, what a function takes from outside, attributes of an object.

    :param near: whether it belongs to a part of the pair, or to a function; a library's objects are looked into only
        there, since elsewhere they may lead anywhere.
    """
    if isinstance(value, CONTAINERS):
        if len(value) <= LARGEST:
            pairs = list(value.items()) if isinstance(value, dict) else enumerate(value)
            yield from (Attribute(value, name, each) for name, each in pairs)
            yield Attribute(value, SIZE, len(value))
    elif isinstance(value, (set, np.ndarray)):
        if (len(value) if isinstance(value, set) else value.size) <= LARGEST:
            yield Attribute(value, CONTENT, value.copy())
    elif isinstance(value, Iterator) and not isinstance(value, IOBase):
        yield Attribute(value, PLACE, place_of(value))
    elif isinstance(value, FUNCTIONS):
        yield from taken_by(value)
    elif isinstance(value, (type, ModuleType)):
        if not of_library(value):
            yield from (Attribute(value if isinstance(value, type) else vars(value), *pair) for pair in own(value))
    elif isinstance(value, PLAIN) or not has_attributes(value):
        return
    elif near or isinstance(value, (nn.Module, Namespace, SimpleNamespace)) or not of_library(type(value)):
        cached = isinstance(value, Transform)
        if isinstance(value, nn.Module):
            yield from (Attribute(value._modules, *pair) for pair in value._modules.items())
        yield from (Attribute(vars(value), *pair, cached and pair[0].startswith("_cache")) for pair in own(value))


def place_of(iterator: Iterator[object]) -> object:
    """Return how far an iterator is; of one that does not tell, a value that is unlike any other."""
    if isinstance(iterator, count):
        return repr(iterator)
    left = length_hint(iterator, -1)
    return left if left >= 0 else float("nan")


INTERNAL = set(vars(nn.Module())) - {"training"}


def own(value: object) -> list[tuple[str, object]]:
    """Return the names and values of attributes, without what every module and every class has."""
    return [(name, each) for name, each in vars(value).items() if name not in INTERNAL and not name.startswith("__")]


def has_attributes(value: object) -> bool:
    """Whether it is an object whose attributes may be a program's state."""
    return hasattr(value, "__dict__")


def of_library(value: object) -> bool:
    """Whether a class, a function or a module is a library's."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return str(name or "builtins").partition(".")[0] in LIBRARIES


def taken_by(function: object) -> Iterator[Attribute]:
    """Yield what a function takes from outside: global variables, variables of a closure, arguments that it has; and
    the functions and the object that it is made of."""
    if isinstance(function, partial):
        parts: tuple[object, ...] = (function.func, function.args, function.keywords)
    elif isinstance(function, property):
        parts = (function.fget,)
    elif isinstance(function, MethodType):
        parts = (function.__func__, function.__self__)
    else:
        parts = (function.__func__,) if isinstance(function, (staticmethod, classmethod)) else ()
    yield from (Attribute(parts, i, part) for i, part in enumerate(parts))
    if not isinstance(function, FunctionType) or of_library(function):
        return
    held = [(function.__globals__, name) for name in names_in(function.__code__) if name in function.__globals__]
    for where, name in [*held, *zip(function.__closure__ or (), function.__code__.co_freevars)]:
        attribute = Attribute(where, name, None)
        yield attribute._replace(value=attribute.now())


def names_in(code: CodeType) -> Iterator[str]:
    """Yield the names of global variables and attributes in a function and in those within it."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from names_in(inner)


def changed(state: list[Attribute]) -> str | None:
    """Return the name of a value that is no longer what it was, caches left out."""
    for attribute in state:
        held, name, value, cache = attribute
        now = held.get(name) if type(held) is dict and name is not SIZE else attribute.now()
        if now is not value and not cache and not same(now, value):
            return str(name)
    return None


def restore(state: list[Attribute]) -> None:
    """Put back the values that were there."""
    for attribute in state:
        held, name, value, _ = attribute
        if same(attribute.now(), value) or (isinstance(held, dict) and name not in held and name is not SIZE):
            continue
        if name is SIZE and isinstance(held, (list, deque)):
            while len(held) > int(str(value)):
                held.pop()
        elif name is CONTENT and isinstance(held, np.ndarray):
            held[...] = value
        elif name is CONTENT:
            held.clear()
            held.update(value)
        elif isinstance(held, CellType):
            held.cell_contents = value
        elif isinstance(held, type):
            setattr(held, name, value)
        elif name not in (SIZE, PLACE):  # an iterator does not go back
            held[name] = value


def same(now: object, before: object) -> bool:
    """Whether two values are the same: plain ones, sets and arrays by what they hold, all else by identity."""
    if now is before:
        return True
    if isinstance(now, tuple) and isinstance(before, tuple):
        return len(now) == len(before) and all(map(same, now, before))
    if isinstance(now, np.ndarray) and isinstance(before, np.ndarray):
        return now.shape == before.shape and now.dtype == before.dtype and now.tobytes() == before.tobytes()
    plain = isinstance(before, (*PLAIN, set)) and not isinstance(now, Tensor) and not isinstance(before, Tensor)
    return plain and bool(now == before)
