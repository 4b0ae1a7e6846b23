"""Draws and means of any q(z | x) that a model's predictions are made of, the same at every call."""

from __future__ import annotations

from contextlib import nullcontext

import pyro.distributions as dist
import torch
from torch import Tensor

from ..infer.batched import seeded
from ..infer.traces import plain

DRAWS = 100


def fixed_noise(dim: int) -> Tensor:
    """Standard normal noise ``[100, 1, dim]``, the same at every call."""
    return torch.randn(DRAWS, 1, dim, generator=torch.Generator().manual_seed(0))


def fixed_draws(q: dist.TorchDistribution, noise: Tensor) -> Tensor:
    """S draws of q, ``[S, *batch, D]``: ``loc + scale * noise`` of a Normal, else draws from a fixed seed.

    While gradients are taken, as in training, q that is no Normal gives other draws at each call.

    :param q: with event ``[D]``: a Normal, a flow, a mixture.
    :param noise: ``[S, 1, D]``, such as :func:`fixed_noise`.
    """
    one = plain(q)
    if not isinstance(one, dist.Normal):
        return own_draws(q, noise.device, len(noise))
    return one.loc + one.scale * noise.reshape(len(noise), *[1] * (one.loc.dim() - 1), -1)


def own_draws(q: dist.TorchDistribution, device: torch.device, n: int = DRAWS) -> Tensor:
    """``n`` draws of q, without gradients from a fixed seed."""
    with nullcontext() if torch.is_grad_enabled() else seeded(device, 0):
        return fresh_draws(q, n)


def fresh_draws(q: dist.TorchDistribution, n: int = DRAWS) -> Tensor:
    """``n`` draws of q by its ``rsample``, or by ``sample`` where it has none."""
    drawn: Tensor = (q.rsample if q.has_rsample else q.sample)(torch.Size([n]))
    return drawn


def mean_of(q: dist.TorchDistribution, device: torch.device) -> Tensor:
    """q's mean, or that of 100 draws where it knows none, as a flow."""
    try:
        mean: Tensor = q.mean
    except NotImplementedError:
        return own_draws(q, device).mean(0)
    return mean


def score_of(q: dist.TorchDistribution, draws: Tensor) -> Tensor:
    """0 for each draw, ``[S, *batch]``, with the gradient of ``log q`` where a draw has none of its own.

    ``Σ_s f(z_s) exp(score)`` then has the gradient of ``E_q[f]`` for q without ``rsample`` too.
    """
    if q.has_rsample or not torch.is_grad_enabled():
        return draws.new_zeros(draws.shape[: draws.dim() - q.event_dim])
    log_q: Tensor = q.log_prob(draws.detach())
    return log_q - log_q.detach()
