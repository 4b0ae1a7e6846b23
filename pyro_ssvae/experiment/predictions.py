"""What a run predicts of new points, as columns in the data's own words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..errors import InputError, kind_of
from ..evaluation.calibration import COVERAGE, Calibration
from ..evaluation.novelty import Reference, novelty
from ..infer.batched import batched, checked, counted_from, evaluating, once_per_input
from ..infer.imputation import impute
from ..infer.protocols import Classifies, Encodes, require
from ..labels import ClassLabels
from ..models import Model
from ..models.saved_config import read_config
from ..models.saving import load
from ..nn.likelihoods import Likelihood
from ..train.settings import torch_device
from .columns import Cells, Named, as_table, attribute_columns, class_columns, filled_columns, put, rounded
from .config import Json
from .new_points import NewPoints

if TYPE_CHECKING:
    import pyarrow as pa

CALIBRATION, NOVELTY = "calibration.json", "novelty.safetensors"
ROWS = 10_000  # of a part of the table


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run that has ended, and what it knows of its own predictions.

    :ivar calibration: None where there were no labels that training did not learn from.
    :ivar reference: None for a run of a model without features.
    :ivar labelled: how many training points had a label; None where the run does not say.
    """

    folder: Path
    config: Json
    model: Model
    calibration: Calibration | None
    reference: Reference | None
    labelled: int | None = None


def read_run(folder: Path, device: str = "auto") -> TrainedRun:
    """Return a run, its model on the device.

    :raises InputError: naming the file that is absent or damaged, or a device that is not there.
    """
    where = torch_device(device)
    config = read_config(folder)
    model = load(folder).to(where)
    calibration = None
    if (folder / CALIBRATION).exists() and model.labels is not None:
        calibration = Calibration.load(folder / CALIBRATION, model.labels)
    reference = Reference.load(folder / NOVELTY) if (folder / NOVELTY).exists() else None
    return TrainedRun(folder, config, model, calibration, reference, labels_of_training(folder))


def labels_of_training(folder: Path) -> int | None:
    """Return how many training points of a run had a label; None where it does not say."""
    try:
        return int(json.loads((folder / "metrics.json").read_text("utf-8"))["data"]["labelled"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Wanted:
    """What is asked beside the predictions.

    :param coverage: of the prediction sets.
    :param embeddings: the latents' means.
    :param impute: the points, missing entries filled.
    :param draws: of the guide, for a missing entry.
    """

    coverage: float = COVERAGE
    embeddings: bool = False
    impute: bool = False
    draws: int = 100
    seed: int = 0


def check_wanted(run: TrainedRun, wanted: Wanted) -> None:
    """Raise :class:`InputError` naming the option that the run cannot answer."""
    if not 0 < wanted.coverage < 1:
        raise InputError(f"--coverage: {wanted.coverage}; a share between 0 and 1, such as 0.9, is needed")
    if wanted.embeddings and not isinstance(run.model, Encodes):
        raise InputError(f"--embeddings: {kind_of(run.model)} has no latents; leave it out")
    likelihood = run.model.likelihood
    if wanted.impute and not (isinstance(likelihood, Likelihood) and likelihood.missing):
        raise InputError(
            f"--impute: {run.folder} was trained on data without gaps, so that none can be filled; leave it out"
        )
    if not isinstance(run.model, Classifies) and run.reference is None and not wanted.embeddings:
        raise InputError(f"{run.folder}: {kind_of(run.model)} predicts no labels; --embeddings gives its latents")


def tables(run: TrainedRun, points: NewPoints, wanted: Wanted) -> Iterator[pa.Table]:
    """Yield the predictions of some rows after others, each a table of the same columns.

    :raises InputError: naming the row that the model does not take.
    """
    for start in range(0, points.count, ROWS):
        rows = slice(start, min(start + ROWS, points.count))
        yield as_table(predicted(run, points, rows, wanted))


def predicted(run: TrainedRun, points: NewPoints, rows: slice, wanted: Wanted) -> dict[str, Cells]:
    """Return the columns of some rows, by name."""
    try:
        x, _ = checked(run.model, points.read(rows))
    except InputError as error:  # it counts rows from those that it was given
        words = counted_from(rows.start, str(error))
        raise InputError(f"--data {points.name}: {words.removeprefix('x: ')}") from None
    found: dict[str, Cells] = {}
    put(found, points.id_name, np.array(points.ids[rows]))
    with evaluating(run.model), once_per_input(run.model):
        if isinstance(run.model, Classifies):
            probs = batched(run.model, run.model.predict_proba, x).cpu()
            y = None if points.y is None else points.y[rows]
            for name, column in label_columns(run, probs, y, wanted.coverage):
                put(found, name, column)
        if run.reference is not None:
            put(found, "novelty", rounded(novelty(run.model, x, run.reference)))
        if wanted.embeddings:
            z = require(run.model, Encodes).encode(x).mean.flatten(1)
            for i, column in enumerate(rounded(z).T):
                put(found, f"z{i}", column)
    if wanted.impute:
        full = impute(run.model, x, num_samples=wanted.draws, seed=wanted.seed + rows.start).cpu()
        given = None if points.given is None else points.given(rows)
        for name, column in filled_columns(full, run.model, given).items():
            put(found, f"imputed_{name}", column)
    return found


def label_columns(run: TrainedRun, probs: Tensor, y: Tensor | None, coverage: float) -> Named:
    """Return what is predicted of the labels, in words, from the model's own probabilities."""
    labels = require(run.model, Classifies).labels
    own = run.calibration
    p = probs.double() if own is None else own.predict_proba(probs.double())
    sets = None if own is None else own.predict_set(probs, coverage).numpy()
    if isinstance(labels, ClassLabels):
        return class_columns(labels, p, sets, y)
    return attribute_columns(labels, p, sets, y)
