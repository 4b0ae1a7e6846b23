"""A run that has ended goes on with more epochs and labels, and nothing of its end is lost."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_makers import npz

from pyro_ssvae import ClassLabels, create_model, load
from pyro_ssvae.cli.main import main
from pyro_ssvae.data import Dataset
from pyro_ssvae.experiment import reliability
from pyro_ssvae.experiment import run as running

TINY = ("--epochs", "2", "--batch-size", "16", "--labelled-rows", "4", "--latent-dim", "2", "--quiet", "--no-baseline")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run of two epochs on 60 rows is, of which 20 have a label."""
    folder = tmp_path_factory.mktemp("finished")
    y = np.arange(80) % 2
    x = np.random.default_rng(0).normal(size=(80, 4)) + 3 * y[:, None]
    parts = {"x": x[:60], "y": np.where(np.arange(60) < 20, y[:60], -1), "x_test": x[60:], "y_test": y[60:]}
    npz(folder / "own.npz", **parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        quick(patch)
        assert main(["train", *TINY, "--data", "own.npz", "--out", "run"]) == 0
    return folder


def quick(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(running, "save_all", lambda *rest, **more: [])
    patch.setattr(running.reliability, "note", lambda *rest, **more: None)


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run, which a test may go on with."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    quick(monkeypatch)
    return tmp_path / "run"


def said(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line, notes on the data apart, that a command ends in with status 2."""
    capfd.readouterr()
    assert main(["train", *arguments]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("note: ")]
    return line


def losses(run: Path) -> list[str]:
    with open(run / "history.csv") as file:
        return [row["loss"] for row in csv.DictReader(file)]


def test_more_epochs(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before, metrics = losses(run), (run / "metrics.json").read_text()
    assert "--epochs N, more than its 2" in said(capfd, "--resume", "run")
    assert "2 epochs are done" in said(capfd, "--resume", "run", "--epochs", "2")
    assert "leave --learning-rate out" in said(capfd, "--resume", "run", "--epochs", "4", "--learning-rate", "0.1")
    assert (run / "metrics.json").read_text() == metrics
    assert main(["train", "--resume", "run", "--epochs", "4", "--quiet"]) == 0
    assert losses(run)[:2] == before
    assert len(losses(run)) == 4
    assert (run / "metrics-2.json").read_text() == metrics
    assert json.loads((run / "metrics.json").read_text())["train"]["epochs"] == 4
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["training"]["epochs"] == 4
    assert config["settings"]["training"]["learning_rate"] == 2e-3
    assert main(["train", "--resume", "run", "--epochs", "5", "--quiet"]) == 0
    assert {path.name for path in run.glob("metrics*.json")} == {"metrics.json", "metrics-2.json", "metrics-4.json"}
    load(run)


@pytest.mark.parametrize(
    "typed",
    [
        ("--batch-size", "256"),  # the default, which the run has not
        ("--labelled_rows=64",),
        ("--model", "m2"),
        ("--latent-dim", "3"),
        ("--baseline",),
        ("--no-figures",),
        ("--no-calibration",),
        ("--out", "other"),
        ("--config", "run/config.json"),
        ("--labels", "10"),
        ("--nodes", "2"),
    ],
)
def test_no_setting_that_was_typed_is_passed_over(
    run: Path, typed: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    option = typed[0].partition("=")[0].replace("_", "-")
    assert f"leave {option} out" in said(capfd, "--resume", "run", "--epochs", "4", *typed)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_settings_that_are_the_runs_own_may_be_typed(run: Path) -> None:
    typed = ("--batch-size", "16", "--model", "augmented", "--latent-dim", "2", "--no-baseline", "--out", "run")
    assert main(["train", "--resume", "run", "--epochs", "3", *typed, "--devices", "1", "--nodes", "1", "--quiet"]) == 0
    assert len(losses(run)) == 3


def test_one_whose_checkpoint_is_gone_keeps_its_weights(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It would be trained from the start, and its weights written over."""
    shutil.rmtree(run / "checkpoint")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "no checkpoint to go on from" in said(capfd, "--resume", "run", "--epochs", "4")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert main(["train", "--config", "run/config.json", "--out", "again", "--quiet"]) == 0


def test_one_that_stopped_early_needs_another_number_of_epochs(tmp_path: Path, monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "save_all", lambda *rest, **more: [])
    monkeypatch.setattr(running.reliability, "note", lambda *rest, **more: None)
    y = np.arange(80) % 2
    npz(tmp_path / "own.npz", x=np.random.default_rng(0).normal(size=(80, 4)) + 6 * y[:, None], y=y)
    tiny = [*TINY, "--data", "own.npz", "--epochs", "40", "--early-stopping", "1", "--learning-rate", "0.05"]
    assert main(["train", *tiny, "--out", "run"]) == 0
    done = len(losses(tmp_path / "run"))
    assert done < 39
    line = said(capfd, "--resume", "run", "--epochs", "40")
    assert f"--epochs 40 early stopping left {done}; another number" in line
    assert main(["train", "--resume", "run", "--epochs", "41", "--quiet"]) == 0
    assert len(losses(tmp_path / "run")) > done


def test_networks_of_another_version_are_refused(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from pyro_ssvae.train.checkpoints import load_state, write_state

    for file in run.glob("checkpoint/last*.safetensors"):
        if file.stem != "last-best":
            tensors, state = load_state(file)
            first = next(name for name in tensors if name.startswith("model."))
            write_state(file, ({k: v for k, v in tensors.items() if k != first}, {**state, "version": "0.0.7"}))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    line = said(capfd, "--resume", "run", "--epochs", "4")
    assert f"last.safetensors: it does not fit this model ({first[6:]} is missing)" in line
    assert "saved by pyro_ssvae 0.0.7" in line
    assert "train it anew, or install that version" in line
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    config = json.loads((run / "config.json").read_text())
    config["versions"]["pyro_ssvae"], config["settings"]["training"]["momentum"] = "0.0.7", 0.9
    (run / "config.json").write_text(json.dumps(config))
    assert "no setting 'momentum'): saved by pyro_ssvae 0.0.7" in said(capfd, "--resume", "run", "--epochs", "4")


def test_one_that_is_stopped_on_the_way_goes_on_with_its_new_settings(run: Path, monkeypatch: Any) -> None:
    import os
    import signal

    genuine = running.fit

    def stopped(*rest: Any, **options: Any) -> Any:
        return genuine(*rest, **{**options, "on_epoch": lambda row: os.kill(os.getpid(), signal.SIGINT)})

    monkeypatch.setattr(running, "fit", stopped)
    assert main(["train", "--resume", "run", "--epochs", "5", "--quiet"]) == 130
    monkeypatch.setattr(running, "fit", genuine)
    assert not (run / "metrics.json").exists()
    assert (run / "metrics-2.json").exists()
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    assert len(losses(run)) == 5


def test_further_labels(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["suggest", "run", "-n", "10"]) == 0
    (file,) = [path for path in tmp_path.rglob("*.csv") if path.name != "history.csv"]
    with open(file) as opened:
        rows = list(csv.DictReader(opened))
    with open(file, "w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0])
        writer.writeheader()
        writer.writerows({**row, "label": "1"} for row in rows)
    before = json.loads((run / "metrics.json").read_text())["data"]["labelled"]
    assert main(["train", "--resume", "run", "--epochs", "4", "--label-file", str(file), "--quiet"]) == 0
    metrics, config = (json.loads((run / f"{name}.json").read_text()) for name in ("metrics", "config"))
    assert metrics["data"]["labelled"] == before + 10
    assert config["settings"]["source"]["label_file"] == [str(file)]
    assert len(losses(run)) == 4


def test_where_nothing_comes_of_it_all_is_put_back(run: Path, monkeypatch: Any, capfd: Any) -> None:
    from pyro_ssvae import InputError

    before = {name: (run / name).read_bytes() for name in ("config.json", "metrics.json")}

    def refused(*rest: Any, **options: Any) -> Any:
        raise InputError("x: it cannot be")

    monkeypatch.setattr(running, "fit", refused)
    assert "x: it cannot be" in said(capfd, "--resume", "run", "--epochs", "4")
    assert {name: (run / name).read_bytes() for name in before} == before
    assert not (run / "metrics-2.json").exists()


def test_a_calibration_of_earlier_weights_is_not_kept(tmp_path: Path) -> None:
    """Once there are no labels to calibrate by, the sets of the run before would be of another model."""
    vae = create_model("augmented", input_shape=(4,), labels=ClassLabels(2), latent_dim=2)
    x, y = torch.randn(60, 4), torch.arange(60) % 2
    split = Dataset("own", x, y, x, y, ClassLabels(2))
    reliability.note(vae, split, (x[:30], y[:30]), None, tmp_path)
    assert (tmp_path / "calibration.json").exists()
    reliability.note(vae, split, (x[:30], torch.full((30,), -1)), None, tmp_path)
    assert not (tmp_path / "calibration.json").exists()
