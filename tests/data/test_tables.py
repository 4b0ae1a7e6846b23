"""From tables to data sets and models, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from data_makers import refused

import pyro_ssvae as ps
from pyro_ssvae.data import Dataset, Schema, decode, encode, read_table
from pyro_ssvae.data.schema import Column, restore_schema
from pyro_ssvae.data.table_report import show_kinds
from pyro_ssvae.data.tables import as_given
from pyro_ssvae.experiment.columns import filled, tidy

N = 120


def people(n: int = N, seed: int = 0) -> pd.DataFrame:
    """A table with columns of every kind, a tenth of the cells missing; smoking and age say who is ill."""
    g = np.random.default_rng(seed)
    smoker, age = g.integers(0, 2, n), g.normal(50, 12, n).round(1)
    ill = (smoker + (age - 50) / 12 + 0.3 * g.normal(size=n)) > 0.5
    frame = pd.DataFrame(
        {
            "person": [f"p{i}" for i in range(n)],
            "age": age,
            "visits": g.poisson(1 + 2 * ill),
            "job": np.array(["clerk", "farmer", "none of these"])[g.integers(0, 3, n)],
            "smoker": np.array(["no", "yes"])[smoker],
            "income": np.exp(g.normal(10, 1, n)).round(2),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(g.integers(0, 900, n), unit="D"),
            "ill": np.where(ill, "ill", "well"),
        }
    )
    for name in frame.columns[1:-1]:
        frame[name] = frame[name].mask(g.random(n) < 0.1)
    return frame


def made(frame: pd.DataFrame | None = None, **options: Any) -> Dataset:
    return read_table(people() if frame is None else frame, target="ill", id="person", quiet=True, **options)


def schema_of(data: Dataset) -> Schema:
    assert data.table is not None
    return data.table.schema


def test_every_row_is_there_once_with_its_label_and_name() -> None:
    frame, data = people(), made()
    schema = schema_of(data)
    assert schema.kinds == ("normal", "negative-binomial", "categorical:3", "bernoulli", "log-normal", "normal")
    assert data.model_options()["missing"] is True
    assert data.ids is not None
    assert data.ids_test is not None
    assert len(data.ids_test) == len(data.x_test) == 24
    ids = [*data.ids, *data.ids_test]
    assert sorted(ids) == sorted(frame["person"])
    x, y = torch.cat([data.x, data.x_test]), torch.cat([data.y, data.y_test])
    order = [ids.index(person) for person in frame["person"]]
    np.testing.assert_allclose(x[order, 0].numpy(), frame["age"].to_numpy(), rtol=1e-6)
    assert [data.labels.names[k] for k in y[order].tolist()] == frame["ill"].tolist()


def test_decode_is_the_way_back(tmp_path: Path) -> None:
    frame = people()
    schema = schema_of(made())
    x, y, ids = encode(frame, schema)
    assert y is not None
    assert ids == frame["person"].tolist()
    back = decode(x, schema)
    assert list(back.columns) == ["age", "visits", "job", "smoker", "income", "since"]
    for name in ("job", "smoker"):
        assert back[name].fillna("").tolist() == frame[name].fillna("").tolist()
    assert back["visits"].tolist() == frame["visits"].astype("Int64").tolist()
    np.testing.assert_allclose(back["income"], frame["income"], rtol=1e-5)
    assert back["since"].dropna().tolist() == frame["since"].dropna().dt.strftime("%Y-%m-%d").tolist()
    again, _, _ = encode(back, schema)
    torch.testing.assert_close(again, x, equal_nan=True)
    back.to_csv(tmp_path / "back.csv", index=False)
    from_file, none, no_ids = encode(tmp_path / "back.csv", schema)
    torch.testing.assert_close(from_file, x, equal_nan=True)
    assert none is None
    assert no_ids is None
    refused(lambda: decode(x[:, 1:], schema), "[120, 5]", "[N, 6]")


def test_another_table_is_read_alike(capsys: pytest.CaptureFixture[str]) -> None:
    frame, schema = people(), schema_of(made())
    x, y, _ = encode(frame, schema)
    shuffled = frame[list(reversed(frame.columns))].assign(more=1)
    other, other_y, _ = encode(shuffled, schema)
    torch.testing.assert_close(other, x, equal_nan=True)
    assert torch.equal(y, other_y)  # type: ignore[arg-type]
    assert "no column 'more'" in capsys.readouterr().err
    refused(lambda: encode(frame.drop(columns="job"), schema), "no column 'job'", "needs it")
    refused(lambda: encode(frame.drop(columns=["age", "job"]), schema), "no column 'age', and 1 other (", "needs it")
    refused(lambda: encode(frame.rename(columns={"age": "Age"}), schema), "no column 'age'", "'Age'")
    refused(lambda: encode(frame.assign(age="old"), schema), "column 'age'", "row 0", "'old'")
    refused(lambda: encode(frame.assign(since="today"), schema), "column 'since'", "row 0", "date")
    refused(lambda: encode(frame.assign(ill="dead"), schema), "column 'ill'", "'dead'", "'")
    refused(lambda: encode(frame.rename(columns={"job": "age"}), schema), "two columns", "'age'")


def test_what_training_never_saw_is_missing_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    frame, schema = people(8), schema_of(made())
    frame["job"] = ["clerk", "pilot", "Clerk", None, "farmer", "?", "none of these", "clerk"]
    frame["smoker"] = ["Yes", "N", "true", "0", "1", "maybe", None, "no"]
    frame["visits"], frame["income"] = [1.0, -1.0, 2.5, 3, 4, 5, 6, 7], [-5.0, 0, 1, 2, 3, 4, 5, 6]
    x, _, _ = encode(frame, schema)
    nan = float("nan")
    for column, expected in [
        (1, [1.0, nan, nan, 3, 4, 5, 6, 7]),
        (2, [0.0, nan, 0, nan, 1, nan, 2, 0]),
        (3, [1.0, 0, 1, 0, 1, nan, nan, 0]),
        (4, [nan, 0.0, 1, 2, 3, 4, 5, 6]),
    ]:
        torch.testing.assert_close(x[:, column], torch.tensor(expected), equal_nan=True)
    said = capsys.readouterr().err
    income = "column 'income': row 0 is -5, outside of 'log-normal'; a missing cell"
    visits = "row 1 is -1, outside of 'negative-binomial'; 2 missing cells"
    for words in ("'pilot' not in training", "'maybe'", visits, income):
        assert words in said
    assert len(said.splitlines()) == 4


def test_what_a_told_likelihood_does_not_take_is_missing() -> None:
    n = np.arange(30)
    columns = {"a": "continuous-bernoulli", "b": "binomial", "c": "bernoulli"}
    frame = pd.DataFrame({"a": (n + 0.5) / 30, "b": (n / 29) ** 2, "c": n / 29, "t": ["x", "y"] * 15})
    schema = schema_of(read_table(frame, target="t", columns=columns, quiet=True))
    x, _, _ = encode(frame.assign(a=frame.a + 0.5, b=-frame.b, c=frame.c.mask(n == 3)), schema)
    gaps = torch.tensor([frame.a > 0.5, frame.b > 0, n == 3]).T
    assert torch.equal(x.isnan(), gaps)


def test_the_schema_survives_json() -> None:
    schema = schema_of(made())
    saved = json.loads(json.dumps(schema.to_json()))
    assert restore_schema(saved) == schema
    for wrong in (None, {}, {**saved, "columns": []}, {**saved, "columns": [{"name": 1}]}, {**saved, "id": 3}):
        refused(lambda wrong=wrong: restore_schema(wrong), "schema: damaged")
    broken = json.loads(json.dumps(saved))
    broken["columns"][0]["reads"] = "code"
    refused(lambda: restore_schema(broken), "schema: damaged", "age")


def test_targets_are_any_words() -> None:
    frame = pd.DataFrame({"a": np.arange(24) ** 1.5})
    for words, names in [
        ([1, 2, 10], ("1", "2", "10")),
        ([1.0, 2.0, None], ("1", "2")),
        (["01", "2", "unknown"], ("2", "01")),
        ([True, False, True], ("False", "True")),
        ([-1, 1, 1], ("-1", "1")),
        ([-1, 0, 1], ("0", "1")),
        ([-2, -1, 0, 1], ("-1", "-2", "0", "1")),  # a scale
        (["Yes", "no", "YES", "No"], ("no", "Yes")),
        (["True", "TRUE", "False", "false"], ("False", "True")),
        (["x ", " x", "y"], ("x", "y")),
    ]:
        data = read_table(frame.assign(t=(words * 24)[:24]), target="t", quiet=True)
        assert set(data.labels.names) == set(names)
    two = frame.assign(s=["no", "yes", None] * 8, m=["f", "m"] * 12)
    data = read_table(two, target=["s", "m"], quiet=True)
    assert isinstance(data.labels, ps.AttributeLabels)
    assert schema_of(data).targets[1].words == ("f", "m")
    y = torch.cat([data.y, data.y_test])
    assert int((y[:, 0] == -1).sum()) == 8
    assert int(y[:, 1].sum()) == 12


def test_a_target_of_nearly_as_many_values_as_rows_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Prices, or names, of a small table."""
    frame = pd.DataFrame({"a": np.arange(40) ** 1.5, "price": np.arange(40) % 30 + 0.5, "kind": np.arange(40) % 12})
    read_table(frame, target="price")
    assert "--target price: 30 different values in 40 rows are taken for classes" in capsys.readouterr().err
    read_table(frame, target="kind")
    assert "different values" not in capsys.readouterr().err


