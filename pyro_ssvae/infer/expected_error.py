"""How often simple methods miss labels of vectors that they have not seen: how far a head may trust itself there."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.semi_supervised import LabelSpreading
from torch import Tensor

from ..labels import MISSING

MOST_LOOKED_AT, MOST_ROWS, MOST_LABELS = 2**20, 2000, 500
FOLDS, COMPONENTS = 5, 50


def rows_to_ask(y: Tensor) -> Tensor:
    """Return at most 2,000 rows, of which at most 500 have a label, evenly spread over the data: int64.

    :param y: ``[N]`` or ``[N, A]``, -1 where missing.
    """
    places = evenly(len(y), MOST_LOOKED_AT)
    columns = y[places.to(y.device)].cpu().reshape(len(places), -1)
    known = (columns != MISSING).any(1)
    labelled, others = known.nonzero().squeeze(1), (~known).nonzero().squeeze(1)
    labelled = labelled[columns[labelled, 0].argsort(stable=True)]  # by class: all of them stay
    labelled = labelled[evenly(len(labelled), MOST_LABELS)]
    return places[torch.cat([labelled, others[evenly(len(others), MOST_ROWS - len(labelled))]])]


def expected_error(x: Tensor, y: Tensor) -> float | None:
    """Return how often labels are missed that were not seen, five-fold; of attributes in the mean.

    It is ``(m + 1) / (n + 2)`` of m mistakes on n known labels by the better of two methods: logistic regression, and
    label spreading over 10 nearest neighbours, which sees how rows without a label lie. None where fewer than two
    classes have two labels.

    :param x: ``[N, D]`` in the encoder's units.
    :param y: ``[N]`` or ``[N, A]``, -1 where missing.
    """
    points, columns = x.detach().cpu().double().numpy(), y.cpu().reshape(len(y), -1).numpy()
    errors = [error for column in columns.T if (error := error_of_column(points, column)) is not None]
    return float(np.mean(errors)) if errors else None


def error_of_column(x: NDArray[np.float64], y: NDArray[np.int64]) -> float | None:
    """The same of one label a row ``[N]``."""
    rows = np.flatnonzero(y != MISSING)
    values, counts = np.unique(y[rows], return_counts=True)
    if (counts > 1).sum() < 2:
        return None
    rows = rows[np.isin(y[rows], values[counts > 1])]
    mistakes = min(linear_mistakes(x[rows], y[rows]), spread_mistakes(x, y, rows))
    return (mistakes + 1) / (len(rows) + 2)


def folds_of(y: NDArray[np.int64]) -> StratifiedKFold:
    """Five folds, or as many as the rarest class has labels."""
    fewest = int(np.unique(y, return_counts=True)[1].min())
    return StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=0)


def linear_mistakes(x: NDArray[np.float64], y: NDArray[np.int64]) -> int:
    """How many labels a logistic regression misses."""
    found = cross_val_predict(LogisticRegression(max_iter=1000), x, y, cv=folds_of(y))
    return int((found != y).sum())


def spread_mistakes(x: NDArray[np.float64], y: NDArray[np.int64], rows: NDArray[np.int64]) -> int:
    """How many labels of these rows spreading misses from the others, over the neighbours of all rows."""
    x = PCA(COMPONENTS, random_state=0).fit_transform(x) if min(x.shape) > COMPONENTS else x
    mistakes = 0
    for _, hidden in folds_of(y[rows]).split(rows, y[rows]):
        some = np.full_like(y, MISSING)
        some[rows] = y[rows]
        some[rows[hidden]] = MISSING
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.simplefilter("ignore")  # rows without a label nearby
            model = LabelSpreading(kernel="knn", n_neighbors=min(10, len(x) - 1), max_iter=200).fit(x, some)
        mistakes += int((model.transduction_[rows[hidden]] != y[rows[hidden]]).sum())
    return mistakes


def evenly(n: int, most: int) -> Tensor:
    """Return at most ``most`` of the numbers from 0 to n - 1, evenly spread: int64."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()
