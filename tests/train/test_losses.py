"""Any ELBO of Pyro: the gradient that SVI takes with it, the loss it reports, and what fits together."""

from __future__ import annotations

import itertools
import math
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from pyro.infer import (
    ELBO,
    SVI,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from test_fit import Plain, blobs, layered, pictures, same, train
from tiny import CASES, build, mostly_slow, points, some_labels
from torch import Tensor, nn

from pyro_ssvae import ClassLabels, create_model
from pyro_ssvae.train.compile import branchless
from pyro_ssvae.train.fit import Interrupted, fit
from pyro_ssvae.train.step import Step, eager_step

LOSSES: dict[str, Callable[[], ELBO]] = {
    "Trace_ELBO": Trace_ELBO,
    "Trace_ELBO, 3 particles": lambda: Trace_ELBO(num_particles=3),
    "TraceMeanField_ELBO": TraceMeanField_ELBO,
    "TraceEnum_ELBO": lambda: TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False),
    "RenyiELBO": lambda: RenyiELBO(alpha=0.5, num_particles=3),
    "TraceGraph_ELBO": TraceGraph_ELBO,
}
ALONE = ("RenyiELBO", "TraceGraph_ELBO")  # which have loss_and_grads alone
REFUSED = "the step cannot be compiled"
QUICK = [("Trace_ELBO", True), ("RenyiELBO", True)]
QUICK += [(name, False) for name in ("TraceMeanField_ELBO", "TraceEnum_ELBO", "TraceGraph_ELBO")]


