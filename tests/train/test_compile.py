from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from test_fit import OfPyro, Outside, Plain, Regression
from tiny import ATTRIBUTES, CASES, CLASSES, build, mostly_slow, points, some_labels
from torch import Tensor, nn

from pyro_ssvae import AugmentedVAE, create_model, fit
from pyro_ssvae.cli.main import main
from pyro_ssvae.infer.label_inference import How
from pyro_ssvae.nn.networks import Decoder, Encoder
from pyro_ssvae.train.capture import laid_out
from pyro_ssvae.train.compile import CompiledStep
from pyro_ssvae.train.fit import Interrupted
from pyro_ssvae.train.step import Step

REFUSED = "the step cannot be compiled"


@pytest.fixture
def captured() -> Iterator[None]:
    """The captured program as it is, without TorchInductor, which takes a minute a model."""
    with patch("torch._inductor.compile", lambda graph, inputs, options: graph):
        yield


def train(model: nn.Module, x: Tensor, y: Tensor | None, **options: Any) -> dict[str, list[float]]:
    return fit(model, x, y, **{"progress": False, "batch_size": 16, "epochs": 3, **options})


def assert_same(make: Any, x: Tensor, y: Tensor | None, rtol: float = 1e-4, **options: Any) -> None:
    """Compiled and uncompiled training from one seed: the same history, weights and buffers."""
    results = []
    for compiled in (False, True):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        model = make()
        before = [p.clone() for p in model.parameters()]
        history = train(model, x, y, compile=compiled, **options)
        state = {**model.state_dict(), **{name: p.detach() for name, p in pyro.get_param_store().items()}}
        assert not before or any(not torch.equal(a, b) for a, b in zip(before, model.parameters()))
        results.append((history, state, torch.rand(1)))
    (history, state, noise), (others, other, other_noise) = results
    for column in {*history} - {"seconds"}:
        assert others[column] == pytest.approx(history[column], rel=rtol, nan_ok=True)
    assert torch.equal(noise, other_noise), "as many random numbers were drawn"
    for name, value in state.items():
        torch.testing.assert_close(other[name], value, rtol=rtol, atol=rtol, msg=name)


def layered(how: How = "plug-in") -> AugmentedVAE:
    """Running means and random zeros in the encoder."""
    layers = [nn.Linear(5, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)]  # a bias has no gradient
    decoder = Decoder(2, 3, 7, nn.Linear(7, 5), (5,))
    encoder = Encoder(*layers, out_features=8)
    return AugmentedVAE(encoder, decoder, CLASSES, latent_dim=2, label_inference=how)


