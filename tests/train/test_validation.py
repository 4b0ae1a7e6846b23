"""Rows held out, early stopping, and weights of the classes."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from data_makers import refused
from test_fit import Plain, blobs, layered, pictures, same, train
from tiny import ATTRIBUTES, CLASSES, augmented, build, make, points, some_labels
from torch import Tensor, nn

from pyro_ssvae import create_model, fit, load, save
from pyro_ssvae.data import streaming
from pyro_ssvae.labels import MISSING
from pyro_ssvae.train.class_weights import balanced
from pyro_ssvae.train.fit import Interrupted
from pyro_ssvae.train.validation import Validation, held_out


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def at_each_epoch(options: dict[str, Any]) -> list[dict[str, Tensor]]:
    """The averaged weights after one epoch, two epochs and so on, by as many trainings that an exception ends."""

    class EnoughError(Exception):
        pass

    def until(last: int) -> Callable[[dict[str, float]], None]:
        def stop(row: dict[str, float]) -> None:
            if row["epoch"] == last:
                raise EnoughError

        return stop

    found = []
    for last in range(1, options["epochs"] + 1):
        model = layered()
        with pytest.raises(EnoughError):
            train(model, **options, on_epoch=until(last))
        found.append(copied(model))
    return found


def test_a_share_is_held_out_in_proportion(capfd: pytest.CaptureFixture[str]) -> None:
    x, y, _ = blobs(200, 40)
    seen: list[Tensor] = []

    class Watched(Plain):
        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            if self.training:
                seen.append(x)
            super().guide(x, y)

    numbered = x.clone()
    numbered[:, 0] = torch.arange(200)
    history = train(Watched(), numbered, y, validation=0.1, augment="none", labelled_rows=0, epochs=4, batch_size=20)
    assert capfd.readouterr().err == "fit: 20 of 200 rows are held out for validation, 4 of them with a label\n"
    rows = {int(row) for batch in seen for row in batch[:, 0]}
    assert len(rows) == 180
    assert len(rows & set(range(40))) == 36
    latent_use = ["kl", "reconstruction", "active_units"]
    assert list(history) == ["epoch", "loss", "seconds", *latent_use, "validation_loss"]
    assert all(math.isfinite(loss) for loss in history["validation_loss"])


def test_the_share_follows_the_seed_and_is_never_trained_on() -> None:
    x, y, _ = blobs(100, 30)
    parts = [held_out(augmented(), x, y, 0.2, seed) for seed in (0, 0, 1)]
    for points_left, known, judged in parts:
        left = torch.as_tensor(points_left)
        assert len(left) == len(known) == 80
        assert len(judged.x) == 20
        assert judged.measure == "validation_accuracy"
        both = torch.cat([left, torch.as_tensor(judged.x)])
        assert torch.equal(both.sort(0).values, x.sort(0).values)
        for k in range(3):
            assert int((judged.y == k).sum()) == 2
    first, again, other = (torch.as_tensor(left) for left, _, _ in parts)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_share_is_as_good_as_the_rows_themselves(capfd: pytest.CaptureFixture[str]) -> None:
    x, y, _ = blobs(100, 30)
    left, known, judged = held_out(augmented(), x, y, 0.2, 0)
    models = [augmented(), augmented(), augmented()]
    one = train(models[0], x, y, validation=0.2)
    other = train(models[1], left, known, validation=(judged.x, judged.y.numpy()))
    plain = train(models[2], left, known)
    assert same(models[0], models[1])
    assert same(models[0], models[2]), "looking at validation rows changes nothing"
    assert one["validation_accuracy"] == other["validation_accuracy"]
    assert one["loss"] == plain["loss"]


def test_a_share_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "IN_MEMORY", 0)
    x, y, _ = blobs(100, 30)
    np.save(tmp_path / "x.npy", x.numpy())
    models = [augmented(), augmented()]
    histories = [train(model, points, y, validation=0.2) for model, points in zip(models, (x, tmp_path / "x.npy"))]
    assert same(*models)
    assert histories[0]["validation_accuracy"] == histories[1]["validation_accuracy"]


def test_validation_that_draws_random_numbers_changes_nothing() -> None:
    class Draws(Plain):
        labels = CLASSES

        def predict_proba(self, x: Any) -> Tensor:
            assert not self.training
            return torch.rand(len(x), 3)

        def predict(self, x: Any) -> Tensor:
            return self.predict_proba(x).argmax(-1)

    x, y, truth = blobs(80)
    models, accuracies = [], []
    for validation in (None, (x, truth), (x, truth)):
        pyro.set_rng_seed(0)
        models.append(Draws())
        accuracies.append(train(models[-1], x, y, validation=validation).get("validation_accuracy"))
    assert same(models[0], models[1])
    assert accuracies[1] == accuracies[2]


@pytest.mark.parametrize("epochs", [8])
def test_early_stopping_keeps_the_best_epochs_averages(epochs: int, capfd: pytest.CaptureFixture[str]) -> None:
    options = {**pictures(), "epochs": epochs, "learning_rate": 0.05}
    averages = at_each_epoch(options)
    model = layered()
    history = train(model, **options, early_stopping=2)
    accuracy = history["validation_accuracy"]
    assert not any(math.isnan(a) for a in accuracy)
    score = [(a, -loss) for a, loss in zip(accuracy, history["loss"])]
    best = max(range(len(score)), key=lambda i: score[i])
    assert history["best_epoch"] == [1 + max(range(i + 1), key=lambda j: score[j]) for i in range(len(score))]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in averages[best].items())
    gained = max(i for i in range(len(accuracy)) if accuracy[i] > max(accuracy[:i], default=-1))
    assert len(accuracy) == min(epochs, gained + 1 + 2)
    said = capfd.readouterr().err
    assert (len(accuracy) < epochs) == ("stopped after epoch" in said)
    assert not model.training


class Overfits(Plain):
    """A pair whose loss on unseen points rises from a point on: its weights are pulled to where they do not belong."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        super().model(x, y)
        if self.training:
            pyro.factor("pull", 30 * len(x) * self.decoder.bias.clamp(-3, 3).sum())


