"""Columns of codes, dates, decimals and times, each by what it holds, from text and from typed files."""

from __future__ import annotations

import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_ssvae.data import Schema, decode, encode, read_table
from pyro_ssvae.data.date_cells import date_format, parse_dates
from pyro_ssvae.data.table_files import read_file
from pyro_ssvae.errors import InputError

N = 48


def schema_of(table: Path | pd.DataFrame, **options: object) -> Schema:
    data = read_table(table, target="y", quiet=True, **options)  # type: ignore[arg-type]
    assert data.table is not None
    return data.table.schema


@pytest.mark.parametrize("late", [False, True])
def test_codes_keep_their_zeros(late: bool, tmp_path: Path) -> None:
    codes = ["80331", "04109", "01069", "09111"]
    lines = [f"{codes[0 if late and i < 2000 else i % 4]},{i * 1.5},{i % 7},{'ab'[i % 2]}" for i in range(2060)]
    path = tmp_path / "zip.csv"
    path.write_text("\n".join(["zip,v,n,y", *lines, ""]))
    schema = schema_of(path)
    assert schema.columns[0].words == tuple(sorted(codes))
    assert [column.reads for column in schema.columns[1:]] == ["number", "number"]
    places = encode(path, schema)[0][:, 0]
    assert [schema.columns[0].words[int(place)] for place in places[-4:]] == [codes[i % 4] for i in range(2056, 2060)]
    path.write_text("\n".join(["zip,v,y", *(f"{i % 4}.05,0.{i},{'ab'[i % 2]}" for i in range(N)), ""]))
    assert [column.reads for column in schema_of(path).columns] == ["number", "number"]  # no codes: 0.5, 1.05


def test_codes_in_utf16_and_between_semicolons(tmp_path: Path) -> None:
    lines = [f"{i};{['007', '008', '010'][i % 3]};{'ab'[i % 2]}" for i in range(N)]
    (tmp_path / "a.csv").write_text("\n".join(["v;code;y", *lines]), encoding="utf-16")
    frame = read_file(tmp_path / "a.csv")
    assert list(frame["code"][:3]) == ["007", "008", "010"]
    assert frame["v"].tolist() == list(range(N))


