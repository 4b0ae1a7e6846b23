"""Processes that train together have the same points and labels, or say so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_ssvae.errors import InputError
from pyro_ssvae.train import group
from pyro_ssvae.train.group import check_alike, digest
from pyro_ssvae.train.launch import WorkerLost

CPU = torch.device("cpu")


def met(monkeypatch: pytest.MonkeyPatch, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> None:
    """What the second of two processes finds."""
    told: list[Tensor] = []

    def all_reduce(ends: Tensor, how: object) -> None:
        told.append(ends.clone())
        ends.copy_(torch.stack(told).amax(0))

    monkeypatch.setattr(group.dist, "all_reduce", all_reduce)
    for x, y in (first, second):
        check_alike(x, y, len(y), CPU)


def test_a_few_labels_among_many_or_one_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum of labels times their places, in float32, does not tell these."""
    x, y = torch.randn(60_000, 2), torch.randint(10, (60_000,))
    met(monkeypatch, (x, y), (x.clone(), y.clone()))
    met(monkeypatch, (x, y), (x, y.to(torch.int8)))
    for row in (0, 59_999):
        other = y.clone()
        other[row] = (other[row] + 1) % 10
        with pytest.raises(InputError, match="different points or labels"):
            met(monkeypatch, (x, y), (x, other))
    with pytest.raises(InputError, match="different points or labels"):
        met(monkeypatch, (x, y), (x.flip(0), y))
    with pytest.raises(InputError, match="different points or labels"):
        met(monkeypatch, (x, y), (x[:-1], y[:-1]))


def test_a_process_that_is_gone_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(ends: Tensor, how: object) -> None:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer")

    monkeypatch.setattr(group.dist, "all_reduce", gone)
    with pytest.raises(WorkerLost, match="ended before the training began; each needs the same command and WORLD_SIZE"):
        check_alike(torch.zeros(4, 2), torch.zeros(4), 4, CPU)


def test_the_digest_fits_a_sum_s_integers() -> None:
    numbers = {n for k in range(200) for n in digest(torch.tensor([k]))}
    assert len(numbers) == 400
    assert 0 <= min(numbers) <= max(numbers) < 2**62
    assert max(numbers) > 2**60
