"""The fuzzing of one kind of file, with mutations that Atheris keeps where they reach new code.

    python tests/cli/fuzz_guided.py npz --inputs 100000

Needs ``pip install atheris``. Kinds: those of fuzz.py, "labels.csv" and so on.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pyro_ssvae", "zipfile", "csv", "numpy.lib", "PIL", "safetensors"]):
    import fuzz


def main(name: str, inputs: int) -> None:
    """Fuzz until so many inputs were tried or one escaped; Atheris ends the process."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        kind, came, tries = fuzz.kinds(place)[name], fuzz.Came(), [0]
        for each in ("corpus", "work"):
            (place / each).mkdir()
        for i, content in enumerate(kind.seeds):
            (place / "corpus" / str(i)).write_bytes(content)
        started = time.monotonic()

        def one(content: bytes) -> None:
            fuzz.try_one(kind, content, place / "work", came)
            tries[0] += 1
            if came.escaped or tries[0] == inputs:
                fuzz.report({name: came}, started)
                os._exit(int(bool(came.escaped)))

        def mutate(content: bytes, size: int, number: int) -> bytes:
            rng = random.Random(number)
            if kind.mutations and rng.random() < 0.5:
                return fuzz.changed(kind, content, rng)[:size]
            mutated: bytes = atheris.Mutate(content, size)
            return mutated

        flags = ["-max_len=65536", "-rss_limit_mb=8000", "-timeout=0", "-print_final_stats=1", str(place / "corpus")]
        atheris.Setup([sys.argv[0], *flags], one, custom_mutator=mutate)
        signal.signal(signal.SIGALRM, fuzz.too_slow)
        warnings.simplefilter("ignore")
        with fuzz.bounded():
            atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[3]) if len(sys.argv) > 3 else 100_000)
