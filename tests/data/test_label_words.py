"""Labels that are called by words or numbers of their own: in tables, files, arrays, and in the shell."""

from __future__ import annotations

import csv
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from data_makers import npz, picture, refused
from PIL import Image

import pyro_ssvae as ps
from pyro_ssvae.cli.generate import asked_label
from pyro_ssvae.cli.intervene import asked_values
from pyro_ssvae.data import add_labels, load, load_npz, read_table
from pyro_ssvae.data.label_file import names_beside
from pyro_ssvae.data.label_values import by_name, label_values
from pyro_ssvae.data.label_words import attribute_value
from pyro_ssvae.errors import InputError
from pyro_ssvae.experiment.new_labels import array_labels
from pyro_ssvae.labels import AttributeLabels, ClassLabels, describe, restore
from pyro_ssvae.models.saved_config import build

N = 48
PEOPLE = AttributeLabels(["ill", "sex"], [("no", "yes"), ("1", "2")])
STAGES = ClassLabels(["1", "2", "3"])


def people() -> pd.DataFrame:
    rows = np.arange(N)
    words = {"ill": np.array(["no", "yes"])[rows % 2], "sex": (rows // 2 % 2 + 1).astype(str)}
    return pd.DataFrame({"a": np.sin(rows), "b": np.cos(rows), **words})


@pytest.mark.parametrize(
    ("word", "pair", "value"),
    [
        ("1", ("0", "1"), 1), (" Yes ", ("0", "1"), 1), ("1.0", ("0", "1"), 1), ("2", ("0", "1"), None),
        ("1", ("1", "2"), 0), ("2.0", ("1", "2"), 1), ("0", ("1", "2"), None), ("yes", ("1", "2"), None),
        ("Male", ("female", "male"), 1), ("0", ("female", "male"), 0), ("t", ("t", "f"), 0), ("1", ("t", "f"), None),
    ],
)  # fmt: skip
def test_an_attribute_s_own_words_come_first(word: str, pair: tuple[str, str], value: int | None) -> None:
    assert attribute_value(word, pair) == value


def test_words_are_kept_with_the_labels() -> None:
    assert restore(describe(PEOPLE)) == PEOPLE
    assert "words" not in describe(AttributeLabels(["a"]))
    assert AttributeLabels(["a"]).words == (("0", "1"),)
    with pytest.raises(InputError, match="two different words for each of 2"):
        AttributeLabels(["a", "b"], [("no", "yes")])
    assert read_table(people(), target=["ill", "sex"], quiet=True).labels == PEOPLE


def test_a_configuration_that_has_them_with_the_table_alone() -> None:
    """As earlier versions wrote it."""
    data = read_table(people(), target=["ill", "sex"], quiet=True)
    model = ps.create_model("augmented", latent_dim=2, **data.model_options())  # type: ignore[arg-type]
    config = {"labels": describe(AttributeLabels(["ill", "sex"])), "schema": model.schema.to_json()}  # type: ignore[union-attr]
    assert build({**config, "model": model.recipe}, "here").labels == PEOPLE


def test_a_table_s_numbers_are_names_and_an_array_s_are_places(capsys: pytest.CaptureFixture[str]) -> None:
    stage = pd.Series([1, 2, 1, -1])
    assert label_values(stage, STAGES).tolist() == [0, 1, 0, -1]
    assert "1, 2 are read as the classes that are called so" in capsys.readouterr().err
    assert label_values(pd.Series([3.0, np.nan, 1.0]), STAGES).tolist() == [2, -1, 0]
    assert capsys.readouterr().err == ""  # 3 is no place
    assert label_values(pd.Series([1, "2", None], dtype=object), STAGES).tolist() == [0, 1, -1]
    capsys.readouterr()
    assert label_values(stage.to_numpy(), STAGES).tolist() == [1, 2, 1, -1]
    assert "1, 2 are taken for places among the classes, from 0; as text they are names" in capsys.readouterr().err
    assert label_values(np.array([0, 1, 2]), STAGES).tolist() == [0, 1, 2]
    assert label_values(pd.Series([0, 1, 2]), STAGES).tolist() == [0, 1, 2]  # 0 is no name
    assert label_values(torch.tensor([1, 2]), STAGES).tolist() == [1, 2]
    assert label_values(pd.Series([1, 0]), ClassLabels(2)).tolist() == [1, 0]
    assert label_values(torch.tensor([1, 0]), ClassLabels(["1", "0"])).tolist() == [1, 0]
    assert capsys.readouterr().err == ""


def test_names_that_change_places() -> None:
    swapped, turned = ClassLabels(["1", "0"]), ClassLabels(["2", "0", "1"])
    assert label_values(pd.Series([0, 1, 1, -1]), swapped).tolist() == [1, 0, 0, -1]
    assert label_values(pd.Series([0, 1, 2, 2], dtype=object), turned).tolist() == [1, 2, 0, 0]
    y = array_labels(np.array([0, 1, 2]), None, turned, "y")
    assert y is not None
    assert y.tolist() == [1, 2, 0]


def test_attributes_by_the_words_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"sex": ["1", "2", "1"], "ill": ["yes", "no", None]})
    assert label_values(frame, PEOPLE).tolist() == [[1, 0], [0, 1], [-1, 0]]
    numbers = pd.DataFrame({"ill": [1, 0, 1], "sex": [1, 2, -1]})
    assert label_values(numbers, PEOPLE).tolist() == [[1, 0], [0, 1], [1, -1]]
    assert capsys.readouterr().err == ""
    assert label_values(numbers.assign(sex=1), PEOPLE).tolist() == [[1, 0], [0, 0], [1, 0]]
    assert "1 are read as the words of 'sex' that are called so" in capsys.readouterr().err
    with pytest.raises(InputError, match="row 1 is 'three'; an attribute is 0 or 1, yes or no; 1 or 2; no or yes"):
        label_values([["yes", "1"], ["no", "three"]], PEOPLE)


