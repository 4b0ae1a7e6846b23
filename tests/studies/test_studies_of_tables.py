"""Studies of a table of one's own: words, gaps, ids, and the cells of data that are no table stay what they were."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_studies import TINY

from pyro_ssvae.cli.main import main
from pyro_ssvae.experiment.config import DataConfig
from pyro_ssvae.experiment.data import load_data, train_split
from pyro_ssvae.studies import STUDIES, Plan
from pyro_ssvae.studies.grid import grid
from pyro_ssvae.studies.scikit_learn import sklearn_proba

N = 120


@pytest.fixture
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two kinds by words and a number far from 0, with gaps; an id that would tell them apart."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    kind = np.array(["auk", "owl"])[np.arange(N) % 2]
    weight = np.where(kind == "auk", 900.0, 2100.0) + 200 * rng.normal(size=N)
    frame = pd.DataFrame(
        {
            "id": [f"{k}-{i}" for i, k in enumerate(kind)],
            "weight": np.where(rng.random(N) < 0.2, np.nan, weight.round(1)),
            "home": np.where(rng.random(N) < 0.2, None, np.where(kind == "auk", "sea", "wood")),
            "food": np.where(rng.random(N) < 0.2, None, rng.choice(["crab", "fish", "mouse"], N)),
            "kind": kind,
        }
    )
    frame.to_csv("birds.csv", index=False)
    return "birds.csv"


def test_an_ablation_of_a_table(birds: str, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ["augmented", "classifier", "logistic-regression", "gradient-boosting"]
    options = [
        "--data",
        birds,
        "--target",
        "kind",
        "--id",
        "id",
        "--labels",
        "20",
        "--seeds",
        "1",
        "--models",
        *methods,
    ]
    assert main(["study", "ablation", *options, *TINY, "--jobs", "1", "--out", "out"]) == 0, capsys.readouterr().err
    rows = list(csv.DictReader(Path("out/runs.csv").read_text().splitlines()))
    assert [(row["method"], row["target"], row["id"]) for row in rows] == [(m, "kind", "id") for m in methods]
    assert {row["augment"] for row in rows} == {"hide"}
    assert "with three tenths of the cells hidden" in Path("out/table.md").read_text()
    found = {row["method"]: float(row["accuracy"]) for row in rows}
    assert found["logistic-regression"] > 0.9  # of both columns a row lacks all in one of 25
    assert found["gradient-boosting"] > 0.8  # its leaves have ten labels


def test_simple_methods_see_words_one_hot_and_gaps_as_the_mean(birds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    class Looks:
        classes_ = np.array([0, 1])

        def fit(self, x: np.ndarray, y: np.ndarray) -> Looks:
            seen.append(x)
            return self

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return np.full((len(x), 2), 0.5)

    monkeypatch.setattr("pyro_ssvae.studies.scikit_learn.sklearn_model", lambda *_: Looks())
    whole = load_data(DataConfig(birds, target=("kind",), id="id"))
    split, _ = train_split(whole, DataConfig(birds, "all"), 0)
    for name in ("logistic-regression", "gradient-boosting"):
        sklearn_proba(name, split, whole.x_test, 0)
    linear, trees = seen
    weight, home, food = split.x.double().T.numpy()
    there = ~np.isnan(weight)
    wanted = np.where(there, (weight - weight[there].mean()) / weight[there].std(), 0.0)
    np.testing.assert_allclose(linear[:, 0], wanted, atol=2e-2)  # the unit is of n - 1
    np.testing.assert_allclose(linear[:, 1], np.where(np.isnan(home), np.nanmean(home), home), atol=1e-6)
    np.testing.assert_array_equal(linear[:, 2:], food[:, None] == np.arange(3))
    np.testing.assert_array_equal(trees, split.x.double())


def test_other_data_keep_their_cells(birds: str) -> None:
    """What a cell is called, and what its file says, has nothing of tables where nothing was said of them."""
    plan = Plan(birds, ("20",), seeds=1, steps=4, methods=("classifier",))
    whole = load_data(DataConfig(birds, target=("kind",), id="id"))
    (cell,) = grid(STUDIES["ablation"], plan, whole)
    assert not {"target", "id", "columns"} & cell.settings.keys()
    others: list[Any] = [
        replace(cell, target=("kind",)),
        replace(cell, id="id"),
        replace(cell, columns=("home=count",)),
    ]
    assert len({each.key for each in [cell, *others]}) == 4
    assert torch.is_tensor(whole.x)


def test_a_target_without_a_table_and_small_networks_are_one_line(
    birds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, words in (
        (["--data", "digits", "--target", "kind"], "--target: digits is no table"),
        (["--data", birds, "--target", "kid"], "'kid'"),
        (["--data", birds, "--target", "kind", "--models", "classifier", "--networks", "mlp"], "--networks mlp"),
    ):
        assert main(["study", "ablation", *options, *TINY, "--jobs", "1", "--out", "out"]) == 2
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1
