"""Equal rates: the rest of the latents pays as many nats where a one-sided attribute is there as where it is not.

A draw of z_s need not betray y, but its posterior's parameters do: a latent that is used for glasses alone pays
nats on faces with glasses alone (choice of this project).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from ..errors import InputError
from ..labels import MISSING
from .traces import plain


def equal_rates(
    one_sided: Sequence[int],
    log_q_y: Tensor,
    y: Tensor,
    q_c: TorchDistribution,
    q_s: TorchDistribution,
    p_c: Callable[[Tensor], TorchDistribution],
    p_s: TorchDistribution,
) -> Tensor:
    """Return R, nats::

        R = Σ_i Σ_j | E[KL_j | y_i = 1] - E[KL_j | y_i = 0] |        j: the dimensions outside z_c^i

    with ``KL_j`` a row's divergence of latent dimension j from its prior, and a missing label's values weighted by
    q(y | x). The expectations are means over the batch.

    :param one_sided: the attributes i, by number.
    :param log_q_y: log q(y | x) of each value ``[A, B, 2]``.
    :param y: ``[A, B]``, -1 where missing.
    :param q_c: q(z_c | x), ``[A, B]`` of event ``[d]``; ``q_s`` likewise ``[B]`` of event ``[D_s]``.
    :param p_c: p(z_c | y) of values ``[A, B]``; ``p_s`` the prior of z_s.
    :raises InputError: where a latent's posterior or prior is no Normal.
    """
    known = torch.stack([y == 0, y == 1], -1).to(log_q_y)
    pi = torch.where((y == MISSING).unsqueeze(-1), log_q_y.detach().exp(), known)  # [A, B, 2]
    by_value = [nats(q_c, p_c(torch.full_like(y, v))) * pi[..., v, None] for v in (0, 1)]
    rates = torch.cat([sum(by_value, torch.zeros((), device=y.device)).transpose(0, 1).flatten(1), nats(q_s, p_s)], 1)
    d = q_c.event_shape[0]
    total = rates.new_zeros(())
    for i in one_sided:
        weight = pi[i] / pi[i].sum(0).clamp_min(1e-6)  # [B, 2]
        gap = (weight[:, 1] - weight[:, 0]) @ rates
        there = (pi[i].sum(0) > 0).all()  # a batch of one side alone says nothing
        outside = torch.ones_like(gap)
        outside[i * d : (i + 1) * d] = 0
        total = total + (outside * gap.abs()).sum() * there
    return total


def nats(q: TorchDistribution, p: TorchDistribution) -> Tensor:
    """KL(q || p) of each dimension, ``[..., B, D]``."""
    one, other = plain(q), plain(p)
    if not isinstance(one, Normal) or not isinstance(other, Normal):
        kinds = f"{type(one).__name__} and {type(other).__name__}"
        raise InputError(f"equal_rates: a Normal posterior and prior of each latent are needed, not {kinds}")
    kl: Tensor = torch.distributions.kl_divergence(one, other)
    return kl
