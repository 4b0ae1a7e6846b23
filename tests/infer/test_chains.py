"""Enumerated guide sites that depend on one another in a chain, against sums over all values."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae.infer.bounds import reconstruction
from pyro_ssvae.infer.latent_use import elbo_and_kl, unit_variances

SIZES = (2, 3, 4)
PLACES = list(itertools.product(*map(range, SIZES)))
PARALLEL = {"enumerate": "parallel"}


class Chain(nn.Module):
    """``q(k_1 | x) q(k_2 | k_1, x) q(k_3 | k_2, x)`` of a model whose x is moved by one of the three alone.

    :param joined: whether the model's k depend on one another too.
    :param moving: which of the three moves x.
    """

    def __init__(self, joined: bool, moving: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.joined, self.moving = joined, moving
        self.p = nn.ParameterList(torch.randn(shape) for shape in ((2,), (2, 3), (2, 3, 4)))
        self.q = nn.ParameterList(torch.randn(shape) for shape in ((2,), (2, 3), (3, 4)))
        self.mean = nn.Parameter(torch.randn(SIZES[moving]))

    def priors(self, k_1: Tensor, k_2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of k_1, of k_2 and of k_3."""
        if self.joined:
            return self.p[0], self.p[1][k_1], self.p[2][k_1, k_2]
        return self.p[0], self.p[1][0], self.p[2][0, 0]

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            nothing = torch.zeros((), dtype=torch.long)
            k_1 = pyro.sample("k_1", dist.Categorical(logits=self.p[0]))
            k_2 = pyro.sample("k_2", dist.Categorical(logits=self.priors(k_1, nothing)[1]))
            k_3 = pyro.sample("k_3", dist.Categorical(logits=self.priors(k_1, k_2)[2]))
            pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            mean = self.mean[(k_1, k_2, k_3)[self.moving]].unsqueeze(-1)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            k_1 = pyro.sample("k_1", dist.Categorical(logits=x * self.q[0]), infer=PARALLEL)
            k_2 = pyro.sample("k_2", dist.Categorical(logits=x * self.q[1][k_1]), infer=PARALLEL)
            k_3 = pyro.sample("k_3", dist.Categorical(logits=x * self.q[2][k_2]), infer=PARALLEL)
            pyro.sample("z", self.q_z(x, self.mean[(k_1, k_2, k_3)[self.moving]].unsqueeze(-1)))

    def q_z(self, x: Tensor, mean: Tensor) -> dist.TorchDistribution:
        """q(z | x, k), here p(z)."""
        return dist.Normal(torch.zeros_like(x), 1.0).to_event(1)

    def sums(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The ELBO, log p(x), the divergence of k and E_q[log p(x | k)], ``[B]``."""
        log_q, log_prior, log_p = [], [], []
        for at in PLACES:
            i, j, k = map(torch.tensor, at)
            first, second, third = (logits.log_softmax(-1) for logits in self.priors(i, j))
            log_prior.append((first[i] + second[j] + third[k]).expand(len(x)))
            of_k = [(x * self.q[0])[:, i], (x * self.q[1][i])[:, j], (x * self.q[2][j])[:, k]]
            all_of_k = [x * self.q[0], x * self.q[1][i], x * self.q[2][j]]
            log_q.append(sum(one - every.logsumexp(-1) for one, every in zip(of_k, all_of_k)))
            log_p.append(dist.Normal(self.mean[at[self.moving]], 1.0).log_prob(x).sum(-1))
        q, prior, p = map(torch.stack, (log_q, log_prior, log_p))
        weight = q.exp()
        kl, seen = (weight * (q - prior)).sum(0), (weight * p).sum(0)
        return seen - kl, (prior + p).logsumexp(0), kl, seen


@pytest.mark.parametrize("moving", [0, 1, 2])
@pytest.mark.parametrize("joined", [True, False])
def test_all_values_of_a_chain_count_once(joined: bool, moving: int) -> None:
    pair, x = Chain(joined, moving).double(), torch.randn(5, 1, dtype=torch.double) * 2
    elbo, log_p, kl, seen = pair.sums(x)
    found: list[tuple[Tensor, Callable[[], Tensor]]] = [
        (elbo, lambda: ps.elbo(pair, x)),
        (log_p, lambda: ps.log_likelihood(pair, x, num_samples=2)),
        (kl, lambda: elbo_and_kl(pair, x)[:, 1]),
        (seen, lambda: reconstruction(pair, x)),
        (elbo, lambda: ps.sites(pair, x).elbo),
    ]
    for i, (expected, of) in enumerate(found):
        torch.testing.assert_close(of(), expected.detach(), rtol=0, atol=1e-10, msg=lambda text, i=i: f"{i}: {text}")


@pytest.mark.parametrize("moving", [0, 1, 2])
def test_means_over_a_chain_are_weighted_by_all_of_it(moving: int) -> None:
    class Moving(Chain):
        def q_z(self, x: Tensor, mean: Tensor) -> dist.TorchDistribution:
            return dist.Normal(x * mean, 1.0).to_event(1)

    pair, x = Moving(True, moving).double(), torch.randn(200, 1, dtype=torch.double)
    q = [(x * pair.q[0]).softmax(-1)]
    for weights in (pair.q[1], pair.q[2]):
        q.append(torch.einsum("ni,nij->nj", q[-1], (x.unsqueeze(1) * weights).softmax(-1)))
    expected = (x.squeeze(1) * (q[moving] @ pair.mean)).var()
    torch.testing.assert_close(unit_variances(pair, x), expected.detach().reshape(1), rtol=1e-9, atol=0)
