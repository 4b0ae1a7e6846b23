"""What a person should know of how a table's cells were read, a line each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from .cells import MAYBE_WORDS, MISSING_LABELS, MISSING_WORDS, factorized
from .checks import shown
from .class_words import LEAST, NINES, case_variants
from .date_cells import DIGITS, other_order, parse_dates
from .number_words import is_accounting, is_words, times_of, unit_of
from .schema import Column

SUMS = frozenset(
    {
        *("total", "totals", "grand total", "sum", "sums", "average", "averages", "mean"),
        *("gesamt", "summe", "gesamtsumme", "insgesamt", "mittelwert", "durchschnitt"),
        *("somme", "moyenne", "totale", "totales", "suma", "promedio", "totaal"),
    }
)
"""What a spreadsheet's last row is called, in small letters."""


def say_cells(cells: pd.Series, values: np.ndarray, column: Column, notes: list[str]) -> None:
    """Add to the notes what a person should know of a column.

    :param values: its numbers, NaN where a cell is missing.
    """
    if column.reads == "words":
        say_gaps(cells, column, notes)
    elif is_words(cells):
        say_reading(cells, column, notes)
    if (
        column.reads == "number"
        and pd.api.types.is_integer_dtype(cells.dtype)
        and bool(cells.dropna().iloc[:1000].astype(str).str.fullmatch(DIGITS).all())
    ):
        notes.append(f"column {shown(column.name)}: {cells.dropna().iloc[0]} is taken for a number; as a date: "
                     f"--columns {column.name}=date")  # fmt: skip
    if column.reads == "number" and column.whole and is_rising(values):
        notes.append(f"column {shown(column.name)}: whole numbers that rise from row to row; where they name the rows: "
                     f"--id {column.name}")  # fmt: skip
    if column.reads == "number" and not column.is_time:
        amount = column.kind.startswith("zero-inflated")
        for number, count in stand_ins(values + column.offset):
            if amount and not number:
                continue
            notes.append(f"column {shown(column.name)}: {number:.15g} in {count} rows is far from all other numbers; "
                         "where it means a missing cell, leave the cell empty")  # fmt: skip
    if column.reads == "date":
        for days, count in stand_ins(values):
            date = np.datetime64(column.start, "D") + np.timedelta64(int(days), "D")
            notes.append(f"column {shown(column.name)}: {date} in {count} rows is far from all other dates; where it "
                         "means a missing cell, leave the cell empty")  # fmt: skip


def sum_row(frame: pd.DataFrame) -> str:
    """Return, as a line, that the last row of a table is no point but what a spreadsheet writes below them; empty where
    nothing tells so.

    It has a word of :data:`SUMS` that no other row has, or each of its numbers is the sum of those above.
    """
    row, found = len(frame) - 1, dict[str, bool]()
    for name, cells in frame.items() if row >= LEAST else ():
        last = cells.iloc[-1]
        if isinstance(last, str) and last.strip(" :").lower() in SUMS and not (cells.iloc[:-1] == last).any():
            return f"row {row} is {shown(last)} in column {shown(name)}; where it is no point, take it out of the table"
        if cells.dtype.kind in "iuf" and pd.notna(last):
            found[str(name)] = is_sum(cells.iloc[:-1].to_numpy(np.float64, na_value=np.nan), float(last))
    if not found or not all(found.values()):
        return ""
    return f"row {row} holds the sums of the rows above; where it is no point, take it out of the table"


def is_sum(above: np.ndarray, last: float) -> bool:
    """Whether a number is the sum of those above it, and no single one of them."""
    with np.errstate(all="ignore"):  # of infinite and very large ones, which are refused later
        total = float(np.nansum(above))
    return bool(np.isclose(total, last, rtol=1e-6)) and abs(total) > np.nanmax(np.abs(above), initial=0.0)


def say_gaps(cells: pd.Series, column: Column, notes: list[str]) -> None:
    """Say which words among others were taken for a missing cell, and which were not that may mean one, or the same."""
    where = f"column {shown(column.name)}"
    words = factorized(cells, where, frozenset([""]))[1]
    gaps = [word for word in words if word.lower() in MISSING_WORDS and word not in column.words]
    kept = [word for word in column.words if word.lower() in MAYBE_WORDS]
    if gaps:
        notes.append(f"{where}: {', '.join(map(shown, sorted(gaps)[:5]))} means a missing cell; rename it to make a "
                     "category of it")  # fmt: skip
    if kept:
        notes.append(f"{where}: {', '.join(map(shown, kept))} is taken for a category; where it means a missing cell, "
                     "leave the cell empty")  # fmt: skip
    if variants := case_variants(column.words):
        notes.append(f"{where}: {variants}")


def say_reading(cells: pd.Series, column: Column, notes: list[str]) -> None:
    """Say that words were taken for times of the day, or for dates of which none tells the day from the month."""
    where = f"column {shown(column.name)}"
    words = factorized(cells, where, MISSING_LABELS)[1]
    if column.reads == "number" and times_of(words) is not None:
        notes.append(f"{where}: times of the day are read as seconds since midnight")
    units = {unit_of(word): word for word in reversed(words)} if column.reads == "number" else {}
    if len(units) > 1:
        one, other = list(units.values())[:2]
        notes.append(f"{where}: {shown(one)} and {shown(other)} are read as numbers of one unit; write all in the same")
    if column.reads == "number" and (negative := next(filter(is_accounting, words), "")):
        notes.append(f"{where}: numbers in parentheses, such as {shown(negative)}, are read as negative")
    word = other_order(words, column.format) if column.reads == "date" else None
    if word is not None:
        day = parse_dates([word], column.format)[0].astype("datetime64[D]")
        notes.append(
            f"{where}: {shown(word)} is read as {day}; if its day is the other number, write dates as 2024-01-31"
        )


def is_rising(values: np.ndarray) -> bool:
    """Whether 50 numbers or more are each larger than the one before."""
    return len(values) >= 50 and bool((np.diff(values) > 0).all())


def stand_ins(values: np.ndarray) -> Iterator[tuple[float, int]]:
    """Yield numbers that may stand for a missing one, and how often each is there.

    The lowest or the highest number, where several rows have it and it lies further from the others than these lie from
    each other: one of :data:`~.checks.NINES`, or one in a hundredth of the rows. And a negative one of nines where no
    other number is negative.
    """
    known = values[~np.isnan(values)]
    for number in (known.min(), known.max()) if len(known) else ():
        others = known[known != number]
        count = len(known) - len(others)
        if count < 2 or not len(others):
            continue
        low, high = others.min(), others.max()
        apart = min(abs(number - low), abs(number - high)) > high - low
        nines = NINES.fullmatch(f"{number:.15g}") is not None
        often = count >= 0.01 * len(known)
        if (apart and (nines or (often and len(np.unique(others)) >= 5))) or (nines and number < 0 <= low):
            yield float(number), count
