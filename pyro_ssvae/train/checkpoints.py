"""Which checkpoints of a training are kept, and which one it goes on from.

Beside the newest, ``last.safetensors``, lie the ones before it, ``last-1.safetensors`` and so on; the one that a loss
that is no longer finite goes back to, ``last-good.safetensors``; and the best weights, ``last-best.safetensors``.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from torch import Tensor

from ..errors import InputError
from ..files import cannot_write, load_state, packed, save_tensors, sync_folder, write_partial

State = tuple[dict[str, Tensor], dict[str, Any]]  # tensors, and what is JSON


@dataclass(frozen=True)
class CheckpointSettings:
    """When a training's state is written, and how much of it is kept."""

    checkpoint_minutes: float = 1.0
    """Minutes between two checkpoints; 0 writes one after every step."""
    checkpoint_epochs: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Also write a checkpoint at the end of every so many epochs."""
    keep_checkpoints: int = 2
    """How many of the latest checkpoints are kept, beside the best weights."""


def check_checkpoints(seconds: float, epochs: int | None, keep: int) -> None:
    """Raise :class:`InputError` naming the setting that cannot be used."""
    if not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise InputError(f"checkpoint_minutes: {seconds / 60:g}; a number of at least 0 is needed")
    for name, value in (("checkpoint_epochs", epochs), ("keep_checkpoints", keep)):
        if value is None and name == "checkpoint_epochs":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10**9:
            raise InputError(f"{name}: {value!r}; a whole number of at least 1 is needed")


def sibling(path: Path, word: object) -> Path:
    """Another file of the same training: ``last.safetensors`` → ``last-word.safetensors``."""
    return path.with_name(f"{path.stem}-{word}{path.suffix}")


def write_state(path: Path, state: State, keep: int = 1) -> None:
    """Write a checkpoint; the ones before it move up, and no more than ``keep`` are left.

    Files are renamed only once the new one is whole and synced. At every moment one of them is a good checkpoint.

    :raises CannotWrite: naming the file; all checkpoints that were there before are whole.
    """
    try:
        partial = write_partial(path, packed(state[0], state=json.dumps(state[1])))
        places = [path, *(sibling(path, i) for i in range(1, keep))]
        for i in range(len(places) - 1, 0, -1):
            if places[i - 1].exists():
                os.replace(places[i - 1], places[i])
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from None


def write_best(path: Path, weights: dict[str, Tensor], **facts: Any) -> None:
    """Write the best weights, by the model's own names, so that :func:`pyro_ssvae.load` takes them."""
    save_tensors(sibling(path, "best"), weights, best=json.dumps(facts))


def checkpoints(path: Path) -> list[Path]:
    """The checkpoints of a training that are there, the newest first, and the good one last."""
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
