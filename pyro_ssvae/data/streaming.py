"""Points that stay where they are: some rows are read shortly before their turn, so that memory holds a few of them."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from ..errors import InputError, plain_value
from .blocks import Blocks, make_blocks
from .checks import MAX_BYTES, reason, shown
from .frames import plain_array
from .marked_rows import MarkedRows

IN_MEMORY = 2**30  # bytes of an array, up to which it is read whole and lies on the device
READERS = 2  # threads that read; files and decoders release Python's lock

Rows: TypeAlias = Tensor | np.ndarray | slice | int
Read: TypeAlias = Callable[[np.ndarray], np.ndarray]


class Streamed:
    """A tensor ``[N, ...]`` that is read some rows at a time, as :func:`~pyro_ssvae.fit` takes it.

    ``x[rows]`` reads some rows, :meth:`stream` many lists of rows, one after another.

    :param read: function of an int64 array of rows that returns an array ``[len(rows), ...]``; called in threads.
    :param shape: of all points.
    :param name: of the file or folder.
    :param starts: where parts begin that can only be read whole, such as a file's row groups, and N; None where any
        row can be read.
    :param gaps: whether a NaN may stand for an entry that is missing; else it is refused.
    """

    def __init__(
        self,
        read: Read,
        shape: Sequence[int],
        dtype: DTypeLike,
        name: str,
        starts: np.ndarray | None = None,
        gaps: bool = True,
    ) -> None:
        self.read, self.shape, self.name, self.starts, self.gaps = read, torch.Size(shape), name, starts, gaps
        own = torch.get_default_dtype()
        self.dtype = torch.uint8 if np.dtype(dtype) == np.uint8 else own if own == torch.float64 else torch.float32

    def __len__(self) -> int:
        return self.shape[0]

    def dim(self) -> int:
        return len(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of a point in memory."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def array_dtype(self) -> np.dtype:
        """The points' dtype, NumPy's."""
        return np.dtype(str(self.dtype).removeprefix("torch."))

    def blocks(self) -> Blocks:
        """Return the rows in blocks."""
        return make_blocks(len(self), self.row_bytes, None if self.starts is None else torch.from_numpy(self.starts))

    def to(self, device: torch.device) -> Streamed:
        """Return itself: files stay where they are."""
        return self

    def without_gaps(self) -> Streamed:
        """Return the points for a pair that takes no missing entries."""
        points = copy.copy(self)
        points.gaps = False
        return points

    def as_numbers(self) -> Streamed:
        """Return uint8 values as numbers that are no pixels."""
        return Streamed(
            lambda rows: self.take(rows).astype(np.float32), self.shape, np.float32, self.name, self.starts, self.gaps
        )

    def subset(self, rows: Tensor | MarkedRows) -> Streamed:
        """Return the points of some rows, ascending, which stay in their files too."""
        if isinstance(rows, MarkedRows):
            starts = None if self.starts is None else np.unique(rows.ranks(self.starts))
            return self.changed(_same, self.shape[1:], rows.rows, len(rows), starts)
        chosen = rows.cpu().numpy()
        chosen = chosen.astype(np.int32) if len(self) < 2**31 else chosen
        starts = None if self.starts is None else np.unique(np.searchsorted(chosen, self.starts))
        return self.changed(_same, self.shape[1:], lambda some: chosen[some].astype(np.int64), len(chosen), starts)

    def changed(
        self,
        change: Read,
        shape: Sequence[int],
        place: Read | None = None,
        n: int | None = None,
        starts: np.ndarray | None = None,
    ) -> Streamed:
        """Return the points as a function makes them of their rows ``[n, ...]``, each of this shape.

        :param place: which row of these stands behind some of the new ones; by default the same.
        :param n: rows, where ``place`` is given.
        :param starts: of the new rows, where ``place`` is given.
        """
        if place is None:
            place, n, starts = _same, len(self), self.starts
        there = place
        return Streamed(
            lambda rows: change(self.take(there(rows))),
            (n or 0, *shape),
            self.array_dtype,
            self.name,
            starts,
            self.gaps,
        )

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return some points as they will be in memory; of rows in any order, which the source gets ascending.

        :raises InputError: the source has gone, or gives no array, another number of rows, another shape or dtype; or
            naming the first row that has an infinite value or none at all, or, of points without :attr:`gaps`, a NaN.
        """
        if (np.diff(rows) < 0).any():
            order = np.argsort(rows, kind="stable")
            points = self.take(rows[order])
            return points[np.argsort(order, kind="stable")]
        try:
            given = plain_array(self.read(rows), self.name)
        except OSError as error:
            file = self.name if error.filename is None else error.filename
            raise InputError(f"{file}: rows {rows.min()} to {rows.max()} cannot be read ({reason(error)})") from None
        needed = (len(rows), *self.shape[1:])
        if given.shape != needed:
            raise InputError(
                f"{self.name}: {list(given.shape)} was read of {len(rows)} rows (the first is row {rows[0]}); "
                f"{list(needed)} is needed"
            )
        pixels, number = self.dtype == torch.uint8, given.dtype.kind in "biuf"
        if not number or pixels != (given.dtype == np.uint8):
            wanted = "uint8 was promised" if pixels else "numbers were promised, and no uint8 pixels"
            raise InputError(f"{self.name}: {shown(str(given.dtype))} was read of row {rows[0]} on; {wanted}")
        with np.errstate(over="ignore"):
            points = given.astype(self.array_dtype, copy=False)
        if not pixels and not np.isfinite(points).all():
            self.check_values(points.reshape(len(points), -1), rows)
        return points

    def check_values(self, points: np.ndarray, rows: np.ndarray) -> None:
        """Raise :class:`InputError` naming the first of some rows ``[n, D]`` with a value that cannot be used."""
        wrong = (np.isinf(points) if self.gaps else ~np.isfinite(points)).any(1)
        if wrong.any():
            value = "an infinite value" if self.gaps else "a NaN or infinite value"
            missing = ", or NaN where it is missing" if self.gaps else ""
            raise InputError(
                f"{self.name}: row {rows[wrong.argmax()]} has {value}; every value must be finite{missing}"
            )
        empty = np.isnan(points).all(1)
        if empty.any():
            raise InputError(f"{self.name}: row {rows[empty.argmax()]} has no value at all, only NaN; leave it out")

    def read_all(self) -> Tensor:
        """Return all points; raise :class:`InputError` where they are too large for it."""
        if len(self) * self.row_bytes > MAX_BYTES:
            raise InputError(f"{self.name}: too large to be read whole; some rows at a time are needed")
        return next(self.stream(iter([torch.arange(len(self))])))

    def __getitem__(self, rows: Rows) -> Tensor:
        """Return some points as a tensor; raise :class:`InputError` as :meth:`take` does."""
        rows = rows.cpu().numpy() if isinstance(rows, Tensor) else rows
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        chosen = rows if isinstance(rows, np.ndarray) else np.array([range(len(self))[rows]])
        points = tensor_of(self.take(chosen)) if len(chosen) else torch.zeros(0, *self.shape[1:], dtype=self.dtype)
        return points[0] if isinstance(rows, int) else points

    def stream(self, lists: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield the points of each list of rows, in turn; the next list's are read meanwhile, a block at a time."""
        pool, ahead = ThreadPoolExecutor(READERS), deque[tuple[Tensor, list[Future[None]]]]()
        try:
            for rows in lists:
                ahead.append(self.begin(pool, rows.cpu().numpy()))
                if len(ahead) > 1:
                    yield finished(*ahead.popleft())
            while ahead:
                yield finished(*ahead.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def begin(self, pool: ThreadPoolExecutor, rows: np.ndarray) -> tuple[Tensor, list[Future[None]]]:
        """Begin to read some rows; return where they come to lie, and what is still to be done."""
        points = np.empty((len(rows), *self.shape[1:]), self.array_dtype)

        def fill(i: int, j: int) -> None:
            points[i:j] = self.take(rows[i:j])

        if self.starts is None:
            place = rows // int(make_blocks(len(self), self.row_bytes).starts[1])
        else:
            place = np.searchsorted(self.starts, rows, "right")
        cuts = np.flatnonzero(np.diff(place)) + 1
        ends = [0, *cuts.tolist(), len(rows)]
        return torch.from_numpy(points), [pool.submit(fill, i, j) for i, j in pairwise(ends) if i < j]


def finished(points: Tensor, parts: list[Future[None]]) -> Tensor:
    """Return points once all their parts are read."""
    for part in parts:
        part.result()
    return points


def tensor_of(array: np.ndarray) -> Tensor:
    """Return an array as a tensor; one that cannot be written to is copied."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _same(rows: np.ndarray) -> np.ndarray:
    return rows


def stream(
    read: Callable[[np.ndarray], np.ndarray | Tensor],
    shape: Sequence[int],
    dtype: str = "float32",
    block: int | None = None,
    name: str = "x",
) -> Streamed:
    """Return the points that a function reads, as :func:`~pyro_ssvae.fit` takes them in place of an array.

    Example::

        x = ps.stream(lambda rows: table[rows[0] : rows[-1] + 1][rows - rows[0]], shape=(10_000_000, 32))
        ps.fit(vae, x, y)

    :param read: function of an int64 array of rows, ascending and mostly one after another, that returns their points
        ``[len(rows), ...]``, a tensor or an array, always the same of the same rows; NaN is an entry that is missing.
        It is called in threads; processes get it by value.
    :param shape: of all points, ``(N, ...)``.
    :param dtype: ``"uint8"`` for pixels, which are scaled to [0, 1]; ``"float32"`` for any other numbers.
    :param block: rows that are best read together, such as those of a chunk; by default a quarter of a megabyte of
        them.
    :param name: what is said of it in messages.
    :raises InputError: no function, a shape without rows, another dtype, a block below 1.
    """
    sizes, size = plain_value(shape), plain_value(block)
    if not callable(read):
        raise InputError(f"{name}: a {type(read).__name__}; a function of rows that returns their points is needed")
    if not isinstance(sizes, tuple) or len(sizes) < 2 or not all(isinstance(n, int) and n > 0 for n in sizes):
        raise InputError(f"{name}: shape {shown(shape)}; whole numbers (N, ...) are needed, such as (1000000, 32)")
    if dtype not in ("uint8", "float32"):
        raise InputError(f"{name}: dtype {shown(dtype)}; 'uint8' for pixels, or 'float32', is needed")
    if size is not None and (not isinstance(size, int) or size < 1):
        raise InputError(f"{name}: block {shown(block)}; a number of rows is needed")
    starts = None if size is None else np.append(np.arange(0, sizes[0], size), sizes[0])

    def array(rows: np.ndarray) -> np.ndarray:
        points = read(rows)
        return points.detach().cpu().numpy() if isinstance(points, Tensor) else points

    return Streamed(array, sizes, dtype, name, starts)
