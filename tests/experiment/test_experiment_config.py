"""Settings as Python, the shell and config.json have them."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_makers import refused

from pyro_ssvae.cli import train as command
from pyro_ssvae.cli.arguments import gathered
from pyro_ssvae.experiment.config import (
    DataConfig,
    ExperimentConfig,
    ModelConfig,
    experiment_of,
    model_options,
    network_for,
)
from pyro_ssvae.experiment.data import prepare_data
from pyro_ssvae.labels import ClassLabels
from pyro_ssvae.models import MODELS
from pyro_ssvae.models.config import option_names
from pyro_ssvae.train.checkpoints import CheckpointSettings
from pyro_ssvae.train.settings import FitSettings

TYPED = {
    "latent_dim": ("7", 7),
    "beta": ("0", 0.0),
    "alpha": ("0", 0.0),
    "label_inference": ("enumerate", "enumerate"),
    "label_prior": ("0.25 0.75", (0.25, 0.75)),
    "entropy_weight": ("1e-3", 1e-3),
    "alignment_weight": ("3", 3.0),
    "label_smoothing": ("0.1", 0.1),
    "likelihood": ("laplace", "laplace"),
}


def through_json(settings: ExperimentConfig) -> ExperimentConfig:
    return experiment_of({"settings": json.loads(json.dumps(settings.recorded()))}, "run")


@pytest.mark.parametrize("name", MODELS)
def test_what_is_typed_is_what_python_takes_and_what_json_gives_back(name: str) -> None:
    options = {key: value for key, (_, value) in TYPED.items() if key in option_names(MODELS[name].Config)}
    words = [word for key in options for word in (f"--{key.replace('_', '-')}", *TYPED[key][0].split())]
    read = command.parse(["--model", name, *words, "--labels", "9", "--hide-classes", "1", "2", "--epochs", "3"])
    wanted = ExperimentConfig(
        source=DataConfig(labels="9", hide_classes=("1", "2")),
        network=ModelConfig(name, model_options(name, options)),
        training=FitSettings(epochs=3),
        saving=CheckpointSettings(),
    )
    assert read == wanted
    assert read.network.options == MODELS[name].Config(**options)
    assert through_json(read) == wanted


def test_settings_without_an_option_are_the_defaults() -> None:
    assert command.parse([]) == ExperimentConfig()
    assert through_json(ExperimentConfig()) == ExperimentConfig()
    given = ExperimentConfig(baseline=False, calibration=False, logger="tensorboard", quiet=True, out=Path("a"))
    assert (
        command.parse(["--no-baseline", "--no-calibration", "--logger", "tensorboard", "--quiet", "--out", "a"])
        == given
    )
    assert through_json(given) == replace(given, quiet=False, out=None), "what repeats a run, and no more"


def test_class_weights_and_label_files() -> None:
    read = command.parse(["--class-weights", "balanced", "--label-file", "a.csv", "--label-file", "b.csv"])
    assert (read.training.class_weights, read.source.label_file) == ("balanced", ("a.csv", "b.csv"))
    read = command.parse(["--class-weights", "1", "2.5", "--nodes", "2"])
    assert (read.training.class_weights, read.training.num_nodes) == ((1.0, 2.5), 2)


def test_labels_that_say_nothing_of_frequencies_are_not_asked_for_them() -> None:
    """p(y) of labels drawn class by class, of chosen ones, of a proportional draw, and of one's own."""
    network = ModelConfig()

    def prior(source: DataConfig, hidden: bool = True, network: ModelConfig = network) -> object:
        return asdict(network_for(network, source, hidden).options)["label_prior"]

    balanced = command.parse(["--labels", "50", "--labels-by", "balanced"]).source
    assert balanced.labels_by == "balanced"
    assert prior(balanced) == "unlabelled"
    assert prior(DataConfig(labels="50", label_file=("a.csv",))) == "unlabelled"
    assert prior(DataConfig(labels="50")) == "proportional"
    assert prior(DataConfig(data="own.npz"), hidden=False) == "estimated"
    given = ModelConfig(options=model_options("augmented", {"label_prior": (0.4, 0.6)}))
    assert prior(balanced, network=given) == (0.4, 0.6)
    assert network_for(ModelConfig("vae", model_options("vae")), balanced, True).name == "vae"
    with_settings = replace(ExperimentConfig(), source=balanced)
    assert through_json(with_settings).source == balanced


