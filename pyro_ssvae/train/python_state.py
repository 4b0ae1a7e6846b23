"""What a pair holds in Python, which a captured program cannot follow: noted, compared, put back.

Plain attributes of its parts, the members of their lists and dictionaries, its parts themselves; of programs written
elsewhere than in a library also what their functions take from outside: global variables and those of a closure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import CellType, CodeType, FunctionType, MethodType, NoneType
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.distributions import Transform

PLAIN = (int, float, str, tuple, NoneType, Tensor)
LIBRARIES = ("torch", "pyro", "pyro_ssvae", "numpy", "builtins", "lightning")
LARGEST = 1000  # members of a list or a dictionary that is watched
SIZE = "<size>"


class Attribute(NamedTuple):
    """A value: what holds it (a dictionary, a list or a cell), its name there, and whether it is a cache.

    A flow's transforms cache their latest input and what they computed of it. No value outlives the step.
    """

    held: Any
    name: Any
    value: object
    cache: bool = False

    def now(self) -> object:
        """Return the value that is there at the time."""
        try:
            if self.name is SIZE:
                return len(self.held)
            return self.held.cell_contents if isinstance(self.held, CellType) else self.held[self.name]
        except (KeyError, IndexError, ValueError):
            return None


def python_state(module: nn.Module, programs: Sequence[object] = ()) -> list[Attribute]:
    """Return what a module and some programs hold in Python."""
    state: list[Attribute] = []
    parts: list[object] = list(module.modules())
    for part in module.modules():
        state += [Attribute(part._modules, name, child) for name, child in part._modules.items()]
    taken = list(taken_by([*programs, *own_functions(module)]))
    state += [attribute for attribute in taken if isinstance(attribute.value, PLAIN)]
    others = [value for part in parts for _, value in attributes(part)] + [each.value for each in taken]
    for each in others:
        parts += each.modules() if isinstance(each, nn.Module) else [each] if is_object(each) else []
    state += members(each.value for each in taken)
    for each in {id(part): part for part in parts}.values():
        cached = isinstance(each, Transform)
        state += [
            Attribute(vars(each), name, value, cached and name.startswith("_cache"))
            for name, value in attributes(each)
            if isinstance(value, PLAIN)
        ]
        state += [] if cached else members(value for _, value in attributes(each))
    return state


INTERNAL = set(vars(nn.Module())) - {"training"}


def attributes(part: object) -> Iterator[tuple[str, object]]:
    """Yield the names and values of an object's attributes, without what every module has."""
    yield from ((name, value) for name, value in vars(part).items() if name not in INTERNAL)


def is_object(value: object) -> bool:
    """Whether it is an object whose attributes may be a program's state."""
    known = (type, FunctionType, MethodType, *PLAIN)
    return hasattr(value, "__dict__") and not isinstance(value, known)


def members(values: Iterator[object]) -> list[Attribute]:
    """Return the plain members of lists and dictionaries, and their sizes."""
    found = []
    for value in values:
        if isinstance(value, (list, dict)) and len(value) <= LARGEST:
            pairs = enumerate(value) if isinstance(value, list) else value.items()
            found += [Attribute(value, name, each) for name, each in pairs if isinstance(each, PLAIN)]
            found.append(Attribute(value, SIZE, len(value)))
    return found


def own_functions(module: nn.Module) -> list[object]:
    """Return the functions of the parts' classes that no library has written."""
    kinds = {kind for part in module.modules() for kind in type(part).__mro__ if not of_library(kind)}
    return [function for kind in kinds for function in vars(kind).values()]


def of_library(value: object) -> bool:
    """Whether a class or a function is a library's."""
    return str(getattr(value, "__module__", "builtins")).partition(".")[0] in LIBRARIES


def taken_by(functions: Sequence[object]) -> Iterator[Attribute]:
    """Yield what functions take from outside, and the functions that they call: globals and variables of a closure."""
    waiting, seen = list(functions), set[int]()
    while waiting:
        function = waiting.pop()
        function = function.__func__ if isinstance(function, (MethodType, staticmethod, classmethod)) else function
        function = function.fget if isinstance(function, property) else function
        if not isinstance(function, FunctionType) or id(function) in seen or of_library(function):
            continue
        seen.add(id(function))
        held = [(function.__globals__, name) for name in names_in(function.__code__) if name in function.__globals__]
        cells = zip(function.__closure__ or (), function.__code__.co_freevars)
        for where, name in [*held, *cells]:
            attribute = Attribute(where, name, None)
            attribute = attribute._replace(value=attribute.now())
            yield attribute
            waiting.append(attribute.value)


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
    for held, name, value, _ in state:
        if name is SIZE and isinstance(held, list) and isinstance(value, int):
            del held[value:]
        elif isinstance(held, CellType):
            held.cell_contents = value
        elif name is not SIZE and (name in held if isinstance(held, dict) else True) and held[name] is not value:
            held[name] = value


def same(now: object, before: object) -> bool:
    """Whether two plain values are the same; tensors by identity."""
    if now is before:
        return True
    if isinstance(now, tuple) and isinstance(before, tuple):
        return len(now) == len(before) and all(map(same, now, before))
    return (
        isinstance(before, PLAIN) and not isinstance(now, Tensor) and not isinstance(before, Tensor) and now == before
    )
