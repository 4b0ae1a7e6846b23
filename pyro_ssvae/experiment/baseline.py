"""What the kept labels are worth alone: the same trunk, trained as a classifier on the labelled rows."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

import pyro

from ..data import Dataset, known_rows
from ..data.augment import automatic
from ..evaluation.evaluate import evaluate
from ..models import Model, create_model
from ..train.fit import fit
from .config import ExperimentConfig, Json
from .data import evaluation_options


def baseline(settings: ExperimentConfig, model: Model, dataset: Dataset, split: Dataset, epochs: int) -> Json:
    """Train the same trunk, with the same augmentation and number of steps, on the kept labels alone.

    :param model: the run's model, for its likelihood and its augmentation.
    :param split: the training part.
    :param epochs: how many the run's model was trained for.
    :return: the metrics on the test set; empty where fewer than two rows have a label.
    """
    training, rows = settings.training, known_rows(split.y)
    n, size = int(rows.sum()), training.batch_size
    if n < 2:
        return {}
    pyro.set_rng_seed(training.seed)
    trunk = create_model(
        "classifier",
        input_shape=split.input_shape,
        labels=split.labels,
        likelihood=model.config.likelihood,
        **asdict(model.config.likelihood_options),
    )
    steps = epochs * (len(split.x) // min(size, len(split.x)))
    own = replace(
        training,
        epochs=max(1, steps // (n // min(size, n))),
        augment=automatic(model) if training.augment == "auto" else training.augment,
        early_stopping=None,  # all labels are in the training rows, and the number of steps is given
        devices=1,
        num_nodes=1,
    )
    started = time.monotonic()
    fit(trunk, split.x[rows], split.y[rows], progress=not settings.quiet, **asdict(own))
    seconds = time.monotonic() - started
    metrics = evaluate(trunk, dataset.x_test, dataset.y_test, **evaluation_options(settings.source, dataset, split))
    return {**metrics, "seconds": seconds}
