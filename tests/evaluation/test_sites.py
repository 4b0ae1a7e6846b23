from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import revae_toys
import torch
from data_makers import refused
from pairs import GuidedMixture, Mixture
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from tiny import ATTRIBUTES, CASES, CLASSES, augmented, build, points, some_labels
from torch import Tensor

import pyro_ssvae as ps
from pyro_ssvae.evaluation.evaluate import evaluating


def objective(model: Any) -> Any:
    return model.objective() if hasattr(model, "objective") else TraceEnum_ELBO(max_plate_nesting=1)


def assert_sums_to_the_objective(model: Any, x: Tensor, y: Tensor | None, elbo: Any = None) -> ps.Sites:
    """The terms at the random numbers of a seed sum to the objective's value at the same, in float64."""
    found = ps.sites(model, x, y, seed=3)
    with evaluating(model, 3):
        loss = (elbo or objective(model)).loss(model.model, model.guide, x, y)
    np.testing.assert_allclose(float(found.elbo.sum()), -loss, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.table["term"].sum(), -loss / len(x), rtol=1e-12, atol=1e-12)
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("labelled", [False, True])
def test_terms_sum_to_the_elbo(case: str, labelled: bool) -> None:
    torch.set_default_dtype(torch.float64)
    model, x = build(case).double(), points(6)
    assert model.labels is not None
    assert_sums_to_the_objective(model, x, some_labels(model.labels, 6) if labelled else None)


@pytest.mark.parametrize("labels", [revae_toys.TWO, revae_toys.CLASSES])
@pytest.mark.parametrize("options", [{}, {"alpha": 50.0}, {"missing": "sample"}, {"detach": "none"}])
def test_terms_of_the_revae_sum_to_its_bound_row_by_row(labels: Any, options: dict[str, Any]) -> None:
    torch.set_default_dtype(torch.float64)
    classes = labels is revae_toys.CLASSES
    model = revae_toys.toy(labels, 5 if classes else 3, **options)
    x, y = revae_toys.points(5), torch.tensor([0, -1, 2, -1, 1]) if classes else revae_toys.MIXED
    for seen in (None, y):
        found = assert_sums_to_the_objective(model, x, seen)
        with evaluating(model, 3):
            rows = model.objective().rows(model.model, model.guide, x, seen)
        torch.testing.assert_close(found.elbo, rows, rtol=1e-12, atol=1e-12)
    assert found.bound == "ReVAEBound"
    assert found.table.loc["log q(y_observed | x)", "kind"] == "term of the bound"
    assert found.table.loc["y_unobserved", "kind"] == ("latent" if "missing" in options else "enumerated")


def test_further_bounds_of_the_mvae_are_terms() -> None:
    """Sites are those of ELBO(x, y); the bounds of x, of y and of random subsets have a term each, if any is known."""
    torch.set_default_dtype(torch.float64)
    model = build("mvae-attributes").double()
    model.subsets = 2  # type: ignore[assignment]
    x, y = points(8), some_labels(ATTRIBUTES, 8)
    found = assert_sums_to_the_objective(model, x, y)
    assert list(found.table.index) == [
        "z", "y_observed", "y_unobserved", "y", "x", "ELBO(x)", "ELBO(y)", "ELBO(subset 1)", "ELBO(subset 2)"
    ]  # fmt: skip
    assert (found.table["kind"][5:] == "term of the bound").all()
    labelled = (y >= 0).any(1).numpy()
    assert (found.terms.loc[~labelled, list(found.terms)[5:]] == 0).all(axis=None)
    assert (found.terms.loc[labelled, ["ELBO(x)", "ELBO(y)"]] != 0).all(axis=None)
    np.testing.assert_allclose(found.terms["z"], found.log_p["z"] - found.log_q["z"])
    np.testing.assert_allclose(found.terms["y_observed"], model.alpha * found.log_p["y_observed"])
    np.testing.assert_allclose(found.terms["x"], found.log_p["x"])
    assert list(ps.sites(model, x).terms) == ["z", "y_observed", "y_unobserved", "y", "x"]


