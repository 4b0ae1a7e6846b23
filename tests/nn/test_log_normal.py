"""The log-normal likelihood, and with zeros: a density in the units of x, its moments, and what the encoder sees."""

from __future__ import annotations

import math

import pytest
import torch
from data_makers import refused
from scipy import integrate, stats
from torch import Tensor

from pyro_ssvae.distributions.shifted_log_normal import ShiftedLogNormal
from pyro_ssvae.distributions.zero_inflated import ZeroInflated
from pyro_ssvae.nn.columns import drawn_in
from pyro_ssvae.nn.likelihoods import LikelihoodOptions, named_likelihood
from pyro_ssvae.nn.reals import LogNormal, ZeroInflatedLogNormal

torch.manual_seed(0)
X = torch.randn(500, 3, dtype=torch.float64).mul(1.3).add(torch.tensor([2.0, 0, -4])).exp()


def fitted(x: Tensor = X) -> LogNormal:
    likelihood = LogNormal((x.shape[1],)).double()
    likelihood.fit(x)
    return likelihood


def test_density_and_moments_are_scipys() -> None:
    loc, scale, shift = (torch.tensor(value, dtype=torch.float64) for value in (0.7, 0.4, 1.5))
    fn = ShiftedLogNormal(loc, scale, shift)
    law = stats.lognorm(0.4, loc=-1.5, scale=math.exp(0.7))
    for value in (-1.0, 0.0, 0.5, 4.0):
        assert float(fn.log_prob(torch.tensor(value).double())) == pytest.approx(law.logpdf(value), rel=1e-12)
    assert float(fn.mean) == pytest.approx(law.mean(), rel=1e-12)
    assert float(fn.variance) == pytest.approx(law.var(), rel=1e-12)
    assert fn.expand([4]).sample(torch.Size([3])).shape == (3, 4)
    assert fn.support.check(torch.tensor([-1.6, -1.4, 0.0])).tolist() == [False, True, True]
    draws = fn.rsample(torch.Size([40_000]))
    assert float(draws.min()) == 0
    assert float(draws.mean()) == pytest.approx(law.expect(lambda x: x, lb=0), abs=5 * law.std() / 200)


def test_it_is_a_density_in_the_units_of_x() -> None:
    """∫ p(x) dx = 1 in each column's own units, tenfold units included."""
    for factor in (1.0, 10.0):
        likelihood = fitted(factor * X)
        out = torch.tensor([[0.3, -0.5, 0.0]], dtype=torch.float64)
        for column in range(3):
            fn = likelihood(out).base_dist

            def p(x: float, column: int = column, fn: ShiftedLogNormal = fn) -> float:
                value = torch.ones(1, 3, dtype=torch.float64)
                value[0, column] = x
                return float(fn.log_prob(value)[0, column].exp().detach())

            low = -float(likelihood.least[column])
            middle = float(fn.loc[0, column].detach().exp()) + low
            total = sum(
                integrate.quad(p, a, b, limit=200)[0]
                for a, b in ((low, middle), (middle, 20 * middle - 19 * low), (20 * middle - 19 * low, math.inf))
            )
            assert total == pytest.approx(1, abs=1e-5)


