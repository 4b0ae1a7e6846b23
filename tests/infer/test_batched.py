"""Evaluation on many rows: how many at a time, what is computed once, and that all is left as it was."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pairs import OwnPair
from pyro.infer.autoguide import AutoNormal
from tiny import CASES, CLASSES, build, make, points
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae import ClassLabels, create_model
from pyro_ssvae.infer import batched as module
from pyro_ssvae.infer.batched import NUMBERS, ROWS, batched, evaluating, once_per_input, rows_at_a_time, seeded
from pyro_ssvae.infer.pairs import as_pair


class Recorded:
    """The numbers of rows that a function is called with."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        self.rows.append(len(x))
        return x.flatten(1).sum(1)


def nothing_is_kept(pair: nn.Module) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


@contextlib.contextmanager
def counting(network: nn.Module) -> Iterator[list[int]]:
    """Rows of each run of a network's first layer."""
    rows: list[int] = []
    layer = next(part for part in network.modules() if isinstance(part, (nn.Linear, nn.Conv2d)))
    handle = layer.register_forward_hook(lambda part, args, out: rows.append(len(args[0])))
    yield rows
    handle.remove()


# --- rows at a time


@pytest.mark.parametrize("name", ["m2", "augmented", "diva", "revae", "adgm", "m1+m2"])
def test_rows_are_bounded_by_what_is_enumerated(name: str) -> None:
    """1,000 classes: rows times values times the width of what depends on them stay within memory."""
    model: Any = create_model(
        name, input_shape=(1, 28, 28), labels=ClassLabels(1000), latent_dim=1001 if name == "revae" else 8
    )
    x = torch.rand(23, 1, 28, 28)
    width = {"diva": 1000 * 4, "revae": 1000 * 1000}.get(name, 784)  # others: each value is a decode, 64 at most
    most = min(ROWS, NUMBERS // width)
    assert rows_at_a_time(model, x, None) == most
    with counting(model.encoder) as rows:
        assert model.elbo(x).shape == (23,)
    assert max(rows) == min(most, 23)


def test_the_bound_of_a_thousand_classes() -> None:
    """As those of a few rows at a time, in the same order."""
    model = make("diva", ClassLabels(1000), latent_dim=3)
    x = points(1200)
    with seeded(torch.device("cpu"), 0):
        found = ps.log_likelihood(model, x, num_samples=2)
    assert found.shape == (1200,)
    assert bool(found.isfinite().all())


def test_decodes_of_every_value_count() -> None:
    """64 images of 784 pixels for each row."""
    model = create_model("m2", input_shape=(1, 28, 28), labels=ClassLabels(64), latent_dim=8)
    assert rows_at_a_time(model, torch.rand(400, 1, 28, 28), None) == NUMBERS // (64 * 784)
    assert rows_at_a_time(model, torch.rand(400, 1, 28, 28), torch.zeros(400, dtype=torch.long)) == ROWS


def test_rows_that_are_asked_for_and_labels_go_together() -> None:
    model, recorded = build("vae"), Recorded()
    x, y = points(10), torch.arange(10)
    found = batched(model, lambda x, y: recorded(x) * 0 + y, x, y, rows=4)
    assert recorded.rows == [4, 4, 2]
    assert found.tolist() == list(range(10))
    assert rows_at_a_time(model, x, None) == ROWS
    assert rows_at_a_time(model, x[:2], None) == 2
    assert rows_at_a_time(build("classifier"), x, None) == ROWS


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] not in ("vae", "m1", "classifier")])
def test_how_many_rows_at_a_time_changes_no_answer(case: str) -> None:
    model, x = build(case).double(), points(30).double()
    whole = model.predict_proba(x)
    parts = batched(model, model.q_y, x, rows=7)
    torch.testing.assert_close(parts, whole)


def test_rows_of_which_an_automatic_guide_has_a_latent_each_stay_together() -> None:
    def program(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1), 1.0).to_event(1), obs=x)

    guide, x = AutoNormal(program), torch.randn(ROWS + 1, 1)
    guide(x)
    assert rows_at_a_time(as_pair((program, guide)), x, None) == ROWS + 1
    assert ps.elbo((program, guide), x).shape == (ROWS + 1,)


def test_asking_how_many_rows_takes_no_random_number() -> None:
    model, x = build("m2"), points(30)
    before = torch.get_rng_state()
    rows_at_a_time(model, x, None)
    assert torch.equal(torch.get_rng_state(), before)


