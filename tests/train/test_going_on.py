"""A training that goes on: with more epochs after its end, and with further labels of the same rows."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from test_fit import blobs, same, train
from torch import Tensor

from pyro_ssvae import ClassLabels, Model, create_model
from pyro_ssvae.models.augmented import AugmentedVAE
from pyro_ssvae.train.fit import Interrupted
from pyro_ssvae.train.schedule import LearningRate, one_cycle

X, FEW, TRUTH = blobs(96)
MORE = TRUTH.where(torch.arange(96) < 40, -1)


def model(**options: Any) -> Model:
    torch.manual_seed(0)
    return create_model("augmented", input_shape=5, labels=ClassLabels(3), latent_dim=2, **options)


def stopped_after(epoch: int) -> Any:
    """What a person's Ctrl-C in that epoch does."""
    return lambda row: os.kill(os.getpid(), signal.SIGINT) if row["epoch"] == epoch else None


def rates(monkeypatch: Any) -> list[float]:
    """The learning rate's share of its peak, step by step, as they come."""
    seen: list[float] = []
    genuine = LearningRate.set

    def noted(self: LearningRate, done: int, steps: int, scale: float) -> None:
        genuine(self, done, steps, scale)
        seen.append(self.optimizer.param_groups[0]["lr"] / self.peak)

    monkeypatch.setattr(LearningRate, "set", noted)
    return seen


