"""The kind of each column of a table, taken from its cells, or told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ..errors import InputError
from ..nn.columns import KINDS as LIKELIHOODS
from ..nn.reals import MOST_SPREAD, Normal
from .cells import (
    MISSING_LABELS,
    cell,
    factorized,
    first,
    numbers_of,
    word_of,
)
from .checks import hint, shown
from .class_words import sort_words
from .date_cells import date_format, dates_of, example, is_zoned, several_ways
from .number_likelihoods import likelihood_of
from .number_words import decimal_comma, parse_number, time_format, times_of
from .schema import Column

ANSWERS = (
    ("no", "yes"), ("n", "y"), ("false", "true"), ("f", "t"), ("0", "1"), ("off", "on"), ("negative", "positive"),
    ("neg", "pos"), ("absent", "present"), ("-", "+"), ("-1", "1"), ("non", "oui"), ("nein", "ja"),
)  # fmt: skip
"""Pairs of words of which the first means no."""
WORDS = ("number", "count", "category", "yes-no", "date", "leave-out")
"""What ``--columns`` takes beside the names of likelihoods."""
MOST_WORDS = 1000
"""Largest number of categories of a column."""
IDENTIFIER = re.compile(
    r"^$|(?i:(?:^|[^a-z])(?:id|idx|index|row|rowid|rownum|rownames|no|nr)$|^unnamed: \d+$)|[a-z]I[Dd]$"
)
"""Names of columns that name the rows, such as ``id``, ``patient_id``, ``PassengerId``."""
OTHERS = {"numeric": "number", "real": "number", "float": "number", "counts": "count", "int": "count",
          "categorical": "category", "binary": "yes-no", "bool": "yes-no", "boolean": "yes-no", "datetime": "date",
          "drop": "leave-out", "ignore": "leave-out"}  # fmt: skip
"""Words that people may have for these."""


def kind_word(word: str, where: str) -> str:
    """Return the word of :data:`WORDS`, or the likelihood, that a person's word means."""
    known = [*WORDS, *(name for name in LIKELIHOODS if name != "categorical")]
    word = OTHERS.get(word.lower(), word.lower())
    if word not in known:
        raise InputError(f"{where}: there is no kind {shown(word)}{hint(word, known)}")
    return word


def kind_of(cells: pd.Series, name: str, told: str | None = None, comma: bool | None = None) -> Column | str:
    """Return what a column is; or, in words, why it is left out.

    :param told: a word of :data:`WORDS` or a likelihood, where a person says what it is.
    :param comma: whether the file has decimal commas; None where nothing tells.
    :raises InputError: cells that do not go together, naming the first row.
    """
    where = f"column {shown(name)}"
    if told == "leave-out":
        return "as told"
    if pd.api.types.is_datetime64_any_dtype(cells.dtype) or told == "date":
        column = date_column(cells, name, where)
    elif told in ("category", "yes-no") or (
        told is None and (pd.api.types.is_bool_dtype(cells.dtype) or is_code(cells))
    ):
        column = word_column(cells, name, where, told)
    elif is_number(cells) or told is not None:
        column = number_column(cells, name, where, told, comma)
    else:
        column = guessed(cells, name, where, comma)
    return column


def is_number(cells: pd.Series) -> bool:
    """Whether cells are numbers, or durations, by their type."""
    return bool(pd.api.types.is_numeric_dtype(cells.dtype) or pd.api.types.is_timedelta64_dtype(cells.dtype))


def is_code(cells: pd.Series) -> bool:
    """Whether cells are categories that are numbers: by their type they are no amounts."""
    return isinstance(cells.dtype, pd.CategoricalDtype) and pd.api.types.is_numeric_dtype(cells.dtype.categories.dtype)


