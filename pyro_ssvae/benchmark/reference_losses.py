"""The models' losses written out in plain PyTorch, without Pyro: what the benchmark compares with.

Each takes a model's networks and parameters, a batch ``x``, ``y``, and draws the noise in the order in which the Pyro
pair does, so that both compute one number from one seed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..distributions.logistic_normal import log_sigmoid_normal
from ..distributions.sparse import sparsemax


def log_normal(x: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """Log-density of N(loc, scale²), elementwise."""
    log_scale = scale.log() if isinstance(scale, Tensor) else math.log(scale)
    return -0.5 * ((x - loc) / scale) ** 2 - log_scale - 0.5 * math.log(2 * math.pi)


def log_bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of pixels ``[B, ...]`` under logits ``[..., B, ...]``, summed over a point's pixels."""
    pixels = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
    return pixels.flatten(1 - x.dim()).sum(-1)


def class_terms(model: Any, logits: Tensor, y: Tensor) -> Tensor:
    """What the labels, and the prior on π of missing ones, add to the loss, ``[B]``; moves the mean of π."""
    missing = y == -1
    log_pi = logits.log_softmax(-1)
    pi = log_pi.exp()
    supervised = torch.where(missing, 0.0, log_pi.gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1))
    with torch.no_grad():
        weight = missing.unsqueeze(-1).to(pi)
        mean = torch.where(weight.sum() > 0, (weight * pi).sum(0) / weight.sum().clamp_min(1), model.mean_probs)
        model.mean_probs.lerp_(mean, 0.1)
    ratio = model.mean_probs.clamp_min(1e-8).log() - (model.prior_logits.log_softmax(-1) + model.log_left)
    terms = model.warmth * model.entropy_weight * log_pi - model.balance_weight * ratio
    return -model.alpha * supervised - (pi * terms).sum(-1) * missing


def augmented(model: Any, x: Tensor, y: Tensor) -> Tensor:
    """AugVAE's loss for class labels, Bernoulli pixels and each of the three class inputs."""
    h = model.encoder(x)
    logits, loc, scale = model.head(h), model.loc(h), model.log_scale(h).exp()
    z = loc + scale * torch.randn_like(loc)
    kl = (log_normal(z, loc, scale) - log_normal(z, 0.0, 1.0)).sum(-1)
    missing = (y == -1).unsqueeze(-1)
    known = F.one_hot(y.clamp_min(0), logits.shape[-1]).to(z)
    if model.class_input == "probabilities":
        pi = logits.softmax(-1)
        c = torch.where(missing, torch.lerp(pi.detach(), pi, model.warmth), known)
        fit = log_bernoulli(x, model.decoder(z, c))
    else:
        sparse = model.class_input == "sparse"
        q = torch.where(missing, sparsemax(logits) if sparse else logits.softmax(-1), known)
        log_q = torch.where(q > 0, torch.where(q > 0, q, 1.0).log(), 0.0)
        log_p = torch.where(missing, model.prior_logits.log_softmax(-1), 0.0)
        if sparse:
            row, value = (q > 0).nonzero(as_tuple=True)
            some = log_bernoulli(x[row], model.decoder(z[row], F.one_hot(value, q.shape[-1]).to(z)))
            log_x = torch.zeros_like(q).index_put((row, value), some)
        else:
            every = torch.eye(q.shape[-1], device=z.device, dtype=z.dtype).unsqueeze(1)
            log_x = log_bernoulli(x, model.decoder(z, every)).t()
        fit = (q * (log_x + log_p - log_q)).sum(-1)
    return (model.beta * kl - fit + class_terms(model, logits, y)).sum()


