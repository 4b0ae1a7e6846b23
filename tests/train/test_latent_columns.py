"""The use of the latents in the history: what is measured, on which weights, and that it disturbs nothing."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from tiny import CLASSES, build, make, points, some_labels
from torch import Tensor, nn

from pyro_ssvae import fit
from pyro_ssvae.infer.latent_use import active_units, elbo_and_kl
from pyro_ssvae.train import latent_use, loop, training
from pyro_ssvae.train.latent_use import say_collapse

COLUMNS = ["kl", "reconstruction", "active_units"]
CASES = ("vae", "probabilities", "sparse", "revae-attributes", "m1", "m2", "m1+m2", "adgm", "mvae", "diva")


def train(pair: Any, x: Tensor, y: Tensor | None = None, **options: Any) -> dict[str, list[float]]:
    options = {"epochs": 3, "batch_size": 16, "progress": False, **options}
    return fit(pair, x, y, **options)


@pytest.mark.parametrize("case", CASES)
def test_the_history_has_the_trained_models_own_numbers(case: str) -> None:
    model = build(case).float()
    x, y = points(64), some_labels(model.labels, 64)
    history = train(model, x, y)
    last = [history[name][-1] for name in COLUMNS]
    assert not any(map(math.isnan, history["kl"]))  # 4 steps an epoch: a tenth of 12 is less
    torch.manual_seed(0)
    with torch.no_grad():
        elbo, kl = elbo_and_kl(model, x, summed=False, rows=64).double().mean(0).tolist()
    assert last[0] == pytest.approx(kl, rel=1e-5)
    assert last[1] == pytest.approx(elbo + kl, rel=1e-5)
    assert abs(last[2] - active_units(model, x)[0]) <= 1  # draws of y or a may move one across the threshold


def test_the_training_is_the_same_without_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = points(64), some_labels(CLASSES, 64)
    found = []
    for measured in (True, False):
        if not measured:
            monkeypatch.setattr(training, "latent_use_of", lambda *args: None)
        monkeypatch.setattr(loop, "APART", 1)
        pyro.set_rng_seed(3)
        model = make("m2").float()
        history = train(model, x, y, validation=(x, y))
        assert ([not math.isnan(v) for v in history["kl"]] == [True] * 3) if measured else "kl" not in history
        found.append(
            (history["loss"], history["validation_accuracy"], [p.clone() for p in model.state_dict().values()])
        )
    assert found[0][:2] == found[1][:2]
    assert all(torch.equal(a, b) for a, b in zip(found[0][2], found[1][2]))


def test_epochs_are_measured_some_steps_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "APART", 5)
    history = train(make("vae").float(), points(64), epochs=13)  # 4 steps an epoch: 5 are less than a tenth of 52
    assert [i + 1 for i, v in enumerate(history["kl"]) if not math.isnan(v)] == [2, 4, 6, 8, 10, 12, 13]
    assert [math.isnan(v) for v in history["kl"]] == [math.isnan(v) for v in history["active_units"]]


def test_a_large_training_is_measured_on_500_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def noting(pair: nn.Module, x: Tensor, *args: Any, **named: Any) -> Tensor:
        seen.append(len(x))
        return elbo_and_kl(pair, x, *args, **named)

    monkeypatch.setattr(latent_use, "elbo_and_kl", noting)
    train(make("vae").float(), points(800), epochs=1, batch_size=400)
    assert set(seen) == {500}


def test_a_classifier_has_no_latents() -> None:
    x, y = points(32), some_labels(CLASSES, 32)
    assert set(train(build("classifier").float(), x, y)) == {"epoch", "loss", "seconds"}


def model_of_line(x: Tensor, y: Tensor | None = None) -> None:
    w = pyro.param("w", torch.ones(5))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z.unsqueeze(-1) * w, 1.0).to_event(1), obs=x)


def guide_of_line(x: Tensor, y: Tensor | None = None) -> None:
    v = pyro.param("v", torch.full((5,), 0.5))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x @ v, 0.5))


def test_functions_are_measured_too() -> None:
    x = points(64)
    history = train((model_of_line, guide_of_line), x, learning_rate=1e-9)
    assert history["active_units"][-1] == 1
    loc = 0.5 * x.sum(-1)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(loc, 0.5), torch.distributions.Normal(torch.zeros(64), 1.0)
    )
    # of one draw a row: log q - log p has a standard deviation of less than 1.2 |loc| + 1
    assert history["kl"][-1] == pytest.approx(float(kl.mean()), abs=4.5 * (1 + 1.2 * float(loc.std())) / 8)


def test_a_pair_whose_sites_cannot_be_added_up_trains_all_the_same() -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(5))

        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            if len(x) not in (2, 16):
                raise ValueError("batches of 16 alone")
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z.unsqueeze(-1) * self.w, 1.0).to_event(1), obs=x)

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x.sum(-1), 1.0))

    history = train(Strange(), points(64))
    assert set(history) == {"epoch", "loss", "seconds"}
    assert len(history["loss"]) == 3


def test_collapse_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for active, units, told in (
        (1, 50, True),
        (2, 50, True),
        (3, 50, False),
        (0, 1, True),
        (1, 1, False),
        (1, 2, True),
    ):
        say_collapse(float(active), units)
        err = capsys.readouterr().err
        assert err.startswith(f"fit: {active} of {units} latent dimensions") == told
        assert err.count("\n") == told
    model = make("vae", latent_dim=4).float()
    with torch.no_grad():
        for p in model.loc.parameters():
            p.zero_()
    train(model, points(64), learning_rate=1e-9)
    assert "fit: 0 of 4 latent dimensions are active" in capsys.readouterr().err
