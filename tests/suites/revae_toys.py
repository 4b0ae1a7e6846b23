"""A ReVAE small enough for grids, its noise at the test's choice, and its bound written anew in plain PyTorch."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pyro
import torch
from formulas import LOG_2PI
from tiny import randomize, tiny_encoder
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_ssvae import AttributeLabels, ClassLabels, ReVAE
from pyro_ssvae.infer.ccvae_bound import CCVAEBound
from pyro_ssvae.models.revae import BOUND_ALONE

TWO = AttributeLabels(["hat", "beard"])
THREE = AttributeLabels(["hat", "beard", "scarf"])
CLASSES = ClassLabels(3, names=["cat", "dog", "owl"])
MIXED = torch.tensor([[-1, -1], [1, -1], [-1, 0], [0, 1], [1, 1]])  # O = none, some, some, all, all


def toy(labels: AttributeLabels | ClassLabels = TWO, latent_dim: int = 3, seed: int = 0, **options: Any) -> ReVAE:
    """Smooth networks on three numbers; units, p(y) and no parameter symmetric; float64; the bound alone, α = 1."""
    options = {"alpha": 1.0, **BOUND_ALONE, **options}
    decoder = nn.Sequential(nn.Linear(latent_dim, 7), nn.Tanh(), nn.Linear(7, 3))
    model = randomize(ReVAE(tiny_encoder((3,)), decoder, labels, latent_dim=latent_dim, **options), seed)
    assert isinstance(model, ReVAE)
    with torch.no_grad():
        model.head_weight.mul_(3)  # w(z) is far from 1
        model.label_prior.logits.copy_(torch.linspace(-1, 1.5, labels.size))
        model.likelihood.shift.copy_(torch.tensor([0.3, -0.2, 0.0]))
        model.likelihood.spread.copy_(torch.tensor([1.0, 0.5, 2.0]))
    return model.double().eval()


def points(n: int) -> Tensor:
    return torch.randn(n, 3, dtype=torch.float64)


# --- the noise of z, and of y, at the test's choice


class Noise(pyro.poutine.messenger.Messenger):
    """Draw ``z = loc + scale eps`` with the given ``eps [B, D]``, and y as given."""

    def __init__(self, model: ReVAE, eps: Tensor, y: Tensor | None = None) -> None:
        super().__init__()
        n = model.z_c_dim
        self.eps = {"z_c": model.split(eps[:, :n]), "z_s": eps[:, n:]}
        self.y = y

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.eps:
            q = msg["fn"].base_dist
            msg["value"], msg["done"] = q.loc + q.scale * self.eps[msg["name"]], True
        elif msg["name"] == "y" and self.y is not None:
            msg["value"], msg["done"] = self.y, True


def rows_at(model: ReVAE, x: Tensor, y: Tensor | None, eps: Tensor, drawn: Tensor | None = None) -> Tensor:
    """The model's own objective at the given noise: ``[B]``."""

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        with Noise(model, eps, drawn):
            model.guide(x, y)

    objective = model.objective()
    assert isinstance(objective, CCVAEBound)
    return objective.rows(model.model, guide, x, y)


# --- the same by hand


def normal(v: Tensor, loc: Tensor | float, scale: Tensor) -> Tensor:
    return -0.5 * ((v - loc) / scale) ** 2 - scale.log() - 0.5 * LOG_2PI


