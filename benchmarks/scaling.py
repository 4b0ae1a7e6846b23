"""Whether the cost of an epoch grows with the number of points alone, and whether memory grows over epochs.

    python benchmarks/scaling.py

AugVAE with networks 16-16-4 in batches of 256; milliseconds a step in the median epoch of five for each number of
points, and the process's memory at the end of epochs of one long training.
"""

from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyro_ssvae as ps
from pyro_ssvae.benchmark.cases import SMALL, Case, make, make_data

CASE = Case("augmented", SMALL, 256, "plug-in")
OPTIONS: dict[str, Any] = {"batch_size": CASE.batch, "augment": "none", "labelled_rows": 0, "progress": False}


def resident() -> float:
    """The process's memory in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1e3


def main() -> None:
    """Print both tables."""
    print("| points | ms a step |\n|---|---|")
    for batches in (10, 40, 160, 640):
        x, y = make_data(CASE, batches)
        seconds = ps.fit(make(CASE), x, y, epochs=6, **OPTIONS)["seconds"]
        epochs = [after - before for before, after in pairwise(seconds)]
        print(f"| {len(x):,} | {1e3 * statistics.median(epochs) / batches:.3f} |", flush=True)
    memory: dict[int, float] = {}

    def look(row: dict[str, float]) -> None:
        if (epoch := int(row["epoch"])) in (5, 50, 100, 200, 300):
            memory[epoch] = resident()

    x, y = make_data(CASE, 20)
    ps.fit(make(CASE), x, y, epochs=300, on_epoch=look, **OPTIONS)
    print("\n| epochs | MB |\n|---|---|")
    for epoch, found in memory.items():
        print(f"| {epoch} | {found:.1f} |")


if __name__ == "__main__":
    main()
