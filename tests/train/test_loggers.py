"""TensorBoard's event files hold what the training said, epoch by epoch, and what the evaluation found."""

from __future__ import annotations

import csv
import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_makers import npz
from lightning.fabric.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import pyro_ssvae as ps
from pyro_ssvae.cli.main import main
from pyro_ssvae.experiment import run as training
from pyro_ssvae.train import loggers
from pyro_ssvae.train.loggers import log_epochs, log_metrics, tensorboard

TINY = ("--epochs", "3", "--batch-size", "16", "--labelled-rows", "4", "--latent-dim", "2", "--quiet")


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of a folder's event files, as steps and values."""
    found = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_the_command_line_writes_every_epoch_and_the_metrics(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "save_all", lambda *rest: [])
    assert main(["train", *TINY, "--labels", "30", "--logger", "tensorboard", "--out", "run"]) == 0
    logged = events(tmp_path / "run" / "tensorboard")
    with open("run/history.csv") as file:
        history = list(csv.DictReader(file))
    assert [step for step, _ in logged["train/loss"]] == [1, 2, 3]
    np.testing.assert_allclose([v for _, v in logged["train/loss"]], [float(row["loss"]) for row in history], rtol=1e-5)
    accuracies = [float(row["validation_accuracy"]) for row in history]
    np.testing.assert_allclose([v for _, v in logged["validation/accuracy"]], accuracies, rtol=1e-5)
    metrics = json.loads(Path("run/metrics.json").read_text())
    for part in ("test", "baseline"):
        ((step, value),) = logged[f"{part}/accuracy"]
        assert step == 3
        assert value == pytest.approx(metrics[part]["accuracy"], rel=1e-6)


def test_without_the_option_nothing_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "save_all", lambda *rest: [])
    path = npz(tmp_path / "own.npz", x=np.random.default_rng(0).random((60, 4)), y=np.arange(60) % 2)
    assert main(["train", *TINY, "--data", str(path), "--no-baseline", "--out", "run"]) == 0
    assert not Path("run/tensorboard").exists()


def test_what_was_not_measured_is_left_out_and_tables_are_flattened(tmp_path: Path) -> None:
    logger = tensorboard(tmp_path / "events")
    log = log_epochs(logger)
    log({"epoch": 1, "loss": 5.0, "seconds": 0.5, "validation_accuracy": math.nan})
    log({"epoch": 2, "loss": 4.0, "seconds": 1.0, "validation_accuracy": 0.25})
    found = {
        "accuracy": 0.5,
        "confusion": [[1, 0], [0, 1]],
        "auroc": None,
        "per_attribute": {"hat": {"accuracy": 0.75}},
    }
    log_metrics(logger, found, "test", step=2)
    logged = events(tmp_path / "events")
    assert logged == {
        "train/loss": [(1, 5.0), (2, 4.0)],
        "train/seconds": [(1, 0.5), (2, 1.0)],
        "validation/accuracy": [(2, 0.25)],
        "test/accuracy": [(2, 0.5)],
        "test/per_attribute/hat/accuracy": [(2, 0.75)],
    }


def test_any_logger_of_fabric_takes_the_epochs_of_fit(tmp_path: Path) -> None:
    x, y = torch.randn(40, 3), torch.arange(40) % 2
    vae = ps.create_model("augmented", input_shape=(3,), labels=ps.ClassLabels(2), latent_dim=2)
    logger = CSVLogger(tmp_path, name="mine", version="")
    history = ps.fit(vae, x, y, epochs=4, batch_size=20, progress=False, on_epoch=log_epochs(logger))
    logger.save()
    with open(tmp_path / "mine" / "metrics.csv") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(losses, history["loss"], rtol=1e-6)


def test_a_logger_that_is_unknown_or_absent_is_named(
    tmp_path: Path, monkeypatch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--logger", "tensorbord"]) == 2
    assert "did you mean 'tensorboard'?" in capfd.readouterr().err

    def absent(name: str) -> Any:
        return None if name == "tensorboard" else find_spec(name)

    monkeypatch.setattr(loggers, "find_spec", absent)
    assert main(["train", "--logger", "tensorboard"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "pip install pyro_ssvae[tensorboard]" in said
    assert not list(tmp_path.iterdir())
    with pytest.raises(ps.InputError, match=r"pip install pyro_ssvae\[tensorboard\]"):
        tensorboard(tmp_path / "events")
