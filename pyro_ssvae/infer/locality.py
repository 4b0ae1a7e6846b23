"""What an attribute touches, and a point without it: inference of the rest from what is left (choice of this project).

A characteristic is what x shows where its attribute acts. With S a set of attributes and ``x̃_S`` the point with the
entries erased that flipping S changes, the guide is ::

    q_S(z | x) = Π_{i in S} q(z_c^i | x) · q(z_s, z_c^{-S} | x̃_S)
    m_S(x) = 1[ | E[x | z] - E[x | z with z_c^S ~ p(z_c^S | 1 - y_S)] | > τ ]        smoothed before, widened after

Any guide gives a valid bound on the same log p(x, y_O); under this one, z_c^S alone can bring what the erased part
shows, its kind included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Erase = Literal["noise", "color"]
OTHERS = 0.3  # most probability of each further attribute in S
EXPLAINED = 0.8  # share of a change that a gain and a shift explain, from which it may be one of colour
ALIKE = 0.6  # and correlation of the outlines before and after, in logarithms
FAINT = 0.02  # of the data's range a step: outlines below it count as none
GAIN = 0.5  # a recoloured part's contrast is scaled by 1 ± this


@dataclass(frozen=True)
class Region:
    """The entries that a change touches, of points ``[B, *input_shape]``.

    :param core: where the change exceeds τ; an image's channels share a mask, ``[B, 1, H, W]``.
    :param mask: the core, widened by an entry on every side; of vectors the core itself.
    :param recolored: ``[B]``, whether the change is one of colour: a gain and a shift a channel explain it, and the
        outlines are there in both, which they are not where something flat comes or goes.
    """

    core: Tensor
    mask: Tensor
    recolored: Tensor


def draw_sets(size: int, n: int, device: torch.device) -> Tensor:
    """Draw S for ``n`` rows, bool ``[A, n]``: one attribute, each other with probability ``0.3 u``, ``u ~ U(0, 1)``."""
    one = torch.arange(size, device=device).unsqueeze(-1) == torch.randint(size, (n,), device=device)
    return one | (torch.rand(size, n, device=device) < OTHERS * torch.rand(n, device=device))


def touched(before: Tensor, after: Tensor, span: Tensor, threshold: float) -> Region:
    """Return where two points differ by more than ``threshold`` of the data's range.

    :param before: ``[B, *input_shape]``; ``after`` likewise.
    :param span: the range of each channel (vectors: entry), shaped to broadcast.
    :param threshold: τ, in (0, 1).
    """
    change = smoothed((after - before).abs() / span)
    if change.dim() == 4:
        change = change.amax(1, keepdim=True)
    core = change > threshold
    mask = widened(core)
    alike = outlines_alike(before / span, after / span, mask) > ALIKE
    return Region(core, mask, alike & (explained(before, after, core) > EXPLAINED))


def erased(x: Tensor, region: Region, low: Tensor, high: Tensor, how: Erase, *, random: bool) -> Tensor:
    """Return ``x`` without what the region shows: ``x̃``.

    ``"noise"``: the region has one grey, drawn a channel and row within the data's range. ``"color"``: the same, but
    for a change of colour, where x loses its mean in the core, and its contrast is scaled at random a channel: the
    colour goes, outlines and patterns stay.

    :param low: the range's ends a channel, shaped to broadcast; ``high`` likewise.
    :param random: draw; else the middle of the range, and the contrast as it is.
    """
    n = len(x)
    units = (n, x.shape[1], *[1] * (x.dim() - 2))
    share = torch.rand(units, device=x.device, dtype=x.dtype) if random else x.new_full(units, 0.5)
    fill = torch.lerp(low.expand(units), high.expand(units), share)
    filled = fill.expand_as(x)
    if how == "color":
        gain = 1 + GAIN * (2 * torch.rand(units, device=x.device, dtype=x.dtype) - 1) if random else 1.0
        mean, _ = moments(x, region.core)
        recolored = torch.minimum(torch.maximum(fill + gain * (x - mean), low), high)
        chosen = region.recolored.reshape(n, *[1] * (x.dim() - 1)) & region.core
        filled = torch.where(chosen, recolored, filled)
    return torch.where(region.mask, filled, x)


def explained(before: Tensor, after: Tensor, core: Tensor) -> Tensor:
    """Return the share of a change that a gain and a shift a channel explain, in the worse direction: ``[B]``.

    In both directions, since a flat part may be a shift of any other flat part, and what it hides is not. NaN where
    nothing changes.
    """
    space = tuple(range(1, before.dim()))
    change = ((after - before).square() * core).sum(space)
    return 1 - torch.maximum(residual(after, before, core), residual(before, after, core)) / change


def outlines_alike(before: Tensor, after: Tensor, mask: Tensor) -> Tensor:
    """Return the correlation of the outlines of two pictures, or series, within a mask: ``[B]``, 0 where one has none.

    In logarithms, since another colour makes all outlines of a part stronger, or all weaker.

    :param before: in units of the data's range; ``after`` likewise.
    """
    inside = mask.to(before)
    space = tuple(range(1, before.dim()))
    count = inside.sum(space, keepdim=True).clamp_min(1)

    def centred(x: Tensor) -> Tensor:
        strength = (outlines(x) + FAINT).log() * inside
        return (strength - strength.sum(space, keepdim=True) / count) * inside

    one, other = centred(before), centred(after)
    size = (one.square().sum(space) * other.square().sum(space)).sqrt()
    return (one * other).sum(space) / size.clamp_min(1e-6)


def outlines(x: Tensor) -> Tensor:
    """Size of the gradient, an image's over all channels: as the mask of a region; of vectors 0."""
    squares = torch.zeros_like(x)
    for dim in range(2, x.dim()):
        step = x.diff(dim=dim).square()
        edge = torch.zeros_like(x.narrow(dim, 0, 1))
        squares = squares + torch.cat([step, edge], dim) + torch.cat([edge, step], dim)
    return (squares.sum(1, keepdim=True) if x.dim() == 4 else squares).sqrt()


