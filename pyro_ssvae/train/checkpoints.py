"""The files of a training's state: how they are written and read, and which of them are kept.

Beside the newest, ``last.safetensors``, lie the ones before it, ``last-1.safetensors`` and so on; the last state known
to be finite, ``last-good.safetensors``, to which a training is rolled back; and the best epoch's weights,
``last-best.safetensors``.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import torch
from torch import Tensor

from ..errors import InputError
from ..files import cannot_write, load_tensors, packed, save_tensors, sync_folder, write_partial
from .settings import option

FORMAT = 4
"""Of the state; another version's checkpoints have another number, or none."""
Json: TypeAlias = dict[str, Any]
MOST_HEADER = 2**27
"""Bytes of a checkpoint's header, at most."""
State: TypeAlias = tuple[dict[str, Tensor], Json]  # tensors, and what is JSON


@dataclass(frozen=True)
class CheckpointSettings:
    """When a training's state is written, and how much of it is kept."""

    checkpoint_minutes: float = 1.0
    """Minutes between two checkpoints; 0 writes one after every step."""
    checkpoint_epochs: Annotated[int | None, option("INT")] = None
    """Also write a checkpoint each time this many epochs are done."""
    keep_checkpoints: int = 2
    """How many of the latest checkpoints are kept, beside the best weights."""


def check_checkpoints(every: float, epochs: int | None, keep: int, name: str = "checkpoint_every") -> None:
    """Raise :class:`InputError` naming the setting that cannot be used.

    :param name: what the caller's own option for ``every`` is called.
    """
    if not isinstance(every, (int, float)) or isinstance(every, bool) or not every >= 0:
        shown = f"{every:g}" if isinstance(every, float) else repr(every)
        raise InputError(f"{name}: {shown}; a number of at least 0 is needed")
    for count, value in (("checkpoint_epochs", epochs), ("keep_checkpoints", keep)):
        if value is None and count == "checkpoint_epochs":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10**9:
            raise InputError(f"{count}: {value!r}; a whole number of at least 1 is needed")


def checkpoint_file(given: object, begins: bool) -> Path | None:
    """Return the file that takes a training's state; None where none is given.

    :param begins: whether the training begins anew, and what is there is written over.
    :raises InputError: it is a folder, or a file of something else, which would be lost.
    """
    if given is None:
        return None
    if not isinstance(given, (str, os.PathLike)):
        raise InputError(f"checkpoint: {str(given)[:80]!r}; the path of a file is needed")
    path = Path(given)
    if path.is_dir():
        example = path / "last.safetensors"
        raise InputError(f"checkpoint: {str(given)!r} is a folder; a file in it, such as {example}, is needed")
    if begins and path.exists() and not is_checkpoint(path):
        raise InputError(f"checkpoint: {path} is there already and holds no checkpoint; another name is needed")
    return path


def is_checkpoint(path: Path) -> bool:
    """Whether a file says at its beginning that it holds a training's state, whole or cut short."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            metadata = json.loads(file.read(min(size, MOST_HEADER)))["__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return isinstance(metadata, dict) and "state" in metadata


def sibling(path: Path, word: object) -> Path:
    """Return another file of the same training: ``last.safetensors`` → ``last-word.safetensors``."""
    return path.with_name(f"{path.stem}-{word}{path.suffix}")


def write_state(path: Path, state: State, keep: int = 1) -> None:
    """Write a checkpoint; the ones before it move up, and no more than ``keep`` are left.

    Files are renamed only once the new one is whole and synced. At every moment one of them is a good checkpoint.

    :raises CannotWrite: naming the file; all older checkpoints are whole.
    """
    try:
        partial = write_partial(path, packed(state[0], state=as_json(path, state[1])))
        places = [path, *(sibling(path, i) for i in range(1, keep))]
        for i in range(len(places) - 1, 0, -1):
            if places[i - 1].exists():
                os.replace(places[i - 1], places[i])
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from None


def as_json(path: Path, state: Json) -> str:
    """Return a state as JSON; an optimiser of one's own may hold what has no form in it."""
    try:
        return json.dumps(state)
    except TypeError as error:
        raise InputError(f"{path}: the optimiser's state cannot be written ({error})") from None


