"""p(y), and the shares among rows without a label: what is measured, when it is enforced, what is said of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from data_makers import refused
from tiny import ATTRIBUTES, CLASSES, some_labels
from torch import Tensor

import pyro_ssvae as ps
from pyro_ssvae.infer.auxiliary import HeadTerms, smoothing_for
from pyro_ssvae.infer.label_prior import EARLY, LabelPrior, Prior
from pyro_ssvae.labels import AttributeLabels, ClassLabels, Labels

TWO = ClassLabels(2, ["benign", "malignant"])


def made(labels: Labels, prior: Prior = "estimated", **weights: Any) -> HeadTerms:
    """Head terms in double precision, in training mode, with an alignment weight."""
    options = {"alpha": 1.0, "entropy_weight": 0.0, "alignment_weight": 2.0, **weights}
    return HeadTerms(labels, LabelPrior(labels, prior), **options).double()


def missing(labels: Labels, n: int) -> Tensor:
    return torch.full((n, *labels.event_shape), -1)


def logits_of(shares: list[float], n: int = 64) -> Tensor:
    """The same π for every row."""
    return torch.tensor(shares, dtype=torch.float64).log().expand(n, -1)


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
def test_what_is_measured_before_the_warm_up(labels: Labels) -> None:
    """r and e are means over the missing labels in which the t-th batch weighs as t (t + 1) (t + 2)."""
    terms, total = made(labels), 0.0
    terms.set_progress(0.0)
    terms.prepare(some_labels(labels, 40).clamp_min(0))
    r = e = torch.zeros(())
    for t in range(1, 6):
        logits, y = torch.randn(12, 3, dtype=torch.float64), some_labels(labels, 12)
        terms(logits, y)
        pi = labels.log_probs(logits).exp()
        if labels is CLASSES:
            mean, doubt = pi[y < 0].mean(0), (1 - pi.max(-1).values)[y < 0].mean()
        else:
            mean = torch.stack([pi[y[:, a] < 0, a].mean(0) for a in range(3)])
            doubt = torch.stack([(1 - pi[:, a].max(-1).values)[y[:, a] < 0].mean() for a in range(3)]).unsqueeze(-1)
        weight = t * (t + 1) * (t + 2)
        total += weight
        r, e = r + (mean - r) * weight / total, e + (doubt - e) * weight / total
    torch.testing.assert_close(terms.shares.early, r)
    torch.testing.assert_close(terms.shares.doubt, e.reshape(terms.shares.doubt.shape))
    terms.set_progress(0.2)  # from now on the head is bent
    terms(torch.randn(12, 3, dtype=torch.float64), some_labels(labels, 12))
    torch.testing.assert_close(terms.shares.early, r)
    terms.set_progress(0.0)
    terms(torch.randn(12, 3, dtype=torch.float64), some_labels(labels, 12).clamp_min(0))  # nothing is missing
    torch.testing.assert_close(terms.shares.early, r)


def test_the_head_is_asked_over_so_many_batches_at_most() -> None:
    terms = made(TWO)
    terms.prepare(torch.tensor([0, 1] * 10 + [-1] * 80))
    now = torch.zeros((), dtype=torch.float64)
    for batch in range(EARLY + 1):
        mean = torch.tensor([0.5, 0.5] if batch < EARLY else [1.0, 0.0], dtype=torch.float64)
        terms.shares.observe(mean, mean[:1], torch.ones(1, dtype=torch.float64), now)
    assert float(terms.shares.seen) == EARLY
    torch.testing.assert_close(terms.shares.early, torch.tensor([0.5, 0.5], dtype=torch.float64))


@pytest.mark.parametrize(
    ("found", "certainty"),
    [([0.5, 0.5], 0.0), ([0.55, 0.45], (1 - (0.05 / 0.225) ** 2) * 0.1), ([0.3, 0.7], 0.0), ([0.9, 0.1], 0.0)],
)
def test_certainty_by_hand(found: list[float], certainty: float) -> None:
    """Even labels, and a head that is as sure of every row: e = 1 - max π, and half of it is what the gap may be."""
    terms = made(TWO)
    terms.set_progress(0.0)
    terms.prepare(torch.tensor([0] * 10 + [1] * 10 + [-1] * 80))
    terms(logits_of(found), missing(TWO, 64))
    torch.testing.assert_close(terms.shares.certainty, torch.tensor([certainty], dtype=torch.float64))
    assert float(terms.shares.weight(terms.warmup)) == 0  # nothing is enforced while it is measured
    terms.set_progress(0.25)
    assert float(terms.shares.weight(terms.warmup)) == pytest.approx(certainty / 2)


def test_labels_drawn_at_random_are_known_to_their_sampling_error_alone() -> None:
    """δ is the mean total variation of n draws: checked by drawing."""
    y = torch.tensor([0] * 30 + [1] * 6 + [2] * 4 + [-1] * 60)
    terms = made(CLASSES)
    terms.prepare(y)
    p = terms.label_prior().probs
    drawn = torch.distributions.Multinomial(40, probs=p).sample(torch.Size([20000])) / 40
    expected = 0.5 * (drawn - p).abs().sum(-1).mean()
    s = terms.shares.log_shares.exp()
    assert (s - p).abs().max() < 0.05
    torch.testing.assert_close(terms.shares.spread, expected.reshape(1), rtol=0.06, atol=0)
    terms.set_progress(0.0)
    sharp = torch.eye(3, dtype=torch.float64)[[0] * 79 + [1] * 13 + [2] * 8] * 0.91 + 0.03  # e = .06
    terms(sharp.log(), missing(CLASSES, 100))
    assert float(terms.shares.certainty) == 0  # δ = .08 is above e / 2, however well r and s agree
    for counts, drawn_evenly in (([5, 5, 5], True), ([5, 6, 6], True), ([5, 6, 7], False)):
        terms.prepare(torch.tensor([0] * counts[0] + [1] * counts[1] + [2] * counts[2] + [-1] * 60))
        assert bool(terms.shares.spread == 0) == drawn_evenly  # as many of each class, to one
    told = made(CLASSES, "proportional")
    told.set_progress(0.0)
    told.prepare(y)
    torch.testing.assert_close(told.label_prior().probs, torch.tensor([0.75, 0.15, 0.1]).double(), rtol=1e-6, atol=0)
    told(sharp.log(), missing(CLASSES, 100))
    assert float(told.shares.certainty) == 1  # they are right, whatever the head says


def test_shares_that_the_head_contradicts_are_not_enforced_and_p_y_follows_the_rows() -> None:
    for found, alignment in (([0.1, 0.9], False), ([0.9, 0.1], True)):
        terms = made(TWO)
        terms.set_progress(0.0)
        terms.prepare(torch.tensor([0] * 10 + [1] * 10 + [-1] * 80))
        early = torch.cat([logits_of(found, 32), logits_of(found[::-1] if alignment else found, 32)])
        for _ in range(20):
            terms(early, missing(TWO, 64))
        torch.testing.assert_close(terms.label_prior().probs, torch.tensor([0.5, 0.5], dtype=torch.float64))
        torch.testing.assert_close(terms.shares.certainty, torch.tensor([0.8 if alignment else 0.0]).double())
        terms.set_progress(1.0)
        logits = logits_of(found).clone().requires_grad_(True)
        for _ in range(60):
            value = terms(logits, missing(TWO, 64))
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        p = terms.label_prior().probs
        if alignment:
            assert gradient.abs().max() > 1e-3
            mixed = 0.8 * torch.tensor([0.5, 0.5]) + 0.2 * torch.tensor(found)
            torch.testing.assert_close(p, mixed.double(), rtol=0, atol=1e-3)
        else:
            assert gradient.abs().max() == 0
            torch.testing.assert_close(p, torch.tensor(found, dtype=torch.float64), rtol=0, atol=2e-3)  # .4 · .9^80


@pytest.mark.parametrize("prior", ["uniform", (0.3, 0.7)])
def test_a_prior_that_is_given_is_enforced_from_the_start(prior: Prior) -> None:
    terms = made(TWO, prior)
    terms.set_progress(0.0)
    terms.prepare(torch.tensor([0] * 2 + [1] * 2 + [-1] * 96))
    p = torch.tensor([0.5, 0.5] if prior == "uniform" else prior, dtype=torch.float64)
    logits, y = torch.randn(64, 2, dtype=torch.float64), missing(TWO, 64)
    value = terms(logits, y)
    left = (100 * p - 2) / 96  # what the four known labels leave
    pi = logits.softmax(-1)
    torch.testing.assert_close(value, -2 * (pi * (terms.mean_probs / left).log()).sum(-1))
    terms.set_progress(1.0)
    terms(logits, y)
    torch.testing.assert_close(terms.label_prior().probs, p, rtol=1e-6, atol=1e-6)


def test_labels_that_say_nothing_leave_p_y_to_the_rows() -> None:
    terms = made(TWO, "unlabelled")
    terms.prepare(torch.tensor([0] * 10 + [1] * 10 + [-1] * 80))
    logits = logits_of([0.2, 0.8]).clone().requires_grad_(True)
    for _ in range(80):
        value = terms(logits, missing(TWO, 64))
    assert torch.autograd.grad(value.sum(), logits)[0].abs().max() == 0
    torch.testing.assert_close(terms.label_prior().probs, torch.tensor([0.2, 0.8]).double(), rtol=0, atol=1e-3)
    assert terms.shares.remark() is None


def test_a_class_without_any_label_is_taken_for_granted() -> None:
    """Nobody can tell its share before it is found: the prior of 1/K finds it (semi-unsupervised)."""
    terms = made(CLASSES)
    terms.set_progress(0.0)
    terms.prepare(torch.tensor([0] * 5 + [1] * 5 + [-1] * 80))
    terms(logits_of([0.6, 0.4 - 1e-6, 1e-6]), missing(CLASSES, 64))
    assert float(terms.shares.weight(terms.warmup)) == 1
    assert terms.shares.remark() is None


def test_every_attribute_has_its_own_certainty() -> None:
    labels = AttributeLabels(["hat", "beard"])
    terms = made(labels)
    terms.set_progress(0.0)
    terms.prepare(torch.tensor([[0, 0], [1, 1]] * 2000 + [[-1, -1]] * 1000))
    logits = torch.tensor([[3.0, 3.0], [-3.0, 3.0]], dtype=torch.float64).repeat(16, 1)
    terms(logits, missing(labels, 32))
    doubt = 1 / (1 + math.exp(3))
    sampling = (2 * 0.25 / (math.pi * 4000)) ** 0.5
    found = (1 - (2 * sampling / doubt) ** 2) * (1 - 2 * doubt)
    torch.testing.assert_close(terms.shares.certainty.flatten(), torch.tensor([found, 0.0]).double(), rtol=1e-5, atol=0)
    terms.set_progress(1.0)
    for _ in range(100):
        terms(logits, missing(labels, 32))
    p = terms.label_prior.logits.sigmoid()
    torch.testing.assert_close(p, torch.tensor([0.5, 1 / (1 + math.exp(-3))]).double(), rtol=0, atol=1e-4)
    remark = terms.shares.remark()
    assert remark is not None
    for word in ("'beard'", "50%", "95%"):
        assert word in remark


def test_what_is_said_of_shares_that_predictions_contradict() -> None:
    def remark(prior: Prior, labels_each: int, found: list[float]) -> str | None:
        terms = made(TWO, prior)
        terms.set_progress(0.0)
        terms.prepare(torch.tensor([0] * labels_each + [1] * labels_each + [-1] * 900))
        for _ in range(5):
            terms(logits_of(found), missing(TWO, 64))
        return terms.shares.remark()

    said = remark("estimated", 50, [0.2, 0.8])
    assert said is not None
    assert "\n" not in said
    for word in ("50%", "80%", "'malignant'", "not enforced", "label_prior"):
        assert word in said
    given = remark((0.5, 0.5), 50, [0.2, 0.8])
    assert given is not None
    assert given.startswith("label_prior says that 50%")
    assert "is enforced" in given
    terms = made(CLASSES, (0.5, 0.3, 0.2))
    terms.set_progress(0.0)
    terms.prepare(torch.tensor([0, 1, 2] + [-1] * 9000))
    terms(logits_of([0.1, 0.6, 0.3]), missing(CLASSES, 64))
    third = terms.shares.remark()  # not the first class, whose share is off by most, but downwards
    assert third is not None
    for word in (f"{CLASSES.names[1]!r}", "30%", "60%"):
        assert word in third
    assert remark("estimated", 4, [0.2, 0.8]) is None  # 8 labels drawn at random may well be even
    assert remark("estimated", 50, [0.45, 0.55]) is None  # the head errs in more rows than these


def sharp(share: float, n: int = 100) -> Tensor:
    """Logits of which such a share of the rows is of the first of two classes, each to .98."""
    return torch.tensor([[0.98, 0.02], [0.02, 0.98]]).double().log()[(torch.arange(n) >= share * n).long()]


def test_shares_within_two_standard_deviations_of_the_labels_own_are_not_spoken_of() -> None:
    """Of 100 even labels: .1. The head of 42 rows in a hundred is .077 off, that of 35 in a hundred .144."""
    for share, said in ((0.42, False), (0.35, True)):
        terms = made(TWO)
        terms.set_progress(0.0)
        terms.prepare(torch.tensor([0] * 50 + [1] * 50 + [-1] * 900))
        assert terms.shares.remark() is None, "nothing was measured"
        terms(sharp(share), missing(TWO, 100))
        assert (terms.shares.remark() is not None) == said


def test_rows_without_a_label_contradict_no_shares_that_are_theirs() -> None:
    terms = made(TWO, "unlabelled")
    terms.set_progress(0.0)
    terms.prepare(torch.tensor([0] * 50 + [1] * 50 + [-1] * 900))
    terms(sharp(0.2), missing(TWO, 100))
    assert bool(terms.shares.contradicted())
    assert terms.shares.remark() is None


def test_of_attributes_the_one_is_named_that_is_contradicted() -> None:
    """A head of .4 that errs in as many rows contradicts nothing; another one's .44 is sure, and less than half."""
    labels = AttributeLabels(["hat", "beard"])
    terms = made(labels)
    terms.set_progress(0.0)
    terms.prepare(torch.tensor([[0, 0], [1, 1]] * 2000 + [[-1, -1]] * 1000))
    beard = torch.where(torch.arange(100) < 44, 5.0, -5.0).double()
    terms(torch.stack([torch.full((100,), math.log(0.4 / 0.6)).double(), beard], 1), missing(labels, 100))
    remark = terms.shares.remark()
    assert remark is not None
    for word in ("'beard'", "50%", "44%"):
        assert word in remark


