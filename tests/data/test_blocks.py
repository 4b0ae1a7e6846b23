"""The order of many rows: each once, the same again, whoever shares a step; and parts of files are never split."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_ssvae.data.blocks import Blocks, Pass, Share, make_blocks, shares
from pyro_ssvae.data.splits import known_rows
from pyro_ssvae.train import plan
from pyro_ssvae.train.plan import known_before, rows_of_ranks

N, WIDTH = 1003, 20
STEPS = N // WIDTH


def blocks(n: int = N, size: int = 8, buffer: int = 5) -> Blocks:
    return Blocks(torch.tensor([*range(0, n, size), n]), buffer)


def steps(
    one: Pass, first: int = 0, rank: int = 0, size: int = 1, width: int = WIDTH, stop: int = STEPS
) -> list[Tensor]:
    """The rows of each step that a process takes."""
    found, parts = list[Tensor](), list[Tensor]()
    for held in shares(one, Share(width, first, stop, rank, size)):
        for here, last in held.portions:
            parts.append(held.rows[here])
            if last:
                found.append(torch.cat(parts))
                parts = []
    assert not parts
    return found


@pytest.mark.parametrize(("size", "buffer"), [(8, 5), (1, 4), (300, 2), (7, 1)])
def test_each_row_comes_once_a_pass_in_an_order_of_its_own(size: int, buffer: int) -> None:
    made = blocks(size=size, buffer=buffer)
    first, again, other = (steps(Pass(made, seed)) for seed in (3, 3, 4))
    assert len(first) == STEPS
    assert all(len(rows) == WIDTH for rows in first)
    every = torch.cat(first)
    assert len(every.unique()) == len(every) == STEPS * WIDTH
    assert sorted(torch.cat([Pass(made, 3).rows(k) for k in range(made.buffers)]).tolist()) == list(range(N))
    assert torch.equal(every, torch.cat(again))
    assert not torch.equal(every, torch.cat(other))
    missed = set(range(N)) - set(every.tolist())
    assert missed != set(range(N)) - set(torch.cat(other).tolist()), "what waits is drawn too"


def test_a_pass_goes_on_at_any_step_as_if_it_had_begun_there() -> None:
    whole = steps(Pass(blocks(), 1))
    for first in (0, 1, 2, 3, 17, STEPS - 1):
        rest = steps(Pass(blocks(), 1), first)
        assert len(rest) == STEPS - first
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[first:], strict=True))


@pytest.mark.parametrize("size", [2, 3, 8])
def test_processes_see_together_what_one_sees_and_each_reads_few_blocks_but_its_own(size: int) -> None:
    made = blocks(n=20_000, size=10, buffer=200)
    whole = steps(Pass(made, 1), width=201, stop=90)
    parts = [steps(Pass(made, 1), rank=rank, size=size, width=201, stop=90) for rank in range(size)]
    for rows, *own in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat(own).sort().values, rows.sort().values)
        assert max(map(len, own)) - min(map(len, own)) <= 1
    # 201 rows of a buffer's 2,000: where a part of them ends varies by at most 3 * .5 / sqrt(201) = .106 of the buffer.
    for rank in range(size):
        for held in shares(Pass(made, 1), Share(201, 0, 90, rank, size)):
            assert len((held.rows // 10).unique()) <= (1 / size + 2 * 0.106) * 200 + 1


def test_a_buffer_mixes_what_lies_sorted_in_its_file() -> None:
    """20 classes, sorted. Of buffers of 30 blocks, a step of 20 rows holds 11 classes on average (30 blocks of 20
    classes: 20 (1 - .95^30) = 15.7 are there; 20 draws of them leave 11.4), and at least 5."""
    n = 20_000
    classes = [len((rows * 20 // n).unique()) for rows in steps(Pass(blocks(n, 8, 30), 0), stop=n // WIDTH)]
    assert min(classes) >= 5
    assert sum(classes) / len(classes) > 10


def test_rows_that_come_several_times_come_equally_often() -> None:
    made, slots = blocks(100, 5, 4), 60 * 7
    rows = torch.cat(steps(Pass(made, 0, slots), width=7, stop=60))
    counts = torch.bincount(rows, minlength=100)
    assert len(rows) == slots
    assert counts.min() >= 4
    assert counts.max() <= 5
    few = torch.cat(steps(Pass(made, 0, 30), width=3, stop=10))
    assert len(few.unique()) == 30


def test_blocks_are_whole_parts_of_a_file_and_not_too_small() -> None:
    starts = torch.tensor([0, 300, 301, 302, 900, 1000])
    made = make_blocks(1000, 2**18, starts)  # a row is a block
    assert made.starts.tolist() == starts.tolist()
    made = make_blocks(1000, 2**10, starts)  # 256 rows are
    assert made.starts.tolist() == [0, 300, 900, 1000]
    plain = make_blocks(1000, 2**10)
    assert plain.starts.tolist() == [0, 256, 512, 768, 1000]
    many = make_blocks(100_000_000, 4096)
    assert many.starts.numel() * 8 < 20e6
    assert many.buffer * 64 * 4096 == 2**25


@pytest.mark.parametrize("shape", [(5000,), (5000, 3)])
def test_known_rows_are_found_without_a_list_of_them(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "CHUNK", 64)
    y = torch.randint(-9, 3, shape, generator=torch.Generator().manual_seed(0)).clamp_min(-1).to(torch.int8)
    y[1000:2000] = -1
    known = known_rows(y).nonzero().squeeze(1)
    before = known_before(y)
    assert int(before[-1]) == len(known)
    ranks = torch.randperm(len(known), generator=torch.Generator().manual_seed(1))
    assert torch.equal(rows_of_ranks(y, before, ranks), known[ranks])