OPTIONS = {(field.name, str(field.type)): (name, field) for name in MODELS for field in fields(MODELS[name].Config)}
"""Each option of any model, with one of the models that have it."""


@pytest.mark.parametrize("name", MODELS)
def test_every_option_of_a_model_can_be_typed(name: str) -> None:
    for model, field in OPTIONS.values():
        if model != name:
            continue
        option = f"--{field.name.replace('_', '-')}"
        for word in ("-1", "nothing of the kind"):
            typed = ["--model", name, option, word]
            if field.name == "columns":  # the data's option of that name takes it
                assert command.parse(typed).source.columns == (word,)
            elif field.name in ("label_prior", "one_sided"):  # any word, until it meets the labels
                given = asdict(command.parse(typed).network.options)[field.name]
                assert given == (word if field.name == "label_prior" else (word,))
            elif field.type == "bool":  # a flag, which takes no word
                refused(lambda typed=typed: command.parse(typed), "too many")
            else:
                refused(lambda typed=typed: command.parse(typed), option)


def test_models_and_options_that_are_not_there() -> None:
    refused(lambda: model_options("vea"), "model: there is no 'vea'", "'vae'")
    refused(lambda: model_options("m2", {"z_c_gradient": 1.0}), "z_c_gradient", "'m2'", "revae has")
    refused(lambda: model_options("m2", {"alhpa": 1.0}), "alhpa", "did you mean 'alpha'?")
    refused(lambda: model_options("m2", {"alpha": -1.0}), "alpha: -1.0; a number of at least 0 is needed")
    refused(lambda: command.parse(["--model", "m2", "--integral", "samples"]), "--integral", "'m2'", "revae has")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("network"),
        lambda s: s.pop("saving"),
        lambda s: s.pop("logger"),
        lambda s: s["network"].pop("options"),
        lambda s: s["network"].update(name="no such"),
        lambda s: s["network"]["options"].update(steering=1.0),
        lambda s: s["network"]["options"].update(alpha="much"),
        lambda s: s["network"]["options"].update(alpha=float("nan")),
        lambda s: s["source"].update(classes="9"),
        lambda s: s["training"].update(learning_rate=None),
    ],
)
def test_a_file_that_holds_anything_else_is_named(change: Any) -> None:
    saved = json.loads(json.dumps(ExperimentConfig().recorded()))
    change(saved)
    refused(lambda: experiment_of({"settings": saved}, "run"), "run/config.json", "not a run's configuration")


@pytest.mark.parametrize(
    ("typed", "once"),
    [
        ("--target a --epochs 2 --target b c", "--target a b c --epochs 2"),
        ("--columns=a=count --columns=b=category", "--columns a=count b=category"),
        ("--hide-classes 1 --hide_classes 2 --quiet", "--hide-classes 1 2 --quiet"),
        ("--label-prior .1 --seed 3 --label-prior .9", "--label-prior .1 .9 --seed 3"),
        ("--class-weights 1 --class-weights 2", "--class-weights 1 2"),
    ],
)
def test_an_option_of_several_values_may_be_given_several_times(typed: str, once: str) -> None:
    """The first of two targets would else be a feature, which tells of the second what new data do not have."""
    assert command.parse(typed.split()) == command.parse(once.split())


def test_a_word_after_repeated_options_is_none_of_their_values() -> None:
    assert gathered(["--labels=1", "--labels=2", "name", "-n", "3"], {"--labels"}) == (
        ["name", "--labels", "1", "2", "-n", "3"]
    )


def test_data_without_any_label_have_as_many_classes_as_is_said(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, 4))
    for name, arrays in {"absent": {}, "missing": {"y": np.full(30, -1)}}.items():
        np.savez(tmp_path / f"{name}.npz", x=x, **arrays)
        for classes in (3, 12):
            source = DataConfig(str(tmp_path / f"{name}.npz"), classes=classes)
            dataset, train, _ = prepare_data(source, seed=0)
            assert dataset.labels == train.labels == ClassLabels(classes)
    np.savez(tmp_path / "named.npz", x=x, y=np.full(30, -1), names=np.array(list("abcd")))
    refused(
        lambda: prepare_data(DataConfig(str(tmp_path / "named.npz"), classes=3), seed=0), "--classes 3", "4 classes"
    )
