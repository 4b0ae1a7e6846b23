"""Any optimiser of torch, or one of one's own: what decays, which rates, and a training that goes on to the bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from pyro.distributions.transforms import affine_autoregressive
from test_fit import Plain, blobs, layered, pictures, same, train
from tiny import mostly_slow
from torch import Tensor, nn

from pyro_ssvae import AttributeLabels, ClassLabels, create_model, fit
from pyro_ssvae.train.checkpoints import optimizer_numbers, optimizer_tensors, restore_optimizer
from pyro_ssvae.train.fit import Interrupted
from pyro_ssvae.train.optimizer import make_optimizer, weight_matrices
from pyro_ssvae.train.settings import FitSettings

Made = list[torch.optim.Optimizer]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """The optimisers that come into being."""
    found: Made = []
    begin = torch.optim.Optimizer.__init__

    def noted(self: torch.optim.Optimizer, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        found.append(self)

    monkeypatch.setattr(torch.optim.Optimizer, "__init__", noted)
    return found


def decaying(optimizer: torch.optim.Optimizer) -> set[int]:
    groups = [group for group in optimizer.param_groups if group["weight_decay"]]
    return {id(p) for group in groups for p in group["params"]}


@pytest.mark.parametrize(
    ("name", "shape"), [("vae", (6,)), ("vae", (3, 8, 8)), ("vae", (2, 32)), ("revae", (6,)), ("mvae", (6,))]
)
def test_weight_matrices_decay_and_nothing_else(name: str, shape: tuple[int, ...], made: Made) -> None:
    labels = None if name == "vae" else AttributeLabels(["a", "b"])
    vae = create_model(name, input_shape=shape, labels=labels, latent_dim=12, likelihood="normal")
    y = None if labels is None else torch.randint(2, (40, 2))
    fit(vae, torch.randn(40, *shape), y, epochs=1, weight_decay=0.01, progress=False)
    (optimizer,) = made
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
    matrices = {id(part.weight) for part in vae.modules() if isinstance(part, layers)}
    assert decaying(optimizer) == matrices
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in vae.parameters()}
    assert len(matrices) < len(list(vae.parameters()))


def test_what_a_weight_matrix_is() -> None:
    """Not what its shape looks like: an embedding, a table of means, a scale a pixel, a norm's weight are none."""

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.means, self.scale = nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(1, 8, 8))
            self.embedding, self.norm = nn.Embedding(3, 4), nn.LayerNorm((3, 4))
            self.linear, self.bilinear = nn.Linear(3, 4), nn.Bilinear(3, 4, 5)
            self.convolutions = nn.ModuleList([nn.Conv1d(1, 2, 3), nn.ConvTranspose2d(1, 2, 3), nn.Conv3d(1, 2, 3)])
            self.flow = affine_autoregressive(3, hidden_dims=[4])  # masked linear layers
            self.gru, self.cell = nn.GRU(3, 4), nn.LSTMCell(3, 4)
            self.attention = nn.MultiheadAttention(4, 2)

    parts = Parts()
    names = {id(p): name for name, p in parts.named_parameters()}
    found = {names[id(p)] for p in weight_matrices(parts)}
    assert found == {
        "linear.weight", "bilinear.weight", "convolutions.0.weight", "convolutions.1.weight", "convolutions.2.weight",
        "flow.arn.layers.0.weight", "flow.arn.layers.1.weight",
        "gru.weight_ih_l0", "gru.weight_hh_l0", "cell.weight_ih", "cell.weight_hh",
        "attention.in_proj_weight", "attention.out_proj.weight",
    }  # fmt: skip


def test_networks_of_functions_decay_too(made: Made) -> None:
    decoder = nn.Linear(2, 5)

    def model(x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("decoder", decoder)
        scale = pyro.param("scale", torch.ones(1, 5), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), scale[0]).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    fit((model, guide), blobs()[0], epochs=1, weight_decay=0.1, progress=False)
    assert decaying(made[0]) == {id(decoder.weight)}


def test_a_class_gets_rate_and_decay_of_the_settings(made: Made) -> None:
    model = Plain()
    train(model, blobs()[0], optimizer=torch.optim.SGD, learning_rate=1e-4, weight_decay=0.25, epochs=1)
    (optimizer,) = made
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["lr"] == 1e-4
    assert decaying(optimizer) == {id(model.encoder.weight), id(model.decoder.weight)}


