"""Arrays of new data, in the shape and range in which a model takes its points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.array_names import by_usual_names, say_names
from ..data.arrays import read_names, read_npz, white_level
from ..data.checks import check_bytes, shown
from ..data.notices import say
from ..errors import InputError


def usual_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by their usual names: ``x``, ``y``, ``x_test``, ``y_test``, ``names``.

    Which others stand for them, and which are not used, is said.

    :raises InputError: no points, or labels of a test without its points.
    """
    if path.suffix.lower() == ".npy":
        return {"x": read_npy(path)}
    there = sorted(read_names(path))
    used = by_usual_names(there)
    if not used.keys() & {"x", "x_test"}:
        has = f" (it has {', '.join(map(shown, there[:5]))})" if there else ""
        raise InputError(f"--data {path}: no array 'x'{has}; x [N, ...] is needed, or x_test")
    if "y_test" in used and "x_test" not in used:
        raise InputError(f"--data {path}: {used['y_test']} without x_test; give both or neither")
    if "x" not in used:
        used.pop("y", None)
    say_names(path, used, there)
    found = read_npz(path, list(used.values()))
    return {name: found[own] for name, own in used.items()}


def read_npy(path: Path) -> np.ndarray:
    """Return an array's file; raise :class:`InputError` where it is damaged, too large, or holds objects."""
    check_bytes(path.stat().st_size, str(path))
    try:
        return np.asanyarray(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0][:200]}); np.save writes one") from None


def shaped(array: np.ndarray, shape: tuple[int, ...], where: str, white: int | None = None) -> np.ndarray:
    """Return points ``[N, *shape]``; a point alone is one row, images may lack their one channel or have it last.

    :param white: the number that was white in the images of the training; None for 255.
    :raises InputError: another shape, no row, or no numbers.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: {array.dtype}; numbers are needed")
    if array.dtype == np.bool_ and len(shape) == 3:
        array = array.astype(np.uint8) * 255
    if array.shape == shape:
        array = array[None]
    if len(shape) > 1 and shape[0] == 1 and array.shape == shape[1:]:
        array = array[None, None]
    if array.ndim == len(shape) and shape[0] == 1 and len(shape) > 1 and array.shape[1:] == shape[1:]:
        array = array[:, None]
    last = (*shape[1:], shape[0])
    if len(shape) > 1 and array.ndim == len(shape) + 1 and array.shape[1:] == last and array.shape[1:] != shape:
        array = np.moveaxis(array, -1, 1)
    if len(shape) > 1 and array.shape == last and array.shape != shape:
        array = np.moveaxis(array, -1, 0)[None]
    if array.shape[1:] != shape:
        raise InputError(f"{where}: its points have shape {list(array.shape[1:])}; the model needs {list(shape)}")
    if not len(array):
        raise InputError(f"{where}: no row; at least one is needed")
    return in_range(array, where, white) if len(shape) == 3 and array.dtype.kind in "iu" else array


def as_points(array: np.ndarray) -> Tensor:
    """Return points that :func:`shaped` made as a tensor: uint8 as it is, other numbers as float32."""
    with np.errstate(over="ignore"):  # an infinite one is found, and named by its row, by the model's own check
        return torch.from_numpy(np.ascontiguousarray(array, np.uint8 if array.dtype == np.uint8 else np.float32))


def in_range(array: np.ndarray, where: str, white: int | None) -> np.ndarray:
    """Return images of whole numbers as the training read them: of 8 bits as they are, else floats in [0, 1]."""
    if white == 1 or array.dtype == np.uint16:
        found, how = white_level([array], white)
        if how is not None:
            say(f"{where}: {how}")
        if found is not None:
            return (array.astype(np.float32) / np.float32(found)).clip(0, 1)
    if array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    return array.astype(np.float32)
