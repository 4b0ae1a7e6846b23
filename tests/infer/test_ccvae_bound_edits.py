"""The ReVAE's bound of edited models with discrete, shared, drawn and scaled sites: brute force, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from formulas import same_gradients
from pair_suite import Values
from pyro import poutine
from revae_toys import CLASSES, THREE, Noise, by_hand, encoded, log_p_x, points, rows_at, toy
from tiny import gradients
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae import ReVAE
from pyro_ssvae.infer.ccvae_bound import CCVAEBound
from pyro_ssvae.labels import Labels

PARTLY = torch.tensor([[-1, -1, -1], [1, -1, -1], [-1, 0, 1], [0, 1, 1], [1, 1, -1]])
EVERY_LABELS = pytest.mark.parametrize("labels", [THREE, CLASSES], ids=["attributes", "classes"])
MOVE = 1.5


class Moved(ReVAE):
    """k in {0, 1} moves the mean of x by 1.5 k; a pair may have it a row or for all rows, summed over or drawn."""

    p_k: nn.Parameter
    q_k: nn.Parameter
    shared = False
    in_guide = True
    enumerated: str | None = "parallel"
    scale = 1.0

    def site_k(self, logits: Tensor, enumerated: str | None) -> Tensor:
        infer: Any = {"enumerate": enumerated}
        k: Tensor = pyro.sample("k", dist.Categorical(logits=logits), infer=infer)
        return k

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        own = None if self.in_guide else "parallel"
        k = self.site_k(self.p_k, own) if self.shared else None
        data = self.plate(x)
        with data, poutine.scale(scale=self.scale):
            z_s = pyro.sample("z_s", self.p_z_s(x))
        with self.label_plates(data):
            z_c = pyro.sample("z_c", self.p_z_c(pyro.sample("y", self.p_y())))
        with data:
            k = self.site_k(self.p_k, own) if k is None else k
            pyro.sample("x", self.moved(self.join(z_c, z_s), k), obs=x)

    def moved(self, z: Tensor, k: Tensor) -> dist.TorchDistribution:
        return dist.Normal(self.p_x(self.decoder(z, None)).mean + MOVE * k.unsqueeze(-1), 0.8).to_event(1)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        if self.shared and self.in_guide:
            self.site_k(self.q_k, self.enumerated)
        with poutine.scale(scale=self.scale) if self.scale != 1 else poutine.mask(mask=True):  # type: ignore[call-overload]
            super().guide(x, y)
        if self.in_guide and not self.shared:
            with pyro.plate("further", len(x)):
                self.site_k(self.q_k, self.enumerated)


def moved(labels: Labels, **attributes: Any) -> Moved:
    model = toy(labels, 5, label_dim=1)
    model.__class__ = type("Edited", (Moved,), attributes)
    assert isinstance(model, Moved)
    model.p_k = nn.Parameter(torch.tensor([-0.6, 0.9], dtype=torch.float64))
    model.q_k = nn.Parameter(torch.tensor([0.4, -0.3], dtype=torch.float64))
    return model


def expected(
    model: Moved, x: Tensor, y: Tensor | None, eps: Tensor, further: Callable[[Tensor, list[Tensor]], Tensor]
) -> Tensor:
    """The formula at given noise, ``[B]``.

    :param further: what is more in log p - log q, of the latents and of log p(x | z, k) - log p(x | z) at each k.
    """
    loc, scale = encoded(model, x)
    z = loc + scale * eps
    moves = [model.moved(z, torch.full((len(x),), k)).log_prob(x) - log_p_x(model, x, z) for k in (0, 1)]
    if y is None:
        y = torch.full((len(x), *model.labels.event_shape), -1)
    n = model.z_c_dim
    q_c = dist.Normal(model.split(loc[:, :n]), model.split(scale[:, :n])).to_event(1)
    log_q_x = model.log_q_known(y.t() if model.multilabel else y, q_c, q_c.mean)
    return by_hand(model, x, y, z, log_q_x, detach="all", further=further(z, moves))


def log_softmaxes(model: Moved) -> tuple[Tensor, Tensor]:
    return model.p_k.log_softmax(-1), model.q_k.log_softmax(-1)


def summed(model: Moved) -> Callable[[Tensor, list[Tensor]], Tensor]:
    """Over the values of k under the guide's weights, else inside the logarithm."""
    log_p, log_q = log_softmaxes(model)

    def further(z: Tensor, moves: list[Tensor]) -> Tensor:
        if not model.in_guide:
            return torch.stack([moves[k] + log_p[k] for k in (0, 1)]).logsumexp(0)
        parts = [log_q[k].exp() * (moves[k] + log_p[k] - log_q[k]) for k in (0, 1)]
        return parts[0] + parts[1]

    return further


