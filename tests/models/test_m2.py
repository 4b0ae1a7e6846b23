"""M2 and M1+M2: objective, gradients and bounds against formulas written here anew, in float64."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pytest
import torch
from data_makers import refused
from test_augmented import Counted, assert_bounds, choices, grid, log_p_x, normal, prior_on_pi
from tiny import (
    ATTRIBUTES,
    CLASSES,
    WIDTH,
    gradients,
    loss_at,
    points,
    randomize,
    some_labels,
    tiny_decoder,
    tiny_encoder,
)
from torch import Tensor
from torch.nn import functional as F

from pyro_ssvae import M1M2, M2, AttributeLabels, ClassLabels
from pyro_ssvae.infer.label_inference import StraightThroughBernoulli

WEIGHTS: dict[str, Any] = {"alpha": 3.0, "beta": 0.7, "entropy_weight": 2.0, "balance_weight": 1.5}


def uneven(model: Any, seed: int = 1) -> None:
    """A class prior and a running mean of no symmetry; no choice of one row is a matter of sparsity."""
    generator = torch.Generator().manual_seed(seed)
    prior, mean = torch.randn(2, model.labels.size, generator=generator).double()
    model.prior_logits.copy_(prior)
    model.mean_probs.copy_(model.labels.log_probs(mean).exp())
    model.class_input = "enumerate"  # for the formulas shared with AugVAE's tests


def m2(labels: Any = CLASSES, shape: tuple[int, ...] = (5,), dim: int = 2, **options: Any) -> M2:
    model = M2(tiny_encoder(shape), tiny_decoder(shape, dim, labels.size), labels, latent_dim=dim, **options)
    randomize(model).double().eval()
    uneven(model)
    return model


def m1m2(labels: Any = CLASSES, shape: tuple[int, ...] = (5,), dim: int = 2, **options: Any) -> M1M2:
    upper = {"upper_encoder": tiny_encoder((dim,)), "upper_decoder": tiny_decoder((dim,), dim, labels.size)}
    made = M1M2(tiny_encoder(shape), tiny_decoder(shape, dim, 0), labels, latent_dim=dim, **upper, **options)
    randomize(made).double().eval()
    uneven(made.m2)
    return made


def known_term(labels: Any, logits: Tensor, y: Tensor) -> Tensor:
    """log q(y | x) of one row's known labels."""
    if isinstance(labels, ClassLabels):
        return logits.log_softmax(-1)[y] if y >= 0 else logits.new_zeros(())
    return (F.logsigmoid((2 * y - 1) * logits) * (y >= 0)).sum()


