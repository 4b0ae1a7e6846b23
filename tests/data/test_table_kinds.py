"""What a column of a table is taken for, and the numbers that its cells become."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from data_makers import refused

from pyro_ssvae.data import read_table
from pyro_ssvae.data.cells import MISSING_WORDS, numbers_of, word_of
from pyro_ssvae.data.column_kinds import kind_of, kind_word
from pyro_ssvae.data.number_words import decimal_comma, parse_number
from pyro_ssvae.data.schema import Column
from pyro_ssvae.data.tables import column_values

g = np.random.default_rng(0)
N = 600


def kind(values: object, told: str | None = None) -> Column:
    column = kind_of(pd.Series(values), "a", told)
    assert isinstance(column, Column), column
    return column


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (g.normal(170, 10, N), "normal"),
        (np.exp(g.normal(10, 1, N)), "log-normal"),
        (np.where(g.random(N) < 0.02, 0.0, np.exp(g.normal(3, 1, N))), "log-normal"),
        (np.where(g.random(N) < 0.3, 0.0, np.exp(g.normal(3, 1, N))), "zero-inflated-log-normal"),
        (np.where(g.random(N) < 0.9, 0, g.integers(1500, 2600, N)), "zero-inflated-log-normal"),  # losses
        (np.where(g.random(N) < 0.3, 0.0, g.random(N)), "normal"),  # shares
        (np.where(g.random(N) < 0.5, 0, g.negative_binomial(2, 0.2, N)), "negative-binomial"),
        (g.standard_t(2, N), "student-t"),
        (g.poisson(3, N), "poisson"),
        (g.negative_binomial(1, 0.2, N), "negative-binomial"),
        (g.integers(17, 90, N), "normal"),  # ages: whole, not from 0
        (2000 + g.poisson(5, N), "normal"),
        (g.integers(1, 6, N), "normal"),  # grades: too even for counts
        (g.integers(0, 2, N), "bernoulli"),
        (np.where(g.random(N) < 0.5, 3.5, 7.0), "bernoulli"),
        (np.array(["red", "green", "blue"])[g.integers(0, 3, N)], "categorical:3"),
        (np.array(["no", "yes"])[g.integers(0, 2, N)], "bernoulli"),
        (np.array(["007", "017", "117"])[g.integers(0, 3, N)], "categorical:3"),  # codes
        (np.array(["2", "3", "4", "5more"])[g.integers(0, 4, N)], "categorical:4"),
        (np.where(np.arange(N) % 9, np.char.mod("%.3f", g.normal(size=N)), "unknown"), "normal"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_kinds_are_told_by_the_cells(values: np.ndarray, expected: str) -> None:
    assert kind(values).kind == expected
    assert kind(values.astype(str).astype(object)).kind == expected  # as a file's words


def test_which_likelihood_wins_is_no_worse_than_the_normal() -> None:
    """Of skewed numbers the log-normal has the higher density: ln N(ln x) - ln x, with the Jacobian."""
    x = np.exp(g.normal(2, 1, 5000))
    log = np.log(x)
    normal = -np.log(x.std()) - 0.5 * ((x - x.mean()) / x.std()) ** 2
    log_normal = -np.log(log.std()) - 0.5 * ((log - log.mean()) / log.std()) ** 2 - log
    assert log_normal.mean() > normal.mean() + 0.5
    assert kind(x).kind == "log-normal"


def test_a_person_corrects_the_kind() -> None:
    counts = np.arange(N) % 7
    assert kind(counts, "number").kind == "normal"
    assert kind(counts, "category").kind == "categorical:7"
    assert kind(counts, "student-t").kind == "student-t"
    assert kind(counts % 3 + 1, "count").kind == "poisson"
    assert kind_of(pd.Series(counts), "a", "leave-out") == "as told"
    assert kind(["20200101", "20200102", "20210101"], "category").kind == "categorical:3"
    assert kind_word("Drop", "") == "leave-out"
    assert kind_word("numeric", "") == "number"
    refused(lambda: kind_word("cuont", "--columns a=cuont"), "--columns a=cuont", "'count'")
    refused(lambda: kind(counts - 1, "count"), "-1 to 5", "counts")
    refused(lambda: kind(["x", "y", "z"], "yes-no"), "3 different words", "two")
    refused(lambda: kind(["1", "2", "z"], "number"), "row 2", "'z'", "number")


def test_columns_that_say_nothing_are_left_out() -> None:
    for values, words in [
        ([None, None], "no value"),
        (["", "NA"], "no value"),
        ([5, 5], "same in every row"),
        (["x", "x", None], "same in every row"),
        (np.arange(100), "numbers the rows"),
        ([f"person {i}" for i in range(100)], "names or text"),
        (pd.to_datetime(["2020-01-01", "2020-01-01"]), "same date"),
    ]:
        reason = kind_of(pd.Series(values), "a")
        assert isinstance(reason, str), reason
        assert words in reason
    numbers = g.permutation(1000)[:200]  # all different, with gaps: only an identifier's name tells
    assert isinstance(kind_of(pd.Series(numbers), "amount"), Column)
    for name in ("person_id", "PassengerId", "Sample ID", "customerID", "rownames", "Invoice No", "Unnamed: 0", ""):
        assert isinstance(kind_of(pd.Series(numbers), name), str), name
    for name in ("paid", "Humid", "grid", "key_figure", "piano"):
        assert isinstance(kind_of(pd.Series(numbers), name), Column), name


def test_cells_that_do_not_go_together_are_named() -> None:
    numbers: list[object] = list(g.normal(size=100))
    numbers[17], numbers[40] = "abc", "x"
    refused(lambda: kind(numbers), "column 'a'", "2 cells", "row 17", "'abc'", "--columns a=category")
    dates = [f"2020-01-{i % 28 + 1:02d}" for i in range(60)]
    dates[8] = "2020-13-45"
    refused(lambda: kind(dates), "row 8", "2020-13-45", "2024-01-31")
    refused(lambda: kind([[1, 2], [3]]), "row 0", "list")
    refused(lambda: kind([1.0, np.inf, 2.0, 5.0]), "row 1", "infinite")
    refused(lambda: kind(np.arange(9) * 1j), "complex")
    words = [f"w{i % 2000}" for i in range(6000)]
    refused(lambda: kind(words), "2,000 different words", "1,000", "a=leave-out")


@pytest.mark.parametrize(
    ("words", "days"),
    [
        (["2020-01-31", "2020-02-03"], 3),
        (["2020-01-31T12:00:00", "2020-02-01T00:00:00"], 0.5),
        (["31.01.2020", "03.02.2020"], 3),
        (["13/01/2020", "14/02/2020"], 32),
        (["01/13/2020", "02/14/2020"], 32),
        (["31 Jan 2020", "3 Feb 2020"], 3),
    ],
)
def test_dates_are_days_since_the_first(words: list[str], days: float) -> None:
    column = kind([*words, None] * 5)
    assert column.reads == "date"
    found = column_values(pd.Series(words), column, "t")
    assert found[1] - found[0] == days
    assert 0 <= found[0] < 1
    stamps = pd.Series(pd.to_datetime(["2020-01-31", "2020-02-03", None] * 5).tz_localize("UTC"))
    assert column_values(stamps, kind(stamps), "t")[1] == 3


def test_words_of_no_come_before_words_of_yes() -> None:
    for words, expected in [
        (["Yes", "No"], ("No", "Yes")),
        (["T", "F"], ("F", "T")),
        ([1, 0], ("0", "1")),
        ([True, False], ("False", "True")),
        (["male", "female"], ("female", "male")),
        (["1.0", "0.0"], ("0", "1")),
    ]:
        assert kind(words * 5).words == expected


def test_numbers_in_words() -> None:
    for word, number in [("1e-3", 1e-3), ("1,200.5", 1200.5), ("$5", 5.0), ("12 %", 12.0), ("−4", -4.0), (".5", 0.5)]:
        assert parse_number(word) == number
    for word in ("", "abc", "1_000", "nan", "inf", "1,2", "0x10"):
        assert np.isnan(parse_number(word))
    assert parse_number("3,14", comma=True) == 3.14
    assert parse_number("1.234,5", comma=True) == 1234.5
    assert decimal_comma(["3,14", "1,234"])
    assert not decimal_comma(["12,345", "1,234"])
    numbers, wrong = numbers_of(pd.Series(["1", "?", "x"]), "t")
    assert numbers[0] == 1
    assert np.isnan(numbers[1:]).all()
    assert wrong.tolist() == [False, False, True]
    assert kind(["3,5", "2,25", "7,1"] * 5).format == ","
    assert word_of(3.0) == "3"
    assert word_of(" a \n b ") == "a b"
    assert "none" in MISSING_WORDS


def test_numbers_far_from_zero_keep_their_digits() -> None:
    """Seconds since 1970 differ by 1 in 1.6e9; float32 steps by 128 there."""
    seconds = 1.6e9 + g.integers(0, 1000, N).astype(float)
    column = kind(seconds)
    values = column_values(pd.Series(seconds), column, "t").astype(np.float32)
    np.testing.assert_allclose(values.astype(float) + column.offset, seconds, atol=1e-3)


def test_numbers_that_float32_has_no_density_of_are_named() -> None:
    for size in (1e-40, 1e-20, 1e19, 1e30):
        refused(lambda size=size: kind(g.normal(size=N) * size), "column 'a'", "numbers from", "1e-18", "6e+18", "unit")
    refused(lambda: kind(np.where(np.arange(N) == 4, 1e300, 1.0 * np.arange(N))), "row 4", "1e+300", "3.4e38")
    assert kind(np.exp(g.normal(10, 1, N)) * 1e-25).kind == "log-normal"
    assert kind(g.integers(-(2**63), 2**63 - 1, N)).kind == "normal"
    near = 2**64 - 1 - np.arange(N, dtype=np.uint64) % 7
    assert kind_of(pd.Series(near), "a") == "nearly the same in every row (1.84467e+19)"
    assert kind_of(pd.Series([5] * N), "a") == "the same in every row (5)"


def test_dates_that_do_not_tell_day_from_month_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    for form, read in (("%d/%m/%Y", "2020-01-02"), ("%d-%m-%Y", "2020-02-01"), ("%d/%m/%Y %H:%M", "2020-01-02")):
        days = pd.date_range("2020-01-01", periods=30, freq="MS").strftime(form)  # the first of each month
        table = pd.DataFrame({"t": days, "v": np.arange(30) / 3, "y": list("ab") * 15})
        table.loc[4, "t"] = "unknown"
        read_table(table, target="y")
        assert f"column 't': '{days[1]}' is read as {read}" in capsys.readouterr().err
        read_table(table.assign(t=[*days[:-1], pd.Timestamp(2022, 12, 31).strftime(form)]), target="y")
        read_table(table.assign(t=["03/03/2020"] * 15 + ["04/04/2020"] * 15), target="y")
        assert "is read as" not in capsys.readouterr().err


def test_a_new_date_in_another_form_is_told_that_of_training() -> None:
    for form, like in (("", "2024-01-31"), ("%d.%m.%Y", "31.01.2024")):
        column = Column("t", "normal", "date", start="2020-01-01", format=form)
        read = partial(column_values, pd.Series(["05/06/2020"]), column, "new.csv")
        refused(read, "new.csv, column 't'", "row 0", f"{like}, as in")
