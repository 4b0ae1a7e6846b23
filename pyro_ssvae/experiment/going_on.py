"""A run that goes on: with its own settings, or with more epochs and labels after its end."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from ..files import write_atomically
from ..models.saved_config import read_config
from ..models.saving import WEIGHTS
from ..train.checkpoints import checkpoints
from .config import ExperimentConfig, Json, ModelConfig, experiment_of, model_options
from .data import label_files_of
from .folder import CHECKPOINT

MAY_CHANGE = ("epochs", "label_file", "devices", "logger")
"""Settings of a run that may be others when it goes on; with ``devices`` also ``num_nodes``."""


def going_on(given: ExperimentConfig, folder: Path) -> ExperimentConfig:
    """Return the settings of a run that is gone on with: its own, with what was given of :data:`MAY_CHANGE`.

    Label files come after the run's own.

    :raises InputError: a run that has ended, where there is nothing more to do or its checkpoint is gone, or another
        setting.
    """
    begun = experiment_of(read_config(folder), folder)
    begun = replace(begun, source=label_files_of(begun.source, folder))
    network = ModelConfig(given.network.name, model_options(given.network.name))
    usual = {**every_setting(ExperimentConfig(network=network)), "model": ModelConfig.name}
    refuse_others(given, folder, {name for name, value in every_setting(given).items() if value != usual[name]})
    epochs, files, devices = given.training.epochs, given.source.label_file, given.training.devices
    done = epochs_done(folder)
    if (folder / WEIGHTS).exists() and not checkpoints(folder / CHECKPOINT):  # it would be written over from the start
        raise InputError(
            f"--resume {folder}: it has weights, but no checkpoint to go on from, {CHECKPOINT}; put it back, or train "
            f"anew elsewhere with --config {folder / 'config.json'}"
        )
    if done is not None and epochs is None:
        raise InputError(f"--resume {folder}: this run has ended; --epochs N, more than its {done}, goes on with it")
    if done is not None and epochs is not None and epochs <= done:
        raise InputError(f"--resume {folder}: --epochs {epochs}, but {done} epochs are done; more are needed")
    if done is not None and epochs == begun.training.epochs:
        raise InputError(
            f"--resume {folder}: of --epochs {epochs} early stopping left {done}; another number goes on with it"
        )
    training = begun.training
    training = training if epochs is None else replace(training, epochs=epochs)
    if devices is not None:  # as many as there are now
        training = replace(training, devices=devices, num_nodes=given.training.num_nodes)
    further = tuple(file for file in files if file not in begun.source.label_file)
    source = replace(begun.source, label_file=(*begun.source.label_file, *further))
    logger = given.logger or begun.logger
    return replace(begun, training=training, source=source, logger=logger, out=folder, resume=folder, quiet=given.quiet)


def refuse_others(given: ExperimentConfig, folder: Path, named: Collection[str]) -> None:
    """Raise :class:`InputError` naming a setting that was given, and is neither the run's own nor may be another.

    :param folder: the run's.
    :param named: the settings that were given.
    """
    begun = replace(experiment_of(read_config(folder), folder), out=folder)
    ours, theirs = every_setting(given), every_setting(begun)
    may = (*MAY_CHANGE, "num_nodes") if given.training.devices is not None else MAY_CHANGE
    for name in ours:
        if name in named and name not in may and (name not in theirs or ours[name] != theirs[name]):
            option = name.removeprefix("num_").replace("_", "-")
            option = f"no-{option}" if ours[name] is False else option
            raise InputError(f"--resume {folder}: it goes on with its own settings; leave --{option} out")


def every_setting(settings: ExperimentConfig) -> dict[str, object]:
    """Return all settings by the names of their options, but for each call's own ``resume`` and ``quiet``."""
    switches = ("baseline", "calibration", "figures", "logger", "config")
    return {
        **vars(settings.network.options),
        **vars(settings.source),  # whose columns are those of the data
        **vars(settings.training),
        **vars(settings.saving),
        "model": settings.network.name,
        **{name: getattr(settings, name) for name in switches},
        "out": settings.out and settings.out.resolve(),
    }


def epochs_done(folder: Path) -> int | None:
    """Return how many epochs a run that has ended took; None for one that has not."""
    try:
        return int(json.loads((folder / "metrics.json").read_text("utf-8"))["train"]["epochs"])
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError):
        raise InputError(f"{folder / 'metrics.json'}: damaged; it is not the metrics of a run") from None


@contextmanager
def reopened(folder: Path, metadata: Json) -> Iterator[None]:
    """Note in a run's folder that it goes on with other settings; put all back where nothing came of it.

    The metrics of its end stay as ``metrics-EPOCHS.json``.
    """
    before = read_config(folder)
    if same_settings(before, metadata):
        yield
        return
    config, metrics, done = folder / "config.json", folder / "metrics.json", epochs_done(folder)
    kept = folder / f"metrics-{done}.json"
    content, began = config.read_bytes(), stamp(folder / CHECKPOINT)
    write_atomically(config, json.dumps({**before, **metadata}, indent=2).encode())
    if done is not None:
        os.replace(metrics, kept)
    try:
        yield
    except InputError:
        if stamp(folder / CHECKPOINT) == began:
            if done is not None:
                os.replace(kept, metrics)
            write_atomically(config, content)
        raise


def same_settings(begun: Json, now: Json) -> bool:
    """Whether the settings of two configurations of a run are the same, but for the processes."""
    one, other = (dict(json.loads(json.dumps(each["settings"]))) for each in (begun, now))
    for settings in (one, other):
        settings["training"] = {k: v for k, v in settings["training"].items() if k not in ("devices", "num_nodes")}
    return one == other


def stamp(path: Path) -> int | None:
    """Return when a file was last written; None where there is none."""
    return path.stat().st_mtime_ns if path.exists() else None
