"""Trainings whose rows go by blocks: of files or of many rows, interrupted anywhere, in one process or in several."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from test_fit import same, train
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae import ClassLabels, InputError, create_model
from pyro_ssvae.benchmark.steps import peak_memory, reset_peak_memory
from pyro_ssvae.data import blocks, streaming
from pyro_ssvae.data.inputs import open_data
from pyro_ssvae.data.random_rows import draw_rows
from pyro_ssvae.data.streaming import Streamed
from pyro_ssvae.train import plan
from pyro_ssvae.train.checkpointer import CheckpointPlan
from pyro_ssvae.train.fit import Interrupted
from pyro_ssvae.train.loop import Hooks
from pyro_ssvae.train.plan import Batch, Batches, make_plan
from pyro_ssvae.train.runs import prepare
from pyro_ssvae.train.settings import FitSettings
from pyro_ssvae.train.training import Job

N, D = 400, 5
X = (4 * np.eye(D)[np.arange(N) % 3] + 0.3 * np.random.default_rng(0).normal(size=(N, D))).astype(np.float32)
Y = np.where(np.arange(N) % 37 == 0, np.arange(N) % 3, -1)
CPU = torch.device("cpu")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 6 rows and buffers of 10 blocks, of arrays in memory too."""
    monkeypatch.setattr(streaming, "IN_MEMORY", 0)
    monkeypatch.setattr(blocks, "BLOCK", 6 * 4 * D)
    monkeypatch.setattr(blocks, "BUFFER", 60 * 4 * D)
    monkeypatch.setattr(plan, "MANY", 0)


def model() -> Any:
    pyro.set_rng_seed(0)
    return create_model("augmented", input_shape=D, labels=ClassLabels(3), latent_dim=2)


@dataclass
class Done:
    """How far a training is, without one."""

    done: int
    stop: int

    @property
    def finished(self) -> bool:
        return self.done >= self.stop


def drawn(x: Any, y: Any, s: FitSettings, first: int = 0, rank: int = 0, size: int = 1) -> list[Batch]:
    """A process's batches from a step on."""
    made = make_plan(x, y, s)
    state = Done(first, made.steps)
    found = []
    for batch in Batches(x, y, made, s.seed, CPU, rank, size).since(state):
        found.append(batch)
        state.done += 1
    return found


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("pool", [2**27, 4 * D * 8])
def test_a_file_is_trained_on_as_many_rows_in_memory_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: int
) -> None:
    monkeypatch.setattr(plan, "POOL", pool)  # of known rows: all at once, or some
    np.save(tmp_path / "x.npy", X)
    whole, other, read = model(), model(), model()
    history = train(whole, X, Y)
    assert train(other, tmp_path / "x.npy", Y)["loss"] == history["loss"]
    train(read, ps.stream(lambda rows: X[rows], X.shape), Y)
    assert same(other, whole)
    assert same(read, whole)


@pytest.mark.usefixtures("small_blocks")
def test_an_epoch_holds_each_row_once_and_known_ones_besides() -> None:
    x, y, s = torch.from_numpy(X), torch.from_numpy(Y), FitSettings(batch_size=16, labelled_rows=8, epochs=2)
    number = torch.arange(N).float()[:, None].expand(-1, D)
    assert make_plan(x, y, s).blocks is not None
    batches = drawn(number, y, s)
    for epoch in (batches[:25], batches[25:]):
        assert all(len(batch.y) == len(batch.x) == 24 for batch in epoch)
        rows = torch.stack([batch.x[:, 0].long() for batch in epoch])
        assert all(torch.equal(batch.y, y[own]) for batch, own in zip(epoch, rows))
        assert torch.equal(rows[:, :16].flatten().sort().values, torch.arange(N))
        counts = torch.bincount(rows[:, 16:].flatten(), minlength=N)
        assert set(counts.nonzero().squeeze(1).tolist()) == set((y >= 0).nonzero().squeeze(1).tolist())
        assert counts[y >= 0].max() - counts[y >= 0].min() <= 1
    first, second = (torch.cat([b.x[:16, 0] for b in e]) for e in (batches[:25], batches[25:]))
    assert not torch.equal(first, second)
    other = drawn(number, y, FitSettings(batch_size=16, labelled_rows=8, epochs=1, seed=1))
    assert not torch.equal(first, torch.cat([b.x[:16, 0] for b in other]))
    for k in (0, 3, 24, 30):
        rest = drawn(number, y, s, first=k)
        assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(rest, batches[k:], strict=True))
    assert torch.equal(drawn(x, y, s)[7].x, x[batches[7].x[:, 0].long()])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_the_batches_of_one_and_read_their_own_rows(size: int) -> None:
    y, s, read = torch.from_numpy(Y), FitSettings(batch_size=16, labelled_rows=8, epochs=1), list[list[int]]()

    def points() -> Streamed:
        own = list[int]()
        read.append(own)
        return ps.stream(lambda rows: own.extend(rows.tolist()) or np.repeat(rows[:, None], D, 1), X.shape)  # type: ignore[func-returns-value]

    whole = drawn(points(), y, s)
    parts = [drawn(points(), y, s, rank=rank, size=size) for rank in range(size)]
    for one, *own in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([b.x for b in own])[:, 0].sort().values, one.x[:, 0].sort().values)
        assert all(torch.equal(b.y, y[b.x[:, 0].long()]) for b in own)
    known = int((y >= 0).sum())
    assert len(read[0]) == N + known
    assert sum(map(len, read[1:])) == N + size * known, "each row is read by one process, known ones once by each"


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("steps", [7, 50])
def test_a_training_interrupted_within_an_epoch_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    np.save(tmp_path / "x.npy", X)
    whole, parts = model(), model()
    history = train(whole, tmp_path / "x.npy", Y)
    after = Hooks.after_step

    def stopping(self: Hooks) -> None:
        if self.state.done == steps:
            os.kill(os.getpid(), signal.SIGINT)
        after(self)

    options: dict[str, Any] = {"checkpoint": tmp_path / "c"}
    with monkeypatch.context() as patched:
        patched.setattr(Hooks, "after_step", stopping)
        with pytest.raises(Interrupted, match=f"after {steps} of 75 steps"):
            train(model(), tmp_path / "x.npy", Y, **options)
    again = train(parts, tmp_path / "x.npy", Y, **options, resume=True)
    assert again["loss"] == history["loss"]
    assert same(whole, parts)


