"""What a run predicts of new points, as columns in the data's own words."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from torch import Tensor

from ..data.tables import decode, whole_cells
from ..errors import InputError, kind_of
from ..evaluation.calibration import COVERAGE, Calibration
from ..evaluation.novelty import Reference, novelty
from ..infer.batched import batched, checked, counted_from, evaluating, once_per_input
from ..infer.imputation import impute
from ..infer.protocols import Classifies, Encodes, require
from ..labels import AttributeLabels, ClassLabels
from ..models import Model
from ..models.saved_config import read_config
from ..models.saving import load
from ..nn.likelihoods import Likelihood
from ..train.settings import torch_device
from .config import Json
from .new_points import Given, NewPoints

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Cells: TypeAlias = "np.ndarray | pd.Series"
Named: TypeAlias = "list[tuple[str, Cells]]"
CALIBRATION, NOVELTY = "calibration.json", "novelty.safetensors"
ROWS = 10_000  # of a part of the table
PLACES = 6  # decimals


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run that has ended, and what it knows of its own predictions.

    :ivar calibration: None where there were no labels that training did not learn from.
    :ivar reference: None for a run of a model without features.
    :ivar labelled: how many training points had a label; None where the run does not say.
    """

    folder: Path
    config: Json
    model: Model
    calibration: Calibration | None
    reference: Reference | None
    labelled: int | None = None


def read_run(folder: Path, device: str = "auto") -> TrainedRun:
    """Return a run, its model on the device.

    :raises InputError: naming the file that is absent or damaged, or a device that is not there.
    """
    where = torch_device(device)
    config = read_config(folder)
    model = load(folder).to(where)
    calibration = None
    if (folder / CALIBRATION).exists() and model.labels is not None:
        calibration = Calibration.load(folder / CALIBRATION, model.labels)
    reference = Reference.load(folder / NOVELTY) if (folder / NOVELTY).exists() else None
    return TrainedRun(folder, config, model, calibration, reference, labels_of_training(folder))


