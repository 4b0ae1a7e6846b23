"""The ReVAE's bound and its gradients against integration over a grid and brute force, in float64."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from formulas import same_gradients
from pair_suite import Values
from revae_toys import (
    CLASSES,
    MIXED,
    THREE,
    TWO,
    by_hand,
    encoded,
    grid,
    grid_bound,
    grid_log_p,
    grid_log_q_known,
    known,
    log_q_known,
    log_q_label,
    mean_over,
    points,
    repeats,
    rows_at,
    spread,
    toy,
    values_of,
)
from tiny import gradients
from torch import Tensor

from pyro_ssvae import ReVAE, create_model
from pyro_ssvae.infer.ccvae_bound import CCVAEBound
from pyro_ssvae.labels import Labels

CLASS_ROWS = torch.tensor([-1, 0, 2, 1, -1])
PARTLY = torch.tensor([[-1, -1, -1], [1, -1, -1], [-1, 0, 1], [0, 1, 1], [1, 1, -1]])
EVERY_DETACH = pytest.mark.parametrize("detach", ["none", "numerator", "all"])


def with_classes(**options: Any) -> ReVAE:
    return toy(CLASSES, 3, label_dim=2, **options)


def exact(model: ReVAE, x: Tensor, y: Tensor) -> Tensor:
    """The expectation of the model's own estimator over z, the nodes of a grid being its draws: ``[R]``."""
    nodes, weights = grid(model.config.latent_dim)
    x, y, eps = spread(nodes, x, y)
    return mean_over(rows_at(model, x, y, eps), weights)


def q_z_c(model: ReVAE, loc: Tensor, scale: Tensor) -> Any:
    """q(z_c | x) of means and scales ``[B, D]``, as the site has it."""
    n = model.z_c_dim
    return dist.Normal(model.split(loc[:, :n]), model.split(scale[:, :n])).to_event(1)


# --- the formula, at given z


@EVERY_DETACH
@pytest.mark.parametrize("alpha", [1.0, 7.0])
@pytest.mark.parametrize("label_dim", [1, 2])
def test_every_draw_is_the_formula_summed_over_all_values_of_y(detach: Any, alpha: float, label_dim: int) -> None:
    """Partly labelled rows and all; 2^3 values by brute force; value and gradient, with w detached as documented."""
    model = toy(THREE, 3 * label_dim + 2, label_dim=label_dim, detach=detach, alpha=alpha)
    x, y, eps = points(5), PARTLY, torch.randn(5, model.config.latent_dim, dtype=torch.float64)
    loc, scale = encoded(model, x)
    q_c = q_z_c(model, loc, scale)
    log_q_x = model.log_q_known(y.t(), q_c, q_c.mean)
    expected = by_hand(model, x, y, loc + scale * eps, log_q_x, detach=detach, alpha=alpha)
    found = rows_at(model, x, y, eps)
    torch.testing.assert_close(found, expected)
    weights = torch.linspace(0.5, 2, 5, dtype=torch.float64)
    same_gradients(gradients(found @ weights, model), gradients(expected @ weights, model))


