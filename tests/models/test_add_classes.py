"""Further classes for a trained model: the old ones keep what they have, the new ones are learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from data_makers import refused
from tiny import augmented, mostly_slow
from torch import Tensor

from pyro_ssvae import AttributeLabels, ClassLabels, Model, add_classes, create_model, fit, load, save
from pyro_ssvae.infer.protocols import Classifies, require

NAMES = ["augmented", "classifier", "m1", "m2", "m1+m2", "adgm", "mvae", "diva", "revae"]


def corners(classes: int, n: int) -> tuple[Tensor, Tensor]:
    """Clusters at the corners of a simplex, and their numbers."""
    y = torch.arange(n) % classes
    return 4 * torch.eye(6)[y] + 0.3 * torch.randn(n, 6, generator=torch.Generator().manual_seed(0)), y


def enlarged(name: str, epochs: int) -> tuple[Model, Model]:
    """A model trained on three classes, and the same with two more, which says and holds what it did."""
    x, y = corners(3, 150)
    vae = create_model(name, input_shape=6, labels=ClassLabels(["ape", "bee", "cow"]), latent_dim=8)
    fit(vae, x, y, epochs=epochs, batch_size=50, progress=False, augment="none")
    old = require(vae, Classifies).predict(x)
    weights = {key: value.clone() for key, value in vae.state_dict().items()}
    larger = add_classes(vae, ["dog", "eel"])
    assert larger.labels == ClassLabels(["ape", "bee", "cow", "dog", "eel"])
    assert torch.equal(require(larger, Classifies).predict(x), old), "before any further training"
    assert all(torch.equal(value, weights[key]) for key, value in vae.state_dict().items())
    for key, value in larger.state_dict().items():
        kept = value[tuple(slice(0, size) for size in weights[key].shape)]
        assert torch.equal(kept, weights[key]), key
    return vae, larger


@pytest.mark.parametrize("name", NAMES)
def test_old_classes_stay(name: str) -> None:
    enlarged(name, epochs=60 if name == "m1" else 8)


@pytest.mark.parametrize("name", mostly_slow(NAMES, "augmented", "revae"))
def test_new_classes_are_learnt(name: str) -> None:
    epochs = 60 if name == "m1" else 25
    vae, larger = enlarged(name, epochs)
    x, y = corners(3, 150)
    assert (require(vae, Classifies).predict(x) == y).double().mean() > 0.95
    x, y = corners(5, 250)
    few = torch.where(torch.arange(250) < 50, y, -1)
    fit(larger, x, few, epochs=epochs, batch_size=50, progress=False, augment="none")
    right = (require(larger, Classifies).predict(x) == y).double()
    assert right[y < 3].mean() > 0.9
    assert right[y >= 3].mean() > (0.4 if name == "m1" else 0.9)  # M1's latents know no label; chance is 0.2


def test_it_is_saved_and_loaded_as_any_model(tmp_path: Path) -> None:
    vae = create_model("revae", input_shape=6, labels=ClassLabels(3), latent_dim=8)
    larger = add_classes(vae, ["new"], alignment_weight=1.0)
    assert larger.config.alignment_weight == 1.0  # type: ignore[attr-defined]
    again = load(save(larger, tmp_path / "a"))
    assert again.labels == ClassLabels(["0", "1", "2", "new"])
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), larger.state_dict().values()))
    torch.manual_seed(1)
    before = torch.rand(())
    torch.manual_seed(1)
    add_classes(vae, ["new"])
    assert torch.rand(()) == before, "global random numbers are left alone"


def test_what_cannot_be_made_larger_is_one_line() -> None:
    vae = create_model("m2", input_shape=6, labels=ClassLabels(["ape", "bee"]), latent_dim=2, label_prior=(0.5, 0.5))
    refused(lambda: add_classes(vae, ["bee"]), "'bee' is a class already")
    refused(lambda: add_classes(vae, ["cow", "cow"]), "'cow'")
    for no_list in ([], 2, {"cow"}, None):
        refused(lambda no_list=no_list: add_classes(vae, no_list), "at least one")
    assert add_classes(vae, np.array(["cow"]), label_prior="uniform").labels.names == ("ape", "bee", "cow")  # type: ignore[arg-type, union-attr]
    refused(lambda: add_classes(vae, ["cow"]), "label_prior", "3")
    refused(lambda: add_classes(vae, ["cow"], label_prior="uniform", latent_dim=1), "shape [2")
    assert add_classes(vae, "cow", label_prior="uniform").labels == ClassLabels(["ape", "bee", "cow"])
    refused(lambda: add_classes(augmented(), ["cow"]), "networks of one's own")
    attributes = create_model("m2", input_shape=6, labels=AttributeLabels(["hat"]), latent_dim=2)
    refused(lambda: add_classes(attributes, ["cow"]), "M2", "ClassLabels")
    refused(lambda: add_classes(create_model("vae", input_shape=6, latent_dim=2), ["cow"]), "VAE", "ClassLabels")
