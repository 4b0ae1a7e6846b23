"""The largest memory of a while."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

import torch


def reset_peak_memory() -> None:
    """Forget the largest memory so far, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> float:
    """Return the largest memory in bytes: the GPU's, or the process's since the reset (or its start)."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * float(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
