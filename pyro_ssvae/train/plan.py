"""Which rows each step of a training takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..data.inputs import Points
from ..data.streaming import batches_of
from ..labels import MISSING
from .settings import FitSettings

# Steps of a training whose number of epochs nobody gave, for points of at most so many numbers each.
STEPS = ((256, 1500), (4096, 2000), (math.inf, 1000))


@dataclass(frozen=True)
class Plan:
    """How many steps a training takes, and of which rows.

    :ivar n: rows.
    :ivar known: the rows with a label.
    :ivar batch_size: rows of all that a step takes, in all processes together.
    :ivar extra: known rows that are added to them.
    """

    n: int
    known: Tensor
    batch_size: int
    extra: int
    per_epoch: int
    epochs: int

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
    known = (y != MISSING).reshape(len(y), -1).any(1).nonzero().squeeze(-1).cpu()
    batch_size = min(s.batch_size, len(x))
    extra = s.labelled_rows if 0 < len(known) * (batch_size + s.labelled_rows) < s.labelled_rows * len(x) else 0
    per_epoch = len(x) // batch_size
    enough = next(steps for most, steps in STEPS if math.prod(x.shape[1:]) <= most)
    epochs = s.epochs if s.epochs is not None else max(1, math.ceil(enough / per_epoch))
    return Plan(len(x), known, batch_size, extra, per_epoch, epochs)


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
            order = batches(plan.n, plan.known, plan.batch_size, plan.extra, self.seed, epoch)[first:]
            order = order[:, self.rank :: self.size].to(self.device)
            for rows, points in zip(order, batches_of(self.x, order, self.device)):
                done = state.done
                yield Batch(points, self.y[rows])
                if state.done != done + 1:  # set back
                    break
