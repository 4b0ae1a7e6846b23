"""AugVAE's objective, gradients and bounds against formulas written here anew, in plain PyTorch and float64."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from formulas import (
    NO_REGULARIZER,
    WEIGHTS,
    Counted,
    assert_bounds,
    assert_same,
    choices,
    divergence,
    example,
    gentle,
    grid,
    head_terms,
    log_p_x,
    normal,
    projection,
    same_gradients,
    uneven,
)
from tiny import ATTRIBUTES, CLASSES, augmented, gradients, loss_at, points, some_labels, tiny_decoder
from torch import Tensor
from torch.nn import functional as F

from pyro_ssvae import VAE, AttributeLabels, AugmentedVAE, ClassLabels, create_model
from pyro_ssvae.infer.auxiliary import HeadTerms
from pyro_ssvae.infer.bounds import reconstruction
from pyro_ssvae.infer.label_prior import LabelPrior
from pyro_ssvae.labels import Labels

both = pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])


def prepared(labels: Labels = CLASSES, **options: Any) -> AugmentedVAE:
    """A model with units, a label prior and a running mean that are not the trivial ones."""
    model = augmented(labels, **options).double().eval()
    uneven(model)
    model.likelihood.shift.copy_(torch.tensor([1.0, -2, 0, 3, 0]))
    model.likelihood.spread.copy_(torch.tensor([1.0, 0.5, 2, 1, 0.1]))
    return model


def encoded(model: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and scale of q(z | x), and the head's logits, of rows ``[B, 5]``."""
    h = model.encoder((x - model.likelihood.shift) / model.likelihood.spread)
    return model.loc(h), model.log_scale(h).exp(), model.head(h)


