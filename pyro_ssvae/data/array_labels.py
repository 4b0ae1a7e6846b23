"""The labels in an npz file: numbers, words, or attributes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, counted
from ..labels import MISSING, AttributeLabels, Labels
from .checks import first_row, shown
from .class_words import MAX_CLASSES, class_labels, clean_word, encode_words, say_classes, say_meaning, say_one_hot
from .notices import say


def read_labels(arrays: dict[str, np.ndarray], n: int, n_test: int, path: Path) -> tuple[Tensor, Tensor, Labels]:
    """Return ``y [n]`` or ``[n, A]``, ``y_test`` likewise, and what they mean."""
    names = _names(arrays.get("names"), path)
    given: dict[str, np.ndarray] = {name: arrays[name] for name in ("y", "y_test") if name in arrays}
    for name, array in given.items():
        rows = n if name == "y" else n_test
        if array.ndim not in (1, 2) or array.shape[1:] == (0,):
            raise InputError(f"{path}: {name} has shape {shown(list(array.shape))}; [N] or [N, A] is needed")
        if len(array) != rows:
            x = "x" if name == "y" else "x_test"
            raise InputError(
                f"{path}: {name} has {counted(len(array), 'row')}, but {x} has {rows}; both need the same number"
            )
    if len({(array.shape[1:], array.dtype.kind == "U") for array in given.values()}) > 1:
        raise InputError(f"{path}: y and y_test differ in columns or kind; both need the same")
    example = next(iter(given.values()), np.zeros(0, np.int64))
    if example.dtype.kind == "U":
        tensors, words = _words(given, names, path)
        labels: Labels = class_labels(words)
    elif example.ndim == 2:
        count = example.shape[1]
        if names is not None and len(names) != count:
            raise InputError(
                f"{path}: {counted(len(names), 'name')} for {counted(count, 'attribute')}; as many are needed"
            )
        tensors = {name: _whole(array, 1, f"{path}: {name}") for name, array in given.items()}
        labels = AttributeLabels(names if names is not None else [f"attribute{i}" for i in range(count)])
    else:
        most = (MAX_CLASSES if names is None else len(names)) - 1
        tensors = {name: _whole(array, most, f"{path}: {name}") for name, array in given.items()}
        largest = max((int(y.max()) for y in tensors.values() if len(y)), default=MISSING)
        labels = class_labels(names if names is not None else [str(k) for k in range(largest + 1)])
        known = sorted({k for y in tensors.values() for k in y.unique().tolist()})
        if names is None:
            say_classes([str(k) for k in known], f"{path}: y", say)
        widest = np.iinfo(example.dtype).max if example.dtype.kind == "u" else None
        if largest == widest:
            say(f"{path}: y: {largest} is taken for a class; as a missing label, -1, it needs a signed type")
    if example.dtype.kind != "U" and given:
        every = torch.cat(list(tensors.values()))
        where = f"{path}: {' and '.join(given)}"
        say_meaning(every, where, None if names is None and every.dim() == 1 else labels.names)
        if every.dim() == 2:
            say_one_hot(every, where)
    y = tensors.get("y", torch.full((n, *labels.event_shape), MISSING))
    return y, tensors.get("y_test", torch.full((n_test, *labels.event_shape), MISSING)), labels


def _names(array: np.ndarray | None, path: Path) -> list[str] | None:
    if array is None:
        return None
    if array.dtype.kind != "U" or array.ndim != 1 or not 0 < len(array) <= MAX_CLASSES:
        raise InputError(f"{path}: names is {array.dtype} {list(array.shape)}; a list of words is needed")
    words = [clean_word(word, f"{path}: names") for word in _texts(array, f"{path}: names")]
    if "" in words or len(set(words)) != len(words):
        raise InputError(f"{path}: names {shown(words)} has an empty or a repeated word; each class needs its own")
    return words


def _words(
    given: dict[str, np.ndarray], names: list[str] | None, path: Path
) -> tuple[dict[str, Tensor], Sequence[str]]:
    for name, array in given.items():
        if array.ndim != 1:
            raise InputError(f"{path}: {name} is text of shape {list(array.shape)}; words are needed as [N]")
    columns = [_texts(array, f"{path}: {name}") for name, array in given.items()]
    where = f"{path}: {' and '.join(given)}"
    encoded, words = encode_words(columns, names, where, "put it into the array 'names' with the others")
    return dict(zip(given, encoded, strict=True)), words


def _texts(array: np.ndarray, where: str) -> list[str]:
    """Return text as Python's; refuse what is no valid Unicode (NumPy doesn't look, and Python trips over it later)."""
    try:
        codes = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).view(np.uint32)
        if codes.max(initial=0) <= sys.maxunicode:
            return [str(text) for text in array.tolist()]
    except (ValueError, SystemError):
        pass
    raise InputError(f"{where}: not valid Unicode text; save words as str")


def _whole(array: np.ndarray, most: int, where: str) -> Tensor:
    """Return labels -1 to ``most`` as int64."""
    what = f"labels are whole numbers from 0 to {most}, and -1 for missing"
    if array.ndim == 2:
        what = "attributes are 0, 1, and -1 for missing (classes are [N], not [N, A])"
    wrong = (array < MISSING) | (array > most)
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), MISSING, array)
        wrong = (array < MISSING) | (array > most) | (array != np.floor(array))
    row = first_row(wrong)
    if row is not None:
        raise InputError(f"{where}: row {row} is {shown(array[row].tolist())}; {what}")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