def test_words_that_look_the_same_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"a": np.arange(24) ** 1.5, "b": ["A", "\u0410", "red", "\ufeffred"] * 6})
    read_table(frame.assign(t=["cat", "cat\u200b", "dog", "owl"] * 6), target="t")
    said = capsys.readouterr().err
    assert r"column 'b': 'A' and '\u0410', 'red' and '\ufeffred' are different words" in said
    assert r"--target t: 'cat' and 'cat\u200b' are different words" in said


def test_a_cross_for_yes_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"a": np.arange(24) ** 1.5, "b": ["x", "", None] * 8, "t": ["p", "q"] * 12})
    read_table(frame, target="t")
    assert "row that has one ('x'); where the 16 empty cells mean no, write no there" in capsys.readouterr().err


def test_whole_numbers_that_rise_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    rising = np.arange(60) ** 2
    frame = pd.DataFrame(
        {"case": rising, "size": rising[::-1], "level": np.repeat(np.arange(30), 2), "y": ["a", "b"] * 30}
    )
    read_table(frame, target="y")
    err = capsys.readouterr().err
    assert "column 'case': whole numbers that rise from row to row; where they name the rows: --id case" in err
    assert err.count("that rise") == 1


def test_a_row_of_sums_is_said_and_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would be a point like the others: a spreadsheet's last row."""
    rows = [f"{name},{i + 0.5},{i % 4},{'ab'[i % 2]}" for i, name in enumerate("ABCDEFGHIJKLMNOPQRST")]
    sums = f",{sum(i + 0.5 for i in range(20))},{sum(i % 4 for i in range(20))},"
    path = tmp_path / "t.csv"

    def said(*last: str) -> str:
        path.write_text("\n".join(["name,cost,items,kind", *rows, *last, ""]))
        data = read_table(path, target="kind")
        assert len(data.x) + len(data.x_test) == 20 + len(last)
        return capsys.readouterr().err

    for word in ("Total", "GESAMT", "Summe:"):
        assert f"row 20 is '{word}' in column 'name'" in said(f"{word}{sums}")
        assert f"row 20 is '{word}' in column 'name'" in said(f"{word},7,7,")
    assert "row 20 holds the sums of the rows above" in said(sums)
    for other in ((), ("U,7.5,2,a",), ("U,200,2,a",), ("Total,1,1,a", "V,1,1,a")):
        assert "take it out" not in said(*other)
    schema = schema_of(read_table(path, target="kind", quiet=True))
    capsys.readouterr()
    path.write_text("\n".join(["name,cost,items,kind", *rows, f"Total{sums}", ""]))
    assert len(encode(path, schema)[0]) == 21
    assert "row 20 is 'Total'" in capsys.readouterr().err


