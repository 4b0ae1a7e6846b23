"""What the containers of other libraries look like: sparse and annotated matrices, data sets, pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from .frame_types import Frame


@runtime_checkable
class SparseMatrix(Protocol):
    """A sparse matrix or array of SciPy."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nnz(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...
    def tocsr(self) -> SparseRows: ...
    def toarray(self) -> np.ndarray: ...


class SparseRows(SparseMatrix, Protocol):
    """One that gives some of its rows."""

    def __getitem__(self, rows: np.ndarray) -> SparseMatrix: ...


@runtime_checkable
class SparseFile(Protocol):
    """A sparse matrix that stays in its file, as AnnData's ``backed`` has it."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    def to_memory(self) -> SparseMatrix: ...
    def __getitem__(self, rows: np.ndarray) -> SparseMatrix: ...


@runtime_checkable
class Annotated(Protocol):
    """An annotated matrix, as AnnData has it: observations by variables."""

    @property
    def X(self) -> object: ...  # noqa: N802
    @property
    def obs(self) -> Frame: ...
    @property
    def obs_names(self) -> Iterable[object]: ...
    @property
    def var_names(self) -> Iterable[object]: ...


@runtime_checkable
class HuggingFace(Protocol):
    """A data set of Hugging Face's ``datasets``."""

    @property
    def features(self) -> Mapping[str, object]: ...
    @property
    def column_names(self) -> Sequence[str]: ...
    def with_format(self, type: str) -> HuggingFace: ...
    def __getitem__(self, rows: slice) -> Mapping[str, object]: ...
    def __len__(self) -> int: ...


@runtime_checkable
class HasNames(Protocol):
    """A feature of classes that have names, of Hugging Face."""

    @property
    def names(self) -> Sequence[str]: ...


@runtime_checkable
class HasClasses(Protocol):
    """A data set that says what its classes are called, as torchvision's do."""

    @property
    def classes(self) -> Sequence[str]: ...


@runtime_checkable
class PartOf(Protocol):
    """A part of another data set, as ``random_split`` gives it."""

    @property
    def dataset(self) -> object: ...


@runtime_checkable
class MadeOf(Protocol):
    """Several data sets as one."""

    @property
    def datasets(self) -> Sequence[object]: ...


@runtime_checkable
class Picture(Protocol):
    """An image of Pillow."""

    @property
    def mode(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    def convert(self, mode: str) -> object: ...
