"""Labels of new data by the numbers that a model has for their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.checks import hint, shown
from ..data.class_words import clean_word
from ..data.label_values import label_values
from ..data.label_words import class_places, named_numbers
from ..data.labels_csv import Table
from ..data.notices import say
from ..errors import InputError
from ..labels import MISSING, AttributeLabels, ClassLabels, Labels


def array_labels(y: np.ndarray, names: np.ndarray | None, labels: Labels | None, where: str) -> Tensor | None:
    """Return labels by the model's numbers: of words, or of numbers with or without the file's own ``names``.

    :raises InputError: a class or attribute that the model lacks, or another shape.
    """
    if labels is None:
        return None
    words = None if names is None else [clean_word(str(name), where) for name in names.tolist()]
    if y.dtype.kind in "US" and isinstance(labels, ClassLabels) and y.ndim == 1:
        return checked_labels(labels, label_values(y, labels, where), where)
    if y.dtype.kind not in "biuf":
        raise InputError(f"{where}: {y.dtype} {list(y.shape)}; labels as the model has them are needed")
    if words is None:
        y = named_numbers(y, labels, where, table=True)
    whole = torch.from_numpy(np.nan_to_num(y, nan=MISSING) if y.dtype.kind == "f" else y.astype(np.int64))
    if words is None:
        return checked_labels(labels, whole, where)
    own: Labels = ClassLabels(len(words), words) if y.ndim == 1 else AttributeLabels(words)
    return renumbered(labels, checked_labels(own, whole, where), own, where)


def checked_labels(labels: Labels, y: Tensor, where: str) -> Tensor:
    """Return labels that ``labels`` takes; an error names where they are from."""
    try:
        return labels.check(y, len(y))
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('y: ')}") from None


def renumbered(labels: Labels, y: Tensor, own: Labels, where: str) -> Tensor:
    """Return labels of data by the numbers that a model has for their names.

    :param own: what ``y`` means.
    :raises InputError: a known label of a class, or an attribute, that the model lacks.
    """
    names, known = list(own.names), list(labels.names)
    if isinstance(labels, ClassLabels) != isinstance(own, ClassLabels):
        raise InputError(f"{where}: labels {', '.join(names)[:200]}; the model's differ")
    if isinstance(labels, AttributeLabels):
        for name in names:
            if name not in known:
                raise InputError(f"{where}: attribute {shown(name)} is none of the model's{hint(name, known)}")
        result = labels.check(None, len(y))
        result[:, [known.index(name) for name in names]] = y
        return result
    places = class_places(names, known)
    for k in y[y != MISSING].unique().tolist():
        if places[k] is None:
            raise InputError(f"{where}: class {shown(names[k])} is none of the model's{hint(names[k], known)}")
    numbers = [MISSING if place is None else place for place in places]
    return torch.where(y == MISSING, y, torch.tensor(numbers)[y.clamp_min(0)])


def folder_labels(folder: Path, table: Table, listed: bool, labels: Labels | None) -> Tensor | None:
    """Return the labels of a folder's images, as training reads them; None where there are none.

    :param table: of the images, by ``labels.csv`` or by their folders.
    :param listed: by ``labels.csv``.
    """
    if labels is None:
        return None
    if listed:
        return renumbered(labels, table.y, table.labels, str(folder))
    if not isinstance(labels, ClassLabels) or not bool((table.y != MISSING).any()):
        return None
    if not any(place is not None for place in class_places(table.labels.names, labels.names)):
        say(f"{folder}: none of its folders is named as a class of the model: no labels are taken from them")
        return None
    return renumbered(labels, table.y, table.labels, f"{folder}: folders")
