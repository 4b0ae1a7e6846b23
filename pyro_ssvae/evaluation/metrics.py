"""Metrics of predictions and clusters, as numbers ready for JSON. Every row given here has a known label."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .bootstrap import Metrics, estimates, finite_or_none, masked, resample, wilson

SMALLEST = torch.finfo(torch.float32).eps
"""Probabilities below this count as this in a negative log-likelihood, as in scikit-learn: sparsemax gives zeros."""

RESAMPLES = 500  # of the bootstrap
OF_ATTRIBUTES = (
    *("accuracy", "majority_accuracy", "average_precision", "auroc", "nll"),
    *("calibration_error", "calibration_error_by_chance"),
)


def confusion_matrix(y: Tensor, predicted: Tensor, size: int) -> Tensor:
    """Return counts int64 ``[K, K]``: row the true class, column the predicted one."""
    return torch.bincount(y * size + predicted, minlength=size * size).reshape(size, size)


def calibration_error(confidence: Tensor, hit: Tensor, bins: int = 15) -> float:
    """Return the expected calibration error ``Σ_b n_b/n |mean hit_b - mean confidence_b|`` over bins of equal width.

    :param confidence: probabilities ``[n]``.
    :param hit: ``[n]``, 1 where the event happened.
    """
    from torchmetrics.functional.classification import binary_calibration_error  # here, for it imports slowly

    # torchmetrics gives a confidence of exactly 1 a bin of its own, and takes one just above 1 for a logit
    return float(binary_calibration_error(confidence.double().clamp(0.0, 1.0 - 1e-9), hit.long(), n_bins=bins))


def chance_calibration_error(confidence: Tensor, bins: int = 15) -> float:
    """Return the calibration error to be expected of as many rows where every probability is right.

    ``sqrt(2/π) Σ_b sqrt(Σ_{i in b} p_i (1 - p_i)) / n``: the mean deviation of each bin's hits, taken as normal.

    :param confidence: probabilities ``[n]``.
    """
    p = confidence.double().clamp(0.0, 1.0)
    variances = torch.zeros(bins, dtype=torch.double, device=p.device)
    variances.index_add_(0, (p * bins).long().clamp_max(bins - 1), p * (1 - p))
    return math.sqrt(2 / math.pi) * float(variances.sqrt().sum()) / max(1, len(p))


def class_metrics(probs: Tensor, y: Tensor) -> Metrics:
    """Return metrics of class probabilities ``[n, K]`` against classes ``[n]``.

    ``accuracy_low`` and ``accuracy_high`` are the ends of its 95% interval (Wilson's).
    ``balanced_accuracy`` is the mean recall over the classes that occur; ``macro_f1`` the mean F1 over the classes that
    occur or are predicted; ``nll`` the mean of ``-log probs[y]`` in nats; ``calibration_error`` that of the top class,
    and ``calibration_error_by_chance`` what right probabilities would have on as many rows.
    """
    size = probs.shape[-1]
    probs, top = probs.double(), probs.argmax(-1)
    confusion = confusion_matrix(y, top, size)
    right, true, predicted = confusion.diagonal().double(), confusion.sum(1), confusion.sum(0)
    f1 = 2 * right / (true + predicted)
    low, high = wilson(int((top == y).sum()), len(y))
    return {
        "n": len(y),
        "accuracy": float((top == y).double().mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "balanced_accuracy": float((right / true)[true > 0].mean()),
        "macro_f1": float(f1[true + predicted > 0].mean()),
        "nll": float(-probs.gather(-1, y.unsqueeze(-1)).clamp_min(SMALLEST).log().mean()),
        "calibration_error": calibration_error(probs.amax(-1), top == y),
        "calibration_error_by_chance": chance_calibration_error(probs.amax(-1)),
        "confusion": confusion.tolist(),
    }


def attribute_metrics(probs: Tensor, y: Tensor, names: Sequence[str]) -> Metrics:
    """Return metrics of attribute probabilities ``[n, A]`` against attributes ``[n, A]``, missing ones (-1) left out.

    Each metric is the mean over the attributes that have it; ``per_attribute`` holds them one by one.
    ``majority_accuracy`` is the accuracy of guessing the test set's commoner value. An attribute without a known entry
    has None everywhere, one with a single value None for ``average_precision`` and ``auroc``. ``nll`` is in nats an
    entry; ``calibration_error`` is that of the probability of 1, ``calibration_error_by_chance`` that of right ones.
    ``accuracy_low`` and ``accuracy_high`` are the ends of the accuracy's 95% bootstrap interval over rows, Wilson's
    where all rows are alike.
    """
    per_attribute = {
        name: one_attribute(p[v >= 0], v[v >= 0])
        for name, p, v in zip(names, probs.double().unbind(-1), y.unbind(-1), strict=True)
    }
    means: Metrics = {"n": int((y >= 0).any(-1).sum())}
    for key in OF_ATTRIBUTES:
        known = [one[key] for one in per_attribute.values() if one[key] is not None]
        means[key] = sum(known) / len(known) if known else None
    hits = masked((probs > 0.5).long() == y, y >= 0)
    whole, _ = estimates(hits, names, resample(len(y), RESAMPLES, seed=0))
    low, high = whole["low"], whole["high"]
    if low is not None and low == high:  # as of rows that are all right, whose resamples are too
        low, high = wilson(round(means["accuracy"] * means["n"]), means["n"])
    means["accuracy_low"], means["accuracy_high"] = low, high
    return {**means, "per_attribute": per_attribute}


def one_attribute(p: Tensor, v: Tensor) -> Metrics:
    """Return metrics of the probabilities ``[n]`` of 1 against values ``[n]``."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    empty = dict.fromkeys(OF_ATTRIBUTES)
    if not len(v):
        return {"n": 0, **empty}
    share = float(v.double().mean())
    likelihood = torch.where(v == 1, p, 1 - p)
    result = {
        **empty,
        "n": len(v),
        "accuracy": float(((p > 0.5).long() == v).double().mean()),
        "majority_accuracy": max(share, 1 - share),
        "nll": float(-likelihood.clamp_min(SMALLEST).log().mean()),
        "calibration_error": calibration_error(p, v),
        "calibration_error_by_chance": chance_calibration_error(p),
    }
    if 0 < share < 1:
        result["average_precision"] = float(average_precision_score(v.numpy(), p.numpy()))
        result["auroc"] = float(roc_auc_score(v.numpy(), p.numpy()))
    return result


def match(found: Tensor, y: Tensor, size: int, fixed: Sequence[int] = ()) -> Tensor:
    """Return the class that each output stands for, int64 ``[size]``: one-to-one, with the most rows right (Hungarian).

    :param found: outputs or clusters ``[n]``, ``0 .. size - 1``.
    :param y: classes ``[n]``, ``0 .. size - 1``.
    :param fixed: outputs that stand for themselves; only the other outputs and classes are matched.
    """
    from scipy.optimize import linear_sum_assignment

    free = np.array([k for k in range(size) if k not in set(fixed)], dtype=int)
    counts = confusion_matrix(found, y, size).numpy()[np.ix_(free, free)]
    outputs, classes = linear_sum_assignment(counts, maximize=True)
    matching = torch.arange(size)
    matching[torch.from_numpy(free[outputs])] = torch.from_numpy(free[classes])
    return matching


def agreement(found: Tensor, y: Tensor) -> dict[str, float]:
    """Return normalised mutual information and adjusted Rand index of a partition ``[n]`` with the classes ``[n]``."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "nmi": float(normalized_mutual_info_score(y.numpy(), found.numpy())),
        "ari": float(adjusted_rand_score(y.numpy(), found.numpy())),
    }


def clustering_metrics(clusters: Tensor, y: Tensor, size: int) -> Metrics:
    """Return NMI, ARI and the accuracy of clusters ``[n]`` under the best one-to-one matching with classes ``[n]``."""
    matching = match(clusters, y, size)
    return {"accuracy": float((matching[clusters] == y).double().mean()), **agreement(clusters, y)}


def semi_unsupervised_metrics(predicted: Tensor, y: Tensor, size: int, known: Sequence[int]) -> Metrics:
    """Return metrics of predictions ``[n]`` where only the classes ``known`` had labels in training.

    Outputs of known classes stand for themselves; the others are matched one-to-one to the other classes.
    ``matching[k]`` is the class that output k stands for.
    """
    matching = match(predicted, y, size, known)
    right = (matching[predicted] == y).double()
    seen = torch.isin(y, torch.tensor(list(known), dtype=torch.long))
    return {
        "seen_accuracy": float(right[seen].mean()) if seen.any() else None,
        "unseen_accuracy": float(right[~seen].mean()) if (~seen).any() else None,
        "accuracy": float(right.mean()),
        **agreement(predicted, y),
        "matching": matching.tolist(),
    }


def json_ready(value: object) -> object:
    """Return nested metrics with None for every number that is not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    return finite_or_none(value) if isinstance(value, float) else value
