"""What an experiment makes of its data: labels hidden, classes left out, rows held out; and a run's own data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .. import data as datasets
from ..data import Dataset
from ..data.class_words import class_labels
from ..data.folder import files_of_parts
from ..data.label_file import names_beside, numbers_beside, others_beside
from ..data.layouts import counts_in
from ..data.notices import say, silent
from ..data.random_rows import has_gaps
from ..errors import InputError
from ..labels import MISSING, ClassLabels
from ..models import Model
from ..models.saved_config import read_config
from .config import DataConfig, Json, ModelConfig, experiment_of

Rows = tuple[Tensor, Tensor]
"""Points and their labels."""


def load_data(source: DataConfig, quiet: bool = True) -> Dataset:
    """Return the data set as its source has it.

    :param quiet: False says on stderr how a table was read.
    """
    return datasets.load(
        source.data,
        image_size=source.image_size,
        layout=source.layout,
        attributes=source.attributes or None,
        target=source.target,
        id=source.id,
        columns=source.columns,
        quiet=quiet,
    )


def check_there(source: DataConfig, run: Path) -> None:
    """Raise :class:`InputError` where a run's data are not at their path, with what to do about it."""
    path = Path(source.data)
    if source.data.partition(":")[0] in datasets.NAMES or path.exists():
        return
    here = "the path is from the folder where train was called; call the command from there"
    what = "put it back, or train anew" if path.is_absolute() else here
    raise InputError(f"{run}: its data, {source.data}: no such file or folder; {what}")


def label_files_of(source: DataConfig, run: Path) -> DataConfig:
    """Return a run's source with the label files that lay in the run's folder where they lie now."""
    here = [(path, run / Path(path).name) for path in source.label_file]
    found = (str(inside) if inside.is_file() and not Path(path).exists() else path for path, inside in here)
    return replace(source, label_file=tuple(found))


def prepare_data(
    source: DataConfig, seed: int, quiet: bool = True, check: Callable[[Dataset], None] | None = None
) -> tuple[Dataset, Dataset, Rows]:
    """Return the data set as its source has it, the training part with labels hidden, and a validation part.

    The validation part is a tenth of the training rows, at most 2,000; its labels are looked at, never learnt from.
    Where the source itself has few labels, they are all left to train on (:func:`~pyro_ssvae.data.hold_out`).

    :param check: of the data set, before anything else is made of it.
    """
    dataset = load_data(source, quiet)
    if check is not None:
        check(dataset)
    if source.classes is not None:
        dataset = with_classes(dataset, source.classes)
    split, validation = train_split(dataset, source, seed)
    if not quiet and source.data.partition(":")[0] not in datasets.NAMES:
        say_parts(dataset, split, validation)
    return dataset, split, validation


def say_parts(dataset: Dataset, split: Dataset, validation: Rows) -> None:
    """Say how many of a person's own rows and labels are held out for validation, and what their numbers look like."""
    n, held = len(split.x) + len(validation[0]), len(validation[0])
    known = int(datasets.known_rows(validation[1]).sum())
    say(f"{held} of {n} training rows are held out for validation, {known} of them with a label")
    if dataset.table is None and has_gaps(dataset.x):
        share = float(dataset.x.isnan().float().mean())
        say(f"{dataset.name}: {share:.1%} of the values of x are NaN: taken as missing")
    counts = counts_in(dataset.x.numpy()) if dataset.x.dim() == 2 and dataset.table is None else None
    if counts is not None:
        say(f"{dataset.name}: x holds {counts}")


def network_of_data(network: ModelConfig, source: DataConfig, dataset: Dataset) -> ModelConfig:
    """Return the model's settings with what the data say: of a table the kind of each column, and that cells may lack;
    of other data that entries may, where some do.

    :raises InputError: a likelihood that does not suit a table's words.
    """
    options = network.options
    if dataset.table is None:
        options = replace(options, columns=source.columns) if source.columns else options
        options = replace(options, missing=True) if has_gaps(dataset.x) else options
        return network if options is network.options else replace(network, options=options)
    schema = dataset.table.schema
    if options.likelihood not in (None, "mixed"):
        word = next((column.name for column in schema.columns if column.reads == "words"), None)
        if word is not None:
            raise InputError(
                f"--likelihood {options.likelihood}: column {word!r} of {source.data} holds words; leave the option "
                "out (each column has its own likelihood, which --columns names)"
            )
        return replace(network, options=replace(options, missing=True))
    return replace(network, options=replace(options, columns=schema.kinds, missing=True))


