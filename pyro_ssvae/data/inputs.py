"""Points and labels as people hand them over, checked once for every function that takes them."""

from __future__ import annotations

from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..labels import MISSING, labels_of
from .streaming import Streamed, open_points

Points: TypeAlias = Tensor | Streamed


@runtime_checkable
class HasInputShape(Protocol):
    """A pair that says what one of its points looks like."""

    input_shape: tuple[int, ...]


@runtime_checkable
class ChecksPoints(Protocol):
    """A pair that knows which values it takes, missing ones (NaN) among them."""

    def check_points(self, x: Tensor) -> Tensor: ...


def check_data(
    pair: nn.Module, x: object, y: object = None, least: int = 2, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Return points and labels as tensors; files are read whole.

    :param least: rows that are needed.
    :param dtype: of points that are no uint8 pixels; the default one where it is None.
    :raises InputError: naming the first row that cannot be used, or a file that is too large to be read whole.
    """
    points, labels = open_data(pair, x, y, least, dtype)
    if isinstance(points, Streamed):
        raise InputError(f"{points.name}: too large to be read whole; some rows at a time are needed")
    return points, labels


def open_data(
    pair: nn.Module, x: object, y: object = None, least: int = 2, dtype: torch.dtype | None = None
) -> tuple[Points, Tensor]:
    """Return points and labels as tensors, the points as :class:`~.streaming.Streamed` where they are a large file.

    Tensors are detached: no gradient passes to what they were computed by.

    :raises InputError: naming the first row that cannot be used.
    """
    input_shape = tuple(pair.input_shape) if isinstance(pair, HasInputShape) else None
    meaning = labels_of(pair)
    opened, own, named = open_points(x, input_shape)
    if y is None and own is not None:
        if meaning is not None and named is not None and list(named.names) != list(meaning.names):
            raise InputError(f"x: the folder's labels are {', '.join(named.names)[:200]}; the model's differ")
        y = own
    points = opened if isinstance(opened, Streamed) else numbers(opened, "x")
    check_points(points, input_shape, least)
    if isinstance(points, Tensor):
        points = points if points.dtype == torch.uint8 else points.to(dtype or torch.get_default_dtype())
        points = pair.check_points(points) if isinstance(pair, ChecksPoints) else finite(points)
    labels = None if y is None else numbers(y, "y")
    if meaning is not None:
        return points, meaning.check(labels, len(points))
    labels = torch.full((len(points),), MISSING) if labels is None else labels
    if labels.dim() < 1 or len(labels) != len(points):
        rows = len(labels) if labels.dim() else "no"
        raise InputError(f"y: {rows} rows, but x has {len(points)}; both need the same number")
    return points, labels


def check_points(points: Points, input_shape: tuple[int, ...] | None, least: int) -> None:
    """Raise :class:`InputError` where there are too few points, or points of another shape."""
    if points.dim() < 2 or len(points) < least:
        raise InputError(f"x: shape {list(points.shape)}; at least {least} points are needed, [N, ...]")
    if input_shape is not None and tuple(points.shape[1:]) != input_shape:
        needed = ", ".join(map(str, input_shape))
        raise InputError(f"x: shape {list(points.shape)}; this model needs [N, {needed}]")


def finite(x: Tensor) -> Tensor:
    """Return ``x``; raise :class:`InputError` naming the first row that is not finite."""
    if x.dtype == torch.uint8:
        return x
    bad = ~torch.isfinite(x).reshape(len(x), -1).all(1)
    if bad.any():
        raise InputError(f"x: row {int(bad.nonzero()[0])} has a NaN or infinite value; {int(bad.sum())} rows have")
    return x


def numbers(values: object, name: str) -> Tensor:
    """Return a tensor of a tensor, an array or nested lists of numbers, detached from what it was computed by."""
    try:
        tensor = values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: not a tensor or an array of numbers ({str(error).splitlines()[0]})") from None
    return tensor.clone() if tensor.is_inference() else tensor
