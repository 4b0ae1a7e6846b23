"""The pairs as plain Pyro programs: what a notebook does with them."""

from __future__ import annotations

from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.inspect import get_model_relations
from tiny import ATTRIBUTES, CASES, CLASSES, augmented, build, points, some_labels
from torch import Tensor

from pyro_ssvae import AttributeLabels, ClassLabels

B, D, FEATURES = 6, 2, 5
HERE = [case for case in CASES if CASES[case][0] != "revae"]  # the ReVAE's plates have their tests in test_revae.py
AUGMENTED = [case for case in CASES if CASES[case][0] == "augmented"]


def sites(trace: Any) -> dict[str, Any]:
    """The sampled sites but the plates."""
    return {name: trace.nodes[name] for name in [*trace.stochastic_nodes, *trace.observation_nodes] if name != "data"}


def shapes(trace: Any) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Batch and event shape by site."""
    return {name: (tuple(s["fn"].batch_shape), tuple(s["fn"].event_shape)) for name, s in sites(trace).items()}


def expected_sites(name: str, labels: ClassLabels | AttributeLabels) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables in the models' docstrings: model, guide."""
    label = labels.event_shape
    head = {"logits": ((B,), (labels.size,)), "y_unobserved": ((B,), label)}
    z, x = {"z": ((B,), (D,))}, {"x": ((B,), (FEATURES,))}
    observed = {"y_observed": ((B,), label), "y": ((B,), label)}
    if name == "vae":
        return z | x, z
    if name == "classifier":
        return head | observed, head
    if name in ("m1", "mvae"):
        guess = {"y_unobserved": ((B,), label)}
        return z | guess | observed | x, z | guess
    if name == "m1+m2":
        z_1 = {"z_1": ((B,), (D,))}
        return z_1 | z | head | observed | {"class_prior": ((B,), (0,))} | x, z_1 | z | head
    if name == "diva":
        z = {"z_c": ((B,), (1,)), "z_s": ((B,), (1,))}
    return z | head | observed | {"class_prior": ((B,), (0,))} | x, z | head


@pytest.mark.parametrize("case", HERE)
def test_documented_sites(case: str) -> None:
    name, labels, options = CASES[case]
    model, x, y = build(case), points(B), some_labels(labels, B)
    guide_trace = poutine.trace(model.guide).get_trace(x, y)
    trace = poutine.trace(poutine.replay(model.model, guide_trace)).get_trace(x, y)
    in_model, in_guide = expected_sites(name, labels)
    if options.get("missing") == "relax":
        in_model |= {"y_divergence": ((B,), (0,))}
    assert shapes(trace) == in_model
    assert shapes(guide_trace) == in_guide
    for site in [*sites(trace).values(), *sites(guide_trace).values()]:
        assert [frame.name for frame in site["cond_indep_stack"]] == ["data"], site["name"]
    if name != "vae":
        assert torch.equal(trace.nodes["y"]["value"][y >= 0].long(), y[y >= 0])
        assert (trace.nodes["y"]["value"] >= 0).all()
    trace.compute_log_prob()
    assert torch.isfinite(trace.log_prob_sum())
    assert trace.format_shapes()


def test_class_prior_is_a_site_only_where_it_has_a_weight() -> None:
    model = augmented(entropy_weight=0, balance_weight=0)
    assert "class_prior" not in poutine.trace(model.model).get_trace(points(B))


@pytest.mark.parametrize(("case", "values"), [("enumerate", 3), ("enumerate-attributes", 8), ("sparse", None)])
def test_enumerated_dimension_is_on_the_left(case: str, values: int | None) -> None:
    model, x = build(case), points(B)
    guide = poutine.enum(model.guide, first_available_dim=-2)
    drawn = poutine.trace(guide).get_trace(x).nodes["y_unobserved"]["value"]
    batch = drawn.shape[: drawn.dim() - len(CASES[case][1].event_shape)]
    assert len(batch) == 2
    assert batch[0] == values or (values is None and 1 < batch[0] <= 3)


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_is_registered_under_the_model_s_own_name(case: str) -> None:
    first, second = build(case), build(case)
    for model in (first, second):
        model.guide(points(B), some_labels(CASES[case][1], B))
    stored = {id(pyro.get_param_store()[name].unconstrained()) for name in pyro.get_param_store()}
    assert stored == {id(p) for model in (first, second) for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_predictive_from_the_guide(case: str, parallel: bool) -> None:
    name, labels, _ = CASES[case]
    model, x, y = build(case).eval(), points(B), some_labels(labels, B)
    predictive = Predictive(poutine.uncondition(model.model), guide=model.guide, num_samples=7, parallel=parallel)
    drawn = predictive(x, y)
    if name != "classifier":
        factorised = case == "revae-attributes"  # its plates are [attributes, data]
        assert drawn["x"].shape == ((7, 1, B, FEATURES) if factorised else (7, B, FEATURES))
        assert drawn["x"].std(0).min() > 0
    if name != "vae":
        found = drawn["y"].transpose(1, 2) if case == "revae-attributes" else drawn["y"]
        assert found.shape == (7, B, *labels.event_shape)
        assert (found[:, y >= 0] == y[y >= 0]).all()


@pytest.mark.parametrize("case", ["vae", "enumerate", "sparse", "enumerate-attributes"])
def test_predictive_of_the_model_alone_draws_parallel_what_it_draws_in_turn(case: str) -> None:
    """From the prior, many at once or one after another: the same distribution of x."""
    model, x = build(case).eval(), points(2)
    means = []
    for parallel in (True, False):
        drawn = Predictive(poutine.uncondition(model.model), num_samples=400, parallel=parallel)(x)["x"].flatten(0, 1)
        means.append((drawn.mean(0), drawn.std(0) / len(drawn) ** 0.5))
    (first, first_error), (second, second_error) = means
    assert ((first - second).abs() < 4 * (first_error + second_error)).all()


def test_sparse_decodes_a_drawn_class_whatever_its_probability() -> None:
    """In parallel draws from the prior a class may be drawn that sparsemax would not give."""
    model: Any = augmented(class_input="sparse").eval()
    x, classes = points(4), torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1]])
    logits, z = 9.0 * torch.eye(3)[[1, 2, 0, 2]].expand(2, 4, 3), torch.randn(2, 4, D)
    program = pyro.plate("many", 2, dim=-2)(
        pyro.condition(poutine.uncondition(model.model), {"z": z, "logits": logits, "y_unobserved": classes})
    )
    mean = poutine.trace(program).get_trace(x).nodes["x"]["fn"].base_dist.loc
    torch.testing.assert_close(mean, model.likelihood.mean(model.decoder(z, CLASSES.encode(classes))))


