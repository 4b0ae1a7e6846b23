"""Two processes of the CPU compute what one does: gradients, files, stops, and the loss of one of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyro
import pytest
import torch
from data_makers import refused
from test_fit import Outside, Plain, blobs, same
from tiny import loss_at
from torch import Tensor, nn

from pyro_ssvae import ClassLabels, InputError, create_model, fit
from pyro_ssvae.distributed import shared_batch, sum_gradients
from pyro_ssvae.experiment import run as training
from pyro_ssvae.experiment.config import DataConfig, ExperimentConfig
from pyro_ssvae.nn.networks import ClassHead
from pyro_ssvae.train.compile import CompiledStep
from pyro_ssvae.train.fit import Interrupted
from pyro_ssvae.train.launch import WorkerLost, join
from pyro_ssvae.train.progress import Callbacks
from pyro_ssvae.train.settings import FitSettings
from pyro_ssvae.train.step import Step
from pyro_ssvae.train.workers import free_port, run_workers

# Default networks: an MLP, convolutions, and patches, whose decoder has batch normalisation too; and a cost of classes.
CASES: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "mlp": ("augmented", (1, 8, 8), {}),
    "enumerate": ("augmented", (1, 8, 8), {"label_inference": "enumerate"}),
    "convolutions": ("augmented", (1, 20, 20), {}),
    "sparse, patches": ("augmented", (1, 34, 34), {"label_inference": "sparse"}),
    "series": ("m2", (3, 12), {}),
}


def model_of(case: str) -> Any:
    """The case's model in float64, without the noise of dropout."""
    name, shape, options = CASES[case]
    pyro.set_rng_seed(3)
    model: Any = create_model(name, input_shape=shape, labels=ClassLabels(3), latent_dim=2, **options).double()
    for part in model.modules():
        if isinstance(part, ClassHead):
            part.dropout = 0.0
    nn.init.normal_(model.head.weight)
    return model.train()


