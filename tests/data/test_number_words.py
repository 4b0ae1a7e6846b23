"""Decimals are told once for a file: a comma that may be either means what the file's other columns say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_makers import refused

from pyro_ssvae.data import Dataset, encode, read_table
from pyro_ssvae.data.number_words import commas_of, parse_number, sign_of

ROWS = 40


@pytest.mark.parametrize(
    ("word", "sign", "by_points", "by_commas"),
    [
        ("1,132", "?", 1132, 1.132),
        ("1,126 €", "?", 1126, 1.126),
        ("0,132", ",", None, 0.132),
        ("1,5 %", ",", None, 1.5),
        ("2.200,50", ",", None, 2200.5),
        ("1.250", "", 1.25, 1250),
        ("0.125", ".", 0.125, 0.125),
        ("9.30", ".", 9.3, 9.3),
        ("1,200.50", ".", 1200.5, None),
        ("1,234,567", ".", 1234567, None),
        ("-1.5e3", ".", -1500, -1500),
        ("12", "", 12, 12),
        ("1 234", "", 1234, 1234),
        ("-1\u202f234\u202f567,5 €", ",", None, -1234567.5),
        ("1'234.5", ".", 1234.5, 1234.5),
        ("1 23", "", None, None),
        ("1 234'567", "", None, None),
        ("1,2,3", "", None, None),
        ("word", "", None, None),
    ],
)
def test_what_a_word_tells(word: str, sign: str, by_points: float | None, by_commas: float | None) -> None:
    assert sign_of(word) == sign
    for comma, number in ((False, by_points), (True, by_commas)):
        np.testing.assert_equal(parse_number(word, comma), np.nan if number is None else number)


def test_a_file_s_columns_tell_together() -> None:
    missing = frozenset(["", "na"])
    for columns, usual, found in (
        ([["1,132", "2,200"]], False, None),
        ([["1,132", "2,200"]], True, True),
        ([["1,132"], ["1,5", "NA"]], False, True),
        ([["1,132"], ["9.30", ""]], False, False),
        ([["1,132"], ["9.30"], ["0,5"]], True, True),
        ([["1,132"], ["9.30"], ["0,5"]], False, False),
        ([["12", "13"]], True, None),
        ([["1,5", "see 1,5"]], False, None),  # a column of text tells nothing
    ):
        assert commas_of(columns, usual, missing)[0] is found


def written(path: Path, header: str, *rows: str) -> Path:
    separator = next(mark for mark in "\t;," if mark in header)
    lines = [f"{row}{separator}{'ab'[i % 2]}" for i, row in enumerate(rows)]
    path.write_text("\n".join([f"{header}{separator}y", *lines, ""]))
    return path


def points(data: Dataset) -> list[float]:
    """The first column's numbers, in units, sorted: of the rows of training and test."""
    assert data.table is not None
    values = np.concatenate([data.x[:, 0], data.x_test[:, 0]]).astype(float) + data.table.schema.columns[0].offset
    return sorted(values.round(4).tolist())


