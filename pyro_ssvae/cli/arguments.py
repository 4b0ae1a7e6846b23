"""From a dataclass to a command's arguments, and from what was typed to its values."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from ..errors import InputError
from .field_help import field_help
from .hints import complaint

Options = TypeVar("Options")
SEEDS = (0, 2**32 - 1)
"""The least and the largest seed."""
WORDS: dict[object, str] = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}
# How the shell takes a field of settings that Python shares, where its type does not say it.
MARKERS: dict[str, tuple[object, ...]] = {
    "label_file": (tyro.conf.UseAppendAction, tyro.conf.arg(metavar="PATH")),
    "num_nodes": (tyro.conf.arg(name="nodes"),),
}


YES_OR_NO = "nothing, yes, no or auto"  # what an option takes whose default is neither yes nor no


def parse_yes_or_no(words: list[str]) -> bool | None:
    """Return the value of an option that takes yes, no or auto (None); without a value it means yes."""
    answers = {"yes": True, "true": True, "no": False, "false": False, "auto": None}
    word = " ".join(words).lower() or "yes"
    if word not in answers:
        raise ValueError(f"{word}: {YES_OR_NO} is needed")
    return answers[word]


yes_or_no = PrimitiveConstructorSpec(
    nargs="*",
    metavar="[yes|no|auto]",
    instance_from_str=parse_yes_or_no,
    is_instance=lambda value: value is None or isinstance(value, bool),
    str_from_instance=lambda value: ["auto" if value is None else "yes" if value else "no"],
)


def read(command: str, kind: type[Options], arguments: Sequence[str], about: str | None) -> Options:
    """Return a command's options from its arguments.

    :param kind: a frozen dataclass, a line of explanation below each field.
    :param about: what the help says of the command.
    :raises InputError: one line on the argument that cannot be used.
    """
    parsed = parse(command, shell_form(kind), arguments, about)
    return plain(kind, parsed)


def parse(command: str, form: type, arguments: Sequence[str], about: str | None, default: object = None) -> Any:
    """Return the shell's form of a command's options; :class:`InputError` takes the place of tyro's box."""
    heard = io.StringIO()
    given: dict[str, Any] = {} if default is None else {"default": default}
    words = option_words(form)
    for i, argument in enumerate(arguments := gathered(arguments, list_options(form))):
        option = f"--{argument.removeprefix('--no-')}"
        if argument.startswith("--no-") and words.get(option) == YES_OR_NO:
            arguments[i] = f"{option}=no"
    try:
        with contextlib.redirect_stderr(heard):
            return tyro.cli(form, prog=f"pyro-ssvae {command}", description=about, args=arguments, **given)
    except SystemExit as error:
        if error.code in (0, None):
            raise
        box = " ".join(line.strip("│╰╯╭╮─ ") for line in heard.getvalue().splitlines())
        raise InputError(complaint(command, words, arguments, box)) from None


def gathered(arguments: Sequence[str], options: set[str]) -> list[str]:
    """Return the arguments with all values of an option that takes several behind its name.

    Of ``--target a --target b`` tyro would keep the last alone.

    :param options: that take several values after one name.
    """
    names = [argument.partition("=")[0].replace("_", "-") for argument in arguments]
    if not any(names.count(option) > 1 for option in options):
        return list(arguments)
    first: list[str] = []
    groups, of = [first], dict[str, list[str]]()
    group = first
    for name, argument in zip(names, arguments):
        if name in options:
            if name not in of:
                of[name] = [name]
                groups.append(of[name])
            _, joined, value = argument.partition("=")
            of[name] += [value] * bool(joined)
            group = first if joined else of[name]  # after --target=a comes no further target
        elif argument.startswith("-") and not argument[1:2].isdecimal():
            groups.append(group := [argument])
        else:
            group.append(argument)
    return [argument for group in groups for argument in group]


def check_bounds(options: object, **bounds: tuple[int, int]) -> None:
    """Raise :class:`InputError` for an option whose number is out of its bounds."""
    for name, (low, high) in bounds.items():
        value = vars(options)[name]
        if not low <= value <= high:
            raise InputError(
                f"{'-' if len(name) == 1 else '--'}{name}: {value}; a whole number from {low} to {high} is needed"
            )


def plain(kind: type[Options], parsed: object) -> Options:
    """Return the dataclass itself, with the values of its shell form."""
    return kind(**{each.name: getattr(parsed, each.name) for each in fields(kind)})  # type: ignore[arg-type]


