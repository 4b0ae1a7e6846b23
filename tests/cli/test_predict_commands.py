"""``predict``, and ``evaluate``, ``generate`` and ``suggest`` of what are no pictures, as functions."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from data_makers import refused
from PIL import Image

from pyro_ssvae.cli import evaluate, generate, predict, suggest
from pyro_ssvae.cli.evaluate import Evaluate
from pyro_ssvae.cli.generate import Generate
from pyro_ssvae.cli.main import main
from pyro_ssvae.cli.predict import Predict
from pyro_ssvae.cli.suggest import Suggest
from pyro_ssvae.evaluation.calibration import Calibration
from pyro_ssvae.experiment.columns import set_words
from pyro_ssvae.experiment.predictions import read_run
from pyro_ssvae.experiment.reliability import folds
from pyro_ssvae.models.saving import load

RUN = Path("run")
NAMES = ["cat", "dog", "owl"]
MEANS = np.random.default_rng(0).normal(size=(3, 4)) * 3


def some(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(n) % 3
    return (MEANS[y] + np.random.default_rng(seed).normal(size=(n, 4))).astype("f4"), y


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def trained(*arguments: str) -> None:
    short = ["--epochs", "4", "--batch-size", "64", "--no-baseline", "--quiet", "--out", str(RUN)]
    assert main(["train", *arguments, *short]) == 0


@pytest.fixture
def points() -> None:
    x, y = some(300, 1)
    np.savez("old.npz", x=x, y=np.where(np.arange(300) % 2, -1, y), names=NAMES)
    trained("--data", "old.npz", "--latent-dim", "2")


def rows_of(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("points")
def test_predict_and_evaluate_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"calibration.json", "novelty.safetensors"} <= {path.name for path in RUN.iterdir()}
    assert (RUN / "figures" / "reliability.png").exists()
    x, y = some(25_000, 2)
    x[-1] += 100
    np.savez("new.npz", x=x, y=np.where(y == 2, -1, 1 - y), names=["dog", "cat"])  # in another order, some missing
    predict.run(Predict(RUN, "new.npz", Path("new.csv"), embeddings=True))
    assert "new.csv, 25000 rows" in capsys.readouterr().out
    rows = rows_of("new.csv")
    model = load(RUN)
    probs = model.predict_proba(torch.from_numpy(x))  # type: ignore[operator]
    calibration = predict_calibration()
    own = calibration.predict_proba(probs.double())
    assert list(rows[0])[:6] == ["row", "label", "probability", "p_cat", "p_dog", "p_owl"]
    assert list(rows[0])[6:] == ["set", "known", "novelty", "z0", "z1"]
    for i in (0, 1, 2, 12_345, 24_999):
        row = rows[i]
        assert row["row"] == str(i)
        assert row["label"] == NAMES[int(own[i].argmax())]
        assert float(row["p_owl"]) == pytest.approx(float(own[i, 2]), abs=1e-6)
        wanted = [name for name, there in zip(NAMES, calibration.predict_set(probs[i : i + 1])[0]) if there]
        assert row["set"] == "|".join(wanted)
        assert row["known"] == ("cat", "dog", "")[int(y[i])]
    assert float(rows[-1]["novelty"]) > 3 > float(np.median([float(row["novelty"]) for row in rows]))
    evaluate.run(Evaluate(RUN, data="new.npz", json=True))
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["rows"] == 25_000
    assert set(metrics["calibrated"]) >= {"temperature", "coverage", "nll", "set_size", "calibration_error"}


def test_pixels_that_are_nan_are_filled(capsys: pytest.CaptureFixture[str]) -> None:
    """Half the picture says which class it is, the other half what is missing: the class's own grey, not the mean."""
    y = np.arange(80) % 2
    full = np.zeros((80, 8, 8), np.float32)
    full[y == 0, :4] = full[y == 1, 4:] = 0.9
    x = np.where(np.random.default_rng(0).random(full.shape) < 0.2, np.nan, full)
    np.savez("old.npz", x=x, y=y)
    short = ["--latent-dim", "2", "--no-calibration", "--no-figures", "--no-baseline", "--quiet", "--epochs", "80"]
    assert main(["train", "--data", "old.npz", "--layout", "nhw", *short, "--out", str(RUN)]) == 0
    assert "of the values of x are NaN: taken as missing" in capsys.readouterr().err
    assert load(RUN).likelihood.missing
    predict.run(Predict(RUN, "old.npz", Path("new.csv"), impute=True))
    rows = rows_of("new.csv")
    found = np.array([[float(row[f"imputed_x{i}"]) for i in range(64)] for row in rows]).reshape(full.shape)
    gaps = np.isnan(x)
    np.testing.assert_allclose(found[~gaps], full[~gaps], atol=1e-6)
    error, of_mean = (float(((values - full)[gaps] ** 2).mean()) for values in (found, np.full_like(full, full.mean())))
    assert error < of_mean / 5
    x[3, 2, 2] = np.inf
    np.savez("new.npz", x=x)
    refused(lambda: predict.run(Predict(RUN, "new.npz")), "new.npz", "row 3", "NaN where an entry is missing")


