"""Every likelihood by name: its probabilities, units, shapes, missing entries, and the values that it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from data_makers import refused
from scipy import stats
from torch import Tensor, nn

from pyro_ssvae import ClassLabels, create_model, fit
from pyro_ssvae.nn.likelihood_base import floored
from pyro_ssvae.nn.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Binomial,
    Likelihood,
    LikelihoodOptions,
    LogNormal,
    Mixed,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
    ZeroInflatedNegativeBinomial,
    default_likelihood,
    encoder_for,
    named_likelihood,
)

COLUMNS = ("normal", "categorical:3", "poisson", "bernoulli", "student-t", "zero-inflated-negative-binomial", "normal")
OPTIONS: dict[str, dict[str, Any]] = {"mixed": {"columns": COLUMNS}, "categorical": {"categories": 4}}


def data(name: str, n: int = 60, shape: tuple[int, ...] = (7,)) -> Tensor:
    """Values that suit a likelihood, one in five missing."""
    g = torch.Generator().manual_seed(1)
    draw = torch.rand(n, *shape, generator=g)
    x = {
        "binomial": (16 * draw).round() / 16, "discretized-logistic-mixture": (255 * draw).round() / 255,
        "poisson": (6 * draw).floor(), "categorical": (4 * draw).floor(), "normal": 20 * draw + 100,
    }  # fmt: skip
    x |= dict.fromkeys(("negative-binomial", "zero-inflated-negative-binomial"), x["poisson"])
    x |= dict.fromkeys(("laplace", "student-t"), x["normal"])
    x["zero-inflated-log-normal"] = torch.where(draw < 0.4, 0.0, 50 * draw)
    some = x.get(name, draw)
    if name == "mixed":
        some = torch.stack([draw[:, 0], *(d.floor() for d in (3 * draw[:, 1], 4 * draw[:, 2], 2 * draw[:, 3])),
                            draw[:, 4], (4 * draw[:, 5]).floor(), 50 + draw[:, 6]], 1)  # fmt: skip
    return torch.where(torch.rand(n, *shape, generator=g) < 0.2, torch.nan, some)


def made(name: str, shape: tuple[int, ...] = (7,), **options: Any) -> Likelihood:
    return named_likelihood(name, shape, LikelihoodOptions(**{**OPTIONS.get(name, {}), **options})).double()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_missing_entry_is_no_part_of_bound_units_or_gradient(name: str) -> None:
    likelihood, x = made(name), data(name).double()
    likelihood.fit(x)
    torch.manual_seed(0)
    out = torch.randn(60, *likelihood.decoder_shape, dtype=torch.float64, requires_grad=True)
    log_p = likelihood(out).log_prob(likelihood.target(x))
    # entry by entry: all others missing
    alone = torch.zeros(60, dtype=torch.float64)
    for i in range(7):
        only = torch.full_like(x, torch.nan)
        only[:, i] = x[:, i]
        alone = alone + likelihood(out).log_prob(only)
    torch.testing.assert_close(log_p, alone)
    assert bool((log_p.abs() > 0).all())
    parameters = [out, *likelihood.parameters()]
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(log_p.sum(), parameters))
    seen = likelihood.standardize(x)
    assert seen.shape[1:] == likelihood.encoder_shape
    assert bool(seen.isfinite().all())
    assert all(bool(value.isfinite().all()) for value in (likelihood.mean(out), likelihood(out).sample()))
    assert likelihood.mean(out).shape == likelihood(out).sample().shape == x.shape


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_are_finite_wherever_the_decoder_is(name: str) -> None:
    """In float32, of the log-probability and of the mean, which interventions are trained by."""
    likelihood = made(name).float()
    x = data(name)
    likelihood.fit(x)
    torch.manual_seed(0)
    for size in (1.0, 30.0, 100.0, 1000.0, 1e4):
        out = (size * torch.randn(60, *likelihood.decoder_shape)).requires_grad_()
        mean = likelihood(out).mean
        for value in (likelihood(out).log_prob(likelihood.target(x)).sum(), mean.sum() if mean.requires_grad else None):
            if value is not None and bool(value.isfinite()):
                (gradient,) = torch.autograd.grad(value, out)
                assert bool(gradient.isfinite().all()), (size, value)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_mean_is_that_of_draws_in_the_units_of_x(name: str) -> None:
    likelihood = made(name)
    likelihood.fit(data(name).double())
    torch.manual_seed(0)
    out = 0.5 * torch.randn(likelihood.decoder_shape, dtype=torch.float64)
    n = 8000
    fn = likelihood(out.expand(n, *out.shape))
    draws, mean = fn.sample(), likelihood.mean(out)
    numbers = [i for i in range(7) if name != "categorical" and not (name == "mixed" and i == 1)]
    error = (draws.mean(0) - mean).abs() - 5 * draws.std(0) / math.sqrt(n)
    # half a level, by which the mixture's mean may differ; Student's tails have moments of few draws
    slack = {"discretized-logistic-mixture": 0.5 / 255, "student-t": 0.5, "mixed": 0.1}.get(name, 0)
    assert bool((error[numbers] <= slack).all()), error
    assert bool(fn.log_prob(draws).isfinite().all())


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("shape", [(7,), (2, 6), (1, 4, 4)], ids=str)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_models_made_by_name_have_networks_that_fit(name: str, shape: tuple[int, ...], missing: bool) -> None:
    if name == "mixed" and len(shape) > 1:
        refused(lambda: create_model("vae", input_shape=shape, likelihood=name, columns=COLUMNS), "columns", "table")
        return
    model: Any = create_model(
        "vae", input_shape=shape, latent_dim=2, likelihood=name, missing=missing, **OPTIONS.get(name, {})
    )
    x = data(name, 12, shape)
    assert model.input_shape == shape
    assert model.recipe is not None
    assert tuple(model.likelihood.standardize(x).shape[1:]) == model.likelihood.encoder_shape
    model.likelihood.fit(x)
    assert bool(model.elbo(x).isfinite().all())
    assert model.reconstruct(x).shape == x.shape
    assert bool(model.generate(3).isfinite().all())


def test_the_mask_is_what_the_encoder_sees_beside_x() -> None:
    x = torch.tensor([[1.0, torch.nan], [3.0, 5.0]])
    likelihood = named_likelihood("normal", (2,), LikelihoodOptions(missing=True))
    likelihood.fit(x)
    torch.testing.assert_close(likelihood.standardize(x), torch.tensor([[-1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]]))
    images = named_likelihood("bernoulli", (1, 1, 2), LikelihoodOptions(missing=True))
    seen = images.standardize(torch.tensor([[[[0.3, torch.nan]]]]))
    torch.testing.assert_close(seen, torch.tensor([[[[0.3, 0.0]], [[1.0, 0.0]]]]))
    codes = made("categorical", (2,), categories=3)
    hot = codes.standardize(torch.tensor([[2.0, torch.nan], [0.0, 1.0]]).double())
    expected = [[0.0, 0, 0, 0, 1, 0], [1.0, 0, 0, 1, 0, 0]]  # code by code, its columns within
    torch.testing.assert_close(hot, torch.tensor(expected).double())


def test_counts_are_scipys() -> None:
    x = torch.tensor([[0.0, 3.0], [5.0, 1.0], [2.0, 0.0]]).double()
    rate = torch.tensor([[0.5, 2.0], [4.0, 0.3], [1.0, 1.0]]).double()
    poisson, binomial, inflated = (
        kind((2,)).double() for kind in (Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial)
    )
    log_p = poisson(rate.log()).log_prob(x)
    torch.testing.assert_close(log_p, torch.as_tensor(stats.poisson.logpmf(x, rate)).sum(-1))
    with torch.no_grad():
        for likelihood in (binomial, inflated):
            likelihood.raw_dispersion.copy_(torch.tensor([-1.0, 2.0]))
    theta = binomial.dispersion.detach()
    torch.testing.assert_close(theta, torch.tensor([-1.0, 2.0]).double().exp(), rtol=0.01, atol=2e-3)
    pmf = torch.as_tensor(stats.nbinom.pmf(x, theta, (theta / (theta + rate)).numpy()))
    torch.testing.assert_close(binomial(rate.log()).log_prob(x), pmf.log().sum(-1))
    torch.testing.assert_close(binomial.mean(rate.log()), rate)
    gate = torch.tensor([[0.3, -1.0]] * 3).double()
    mixed = gate.sigmoid() * (x == 0) + (1 - gate.sigmoid()) * pmf
    out = torch.cat([rate.log(), gate], -1)
    torch.testing.assert_close(inflated(out).log_prob(x), mixed.log().sum(-1))
    torch.testing.assert_close(inflated.mean(out), (1 - gate.sigmoid()) * rate)


def test_a_rows_size_scales_what_is_reconstructed() -> None:
    torch.manual_seed(0)
    x = torch.poisson(torch.tensor([[3.0], [30.0]]).repeat(20, 1) * torch.tensor([1.0, 2.0, 1.0]))
    model: Any = create_model("vae", input_shape=(3,), latent_dim=2, likelihood="poisson", library_size=True)
    model.likelihood.fit(x)
    found = model.reconstruct(x)
    # with a row's own size, sums differ from the data's by the decoder's beginning alone, a few tenths
    assert bool(((found.sum(1) / x.sum(1)).log().abs() < 1).all())
    assert found[1::2].sum() > 5 * found[::2].sum()


def test_student_t_is_scipys_and_its_units_ignore_outliers() -> None:
    x = torch.randn(1001, 1, generator=torch.Generator().manual_seed(0)).double() * 3 + 7
    x[:20] = 1e6
    likelihood = StudentT((1,)).double()
    likelihood.fit(x)
    assert abs(float(likelihood.shift) - 7) < 0.5
    assert abs(float(likelihood.spread) - 3) < 0.5
    out = torch.zeros(1001, 1).double()
    df, scale = likelihood.df.item(), (likelihood.spread * likelihood.scale).item()
    expected = stats.t.logpdf(x.numpy(), df, float(likelihood.shift), scale).sum(-1)
    torch.testing.assert_close(likelihood(out).log_prob(x), torch.as_tensor(expected))


@pytest.mark.parametrize("n", [1, 7, 16, 100, 255])
def test_grey_levels_are_found_in_the_data(n: int) -> None:
    x = torch.arange(n + 1).float() / n
    likelihood = Binomial((n + 1,))
    likelihood.fit(torch.stack([x, x.flip(0), torch.full_like(x, torch.nan)])[:2])
    assert float(likelihood.levels) == n
    likelihood.fit(torch.rand(5, n + 1))  # of no grid: 8 bits
    assert float(likelihood.levels) == 255


def test_binarized_pixels_stay_missing() -> None:
    target = Bernoulli((3,), binarize=True).target(torch.tensor([[0.5, torch.nan, 1.0]]))
    assert bool(target[0, 1].isnan())
    assert target[0, 0] in (0, 1)
    assert target[0, 2] == 1


def test_likelihoods_by_the_shape_of_a_point() -> None:
    found = [default_likelihood(shape) for shape in ((5,), (2, 16), (1, 8, 8), (1, 19, 40), (1, 20, 20), (3, 8, 8))]
    assert found == ["normal", "normal", "normal", "normal", "continuous-bernoulli", "bernoulli"]
    names, shapes = ("normal", "poisson", "binomial"), ((7,), (1, 4, 4))
    bytes_are_pixels = {name: [made(name, shape).takes_pixels for shape in shapes] for name in names}
    assert bytes_are_pixels == {"normal": [False, True], "poisson": [False, False], "binomial": [True, True]}
    assert made("mixed").codes == [COLUMNS.index("categorical:3")]


def test_levels_that_are_given_or_nearly_met() -> None:
    """A value may be 1e-4 of a level off; 0.5005 is 1e-3 of a half off, and of no grid of up to 255."""
    given = Binomial((3,), levels=16)
    given.fit(torch.tensor([[0.0, 0.2, 1.0]]))
    assert float(given.levels) == 16
    for value, levels in ((0.5 + 1e-6, 2), (0.5005, 255)):
        likelihood = Binomial((3,))
        likelihood.fit(torch.tensor([[0.0, value, 1.0]]))
        assert float(likelihood.levels) == levels


def test_a_range_is_that_of_the_values_that_are_there() -> None:
    refused(lambda: Bernoulli((3,)).fit(torch.tensor([[0.0, torch.nan, 255.0]])), "from 0 to 255")


# --- units


@pytest.mark.parametrize("library_size", [False, True])
def test_the_encoder_sees_the_standardised_logarithm_of_counts(library_size: bool) -> None:
    """``log(1 + x)`` or ``log(1 + x / ℓ)``, ℓ a row's mean over the median one; a constant column keeps its spread."""
    x = torch.poisson(torch.tensor([2.0, 9.0, 30.0]).double().expand(201, 3))
    x[:, 0] = torch.nan if library_size else 4.0
    x[0, 0] = 4.0
    likelihood = Poisson((3,), library_size=library_size).double()
    likelihood.take_units(x)
    size = x.nanmean(1, keepdim=True) / x.nanmean(1).median() if library_size else torch.ones(201, 1).double()
    seen = (x / size)[:, 1:].log1p()
    expected = (seen - seen.mean(0)) / seen.std(0, correction=0)
    found = likelihood.standardize(x)
    torch.testing.assert_close(found[:, 1:], expected)
    torch.testing.assert_close(found[:, 0], torch.zeros(201).double())
    assert bool(likelihood.standardize(x - 50).isfinite().all()), "noise may take a count below 0"
    if not library_size:
        torch.testing.assert_close(likelihood.log_rate(torch.tensor([0.0, 1e4, -1e4]).double()).exp(),
                                   torch.tensor([4.0, math.exp(30), math.exp(-30)]).double())  # fmt: skip