# --- what is left as it was


def test_modes_come_back_part_by_part() -> None:
    model = make("m2").train()
    model.encoder[1].eval()  # frozen by its owner
    modes = [part.training for part in model.modules()]
    with evaluating(model):
        assert not any(part.training for part in model.modules())
        assert not torch.is_grad_enabled()
        with evaluating(model):
            pass
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == modes
    assert torch.is_grad_enabled()
    with pytest.raises(KeyError), evaluating(model, 3):
        raise KeyError
    assert [part.training for part in model.modules()] == modes


def test_random_numbers_go_on_as_if_nothing_had_been() -> None:
    model, x = build("m2"), points(6)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found = [batched(model, lambda x: torch.rand(len(x)), x, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    torch.manual_seed(5)
    with evaluating(model):
        assert torch.equal(torch.rand(3), expected), "without a seed they are taken as they come"
    torch.manual_seed(5)
    with seeded(torch.device("cpu"), 7), seeded(torch.device("cpu"), 8):
        torch.rand(1)
    assert torch.equal(torch.rand(3), expected)


def test_networks_come_back() -> None:
    model = build("m2")
    own = model.decoder.forward
    model.decoder.forward = own  # one that its owner replaced
    with once_per_input(model), once_per_input(model):
        assert "forward" in model.encoder.__dict__
    assert "forward" not in model.encoder.__dict__
    assert model.decoder.__dict__["forward"] is own
    with pytest.raises(KeyError), once_per_input(model):
        raise KeyError
    assert "forward" not in model.encoder.__dict__


# --- what is computed once


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] != "classifier"])
def test_the_encoder_runs_once_and_the_numbers_stay(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = build(case).double(), points(6).double()
    monkeypatch.setattr(module, "ROWS", 6)  # one draw a run
    with counting(model.encoder) as rows, seeded(torch.device("cpu"), 0):
        found = ps.log_likelihood(model, x, num_samples=5)
    assert rows.count(6) == 1
    monkeypatch.setattr(module, "once_per_input", nothing_is_kept)
    with counting(model.encoder) as rows, seeded(torch.device("cpu"), 0):
        expected = ps.log_likelihood(model, x, num_samples=5)
    assert rows.count(6) == 5
    assert torch.equal(found, expected)


class Noisy(nn.Module):
    """A network that draws random numbers in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x + torch.randn_like(x))
        return out


def kept(network: nn.Module, *calls: Any, **named: Any) -> list[Tensor]:
    """The outputs of a pair's network for one input after another."""
    pair = OwnPair()
    pair.encoder = network  # type: ignore[assignment]
    with torch.no_grad(), once_per_input(pair):
        return [pair.encoder(*(call if isinstance(call, tuple) else (call,)), **named) for call in calls]


def test_a_network_that_draws_random_numbers_is_left_alone() -> None:
    x = points(3)
    first, second = kept(Noisy(), x, x)
    assert not torch.equal(first, second)


def test_another_input_is_another_output() -> None:
    net, x, other = nn.Linear(5, 4), points(3), points(3)
    outputs = kept(net, x, other, x, x[:2], x.clone())
    for given, output in zip((x, other, x, x[:2], x), outputs):
        assert torch.equal(output, net(given))
    assert outputs[0] is not outputs[2], "only the last one is kept"
    same = kept(net, x, x.clone())
    assert same[0] is same[1]


def test_an_output_that_was_changed_in_place_is_computed_again() -> None:
    class Moved(OwnPair):
        def q_z(self, x: Tensor) -> Any:
            h = self.encoder(x)
            h.add_(1.0)
            loc, raw = h.chunk(2, -1)
            return dist.Normal(loc, raw.exp()).to_event(1)

    pair, x = Moved(), points(4)
    with torch.no_grad():
        h = pair.encoder(x) + 1
    with torch.no_grad(), once_per_input(pair):
        for _ in range(3):
            torch.testing.assert_close(pair.q_z(x).mean, h[:, :2])


def test_arguments_by_name_are_arguments() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor, scale: float = 1.0, shift: Tensor | None = None) -> Tensor:
            return scale * super().forward(x) + (0 if shift is None else shift)

    net, x = Scaled(5, 4), points(3)
    pair = OwnPair()
    pair.encoder = net
    with torch.no_grad(), once_per_input(pair):
        plain, double = pair.encoder(x), pair.encoder(x, scale=2.0)
        moved = pair.encoder(x, scale=2.0, shift=torch.ones(4))
    torch.testing.assert_close(double, 2 * plain)
    torch.testing.assert_close(moved, 2 * plain + 1)


