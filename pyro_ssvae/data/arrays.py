"""One's own ``FILE.npz``: arrays ``x`` and, optionally, ``y``, ``x_test``, ``y_test`` and ``names``."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .array_labels import read_labels
from .array_names import by_usual_names, say_names
from .checks import check_bytes, finite, first_row, reason, shown
from .class_words import untaught
from .dataset import Dataset
from .images import ImageSize, bits_for, height_width, resize, trained_white
from .layouts import channels_first, check_layout, layout_of
from .notices import say
from .splits import held_out_words, split_rows

HEADER_BYTES = 2**16
"""Most bytes an array's header may take; NumPy itself reads 10,000 characters."""


def load_npz(path: Path, *, image_size: ImageSize = None, layout: str | None = None) -> Dataset:
    """Return the data set of an npz file. What is guessed, and arrays that are not used, are said on stderr.

    ``x``, and ``x_test`` alike
        - rank 4: images, ``[N, C, H, W]`` or ``[N, H, W, C]``
        - rank 3: grey images ``[N, H, W]``, or series ``[N, C, T]`` or ``[N, T, C]``
          (:func:`~pyro_ssvae.data.layouts.layout_of`)
        - rank 2: vectors ``[N, D]``, their values taken as they are
        - images are uint8, whole numbers from 0 to 255, boolean, floats in [0, 1], or uint16, whose range is that of
          the fewest bits that hold them
        - a NaN is an entry that is missing
    ``y``, and ``y_test`` alike
        - ``[N]``: classes, -1 or NaN for missing; or words, "" for missing
        - ``[N, A]``: attributes 0, 1 and -1 for missing
    ``names``
        the words for the K classes (K may exceed those that have labels) or the A attributes

    Arrays may have other usual names (:data:`~pyro_ssvae.data.array_names.OTHER_NAMES`). Without ``names`` there are as
    many classes as the largest label says; 10, where no label is known. Without ``x_test`` a fifth of the rows is held
    out, stratified.

    :param layout: which axis is which: a word of :data:`~pyro_ssvae.data.layouts.LAYOUTS`; None to guess.
    :raises InputError: naming the file, the array and the row.
    """
    check_layout(layout)
    arrays, there = read_usual(path)
    if "x" not in arrays:
        has = f" (it has {', '.join(map(shown, there[:5]))})" if there else ""
        raise InputError(f"{path}: no array 'x'{has}; x [N, ...] is needed, and y, x_test, y_test, names are optional")
    if "y_test" in arrays and "x_test" not in arrays:
        raise InputError(f"{path}: y_test without x_test; give both or neither")
    x, x_test, white = _all_points(arrays, layout, path)
    if image_size is not None and x.dim() != 4:
        raise InputError(f"--image-size: {path} has no images (x is {list(x.shape)}); leave the option out")
    y, y_test, labels = read_labels(arrays, len(x), 0 if x_test is None else len(x_test), path)
    rows = None
    if x_test is None:
        train, test = _held_out(y, path)
        rows, x, y, x_test, y_test = tuple(train.tolist()), x[train], y[train], x[test], y[test]
    if line := untaught(y, y_test, labels.names):
        say(f"{path}: {line}")
    if x.dim() == 4 and height_width(image_size):
        x, x_test = resize(x, image_size), resize(x_test, image_size)
    return Dataset(path.stem, x, y, x_test, y_test, labels, white_level=white, rows=rows)


