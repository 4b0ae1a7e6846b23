"""Tensors and facts in one file, written so that a good one is never touched before the next is complete.

The file is safetensors: tensors by name, everything else as JSON in its header, and a checksum, since neither the
format nor most discs notice a flipped bit. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import InputError


class CannotWrite(InputError):  # noqa: N818
    """A file could not be written: the disk is full, or the folder read-only. What was there before is whole."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under another name, sync it, and only then give it its name; then sync the folder.

    :raises CannotWrite: naming the file; one of that name that was there before is as it was.
    """
    try:
        os.replace(write_partial(path, data), path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from None


def write_partial(path: Path, data: bytes) -> Path:
    """Write a file whole and synced beside ``path``, and return its name; where that fails nothing is left of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):  # a full disk needs the space
            partial.unlink()
        raise
    return partial


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as lasting as the files; some file systems cannot, and need it less."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """The error of a file that cannot be written, and why."""
    return CannotWrite(f"{path}: it cannot be written ({error.strerror or type(error).__name__})")


def save_tensors(path: Path, tensors: dict[str, Tensor], **facts: str) -> None:
    """Write tensors and words; tensors that share memory, such as tied weights, are written apart."""
    write_atomically(path, packed(tensors, **facts))


def packed(tensors: dict[str, Tensor], **facts: str) -> bytes:
    """The file of these tensors and words."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(tensors, metadata={**facts, "sha256": checksum(tensors, facts)})


def load_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what :func:`save_tensors` wrote, or safetensors of another origin, which have no checksum.

    :param what: what the file should be, for the message.
    :raises InputError: naming the file, where it is absent or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {what} is needed") from None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not {what}, or a damaged one ({str(error).splitlines()[0][:200]})") from None
    wanted = facts.pop("sha256", None)
    if wanted is not None and wanted != checksum(tensors, facts):
        raise InputError(f"{path}: damaged (its checksum is wrong); {what} is needed")
    return tensors, facts


def checksum(tensors: dict[str, Tensor], facts: dict[str, str]) -> str:
    """SHA-256 of names, types, shapes, values and words."""
    digest = hashlib.sha256(json.dumps(sorted(facts.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint: tensors, and a state with the keys about, done, seconds and history.

    :raises InputError: naming the file, where it is absent, damaged or no checkpoint.
    """
    tensors, facts = load_tensors(path, "a checkpoint")
    try:
        state = json.loads(facts["state"])
        for key in ("about", "done", "seconds", "history"):
            state[key]
        return tensors, dict(state)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(f"{path}: tensors, but not a checkpoint") from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter number and name."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{i}.{key}": torch.as_tensor(value) for i, entry in state.items() for key, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` took."""
    whole = optimizer.state_dict()
    whole["state"] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, i, key = name.split(".", 2)
            whole["state"].setdefault(int(i), {})[key] = tensor.clone()  # the optimiser changes it in place
    optimizer.load_state_dict(whole)