def test_another_training_measures_anew() -> None:
    terms = made(TWO)
    y = torch.tensor([0] * 10 + [1] * 10 + [-1] * 80)
    for share in (0.2, 0.6):
        terms.set_progress(0.0)
        terms.prepare(y)
        terms(sharp(share), missing(TWO, 100))
        torch.testing.assert_close(
            terms.shares.early[0], 0.98 * terms.shares.early.new_tensor(share) + 0.02 * (1 - share)
        )


@pytest.mark.parametrize(("weight", "lines"), [(0.0, []), (1.0, ["said"])])
def test_nothing_is_said_of_shares_that_have_no_weight(weight: float, lines: list[str]) -> None:
    model: Any = ps.create_model("augmented", input_shape=4, labels=TWO, alignment_weight=weight)
    model.head_terms.shares.remark = lambda: "said"
    assert model.remarks() == lines


@pytest.mark.parametrize("p", [0.0, 1.0, 1.5, -0.1])
@pytest.mark.parametrize("labels", [TWO, AttributeLabels(["a", "b"]), AttributeLabels(["a"])], ids=["2", "ab", "a"])
def test_probabilities_that_are_none_are_refused(labels: Labels, p: float) -> None:
    """Of a single attribute too, which is no single class."""
    given = [p, 1 - p][: labels.size]
    refused(lambda: LabelPrior(labels, given), f"label_prior: {given}", "above 0 and below 1")


