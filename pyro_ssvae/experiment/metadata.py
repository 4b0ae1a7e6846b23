"""What ``config.json`` says of a run beside its model: all that is needed to repeat it."""

from __future__ import annotations

import platform
import shlex
import sys
from pathlib import Path

import torch

from .. import data as datasets
from ..data import Dataset
from ..errors import InputError
from ..files import installed
from ..models.saved_config import read_config
from .config import DataConfig, ExperimentConfig, Json, experiment_of
from .data import data_digest, evaluation_options, label_files_of
from .going_on import same_settings

PACKAGES = ("numpy", "pyro-ppl", "lightning", "pyro_ssvae")  # whose versions a run notes


def run_metadata(settings: ExperimentConfig, dataset: Dataset, split: Dataset) -> Json:
    """Return what ``config.json`` says of a run beside its model: all that is needed to repeat it."""
    return {
        "settings": settings.recorded(),
        "command": shlex.join(["pyro-ssvae", *sys.argv[1:]]) if sys.argv[1:2] == ["train"] else None,
        "evaluation": evaluation_options(settings.source, dataset, split),
        "digest": data_digest(dataset),
        "fingerprint": datasets.fingerprint(split),
        "label_set": datasets.digest(split.y),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{name: installed(name) for name in PACKAGES},
        },
        "threads": torch.get_num_threads(),
    }


def resumed_metadata(folder: Path, now: Json, source: DataConfig) -> Json:
    """Return the metadata of a run that is gone on with, whose data and label set must be as they were.

    With further label files the labels are others, and what is said of them is new.

    :param now: what :func:`run_metadata` says of it now.
    :param source: its data now.
    :raises InputError: the data have changed.
    """
    begun = read_config(folder)
    relabelled = label_files_of(experiment_of(begun, folder).source, folder) != source
    if not relabelled and begun.get("fingerprint") != now["fingerprint"]:
        what = f"{' or '.join(source.label_file)} has changed since its labels were learnt; others need a new file"
        raise InputError(f"--resume {folder}: {what if source.label_file else has_changed(source)}")
    if relabelled and begun.get("label_set") == now["label_set"]:
        raise InputError(f"--resume {folder}: {source.label_file[-1]} adds no label to those that it has; fill some in")
    note_differences(begun, now, source, folder)
    new = [] if same_settings(begun, now) else ["settings"]
    new += ["fingerprint", "label_set", "evaluation"] if relabelled else []
    return {name: value if name in new else begun.get(name, value) for name, value in now.items()}


def check_begun(folder: Path, dataset: Dataset, source: DataConfig) -> None:
    """Raise :class:`InputError` where a run that is gone on with was begun on other data."""
    if read_config(folder).get("digest") != data_digest(dataset):
        raise InputError(f"--resume {folder}: {has_changed(source)}")


def has_changed(source: DataConfig) -> str:
    """Return that a run's data are others now, in words."""
    return f"{source.data} has changed since it was begun; a new run is needed"


def note_differences(begun: Json, now: Json, source: DataConfig, where: Path) -> None:
    """Say, on stderr, why a run will not give the same numbers as the one that has this configuration.

    :param begun: that configuration, and ``where`` it is.
    :param now: what :func:`run_metadata` says of the run.
    :param source: the run's data.
    """
    told = []
    if experiment_of(begun, where).source == source:
        told += [name for name in ("fingerprint", "label_set") if begun.get(name) != now[name]]
    before = {**begun.get("versions", {}), "threads": begun.get("threads")}
    after = {**now["versions"], "threads": now["threads"]}
    told += [f"{name} {before.get(name)}, now {value}" for name, value in after.items() if before.get(name) != value]
    if told:
        words = ", ".join(told).replace("fingerprint", "data").replace("label_set", "label set")
        print(f"train: not bit for bit as {where}: other {words}", file=sys.stderr)