def test_a_run_without_calibration_has_no_sets_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = some(40, 1)
    np.savez("old.npz", x=x, y=y, names=NAMES)
    trained("--data", "old.npz", "--latent-dim", "2", "--no-calibration", "--no-figures")
    assert "further trainings" not in capsys.readouterr().err
    assert not (RUN / "calibration.json").exists()
    assert "calibrated" not in json.loads((RUN / "metrics.json").read_text())["test"]
    predict.run(Predict(RUN, "old.npz", Path("new.csv")))
    assert "run: trained with --no-calibration: no column 'set'" in capsys.readouterr().err
    assert {"label", "p_owl", "novelty"} <= set(rows_of("new.csv")[0])
    assert "set" not in rows_of("new.csv")[0]
    config = json.loads((RUN / "config.json").read_text())
    assert config["settings"]["calibration"] is False
    del config["settings"]["calibration"]  # of a run before there was the option
    (RUN / "config.json").write_text(json.dumps(config))
    predict.run(Predict(RUN, "old.npz", Path("again.csv")))
    assert "run: no labels to calibrate by: no column 'set'" in capsys.readouterr().err


def test_a_run_that_saw_no_label_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = some(40, 1)
    np.savez("old.npz", x=x, y=y, names=NAMES)
    trained("--data", "old.npz", "--latent-dim", "2", "--labels", "0", "--no-figures")
    predict.run(Predict(RUN, "old.npz", Path("new.csv")))
    said = capsys.readouterr().err
    assert "predict: run: training saw no label: which class an output stands for is not agreed\n" in said
    assert "to calibrate by" not in said
    (RUN / "metrics.json").write_text("{")
    predict.run(Predict(RUN, "old.npz", Path("again.csv")))
    assert "run: no labels to calibrate by" in capsys.readouterr().err


@pytest.mark.usefixtures("points")
def test_a_device_that_is_not_there_is_refused_before_anything_is_read() -> None:
    for run in (lambda: predict.run(Predict(RUN, "none.npz", device="toaster")),
                lambda: evaluate.run(Evaluate(RUN, device="toaster"))):  # fmt: skip
        refused(run, "device: 'toaster'", "cpu and auto")


def predict_calibration() -> Calibration:
    calibration = read_run(RUN).calibration
    assert calibration is not None
    return calibration


