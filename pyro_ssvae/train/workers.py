"""The processes of a training, started for the purpose, watched and stopped.

They are fresh Pythons that get the pair by value: neither the script nor the notebook that called runs again, and
classes defined there need no file. Under a launcher, which has started them, this is not used.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TypeAlias
from unittest.mock import patch

import cloudpickle
import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .launch import WorkerLost, make_fabric
from .launchers import OTHERS, Place
from .progress import Callbacks, Interrupted, Row
from .settings import FitSettings

Result: TypeAlias = object
GRACE = 20.0  # seconds that the others have to write a checkpoint once one has ended


def run_workers(
    s: FitSettings,
    work: Callable[..., None],
    x: object,
    y: Tensor,
    arguments: Mapping[str, object],
    *,
    callbacks: Callbacks,
    take: Callable[[Result], None],
) -> None:
    """Run ``work(x, y, **arguments, callbacks=, take=)`` in every process.

    Points travel in a temporary file, which the processes map into their memory; all else travels by value.

    :param callbacks: run here, on the first worker's behalf.
    :param take: gets here what the first worker gives to its own ``take``, also where it fails.
    :raises WorkerLost: a process ended without a word.
    """
    n, node = s.devices or 1, int(os.environ.get("NODE_RANK", "0"))
    if s.num_nodes > 1 and any(name not in os.environ for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")):
        raise InputError(
            f"num_nodes: {s.num_nodes}; NODE_RANK, MASTER_ADDR and MASTER_PORT must say which machine this is and "
            "where the first one listens, as torchrun does"
        )
    place_of_last = Place("devices", rank=0, size=n, local_rank=n - 1, local_size=n, address="", port=0)
    make_fabric(s, place_of_last)  # says what is wrong with the devices
    spawn = multiprocessing.get_context("spawn")
    place = {"WORLD_SIZE": str(n * s.num_nodes), "LOCAL_WORLD_SIZE": str(n)}
    if s.num_nodes == 1:
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    workers: list[SpawnProcess] = []
    ends: list[Connection] = []
    with tempfile.TemporaryDirectory(prefix="pyro_ssvae-") as folder:
        files = [in_file(t, Path(folder, name)) for name, t in (("x", x), ("y", y))]
        job = cloudpickle.dumps((work, files, arguments))
        threads = max(1, torch.get_num_threads() // n)
        for rank in range(n):
            here, there = spawn.Pipe()
            environment = {**place, "RANK": str(node * n + rank), "LOCAL_RANK": str(rank)}
            worker = spawn.Process(target=worker_main, args=(environment, threads, there, job), daemon=True)
            # Without a main module, nothing is run again.
            with patch.dict(sys.modules, {"__main__": types.ModuleType("__main__")}):
                worker.start()
            there.close()
            workers.append(worker)
            ends.append(here)
        try:
            Watcher(workers, ends, callbacks, take).watch()
        finally:
            for worker in workers:
                worker.kill()
                worker.join()


class Watcher:
    """Passes on what the workers say until all have ended; then raises what went wrong."""

    def __init__(
        self,
        workers: list[SpawnProcess],
        ends: list[Connection],
        callbacks: Callbacks,
        take: Callable[[Result], None],
    ) -> None:
        self.workers, self.ends, self.open = workers, ends, list(ends)
        self.callbacks, self.take = callbacks, take
        self.errors: list[BaseException] = []
        self.stopping = False
        self.deadline: float | None = None

    def watch(self) -> None:
        """Run until all workers have ended, or until :data:`GRACE` seconds after the first error."""
        while self.open and (self.deadline is None or time.monotonic() < self.deadline):
            try:
                self.listen()
            except BaseException as error:  # of on_epoch, or Ctrl-C: the workers stop and give what they have
                if isinstance(error, KeyboardInterrupt) and self.stopping:
                    raise
                self.note(error)
                self.stop()
        if self.errors:
            raise worst(self.errors)

    def listen(self) -> None:
        """Wait a moment for the workers, and deal with what they say."""
        if self.callbacks.stop_requested():
            self.stop()
        ready: list[Connection] = wait(self.open, timeout=0.2)  # type: ignore[assignment]
        for end in ready:
            try:
                kind, *said = end.recv()
            except (EOFError, OSError):
                self.ended(end)
                continue
            if kind == "show":
                self.callbacks.show(*said)
            elif kind == "epoch" and self.callbacks.on_epoch is not None and not self.errors:
                self.callbacks.on_epoch(*said)
            elif kind == "result":
                self.take(cloudpickle.loads(said[0]))
            elif kind == "error":
                self.note(cloudpickle.loads(said[0]))

    def stop(self) -> None:
        """Ask all workers to stop."""
        if not self.stopping:
            self.stopping = True
            for end in self.ends:
                tell(end, "stop")

    def ended(self, end: Connection) -> None:
        """Note that a worker has ended."""
        self.open.remove(end)
        rank = self.ends.index(end)
        worker = self.workers[rank]
        worker.join(5)
        if worker.exitcode != 0:
            how = f"signal {-worker.exitcode}" if (worker.exitcode or 0) < 0 else "no word"  # type: ignore[operator]
            self.note(WorkerLost(f"process {rank + 1} of {len(self.ends)} has ended ({how})"))

    def note(self, error: BaseException) -> None:
        """Note an error; the workers have :data:`GRACE` seconds from the first one."""
        self.errors.append(error)
        self.deadline = self.deadline or time.monotonic() + GRACE


def worst(errors: list[BaseException]) -> BaseException:
    """Return the cause of several errors: one of input or program, else who was lost and what it came to."""
    for error in errors:
        if not isinstance(error, Interrupted):
            return error
    ended = next((e for e in errors if isinstance(e, WorkerLost) and "has ended" in str(e)), None)
    state = next((e for e in errors if "state" in str(e)), None)
    if ended is not None and state is not None:
        return WorkerLost(f"{ended}; {state}")
    return ended or state or errors[0]


def worker_main(environment: dict[str, str], threads: int, end: Connection, job: bytes) -> None:
    """Run ``work`` in a process that was started for it, and tell the first process what comes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it asks it to stop
    for launcher in OTHERS:  # of whoever started it
        os.environ.pop(launcher.size, None)
    os.environ.update(environment)
    torch.set_num_threads(threads)
    stop = threading.Event()
    threading.Thread(target=obey, args=(end, stop), daemon=True).start()
    first = environment["LOCAL_RANK"] == "0"

    def show(done: int, words: str) -> None:
        if first:
            tell(end, "show", done, words)

    def on_epoch(row: Row) -> None:
        if first:
            tell(end, "epoch", row)

    def take(result: Result) -> None:
        if first:
            tell(end, "result", cloudpickle.dumps(result))

    try:
        work, files, arguments = cloudpickle.loads(job)
        x, y = (from_file(file) for file in files)
        work(x, y, **arguments, callbacks=Callbacks(show, stop.is_set, on_epoch), take=take)
    except Exception as error:
        if not isinstance(error, (InputError, Interrupted)):
            traceback.print_exc()
        tell(end, "error", portable(error))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # a group that has lost a member would wait for it