def test_new_arrays_and_data_sets(tmp_path: Path) -> None:
    y = array_labels(np.array([1.0, 2.0, np.nan]), None, STAGES, "y")
    assert y is not None
    assert y.tolist() == [0, 1, -1]
    y = array_labels(np.array([0, 2]), None, STAGES, "y")
    assert y is not None
    assert y.tolist() == [0, 2]
    assert by_name(torch.tensor([0, 1]), ClassLabels(2), ClassLabels(["a", "b"]), "x").tolist() == [0, 1]
    with pytest.raises(InputError, match="the model has no class '1'"):
        by_name(torch.tensor([0, 1]), ClassLabels(2), ClassLabels(["0", "2", "3"]), "x")


def test_a_file_that_a_person_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("index,ill,sex\n0,yes,1\n2,,2\n")
    y = add_labels(path, torch.full((3, 2), -1), torch.arange(3), PEOPLE)
    assert y.tolist() == [[1, 0], [-1, -1], [-1, 1]]
    path.write_text("index,ill,sex\n0,yes,0\n")
    with pytest.raises(InputError, match=r"row 2, column 'sex' is '0'; 1, 2 or nothing \(missing\) is needed$"):
        add_labels(path, y, torch.arange(3), PEOPLE)


def test_the_words_of_the_shell() -> None:
    model = ps.create_model("augmented", input_shape=(3,), labels=PEOPLE, latent_dim=2)
    assert asked_label(model, "ill=Yes,sex=1").tolist() == [1, 0]
    assert asked_label(model, "ill").tolist() == [1, -1]
    with pytest.raises(InputError, match="sex=1 or sex=2 is needed"):
        asked_label(model, "sex=0")
    with pytest.raises(InputError, match="sex=1 is given too"):
        asked_label(model, "sex=1,sex=2")
    assert asked_values(PEOPLE, ("sex=2", "ill=no")) == {"sex": 1, "ill": 0}
    with pytest.raises(InputError, match="sex=1 or sex=2 is needed"):
        asked_values(PEOPLE, ("sex=3",))


ODD = AttributeLabels(["City, State", "a=b", "mood"], [("0", "1"), ("no", "yes"), ("low, flat", "x=1")])


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("a=b=yes,City, State=1", {"a=b": 1, "City, State": 1}),
        ("City, State=0, mood=low, flat,a=b=no", {"City, State": 0, "mood": 0, "a=b": 0}),
        ("mood=x=1", {"mood": 1}),
    ],
)
def test_lists_of_attributes_are_read_alike_by_every_command(word: str, values: dict[str, int]) -> None:
    model = ps.create_model("m2", input_shape=(3,), labels=ODD, latent_dim=2)
    assert asked_label(model, word).tolist() == [values.get(name, -1) for name in ODD.names]
    assert asked_values(ODD, (word,)) == values
    assert asked_values(PEOPLE, ("ill=1,sex=2", "ill=yes")) == {"ill": 1, "sex": 1}


