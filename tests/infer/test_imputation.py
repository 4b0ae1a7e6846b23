"""Missing entries of x: bounds on log p(x_obs, y), and what is filled in, against integrals and closed forms."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae.distributions.observed import entrywise
from pyro_ssvae.nn.likelihoods import LIKELIHOODS, Normal

COLUMNS = ("normal", "categorical:3", "poisson")
OPTIONS: dict[str, dict[str, Any]] = {"mixed": {"columns": COLUMNS}, "categorical": {"categories": 3}}
NAN = torch.nan


def one_dimensional(name: str) -> Any:
    """A VAE of three entries with a latent of one dimension, in double precision."""
    torch.manual_seed(0)
    return ps.create_model(
        "vae", input_shape=(3,), latent_dim=1, likelihood=name, missing=True, **OPTIONS.get(name, {})
    ).double().eval()  # fmt: skip


def gaps(name: str) -> Tensor:
    """Four rows that suit a likelihood: whole, and with one or two entries missing."""
    x = torch.tensor([[0.2, 0.9, 0.4], [0.6, 0.1, 0.7], [0.0, 1.0, 0.5], [0.3, 0.8, 0.2]]).double()
    if name in ("poisson", "negative-binomial", "zero-inflated-negative-binomial", "categorical", "mixed"):
        x = (3 * x).floor().clamp_max(2)
    x[1, 1] = x[2, 0] = x[2, 2] = x[3, 2] = NAN
    return x


def log_p(model: Any, x: Tensor) -> Tensor:
    """log p(x_obs) by the trapezoidal rule over z."""
    z = torch.linspace(-9, 9, 4001).double().reshape(-1, 1, 1)
    with torch.no_grad():
        fn = model.likelihood(model.decoder(z.expand(-1, len(x), 1), None))
        terms = fn.log_prob(x) + dist.Normal(0.0, 1.0).log_prob(z).squeeze(-1)
    return terms.logsumexp(0) + torch.tensor(18 / 4000).log()


def test_a_mean_that_is_no_number_is_refused() -> None:
    class Heavy(ps.VAE):
        def p_x(self, out: Tensor) -> dist.TorchDistribution:
            return entrywise(dist.Cauchy(out, torch.ones_like(out)).to_event(1))

    class Levels(ps.VAE):
        def p_x(self, out: Tensor) -> dist.TorchDistribution:
            return entrywise(dist.Categorical(logits=torch.stack([out, -out], -1)).to_event(1))

    x = torch.tensor([[0.0, 1.0, NAN], [1.0, 0.0, 1.0]])
    for kind in (Heavy, Levels):
        vae = kind.default((3,), None, latent_dim=1)
        refused(lambda vae=vae: ps.impute(vae, x), f"the mean of a {'Cauchy' if kind is Heavy else 'Categorical'}")
        refused(lambda vae=vae: vae.reconstruct(x), "has no mean to show")
        refused(lambda vae=vae: vae.generate(2), "has no mean to show")
        assert ps.impute(vae, x, draws=True).isfinite().all()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_bounds_of_the_observed_entries_are_below_their_integral(name: str) -> None:
    model, x = one_dimensional(name), gaps(name)
    exact = log_p(model, x)
    torch.manual_seed(1)
    draws = torch.stack([model.elbo(x) for _ in range(60)])
    elbo, error = draws.mean(0), 4 * draws.std(0) / 60**0.5
    tight = model.log_likelihood(x, num_samples=2000)
    assert bool((elbo <= exact + error).all())
    assert bool((elbo < tight + error).all())
    torch.testing.assert_close(tight, exact, rtol=0, atol=0.1)


def test_a_bound_with_missing_entries_is_that_of_the_model_without_their_columns() -> None:
    model = one_dimensional("normal")
    x = torch.tensor([[0.2, NAN, 0.4], [0.6, NAN, 0.7]]).double()

    class Marginal(nn.Module):
        """The pair of columns 0 and 2 alone."""

        def model(self, two: Tensor, y: object = None) -> None:
            with pyro.plate("data", len(two)):
                z = pyro.sample("z", dist.Normal(two.new_zeros(1), two.new_ones(1)).to_event(1))
                fn = model.likelihood(model.decoder(z, None)).base_dist
                pyro.sample("x", dist.Normal(fn.loc[..., [0, 2]], fn.scale[..., [0, 2]]).to_event(1), obs=two)

        def guide(self, two: Tensor, y: object = None) -> None:
            with pyro.plate("data", len(two)):
                both = torch.stack([two[:, 0], torch.full_like(two[:, 0], NAN), two[:, 1]], 1)
                pyro.sample("z", model.q_z(both))

    torch.manual_seed(3)
    found = ps.elbo(model, x, num_samples=5)
    torch.manual_seed(3)
    expected = ps.elbo(Marginal().double(), x[:, [0, 2]], num_samples=5)
    torch.testing.assert_close(found, expected)


class Linear(nn.Module):
    """``x = W z + b + noise``, z of one dimension, as the decoder of a VAE with a Normal of fixed scale."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, -1.0]))

    def forward(self, z: Tensor, c: object = None) -> Tensor:
        return z * self.weight + 0.5