def gradients_of_svi(model: Any, loss: Any, x: Tensor, y: Tensor) -> tuple[float, list[Tensor]]:
    """What ``SVI.step`` would hand its optimiser."""
    with pyro.poutine.trace(param_only=True) as capture:
        value = loss.loss_and_grads(model.model, model.guide, x, y)
    sites = [site for site in capture.trace.nodes.values() if site["type"] == "param"]
    assert sites
    return value, [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", ["vae", "probabilities", "m2", "m2-straight-through", "diva", "adgm"])
def test_a_mixed_batch_has_the_gradient_of_svi(case: str, loss: str) -> None:
    """Known and missing labels in one batch, as Pyro's own loss sees them, with its checks and without."""
    if loss == "TraceMeanField_ELBO" and case in ("m2", "diva", "adgm"):
        pytest.skip("Pyro refuses it for a label that is drawn")
    torch.set_default_dtype(torch.float64)
    model = build(case).double().train()
    x, y = points(12), some_labels(CASES[case][1], 12)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    found = []
    for checks in (None, True, False):
        model.load_state_dict(start)
        model.zero_grad()
        pyro.set_rng_seed(1)
        if checks is None:
            found.append(gradients_of_svi(model, LOSSES[loss](), x, y))
            continue
        objective = Step(model, LOSSES[loss]())
        step = eager_step(objective, objective, torch.Tensor.backward, model.zero_grad, partial(bool, checks))
        value = float(step(x, y))
        found.append((value, [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]))
    for value, gradients in found[1:]:
        assert value == pytest.approx(found[0][0], rel=1e-6)
        for ours, theirs in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert any(g.abs().max() > 1e-3 for g in found[0][1])


@pytest.mark.parametrize(("loss", "compiled"), mostly_slow(itertools.product(LOSSES, (False, True)), *QUICK))
def test_each_trains_a_pair_of_ones_own(
    loss: str, compiled: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.compile", lambda graph, inputs, options: graph)
    x, _, _ = blobs()
    pyro.set_rng_seed(0)
    model = Plain()
    history = train(model, x, epochs=20, learning_rate=0.02, loss=LOSSES[loss](), compile=compiled)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert len(pyro.get_param_store()) == 0
    said = capfd.readouterr().err
    if compiled and loss in ALONE:
        assert said.count("\n") == 1
        assert REFUSED in said
        assert f"{loss} takes its gradients itself" in said
    else:
        assert REFUSED not in said


class Unregistered(Plain):
    """A pair that never tells Pyro of its parameters, and has a label that is drawn."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            k = pyro.sample("k", dist.Categorical(torch.ones(2) / 2))
            pyro.sample("x", dist.Normal(self.decoder(z) + k.unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))
            pyro.sample("k", dist.Categorical(logits=loc))


@pytest.mark.parametrize(
    "loss", mostly_slow([*LOSSES, "ReweightedWakeSleep"], "Trace_ELBO", "TraceEnum_ELBO", "ReweightedWakeSleep")
)
def test_parameters_need_not_be_registered(loss: str) -> None:
    if loss == "TraceMeanField_ELBO":
        pytest.skip("k is drawn")
    pyro.set_rng_seed(0)
    model = Unregistered()
    before = [p.clone() for p in model.parameters()]
    made = LOSSES[loss]() if loss in LOSSES else ReweightedWakeSleep(num_particles=4, max_plate_nesting=1)
    history = train(model, blobs()[0], epochs=20, learning_rate=0.02, loss=made)
    assert history["loss"][-1] < 0.75 * history["loss"][0]
    assert not any(torch.equal(p, old) for p, old in zip(model.parameters(), before))
    assert len(pyro.get_param_store()) == 0


def test_the_loss_is_the_bound_not_its_surrogate() -> None:
    """Of sites that are drawn, Trace_ELBO differentiates something else than it reports."""
    model, x = Unregistered(), blobs(32)[0]
    losses = []
    for context in (nullcontext, branchless):
        pyro.set_rng_seed(3)
        with context():
            losses.append(float(Step(model, Trace_ELBO())(x, None)))
    pyro.set_rng_seed(3)
    expected = Trace_ELBO().loss(model.model, model.guide, x)
    assert losses == pytest.approx([expected, expected], rel=1e-6)


@pytest.mark.parametrize("loss", ["RenyiELBO", "TraceGraph_ELBO", "Trace_ELBO"])
def test_a_stopped_training_goes_on_bit_for_bit(tmp_path: Path, loss: str) -> None:
    options = {**pictures(), "epochs": 4}
    whole = layered()
    history = train(whole, **options, loss=LOSSES[loss]())

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    file = tmp_path / "c"
    with pytest.raises(Interrupted):
        train(layered(), **options, loss=LOSSES[loss](), checkpoint=file, on_epoch=stop)
    resumed = layered()
    assert train(resumed, **options, loss=LOSSES[loss](), checkpoint=file, resume=True)["loss"] == history["loss"]
    assert same(whole, resumed)
    refused(lambda: train(layered(), **options, checkpoint=file, resume=True), "loss", loss)


def test_a_loss_that_is_not_finite_is_rolled_back(capfd: pytest.CaptureFixture[str]) -> None:
    class Poisoned(Plain):
        taken = 0

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            super().guide(x, y)
            if self.training and torch.is_grad_enabled():
                Poisoned.taken += 1
                if Poisoned.taken == 13:
                    pyro.factor("poison", torch.tensor(torch.nan), has_rsample=True)

    model = Poisoned()
    history = train(model, blobs(64)[0], epochs=3, loss=RenyiELBO(alpha=0.5, num_particles=3))
    assert "fit: the loss is not finite in epoch 2, step 5" in capfd.readouterr().err
    assert all(math.isfinite(loss) for loss in history["loss"])
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_mixed_precision_goes_with_it() -> None:
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        pyro.set_rng_seed(0)
        history = train(Plain(), blobs()[0], loss=TraceGraph_ELBO(), precision=precision, epochs=2)
        losses.append(history["loss"][-1])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_losses_that_cannot_be_used_are_named() -> None:
    x, y, _ = blobs(40)
    model = Plain()
    for given, words in (
        (Trace_ELBO, ("loss", "Trace_ELBO()")),
        ("elbo", ("loss", "str")),
        (nn.MSELoss(), ("loss", "MSELoss")),
    ):
        refused(lambda given=given: train(model, x, loss=given), *words)
    wake_sleep = ReweightedWakeSleep(num_particles=2)
    refused(lambda: train(build("m2"), x, y, loss=wake_sleep), "ReweightedWakeSleep", "'head'")
    refused(lambda: train(model, x, loss=wake_sleep, devices=2), "ReweightedWakeSleep", "devices")
    train(model, x)


@pytest.mark.filterwarnings("ignore")
def test_a_loss_that_takes_no_discrete_site() -> None:
    """Also of a pair of functions, of which no other fault is named."""
    x, y = torch.randn(12, 4), torch.arange(12) % 3
    vae = create_model("augmented", input_shape=(4,), labels=ClassLabels(3), latent_dim=2, label_inference="enumerate")
    for pair in (vae, (vae.model, vae.guide)):
        refused(lambda pair=pair: fit(pair, x, y, epochs=1, loss=TraceMeanField_ELBO(), progress=False),
                "loss: TraceMeanField_ELBO needs reparameterised draws", "TraceEnum_ELBO")  # fmt: skip


def test_svi_takes_the_same_step_afterwards() -> None:
    """A pair that was trained with another loss is a plain pair."""
    model, x = Plain(), blobs()[0]
    train(model, x, loss=RenyiELBO(alpha=0.5, num_particles=2), epochs=1)
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.02}), loss=Trace_ELBO())  # type: ignore[attr-defined]
    losses = [svi.step(x) for _ in range(30)]
    assert losses[-1] < losses[0]
