"""Prediction sets by split conformal inference: the labels that are as probable as the true ones mostly were.

A label's score is its log-odds, ``s(x, y) = log p(y | x) - log(1 - p(y | x))``. With scores ``s_(1) ≤ … ≤ s_(n)`` of
the true labels of n calibration points, which training did not learn from, the set of a new point is ::

    C(x) = { y : s(x, y) ≥ t } ∪ { argmax_y p(y | x) },    t = s_(r),    r = ⌊(n + 1)(1 - coverage)⌋

Calibration points and the new point are exchangeable, so that ``P(s < s_(j)) ≤ j / (n + 1)``: the labels of score t or
more hold the true one with probability ``coverage`` or, by less than 1 / (n + 1), more, averaged over points. A
threshold between two ranks would cover less where scores lie in two groups, of right and of wrong answers. Below rank 1
(90 % need 9 points) the set holds every label.

The most probable label is always in the set (choice): a person needs at least one answer. Without it a set is empty
where no label is as probable as the true one is in 90 of 100 points, as must happen wherever the model is right in
more than 90. A set that has one more label covers no less: ``P(y ∈ C(x)) ≥ coverage`` holds as before, and where the
model is right in 97 of 100 points, sets of 90 % cover at least 97.

Sources: Vovk, Gammerman, Shafer (2005); Sadinle, Lei, Wasserman (2019), arXiv:1609.00451, for this score.
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


def threshold(scores: Tensor, coverage: float) -> float:
    """Return t of n calibration scores ``[n]``; minus infinity where they are too few for this coverage.

    :raises InputError: a coverage that is not between 0 and 1.
    """
    share = plain_value(coverage)
    if not isinstance(share, (int, float)) or not 0 < share < 1:
        raise InputError(f"coverage: {coverage!r}; a share between 0 and 1, such as 0.9, is needed")
    rank = math.floor((len(scores) + 1) * (1 - share) + 1e-9)
    return float(scores.double().kthvalue(rank).values) if rank >= 1 else -math.inf


def label_sets(scores: Tensor, thresholds: Tensor, shown: Tensor | None = None) -> Tensor:
    """Return which labels are in each set, bool, shaped as ``scores``; the most probable one always is.

    Of labels that are equally probable but for rounding, all are in.

    :param scores: ``[N, K]`` for classes, ``[N, A, 2]`` for attributes.
    :param thresholds: ``[]`` for classes, ``[A]`` for attributes.
    :param shown: scores by which a label is the most probable, of the probabilities that people see; by default these.
    """
    shown = scores if shown is None else shown
    cut = thresholds if scores.dim() == 2 else thresholds.unsqueeze(-1)
    return (scores >= cut) | (shown >= shown.amax(-1, keepdim=True) - ROUNDING)
