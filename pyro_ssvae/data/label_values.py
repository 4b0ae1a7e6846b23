"""Labels as people hand them over, words and gaps among them, as the numbers that a model knows them by."""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..labels import (
    CHUNK,
    MANY,
    MISSING,
    AttributeLabels,
    ClassLabels,
    Labels,
    narrow_dtype,
    value_counts,
)
from .checks import check_bytes, clean_word, hint, means_missing, say_missing, shown
from .foreign_types import SparseMatrix
from .frames import Frame, float_array, in_order, names_of, plain_array, unmasked
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
    renamed = y.reshape(len(y), -1).astype(object if y.dtype.kind == "O" else np.float64)
    for a, places in enumerate(numbers):
        cells = numbers_in(renamed[:, a])
        found = [v for v in np.unique(cells[~np.isnan(cells)]).tolist() if v != MISSING]
        if not found or not set(found) <= places.keys() or all(places[int(v)] == v for v in found):
            continue
        said = ", ".join(f"{v:g}" for v in found[:5]) + (" …" if len(found) > 5 else "")
        what = "classes" if isinstance(labels, ClassLabels) else f"words of {shown(labels.names[a])}"
        either = found[0] >= 0 and found[-1] < (labels.size if isinstance(labels, ClassLabels) else 2)
        for v in found if table else ():
            renamed[cells == v, a] = places[int(v)]
        if either and table:
            say(f"{where}: {said} are read as the {what} that are called so")
        elif either:
            say(f"{where}: {said} are taken for places among the {what}, from 0; as text they are names")
    return renamed.reshape(y.shape)


def numbers_in(cells: np.ndarray) -> np.ndarray:
    """Return the numbers of a column as float64, NaN where there is a word or a gap."""
    if cells.dtype.kind != "O":
        return cells
    kinds = (int, float, np.number, Decimal)
    return np.array([float(v) if isinstance(v, kinds) and not isinstance(v, bool) else np.nan for v in cells.tolist()])


def label_values(y: object, labels: Labels | None, where: str = "y") -> Tensor:
    """Return labels as a tensor of numbers, -1 where one is missing: None, NaN, NA, a masked entry, an empty word.

    Words are matched with the names of ``labels``. A table's columns are matched with the attributes by name. A word
    that mostly means "missing" and is no class is missing, and a line says so. Shapes and ranges are left to
    ``labels.check``.

    :raises InputError: naming the row and the word, or the columns.
    """
    if isinstance(y, Tensor):
        y = y.detach()
        if y.is_nested or y.is_meta:
            raise InputError(f"{where}: a tensor that is nested, or without values; one of [N] or [N, A] is needed")
        y = y.to_dense() if y.layout != torch.strided else y
        if y.is_complex():
            raise InputError(f"{where}: complex numbers; labels are whole numbers, or words")
        if y.dtype == torch.bool and names_truth(labels):
            return from_objects(y.cpu().numpy().astype(object), labels, where)
        y = without_nan(y)
        return y.clone() if y.is_inference() else y
    if isinstance(y, SparseMatrix):
        check_bytes(int(np.prod(y.shape, dtype=object)) * y.dtype.itemsize, f"{where}, as a dense array,")
        y = y.toarray()
    table = not isinstance(y, (np.ndarray, Sequence))
    if isinstance(y, Frame):
        y = attribute_columns(y, labels, where)
    array = plain_array(y, where)
    if isinstance(array, np.ma.MaskedArray):
        array = unmasked(array)
    if array.dtype.kind in "Oiuf":
        array = named_numbers(array, labels, where, table)
    if array.dtype.kind in "OUS" or (array.dtype.kind == "b" and names_truth(labels)):
        return from_objects(array.astype(object), labels, where)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: {array.dtype}; labels are whole numbers, or words")
    if array.ndim and len(array) > MANY and array.dtype in (np.int8, np.int16, np.uint8):
        return torch.from_numpy(writable(array))
    return without_nan(torch.from_numpy(np.array(float_array(array, where))))


def names_truth(labels: Labels | None) -> bool:
    """Whether classes are called by a boolean's words, which then say which one it is."""
    return isinstance(labels, ClassLabels) and {"True", "False"} <= set(labels.names)


def writable(y: np.ndarray) -> np.ndarray:
    """Return an array as it is where it can be written to, a read-only file's shared with all who map it; or a copy."""
    if isinstance(y, np.memmap) and isinstance(y.base, mmap.mmap) and y.filename is not None and y.flags.c_contiguous:
        return np.memmap(y.filename, y.dtype, "c", y.offset, y.shape)
    return y if y.flags.writeable else y.copy()


def without_nan(y: Tensor) -> Tensor:
    """Return numbers with -1 in place of NaN."""
    return torch.where(y.isnan(), float(MISSING), y) if y.is_floating_point() else y