def with_classes(dataset: Dataset, classes: int) -> Dataset:
    """Return the data set with K = ``classes``; those beyond its own are named ``found 1``, ``found 2``, …

    Data of which no label is known have no classes of their own, and any number is taken.
    """
    known = any(bool(datasets.known_rows(y).any()) for y in (dataset.y, dataset.y_test))
    if classes < 1:
        raise InputError(f"--classes {classes}: a whole number of at least 1 is needed")
    if dataset.labels == class_labels(()) and not known:
        return replace(dataset, labels=ClassLabels(classes))
    if not isinstance(dataset.labels, ClassLabels) or classes < dataset.labels.num_classes:
        what = "classes" if isinstance(dataset.labels, ClassLabels) else "attributes"
        raise InputError(f"--classes {classes}: the data has {len(dataset.labels.names)} {what}; more are needed")
    more = [f"found {i + 1}" for i in range(classes - dataset.labels.num_classes)]
    return replace(dataset, labels=ClassLabels(classes, [*dataset.labels.names, *more]))


def train_split(dataset: Dataset, source: DataConfig, seed: int) -> tuple[Dataset, Rows]:
    """Return the training part of a data set, less what its source leaves out and hides, and the validation part."""
    train, x_val, y_val = held_out(dataset, source)
    y = datasets.hide_classes(train.y, train.labels, source.hide_classes) if source.hide_classes else train.y
    if source.hide_classes and source.keep not in ("0", "all") and not datasets.known_rows(y).any():
        words = " ".join(source.hide_classes)[:100]
        raise InputError(f"--hide-classes {words}: no label of another class is there; fewer classes, or --labels 0")
    y = datasets.hide_labels(y, train.labels, source.keep, seed, source.labels_by)
    if source.label_file:
        rows, (files, test), names = training_rows(source, dataset), part_files(source), names_beside(dataset)
        others = others_beside(dataset, test)
        for path in source.label_file:
            y = datasets.add_labels(Path(path), y, rows, train.labels, files, names, numbers_beside(train), others)
    return replace(train, y=y), (x_val, y_val)


def held_out(dataset: Dataset, source: DataConfig) -> tuple[Dataset, Tensor, Tensor]:
    """Return a data set without the class that is left out, its rows split into training and validation.

    :raises InputError: fewer rows than make both.
    """
    seen = dataset if source.leave_out is None else datasets.leave_out(dataset, source.leave_out)
    if len(seen.x) < 3:
        raise InputError(
            f"--data {source.data}: {len(seen.x)} to train on, beside {len(dataset.x_test)} for the test; at least 3 "
            "rows are needed, since one is held out for validation"
        )
    return datasets.hold_out(seen, fraction=min(0.1, 2000 / len(seen.x)), seed=0)


def training_rows(source: DataConfig, dataset: Dataset) -> Tensor:
    """Return which rows of the data set :func:`prepare_data` leaves for training, in order."""
    x, x_test = (torch.arange(len(part)).reshape(-1, 1) for part in (dataset.x, dataset.x_test))
    train, _, _ = held_out(replace(dataset, x=x, x_test=x_test), source)
    return train.x.squeeze(1)


def row_names(source: DataConfig) -> list[str] | None:
    """Return the files that the rows of a folder's data set come from; None where rows have numbers alone."""
    return part_files(source)[0]


def part_files(source: DataConfig) -> tuple[list[str] | None, list[str] | None]:
    """Return the files that the rows of a folder's training and of its test come from; None as :func:`row_names`."""
    if not Path(source.data).is_dir():
        return None, None
    with silent():  # reading the data set has said it
        return files_of_parts(Path(source.data))


def point_names(run: Path, dataset: Dataset) -> tuple[Sequence[str] | None, Sequence[str] | None]:
    """Return what the source of a run's data calls its training and its test points; None where they have no names."""
    if dataset.ids is not None:
        return dataset.ids, dataset.ids_test
    return part_files(experiment_of(read_config(run), run).source)


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


def check_shape(model: Model, shape: tuple[int, ...], name: str) -> None:
    """Raise :class:`InputError` where the points of data have another shape than a model's.

    :param name: of the data.
    """
    if shape != model.input_shape:
        raise InputError(f"{name}: its points have shape {list(shape)}; the model needs {list(model.input_shape)}")


def run_data(run: Path, model: Model) -> Dataset:
    """Return the data set that a run was trained on, with all its labels."""
    config = read_config(run)
    source = experiment_of(config, run).source
    check_there(source, run)
    dataset = load_data(source)
    check_shape(model, dataset.input_shape, source.data)
    check_unchanged(config, dataset, run)
    return dataset