@pytest.mark.usefixtures("points")
def test_one_point_and_a_test_alone(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = some(40, 3)
    np.savez("flat.npz", x=x[0])
    np.savez("test.npz", x_test=x, y_test=np.array(NAMES)[y])
    np.save("x.npy", x[:2])
    for name, n in (("flat.npz", 1), ("test.npz", 40), ("x.npy", 2)):
        predict.run(Predict(RUN, name))
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == n + 1
        assert lines[1].split(",")[1] in NAMES
    evaluate.run(Evaluate(RUN, data="test.npz"))
    assert "run on test.npz: 40 points" in capsys.readouterr().out
    np.savez("both.npz", x=x, y=y, x_test=x[:6], y_test=y[:6], names=NAMES)
    evaluate.run(Evaluate(RUN, data="both.npz"))
    assert "6 of 46 points, its test part" in capsys.readouterr().out
    evaluate.run(Evaluate(RUN, data="old.npz"))  # the run's own: not the rows that it learnt from
    assert "old: 60 test points" in capsys.readouterr().out


@pytest.mark.usefixtures("points")
def test_wrong_input_is_refused_and_nothing_is_lost() -> None:
    x, y = some(6, 4)
    np.savez("new.npz", x=x)
    right = Predict(RUN, "new.npz", Path("out.csv"))
    np.savez("wide.npz", x=np.zeros((3, 5)))
    np.savez("none.npz", x=np.zeros((0, 4)))
    np.savez("nan.npz", x=np.full((2, 4), np.inf))
    np.savez("words.npz", x=x, y=["cat", "dog", "", "owls", "cat", "cat"])
    np.savez("short.npz", x=x, y=y[:3])
    Path("text.txt").write_text("x")
    Path("t.csv").write_text("a,b\n1,2\n")
    for data, *words in (
        ("wide.npz", "[5]", "[4]"),
        ("none.npz", "no row"),
        ("nan.npz", "row 0"),
        ("words.npz", "row 3", "'owls'", "did you mean 'owl'?"),
        ("short.npz", "3 rows", "6"),
        ("absent.npz", "no such file"),
        ("text.txt", ".npz"),
        ("t.csv", "not trained on one"),
    ):
        refused(lambda data=data: predict.run(replace(right, data=data)), data, *words)
        assert not [path for path in Path().iterdir() if "out.csv" in path.name]  # no part of it either
    refused(lambda: evaluate.run(Evaluate(RUN, data="nan.npz")), "--data nan.npz: row 0")
    Path("out.csv").write_text("mine")
    refused(lambda: predict.run(right), "--out out.csv", "there already")
    assert Path("out.csv").read_text() == "mine"
    refused(lambda: predict.run(replace(right, out=Path("a.txt"))), "--out a.txt", ".csv")
    refused(lambda: predict.run(replace(right, out=None, impute=True)), "--impute", "without gaps")
    refused(lambda: predict.run(replace(right, out=None, coverage=90)), "--coverage: 90", "0.9")
    (RUN / "calibration.json").write_text("{}")
    refused(lambda: predict.run(replace(right, out=None)), "calibration.json", "train the run anew")
    (RUN / "model.safetensors").unlink()
    refused(lambda: predict.run(replace(right, out=None)), "model.safetensors", "may not have ended")


def test_a_table_in_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = some(120, 5)
    frame = pd.DataFrame({"who": [f"p{i}" for i in range(120)], "a": x[:, 0], "b": x[:, 1]})
    frame["job"] = np.array(["cook", 'nur"se, head', "pilot"])[y]
    frame.loc[::5, "b"] = np.nan
    frame["kind"] = np.array(NAMES)[y]
    old = frame[:100].copy()
    old.loc[60:, "kind"] = None
    old.to_csv("old.csv", index=False)
    trained("--data", "old.csv", "--target", "kind", "--id", "who")
    new = frame[100:].copy()
    new.loc[101, "kind"] = None
    new[["kind", "job", "b", "a", "who"]].to_csv("new.csv", index=False)
    predict.run(Predict(RUN, "new.csv", Path("out.csv"), impute=True))
    rows = rows_of("out.csv")
    assert [row["who"] for row in rows] == [f"p{i}" for i in range(100, 120)]
    assert rows[0]["known"] == NAMES[y[100]]
    assert rows[1]["known"] == ""
    assert rows[1]["imputed_job"] == frame["job"][101]
    assert float(rows[1]["imputed_b"]) == pytest.approx(frame["b"][101], rel=1e-5)
    assert np.isfinite(float(rows[0]["imputed_b"]))
    predict.run(Predict(RUN, "new.csv", Path("out.parquet")))
    assert len(pd.read_parquet("out.parquet")) == 20
    generate.run(Generate(RUN, n=2))
    drawn = rows_of("run/generated.csv")
    assert [row["kind"] for row in drawn] == [name for name in NAMES for _ in range(2)]
    assert {row["job"] for row in drawn} <= set(frame["job"])
    generate.run(Generate(RUN, label="dog", n=3, out=Path("dogs.csv")))
    assert [row["kind"] for row in rows_of("dogs.csv")] == ["dog"] * 3
    capsys.readouterr()
    suggest.run(Suggest(RUN, n=3))
    assert "--id who --target kind" in capsys.readouterr().out
    asked = rows_of("run/suggest.csv")
    assert list(asked[0]) == ["index", "label", "guess", "who", "a", "b", "job"]
    by_name = frame.set_index("who")
    for row in asked:
        assert row["job"] == by_name["job"][row["who"]]
        assert float(row["a"]) == pytest.approx(by_name["a"][row["who"]], rel=1e-5)


@pytest.mark.parametrize("shape", [(5,), (2, 16)])
def test_generate_and_suggest_without_pictures(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(60, *shape)).astype("f4")
    np.savez("own.npz", x=x, y=np.where(np.arange(60) % 2, np.arange(60) % 3, -1))
    trained("--data", "own.npz", "--latent-dim", "2")
    suggest.run(Suggest(RUN, n=3))
    for n in (1, 3):
        generate.run(Generate(RUN, n=n))
        generate.run(Generate(RUN, label="1", n=n, out=Path(f"{n}.svg")))
    with Image.open(RUN / "suggest.png") as picture:
        assert min(picture.size) > 100
    table = Generate(RUN, n=4, out=Path("rows.csv"))
    if len(shape) > 1:
        refused(lambda: generate.run(table), "rows.csv", "[2, 16]", ".png")
    else:
        generate.run(table)
        assert list(rows_of("rows.csv")[0]) == ["label", "x0", "x1", "x2", "x3", "x4"]
        assert len(rows_of("rows.csv")) == 12


def test_a_folder_and_an_image(capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    np.savez("own.npz", x=generator.integers(0, 255, (80, 1, 8, 8)).astype("u1"), y=np.arange(80) % 2, names=NAMES[:2])
    trained("--data", "own.npz", "--latent-dim", "2")
    for name in ("cat/a.png", "cat/b.PNG", "unlabeled/c.png"):
        Path("new", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (9, 9)).astype("u1")).save(Path("new", name), format="png")
    capsys.readouterr()
    predict.run(Predict(RUN, "new"))
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["file"] for row in rows] == ["cat/a.png", "cat/b.PNG", "unlabeled/c.png"]
    assert [row["known"] for row in rows] == ["cat", "cat", ""]
    predict.run(Predict(RUN, "new/cat/a.png"))
    assert capsys.readouterr().out.splitlines()[1].startswith("a.png,")


