"""Freed memory that stays with the process, counted in pages that the system hands out again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from pyro_ssvae.train import allocator

PROGRAM = """
import resource
import numpy as np
from pyro_ssvae.train.allocator import keep_freed_memory

def pages(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        arrays = [np.ones(5_000_000, np.float32) for _ in range(6)]  # 20 MB each, of 4 KiB pages
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages(2)
given = pages(5)
keep_freed_memory()
pages(1)
print(given, pages(5))
"""
WHOLE = 5 * 6 * 20_000_000 // 4096


def pages(**environment: str) -> list[int]:
    """How many pages five rounds had of the system, before and after."""
    environment["NUMPY_MADVISE_HUGEPAGE"] = "0"
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return [int(number) for number in run.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library is not glibc")
def test_the_next_step_finds_the_memory_of_the_last() -> None:
    before, after = pages()
    assert after < 0.1 * WHOLE
    assert before > 0.5 * WHOLE, "if glibc itself keeps them, this module may go"
    assert pages(MALLOC_TRIM_THRESHOLD_="100000")[1] > 0.5 * WHOLE, "what the user has set stays"


def test_nothing_happens_where_the_c_library_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    allocator.keep_freed_memory()
