"""joblib's processes, dask's workers and SLURM's jobs, each as a function that starts cells.

What it gives for a cell has the methods that futures of joblib (loky) and of dask and submitit's jobs share, so that
one loop serves them all.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from ..errors import InputError, nearest
from .cells import Cell
from .processes import ignore_interrupts
from .work import Work

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


class Task(Protocol):
    """A cell that an engine has been given."""

    def done(self) -> bool: ...

    def exception(self) -> BaseException | None: ...

    def result(self) -> bool: ...

    def cancel(self) -> object: ...


Compute: TypeAlias = Callable[[Cell, Work], bool]
"""Computes a cell; False where another process is at it."""
Submit: TypeAlias = Callable[[Sequence[Cell]], Sequence[Task]]


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
def submitit_jobs(compute: Compute, work: Work, jobs: int, name: str, options: Mapping[str, str]) -> Iterator[Submit]:
    """Give cells to jobs of SLURM, as an array of at most ``jobs`` at a time, or to submitit's own processes.

    :param name: of the executor: ``slurm`` or ``submitit-local``.
    :param options: of a job: names of :data:`SLURM_OPTIONS` and their values.
    """
    import submitit

    cluster = "local" if name == "submitit-local" else "slurm"
    engine = submitit.AutoExecutor(work.folder / "jobs", cluster=cluster)
    engine.update_parameters(**settings_of(options), slurm_array_parallelism=jobs)

    def submit(cells: Sequence[Cell]) -> Sequence[Task]:
        try:
            quiet = stderr_to(work.folder / "jobs" / "stderr") if cluster == "local" else contextlib.nullcontext()
            with quiet, engine.batch():
                tasks: list[Task] = [engine.submit(compute, cell, work) for cell in cells]
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            raise InputError(f"--executor {name}: the jobs were refused ({said})") from None
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
