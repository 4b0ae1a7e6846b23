"""What an experiment makes of its data: labels hidden, classes left out, rows held out; and a run's own data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .. import data as datasets
from ..data import Dataset
from ..errors import InputError, nearest
from ..labels import MISSING, AttributeLabels, ClassLabels, Labels
from ..models import Model
from ..models.saving import read_config
from .config import DataConfig, Json, experiment_of

Rows = tuple[Tensor, Tensor]
"""Points and their labels."""


def load_data(source: DataConfig) -> Dataset:
    """Return the data set as its source has it."""
    return datasets.load(source.data, image_size=source.image_size, attributes=source.attributes or None)


def prepare_data(source: DataConfig, seed: int) -> tuple[Dataset, Dataset, Rows]:
    """Return the data set as its source has it, the training part with labels hidden, and a validation part.

    The validation part is a tenth of the training rows, at most 2,000; its labels are looked at, never learnt from.
    """
    dataset = load_data(source)
    if source.classes is not None:
        dataset = with_classes(dataset, source.classes)
    return dataset, *train_split(dataset, source, seed)


def with_classes(dataset: Dataset, classes: int) -> Dataset:
    """Return the data set with labels of so many classes; those beyond its own are named ``found 1``, ``found 2``, …"""
    if not isinstance(dataset.labels, ClassLabels) or classes < dataset.labels.num_classes:
        what = "classes" if isinstance(dataset.labels, ClassLabels) else "attributes"
        raise InputError(f"--classes {classes}: the data has {len(dataset.labels.names)} {what}; more are needed")
    more = [f"found {i + 1}" for i in range(classes - dataset.labels.num_classes)]
    return replace(dataset, labels=ClassLabels(classes, [*dataset.labels.names, *more]))


def train_split(dataset: Dataset, source: DataConfig, seed: int) -> tuple[Dataset, Rows]:
    """Return the training part of a data set, less what its source leaves out and hides, and the validation part."""
    train, x_val, y_val = held_out(dataset, source)
    y = datasets.hide_classes(train.y, train.labels, source.hide_classes) if source.hide_classes else train.y
    y = datasets.hide_labels(y, train.labels, source.keep, seed, source.labels_by)
    if source.label_file:
        rows, files = training_rows(source, dataset), row_names(source)
        for path in source.label_file:
            y = datasets.add_labels(Path(path), y, rows, train.labels, files)
    return replace(train, y=y), (x_val, y_val)


def held_out(dataset: Dataset, source: DataConfig) -> tuple[Dataset, Tensor, Tensor]:
    """Return a data set without the class that is left out, its rows split into training and validation."""
    seen = dataset if source.leave_out is None else datasets.leave_out(dataset, source.leave_out)
    return datasets.hold_out(seen, fraction=min(0.1, 2000 / len(seen.x)), seed=0)


def training_rows(source: DataConfig, dataset: Dataset) -> Tensor:
    """Return which rows of the data set :func:`prepare_data` leaves for training, in order."""
    x, x_test = (torch.arange(len(part)).reshape(-1, 1) for part in (dataset.x, dataset.x_test))
    train, _, _ = held_out(replace(dataset, x=x, x_test=x_test), source)
    return train.x.squeeze(1)


def row_names(source: DataConfig) -> list[str] | None:
    """Return the files that the rows of a folder's data set come from; None where rows have numbers alone."""
    return datasets.training_files(Path(source.data)) if Path(source.data).is_dir() else None


def evaluation_options(source: DataConfig, dataset: Dataset, split: Dataset) -> Json:
    """Return what :func:`~pyro_ssvae.evaluate` is told: the classes that had labels, and those training never saw.

    :param split: the training part, with its labels hidden.
    """
    if not isinstance(dataset.labels, ClassLabels):
        return {}
    classes = split.y[split.y != MISSING].unique().tolist()
    left_out = [] if source.leave_out is None else [list(dataset.labels.names).index(source.leave_out)]
    every = len({*classes, *left_out}) == dataset.labels.num_classes and len(classes) > 0
    return {"known_classes": None if every else classes, "left_out": left_out or None}


def data_digest(dataset: Dataset) -> str:
    """Return a SHA-256 of all points and labels, without the labels' names."""
    return datasets.digest(dataset.x, dataset.y, dataset.x_test, dataset.y_test)


def check_unchanged(config: Json, dataset: Dataset, run: Path) -> None:
    """Raise :class:`InputError` where a run's data set is no longer the one that it was trained on."""
    digest = data_digest(dataset)
    if config.get("digest", digest) != digest:
        name = config["settings"]["source"]["data"]
        raise InputError(
            f"{run}: {name} has changed since this run; it is needed as it was then (evaluate --data takes any other)"
        )


def check_shape(model: Model, dataset: Dataset, name: str) -> None:
    """Raise :class:`InputError` where a model's points have another shape than a data set's."""
    if dataset.input_shape != model.input_shape:
        shapes = f"{list(dataset.input_shape)}; the model needs {list(model.input_shape)}"
        raise InputError(f"{name}: its points have shape {shapes}")


def run_data(run: Path, model: Model) -> Dataset:
    """Return the data set that a run was trained on, with all its labels."""
    config = read_config(run)
    source = experiment_of(config, run).source
    dataset = load_data(source)
    check_shape(model, dataset, source.data)
    check_unchanged(config, dataset, run)
    return dataset


def renumbered(labels: Labels, dataset: Dataset) -> Tensor:
    """Return the test labels of a data set by the numbers that a model has for their names."""
    y, names, known = dataset.y_test, list(dataset.labels.names), list(labels.names)
    same = isinstance(labels, ClassLabels) == isinstance(dataset.labels, ClassLabels)
    if isinstance(labels, AttributeLabels) or not same:
        if not same or names != known:
            raise InputError(f"--data: {dataset.name} has labels {', '.join(names)[:200]}; the model's differ")
        return y
    for k in y[y != MISSING].unique().tolist():
        if names[k] not in known:
            raise InputError(f"--data: {dataset.name} has a class {names[k]!r}{nearest(names[k], known)}")
    numbers = [known.index(name) if name in known else MISSING for name in names]
    return torch.where(y == MISSING, y, torch.tensor(numbers)[y.clamp_min(0)])
