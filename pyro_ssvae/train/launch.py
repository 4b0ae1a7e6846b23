"""The processes of a training: which there are, and how they are started, watched and stopped.

:func:`run_workers` starts them, as fresh Pythons that get the model by value: neither the script nor the notebook that
called runs again, and classes defined there need no file. Under ``torchrun``, which has started them, it is not used.
"""

from __future__ import annotations

import logging
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cloudpickle
import numpy as np
import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy
from torch import Tensor, nn

from ..errors import InputError
from .progress import Interrupted
from .settings import FitSettings

SECONDS = "PYRO_SSVAE_TIMEOUT"
"""Environment variable: how many seconds a process waits for another before it gives up; by default 300."""
GRACE = 20.0  # seconds that the others have to write a checkpoint once one has ended


class Lost(Interrupted):
    """A process of the training has ended, or does not answer; the others have stopped."""


class Summed(DDPStrategy):
    """Fabric's processes and devices, without a wrapper around modules: ``sharing.sum_gradients`` does its work.

    Nor does it start processes: :func:`run_workers` or ``torchrun`` has, so that notebooks, too, may ask for them.
    """

    def _configure_launcher(self) -> None: ...

    def setup_module(self, module: nn.Module) -> Any:
        return module


def timeout() -> timedelta:
    """How long to wait for another process."""
    given = os.environ.get(SECONDS, "300")
    try:
        return timedelta(seconds=float(given))
    except (ValueError, OverflowError):
        raise InputError(f"{SECONDS}: {given!r}; a number of seconds is needed") from None


def by_torchrun(s: FitSettings) -> bool:
    """Whether ``torchrun`` has started the processes of this training. ``devices=1`` is one of them by itself."""
    return bool(dist.is_torchelastic_launched()) and not (s.devices == 1 and s.num_nodes == 1)


def leads(s: FitSettings) -> bool:
    """Whether this process writes a training's files: the first of ``torchrun``'s, or that of the first machine."""
    rank = "RANK" if by_torchrun(s) else "NODE_RANK"
    return not (by_torchrun(s) or s.num_nodes > 1) or os.environ.get(rank, "0") == "0"


def make_fabric(s: FitSettings, processes: int = 1) -> Fabric:
    """The device and the precision; with several processes (on this machine), this one's place among them."""
    one = processes == 1 and s.num_nodes == 1
    strategy: Any = "auto" if one else Summed(timeout=timeout())
    try:
        return Fabric(
            accelerator=s.device,
            strategy=strategy,
            devices=processes,
            num_nodes=s.num_nodes,
            precision=s.precision,  # type: ignore[arg-type]
        )
    except Exception as error:
        said = f"device {s.device!r}, precision {s.precision!r}" + ("" if one else f", devices {processes}")
        raise InputError(f"{said}: {(str(error).splitlines() or [type(error).__name__])[0]}") from None