def same(found: Tensor, wanted: Tensor, model: nn.Module) -> None:
    torch.testing.assert_close(found, wanted)
    weights = torch.linspace(0.5, 2, len(found), dtype=torch.float64)
    same_gradients(gradients(found @ weights, model), gradients(wanted @ weights, model))


# --- sites that are summed over


@EVERY_LABELS
@pytest.mark.parametrize("enumerated", ["parallel", "sequential"])
@pytest.mark.parametrize("in_guide", [True, False], ids=["guide", "model"])
def test_a_further_discrete_latent_is_summed_over(labels: Labels, in_guide: bool, enumerated: str) -> None:
    model = moved(labels, in_guide=in_guide, enumerated=enumerated)
    x, y, eps = points(5), PARTLY if labels is THREE else None, torch.randn(5, 5, dtype=torch.float64)
    same(rows_at(model, x, y, eps), expected(model, x, y, eps, summed(model)), model)


@EVERY_LABELS
@pytest.mark.parametrize("in_guide", [True, False], ids=["guide", "model"])
def test_every_verb_that_reads_the_bound_has_it(labels: Labels, in_guide: bool) -> None:
    """``elbo`` is a number a row, and ``evaluate`` prints its mean."""
    model, x, n = moved(labels, in_guide=in_guide), points(4), 1000
    draws = ps.elbo(model, x.repeat(n, 1)).reshape(n, 4)
    with torch.no_grad():
        wanted = expected(model, x.repeat(n, 1), None, torch.randn(4 * n, 5).double(), summed(model)).reshape(n, 4)
    error = ((draws.var(0) + wanted.var(0)) / n).sqrt()
    assert ((draws.mean(0) - wanted.mean(0)).abs() < 4.5 * error).all()
    found = ps.evaluate(model, x.repeat(n, 1), num_samples=2)
    assert found["elbo"] == pytest.approx(float(wanted.mean()), abs=9 * float(wanted.mean(1).std()) / n**0.5)


@EVERY_LABELS
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"in_guide": False},
        {"scale": 4.0},
        {"shared": True, "enumerated": None},
        {"in_guide": False, "enumerated": None, "site_k": lambda self, logits, _: Moved.site_k(self, logits, None)},
    ],
)
def test_terms_sum_to_what_is_trained(labels: Labels, attributes: dict[str, Any]) -> None:
    """No label is known: then log q(y_O | x), which draws of classes estimate, is 0."""
    model, x = moved(labels, **attributes), points(5)
    found = ps.sites(model, x, seed=3)
    objective, eps, k = model.objective(), torch.randn(5, 5, dtype=torch.float64), torch.tensor([1, 0, 1, 1, 0])
    with Values(k=k[0] if model.shared else k) if attributes.get("enumerated", 0) is None else nullcontext():
        p, q = objective._draw(model.model, noisy(model, eps), x, None)
        loss = objective.differentiable_loss(model.model, noisy(model, eps), x)
    terms = objective.terms(p, q, x)
    torch.testing.assert_close(sum(terms.values()).sum(), -loss)
    assert {"y", "z_c", "z_s", "k"} <= terms.keys()
    assert found.terms.columns.tolist() == list(terms)


def noisy(model: ReVAE, eps: Tensor) -> Callable[..., None]:
    def guide(x: Tensor, y: Tensor | None = None) -> None:
        with Noise(model, eps):
            model.guide(x, y)

    return guide


# --- a site that all rows share


