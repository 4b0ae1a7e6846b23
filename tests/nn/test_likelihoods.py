from __future__ import annotations

import math

import pytest
import torch
from data_makers import refused
from torch import Tensor, nn
from torch.distributions import Laplace as TorchLaplace
from torch.distributions import Normal as TorchNormal

from pyro_ssvae.nn.likelihoods import Bernoulli, Laplace, Normal


def test_bernoulli_is_the_cross_entropy_of_grey_levels() -> None:
    likelihood, out, x = Bernoulli((1, 2, 2)), torch.randn(3, 1, 2, 2), torch.rand(3, 1, 2, 2)
    p = out.sigmoid()
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3))
    torch.testing.assert_close(likelihood(out).log_prob(x), expected)
    torch.testing.assert_close(likelihood.mean(out), p)
    assert likelihood.target(x) is x


def test_binarized_pixels_have_the_relaxation_as_their_expectation() -> None:
    likelihood, x, out = Bernoulli((4,), binarize=True), torch.tensor([0.0, 0.2, 0.7, 1.0]), torch.randn(4)
    draws = likelihood.target(x.expand(20000, 4))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    log_p = likelihood(out.expand(20000, 4)).log_prob(draws)
    expected = Bernoulli((4,))(out).log_prob(x)
    assert abs(log_p.mean() - expected) < 4 * log_p.std() / math.sqrt(20000)


def test_bernoulli_refuses_other_ranges() -> None:
    refused(lambda: Bernoulli((2,)).fit(torch.tensor([[0.0, 255.0]])), "0 to 255", "[0, 1]", "normal")
    refused(lambda: Bernoulli((2,)).fit(torch.tensor([[-0.5, 1.0]])), "-0.5 to 1")
    Bernoulli((2,)).fit(torch.tensor([[0.0, 1.0]]))


@pytest.mark.parametrize(("kind", "reference"), [(Normal, TorchNormal), (Laplace, TorchLaplace)])
@pytest.mark.parametrize("scale", ["learned", 0.5])
def test_densities_are_in_the_units_of_the_data(kind: type[Normal], reference: type, scale: float) -> None:
    x = torch.tensor([100.0, -3.0]) + torch.tensor([20.0, 0.1]) * torch.randn(200, 2)
    likelihood = kind((2,), scale=scale)
    likelihood.fit(x)
    m, s = x.double().mean(0).float(), x.double().std(0, correction=0).float()
    if scale == "learned":
        with torch.no_grad():
            likelihood.raw_scale.copy_(torch.tensor([0.0, 2.0]))
    sigma = nn.functional.softplus(torch.tensor([0.0, 2.0])) if scale == "learned" else torch.tensor(0.5)
    out = torch.randn(200, 2)
    expected = reference(m + s * out, s * sigma).log_prob(x).sum(-1)
    torch.testing.assert_close(likelihood(out).log_prob(x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(likelihood.mean(out), m + s * out)
    standard = likelihood.standardize(x)
    torch.testing.assert_close(standard.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard.std(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    assert [name for name, _ in likelihood.named_parameters()] == (["raw_scale"] if scale == "learned" else [])


def test_learned_scale_begins_at_one_and_has_a_floor() -> None:
    likelihood = Normal((3,))
    torch.testing.assert_close(likelihood.scale, torch.ones(3))
    with torch.no_grad():
        likelihood.raw_scale.fill_(-50)
    torch.testing.assert_close(likelihood.scale, torch.full((3,), 0.05))


def test_a_constant_feature_keeps_its_units() -> None:
    likelihood = Normal((2,))
    likelihood.fit(torch.stack([torch.full((50,), 7.0), torch.randn(50)], 1))
    assert likelihood.spread[0] == 1
    torch.testing.assert_close(likelihood.standardize(torch.tensor([[7.0, 0.0]]))[0, 0], torch.tensor(0.0))


def test_images_and_series_have_one_unit_a_channel() -> None:
    x = torch.stack([torch.randn(30, 6), 10 + 5 * torch.randn(30, 6)], 1)
    likelihood = Normal((2, 6))
    likelihood.fit(x)
    assert likelihood.spread.shape == (2, 1)
    torch.testing.assert_close(likelihood.shift.flatten(), x.mean((0, 2)))
    assert likelihood(torch.zeros(30, 2, 6)).log_prob(x).shape == (30,)


@pytest.mark.parametrize("scale", [0, -1.0, "fixed"])
def test_scale_is_checked(scale: object) -> None:
    refused(lambda: Normal((2,), scale=scale), "scale", repr(scale), "learned")


def test_units_travel_with_the_state() -> None:
    likelihood, other = Normal((2,)), Normal((2,))
    likelihood.fit(5 + 3 * torch.randn(100, 2))
    other.load_state_dict(likelihood.state_dict())
    out: Tensor = torch.randn(4, 2)
    torch.testing.assert_close(other.mean(out), likelihood.mean(out), rtol=0, atol=0)
