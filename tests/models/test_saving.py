from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_makers import refused
from safetensors.torch import load_file, save_file
from test_checkpoint import Planted
from tiny import CASES, CLASSES, augmented, points, randomize, some_labels
from torch import nn

from pyro_ssvae import VAE, AttributeLabels, AugmentedVAE, ClassLabels, Model, create_model, load, save
from pyro_ssvae.files import installed, load_tensors, save_tensors
from pyro_ssvae.infer.protocols import Classifies, Encodes, require
from pyro_ssvae.models import GenerativeModel
from pyro_ssvae.models.saved_config import read_config
from pyro_ssvae.nn.likelihoods import Normal


def made(case: str, input_shape: tuple[int, ...] = (5,)) -> Model:
    name, labels, options = CASES[case]
    return randomize(create_model(name, input_shape=input_shape, labels=labels, **{"latent_dim": 5, **options})).eval()


def outputs(model: Model, x: torch.Tensor) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {"encode": require(model, Encodes).encode(x).mean}
    verbs: list[Callable[[torch.Tensor], torch.Tensor]] = []
    if isinstance(model, Classifies):
        verbs += [model.predict_proba, model.predict]
    if isinstance(model, GenerativeModel):
        verbs += [model.reconstruct, model.elbo, partial(model.log_likelihood, num_samples=10)]
        verbs += [lambda x: model.generate(4)]
    for i, verb in enumerate(verbs):
        torch.manual_seed(0)
        found[str(i)] = verb(x)
    return found


def same(one: Model, other: Model, x: torch.Tensor) -> None:
    first, second = outputs(one, x), outputs(other, x)
    assert first.keys() == second.keys()
    for verb, value in first.items():
        assert value.dtype == second[verb].dtype
        assert torch.equal(value, second[verb]), verb


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_a_loaded_model_gives_the_same_to_the_last_bit(tmp_path: Path, case: str, dtype: torch.dtype) -> None:
    model = made(case).to(dtype)
    x = points(7).to(dtype)
    model.prepare(x, None if model.labels is None else some_labels(model.labels, 7))
    model.eval()
    assert save(model, tmp_path / "deep" / "run") == tmp_path / "deep" / "run"
    loaded = load(tmp_path / "deep" / "run")
    assert type(loaded) is type(model)
    assert not loaded.training
    assert loaded.labels == model.labels
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    same(model, loaded, x)
    save(loaded, tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "deep" / "run" / name).read_bytes()


@pytest.mark.parametrize("input_shape", [(1, 8, 8), (3, 12), (1, 24, 24)])
def test_every_kind_of_network_comes_back(tmp_path: Path, input_shape: tuple[int, ...]) -> None:
    model = create_model("augmented", input_shape=input_shape, labels=CLASSES, latent_dim=3).eval()
    save(model, tmp_path)
    same(model, load(tmp_path), points(3, input_shape))


def test_options_names_and_further_entries_are_kept(tmp_path: Path) -> None:
    labels = AttributeLabels(["Brille", "Bärtig", 'a "b"'])
    model = create_model("augmented", input_shape=(5,), labels=labels, latent_dim=4, alpha=3.0, likelihood="laplace")
    save(model, tmp_path, settings={"epochs": 3})
    loaded = load(tmp_path)
    assert loaded.labels == labels
    assert loaded.config == model.config
    assert loaded.config.alpha == 3.0
    assert type(loaded.likelihood).__name__ == "Laplace"
    assert json.loads((tmp_path / "config.json").read_text())["settings"] == {"epochs": 3}
    vae = create_model("vae", input_shape=(5,), latent_dim=2)
    save(vae, tmp_path / "vae")
    assert load(tmp_path / "vae").labels is None


