"""What a training step computes can be recorded as a CUDA graph: nothing in it waits for the GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from tiny import mostly_slow
from torch import Tensor

from pyro_ssvae import AttributeLabels, ClassLabels, InputError
from pyro_ssvae.benchmark.device_check import example, same_steps
from pyro_ssvae.infer.traces import drawn
from pyro_ssvae.labels import Labels
from pyro_ssvae.models import MODELS
from pyro_ssvae.train.record import Program
from pyro_ssvae.train.replay import Run
from pyro_ssvae.train.replayed_step import Replay

# ``normal`` of given scales compares them with 0, on the CPU.
WAITING = {"normal.Tensor_Tensor", "normal.float_Tensor", "nonzero.default", "masked_select.default"}
WAITING |= {"_local_scalar_dense.default", "_unique2.default", "unique_dim.default", "repeat_interleave.Tensor"}


@contextmanager
def replayed_operations() -> Iterator[list[str]]:
    """The names of all that is replayed within."""
    used: list[str] = []
    prepare = Replay.prepare

    def noted(self: Replay, program: Program, x: Tensor, y: Tensor) -> tuple[Run, bool]:
        used.extend(str(op.fn).removeprefix("aten.") for op in program.ops)
        return prepare(self, program, x, y)

    with patch.object(Replay, "prepare", noted):
        yield used


@pytest.mark.parametrize("labels", [ClassLabels(4), AttributeLabels(["hat", "beard", "scarf"])])
@pytest.mark.parametrize("name", mostly_slow(MODELS, "augmented", "revae"))
def test_no_step_waits_for_the_gpu(name: str, labels: Labels) -> None:
    try:
        model, x, y = example(name, labels)
    except InputError:
        pytest.skip(f"{name} does not take these labels")
    with replayed_operations() as used:
        same_steps(model, x, y, torch.device("cpu"))
    assert len(used) > 30
    assert not WAITING & set(used)


def test_a_draw_is_that_of_sample_without_a_gradient() -> None:
    loc, scale = torch.randn(3, 4, requires_grad=True), torch.rand(3, 4)
    kinds: Sequence[torch.distributions.Distribution] = [
        torch.distributions.Normal(loc, scale),
        torch.distributions.Categorical(logits=loc),
    ]
    for kind in kinds:
        torch.manual_seed(0)
        value = drawn(kind)
        torch.manual_seed(0)
        assert torch.equal(value, kind.sample())
        assert not value.requires_grad