@pytest.mark.parametrize(("cell", "why"), [(np.inf, "infinite"), (1e308, "below 3.4e38"), (1j, "complex")])
def test_numbers_without_a_sum_are_refused_in_one_line(
    cell: complex, why: str, recwarn: pytest.WarningsRecorder
) -> None:
    frame = pd.DataFrame({"a": [cell, -cell, cell, cell, *range(20)], "t": ["p", "q"] * 12})
    refused(lambda: read_table(frame, target="t"), "column 'a'", why)
    assert not recwarn.list


def test_levels_of_an_index_that_are_asked_for(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(24) ** 1.5, "b": np.arange(24) ** 0.5, "t": ["p", "q"] * 12})
    frame["n"] = [f"r{i}" for i in range(24)]
    data = read_table(frame.set_index(["n", "t"]), target="t", id="n", quiet=True)
    assert (schema_of(data).names, data.labels.names) == (("a", "b"), ("p", "q"))
    assert data.ids is not None
    new = frame.set_index("b")
    torch.testing.assert_close(encode(new, schema_of(data))[0], encode(frame, schema_of(data))[0])
    arrow = pa.Table.from_pandas(new)
    torch.testing.assert_close(encode(arrow, schema_of(data))[0], encode(frame, schema_of(data))[0])
    numbered = pd.DataFrame({0: frame["a"], 1: frame["t"]})
    assert read_table(numbered, target=1, quiet=True).labels.names == ("p", "q")  # type: ignore[arg-type]


