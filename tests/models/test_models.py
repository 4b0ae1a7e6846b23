"""Every model in the suite of all pairs; the models by name; networks of one's own; what is refused."""

from __future__ import annotations

from typing import Any

import pyro
import pytest
import torch
from data_makers import refused
from formulas import NO_REGULARIZER
from pair_suite import PairSuite, steps
from tiny import (
    ATTRIBUTES,
    CASES,
    CLASSES,
    augmented,
    build,
    gradients,
    hears_label,
    loss_at,
    points,
    randomize,
    some_labels,
    tiny_decoder,
    tiny_encoder,
)
from torch import Tensor, nn

from pyro_ssvae import VAE, AttributeLabels, AugmentedVAE, Classifier, ClassLabels, create_model
from pyro_ssvae.infer.bounds import reconstruction
from pyro_ssvae.infer.protocols import Classifies, Generates, Reconstructs
from pyro_ssvae.labels import Labels
from pyro_ssvae.models import MODELS
from pyro_ssvae.nn import likelihoods


class TestModels(PairSuite):
    cases = CASES
    inexact = ("revae",)  # its q(y | x) of classes is an average over further draws
    leaves = frozenset({"a"})  # of the ADGM


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_verbs_answer_in_the_precision_of_the_parameters(case: str, dtype: torch.dtype) -> None:
    model, x = build(case).to(dtype), points(6)
    if isinstance(model, Classifies):
        assert model.predict_proba(x.numpy()).dtype == dtype
    if isinstance(model, Generates):
        assert model.generate(2).dtype == dtype
    if isinstance(model, Reconstructs):
        assert model.reconstruct(x).dtype == model.encode(x).mean.dtype == dtype


@pytest.mark.parametrize("how", ["plug-in", "enumerate", "sparse", "straight-through", "sample"])
def test_reconstruction_of_unlabelled_rows_reaches_the_head(how: Any) -> None:
    model = augmented(label_inference=how, **NO_REGULARIZER)
    found = gradients(loss_at(model, points(6), None, torch.randn(6, 8)), model)
    assert found["head.weight"].abs().max() > 1e-4


# --- shapes, with the default networks


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
@pytest.mark.parametrize("shape", [(6,), (2, 16), (1, 8, 8), (1, 28, 28)], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_shapes(name: str, shape: tuple[int, ...], labels: Labels) -> None:
    model: Any = create_model(name, input_shape=shape, labels=labels, latent_dim=4)
    x, y = points(3, shape), some_labels(labels, 3)
    loss = model.objective().differentiable_loss(model.model, model.guide, x, y)
    assert loss.shape == ()
    loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if name != "vae":
        assert model.predict_proba(x).shape == (3, labels.size)
        assert model.predict(x).shape == (3, *labels.event_shape)
    if name != "classifier":
        q = model.encode(x)
        assert (q.batch_shape, q.event_shape) == ((3,), (4,))
        assert model.reconstruct(x).shape == (3, *shape)
        assert model.generate(5).shape == (5, *shape)
        assert model.generate(0).shape == (0, *shape)
        assert model.elbo(x, y).shape == (3,)
        assert model.log_likelihood(x, y, num_samples=2).shape == (3,)
        assert reconstruction(model, x).shape == (3,)
        z = torch.randn(3, 4)
        assert (model.decode(z, y) if hears_label(name) else model.decode(z)).shape == (3, *shape)
        assert model.decode(torch.randn(2, 3, 4)).shape == (2, 3, *shape)
        if name != "vae":
            assert model.generate(3, y).shape == (3, *shape)
            assert model.generate(0, y[2]).shape == (0, *shape)
            assert model.generate(2, y[2]).shape == (2, *shape)


@pytest.mark.parametrize("case", ["classifier", "classifier-attributes", "probabilities", "enumerate-attributes"])
def test_predictions_are_the_head_s(case: str) -> None:
    model = build(case).train()
    x = points(7)
    logits = model.head(model.encoder(x))
    expected = logits.sigmoid() if case.endswith("attributes") else logits.softmax(-1)
    torch.testing.assert_close(model.predict_proba(x), expected)
    decided = (expected > 0.5).long() if case.endswith("attributes") else expected.argmax(-1)
    assert torch.equal(model.predict(x), decided)
    assert model.training, "prediction changed the mode"
    assert not model.predict_proba(x).requires_grad


def test_verbs_run_in_evaluation_mode_whatever_the_mode() -> None:
    encoder = nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.5), nn.BatchNorm1d(6))
    model = AugmentedVAE(encoder, tiny_decoder((5,), 2, 3), CLASSES, latent_dim=2).train()
    randomize(model)
    x, state = points(6), {k: v.clone() for k, v in model.state_dict().items()}
    assert torch.equal(model.predict_proba(x), model.predict_proba(x))
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))
    torch.testing.assert_close(model.predict_proba(x)[:1], model.predict_proba(x[:1]))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_many_rows_give_what_few_rows_give() -> None:
    """But for the last bit: some CPUs multiply matrices of four rows in another order."""
    model, x, some = build("probabilities"), points(2300), [0, 999, 1000, 2299]
    torch.testing.assert_close(model.predict_proba(x)[some], model.predict_proba(x[some]))