def test_only_safetensors_and_json_are_written(tmp_path: Path) -> None:
    model = made("enumerate")
    save(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()


def test_networks_of_ones_own_need_a_model_to_go_into(tmp_path: Path) -> None:
    model = augmented()
    save(model, tmp_path)
    refused(lambda: load(tmp_path), str(tmp_path), "into")
    other = augmented()
    for p in other.parameters():
        p.data.zero_()
    assert load(tmp_path, into=other) is other
    same(model, other, points(4))
    refused(
        lambda: load(tmp_path, into=augmented(latent_dim=3)),
        "model.safetensors",
        "has shape [7, 2], not [7, 3]",
        "more)",
    )
    refused(lambda: load(tmp_path, into=VAE(nn.Linear(5, 4), nn.Linear(2, 5), latent_dim=2)), "model.safetensors")


@pytest.mark.parametrize(("words", "right"), [
    (("male", "female"), True), (("Male", "FEMALE"), True), (("0", "1"), True), (("no", "yes"), True),
    (("female", "male"), False), (("man", "woman"), False),
])  # fmt: skip
def test_words_of_attributes_are_compared(words: tuple[str, str], right: bool, tmp_path: Path) -> None:
    """A model in which 0 is male went into one in which 0 is female: each was then read as the other."""

    def named(pair: tuple[str, str]) -> Model:
        return create_model("m2", input_shape=(5,), labels=AttributeLabels(["sex", "old"], [pair, ("0", "1")]))

    save(named(("male", "female")), tmp_path)
    if right:
        load(tmp_path, into=named(words))
    else:
        refused(lambda: load(tmp_path, into=named(words)), f"'sex' as male or female, not {' or '.join(words)}")


def test_tied_weights_and_an_own_likelihood(tmp_path: Path) -> None:
    def tied() -> AugmentedVAE:
        model = AugmentedVAE(nn.Linear(5, 4), nn.Linear(4, 5), CLASSES, latent_dim=4)
        model.log_scale.weight = model.loc.weight
        return model

    model = tied()
    save(model, tmp_path / "tied")
    same(model.eval(), load(tmp_path / "tied", into=tied()), points(3))
    own = create_model("vae", input_shape=(5,), latent_dim=2, likelihood=Normal((5,), scale=0.5))
    save(own, tmp_path / "own")
    refused(lambda: load(tmp_path / "own"), "into")


def damage(folder: Path, change: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("model"),
        lambda c: c.update(model=7),
        lambda c: c.update(labels={"kind": "classes"}),
        lambda c: c.update(labels=[1]),
        lambda c: c["model"].pop("options"),
        lambda c: c["model"].update(name="no such"),
        lambda c: c["model"].update(name=["augmented"]),
        lambda c: c["model"].update(input_shape="abc"),
        lambda c: c["model"].update(input_shape=[]),
        lambda c: c["model"].update(input_shape=[-5]),
        lambda c: c["model"]["options"].update(latent_dim="many"),
        lambda c: c["model"]["options"].update(latent_dim=-3),
        lambda c: c["model"].update(options={"no_such": 1}),
        lambda c: c["model"].update(options=[1]),
        lambda c: c["model"].update(options={"label_inference": "no such"}),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path: Path, change: Any) -> None:
    save(made("probabilities"), tmp_path)
    damage(tmp_path, change)
    refused(lambda: load(tmp_path), "config.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff", "[" * 100_000])