def test_words_that_may_mean_the_same_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"a": np.arange(24) ** 1.5, "b": ["Red", "red", "blue", "Blue"] * 6})
    answers = frame.assign(c=["Yes", "no", "YES", "No"] * 6)
    data = read_table(answers.assign(t=["Cat", "cat", "Dog", "dog"] * 6), target="t")
    said = capsys.readouterr().err
    assert "column 'b': 'Blue' and 'blue', 'Red' and 'red' are different words" in said
    assert "--target t: 'Cat' and 'cat', 'Dog' and 'dog' are different words" in said
    assert "column 'c'" not in said
    assert data.labels.names == ("Cat", "Dog", "cat", "dog")
    x, _, _ = encode(answers, schema_of(data))
    assert x[:4, 2].tolist() == [1, 0, 1, 0]
    read_table(frame.assign(t=[-1, 1] * 12), target="t")
    assert "--target t: -1 is taken for a value;" in capsys.readouterr().err


def test_faults_of_the_options_are_named() -> None:
    frame = people()
    for options, words in [
        ({"target": "il"}, ["--target", "'il'", "'ill'"]),
        ({"target": ["ill", "ill"]}, ["twice"]),
        ({"target": "ill", "id": "ill"}, ["--id ill", "target too"]),
        ({"target": "ill", "id": "persn"}, ["--id", "'person'"]),
        ({"target": "ill", "columns": ["agee=count"]}, ["--columns", "'age'"]),
        ({"target": "ill", "columns": ["age"]}, ["age=count"]),
        ({"target": "ill", "columns": {"ill": "count"}}, ["it is the target"]),
        ({"target": ["ill", "job"]}, ["--target job", "3 different words"]),
        ({"target": "income"}, ["--target income", "different values", "classes"]),
    ]:
        refused(lambda options=options: read_table(frame, quiet=True, **options), *words)  # type: ignore[arg-type]
    refused(lambda: made(frame.assign(ill="ill")), "only one value", "'ill'")
    one = made(frame.assign(ill=np.where(np.arange(len(frame)) % 2, "ill", None)))  # rows without it have no label
    assert list(one.labels.names) == ["ill"]
    assert set(one.y.tolist()) == {-1, 0}
    refused(lambda: made(frame.assign(ill=None)), "no value in any row")
    refused(lambda: made(frame.assign(person="p")), "--id person", "rows 0 and 1", "'p'")
    refused(lambda: made(frame.assign(person=frame["person"].mask(frame.index == 7))), "row 7 has none")
    refused(lambda: read_table(frame[["ill", "person"]], target="ill", id="person", quiet=True), "no column is left")


