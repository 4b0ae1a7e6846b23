"""Edited models: every verb draws from, and answers for, the model as it now is. Margins are of 4.5 standard errors."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from edits import (
    MIXTURE_BETWEEN,
    MIXTURE_MEAN,
    MIXTURE_WITHIN,
    CountsM2,
    FlowVAE,
    FurtherDrawnM2,
    FurtherM2,
    HeavyAugmented,
    LayeredVAE,
    MixtureADGM,
    MixtureDIVA,
    MixtureM1M2,
    MixtureM2,
    MixtureVAE,
    ShiftedVAE,
)
from pyro.infer import SVI
from tiny import CLASSES, points, randomize, tiny_encoder
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae import VAE
from pyro_ssvae.infer.bounds import reconstruction
from pyro_ssvae.infer.draws import enumerated
from pyro_ssvae.infer.terms import Draw
from pyro_ssvae.models.label_mixin import LabelMixin
from pyro_ssvae.nn.likelihoods import Normal

DRAWS = 20_000


def linear(kind: type, **options: Any) -> Any:
    """An edited model with a linear decoder of z (and W c), in double precision."""
    encoder, decoder = tiny_encoder((5,)), nn.Linear(2, 5)
    model = kind(encoder, decoder, CLASSES, latent_dim=2, likelihood=Normal((5,), scale=0.7), **options)
    randomize(model).double().eval()
    if isinstance(model, LabelMixin):
        model.label_prior.logits.copy_(torch.tensor([0.5, 0.3, 0.2]).log())
    return model


def assert_moments(drawn: Tensor, mean: Tensor, cov: Tensor, kurtosis: float = 6.0) -> None:
    """Means and covariances of draws ``[n, D]``.

    :param kurtosis: the largest fourth moment, in squared variances, of any direction.
    """
    n, sd = len(drawn), cov.diagonal().sqrt()
    assert ((drawn.mean(0) - mean).abs() < 4.5 * sd / math.sqrt(n)).all()
    margin = 4.5 * torch.outer(sd, sd) * math.sqrt(kurtosis / n)
    assert ((drawn.t().cov() - cov).abs() < margin).all()


def moments_of_x(model: Any, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of ``E[x | z]`` for latents of this mean and covariance and, where it has one, a drawn y."""
    inner = model.decoder
    w, b = inner.decoder.weight.detach(), inner.decoder.bias.detach()
    if inner.from_c is not None:
        p, moves = model.label_prior.logits.softmax(-1), inner.from_c.weight.detach()
        mean = mean + moves @ p
        cov = cov + (moves * p) @ moves.t() - torch.outer(moves @ p, moves @ p)
    return w @ mean + b, w @ cov @ w.t()


ONES = torch.ones(2, dtype=torch.float64)
MIXTURE = MIXTURE_MEAN * ONES, MIXTURE_WITHIN * torch.eye(2) + MIXTURE_BETWEEN * torch.ones(2, 2).double()
HEAVY = 0.7 * ONES, 1.3**2 * 6 / 4 * torch.eye(2).double()
LAYERS = ONES, 0.5**2 * torch.eye(2).double() + 2.0**2 * torch.ones(2, 2)


