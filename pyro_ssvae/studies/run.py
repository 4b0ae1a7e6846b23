"""Compute the cells of a study that are not there yet, one after another or by several processes of any engine.

A cell that is done is a file, so that nothing but the files is shared between processes, and a stop at any time loses
no more than the cells at work. Several studies may work on the same folder at once: each cell is one process's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch

from ..data import Dataset
from ..train.progress import Interrupted
from .cells import Cell, read
from .claims import ATTEMPTS, is_claimed
from .executors import LOCAL, Executor, started
from .plan import Study
from .processes import in_processes
from .progress import display, estimate
from .work import BUSY, LOST, Outcome, Work, attempt, device_words, outcome_of

Engine: TypeAlias = Callable[[Sequence[Cell]], Iterator[Outcome]]
"""What computes cells, and gives what came of each as it ends."""
PAUSE = 0.5  # seconds between two looks at cells that others compute


def run(
    study: Study, cells: Sequence[Cell], dataset: Dataset | None, folder: Path, *, jobs: int = 1, device: str = "auto",
    progress: bool = True, executor: Executor = LOCAL,
) -> list[Outcome]:  # fmt: skip
    """Compute those of the cells that the folder lacks, and return what came of each.

    A cell that fails does not stop the others; one whose process is killed is tried once more. Each of several
    processes on this machine has its share of this one's threads.

    :param dataset: that of all cells; None where there are several, which each cell then loads.
    :param jobs: processes at a time; 1 computes in this one, unless another executor is named.
    :param executor: what starts the processes.
    :raises InputError: the executor cannot be used.
    :raises Interrupted: after SIGINT or SIGTERM; the cells that were done are there.
    """
    missing = [cell for cell in cells if read(folder, cell) is None]
    if not missing:
        return []
    outcomes: list[Outcome] = []
    several = len({cell.data for cell in cells}) > 1
    try:
        with (
            termination(),
            engine_of(study, dataset, folder, jobs, device, executor) as engine,
            display(len(cells), len(cells) - len(missing), progress, several) as show,
        ):
            for outcome in until_all_ended(engine, missing, folder):
                outcomes.append(outcome)
                show(outcome, estimate(outcomes, missing, jobs))
    except KeyboardInterrupt:
        done = sum(outcome.error is None for outcome in outcomes)
        there = len(cells) - len(missing) + done
        raise Interrupted(f"stopped with {there} of {len(cells)} cells done, which are in {folder / 'cells'}") from None
    return outcomes


@contextlib.contextmanager
def engine_of(
    study: Study, dataset: Dataset | None, folder: Path, jobs: int, device: str, executor: Executor
) -> Iterator[Engine]:
    """Give what computes cells: this process, processes of its own, or those of an executor."""
    threads = None if executor.elsewhere else max(1, torch.get_num_threads() // jobs)
    work = Work(folder, device, uuid.uuid4().hex, threads)
    if executor.name != "local":
        with started(executor, work, jobs) as engine:
            yield engine
    elif jobs == 1:
        yield partial(in_turn, study, dataset, work)
    else:
        yield lambda cells: in_processes(cells, work, jobs)


def in_turn(study: Study, dataset: Dataset | None, work: Work, cells: Sequence[Cell]) -> Iterator[Outcome]:
    """Compute cells in this process."""
    for cell in cells:
        mine = attempt(study, cell, dataset, work)
        yield outcome_of(cell, work.folder, 0 if mine else BUSY)


def until_all_ended(engine: Engine, cells: Sequence[Cell], folder: Path) -> Iterator[Outcome]:
    """Yield what came of each cell in the end.

    Those that another study is at are left to it, and looked at again; so are those whose process was lost, until that
    has happened :data:`~.claims.ATTEMPTS` times.
    """
    lost: Counter[Cell] = Counter()
    waiting = list(cells)
    while waiting:
        free = [cell for cell in waiting if not is_claimed(cell.claim(folder))]
        waiting = [cell for cell in waiting if cell not in free]
        there = {cell: result.seconds for cell in free if (result := read(folder, cell)) is not None}
        yield from (Outcome(cell, seconds) for cell, seconds in there.items())
        for outcome in engine([cell for cell in free if cell not in there]):
            lost[outcome.cell] += outcome.state == "lost"
            if outcome.state == "lost" and lost[outcome.cell] == ATTEMPTS:
                yield replace(outcome, error=f"{LOST.format(ATTEMPTS)} ({outcome.error})", state="ended")
            elif outcome.state == "ended":
                yield outcome
            else:
                waiting.append(outcome.cell)
        if waiting and not free:
            time.sleep(PAUSE)


def default_jobs(device: str, cells: int) -> int:
    """Return how many processes there are by default: one a core, at most 8 and no more than cells; on a GPU one."""
    if device_words(device) != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, 8, cells))


@contextlib.contextmanager
def termination() -> Iterator[None]:
    """Let SIGTERM stop as SIGINT does, for a while."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread, where Python takes no signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