def test_uint8_pixels_are_scaled_to_one() -> None:
    model = augmented(input_shape=(1, 2, 2)).eval()
    pixels = torch.randint(0, 256, (4, 1, 2, 2), dtype=torch.uint8)
    assert torch.equal(model.predict_proba(pixels), model.predict_proba(pixels.float() / 255))
    eps = torch.randn(4, 2)
    torch.testing.assert_close(loss_at(model, pixels, None, eps), loss_at(model, pixels.float() / 255, None, eps))


# --- generation


def test_decode_takes_labels_in_every_form() -> None:
    model = augmented(ClassLabels(3, names=["cat", "dog", "owl"]))
    z = torch.randn(2, 2)
    expected = model.likelihood.mean(model.decoder(z, torch.tensor([[0.0, 1, 0]]).expand(2, 3)))
    for y in (1, "dog", [1, 1], torch.tensor([1, 1]), torch.tensor([[0.0, 1, 0], [0, 1, 0]])):
        torch.testing.assert_close(model.decode(z, y), expected, msg=str(y))
    refused(lambda: model.decode(z, "bird"), "bird", "cat, dog, owl")
    refused(lambda: model.decode(z, [0, 1, 2]), "3 rows", "2")
    refused(lambda: model.decode(z, 3), "is 3", "0 to 2")


def test_decode_takes_attributes_as_floats() -> None:
    """What pandas makes of a column with gaps: 0.0, 1.0, and -1.0 or NaN; shares are inputs as they are."""
    model, z = augmented(ATTRIBUTES), torch.randn(2, 2)
    model.label_prior.logits.copy_(torch.tensor([0.5, -1.0, 2.0]))
    y = torch.tensor([[0.0, 1.0, -1.0], [1.0, -1.0, 0.0]])
    assert torch.equal(model.decode(z, y), model.decode(z, y.long()))
    assert torch.equal(model.decode(z, y.numpy()), model.decode(z, y.long()))
    assert torch.equal(model.decode(z, y.masked_fill(y < 0, torch.nan)), model.decode(z, y.long()))
    c = torch.tensor([[0.0, 0.3, 1.0]])
    expected = model.likelihood.mean(model.decoder(z, c.expand(2, 3)))
    torch.testing.assert_close(model.decode(z, c), expected)


def test_decode_refuses_inputs_that_are_none() -> None:
    model, z = augmented(), torch.randn(2, 2)
    refused(lambda: model.decode(z, torch.rand(2, 4)), "y: shape [2, 4]", "[2, 3]")
    refused(lambda: model.decode(z, torch.rand(3, 3)), "y: shape [3, 3]", "[2, 3]")
    refused(lambda: model.decode(z, torch.tensor([[0.0, 1, 0], [2, -1, 0]])), "y: row 1 holds 2", "from 0 to 1")
    refused(lambda: model.decode(z, torch.full((2, 3), torch.nan)), "y: row 0 holds nan", "from 0 to 1")


