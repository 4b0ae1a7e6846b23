from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

from pyro_ssvae.distributions.sparse import Scattered, SparseCategorical, sparsemax


def projection(logits: torch.Tensor) -> torch.Tensor:
    """The simplex's nearest point to one row of logits, by bisection on the threshold."""
    low, high = logits.min() - 1, logits.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (logits - middle).clamp_min(0).sum() > 1 else (low, middle)
    return (logits - low).clamp_min(0)


def test_sparsemax_is_the_projection_on_the_simplex() -> None:
    logits = 2 * torch.randn(20, 6, dtype=torch.float64)
    expected = torch.stack([projection(row) for row in logits])
    torch.testing.assert_close(sparsemax(logits), expected, atol=1e-12, rtol=0)
    assert (expected == 0).any(1).all(), "the example has no zeros to find"


def test_sparsemax_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.5, 0.0, -3.0, -3.0], [9.0, 1.0, 0.0, 0.0]])
    expected = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.75, 0.25, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(sparsemax(logits), expected)


def test_sparsemax_gradient() -> None:
    logits = 0.8 * torch.randn(10, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(sparsemax, logits.requires_grad_())


@pytest.mark.parametrize("level", [10.0, 1000.0, -1000.0])
def test_large_logits_sum_to_one_within_the_validated_tolerance(level: float) -> None:
    probs = sparsemax(level + 0.2 * torch.randn(500, 10))
    assert ((probs > 0).sum(-1) > 1).any()
    SparseCategorical(probs, validate_args=True)


def test_support_holds_the_possible_classes_of_every_row() -> None:
    probs = torch.tensor([[0.5, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0], [0.2, 0.3, 0.0, 0.5]])
    q = SparseCategorical(probs)
    support = q.enumerate_support()
    assert support.shape == (3, 3)
    for row, column in zip(probs, support.T):
        assert sorted(column[column >= 0].tolist()) == row.nonzero().flatten().tolist()
        assert (column[column < 0] == -1).all(), "a place that no class takes is marked as such"
    torch.testing.assert_close(q.log_prob(support).exp().sum(0), torch.ones(3))


def test_log_prob_and_its_gradient_at_zero_probability() -> None:
    probs = torch.tensor([[0.25, 0.75, 0.0]], requires_grad=True)
    log_prob = SparseCategorical(probs).log_prob(torch.tensor([[0], [1], [2]]))
    torch.testing.assert_close(log_prob.flatten(), torch.tensor([0.25, 0.75, 0.0]).log())
    log_prob[:2].sum().backward()
    assert probs.grad is not None
    torch.testing.assert_close(probs.grad, torch.tensor([[4.0, 4 / 3, 0.0]]))


def test_sample_frequencies_and_expand() -> None:
    q = SparseCategorical(torch.tensor([0.25, 0.0, 0.75])).expand([4000])
    assert q.batch_shape == (4000,)
    counts = torch.bincount(q.sample(), minlength=3)
    assert counts[1] == 0
    assert abs(counts[0].item() - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5


def test_scattered_likelihood_is_the_dense_one_where_it_is_computed() -> None:
    logits, x = torch.randn(3, 4, 5), torch.rand(4, 5).round()
    dense = dist.Bernoulli(logits=logits).to_event(1)
    needed = torch.rand(3, 4) < 0.5
    place, row = needed.nonzero(as_tuple=True)
    some = Scattered(dist.Bernoulli(logits=logits[needed]).to_event(1), place, row, needed.shape)
    assert (some.batch_shape, some.event_shape) == (dense.batch_shape, dense.event_shape)
    torch.testing.assert_close(some.log_prob(x), dense.log_prob(x) * needed)
    torch.testing.assert_close(some.mean, dense.mean * needed.unsqueeze(-1))
    draws = some.sample((1000,))
    assert draws.shape == (1000, 3, 4, 5)
    assert (draws[:, ~needed] == 0).all()
    assert (draws.mean(0) - logits.sigmoid())[needed].abs().max() < 5 * 0.5 / 1000**0.5
    with pytest.raises(ValueError, match="the only one"):
        some.expand([7, 3, 4])