@pytest.mark.parametrize(
    ("kind", "moments"),
    [
        (MixtureVAE, MIXTURE),
        (MixtureM2, MIXTURE),
        (MixtureADGM, MIXTURE),
        (HeavyAugmented, HEAVY),
        (LayeredVAE, LAYERS),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_generated_points_are_of_the_edited_prior(kind: type, moments: tuple[Tensor, Tensor]) -> None:
    model = linear(kind)
    mean, cov = moments_of_x(model, *moments)
    drawn = model.generate(DRAWS)
    assert_moments(drawn, mean, cov, kurtosis=9.0)
    plain = moments_of_x(model, 0 * ONES, torch.eye(2).double())
    unlike = (plain[0] - mean).abs() > 9 * cov.diagonal().sqrt() / math.sqrt(DRAWS)
    wider = (plain[1] - cov).diagonal().abs() > 9 * cov.diagonal() * math.sqrt(9.0 / DRAWS)
    assert (unlike | wider).any(), "the edit does not show here"


def test_generated_points_of_a_label_are_of_the_edited_prior() -> None:
    model = linear(MixtureM2)
    w, b = model.decoder.decoder.weight.detach(), model.decoder.decoder.bias.detach()
    shift = model.decoder.from_c.weight.detach()[:, 2]
    for y in (2, "2", torch.full((DRAWS,), 2)):
        assert_moments(model.generate(DRAWS, y), w @ (MIXTURE[0] + shift) + b, w @ MIXTURE[1] @ w.t())


def test_generated_points_of_an_edited_part_of_z() -> None:
    """DIVA: z_c as it was, z_s of the mixture; M1+M2: z_1 through the upper decoder of an edited z."""
    model = linear(MixtureDIVA, label_dim=1)
    p = model.label_prior.logits.softmax(-1)
    with torch.no_grad():
        q = model.p_z_c(torch.eye(3).double())
        loc, variance = q.mean[:, 0], q.stddev[:, 0] ** 2
    mean = torch.stack([(p * loc).sum(), torch.tensor(MIXTURE_MEAN).double()])
    var_c = (p * (variance + loc**2)).sum() - (p * loc).sum() ** 2
    cov = torch.diag(torch.stack([var_c, torch.tensor(MIXTURE_WITHIN + MIXTURE_BETWEEN).double()]))
    assert_moments(model.generate(DRAWS), *moments_of_x(model, mean, cov), kurtosis=12.0)

    stack = linear(MixtureM1M2)
    stack.upper_decoder = AddLinear(2, 3).double()
    p = stack.label_prior.logits.softmax(-1)
    a, moves = stack.upper_decoder.z.weight.detach(), stack.upper_decoder.c.weight.detach()
    mean = a @ MIXTURE[0] + moves @ p
    cov = a @ MIXTURE[1] @ a.t() + (moves * p) @ moves.t() - torch.outer(moves @ p, moves @ p)
    cov = cov + torch.diag(stack.upper_likelihood.scale.detach() ** 2)
    assert_moments(stack.generate(DRAWS), *moments_of_x(stack, mean, cov))


class AddLinear(nn.Module):
    """``A z + C c``."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.z, self.c = nn.Linear(dim, dim, bias=False), nn.Linear(classes, dim, bias=False)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        out: Tensor = self.z(z) + self.c(c)
        return out


def test_counts_are_decoded_as_counts() -> None:
    """E[x | z, y] of the negative binomial in ``decode``, ``reconstruct`` and ``generate``."""
    model, z = linear(CountsM2), torch.randn(4, 2).double()
    expected = 2.5 * model.decoder(z, torch.eye(3)[[1]].double()).exp()
    torch.testing.assert_close(model.decode(z, 1), expected)
    x = points(6).abs().round().double()
    q = model.encode(x).mean
    torch.testing.assert_close(
        model.reconstruct(x), 2.5 * model.decoder(q, torch.eye(3).double()[model.predict(x)]).exp()
    )
    assert bool((model.generate(50) > 0).all())
    assert model.intervene(x, 2).shape == x.shape
    torch.testing.assert_close(model.intervene(x, 2), 2.5 * model.decoder(q, torch.eye(3).double()[[2]]).exp())


def test_an_edited_likelihood_is_followed_by_every_verb() -> None:
    model, z, x = linear(ShiftedVAE), torch.randn(4, 2).double(), points(6).double()
    torch.testing.assert_close(model.decode(z), model.decoder(z) + 7)
    torch.testing.assert_close(model.reconstruct(x), model.decoder(model.encode(x).mean) + 7)
    mean, cov = moments_of_x(model, 0 * ONES, torch.eye(2).double())
    assert_moments(model.generate(DRAWS), mean + 7, cov)


def test_reconstructions_go_through_an_edited_model() -> None:
    """z at its mean, what the guide does not have drawn from the model; here x depends on z alone."""
    model, x = linear(LayeredVAE), points(6).double()
    torch.testing.assert_close(model.reconstruct(x), model.decoder(model.encode(x).mean))


def test_a_flow_is_encoded_by_its_draws() -> None:
    """It has no mean of its own: mean and spread of 100 draws, and one draw to reconstruct from."""
    model, x = linear(FlowVAE), points(3).double()
    with torch.no_grad():
        draws = model.q_z(x).sample((5000,))
    spread = draws.std(0)
    found = model.encode(x)
    assert ((found.mean - draws.mean(0)).abs() < 4.5 * spread / math.sqrt(100) + 4.5 * spread / math.sqrt(5000)).all()
    assert ((found.stddev / spread - 1).abs() < 0.5).all()
    assert bool(model.reconstruct(x).isfinite().all())


@pytest.mark.parametrize("kind", [FurtherM2, FurtherDrawnM2])
def test_a_further_site_is_drawn_in_generated_points(kind: type) -> None:
    """k moves every value by -1 or 2, with the model's own weights."""
    model = linear(kind)
    mean, cov = moments_of_x(model, 0 * ONES, torch.eye(2).double())
    p = model.weights.softmax(-1).detach()
    k_mean = (p * model.moves).sum().detach()
    k_var = (p * model.moves**2).sum().detach() - k_mean**2
    drawn = model.generate(DRAWS)
    assert_moments(drawn, mean + k_mean, cov + k_var, kurtosis=9.0)
    assert bool(model.reconstruct(points(4).double()).isfinite().all())


@pytest.mark.filterwarnings("ignore:Found plate statements in guide but not model")
@pytest.mark.parametrize(
    "kind", [MixtureVAE, MixtureM2, MixtureDIVA, HeavyAugmented, FurtherM2, FurtherDrawnM2, LayeredVAE, FlowVAE]
)
def test_edited_models_train_by_plain_svi(kind: type) -> None:
    """The bound that is reported rises."""
    x, y = 1 + points(48), torch.arange(48) % 3
    y[24:] = -1
    model = linear(kind, **({"label_dim": 1} if kind is MixtureDIVA else {})).float()
    before = ps.elbo(model, x, num_samples=10).mean()
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 1e-2}), loss=model.objective())
    for _ in range(30):
        svi.step(x, y)
    assert ps.elbo(model, x, num_samples=10).mean() > before


