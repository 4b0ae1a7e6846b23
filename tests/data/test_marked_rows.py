"""Rows that are held out of very many: a bit each, stratified, and read where they lie."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_makers import refused
from torch import Tensor

import pyro_ssvae as ps
from pyro_ssvae.benchmark.steps import peak_memory, reset_peak_memory
from pyro_ssvae.data import marked_rows, random_rows
from pyro_ssvae.data.inputs import open_data
from pyro_ssvae.data.marked_rows import mark_rows
from pyro_ssvae.data.streaming import Streamed
from pyro_ssvae.train import validation
from pyro_ssvae.train.plan import Batches, make_plan
from pyro_ssvae.train.settings import FitSettings
from pyro_ssvae.train.validation import held_out

CPU = torch.device("cpu")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marked_rows, "CHUNK", 64)


def some_labels(n: int) -> Tensor:
    """Mostly missing, three classes of which the last has 2 rows."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(-1, 2, (n,), generator=generator)
    y[torch.rand(n, generator=generator) < 0.6] = -1
    y[[3, n - 2]] = 2
    return y


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("n", [640, 641, 703])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_both_parts_are_all_rows_once(n: int, share: float) -> None:
    y = some_labels(n)
    held = mark_rows(y, share, seed=1)
    left = held.others()
    one, other = (part.rows(np.arange(len(part))) for part in (held, left))
    assert np.array_equal(np.sort(np.concatenate([one, other])), np.arange(n))
    assert (np.diff(one) > 0).all()
    assert torch.equal(held.of(y), y[one])
    assert torch.equal(left.of(y), y[other])
    for value, count in zip(*y.unique(return_counts=True)):
        taken = int((y[one] == value).sum())
        assert abs(taken - share * int(count)) < 1
        assert taken < count, "a class keeps at least one row"
    random = np.random.default_rng(0).permutation(len(other))  # in any order
    assert np.array_equal(left.rows(random), other[random])
    ends = np.array([0, 5, 64, 100, 639, n])
    assert np.array_equal(left.ranks(ends), np.searchsorted(other, ends))
    again, else_ = mark_rows(y, share, seed=1), mark_rows(y, share, seed=2)
    assert np.array_equal(again.bits, held.bits)
    assert not np.array_equal(else_.bits, held.bits)


@pytest.mark.usefixtures("small_chunks")
def test_the_one_row_of_a_class_is_trained_on() -> None:
    y = torch.full((200,), -1)
    y[150] = 1
    for seed in range(40):
        assert 150 not in mark_rows(y, 0.9, seed).rows(np.arange(179))


@pytest.mark.usefixtures("small_chunks")
def test_rows_are_held_out_wherever_they_lie() -> None:
    """3,200 rows, a tenth each of 50 chunks: 6.4 on average; a fixed choice within chunks would repeat places."""
    held = mark_rows(torch.full((3200,), -1), 0.1, seed=0)
    assert len(held) == pytest.approx(320, abs=1)
    per_chunk = np.diff(held.before)
    assert per_chunk.min() >= 6
    assert per_chunk.max() <= 7
    assert len(np.unique(held.rows(np.arange(len(held))) % 64)) > 55  # 63.6 of 64 expected
    attributes = torch.full((3200, 2), -1)
    attributes[::2, 1] = 1
    rows = mark_rows(attributes, 0.25).rows(np.arange(800))
    assert int((rows % 2 == 0).sum()) == pytest.approx(400, abs=1)
    refused(lambda: mark_rows(attributes, 1.0), "held-out share", "between 0 and 1")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("block", [None, 50])
def test_a_share_of_a_large_file_is_held_out(block: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MANY", 100)
    monkeypatch.setattr(random_rows, "MANY", 100)
    n = 640
    y = some_labels(n)
    x = np.arange(4.0 * n, dtype=np.float32).reshape(n, 4) / n
    pair = model()
    points, labels = open_data(pair, ps.stream(lambda rows: x[rows], x.shape, block=block), y)
    left, known, judged = held_out(pair, points, labels, 0.1, 0)
    assert isinstance(left, Streamed)
    assert isinstance(judged.x, Streamed)
    rows = {name: (part[:][:, 0] * n / 4).round().long() for name, part in (("left", left), ("held", judged.x))}
    assert torch.cat([*rows.values()]).sort().values.equal(torch.arange(n))
    assert torch.equal(known, y[rows["left"]])
    assert torch.equal(judged.y, y[rows["held"]])
    if block is not None:
        assert left.starts is not None
        assert left.starts.tolist() == np.searchsorted(rows["left"].numpy(), [*range(0, n, 50), n]).tolist()
    history = ps.fit(
        pair, ps.stream(lambda rows: x[rows], x.shape, block=block), y, validation=0.1, epochs=1, progress=False
    )
    assert 0 <= history["validation_accuracy"][0] <= 1


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory cannot be reset")
@pytest.mark.parametrize("given", [np.int8, None])
def test_no_list_is_made_of_very_many_rows(given: Any) -> None:
    """20 million rows: a bit and the copy of a label each, 21 MB (no label: 2.5 MB), where lists took 500."""
    n, s = 20_000_000, FitSettings(batch_size=256, epochs=1)
    y = None if given is None else np.where(np.arange(n, dtype=np.int32) % 1000 == 0, 1, -1).astype(given)
    pair = model()
    points, labels = open_data(pair, ps.stream(lambda rows: rows[:, None] % np.arange(2, 6) * 1.0, (n, 4)), y)
    reset_peak_memory()
    before, began = peak_memory(CPU), time.perf_counter()
    left, known, judged = held_out(pair, points, labels, 0.1, 0)
    seconds = time.perf_counter() - began
    assert len(left) + len(judged.x) == n
    assert len(judged.x) == pytest.approx(n / 10, abs=2)
    made = make_plan(left, known, s)
    rows = torch.tensor([0, 9_000_000, len(left) - 1])
    assert left[rows].shape == (3, 4)
    assert peak_memory(CPU) - before < (0 if given is None else n) + 30e6
    batch = next(Batches(left, known, made, 0, CPU).by_blocks(0, made.per_epoch - 2))
    assert len(batch.x) == len(batch.y) == made.rows
    assert peak_memory(CPU) - before < (0 if given is None else n) + 120e6, "and two buffers of points"
    assert seconds < 60


def model() -> Any:
    torch.manual_seed(0)
    return ps.create_model("augmented", input_shape=4, labels=ps.ClassLabels(3), latent_dim=2)
