"""The folder of a run: which one is free, what lies in it, and a lock so that one process at a time writes to it."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from ..files import lock, opened_folder, write_atomically
from ..train.checkpoints import checkpoints

CHECKPOINT = Path("checkpoint", "last.safetensors")
RUN_FILES = (
    *("config.json", "metrics.json", "history.csv", "model.safetensors", "checkpoint", "figures", "tensorboard"),
    *("calibration.json", "novelty.safetensors", "mlflow.db", "wandb"),
)


def free_folder(name: str) -> Path:
    """Return a folder in runs/ that is not there yet."""
    numbers = (f"-{i}" if i > 1 else "" for i in range(1, 1_000_000))
    return next(path for number in numbers if not (path := Path("runs") / f"{name}{number}").exists())


def check_free(folder: Path) -> None:
    """Raise :class:`InputError` for a folder that holds a run, or anything that a run would overwrite."""
    there = [name for name in RUN_FILES if os.path.lexists(folder / name)]
    if "config.json" in there and "metrics.json" not in there:
        raise InputError(f"--out {folder}: it holds a run that has not ended; --resume {folder}, or another, is needed")
    if there:
        raise InputError(f"--out {folder}: it holds a run already ({there[0]}); another folder is needed")


def claim(folder: Path) -> None:
    """Make a run's folder; raise :class:`InputError` for one that cannot be written to."""
    check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"--out {folder}: it is a file; a folder is needed") from None
    except OSError as error:
        raise InputError(f"--out {folder}: it cannot be made ({error.strerror})") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"--out {folder}: it is read-only; a folder that can be written to is needed")


def abandon(folder: Path) -> None:
    """Remove a run that failed before its first checkpoint, so that the corrected command can take the same folder."""
    if not checkpoints(folder / CHECKPOINT) and not (folder / "model.safetensors").exists():
        (folder / "config.json").unlink(missing_ok=True)
        for logged in ("tensorboard", "wandb"):
            shutil.rmtree(folder / logged, ignore_errors=True)
        (folder / "mlflow.db").unlink(missing_ok=True)
        for place in (folder / CHECKPOINT.parent, folder):
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder for this process, where the system can; the lock ends with the process, however it ends.

    :raises InputError: another process holds it.
    """
    with opened_folder(folder) as place:
        if place is not None and not lock(place):
            raise InputError(f"{folder}: another process is training this run; it must end first")
        yield


def write_history(path: Path, history: Mapping[str, Sequence[float]]) -> None:
    """Write the history as CSV; a value that was not measured is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(history)
    for row in zip(*history.values()):
        writer.writerow(["" if value != value else f"{value:.6g}" for value in row])
    write_atomically(path, text.getvalue().encode())
