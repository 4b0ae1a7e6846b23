"""The words of ``label_inference``, the same in every model that takes them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pyro
import pytest
import torch
from data_makers import refused
from formulas import NO_REGULARIZER, Counted, example, projection, same_gradients, uneven
from pair_suite import Values, loss_of, steps
from pyro import poutine
from tiny import ATTRIBUTES, CLASSES, gradients, hears_label, loss_at, make, noisy_guide, points, some_labels
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae import AttributeLabels, ClassLabels
from pyro_ssvae.distributions.sparse import SparseCategorical
from pyro_ssvae.infer.draws import enumerated
from pyro_ssvae.infer.label_inference import ExactLabels, LabelInference, values_of
from pyro_ssvae.infer.traces import sampled
from pyro_ssvae.labels import Labels
from pyro_ssvae.models import MODELS
from pyro_ssvae.models.conditional_decoder import ConditionalDecoder
from pyro_ssvae.models.label_mixin import LabelMixin

WORDS = ["enumerate", "sparse", "plug-in", "straight-through", "sample"]
NAMES = [name for name, model in MODELS.items() if issubclass(model, LabelMixin)]


def takes(name: str, how: str, labels: Labels) -> bool:
    return not (how == "sparse" and labels is ATTRIBUTES) and (name != "revae" or how in ("enumerate", "sample"))


EVERY = [
    pytest.param(name, how, labels, id=f"{name}-{how}-{'classes' if labels is CLASSES else 'attributes'}")
    for name in NAMES
    for how in WORDS
    for labels in (CLASSES, ATTRIBUTES)
    if takes(name, how, labels)
]
every_word = pytest.mark.parametrize(("name", "how", "labels"), EVERY)


def made(name: str, how: str | None, labels: Labels = CLASSES, **options: Any) -> Any:
    """A model in double precision whose prior over labels is uneven."""
    options = {"latent_dim": 4, **options} if name == "revae" else options
    model = make(name, labels, label_inference=how, **options).double().eval()
    uneven(model)
    return model


@every_word
def test_every_word_trains_the_head_and_answers_every_verb(name: str, how: str, labels: Labels) -> None:
    model, (x, y, _) = made(name, how, labels, **NO_REGULARIZER), example(labels)
    assert model.label_inference.how == model.config.label_inference == how
    for known in (y, None):
        loss = loss_of(model, model.guide, x, known)
        assert bool(loss.isfinite())
        found = gradients(loss, model)
        assert all(bool(g.isfinite().all()) for g in found.values())
        head = found["head_weight" if name == "revae" else "head.weight"]
        assert head.abs().max() > 1e-6 or (how == "sparse" and known is None), "which gives one class everything"
    for answer in (
        model.predict_proba(x), model.elbo(x, y), model.log_likelihood(x, num_samples=2), model.reconstruct(x, y),
        model.generate(12, y), model.encode(x).mean, model.encode(x).stddev,
    ):  # fmt: skip
        assert len(answer) == 12
        assert bool(answer.isfinite().all())


@every_word
def test_known_labels_are_known_whatever_the_word(name: str, how: str, labels: Labels) -> None:
    """The joint and the bound do not depend on how missing labels are inferred where none is missing."""
    model, exact = made(name, how, labels), made(name, "enumerate", labels)
    x, y, eps = example(labels)
    y = y.clamp_min(0)
    bounds = [ps.elbo((m.model, noisy_guide(m, eps, labels="left")), x, y) for m in (model, exact)]
    torch.testing.assert_close(bounds[0], bounds[1], rtol=1e-10, atol=1e-10)
    value = poutine.trace(model.guide).get_trace(x, y).nodes["y"]["value"]
    if value.is_floating_point():
        value = value.argmax(-1) if labels is CLASSES else value.long()
    assert torch.equal(value.t() if name == "revae" and labels is ATTRIBUTES else value, y)


@pytest.mark.parametrize("name", NAMES)
def test_a_bound_takes_labels_as_labels_however_the_model_is_trained(name: str) -> None:
    """Relaxed labels bound nothing: ``elbo`` and ``log_likelihood`` sum over the values of y."""
    x, _, eps = example(CLASSES)
    found = {}
    for how in ("enumerate", "plug-in", "straight-through", "sample"):
        if takes(name, how, CLASSES):
            model = made(name, how)
            pair = model.model, noisy_guide(model, eps, labels="left")
            found[how] = ps.elbo(pair, x), ps.log_likelihood(pair, x, num_samples=1)
    for how, (elbo, weighted) in found.items():
        torch.testing.assert_close(elbo, found["enumerate"][0], rtol=1e-10, atol=1e-10, msg=how)
        torch.testing.assert_close(weighted, found["enumerate"][1], rtol=1e-10, atol=1e-10, msg=how)


# --- one q(y | x)


@pytest.mark.parametrize("how", WORDS)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "revae"])
def test_predictions_are_the_q_that_the_guide_draws_from(name: str, how: str) -> None:
    """Total variation between ``predict_proba`` and the labels drawn by the guide, within the noise of 4,000."""
    model, x = made(name, how), points(6).double()
    guide = ExactLabels(enumerate_most=0)(model.guide)
    many = x.repeat(4000, 1)
    with torch.no_grad():
        y = poutine.trace(guide).get_trace(many, None).nodes["y"]["value"].reshape(4000, 6)
    share = CLASSES.encode(y).double().mean(0)
    averaged = name in ("diva", "adgm")  # over a latent, by 100 draws
    margin = 4.5 * 0.5 / 4000**0.5 + (4.5 * 0.5 / 100**0.5 if averaged else 0)
    assert (model.predict_proba(x) - share).abs().max() < margin
    if how == "sparse" and not averaged:
        assert bool((model.predict_proba(x) == 0).any())
        assert bool((share[model.predict_proba(x) == 0] == 0).all())


# --- what is decoded


@pytest.mark.parametrize("name", [name for name in NAMES if hears_label(name)])
def test_sparse_decodes_only_what_has_a_probability(name: str) -> None:
    """Known rows once, missing ones as often as sparsemax leaves a class; ``decodes`` says how often."""
    model, (x, y, eps) = made(name, "sparse"), example(CLASSES)
    with poutine.trace() as trace:
        noisy_guide(model, eps)(x, None)
    probs = trace.trace.nodes["y"]["fn"].probs
    assert bool(((probs > 0).sum(-1) < 3).any())
    needed = int(torch.where(y >= 0, 1, (probs > 0).sum(-1)).sum())
    counted = Counted(model.decoder)
    loss = loss_at(model, x, y, eps)
    assert counted.rows["body"] == needed < 3 * len(x)
    assert float(model.decodes) == pytest.approx(needed / len(x))
    assert bool(loss.isfinite())


@pytest.mark.parametrize("name", [name for name in NAMES if hears_label(name)])
def test_padded_places_leave_no_trace_in_batch_norm(name: str) -> None:
    """A decoder's running statistics are those of the decodes that count, which are as many as the sum needs."""
    model, (x, y, eps) = made(name, "sparse"), example(CLASSES)
    seen: list[int] = []
    norm = nn.BatchNorm1d(7).double()
    norm.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    model.decoder.body = nn.Sequential(norm, model.decoder.body)
    model.train()
    model.objective().differentiable_loss(model.model, noisy_guide(model, eps), x, y)
    assert seen == [round(float(model.decodes) * len(x))]


