"""scikit-learn's semi-supervised methods, as a person would use them: what one would otherwise pick."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from torch import Tensor

from ..data import Dataset
from ..data.augment import unit_scale
from ..errors import InputError
from ..labels import ClassLabels

COMPONENTS = 50
"""Principal components that both methods work on."""


def sklearn_proba(name: str, split: Dataset, x_test: Tensor, seed: int) -> Tensor:
    """Return class probabilities ``[n, K]`` of test points.

    Both work on 50 principal components of all training rows (features other than pixels are standardised first) and
    see no augmentation. ``label-spreading`` has a graph of 10 nearest neighbours, which fits in memory whatever N is;
    ``self-training`` adds confident predictions (above 0.75) of a logistic regression to its labels.
    """
    labels = split.labels
    if not isinstance(labels, ClassLabels):
        raise InputError(f"{name}: it needs class labels; --models without it would do")
    x, x_new = (unit_scale(v).float().flatten(1).double().numpy() for v in (split.x, x_test))
    if split.kind != "images":
        scaler = StandardScaler().fit(x)
        x, x_new = scaler.transform(x), scaler.transform(x_new)
    pca = PCA(min(COMPONENTS, *x.shape), random_state=seed).fit(x)
    x, x_new, y = pca.transform(x), pca.transform(x_new), split.y.numpy()
    spreading = LabelSpreading(kernel="knn", n_neighbors=min(10, len(x) - 1), max_iter=200)
    training = SelfTrainingClassifier(LogisticRegression(max_iter=1000))
    model = spreading if name == "label-spreading" else training
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "y contains no unlabeled samples|invalid value encountered")
        found = model.fit(x, y).predict_proba(x_new)
    probs = np.zeros((len(x_new), labels.num_classes))
    probs[:, model.classes_] = found
    unreached = ~np.isfinite(probs).all(1) | (probs.sum(1) == 0)  # a point to whose neighbours no label came
    probs[unreached] = np.isin(np.arange(labels.num_classes), model.classes_)
    return torch.from_numpy(probs / probs.sum(1, keepdims=True))