@pytest.mark.filterwarnings("ignore:Found plate statements in guide but not model")
@pytest.mark.parametrize("kind", [MixtureM2, FurtherM2, FlowVAE])
def test_edited_models_train_by_fit(kind: type) -> None:
    x, y = 1 + points(48), torch.arange(48) % 3
    y[24:] = -1
    model = linear(kind).float()
    before = ps.elbo(model, x, num_samples=10).mean()
    ps.fit(model, x, y, epochs=10, batch_size=16, learning_rate=0.02, augment="none", seed=0, progress=False)
    assert ps.elbo(model, x, num_samples=10).mean() > before


def test_the_reported_bound_tells_one_prior_from_another() -> None:
    """README's edit: an N(3, 1) prior. Weights are the same, numbers are not, and each is its own model's."""

    class Moved(VAE):
        def p_z(self, x: Tensor) -> dist.TorchDistribution:
            return dist.Normal(3 * x.new_ones(2), 1.0).to_event(1)

    x = points(40).double()
    plain = linear(VAE)
    moved = linear(Moved)
    moved.load_state_dict(plain.state_dict())
    z, one = plain.encode(x), torch.ones(2).double()
    kl = torch.distributions.kl_divergence
    q = torch.distributions.Normal(z.mean, z.stddev)
    gap = (kl(q, torch.distributions.Normal(3 * one, one)) - kl(q, torch.distributions.Normal(0 * one, one))).sum(-1)
    found = (ps.elbo(plain, x, num_samples=400) - ps.elbo(moved, x, num_samples=400)).mean()
    assert abs(found - gap.mean()) < 0.3
    assert gap.mean() > 3


class Computed(VAE):
    """The mean of x is noted by ``pyro.deterministic``."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            mean = pyro.deterministic("mean", self.decoder(z, None))
            pyro.sample("x", self.p_x(mean), obs=x)


def test_what_is_computed_is_no_draw() -> None:
    """Every verb answers as for the model without ``pyro.deterministic``."""
    plain, computed, x = linear(VAE), linear(Computed), points(6).double()
    computed.load_state_dict(plain.state_dict())
    for verb in (
        lambda model: model.decode(torch.zeros(3, 2).double()),
        lambda model: model.reconstruct(x),
        lambda model: model.generate(4),
        lambda model: ps.elbo(model, x),
        lambda model: ps.log_likelihood(model, x, num_samples=5),
        lambda model: ps.evaluate(model, x, num_samples=5),
    ):
        found = []
        for model in (plain, computed):
            torch.manual_seed(0)
            found.append(verb(model))
        torch.testing.assert_close(*found)


class ComputedForAll(Computed):
    """So is what all rows share."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.deterministic("weights", self.decoder.decoder.weight)
        super().model(x, y)


def test_what_is_computed_for_all_rows_leaves_them_their_likelihoods() -> None:
    plain, computed, x = linear(VAE), linear(ComputedForAll), points(6).double()
    computed.load_state_dict(plain.state_dict())
    torch.manual_seed(0)
    with torch.no_grad():
        draws = [Draw(p, q, 6).log_weight() for p, q in enumerated(plain, x, None, 5)]
    torch.manual_seed(0)
    found = ps.log_likelihood(computed, x, num_samples=5)
    torch.testing.assert_close(found, torch.stack(draws).logsumexp(0) - math.log(5))
    assert "log_likelihood" in ps.evaluate(computed, x, num_samples=2)


