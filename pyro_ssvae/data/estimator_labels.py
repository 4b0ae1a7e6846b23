"""Labels as scikit-learn's users hold them: words or numbers, None, NaN or -1 where missing."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets

from ..errors import InputError, counted
from ..labels import MISSING
from .class_words import NO_LABEL, case_variants, maybe_missing, means_missing
from .frames import float_array, plain_array, unmasked
from .inputs import numbers
from .label_values import is_gap
from .layouts import CHANNELS


def as_array(x: ArrayLike) -> ArrayLike:
    """Return tensors as arrays, a column of lists or arrays as rows, and masked entries and NA among objects as NaN;
    anything else as it is."""
    if isinstance(x, torch.Tensor):
        x = numbers(x, "X").cpu()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    if isinstance(x, pd.DataFrame) and any(map(pd.api.types.is_object_dtype, x.dtypes)):
        return x.where(x.notna(), np.nan)
    if isinstance(x, pd.Series):
        return plain_array(x, "X")
    return float_array(x, "X") if isinstance(x, np.ma.MaskedArray) else x


def as_rows(x: ArrayLike, shape: tuple[int, ...]) -> ArrayLike:
    """Return points ``[N, *shape]`` as rows ``[N, D]``; anything else as it is.

    :param shape: of a point, empty where none was asked for; the axis of one channel may be left out, channels may be
        the last axis.
    :raises InputError: points of more dimensions, of another shape.
    """
    if not isinstance(x, np.ndarray) or x.ndim < 3:
        return x
    own = x.shape[1:]
    if own == shape or (shape[:1] == (1,) and own == shape[1:]):
        return x.reshape(len(x), -1)
    if shape and own == (*shape[1:], shape[0]):
        return np.moveaxis(x, -1, 1).reshape(len(x), -1)
    channels = next((c for c in CHANNELS if c in (own[0], own[-1])), own[0])
    last = len(own) == 3 and own[0] != channels
    point = (1, *own) if len(own) == 2 else (own[-1], *own[:-1]) if last else own
    raise InputError(f"X: shape {list(x.shape)}; rows [N, D] are needed, or points and their input_shape, such as "
                     f"input_shape={point}")  # fmt: skip


def label_column(y: ArrayLike) -> NDArray[Any]:
    """Return labels ``[N]`` as an array, objects where some may be missing among whole numbers.

    :raises InputError: y is no column.
    """
    column: NDArray[Any]
    if isinstance(y, (pd.Series, pd.DataFrame, pd.api.extensions.ExtensionArray)):
        dtypes = y.dtypes if isinstance(y, pd.DataFrame) else [y.dtype]
        nullable = any(map(pd.api.types.is_extension_array_dtype, dtypes))  # whole numbers with gaps stay whole
        column = np.asarray(y.astype(object) if nullable else y)
    elif isinstance(y, np.ma.MaskedArray):
        column = unmasked(y)
    else:
        column = np.array(y, dtype=object) if isinstance(y, (list, tuple)) else np.asarray(as_array(y))
    if column.ndim == 2 and column.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected. Please change the shape of y to (n_samples,).",
            DataConversionWarning,
            stacklevel=3,
        )
        column = column[:, 0]
    if column.ndim != 1:
        one_hot = "y.idxmax(1)" if isinstance(y, pd.DataFrame) else "y.argmax(1)"
        raise InputError(f"y: bad input shape {list(column.shape)}; one label a row, [N], is needed, which {one_hot} "
                         "makes of a column for each class")  # fmt: skip
    if np.iscomplexobj(column):
        raise InputError("y: complex numbers; classes are needed")
    for row, value in enumerate(column if column.dtype == object else ()):
        if isinstance(value, Collection) and not are_words(value):
            raise InputError(
                f"y: row {row} is {str(value)[:80]}, a {type(value).__name__}; a word or a number is needed"
            )
    return column


def encode_labels(y: NDArray[Any], n: int, missing_label: object) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the classes, sorted, and each row's class as a number, -1 where it is missing.

    :raises InputError: another number of rows than ``n``, no label, or numbers that are no classes.
    """
    if len(y) != n:
        raise InputError(f"y: {counted(len(y), 'row')}, but X has {n}; both need the same number")
    missing = missing_rows(y, missing_label)
    known = y[~missing]
    if not len(known):
        raise InputError("y: no label is known, all are NaN, None or missing_label; at least one is needed")
    if known.dtype == object:
        kinds = {type(value) for value in known}
        known = known.astype(str) if kinds <= {str, np.str_} else np.array(list(known))
        if not all(isinstance(v, (str, bytes)) for v in y[~missing]) and known.dtype.kind in "US":
            row = next(i for i in np.flatnonzero(~missing) if not isinstance(y[i], str))
            raise InputError(f"y: row {row} is {y[row]!r}, among words; labels of one kind are needed")
    check_classification_targets(known)
    classes, found = np.unique(known, return_inverse=True)
    if isinstance(missing_label, str) and missing_label == "auto":
        names = [str(name) for name in classes.tolist()]
        if variants := case_variants(names):
            say(f"y: {variants}")
        if words := maybe_missing(names):
            say(f"y: {words} is taken for a class; missing_label says what is a missing label, None that none is")
    codes = np.full(n, MISSING, dtype=np.int64)
    codes[~missing] = found
    return classes, codes


def missing_rows(y: NDArray[Any], missing_label: object, classes: set[object] | None = None) -> NDArray[np.bool_]:
    """Return which labels are missing ``[N]``: None, NaN, and what ``missing_label`` says.

    :param classes: of a trained estimator, which are labels whatever they are; None has a warning say what was taken
        for what.
    """
    missing = np.asarray(pd.isna(y), dtype=bool)
    known = set(y[~missing].tolist())
    if not known or is_gap(missing_label):
        return missing
    if not (isinstance(missing_label, str) and missing_label == "auto"):
        return missing | np.array([not gone and value == missing_label for value, gone in zip(y, missing)], dtype=bool)
    learnt = classes or set()
    signs = classes is None and known in ({MISSING, 1}, {str(MISSING), "1"})
    words = {value for value in known - learnt if isinstance(value, str) and means_missing(value, ())}
    values = {value for value in known - learnt if not are_words(value) and value == MISSING}
    if classes is None and words - NO_LABEL:
        told = ", ".join(map(repr, sorted(words - NO_LABEL)))
        say(f"y: {told} is taken as a missing label; missing_label=None makes a class of it")
    if classes is None and known == {MISSING, 0, 1} and (count := int((y == MISSING).sum())) <= (~missing).sum() / 2:
        say(f"y: -1 ({counted(count, 'row')}) is taken as a missing label; missing_label=None makes a class of it")
    gone = words | values
    if signs:
        (sign,) = gone
        say(f"y: -1 and 1 are all that it holds, so both are classes; missing_label={sign!r} makes -1 a missing label")
        gone = set()
    return missing | np.array([value in gone for value in y.tolist()], dtype=bool)


def are_words(label: object) -> bool:
    """Whether a label is a word, not a number."""
    return isinstance(label, (str, bytes))


def say(line: str) -> None:
    """Warn of how labels were read."""
    warnings.warn(line, UserWarning, stacklevel=5)
