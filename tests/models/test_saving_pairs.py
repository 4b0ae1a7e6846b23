"""What is saved beside the weights, and pairs of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from torch import Tensor, nn

from pyro_ssvae import AttributeLabels, AugmentedVAE, ClassLabels, create_model, fit, load, save
from pyro_ssvae.infer.bounds import elbo
from pyro_ssvae.models.saved_config import FORMAT


class Own(nn.Module):
    """A pair as a person writes it: no labels, no options, a site of another name."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.decoder, self.encoder = nn.Linear(width, 3), nn.Linear(3, 2 * width)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("own", self)
        with pyro.plate("rows", len(x)):
            like = x.new_zeros(self.decoder.in_features)
            z = pyro.sample("latent", dist.Normal(like, like + 1).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("rows", len(x)):
            loc, scale = self.encoder(x).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, scale.exp()).to_event(1))


class Program(nn.Module):
    """One half of a pair, as a module that is called."""

    def __init__(self, run: Callable[[Program, Tensor], None], inputs: int, outputs: int) -> None:
        super().__init__()
        self.network, self.run = nn.Linear(inputs, outputs), run

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module(f"network {self.network.in_features}", self.network)
        self.run(self, x)


def model_half(part: Program, x: Tensor) -> None:
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(part.network(z), 1.0).to_event(1), obs=x)


def guide_half(part: Program, x: Tensor) -> None:
    with pyro.plate("rows", len(x)):
        loc, scale = part.network(x).chunk(2, -1)
        pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


def halves() -> tuple[Program, Program]:
    return Program(model_half, 2, 3), Program(guide_half, 3, 4)


def bound(pair: Any, x: Tensor) -> Tensor:
    pyro.set_rng_seed(1)
    return elbo(pair, x)


def test_a_pair_of_ones_own_comes_back(tmp_path: Path) -> None:
    x, pair = torch.randn(20, 3), Own()
    fit(pair, x, epochs=3, progress=False)
    save(pair, tmp_path)
    refused(lambda: load(tmp_path), str(tmp_path), "into=it")
    other = Own()
    assert load(tmp_path, into=other) is other
    assert not other.training
    assert torch.equal(bound(pair, x), bound(other, x))
    refused(lambda: load(tmp_path, into=Own(width=3)), "model.safetensors", "has shape [3, 2], not [3, 3]")


def test_a_model_and_a_guide_that_are_modules_come_back(tmp_path: Path) -> None:
    x, pair, other = torch.randn(20, 3), halves(), halves()
    save(pair, tmp_path)
    load(tmp_path, into=other)
    assert torch.equal(pair[0].network.weight, other[0].network.weight)
    assert torch.equal(bound(pair, x), bound(other, x))


def test_what_cannot_be_saved_is_said(tmp_path: Path) -> None:
    own = Own()
    refused(lambda: save((own.model, own.guide), tmp_path / "a"), "save", "one module with model(x, y) and guide(x, y)")

    class Empty(nn.Module):
        def model(self, x: Tensor, y: Tensor | None = None) -> None: ...

        def guide(self, x: Tensor, y: Tensor | None = None) -> None: ...

    refused(lambda: save(Empty(), tmp_path / "a"), "save", "Empty", "nothing to save")
    refused(lambda: save(nn.Linear(2, 2), tmp_path / "a"), "model(x, y)", "Linear")
    assert not (tmp_path / "a").exists()


def own_networks(labels: ClassLabels | AttributeLabels, likelihood: str = "normal") -> AugmentedVAE:
    encoder = nn.Sequential(nn.Linear(6, 16), nn.ReLU())
    return AugmentedVAE(encoder, nn.Linear(4, 6), labels, latent_dim=4, likelihood=likelihood)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: own_networks(ClassLabels(["owl", "cat", "dog"])), ("cat, dog, owl", "owl, cat, dog")),
        (lambda: own_networks(AttributeLabels(["cat", "dog", "owl"])), ("classes", "attributes")),
        (lambda: own_networks(ClassLabels(["cat", "dog", "owl"]), "laplace"), ("likelihood", "Normal", "Laplace")),
        (Own, ("labels", "cat, dog, owl", "none")),
        (
            lambda: create_model("augmented", input_shape=(7,), labels=ClassLabels(["cat", "dog", "owl"])),
            ("input shape", "[6]", "[7]"),
        ),
    ],
)
def test_what_lies_beside_the_weights_is_compared(tmp_path: Path, other: Callable[[], Any], words: tuple[str]) -> None:
    vae = own_networks(ClassLabels(["cat", "dog", "owl"]))
    save(vae, tmp_path)
    refused(lambda: load(tmp_path, into=other()), str(tmp_path), *words)
    same = load(tmp_path, into=own_networks(ClassLabels(["cat", "dog", "owl"])))
    x = torch.randn(5, 6)
    assert torch.equal(same.predict_proba(x), vae.eval().predict_proba(x))


def test_models_of_other_versions_are_refused(tmp_path: Path) -> None:
    save(create_model("vae", input_shape=(5,), latent_dim=2), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["format"] == FORMAT
    changes: list[tuple[dict[str, Any], str]] = [
        ({"format": FORMAT - 1}, "made by an earlier version of pyro_ssvae; train it anew"),
        ({"format": FORMAT + 1}, "later version"),
        ({"format": "2"}, "earlier version"),
    ]
    for change, words in changes:
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        refused(lambda: load(tmp_path), str(tmp_path / "config.json"), words)
    # As the version before this one wrote it.
    old = {"name": "vae", "input_shape": [5], "latent_dim": 2, "options": {}}
    (tmp_path / "config.json").write_text(json.dumps({"model": old, "labels": None}))
    refused(lambda: load(tmp_path), str(tmp_path / "config.json"), "earlier version", "train it anew")
    refused(lambda: load(tmp_path, into=create_model("vae", input_shape=(5,), latent_dim=2)), "earlier version")
