"""Compute the cells of a study that are not there yet, one after another or in several processes.

A cell that is done is a file, so that nothing but the files is shared between processes, and a stop at any time loses
no more than the cells at work.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..data import Dataset
from ..train.progress import Interrupted
from .cells import Cell, read
from .plan import Study
from .processes import in_processes
from .progress import display, estimate
from .work import Outcome, compute, device_words, outcome_of


def run(
    study: Study, cells: Sequence[Cell], dataset: Dataset | None, folder: Path, *, jobs: int = 1, device: str = "auto",
    progress: bool = True,
) -> list[Outcome]:  # fmt: skip
    """Compute those of the cells that the folder lacks, and return what came of each.

    A cell that fails does not stop the others. Each of several processes has its share of this one's threads.

    :param dataset: that of all cells; None where there are several, which each cell then loads.
    :param jobs: processes at a time; 1 computes in this one.
    :raises Interrupted: after SIGINT or SIGTERM; the cells that were done are there.
    """
    missing = [cell for cell in cells if read(folder, cell) is None]
    if not missing:
        return []
    outcomes: list[Outcome] = []
    several = len({cell.data for cell in cells}) > 1
    try:
        with termination(), display(len(cells), len(cells) - len(missing), progress, several) as show:
            here, apart = in_turn(study, missing, dataset, folder, device), in_processes(missing, folder, jobs, device)
            for outcome in here if jobs == 1 else apart:
                outcomes.append(outcome)
                show(outcome, estimate(outcomes, missing, jobs))
    except KeyboardInterrupt:
        done = sum(outcome.error is None for outcome in outcomes)
        there = len(cells) - len(missing) + done
        raise Interrupted(f"stopped with {there} of {len(cells)} cells done, which are in {folder / 'cells'}") from None
    return outcomes


def in_turn(
    study: Study, cells: Sequence[Cell], dataset: Dataset | None, folder: Path, device: str
) -> Iterator[Outcome]:
    """Compute cells in this process."""
    for cell in cells:
        compute(study, cell, dataset, folder, device)
        yield outcome_of(cell, folder, 0)


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
