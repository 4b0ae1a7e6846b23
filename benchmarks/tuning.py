"""Every model tuned with the same effort: six settings each, evaluated on validation rows, never on test rows.

python benchmarks/tuning.py --data digits --labels 50 --steps 600 --seeds 2
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import tyro

import pyro_ssvae as ps
from pyro_ssvae.evaluation.metrics import attribute_metrics, class_metrics
from pyro_ssvae.experiment.config import DataConfig
from pyro_ssvae.experiment.data import prepare_data
from pyro_ssvae.labels import AttributeLabels, ClassLabels
from pyro_ssvae.studies.cells import Cell
from pyro_ssvae.studies.methods import learn

WEIGHTS = (50.0, 500.0, 5000.0)  # α, of the labels
PRIOR = {"entropy_weight": (0.0, 20.0)}
SECOND: dict[str, dict[str, tuple[Any, ...]]] = {
    "augmented": PRIOR,
    "m2": PRIOR,
    "m1+m2": PRIOR,
    "adgm": PRIOR,
    "diva": PRIOR,
    "mvae": {"subsets": (0, 1)},
    "revae": PRIOR,
    "classifier": {},
}


@dataclass(frozen=True)
class Tuning:
    """Train every model with every setting of its grid and print a Markdown table."""

    data: str = "digits"
    labels: str = "50"
    steps: int = 600
    seeds: int = 2
    batch_size: int = 256
    latent_dim: int = 50
    image_size: int | None = None
    models: tuple[str, ...] = tuple(SECOND)


def settings(model: str) -> Iterator[dict[str, Any]]:
    """The grid of a model: α, and one option that only it or its kin have."""
    if model == "classifier":
        yield {}
        return
    ((name, values),) = SECOND[model].items()
    for weight, value in itertools.product(WEIGHTS, values):
        yield {"alpha": weight, name: value}


def trained(run: Tuning, model: str, options: dict[str, Any], seed: int) -> tuple[float, float]:
    """Accuracy and, of attributes, average precision on the validation rows after one training."""
    _, train_split, (x, y) = prepare_data(DataConfig(run.data, run.labels, image_size=run.image_size), seed)
    pyro.set_rng_seed(seed)
    made: Any = ps.create_model(
        model, input_shape=train_split.input_shape, labels=train_split.labels, latent_dim=run.latent_dim, **options
    )
    augment = "none" if isinstance(train_split.labels, AttributeLabels) else "affine"
    cell = Cell("tuning", run.data, "", model, run.labels, seed, run.steps, run.batch_size, run.latent_dim, augment)
    learn(made, cell, train_split, "auto")
    probs = made.predict_proba(x)
    if isinstance(train_split.labels, ClassLabels):
        return class_metrics(probs, y)["accuracy"], float("nan")
    found = attribute_metrics(probs, y, train_split.labels.names)
    return found["accuracy"], found["average_precision"]


def main(run: Tuning) -> None:
    """Print one row a setting."""
    print("| model | setting | accuracy | average precision |\n|---|---|---|---|")
    for model in run.models:
        for options in settings(model):
            found = [trained(run, model, options, seed) for seed in range(run.seeds)]
            means = [statistics.mean(values) for values in zip(*found)]
            words = ", ".join(f"{name} {value:g}" for name, value in options.items())
            print("|", " | ".join([model, words, *(f"{value:.4f}" for value in means)]), "|", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Tuning))