class Renamed(VAE):
    """z → z_1 → x."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            z_2 = pyro.sample("z_2", self.p_z(x))
            z_1 = pyro.sample("z_1", dist.Normal(z_2, 0.5).to_event(1))
            pyro.sample("x", self.p_x(self.decoder(z_1, None)), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            z_1 = pyro.sample("z_1", self.q_z(x))
            pyro.sample("z_2", dist.Normal(z_1, 1.0).to_event(1))


class NamedRenamed(Renamed):
    latents = ("z_1",)


def test_latents_of_other_names() -> None:
    """The class says which are encoded; what needs z and finds none says so, and decodes no other draw."""
    x = points(6).double()
    model, named = linear(Renamed), linear(NamedRenamed)
    assert "elbo" in ps.evaluate(model, x, num_samples=2)
    refused(lambda: model.encode(x), "no site 'z'", "z_1, z_2", "'latents'")
    refused(lambda: model.decode(torch.zeros(2, 2)), "no site 'z'", "z_2, z_1, x")
    z = named.encode(x).mean
    torch.testing.assert_close(z, named.q_z(x).mean)
    torch.testing.assert_close(named.decode(z), named.reconstruct(x))


class TwoLatents(VAE):
    """A further latent w of x's offset."""

    latents = ("z", "w")

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            w = pyro.sample("w", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
            out = self.decoder(z, None) + w.sum(-1, keepdim=True)
            pyro.sample("x", self.p_x(out), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            pyro.sample("z", self.q_z(x))
            pyro.sample("w", dist.Normal(x[:, :3], 0.1).to_event(1))


def test_latents_of_several_sites_come_back() -> None:
    model, x = linear(TwoLatents), points(6).double()
    z = model.encode(x).mean
    assert z.shape == (6, 5)
    torch.testing.assert_close(z[:, 2:], x[:, :3])
    torch.testing.assert_close(model.decode(z), model.reconstruct(x))
    by_hand = model.p_x(model.decoder(z[:, :2], None) + z[:, 2:].sum(-1, keepdim=True)).mean
    torch.testing.assert_close(model.decode(z), by_hand)
    refused(lambda: model.decode(z[:, :2]), "z: shape [6, 2]", "[..., 5]")


class Masked(VAE):
    """Some rows of x are observed."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            pyro.sample("x", self.p_x(self.decoder(z, None)), obs=x, obs_mask=torch.arange(len(x)) != 1)


def test_a_mask_of_observed_rows() -> None:
    plain, masked, x = linear(VAE), linear(Masked), points(4).double()
    masked.load_state_dict(plain.state_dict())
    z = torch.randn(4, 2).double()
    torch.testing.assert_close(masked.decode(z), plain.decode(z))
    torch.testing.assert_close(masked.reconstruct(x), plain.reconstruct(x))
    torch.manual_seed(0)
    expected = reconstruction(plain, x)
    torch.manual_seed(0)
    torch.testing.assert_close(reconstruction(masked, x), torch.where(torch.arange(4) != 1, expected, 0.0))
    x[0, 1] = torch.nan
    refused(lambda: ps.impute(masked, x), "site x is computed")


class PlainPlate(ps.AugmentedVAE):
    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", self.p_y())
            z = pyro.sample("z", self.p_z(x))
            return pyro.sample("x", self.p_x_given(z, y, x), obs=self.likelihood.target(x))


def test_a_plate_that_takes_no_relaxed_labels_is_refused_before_training() -> None:
    x, y = torch.randn(12, 5), torch.arange(12) % 3 - 1
    options = {"labels": ps.ClassLabels(2), "latent_dim": 2}
    networks = [ps.create_model("augmented", input_shape=(5,), **options) for _ in range(2)]
    relaxed = PlainPlate(networks[0].encoder, networks[0].decoder, **options)
    words = ("plug-in hands the model relaxed labels", "with self.plate(x)", "label_inference='enumerate'")
    refused(lambda: ps.fit(relaxed, x, y, epochs=1, progress=False), *words)
    assert not list(pyro.get_param_store().keys())
    exact = PlainPlate(networks[1].encoder, networks[1].decoder, label_inference="enumerate", **options)
    ps.fit(exact, x, y, epochs=1, progress=False)
