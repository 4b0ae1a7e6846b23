"""From the plan of a study to its cells: every method on every number of labels, seed by seed."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace

from .. import data as datasets
from ..data import Dataset, known_rows
from ..errors import InputError
from ..experiment.config import DataConfig
from ..experiment.data import load_data, train_split
from ..labels import ClassLabels
from ..train.plan import STEPS
from .cells import Cell
from .methods import METHODS
from .plan import Plan, Study


def plans(plan: Plan) -> list[Plan]:
    """Return a plan for each data set of a study of several; else the plan itself."""
    return [
        replace(
            plan, data=part.data, labels=plan.labels or part.labels, likelihood=part.likelihood,
            augment=part.augment, parts=(),
        )
        for part in plan.parts
    ] or [plan]  # fmt: skip


def cells_of(study: Study, plan: Plan) -> tuple[Dataset, list[Cell]]:
    """Return the data set of a plan, and its cells."""
    config = DataConfig(plan.data, target=plan.target, id=plan.id, columns=plan.columns, image_size=plan.image_size)
    dataset = load_data(config)
    return dataset, grid(study, plan, dataset)


def cells_of_parts(study: Study, plan: Plan, named: bool) -> list[Cell]:
    """Return the cells of all data sets of a plan, seed by seed; say which are left out because they are not there.

    :param named: whether a person named the data sets, which then must be there.
    """
    cells: list[Cell] = []
    for part in plans(plan):
        try:
            cells += cells_of(study, part)[1]
        except InputError as error:
            if named:
                raise
            print(f"study {study.name}: {part.data} is left out ({error})", file=sys.stderr)
    return sorted(cells, key=lambda cell: cell.seed)


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

    :raises InputError: more labels than the training rows have.
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
