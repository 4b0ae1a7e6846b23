"""Files that took long to make, kept for the next time: beside the data or in the home folder, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def places(folder: Path) -> list[Path]:
    """Return where files about ``folder`` may be kept, in order: in it, then in ``~/.cache/pyro_ssvae``."""
    try:
        return [folder, Path.home() / ".cache" / "pyro_ssvae" / folder.name]
    except RuntimeError:  # no home
        return [folder]


def keep(folder: Path, name: str, size: int, write: Callable[[Path], None]) -> Path | None:
    """Let ``write`` make a file of about ``size`` bytes; return its path, or None where no place can take it.

    It is written beside its name and then renamed, so that nobody ever sees a part of it.
    """
    for place in places(folder):
        part = place / f".{name}.{os.getpid()}.part"
        try:
            place.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(place).free < size:
                continue
            write(part)
            os.replace(part, place / name)
            return place / name
        except OSError:  # read-only, full, or a file where the folder should be
            continue
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    return None