@pytest.mark.parametrize("how", ["plug-in", "straight-through", "sample"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "revae"])
def test_one_decode_a_point_where_nothing_is_summed_over(name: str, how: str) -> None:
    model, (x, y, eps) = made(name, how), example(CLASSES)
    counted = Counted(model.decoder)
    loss_at(model, x, y, eps)
    assert counted.rows["body"] == len(x)


# --- known labels among many that are enumerated

DECODERS = [name for name in NAMES if issubclass(MODELS[name], ConditionalDecoder)]


@pytest.mark.parametrize("name", DECODERS)
def test_a_known_label_is_decoded_once_with_the_same_loss_and_gradient(name: str) -> None:
    model, (x, y, eps) = made(name, "enumerate").train(), example(CLASSES)
    whole = deepcopy(model)
    model.mostly_known = True
    counted = Counted(model.decoder)
    loss, expected = loss_at(model, x, y, eps), loss_at(whole, x, y, eps)
    assert counted.rows["body"] == int(torch.where(y >= 0, 1, 3).sum()) < 3 * len(x)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    same_gradients(gradients(loss, model), gradients(expected, whole))


@pytest.mark.parametrize("name", DECODERS)
def test_known_labels_are_decoded_once_where_that_is_less_work(name: str) -> None:
    """Most rows have a class, decodes are large, and no row meets another in the decoder."""
    few, most = torch.tensor([0, -1, 1, -1]), torch.tensor([0, 2, 1, -1])
    for size, y, expected in ((5, most, "own"), (300, few, "own"), (300, most, "skip")):
        model = make(name, CLASSES, (size,), label_inference="enumerate").train()
        model.prepare(points(4, (size,)), y)
        assert model.known_places() == expected
    model.decoder.body = nn.Sequential(nn.BatchNorm1d(7), model.decoder.body)
    assert model.known_places() == "repeat"


