"""AugVAE's objective, gradients and bounds against formulas written here anew, in plain PyTorch and float64."""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI
from tiny import (
    ATTRIBUTES,
    CASES,
    CLASSES,
    augmented,
    build,
    gradients,
    loss_at,
    points,
    randomize,
    some_labels,
    tiny_decoder,
    tiny_encoder,
)
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_ssvae import VAE, AttributeLabels, AugmentedVAE, ClassLabels
from pyro_ssvae.nn.likelihoods import Bernoulli
from pyro_ssvae.train.fit import Step

LOG_2PI = math.log(2 * math.pi)
WEIGHTS: dict[str, Any] = {"alpha": 3.0, "beta": 0.7, "entropy_weight": 2.0, "balance_weight": 1.5}


def normal(x: Tensor, loc: Any, scale: Tensor) -> Tensor:
    return (-0.5 * ((x - loc) / scale) ** 2 - scale.log() - 0.5 * LOG_2PI).sum(-1)


def log_p_x(model: Any, x: Tensor, z: Tensor, c: Tensor) -> Tensor:
    """log p(x | z, c) of a Normal likelihood in the data's units."""
    like = model.likelihood
    out = model.decoder(z, c) if z.dim() > 1 else model.decoder(z.unsqueeze(0), c.unsqueeze(0))[0]
    return normal(x, like.shift + like.spread * out, (like.spread * F.softplus(like.raw_scale)).expand_as(out))


def projection(logits: Tensor) -> Tensor:
    """sparsemax of one row: the support found by trying all sizes."""
    for size in range(len(logits), 0, -1):
        top = logits.topk(size)
        p = top.values - (top.values.sum() - 1) / size
        if (p > 0).all():
            return torch.zeros_like(logits).index_put((top.indices,), p)
    raise AssertionError


def prepared(labels: ClassLabels | AttributeLabels = CLASSES, **options: Any) -> AugmentedVAE:
    """A model with units, a class prior and a running mean that are not the trivial ones."""
    model = augmented(labels, **options).double().eval()
    generator = torch.Generator().manual_seed(1)
    prior, mean = torch.randn(2, labels.size, generator=generator).double()
    model.prior_logits.copy_(prior)
    model.mean_probs.copy_(labels.log_probs(mean).exp())
    if hasattr(model.likelihood, "shift"):
        model.likelihood.shift.copy_(torch.tensor([1.0, -2, 0, 3, 0]))
        model.likelihood.spread.copy_(torch.tensor([1.0, 0.5, 2, 1, 0.1]))
    return model


