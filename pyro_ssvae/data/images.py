"""Images of any size and mode as tensors of one shape: decoding a file, cropping and resizing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import InputError, counted
from .checks import check_bytes, reason, shown
from .notices import say

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64_000_000
"""Most pixels an image file may have (8,000 x 8,000); a larger one is refused before it is decoded."""
MAX_SIDE = 4096
"""Largest side that images are resized to."""
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""What is decoded. Pillow knows more, some of which run other programs (EPS runs Ghostscript)."""
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm")
)
NOT_READ = frozenset(
    (".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".svg", ".psd", ".eps", ".dng", ".nef", ".cr2", ".arw", ".dcm",
     ".tga", ".exr", ".hdr", ".ico")
)  # fmt: skip
"""Endings of pictures in formats that are not decoded."""
_GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})

BITS = (8, 10, 12, 14, 16)
"""Bits that a pixel of a 16-bit file may have."""


@runtime_checkable
class HasFrames(Protocol):
    """An image of a format that may have several."""

    @property
    def n_frames(self) -> int: ...


def bits_for(most: int) -> int:
    """Return the fewest bits of a pixel that hold a value."""
    return next(bits for bits in BITS if most < 2**bits)


ImageSize = int | tuple[int, int] | None
"""A square's side, or (height, width), or None for the size the source has."""


def height_width(image_size: ImageSize) -> tuple[int, int] | None:
    """Return ``(height, width)`` of an ``image_size``; raise :class:`InputError` naming ``--image-size``."""
    if image_size is None:
        return None
    size = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= MAX_SIDE for side in size)
    if len(size) != 2 or not whole:
        raise InputError(f"--image-size {shown(image_size)}: one or two whole numbers from 1 to {MAX_SIDE} are needed")
    return size[0], size[1]


def resize(x: Tensor, image_size: ImageSize) -> Tensor:
    """Return images ``[N, C, H, W]`` (uint8, or float32 in [0, 1]) cut and scaled to ``image_size``, in their dtype.

    The largest centred part of the wanted shape is scaled, bilinear with antialiasing, as :func:`decode` does.
    """
    size = height_width(image_size)
    if size is None or size == tuple(x.shape[2:]):
        return x
    check_bytes(x.shape[0] * x.shape[1] * size[0] * size[1] * x.element_size(), f"--image-size {shown(image_size)}")
    top, left, bottom, right = _centre(x.shape[2], x.shape[3], size)
    cut = x[:, :, top:bottom, left:right]
    resized = torch.empty((*x.shape[:2], *size), dtype=x.dtype)
    for rows in torch.arange(len(x)).split(1024):  # float32 copies of a bounded part
        part = interpolate(cut[rows].float(), size, mode="bilinear", antialias=True, align_corners=False)
        resized[rows] = part.round().to(x.dtype) if x.dtype == torch.uint8 else part.clamp(0, 1)
    return resized