def test_more_epochs_follow_the_end_in_another_cycle(tmp_path: Path, monkeypatch: Any) -> None:
    file, first = tmp_path / "c", model()
    history = train(first, X, FEW, checkpoint=file, epochs=2)
    seen, again = rates(monkeypatch), model()
    longer = train(again, X, FEW, checkpoint=file, resume=True, epochs=5)
    assert longer["epoch"] == [1, 2, 3, 4, 5]
    assert longer["loss"][:2] == history["loss"]
    assert longer["loss"][2] < history["loss"][0], "it goes on from the weights"
    steps = 3 * (96 // 16)
    np.testing.assert_allclose(seen, [one_cycle(i / steps, 1 / steps) for i in range(steps)])
    assert not same(first, again)
    assert longer["seconds"] == sorted(longer["seconds"])


def test_what_went_on_can_be_stopped_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        train(model(), X, FEW, checkpoint=tmp_path / name, epochs=2)
    whole, parts = model(), model()
    history = train(whole, X, MORE, checkpoint=tmp_path / "whole", resume=True, epochs=5)
    options: dict[str, Any] = {"checkpoint": tmp_path / "parts", "resume": True, "epochs": 5}
    for epoch in (3, 4):
        with pytest.raises(Interrupted):
            train(model(), X, MORE, **options, on_epoch=stopped_after(epoch))
    again = train(parts, X, MORE, **options)
    assert again["loss"] == history["loss"]
    assert same(whole, parts)


def test_one_that_was_stopped_takes_other_epochs_too(tmp_path: Path) -> None:
    file = tmp_path / "c"
    with pytest.raises(Interrupted):
        train(model(), X, FEW, checkpoint=file, epochs=9, on_epoch=stopped_after(2))
    assert train(model(), X, FEW, checkpoint=file, resume=True, epochs=3)["epoch"] == [1, 2, 3]


def test_further_labels_of_the_same_rows_are_learnt(tmp_path: Path) -> None:
    """Class 2 has no label at first: p(y) and the head know nothing of it."""
    file = tmp_path / "c"
    two = torch.where(TRUTH == 2, -1, MORE)
    first = model(alignment_weight=0.0)
    train(first, X, two, checkpoint=file, epochs=10)
    before = (first.predict(X) == TRUTH)[TRUTH == 2].double().mean()  # type: ignore[operator]
    again: Any = model(alignment_weight=0.0)
    history = train(again, X, MORE, checkpoint=file, resume=True, epochs=20)
    assert history["epoch"][-1] == 20
    right = (again.predict(X) == TRUTH).double()
    assert before < 0.2
    assert right[TRUTH == 2].mean() > 0.9
    assert right[TRUTH != 2].mean() > 0.9, "the old ones are kept"
    fresh: Any = model()
    fresh.prepare(X, MORE)
    assert torch.equal(again.head_terms.epsilon, fresh.head_terms.epsilon)
    assert torch.equal(again.head_terms.shares.counts, fresh.head_terms.shares.counts)


def test_another_file_to_go_on_from_stays_as_it_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    file = run / "checkpoint" / "last.safetensors"
    train(model(), X, FEW, checkpoint=file, epochs=2)
    content = file.read_bytes()
    one, other = model(), model()
    history = train(one, X, FEW, resume=file, epochs=3)
    assert history["epoch"] == [1, 2, 3]
    assert train(other, X, FEW, resume=run, epochs=3, checkpoint=tmp_path / "new")["loss"] == history["loss"]
    assert same(one, other)
    assert file.read_bytes() == content
    assert train(model(), X, FEW, resume=True, checkpoint=tmp_path / "new", epochs=3)["loss"] == history["loss"]


@pytest.mark.parametrize("labels", [FEW, MORE])
def test_patience_begins_anew(tmp_path: Path, labels: Tensor, capfd: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"validation": (X, TRUTH), "early_stopping": 1, "checkpoint": tmp_path / "c"}
    history = train(model(), X, FEW, **options, epochs=40)
    assert len(history["epoch"]) < 40, "without gain it stops"
    again = train(model(), X, labels, **options, epochs=41, resume=True)
    assert len(again["epoch"]) > len(history["epoch"])
    best = again["best_epoch"][len(history["epoch"]) :]
    assert all(epoch > len(history["epoch"]) for epoch in best) or labels is FEW


def test_what_leaves_nothing_to_do_or_is_another_training_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c"
    train(model(), X, FEW, checkpoint=file, epochs=3)

    def resume(x: Tensor = X, y: Tensor = FEW, **options: Any) -> Any:
        return train(model(), x, y, **{"checkpoint": file, "resume": True, "epochs": 4, **options})

    refused(lambda: resume(epochs=2), str(file), "3 epochs are done; epochs=2, and more than 3 are needed")
    refused(lambda: resume(y=MORE, epochs=3), str(file), "3 epochs are done", "more than 3")
    refused(lambda: resume(x=X.flip(0)), str(file), "other settings or data", "data")
    refused(lambda: resume(learning_rate=0.1), str(file), "learning_rate 0.002, not 0.1")
    refused(lambda: resume(resume=tmp_path / "nowhere", checkpoint=None), "nowhere", "no such file")
    assert resume()["epoch"] == [1, 2, 3, 4], "nothing was lost by it"


def test_labels_of_other_names_or_another_likelihood_are_another_training(tmp_path: Path) -> None:
    """The weights fit, yet the first class was the owl and is the cat."""

    def animals(*names: str, **options: Any) -> Model:
        torch.manual_seed(0)
        return create_model("augmented", input_shape=5, labels=ClassLabels(names), latent_dim=2, **options)

    place = tmp_path / "c"
    train(animals("owl", "cat", "dog"), X, FEW, epochs=2, checkpoint=place)
    again = {"epochs": 4, "checkpoint": place, "resume": True}
    for names in (("cat", "dog", "owl"), ("a", "b", "c")):
        other = animals(*names)
        refused(lambda other=other: train(other, X, FEW, **again), str(place), "label names", "'owl', 'cat', 'dog'")
    laplace = animals("owl", "cat", "dog", likelihood="laplace")
    refused(lambda: train(laplace, X, FEW, **again), "likelihood Normal, not Laplace")
    assert len(train(animals("owl", "cat", "dog"), X, FEW, **again)["epoch"]) == 4


def test_an_edited_model_is_another_training(tmp_path: Path) -> None:
    """Its weights fit those of the model that it is an edit of."""

    class Wide(AugmentedVAE):
        def p_z(self, x: Tensor) -> dist.TorchDistribution:
            return dist.Normal(x.new_zeros(2), 3.0).to_event(1)

    def vae() -> AugmentedVAE:
        return AugmentedVAE.default((5,), ClassLabels(3), latent_dim=2)

    place = tmp_path / "c"
    train(vae(), X, FEW, epochs=2, checkpoint=place)
    again = {"epochs": 4, "resume": place}
    edited, replaced = vae(), vae()
    edited.__class__ = Wide
    replaced.p_z = edited.p_z  # type: ignore[method-assign]
    refused(lambda: train(edited, X, FEW, **again), str(place), "model AugmentedVAE, not Wide")
    refused(lambda: train(replaced, X, FEW, **again), str(place), "replaced [], not ['p_z']")
    assert len(train(vae(), X, FEW, **again)["epoch"]) == 4


def test_other_options_of_the_model_are_another_training(tmp_path: Path) -> None:
    """They change no weight's shape, so that the checkpoint fits; p(y) alone may be another with other labels."""

    def with_options(**options: Any) -> Model:
        torch.manual_seed(0)
        return create_model("augmented", input_shape=5, labels=ClassLabels(3), latent_dim=2, **options)

    place = tmp_path / "c"
    train(with_options(), X, FEW, epochs=2, checkpoint=place)
    again = {"epochs": 3, "checkpoint": place, "resume": True}
    refused(lambda: train(with_options(beta=0.5), X, FEW, **again), str(place), "beta 1.0, not 0.5")
    refused(lambda: train(with_options(beta=0.5), X, MORE, **again), str(place), "beta 1.0, not 0.5")
    sampled = with_options(label_inference="sample")
    refused(lambda: train(sampled, X, FEW, **again), str(place), "label_inference None, not sample")
    uniform = with_options(label_prior="uniform")
    refused(lambda: train(uniform, X, FEW, **again), str(place), "label_prior estimated, not uniform")
    assert len(train(with_options(label_prior="unlabelled"), X, MORE, **again)["epoch"]) == 3