def linear() -> Any:
    torch.manual_seed(0)
    return ps.VAE(nn.Linear(3, 4), Linear(), latent_dim=1, likelihood=Normal((3,), scale=0.5)).double().eval()


def conditional(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the missing entries of ``x [3]`` under the joint Gaussian, NaN elsewhere."""
    w = torch.tensor([1.0, 2.0, -1.0]).double()
    cov = w.outer(w) + 0.25 * torch.eye(3).double()
    o, m = (~x.isnan()).nonzero().squeeze(-1), x.isnan().nonzero().squeeze(-1)
    gain = torch.linalg.solve(cov[o][:, o], cov[o][:, m]).T
    mean, var = torch.full_like(x, NAN), torch.full_like(x, NAN)
    mean[m] = 0.5 + gain @ (x[o] - 0.5)
    var[m] = (cov[m][:, m] - gain @ cov[o][:, m]).diagonal()
    return mean, var


def test_imputed_means_and_draws_are_those_of_the_conditional_distribution() -> None:
    model = linear()
    x = torch.tensor([[1.2, NAN, 0.1], [NAN, -0.8, NAN], [0.3, 0.4, 0.5]]).double()
    found = ps.impute(model, x, num_samples=1500, seed=0)
    assert torch.equal(found[~x.isnan()], x[~x.isnan()])
    moments = [conditional(row) for row in x[:2]]
    mean, var = (torch.stack(parts) for parts in zip(*moments))
    missing = x[:2].isnan()
    torch.testing.assert_close(found[:2][missing], mean[missing], rtol=0, atol=0.12)
    many = ps.impute(model, x[:2].repeat(1500, 1), num_samples=100, draws=True, seed=0).reshape(1500, 2, 3)
    assert torch.equal(many[:, ~missing], x[:2][~missing].expand(1500, -1))
    error = 5 * (var / 1500).sqrt() + 0.05
    assert bool(((many.mean(0) - mean).abs() <= error)[missing].all())
    torch.testing.assert_close(many.var(0)[missing], var[missing], rtol=0.25, atol=0)


def test_an_own_pair_is_imputed_where_its_site_x_is_over_entries() -> None:
    model = linear()

    class Own(nn.Module):
        def __init__(self, joint: bool = False) -> None:
            super().__init__()
            self.parts, self.joint = model, joint

        def model(self, x: Tensor, y: object = None) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(1), x.new_ones(1)).to_event(1))
                loc = model.decoder(z, None)
                fn = dist.MultivariateNormal(loc, 0.25 * torch.eye(3).to(x)) if self.joint else None
                pyro.sample("x", fn or dist.Normal(loc, 0.5).to_event(1), obs=x)

        def guide(self, x: Tensor, y: object = None) -> None:
            assert torch.equal(x, seen), "0 where an entry is missing"
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x.new_zeros(1), x.new_ones(1)).to_event(1))

    x = torch.tensor([[1.2, NAN, 0.1], [NAN, -0.8, NAN]]).double()
    seen = x.nan_to_num(0.0)
    found = ps.impute(Own(), x, num_samples=1500, seed=0)
    mean = torch.stack([conditional(row)[0] for row in x])
    torch.testing.assert_close(found[x.isnan()], mean[x.isnan()], rtol=0, atol=0.12)
    refused(lambda: ps.impute(Own(joint=True), x), "site x is a MultivariateNormal", "each entry")
    refused(lambda: ps.elbo(Own(), x), "NaN")


def test_where_no_draw_explains_what_is_observed_all_count_alike() -> None:
    """Of x ~ U(z, z + 1) given 99 no z ~ N(0, 1) is possible: the mean of all draws of z + 1/2."""
    drawn: list[Tensor] = []

    class Between(nn.Module):
        def model(self, x: Tensor, y: object = None) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(1), x.new_ones(1)).to_event(1)).expand(-1, 2)
                drawn.append(z[:, 1])
                pyro.sample("x", dist.Uniform(z, z + 1, validate_args=False).to_event(1), obs=x)

        def guide(self, x: Tensor, y: object = None) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x.new_zeros(1), x.new_ones(1)).to_event(1))

    found = ps.impute(Between(), torch.tensor([[99.0, NAN]] * 20).double(), num_samples=40, seed=0)
    torch.testing.assert_close(found[:, 1], torch.stack(drawn[-40:]).mean(0) + 0.5)


def test_a_draw_is_one_of_the_values_drawn_whatever_their_size() -> None:
    """1e9 and 0.001, of which a sum in float32 would keep the larger alone."""

    class Apart(nn.Module):
        def model(self, x: Tensor, y: object = None) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
                loc = torch.cat([z, torch.where(z > 0, 1e9, 1e-3)], 1)
                pyro.sample("x", dist.Normal(loc, torch.tensor([10.0, 1e-9])).to_event(1), obs=x)

        def guide(self, x: Tensor, y: object = None) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))

    found = ps.impute(Apart(), torch.tensor([[0.0, NAN]] * 200), num_samples=30, draws=True, seed=0)[:, 1]
    small = found[found < 1e8]
    assert 60 < len(small) < 140  # half of 200, to 5.6 standard deviations
    torch.testing.assert_close(small, torch.full_like(small, 1e-3))
    torch.testing.assert_close(found[found > 1e8], torch.full((200 - len(small),), 1e9))


@pytest.mark.parametrize("draws", [False, True])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_what_is_filled_in_is_a_value_of_the_data(name: str, draws: bool) -> None:
    model, x = one_dimensional(name), gaps(name)
    found = ps.impute(model, x, num_samples=20, draws=draws, seed=0)
    assert torch.equal(found[~x.isnan()], x[~x.isnan()])
    assert bool(found.isfinite().all())
    if draws or name == "categorical":
        model.likelihood.check(found)
    assert not draws or torch.equal(ps.impute(model, found), found)
    again = ps.impute(model, x, num_samples=20, draws=draws, seed=0)
    assert torch.equal(found, again)


def test_a_model_that_reads_gaps_or_has_x_in_another_shape_is_refused() -> None:
    class Reads(ps.VAE):
        def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            with pyro.plate("rows", len(x)):
                pyro.factor("total", x.sum(-1))
            out: Tensor = super().model(x, y)
            return out

    class Twice(ps.VAE):
        def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            x = self.begin(x)
            with self.plate(x):
                z = pyro.sample("z", self.p_z(x))
                with pyro.plate("twice", 2, dim=-2):
                    fn = self.p_x(self.decoder(z, None)).expand([2, len(x)])
                    out: Tensor = pyro.sample("x", fn, obs=x)
            return out

    x = torch.tensor([[0.0, 1.0, NAN], [1.0, 0.0, 1.0]])
    for kind, words in ((Reads, "joint is no number"), (Twice, "site x has shape [2, 2, 3]")):
        vae = kind.default((3,), None, latent_dim=1)
        refused(lambda vae=vae: ps.impute(vae, x), f"impute: {'the model' if kind is Reads else 'site x'}", words)


def test_columns_of_a_kind_that_lie_apart_are_filled_in_their_places() -> None:
    columns = ("normal", "categorical:3", "normal", "poisson", "categorical:3")
    model: Any = ps.create_model("vae", input_shape=(5,), latent_dim=2, columns=columns)
    out = torch.tensor(
        [0.5, -3.0, 0.0, 0.1, 2.0, 1.0, -1.0, 0.0, 0.7]
    )  # of two normals, then code by code, and a count
    model.decoder.forward = lambda z, c=None: out.expand(*z.shape[:-1], -1)
    expected = torch.tensor([0.5, 1.0, -3.0, 2.0138, 1.0])  # exp(.7); codes of logits (0, 2, -1) and (.1, 1, 0)
    x = torch.zeros(5, 5).fill_diagonal_(NAN)
    found = ps.impute(model, x, num_samples=3)
    torch.testing.assert_close(found, torch.diag(expected), rtol=0, atol=1e-3)


@pytest.mark.parametrize("how", ["enumerate", "plug-in", "straight-through"])
def test_missing_labels_are_drawn_however_they_are_inferred_in_training(how: str) -> None:
    """A relaxed label tells the decoder of x for nothing, and the weights would be of no joint."""
    labels = ps.ClassLabels(3)
    model: Any = ps.create_model("augmented", input_shape=(3,), labels=labels, latent_dim=2, label_inference=how)
    seen: list[Tensor] = []
    model.decoder.register_forward_hook(lambda module, inputs, out: seen.append(inputs[1]))
    ps.impute(model, torch.tensor([[0.2, NAN, 0.4]] * 30), torch.tensor([-1, 0, 2] * 10), num_samples=4, seed=0)
    c = torch.stack(seen).reshape(-1, 30, 3)
    assert sorted(c.unique().tolist()) == [0.0, 1.0]
    assert bool((c.sum(-1) == 1).all())
    assert bool((c[:, 1::3].argmax(-1) == 0).all())
    assert bool((c[:, 2::3].argmax(-1) == 2).all())
    assert len(c[:, ::3].argmax(-1).unique()) == 3


def test_a_categorys_mean_is_the_most_probable_of_all_draws() -> None:
    """Averaged codes would be 1, which p(x) hardly has."""
    other: Any = ps.VAE(nn.Linear(6, 4), nn.Linear(1, 6), latent_dim=1, likelihood="categorical", categories=3)
    with torch.no_grad():
        other.decoder.decoder.weight.copy_(torch.tensor([[-30.0], [0.0], [0.0], [0.0], [30.0], [0.0]]))
        other.decoder.decoder.bias.copy_(torch.tensor([3.0, 0.0, -9.0, 0.0, 0.0, 0.0]))
    found = ps.impute(other, torch.tensor([[NAN, 1.0]]), num_samples=400, seed=0)
    assert float(found[0, 0]) in (0.0, 2.0)


@pytest.mark.parametrize("name", ["augmented", "m2", "m1", "m1+m2", "adgm", "mvae", "diva", "revae"])
def test_every_verb_of_every_model_takes_missing_entries(name: str) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(30, 5), torch.arange(30) % 4 - 1
    x = torch.where(torch.rand(30, 5) < 0.2, NAN, x)
    x = x[~x.isnan().all(1)]
    y = y[: len(x)]
    model: Any = ps.create_model(name, input_shape=(5,), labels=ps.ClassLabels(3), latent_dim=6, missing=True)
    history = ps.fit(model, x, y, epochs=2, batch_size=10, progress=False)
    assert all(torch.tensor(history["loss"]).isfinite())
    for found in (model.predict_proba(x), model.encode(x).mean, model.reconstruct(x), model.elbo(x, y),
                  model.log_likelihood(x, y, num_samples=3), ps.impute(model, x, y, num_samples=3)):  # fmt: skip
        assert len(found) == len(x)
        assert bool(found.isfinite().all())


class Step(nn.Module):
    """A mixture of two as a decoder: its component by the sign of z."""

    def __init__(self, log_rates: Tensor) -> None:
        super().__init__()
        self.log_rates = nn.Parameter(log_rates)

    def forward(self, z: Tensor, c: object = None) -> Tensor:
        return torch.where(z > 0, self.log_rates[1], self.log_rates[0])


def test_the_bound_of_a_negative_binomial_mixture_is_within_a_percent_of_the_truth() -> None:
    log_rates = torch.tensor([[3.0, 1.0, 8.0, 0.5], [1.0, 6.0, 2.0, 4.0]]).double().log()
    torch.manual_seed(0)
    model: Any = ps.VAE(nn.Linear(4, 4), Step(log_rates), latent_dim=1, likelihood="negative-binomial").double().eval()
    with torch.no_grad():
        model.likelihood.raw_dispersion.fill_(1.0)
    theta = model.likelihood.dispersion.detach()
    component = torch.arange(200) % 2
    rate = log_rates[component].exp()
    x = dist.NegativeBinomial(theta, logits=rate.log() - theta.log()).sample()
    each = [
        dist.NegativeBinomial(theta, logits=row - theta.log()).log_prob(x).sum(-1) + torch.tensor(0.5).log()
        for row in log_rates
    ]
    truth = torch.stack(each).logsumexp(0)
    found = model.log_likelihood(x, num_samples=300)
    assert abs(float(found.mean() - truth.mean())) < 0.01 * abs(float(truth.mean()))


@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_the_number_of_draws_is_checked(value: Any) -> None:
    refused(lambda: ps.impute(linear(), torch.zeros(2, 3), num_samples=value), "num_samples", repr(value))


@pytest.mark.parametrize("draws", [False, True])
def test_missing_counts_are_of_a_row_as_large_as_its_others(draws: bool) -> None:
    """Ten times the counts are a row ten times as large: the encoder sees the same, and the rate is ten times it."""
    torch.manual_seed(0)
    vae = ps.create_model("vae", input_shape=(6,), likelihood="poisson", library_size=True, latent_dim=2).double()
    vae.prepare(torch.poisson(torch.full((200, 6), 8.0)).double(), torch.full((200,), -1))
    row = torch.tensor([[40.0, 90.0, torch.nan, 70.0, torch.nan, 100.0]], dtype=torch.float64)
    once, tenfold = (ps.impute(vae, size * row, num_samples=1, draws=draws, seed=0) for size in (1, 10))
    missing = row.isnan()
    if draws:  # Poisson numbers of a mean of 30 and more, and of ten times as much
        assert (tenfold[missing] > 5 * once[missing]).all()
    else:
        torch.testing.assert_close(tenfold, 10 * once)
        assert (once[missing] > 30).all(), "an ordinary row has 8"
