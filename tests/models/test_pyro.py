"""The pairs as plain Pyro programs: what a notebook does with them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.inspect import get_model_relations
from tiny import ATTRIBUTES, CASES, CLASSES, augmented, build, hears_label, points, some_labels
from torch import Tensor

from pyro_ssvae import VAE, create_model
from pyro_ssvae.infer.traces import sampled
from pyro_ssvae.labels import Labels

B, D, FEATURES = 6, 2, 5
HERE = [case for case in CASES if CASES[case][0] != "revae"]  # the ReVAE's plates have their tests in test_revae.py
CONDITIONAL = [case for case in CASES if hears_label(CASES[case][0])]
Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]


def shapes(trace: Any) -> Shapes:
    """Batch and event shape by site."""
    return {name: (tuple(s["fn"].batch_shape), tuple(s["fn"].event_shape)) for name, s in sampled(trace).items()}


def expected_sites(name: str, labels: Labels) -> tuple[Shapes, Shapes]:
    """The tables in the models' docstrings: model, guide."""

    def sites(**events: tuple[int, ...]) -> Shapes:
        return {site: ((B,), event) for site, event in events.items()}

    y, x, head = sites(y=labels.event_shape), sites(x=(FEATURES,)), sites(head=(0,))
    z = sites(z=(D,))
    match name:
        case "vae":
            return z | x, z
        case "classifier":
            return y, {}
        case "m1":
            return z | x, z | head | y
        case "mvae":
            return z | y | x, z
        case "m1+m2":
            z = sites(z=(D,), z_1=(D,))
        case "adgm":
            z = sites(z=(D,), a=(D,))
        case "diva":
            z = sites(z_c=(1,), z_s=(1,))
    return y | z | x, z | head | y


@pytest.mark.parametrize("case", HERE)
def test_documented_sites(case: str) -> None:
    name, labels, _ = CASES[case]
    model, x, y = build(case), points(B), some_labels(labels, B)
    guide_trace = poutine.trace(model.guide).get_trace(x, y)
    trace = poutine.trace(poutine.replay(model.model, guide_trace)).get_trace(x, y)
    in_model, in_guide = expected_sites(name, labels)
    assert shapes(trace) == in_model
    assert shapes(guide_trace) == in_guide
    for site in [*sampled(trace).values(), *sampled(guide_trace).values()]:
        assert [frame.name for frame in site["cond_indep_stack"]] == ["data"], site["name"]
    if "y" in in_model and "plug-in" not in CASES[case][2].values():
        value = trace.nodes["y"]["value"]
        assert torch.equal(value[y >= 0].long(), y[y >= 0])
        assert torch.equal(value == -1, (y == -1) & bool(getattr(model, "y_is_observed", False)))
    trace.compute_log_prob()
    assert torch.isfinite(trace.log_prob_sum())
    assert trace.format_shapes()


def test_a_relaxed_label_is_its_probabilities() -> None:
    """A known one is its point mass."""
    model, x, y = build("probabilities"), points(B), some_labels(CLASSES, B)
    value = poutine.trace(model.guide).get_trace(x, y).nodes["y"]["value"]
    torch.testing.assert_close(value[y < 0], model.predict_proba(x)[y < 0])
    assert torch.equal(value[y >= 0], CLASSES.encode(y)[y >= 0])


@pytest.mark.parametrize(("case", "values"), [("enumerate", 3), ("enumerate-attributes", 8), ("sparse", None)])
def test_enumerated_dimension_is_on_the_left(case: str, values: int | None) -> None:
    model, x = build(case), points(B)
    guide = poutine.enum(model.guide, first_available_dim=-2)
    drawn = poutine.trace(guide).get_trace(x).nodes["y"]["value"]
    batch = drawn.shape[: drawn.dim() - len(CASES[case][1].event_shape)]
    assert len(batch) == 2
    assert batch[0] == values or (values is None and 1 < batch[0] <= 3)


@pytest.mark.parametrize("case", ["vae", "enumerate", "sparse", "enumerate-attributes", "adgm"])
def test_predictive_of_the_model_alone_draws_parallel_what_it_draws_in_turn(case: str) -> None:
    """From the prior, many at once or one after another: the same distribution of x."""
    model, x = build(case).eval(), points(2)
    means = []
    for parallel in (True, False):
        drawn = Predictive(poutine.uncondition(model.model), num_samples=400, parallel=parallel)(x)["x"].flatten(0, 1)
        means.append((drawn.mean(0), drawn.std(0) / len(drawn) ** 0.5))
    (first, first_error), (second, second_error) = means
    assert ((first - second).abs() < 4 * (first_error + second_error)).all()


