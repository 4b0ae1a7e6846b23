"""What a run notes of its own predictions: how far their probabilities hold, and what the training points look like.

Labels that training did not learn from calibrate: those of the validation rows. Where they are too few, the kept labels
do too, cross-fitted: the model is trained anew, five times, each time without a fifth of the labels, whose
probabilities are those of the model that did not see them. The model of all labels is a little better than these, so
that its sets hold the true label a little more often than they say (Vovk 2015; Barber et al. 2021, arXiv:1905.02928).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..data import Dataset, known_rows
from ..evaluation.bootstrap import Metrics
from ..evaluation.calibration import Calibration, from_probs
from ..evaluation.novelty import LEAST, reference_of
from ..infer.batched import batched, checked
from ..infer.protocols import Classifies, Encodes, HasFeatures
from ..labels import MISSING, ClassLabels, Labels
from ..models import Model
from .config import Json
from .predictions import CALIBRATION, NOVELTY

ENOUGH = 20
"""Labels of validation rows that suffice."""
FEWEST = 10
"""Labels below which nothing is cross-fitted."""
FOLDS = 5

Trainer = Callable[[Dataset], Model]
"""Returns the run's model, trained anew on data with other labels."""


def note(
    model: Model,
    split: Dataset,
    validation: tuple[Tensor, Tensor],
    train: Trainer | None,
    folder: Path,
    calibrate: bool = True,
) -> Calibration | None:
    """Write the calibration and the statistics for novelty into a run's folder; return the calibration.

    :param split: the training part, labels hidden.
    :param validation: points that training did not learn from, and their labels.
    :param train: trains the model anew; None where that takes too long.
    :param calibrate: False leaves the calibration out.
    """
    x_val, y_val = validation
    (folder / CALIBRATION).unlink(missing_ok=True)  # of the run before it was gone on with
    calibration = calibration_of(model, split, x_val, y_val, train) if calibrate else None
    if calibration is not None:
        calibration.save(folder / CALIBRATION)
    if isinstance(model, (HasFeatures, Encodes)) and len(split.x) >= LEAST:
        reference_of(model, split.x, x_val if len(x_val) else None).save(folder / NOVELTY)
    return calibration


def judged(calibration: Calibration, model: Model, x: Tensor, y: Tensor, options: Json) -> Metrics:
    """Return what the calibration comes to on test points; empty where none has a known label.

    :param options: of :func:`~pyro_ssvae.evaluate`: classes without labels in training do not count.
    """
    assert isinstance(model, Classifies)
    classes = options.get("known_classes")
    seen = torch.arange(model.labels.size) if classes is None else torch.tensor(classes, dtype=torch.long)
    seen = seen[~torch.isin(seen, torch.tensor(options.get("left_out") or [], dtype=torch.long))]
    y = with_meaning(y, seen, model.labels)
    known = known_rows(y)
    return calibration.metrics(probabilities(model, x[known]), y[known]) if known.any() else {}


def calibration_of(
    model: Model, split: Dataset, x_val: Tensor, y_val: Tensor, train: Trainer | None
) -> Calibration | None:
    """Return the calibration of a trained model; None where there are no labels for it.

    Classes of which training had no label do not count: what the model calls them has no agreed meaning.
    """
    if not isinstance(model, Classifies) or not known_rows(split.y).any():
        return None
    labels = model.labels
    y = with_meaning(y_val, split.y, labels)
    held = known_rows(y)
    probs, truth, how = probabilities(model, x_val[held]), y[held], "held-out"
    if len(truth) < ENOUGH and train is not None and int(known_rows(split.y).sum()) >= FEWEST:
        few = "1 validation label is" if len(truth) == 1 else f"{len(truth)} validation labels are"
        few += " too few to calibrate by"
        further = f"{FOLDS} further trainings, each without a fifth of the labels (--no-calibration does without)"
        print(f"train: {few}; {further}", file=sys.stderr)
        other, labels_seen = cross_fitted(split, train)
        probs, truth, how = torch.cat([probs, other]), torch.cat([truth, labels_seen]), "cross-fitted"
    return from_probs(probs, truth, labels, how) if len(truth) else None


def with_meaning(y: Tensor, seen: Tensor, labels: Labels) -> Tensor:
    """Return labels, those of classes missing that ``seen`` never has."""
    if not isinstance(labels, ClassLabels):
        return y
    return torch.where(torch.isin(y, seen[seen != MISSING]), y, MISSING)


def probabilities(model: Model, x: Tensor) -> Tensor:
    """The model's own probabilities, on the CPU; no row where there is no point."""
    assert isinstance(model, Classifies)
    if not len(x):
        return torch.zeros(0, model.labels.size)
    points, _ = checked(model, x)
    return batched(model, model.predict_proba, points).cpu()


def cross_fitted(split: Dataset, train: Trainer) -> tuple[Tensor, Tensor]:
    """Return the probabilities of all labelled training rows, each under a model that did not see its label.

    Folds are drawn at random, each class spread over them.
    """
    rows = known_rows(split.y).nonzero().squeeze(1)
    fold = folds(split.y[rows])
    probs, truth = [], []
    for k in fold.unique().tolist():
        out = rows[fold == k]
        y = split.y.clone()
        y[out] = MISSING
        probs.append(probabilities(train(replace(split, y=y)), split.x[out]))
        truth.append(split.y[out])
    return torch.cat(probs), torch.cat(truth)


def folds(y: Tensor) -> Tensor:
    """Return one of :data:`FOLDS` folds for each label, ``[n]``: within a class one after another, in random order."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(y), generator=generator)
    if y.dim() == 1:
        order = order[y[order].argsort(stable=True)]
    fold = torch.empty(len(y), dtype=torch.long)
    fold[order] = torch.arange(len(y)) % FOLDS
    return fold
