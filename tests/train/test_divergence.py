from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from test_fit import Plain, blobs, layered, pictures, same, train
from torch import Tensor, nn

from pyro_ssvae import fit
from pyro_ssvae.train import state as training_state
from pyro_ssvae.train import training
from pyro_ssvae.train.divergence import FiniteGuard, first_site, fitting_batch
from pyro_ssvae.train.fit import Interrupted
from pyro_ssvae.train.step import Step


class Poisoned(Plain):
    """A pair whose loss is NaN at the training steps of the given numbers, counted over all tries."""

    def __init__(self, *steps: int) -> None:
        super().__init__()
        self.steps, self.taken, self.latest = set(steps), 0, math.nan

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        super().guide(x, y)
        if self.training and self.latest != float(self.encoder.weight.sum()):  # not the search for the site
            self.taken, self.latest = self.taken + 1, float(self.encoder.weight.sum())
        if self.training and self.taken - 1 in self.steps:
            pyro.factor("poison", torch.tensor(math.nan), has_rsample=False)


@pytest.fixture(autouse=True)
def every_epoch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_state, "APART", 1)


def test_good_states_are_some_steps_apart(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    x, _, _ = blobs(64)
    monkeypatch.setattr(training_state, "APART", 9)  # 4 steps an epoch: the first state is kept after 12
    train(Poisoned(10), x, epochs=5)
    train(Poisoned(14), x, epochs=5)
    assert [line.split("back to ")[1][:7] for line in capfd.readouterr().err.splitlines()] == ["step 0,", "step 12"]


def test_a_loss_that_is_not_finite_goes_back_with_smaller_steps(capfd: pytest.CaptureFixture[str]) -> None:
    x, _, _ = blobs(64)  # 4 steps an epoch; the state is kept at the end of each of the 3 epochs
    rates: list[float] = []
    model = Poisoned(6, 9)

    class Watched(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Watched)
        history = train(model, x, epochs=3, learning_rate=0.01)
    said = capfd.readouterr().err.splitlines()
    place = "first at site 'poison' of the guide (its log-probability); back to step 4, with a learning rate of"
    assert said == [
        f"fit: the loss is not finite in epoch 2, step 7, {place} 0.001",
        f"fit: the loss is not finite in epoch 2, step 7, {place} 0.0001",
    ]
    assert history["epoch"] == [1, 2, 3]
    assert all(math.isfinite(loss) for loss in history["loss"])
    assert len(rates) == 6 + 2 + 8  # a step whose loss is not finite is not taken
    assert rates[6] == pytest.approx(0.1 * rates[4])
    assert rates[8] == pytest.approx(0.01 * rates[4])


def test_the_third_time_it_ends_with_site_and_step(capfd: pytest.CaptureFixture[str]) -> None:
    x, _, _ = blobs(64)
    message = refused(lambda: train(Poisoned(6, 9, 12), x, learning_rate=0.01), "epoch 2, step 7", "site 'poison'")
    assert "after going back 2 times; a learning rate below 0.0001 or data on a smaller scale would help" in message
    assert capfd.readouterr().err.count("\n") == 2


def test_where_no_step_was_taken_no_smaller_step_helps(capfd: pytest.CaptureFixture[str]) -> None:
    class Infinite(Plain):
        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            super().model(x, y)
            pyro.factor("f", self.decoder.weight.sum() * math.inf)

    refused(lambda: train(Infinite(), blobs(40)[0]), "epoch 1, step 1", "site 'f' of the model")
    assert capfd.readouterr().err == ""


def test_the_first_step_on_data_of_any_scale_ends_in_one_line() -> None:
    """Where the guide's mean is beyond float32 a distribution refuses it, before there is any loss."""
    x, _, _ = blobs(64)

    class Large(Plain):
        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            super().guide(x * 1e38 if len(x) > 2 else x)  # two rows are tried before

    refused(lambda: train(Large(), x), "epoch 1, step 1", "site 'z' of the guide", "smaller scale")

    class Mistaken(Plain):
        """Its own mistake, of finite numbers, is told by the distribution itself."""

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            with pyro.plate("data", len(x)):
                scale = 0.5 - 1.0 * (len(x) > 2) * torch.ones(2)
                pyro.sample("z", dist.Normal(x[:, :2], scale).to_event(1))

    with pytest.raises(ValueError, match="constraint"):
        train(Mistaken(), x, epochs=1)


def test_weights_that_are_spoilt_at_the_very_end_are_noticed() -> None:
    class Spoilt(Plain):
        """The gradient is NaN in the last step, whose loss is a number."""

        taken = 0

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            super().guide(x, y)
            if self.training:
                Spoilt.taken += 1
            if self.training and Spoilt.taken == 12:
                pyro.factor("root", (0 * self.encoder.bias.sum()).sqrt(), has_rsample=True)

    for options in ({}, {"validation": (blobs(20)[0], None)}):
        Spoilt.taken = 0
        model = Spoilt()
        train(model, blobs(64)[0], epochs=3, **options)
        assert Spoilt.taken == 16, "one epoch was trained again"
        assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_going_back_is_the_same_after_a_stop(tmp_path: Path) -> None:
    """A training set back once, stopped between the good state and the loss that is not finite, and gone on with."""
    data = pictures()

    def poison(model: nn.Module, stop: int) -> nn.Module:
        """NaN at the first try of step 8 (3 steps an epoch); a signal to stop in step ``stop``."""
        tries = {"rate": 0.0}

        def before(module: nn.Module, inputs: Any) -> None:
            if module.training and stop == tries["rate"]:
                os.kill(os.getpid(), signal.SIGINT)
            tries["rate"] += module.training

        model.encoder.register_forward_pre_hook(before)  # type: ignore[union-attr]
        return model

    def diverging(state: Any, real: Any) -> Any:
        def step(x: Tensor, y: Tensor) -> Tensor:
            loss: Tensor = real(x, y)
            return loss * math.nan if state.done == 7 and state.rollbacks == 0 else loss

        return step

    def guard(real: Any, pair: Any, state: Any, **options: Any) -> FiniteGuard:
        return FiniteGuard(diverging(state, real), pair, state, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "FiniteGuard", guard)
        whole = layered()
        history = train(whole, **data, epochs=4)
        with pytest.raises(Interrupted):
            train(poison(layered(), 6), **data, epochs=4, checkpoint=tmp_path / "c")
        resumed = layered()
        again = train(resumed, **data, epochs=4, checkpoint=tmp_path / "c", resume=True)
    assert same(whole, resumed)
    assert again["loss"] == history["loss"]
    assert history["loss"] != train(layered(), **data, epochs=4)["loss"], "it was never set back"


def test_the_first_site_is_the_first_in_the_program() -> None:
    class Pair(nn.Module):
        def __init__(self, broken: str) -> None:
            super().__init__()
            self.weight, self.broken = nn.Parameter(torch.ones(3)), broken

        def wrong(self, name: str, value: float = math.nan) -> float:
            return value if self.broken == name else 0.0

        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            with pyro.plate("data", len(x)):
                a = pyro.sample("a", dist.Normal(torch.zeros(len(x)), 1.0))
                b = pyro.sample("b", dist.Normal(a, 1.0))
                pyro.sample("x", dist.Normal(b.unsqueeze(-1) + self.wrong("x"), 1.0).to_event(1), obs=x)

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("a", dist.Normal(self.weight.sum() + self.wrong("a"), 1.0))
                pyro.sample("b", dist.Normal(self.wrong("b", math.inf), 1.0))

    x, y, rng = torch.zeros(4, 3), torch.zeros(4), torch.get_rng_state()
    for broken, site in (
        ("a", "site 'a' of the guide (its value)"),
        ("b", "site 'b' of the guide (its value)"),
        ("x", "site 'x' of the model (its log-probability)"),
        ("", "the objective's sum, though every site is finite"),
    ):
        assert first_site(Step(Pair(broken)), x, y, rng) == site
    pair = Pair("x")
    with torch.no_grad():
        pair.weight[1] = math.inf
    assert first_site(Step(pair), x, y, rng) == "parameter weight"
    assert torch.equal(torch.get_rng_state(), rng)


class Hungry(Plain):
    """A pair for whose gradients a device has memory up to so many rows."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        if self.training and len(x) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        super().model(x, y)


def test_out_of_memory_names_a_batch_size_that_fits() -> None:
    x, y, _ = blobs(300)
    refused(lambda: fit(Hungry(70), x, progress=False, batch_size=256), "batch_size 256", "batch_size 64 fits")
    refused(lambda: fit(Hungry(1), x, progress=False, batch_size=256), "batch_size 256", "not even a batch of 2 rows")
    # labelled rows are added to each batch: 32 + 40 > 70
    rare: dict[str, Any] = {"batch_size": 256, "labelled_rows": 40}
    refused(
        lambda: fit(Hungry(70), x, y.where(torch.arange(300) < 4, -1), progress=False, **rare), "batch_size 16 fits"
    )
    fit(Hungry(70), x, progress=False, batch_size=64, epochs=1)


def test_batch_sizes_are_halved_until_one_fits() -> None:
    tried: list[int] = []

    def attempt(n: int) -> None:
        tried.append(n)
        if n > 30:
            raise torch.cuda.OutOfMemoryError

    assert fitting_batch(200, attempt) == 25
    assert tried == [100, 50, 25]
    assert fitting_batch(3, attempt) is None
    assert fitting_batch(4, attempt) == 2, "the least batch that there is"