def test_a_bayesian_network_keeps_its_statements() -> None:
    """Its weights are sites: a draw of them is another network, though its input is the same."""

    class Bayesian(pyro.nn.PyroModule):
        def forward(self, z: Tensor) -> Tensor:
            w = pyro.sample("w", dist.Normal(z.new_zeros(5, 2), 1.0).to_event(2))
            return z @ w.t()

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.loc = Bayesian(), nn.Parameter(torch.zeros(5, 2))

        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            mean = self.net(torch.ones(len(x), 2))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            pyro.sample("w", dist.Normal(self.loc, 0.5).to_event(2))

    pair, x = Pair(), points(4)
    draws = torch.stack([ps.elbo(pair, x).sum() for _ in range(400)])
    found = ps.elbo(pair, x, num_samples=400).sum()
    assert abs(found - draws.mean()) < 4.5 * draws.std() * (2 / 400) ** 0.5


@pytest.mark.parametrize("how", ["set", "in place", "a number"])
def test_a_network_that_a_program_changes_is_asked_again(how: str) -> None:
    """A draw of its weight is another network, though its input is the same: the bound was of the first draw alone."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale: Tensor | float = torch.ones(())

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    class Pair(OwnPair):
        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            w = pyro.sample("w", dist.Bernoulli(x.new_tensor(0.5)))
            if how == "in place":
                self.encoder.scale.copy_(w)
            else:
                self.encoder.scale = w if how == "set" else float(w)
            with self.plate(x):
                pyro.sample("x", dist.Normal(self.encoder(x), 1.0).to_event(1), obs=torch.zeros_like(x))

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            pyro.sample("w", dist.Bernoulli(x.new_tensor(0.5)))

    pair, x = Pair(), torch.ones(1, 5)
    pair.encoder = Scaled()  # type: ignore[assignment]
    draws = torch.cat([ps.elbo(pair, x, num_samples=1) for _ in range(8)])
    assert float(draws.max() - draws.min()) == pytest.approx(2.5), "both draws are among these"
    found = ps.elbo(pair, x, num_samples=400)
    assert abs(float(found - draws.min()) - 1.25) < 4.5 * 1.25 / 20


def test_nested_calls_give_what_single_ones_do() -> None:
    model, x = build("m2").double(), points(5).double()
    expected = model.predict_proba(x)

    def rows(x: Tensor) -> Tensor:
        inner: Tensor = model.predict_proba(x)
        assert not model.training
        return inner + model.q_y(x)

    model.train()
    torch.testing.assert_close(batched(model, rows, x, rows=2), 2 * expected)
    assert model.training
    assert "forward" not in model.encoder.__dict__
    assert model.labels is CLASSES


def test_threads_take_turns_and_leave_the_model_as_it_was() -> None:
    """As in a server: Pyro's stack of handlers is the process's, and a network that was replaced comes back."""
    model: Any = build("enumerate").eval()
    parts = [points(3) for _ in range(8)]
    expected = [model.encode(x).mean for x in parts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: model.encode(parts[i % 8]).mean, range(64)))
    finally:
        sys.setswitchinterval(interval)
    assert all(torch.equal(z, expected[i % 8]) for i, z in enumerate(found))
    assert not any("forward" in vars(part) for part in model.modules())
    assert torch.equal(model.encode(parts[0]).mean, expected[0])


def test_two_trainings_in_threads_are_those_of_one_after_the_other() -> None:
    def made() -> ps.Model:
        model = create_model("augmented", input_shape=5, labels=CLASSES, latent_dim=2)
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(0.01)
        return model

    def trained(model: ps.Model, seed: int) -> list[float]:
        losses: list[float] = ps.fit(model, x, y, epochs=2, batch_size=4, seed=seed, progress=False)["loss"]
        return losses

    x, y = points(12), torch.arange(12) % 3
    expected = [trained(made(), seed) for seed in range(3)]
    models = [made() for _ in range(3)]  # weights are drawn from the random numbers of all threads
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(trained, models, range(3))) == expected
