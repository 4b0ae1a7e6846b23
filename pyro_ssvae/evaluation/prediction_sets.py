"""Prediction sets by conformal inference: the labels that are as probable as the true ones mostly were.

A label's score is its log-odds, ``s(x, y) = log p(y | x) - log(1 - p(y | x))``. With scores ``s_(1) ≤ … ≤ s_(n)`` of
the true labels of n calibration points, which training did not learn from, the set of a new point is ::

    C(x) = { y : s(x, y) ≥ t } ∪ { argmax_y p(y | x) },    t = s_(r),    r = ⌊(n + 1)(1 - coverage)⌋

Calibration points and the new point are exchangeable, so that ``P(s < s_(j)) ≤ j / (n + 1)``: the labels of score t or
more hold the true one with probability ``coverage`` or, by less than 1 / (n + 1), more, averaged over points. A
threshold between two ranks would cover less where scores lie in two groups, of right and of wrong answers. Below rank 1
(90 % need 9 points) the set holds every label.

Where probabilities are scaled by what was fitted to the same labels, each point has the scores under the scaling of the
fold that holds it, and a new point's are compared with each fold's under that fold's scaling (CV+) ::

    C(x) = { y : #{ i : s_i ≤ s_k(i)(x, y) } ≥ r }

which covers 2 coverage - 1 whatever the data, and in practice as much as is said.

The most probable label is always in the set (choice): a person needs at least one answer. Without it a set is empty
where no label is as probable as the true one is in 90 of 100 points, as must happen wherever the model is right in
more than 90. A set that has one more label covers no less: ``P(y ∈ C(x)) ≥ coverage`` holds as before, and where the
model is right in 97 of 100 points, sets of 90 % cover at least 97.

Sources: Vovk, Gammerman, Shafer (2005); Sadinle, Lei, Wasserman (2019), arXiv:1609.00451, for this score; Barber,
Candès, Ramdas, Tibshirani (2021), arXiv:1905.02928, for CV+.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InputError, plain_value

SMALLEST = 1e-45
"""Probabilities below this count as this: sparsemax gives zeros."""
ROUNDING = 1e-9
"""Scores that differ by less are of equal probabilities."""


def log_odds(probs: Tensor, classes: bool) -> Tensor:
    """Return the scores of all labels: float64 ``[N, K]`` of class probabilities, ``[N, A, 2]`` of attributes' ones.

    Of classes ``1 - p`` is the sum of the others, which tells apart probabilities that round to 1.
    """
    p = probs.double()
    if not classes:
        one = p.clamp_min(SMALLEST).log() - (1 - p).clamp_min(SMALLEST).log()
        return torch.stack([-one, one], -1)
    place = p.argmax(-1, keepdim=True)
    others = p.sum(-1, keepdim=True) - p
    rest = p.scatter(-1, place, 0.0).sum(-1, keepdim=True)  # exact where the top probability is close to 1
    others = torch.where(torch.arange(p.shape[-1], device=p.device) == place, rest, others)
    return p.clamp_min(SMALLEST).log() - others.clamp_min(SMALLEST).log()


def true_scores(scores: Tensor, y: Tensor) -> Tensor:
    """Return the scores of known labels: ``[N]`` of ``[N, K]``, ``[N, A]`` of ``[N, A, 2]``; NaN where missing (-1)."""
    found = scores.gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    return torch.where(y < 0, torch.nan, found)


def rank(n: int, coverage: float) -> int:
    """Return r of n calibration scores; 0, which leaves every label in, where they are too few for this coverage.

    :raises InputError: a coverage that is not between 0 and 1.
    """
    share = plain_value(coverage)
    if not isinstance(share, (int, float)) or not 0 < share < 1:
        raise InputError(f"coverage: {coverage!r}; a share between 0 and 1, such as 0.9, is needed")
    return math.floor((n + 1) * (1 - share) + 1e-9)


def places(scores: Tensor, known: Tensor) -> Tensor:
    """Return how many of the known scores ``[n]`` are at most each score: int64, shaped as ``scores``."""
    return torch.searchsorted(known.sort().values, scores + ROUNDING, right=True)


def label_sets(inside: Tensor, shown: Tensor) -> Tensor:
    """Return which labels are in each set, bool: those that are inside, and the most probable one always.

    Of labels that are equally probable but for rounding, all are in.

    :param inside: bool, ``[N, K]`` for classes, ``[N, A, 2]`` for attributes.
    :param shown: scores by which a label is the most probable, of the probabilities that people see.
    """
    return inside | (shown >= shown.amax(-1, keepdim=True) - ROUNDING)
