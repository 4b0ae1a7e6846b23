"""What studies compare, by name: the library's models with their options, and what one would otherwise pick."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyro

from ..data import Dataset, known_rows
from ..errors import InputError, nearest
from ..models import MODELS, Model, create_model
from ..train.fit import fit
from .cells import Cell, Json


@dataclass(frozen=True)
class Method:
    """A model of the library with its options; ``model`` None: one of scikit-learn's."""

    model: str | None
    options: Json = field(default_factory=dict)


METHODS = {
    "augmented-probabilities": Method("augmented", {"label_inference": "plug-in"}),
    "augmented-enumerate": Method("augmented", {"label_inference": "enumerate"}),
    "augmented-sparse": Method("augmented", {"label_inference": "sparse"}),
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


def choose_methods(study: str, has: Sequence[str], named: Sequence[str]) -> tuple[str, ...]:
    """Return those of the study's methods that are named, by themselves or by their model; all where none is.

    :raises InputError: a name that the study does not have, or a model that the library lacks.
    """
    known = list(dict.fromkeys([*has, *(model for name in has if (model := METHODS[name].model) is not None)]))
    for name in named:
        if name not in known:
            raise InputError(f"--models: study {study} has no {name!r}{nearest(name, known)}")
    chosen = tuple(name for name in has if not named or name in named or METHODS[name].model in named)
    lacking = list(dict.fromkeys(m for name in chosen if (m := METHODS[name].model) not in {None, *MODELS}))
    if lacking:
        there = " ".join(name for name in has if METHODS[name].model in {None, *MODELS})
        what = f"model {lacking[0]!r}" if len(lacking) == 1 else f"models {', '.join(map(repr, lacking))}"
        raise InputError(f"study {study}: the library has no {what}; --models {there} would run those that are there")
    return chosen


def trained(cell: Cell, split: Dataset, device: str) -> Model:
    """Return the cell's model, trained on a training part for the cell's steps.

    The classifier learns from the labelled rows alone, in as many steps as the others take on all rows.
    """
    model = make_model(cell, split)
    learn(model, cell, split, device)
    return model


def make_model(cell: Cell, split: Dataset) -> Model:
    """Return the cell's model for data like ``split``, its weights drawn by the cell's seed."""
    method = METHODS[cell.method]
    assert method.model is not None
    pyro.set_rng_seed(cell.seed)
    return create_model(
        method.model, input_shape=split.input_shape, labels=split.labels, latent_dim=cell.latent_dim, **method.options
    )


def learn(model: Model, cell: Cell, split: Dataset, device: str) -> int:
    """Train a model on a training part for the cell's steps, and return how many these were."""
    x, y = split.x, split.y
    steps = round_steps(cell.steps, len(x), cell.batch_size)
    if cell.method == "classifier":
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
    """Return the steps of whole epochs of so many rows that come nearest to so many steps."""
    per_epoch = rows // min(batch_size, rows)
    return max(1, round(steps / per_epoch)) * per_epoch


def facts(split: Dataset) -> Json:
    """Return ``train``: what a cell was trained on, to see that methods had the same."""
    mark = hashlib.sha256(split.y.contiguous().numpy().tobytes()).hexdigest()[:12]
    return {"train": {"rows": len(split.x), "labelled": int(known_rows(split.y).sum()), "label_set": mark}}
