"""How the latents are used, against closed forms, sums over labels and hand-made guides."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from tiny import ATTRIBUTES, CASES, build, make, points
from torch import Tensor, nn

from pyro_ssvae.errors import InputError
from pyro_ssvae.infer import bounds
from pyro_ssvae.infer.latent_use import active_units, elbo_and_kl, mutual_information, unit_variances

GENERATIVE = [case for case in CASES if not case.startswith("classifier")]


class Mixture(nn.Module):
    """q(z | x) = N(x w, s²), a label and a further latent ``a`` before z at will, or a flow in the place of z."""

    def __init__(self, w: list[float], scale: float = 0.5, how: str = "plain") -> None:
        super().__init__()
        self.w, self.scale, self.how = nn.Parameter(torch.tensor(w)), scale, how

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            loc: Tensor | float = 0.0
            if self.how == "class":
                loc = pyro.sample("c", dist.Categorical(torch.tensor([0.5, 0.5]))).unsqueeze(-1) * 3.0
            if self.how == "deep":
                pyro.sample("a", dist.Normal(0.0, 1.0))
            z = pyro.sample("z", dist.Normal(loc + torch.zeros(len(self.w)), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            loc = x * self.w
            if self.how == "class":
                c = pyro.sample("c", dist.Categorical(logits=torch.cat([x, -x], -1)), infer={"enumerate": "parallel"})
                loc = loc + c.unsqueeze(-1) * 2.0
            if self.how == "deep":
                loc = loc + 3 * pyro.sample("a", dist.Normal(torch.zeros(len(x)), 1.0)).unsqueeze(-1)
            q: dist.TorchDistribution = dist.Normal(loc, self.scale).to_event(1)
            if self.how == "flow":
                q = dist.TransformedDistribution(q, [dist.transforms.AffineTransform(1.0, 1.0)])
            pyro.sample("z", q)


@pytest.mark.parametrize("case", GENERATIVE)
def test_the_bound_is_reconstruction_less_kl(case: str) -> None:
    torch.set_default_dtype(torch.float64)
    model, x = build(case).double().eval(), points(7)
    torch.manual_seed(1)
    elbo, kl = elbo_and_kl(model, x).unbind(-1)
    torch.manual_seed(1)
    torch.testing.assert_close(elbo, bounds.elbo(model, x), rtol=0, atol=1e-12)
    total = elbo + kl
    torch.manual_seed(1)
    drawn = elbo_and_kl(model, x, summed=False)
    assert drawn.isfinite().all()
    if "revae" not in case and model.__class__.__name__ in ("VAE", "MVAE"):
        torch.manual_seed(1)
        torch.testing.assert_close(total, bounds.reconstruction(model, x), rtol=0, atol=1e-12)


def test_drawn_labels_have_the_mean_of_the_sum() -> None:
    torch.set_default_dtype(torch.float64)
    model, x = build("m2").double().eval(), points(3)
    x = x.repeat(4000, 1)
    summed, drawn = (elbo_and_kl(model, x, summed=how).reshape(4000, 3, 2) for how in (True, False))
    error = (summed.var(0) / 4000 + drawn.var(0) / 4000).sqrt()
    assert bool(((summed.mean(0) - drawn.mean(0)).abs() < 4.5 * error).all())


def test_the_kl_is_the_closed_form() -> None:
    torch.set_default_dtype(torch.float64)
    pair, x = Mixture([1.0, -0.5]), torch.linspace(-1, 1, 5).repeat(20000).unsqueeze(-1)
    kl = elbo_and_kl(pair, x)[:, 1].reshape(-1, 5)
    loc = torch.linspace(-1, 1, 5).unsqueeze(-1) * pair.w.detach()
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(loc, 0.5), torch.distributions.Normal(torch.zeros(2), 1.0)
    ).sum(-1)
    error = kl.std(0) / math.sqrt(len(kl))
    assert bool(((kl.mean(0) - exact).abs() < 4.5 * error).all())


def test_the_kl_of_a_label_is_summed_exactly() -> None:
    torch.set_default_dtype(torch.float64)
    pair, x = Mixture([1.0], how="class"), torch.full((40000, 1), 0.3)
    kl = elbo_and_kl(pair, x)[:, 1]
    q = torch.tensor([0.3, -0.3]).softmax(-1)
    normal = torch.distributions.Normal
    z = [torch.distributions.kl_divergence(normal(0.3 + 2 * c, 0.5), normal(3.0 * c, 1.0)) for c in (0.0, 1.0)]
    exact = float((q * (q.log() + math.log(2) + torch.stack(z))).sum())
    assert abs(float(kl.mean()) - exact) < 4.5 * float(kl.std()) / 200


def test_variances_of_the_means() -> None:
    torch.set_default_dtype(torch.float64)
    x = torch.randn(300, 1)
    own = x.var()
    torch.testing.assert_close(unit_variances(Mixture([1.0, 0.05, 0.2]), x), own * torch.tensor([1.0, 0.0025, 0.04]))
    assert active_units(Mixture([1.0, 0.05, 0.2]), x) == (2, 3)
    mean = x[:, 0] + 2 * torch.cat([x, -x], -1).softmax(-1)[:, 1]  # of the label, summed over exactly
    torch.testing.assert_close(unit_variances(Mixture([1.0], how="class"), x), mean.var().reshape(1))


def test_a_unit_is_active_above_a_hundredth() -> None:
    """Of points of variance 1, the guide's means at .0099 and .0101 of it."""

    def model(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            loc = x * torch.tensor([0.0099, 0.0101], dtype=x.dtype).sqrt()
            pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))

    x = torch.randn(50, 2, dtype=torch.float64)
    x = (x - x.mean(0)) / x.std(0)
    torch.testing.assert_close(unit_variances((model, guide), x), torch.tensor([0.0099, 0.0101], dtype=torch.float64))
    assert active_units((model, guide), x) == (1, 2)


