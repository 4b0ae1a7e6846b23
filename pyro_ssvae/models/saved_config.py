"""``config.json`` of a saved model: what it is made of, and what it remembers of the data that it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from ..data.schema import Schema, restore_schema
from ..errors import InputError, plain_value
from ..files import installed, of_another_version, write_atomically
from ..labels import AttributeLabels, ClassLabels, LabelDescription, Labels, describe, restore
from . import Model, create_model
from .identity import edits, signature

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

FORMAT = 2
"""Of ``config.json`` and of the names in the weights; to be raised when a model of before can no longer be read."""
MAX_CONFIG_BYTES = 64 * 2**20
"""Largest configuration that is read; one of 10,000 classes has about 1 MB."""


def save_config(model: nn.Module, folder: str | Path, /, **metadata: object) -> Path:
    """Write ``config.json`` alone; arguments as for :func:`save`."""
    folder = Path(folder)
    edited = edits(model) if isinstance(model, Model) else ""
    content = {
        "format": FORMAT,
        "model": None if edited else getattr(model, "recipe", None),
        **({"edited": edited} if edited else {}),
        "labels": label_description(model),
        "signature": signature(model),
        "column_names": column_names(model),
        "pixel_range": getattr(model, "pixel_range", None),
        "white_level": model.white_level if isinstance(model, Model) else None,
        "schema": saved_schema(model),
    }
    if own := sorted(content.keys() & metadata.keys()):
        raise InputError(f"save: {own[0]!r} is what load makes the model of; another name for this entry is needed")
    content |= {"versions": {"pyro_ssvae": installed()}, **metadata}
    write_atomically(folder / "config.json", json.dumps(content, indent=2, default=as_json).encode())
    return folder


def as_json(value: object) -> object:
    """Return numbers of NumPy and PyTorch as JSON knows them.

    :raises InputError: anything else that it does not know.
    """
    found = plain_value(value)
    if found is value:
        words = f"{type(value).__name__} {str(value)[:80]}"
        raise InputError(
            f"save: {words} is nothing that JSON knows; numbers, words, lists and dicts of them are needed"
        )
    return found


def label_description(model: nn.Module) -> LabelDescription | None:
    """Return the labels of a model as JSON has them; None for a pair without."""
    labels = getattr(model, "labels", None)
    return describe(labels) if isinstance(labels, (ClassLabels, AttributeLabels)) else None


def column_names(model: nn.Module) -> list[str] | None:
    """Return the names of the columns that a model was trained on as JSON has them; None where they had none."""
    names = getattr(model, "column_names", None)
    return list(names) if isinstance(names, tuple) else None


def saved_schema(model: nn.Module) -> Json | None:
    """Return how tables become points as JSON has it; None for a model that was made for no table."""
    return model.schema.to_json() if isinstance(model, Model) and model.schema is not None else None


def read_config(folder: str | Path) -> Json:
    """Return the configuration of a saved model or a run, from its folder or from the file ``config.json``.

    :raises InputError: where there is none, or one that this version cannot read.
    """
    path = config_file(folder)
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise InputError(f"{path}: {path.stat().st_size:,} bytes; at most {MAX_CONFIG_BYTES:,} can be read")
        config = json.loads(path.read_text("utf-8"))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; the folder of a saved model or a run is needed") from None
    except NotADirectoryError:
        raise InputError(f"{folder}: it is a file; the folder of a saved model or a run is needed") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(config, dict) or not {"model", "labels"} <= config.keys():
        raise InputError(f"{path}: it is not a model's configuration; 'model' and 'labels' are missing")
    made = config.get("format", 1)
    if not isinstance(made, int) or made < FORMAT:
        raise InputError(f"{path}: made by an earlier version of pyro_ssvae; train it anew")
    if made > FORMAT:
        raise InputError(f"{path}: made by a later version of pyro_ssvae (format {made}; this one reads {FORMAT})")
    return config


def saved_by(config: Json) -> object:
    """Return the version of this library that wrote a configuration; None where it does not say."""
    versions = config.get("versions")
    return versions.get("pyro_ssvae") if isinstance(versions, dict) else None


def other_version(config: Json, what: str) -> str:
    """Return ``: saved by pyro_ssvae …`` for a line's end; empty where no other version says that it wrote this.

    :param what: may be otherwise there.
    """
    by = saved_by(config)
    return "" if by in (None, "", installed()) else f": {of_another_version(by, what)}"


def config_file(folder: str | Path) -> Path:
    """Return the configuration's file, of the folder that holds it or of its own name."""
    path = Path(folder)
    return path if path.name == "config.json" else path / "config.json"


def build(config: Json, where: str | Path) -> Model:
    """Return the model of a configuration, its weights still at random."""
    try:
        labels = saved_labels(config)
        made = config["model"]
        shape, options = tuple(made["input_shape"]), made["options"]
        return create_model(made["name"], input_shape=shape, labels=labels, schema=None, **options)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, MemoryError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, InputError) and (why := other_version(config, "options")):
            raise InputError(f"{where}: {reason}{why}") from None
        raise InputError(f"{where}: its configuration is damaged ({type(error).__name__}: {reason})") from None


def saved_labels(config: Json) -> Labels | None:
    """Return the labels of a configuration; None of a model without."""
    labels = None if config["labels"] is None else restore(config["labels"])
    if isinstance(labels, AttributeLabels) and config.get("schema") is not None:
        own = restore_schema(config["schema"]).labels  # it has the words, which earlier versions kept there alone
        labels = own if list(own.names) == list(labels.names) else labels
    return labels


def restore_memory(config: Json, model: nn.Module, folder: Path) -> None:
    """Let a model remember what :func:`save_config` wrote of the data that it was trained on.

    :raises InputError: a damaged configuration.
    """
    restore_column_names(config, model, folder)
    if isinstance(model, Model):
        model.pixel_range, model.white_level = pixel_range(config, folder), white_level(config, folder)
        if config.get("schema") is not None:
            model.schema = schema_of(config, folder)


def schema_of(config: Json, folder: Path) -> Schema:
    """Return how tables become points, of a configuration that says so."""
    try:
        return restore_schema(config["schema"])
    except InputError as error:
        raise InputError(f"{folder}: its configuration is damaged ({error})") from None


def pixel_range(config: Json, folder: Path) -> tuple[float, float] | None:
    """Return the range of the pictures that a model was trained on; None where it was on none."""
    saved = config.get("pixel_range")
    if saved is None:
        return None
    if not isinstance(saved, list) or len(saved) != 2 or not all(isinstance(value, (int, float)) for value in saved):
        raise InputError(f"{folder}: its configuration is damaged ('pixel_range' is not two numbers)")
    return float(saved[0]), float(saved[1])


def white_level(config: Json, folder: Path) -> int | None:
    """Return the number that is white in the pictures that a model was trained on; None where it is not said."""
    saved = config.get("white_level")
    if saved is None or (type(saved) is int and 0 < saved < 2**16):
        return saved
    raise InputError(f"{folder}: its configuration is damaged ('white_level' is no number from 1 to 65535)")


def restore_column_names(config: Json, model: nn.Module, folder: Path) -> None:
    """Let a model remember the names of the columns that it was trained on."""
    names = config.get("column_names")
    if names is None:
        if "column_names" in vars(model):
            model.column_names = None  # type: ignore[assignment]
        return
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{folder}: its configuration is damaged ('column_names' is no list of words)")
    model.column_names = tuple(names)  # type: ignore[assignment]