def test_a_split_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    frame = people().assign(Split=["train", "Test", ""] * 40)
    data = made(frame)
    assert len(data.x_test) == 40
    assert "Split" not in schema_of(data).names
    other = made(frame.assign(Split=["left", "right", "up"] * 40))
    assert "Split" in schema_of(other).names
    refused(lambda: made(frame.assign(Split="test")), "'Split'", "every row")
    capsys.readouterr()
    three = read_table(frame.assign(Split=["train", "val", "test"] * 40), target="ill", id="person")
    assert (len(three.x), len(three.x_test), "Split" in schema_of(three).names) == (80, 40, False)
    assert "column 'Split': 'val' is taken for part of the training" in capsys.readouterr().err
    assert len(made(frame.assign(Split=["train", "valid", "train"] * 40)).x_test) == 40
    read_table(people(), target="ill", id="person")
    assert "24 of 120 rows are held out for the test, 24 of them with a label" in capsys.readouterr().err


def test_rows_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    frame = people()
    frame.iloc[5, 1:7] = None
    data = read_table(frame, target="ill", id="person")
    assert data.table is not None
    assert "p5" not in [*(data.ids or ()), *(data.ids_test or ())]
    assert len(data.x) + len(data.x_test) == N - 1
    assert "first row 5" in capsys.readouterr().err


def test_kinds_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    data = made()
    assert data.table is not None
    show_kinds(data.table)
    said = capsys.readouterr().err
    for words in ("age", "count", "category of 3", "clerk, farmer", "2020-01", "ill, well", "log-normal"):
        assert words in said
    wide = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 50))).assign(t=["p", "q"] * 10)
    table = read_table(wide, target="t", quiet=True).table
    assert table is not None
    show_kinds(table)
    assert "50" in capsys.readouterr().err


def test_a_model_takes_the_table_itself(tmp_path: Path) -> None:
    """In any order of the columns, in every verb, and after it was saved; it learns what the table shows."""
    frame, data = people(300), made(people(300))
    vae = ps.create_model("augmented", **data.model_options(), latent_dim=3)
    some = frame.assign(ill=frame["ill"].mask(np.arange(300) % 4 > 0))
    ps.fit(vae, some, epochs=40, progress=False, seed=0)
    x, y, _ = encode(frame, schema_of(data))
    probs = vae.predict_proba(x)
    torch.testing.assert_close(vae.predict_proba(frame[list(reversed(frame.columns))]), probs)
    assert float((vae.predict(x) == y).double().mean()) > 0.85  # the commoner class has .6; chance .05 wide
    ps.save(vae, tmp_path / "run")
    again = ps.load(tmp_path / "run")
    assert isinstance(again, ps.Model)
    assert again.schema == schema_of(data)
    frame.to_csv(tmp_path / "new.csv", index=False)
    torch.testing.assert_close(again.predict_proba(str(tmp_path / "new.csv")), probs)  # type: ignore[attr-defined]
    full = ps.impute(vae, frame, num_samples=5)
    assert bool(full.isfinite().all())
    assert decode(vae.generate(5), schema_of(data)).notna().all().all()  # type: ignore[operator]
    refused(lambda: vae.predict(frame.drop(columns="age")), "'age'")
    refused(lambda: ps.create_model("vae", input_shape=3, schema=schema_of(data)), "schema", "6 columns")


