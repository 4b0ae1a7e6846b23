"""The order of rows that are too many to be put in order one by one, or that lie in files.

A pass puts blocks of consecutive rows in random order, and deals them into buffers; within a buffer, rows are in
random order. So files are read a block at a time, and a process keeps the order of the blocks, not of the rows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK, BUFFER, POOL = 2**18, 2**25, 2**27
"""Bytes: of a block, at least where the file has larger parts; of a buffer; of a buffer of labelled rows."""
BLOCK_ROWS, BUFFER_ROWS = 2**11, 2**18
"""Rows of a block and of a buffer, at most."""
LEAST = 4
"""Blocks of a buffer, at least."""


@dataclass(frozen=True)
class Blocks:
    """Rows ``0 .. n - 1`` in blocks of consecutive ones.

    :ivar starts: int64 ``[blocks + 1]``: the first row of each, and n.
    :ivar buffer: blocks that are held at once, about.
    """

    starts: Tensor
    buffer: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.starts[-1])

    @property
    def buffers(self) -> int:
        """Buffers of a pass; they have as many blocks each, give or take one."""
        return max(1, round(len(self) / self.buffer))


def make_blocks(n: int, row_bytes: int, starts: Tensor | None = None, buffer: int | None = None) -> Blocks:
    """Return n rows of ``row_bytes`` bytes in blocks.

    :param starts: int64, where the parts of the file begin that can only be read whole, and n: blocks are one or
        several of them. None where any rows can be read.
    :param buffer: bytes of a buffer; :data:`BUFFER` where it is None.
    """
    size = max(1, min(BLOCK // max(1, row_bytes), BLOCK_ROWS))
    if starts is None:
        starts = torch.cat([torch.arange(0, n, size), torch.tensor([n])])
    else:
        kept = [0]
        for start in starts.tolist():
            if start - kept[-1] >= size and start < n:
                kept.append(start)
        starts = torch.tensor([*kept, n])
    blocks = max(1, len(starts) - 1)
    held = max(1, min((BUFFER if buffer is None else buffer) // max(1, row_bytes), BUFFER_ROWS))
    return Blocks(starts, max(LEAST, held * blocks // max(1, n)))


class Pass:
    """One pass over all rows: which blocks a buffer holds, and in which order their rows come.

    It depends on the arguments alone. Slots are the places of the order, counted from 0.

    :param slots: how many there are; more than rows where each comes several times. None is one for each row.
    """

    def __init__(self, blocks: Blocks, seed: int, slots: int | None = None) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.starts, self.buffers = blocks.starts, blocks.buffers
        self.order = torch.randperm(len(blocks), generator=generator)
        self.seeds = torch.randint(2**62, (self.buffers,), generator=generator).tolist()
        self.cuts = [len(blocks) * k // self.buffers for k in range(self.buffers + 1)]
        before = torch.cat([torch.zeros(1, dtype=torch.long), self.starts.diff()[self.order].cumsum(0)])[self.cuts]
        self.sizes: list[int] = before.diff().tolist()
        """Rows of each buffer."""
        if slots is not None:
            before = (before.double() * slots / blocks.n).round().long()
        self.begins: list[int] = before.tolist()
        """The first slot of each buffer, and the number of slots."""
        self.latest: dict[tuple[int, int], Tensor] = {}

    def rows(self, k: int) -> Tensor:
        """Return the rows of buffer k, block by block: int64 ``[W]``."""
        held = self.order[self.cuts[k] : self.cuts[k + 1]]
        return torch.cat([torch.arange(int(self.starts[b]), int(self.starts[b + 1])) for b in held])

    def slots(self, k: int) -> int:
        """Return how many slots buffer k fills."""
        return self.begins[k + 1] - self.begins[k]

    def places(self, k: int, low: int, high: int) -> Tensor:
        """Return the places among the rows of buffer k of what some of its slots take; all come equally often.

        :param low, high: the slots, counted from the buffer's first; a negative ``low`` is 0.
        """
        w, low, high = self.sizes[k], max(0, low), max(0, min(high, self.slots(k)))
        some = [self.round(k, r)[max(0, low - r * w) : high - r * w] for r in range(low // w, -(-high // w))]
        return torch.cat(some) if some else torch.zeros(0, dtype=torch.long)

    def round(self, k: int, r: int) -> Tensor:
        """Return the order in which the rows of buffer k come for the r-th time."""
        if (k, r) not in self.latest:
            generator = torch.Generator().manual_seed(self.seeds[k] + r)
            if len(self.latest) > 3:
                del self.latest[min(self.latest)]
            self.latest[k, r] = torch.randperm(self.sizes[k], generator=generator)
        return self.latest[k, r]

    def buffers_of(self, slot: int, width: int) -> range:
        """Return the buffers that ``width`` slots from ``slot`` on lie in."""
        return range(bisect_right(self.begins, slot) - 1, bisect_left(self.begins, slot + width))


@dataclass(frozen=True)
class Share:
    """Which slots of a pass a process takes: of each step's ``width`` rows its part.

    A step's rows, in the order of their blocks in the buffer, are cut into one stretch for each process. So the rows
    of a step do not depend on the number of processes, and a process reads few blocks but its own.

    :ivar first, stop: the steps, as in ``range``.
    """

    width: int
    first: int
    stop: int
    rank: int = 0
    size: int = 1

    @property
    def bounds(self) -> tuple[int, int]:
        """The part of a step, as in ``range``."""
        return self.width * self.rank // self.size, self.width * (self.rank + 1) // self.size


class Portion(NamedTuple):
    """What a step takes of a buffer.

    :ivar rows: places among the rows that this process reads of the buffer.
    :ivar last: whether the step takes nothing of the next buffer.
    """

    rows: Tensor
    last: bool


class Held(NamedTuple):
    """What a process needs of a buffer.

    :ivar rows: int64, block by block, ascending in each.
    """

    rows: Tensor
    portions: Iterable[Portion]


def shares(one: Pass, share: Share) -> Iterator[Held]:
    """Yield what the steps of a share need of each buffer, in turn."""
    low, high = share.first * share.width, share.stop * share.width
    for k in range(one.buffers):
        if one.begins[k] < one.begins[k + 1] > low and one.begins[k] < high:
            yield held_of(one, k, share)


def held_of(one: Pass, k: int, share: Share) -> Held:
    """Return what the steps of a share need of buffer k."""
    begin, end, width = one.begins[k], one.begins[k + 1], share.width
    steps = range(max(share.first, begin // width), min(share.stop, -(-end // width)))
    chosen = (own_places(one, k, step * width, share) for step in steps)
    lasts = [(step + 1) * width <= end for step in steps]
    if one.slots(k) > one.sizes[k]:  # all of them, time and again
        return Held(one.rows(k), map(Portion, chosen, lasts))
    found = list(chosen)
    needed = torch.zeros(one.sizes[k], dtype=torch.bool)
    needed[torch.cat(found)] = True
    among = needed.cumsum(0) - 1
    return Held(one.rows(k)[needed], [Portion(among[some], last) for some, last in zip(found, lasts)])


def own_places(one: Pass, k: int, slot: int, share: Share) -> Tensor:
    """Return which rows of buffer k the step that begins at a slot takes in this process, by their places, ascending.

    Of a step that lies in several buffers the rows are in the order of their places as a share of the buffer.
    """
    low, high = share.bounds
    places, keys, buffers = list[Tensor](), list[Tensor](), list[Tensor]()
    for j in one.buffers_of(slot, share.width):
        first = one.begins[j]
        some = one.places(j, slot - first, slot + share.width - first)
        places.append(some)
        keys.append((some + 0.5) / one.sizes[j])
        buffers.append(torch.full_like(some, j))
    order = torch.cat(keys).argsort(stable=True)[low:high]
    own = torch.cat(places)[order]
    return own if len(places) == 1 else own[torch.cat(buffers)[order] == k]
