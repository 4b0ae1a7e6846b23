"""Known rows that are added to a batch count in the class head's factor, and the bound is of the batch alone."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from tiny import CASES, CLASSES, augmented, build, gradients, loss_at, noisy_guide, points, some_labels
from torch import Tensor

import pyro_ssvae as ps
from pyro_ssvae.infer.ccvae_bound import CCVAEBound
from pyro_ssvae.train.added import apart, has_head
from pyro_ssvae.train.plan import Batches, make_plan
from pyro_ssvae.train.settings import FitSettings
from pyro_ssvae.train.step import Step

N, ADDED = 6, 3
WITHOUT = {"vae", "classifier", "classifier-attributes", "revae", "revae-attributes", "revae-local", "mvae",
           "mvae-attributes"}  # fmt: skip


def rows(labels: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Points, labels and noise of a batch and of rows that are added to it, which have a label."""
    torch.manual_seed(1)
    y = torch.cat([some_labels(labels, N), some_labels(labels, 2 * ADDED)[::2].abs()])
    return points(N + ADDED), y, torch.randn(N + ADDED, 8)


def head_cost(model: Any, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
    q = poutine.trace(noisy_guide(model, eps)).get_trace(x, y)
    q.compute_log_prob()
    cost: Tensor = q.nodes["head"]["log_prob"].sum()
    return cost


@pytest.mark.parametrize("case", [case for case in CASES if case not in WITHOUT])
def test_the_loss_is_the_batchs_and_the_heads_of_the_added_rows(case: str) -> None:
    torch.set_default_dtype(torch.float64)
    model = build(case).eval()
    x, y, eps = rows(model.labels)
    pair = apart(model.model, noisy_guide(model, eps), ADDED)
    found = model.objective().differentiable_loss(*pair, x, y)
    expected = loss_at(model, x[:N], y[:N], eps[:N]) + head_cost(model, x[N:], y[N:], eps[N:])
    torch.testing.assert_close(found, expected)
    found, expected = gradients(found, model), gradients(expected, model)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)
    assert has_head(model, x[:2], y[:2])


@pytest.mark.parametrize("case", ["revae", "revae-attributes"])
def test_of_the_revaes_bound_they_have_what_teaches_the_head(case: str) -> None:
    torch.set_default_dtype(torch.float64)
    model = build(case).train()
    x, y, eps = rows(model.labels)
    bound = CCVAEBound(model, alpha=3.0)
    bound.added = ADDED
    torch.manual_seed(0)
    found = bound.differentiable_loss(model.model, noisy_guide(model, eps), x, y)
    torch.manual_seed(0)
    bound.added = 0
    p, q = bound._draw(model.model, noisy_guide(model, eps), x, y)
    terms = bound.terms(p, q, x, y)
    of_batch = sum(term[:N].sum() for term in terms.values())
    expected = -(of_batch + terms["log q(y_O | x)"][N:].sum())
    torch.testing.assert_close(found, expected)
    if case == "revae-attributes":  # of classes q(y_O | x), and so w, is of random draws
        alone = CCVAEBound(model, alpha=3.0)
        expected = alone.differentiable_loss(model.model, noisy_guide(model, eps[:N]), x[:N], y[:N])
        decoder = list(model.decoder.parameters())
        for one, other in zip(torch.autograd.grad(found, decoder), torch.autograd.grad(expected, decoder), strict=True):
            torch.testing.assert_close(one, other)
    model.eval()  # where all rows count alike
    losses = []
    for added in (0, ADDED):
        bound.added = added
        torch.manual_seed(0)
        losses.append(bound.differentiable_loss(model.model, noisy_guide(model, eps), x, y))
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("case", sorted(WITHOUT))
def test_without_a_head_all_rows_count(case: str) -> None:
    model = build(case)
    assert not has_head(model, points(2), some_labels(model.labels, 2))


class NoHead(ps.AugmentedVAE):
    """A guide from which no head learns."""

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with poutine.block(hide=["head"]):
            super().guide(x, y)


def test_class_weights_that_would_weigh_nothing_are_refused() -> None:
    model = build("enumerate")
    model.__class__ = NoHead
    x, y = points(8), some_labels(model.labels, 8)
    refused(lambda: ps.fit(model, x, y, epochs=1, class_weights="balanced"), "class_weights", "'head'", "rewritten")


