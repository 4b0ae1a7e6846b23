"""The temperature of probabilities, and the shift of an attribute's, that held-out labels ask for."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .metrics import SMALLEST

FOLDS = 5
FEWEST = 20
"""Labels that a temperature is fitted to, at least."""
PRIOR = 0.5
"""Standard deviation of log T."""
SHIFT_PRIOR = 1.0
"""Standard deviation of an attribute's shift b."""


def tempered(p: Tensor, t: Tensor | float, b: Tensor | float, classes: bool) -> Tensor:
    """Return ``softmax(log p / T)`` of ``[N, K]``, or ``sigmoid(logit p / T + b)`` of ``[N, A]``; in float64."""
    smallest = torch.finfo(torch.float32).tiny
    if classes:
        return (p.clamp_min(smallest).log() / t).softmax(-1)
    eps = torch.finfo(torch.float32).eps
    inner = p.clamp(smallest, 1 - eps / 2)  # the largest float32 below 1
    return ((inner.log() - (-inner).log1p()) / t + b).sigmoid()


def likelihood(p: Tensor, y: Tensor, classes: bool) -> Tensor:
    """The probability of each label: ``[N]`` or ``[N, A]``."""
    if classes:
        return p.gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    return torch.where(y == 1, p, 1 - p)


def temperature(probs: Tensor, y: Tensor, classes: bool) -> tuple[float, float]:
    """Return the T, and an attribute's b, that make known labels most probable; 1 and 0 where they do not help.

    They do not where labels are too few, or where those fitted to four fifths of the labels do not make the last fifth
    more probable, in the mean over fifths.

    Source: Guo, Pleiss, Sun, Weinberger (2017), arXiv:1706.04599; with b, Platt's scaling (1999). The test and the
    priors are this library's choice.
    """
    p, n = probs.double(), len(y)
    if n < FEWEST:
        return 1.0, 0.0
    fold = torch.randperm(n, generator=torch.Generator().manual_seed(0)) % FOLDS
    gain = 0.0
    for k in range(FOLDS):
        fitted = best(p[fold != k], y[fold != k], classes)
        gain += loss(p[fold == k], y[fold == k], 1.0, 0.0, classes) - loss(p[fold == k], y[fold == k], *fitted, classes)
    return best(p, y, classes) if gain > 0 else (1.0, 0.0)


def best(p: Tensor, y: Tensor, classes: bool) -> tuple[float, float]:
    """Return T and b of the least negative log-likelihood, under ``log T ~ N(0, 0.5²)`` and ``b ~ N(0, 1)``.

    Without a prior, labels that are all predicted rightly would have T = 0. Of classes b is 0.
    """
    from scipy.optimize import minimize

    def objective(at: np.ndarray) -> float:
        log_t, b = float(at[0]), 0.0 if classes else float(at[1])
        prior = 0.5 * (log_t / PRIOR) ** 2 + 0.5 * (b / SHIFT_PRIOR) ** 2
        return loss(p, y, math.exp(log_t), b, classes) + prior

    bounds = [(-3.0, 3.0)] if classes else [(-3.0, 3.0), (-5.0, 5.0)]
    found = minimize(objective, np.zeros(len(bounds)), method="L-BFGS-B", bounds=bounds).x
    return math.exp(float(found[0])), 0.0 if classes else float(found[1])


def loss(p: Tensor, y: Tensor, t: float, b: float, classes: bool) -> float:
    """The negative log-likelihood of the labels at a temperature and a shift, nats, summed."""
    value = likelihood(tempered(p, t, b, classes), y, classes).clamp_min(SMALLEST).log().sum()
    return -float(value)
