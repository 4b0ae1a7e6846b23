"""From the cells of a column of dates to days, and back."""

from __future__ import annotations

import contextlib
import datetime
import re
from typing import Literal

import numpy as np
import pandas as pd

from .cells import MISSING_LABELS, factorized
from .schema import Column

DIGITS = r"(?:1[89]|20|21)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
"""A date in eight digits, as 20240131."""
DATE = re.compile(
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T]\d{1,2}:\d.*)?|\d{1,2}[ -]?[A-Za-z]{3,9}\.?,?[ -]?\d{2,4}|"
    r"[A-Za-z]{3,9} \d{1,2},? \d{4}|(?:1[89]|20|21)\d\d-(?:0[1-9]|1[0-2])|" + DIGITS
)
"""What may be a date."""
ZONED = re.compile(r".*:\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)")
"""A time that says its distance from UTC."""
FORMATS = (
    *("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d.%m.%y", "%m/%d/%y", "%d/%m/%y"),
    *("%Y%m%d", "%Y-%m", "%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%d-%b-%y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y"),
    *(f"{day} {time}" for day in ("%m/%d/%Y", "%d.%m.%Y", "%d/%m/%Y", "%Y/%m/%d", "%Y-%m-%d")
      for time in ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p")),
)  # fmt: skip
"""How dates may be written beside ISO 8601; where two suit, the first is taken."""
FAR_YEAR = re.compile(r"\b(0\d{3}|1[0-5]\d{2}|16[0-7]\d|226[2-9]|22[7-9]\d|2[3-9]\d{2}|[3-9]\d{3})(?!\d)")
"""A year whose nanoseconds since 1970 may not fit in 64 bits."""
DAY = 86_400e6
"""Microseconds."""
FIRST, LAST = np.datetime64("0001-01-01", "D"), np.datetime64("9999-12-31", "D")
"""Days that can be written."""


def dates_of(cells: pd.Series, where: str, form: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Return days since 1970, float64 ``[N]``, NaN where missing; and which cells are no date, bool ``[N]``.

    :param form: how dates are written, for ``strptime``; empty for ISO 8601.
    """
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return since_1970(stamps(cells)), np.zeros(len(cells), bool)
    places, words = factorized(cells, where, MISSING_LABELS)
    values = np.append(since_1970(parse_dates(words, form)), np.nan)
    found = values[places]
    return found, np.isnan(found) & (places >= 0)


def is_zoned(cells: pd.Series) -> bool:
    """Whether a column of dates says their distance from UTC, in some row."""
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return isinstance(cells.dtype, pd.DatetimeTZDtype)
    return any(ZONED.fullmatch(str(word)) for word in cells.dropna().unique())


def parse_dates(words: list[str], form: str) -> np.ndarray:
    """Return words as dates in microseconds, NaT where they are none."""
    likely = pd.Series([word if DATE.fullmatch(word) else None for word in words], dtype=object)  # "today" is a word
    found = stamps(pd.Series(pd.to_datetime(likely, format=form or "ISO8601", errors="coerce", utc=True)))
    for place in np.flatnonzero(np.isnat(found)):
        if likely[place] is not None and FAR_YEAR.search(words[place]):
            with contextlib.suppress(ValueError):
                found[place] = far_date(words[place], form)
    return found


def far_date(word: str, form: str) -> datetime.datetime:
    """Return a date beyond the years 1678 to 2261, which pandas before 3 does not parse.

    :raises ValueError: no date.
    """
    date = datetime.datetime.strptime(word, form) if form else datetime.datetime.fromisoformat(word)
    return date.astimezone(datetime.timezone.utc).replace(tzinfo=None) if date.tzinfo else date


def since_1970(found: np.ndarray) -> np.ndarray:
    """Return dates in microseconds as days since 1970, NaN for NaT."""
    since = found.astype(np.int64) / DAY
    since[np.isnat(found)] = np.nan
    return since


def stamps(dates: pd.Series) -> np.ndarray:
    """Return dates in microseconds, in which every year has its place, in UTC."""
    if dates.dt.tz is not None:
        dates = dates.dt.tz_convert(None)
    return dates.to_numpy("datetime64[us]")


def date_format(words: list[str]) -> tuple[str, int] | None:
    """Return how most of the words are written as dates, and how many of them are; None where most are no dates."""
    likely = [word for word in words if DATE.fullmatch(word)]
    if not likely or len(likely) < 0.9 * len(words):
        return None
    best = max(("", *FORMATS), key=lambda form: int((~np.isnat(parse_dates(likely, form))).sum()))
    right = int((~np.isnat(parse_dates(likely, best))).sum())
    return (best, right) if right >= 0.9 * len(likely) else None


def several_ways(words: list[str]) -> tuple[str, str] | None:
    """Return two of the words that are dates each, but written in two ways, where together nearly all are dates."""
    likely = [word for word in words if DATE.fullmatch(word)]
    if len(likely) < 2 or len(likely) < 0.9 * len(words):
        return None
    right = np.array([~np.isnat(parse_dates(likely, form)) for form in ("", *FORMATS)])
    if right.any(0).mean() < 0.9:
        return None
    other = int(np.argmin(right[right.sum(1).argmax()]))
    return likely[int(np.argmax(right[right.sum(1).argmax()]))], likely[other]


def other_order(words: list[str], form: str) -> str | None:
    """Return a date that is another one with day and month the other way round; None where any of the words tells."""
    swapped = form.translate(str.maketrans("dm", "md"))
    likely = [word for word in words if DATE.fullmatch(word)]
    if not likely or swapped == form or swapped not in FORMATS:
        return None
    found, others = parse_dates(likely, form), parse_dates(likely, swapped)
    if np.isnat(others).any():
        return None
    return next((word for word, date, other in zip(likely, found, others) if date != other), None)


def example(form: str) -> str:
    """Return a date as it is written in a form."""
    return pd.Timestamp(2024, 1, 31).strftime(form or "%Y-%m-%d")


def unit_of(column: Column) -> Literal["D", "m", "s"]:
    """Return the unit in which dates are written: ``D``, ``m`` or ``s``."""
    if column.whole or (column.format and "%M" not in column.format):
        return "D"
    return "m" if column.format and "%S" not in column.format else "s"


def stamps_of(values: np.ndarray, column: Column) -> np.ndarray:
    """Return the dates of days since a column's first one, to the unit in which they are written, NaT where NaN."""
    start, unit = np.datetime64(column.start, "D"), unit_of(column)
    low, high = ((day - start).astype(np.int64) for day in (FIRST, LAST))
    kept = np.clip(np.where(np.isnan(values), 0, values), low, high)
    steps = np.round(kept * {"D": 1, "m": 1440, "s": 86_400}[unit]).astype(np.int64)
    dates = start.astype(f"datetime64[{unit}]") + steps.astype(f"timedelta64[{unit}]")
    return np.where(np.isnan(values), np.datetime64("NaT"), dates)


def date_words(dates: np.ndarray, column: Column) -> pd.Series:
    """Return dates as the words that a column has, in its format or in ISO 8601, with a Z where it has zones; None for
    NaT."""
    gaps = np.isnat(dates)
    seconds = dates.astype("datetime64[s]")
    if column.format:
        words = pd.Series(seconds).dt.strftime(column.format).astype(object)
    else:
        unit = "s" if column.zoned else unit_of(column)
        words = pd.Series(np.datetime_as_string(seconds, unit=unit), dtype=object) + "Z" * column.zoned
    return words.mask(gaps, None)
