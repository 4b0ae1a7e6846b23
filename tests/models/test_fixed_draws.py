"""Predictions under a guide of any kind: LogNormal, MultivariateNormal, flow and mixture. Margins: 4.5 errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms as T
from tiny import CLASSES, gradients, points, randomize, tiny_encoder
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae import ADGM, DIVA, M1, M1M2, MVAE, ReVAE
from pyro_ssvae.infer.traces import plain
from pyro_ssvae.models.fixed_draws import fixed_draws, fresh_draws, mean_of, score_of

Change = Callable[[Any], Any]


def moments(q: Any) -> tuple[Tensor, Tensor]:
    """The Normal's, kept small."""
    return 2 * plain(q).loc.tanh(), plain(q).scale.clamp(0.1, 1.0)


def log_normal(q: Any) -> Any:
    loc, scale = moments(q)
    return dist.LogNormal(loc / 2, scale).to_event(1)


def correlated(q: Any) -> Any:
    loc, scale = moments(q)
    below = 0.5 * torch.ones(loc.shape[-1], loc.shape[-1], dtype=loc.dtype).tril(-1)
    return dist.MultivariateNormal(loc, scale_tril=torch.diag_embed(scale) + below)


def flow(q: Any) -> Any:
    base = dist.Normal(*moments(q)).to_event(1)
    return dist.TransformedDistribution(base, [T.AffineTransform(0.5, -2.0), T.SoftplusTransform()])


def mixture(q: Any) -> Any:
    loc, scale = moments(q)
    parts = dist.Normal(torch.stack([loc - 1, loc + 2], -2), torch.stack([scale, scale], -2)).to_event(1)
    weights = torch.tensor([0.3, 0.7], dtype=loc.dtype).expand(*loc.shape[:-1], 2)
    return dist.MixtureSameFamily(dist.Categorical(weights), parts)


CHANGES = {"log_normal": log_normal, "correlated": correlated, "flow": flow, "mixture": mixture}


class Changed(nn.Module):
    def __init__(self, inner: nn.Module, change: Change) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, *inputs: Tensor) -> Any:
        return self.change(self.inner(*inputs))


def edited(kind: Any, change: Change) -> Any:
    """The model with its guide's q of what the head reads changed; the head far from flat."""

    class Edited(kind):  # type: ignore[misc]
        def q_z_given(self, x: Tensor) -> Any:
            q_c, q_s = super().q_z_given(x)
            return change(q_c), q_s

        def q_z_1(self, x: Tensor) -> Any:
            return change(super().q_z_1(x))

    def q_z(self: Any, *args: Any) -> Any:
        q = kind.q_z(self, *args)
        return (change(q[0]), q[1]) if kind is DIVA else change(q)

    if kind in (DIVA, MVAE, M1):
        Edited.q_z = q_z
    options = {"label_dim": 3} if kind in (DIVA, ReVAE) else {}
    model = randomize(Edited(tiny_encoder((5,)), nn.Linear(6, 5), CLASSES, latent_dim=6, **options))
    if kind is ADGM:
        model.q_a = Changed(model.q_a, change)
    return model.double().eval()


def drawn_probs(model: Any, kind: Any, x: Tensor, n: int) -> Tensor:
    """q(y | z) of ``n`` draws a point: ``[n, B, K]``."""
    if kind is ADGM:
        h = model.encoder(model.likelihood.standardize(x))
        return model.labels.probs(model.logits(h, fresh_draws(model.q_a(h), n)))
    if kind is ReVAE:
        return model.log_q_y(fresh_draws(model.q_z_given(x)[0], n)).exp()
    q = model.q_z(x)[0] if kind is DIVA else model.q_z(x, model.targets(None, x))
    return model.labels.probs(model.head(fresh_draws(q, n)))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("kind", [DIVA, MVAE, ADGM, ReVAE])
def test_predictions_are_of_the_guide_as_it_is(kind: Any, change: Change) -> None:
    model, x, n = edited(kind, change), points(5).double(), 4000
    state = torch.get_rng_state()
    found = model.predict_proba(x)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(found, model.predict_proba(x))
    with torch.no_grad():
        probs = drawn_probs(model, kind, x, n)
    error = probs.std(0) * (1 / 100 + 1 / n) ** 0.5 + 0.005  # of a rare value the spread says little
    assert ((found - probs.mean(0)).abs() < 4.5 * error).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(5).double())


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("kind", [DIVA, MVAE, ADGM, M1, M1M2, ReVAE])
def test_such_a_model_trains_and_has_all_its_verbs(kind: Any, change: Change) -> None:
    model, x, y = edited(kind, change).float(), points(12), torch.tensor([0, 1, 2, -1] * 3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ps.fit(model, x, y, epochs=1, batch_size=6, augment="none", seed=0, progress=False)
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters() if "encoder" in name)
    assert model.encode(x).mean.shape == (12, 6)
    assert model.reconstruct(x).shape == x.shape
    assert 0 <= ps.evaluate(model, x, y.clamp_min(0), num_samples=2)["accuracy"] <= 1
    assert len(ps.least_sure(model, x, n=2)) == 2
    assert torch.equal(model.predict_proba(x), model.predict_proba(x))


def test_a_normal_has_the_given_noise_and_any_other_its_own() -> None:
    q, noise = dist.Normal(torch.randn(4, 2), torch.rand(4, 2) + 0.5).to_event(1), torch.randn(100, 1, 2)
    torch.testing.assert_close(fixed_draws(q, noise), plain(q).loc + plain(q).scale * noise)
    with torch.no_grad():
        assert torch.equal(fixed_draws(flow(q), noise), fixed_draws(flow(q), noise))
        torch.testing.assert_close(mean_of(q, noise.device), plain(q).loc)
        torch.testing.assert_close(mean_of(flow(q), noise.device), fixed_draws(flow(q), noise).mean(0))
    assert not torch.equal(fixed_draws(flow(q), noise), fixed_draws(flow(q), noise))  # in training


def test_the_score_gives_a_mixture_its_gradient() -> None:
    """``E[z]`` of a mixture that only ``sample`` draws from: its gradient is that of the sum over the parts."""
    loc = torch.tensor([[-1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    logits = torch.tensor([0.2, -0.4], dtype=torch.float64, requires_grad=True)
    q = dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(loc, 0.7).to_event(1))
    draws = fresh_draws(q, 40_000)
    score = score_of(q, draws)
    assert torch.equal(score, torch.zeros(40_000, dtype=torch.float64))
    found = torch.autograd.grad((draws[:, 0] * score.exp()).mean(), (loc, logits))
    wanted = torch.autograd.grad((logits.softmax(-1) * loc[:, 0]).sum(), (loc, logits))
    for one, other in zip(found, wanted):  # a term's sd is below |z| times its score's: 3 · 1 / .7 · 1.5
        torch.testing.assert_close(one, other, rtol=0, atol=4.5 * 4.5 / 200)


def test_the_revae_s_bound_moves_such_a_guide() -> None:
    model, x, y = edited(ReVAE, mixture), points(6).double(), torch.tensor([0, 1, 2, -1, 0, 1])
    loss = model.objective().differentiable_loss(model.model, model.guide, x, y)
    found = gradients(loss, model)
    assert bool(torch.isfinite(loss))
    assert float(found["q_z.weight"][:3].abs().min()) > 0