def test_probabilities_are_the_prior_as_they_are_given() -> None:
    assert float(LabelPrior(ClassLabels(1), [1.0])().log_prob(torch.tensor(0))) == 0
    p = LabelPrior(AttributeLabels(["a", "b"]), [0.2, 0.9])()
    torch.testing.assert_close(p.log_prob(torch.tensor([1, 0])), torch.tensor(0.2 * 0.1).log())
    rounded = LabelPrior(CLASSES, [0.3333, 0.3333, 0.3333]).logits.double()  # their sum is short by less than 1e-3
    torch.testing.assert_close(rounded.exp().sum(), torch.tensor(1.0).double(), rtol=0, atol=1e-6)
    refused(lambda: LabelPrior(CLASSES, [0.33, 0.33, 0.33]), "label_prior", "sum to 1")


@pytest.mark.parametrize(
    ("prior", "counted", "follows"),
    [
        ("estimated", 0.7, True),  # (6 + 1) / (8 + 2)
        ("proportional", 0.75, True),
        ("unlabelled", 0.5, True),
        ("uniform", 0.5, False),
        ((0.9, 0.1), 0.9, False),
    ],
)
def test_what_each_word_makes_of_six_and_two_labels(prior: Prior, counted: float, follows: bool) -> None:
    """And then of a mean of π of .2, which counts a quarter."""
    p = LabelPrior(TWO, prior).double()
    p.estimate(torch.tensor([0] * 6 + [1] * 2 + [-1] * 40))
    assert float(p().probs[0]) == pytest.approx(counted)
    p.follow(torch.tensor([0.2, 0.8]).double(), torch.tensor([0.25]).double())
    assert float(p().probs[0]) == pytest.approx(0.75 * counted + 0.25 * 0.2 if follows else counted)