def batch_of(case: str, n: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Points, labels and noise of an odd number of rows: the processes have unlike shares."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, *CASES[case][1], generator=generator, dtype=torch.float64)
    y = torch.tensor([0, -1, 2, -1, -1, 1, -1])[torch.arange(n) % 7]
    return x, y, torch.randn(n, 8, generator=generator, dtype=torch.float64)


def gradients_in_worker(x: Tensor, y: Tensor, *, take: Any, **_: Any) -> None:
    """What this process and its companion have, of each case, after a step: loss, gradients and buffers."""
    fabric = join(FitSettings())
    found: dict[str, Any] = {}
    for case in CASES:
        model = model_of(case)
        x, y, eps = (part[fabric.global_rank :: 2] for part in batch_of(case))
        with shared_batch():
            loss = loss_at(model, x, y, eps)
            loss.backward()
        summed = sum_gradients(list(model.parameters()), loss.detach().reshape(1))
        found[case] = [summed, *(p.grad for p in model.parameters()), *model.buffers()]
    with patch("torch._inductor.compile", lambda graph, inputs, options: graph):
        found["captured"] = [captured_steps(fabric.global_rank, compiled) for compiled in (False, True)]
    take(found)


def captured_steps(rank: int, compiled: bool) -> list[Tensor | None]:
    """Loss, gradients and buffers after three steps of a part, uncompiled or captured, in which sums are."""
    model = model_of("mlp")
    step, parameters = Step(model), list(model.parameters())
    x, y, _ = batch_of("mlp")

    def gradients(x: Tensor, y: Tensor) -> Tensor:
        model.zero_grad()
        loss: Tensor = step(x, y)
        loss.backward()
        return loss.detach()

    run = CompiledStep(step, parameters, gradients, nullcontext) if compiled else gradients
    for i in range(3):
        torch.manual_seed(10 * i + rank)
        with shared_batch():
            loss = run(x[rank::2], y[rank::2])
    assert not compiled or not run.refused  # type: ignore[attr-defined]
    return [sum_gradients(parameters, loss.reshape(1)), *(p.grad for p in parameters), *model.buffers()]


def alone(*arguments: Any, **options: Any) -> Any:
    """What the first of two processes gives, with nobody who watches."""
    results: list[Any] = []
    quiet = Callbacks(show=lambda *_: None, stop_requested=lambda: False)
    run_workers(FitSettings(devices=2), *arguments, **options, callbacks=quiet, take=results.append)
    return results[0]


def test_two_processes_give_the_gradients_of_one() -> None:
    found = alone(gradients_in_worker, torch.zeros(1), torch.zeros(1), {})
    for case in CASES:
        model = model_of(case)
        loss = loss_at(model, *batch_of(case))
        loss.backward()
        one = [loss.detach().reshape(1), *(p.grad for p in model.parameters()), *model.buffers()]
        for theirs, ours in zip(found[case], one, strict=True):
            if ours is not getattr(model, "decodes", None):  # of which each process has its own
                ours = torch.zeros_like(theirs) if ours is None else ours
                torch.testing.assert_close(theirs, ours, atol=1e-9, rtol=1e-9, msg=case)
    for ours, theirs in zip(*found["captured"], strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-9, rtol=1e-9)


def trained(model: nn.Module, **options: Any) -> dict[str, list[float]]:
    x, y, _ = blobs()
    return fit(model, x, y, **{"progress": False, "batch_size": 30, "epochs": 4, "devices": 2, "seed": 5, **options})


def classes() -> nn.Module:
    pyro.set_rng_seed(1)
    return create_model("augmented", input_shape=(5,), labels=ClassLabels(3), latent_dim=2)


@pytest.mark.slow
def test_a_training_of_two_processes_its_loss_and_its_return(tmp_path: Path) -> None:
    """As good as one process's; when one of the two is killed, what is written goes on to the very same end."""
    x, y, truth = blobs()
    whole, rows = classes(), list[dict[str, float]]()
    history = trained(whole, on_epoch=rows.append, validation=(x, truth), epochs=12)
    assert [row["loss"] for row in rows] == history["loss"]  # on_epoch is called here, as it happens
    assert history["loss"][-1] < history["loss"][0]
    assert history["validation_accuracy"][-1] > 0.95
    assert not whole.training
    one = classes()
    single = fit(one, x, y, progress=False, batch_size=30, epochs=12, seed=5)
    assert history["loss"][0] != single["loss"][0], "the processes have noise of their own"
    assert history["loss"][-1] == pytest.approx(single["loss"][-1], rel=0.1)

    def kill(row: dict[str, float]) -> None:
        if row["epoch"] == 3:
            os.kill(multiprocessing.active_children()[-1].pid, signal.SIGKILL)  # type: ignore[arg-type]

    options: dict[str, Any] = {"validation": (x, truth), "epochs": 12, "checkpoint": tmp_path / "state"}
    with pytest.raises(WorkerLost, match=r"^process \d of 2 has ended \(signal 9\).* the state is in .*state$"):
        trained(classes(), on_epoch=kill, **options)
    assert not multiprocessing.active_children()
    again = classes()
    resumed = trained(again, resume=True, **options)
    assert same(again, whole)
    assert resumed["loss"] == history["loss"]


@pytest.mark.slow
def test_a_pair_defined_here_and_a_request_to_stop(tmp_path: Path) -> None:
    """The class is no module's, so it travels by value; parameters outside of modules come back to the store."""

    class Here(Outside):
        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            pyro.param("factor", lambda: torch.rand(()))
            super().model(x, y)
            pyro.factor("far", -(pyro.param("factor") - 2.0).square() * len(x))

    def stop(row: dict[str, float]) -> None:
        signal.raise_signal(signal.SIGTERM)

    options: dict[str, Any] = {"epochs": 12, "learning_rate": 0.3, "augment": "none"}
    checkpoint = tmp_path / "state"
    with pytest.raises(Interrupted, match=r"^stopped after \d+ of 120 steps; the state is in .*state$"):
        trained(Here(), on_epoch=stop, checkpoint=checkpoint, **options)
    assert not multiprocessing.active_children()
    trained(Here(), resume=True, checkpoint=checkpoint, **options)
    found = {name: p.detach() for name, p in pyro.get_param_store().items()}
    pyro.clear_param_store()
    x, y, _ = blobs()
    fit(Here(), x, y, progress=False, batch_size=30, seed=5, **options)  # there is no noise: one process does the same
    assert {"loc", "scale", "factor"} == found.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, pyro.param(name).detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_process_that_does_not_answer_is_not_waited_for_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRO_SSVAE_TIMEOUT", "3")

    def silence(row: dict[str, float]) -> None:
        os.kill(multiprocessing.active_children()[-1].pid, signal.SIGSTOP)  # type: ignore[arg-type]

    with (
        patch("pyro_ssvae.train.workers.GRACE", 3.0),
        pytest.raises(WorkerLost, match=r"does not answer after .* state is in"),
    ):
        trained(Plain(), on_epoch=silence, checkpoint=tmp_path / "state", epochs=1000)
    assert (tmp_path / "state").exists()
    assert not multiprocessing.active_children()


class Spoilt(Plain):
    """A pair whose loss is not finite after some calls in training."""

    calls = 0

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        super().guide(x, y)
        self.calls += self.training
        pyro.factor("spoilt", torch.tensor(torch.nan if self.calls > 6 else 0.0), has_rsample=False)


def test_what_a_process_raises_is_raised_here() -> None:
    with pytest.raises(InputError, match=r"loss is not finite in epoch ., step .*, first at site 'spoilt'"):
        trained(Spoilt())


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"devices": 0}, "devices: 0"),
        ({"devices": 2, "device": "cuda"}, "device: 'cuda', but no CUDA GPU is seen here; the devices here are cpu"),
        ({"num_nodes": 2}, "num_nodes: 2; NODE_RANK"),
    ],
)
def test_processes_that_cannot_be_had(options: dict[str, Any], culprit: str) -> None:
    if torch.cuda.device_count() > 1:
        pytest.skip("there are GPUs")
    with pytest.raises(InputError, match=culprit):
        trained(Plain(), **options)


