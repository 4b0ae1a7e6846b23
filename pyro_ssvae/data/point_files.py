"""Points by the path of their file or folder, or in a memory map: a small array is read whole, a large one streamed."""

from __future__ import annotations

import mmap
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..labels import Labels
from . import streaming
from .array_labels import read_labels
from .array_names import by_usual_names
from .arrays import read_header, read_names, read_npz
from .checks import shown
from .containers import SourceData
from .folder import images_of
from .images import decode, white_of
from .labels_csv import is_list
from .notices import say
from .row_groups import open_parquet
from .split_words import Part
from .streaming import Streamed
from .zarr_arrays import ZarrArray, ZarrGroup, is_zarr, of_group, open_zarr, streamed_array

GAP = 2**14  # bytes between two rows, up to which what lies between is read too
SHARDS = (".npy", ".parquet")


def open_points(
    x: object,
    input_shape: tuple[int, ...] | None,
    target: str | None = None,
    white_level: int | None = None,
    part: Part = "all",
    meaning: Labels | None = None,
) -> SourceData:
    """Return points by the path of their file or folder, in NumPy's memory map, or in an array or a group of Zarr.

    :param target: the name of the column that holds the labels, of Parquet.
    :param white_level: what was white in the images of 16 bits of the training; None where it had none.
    :param part: of a folder of images (:func:`~.folder.images_of`), or of arrays ``x`` and ``x_test``.
    :param meaning: a pair's labels.
    :raises InputError: naming the path.
    """
    if isinstance(x, np.memmap):
        in_file = x._mmap is not None  # type: ignore[attr-defined]  # not what was computed of one
        return SourceData(streamed_map(x) if in_file and x.nbytes > streaming.IN_MEMORY else np.array(x))
    if isinstance(x, ZarrArray):
        return SourceData(small(streamed_array(x, "x")))
    if isinstance(x, ZarrGroup):
        points, y = of_group(x, "x")
        return SourceData(small(points), y)
    path = Path(str(x))
    if is_zarr(path):
        points, y = open_zarr(path)
        return SourceData(small(points), y)
    files = shards_of(path) if path.is_dir() else []
    if path.is_dir() and (not files or any(is_list(file.name) for file in path.iterdir())):
        return of_images(path, input_shape, white_level, part, meaning)
    suffix = path.suffix.lower()
    if files or suffix == ".parquet":
        return of_shards(files or [path], input_shape, target)
    if suffix not in (".npy", ".npz"):
        raise InputError(
            f"{path}: a .npy, .npz, .parquet or .zarr file, a folder of .npy or .parquet files, or a folder of images "
            "with labels.csv, is needed"
        )
    return of_arrays(path, part)


def shards_of(folder: Path) -> list[Path]:
    """Return a folder's files of rows, their names' numbers in order: ``part-2.npy`` before ``part-10.npy``."""

    def place(file: Path) -> list[tuple[int, str]]:
        parts = re.split(r"([0-9]+)", file.name)
        return [*((int(part), "") if part.isdecimal() else (0, part) for part in parts), (0, file.name)]

    return sorted((file for file in folder.iterdir() if file.suffix.lower() in SHARDS), key=place)


def small(points: Streamed) -> Tensor | Streamed:
    """Return points as a tensor where they are small."""
    return points.read_all() if len(points) * points.row_bytes <= streaming.IN_MEMORY else points


def of_images(
    path: Path, input_shape: tuple[int, ...] | None, white_level: int | None, part: Part, meaning: Labels | None
) -> SourceData:
    """Return the images of a folder, each of which is decoded when it is needed."""
    if input_shape is None or len(input_shape) != 3:
        raise InputError(f"{path}: a folder of images suits a model with input_shape (C, H, W)")
    files, y, own = images_of(path, part, meaning)
    white = white_of(files, white_level)
    grey, size = input_shape[0] == 1, (input_shape[1], input_shape[2])

    def read(rows: np.ndarray) -> np.ndarray:
        return np.stack([decode(files[row], grey=grey, size=size, white=white) for row in rows])

    points = Streamed(read, (len(files), *input_shape), np.uint8, str(path))
    return SourceData(points, y, labels=own, white_level=white)


def of_arrays(path: Path, part: Part) -> SourceData:
    """Return the points of a .npy or .npz file, and the labels of the latter: ``x``, or as test ``x_test`` if any."""
    array, labels, named = arrays_in(path, part)
    if array is None:
        raise InputError(f"{path}: no array 'x'; x [N, ...] is needed, and y is optional")
    return SourceData(open_points(array, None).x if isinstance(array, np.memmap) else array, labels, labels=named)


def arrays_in(path: Path, part: Part = "all") -> tuple[np.ndarray | None, np.ndarray | Tensor | None, Labels | None]:
    """Return the array of points of a file, mapped into memory where it can be, labels, and what these mean."""
    try:
        used = {} if path.suffix.lower() == ".npy" else by_usual_names(read_names(path))
        if part == "test" and "x_test" in used:
            say(f"{path}: its {used['x_test']} is judged")
            used = {
                name: used[own] for name, own in (("x", "x_test"), ("y", "y_test"), ("names", "names")) if own in used
            }
        whole = path.suffix.lower() == ".npy"
        array = np.load(path, mmap_mode="r", allow_pickle=False) if whole else mapped(path, used.get("x", "x"))
        return array, *labels_in(path, used)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not a file of arrays, or a damaged one ({str(error).splitlines()[0][:200]})"
        ) from None