def test_decode_fills_a_missing_label_with_the_prior() -> None:
    model = augmented()
    model.label_prior.logits.copy_(torch.tensor([0.7, 0.2, 0.1]).log())
    z = torch.randn(2, 2)
    expected = model.likelihood.mean(model.decoder(z, torch.tensor([0.7, 0.2, 0.1])))
    torch.testing.assert_close(model.decode(z, -1), expected)


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
def test_generate_draws_missing_labels_from_the_prior_and_keeps_given_ones(
    labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = augmented(labels)
    model.label_prior.logits.copy_(torch.tensor([0.0, -1.0, 2.0]))
    seen: list[Tensor] = []
    monkeypatch.setattr(model.decoder.from_c, "forward", lambda c: seen.append(c) or torch.zeros(len(c), 7))
    model.generate(4000)
    prior = labels.probs(model.label_prior.logits)
    torch.testing.assert_close(seen[-1].mean(0), prior, atol=0.04, rtol=0)
    assert set(seen[-1].unique().tolist()) == {0.0, 1.0}
    given = torch.tensor(2) if labels is CLASSES else torch.tensor([1, 0, 1])
    model.generate(3, given)
    assert torch.equal(seen[-1], labels.encode(given).expand(3, -1))
    rows = some_labels(labels, 4)
    model.generate(4, rows)
    assert torch.equal(seen[-1][rows != -1], labels.encode(rows)[rows != -1])


# --- networks of one's own


def test_an_existing_encoder_and_decoder_become_an_augmented_vae() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 12), nn.Unflatten(1, (1, 3, 4)))
    for how in ("plug-in", "enumerate", "sparse"):
        vae = AugmentedVAE(encoder, decoder, CLASSES, latent_dim=2, label_inference=how)  # the line
        assert vae.input_shape == (1, 3, 4)
        assert vae.head.in_features == vae.loc.in_features == 6
        assert vae.recipe is None
        x, y = points(6, (1, 3, 4)), some_labels(CLASSES, 6)
        pyro.clear_param_store()
        steps(vae, x, y)
        z = torch.zeros(1, 2)
        assert not torch.allclose(vae.decode(z, 0), vae.decode(z, 1)), "the decoder is not told the class"
    plain = VAE(encoder, decoder, latent_dim=2)
    assert plain.reconstruct(x).shape == x.shape


@pytest.mark.parametrize("tail", [[nn.Sigmoid()], [nn.Sigmoid(), nn.Unflatten(1, (1, 5))]], ids=["last", "reshaped"])
def test_a_decoder_that_ends_in_a_sigmoid_is_refused(tail: list[nn.Module]) -> None:
    decoder = nn.Sequential(nn.Linear(2, 5), *tail)
    refused(lambda: AugmentedVAE(tiny_encoder((5,)), decoder, CLASSES, latent_dim=2), "Sigmoid", "leave it out")
    refused(lambda: VAE(tiny_encoder((5,)), decoder, latent_dim=2), "Sigmoid", "leave it out")


def test_likelihood_by_shape_name_and_module() -> None:
    assert type(augmented(input_shape=(1, 2, 2)).likelihood) is likelihoods.Normal
    assert type(augmented(input_shape=(1, 20, 20)).likelihood) is likelihoods.ContinuousBernoulli
    assert type(augmented(input_shape=(3, 2, 2)).likelihood) is likelihoods.Bernoulli
    assert type(augmented(input_shape=(5,)).likelihood) is likelihoods.Normal
    assert type(augmented(input_shape=(2, 5)).likelihood) is likelihoods.Normal
    assert type(augmented(likelihood="laplace").likelihood) is likelihoods.Laplace
    own = likelihoods.Normal((5,), scale=0.3)
    assert augmented(likelihood=own).likelihood is own
    refused(lambda: augmented(likelihood="gaussian"), "likelihood", "gaussian", "did you mean 'normal'")
    refused(lambda: augmented(likelihood="xyz"), "likelihood", "xyz", "known: bernoulli, continuous-bernoulli")
    refused(lambda: Classifier(tiny_encoder((5,)), CLASSES, input_shape=(5,), likelihood="norml"), "norml", "'normal'")


