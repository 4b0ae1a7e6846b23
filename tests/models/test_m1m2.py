"""M1+M2: objective, gradients and bounds against formulas written here anew, in float64."""

from __future__ import annotations

import math
from typing import Any

import pyro
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
    normal,
    smooth,
    uneven,
)
from tiny import ATTRIBUTES, CLASSES, WIDTH, loss_at, make, points, tiny_decoder, tiny_encoder
from torch import Tensor
from torch.nn import functional as F

from pyro_ssvae import M1M2
from pyro_ssvae.labels import Labels


def m1m2(labels: Labels = CLASSES, shape: tuple[int, ...] = (5,), dim: int = 2, **options: Any) -> M1M2:
    model: M1M2 = make("m1+m2", labels, shape, latent_dim=dim, **options).double().eval()
    uneven(model)
    return model


def log_p_x(model: M1M2, row: Tensor, z_1: Tensor) -> Tensor:
    out = model.decoder(z_1, None)
    return normal(row, out, F.softplus(model.likelihood.raw_scale).expand_as(out))


def log_p_z_1(model: M1M2, z_1: Tensor, z: Tensor, c: Tensor) -> Tensor:
    out = model.upper_decoder(z, c.expand(*z.shape[:-1], -1))
    return normal(z_1, out, F.softplus(model.upper_likelihood.raw_scale).expand_as(out))


