"""TensorBoard's event files hold what the training said, epoch by epoch, and what the evaluation found."""

from __future__ import annotations

import csv
import json
import math
import shutil
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
from pyro_ssvae.train.loggers import log_epochs, log_metrics, open_logger, tensorboard

TINY = (
    "--epochs", "3", "--batch-size", "16", "--labelled-rows", "4", "--latent-dim", "2", "--quiet", "--no-calibration",
)  # fmt: skip


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of a folder's event files, as steps and values."""
    found = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_the_command_line_writes_every_epoch_and_the_metrics(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "save_all", lambda *rest, **more: [])
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
    monkeypatch.setattr(training, "save_all", lambda *rest, **more: [])
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


def data() -> tuple[torch.Tensor, torch.Tensor, ps.Model]:
    vae = ps.create_model("augmented", input_shape=3, labels=ps.ClassLabels(2), latent_dim=2)
    return torch.randn(40, 3), torch.arange(40) % 2, vae


def mlflow_runs(folder: Path) -> list[Any]:
    """The runs that a local MLflow store holds."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("pyro_ssvae")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    history = [client.get_metric_history(run.info.run_id, "train/loss") for run in runs]
    return [(run, [(m.step, m.value) for m in steps]) for run, steps in zip(runs, history)]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without a run, which takes MLflow seconds to make."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def test_mlflow_holds_what_fit_said(tmp_path: Path, empty_store: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    x, y, vae = data()
    seen: list[float] = []
    options: dict[str, Any] = {"epochs": 3, "batch_size": 20, "progress": False}
    history = ps.fit(vae, x, y, **options, logger="mlflow", on_epoch=lambda row: seen.append(row["epoch"]))
    ((run, losses),) = mlflow_runs(tmp_path)
    assert [step for step, _ in losses] == [1, 2, 3] == seen
    np.testing.assert_allclose([value for _, value in losses], history["loss"])
    assert run.info.status == "FINISHED"

    def broken(row: dict[str, float]) -> None:
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        ps.fit(vae, x, y, **options, logger="mlflow", on_epoch=broken)
    assert sorted(run.info.status for run, _ in mlflow_runs(tmp_path)) == ["FAILED", "FINISHED"]


def test_mlflow_by_one_word_in_the_shell(tmp_path: Path, empty_store: Path, monkeypatch: Any) -> None:
    """A server that the environment names is taken; without, a store in the run's folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(training, "save_all", lambda *rest, **more: [])
    path = npz(tmp_path / "own.npz", x=np.random.default_rng(0).random((60, 4)), y=np.arange(60) % 2)
    command = ["train", *TINY, "--data", str(path), "--no-baseline", "--logger", "mlflow", "--out", "run"]
    assert main(command) == 0
    ((run, losses),) = mlflow_runs(tmp_path)
    assert len(losses) == 3
    assert run.info.run_name == "run"
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert run.data.metrics["test/accuracy"] == pytest.approx(metrics["test"]["accuracy"])
    assert run.info.status == "FINISHED"
    assert not Path("run/mlflow.db").exists()
    assert main(["train", "--resume", "run", "--epochs", "5"]) == 0
    ((again, losses),) = mlflow_runs(tmp_path)  # the same run goes on
    assert again.info.run_id == run.info.run_id
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5]

    def stopped(*rest: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "evaluate", stopped)
    assert main([*command[:-1], "stopped"]) == 130
    assert {run.info.run_name: run.info.status for run, _ in mlflow_runs(tmp_path)} == {
        "run": "FINISHED",
        "stopped": "FAILED",
    }
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for name in ("one", "two"):  # the second is not the first's, of which MLflow makes a note in the environment
        shutil.copytree(tmp_path / "run", tmp_path / name)
        shutil.copyfile(empty_store, tmp_path / name / "mlflow.db")
        log_metrics(open_logger("mlflow", tmp_path / name), {"accuracy": 0.5}, "test", step=1)
        assert len(mlflow_runs(tmp_path / name)) == 1


def test_weights_and_biases_without_a_network(tmp_path: Path, monkeypatch: Any) -> None:
    """Each fit is a run of its own, which ends with it."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    x, y, vae = data()
    logged: list[Any] = []
    genuine = wandb.sdk.wandb_run.Run.log

    def noted(self: Any, found: Any, *rest: Any, **named: Any) -> None:
        logged.append(found)
        genuine(self, found, *rest, **named)

    monkeypatch.setattr(wandb.sdk.wandb_run.Run, "log", noted)
    history = ps.fit(vae, x, y, epochs=2, batch_size=20, progress=False, logger="wandb")
    assert wandb.run is None
    np.testing.assert_allclose([found["train/loss"] for found in logged], history["loss"])
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 1


def test_each_fit_is_a_run_of_its_own_in_tensorboard(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        x, y, vae = data()
        history = ps.fit(vae, x, y, epochs=2, batch_size=20, progress=False, logger="tensorboard")
        losses = events(tmp_path / "tensorboard" / f"version_{i}")["train/loss"]
        assert [step for step, _ in losses] == [1, 2]
        np.testing.assert_allclose([value for _, value in losses], history["loss"], rtol=1e-5)


def test_a_logger_that_cannot_be_opened_is_said_before_anything_is_trained(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    x, y, vae = data()
    before = vae.state_dict()["head.bias"].clone()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://server")
    (tmp_path / "tensorboard").write_text("a file")
    for name, culprit in (("mlflow", "nowhere://server"), ("tensorboard", "/tensorboard")):
        with pytest.raises(ps.InputError, match=culprit) as caught:
            ps.fit(vae, x, y, epochs=1, progress=False, logger=name)
        assert str(caught.value).startswith(f"logger {name}: it cannot be opened (")
        assert "\n" not in str(caught.value)
    assert torch.equal(vae.state_dict()["head.bias"], before)


def test_a_logger_of_one_s_own_stays_open(tmp_path: Path) -> None:
    x, y, vae = data()
    logger = CSVLogger(tmp_path, name="mine", version="")
    history = ps.fit(vae, x, y, epochs=3, batch_size=20, progress=False, logger=logger)
    log_metrics(logger, {"accuracy": 0.5}, "test", step=4)
    with open(tmp_path / "mine" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["train/loss"]) for row in rows[:3]], history["loss"], rtol=1e-6)
    assert rows[3]["test/accuracy"] == "0.5"


def test_fit_names_a_logger_that_it_cannot_use(monkeypatch: Any) -> None:
    x, y, vae = data()
    for wrong, culprit in (("mlfow", "did you mean 'mlflow'"), (3, "3")):
        with pytest.raises(ps.InputError, match=culprit) as caught:
            ps.fit(vae, x, y, epochs=1, progress=False, logger=wrong)  # type: ignore[arg-type]
        assert str(caught.value).startswith("logger: ")
    monkeypatch.setattr(loggers, "find_spec", lambda name: None if name == "wandb" else find_spec(name))
    with pytest.raises(ps.InputError, match=r"logger wandb: .* pip install pyro_ssvae\[wandb\]"):
        ps.fit(vae, x, y, epochs=1, progress=False, logger="wandb")
