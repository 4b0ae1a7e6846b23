"""Relaxed labels: their values, gradients and scores."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from data_makers import refused

from pyro_ssvae import AttributeLabels, ClassLabels
from pyro_ssvae.distributions.relaxed import AcceptRelaxed, PlugIn, StraightThrough
from pyro_ssvae.labels import Labels

C, A = ClassLabels(3), AttributeLabels(["hat", "beard", "scarf"])
LOGITS = torch.tensor([[-1.0, 0.5, 2.0]])
both = pytest.mark.parametrize(
    ("labels", "y", "free"),
    [(C, torch.tensor([-1]), slice(None)), (A, torch.tensor([[-1, 1, -1]]), slice(None, None, 2))],
    ids=["classes", "attributes"],
)


def straight_through(labels: Labels, y: torch.Tensor, logits: torch.Tensor = LOGITS) -> StraightThrough:
    return StraightThrough(labels.clamped(logits, y), logits, y)


@both
def test_straight_through_draws_are_those_of_the_probabilities(labels: Labels, y: torch.Tensor, free: slice) -> None:
    logits = LOGITS.clone().requires_grad_()
    q = straight_through(labels, y, logits)
    values = q.rsample(torch.Size([4000]))
    assert values.shape == (4000, 1, 3)
    assert set(values.detach().round(decimals=4).unique().tolist()) == {0.0, 1.0}
    expected = labels.probs(logits[0])[free].detach()
    torch.testing.assert_close(values.detach()[:, 0, free].mean(0), expected, atol=0.035, rtol=0)
    assert not q.sample().requires_grad
    assert bool((q.log_prob(values) == 0).all()), "its divergence is a term of its own"
    weights = torch.tensor([1.0, 2.0, 4.0])
    (gradient,) = torch.autograd.grad((values * weights).sum(), logits)
    assert bool((gradient[0, free] != 0).all())


def test_known_labels_are_their_point_mass_without_a_gradient() -> None:
    logits = LOGITS.expand(2, 3).clone().requires_grad_()
    classes = straight_through(C, torch.tensor([2, -1]), logits).rsample()
    assert classes[0].tolist() == [0, 0, 1]
    (gradient,) = torch.autograd.grad((classes * torch.tensor([1.0, 2, 4])).sum(), logits)
    assert bool((gradient[0] == 0).all())
    assert bool((gradient[1] != 0).any())
    attributes = straight_through(A, torch.tensor([[-1, 1, -1], [0, 1, 0]]), logits).rsample()
    assert attributes[1].tolist() == [0, 1, 0]
    (gradient,) = torch.autograd.grad(attributes.sum(), logits)
    assert bool((gradient[0, ::2] > 0).all())
    assert gradient[0, 1] == 0
    assert bool((gradient[1] == 0).all())


@both
def test_a_value_is_the_hard_one_with_the_soft_one_s_gradient(labels: Labels, y: torch.Tensor, free: slice) -> None:
    logits, noise = LOGITS.clone().requires_grad_(), torch.tensor([[0.4, -0.3, 0.1]])
    t = 2 * (logits + noise)
    soft = t.softmax(-1) if labels is C else t.sigmoid()
    value = straight_through(labels, y, logits).at(noise)
    weights = torch.tensor([1.0, 2.0, 4.0])
    (found,) = torch.autograd.grad((value * weights)[:, free].sum(), logits)
    (expected,) = torch.autograd.grad((soft * weights)[:, free].sum(), logits)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(value.detach(), torch.tensor([[0.0, 0, 1]] if labels is C else [[0.0, 1, 1]]))


def test_plug_in_is_its_mean_with_its_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    q = PlugIn(C.clamped(logits, torch.tensor([-1])), logits.softmax(-1))
    assert (q.batch_shape, q.event_shape) == ((1,), ())
    value = q.rsample(torch.Size([2]))
    torch.testing.assert_close(value, logits.softmax(-1).expand(2, 1, 3))
    assert value.requires_grad
    assert not q.sample().requires_grad
    assert q.log_prob(value).tolist() == [[0.0], [0.0]]
    wide = q.expand(torch.Size([4]))
    assert (wide.batch_shape, wide.rsample().shape) == ((4,), (4, 3))
    wide = straight_through(A, torch.tensor([[-1, 1, -1]])).expand(torch.Size([4]))
    assert (wide.batch_shape, wide.event_shape, wide.rsample().shape) == ((4,), (3,), (4, 3))


@pytest.mark.parametrize("labels", [C, A], ids=["classes", "attributes"])
def test_a_label_scores_its_prior_and_a_relaxed_one_nothing(labels: Labels) -> None:
    base = labels.prior(LOGITS[0])
    p = AcceptRelaxed(base).expand(torch.Size([2]))
    assert (p.batch_shape, p.event_shape) == ((2,), labels.event_shape)
    y = torch.tensor([2, 0]) if labels is C else torch.tensor([[1, 0, 1], [0, 0, 0]])
    torch.testing.assert_close(p.log_prob(y), base.log_prob(y))
    assert p.log_prob(0.1 + 0.8 * labels.encode(y)).tolist() == [0.0, 0.0]
    if labels is A:  # as a Bernoulli has its values
        torch.testing.assert_close(p.log_prob(y.float()), base.log_prob(y.float()))
    assert p.sample().dtype == torch.int64
    assert torch.equal(p.enumerate_support().flatten(0, 1)[::2].long(), labels.configurations())


def test_a_place_that_no_class_takes_scores_a_number() -> None:
    """-1 of a sparse enumeration; its weight is 0, and 0 times a number is 0."""
    assert bool(AcceptRelaxed(dist.Categorical(logits=LOGITS[0])).log_prob(torch.tensor([-1, 1])).isfinite().all())


def test_known_labels_among_relaxed_ones_score_as_labels() -> None:
    pi = torch.tensor([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    p = AcceptRelaxed(dist.Categorical(probs=torch.tensor([0.1, 0.6, 0.3])))
    assert p.log_prob(pi).tolist() == [0, 0]
    p.known = torch.tensor([False, True])
    torch.testing.assert_close(p.log_prob(pi), torch.tensor([0.0, 0.6]).where(p.known, torch.tensor(1.0)).log())
    q = AcceptRelaxed(dist.Bernoulli(torch.tensor([0.1, 0.6, 0.3])).to_event(1))
    q.known = torch.tensor([[True, False, True], [False, False, False]])
    values = torch.tensor([[1.0, 0.4, 0.0], [0.2, 0.4, 0.9]])
    torch.testing.assert_close(q.log_prob(values), torch.tensor([0.1 * 0.7, 1.0]).log())


def test_a_mask_leaves_attributes_independent() -> None:
    p = AcceptRelaxed(dist.Bernoulli(torch.tensor([0.1, 0.6, 0.3])).to_event(1).mask(True).expand([2]))
    p.set_known(torch.tensor([[True, False, True], [False, True, False]]))
    values = torch.tensor([[1.0, 0.4, 0.0], [0.2, 0.0, 0.9]])
    torch.testing.assert_close(p.log_prob(values), torch.tensor([0.1 * 0.7, 0.4]).log())


def test_of_attributes_that_depend_on_one_another_whole_rows_score_and_parts_are_refused() -> None:
    each = dist.Bernoulli(torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.3, 0.6]])).to_event(1)
    p = AcceptRelaxed(dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.3, 0.7])), each))
    p.set_known(torch.tensor([[True, True, True], [False, False, False]]))
    expected = torch.tensor([0.3 * 0.9 * 0.2 * 0.1 + 0.7 * 0.2 * 0.7 * 0.6, 1.0]).log()
    torch.testing.assert_close(p.log_prob(torch.tensor([[1.0, 0.0, 1.0], [0.2, 0.4, 0.9]])), expected)
    partly = torch.tensor([[True, True, True], [False, True, False]])
    refused(lambda: p.set_known(partly), "MixtureSameFamily", "depend on one another", "'enumerate'")
