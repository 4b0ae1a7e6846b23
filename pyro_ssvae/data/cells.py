"""From the cells of a table's column to numbers: which words mean a missing cell, a number, a date."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pandas as pd

from ..errors import InputError
from .checks import LIKE_NO_LABEL, shown

MISSING_WORDS = frozenset(
    ["", "na", "n/a", "n.a.", "nan", "-nan", "null", "none", "#n/a", "#na", "<na>", "nat", "?", "-", "--", ".", "..",
     "missing", "(missing)", "not available", "#null!", "#div/0!"]
)  # fmt: skip
"""Words for a missing cell, in small letters."""
MISSING_LABELS = MISSING_WORDS | (LIKE_NO_LABEL - {"-1", "-1.0", "-1."})
"""Words for a missing label, or a missing number."""
DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T]\d{1,2}:\d.*)?|\d{1,2}[ -]?[A-Za-z]{3,9}\.?,?[ -]?\d{2,4}")
"""What may be a date."""
FORMATS = (
    *("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d.%m.%y", "%m/%d/%y", "%d/%m/%y"),
    *("%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%d-%b-%y", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M"),
)
"""How dates may be written beside ISO 8601; where two suit, the first is taken."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_COMMA = re.compile(r"[+-]?\d+,\d+")
DAY = 86_400e9  # nanoseconds


def word_of(value: object) -> str:
    """Return a cell as a word: white space as one blank, a whole number without its ``.0``."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(float(value)) < 2**53:
        return str(int(value))
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return unicodedata.normalize("NFC", " ".join(str(value).split()))


def factorized(cells: pd.Series, where: str, missing: frozenset[str] = MISSING_WORDS) -> tuple[np.ndarray, list[str]]:
    """Return each cell's word by its place, int64 ``[N]``, -1 where it is missing; and the different words.

    :raises InputError: a cell that is no plain value, such as a list.
    """
    try:
        places, values = pd.factorize(cells)
    except TypeError:
        places, values = np.zeros(0), np.zeros(0)
    plain = (str, int, float, bool, np.generic, pd.Timestamp)
    if len(places) != len(cells) or (values.dtype == object and not all(isinstance(v, plain) for v in values)):
        row = next((i for i, cell in enumerate(cells) if not isinstance(cell, plain) and cell is not None), 0)
        kind = type(cells.iloc[row]).__name__
        raise InputError(f"{where}: row {row} holds a {kind}; a number, a word, a date or nothing is needed")
    words: dict[str, int] = {}
    place_of = np.full(len(values) + 1, -1)  # the last is that of a cell without a value, whose place is -1
    for i, word in enumerate(map(word_of, values)):
        if word.lower() not in missing:
            place_of[i] = words.setdefault(word, len(words))
    return place_of[places], list(words)


def parse_number(word: str, comma: bool = False) -> float:
    """Return the number that a word says, NaN where it says none: ``1e-3``, ``1,200.50``, ``$5``, ``12 %``.

    :param comma: take a comma for the decimal point.
    """
    word = word.strip().strip("$€£%").strip().replace("−", "-")
    if comma:
        word = word.replace(".", "").replace(",", ".") if "," in word else word
    elif _THOUSANDS.fullmatch(word):
        word = word.replace(",", "")
    return float(word) if _NUMBER.fullmatch(word) else np.nan


def decimal_comma(words: list[str]) -> bool:
    """Whether numbers are written ``3,14``."""
    commas = [word for word in words if _COMMA.fullmatch(word)]
    return bool(commas) and not all(_THOUSANDS.fullmatch(word) for word in commas)


def numbers_of(cells: pd.Series, where: str, comma: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers, float64 ``[N]``, NaN where missing, durations in days; and which cells are none, bool ``[N]``."""
    if pd.api.types.is_timedelta64_dtype(cells.dtype):
        return (cells.dt.total_seconds() / 86_400).to_numpy(np.float64), np.zeros(len(cells), bool)
    if pd.api.types.is_complex_dtype(cells.dtype):
        raise InputError(f"{where}: complex numbers; real ones are needed")
    if pd.api.types.is_numeric_dtype(cells.dtype):
        return cells.to_numpy(np.float64, na_value=np.nan), np.zeros(len(cells), bool)
    places, words = factorized(cells, where, MISSING_LABELS)
    values = np.array([*(parse_number(word, comma) for word in words), np.nan])
    numbers = values[places]
    return numbers, np.isnan(numbers) & (places >= 0)


def dates_of(cells: pd.Series, where: str, form: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Return days since 1970, float64 ``[N]``, NaN where missing; and which cells are no date, bool ``[N]``.

    :param form: how dates are written, for ``strptime``; empty for ISO 8601.
    """
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return days(cells), np.zeros(len(cells), bool)
    places, words = factorized(cells, where, MISSING_LABELS)
    values = np.append(days(parse_dates(words, form)), np.nan)
    found = values[places]
    return found, np.isnan(found) & (places >= 0)


def parse_dates(words: list[str], form: str) -> pd.Series:
    """Return words as dates, NaT where they are none."""
    likely = pd.Series([word if DATE.fullmatch(word) else None for word in words], dtype=object)  # "today" is a word
    return pd.Series(pd.to_datetime(likely, format=form or "ISO8601", errors="coerce", utc=True))


def days(dates: pd.Series) -> np.ndarray:
    """Return dates as days since 1970, in UTC, NaN for NaT."""
    if dates.dt.tz is not None:
        dates = dates.dt.tz_convert(None)
    stamps = dates.to_numpy("datetime64[ns]")
    found = stamps.astype(np.int64) / DAY
    found[np.isnat(stamps)] = np.nan
    return found


def date_format(words: list[str]) -> tuple[str, int] | None:
    """Return how most of the words are written as dates, and how many of them are; None where most are no dates."""
    likely = [word for word in words if DATE.fullmatch(word)]
    if not likely or len(likely) < 0.9 * len(words):
        return None
    best = max(("", *FORMATS), key=lambda form: int(parse_dates(likely, form).notna().sum()))
    right = int(parse_dates(likely, best).notna().sum())
    return (best, right) if right >= 0.9 * len(likely) else None


def first(wrong: np.ndarray) -> int:
    """Return the first row of a mask that has one."""
    return int(np.flatnonzero(wrong)[0])


def cell(cells: pd.Series, row: int) -> str:
    """Return a cell as it may stand in a message."""
    return shown(word_of(cells.iloc[row]))