def join(s: FitSettings) -> Fabric:
    """Fabric for this process: alone, or, under ``torchrun`` and in a worker, in the group, which it waits for."""
    if "PYRO_SSVAE_WORKERS" in os.environ:
        processes = int(os.environ["PYRO_SSVAE_WORKERS"])
    elif by_torchrun(s):
        processes, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        if s.devices not in (None, processes):
            raise InputError(f"devices: {s.devices}, but torchrun started {processes}; leave the option out")
        s = FitSettings(device=s.device, precision=s.precision, num_nodes=world // processes)
    else:
        return make_fabric(s)
    fabric = make_fabric(s, processes)
    for lightning in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(lightning).setLevel(logging.WARNING)  # it would say who has joined
    try:
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise Lost(f"the processes have not found each other ({str(error).splitlines()[0]})") from None
    return fabric


@contextmanager
def no_look_for_gpus() -> Iterator[None]:
    """For a while, where there is no GPU, PyTorch does not open the driver's library to see whether there is one.

    Its optimisers ask at every step, and Lightning has set ``PYTORCH_NVML_BASED_CUDA_CHECK``, which makes the answer
    take 0.14 ms.
    """
    name = "PYTORCH_NVML_BASED_CUDA_CHECK"
    before = os.environ.get(name)
    if before is None or torch.cuda.is_available():
        yield
        return
    os.environ[name] = "0"
    try:
        yield
    finally:
        os.environ[name] = before


def is_lost(error: Exception) -> bool:
    """Whether another process's end, or silence, is what made a sum over processes fail."""
    words = ("gloo", "NCCL", "onnection", "imed out")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def check_alike(y: Tensor, rows: int, device: torch.device) -> None:
    """Raise :class:`InputError` unless every process has as many rows and the same labels."""
    place = torch.arange(1, y.numel() + 1, dtype=torch.float64).reshape(y.shape)
    own = torch.tensor([rows, float((y.double().cpu() * place).sum())]).to(device)
    ends = torch.cat([own, -own])
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    if not torch.equal(ends[:2], -ends[2:]):
        raise InputError("fit: the processes have different points or labels; each needs the same, from the same seed")


def run_workers(
    s: FitSettings,
    train: Callable[..., Any],
    x: Any,
    y: Tensor,
    arguments: dict[str, Any],
    *,
    show: Callable[[int, str], None],
    asked: Callable[[], bool],
    on_epoch: Callable[[dict[str, float]], None] | None,
) -> Any:
    """Run ``train(x, y, **arguments, show=, asked=, on_epoch=)`` in every process, and return what the first returns.

    Points travel in a temporary file, which the processes map into their memory; all else travels by value.

    :param show, asked, on_epoch: run here, on the first worker's behalf.
    :raises Lost: a process ended without a word.
    """
    n, node = s.devices or 1, int(os.environ.get("NODE_RANK", "0"))
    if s.num_nodes > 1 and any(name not in os.environ for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")):
        raise InputError(
            f"num_nodes: {s.num_nodes}; NODE_RANK, MASTER_ADDR and MASTER_PORT must say which machine this is and "
            "where the first one listens, as torchrun does"
        )
    make_fabric(s, n)  # says what is wrong with the devices
    make = multiprocessing.get_context("spawn")
    place = {"PYRO_SSVAE_WORKERS": str(n), "NODE_RANK": str(node)}
    if s.num_nodes == 1:
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        place |= {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    workers, ends = [], []
    with tempfile.TemporaryDirectory(prefix="pyro_ssvae-") as folder:
        work = cloudpickle.dumps(
            (train, [in_file(t, Path(folder, name)) for name, t in (("x", x), ("y", y))], arguments)
        )
        threads = max(1, torch.get_num_threads() // n)
        for rank in range(n):
            here, there = make.Pipe()
            environment = {**place, "LOCAL_RANK": str(rank)}
            worker = make.Process(target=worker_main, args=(environment, threads, there, work), daemon=True)
            # Without a main module, nothing is run again.
            with patch.dict(sys.modules, {"__main__": types.ModuleType("__main__")}):
                worker.start()
            there.close()
            workers.append(worker)
            ends.append(here)
        try:
            return watch(workers, ends, show, asked, on_epoch)
        finally:
            for worker in workers:
                worker.kill()
                worker.join()


def watch(
    workers: list[Any],
    ends: list[Connection],
    show: Callable[[int, str], None],
    asked: Callable[[], bool],
    on_epoch: Callable[[dict[str, float]], None] | None,
) -> Any:
    """Pass on what the workers say until all have ended; then return the first's result, or raise what went wrong."""
    open_ends: list[Any] = list(ends)
    errors: list[Exception] = []
    result, told, deadline = None, False, None
    while open_ends and (deadline is None or time.monotonic() < deadline):
        if asked() and not told:
            told = True
            for end in ends:
                tell(end, "stop")
        ready: list[Any] = wait(open_ends, timeout=0.2)
        for end in ready:
            rank = ends.index(end)
            try:
                kind, *said = end.recv()
            except (EOFError, OSError):
                open_ends.remove(end)
                workers[rank].join(5)
                if workers[rank].exitcode != 0:
                    how = f"signal {-workers[rank].exitcode}" if (workers[rank].exitcode or 0) < 0 else "no word"
                    errors.append(Lost(f"process {rank + 1} of {len(ends)} has ended ({how})"))
                    deadline = deadline or time.monotonic() + GRACE
                continue
            if kind == "show":
                show(*said)
            elif kind == "epoch" and on_epoch is not None:
                on_epoch(*said)
            elif kind == "result":
                result = cloudpickle.loads(said[0])
            elif kind == "error":
                errors.append(cloudpickle.loads(said[0]))
                deadline = deadline or time.monotonic() + GRACE
    if errors:
        raise worst(errors)
    return result


def worst(errors: list[Exception]) -> Exception:
    """Of several processes' errors the cause: one of input or program, else who was lost and what it came to."""
    for error in errors:
        if not isinstance(error, Interrupted):
            return error
    ended = next((e for e in errors if isinstance(e, Lost) and "has ended" in str(e)), None)
    state = next((e for e in errors if "state" in str(e)), None)
    if ended is not None and state is not None:
        return Lost(f"{ended}; {state}")
    return ended or state or errors[0]


def worker_main(environment: dict[str, str], threads: int, end: Connection, work: bytes) -> None:
    """What a worker runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it asks it to stop
    os.environ.update(environment)
    torch.set_num_threads(threads)
    stop = threading.Event()
    threading.Thread(target=obey, args=(end, stop), daemon=True).start()
    first = environment["LOCAL_RANK"] == "0"

    def show(done: int, words: str) -> None:
        if first:
            tell(end, "show", done, words)

    def on_epoch(row: dict[str, float]) -> None:
        if first:
            tell(end, "epoch", row)

    try:
        train, files, arguments = cloudpickle.loads(work)
        x, y = (from_file(file) for file in files)
        result = train(x, y, **arguments, show=show, asked=stop.is_set, on_epoch=on_epoch)
        if first:
            tell(end, "result", cloudpickle.dumps(result))
    except Exception as error:
        if not isinstance(error, (InputError, Interrupted)):
            traceback.print_exc()
        tell(end, "error", portable(error))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # a group that has lost a member would wait for it


def obey(end: Connection, stop: threading.Event) -> None:
    """Note a request to stop; end where nobody is there any more to ask."""
    try:
        while end.recv():
            stop.set()
    except (EOFError, OSError):
        os._exit(1)


def tell(end: Connection, *words: Any) -> None:
    """Send, unless the other end has gone."""
    try:
        end.send(words)
    except (OSError, ValueError):
        return


def portable(error: Exception) -> bytes:
    """An exception for another process."""
    try:
        sent = cloudpickle.dumps(error)
        cloudpickle.loads(sent)
        return bytes(sent)
    except Exception:  # such as one whose class takes other arguments
        return bytes(cloudpickle.dumps(RuntimeError(f"{type(error).__name__}: {error}")))


def in_file(points: Any, path: Path) -> Any:
    """A tensor as a file that processes can share; points that lie in files already, as they are."""
    if not isinstance(points, Tensor):
        return points
    array = points.detach().cpu()
    np.save(path.with_suffix(".npy"), array.numpy())
    return path.with_suffix(".npy")


def from_file(points: Any) -> Any:
    """The tensor that :func:`in_file` wrote, in memory that the processes share as long as none writes to it."""
    return torch.from_numpy(np.load(points, mmap_mode="c")) if isinstance(points, Path) else points


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
