"""Train a model, evaluate it, and write all of it into a folder.

Each model has options of its own: train --model m2 --help shows those of m2.

Example: pyro-ssvae train --data mnist --labels 100 --out runs/mnist-100
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Annotated, Any, get_type_hints

import tyro

from ..errors import InputError, counted
from ..experiment.config import (
    DataConfig,
    ExperimentConfig,
    ModelConfig,
    experiment_of,
    model_options,
)
from ..experiment.going_on import refuse_others
from ..models import MODELS, check_option, model_name
from ..models.config import option_names
from ..models.saved_config import read_config
from ..train.checkpoints import CheckpointSettings
from ..train.settings import FitSettings
from .arguments import option_words, plain, shell_form
from .arguments import parse as parse_form
from .hints import unknown_option
from .tables import show_metrics

PARTS = {"source": DataConfig, "training": FitSettings, "saving": CheckpointSettings}


@dataclass(frozen=True, kw_only=True)
class Named:
    """What comes before a model's own options."""

    model: str = "augmented"


def parse(arguments: Sequence[str]) -> ExperimentConfig:
    """Return the settings: those of the run that ``--config`` names, if any, the other arguments on top of them."""
    begun = run_to_repeat(arguments)
    written = given(arguments, "--model")
    model = named(written) if written else (Named.model if begun is None else begun.network.name)
    form = form_of(model)
    refuse_options_of_others(model, unknown_option(option_words(form), arguments))
    default = None if begun is None else as_form(form, begun, model)
    settings = settings_of(parse_form("train", form, arguments, __doc__, default), model)
    if settings.resume is not None:
        refuse_others(settings, settings.resume, names_typed(arguments))
    return settings


def names_typed(arguments: Sequence[str]) -> set[str]:
    """Return the names of the settings whose options were typed."""
    words = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    names = {word.removeprefix("--").removeprefix("no-").replace("-", "_") for word in words}
    return names | ({"num_nodes"} if "nodes" in names else set())


def named(written: str) -> str:
    """Return the model that was named; raise :class:`InputError` with the nearest name for one that does not exist."""
    try:
        return model_name(written)
    except InputError as error:
        raise InputError(in_shell(error)) from None


def refuse_options_of_others(model: str, unknown: str | None) -> None:
    """Raise :class:`InputError` for an option that other models have."""
    option = (unknown or "").removeprefix("--").removeprefix("no-").replace("-", "_")
    if any(option in option_names(other.Config) for other in MODELS.values()):
        try:
            check_option(model, option)
        except InputError as error:
            raise InputError(f"train: {in_shell(error)}") from None


def in_shell(error: InputError) -> str:
    """Return an error's words with the option that they begin with as it is typed."""
    name, colon, words = str(error).partition(":")
    return f"--{name.replace('_', '-')}{colon}{words}"


def given(arguments: Sequence[str], option: str) -> str | None:
    """Return the value of an option, which is read before all others; None where it is not given."""
    value = None
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        if argument == option:
            value = following
        elif argument.startswith(f"{option}="):
            value = argument.partition("=")[2]
    return value or None


def run_to_repeat(arguments: Sequence[str]) -> ExperimentConfig | None:
    """Return the settings of the run that ``--config`` names."""
    path = given(arguments, "--config")
    return None if path is None else experiment_of(read_config(path), path)


def form_of(model: str) -> type:
    """Return the command's arguments for a model: those of every training, and the options of its ``Config``."""
    shown = Annotated[str, tyro.conf.arg(help=f"{', '.join(MODELS)}; the options below are those of the one named.")]
    network = make_dataclass(
        "Network",
        [("model", shown, field(default=model))],
        bases=(shell_form(MODELS[model].Config, ("columns",)), Named),  # DataConfig has an option of that name
        namespace={"__doc__": "Which model, with the options that are its own."},
        frozen=True,
        kw_only=True,
    )
    parts = {name: shell_form(kind) for name, kind in PARTS.items()}
    return shell_form(ExperimentConfig, network=network, **parts)


def as_form(form: type, begun: ExperimentConfig, model: str) -> object:
    """Return the settings of a run as the command's arguments; of another model, with that one's default options."""
    kinds = get_type_hints(form)
    options = vars(begun.network.options) if begun.network.name == model else {}
    parts = {name: kinds[name](**vars(getattr(begun, name))) for name in PARTS}
    return form(**{**vars(begun), **parts, "network": kinds["network"](model=model, **options)})


def settings_of(parsed: Any, model: str) -> ExperimentConfig:
    """Return the settings that were typed; raise :class:`InputError` naming an option whose value cannot be used."""
    names = option_names(MODELS[model].Config)
    try:
        options = model_options(model, {name: getattr(parsed.network, name) for name in names})
    except InputError as error:
        raise InputError(in_shell(error)) from None
    parts: dict[str, Any] = {name: plain(kind, getattr(parsed, name)) for name, kind in PARTS.items()}
    every = {each.name: getattr(parsed, each.name) for each in fields(ExperimentConfig)}
    return ExperimentConfig(**{**every, **parts, "network": ModelConfig(model, options)})


def run(options: ExperimentConfig) -> None:
    """Train, and say what came of it."""
    from ..experiment.run import train
    from ..train.launch import is_main_process

    folder = train(options)
    if not is_main_process(options.training):
        return
    metrics = json.loads((folder / "metrics.json").read_text())
    counts, took = metrics["data"], metrics["train"]
    rows = f"{counts['labelled']} of {counted(counts['train'], 'point')} labelled"
    held = f"{counts['validation']} more held out for validation, {counts['validation_labelled']} of them labelled"
    tables = {"test": metrics["test"], "labels alone": metrics.get("baseline")}
    shape = read_config(folder)["signature"]["input_shape"]
    show_metrics(f"{counts['name']}: {rows}; {held}; {counted(counts['test'], 'test point')}", tables, shape)
    speed = f"{took['examples_per_second']:.0f} points a second"
    print(f"{counted(took['epochs'], 'epoch')} in {took['seconds']:.1f} s, {speed}")
    print(f"run: {folder}")
    if options.figures and (folder / "figures").is_dir():
        print(f"figures: {folder / 'figures'}")
