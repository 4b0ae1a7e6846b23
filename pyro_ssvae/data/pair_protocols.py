"""What a pair may say of the points that it takes."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from .schema import Schema


@runtime_checkable
class HasInputShape(Protocol):
    """A pair that says what one of its points looks like."""

    input_shape: tuple[int, ...]


@runtime_checkable
class ChecksPoints(Protocol):
    """A pair that knows which values it takes, missing ones (NaN) among them."""

    def check_points(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class TakesPixels(Protocol):
    """A pair that says whether uint8 values mean pixels in [0, 1]."""

    @property
    def takes_pixels(self) -> bool: ...


@runtime_checkable
class HasPixelRange(Protocol):
    """A pair that knows the least and the largest value of the pictures that it was trained on."""

    pixel_range: tuple[float, float] | None


@runtime_checkable
class HasWhiteLevel(Protocol):
    """A pair that knows the number that is white in the pictures of 16 bits that it was trained on."""

    white_level: int | None


@runtime_checkable
class HasColumnNames(Protocol):
    """A pair that was trained on columns with names; None where they had none."""

    column_names: tuple[str, ...] | None


@runtime_checkable
class HasSchema(Protocol):
    """A pair that was made for a table: how one becomes points; None where it was not."""

    schema: Schema | None
