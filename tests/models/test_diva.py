"""DIVA: objective, gradients and bounds against formulas written here anew, in float64; its verbs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from data_makers import refused
from formulas import (
    WEIGHTS,
    assert_bounds,
    assert_same,
    choices,
    example,
    grid,
    head_terms,
    log_p_x,
    normal,
    standard_error,
    uneven,
)
from tiny import ATTRIBUTES, CLASSES, WIDTH, loss_at, make, points, tiny_decoder, tiny_encoder
from torch import Tensor

from pyro_ssvae import DIVA, AttributeLabels
from pyro_ssvae.infer.bounds import reconstruction
from pyro_ssvae.labels import Labels

both = pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])


def diva(labels: Labels = CLASSES, shape: tuple[int, ...] = (5,), dim: int = 3, **options: Any) -> DIVA:
    model: DIVA = make("diva", labels, shape, **{"latent_dim": dim, "label_dim": dim - 1, **options}).double().eval()
    uneven(model)
    return model


def prior(model: DIVA, c: Tensor) -> tuple[Tensor, Tensor]:
    p, s = model.prior_loc, model.prior_log_scale
    return p.weight @ c + p.bias, (s.weight @ c + s.bias).exp()


def by_hand(model: DIVA, row: Tensor, label: Tensor, e: Tensor) -> Tensor:
    """L or U of one row, with log p(y) of a known label too."""
    beta, h = model.config.beta, model.encoder(row.unsqueeze(0))[0]
    loc, scale = model.loc(h), model.log_scale(h).exp()
    z = loc + scale * torch.cat([e[2:4], e[:1]])
    z_c, z_s = z[:2], z[2:]
    logits = model.head(z_c)
    total = log_p_x(model, row, z) + beta * (normal(z_s, 0.0, torch.ones_like(z_s)) - normal(z, loc, scale))
    for c, log_q, log_p in choices(model, logits, label):
        total = total + log_q.exp() * (beta * normal(z_c, *prior(model, c)) + log_p - log_q)
    return total + head_terms(model, logits, label)


@pytest.mark.parametrize(
    ("labels", "how"), [(CLASSES, "enumerate"), (CLASSES, "sparse"), (ATTRIBUTES, "enumerate")],
    ids=["classes", "sparse", "attributes"],
)  # fmt: skip
def test_objective_and_gradient_are_the_sum_over_labels(labels: Labels, how: Any) -> None:
    model = diva(labels, label_inference=how, **WEIGHTS)
    x, y, eps = example(labels)
    assert_same(model, x, y, eps, -sum((by_hand(model, *row) for row in zip(x, y, eps)), x.new_zeros(())))


@both
def test_a_new_model_reads_each_label_where_its_prior_puts_it(labels: Labels) -> None:
    """``q(y | z_c)`` begins as the posterior of ``p(z_c | y)`` under labels that are equally frequent."""
    model = DIVA(tiny_encoder((5,)), tiny_decoder((5,), 12, 0), labels, latent_dim=12, label_dim=7).double()
    values = (torch.cartesian_prod(*[torch.arange(2)] * 3) if labels is ATTRIBUTES else torch.arange(3)).long()
    p = model.p_z_c(labels.encode(values).double())
    torch.testing.assert_close(p.base_dist.scale, torch.ones(len(values), 7).double())
    apart = torch.pdist(p.mean)
    assert float(apart.min().detach()) >= (2 if labels is ATTRIBUTES else math.sqrt(8)) - 1e-6
    z = 3 * torch.randn(50, 7, dtype=torch.float64)
    joint = p.log_prob(z.unsqueeze(1)).softmax(-1)  # [50, values]
    if labels is ATTRIBUTES:
        torch.testing.assert_close(model.head(z).sigmoid(), joint @ values.double(), rtol=0, atol=1e-6)
    else:
        torch.testing.assert_close(model.head(z).softmax(-1), joint, rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", ["enumerate", "straight-through", "plug-in", "sample"])
def test_one_decode_a_point_serves_every_label(how: Any) -> None:
    model = diva(ATTRIBUTES, label_inference=how)
    rows: list[int] = []
    model.decoder.body.register_forward_hook(lambda module, args, out: rows.append(args[0].shape[:-1].numel()))
    loss_at(model, points(5).double(), None, torch.randn(5, WIDTH, dtype=torch.float64))
    assert rows == [5]


def test_straight_through_objective_is_the_enumerated_one_on_average() -> None:
    relaxed, exact = (diva(ATTRIBUTES, label_inference=how, **WEIGHTS) for how in ("straight-through", "enumerate"))
    x, y, eps = points(1).double(), torch.tensor([[-1, 1, -1]]), torch.randn(1, WIDTH, dtype=torch.float64)
    noise = torch.logit(torch.rand(4000, 3, dtype=torch.float64)) / 1.7
    many = torch.cat([eps[:, :5].expand(4000, -1), noise], 1).split(40)
    draws = torch.stack([loss_at(relaxed, x.expand(40, -1), y.expand(40, -1), part).detach() / 40 for part in many])
    assert draws.std() > 1e-3
    assert abs(draws.mean() - loss_at(exact, x, y, eps)) < 4 * standard_error(draws)


@pytest.mark.parametrize("known", [False, True], ids=["missing", "known"])
@both
def test_bounds(labels: Labels, known: bool) -> None:
    model = diva(labels, (3,), 2)
    with torch.no_grad():
        model.loc.weight.mul_(0.2)
        model.log_scale.weight.mul_(0.2)
        model.log_scale.bias.fill_(0.2)
        model.prior_loc.weight.mul_(0.5)
        model.prior_log_scale.weight.mul_(0.2)
        model.prior_log_scale.bias.zero_()
        model.likelihood.raw_scale.fill_(1.0)
    x = points(3, (3,)).double()
    y = torch.tensor([2, 0, 1]) if labels is CLASSES else torch.tensor([[1, -1, 0], [-1, -1, 1], [0, 0, 0]])
    y = y if known else torch.full_like(y, -1)
    z, log_cell = grid(2)
    log_p, elbo = [], []
    with torch.no_grad():
        logits = model.head(z[:, :1])
        log_q_each, log_prior = labels.log_probs(logits), labels.log_probs(model.label_prior.logits)
        for row, label in zip(x, y):
            h = model.encoder(row.unsqueeze(0))[0]
            log_q = normal(z, model.loc(h), model.log_scale(h).exp().expand_as(z))
            base = log_p_x(model, row, z) + normal(z[:, 1:], 0.0, torch.ones_like(z[:, 1:]))
            joint, expected = [], -log_q
            for value in labels.configurations():
                if bool(((label >= 0) & (value != label)).any()):
                    continue
                if labels is CLASSES:
                    log_q_y, log_p_y = log_q_each[:, value] * (label < 0), log_prior[value]
                else:
                    at = torch.arange(3)
                    log_q_y = (log_q_each[:, at, value] * (label < 0)).sum(-1)
                    log_p_y = log_prior[at, value].sum()
                loc, scale = prior(model, labels.encode(value).double())
                joint.append(base + normal(z[:, :1], loc, scale.expand_as(z[:, :1])) + log_p_y)
                expected = expected + log_q_y.exp() * (joint[-1] - log_q_y)
            log_p.append(torch.stack(joint).logsumexp((0, 1)) + log_cell)
            elbo.append((log_q.exp() * expected).sum() * math.exp(log_cell))
    assert_bounds(model, x, y if known else None, torch.stack(log_p), torch.stack(elbo))


def test_predictions_average_over_the_posterior() -> None:
    model = diva()
    x = points(4).double()
    z = model.encode(x).sample((20_000,))
    with torch.no_grad():
        probs = model.head(z[..., :2]).softmax(-1)
        q, noise = model.encode(x), torch.randn(100, 1, 2, generator=torch.Generator().manual_seed(0)).double()
        own = model.head(q.mean[:, :2] + q.stddev[:, :2] * noise).softmax(-1)
    assert ((model.predict_proba(x) - probs.mean(0)).abs() < 4 * probs.std(0) / 10 + 1e-3).all()
    torch.testing.assert_close(model.predict_proba(x), own.mean(0))


def test_widths() -> None:
    labels = AttributeLabels([f"a{i}" for i in range(11)])
    model = DIVA(tiny_encoder((5,)), tiny_decoder((5,), 7, 0), labels, latent_dim=7)
    assert (model.label_dim, model.label_inference.how, model.head.in_features) == (3, "straight-through", 3)
    refused(lambda: diva(dim=2, label_dim=2), "latent_dim: 2", "z_c alone takes 2")


def test_reconstruction_is_of_a_draw() -> None:
    """``E_q log p(x | z)`` on average: draws of z_c and z_s, not their means."""
    model = diva(CLASSES, (3,), 2)
    x = points(1, (3,)).double()
    z, log_cell = grid(2)
    with torch.no_grad():
        h = model.encoder(x)[0]
        loc, scale = model.loc(h), model.log_scale(h).exp()
        weight = normal(z, loc, scale.expand_as(z)).exp() * math.exp(log_cell)
        expected, at_mean = (weight * log_p_x(model, x[0], z)).sum(), log_p_x(model, x[0], loc)
    draws = reconstruction(model, x.expand(4000, -1))
    assert abs(draws.mean() - expected) < 4.5 * standard_error(draws) < abs(at_mean - expected)


# --- verbs


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> tuple[DIVA, list[Tensor]]:
    model, seen = diva(ATTRIBUTES), []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda z, **more: seen.append(z) or decode(z, **more))
    return model, seen


def test_interventions_draw_all_of_z_c(decoded: tuple[DIVA, list[Tensor]]) -> None:
    """From p(z_c | y) with y as predicted but for what was asked."""
    model, seen = decoded
    x = points(1).double().expand(4000, -1)
    assert model.intervene(x[:6], {"hat": 1}, num_samples=3).shape == (3, 6, 5)
    assert not torch.equal(seen[0], seen[1])
    y = model.predict(x[:1])[0]
    model.intervene(x, {"beard": int(1 - y[1])})
    wanted = torch.stack([y[0], 1 - y[1], y[2]])
    loc, scale = prior(model, wanted.double())
    drawn = seen[-1]
    torch.testing.assert_close(drawn[:, :2].mean(0), loc.detach(), rtol=0, atol=4.5 * scale.max().item() / 4000**0.5)
    torch.testing.assert_close(drawn[:, :2].std(0), scale.detach(), rtol=0.06, atol=0)
    assert torch.equal(drawn[:, 2:], model.encode(x).mean[:, 2:])


def test_a_swap_moves_all_of_z_c(decoded: tuple[DIVA, list[Tensor]]) -> None:
    model, seen = decoded
    x, donor = points(4).double(), points(4).double()
    for name, given in (("hat", donor), ("scarf", donor[:1])):
        assert model.swap(x, given, name).shape == (4, 5)
        assert torch.equal(seen[-1][:, :2], model.encode(given).mean[:, :2].expand(4, -1))
        assert torch.equal(seen[-1][:, 2:], model.encode(x).mean[:, 2:])
    refused(lambda: model.swap(x, donor[:2], "hat"), "4 points and 2 donors")
    refused(lambda: model.swap(x, donor, "nose"), "nose")


def test_the_parts_of_z_are_its_sites() -> None:
    model, x = diva(), points(4).double()
    parts = model.parts(model.encode(x).mean)
    assert list(parts) == ["z_c", "z_s"]
    for part, q in zip(parts.values(), model.q_z(x)):
        torch.testing.assert_close(part, q.mean.detach())


def test_generated_latents_follow_the_prior_of_the_label() -> None:
    """The decoder is the identity here."""
    model = diva(ATTRIBUTES)
    model.decoder.forward = lambda z, c=None: torch.nn.functional.pad(z, (0, 2))
    z = model.generate(4000, [1, 0, 0])[:, :3]
    loc, scale = prior(model, torch.tensor([1.0, 0, 0]).double())
    loc, scale = torch.cat([loc, loc.new_zeros(1)]).detach(), torch.cat([scale, scale.new_ones(1)]).detach()
    torch.testing.assert_close(z.mean(0), loc, rtol=0, atol=4.5 * scale.max().item() / 4000**0.5)
    torch.testing.assert_close(z.std(0), scale, rtol=0.06, atol=0)
