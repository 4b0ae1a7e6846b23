from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import revae_toys
import torch
from data_makers import refused
from pairs import GuidedMixture
from tiny import ATTRIBUTES, CASES, CLASSES, augmented, build, points

import pyro_ssvae as ps
from pyro_ssvae.errors import kind_of
from pyro_ssvae.evaluation.uncertainty import entropy

NODES, WEIGHTS = revae_toys.grid(2, points_each=61, width=8.0)


def grid_log_p(model: ps.AugmentedVAE, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``log p(x, y)`` of one label for all, z integrated over its prior: ``[B]``."""
    c = model.labels.encode(y).expand(len(NODES), len(x), -1)
    out = model.decoder(NODES.unsqueeze(1).expand(-1, len(x), -1), c)
    log_p_x = model.likelihood(out).log_prob(x)
    log_p_y = model.labels.log_probs(model.label_prior.logits)
    prior = log_p_y[y] if y.dim() == 0 else log_p_y.gather(-1, y.unsqueeze(-1)).sum()
    return (log_p_x + WEIGHTS.log().unsqueeze(-1)).logsumexp(0) + prior


def wide(model: ps.AugmentedVAE) -> ps.AugmentedVAE:
    """The model with a guide as wide as the prior, whose importance weights have a small variance."""
    with torch.no_grad():
        for layer in (model.loc, model.log_scale):
            layer.weight.zero_()
            layer.bias.fill_(0.1)
    return model.double()


@pytest.mark.parametrize("label_inference", ["enumerate", "sparse", "plug-in"])
def test_class_posterior_against_integration_over_z(label_inference: str) -> None:
    torch.set_default_dtype(torch.float64)
    model = wide(augmented(CLASSES, label_inference=label_inference))
    model.label_prior.logits.copy_(torch.tensor([0.5, -0.5, 0.0]))
    x = points(4)
    with torch.no_grad():
        exact = torch.stack([grid_log_p(model, x, torch.tensor(k)) for k in range(3)], -1).softmax(-1)
    found = ps.class_posterior(model, x, num_samples=1000)
    torch.testing.assert_close(found, exact, atol=0.04, rtol=0)
    torch.testing.assert_close(found.sum(-1), torch.ones(4))
    assert (model.predict_proba(x) - exact).abs().max() > 0.1  # it isn't just the head


def test_draws_are_those_of_the_seed() -> None:
    """The same call gives the same numbers, another seed others; each batch has draws of its own."""
    model, x = augmented(label_inference="enumerate").double(), points(4).double()
    first, again, other = (ps.class_posterior(model, x, num_samples=5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    found = ps.doubts(model, x.repeat(2, 1), num_samples=5, batch_size=4)
    assert found.equals(ps.doubts(model, x.repeat(2, 1), num_samples=5, batch_size=4))
    assert (found["kl"][:4].to_numpy() != found["kl"][4:].to_numpy()).all()


def test_class_posterior_of_attributes_sums_the_others_out() -> None:
    torch.set_default_dtype(torch.float64)
    model, x = wide(augmented(ATTRIBUTES, label_inference="enumerate")), points(3)
    every = ATTRIBUTES.configurations()
    with torch.no_grad():
        joint = torch.stack([grid_log_p(model, x, y) for y in every], -1).softmax(-1)
    found = ps.class_posterior(model, x, num_samples=1000)  # of a standard deviation of about 0.005
    torch.testing.assert_close(found, joint @ every.double(), atol=0.02, rtol=0)


def test_models_without_a_joint_probability_are_refused() -> None:
    lacking = {"vae": "y", "classifier": "x", "classifier-attributes": "x", "m1": "y", "m1-attributes": "y"}
    for case, site in lacking.items():
        named = (f"{kind_of(build(case))} has no p(x, y)", f"no site '{site}'")
        refused(lambda case=case: ps.class_posterior(build(case), points(2)), "class_posterior", *named)
    refused(lambda: ps.class_posterior(GuidedMixture(), torch.zeros(2, 2)), "GuidedMixture", "has no labels")
    pair = build("m2").model, build("m2").guide
    refused(lambda: ps.class_posterior(pair, points(2)), "class_posterior: (model, guide) has no labels", "a module")


def test_a_point_that_no_label_makes_possible() -> None:
    """Its probabilities were NaN."""
    model, x = augmented(label_inference="enumerate"), points(3)
    model.p_x = lambda out: dist.Uniform(-100 * torch.ones_like(out), 100.0).to_event(1)  # type: ignore[method-assign]
    x[1, 0] = 200
    with pyro.validation_enabled(False):
        refused(lambda: ps.class_posterior(model, x, num_samples=2), "x: row 1 has a probability of 0")


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] not in ("vae", "classifier", "m1")])
def test_class_posterior_of_every_other_model(case: str) -> None:
    """A joint over x and y has a p(y | x), whatever infers missing labels in training."""
    model, x = build(case), points(3)
    found = ps.class_posterior(model, x, num_samples=20)
    assert found.shape == (3, 3)
    assert ((found >= 0) & (found <= 1)).all()
    if model.labels is CLASSES:
        torch.testing.assert_close(found.sum(-1), torch.ones(3, dtype=torch.double))


def test_entropy() -> None:
    assert float(entropy(torch.full((4,), 0.25), True)) == pytest.approx(math.log(4))
    assert float(entropy(torch.tensor([1.0, 0.0]), True)) == 0
    assert float(entropy(torch.tensor([0.5, 0.5, 1.0, 0.0]), False)) == pytest.approx(2 * math.log(2))


def test_doubts_are_those_of_the_model() -> None:
    torch.set_default_dtype(torch.float64)
    model, x = augmented(label_inference="enumerate").double(), points(5)
    found = ps.doubts(model, x, num_samples=100, batch_size=2)
    probs = model.predict_proba(x)
    np.testing.assert_allclose(found["label_entropy"], -(probs * probs.log()).sum(-1))
    q = model.encode(x)
    loc, scale = q.mean, q.stddev
    kl = 0.5 * (loc.square() + scale.square() - 1).sum(-1) - scale.log().sum(-1)
    # log q - log p at z = m + s e is (z² - e²) / 2 - log s, of variance (s² - 1)² / 2 + (m s)².
    deviation = (((1 - scale.square()).square() / 2 + (loc * scale).square()).sum(-1) / 100).sqrt()
    assert (torch.from_numpy(found["kl"].to_numpy(copy=True)) - kl).abs().le(5 * deviation).all()
    assert list(found.columns) == ["label_entropy", "reconstruction", "kl"]
    assert list(ps.doubts(build("vae"), points(3)).columns) == ["reconstruction", "kl"]
    assert list(ps.doubts(build("classifier"), points(3)).columns) == ["label_entropy"]
    own = ps.doubts(GuidedMixture(), torch.randn(3, 2))
    assert list(own.columns) == ["label_entropy", "reconstruction", "kl"]


def test_the_strange_point_is_found_for_the_reason_it_is_strange() -> None:
    model = augmented(label_inference="enumerate")
    x = 0.1 * torch.randn(40, 5)
    with torch.no_grad():
        for part in (model.loc, model.log_scale):
            part.weight.zero_()  # q(z | x) is the same for all: nothing but x and the label can stand out
        model.head.weight.zero_()
    x[7] = 50.0
    found = ps.least_sure(model, x, n=5)
    assert found.index[0] == 7
    assert found["why"].iloc[0] == "reconstruction"
    assert len(found) == 5
    assert list(found["score"]) == sorted(found["score"], reverse=True)
    assert found["score"].iloc[0] == pytest.approx(39**0.5, rel=0.02)  # the most that one of 40 can stand out
    parts = ps.doubts(model, x, num_samples=8)[["reconstruction", "kl"]]
    scores = ((parts - parts.mean()) / parts.std(ddof=0)).max(axis=1)
    np.testing.assert_allclose(found["score"], scores.sort_values(ascending=False).head(5), rtol=1e-6)


def test_rank_by_label() -> None:
    model, x = augmented(label_inference="enumerate"), points(30)
    found = ps.least_sure(model, x, n=30, by="label")
    probs = model.predict_proba(x)
    order = (-(probs * probs.log()).sum(-1)).argsort(descending=True)
    assert list(found.index) == order.tolist()
    assert set(found["why"]) == {"label"}
    best = probs[order].topk(2)
    np.testing.assert_allclose(found["p_first"], best.values[:, 0], rtol=1e-6)
    assert list(found["second"]) == [CLASSES.names[k] for k in best.indices[:, 1].tolist()]
    refused(lambda: ps.least_sure(model, x, by="lable"), "by: 'lable'", "'label'", "'KL of z'")
    refused(lambda: ps.least_sure(build("vae"), x, by="label"), "by: 'label'", "'reconstruction'")
    for n in (-1, 0, 1.5):
        refused(lambda n=n: ps.least_sure(model, x, n=n), f"n: {n}; a whole number of at least 1")
    refused(lambda: ps.least_sure(model, x, num_samples=0), "num_samples: 0")
    assert len(ps.least_sure(model, x, n=100)) == 30


def test_the_kl_is_of_z_and_not_of_a_label_that_a_pair_draws() -> None:
    """q(z) = N(x/2, 1/2) against N(0, 1), in the mean of the draws; y, under another q than p, has no part in it."""

    def model(x: torch.Tensor, y: torch.Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(logits=torch.tensor([2.0, 0.0])))
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(x: torch.Tensor, y: torch.Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(logits=torch.tensor([0.0, 2.0])))
            pyro.sample("z", dist.Normal(x[:, 0] / 2, math.sqrt(0.5)))

    x = torch.tensor([[-2.0], [0.0], [1.0]])
    found = ps.doubts((model, guide), x, num_samples=400)
    q, p = dist.Normal(x[:, 0] / 2, math.sqrt(0.5)), dist.Normal(torch.zeros(3), 1.0)
    exact = torch.distributions.kl_divergence(q, p)
    # a draw's log q - log p has the standard deviation √(1/8 + (x/2)²/2), 0.79 at most; KL(q(y) || p(y)) is 1.52
    np.testing.assert_allclose(found["kl"], exact, rtol=0, atol=4.5 * 0.8 / 20)


def test_a_model_that_is_sure_of_every_label_is_ranked_all_the_same() -> None:
    """Its entropy is 0 for all: the column was left out, and ``least_sure`` of a classifier ended in a traceback."""
    x = points(3)
    sure = ps.create_model("classifier", input_shape=tuple(x.shape[1:]), labels=ps.ClassLabels(1))
    assert ps.doubts(sure, x).label_entropy.tolist() == [0.0, 0.0, 0.0]
    assert ps.least_sure(sure, x, n=2, by="label").why.tolist() == ["label", "label"]


def test_a_pair_without_anything_to_be_unsure_of_is_refused() -> None:
    refused(lambda: ps.least_sure((lambda x, y=None: None, lambda x, y=None: None), points(3)), "no label", "latent")
