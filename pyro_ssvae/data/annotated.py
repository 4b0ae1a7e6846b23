"""Annotated count matrices, ``.h5ad``: cells by genes, as AnnData and scanpy keep them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..labels import MISSING, AttributeLabels, ClassLabels, Labels
from .checks import finite, reason, shown
from .class_words import check_classes, class_labels, encode_words, means_missing
from .containers import column_of, unpack
from .dataset import Dataset
from .foreign_types import Annotated
from .frames import float_array, in_order
from .label_values import is_gap, label_values
from .label_words import VALUES
from .notices import say
from .pair_order import Points, columns_of
from .splits import held_out_words, split_rows
from .streaming import Streamed

TRAINED_ON = "the columns that the model was trained on"


def is_annotated(path: str | Path) -> bool:
    """Whether a file's ending is that of an annotated matrix."""
    return Path(path).suffix.lower() == ".h5ad"


def load_h5ad(path: Path, target: Sequence[str] = ()) -> Dataset:
    """Return the data set of an annotated matrix: x its ``X``, as float32, and y a column of ``obs``.

    A stratified fifth of the rows is held out for the test.

    :param target: the column of classes, by any words; several are attributes; none leaves all labels missing.
    :raises InputError: naming the file, the column, or the package that reads it.
    """
    matrix = read_h5ad(path)
    points = points_of(matrix, path)
    x = points.read_all() if isinstance(points, Streamed) else points
    y, labels = targets(matrix, target, len(x), path)
    if len(x) < 2:
        raise InputError(f"{path}: 1 row; at least 2 are needed, since one is held out")
    rows, held = split_rows(y)
    say(f"{path}: {held_out_words(y, held)}")
    names = [str(name) for name in matrix.obs_names]
    ids, ids_test = (tuple(names[row] for row in part.tolist()) for part in (rows, held))
    return Dataset(
        path.stem, x[rows], y[rows], x[held], y[held], labels, columns=names_of_columns(matrix), ids=ids,
        ids_test=ids_test,
    )  # fmt: skip


def encode_h5ad(
    path: Path, columns: Sequence[str] | None, labels: Labels | None, target: Sequence[str] = ()
) -> tuple[Points, Tensor | None, list[str]]:
    """Return all points of an annotated matrix as a model takes them, their labels by its numbers, and their names.

    A matrix that is large once it is dense is made so some rows at a time.

    :param columns: the names of the columns that the model was trained on; None where they had none, and count by
        their place.
    :param target: the column of ``obs`` with the classes, or the columns of the attributes; labels are missing where
        the file has none.
    :raises InputError: naming the file, a column that is missing or new, or a label that the model lacks.
    """
    matrix = read_h5ad(path)
    points = points_of(matrix, path)
    order = None if columns is None else in_order(names_of_columns(matrix), columns, f"{path}: X", TRAINED_ON)
    if order is not None:
        points = columns_of(points, order)
    return points, known_labels(matrix, labels, target, path), [str(name) for name in matrix.obs_names]


def points_of(matrix: Annotated, path: Path) -> Points:
    """Return ``X`` as float32, NaN where an entry is missing; a large sparse one is made dense when it is read.

    :raises InputError: no ``X``, no row, or a value that is no number.
    """
    if matrix.X is None:
        raise InputError(f"{path}: it has no X; a matrix of observations by variables is needed there")
    found = unpack(matrix).x
    if isinstance(found, Streamed):
        return found
    values = float_array(np.asarray(found), f"{path}: X")
    if values.ndim != 2 or not values.size:
        raise InputError(f"{path}: X is {shown(list(values.shape))}; at least one row and one column are needed")
    return finite(values, f"{path}: X", missing=True)


def names_of_columns(matrix: Annotated) -> tuple[str, ...]:
    """Return the names of the variables."""
    return tuple(str(name) for name in matrix.var_names)


def read_h5ad(path: Path) -> Annotated:
    """Return the annotated matrix in a file."""
    try:
        from anndata import read_h5ad as read
    except ImportError:
        raise InputError(f"{path}: pip install 'pyro_ssvae[h5ad]', which reads it (anndata)") from None
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        matrix: Annotated = read(path)
    except Exception as error:  # h5py and anndata have many
        raise InputError(f"{path}: not an h5ad file, or a damaged one ({reason(error)})") from None
    return matrix


def targets(matrix: Annotated, target: Sequence[str], n: int, path: Path) -> tuple[Tensor, Labels]:
    """Return the labels in the columns of ``obs`` that are named, and what they mean."""
    if not target:
        names = ", ".join(shown(str(name)) for name in list(matrix.obs.columns)[:8])
        say(f"{path}: --target names no column of obs ({names}): no row has a label")
        return torch.full((n,), MISSING), class_labels([])
    columns = [column_of(matrix.obs, name, f"{path}: obs") for name in target]
    if len(target) == 1:
        (y,), found = encode_words([words_of(columns[0])], None, f"{path}: obs {shown(target[0])}", "rename it")
        check_classes(len(found), int((y != MISSING).sum()), f"{path}: obs {shown(target[0])}", say)
        return y, class_labels(found)
    words = [words_of(column) for column in columns]
    labels = AttributeLabels(target, [pair_of(w, f"{path}: obs {shown(name)}") for name, w in zip(target, words)])
    values = np.array(words, dtype=object).T
    return labels.check(label_values(values, labels, f"{path}: obs")), labels


def known_labels(matrix: Annotated, labels: Labels | None, target: Sequence[str], path: Path) -> Tensor | None:
    """Return the labels of new points by a model's numbers; None where ``obs`` has no column of them."""
    there = {str(name) for name in matrix.obs.columns}
    named = [name for name in target if name in there]
    if labels is None or not named:
        return None
    columns = [column_of(matrix.obs, name, f"{path}: obs") for name in named]
    if isinstance(labels, ClassLabels):
        (y,), _ = encode_words([words_of(columns[0])], labels.names, f"{path}: obs {shown(named[0])}", "rename it")
        return y
    known = [name for name in named if name in labels.names]
    values = np.array([words_of(columns[named.index(name)]) for name in known], dtype=object).T
    y = labels.check(None, len(values))
    own = AttributeLabels(known, [labels.words[list(labels.names).index(name)] for name in known])
    y[:, [list(labels.names).index(name) for name in known]] = own.check(label_values(values, own, f"{path}: obs"))
    return y


def pair_of(words: Sequence[str], where: str) -> tuple[str, str]:
    """Return the two words of an attribute, the one that means no first; 0 and 1 where only one of them is there.

    :raises InputError: other words, or more.
    """
    found = sorted({word for word in words if word and not means_missing(word, ())})
    if len(found) == 2:
        from .column_kinds import in_order as no_first  # pandas

        zero, one = no_first(found)
        return zero, one
    if all(word.lower() in VALUES for word in found):
        return "0", "1"
    some = ", ".join(map(shown, found[:3]))
    raise InputError(f"{where}: {len(found)} different words ({some} …); of several targets each has two, such as no "
                     "and yes")  # fmt: skip


def words_of(column: object) -> list[str]:
    """Return a column's cells as words, empty where one is missing; whole numbers without a decimal point."""

    def word(cell: object) -> str:
        if is_gap(cell):
            return ""
        return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)

    return [word(cell) for cell in np.asarray(column, dtype=object).tolist()]
