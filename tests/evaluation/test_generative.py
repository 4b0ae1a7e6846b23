"""Metrics of the generative half: units, supports, intervals."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binomtest
from tiny import make, points

from pyro_ssvae import AttributeLabels, create_model, evaluate
from pyro_ssvae.cli.tables import show_metrics
from pyro_ssvae.evaluation.bootstrap import wilson
from pyro_ssvae.evaluation.generative import reconstruction_error, support_of
from pyro_ssvae.evaluation.metrics import attribute_metrics

SHAPE = (1, 3, 3)


def test_the_interval_is_wilsons() -> None:
    z2 = 1.959964**2
    for right, n in ((0, 5), (7, 9), (96, 100), (450, 450)):
        p = right / n
        centre, half = p + z2 / (2 * n), math.sqrt(z2 * p * (1 - p) / n + (z2 / (2 * n)) ** 2)
        assert wilson(right, n) == pytest.approx([(centre + s * half) / (1 + z2 / n) for s in (-1, 1)], abs=1e-7)


def test_the_interval_over_attributes_covers_the_mean_and_narrows() -> None:
    generator = torch.Generator().manual_seed(0)
    names = ["a", "b"]
    width = []
    for n in (100, 1600):
        y = torch.randint(2, (n, 2), generator=generator)
        probs = (y - 0.3 * torch.rand(n, 2, generator=generator) * 3).abs().clamp(0, 1)
        found = attribute_metrics(probs, y, names)
        assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
        width.append(found["accuracy_high"] - found["accuracy_low"])
    assert 2.5 < width[0] / width[1] < 6  # 4 in expectation


def test_grey_pixels_under_a_bernoulli_have_no_density(capsys: pytest.CaptureFixture[str]) -> None:
    grey = points(20, SHAPE)
    model = make("vae", input_shape=SHAPE, likelihood="bernoulli").float().eval()
    found = evaluate(model, grey)
    assert found["density"] is False
    assert "elbo_per_dimension" not in found
    for shape, values in (((1, 3, 3), "pixels"), ((9,), "values"), ((3, 3), "values")):
        show_metrics("test", {"vae": found}, shape)
        out = " ".join(capsys.readouterr().out.split())
        assert f"bound with relaxed {values}, no density" in out
        assert f"reconstruction with relaxed {values}" in out
        assert "ELBO" not in out
    black = evaluate(model, grey.round())
    assert black["density"] is True
    assert black["elbo_per_dimension"] == pytest.approx(black["elbo"] / 9)
    show_metrics("test", {"vae": black})
    assert "ELBO (nats a point)" in capsys.readouterr().out
    model.likelihood.binarize = True
    assert evaluate(model, grey)["density"] is True


def test_shares_under_a_bernoulli_column_have_no_density() -> None:
    x = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    x[:, 2] = x[:, 2].round()
    x[4, 0] = torch.nan
    for columns, density in ((("normal", "bernoulli", "bernoulli"), False), (("normal", "normal", "bernoulli"), True)):
        model = create_model("vae", input_shape=(3,), columns=columns, missing=True, latent_dim=2)
        model.prepare(x, torch.full((20,), -1))
        assert evaluate(model.eval(), x, num_samples=2)["density"] is density


def test_bits_are_of_bytes_and_of_densities() -> None:
    pixels = (255 * points(20, SHAPE)).round().to(torch.uint8)
    normal = make("vae", input_shape=SHAPE, likelihood="normal").float().eval()
    found = evaluate(normal, pixels)
    assert found["bits_per_dimension"] == pytest.approx(8 - found["elbo"] / 9 / math.log(2))
    assert "bits_per_dimension" not in evaluate(normal, pixels / 255)
    bernoulli = make("vae", input_shape=SHAPE, likelihood="bernoulli").float().eval()
    black = evaluate(bernoulli, 255 * (pixels > 127).to(torch.uint8))
    assert black["bits_per_dimension"] == pytest.approx(-black["elbo"] / 9 / math.log(2))
    assert support_of(bernoulli, pixels / 255, seed=0) == (False, True)


@pytest.mark.parametrize("likelihood", ["binomial", "discretized-logistic-mixture"])
def test_bits_of_levels_are_of_their_probability(likelihood: str) -> None:
    """``log p`` is of one of 256 levels already; nothing of their width is left to add."""
    pixels = torch.randint(0, 256, (20, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    vae = create_model("vae", input_shape=SHAPE, likelihood=likelihood, latent_dim=2)
    vae.prepare(pixels, torch.full((20,), -1))
    found = evaluate(vae.eval(), pixels)
    assert found["density"] is True
    assert found["bits_per_dimension"] == pytest.approx(-found["elbo"] / 9 / math.log(2))
    between = (pixels.float() + 0.3).clamp_max(255) / 255
    assert evaluate(vae, between)["density"] is False  # no level has that value


def test_one_grey_point_at_the_end_is_seen() -> None:
    """A thousand rows, the most that are looked at at once, are black and white."""
    x = points(1200, SHAPE).round()
    x[-1, 0, 0, 0] = 0.5
    vae = make("vae", input_shape=SHAPE, likelihood="bernoulli").float().eval()
    for rows, density in ((x, False), (x[:-1], True)):
        assert evaluate(vae, rows, num_samples=1, likelihood_rows=10)["density"] is density


@pytest.mark.parametrize("shape", [(5,), SHAPE])
def test_missing_values_are_no_dimensions(shape: tuple[int, ...]) -> None:
    """With x_j = N(0, 1) whatever z, a value is worth ``-(ln 2π + x²) / 2``, however many are missing."""
    vae = make("vae", input_shape=shape, likelihood="normal").double().eval()

    def nothing(z: torch.Tensor, *more: object) -> torch.Tensor:
        return z.new_zeros(*z.shape[:-1], *shape)

    vae.decoder.forward = nothing
    x = torch.randn(300, *shape, dtype=torch.double)
    missing = torch.rand(x.shape) < 0.5
    missing.flatten(1)[:, 0] = False
    gaps = x.masked_fill(missing, math.nan)
    found = evaluate(vae, gaps)
    values = (~missing).sum().item() / len(x)
    assert found["elbo_per_dimension"] == pytest.approx(found["elbo"] / values, rel=1e-9)
    exact = float(vae.likelihood(nothing(torch.zeros(1, 1).double())).base_dist.log_prob(x)[~missing].mean())
    assert found["reconstruction"] / values == pytest.approx(exact, rel=1e-6)


def test_the_parts_of_the_bound_add_up() -> None:
    found = evaluate(make("m2").float().eval(), points(40))
    assert found["elbo"] == pytest.approx(found["reconstruction"] - found["kl"], rel=1e-6)
    assert found["latent_units"] == 2
    assert 0 <= found["active_units"] <= 2
    assert 0 < found["mutual_information"] <= math.log(found["mutual_information_rows"]) + 1e-6
    assert found["mutual_information_rows"] == 40
    alone = evaluate(make("vae").float().eval(), points(1))
    assert "active_units" not in alone


def test_errors_of_features_are_in_their_own_units() -> None:
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    x_hat = x + 0.5 * x.std(0, correction=0) * torch.tensor([1.0, -1.0, 1.0])
    scale = torch.tensor([1.0, 1e6, 1e-6])
    assert reconstruction_error(x, x_hat) == pytest.approx(0.25, rel=1e-5)
    assert reconstruction_error(scale * x, scale * x_hat) == pytest.approx(0.25, rel=1e-5)
    mean = x.mean(0).expand_as(x)
    assert reconstruction_error(x, mean) == pytest.approx(1.0, rel=1e-5)
    constant = torch.cat([x[:, :1], torch.ones(200, 1)], 1)
    assert reconstruction_error(constant, constant + 0.1) < 0.05  # (0.1² / 1 + 0.1² / var) / 2
    rounded = torch.cat([x[:, :1], torch.full((200, 1), 1e6)], 1).double()
    rounded[::2, 1] += 1e-9 * 1e6  # what is left of a constant's rounding is no unit
    found = reconstruction_error(rounded, rounded + torch.tensor([0.0, 0.1], dtype=torch.double))
    assert found == pytest.approx(0.1**2 / 2, rel=1e-6)
    far = x.double() + 1e6  # a millionth of its size is a spread
    assert reconstruction_error(far, far.mean(0).expand_as(far)) == pytest.approx(1.0)
    series = torch.randn(20, 2, 50)
    assert reconstruction_error(series, series.mean((0, 2), keepdim=True).expand_as(series)) == pytest.approx(1.0)
    pictures = points(4, SHAPE)
    assert reconstruction_error(pictures, pictures + 0.1) == pytest.approx(0.01)


def test_missing_values_have_no_error() -> None:
    x = torch.randn(50, 2)
    x_hat, missing = torch.zeros(50, 2), x.clone()
    missing[:25, 0] = math.nan
    half = reconstruction_error(missing, x_hat)
    kept = [x[25:, 0], x[:, 1]]
    each = torch.cat([part.square() / part.var(correction=0) for part in kept])
    assert half == pytest.approx(float(each.mean()), rel=1e-5)
    assert math.isnan(reconstruction_error(x, torch.full((50, 2), math.nan)))


def test_attributes_that_are_all_right_have_the_interval_of_rows_that_are() -> None:
    """A bootstrap of them said 1 to 1."""
    y = torch.full((8, 1), -1)
    y[:4] = 1
    for p, right in ((0.9, 4), (0.1, 0)):
        found = attribute_metrics(torch.full((8, 1), p), y, AttributeLabels(["a"]).names)
        expected = binomtest(right, 4).proportion_ci(0.95, method="wilson")
        assert (found["accuracy_low"], found["accuracy_high"]) == pytest.approx((expected.low, expected.high), abs=1e-7)
    found = attribute_metrics(torch.full((8, 1), 0.9), torch.full((8, 1), -1), AttributeLabels(["a"]).names)
    assert (found["accuracy_low"], found["accuracy_high"]) == (None, None)