def test_early_stopping_by_the_loss_where_nothing_is_predicted(capfd: pytest.CaptureFixture[str]) -> None:
    x, _, _ = blobs(160)
    model = Overfits()
    options: dict[str, Any] = {"epochs": 60, "learning_rate": 0.05, "augment": "none"}
    history = train(model, x, validation=0.2, early_stopping=3, **options)
    losses = history["validation_loss"]
    assert len(losses) < 60
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + 3
    assert history["best_epoch"][-1] == best + 1
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "fit: 32 of 160 rows are held out for validation, 0 of them with a label"
    stopped = f"stopped after epoch {best + 4} of 60, with the weights of epoch {best + 1}"
    assert said[1] == f"fit: no gain since epoch {best + 1}; {stopped}"


@pytest.mark.parametrize("case", ["m2", "m2-attributes"])
def test_the_accuracy_is_a_share_of_the_known_labels(case: str) -> None:
    """Of attributes of their entries; by hand, over more rows than are judged at a time."""
    model: Any = build(case)
    y = some_labels(CLASSES if case == "m2" else ATTRIBUTES, 2001)
    x = torch.randn(2001, *model.input_shape)
    judged = nn.Module()
    judged.module = model
    found = Validation(x, y, "validation_accuracy")(judged, 0, torch.device("cpu"))  # type: ignore[arg-type]
    known = y != -1
    assert 0.3 < float(known.double().mean()) < 0.7
    assert found == pytest.approx(float((model.predict(x) == y)[known].double().mean()))


