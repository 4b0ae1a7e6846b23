"""The models' formulas written anew in plain PyTorch, a row and a label value at a time, and how they are compared."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import torch
from tiny import WIDTH, gradients, loss_at, points, some_labels
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_ssvae import ClassLabels
from pyro_ssvae.infer import batched
from pyro_ssvae.labels import Labels

LOG_2PI = math.log(2 * math.pi)
WEIGHTS: dict[str, Any] = {"alpha": 3.0, "beta": 0.7, "entropy_weight": 2.0, "alignment_weight": 1.5}
NO_REGULARIZER: dict[str, Any] = {"entropy_weight": 0.0, "alignment_weight": 0.0}


def example(labels: Labels, n: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Points, labels of every kind and noise, in double precision."""
    return points(n).double(), some_labels(labels, n), torch.randn(n, WIDTH, dtype=torch.float64)


def uneven(model: Any, seed: int = 1) -> None:
    """A label prior, shares among the missing labels that are half sure, and a running mean of no symmetry."""
    generator = torch.Generator().manual_seed(seed)
    prior, mean, shares = torch.randn(3, model.labels.size, generator=generator).double()
    model.label_prior.logits.copy_(prior)
    model.label_prior.counted.copy_(prior)
    model.head_terms.mean_probs.copy_(model.labels.log_probs(mean).exp())
    model.head_terms.shares.log_shares.copy_(model.labels.log_probs(shares))
    model.head_terms.shares.certainty.fill_(0.6)
    model.head_terms.epsilon.fill_(0.1)


def normal(x: Tensor, loc: Any, scale: Tensor) -> Tensor:
    """log N(x; loc, scale²), summed over the last dimension."""
    return (-0.5 * ((x - loc) / scale) ** 2 - scale.log() - 0.5 * LOG_2PI).sum(-1)


def log_p_x(model: Any, x: Tensor, z: Tensor, c: Tensor | None = None) -> Tensor:
    """log p(x | z, c) of a Normal likelihood in the data's units."""
    like = model.likelihood
    z_rows = z.reshape(-1, z.shape[-1])
    c_rows = None if c is None else c.expand(*z.shape[:-1], c.shape[-1]).reshape(len(z_rows), -1)
    out = model.decoder(z_rows, c_rows).reshape(*z.shape[:-1], *x.shape[-1:])
    return normal(x, like.shift + like.spread * out, (like.spread * F.softplus(like.raw_scale)).expand_as(out))


def projection(logits: Tensor) -> Tensor:
    """sparsemax of one row: the support found by trying all sizes."""
    for size in range(len(logits), 0, -1):
        top = logits.topk(size)
        p = top.values - (top.values.sum() - 1) / size
        if (p > 0).all():
            return torch.zeros_like(logits).index_put((top.indices,), p)
    raise AssertionError


def choices(model: Any, logits: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(c, log q(y | x), log p(y)) of every value that one row's label can have; q has the zeros of sparsemax.

    A known label has one value, log q = 0 and its own log p(y): the model states the whole joint.
    """
    prior_logits = model.label_prior.logits
    if isinstance(model.labels, ClassLabels):
        pi = projection(logits) if model.label_inference.how == "sparse" else logits.softmax(-1)
        prior = prior_logits.log_softmax(-1)
        eye = torch.eye(len(pi), dtype=pi.dtype)
        if y >= 0:
            return [(eye[y], pi.new_zeros(()), prior[y])]
        return [(eye[k], pi[k].log(), prior[k]) for k in range(len(pi)) if pi[k] > 0]
    found = []
    for values in itertools.product([0, 1], repeat=len(y)):
        if all(int(known) in (-1, v) for known, v in zip(y, values)):
            sign = 2 * torch.tensor(values, dtype=logits.dtype) - 1
            log_q = (F.logsigmoid(sign * logits) * (y == -1)).sum()
            found.append((torch.tensor(values, dtype=logits.dtype), log_q, F.logsigmoid(sign * prior_logits).sum()))
    return found


def known_term(labels: Labels, logits: Tensor, y: Tensor) -> Tensor:
    """log q(y | x) of one row's known labels."""
    if isinstance(labels, ClassLabels):
        return logits.log_softmax(-1)[y] if y >= 0 else logits.new_zeros(())
    return (F.logsigmoid((2 * y - 1) * logits) * (y >= 0)).sum()


def prior_on_pi(model: Any, logits: Tensor, y: Tensor) -> Tensor:
    """- w_H max(0, H(π) - H_ε) - w_m c Σ π log(m / s), of one row's missing labels."""
    terms, e = model.head_terms, float(model.head_terms.epsilon)
    mean, shares = terms.mean_probs, terms.shares.log_shares.exp()
    warm = float(terms.warmup)
    certainty = terms.shares.certainty * (warm if terms.shares.checked else 1.0)
    if isinstance(model.labels, ClassLabels):
        rows = [(logits.softmax(-1), mean, shares, certainty)] if y < 0 else []
    else:
        both = torch.stack([1 - logits.sigmoid(), logits.sigmoid()], -1)
        rows = [(both[a], mean[a], shares[a], certainty[a]) for a in range(len(y)) if y[a] < 0]
    value = logits.new_zeros(())
    for pi, m, s, c in rows:
        others = len(pi) - 1
        least = -(1 - e) * math.log(1 - e) - e * math.log(e / others) if 0 < e < 1 else 0.0
        entropy = -(pi * pi.log()).sum()
        value = value - warm * model.config.entropy_weight * (entropy - least).clamp_min(0)
        value = value - model.config.alignment_weight * c.squeeze() * (pi * (m / s).log()).sum()
    return value


def smoothed_known_term(model: Any, logits: Tensor, y: Tensor) -> Tensor:
    """(1 - ε) log π_y + ε/K Σ log π_k of one row's known labels."""
    e = float(model.head_terms.epsilon)
    value = (1 - e) * known_term(model.labels, logits, y)
    if isinstance(model.labels, ClassLabels):
        return value + e * logits.log_softmax(-1).mean() * (y >= 0)
    return value + e * (0.5 * (F.logsigmoid(logits) + F.logsigmoid(-logits)) * (y >= 0)).sum()


def head_terms(model: Any, logits: Tensor, y: Tensor) -> Tensor:
    """What trains the head on one row beside the bound."""
    return model.config.alpha * smoothed_known_term(model, logits, y) + prior_on_pi(model, logits, y)


def divergence(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    """log q(z) - log p(z) at a draw, p = N(0, I)."""
    return normal(z, loc, scale) - normal(z, 0.0, torch.ones_like(z))


# --- comparisons


def assert_same(model: Any, x: Tensor, y: Tensor | None, eps: Tensor, expected: Tensor) -> None:
    """The model's loss at this noise is the expected one, and so is the gradient of every parameter."""
    loss = loss_at(model, x, y, eps)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    found = gradients(expected, model)
    for name, g in gradients(loss, model).items():
        assert found[name].abs().max() > 1e-6, name
        torch.testing.assert_close(g, found[name], rtol=1e-9, atol=1e-10, msg=name)


def same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor], **tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, msg=lambda m, name=name: f"{name}: {m}", **tolerance)


