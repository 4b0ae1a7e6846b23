"""The VAE: its bounds against numeric integration, and its reconstruction term."""

from __future__ import annotations

import math

import pytest
import torch
from formulas import assert_bounds, assert_same, divergence, example, gentle, grid, log_p_x, normal, standard_error
from tiny import make, points

from pyro_ssvae import VAE
from pyro_ssvae.infer.bounds import reconstruction


def test_objective_and_gradient_are_the_formula() -> None:
    model: VAE = make("vae", beta=0.7).double().eval()
    x, _, eps = example(model.labels)
    h = model.encoder(x)
    loc, scale = model.loc(h), model.log_scale(h).exp()
    z = loc + scale * eps[:, :2]
    expected = -torch.stack([log_p_x(model, row, z_i) for row, z_i in zip(x, z)]).sum()
    assert_same(model, x, None, eps, expected + 0.7 * divergence(loc, scale, z).sum())


@pytest.mark.parametrize("dim", [1, 2])
def test_bounds(dim: int) -> None:
    model = gentle(make("vae", input_shape=(3,), latent_dim=dim))
    x = points(3, (3,)).double()
    z, log_cell = grid(dim)
    with torch.no_grad():
        log_joint = torch.stack([log_p_x(model, row, z) for row in x]) + normal(z, 0.0, torch.ones_like(z))
        h = model.encoder(x)
        log_q = normal(z, model.loc(h).unsqueeze(1), model.log_scale(h).exp().unsqueeze(1).expand(3, len(z), dim))
        log_p = log_joint.logsumexp(1) + log_cell
        elbo = (log_q.exp() * (log_joint - log_q)).sum(1) * math.exp(log_cell)
    assert_bounds(model, x, None, log_p, elbo)


def test_reconstruction_is_of_a_draw() -> None:
    """``E_q log p(x | z)`` on average: a draw of z, not its mean."""
    model = gentle(make("vae", input_shape=(3,), latent_dim=1))
    x = points(1, (3,)).double()
    z, log_cell = grid(1)
    with torch.no_grad():
        h = model.encoder(x)[0]
        weight = normal(z, model.loc(h), model.log_scale(h).exp().expand_as(z)).exp() * math.exp(log_cell)
        expected = (weight * log_p_x(model, x[0], z)).sum()
        at_mean = log_p_x(model, x[0], model.loc(h))
    draws = reconstruction(model, x.expand(4000, -1))
    assert abs(draws.mean() - expected) < 4.5 * standard_error(draws) < abs(at_mean - expected)
