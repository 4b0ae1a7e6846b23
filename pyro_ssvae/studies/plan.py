"""A study: its question, the grid of cells that answers it, and how these are computed and read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .. import data as datasets
from ..data import Dataset, known_rows
from ..errors import InputError
from ..experiment.config import DataConfig
from ..experiment.data import train_split
from ..labels import ClassLabels
from ..train.plan import STEPS
from .cells import Cell, Json, Result
from .methods import METHODS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Part:
    """One data set of a study that has several.

    :param labels: all, 0, counts or fractions.
    :param likelihood: of all models; by the data's shape where it is not given.
    :param augment: random changes of each batch; those of the study where it is not given.
    """

    data: str
    labels: tuple[str, ...]
    likelihood: str | None = None
    augment: str | None = None


@dataclass(frozen=True)
class Plan:
    """What a study runs; the command line's options replace fields of it."""

    data: str
    labels: tuple[str, ...]
    """All, 0, counts or fractions."""
    seeds: int = 3
    """How many seeds."""
    first_seed: int = 0
    """The first of them; the others follow."""
    steps: int | None = None
    """Batches a training; by default 1,000 to 2,000, depending on the points' size, as for ``train``."""
    epochs: int | None = None
    """Passes over the training rows, in place of ``steps``."""
    methods: tuple[str, ...] = ()
    """By default all of the study's."""
    classes: tuple[str, ...] = ()
    """The classes that are left out, hidden or transferred to; by default the study's choice."""
    batch_size: int = 256
    latent_dim: int = 50
    image_size: int | None = None
    draws: int = 100
    points: int = 500
    oracle_steps: int = 300
    likelihood: str | None = None
    augment: str | None = None
    networks: str = "default"
    gain: float | None = None
    """Double the steps until that is worth less than so many nats of the validation rows' bound."""
    compile: bool = False
    target: tuple[str, ...] = ()
    """Of a table: its columns of labels."""
    id: str | None = None
    """Of a table: the column that names the rows."""
    columns: tuple[str, ...] = ()
    """Of a table: kinds of columns, as ``train`` takes them."""
    parts: tuple[Part, ...] = ()
    """Data sets of a study of several, in place of ``data`` and, where that is empty, of ``labels``."""


SOME_TAKE = ("classes", "draws", "points")
"""Fields of a plan that not every study depends on."""


@dataclass(frozen=True)
class Column:
    """A metric in a table.

    :param path: keys in the metrics, joined by dots.
    :param words: what a table calls it.
    :param digits: after the point.
    :param better: ``"higher"`` or ``"lower"``.
    :param panel: whether the study's picture has a panel of it.
    :param chance: path of what this metric would be by chance, drawn as a grey line.
    """

    path: str
    words: str
    digits: int = 4
    better: str = "higher"
    panel: bool = False
    chance: str | None = None


@dataclass(frozen=True)
class Study:
    """One claim of the papers as a grid of cells.

    :param title: a table's heading.
    :param notes: what a reader must know of the comparison, beyond what holds for every study.
    :param methods: names in :data:`~.methods.METHODS`.
    :param full: the plan without options; ``quick`` with ``--quick``.
    :param compute: the metrics of a cell, from the data set and a device.
    :param answers: lines of Markdown that answer the study's questions from results.
    :param combinations: the (method, labels, classes) that make sense of all there are.
    :param takes: the options of :data:`SOME_TAKE` that its cells depend on.
    :param prepare: something that all cells need, made once before the first.
    """

    name: str
    title: str
    notes: tuple[str, ...]
    methods: tuple[str, ...]
    full: Plan
    quick: Plan
    compute: Callable[[Cell, Dataset, str], Json]
    columns: tuple[Column, ...]
    answers: Callable[[Sequence[Result]], list[str]]
    combinations: Callable[[Plan, Dataset], Iterator[tuple[str, str, tuple[str, ...]]]]
    takes: tuple[str, ...] = ("draws",)
    prepare: Callable[[Plan, Dataset], None] | None = None
    augment: str | None = None
    """Of all methods that have none of their own; by default affine for images, hide for tables, noise for the rest."""
    baseline: str | None = None
    """The method that the picture compares with."""
    picture: Callable[[Sequence[Result]], Figure] | None = None
    """A picture of its own, in place of panels over the number of labels."""