def q_z(model: M1M2, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    r = F.relu(h + model.from_c(c))
    return model.loc(r), model.log_scale(r).exp()


def by_hand(model: M1M2, row: Tensor, label: Tensor, e: Tensor) -> Tensor:
    """The bound of both layers of one row, with log p(y) of a known label too."""
    beta, h = model.config.beta, model.encoder(row.unsqueeze(0))
    loc_1, scale_1 = model.loc_1(h), model.log_scale_1(h).exp()
    z_1 = loc_1 + scale_1 * e[2:4]
    logits = model.head(model.class_encoder(loc_1))[0]
    total = log_p_x(model, row, z_1)[0] - beta * normal(z_1, loc_1, scale_1)[0] + head_terms(model, logits, label)
    for c, log_q, log_p in choices(model, logits, label):
        loc, scale = q_z(model, model.upper_encoder(z_1), c)
        z = loc + scale * e[:2]
        upper = log_p_z_1(model, z_1, z, c) - divergence(loc, scale, z)
        total = total + log_q.exp() * (beta * upper[0] + log_p - log_q)
    return total


@pytest.mark.parametrize(
    ("labels", "how"), [(CLASSES, "enumerate"), (CLASSES, "sparse"), (ATTRIBUTES, "enumerate")],
    ids=["classes", "sparse", "attributes"],
)  # fmt: skip
def test_objective_is_the_bound_of_both_layers(labels: Labels, how: Any) -> None:
    model = m1m2(labels, label_inference=how, **WEIGHTS)
    x, y, eps = example(labels)
    assert_same(model, x, y, eps, -sum((by_hand(model, *row) for row in zip(x, y, eps)), x.new_zeros(())))


def test_x_is_decoded_once_whatever_the_number_of_classes() -> None:
    model = m1m2()
    rows: list[int] = []
    model.decoder.register_forward_hook(lambda module, args, out: rows.append(math.prod(args[0].shape[:-1])))
    loss_at(model, points(4).double(), None, torch.randn(4, WIDTH, dtype=torch.float64))
    assert rows == [4]


def test_upper_networks_of_ones_own_take_the_place_of_the_default_ones() -> None:
    """The classifier begins as a copy of the upper encoder, and is trained apart from it."""
    up, down = tiny_encoder((2,)), tiny_decoder((2,), 2, 3)
    lower = tiny_encoder((5,)), tiny_decoder((5,), 2, 0)
    model = M1M2(*lower, CLASSES, latent_dim=2, upper_encoder=up, upper_decoder=down)
    assert model.upper_encoder is up
    assert model.upper_decoder is down
    for one, other in zip(up.parameters(), model.class_encoder.parameters(), strict=True):
        assert one is not other
        assert torch.equal(one, other)


def test_progress_reaches_the_head_terms() -> None:
    model = m1m2()
    model.set_progress(0.25)
    assert float(model.head_terms.warmup) == pytest.approx(0.5)


@pytest.mark.parametrize("known", [False, True], ids=["missing", "known"])
def test_bounds(known: bool) -> None:
    """z_1 and z on a grid of 151 x 151."""
    model = smooth(m1m2(CLASSES, (3,), 1))
    with torch.no_grad():
        for weight, bias in ((model.loc_1.weight, model.loc_1.bias), (model.upper_decoder.body.weight, None)):
            weight.mul_(0.15 if bias is not None else 0.7)
            if bias is not None:
                bias.mul_(0.5)
        model.upper_likelihood.raw_scale.fill_(1.0)
        model.log_scale_1.weight.mul_(0.2)
        model.log_scale_1.bias.fill_(0.5)  # p(z_1 | z, y) over all z is wider than N(0, 1)
    x = points(3, (3,)).double()
    y = torch.tensor([2, 0, 1]) if known else torch.full((3,), -1)
    axis = torch.linspace(-8, 8, 151, dtype=torch.float64)
    step = math.log(float(axis[1] - axis[0]))
    z_1, z = torch.cartesian_prod(axis, axis).unsqueeze(-1).unbind(1)
    log_p, elbo = [], []
    with torch.no_grad():
        h_1 = model.upper_encoder(z_1)
        for row, label in zip(x, y):
            h = model.encoder(row.unsqueeze(0))
            loc, scale = model.loc_1(h)[0], model.log_scale_1(h).exp()[0]
            log_q_1 = normal(z_1, loc, scale.expand_as(z_1))
            log_p_row = log_p_x(model, row, z_1)
            logits = model.head(model.class_encoder(loc.unsqueeze(0)))[0]
            joint, expected = [], torch.zeros((), dtype=torch.float64)
            for c, log_q_y, log_p_y in choices(model, logits, label):
                joint.append(log_p_row + log_p_z_1(model, z_1, z, c) + normal(z, 0.0, torch.ones_like(z)) + log_p_y)
                log_q = log_q_1 + normal(z, *q_z(model, h_1, c))
                inner = (log_q.exp() * (joint[-1] - log_q)).sum() * math.exp(2 * step)
                expected = expected + log_q_y.exp() * (inner - log_q_y)
            log_p.append(torch.stack(joint).logsumexp((0, 1)) + 2 * step)
            elbo.append(expected)
    assert_bounds(model, x, y if known else None, torch.stack(log_p), torch.stack(elbo))


def test_generated_latents_are_drawn() -> None:
    """z and z_1 from their priors, of the given label; the decoder is the identity here."""
    model = m1m2()
    model.decoder.forward = lambda z, c=None: torch.nn.functional.pad(z, (0, 3))
    z_1 = model.generate(3000, 2)[:, :2]
    c = torch.eye(3, dtype=torch.float64)[[2]]
    scale = F.softplus(model.upper_likelihood.raw_scale)
    with torch.no_grad():
        means = model.upper_decoder(torch.randn(20000, 2).double(), c.expand(20000, -1))
    spread = (means.var(0) + scale**2).sqrt().detach()
    torch.testing.assert_close(z_1.mean(0), means.mean(0), rtol=0, atol=float(5 * spread.max() / 3000**0.5))
    torch.testing.assert_close(z_1.std(0), spread, rtol=0.08, atol=0)


class HearsZ(M1M2):
    """x hears z, which depends on the label, beside z_1."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            z = pyro.sample("z", self.p_z(x))
            z_1 = pyro.sample("z_1", self.p_z_1(z, self.class_input(y, x)))
            return pyro.sample("x", self.p_x(self.decoder(z_1 + z, None)), obs=self.likelihood.target(x))


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES])
def test_a_missing_label_is_the_most_probable_one_for_what_hears_it(labels: Labels) -> None:
    model = m1m2(labels)
    model.__class__ = HearsZ
    x = points(6, (5,)).double()
    by_prediction = model.reconstruct(x, model.predict(x))
    for _ in range(3):  # z heard a label that was drawn
        torch.testing.assert_close(model.reconstruct(x), by_prediction)
    other = model.reconstruct(x, 1 - model.predict(x) if labels is ATTRIBUTES else (model.predict(x) + 1) % 3)
    assert not torch.allclose(other, by_prediction)
