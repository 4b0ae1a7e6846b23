"""Points in arrays of Zarr, which are read a chunk of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np

from ..errors import InputError
from .array_names import by_usual_names
from .checks import reason, shown
from .parts import by_parts
from .row_groups import LARGEST
from .streaming import Streamed

MARKS = ("zarr.json", ".zarray", ".zgroup")
"""Files that make a folder an array or a group of Zarr."""


@runtime_checkable
class ZarrArray(Protocol):
    """An array of Zarr."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def chunks(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def store(self) -> object: ...
    @property
    def fill_value(self) -> object: ...
    def __getitem__(self, rows: slice) -> np.ndarray: ...


@runtime_checkable
class ZarrGroup(Protocol):
    """A group of arrays of Zarr."""

    def array_keys(self) -> Iterable[str]: ...
    def __getitem__(self, name: str) -> ZarrArray: ...


def is_zarr(path: Path) -> bool:
    """Whether a path is that of an array or a group of Zarr."""
    return path.suffix.lower() == ".zarr" or any((path / mark).exists() for mark in MARKS)


def open_zarr(path: Path) -> tuple[Streamed, np.ndarray | None]:
    """Return the points of an array, or of a group's array ``x``, and the labels of its array ``y``.

    :raises InputError: no Zarr here or there, no array, or one without rows.
    """
    try:
        import zarr
    except ImportError:
        raise InputError(f"{path}: zarr is not installed; pip install 'pyro_ssvae[zarr]'") from None
    if not path.exists():
        raise InputError(f"{path}: no such folder")
    try:
        opened: object = zarr.open(str(path), mode="r")
    except Exception as error:  # stores have errors of their own
        raise InputError(f"{path}: not an array or a group of Zarr, or a damaged one ({reason(error)})") from None
    if isinstance(opened, ZarrArray):
        return streamed_array(opened, str(path), path), None
    return of_group(cast(ZarrGroup, opened), str(path), path)


def of_group(group: ZarrGroup, name: str, place: Path | None = None) -> tuple[Streamed, np.ndarray | None]:
    """Return the points of a group's array ``x``, and the labels of its array ``y``.

    :param place: as in :func:`streamed_array`.
    :raises InputError: no array ``x``.
    """
    there = list(group.array_keys())
    used = by_usual_names(there)
    if "x" not in used:
        has = f" (it has {', '.join(map(shown, there[:5]))})" if there else ""
        raise InputError(f"{name}: no array 'x'{has}; x [N, ...] is needed, and y is optional")
    y = group[used["y"]][:] if "y" in used else None
    return streamed_array(group[used["x"]], name, place / used["x"] if place else None), y


def streamed_array(x: ZarrArray, name: str, place: Path | None = None) -> Streamed:
    """Return an array's points.

    :param place: its folder, from which processes open it; None where it is in another store.
    :raises InputError: no rows, no numbers, or chunks that are too large.
    """
    shape = tuple(x.shape)
    if len(shape) < 2 or 0 in shape:
        raise InputError(f"{name}: shape {shown(list(shape))} has no rows of numbers; [N, ...] with N > 1 is needed")
    if x.dtype.kind not in "biuf":
        raise InputError(f"{name}: {x.dtype}; an array of numbers is needed")
    size, row = x.chunks[0], math.prod(shape[1:])
    if size * row * 4 > LARGEST and size > 1:
        most = max(1, LARGEST // (8 * row))
        megabytes = size * row * 4 / 1e6
        raise InputError(f"{name}: chunks of {size:,} rows, {megabytes:,.0f} MB; chunks of {most:,} rows are needed")
    starts = np.append(np.arange(0, shape[0], size), shape[0])

    def chunk(b: int) -> np.ndarray:
        if place is not None and not any((place / mark).exists() for mark in MARKS):  # chunks that are gone read as 0
            raise InputError(f"{place}: it is gone; its rows {starts[b]} to {starts[b + 1] - 1} were needed")
        return np.asarray(x[int(starts[b]) : int(starts[b + 1])])

    return by_parts(chunk, starts, shape, x.dtype, name)
