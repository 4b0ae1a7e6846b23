"""Limits that mean something: no supervised term, no KL, no regulariser, one class, one attribute, one dimension."""

from __future__ import annotations

from typing import Any

import pyro
import pytest
import torch
from formulas import example, same_gradients
from pair_suite import steps
from tiny import ATTRIBUTES, CASES, CLASSES, WIDTH, gradients, loss_at, make, noisy_guide, points
from torch import Tensor

import pyro_ssvae as ps
from pyro_ssvae import AttributeLabels, ClassLabels
from pyro_ssvae.labels import Labels
from pyro_ssvae.models import MODELS
from pyro_ssvae.models.config import option_names
from pyro_ssvae.models.generative import GenerativeModel

WEIGHTED = [
    (case, weight)
    for case, (name, _, _) in CASES.items()
    for weight in ("alpha", "beta", "entropy_weight", "alignment_weight")
    if weight in option_names(MODELS[name].Config)
]


def weighted(case: str, **weights: float) -> Any:
    """The model with a p(y) that no weight moves, and that is enforced."""
    name, labels, options = CASES[case]
    prior = {"label_prior": "uniform"} if "label_prior" in option_names(MODELS[name].Config) else {}
    return make(name, labels, **{**prior, **options, **weights}).double()


def loss_and_gradients(model: Any, x: Tensor, y: Tensor | None, eps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    pyro.set_rng_seed(0)
    loss = loss_at(model, x, y, eps)
    return loss.detach(), gradients(loss, model)


@pytest.mark.parametrize(("case", "weight"), WEIGHTED)
def test_at_weight_0_the_term_is_gone(case: str, weight: str) -> None:
    """The objective is affine in each weight: value and gradient at 0 lie on the line through those at 1 and 2."""
    x, y, eps = example(CASES[case][1])
    at = {w: loss_and_gradients(weighted(case, **{weight: w}).train(), x, y, eps) for w in (0, 1.0, 2.0)}
    for loss, found in at.values():
        assert bool(loss.isfinite())
        assert all(bool(g.isfinite().all()) for g in found.values())
    torch.testing.assert_close(at[0][0], 2 * at[1.0][0] - at[2.0][0], rtol=1e-9, atol=1e-9)
    line = {name: 2 * g - at[2.0][1][name] for name, g in at[1.0][1].items()}
    same_gradients(at[0][1], line, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("case", [case for case, weight in WEIGHTED if weight == "alpha" and "revae" not in case])
def test_without_a_supervised_term_known_labels_do_not_train_the_head(case: str) -> None:
    """The ReVAE's has a formula of its own: test_ccvae_bound.py."""
    model = weighted(case, alpha=0)
    x, y, eps = example(CASES[case][1])
    _, found = loss_and_gradients(model, x, y.clamp_min(0), eps)
    assert all(g.abs().max() < 1e-100 for name, g in found.items() if name.startswith("head"))
    model = weighted(case, alpha=1)
    _, found = loss_and_gradients(model, x, y.clamp_min(0), eps)
    assert all(g.abs().max() > 1e-4 for name, g in found.items() if name == "head.weight")


@pytest.mark.parametrize(("case", "weight"), [of for of in WEIGHTED if of[1] in ("alpha", "beta")])
def test_a_weight_of_0_trains_in_single_precision(case: str, weight: str) -> None:
    name, labels, options = CASES[case]
    model = make(name, labels, **{**options, weight: 0})
    x, y, _ = example(labels)
    trained = steps(model, x.float(), y, n=2)
    assert all(bool(p.isfinite().all()) for p in trained.values())


@pytest.mark.parametrize("case", [case for case, weight in WEIGHTED if weight == "beta"])
def test_bounds_keep_their_kl_at_beta_0(case: str) -> None:
    """β weighs the objective; a bound on log p(x) has the whole KL."""
    x, y, eps = example(CASES[case][1])
    models = [weighted(case, beta=beta).eval() for beta in (0, 1.0)]
    pairs = [(m.model, noisy_guide(m, eps, labels="left")) for m in models]
    for bound in (ps.elbo, ps.log_likelihood):
        for labels in (None, y):
            pyro.set_rng_seed(0)
            none, whole = (bound(pair, x, labels, num_samples=1) for pair in pairs)
            torch.testing.assert_close(none, whole, rtol=1e-12, atol=1e-12)
    assert (loss_at(models[0], x, y, eps) - loss_at(models[1], x, y, eps)).abs() > 0.1


@pytest.mark.parametrize("alpha", [0.0, 7.0])
def test_bounds_do_not_know_the_weights_of_the_head(alpha: float) -> None:
    for name in ("m2", "augmented", "diva", "adgm", "m1+m2", "mvae"):
        x, y, eps = example(CLASSES)
        found = []
        for a in (1.0, alpha):
            model = make(name, CLASSES, alpha=a).double().eval()
            found.append(ps.elbo((model.model, noisy_guide(model, eps)), x, y))
        torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("labels", [ClassLabels(1), ClassLabels(2), AttributeLabels(["hat"])], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_one_class_one_attribute_one_dimension(name: str, labels: Labels) -> None:
    least = {"diva": 2, "revae": labels.size + 1}.get(name, 1)
    model = make(name, labels, latent_dim=least)
    x = points(8)
    y = torch.tensor([0, 1, -1, -1, 1, 0, -1, 0])
    y = y.unsqueeze(-1) if labels.event_shape else y.clamp_max(labels.size - 1)
    trained = steps(model, x, y, n=2)
    assert all(bool(p.isfinite().all()) for p in trained.values())
    model.eval()
    if isinstance(model, GenerativeModel):
        assert bool(model.log_likelihood(x, num_samples=2).isfinite().all())
        assert bool(model.elbo(x, None if name == "vae" else y).isfinite().all())
        assert model.reconstruct(x).shape == model.generate(8).shape == x.shape
    if name != "vae":
        assert model.predict_proba(x).shape == (8, labels.size)
        assert model.predict(x).shape == y.shape


def test_no_regulariser_leaves_no_running_mean() -> None:
    model = make("augmented", ATTRIBUTES, entropy_weight=0, alignment_weight=0).train()
    before = model.head_terms.mean_probs.clone()
    x, y, eps = example(ATTRIBUTES)
    loss_at(model, x.float(), y, eps[:, :WIDTH].float())
    assert torch.equal(model.head_terms.mean_probs, before)
