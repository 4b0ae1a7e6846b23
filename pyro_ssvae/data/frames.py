"""Tables and arrays of any library as plain arrays, and columns put in order by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from ..errors import InputError
from .array_names import X_NAMES
from .checks import hint, shown
from .frame_types import (
    ArrowTable,
    Collected,
    Column,
    Computed,
    Frame,
    HasArray,
    HasArrow,
    HasPandas,
    Index,
    Indexed,
    NamedArray,
    StructColumn,
    StructType,
)

if TYPE_CHECKING:
    import pandas as pd


def with_names(values: object) -> object:
    """Return anything else that has names for its columns as a :class:`Frame`: a table of pyarrow, one that dask or
    polars reads when it is needed, a column of structures, an array of xarray, a list of records or a dict of columns.
    What is none of these stays as it is."""
    if isinstance(values, Collected):
        return values.collect()
    if isinstance(values, (np.ndarray, Frame)):
        return values
    if isinstance(values, ArrowTable):
        from .own_types import arrow_frame  # pandas, where there is a table

        return arrow_frame(values)
    if isinstance(values, Computed):
        return values.compute()
    if isinstance(values, NamedArray):
        return values.to_pandas() if values.ndim == 2 and values.dims[1] in values.coords else values
    if isinstance(values, StructColumn) and isinstance(values.dtype, StructType):
        return values.to_frame().unnest(values.name)
    if isinstance(values, (list, tuple)) and any(isinstance(row, Mapping) for row in values):
        return of_records(values)
    return of_columns(values) if isinstance(values, Mapping) else values


def of_records(rows: Sequence[object]) -> object:
    """Return records, rows of cells by their columns' names, as a table, None as a row of gaps; what has other things
    than cells stays as it is."""
    import pandas as pd

    known = [{} if row is None else row for row in rows]
    cells = all(isinstance(row, Mapping) and all(map(pd.api.types.is_scalar, row.values())) for row in known)
    return pd.DataFrame(known) if cells else rows


def of_columns(columns: Mapping[object, object]) -> object:
    """Return columns of cells by their names as a table; points by theirs, and other things, stay as they are."""
    import pandas as pd

    lists = [column.tolist() if isinstance(column, (np.ndarray, pd.Series)) else column for column in columns.values()]
    cells = all(isinstance(cells, (list, tuple)) and all(map(pd.api.types.is_scalar, cells)) for cells in lists)
    if not lists or not cells or len({len(cast(list[object], each)) for each in lists}) > 1 or {*columns} & {*X_NAMES}:
        return columns
    return pd.DataFrame(columns)


def pandas_frame(table: object) -> pd.DataFrame | None:
    """Return a table of pandas, polars, pyarrow or a like library as pandas has it; None of anything else."""
    import pandas as pd

    from .own_types import arrow_frame

    table = with_names(table)
    if isinstance(table, pd.DataFrame):
        return table
    if not isinstance(table, Frame):
        return None
    if isinstance(table, HasArrow):
        return arrow_frame(table.to_arrow())
    if isinstance(table, HasPandas):
        return table.to_pandas()
    return pd.DataFrame({str(name): np.asarray(table[[name]])[:, 0] for name in table.columns})


def names_of(frame: Frame) -> tuple[str, ...] | None:
    """Return the names of a table's columns; None where they count from 0, as of a table made of an array."""
    columns = list(frame.columns)
    if columns == list(range(len(columns))):
        return None
    return tuple(str(name) for name in columns)


