"""Settings from a file, whose values may be of any kind: checked before they are used."""

from __future__ import annotations

from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], saved: Any) -> Settings:
    """A dataclass of settings with the values of a JSON object.

    :raises TypeError: naming the field that is unknown, or has a value of another type.
    """
    if not isinstance(saved, dict):
        raise TypeError(f"{kind.__name__} is {str(saved)[:40]!r}")
    hints, values = get_type_hints(kind), {}
    for name, value in saved.items():
        value = tuple(value) if isinstance(value, list) else value
        if name not in hints:
            raise TypeError(f"there is no setting {name[:40]!r}")
        if not fits(value, hints[name]):
            raise TypeError(f"{name} is {str(value)[:40]!r}")
        values[name] = value
    return kind(**values)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type: a plain one, ``tuple[str, ...]``, or one of several."""
    if get_origin(hint) in (Union, UnionType):
        return any(fits(value, each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(fits(part, get_args(hint)[0]) for part in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is (type(None) if hint is None else hint)
