"""Regions of other points: they hide the outline of a point's own, and tell what it covers (choices of this project).

What is erased has the outline of what was there: a region in the shape of a beard tells which beard. So regions that
the same attribute had in other points are erased too, one after the other. Each spares where another attribute usually
acts if most of that would then be hidden, since its characteristic would have to come with this one's latents.

What is erased may cover all that another attribute acts on: flipping the hair's colour touches the whole beard, where
there is one. That attribute then sees the whole point as well, or its characteristic would have to come with this one's
latents. Whether it is so is asked of a few points a step, one attribute flipped at a time: A covers B with this value
where in most points that have it, most of what B touches is touched by A. In training B sees the whole for half of the
points at first, and for all later on. Always, and it could as well carry the colour; never, and the colour's latents
have to carry the beard. But once they carry the colour, they keep it, and what they need no longer carry costs nats. So
of two regions, one inside the other, each attribute keeps its own kinds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KEPT = 16  # regions an attribute
JOINED = 3  # of them that are erased with a point's own
SHARE = 0.5  # of the points, in training, for which they are; and for which, at first, what is covered sees the whole
WITHIN = 0.75  # share of an attribute's region in a point from which another's covers it
MOST = 0.5  # share of the points from which it does so in most
PROBES = 24  # flips a step, of a few points each attribute's, in which it is asked
PACE = 0.02  # weight of a step in the running share of points
USUAL = 0.25  # share of an attribute's regions from which it usually acts on an entry


class Regions(nn.Module):
    """The latest regions of each attribute, of points for which S was that attribute alone; and which lie in others.

    :ivar within: ``[A, B, v]``: share of the points with value v of B in which A's region covers B's.
    :ivar share: of the points, in training, for which what is covered sees the whole.
    :param parts: A, the number of attributes; 1 of classes.
    :param shape: of a mask of one point.
    """

    kept: Tensor
    place: Tensor
    within: Tensor
    share: Tensor

    def __init__(self, parts: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(parts, KEPT, *shape, dtype=torch.bool))
        self.register_buffer("place", torch.tensor(0))
        self.register_buffer("within", torch.zeros(parts, parts, 2))
        self.register_buffer("share", torch.tensor(SHARE), persistent=False)

    def remember(self, mask: Tensor, sets: Tensor, wanted: Tensor) -> None:
        """Keep a region of each attribute, of any of its points.

        :param mask: ``[B, *shape]``.
        :param sets: S, bool ``[A, B]``.
        :param wanted: whether there is anything to keep yet, bool ``[]``.
        """
        alone = sets & (sets.sum(0) == 1)
        row = (alone + torch.rand(sets.shape, device=sets.device)).argmax(1, keepdim=True)
        slot = torch.arange(KEPT, device=sets.device) == self.place % KEPT
        new = (alone.gather(1, row) & slot & wanted).reshape(*self.kept.shape[:2], *[1] * (mask.dim() - 1))
        self.kept.copy_(torch.where(new, mask[row], self.kept))
        self.place.add_(1)

    def usual(self) -> Tensor:
        """Where each attribute usually acts, bool ``[A, *shape]``."""
        return self.kept.sum(1) > USUAL * KEPT

    def compare(self, masks: Tensor, y: Tensor, wanted: Tensor) -> None:
        """Move the shares of points in which a region covers another towards those of these points.

        :param masks: of each attribute alone, ``[A, n, *shape]``.
        :param y: values of the attributes, 0 or 1, ``[A, n]``.
        :param wanted: whether there is anything to compare yet, bool ``[]``.
        """
        flat = masks.flatten(2).to(self.within.dtype)
        size = flat.sum(-1)
        inside = torch.einsum("ans,bns->abn", flat, flat) > WITHIN * size
        known = torch.stack([y == 0, y == 1], -1) & (size > 0).unsqueeze(-1)
        count = known.sum(1)
        share = torch.einsum("abn,bnv->abv", inside.to(flat.dtype), known.to(flat.dtype)) / count.clamp(min=1)
        moved = torch.lerp(self.within, share, PACE)
        self.within.copy_(torch.where(wanted & (count > 0), moved, self.within))

    def covered(self, sets: Tensor, y: Tensor) -> Tensor:
        """Return which attributes' regions lie within what S touches, bool ``[A, B]``.

        :param sets: S, bool ``[A, B]``.
        :param y: values of the attributes, 0 or 1, ``[A, B]``.
        """
        covers = self.within > MOST
        found = (sets.unsqueeze(1) & torch.where(y == 1, covers[..., 1:], covers[..., :1])).any(0)
        return found & (torch.rand(sets.shape[1], device=sets.device) < self.share) if self.training else found

    def joined(self, region: Tensor, sets: Tensor) -> Tensor:
        """Return a point's region with other points' of the same attribute, ``[B, *shape]``; where S is one alone.

        :param region: ``[B, *shape]``.
        :param sets: S, bool ``[A, B]``.
        """
        n = sets.shape[1]
        at, chosen = sets.int().argmax(0), sets.sum(0) == 1
        picks = torch.arange(JOINED, device=at.device).expand(n, JOINED)
        if self.training:
            picks = torch.randint(KEPT, (n, JOINED), device=at.device)
            chosen = chosen & (torch.rand(n, device=at.device) < SHARE)
        usual = self.usual().flatten(1).to(self.within.dtype)
        most = WITHIN * usual.sum(1, keepdim=True)
        whole = region.flatten(1)
        for pick in picks.unbind(1):
            more = self.kept[at, pick].flatten(1) & chosen.unsqueeze(1)
            hidden = torch.einsum("as,bs->ab", usual, (whole | more).to(usual.dtype)) > most
            spared = torch.einsum("ab,as->bs", (hidden & ~sets).to(usual.dtype), usual) > 0
            whole = whole | (more & ~spared)
        return whole.reshape(region.shape)
