"""Memory that a step frees stays with the process for the next one (choice of this project).

glibc gives what is freed at the heap's end back to the system, which then hands it out again page by page: up to a
tenth of a convolutional network's step on a CPU. What the user has set of the allocator stays.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's names, of malloc.h
KEPT = 1 << 30  # bytes at the heap's end that stay
LARGEST = 1 << 25  # bytes from which a tensor has pages of its own, which go back; glibc takes no more


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GiB that it has freed; nothing where its C library is another."""
    if sys.platform != "linux" or any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, KEPT)
        mallopt(MMAP_THRESHOLD, LARGEST)
