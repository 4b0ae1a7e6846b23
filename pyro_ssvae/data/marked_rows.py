"""Some of very many rows, a bit each: which are held out, without a list of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .splits import known_rows

CHUNK = 2**16
"""Rows whose bits lie together."""


@dataclass(frozen=True, eq=False)
class MarkedRows:
    """Some of the rows ``0 .. n - 1``, in order; a row's rank is its place among them.

    :ivar n: rows.
    :ivar bits: uint8 ``[chunks, CHUNK / 8]``: 1 for a row that is one of them.
    :ivar before: int64 ``[chunks + 1]``: how many there are before each chunk, and in all.
    """

    n: int
    bits: np.ndarray
    before: np.ndarray

    def __len__(self) -> int:
        return int(self.before[-1])

    def chunk(self, c: int) -> np.ndarray:
        """Return the rows of chunk c that are marked: int64, ascending."""
        return np.flatnonzero(np.unpackbits(self.bits[c])) + c * CHUNK

    def rows(self, ranks: np.ndarray) -> np.ndarray:
        """Return the rows of these ranks: int64."""
        chunk = np.searchsorted(self.before, ranks, "right") - 1
        rows = np.empty(len(ranks), np.int64)
        for c in np.unique(chunk).tolist():
            here = chunk == c
            rows[here] = self.chunk(c)[ranks[here] - self.before[c]]
        return rows

    def ranks(self, rows: np.ndarray) -> np.ndarray:
        """Return how many marked rows lie before each of these: int64; of n, all."""
        found = np.full(len(rows), len(self), np.int64)
        for i in np.flatnonzero(rows < self.n).tolist():
            c = int(rows[i]) // CHUNK
            found[i] = self.before[c] + np.searchsorted(self.chunk(c), rows[i])
        return found

    def others(self) -> MarkedRows:
        """Return the rows that are not marked."""
        bits = ~self.bits
        if self.n % CHUNK:  # beyond n there are no rows
            last = np.unpackbits(bits[-1])
            last[self.n % CHUNK :] = 0
            bits[-1] = np.packbits(last)
        whole = np.minimum(np.arange(len(bits) + 1) * CHUNK, self.n)
        return MarkedRows(self.n, bits, whole - self.before)

    def of(self, y: Tensor) -> Tensor:
        """Return the labels of the marked rows; of labels that take no memory, since all are missing, such labels."""
        if y.stride(0) == 0:
            return y[: len(self)]
        found = torch.empty((len(self), *y.shape[1:]), dtype=y.dtype, device=y.device)
        for c in range(len(self.bits)):
            rows = torch.from_numpy(self.chunk(c) - c * CHUNK).to(y.device)
            found[self.before[c] : self.before[c + 1]] = y[c * CHUNK : (c + 1) * CHUNK][rows]
        return found


def mark_rows(y: Tensor, fraction: float, seed: int = 0) -> MarkedRows:
    """Return rows that are held out at random, stratified as by :func:`~.splits.split_rows`.

    Every class gives its share, and so do the rows without a label: of the first m rows of a stratum
    ``⌊fraction m + u⌋`` are held out, at each end of a chunk, u random; a class keeps at least one row.

    :param y: int64 or narrower, ``[N]`` or ``[N, A]``, -1 where missing.
    """
    if not 0 < fraction < 1:
        raise InputError(f"held-out share: {fraction}; it must lie between 0 and 1")
    generator = torch.Generator().manual_seed(seed)
    chunks = -(-len(y) // CHUNK)
    bits, before = np.zeros((chunks, CHUNK // 8), np.uint8), np.zeros(chunks + 1, np.int64)
    seen, start = dict[int, int](), dict[int, float]()
    for c in range(chunks):
        part = y[c * CHUNK : (c + 1) * CHUNK].cpu()
        strata = part if part.dim() == 1 else known_rows(part).long()
        order = torch.randperm(len(strata), generator=generator)
        order = order[strata[order].argsort(stable=True)]  # by stratum, in each at random
        values, counts = strata[order].unique_consecutive(return_counts=True)
        marks, first = np.zeros(CHUNK, bool), 0
        for value, count in zip(values.tolist(), counts.tolist()):
            if value not in seen:
                seen[value] = 0
                start[value] = float(torch.rand((), generator=generator, dtype=torch.double)) * (1 - fraction)
            low, high = (int(fraction * m + start[value]) for m in (seen[value], seen[value] + count))
            marks[order[first : first + high - low].numpy()] = True
            seen[value] += count
            first += count
        bits[c], before[c + 1] = np.packbits(marks), before[c] + int(marks.sum())
    return MarkedRows(len(y), bits, before)
