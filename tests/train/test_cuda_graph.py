from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_ssvae.train.cuda_graph import Recorded

pytestmark = pytest.mark.gpu


def test_it_runs_as_without_and_leaves_no_trace_of_its_recording() -> None:
    total = torch.zeros(4, device="cuda")

    def run(x: Tensor, total: Tensor) -> list[Tensor]:
        total.add_(x)
        return [x + torch.randn_like(x)]

    x = torch.arange(4.0, device="cuda")
    torch.manual_seed(0)
    expected = [run(x * k, total)[0] for k in range(3)]
    sums = total.clone()
    torch.manual_seed(0)
    total.zero_()
    recorded = Recorded(run, [x], [total], [total])
    for k, value in enumerate(expected):
        torch.testing.assert_close(recorded(x * k)[0], value)
    torch.testing.assert_close(total, sums)


def test_what_a_program_holds_is_kept() -> None:
    """Its constants, such as an index: a graph reads their memory, which would be given to others."""
    x = torch.arange(64.0, device="cuda")

    def program() -> Recorded:
        order = torch.arange(63, -1, -1, device="cuda")
        return Recorded(lambda x: [x.gather(0, order)], [x], [], [])

    graph = program()
    others = [torch.full((64,), 10**6, device="cuda") for _ in range(100)]
    torch.testing.assert_close(graph(x)[0], x.flip(0))
    assert len(others) == 100


def test_after_a_program_that_waits_for_the_gpu_all_is_as_before() -> None:
    """It looks at a number: no recording, but the next step draws as ever."""
    x, total = torch.ones(8, device="cuda"), torch.zeros(8, device="cuda")
    outside, state = torch.cuda.current_stream(), torch.cuda.get_rng_state()

    def run(x: Tensor, total: Tensor) -> list[Tensor]:
        total.add_(torch.rand_like(x))
        return [x * float(x.sum())]

    with pytest.raises(RuntimeError):
        Recorded(run, [x], [total], [total])
    assert torch.cuda.current_stream() == outside
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert not total.any()
    assert torch.rand(3, device="cuda").isfinite().all()
    assert len(run(x, total)[0]) == 8
    graph = Recorded(lambda x: [x * 2], [x], [], [])
    torch.testing.assert_close(graph(x)[0], 2 * x)