def guessed(cells: pd.Series, name: str, where: str, file: bool | None = None) -> Column | str:
    """Return what a column of words is: numbers or dates in words, or categories."""
    places, words = factorized(cells, where, None)
    if len(words) < 2:
        return one_word(places, words)
    comma = decimal_comma(words, file)
    times = times_of(words)
    number = ~np.isnan([parse_number(word, comma) for word in words] if times is None else times)
    gap = np.array([word.lower() in MISSING_LABELS for word in words])  # where the others are numbers or dates
    padded = any(len(word) > 1 and word[0] == "0" and word.isdecimal() for word in words)  # 007 is a code
    cells_of = np.bincount(places[places >= 0], minlength=len(words))
    if number.any() and (number | gap).all() and not padded:
        return number_column(cells, name, where, None, file)
    share = cells_of[number].sum() / max(cells_of[~gap].sum(), 1)
    if share >= 0.9 and number.sum() > 20 and not padded and times is None:
        _, wrong = numbers_of(cells, where, file)
        few = int(wrong.sum())
        raise InputError(
            f"{where}: numbers, but {few} cell{'s are' if few > 1 else ' is'} not, first row {first(wrong)}: "
            f"{cell(cells, first(wrong))}; a number or an empty cell is needed, or --columns {name}=category"
        )
    if date_format([word for word, missing in zip(words, gap) if not missing]) is not None:
        return date_column(cells, name, where)
    if (two := several_ways([word for word, missing in zip(words, gap) if not missing])) is not None:
        raise InputError(f"{where}: dates written in several ways, such as {shown(two[0])} and {shown(two[1])}; one is "
                         f"needed, such as {example('')}, or --columns {name}=category")  # fmt: skip
    return word_column(cells, name, where, None)


def word_column(cells: pd.Series, name: str, where: str, told: str | None) -> Column | str:
    """Return a column of categories, or of two words."""
    places, words = factorized(cells, where, None)
    missing = float((places < 0).mean())
    n, words = int((places >= 0).sum()), one_spelling(words)
    if len(words) < 2:
        return one_word(places, words)
    if len(words) == 2:
        return Column(name, "bernoulli", "words", in_order(words), missing=missing)
    if told == "yes-no":
        raise InputError(f"{where}: {len(words)} different words ({shown(words[2])} …); two are needed for yes and no")
    if told is None and len(words) > 10 and len(words) > 0.5 * n:
        return f"{len(words):,} different words in {n:,} rows, such as {shown(words[0])}: names or text"
    if len(words) > MOST_WORDS:
        raise InputError(
            f"{where}: {len(words):,} different words; at most {MOST_WORDS:,} categories can be told apart; "
            f"--columns {shown(name + '=leave-out')} leaves it out"
        )
    return Column(name, f"categorical:{len(words)}", "words", tuple(sort_words(words)), missing=missing)


def one_word(places: np.ndarray, words: list[str]) -> str:
    """Return why a column of at most one word is left out; a cross beside empty cells may mean yes and no."""
    gaps = int((places < 0).sum())
    if not words:
        return "no value in any row"
    if not gaps:
        return f"the same in every row ({shown(words[0])})"
    return (
        f"the same in every row that has one ({shown(words[0])}); where the {gaps} empty cells mean no, write no there"
    )


def one_spelling(words: list[str]) -> list[str]:
    """Return the first spelling of no and of yes, where words are a pair of :data:`ANSWERS` but for capital letters."""
    first_of = {word.lower(): word for word in reversed(words)}
    pair = any(set(first_of) == set(answers) for answers in ANSWERS)
    return [word for word in words if first_of[word.lower()] == word] if pair else words


def in_order(words: Sequence[str]) -> tuple[str, ...]:
    """Return two words, the one that means no first; in order where neither does."""
    low = [word.lower() for word in words]
    for pair in ANSWERS:
        if set(low) == set(pair):
            return tuple(words) if low[0] == pair[0] else tuple(reversed(words))
    return tuple(sort_words(words))