def test_smoothing_by_the_number_of_labels() -> None:
    assert smoothing_for(TWO, torch.tensor([0, 1] * 5 + [-1])) == 0.04
    assert smoothing_for(TWO, torch.tensor([0, 1] * 50 + [-1])) == pytest.approx(1 / 102)
    assert smoothing_for(AttributeLabels(["a", "b"]), torch.tensor([[0, 1], [1, -1]] * 100)) == pytest.approx(1 / 152)
    assert smoothing_for(TWO, torch.tensor([-1])) == 0.04


def test_entropy_is_lowered_to_that_of_the_smoothing_alone() -> None:
    """At π = (1 - ε, ε/2, ε/2) the entropy's gradient ends; the supervised term's ends at 1 - ε + ε/3."""
    terms = made(CLASSES, alignment_weight=0.0, entropy_weight=3.0, smoothing=0.1)
    for top, moved in ((0.95, False), (0.9 + 1e-6, False), (0.89, True)):
        logits = logits_of([top, (1 - top) / 2, (1 - top) / 2], 1).clone().requires_grad_(True)
        value = terms(logits, torch.tensor([-1]))
        assert bool(torch.autograd.grad(value.sum(), logits)[0].abs().max() > 0) == moved
    logits = logits_of([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3], 1).clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(terms(logits, torch.tensor([0])).sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)


