"""M2: objective, gradients and bounds against formulas written here anew, in float64; its verbs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from data_makers import refused
from formulas import (
    NO_REGULARIZER,
    WEIGHTS,
    Counted,
    assert_bounds,
    assert_same,
    choices,
    divergence,
    example,
    grid,
    head_terms,
    log_p_x,
    normal,
    same_gradients,
    smooth,
    uneven,
)
from tiny import ATTRIBUTES, CLASSES, WIDTH, gradients, loss_at, make, points
from torch import Tensor
from torch.nn import functional as F

from pyro_ssvae import M2, AttributeLabels, ClassLabels
from pyro_ssvae.infer.bounds import reconstruction
from pyro_ssvae.labels import Labels

both = pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])


def m2(labels: Labels = CLASSES, shape: tuple[int, ...] = (5,), dim: int = 2, **options: Any) -> M2:
    model: M2 = make("m2", labels, shape, latent_dim=dim, **options).double().eval()
    uneven(model)
    return model


def q_z(model: M2, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    r = F.relu(h + model.from_c.weight @ c)
    return model.loc(r), model.log_scale(r).exp()


def encoded(model: M2, row: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits of one row."""
    h = model.encoder(row.unsqueeze(0))[0]
    return h, model.head(h)


def by_hand(model: M2, row: Tensor, y: Tensor, e: Tensor) -> Tensor:
    """L or U of one row, with log p(y) of a known label too."""
    h, logits = encoded(model, row)
    total = head_terms(model, logits, y)
    for c, log_q, log_p in choices(model, logits, y):
        loc, scale = q_z(model, h, c)
        z = loc + scale * e[:2]
        log_w = log_p_x(model, row, z, c) - model.config.beta * divergence(loc, scale, z) + log_p
        total = total + log_q.exp() * (log_w - log_q)
    return total


@pytest.mark.parametrize(
    ("labels", "how"), [(CLASSES, "enumerate"), (CLASSES, "sparse"), (ATTRIBUTES, "enumerate")],
    ids=["classes", "sparse", "attributes"],
)  # fmt: skip
def test_objective_and_gradient_are_the_sum_over_labels(labels: Labels, how: Any) -> None:
    model = m2(labels, label_inference=how, **WEIGHTS)
    x, y, eps = example(labels)
    assert_same(model, x, y, eps, -sum((by_hand(model, *row) for row in zip(x, y, eps)), x.new_zeros(())))


def test_a_share_of_the_gradient_reaches_the_head_early_in_training() -> None:
    model = m2(**NO_REGULARIZER)
    x, _, eps = example(CLASSES)
    values, heads = [], []
    for progress in (0.0, 0.25, 1.0):
        model.set_progress(progress)
        loss = loss_at(model, x, None, eps)
        values.append(loss.item())
        heads.append(gradients(loss, model)["head.weight"])
    assert values[0] == pytest.approx(values[1], rel=1e-12) == values[2]
    assert heads[0].abs().max() == 0
    assert heads[2].abs().max() > 1e-3
    torch.testing.assert_close(heads[1], 0.5 * heads[2])


def test_the_encoder_and_known_rows_cost_one_pass() -> None:
    """Known rows are decoded with the rest, but count once: a batch of them alone is L, not K times L."""
    model = m2(**NO_REGULARIZER)
    x, eps = points(4).double(), torch.randn(4, WIDTH, dtype=torch.float64)
    rows: list[int] = []
    model.encoder.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    counted = Counted(model.decoder)
    loss_at(model, x, None, eps)
    assert rows == [4]
    assert counted.rows["body"] == 12


# --- relaxed labels


