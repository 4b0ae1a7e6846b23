"""Which engine computes a study's cells (joblib, dask or SLURM), and the loop that keeps it at work."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from ..errors import InputError, nearest
from .cells import Cell
from .engines import Compute, Submit, Task, dask_workers, joblib_workers, settings_of, submitit_jobs
from .processes import quietly
from .work import BUSY, Outcome, Work, outcome_of

NEEDS = {"local": (), "joblib": ("joblib",), "dask": ("dask", "distributed"), "slurm": ("submitit",),
         "submitit-local": ("submitit",)}  # fmt: skip
"""The executors, and the packages that each needs."""


@dataclass(frozen=True)
class Executor:
    """Which engine computes cells.

    :param name: one of :data:`NEEDS`.
    :param address: of a dask scheduler; None for a cluster on this machine.
    :param options: of a SLURM job: names of :data:`~.engines.SLURM_OPTIONS` and their values.
    """

    name: str = "local"
    address: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def elsewhere(self) -> bool:
        """Whether cells are computed on other machines, whose devices and cores are not known here."""
        return self.name == "slurm" or self.address is not None


LOCAL = Executor()


def check(executor: Executor) -> None:
    """Raise :class:`InputError` where an engine is unknown, not installed, or has other options."""
    name = executor.name
    if name not in NEEDS:
        raise InputError(f"--executor: there is no {name!r}{nearest(name, NEEDS)}; one of {', '.join(NEEDS)} is needed")
    lacking = [package for package in NEEDS[name] if find_spec(package) is None]
    if lacking:
        raise InputError(
            f"--executor {name}: {lacking[0]} is not installed; pip install 'pyro_ssvae[executors]' has it"
        )
    if executor.address is not None and name != "dask":
        raise InputError(f"--address {executor.address}: --executor dask has one, {name} has not")
    if executor.options and NEEDS[name] != ("submitit",):
        raise InputError(f"--executor-options: jobs of SLURM have options (--executor slurm), {name} has none")
    settings_of(executor.options)
    if name == "slurm" and shutil.which("srun") is None:
        raise InputError(
            "--executor slurm: srun is not found here; a machine of the cluster is needed (submitit-local computes on "
            "this one)"
        )


@contextlib.contextmanager
def started(
    executor: Executor, work: Work, jobs: int, compute: Compute = quietly
) -> Iterator[Callable[[Sequence[Cell]], Iterator[Outcome]]]:
    """Give a function that computes cells by an engine, ``jobs`` at a time; end the engine afterwards.

    :param compute: what computes a cell, of a module that the engine's processes can import.
    :raises InputError: it cannot be had.
    """
    check(executor)
    work = Work(work.folder.resolve(), work.device, work.run, work.threads)
    opened: AbstractContextManager[Submit]
    if executor.name == "joblib":
        opened = joblib_workers(compute, work, jobs)
    elif executor.name == "dask":
        opened = dask_workers(compute, work, jobs, executor.address)
    else:
        opened = submitit_jobs(compute, work, jobs, executor.name, executor.options)
    pause = 1.0 if executor.name == "slurm" else 0.05
    with opened as submit:
        yield lambda cells: computed(submit, cells, work.folder, jobs, pause)


def computed(submit: Submit, cells: Sequence[Cell], folder: Path, jobs: int, pause: float) -> Iterator[Outcome]:
    """Keep up to ``jobs`` cells at work, and yield what came of each."""
    waiting = list(cells)
    running: dict[Cell, Task] = {}
    try:
        while waiting or running:
            some, waiting = waiting[: jobs - len(running)], waiting[jobs - len(running) :]
            if some:
                running.update(zip(some, submit(some), strict=True))
            ended = [cell for cell, task in running.items() if task.done()]
            for cell in ended:
                yield ending(cell, running.pop(cell), folder)
            if not ended:
                time.sleep(pause)
    finally:
        for task in running.values():
            with contextlib.suppress(Exception):  # the engine may have gone before
                task.cancel()


def ending(cell: Cell, task: Task, folder: Path) -> Outcome:
    """Return what came of a cell whose task is over: what it left, or that the engine has lost it."""
    try:
        error = task.exception()
    except Exception as raised:  # as of a task that has gone with its scheduler
        error = raised
    if error is None:
        return outcome_of(cell, folder, 0 if task.result() else BUSY)
    outcome = outcome_of(cell, folder, None)
    if outcome.seconds is not None:
        return outcome
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return Outcome(cell, None, f"{type(error).__name__}: {line}"[:300], "lost")