@pytest.mark.parametrize("case", mostly_slow(CASES, "enumerate", "sparse", "revae-attributes", "m2-straight-through"))
@pytest.mark.usefixtures("captured")
def test_captured_steps_are_pyros(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    labels = build(case).labels
    assert_same(lambda: build(case), points(48), some_labels(labels, 48))
    assert REFUSED not in capsys.readouterr().err


@pytest.mark.parametrize("labels", mostly_slow([CLASSES, ATTRIBUTES], ATTRIBUTES))
@pytest.mark.usefixtures("captured")
def test_the_revaes_too(labels: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> nn.Module:
        weights = {"alpha": 10.0, "entropy_weight": 2.0, "alignment_weight": 5.0}
        return create_model("revae", input_shape=(5,), labels=labels, latent_dim=5, **weights)

    assert_same(make, points(48), some_labels(labels, 48), rtol=1e-3, learning_rate=1e-4)
    assert REFUSED not in capsys.readouterr().err


@pytest.mark.parametrize("make", [Plain, Outside, OfPyro, Regression])
@pytest.mark.usefixtures("captured")
def test_pairs_of_ones_own(make: type[nn.Module], capsys: pytest.CaptureFixture[str]) -> None:
    x = points(48)
    assert_same(make, x, x.sum(1).long() if make is Regression else None)
    assert REFUSED not in capsys.readouterr().err


class Twice(nn.Module):
    """One module under two names, and one tensor in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5, affine=False))
        self.again = self.first
        self.tied = nn.Linear(5, 5, bias=False)
        self.tied.weight = self.first[0].weight  # type: ignore[assignment]

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("twice", self)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.tied(self.again(x)), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None: ...


@pytest.mark.usefixtures("captured")
def test_what_is_held_twice(capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> nn.Module:
        made = Twice()
        made.first[0].bias = None  # type: ignore[assignment]  # before batch normalisation, a bias has no gradient
        return made

    assert_same(make, points(48), None)
    assert REFUSED not in capsys.readouterr().err


class Transposed(nn.Module):
    """A matrix that is used transposed, so that the captured program returns its gradient with other strides."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(5, 7))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("transposed", self)
        with pyro.plate("data", len(x)):
            loc = (x.repeat(1, 2)[:, :7].unsqueeze(-1) * self.matrix.t()).sum(1)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x.square())

    def guide(self, x: Tensor, y: Tensor | None = None) -> None: ...


@pytest.mark.usefixtures("captured")
def test_a_gradient_has_its_parameters_strides(capsys: pytest.CaptureFixture[str]) -> None:
    """Fused AdamW pairs parameter, gradient and moments by their place in memory."""
    laid: list[bool] = []

    def noting(gradient: Tensor, parameter: Tensor) -> Tensor:
        laid.append(gradient.stride() == parameter.stride())
        return laid_out(gradient, parameter)

    with patch("pyro_ssvae.train.capture.laid_out", noting):
        assert_same(Transposed, points(48), None, rtol=1e-5, learning_rate=0.1)
    assert laid == [False], "the example's gradient comes back as it should"
    assert REFUSED not in capsys.readouterr().err
    gradient, parameter = torch.randn(7, 5).t(), torch.randn(5, 7)
    assert laid_out(gradient, parameter).stride() == parameter.stride()
    assert torch.equal(laid_out(gradient, parameter), gradient)
    assert laid_out(parameter, parameter) is parameter


@pytest.mark.usefixtures("captured")
def test_double_precision() -> None:
    assert_same(lambda: build("enumerate"), points(48), some_labels(CLASSES, 48), rtol=1e-10, precision="64-true")


@pytest.mark.parametrize("how", mostly_slow(["plug-in", "sparse"], "plug-in"))
def test_compiled_by_inductor_with_running_means_and_dropout(how: How, capsys: pytest.CaptureFixture[str]) -> None:
    assert_same(lambda: layered(how), points(48), some_labels(CLASSES, 48))
    assert REFUSED not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_compiled_by_inductor(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert_same(lambda: build(case), points(48), some_labels(build(case).labels, 48))
    assert REFUSED not in capsys.readouterr().err


def compiled_step(model: nn.Module) -> CompiledStep:
    """The compiled step of a model, which cannot fall back."""

    def otherwise(x: Tensor, y: Tensor) -> Tensor:
        raise AssertionError("the step was not compiled")

    return CompiledStep(Step(model).train(), list(model.parameters()), otherwise, nullcontext)


@pytest.mark.usefixtures("captured")
def test_random_numbers_are_drawn_afresh_and_follow_the_seed() -> None:
    step, x, y = compiled_step(build("vae")), points(16), some_labels(CLASSES, 16)
    losses = [float(step(x, y)) for _ in range(3)]
    assert len(set(losses)) == 3
    torch.manual_seed(5)
    again = [float(step(x, y)) for _ in range(2)]
    torch.manual_seed(5)
    assert [float(step(x, y)) for _ in range(2)] == again
    assert again[0] != again[1]


@pytest.mark.usefixtures("captured")
def test_capture_draws_nothing_and_leaves_store_and_parameters_alone() -> None:
    model, x = build("probabilities"), points(16)
    pyro.get_param_store().setdefault("mine", torch.ones(2))
    before, parameters, generator = dict(model.state_dict()), list(model.parameters()), torch.get_rng_state()
    compiled_step(model).compile(x, some_labels(CLASSES, 16))
    assert torch.equal(torch.get_rng_state(), generator)
    assert list(pyro.get_param_store().keys()) == ["mine"]
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


@pytest.mark.usefixtures("captured")
def test_one_program_a_shape_of_batch() -> None:
    step, y = compiled_step(build("vae")), some_labels(CLASSES, 16)
    for n in (16, 9, 16, 9):
        step(points(16)[:n], y[:n])
    assert len(step.programs) == 2


@pytest.mark.usefixtures("captured")
def test_too_many_shapes_end_the_compilation(capsys: pytest.CaptureFixture[str]) -> None:
    step, y = compiled_step(build("vae")), some_labels(CLASSES, 20)
    step.otherwise = lambda x, y: torch.zeros(())
    with patch("pyro_ssvae.train.compile.MOST_SHAPES", 2):
        for n in range(4, 10):
            step(points(20)[:n], y[:n])
    assert len(step.programs) == 2
    assert capsys.readouterr().err.count(REFUSED) == 1


class Assigned(Plain):
    """A buffer that each step assigns anew, and a tensor that no module holds."""

    outside = torch.zeros(())

    def __init__(self) -> None:
        super().__init__()
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(5))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        self.seen = 0.5 * self.seen + x.detach().mean(0)
        super().model(x + self.outside * self.seen, y)

    def set_progress(self, progress: float) -> None:
        Assigned.outside.fill_(progress)


@pytest.mark.usefixtures("captured")
def test_buffers_assigned_anew_and_tensors_outside_of_modules(capsys: pytest.CaptureFixture[str]) -> None:
    assert_same(Assigned, points(48) + 1, None)
    assert REFUSED not in capsys.readouterr().err


class Branches(Plain):
    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        super().model(2 * x if x.sum() > 0 else x, y)


class Anneals(Plain):
    weight = 1.0

    def set_progress(self, progress: float) -> None:
        self.weight = 1.0 + progress

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.poutine.scale(scale=self.weight):
            super().model(x, y)


class Counts(Plain):
    calls = 0

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        self.calls += 1
        super().model(x / self.calls, y)


class RollsDice(Plain):
    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        super().model(x * random.random(), y)


class RollsNumPysDice(Plain):
    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        super().model(x * float(np.random.rand()), y)  # noqa: NPY002


class Hooked(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.decoder.weight.register_hook(lambda gradient: 2 * gradient)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Branches, "its shapes or branches depend on numbers"),
        (Anneals, "weight changes while the model trains"),
        (Counts, "calls changes while the model trains"),
        (RollsDice, "random numbers outside of PyTorch"),
        (RollsNumPysDice, "random numbers outside of PyTorch"),
        (Hooked, "a parameter has a hook"),
    ],
)
@pytest.mark.usefixtures("captured")
def test_what_a_program_cannot_follow_runs_uncompiled(
    make: type[nn.Module], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def seeded() -> nn.Module:
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        return make()

    assert_same(seeded, points(48), None, rtol=1e-6)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert REFUSED in err
    assert why in err


def test_without_a_compiler_it_runs_uncompiled(capsys: pytest.CaptureFixture[str]) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    with patch("torch._inductor.compile", side_effect=InvalidCxxCompiler()):
        assert_same(Plain, points(48), None, rtol=1e-6)
    assert "no C++ compiler is found" in capsys.readouterr().err


@pytest.mark.usefixtures("captured")
def test_resumed_training_is_the_uninterrupted_one(tmp_path: Path) -> None:
    x, y = points(48), some_labels(CLASSES, 48)
    whole, parts = layered_seeded(), layered_seeded()
    history = train(whole, x, y, compile=True)

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(parts, x, y, compile=True, checkpoint=tmp_path / "c", on_epoch=stop)
    again = train(parts, x, y, compile=True, checkpoint=tmp_path / "c", resume=True)
    assert again["loss"] == history["loss"]
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values()))


def layered_seeded() -> AugmentedVAE:
    pyro.set_rng_seed(0)
    return layered()


@pytest.mark.slow
@pytest.mark.usefixtures("captured")
def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(name: str, *more: str) -> list[str]:
        command = ["train", "--epochs", "1", "--quiet", "--no-baseline", "--out", str(tmp_path / name), *more]
        assert main(command) == 0
        rows = (tmp_path / name / "history.csv").read_text().splitlines()
        return [row.split(",")[1] for row in rows]

    assert run("a") == run("b", "--compile")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["settings"]["training"]["compile"] is True
    assert REFUSED not in capsys.readouterr().err
