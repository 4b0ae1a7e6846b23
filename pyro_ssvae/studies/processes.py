"""Cells in processes of their own, so that one that is killed takes no other with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, forkserver
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

import torch

from . import STUDIES
from .cells import Cell
from .work import BUSY, Outcome, Work, attempt, outcome_of

PRELOADED = ("lightning.fabric", "sklearn.cluster")
"""What this package imports where it is used: once for all processes."""


def in_processes(
    cells: Sequence[Cell], work: Work, jobs: int, compute: Callable[[Cell, Work], bool] | None = None
) -> Iterator[Outcome]:
    """Compute each cell in a process of its own, ``jobs`` at a time: one that is killed takes no other with it.

    :param compute: what computes a cell; by default :func:`quietly`.
    """
    context = server()
    waiting = list(cells)
    running: dict[int, tuple[Cell, BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.pop(0)
                process = context.Process(  # type: ignore[attr-defined]
                    target=child, args=(compute or quietly, cell, work), daemon=True
                )
                process.start()
                running[process.sentinel] = (cell, process)
            for sentinel in connection.wait(list(running)):
                cell, process = running.pop(cast(int, sentinel))
                process.join()
                yield outcome_of(cell, work.folder, process.exitcode)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def server() -> BaseContext:
    """Return the context that processes are started from: one with this package loaded, whose forks begin at once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *PRELOADED])
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


def child(compute: Callable[[Cell, Work], bool], cell: Cell, work: Work) -> None:
    """Compute one cell, which is a process's whole life."""
    ignore_interrupts()
    if not compute(cell, work):
        sys.exit(BUSY)


def ignore_interrupts() -> None:
    """Let Ctrl-C be heard by the parent alone, which ends its children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def quietly(cell: Cell, work: Work) -> bool:
    """Compute a cell in a process that others have started; return False where another one is at it."""
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Encountered .*(NaN|inf)|.* was not registered in the param store")
        return attempt(STUDIES[cell.study], cell, None, work)
