"""New data are read as training reads its own: arrays by the same names, folders alike; given cells stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from data_makers import folder, picture, refused

import pyro_ssvae as ps
from pyro_ssvae.data import read_table
from pyro_ssvae.data.arrays import load_npz
from pyro_ssvae.data.folder import load_folder
from pyro_ssvae.data.label_file import add_labels
from pyro_ssvae.data.label_values import by_name, label_values
from pyro_ssvae.data.label_words import class_places
from pyro_ssvae.experiment.columns import as_table, attribute_columns, put
from pyro_ssvae.experiment.new_labels import renumbered
from pyro_ssvae.experiment.new_points import NewPoints, read_new
from pyro_ssvae.experiment.predictions import TrainedRun, Wanted, predicted
from pyro_ssvae.labels import AttributeLabels, ClassLabels, Labels
from pyro_ssvae.models import Model

NAMES = ["cat", "dog", "owl"]
N = 12


def a_model(shape: tuple[int, ...] = (5,), labels: Labels | None = None, **options: Any) -> Model:
    torch.manual_seed(0)
    labels = ClassLabels(3, NAMES) if labels is None else labels
    return ps.create_model("augmented", input_shape=shape, labels=labels, latent_dim=2, **options)  # type: ignore[return-value]


def new(path: Path, model: Model | None = None) -> NewPoints:
    return read_new(str(path), a_model() if model is None else model, {}, Path("run"))


def numbers() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).normal(size=(N, 5)).astype("f4"), np.arange(N) % 3


@pytest.mark.parametrize(
    "renamed",
    [("x", "y"), ("X", "Y"), ("x", "y_train"), ("data", "target"), ("inputs", "labels"), ("arr_0", "arr_1"),
     ("X_test", "Y_test"), ("test_images", "test_labels")],
)  # fmt: skip
def test_arrays_have_the_names_that_training_knows(
    renamed: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = numbers()
    path = tmp_path / "a.npz"
    np.savez(path, **dict(zip(renamed, (x, y))), extra=x)
    points = new(path)
    assert torch.equal(points.read(slice(0, N)), torch.from_numpy(x))
    assert points.y is not None
    assert points.y.tolist() == y.tolist()
    said = capsys.readouterr().err
    assert "not used: 'extra'" in said
    if renamed[0] != "x" and "test" not in renamed[0]:
        assert f"{renamed[0]!r} is taken for x" in said
    if "test" not in renamed[0]:
        assert torch.equal(torch.sort(torch.cat([(d := load_npz(path)).y, d.y_test]))[0], torch.from_numpy(np.sort(y)))


def test_all_rows_are_predicted_and_those_of_the_test_judged(tmp_path: Path) -> None:
    x, y = numbers()
    path = tmp_path / "keras.npz"
    np.savez(
        path,
        x_train=x[:8],
        y_train=(y[:8] + 1) % 3,
        x_test=x[8:],
        y_test=(y[8:] + 1) % 3,
        class_names=np.roll(NAMES, 1),
    )
    points = new(path)
    assert points.count == N
    assert torch.equal(points.read(slice(0, N)), torch.from_numpy(x))
    assert points.y is not None
    assert points.y.tolist() == y.tolist()
    judged, known, words = points.judged()
    assert torch.equal(judged, torch.from_numpy(x[8:]))
    assert known is not None
    assert known.tolist() == y[8:].tolist()
    assert words == "4 of 12 points, its test part"
    np.savez(path, x=x, Y_test=y)
    refused(lambda: new(path), "keras.npz", "Y_test without x_test")
    np.savez(path, points=x)
    refused(lambda: new(path), "keras.npz", "no array 'x' (it has 'points')")
    np.savez(path, x=x, y=y + 1)
    refused(lambda: new(path), "keras.npz: y", "row 2 is 3")
    np.savez(path, x=x.astype("f8") * 1e39)
    refused(lambda: imputed(new(path)), "keras.npz", "row 0")


def test_one_grey_picture_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.arange(64, dtype="u1").reshape(8, 8))
    points = new(tmp_path / "one.npy", a_model((1, 8, 8)))
    assert points.read(slice(0, 1)).shape == (1, 1, 8, 8)
    assert points.read(slice(0, 1))[0, 0, 3, 4] == 28


def test_folders_are_read_as_in_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders within a class's are the class's; lists may be .tsv, in capitals, with other endings than the files."""
    for i in range(N):
        picture(tmp_path / "nest" / NAMES[i % 2] / f"day {i % 3}" / f"{i:02d}.png", value=10 * i)
        picture(tmp_path / "split" / ("test" if i > 8 else "train") / NAMES[i % 2] / f"{i:02d}.png", value=10 * i)
    picture(tmp_path / "nest" / "unlabeled" / "a.png")
    listed = [f"{i:02d}.png" for i in range(N)]
    rows = [f"{i:02d}.PNG,{NAMES[i % 2]}" for i in range(N)]
    for name in ("caps", "tsv"):
        folder(tmp_path / name, "\n".join(["file,label", *rows, ""]), listed)
    (tmp_path / "tsv" / "labels.csv").rename(tmp_path / "tsv" / "Labels.tsv")
    (tmp_path / "tsv" / "Labels.tsv").write_text("file\tlabel\n" + "\n".join(r[:2] + "\t" + r[7:] for r in rows))
    model = a_model((1, 8, 8))
    for name in ("nest", "split", "caps", "tsv"):
        trained = load_folder(tmp_path / name, image_size=8)
        assert trained.labels.names == ("cat", "dog")
        known = torch.cat([trained.y, trained.y_test])
        points = new(tmp_path / name, model)
        assert points.count == len(known)
        assert points.y is not None
        of_file = {Path(str(name)).stem: k for name, k in zip(points.ids, points.y.tolist())}
        assert of_file == {f"{i:02d}": i % 2 for i in range(N)} | ({"a": -1} if name == "nest" else {})
        if name == "split":
            assert points.test is not None
            assert [Path(str(points.ids[row])).parts[0] for row in points.test] == ["test"] * 3
    picture(tmp_path / "caps" / "more.png")  # training wants a row for each, new points do not
    refused(lambda: load_folder(tmp_path / "caps"), "no row for 'more.png'")
    points = new(tmp_path / "caps", model)
    assert points.y is not None
    assert (points.count, points.y[list(points.ids).index("more.png")]) == (N + 1, -1)
    capsys.readouterr()
    picture(tmp_path / "days" / "monday" / "a.png")
    assert new(tmp_path / "days", model).y is None
    assert "none of its folders is named as a class" in capsys.readouterr().err
    picture(tmp_path / "days" / "cat" / "a.png")
    refused(lambda: new(tmp_path / "days", model), "days", "'monday'")
    picture(tmp_path / "typo" / "labels.csv.d" / "a.png")
    (tmp_path / "typo" / "labels.csv").write_text("file,label\nb.png,cat\n")
    refused(lambda: new(tmp_path / "typo", model), "typo/labels.csv", "'b.png' is not in the folder")


