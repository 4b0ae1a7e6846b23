"""The oracle of a data set, a classifier trained apart on all labels, and what it reads of a model's interventions."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from ..data import Dataset, factors_of
from ..evaluation.interventions import evaluate_interventions
from ..evaluation.oracle import Oracle, OracleSettings, oracle_for
from .config import Json


def oracle_of(data: str, dataset: Dataset, *, steps: int = OracleSettings.steps, progress: bool = False) -> Oracle:
    """Return the oracle of a data set, trained or read: it is kept beside the data, so that a data set has one.

    :param data: what ``--data`` named the data set by.
    """
    train, _ = factors_of(data) or (None, None)
    folder = Path(os.environ.get("PYRO_SSVAE_DATA") or "data") / "oracles"
    return oracle_for(dataset, train, folder=folder, settings=OracleSettings(steps=steps), progress=progress)


def intervention_metrics(
    model: nn.Module,
    dataset: Dataset,
    data: str,
    *,
    steps: int = OracleSettings.steps,
    progress: bool = False,
    **options: int,
) -> Json:
    """Return what :func:`~pyro_ssvae.evaluation.interventions.evaluate_interventions` finds on the test points.

    :param data: what ``--data`` named the data set by.
    :param steps: batches that the oracle is trained on.
    :param options: those of ``evaluate_interventions``.
    """
    oracle = oracle_of(data, dataset, steps=steps, progress=progress)
    _, test = factors_of(data) or (None, None)
    return evaluate_interventions(model, oracle, dataset.x_test, dataset.y_test, test, **options)