def test_classes_are_read_alike_by_every_command() -> None:
    labels = ClassLabels(["1", "2", "class=a"])
    model = ps.create_model("m2", input_shape=(3,), labels=labels, latent_dim=2)
    for word, k in {"2": 1, "class=2": 1, "2.0": 1, "class=a": 2, "class=class=a": 2}.items():
        assert int(asked_label(model, word)) == k
        assert asked_values(labels, (word,)) == labels.names[k]
    for ask in (lambda: asked_label(model, "4"), lambda: asked_values(labels, ("4",))):
        with pytest.raises(InputError, match="there is no class '4'"):
            ask()


def test_rows_of_arrays_are_named_by_their_number_in_the_file(tmp_path: Path) -> None:
    x = np.arange(N, dtype=np.float32)[:, None] * [1, 10]
    data = load_npz(npz(tmp_path / "a.npz", x=x.astype(np.float32), y=np.arange(N) % 2))
    rows = names_beside(data)["row"]
    assert [float(row) for row in rows] == data.x[:, 0].tolist()
    whole = load_npz(npz(tmp_path / "b.npz", x=x.astype(np.float32), x_test=x[:4].astype(np.float32)))
    assert names_beside(whole) == {}  # index is the row already


def test_a_number_s_forms_are_one_class(tmp_path: Path) -> None:
    lines = [f"{i * 0.5},{['1', '1.0', '2'][i % 3]},{['7.0', '7', '8'][i % 3]}" for i in range(N)]
    (tmp_path / "t.csv").write_text("\n".join(["v,y,c", *lines, ""]))
    data = load(tmp_path / "t.csv", target=["y"], columns=["c=category"])
    assert data.labels.names == ("1", "2")
    assert data.table is not None
    assert data.table.schema.columns[1].words == ("7", "8")
    words = load_npz(npz(tmp_path / "w.npz", x=np.eye(N, 3, dtype=np.float32), y=np.array(["1", "1.0", "2"] * 16)))
    assert words.labels.names == ("1", "2")