@pytest.mark.parametrize("pair", [Mixture, GuidedMixture])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_pairs_of_one_s_own(pair: type[Mixture], scale: float) -> None:
    torch.set_default_dtype(torch.float64)
    model, x = pair(scale), torch.randn(4, 2)
    found = assert_sums_to_the_objective(model, x, None)
    table = found.table
    assert list(table.index) == ["shift", "k", "j", "z", "x", *(["k, j"] if pair is Mixture else [])]
    assert list(table["kind"][:5]) == ["latent", "enumerated", "enumerated", "latent", "observed"]
    assert list(table["shape"][:5]) == ["1", "4", "4", "4", "4 × 2"]
    assert list(table["plates"][:5]) == ["", *["rows"] * 4]
    assert found.log_p["shift"].nunique() == 1  # of no point in particular: an equal share for each


def test_rows_are_points() -> None:
    """A point's terms don't depend on what else is in the batch, given its noise: the deterministic model's."""
    torch.set_default_dtype(torch.float64)
    model, x = build("classifier").double(), points(6)
    y = some_labels(CLASSES, 6)
    whole = ps.sites(model, x, y)
    for i in range(6):
        torch.testing.assert_close(ps.sites(model, x[i : i + 1], y[i : i + 1]).elbo, whole.elbo[i : i + 1])
    assert whole.elbo[1] == 0  # its label is missing
    assert whole.elbo[0] == model.predict_proba(x)[0, 0].log()


def test_log_probabilities_are_without_scales_and_terms_with_them() -> None:
    model = augmented(class_input="enumerate", alpha=7.0, beta=3.0, entropy_weight=0, balance_weight=0)
    x, y = points(6), some_labels(CLASSES, 6)
    found = ps.sites(model, x, y, num_samples=3)
    known = found.log_p["y_observed"].to_numpy()
    np.testing.assert_allclose(found.terms["y_observed"], 7 * known, rtol=1e-5)
    np.testing.assert_allclose(known[::2], model.predict_proba(x)[[0, 2, 4], [0, 1, 2]].log(), rtol=1e-5)
    np.testing.assert_allclose(found.terms["z"], 3 * (found.log_p["z"] - found.log_q["z"]), rtol=1e-5)
    entropy = -(model.predict_proba(x) * model.predict_proba(x).log()).sum(-1)
    np.testing.assert_allclose(-found.log_q["y_unobserved"][1::2], entropy[1::2], rtol=1e-5)
    assert list(found.table.loc[["logits", "y", "x"], "kind"]) == ["deterministic", "deterministic", "observed"]


def test_the_mean_of_draws() -> None:
    """The draws of several samples are those of one after the other."""
    model, x = build("vae"), points(4)
    with evaluating(model, 0):
        losses = [Trace_ELBO().loss(model.model, model.guide, x) for _ in range(5)]
    found = ps.sites(model, x, num_samples=5)
    np.testing.assert_allclose(float(found.elbo.sum()), -np.mean(losses), rtol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    model, x = build("probabilities").train(), points(3)
    before = torch.get_rng_state()
    ps.sites(model, x)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in model.parameters())


def test_it_reads_well() -> None:
    found = ps.sites(build("enumerate-attributes"), points(3), some_labels(ATTRIBUTES, 3))
    assert "TraceEnum_ELBO, 3 points" in repr(found)
    assert "y_unobserved" in repr(found)
    assert found._repr_html_().count("<tr") == 1 + 1 + len(found.table)
    assert found.terms.index.name == "point"


def test_what_cannot_be_used_is_refused() -> None:
    model = build("enumerate")
    refused(lambda: ps.sites(model, points(3), num_samples=0), "num_samples", "at least 1")
    refused(lambda: ps.sites(model, torch.zeros(3, 4)), "x: shape [3, 4]", "[N, 5]")
    refused(lambda: ps.sites(model, torch.zeros(0, 5)), "x: shape [0, 5]", "at least 1 point")
    refused(lambda: ps.sites(model, points(3), torch.tensor([0, 1])), "y: 2 rows, but x has 3")
