"""Whatever happens in ``fit``, the pair is whole afterwards and can be trained again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from pyro.distributions.transforms import Spline, affine_autoregressive, spline_coupling
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule
from test_fit import Plain, blobs, layered, pictures, same, train
from tiny import CLASSES, augmented, mostly_slow
from torch import Tensor, nn

from pyro_ssvae import create_model, fit
from pyro_ssvae.train.fit import FitSettings, Interrupted
from pyro_ssvae.train.state import TrainingState

REFUSED = "the step cannot be compiled"


class OwnError(Exception):
    pass


def averages_of(options: dict[str, Any]) -> tuple[list[dict[str, Tensor]], dict[str, list[float]]]:
    """The averaged weights after each epoch of a whole training, and its history."""
    found: list[dict[str, Tensor]] = []
    record = TrainingState.record

    def noting(self: TrainingState, row: dict[str, float]) -> None:
        record(self, row)
        found.append({name: value.clone() for name, value in self.average.tensors().items()})

    model = layered()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "record", noting)
        history = train(model, **options)
    return found, history


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("error", [OwnError, KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("compiled", mostly_slow([False, True], False))
def test_an_error_of_on_epoch_leaves_averages_evaluation_mode_and_history(
    error: type[BaseException], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.compile", lambda graph, inputs, options: graph)
    options = {**pictures(), "epochs": 4, "compile": compiled}
    averages, whole = averages_of(options)
    model = layered()
    rows: list[dict[str, float]] = []

    def fail(row: dict[str, float]) -> None:
        rows.append(row)
        if row["epoch"] == 2:
            raise error

    with pytest.raises(error) as caught:
        train(model, **options, on_epoch=fail)
    history = caught.value.history  # type: ignore[attr-defined]
    assert history["loss"] == whole["loss"][:2]
    assert [row["loss"] for row in rows] == history["loss"]
    found = tensors(model)
    for name, value in averages[1].items():
        if name != "head_terms.warmup":
            assert torch.equal(found[name], value), name
    assert model.head_terms.warmup == 1
    assert not any(part.training for part in model.modules())
    again = train(model, **options)  # and it can be trained
    assert len(again["loss"]) == 4


@pytest.mark.parametrize("compiled", [None, False])
def test_a_look_at_the_pair_in_evaluation_mode_does_not_change_how_it_is_trained(compiled: bool | None) -> None:
    """As after ``vae.eval(); vae.predict(x)`` in ``on_epoch``: running means and augmentation go on."""
    options = {**pictures(), "epochs": 4, "compile": compiled}
    whole, looked_at = layered(), layered()
    history = train(whole, **options)
    again = train(looked_at, **options, on_epoch=lambda row: looked_at.eval())
    assert again["loss"] == history["loss"]
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), looked_at.state_dict().values()))


def test_ctrl_c_within_a_step(capfd: pytest.CaptureFixture[str]) -> None:
    class Stops(Plain):
        taken = 0

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            if self.training:
                Stops.taken += 1
                if Stops.taken == 7:
                    os.kill(os.getpid(), signal.SIGINT)
            super().guide(x, y)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        model = Stops()
        with pytest.raises(KeyboardInterrupt) as caught:
            train(model, blobs(64)[0])
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(caught.value.history["loss"]) == 1  # type: ignore[attr-defined]
    assert not model.training
    train(model, blobs(64)[0])


def test_an_interruption_has_the_history_too(tmp_path: Path) -> None:
    def stop(row: dict[str, float]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    model = layered()
    with pytest.raises(Interrupted) as caught:
        train(model, **pictures(), checkpoint=tmp_path / "c", on_epoch=stop)
    assert len(caught.value.history["loss"]) == 1  # type: ignore[attr-defined]
    assert not model.training


@pytest.mark.slow
def test_an_error_in_a_started_process_leaves_the_averages() -> None:
    """What on_epoch raises here stops the processes, which give what they have."""
    x, y, _ = blobs()

    def fail(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise OwnError

    model = augmented()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(OwnError) as caught:
        fit(model, x, y, progress=False, batch_size=30, epochs=400, devices=2, on_epoch=fail)
    assert 2 <= len(caught.value.history["loss"]) < 400  # type: ignore[attr-defined]
    assert not any(torch.equal(p, old) for p, old in zip(model.parameters(), before))
    assert not model.training
    assert model.head_terms.warmup == 1


def test_a_loss_that_stays_infinite_leaves_finite_weights() -> None:
    class Explodes(Plain):
        """From the third step on the loss is NaN; the gradient before it already was."""

        taken = 0

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            super().guide(x, y)
            if self.training and torch.is_grad_enabled():
                Explodes.taken += 1
                if Explodes.taken > 2:
                    pyro.factor("root", (0 * self.encoder.bias.sum()).sqrt(), has_rsample=True)

    model = Explodes()
    refused(lambda: train(model, blobs(64)[0]), "not finite")
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    Explodes.taken = -1000
    train(model, blobs(64)[0])


def test_points_with_an_autograd_history() -> None:
    x, y, _ = blobs(60)
    network = nn.Linear(5, 5)
    models = [augmented(), augmented()]
    train(models[0], network(x), y, validation=(network(x), y))
    train(models[1], network(x).detach(), y)
    assert same(*models)
    assert all(p.grad is None for p in network.parameters())
    train(models[0], x, y)
    weighted = torch.ones(60, requires_grad=True) * y
    train(augmented(), x, weighted)


def test_under_no_grad_and_inference_mode() -> None:
    x, y, _ = blobs(60)
    models = [augmented() for _ in range(3)]
    train(models[0], x, y)
    with torch.no_grad():
        train(models[1], x, y)
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        train(models[2], 1 * x, 1 * y)
        assert torch.is_inference_mode_enabled()
    assert same(models[0], models[1])
    assert same(models[0], models[2])
    assert all(p.requires_grad for model in models for p in model.parameters())


def test_a_device_object() -> None:
    x, y, _ = blobs(60)
    models = [augmented(), augmented()]
    train(models[0], x, y, device="cpu")
    train(models[1], x, y, device=torch.device("cpu"))
    assert same(*models)
    assert FitSettings(device=torch.device("cuda", 1)).device == "cuda:1"  # type: ignore[arg-type]
    refused(lambda: train(augmented(), x, y, device=torch.device("cuda", 97)), "device: 'cuda:97'")
    refused(lambda: train(augmented(), x, y, device="cuda:x"), "device: 'cuda:x'")


# Flows, which cache tensors that cannot be copied.


class Flow(Plain):
    """A pair with a flow in the guide, and one in the prior where ``prior`` says so."""

    def __init__(self, make: Callable[[int], nn.Module], prior: bool = False) -> None:
        super().__init__()
        self.flow = make(2)
        self.prior = make(2) if prior else None

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("flow", self)
        with pyro.plate("data", len(x)):
            base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
            transforms = [] if self.prior is None else [self.prior]
            z = pyro.sample("z", dist.TransformedDistribution(base, transforms))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            base = dist.Normal(loc, log_scale.exp()).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, [self.flow]))


def iaf(dim: int) -> nn.Module:
    return affine_autoregressive(dim, hidden_dims=[8])


FLOWS = {"iaf": (iaf, False), "spline": (Spline, False), "coupling": (spline_coupling, False), "prior": (Spline, True)}


def flow(kind: str) -> Flow:
    pyro.set_rng_seed(0)
    return Flow(*FLOWS[kind])


@pytest.mark.parametrize("kind", mostly_slow(FLOWS, "iaf", "prior"))
def test_a_flow_is_trained_eager_captured_resumed_and_by_svi(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.compile", lambda graph, inputs, options: graph)
    x, _, _ = blobs(96)
    whole, captured, resumed = flow(kind), flow(kind), flow(kind)
    before = [p.clone() for p in whole.parameters()]
    history = train(whole, x, epochs=6, learning_rate=0.02, validation=0.25, early_stopping=6)
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert not any(torch.equal(p, old) for p, old in zip(whole.parameters(), before))
    again = train(captured, x, epochs=6, learning_rate=0.02, validation=0.25, early_stopping=6, compile=True)
    assert REFUSED not in capfd.readouterr().err
    assert again["loss"] == pytest.approx(history["loss"], rel=1e-4)

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    options: dict[str, Any] = {"epochs": 6, "learning_rate": 0.02, "validation": 0.25, "early_stopping": 6}
    with pytest.raises(Interrupted):
        train(resumed, x, **options, checkpoint=tmp_path / "c", on_epoch=stop)
    assert train(flow(kind), x, **options, checkpoint=tmp_path / "c", resume=True)["loss"] == history["loss"]
    assert train(resumed, x, **options, checkpoint=tmp_path / "c", resume=True)["loss"] == history["loss"]
    assert same(whole, resumed)
    pyro.clear_param_store()
    model = flow(kind)
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.02}), loss=Trace_ELBO())  # type: ignore[attr-defined]
    losses = [svi.step(x) for _ in range(40)]
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.slow
def test_a_flow_compiled_by_inductor() -> None:
    x, _, _ = blobs(48)
    histories = [train(flow("iaf"), x, compile=compiled)["loss"] for compiled in (False, True)]
    assert histories[1] == pytest.approx(histories[0], rel=1e-4)


@pytest.mark.slow
def test_a_flow_is_shared_by_processes() -> None:
    x, _, _ = blobs(96)
    model = flow("iaf")
    before = [p.clone() for p in model.parameters()]
    history = fit(model, x, progress=False, batch_size=32, epochs=3, devices=2)
    assert len(history["loss"]) == 3
    assert not any(torch.equal(p, old) for p, old in zip(model.parameters(), before))


# Two functions.


class Functions:
    """A model and a guide as functions, with networks of their own: batch normalisation, dropout, a flow."""

    def __init__(self, with_flow: bool = False) -> None:
        pyro.set_rng_seed(0)
        layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 4)]
        self.encoder, self.decoder = nn.Sequential(*layers), nn.Linear(2, 5)
        self.flow = iaf(2) if with_flow else None

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("decoder", self.decoder)
        scale = pyro.param("scale", torch.ones(5), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), scale).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("encoder", self.encoder)
        if self.flow is not None:
            pyro.module("flow", self.flow)
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            base = dist.Normal(loc, log_scale.exp()).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, [] if self.flow is None else [self.flow]))

    def state(self) -> dict[str, Tensor]:
        networks = [n for n in (self.encoder, self.decoder, self.flow) if n is not None]
        own = {f"{i}.{k}": v for i, network in enumerate(networks) for k, v in network.state_dict().items()}
        return {**own, "scale": pyro.param("scale").detach()}


def train_functions(functions: Functions, **options: Any) -> dict[str, list[float]]:
    pair = (functions.model, functions.guide)
    return fit(pair, blobs(96)[0], **{"progress": False, "batch_size": 16, "epochs": 4, **options})


@pytest.mark.parametrize("with_flow", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_functions_and_their_networks(
    with_flow: bool, compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.compile", lambda graph, inputs, options: graph)
    whole = Functions(with_flow)
    before = [p.clone() for p in (*whole.encoder.parameters(), *whole.decoder.parameters())]
    options: dict[str, Any] = {"compile": compiled, "learning_rate": 0.02}
    history = train_functions(whole, **options)
    assert history["loss"][-1] < history["loss"][0]
    after = [*whole.encoder.parameters(), *whole.decoder.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(after, before))
    store = pyro.get_param_store()
    assert store._params["decoder$$$weight"] is whole.decoder.weight
    assert {"scale", "decoder$$$bias", "encoder$$$0.weight"} <= set(store.keys())
    assert not whole.encoder.training
    assert int(whole.state()["0.1.num_batches_tracked"]) == 4 * 6, "no other run has touched the running means"
    expected = whole.state()
    pyro.clear_param_store()

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    file = tmp_path / "c"
    with pytest.raises(Interrupted):
        train_functions(Functions(with_flow), **options, checkpoint=file, on_epoch=stop)
    pyro.clear_param_store()
    resumed = Functions(with_flow)
    assert train_functions(resumed, **options, checkpoint=file, resume=True)["loss"] == history["loss"]
    for name, value in resumed.state().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.slow
def test_functions_in_processes() -> None:
    functions = Functions()
    before = [p.clone() for p in (*functions.encoder.parameters(), *functions.decoder.parameters())]
    history = train_functions(functions, devices=2)
    assert len(history["loss"]) == 4
    after = [*functions.encoder.parameters(), *functions.decoder.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(after, before))
    assert pyro.get_param_store()._params["decoder$$$weight"] is functions.decoder.weight
    assert not torch.equal(pyro.param("scale").detach(), torch.ones(5))


def test_networks_that_nobody_registers_are_not_trained() -> None:
    """A network that is used and never told to Pyro keeps its weights and its mode, as under SVI."""
    features = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5))
    before = [p.clone() for p in features.parameters()]

    class Uses(Plain):
        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            super().guide(features(x), y)

    train(Uses(), blobs(64)[0])
    assert all(torch.equal(a, b) for a, b in zip(features.parameters(), before))
    assert all(part.training for part in features.modules())


def test_what_is_no_pair_is_refused() -> None:
    x = blobs(40)[0]
    functions = Functions()
    for wrong in (functions, functions.model, (functions.model,), (functions.model, "guide"), nn.Linear(5, 5), None):
        refused(lambda wrong=wrong: fit(wrong, x, progress=False), "model(x, y)", "guide(x, y)")


def test_a_bayesian_network_and_a_model_of_the_library_are_whole() -> None:
    class Linear(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = PyroModule[nn.Linear](2, 5)  # type: ignore[call-arg, arg-type]
            self.encoder = nn.Linear(5, 4)

        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.layer(z), 1.0).to_event(1), obs=x)

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            loc, log_scale = self.encoder(x).chunk(2, -1)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    x, y, _ = blobs(64)
    history = train(Linear(), x, epochs=10, learning_rate=0.05)
    assert history["loss"][-1] < history["loss"][0]
    model = create_model("m2", input_shape=(5,), labels=CLASSES, latent_dim=2)
    train(model, x, y)
    assert not any(part.training for part in model.modules())
