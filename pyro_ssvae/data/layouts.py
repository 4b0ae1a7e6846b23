"""Which axis of an array is which: pictures and series as people save them, read as the models take them."""

from __future__ import annotations

import numpy as np

from ..errors import InputError, nearest
from .checks import shown

LAYOUTS = {
    "nchw": "pictures [N, C, H, W]",
    "nhwc": "pictures [N, H, W, C]",
    "nhw": "grey pictures [N, H, W]",
    "nct": "series [N, C, T] of C channels",
    "ntc": "series [N, T, C] of C channels",
}
"""The words of ``--layout``, and how an array is then read."""
CHANNELS = (1, 3, 4, 2)
"""Numbers of channels that pictures have, likely ones first."""


def check_layout(layout: str | None) -> None:
    """Raise :class:`InputError` naming ``--layout`` where it is none."""
    if layout is not None and layout not in LAYOUTS:
        raise InputError(f"--layout {shown(layout)}: one of {', '.join(LAYOUTS)} is needed{nearest(layout, LAYOUTS)}")


def layout_of(array: np.ndarray, layout: str | None, where: str) -> tuple[str, str | None]:
    """Return the layout of an array of rank 3 or 4, and a line on it where it is a guess.

    Rank 4 is pictures, their channels the axis of length 1, 3, 4 or 2, the first of those that fit. Rank 3 is grey
    pictures where it has the dtype or the values of pixels (uint8, boolean, whole numbers to 255, floats in [0, 1]) and
    sides that differ by no more than twice; otherwise a series, the channels along the shorter axis.

    :param layout: what a person says that it is; None to guess.
    :raises InputError: a layout of another rank, or pictures of an unlikely number of channels.
    """
    if layout is not None:
        if len(layout) != array.ndim:
            raise InputError(f"--layout {layout}: {where} has shape {list(array.shape)}; {len(layout)} axes are needed")
        return layout, None
    found, sure = guessed(array, where)
    if sure:
        return found, None
    c, *sides = shape_of(array.shape, found)
    made = f"{c} x {sides[0]} x {sides[1]}" if len(sides) == 2 else f"{c} channels, {sides[0]} steps"
    others = " or ".join(word for word in LAYOUTS if len(word) == array.ndim and word != found)
    line = (
        f"{where}: shape {list(array.shape)} is read as {LAYOUTS[found]}: {made}; --layout {others} reads it otherwise"
    )
    return found, line


def guessed(array: np.ndarray, where: str) -> tuple[str, bool]:
    """Return the likely layout of an array, and whether there is no other."""
    if array.ndim == 4:
        first, last = array.shape[1], array.shape[3]
        for channels in CHANNELS:
            if first == channels:
                return "nchw", channels in (1, 3) and last not in (1, 3)
            if last == channels:
                return "nhwc", channels in (1, 3)
        raise InputError(
            f"{where}: shape {shown(list(array.shape))}; images need 1 or 3 channels, [N, C, H, W]; --layout nchw or "
            "nhwc takes other numbers"
        )
    short, long = sorted(array.shape[1:])
    if array.dtype in (np.uint8, np.bool_) or (short >= 5 and long <= 2 * short and like_pixels(array)):
        return "nhw", False
    return ("ntc" if array.shape[2] < array.shape[1] else "nct"), False


def like_pixels(array: np.ndarray) -> bool:
    """Whether all values are whole numbers from 0 to 255 of an integer's dtype, or floats in [0, 1]."""
    low, high = array.min(), array.max()
    return bool(low >= 0 and high <= (1 if array.dtype.kind == "f" else 255))


def shape_of(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Return the shape of a point, channels first, of an array's shape."""
    at = dict(zip(layout, shape))
    return (at.get("c", 1), *(at[axis] for axis in "hwt" if axis in at))


def channels_first(array: np.ndarray, layout: str) -> np.ndarray:
    """Return an array ``[N, C, ...]`` of one that is laid out so."""
    if "c" not in layout:
        return array[:, None]
    return np.moveaxis(array, layout.index("c"), 1)


def counts_in(x: np.ndarray) -> str | None:
    """Return, in words, that vectors look like counts: whole numbers from 0 on, and not only 0 and 1; else None."""
    some = np.asarray(x[:2000])
    with np.errstate(invalid="ignore"):
        whole = bool((some >= 0).all() and (some == np.floor(some)).all())
    if not whole or some.shape[-1] < 2 or some.max() <= 1:
        return None
    high = f"{some.max():g}"
    return f"whole numbers from 0 to {high}; if they are counts, --likelihood negative-binomial suits them"
