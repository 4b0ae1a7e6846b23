"""Lines on stderr that say how data were read, where a person might have meant something else."""

from __future__ import annotations

import os
import sys


def say(line: str) -> None:
    """Say on stderr how something was understood, on one line; of several processes the first one does."""
    if os.environ.get("RANK", "0") == "0":
        print(f"note: {' '.join(line.split())}", file=sys.stderr)
