"""Compute the cells of a study that are not there yet, one after another or in several processes.

A cell that is done is a file, so that nothing but the files is shared between processes, and a stop at any time loses
no more than the cells at work.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any

import pyro
import sklearn
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from threadpoolctl import threadpool_limits

from ..data import Dataset, fingerprint
from ..errors import InputError
from ..experiment.run import load_data
from ..files import write_atomically
from ..train.fit import Interrupted
from .cells import Cell, Result, read, write
from .plan import Study, source


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: its seconds, or in one line why there is no result."""

    cell: Cell
    seconds: float | None
    error: str | None = None


def run(
    study: Study, cells: Sequence[Cell], whole: Dataset, folder: Path, *, jobs: int = 1, device: str = "auto",
    progress: bool = True,
) -> list[Outcome]:  # fmt: skip
    """Compute those of the cells that the folder lacks, and return what came of each.

    A cell that fails does not stop the others. Each of several processes has its share of this one's threads.

    :param jobs: processes at a time; 1 computes in this one.
    :raises Interrupted: after SIGINT or SIGTERM; the cells that were done are there.
    """
    missing = [cell for cell in cells if read(folder, cell) is None]
    if not missing:
        return []
    outcomes: list[Outcome] = []
    try:
        with termination(), display(len(cells), len(cells) - len(missing), progress) as show:
            work = in_turn if jobs == 1 else in_processes
            for outcome in work(study, missing, whole, folder, jobs, device):
                outcomes.append(outcome)
                show(outcome, estimate(outcomes, missing, jobs))
    except KeyboardInterrupt:
        done = sum(outcome.error is None for outcome in outcomes)
        there = len(cells) - len(missing) + done
        raise Interrupted(f"stopped with {there} of {len(cells)} cells done, which are in {folder / 'cells'}") from None
    return outcomes


def in_turn(
    study: Study, cells: Sequence[Cell], whole: Dataset, folder: Path, jobs: int, device: str
) -> Iterator[Outcome]:
    """Compute cells in this process."""
    for cell in cells:
        compute(study, cell, whole, folder, device)
        yield outcome_of(cell, folder, 0)


