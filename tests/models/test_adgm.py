"""ADGM: objective and gradients against the formula written here anew, in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from formulas import (
    WEIGHTS,
    assert_bounds,
    assert_same,
    choices,
    divergence,
    example,
    head_terms,
    log_p_x,
    normal,
    uneven,
)
from tiny import ATTRIBUTES, CLASSES, make, points, randomize
from torch import Tensor

from pyro_ssvae import ADGM
from pyro_ssvae.labels import Labels
from pyro_ssvae.models.adgm import Gaussian


def adgm(labels: Labels = CLASSES, shape: tuple[int, ...] = (5,), dim: int = 2, **options: Any) -> ADGM:
    """Its Gaussians have 9 hidden units in place of 256."""
    model: ADGM = make("adgm", labels, shape, latent_dim=dim, **options)
    for name in ("p_a", "q_a", "q_z"):
        setattr(model, name, Gaussian(getattr(model, name).body[0].in_features, dim, hidden=9))
    randomize(model).double().eval()
    uneven(model)
    return model


def gaussian(part: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of one of the model's Gaussians, at inputs of the same leading dimensions."""
    h = part.body[0](torch.cat(inputs, -1)).relu()
    return part.loc(h), part.log_scale(h).exp()


def by_hand(model: ADGM, row: Tensor, label: Tensor, e: Tensor) -> Tensor:
    """L or U of one row, with log p(y) of a known label too."""
    h = model.encoder(row.unsqueeze(0))[0]
    q_a = gaussian(model.q_a, h)
    a = q_a[0] + q_a[1] * e[2:4]
    logits = model.head(torch.cat([h, a]))
    total = head_terms(model, logits, label) - model.config.beta * normal(a, *q_a)
    for c, log_q, log_p in choices(model, logits, label):
        loc, scale = gaussian(model.q_z, h, a, c)
        z = loc + scale * e[:2]
        latent = normal(a, *gaussian(model.p_a, z, c)) - divergence(loc, scale, z)
        total = total + log_q.exp() * (log_p_x(model, row, z, c) + model.config.beta * latent + log_p - log_q)
    return total


@pytest.mark.parametrize(
    ("labels", "how"), [(CLASSES, "enumerate"), (CLASSES, "sparse"), (ATTRIBUTES, "enumerate")],
    ids=["classes", "sparse", "attributes"],
)  # fmt: skip
def test_objective_and_gradient_are_the_sum_over_labels(labels: Labels, how: Any) -> None:
    model = adgm(labels, label_inference=how, **WEIGHTS)
    x, y, eps = example(labels)
    assert_same(model, x, y, eps, -sum((by_hand(model, *row) for row in zip(x, y, eps)), x.new_zeros(())))


@pytest.mark.parametrize("known", [False, True], ids=["missing", "known"])
def test_bounds(known: bool) -> None:
    """a and z on a grid of 151 x 151; a leaves p(x, y) as it is without it."""
    model = adgm(CLASSES, (3,), 1)
    with torch.no_grad():
        for part in (model.p_a, model.q_a, model.q_z):
            part.loc.weight.mul_(0.4)
            part.log_scale.weight.mul_(0.2)
            part.log_scale.bias.fill_(0.1)
        model.decoder.body.weight.mul_(0.7)
        model.likelihood.raw_scale.fill_(1.0)
    x = points(3, (3,)).double()
    y = torch.tensor([2, 0, 1]) if known else torch.full((3,), -1)
    axis = torch.linspace(-8, 8, 151, dtype=torch.float64)
    step = math.log(float(axis[1] - axis[0]))
    a, z = torch.cartesian_prod(axis, axis).unsqueeze(-1).unbind(1)
    log_p, elbo = [], []
    with torch.no_grad():
        for row, label in zip(x, y):
            h = model.encoder(row.unsqueeze(0)).expand(len(a), -1)
            log_q_a = normal(a, *gaussian(model.q_a, h))
            logits = model.head(torch.cat([h, a], -1))
            joint, expected = [], -log_q_a.exp() * log_q_a
            for c, _, log_p_y in choices(model, logits[0], label):
                many = c.expand(len(a), -1)
                log_q_y = logits.log_softmax(-1)[:, int(c.argmax())] * (label < 0)
                shared = log_p_x(model, row, z, c) + normal(z, 0.0, torch.ones_like(z)) + log_p_y
                joint.append(shared + normal(a, *gaussian(model.p_a, z, many)))
                log_q = log_q_y + normal(z, *gaussian(model.q_z, h, a, many))
                expected = expected + (log_q_a + log_q).exp() * (joint[-1] - log_q)
            log_p.append(torch.stack(joint).logsumexp((0, 1)) + 2 * step)
            inner = -log_q_a.exp() * log_q_a
            elbo.append(((expected - inner).sum() * math.exp(step) + inner.sum() / len(axis)) * math.exp(step))
    assert_bounds(model, x, y if known else None, torch.stack(log_p), torch.stack(elbo))


def test_predictions_average_over_a() -> None:
    model = adgm()
    x = points(4).double()
    with torch.no_grad():
        h = model.encoder(x)
        loc, scale = gaussian(model.q_a, h)
        a = loc + scale * torch.randn(20_000, 4, 2, dtype=torch.float64)
        probs = model.head(torch.cat([h.expand(20_000, 4, -1), a], -1)).softmax(-1)
        fixed = loc + scale * torch.randn(100, 1, 2, generator=torch.Generator().manual_seed(0)).double()
        own = model.head(torch.cat([h.expand(100, 4, -1), fixed], -1)).softmax(-1)
    assert ((model.predict_proba(x) - probs.mean(0)).abs() < 4 * probs.std(0) / 10 + 1e-3).all()
    torch.testing.assert_close(model.predict_proba(x), own.mean(0))


def test_a_missing_label_is_encoded_as_the_most_probable_one_at_the_mean_of_a() -> None:
    model, x = adgm(), points(4).double()
    with torch.no_grad():
        h = model.encoder(x)
        c = torch.eye(3, dtype=torch.float64)[model.predict(x)]
        loc, scale = gaussian(model.q_z, h, gaussian(model.q_a, h)[0], c)
    for _ in range(3):  # a drawn label would be another one now and then
        q = model.encode(x)
        torch.testing.assert_close(q.mean, loc)
        torch.testing.assert_close(q.stddev, scale)