def straight_through(model: M2, row: Tensor, y: Tensor, e: Tensor) -> Tensor:
    """The objective of one row at one relaxed draw, with the exact divergence of a missing label."""
    labels = model.labels
    h, logits = encoded(model, row)
    t = logits + 1.7 * e[5:8]
    prior = model.label_prior.logits
    if isinstance(labels, ClassLabels):
        soft, hard, known = (2 * t).softmax(-1), F.one_hot(t.argmax(), 3), F.one_hot(y.clamp_min(0), 3)
        kl_y = (logits.softmax(-1) * (logits.log_softmax(-1) - prior.log_softmax(-1))).sum() * (y < 0)
        log_p_y = prior.log_softmax(-1)[y.clamp_min(0)] * (y >= 0)
    else:
        soft, hard, known = torch.sigmoid(2 * t), (t > 0).long(), y
        q, p = logits.sigmoid(), prior.sigmoid()
        kl_y = ((q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()) * (y < 0)).sum()
        log_p_y = (torch.where(y == 1, p, 1 - p).log() * (y >= 0)).sum()
    c = torch.where(y < 0, hard.double() + soft - soft.detach(), known.double())
    loc, scale = q_z(model, h, c)
    z = loc + scale * e[:2]
    bound = log_p_x(model, row, z, c) - model.config.beta * divergence(loc, scale, z) - kl_y + log_p_y
    return bound + head_terms(model, logits, y)


@both
def test_straight_through_objective_is_a_draw_with_the_exact_divergence(labels: Labels) -> None:
    """A known label is a point, with log p(y)."""
    model = m2(labels, label_inference="straight-through", **WEIGHTS)
    x, y, eps = example(labels)
    assert_same(model, x, y, eps, -sum((straight_through(model, *row) for row in zip(x, y, eps)), x.new_zeros(())))


@both
def test_straight_through_objective_is_the_enumerated_one_on_average(labels: Labels) -> None:
    weights = {**WEIGHTS, **NO_REGULARIZER}
    relaxed, exact = (m2(labels, label_inference=how, **weights) for how in ("straight-through", "enumerate"))
    x, eps = points(1).double(), torch.randn(1, WIDTH, dtype=torch.float64)
    u = torch.rand(4000, 3, dtype=torch.float64)
    noise = (torch.logit(u) if labels is ATTRIBUTES else -(-u.log()).log()) / 1.7
    y = torch.tensor([[-1, 1, -1]]) if labels is ATTRIBUTES else torch.tensor([-1])
    many = torch.cat([eps[:, :5].expand(4000, -1), noise], 1)
    terms = []
    for part in many.split(40):
        repeated = y.expand(40, *y.shape[1:])
        terms.append(loss_at(relaxed, x.expand(40, -1), repeated, part).detach() / 40)
    draws = torch.stack(terms)
    assert abs(draws.mean() - loss_at(exact, x, y, eps)) < 4 * draws.std() / math.sqrt(len(draws))


@both
def test_drawn_labels_have_the_objective_and_gradient_of_the_sum(labels: Labels) -> None:
    """Averaged over every value of y with its probability, at given noise of z: the score function is unbiased."""
    drawn, summed = (m2(labels, label_inference=how, **WEIGHTS) for how in ("sample", "enumerate"))
    x, eps = points(1).double(), torch.randn(1, WIDTH, dtype=torch.float64)
    y = torch.full((1, *labels.event_shape), -1)
    total, found = x.new_zeros(()), {name: torch.zeros_like(p) for name, p in drawn.named_parameters()}
    with torch.no_grad():
        probs = labels.probs(encoded(drawn, x[0])[1])
    for value in labels.configurations():
        q = probs[value] if labels is CLASSES else torch.where(value == 1, probs, 1 - probs).prod()
        u = middle_of(probs, value)
        at = torch.cat([eps[:, :5], torch.special.ndtri(u).unsqueeze(0)], 1)
        loss = loss_at(drawn, x, y, at)
        total = total + q * loss.detach()
        for name, g in gradients(loss, drawn).items():
            found[name] += q * g
    expected = loss_at(summed, x, y, eps)
    torch.testing.assert_close(total, expected.detach(), rtol=1e-10, atol=0)
    same_gradients(found, gradients(expected, summed), rtol=1e-8, atol=1e-9)


