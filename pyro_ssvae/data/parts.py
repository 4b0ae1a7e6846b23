"""Points of a source that gives its parts whole, such as a file's row groups or an array's chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import DTypeLike

from .streaming import Streamed


class Latest:
    """A function of a part's number that keeps its latest result, of which more rows may be needed."""

    def __init__(self, part: Callable[[int], np.ndarray]) -> None:
        self.part, self.kept = part, (-1, np.empty(0))

    def __call__(self, b: int) -> np.ndarray:
        place, kept = self.kept
        if place != b:
            kept = self.part(b)
            self.kept = b, kept
        return kept

    def __getstate__(self) -> dict[str, object]:
        return {"part": self.part, "kept": (-1, np.empty(0))}


def by_parts(
    part: Callable[[int], np.ndarray], starts: np.ndarray, shape: Sequence[int], dtype: DTypeLike, name: str
) -> Streamed:
    """Return points of a source that gives its parts whole.

    :param part: function of a part's number that returns its points.
    :param starts: where the parts begin, and N.
    """
    latest = Latest(part)

    def read(rows: np.ndarray) -> np.ndarray:
        place = np.searchsorted(starts, rows, "right") - 1
        points = np.empty((len(rows), *shape[1:]), dtype)
        for b in np.unique(place):
            points[place == b] = latest(int(b))[rows[place == b] - starts[b]]
        return points

    return Streamed(read, shape, dtype, name, starts)
