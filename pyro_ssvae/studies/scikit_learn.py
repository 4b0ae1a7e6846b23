"""scikit-learn's methods, as a person would use them: what one would otherwise pick."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from torch import Tensor

from ..data import Dataset, known_rows
from ..data.augment import unit_scale
from ..errors import InputError
from ..labels import ClassLabels
from ..nn.columns import Mixed

COMPONENTS = 50
"""Principal components that the semi-supervised methods work on."""
LABELLED_ALONE = ("logistic-regression", "gradient-boosting")
"""What learns from the labelled rows alone."""


def sklearn_proba(name: str, split: Dataset, x_test: Tensor, seed: int) -> Tensor:
    """Return class probabilities ``[n, K]`` of test points.

    None sees an augmentation. Features other than pixels are standardised by all training rows. Tables are as
    :func:`without_gaps` returns them; trees see codes and gaps.

    - ``label-spreading`` has a graph of 10 nearest neighbours, which fits in memory whatever N is, and
      ``self-training`` adds confident predictions (above 0.75) of a logistic regression to its labels; both on 50
      principal components of all training rows.
    - ``logistic-regression`` and ``gradient-boosting`` (histogram trees) learn from the labelled rows alone. A tree's
      leaf has at least a tenth of these, at most 20, scikit-learn's own, of which few labels would give no split.
    """
    labels = split.labels
    if not isinstance(labels, ClassLabels):
        raise InputError(f"{name}: it needs class labels; --models without it would do")
    both = unit_scale(split.x), unit_scale(x_test)
    if split.table is not None and name != "gradient-boosting":
        both = without_gaps(split, x_test)
    x, x_new = (v.float().flatten(1).double().numpy() for v in both)
    if split.kind != "images" and split.table is None:
        scaler = StandardScaler().fit(x)
        x, x_new = scaler.transform(x), scaler.transform(x_new)
    y = split.y.numpy()
    if name in LABELLED_ALONE:
        known = known_rows(split.y).numpy()
        x, y = x[known], y[known]
    else:
        pca = PCA(min(COMPONENTS, *x.shape), random_state=seed).fit(x)
        x, x_new = pca.transform(x), pca.transform(x_new)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "y contains no unlabeled samples|invalid value encountered")
        model = sklearn_model(name, len(x), seed).fit(x, y)
        found: NDArray[np.float64] = model.predict_proba(x_new)
    probs = np.zeros((len(x_new), labels.num_classes))
    probs[:, model.classes_] = found
    unreached = ~np.isfinite(probs).all(1) | (probs.sum(1) == 0)  # a point to whose neighbours no label came
    probs[unreached] = np.isin(np.arange(labels.num_classes), model.classes_)
    return torch.from_numpy(probs / probs.sum(1, keepdims=True))


def without_gaps(split: Dataset, x_test: Tensor) -> tuple[Tensor, Tensor]:
    """Return a table's training and test rows ``[n, D]``: numbers standardised, gaps their mean, words one-hot."""
    assert split.table is not None
    kinds = split.table.schema.kinds
    columns = Mixed(split.input_shape, columns=kinds)
    columns.fit(split.x)
    words = torch.tensor([kind.startswith("categorical") for kind in kinds])  # of which a gap is none
    mean = torch.where(words, torch.nan, split.x.nanmean(0))
    train, test = (columns.standardize(torch.where(x.isnan(), mean, x)) for x in (split.x, x_test))
    return train, test


def sklearn_model(name: str, n: int, seed: int) -> ClassifierMixin:
    """Return the method of this name, for ``n`` rows."""
    match name:
        case "label-spreading":
            return LabelSpreading(kernel="knn", n_neighbors=min(10, n - 1), max_iter=200)
        case "self-training":
            return SelfTrainingClassifier(LogisticRegression(max_iter=1000))
        case "logistic-regression":
            return LogisticRegression(max_iter=1000)
    leaf = max(1, min(20, n // 10))
    return HistGradientBoostingClassifier(min_samples_leaf=leaf, early_stopping=False, random_state=seed)
