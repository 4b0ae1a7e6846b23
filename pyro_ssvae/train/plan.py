"""Which rows each step of a training takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import tee
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..data.blocks import POOL, Blocks, Pass, Share, make_blocks, shares
from ..data.pair_order import Points
from ..data.splits import known_rows
from ..data.streaming import Streamed
from ..label_arrays import CHUNK, MANY
from .settings import FitSettings

# (numbers a point at most, steps) of a training whose number of epochs is not given.
STEPS = ((256, 1500), (4096, 2000), (math.inf, 1000))


@dataclass(frozen=True)
class Plan:
    """How many steps a training takes, and of which rows.

    :ivar n: rows.
    :ivar known: rows with a label.
    :ivar batch_size: rows of all that a step takes, in all processes together.
    :ivar extra: known rows that are added to them.
    :ivar blocks: of what rows go by; None where each epoch puts all rows in order one by one.
    """

    n: int
    known: int
    batch_size: int
    extra: int
    per_epoch: int
    epochs: int
    blocks: Blocks | None = None

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.per_epoch

    @property
    def rows(self) -> int:
        """Rows of a step, added ones included."""
        return self.batch_size + self.extra


def make_plan(x: Points, y: Tensor, s: FitSettings) -> Plan:
    """Return the plan for these points and labels."""
    known = int(known_before(y)[-1])
    batch_size = min(s.batch_size, len(x))
    extra = s.labelled_rows if 0 < known * (batch_size + s.labelled_rows) < s.labelled_rows * len(x) else 0
    per_epoch = len(x) // batch_size
    enough = next(steps for most, steps in STEPS if math.prod(x.shape[1:]) <= most)
    epochs = s.epochs if s.epochs is not None else max(1, math.ceil(enough / per_epoch))
    return Plan(len(x), known, batch_size, extra, per_epoch, epochs, blocks_of(x))


def blocks_of(x: Points) -> Blocks | None:
    """Return the blocks that rows go by: of points in files that are more than a buffer, or of many rows."""
    if isinstance(x, Streamed):
        blocks = x.blocks()
        one_buffer = len(x) <= MANY and blocks.buffers == 1  # it holds all points, which may as well be read once
        return None if one_buffer else blocks
    return make_blocks(len(x), math.prod(x.shape[1:]) * x.dtype.itemsize) if len(x) > MANY else None


def known_before(y: Tensor) -> Tensor:
    """Return how many rows have a label before each :data:`CHUNK` of rows, and in all: int64."""
    counts = [0, *(int(known_rows(part).sum()) for part in y.split(CHUNK))]
    return torch.tensor(counts).cumsum(0)


def rows_of_ranks(y: Tensor, before: Tensor, ranks: Tensor) -> Tensor:
    """Return the rows with a label that have these ranks among them, counted from 0: int64."""
    chunk = torch.searchsorted(before, ranks, right=True) - 1
    rows = torch.empty_like(ranks)
    for c in chunk.unique().tolist():
        own = known_rows(y[c * CHUNK : (c + 1) * CHUNK]).nonzero().squeeze(1).cpu() + c * CHUNK
        rows[chunk == c] = own[ranks[chunk == c] - before[c]]
    return rows


def batches(n: int, known: Tensor, batch_size: int, extra: int, seed: int, epoch: int) -> Tensor:
    """Return the rows of an epoch's batches: all rows in random order, each batch with ``extra`` known rows added.

    They depend on the arguments alone, so that a resumed training takes the same rows. Rows that do not fill a batch
    wait for another epoch's order.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    full = n // batch_size
    rows = torch.randperm(n, generator=generator)[: full * batch_size].reshape(full, batch_size)
    if extra:
        rounds = math.ceil(full * extra / len(known))
        order = torch.cat([torch.randperm(len(known), generator=generator) for _ in range(rounds)])
        rows = torch.cat([rows, known[order[: full * extra]].reshape(full, extra)], 1)
    return rows


class Batch(NamedTuple):
    """The points and labels that this process takes in a step."""

    x: Tensor
    y: Tensor


class Progress(Protocol):
    """How far a training is."""

    done: int

    @property
    def finished(self) -> bool: ...