def in_processes(
    study: Study, cells: Sequence[Cell], whole: Dataset, folder: Path, jobs: int, device: str
) -> Iterator[Outcome]:
    """Compute each cell in a process of its own, ``jobs`` at a time: one that is killed takes no other with it."""
    context = server()
    threads = max(1, torch.get_num_threads() // jobs)
    waiting = list(cells)
    running: dict[Any, tuple[Cell, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.pop(0)
                process = context.Process(target=child, args=(cell, folder, device, threads), daemon=True)
                process.start()
                running[process.sentinel] = (cell, process)
            for sentinel in connection.wait(list(running)):
                cell, process = running.pop(sentinel)
                process.join()
                yield outcome_of(cell, folder, process.exitcode)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def server() -> Any:
    """The context that processes are started from: a process with this package loaded, whose forks begin at once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    package = str(Path(__file__).resolve().parents[2])
    path = {"PYTHONPATH": os.pathsep.join([package, *sys.path]), "PYTHONSAFEPATH": "1"}  # this package, no other
    before = {name: os.environ.get(name) for name in path}
    heard = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    try:
        os.environ.update(path)
        if heard is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: what Ctrl-C ends is ended by this process
        forkserver.ensure_running()
    finally:
        if heard is not None:
            signal.signal(signal.SIGINT, heard)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return context


def child(cell: Cell, folder: Path, device: str, threads: int) -> None:
    """A process's whole life: one cell."""
    from . import STUDIES

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends its children
    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Encountered .*(NaN|inf)|.* was not registered in the param store")
        compute(STUDIES[cell.study], cell, None, folder, device)


def compute(study: Study, cell: Cell, whole: Dataset | None, folder: Path, device: str) -> None:
    """Compute a cell and write it; where it fails, write why.

    :param whole: the cell's data; None to load it.
    """
    started = time.monotonic()
    try:
        if whole is None:
            whole = load_data(source(cell))
            if fingerprint(whole)[:16] != cell.fingerprint:
                raise InputError(f"{cell.data}: it has changed since the study began; the same command begins anew")
        with threadpool_limits(torch.get_num_threads()):
            metrics = study.compute(cell, whole, device)
        result = Result(cell, finite(metrics), time.monotonic() - started)
        write(folder, result, versions=versions(), device=device_words(device), threads=torch.get_num_threads())
        cell.failure(folder).unlink(missing_ok=True)
    except Exception as error:  # whatever it is, the other cells go on
        said = " ".join(str(error).split())[:300]
        line = said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"
        write_atomically(cell.failure(folder), f"{line}\n\n{traceback.format_exc()}".encode())


def outcome_of(cell: Cell, folder: Path, exitcode: int | None) -> Outcome:
    """Look at what a cell left behind."""
    result = read(folder, cell)
    if result is not None:
        return Outcome(cell, result.seconds)
    if exitcode is not None and exitcode < 0:
        return Outcome(cell, None, f"its process was ended by {signal.Signals(-exitcode).name}; too little memory?")
    try:
        return Outcome(cell, None, cell.failure(folder).read_text("utf-8").splitlines()[0])
    except (OSError, ValueError, IndexError):
        return Outcome(cell, None, f"it left no result (exit status {exitcode})")


def finite(value: Any) -> Any:
    """Metrics without numbers that JSON does not have; these become None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("pyro_ssvae")
    except PackageNotFoundError:  # run from a checkout
        own = "unknown"
    return {
        "pyro_ssvae": own,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pyro": pyro.__version__,
        "scikit-learn": sklearn.__version__,
    }


def device_words(device: str) -> str:
    """The processor that ``device`` means here."""
    if device in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return "cpu" if device == "auto" else device


def default_jobs(device: str, cells: int) -> int:
    """One process a core, at most 8 and no more than cells; on a GPU one."""
    if device_words(device) != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, 8, cells))


def estimate(outcomes: Sequence[Outcome], missing: Sequence[Cell], jobs: int) -> float | None:
    """Seconds that the cells left will take: each as long as those of its method and number of labels, else of its
    method, else as all; None before any is done."""
    done = [o for o in outcomes if o.seconds is not None]
    if not done:
        return None
    over = {outcome.cell for outcome in outcomes}
    total = 0.0
    for cell in missing:
        if cell not in over:
            alike = [o for o in done if o.cell.method == cell.method]
            closest = [o for o in alike if o.cell.labels == cell.labels]
            some = closest or alike or done
            total += sum(o.seconds or 0.0 for o in some) / len(some)
    return total / min(jobs, max(1, len(missing)))


def duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def display(cells: int, done: int, visible: bool) -> Iterator[Any]:
    """Give a function that shows an outcome and the time left; failures are said even where nothing is shown."""
    console = Console(highlight=False, soft_wrap=True)
    columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, console=console, disable=not visible, transient=True) as bar:
        task = bar.add_task("cells", total=cells, completed=done, words="")
        count = done

        def show(outcome: Outcome, left: float | None) -> None:
            nonlocal count
            count += 1
            words = "" if left is None else f"about {duration(left)} left"
            bar.update(task, completed=count, words=words)
            cell = outcome.cell
            name = " ".join([cell.method, f"{cell.labels} labels", *cell.classes, f"seed {cell.seed}"])
            if outcome.error is not None:
                console.print(f"failed: {name}: {outcome.error}", markup=False)
            elif visible:
                took = duration(outcome.seconds or 0)
                console.print(f"{count}/{cells} {name}: {took}{', ' if words else ''}{words}", markup=False)

        yield show


@contextlib.contextmanager
def termination() -> Iterator[None]:
    """SIGTERM stops as SIGINT does, for a while."""

    def stop(number: int, frame: Any) -> None:
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