def q_z(model: M2, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    r = F.relu(h + model.from_c.weight @ c)
    return model.loc(r), model.log_scale(r).exp()


def m2_row(model: M2, row: Tensor, y: Tensor, e: Tensor, logits: Tensor | None = None, weight: float = 1.0) -> Tensor:
    """L or U of one row, ``weight`` being that of its likelihood."""
    h = model.encoder(row.unsqueeze(0))[0]
    logits = model.head(h) if logits is None else logits
    total = model.alpha * known_term(model.labels, logits, y) + prior_on_pi(model, logits, y)
    for c, log_q, log_p in choices(model, logits, y):
        loc, scale = q_z(model, h, c)
        z = loc + scale * e
        kl = normal(z, loc, scale) - normal(z, 0.0, torch.ones_like(z))
        total = total + log_q.exp() * (weight * log_p_x(model, row, z, c) - model.beta * kl + log_p - log_q)
    return total


def assert_same(model: Any, x: Tensor, y: Tensor, eps: Tensor, expected: Tensor) -> None:
    loss = loss_at(model, x, y, eps)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    found = gradients(expected, model)
    for name, g in gradients(loss, model).items():
        assert found[name].abs().max() > 1e-6, name
        torch.testing.assert_close(g, found[name], rtol=1e-9, atol=1e-10, msg=name)


def example(labels: Any, n: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    return points(n).double(), some_labels(labels, n), torch.randn(n, WIDTH, dtype=torch.float64)


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
def test_objective_and_gradient_are_the_sum_over_labels(labels: Any) -> None:
    model = m2(labels, **WEIGHTS)
    x, y, eps = example(labels)
    expected = -sum((m2_row(model, *row) for row in zip(x, y, eps[:, :2])), x.new_zeros(()))
    assert_same(model, x, y, eps, expected)


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
def test_stacked_objective_is_the_bound_of_both_layers(labels: Any) -> None:
    model = m1m2(labels, **WEIGHTS)
    x, y, eps = example(labels)
    total = x.new_zeros(())
    for row, label, e in zip(x, y, eps):
        h = model.m1.encoder(row.unsqueeze(0))[0]
        loc, scale = model.m1.loc(h), model.m1.log_scale(h).exp()
        z_1 = loc + scale * e[2:4]
        like = model.m1.likelihood
        out = model.m1.decoder(z_1.unsqueeze(0), None)[0]
        log_p = normal(row, out, F.softplus(like.raw_scale).expand_as(out))
        logits = model.m2.head(model.class_encoder(loc.unsqueeze(0)))[0]
        upper = m2_row(model.m2, z_1, label, e[:2], logits, weight=0.7)
        total = total + log_p - 0.7 * normal(z_1, loc, scale) + upper
    assert_same(model, x, y, eps, -total)


def test_the_stack_decodes_x_once_whatever_the_number_of_classes() -> None:
    model = m1m2()
    rows: list[int] = []
    model.m1.decoder.register_forward_hook(lambda module, args, out: rows.append(math.prod(args[0].shape[:-1])))
    loss_at(model, points(4).double(), None, torch.randn(4, WIDTH, dtype=torch.float64))
    assert rows == [4]


def test_a_share_of_the_gradient_reaches_the_head_early_in_training() -> None:
    model = m2(entropy_weight=0, balance_weight=0)
    x, _, eps = example(CLASSES)
    values, heads = [], []
    for progress in (0.0, 0.25, 1.0):
        model.anneal(progress)
        loss = loss_at(model, x, None, eps)
        values.append(loss.item())
        heads.append(gradients(loss, model)["head.weight"])
    assert values[0] == pytest.approx(values[1], rel=1e-12) == values[2]
    assert heads[0].abs().max() == 0
    assert heads[2].abs().max() > 1e-3
    torch.testing.assert_close(heads[1], 0.5 * heads[2])


def test_annealing_the_stack_anneals_its_upper_model() -> None:
    model = m1m2()
    model.anneal(0.25)
    assert float(model.m2.warmth) == pytest.approx(0.5)


def test_the_encoder_and_known_rows_cost_one_pass() -> None:
    """Known rows are decoded with the rest, but count once: a batch of them alone is L, not K times L."""
    model = m2(entropy_weight=0, balance_weight=0)
    x, eps = points(4).double(), torch.randn(4, WIDTH, dtype=torch.float64)
    rows: list[int] = []
    model.encoder.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    counted = Counted(model)
    loss_at(model, x, None, eps)
    assert rows == [4]
    assert counted.rows["body"] == 12


# --- relaxed attributes


def test_relaxed_objective_is_a_draw_with_the_exact_divergence() -> None:
    model = m2(ATTRIBUTES, missing="relax", **WEIGHTS)
    x, y, eps = example(ATTRIBUTES)
    total = x.new_zeros(())
    for row, label, e in zip(x, y, eps):
        h = model.encoder(row.unsqueeze(0))[0]
        logits = model.head(h)
        total = total + 3.0 * known_term(ATTRIBUTES, logits, label) + prior_on_pi(model, logits, label)
        t = logits + 1.7 * e[5:8]
        soft = torch.sigmoid(2 * t)
        c = torch.where(label < 0, (t > 0).double() + soft - soft.detach(), label.double())
        q, p = logits.sigmoid(), model.prior_logits.sigmoid()
        kl_y = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
        loc, scale = q_z(model, h, c)
        z = loc + scale * e[:2]
        kl = normal(z, loc, scale) - normal(z, 0.0, torch.ones_like(z))
        total = total + log_p_x(model, row, z, c) - 0.7 * kl - (kl_y * (label < 0)).sum()
    assert_same(model, x, y, eps, -total)


def test_relaxed_objective_is_the_enumerated_one_on_average() -> None:
    weights = {**WEIGHTS, "entropy_weight": 0.0, "balance_weight": 0.0}
    relaxed, exact = m2(ATTRIBUTES, missing="relax", **weights), m2(ATTRIBUTES, missing="enumerate", **weights)
    x, y, eps = points(1).double(), torch.tensor([[-1, 1, -1]]), torch.randn(1, WIDTH, dtype=torch.float64)
    noise = torch.logit(torch.rand(4000, 3, dtype=torch.float64)) / 1.7
    many = torch.cat([eps[:, :5].expand(4000, -1), noise], 1).split(20)
    terms = torch.stack([loss_at(relaxed, x.expand(20, -1), y.expand(20, -1), part).detach() / 20 for part in many])
    assert abs(terms.mean() - loss_at(exact, x, y, eps)) < 4 * terms.std() / math.sqrt(len(terms))


def test_straight_through_draws_are_those_of_the_probabilities() -> None:
    logits, y = torch.tensor([[-1.0, 0.5, 2.0]]), torch.tensor([[-1, 1, -1]])
    q = StraightThroughBernoulli(logits.requires_grad_(), y)
    values = q.rsample((4000,))
    assert set(values.unique().tolist()) == {0.0, 1.0}
    assert (values[..., 1] == 1).all()
    torch.testing.assert_close(values[:, 0, ::2].mean(0), logits[0, ::2].sigmoid(), atol=0.035, rtol=0)
    (g,) = torch.autograd.grad(values.sum(), logits)
    assert (g[0, ::2] > 1).all()
    assert g[0, 1] == 0
    assert not q.sample().requires_grad


def test_how_missing_attributes_are_dealt_with_by_default() -> None:
    def made(n: int, **options: Any) -> str:
        labels = AttributeLabels([f"a{i}" for i in range(n)])
        return M2(tiny_encoder((5,)), tiny_decoder((5,), 2, n), labels, latent_dim=2, **options).missing

    assert [made(4), made(5), made(5, missing="enumerate")] == ["enumerate", "relax", "enumerate"]
    refused(lambda: made(11, missing="enumerate"), "11 attributes", "2048", "'relax'")
    refused(lambda: m2(missing="relax"), "'relax'", "classes are enumerated")
    refused(lambda: m2(missing="guess"), "guess", "'enumerate' or 'relax'")


# --- bounds


def smooth(model: Any) -> Any:
    """Wide posteriors and smooth decoders, so that importance weights have a small variance."""
    with torch.no_grad():
        for part in (model,) if isinstance(model, M2) else (model.m1, model.m2):
            part.log_scale.weight.mul_(0.2)
            part.log_scale.bias.zero_()
            part.loc.weight.mul_(0.15)
            part.loc.bias.mul_(0.5)
            part.decoder.body.weight.mul_(0.7)
            part.likelihood.raw_scale.fill_(1.0)
    return model


@pytest.mark.parametrize("known", [False, True], ids=["missing", "known"])
@pytest.mark.parametrize(("labels", "dim"), [(CLASSES, 2), (ATTRIBUTES, 1)], ids=["classes", "attributes"])
def test_bounds(labels: Any, dim: int, known: bool) -> None:
    model = smooth(m2(labels, (3,), dim))
    x = points(3, (3,)).double()
    y = torch.tensor([2, 0, 1]) if labels is CLASSES else torch.tensor([[1, -1, 0], [-1, -1, 1], [0, 0, 0]])
    y = y if known else torch.full_like(y, -1)
    z, log_cell = grid(dim)
    log_p_z = normal(z, 0.0, torch.ones_like(z))
    log_p, elbo = [], []
    with torch.no_grad():
        for row, label in zip(x, y):
            h = model.encoder(row.unsqueeze(0))[0]
            joint, expected = [], torch.zeros((), dtype=torch.float64)
            for c, log_q_y, _ in choices(model, model.head(h), label):
                if labels is CLASSES:
                    log_p_y = (model.prior_logits.log_softmax(-1) * c).sum()
                else:
                    log_p_y = F.logsigmoid((2 * c - 1) * model.prior_logits).sum()
                joint.append(log_p_x(model, row, z, c.expand(len(z), -1)) + log_p_y + log_p_z)
                loc, scale = q_z(model, h, c)
                log_q = normal(z, loc, scale.expand_as(z))
                inner = (log_q.exp() * (joint[-1] - log_q)).sum() * math.exp(log_cell)
                expected = expected + log_q_y.exp() * (inner - log_q_y)
            log_p.append(torch.stack(joint).logsumexp((0, 1)) + log_cell)
            elbo.append(expected)
    assert_bounds(model, x, y if known else None, torch.stack(log_p), torch.stack(elbo))


@pytest.mark.parametrize("known", [False, True], ids=["missing", "known"])
def test_bounds_of_the_stack(known: bool) -> None:
    """z_1 and z on a grid of 151 x 151."""
    model = smooth(m1m2(CLASSES, (3,), 1))
    with torch.no_grad():
        model.m1.log_scale.bias.fill_(0.5)  # p(z_1 | z, y) over all z is wider than N(0, 1)
    x = points(3, (3,)).double()
    y = torch.tensor([2, 0, 1]) if known else torch.full((3,), -1)
    axis = torch.linspace(-8, 8, 151, dtype=torch.float64)
    step = math.log(float(axis[1] - axis[0]))
    z_1, z = torch.cartesian_prod(axis, axis).unsqueeze(-1).unbind(1)
    one = torch.ones_like(z)
    log_p, elbo = [], []
    with torch.no_grad():
        h_1 = model.m2.encoder(z_1)
        out = model.m1.decoder(z_1, None)
        for row, label in zip(x, y):
            log_p_row = normal(row, out, F.softplus(model.likelihood.raw_scale).expand_as(out))
            h = model.m1.encoder(row.unsqueeze(0))
            loc, scale = model.m1.loc(h)[0], model.m1.log_scale(h).exp()[0]
            log_q_1 = normal(z_1, loc, scale.expand_as(z_1))
            logits = model.m2.head(model.class_encoder(loc.unsqueeze(0)))[0]
            joint, expected = [], torch.zeros((), dtype=torch.float64)
            for c, log_q_y, _ in choices(model.m2, logits, label):
                c = c.expand(len(z), -1)
                log_p_y = (model.m2.prior_logits.log_softmax(-1) * c[0]).sum()
                log_p_1 = log_p_x(model.m2, z_1, z, c)
                joint.append(log_p_row + log_p_1 + normal(z, 0.0, one) + log_p_y)
                r = F.relu(h_1 + model.m2.from_c(c))
                log_q = log_q_1 + normal(z, model.m2.loc(r), model.m2.log_scale(r).exp())
                inner = (log_q.exp() * (joint[-1] - log_q)).sum() * math.exp(2 * step)
                expected = expected + log_q_y.exp() * (inner - log_q_y)
            log_p.append(torch.stack(joint).logsumexp((0, 1)) + 2 * step)
            elbo.append(expected)
    assert_bounds(model, x, y if known else None, torch.stack(log_p), torch.stack(elbo))


# --- verbs


def test_intervening_and_swapping_change_the_label_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = m2(ATTRIBUTES)
    x, donor = points(6).double(), points(1).double()
    seen: list[tuple[Tensor, Tensor]] = []
    forward = model.decoder.forward
    monkeypatch.setattr(model.decoder, "forward", lambda z, c: seen.append((z, c)) or forward(z, c))
    z, y = model.encode(x).mean, model.predict(x)
    images = model.intervene(x, {"beard": 1, "hat": 0}, num_samples=2)
    assert images.shape == (2, 6, 5)
    assert torch.equal(images[0], images[1])
    assert torch.equal(seen[-1][0], z)
    assert torch.equal(seen[-1][1], torch.stack([0 * y[:, 0], 0 * y[:, 0] + 1, y[:, 2]], 1).double())
    assert model.intervene(x, {"hat": 1}).shape == (6, 5)
    torch.testing.assert_close(model.intervene(x, {}), model.reconstruct(x))
    model.swap(x, donor, "scarf")
    wanted = y.clone()
    wanted[:, 2] = model.predict(donor)[0, 2]
    assert torch.equal(seen[-1][0], z)
    assert torch.equal(seen[-1][1], wanted.double())


def test_generated_latents_of_the_stack_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    model = m1m2()
    c = torch.eye(3, dtype=torch.float64)[[2]].expand(3000, -1)
    seen: list[Tensor] = []
    monkeypatch.setattr(model, "decode", lambda z_1: seen.append(z_1) or z_1)
    model.generate(3000, 2)
    scale = F.softplus(model.m2.likelihood.raw_scale)
    with torch.no_grad():
        means = model.m2.decoder(torch.randn(20000, 2).double(), c[:1].expand(20000, -1))
    spread = (means.var(0) + scale**2).sqrt().detach()
    torch.testing.assert_close(seen[0].mean(0), means.mean(0), rtol=0, atol=float(5 * spread.max() / 3000**0.5))
    torch.testing.assert_close(seen[0].std(0), spread, rtol=0.08, atol=0)


def test_prior_over_labels_comes_from_the_known_ones() -> None:
    y = torch.tensor([0, 0, 0, 1, 1, 2, -1, -1])
    for model, part in ((m2(), "self"), (m1m2(), "m2")):
        model.prepare(points(8).double(), y)
        owner: Any = model if part == "self" else model.m2
        torch.testing.assert_close(owner.prior_logits.softmax(-1), torch.tensor([4, 3, 2]).double() / 9)


def test_sites_and_shapes_of_a_trace() -> None:
    model = m2()
    x, y, _ = example(CLASSES, 4)
    guide = pyro.poutine.trace(model.guide).get_trace(x, y)
    trace = pyro.poutine.trace(pyro.poutine.replay(model.model, guide)).get_trace(x, y)
    for name, shape in (("z", (4, 2)), ("y", (4,)), ("x", (4, 5)), ("logits", (4, 3))):
        assert trace.nodes[name]["value"].shape == shape
    assert torch.equal(trace.nodes["y"]["value"][y >= 0], y[y >= 0])