def imputed(points: NewPoints, model: Model | None = None) -> pd.DataFrame:
    run = TrainedRun(Path("run"), {}, a_model(missing=True) if model is None else model, None, None)
    found = predicted(run, points, slice(0, points.count), Wanted(impute=True, draws=2))
    return as_table(found).to_pandas()


def test_given_cells_stay_as_they_are(tmp_path: Path) -> None:
    g, n = np.random.default_rng(0), 40
    when = pd.Timestamp("2020-01-31T08:00") + pd.to_timedelta(g.integers(0, 3000 * 1440, n), unit="min")
    frame = pd.DataFrame(
        {
            "pop": pd.array(g.integers(1000, 2_000_000_000, n), "Int64"),
            "key": g.integers(2**53, 2**60, n) * 2 + 1,
            "size": np.round(g.lognormal(-3, 5, n), 4),
            "us": when.strftime("%m/%d/%Y %H:%M"),
            "iso": when.strftime("%Y-%m-%dT%H:%M:%S"),
            "born": [f"{1700 + int(year)}-03-01" for year in g.integers(0, 320, n)],
            "dose": np.array(["0.50", "1.00"])[g.integers(0, 2, n)],
            "job": np.array(["Cook", "pilot", "none"])[g.integers(0, 3, n)],
            "a": g.normal(size=n) * 1e-9,
            "y": ["ab"[i % 2] for i in range(n)],
        }
    )
    given = frame.copy()
    for i, name in enumerate(frame.columns[:-1]):
        if name != "key":
            given.loc[i::9, name] = None
    path = tmp_path / "t.csv"
    given.to_csv(path, index=False)
    data = read_table(path, target="y", quiet=True)
    model = ps.create_model("augmented", latent_dim=2, **data.model_options())
    found = imputed(new(path, model), model)  # type: ignore[arg-type]
    raw = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name in frame.columns[:-1]:
        there = given[name].notna()
        column = found[f"imputed_{name}"]
        assert not column.isna().any()
        if name in ("size", "a"):
            assert column.dtype == np.float64
            assert column[there].tolist() == raw[name][there].astype(float).tolist()
        else:
            assert column[there].astype(str).tolist() == raw[name][there].tolist()
    assert found["imputed_pop"].dtype == found["imputed_key"].dtype == np.int64


