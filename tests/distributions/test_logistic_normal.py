"""log E[σ(t)] of a normal t against SciPy's adaptive quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from pyro_ssvae.distributions.logistic_normal import WIDE, log_sigmoid_normal

# In standard deviations; at the last the label has a probability of about 1e-15.
PLACES = (0.0, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0)


def reference(loc: float, scale: float) -> float:
    """The integrand's largest value taken out, so that tiny probabilities keep their digits."""

    def log_f(u: float | np.ndarray) -> float | np.ndarray:
        return -0.5 * u * u - 0.5 * math.log(2 * math.pi) - np.logaddexp(0, -(loc + scale * u))

    u = np.linspace(-5, scale + 5, 20001)
    mode = u[np.argmax(log_f(u))]
    top = log_f(mode)
    f = integrate.quad(lambda v: math.exp(log_f(v) - top), mode - 12, mode + 12, points=[mode], limit=500)[0]
    return math.log(f) + float(top)


def at(loc: float, scale: float, dtype: torch.dtype = torch.float64) -> float:
    return log_sigmoid_normal(torch.tensor(loc, dtype=dtype), torch.tensor(scale, dtype=dtype)).item()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 3.0, 6.0, 10.0, 15.0, 25.0, WIDE, WIDE + 0.01, 60.0, 300.0])
def test_within_a_thousandth_of_a_nat(scale: float, dtype: torch.dtype) -> None:
    for place in PLACES:
        for loc in (place * max(scale, 1), -place * max(scale, 1)):
            expected = reference(loc, scale)
            rounding = 0 if dtype == torch.float64 else 1e-6 * (1 + abs(expected) + scale)
            assert abs(at(loc, scale, dtype) - expected) < 1e-3 + rounding, (loc, scale)


def test_a_sure_and_wrong_encoder_is_as_improbable_as_it_is() -> None:
    """Far out, where the integrand's mass lies beyond ten standard deviations of t."""
    for loc, scale in ((-120.0, 10.0), (-300.0, 25.0), (-500.0, 3.0), (-1000.0, 20.0)):
        assert at(loc, scale) == pytest.approx(reference(loc, scale), abs=1e-3)


def test_the_two_values_sum_to_one() -> None:
    loc = torch.linspace(-30, 30, 61, dtype=torch.float64)
    for scale in (0.01, 1.0, 6.0, 25.0, 100.0):
        spread = torch.full_like(loc, scale)
        total = torch.logaddexp(log_sigmoid_normal(loc, spread), log_sigmoid_normal(-loc, spread))
        assert total.abs().max() < 1e-5


def test_no_spread_is_the_sigmoid_and_the_switch_does_not_jump() -> None:
    for loc in (-50.0, -1.0, 0.0, 3.0):
        assert at(loc, 1e-6) == pytest.approx(-math.log1p(math.exp(-loc)), abs=1e-6)
    for place in PLACES:
        for loc in (-place * WIDE, place * WIDE):
            assert at(loc, WIDE) == pytest.approx(at(loc, WIDE + 1e-6), abs=1.5e-3)


def test_gradients_are_those_of_differences() -> None:
    loc = torch.tensor([-200.0, -20.0, -3.0, 0.0, 1.0, 15.0], dtype=torch.float64)
    for scale in (0.2, 1.0, 5.0, 20.0, 80.0):
        inputs = (loc.clone().requires_grad_(), torch.full_like(loc, scale).requires_grad_())
        assert torch.autograd.gradcheck(log_sigmoid_normal, inputs, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values_and_gradients_stay_finite(dtype: torch.dtype) -> None:
    places = [0.0, 1e-30, 1e-3, 1.0, 40.0, 1e3, 1e5]
    grid = torch.tensor([[sign * loc, s] for sign in (-1, 1) for loc in places for s in (0.0, 1e-8, *places[2:])])
    loc, scale = (grid[:, i].to(dtype).requires_grad_() for i in range(2))
    value = log_sigmoid_normal(loc, scale)
    assert value.dtype == dtype
    assert torch.isfinite(value).all()
    assert (value <= 1e-6).all()
    value.sum().backward()
    assert torch.isfinite(loc.grad).all()
    assert torch.isfinite(scale.grad).all()
    assert (loc.grad >= 0).all()


def test_shapes_broadcast() -> None:
    assert log_sigmoid_normal(torch.zeros(3, 4), torch.ones(3, 4)).shape == (3, 4)
    assert log_sigmoid_normal(torch.zeros(3, 1), torch.ones(4)).shape == (3, 4)
