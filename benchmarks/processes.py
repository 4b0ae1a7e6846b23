"""What a second process gains: rows a second of one process and of two, each on one core, same batches.

    python benchmarks/processes.py

The median epoch of five; for a machine that is idle otherwise.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
from itertools import pairwise

import pyro_ssvae as ps
from pyro_ssvae.benchmark.cases import IMAGES, LARGE, Case, make, make_data

CASES = (
    Case("augmented", LARGE, 256, "plug-in"),
    Case("augmented", LARGE, 1024, "plug-in"),
    Case("augmented", LARGE, 256, "enumerate"),
    Case("augmented", LARGE, 1024, "enumerate"),
    Case("m2", LARGE, 256),
    Case("revae", IMAGES, 64),
    Case("revae", IMAGES, 256),
)
ROWS, EPOCHS = 6_144, 5


def rate(case: Case, devices: int) -> float:
    """Rows a second."""
    x, y = make_data(case, ROWS // case.batch)
    seconds = ps.fit(
        make(case),
        x,
        y,
        epochs=EPOCHS,
        batch_size=case.batch,
        devices=devices,
        augment="none",
        labelled_rows=0,
        progress=False,
    )["seconds"]
    return len(x) / statistics.median(after - before for before, after in pairwise(seconds))


def main() -> None:
    """Print the table."""
    print("| model, networks, batch | one process | two | ratio |\n|---|---|---|---|")
    for case in CASES:
        one, two = rate(case, 1), rate(case, 2)
        print(f"| {case.name}, {case.size}, {case.batch} | {one:.0f} | {two:.0f} | {two / one:.2f} |", flush=True)


if __name__ == "__main__":
    main()
