"""Equal rates against sums by hand, and in the ReVAE's loss."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from revae_toys import THREE, points, rows_at, toy
from torch import Tensor

from pyro_ssvae.infer.equal_rates import equal_rates

Y = torch.tensor([[1, 0, -1, 1], [0, -1, -1, 1]])  # [A, B]
PI = torch.tensor([[[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.5, 0.5]], [[0.6, 0.4], [0.2, 0.8], [0.9, 0.1], [0.5, 0.5]]])
PRIOR_LOC, PRIOR_SCALE = torch.tensor([-1.0, 2.0]), torch.tensor([0.5, 1.5])


def latents() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 4, 3), torch.rand(2, 4, 3) + 0.2, torch.randn(4, 2), torch.rand(4, 2) + 0.2


def rate(loc: Tensor, scale: Tensor, prior_loc: float, prior_scale: float) -> Tensor:
    """KL(N(loc, scale) || N(prior_loc, prior_scale))."""
    ratio = scale / prior_scale
    return 0.5 * (ratio.square() + ((loc - prior_loc) / prior_scale).square() - 1) - ratio.log()


def by_hand(one_sided: list[int], y: Tensor = Y, pi: Tensor = PI) -> float:
    loc_c, scale_c, loc_s, scale_s = latents()
    pi = torch.where((y == -1).unsqueeze(-1), pi, torch.stack([y == 0, y == 1], -1).float())
    total = 0.0
    for i in one_sided:
        columns = [rate(loc_s[:, j], scale_s[:, j], 0.0, 1.0) for j in range(2)]
        k = 1 - i
        for j in range(3):
            each = [rate(loc_c[k, :, j], scale_c[k, :, j], float(PRIOR_LOC[v]), float(PRIOR_SCALE[v])) for v in (0, 1)]
            columns.append(pi[k, :, 0] * each[0] + pi[k, :, 1] * each[1])
        for column in columns:
            mean = [(pi[i, :, v] * column).sum() / pi[i, :, v].sum() for v in (0, 1)]
            total += float((mean[1] - mean[0]).abs())
    return total


def rates(one_sided: list[int], y: Tensor = Y, log_q_y: Tensor | None = None, move: Tensor | float = 0.0) -> Tensor:
    loc_c, scale_c, loc_s, scale_s = latents()
    loc_c, loc_s = loc_c + move, loc_s + move
    log_q_y = PI.log() if log_q_y is None else log_q_y
    q_c, q_s = dist.Normal(loc_c, scale_c).to_event(1), dist.Normal(loc_s, scale_s).to_event(1)
    prior = dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)

    def p_c(y: Tensor) -> Any:
        y = y.unsqueeze(-1).expand(2, 4, 3)
        return dist.Normal(PRIOR_LOC[y], PRIOR_SCALE[y]).to_event(1)

    return equal_rates(one_sided, log_q_y, y, q_c, q_s, p_c, prior)


@pytest.mark.parametrize("one_sided", [[0], [1], [0, 1]])
def test_it_is_the_sum_of_the_gaps_outside_the_attribute(one_sided: list[int]) -> None:
    assert float(rates(one_sided)) == pytest.approx(by_hand(one_sided), rel=1e-5)


def test_a_value_that_is_rare_in_the_batch_counts_as_much() -> None:
    """No label is known, and the attribute has a thousandth of the probability."""
    one = torch.tensor([1e-4, 2e-4, 3e-4, 4e-4])
    y, pi = torch.full_like(Y, -1), torch.stack([torch.stack([1 - one, one], -1), PI[1]])
    expected = by_hand([0], y, pi)
    assert float(rates([0], y, pi.log())) == pytest.approx(expected, rel=1e-4)
    assert expected > 0.1


def test_it_moves_the_encoder_and_not_the_head() -> None:
    log_q_y, move = PI.log().requires_grad_(), torch.zeros(()).requires_grad_()
    rates([0, 1], log_q_y=log_q_y, move=move).backward()
    assert log_q_y.grad is None
    assert move.grad is not None
    assert float(move.grad) != 0


def test_a_batch_of_one_side_says_nothing() -> None:
    y = Y.clone()
    y[0] = 1
    assert float(rates([0], y)) == 0
    assert float(rates([1], y)) > 0


def test_a_posterior_that_is_no_normal_is_refused() -> None:
    loc_c, scale_c, _, _ = latents()
    q_c, flow = dist.Normal(loc_c, scale_c).to_event(1), dist.LogNormal(torch.zeros(4, 2), 1.0).to_event(1)
    refused(lambda: equal_rates([0], PI.log(), Y, q_c, flow, lambda y: q_c, flow), "equal_rates", "LogNormal")


def test_it_stands_beside_the_bound_in_training_alone() -> None:
    x, y = points(6), torch.tensor([[0, 1, 1], [1, 0, -1], [-1, 1, 0], [1, 1, 1], [0, 0, 0], [0, -1, 1]])
    eps = torch.randn(6, 5, dtype=torch.float64)
    plain, weighted = (toy(THREE, 5, one_sided=("beard",), equal_rates=weight) for weight in (0.0, 3.0))
    torch.testing.assert_close(rows_at(plain, x, y, eps), rows_at(weighted, x, y, eps))
    losses = []
    for model, training in ((plain, False), (weighted, False), (weighted, True)):
        torch.manual_seed(0)
        model.train(training)
        losses.append(model.objective().differentiable_loss(model.model, model.guide, x, y).detach())
    assert float(losses[0] - losses[1]) == pytest.approx(0, abs=1e-9)
    q_c, q_s = weighted.q_z_given(x)
    log_q_y = weighted.log_q_y_given_x(q_c)
    apart = equal_rates([1], log_q_y, y.t(), q_c, q_s, weighted.p_z_c, weighted.p_z_s(x))
    assert float(losses[2] - losses[1]) == pytest.approx(3 * 6 * float(apart.detach()), rel=1e-6)
    assert float(apart.detach()) > 0.1
    two_sided = toy(THREE, 5, equal_rates=3.0).train()
    torch.manual_seed(0)
    loss = two_sided.objective().differentiable_loss(two_sided.model, two_sided.guide, x, y)
    torch.manual_seed(0)
    two_sided.eval()
    alone = two_sided.objective().differentiable_loss(two_sided.model, two_sided.guide, x, y)
    assert torch.equal(loss, alone)