def test_words_that_may_mean_a_gap_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    n = 60
    frame = pd.DataFrame(
        {
            "smoke": [["none", "light", "heavy", "?"][i % 4] for i in range(n)],
            "test": ["+-"[i // 2 % 2] for i in range(n)],
            "tooth": [["present", "missing"][i // 3 % 2] for i in range(n)],
            "dose": [["none", "1.5", "2.5", "3", "-"][i % 5] for i in range(n)],
            "old": [["-", "a", "b"][i % 3] for i in range(n)],
            "y": ["ab"[i % 2] for i in range(n)],
        }
    )
    data = read_table(frame, target="y")
    said = capsys.readouterr().err
    words = {column.name: column.words for column in schema_of(data).columns}
    assert words == {
        "smoke": ("heavy", "light", "none"),
        "test": ("-", "+"),
        "tooth": ("missing", "present"),
        "dose": (),
        "old": ("a", "b"),
    }
    missing = {column.name: column.missing for column in schema_of(data).columns}
    assert missing == pytest.approx({"smoke": 0.25, "test": 0, "tooth": 0, "dose": 0.4, "old": 1 / 3})
    for line in (
        "column 'smoke': '?' means a missing cell",
        "column 'smoke': 'none' is taken for a category",
        "column 'tooth': 'missing' is taken for a category",
        "column 'old': '-' means a missing cell",
    ):
        assert line in said
    assert "column 'test'" not in said
    assert "column 'dose'" not in said
    x, _, _ = encode(frame, schema_of(data))
    np.testing.assert_array_equal(x[:4, 0], [2, 1, 0, np.nan])
    np.testing.assert_array_equal(x[:4, 1], [1, 1, 0, 0])


@pytest.mark.parametrize(
    ("low", "high", "suffix", "words"),
    [
        ("0.50", "1.00", ".csv", ("0.5", "1")),
        ("1,50", "2,50", ".tsv", ("1.5", "2.5")),
        ("5 %", "10 %", ".csv", ("5", "10")),
        ("1", "2", ".csv", ("1", "2")),
    ],
)
def test_two_numbers_are_the_same_when_read_again(
    low: str, high: str, suffix: str, words: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = "\t" if suffix == ".tsv" else ","
    path = tmp_path / f"dose{suffix}"
    rows = [mark.join([(low, high)[i % 3 % 2], str(i % 7), "ab"[i % 2]]) for i in range(60)]
    path.write_text("\n".join([mark.join(["dose", "v", "y"]), *rows, ""]))
    schema = schema_of(read_table(path, target="y", quiet=True))
    assert schema.columns[0].words == words
    x, _, _ = encode(path, schema)
    assert x[:, 0].tolist() == [i % 3 % 2 for i in range(60)]
    assert "not in training" not in capsys.readouterr().err


def test_whole_numbers_as_classes_with_and_without_their_point(tmp_path: Path) -> None:
    """Where a column has gaps pandas writes 1.0, else 1."""
    frame = pd.DataFrame({"v": np.arange(60) % 7, "grade": 1.0 + np.arange(60) % 2})
    gaps, whole = tmp_path / "gaps.csv", tmp_path / "whole.csv"
    frame.astype({"grade": int}).to_csv(whole, index=False)
    frame.assign(grade=frame["grade"].mask(np.arange(60) % 3 == 0)).to_csv(gaps, index=False)
    for old, new in ((gaps, whole), (whole, gaps), (gaps, gaps)):
        schema = schema_of(read_table(old, target="grade", quiet=True))
        _, y, _ = encode(new, schema)
        assert y is not None
        assert y[:6].tolist() == ([0, 1, 0, 1, 0, 1] if new == whole else [-1, 1, 0, -1, 0, 1])
    codes = pd.DataFrame({"v": np.arange(60) % 7, "grade": ["007", "1"] * 30})
    schema = schema_of(read_table(codes, target="grade", quiet=True))
    refused(lambda: encode(pd.DataFrame({"v": [1], "grade": ["7"]}), schema), "'7' is no class")


def test_dates_are_decoded_to_their_unit_in_every_year() -> None:
    start = "1700-03-01"
    for form, whole, days, word in (
        ("", True, 116_000.2, "2017-10-05"),
        ("%m/%d/%Y %H:%M", False, 100 + (8 * 60 + 29.6) / 1440, "06/09/1700 08:30"),
        ("%d.%m.%Y", False, 99.7, "09.06.1700"),
        ("", False, 10.5 - 0.4 / 86_400, "1700-03-11T12:00:00"),
        ("", True, 1e9, "9999-12-31"),
        ("", True, -1e9, "0001-01-01"),
    ):
        column = Column("t", "normal", "date", whole=whole, start=start, format=form)
        cells = decode(np.array([[days], [np.nan]]), Schema((column,)))["t"]
        assert cells[0] == word
        assert cells.isna().tolist() == [False, True]


@pytest.mark.parametrize("of_type", [False, True])
def test_a_filled_time_with_a_zone_says_its_zone(of_type: bool) -> None:
    """It came back without one, among cells that have theirs."""
    words = [f"2024-03-{1 + i % 28:02d}T{i % 24:02d}:30:00+02:00" for i in range(60)]
    frame = pd.DataFrame({"at": words, "v": np.arange(60) / 7, "y": list("ab") * 30})
    if of_type:
        frame["at"] = pd.to_datetime(frame["at"])
    schema = schema_of(read_table(frame, target="y", quiet=True))
    assert schema.columns[0].zoned
    assert restore_schema(schema.to_json()) == schema
    x, _, _ = encode(frame, schema)
    cells = decode(x, schema)["at"]
    assert cells[1] == "2024-03-01T23:30:00Z"  # 01:30 of the second, two hours east
    assert encode(frame.assign(at=cells), schema)[0].allclose(x, atol=1e-5)
    days = Column("t", "normal", "date", whole=True, zoned=True, start="2024-01-01")
    assert decode(np.array([[1.0]]), Schema((days,)))["t"].tolist() == ["2024-01-02T00:00:00Z"]


def test_whole_numbers_beyond_64_bits_are_decoded_and_filled() -> None:
    column = Column("n", "normal", "number", whole=True, offset=2.0**64 - 2.0**50)
    cells = decode(np.array([[-(2.0**40)], [np.nan]]), Schema((column,)))["n"]
    assert cells[0] == 2.0**64 - 2.0**50 - 2.0**40
    for given in (
        pd.Series([2**63 + 2**40, 2**64 - 2**50, None], dtype="UInt64"),
        pd.Series([2**63 - 2**20, 2**62, None], dtype="Int64"),
    ):
        full = filled(as_given(given, column, "t", None), np.full(3, 2.0**64 - 2.0**50))
        assert full.tolist() == [*given[:2].astype(float), 2.0**64 - 2.0**50]


def test_numbers_are_written_with_the_digits_of_float32_whatever_their_size() -> None:
    for numbers, offset in (([36.4, 45.1, 0.1126, 5.4e8, 1e-30], 0.0), ([0.25, -3.1, 900.5], 1.6e9)):
        x = np.array([*numbers, np.nan], np.float32).astype(np.float64)
        cells = tidy(pd.Series(x + offset), offset)
        assert cells[:-1].tolist() == [number + offset for number in numbers]
        assert np.isnan(cells.iloc[-1])
    assert tidy(pd.Series(["a"])).tolist() == ["a"]


def test_numbers_that_may_mean_a_gap_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    """-999 among ages would be learnt as an age: it is said, and nothing is changed."""
    n, some = 60, np.arange(60)
    frame = pd.DataFrame(
        {
            "age": np.where(some % 9 == 0, -999, 20 + some),
            "pulse": np.where(some % 10 == 0, 1000.5, 50 + some**1.1),  # no nines, and often
            "visits": np.where(some % 7 == 0, -9, some % 5 + some % 3),
            "score": np.where(some % 20 == 0, 99, some % 4 + 1),
            "grade": some % 10,  # up to 9
            "gain": np.where(some % 4 == 0, 5000.0 + some, 0.0),  # an amount
            "weight": np.where(some == 7, 999.0, 60.0 + some),  # once: an outlier
            "y": ["ab"[i % 2] for i in range(n)],
        }
    )
    data = read_table(frame, target="y")
    said = capsys.readouterr().err
    for line in ("'age': -999 in 7", "'pulse': 1000.5 in 6", "'visits': -9 in 9", "'score': 99 in 3"):
        assert f"column {line} rows is far from all other numbers" in said
    assert all(f"'{name}'" not in said for name in ("grade", "gain", "weight"))
    assert float(data.x.min()) == -999


def test_classes_that_may_mean_no_label_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"a": np.arange(24) ** 1.5, "b": np.arange(24) % 5})
    for words, found in (
        (["cat", "dog", "TBD"], "'TBD'"),
        (["cat", "dog", "Not determined"], "'Not determined'"),
        (["cat", "dog", "999"], "'999'"),
        (["0", "1", "-9"], "'-9'"),
        (["7", "8", "9"], ""),
        (["cat", "dog", "8"], ""),
    ):
        data = read_table(frame.assign(t=words * 8), target="t")
        assert set(data.labels.names) == set(words)  # type: ignore[union-attr]
        said = f"--target t: {found} is taken for a class; where it means a missing label" if found else ""
        assert said in (err := capsys.readouterr().err)
        assert bool(found) == ("is taken for a class" in err)