def residual(target: Tensor, source: Tensor, core: Tensor) -> Tensor:
    """Sum of squares that ``target ≈ gain * source + shift``, fitted a channel within the core, leaves: ``[B]``."""
    (_, target), (_, source) = moments(target, core), moments(source, core)
    space = tuple(range(2, target.dim()))

    def over(value: Tensor) -> Tensor:
        return value.sum(space) if space else value

    left = over(target.square()) - over(target * source).square() / over(source.square()).clamp_min(1e-12)
    return left.clamp_min(0).sum(1)


def moments(x: Tensor, core: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each channel within the core, shaped to broadcast, and the deviations from it, 0 outside."""
    inside = (core & ~x.isnan()).to(x)
    x = x.nan_to_num()
    space = tuple(range(2, x.dim()))
    total, count = x * inside, inside.expand_as(x)
    if space:
        total, count = total.sum(space, keepdim=True), count.sum(space, keepdim=True)
    mean = total / count.clamp_min(1)
    return mean, (x - mean) * inside


def data_range(x: Tensor, most: int = 4_000_000) -> tuple[Tensor, Tensor]:
    """Return the 0.5 % and 99.5 % points of each channel (vectors: entry), shaped to broadcast over points.

    A channel that hardly varies has a range of 1. Of many points an even sample counts.
    """
    rows = max(2, most // max(1, x[0].numel()))
    x = x[:: max(1, len(x) // rows)][:rows]
    values = x.transpose(0, 1).flatten(1)
    low, high = values.nanquantile(torch.tensor([0.005, 0.995], device=x.device, dtype=x.dtype), 1).nan_to_num()
    high = torch.where(high > low, high, low + 1)
    units = (x.shape[1], *[1] * (x.dim() - 2))
    return low.reshape(units), high.reshape(units)


def smoothed(x: Tensor) -> Tensor:
    """Mean over each entry and its neighbours; of vectors the entry itself."""
    if x.dim() == 4:
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return F.avg_pool1d(x, 3, 1, 1, count_include_pad=False) if x.dim() == 3 else x


def widened(mask: Tensor) -> Tensor:
    """The mask with each entry's neighbours; of vectors the mask itself."""
    if mask.dim() == 4:
        return F.max_pool2d(mask.float(), 3, 1, 1) > 0
    return F.max_pool1d(mask.float(), 3, 1, 1) > 0 if mask.dim() == 3 else mask
