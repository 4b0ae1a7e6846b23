"""Bounds on what is read, and small helpers that every source of data shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, nearest
from ..nn.reals import mean_and_spread
from .notices import say

MAX_BYTES = 4 * 2**30
"""Largest size, unpacked, of the arrays or images of one data set; a larger claim is refused before allocation."""


def shown(value: object) -> str:
    """Return ``value`` for a message: quoted, on one line, cut to 100 characters."""
    text = " ".join(line.strip() for line in repr(value).splitlines())
    return text if len(text) <= 100 else text[:97] + "..."


def reason(error: BaseException) -> str:
    """Return the first line of what an exception says, or its kind where it says nothing."""
    said = (getattr(error, "strerror", None) or str(error)).strip()
    return said.splitlines()[0][:200] if said else type(error).__name__


def first_row(wrong: np.ndarray) -> int | None:
    """Return the first row ``[N, ...]`` of booleans that holds a true one, None where there is none."""
    rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(1))
    return int(rows[0]) if len(rows) else None


def check_bytes(size: int, where: str) -> None:
    """Refuse ``size`` bytes above :data:`MAX_BYTES`."""
    if size > MAX_BYTES:
        raise InputError(f"{where}: {size / 2**30:,.1f} GiB unpacked; at most {MAX_BYTES / 2**30:g} GiB can be loaded")


def read_bytes(path: Path, limit: int) -> bytes:
    """Return a file's content; raise :class:`InputError` where it is absent, not readable or above ``limit`` bytes."""
    try:
        if not path.exists():
            raise InputError(f"{path}: no such file")
        if not path.is_file():
            raise InputError(f"{path}: not a file")
        if path.stat().st_size > limit:
            raise InputError(f"{path}: {path.stat().st_size:,} bytes; at most {limit:,} can be loaded")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from None


def hint(word: str, known: Sequence[str]) -> str:
    """Return :func:`~pyro_ssvae.errors.nearest`, cut where there are many or long words."""
    said = nearest(word, known)
    return said if len(said) <= 200 else said[:196] + "...)"


def say_rounded(x: Tensor, where: str) -> None:
    """Say which columns of ``x [N, D]``, in double precision, differ by little more than a single one tells apart."""
    if x.dim() != 2 or not x.numel() or x.dtype not in (torch.float64, torch.int32, torch.int64):
        return
    some = x[: math.ceil(1e7 / x.shape[1])].double()
    size = some.nan_to_num(posinf=0.0, neginf=0.0).abs().amax(0)
    step, spread = torch.finfo(torch.float32).eps * size, mean_and_spread(some, [0])[1][0]
    lost = (spread > 1e-14 * size) & (spread < 4 * step)  # below, a constant's rounding in double precision
    if lost.any():
        i = int(lost.nonzero()[0])
        near = f"column {i} is of numbers near {float(size[i]):g}"
        say(f"{where}: {near}, which single precision rounds to steps of about {float(step[i]):.1g}; subtract a number "
            "in their middle, so that they keep their differences")  # fmt: skip


def finite(x: np.ndarray, where: str, *, missing: bool = False) -> Tensor:
    """Return numbers ``[N, ...]`` as a float32 tensor; raise :class:`InputError` naming the first row that is not.

    :param missing: take NaN as an entry that is missing.
    """
    if x.ndim == 2 and x.dtype.str[1:] in ("f8", "i8", "i4"):
        say_rounded(torch.from_numpy(x[: math.ceil(1e7 / max(1, x.shape[1]))].astype(np.float64)), where)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.ascontiguousarray(x, dtype=np.float32)
    wrong = np.asarray(np.isinf(numbers) if missing else ~np.isfinite(numbers))
    row = first_row(wrong)
    if row is not None:
        place = np.argwhere(wrong[row])[0]
        column = f", column {place[0]}," if len(place) == 1 else ""
        what = "NaN" if np.isnan(numbers[row][tuple(place)]) else "an infinite value (or one beyond float32)"
        needed = "a finite number, or NaN where it is missing" if missing else "a finite number"
        raise InputError(f"{where}: row {row}{column} holds {what}; every value must be {needed}")
    empty = first_row(np.asarray(~np.isfinite(numbers).reshape(len(numbers), -1).any(1))) if numbers.size else None
    if empty is not None:
        raise InputError(f"{where}: row {empty} has no value at all, only NaN; leave it out")
    return torch.from_numpy(numbers)
