from __future__ import annotations

import math
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam
from safetensors.torch import save_file
from tiny import CLASSES, augmented, build, points, some_labels
from torch import Tensor, nn

from pyro_ssvae import VAE, AugmentedVAE, ClassLabels, InputError, create_model, fit
from pyro_ssvae.data import Dataset
from pyro_ssvae.distributions.sparse import sparsemax
from pyro_ssvae.nn.networks import Encoder
from pyro_ssvae.train.average import moving_average
from pyro_ssvae.train.checkpoints import load_state, sibling, write_state
from pyro_ssvae.train.fit import Interrupted
from pyro_ssvae.train.plan import batches
from pyro_ssvae.train.schedule import one_cycle


def blobs(n: int = 300, labelled: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Three well-separated clusters of vectors: points, a few labels, all labels."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(n) % 3
    x = 4 * torch.eye(5)[truth] + 0.3 * torch.randn(n, 5, generator=generator)
    return x, truth.where(torch.arange(n) < labelled, -1), truth


def train(model: nn.Module, x: Any, y: Any = None, **options: Any) -> dict[str, list[float]]:
    return fit(model, x, y, **{"progress": False, "batch_size": 16, "epochs": 3, **options})


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Plain(nn.Module):
    """A pair written by hand, without any of the library's methods."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(5, 4), nn.Linear(2, 5)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("plain", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


class Outside(nn.Module):
    """The mean and scale of x as parameters of Pyro's store, which no module holds."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        loc = pyro.param("loc", torch.zeros(5))
        scale = pyro.param("scale", torch.ones(5), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, scale).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        pass


class OfPyro(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.loc = PyroParam(torch.zeros(5))
        self.scale = PyroParam(torch.ones(5), constraint=constraints.positive)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.loc, self.scale).to_event(1), obs=x)  # type: ignore[arg-type]

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        pass