def test_the_units_of_x_change_nothing_but_the_density() -> None:
    """Of 10 x the encoder sees the same, and log p is less by ln 10 an entry."""
    one, ten = fitted(), fitted(10 * X)
    torch.testing.assert_close(one.standardize(X), ten.standardize(10 * X))
    out = torch.randn(500, 3, dtype=torch.float64)
    less = one(out).log_prob(X) - ten(out).log_prob(10 * X)
    torch.testing.assert_close(less, torch.full((500,), 3 * math.log(10)).double())
    seen = one.standardize(X)
    torch.testing.assert_close(seen.mean(0), torch.zeros(3).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(seen.std(0, correction=0), torch.ones(3).double())


def test_zero_has_a_density_and_less_is_refused() -> None:
    x = X.clone()
    x[::4, 0] = 0
    x[1, 1] = torch.nan
    likelihood = fitted(x)
    assert bool(likelihood(torch.zeros(500, 3).double()).log_prob(x).isfinite().all())
    assert bool(likelihood.standardize(x).isfinite().all())
    assert bool(likelihood.mean(torch.full((1, 3), 1e4).double()).isfinite().all())
    x[3, 2] = -0.5
    refused(lambda: likelihood.check(x), "row 3, column 2 is -0.5", "at least 0")


def test_a_cell_that_is_far_off_does_not_drown_the_others() -> None:
    z = torch.tensor([-1e6, -3.0, -1.0, 0.0, 2.5, 3.0, 4.0, 1e6])
    seen = drawn_in(z)
    torch.testing.assert_close(seen[1:6], z[1:6])
    assert float(seen[6]) == pytest.approx(3 + math.log(2))
    assert float(seen.abs().max()) < 17
    assert bool((seen.diff() > 0).all())
    table = named_likelihood("mixed", (2,), LikelihoodOptions(columns=("normal", "log-normal")))
    x = torch.rand(300, 2)
    x[0, 0] = 1e9
    table.fit(x)
    assert float(table.standardize(x).abs().max()) < 3 + math.log(20)  # a single outlier lies sqrt(n) from the mean


def test_an_amount_is_zero_or_of_a_density() -> None:
    """P(0) = σ(1.2), and what lies above shares σ(-1.2): moments by those of SciPy's log-normal."""
    gate, loc, scale, shift = (torch.tensor(value, dtype=torch.float64) for value in (1.2, 0.7, 0.4, 0.0))
    fn = ZeroInflated(gate, ShiftedLogNormal(loc, scale, shift))
    law, above = stats.lognorm(0.4, scale=math.exp(0.7)), 1 / (1 + math.exp(1.2))
    assert float(fn.log_prob(torch.tensor(0.0).double()).exp()) == pytest.approx(1 - above, rel=1e-12)
    for value in (0.3, 2.0, 9.0):
        wanted = math.log(above) + law.logpdf(value)
        assert float(fn.log_prob(torch.tensor(value, dtype=torch.float64))) == pytest.approx(wanted, rel=1e-12)
    second = above * (law.var() + law.mean() ** 2)
    assert float(fn.mean) == pytest.approx(above * law.mean(), rel=1e-12)
    assert float(fn.variance) == pytest.approx(second - (above * law.mean()) ** 2, rel=1e-12)
    torch.manual_seed(0)
    draws = fn.expand([2]).sample(torch.Size([20_000]))
    assert draws.shape == (20_000, 2)
    assert float((draws == 0).double().mean()) == pytest.approx(1 - above, abs=5 * math.sqrt(above / 40_000))
    assert float(draws.mean()) == pytest.approx(float(fn.mean), abs=5 * math.sqrt(float(fn.variance) / 40_000))


def test_the_units_of_amounts_are_those_above_zero() -> None:
    """An output of 0 is a feature's share of zeros, and the mean logarithm of what lies above."""
    x = X[:, :3].clone()
    x[::5, 0] = 0  # a fifth
    x[:, 2] = 0  # all
    x[1] = torch.tensor([torch.nan, 2.0, 0.0])
    likelihood = ZeroInflatedLogNormal((3,), missing=True).double()
    likelihood.fit(x)
    out = torch.zeros(1, 6).double()
    at_zero = likelihood(out).base_dist.log_prob(torch.zeros(1, 3).double()).exp()
    wanted = torch.tensor([[100.5 / (100.5 + 399.5), 0.5 / 501, 500.5 / 501]]).double()
    torch.testing.assert_close(at_zero, wanted)
    alone = LogNormal((1,)).double()
    alone.fit(x[x[:, 0] > 0, :1])
    torch.testing.assert_close(likelihood.shift[0], alone.shift[0])
    torch.testing.assert_close(likelihood.spread[0], alone.spread[0])
    torch.testing.assert_close(likelihood.least[0], alone.least[0])
    seen = likelihood.standardize(x)
    assert seen.shape == (500, 9)
    there = x[:, 0] > 0
    torch.testing.assert_close(seen[there, :1], alone.standardize(x[there, :1]))
    assert seen[:2, [0, 3, 6]].tolist() == [[0, -1, 1], [0, 0, 0]]  # 0; missing
    assert seen[2, [3, 6]].tolist() == [1, 1]
    assert bool(seen.isfinite().all())
    gate = torch.tensor([[0.0, 0, 0, 2, 0, 0]]).double()  # by column: amounts, then gates
    more = likelihood(gate).base_dist.log_prob(torch.zeros(1, 3).double()).exp()[0, 0]
    assert float(more) == pytest.approx(1 / (1 + math.exp(-2) * 399.5 / 100.5))
    refused(lambda: likelihood.check(torch.full((1, 3), -1.0).double()), "row 0, column 0 is -1", "at least 0")
