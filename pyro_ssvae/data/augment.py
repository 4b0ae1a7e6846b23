"""Random changes of a batch that leave its labels as they are: few labels go further, and so does a small data set.

Images are moved, turned, scaled and sheared a little; vectors and series get noise in units of their features.
The model is trained on the changed points, both to classify and to reconstruct them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError, nearest

AUGMENTATIONS = ("auto", "none", "affine", "affine+flip", "noise")


def affine(
    x: Tensor, *, shift: float = 2 / 28, angle: float = 0.2, scale: float = 0.1, shear: float = 0.1, flip: bool = False
) -> Tensor:
    """Map each image of ``x [B, C, H, W]`` by a random affine map of its own, dark beyond the border.

    :param shift: largest move, as a share of the side.
    :param angle: largest turn, in radians.
    :param scale: largest logarithm of the stretch of either axis.
    :param shear: largest shear.
    :param flip: also mirror left and right, every second time.
    """
    b = len(x)

    def draw(size: float) -> Tensor:
        return torch.empty(b, device=x.device, dtype=x.dtype).uniform_(-size, size)

    turn, shears, dx, dy = draw(angle), draw(shear), draw(2 * shift), draw(2 * shift)
    sx, sy = draw(scale).exp(), draw(scale).exp()
    if flip:
        sx = sx * draw(1).sign()
    cos, sin = turn.cos(), turn.sin()
    rows = [cos * sx, (cos * shears - sin) * sy, dx, sin * sx, (sin * shears + cos) * sy, dy]
    grid = F.affine_grid(torch.stack(rows, 1).reshape(b, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False).clamp(0, 1)


def unit_scale(x: Tensor) -> Tensor:
    """Return uint8 pixels as numbers in [0, 1]; all else as it is."""
    return x / 255 if x.dtype == torch.uint8 else x


def make_augmentation(name: str, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function that changes a batch of data like ``x``.

    :param name: one of :data:`AUGMENTATIONS`; ``"auto"`` is affine for images, noise for the rest.
    """
    if name not in AUGMENTATIONS:
        raise InputError(f"augment: there is no {name!r}{nearest(name, AUGMENTATIONS)}")
    images = x.dim() == 4
    if name == "auto":
        name = "affine" if images else "noise"
    if name == "none":
        return lambda batch: batch
    if name == "noise":
        some = x[: math.ceil(1e7 / max(1, x[0].numel()))].float() / (255 if x.dtype == torch.uint8 else 1)
        dims = [0, *range(2, x.dim())]
        size = 0.2 * some.std(dims, keepdim=True, correction=0)
        return lambda batch: batch + size.to(batch) * torch.randn_like(batch)
    if not images:
        raise InputError(f"augment: {name!r} needs images [N, C, H, W], not {list(x.shape)}; 'noise' suits these")
    return lambda batch: affine(batch, flip=name == "affine+flip")
