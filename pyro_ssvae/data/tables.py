"""Tables: a row a point, columns of several kinds, missing cells; in files, or as data frames.

:func:`read_table` finds what the columns are; :func:`encode` reads another table alike; :func:`decode` is the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import InputError, counted
from ..labels import MISSING
from ..nn.columns import KINDS as LIKELIHOODS
from .cells import MISSING_LABELS, MISSING_WORDS, as_written, factorized, first, numbers_of, word_of
from .checks import hint, shown
from .column_kinds import ANSWERS
from .date_cells import date_words, dates_of, example, is_zoned, stamps, stamps_of
from .frame_types import ArrowTable, Frame
from .frames import pandas_frame
from .label_words import places_of
from .notices import say
from .number_words import COMMA, decimal_comma, frame_comma, parse_number, time_words
from .own_types import own_types
from .schema import Column, Schema
from .split_words import Part, parts_of
from .table_files import column_names, read_file
from .table_notices import sum_row

InMemory: TypeAlias = pd.DataFrame | Frame | ArrowTable | Sequence[Mapping[str, object]] | Mapping[str, object]
"""A data frame of pandas, polars or a like library, a table of pyarrow, a list of records or a dict of columns."""
TableLike: TypeAlias = InMemory | str | Path
"""A table in memory, or the path of one."""
SPLIT = "split"
"""The column that says ``train`` or ``test``."""


def encode(frame: TableLike, schema: Schema) -> tuple[Tensor, Tensor | None, list[str] | None]:
    """Return the points, labels and rows' names of a table that has the columns of a schema, in any order.

    A word that training never saw, and a number that a kind cannot have (a count below 0), is a missing cell, and a
    line on stderr says so. Columns that the schema has not are named and left out.

    :returns: x, float32 ``[N, D]``, NaN where missing; y, int64 ``[N]`` or ``[N, A]``, -1 where missing, None where the
        table has no column of a target; and the words of the column ``id``, None where there is none.
    :raises InputError: naming a column that is missing, or a cell that cannot be read.

    Example::

        x, y, ids = encode("new.csv", schema)
    """
    where = str(frame) if isinstance(frame, (str, Path)) else "the table"
    return encode_frame(as_frame(frame, schema), schema, where)


def encode_frame(frame: pd.DataFrame, schema: Schema, where: str) -> tuple[Tensor, Tensor | None, list[str] | None]:
    """As :func:`encode`, of a data frame that :func:`as_frame` gave.

    :param where: the table's file.
    """
    check_columns(frame, schema, where)
    if line := sum_row(frame):
        say(f"{where}: {line}")
    x = torch.empty(len(frame), len(schema.columns))
    for i, column in enumerate(schema.columns):
        values = column_values(frame[column.name], column, where, frame.attrs.get(COMMA))
        x[:, i] = torch.from_numpy(values.astype(np.float32))
    ids = None
    if schema.id is not None and schema.id in frame:
        ids = [word_of(word) for word in as_written(frame[schema.id])]
    return x, target_values(frame, schema, where), ids


def as_frame(frame: TableLike, schema: Schema, note: Callable[[str], None] = say) -> pd.DataFrame:
    """Return a table as a data frame whose columns' names are words, and whose decimals are told."""
    comma = any(column.format == "," for column in schema.columns)
    if isinstance(frame, (str, Path)):
        return read_file(Path(frame), schema.text, note, comma)
    return in_memory(frame, {*schema.names, *schema.text})


def in_memory(table: InMemory, wanted: Collection[str] = ()) -> pd.DataFrame:
    """Return a table that is no file as a data frame of its own, as :func:`as_frame` has it.

    :param wanted: columns, which may be levels of the index.
    :raises InputError: it is no table.
    """
    given = pandas_frame(table)
    if given is None:
        what = f"the table: a {type(table).__name__}"
        raise InputError(f"{what}; a data frame, a list of records, or the path of a table, is needed")
    levels = [name for name in given.index.names if name in wanted and name not in given]
    given = given.reset_index(level=levels) if levels else given
    frame = own_types(given.set_axis(column_names(given, "the table"), axis=1))
    frame.attrs[COMMA] = frame_comma(frame, MISSING_LABELS)
    return frame


def given_cells(path: Path, schema: Schema, x: Tensor) -> list[pd.Series]:
    """Return a table's cells of the columns of x as its file has them: words, dates as they are written, and numbers.

    :param x: ``[N, D]``, what :func:`encode` made of them. Where it is NaN the model sees no cell, and none is given.
    :raises InputError: the file has changed.
    """
    frame = as_frame(path, schema, lambda line: None)
    if len(frame) != len(x):
        raise InputError(f"{path}: it has {len(frame)} rows now, and had {len(x)}; it has been changed meanwhile")
    comma = frame.attrs.get(COMMA)
    cells = (as_given(frame[column.name], column, str(path), comma) for column in schema.columns)
    return [column.mask(gaps) for column, gaps in zip(cells, x.isnan().numpy().T)]


