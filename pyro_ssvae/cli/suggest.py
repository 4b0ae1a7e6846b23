"""List the training points whose labels would teach the most.

They come as a CSV file to fill in, and as a picture.

Rows of a table stand in the file itself, beside the label to be filled in.

Example: pyro-ssvae suggest runs/digits-augmented-50 -n 20
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..errors import InputError, counted
from .arguments import SEEDS, check_bounds, read
from .outputs import free_name
from .pictures import save_picture

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from ..data import Dataset
    from ..experiment.config import DataConfig
    from ..models import Model


@dataclass(frozen=True)
class Suggest:
    """The command's options."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 20
    """How many points."""
    out: Path | None = None
    """The CSV file, which must not exist; by default a new one in the run's folder. The picture lies beside it."""
    seed: int = 0
    """Of the choice."""


def parse(arguments: Sequence[str]) -> Suggest:
    """Return the options that were typed."""
    return read("suggest", Suggest, arguments, __doc__)


def run(options: Suggest) -> None:
    """Write the file and the picture, and say how to go on."""
    import torch

    from .. import plots
    from ..data import label_file_text
    from ..data.label_file import names_beside
    from ..data.splits import PROPORTIONAL
    from ..experiment.data import row_names, training_rows
    from ..models.saving import load

    path = free_path(options)
    check_bounds(options, seed=SEEDS)
    model = load(options.run)
    source, dataset, split = training_data(options.run, model)
    found = query(options, model, split)
    chosen = torch.tensor(found.index.to_list())
    rows, files = training_rows(source, dataset)[chosen].tolist(), row_names(source)
    names = [str(row) for row in rows] if files is None else [Path(files[row]).name for row in rows]
    guesses = guesses_of(model, found)
    own = {name: [words[row] for row in rows] for name, words in names_beside(dataset).items()}
    beside = rows_beside(model, split.x[chosen], guesses, own)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            file.write(label_file_text(rows, split.labels, files, beside))
    except OSError as error:
        raise InputError(f"--out {path}: it cannot be written ({error.strerror})") from None
    print(f"to fill in: {path}")
    if model.schema is None:
        short = model.labels is not None and ("first" in found or model.labels.size <= 2)
        titles = [f"{a}:\n{b}" if b and short else a for a, b in zip(names, guesses)]
        with_guesses = ", with the model's guesses" if short and any(guesses) else ""
        what = f"{counted(len(names), 'training point')} whose labels would teach the most{with_guesses}"
        units = plots.units_of(model, split.x)
        figure = plots.contact_sheet(split.x[chosen], titles, units=units, title=what)
        print(f"picture: {save_picture(figure, path.with_suffix('.png'), options.run, 'suggest')}")
    again = ["pyro-ssvae", "train", "--data", source.data, "--labels", source.keep]
    again += ["--id", source.id] if source.id is not None else []
    again += ["--target", *source.target] * bool(source.target) + ["--columns", *source.columns] * bool(source.columns)
    again += ["--labels-by", source.labels_by] * (source.labels_by != PROPORTIONAL)
    again += [word for earlier in source.label_file for word in ("--label-file", earlier)]
    print(f"then: {shlex.join([*again, '--label-file', str(path)])}, and the run's other options")


def guesses_of(model: Model, found: pd.DataFrame) -> list[str]:
    """Return what the model guesses of each point that :func:`query` chose: the two most probable classes, or each
    attribute."""
    from ..data.label_words import answers
    from ..labels import AttributeLabels

    if "first" in found:
        return [f"{a} {p:.2f}, {b} {q:.2f}" for a, p, b, q in zip(*(found[c] for c in list(found)[1:5]))]
    if not isinstance(model.labels, AttributeLabels):
        return [""] * len(found)
    words, probs = answers(model.labels), found[[f"p_{name}" for name in model.labels.names]].to_numpy()
    return [", ".join(f"{word} {p:.2f}" for word, p in zip(words, row)) for row in probs]


def rows_beside(
    model: Model, x: Tensor, guesses: Sequence[str], names: Mapping[str, list[str]]
) -> dict[str, list[str]]:
    """Return what stands beside the labels to be filled in: what the model guesses, the rows in their source, and a
    table's own cells.

    :param names: of the rows, by their column.
    """
    import pandas as pd

    from ..data.label_file import free_column, taken_columns
    from ..experiment.columns import point_columns

    if model.schema is None:
        return dict(names)
    taken = taken_columns(model.labels)
    found = {"guess": list(guesses), **names}
    for name, column in point_columns(x, model, taken=[*taken, *found]).items():
        cells = pd.Series(column).astype(object)
        found[free_column(name, model.labels)] = cells.where(cells.notna(), "").map(str).tolist()
    return found


def training_data(run: Path, model: Model) -> tuple[DataConfig, Dataset, Dataset]:
    """Return where a run's data come from, the data set, and its training part with the labels that the run has."""
    from ..experiment.config import experiment_of
    from ..experiment.data import check_shape, check_there, check_unchanged, label_files_of, prepare_data
    from ..models.saved_config import read_config

    config = read_config(run)
    settings = experiment_of(config, run)
    source = label_files_of(settings.source, run)
    check_there(source, run)

    def check(dataset: Dataset) -> None:
        check_shape(model, dataset.input_shape, source.data)
        check_unchanged(config, dataset, run)

    dataset, split, _ = prepare_data(source, settings.training.seed, check=check)
    return source, dataset, split


def query(options: Suggest, model: Model, split: Dataset) -> pd.DataFrame:
    """Return the points to label next; an error names the command's own option.

    Where too few points are without any label, those count that lack some of theirs.
    """
    from ..data.notices import say
    from ..evaluation.active_learning import query as choose
    from ..labels import MISSING

    gaps = (split.y == MISSING).reshape(len(split.y), -1)
    if not bool(gaps.any()):
        raise InputError(f"{options.run}: every training point has its label; none is left to suggest")
    y = split.y
    if int(gaps.all(1).sum()) < options.n and gaps.shape[1] > 1:
        bare = int(gaps.all(1).sum())
        what = "1 point is" if bare == 1 else f"{bare} points are"
        say(f"{options.run}: {what} without any label; those that lack some count too")
        y = y.masked_fill(gaps.any(1, keepdim=True), MISSING)
    try:
        return choose(model, split.x, y, n=options.n, seed=options.seed)
    except InputError as error:
        words = f"-n: {str(error)[3:]}" if str(error).startswith("n:") else f"{options.run}: {error}"
        raise InputError(words) from None


def free_path(options: Suggest) -> Path:
    """Return where the file is to be written; nothing may be there, nor where its picture goes."""
    path = options.out or free_name(options.run, "suggest", ".csv", ".png")
    if path.suffix.lower() != ".csv":
        raise InputError(f"--out {path}: a name that ends in .csv is needed")
    for taken in (path, path.with_suffix(".png")):
        if os.path.lexists(taken):
            raise InputError(f"--out {path}: {taken} is there already; another name is needed")
    return path
