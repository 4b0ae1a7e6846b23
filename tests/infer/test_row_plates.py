"""Rows and other plates of as many elements, latents that all rows share, guides that know some rows alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor

import pyro_ssvae as ps
from pyro_ssvae.infer.latent_use import elbo_and_kl, mutual_information, unit_variances

Program = Callable[..., None]
Functions = tuple[Program, Program]


def by_parts(rows_first: bool, name: str = "rows", weights: bool = False) -> Functions:
    """p(z_ij) = N(0, 1), p(x_ij | z_ij) = N(z_ij, 1), with the exact posterior: every estimate is log N(x_ij; 0, 2).

    :param weights: also a latent w_j of each part, whose guide is its prior: it adds 0 to the sum.
    """

    def plates(x: Tensor) -> list[pyro.plate]:
        found = [pyro.plate(name, len(x), dim=-1), pyro.plate("parts", x.shape[1], dim=-2)]
        return found if rows_first else found[::-1]

    def shared(parts: pyro.plate, scale: float) -> None:
        if weights:
            with parts:
                pyro.sample("w", dist.Normal(torch.zeros(parts.size, 1).double(), scale))

    def model(x: Tensor, y: Tensor | None = None) -> None:
        outer, inner = plates(x)
        shared(outer if outer.name == "parts" else inner, 1.0)
        with outer, inner:
            z = pyro.sample("z", dist.Normal(torch.zeros(x.shape[1], 1).double(), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x.t())

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        outer, inner = plates(x)
        shared(outer if outer.name == "parts" else inner, 0.5)
        with outer, inner:
            pyro.sample("z", dist.Normal(x.t() / 2, math.sqrt(0.5)))

    return model, guide


def scattered(n: int = 4, parts: int = 4) -> Tensor:
    scale = torch.arange(1.0, n + 1, dtype=torch.double).unsqueeze(-1)
    return torch.randn(n, parts, dtype=torch.double, generator=torch.Generator().manual_seed(0)) * scale


def exact(x: Tensor) -> Tensor:
    """log p(x) of each row."""
    return dist.Normal(x.new_zeros(()), math.sqrt(2.0)).log_prob(x).sum(1)


@pytest.mark.parametrize("rows_first", [True, False])
@pytest.mark.parametrize("name", ["rows", "data"])
@pytest.mark.parametrize(("n", "parts"), [(4, 4), (5, 4), (2, 2), (1, 1), (4, 20)])
def test_rows_are_told_from_parts(rows_first: bool, name: str, n: int, parts: int) -> None:
    """Every estimate of a row is the exact log p(x); 20 parts are as many as 5 draws of 4 rows in one run."""
    x, pair = scattered(n, parts), by_parts(rows_first, name)
    true = exact(x)
    assert torch.allclose(ps.elbo(pair, x), true)
    assert torch.allclose(ps.elbo(pair, x, num_samples=6), true)
    assert torch.allclose(ps.log_likelihood(pair, x, num_samples=6), true)
    assert torch.allclose(elbo_and_kl(pair, x)[:, 0], true)
    assert torch.allclose(ps.sites(pair, x).elbo, true)
    drawn = ps.posterior(pair, x, num_samples=4).posterior["z"]
    assert drawn.dims == ("chain", "draw", "parts", "point")
    if n > 1:
        means = (x / 2).var(0)  # of the guide's means over rows, a unit for each part
        assert torch.allclose(unit_variances(pair, x), means)


def test_mutual_information_is_of_rows() -> None:
    x, pair = scattered(), by_parts(False)
    torch.manual_seed(0)
    found = mutual_information(pair, x)
    torch.manual_seed(0)
    assert found == pytest.approx(mutual_information(by_parts(False, "data"), x), abs=1e-9)


def test_what_the_parts_alone_have_is_shared_out() -> None:
    """KL(N(0, .5²) || N(0, 1)) of 4 parts, at one draw: each row has a quarter of log p(w) - log q(w)."""
    pair, x = by_parts(False, weights=True), scattered()
    torch.manual_seed(0)
    found = ps.elbo(pair, x)
    true = exact(x)
    assert (found - true).std() < 1e-9, "the same for each row"
    assert (found - true).abs().min() > 1e-3
    refused(lambda: ps.log_likelihood(pair, x), "site 'w' is in no plate over the rows")


def test_a_row_s_share_of_the_parts_is_their_sum_over_the_number_of_rows() -> None:
    """5 rows share log p(w) - log q(w) of 3 parts, of the w that was drawn."""
    (model, guide), x = by_parts(False, weights=True), scattered(5, 3)
    drawn: list[Tensor] = []

    def watched(x: Tensor, y: Tensor | None = None) -> None:
        with poutine.trace() as trace:
            guide(x, y)
        drawn.append(trace.trace.nodes["w"]["value"].flatten())

    found = ps.elbo((model, watched), x)
    zero = torch.zeros(3).double()
    ratio = dist.Normal(zero, 1.0).log_prob(drawn[-1]) - dist.Normal(zero, 0.5).log_prob(drawn[-1])
    torch.testing.assert_close(found, exact(x) + ratio.sum() / 5)


def test_plates_that_cannot_be_told_apart_are_refused() -> None:
    model, guide = by_parts(False)

    def of_four(x: Tensor, y: Tensor | None = None) -> None:
        assert len(x) in (2, 4)
        model(x)

    refused(lambda: ps.elbo((of_four, guide), scattered()), "plates parts, rows: each has 4", "must be named 'data'")


def shared_centre(point: bool) -> Functions:
    """x_i = m + z_i + noise, with m ~ N(0, 25)."""

    def model(x: Tensor, y: Tensor | None = None) -> None:
        m = pyro.sample("m", dist.Normal(x.new_zeros(3), 5.0).to_event(1))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(m + z, 1.0).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        m = pyro.param("m_loc", x.new_tensor([1.0, 2.0, 3.0]))
        pyro.sample("m", (dist.Delta(m) if point else dist.Normal(m, 0.1)).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(1), 1.5).to_event(1))

    return model, guide


def test_a_shared_point_mass_weighs_no_draw() -> None:
    """E[x_3 | x_1, x_2, m] = m_3 + (x_1 - m_1 + x_2 - m_2) / 3, as z is normal with two observations of it."""
    x = torch.tensor([[2.0, 4.0, math.nan], [0.0, 1.0, math.nan]], dtype=torch.double)
    found = ps.impute(shared_centre(True), x, num_samples=1000, seed=0)
    m = torch.tensor([1.0, 2.0, 3.0], dtype=torch.double)
    exact = m[2] + (x[:, :2] - m[:2]).sum(1) / 3
    assert torch.allclose(found[:, 2], exact, atol=0.12)  # sd .6 / sqrt(400 effective draws) = .03
    refused(lambda: ps.impute(shared_centre(False), x), "impute: site 'm'", "a point mass of it in the guide")


@pytest.mark.parametrize("point", [True, False])
def test_a_shared_latent_leaves_the_other_metrics(point: bool) -> None:
    x = torch.randn(4000, 3, dtype=torch.double)
    found = ps.evaluate(shared_centre(point), x)
    assert "log_likelihood" not in found
    bound = float(ps.elbo(shared_centre(point), x, num_samples=20).mean())
    assert found["elbo"] == pytest.approx(bound, abs=1.0)  # sd .2
    assert {"kl", "reconstruction", "active_units", "elbo_per_dimension"} <= found.keys()


def local(x: Tensor, y: Tensor | None = None) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z.unsqueeze(-1).expand(len(x), 3), 1.0).to_event(1), obs=x)


def test_an_automatic_guide_of_some_rows_is_never_harmed() -> None:
    x = torch.randn(30, 3) + 2
    guide = AutoNormal(local, init_scale=0.5)
    words = ("fit: an AutoNormal keeps 'z' of each row", "computes it from x")
    refused(lambda: ps.fit((local, guide), x, epochs=1, batch_size=30, progress=False), *words)
    refused(lambda: ps.evaluate((local, guide), x), "evaluate: an AutoNormal keeps 'z'")
    assert guide.prototype_trace is None, "it has seen no rows"
    svi = SVI(local, guide, Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(100):
        svi.step(x)
    # The guide's family has the posterior: log N(x; 0, I + 1 1ᵀ) of each row.
    covariance = torch.eye(3) + torch.ones(3, 3)
    true = torch.distributions.MultivariateNormal(torch.zeros(3), covariance).log_prob(x)
    assert (ps.elbo((local, guide), x, num_samples=100) - true).mean().abs() < 0.1
    assert (ps.log_likelihood((local, guide), x, num_samples=100) - true).abs().max() < 0.3
    assert ps.sites((local, guide), x).elbo.shape == (30,)
    verbs: list[Callable[..., object]] = [ps.elbo, ps.log_likelihood, ps.sites, ps.posterior]
    for verb in verbs:
        refused(lambda verb=verb: verb((local, guide), x[:7]), "x: 7 rows", "AutoNormal keeps 'z'", "the same rows")


def test_an_untrained_automatic_guide_takes_all_rows_that_it_first_sees() -> None:
    x, guide = torch.randn(30, 3), AutoDelta(local)
    assert ps.elbo((local, guide), x).shape == (30,)
    svi = SVI(local, guide, Adam({"lr": 0.05}), Trace_ELBO())
    assert math.isfinite(svi.step(x))


def test_an_automatic_guide_of_shared_latents_is_trained() -> None:
    def model(x: Tensor, y: Tensor | None = None) -> None:
        m = pyro.sample("m", dist.Normal(x.new_zeros(3), 5.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(m, 1.0).to_event(1), obs=x)

    x = torch.randn(60, 3) + 2
    guide = AutoNormal(model)
    history = ps.fit((model, guide), x, epochs=3, batch_size=20, progress=False)
    assert history["loss"][-1] < history["loss"][0]


def some_parts(rows: bool) -> Functions:
    """x_ij ~ N(4 j, 1), of which each run has half of the parts, or of the rows."""

    def model(x: Tensor, y: Tensor | None = None) -> None:
        n, parts = x.shape
        with pyro.plate("data", n, n // 2 if rows else None, dim=-1) as i:
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            with pyro.plate("parts", parts, None if rows else parts // 2, dim=-2) as j:
                loc = 4.0 * j.unsqueeze(-1) + 0 * z
                pyro.sample("x", dist.Normal(loc, 1.0), obs=x[i].t()[j])

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x), len(x) // 2 if rows else None, dim=-1):
            pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))

    return model, guide


def test_a_plate_of_some_of_its_elements_stands_for_all() -> None:
    pair, x = some_parts(rows=False), scattered(6, 4)
    each = dist.Normal(4.0 * torch.arange(4), 1.0).log_prob(x)
    want = each.sum(1)
    torch.manual_seed(0)
    found = ps.elbo(pair, x, num_samples=500)
    pairs = 2 * torch.stack([each[:, i] + each[:, j] for i in range(4) for j in range(i)])  # twice the half
    assert bool(((found - want).abs() < 4 * pairs.std(0) / math.sqrt(500)).all())
    refused(lambda: ps.log_likelihood(pair, x), "log_likelihood: site 'x' is in a plate that subsamples")
    assert "log_likelihood" not in ps.evaluate(pair, x, num_samples=2)


def test_a_plate_of_some_of_the_rows_has_no_number_of_each() -> None:
    pair, x = some_parts(rows=True), scattered(6, 4)
    for verb in (ps.elbo, ps.log_likelihood, ps.anomaly_scores):
        refused(lambda verb=verb: verb(pair, x), "plate 'data' takes 3 of the 6 rows")
