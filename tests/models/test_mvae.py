"""MVAE: the product of experts, the sub-sampled objective and the bounds against formulas written here anew."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from data_makers import refused
from formulas import assert_bounds, assert_same, divergence, example, grid, log_p_x, normal
from pyro import poutine
from tiny import ATTRIBUTES, CLASSES, loss_at, make, points, some_labels, tiny_decoder, tiny_encoder
from torch import Tensor, nn
from torch.nn import functional as F

import pyro_ssvae as ps
from pyro_ssvae import MVAE, AttributeLabels
from pyro_ssvae.labels import Labels

both = pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])


def mvae(labels: Labels = CLASSES, shape: tuple[int, ...] = (5,), dim: int = 2, **options: Any) -> MVAE:
    model: MVAE = make("mvae", labels, shape, **{"latent_dim": dim, "subsets": 0, **options}).double().eval()
    return model


def product(model: MVAE, row: Tensor, y: Tensor, seen: bool) -> tuple[Tensor, Tensor]:
    """Mean and scale of N(0, I) times the experts, one after another."""
    loc, var = torch.zeros(model.config.latent_dim).double(), torch.ones(model.config.latent_dim).double()
    experts = []
    if seen:
        h = model.encoder(row.unsqueeze(0))[0]
        experts.append((model.loc(h), model.log_scale(h).exp() ** 2))
    for i, value in enumerate(y.reshape(-1).tolist()):
        if value >= 0:
            experts.append((model.label_loc[i, value], model.label_log_scale[i, value].exp() ** 2))
    for m, v in experts:
        loc, var = (loc * v + m * var) / (var + v), var * v / (var + v)
    return loc, var.sqrt()


def log_p_y(model: MVAE, z: Tensor, y: Tensor) -> Tensor:
    logits = model.head(z)
    if y.dim() == 0:
        return logits.log_softmax(-1)[..., y] if y >= 0 else torch.zeros(z.shape[:-1]).double()
    return (F.logsigmoid((2 * y - 1) * logits) * (y >= 0)).sum(-1)


def bound(model: MVAE, row: Tensor, y: Tensor, e: Tensor, seen: bool) -> Tensor:
    loc, scale = product(model, row, y, seen)
    z = loc + scale * e[:2]
    log_p = log_p_x(model, row, z) * seen + model.config.alpha * log_p_y(model, z, y)
    return log_p - model.config.beta * divergence(loc, scale, z)


@both
def test_objective_and_gradient_are_the_three_bounds(labels: Labels) -> None:
    model = mvae(labels, alpha=3.0, beta=0.7)
    x, y, eps = example(labels, 8)
    total = x.new_zeros(())
    for row, label, e in zip(x, y, eps):
        nothing = torch.full_like(label, -1)
        total = total + bound(model, row, label, e, True)
        if (label >= 0).any():
            total = total + bound(model, row, nothing, e, True) + bound(model, row, label, e, False)
    assert_same(model, x, y, eps, -total)


def test_a_label_counts_5000_times_without_being_asked() -> None:
    """The loss is linear in α: at the same draw, what the documented default adds to α = 1, in steps of one."""
    x, y, eps = example(CLASSES, 6)
    by_default, once, twice = (
        loss_at(mvae(**options), x, y, eps).detach() for options in ({}, {"alpha": 1.0}, {"alpha": 2.0})
    )
    assert float((by_default - once) / (twice - once)) == pytest.approx(4999, rel=1e-6)


def test_random_subsets_are_bounds_of_what_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a row without any label, none is taken."""
    model = mvae(ATTRIBUTES, alpha=3.0, subsets=2)
    x, y, eps = example(ATTRIBUTES, 4)
    drawn: list[Tensor] = []
    rand = torch.rand

    def watched(*args: Any, **kwargs: Any) -> Tensor:
        drawn.append(rand(*args, **kwargs))
        return drawn[-1]

    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand", watched)
        loss = loss_at(model, x, y, eps)
    model.subsets = 0
    expected = loss_at(model, x, y, eps)
    masks = [d < 0.5 for d in drawn if d.shape in ((4, 3), (4,))]
    assert [m.shape for m in masks] == [(4, 3), (4,)] * 2
    for kept, seen in (masks[:2], masks[2:]):
        for i in range(4):
            if (y[i] >= 0).any():
                some = torch.where(kept[i], y[i], -1)
                expected = expected - bound(model, x[i], some, eps[i], bool(seen[i]))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


