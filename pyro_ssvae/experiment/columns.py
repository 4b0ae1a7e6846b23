"""Labels and points as columns of a table, in the data's own words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from torch import Tensor

from ..data.tables import decode, whole_cells
from ..infer.protocols import Classifies, require
from ..labels import AttributeLabels, ClassLabels
from ..models import Model
from .new_points import Given

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Cells: TypeAlias = "np.ndarray | pd.Series"
Named: TypeAlias = "list[tuple[str, Cells]]"
PLACES = 6  # decimals


def as_table(found: dict[str, Cells]) -> pa.Table:
    """Return columns as a table; objects are words, whatever is missing among them."""
    import pyarrow as pa

    typed = {name: pa.string() if column.dtype == object else None for name, column in found.items()}
    return pa.table({name: pa.array(column, typed[name], from_pandas=True) for name, column in found.items()})


def put(found: dict[str, Cells], name: str, column: Cells) -> None:
    """Add a column; where its name is taken, under that name with an underscore."""
    while name in found:
        name += "_"
    found[name] = column


def rounded(values: Tensor) -> np.ndarray:
    """Numbers to six decimals."""
    return np.round(values.detach().cpu().double().numpy(), PLACES)


def class_columns(labels: ClassLabels, p: Tensor, sets: np.ndarray | None, y: Tensor | None) -> Named:
    """``label``, ``probability``, ``p_CLASS`` of each class, ``set`` and, where labels are given, ``known``."""
    names = np.array([*labels.names, None], dtype=object)
    top, best = p.max(-1)
    found: Named = [("label", names[best.numpy()]), ("probability", rounded(top))]
    found += [(f"p_{name}", column) for name, column in zip(labels.names, rounded(p).T)]
    if sets is not None:
        found.append(("set", set_words(sets, list(labels.names), "|")))
    if y is not None:
        found.append(("known", names[y.numpy()]))  # -1 is the last
    return found


def attribute_columns(labels: AttributeLabels, p: Tensor, sets: np.ndarray | None, y: Tensor | None) -> Named:
    """Of each attribute its value, ``p_ATTRIBUTE`` (the probability of 1), ``set_ATTRIBUTE``, ``known_ATTRIBUTE``."""
    found: Named = []
    for a, (name, pair) in enumerate(zip(labels.names, labels.words)):
        known = np.array([*pair, None], dtype=object)
        found += [(name, known[(p[:, a] > 0.5).long().numpy()]), (f"p_{name}", rounded(p[:, a]))]
        if sets is not None:
            found.append((f"set_{name}", set_words(sets[:, a], pair, "|")))
        if y is not None:
            found.append((f"known_{name}", known[y[:, a].numpy()]))
    return found


def set_words(sets: np.ndarray, names: Sequence[str], separator: str) -> np.ndarray:
    """Return each set's labels as words: ``cat|dog``; a separator in a name of its own is written ``\\|``."""
    if any(separator in name for name in names):
        names = [name.replace("\\", "\\\\").replace(separator, f"\\{separator}") for name in names]
    packed = np.packbits(sets, axis=1)
    codes, place = np.unique(packed, axis=0, return_inverse=True)
    members = np.unpackbits(codes, axis=1, count=len(names)).astype(bool)
    words = [separator.join(name for name, there in zip(names, row) if there) for row in members]
    return np.array(words, dtype=object)[place.reshape(-1)]


def point_columns(x: Tensor, model: Model, taken: Collection[str] = ()) -> dict[str, Cells]:
    """Return points as columns: in a table's own names and words, else numbered ``x0``, ``x1``, …

    :param model: that was trained on such points, and knows the names of their columns.
    :param taken: names that other columns have; one of them gets an underscore.
    """
    import pandas as pd

    values = x.detach().cpu().double().flatten(1).numpy().T
    names = model.column_names or [f"x{i}" for i in range(len(values))]
    named: dict[str, Cells] = {name: tidy(pd.Series(column)) for name, column in zip(names, values)}
    if model.schema is not None:
        frame = decode(x, model.schema)
        named = {column.name: tidy(frame[column.name], column.offset) for column in model.schema.columns}
    found: dict[str, Cells] = dict.fromkeys(taken, np.zeros(0))
    for name, column in named.items():
        put(found, name, column)
    return {name: column for name, column in found.items() if name not in taken}


def filled_columns(x: Tensor, model: Model, given: Given | None) -> dict[str, Cells]:
    """Return points whose gaps are filled as :func:`point_columns` does, each cell that was given as it stood."""
    found = point_columns(x, model)
    if given is None:
        return found
    return {name: filled(cells, column) for (name, column), cells in zip(found.items(), given)}


def filled(cells: pd.Series, column: Cells) -> pd.Series:
    """Return a column's own cells, and others where it has none."""
    import pandas as pd

    gaps = cells.isna().to_numpy()
    if not gaps.any():
        return cells
    full, others = cells.reset_index(drop=True), pd.Series(column)
    if full.dtype == "Int64":
        others = whole_cells(others.to_numpy(np.float64, na_value=np.nan))
        full = full.astype(others.dtype)
    full[gaps] = others[gaps].astype(full.dtype)
    return full


def tidy(column: pd.Series, offset: float = 0.0) -> pd.Series:
    """Return numbers without the digits that float32 does not have; any other column as it is.

    :param offset: was added to numbers of float32.
    """
    if column.dtype != np.float64:
        return column
    shortest = (column - offset).to_numpy(np.float32).astype(str).astype(np.float64)
    return column.where(column.isna(), shortest + offset)


def label_words(model: Model, y: Tensor) -> dict[str, Cells]:
    """Return known labels as columns: ``label``, or each attribute, an empty cell where it is missing."""
    labels = require(model, Classifies).labels
    if isinstance(labels, ClassLabels):
        name = "label" if model.schema is None or not model.schema.targets else model.schema.targets[0].name
        return {name: np.array([*labels.names, None], dtype=object)[y.numpy()]}
    return {
        name: np.array([*pair, None], dtype=object)[y[:, a].numpy()]
        for a, (name, pair) in enumerate(zip(labels.names, labels.words))
    }
