"""Engines that a person has already, to compute a study's cells: joblib's processes, dask's workers, SLURM's jobs.

Each is a function that starts cells. What it gives for a cell has the three methods that futures of joblib (loky) and
of dask and submitit's jobs share, so that one loop serves them all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, TypeAlias

from ..errors import InputError, nearest
from .cells import Cell
from .processes import ignore_interrupts, quietly
from .work import BUSY, Outcome, Work, outcome_of

NEEDS = {"local": (), "joblib": ("joblib",), "dask": ("dask", "distributed"), "slurm": ("submitit",),
         "submitit-local": ("submitit",)}  # fmt: skip
"""The executors, and the packages that each needs."""
SLURM_OPTIONS = {
    "partition": str, "account": str, "qos": str, "constraint": str, "gres": str, "exclude": str, "setup": str,
    "time": int, "cpus_per_task": int, "gpus_per_node": int, "mem_gb": float,
}  # fmt: skip
"""What may be said of a job, in SLURM's words, and its type; ``time`` is in minutes."""
CONNECT = 20.0  # seconds that a dask scheduler has to answer
MINUTES = 240  # of a job where nothing is said (choice)
SETTING_OF = {
    "time": "timeout_min",
    "mem_gb": "mem_gb",
    "cpus_per_task": "cpus_per_task",
    "gpus_per_node": "gpus_per_node",
}
"""submitit's own names; it takes the others with ``slurm_`` before them."""


@dataclass(frozen=True)
class Executor:
    """Which engine computes cells.

    :param name: one of :data:`NEEDS`.
    :param address: of a dask scheduler; None for a cluster on this machine.
    :param options: of a SLURM job: names of :data:`SLURM_OPTIONS` and their values.
    """

    name: str = "local"
    address: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def elsewhere(self) -> bool:
        """Whether cells are computed on other machines, whose devices and cores are not known here."""
        return self.name == "slurm" or self.address is not None


LOCAL = Executor()


class Task(Protocol):
    """A cell that an engine has been given."""

    def done(self) -> bool: ...

    def exception(self) -> BaseException | None: ...

    def result(self) -> bool: ...

    def cancel(self) -> object: ...


Compute: TypeAlias = Callable[[Cell, Work], bool]
"""Computes a cell; False where another process is at it."""
Submit: TypeAlias = Callable[[Sequence[Cell]], Sequence[Task]]


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


def settings_of(options: Mapping[str, str]) -> dict[str, str | int | float | list[str]]:
    """Return a job's options as submitit names them.

    :raises InputError: naming the one that cannot be used.
    """
    settings: dict[str, str | int | float | list[str]] = {"timeout_min": MINUTES, "name": "pyro-ssvae"}
    for name, value in options.items():
        if name not in SLURM_OPTIONS:
            known = f"known are {', '.join(SLURM_OPTIONS)}"
            raise InputError(
                f"--executor-options {name}={value}: no such option{nearest(name, SLURM_OPTIONS)}; {known}"
            )
        kind = SLURM_OPTIONS[name]
        try:
            read = kind(value)
        except ValueError:
            read = 0
        if kind is not str and not read > 0:
            unit = " of minutes" if name == "time" else ""
            raise InputError(f"--executor-options {name}={value}: a number{unit} above 0 is needed")
        settings[SETTING_OF.get(name, f"slurm_{name}")] = [value] if name == "setup" else read
    return settings


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
        opened = submitit_jobs(compute, work, jobs, executor)
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


@contextlib.contextmanager
def joblib_workers(compute: Compute, work: Work, jobs: int) -> Iterator[Submit]:
    """Give cells to processes of loky, joblib's own engine.

    Each worker is a pool of its own: a pool whose worker is killed ends all others.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    def pool() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(max_workers=1, timeout=600, initializer=ignore_interrupts)

    pools: list[tuple[ProcessPoolExecutor, Task | None]] = [(pool(), None) for _ in range(jobs)]

    def start(cell: Cell) -> Task:
        i = next(i for i, (_, task) in enumerate(pools) if task is None or task.done())
        free, last = pools[i]
        if last is not None and last.exception() is not None:  # its worker was killed
            free.shutdown(wait=False, kill_workers=True)
            free = pool()
        task: Task = free.submit(compute, cell, work)
        pools[i] = (free, task)
        return task

    try:
        yield lambda cells: [start(cell) for cell in cells]
    finally:
        for each, _ in pools:
            each.shutdown(wait=True, kill_workers=True)


ONE_AT_A_TIME = threading.Lock()  # Pyro's handlers and parameters are a process's, not a thread's


def in_worker(compute: Compute, cell: Cell, work: Work, place: Path, data: str | None) -> bool:
    """Compute a cell in a worker of dask, in the folder and with the data of who asks."""
    with ONE_AT_A_TIME:
        before = Path.cwd()
        if data is not None:
            os.environ["PYRO_SSVAE_DATA"] = data
        os.chdir(place)
        try:
            return compute(cell, work)
        finally:
            os.chdir(before)


@contextlib.contextmanager
def dask_workers(compute: Compute, work: Work, jobs: int, address: str | None) -> Iterator[Submit]:
    """Give cells to the workers of a dask cluster, which sees the same files, or of one on this machine."""
    import dask
    from distributed import Client, LocalCluster

    place, data = Path.cwd(), os.environ.get("PYRO_SSVAE_DATA")
    with contextlib.ExitStack() as stack:
        if address is None:
            # A cell whose worker is killed is tried again by who asked for it, who says so.
            stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
            cluster: LocalCluster | str = stack.enter_context(
                LocalCluster(jobs, threads_per_worker=1, memory_limit=0, dashboard_address=None, silence_logs=50)
            )
        else:
            cluster = address
        try:
            client = stack.enter_context(Client(cluster, timeout=CONNECT))
        except (OSError, ValueError, TypeError) as error:
            said = " ".join(str(error).split())[:200]
            raise InputError(f"--address {address}: no scheduler of dask answers there ({said})") from None
        yield lambda cells: [client.submit(in_worker, compute, cell, work, place, data, pure=False) for cell in cells]


@contextlib.contextmanager
def submitit_jobs(compute: Compute, work: Work, jobs: int, executor: Executor) -> Iterator[Submit]:
    """Give cells to jobs of SLURM, as an array of at most ``jobs`` at a time, or to submitit's own processes."""
    import submitit

    cluster = "local" if executor.name == "submitit-local" else "slurm"
    engine = submitit.AutoExecutor(work.folder / "jobs", cluster=cluster)
    engine.update_parameters(**settings_of(executor.options), slurm_array_parallelism=jobs)

    def submit(cells: Sequence[Cell]) -> Sequence[Task]:
        try:
            quiet = stderr_to(work.folder / "jobs" / "stderr") if cluster == "local" else contextlib.nullcontext()
            with quiet, engine.batch():
                tasks: list[Task] = [engine.submit(compute, cell, work) for cell in cells]
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            raise InputError(f"--executor {executor.name}: the jobs were refused ({said})") from None
        return tasks

    yield submit


@contextlib.contextmanager
def stderr_to(path: Path) -> Iterator[None]:
    """Let processes that are started within it write what they say, such as how Ctrl-C has ended them, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(path, "ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