def plans(plan: Plan) -> list[Plan]:
    """Return a plan for each data set of a study of several; else the plan itself."""
    return [
        replace(
            plan, data=part.data, labels=plan.labels or part.labels, likelihood=part.likelihood,
            augment=part.augment, parts=(),
        )
        for part in plan.parts
    ] or [plan]  # fmt: skip


def grid(study: Study, plan: Plan, dataset: Dataset) -> list[Cell]:
    """Return the cells of a plan, one seed after another, so that each further seed narrows what is there already.

    :raises InputError: numbers of labels, classes, steps or networks that the data does not allow.
    """
    names = dataset.labels.names if isinstance(dataset.labels, ClassLabels) else ()
    for name in plan.classes:
        if name not in names:
            known = ", ".join(names)[:200] or "the data has attributes"
            raise InputError(f"--classes: there is no class {name!r} (known: {known})")
    if plan.networks != "default" and dataset.table is not None:
        raise InputError(
            f"--networks {plan.networks}: {plan.data} is a table, which default suits; leave the option out"
        )
    usual = "hide" if dataset.table is not None else "affine" if dataset.kind == "images" else "noise"
    augment = plan.augment or study.augment or usual
    steps = budget(plan, dataset)
    mark = datasets.fingerprint(dataset)[:16]
    return [
        Cell(
            study=study.name,
            data=plan.data,
            fingerprint=mark,
            method=method,
            labels=labels,
            seed=seed,
            steps=steps,
            batch_size=plan.batch_size,
            latent_dim=plan.latent_dim,
            augment=METHODS[method].augment or augment,
            classes=classes,
            image_size=plan.image_size,
            draws=plan.draws,
            points=plan.points,
            oracle_steps=plan.oracle_steps if study.prepare else 0,
            likelihood=plan.likelihood,
            networks=plan.networks,
            gain=plan.gain,
            compile=plan.compile,
            target=plan.target,
            id=plan.id,
            columns=plan.columns,
        )
        for seed in range(plan.first_seed, plan.first_seed + plan.seeds)
        for method, labels, classes in study.combinations(plan, dataset)
    ]


def source(cell: Cell, hide_classes: tuple[str, ...] = (), leave_out: str | None = None) -> DataConfig:
    """Return the cell's data as ``train`` would name it."""
    return DataConfig(
        cell.data, cell.labels, target=cell.target, id=cell.id, columns=cell.columns, hide_classes=hide_classes,
        leave_out=leave_out, image_size=cell.image_size,
    )  # fmt: skip


def budget(plan: Plan, dataset: Dataset) -> int:
    """Return the batches of a training: whole epochs of the training rows, at least as many as the plan names."""
    rows = len(train_split(dataset, DataConfig(plan.data, "all"), 0)[0].x)
    per_epoch = rows // min(plan.batch_size, rows)
    if plan.epochs is not None:
        return plan.epochs * per_epoch
    asked = plan.steps or next(steps for most, steps in STEPS if dataset.x[0].numel() <= most)
    return math.ceil(asked / per_epoch) * per_epoch


def label_counts(plan: Plan, dataset: Dataset, hidden: Sequence[str] = ()) -> list[str]:
    """Return the plan's numbers of labels, each once; what comes to all of them is "all".

    :raises InputError: where the training rows don't have so many.
    """

    def known(labels: str) -> int:
        split, _ = train_split(dataset, DataConfig(plan.data, labels, hide_classes=tuple(hidden)), 0)
        return int(known_rows(split.y).sum())

    counts, every = [], known("all")
    for labels in plan.labels:
        kept = known(labels)
        counts.append("all" if kept == every else "0" if kept == 0 else labels)
    return list(dict.fromkeys(counts))


def need_classes(study: str, dataset: Dataset) -> ClassLabels:
    """Return the data's classes; raise :class:`InputError` where it has attributes."""
    if not isinstance(dataset.labels, ClassLabels):
        raise InputError(f"study {study}: {dataset.name} has attributes; data with classes is needed, such as digits")
    return dataset.labels


def last_classes(plan: Plan, dataset: Dataset) -> tuple[str, ...]:
    """Return the plan's classes, by default the last three tenths of all."""
    names = [str(name) for name in dataset.labels.names]
    chosen = plan.classes or tuple(names[-max(1, round(0.3 * len(names))) :])
    if len(set(chosen)) >= len(names):
        raise InputError(f"--classes: these are all {len(names)} classes; at least one other is needed")
    return tuple(chosen)