@pytest.mark.parametrize("scale", ["learned", 0.3])
@pytest.mark.parametrize("kind", ["Normal", "Laplace"])
def test_reconstructions_come_in_the_units_of_the_data(kind: str, scale: Any) -> None:
    model: Any = augmented(likelihood=getattr(likelihoods, kind)((5,), scale=scale))
    x = 100 + 20 * points(50)
    model.prepare(x, torch.full((50,), -1))
    h = model.encoder((x - x.mean(0)) / x.std(0, correction=0))
    loc = model.encode(x).mean
    torch.testing.assert_close(loc, model.loc(h), rtol=1e-4, atol=1e-4)
    out = model.decoder(loc, model.head(h).softmax(-1))
    torch.testing.assert_close(model.reconstruct(x), x.mean(0) + x.std(0, correction=0) * out, rtol=1e-4, atol=1e-3)
    scaled = model.likelihood.scale * x.std(0, correction=0)
    reference = getattr(torch.distributions, kind)(model.reconstruct(x), scaled)
    torch.testing.assert_close(model.likelihood(out).log_prob(x), reference.log_prob(x).sum(-1), rtol=1e-4, atol=1e-3)


def test_prepare_takes_the_label_prior_from_the_labels() -> None:
    y = torch.tensor([0, 0, 0, 1, 1, 2, -1, -1])
    estimated, uniform = augmented(), augmented(label_prior="uniform")
    given = augmented(label_prior=(0.5, 0.25, 0.25))
    for model in (estimated, uniform, given):
        model.prepare(points(8), y)
    for model, p in ((estimated, [4 / 9, 3 / 9, 2 / 9]), (uniform, [1 / 3] * 3), (given, [0.5, 0.25, 0.25])):
        torch.testing.assert_close(model.label_prior.logits.softmax(-1), torch.tensor(p))


def test_classifier_takes_the_units_of_its_likelihood() -> None:
    model = Classifier(tiny_encoder((5,)), CLASSES, input_shape=(5,))
    randomize(model)
    x = 100 + 20 * points(50)
    before = model.predict_proba((x - x.mean(0)) / x.std(0, correction=0))
    model.prepare(x, torch.arange(50) % 3)
    torch.testing.assert_close(model.predict_proba(x), before, rtol=1e-3, atol=1e-4)
    assert not any(p.requires_grad for p in model.likelihood.parameters())


# --- bad input


def test_bad_input_is_refused_in_one_line() -> None:
    shape: dict[str, Any] = {"input_shape": (5,), "labels": CLASSES}
    refused(lambda: create_model("augmentd", **shape), "augmentd", "did you mean 'augmented'?")
    refused(lambda: create_model("transformer", **shape), "transformer", "known:", "classifier")
    refused(lambda: create_model("augmented", input_shape=(5,)), "labels", "ClassLabels")
    refused(lambda: create_model("augmented", input_shape=(1, 2, 3, 4), labels=CLASSES), "input_shape", "[1, 2, 3, 4]")
    refused(lambda: create_model("augmented", input_shape=(0,), labels=CLASSES), "input_shape", "[0]")
    refused(lambda: create_model("augmented", **shape, gamma=2), "gamma", "'augmented'", "no such option")
    refused(lambda: augmented(gamma=2), "options", "gamma")
    refused(lambda: augmented(label_inference="guess"), "label_inference", "guess", "straight-through")
    refused(lambda: augmented(ATTRIBUTES, label_inference="sparse"), "'sparse'", "attributes")
    many = AttributeLabels([f"a{i}" for i in range(11)])
    refused(lambda: augmented(many, label_inference="enumerate"), "11 attributes", "2048 values", "'plug-in'")
    augmented(AttributeLabels(many.names[:10]), label_inference="enumerate")


@pytest.mark.parametrize("case", CASES)
def test_wrong_shapes_are_refused_by_model_guide_and_verbs(case: str) -> None:
    model, name = build(case), CASES[case][0]
    for call in (model.model, model.guide, model.encode):
        refused(lambda call=call: call(torch.zeros(4, 6)), "x: shape [4, 6]", "[N, 5]")
    if name == "vae":
        return
    x, y = points(4), some_labels(CASES[case][1], 4)
    for program in (model.guide, model.model) if name in ("classifier", "mvae") else (model.guide,):
        if (name, program) != ("classifier", model.guide):
            refused(lambda program=program: program(x, y[:3]), "3 rows", "x has 4")
            refused(lambda program=program: program(x, y.unsqueeze(-1)), "y: shape")
    if name != "classifier":
        y[2] = 5
        refused(lambda: model.elbo(x, y), "row 2", "5")
        refused(lambda: model.log_likelihood(x, y), "row 2", "5")
        refused(lambda: model.generate(4, y), "row 2", "5")
        refused(lambda: model.reconstruct(x, y), "row 2", "5")
