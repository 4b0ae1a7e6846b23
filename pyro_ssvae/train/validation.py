"""Rows that are judged while a model trains, and never learnt from."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils import data

from ..data.augment import unit_scale
from ..data.dataset import Dataset
from ..data.inputs import read_data
from ..data.marked_rows import mark_rows
from ..data.pair_order import Points
from ..data.splits import known_rows, split_rows
from ..data.streaming import Streamed
from ..errors import InputError
from ..infer.batched import evaluating, spoilt
from ..infer.protocols import Classifies
from ..label_arrays import MANY
from ..labels import MISSING
from .step import Step

ROWS = 1000  # at a time
CONTAINERS = (Dataset, data.Dataset, data.DataLoader, Path)
"""What holds points and labels."""
Measure = Literal["validation_accuracy", "validation_loss"]


@dataclass(frozen=True)
class Validation:
    """The rows, and what is measured on them.

    :ivar measure: ``validation_accuracy``, the share of the known labels that the pair predicts; or
        ``validation_loss``, nats a row, of a pair that predicts none, or where no label is known: here, or in training,
    which then gives the classes no names.
    :ivar share: the share of the given rows that was held out; None where the rows were given apart.
    """

    x: Points
    y: Tensor
    measure: Measure
    share: float | None = None

    def __call__(self, objective: Step, seed: int, device: torch.device) -> float:
        """Return the measure, in evaluation mode; the same random numbers are drawn each time, and put back."""
        pair, total = objective.module, 0.0
        with evaluating(objective, seed):
            if spoilt(pair):  # the training goes back to its last finite state
                return math.nan
            for start in range(0, len(self.x), ROWS):
                rows = torch.arange(start, min(start + ROWS, len(self.x)))
                x, y = unit_scale(self.x[rows]).to(device), self.y[rows]
                if self.measure == "validation_accuracy":
                    assert isinstance(pair, Classifies)
                    total += float(((pair.predict(x).cpu() == y) & (y != MISSING)).sum())
                else:
                    total += objective.loss(x, y.to(device))
        return total / (len(self.x) if self.measure == "validation_loss" else int((self.y != MISSING).sum()))


def given_rows(pair: nn.Module, validation: object, trained: Tensor) -> Validation:
    """Return the validation on rows that were given apart: points and labels, or what holds both.

    Of a ``ps.data`` data set, and of files that set some apart, the test points are taken.

    :param trained: the labels of the training.
    """
    if isinstance(validation, Dataset):
        validation = replace(validation, x=validation.x_test, y=validation.y_test)
    try:
        points, labels = validation if isinstance(validation, (tuple, list)) else (validation, None)
        read = read_data(pair, points, labels, least=1, part="test")
        x, y = read.x, read.y
    except InputError as error:
        raise InputError(f"validation: {error}") from None
    return Validation(x, y.cpu(), measure_of(pair, y, trained))


def held_out(pair: nn.Module, x: Points, y: Tensor, share: float, seed: int) -> tuple[Points, Tensor, Validation]:
    """Hold out a share of the rows: of each class, and of the rows without a label, in proportion.

    :returns: points and labels that are left, and the validation on those held out.
    """
    if isinstance(x, Streamed) and len(x) > MANY:  # of which no list is made
        marked = mark_rows(y, share, seed)
        left, own = marked.others(), marked.of(y).cpu()
        known = left.of(y)
        return x.subset(left), known, Validation(x.subset(marked), own, measure_of(pair, own, known), share)
    rows, held = split_rows(y.cpu(), fraction=share, seed=seed)
    if len(rows) < 2:
        raise InputError(
            f"validation: a share of {share} leaves {len(rows)} of {len(x)} rows to train on; 2 are needed"
        )
    own, known = y[held.to(y.device)].cpu(), y[rows.to(y.device)]
    validation = Validation(some(x, held), own, measure_of(pair, own, known), share)
    return some(x, rows), known, validation


def some(x: Points, rows: Tensor) -> Points:
    """Return the points of some rows."""
    return x.subset(rows) if isinstance(x, Streamed) else x[rows.to(x.device)]


def measure_of(pair: nn.Module, y: Tensor, trained: Tensor) -> Measure:
    """Return what can be measured of a pair on rows with the labels ``y``, trained on others."""
    known = all(bool((labels != MISSING).any()) for labels in (y, trained))
    return "validation_accuracy" if isinstance(pair, Classifies) and known else "validation_loss"


def say_held_out(validation: Validation, n: int) -> None:
    """Say on stderr how many rows and labels were held out of ``n`` rows."""
    held, known = len(validation.x), int(known_rows(validation.y).sum())
    print(f"fit: {held} of {n} rows are held out for validation, {known} of them with a label", file=sys.stderr)


def check_validation(validation: object, early_stopping: int | None) -> None:
    """Raise :class:`InputError` where validation is neither rows nor a share, or is absent and needed."""
    if validation is None and early_stopping is not None:
        raise InputError("early_stopping: it needs validation, a pair (x, y) or a share of the rows such as 0.1")
    pair = len(validation) == 2 if isinstance(validation, (tuple, list)) else isinstance(validation, CONTAINERS)
    share = isinstance(validation, float) and 0 < validation < 1 and math.isfinite(validation)
    if not (validation is None or pair or share):
        shown = " ".join(str(validation).split())[:80]
        raise InputError(f"validation: {shown}; a pair (x, y), or a share such as 0.1, is needed")
