"""Lines on stderr that say how data were read, where a person might have meant something else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SILENT = ContextVar("_SILENT", default=False)


@contextmanager
def silent() -> Iterator[None]:
    """Within it nothing is said, such as where the same data are read again and again."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)


def say(line: str) -> None:
    """Say on stderr how something was understood, on one line; of several processes the first one does."""
    if os.environ.get("RANK", "0") == "0" and not _SILENT.get():
        print(f"note: {' '.join(line.split())}", file=sys.stderr)