def test_a_step_encodes_once_and_decodes_no_bound_without_x() -> None:
    """Values and gradients are those of the bounds one by one: the tests above."""
    model = mvae(ATTRIBUTES, subsets=2)
    calls = {"encoder": 0, "decoder": 0}

    def count(name: str) -> None:
        calls[name] += 1

    model.encoder.register_forward_hook(lambda *_: count("encoder"))
    model.decoder.register_forward_hook(lambda *_: count("decoder"))
    x, y = points(4).double(), some_labels(ATTRIBUTES, 4)
    for _ in range(2):  # the second step takes nothing from the first
        model.objective().differentiable_loss(model.model, model.guide, x, y).backward()
    assert calls == {"encoder": 2, "decoder": 2 * 4}
    trace = poutine.trace(model.model).get_trace(x, y, False)
    assert "x" not in trace.nodes
    assert "y" in trace.nodes


def test_random_subsets_by_default() -> None:
    def made(labels: Any, **options: Any) -> int:
        return MVAE(tiny_encoder((5,)), tiny_decoder((5,), 2, 0), labels, latent_dim=2, **options).subsets

    of_attributes = [made(AttributeLabels(names)) for names in (["a"], ["a", "b"])]
    assert [made(CLASSES), made(ATTRIBUTES), *of_attributes, made(CLASSES, subsets=3)] == [0, 1, 0, 1, 3]
    refused(lambda: made(CLASSES, subsets=-1), "subsets: -1", "at least 0")


@both
def test_posterior_is_the_product_of_what_is_there(labels: Labels) -> None:
    model = mvae(labels)
    x, y = points(6).double(), some_labels(labels, 6)
    q = model.encode(x, y)
    for i in range(6):
        loc, scale = product(model, x[i], y[i], True)
        torch.testing.assert_close(q.mean[i], loc)
        torch.testing.assert_close(q.stddev[i], scale)
    assert not torch.allclose(q.mean[0], model.encode(x).mean[0])


def test_an_expert_is_encoded_anew_once_the_weights_have_moved() -> None:
    model, (x, y, eps) = mvae(), example(CLASSES, 4)
    loss_at(model, x, y, eps)
    with torch.no_grad():
        model.loc.bias.add_(1.0)
    torch.testing.assert_close(model.q_z(x, y).mean[0], product(model, x[0], y[0], True)[0])


def test_the_scale_of_x_s_expert_is_kept_within_the_bounds_of_any() -> None:
    """e^-15 and e^15; beside e^30 the prior's precision of 1 is nothing."""
    model, x = mvae(), points(3).double()
    for log_scale, kept in ((-12.0, -12.0), (-40.0, -15.0)):
        with torch.no_grad():
            model.log_scale.weight.zero_()
            model.log_scale.bias.fill_(log_scale)
        torch.testing.assert_close(model.encode(x).stddev.log(), torch.full((3, 2), kept).double())


@both
def test_a_new_models_experts_are_apart(labels: Labels) -> None:
    """With N(0, I) each is at distance 1 from the middle, opposite values at -1 and 1, different labels at a right
    angle."""
    model = MVAE(tiny_encoder((5,)), tiny_decoder((5,), 9, 0), labels, latent_dim=9)
    nothing = torch.full((labels.size, *labels.event_shape), -1)
    one = nothing.clone()
    if labels is ATTRIBUTES:
        one.fill_diagonal_(1)
        no = nothing.clone().fill_diagonal_(0)
        torch.testing.assert_close(model.q_z(points(3), no, False).mean, -model.q_z(points(3), one, False).mean)
    else:
        one = torch.arange(labels.size)
    means = model.q_z(points(3), one, False).mean
    torch.testing.assert_close(means @ means.t(), torch.eye(3), rtol=0, atol=1e-5)
    assert model.q_z(points(3), nothing, False).mean.abs().max() == 0


def test_predictions_average_over_the_posterior() -> None:
    for labels in (CLASSES, ATTRIBUTES):
        model = mvae(labels)
        x = points(4).double()
        z = model.encode(x).sample((20_000,))
        with torch.no_grad():
            probs = labels.probs(model.head(z))
        # The model's own 100 draws, and 20,000 here.
        error = probs.std(0) / 10
        assert ((model.predict_proba(x) - probs.mean(0)).abs() < 4 * error + 1e-3).all()
        assert torch.equal(model.predict_proba(x), model.predict_proba(x))
        q, noise = model.encode(x), torch.randn(100, 1, 2, generator=torch.Generator().manual_seed(0)).double()
        own = labels.probs(model.head(q.mean + q.stddev * noise)).mean(0)
        torch.testing.assert_close(model.predict_proba(x), own.detach())


