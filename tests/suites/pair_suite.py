"""What every pair must do: one suite that a new model, or a pair of one's own, inherits.

A test class names its cases and has all checks; a case is made by :meth:`PairSuite.make`::

    class TestModels(PairSuite):
        cases = CASES

A model of the library is a line of :data:`tiny.CASES`. A pair of one's own overrides :meth:`~PairSuite.make`,
:meth:`~PairSuite.data` and :meth:`~PairSuite.guide_at`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Set
from pathlib import Path
from typing import Any, ClassVar

import pyro
import pytest
import torch
from formulas import same_gradients
from pyro import poutine
from pyro.infer import SVI, Predictive, TraceEnum_ELBO
from pyro.infer.inspect import get_model_relations
from tiny import CASES, WIDTH, LabelNoise, Noise, build, gradients, noisy_guide, points, some_labels
from torch import Tensor

import pyro_ssvae as ps
from pyro_ssvae.infer.traces import is_factor, sampled
from pyro_ssvae.train.step import Step, objective_of

Pair = Any  # a module with a model and a guide


def loss_of(pair: Pair, guide: Callable[..., object], x: Tensor, y: Tensor | None) -> Tensor:
    """The loss of the pair's objective with this guide."""
    loss: Tensor = objective_of(pair).differentiable_loss(pair.model, guide, x, y)
    return loss


def svi_of(pair: Pair, optimizer: Any = None) -> SVI:
    optimizer = optimizer or pyro.optim.Adam({"lr": 1e-2})
    return SVI(pair.model, pair.guide, optimizer, loss=objective_of(pair))


def steps(pair: Pair, x: Tensor, y: Tensor, n: int = 3) -> dict[str, Tensor]:
    """Train by plain SVI from a fixed seed and return the weights."""
    svi = svi_of(pair)
    for i in range(n):
        pyro.set_rng_seed(i)
        svi.step(x, y)
    return weights(pair)


def weights(pair: Pair) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in pair.named_parameters()}


def trainable(pair: Pair) -> set[str]:
    return {name for name, p in pair.named_parameters() if p.requires_grad}


def traces(model: Callable[..., object], guide: Callable[..., object], x: Tensor, y: Tensor | None) -> tuple[Any, Any]:
    """The model's trace and the guide's, with log-probabilities."""
    q = poutine.trace(guide).get_trace(x, y)
    p = poutine.trace(poutine.replay(model, q)).get_trace(x, y)
    for trace in (p, q):
        trace.compute_log_prob()
    return p, q


class Values(poutine.messenger.Messenger):
    """Give sites these values where the guide would draw or enumerate them."""

    def __init__(self, **values: Tensor) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def loss_by_sum(model: Pair, x: Tensor, y: Tensor | None, eps: Tensor) -> Tensor:
    """``-Σ_y q(y) [ Σ log p - Σ log q ]``, one run of model and guide for each value of y: the enumerated objective."""
    total = x.new_zeros(())
    for value in model.labels.configurations():
        with Values(y=value.expand(len(x), *value.shape)):
            p, q = traces(model.model, noisy_guide(model, eps), x, y)
        log_q_y = q.nodes["y"]["log_prob"]
        rows = (log_q_y > -torch.inf).nonzero().squeeze(-1)
        log_q_y = log_q_y[rows]
        others = [s["log_prob"] for name, s in sampled(q).items() if name != "y"]
        log_w = sum(s["log_prob"][rows] for s in sampled(p).values()) - sum(log_q[rows] for log_q in others)
        total = total - (log_q_y.exp() * (log_w - log_q_y)).sum()
    return total