@pytest.mark.parametrize("case", AUGMENTED)
def test_condition(case: str) -> None:
    labels = CASES[case][1]
    model, x, z = build(case).eval(), points(B), torch.randn(B, D)
    y = some_labels(labels, B).clamp_min(0)
    value = y if labels is CLASSES else y.float()
    conditioned = pyro.condition(model.model, {"z": z, "y_unobserved": value})
    trace = poutine.trace(conditioned).get_trace(x)
    assert trace.nodes["z"]["is_observed"]
    assert torch.equal(trace.nodes["z"]["value"], z)
    assert torch.equal(trace.nodes["y"]["value"], value)
    if "enumerate" in case or case == "sparse":
        expected = model.likelihood.mean(model.decoder(z, labels.encode(y)))
        torch.testing.assert_close(trace.nodes["x"]["fn"].base_dist.loc, expected)


def test_likelihood_of_an_intervention_on_y() -> None:
    model, x = build("enumerate").eval(), points(B)
    done = pyro.do(model.model, {"y_unobserved": torch.full((B,), 2)})
    assert torch.isfinite(poutine.trace(done).get_trace(x).log_prob_sum())


@pytest.mark.parametrize("case", HERE)
def test_relations_that_render_model_draws(case: str) -> None:
    model, x, y = build(case), points(B), some_labels(CASES[case][1], B)
    relations = get_model_relations(model.model, (x, y))
    name = CASES[case][0]
    observed = {"vae": {"x"}, "classifier": {"y_observed"}}.get(name, {"x", "y_observed"})
    assert observed <= set(relations["observed"])
    assert not {"z", "z_1", "z_c", "z_s", "logits", "y_unobserved"} & set(relations["observed"])
    causes = {"classifier": set(), "m1+m2": {"z_1"}, "diva": {"z_c", "z_s"}, "m2": {"z", "y_unobserved"}}
    if name != "classifier":
        assert causes.get(name, {"z"}) <= set(relations["sample_sample"]["x"])
        assert set(relations["plate_sample"]["data"]) >= {"x", *causes.get(name, {"z"})}
    if CASES[case][0] == "augmented":
        cause = "logits" if case.startswith("probabilities") else "y_unobserved"
        assert cause in relations["sample_sample"]["x"]


@pytest.mark.parametrize("case", ["vae", "enumerate"])
def test_render_model(case: str) -> None:
    pytest.importorskip("graphviz")
    model, x = build(case), points(B)
    drawing = pyro.render_model(model.model, model_args=(x,))
    assert "data" in drawing.source


@pytest.mark.parametrize(
    ("case", "loss"),
    [
        ("vae", Trace_ELBO()),
        ("vae", TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)),
        ("enumerate", TraceEnum_ELBO(max_plate_nesting=1)),
        ("probabilities", Trace_ELBO()),
    ],
)
def test_svi_with_pyro_s_own_objectives(case: str, loss: Any) -> None:
    model, x, y = build(case), 2 + points(40), some_labels(CASES[case][1], 40)
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.03}), loss=loss)
    losses = [svi.step(x, y) for _ in range(60)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


@pytest.mark.parametrize("particles", [1, 3])
def test_vectorized_particles_of_the_vae(particles: int) -> None:
    model, x = build("vae").eval(), points(B)
    loss = Trace_ELBO(num_particles=particles, vectorize_particles=True, max_plate_nesting=1)
    assert torch.isfinite(torch.tensor(loss.loss(model.model, model.guide, x)))


def test_a_subclass_that_edits_the_generative_model_trains() -> None:
    """What a notebook does first: one line of the model changed, the guide kept."""
    base = type(build("vae"))

    class Scaled(base):  # type: ignore[misc, valid-type]
        def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            self.register()
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", pyro.distributions.StudentT(4.0, torch.zeros(D), torch.ones(D)).to_event(1))
                return pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)

    model = build("vae")
    model.__class__ = Scaled
    x, before = points(B), model.decoder.from_z.weight.clone()
    SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.01}), loss=model.objective()).step(x)
    assert not torch.equal(model.decoder.from_z.weight, before)


def test_labels_are_in_the_store_of_nobody() -> None:
    """Buffers (units, class prior, running mean) are no parameters: they are not trained."""
    model = augmented(ATTRIBUTES)
    model.guide(points(B))
    assert not [name for name in pyro.get_param_store() if "prior" in name or "mean_probs" in name or "spread" in name]
