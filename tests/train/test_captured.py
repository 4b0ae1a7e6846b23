from __future__ import annotations

import random
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from test_compile import Anneals, Assigned, Branches, Counts, Hooked, RollsDice, Transposed, Twice, layered, train
from test_fit import OfPyro, Outside, Plain, Regression
from test_gpu_ready import WAITING, replayed_operations
from tiny import ATTRIBUTES, CASES, CLASSES, build, mostly_slow, points, some_labels
from torch import Tensor, nn

from pyro_ssvae import InputError, create_model
from pyro_ssvae.train import captured
from pyro_ssvae.train.captured import CapturedStep
from pyro_ssvae.train.replayed_step import Replay

QUICK = ("classifier", "enumerate", "probabilities-attributes", "revae", "revae-local", "m1", "m2-straight-through",
    "m1+m2", "adgm", "mvae-attributes", "diva")  # fmt: skip


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[CapturedStep]:
    """The captured steps of the trainings in a test, which are replayed as soon as can be, however slow the machine."""
    made: list[CapturedStep] = []
    begin = CapturedStep.__init__

    def noting(self: CapturedStep, *args: Any) -> None:
        begin(self, *args)
        made.append(self)

    monkeypatch.setattr(CapturedStep, "__init__", noting)
    monkeypatch.setattr(captured, "LEAST", 2)
    monkeypatch.setattr(captured.time, "perf_counter", lambda: 0.0)
    return made


def assert_same(make: Callable[[], nn.Module], x: Tensor, y: Tensor | None, epochs: int = 6, **options: Any) -> None:
    """Captured and ordinary training from one seed: history, weights, buffers and generator to the last bit."""
    results = []
    for compiled in (False, None):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        model = make()
        history = train(model, x, y, compile=compiled, epochs=epochs, **options)
        state = {**model.state_dict(), **{name: p.detach() for name, p in pyro.get_param_store().items()}}
        results.append((history, state, torch.rand(1)))
    (history, state, noise), (others, other, other_noise) = results
    for column in {*history} - {"seconds"}:
        torch.testing.assert_close(others[column], history[column], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(noise, other_noise)
    assert all(torch.equal(other[name], value) for name, value in state.items())


def replayed(steps: list[CapturedStep]) -> int:
    """How many steps of the latest training were replayed or compared."""
    assert steps[-1].refused is None, steps[-1].refused
    return sum(shape.calls - shape.recorded for shape in steps[-1].shapes.values())


@pytest.mark.parametrize("case", mostly_slow([case for case in CASES if "sparse" not in case], *QUICK))
def test_every_model_is_captured_to_the_bit(case: str, steps: list[CapturedStep]) -> None:
    with replayed_operations() as used:
        assert_same(lambda: build(case), points(48), some_labels(build(case).labels, 48))
    assert replayed(steps) == 3 * 6 - captured.FIRST - 1
    assert len(used) > 20
    assert not WAITING & set(used)


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES])
def test_the_revaes_too(labels: Any, steps: list[CapturedStep]) -> None:
    def make() -> nn.Module:
        return create_model("revae", input_shape=(5,), labels=labels, latent_dim=5, alpha=10.0)

    assert_same(make, points(48), some_labels(labels, 48))
    assert replayed(steps) > 10


def test_images_with_convolutions_running_means_and_augmentation(steps: list[CapturedStep]) -> None:
    def make() -> nn.Module:
        return create_model("augmented", input_shape=(1, 8, 8), labels=CLASSES, latent_dim=3)

    x = torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert_same(make, x, some_labels(CLASSES, 48), augment="affine", class_weights="balanced", clip_norm=5.0)
    assert replayed(steps) > 10


@pytest.mark.parametrize("make", [Plain, Outside, OfPyro, Regression, Twice, Transposed, Assigned, layered])
def test_pairs_of_ones_own(make: type[nn.Module], steps: list[CapturedStep]) -> None:
    x = points(48)
    assert_same(make, x, x.sum(1).long() if make is Regression else None)
    assert replayed(steps) > 10


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_precision(precision: str, steps: list[CapturedStep]) -> None:
    assert_same(lambda: build("enumerate"), points(48), some_labels(CLASSES, 48), precision=precision)
    assert replayed(steps) > 10


