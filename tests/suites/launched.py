"""A training without noise, in processes that a launcher has started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_ssvae import fit
from pyro_ssvae.train.launch import is_main_process
from pyro_ssvae.train.launchers import OTHERS, TORCHRUN
from pyro_ssvae.train.settings import FitSettings

NAMES = {name for launcher in (TORCHRUN, *OTHERS) for name in launcher[1:]}
NAMES |= {"MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE"}


class Regression(nn.Module):
    """p(last column | the others) by a network with batch normalisation: each row's loss depends on the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.network = nn.Sequential(
            nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1)
        ).double()

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("regression", self)
        x = x.double()
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.network(x[:, :4]), 1.0).to_event(1), obs=x[:, 4:])

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        pass


def trained(devices: int | None = None) -> list[Tensor]:
    """The network's weights and running averages after 27 steps of 11 rows, an odd number."""
    pair = Regression()
    x = torch.randn(99, 5, generator=torch.Generator().manual_seed(2))
    history = fit(
        pair, x, epochs=3, batch_size=11, learning_rate=0.02, average=0.0, augment="none", precision="64-true", seed=4,
        device="cpu", devices=devices, progress=False,
    )  # fmt: skip
    return [*pair.state_dict().values(), torch.tensor(history["loss"], dtype=torch.float64)]


def member(places: Sequence[dict[str, str]], folder: Path) -> None:
    """Train once where torchrun put this process and once at each place; the first process keeps the numbers."""
    torch.set_num_threads(1)
    rank = os.environ["RANK"]
    for i, place in enumerate([None, *places]):
        if place is not None:
            for name in NAMES:
                os.environ.pop(name, None)
            os.environ.update({name: value.replace("RANK_HERE", rank) for name, value in place.items()})
            if not place:
                store = f"file://{folder / 'store'}"
                torch.distributed.init_process_group("gloo", init_method=store, rank=int(rank), world_size=2)
        numbers = trained()
        if is_main_process(FitSettings()):
            torch.save(numbers, folder / f"{i}.pt")
        torch.distributed.destroy_process_group()
        pyro.clear_param_store()


def in_two_processes(places: Sequence[dict[str, str]], folder: Path) -> list[list[Tensor]]:
    """What two processes of torchrun come to, by its variables and then at each of several places.

    :param places: variables, with ``RANK_HERE`` for the rank; none at all is a group that is there.
    """
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYRO_SSVAE_TIMEOUT": "40", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*run, __file__, json.dumps(places), str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{i}.pt", weights_only=True) for i in range(len(places) + 1)]


if __name__ == "__main__":
    member(json.loads(sys.argv[1]), Path(sys.argv[2]))