def in_order(names: Sequence[str], known: Sequence[str], where: str, what: str) -> list[int] | None:
    """Return the place of each known column among ``names``; None where they are in order.

    :param what: whose columns the known ones are, in words.
    :raises InputError: naming the columns that are missing, new or there twice.
    """
    if tuple(names) == tuple(known):
        return None
    twice = sorted({name for name in names if list(names).count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InputError(f"{where}: column {shown(twice[0])} is there twice; each needs a name of its own")
    have, want = set(names), set(known)
    missing = [name for name in known if name not in have]
    new = [name for name in names if name not in want]
    if missing:
        close = hint(missing[0], new) if new else ""
        raise InputError(f"{where}: no column {listed(missing)}; {what} are needed, by name{close}")
    if new:
        raise InputError(f"{where}: column {listed(new)} is none of {what}; leave it out")
    place = {name: i for i, name in enumerate(names)}
    return [place[name] for name in known]


def listed(names: Sequence[str]) -> str:
    """Return the first three names for a message, and how many more there are."""
    more = f" (and {len(names) - 3} more)" if len(names) > 3 else ""
    return ", ".join(shown(name) for name in names[:3]) + more


def same_rows(x: object, y: object) -> None:
    """Raise :class:`InputError` where points and labels have the same rows, by their index, in another order."""
    if not isinstance(x, Indexed) or not isinstance(y, Indexed):
        return
    one, other = x.index, y.index
    if not (isinstance(one, Index) and isinstance(other, Index)):  # a list's index is a method
        return
    if len(one) == len(other) and not one.equals(other) and bool(one.isin(other).all()):
        raise InputError("y: its rows have x's index in another order; y.loc[x.index] puts them in x's")


def record_columns(records: np.ndarray, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a record array as a matrix, and the names of its columns."""
    names = records.dtype.names or ()
    if wide := [name for name in names if records.dtype[name].shape]:
        size = shown(list(records.dtype[wide[0]].shape))
        raise InputError(f"{where}: field {shown(wide[0])} has {size} values a row; one is needed")
    return np.stack([plain_array(records[name], where) for name in names], -1), tuple(names)


def plain_array(values: object, where: str) -> np.ndarray:
    """Return an array of what NumPy, pandas, polars, PyTorch or nested lists have; of a column of lists or arrays, such
    as embeddings, with their axes behind its own.

    :raises InputError: lists of different lengths, or nothing of the kind.
    """
    if isinstance(values, np.ndarray):
        return unnested(values, where)
    none = InputError(f"{where}: a {type(values).__name__}; a tensor, an array, a list or a table is needed")
    if isinstance(values, (set, frozenset, dict)) or values is None:
        raise none
    try:
        if isinstance(values, Column) and not isinstance(values, HasArray):  # pyarrow's to_numpy refuses to copy
            values = values.to_numpy()
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        words = str(error).splitlines()[0][:200]
        if "inhomogeneous" in words:
            words = "its parts have different lengths; points and their labels are x and y, each by itself"
        raise InputError(f"{where}: not a tensor or an array of numbers ({words})") from None
    if array.dtype.kind in "OUS" and not array.ndim and not isinstance(values, np.ndarray):  # a thing, and no array
        raise none
    return unnested(array, where)


def unnested(array: np.ndarray, where: str) -> np.ndarray:
    """Return cells ``[N]`` that are lists or arrays of one shape as an array ``[N, ...]``; any other array as it is.

    :raises InputError: naming the first row of another shape.
    """
    cells = (
        array.tolist() if array.dtype == object and array.ndim == 1 and not isinstance(array, np.ma.MaskedArray) else []
    )
    if not cells or not all(isinstance(cell, (list, tuple, HasArray)) and np.ndim(cell) for cell in cells):
        return array
    parts = [np.asarray(cell) for cell in cells]
    other = next((row for row, part in enumerate(parts) if part.shape != parts[0].shape), None)
    if other is not None:
        shapes = f"shape {list(parts[other].shape)}, row 0 {list(parts[0].shape)}"
        raise InputError(f"{where}: row {other} has {shapes}; one shape is needed")
    return np.stack(parts)


def unmasked(array: np.ma.MaskedArray) -> np.ndarray:
    """Return a masked array as objects, None where an entry is masked."""
    objects = np.array(array.data, dtype=object)
    objects[np.ma.getmaskarray(array)] = None
    return objects


def float_array(array: np.ndarray, where: str, names: Sequence[str] | None = None) -> np.ndarray:
    """Return numbers that PyTorch takes, in memory of their own order: NaN where an object is None or NA.

    :param names: of the columns, for what is said of a cell.
    :raises InputError: naming the first cell that is no number.
    """
    if isinstance(array, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(array)
        if masked.any():
            filled = np.asarray(array.data).astype(np.result_type(array.dtype, np.float32))
            filled[masked] = np.nan
            array = filled
        else:
            array = np.asarray(array.data)
    if array.dtype.kind in "OUS":
        array = from_cells(array.astype(object), where if array.dtype.kind == "O" else f"{where}: words", names)
    if array.dtype.kind not in "biuf":
        what = {"M": "dates", "m": "durations", "c": "complex numbers"}
        raise InputError(f"{where}: {what.get(array.dtype.kind, str(array.dtype))}; an array of numbers is needed")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.float32 if array.dtype.itemsize == 2 else np.float64)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    strided = all(step > 0 or size < 2 for step, size in zip(array.strides, array.shape)) and array.flags.aligned
    return array if strided and array.flags.writeable else np.array(array, order="C")


def from_cells(array: np.ndarray, where: str, names: Sequence[str] | None) -> np.ndarray:
    """Return objects as numbers, words that are one too; NaN for None and NA."""
    try:
        return np.asarray(array.astype(np.float64))  # None becomes NaN
    except (TypeError, ValueError):
        pass
    found = np.empty(array.size)
    for i, cell in enumerate(array.ravel().tolist()):
        try:
            gap = cell is None or type(cell).__name__ in ("NAType", "NaTType")
            found[i] = np.nan if gap else float(cell)
        except (TypeError, ValueError):
            row, *rest = (int(k) for k in np.unravel_index(i, array.shape))
            name = shown(names[rest[0]]) if names and rest else ", ".join(map(str, rest))
            place = f"row {row}, column {name}" if rest else f"row {row}"
            words = "; ps.data.read_table makes numbers of words" if isinstance(cell, str) else ""
            raise InputError(f"{where}: {place} is {shown(cell)}; a number is needed{words}") from None
    return found.reshape(array.shape)
