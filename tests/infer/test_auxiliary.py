"""What trains a class head beside the bound: the supervised term and its weights. The rest: test_augmented.py."""

from __future__ import annotations

from typing import Any

import pyro
import pytest
import torch
from formulas import example, known_term
from tiny import ATTRIBUTES, CASES, CLASSES, build, gradients, loss_at, make, noisy_guide
from torch import Tensor

import pyro_ssvae as ps
from pyro_ssvae.infer.auxiliary import HeadTerms, supervised
from pyro_ssvae.infer.label_prior import LabelPrior
from pyro_ssvae.infer.protocols import WeighsClasses
from pyro_ssvae.labels import Labels

both = pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
OMEGA = {CLASSES: torch.tensor([0.5, 2.0, 4.0]), ATTRIBUTES: torch.tensor([[0.5, 2.0], [1.0, 3.0], [4.0, 0.0]])}


def weights_of(labels: Labels, y: Tensor) -> Tensor:
    """ω of each known label: ``[B]`` or ``[B, A]``."""
    omega = OMEGA[labels].double()
    return omega[y.clamp_min(0)] if labels is CLASSES else omega[torch.arange(3), y.clamp_min(0)]


@both
def test_supervised_term_by_hand(labels: Labels) -> None:
    logits = torch.randn(12, 3, dtype=torch.float64)
    _, y, _ = example(labels)
    plain = torch.stack([known_term(labels, of, label) for of, label in zip(logits, y)])
    torch.testing.assert_close(supervised(labels, logits, y), plain)
    log_pi = labels.log_probs(logits)
    picked = log_pi.gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1) * weights_of(labels, y) * (y >= 0)
    expected = picked if labels is CLASSES else picked.sum(-1)
    torch.testing.assert_close(supervised(labels, logits, y, OMEGA[labels].double()), expected)
    even = (0.7 * log_pi + 0.3 * log_pi.mean(-1, keepdim=True)).gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    picked = even * weights_of(labels, y) * (y >= 0)  # ω is that of the known value, of the smoothed part too
    expected = picked if labels is CLASSES else picked.sum(-1)
    torch.testing.assert_close(supervised(labels, logits, y, OMEGA[labels].double(), 0.3), expected)


@both
def test_without_alignment_p_y_is_what_the_labels_say(labels: Labels) -> None:
    """As the papers have it: it follows π of the rows without a label with the term alone that compares the two."""
    y, logits = example(labels)[1], 2 + torch.randn(12, 3)
    for weight in (0.0, 1.0):
        terms = HeadTerms(labels, LabelPrior(labels, "estimated"), 1.0, 1.0, weight).train()
        terms.prepare(y)
        before = terms.label_prior.logits.clone()
        for _ in range(3):
            terms(logits, y)
        assert torch.equal(terms.label_prior.logits, before) == (weight == 0)
        torch.testing.assert_close(before.double(), labels.prior_logits(y))


@pytest.mark.parametrize("case", [case for case in CASES if isinstance(build(case), WeighsClasses)])
def test_weights_of_classes_weigh_the_supervised_term_alone(case: str) -> None:
    """``α Σ (ω_y - 1) log π_y`` is added, with its gradient; of rows without a label nothing changes."""
    labels = CASES[case][1]
    x, y, eps = example(labels)
    found = []
    for weighted in (False, True):
        model = build(case).double().train()
        if weighted:
            model.set_class_weights(OMEGA[labels])
        pyro.set_rng_seed(0)
        loss = loss_at(model, x, y, eps)
        pyro.set_rng_seed(0)
        unlabelled = loss_at(model, x, None, eps)
        found.append((loss, gradients(loss, model), unlabelled))
    alpha = getattr(model.config, "alpha", 1.0)  # of the classifier
    added = -alpha * ((weights_of(labels, y) - 1) * log_pi_of_known(model, labels, x, y, eps)).sum()
    torch.testing.assert_close(found[1][0] - found[0][0], added, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[1][2], found[0][2], rtol=1e-12, atol=0)
    expected = gradients(added, model)
    for name, g in found[1][1].items():
        torch.testing.assert_close(g - found[0][1][name], expected[name], rtol=1e-5, atol=1e-5, msg=name)


def log_pi_of_known(model: Any, labels: Labels, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
    """log π of each known label, 0 of the others, as the model's own head reads them at this noise."""
    match type(model).__name__:
        case "Classifier":
            logits = model.logits(x)
        case "ReVAE":
            logits = model.logits(model.q_z_given(x)[0])
        case "M1":
            q = model.q_z(x).base_dist
            logits = model.head((q.loc + q.scale * eps[:, :2]).detach())
        case "M1M2":
            logits = model.head(model.class_encoder(model.q_z_1(x).mean))
        case "DIVA":
            q = model.q_z(x)[0].base_dist
            logits = model.head(q.loc + q.scale * eps[:, 2 : 2 + model.label_dim])
        case "ADGM":
            h = model.encoder(x)
            q = model.q_a(h).base_dist
            logits = model.logits(h, q.loc + q.scale * eps[:, 2:4])
        case _:
            logits = model.head(model.encoder(x))
    picked = labels.log_probs(logits).gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    return picked * (y >= 0)


def test_bounds_do_not_know_weights_of_classes() -> None:
    for name in ("m2", "augmented", "diva"):
        model, (x, y, eps) = make(name).double().eval(), example(CLASSES)
        pair = model.model, noisy_guide(model, eps)
        before = ps.elbo(pair, x, y)
        model.set_class_weights(OMEGA[CLASSES])
        assert torch.equal(ps.elbo(pair, x, y), before)


def test_weights_of_classes_travel_with_the_state() -> None:
    one, other = make("m2"), make("m2")
    one.set_class_weights(OMEGA[CLASSES])
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.head_terms.class_weights, OMEGA[CLASSES])
