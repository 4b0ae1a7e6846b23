"""Labels as arrays: read, checked, counted, and kept in few bytes where there are very many."""

from __future__ import annotations

import math

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .distributions.clamped import MISSING
from .errors import InputError, counted

MANY = 2**22
"""Labels above which a training keeps them in as few bytes as hold them, and looks at some at a time."""


CHUNK = 2**18
"""Labels that are looked at at once, where there are many."""


def value_counts(y: Tensor, size: int) -> Tensor:
    """Return how often each value is known: int64 ``[1, size]`` of classes ``[N]``, ``[A, size]`` of attributes."""
    columns = y.reshape(len(y), math.prod(y.shape[1:]))
    counts = torch.zeros(columns.shape[1], size, dtype=torch.long, device=y.device)
    for some in columns.split(CHUNK):
        for count, column in zip(counts, some.unbind(1)):
            count += torch.bincount(column[column != MISSING], minlength=size)
    return counts


def narrow_dtype(size: int) -> torch.dtype:
    """Return the integers of the fewest bytes that hold ``-1 .. size - 1``."""
    return next((d for d in (torch.int8, torch.int16, torch.int32) if size - 1 <= torch.iinfo(d).max), torch.long)


def all_missing(shape: tuple[int, ...], device: torch.device | None = None, narrow: bool = False) -> Tensor:
    """Return labels ``[N, ...]`` that are all missing; ``narrow`` ones above :data:`MANY` rows take no memory."""
    if narrow and shape[0] > MANY:
        return torch.full((), MISSING, dtype=torch.int8, device=device).expand(shape)
    return torch.full(shape, MISSING, dtype=torch.long, device=device)


def check_labels(
    y: ArrayLike | None,
    n: int | None,
    device: torch.device | None,
    event_shape: tuple[int, ...],
    size: int,
    what: str,
    values: bool,
    narrow: bool,
) -> Tensor:
    if y is None:
        if n is None:
            raise InputError("y: labels are needed, not None")
        return all_missing((n, *event_shape), device, narrow)
    raw = plain_tensor(y, "y", "whole numbers are needed, and fit takes words too", device)
    if raw.dim() != 1 + len(event_shape) or tuple(raw.shape[1:]) != event_shape:
        raise InputError(f"y: shape {list(raw.shape)}; {['N', *event_shape]} is needed".replace("'", ""))
    if n is not None and len(raw) != n:
        raise InputError(f"y: {counted(len(raw), 'row')}, but x has {n}; both need the same number")
    if narrow and len(raw) > MANY:
        return narrowed(raw, size, what)
    return whole_numbers(raw, size, what) if values else raw.long()


def plain_tensor(values: object, name: str, needed: str, device: torch.device | None) -> Tensor:
    """Return what PyTorch makes a tensor of; raise :class:`InputError` saying what is ``needed`` of anything else."""
    try:
        return torch.as_tensor(values, device=device)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        if isinstance(values, Tensor):  # a device that has failed
            raise
        raise InputError(f"{name}: a {type(values).__name__} that is no tensor of numbers; {needed}") from error


def whole_numbers(raw: Tensor, size: int, what: str, first: int = 0) -> Tensor:
    """Return labels as int64; ``first`` is the number of their first row, for what is said of a wrong one."""
    if raw.is_floating_point() and not bool((raw == raw.round()).all()):
        row = first + int((raw != raw.round()).reshape(len(raw), -1).any(1).nonzero()[0])
        raise InputError(f"y: row {row} is not a whole number; {what} are 0 to {size - 1}, and -1 for missing")
    checked = raw.long()
    given = raw if raw.is_floating_point() else checked  # infinite ones have no whole number
    if given.numel() and bool(((given < MISSING) | (given >= size)).any()):
        row = int(((given < MISSING) | (given >= size)).reshape(len(given), -1).any(1).nonzero()[0])
        found = given[row].tolist()
        raise InputError(f"y: row {first + row} is {found}; {what} are 0 to {size - 1}, and -1 for missing")
    return checked


def narrowed(raw: Tensor, size: int, what: str) -> Tensor:
    """Return labels in as few bytes as hold them, checked; those that take one or two already are not copied."""
    kept = raw.dtype in (torch.int8, torch.int16)
    narrow = raw if kept else torch.empty(raw.shape, dtype=narrow_dtype(size), device=raw.device)
    for i in range(0, len(raw), CHUNK):
        checked = whole_numbers(raw[i : i + CHUNK], size, what, i)
        if not kept:
            narrow[i : i + CHUNK] = checked
    return narrow
