"""Annotated count matrices, ``.h5ad``: cells by genes, as AnnData and scanpy keep them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..labels import MISSING, AttributeLabels, Labels
from .checks import class_labels, encode_words, finite, reason, shown
from .containers import Annotated, column_of, unpack
from .dataset import Dataset
from .frames import float_array
from .label_values import is_gap, label_values
from .notices import say
from .splits import known_rows, split_rows


def load_h5ad(path: Path, target: Sequence[str] = ()) -> Dataset:
    """Return the data set of an annotated matrix: x its ``X``, as float32, and y a column of ``obs``.

    A stratified fifth of the rows is held out for the test.

    :param target: the column of classes, by any words; several are attributes; none leaves all labels missing.
    :raises InputError: naming the file, the column, or the package that reads it.
    """
    matrix = read_h5ad(path)
    given = unpack(matrix)
    values = given.x if isinstance(given.x, (Tensor, np.ndarray)) else None
    if values is None:
        raise InputError(f"{path}: X is too large to be held as a dense matrix; a part of its columns is needed")
    x = finite(float_array(np.asarray(values), f"{path}: X"), f"{path}: X", missing=True)
    y, labels = targets(matrix, target, len(x), path)
    if len(x) < 2:
        raise InputError(f"{path}: 1 row; at least 2 are needed, since one is held out")
    rows, held = split_rows(y)
    labelled = int(known_rows(y[held]).sum())
    say(f"{path}: {len(held)} of {len(x)} rows are held out for the test, {labelled} of them with a label")
    return Dataset(path.stem, x[rows], y[rows], x[held], y[held], labels)


def read_h5ad(path: Path) -> Annotated:
    """Return the annotated matrix in a file."""
    try:
        from anndata import read_h5ad as read
    except ImportError:
        raise InputError(f"{path}: pip install anndata, which reads it") from None
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
        words = ["" if is_gap(cell) else str(cell) for cell in np.asarray(columns[0], dtype=object).tolist()]
        (y,), found = encode_words([words], None, f"{path}: obs {shown(target[0])}", "rename it")
        return y, class_labels(found)
    labels = AttributeLabels(target)
    values = np.stack([np.asarray(column, dtype=object) for column in columns], -1)
    return labels.check(label_values(values, labels, f"{path}: obs")), labels
