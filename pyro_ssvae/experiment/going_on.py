"""A run that goes on: with its own settings, or with more epochs and labels after its end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from ..files import write_atomically
from ..models.saving import read_config
from .config import ExperimentConfig, Json, experiment_of
from .folder import CHECKPOINT

MAY_CHANGE = ("epochs", "label_file", "devices")
"""Settings of a run that may be others when it goes on."""


def going_on(given: ExperimentConfig, folder: Path) -> ExperimentConfig:
    """Return the settings of a run that is gone on with: its own, with what was given of :data:`MAY_CHANGE`.

    Label files come after the run's own.

    :raises InputError: a run that has ended, where there is nothing more to do, or another setting.
    """
    begun = experiment_of(read_config(folder), folder)
    refuse_others(given, begun, folder)
    epochs, files, devices = given.training.epochs, given.source.label_file, given.training.devices
    done = epochs_done(folder)
    if done is not None and epochs is None:
        raise InputError(f"--resume {folder}: this run has ended; --epochs N, more than its {done}, goes on with it")
    if done is not None and epochs is not None and epochs <= done:
        raise InputError(f"--resume {folder}: --epochs {epochs}, but {done} epochs are done; more are needed")
    training = begun.training
    training = training if epochs is None else replace(training, epochs=epochs)
    training = training if devices is None else replace(training, devices=devices)  # as many as there are now
    further = tuple(file for file in files if file not in begun.source.label_file)
    source = replace(begun.source, label_file=(*begun.source.label_file, *further))
    logger = given.logger or begun.logger
    return replace(begun, training=training, source=source, logger=logger, out=folder, resume=folder, quiet=given.quiet)


def refuse_others(given: ExperimentConfig, begun: ExperimentConfig, folder: Path) -> None:
    """Raise :class:`InputError` naming a setting that was given and is neither the run's own nor may be another."""
    default = ExperimentConfig()
    for part in ("source", "training", "saving"):
        ours, theirs, usual = (vars(getattr(each, part)) for each in (given, begun, default))
        for name, value in ours.items():
            if name not in MAY_CHANGE and value not in (usual[name], theirs[name]):
                option = name.replace("_", "-")
                raise InputError(f"--resume {folder}: it goes on with its own settings; leave --{option} out")


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
    """Whether the settings of two configurations of a run are the same, but for the number of processes."""
    one, other = (dict(json.loads(json.dumps(each["settings"]))) for each in (begun, now))
    for settings in (one, other):
        settings["training"] = {k: v for k, v in settings["training"].items() if k != "devices"}
    return one == other


def stamp(path: Path) -> int | None:
    """Return when a file was last written; None where there is none."""
    return path.stat().st_mtime_ns if path.exists() else None
