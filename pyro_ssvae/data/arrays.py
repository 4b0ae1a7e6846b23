"""One's own ``FILE.npz``: arrays ``x`` and, optionally, ``y``, ``x_test``, ``y_test`` and ``names``."""

from __future__ import annotations

import io
import math
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..labels import MISSING, AttributeLabels, Labels
from .checks import MAX_CLASSES, check_bytes, class_labels, clean_word, encode_words, finite, first_row, reason, shown
from .dataset import Dataset
from .images import ImageSize, height_width, resize
from .splits import split_rows

ARRAYS = ("x", "y", "x_test", "y_test", "names")
HEADER_BYTES = 2**16
"""Most bytes an array's header may take; NumPy itself reads 10,000 characters."""


def load_npz(path: Path, *, image_size: ImageSize = None) -> Dataset:
    """Return the data set of an npz file; arrays of other names than these are ignored.

    ``x``, and ``x_test`` alike
        - rank 4: images, ``[N, C, H, W]`` or ``[N, H, W, C]``, C 1 or 3 (the first where both fit)
        - rank 3, uint8 or boolean: grey images ``[N, H, W]``; of another dtype: series ``[N, C, T]``
        - rank 2: vectors ``[N, D]``, their values taken as they are
        - images are uint8, whole numbers from 0 to 255, boolean, or floats in [0, 1]
    ``y``, and ``y_test`` alike
        - ``[N]``: classes, -1 for missing; or words, "" for missing
        - ``[N, A]``: attributes 0, 1 and -1 for missing
    ``names``
        the words for the K classes (K may exceed those that have labels) or the A attributes

    Without ``names`` there are as many classes as the largest label says; 10, where no label is known. Without
    ``x_test`` a fifth of the rows is held out, stratified.

    :raises InputError: naming the file, the array and the row.
    """
    arrays = read_npz(path, ARRAYS)
    if "x" not in arrays:
        raise InputError(f"{path}: no array 'x'; x [N, ...] is needed, and y, x_test, y_test, names are optional")
    if "y_test" in arrays and "x_test" not in arrays:
        raise InputError(f"{path}: y_test without x_test; give both or neither")
    points = {name: _points(arrays[name], f"{path}: {name}") for name in ("x", "x_test") if name in arrays}
    x, x_test = points["x"], points.get("x_test")
    if image_size is not None and x.dim() != 4:
        raise InputError(f"--image-size: {path} has no images (x is {list(x.shape)}); leave the option out")
    if x_test is not None and (x_test.shape[1:] != x.shape[1:] or x_test.dtype != x.dtype):
        raise InputError(
            f"{path}: x_test is {arrays['x_test'].dtype} {list(arrays['x_test'].shape)}, x is {arrays['x'].dtype} "
            f"{list(arrays['x'].shape)}; points need one shape and one dtype"
        )
    y, y_test, labels = _labels(arrays, len(x), 0 if x_test is None else len(x_test), path)
    if x_test is None:
        if len(x) < 2:
            raise InputError(f"{path}: x has 1 row; at least 2 are needed, since one is held out (or give x_test)")
        rows, held = split_rows(y)
        x, y, x_test, y_test = x[rows], y[rows], x[held], y[held]
    if x.dim() == 4 and height_width(image_size):
        x, x_test = resize(x, image_size), resize(x_test, image_size)
    return Dataset(path.stem, x, y, x_test, y_test, labels)


def read_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return those of the named arrays that an npz file has: numbers, booleans and text, never pickled objects.

    An array's header is read first. One that claims another size than its file has, or more than
    :data:`~pyro_ssvae.data.checks.MAX_BYTES` together with the others, is refused before it is allocated.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            found = {name: members[f"{name}.npy"] for name in names if f"{name}.npy" in members}
            check_bytes(sum(info.file_size for info in found.values()), str(path))
            return {name: _read_array(archive, info, f"{path}: {name}") for name, info in found.items()}
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: not an npz file, or a damaged one ({reason(error)}); np.savez writes one") from None
    except Exception as error:  # zlib, lzma, encryption and struct each have their own
        raise InputError(f"{path}: cannot be read ({reason(error)}); np.savez writes an npz file") from None


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> np.ndarray:
    with archive.open(info) as file:
        read_header(file, info.file_size, where)
        file.seek(0)
        try:
            return np.asanyarray(np.lib.format.read_array(file, allow_pickle=False))
        except Exception as error:  # checksum, compression, length
            raise InputError(f"{where}: damaged or cut short ({reason(error)})") from None