def test_given_numbers_of_arrays_stay_as_they_are(tmp_path: Path) -> None:
    x, _ = numbers()
    for dtype in ("f8", "f4", ">f8"):
        some = (x * np.array([1e-8, 1, 1e8, 1, 1])).astype(dtype)
        some[::3, 1] = np.nan
        np.savez(tmp_path / "a.npz", x=some[:8], x_test=some[8:])
        found = imputed(new(tmp_path / "a.npz")).filter(like="imputed_").to_numpy()
        assert found.dtype == np.dtype(dtype).newbyteorder("=")
        known = ~np.isnan(some)
        assert (found[known] == some[known]).all()
        assert np.isfinite(found).all()


def test_a_column_split_sets_rows_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.csv"
    rows = [f"{i % 7},{i * 0.5},{'ab'[i % 2]},{'Test' if i > 45 else 'train'}" for i in range(60)]
    path.write_text("\n".join(["p,v,y,Split", *rows, ""]))
    data = read_table(path, target="y", quiet=True)
    model = ps.create_model("augmented", latent_dim=2, **data.model_options())
    points = new(path, model)  # type: ignore[arg-type]
    assert points.count == 60
    assert "Split" not in capsys.readouterr().err
    x, y, words = points.judged()
    assert words == "14 of 60 points, its test part"
    assert torch.equal(x, data.x_test)
    assert y is not None
    assert torch.equal(y, data.y_test)
    path.write_text("\n".join(["p,v,y,Split", *(row.replace("train", "Test") for row in rows), ""]))
    assert new(path, model).test is None  # type: ignore[arg-type]


def test_an_attribute_may_be_named_like_another_s_probability() -> None:
    p = torch.tensor([[0.9, 0.2]], dtype=torch.double)
    found: dict[str, Any] = {}
    labels = AttributeLabels(["A", "p_A"], [("no", "yes"), ("F", "T")])
    for name, column in attribute_columns(labels, p, None, torch.tensor([[1, 0]])):
        put(found, name, column)
    assert {name: column[0] for name, column in found.items()} == {
        "A": "yes",
        "p_A": 0.9,
        "known_A": "yes",
        "p_A_": "F",
        "p_p_A": 0.2,
        "known_p_A": "F",
    }


def test_whole_numbers_as_classes_have_two_forms(tmp_path: Path) -> None:
    """Tables write 1.0 where a column has gaps, else 1; every way from words to a model's classes takes both."""
    for names, words in ((["1", "2", "x"], ["2.0", "1.0", "x"]), (["1.0", "2.0", "x"], ["2", "1", "x"])):
        labels = ClassLabels(3, names)
        assert class_places([*words, "3", "1.00"], names) == [1, 0, 2, None, None]
        assert label_values(np.array(words, dtype=object), labels).tolist() == [1, 0, 2]
        assert by_name(torch.tensor([0, 1, 2, -1]), ClassLabels(3, words), labels, "y").tolist() == [1, 0, 2, -1]
        assert renumbered(labels, torch.tensor([0, 1, 2, -1]), ClassLabels(3, words), "y").tolist() == [1, 0, 2, -1]
        path = tmp_path / "fill.csv"
        path.write_text("index,label\n" + "".join(f"{i},{word}\n" for i, word in enumerate(words)))
        assert add_labels(path, torch.full((3,), -1), torch.arange(3), labels).tolist() == [1, 0, 2]
    assert class_places(["1.0"], ["1", "1.0"]) == [1]  # a class's own name comes first
