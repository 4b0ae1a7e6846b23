"""Distributions of entries, in double precision, against SciPy, torch, sums and integrals."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from pyro_ssvae.distributions.columns import Columns
from pyro_ssvae.distributions.continuous_bernoulli import ContinuousBernoulli
from pyro_ssvae.distributions.counts import Codes, GivenSize
from pyro_ssvae.distributions.grey_levels import BinomialLevels, LogisticMixtureLevels
from pyro_ssvae.distributions.observed import ObservedEntries, entrywise

LOGITS = torch.tensor([-200.0, -30.0, -5.0, -0.11, -0.09, -1e-4, 0.0, 1e-3, 0.05, 0.101, 4.0, 30.0, 200.0]).double()


def test_continuous_bernoulli_is_torchs_where_that_is_exact() -> None:
    a = torch.tensor([-8.0, -3.0, -0.5, -0.101, 0.101, 0.7, 5.0]).double()  # torch cuts off near 0 and far away
    x = torch.linspace(0, 1, 7).double().unsqueeze(-1)
    reference = torch.distributions.ContinuousBernoulli(logits=a, lims=(0.4999, 0.5001))
    torch.testing.assert_close(ContinuousBernoulli(a).log_prob(x), reference.log_prob(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ContinuousBernoulli(a).mean, reference.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ContinuousBernoulli(a).variance, reference.variance, rtol=1e-7, atol=1e-9)


def test_continuous_bernoulli_has_integral_one_and_its_mean_at_every_log_odds() -> None:
    x = (torch.arange(400_000).double() + 0.5) / 400_000  # the midpoint rule: (200 / 4e5)² / 24 = 1e-8
    fn = ContinuousBernoulli(LOGITS)
    p = fn.log_prob(x.unsqueeze(-1)).exp()
    torch.testing.assert_close(p.mean(0), torch.ones_like(LOGITS), rtol=1e-7, atol=0)
    torch.testing.assert_close((p * x.unsqueeze(-1)).mean(0), fn.mean, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close((p * (x.unsqueeze(-1) - fn.mean) ** 2).mean(0), fn.variance, rtol=1e-4, atol=1e-9)


def test_continuous_bernoulli_has_the_right_gradient_where_the_series_takes_over() -> None:
    a = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ContinuousBernoulli(a).log_prob(torch.tensor(0.3).double()).sum(), a)
    torch.testing.assert_close(gradient, 0.3 - ContinuousBernoulli(LOGITS).mean, rtol=1e-6, atol=1e-7)


def test_continuous_bernoulli_draws_by_its_inverse_distribution_function() -> None:
    """``F(x) = (exp(a x) - 1) / (exp(a) - 1)`` of a draw is the uniform number that it is made of."""
    torch.manual_seed(0)
    u = torch.rand(50, len(LOGITS), dtype=torch.float64)
    torch.manual_seed(0)
    x = ContinuousBernoulli(LOGITS).rsample((50,))
    a = torch.where(LOGITS == 0, 1.0, LOGITS)
    cdf = torch.where(LOGITS == 0, x, torch.expm1(a * x) / torch.expm1(a))
    torch.testing.assert_close(cdf, u, rtol=0, atol=1e-8)  # the series near 0 leaves out a² / 12

    def draw(a: Tensor) -> Tensor:
        torch.manual_seed(0)
        return ContinuousBernoulli(a).rsample((3,))

    away = torch.tensor([-200.0, -5.0, -1e-4, 0.0, 0.05, 30.0]).double()  # from where the series takes over
    assert torch.autograd.gradcheck(draw, away.requires_grad_())
    far = ContinuousBernoulli(torch.tensor([-200.0, 200.0]))  # exp(200) is no float32
    drawn = far.sample((4000,))
    assert bool(((drawn.mean(0) - far.mean).abs() < 5 * far.variance.sqrt() / 4000**0.5).all())


def test_binomial_levels_are_scipys() -> None:
    logits, n = torch.tensor([-3.0, 0.2, 2.0]).double(), 16
    k = torch.arange(n + 1).double().unsqueeze(-1)
    fn = BinomialLevels(logits, torch.tensor(float(n)).double())
    expected = torch.as_tensor(stats.binom.logpmf(k.numpy(), n, logits.sigmoid().numpy()))
    torch.testing.assert_close(fn.log_prob(k / n), expected)
    torch.testing.assert_close(fn.log_prob(((k + 0.4) / n).clamp_max(1)), expected)
    torch.testing.assert_close((fn.log_prob(k / n).exp() * k / n).sum(0), fn.mean)
    torch.testing.assert_close((fn.log_prob(k / n).exp() * (k / n - fn.mean) ** 2).sum(0), fn.variance)


def mixture() -> LogisticMixtureLevels:
    logits = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]).double()
    loc = torch.tensor([[0.1, 0.5, 0.9], [0.0, 1.0, 0.5], [0.3, 0.30001, -0.5]]).double()
    scale = torch.tensor([[0.02, 0.3, 0.001], [0.0005, 0.05, 0.1], [2e-4, 1.0, 0.05]]).double()
    return LogisticMixtureLevels(logits, loc, scale)


def test_logistic_mixture_is_the_mass_of_each_levels_interval() -> None:
    fn, k = mixture(), torch.arange(256).double()
    edges = torch.cat([torch.tensor([-torch.inf]).double(), (k[1:] - 0.5) / 255, torch.tensor([torch.inf]).double()])
    cdf = torch.as_tensor(stats.logistic.cdf(edges.reshape(-1, 1, 1), fn.loc.numpy(), fn.scale.numpy()))
    expected = (fn.logits.softmax(-1) * cdf.diff(dim=0)).sum(-1)
    found = fn.log_prob(k.unsqueeze(-1) / 255).exp()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(found.sum(0), torch.ones(3).double())
    mean = (found * k.unsqueeze(-1) / 255).sum(0)
    assert (mean - fn.mean).abs().max() < 0.5 / 255
    x = ((torch.arange(100_000).double() + 0.5) / 100_000).reshape(-1, 1, 1)  # midpoints, twenty to the least scale
    cdf = torch.as_tensor(stats.logistic.cdf(x, fn.loc.numpy(), fn.scale.numpy()))
    torch.testing.assert_close(fn.mean, (fn.logits.softmax(-1) * (1 - cdf).mean(0)).sum(-1), rtol=1e-6, atol=0)


def test_the_tails_of_a_logistic_are_drawn() -> None:
    """Six scales off on either side."""
    n, p = 40_000, float(stats.logistic.cdf(51.5 / 255, 0.5, 0.05))
    torch.manual_seed(0)
    level = (LogisticMixtureLevels(*torch.tensor([[0.0], [0.5], [0.05]])).sample((n,)) * 255).round()
    for tail in (level <= 51, level >= 204):
        assert abs(float(tail.float().mean()) - p) < 5 * (p * (1 - p) / n) ** 0.5


def test_logistic_mixture_has_finite_gradients_far_out() -> None:
    loc = torch.tensor([[1e4], [-1e4], [0.5]]).requires_grad_()
    raw = torch.tensor([[2e-4], [2e-4], [1e4]]).requires_grad_()
    log_p = LogisticMixtureLevels(torch.zeros(3, 1), loc, raw).log_prob(torch.tensor([0.3, 1.0, 0.0]))
    assert all(bool(t.isfinite().all()) for t in (log_p, *torch.autograd.grad(log_p.sum(), [loc, raw])))


@pytest.mark.parametrize(
    "fn",
    [
        ContinuousBernoulli(torch.tensor([-20.0, -2.0, 0.0, 1e-4, 3.0]).double()),
        BinomialLevels(torch.tensor([-2.0, 0.5]).double(), torch.tensor(16.0).double()),
        mixture(),
    ],
    ids=["continuous-bernoulli", "binomial", "mixture"],
)
def test_draws_have_the_mean_and_the_probabilities(fn: dist.TorchDistribution) -> None:
    torch.manual_seed(0)
    n = 40_000
    x = fn.sample((n,))
    assert x.shape == (n, *fn.batch_shape)
    assert x.min() >= 0
    assert x.max() <= 1
    error = 5 * x.std(0) / n**0.5 + (0.5 / 255 if isinstance(fn, LogisticMixtureLevels) else 0)
    assert bool(((x.mean(0) - fn.mean).abs() <= error).all())
    # E[-log p] over draws and over the support agree where the support is finite
    if not isinstance(fn, ContinuousBernoulli):
        levels = 255 if isinstance(fn, LogisticMixtureLevels) else 16
        support = (torch.arange(levels + 1).double() / levels).unsqueeze(-1)
        log_p = fn.log_prob(support)
        entropy = -(log_p.exp() * log_p).sum(0)
        draws = -fn.log_prob(x)
        assert bool(((draws.mean(0) - entropy).abs() <= 5 * draws.std(0) / n**0.5 + 1e-9).all())


def test_codes_are_a_categorical_whose_mean_is_the_mode() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()
    fn, k = Codes(logits), torch.tensor([0, 2, 1, 1])
    torch.testing.assert_close(fn.log_prob(k.double()), dist.Categorical(logits=logits).log_prob(k))
    torch.testing.assert_close(fn.mean, logits.argmax(-1).double())
    torch.manual_seed(0)
    shares = torch.stack([(fn.sample((20_000,)) == c).double().mean(0) for c in range(3)], -1)
    torch.testing.assert_close(shares, logits.softmax(-1), rtol=0, atol=5 * 0.5 / 20_000**0.5)
    assert fn.support.check(torch.tensor([-1.0, 0.0, 2.0, 3.0])).tolist() == [False, True, True, False]


def test_an_unobserved_entry_is_left_out_and_has_no_gradient() -> None:
    loc = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 2.0]]).double().requires_grad_()
    fn = ObservedEntries(dist.Normal(loc, 0.5), 1)
    x = torch.tensor([[1.5, torch.nan, 2.0], [torch.nan, torch.nan, 2.0]]).double()
    expected = torch.stack(
        [dist.Normal(loc[0, [0, 2]], 0.5).log_prob(x[0, [0, 2]]).sum(), dist.Normal(loc[1, 2], 0.5).log_prob(x[1, 2])]
    )
    torch.testing.assert_close(fn.log_prob(x), expected)
    (gradient,) = torch.autograd.grad(fn.log_prob(x).sum(), loc)
    torch.testing.assert_close(gradient, torch.where(x.isnan(), 0.0, (x - loc.detach()) / 0.25))
    assert fn.expand((5, 2)).log_prob(x).shape == (5, 2)
    assert fn.expand((5, 2)).batch_shape == (5, 2)


@pytest.mark.parametrize(
    "base",
    [
        dist.Cauchy(torch.tensor([1.0, -2.0]).double(), 1.0),  # its mean is NaN
        dist.StudentT(torch.tensor([0.5, 1.0]).double(), 3.0, 1.0),  # the same
        dist.HalfCauchy(torch.tensor([1.0, 2.0]).double()),  # its mean is infinite
        dist.Pareto(torch.tensor([1.0, 2.0]).double(), 0.5),  # the same, and 0 is outside
        dist.Bernoulli(torch.tensor([0.5, 0.2]).double()),  # the first's mode is NaN
        dist.Beta(torch.tensor([2.0, 0.5]).double(), 2.0),
        dist.Uniform(torch.tensor([1.0, 2.0]).double(), 3.0),  # its mode is NaN, and 0 is outside
        dist.Poisson(torch.tensor([3.5, 0.1]).double()),
        dist.LogNormal(torch.tensor([0.0, 1.0]).double(), 1.0),  # 0 is outside
    ],
    ids=lambda base: type(base).__name__,
)
def test_what_stands_for_a_missing_entry_is_in_the_support(base: dist.TorchDistribution) -> None:
    fn = entrywise(base.to_event(1))
    assert isinstance(fn, ObservedEntries)
    assert bool(base.support.check(torch.as_tensor(fn.fill).double().expand(2)).all())
    x = base.sample()
    torch.testing.assert_close(fn.log_prob(x), base.log_prob(x).sum())
    gap = x.clone()
    gap[0] = torch.nan
    torch.testing.assert_close(fn.log_prob(gap), base.log_prob(x)[1])
    torch.testing.assert_close(fn.expand((3,)).log_prob(gap), base.log_prob(x)[1].expand(3))


def test_a_missing_entry_has_no_gradient() -> None:
    logits = torch.zeros(2, dtype=torch.double, requires_grad=True)  # a head that begins at zero: a mode of NaN
    entrywise(dist.Bernoulli(logits=logits).to_event(1)).log_prob(torch.tensor([torch.nan, 1.0]).double()).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [0.0, 0.5]


def test_levels_are_the_support_of_grey_levels() -> None:
    levels = torch.arange(17).float() / 16
    fn = BinomialLevels(torch.zeros(17), torch.tensor(16.0))
    assert fn.support.is_discrete
    assert bool(fn.support.check(levels).all())
    assert not fn.support.check(levels[1:] - 0.01).any()
    bytes_ = (torch.arange(256).float() / 255).unsqueeze(-1)
    assert bool(LogisticMixtureLevels.support.check(bytes_).all())
    assert not LogisticMixtureLevels.support.check(torch.tensor([-1 / 255, 256 / 255, 0.5, torch.nan])).any()
    near, off = ((torch.arange(1.0, 255) + part).double() / 255 for part in (9e-4, 2e-3))  # of a level
    assert bool(LogisticMixtureLevels.support.check(near).all())
    assert not LogisticMixtureLevels.support.check(off).any()


def of_size(log_size: Tensor) -> ObservedEntries:
    rate = torch.tensor([[1.0, 2.0, 6.0]]).double().expand(2, 3)
    return ObservedEntries(dist.Poisson(rate * log_size.exp(), validate_args=False), 1)


def test_counts_are_relative_to_what_a_row_holds() -> None:
    x = torch.tensor([[2.0, 4.0, 12.0], [0.0, torch.nan, 3.0]]).double()
    fn = GivenSize(of_size, torch.tensor([3.0]).double(), 1)
    rate = torch.tensor([[2.0, 4.0, 12.0], [0.5, 1.0, 3.0]]).double()  # row sizes 6 / 3 and 1.5 / 3
    each = torch.as_tensor(stats.poisson.logpmf(x.nan_to_num().numpy(), rate.numpy()))
    torch.testing.assert_close(fn.log_prob(x), torch.where(x.isnan(), 0.0, each).sum(-1))
    torch.testing.assert_close(fn.at(x).mean, rate)
    torch.testing.assert_close(fn.mean, rate.new_tensor([[1.0, 2.0, 6.0]]).expand(2, 3))
    torch.testing.assert_close(fn.at(torch.zeros(2, 3).double()).mean, fn.mean)
    normal = GivenSize(lambda log_size: dist.Normal(log_size + rate, 3.0).to_event(1), torch.ones(1).double(), 1)
    assert torch.equal(normal.variance, torch.full((2, 3), 9.0).double())


def test_columns_add_up_and_come_in_their_own_order() -> None:
    parts = [
        ObservedEntries(dist.Normal(torch.tensor([[0.0, 5.0]] * 2).double(), 1.0), 1),
        ObservedEntries(Codes(torch.tensor([[[0.0, 3.0, 0.0]]] * 2).double()), 1),
    ]
    fn = Columns(parts, [torch.tensor([2, 0]), torch.tensor([1])])
    x = torch.tensor([[4.0, 2.0, 0.5], [torch.nan, 1.0, 0.0]]).double()
    normal, codes = dist.Normal(torch.zeros(()).double(), 1.0), torch.tensor([0.0, 3.0, 0.0]).double().log_softmax(-1)
    first = normal.log_prob(x[0, 2]) + normal.log_prob(x[0, 0] - 5) + codes[2]
    torch.testing.assert_close(fn.log_prob(x), torch.stack([first, normal.log_prob(x[1, 2]) + codes[1]]))
    torch.testing.assert_close(fn.mean, torch.tensor([[5.0, 1.0, 0.0]] * 2).double())
    drawn = fn.sample((7,))
    assert drawn.shape == (7, 2, 3)
    assert bool(((drawn - torch.tensor([5.0, 1.0, 0.0])).abs()[..., [0, 2]] < 4).all())
    assert torch.equal(drawn[..., 1], drawn[..., 1].round())


@pytest.mark.parametrize(
    "fn",
    [
        ContinuousBernoulli(torch.tensor(0.7).double()),
        BinomialLevels(torch.tensor(0.7).double(), torch.tensor(4.0).double()),
        LogisticMixtureLevels(*torch.tensor([[0.0, 1.0], [0.2, 0.7], [0.1, 0.3]]).double()),
        Codes(torch.tensor([0.5, -1.0, 0.0]).double()),
        GivenSize(lambda size: dist.Poisson(torch.tensor([1.0, 5.0]) * size.exp()).to_event(1), torch.ones(1), 1),
        Columns([dist.Normal(torch.zeros(1), 1.0).to_event(1), dist.Poisson(torch.ones(1)).to_event(1)],
                [torch.tensor([1]), torch.tensor([0])]),
    ],
    ids=lambda fn: type(fn).__name__,
)  # fmt: skip
def test_an_expanded_distribution_is_the_same_in_every_place(fn: dist.TorchDistribution) -> None:
    wide, x = fn.expand(torch.Size([5])), fn.sample()
    assert (wide.batch_shape, wide.event_shape) == ((5,), fn.event_shape)
    torch.testing.assert_close(wide.log_prob(x), fn.log_prob(x).expand(5))
    torch.testing.assert_close(wide.mean, fn.mean.expand(5, *fn.event_shape))
    assert wide.sample().shape == (5, *fn.event_shape)


def test_columns_say_which_rows_they_have_a_probability_for() -> None:
    parts = [dist.Normal(torch.zeros(2), 1.0).to_event(1), dist.Bernoulli(logits=torch.zeros(1)).to_event(1)]
    support = Columns(parts, [torch.tensor([0, 2]), torch.tensor([1])]).support
    x = torch.tensor([[0.3, 1.0, -9.0], [0.3, 0.4, 1.0], [0.0, 0.0, 0.5]])
    assert support.check(x).tolist() == [True, False, True]
    assert support.event_dim == 1
    assert not support.is_discrete
