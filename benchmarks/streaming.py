"""Peak memory of a training on a file that is larger: one epoch over FILE of GB gigabytes, made for the purpose.

python benchmarks/streaming.py /tmp/points.npy --gb 10
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae.benchmark.memory import peak_memory, reset_peak_memory

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file", type=Path)
parser.add_argument("--gb", type=float, default=10.0)
given = parser.parse_args()

n = int(given.gb * 1e9 / 4096)
if not given.file.exists():
    x = np.lib.format.open_memmap(given.file, "w+", np.uint8, (n, 1, 64, 64))
    for start in range(0, n, 10_000):
        part = x[start : start + 10_000]
        part[:] = np.random.default_rng(start).integers(0, 256, part.shape, dtype=np.uint8)
    x.flush()
    del x, part
print(f"{given.file.stat().st_size / 1e9:.2f} GB; the peak of memory so far is forgotten", flush=True)
reset_peak_memory()


class Small(nn.Module):
    """A pair that costs next to nothing: what is measured is the reading."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.decoder, self.encoder = nn.AvgPool2d(8), nn.Linear(2, 64), nn.Linear(64, 2)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("small", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 0.1).to_event(1), obs=self.pool(x).flatten(1))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(self.pool(x).flatten(1)), 0.1).to_event(1))


model = Small()
started = time.monotonic()
ps.fit(model, given.file, epochs=1, batch_size=1000, augment="none", progress=False)
seconds = time.monotonic() - started
peak = peak_memory(torch.device("cpu")) / 1e9
print(f"{n:,} points in {seconds:.0f} s, {n / seconds:,.0f} a second; peak memory {peak:.2f} GB")
given.file.unlink()
