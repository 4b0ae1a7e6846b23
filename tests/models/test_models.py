"""What every model must do: one suite over all of them, and over every option that changes a program."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pyro
import pytest
import torch
from data_makers import refused
from pyro import poutine
from pyro.infer import SVI
from tiny import (
    ATTRIBUTES,
    CASES,
    CLASSES,
    TOLD,
    WIDTH,
    augmented,
    build,
    gradients,
    loss_at,
    noisy_guide,
    points,
    randomize,
    some_labels,
    tiny_decoder,
    tiny_encoder,
)
from torch import Tensor, nn

from pyro_ssvae import VAE, AttributeLabels, AugmentedVAE, Classifier, ClassLabels, create_model
from pyro_ssvae.models import MODELS

every_case = pytest.mark.parametrize("case", CASES)
# The ReVAE's q(y | x) of classes is an average over further draws.
every_exact_case = pytest.mark.parametrize("case", [case for case in CASES if case != "revae"])


def data_for(case: str, n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Points, labels of every kind, and the noise of z."""
    return points(n).to(dtype), some_labels(CASES[case][1], n), torch.randn(n, WIDTH, dtype=dtype)


def log_probs(model: Any, x: Tensor, y: Tensor, eps: Tensor) -> dict[str, Tensor]:
    """log p of each site of the model, a row; missing labels are drawn."""
    guide = poutine.trace(noisy_guide(model, eps)).get_trace(x, y)
    trace = poutine.trace(poutine.replay(model.model, guide)).get_trace(x, y)
    trace.compute_log_prob()
    return {name: trace.nodes[name]["log_prob"] for name in trace.nodes if trace.nodes[name]["type"] == "sample"}


@every_exact_case
def test_mixed_batch_is_the_sum_of_its_parts(case: str) -> None:
    model = build(case).double().eval()
    x, y, eps = data_for(case, 12, torch.float64)
    whole = loss_at(model, x, y, eps)
    rows = [loss_at(model, x[i : i + 1], y[i : i + 1], eps[i : i + 1]) for i in range(len(x))]
    torch.testing.assert_close(whole, sum(rows, torch.zeros((), dtype=torch.float64)))
    summed = gradients(sum(rows, torch.zeros((), dtype=torch.float64)), model)
    for name, g in gradients(whole, model).items():
        torch.testing.assert_close(g, summed[name], msg=name)


@every_case
def test_no_labels_are_all_missing(case: str) -> None:
    if CASES[case][0] == "classifier":
        pytest.skip("a classifier has no unsupervised objective")
    model = build(case).double().eval()
    x, y, eps = data_for(case, 4, torch.float64)
    all_missing = loss_at(model, x, torch.full_like(y, -1), eps)
    torch.testing.assert_close(loss_at(model, x, None, eps), all_missing, rtol=1e-14, atol=0)


@every_exact_case
def test_permuted_rows_permute_every_term(case: str) -> None:
    model = build(case).double().eval()
    x, y, eps = data_for(case, 6, torch.float64)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(loss_at(model, x, y, eps), loss_at(model, x[order], y[order], eps[order]))
    everywhere = {"z_s", "y_observed", "class_prior", "y_divergence"}
    downstream = {"z_c", "x", "z_1"}  # of a missing y, which is drawn in a trace
    (downstream if CASES[case][0] in ("m2", "m1+m2") else everywhere).add("z")
    for labels, names in ((y, everywhere), (y.clamp_min(0), everywhere | downstream)):
        before, after = log_probs(model, x, labels, eps), log_probs(model, x[order], labels[order], eps[order])
        for name in names & set(before):
            torch.testing.assert_close(before[name][..., order], after[name], msg=name)


@every_case
def test_gradients_reach_every_parameter(case: str) -> None:
    model = build(case)
    x, y, eps = data_for(case, 8)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable
    reached = {name for name, g in gradients(loss_at(model, x, y, eps), model).items() if g.abs().max() > 1e-7}
    assert reached == trainable