def date_column(cells: pd.Series, name: str, where: str) -> Column | str:
    """Return a column of dates, the first of which is day 0."""
    form = ""
    if not pd.api.types.is_datetime64_any_dtype(cells.dtype):
        _, words = factorized(cells, where)
        found = date_format([word for word in words if word.lower() not in MISSING_LABELS])
        form = "" if found is None else found[0]
    since, wrong = dates_of(cells, where, form)
    if wrong.any():
        raise InputError(
            f"{where}: row {first(wrong)} is no date: {cell(cells, first(wrong))}; {example(form)}, as in the other "
            f"rows, or an empty cell is needed, or --columns {name}=category"
        )
    if not np.isfinite(since).any():
        return "no value in any row"
    start = np.floor(np.nanmin(since))
    if np.nanmax(since) == np.nanmin(since):
        return "the same date in every row"
    day = str(np.datetime64(int(start), "D"))
    whole = bool((since[np.isfinite(since)] % 1 == 0).all())
    missing = float(np.isnan(since).mean())
    return Column(name, "normal", "date", whole=whole, start=day, format=form, zoned=is_zoned(cells), missing=missing)


def number_column(cells: pd.Series, name: str, where: str, told: str | None, file: bool | None = None) -> Column | str:
    """Return a column of numbers: two-valued, counts, or real, by their spread and tails."""
    words = [] if is_number(cells) else factorized(cells, where, MISSING_LABELS)[1]
    form = time_format(words) or ("," if decimal_comma(words, file) else "")
    x, wrong = numbers_of(cells, where, file)
    if wrong.any():
        raise InputError(
            f"{where}: row {first(wrong)} is no number: {cell(cells, first(wrong))}; a number or nothing is needed"
        )
    if np.isinf(x).any():
        raise InputError(f"{where}: row {first(np.isinf(x))} is infinite; a finite number or an empty cell is needed")
    known = x[~np.isnan(x)]
    missing = float(np.isnan(x).mean())
    if not len(known):
        return "no value in any row"
    if (known == known[0]).all():
        near = pd.api.types.is_integer_dtype(cells.dtype) and cells.nunique() > 1
        return f"{'nearly ' * near}the same in every row ({known[0]:g})"
    low, high = known.min(), known.max()
    if max(abs(low), abs(high)) > np.finfo(np.float32).max:
        row = first(np.abs(x) > np.finfo(np.float32).max)
        raise InputError(f"{where}: row {row} is {cell(cells, row)}; a number below 3.4e38 is needed, in a larger unit")
    whole = bool((known == np.round(known)).all())
    if told is None and "%" not in form and bool(((known == low) | (known == high)).all()):
        single = cells.dtype == np.float32
        words = [word_of(np.float32(v) if single else v) for v in (low, high)]
        return Column(name, "bernoulli", "words", in_order(words), missing=missing)
    if told is None and whole and numbered(known, name):
        return f"{len(known):,} numbers, all different: it numbers the rows"
    column = Column(name, told or "normal", whole=whole, format=form, missing=missing)
    if told in (None, "number", "count"):
        column = replace(column, kind=likelihood_of(known, whole, told, where))
    size, spread = max(abs(low), abs(high)), known.std()
    if column.kind not in ("normal", "student-t", "laplace"):
        return column
    if spread > MOST_SPREAD or (column.kind == "normal" and spread < Normal.least_spread):
        raise InputError(f"{where}: numbers from {low:g} to {high:g}; a spread from {Normal.least_spread:g} to "
                         f"{MOST_SPREAD:g} is needed, in another unit")  # fmt: skip
    if size > 1e4 * spread:  # float32 has 7 digits
        column = replace(column, offset=float(np.round(known.mean())))
    return column


def numbered(known: np.ndarray, name: str) -> bool:
    """Whether whole numbers only number the rows: all different, and without a gap or with an identifier's name."""
    if len(known) < 10 or len(np.unique(known)) < len(known):
        return False
    return IDENTIFIER.search(name.strip()) is not None or bool(known.max() - known.min() == len(known) - 1)
