"""Models on disk: weights as safetensors, configuration as JSON; nothing is pickled, nothing in a file is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from .checkpoint import write_atomically
from .errors import InputError
from .labels import describe, restore
from .models import Model, create_model


def save(model: Model, folder: str | Path, **more: Any) -> Path:
    """Write ``config.json`` and ``model.safetensors`` into ``folder``, which is made where it is absent.

    :param more: further JSON-ready entries of ``config.json``.
    :raises InputError: where the folder cannot be written to.
    """
    folder = Path(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    labels = None if model.labels is None else describe(model.labels)
    config = {"model": model.config, "labels": labels, **more}
    try:
        write_atomically(folder / "config.json", json.dumps(config, indent=2).encode())
        write_atomically(folder / "model.safetensors", save_tensors(tensors))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from None
    return folder


def read_config(folder: str | Path) -> dict[str, Any]:
    """The configuration that a model or a run was saved with."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; the folder of a saved model or a run is needed") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(config, dict) or not {"model", "labels"} <= config.keys():
        raise InputError(f"{path}: it is not a model's configuration; 'model' and 'labels' are missing")
    return config


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
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: its configuration is damaged ({error})") from None


def load(folder: str | Path, *, into: Model | None = None) -> Model:
    """Return the model that :func:`save` wrote, on the CPU, in evaluation mode.

    :param into: the model to load the weights into; needed for one that was made from networks of one's own.
    :raises InputError: where a file is absent, damaged, or another model's.
    """
    folder = Path(folder)
    config = read_config(folder)
    if into is None and config["model"] is None:
        raise InputError(f"{folder}: this model has networks of its own; make it and use load({str(folder)!r}, into=it)")
    model = build(config, folder / "config.json") if into is None else into
    path = folder / "model.safetensors"
    try:
        tensors = load_tensors(path.read_bytes())
        dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
        if dtypes == {torch.float64}:
            model.double()
        model.load_state_dict(tensors)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; the run may not have ended (--resume goes on with it)") from None
    except (OSError, SafetensorError, RuntimeError) as error:
        lines = str(error).splitlines()
        raise InputError(f"{path}: not the weights of this model ({' '.join(line.strip() for line in lines[:2])})") from None
    return model.eval()
