"""What labels are called: words and numbers of classes and of attributes, and the places that they have."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from ..labels import MISSING, AttributeLabels, ClassLabels, Labels
from .checks import shown
from .notices import say

VALUES = {
    **dict.fromkeys(["0", "0.0", "no", "n", "false", "f"], 0),
    **dict.fromkeys(["1", "1.0", "yes", "y", "true", "t"], 1),
}
"""What an attribute's word means, in small letters, unless the attribute has words of its own that say otherwise."""


def attribute_value(word: str, pair: tuple[str, str]) -> int | None:
    """Return the value of an attribute that a word means, None where it means neither.

    :param pair: the attribute's words of 0 and 1, which come first; where they are other numbers, none else counts.
    """
    low, own = word.strip().lower(), [each.lower() for each in pair]
    places = places_of(own)
    if low in places:
        return places[low]
    told = all(VALUES[w] == k if w in VALUES else whole_number(w) is None for k, w in enumerate(own))
    return VALUES.get(low) if told else None


def answers(labels: Labels) -> list[str]:
    """Return what each probability is of: a class, an attribute, or the word of its 1, such as ``sex = male``."""
    if isinstance(labels, ClassLabels):
        return list(labels.names)
    ones = zip(labels.names, (one for _, one in labels.words))
    return [name if VALUES.get(one.lower()) == 1 else f"{name} = {one}" for name, one in ones]


def other_words(own: Labels | None, labels: Labels | None) -> str:
    """Return the first attribute of which two say otherwise what 0 and 1 are called, and what each says; empty where
    they agree. Words for no and yes, and no words, agree with any but the reverse of their own."""
    if not (isinstance(own, AttributeLabels) and isinstance(labels, AttributeLabels)):
        return ""
    known = dict(zip(labels.names, labels.words))
    for name, pair in zip(own.names, own.words):
        one, other = ([VALUES.get(w.lower(), w.lower()) for w in words] for words in (pair, known.get(name, pair)))
        if one != other and ([0, 1] not in (one, other) or one == other[::-1]):
            return f"{shown(name)} as {' or '.join(pair)}, not {' or '.join(known[name])}"
    return ""


def whole_number(name: str) -> int | None:
    """Return the whole number that a name is, as 2 of ``2`` and ``2.0``; None of other words."""
    bare = name.removesuffix(".0")
    return int(bare) if bare.removeprefix("-").isdecimal() else None


def numbers_of(labels: Labels | None) -> list[dict[int, int]]:
    """Return of the classes, or of each attribute, the places of what whole numbers name, where these are others."""
    names = [] if labels is None else [labels.names] if isinstance(labels, ClassLabels) else labels.words
    found = []
    for own in names:
        places = {number: k for k, name in enumerate(own) if (number := whole_number(name)) is not None}
        found.append(places if any(number != k for number, k in places.items()) else {})
    return found if any(found) else []


def named_numbers(y: np.ndarray, labels: Labels | None, where: str, table: bool) -> np.ndarray:
    """Return labels with places in place of numbers that are names, where classes are called by other numbers.

    In a table a column's numbers are names if all of them are; in an array they are places. What could be either is
    said.

    :param y: ``[N]`` or ``[N, A]``, numbers or objects; words among them are left alone.
    :param table: whether these are columns of a table.
    """
    numbers = numbers_of(labels)
    if labels is None or not numbers or not y.size or y.dtype.kind == "b" or y.size != len(y) * len(numbers):
        return y
    columns = y.reshape(len(y), -1)
    renamed = columns.astype(object if y.dtype.kind == "O" else np.float64)
    for a, places in enumerate(numbers):
        cells = numbers_in(columns[:, a])
        found = [v for v in np.unique(cells[~np.isnan(cells)]).tolist() if v != MISSING]
        if not found or not set(found) <= places.keys() or all(places[int(v)] == v for v in found):
            continue
        said = ", ".join(f"{v:g}" for v in found[:5]) + (" …" if len(found) > 5 else "")
        what = "classes" if isinstance(labels, ClassLabels) else f"words of {shown(labels.names[a])}"
        either = found[0] >= 0 and found[-1] < (labels.size if isinstance(labels, ClassLabels) else 2)
        for v in found:
            renamed[cells == v, a] = places[int(v)]
        if either and table:
            say(f"{where}: {said} are read as the {what} that are called so")
        elif either:
            say(f"{where}: {said} are taken for places among the {what}, from 0; as text they are names")
    return renamed.reshape(y.shape) if table else y


def numbers_in(cells: np.ndarray) -> np.ndarray:
    """Return the numbers of a column as float64, NaN where there is a word or a gap."""
    if cells.dtype.kind != "O":
        return cells.astype(np.float64)
    kinds = (int, float, np.number, Decimal)
    return np.array([float(v) if isinstance(v, kinds) and not isinstance(v, bool) else np.nan for v in cells.tolist()])


def places_of(names: Sequence[str]) -> dict[str, int]:
    """Return the number of each class by its name, and by a whole number's other form: ``1.0`` for ``1``, ``1`` for
    ``1.0``. Tables write ``1.0`` where a column has gaps, and ``1`` where it has none."""
    known = {name: k for k, name in enumerate(names)}
    for name, k in list(known.items()):
        whole = name.removesuffix(".0")
        if whole.removeprefix("-").isdecimal():
            known.setdefault(whole if whole != name else f"{name}.0", k)
    return known


def class_places(words: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """Return the number of the class that each word means, None where it means none of them."""
    known = places_of(names)
    return [known.get(word) for word in words]


def numbered(names: Sequence[str]) -> bool:
    """Whether classes have no names of their own."""
    return list(names) == [str(k) for k in range(len(names))]
