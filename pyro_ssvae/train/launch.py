"""The device, the precision and the place of this process among those that share a training."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import nn

from ..errors import InputError
from .progress import Interrupted
from .settings import FitSettings, check_device

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import Strategy

SECONDS = "PYRO_SSVAE_TIMEOUT"
"""Environment variable: how many seconds a process waits for another before it gives up; by default 300."""
WORKERS = "PYRO_SSVAE_WORKERS"
"""Environment variable of a process that :mod:`~.workers` has started: how many there are on this machine."""


class WorkerLost(Interrupted):
    """A process of the training has ended, or does not answer; the others have stopped."""


def summed() -> Strategy:
    """Return Fabric's processes and devices without a wrapper around modules: ``sum_gradients`` does its work.

    Nor does it start processes: :mod:`~.workers` or ``torchrun`` has, so that notebooks, too, can have them.
    """
    from lightning.fabric.strategies import DDPStrategy

    class Summed(DDPStrategy):
        def _configure_launcher(self) -> None: ...

        def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
            return module

    return Summed(timeout=timeout())


def timeout() -> timedelta:
    """Return how long to wait for another process."""
    given = os.environ.get(SECONDS, "300")
    try:
        return timedelta(seconds=float(given))
    except (ValueError, OverflowError):
        raise InputError(f"{SECONDS}: {given!r}; a number of seconds is needed") from None


def by_torchrun(s: FitSettings) -> bool:
    """Whether ``torchrun`` has started the processes of this training. ``devices=1`` is one of them by itself."""
    return bool(dist.is_torchelastic_launched()) and not (s.devices == 1 and s.num_nodes == 1)


def is_main_process(s: FitSettings) -> bool:
    """Whether this process writes a training's files: the first of ``torchrun``'s, or that of the first machine."""
    rank = "RANK" if by_torchrun(s) else "NODE_RANK"
    return not (by_torchrun(s) or s.num_nodes > 1) or os.environ.get(rank, "0") == "0"


def starts_processes(s: FitSettings) -> bool:
    """Whether the training is one of several processes that nobody has started yet."""
    return ((s.devices or 1) > 1 or s.num_nodes > 1) and not by_torchrun(s)


def make_fabric(s: FitSettings, processes: int = 1) -> Fabric:
    """Return the device and the precision; with several processes on this machine, this one's place among them.

    :raises InputError: naming what cannot be had.
    """
    from lightning.fabric import Fabric

    for lightning in ("lightning.fabric", "lightning.pytorch", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(lightning).setLevel(logging.WARNING)  # it would say what precision it uses and who has joined
    check_device(s.device)
    one = processes == 1 and s.num_nodes == 1
    kind, _, index = s.device.partition(":")
    try:
        return Fabric(
            accelerator=kind,
            strategy="auto" if one else summed(),
            devices=[int(index)] if one and index and kind != "cpu" else processes,
            num_nodes=s.num_nodes,
            precision=s.precision,  # type: ignore[arg-type]
        )
    except Exception as error:
        said = f"device {s.device!r}, precision {s.precision!r}" + ("" if one else f", devices {processes}")
        raise InputError(f"{said}: {(str(error).splitlines() or [type(error).__name__])[0]}") from None


def join(s: FitSettings) -> Fabric:
    """Return Fabric for this process: alone, or, under ``torchrun`` and in a worker, in the group, once all are there.

    :raises WorkerLost: the others have not come.
    """
    if WORKERS in os.environ:
        processes = int(os.environ[WORKERS])
    elif by_torchrun(s):
        processes, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        if s.devices not in (None, processes):
            raise InputError(f"devices: {s.devices}, but torchrun started {processes}; leave the option out")
        s = FitSettings(device=s.device, precision=s.precision, num_nodes=world // processes)
    else:
        return make_fabric(s)
    fabric = make_fabric(s, processes)
    try:
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise WorkerLost(f"the processes have not found each other ({str(error).splitlines()[0]})") from None
    return fabric


@contextmanager
def no_look_for_gpus() -> Iterator[None]:
    """Within it, where there is no GPU, PyTorch does not open the driver's library to look for one.

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