@pytest.mark.parametrize("shape", [(2,), (2, 5)])
def test_a_feature_without_counts_has_half_a_count_in_all(shape: tuple[int, ...]) -> None:
    x = torch.zeros(10, *shape)
    x[:, 1] = 3.0
    likelihood = Poisson(shape)
    likelihood.take_units(x)
    n = x[:, 0].numel()
    torch.testing.assert_close(likelihood.log_mean.flatten().exp(), torch.tensor([0.5 / n, 3.0]))


def test_an_ordinary_row_is_one_with_counts_where_most_are_empty() -> None:
    """All rows are of size 1 then: those without counts count as ordinary."""
    x = torch.zeros(9, 2).double()
    x[:4] = torch.tensor([1.0, 3.0]).double()
    likelihood = Poisson((2,), library_size=True).double()
    likelihood.fit(x)
    found = likelihood(torch.zeros(9, 2).double()).log_prob(x)
    expected = torch.as_tensor(stats.poisson.logpmf(x.numpy(), [4 / 9, 12 / 9])).sum(-1)
    torch.testing.assert_close(found, expected)
    likelihood.fit(torch.zeros(9, 2).double())
    assert float(likelihood.size) == 1


def test_units_of_columns_that_are_mostly_one_value() -> None:
    """An interquartile range of 0 gives way to the standard deviation, and rounding is no spread."""
    x = torch.zeros(100, 1).double()
    x[:10] = 5.0
    tails = StudentT((1,)).double()
    tails.fit(x)
    assert float(tails.shift) == 0
    assert float(tails.spread) == pytest.approx(5 * (0.1 * 0.9) ** 0.5)
    constant = Normal((1,)).double()
    constant.fit(torch.full((50, 1), 123.456, dtype=torch.float64))
    assert float(constant.spread) == 1