@pytest.mark.parametrize("known", [False, True], ids=["missing", "known"])
@pytest.mark.parametrize(("labels", "dim"), [(CLASSES, 2), (ATTRIBUTES, 1)], ids=["classes", "attributes"])
def test_bounds(labels: Labels, dim: int, known: bool) -> None:
    model = mvae(labels, (3,), dim)
    model.head = nn.Sequential(nn.Linear(dim, 7), nn.ReLU(), nn.Linear(7, 3)).double()  # 256 units take their time
    with torch.no_grad():
        for p in (model.loc.weight, model.log_scale.weight, model.label_loc, model.label_log_scale):
            p.mul_(0.2)
        model.log_scale.bias.zero_()
        model.likelihood.raw_scale.fill_(1.0)
    x = points(3, (3,)).double()
    y = torch.tensor([2, 0, 1]) if labels is CLASSES else torch.tensor([[1, -1, 0], [-1, -1, 1], [0, 0, 0]])
    y = y if known else torch.full_like(y, -1)
    z, log_cell = grid(dim)
    log_p, elbo = [], []
    with torch.no_grad():
        for row, label in zip(x, y):
            joint = log_p_x(model, row, z) + log_p_y(model, z, label) + normal(z, 0.0, torch.ones_like(z))
            loc, scale = product(model, row, label, True)
            log_q = normal(z, loc, scale.expand_as(z))
            log_p.append(joint.logsumexp(0) + log_cell)
            elbo.append((log_q.exp() * (joint - log_q)).sum() * math.exp(log_cell))
    assert_bounds(model, x, y if known else None, torch.stack(log_p), torch.stack(elbo))


# --- verbs


@pytest.fixture
def decoded() -> tuple[MVAE, list[Tensor]]:
    model, seen = mvae(ATTRIBUTES), []
    model.decoder.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    return model, seen


def test_interventions_are_drawn_under_the_expert_of_the_value(decoded: tuple[MVAE, list[Tensor]]) -> None:
    model, seen = decoded
    x = points(1).double().expand(4000, -1)
    assert model.intervene(x[:6], {"hat": 1}, num_samples=3).shape == (3, 6, 5)
    assert not torch.equal(seen[0], seen[1])
    model.intervene(x, {"beard": 0, "hat": 1})
    loc, scale = product(model, x[0], torch.tensor([1, 0, -1]), True)
    torch.testing.assert_close(seen[-1].mean(0), loc.detach(), rtol=0, atol=4.5 * scale.max().item() / 4000**0.5)
    torch.testing.assert_close(seen[-1].std(0), scale.detach(), rtol=0.06, atol=0)


def test_a_swap_takes_the_donor_s_predicted_value(decoded: tuple[MVAE, list[Tensor]]) -> None:
    model, seen = decoded
    x, donor = points(6).double(), points(6).double()
    model.swap(x, donor, "scarf")
    z = seen[-1]
    for i, value in enumerate(model.predict(donor)[:, 2].tolist()):
        loc, _ = product(model, x[i], torch.tensor([-1, -1, value]), True)
        torch.testing.assert_close(z[i], loc.detach())
    assert model.swap(x, donor[:1], "hat").shape == (6, 5)


def test_generated_latents_follow_the_experts_of_the_labels() -> None:
    """The decoder is the identity here."""
    model = mvae(ATTRIBUTES)
    model.decoder.forward = lambda z, c=None: F.pad(z, (0, 3))
    z = model.generate(4000, [1, -1, 0])[:, :2]
    loc, scale = product(model, torch.zeros(5).double(), torch.tensor([1, -1, 0]), False)
    torch.testing.assert_close(z.mean(0), loc.detach(), rtol=0, atol=4.5 / 4000**0.5)
    torch.testing.assert_close(z.std(0), scale.detach(), rtol=0.06, atol=0)


def test_a_model_or_guide_that_cannot_do_without_x_is_refused() -> None:
    """The other models' signature ``(x, y)`` says nothing of rows without x; bounds of all modalities need none."""

    class OwnModel(MVAE):
        def model(self, x: Tensor, y: Tensor | None = None) -> Tensor | None:  # type: ignore[override]
            return super().model(x, y)

    class OwnGuide(MVAE):
        def guide(self, x: Tensor, y: Tensor | None = None) -> None:  # type: ignore[override]
            super().guide(x, y)

    class Wrapped(MVAE):
        def model(self, *args: Any, **kwargs: Any) -> Tensor | None:
            return super().model(*args, **kwargs)

    x, y = points(6), torch.tensor([0, 1, 2, -1, 0, 1])
    for kind, name in ((OwnModel, "model"), (OwnGuide, "guide"), (Wrapped, "")):
        model = mvae().float()
        model.__class__ = kind
        fit = partial(ps.fit, model, x, y, epochs=1, batch_size=3, augment="none", progress=False)
        for verb in (fit, partial(ps.sites, model, x, y)):
            if name:
                refused(verb, f"{name}(x, y=None, seen=True)")
            else:
                verb()
        assert ps.elbo(model, x, y).shape == (6,)
