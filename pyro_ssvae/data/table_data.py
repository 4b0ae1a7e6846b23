"""From a table to a data set: kinds of columns inferred, targets as labels, rows named, a test held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import InputError
from ..labels import MISSING
from .cells import MISSING_LABELS, as_written, factorized, first, word_of
from .checks import hint, shown
from .class_words import check_classes, say_classes, sort_words, untaught
from .column_kinds import in_order, kind_of, kind_word, one_spelling
from .dataset import Dataset, Table
from .notices import say
from .number_words import COMMA, time_words
from .schema import Column, Schema
from .split_words import parts_of, said_of_validation
from .splits import split_rows
from .table_files import read_file, release_memory
from .table_notices import say_cells, sum_row
from .tables import SPLIT, TableLike, column_values, in_memory, target_values, test_of_words


@dataclass(frozen=True)
class Wanted:
    """What a person says of a table.

    :param target: columns of labels.
    :param id: the column that names the rows.
    :param kinds: the kind of some columns.
    """

    target: tuple[str, ...]
    id: str | None
    kinds: Mapping[str, str]


def read_table(
    table: TableLike,
    *,
    target: str | Sequence[str] = (),
    id: str | None = None,
    columns: Mapping[str, str] | Sequence[str] = (),
    name: str | None = None,
    quiet: bool = False,
) -> Dataset:
    """Return the data set of a table: a row a point, NaN where a cell is missing.

    Kinds of columns are inferred: numbers (normal, log-normal where skewed, Student's t where tails are heavy), counts,
    categories, two words, dates as days since the first. Columns that are empty, the same in every row, or number or
    name the rows, are left out. What was decided is said on stderr.

    :param table: a data frame of pandas, polars or a like library, a table of pyarrow, a list of records, a dict of
        columns, or the path of a CSV, TSV, Parquet or Feather file.
    :param target: the column of classes, by any words; or several, of yes and no each. An empty cell is missing.
    :param id: the column that names the rows.
    :param columns: corrections, ``{"age": "count"}`` or ``["age=count"]``: number, count, category, yes-no, date,
        leave-out, or a likelihood.
    :param name: of the data set.
    :param quiet: say nothing.
    :raises InputError: one line that names the file, the column and the row.

    A column ``split`` says ``train`` or ``test``; without it a stratified fifth of the rows is held out for the test.

    Example::

        data = read_table("patients.csv", target="diagnosis", id="patient")
        vae = ps.create_model("augmented", **data.model_options())
        ps.fit(vae, data.x, data.y)
    """
    where = str(table) if isinstance(table, (str, Path)) else "the table"
    try:
        targets = (target,) if isinstance(target, (str, int)) else tuple(target)  # a frame may number its columns
        wanted = Wanted(tuple(map(str, targets)), None if id is None else str(id), told_kinds(columns))
        notes: list[str] = []
        frame = opened(table, wanted, notes)
        check_wanted(list(frame.columns), wanted)
        found = as_dataset(frame, wanted, notes, name or (Path(where).stem if where != "the table" else "table"))
    except InputError as error:
        prefix = "" if str(error).startswith((where, "--")) else f"{where}: "
        raise InputError(prefix + " ".join(str(error).split())) from None
    for note in [] if quiet else notes:
        say(note)
    return found


def holds_words(frame: pd.DataFrame) -> bool:
    """Whether a column has words, categories or dates, which an array of numbers has no place for."""
    others = [cells for _, cells in frame.items() if not pd.api.types.is_numeric_dtype(cells.dtype)]
    return any(cells.dtype != object or cells.map(lambda cell: isinstance(cell, (str, date))).any() for cells in others)


def read_features(frame: pd.DataFrame) -> tuple[Schema, Tensor]:
    """Return what the columns of a table without a target are, and its rows ``[N, D]``; notes are said.

    :raises InputError: as :func:`read_table`.
    """
    notes: list[str] = []
    wanted = Wanted((), None, {})
    columns, left_out, x = features(opened(frame, wanted, notes), wanted, notes)
    for note in notes:
        say(note)
    return Schema(tuple(columns), left_out=tuple(left_out)), x


def told_kinds(columns: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """Return the kinds that a person says, by column.

    :raises InputError: words that are not ``column=kind``, or no kind.
    """
    if not isinstance(columns, Mapping):
        words = [columns] if isinstance(columns, str) else list(columns)
        for word in words:
            if "=" not in word:
                raise InputError(f"--columns {shown(word)}: a column and its kind are needed, such as age=count")
        pairs = [word.rpartition("=")[::2] for word in words]
        columns = dict(pairs)
        if twice := [column for column, kind in pairs if columns[column] != kind]:
            raise InputError(f"--columns: {shown(twice[0])} is there with two kinds; one is needed")
    return {column: kind_word(kind, f"--columns {column}={kind}") for column, kind in columns.items()}


def opened(table: TableLike, wanted: Wanted, notes: list[str]) -> pd.DataFrame:
    """Return the table as a data frame of its own, whose columns may be taken out."""
    named = [*wanted.target, *([] if wanted.id is None else [wanted.id])]
    if not isinstance(table, (str, Path)):
        frame = in_memory(table, {*named, *wanted.kinds})
        if not len(frame):
            raise InputError("the table has no row; a row a point is needed")
        return frame.reset_index(drop=True)
    words = [column for column, kind in wanted.kinds.items() if kind in ("category", "yes-no", "date")]
    text = [*named, *words, SPLIT, SPLIT.capitalize()]
    return read_file(Path(table), text, notes.append)


def check_wanted(names: list[str], wanted: Wanted) -> None:
    """Raise :class:`InputError` naming the option whose column is not there, or is there for two ends."""
    options = [("--target", name) for name in wanted.target]
    options += [("--columns", name) for name in wanted.kinds]
    options += [] if wanted.id is None else [("--id", wanted.id)]
    for option, name in options:
        if name not in names:
            raise InputError(f"{option}: no column {shown(name)}{hint(name, names)}")
    if len(set(wanted.target)) < len(wanted.target):
        raise InputError(f"--target {' '.join(wanted.target)}: a column is there twice; once is enough")
    if wanted.id in wanted.target:
        raise InputError(f"--id {wanted.id}: it is the target too; another column is needed, or none")
    for name in wanted.kinds:
        if name in wanted.target or name == wanted.id:
            raise InputError(f"--columns {name}=…: it is the {'id' if name == wanted.id else 'target'}; leave it out")


def as_dataset(frame: pd.DataFrame, wanted: Wanted, notes: list[str], name: str) -> Dataset:
    """Return the data set of a data frame, which is taken apart."""
    if line := sum_row(frame):
        notes.append(line)
    test = split_of(frame, notes)
    targets = tuple(target_column(frame[each], each, len(wanted.target) > 1, notes) for each in wanted.target)
    ids = None if wanted.id is None else row_names(frame.pop(wanted.id), wanted.id)
    y = target_values(frame, Schema((), targets), "the table")
    for each in wanted.target:
        frame.pop(each)
    columns, left_out, x = features(frame, wanted, notes)
    release_memory()
    schema = Schema(tuple(columns), targets, wanted.id, tuple(left_out))
    if y is None:
        notes.append("no --target: every row is without a label")
        y = torch.full((len(x),), MISSING)
    kept = ~x.isnan().all(1)
    if not bool(kept.all()):
        empty = (~kept).nonzero().squeeze(1).tolist()
        what = "1 row without any value is" if len(empty) == 1 else f"{len(empty)} rows without any value are"
        notes.append(f"{what} left out, first row {empty[0]}")
        x, y, test = x[kept], y[kept], None if test is None else test[kept]
        ids = None if ids is None else [word for word, stays in zip(ids, kept.tolist()) if stays]
    rows, held = test_rows(y, test, notes)
    of = [None if ids is None else tuple(ids[row] for row in part.tolist()) for part in (rows, held)]
    shown_ranges = tuple(ranges(x, column, i) for i, column in enumerate(columns))
    parts = x[rows], y[rows], x[held], y[held]
    if line := untaught(y[rows], y[held], schema.labels.names):
        notes.append(f"--target {' '.join(wanted.target)}: {line}")
    numbers = tuple(kept.nonzero().squeeze(1)[rows].tolist())
    described = Table(schema, shown_ranges)
    return Dataset(name, *parts, schema.labels, described, rows=numbers, ids=of[0], ids_test=of[1])


def features(frame: pd.DataFrame, wanted: Wanted, notes: list[str]) -> tuple[list[Column], list[str], Tensor]:
    """Return the columns of x, the names of those that are left out, and x ``[N, D]``; columns leave the frame."""
    columns, values, left_out, comma, before = [], [], [], frame.attrs.get(COMMA), len(notes)
    for name in list(frame.columns):
        cells = frame.pop(name)
        column = kind_of(cells, name, wanted.kinds.get(name), comma)
        if isinstance(column, str):
            notes.append(f"column {shown(name)} is left out: {column}")
            left_out.append(name)
            continue
        columns.append(column)
        numbers = column_values(cells, column, "the table", comma)
        say_cells(cells, numbers, column, notes)
        values.append(torch.from_numpy(numbers.astype(np.float32)))
    if not columns:
        why = "; ".join(note.removeprefix("column ").replace(" is left out", "") for note in notes[before:][:3])
        raise InputError(f"no column is left beside target and id ({why or 'there is none'}); at least one of numbers, "
                         "categories or dates that differ between rows is needed")  # fmt: skip
    x = torch.empty(len(values[0]), len(values))
    for i in reversed(range(len(values))):  # one after another out of memory
        x[:, i] = values.pop()
    return columns, left_out, x


def split_of(frame: pd.DataFrame, notes: list[str]) -> Tensor | None:
    """Return which rows are the test's, bool ``[N]``, and take the column ``split`` out; None where there is none."""
    name = next((each for each in frame.columns if each.lower() == SPLIT), None)
    if name is None:
        return None
    is_test = test_of_words(frame[name], f"column {shown(name)}")
    if is_test is None:
        notes.append(f"column {shown(name)} is taken for a feature: it has other words than train and test")
        return None
    if validation := said_of_validation(parts_of(map(word_of, frame.pop(name).dropna().unique()))):
        notes.append(f"column {shown(name)}: {validation}")
    if is_test.all() or not is_test.any():
        raise InputError(f"column {shown(name)}: every row is of the {'test' if is_test.all() else 'training'}; "
                         "rows of both are needed, or no such column")  # fmt: skip
    return torch.from_numpy(is_test)


def target_column(cells: pd.Series, name: str, several: bool, notes: list[str]) -> Column:
    """Return a column of labels: classes in order, or no and yes.

    One class alone is taken where other rows have no label, and said.

    :raises InputError: fewer different values, or too many.
    """
    where = f"--target {name}"
    places, words = factorized(cells, where, MISSING_LABELS)
    gaps = sorted(set(map(word_of, cells[(places < 0) & cells.notna().to_numpy()].unique()[:100_000])) - {""})
    if gaps:
        notes.append(
            f"{where}: {', '.join(map(shown, gaps[:5]))} means a missing label; rename it to make a class of it"
        )
    below = any(word.startswith("-") and word[1:].isdecimal() for word in words if word != "-1")  # a scale, as -2 to 2
    if not below and (set(words) > {"-1", "1"} or (set(words) > {"-1", "0"} and several)):
        notes.append(f"{where}: -1 means a missing label")
        places = np.where(places == words.index("-1"), MISSING, places)
        words = [word for word in words if word != "-1"]
    elif "-1" in words:
        notes.append(f"{where}: -1 is taken for a value; where it means a missing label, leave the cell empty")
    words = one_spelling(words)
    say_classes(words, where, notes.append)
    missing = float((places < 0).mean())
    if len(words) == 1 and missing and not several:
        notes.append(f"{where}: {shown(words[0])} is the only class; rows without it count as unlabelled")
    elif len(words) < 2:
        what = f"only one value, {shown(words[0])}" if words else "no value in any row"
        raise InputError(f"{where}: {what}; at least two different ones are needed")
    if several:
        if len(words) > 2:
            raise InputError(f"{where}: {len(words)} different words ({', '.join(map(shown, words[:3]))} …); of "
                             "several targets each has two, such as no and yes")  # fmt: skip
        return Column(name, "bernoulli", "words", in_order(words), missing=missing)
    check_classes(len(words), int((places >= 0).sum()), where, notes.append)
    return Column(name, f"categorical:{len(words)}", "words", tuple(sort_words(words)), missing=missing)


def row_names(cells: pd.Series, name: str) -> list[str]:
    """Return the words of the column that names the rows.

    :raises InputError: a row without one, or two with the same.
    """
    words = ["" if gap else word_of(cell) for cell, gap in zip(as_written(cells), cells.isna())]
    if "" in words:
        raise InputError(f"--id {name}: row {words.index('')} has none; each row needs its own")
    again = pd.Series(words).duplicated().to_numpy()
    if again.any():
        row = first(again)
        before = words.index(words[row])
        more = f"; {int(again.sum())} rows are named again" if again.sum() > 1 else ""
        raise InputError(
            f"--id {name}: rows {before} and {row} are both {shown(words[row])}; each row needs its own{more}"
        )
    return words


def test_rows(y: Tensor, test: Tensor | None, notes: list[str]) -> tuple[Tensor, Tensor]:
    """Return the rows of training and test: those that the column ``split`` names, or a stratified fifth."""
    if test is not None:
        return (~test).nonzero().squeeze(1), test.nonzero().squeeze(1)
    rows, held = split_rows(y)
    known = y[held] != MISSING
    labelled = int((known if known.dim() == 1 else known.any(1)).sum())
    notes.append(f"{len(held)} of {len(y)} rows are held out for the test, {labelled} of them with a label; a column "
                 "'split' with train and test says it otherwise")  # fmt: skip
    return rows, held


def ranges(x: Tensor, column: Column, i: int) -> str:
    """Return what a column holds, in a few words: its words, its dates, its times, or from where to where."""
    if column.reads == "words":
        few = ", ".join(column.words[:4])
        return (few if len(few) <= 40 else few[:39] + "…") + (" …" if len(column.words) > 4 else "")
    values = x[:, i][~x[:, i].isnan()].double() + column.offset
    low, high = float(values.min()), float(values.max())
    if column.reads == "date":
        start = np.datetime64(column.start, "D")
        return " … ".join(str(start + np.timedelta64(int(np.floor(day)), "D")) for day in (low, high))
    if column.is_time:
        return " … ".join(time_words(np.array([low, high]), column.format))
    return f"{low:g} … {high:g}"