def test_dates_decimals_and_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = datetime.date(2020, 1, 1)
    frame = pd.DataFrame(
        {
            "day": [first + datetime.timedelta(days=i * 5 % 28) for i in range(N)],
            "price": [Decimal(i * 7 % 31) / 4 for i in range(N)],
            "at": [datetime.time(i % 24, 30) for i in range(N)],
            "y": list("ab") * (N // 2),
        }
    )
    frame.loc[3, ["day", "price", "at"]] = None
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_feather(tmp_path / "t.feather")
    wanted = {
        "day": [float("nan") if i == 3 else i * 5 % 28 for i in range(N)],
        "price": [float("nan") if i == 3 else (i * 7 % 31) / 4 for i in range(N)],
        "at": [float("nan") if i == 3 else i % 24 * 3600 + 1800 for i in range(N)],
    }
    for table in (frame, tmp_path / "t.parquet", tmp_path / "t.feather"):
        schema = schema_of(table)
        assert [column.reads for column in schema.columns] == ["date", "number", "number"]
        x, _, _ = encode(table, schema)
        for i, column in enumerate(schema.columns):
            np.testing.assert_allclose(x[:, i] + column.offset, wanted[column.name])
    assert schema_of(frame, columns={"day": "date"}).columns[0].start == "2020-01-01"
    capsys.readouterr()
    (tmp_path / "t.csv").write_text("\n".join(["at,y", *(f"{i % 24:02d}:30:00,{'ab'[i % 2]}" for i in range(N))]))
    data = read_table(tmp_path / "t.csv", target="y")
    assert data.table is not None
    assert "column 'at': times of the day are read as seconds" in capsys.readouterr().err
    assert data.table.ranges == ("00:30 … 23:30",)


def test_every_year_is_a_date(tmp_path: Path) -> None:
    """A count of nanoseconds since 1970 in 64 bits begins in 1677."""
    path = tmp_path / "old.csv"
    path.write_text("\n".join(["t,y", *(f"{1500 + 7 * i}-01-05,{'ab'[i % 2]}" for i in range(N))]))
    data = read_table(path, target="y", quiet=True)
    assert data.table is not None
    column = data.table.schema.columns[0]
    assert (column.reads, column.start, column.whole) == ("date", "1500-01-05", True)
    x, _, _ = encode(path, data.table.schema)
    assert x[1, 0] == (datetime.date(1507, 1, 5) - datetime.date(1500, 1, 5)).days
    assert data.table.ranges == ("1500-01-05 … 1829-01-05",)


def test_years_far_away_in_every_form() -> None:
    """Whatever version of pandas reads them."""
    words = ["1600-01-01 10:30:00+02:00", "9999-12-31", "1677-12-01", "today", "1500-13-01", "9999-W01-1"]
    right = ["1600-01-01T08:30", "9999-12-31", "1677-12-01", "NaT", "NaT", "NaT"]
    np.testing.assert_array_equal(parse_dates(words, ""), np.array(right, "datetime64[us]"))
    words = ["05.01.1500", "25.12.9999", "01.01.2020"]
    assert date_format(words) == ("%d.%m.%Y", 3)
    np.testing.assert_array_equal(
        parse_dates(words, "%d.%m.%Y"), np.array(["1500-01-05", "9999-12-25", "2020-01-01"], "datetime64[us]")
    )


def test_the_levels_of_an_index_are_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"v": np.arange(N) / 3.0, "y": list("ab") * (N // 2)})
    sites, visits = np.repeat(["n", "s"], N // 2), np.tile(np.arange(N // 2), 2)
    for names, found in (
        (["site", "visit"], ["site", "visit", "v", "y"]),
        (["site", None], ["site", "level_1", "v", "y"]),
    ):
        frame.set_index(pd.MultiIndex.from_arrays([sites, visits], names=names)).to_parquet(tmp_path / "t.parquet")
        assert list(read_file(tmp_path / "t.parquet")) == found
    frame.set_index(sites).to_parquet(tmp_path / "t.parquet")
    said: list[str] = []
    assert list(read_file(tmp_path / "t.parquet", note=said.append)) == ["v", "y"]
    assert any("index has no name" in line for line in said)


def test_periods_are_the_dates_that_they_begin_at(tmp_path: Path) -> None:
    frame = pd.DataFrame({"m": pd.period_range("2020-01", periods=N, freq="M"), "y": list("ab") * (N // 2)})
    frame.loc[2, "m"] = pd.NaT
    frame.to_parquet(tmp_path / "t.parquet")
    for table in (frame, tmp_path / "t.parquet"):
        schema = schema_of(table)
        assert [(column.reads, column.start) for column in schema.columns] == [("date", "2020-01-01")]
        x, _, _ = encode(table, schema)
        assert x[:2, 0].tolist() == [0, 31]
        assert bool(x[2, 0].isnan())


def test_times_in_words_are_those_of_a_text_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"at": [f"{i % 24:02d}:30" for i in range(N)], "y": list("ab") * (N // 2)})
    frame.loc[5, "at"] = ""
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    wanted, _, _ = encode(tmp_path / "t.csv", schema_of(tmp_path / "t.csv"))
    for table in (frame, tmp_path / "t.parquet"):
        schema = schema_of(table)
        assert schema.columns == schema_of(tmp_path / "t.csv").columns
        np.testing.assert_array_equal(encode(table, schema)[0], wanted)
    capsys.readouterr()
    read_table(frame, target="y")
    assert "column 'at': times of the day are read as seconds" in capsys.readouterr().err
    with pytest.raises(InputError, match="row 3 is no time of the day: '24:00'; 07:30 or an empty cell"):
        encode(frame.assign(at=["24:00" if i == 3 else at for i, at in enumerate(frame["at"])]), schema)
    assert schema_of(frame.assign(at=[f"1:{i % 7}00" for i in range(N)])).columns[0].reads == "words"
    with pytest.raises(InputError, match="first row 0: '07:30'"):
        read_table(frame.assign(at=["07:30" if i == 0 else str(i) for i in range(N)]), target="y")


@pytest.mark.parametrize(("seconds", "form"), [(False, "%H:%M"), (True, "%H:%M:%S")])
def test_times_come_back_as_they_are_written(seconds: bool, form: str) -> None:
    """A filled or generated time was a number of seconds."""
    at = [f"{i % 24:02d}:{i % 7:02d}" + f":{i % 5:02d}" * seconds for i in range(N)]
    frame = pd.DataFrame({"at": at, "v": np.linspace(0, 1, N), "y": list("ab") * (N // 2)})
    schema = schema_of(frame)
    assert schema.columns[0].format == form
    x, _, _ = encode(frame, schema)
    assert decode(x, schema)["at"].tolist() == at
    offset = schema.columns[0].offset
    rows = torch.tensor([[-9.0, 0.0], [86_399.9, 0.0], [86_340.0 - 40, 0.0], [float("nan"), 0.0]])
    rows[:, 0] -= offset
    wanted = ["00:00:00", "23:59:59", "23:58:20", None] if seconds else ["00:00", "23:59", "23:58", None]
    assert decode(rows, schema)["at"].tolist() == wanted


def test_two_times_of_the_day_are_times() -> None:
    """They were the two words "27000" and "68400", which no cell has, so that all cells were missing."""
    frame = pd.DataFrame({"at": ["07:30", "19:00"] * (N // 2), "v": np.linspace(0, 1, N), "y": list("ab") * (N // 2)})
    schema = schema_of(frame)
    x, _, _ = encode(frame, schema)
    assert (x[:2, 0] + schema.columns[0].offset).tolist() == [27_000, 68_400]
    assert decode(x, schema)["at"].tolist() == frame["at"].tolist()


def test_cells_that_are_lists_are_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"v": np.arange(N) / 3.0, "w": [[1, 2]] * N, "y": list("ab") * (N // 2)})
    frame.to_parquet(tmp_path / "t.parquet")
    for table in (frame, tmp_path / "t.parquet"):
        with pytest.raises(InputError, match="column 'w': row 0 holds a list; a number"):
            read_table(table, target="y", quiet=True)
        assert schema_of(table, columns={"w": "leave-out"}).names == ("v",)


def test_white_space_in_names_is_nothing_in_every_table(tmp_path: Path) -> None:
    frame = pd.DataFrame({" v  1": np.arange(N) / 3.0, "w ": np.arange(N) % 5, "y": list("ab") * (N // 2)})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    tables = (frame, tmp_path / "t.parquet", tmp_path / "t.csv")
    for schema in map(schema_of, tables):
        assert schema.names == ("v 1", "w")
        for table in tables:
            assert bool(encode(table, schema)[0].isfinite().all())


def test_objects_of_several_types_are_what_they_mean() -> None:
    """As pandas keeps what comes from databases and from files of several zones."""
    utc, berlin = datetime.timezone.utc, datetime.timezone(datetime.timedelta(hours=1))
    days = [datetime.datetime(2020, 1, 1 + i * 5 % 28, 1, tzinfo=berlin if i % 2 else utc) for i in range(N)]
    frame = pd.DataFrame(
        {
            "zones": np.array(days, dtype=object),
            "both": np.array([day.replace(tzinfo=None) if i % 3 else day.date() for i, day in enumerate(days)], object),
            "price": [Decimal(i * 7 % 31) / 4 if i % 2 else i * 7 % 31 / 4 for i in range(N)],
            "part": [Fraction(i * 7 % 31, 4) if i % 5 else None for i in range(N)],
            "word": [[b"low", b"mid", b"h\xc3\xb6ch"][i % 3] for i in range(N)],
            "y": list("ab") * (N // 2),
        }
    )
    data = read_table(frame, target="y", quiet=True)
    assert data.table is not None
    columns = data.table.schema.columns
    assert [column.reads for column in columns] == ["date", "date", "number", "number", "words"]
    assert columns[4].words == ("höch", "low", "mid")
    x = encode(frame, data.table.schema)[0]
    assert x[:2, 0].tolist() == pytest.approx([1 / 24, 5], abs=1e-6)
    assert x[:3, 1].tolist() == pytest.approx([0, 5 + 1 / 24, 10 + 1 / 24], abs=1e-6)
    assert x[:3, 2].tolist() == [0, 7 / 4, 14 / 4]
    assert x[1:3, 3].tolist() == [7 / 4, 14 / 4]
    bad = frame.assign(word=[b"\xff\xfe", b"a"] * (N // 2))
    with pytest.raises(InputError, match="column 'word': row 0 holds a bytes"):
        read_table(bad, target="y", quiet=True)


@pytest.mark.parametrize(
    ("form", "first", "step"),
    [
        ("%m/%d/%Y %I:%M %p", "03/01/2020 01:30 PM", "h"), ("%d.%m.%Y %H:%M:%S", "01.03.2020 13:30:00", "h"),
        ("%b %d, %Y", "Mar 01, 2020", "D"), ("%Y-%m", "2020-03", "MS"),
    ],
)  # fmt: skip
def test_dates_as_other_people_write_them(form: str, first: str, step: str) -> None:
    dates = pd.date_range("2020-03-01 13:30" if step == "h" else "2020-03-01", periods=N, freq=step)
    frame = pd.DataFrame({"at": dates.strftime(form), "y": list("ab") * (N // 2)})
    assert frame["at"][0] == first
    schema = schema_of(frame)
    assert schema.columns[0].reads == "date"
    days = (dates - pd.Timestamp("2020-03-01")) / pd.Timedelta("1D")
    assert encode(frame, schema)[0][:, 0].tolist() == pytest.approx(list(days), abs=1e-4)
    if step != "MS":
        assert decode(encode(frame, schema)[0], schema)["at"].tolist() == frame["at"].tolist()


def test_dates_in_several_ways_are_no_categories(capsys: pytest.CaptureFixture[str]) -> None:
    days = pd.date_range("2020-03-01", periods=N)
    frame = pd.DataFrame({"at": np.where(np.arange(N) % 3, days.strftime("%Y-%m-%d"), days.strftime("%d.%m.%Y"))})
    frame["y"] = list("ab") * (N // 2)
    with pytest.raises(InputError, match=r"'at': .* in several ways, such as '2020-03-02' and '01\.03\.2020'"):
        read_table(frame, target="y", quiet=True)
    told = read_table(frame, target="y", columns={"at": "category"}, quiet=True)
    assert told.table is not None
    stand_in = pd.DataFrame({"at": days.strftime("%Y-%m-%d").where(np.arange(N) % 6 > 0, "9999-12-31"), "y": frame.y})
    read_table(stand_in, target="y")
    assert "column 'at': 9999-12-31 in 8 rows is far from all other dates" in capsys.readouterr().err


def test_durations_come_back_from_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"long": pd.to_timedelta(np.arange(N) ** 2 - 600.0, "min"), "y": list("ab") * (N // 2)})
    frame.loc[3, "long"] = pd.NaT
    frame.to_csv(tmp_path / "a.csv", index=False)
    schema = schema_of(frame)
    expected = encode(frame, schema)[0]
    assert expected[0, 0].item() == pytest.approx(-600 / 1440)
    torch.testing.assert_close(encode(tmp_path / "a.csv", schema)[0], expected, equal_nan=True)
    assert schema_of(tmp_path / "a.csv").columns[0].reads == "number"


def test_times_with_and_without_a_zone_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"at": pd.date_range("2020-01-01", periods=N, freq="h", tz="Europe/Berlin")})
    frame["y"] = list("ab") * (N // 2)
    plain = frame.assign(at=frame["at"].dt.tz_localize(None))
    for training, other, said in ((frame, plain, "without a zone, in training with;"),
                                  (plain, frame.astype({"at": str}), "with a zone, in training without;")):  # fmt: skip
        schema = schema_of(training)
        encode(training, schema)
        assert "zone" not in capsys.readouterr().err
        encode(other, schema)
        assert f"column 'at': times {said} those without one are read as UTC" in capsys.readouterr().err
