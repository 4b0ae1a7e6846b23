"""From the cells of a table's column to numbers: which words mean a missing cell, which a number."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import numpy as np
import pandas as pd

from ..errors import InputError
from .checks import shown
from .class_words import LIKE_NO_LABEL, one_form
from .number_words import decimal_comma, parse_number, times_of

MISSING_WORDS = frozenset(
    ["", "na", "n/a", "n.a.", "nan", "-nan", "null", "none", "#n/a", "#na", "<na>", "nat", "?", "-", "--", ".", "..",
     "missing", "(missing)", "not available", "#null!", "#div/0!",
     "#ref!", "#value!", "#num!", "#name?"]
)  # fmt: skip
"""Words for a missing cell, in small letters."""
MISSING_LABELS = MISSING_WORDS | (LIKE_NO_LABEL - {"-1", "-1.0", "-1."})
"""Words for a missing label, or a missing number."""
MAYBE_WORDS = frozenset(["none", "missing", "(missing)"])
"""Those of them that are a category among words."""


def word_of(value: object) -> str:
    """Return a cell as a word: white space as one blank, a whole number without its ``.0``."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(float(value)) < 2**53:
        return str(int(value))
    if isinstance(value, pd.Timestamp):
        return value.isoformat().removesuffix("T00:00:00")
    return unicodedata.normalize("NFC", " ".join(str(value).split()))


def as_written(values: pd.Series | pd.Index | np.ndarray) -> Iterable[object]:
    """Return values to be made words of: those of float32 as ``0.1``, not as a float has them, 0.100000001."""
    return np.asarray(values) if values.dtype == np.float32 else values


def factorized(
    cells: pd.Series, where: str, missing: frozenset[str] | None = MISSING_WORDS
) -> tuple[np.ndarray, list[str]]:
    """Return each cell's word by its place, int64 ``[N]``, -1 where it is missing; and the different words.

    :param missing: words for a missing cell, in small letters; None for those of :func:`gap_words`.
    :raises InputError: a cell that is no plain value, such as a list.
    """
    try:
        places, values = pd.factorize(cells)
    except TypeError:
        places, values = np.zeros(0), np.zeros(0)
    plain = (str, int, float, bool, np.generic, pd.Timestamp)
    if len(places) != len(cells) or (values.dtype == object and not all(isinstance(v, plain) for v in values)):
        row = next((i for i, cell in enumerate(cells) if not isinstance(cell, plain) and cell is not None), 0)
        cell = cells.iloc[row]
        kind = "list" if isinstance(cell, np.ndarray) else type(cell).__name__
        raise InputError(f"{where}: row {row} holds a {kind}; a number, a word, a date or nothing is needed")
    words: dict[str, int] = {}
    place_of = np.full(len(values) + 1, -1)  # the last is that of a cell without a value, whose place is -1
    named = [word_of(value) for value in as_written(values)]
    forms = one_form(named)
    named = [forms.get(word, word) for word in named] if forms else named
    missing = gap_words(named) if missing is None else missing
    for i, word in enumerate(named):
        if word.lower() not in missing:
            place_of[i] = words.setdefault(word, len(words))
    return place_of[places], list(words)


def gap_words(words: Iterable[str]) -> frozenset[str]:
    """Return which words mean a missing cell in a column of words: none that is a word among them.

    ``none`` and ``missing`` are categories beside words, ``-`` is one beside ``+``.
    """
    low = {word.lower() for word in words}
    signs = {"-", "--"} if low & {"+", "++"} else set()
    return MISSING_WORDS - MAYBE_WORDS - signs


def numbers_of(cells: pd.Series, where: str, comma: bool | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers, float64 ``[N]``, NaN where missing, durations in days, times of the day in seconds;
    and which cells are none, bool ``[N]``.

    :param comma: whether the file has decimal commas; a column whose words tell has its own.
    """
    if pd.api.types.is_timedelta64_dtype(cells.dtype):
        return (cells.dt.total_seconds() / 86_400).to_numpy(np.float64), np.zeros(len(cells), bool)
    if pd.api.types.is_complex_dtype(cells.dtype):
        raise InputError(f"{where}: complex numbers; real ones are needed")
    if pd.api.types.is_numeric_dtype(cells.dtype):
        return cells.to_numpy(np.float64, na_value=np.nan), np.zeros(len(cells), bool)
    places, words = factorized(cells, where, MISSING_LABELS)
    own = decimal_comma(words, comma)
    values = times_of(words)
    if values is None:
        values = np.array([parse_number(word, own) for word in words])
    numbers = np.append(values, np.nan)[places]
    return numbers, np.isnan(numbers) & (places >= 0)


def first(wrong: np.ndarray) -> int:
    """Return the first row of a mask that has one."""
    return int(np.flatnonzero(wrong)[0])


def cell(cells: pd.Series, row: int) -> str:
    """Return a cell for a message: quoted, and cut where it is long."""
    return shown(word_of(cells.iloc[row]))
