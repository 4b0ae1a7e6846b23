"""A captured step notices whatever changes in Python between two steps, wherever the pair holds it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import GeneratorType, SimpleNamespace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from tiny import points
from torch import Tensor, nn

from pyro_ssvae import fit
from pyro_ssvae.train import captured
from pyro_ssvae.train.captured import CapturedStep
from pyro_ssvae.train.python_state import PLACE, changed, python_state, restore

TABLE = [1.0]
CHANGED_AT, EPOCHS = 15, 30


class Settings:
    beta = 1.0


class Options:
    def __init__(self, **given: object) -> None:
        vars(self).update(given)


def from_table(table: list[float] = TABLE) -> float:
    return table[0]


class Weighted(nn.Module):
    """A pair whose weight of the latent is in one place or another."""

    of_class = 1.0

    def __init__(self, beta: Callable[[Weighted], float]) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(5, 4), nn.Linear(2, 5)
        self.beta = beta
        self.array, self.names, self.row = np.ones(1), {"one"}, deque([1.0])
        self.nested = {"kl": {"beta": 1.0}}
        self.lists = [[1.0]]
        self.options = Options(inner=Options(beta=1.0))
        self.frozen = SimpleNamespace(beta=1.0)
        self.pair = ([1.0],)
        self.call = partial(from_table, TABLE)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            with pyro.poutine.scale(scale=self.beta(self)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=self.beta(self)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def replaced(p: Weighted) -> None:
    p.frozen = SimpleNamespace(beta=0.1)


Place = tuple[Callable[[Any], float], Callable[[Any], object]]
PLACES: dict[str, Place] = {
    "an array": (lambda p: float(p.array[0]), lambda p: p.array.fill(0.1)),
    "a set": (lambda p: 1.0 / len(p.names), lambda p: p.names.add("two")),
    "a deque": (lambda p: p.row[0], lambda p: p.row.appendleft(0.1)),
    "a dictionary in a dictionary": (lambda p: p.nested["kl"]["beta"], lambda p: p.nested["kl"].update(beta=0.1)),
    "a list in a list": (lambda p: p.lists[0][0], lambda p: p.lists[0].insert(0, 0.1)),
    "a list in a tuple": (lambda p: p.pair[0][0], lambda p: p.pair[0].insert(0, 0.1)),
    "an object in an object": (lambda p: p.options.inner.beta, lambda p: setattr(p.options.inner, "beta", 0.1)),
    "an object that is replaced": (lambda p: p.frozen.beta, replaced),
    "a class": (lambda p: Settings.beta, lambda p: setattr(Settings, "beta", 0.1)),
    "the pair's class": (lambda p: p.of_class, lambda p: setattr(Weighted, "of_class", 0.1)),
    "a function's global": (lambda p: from_table(), lambda p: TABLE.insert(0, 0.1)),
    "a partial function": (lambda p: p.call(), lambda p: TABLE.insert(0, 0.1)),
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    Settings.beta, Weighted.of_class, TABLE[:] = 1.0, 1.0, [1.0]


@pytest.mark.parametrize("where", PLACES)
def test_a_change_is_noticed_in_the_step_that_follows(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured.time, "perf_counter", lambda: 0.0)  # a busy machine may find captured steps no faster
    steps: list[CapturedStep] = []
    genuine = CapturedStep.__init__

    def noted(self: CapturedStep, *rest: Any) -> None:
        steps.append(self)
        genuine(self, *rest)

    monkeypatch.setattr(CapturedStep, "__init__", noted)
    beta, change = PLACES[where]
    found, how = [], []
    for compiled in (False, None):
        Settings.beta, Weighted.of_class, TABLE[:] = 1.0, 1.0, [1.0]
        pyro.set_rng_seed(0)
        pair = Weighted(beta)

        def on_epoch(row: dict[str, float], pair: Weighted = pair) -> None:
            if row["epoch"] == CHANGED_AT:
                how.extend(step.how for step in steps)
                change(pair)

        options: dict[str, Any] = {"epochs": EPOCHS, "batch_size": 16, "progress": False, "compile": compiled}
        found.append(fit(pair, points(48), loss=pyro.infer.Trace_ELBO(), on_epoch=on_epoch, **options)["loss"])
    assert how == ["captured"]
    assert found[0] == found[1]
    assert "changes while the model trains" in (steps[-1].refused or "")


@pytest.mark.parametrize("where", PLACES)
def test_what_was_there_is_put_back(where: str) -> None:
    beta, change = PLACES[where]
    pair = Weighted(beta)
    state = python_state(pair)
    assert changed(state) is None
    change(pair)
    assert changed(state) is not None
    restore(state)
    assert changed(state) is None
    assert beta(pair) == 1.0


@pytest.mark.parametrize("iterator", [itertools.count(), iter([1, 2]), iter(range(9)), (i for i in (1, 2))])
def test_how_far_an_iterator_is_is_noticed(iterator: Iterator[int]) -> None:
    """Of a generator nobody can tell, so that it counts as one that went on."""
    pair = Weighted(lambda pair: float(next(pair.nested["steps"])))  # type: ignore[arg-type]
    pair.nested["steps"] = iterator  # type: ignore[assignment]
    state = python_state(pair)
    assert (changed(state) is None) == (not isinstance(iterator, GeneratorType))
    pair.beta(pair)
    assert changed(state) == PLACE
    restore(state)


def test_a_library_is_not_searched() -> None:
    """A pair that holds a logger, say, is not refused for what others do with theirs; nor is there no end to it."""
    pair = Weighted(lambda p: 1.0)
    few = len(python_state(pair))
    assert few < 400
    ring: list[Any] = [1.0]
    ring.append(ring)
    pair.lists = ring
    assert len(python_state(pair)) < 400
    pair.lists = [list(range(999)) for _ in range(50)]
    assert len(python_state(pair)) < 8000