def test_a_configuration_that_is_no_json_object_is_named(tmp_path: Path, text: str) -> None:
    save(made("probabilities"), tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(lambda: load(tmp_path), "config.json")


def test_a_configuration_of_another_model_is_noticed(tmp_path: Path) -> None:
    save(made("probabilities"), tmp_path)
    damage(tmp_path, lambda c: c["model"]["options"].update(latent_dim=4))
    refused(lambda: load(tmp_path), "model.safetensors", "not the weights of this model")
    damage(tmp_path, lambda c: c["model"].update(name="classifier", options={}))
    refused(lambda: load(tmp_path), "model.safetensors")


def other_networks(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> str:
    """Change saved weights as another version's are; return what is said of them."""
    tensors, _ = load_tensors(folder / "model.safetensors", "")
    change(tensors)
    save_tensors(folder / "model.safetensors", tensors)
    return refused(lambda: load(folder), str(folder / "model.safetensors"), "not the weights of this model")


def test_networks_of_another_version_are_said_to_be_that(tmp_path: Path) -> None:
    save(create_model("vae", input_shape=(5,), latent_dim=2), tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    name = next(key for key in load_file(tmp_path / "model.safetensors") if key.startswith("encoder"))
    own = json.loads((tmp_path / "config.json").read_text())["versions"]["pyro_ssvae"]
    assert own == installed() == version("pyro_ssvae")
    said = other_networks(tmp_path, lambda tensors: tensors.pop(name))
    assert f"({name} is missing): saved by another state of pyro_ssvae {own}" in said
    assert said.endswith("train it anew")
    damage(tmp_path, lambda c: c["versions"].update(pyro_ssvae="0.0.7"))
    (tmp_path / "model.safetensors").write_bytes(content)
    said = other_networks(tmp_path, lambda tensors: tensors.update(new=torch.zeros(1), newer=torch.zeros(1)))
    assert "(new is unknown, and 1 more)" in said
    assert f"saved by pyro_ssvae 0.0.7 (this is {own})" in said
    assert said.endswith("train it anew, or install that version")
    damage(tmp_path, lambda c: c.pop("versions"))
    (tmp_path / "model.safetensors").write_bytes(content)
    said = other_networks(tmp_path, lambda tensors: tensors.update({name: torch.zeros(3, 9)}))
    assert f"({name} has shape [3, 9], not [" in said
    assert "saved by a version of pyro_ssvae with other networks" in said


def test_options_of_another_version_are_said_to_be_that(tmp_path: Path) -> None:
    save(create_model("vae", input_shape=(5,), latent_dim=2), tmp_path, versions={"pyro_ssvae": "9.1"})
    damage(tmp_path, lambda c: c["model"]["options"].update(wider=True))
    refused(lambda: load(tmp_path), "config.json", "wider", "saved by pyro_ssvae 9.1", "or install that version")


def test_absent_files_are_named(tmp_path: Path) -> None:
    refused(lambda: load(tmp_path / "none"), "config.json", "no such file")
    (tmp_path / "file").touch()
    refused(lambda: load(tmp_path / "file"), "file")
    save(made("probabilities"), tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    refused(lambda: load(tmp_path / "run"), "model.safetensors", "--resume")


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    save(made("probabilities"), tmp_path)
    file = tmp_path / "model.safetensors"
    content = file.read_bytes()
    for place in (0, 9, 100, len(content) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[place] ^= 16
        file.write_bytes(damaged)
        refused(lambda: load(tmp_path), str(file))
    for length in (0, 100, len(content) - 4):
        file.write_bytes(content[:length])
        refused(lambda: load(tmp_path), str(file))


def test_weights_that_others_wrote_are_read(tmp_path: Path) -> None:
    model = made("probabilities")
    save(model, tmp_path)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    same(model, load(tmp_path), points(3))


def test_a_planted_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", str(tmp_path / "ran"))
    save(made("probabilities"), tmp_path)
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes(pickle.dumps(Planted()))
        refused(lambda: load(tmp_path), str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(lambda: save(made("probabilities"), tmp_path / "file" / "run"), "file/run", "cannot be written")
    refused(lambda: save(made("probabilities"), "/proc/run"), "/proc/run", "cannot be written")


def test_labels_may_exceed_the_named_ones(tmp_path: Path) -> None:
    labels = ClassLabels(4, ["cat", "dog", "found 1", "found 2"])
    save(create_model("augmented", input_shape=(5,), labels=labels, latent_dim=2), tmp_path)
    assert load(tmp_path).labels == labels


def test_the_columns_of_another_training_are_forgotten(tmp_path: Path) -> None:
    save(augmented(), tmp_path)
    other = augmented()
    other.column_names = tuple("abcde")
    load(tmp_path, into=other)
    assert other.column_names is None
    assert other.predict_proba(points(3)).shape == (3, 3)


def test_further_entries_are_json_and_have_names_of_their_own(tmp_path: Path) -> None:
    model = create_model("m2", input_shape=4, labels=CLASSES, latent_dim=2)
    save(model, tmp_path / "a", seed=np.int64(3), accuracy=torch.tensor(0.5), weights=np.array([1.0, 2.0]))
    config = read_config(tmp_path / "a")
    assert (config["seed"], config["accuracy"], config["weights"]) == (3, 0.5, [1.0, 2.0])
    for name in ("labels", "model", "format", "signature", "column_names"):  # else it could not be loaded
        refused(lambda name=name: save(model, tmp_path / "b", **{name: 50}), f"save: {name!r}", "another name")
    refused(lambda: save(model, tmp_path / "b", where=tmp_path), "JSON", str(tmp_path)[:20])
    assert not (tmp_path / "b" / "config.json").exists()


def test_the_configuration_stands_for_its_folder(tmp_path: Path) -> None:
    model = create_model("m2", input_shape=4, labels=CLASSES, latent_dim=2)
    same(model, load(save(model, tmp_path) / "config.json"), points(3, (4,)))


def test_a_state_dict_knows_the_order_of_its_labels(tmp_path: Path) -> None:
    """PyTorch's own way to load exchanged cats and owls in silence."""

    def made(*names: str) -> Model:
        return create_model("m2", input_shape=5, labels=ClassLabels(list(names)), latent_dim=2)

    model = made("cat", "dog", "owl")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    saved = torch.load(tmp_path / "weights.pt", weights_only=True)
    refused(lambda: made("owl", "dog", "cat").load_state_dict(saved), "cat, dog, owl", "owl, dog, cat")
    outer = nn.ModuleList([model])
    refused(lambda: nn.ModuleList([made("dog", "cat", "owl")]).load_state_dict(outer.state_dict()), "load_state_dict")
    for names in (("cat", "dog", "owl"), ("fox", "hen", "yak")):  # other names may be another task
        assert made(*names).load_state_dict(saved)
    assert made("owl", "dog", "cat").load_state_dict(dict(saved)), "of tensors alone nothing is known"
