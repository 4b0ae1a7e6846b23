"""``labels.csv``: which file has which label, and, optionally, which split."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..labels import MISSING, AttributeLabels, Labels
from .checks import read_bytes, reason, shown
from .class_words import class_labels, clean_word, encode_words, say_meaning, say_one_hot
from .images import SUFFIXES
from .label_words import VALUES, attribute_value
from .notices import say
from .packed import ENDINGS, content_of
from .split_words import parts_of, said_of_validation

MAX_CSV_BYTES = 64 * 2**20
"""Largest ``labels.csv`` that is read."""
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What may stand between columns."""
ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Encodings other than UTF-8, by the mark that a file begins with."""
_EMPTY = ("", "nan", "na")
"""What leaves an attribute missing, in small letters."""


def is_list(name: str) -> bool:
    """Whether a file of this name lists a folder's labels: ``labels.csv`` or ``labels.tsv``, which may be packed."""
    name = name.lower()
    inner = name.rpartition(".")[0] if name.endswith(ENDINGS) else name
    return inner in ("labels.csv", "labels.tsv")


@dataclass(frozen=True, eq=False)
class Table:
    """What a ``labels.csv`` says, row by row.

    :param files: relative names, as :func:`file_key` makes them.
    :param y: int64 ``[N]`` or ``[N, A]``.
    :param labels: what ``y`` means.
    :param test: bool ``[N]``, the rows of the test split; None where there is no column ``split``.
    """

    files: list[str]
    y: Tensor
    labels: Labels
    test: Tensor | None


def read_labels_csv(path: Path) -> Table:
    """Return the table in a CSV file: UTF-8 or UTF-16, separated by commas, semicolons, tabs or bars, with a header.

    The first column is the file's name. The column ``label`` holds any words, its classes in order of the alphabet or,
    if all are whole numbers, of size; an empty cell or -1 is a missing label, and so is a word such as ``unknown``,
    which is said. Without it, a single column of words is taken for it, which is said too; else every other column is
    an attribute, 0 or 1 or empty. The column ``split`` says ``train`` (also where empty) or ``test``; of
    validation see :func:`~.split_words.parts_of`.

    :raises InputError: naming the row (the header is row 1) and the column.
    """
    header, rows = read_rows(path)
    if header[0].lower() in ("label", "split"):
        raise InputError(
            f"{path}: row 1 begins with {shown(header[0])}; the column of the files' names must be the first"
        )
    columns = {name: i for i, name in enumerate(header) if i > 0}
    split = columns.pop("split", None)
    if not columns:
        raise InputError(f"{path}: no column of labels; 'label' or attributes are needed beside the file's name")
    (alone, place), *more = columns.items()
    if not more and alone != "label" and {cells[place].strip().lower() for _, cells in rows} - {*_EMPTY, *VALUES}:
        say(f"{path}: column {shown(alone)} holds words and is taken for the column 'label'")
        columns = {"label": place}
    if "label" in columns and len(columns) > 1:
        others = [name for name in columns if name != "label"]
        if not header[0]:
            raise InputError(f"{path}: column 1 has no name, as an index has; it must be the file's name")
        raise InputError(f"{path}: a column 'label' beside {shown(others)}; either 'label' or attributes are needed")
    if not rows:
        raise InputError(f"{path}: no row below the header; one row a file is needed")
    files: list[str] = []
    seen: dict[str, int] = {}
    for row, cells in rows:
        key = file_key(cells[0], f"{path}: row {row}")
        if key in seen:
            raise InputError(f"{path}: row {row} names {shown(key)} again, after row {seen[key]}; once is enough")
        seen[key] = row
        files.append(key)
    test = None if split is None else _test_rows([(row, cells[split].strip()) for row, cells in rows], path)
    labels: Labels
    if "label" in columns:
        (y,), words = encode_words([[cells[columns["label"]] for _, cells in rows]], None, f"{path}: column 'label'")
        labels = class_labels(words)
    else:
        labels = AttributeLabels(list(columns))
        y = torch.tensor([read_attributes(cells, columns, labels, row, path) for row, cells in rows])
        say_meaning(y, str(path), labels.names)
        say_one_hot(y, str(path))
    return Table(files, y, labels, test)


