"""Whose a cell is while it is computed: one process's, whoever started it and on whichever machine.

The claim is a lock of the system on a file beside the results. It ends with the process that holds it, however that
ends, so that nothing is ever held by the dead; the file then tells of an attempt that came to nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..files import lock, opened_folder

ATTEMPTS = 2
"""How often a study tries a cell whose process is killed."""


@contextlib.contextmanager
def claimed(path: Path, run: str) -> Iterator[int | None]:
    """Hold a file for this process, where nobody else does.

    Give how many attempts of the same run have held it and were killed; None where another process holds it. Where the
    system or the file system has no locks, nobody is kept out.

    :param run: any word, the same for all processes of a run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not lock(file) or not is_at(file, path):
            yield None
            return
        lost = os.read(file, 2**16).decode("ascii", "replace").split().count(run)
        os.write(file, f"{run}\n".encode())
        try:
            yield lost
        finally:
            with contextlib.suppress(OSError):  # Windows removes no open file
                path.unlink()
    finally:
        os.close(file)


def is_claimed(path: Path) -> bool:
    """Whether a process holds the file at this moment."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not lock(file)
    finally:
        os.close(file)


def is_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one of that name: who held it last has removed it."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except OSError:
        return False


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until this process is the only one that holds the folder, where the system can."""
    with opened_folder(folder) as place:
        if place is not None:
            lock(place, wait=True)
        yield