@pytest.mark.parametrize("how", ["plug-in", "straight-through", "sample", "enumerate"])
def test_a_label_is_no_unit_however_it_is_inferred(how: str) -> None:
    assert active_units(make("m2", ATTRIBUTES, label_inference=how, latent_dim=2), points(6))[1] == 2


def test_the_noise_of_draws_is_no_activity() -> None:
    torch.set_default_dtype(torch.float64)
    x = torch.randn(2000, 1)
    deep = unit_variances(Mixture([1.0, 0.0], how="deep"), x)  # a, z_1, z_2, whose means vary by a's draw alone
    assert deep[0] == 0
    # 16 draws of variance 9 a point: 9/16 taken off, with a standard deviation of 9/16 sqrt(2 / 2000) = 0.018
    assert abs(float(deep[2])) < 0.08
    assert abs(float(deep[1] - x.var())) < 0.2
    flow = unit_variances(Mixture([1.0, 0.0], how="flow"), x)  # no mean is known: 0.25/16 is taken off
    assert flow[1] < 0.005
    assert abs(float(flow[0] - x.var())) < 0.05
    assert active_units(Mixture([1.0, 0.0], how="flow"), x) == (1, 2)


def test_units_of_a_plate_over_attributes_are_each_a_unit() -> None:
    torch.set_default_dtype(torch.float64)
    model, x = build("revae-attributes").double().eval(), points(30)
    expected = model.encode(x).mean.var(0).sort().values
    torch.testing.assert_close(unit_variances(model, x).sort().values, expected)
    with pytest.raises(InputError, match="at least 2"):
        active_units(model, x[:1])


def test_information_is_that_of_the_points() -> None:
    torch.set_default_dtype(torch.float64)
    apart, alike = 100.0 * torch.arange(40.0).unsqueeze(-1), torch.zeros(40, 1)
    assert mutual_information(Mixture([1.0]), apart) == pytest.approx(math.log(40))
    assert mutual_information(Mixture([1.0]), alike) == pytest.approx(0.0, abs=1e-12)
    x = torch.randn(200)
    pair, found = Mixture([1.5], scale=1.0), []
    for seed in range(3):
        torch.manual_seed(seed)
        found.append(mutual_information(pair, x.unsqueeze(-1)))
    q = torch.distributions.Normal(1.5 * x, 1.0)  # log q(z_i | x_j), all pairs at once
    z = q.sample(torch.Size([200]))
    each = q.log_prob(z) - (q.log_prob(z.unsqueeze(-1)).logsumexp(-1) - math.log(200))
    exact, error = float(each.mean()), float(each.std()) / math.sqrt(3 * 200)
    assert abs(sum(found) / 3 - exact) < 4.5 * error


@pytest.mark.parametrize("case", GENERATIVE)
def test_every_model_tells_its_information(case: str) -> None:
    torch.set_default_dtype(torch.float64)
    model, x = build(case).double().eval(), points(16)
    assert 0 < mutual_information(model, x) <= math.log(16) + 1e-9
