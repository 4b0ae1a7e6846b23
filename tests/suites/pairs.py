"""Pairs of one's own, as a person writes them in a notebook: no objective, no verbs, sites of other names."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn


class Mixture(nn.Module):
    """Two linked discrete sites that the model alone enumerates, a latent a row, and a latent of the whole data."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.loc = nn.Parameter(torch.randn(3, generator=generator))
        self.weights = nn.Parameter(torch.randn(3, generator=generator))
        self.encoder = nn.Linear(2, 2)
        self.scale = scale

    def rows(self, x: Tensor) -> Any:
        pyro.module("mixture", self)
        return pyro.plate("rows", len(x)), pyro.poutine.scale(scale=self.scale)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        rows, scale = self.rows(x)
        shift = pyro.sample("shift", dist.Normal(x.new_zeros(()), 1.0))
        with rows, scale:
            k = pyro.sample("k", dist.Categorical(logits=self.weights), infer={"enumerate": "parallel"})
            j = pyro.sample("j", dist.Bernoulli(logits=self.loc[k]), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            loc = (self.loc[k] + j + z + shift).unsqueeze(-1)
            pyro.sample("x", dist.Normal(loc, x.new_ones(2)).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        rows, scale = self.rows(x)
        pyro.sample("shift", dist.Normal(self.weights.sum(), 1.0))
        with rows, scale:
            h = self.encoder(x)
            pyro.sample("z", dist.Normal(h[:, 0], h[:, 1].exp()))


class GuidedMixture(Mixture):
    """The same, k enumerated in the guide, and z drawn for each of its values, as M2's."""

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        rows, scale = self.rows(x)
        pyro.sample("shift", dist.Normal(self.weights.sum(), 1.0))
        with rows, scale:
            h = self.encoder(x)
            logits = h[:, :1] * torch.arange(3.0, dtype=x.dtype)
            k = pyro.sample("k", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            pyro.sample("z", dist.Normal(h[:, 0] + k, h[:, 1].exp()))