@EVERY_DETACH
@pytest.mark.parametrize("y", [CLASS_ROWS, None], ids=["some", "none"])
def test_every_draw_with_classes_is_the_formula(detach: Any, y: Tensor | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """q(y|x) is the mean over 100 further draws and the current one."""
    model = with_classes(detach=detach, alpha=3.0)
    x, eps = points(5), torch.randn(5, 3, dtype=torch.float64)
    more = torch.randn(100, 5, 2, dtype=torch.float64)
    labels = torch.full((5,), -1) if y is None else y
    loc, scale = encoded(model, x)
    z = loc + scale * eps
    others = loc[:, :2] + scale[:, :2] * more
    log_q = torch.stack([log_q_known(model, z_c, labels) for z_c in (z[:, :2], *others)])
    expected = by_hand(model, x, labels, z, log_q.logsumexp(0) - math.log(101), detach=detach, alpha=3.0)
    with monkeypatch.context() as m:
        m.setattr(torch.distributions.Normal, "rsample", lambda q, shape: q.loc + q.scale * more)
        found = rows_at(model, x, y, eps)
    torch.testing.assert_close(found, expected)
    weights = torch.linspace(0.5, 2, 5, dtype=torch.float64)
    same_gradients(gradients(found @ weights, model), gradients(expected @ weights, model))


@pytest.mark.parametrize("integral", ["quadrature", "samples"])
@pytest.mark.parametrize("labels", [THREE, CLASSES], ids=["attributes", "classes"])
def test_no_labels_are_all_missing(labels: Labels, integral: Any) -> None:
    model = toy(labels, 4, integral=integral)
    x, eps = points(3), torch.randn(3, 4, dtype=torch.float64)
    missing = torch.full((3, *labels.event_shape), -1)
    torch.testing.assert_close(rows_at(model, x, None, eps), rows_at(model, x, missing, eps), rtol=0, atol=0)


@EVERY_DETACH
def test_a_mixed_batch_is_its_parts_in_any_order(detach: Any) -> None:
    model = toy(THREE, 4, detach=detach)
    x, y, eps = points(5), PARTLY, torch.randn(5, 4, dtype=torch.float64)
    whole = rows_at(model, x, y, eps)
    parts = torch.cat([rows_at(model, x[i : i + 1], y[i : i + 1], eps[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(whole, parts)
    same_gradients(gradients(whole.sum(), model), gradients(parts.sum(), model))
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(rows_at(model, x[order], y[order], eps[order]), whole[order])


@pytest.mark.parametrize("how", ["enumerate", "sample"])
@pytest.mark.parametrize("labels", [THREE, CLASSES], ids=["attributes", "classes"])
def test_one_encode_and_one_decode_a_point(labels: Labels, how: Any) -> None:
    model = toy(labels, 4, label_inference=how)
    counts = {"encoder": 0, "decoder": 0}

    def count(name: str) -> Any:
        return lambda module, inputs, output: counts.__setitem__(name, counts[name] + inputs[0].numel() // width[name])

    width = {"encoder": 3, "decoder": 4}
    model.encoder.register_forward_hook(count("encoder"))
    model.decoder.register_forward_hook(count("decoder"))
    y = PARTLY if labels is THREE else CLASS_ROWS
    model.objective().differentiable_loss(model.model, model.guide, points(5), y)
    assert counts == {"encoder": 5, "decoder": 5}


@pytest.mark.parametrize("labels", [THREE, CLASSES], ids=["attributes", "classes"])
def test_loss_is_minus_the_sum_of_rows_and_pyro_does_not_warn(labels: Labels) -> None:
    model = toy(labels, 4)
    x, y = points(5), PARTLY if labels is THREE else CLASS_ROWS
    objective = model.objective()
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for compute in (objective.loss, objective.differentiable_loss, objective.loss_and_grads, objective.rows):
            pyro.set_rng_seed(1)
            found.append(torch.as_tensor(compute(model.model, model.guide, x, y=y)).detach().double())
    for value in (*found[:3], -found[3].sum()):
        torch.testing.assert_close(value, found[0])
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


# --- an edited model


class FurtherLatent(ReVAE):
    """A latent w beside z, in model and guide, each row its own."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        out = super().model(x, y)
        with pyro.plate("further", len(x)):
            pyro.sample("w", dist.Normal(x.new_zeros(()), 2.0))
        return out

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        super().guide(x, y)
        with pyro.plate("further", len(x)):
            pyro.sample("w", dist.Normal(x[:, 0], 0.5))


class FurtherObservation(ReVAE):
    """A fourth number, the first one doubled, observed under a Laplace distribution about the sum of the others."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        out = super().model(x, y)
        with pyro.plate("further", len(x)):
            pyro.sample("w", dist.Laplace(x[:, 1:].sum(1), 0.7), obs=2 * x[:, 0])
        return out


class HeavyTails(ReVAE):
    """p(z_s) is Student's t."""

    def p_z_s(self, x: Tensor) -> dist.TorchDistribution:
        return dist.StudentT(4.0, x.new_full((self.config.latent_dim - self.z_c_dim,), 0.5), 1.5).to_event(1)


@EVERY_DETACH
@pytest.mark.parametrize("kind", [FurtherLatent, FurtherObservation, HeavyTails])
@pytest.mark.parametrize("labels", [THREE, CLASSES], ids=["attributes", "classes"])
def test_the_bound_follows_an_edited_model(
    labels: Labels, kind: type[ReVAE], detach: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the edit adds to log p - log q is weighed by w(z), as the rest; value and gradient."""
    model = toy(labels, 5, label_dim=1, detach=detach, alpha=3.0)
    model.__class__ = kind
    y = PARTLY if labels is THREE else CLASS_ROWS
    x, eps, w = points(5), torch.randn(5, 5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    more = torch.randn(100, 5, 1, dtype=torch.float64)
    loc, scale = encoded(model, x)
    z = loc + scale * eps
    further = {
        FurtherLatent: dist.Normal(0.0 * w, 2.0).log_prob(w) - dist.Normal(x[:, 0], 0.5).log_prob(w),
        FurtherObservation: dist.Laplace(x[:, 1:].sum(1), 0.7).log_prob(2 * x[:, 0]),
        HeavyTails: model.p_z_s(x).log_prob(z[:, model.z_c_dim :])
        - dist.Normal(0.0 * z, 1.0).log_prob(z)[:, model.z_c_dim :].sum(1),
    }[kind]
    if labels is THREE:
        q_c = q_z_c(model, loc, scale)
        log_q_x = model.log_q_known(y.t(), q_c, q_c.mean)
    else:
        others = loc[:, :1] + scale[:, :1] * more
        log_q = torch.stack([log_q_known(model, z_c, y) for z_c in (z[:, :1], *others)])
        log_q_x = log_q.logsumexp(0) - math.log(101)
        monkeypatch.setattr(torch.distributions.Normal, "rsample", lambda q, shape: q.loc + q.scale * more)
    expected = by_hand(model, x, y, z, log_q_x, detach=detach, alpha=3.0, further=further)
    assert further.abs().min() > 1e-2
    with Values(w=w) if kind is FurtherLatent else nullcontext():
        found = rows_at(model, x, y, eps)
    torch.testing.assert_close(found, expected)
    weights = torch.linspace(0.5, 2, 5, dtype=torch.float64)
    same_gradients(gradients(found @ weights, model), gradients(expected @ weights, model))


def test_verbs_of_an_edited_model_follow_it() -> None:
    """``elbo`` is the bound at α = 1; ``generate`` and ``log_likelihood`` are of the heavy tails."""
    model, plain, x = toy(TWO, 4), toy(TWO, 4), points(5)
    model.__class__ = HeavyTails
    n = 3000
    found = [m.elbo(x.repeat(n, 1), MIXED.repeat(n, 1)).reshape(n, 5) for m in (model, plain)]
    loc, scale = encoded(model, x)
    eps = torch.randn(n, 5, 2, dtype=torch.float64)
    z_s = (loc[:, 2:] + scale[:, 2:] * eps).detach()
    gap = (model.p_z_s(x).log_prob(z_s) - plain.p_z_s(x).log_prob(z_s)).detach()  # w has mean 1 and is of z_c alone
    error = (found[0].var(0) / n + found[1].var(0) / n + gap.var(0) / n).sqrt()
    assert ((found[0].mean(0) - found[1].mean(0) - gap.mean(0)).abs() < 4.5 * error).all()
    seen: list[Tensor] = []
    model.decoder.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    model.generate(20_000)
    z_s = seen[-1][:, 2:]
    assert ((z_s.mean(0) - 0.5).abs() < 4.5 * 1.5 * 2**0.5 / 20_000**0.5).all()
    quartile = (z_s - 0.5).abs().median()  # of a t of four degrees of freedom: .741
    assert float(quartile) == pytest.approx(1.5 * 0.741, abs=0.03)


# --- the expectation over z


@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_its_expectation_is_the_bound_for_any_known_labels(alpha: float) -> None:
    """Labels per row differ within the batch: O none, some, all."""
    model, x = toy(alpha=alpha), points(5)
    with torch.no_grad():
        torch.testing.assert_close(exact(model, x, MIXED), grid_bound(model, x, MIXED, alpha=alpha), rtol=0, atol=1e-5)


def test_the_bound_stays_below_the_marginal_log_likelihood() -> None:
    for seed in range(3):
        model, x = toy(seed=seed), points(5)
        with torch.no_grad():
            log_p = grid_log_p(model, x, MIXED)
            gap = log_p - grid_bound(model, x, MIXED)
            assert (gap > 0).all(), gap
            draws = model.elbo(x.repeat(2000, 1), MIXED.repeat(2000, 1)).reshape(2000, 5)
            error = draws.std(0) / 2000**0.5
            assert (draws.mean(0) < log_p + 4 * error).all()
            assert ((draws.mean(0) - log_p + gap).abs() < 4.5 * error).all(), (draws.mean(0) - log_p + gap) / error


def test_the_bound_is_tight_where_the_posterior_is_right() -> None:
    """A decoder that ignores z, a prior that both values of y share: q(z|x) = p(z), q(y|z) = p(y) close the gap."""
    model, x = toy(), points(5)
    with torch.no_grad():
        model.decoder.decoder[0].weight.zero_()
        model.head_weight.zero_()
        model.head_bias.copy_(model.label_prior.logits)
        model.prior_loc.zero_()
        one = math.log(math.expm1(1.0))
        model.prior_raw_scale.fill_(one)
        model.q_z.weight.zero_()
        model.q_z.bias.copy_(torch.tensor([0.0] * 3 + [one] * 3))
        log_p = grid_log_p(model, x, MIXED)
        torch.testing.assert_close(model.elbo(x, MIXED), log_p)
        torch.testing.assert_close(model.log_likelihood(x, MIXED, num_samples=2), log_p)


@pytest.mark.parametrize("integral", ["quadrature", "samples"])
def test_the_weight_has_mean_one(integral: Any) -> None:
    model, x = toy(integral=integral), points(5)
    nodes, weights = grid(3)
    with torch.no_grad():
        x, y, eps = spread(nodes, x, MIXED)
        loc, scale = encoded(model, x)
        if integral == "quadrature":
            z_c = model.split((loc + scale * eps)[:, :2])
            log_q_x = model.log_q_known(y.t(), q_z_c(model, loc, scale), z_c)
            w = (model.log_q_known_given_z(y.t(), z_c) - log_q_x).exp()
            torch.testing.assert_close(mean_over(w, weights), torch.ones(5, dtype=w.dtype), rtol=0, atol=1e-5)
            assert (mean_over((w - 1).square(), weights)[1:] > 0.005).all(), "the toy is too tame"
        else:
            pick = torch.arange(5).repeat_interleave(4000) * len(nodes)
            q_c = q_z_c(model, loc[pick], scale[pick])
            z_c = q_c.sample()
            log_q_x = model.log_q_known(y[pick].t(), q_c, z_c)
            w = (model.log_q_known_given_z(y[pick].t(), z_c) - log_q_x).exp().reshape(5, -1)
            error = (w.std(1) / w.shape[1] ** 0.5).clamp_min(1e-12)
            assert ((w.mean(1) - 1).abs() < 4.5 * error).all()


def test_labels_estimated_by_samples_keep_the_weight_bounded() -> None:
    """The current z is among the k = 100 draws, so w ≤ 101 however improbable the label is elsewhere."""
    for model, y in ((toy(integral="samples"), torch.tensor([[1, 1]])), (with_classes(), torch.tensor([1]))):
        with torch.no_grad():
            model.head_weight.mul_(40)
        y = y.expand(3000, *y.shape[1:])
        loc, scale = encoded(model, points(3000))
        q_c = q_z_c(model, loc, scale)
        z_c = q_c.sample()
        labels = y.t() if y.dim() == 2 else y
        w = (model.log_q_known_given_z(labels, z_c) - model.log_q_known(labels, q_c, z_c)).exp()
        assert w.max() <= 101 + 1e-6
        assert w.max() > 20, "the toy does not come near"


@pytest.mark.parametrize("case", ["attributes", "classes"])
def test_bound_by_samples_agrees_with_the_grid(case: str) -> None:
    """With q(y|x) estimated from samples it is still a lower bound, O(1/k) below the exact one."""
    model, y = (toy(integral="samples"), MIXED) if case == "attributes" else (with_classes(), CLASS_ROWS)
    x = points(5)
    with torch.no_grad():
        bound, log_p = grid_bound(model, x, y), grid_log_p(model, x, y)
        draws = model.elbo(x.repeat(2000, 1), y.repeat(2000, *[1] * (y.dim() - 1))).reshape(2000, 5)
    error = draws.std(0) / 2000**0.5
    assert (bound < log_p).all()
    assert (draws.mean(0) < log_p).all()
    # The bias of a self-normalised mean of 101: about Cov(w, w f) / 101.
    assert ((draws.mean(0) - bound).abs() < 4.5 * error + 0.05 * (1 + bound.abs())).all()
    unlabelled = (y.reshape(5, -1) == -1).all(1)
    assert ((draws.mean(0) - bound).abs() < 4.5 * error)[unlabelled].all()


# --- gradients


def test_gradients_are_unbiased_with_nothing_detached() -> None:
    """The estimator's expected gradient, exactly, is the bound's: every parameter, O = none, some and all."""
    model, x = toy(detach="none"), points(5)
    for row in range(5):
        x_row, y_row = x[row : row + 1], MIXED[row : row + 1]
        found = gradients(exact(model, x_row, y_row).sum(), model)
        same_gradients(found, gradients(grid_bound(model, x_row, y_row).sum(), model), rtol=1e-5, atol=2e-5)


def test_the_mean_of_many_single_draw_gradients_is_the_bound_s() -> None:
    """As it is used in training, with the guide's own noise; errors from 100 means of 60 draws."""
    model, x = toy(detach="none"), points(5)
    expected = gradients(grid_bound(model, x, MIXED).sum(), model)
    names = ["encoder.1.weight", "q_z.weight", "head_weight", "head_bias", "prior_loc", "prior_raw_scale"]
    groups: dict[str, list[Tensor]] = {name: [] for name in names}
    many_x, many_y = x.repeat(60, 1), MIXED.repeat(60, 1)
    for _ in range(100):
        loss = model.objective().differentiable_loss(model.model, model.guide, many_x, many_y)
        for name, g in gradients(-loss / 60, model).items():
            if name in groups:
                groups[name].append(g)
    for name in names:
        g = torch.stack(groups[name])
        error = g.std(0) / len(g) ** 0.5
        off = (g.mean(0) - expected[name]).abs() / error.clamp_min(1e-9)
        assert off.max() < 4.5, (name, off)
        assert (expected[name].abs() > 5 * error).any(), f"{name}: too noisy to tell"


@pytest.mark.parametrize("detach", ["numerator", "all"])
def test_detached_weights_leave_out_what_they_say(detach: Any) -> None:
    """Expected gradients by a formula worked out by hand, differentiated at fixed weights on the grid."""
    model, x, y = toy(detach=detach), points(2), MIXED[[1, 3]]
    found = gradients(exact(model, x, y).sum(), model)
    same_gradients(found, gradients(grid_bound(model, x, y, detach=detach).sum(), model), rtol=1e-5, atol=5e-5)
    true = gradients(grid_bound(model, x, y).sum(), model)
    for name in ("prior_loc", "prior_raw_scale", "decoder.decoder.0.weight"):  # w does not depend on them
        torch.testing.assert_close(found[name], true[name], rtol=1e-5, atol=5e-5)
    for name in ("encoder.1.weight", "q_z.weight"):
        assert (found[name] - true[name]).abs().max() > 0.01, name
    head_is_exact = torch.allclose(found["head_weight"], true["head_weight"], atol=5e-5)
    assert head_is_exact == (detach == "numerator")


@pytest.mark.parametrize("alpha", [0.0, 1.0, 5.0])
def test_a_weight_detached_whole_leaves_classification_to_alpha(alpha: float) -> None:
    """On fully labelled rows ``E[-w ∇log q(y|z)]`` and ``∇log q(y|x)`` cancel, so that with w detached whole the
    expected gradient of the head is ``(α - 1) ∇log q(y|x)``: at α = 1 nothing."""
    model = toy(detach="all", alpha=alpha)
    x, y = points(2), torch.tensor([[0, 1], [1, 1]])
    found = gradients(exact(model, x, y).sum(), model)
    log_q = gradients(grid_log_q_known(model, x, y).sum(), model)
    for name in ("head_weight", "head_bias"):
        torch.testing.assert_close(found[name], (alpha - 1) * log_q[name], rtol=1e-5, atol=2e-5)
        assert log_q[name].abs().max() > 0.05


@EVERY_DETACH
@pytest.mark.parametrize("case", ["attributes", "classes"])
def test_sampled_labels_have_the_same_expectation_and_gradient(case: str, detach: Any) -> None:
    """Averaged over every y_U with its probability, at given z."""
    build, y = (toy, MIXED) if case == "attributes" else (with_classes, torch.full((5,), -1))
    summed, sampled = build(detach=detach), build(detach=detach, label_inference="sample")
    x, eps = points(5), torch.randn(5, 3, dtype=torch.float64)
    loc, scale = encoded(sampled, x)
    z = (loc + scale * eps).detach()
    total = torch.zeros(5, dtype=torch.float64)
    for value in values_of(sampled, y):
        log_q_u = torch.where(known(y), 0.0, log_q_label(sampled, z, value)).sum(-1)
        share = (log_q_u.exp() / repeats(sampled, y)).detach()
        total = total + share * rows_at(sampled, x, y, eps, value.t())
    expected = rows_at(summed, x, y, eps)
    torch.testing.assert_close(total, expected)
    same_gradients(gradients(total.sum(), sampled), gradients(expected.sum(), summed))


def test_summing_missing_labels_is_less_noisy_than_drawing_them() -> None:
    """A large reconstruction term, as of images, multiplies the score function's noise; the sum does not feel it."""
    spreads = {}
    for how in ("enumerate", "sample"):
        model = toy(TWO, label_inference=how)
        with torch.no_grad():  # log p(x|z) about -1000: as of a small image
            model.likelihood.raw_scale.fill_(-4.0)
        x = points(1).repeat(8, 1)
        pyro.set_rng_seed(0)
        draws = []
        for _ in range(100):
            loss = model.objective().differentiable_loss(model.model, model.guide, x)
            draws.append(gradients(loss, model)["head_weight"])
        spreads[how] = torch.stack(draws).var(0).sum()
    assert spreads["sample"] > 1000 * spreads["enumerate"], spreads


@pytest.mark.parametrize("labels", [TWO, CLASSES], ids=["attributes", "classes"])
def test_gradients_stay_finite_where_the_head_is_certain_and_wrong(labels: Labels) -> None:
    """float32, a head that saturates: known and missing labels."""
    for factor in (1e2, 1e4):
        model = toy(labels, 4).float()
        with torch.no_grad():
            model.head_weight.mul_(factor)
        y = MIXED if labels is TWO else CLASS_ROWS
        loss = model.objective().differentiable_loss(model.model, model.guide, points(5).float(), y)
        assert torch.isfinite(loss)
        for name, g in gradients(loss, model).items():
            assert torch.isfinite(g).all(), (name, factor)


@pytest.mark.parametrize("labels", [TWO, CLASSES], ids=["attributes", "classes"])
def test_the_pixels_gradient_reaches_z_c_by_its_share(labels: Labels) -> None:
    """The same bound; all that changes with the share is the gradient of log p(x | z) in z_c's encoder, linearly."""
    x, y = points(5), MIXED if labels is TWO else CLASS_ROWS
    eps = torch.randn(5, 5, dtype=torch.float64)
    values, found = {}, {}
    for share, progress in ((0.0, 1.0), (0.3, 1.0), (1.0, 1.0), (0.6, 0.1 + 0.3 / 2), (1.0, 0.0)):
        model = toy(labels, 5, z_c_gradient=share)
        model.set_progress(progress)
        pyro.set_rng_seed(0)  # classes: the draws of log q(y | x)
        rows = rows_at(model, x, y, eps)
        values[share, progress], found[share, progress] = rows.detach(), gradients(rows.sum(), model)
    none, some, whole, growing, start = found.values()
    for value in values.values():
        assert torch.equal(value, values[1.0, 1.0])
    for name in none:
        torch.testing.assert_close(some[name], none[name] + 0.3 * (whole[name] - none[name]))
        torch.testing.assert_close(growing[name], some[name])
        assert torch.equal(start[name], whole[name])  # the bound's own does not grow
    n = model.z_c_dim
    moved = (whole["q_z.weight"] - none["q_z.weight"]).reshape(2, 5, -1).abs().sum((0, 2)) > 1e-6
    assert moved[:n].all()
    assert not moved[n:].any()
    assert all(
        torch.equal(whole[name], none[name]) for name in none if name.split(".")[0] in ("decoder", "head_weight")
    )


def test_by_default_the_whole_gradient_of_the_pixels_reaches_attributes_and_three_tenths_classes() -> None:
    for labels, share in ((TWO, 1.0), (CLASSES, 0.3)):
        model: Any = create_model("revae", input_shape=(3,), labels=labels, latent_dim=12)
        assert model.z_c_gradient == share


def test_options_of_the_model_reach_its_objective() -> None:
    objective = toy(detach="numerator", alpha=3.0).objective()
    assert isinstance(objective, CCVAEBound)
    assert (objective.detach, objective.alpha) == ("numerator", 3.0)


@pytest.mark.parametrize("labels", [TWO, CLASSES], ids=["attributes", "classes"])
def test_the_prior_on_missing_labels_counts_in_training_alone(labels: Labels) -> None:
    """``w_H H(π) + w_m c Σ π log(m / s)`` of what a person would see as probabilities, beside the bound."""
    x, y = points(5), MIXED if labels is TWO else CLASS_ROWS
    shares = torch.tensor([[0.8, 0.2], [0.3, 0.7]] if labels is TWO else [0.2, 0.3, 0.5], dtype=torch.float64)
    losses: dict[tuple[float, bool], Tensor] = {}
    for weight in (0.0, 1.0):
        for training in (False, True):
            weights = {"entropy_weight": 3 * weight, "alignment_weight": 5 * weight}
            vae = toy(labels, 5, label_prior="uniform", **weights).train(training)
            vae.head_terms.mean_probs.copy_(shares)
            vae.head_terms.shares.log_shares.copy_(shares.flip(-1).log())
            vae.head_terms.shares.certainty.fill_(0.6)
            vae.set_progress(0.25)  # half of the entropy
            torch.manual_seed(0)
            losses[weight, training] = vae.objective().differentiable_loss(vae.model, vae.guide, x, y)
    assert losses[0.0, False] == losses[1.0, False] == losses[0.0, True]
    pi = vae.predict_proba(x)
    if labels is TWO:
        pi = torch.stack([1 - pi, pi], -1)
    terms = (pi * (-0.5 * 3 * pi.log() + 5 * 0.6 * (vae.head_terms.mean_probs / shares.flip(-1)).log())).sum(-1)
    torch.testing.assert_close(losses[1.0, True] - losses[0.0, True], terms[y == -1].sum())
    assert (vae.head_terms.mean_probs - shares).abs().max() > 1e-3  # moved towards this batch's