def as_given(cells: pd.Series, column: Column, where: str, comma: bool | None) -> pd.Series:
    """Return a column's cells: numbers as float64, or as whole numbers where the column is of such; else words."""
    if column.reads == "number" and not column.is_time:
        if column.whole and pd.api.types.is_integer_dtype(cells.dtype) and (cells.isna() | (cells < 2**63)).all():
            return cells.reset_index(drop=True).astype("Int64")
        found = pd.Series(numbers_of(cells, where, comma if comma is not None else column.format == ",")[0])
        exact = column.whole and bool((found.isna() | ((found == found.round()) & (found.abs() < 2**53))).all())
        return found.astype("Int64") if exact else found
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return date_words(stamps(cells), column)
    places, words = factorized(cells, where, frozenset())
    return pd.Series(np.array([*words, None], dtype=object)[places], dtype=object)


def check_columns(frame: pd.DataFrame, schema: Schema, where: str) -> None:
    """Raise :class:`InputError` naming a column that is missing; say which ones are new."""
    names = list(frame.columns)
    absent = [name for name in schema.names if name not in names]
    if absent:
        more = f", and {counted(len(absent) - 1, 'other')}" if len(absent) > 1 else ""
        raise InputError(f"{where}: no column {shown(absent[0])}{more}{hint(absent[0], names)}; the model needs it")
    targets = [target.name for target in schema.targets]
    known = {*schema.names, *targets, schema.id, *schema.left_out}
    new = [name for name in names if name not in known and name.lower() != SPLIT]
    if new:
        say(f"{where}: the model has no column {', '.join(map(shown, new[:5]))}{' …' * (len(new) > 5)}; left out")


def column_values(cells: pd.Series, column: Column, where: str, comma: bool | None = None) -> np.ndarray:
    """Return a column's cells as the numbers of its kind, float ``[N]``, NaN where missing.

    :param comma: whether the file has decimal commas; None where nothing tells.
    :raises InputError: a cell that is no number, or no date, naming the row.
    """
    where = f"{where}, column {shown(column.name)}"
    if column.reads == "words":
        values, unseen = word_values(cells, column, where, comma=comma)
        if unseen:
            say(
                f"{where}: {', '.join(map(shown, unseen[:5]))}{' …' * (len(unseen) > 5)} not in training; missing cells"
            )
        return np.where(values < 0, np.nan, values)
    if column.reads == "date":
        days, wrong = dates_of(cells, where, column.format)
        if np.isfinite(days).any() and (zoned := is_zoned(cells)) != column.zoned:
            own, before = ("with", "without") if zoned else ("without", "with")
            say(f"{where}: times {own} a zone, in training {before}; those without one are read as UTC")
        start = np.datetime64(column.start, "D").astype(np.int64)
        values = days - start
        what, like = "date", f"{example(column.format)}, as in training,"
    else:
        values, wrong = numbers_of(cells, where, column.format == "," if comma is None else comma)
        wrong = wrong | np.isinf(values)
        values = values - column.offset
        what, like = ("time of the day", "07:30") if column.is_time else ("number", "a number")
    if wrong.any():
        row = first(wrong)
        raise InputError(
            f"{where}: row {row} is no {what}: {shown(word_of(cells.iloc[row]))}; {like} or an empty cell is needed"
        )
    large = np.abs(values) > np.finfo(np.float32).max
    if large.any():
        row = first(large)
        is_what = shown(word_of(cells.iloc[row]))
        raise InputError(f"{where}: row {row} is {is_what}; a number below 3.4e38 is needed, in a larger unit")
    outside = outside_support(values, column)
    if outside.any():
        row = first(outside)
        many = int(outside.sum())
        gaps = f"{many} missing cells" if many > 1 else "a missing cell"
        say(f"{where}: row {row} is {values[row]:g}, outside of {column.kind!r}; {gaps}")
        values = np.where(outside, np.nan, values)
    return values


def outside_support(values: np.ndarray, column: Column) -> np.ndarray:
    """Return which values the likelihood of a column of numbers does not take."""
    return LIKELIHOODS[column.kind]((1,)).wrong(torch.from_numpy(values)).numpy()


