"""One way of joining, whoever has started the processes: the same numbers as one, and one line where they disagree."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import launched
import pytest
import torch

from pyro_ssvae import InputError
from pyro_ssvae.train import launch
from pyro_ssvae.train.launch import (
    is_main_process,
    join,
    make_fabric,
    own_device,
    place_of,
    starts_processes,
    timeout,
)
from pyro_ssvae.train.launchers import Place, place_in
from pyro_ssvae.train.settings import FitSettings
from pyro_ssvae.train.workers import free_port

TORCH = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a"}
OMPI = {
    "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}  # fmt: skip
PMI = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
SLURM = {
    "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_JOB_ID": "7123456",
    "SLURM_JOB_NODELIST": "gpu-[011-012,020],big3", "SLURMD_NODENAME": "gpu-012", "SLURM_STEP_ID": "2",
}  # fmt: skip


def without(variables: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in names}


PLACES: list[tuple[dict[str, str], Place | None]] = [
    ({}, None),
    (TORCH, Place("torchrun", 1, 4, 1, 2, "a", 29500)),
    ({**TORCH, "MASTER_PORT": "77"}, Place("torchrun", 1, 4, 1, 2, "a", 77)),
    (without(TORCH, "LOCAL_RANK", "LOCAL_WORLD_SIZE"), Place("torchrun", 1, 4, None, None, "a", 29500)),
    ({"RANK": "0", "WORLD_SIZE": "1"}, None),
    ({"WORLD_SIZE": "1"}, None),
    ({**OMPI, "MASTER_ADDR": "h"}, Place("mpirun", 3, 4, 1, 2, "h", 29500)),
    (OMPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, Place("mpirun", 3, 4, 1, 4, "127.0.0.1", 29500)),
    (PMI, Place("mpiexec", 1, 2, 1, 2, "127.0.0.1", 29500)),
    (SLURM, Place("srun", 5, 8, 1, None, "gpu-011", 15000 + 3458)),
    ({**SLURM, "SLURM_STEP_NODELIST": "gpu-012", "SLURM_STEP_ID": "0"}, Place("srun", 5, 8, 1, None, "gpu-012", 18456)),
    ({**SLURM, "MASTER_ADDR": "b", "MASTER_PORT": "9"}, Place("srun", 5, 8, 1, None, "b", 9)),
    # An allocation whose processes srun has not started: a batch script, an interactive shell, salloc; and one task.
    (without(SLURM, "SLURM_STEP_ID") | {"SLURM_PROCID": "0"}, None),
    ({**SLURM, "SLURM_JOB_NAME": "interactive"}, None),
    ({**SLURM, "SLURM_JOB_NAME": "bash"}, None),
    (without(SLURM, "SLURM_PROCID", "SLURM_STEP_ID"), None),
    ({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
    # Launchers started by others: mpirun's daemons by srun, torchrun by one task a machine, srun with PMI.
    ({**SLURM, **PMI}, Place("mpiexec", 1, 2, 1, 2, "127.0.0.1", 29500)),
    ({**SLURM, **OMPI, "MASTER_ADDR": "h"}, Place("mpirun", 3, 4, 1, 2, "h", 29500)),
    ({**OMPI, **TORCH, "TORCHELASTIC_RUN_ID": "x"}, Place("torchrun", 1, 4, 1, 2, "a", 29500)),
    ({**SLURM, **TORCH}, Place("torchrun", 1, 4, 1, 2, "a", 29500)),
    ({**SLURM, "WORLD_SIZE": "8"}, Place("srun", 5, 8, 1, None, "gpu-011", 18458)),
]


@pytest.mark.parametrize(("variables", "place"), PLACES)
def test_what_a_launcher_says(variables: dict[str, str], place: Place | None) -> None:
    assert place_in(variables) == place


REFUSED: list[tuple[dict[str, str], str]] = [
    ({**TORCH, "RANK": "4"}, "RANK is 4, but WORLD_SIZE is 4; of 4 processes the ranks are 0 to 3"),
    ({**OMPI, "OMPI_COMM_WORLD_RANK": "9"}, "OMPI_COMM_WORLD_RANK is 9, but OMPI_COMM_WORLD_SIZE is 4"),
    (
        without(TORCH, "MASTER_ADDR"),
        "MASTER_ADDR is not set, but WORLD_SIZE is 4; the machine of the process with RANK 0",
    ),
    (OMPI, "MASTER_ADDR is not set, but OMPI_COMM_WORLD_SIZE is 4; .* mpirun -x MASTER_ADDR=HOST"),
    (without(SLURM, "SLURM_JOB_NODELIST"), "MASTER_ADDR is not set, but SLURM_NTASKS is 8"),
    ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK is not set"),
    ({"RANK": "1"}, "RANK is 1, but WORLD_SIZE is not set"),
    ({**OMPI, **TORCH, "WORLD_SIZE": "2", "RANK": "1"}, "OMPI_COMM_WORLD_RANK is 3, but RANK is 1"),
    ({**OMPI, "MASTER_ADDR": "a", "WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE is 4, but WORLD_SIZE is 2; unset"),
    ({**OMPI, **TORCH, "RANK": "3", "WORLD_SIZE": "5"}, "OMPI_COMM_WORLD_SIZE is 4, but WORLD_SIZE is 5; unset"),
    ({**TORCH, "WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'; a whole number"),
    ({**TORCH, "RANK": "-1"}, "RANK is '-1'; a whole number"),
    ({**TORCH, "MASTER_PORT": "70000"}, "MASTER_PORT is 70000; a port from 1 to 65535"),
]


@pytest.mark.parametrize(("variables", "words"), REFUSED)
def test_variables_that_disagree_are_one_line(variables: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        place_in(variables)
    assert "\n" not in str(error.value)


def set_to(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in (*launched.NAMES, "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_devices_1_is_alone_and_nodes_of_ones_own_start_their_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to(monkeypatch, TORCH)
    assert place_of(FitSettings(devices=1)) is None
    assert join(FitSettings(devices=1, device="cpu")).world_size == 1
    assert not is_main_process(FitSettings())
    assert not starts_processes(FitSettings(devices=2))
    set_to(monkeypatch, {**OMPI, "NODE_RANK": "1", "MASTER_ADDR": "a"})
    assert starts_processes(FitSettings(devices=2, num_nodes=2))
    assert not is_main_process(FitSettings(devices=2, num_nodes=2))
    set_to(monkeypatch, {})
    assert is_main_process(FitSettings())
    assert not starts_processes(FitSettings())


def test_an_allocation_of_slurm_is_no_group_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Lightning by itself would refuse SLURM_NTASKS without SLURM_NTASKS_PER_NODE, and warn where srun is installed."""
    set_to(monkeypatch, without(SLURM, "SLURM_STEP_ID") | {"SLURM_PROCID": "0"})
    with patch("shutil.which", lambda name: f"/usr/bin/{name}"):
        fabric = make_fabric(FitSettings(device="cpu"))
    assert (fabric.world_size, fabric.global_rank) == (1, 0)
    assert not [w for w in recwarn if "srun" in str(w.message)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"devices": 3}, "devices: 3, but torchrun started 2; leave the option out; devices=1"),
        ({"device": "toaster"}, "device: 'toaster' is not there; the devices here are cpu and auto"),
        ({"device": "mps"}, "device: 'mps' is not there; the devices here are"),
        ({"device": "cuda:7"}, "device: 'cuda:7', but no CUDA GPU is seen here; the devices here are cpu and auto"),
    ],
)
def test_devices_that_cannot_be_had(settings: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("there are GPUs")
    set_to(monkeypatch, TORCH)
    with pytest.raises(InputError, match=words):
        join(FitSettings(**settings))


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("srun", 5, 8, 1, 4, "a", 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with patch("torch.cuda.is_available", lambda: True), patch("torch.cuda.device_count", lambda: 2):
        assert own_device("auto", place) == ("cuda", 1)
        assert own_device("cpu", place) == ("cpu", None)
        assert own_device("cuda", place._replace(rank=7, local_rank=None)) == ("cuda", 1)
        with pytest.raises(InputError, match="process 4 of this machine has no GPU; those here are cuda:0, cuda:1"):
            own_device("cuda", place._replace(local_rank=3))
    with patch("torch.cuda.is_available", lambda: True), patch("torch.cuda.device_count", lambda: 1):
        with pytest.raises(InputError, match="those here are cuda:0"):
            own_device("gpu", place)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # as srun --gpus-per-task=1 shows each process one
        assert own_device("gpu", place) == ("cuda", 0)


def test_others_that_do_not_come_are_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to(monkeypatch, {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())})
    monkeypatch.setenv("PYRO_SSVAE_TIMEOUT", "1")
    with pytest.raises(launch.WorkerLost, match=r"the 2 processes of torchrun have not found each other at 127.0.0.1:"):
        join(FitSettings(device="cpu"))


def test_every_way_of_joining_gives_the_numbers_of_one_process(tmp_path: Path) -> None:
    """torchrun, plain variables, Open MPI's, srun's, and a group that is there; two real processes.

    Sums are taken in another order, in float64, over 27 steps.
    """
    here, port = {"MASTER_ADDR": "127.0.0.1"}, free_port()
    job = {"SLURM_JOB_NODELIST": "127.0.0.1", "SLURM_JOB_ID": str(port)}
    places = [
        {"RANK": "RANK_HERE", "WORLD_SIZE": "2", "MASTER_PORT": str(port), **here},
        {"OMPI_COMM_WORLD_RANK": "RANK_HERE", "OMPI_COMM_WORLD_SIZE": "2", "MASTER_PORT": str(free_port()), **here},
        {"SLURM_PROCID": "RANK_HERE", "SLURM_NTASKS": "2", **job},
        {},
    ]
    alone = launched.trained(devices=1)
    for found in launched.in_two_processes(places, tmp_path):
        for theirs, ours in zip(found[:-1], alone[:-1], strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found[-1], alone[-1], rtol=1e-6, atol=0.0)  # losses are counted in float32


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "5 s", ""])
def test_a_time_to_wait_that_is_none_is_named(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_SSVAE_TIMEOUT", given)
    with pytest.raises(InputError, match=f"PYRO_SSVAE_TIMEOUT: '{given}'; a number of seconds above 0"):
        timeout()