@pytest.mark.parametrize("class_input", ["probabilities", "enumerate", "sparse"])
def test_reconstruction_of_unlabelled_rows_reaches_the_head(class_input: Any) -> None:
    model = augmented(class_input=class_input, entropy_weight=0, balance_weight=0)
    found = gradients(loss_at(model, points(6), None, torch.randn(6, 2)), model)
    assert found["head.weight"].abs().max() > 1e-4


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_of_the_parameters_is_that_of_the_results(case: str, dtype: torch.dtype) -> None:
    model = build(case).to(dtype)
    x, y, eps = data_for(case, 6)
    assert loss_at(model, x, y, eps.to(dtype)).dtype == dtype
    assert loss_at(model, x.double(), y, eps.to(dtype)).dtype == dtype
    if hasattr(model, "predict_proba"):
        assert model.predict_proba(x.numpy()).dtype == dtype
    if hasattr(model, "elbo"):
        assert model.elbo(x, y).dtype == dtype
        assert model.generate(2).dtype == dtype


@every_exact_case
def test_single_precision_agrees_with_double(case: str) -> None:
    model = build(case).eval()
    x, y, eps = data_for(case, 6)
    single = loss_at(model, x, y, eps)
    double = loss_at(model.double(), x.double(), y, eps.double())
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-4)


@every_case
def test_plain_svi_trains_every_parameter_without_a_warning(case: str) -> None:
    model = build(case)
    x, y, _ = data_for(case, 8)
    before = {name: p.clone() for name, p in model.named_parameters() if p.requires_grad}
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 1e-2}), loss=model.objective())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*not registered in the param store")  # the classifier's units
        losses = [svi.step(x, y) for _ in range(30)]
    assert sum(losses[-5:]) < sum(losses[:5])
    still = [name for name, p in model.named_parameters() if name in before and torch.equal(p, before[name])]
    assert not still


def steps(model: Any, x: Tensor, y: Tensor, n: int = 5) -> dict[str, Tensor]:
    """Train by plain SVI from a fixed seed and return the weights."""
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 1e-2}), loss=model.objective())
    for i in range(n):
        pyro.set_rng_seed(i)
        svi.step(x, y)
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@every_case
def test_two_instances_side_by_side_do_not_disturb_one_another(case: str) -> None:
    x, y, _ = data_for(case, 8)
    alone = steps(build(case), x, y)
    pyro.clear_param_store()

    first, second = build(case), randomize(build(case), seed=1)
    optimizers = [SVI(m.model, m.guide, pyro.optim.Adam({"lr": 1e-2}), loss=m.objective()) for m in (first, second)]
    start = {name: p.detach().clone() for name, p in second.named_parameters()}
    for i in range(5):
        for svi in optimizers:
            pyro.set_rng_seed(i)
            svi.step(x, y)
    for name, p in first.named_parameters():
        torch.testing.assert_close(p.detach(), alone[name], rtol=0, atol=0, msg=name)
    assert any(not torch.equal(p, start[name]) for name, p in second.named_parameters())


@every_case
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_deep_copy_trains_itself_only(case: str, when: str) -> None:
    """Whether or not Pyro knew the original before it was copied."""
    x, y, _ = data_for(case, 8)
    model = build(case)
    if when == "after":
        steps(model, x, y, n=1)
    twin = copy.deepcopy(model)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = steps(twin, x, y)
    for name, p in model.named_parameters():
        assert torch.equal(p, start[name]), name
        assert torch.equal(trained[name], start[name]) != p.requires_grad, name