def file_key(name: str, where: str) -> str:
    """Return a file's name as all tables write it: relative, ``/`` between folders, no ``.``, Unicode composed.

    :raises InputError: it is empty, absolute, or leads out of its folder.
    """
    name = unicodedata.normalize("NFC", name.strip())
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
    if not parts:
        raise InputError(f"{where}: no file name; the first column must hold one")
    if ".." in parts or name[0] in "/\\" or re.match(r"[A-Za-z]:", name):
        raise InputError(f"{where}: {shown(name)} leads out of the folder; a name within it is needed")
    return "/".join(parts)


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and, with their numbers, the rows that are not blank."""
    content = read_bytes(path, MAX_CSV_BYTES)
    if isinstance(held := content_of(path, MAX_CSV_BYTES), bytes):
        content = held
    encoding = next((name for mark, name in ENCODINGS.items() if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: row {row} is not in UTF-8; save the file in that encoding") from None
    mark = separator(text)
    if mark != ",":
        say(f"{path}: its columns are separated by {SEPARATORS[mark]}, not commas")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=mark)
    try:
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{path}: row {reader.line_num} is not valid CSV ({reason(error)})") from None
    if not rows:
        raise InputError(f"{path}: empty; a header and one row a file are needed")
    header = [clean_word(name, f"{path}: row 1") for name in rows[0][1]]
    if Path(header[0]).suffix.lower() in SUFFIXES:
        raise InputError(
            f"{path}: row 1 names a file, {shown(header[0])}; a header such as 'file,label' is needed there"
        )
    named = [name.lower() if name.lower() in ("label", "split") else name for name in header[1:]]
    if "" in named or len(set(named)) != len(named):
        raise InputError(f"{path}: row 1 has an empty or a repeated column name; each column needs its own")
    for row, cells in rows[1:]:
        if len(cells) != len(header):
            raise InputError(f"{path}: row {row} has {len(cells)} cells; the header has {len(header)}")
    return [header[0], *named], rows[1:]


def separator(text: str) -> str:
    """Return what separates the columns of a header: a comma, or another of :data:`SEPARATORS` where it has none."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return "," if "," in header else max(SEPARATORS, key=header.count)


def _test_rows(words: list[tuple[int, str]], path: Path) -> Tensor:
    """Return which rows are the test's, bool ``[N]``, by the words of the column ``split``."""
    parts = {"": "train", **parts_of(word for _, word in words)}
    wrong = next(((row, word) for row, word in words if word.lower() not in parts), None)
    if wrong is not None:
        raise InputError(f"{path}: row {wrong[0]}, column 'split' is {shown(wrong[1])}; 'train' or 'test' is needed")
    if validation := said_of_validation(parts):
        say(f"{path}: column 'split': {validation}")
    return torch.tensor([parts[word.lower()] == "test" for _, word in words])


def read_attributes(
    cells: Sequence[str], columns: dict[str, int], labels: AttributeLabels, row: int, path: Path
) -> list[int]:
    """Return a row's attributes, 0, 1 or -1 for missing; raise :class:`InputError` naming the cell that is neither."""
    found = []
    for (name, i), pair in zip(columns.items(), labels.words):
        empty = cells[i].strip().lower() in _EMPTY
        value = MISSING if empty else attribute_value(cells[i], pair)
        if value is None:
            more = " (a column of words must be called 'label')" if pair == ("0", "1") else ""
            raise InputError(f"{path}: row {row}, column {shown(name)} is {shown(cells[i])}; {pair[0]}, {pair[1]} or "
                             f"nothing (missing) is needed{more}")  # fmt: skip
        found.append(value)
    return found
