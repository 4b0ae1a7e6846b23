"""Numbers as people write them, and which sign their decimals have: told once for a file, from all its columns.

``1,132`` and ``1.132`` may be either. ``0,132``, ``3,14`` and ``2.200,50`` have a decimal comma, whatever the file; a
leading 0 is no thousand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

COMMA = "pyro_ssvae decimal comma"
"""What a data frame's ``attrs`` say of the file it was read from: True, False, or None where nothing tells."""
SAMPLE = 1000
"""Rows by which a data frame's decimals are told."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_POINTS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d+)?")
_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}([ '’])\d{3}(?:\1\d{3})*([.,]\d*)?")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?")


_DURATION = re.compile(r"(-?\d+) days?(?: [+-]?(\d\d):(\d\d):(\d\d(?:\.\d+)?))?")
SIGNS = "$€£¥₹₩₽₺₴₫฿¢%"
"""Of currencies, and of percent."""
CODES = (
    "AED ARS AUD BRL CAD CHF CLP CNY CZK DKK EUR GBP HKD HUF ILS INR JPY KRW MXN NOK NZD PLN RUB SEK SGD THB USD ZAR"
)
"""Of currencies, in ISO 4217."""
_CODE = re.compile(r"^(CODE) (?=[-+.\d(])|(?<=[.\d)]) ?(CODE)$".replace("CODE", CODES.replace(" ", "|")))
_ACCOUNTING = re.compile(rf"\(([{SIGNS}]? ?[\d.,]+(?:[ '’]\d{{3}})* ?[{SIGNS}]?)\)")


def bare(word: str) -> str:
    """Return a word without a currency's or percent's sign, and without the blanks or apostrophes between thousands.

    In accounts ``(5)`` is -5.
    """
    word = without_unit(" ".join(word.split()).replace("−", "-"))
    if (negative := _ACCOUNTING.fullmatch(word)) is not None:
        word = f"-{negative[1].strip(SIGNS).strip()}"
    word = re.sub(rf"^([+-]) ?[{SIGNS}] ?", r"\1", word)  # -$5
    groups = _GROUPS.fullmatch(word)
    return word.replace(groups[1], "") if groups else word


def is_accounting(word: str) -> bool:
    """Whether a negative number is written in parentheses."""
    return _ACCOUNTING.fullmatch(without_unit(word.strip())) is not None


def without_unit(word: str) -> str:
    """Return a word without the sign or code of a currency, or percent, at its ends."""
    return _CODE.sub("", word).strip(SIGNS).strip()


def unit_of(word: str) -> str:
    """Return the sign or code of a currency, or percent, that a number is written with; empty where it has none."""
    code = _CODE.search(word)
    return (code[1] or code[2]) if code else next((sign for sign in SIGNS if sign in word), "")


def parse_number(word: str, comma: bool = False) -> float:
    """Return the number that a word says, NaN where it says none: ``1e-3``, ``1,200.50``, ``$5``, ``12 %``.

    Durations as pandas writes them, ``2 days 12:00:00``, are in days.

    :param comma: take a comma for the decimal point, and points between thousands for nothing.
    """
    if (duration := _DURATION.fullmatch(word)) is not None:
        days, hours, minutes, seconds = (float(part or 0) for part in duration.groups())
        return days + (hours * 3600 + minutes * 60 + seconds) / 86_400  # -1 days +23:00:00 is an hour ago
    word = bare(word)
    if not comma:
        word = word.replace(",", "") if _THOUSANDS.fullmatch(word) else word
    elif _POINTS.fullmatch(word):
        word = word.replace(".", "").replace(",", ".")
    elif _COMMA.fullmatch(word):
        word = word.replace(",", ".")
    return float(word) if _NUMBER.fullmatch(word) else np.nan


def times_of(words: Sequence[str]) -> np.ndarray | None:
    """Return times of the day, such as ``07:30``, in seconds since midnight, NaN for other words; None where most
    words are no times."""
    found = [_TIME.fullmatch(word) for word in words]
    if 2 * sum(time is not None for time in found) <= len(words):
        return None
    parts = [(np.nan, 0, 0) if time is None else time.groups(default="0") for time in found]
    return np.array([3600 * float(hour) + 60 * float(minute) + float(second) for hour, minute, second in parts])


def time_format(words: Sequence[str]) -> str:
    """Return how times of the day are written, for ``strptime``: to the second where one is; empty where words are no
    times."""
    if times_of(words) is None:
        return ""
    found = [_TIME.fullmatch(word) for word in words]
    return "%H:%M:%S" if any(time is not None and time[3] is not None for time in found) else "%H:%M"


def time_words(seconds: np.ndarray, form: str) -> pd.Series:
    """Return times of the day as words, from seconds since midnight; None where NaN."""
    step = 1 if "%S" in form else 60
    last = 86_400 - step
    whole = np.clip(np.round(np.nan_to_num(seconds) / step) * step, 0, last).astype(np.int64)
    words = pd.Series(whole.astype("datetime64[s]")).dt.strftime(form).astype(object)
    return words.mask(np.isnan(seconds), None)


def sign_of(word: str) -> str:
    """Return which sign the decimals of a number have, ``,`` or ``.``; ``?`` where a comma may be either."""
    word = bare(word)
    if "," in word and "." in word:
        return "," if _POINTS.fullmatch(word) else "." if _THOUSANDS.fullmatch(word) else ""
    if _COMMA.fullmatch(word):
        return "?" if _THOUSANDS.fullmatch(word) else ","
    if "." in word and _NUMBER.fullmatch(word) and not _POINTS.fullmatch(word):
        return "."
    return "." if word.count(",") > 1 and _THOUSANDS.fullmatch(word) else ""


def decimal_comma(words: Iterable[str], file: bool | None = None) -> bool:
    """Whether a column's numbers are written ``3,14``: as its own words tell, or else as its file's others do."""
    signs = set(map(sign_of, words))
    return "," in signs or ("." not in signs and bool(file))


def commas_of(columns: Iterable[Iterable[str]], usual: bool, missing: frozenset[str]) -> tuple[bool | None, str]:
    """Return whether a file's numbers are written ``3,14``, None where nothing tells; and one with a comma.

    :param columns: the words of each column; those of which some are no numbers tell nothing.
    :param usual: whether commas are usual in such a file, since they do not separate its columns. That decides where
        columns differ, and where each comma may be either.
    :param missing: words for a missing cell.
    """
    signs, example = set[str](), ""
    for words in columns:
        known = [word for word in words if word.strip().lower() not in missing]
        if any(np.isnan(parse_number(word)) and np.isnan(parse_number(word, comma=True)) for word in known):
            continue
        signs |= set(map(sign_of, known))
        example = example or next((word for word in known if "," in word), "")
    if "," in signs or "." in signs:
        found = "," in signs and (usual or "." not in signs)
        return found, example
    return (True if usual else None) if "?" in signs else None, example


def frame_comma(frame: pd.DataFrame, missing: frozenset[str]) -> bool | None:
    """Return what :func:`commas_of` tells of a data frame's words."""
    cells = (frame.iloc[:SAMPLE, i].dropna() for i in range(frame.shape[1]) if is_words(frame.iloc[:, i]))
    return commas_of([dict.fromkeys(map(str, column)) for column in cells], False, missing)[0]


def is_words(cells: pd.Series) -> bool:
    """Whether cells may be words by their type."""
    return bool(cells.dtype == object or isinstance(cells.dtype, (pd.StringDtype, pd.CategoricalDtype)))
