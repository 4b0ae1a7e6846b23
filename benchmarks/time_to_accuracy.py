"""How long it takes to learn MNIST from 100 labels: trainings of growing length, each evaluated on the test set.

    PYRO_SSVAE_DATA=... python benchmarks/time_to_accuracy.py --steps 50 100 200 453

The seconds are those of ``ps.fit`` as a whole; data are loaded already.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import pyro
import torch
import tyro

import pyro_ssvae as ps
from pyro_ssvae.experiment.config import DataConfig
from pyro_ssvae.experiment.data import prepare_data
from pyro_ssvae.infer.protocols import Classifies


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
        seconds: list[float] = []
        found: list[float] = []
        for seed in range(run.seeds):
            dataset, train_split, _ = prepare_data(DataConfig(run.data, run.labels), seed)
            known = (train_split.y >= 0).nonzero().squeeze(-1)
            others = (train_split.y < 0).nonzero().squeeze(-1)[: 128 * steps - len(known)]
            rows = torch.cat([known, others])
            pyro.set_rng_seed(seed)
            model = ps.create_model(
                "augmented", input_shape=train_split.input_shape, labels=train_split.labels, latent_dim=50
            )
            started = time.perf_counter()
            options = ps.FitSettings(epochs=1, batch_size=128, seed=seed, compile=run.compile)
            ps.fit(model, train_split.x[rows], train_split.y[rows], progress=False, **asdict(options))
            assert isinstance(model, Classifies)
            seconds.append(time.perf_counter() - started)
            found.append(float((model.predict(dataset.x_test).cpu() == dataset.y_test).double().mean()))
        print(
            f"| {steps} | {' '.join(f'{s:.1f}' for s in seconds)} | {' '.join(f'{a:.4f}' for a in found)} |", flush=True
        )


if __name__ == "__main__":
    main(tyro.cli(Timing))