@pytest.mark.parametrize(
    ("name", "header", "row", "number"),
    [
        ("a.tsv", "w\tv", lambda i: f"0,{125 + 7 * i}\t{i}.5", lambda i: 0.125 + 0.007 * i),
        ("a.csv", "w;at", lambda i: f"{i % 3},{125 + 7 * i};{8 + i % 12}.30", lambda i: i % 3 + 0.125 + 0.007 * i),
        ("a.csv", "p;v", lambda i: f"{i + 1},{125 + i} €;{i},5", lambda i: i + 1 + 0.125 + 0.001 * i),
        ("a.csv", "p;v", lambda i: f"{i},5 %;{i},5", lambda i: i + 0.5),
        ("a.csv", "p;v", lambda i: f"{i + 1}.2{50 + i};{i},5", lambda i: 1000 * (i + 1) + 250 + i),
        ("a.csv", "p;v", lambda i: f"{1 + i}.200{',50' * (i % 2)};{i},5", lambda i: 1000 * (i + 1) + 200 + i % 2 / 2),
        ("a.csv", "p,v", lambda i: f'"{1 + i},2{50 + i}",{i}.5', lambda i: 1000 * (i + 1) + 250 + i),
        ("a.csv", "p,v", lambda i: f'"0,1{50 + i}",{i}.5', lambda i: 0.15 + 0.001 * i),
    ],
)
def test_files_as_people_write_them(
    name: str, header: str, row: object, number: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(row)
    assert callable(number)
    path = written(tmp_path / name, header, *map(row, range(ROWS)))
    data = read_table(path, target="y")
    assert points(data) == pytest.approx(sorted(map(number, range(ROWS))), abs=1e-4)
    said = capsys.readouterr().err
    assert "read with decimal commas" in said or "commas in numbers" in said
    assert data.table is not None
    x, _, _ = encode(path, data.table.schema)  # read again, it is the same
    again = x[:, 0].numpy().astype(float) + data.table.schema.columns[0].offset
    assert again.tolist() == pytest.approx(list(map(number, range(ROWS))), abs=1e-4)


def test_a_new_table_has_its_own_decimals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path / "old.csv", "w,v", *(f"{i / 8},{i}" for i in range(ROWS)))
    data = read_table(old, target="y", quiet=True)
    assert data.table is not None
    new = written(tmp_path / "new.csv", "w,v", '"0,125",1', '"2,5",2')
    assert encode(new, data.table.schema)[0][:, 0].tolist() == [0.125, 2.5]
    tabs = written(tmp_path / "old.tsv", "w\tv", *(f"{i},125\t{i}" for i in range(ROWS)), "0,5\t3")
    data = read_table(tabs, target="y", quiet=True)
    assert data.table is not None
    assert data.table.schema.columns[0].format == ","
    one = written(tmp_path / "one.tsv", "w\tv", "1,132\t4")  # it tells nothing; the table of training does
    capsys.readouterr()
    assert encode(one, data.table.schema)[0][0, 0] == pytest.approx(1.132)
    assert "decimal commas, such as '1,132'" in capsys.readouterr().err
    frame = pd.DataFrame({"w": ["1,132"], "v": [1]})
    assert encode(frame, data.table.schema)[0][0].tolist() == pytest.approx([1.132, 1])


def test_a_number_beyond_float32_is_named(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    rows = [f"{(i * 7 % 13 + 1) * 1e38:g},{i}" for i in range(ROWS)]
    path = written(tmp_path / "big.csv", "w,v", *rows)
    refused(lambda: read_table(path, target="y", quiet=True), "big.csv", "column 'w'", "row 1", "8e+38", "3.4e38")
    assert not recwarn


@pytest.mark.parametrize(
    ("word", "number"), [("¥1,200", 1200), ("-$5.50", -5.5), ("− £ 3", -3), ("5 ₹", 5), ("$-5", -5), ("5$5", np.nan)]
)
def test_signs_of_currencies(word: str, number: float) -> None:
    assert parse_number(word) == pytest.approx(number, nan_ok=True)


@pytest.mark.parametrize(
    ("word", "number"),
    [("5 EUR", 5), ("USD -1,200.50", -1200.5), ("12 345 CHF", 12345), ("3GBP", 3), ("EUR", np.nan), ("5 EUROS", np.nan),
     ("AUD3", np.nan), ("(5)", -5), ("(1,234.50)", -1234.5), ("($5)", -5), ("$(5)", -5), ("(5) USD", -5),
     ("(a)", np.nan), ("(-5)", np.nan), ("-(5)", np.nan), ("()", np.nan)],
)  # fmt: skip
def test_codes_of_currencies_and_negatives_of_accounts(word: str, number: float) -> None:
    assert parse_number(word) == pytest.approx(number, nan_ok=True)


def test_negatives_of_accounts_and_two_currencies_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"({i}.50),{i % 9} EUR" if i % 2 else f"1{i}.2,{i % 9} USD" for i in range(ROWS)]
    data = read_table(written(tmp_path / "accounts.csv", "paid,price", *rows), target="y")
    said = capsys.readouterr().err
    assert min(data.x.min(), data.x_test.min()) == -39.5
    assert "column 'paid': numbers in parentheses, such as '(1.50)', are read as negative" in said
    assert "column 'price': '1 EUR' and '0 USD' are read as numbers of one unit" in said