def by_hand(model: Any, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
    """METHODS, section 1, a row and a label value at a time, with log p(y) of the known labels."""
    total, warmup = x.new_zeros(()), model.head_terms.warmup
    for row, label, e in zip(x, y, eps):
        loc, scale, logits = (v[0] for v in encoded(model, row.unsqueeze(0)))
        z = loc + scale * e[:2]
        if model.label_inference.how == "plug-in":
            pi = logits.softmax(-1) if isinstance(model.labels, ClassLabels) else logits.sigmoid()
            pi = warmup * pi + (1 - warmup) * pi.detach()
            known = F.one_hot(label.clamp_min(0), len(pi)) if isinstance(model.labels, ClassLabels) else label
            total = total + log_p_x(model, row, z, torch.where(label < 0, pi, known.double())) + log_p_y(model, label)
        else:
            for c, log_q, log_p in choices(model, logits, label):
                total = total + log_q.exp() * (log_p_x(model, row, z, c) + log_p - log_q)
        total = total - model.config.beta * divergence(loc, scale, z) + head_terms(model, logits, label)
    return -total


def log_p_y(model: Any, label: Tensor) -> Tensor:
    """log p(y) of a row's known labels."""
    log_p = model.labels.log_probs(model.label_prior.logits)
    if isinstance(model.labels, ClassLabels):
        return log_p[label] if label >= 0 else torch.zeros(())
    return torch.stack([log_p[a, v] if v >= 0 else torch.zeros(()) for a, v in enumerate(label)]).sum()


@pytest.mark.parametrize("progress", [1.0, 0.28])
@pytest.mark.parametrize(
    ("labels", "how"),
    [
        (CLASSES, "plug-in"),
        (CLASSES, "enumerate"),
        (CLASSES, "sparse"),
        (ATTRIBUTES, "plug-in"),
        (ATTRIBUTES, "enumerate"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_objective_and_gradient_are_the_formula(labels: Labels, how: Any, progress: float) -> None:
    model = prepared(labels, label_inference=how, **WEIGHTS)
    model.set_progress(progress)
    x, y, eps = example(labels)
    if how == "sparse":
        pi = torch.stack([projection(row) for row in encoded(model, x)[2]])
        assert {1, 2} <= {int((row > 0).sum()) for row in pi[y < 0]}, "the example leaves sparsity untried"
        assert (pi[torch.arange(len(y)), y] == 0)[y >= 0].any(), "no known class that sparsemax gives nothing"
    assert_same(model, x, y, eps, by_hand(model, x, y, eps))


def test_without_labels_and_weights_the_objective_is_a_vae_s() -> None:
    """`plug-in` with a decoder that ignores the class is the ordinary VAE."""
    model = prepared(**NO_REGULARIZER)
    assert model.decoder.from_c is not None
    with torch.no_grad():
        model.decoder.from_c.weight.zero_()
    plain = VAE(model.encoder, tiny_decoder((5,), 2, 0).double(), latent_dim=2, likelihood=model.likelihood).eval()
    plain.loc, plain.log_scale, plain.decoder = model.loc, model.log_scale, model.decoder
    x, _, eps = example(CLASSES)
    torch.testing.assert_close(loss_at(model, x, None, eps), loss_at(plain, x, None, eps))


@both
def test_with_all_labels_known_the_ways_of_inference_agree(labels: Labels) -> None:
    """No missing y is left: one loss and its gradients."""
    x, y, eps = example(labels)
    y = y.clamp_min(0)
    first = prepared(labels, label_inference="plug-in", **WEIGHTS)
    loss = loss_at(first, x, y, eps)
    expected = gradients(loss, first)
    for how in ("enumerate", "sparse", "sample", "straight-through"):
        if how == "sparse" and labels is ATTRIBUTES:
            continue
        other = prepared(labels, label_inference=how, **WEIGHTS)
        other_loss = loss_at(other, x, y, eps)
        torch.testing.assert_close(other_loss, loss, rtol=1e-12, atol=0)
        same_gradients(gradients(other_loss, other), expected, rtol=1e-9, atol=1e-11)


@both
def test_reconstruction_takes_the_probabilities_where_labels_are_missing(labels: Labels) -> None:
    """At a fixed draw, against the sum by hand: the decoder gets π, not the most probable label."""
    model = prepared(labels)
    x, y, _ = example(labels)
    with torch.no_grad():
        loc, _, logits = encoded(model, x)
        pi = labels.impute(labels.probs(logits), y)
        model.log_scale.weight.zero_()
        model.log_scale.bias.fill_(-12.0)  # one draw is the mean to within 1e-5
        expected = torch.stack([log_p_x(model, *of) for of in zip(x, loc, pi)])
    torch.testing.assert_close(reconstruction(model, x, y), expected, rtol=1e-3, atol=1e-2)


# --- bounds against numeric integration over the latent


@pytest.mark.parametrize("known", [False, True], ids=["missing", "known"])
@pytest.mark.parametrize(
    ("labels", "dim"), [(CLASSES, 1), (CLASSES, 2), (ATTRIBUTES, 1)], ids=["classes-1", "classes-2", "attributes-1"]
)
def test_bounds(labels: Labels, dim: int, known: bool) -> None:
    """log p(x), and log p(x, y) for known labels; of attributes some entries are known."""
    model = gentle(augmented(labels, (3,), dim, label_inference="enumerate"))
    model.label_prior.logits.copy_(torch.tensor([0.5, -0.5, 0.2]))
    x = points(3, (3,)).double()
    y = torch.tensor([2, 0, 1]) if labels is CLASSES else torch.tensor([[1, -1, 0], [-1, -1, 1], [0, 0, 0]])
    y = y if known else torch.full_like(y, -1)
    z, log_cell = grid(dim)
    log_p, elbo = [], []
    with torch.no_grad():
        for row, label in zip(x, y):
            h = model.encoder(row.unsqueeze(0))[0]
            log_q_z = normal(z, model.loc(h), model.log_scale(h).exp().expand_as(z))
            log_p_z = normal(z, 0.0, torch.ones_like(z))
            joint, expected = [], torch.zeros(len(z), dtype=torch.float64)
            for c, log_q_y, log_p_y in choices(model, model.head(h), label):
                joint.append(log_p_x(model, row, z, c) + log_p_y + log_p_z)
                expected += log_q_y.exp() * (joint[-1] - log_q_y)
            log_p.append(torch.stack(joint).logsumexp((0, 1)) + log_cell)
            elbo.append((log_q_z.exp() * (expected - log_q_z)).sum() * math.exp(log_cell))
    assert_bounds(model, x, y if known else None, torch.stack(log_p), torch.stack(elbo))


# --- how much is decoded


@pytest.mark.parametrize(("how", "decodes"), [("plug-in", 1), ("straight-through", 1), ("sample", 1), ("enumerate", 3)])
def test_decodes_a_point(how: Any, decodes: int) -> None:
    model = prepared(label_inference=how)
    x, y, eps = example(CLASSES)
    counted = Counted(model.decoder)
    loss_at(model, x, y, eps)
    assert counted.rows["body"] == decodes * len(x)
    assert counted.rows["from_z"] == len(x), "z's part is computed more than once"
    assert counted.calls["body"] == 1


def test_attributes_are_enumerated_jointly() -> None:
    model = prepared(ATTRIBUTES, label_inference="enumerate")
    x, y, eps = example(ATTRIBUTES)
    counted = Counted(model.decoder)
    loss_at(model, x, y, eps)
    assert (counted.rows["body"], counted.rows["from_z"]) == (8 * len(x), len(x))


# --- the prior on π, and its schedule


@both
def test_running_mean_follows_pi_of_the_missing_labels(labels: Labels) -> None:
    model = augmented(labels).train()
    x, y, before = points(8), some_labels(labels, 8), model.head_terms.mean_probs.clone()
    _, _, logits = encoded(model, x)
    if labels is CLASSES:
        mean = logits.softmax(-1)[y < 0].mean(0)
    else:
        one = torch.stack([logits.sigmoid()[y[:, a] < 0, a].mean() for a in range(3)])
        mean = torch.stack([1 - one, one], -1)
    model.guide(x, y)
    torch.testing.assert_close(model.head_terms.mean_probs, 0.9 * before + 0.1 * mean)
    once = model.head_terms.mean_probs.clone()
    model.guide(x, y.clamp_min(0))
    torch.testing.assert_close(model.head_terms.mean_probs, once)
    model.eval().guide(x, y)
    torch.testing.assert_close(model.head_terms.mean_probs, once)


def test_alignment_has_the_gradient_of_the_divergence_from_the_prior() -> None:
    model = prepared(entropy_weight=0.0, alignment_weight=1.5)
    logits, y = torch.randn(6, 3, dtype=torch.float64, requires_grad=True), torch.full((6,), -1)
    model.prepare(torch.zeros(20, 5).double(), torch.tensor([0] * 8 + [1] * 2 + [-1] * 10))
    mean = logits.softmax(-1).mean(0)
    model.head_terms.mean_probs.copy_(mean.detach())
    p = torch.tensor([20 * 9 / 18 - 8, 20 * 3 / 18 - 2, 20 / 3], dtype=torch.float64) / 10  # what the 10 known leave
    kl = (mean * (mean.log() - p.log())).sum()
    (expected,) = torch.autograd.grad(-1.5 * 6 * kl, logits)
    (found,) = torch.autograd.grad(model.head_terms.regularizer(logits, y).sum(), logits)
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(found, expected)


def test_regularizer_of_known_rows_is_nothing() -> None:
    model = prepared(ATTRIBUTES, **{**WEIGHTS, "alpha": 0.0})
    logits, y = torch.randn(2, 3, dtype=torch.float64), torch.tensor([[0, 1, 1], [0, 1, -1]])
    value = model.head_terms.regularizer(logits, y)
    assert value[0] == 0
    torch.testing.assert_close(value[1], head_terms(model, logits[1], y[1]))


def test_the_entropy_s_weight_grows() -> None:
    model = prepared(**WEIGHTS)
    logits, y = torch.randn(4, 3, dtype=torch.float64), torch.full((4,), -1)
    alignment = copy.deepcopy(model)
    alignment.head_terms.entropy_weight = 0.0
    full = model.head_terms.regularizer(logits, y) - alignment.head_terms.regularizer(logits, y)
    for progress, share in ((0.0, 0.0), (0.1, 0.0), (0.25, 0.5), (0.4, 1.0), (1.0, 1.0)):
        for one in (model, alignment):
            one.set_progress(progress)
        grown = model.head_terms.regularizer(logits, y) - alignment.head_terms.regularizer(logits, y)
        torch.testing.assert_close(grown, share * full)


def test_early_in_training_the_reconstruction_does_not_move_the_head() -> None:
    model = prepared(**NO_REGULARIZER)
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


def test_an_exact_sum_moves_the_head_from_the_start() -> None:
    model = prepared(label_inference="enumerate", **NO_REGULARIZER)
    x, _, eps = example(CLASSES)
    heads = []
    for progress in (0.0, 1.0):
        model.set_progress(progress)
        heads.append(gradients(loss_at(model, x, None, eps), model)["head.weight"])
    assert heads[0].abs().max() > 1e-3
    torch.testing.assert_close(heads[0], heads[1])


@pytest.mark.parametrize(("likelihood", "times"), [("bernoulli", 1), ("normal", 1), ("continuous-bernoulli", 10)])
def test_the_labels_terms_count_as_much_as_the_likelihood_gains(likelihood: str, times: int) -> None:
    terms = augmented(
        input_shape=(1, 2, 2), likelihood=likelihood, alpha=2.0, entropy_weight=3.0, label_smoothing=0.0
    ).head_terms
    assert (terms.alpha, terms.entropy_weight, terms.alignment_weight) == (2.0 * times, 3.0 * times, 50.0 * times)
    logits, y = torch.randn(4, 3), torch.tensor([0, 1, -1, 2])
    own = HeadTerms(CLASSES, LabelPrior(CLASSES, "estimated"), 2.0 * times, 3.0 * times, 50.0 * times)
    torch.testing.assert_close(terms.eval()(logits, y), own.eval()(logits, y))


@pytest.mark.parametrize(
    ("labels", "columns", "how"),
    [
        (ClassLabels(16), True, "enumerate"),
        (ClassLabels(17), True, "plug-in"),
        (AttributeLabels(list("abcd")), True, "enumerate"),
        (AttributeLabels(list("abcde")), True, "plug-in"),
        (ClassLabels(2), False, "plug-in"),
    ],
)
def test_the_missing_labels_of_a_table_are_enumerated_where_few(labels: Labels, columns: bool, how: str) -> None:
    options = {"columns": ("normal", "bernoulli")} if columns else {}
    for told, wanted in ((None, how), ("plug-in", "plug-in")):
        vae: Any = create_model("augmented", input_shape=2, labels=labels, label_inference=told, **options)
        assert vae.label_inference.how == wanted
