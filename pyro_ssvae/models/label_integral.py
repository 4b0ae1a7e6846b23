"""q(y | x) = E_q(z|x)[ q(y | z) ]: how probable a label is, averaged over what the encoder leaves open."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

POINTS, RANGE, WIDE = 256, 10.0, 25.0


def log_sigmoid_normal(loc: Tensor, scale: Tensor) -> Tensor:
    """``log E[ σ(t) ]``, ``t ~ N(loc, scale²)``, elementwise; ``log E[1 - σ(t)]`` is the same at ``-loc``.

    The trapezoid rule on 256 points within 10 standard deviations: the integrand is analytic in a strip of half-width
    π / scale, so its error falls as ``exp(-2π (π / scale) / h)`` and stays below 1e-3 nats up to a scale of 25.
    Beyond, the logistic curve is a step to within its own width, and ``Φ(loc / sqrt(scale² + π²/3))`` takes over.
    """
    u = torch.linspace(-RANGE, RANGE, POINTS, dtype=loc.dtype, device=loc.device)
    log_weight = -0.5 * u.square() - 0.5 * math.log(2 * math.pi) + math.log(2 * RANGE / (POINTS - 1))
    narrow = scale.clamp_max(WIDE)
    smooth = torch.logsumexp(log_weight + F.logsigmoid(loc.unsqueeze(-1) + narrow.unsqueeze(-1) * u), -1)
    step = torch.special.log_ndtr(loc / (scale.square() + math.pi**2 / 3).sqrt())
    return torch.where(scale <= WIDE, smooth, step)