def npz(folder: Path) -> Path:
    x, y, truth = blobs(90, 30)
    np.savez(folder / "blobs.npz", x=x.numpy(), y=y.numpy(), x_test=x[:20].numpy(), y_test=truth[:20].numpy())
    return folder / "blobs.npz"


def check_one_run(folder: Path) -> None:
    """One set of files, as one process would write them."""
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["train"]["epochs"] == 3
    assert metrics["data"]["labelled"] == 12
    assert 0 <= metrics["baseline"]["accuracy"] <= 1
    assert len((folder / "history.csv").read_text().splitlines()) == 4
    assert not list(folder.rglob(".*"))


COMMAND = [
    "-m", "pyro_ssvae", "train", "--labels", "12", "--epochs", "3", "--batch-size", "16", "--quiet", "--no-calibration",
]  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1] / "suites"), **more}


def test_a_batch_has_rows_for_each_process() -> None:
    """Two where batch normalisation is: PyTorch's takes no fewer."""
    x, y = torch.zeros(12, 4), torch.arange(12) % 2
    model = create_model("augmented", input_shape=4, labels=ClassLabels(2))
    options: dict[str, Any] = {"device": "cpu", "labelled_rows": 0, "epochs": 1, "progress": False}
    refused(lambda: fit(model, x, y, devices=2, batch_size=3, **options), "devices", "2 processes", "3 rows", "needs 2")


@pytest.mark.slow
def test_under_torchrun(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *COMMAND]
    out = tmp_path / "runs" / "a"
    done = subprocess.run(
        [*run, "--data", npz(tmp_path), "--out", out], env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run: ") == 1
    check_one_run(out)


def test_the_folder_may_be_taken_before_the_others_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process claims it whenever it is that far; where it was not free, that one says so."""
    out = tmp_path / "a"
    out.mkdir()
    (out / "config.json").write_text("{}")
    monkeypatch.setattr(training, "fit_model", lambda *rest, **options: {})
    monkeypatch.setattr(training, "is_main_process", lambda settings: False)
    settings = ExperimentConfig(DataConfig(data=str(npz(tmp_path))), out=out)
    assert training.train(settings) == out
    monkeypatch.setattr(training, "is_main_process", lambda settings: True)
    refused(lambda: training.train(settings), "--out", "has not ended")


@pytest.mark.slow
def test_two_machines_in_the_shell(tmp_path: Path) -> None:
    """Two nodes, here the same one, of two processes each."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, *COMMAND, "--devices", "2", "--nodes", "2", "--data", str(npz(tmp_path))]
    out = tmp_path / "runs" / "a"
    both = [
        subprocess.Popen([*command, "--out", out], env=environment(NODE_RANK=str(node), **place)) for node in (0, 1)
    ]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    check_one_run(out)