def read_usual(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays of a file by their usual names, and the names of all that it has; say which stand for which."""
    there = sorted(read_names(path))
    used = by_usual_names(there)
    found = read_npz(path, list(used.values()))
    if "x" in used:
        say_names(path, used, there)
    return {name: found[own] for name, own in used.items()}, there


def read_names(path: Path) -> list[str]:
    """Return the names of an npz file's arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # zipfile has several; NotImplementedError of a later version
        raise InputError(f"{path}: not an npz file, or a damaged one ({reason(error)}); np.savez writes one") from None


def _all_points(
    arrays: dict[str, np.ndarray], layout: str | None, path: Path
) -> tuple[Tensor, Tensor | None, int | None]:
    """Return x and x_test, read alike, and the number that is white, where it is not 255."""
    points, found = {}, layout
    for name in ("x", "x_test"):
        if name in arrays:
            same_rank = arrays[name].ndim == arrays["x"].ndim
            points[name], found = _points(arrays[name], f"{path}: {name}", found if same_rank else layout)
    x, x_test = points["x"], points.get("x_test")
    if x_test is not None and (x_test.shape[1:] != x.shape[1:] or x_test.dtype != x.dtype):
        raise InputError(
            f"{path}: x_test is {arrays['x_test'].dtype} {list(arrays['x_test'].shape)}, x is {arrays['x'].dtype} "
            f"{list(arrays['x'].shape)}; points need one shape and one dtype"
        )
    pixels = [arrays[name] for name in points] if x.dim() == 4 else []
    white, line = white_level(pixels)
    if line is not None:
        say(f"{path}: {line}")
    if white is not None:
        x = (x.float() * (1 / white)).clamp(0, 1)
        x_test = None if x_test is None else (x_test.float() * (1 / white)).clamp(0, 1)
    return x, x_test, white


def _held_out(y: Tensor, path: Path) -> tuple[Tensor, Tensor]:
    """Return the training and test rows of a file without a test split; say how many rows went where."""
    if len(y) < 2:
        raise InputError(f"{path}: x has 1 row; at least 2 are needed, since one is held out (or give x_test)")
    rows, held = split_rows(y)
    say(f"{path}: no x_test; {held_out_words(y, held)}")
    return rows, held


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


def _points(array: np.ndarray, where: str, layout: str | None) -> tuple[Tensor, str | None]:
    """Return images (uint8, uint16's levels as int32, or float32 in [0, 1]) ``[N, C, H, W]``, or float32 series or
    vectors; and the layout of an array of rank 3 or 4."""
    if array.dtype.kind == "U":
        raise InputError(f"{where}: text; numbers are needed")
    if array.ndim not in (2, 3, 4) or array.size == 0:
        raise InputError(
            f"{where}: shape {shown(list(array.shape))}; images [N, C, H, W] or [N, H, W], series [N, C, T] or vectors "
            "[N, D] are needed, with at least one row"
        )
    if array.ndim == 2:
        if layout is not None:
            raise InputError(f"--layout {layout}: {where} has shape {list(array.shape)}; leave the option out")
        return finite(array, where, missing=True), None
    found, line = layout_of(array, layout, where)
    if line is not None:
        say(line)
    first = channels_first(array, found)
    return (_pixels(first, where) if "h" in found else finite(first, where, missing=True)), found


def _pixels(array: np.ndarray, where: str) -> Tensor:
    if array.dtype == np.bool_:
        return torch.from_numpy(array.astype(np.uint8) * 255)
    if array.dtype.kind == "f":
        pixels, most = finite(array, where, missing=True), "floats in [0, 1]: divide by 255, or save uint8"
        wrong = ((pixels < -1e-6) | (pixels > 1 + 1e-6)).numpy()
    else:
        most = "whole numbers from 0 to 255: save uint8"
        wrong = np.zeros(array.shape, bool) if array.dtype == np.uint16 else (array < 0) | (array > 255)
    row = first_row(wrong)
    if row is not None:
        seen = f"{np.nanmin(array):g} to {np.nanmax(array):g} in all"
        raise InputError(f"{where}: pixel values out of range, first in row {row} ({seen}); images are {most}")
    if array.dtype.kind == "f":
        return pixels.clamp(0, 1)
    kind = np.int32 if array.dtype == np.uint16 else np.uint8
    return torch.from_numpy(np.array(array, dtype=kind, order="C"))


def white_level(arrays: Sequence[np.ndarray], known: int | None = None) -> tuple[int | None, str | None]:
    """Return which of whole numbers as pixels is white, None for 255 of 8 bits, and a line on how they are read.

    Numbers of 16 bits have the range of the fewest bits that hold them, such as 1,023 of 10. 0 and 1 alone are black
    and white.

    :param known: the number that is white in the images that a model was trained on, and so in these too, where it can.
    """
    if not arrays or any(array.dtype.kind not in "iu" for array in arrays):
        return None, None
    most, deep = max(int(array.max()) for array in arrays), arrays[0].dtype == np.uint16
    if known is not None and ((known == 1 and most <= 1) or (known > 1 and deep)):
        return known, None if most <= known else f"pixels of 16 bits go to {most}; {trained_white(known)}"
    if most == 1:
        return 1, "pixels are 0 and 1 alone: read as black and white"
    if deep:
        bits = bits_for(most)
        return 2**bits - 1, f"pixels of 16 bits go to {most}: read as {bits} bits, {2**bits - 1} is white"
    if 1 < most < 64:
        return None, f"pixels go to {most}, and 255 is white; where {most} is, save x / {most} as floats"
    return None, None