def read_header(file: IO[bytes], size: int, where: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Read the header of an array in a file of ``size`` bytes: shape, whether columns come first, dtype, and where the
    numbers begin.

    :raises InputError: objects, or another size than the file has.
    """
    start = io.BytesIO(file.read(HEADER_BYTES))
    try:
        version = np.lib.format.read_magic(start)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, by_columns, dtype = readers[version](start)
    except Exception as error:  # the header is a Python literal: its parser has many ways to refuse one
        raise InputError(f"{where}: not an array of NumPy's format ({reason(error)})") from None
    content = size - start.tell()
    if dtype.hasobject:
        raise InputError(f"{where}: a pickled object array, which is never loaded; save numbers or text")
    if dtype.kind not in "biufU" or dtype.shape:
        raise InputError(f"{where}: dtype {shown(str(dtype))}; numbers, booleans or text are needed")
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or claimed != content:
        raise InputError(
            f"{where}: its header says shape {shown(list(shape))} of {dtype}, {shown(claimed)} bytes, but "
            f"{content} are there; the file is damaged"
        )
    return shape, by_columns, dtype, start.tell()


def _points(array: np.ndarray, where: str) -> Tensor:
    """Return images (uint8, or float32 in [0, 1]) ``[N, C, H, W]``, or float32 series or vectors."""
    if array.dtype.kind == "U":
        raise InputError(f"{where}: text; numbers are needed")
    if array.ndim not in (2, 3, 4) or array.size == 0:
        raise InputError(
            f"{where}: shape {shown(list(array.shape))}; images [N, C, H, W] or [N, H, W], series [N, C, T] or vectors "
            "[N, D] are needed, with at least one row"
        )
    if array.ndim == 4 or (array.ndim == 3 and array.dtype in (np.uint8, np.bool_)):
        return _pixels(_channels_first(array, where), where)
    return finite(array, where, missing=True)


def _channels_first(array: np.ndarray, where: str) -> np.ndarray:
    if array.ndim == 3:
        return array[:, None]
    if array.shape[1] in (1, 3):
        return array
    if array.shape[3] in (1, 3):
        return array.transpose(0, 3, 1, 2)
    raise InputError(f"{where}: shape {shown(list(array.shape))}; images need 1 or 3 channels, [N, C, H, W]")


def _pixels(array: np.ndarray, where: str) -> Tensor:
    if array.dtype == np.bool_:
        return torch.from_numpy(array.astype(np.uint8) * 255)
    if array.dtype.kind == "f":
        pixels, most = finite(array, where), "floats in [0, 1]: divide by 255, or save uint8"
        wrong = ((pixels < -1e-6) | (pixels > 1 + 1e-6)).numpy()
    else:
        most = "whole numbers from 0 to 255: save uint8"
        wrong = (array < 0) | (array > 255)
    row = first_row(wrong)
    if row is not None:
        seen = f"{array.min():g} to {array.max():g} in all"
        raise InputError(f"{where}: pixel values out of range, first in row {row} ({seen}); images are {most}")
    if array.dtype.kind == "f":
        return pixels.clamp(0, 1)
    return torch.from_numpy(np.array(array, dtype=np.uint8, order="C"))


def _labels(arrays: dict[str, np.ndarray], n: int, n_test: int, path: Path) -> tuple[Tensor, Tensor, Labels]:
    """Return ``y [n]`` or ``[n, A]``, ``y_test`` likewise, and what they mean."""
    names = _names(arrays.get("names"), path)
    given: dict[str, np.ndarray] = {name: arrays[name] for name in ("y", "y_test") if name in arrays}
    for name, array in given.items():
        rows = n if name == "y" else n_test
        if array.ndim not in (1, 2) or array.shape[1:] == (0,):
            raise InputError(f"{path}: {name} has shape {shown(list(array.shape))}; [N] or [N, A] is needed")
        if len(array) != rows:
            x = "x" if name == "y" else "x_test"
            raise InputError(f"{path}: {name} has {len(array)} rows, but {x} has {rows}; both need the same number")
    if len({(array.shape[1:], array.dtype.kind == "U") for array in given.values()}) > 1:
        raise InputError(f"{path}: y and y_test differ in columns or kind; both need the same")
    example = next(iter(given.values()), np.zeros(0, np.int64))
    if example.dtype.kind == "U":
        tensors, words = _words(given, names, path)
        labels: Labels = class_labels(words)
    elif example.ndim == 2:
        count = example.shape[1]
        if names is not None and len(names) != count:
            raise InputError(f"{path}: {len(names)} names for {count} attributes; as many are needed")
        tensors = {name: _whole(array, 1, f"{path}: {name}") for name, array in given.items()}
        labels = AttributeLabels(names if names is not None else [f"attribute{i}" for i in range(count)])
    else:
        most = (MAX_CLASSES if names is None else len(names)) - 1
        tensors = {name: _whole(array, most, f"{path}: {name}") for name, array in given.items()}
        largest = max((int(y.max()) for y in tensors.values() if len(y)), default=MISSING)
        labels = class_labels(names if names is not None else [str(k) for k in range(largest + 1)])
    y = tensors.get("y", torch.full((n, *labels.event_shape), MISSING))
    return y, tensors.get("y_test", torch.full((n_test, *labels.event_shape), MISSING)), labels


def _names(array: np.ndarray | None, path: Path) -> list[str] | None:
    if array is None:
        return None
    if array.dtype.kind != "U" or array.ndim != 1 or not 0 < len(array) <= MAX_CLASSES:
        raise InputError(f"{path}: names is {array.dtype} {list(array.shape)}; a list of words is needed")
    words = [clean_word(word, f"{path}: names") for word in _texts(array, f"{path}: names")]
    if "" in words or len(set(words)) != len(words):
        raise InputError(f"{path}: names {shown(words)} has an empty or a repeated word; each class needs its own")
    return words


def _words(
    given: dict[str, np.ndarray], names: list[str] | None, path: Path
) -> tuple[dict[str, Tensor], Sequence[str]]:
    for name, array in given.items():
        if array.ndim != 1:
            raise InputError(f"{path}: {name} is text of shape {list(array.shape)}; words are needed as [N]")
    columns = [_texts(array, f"{path}: {name}") for name, array in given.items()]
    encoded, words = encode_words(columns, names, f"{path}: {' and '.join(given)}")
    return dict(zip(given, encoded, strict=True)), words


def _texts(array: np.ndarray, where: str) -> list[str]:
    """Return text as Python's; refuse what is no valid Unicode (NumPy doesn't look, and Python trips over it later)."""
    try:
        codes = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).view(np.uint32)
        if codes.max(initial=0) <= sys.maxunicode:
            return [str(text) for text in array.tolist()]
    except (ValueError, SystemError):
        pass
    raise InputError(f"{where}: not valid Unicode text; save words as str")


def _whole(array: np.ndarray, most: int, where: str) -> Tensor:
    """Return labels -1 to ``most`` as int64."""
    what = f"labels are whole numbers from 0 to {most}, and -1 for missing"
    if array.ndim == 2:
        what = "attributes are 0, 1, and -1 for missing (classes are [N], not [N, A])"
    wrong = (array < MISSING) | (array > most)
    if array.dtype.kind == "f":
        wrong |= array != np.floor(array)  # also where it is NaN
    row = first_row(wrong)
    if row is not None:
        raise InputError(f"{where}: row {row} is {shown(array[row].tolist())}; {what}")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
