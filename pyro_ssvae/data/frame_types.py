"""What the tables and arrays of other libraries look like."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@runtime_checkable
class Frame(Protocol):
    """A table with named columns, of pandas, polars or a like library."""

    @property
    def columns(self) -> Collection[object]: ...
    @property
    def dtypes(self) -> Iterable[object]: ...
    def to_numpy(self) -> np.ndarray: ...
    def __getitem__(self, columns: list[object]) -> Frame: ...
    def __len__(self) -> int: ...


@runtime_checkable
class Indexed(Protocol):
    """What pandas has names for the rows of."""

    @property
    def index(self) -> Index: ...


@runtime_checkable
class Index(Protocol):
    """Names of rows."""

    def equals(self, other: object) -> bool: ...
    def isin(self, values: object) -> np.ndarray: ...
    def __len__(self) -> int: ...


@runtime_checkable
class ArrowTable(Protocol):
    """A table of pyarrow."""

    @property
    def schema(self) -> object: ...
    @property
    def column_names(self) -> Sequence[str]: ...
    def to_pandas(self) -> Frame: ...


@runtime_checkable
class HasArrow(Protocol):
    """A table that gives itself as pyarrow has it."""

    def to_arrow(self) -> ArrowTable: ...


@runtime_checkable
class HasPandas(Protocol):
    """A table that gives itself as pandas has it."""

    def to_pandas(self) -> pd.DataFrame: ...


@runtime_checkable
class Computed(Protocol):
    """A table, or a column of one, that is computed when it is needed, as dask has it."""

    @property
    def columns(self) -> Collection[object]: ...
    def compute(self) -> object: ...


@runtime_checkable
class Collected(Protocol):
    """A table that is read when it is needed, as polars has it."""

    def collect(self) -> object: ...
    def collect_schema(self) -> object: ...


@runtime_checkable
class NamedArray(Protocol):
    """An array whose axes may have names at each place, as xarray has it."""

    @property
    def dims(self) -> Sequence[object]: ...
    @property
    def coords(self) -> Collection[object]: ...
    @property
    def ndim(self) -> int: ...
    def to_pandas(self) -> object: ...


@runtime_checkable
class StructColumn(Protocol):
    """A column of a table of polars, whose cells may be rows of named values."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> object: ...
    def to_frame(self) -> StructFrame: ...


class StructFrame(Protocol):
    """A table with such a column."""

    def unnest(self, columns: str) -> Frame: ...


@runtime_checkable
class StructType(Protocol):
    """The type of such a column."""

    @property
    def fields(self) -> Collection[object]: ...
    def to_schema(self) -> object: ...


@runtime_checkable
class Column(Protocol):
    """A column of a table."""

    def to_numpy(self) -> np.ndarray: ...


@runtime_checkable
class HasArray(Protocol):
    """What NumPy makes an array of."""

    def __array__(self) -> np.ndarray: ...
