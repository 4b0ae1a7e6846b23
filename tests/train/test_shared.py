"""Latents that all rows share count once in a pass over them, however many batches it takes."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoMultivariateNormal
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae.train.shared import shared_latents
from pyro_ssvae.train.step import Step

N = 64


class Mean(nn.Module):
    """g ~ N(0, 1), x_i ~ N(g, 2): p(g | x) = N(Σ x / (N + 2), 2 / (N + 2)).

    :param rows: of how many the plate says that it is; None leaves them unsaid, "scale" scales them up.
    """

    def __init__(self, rows: int | str | None = None) -> None:
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(-0.5))
        self.rows = rows

    def data(self, x: Tensor) -> Any:
        return pyro.plate("rows", self.rows if isinstance(self.rows, int) else len(x), subsample=torch.arange(len(x)))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        g = pyro.sample("g", dist.Normal(x.new_zeros(()), 1.0))
        with self.data(x), poutine.scale(scale=N / len(x) if self.rows == "scale" else 1.0):
            pyro.sample("x", dist.Normal(g, math.sqrt(2.0)).expand([len(x), 1]).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.sample("g", dist.Normal(self.loc, self.log_scale.exp()))


def numbers() -> Tensor:
    return 1 + torch.randn(N, 1, generator=torch.Generator().manual_seed(0))


def step_of(pair: nn.Module, x: Tensor) -> Step:
    step = Step(pair)
    step.n, step.shared = len(x), shared_latents(pair, x[:2], torch.full((2,), -1))
    return step


def loss(step: Step, x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return step(x, None)


def test_losses_of_batches_sum_to_that_of_all_rows() -> None:
    x, step = numbers(), step_of(Mean(), numbers())
    whole, parts = loss(step, x), torch.stack([loss(step, part) for part in x.split(16)])
    torch.testing.assert_close(parts.sum(), whole)
    torch.testing.assert_close(whole, loss(Step(step.module), x))
    for one, other in zip(*(torch.autograd.grad(of, list(step.parameters())) for of in (parts.sum(), whole))):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rows", [N, "scale"])
def test_rows_that_are_scaled_up_are_left_so(rows: int | str) -> None:
    step = step_of(Mean(rows), numbers())
    assert step.shared is None
    part = numbers()[:16]
    torch.testing.assert_close(loss(step, part), loss(Step(step.module), part))


def test_fit_finds_the_posterior_of_what_all_rows_share() -> None:
    """By batches of 8 it found that of 8 rows, of scale .447."""
    pair, x = Mean(), numbers()
    ps.fit(pair, x, epochs=60, batch_size=8, learning_rate=0.05, augment="none", progress=False)
    assert float(pair.log_scale.detach().exp()) == pytest.approx(math.sqrt(2 / (N + 2)), abs=0.05)
    assert float(pair.loc.detach()) == pytest.approx(float(x.sum()) / (N + 2), abs=0.1)


def test_an_automatic_guide_s_own_latent_counts_so_too() -> None:
    pair = Mean()
    guide = AutoMultivariateNormal(pair.model)
    guide(numbers())
    both = ps.infer.pairs.as_pair((pair.model, guide))
    x, step = numbers(), step_of(both, numbers())
    torch.testing.assert_close(torch.stack([loss(step, part) for part in x.split(16)]).sum(), loss(step, x))


class Weights(ps.AugmentedVAE):
    """A scale of x that all rows share."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with pyro.plate("features", 2, dim=-1):  # as many as a run on two rows has rows
            s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 0.3))
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            z = pyro.sample("z", self.p_z(x))
            return pyro.sample("x", dist.Normal(self.p_x_given(z, y, x).mean, s).to_event(1), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("features", 2, dim=-1):
            pyro.sample("s", dist.LogNormal(x.new_zeros(()), 0.1))
        super().guide(x, y)


def test_a_plate_of_features_is_none_over_rows() -> None:
    torch.manual_seed(0)
    model = Weights(nn.Linear(2, 4), nn.Linear(1, 2), ps.ClassLabels(3), latent_dim=1, likelihood="normal")
    x, y = torch.randn(12, 2), torch.arange(12) % 4 - 1
    found = shared_latents(model, x[:2], y[:2])
    assert found is not None
    assert found.latents == {"s"}
    ps.fit(model, x, y, epochs=2, batch_size=4, progress=False)
    for plain in (ps.AugmentedVAE, ps.VAE):
        assert (
            shared_latents(plain(nn.Linear(2, 4), nn.Linear(1, 2), ps.ClassLabels(3), latent_dim=1), x[:2], y[:2])
            is None
        )
