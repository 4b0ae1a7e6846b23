"""Lines on stderr that say how data were read, where a person might have meant something else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SILENT = ContextVar("_SILENT", default=False)
_SAID: ContextVar[list[str] | None] = ContextVar("_SAID", default=None)


@contextmanager
def silent() -> Iterator[None]:
    """Within it nothing is said, such as where the same data are read again and again."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)


@contextmanager
def once() -> Iterator[None]:
    """Within it nothing is said twice: of a file, and of the arrays that it holds."""
    token = _SAID.set([])
    try:
        yield
    finally:
        _SAID.reset(token)


def say(line: str) -> None:
    """Say on stderr how something was understood, on one line; of several processes the first one does.

    :param line: the place, a colon, and what is said of it; or what is said alone.
    """
    if os.environ.get("RANK", "0") != "0" or _SILENT.get():
        return
    line, said = " ".join(line.split()), _SAID.get()
    if said is not None:
        _, _, words = line.partition(": ")
        if any(earlier.endswith(words or line) for earlier in said):
            return
        said.append(line)
    print(f"note: {line}", file=sys.stderr)
