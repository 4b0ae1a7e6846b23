"""Pairs of one's own in the suite of all pairs: other priors, likelihoods, layers, flows and further sites."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch
from pair_suite import PairSuite
from pairs import OWN, own_points, own_program
from pyro import poutine
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae.infer.bounds import reconstruction
from pyro_ssvae.infer.latent_use import elbo_and_kl


class TestOwnPairs(PairSuite):
    cases: ClassVar[Any] = OWN
    casts = False
    uncopied = ("flow", "spline")

    def make(self, case: str) -> Any:
        return OWN[case]()

    def data(self, case: str, n: int) -> tuple[Tensor, Tensor]:
        return own_points(case, n), torch.full((n,), -1)

    def guide_at(self, pair: Any, eps: Tensor, *, labels: Any = "inferred") -> Callable[..., object]:
        return own_program(pair.guide, eps, labels=labels)

    def model_at(self, pair: Any, eps: Tensor) -> Callable[..., object]:
        return own_program(pair.model, eps, labels="drawn", only=["k"])


@pytest.mark.parametrize("case", OWN)
def test_fit_trains_them(case: str) -> None:
    pair, x = OWN[case](), own_points(case, 64)
    before = ps.elbo(pair, x, num_samples=20).mean()
    history = ps.fit(pair, x, epochs=12, batch_size=16, learning_rate=0.03, seed=0, augment="none", progress=False)
    assert history["loss"][-1] < history["loss"][0]
    assert ps.elbo(pair, x, num_samples=20).mean() > before
    pyro.clear_param_store()


class Cluster(nn.Module):
    """k ~ .9, .1 and z ~ N(0, 1) move x of two entries; the guide has z alone, at its prior."""

    def __init__(self, infer: dict[str, Any]) -> None:
        super().__init__()
        self.unused, self.infer = nn.Parameter(torch.zeros(())), infer

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(x.new_tensor([0.9, 0.1])), infer=self.infer)
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1)).squeeze(-1)
            mean = torch.stack([4.0 * k - 2 + 0 * z, 6.0 * k - 3 + z], -1)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))


@pytest.mark.parametrize("infer", [{}, {"enumerate": "parallel"}], ids=["drawn", "enumerated"])
def test_a_latent_that_the_guide_lacks_comes_from_its_prior(infer: dict[str, Any]) -> None:
    """``log 1/S Σ p(x | k_s, z_s)``, and imputation with the same weights.

    A bound that counts log p(k) is off by 1.4, a mean by 2.
    """
    pair = Cluster(infer).double()
    x = torch.tensor([[0.2, 1.0], [1.2, -2.0], [-0.5, 0.0]]).double()
    log_k = torch.tensor([0.9, 0.1]).double().log()
    first = dist.Normal(torch.tensor([-2.0, 2.0]).double(), 1.0).log_prob(x[:, :1]) + log_k
    second = dist.Normal(torch.tensor([-3.0, 3.0]).double(), 2**0.5).log_prob(x[:, 1:])
    torch.manual_seed(0)
    found = ps.log_likelihood(pair, x, num_samples=3000)
    torch.testing.assert_close(found, (first + second).logsumexp(1), rtol=0, atol=0.15)
    gap = x.clone()
    gap[:, 1] = torch.nan
    expected = first.softmax(1) @ torch.tensor([-3.0, 3.0]).double()
    filled = ps.impute(pair, gap, num_samples=700, seed=0)[:, 1]
    torch.testing.assert_close(filled, expected, rtol=0, atol=0.8)
    torch.manual_seed(0)
    parts = elbo_and_kl(pair, x.repeat(500, 1))
    assert (parts[:, 1].abs() < 1e-12).all()  # q(z) is p(z), and k costs nothing


def test_a_reconstruction_sums_what_the_model_alone_enumerates_inside_the_logarithm() -> None:
    """``log Σ_k p(k) p(x | k, z)`` at one draw of z; as q(z) is p(z), it is the bound of that draw."""
    pair, x = Cluster({"enumerate": "parallel"}).double(), torch.randn(6, 2).double()
    found = []
    for bound in (ps.elbo, reconstruction):
        torch.manual_seed(1)
        found.append(bound(pair, x))
    torch.testing.assert_close(found[1], found[0])
    torch.manual_seed(1)
    elbo, kl = elbo_and_kl(pair, x).T
    torch.testing.assert_close(found[1], elbo + kl)
    z = torch.randn(20_000, 1, 1).double()
    first = dist.Normal(x.new_tensor([-2.0, 2.0]), 1.0).log_prob(x[:, :1])
    second = dist.Normal(x.new_tensor([-3.0, 3.0]) + z, 1.0).log_prob(x[:, 1:])
    expected = (first + second + x.new_tensor([0.9, 0.1]).log()).logsumexp(-1).mean(0)
    many = reconstruction(pair, x.repeat(4000, 1)).reshape(-1, 6).mean(0)
    torch.testing.assert_close(many, expected, rtol=0, atol=0.3)


class PartlyKnown(nn.Module):
    """``pyro.sample(..., obs_mask=...)`` of the label; where it is known the guide's has no counterpart."""

    labels = ps.ClassLabels(3)

    def __init__(self, masked: bool, enumerated: bool) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor([-1.0, 0.5, 2.0], dtype=torch.double))
        self.masked, self.infer = masked, {"enumerate": "parallel"} if enumerated else {}

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        y = torch.full((len(x),), -1) if y is None else y
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(x.new_tensor([0.2, 0.3, 0.5])), obs=y.clamp_min(0), obs_mask=y >= 0)
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal((self.loc[y] + z).unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        mask = (torch.full((len(x),), -1) if y is None else y) < 0 if self.masked else torch.tensor(True)
        with pyro.plate("data", len(x)):
            with poutine.mask(mask=mask):
                pyro.sample("y_unobserved", dist.Categorical(x.new_ones(len(x), 3)), infer=self.infer)
            pyro.sample("z", dist.Normal(0.5 * x.squeeze(-1), 1.0))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("enumerated", [False, True])
def test_a_label_that_a_mask_leaves_out_is_no_latent(masked: bool, enumerated: bool) -> None:
    """x = μ_y + z + noise; of a label that is known the bound had log 3 too much, or counted three times."""
    pair, y = PartlyKnown(masked, enumerated), torch.tensor([0, 2, -1])
    x = torch.tensor([[0.3], [-0.4], [1.0]], dtype=torch.double)
    log_p = dist.Normal(pair.loc, 2**0.5).log_prob(x) + x.new_tensor([0.2, 0.3, 0.5]).log()
    want = torch.cat([log_p[:2].gather(1, y[:2, None])[:, 0], log_p[2:].logsumexp(1)]).detach()
    torch.manual_seed(0)
    many = 20_000  # log w has a standard deviation of about 1
    log_w = ps.log_likelihood(pair, x.repeat(many, 1), y.repeat(many), num_samples=1).detach().reshape(many, 3)
    torch.testing.assert_close(log_w.logsumexp(0) - math.log(many), want, atol=0.05, rtol=0)
    assert bool((ps.elbo(pair, x.repeat(2000, 1), y.repeat(2000)).reshape(2000, 3).mean(0) < want).all())
    found = ps.class_posterior(pair, x, num_samples=300)
    torch.testing.assert_close(found, log_p.detach().softmax(1), atol=0.15, rtol=0)
