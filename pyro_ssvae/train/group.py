"""The processes that share each batch: this one alone, or several that compute what one would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..data.dataset import digest as sha256
from ..data.pair_order import Points
from ..distributed import broadcast, seed_step, shared_batch, sum_gradients
from ..errors import InputError
from ..label_arrays import CHUNK
from .launch import WorkerLost, is_lost

SEEN = 256
"""Rows of the points that processes compare."""


class Measured(NamedTuple):
    """What a step tells: its loss in nats, summed over the rows, and the decodes a row, where a model counts them."""

    loss: Tensor
    decodes: Tensor | None


class Alone:
    """One process: nothing is shared.

    :param stop_requested: whether somebody asks to stop.
    """

    rank, size = 0, 1

    def __init__(self, stop_requested: Callable[[], bool]) -> None:
        self.stops = stop_requested

    def sharing(self, done: int) -> AbstractContextManager[None]:
        """Enter for a step."""
        return nullcontext()

    def reduce(self, measured: Measured, rows: int, done: int) -> Measured:
        """Return the step's numbers."""
        return measured

    def same(self, number: float) -> float:
        """Return the number."""
        return number


class Several:
    """This process among several. Each takes a share of a batch's rows; gradients and numbers are summed.

    :param lost: called where another process has ended or does not answer; returns what to tell.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        module: nn.Module,
        trained: Sequence[Tensor],
        seed: int,
        stop_requested: Callable[[], bool],
        lost: Callable[[], str],
    ) -> None:
        self.rank, self.size = rank, size
        self.module, self.trained, self.seed, self.lost = module, list(trained), seed, lost
        self.stop_requested = stop_requested
        self.own_request = self.any_request = False

    def stops(self) -> bool:
        """Whether any process is asked to stop, as of the latest :meth:`reduce`."""
        return self.any_request

    @contextmanager
    def sharing(self, done: int) -> Iterator[None]:
        """Within it this process's rows are a part of a batch; its random numbers are the step's and its own."""
        seed_step(self.seed, self.rank, done)
        before = [buffer.clone() for buffer in self.module.buffers()]
        self.own_request = self.stop_requested()
        with self.answering(before), shared_batch():
            yield

    def reduce(self, measured: Measured, rows: int, done: int) -> Measured:
        """Sum gradients and loss over the processes; average the decodes, and join the requests to stop."""
        loss, decodes = measured
        mean = loss.new_zeros(()) if decodes is None else decodes.to(loss)
        own = torch.stack([loss, mean * rows, *loss.new_tensor([rows, self.own_request]).unbind()])
        loss, decoded, all_rows, stops = sum_gradients(self.trained, own).unbind()
        look = loss.device.type == "cpu" or done % 8 == 0  # a look at a GPU's number waits for it
        self.any_request = look and bool(stops > 0)
        return Measured(loss, None if decodes is None else decoded / all_rows)

    def same(self, number: float) -> float:
        """Return the first process's number."""
        device = next((p.device for p in self.trained), torch.device("cpu"))
        shared = torch.tensor(number, dtype=torch.float64, device=device)
        with self.answering():
            broadcast([shared])
        return float(shared)

    @contextmanager
    def answering(self, before: Sequence[Tensor] = ()) -> Iterator[None]:
        """Raise :class:`WorkerLost` where another process does not answer; the buffers get the values ``before``."""
        try:
            yield
        except RuntimeError as error:
            if not is_lost(error):
                raise
            for buffer, value in zip(self.module.buffers(), before):
                buffer.copy_(value)
            raise WorkerLost(self.lost()) from error


Group: TypeAlias = Alone | Several


@contextmanager
def meeting() -> Iterator[None]:
    """Raise :class:`WorkerLost` where another process has gone before the first step."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost(error):
            raise
        raise WorkerLost(
            "fit: another process has ended before the training began; each needs the same command and WORLD_SIZE"
        ) from error


def check_alike(x: Points, y: Tensor, rows: int, device: torch.device) -> None:
    """Raise :class:`InputError` unless every process has as many rows, the same labels and, in memory, the same points.

    Of points some rows are compared, at even distances.

    :raises WorkerLost: another process does not answer.
    """
    some = x[:: max(1, len(x) // SEEN)][:SEEN] if isinstance(x, Tensor) else y[:1]
    own = torch.tensor([rows, *digest(y), *digest(some)], device=device)
    ends = torch.cat([own, -own])
    with meeting():
        dist.all_reduce(ends, dist.ReduceOp.MAX)
    if not torch.equal(ends[: len(own)], -ends[len(own) :]):
        raise InputError("fit: the processes have different points or labels; each needs the same, from the same seed")


def digest(values: Tensor) -> list[int]:
    """Return two numbers of 62 bits that tell one tensor's values from another's."""
    told = ""
    for part in values.split(CHUNK):
        told = sha256(part if part.is_floating_point() else part.long(), also=told)
    return [int(told[i : i + 16], 16) >> 2 for i in (0, 16)]
