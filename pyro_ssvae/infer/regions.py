"""Regions of other points: they hide the outline of a point's own, and tell what it covers (choices of this project).

What is erased has the outline of what was there: a region in the shape of a beard tells which beard. So regions that
the same attribute had in other points are erased too, except where another attribute usually acts, since its
characteristic would then have to come with this one's latents.

What is erased may cover all that another attribute acts on: flipping the hair's colour touches the whole beard. That
attribute then sees the whole point as well, or its characteristic would have to come with this one's latents. In
training it does so for half of the points at first, and for all in the second half. Always, and it could as well carry
the colour; never, and the colour's latents have to carry the beard. But once they carry the colour, they keep it, and
what they need no longer carry costs nats. So of two regions, one inside the other, each attribute keeps its own kinds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KEPT = 16  # regions an attribute
JOINED = 3  # of them that are erased with a point's own
SHARE = 0.5  # of the points, in training, for which they are; and for which, at first, what is covered sees the whole
WITHIN = 0.75  # share of where an attribute usually acts from which a mask covers it
USUAL = 0.25  # share of an attribute's regions from which it usually acts on an entry


class Regions(nn.Module):
    """The latest regions of each attribute, of points for which S was that attribute alone.

    :ivar share: of the points, in training, for which what is covered sees the whole.
    :param parts: A, the number of attributes; 1 of classes.
    :param shape: of a mask of one point.
    """

    kept: Tensor
    place: Tensor
    share: Tensor

    def __init__(self, parts: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(parts, KEPT, *shape, dtype=torch.bool))
        self.register_buffer("place", torch.tensor(0))
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

    def covered(self, mask: Tensor) -> Tensor:
        """Return which attributes usually act within a mask, bool ``[A, B]``; none of which no region is known.

        :param mask: ``[B, *shape]``.
        """
        usual = self.usual().flatten(1)
        inside = torch.einsum("as,bs->ab", usual.float(), mask.flatten(1).float())
        found = inside > WITHIN * usual.sum(1, keepdim=True)
        return found & (torch.rand(len(mask), device=mask.device) < self.share) if self.training else found

    def others(self, sets: Tensor) -> Tensor:
        """Return entries to erase beside a point's own region, ``[B, *shape]``; where S is one attribute alone.

        :param sets: S, bool ``[A, B]``.
        """
        n, units = sets.shape[1], [1] * (self.kept.dim() - 2)
        at = sets.int().argmax(0)
        picks = torch.arange(JOINED, device=at.device).expand(n, JOINED)
        chosen = sets.sum(0) == 1
        if self.training:
            picks = torch.randint(KEPT, (n, JOINED), device=at.device)
            chosen = chosen & (torch.rand(n, device=at.device) < SHARE)
        usual = self.usual()
        elsewhere = usual.sum(0) - usual[at].int() > 0
        return self.kept[at.unsqueeze(1), picks].any(1) & ~elsewhere & chosen.reshape(-1, *units)