# --- drawn labels


@pytest.mark.parametrize("name", [name for name in NAMES if name != "revae"])  # its own: test_ccvae_bound.py
def test_drawn_labels_have_the_objective_and_gradient_of_the_sum(name: str) -> None:
    """Averaged over every value of y with its probability, at given noise of z."""
    drawn, summed = made(name, "sample", **NO_REGULARIZER), made(name, "enumerate", **NO_REGULARIZER)
    x, _, eps = example(CLASSES, 1)
    with poutine.trace() as trace, torch.no_grad():
        noisy_guide(drawn, eps)(x, None)
    probs = trace.trace.nodes["y"]["fn"].probs[0]
    total = torch.zeros((), dtype=torch.float64)
    found = {n: torch.zeros_like(p) for n, p in drawn.named_parameters()}
    for k in range(3):

        def guide(x: Tensor, y: Tensor | None = None, k: int = k) -> None:
            with Values(y=torch.tensor([k])):
                noisy_guide(drawn, eps)(x, y)

        loss = loss_of(drawn, guide, x, None)
        total = total + probs[k] * loss.detach()
        for n, g in gradients(loss, drawn).items():
            found[n] += probs[k] * g
    expected = loss_at(summed, x, None, eps)
    torch.testing.assert_close(total, expected.detach(), rtol=1e-10, atol=0)
    same_gradients(found, gradients(expected, summed), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("labels", "known"),
    [(CLASSES, "own"), (CLASSES, "repeat"), (CLASSES, "skip"), (ATTRIBUTES, "own"), (ATTRIBUTES, "repeat")],
)
def test_a_site_that_would_be_enumerated_is_drawn_from_the_same_q(labels: Labels, known: Any) -> None:
    """Whatever an enumeration has at known labels: a draw has them, the others are of q, and each scores log q."""
    logits = torch.tensor([[0.4, -0.9, 1.3], [-0.2, 0.7, 0.1]]).double().repeat(4000, 1)
    y = some_labels(labels, 2)
    y[0] = -1
    y = y.repeat(4000, *[1] * (y.dim() - 1))
    infer, exact = LabelInference(labels, "enumerate"), labels.clamped(logits, y)

    def guide() -> None:
        with pyro.plate("data", len(y)):
            infer("y", logits, y, known=known)

    site = poutine.trace(ExactLabels(enumerate_most=0)(guide)).get_trace().nodes["y"]
    drawn = site["value"]
    assert torch.equal(drawn[y != -1], y[y != -1])
    share = labels.encode(drawn).double().reshape(4000, 2, -1).mean(0)
    q = labels.impute(labels.probs(logits), y)[:2]
    torch.testing.assert_close(share, q, rtol=0, atol=4.5 * 0.5 / 4000**0.5)
    torch.testing.assert_close(site["fn"].log_prob(drawn), exact.log_prob(drawn))


# --- many values