# --- bounds


def gentle(model: Any) -> Any:
    """A decoder so smooth and a q so wide that importance weights have a small variance."""
    with torch.no_grad():
        model.log_scale.weight.mul_(0.2)
        model.log_scale.bias.zero_()
        model.loc.weight.mul_(0.4)
        model.decoder.body.weight.mul_(0.7)
        model.likelihood.raw_scale.fill_(0.5)
    return model.double()


def smooth(model: Any) -> Any:
    """A wide posterior and a smooth decoder, so that importance weights have a small variance."""
    with torch.no_grad():
        model.log_scale.weight.mul_(0.2)
        model.log_scale.bias.zero_()
        model.loc.weight.mul_(0.15)
        model.loc.bias.mul_(0.5)
        model.decoder.body.weight.mul_(0.7)
        model.likelihood.raw_scale.fill_(1.0)
    return model


def grid(dim: int) -> tuple[Tensor, float]:
    """Points ``[G, dim]`` and the log of their cell's volume."""
    axis = torch.linspace(-9, 9, 2401 if dim == 1 else 241, dtype=torch.float64)
    step = float(axis[1] - axis[0])
    return torch.cartesian_prod(*[axis] * dim).reshape(-1, dim), dim * math.log(step)


def standard_error(draws: Tensor) -> Tensor:
    return draws.std(0) / math.sqrt(len(draws))


def mean_of_draws(model: Any, x: Tensor, y: Tensor | None, num_samples: int) -> Tensor:
    """``log_likelihood`` of so many draws, a draw of a row being a row of its own, which is quicker: ``[B]``."""
    repeated = None if y is None else y.repeat(num_samples, *[1] * (y.dim() - 1))
    with mock.patch.object(batched, "ROWS", 10**5):
        log_w = model.log_likelihood(x.repeat(num_samples, *[1] * (x.dim() - 1)), repeated, num_samples=1)
    mean: Tensor = log_w.reshape(num_samples, -1).logsumexp(0) - math.log(num_samples)
    return mean


def assert_bounds(model: Any, x: Tensor, y: Tensor | None, log_p: Tensor, elbo: Tensor) -> None:
    """The ELBO's mean is ``elbo``, and ELBO ≤ bound(10) ≤ bound(1000) ≤ ``log_p``, the last nearly tight."""

    def draws(verb: Callable[..., Tensor], copies: int, **options: int) -> Tensor:
        repeated = None if y is None else y.repeat(copies, *[1] * (y.dim() - 1))
        return verb(x.repeat(copies, 1), repeated, **options).reshape(copies, len(x))

    bounds = [draws(model.elbo, 300), draws(model.log_likelihood, 300, num_samples=10)]
    bounds.append(draws(partial(mean_of_draws, model), 80, num_samples=1000))
    means, errors = [b.mean(0) for b in bounds], [standard_error(b) for b in bounds]
    assert ((means[0] - elbo).abs() < 4.5 * errors[0]).all()
    assert (means[0] + 4 * errors[0] < means[1]).any(), "the example is too easy: the ELBO is tight"
    assert (means[1] - means[2] < 4 * (errors[1] + errors[2])).all()
    assert (means[2] - log_p < 4 * errors[2]).all()
    assert (log_p - means[2] < 0.02 + 4 * errors[2]).all(), "a thousand draws should come close"


class Counted:
    """Rows that enter the decoder's parts, and calls of them, while it is there."""

    def __init__(self, decoder: Any) -> None:
        parts = {"from_z": decoder.from_z, "from_c": decoder.from_c, "body": decoder.body}
        self.rows: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        for name, part in parts.items():
            if part is not None:
                part.register_forward_hook(self.hook(name))

    def hook(self, name: str) -> Callable[..., None]:
        def count(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
            self.rows[name] += args[0].shape[:-1].numel()
            self.calls[name] += 1

        return count