def test_quantiles_of_many_rows_are_of_rows_evenly_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted ones, of which the first hundred say little."""
    monkeypatch.setattr("pyro_ssvae.nn.reals.MOST_SORTED", 100)
    x = torch.arange(1.0, 1001.0).unsqueeze(1)
    tails, skewed = StudentT((1,)), LogNormal((1,))
    for likelihood in (tails, skewed):
        likelihood.fit(x)
    assert float(tails.shift) == pytest.approx(500, abs=10)  # steps of ten
    assert float(tails.spread) == pytest.approx(500 / 1.349, abs=20)
    assert float(skewed.least) == pytest.approx(50, abs=10)


def test_the_shift_of_a_log_normal_is_a_twentieth_of_its_positive_values() -> None:
    x = torch.cat([torch.zeros(60), torch.arange(1.0, 102.0)]).unsqueeze(1)
    likelihood = LogNormal((1,))
    likelihood.fit(x)
    assert float(likelihood.least) == 6
    assert bool(likelihood.standardize(x - 20).isfinite().all()), "noise may take a value below 0"


# --- scales


def test_a_scale_at_its_floor_rises_again_and_falls_no_further() -> None:
    value = torch.tensor([0.01, 0.01, 0.5, 0.5], requires_grad=True)
    found = floored(value, 0.05)
    torch.testing.assert_close(found.detach(), torch.tensor([0.05, 0.05, 0.5, 0.5]))
    (gradient,) = torch.autograd.grad((found * torch.tensor([1.0, -1.0, 1.0, -1.0])).sum(), value)
    torch.testing.assert_close(gradient, torch.tensor([0.0, -1.0, 1.0, -1.0]))


@pytest.mark.parametrize("kind", ["normal", "laplace", "student-t"])
def test_a_feature_that_was_constant_gets_its_scale_back(kind: str) -> None:
    likelihood: Any = named_likelihood(kind, (1,))
    likelihood.fit(torch.full((10, 1), 3.0))
    for x, goal in ((torch.full((10, 1), 3.0), 0.05), (3 + torch.tensor([[-2.0], [2.0]] * 5), 0.5)):
        optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05, betas=(0.9, 0.99))
        for _ in range(300):
            optimizer.zero_grad()
            (-likelihood(torch.zeros(10, 1)).log_prob(x).sum()).backward()
            optimizer.step()
        scale = float(likelihood.scale)
        assert scale == pytest.approx(0.05) if goal == 0.05 else scale > goal, scale


def test_a_column_of_large_numbers_leaves_the_others_their_units() -> None:
    x = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    likelihood = Normal((2,))
    likelihood.fit(torch.cat([0.01 * x, 1.7e9 + 1e6 * x], 1))
    assert float(likelihood.spread[0]) == pytest.approx(0.01, rel=0.1)
    assert float(likelihood.spread[1]) == pytest.approx(1e6, rel=0.1)


# --- bad input


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("poisson", -1.0, ["row 2, column 1 is -1", "counts", "whole numbers"]),
        ("negative-binomial", 1.5, ["row 2, column 1 is 1.5", "counts"]),
        ("zero-inflated-negative-binomial", 0.1, ["row 2, column 1", "counts"]),
        ("bernoulli", 2.0, ["row 2, column 1 is 2", "[0, 1]", "normal"]),
        ("binomial", -0.1, ["row 2, column 1 is -0.1", "[0, 1]"]),
        ("continuous-bernoulli", 255.0, ["row 2, column 1 is 255", "[0, 1]"]),
        ("discretized-logistic-mixture", 3.0, ["row 2, column 1", "[0, 1]"]),
        ("categorical", 4.0, ["row 2, column 1 is 4", "from 0 to 3"]),
        ("categorical", -1.0, ["row 2, column 1 is -1", "from 0 to 3"]),
        ("categorical", 0.5, ["row 2, column 1 is 0.5", "from 0 to 3"]),
        ("mixed", 3.0, ["row 2, column 1 is 3", "from 0 to 2"]),
        ("normal", math.inf, ["row 2, column 1 is inf", "NaN where"]),
        ("normal", -math.inf, ["row 2, column 1 is -inf", "NaN where"]),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "elbo"])
def test_values_outside_the_support_are_named(name: str, value: float, words: list[str], verb: str) -> None:
    model: Any = create_model("vae", input_shape=(7,), latent_dim=2, likelihood=name, **OPTIONS.get(name, {}))
    x = data(name, 8)
    x[2, 1] = value
    refused(lambda: fit(model, x, progress=False) if verb == "fit" else model.elbo(x), *words)


def test_wrong_values_are_named_by_the_column_of_the_table() -> None:
    x = data("mixed", 8)
    for column, value, words in ((2, -1.0, "counts"), (3, 0.5, None), (5, 0.5, "counts"), (6, math.inf, "finite")):
        wrong = x.clone()
        wrong[4, column] = value
        if words is None:
            made("mixed").check(wrong)
        else:
            refused(lambda wrong=wrong: made("mixed").check(wrong), f"row 4, column {column}", words)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_new_points_may_lack_a_column_altogether(name: str) -> None:
    likelihood, x = made(name, missing=True), data(name).double()
    likelihood.fit(x)
    for column in range(x.shape[1]):
        some = x[~x.isnan().any(1)][:1].clone()
        some[:, column] = torch.nan
        likelihood.check(some)
        assert likelihood.standardize(some).isfinite().all()


def test_rows_and_columns_without_any_value_are_named() -> None:
    model: Any = create_model("vae", input_shape=(3,), latent_dim=2)
    x = torch.randn(6, 3)
    x[4] = torch.nan
    refused(lambda: fit(model, x, progress=False), "row 4", "no value")
    refused(lambda: model.encode(x), "row 4", "no value")
    x = torch.randn(6, 3)
    x[:, 2] = torch.nan
    refused(lambda: fit(model, x, progress=False), "column 2", "no value")
    images = torch.rand(4, 2, 3, 3)
    images[:, 1] = torch.nan
    pictures = create_model("vae", input_shape=(2, 3, 3), latent_dim=2)
    refused(lambda: fit(pictures, images, progress=False), "channel 1", "no value")
    images[:, 1], images[1, 0, 2, 1] = 0.5, -1.0
    refused(lambda: fit(pictures, images, progress=False), "row 1, entry [0, 2, 1] is -1")


def test_binomial_columns_have_levels_of_their_own() -> None:
    """Fifths and quarters: as one module they would all be of twentieths."""
    generator = torch.Generator().manual_seed(0)
    n = torch.tensor([5.0, 4.0, 5.0]).double()
    k = (torch.rand(40, 3, generator=generator).double() * (n + 1)).floor()
    x = torch.stack([k[:, 0] / 5, torch.randn(40, generator=generator).double(), k[:, 1] / 4, k[:, 2] / 5], 1)
    table = Mixed((4,), columns=("binomial", "normal", "binomial", "binomial")).double()
    table.fit(x)
    out = torch.randn(40, 4, generator=generator).double()
    p = out[:, [0, 2, 3]].sigmoid().numpy()
    expected = torch.as_tensor(stats.binom.logpmf(k.numpy(), n.numpy(), p).sum(1))
    mean, sd = x[:, 1].mean(), x[:, 1].std(unbiased=False)
    expected += torch.as_tensor(stats.norm.logpdf(x[:, 1], mean + sd * out[:, 1], sd))
    torch.testing.assert_close(table(out).log_prob(x), expected)
    assert bool(table(out).support.check(x).all())


def test_small_integers_are_counts_and_not_pixels() -> None:
    x = torch.randint(0, 5, (20, 3), dtype=torch.uint8)
    counts: Any = create_model("vae", input_shape=(3,), latent_dim=2, likelihood="poisson")
    fit(counts, x, epochs=1, progress=False)
    torch.testing.assert_close(counts.likelihood.log_mean.exp(), x.double().mean(0).float())
    assert torch.equal(counts.inputs(x), x.float())
    torch.manual_seed(0)
    first = counts.elbo(x)
    torch.manual_seed(0)
    torch.testing.assert_close(counts.elbo(x.float()), first)
    pixels: Any = create_model("vae", input_shape=(3,), latent_dim=2, likelihood="binomial")
    assert torch.equal(pixels.inputs(x), x.float() / 255)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"likelihood": "categorical"}, ["categories: None", "at least 2"]),
        ({"likelihood": "categorical", "categories": 1}, ["categories: 1", "at least 2"]),
        ({"likelihood": "poisson", "categories": 3}, ["categories", "poisson", "leave it out"]),
        ({"likelihood": "normal", "columns": ("normal",) * 3}, ["columns", "normal"]),
        ({"library_size": True}, ["library_size", "normal"]),
        ({"columns": ("normal", "normal")}, ["columns: 2", "[3]"]),
        ({"columns": ("normal", "normal", "norml")}, ["columns", "norml", "did you mean 'normal'"]),
        ({"columns": ("normal", "normal", "categorical")}, ["categorical:3"]),
        ({"columns": ("normal", "normal", "categorical:1")}, ["'categorical:1'", "number of values"]),
        ({"columns": ("normal", "normal", "categorical:²")}, ["'categorical:²'", "number of values"]),
        ({"columns": ("normal", "normal", "normal:3")}, ["normal:3", "alone"]),
    ],
)
def test_options_of_other_likelihoods_are_refused(options: dict[str, Any], words: list[str]) -> None:
    refused(lambda: create_model("vae", input_shape=(3,), latent_dim=2, **options), *words)


# --- networks of one's own


def test_own_networks_are_checked_against_the_shapes() -> None:
    from pyro_ssvae import VAE

    encoder = nn.Linear(3, 4)
    model = VAE(encoder, nn.Linear(2, 6), latent_dim=2, likelihood="zero-inflated-negative-binomial")
    assert model.input_shape == (3,)
    wrong = nn.Linear(2, 5)
    refused(lambda: VAE(encoder, wrong, latent_dim=2, likelihood="zero-inflated-negative-binomial"), "[5]", "2 numbers")
    refused(lambda: VAE(encoder, wrong, latent_dim=2, columns=("normal", "categorical:3")), "decoder", "[5]", "[4]")
    refused(lambda: VAE(encoder, wrong, latent_dim=2, likelihood=Normal((3,))), "decoder", "[5]", "[3]")
    refused(lambda: VAE(encoder, nn.Linear(2, 3), latent_dim=2, missing=True), "encoder", "[B, 6]", "mask")
    refused(lambda: VAE(encoder, nn.Linear(2, 3), latent_dim=2, likelihood=nn.Identity()), "Identity", "standardize")
    encoder, out = encoder_for("mixed", (3,), LikelihoodOptions(columns=("normal", "categorical:3", "normal")))
    seen = torch.randn(4, 5)
    assert out == (5,)
    assert torch.equal(encoder(seen)[:, 128:], seen)  # the cells themselves, beside two layers' features


def test_parts_that_their_owner_froze_stay_in_evaluation_mode() -> None:
    from pyro_ssvae import VAE

    encoder = nn.Sequential(nn.BatchNorm1d(6).eval(), nn.Linear(6, 4))
    decoder = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3).eval())
    modes = [part.training for part in (*encoder, *decoder)]
    VAE(encoder, decoder, latent_dim=2, missing=True)
    assert [part.training for part in (*encoder, *decoder)] == modes


def test_the_options_are_saved_and_loaded(tmp_path: Any) -> None:
    import pyro_ssvae as ps

    x = data("mixed", 20)
    model: Any = create_model(
        "m2", input_shape=(7,), labels=ClassLabels(2), latent_dim=2, columns=COLUMNS, missing=True
    )
    fit(model, x, torch.randint(-1, 2, (20,)), epochs=1, progress=False)
    ps.save(model, tmp_path)
    other: Any = ps.load(tmp_path)
    assert isinstance(other.likelihood, Mixed)
    torch.testing.assert_close(other.predict_proba(x), model.predict_proba(x), rtol=0, atol=0)


def test_an_ordinary_row_is_the_median_one() -> None:
    """One row of very many counts makes no other row a small one; its own rates are relative to its size."""
    like = Poisson((2,), library_size=True)
    x = torch.tensor([[1.0, 3.0], [2.0, 2.0], [90.0, 10.0]])
    like.take_units(x)
    assert float(like.size) == 2
    relative = torch.tensor([[1.0, 3.0], [2.0, 2.0], [3.6, 0.4]])
    torch.testing.assert_close(like.log_mean, relative.mean(0).log())


@pytest.mark.parametrize("kind", [NegativeBinomial, ZeroInflatedNegativeBinomial])
def test_a_dispersion_is_from_a_thousandth_to_a_thousand(kind: type[NegativeBinomial]) -> None:
    like = kind((3,))
    with torch.no_grad():
        like.raw_dispersion.copy_(torch.tensor([-100.0, 0.0, 100.0]))
    torch.testing.assert_close(like.dispersion, torch.tensor([1e-3, 1.0, 1000.0]), rtol=2e-3, atol=0)


def test_degrees_of_freedom_leave_a_mean() -> None:
    like = StudentT((2,))
    with torch.no_grad():
        like.raw_df.copy_(torch.tensor([-100.0, 4.0]))
    torch.testing.assert_close(like.df, torch.tensor([1.1, 1.1 + math.log1p(math.exp(4.0))]))


def test_logistics_begin_evenly_and_narrow() -> None:
    """About a twentieth of the range wide; four such widths lie between neighbours."""
    fn: Any = named_likelihood("discretized-logistic-mixture", (2,), LikelihoodOptions())(torch.zeros(1, 30)).base_dist
    torch.testing.assert_close(fn.loc[0, 0], torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    torch.testing.assert_close(fn.scale[0, 0], torch.full((5,), 2e-4 + math.log1p(math.exp(-3.0))))
