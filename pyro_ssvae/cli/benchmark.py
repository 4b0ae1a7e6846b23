"""Compare a training step here with plain Pyro's and with hand-written PyTorch's.

All variants train the same networks with the same loss on the same batch; they take turns, and medians count.

Example: pyro-ssvae benchmark --quick
"""

from __future__ import annotations

from collections.abc import Sequence

from ..benchmark.steps import Benchmark, run_benchmark
from .arguments import read


def parse(arguments: Sequence[str]) -> Benchmark:
    """Return the options that were typed."""
    return read("benchmark", Benchmark, arguments, __doc__)


def run(options: Benchmark) -> None:
    """Measure, and print the table."""
    run_benchmark(options)
