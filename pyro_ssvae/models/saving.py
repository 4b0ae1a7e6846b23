"""Models on disk: weights as safetensors, configuration as JSON; nothing is pickled, nothing in a file is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import load_tensors, save_tensors, write_atomically
from ..labels import describe, restore
from . import Model, create_model

WEIGHTS = "model.safetensors"
MAX_CONFIG_BYTES = 64 * 2**20
"""Largest configuration that is read; one of 10,000 classes has about 1 MB."""


def save(model: Model, folder: str | Path, **more: Any) -> Path:
    """Write ``config.json`` and ``model.safetensors`` into ``folder``, which is made where it is absent.

    :param more: further JSON-ready entries of ``config.json``.
    :raises InputError: where the folder cannot be written to.
    """
    folder = save_config(model, folder, **more)
    save_tensors(folder / WEIGHTS, model.state_dict())
    return folder


def save_config(model: Model, folder: str | Path, **more: Any) -> Path:
    """Write ``config.json`` alone; arguments as for :func:`save`."""
    folder = Path(folder)
    labels = None if model.labels is None else describe(model.labels)
    try:
        json.dumps(model.config)
        made = model.config
    except TypeError:  # an option that is a module, such as a likelihood of one's own
        made = None
    text = json.dumps({"model": made, "labels": labels, **more}, indent=2)
    write_atomically(folder / "config.json", text.encode())
    return folder


def read_config(folder: str | Path) -> dict[str, Any]:
    """The configuration that a model or a run was saved with, of its folder or of the file ``config.json``."""
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
    return config


def config_file(folder: str | Path) -> Path:
    """The configuration's file, of the folder that holds it or of its own name."""
    path = Path(folder)
    return path if path.name == "config.json" else path / "config.json"


def build(config: dict[str, Any], where: str | Path) -> Model:
    """The model of a configuration, its weights still at random."""
    try:
        labels = None if config["labels"] is None else restore(config["labels"])
        made = config["model"]
        return create_model(
            made["name"],
            input_shape=tuple(made["input_shape"]),
            labels=labels,
            latent_dim=made["latent_dim"],
            **made["options"],
        )
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, MemoryError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where}: its configuration is damaged ({type(error).__name__}: {reason})") from None


def load(folder: str | Path, *, into: Model | None = None, weights: str = WEIGHTS) -> Model:
    """Return the model that :func:`save` wrote, on the CPU, in evaluation mode.

    :param weights: their file in the folder; ``checkpoint/last-best.safetensors`` for those of a run's best epoch.
    :param into: the model to load the weights into; needed for one that was made from networks of one's own.
    :raises InputError: where a file is absent, damaged, or another model's.
    """
    folder = Path(folder)
    config = read_config(folder)
    if into is None and config["model"] is None:
        raise InputError(f"{folder}: a model with networks of its own; make it and use load({str(folder)!r}, into=it)")
    model = build(config, folder / "config.json") if into is None else into
    path = folder / weights
    if not path.exists():
        raise InputError(f"{path}: no such file; the run may not have ended (train --resume {folder} goes on with it)")
    tensors, _ = load_tensors(path, "a model's weights")
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(dtypes) == 1:
        model.to(dtypes.pop())
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(" ".join(str(error).splitlines()[1:2]).split())[:200]
        raise InputError(f"{path}: not the weights of this model ({reason})") from None
    return model.eval()
