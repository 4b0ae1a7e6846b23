"""Random changes of a batch that leave its labels as they are: few labels go further, and so does a small data set.

Images are moved, turned, scaled and sheared a little; vectors and series get noise in units of their features; of
tables some cells are hidden.
The guide of a model that generates sees the changed points, encodes and classifies them; its likelihood is of the
points as they are. So nothing of the changes is in what is generated, and the objective is a bound on log p(x) still.
A pair without a generative half, or of one's own, is trained on the changed points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError, nearest
from ..nn.reals import mean_and_spread, of_rounding
from .random_rows import has_gaps

AUGMENTATIONS = ("auto", "none", "affine", "affine+flip", "noise", "hide", "binarize")
OF_DATA = ("binarize",)  # those that say what the data are, for every part of a model


@runtime_checkable
class ChoosesAugmentation(Protocol):
    """A model, or a likelihood, that says what ``augment="auto"`` means for it: one of :data:`AUGMENTATIONS`."""

    augmentation: str


@runtime_checkable
class HasLikelihood(Protocol):
    """A model with a likelihood, whose kind of data decides what changes leave it what it is."""

    likelihood: object


def automatic(pair: object) -> str:
    """Return what ``augment="auto"`` means for a pair: what its model or else its likelihood says, else ``"none"``.

    Noise makes no sense on counts and categories, and nothing is known of a pair of one's own.
    """
    if not isinstance(pair, ChoosesAugmentation) or pair.augmentation != "auto":
        return pair.augmentation if isinstance(pair, ChoosesAugmentation) else "none"
    likelihood = pair.likelihood if isinstance(pair, HasLikelihood) else None
    return likelihood.augmentation if isinstance(likelihood, ChoosesAugmentation) else "none"


def mostly(change: Callable[[Tensor], Tensor], share: float = 0.75) -> Callable[[Tensor], Tensor]:
    """Return the function that changes a share of the rows, drawn at random, and leaves the others as they are.

    An encoder that never saw an unchanged point would reconstruct it as the mean of all that it could have been. On
    digits (50 labels, normal likelihood, seeds 0 and 1; accuracy, mean squared error, bound in nats):

    =========================================== ============ ============== ============
    changed points for guide and likelihood     .967 .939    .0250 .0242    11.6 12.0
    for the guide, all rows                     .969 .958    .0206 .0208    24.5 23.4
    for the guide, three rows of four (choice)  .969 .961    .0192 .0191    26.5 25.9
    =========================================== ============ ============== ============
    """

    def changed(x: Tensor) -> Tensor:
        some = torch.rand(len(x), *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device) < share
        return torch.where(some, change(x), x)

    return changed


def unchanged(x: Tensor) -> Tensor:
    """Return the points as they are."""
    return x


def affine(
    x: Tensor,
    *,
    shift: float = 2 / 28,
    angle: float = 0.2,
    scale: float = 0.1,
    shear: float = 0.1,
    flip: bool = False,
    gaps: bool = False,
) -> Tensor:
    """Map each image of ``x [B, C, H, W]`` by a random affine map of its own; beyond the border its edge goes on.

    :param shift: largest move, as a share of the side.
    :param angle: largest turn, in radians.
    :param scale: largest logarithm of the stretch of either axis.
    :param shear: largest shear.
    :param flip: also mirror left and right, every second time.
    :param gaps: entries may be missing (NaN): one between four is missing where most of their weight is, else it is
        the mean of those that are there.
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
    if not gaps:
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    there = ~x.isnan()
    both = torch.cat([torch.where(there, x, 0.0), there.to(x)], 1)
    values, weight = F.grid_sample(both, grid, padding_mode="border", align_corners=False).chunk(2, 1)
    return torch.where(weight < 0.5, torch.nan, values / weight.clamp_min(0.5))


def unit_scale(x: Tensor) -> Tensor:
    """Return uint8 pixels as numbers in [0, 1]; all else as it is."""
    return x / 255 if x.dtype == torch.uint8 else x


def binarized(x: Tensor) -> Tensor:
    """Return black-or-white pixels ``b ~ Bernoulli(x)``; a missing entry (NaN) stays missing."""
    missing = x.isnan()
    return torch.where(missing, x, torch.bernoulli(torch.where(missing, 0.0, x)))


def hide(x: Tensor, share: float = 0.3) -> Tensor:
    """Return ``x`` with a share of its entries, drawn at random, missing: NaN.

    Cells of a table predict each other, and so the classes from whichever cells there are. Trials on five tables with
    20 labels a class and 10 % gaps are in results/trials.
    """
    return torch.where(torch.rand_like(x) < share, torch.nan, x)


def make_augmentation(name: str, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function that changes a batch of data like ``x``.

    :param name: one of :data:`AUGMENTATIONS`; ``"auto"`` is affine for images, noise for the rest. ``"hide"`` takes
        entries away (:func:`hide`), which suits tables. ``"binarize"`` draws
        black-or-white pixels ``b ~ Bernoulli(x)`` afresh for each batch, which encoder and likelihood then both see
        (Salakhutdinov, Murray 2008): the published figures' MNIST.
    """
    if name not in AUGMENTATIONS:
        raise InputError(f"augment: there is no {name!r}{nearest(str(name), AUGMENTATIONS)}")
    images = x.dim() == 4
    if name == "auto":
        name = "affine" if images else "noise"
    if name == "none":
        return unchanged
    if name == "hide":
        return hide
    if name == "noise":
        some = x[: math.ceil(1e7 / max(1, x[0].numel()))].double() / (255 if x.dtype == torch.uint8 else 1)
        dims = [0, *range(2, x.dim())]
        _, spread = mean_and_spread(some, dims)  # a constant has none, however large it is
        size = 0.2 * torch.where(spread > of_rounding(some, dims).view_as(spread), spread, 0.0)
        return lambda batch: batch + size.to(batch) * torch.randn_like(batch)
    if not images:
        raise InputError(f"augment: {name!r} needs images [N, C, H, W], not {list(x.shape)}; 'noise' suits these")
    if name == "binarize":
        return binarized
    flip, gaps = name == "affine+flip", has_gaps(x)
    return lambda batch: affine(batch, flip=flip, gaps=gaps)