@pytest.mark.usefixtures("small_blocks")
def test_a_shard_that_vanishes_while_training_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "x" / "0.npy", X[:200])
    np.save(tmp_path / "x" / "1.npy", X[200:])

    def removed(row: dict[str, float]) -> None:
        (tmp_path / "x" / "1.npy").unlink(missing_ok=True)

    with pytest.raises(InputError, match=r"x/1\.npy: rows \d+ to \d+ cannot be read \(No such file") as caught:
        train(model(), tmp_path / "x", Y, checkpoint=tmp_path / "c", checkpoint_epochs=1, on_epoch=removed)
    assert "\n" not in str(caught.value)
    assert len(caught.value.history["loss"]) == 1  # type: ignore[attr-defined]
    np.save(tmp_path / "x" / "1.npy", X[200:])
    whole, parts = model(), model()
    train(whole, tmp_path / "x", Y)
    train(parts, tmp_path / "x", Y, checkpoint=tmp_path / "c", resume=True)
    assert same(whole, parts), "what was computed stays"


class Mean(nn.Module):
    """No latent and no noise: processes compute what one does, to rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(D, dtype=torch.float64))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.loc, 1.0).to_event(1), obs=x.double())

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        pass


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.slow
def test_two_processes_train_on_a_file_as_one_does(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    one, two = Mean(), Mean()
    options: dict[str, Any] = {"augment": "none", "epochs": 2, "batch_size": 15}
    first = train(one, tmp_path / "x.npy", **options)
    second = train(two, tmp_path / "x.npy", **options, devices=2)
    assert second["loss"] == pytest.approx(first["loss"], rel=1e-9)
    torch.testing.assert_close(one.loc, two.loc, rtol=1e-7, atol=1e-9)


@pytest.mark.usefixtures("small_blocks")
def test_batches_of_a_sorted_file_hold_several_classes() -> None:
    """400 rows sorted into 5 classes; a buffer of 10 blocks of 67 lacks a class with probability .8^10 = .1."""
    x = torch.arange(N).div(80, rounding_mode="floor").float()[:, None].expand(-1, D)
    batches = drawn(x, torch.full((N,), -1), FitSettings(batch_size=20, epochs=5))
    classes = [len(batch.x[:, 0].unique()) for batch in batches]
    assert sum(classes) / len(classes) > 4
    assert min(classes) >= 3


def test_what_is_small_keeps_its_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Below the bounds, files included, each epoch puts all rows in order one by one, as ever."""
    np.save(tmp_path / "x.npy", X)
    monkeypatch.setattr(streaming, "IN_MEMORY", 0)
    y, s = torch.from_numpy(Y), FitSettings(batch_size=16, labelled_rows=8, epochs=1, seed=3)
    known = (y >= 0).nonzero().squeeze(1)
    points, _ = open_data(nn.Identity(), tmp_path / "x.npy", y)
    assert isinstance(points, Streamed)
    for x in (torch.from_numpy(X), points):
        assert make_plan(x, y, s).blocks is None
        order = plan.batches(N, known, 16, 8, 3, 0)
        for batch, rows in zip(drawn(x, y, s), order, strict=True):
            assert torch.equal(batch.x, torch.from_numpy(X)[rows])
            assert torch.equal(batch.y, y[rows])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory cannot be reset")
@pytest.mark.parametrize("given", [np.int8, None])
def test_labels_of_many_rows_cost_two_bytes_each(given: Any) -> None:
    """20 million rows: what ``fit`` makes of labels, the plan, the model's preparation and an epoch's begin."""
    n, s = 20_000_000, FitSettings(batch_size=256, epochs=1)
    y = None if given is None else np.where(np.arange(n, dtype=np.int32) % 1000 == 0, 1, -1).astype(given)
    x, pair = ps.stream(lambda rows: np.zeros((len(rows), 8), np.float32), (n, 8)), model_of(8)
    reset_peak_memory()
    before = peak_memory(CPU)
    points, labels = open_data(pair, x, y)
    made = make_plan(points, labels, s)
    job = Job(pair, s, made, None, None, None, CheckpointPlan(None, {}, 60.0, None, 2), False)
    assert len(draw_rows(points, 500, 0)) > 400
    assert labels.dtype == torch.int8
    batches = Batches(points, labels, made, 0, CPU)
    batch = next(batches.since(Done(made.per_epoch // 2, made.steps)))
    assert batch.y.dtype == torch.int64
    assert len(batch.y) == (256 if given is None else 320)
    prepare(job, points[:1000], labels)
    assert peak_memory(CPU) - before < 2 * n + 90e6, "and two buffers of points with their order"


def model_of(width: int) -> Any:
    return create_model("augmented", input_shape=width, labels=ClassLabels(3), latent_dim=2)
