from __future__ import annotations

from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import revae_toys
import torch
from data_makers import refused
from pairs import GuidedMixture, Mixture
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from tiny import ATTRIBUTES, CASES, CLASSES, WIDTH, augmented, build, noisy_guide, points, some_labels
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae.infer.batched import evaluating
from pyro_ssvae.infer.protocols import HasObjective


def objective(model: Any) -> Any:
    if isinstance(model, HasObjective):
        return model.objective()
    return TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)


def assert_sums_to_the_objective(model: Any, x: Tensor, y: Tensor | None) -> ps.Sites:
    """The terms at the random numbers of a seed sum to the objective's value at the same, in float64."""
    found = ps.sites(model, x, y, seed=3)
    with evaluating(model, 3):
        loss = objective(model).loss(model.model, model.guide, x, y)
    np.testing.assert_allclose(float(found.elbo.sum()), -loss, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.table["term"].sum(), -loss / len(x), rtol=1e-12, atol=1e-12)
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("labelled", [False, True])
def test_terms_sum_to_the_elbo(case: str, labelled: bool) -> None:
    torch.set_default_dtype(torch.float64)
    model, x = build(case).double(), points(6)
    assert_sums_to_the_objective(model, x, some_labels(model.labels, 6) if labelled else None)


@pytest.mark.parametrize("labels", [revae_toys.TWO, revae_toys.CLASSES])
@pytest.mark.parametrize("options", [{}, {"alpha": 50.0}, {"label_inference": "sample"}, {"detach": "none"}])
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
    assert found.bound == "CCVAEBound"
    assert found.table.loc["log q(y_O | x)", "kind"] == "term of the bound"
    assert found.table.loc["y", "kind"] == ("latent" if "label_inference" in options else "enumerated")


def test_further_bounds_of_the_mvae_are_terms() -> None:
    """Sites are those of ELBO(x, y); the bounds of x, of y and of random subsets have a term each, if any is known."""
    torch.set_default_dtype(torch.float64)
    model = build("mvae-attributes").double()
    model.subsets = 2
    x, y = points(8), some_labels(ATTRIBUTES, 8)
    found = assert_sums_to_the_objective(model, x, y)
    assert list(found.table.index) == ["z", "y", "x", "ELBO(x)", "ELBO(y)", "ELBO(subset 1)", "ELBO(subset 2)"]
    assert (found.table["kind"][3:] == "term of the bound").all()
    labelled = (y >= 0).any(1).numpy()
    assert (found.terms.loc[~labelled, list(found.terms)[3:]] == 0).all(axis=None)
    assert (found.terms.loc[labelled, ["ELBO(x)", "ELBO(y)"]] != 0).all(axis=None)
    np.testing.assert_allclose(found.terms["z"], found.log_p["z"] - found.log_q["z"])
    np.testing.assert_allclose(found.terms["y"], model.config.alpha * found.log_p["y"])
    np.testing.assert_allclose(found.terms["x"], found.log_p["x"])
    unlabelled = ps.sites(model, x)
    assert list(unlabelled.terms) == ["z", "y", "x"]
    assert (unlabelled.terms["y"] == 0).all()


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
    model = augmented(label_inference="enumerate", alpha=7.0, beta=3.0, entropy_weight=0, alignment_weight=0)
    model.label_prior.logits.copy_(torch.tensor([0.5, -0.5, 0.0]))
    x, y = points(6), some_labels(CLASSES, 6)
    found = ps.sites(model, x, y, num_samples=3)
    pi = model.predict_proba(x).double().numpy()
    log_p_y = model.label_prior.logits.log_softmax(-1).double().numpy()
    np.testing.assert_allclose(found.terms["head"][::2], 7 * np.log(pi[[0, 2, 4], [0, 1, 2]]), rtol=1e-5)
    assert (found.terms["head"][1::2] == 0).all()
    assert "head" not in found.log_p  # a factor of the guide is a term, and no probability
    assert "head" not in found.log_q
    np.testing.assert_allclose(found.terms["z"], 3 * (found.log_p["z"] - found.log_q["z"]), rtol=1e-5)
    entropy = -(pi * np.log(pi)).sum(-1)
    np.testing.assert_allclose(-found.log_q["y"][1::2], entropy[1::2], rtol=1e-5)
    np.testing.assert_allclose(found.log_q["y"][::2], 0, atol=1e-6)  # a known label is a point mass
    np.testing.assert_allclose(found.log_p["y"][::2], log_p_y, rtol=1e-5)
    np.testing.assert_allclose(found.log_p["y"][1::2], (pi @ log_p_y)[1::2], rtol=1e-5)
    np.testing.assert_allclose(found.terms["y"], found.log_p["y"] - found.log_q["y"], rtol=1e-5)
    assert list(found.table.loc[["y", "z", "x", "head"], "kind"]) == ["enumerated", "latent", "observed", "factor"]


