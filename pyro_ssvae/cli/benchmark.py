"""Compare a training step with plain Pyro's and with PyTorch's.

All variants train the same networks with the same loss on the same batch; they take turns, and medians count.

With --minutes every model is checked on the device, and measured there.

Example: pyro-ssvae benchmark --quick
"""

from __future__ import annotations

from collections.abc import Sequence

from ..benchmark.device_check import run_checks
from ..benchmark.steps import Benchmark, run_benchmark
from .arguments import read


def parse(arguments: Sequence[str]) -> Benchmark:
    """Return the options that were typed."""
    return read("benchmark", Benchmark, arguments, __doc__)


def run(options: Benchmark) -> int:
    """Measure, and print the table; the exit status is 1 where a check of a device went wrong."""
    if options.minutes is not None:
        return int(run_checks(options) > 0)
    run_benchmark(options)
    return 0
