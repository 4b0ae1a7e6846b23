"""A distribution that changes one thing of another."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.types import _size


class Wrapped(dist.TorchDistribution):
    """The shape, support, probabilities and draws of a base."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, base: Any) -> None:
        self.base = base
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.base.support

    @property
    def probs(self) -> Tensor:
        """Those of the base."""
        probs: Tensor = self.base.probs
        return probs

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        drawn: Tensor = self.base.sample(sample_shape)
        return drawn