def test_a_function_that_makes_adamw_trains_as_the_default_does() -> None:
    x, y, _ = blobs(60)
    models = [layered_vector(), layered_vector()]
    train(models[0], x, y, learning_rate=0.01, weight_decay=0.0)
    train(models[1], x, y, optimizer=lambda ps: torch.optim.AdamW(ps, 0.01, (0.9, 0.99), weight_decay=0.0, fused=True))
    assert same(*models)


def layered_vector() -> nn.Module:
    pyro.set_rng_seed(0)
    return Plain()


def test_the_schedule_multiplies_each_groups_own_rate() -> None:
    rates: list[list[float]] = []

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            rates.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    model = Plain()

    def make(parameters: list[Tensor]) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = [{"params": parameters[:2], "lr": 1e-4}, {"params": parameters[2:]}]
        return Watched(groups, lr=3e-5)

    train(model, blobs(160)[0], optimizer=make, epochs=4)
    assert len(rates) == 40
    assert max(first for first, _ in rates) == pytest.approx(1e-4)
    assert all(second == pytest.approx(0.3 * first) for first, second in rates)
    assert rates[0][0] == pytest.approx(0.25 * rates[3][0])


class Counting(torch.optim.Optimizer):
    """An optimiser whose state is no tensor: a number of Python's, and one in its group."""

    def __init__(self, params: Any, lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr, "total": 0})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["total"] += 1
            for p in group["params"]:
                state = self.state[p]
                state["calls"] = state.get("calls", 0) + 1
                state["mean"] = 0.3 * state.get("mean", 0.0) + 0.7 * float(p.grad.mean())
                p.data.sub_(p.grad.clamp(-1, 1), alpha=group["lr"] / (state["calls"] * group["total"]) ** 0.1)
                p.data.sub_(group["lr"] * min(1.0, max(-1.0, state["mean"])))


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.RMSprop,
        torch.optim.NAdam,
        torch.optim.Adagrad,
        lambda ps: torch.optim.SGD(ps, lr=1e-4, momentum=0.9, nesterov=True),
        Counting,
    ],
)
@pytest.mark.parametrize("compiled", mostly_slow([False, True], False))
def test_a_stopped_training_goes_on_bit_for_bit(
    tmp_path: Path, optimizer: Any, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.compile", lambda graph, inputs, options: graph)
    options = {**pictures(), "epochs": 4, "optimizer": optimizer, "clip_norm": 5.0, "compile": compiled}
    whole = layered()
    history = train(whole, **options)

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    file = tmp_path / "c"
    with pytest.raises(Interrupted):
        train(layered(), **options, checkpoint=file, on_epoch=stop)
    resumed = layered()
    assert train(resumed, **options, checkpoint=file, resume=True)["loss"] == history["loss"]
    assert same(whole, resumed)
    other = {**options, "optimizer": torch.optim.Adadelta}
    refused(lambda: train(layered(), **other, checkpoint=file, resume=True), "optimizer", "Adadelta")


def test_a_rollback_scales_the_optimisers_own_rate(capfd: pytest.CaptureFixture[str]) -> None:
    rates: list[float] = []

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    class Poisoned(Plain):
        taken = 0

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            super().guide(x, y)
            if self.training and torch.is_grad_enabled():
                Poisoned.taken += 1
                if Poisoned.taken == 6:
                    pyro.factor("poison", torch.tensor(torch.nan), has_rsample=False)

    train(Poisoned(), blobs(64)[0], optimizer=lambda ps: Watched(ps, lr=1e-4), learning_rate=5.0, epochs=3)
    assert "back to step 0, with a learning rate of 1e-05" in capfd.readouterr().err
    assert max(rates[5:]) == pytest.approx(1e-5)


def test_optimisers_that_cannot_be_used_are_named() -> None:
    x, model = blobs(40)[0], Plain()
    instance = torch.optim.SGD(model.parameters(), lr=0.1)
    for given, words in (
        (instance, ("optimizer", "SGD")),
        (pyro.optim.Adam({"lr": 1e-3}), ("optimizer", "lambda")),  # type: ignore[attr-defined]
        (torch.optim.LBFGS, ("optimizer", "LBFGS")),
        (lambda ps: torch.optim.LBFGS(ps), ("optimizer", "LBFGS")),
        (torch.optim.SparseAdam, ("optimizer", "SparseAdam", "torch.optim.Adam")),
        (lambda ps: torch.optim.SparseAdam(ps), ("optimizer", "SparseAdam")),
        ("adam", ("optimizer", "torch.optim")),
        (nn.Linear, ("optimizer", "Linear")),
        (lambda ps: None, ("optimizer", "NoneType")),
        (lambda ps: torch.optim.SGD(ps, lr=-1.0), ("optimizer", "learning rate")),
        (lambda: None, ("optimizer", "argument")),
    ):
        refused(lambda given=given: train(model, x, optimizer=given), *words)
    train(model, x)  # it is none the worse


def test_the_gradient_is_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            parameters = [p for group in self.param_groups for p in group["params"]]
            norms.append(float(torch.stack([p.grad.norm() for p in parameters]).norm()))
            return super().step(closure)

    x = blobs(64)[0]
    for most in (1e9, 2.5, None):
        pyro.set_rng_seed(0)
        train(Plain(), x, optimizer=Watched, learning_rate=1e-5, epochs=1, clip_norm=most)
    free, clipped, without = norms[:4], norms[4:8], norms[8:]
    assert free == without
    assert min(free) > 2.5, "the example has nothing to clip"
    assert clipped == pytest.approx([2.5] * 4, rel=1e-4)
    for wrong in (0, -1.0, True, "1", float("inf"), float("nan")):
        refused(lambda wrong=wrong: train(Plain(), x, clip_norm=wrong), "clip_norm")


def test_the_default_is_adamw_as_it_was() -> None:
    model = nn.Linear(3, 2)
    optimizer = make_optimizer(list(model.parameters()), weight_matrices(model), FitSettings())
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["betas"] == (0.9, 0.99)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-4, 0.0]