class Mixture(ps.AugmentedVAE):
    """A prior with a component of its own, which the model alone enumerates, and a factor of one's own."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            k = pyro.sample("k", dist.Categorical(x.new_tensor([0.3, 0.7])), infer={"enumerate": "parallel"})
            z = pyro.sample(
                "z", dist.Normal((2.0 * k - 1).unsqueeze(-1), 1).expand([*k.shape[:-1], len(x), 2]).to_event(1)
            )
            pyro.factor("near", -z.pow(2).sum(-1))
            return pyro.sample("x", self.p_x_given(z, y, x), obs=self.likelihood.target(x))


@pytest.mark.parametrize("how", ["plug-in", "enumerate"])
def test_programs_of_ones_own(how: str) -> None:
    torch.set_default_dtype(torch.float64)
    model = augmented(label_inference=how).eval()
    model.__class__ = Mixture
    x, y, eps = rows(CLASSES)
    pair = apart(model.model, noisy_guide(model, eps), ADDED)
    elbo = TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)
    found = elbo.differentiable_loss(*pair, x, y)
    expected = elbo.differentiable_loss(model.model, noisy_guide(model, eps[:N]), x[:N], y[:N])
    torch.testing.assert_close(found, expected + head_cost(model, x[N:], y[N:], eps[N:]))


class Masked(ps.AugmentedVAE):
    """Of some rows x does not count."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            with self.kl_scale():
                z = pyro.sample("z", self.p_z(x))
            with poutine.mask(mask=x[:, 0] > 0.5):
                return pyro.sample("x", self.p_x_given(z, y, x), obs=self.likelihood.target(x))


@pytest.mark.parametrize("how", ["plug-in", "enumerate"])
def test_scales_and_masks_of_a_program_stay(how: str) -> None:
    """β, and rows of which a program leaves x out, count as they do where no row is added."""
    torch.set_default_dtype(torch.float64)
    model = augmented(label_inference=how, beta=0.3).eval()
    model.__class__ = Masked
    x, y, eps = rows(CLASSES)
    assert 0 < int((x[:N, 0] > 0.5).sum()) < N
    found = model.objective().differentiable_loss(*apart(model.model, noisy_guide(model, eps), ADDED), x, y)
    expected = loss_at(model, x[:N], y[:N], eps[:N]) + head_cost(model, x[N:], y[N:], eps[N:])
    torch.testing.assert_close(found, expected)


def few(**options: Any) -> tuple[Tensor, Tensor, FitSettings]:
    y = torch.full((200,), -1)
    y[::40] = torch.arange(5) % 3
    return points(200), y, FitSettings(batch_size=16, labelled_rows=5, **options)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("by_blocks", [False, True])
def test_each_process_knows_which_rows_were_added(size: int, by_blocks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_blocks:
        monkeypatch.setattr("pyro_ssvae.train.plan.MANY", 10)
    x, y, settings = few(epochs=1)
    plan = make_plan(x, y, settings)
    assert (plan.blocks is not None) == by_blocks
    shares = [Batches(x, y, plan, 0, torch.device("cpu"), rank, size) for rank in range(size)]
    assert sum(share.added_rows for share in shares) == 5
    of_epoch = [list((s.by_blocks if by_blocks else s.one_by_one)(0, 0)) for s in shares]
    for step in zip(*of_epoch, strict=True):
        batch = [b.x[: len(b.y) - s.added_rows] for b, s in zip(step, shares)]
        assert sum(map(len, batch)) == 16
        assert len(torch.cat(batch).unique(dim=0)) == 16  # a known row stands twice, once in the batch and once added
        assert all((b.y[len(b.y) - s.added_rows :] >= 0).all() for b, s in zip(step, shares))


@pytest.mark.parametrize("case", ["probabilities", "enumerate", "revae", "vae"])
def test_a_training_tells_them_apart(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, _ = few()
    seen: set[tuple[int, int]] = set()
    forward = Step.forward

    def watched(self: Step, x: Tensor, y: Tensor | None) -> Tensor:
        seen.add((len(x), self.added))
        return forward(self, x, y)

    monkeypatch.setattr(Step, "forward", watched)
    trained = {}
    for captured in (None, False):
        torch.manual_seed(0)
        model = build(case)
        ps.fit(model, x, y, batch_size=16, labelled_rows=5, epochs=2, compile=captured, device="cpu", progress=False)
        trained[captured] = model
    assert (21, 0 if case == "vae" else 5) in seen
    for a, b in zip(trained[None].parameters(), trained[False].parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_loss_is_nats_a_row_of_the_batch() -> None:
    x, y, _ = few()
    torch.manual_seed(0)
    model = augmented(alpha=1e-3, entropy_weight=0.0, alignment_weight=0.0)
    bound = float(ps.elbo(model, x, num_samples=50).mean())
    history = ps.fit(
        model, x, y, batch_size=16, labelled_rows=5, epochs=4, learning_rate=1e-9, progress=False, augment="none"
    )
    loss = sum(history["loss"]) / 4
    assert loss == pytest.approx(-bound, rel=0.1), "by 21 rows it would be a quarter less"