class PairSuite:
    """The checks. ``case`` goes through :attr:`cases`.

    :cvar cases: their names.
    :cvar inexact: those whose objective draws random numbers beside the noise that a test gives.
    :cvar leaves: latent sites on which x does not depend.
    :cvar casts: whether the programs take points of any precision.
    :cvar uncopied: those that cannot be copied once they have run, as Pyro's flows, which keep their last value.
    """

    cases: ClassVar[Iterable[str]] = ()
    inexact: ClassVar[Iterable[str]] = ()
    leaves: ClassVar[Set[str]] = frozenset()
    casts: ClassVar[bool] = True
    uncopied: ClassVar[Iterable[str]] = ()

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", list(cls.cases))

    def make(self, case: str) -> Pair:
        """A new pair; every call gives the same parameters."""
        return build(case)

    def data(self, case: str, n: int) -> tuple[Tensor, Tensor]:
        """Points and labels of every kind."""
        return points(n), some_labels(CASES[case][1], n)

    def guide_at(self, pair: Pair, eps: Tensor, *, labels: LabelNoise = "inferred") -> Callable[..., object]:
        """The guide with its draws made of the noise ``eps [B, 8]``.

        :param labels: as for :class:`tiny.Noise`.
        """
        return noisy_guide(pair, eps, labels=labels)

    def model_at(self, pair: Pair, eps: Tensor) -> Callable[..., object]:
        """The model, latents that the guide leaves to it made of the noise; here there are none."""
        program: Callable[..., object] = pair.model
        return program

    def example(self, case: str, n: int) -> tuple[Pair, Tensor, Tensor, Tensor]:
        """A pair in double precision and evaluation mode, with points, labels and noise."""
        x, y = self.data(case, n)
        return self.make(case).double().eval(), x.double(), y, torch.randn(n, WIDTH, dtype=torch.float64)

    def exact(self, case: str) -> None:
        """Skip the case where its objective draws random numbers of its own."""
        if case in self.inexact:
            pytest.skip("its objective draws random numbers of its own")

    # --- the objective

    def test_mixed_batch_is_the_sum_of_its_parts(self, case: str) -> None:
        self.exact(case)
        pair, x, y, eps = self.example(case, 8)
        whole = loss_of(pair, self.guide_at(pair, eps), x, y)
        rows = [loss_of(pair, self.guide_at(pair, eps[i : i + 1]), x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
        parts = torch.stack(rows).sum()
        torch.testing.assert_close(whole, parts)
        same_gradients(gradients(whole, pair), gradients(parts, pair))

    def test_no_labels_are_all_missing(self, case: str) -> None:
        pair, x, y, eps = self.example(case, 4)
        guide = self.guide_at(pair, eps)
        losses = []
        for labels in (torch.full_like(y, -1), None):
            pyro.set_rng_seed(0)
            losses.append(loss_of(pair, guide, x, labels))
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-14, atol=0)

    def test_permuted_rows_permute_every_term(self, case: str) -> None:
        """The loss stays; in a trace, labels drawn, every site's log-probability goes with its row."""
        self.exact(case)
        pair, x, y, eps = self.example(case, 6)
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        losses = [loss_of(pair, self.guide_at(pair, eps[i]), x[i], y[i]) for i in (torch.arange(6), order)]
        torch.testing.assert_close(*losses)
        for labels in (y, y.clamp_min(0)):
            before, after = (
                traces(self.model_at(pair, eps[i]), self.guide_at(pair, eps[i], labels="drawn"), x[i], labels[i])
                for i in (torch.arange(6), order)
            )
            for one, other in zip(before, after):
                for name, site in sampled(one).items():
                    found = sampled(other)[name]["log_prob"]
                    torch.testing.assert_close(found, site["log_prob"][..., order], msg=name)

    def test_gradients_reach_every_parameter(self, case: str) -> None:
        pair, x, y, eps = self.example(case, 8)
        loss = loss_of(pair, self.guide_at(pair, eps), x, y)
        assert trainable(pair)
        reached = {name for name, g in gradients(loss, pair).items() if g.abs().max() > 1e-7}
        assert reached == trainable(pair)

    def test_enumerated_objective_is_the_sum_over_every_value_of_y(self, case: str) -> None:
        """Value and gradient, one run for each value."""
        pair, x, y, eps = self.example(case, 6)
        site = sampled(poutine.trace(pair.guide).get_trace(x, y)).get("y")
        if site is None or not site["infer"].get("enumerate") or type(objective_of(pair)) is not TraceEnum_ELBO:
            pytest.skip("its objective is no sum over y")
        loss, expected = loss_of(pair, self.guide_at(pair, eps), x, y), loss_by_sum(pair, x, y, eps)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
        same_gradients(gradients(loss, pair), gradients(expected, pair), rtol=1e-9, atol=1e-10)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    def test_precision_of_the_parameters_is_that_of_the_results(self, case: str, dtype: torch.dtype) -> None:
        pair = self.make(case).to(dtype)
        (x, y), eps = self.data(case, 6), torch.randn(6, WIDTH, dtype=dtype)
        for given in (x.to(dtype), x.double() if self.casts else x.to(dtype)):
            assert loss_of(pair, self.guide_at(pair, eps), given, y).dtype == dtype
        if self.bounded(pair, x.to(dtype), y):
            assert ps.elbo(pair, x.numpy(), y).dtype == ps.log_likelihood(pair, x, num_samples=2).dtype == dtype

    def test_single_precision_agrees_with_double(self, case: str) -> None:
        self.exact(case)
        pair, x, y, eps = self.example(case, 6)
        double = loss_of(pair, self.guide_at(pair, eps), x, y)
        pair = pair.float()
        single = loss_of(pair, self.guide_at(pair, eps.float()), x.float(), y)
        torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-4)

    # --- training

    def test_plain_svi_trains_every_parameter_without_a_warning(self, case: str) -> None:
        pair, (x, y) = self.make(case), self.data(case, 8)
        before, svi = weights(pair), svi_of(pair)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.filterwarnings("ignore", ".*not registered in the param store")  # what is held fixed
            losses = [svi.step(x, y) for _ in range(20)]
        assert sum(losses[-5:]) < sum(losses[:5])
        assert not [name for name in trainable(pair) if torch.equal(pair.get_parameter(name), before[name])]

    def test_plain_svi_takes_the_gradient_of_the_training_step(self, case: str) -> None:
        plain, x, y, _ = self.example(case, 8)
        plain.train()
        twin, start = copy.deepcopy(plain), weights(plain)
        pyro.set_rng_seed(3)
        loss = svi_of(plain, pyro.optim.SGD({"lr": 1.0})).step(x, y)
        pyro.set_rng_seed(3)
        step = Step(twin)(x, y)
        step.backward()
        assert loss == pytest.approx(step.item(), rel=1e-12)
        for name in trainable(twin):
            grad = twin.get_parameter(name).grad
            assert grad is not None
            torch.testing.assert_close(start[name] - plain.get_parameter(name), grad, rtol=1e-9, atol=1e-9, msg=name)

    def test_two_instances_side_by_side_do_not_disturb_one_another(self, case: str) -> None:
        x, y = self.data(case, 8)
        alone = steps(self.make(case), x, y)
        pyro.clear_param_store()
        first, second = self.make(case), self.make(case)
        with torch.no_grad():
            for p in second.parameters():
                p.mul_(1.1)
        optimizers, start = [svi_of(pair) for pair in (first, second)], weights(second)
        for i in range(3):
            for svi in optimizers:
                pyro.set_rng_seed(i)
                svi.step(x, y)
        for name, p in first.named_parameters():
            torch.testing.assert_close(p.detach(), alone[name], rtol=0, atol=0, msg=name)
        assert any(not torch.equal(p, start[name]) for name, p in second.named_parameters())

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_deep_copy_trains_itself_only(self, case: str, when: str) -> None:
        """Whether or not Pyro knew the original before it was copied."""
        pair, (x, y) = self.make(case), self.data(case, 8)
        if when == "after":
            if case in self.uncopied:
                pytest.skip("it cannot be copied once it has run")
            steps(pair, x, y, n=1)
        twin, start = copy.deepcopy(pair), weights(pair)
        trained = steps(twin, x, y)
        for name, p in pair.named_parameters():
            assert torch.equal(p, start[name]), name
            assert torch.equal(trained[name], start[name]) != p.requires_grad, name

    def test_every_parameter_is_registered_under_the_pair_s_own_name(self, case: str) -> None:
        pairs, (x, y) = [self.make(case), self.make(case)], self.data(case, 6)
        for pair in pairs:
            pair.guide(x, y)
        stored = {id(pyro.get_param_store()[name].unconstrained()) for name in pyro.get_param_store()}
        assert stored == {id(p) for pair in pairs for p in pair.parameters() if p.requires_grad}

    # --- what is read off the traces

    def bounded(self, pair: Pair, x: Tensor, y: Tensor) -> bool:
        """Whether the pair has a latent site, so that there is a bound."""
        return any(not is_factor(site) for site in sampled(poutine.trace(pair.guide).get_trace(x, y)).values())

    def test_the_bound_is_below_the_importance_weighted_one(self, case: str) -> None:
        """In expectation; labels missing, and known."""
        pair, x, y, _ = self.example(case, 6)
        if not self.bounded(pair, x, y):
            pytest.skip("there is no latent")
        x, y = x[:3].repeat(200, 1), y[:3].repeat(200, *[1] * (y.dim() - 1))
        for labels in (None, y):
            elbo = ps.elbo(pair, x, labels).reshape(200, 3)
            weighted = ps.log_likelihood(pair, x, labels, num_samples=8).reshape(200, 3)
            error = (elbo.var(0) / 200).sqrt() + (weighted.var(0) / 200).sqrt()
            assert (elbo.mean(0) - weighted.mean(0) < 4 * error).all()

    def test_save_and_load(self, case: str, tmp_path: Path) -> None:
        """Into a like pair whose weights are others."""
        pair, x, y, eps = self.example(case, 6)
        ps.save(pair, tmp_path)
        other = self.make(case).double()
        with torch.no_grad():
            for p in other.parameters():
                p.zero_()
        assert ps.load(tmp_path, into=other) is other
        losses = []
        for one in (pair, other):
            pyro.set_rng_seed(0)
            losses.append(loss_of(one, self.guide_at(one, eps), x, y))
        assert torch.equal(*losses)

    @pytest.mark.parametrize("parallel", [False, True], ids=["in turn", "parallel"])
    def test_predictive_from_the_guide(self, case: str, parallel: bool) -> None:
        """Every site of the model, of so many draws; a known label stays."""
        pair, x, y, _ = self.example(case, 6)
        model = poutine.uncondition(pair.model)
        found = Predictive(model, guide=pair.guide, num_samples=7, parallel=parallel)(x, y)
        sites = sampled(poutine.trace(pair.model).get_trace(x, y))
        for name, site in sites.items():
            assert found[name].shape[0] == 7, name
            assert found[name].numel() == 7 * site["value"].numel(), name
            spread = found[name].double().std(0)
            if name != "y":  # of which few are missing
                assert (spread.max() if site["fn"].support.is_discrete else spread.min()) > 0, name
        if "y" in sites and not sites["y"]["is_observed"]:
            drawn = found["y"].reshape(7, *sites["y"]["value"].shape)
            drawn = drawn if drawn.shape[1:] == y.shape else drawn.transpose(1, 2)
            assert (drawn[:, y >= 0] == y[y >= 0]).all()

    def test_condition_and_do_set_the_label_that_x_depends_on(self, case: str) -> None:
        """At the same noise both give the same E[x], which differs from one label to another."""
        pair, x, y, eps = self.example(case, 6)
        site = sampled(poutine.trace(pair.model).get_trace(x, y)).get("y")
        if site is None or site["is_observed"]:
            pytest.skip("y is no latent of the model")
        means = []
        for value in [0, 2] if y.dim() == 1 else [torch.tensor([0, 1, 0]), torch.tensor([1, 0, 0])]:
            value = value if isinstance(value, int) or site["value"].shape == y.shape else value.unsqueeze(-1)
            programs = pyro.do(pair.model, {"y": value}), pyro.condition(pair.model, {"y": torch.as_tensor(value)})
            for program in programs:
                with Noise(eps):
                    means.append(poutine.trace(program).get_trace(x).nodes["x"]["fn"].mean)
        torch.testing.assert_close(means[0], means[1])
        torch.testing.assert_close(means[2], means[3])
        assert (means[0] - means[2]).abs().amax(1).min() > 1e-3

    def test_relations_that_render_model_draws(self, case: str) -> None:
        """Every latent is a cause of x, and none is drawn as observed."""
        pair, x, y, _ = self.example(case, 6)
        relations = get_model_relations(pair.model, (x, y))
        p, _ = traces(pair.model, pair.guide, x, y)
        observed = {name for name, site in sampled(p).items() if site["is_observed"]}
        assert set(relations["observed"]) == observed
        assert set(sampled(p)) <= {name for names in relations["plate_sample"].values() for name in names}
        if "x" in observed:
            latent = {name for name in sampled(p) if name not in observed}
            assert latent <= causes(relations["sample_sample"], "x") | self.leaves

    def test_render_model(self, case: str) -> None:
        pytest.importorskip("graphviz")
        pair, x, y, _ = self.example(case, 4)
        assert "data" in pyro.render_model(pair.model, model_args=(x, y)).source


def causes(parents: dict[str, dict[str, object]], name: str) -> set[str]:
    """All sites that a site depends on, through others too, of ``sample_sample`` of Pyro's relations."""
    found: set[str] = set()
    left = [name]
    while left:
        for parent in parents[left.pop()]:
            if parent not in found:
                found.add(parent)
                left.append(parent)
    return found