# --- shapes, with the default networks


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
@pytest.mark.parametrize("shape", [(6,), (2, 16), (1, 8, 8), (1, 28, 28)], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_shapes(name: str, shape: tuple[int, ...], labels: ClassLabels | AttributeLabels) -> None:
    model = create_model(name, input_shape=shape, labels=labels, latent_dim=4)
    x, y = points(3, shape), some_labels(labels, 3)
    loss = model.objective().differentiable_loss(model.model, model.guide, x, y)
    assert loss.shape == ()
    loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if name != "vae":
        probs = model.predict_proba(x)
        assert probs.shape == (3, labels.size)
        assert model.predict(x).shape == (3, *labels.event_shape)
    if name != "classifier":
        q = model.encode(x)
        assert (q.batch_shape, q.event_shape) == ((3,), (4,))
        assert model.reconstruct(x).shape == (3, *shape)
        assert model.generate(5).shape == (5, *shape)
        assert model.elbo(x, y).shape == (3,)
        assert model.log_likelihood(x, y, num_samples=2).shape == (3,)
        assert model.reconstruction_log_prob(x).shape == (3,)
        z = torch.randn(3, 4)
        assert (model.decode(z, y) if name in TOLD else model.decode(z)).shape == (3, *shape)
        if name != "vae":
            assert model.generate(3, y).shape == (3, *shape)
            assert model.generate(2, y[2]).shape == (2, *shape)


@pytest.mark.parametrize("case", ["classifier", "classifier-attributes", "probabilities", "enumerate-attributes"])
def test_predictions_are_the_head_s(case: str) -> None:
    model: Any = build(case).train()
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
    model, x = build("probabilities"), points(2300)
    assert torch.equal(model.predict_proba(x)[[0, 999, 1000, 2299]], model.predict_proba(x[[0, 999, 1000, 2299]]))


def test_uint8_pixels_are_scaled_to_one() -> None:
    model = augmented(input_shape=(1, 2, 2)).eval()
    pixels = torch.randint(0, 256, (4, 1, 2, 2), dtype=torch.uint8)
    assert torch.equal(model.predict_proba(pixels), model.predict_proba(pixels.float() / 255))
    eps = torch.randn(4, 2)
    torch.testing.assert_close(loss_at(model, pixels, None, eps), loss_at(model, pixels.float() / 255, None, eps))


# --- generation


def test_decode_takes_labels_in_every_form() -> None:
    model: Any = augmented(ClassLabels(3, names=["cat", "dog", "owl"]))
    z = torch.randn(2, 2)
    expected = model.likelihood.mean(model.decoder(z, torch.tensor([[0.0, 1, 0]]).expand(2, 3)))
    for y in (1, "dog", [1, 1], torch.tensor([1, 1]), torch.tensor([[0.0, 1, 0], [0, 1, 0]])):
        torch.testing.assert_close(model.decode(z, y), expected, msg=str(y))
    refused(lambda: model.decode(z, "bird"), "bird", "cat, dog, owl")
    refused(lambda: model.decode(z, [0, 1, 2]), "3 rows", "2")
    refused(lambda: model.decode(z, 3), "is 3", "0 to 2")


def test_decode_fills_a_missing_label_with_the_prior() -> None:
    model: Any = augmented()
    model.prior_logits.copy_(torch.tensor([0.7, 0.2, 0.1]).log())
    z = torch.randn(2, 2)
    expected = model.likelihood.mean(model.decoder(z, torch.tensor([0.7, 0.2, 0.1])))
    torch.testing.assert_close(model.decode(z, -1), expected)


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
def test_generate_draws_missing_labels_from_the_prior_and_keeps_given_ones(
    labels: ClassLabels | AttributeLabels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = augmented(labels)
    model.prior_logits.copy_(torch.tensor([0.0, -1.0, 2.0]))
    seen: list[Tensor] = []
    monkeypatch.setattr(model.decoder.from_c, "forward", lambda c: seen.append(c) or torch.zeros(len(c), 7))
    model.generate(4000)
    prior = labels.probs(model.prior_logits)
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
    for class_input in ("probabilities", "enumerate", "sparse"):
        vae = AugmentedVAE(encoder, decoder, CLASSES, latent_dim=2, class_input=class_input)  # the line
        assert vae.input_shape == (1, 3, 4)
        assert vae.head.in_features == vae.loc.in_features == 6
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
    from pyro_ssvae.nn import likelihoods

    assert type(augmented(input_shape=(1, 2, 2)).likelihood) is likelihoods.Bernoulli
    assert type(augmented(input_shape=(5,)).likelihood) is likelihoods.Normal
    assert type(augmented(input_shape=(2, 5)).likelihood) is likelihoods.Normal
    assert type(augmented(likelihood="laplace").likelihood) is likelihoods.Laplace
    own = likelihoods.Normal((5,), scale=0.3)
    assert augmented(likelihood=own).likelihood is own
    refused(lambda: augmented(likelihood="gaussian"), "gaussian", "known: bernoulli, normal, laplace")
    refused(lambda: Classifier(tiny_encoder((5,)), CLASSES, input_shape=(5,), likelihood="norml"), "norml", "'normal'")


@pytest.mark.parametrize("scale", ["learned", 0.3])
@pytest.mark.parametrize("kind", ["Normal", "Laplace"])
def test_reconstructions_come_in_the_units_of_the_data(kind: str, scale: Any) -> None:
    from pyro_ssvae.nn import likelihoods

    model: Any = augmented(likelihood=getattr(likelihoods, kind)((5,), scale=scale))
    x = 100 + 20 * points(50)
    model.prepare(x, torch.full((50,), -1))
    loc, _, logits = model.posterior(x)
    out = model.decoder(loc, logits.softmax(-1))
    torch.testing.assert_close(
        loc, model.loc(model.encoder((x - x.mean(0)) / x.std(0, correction=0))), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(model.reconstruct(x), x.mean(0) + x.std(0, correction=0) * out, rtol=1e-4, atol=1e-3)
    scaled = model.likelihood.scale * x.std(0, correction=0)
    reference = getattr(torch.distributions, kind)(model.reconstruct(x), scaled)
    torch.testing.assert_close(model.likelihood(out).log_prob(x), reference.log_prob(x).sum(-1), rtol=1e-4, atol=1e-3)


def test_prepare_takes_the_class_prior_from_the_labels() -> None:
    y = torch.tensor([0, 0, 0, 1, 1, 2, -1, -1])
    estimated, uniform = augmented(), augmented(class_prior="uniform")
    for model in (estimated, uniform):
        model.prepare(points(8), y)
    torch.testing.assert_close(estimated.prior_logits.softmax(-1), torch.tensor([4 / 9, 3 / 9, 2 / 9]))
    torch.testing.assert_close(uniform.prior_logits.softmax(-1), torch.full((3,), 1 / 3))


# --- bad input


def test_bad_input_is_refused_in_one_line() -> None:
    shape = {"input_shape": (5,), "labels": CLASSES}
    refused(lambda: create_model("augmentd", **shape), "augmentd", "did you mean 'augmented'?")
    refused(lambda: create_model("transformer", **shape), "transformer", "known:", "classifier")
    refused(lambda: create_model("augmented", input_shape=(5,)), "labels", "ClassLabels")
    refused(lambda: create_model("augmented", input_shape=(1, 2, 3, 4), labels=CLASSES), "input_shape", "[1, 2, 3, 4]")
    refused(lambda: create_model("augmented", input_shape=(0,), labels=CLASSES), "input_shape", "[0]")
    refused(lambda: create_model("augmented", **shape, gamma=2), "options", "gamma")
    refused(lambda: augmented(class_input="guess"), "class_input", "guess", "'enumerate'")  # type: ignore[arg-type]
    refused(lambda: augmented(ATTRIBUTES, class_input="sparse"), "'sparse'", "attributes")
    many = AttributeLabels([f"a{i}" for i in range(11)])
    refused(lambda: augmented(many, class_input="enumerate"), "11 attributes", "2048 decodes", "'probabilities'")
    augmented(AttributeLabels(many.names[:10]), class_input="enumerate")


@every_case
def test_wrong_shapes_are_refused_by_model_guide_and_verbs(case: str) -> None:
    model: Any = build(case)
    for call in (model.model, model.guide, model.encode):
        refused(lambda call=call: call(torch.zeros(4, 6)), "x: shape [4, 6]", "[N, 5]")
    if CASES[case][0] == "vae":
        return
    x, y, _ = data_for(case, 4)
    refused(lambda: model.guide(x, y[:3]), "3 rows", "x has 4")
    refused(lambda: model.model(x, y.unsqueeze(-1)), "y: shape")
    if CASES[case][0] not in ("classifier", "m1"):
        y[2] = 5
        refused(lambda: model.elbo(x, y), "row 2", "5")
        refused(lambda: model.log_likelihood(x, y), "row 2", "5")
        refused(lambda: model.generate(4, y), "row 2", "5")
    if CASES[case][0] in TOLD:
        refused(lambda: model.reconstruct(x, y), "row 2", "5")


def test_classifier_takes_the_units_of_its_likelihood() -> None:
    model = Classifier(tiny_encoder((5,)), CLASSES, input_shape=(5,))
    randomize(model)
    x = 100 + 20 * points(50)
    before = model.predict_proba((x - x.mean(0)) / x.std(0, correction=0))
    model.prepare(x, torch.full((50,), -1))
    torch.testing.assert_close(model.predict_proba(x), before, rtol=1e-3, atol=1e-4)
    assert not any(p.requires_grad for p in model.likelihood.parameters())
