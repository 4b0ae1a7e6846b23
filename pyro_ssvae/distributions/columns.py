"""A row of a table, a distribution for each kind of column."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.types import _size


class RowsOfColumns(constraints.Constraint):
    """Rows whose every group of columns lies in the support of its distribution."""

    event_dim = 1

    def __init__(self, parts: Sequence[dist.TorchDistribution], places: Sequence[Tensor]) -> None:
        self.parts, self.places = parts, places

    def check(self, value: Tensor) -> Tensor:
        """Bool ``[...]`` of rows ``[..., D]``."""
        supports = [part.support for part in self.parts]
        pairs = [(support, place) for support, place in zip(supports, self.places) if support is not None]
        return torch.stack([support.check(value[..., place]) for support, place in pairs]).all(0)


class Columns(dist.TorchDistribution):
    """``log p(x) = Σ_g log p_g(x_g)``: groups of columns, independent given the latents.

    Source: Nazábal et al. (2020), arXiv:1807.03653.

    :param parts: a distribution of each group, event shape ``[D_g]``.
    :param places: int64 ``[D_g]``, the columns of each group.
    """

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, parts: Sequence[dist.TorchDistribution], places: Sequence[Tensor]) -> None:
        self.parts, self.places = list(parts), list(places)
        size = sum(len(place) for place in places)
        super().__init__(self.parts[0].batch_shape, torch.Size([size]), validate_args=False)

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        return RowsOfColumns(self.parts, self.places)

    def expand(self, batch_shape: _size, _instance: object = None) -> Columns:
        return Columns([part.expand(torch.Size(batch_shape)) for part in self.parts], self.places)

    def log_prob(self, value: Tensor) -> Tensor:
        log_p: Tensor = sum(
            (part.log_prob(value[..., place]) for part, place in zip(self.parts, self.places)), torch.zeros(())
        )
        return log_p

    def joined(self, values: Sequence[Tensor]) -> Tensor:
        """The groups' values in the order of the columns."""
        return torch.cat(list(values), -1)[..., torch.cat(self.places).argsort()]

    @property
    def mean(self) -> Tensor:
        return self.joined([part.mean for part in self.parts])

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        return self.joined([part.sample(torch.Size(sample_shape)) for part in self.parts])