def write_best(path: Path, weights: dict[str, Tensor], **metadata: object) -> None:
    """Write the best weights, by the model's own names, so that :func:`pyro_ssvae.load` takes them."""
    save_tensors(sibling(path, "best"), weights, best=json.dumps(metadata))


def checkpoints(path: Path) -> list[Path]:
    """Return the checkpoints of a training that are there, the newest first, and the last finite one at the end."""
    numbered = []
    for file in path.parent.glob(f"{path.stem}-*{path.suffix}") if path.parent.is_dir() else ():
        number = file.name[len(path.stem) + 1 : len(file.name) - len(path.suffix)]
        if number.isdecimal():
            numbered.append((int(number), file))
    files = [path, *(file for _, file in sorted(numbered)), sibling(path, "good")]
    return [file for file in files if os.path.lexists(file)]


def load_newest(path: Path, quiet: bool = False) -> State:
    """Read the newest checkpoint that is whole; of a damaged one before it, one line on stderr says so.

    :raises InputError: naming the newest file, where there is none or all are damaged.
    """
    refused: InputError | None = None
    for file in checkpoints(path) or [path]:
        try:
            tensors, state = load_state(file)
        except InputError as error:
            refused = refused or error
            continue
        if refused is not None and not quiet:
            print(f"fit: {refused}; going on from {file.name}, step {state['done']}", file=sys.stderr)
        return tensors, state
    assert refused is not None
    raise refused


def load_state(path: Path) -> State:
    """Read a checkpoint: tensors, and a state with the keys about, done, seconds and history.

    :raises InputError: naming the file, where it is absent, damaged or no checkpoint.
    """
    tensors, metadata = load_tensors(path, "a checkpoint")
    try:
        state = json.loads(metadata["state"])
        for key in ("about", "done", "seconds", "history"):
            state[key]
        return tensors, dict(state)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(f"{path}: tensors, but not a checkpoint") from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the tensors of an optimiser's state, by parameter number and name."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{i}.{key}": value for i, entry in state.items() for key, value in entry.items() if is_tensor(value)
    }


def optimizer_numbers(optimizer: torch.optim.Optimizer) -> Json:
    """Return what else an optimiser's state and groups hold that may change: numbers, mostly."""
    saved = optimizer.state_dict()
    entries = {
        f"{i}.{key}": copy.deepcopy(value)
        for i, entry in saved["state"].items()
        for key, value in entry.items()
        if not is_tensor(value)
    }
    groups = [{k: v for k, v in group.items() if isinstance(v, (int, float))} for group in saved["param_groups"]]
    return {"state": entries, "groups": groups}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Json | None = None
) -> None:
    """Put back what :func:`optimizer_tensors` and :func:`optimizer_numbers` returned.

    :raises ValueError: of an optimiser with other groups of parameters.
    """
    whole = optimizer.state_dict()
    if numbers is not None and len(numbers["groups"]) != len(whole["param_groups"]):
        raise ValueError(f"{len(numbers['groups'])} groups of parameters; this one has {len(whole['param_groups'])}")
    whole["state"] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, i, key = name.split(".", 2)
            whole["state"].setdefault(int(i), {})[key] = tensor.clone()  # the optimiser changes it in place
    for name, value in (numbers or {"state": {}})["state"].items():
        i, key = name.split(".", 1)
        whole["state"].setdefault(int(i), {})[key] = value
    for group, saved in zip(whole["param_groups"], (numbers or {"groups": []})["groups"]):
        group.update(saved)
    optimizer.load_state_dict(whole)


def is_tensor(value: object) -> bool:
    """Whether a value is a tensor."""
    return isinstance(value, Tensor)
