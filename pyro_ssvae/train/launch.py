"""The device, the precision and the place of this process among those that share a training."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import nn

from ..errors import InputError
from .launchers import ALONE, Place, place_in
from .progress import Interrupted
from .settings import FitSettings, check_device

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments import LightningEnvironment
    from lightning.fabric.strategies import Strategy

SECONDS = "PYRO_SSVAE_TIMEOUT"
"""Environment variable: how many seconds a process waits for another before it gives up; by default 300."""


class WorkerLost(Interrupted):
    """A process of the training has ended, or does not answer; the others have stopped."""


def summed() -> Strategy:
    """Return Fabric's processes and devices without a wrapper around modules: ``sum_gradients`` does its work.

    Nor does it start processes: :mod:`~.workers` or a launcher has, so that notebooks, too, can have them.
    """
    from lightning.fabric.strategies import DDPStrategy

    class Summed(DDPStrategy):
        def _configure_launcher(self) -> None: ...

        def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
            return module

    return Summed(timeout=timeout())


def environment_of(place: Place) -> LightningEnvironment:
    """Return Fabric's environment of a process that has been started already.

    To Fabric each process is a machine with one device: launchers may start unlike numbers on the machines, and may
    show each process one GPU or all of them.
    """
    from lightning.fabric.plugins.environments import LightningEnvironment

    class Started(LightningEnvironment):
        creates_processes_externally = True
        main_address = place.address
        main_port = place.port

        def local_rank(self) -> int:
            return 0

        def node_rank(self) -> int:
            return place.rank

    return Started()


def timeout() -> timedelta:
    """Return how long to wait for another process."""
    given = os.environ.get(SECONDS, "300")
    try:
        seconds = timedelta(seconds=float(given))
    except (ValueError, OverflowError):
        seconds = timedelta()
    if seconds <= timedelta():
        raise InputError(f"{SECONDS}: {given!r}; a number of seconds above 0 is needed")
    return seconds


def place_of(s: FitSettings) -> Place | None:
    """Return this process's place among those that a launcher has started for a training; None where there is none.

    A process group that is there counts more than variables: Ray Train, say, has made one. ``devices=1`` is one of the
    processes by itself. With ``num_nodes`` and ``NODE_RANK`` this process starts those of its machine.

    :raises InputError: the variables disagree.
    """
    if s.devices == 1 and s.num_nodes == 1:
        return None
    if dist.is_available() and dist.is_initialized():
        rank, size = dist.get_rank(), dist.get_world_size()
        local = os.environ.get("LOCAL_RANK", "")
        place = Place(
            launcher="the process group that is there",
            rank=rank,
            size=size,
            local_rank=int(local) if local.isdecimal() else None,
            local_size=None,
            address="",
            port=0,
        )
        return None if size == 1 else place
    if s.num_nodes > 1 and "NODE_RANK" in os.environ and "RANK" not in os.environ:
        return None
    return place_in(os.environ)


def is_main_process(s: FitSettings) -> bool:
    """Whether this process writes a training's files: the first of a launcher's, or that of the first machine."""
    place = place_of(s)
    if place is not None:
        return place.rank == 0
    return s.num_nodes == 1 or os.environ.get("NODE_RANK", "0") == "0"


def starts_processes(s: FitSettings) -> bool:
    """Whether the training is one of several processes that nobody has started yet."""
    return ((s.devices or 1) > 1 or s.num_nodes > 1) and place_of(s) is None


def make_fabric(s: FitSettings, place: Place | None = None) -> Fabric:
    """Return the device and the precision; where there are several processes, this one's place among them.

    :raises InputError: naming what cannot be had.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments import LightningEnvironment
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    # Whose loggers write, whatever was trained here before.
    rank_zero_only.rank = 0 if place is None else place.rank  # type: ignore[attr-defined]
    for lightning in ("lightning.fabric", "lightning.pytorch", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(lightning).setLevel(logging.WARNING)  # it would say what precision it uses and who has joined
    check_device(s.device)
    kind, _, index = s.device.partition(":")
    gpu = int(index) if index and kind != "cpu" else None
    if place is not None:
        kind, gpu = own_device(kind, place)
    try:
        return Fabric(
            accelerator=kind,
            strategy="auto" if place is None else summed(),
            devices=1 if gpu is None else [gpu],
            num_nodes=1 if place is None else place.size,
            precision=s.precision,  # type: ignore[arg-type]
            plugins=[LightningEnvironment() if place is None else environment_of(place)],  # it looks for no other
        )
    except Exception as error:
        said = f"device {s.device!r}, precision {s.precision!r}"
        raise InputError(f"{said}: {(str(error).splitlines() or [type(error).__name__])[0]}") from None


def own_device(kind: str, place: Place) -> tuple[str, int | None]:
    """Return the kind of device, and of GPUs which one, that is this process's among those of its machine.

    :raises InputError: there are fewer GPUs than processes.
    """
    if kind not in ("auto", "cuda", "gpu") or (kind == "auto" and not torch.cuda.is_available()):
        return ("cpu" if kind == "auto" else kind), None
    count = torch.cuda.device_count()
    if place.local_rank is not None:
        local = place.local_rank
    else:
        local = torch.cuda.current_device() if dist.is_initialized() else place.rank % count
    if count == 1 and "CUDA_VISIBLE_DEVICES" in os.environ:  # each process is shown its own
        return "cuda", 0
    if local >= count:
        there = ", ".join(f"cuda:{i}" for i in range(count))
        raise InputError(f"devices: process {local + 1} of this machine has no GPU; those here are {there}")
    return "cuda", local


def join(s: FitSettings) -> Fabric:
    """Return Fabric for this process: alone, or in the group of those that were started with it, once all are there.

    :raises InputError: ``devices`` is another number than the launcher's; the group that is there cannot serve the
        device.
    :raises WorkerLost: the others have not come.
    """
    place = place_of(s)
    if place is None:
        return make_fabric(s)
    here = place.local_size or place.size
    if s.devices is not None and s.devices not in (here, place.size / s.num_nodes):
        raise InputError(f"devices: {s.devices}, but {place.launcher} started {here}; leave the option out; {ALONE}")
    fabric = make_fabric(s, place)
    if dist.is_initialized():
        backends = dist.get_backend_config()
        if fabric.device.type not in backends:
            raise InputError(
                f"device: {fabric.device.type!r}, but the process group that is there serves {backends}; {ALONE}"
            )
    elif place.address in ("127.0.0.1", "localhost") and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the machine's name may mean nothing
    try:
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise WorkerLost(
            f"the {place.size} processes of {place.launcher} have not found each other at {place.address}:{place.port} "
            f"({str(error).splitlines()[0]})"
        ) from None
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