def encoded(model: ReVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale ``[B, D]`` of q(z | x)."""
    like = model.likelihood
    loc, raw = model.q_z(model.encoder((x - like.shift) / like.spread)).chunk(2, -1)
    return loc, F.softplus(raw)


def log_p_x(model: ReVAE, x: Tensor, z: Tensor) -> Tensor:
    like = model.likelihood
    out = like.shift + like.spread * model.decoder.decoder(z)
    return normal(x, out, (like.spread * F.softplus(like.raw_scale)).expand_as(out)).sum(-1)


def values_of(model: ReVAE, y: Tensor) -> list[Tensor]:
    """Every full labelling of the rows of ``y``, a row's known labels repeated."""
    if isinstance(model.labels, ClassLabels):
        every = [torch.full_like(y, k) for k in range(model.labels.size)]
    else:
        every = [torch.tensor(c).expand_as(y) for c in itertools.product([0, 1], repeat=model.labels.size)]
    return [torch.where(y == -1, value, y) for value in every]


def repeats(model: ReVAE, y: Tensor) -> Tensor:
    """How many of :func:`values_of` are the same for each row: ``[B]``."""
    known = (y != -1).long()
    return model.labels.size**known if isinstance(model.labels, ClassLabels) else 2 ** known.sum(-1)


def log_q_label(model: ReVAE, z: Tensor, y: Tensor) -> Tensor:
    """``log q(y_i | z_c)`` a label: ``[B, A]``, classes ``[B, 1]``."""
    if isinstance(model.labels, ClassLabels):
        logits = z[:, : model.label_dim] @ model.head_weight.t() + model.head_bias
        return logits.log_softmax(-1).gather(-1, y.clamp_min(0).unsqueeze(-1))
    parts = []
    for i in range(model.labels.size):
        z_i = z[:, i * model.label_dim : (i + 1) * model.label_dim]
        logit = z_i @ model.head_weight[i] + model.head_bias[i]
        parts.append(F.logsigmoid(torch.where(y[:, i] == 1, logit, -logit)))
    return torch.stack(parts, -1)


def log_p_joint(model: ReVAE, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
    """``log p(x, z, y)`` of full labels: ``[B]``."""
    n, d = model.z_c_dim, model.label_dim
    total = log_p_x(model, x, z) + normal(z[:, n:], 0.0, torch.ones_like(z[:, n:])).sum(-1)
    scale = F.softplus(model.prior_raw_scale)
    if isinstance(model.labels, ClassLabels):
        total = total + model.label_prior.logits.log_softmax(-1)[y]
        return total + normal(z[:, :n], model.prior_loc[y], scale[y]).sum(-1)
    for i in range(model.labels.size):
        logit, y_i = model.label_prior.logits[i], y[:, i]
        total = total + F.logsigmoid(torch.where(y_i == 1, logit, -logit))
        total = total + normal(z[:, i * d : (i + 1) * d], model.prior_loc[i][y_i], scale[i][y_i]).sum(-1)
    return total


def known(y: Tensor) -> Tensor:
    """Which of :func:`log_q_label`'s entries are known."""
    return (y if y.dim() == 2 else y.unsqueeze(-1)) != -1


def log_q_known(model: ReVAE, z: Tensor, y: Tensor) -> Tensor:
    return torch.where(known(y), log_q_label(model, z, y), 0.0).sum(-1)


def by_hand(
    model: ReVAE,
    x: Tensor,
    y: Tensor,
    z: Tensor,
    log_q_x: Tensor,
    *,
    detach: str = "none",
    alpha: float = 1.0,
    further: Tensor | float = 0.0,
) -> Tensor:
    """The formula of METHODS, the missing labels by brute force over all values of y: ``[B]``.

    :param further: what an edited model has more in ``log p - log q``.
    """
    loc, scale = encoded(model, x)
    log_q_z, log_q_o = normal(z, loc, scale).sum(-1), log_q_known(model, z, y)
    inner = torch.zeros_like(log_q_z)
    for value in values_of(model, y):
        log_q_u = torch.where(known(y), 0.0, log_q_label(model, z, value)).sum(-1)
        ratio = log_p_joint(model, x, z, value) + further - log_q_z - log_q_o - log_q_u
        inner = inner + log_q_u.exp() * ratio / repeats(model, y)
    numerator = log_q_known(model, z.detach() if detach == "numerator" else z, y)
    w = (numerator - log_q_x).exp()
    return (w.detach() if detach == "all" else w) * inner + alpha * log_q_x


# --- grids


def grid(dim: int, points_each: int = 17, width: float = 6.3) -> tuple[Tensor, Tensor]:
    """Nodes ``[G, dim]`` and weights ``[G]`` of an integral over N(0, I): the trapezoid rule."""
    u = torch.linspace(-width, width, points_each, dtype=torch.float64)
    nodes = torch.cartesian_prod(*[u] * dim).reshape(-1, dim)
    weights = (-0.5 * nodes.square().sum(-1)).exp()
    return nodes, weights / weights.sum()


def spread(nodes: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
    """Every row at every node: ``[R G, ...]`` each, and the nodes for them."""
    r, g = len(rows[0]), len(nodes)
    return (*(row.repeat_interleave(g, 0) for row in rows), nodes.repeat(r, 1))


def mean_over(values: Tensor, weights: Tensor) -> Tensor:
    """Undo :func:`spread`: the weighted mean over the nodes, ``[R]``."""
    return values.reshape(-1, len(weights)) @ weights


def grid_log_q_known(model: ReVAE, x: Tensor, y: Tensor, **options: Any) -> Tensor:
    """``log q(y_O | x)`` by integration over all of z: ``[R]``."""
    nodes, weights = grid(model.config.latent_dim, **options)
    loc, scale = encoded(model, x)
    loc, scale, y, eps = spread(nodes, loc, scale, y)
    return mean_over(log_q_known(model, loc + scale * eps, y).exp(), weights).log()


def grid_bound(model: ReVAE, x: Tensor, y: Tensor, **options: Any) -> Tensor:
    """``L(x, y_O)`` of METHODS by integration over z: ``[R]``."""
    nodes, weights = grid(model.config.latent_dim)
    log_q_x = grid_log_q_known(model, x, y)
    loc, scale = encoded(model, x)
    loc, scale, x, y, log_q_x, eps = spread(nodes, loc, scale, x, y, log_q_x)
    return mean_over(by_hand(model, x, y, loc + scale * eps, log_q_x, **options), weights)


def grid_log_p(model: ReVAE, x: Tensor, y: Tensor, points_each: int = 41, width: float = 8.0) -> Tensor:
    """``log p(x, y_O)`` by integration over z in a box about the origin: ``[R]``."""
    u = torch.linspace(-width, width, points_each, dtype=torch.float64)
    z = torch.cartesian_prod(*[u] * model.config.latent_dim).reshape(-1, model.config.latent_dim)
    x, labels, z = spread(z, x, y)
    log_p = torch.stack([log_p_joint(model, x, z, value) for value in values_of(model, labels)]).logsumexp(0)
    log_p = (log_p - repeats(model, labels).log()).reshape(len(y), -1)
    return log_p.logsumexp(-1) + model.config.latent_dim * math.log(2 * width / (points_each - 1))