@EVERY_LABELS
def test_a_shared_latent_counts_once(labels: Labels) -> None:
    class Shared(ReVAE):
        def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            pyro.sample("g", dist.Normal(x.new_zeros(2), 1.5).to_event(1))
            return super().model(x, y)

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            pyro.sample("g", dist.Normal(self.at, 0.5).to_event(1))
            super().guide(x, y)

    model = toy(labels, 5, label_dim=1)
    model.__class__ = Shared
    at = model.at = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    x, eps, g = points(5), torch.randn(5, 5, dtype=torch.float64), torch.tensor([0.8, -1.6], dtype=torch.float64)
    with Values(g=g):
        found = rows_at(model, x, None, eps)
    plain = toy(labels, 5, label_dim=1)
    zero = torch.zeros(2, dtype=torch.float64)
    ratio = dist.Normal(zero, 1.5).log_prob(g).sum() - dist.Normal(at, 0.5).log_prob(g).sum()
    torch.testing.assert_close(found - rows_at(plain, x, None, eps), (ratio / 5).expand(5))
    gradient = torch.zeros(2, dtype=torch.float64)
    for _ in range(100):
        loss = model.objective().differentiable_loss(model.model, model.guide, x, None)
        gradient += torch.autograd.grad(loss, at)[0] / 100
    # ∇ KL(N(at, .5²) || N(0, 1.5²)) = at / 1.5², by draws g / 1.5² of sd .5 / 1.5²
    assert ((gradient - at.detach() / 1.5**2).abs() < 4.5 * 0.5 / 1.5**2 / 100**0.5).all()


# --- drawn sites without a gradient of their own


@EVERY_LABELS
@pytest.mark.parametrize("shared", [False, True])
def test_a_drawn_discrete_latent_has_the_score_function_s_gradient(labels: Labels, shared: bool) -> None:
    """The mean over its values, exactly, of the gradients is the gradient of the sum over them."""
    model, n = moved(labels, shared=shared, enumerated=None), 2
    x, eps = points(n), torch.randn(n, 5, dtype=torch.float64)
    log_p, log_q = log_softmaxes(model)
    mean: dict[str, Tensor] = {}
    every = itertools.product((0, 1), repeat=1 if shared else n)
    for drawn in every:
        k = torch.tensor(drawn[0] if shared else drawn)
        with Values(k=k):
            rows = rows_at(model, x, None, eps)
        probability = float(log_q[k].detach().sum().exp())
        for name, value in gradients(rows.sum(), model).items():
            mean[name] = mean.get(name, 0.0) + probability * value
    share = n if shared else 1

    def further(z: Tensor, moves: list[Tensor]) -> Tensor:
        parts = [log_q[k].exp() * (moves[k] + (log_p[k] - log_q[k]) / share) for k in (0, 1)]
        return parts[0] + parts[1]

    if not shared:
        same_gradients(mean, gradients(expected(model, x, None, eps, further).sum(), model))
        return
    total = torch.zeros((), dtype=torch.float64)  # Σ_k q(k) [Σ_rows ...]: k's part of log p - log q once
    for k in (0, 1):
        at = expected(model, x, None, eps, lambda z, moves, k=k: moves[k] + (log_p[k] - log_q[k]) / share)
        total = total + log_q[k].exp() * at.sum()
    same_gradients(mean, gradients(total, model))


# --- scales


@EVERY_LABELS
def test_scales_train_and_count_in_no_bound(labels: Labels) -> None:
    """``poutine.scale(4)`` on all of the guide and on p(z_s)."""
    model = moved(labels, scale=4.0)
    x, eps = points(5), torch.randn(5, 5, dtype=torch.float64)
    found = rows_at(model, x, None, eps)
    plain = expected(model, x, None, eps, summed(model))
    same(found, plain, model)
    n = model.z_c_dim

    def further(z: Tensor, moves: list[Tensor]) -> Tensor:
        loc, scale = encoded(model, x)
        log_q = dist.Normal(loc, scale).log_prob(z).sum(-1)
        log_q_y = model.log_q_y(model.split(z[:, :n]))
        entropy = -(log_q_y.exp() * log_q_y).sum(-1)
        entropy = entropy.sum(0) if model.multilabel else entropy
        return summed(model)(z, moves) + 3 * (dist.Normal(0.0 * z, 1.0).log_prob(z)[:, n:].sum(-1) - log_q + entropy)

    objective = model.objective()
    assert isinstance(objective, CCVAEBound)
    loss = objective.differentiable_loss(model.model, noisy(model, eps), x, None)
    wanted = -expected(model, x, None, eps, further).sum()
    torch.testing.assert_close(loss, wanted)
    same_gradients(gradients(loss, model), gradients(wanted, model))
    assert abs(float((loss + plain.sum()).detach())) > 1