def labels_of_training(folder: Path) -> int | None:
    """Return how many training points of a run had a label; None where it does not say."""
    try:
        return int(json.loads((folder / "metrics.json").read_text("utf-8"))["data"]["labelled"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Wanted:
    """What is asked beside the predictions.

    :param coverage: of the prediction sets.
    :param embeddings: the latents' means.
    :param impute: the points, missing entries filled.
    :param draws: of the guide, for a missing entry.
    """

    coverage: float = COVERAGE
    embeddings: bool = False
    impute: bool = False
    draws: int = 100
    seed: int = 0


def check_wanted(run: TrainedRun, wanted: Wanted) -> None:
    """Raise :class:`InputError` naming the option that the run cannot answer."""
    if not 0 < wanted.coverage < 1:
        raise InputError(f"--coverage: {wanted.coverage}; a share between 0 and 1, such as 0.9, is needed")
    if wanted.embeddings and not isinstance(run.model, Encodes):
        raise InputError(f"--embeddings: {kind_of(run.model)} has no latents; leave it out")
    likelihood = run.model.likelihood
    if wanted.impute and not (isinstance(likelihood, Likelihood) and likelihood.missing):
        raise InputError(
            f"--impute: {run.folder} was trained on data without gaps, so that none can be filled; leave it out"
        )
    if not isinstance(run.model, Classifies) and run.reference is None and not wanted.embeddings:
        raise InputError(f"{run.folder}: {kind_of(run.model)} predicts no labels; --embeddings gives its latents")


def tables(run: TrainedRun, points: NewPoints, wanted: Wanted) -> Iterator[pa.Table]:
    """Yield the predictions of some rows after others, each a table of the same columns.

    :raises InputError: naming the row that the model does not take.
    """
    for start in range(0, points.count, ROWS):
        rows = slice(start, min(start + ROWS, points.count))
        found = columns(run, points, rows, wanted)
        yield as_table(found)


def as_table(found: dict[str, Cells]) -> pa.Table:
    """Return columns as a table; objects are words, whatever is missing among them."""
    import pyarrow as pa

    typed = {name: pa.string() if column.dtype == object else None for name, column in found.items()}
    return pa.table({name: pa.array(column, typed[name], from_pandas=True) for name, column in found.items()})


def columns(run: TrainedRun, points: NewPoints, rows: slice, wanted: Wanted) -> dict[str, Cells]:
    """Return the columns of some rows, by name."""
    try:
        x, _ = checked(run.model, points.read(rows))
    except InputError as error:  # it counts rows from those that it was given
        words = counted_from(rows.start, str(error))
        raise InputError(f"--data {points.name}: {words.removeprefix('x: ')}") from None
    found: dict[str, Cells] = {}
    put(found, points.id_name, np.array(points.ids[rows]))
    with evaluating(run.model), once_per_input(run.model):
        if isinstance(run.model, Classifies):
            probs = batched(run.model, run.model.predict_proba, x).cpu()
            y = None if points.y is None else points.y[rows]
            for name, column in label_columns(run, probs, y, wanted.coverage):
                put(found, name, column)
        if run.reference is not None:
            put(found, "novelty", rounded(novelty(run.model, x, run.reference)))
        if wanted.embeddings:
            z = require(run.model, Encodes).encode(x).mean.flatten(1)
            for i, column in enumerate(rounded(z).T):
                put(found, f"z{i}", column)
    if wanted.impute:
        full = impute(run.model, x, num_samples=wanted.draws, seed=wanted.seed + rows.start).cpu()
        given = None if points.given is None else points.given(rows)
        for name, column in filled_columns(full, run.model, given).items():
            put(found, f"imputed_{name}", column)
    return found


def put(found: dict[str, Cells], name: str, column: Cells) -> None:
    """Add a column; one whose name is taken gets a line below it."""
    while name in found:
        name += "_"
    found[name] = column


def rounded(values: Tensor) -> np.ndarray:
    """Numbers to six decimals."""
    return np.round(values.detach().cpu().double().numpy(), PLACES)


def label_columns(run: TrainedRun, probs: Tensor, y: Tensor | None, coverage: float) -> Named:
    """Return what is predicted of the labels, in words, from the model's own probabilities."""
    labels = require(run.model, Classifies).labels
    own = run.calibration
    p = probs.double() if own is None else own.predict_proba(probs.double())
    sets = None if own is None else own.predict_set(probs, coverage).numpy()
    if isinstance(labels, ClassLabels):
        return class_columns(labels, p, sets, y)
    return attribute_columns(labels, p, sets, y)


def class_columns(labels: ClassLabels, p: Tensor, sets: np.ndarray | None, y: Tensor | None) -> Named:
    """``label``, ``probability``, ``p_CLASS`` of each class, ``set`` and, where labels are given, ``known``."""
    names = np.array([*labels.names, None], dtype=object)
    top, best = p.max(-1)
    found: Named = [("label", names[best.numpy()]), ("probability", rounded(top))]
    found += [(f"p_{name}", column) for name, column in zip(labels.names, rounded(p).T)]
    if sets is not None:
        found.append(("set", set_words(sets, list(labels.names), "|")))
    if y is not None:
        found.append(("known", names[y.numpy()]))  # -1 is the last
    return found


def attribute_columns(labels: AttributeLabels, p: Tensor, sets: np.ndarray | None, y: Tensor | None) -> Named:
    """Of each attribute its value, ``p_ATTRIBUTE`` (the probability of 1), ``set_ATTRIBUTE``, ``known_ATTRIBUTE``."""
    found: Named = []
    for a, (name, pair) in enumerate(zip(labels.names, labels.words)):
        known = np.array([*pair, None], dtype=object)
        found += [(name, known[(p[:, a] > 0.5).long().numpy()]), (f"p_{name}", rounded(p[:, a]))]
        if sets is not None:
            found.append((f"set_{name}", set_words(sets[:, a], pair, "|")))
        if y is not None:
            found.append((f"known_{name}", known[y[:, a].numpy()]))
    return found


def set_words(sets: np.ndarray, names: Sequence[str], separator: str) -> np.ndarray:
    """Return each set's labels as words: ``cat|dog``; a separator in a name of its own is written ``\\|``."""
    if any(separator in name for name in names):
        names = [name.replace("\\", "\\\\").replace(separator, f"\\{separator}") for name in names]
    packed = np.packbits(sets, axis=1)
    codes, place = np.unique(packed, axis=0, return_inverse=True)
    members = np.unpackbits(codes, axis=1, count=len(names)).astype(bool)
    words = [separator.join(name for name, there in zip(names, row) if there) for row in members]
    return np.array(words, dtype=object)[place.reshape(-1)]


def point_columns(x: Tensor, model: Model, taken: Collection[str] = ()) -> dict[str, Cells]:
    """Return points as columns: in a table's own names and words, else numbered ``x0``, ``x1``, …

    :param model: that was trained on such points, and knows the names of their columns.
    :param taken: names that other columns have; one of them gets a line below it.
    """
    import pandas as pd

    values = x.detach().cpu().double().flatten(1).numpy().T
    names = model.column_names or [f"x{i}" for i in range(len(values))]
    named: dict[str, Cells] = {name: tidy(pd.Series(column)) for name, column in zip(names, values)}
    if model.schema is not None:
        frame = decode(x, model.schema)
        named = {column.name: tidy(frame[column.name], column.offset) for column in model.schema.columns}
    found: dict[str, Cells] = dict.fromkeys(taken, np.zeros(0))
    for name, column in named.items():
        put(found, name, column)
    return {name: column for name, column in found.items() if name not in taken}


def filled_columns(x: Tensor, model: Model, given: Given | None) -> dict[str, Cells]:
    """Return points whose gaps are filled as :func:`point_columns` does, each cell that was given as it stood."""
    found = point_columns(x, model)
    if given is None:
        return found
    return {name: filled(cells, column) for (name, column), cells in zip(found.items(), given)}


def filled(cells: pd.Series, column: Cells) -> pd.Series:
    """Return a column's own cells, and others where it has none."""
    import pandas as pd

    gaps = cells.isna().to_numpy()
    if not gaps.any():
        return cells
    full, others = cells.reset_index(drop=True), pd.Series(column)
    if full.dtype == "Int64":
        others = whole_cells(others.to_numpy(np.float64, na_value=np.nan))
        full = full.astype(others.dtype)
    full[gaps] = others[gaps].astype(full.dtype)
    return full


def tidy(column: pd.Series, offset: float = 0.0) -> pd.Series:
    """Return numbers without the digits that float32 does not have; any other column as it is.

    :param offset: was added to numbers of float32.
    """
    if column.dtype != np.float64:
        return column
    shortest = (column - offset).to_numpy(np.float32).astype(str).astype(np.float64)
    return column.where(column.isna(), shortest + offset)


def label_words(model: Model, y: Tensor) -> dict[str, Cells]:
    """Return known labels as columns: ``label``, or each attribute, an empty cell where it is missing."""
    labels = require(model, Classifies).labels
    if isinstance(labels, ClassLabels):
        name = "label" if model.schema is None or not model.schema.targets else model.schema.targets[0].name
        return {name: np.array([*labels.names, None], dtype=object)[y.numpy()]}
    return {
        name: np.array([*pair, None], dtype=object)[y[:, a].numpy()]
        for a, (name, pair) in enumerate(zip(labels.names, labels.words))
    }
