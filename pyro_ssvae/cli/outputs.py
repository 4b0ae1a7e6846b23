"""The names of files that commands write: with the right ending, and of no file that is there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError


def check_out(out: Path | None, endings: Sequence[str]) -> None:
    """Raise :class:`InputError` for an ``--out`` with another ending, or that is there already."""
    if out is None:
        return
    if not out.name.lower().endswith(tuple(endings)):
        words = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise InputError(f"--out {out}: a name that ends in {words} is needed")
    if os.path.lexists(out):
        raise InputError(f"--out {out}: this file is there already; another name is needed")


def free_name(folder: Path, stem: str, *endings: str) -> Path:
    """Return the first of ``stem``, ``stem-2``, ``stem-3`` … in a folder that is there with none of the endings.

    :param endings: the first is the name's own.
    """
    numbered = (folder / (f"{stem}-{i}" if i > 1 else stem) for i in range(1, 1_000_000))
    names = ([path.parent / f"{path.name}{ending}" for ending in endings] for path in numbered)
    return next(paths[0] for paths in names if not any(map(os.path.lexists, paths)))