@dataclass(frozen=True)
class Batches:
    """The batches of a training, on the device; of several processes each takes its share of a batch's rows."""

    x: Points
    y: Tensor
    plan: Plan
    seed: int
    device: torch.device
    rank: int = 0
    size: int = 1

    def since(self, state: Progress) -> Iterator[Batch]:
        """Yield the batches that follow ``state.done``, also where the training is set back, until it is finished."""
        plan = self.plan
        while not state.finished:
            epoch, first = divmod(state.done, plan.per_epoch)
            make = self.one_by_one if plan.blocks is None else self.by_blocks
            with closing(make(epoch, first)) as following:
                for batch in following:
                    done = state.done
                    yield batch
                    if state.done != done + 1:  # set back
                        break

    def one_by_one(self, epoch: int, first: int) -> Generator[Batch]:
        """Yield an epoch's batches from a step on, of rows that are put in order one by one."""
        plan = self.plan
        order = batches(plan.n, self.known, plan.batch_size, plan.extra, self.seed, epoch)[first:]
        for rows in order[:, self.rank :: self.size].to(self.device):
            yield Batch(self.points[rows], self.y[rows].long())

    def by_blocks(self, epoch: int, first: int) -> Generator[Batch]:
        """Yield an epoch's batches from a step on, of rows that go by blocks, read ahead where they are in files."""
        plan, device = self.plan, self.device
        assert plan.blocks is not None
        seed = self.seed * 1_000_003 + epoch
        main = feed(self.x, Pass(plan.blocks, seed), self.share(plan.batch_size, first))
        if not plan.extra:
            for rows, points in main:
                yield Batch(points.to(device), self.y[rows.to(self.y.device)].long())
            return
        for (rows, points), (others, more) in zip(main, self.added(seed + 2**31, first)):
            every = torch.cat([rows, others]).to(self.y.device)
            yield Batch(torch.cat([points.to(device), more.to(device)]), self.y[every].long())

    def added(self, seed: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the known rows that are added to an epoch's batches, and their points.

        They go by blocks too; a buffer of them has served its turn before the next is read.
        """
        plan, x = self.plan, self.x
        blocks = make_blocks(plan.known, self.row_bytes, buffer=POOL)
        one, share = Pass(blocks, seed, plan.per_epoch * plan.extra), self.share(plan.extra, first)
        if isinstance(x, Streamed) and blocks.buffers == 1:
            yield from ((self.known[ranks], points) for ranks, points in feed(self.known_points, one, share))
        else:
            yield from feed(self.by_rank(x) if isinstance(x, Streamed) else x, one, share, self.rows_of)

    def share(self, width: int, first: int) -> Share:
        """Return this process's share of an epoch's steps of ``width`` rows, from step ``first`` on."""
        return Share(width, first, self.plan.per_epoch, self.rank, self.size)

    @property
    def added_rows(self) -> int:
        """How many of this process's rows of a step were added: the last ones."""
        plan = self.plan
        if plan.blocks is not None:
            low, high = self.share(plan.extra, 0).bounds
            return high - low
        return sum(row % self.size == self.rank for row in range(plan.batch_size, plan.rows))

    @property
    def row_bytes(self) -> int:
        """Bytes of a point."""
        return math.prod(self.x.shape[1:]) * self.x.dtype.itemsize

    @cached_property
    def points(self) -> Tensor:
        """All points, on the device, of files read once."""
        return self.x.read_all().to(self.device) if isinstance(self.x, Streamed) else self.x

    @cached_property
    def known(self) -> Tensor:
        """The rows with a label, int64; of many rows only where these are few."""
        return self.rows_of(torch.arange(self.plan.known))

    @cached_property
    def known_points(self) -> Tensor:
        """The points of the rows with a label, of files read once."""
        return next(self.x.stream(iter([self.known]))) if isinstance(self.x, Streamed) else self.x[self.known]

    def by_rank(self, x: Streamed) -> Streamed:
        """Return the points of the rows with a label, read as they are needed."""
        return x.changed(
            lambda points: points,
            x.shape[1:],
            lambda ranks: self.rows_of(torch.from_numpy(ranks)).numpy(),
            self.plan.known,
        )

    @cached_property
    def before(self) -> Tensor:
        """:func:`known_before`."""
        return known_before(self.y)

    def rows_of(self, ranks: Tensor) -> Tensor:
        """Return the rows with a label that have these ranks among them."""
        return rows_of_ranks(self.y, self.before, ranks)


def feed(
    x: Points, one: Pass, share: Share, rows_of: Callable[[Tensor], Tensor] | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what each step of a share takes of a pass, in turn: rows, and their points.

    :param rows_of: says which rows of the labels, and of points in memory, those of the pass are; by default the same.
    """
    buffers, again = tee(shares(one, share))
    read = x.stream(held.rows for held in again) if isinstance(x, Streamed) else iter(())
    parts = list[tuple[Tensor, Tensor]]()
    for held in buffers:
        rows = held.rows if rows_of is None else rows_of(held.rows)
        points = x[rows] if isinstance(x, Tensor) else next(read)
        for here, last in held.portions:
            parts.append((rows[here], points[here.to(points.device)]))
            if last:
                yield parts[0] if len(parts) == 1 else joined(parts)
                parts.clear()
        del points  # before more is read


def joined(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the rows and the points of several parts."""
    return torch.cat([rows for rows, _ in parts]), torch.cat([points for _, points in parts])
