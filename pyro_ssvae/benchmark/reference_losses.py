"""The models' losses written out in plain PyTorch, without Pyro: what the benchmark compares with.

Each takes a model's networks and parameters, a batch ``x``, ``y``, and draws the noise in the order in which the Pyro
pair does, so that both compute one number from one seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from ..distributions.logistic_normal import log_sigmoid_normal
from ..distributions.sparse import sparsemax
from ..infer.auxiliary import HeadTerms
from ..labels import MISSING
from ..models import M2, AugmentedVAE, ReVAE

Loss: TypeAlias = Callable[[Any, Tensor, Tensor], Tensor]
"""The loss of a model at a batch, nats, summed over rows."""


def log_normal(x: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """Return the log-density of N(loc, scale²), elementwise."""
    log_scale = scale.log() if isinstance(scale, Tensor) else math.log(scale)
    return -0.5 * ((x - loc) / scale) ** 2 - log_scale - 0.5 * math.log(2 * math.pi)


def log_bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """Return the log-probability of pixels ``[B, ...]`` under logits ``[..., B, ...]``, summed over each point."""
    pixels = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
    return pixels.flatten(1 - x.dim()).sum(-1)


def head_loss(terms: HeadTerms, logits: Tensor, y: Tensor) -> Tensor:
    """Return what the head's terms add to the loss for class labels, ``[B]``; move the mean of π."""
    missing, shares, e = y == MISSING, terms.shares, terms.epsilon
    log_pi = logits.log_softmax(-1)
    pi = log_pi.exp()
    picked = log_pi.gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    supervised = torch.where(missing, 0.0, (1 - e) * picked + e * log_pi.mean(-1))
    terms.track(logits, y)
    ratio = terms.mean_probs.clamp_min(1e-8).log() - shares.log_shares
    least = -torch.xlogy(1 - e, 1 - e) - torch.xlogy(e, e / (logits.shape[-1] - 1))
    entropy = F.relu(-(pi * log_pi).sum(-1) - least)
    alignment = shares.weight(terms.warmup) * (pi * ratio).sum(-1)
    regularizer = terms.warmup * terms.entropy_weight * entropy + terms.alignment_weight * alignment
    return -terms.alpha * supervised + regularizer * missing


def augmented(model: AugmentedVAE, x: Tensor, y: Tensor) -> Tensor:
    """Return AugVAE's loss for class labels and Bernoulli pixels, a missing label plugged in or summed over."""
    h = model.encoder(x)
    logits, loc, scale = model.head(h), model.loc(h), model.log_scale(h).exp()
    z = loc + scale * torch.randn_like(loc)
    kl = (log_normal(z, loc, scale) - log_normal(z, 0.0, 1.0)).sum(-1)
    missing = (y == MISSING).unsqueeze(-1)
    known = F.one_hot(y.clamp_min(0), logits.shape[-1]).to(z)
    head, how = head_loss(model.head_terms, logits, y), model.label_inference.how  # which moves an estimated p(y)
    log_p = model.label_prior.logits.log_softmax(-1)
    if how == "plug-in":
        pi = logits.softmax(-1)
        c = torch.where(missing, torch.lerp(pi.detach(), pi, model.head_terms.warmup), known)
        fit = log_bernoulli(x, model.decoder(z, c)) + (known * log_p).sum(-1).where(y != MISSING, 0.0)
    else:
        q = torch.where(missing, sparsemax(logits) if how == "sparse" else logits.softmax(-1), known)
        log_q = torch.where(q > 0, torch.where(q > 0, q, 1.0).log(), 0.0)
        if how == "sparse":
            row, value = (q > 0).nonzero(as_tuple=True)
            some = log_bernoulli(x[row], model.decoder(z[row], F.one_hot(value, q.shape[-1]).to(z)))
            log_x = torch.zeros_like(q).index_put((row, value), some)
        else:
            every = torch.eye(q.shape[-1], device=z.device, dtype=z.dtype).unsqueeze(1)
            log_x = log_bernoulli(x, model.decoder(z, every)).t()
        fit = (q * (log_x + log_p - log_q)).sum(-1)
    return (model.config.beta * kl - fit + head).sum()


def revae(model: ReVAE, x: Tensor, y: Tensor) -> Tensor:
    """Return the ReVAE's loss for attributes and Bernoulli pixels, its weight detached."""
    n, d, a = model.z_c_dim, model.label_dim, model.labels.size
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
    logits = model.label_prior.logits
    prior = F.logsigmoid(torch.stack([-logits, logits], -1)).unsqueeze(1)
    weight, bias = model.head_weight.unsqueeze(1), model.head_bias.unsqueeze(1)
    head = (z_c * weight).sum(-1) + bias
    log_q_y = F.logsigmoid(torch.stack([-head, head], -1))
    y = y.t()
    missing, value = y == MISSING, y.clamp_min(0).unsqueeze(-1)

    def known(log_q: Tensor) -> Tensor:
        return torch.where(missing, 0.0, log_q.gather(-1, value).squeeze(-1)).sum(0)

    mean, spread = (weight * loc_c).sum(-1) + bias, (weight * scale_c).square().sum(-1).sqrt()
    log_q_x = known(torch.stack([log_sigmoid_normal(-mean, spread), log_sigmoid_normal(mean, spread)], -1))
    log_q_z = known(log_q_y)
    q = torch.where(missing.unsqueeze(-1), log_q_y.exp(), F.one_hot(value.squeeze(-1), 2).to(z_c))
    ratio_c = (q * (prior + log_p_c - torch.where(missing.unsqueeze(-1), log_q_y, 0.0))).sum(-1) - log_q_c
    w = (log_q_z - log_q_x).exp().detach()
    return -(w * (log_x + ratio_s + ratio_c.sum(0) - log_q_z) + model.head_terms.alpha * log_q_x).sum()


def m2(model: M2, x: Tensor, y: Tensor) -> Tensor:
    """Return M2's loss for class labels and Bernoulli pixels, a missing class summed over."""
    h = model.encoder(x)
    logits = model.head(h)
    head = head_loss(model.head_terms, logits, y)  # which moves an estimated p(y)
    missing = (y == MISSING).unsqueeze(-1)
    gentle = torch.lerp(logits.detach(), logits, model.head_terms.warmup)
    q = torch.where(missing, gentle.softmax(-1), F.one_hot(y.clamp_min(0), logits.shape[-1]).to(h))
    log_q = torch.where(missing, gentle.log_softmax(-1), 0.0)
    log_p = model.label_prior.logits.log_softmax(-1)
    every = torch.eye(q.shape[-1], device=h.device, dtype=h.dtype).unsqueeze(1)
    r = (h + model.from_c(every)).relu()
    loc, scale = model.loc(r), model.log_scale(r).exp()
    z = loc + scale * torch.randn_like(loc)
    kl = (log_normal(z, loc, scale) - log_normal(z, 0.0, 1.0)).sum(-1)
    log_x = log_bernoulli(x, model.decoder(z, every))
    fit = (q * ((log_x - model.config.beta * kl).t() + log_p - log_q)).sum(-1)
    return (head - fit).sum()


LOSSES: dict[str, Loss] = {"augmented": augmented, "revae": revae, "m2": m2}
