"""Which points to label next: representative ones that no label is near, the more so the more doubt they stand for."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from ..errors import InputError
from ..labels import MISSING, ClassLabels
from .evaluate import batched
from .sites import check_data_of
from .uncertainty import entropy

MOST_POINTS = 10_000
MOST_CLUSTERS = 500  # for labelled points


def suggest(vae: nn.Module, x: Any, y: Any = None, *, n: int = 20, seed: int = 0) -> pd.DataFrame:
    """Choose ``n`` of the points without a label to be labelled next.

    The points are clustered at the standardised means of q(z | x), as many clusters as there are labelled and asked
    points together, by k-means with the weights ::

        w = 1/N + H / Σ H,        H the entropy of q(y | x)

    so that half of the mass lies where the points are, half where the doubt is. A cluster with few labels comes first,
    of those the heavier one, and of a cluster the point nearest to its centre. While labels are few this asks for
    representative points of what no label covers yet: a model of ten labels is sure of much that it has wrong, and its
    doubt alone is a bad guide. Later it asks for what many doubtful points are like, never twice for the same.

    Sources: Hacohen, Dekel, Weinshall (2022), arXiv:2202.02794 (TypiClust: clusters without a label); Zhdanov (2019),
    arXiv:1901.05954 (k-means weighted by doubt). Choices: the weights' two halves, and the centre in place of the
    densest point. What it saves: results/suggest.md. Only the ReVAE and its like have a q(y | z) that varies with z, so
    that the mutual information of y and z (BALD) is no measure for all models; the entropy of q(y | x) is.

    Of more than 10,000 points without a label, or with one, 10,000 are drawn at random and the others left out.

    :param vae: a model with ``predict_proba(x)`` and ``encode(x)``.
    :param y: labels, -1 where missing; None for none. Points with any known label are not suggested.
    :returns: one row a point in the order chosen, ``index`` its row of x: ``entropy`` of q(y | x) in nats, and of class
        labels ``first``, ``p_first``, ``second``, ``p_second``, the two most probable.
    :raises InputError: a model that does not classify, or fewer than ``n`` points without a label.

    Example::

        rows = ps.suggest(vae, x, y, n=20).index
    """
    labels = getattr(vae, "labels", None)
    if labels is None or not hasattr(vae, "predict_proba"):
        raise InputError(f"suggest: a {type(vae).__name__} predicts no labels; a model that does is needed")
    x, known = check_data_of(vae, x, y)
    missing = torch.ones(len(x), dtype=torch.bool)
    if known is not None:
        missing = (known == MISSING).reshape(len(x), -1).all(1).cpu()
    if not 1 <= n <= int(missing.sum()):
        raise InputError(f"n: {n}; from 1 to {int(missing.sum())} points without a label are there")
    generator = torch.Generator().manual_seed(seed)
    open_rows, labelled = (some(rows.nonzero().squeeze(-1), n, generator) for rows in (missing, ~missing))
    classes, x = isinstance(labels, ClassLabels), x[torch.cat([open_rows, labelled]).to(x.device)]
    probs = batched(vae, vae.predict_proba, x, seed=seed).double()  # type: ignore[arg-type]
    pair: Any = vae
    z = batched(vae, lambda part: pair.encode(part).mean.flatten(1), x, seed=seed).double()
    chosen = representatives(z, entropy(probs, classes), len(open_rows), n, seed)
    table = pd.DataFrame({"entropy": entropy(probs, classes)[chosen].numpy()})
    table.index = pd.Index(open_rows[chosen].tolist(), name="index")
    if classes and labels.size > 1:
        p, k = probs[chosen].topk(2)
        for i, place in enumerate(("first", "second")):
            table[place] = [labels.names[j] for j in k[:, i].tolist()]
            table[f"p_{place}"] = p[:, i].numpy()
    return table


def some(rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """All of the rows, or a random part of them that has at least n, in order."""
    most = max(n, MOST_POINTS)
    return rows if len(rows) <= most else rows[torch.randperm(len(rows), generator=generator)[:most]].sort().values


def representatives(z: Tensor, doubt: Tensor, n_open: int, n: int, seed: int = 0) -> Tensor:
    """Rows of n of the first ``n_open`` of the points ``z [N, D]``; the others are those with a label."""
    points = ((z - z.mean(0)) / z.std(0, unbiased=False).clamp_min(1e-12)).numpy()
    total = float(doubt.sum())
    weights = 1 / len(z) + (doubt / total).numpy() if total > 0 else np.full(len(z), 1 / len(z))
    k = min(len(z) - n_open, MOST_CLUSTERS) + n
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters
        means = KMeans(min(k, len(z)), n_init=3, random_state=seed).fit(points, sample_weight=weights)
    cluster = means.labels_
    mass = np.bincount(cluster, weights, minlength=k)
    labelled = np.bincount(cluster[n_open:], minlength=k)
    away = np.linalg.norm(points - means.cluster_centers_[cluster], axis=1)[:n_open]
    cluster = cluster[:n_open]
    order = np.lexsort((away, cluster))
    first = np.searchsorted(cluster[order], cluster[order])
    rank = np.empty(n_open, dtype=int)  # in its cluster, the nearest to the centre first
    rank[order] = np.arange(n_open) - first
    return torch.from_numpy(np.lexsort((cluster, -mass[cluster], labelled[cluster] + rank))[:n].copy())
