"""Labels of which some are known: point masses there, the distribution elsewhere."""

from __future__ import annotations

import pyro.distributions as dist
import torch

from pyro_ssvae.distributions.clamped import ClampedBernoulli, RepeatKnown, SkipKnown, clamped_logits

LOGITS = torch.tensor([[-1.0, 0.5, 2.0], [0.3, 0.3, -2.0]])
Y = torch.tensor([[-1, 1, -1], [0, -1, 1]])


def test_clamped_logits_are_a_point_mass_where_the_class_is_known() -> None:
    probs = clamped_logits(LOGITS, torch.tensor([-1, 2])).softmax(-1)
    torch.testing.assert_close(probs[0], LOGITS[0].softmax(-1))
    assert probs[1].tolist() == [0, 0, 1]


def test_probabilities_are_those_of_the_entries() -> None:
    q = ClampedBernoulli(LOGITS, Y)
    expected = torch.where(Y == -1, LOGITS.sigmoid(), Y.float())
    torch.testing.assert_close(q.probs, expected)
    assert torch.equal(q.mean, q.probs)
    values = q.enumerate_support()
    assert values.shape == (8, 2, 3)
    weights = q.log_prob(values).exp()
    torch.testing.assert_close(weights.sum(0), torch.ones(2))
    torch.testing.assert_close((weights.unsqueeze(-1) * values).sum(0), expected)
    assert torch.equal(q.enumerate_support(expand=False), values[:, :1]), "one row for all"


def test_draws_are_of_the_missing_entries_alone() -> None:
    q = ClampedBernoulli(LOGITS, Y)
    drawn = q.sample(torch.Size([4000]))
    assert drawn.dtype == torch.int64
    assert torch.equal(drawn[:, Y != -1], Y[Y != -1].expand(4000, -1))
    torch.testing.assert_close(drawn.float().mean(0), q.mean, rtol=0, atol=5 * 0.5 / 4000**0.5)


def test_gradient_of_a_known_entry_is_nothing() -> None:
    logits = LOGITS.clone().requires_grad_()
    q = ClampedBernoulli(logits, Y)
    log_p = q.log_prob(torch.tensor([[0, 1, 1], [0, 1, 1]]))
    assert bool(log_p.isfinite().all())
    (gradient,) = torch.autograd.grad(log_p.sum(), logits)
    assert bool((gradient[Y != -1] == 0).all())
    assert bool((gradient[Y == -1] != 0).all())


def test_another_value_of_a_known_entry_is_impossible() -> None:
    assert ClampedBernoulli(LOGITS, Y).log_prob(torch.tensor([[0, 0, 0], [1, 0, 1]])).tolist() == [-torch.inf] * 2


def test_a_known_label_is_repeated_and_counts_once() -> None:
    """The same probabilities at the same places, and no value that a row does not have."""
    y = torch.tensor([-1, 2])
    for base, known in (
        (dist.Categorical(logits=clamped_logits(LOGITS, y)), y),
        (ClampedBernoulli(LOGITS, Y), Y),
    ):
        q = RepeatKnown(base, known)
        places, values = base.enumerate_support(), q.enumerate_support()
        assert values.shape == places.shape
        assert torch.equal(q.log_prob(values), base.log_prob(places))
        assert (values == torch.where(known == -1, places, known)).all()
        drawn = q.sample()
        assert torch.equal(q.log_prob(drawn), base.log_prob(drawn)), "a draw is scored as what it is"
        several = q.sample(torch.Size([2]))
        assert torch.equal(q.log_prob(several), base.log_prob(several))
        assert q.expand([3, 2]).enumerate_support().shape == (len(places), 3, 2, *q.event_shape)


def test_a_known_label_is_skipped_at_all_places_but_its_own() -> None:
    y = torch.tensor([-1, 2, 0])  # 0 too, which is what -1 is looked up as
    base = dist.Categorical(logits=clamped_logits(LOGITS[[0, 1, 1]], y))
    q = SkipKnown(base, y)
    values = q.enumerate_support()
    assert values.tolist() == [[0, -1, 0], [1, -1, -1], [2, 2, -1]]
    assert torch.equal(q.log_prob(values), base.log_prob(base.enumerate_support()))
    drawn = q.sample()
    assert torch.equal(q.log_prob(drawn), base.log_prob(drawn))
    assert q.expand([3, 3]).enumerate_support().shape == (3, 3, 3)