@pytest.mark.parametrize("case", CASES)
def test_terms_of_a_point_are_its_own(case: str) -> None:
    """At the same noise a point's terms are those that it has alone, in any model."""
    torch.set_default_dtype(torch.float64)
    model, x, eps = build(case).double().eval(), points(6), torch.randn(6, WIDTH)
    y = some_labels(model.labels, 6)
    whole = ps.sites((model.model, noisy_guide(model, eps)), x, y)
    for i in range(6):
        row = slice(i, i + 1)
        alone = ps.sites((model.model, noisy_guide(model, eps[row])), x[row], y[row])
        for found, expected in ((alone.terms, whole.terms), (alone.log_p, whole.log_p), (alone.log_q, whole.log_q)):
            assert list(found) == list(expected)
            np.testing.assert_allclose(found.iloc[0], expected.iloc[i], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_the_kind_of_the_label_and_of_the_head(case: str) -> None:
    model, x = build(case), points(4)
    name, labels, options = CASES[case]
    relaxed = options.get("label_inference") in ("plug-in", "straight-through")
    kinds = {"classifier": "observed", "mvae": "observed", "m1": "auxiliary"}
    table = ps.sites(model, x, some_labels(labels, 4)).table
    assert ("y" in table.index) == (name != "vae")
    if name != "vae":
        assert table.loc["y", "kind"] == kinds.get(name, "relaxed" if relaxed else "enumerated")
        wide = labels is ATTRIBUTES or case == "probabilities"  # relaxed classes are probabilities
        attributes_first = name == "revae" and labels is ATTRIBUTES
        assert table.loc["y", "shape"] == ("3 × 4" if attributes_first else "4 × 3" if wide else "4")
    assert ("head" in table.index) == (name not in ("vae", "classifier", "revae", "mvae"))
    if "head" in table.index:
        assert table.loc["head", "kind"] == "factor"


class PointEstimate(nn.Module):
    """A scale of the whole data, of which the guide has a point estimate."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        scale = pyro.sample("scale", dist.LogNormal(x.new_zeros(()), 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), scale))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1), x.new_ones(2)).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.sample("scale", dist.Delta(x.new_tensor(1.5)))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.sum(-1) / 4, x.new_ones(())))


def test_a_point_estimate_of_the_guide() -> None:
    torch.set_default_dtype(torch.float64)
    model, x = PointEstimate(), torch.randn(4, 2)
    found = assert_sums_to_the_objective(model, x, None)
    assert list(found.table["kind"]) == ["deterministic", "latent", "observed"]
    np.testing.assert_allclose(found.terms["scale"], dist.LogNormal(0.0, 1.0).log_prob(torch.tensor(1.5)) / 4)
    data = ps.posterior(model, x, num_samples=4)
    assert data["constant_data"]["scale"].shape == ()
    assert float(data["constant_data"]["scale"]) == 1.5
    assert "scale" not in data["posterior"]


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
    assert [line.split()[0] for line in repr(found).splitlines()[3:]] == ["y", "z", "x", "head"]
    assert found._repr_html_().count("<tr") == 1 + 1 + len(found.table)
    assert found.terms.index.name == "point"


def test_what_cannot_be_used_is_refused() -> None:
    model = build("enumerate")
    refused(lambda: ps.sites(model, points(3), num_samples=0), "num_samples", "at least 1")
    refused(lambda: ps.sites(model, torch.zeros(3, 4)), "x: shape [3, 4]", "[N, 5]")
    refused(lambda: ps.sites(model, torch.zeros(0, 5)), "x: shape [0, 5]", "a point is needed")
    refused(lambda: ps.sites(model, points(3), torch.tensor([0, 1])), "y: 2 rows, but x has 3")
