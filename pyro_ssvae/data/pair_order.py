"""Points with their columns and axes in the order that a pair has them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from torch import Tensor, nn

from ..errors import InputError
from .frames import in_order
from .pair_protocols import HasColumnNames
from .streaming import Streamed

Points: TypeAlias = Tensor | Streamed


def known_columns(pair: nn.Module) -> tuple[str, ...] | None:
    """Return the names of the columns that a pair was trained on; None where they had none."""
    names = pair.column_names if isinstance(pair, HasColumnNames) else None
    return names if isinstance(names, tuple) else None


def in_column_order(pair: nn.Module, points: Points, columns: tuple[str, ...] | None) -> Points:
    """Return points with their columns in the order that a pair was trained on; numbered ones in their numbers'.

    :raises InputError: naming the columns that are missing or new.
    """
    if columns is None:
        return points
    known, numbers = known_columns(pair), tuple(map(str, range(len(columns))))
    if known is None and set(columns) != set(numbers):
        return points
    known = numbers if known is None else known
    order = in_order(columns, known, "x", "the columns that the model was trained on")
    return points if order is None else columns_of(points, order)


def columns_of(points: Points, order: list[int]) -> Points:
    """Return some columns of points, in the order of their numbers."""
    if isinstance(points, Streamed):
        return points.changed(lambda rows: rows[:, order], (len(order),))
    return points[:, order]


def in_axis_order(points: Points, input_shape: tuple[int, ...] | None) -> Points:
    """Return points with their axes as a pair has them, where no other reading fits its ``input_shape``.

    ``[N, H, W]`` for a pair of ``(1, H, W)``; channels last, ``[N, H, W, C]`` or ``[N, T, C]``, for one of
    ``(C, H, W)`` or ``(C, T)``.
    """
    shape = tuple(points.shape[1:])
    if input_shape is None or len(input_shape) < 2 or shape == input_shape:
        return points
    if input_shape[0] == 1 and shape == input_shape[1:]:
        return points.changed(lambda x: x[:, None], input_shape) if isinstance(points, Streamed) else points[:, None]
    if shape == (*input_shape[1:], input_shape[0]):
        if isinstance(points, Streamed):
            return points.changed(lambda x: np.moveaxis(x, -1, 1), input_shape)
        return points.movedim(-1, 1)
    return points


def check_shape(points: Points, input_shape: tuple[int, ...] | None, least: int) -> None:
    """Raise :class:`InputError` where there are too few points, or points of another shape."""
    if tuple(points.shape) == input_shape:
        raise InputError(f"x: shape {list(points.shape)}, that of one point; x[None] is a batch of it")
    if points.dim() < 2 or len(points) < least:
        some = "a point is" if least < 2 else f"at least {least} points are"
        raise InputError(f"x: shape {list(points.shape)}; {some} needed, [N, ...]")
    if input_shape is not None and tuple(points.shape[1:]) != input_shape:
        needed = ", ".join(map(str, input_shape))
        raise InputError(f"x: shape {list(points.shape)}; this model needs [N, {needed}]")