def test_no_operation_is_run_by_python(steps: list[CapturedStep], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_ssvae.train.replay.one_by_one", lambda program: pytest.fail("TorchScript knows it"))
    train(layered(), points(48), some_labels(CLASSES, 48), epochs=6)
    assert replayed(steps) > 10


def test_python_runs_what_torchscript_does_not_know(steps: list[CapturedStep], monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(program: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("pyro_ssvae.train.replay.scripted", unknown)
    assert_same(layered, points(48), some_labels(CLASSES, 48))
    assert replayed(steps) > 10


class Printing(Plain):
    """Python that changes where nothing shows it: it is found out by the comparison."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        super().model(x * (1.0 + clock()), y)


TICKS: ContextVar[int] = ContextVar("ticks", default=0)


def clock() -> float:
    TICKS.set(TICKS.get() + 1)
    return TICKS.get() / 100


class Lists(Plain):
    """A list of its own that grows from the tenth epoch on."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = [1.0]

    def set_progress(self, progress: float) -> None:
        self.weights[0] = 1.0 + max(0.0, progress - 0.5)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.poutine.scale(scale=self.weights[0]):
            super().model(x, y)


BETA = 1.0


class Globals(Plain):
    def set_progress(self, progress: float) -> None:
        global BETA
        BETA = 1.0 + max(0.0, progress - 0.5)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.poutine.scale(scale=BETA):
            super().model(x, y)


class Reads(Plain):
    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        super().model(x * float(x.detach().sum().numpy() > 0), y)


class Watched(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.decoder.register_forward_hook(lambda module, inputs, output: self.seen.append(1))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Branches, "branches depend on numbers"),
        (Anneals, "weight changes"),
        (Counts, "calls changes"),
        (RollsDice, "outside of PyTorch"),
        (Hooked, "hook on its gradient"),
        (Watched, "a module has a hook"),
        (Printing, "other numbers"),
        (Lists, "0 changes"),
        (Globals, "BETA changes"),
        (Reads, "read in Python"),
    ],
)
def test_what_cannot_be_followed_is_not_frozen(
    make: type[nn.Module], why: str, steps: list[CapturedStep], capsys: pytest.CaptureFixture[str]
) -> None:
    def seeded() -> nn.Module:
        global BETA
        BETA = 1.0
        TICKS.set(0)
        random.seed(0)
        return make()

    assert_same(seeded, points(48), None)
    assert why in (steps[-1].refused or "")
    assert "captured" not in capsys.readouterr().err


def functions() -> tuple[Callable[..., None], Callable[..., None], dict[str, float]]:
    """A pair of functions whose closure holds a dictionary."""
    weight = {"of x": 1.0}

    def model(x: Tensor, y: Tensor | None = None) -> None:
        loc = pyro.param("loc", torch.zeros(5))
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=weight["of x"]):
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None: ...

    return model, guide, weight


def test_a_closure_is_watched(steps: list[CapturedStep]) -> None:
    found, x = [], points(48)
    for compiled in (False, None):
        pyro.clear_param_store()
        model, guide, weight = functions()

        def doubled(row: dict[str, float], weight: dict[str, float] = weight) -> None:
            weight["of x"] = 2.0 if row["epoch"] >= 4 else 1.0

        found.append(train((model, guide), x, None, epochs=6, compile=compiled, on_epoch=doubled))  # type: ignore[arg-type]
    assert found[0]["loss"] == found[1]["loss"]
    assert steps[-1].refused == "of x changes while the model trains"


def test_a_part_that_is_frozen_or_replaced_on_the_way(steps: list[CapturedStep]) -> None:
    for change, why in (
        (lambda model: model.decoder.requires_grad_(False), "frozen"),
        (lambda model: setattr(model, "decoder", nn.Linear(2, 5)), "decoder changes"),
    ):
        found = []
        for compiled in (False, None):
            pyro.set_rng_seed(0)
            model = Plain()

            def on_epoch(row: dict[str, float], model: Plain = model, change: Any = change) -> None:
                if row["epoch"] == 4:
                    change(model)

            found.append(train(model, points(48), None, epochs=6, compile=compiled, on_epoch=on_epoch)["loss"])
        assert found[0] == found[1]
        assert why in (steps[-1].refused or "")


def test_short_trainings_are_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "Recorder", lambda: pytest.fail("recorded"))
    train(build("vae"), points(48), None, epochs=5)


def test_where_it_brings_nothing_it_is_not_used(steps: list[CapturedStep], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    run = Replay.__call__

    def slow(self: Replay, x: Tensor, y: Tensor) -> Tensor:
        for _ in range(5):
            next(clock)
        return run(self, x, y)

    monkeypatch.setattr(captured.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(Replay, "__call__", slow)
    assert_same(lambda: build("vae"), points(48), None, epochs=8)
    assert steps[-1].refused == "captured steps are no faster"


def test_resumed_and_rolled_back_to_the_bit(steps: list[CapturedStep], tmp_path: Path) -> None:
    """A training that is stopped and resumed captured is the ordinary one that was not."""
    x, y = points(48), some_labels(CLASSES, 48)
    pyro.set_rng_seed(0)
    whole = layered()
    history = train(whole, x, y, epochs=12, compile=False)
    pyro.set_rng_seed(0)
    parts = layered()

    class StopError(Exception):
        pass

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 8:
            raise StopError

    options: dict[str, Any] = {"epochs": 12, "checkpoint": tmp_path / "c", "checkpoint_epochs": 7}
    with pytest.raises(StopError):
        train(parts, x, y, on_epoch=stop, **options)
    again = train(parts, x, y, resume=True, **options)
    assert replayed(steps) > 5
    assert again["loss"] == history["loss"]
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values()))


def test_numbers_that_are_not_finite_are_found_and_rolled_back(
    steps: list[CapturedStep], capsys: pytest.CaptureFixture[str]
) -> None:
    class Spoilt(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.spoil: Tensor
            self.register_buffer("spoil", torch.zeros(()))
            self.times = [0]

        def set_progress(self, progress: float) -> None:
            self.spoil.fill_(torch.nan if 0.9 < progress < 0.95 else 0.0)

        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            super().model(x + self.spoil, y)

    with pytest.raises(InputError, match="the loss is not finite in epoch 19"):
        train(Spoilt(), points(48), None, epochs=20)
    assert steps[-1].refused is None


def test_the_setting_has_three_values() -> None:
    with pytest.raises(InputError, match="compile: 'often'; True, False or 'auto' is needed"):
        train(build("vae"), points(48), None, compile="often")
    train(build("vae"), points(48), None, compile="auto", epochs=1)