def obey(end: Connection, stop: threading.Event) -> None:
    """Set ``stop`` when it is asked for; end this process where the one that started it has gone."""
    try:
        while end.recv():
            stop.set()
    except (EOFError, OSError):
        os._exit(1)


def tell(end: Connection, *words: object) -> None:
    """Send words to the other end, unless it has gone."""
    try:
        end.send(words)
    except (OSError, ValueError):
        return


def portable(error: Exception) -> bytes:
    """Return an exception for another process."""
    try:
        sent = cloudpickle.dumps(error)
        cloudpickle.loads(sent)
        return bytes(sent)
    except Exception:  # such as one whose class takes other arguments
        return bytes(cloudpickle.dumps(RuntimeError(f"{type(error).__name__}: {error}")))


def in_file(points: object, path: Path) -> object:
    """Return a tensor as a file that processes can share; points that lie in files already, as they are."""
    if not isinstance(points, Tensor):
        return points
    array = points.detach().cpu()
    np.save(path.with_suffix(".npy"), array.numpy())
    return path.with_suffix(".npy")


def from_file(points: object) -> object:
    """Return the tensor that :func:`in_file` wrote, in memory that the processes share until one writes to it."""
    return torch.from_numpy(np.load(points, mmap_mode="c")) if isinstance(points, Path) else points


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