def test_words_of_float32_and_of_dates(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"a": np.sin(np.arange(N)), "dose": np.array([0.1, 0.7] * 24, np.float32)})
    data = read_table(frame.assign(y=np.array([0.1, 0.5, 1.5] * 16, np.float32)), target="y")
    assert data.labels.names == ("0.1", "0.5", "1.5")
    assert data.table is not None
    assert data.table.schema.columns[1].words == ("0.1", "0.7")
    assert not data.x.isnan().any()
    days = read_table(frame.assign(y=pd.to_datetime(["2020-01-01", "2020-01-02"] * 24)), target="y")
    assert days.labels.names == ("2020-01-01", "2020-01-02")
    assert "missing" not in capsys.readouterr().err
    ids = read_table(frame.assign(n=np.arange(N, dtype=np.float32) + np.float32(0.1), y=["a", "b"] * 24),
                     target="y", id="n", quiet=True)  # fmt: skip
    assert ids.ids is not None
    assert set(ids.ids) < {f"{i}.1" for i in range(N)}


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_missing_labels_of_an_unsigned_type(dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    y = np.where(np.arange(N) % 4, -1, np.arange(N) % 3).astype(dtype)
    path = npz(tmp_path / "a.npz", x=np.eye(N, 3, dtype=np.float32), y=y)
    if dtype == "uint8":
        load_npz(path)
        assert "y: 255 is taken for a class; as a missing label, -1, it needs a signed type" in capsys.readouterr().err
    else:
        refused(lambda: load_npz(path), "65535")


def test_classes_of_the_test_alone_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = np.eye(N, 3, dtype=np.float32), np.arange(N) % 3
    load_npz(npz(tmp_path / "a.npz", x=x, y=y, x_test=x, y_test=y + 1))
    assert "'3' is in the test alone: no label teaches it" in capsys.readouterr().err
    load_npz(npz(tmp_path / "b.npz", x=x, y=y - y - 1, x_test=x, y_test=y))  # no label at all: nothing is taught
    assert "alone" not in capsys.readouterr().err
    table = pd.DataFrame({"v": np.sin(np.arange(N)), "y": ["a", "b"] * 20 + ["c"] * 8})
    read_table(table.assign(split=["train"] * 40 + ["test"] * 8), target="y")
    assert "--target y: 'c' is in the test alone" in capsys.readouterr().err


def test_pictures_that_are_not_read_as_they_may_be_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(6):
        picture(tmp_path / "mixed" / "ab"[i % 2] / f"{i}.{['png', 'jfif'][i // 4]}", value=40 * i)
    (tmp_path / "mixed" / "a" / "7.HEIC").write_bytes(b"0")
    data = load(tmp_path / "mixed")
    assert len(data.x) + len(data.x_test) == 6
    assert "1 .heic are not read; .bmp, .gif" in capsys.readouterr().err
    (tmp_path / "none" / "a").mkdir(parents=True)
    (tmp_path / "none" / "a" / "1.avif").write_bytes(b"0")
    refused(lambda: load(tmp_path / "none"), "no image in it; 1 .avif are not read")
    for i in range(4):
        path = tmp_path / "deep" / "ab"[i % 2] / f"{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 6), 70_000 * (i % 2) - 5, np.int32)).save(path)
    load(tmp_path / "deep")
    assert "pixels go from -5 to 69995: below 0 is read as black, above 65535 as white" in capsys.readouterr().err


def test_colours_of_16_bits_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for i in range(4):
        path = tmp_path / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        rows = zlib.compress(6 * (b"\0" + 18 * struct.pack(">H", 500 + 1000 * i)))
        header = struct.pack(">IIBBBBB", 6, 6, 16, 2, 0, 0, 0)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    load(tmp_path)
    assert "4 images of 16 bits a colour: of each the upper 8 are read" in capsys.readouterr().err


def test_units_and_dates_that_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    y = ["a", "b"] * 24
    read_table(pd.DataFrame({"share": [f"{i}%" if i % 3 else f"0.{i}" for i in range(10, 58)], "y": y}), target="y")
    said = capsys.readouterr().err
    assert "'10%'" in said
    assert "'0.12'" in said
    assert "are read as numbers of one unit" in said
    days = pd.DataFrame({"day": [20240101 + 100 * (i % 12) + i % 28 for i in range(N)], "y": y})
    read_table(days, target="y")
    assert "column 'day': 20240101 is taken for a number; as a date: --columns day=date" in capsys.readouterr().err
    told = read_table(days, target="y", columns={"day": "date"}, quiet=True)
    assert told.table is not None
    assert told.table.schema.columns[0].start == "2024-01-01"
    (tmp_path / "sep.csv").write_text("sep=;\na;y\n1;x\n2;z\n")
    refused(lambda: load(tmp_path / "sep.csv", target=["y"]), "line 1 is 'sep=;', a spreadsheet's hint")
    kilos = pd.DataFrame({"weight": [f"{i} kg" for i in range(N)], "y": y})
    refused(lambda: read_table(kilos, target="y", quiet=True), "no column is left", "'weight': 48 different words")


def test_columns_of_arrow_in_a_data_frame() -> None:
    pa = pytest.importorskip("pyarrow")
    days = pd.to_datetime("2020-01-01") + pd.to_timedelta(np.arange(N) % 28, "D")
    table = pa.table({
        "day": pa.array([d.date() for d in days]), "long": pa.array(list(pd.to_timedelta(np.arange(N) * 7 % 50, "h"))),
        "cost": pa.array(np.round(np.sin(np.arange(N)), 2).astype(str)).cast(pa.decimal128(5, 2)),
        "y": ["a", "b"] * 24,
    })  # fmt: skip
    plain, arrow = (read_table(t, target="y", quiet=True) for t in (table, table.to_pandas(types_mapper=pd.ArrowDtype)))
    assert plain.table is not None
    assert arrow.table is not None
    assert arrow.table.schema == plain.table.schema
    assert [column.name for column in arrow.table.schema.columns] == ["day", "long", "cost"]
    torch.testing.assert_close(arrow.x, plain.x)


def test_predictions_have_the_words(tmp_path: Path) -> None:
    from pyro_ssvae.experiment.columns import label_words

    model = ps.create_model("augmented", input_shape=(2,), labels=PEOPLE, latent_dim=2)
    columns = label_words(model, torch.tensor([[1, 0], [-1, 1]]))
    assert {name: list(column) for name, column in columns.items()} == {"ill": ["yes", None], "sex": ["1", "2"]}
    assert next(csv.reader(["ill,sex"])) == list(columns)


def test_a_column_of_classes() -> None:
    """As scikit-learn and reshape(-1, 1) make it."""
    for y in (np.array([[1], [2], [3]]), torch.tensor([[1], [2], [3]]), np.array([["2"], ["3"], ["1"]])):
        assert label_values(y, STAGES).dim() == 1
    assert label_values(np.array([["2"], ["3"], ["1"]]), STAGES).tolist() == [1, 2, 0]
    assert label_values(np.array([[1], [0]]), AttributeLabels(["a"])).shape == (2, 1)