@pytest.mark.parametrize("k", [16, 17, 26])
@pytest.mark.parametrize("name", ["m2", "m1+m2", "adgm", "diva"])
def test_many_classes_train_without_being_asked(name: str, k: int) -> None:
    model = make(name, ClassLabels(k))
    assert model.label_inference.how == "enumerate"
    x, y = points(2 * k), torch.arange(2 * k) % k
    y[k:] = -1
    trained = steps(model, x, y, n=2)
    assert all(bool(p.isfinite().all()) for p in trained.values())


@pytest.mark.parametrize("name", ["augmented", "m2", "m1+m2", "adgm", "diva"])
def test_labels_of_many_values_are_drawn_in_bounds(name: str) -> None:
    """Where each value is a decode, a bound sums over 64 at most; where one decode serves all, over 1,024."""
    few, many = ClassLabels(64), ClassLabels(65)
    for labels in (few, many):
        model = make(name, labels, label_inference="enumerate").eval()
        ((_, q),) = enumerated(model, points(2), None)
        dim = sampled(q)["y"]["infer"].get("_enumerate_dim")
        assert (dim is None) == (labels is many and name != "diva"), name
        assert bool(model.log_likelihood(points(3), num_samples=3).isfinite().all())


@pytest.mark.parametrize(("name", "most"), [("m2", 4), ("m1+m2", 4), ("adgm", 4), ("diva", 10)])
def test_attributes_are_enumerated_up_to_so_many_without_being_asked(name: str, most: int) -> None:
    """16 values, and 1,024 where one decode serves all; one attribute more is straight-through."""
    for number, how in ((most, "enumerate"), (most + 1, "straight-through")):
        labels = AttributeLabels([f"a{i}" for i in range(number)])
        model: Any = ps.create_model(name, input_shape=(5,), labels=labels, latent_dim=24)
        assert model.label_inference.how == how


def test_how_many_values_a_label_has() -> None:
    logits = torch.zeros(4, 3)
    assert values_of(CLASSES.clamped(logits, torch.tensor([0, -1, 2, 1]))) == 3
    assert values_of(CLASSES.clamped(logits, torch.tensor([0, 1, 2, 1]))) == 1
    assert values_of(ATTRIBUTES.clamped(logits, some_labels(ATTRIBUTES, 4))) == 8
    assert values_of(ATTRIBUTES.clamped(logits, torch.ones(4, 3, dtype=torch.long))) == 1
    assert values_of(SparseCategorical(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))) == 2


def test_words_that_cannot_be_are_refused() -> None:
    refused(lambda: LabelInference(CLASSES, "guess"), "label_inference", "'guess'")
    refused(lambda: LabelInference(ATTRIBUTES, "sparse"), "'sparse'", "attributes")
    many = AttributeLabels([f"a{i}" for i in range(11)])
    refused(lambda: LabelInference(many, "enumerate"), "11 attributes", "2048")
    for how in ("plug-in", "straight-through", "sample"):
        assert LabelInference(many, how).how == how


@pytest.mark.parametrize("name", NAMES)
def test_sparsemax_is_the_projection_in_every_model(name: str) -> None:
    if name == "revae":
        refused(lambda: made(name, "sparse"), "label_inference", "'sparse'")
        return
    model, (x, _, eps) = made(name, "sparse"), example(CLASSES)
    with poutine.trace() as trace, torch.no_grad():
        noisy_guide(model, eps)(x, None)
    fn = trace.trace.nodes["y"]["fn"]
    assert isinstance(fn, SparseCategorical)
    if name in ("m2", "augmented"):
        expected = torch.stack([projection(row) for row in model.head(model.encoder(x)).detach()])
        torch.testing.assert_close(fn.probs, expected)


def test_relaxed_labels_get_no_gradient_before_the_warm_up() -> None:
    """Unless an exact sum has it from the start, as AugVAE's."""
    for name, how in (("m2", "plug-in"), ("augmented", "plug-in"), ("diva", "straight-through"), ("adgm", "plug-in")):
        model, (x, _, eps) = made(name, how, **NO_REGULARIZER), example(CLASSES)
        model.set_progress(0.0)
        assert gradients(loss_at(model, x, None, eps), model)["head.weight"].abs().max() == 0
        model.set_progress(1.0)
        assert gradients(loss_at(model, x, None, eps), model)["head.weight"].abs().max() > 1e-4
    pyro.clear_param_store()