class Regression(nn.Module):
    """A global latent with an automatic guide, whose parameters come into being at its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.guide = AutoNormal(self.model)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(5), 3.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x @ w, 0.3), obs=None if y is None else y.to(x))


def test_a_pair_written_by_hand_is_trained() -> None:
    x, _, _ = blobs()
    model = Plain()
    history = train(model, x, epochs=20, learning_rate=0.02)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert len(pyro.get_param_store()) == 0
    assert not model.training


def test_parameters_of_pyro_param_end_up_in_the_store() -> None:
    x, _, _ = blobs()
    train(Outside(), x, epochs=25, learning_rate=0.3, augment="none")
    assert set(pyro.get_param_store().keys()) == {"loc", "scale"}
    torch.testing.assert_close(pyro.param("loc"), x.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(pyro.param("scale"), x.std(0), atol=0.1, rtol=0)
    assert pyro.get_param_store()._constraints["scale"] is constraints.positive
    before = pyro.param("loc").detach().clone()
    train(Outside(), x + 1, epochs=25, learning_rate=0.3, augment="none")  # goes on from there, as SVI would
    torch.testing.assert_close(pyro.param("loc"), before + 1, atol=0.1, rtol=0)


def test_a_pyro_module_is_trained() -> None:
    x, _, _ = blobs()
    model = OfPyro()
    train(model, x, epochs=25, learning_rate=0.3, augment="none")
    torch.testing.assert_close(model.loc, x.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(model.scale, x.std(0), atol=0.1, rtol=0)


def test_an_automatic_guide_is_trained_on_labels_that_are_numbers() -> None:
    x = torch.randn(200, 5)
    y = 10 * x @ torch.tensor([1.0, -1.0, 2.0, 0.0, 3.0])
    model = Regression()
    train(model, x, y.round().long(), epochs=25, learning_rate=1.0, augment="none", weight_decay=0.0)
    torch.testing.assert_close(model.guide.median()["w"], torch.tensor([10.0, -10, 20, 0, 30]), atol=1.5, rtol=0)


def test_the_callers_parameter_store_is_left_alone() -> None:
    mine = pyro.param("mine", torch.ones(2), constraint=constraints.positive)
    other = augmented()
    pyro.module("other", other)
    keys, value = set(pyro.get_param_store().keys()), mine.detach().clone()
    x, y, _ = blobs()
    train(augmented(), x, y)
    assert set(pyro.get_param_store().keys()) == keys
    assert torch.equal(pyro.param("mine"), value)

    def fail(row: dict[str, float]) -> None:
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        train(augmented(), x, y, on_epoch=fail)
    assert set(pyro.get_param_store().keys()) == keys


def test_the_callers_random_numbers_are_left_as_they_were() -> None:
    x, y, _ = blobs(60, 20)

    def numbers() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002

    model = Plain()
    pyro.set_rng_seed(3)
    expected = numbers()
    pyro.set_rng_seed(3)
    train(model, x, y, epochs=1, seed=7)
    assert numbers() == expected


@pytest.mark.parametrize("case", ["vae", "classifier", "probabilities", "enumerate", "sparse", "enumerate-attributes"])
def test_the_same_seed_gives_the_same_parameters(case: str) -> None:
    x = points(40)
    trained = []
    for seed in (0, 0, 1):
        model = build(case)
        torch.rand(seed + 1)  # what was drawn before does not matter
        train(model, x, some_labels(model.labels, 40), seed=seed)
        trained.append(model)
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])


def test_the_history_has_one_row_an_epoch() -> None:
    x, y, truth = blobs(80)
    rows: list[dict[str, float]] = []
    history = train(augmented(), x, y, epochs=4, validation=(x, truth), on_epoch=rows.append)
    latent_use = {"kl", "reconstruction", "active_units"}
    assert set(history) == {"epoch", "loss", "seconds", "validation_accuracy", *latent_use}
    assert history["epoch"] == [1, 2, 3, 4]
    assert {len(column) for column in history.values()} == {4}
    assert history["seconds"] == sorted(history["seconds"])
    assert all(0 <= accuracy <= 1 for accuracy in history["validation_accuracy"])
    assert rows == [dict(zip(history, row)) for row in zip(*history.values())]
    assert set(train(augmented(), x, y)) == {"epoch", "loss", "seconds", *latent_use}
    sparse = train(augmented(), x, y, epochs=100, batch_size=80, validation=(x, truth))["validation_accuracy"]
    assert [i for i, value in enumerate(sparse, 1) if not math.isnan(value)] == list(range(2, 101, 2))


def test_the_loss_is_in_nats_a_row() -> None:
    x, _, _ = blobs(32)
    loss = train(OfPyro(), x, epochs=1, batch_size=32, augment="none")["loss"][0]
    expected = -dist.Normal(torch.zeros(5), torch.ones(5)).to_event(1).log_prob(x).mean()
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_arrays_lists_and_data_sets_are_the_same_as_tensors() -> None:
    x, y, _ = blobs(60)
    data = Dataset("blobs", x, y, x, y, CLASSES)
    models = [augmented() for _ in range(5)]
    train(models[0], x, y)
    train(models[1], x.double().numpy(), y.numpy().astype(np.int32))
    train(models[2], x.tolist(), y.tolist())
    train(models[3], data)
    train(models[4], data, y)
    assert all(same(models[0], model) for model in models[1:])


def test_bytes_are_pixels() -> None:
    pixels = (points(24, (1, 4, 4)) * 255).byte()
    one, other = augmented(input_shape=(1, 4, 4)), augmented(input_shape=(1, 4, 4))
    train(one, pixels)
    train(other, pixels.float() / 255)
    for a, b in zip(one.parameters(), other.parameters()):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_double_precision_is_kept() -> None:
    x, y, truth = blobs(60)
    model = augmented()
    history = train(model, x, y, precision="64-true", validation=(x, truth))
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert history["validation_accuracy"][-1] == (model.predict(x) == truth).double().mean()


def test_rows_beyond_whole_batches_wait_and_small_data_is_one_batch() -> None:
    steps: list[int] = []

    class Watched(Plain):
        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            if self.training:
                steps.append(len(x))
            super().guide(x, y)

    train(Watched(), torch.randn(40, 5), epochs=2)
    assert steps == [16, 16, 16, 16]
    steps.clear()
    train(Watched(), torch.randn(9, 5), epochs=2)
    assert steps == [9, 9]


def test_batches_hold_every_row_once_and_labelled_ones_besides() -> None:
    known = torch.tensor([3, 50, 51, 99])
    first = batches(100, known, 20, 6, 1, 0)
    assert len(first) == 5
    assert all(len(rows) == 26 and set(rows[20:].tolist()) <= set(known.tolist()) for rows in first)
    assert sorted(torch.cat([rows[:20] for rows in first]).tolist()) == list(range(100))
    counts = torch.bincount(torch.cat([rows[20:] for rows in first]), minlength=100)[known]
    assert counts.max() - counts.min() <= 1
    torch.manual_seed(5)
    assert all(torch.equal(a, b) for a, b in zip(first, batches(100, known, 20, 6, 1, 0), strict=True))
    for seed, epoch in ((2, 0), (1, 1)):
        assert not all(torch.equal(a, b) for a, b in zip(first, batches(100, known, 20, 6, seed, epoch)))


@pytest.mark.parametrize(("labelled", "width"), [(0, 16), (2, 20), (12, 20), (200, 16)])
def test_labelled_rows_are_added_where_they_are_rare(labelled: int, width: int) -> None:
    widths: set[int] = set()

    class Watched(Plain):
        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            if self.training:
                widths.add(len(x))
                assert y is not None
                assert labelled == 0 or (y >= 0).sum() >= min(4, labelled) or width == 16
            super().guide(x, y)

    x, y, _ = blobs(200, labelled)
    train(Watched(), x, y, epochs=1, labelled_rows=4)
    assert widths == {width}


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [one_cycle(i / 100, 1 / 100) for i in range(100)]
    assert 0 < rates[0] <= 0.11
    assert max(rates) == pytest.approx(1)
    assert rates[9] == pytest.approx(1)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    cosines = 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, 91)[:-1])  # from a tenth of the training to its end
    np.testing.assert_allclose(rates[10:], cosines)
    assert one_cycle(0, 1) == 1  # a training of one step takes it


def test_the_average_follows_the_weights_and_forgets_the_first() -> None:
    average, weight, update = [torch.zeros(1)], torch.ones(1), moving_average(0.9)
    values = []
    for n in range(60):
        update(average, [weight], n)
        values.append(float(average[0]))
    assert values[0] == pytest.approx(0.9)  # of the first steps' weights, nine tenths
    assert values == sorted(values)
    assert values[-1] > 0.999
    average = [torch.zeros(1)]
    for n in range(1000, 1010):
        update(average, [weight], n)
    assert float(average[0]) == pytest.approx(1 - 0.9**10, rel=1e-5)


def test_integers_are_taken_over_by_the_average() -> None:
    averaged, current = [torch.zeros(2), torch.tensor(0)], [torch.ones(2), torch.tensor(7)]
    moving_average(0.5)(averaged, current, 100)
    assert averaged[0].tolist() == [0.5, 0.5]
    assert averaged[1] == 7


def test_the_history_counts_the_decodes_of_sparse_labels(tmp_path: Path) -> None:
    x, y, truth = blobs(96, 12)
    history = train(augmented(label_inference="sparse"), x, y, epochs=4, labelled_rows=0, learning_rate=0.02)
    decodes = history["decodes"]
    assert list(history)[:4] == ["epoch", "loss", "seconds", "decodes"]
    assert all(1 <= n <= 3 for n in decodes)
    assert len(set(decodes)) > 1
    known = train(augmented(label_inference="sparse"), x, truth)  # nothing to sum over
    assert known["decodes"] == [1.0, 1.0, 1.0]
    assert "decodes" not in train(augmented(), x, y)


def test_decodes_are_those_of_the_possible_classes() -> None:
    model = augmented(label_inference="sparse")
    x, y = points(12), some_labels(CLASSES, 12)
    with torch.no_grad():
        support = (sparsemax(model.head(model.encoder(model.likelihood.standardize(x)))) > 0).sum(-1)
    expected = torch.where(y == -1, support, 1).double().mean()
    model.objective().differentiable_loss(model.model, model.guide, x, y)
    assert float(model.decodes) == pytest.approx(float(expected))
    assert 1 < float(expected) < 3, "the example has nothing to leave out"


def test_without_average_the_last_weights_are_kept() -> None:
    x, y, _ = blobs(60)
    models = [augmented(), augmented()]
    train(models[0], x, y, average=0.0)
    train(models[1], x, y, average=0.5)
    assert not same(*models)


def test_few_labels_are_enough_where_classes_lie_apart() -> None:
    x, y, truth = blobs()
    model: Any = create_model("augmented", input_shape=(5,), labels=CLASSES, latent_dim=2)
    history = train(model, x, y, epochs=25, batch_size=50, validation=(x, truth))
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["validation_accuracy"][-1] == (model.predict(x) == truth).double().mean() > 0.95


def test_a_model_is_whole_afterwards() -> None:
    x, y, _ = blobs(40)
    model = augmented()
    train(model, x, y, epochs=1, batch_size=40)
    assert model.head_terms.warmup == 1  # what grows in training is grown, even after one step
    assert not model.training
    assert not any(module.training for module in model.modules())


def test_what_cannot_be_trained_on_is_named() -> None:
    x, y, _ = blobs(40)
    for value in (math.nan, math.inf):
        wrong = x.clone()
        wrong[17, 2 if math.isinf(value) else slice(None)] = value  # of NaN, a row that is missing altogether
        refused(lambda wrong=wrong: train(augmented(), wrong, y), "x: row 17")
        refused(lambda wrong=wrong: train(Plain(), wrong.numpy(), y), "x: row 17")
    refused(lambda: train(augmented(), x, y[:30]), "y: 30 rows, but x has 40")
    refused(lambda: train(Plain(), x, y[:30]), "y: 30 rows, but x has 40")
    refused(lambda: train(augmented(), x, y.where(torch.arange(40) != 8, 7)), "y: row 8 is 7")
    refused(lambda: train(augmented(), x[:, :3], y), "[N, 5]")
    refused(lambda: train(augmented(), x[:1], y[:1]), "at least 2")
    refused(lambda: train(augmented(), torch.tensor(3.0)), "x: shape []")
    refused(lambda: train(augmented(), [[1.0, 2.0], [3.0]]), "x: not a tensor")
    refused(lambda: train(augmented(), np.array([["a"] * 5] * 3)), "x: words")
    refused(lambda: train(augmented(), x, ["cat"] * 40), "y: row 0 is 'cat'; it is no class")
    refused(lambda: train(augmented(input_shape=(3, 4, 4)), 2 * torch.ones(9, 3, 4, 4)), "[0, 1]")
    refused(lambda: train(Outside(), x, epochs=1, augment="affine"), "augment", "images")


class Nothing(Outside):
    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(x, 1.0).to_event(1), obs=x)


def test_wrong_settings_are_named() -> None:
    x, y, _ = blobs(40)
    for name, value in {
        "epochs": 0, "batch_size": 1, "labelled_rows": -1, "seed": -1, "learning_rate": 0, "weight_decay": -1,
        "average": 1.0, "augment": "rotate", "device": "toaster", "precision": "7-bit",
    }.items():  # fmt: skip
        refused(lambda name=name, value=value: train(augmented(), x, y, **{name: value}), name)
    for name, value in {
        "epochs": 2.5,
        "batch_size": True,
        "seed": 2**40,
        "learning_rate": "1",
        "average": math.nan,
    }.items():
        refused(lambda name=name, value=value: train(augmented(), x, y, **{name: value}), name)
    refused(lambda: train(augmented(), x, y, learningrate=0.1), "'learningrate'", "did you mean 'learning_rate'?")
    refused(lambda: train(augmented(), x, y, resume=True), "resume", "checkpoint")
    refused(lambda: train(Nothing(), x, y), "no parameters")


def test_an_error_of_the_model_is_not_hidden() -> None:
    class Wrong(Plain):
        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            raise ValueError("my own constraint")

    with pytest.raises(ValueError, match="my own constraint") as caught:
        train(Wrong(), torch.randn(20, 5))
    assert not isinstance(caught.value, InputError)


# Stopping and going on.


def layered() -> AugmentedVAE:
    """Batch normalisation, dropout, running means: all that has a state or draws random numbers."""
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)]
    decoder = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4)))
    labels = ClassLabels(3)
    return AugmentedVAE(Encoder(*layers, out_features=8), decoder, labels, latent_dim=2)


def pictures() -> dict[str, Any]:
    x, y = points(50, (1, 4, 4)), some_labels(CLASSES, 50)
    return {
        "x": x,
        "y": y.where(torch.arange(50) < 12, -1),
        "labelled_rows": 4,
        "validation": (x, some_labels(CLASSES, 50)),
    }


@pytest.mark.parametrize("stop", [1, 2, 3, 5, 9, 12])
def test_a_stopped_training_goes_on_bit_for_bit(tmp_path: Path, stop: int) -> None:
    """3 steps an epoch, 4 epochs: within an epoch, at its end, and after the last step."""
    data, file = pictures(), tmp_path / "checkpoint" / "last.safetensors"
    whole = layered()
    history = train(whole, **data, epochs=4)

    class Stopped(AugmentedVAE):
        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            nonlocal stop
            stop -= self.training
            if stop == 0 and self.training:
                os.kill(os.getpid(), signal.SIGINT)
            super().guide(x, y)

    Stopped.__name__ = AugmentedVAE.__name__  # else it is another model's training
    model = layered()
    model.__class__ = Stopped
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"last\.safetensors"):
        train(model, **data, epochs=4, checkpoint=file)
    assert signal.getsignal(signal.SIGINT) is before
    torch.rand(7)
    resumed = layered()
    with torch.no_grad():
        for p in resumed.parameters():
            p.add_(0.1)  # nothing of the new model remains
    again = train(resumed, **data, epochs=4, checkpoint=file, resume=True)
    assert same(whole, resumed)
    for column in ("epoch", "loss", "validation_accuracy"):
        assert history[column] == again[column]
    assert len(again["seconds"]) == 4
    assert again["seconds"] == sorted(again["seconds"])


def test_a_signal_from_on_epoch_and_several_stops(tmp_path: Path) -> None:
    data, file = pictures(), tmp_path / "c"
    whole = layered()
    history = train(whole, **data, epochs=4)

    def stop(row: dict[str, float]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    for resume in (False, True, True, True):
        with pytest.raises(Interrupted):
            train(layered(), **data, epochs=4, checkpoint=file, resume=resume, on_epoch=stop)
    model = layered()
    assert train(model, **data, epochs=4, checkpoint=file, resume=True)["loss"] == history["loss"]
    assert same(whole, model)


def test_checkpoints_on_the_way_and_at_the_end(tmp_path: Path) -> None:
    data, file = pictures(), tmp_path / "c"
    whole = layered()
    history = train(whole, **data, epochs=4, checkpoint=file, checkpoint_every=0.0)
    model = layered()
    assert train(model, **data, epochs=4, checkpoint=file, resume=True)["loss"] == history["loss"]
    assert same(whole, model)

    class CrashError(Exception):
        pass

    def crash(row: dict[str, float]) -> None:
        if row["epoch"] == 3:
            raise CrashError

    with pytest.raises(CrashError):
        train(layered(), **data, epochs=4, checkpoint=file, checkpoint_every=0.0, on_epoch=crash)
    model = layered()
    assert train(model, **data, epochs=4, checkpoint=file, resume=True)["loss"] == history["loss"]
    assert same(whole, model)


def test_parameters_of_pyro_param_go_on_too(tmp_path: Path) -> None:
    x, file = points(48), tmp_path / "c"
    train(Outside(), x)
    whole = {name: pyro.param(name).detach().clone() for name in ("loc", "scale")}
    pyro.clear_param_store()
    with pytest.raises(Interrupted):
        train(Outside(), x, checkpoint=file, on_epoch=lambda row: os.kill(os.getpid(), signal.SIGINT))
    train(Outside(), x, checkpoint=file, resume=True)
    assert all(torch.equal(pyro.param(name), value) for name, value in whole.items())


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    data, file = pictures(), tmp_path / "c"
    train(layered(), **data, checkpoint=file)

    def resume(model: nn.Module | None = None, **changed: Any) -> Any:
        return train(model or layered(), **{**data, **changed}, checkpoint=file, resume=True)

    content = file.read_bytes()
    tensors, state = load_state(file)
    write_state(file, (tensors, {**state, "about": {k: v for k, v in state["about"].items() if k != "format"}}))
    refused(resume, str(file), "another version", "train it anew")
    file.write_bytes(content)
    refused(lambda: resume(epochs=2), str(file), "3 epochs are done")
    refused(lambda: resume(average=0.5), str(file), "other settings", "average 0.99, not 0.5")
    refused(lambda: resume(x=data["x"][:40], y=data["y"][:40]), str(file), "other settings or data", "rows 50, not 40")
    refused(lambda: resume(x=data["x"].flip(0)), str(file), "other settings or data (other data)")
    refused(lambda: resume(validation=None), str(file))
    refused(lambda: resume(augmented(input_shape=(1, 4, 4))), str(file), "does not fit this model", "is missing")
    name = next(key for key in tensors if key.startswith("model."))
    for version, *words in (("0.0.7", "saved by pyro_ssvae 0.0.7"), (None, "saved by a version of pyro_ssvae")):
        write_state(file, ({k: v for k, v in tensors.items() if k != name}, {**state, "version": version}))
        refused(resume, str(file), f"({name[6:]} is missing)", *words, "train it anew, or install that version")
    file.write_bytes(content)
    sibling(file, "good").unlink()
    file.write_bytes(content[: len(content) // 2])
    refused(resume, str(file))
    for place in (3, 200, len(content) // 2, len(content) - 5):
        flipped = bytearray(content)
        flipped[place] ^= 4
        file.write_bytes(flipped)
        refused(resume, str(file))
    save_file({"a": torch.zeros(2)}, file)
    refused(resume, str(file), "not a checkpoint")
    file.unlink()
    refused(resume, str(file), "no such file")
    file.mkdir()
    refused(resume, str(file))


def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(lambda: train(layered(), **pictures(), checkpoint=tmp_path / "file" / "c"), "file/c", "cannot be written")


def test_without_a_checkpoint_signals_are_left_alone() -> None:
    def stop(row: dict[str, float]) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            train(layered(), **pictures(), on_epoch=stop)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_vae_without_labels_is_trained_with_the_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    model = VAE(nn.Linear(5, 4), nn.Linear(2, 5), latent_dim=2)
    train(model, blobs()[0], progress=True)
    assert "epoch 3/3  loss " in capsys.readouterr().err