COLUMNS = ("normal", "categorical:3", "zero-inflated-log-normal")


@pytest.mark.parametrize(("epochs", "factor"), [(2, 5.0), (160, 2.5)])
def test_what_generates_a_table_learns_faster_the_fewer_the_passes(epochs: int, factor: float, made: Made) -> None:
    """``400 / passes`` times the rate, from 1 to 5; a pass is one over the 20 rows."""
    vae = create_model("augmented", input_shape=3, labels=ClassLabels(2), latent_dim=2, columns=COLUMNS)
    x = torch.stack([torch.randn(20), torch.randint(3, (20,)).float(), torch.rand(20).round()], 1)
    fit(vae, x, torch.arange(20) % 2, epochs=epochs, batch_size=20, labelled_rows=0, progress=False)
    (optimizer,) = made
    slowest = min(group["lr"] for group in optimizer.param_groups)
    fast = {id(p) for group in optimizer.param_groups if group["lr"] > 1.5 * slowest for p in group["params"]}
    kept = {id(p) for part in (vae.encoder, vae.head) for p in part.parameters()}
    assert fast == {id(p) for p in vae.parameters()} - kept
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {round(rates[i] / slowest, 6) for i in fast} == {factor}
    assert len(decaying(optimizer)) == sum(isinstance(part, nn.Linear) for part in vae.modules())


def test_no_others_learn_faster(made: Made) -> None:
    x = torch.randn(20, 3)
    fit(create_model("vae", input_shape=3, latent_dim=2), x, epochs=1, progress=False)
    table = create_model("vae", input_shape=3, latent_dim=2, columns=("normal",) * 3)
    fit(table, x, epochs=1, progress=False, optimizer=torch.optim.SGD)
    fit(table, x, epochs=1, progress=False)
    counts = [len({group["lr"] for group in optimizer.param_groups}) for optimizer in made]
    assert counts == [1, 1, 2]


def test_the_state_of_other_groups_is_refused() -> None:
    """As of a version in which a table's parameters were in two groups: its moments would be other parameters'."""
    model = nn.Linear(3, 2)
    parameters, matrices = list(model.parameters()), weight_matrices(model)
    two = make_optimizer(parameters, matrices, FitSettings())
    four = make_optimizer(parameters, matrices, FitSettings(), hurried=(parameters[:1], 2.0))
    one = make_optimizer(parameters[1:], matrices, FitSettings())
    assert [len(optimizer.param_groups) for optimizer in (two, four, one)] == [2, 2, 1]
    restore_optimizer(four, optimizer_tensors(two), optimizer_numbers(two))
    with pytest.raises(ValueError, match="2 groups of parameters; this one has 1"):
        restore_optimizer(one, optimizer_tensors(two), optimizer_numbers(two))
