"""Mixed precision: 16 bits in the networks, 32 in what is made of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pyro
import pytest
import torch
from sklearn.datasets import load_digits
from tiny import CASES, build, mostly_slow, points, some_labels
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_ssvae import InputError, create_model, data, fit
from pyro_ssvae.train.precision import mixed_networks
from pyro_ssvae.train.step import Step


def bf16() -> Any:
    return torch.autocast("cpu", torch.bfloat16)


def test_bf16_trains_the_digits_as_float32_does() -> None:
    x, truth = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    x, truth = (x.float() / 16).reshape(-1, 1, 8, 8), truth.long()
    labels = data.load("digits").labels
    y = truth.where(torch.arange(len(truth)) < 300, -1)
    scores = []
    for precision in ("32-true", "bf16-mixed"):
        pyro.set_rng_seed(0)
        model: Any = create_model("augmented", input_shape=(1, 8, 8), labels=labels)
        history = fit(model, x, y, epochs=20, precision=precision, progress=False)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        right = (model.predict(x)[300:] == truth[300:]).float().mean()
        scores.append((float(right), history["loss"][-1]))
    (whole, loss), (mixed, mixed_loss) = scores
    assert whole > 0.9
    # Each is the mean of 1,497 points that are mostly the same: a standard error of 0.008 at 0.9 for independent ones.
    assert abs(mixed - whole) < 0.024
    assert mixed_loss == pytest.approx(loss, rel=0.02)


@pytest.mark.parametrize("case", CASES)
def test_every_pair_keeps_its_log_probabilities_in_float32(case: str) -> None:
    """The loss is float32's but for the rounding of the networks, and no log-probability is narrower."""
    model = build(case)
    x, y = points(64), some_labels(CASES[case][1], 64)
    step, losses, inner = Step(model), [], []
    linear = next(part for part in model.modules() if isinstance(part, nn.Linear))
    with linear.register_forward_hook(lambda m, i, o: inner.append(o.dtype)):
        for mixed in (False, True):
            torch.manual_seed(0)
            if not mixed:
                losses.append(step(x, y).detach())
                continue
            with mixed_networks(model, bf16):
                losses.append(step(x, y).detach())
    assert torch.float32 in inner
    assert torch.bfloat16 in inner
    assert losses[1].dtype == torch.float32
    assert not any(part._forward_hooks for part in model.modules() if part is not linear)
    # bfloat16 rounds to 1 in 256; three layers of it, in sums of 64 rows
    torch.testing.assert_close(losses[1], losses[0], rtol=0.03, atol=1.0)


def test_compiled_steps_are_mixed_too() -> None:
    x, y = points(64), some_labels(CASES["enumerate"][1], 64)
    losses = []
    for compiled in (False, True):
        pyro.set_rng_seed(0)
        with patch("torch._inductor.compile", lambda graph, inputs, options: graph):
            history = fit(
                build("enumerate"), x, y, progress=False, epochs=2, batch_size=16, precision="bf16-mixed",
                compile=compiled,
            )  # fmt: skip
        losses.append(history["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_precision_that_cannot_be_had() -> None:
    with pytest.raises(InputError, match="precision: '8-true'; one of 32-true"):
        fit(build("vae"), points(8), precision="8-true")
    with pytest.raises(InputError, match="needs CUDA"):
        fit(build("vae"), points(8), precision="16-mixed", device="cpu")


class Looks(TorchDispatchMode):
    """Note every look that Python takes at a tensor's numbers, and shapes that depend on them."""

    OPS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if name.startswith(self.OPS):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def no_shortcuts() -> Iterator[list[str]]:
    """Ways to a tensor's numbers that pass no dispatcher."""
    used: list[str] = []

    def noting(name: str) -> Any:
        before = getattr(Tensor, name)

        def method(self: Tensor, *args: Any) -> Any:
            used.append(name)
            return before(self, *args)

        return patch.object(Tensor, name, method)

    with noting("tolist"), noting("numpy"):
        yield used


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "case", mostly_slow([case for case in CASES if case != "sparse"], "enumerate", "revae-attributes", "adgm")
)
def test_no_step_waits_for_a_number(case: str, compiled: bool, no_shortcuts: list[str]) -> None:
    """All but an epoch's first and last may be queued on a GPU. (sparse has shapes that depend on numbers.)"""
    model, looks, counts = build(case), Looks(), []

    def show(done: int, words: str) -> None:
        counts.append(len(looks.seen) + len(no_shortcuts))

    class Bar:
        def __enter__(self) -> Any:
            return show

        def __exit__(self, *_: Any) -> None: ...

    with (
        patch("pyro_ssvae.train.fit.progress_bar", lambda *_: Bar()),
        patch(
            "pyro_ssvae.train.loop.time", SimpleNamespace(monotonic=itertools.count().__next__)
        ),  # shown at every step
        patch("torch._inductor.compile", lambda graph, inputs, options: graph),
        patch(
            "pyro_ssvae.train.divergence.FiniteGuard.check", lambda *_: None
        ),  # a CPU's losses are looked at, a GPU's are not
        looks,
    ):
        fit(model, points(64), some_labels(CASES[case][1], 64), batch_size=8, epochs=2, compile=compiled)
    assert len(counts) == 16
    within = [after - before for i, (before, after) in enumerate(itertools.pairwise(counts)) if i % 8 not in (6, 7)]
    assert within == [0] * 12, set(looks.seen)