def test_predictive_draws_labels_of_a_guide_that_relaxes_them() -> None:
    """As often as their probabilities say."""
    model, x = build("probabilities").eval(), points(B)
    drawn = Predictive(model.model, guide=model.guide, num_samples=3000, parallel=True)(x)["y"]
    assert drawn.dtype == torch.int64
    found = CLASSES.encode(drawn).mean(0)
    torch.testing.assert_close(found, model.predict_proba(x), rtol=0, atol=4.5 * 0.5 / 3000**0.5)


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
@pytest.mark.parametrize("name", ["classifier", "mvae"])
def test_predictive_draws_the_missing_labels_of_a_model_that_observes_them(
    name: str, labels: Labels, parallel: bool
) -> None:
    """As often as their probabilities say, and not the first class always; known ones stay."""
    torch.manual_seed(0)
    options = {} if name == "classifier" else {"latent_dim": D}
    model = create_model(name, input_shape=(FEATURES,), labels=labels, **options).eval()
    torch.nn.init.normal_(list(model.head.parameters())[-1])  # its bias: at 0 all labels are as probable
    x, y = points(B), some_labels(labels, B)
    y[:2] = -1
    n = 3000 if parallel else 300
    guide = model.guide if name == "mvae" else None
    drawn = Predictive(model.model, guide=guide, num_samples=n, parallel=parallel)(x)["y"]
    assert drawn.shape == (n, *y.shape)
    torch.testing.assert_close(labels.encode(drawn[:, :2]).float().mean(0), model.predict_proba(x)[:2],
                               rtol=0, atol=4.5 * 0.5 / n**0.5)  # fmt: skip
    known = Predictive(model.model, guide=guide, num_samples=5, parallel=parallel)(x, y)["y"]
    assert bool(((known == y) | (y == -1)).all())
    trace = poutine.trace(model.model).get_trace(x, y)
    assert trace.nodes["y"]["is_observed"], "what is scored observes it"


@pytest.mark.parametrize("name", ["augmented", "m2", "adgm", "m1+m2", "diva"])
def test_a_conditioned_label_scores_its_prior_as_any_number(name: str) -> None:
    """A Bernoulli's values are floating numbers; log p(y) was left out of theirs."""
    model = create_model(name, input_shape=(FEATURES,), labels=ATTRIBUTES).eval()
    x, y = points(B), some_labels(ATTRIBUTES, B).clamp_min(0)
    model.label_prior.estimate(torch.cat([y, y[:1]]))
    for form in (y, y.float(), y[0].float()):
        p = poutine.trace(pyro.condition(model.model, {"y": form})).get_trace(x)
        p.compute_log_prob()
        want = model.label_prior().log_prob(form.float()).expand(B)
        torch.testing.assert_close(p.nodes["y"]["log_prob"].expand(B), want)


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
@pytest.mark.parametrize("name", ["classifier", "mvae"])
def test_a_conditioned_label_counts_as_one_that_is_handed_over(name: str, labels: Labels) -> None:
    """Of a model that observes y, whatever type of number it is."""
    model = create_model(name, input_shape=(FEATURES,), labels=labels).eval()
    x, y = points(B), some_labels(labels, B).clamp_min(0)
    latents = {} if name == "classifier" else {"z": torch.zeros(B, model.config.dim)}

    def log_p(program: Any, *args: Any) -> Tensor:
        return poutine.trace(pyro.condition(program, latents)).get_trace(*args).log_prob_sum()

    expected = log_p(model.model, x, y)
    assert expected != log_p(model.model, x)
    for form in (y, y.float(), y > 0 if labels is ATTRIBUTES else y.int()):
        torch.testing.assert_close(log_p(pyro.condition(model.model, {"y": form}), x), expected)


def test_sparse_decodes_a_drawn_class_whatever_its_probability() -> None:
    """In parallel draws from the prior a class may be drawn that sparsemax would not give."""
    model = augmented(label_inference="sparse").eval()
    x, classes, z = points(4), torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1]]), torch.randn(2, 4, D)
    program = pyro.plate("many", 2, dim=-2)(pyro.condition(poutine.uncondition(model.model), {"z": z, "y": classes}))
    mean = poutine.trace(program).get_trace(x).nodes["x"]["fn"].mean
    torch.testing.assert_close(mean, model.likelihood.mean(model.decoder(z, CLASSES.encode(classes))))


