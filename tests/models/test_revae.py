"""The ReVAE as a model: its sites, p(y), prediction, evidence, generation, training, copies and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from data_makers import refused
from formulas import mean_of_draws
from pyro import poutine
from pyro.infer import SVI
from revae_toys import (
    CLASSES,
    MIXED,
    THREE,
    TWO,
    encoded,
    grid,
    grid_log_p,
    log_q_label,
    mean_over,
    points,
    spread,
    toy,
)
from tiny import gradients, tiny_encoder
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_ssvae import AttributeLabels, ClassLabels, ReVAE, create_model, load, save
from pyro_ssvae.infer.bounds import reconstruction
from pyro_ssvae.labels import Labels

BOTH = pytest.mark.parametrize("labels", [THREE, CLASSES], ids=["attributes", "classes"])
OPTIONS: list[dict[str, Any]] = [
    {},
    {"detach": "none"},
    {"detach": "numerator", "alpha": 3.0},
    {"integral": "samples"},
    {"label_inference": "sample"},
]
EVERY_OPTION = pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()))


def labels_for(labels: Labels, n: int) -> Tensor:
    if isinstance(labels, ClassLabels):
        return torch.tensor([0, -1, 1, -1, 2, -1])[torch.arange(n) % 6]
    return torch.tensor([[0, 1, 1], [-1, -1, -1], [1, -1, 0], [-1, 0, -1]])[torch.arange(n) % 4]


def with_good_posterior(labels: Labels, latent_dim: int, **options: Any) -> ReVAE:
    """Noisy data and a q(z|x) near the prior, so that importance weights are even."""
    model = toy(labels, latent_dim, **options)
    with torch.no_grad():
        model.likelihood.raw_scale.fill_(2.0)
        model.q_z.weight.mul_(0.3)
        model.q_z.bias.copy_(torch.tensor([0.0, 1.0]).repeat_interleave(latent_dim))
    return model


def train(model: ReVAE, x: Tensor, y: Tensor, n: int = 5) -> list[float]:
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 1e-2}), loss=model.objective())
    losses = []
    for i in range(n):
        pyro.set_rng_seed(i)
        losses.append(svi.step(x, y))
    return losses


def weights_of(model: ReVAE) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


# --- the programs


@BOTH
def test_sites_have_the_documented_shapes(labels: Labels) -> None:
    model = toy(labels, 8, label_dim=2)
    x, y = points(5), labels_for(labels, 5)
    guide = poutine.trace(model.guide).get_trace(x, y)
    trace = poutine.trace(poutine.replay(model.model, guide)).get_trace(x, y)
    label_shape = (3, 5) if labels is THREE else (5,)
    d_s = 8 - (6 if labels is THREE else 2)
    shapes = {"z_c": (label_shape, (2,)), "z_s": ((5,), (d_s,)), "y": (label_shape, ())}
    for name, (batch, event) in shapes.items():
        for fn in (guide.nodes[name]["fn"], trace.nodes[name]["fn"]):
            assert fn.event_shape == event, name
            assert torch.broadcast_shapes(fn.batch_shape, batch) == batch, name
        assert guide.nodes[name]["value"].shape == batch + event
    assert not {"y_observed", "y_unobserved", "logits"} & {*guide.nodes, *trace.nodes}
    assert trace.nodes["x"]["fn"].batch_shape == (5,)
    full = trace.nodes["y"]["value"]
    full = full.t() if labels is THREE else full
    assert torch.equal(full[y != -1], y[y != -1])
    assert set(full.unique().tolist()) <= set(range(2 if labels is THREE else 3))


@BOTH
def test_the_prior_program_draws_characteristics_of_its_labels(labels: Labels) -> None:
    model = toy(labels, 5)
    with torch.no_grad():
        model.prior_loc.mul_(20)
        model.prior_raw_scale.fill_(-8.0)
    trace = poutine.trace(model.model).get_trace(points(200), None)
    y, z_c = trace.nodes["y"]["value"], trace.nodes["z_c"]["value"]
    if labels is THREE:
        expected = model.prior_loc[torch.arange(3)[:, None], y]
        torch.testing.assert_close(y.double().mean(1), model.label_prior.logits.sigmoid(), rtol=0, atol=0.15)
    else:
        expected = model.prior_loc[y]
    torch.testing.assert_close(z_c, expected, rtol=0, atol=0.01)


def test_scales_may_be_as_small_as_a_thousandth() -> None:
    """``max(softplus, 1e-3)``: of the posterior, and of p(z_c | y), which is not to be held apart."""
    model = toy()
    raw = torch.tensor([1.0, 0.01, 0.0]).double().expm1().log().clamp_min(-30.0)
    with torch.no_grad():
        model.q_z.weight.zero_()
        model.q_z.bias[3:] = raw
        model.prior_raw_scale.copy_(raw[1:].reshape(1, 2, 1).expand_as(model.prior_raw_scale))
    wanted = torch.tensor([1.0, 0.01, 1e-3]).double()
    torch.testing.assert_close(model.encode(points(2)).stddev, wanted.expand(2, 3))
    scale = torch.stack([model.p_z_c(torch.full((2, 1), v)).stddev.squeeze() for v in (0, 1)])
    torch.testing.assert_close(scale, wanted[1:].unsqueeze(1).expand(2, 2))


def test_impossible_options_are_refused() -> None:
    refused(lambda: toy(TWO, 2), "latent_dim: 2", "z_c alone takes 2")
    refused(lambda: toy(TWO, 4, label_dim=2), "takes 4")
    refused(lambda: toy(CLASSES, 3), "takes 3")
    refused(lambda: toy(TWO, detach="some"), "detach", "'some'", "did you mean 'none'?")
    refused(lambda: toy(TWO, detach="x"), "detach", "'x'", "none, numerator, all")
    refused(lambda: toy(TWO, integral="exact"), "integral", "quadrature, samples")
    refused(lambda: toy(TWO, label_inference="drop"), "label_inference", "enumerate, sample")
    for how in ("sparse", "plug-in", "straight-through"):
        refused(lambda how=how: toy(CLASSES, 4, label_inference=how), "label_inference", f"there is no {how!r}")
    refused(lambda: toy(TWO, z_c_gradient=1.5), "z_c_gradient: 1.5", "0 to 1")
    refused(lambda: create_model("revae", input_shape=(3,), latent_dim=5), "labels", "revae")
    refused(lambda: create_model("revae", input_shape=(3,), labels=TWO, latent_dim=5, beta=1), "beta")


# --- p(y)


@pytest.mark.parametrize(("dim", "each"), [(45, 4), (20, 4), (19, 3), (14, 2), (13, 1), (8, 1), (4, 1)])
def test_a_characteristic_takes_up_to_four_dimensions_as_long_as_eight_are_left(dim: int, each: int) -> None:
    model = ReVAE(tiny_encoder((3,)), nn.Linear(dim, 3), AttributeLabels(["hat", "beard", "scarf"]), latent_dim=dim)
    assert (model.label_dim, model.p_z_s(torch.zeros(1, 3)).event_shape[0]) == (each, dim - 3 * each)


def test_prior_is_the_mean_of_the_known_labels() -> None:
    model = toy(TWO)
    y = torch.tensor([[1, 0], [1, -1], [0, -1], [-1, 1], [1, 1], [-1, 1]])
    model.prepare(points(6), y)
    torch.testing.assert_close(model.label_prior.logits.sigmoid(), torch.tensor([4 / 6, 4 / 6], dtype=torch.float64))
    y[0] = torch.tensor([1, -1])
    y[1] = torch.tensor([1, 0])
    y[2] = torch.tensor([0, 0])
    model.prepare(points(6), y)  # counts plus one: 3 of 4 known, 3 of 5
    expected = torch.tensor([4 / 6, 4 / 7], dtype=torch.float64)
    torch.testing.assert_close(model.label_prior.logits.sigmoid(), expected)
    torch.testing.assert_close(model.p_y().probs[:, 0, 1], expected)


def test_an_attribute_without_both_values_is_refused() -> None:
    model, x = toy(THREE, 4), points(4)
    before = model.label_prior.logits.clone()
    fine = torch.tensor([[0, 1, 0], [1, 0, 1], [-1, -1, -1], [1, 1, 1]])
    for value, said in ((-1, "no known label"), (0, "only the value 0"), (1, "only the value 1")):
        y = fine.clone()
        y[:, 1] = value
        refused(lambda y=y: model.prepare(x, y), "'beard'", said, "0 and 1")
    assert torch.equal(model.label_prior.logits, before)
    model.prepare(x, fine)


def test_no_labels_at_all_leave_the_prior_even() -> None:
    model = toy(THREE, 4)
    model.prepare(points(4), torch.full((4, 3), -1))
    torch.testing.assert_close(model.label_prior.logits, torch.zeros(3, dtype=torch.float64))


def test_prior_of_classes_counts_them() -> None:
    model = toy(CLASSES, 4)
    model.prepare(points(6), torch.tensor([0, 0, 0, 1, -1, 2]))
    expected = torch.tensor([4.0, 2, 2], dtype=torch.float64) / 8
    torch.testing.assert_close(model.p_y().probs, expected)


# --- what one asks of it


def test_predictions_are_the_posterior_s_mean_of_the_head() -> None:
    model, x = toy(THREE, 5), points(4)
    nodes, weights = grid(3, points_each=41)
    loc, scale = (v[:, :3] for v in encoded(model, x))
    loc, scale, eps = spread(nodes, loc, scale)
    z = loc + scale * eps
    ones = log_q_label(model, z, torch.ones(len(z), 3, dtype=torch.long)).exp()
    expected = torch.stack([mean_over(ones[:, i], weights) for i in range(3)], -1)
    torch.testing.assert_close(model.predict_proba(x), expected.detach(), rtol=0, atol=1e-6)
    assert torch.equal(model.predict(x), (expected > 0.5).long())


def test_class_predictions_are_near_the_posterior_s_mean_of_the_head() -> None:
    model, x = toy(CLASSES, 3, label_dim=2), points(4)
    loc, scale = (v[:, :2] for v in encoded(model, x))
    z = loc + scale * torch.randn(20000, 4, 2, dtype=torch.float64)
    expected = (z @ model.head_weight.t() + model.head_bias).softmax(-1).mean(0)
    found = model.predict_proba(x)
    torch.testing.assert_close(found.sum(1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=0.12)
    assert torch.equal(found, model.predict_proba(x)), "prediction is not deterministic"
    torch.testing.assert_close(found[1:2], model.predict_proba(x[1:2]))


def test_evidence_in_order_below_its_integral() -> None:
    """bound ≤ 10 samples ≤ 1000 samples ≤ log p(x, y_O), in expectation; two latent dimensions."""
    model = with_good_posterior(AttributeLabels(["hat"]), 2)
    with torch.no_grad():  # not too good, or all of them agree
        model.q_z.bias.add_(torch.tensor([0.7, -0.5, 0.5, 0.0]))
    x, y = points(1).expand(3, 3), torch.tensor([[-1], [0], [1]])
    log_p = grid_log_p(model, x, y, points_each=161)
    n = 800
    many_x, many_y = x.repeat(n, 1), y.repeat(n, 1)
    means, errors = [], []
    for draws in (
        model.elbo(many_x, many_y),
        model.log_likelihood(many_x, many_y, num_samples=10),
        mean_of_draws(model, many_x[:60], many_y[:60], 1000),
    ):
        draws = draws.reshape(-1, 3)
        means.append(draws.mean(0))
        errors.append(draws.std(0) / len(draws) ** 0.5)
    assert (means[0] + 3 * errors[0] < means[1]).all(), (means, errors)
    assert (means[1] - 3 * errors[1] < means[2]).all()
    assert (means[2] < log_p + 4 * errors[2]).all()
    torch.testing.assert_close(means[2], log_p.detach(), rtol=0, atol=0.05)
    torch.testing.assert_close(log_p[1:].logsumexp(0), log_p[0])  # p(x) = Σ_y p(x, y)


@BOTH
def test_log_likelihood_reaches_the_integral(labels: Labels) -> None:
    model = with_good_posterior(TWO, 3) if labels is THREE else with_good_posterior(CLASSES, 3, label_dim=2)
    x, y = points(5), MIXED if labels is THREE else torch.tensor([-1, 0, 2, 1, -1])
    found = mean_of_draws(model, x, y, 1500)
    torch.testing.assert_close(found, grid_log_p(model, x, y).detach(), rtol=0, atol=0.15)


@pytest.mark.parametrize("options", OPTIONS[1:3], ids=["none", "numerator-alpha"])
def test_elbo_ignores_the_weights_of_training(options: dict[str, Any]) -> None:
    x = points(5)
    pyro.set_rng_seed(3)
    expected = toy(TWO).elbo(x, MIXED, num_samples=3)
    pyro.set_rng_seed(3)
    torch.testing.assert_close(toy(TWO, **options).elbo(x, MIXED, num_samples=3), expected)


def test_encode_decode_and_reconstruct_fit_together() -> None:
    model, x = toy(THREE, 8, label_dim=2), points(4)
    q = model.encode(x)
    assert (q.batch_shape, q.event_shape) == ((4,), (8,))
    loc, scale = encoded(model, x)
    torch.testing.assert_close(q.mean, loc.detach())
    torch.testing.assert_close(q.base_dist.scale, scale.detach())
    torch.testing.assert_close(model.reconstruct(x), model.decode(q.mean))
    assert model.decode(torch.zeros(2, 3, 8)).shape == (2, 3, 3)
    assert reconstruction(model, x).shape == (4,)


def generated_z(model: ReVAE, n: int, y: Any) -> Tensor:
    """What :meth:`generate` decodes."""
    seen: list[Tensor] = []
    handle = model.decoder.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    model.generate(n, y)
    handle.remove()
    return seen[-1]


def test_generate_draws_characteristics_of_the_labels_given() -> None:
    model = toy(TWO)
    with torch.no_grad():
        model.prior_loc.copy_(torch.tensor([[[-9.0], [9.0]], [[-5.0], [5.0]]]))
        model.prior_raw_scale.fill_(-3.0)
    z = generated_z(model, 2000, None)
    ones = (z[:, :2] > 0).double().mean(0)
    torch.testing.assert_close(ones, model.label_prior.logits.sigmoid(), rtol=0, atol=0.05)
    torch.testing.assert_close(z[:, 2].std(), torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=0.08)
    for y in ([1, 0], torch.tensor([1, 0]), torch.tensor([[1, 0]] * 50)):
        assert (generated_z(model, 50, y)[:, :2].sign() == torch.tensor([1.0, -1.0])).all()
    z = generated_z(model, 300, [-1, 1])
    assert (z[:, 1] > 0).all()
    assert 0 < (z[:, 0] > 0).double().mean() < 1
    loc, scale = model.conditional("hat", 1)
    drawn = generated_z(model, 4000, [1, 1])[:, 0]
    assert abs(drawn.std() / scale - 1) < 0.05
    assert abs(drawn.mean() - loc) < 5 * scale / 4000**0.5
    assert model.generate(4).shape == (4, 3)
    refused(lambda: model.generate(3, [1, 2]), "0 to 1")
    refused(lambda: model.generate(3, [[1, 0]] * 2), "2 rows")


def test_generate_from_classes() -> None:
    model = toy(CLASSES, 4)
    with torch.no_grad():
        model.prior_loc.copy_(9 * torch.eye(3))
        model.prior_raw_scale.fill_(-3.0)
    for y in (2, "owl", [2] * 20):
        assert (generated_z(model, 20, y)[:, :3].argmax(1) == 2).all()
    drawn = generated_z(model, 3000, None)[:, :3].argmax(1).bincount(minlength=3) / 3000
    torch.testing.assert_close(drawn.double(), model.label_prior.logits.softmax(-1), rtol=0, atol=0.04)
    refused(lambda: model.generate(2, "bird"), "bird", "cat, dog, owl")


# --- training


@BOTH
@EVERY_OPTION
def test_gradients_reach_every_parameter_and_svi_trains_it(labels: Labels, options: dict[str, Any]) -> None:
    model = toy(labels, 5, **options).float()
    x, y = points(8).float(), labels_for(labels, 8)
    loss = model.objective().differentiable_loss(model.model, model.guide, x, y)
    assert not [name for name, g in gradients(loss, model).items() if g.abs().max() < 1e-7]
    before = weights_of(model)
    losses = train(model, x, y, n=30)
    assert sum(losses[-8:]) < sum(losses[:8])
    assert not [name for name, p in model.named_parameters() if torch.equal(p, before[name])]


def test_it_learns_labels_from_a_few_and_sets_them() -> None:
    """Two attributes that shift their own feature, a quarter of the entries known."""
    torch.manual_seed(0)
    truth = torch.randint(0, 2, (256, 2))
    x = torch.cat([4.0 * truth - 2, torch.zeros(256, 1)], 1) + 0.4 * torch.randn(256, 3)
    y = torch.where(torch.rand(256, 2) < 0.25, truth, -1)
    model = toy(TWO, 3, alpha=5.0).float()
    model.prepare(x, y)
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 2e-2}), loss=model.objective())
    for _ in range(250):
        svi.step(x, y)
    assert (model.predict(x) == truth).double().mean() > 0.95
    changed = model.predict(model.intervene(x, {"hat": 1}))
    assert changed[:, 0].double().mean() > 0.9
    assert (changed[:, 1] == truth[:, 1]).double().mean() > 0.9


# --- shapes and files, with the default networks


@BOTH
@pytest.mark.parametrize("shape", [(6,), (2, 16), (1, 8, 8), (3, 24, 24)], ids=str)
def test_shapes(shape: tuple[int, ...], labels: Labels) -> None:
    model: Any = create_model("revae", input_shape=shape, labels=labels, latent_dim=6)
    x, y = torch.rand(3, *shape), labels_for(labels, 3)
    loss = model.objective().differentiable_loss(model.model, model.guide, x, y)
    loss.backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    assert model.predict_proba(x).shape == (3, 3)
    assert model.predict(x).shape == (3, *labels.event_shape)
    assert model.generate(2).shape == (2, *shape)
    assert model.reconstruct(x).shape == x.shape
    assert model.elbo(x, y).shape == model.log_likelihood(x, y, num_samples=2).shape == (3,)
    if labels is THREE:
        assert model.intervene(x, {"hat": 1}, num_samples=2).shape == (2, *x.shape)
        assert model.swap(x, x[:1], "scarf").shape == x.shape
        assert model.walk(x, "hat", "beard", steps=3).shape == (3, 3, 3, *shape)


def test_uint8_pixels_are_scaled_to_one() -> None:
    model: Any = create_model("revae", input_shape=(1, 8, 8), labels=THREE, latent_dim=5).eval()
    pixels = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(model.predict_proba(pixels), model.predict_proba(pixels.float() / 255))
    assert torch.equal(model.swap(pixels, pixels, "hat"), model.swap(pixels / 255, pixels / 255, "hat"))


@BOTH
def test_a_saved_model_is_the_same_model(labels: Labels, tmp_path: Path) -> None:
    options: dict[str, Any] = {"alpha": 4.0, "detach": "numerator", "integral": "samples", "label_dim": 2}
    model: Any = create_model("revae", input_shape=(6,), labels=labels, latent_dim=8, **options)
    x, y = torch.randn(12, 6), labels_for(labels, 12)
    model.prepare(x, y)
    train(model, x, y)
    save(model, tmp_path)
    again: Any = load(tmp_path)
    assert isinstance(again, ReVAE)
    assert again.config == model.config
    assert (again.config.alpha, again.config.detach, again.config.integral, again.label_dim) == (
        4.0, "numerator", "samples", 2,
    )  # fmt: skip
    assert again.labels == labels
    torch.testing.assert_close(again.predict_proba(x), model.predict_proba(x), rtol=0, atol=0)
    assert torch.equal(again.label_prior.logits, model.label_prior.logits)
    torch.testing.assert_close(again.reconstruct(x), model.reconstruct(x), rtol=0, atol=0)
    torch.testing.assert_close(F.softplus(again.prior_raw_scale), F.softplus(model.prior_raw_scale))


@BOTH
def test_a_label_that_is_set_may_be_of_any_type_of_number(labels: Labels) -> None:
    """``pyro.condition`` and ``poutine.do`` take it as Pyro's own distributions do."""
    model, x = toy(labels, 5).eval(), points(4)
    y = torch.randint(0, 2, (4, 3) if labels.event_shape else (4,), generator=torch.Generator().manual_seed(0))
    y = y.mT if labels.event_shape else y  # as the plates have it
    drawn = poutine.trace(model.model).get_trace(x).nodes
    forms: list[Any] = [y, y.float(), y.bool()]

    def log_p(form: Any) -> float:
        program = pyro.condition(model.model, {**{name: drawn[name]["value"] for name in ("z_c", "z_s")}, "y": form})
        return poutine.trace(program).get_trace(x).log_prob_sum().item()

    assert [log_p(form) for form in forms] == [log_p(y)] * 3
    assert [poutine.trace(poutine.do(model.model, {"y": form})).get_trace(x).nodes["x"]["value"].shape == x.shape
            for form in (*forms, 1)] == [True] * 4  # fmt: skip


def test_attributes_that_are_set_come_before_points() -> None:
    model, x = toy(THREE, 5).eval(), points(4)
    for y in (torch.ones(4, 3), torch.ones(3)):
        program = poutine.do(model.model, {"y": y})
        refused(lambda p=program: p(x), f"y: shape {list(y.shape)}", "attributes come before points, [3, N]")
    for y in (torch.ones(3, 1), torch.ones(3, 4), torch.ones(1, 4)):
        assert poutine.trace(poutine.do(model.model, {"y": y})).get_trace(x).nodes["x"]["value"].shape == x.shape
