"""Pyro's objectives without the branches that look at numbers, which no captured program can follow.

Value and gradients stay those of Pyro's own form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pyro
import torch
from pyro.infer.util import Dice
from pyro.ops import packed
from pyro.ops.rings import LogRing


class BranchlessDice(Dice):
    """``Σ prob · cost`` with a product of zero where ``prob`` is zero, instead of a selection of the others.

    ``prob`` is the marginal, over a cost's own dimensions, of the product of the enumerated sites' factors.
    """

    def compute_expectation(self, costs: dict[Any, list[Any]]) -> Any:
        """The expected cost, a scalar, of the costs at each ordinal."""
        expected: Any = 0.0
        for ordinal, terms in costs.items():
            factors = self._get_log_factors(ordinal)
            scale = math.exp(sum(f for f in factors if not isinstance(f, torch.Tensor)))
            factors = [f for f in factors if isinstance(f, torch.Tensor)]
            enumerated = {dim for f in factors for dim in f._pyro_dims} - ordinal
            for cost in terms:
                if factors:
                    own: Any = torch.zeros_like(cost)
                    own._pyro_dims = cost._pyro_dims
                    log_prob = LogRing().sumproduct([*factors, own], enumerated - set(cost._pyro_dims))
                    prob = log_prob.exp()
                    prob._pyro_dims = log_prob._pyro_dims
                    cost, prob = packed.broadcast_all(cost, prob)
                    cost = torch.where(prob > 0, cost, 0.0) * prob  # the gradient is zero there too, where cost is -inf
                expected = expected + scale * cost.sum()
        return expected


@contextmanager
def branchless() -> Iterator[None]:
    """For a while, Pyro sums enumerated sites by :class:`BranchlessDice` and neither validates nor looks for NaN."""
    with (
        patch("pyro.infer.traceenum_elbo.Dice", BranchlessDice),
        patch("pyro.util.torch_isnan", lambda value: False),
        patch("pyro.util.torch_isinf", lambda value: False),
        pyro.validation_enabled(False),
    ):
        yield