def test_papers_objectives_have_no_smoothing() -> None:
    labels, y = ClassLabels(3), torch.tensor([0, 1, 2, -1])
    for options, epsilon in (({}, 0.04), ({"entropy_weight": 0.0}, 0.0), ({"label_smoothing": 0.2}, 0.2)):
        model: Any = ps.create_model("augmented", input_shape=4, labels=labels, **options)
        model.prepare(torch.randn(4, 4), y)
        assert float(model.head_terms.epsilon) == pytest.approx(epsilon)
    refused(lambda: ps.create_model("augmented", input_shape=4, labels=labels, label_smoothing=1.5), "label_smoothing")


def uneven(seed: int, n: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    """Two clouds, 1 : 9, and ten labels of each."""
    generator = torch.Generator().manual_seed(seed)
    true = (torch.arange(n) % 10 == 0).long()
    x = torch.randn(n, 4, generator=generator) + 3.0 * true.unsqueeze(1) * torch.tensor([1.0, 1.0, 0.0, 0.0])
    y = torch.full((n,), -1)
    for k in (0, 1):
        of = (true == k).nonzero().squeeze(1)
        y[of[torch.randperm(len(of), generator=generator)[:10]]] = k
    return x, y, true


def test_even_labels_of_uneven_classes_are_seen_through(capfd: pytest.CaptureFixture[str]) -> None:
    """The true shares are .9 and .1; the labels say half and half (Bayes: .983 right)."""
    x, y, true = uneven(0)
    torch.manual_seed(0)
    model: Any = ps.create_model("augmented", input_shape=4, labels=TWO, latent_dim=2)
    ps.fit(model, x, y, epochs=80, batch_size=100, learning_rate=5e-3, seed=0, progress=False)
    assert (model.predict(x) == true).double().mean() > 0.95
    p = model.p_y().probs
    assert abs(float(p[0]) - 0.9) < 0.05
    assert "label_prior can give the right ones" in capfd.readouterr().err