def word_values(
    cells: pd.Series,
    column: Column,
    where: str,
    missing: frozenset[str] = MISSING_WORDS,
    comma: bool | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Return the places of a column's words, -1 where a cell is missing or its word unknown; and the unknown words.

    Where the words are yes and no, another pair that means the same is taken too; where they are numbers, another form
    of the same number, such as ``0.50`` for ``0.5``.
    """
    missing = missing - {word.lower() for word in column.words}
    places, words = factorized(cells, where, missing)
    known = {word: k for k, word in enumerate(column.words)}
    low = {word.lower(): k for word, k in known.items()}
    answers = {}
    if tuple(word.lower() for word in column.words) in ANSWERS:
        answers = {word: k for pair in ANSWERS[:6] for k, word in enumerate(pair)}
    ways = (known, low, places_of(column.words), answers)
    found = [next((way[key] for way, key in zip(ways, (word, word.lower(), word, word.lower())) if key in way), MISSING)
             for word in words]  # fmt: skip
    if MISSING in found and (numbers := number_places(column.words)):
        own = decimal_comma(words, comma)
        found = [numbers.get(parse_number(word, own), MISSING) if k == MISSING else k for word, k in zip(words, found)]
    unseen = [word for word, k in zip(words, found) if k == MISSING]
    return np.array([*found, MISSING])[places], unseen


def number_places(words: Sequence[str]) -> dict[float, int]:
    """Return the place of each word by its number; nothing where some are no numbers, or codes such as ``007``."""
    if any(len(word) > 1 and word[0] == "0" and word.isdecimal() for word in words):
        return {}
    own = decimal_comma(words)
    places = {parse_number(word, own): k for k, word in enumerate(words)}
    return {} if len(places) < len(words) or any(np.isnan(number) for number in places) else places


def target_values(frame: pd.DataFrame, schema: Schema, where: str) -> Tensor | None:
    """Return the labels of a table; None where it has none of the schema's targets."""
    there = [target for target in schema.targets if target.name in frame]
    if not there:
        return None
    y = torch.full((len(frame), len(schema.targets)), MISSING)
    for a, target in enumerate(schema.targets):
        if target not in there:
            continue
        column = f"{where}, column {shown(target.name)}"
        missing = MISSING_LABELS | {str(MISSING)}
        codes, unseen = word_values(frame[target.name], target, column, missing, frame.attrs.get(COMMA))
        if unseen:
            raise InputError(f"{column}: {shown(unseen[0])} is no class of the model{hint(unseen[0], target.words)}")
        y[:, a] = torch.from_numpy(codes)
    return y[:, 0] if len(schema.targets) == 1 else y


def decode(x: Tensor | np.ndarray, schema: Schema) -> pd.DataFrame:
    """Return points as a table, in the columns' own names, words, dates and units; an empty cell where x is NaN.

    A mean of whole numbers is rounded, that of two words decided at a half.

    :param x: ``[N, D]``.
    :raises InputError: another number of columns.
    """
    points = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
    if points.ndim != 2 or points.shape[1] != len(schema.columns):
        raise InputError(f"x: shape {list(points.shape)}; [N, {len(schema.columns)}] is needed")
    points = points.astype(np.float64)
    return pd.DataFrame({column.name: cells_of(points[:, i], column) for i, column in enumerate(schema.columns)})


def held_rows(frame: pd.DataFrame, schema: Schema) -> Tensor | None:
    """Return the rows that a column ``split`` sets apart for the test; None where it has not both, or is a feature."""
    known = {*schema.names, *(target.name for target in schema.targets), schema.id}
    name = next((each for each in frame.columns if each.lower() == SPLIT and each not in known), None)
    if name is None:
        return None
    test = test_of_words(frame[name], f"column {shown(name)}")
    if test is None or test.all() or not test.any():
        return None
    return torch.from_numpy(np.flatnonzero(test))


def part_rows(frame: pd.DataFrame, schema: Schema, part: Part, where: str) -> Tensor | None:
    """Return the rows of the training or of the test by the column ``split``, which is said; None where it has none."""
    held = held_rows(frame, schema)
    if held is None:
        return None
    rows = held if part == "test" else torch.from_numpy(np.setdiff1d(np.arange(len(frame)), held.numpy()))
    what = "test" if part == "test" else "training"
    say(f"{where}: {len(rows)} of {len(frame)} rows, those of the {what} by the column 'split'")
    return rows


def test_of_words(cells: pd.Series, where: str) -> np.ndarray | None:
    """Return which rows of a column ``split`` are the test's, bool ``[N]``; None where it has other words."""
    places, words = factorized(cells, where)
    parts = parts_of(words)
    if not all(word.lower() in parts for word in words):
        return None
    return np.array([parts[word.lower()] == "test" for word in words] + [False])[places]


def cells_of(values: np.ndarray, column: Column) -> pd.Series:
    """Return the cells of a column from its numbers."""
    missing = np.isnan(values)
    if column.reads == "words":
        places = np.clip(np.round(np.where(missing, 0, values)), 0, len(column.words) - 1).astype(int)
        words = np.array(column.words, dtype=object)[places]
        return pd.Series(np.where(missing, None, words), dtype=object)
    if column.reads == "date":
        return date_words(stamps_of(values, column), column)
    values = values + column.offset
    if column.is_time:
        return time_words(values, column.format)
    return whole_cells(values) if column.whole else pd.Series(values)


def whole_cells(values: np.ndarray) -> pd.Series:
    """Return numbers rounded, as whole ones where 64 bits hold all of them."""
    cells = pd.Series(np.round(values))
    return cells if (cells.abs() >= 2.0**63).any() else cells.astype("Int64")
