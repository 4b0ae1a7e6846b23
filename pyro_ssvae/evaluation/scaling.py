"""What held-out labels make of probabilities: a temperature, the shift of an attribute's, what the classes mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .bootstrap import Metrics
from .confusion import ENOUGH, MOST_CLASSES, most_probable_confusion
from .metrics import SMALLEST

FOLDS = 5
FEWEST = 20
"""Labels that a temperature is fitted to, at least."""
PRIOR = 0.5
"""Standard deviation of log T."""
SHIFT_PRIOR = 1.0
"""Standard deviation of an attribute's shift b."""
SMALLEST_P = torch.finfo(torch.float32).tiny
"""Probabilities below this count as this."""
ROUNDING = 1e-2
"""How far shares may be from summing to 1: those of 16 bits, or written with few digits, are."""


@dataclass(frozen=True)
class Scaling:
    """``softmax(log p / T) C`` of class probabilities, ``sigmoid(logit p / T + b)`` of an attribute's."""

    temperature: float = 1.0
    shift: float = 0.0
    confusion: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    """C, K rows; none is the identity."""

    def __call__(self, p: Tensor, classes: bool) -> Tensor:
        """Return probabilities ``[N, K]`` or ``[N, 1]`` under it, in float64."""
        q = tempered(p.double(), self.temperature, self.shift, classes)
        return q @ q.new_tensor(self.confusion) if self.confusion else q

    def as_json(self) -> Metrics:
        """Return what :meth:`of_json` reads."""
        rows = [list(row) for row in self.confusion]
        return {"temperature": self.temperature, "shift": self.shift, "confusion": rows}

    @classmethod
    def of_json(cls, saved: Metrics, size: int) -> Scaling:
        """Return a scaling of K = ``size`` classes, or of an attribute, 0.

        :raises ValueError: it is none.
        """
        t, b = float(saved["temperature"]), float(saved["shift"])
        rows = tuple(tuple(map(float, row)) for row in saved["confusion"])
        shares = all(len(row) == size and min(row) >= 0 and abs(sum(row) - 1) < ROUNDING for row in rows)
        if not 0 < t < math.inf or not math.isfinite(b) or (size and b) or len(rows) not in (0, size) or not shares:
            raise ValueError("other labels")
        return cls(t, b, rows)


def tempered(p: Tensor, t: float, b: float, classes: bool) -> Tensor:
    """Return ``softmax(log p / T)`` of ``[N, K]``, or ``sigmoid(logit p / T + b)`` of ``[N, A]``; of float64."""
    if classes:
        return (p.clamp_min(SMALLEST_P).log() / t).softmax(-1)
    eps = torch.finfo(torch.float32).eps
    inner = p.clamp(SMALLEST_P, 1 - eps / 2)  # the largest float32 below 1
    return ((inner.log() - (-inner).log1p()) / t + b).sigmoid()


def likelihood(p: Tensor, y: Tensor, classes: bool) -> Tensor:
    """The probability of each label: ``[N]`` or ``[N, A]``."""
    if classes:
        return p.gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    return torch.where(y == 1, p, 1 - p)


def nll(p: Tensor, y: Tensor, classes: bool) -> float:
    """The negative log-likelihood of the labels, nats, summed."""
    return -float(likelihood(p, y, classes).clamp_min(SMALLEST).log().sum())


def fitted(probs: Tensor, y: Tensor, classes: bool) -> tuple[Scaling, list[tuple[Scaling, Tensor]]]:
    """Return the scaling that makes known labels most probable, of those kinds that help.

    Of the probabilities as they are, a temperature (of an attribute with a shift), and of classes a temperature and C,
    it is the one that, fitted to four fifths of the labels, makes the last fifth most probable, in the mean over
    fifths. With fewer than 20 labels they stay as they are; C needs ten a class, and is left out above 100 classes.

    :return: beside it the scalings that were fitted to four fifths, each with the rows of the last one.

    Source: Guo, Pleiss, Sun, Weinberger (2017), arXiv:1706.04599; with b, Platt's scaling (1999); with C,
    :mod:`~.confusion`. The choice among them and the priors are this library's.
    """
    p, n = probs.double(), len(y)
    as_it_is = Scaling(), [(Scaling(), torch.arange(n))]
    if n < FEWEST:
        return as_it_is
    kinds: list[Callable[[Tensor, Tensor, bool], Scaling]] = [by_temperature]
    if classes and p.shape[-1] <= MOST_CLASSES and n >= ENOUGH * p.shape[-1]:
        kinds.append(by_confusion)
    fold = torch.randperm(n, generator=torch.Generator().manual_seed(0)) % FOLDS
    parts = [((fold != k).nonzero().squeeze(1), (fold == k).nonzero().squeeze(1)) for k in range(FOLDS)]
    least, best = nll(p, y, classes), as_it_is
    for kind in kinds:
        folds = [(kind(p[rest], y[rest], classes), own) for rest, own in parts]
        loss = sum(nll(scaling(p[own], classes), y[own], classes) for scaling, own in folds)
        if loss < least:
            least, best = loss, (kind(p, y, classes), folds)
    return best


def by_temperature(p: Tensor, y: Tensor, classes: bool) -> Scaling:
    """Return T and b of the least negative log-likelihood, under ``log T ~ N(0, 0.5²)`` and ``b ~ N(0, 1)``.

    Without a prior, labels that are all predicted rightly would have T = 0. Of classes b is 0.
    """
    from scipy.optimize import minimize

    def scaling(at: np.ndarray) -> Scaling:
        return Scaling(math.exp(float(at[0])), 0.0 if classes else float(at[1]))

    def objective(at: np.ndarray) -> float:
        return nll(scaling(at)(p, classes), y, classes) + float(np.square(at / spreads).sum()) / 2

    spreads = np.array([PRIOR] if classes else [PRIOR, SHIFT_PRIOR])
    bounds = [(-3.0, 3.0)] if classes else [(-3.0, 3.0), (-5.0, 5.0)]
    return scaling(minimize(objective, np.zeros(len(bounds)), method="L-BFGS-B", bounds=bounds).x)


def by_confusion(p: Tensor, y: Tensor, classes: bool) -> Scaling:
    """Return T and C that are most probable given the labels, under the same prior and C's own."""
    t, confusion = most_probable_confusion(p.clamp_min(SMALLEST_P).log(), y, PRIOR)
    return Scaling(t, 0.0, tuple(map(tuple, confusion.tolist())))
