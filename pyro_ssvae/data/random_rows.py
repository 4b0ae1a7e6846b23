"""A random sample of points, of which a large file is read no more than needed."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..label_arrays import MANY
from .streaming import Streamed


def some_of(x: Tensor | Streamed, numbers: int = 20_000_000) -> Tensor:
    """Return points; of a large file a random sample of rows, in order, with about ``numbers`` values at most."""
    if isinstance(x, Tensor):
        return x
    n = max(2, min(len(x), numbers // math.prod(x.shape[1:])))
    if x.starts is not None or len(x) > MANY:
        return x[draw_rows(x, n, 0)]
    return x[np.sort(np.random.default_rng(0).choice(len(x), n, replace=False))]


def has_gaps(x: Tensor | Streamed) -> bool:
    """Whether an entry is missing (NaN); of a large file, in a random sample of its rows."""
    if x.dtype == torch.uint8:
        return False
    return any(bool(part.isnan().any()) for part in some_of(x, 2_000_000).split(4096))


def draw_rows(x: Tensor | Streamed, most: int, seed: int) -> Tensor:
    """Return at most ``most`` random rows, in order: int64.

    Of many rows no list of all is made. Of parts that can only be read whole, at most 64 are read.
    """
    starts = x.starts if isinstance(x, Streamed) else None
    if starts is None and len(x) <= MANY:
        return torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:most].sort().values
    random = np.random.default_rng(seed)
    if most >= len(x):
        return torch.arange(len(x))
    if starts is None:
        return torch.from_numpy(np.unique(random.integers(len(x), size=most)))
    parts = np.sort(random.choice(len(starts) - 1, min(len(starts) - 1, 64), replace=False))
    sizes = starts[parts + 1] - starts[parts]
    take = np.minimum(sizes, -(-most // len(parts)))
    rows = [starts[b] + np.sort(random.choice(n, k, replace=False)) for b, n, k in zip(parts, sizes, take)]
    every = np.concatenate(rows)
    return torch.from_numpy(every if len(every) <= most else np.sort(random.choice(every, most, replace=False)))
