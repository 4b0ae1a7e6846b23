"""Columns of dates, periods, times and decimal numbers in types that a data frame has no columns of its own for."""

from __future__ import annotations

import contextlib
import datetime
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

EPOCH = datetime.date(1970, 1, 1).toordinal()


def arrow_frame(table: pa.Table, **options: bool) -> pd.DataFrame:
    """Return a table of pyarrow as a data frame; the levels of an index that has names are columns.

    Whole numbers beside gaps keep digits that a float has no place for.

    :param options: of ``to_pandas``.
    """
    import pyarrow as pa
    from pyarrow import compute

    def is_large(column: pa.ChunkedArray) -> bool:
        return bool(compute.any(compute.greater(compute.abs(column.cast(pa.float64(), safe=False)), 2.0**53)).as_py())

    types = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype()}
    large = any(column.null_count and column.type in types and is_large(column) for column in table.columns)
    frame: pd.DataFrame = table.to_pandas(types_mapper=types.get if large else None, **options)
    return frame.reset_index() if any(name is not None for name in frame.index.names) else frame


def own_types(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a data frame whose dates are dates, whose periods are the dates that they begin at, whose decimals and
    fractions are floats, whose bytes are the words of UTF-8, and whose times are words such as ``07:30``."""
    objects = [
        i
        for i, dtype in enumerate(frame.dtypes)
        if pd.api.types.is_object_dtype(dtype) or isinstance(dtype, (pd.PeriodDtype, pd.ArrowDtype))
    ]
    found = {i: own_type(frame.iloc[:, i]) for i in objects}
    if all(cells is None for cells in found.values()):
        return frame
    frame = frame.copy(deep=False)
    for i, cells in found.items():
        if cells is not None:
            frame[frame.columns[i]] = cells
    return frame


def own_type(cells: pd.Series) -> pd.Series | None:
    """Return a column of periods, of pyarrow's dates and times, or of objects in its own type; None where they are
    anything else, or of several types."""
    if isinstance(cells.dtype, pd.ArrowDtype):
        import pyarrow as pa

        kind = cells.dtype.pyarrow_dtype
        if not (pa.types.is_temporal(kind) or pa.types.is_decimal(kind)):
            return None
        plain = pa.chunked_array(cells.array.__arrow_array__()).to_pandas().set_axis(cells.index)
        found = own_type(plain) if plain.dtype == object else plain
        return plain if found is None else found
    if isinstance(cells.dtype, pd.PeriodDtype):
        return cells.dt.to_timestamp()
    known = cells.dropna()
    if not len(known) or isinstance(known.iloc[0], str):
        return None
    kinds = set(map(type, known))
    if kinds & {Decimal, Fraction} and all(issubclass(k, (Decimal, Real)) and k is not bool for k in kinds):
        return cells.astype(np.float64)
    if kinds == {datetime.time}:
        whole = all(time.second == time.microsecond == 0 for time in known)
        return cells.map(lambda time: time.isoformat("minutes" if whole else "auto"), na_action="ignore")
    if kinds == {datetime.date}:
        days = cells.map(lambda day: day.toordinal(), na_action="ignore").astype(np.float64) - EPOCH
        dates = np.where(days.isna(), 0, days).astype("datetime64[D]").astype("datetime64[s]")
        return pd.Series(dates, index=cells.index).mask(days.isna())
    with contextlib.suppress(ValueError, OverflowError):  # years that pandas has no place for, words in other encodings
        if all(issubclass(kind, datetime.date) for kind in kinds):  # of several zones, or with and without a time
            zoned = any(isinstance(date, datetime.datetime) and date.tzinfo is not None for date in known)
            return pd.to_datetime(cells, utc=zoned)
        if kinds == {bytes}:
            return cells.map(bytes.decode, na_action="ignore")
    return None