# --- what cannot be done right is refused


class Parted(Moved):
    """A mixture of encoders: the guide's z_s depends on k."""

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        y = self.targets(y, x)
        q_c, q_s = self.q_z_given(x)
        with self.plate(x):
            k = self.site_k(self.q_k, "parallel")
            pyro.sample("z_s", dist.Normal(q_s.mean + k.unsqueeze(-1), 0.7).to_event(1))
            z_c = pyro.sample("z_c", q_c)
            pyro.sample("y", dist.Categorical(logits=self.log_q_y(z_c)), infer={"enumerate": "parallel"})

    def join(self, z_c: Tensor, z_s: Tensor) -> Tensor:
        return torch.cat([z_c.expand(*z_s.shape[:-1], -1), z_s], -1)


class Joined(Moved):
    """The guide's z_c depends on k."""

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        y = self.targets(y, x)
        q_c, q_s = self.q_z_given(x)
        data = self.plate(x)
        with data:
            k = self.site_k(self.q_k, "parallel")
            pyro.sample("z_s", q_s)
        with self.label_plates(data):
            pyro.sample("z_c", dist.Normal(q_c.mean + k.unsqueeze(-1), 1.0).to_event(1))
            pyro.sample("y", self.p_y())

    def join(self, z_c: Tensor, z_s: Tensor) -> Tensor:
        z_c = z_c.transpose(-3, -2).flatten(-2)
        z_c = z_c.unsqueeze(-3) if z_c.dim() > 2 else z_c  # k's dimension is left of both plates
        return torch.cat([z_c, z_s.expand(*z_c.shape[:-1], -1)], -1)


def test_what_cannot_be_done_is_said() -> None:
    x = points(4)
    refused(lambda: ps.elbo(moved_as(Joined), x), "z_c", "enumerated k")
    scaled = moved(THREE, in_guide=False)
    with poutine.scale(scale=2.0):
        refused(lambda: scaled.objective().loss(scaled.model, scaled.guide, x), "scale", "depends on k")
        assert ps.elbo(scaled, x).shape == (4,)
    shared = moved(THREE, shared=True)
    refused(lambda: ps.elbo(shared, x), "'k' is enumerated outside of the plate over rows")


def moved_as(kind: type[Moved], labels: Labels = THREE) -> Moved:
    model = moved(labels)
    model.__class__ = kind
    return model


def test_a_mixture_of_encoders_is_summed_over_and_its_interventions_are_not_trained() -> None:
    """z_s is drawn for each k: ``Σ_k q(k) [ ... ]`` at the draws of both."""
    model, x = moved_as(Parted, CLASSES), points(4)
    with torch.no_grad():
        pyro.set_rng_seed(2)
        found = model.objective().rows(model.model, model.guide, x)
        pyro.set_rng_seed(2)
        _, q = model.objective()._draw(model.model, model.guide, x, None)
        z_c, z_s = (q.nodes[name]["value"] for name in ("z_c", "z_s"))
        q_c, q_s = model.q_z_given(x)
        (log_p, log_q), log_q_y = log_softmaxes(model), model.log_q_y(z_c)
        by_class = torch.stack([model.p_z_c(torch.full((4,), v)).log_prob(z_c) for v in range(3)], -1)
        wanted = (log_q_y.exp() * (by_class + model.p_y().logits.log_softmax(-1) - log_q_y)).sum(-1)
        wanted = wanted - q_c.log_prob(z_c)
        for k in (0, 1):
            at = torch.full((4,), k)
            ratio = model.moved(torch.cat([z_c, z_s[k]], -1), at).log_prob(x) + model.p_z_s(x).log_prob(z_s[k])
            ratio = ratio - dist.Normal(q_s.mean + k, 0.7).to_event(1).log_prob(z_s[k]) + log_p[k] - log_q[k]
            wanted = wanted + log_q[k].exp() * ratio
    torch.testing.assert_close(found, wanted)
    model.train()
    objective = CCVAEBound(model, consistency=1.0)
    refused(lambda: objective.loss(model.model, model.guide, x), "'z_s'", "intervention_consistency=0")