def shell_form(kind: type, without: Sequence[str] = (), /, **parts: type) -> type:
    """Return a dataclass as the shell shows it: prefixes omitted, an option that may be left out as its kind alone.

    Values are not checked by it, so that what is out of range is said by the dataclass itself, in its own words.

    :param without: fields that the shell does not take; they keep their default.
    :param parts: the shell's form of fields that are dataclasses.
    """
    hints, words = get_type_hints(kind, include_extras=True), field_help(kind)
    made = []
    for each in fields(kind):
        if each.name in parts:
            part = parts[each.name]
            made.append((each.name, Annotated[part, tyro.conf.OmitArgPrefixes], field(default_factory=part)))
            continue
        if each.name in without:
            unseen = (tyro.conf.Fixed, tyro.conf.Suppress, tyro.conf.arg(name=f"fixed-{each.name}"))
            hint: Any = hints[each.name]
            for marker in unseen:
                hint = Annotated[hint, marker]
            made.append((each.name, hint, same_default(each)))
            continue
        base, markers = without_markers(hints[each.name])
        shown = typed(base)
        said = [tyro.conf.arg(help=words[each.name])] if each.name in words else []
        for marker in (*said, *look(base, each.default), *markers, *MARKERS.get(each.name, ())):
            shown = Annotated[shown, marker]
        made.append((each.name, shown, same_default(each)))
    unchecked = {"__post_init__": lambda self: None, "__doc__": kind.__doc__}
    return make_dataclass(kind.__name__, made, bases=(kind,), frozen=True, kw_only=True, namespace=unchecked)


def same_default(each: Field[Any]) -> object:
    """Return a new field with the default of this one, if any."""
    if each.default_factory is not MISSING:
        return field(default_factory=each.default_factory)
    return field() if each.default is MISSING else field(default=each.default)


def without_markers(hint: object) -> tuple[object, list[object]]:
    """Return a type, and what it is annotated with."""
    if get_origin(hint) is not Annotated:
        return hint, []
    base, *markers = get_args(hint)
    return base, markers


def typed(kind: object) -> Any:
    """Return the type that the shell reads for a field; one of several words is read as any word."""
    if get_origin(kind) is Annotated:
        return typed(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return str
    if get_origin(kind) in (Union, UnionType):
        return Union[tuple(typed(each) for each in get_args(kind))]  # noqa: UP007
    return kind


def look(kind: object, default: object) -> list[object]:
    """Return how the help shows a field that is more than one plain value, or has no default to show."""
    if kind == (bool | None):
        return [yes_or_no, tyro.conf.arg(help_behavior_hint="")]
    if kind is bool or (kind in WORDS and default is not None):
        return []
    if default in (None, ()):
        return [tyro.conf.arg(metavar=metavar(kind), help_behavior_hint="")]
    return [tyro.conf.arg(metavar=metavar(kind))]


def metavar(kind: object) -> str:
    """Return what a value is, in the help's capitals; the words of a choice as they are."""
    if get_origin(kind) is Annotated:
        return metavar(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return f"{{{','.join(map(str, get_args(kind)))}}}"
    if get_origin(kind) in (Union, UnionType):
        return "|".join(metavar(each) for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) is tuple:
        return f"{metavar(get_args(kind)[0])} ..."
    return WORDS.get(kind, "VALUE")


def list_options(form: type) -> set[str]:
    """Return a form's options that take several values after one name."""
    found: set[str] = set()
    for name, hint in get_type_hints(form, include_extras=True).items():
        base, markers = without_markers(hint)
        if is_dataclass(base):
            found |= list_options(base)  # type: ignore[arg-type]
        elif " ..." in metavar(base) and tyro.conf.UseAppendAction not in markers:
            found.add(f"--{name.replace('_', '-')}")
    return found


def option_words(form: type) -> dict[str, str]:
    """Return a form's options and, in words, the values that they take."""
    kinds = {"INT": "a whole number", "FLOAT": "a number", "PATH": "a path", "STR": "a word"}
    found: dict[str, str] = {}
    for name, hint in get_type_hints(form).items():
        option = name.removeprefix("num_").replace("_", "-")  # num_nodes is --nodes
        if is_dataclass(hint):
            found |= option_words(hint)  # type: ignore[arg-type]
        elif hint is bool:
            found |= {f"--{option}": "no value", f"--no-{option}": "no value"}
        elif bool in get_args(without_markers(hint)[0]):
            found |= {f"--{option}": YES_OR_NO, f"--no-{option}": "no value"}
        else:
            words = [
                kinds[word] for word in dict.fromkeys(metavar(hint).replace(" ...", "").split("|")) if word in kinds
            ]
            found[f"--{option}"] = " or ".join(words) or "a value"
    return found