def test_folds_share_each_class() -> None:
    y = torch.tensor([0] * 10 + [1] * 6 + [2] * 4)
    fold = folds(y)
    assert fold.bincount().tolist() == [4] * 5
    assert fold[:10].bincount().tolist() == [2] * 5
    assert fold[10:16].bincount(minlength=5).max() == 2
    attributes = folds(torch.zeros(11, 2, dtype=torch.long))
    assert attributes.bincount().max() == 3


def test_few_validation_labels_are_helped_by_the_kept_ones(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = some(60, 6)
    np.savez("few.npz", x=x, y=np.where(np.arange(60) < 20, y, -1), names=NAMES)
    trained("--data", "few.npz", "--latent-dim", "2")
    assert "further trainings" in capsys.readouterr().err
    calibration = predict_calibration()
    assert calibration.how == "cross-fitted"
    assert calibration.rows >= 14


def test_sets_of_classes_whose_names_hold_a_bar_can_be_told_apart() -> None:
    names = ["a|b", "a", "b", "b\\"]
    members = (np.arange(1, 16)[:, None] >> np.arange(4)) & 1 == 1
    words = set_words(members, names, "|")
    assert len(set(words)) == len(members)
    assert list(words[:3]) == ["a\\|b", "a", "a\\|b|a"]
    assert list(set_words(members[:, 1:3], names[1:3], "|")[[1, 3, 5]]) == ["a", "b", "a|b"], "others are as they are"