def test_without_a_label_in_training_no_accuracy_is_measured(tmp_path: Path) -> None:
    """What the classes are called is arbitrary then, and so would be the epoch of the best accuracy."""
    x, y, truth = blobs(60, 30)
    none, file = torch.full_like(y, MISSING), tmp_path / "c"
    options: dict[str, Any] = {"validation": (x, truth), "epochs": 4, "checkpoint": file}
    history = train(augmented(), x, none, early_stopping=3, **options)
    assert "validation_accuracy" not in history
    best = int(history["best_epoch"][-1])
    assert history["validation_loss"][best - 1] == min(history["validation_loss"])
    shared = train(augmented(), x, none.where(torch.arange(60) > 0, 0), validation=0.5)
    assert {"validation_accuracy", "validation_loss"} & shared.keys() == {"validation_loss"}, "one label, on one side"
    train(augmented(), x, none, **options)
    further = train(augmented(), x, y, **{**options, "epochs": 6}, resume=True)  # labels that came later
    again = train(augmented(), x, y, **{**options, "epochs": 6}, resume=True)
    assert [math.isnan(v) for v in further["validation_accuracy"]] == [True] * 4 + [False] * 2
    assert [math.isnan(v) for v in further["validation_loss"]] == [False] * 4 + [True] * 2
    assert str(again) == str(further)
    refused(lambda: train(augmented(), x, y, epochs=7, checkpoint=file, resume=True), "other settings")


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_early_stopping_goes_on_bit_for_bit(tmp_path: Path, stop: int) -> None:
    options = {**pictures(), "epochs": 8, "early_stopping": 3, "learning_rate": 0.05, "class_weights": "balanced"}
    whole = layered()
    history = train(whole, **options, checkpoint=tmp_path / "whole")

    def interrupt(row: dict[str, float]) -> None:
        if row["epoch"] == stop:
            os.kill(os.getpid(), signal.SIGINT)

    file = tmp_path / "c"
    with pytest.raises(Interrupted) as caught:
        train(layered(), **options, checkpoint=file, on_epoch=interrupt)
    assert caught.value.history["epoch"] == [float(i + 1) for i in range(stop)]  # type: ignore[attr-defined]
    resumed = layered()
    again = train(resumed, **options, checkpoint=file, resume=True)
    for column in ("loss", "validation_accuracy", "best_epoch"):
        assert again[column] == history[column]
    assert same(whole, resumed)
    once_more = layered()
    assert train(once_more, **options, checkpoint=file, resume=True)["loss"] == history["loss"], "it had ended"
    assert same(whole, once_more)


def test_validation_that_cannot_be_used_is_named() -> None:
    x, y, truth = blobs(40)
    for wrong in (1.5, 0.0, 1, True, "all", (x,), (x, y, y), math.nan):
        refused(lambda wrong=wrong: train(augmented(), x, y, validation=wrong), "validation", "share")
    refused(lambda: train(augmented(), x, y, validation=(x[:, :2], truth)), "validation: x", "[N, 5]")
    refused(lambda: train(augmented(), x, y, validation=(x, truth + 7)), "validation: y", "row 0")
    refused(lambda: train(augmented(), x[:3], validation=0.9), "validation", "2 are needed")
    refused(lambda: train(augmented(), x, y, early_stopping=3), "early_stopping", "validation")
    for patience in (0, 1.5, True):
        refused(lambda p=patience: train(augmented(), x, y, early_stopping=p, validation=0.2), "early_stopping")


def test_a_pair_whose_validation_has_no_label_is_judged_by_its_loss() -> None:
    x, _, _ = blobs(60)
    history = train(augmented(), x, validation=0.2)
    assert "validation_accuracy" not in history
    assert all(math.isfinite(loss) for loss in history["validation_loss"])


# Weights of the classes.


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    y = torch.tensor([0] * 12 + [1] * 3 + [2] * 5 + [MISSING] * 20)
    known = y[y != MISSING].numpy()
    expected = compute_class_weight("balanced", classes=np.arange(3), y=known)
    torch.testing.assert_close(balanced(CLASSES, y).double(), torch.as_tensor(expected), rtol=1e-6, atol=0)
    assert balanced(CLASSES, torch.tensor([0, 0, 1, MISSING])).tolist() == [0.75, 1.5, 1.0]  # of two classes
    weights = balanced(ATTRIBUTES, torch.tensor([[0, 1, -1], [0, 1, -1], [0, 0, -1], [1, -1, -1]]))
    torch.testing.assert_close(weights, torch.tensor([[4 / 6, 2.0], [1.5, 0.75], [1.0, 1.0]]))
    assert balanced(ATTRIBUTES, torch.tensor([[1, 0, 1], [1, 0, 1]])).tolist() == [[1.0, 1.0]] * 3  # of one value each