def attribute_columns(frame: Frame, labels: Labels | None, where: str) -> object:
    """Return a table's columns in the order of the attributes, or the one column of classes."""
    names = names_of(frame)
    if isinstance(labels, AttributeLabels) and names is not None:
        order = in_order(names, labels.names, where, "the attributes")
        if order is not None:
            frame = frame[[list(frame.columns)[i] for i in order]]
    values = plain_array(frame, where)
    one = isinstance(labels, ClassLabels) and values.ndim == 2 and values.shape[1] == 1
    return values[:, 0] if one else values


def from_objects(array: np.ndarray, labels: Labels | None, where: str) -> Tensor:
    """Return objects, words and numbers among them, as numbers."""
    names = () if labels is None else tuple(labels.names)
    known = places_of(names)
    attributes = isinstance(labels, AttributeLabels)
    gaps: Counter[str] = Counter()
    found: dict[object, float] = {}
    width = int(np.prod(array.shape[1:]))
    pairs = labels.words if isinstance(labels, AttributeLabels) and len(labels.words) == width else ()

    def number(value: object, i: int) -> float:
        if is_gap(value):
            return MISSING
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, (bool, np.bool_)) and names_truth(labels):
            value = str(value)
        if not isinstance(value, str):
            return as_number(value, i // width, where)
        word = clean_word(value, f"{where}: row {i // width}")
        place = attribute_value(word, pairs[i % width]) if pairs else None if attributes else known.get(word)
        if place is not None:
            return place
        if means_missing(word, names):
            gaps[word] += 1
            return MISSING
        raise InputError(f"{where}: row {i // width} is {shown(word)}; {wanted(labels, word)}")

    numbers = np.empty(array.size)
    for i, value in enumerate(array.ravel().tolist()):
        key = (value, i % width if attributes else 0)
        if isinstance(value, str) and key in found:
            numbers[i] = found[key]
            continue
        numbers[i] = number(value, i)
        if isinstance(value, str) and not means_missing(value, names):
            found[key] = numbers[i]
    said = {word: n for word, n in gaps.items() if word not in ("", str(MISSING))}
    say_missing(said, where, "name a class so: ClassLabels(names)")
    return torch.from_numpy(numbers.reshape(array.shape))


def wanted(labels: Labels | None, word: str) -> str:
    """What would be right in place of a word."""
    if labels is None:
        return "numbers are needed, since the pair does not say what its labels mean"
    if isinstance(labels, AttributeLabels):
        own = sorted({" or ".join(pair) for pair in labels.words} - {"0 or 1"})
        return f"an attribute is {'; '.join(['0 or 1, yes or no', *own[:3]])}, and empty where it is missing"
    return f"it is no class{hint(word, labels.names)}"


def is_gap(value: object) -> bool:
    """Whether a value is None, NaN, or another library's NA."""
    nan = isinstance(value, (float, np.floating, Decimal)) and value != value
    return value is None or type(value).__name__ in ("NAType", "NaTType") or nan


def as_number(value: object, row: int, where: str) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(f"{where}: row {row} is {shown(value)}; a number or a word is needed") from None


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


def by_name(y: Tensor, own: Labels, labels: Labels, where: str) -> Tensor:
    """Return the labels of a source by the numbers that a model has for their names.

    Where the source has numbers for names (``"0"``, ``"1"``, …), its classes are taken by their number.

    :param own: what ``y`` means.
    :param labels: the model's.
    :raises InputError: naming a class or an attribute that the model has not.
    """
    names, known = list(own.names), list(labels.names)
    if isinstance(own, AttributeLabels) != isinstance(labels, AttributeLabels):
        raise InputError(f"{where}: the labels are {kind(own)}; the model's are {kind(labels)}")
    if names == known:
        return y
    if isinstance(labels, AttributeLabels):
        order = in_order(names, known, where, "the attributes")
        return y if order is None else y[:, order]
    used = (value_counts(y, len(names))[0] > 0).nonzero().squeeze(1).tolist()
    if numbered(names) and not numbers_of(labels) and max(used, default=0) < len(known):
        return y
    places = class_places(names, known)
    for k in used:
        if places[k] is None:
            have = f"the labels are {', '.join(names)[:200]}"
            raise InputError(f"{where}: {have}; the model has no class {shown(names[k])}{hint(names[k], known)}")
    dtype = torch.long if len(y) <= MANY else narrow_dtype(len(known))
    numbers = torch.tensor([MISSING if place is None else place for place in places], dtype=dtype)
    parts = [torch.where(part == MISSING, MISSING, numbers[part.clamp_min(0).long()]) for part in y.split(CHUNK)]
    return torch.cat(parts).to(dtype)


def numbered(names: Sequence[str]) -> bool:
    """Whether classes have no names of their own."""
    return list(names) == [str(k) for k in range(len(names))]


def kind(labels: Labels) -> str:
    """Labels by their kind and names."""
    word = "attributes" if isinstance(labels, AttributeLabels) else "classes"
    return f"{word} ({', '.join(labels.names)[:100]})"
