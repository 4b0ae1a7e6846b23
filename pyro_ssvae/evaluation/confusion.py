"""What a model's classes mean by held-out labels: few labels leave some sure of a group of points, and of a wrong name.

A channel between the model's class k and the label j, at a temperature T ::

    p(y = j | x) = Σ_k q_T(k | x) C_kj,      Σ_j C_kj = 1,      C_k ~ Dirichlet(1 + 1[j = k] + 0.1/K)

A temperature makes all answers less sure; C those of the classes that are taken for one another. A class without any
label stays itself, ``C_kk = 1``: only points of other classes would tell of its row, and all of them against it.

Source: the channel of noisy labels, Sukhbaatar et al. (2015), arXiv:1406.2080, here from the model's classes to the
labels. The prior is this library's choice.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .metrics import SMALLEST

ENOUGH = 10
"""Labels a class, in the mean, that C is fitted to at least."""
MOST_CLASSES = 100
"""Classes above which C, with their square of entries, is not fitted."""
SPREAD = 0.1
"""Pseudo-counts of a row, beside that of its own class."""


def most_probable_confusion(log_p: Tensor, y: Tensor, prior: float) -> tuple[float, Tensor]:
    """Return T and C ``[K, K]`` that are most probable given the labels, under ``log T ~ N(0, prior²)``.

    :param log_p: logarithms of the model's probabilities, float64 ``[N, K]``.
    :param y: known labels ``[N]``.
    """
    from scipy.optimize import minimize

    k = log_p.shape[-1]
    itself = torch.eye(k, dtype=torch.double)
    counts, labelled = itself + SPREAD / k, torch.bincount(y, minlength=k)[:, None] > 0

    def objective(at: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.enable_grad():
            free = torch.from_numpy(at.copy()).requires_grad_()
            log_t, log_c = free[0], free[1:].view(k, k).log_softmax(-1)
            shown = (log_p / log_t.exp()).softmax(-1) @ torch.where(labelled, log_c.exp(), itself)
            log_likelihood = shown.gather(-1, y.unsqueeze(-1)).clamp_min(SMALLEST).log().sum()
            loss = (log_t / prior) ** 2 / 2 - (counts * log_c).sum() - log_likelihood
            (gradient,) = torch.autograd.grad(loss, free)
        return loss.item(), gradient.numpy()

    start = np.concatenate([[0.0], counts.log().flatten().numpy()])
    bounds = [(-3.0, 3.0)] + [(None, None)] * k**2
    options = {"ftol": 1e-6}  # of the loss: a thousandth of a nat with a thousand labels
    best = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    found = torch.from_numpy(best.x)
    return math.exp(found[0]), torch.where(labelled, found[1:].view(k, k).softmax(-1), itself)