def test_class_weights_weigh_the_supervised_term() -> None:
    """Weights of 2 are twice α; a class of weight 0 is learnt from no more."""
    x, y, truth = blobs(120, 120)
    options: dict[str, Any] = {"epochs": 4, "weight_decay": 0.0}
    weighted, doubled, given = (make("m2", CLASSES, alpha=alpha) for alpha in (1.0, 2.0, 1.0))
    train(weighted, x, y, class_weights=(2.0, 2.0, 2.0), **options)
    train(doubled, x, y, **options)
    train(given, x, y, class_weights=np.array([2, 2, 2]), **options)
    assert all(torch.equal(a, b) for a, b in zip(weighted.parameters(), doubled.parameters()))
    assert same(weighted, given)
    model: Any = create_model("classifier", input_shape=(5,), labels=CLASSES)
    fit(model, x, y, progress=False, epochs=30, batch_size=20, class_weights=(1.0, 0.0, 1.0))
    assert not bool((model.predict(x) == 1).any())
    assert float((model.predict(x) == truth).double().mean()) == pytest.approx(2 / 3, abs=0.05)


def test_balanced_weights_reach_the_model() -> None:
    def weights_of(model: Any, x: Tensor, y: Tensor, class_weights: object) -> Tensor:
        """The weights that are in force while the model trains."""
        found: list[Tensor] = []

        def look(row: object) -> None:
            found.append(model.head_terms.class_weights.clone())

        train(model, x, y, class_weights=class_weights, on_epoch=look)
        return found[0]

    x, y, _ = blobs(60, 12)
    y = y.where(torch.arange(60) > 3, 0)
    torch.testing.assert_close(weights_of(augmented(), x, y, "balanced"), balanced(CLASSES, y))
    attributes = build("m2-attributes")
    labels = some_labels(ATTRIBUTES, 40)
    found = weights_of(attributes, points(40), labels, "balanced")
    torch.testing.assert_close(found, balanced(ATTRIBUTES, labels))
    for given in ([1, 2, 3, 4, 5, 6], [[1, 2], [3, 4], [5, 6]], np.array([[1, 2], [3, 4], [5, 6]])):
        found = weights_of(attributes, points(40), labels, given)
        assert found.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("name", ["augmented", "m1", "revae", "classifier"])
def test_class_weights_end_with_their_training(name: str) -> None:
    """A training without them is not weighted by those of the one before."""
    x, y, _ = blobs(60, 30)
    once: Any = create_model(name, input_shape=(5,), labels=CLASSES)
    never: Any = create_model(name, input_shape=(5,), labels=CLASSES)
    train(once, x, y, class_weights=(9.0, 1.0, 1.0), average=0.0)
    never.load_state_dict(once.state_dict())
    for model in (once, never):
        pyro.set_rng_seed(0)
        train(model, x, y)
    assert same(once, never)
    if name != "classifier":
        assert once.head_terms.class_weights.tolist() == [1.0, 1.0, 1.0]


def test_the_best_epochs_weights_count_classes_alike(tmp_path: Path) -> None:
    x, y, _ = blobs(60, 30)
    model = create_model("augmented", input_shape=(5,), labels=CLASSES)
    train(model, x, y, epochs=3, class_weights=(9.0, 1.0, 1.0), checkpoint=tmp_path / "last.safetensors")
    save(model, tmp_path)
    best: Any = load(tmp_path, weights="last-best.safetensors")
    assert best.head_terms.class_weights.tolist() == [1.0, 1.0, 1.0]


def test_class_weights_that_cannot_be_used_are_named() -> None:
    x, y, _ = blobs(40)
    refused(lambda: train(Plain(), x, y, class_weights="balanced"), "class_weights", "Plain")
    refused(lambda: train(build("vae"), x, class_weights="balanced"), "class_weights", "VAE")
    refused(lambda: train(augmented(), x, y, class_weights=(1.0, 2.0)), "class_weights: 2 numbers", "3")
    attributes = points(40), some_labels(ATTRIBUTES, 40)
    refused(lambda: train(build("m2-attributes"), *attributes, class_weights=(1.0, 2.0)), "class_weights", "6")
    pairs = [[1, 2], [3, 4]]
    refused(lambda: train(build("m2-attributes"), *attributes, class_weights=pairs), "class_weights: 4 numbers", "6")
    for wrong in ("even", (1.0, -1.0, 1.0), (0.0, 0.0, 0.0), (1.0, math.nan, 1.0), ["a", "b", "c"], 3.0, [[1.0], [2]]):
        refused(lambda wrong=wrong: train(augmented(), x, y, class_weights=wrong), "class_weights", "balanced")
