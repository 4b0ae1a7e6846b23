"""Points that stay in their files: batches are read shortly before their turn, so that memory holds a few of them."""

from __future__ import annotations

import math
import mmap
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from ..errors import InputError
from ..labels import Labels
from .array_labels import read_labels
from .array_names import by_usual_names
from .arrays import read_header, read_names, read_npz
from .checks import MAX_BYTES
from .folder import training_images
from .images import decode, white_of

IN_MEMORY = 2**30  # bytes of an array, up to which it is read whole and lies on the device
READERS, AHEAD = 2, 4  # threads, and batches that they read ahead; files and image decoders release Python's lock

Rows: TypeAlias = Tensor | np.ndarray | slice | int


class Streamed:
    """A tensor ``[N, ...]`` read from files, as :func:`~pyro_ssvae.fit` takes it: ``x[rows]`` and :meth:`stream`.

    :param read: function of an int64 array of rows that returns an array ``[len(rows), ...]``; called in threads.
    :param shape: of all points.
    :param name: of the file or folder.
    """

    def __init__(
        self, read: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], dtype: DTypeLike, name: str
    ) -> None:
        self.read, self.shape, self.name = read, torch.Size(shape), name
        self.dtype = torch.uint8 if dtype == np.uint8 else torch.get_default_dtype()

    def __len__(self) -> int:
        return self.shape[0]

    def dim(self) -> int:
        return len(self.shape)

    def to(self, device: torch.device) -> Streamed:
        """Return itself: files stay where they are."""
        return self

    def subset(self, rows: Tensor) -> Streamed:
        """Return the points of some rows, which stay in their files too."""
        chosen = rows.cpu().numpy()
        dtype = np.uint8 if self.dtype == torch.uint8 else np.float32
        return Streamed(lambda some: self.read(chosen[some]), (len(chosen), *self.shape[1:]), dtype, self.name)

    def changed(self, change: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> Streamed:
        """Return the points as a function makes them of their rows ``[n, ...]``, each of this shape."""
        dtype = np.uint8 if self.dtype == torch.uint8 else np.float32
        return Streamed(lambda rows: change(self.read(rows)), (len(self), *shape), dtype, self.name)

    def read_all(self) -> Tensor:
        """Return all points; raise :class:`InputError` where they are too large for it."""
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > MAX_BYTES:
            raise InputError(f"{self.name}: too large to be read whole; some rows at a time are needed")
        return torch.cat([self[i : i + 1000] for i in range(0, len(self), 1000)]) if len(self) else self[:0]

    def __getitem__(self, rows: Rows) -> Tensor:
        """Return some points as a tensor; raise :class:`InputError` naming the first that is not finite."""
        rows = rows.cpu().numpy() if isinstance(rows, Tensor) else rows
        chosen = rows if isinstance(rows, np.ndarray) else np.atleast_1d(np.arange(len(self))[rows])
        points = torch.as_tensor(self.read(chosen)).to(self.dtype)
        if points.is_floating_point():
            bad = ~torch.isfinite(points).reshape(len(points), -1).all(1)
            if bad.any():
                row = int(chosen[int(bad.nonzero()[0])])
                raise InputError(f"{self.name}: row {row} has a NaN or infinite value; every value must be finite")
        return points[0] if isinstance(rows, int) else points

    def sample(self, numbers: int = 20_000_000) -> Tensor:
        """Return rows drawn at random, in order, of at most ``numbers`` values in all."""
        n = max(2, min(len(self), numbers // math.prod(self.shape[1:])))
        return self[np.sort(np.random.default_rng(0).choice(len(self), n, replace=False))]

    def stream(self, order: Tensor) -> Iterator[Tensor]:
        """Yield the batches of rows ``order [steps, B]``, in turn."""
        pool, ahead = ThreadPoolExecutor(READERS), deque[Future[Tensor]]()
        try:
            for rows in order.cpu().numpy():
                ahead.append(pool.submit(self.__getitem__, rows))
                if len(ahead) > AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def batches_of(x: Tensor | Streamed, order: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Yield the points of rows ``order [steps, B]``, on the device; a tensor lies there already."""
    if isinstance(x, Streamed):
        yield from (batch.to(device) for batch in x.stream(order))
    else:
        yield from (x[rows] for rows in order)


def some_of(x: Tensor | Streamed, numbers: int = 20_000_000) -> Tensor:
    """Return points, of a large file a random sample of at most so many values."""
    return x.sample(numbers) if isinstance(x, Streamed) else x


def open_points(x: object, input_shape: tuple[int, ...] | None) -> tuple[object, object, Labels | None]:
    """Return points by the path of their file or folder, or in NumPy's memory map; a small array is read whole.

    :returns: the points (anything but a path or a memory map as it is), and labels and their meaning where the source
        has them.
    :raises InputError: naming the path.
    """
    if isinstance(x, np.memmap):
        return (streamed_map(x) if x.nbytes > IN_MEMORY else np.array(x)), None, None
    if not isinstance(x, (str, Path)):
        return x, None, None
    path = Path(x)
    if path.is_dir():
        if input_shape is None or len(input_shape) != 3:
            raise InputError(f"{path}: a folder of images suits a model with input_shape (C, H, W)")
        files, y, meaning = training_images(path)
        white = white_of(files)
        grey, size = input_shape[0] == 1, (input_shape[1], input_shape[2])

        def read(rows: np.ndarray) -> np.ndarray:
            return np.stack([decode(files[row], grey=grey, size=size, white=white) for row in rows])

        return Streamed(read, (len(files), *input_shape), np.dtype(np.uint8), str(path)), y, meaning
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        raise InputError(f"{path}: a .npy or .npz file, or a folder of images with labels.csv, is needed")
    try:
        used = {} if suffix == ".npy" else by_usual_names(read_names(path))
        whole = suffix == ".npy"
        array = np.load(path, mmap_mode="r", allow_pickle=False) if whole else mapped(path, used.get("x", "x"))
        labels, named = labels_in(path, used)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not a file of arrays, or a damaged one ({str(error).splitlines()[0][:200]})"
        ) from None
    if array is None:
        raise InputError(f"{path}: no array 'x'; x [N, ...] is needed, and y is optional")
    return open_points(array, input_shape)[0], labels, named


def labels_in(path: Path, used: dict[str, str]) -> tuple[np.ndarray | Tensor | None, Labels | None]:
    """Return the labels of an npz file, and what they mean where it has words for them.

    :param used: what its arrays are called.
    """
    found: dict[str, np.ndarray | None] = {name: mapped(path, used[name]) for name in ("y", "names") if name in used}
    arrays = {name: np.array(array) for name, array in found.items() if array is not None}
    if "y" not in arrays:
        return None, None
    if arrays["y"].dtype.kind != "U" and "names" not in arrays:
        return arrays["y"], None
    y, _, labels = read_labels(arrays, len(arrays["y"]), 0, path)
    return y, labels


def mapped(path: Path, name: str) -> np.ndarray | None:
    """Return an array of an npz file, mapped into memory where it is not compressed; None where it is absent."""
    with zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            return None
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            if info.file_size > IN_MEMORY:
                raise InputError(f"{path}: compressed, and too large to be read whole; np.savez does not compress")
            return read_npz(path, [name])[name]
        with archive.open(info) as member:
            shape, by_columns, dtype, start = read_header(member, info.file_size, f"{path}: {name}")
    with open(path, "rb") as file:  # the local header's name and extra field may differ from the directory's
        file.seek(info.header_offset + 26)
        start += info.header_offset + 30 + sum(int.from_bytes(file.read(2), "little") for _ in range(2))
    return np.memmap(path, dtype, "r", start, shape, "F" if by_columns else "C")


def streamed_map(x: np.memmap) -> Streamed:
    """Return a memory map's rows, read from its file: mapped pages would count as this process's memory."""
    if not x.flags.c_contiguous or x.filename is None:
        raise InputError("x: a memory map of rows that do not lie one after another; np.save(file, x) makes it one")
    mapping: mmap.mmap = x._mmap  # type: ignore[attr-defined]
    begin = x.offset - x.offset % mmap.ALLOCATIONGRANULARITY
    begin += x.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data
    path, shape, dtype, size = Path(x.filename), x.shape, x.dtype, x[0].nbytes

    def read(rows: np.ndarray) -> np.ndarray:
        points = np.empty((len(rows), *shape[1:]), dtype)
        with open(path, "rb", buffering=0) as file:
            for point, row in zip(points.reshape(len(rows), -1).view(np.uint8), rows):
                file.seek(begin + int(row) * size)
                if file.readinto(point.data) != size:
                    raise InputError(f"{path}: it ends before row {row}; it has become shorter")
        return points.astype(dtype.newbyteorder("="), copy=False)

    return Streamed(read, shape, dtype, str(path))