def of_shards(files: Sequence[Path], input_shape: tuple[int, ...] | None, target: str | None) -> SourceData:
    """Return the points of several files, one after another, as one array.

    :raises InputError: naming the first file of another kind, shape, dtype or columns than the first one.
    """
    other = next((file for file in files if file.suffix.lower() != files[0].suffix.lower()), None)
    if other is not None:
        raise InputError(f"{other}: beside {files[0].name}; shards of one kind, .npy or .parquet, are needed")
    if files[0].suffix.lower() == ".parquet":
        points, y, labels, columns = open_parquet(files, input_shape, target)
        return SourceData(small(points), y, columns, labels)
    maps = [arrays_in(file)[0] for file in files]
    parts = [streamed_map(array) for array in maps if isinstance(array, np.memmap)]
    for file, part in zip(files, parts):
        if part.shape[1:] != parts[0].shape[1:] or part.dtype != parts[0].dtype:
            raise InputError(
                f"{file}: rows of {list(part.shape[1:])}, {part.dtype}; {files[0].name} has "
                f"{list(parts[0].shape[1:])}, {parts[0].dtype}, and all shards need the same"
            )
    return SourceData(small(joined(parts, str(files[0].parent))))


def joined(parts: Sequence[Streamed], name: str) -> Streamed:
    """Return points that lie one part after another."""
    begins = np.cumsum([0, *map(len, parts)])

    def read(rows: np.ndarray) -> np.ndarray:
        place = np.searchsorted(begins, rows, "right") - 1
        if len(rows) and place[0] == place[-1] and (place == place[0]).all():
            return parts[place[0]].take(rows - begins[place[0]])
        points = np.empty((len(rows), *parts[0].shape[1:]), parts[0].array_dtype)
        for i in np.unique(place):
            points[place == i] = parts[i].take(rows[place == i] - begins[i])
        return points

    return Streamed(read, (int(begins[-1]), *parts[0].shape[1:]), parts[0].array_dtype, name)


def labels_in(path: Path, used: dict[str, str]) -> tuple[np.ndarray | Tensor | None, Labels | None]:
    """Return the labels of an npz file, and what they mean where it has words for them.

    :param used: what its arrays are called.
    """
    found: dict[str, np.ndarray | None] = {name: mapped(path, used[name]) for name in ("y", "names") if name in used}
    if found.get("y") is None:
        return None, None
    if found["y"].dtype.kind != "U" and found.get("names") is None:  # type: ignore[union-attr]
        return found["y"], None
    arrays = {name: np.array(array) for name, array in found.items() if array is not None}
    y, _, labels = read_labels(arrays, len(arrays["y"]), 0, path)
    return y, labels


def mapped(path: Path, name: str) -> np.ndarray | None:
    """Return an array of an npz file, mapped into memory where it is not compressed; None where it is absent."""
    with zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            return None
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            if info.file_size > streaming.IN_MEMORY:
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
    name = "x" if x.filename is None else str(x.filename)
    if not x.flags.c_contiguous or x.filename is None:
        raise InputError(f"{name}: a memory map of rows that do not lie one after another; "
                         "np.save(file, np.ascontiguousarray(x)) makes it one")  # fmt: skip
    if x.dtype.kind not in "biuf" or x.ndim < 2 or not x.size:
        raise InputError(f"{name}: {x.dtype} {shown(list(x.shape))}; numbers [N, ...] are needed")
    if x.mode == "c":  # what was changed is in memory alone
        return Streamed(lambda rows: np.asarray(x)[rows], x.shape, x.dtype, name)
    mapping: mmap.mmap = x._mmap  # type: ignore[attr-defined]
    begin = x.offset - x.offset % mmap.ALLOCATIONGRANULARITY
    begin += x.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data
    path, shape, dtype, size = Path(x.filename), x.shape, x.dtype, x[0].nbytes

    def read(rows: np.ndarray) -> np.ndarray:
        points = np.empty((len(rows), *shape[1:]), dtype)
        step = np.diff(rows)
        cuts = (np.flatnonzero((step < 1) | (step * size > size + GAP)) + 1).tolist()
        with open(path, "rb", buffering=0) as file:
            for i, j in zip([0, *cuts], [*cuts, len(rows)]):
                first, n = int(rows[i]), int(rows[j - 1] - rows[i]) + 1
                some = points[i:j] if n == j - i else np.empty((n, *shape[1:]), dtype)
                file.seek(begin + first * size)
                if file.readinto(some.reshape(-1).view(np.uint8).data) != some.nbytes:
                    raise InputError(f"{path}: it ends before row {first + n - 1}; it has become shorter")
                if n != j - i:
                    points[i:j] = some[rows[i:j] - first]
        return points

    return Streamed(read, shape, dtype, name)
