"""How long it takes to learn MNIST from 100 labels: trainings of growing length, each judged on the test set.

    PYRO_SSVAE_DATA=... python benchmarks/time_to_accuracy.py --steps 50 100 200 453

The seconds are those of ``ps.fit`` as a whole; data are loaded already.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyro
import torch
import tyro

import pyro_ssvae as ps
from pyro_ssvae.experiment.run import DataSettings, prepare_data


@dataclass(frozen=True)
class Timing:
    """Print a row a training: steps of 128 rows, seconds, test accuracy of each seed."""

    data: str = "mnist"
    labels: str = "100"
    steps: tuple[int, ...] = (50, 100, 200, 453)
    seeds: int = 3
    compile: bool = False


def main(run: Timing) -> None:
    """Train on so many rows that one epoch has the steps; all labels are among them."""
    print(f"{torch.get_num_threads()} threads, {'compiled' if run.compile else 'eager'}")
    print("| steps | seconds | test accuracy |\n|---|---|---|")
    for steps in run.steps:
        seconds, found = [], []
        for seed in range(run.seeds):
            whole, part, _ = prepare_data(DataSettings(run.data, run.labels), seed)
            known = (part.y >= 0).nonzero().squeeze(-1)
            others = (part.y < 0).nonzero().squeeze(-1)[: 128 * steps - len(known)]
            rows = torch.cat([known, others])
            pyro.set_rng_seed(seed)
            model = ps.create_model("augmented", input_shape=part.input_shape, labels=part.labels, latent_dim=50)
            started = time.perf_counter()
            options = {"epochs": 1, "batch_size": 128, "seed": seed, "compile": run.compile}
            ps.fit(model, part.x[rows], part.y[rows], progress=False, **options)
            seconds.append(time.perf_counter() - started)
            found.append(float((model.predict(whole.x_test).cpu() == whole.y_test).double().mean()))
        print(
            f"| {steps} | {' '.join(f'{s:.1f}' for s in seconds)} | {' '.join(f'{a:.4f}' for a in found)} |", flush=True
        )


if __name__ == "__main__":
    main(tyro.cli(Timing))
