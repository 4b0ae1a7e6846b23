"""What studies compare, by name: the library's models with their options, and what one would otherwise pick."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyro
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from torch import Tensor

from ..data import Dataset, known_rows
from ..data.augment import unit_scale
from ..errors import InputError, nearest
from ..labels import ClassLabels
from ..models import MODELS, Model, create_model
from ..train.fit import fit
from .cells import Cell

COMPONENTS = 50
"""Principal components that scikit-learn's methods work on."""


@dataclass(frozen=True)
class Method:
    """A model of the library with its options; ``model`` None: one of scikit-learn's."""

    model: str | None
    options: dict[str, Any] = field(default_factory=dict)


METHODS = {
    "augmented-probabilities": Method("augmented", {"class_input": "probabilities"}),
    "augmented-enumerate": Method("augmented", {"class_input": "enumerate"}),
    "augmented-sparse": Method("augmented", {"class_input": "sparse"}),
    "m2": Method("m2"),
    "m1+m2": Method("m1+m2"),
    "mvae": Method("mvae"),
    "diva": Method("diva"),
    "revae": Method("revae"),
    "classifier": Method("classifier"),
    "vae": Method("vae"),
    "label-spreading": Method(None),
    "self-training": Method(None),
}


def choose_methods(study: str, has: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """The study's methods that are asked for, by their own name or their model's; all where nothing is asked.

    :raises InputError: a name that the study does not have, or a model that the library lacks.
    """
    known = list(dict.fromkeys([*has, *(model for name in has if (model := METHODS[name].model) is not None)]))
    for name in asked:
        if name not in known:
            raise InputError(f"--models: study {study} has no {name!r}{nearest(name, known)}")
    chosen = tuple(name for name in has if not asked or name in asked or METHODS[name].model in asked)
    lacking = list(dict.fromkeys(m for name in chosen if (m := METHODS[name].model) not in {None, *MODELS}))
    if lacking:
        there = " ".join(name for name in has if METHODS[name].model in {None, *MODELS})
        what = f"model {lacking[0]!r}" if len(lacking) == 1 else f"models {', '.join(map(repr, lacking))}"
        raise InputError(f"study {study}: the library has no {what}; --models {there} would run those that are there")
    return chosen


def trained(cell: Cell, part: Dataset, device: str) -> Model:
    """The cell's model, trained on a training part for the cell's steps.

    The classifier learns from the labelled rows alone, in as many steps as the others take on all rows.
    """
    method = METHODS[cell.method]
    assert method.model is not None
    pyro.set_rng_seed(cell.seed)
    model = create_model(
        method.model, input_shape=part.input_shape, labels=part.labels, latent_dim=cell.latent_dim, **method.options
    )
    learn(model, cell, part, device)
    return model


def learn(model: Model, cell: Cell, part: Dataset, device: str) -> int:
    """Train a model on a training part for the cell's steps, and return how many these were."""
    x, y = part.x, part.y
    steps = round_steps(cell.steps, len(x), cell.batch_size)
    if (model.config or {}).get("name") == "classifier":
        rows = known_rows(y)
        x, y = x[rows], y[rows]
        if len(x) < 2:
            raise InputError(f"--labels {cell.labels}: a classifier needs at least 2 labels")
    per_epoch = len(x) // min(cell.batch_size, len(x))
    epochs = max(1, steps // per_epoch)
    fit(
        model, x, y, epochs=epochs, batch_size=cell.batch_size, augment=cell.augment, seed=cell.seed, device=device,
        progress=False,
    )  # fmt: skip
    return epochs * per_epoch


def round_steps(steps: int, rows: int, batch_size: int) -> int:
    """Whole epochs of so many rows that come nearest to so many steps."""
    per_epoch = rows // min(batch_size, rows)
    return max(1, round(steps / per_epoch)) * per_epoch


def facts(part: Dataset) -> dict[str, Any]:
    """``train``: what a cell was trained on, to see that methods had the same."""
    mark = hashlib.sha256(part.y.contiguous().numpy().tobytes()).hexdigest()[:12]
    return {"train": {"rows": len(part.x), "labelled": int(known_rows(part.y).sum()), "label_set": mark}}


def sklearn_proba(name: str, part: Dataset, x_test: Tensor, seed: int) -> Tensor:
    """Class probabilities ``[n, K]`` of scikit-learn's semi-supervised methods, as a person would use them.

    Both work on 50 principal components of all training rows (features other than pixels are standardised first) and
    see no augmentation. ``label-spreading`` has a graph of 10 nearest neighbours, which fits in memory whatever N is;
    ``self-training`` adds confident predictions (above 0.75) of a logistic regression to its labels.
    """
    labels = part.labels
    if not isinstance(labels, ClassLabels):
        raise InputError(f"{name}: it needs class labels; --models without it would do")
    x, x_new = (unit_scale(v).float().flatten(1).double().numpy() for v in (part.x, x_test))
    if part.kind != "images":
        scaler = StandardScaler().fit(x)
        x, x_new = scaler.transform(x), scaler.transform(x_new)
    pca = PCA(min(COMPONENTS, *x.shape), random_state=seed).fit(x)
    x, x_new, y = pca.transform(x), pca.transform(x_new), part.y.numpy()
    model: Any
    if name == "label-spreading":
        model = LabelSpreading(kernel="knn", n_neighbors=min(10, len(x) - 1), max_iter=200)
    else:
        model = SelfTrainingClassifier(LogisticRegression(max_iter=1000))
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "y contains no unlabeled samples|invalid value encountered")
        found = model.fit(x, y).predict_proba(x_new)
    probs = np.zeros((len(x_new), labels.num_classes))
    probs[:, model.classes_] = found
    unreached = ~np.isfinite(probs).all(1) | (probs.sum(1) == 0)  # a point to whose neighbours no label came
    probs[unreached] = np.isin(np.arange(labels.num_classes), model.classes_)
    return torch.from_numpy(probs / probs.sum(1, keepdims=True))