def example(labels: ClassLabels | AttributeLabels, n: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    return points(n).double(), some_labels(labels, n), torch.randn(n, 2, dtype=torch.float64)


def choices(model: Any, logits: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(c, log q(y | x), log p(y)) of every value that one row's label can have; q has the zeros of sparsemax."""
    if isinstance(model.labels, ClassLabels):
        pi = projection(logits) if model.class_input == "sparse" else logits.softmax(-1)
        prior = model.prior_logits.log_softmax(-1)
        zero = pi.new_zeros(())
        eye = torch.eye(len(pi), dtype=pi.dtype)
        if y >= 0:
            return [(eye[y], zero, zero)]
        return [(eye[k], pi[k].log(), prior[k]) for k in range(len(pi)) if pi[k] > 0]
    found = []
    for values in itertools.product([0, 1], repeat=len(y)):
        if all(int(known) in (-1, v) for known, v in zip(y, values)):
            sign = 2 * torch.tensor(values, dtype=logits.dtype) - 1
            missing = (y == -1).to(logits)
            log_q = (F.logsigmoid(sign * logits) * missing).sum()
            log_p = (F.logsigmoid(sign * model.prior_logits) * missing).sum()
            found.append((torch.tensor(values, dtype=logits.dtype), log_q, log_p))
    return found


def prior_on_pi(model: Any, logits: Tensor, y: Tensor) -> Tensor:
    """w_H Σ π log π - w_m Σ π log(m / p), of one row's missing labels."""
    if isinstance(model.labels, ClassLabels):
        terms = [(logits.softmax(-1), model.mean_probs, model.prior_logits.softmax(-1))] if y < 0 else []
    else:
        both = torch.stack([1 - logits.sigmoid(), logits.sigmoid()], -1)
        prior = torch.stack([1 - model.prior_logits.sigmoid(), model.prior_logits.sigmoid()], -1)
        terms = [(both[a], model.mean_probs[a], prior[a]) for a in range(len(y)) if y[a] < 0]
    warm = float(model.warmth) * model.entropy_weight
    value = logits.new_zeros(())
    for pi, m, p in terms:
        value = value + warm * (pi * pi.log()).sum() - model.balance_weight * (pi * (m / p).log()).sum()
    return value


def brute_force(model: Any, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
    """METHODS, section 1, a row and a label value at a time."""
    total = x.new_zeros(())
    for row, label, e in zip(x, y, eps):
        h = model.encoder(((row - model.likelihood.shift) / model.likelihood.spread).unsqueeze(0))[0]
        loc, scale, logits = model.loc(h), model.log_scale(h).exp(), model.head(h)
        z = loc + scale * e
        if model.class_input == "probabilities":
            pi = logits.softmax(-1) if isinstance(model.labels, ClassLabels) else logits.sigmoid()
            pi = model.warmth * pi + (1 - model.warmth) * pi.detach()
            one_hot = F.one_hot(label.clamp_min(0), len(pi)) if isinstance(model.labels, ClassLabels) else label
            total = total + log_p_x(model, row, z, torch.where(label < 0, pi, one_hot.double()))
        else:
            for c, log_q, log_p in choices(model, logits, label):
                total = total + log_q.exp() * (log_p_x(model, row, z, c) + log_p - log_q)
        total = total + model.beta * (normal(z, 0.0, torch.ones_like(z)) - normal(z, loc, scale))
        if isinstance(model.labels, ClassLabels):
            known = logits.log_softmax(-1)[label] if label >= 0 else 0.0
        else:
            known = (F.logsigmoid((2 * label - 1) * logits) * (label >= 0)).sum()
        total = total + model.alpha * known + prior_on_pi(model, logits, label)
    return -total


@pytest.mark.parametrize("progress", [1.0, 0.28])
@pytest.mark.parametrize(
    ("labels", "class_input"),
    [
        (CLASSES, "probabilities"),
        (CLASSES, "enumerate"),
        (CLASSES, "sparse"),
        (ATTRIBUTES, "probabilities"),
        (ATTRIBUTES, "enumerate"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_objective_and_gradient_are_the_formula(
    labels: ClassLabels | AttributeLabels, class_input: Any, progress: float
) -> None:
    model = prepared(labels, class_input=class_input, **WEIGHTS)
    model.anneal(progress)
    x, y, eps = example(labels)
    if class_input == "sparse":
        _, _, logits = model.posterior(x)
        pi = torch.stack([projection(row) for row in logits])
        assert {1, 2} <= {int((row > 0).sum()) for row in pi[y < 0]}, "the example leaves sparsity untried"
        assert (pi[torch.arange(len(y)), y] == 0)[y >= 0].any(), "no known class that sparsemax gives nothing"
    loss, expected = loss_at(model, x, y, eps), brute_force(model, x, y, eps)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    found = gradients(expected, model)
    for name, g in gradients(loss, model).items():
        assert found[name].abs().max() > 1e-6, name
        torch.testing.assert_close(g, found[name], rtol=1e-9, atol=1e-11, msg=name)


def test_without_labels_and_weights_the_objective_is_a_vae_s() -> None:
    """`probabilities` with a decoder that ignores the class is the ordinary VAE."""
    model = prepared(entropy_weight=0, balance_weight=0)
    assert model.decoder.from_c is not None
    with torch.no_grad():
        model.decoder.from_c.weight.zero_()
    plain = VAE(model.encoder, tiny_decoder((5,), 2, 0).double(), latent_dim=2, likelihood=model.likelihood).eval()
    plain.loc, plain.log_scale, plain.decoder = model.loc, model.log_scale, model.decoder
    x, _, eps = example(CLASSES)
    torch.testing.assert_close(loss_at(model, x, None, eps), loss_at(plain, x, None, eps))


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
def test_with_all_labels_known_the_class_inputs_agree(labels: ClassLabels | AttributeLabels) -> None:
    x, y, eps = example(labels)
    y = y.clamp_min(0)
    first = prepared(labels, class_input="probabilities", **WEIGHTS)
    loss = loss_at(first, x, y, eps)
    expected = gradients(loss, first)
    for class_input in ("enumerate", "sparse") if labels is CLASSES else ("enumerate",):
        other = prepared(labels, class_input=class_input, **WEIGHTS)
        other_loss = loss_at(other, x, y, eps)
        torch.testing.assert_close(other_loss, loss, rtol=1e-12, atol=0)
        found = gradients(other_loss, other)
        for name, g in expected.items():
            torch.testing.assert_close(found[name], g, rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_plain_svi_takes_the_gradient_of_the_training_step(case: str) -> None:
    plain = build(case).double()
    twin = copy.deepcopy(plain)
    x, y, _ = example(CASES[case][1])
    start = {name: p.detach().clone() for name, p in plain.named_parameters() if p.requires_grad}
    pyro.set_rng_seed(3)
    loss = SVI(plain.model, plain.guide, pyro.optim.SGD({"lr": 1.0}), loss=plain.objective()).step(x, y)
    pyro.set_rng_seed(3)
    step = Step(twin)(x, y)
    step.backward()
    assert loss == pytest.approx(step.item(), rel=1e-12)
    for name, p in twin.named_parameters():
        if p.requires_grad:
            assert p.grad is not None
            torch.testing.assert_close(start[name] - plain.get_parameter(name), p.grad, rtol=1e-9, atol=1e-9, msg=name)


# --- bounds against numeric integration over the latent


def grid(dim: int) -> tuple[Tensor, float]:
    """Points ``[G, dim]`` and the log of their cell's volume."""
    axis = torch.linspace(-9, 9, 2401 if dim == 1 else 241, dtype=torch.float64)
    step = float(axis[1] - axis[0])
    return torch.cartesian_prod(*[axis] * dim).reshape(-1, dim), dim * math.log(step)


def gentle(model: Any) -> Any:
    """A decoder so smooth and a q so wide that importance weights have a small variance."""
    with torch.no_grad():
        model.log_scale.weight.mul_(0.2)
        model.log_scale.bias.zero_()
        model.loc.weight.mul_(0.4)
        model.decoder.body.weight.mul_(0.7)
        if hasattr(model.likelihood, "raw_scale"):
            model.likelihood.raw_scale.fill_(0.5)
    return model.double()


def standard_error(draws: Tensor) -> Tensor:
    return draws.std(0) / math.sqrt(len(draws))


def assert_bounds(model: Any, x: Tensor, y: Tensor | None, log_p: Tensor, elbo: Tensor) -> None:
    """The ELBO's mean is ``elbo``, and ELBO ≤ bound(10) ≤ bound(1000) ≤ ``log_p``, the last nearly tight."""
    n = len(x)

    def draws(verb: Callable[..., Tensor], copies: int = 300, **options: int) -> Tensor:
        repeated = None if y is None else y.repeat(copies, *[1] * (y.dim() - 1))
        return verb(x.repeat(copies, 1), repeated, **options).reshape(copies, n)

    bounds = [draws(model.elbo), draws(model.log_likelihood, num_samples=10)]
    bounds.append(draws(model.log_likelihood, copies=80, num_samples=1000))  # 240 rows are one batch
    means, errors = [b.mean(0) for b in bounds], [standard_error(b) for b in bounds]
    assert ((means[0] - elbo).abs() < 4.5 * errors[0]).all()
    assert (means[0] + 4 * errors[0] < means[1]).any(), "the example is too easy: the ELBO is tight"
    assert (means[1] - means[2] < 4 * (errors[1] + errors[2])).all()
    assert (means[2] - log_p < 4 * errors[2]).all()
    assert (log_p - means[2] < 0.02 + 4 * errors[2]).all(), "a thousand draws should come close"


@pytest.mark.parametrize("dim", [1, 2])
def test_bounds_of_a_vae(dim: int) -> None:
    model = randomize(VAE(tiny_encoder((3,)), tiny_decoder((3,), dim, 0), latent_dim=dim))
    x = points(3, (3,)).double()
    gentle(model)
    z, log_cell = grid(dim)
    with torch.no_grad():
        log_joint = log_p_x(model, x.unsqueeze(1), z, None) + normal(z, 0.0, torch.ones_like(z))  # type: ignore[arg-type]
        h = model.encoder(x)
        log_q = normal(z, model.loc(h).unsqueeze(1), model.log_scale(h).exp().unsqueeze(1).expand(3, len(z), dim))
        log_p = log_joint.logsumexp(1) + log_cell
        elbo = (log_q.exp() * (log_joint - log_q)).sum(1) * math.exp(log_cell)
    assert_bounds(model, x, None, log_p, elbo)


@pytest.mark.parametrize("known", [False, True], ids=["missing", "known"])
@pytest.mark.parametrize(
    ("labels", "dim"), [(CLASSES, 1), (CLASSES, 2), (ATTRIBUTES, 1)], ids=["classes-1", "classes-2", "attributes-1"]
)
def test_bounds_of_an_augmented_vae(labels: ClassLabels | AttributeLabels, dim: int, known: bool) -> None:
    """log p(x), and log p(x, y) for known labels; of attributes some entries are known."""
    model = gentle(augmented(labels, (3,), dim, class_input="enumerate"))
    model.prior_logits.copy_(torch.tensor([0.5, -0.5, 0.2]))
    x = points(3, (3,)).double()
    y = torch.tensor([2, 0, 1]) if labels is CLASSES else torch.tensor([[1, -1, 0], [-1, -1, 1], [0, 0, 0]])
    y = y if known else torch.full_like(y, -1)
    z, log_cell = grid(dim)
    log_p, elbo = [], []
    with torch.no_grad():
        for row, label in zip(x, y):
            h = model.encoder(row.unsqueeze(0))[0]
            log_q_z = normal(z, model.loc(h), model.log_scale(h).exp().expand_as(z))
            log_p_z = normal(z, 0.0, torch.ones_like(z))
            joint, expected = [], torch.zeros(len(z), dtype=torch.float64)
            for c, log_q_y, _ in choices(model, model.head(h), label):
                if labels is CLASSES:
                    log_p_y = (model.prior_logits.log_softmax(-1) * c).sum()
                else:
                    log_p_y = F.logsigmoid((2 * c - 1) * model.prior_logits).sum()
                joint.append(log_p_x(model, row, z, c.expand(len(z), -1)) + log_p_y + log_p_z)
                expected += log_q_y.exp() * (joint[-1] - log_q_y)
            log_p.append(torch.stack(joint).logsumexp((0, 1)) + log_cell)
            elbo.append((log_q_z.exp() * (expected - log_q_z)).sum() * math.exp(log_cell))
    assert_bounds(model, x, y if known else None, torch.stack(log_p), torch.stack(elbo))


def binary_images() -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64).reshape(8, 1, 1, 3)


@pytest.mark.parametrize("name", ["vae", "augmented"])
def test_bound_of_binarized_images_is_of_one_image_s_density(name: str) -> None:
    """E_b[log p(b)] over black-and-white images b ~ Bernoulli(x), not log E_b[p(b)]."""
    shape = (1, 1, 3)
    likelihood = Bernoulli(shape, binarize=True)
    if name == "vae":
        model: Any = VAE(tiny_encoder(shape), tiny_decoder(shape, 1, 0), latent_dim=1, likelihood=likelihood)
        gentle(randomize(model))
    else:
        model = gentle(augmented(CLASSES, shape, 1, likelihood=likelihood))
    x = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64).reshape(1, 1, 1, 3)
    z, log_cell = grid(1)
    classes = [None] if name == "vae" else list(torch.eye(3, dtype=torch.float64))
    b = binary_images()
    with torch.no_grad():
        per_class = []
        for c in classes:
            logits = 3 * model.decoder(z, c)  # sharper pixels, so that images differ in probability
            log_b = -F.binary_cross_entropy_with_logits(
                logits.expand(8, *logits.shape), b.unsqueeze(1).expand(8, *logits.shape), reduction="none"
            ).sum((-3, -2, -1))
            per_class.append(
                (log_b + normal(z, 0.0, torch.ones_like(z))).logsumexp(1) + log_cell - math.log(len(classes))
            )
        log_p_b = torch.stack(per_class).logsumexp(0)
        weight = (b * x + (1 - b) * (1 - x)).flatten(1).prod(1)
        exact = (weight * log_p_b).sum()
        assert (weight * log_p_b.exp()).sum().log() > exact + 0.15, "the two do not differ here"
    forward = model.decoder.forward
    model.decoder.forward = lambda z, c=None: 3 * forward(z, c)
    found = model.log_likelihood(x.repeat(2000, 1, 1, 1), num_samples=200)
    assert abs(found.mean() - exact) < 0.02 + 4 * found.std() / math.sqrt(2000)


def test_binarized_objective_has_the_relaxed_one_as_its_expectation() -> None:
    shape = (1, 2, 2)
    relaxed = augmented(CLASSES, shape, class_input="enumerate").double().eval()
    binarized = copy.deepcopy(relaxed)
    binarized.likelihood = Bernoulli(shape, binarize=True)
    x, y, eps = points(4, shape).double(), some_labels(CLASSES, 4), torch.randn(4, 2, dtype=torch.float64)
    draws = torch.stack([loss_at(binarized, x, y, eps).detach() for _ in range(300)])
    assert draws.std() > 0.1
    assert abs(draws.mean() - loss_at(relaxed, x, y, eps)) < 4 * draws.std() / math.sqrt(300)


# --- how much is decoded


class Counted:
    """Rows that enter the decoder's parts while it is open."""

    def __init__(self, model: Any) -> None:
        parts = {"from_z": model.decoder.from_z, "from_c": model.decoder.from_c, "body": model.decoder.body}
        self.rows: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.handles = [part.register_forward_hook(self.hook(name)) for name, part in parts.items()]

    def hook(self, name: str) -> Callable[..., None]:
        def count(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
            self.rows[name] += args[0].shape[:-1].numel()
            self.calls[name] += 1

        return count


@pytest.mark.parametrize(("class_input", "decodes"), [("probabilities", 1), ("enumerate", 3)])
def test_decodes_a_point(class_input: Any, decodes: int) -> None:
    model = prepared(class_input=class_input)
    x, y, eps = example(CLASSES)
    counted = Counted(model)
    loss_at(model, x, y, eps)
    assert counted.rows["body"] == decodes * len(x)
    assert counted.rows["from_z"] == len(x), "z's part is computed more than once"
    assert counted.calls["body"] == 1


def test_attributes_are_enumerated_jointly() -> None:
    model = prepared(ATTRIBUTES, class_input="enumerate")
    x, y, eps = example(ATTRIBUTES)
    counted = Counted(model)
    loss_at(model, x, y, eps)
    assert (counted.rows["body"], counted.rows["from_z"]) == (8 * len(x), len(x))


def test_sparse_decodes_only_what_has_a_probability() -> None:
    model = prepared(class_input="sparse")
    x, y, eps = example(CLASSES)
    _, _, logits = model.posterior(x)
    needed = sum(1 if label >= 0 else int((projection(row) > 0).sum()) for row, label in zip(logits, y))
    counted = Counted(model)
    loss_at(model, x, y, eps)
    assert counted.rows["body"] == needed < 3 * len(x)


# --- the prior on π, and its schedule


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
def test_running_mean_follows_pi_of_the_missing_labels(labels: ClassLabels | AttributeLabels) -> None:
    model = augmented(labels).train()
    x, y, before = points(8), some_labels(labels, 8), model.mean_probs.clone()
    _, _, logits = model.posterior(x)
    if labels is CLASSES:
        mean = logits.softmax(-1)[y < 0].mean(0)
    else:
        one = torch.stack([logits.sigmoid()[y[:, a] < 0, a].mean() for a in range(3)])
        mean = torch.stack([1 - one, one], -1)
    model.guide(x, y)
    torch.testing.assert_close(model.mean_probs, 0.9 * before + 0.1 * mean)
    once = model.mean_probs.clone()
    model.guide(x, y.clamp_min(0))
    torch.testing.assert_close(model.mean_probs, once)
    model.eval().guide(x, y)
    torch.testing.assert_close(model.mean_probs, once)


def test_balance_has_the_gradient_of_the_divergence_from_the_prior() -> None:
    model = prepared(entropy_weight=0, balance_weight=1.5)
    logits, y = torch.randn(6, 3, dtype=torch.float64, requires_grad=True), torch.full((6,), -1)
    model.prepare(torch.zeros(20, 5).double(), torch.tensor([0] * 8 + [1] * 2 + [-1] * 10))
    mean = logits.softmax(-1).mean(0)
    model.mean_probs.copy_(mean.detach())
    p = torch.tensor([20 * 9 / 18 - 8, 20 * 3 / 18 - 2, 20 / 3], dtype=torch.float64) / 10  # what the 10 known leave
    divergence = (mean * (mean.log() - p.log())).sum()
    (expected,) = torch.autograd.grad(-1.5 * 6 * divergence, logits)
    (found,) = torch.autograd.grad(model.log_class_prior(logits, y).sum(), logits)
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(found, expected)


def test_class_prior_of_known_rows_is_nothing() -> None:
    model = prepared(ATTRIBUTES, **WEIGHTS)
    logits, y = torch.randn(2, 3, dtype=torch.float64), torch.tensor([[0, 1, 1], [0, 1, -1]])
    value = model.log_class_prior(logits, y)
    assert value[0] == 0
    torch.testing.assert_close(value[1], prior_on_pi(model, logits[1], y[1]))


def test_anneal() -> None:
    model = prepared(**WEIGHTS)
    logits, y = torch.randn(4, 3, dtype=torch.float64), torch.full((4,), -1)
    balance = copy.deepcopy(model)
    balance.entropy_weight = 0.0
    full = model.log_class_prior(logits, y) - balance.log_class_prior(logits, y)
    for progress, share in ((0.0, 0.0), (0.1, 0.0), (0.25, 0.5), (0.4, 1.0), (1.0, 1.0)):
        model.anneal(progress)
        annealed = model.log_class_prior(logits, y) - balance.log_class_prior(logits, y)
        torch.testing.assert_close(annealed, share * full)


def test_early_in_training_the_reconstruction_does_not_move_the_head() -> None:
    model = prepared(entropy_weight=0, balance_weight=0)
    x, _, eps = example(CLASSES)
    values, heads = [], []
    for progress in (0.0, 0.25, 1.0):
        model.anneal(progress)
        loss = loss_at(model, x, None, eps)
        values.append(loss.item())
        heads.append(gradients(loss, model)["head.weight"])
    assert values[0] == pytest.approx(values[1], rel=1e-12) == values[2]
    assert heads[0].abs().max() == 0
    assert heads[2].abs().max() > 1e-3
    torch.testing.assert_close(heads[1], 0.5 * heads[2])
