from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from tiny import CASES, build, gradients, points, randomize, some_labels
from torch import Tensor, nn

from pyro_ssvae import AttributeLabels, ClassLabels, create_model
from pyro_ssvae.train.compile import BranchlessDice, branchless


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)


def both(model: Any, x: Tensor, y: Tensor, elbo: Any) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Loss and gradients in Pyro's own form and without branches, at the same random numbers."""
    found = []
    for context in (pyro.validation_enabled, branchless):
        pyro.set_rng_seed(1)
        with context():
            loss = elbo.differentiable_loss(model.model, model.guide, x, y)
        found.append((loss.detach(), gradients(loss, model)))
    return found


def assert_same(found: list[tuple[Tensor, dict[str, Tensor]]]) -> None:
    (loss, slopes), (other, others) = found
    torch.testing.assert_close(other, loss, rtol=1e-12, atol=0)
    for name, slope in slopes.items():
        torch.testing.assert_close(others[name], slope, rtol=1e-10, atol=1e-12, msg=name)
    assert any(slope.abs().max() > 1e-3 for slope in slopes.values())


@pytest.mark.parametrize("case", CASES)
def test_the_form_without_branches_is_pyros(case: str) -> None:
    model = build(case).double().eval()
    assert_same(both(model, points(6), some_labels(model.labels, 6), model.objective()))


@pytest.mark.parametrize("labels", [ClassLabels(3), AttributeLabels(["hat", "beard", "scarf"])])
def test_the_revaes_too(labels: Any) -> None:
    model = randomize(create_model("revae", input_shape=(5,), labels=labels, latent_dim=5)).double().eval()
    assert_same(both(model, points(6), some_labels(labels, 6), model.objective()))


class Mixtures(nn.Module):
    """Two enumerated sites in the guide, one upstream of the other, and one in the model; some values impossible."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(2, 3))
        self.c, self.loc = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(2, 3, 4))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Categorical(torch.ones(2)))
            b = pyro.sample("b", dist.Categorical(torch.ones(3)))
            c = pyro.sample("c", dist.Categorical(logits=self.c), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(self.loc[a, b, c], 1.0), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Categorical(logits=self.a), infer={"enumerate": "parallel"})
            pyro.sample("b", self.q_b(a))

    def q_b(self, a: Tensor) -> Any:
        return dist.Categorical(logits=(self.b + torch.tensor([0.0, -torch.inf, 0.0]))[a])


class Chained(Mixtures):
    """As above, the second site enumerated too."""

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Categorical(logits=self.a), infer={"enumerate": "parallel"})
            pyro.sample("b", self.q_b(a), infer={"enumerate": "parallel"})


@pytest.mark.parametrize("kind", [Mixtures, Chained])
def test_sites_that_depend_on_each_other(kind: type[nn.Module]) -> None:
    """Drawn sites have the score function's gradient, enumerated ones exact sums."""
    assert_same(both(kind(), torch.randn(5), torch.zeros(5), TraceEnum_ELBO(max_plate_nesting=1)))


def test_pyro_is_as_it_was_afterwards() -> None:
    from pyro.infer import traceenum_elbo

    with branchless():
        assert traceenum_elbo.Dice is BranchlessDice
        assert not pyro.infer.util.is_validation_enabled()
    assert traceenum_elbo.Dice is not BranchlessDice
    assert pyro.infer.util.is_validation_enabled()