def revae(model: Any, x: Tensor, y: Tensor) -> Tensor:
    """The ReVAE's loss for attributes and Bernoulli pixels, its weight detached."""
    n, d, a = model.characteristic_dim, model.label_dim, model.labels.size
    loc, raw = model.q_z(model.encoder(x)).chunk(2, -1)
    scale = F.softplus(raw).clamp_min(1e-3)
    z_s = loc[:, n:] + scale[:, n:] * torch.randn_like(loc[:, n:])
    loc_c = loc[:, :n].reshape(-1, a, d).transpose(0, 1)  # [A, B, d]
    scale_c = scale[:, :n].reshape(-1, a, d).transpose(0, 1)
    z_c = loc_c + scale_c * torch.randn(loc_c.shape, device=x.device, dtype=x.dtype)
    log_x = log_bernoulli(x, model.decoder(torch.cat([z_c.transpose(0, 1).flatten(1), z_s], -1), None))
    ratio_s = (log_normal(z_s, 0.0, 1.0) - log_normal(z_s, loc[:, n:], scale[:, n:])).sum(-1)
    log_q_c = log_normal(z_c, loc_c, scale_c).sum(-1)  # [A, B]
    prior_scale = F.softplus(model.prior_raw_scale).clamp_min(1e-3)
    log_p_c = log_normal(z_c.unsqueeze(2), model.prior_loc.unsqueeze(1), prior_scale.unsqueeze(1)).sum(-1)  # [A, B, 2]
    prior = F.logsigmoid(torch.stack([-model.prior_logits, model.prior_logits], -1)).unsqueeze(1)
    weight, bias = model.head_weight.unsqueeze(1), model.head_bias.unsqueeze(1)
    head = (z_c * weight).sum(-1) + bias
    log_q_y = F.logsigmoid(torch.stack([-head, head], -1))
    y = y.t()
    missing, value = y == -1, y.clamp_min(0).unsqueeze(-1)

    def known(log_q: Tensor) -> Tensor:
        return torch.where(missing, 0.0, log_q.gather(-1, value).squeeze(-1)).sum(0)

    mean, spread = (weight * loc_c).sum(-1) + bias, (weight * scale_c).square().sum(-1).sqrt()
    log_q_x = known(torch.stack([log_sigmoid_normal(-mean, spread), log_sigmoid_normal(mean, spread)], -1))
    log_q_z = known(log_q_y)
    q = torch.where(missing.unsqueeze(-1), log_q_y.exp(), F.one_hot(value.squeeze(-1), 2).to(z_c))
    ratio_c = (q * (prior + log_p_c - torch.where(missing.unsqueeze(-1), log_q_y, 0.0))).sum(-1) - log_q_c
    w = (log_q_z - log_q_x).exp().detach()
    return -(w * (log_x + ratio_s + ratio_c.sum(0) - log_q_z) + model.alpha * log_q_x).sum()


def m2(model: Any, x: Tensor, y: Tensor) -> Tensor:
    """M2's loss for class labels and Bernoulli pixels, a missing class summed over."""
    h = model.encoder(x)
    logits = model.head(h)
    missing = (y == -1).unsqueeze(-1)
    q = torch.where(missing, logits.softmax(-1), F.one_hot(y.clamp_min(0), logits.shape[-1]).to(h))
    log_q = torch.where(missing, logits.log_softmax(-1), 0.0)
    log_p = torch.where(missing, model.prior_logits.log_softmax(-1), 0.0)
    every = torch.eye(q.shape[-1], device=h.device, dtype=h.dtype).unsqueeze(1)
    r = (h + model.from_c(every)).relu()
    loc, scale = model.loc(r), model.log_scale(r).exp()
    z = loc + scale * torch.randn_like(loc)
    kl = (log_normal(z, loc, scale) - log_normal(z, 0.0, 1.0)).sum(-1)
    log_x = log_bernoulli(x, model.decoder(z, every))
    fit = (q * ((log_x - model.beta * kl).t() + log_p - log_q)).sum(-1)
    return (class_terms(model, logits, y) - fit).sum()


LOSSES: dict[str, Any] = {"augmented": augmented, "revae": revae, "m2": m2}
