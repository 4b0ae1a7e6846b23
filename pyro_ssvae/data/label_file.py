"""Labels that a person fills in later: a CSV file with a row for each of some training points, and the way back."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, counted
from ..labels import MISSING, AttributeLabels, Labels
from .checks import hint, shown
from .class_words import clean_word
from .dataset import Dataset
from .label_words import class_places
from .labels_csv import file_key, read_attributes, read_rows
from .notices import say

LONGEST = 18
"""Digits of a row's number, at most; Python refuses to read thousands."""


def label_file_text(
    rows: Sequence[int],
    labels: Labels,
    files: Sequence[str] | None = None,
    beside: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return the CSV file for some rows of the training points, its labels left to be filled in.

    A header, and a line a point: its row under ``index``, or its file under ``file`` in the form of ``labels.csv``,
    then an empty cell under ``label``, or under each attribute.

    :param files: the names of all training rows, of a folder's data.
    :param beside: further columns for a person to look at, a cell each row.
    """
    shown_beside = dict(beside or {})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = list(labels.names) if isinstance(labels, AttributeLabels) else ["label"]
    writer.writerow(["index" if files is None else "file", *columns, *shown_beside])
    for i, row in enumerate(rows):
        cells = [column[i] for column in shown_beside.values()]
        writer.writerow([row if files is None else files[row], *[""] * len(columns), *cells])
    return text.getvalue()


def names_beside(dataset: Dataset) -> dict[str, Sequence[str]]:
    """Return the names of a data set's training points by the column of a label file that has them: those of its
    source, or else their rows there, from 0; nothing where ``index`` is that already."""
    if dataset.ids is not None:
        own = (None if dataset.table is None else dataset.table.schema.id) or "id"
        return {free_column(own, dataset.labels): dataset.ids}
    return {} if dataset.rows is None else {"row": [str(row) for row in dataset.rows]}


def others_beside(dataset: Dataset, files: Collection[str] | None = None) -> dict[str, Collection[str]]:
    """Return what :func:`names_beside` and ``index`` call the points of a data set that may be held out.

    :param files: those of the test, of a folder's data.
    """
    n = len(dataset.x)
    found: dict[str, Collection[str]] = {"index": range_words(n)}
    if files is not None:
        return {**found, "file": set(files)}
    if dataset.ids_test is not None:
        return {**found, **{key: set(dataset.ids_test) for key in names_beside(dataset)}}
    return {**found, "row": range_words(max([n + len(dataset.x_test), *(row + 1 for row in dataset.rows or ())]))}


def range_words(n: int) -> set[str]:
    """Return the numbers of n rows as words."""
    return {str(row) for row in range(n)}


def numbers_beside(split: Dataset) -> dict[str, Tensor]:
    """Return a table's numbers ``[n]`` by their columns in a label file; nothing of other data."""
    columns = () if split.table is None else split.table.schema.columns
    return {
        free_column(column.name, split.labels): split.x[:, i].double() + column.offset
        for i, column in enumerate(columns)
        if column.reads == "number" and not column.is_time and column.name != "row"
    }


def taken_columns(labels: Labels | None) -> list[str]:
    """Return the columns of a label file that have a meaning."""
    return ["guess", "index", "label", "split", *(labels.names if isinstance(labels, AttributeLabels) else ())]


def free_column(name: str, labels: Labels | None) -> str:
    """Return what a source's column is called in a label file."""
    return f"{name}_" if name in taken_columns(labels) or name.lower() in ("label", "split") else name


def add_labels(
    path: Path,
    y: Tensor,
    rows: Tensor,
    labels: Labels,
    files: Sequence[str] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    numbers: Mapping[str, Tensor] | None = None,
    others: Mapping[str, Collection[str]] | None = None,
) -> Tensor:
    """Return ``y`` with the labels of a file that :func:`label_file_text` began and a person went on with.

    A filled cell wins over what ``y`` has; an empty one changes nothing. Further columns are left alone. A point is
    found by its name where the file has one, and else by ``index``: names stay when rows are added to the data. A
    label of a point that is held out is left out, and said.

    :param y: labels of the training split, ``[n]`` or ``[n, A]``.
    :param rows: int64 ``[n]``: the rows of the data set's training points that the split has.
    :param files: the files of all of the data set's training points, of a folder's data.
    :param names: other names of theirs: :func:`names_beside`. Numbers, under ``row``, count beside ``index`` alone: a
        table may have a column of its own that is called so.
    :param numbers: a table's columns of numbers ``[n]`` by what they are called in the file. Where rows are found by
        their place, and most of them have others there, the table is in another order.
    :param others: what points of the data that may be held out are called, by the same columns or ``index``.
    :raises InputError: naming the row of the file, or the order of the rows.
    """
    header, lines = read_rows(path)
    columns = list(labels.names) if isinstance(labels, AttributeLabels) else ["label"]
    known = {name: own for name, own in (names or {}).items() if len(set(own)) == len(own)}
    known = known if files is None else {"file": files}
    own = next((name for name in known if name in header and (name != "row" or "index" in header)), None)
    key = own or ("index" if files is None else "file")
    if not {key, *columns} <= set(header):
        wanted = ",".join([next((name for name in known if name != "row"), "index"), *columns])
        raise InputError(f"{path}: row 1 is {shown(','.join(header))}; {shown(wanted)} is needed")
    namer = _names_column(header, columns)
    if namer is not None and key in ("index", "row"):
        raise InputError(f"{path}: its points are named by {shown(namer)}; --id {namer}, their column in the data, is "
                         "needed")  # fmt: skip
    of_row = {int(row): i for i, row in enumerate(rows)}
    of_name = None if own is None else {name: row for row, name in enumerate(known[own])}
    y, seen, moved, held = y.clone(), dict[int, int](), 0, dict[int, str]()
    held_out = (others or {}).get(key, ())
    beside = (
        {} if key not in ("index", "row") else {name: own for name, own in (numbers or {}).items() if name in header}
    )
    for line, cells in lines:
        i = _row(path, line, cells[header.index(key)], key, of_row, of_name, held_out)
        if i is None:
            if any(cells[header.index(name)].strip() for name in columns):
                held[line] = " ".join(cells[header.index(key)].split())
            continue
        if i in seen:
            raise InputError(f"{path}: row {line} names the point of row {seen[i]} again; once is enough")
        seen[i] = line
        moved += any(_differ(cells[header.index(name)], float(own[i])) for name, own in beside.items())
        if isinstance(labels, AttributeLabels):
            places = {name: header.index(name) for name in columns}
            given = torch.tensor(read_attributes(cells, places, labels, line, path))
            y[i] = torch.where(given == MISSING, y[i], given)
        elif (cell := cells[header.index("label")]).strip():
            word = clean_word(cell, f"{path}: row {line}")
            place = class_places([word], labels.names)[0]
            if place is None:
                raise InputError(f"{path}: row {line} has no known class: {shown(word)}{hint(word, labels.names)}")
            y[i] = place
    _say_held_out(path, held, bool(seen))
    if moved > len(seen) / 2:
        raise InputError(f"{path}: {moved} of its {counted(len(seen), 'point')} have other numbers in the data, whose "
                         "rows are in another order; --id, which names them, or a new file is needed")  # fmt: skip
    return y


def _say_held_out(path: Path, held: Mapping[int, str], others: bool) -> None:
    """Say which rows of a file have labels of points that are held out.

    :param held: these points' names, by the row of the file.
    :param others: whether it has points that are trained on.
    :raises InputError: it has none.
    """
    if not held:
        return
    line, name = next(iter(held.items()))
    if not others:
        raise InputError(f"{path}: row {line}: {shown(name)} is not trained on (held out), nor is any other of its "
                         "points; labels of training points are needed")  # fmt: skip
    few = ", ".join(f"row {line} ({shown(name)})" for line, name in list(held.items())[:5])
    few += " …" * (len(held) > 5)
    say(f"{path}: {few}: held out, so that {counted(len(held), 'label')} of the file will not be learnt from")


def _differ(cell: str, own: float) -> bool:
    """Whether a cell is a number, and another one than the data's, to the digits that a person's program leaves."""
    try:
        return not math.isclose(float(cell), own, rel_tol=1e-3, abs_tol=1e-6)
    except ValueError:
        return False


def _names_column(header: Sequence[str], columns: Sequence[str]) -> str | None:
    """Return the column by which a table's points were named when :func:`label_file_text` began the file.

    It follows ``guess``, as ``row`` does where they had no names.
    """
    begun = ["index", *columns, "guess"]
    place = len(begun)
    named = header[:place] == begun and place < len(header) and header[place] != "row"
    return header[place] if named else None


def _row(
    path: Path,
    line: int,
    cell: str,
    key: str,
    of_row: dict[int, int],
    of_name: dict[str, int] | None,
    held_out: Collection[str],
) -> int | None:
    """Return the row of the training split that a line of the file names in the column ``key``; None of a point that
    is held out."""
    name = file_key(cell, f"{path}: row {line}") if key == "file" else " ".join(cell.split())
    if of_name is None:
        if not name.isdecimal() or len(name) > LONGEST:
            raise InputError(f"{path}: row {line}, column 'index' is {shown(cell)}; a training point's row is needed")
        name = str(int(name))
    row = int(name) if of_name is None else of_name.get(name, -1)
    if row in of_row:
        return of_row[row]
    if name in held_out or (of_name is not None and name in of_name):
        return None
    what = "no training image" if key == "file" else "not trained on, and no point of the data"
    raise InputError(f"{path}: row {line}: {shown(name)} is {what}; correct it, or leave the row out")
