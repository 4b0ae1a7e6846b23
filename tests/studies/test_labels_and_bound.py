"""Labels and the bound: binarised pictures, trainings that are long enough, and the verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_makers import npz

from pyro_ssvae.cli.main import main
from pyro_ssvae.experiment.config import DataConfig
from pyro_ssvae.experiment.data import load_data, train_split
from pyro_ssvae.studies import STUDIES, labels_and_bound
from pyro_ssvae.studies.cells import Cell, Result
from pyro_ssvae.studies.grid import grid
from pyro_ssvae.studies.labels_and_bound import binarized, longest_useful
from pyro_ssvae.studies.methods import check_networks, make_model
from pyro_ssvae.studies.plan import Plan

STUDY = STUDIES["labels-and-bound"]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Grey pictures of 4 x 4 in two classes."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    x = rng.integers(0, 120, (80, 1, 4, 4), np.uint8)
    x[y == 1, 0, :2] += 100
    return npz(Path("own.npz"), x=x, y=y)


def cells_of(own: Path, **more: Any) -> tuple[list[Cell], Any]:
    plain: dict[str, Any] = {
        "seeds": 1, "steps": 3, "batch_size": 16, "latent_dim": 3, "draws": 3, "likelihood": "bernoulli",
    }  # fmt: skip
    plan = Plan(str(own), ("0", "6"), methods=STUDY.methods, **{**plain, **more})
    whole = load_data(DataConfig(str(own)))
    return grid(STUDY, plan, whole), whole


def test_pictures_are_black_or_white_with_the_grey_level_s_probability() -> None:
    grey = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(20_000, 3)
    found = binarized(grey, 0)
    assert found.unique().tolist() == [0, 1]
    assert found.mean(0).tolist() == pytest.approx([0, 0.2, 1], abs=0.012)  # four standard deviations
    assert torch.equal(found, binarized(grey, 0))
    assert not torch.equal(found, binarized(grey, 1))


def test_training_binarises_afresh_and_the_test_is_binarised_once(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = []

    def note(model: Any, x: torch.Tensor, y: torch.Tensor, **options: Any) -> dict[str, Any]:
        judged.append((x, options))
        return {"log_likelihood": -1.0}

    monkeypatch.setattr(labels_and_bound, "evaluate", note)
    cells, whole = cells_of(own, points=7)
    assert [(cell.method, cell.labels) for cell in cells] == [
        ("augmented-probabilities", "0"), ("vae", "0"), ("augmented-probabilities", "6"),
    ]  # fmt: skip
    assert {cell.augment for cell in cells} == {"binarize"}
    for cell in cells:
        assert STUDY.compute(cell, whole, "cpu")["steps"] == 3  # an epoch of 57 rows
    first = judged[0][0]
    assert first.unique().tolist() == [0, 1]
    assert all(torch.equal(x, first) for x, _ in judged)
    assert all((o["num_samples"], o["likelihood_rows"]) == (3, 7) for _, o in judged)


@pytest.mark.parametrize(
    ("bounds", "gain", "lengths", "kept"),
    [
        ([-9.0, -8.0, -7.9, 0.0], 0.2, [4, 8, 16], 16),  # the last doubling is worth less than the gain, but something
        ([-9.0, -9.5, 0.0], 0.2, [4, 8], 4),  # longer was worse
        ([-9.0, -8.0, -7.0, -6.0, -5.0], 0.2, [4, 8, 16, 32], 32),  # it never stops rising
        ([-9.0, -8.0], None, [4], 4),
    ],
)
def test_a_training_becomes_longer_until_that_is_worth_nothing(
    own: Path, monkeypatch: pytest.MonkeyPatch, bounds: list[float], gain: float | None, lengths: list[int], kept: int
) -> None:
    taken: list[int] = []

    def learn(model: Any, cell: Cell, split: Any, device: str) -> int:
        taken.append(cell.steps)
        model.length = cell.steps
        return cell.steps

    monkeypatch.setattr(labels_and_bound, "learn", learn)
    monkeypatch.setattr(labels_and_bound, "elbo", lambda model, x: torch.tensor([bounds[len(taken) - 1]]))
    cells, whole = cells_of(own)
    cell = replace(cells[0], steps=4, gain=gain)
    split, (x_val, _) = train_split(whole, DataConfig(str(own), "0"), 0)
    model, steps = longest_useful(cell, split, "cpu", binarized(x_val, 1))
    assert taken == lengths
    assert (steps, model.length) == (kept, kept)


def test_hidden_layers_of_500_on_either_side(own: Path) -> None:
    cells, whole = cells_of(own, networks="mlp")
    split, _ = train_split(whole, DataConfig(str(own), "6"), 0)
    for cell in cells:
        model: Any = make_model(cell, split)
        widths = [m.out_features for m in model.encoder if isinstance(m, torch.nn.Linear)]
        assert widths == [500, 500]
        assert model.config.latent_dim == 3
        assert model.likelihood.__class__.__name__ == "Bernoulli"
        assert model.elbo(torch.ones(2, 1, 4, 4)).shape == (2,)
    check_networks("mlp", ["vae", "classifier", "augmented", "label-spreading"])


def results(bound: dict[tuple[str, str], tuple[float, ...]]) -> list[Result]:
    found = []
    for (method, labels), values in bound.items():
        for seed, value in enumerate(values):
            cell = Cell(STUDY.name, "mnist", "0", method, labels, seed, 100, 256, 50, "binarize")
            found.append(Result(cell, {"train": {"rows": 9}, "log_likelihood": value}, 1.0))
    return found


@pytest.mark.parametrize(
    ("every", "said"),
    [
        ((-89.0, -89.1, -88.9), "Labels raise the bound: at all labels it differs by +1.0"),
        ((-91.0, -91.1, -90.9), "Labels lower the bound: at all labels it differs by −0.9"),
        ((-90.0, -90.4, -89.6), "That labels change the bound is not shown: at all labels it differs by "),
    ],
)
def test_the_verdict_is_that_of_the_paired_interval(every: tuple[float, ...], said: str) -> None:
    model = "augmented-probabilities"
    made = results({(model, "0"): (-90.0, -90.05, -90.0), (model, "all"): every, ("vae", "0"): (-91.0, -91.2, -91.1)})
    lines = STUDY.answers(made)
    assert lines[2].startswith(said)
    assert lines[2].endswith("nats a point from that without labels (95 % interval, 3 seeds).")
    against = next(line for line in lines if line.startswith(f"- {model}: "))
    assert "without labels (+1.08 [" in against
    assert STUDY.answers(results({(model, "0"): (-90.0,)}))[2] == "Nothing was compared."
    one = STUDY.answers(results({(model, "0"): (-90.0,), (model, "100"): (-89.0,)}))[2]
    assert one.startswith("One seed has no interval: at 100 labels the bound differs by +1.00 nats")


@pytest.mark.parametrize(
    ("arguments", "culprits"),
    [
        ("labels-and-bound --data wine", ["wine has vectors", "images are needed"]),
        ("labels-and-bound --data digits --gain 0", ["--gain: 0.0", "above 0"]),
        ("sparse-labels --gain 0.1", ["--gain: 0.1", "trainings of one length"]),
        ("sparse-labels --networks mlp", ["--networks mlp", "not of m2"]),
        ("sparse-labels --networks conv --models vae", ["--networks", "'conv'", "known: default, mlp"]),
        ("sparse-labels --data digits wine", ["--data digits wine", "takes one data set"]),
        ("sparse-labels --first-seed 4294967295", ["--first-seed: 4294967295", "whole number"]),
        ("ablation --data avatars:40", ["attributes", "classes"]),
        ("ablation --data digits wein", ["--data", "'wine'"]),
    ],
)
def test_what_cannot_be_used_is_one_line(
    arguments: str, culprits: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments.split()]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1), said.err
    for culprit in culprits:
        assert culprit in said.err, said.err