def middle_of(probs: Tensor, value: Tensor) -> Tensor:
    """Uniform noise at which the label of these probabilities is ``value``."""
    if value.dim() == 0:
        upper = probs.cumsum(-1)[value]
        return (upper - probs[value] / 2).expand(3)
    return torch.where(value == 1, probs / 2, (1 + probs) / 2)


def test_how_missing_labels_are_inferred_by_default() -> None:
    def made(labels: Any, **options: Any) -> str:
        return m2(labels, **options).label_inference.how

    def attributes(n: int) -> AttributeLabels:
        return AttributeLabels([f"a{i}" for i in range(n)])

    assert [made(attributes(n)) for n in (4, 5)] == ["enumerate", "straight-through"]
    assert made(attributes(5), label_inference="enumerate") == "enumerate"
    assert [made(ClassLabels(k)) for k in (3, 17, 1024, 1025)] == ["enumerate"] * 3 + ["sample"]
    refused(lambda: made(attributes(11), label_inference="enumerate"), "11 attributes", "2048", "'straight-through'")
    refused(lambda: m2(label_inference="guess"), "label_inference", "guess", "straight-through")


# --- bounds


@pytest.mark.parametrize("known", [False, True], ids=["missing", "known"])
@pytest.mark.parametrize(("labels", "dim"), [(CLASSES, 2), (ATTRIBUTES, 1)], ids=["classes", "attributes"])
def test_bounds(labels: Labels, dim: int, known: bool) -> None:
    model = smooth(m2(labels, (3,), dim))
    x = points(3, (3,)).double()
    y = torch.tensor([2, 0, 1]) if labels is CLASSES else torch.tensor([[1, -1, 0], [-1, -1, 1], [0, 0, 0]])
    y = y if known else torch.full_like(y, -1)
    z, log_cell = grid(dim)
    log_p_z = normal(z, 0.0, torch.ones_like(z))
    log_p, elbo = [], []
    with torch.no_grad():
        for row, label in zip(x, y):
            h, logits = encoded(model, row)
            joint, expected = [], torch.zeros((), dtype=torch.float64)
            for c, log_q_y, log_p_y in choices(model, logits, label):
                joint.append(log_p_x(model, row, z, c) + log_p_y + log_p_z)
                loc, scale = q_z(model, h, c)
                log_q = normal(z, loc, scale.expand_as(z))
                inner = (log_q.exp() * (joint[-1] - log_q)).sum() * math.exp(log_cell)
                expected = expected + log_q_y.exp() * (inner - log_q_y)
            log_p.append(torch.stack(joint).logsumexp((0, 1)) + log_cell)
            elbo.append(expected)
    assert_bounds(model, x, y if known else None, torch.stack(log_p), torch.stack(elbo))


@both
def test_reconstruction_is_of_a_draw_of_every_label(labels: Labels) -> None:
    """``E_q log p(x | z, y)`` on average: labels summed over and z drawn, not its mean, not the likeliest label."""
    model = m2(labels, (3,), 1)
    x = points(1, (3,)).double()
    y = torch.full((1, *labels.event_shape), -1)
    z, log_cell = grid(1)
    expected = torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        h, logits = encoded(model, x[0])
        for c, log_q_y, _ in choices(model, logits, y[0]):
            loc, scale = q_z(model, h, c)
            weight = normal(z, loc, scale.expand_as(z)).exp() * math.exp(log_cell)
            expected = expected + log_q_y.exp() * (weight * log_p_x(model, x[0], z, c)).sum()
    draws = reconstruction(model, x.expand(4000, -1))
    assert abs(draws.mean() - expected) < 4.5 * draws.std() / math.sqrt(4000)
    assert not torch.equal(reconstruction(model, x), reconstruction(model, x))


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


def test_prior_over_labels_comes_from_the_known_ones() -> None:
    for name in ("m2", "m1+m2", "diva", "adgm"):
        model = make(name).double()
        model.prepare(points(8).double(), torch.tensor([0, 0, 0, 1, 1, 2, -1, -1]))
        torch.testing.assert_close(model.label_prior.logits.softmax(-1), torch.tensor([4, 3, 2]).double() / 9)
