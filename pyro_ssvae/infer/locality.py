"""What an attribute touches, and a point without it: inference of the rest from what is left (choice of this project).

A characteristic is what x shows where its attribute acts. With S a set of attributes and ``x̃_S`` the point with the
entries erased that flipping S changes, the guide is ::

    q_S(z | x) = Π_{i in S} q(z_c^i | x) · q(z_s, z_c^{-S} | x̃_S)
    m_S(x) = 1[ | E[x | z] - E[x | z with z_c^S ~ p(z_c^S | 1 - y_S)] | > τ ]        smoothed before, widened after

Any guide gives a valid bound on the same log p(x, y_O); under this one, z_c^S alone can bring what the erased part
shows, its kind included.
"""

from __future__ import annotations

import torch
from torch import Tensor

OTHERS = 0.3  # most probability of each further attribute in S


def draw_sets(size: int, n: int, device: torch.device) -> Tensor:
    """Draw S for ``n`` rows, bool ``[A, n]``: one attribute, each other with probability ``0.3 u``, ``u ~ U(0, 1)``."""
    one = torch.arange(size, device=device).unsqueeze(-1) == torch.randint(size, (n,), device=device)
    return one | (torch.rand(size, n, device=device) < OTHERS * torch.rand(n, device=device))


def touched(before: Tensor, after: Tensor, span: Tensor, threshold: float) -> Tensor:
    """Return where two points differ by more than ``threshold`` of the data's range.

    :param before: ``[B, *input_shape]``; ``after`` likewise.
    :param span: the range of each channel (vectors: entry), shaped to broadcast; of codes 0, of which any two differ
        by 1.
    :param threshold: τ, in (0, 1).
    """
    change = smoothed(((after - before).abs() / span).nan_to_num(0.0, posinf=1.0))
    if change.dim() == 4:
        change = change.amax(1, keepdim=True)
    return widened(change > threshold)


def erased(x: Tensor, mask: Tensor, low: Tensor, high: Tensor, *, random: bool) -> Tensor:
    """Return ``x`` with one grey a channel and row within a mask, drawn within the data's range: ``x̃``.

    :param low: the range's ends a channel, shaped to broadcast; ``high`` likewise.
    :param random: draw; else the middle of the range.
    """
    units = (*x.shape[:2], *[1] * (x.dim() - 2))
    share = torch.rand(units, device=x.device, dtype=x.dtype) if random else x.new_full(units, 0.5)
    return torch.where(mask, torch.lerp(low.expand(units), high.expand(units), share), x)


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
    for dim in range(2, x.dim()):
        counted = with_neighbours(x.new_ones(x.shape[dim]), 0)
        x = with_neighbours(x, dim) / counted.reshape(-1, *[1] * (x.dim() - dim - 1))
    return x


def widened(mask: Tensor) -> Tensor:
    """The mask with each entry's neighbours; of vectors the mask itself."""
    for dim in range(2, mask.dim()):
        mask = with_neighbours(mask, dim)
    return mask


def with_neighbours(x: Tensor, dim: int) -> Tensor:
    """Each entry and its neighbours along one dimension: their sum, of a mask whether any is set."""
    others, total = x.shape[dim] - 1, x.clone()
    total.narrow(dim, 1, others).add_(x.narrow(dim, 0, others))
    total.narrow(dim, 0, others).add_(x.narrow(dim, 1, others))
    return total
