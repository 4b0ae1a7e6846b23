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
from ..label_arrays import CHUNK, MANY, narrow_dtype, value_counts
from ..labels import MISSING, AttributeLabels, ClassLabels, Labels
from .checks import check_bytes, hint, shown
from .class_words import clean_word, means_missing, say_missing
from .foreign_types import SparseMatrix
from .frame_types import Frame
from .frames import float_array, in_order, names_of, plain_array, record_columns, unmasked, with_names
from .label_words import (
    VALUES,
    attribute_value,
    class_places,
    named_numbers,
    numbered,
    numbers_of,
    other_words,
    places_of,
)
from .notices import say


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
        if isinstance(labels, ClassLabels) and y.dim() == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if isinstance(labels, ClassLabels) and y.dim() == 2 and y.shape[1] == labels.size:
            return of_one_hot(y, where)
        if y.dtype == torch.bool and isinstance(labels, ClassLabels):
            return of_booleans(y, labels, where)
        y = without_nan(y)
        return y.clone() if y.is_inference() else y
    if isinstance(y, SparseMatrix):
        check_bytes(int(np.prod(y.shape, dtype=object)) * y.dtype.itemsize, f"{where}, as a dense array,")
        y = y.toarray()
    y = with_names(y)
    table = not isinstance(y, (np.ndarray, Sequence))
    array = label_columns(y, labels, where)
    if isinstance(labels, ClassLabels) and array.ndim == 2 and array.shape[1] == 1:  # a column of classes
        array = array[:, 0]
    if isinstance(array, np.ma.MaskedArray):
        array = unmasked(array)
    if isinstance(labels, ClassLabels) and array.ndim == 2 and array.shape[1] == labels.size and are_numbers(array):
        return of_one_hot(torch.from_numpy(np.array(float_array(array, where), dtype=np.float64)), where)
    if array.dtype.kind in "Oiuf":
        array = named_numbers(array, labels, where, table)
    if array.dtype.kind == "b" and isinstance(labels, ClassLabels):
        return of_booleans(torch.from_numpy(np.array(array)), labels, where)
    if array.dtype.kind in "OUS":
        return from_objects(array.astype(object), labels, where)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: {array.dtype}; labels are whole numbers, or words")
    if array.ndim and len(array) > MANY and array.dtype in (np.int8, np.int16, np.uint8):
        return torch.from_numpy(writable(array))
    return without_nan(torch.from_numpy(np.array(float_array(array, where))))


def truth_places(labels: Labels | None) -> dict[bool, int]:
    """Return the classes that are called by a boolean's words, such as no and yes; nothing where not both are there."""
    found: dict[bool, int] = {}
    for k, name in enumerate(labels.names if isinstance(labels, ClassLabels) else ()):
        if (value := VALUES.get(name.lower())) is not None:
            found.setdefault(bool(value), k)
    return found if len(found) == 2 else {}


def say_truth(labels: ClassLabels, where: str) -> None:
    """Say which classes booleans are taken for, where these have other names."""
    if labels.size > 1 and not numbered(labels.names):
        one, two = map(shown, labels.names[:2])
        say(f"{where}: False and True are taken for {one} and {two}, the first two classes; as words they are names")


def of_booleans(y: Tensor, labels: ClassLabels, where: str) -> Tensor:
    """Return the classes of booleans: those that are called so, or else the first and the second, which is said."""
    places = truth_places(labels)
    if not places:
        say_truth(labels, where)
    return torch.where(y, places.get(True, 1), places.get(False, 0))


def writable(y: np.ndarray) -> np.ndarray:
    """Return an array as it is where it can be written to, a read-only file's shared with all who map it; or a copy."""
    if isinstance(y, np.memmap) and isinstance(y.base, mmap.mmap) and y.filename is not None and y.flags.c_contiguous:
        return np.memmap(y.filename, y.dtype, "c", y.offset, y.shape)
    return y if y.flags.writeable else y.copy()


def without_nan(y: Tensor) -> Tensor:
    """Return numbers with -1 in place of NaN."""
    return torch.where(y.isnan(), float(MISSING), y) if y.is_floating_point() else y


def label_columns(y: object, labels: Labels | None, where: str) -> np.ndarray:
    """Return labels as an array, the columns of a table or of records in the order of the attributes, or of the classes
    where each has one."""
    names = names_of(y) if isinstance(y, Frame) else None
    if isinstance(y, np.ndarray) and y.dtype.names:
        y, names = record_columns(y, where)
    array = plain_array(y, where)
    if labels is None or names is None or (isinstance(labels, ClassLabels) and array.shape[1:] == (1,)):
        return array
    other = len(names) == labels.size and {*names} != {*labels.names}
    if isinstance(labels, ClassLabels) and numbered(labels.names) and other:  # classes without names
        return array
    order = in_order(
        names, labels.names, where, "the attributes" if isinstance(labels, AttributeLabels) else "the classes"
    )
    return array if order is None else array[:, order]


def are_numbers(array: np.ndarray) -> bool:
    """Whether an array has no word."""
    return array.dtype.kind in "biuf" or (
        array.dtype.kind == "O" and not any(isinstance(value, (str, bytes)) for value in array.ravel().tolist())
    )


def of_one_hot(y: Tensor, where: str) -> Tensor:
    """Return the classes ``[N]`` of one-hot rows ``[N, K]``, -1 of a row without any 1.

    :raises InputError: naming a row with other numbers, such as probabilities, or with several.
    """
    y = without_nan(y) if y.is_floating_point() else y.long()  # 255 of uint8 equals -1
    y = y.masked_fill(y == MISSING, 0)
    wrong = ((y != 0) & (y != 1)).any(1) | (y.sum(1) > 1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise InputError(f"{where}: row {row} of {list(y.shape)} is {shown(y[row].tolist())}; one class a row, [N], is "
                         "needed, or a single 1 in each; y.argmax(1) is the most probable class")  # fmt: skip
    return torch.where(y.any(1), y.long().argmax(1), MISSING)


def from_objects(array: np.ndarray, labels: Labels | None, where: str) -> Tensor:
    """Return objects, words and numbers among them, as numbers."""
    names = () if labels is None else tuple(labels.names)
    known = places_of(names)
    attributes = isinstance(labels, AttributeLabels)
    gaps: Counter[str] = Counter()
    found: dict[object, float] = {}
    own = labels.words if isinstance(labels, AttributeLabels) else ()
    width = len(own) if array.shape == (len(own),) else int(np.prod(array.shape[1:]))  # one row, as generate takes it
    pairs = own if len(own) == width else ()
    truth = truth_places(labels)

    def number(value: object, i: int) -> float:
        if is_gap(value):
            return MISSING
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, (bool, np.bool_)) and truth:
            return truth[bool(value)]
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
    if isinstance(labels, ClassLabels) and not truth and any(isinstance(v, bool) for v in array.ravel().tolist()):
        say_truth(labels, where)
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
    if found := other_words(own, labels):
        raise InputError(f"{where}: the labels have {found}, for 0 or 1; the model's words are needed")
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


def kind(labels: Labels) -> str:
    """Labels by their kind and names."""
    word = "attributes" if isinstance(labels, AttributeLabels) else "classes"
    return f"{word} ({', '.join(labels.names)[:100]})"