def _centre(height: int, width: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of the largest centred part with the proportions of ``size``."""
    cut_h = max(min(height, round(width * size[0] / size[1])), 1)
    cut_w = max(min(width, round(height * size[1] / size[0])), 1)
    top, left = (height - cut_h) // 2, (width - cut_w) // 2
    return top, left, top + cut_h, left + cut_w


def inspect(path: Path) -> tuple[bool, int]:
    """Return whether an image file is grey and how long its shorter side is, from its header alone.

    :raises InputError: the file is no image, or has more than :data:`MAX_PIXELS`.
    """
    with _opened(path) as image:
        return image.mode in _GREY, min(image.size)


def white_of(paths: Sequence[Path], known: int | None = None) -> int | None:
    """Return the value that is white in images of 16 bits, None where there are none of these.

    Cameras and scanners write 10, 12 or 14 bits into files of 16. White is that of the fewest bits that hold all of the
    images, which is said. Files are read only where some have 16 bits. What else :func:`decode` takes for granted of
    them is said too.

    :param known: what is white in the images that a model was trained on, and so in these too; None where it had none.
        Brighter pixels are said to become white.
    """
    found: list[tuple[Path, int, int]] = []
    coloured: list[Path] = []
    moving: list[Path] = []
    clear: list[Path] = []
    for path in paths:
        with _opened(path) as image:
            moving += [path] * (isinstance(image, HasFrames) and image.n_frames > 1)
            clear += [path] * is_clear(image)
            if image.mode.startswith("I"):
                try:
                    pixels = np.asarray(image)
                    found.append((path.parent, int(pixels.max()), int(pixels.min())))
                except Exception:  # cut short: decode says so
                    continue
            elif any(";16" in str(tile) for tile in vars(image).get("tile", ())):
                coloured.append(path)
    for some, what in (
        (moving, "of several frames: of each the first is read"),
        (clear, "that may be transparent in parts: these are laid on white"),
    ):
        if some:
            say(f"{some[0].parent}: {counted(len(some), 'image')}, {shown(some[0].name)} the first, {what}")
    if coloured:
        say(f"{coloured[0].parent}: {counted(len(coloured), 'image')} of 16 bits a colour: of each the upper 8 are "
            f"read, so that {2**16 - 1} is white; with fewer bits in them they are dark, and are to be saved with "
            "8")  # fmt: skip
    if not found:
        return known
    most, least = max(high for _, high, _ in found), min(low for _, _, low in found)
    where = f"{found[0][0]}: {counted(len(found), 'image')} of 16 bits"
    if known is not None and known > 1:
        if most > known:
            say(f"{where}: their pixels go to {most}; {trained_white(known)}")
        return known
    if least < 0 or most >= 2**16:
        say(f"{found[0][0]}: pixels go from {least} to {most}: below 0 is read as black, above {2**16 - 1} as white")
    bits = bits_for(max(0, min(most, 2**16 - 1)))
    if bits < 16:
        say(f"{where}: their pixels go to {most}: read as {bits} bits, {2**bits - 1} is white")
    return int(2**bits - 1)


def trained_white(white: int) -> str:
    """Return what becomes of pixels that are brighter than any could be in training, in words."""
    return f"in those of the training {white} is white, and all beyond is read as white"


def decode(path: Path, *, grey: bool, size: tuple[int, int], white: int | None = None) -> np.ndarray:
    """Return an image file as uint8 ``[1 or 3, *size]``.

    It is turned upright as its EXIF data says; transparent parts are laid on white; 16-bit grey becomes 8-bit; of
    several frames the first is taken. Cutting and scaling are those of :func:`resize`.

    :param white: the value that is white where pixels have 16 bits; the largest by default.
    :raises InputError: the file is cut short or damaged, or has floating-point pixels.
    """
    from PIL import Image, ImageOps

    with _opened(path) as image:
        if image.mode == "F":
            raise InputError(f"{path}: floating-point pixels; save it with 8 or 16 bits")
        try:
            image.load()
            upright = _flat(ImageOps.exif_transpose(image), 2**16 - 1 if white is None else white).convert(
                "L" if grey else "RGB"
            )
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and others
            raise InputError(f"{path}: the image is cut short or damaged ({reason(error)})") from None
        top, left, bottom, right = _centre(upright.height, upright.width, size)
        # cut, then scaled: ImageOps.fit would blend in what lies beyond the cut
        cut = upright.crop((left, top, right, bottom))
        pixels = np.array(cut.resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=np.uint8)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def is_clear(image: Image) -> bool:
    """Whether an image may be transparent in parts."""
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _flat(image: Image, white: int) -> Image:
    """Return the image with 8 bits a channel and without transparency."""
    from PIL.Image import alpha_composite, fromarray, new

    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        return fromarray((deep * 255 // white).clip(0, 255).astype(np.uint8))
    if is_clear(image):
        image = image.convert("RGBA")
        return alpha_composite(new("RGBA", image.size, "white"), image)
    return image


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """Open an image file of at most :data:`MAX_PIXELS`, its pixels unread."""
    from PIL import Image, UnidentifiedImageError

    too_large = f"{path}: more than {MAX_PIXELS:,} pixels; make the image smaller"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own size warning comes above our bound
        try:
            image = Image.open(path, formats=FORMATS)
        except Image.DecompressionBombError:
            raise InputError(too_large) from None
        except Exception as error:  # as above
            what = "unknown format" if isinstance(error, UnidentifiedImageError) else reason(error)
            raise InputError(
                f"{path}: no readable image ({what}): cut short, or none of {', '.join(FORMATS)}"
            ) from None
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(too_large)
            yield image