@pytest.mark.parametrize("case", CONDITIONAL)
def test_condition_and_do_are_decoded(case: str) -> None:
    """x is decoded from the latents and the label that were set, each row its own."""
    labels = CASES[case][1]
    model, x, z = build(case).eval(), points(B), torch.randn(B, D)
    y = some_labels(labels, B).clamp_min(0)
    expected = model.likelihood.mean(model.decoder(z, labels.encode(y)))
    conditioned = pyro.condition(model.model, {"z": z, "y": y})
    trace = poutine.trace(conditioned).get_trace(x)
    assert trace.nodes["z"]["is_observed"]
    assert torch.equal(trace.nodes["z"]["value"], z)
    assert torch.equal(trace.nodes["y"]["value"], y)
    torch.testing.assert_close(trace.nodes["x"]["fn"].mean, expected)
    done = poutine.trace(pyro.do(pyro.condition(model.model, {"z": z}), {"y": y})).get_trace(x)
    torch.testing.assert_close(done.nodes["x"]["fn"].mean, expected)
    assert torch.isfinite(done.log_prob_sum())


@pytest.mark.parametrize("case", ["m2", "m1+m2", "adgm", "diva", "revae", "revae-attributes"])
def test_nuts_given_labels_has_one_value_of_each_latent(case: str) -> None:
    """The shapes are those of a run of the model; y, which the latents may depend on, is not summed out."""
    torch.manual_seed(0)
    model, x, y = build(case).eval(), points(B), some_labels(CASES[case][1], B).clamp_min(0)
    known = pyro.condition(model.model, {"y": y.T if case == "revae-attributes" else y})
    chain = MCMC(NUTS(known, max_tree_depth=1), num_samples=2, warmup_steps=1, disable_progbar=True)
    chain.run(x)
    drawn = {name: site["value"].shape for name, site in sampled(poutine.trace(known).get_trace(x)).items()}
    found = chain.get_samples()
    assert set(found) == set(drawn) - {"x", "y"}
    for name, value in found.items():
        assert value.shape == (2, *drawn[name])
        assert bool(value.isfinite().all())


@pytest.mark.parametrize("case", HERE)
def test_the_graph_that_render_model_draws(case: str) -> None:
    """y → x where the decoder hears the label, y → z → x where the label is a prior on a latent."""
    name, labels, _ = CASES[case]
    model, x, y = build(case), points(B), some_labels(labels, B)
    parents = {site: set(p) - {site} for site, p in get_model_relations(model.model, (x, y))["sample_sample"].items()}
    conditional: dict[str, set[str]] = {"x": {"z", "y"}, "y": set(), "z": set()}
    expected: dict[str, dict[str, set[str]]] = {
        "vae": {"x": {"z"}, "z": set()},
        "m1": {"x": {"z"}, "z": set()},
        "classifier": {"y": set()},
        "mvae": {"x": {"z"}, "y": {"z"}, "z": set()},
        "m1+m2": {"x": {"z_1"}, "z_1": {"z", "y"}, "z": set(), "y": set()},
        "adgm": conditional | {"a": {"z", "y"}},
        "diva": {"x": {"z_c", "z_s"}, "z_c": {"y"}, "z_s": set(), "y": set()},
    }
    assert parents == expected.get(name, conditional)


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

    class Edited(VAE):
        def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            x = self.begin(x)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.StudentT(4.0, torch.zeros(D), torch.ones(D)).to_event(1))
                return pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)

    model = build("vae")
    model.__class__ = Edited
    x, before = points(B), model.decoder.from_z.weight.clone()
    SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.01}), loss=model.objective()).step(x)
    assert not torch.equal(model.decoder.from_z.weight, before)


def test_buffers_are_in_no_store() -> None:
    """Units, label prior and running mean are no parameters: they are not trained."""
    model = augmented(ATTRIBUTES)
    model.guide(points(B))
    assert not [name for name in pyro.get_param_store() if "prior" in name or "mean_probs" in name or "spread" in name]


@pytest.mark.parametrize("copied", [lambda vae: pickle.loads(pickle.dumps(vae)), copy.deepcopy])
def test_a_model_that_plain_svi_trained_can_be_pickled(copied: Any) -> None:
    """Pyro's weak references at its parameters ended in a TypeError; the training goes on after it, each its own."""
    vae, x, y = augmented(), points(6), torch.tensor([0, 1, 2, -1, -1, -1])
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.1}), loss=vae.objective())
    svi.step(x, y)
    other = copied(vae)
    assert all(torch.equal(p, q) for p, q in zip(vae.parameters(), other.parameters(), strict=True))
    before = [p.detach().clone() for p in other.parameters()]
    svi.step(x, y)
    assert all(torch.equal(p, q) for p, q in zip(other.parameters(), before, strict=True))
    assert any(not torch.equal(p, q) for p, q in zip(vae.parameters(), before, strict=True))
