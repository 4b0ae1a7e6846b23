"""Active learning: which points to label next, representative ones far from any label, weighted by uncertainty."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..errors import InputError, whole_number
from ..infer.batched import batched, checked
from ..infer.protocols import Classifies, Encodes, require
from ..labels import MISSING, AttributeLabels, ClassLabels
from .uncertainty import entropy

if TYPE_CHECKING:
    import pandas as pd

ROWS = 500  # at a time
MOST_POINTS = 10_000
MOST_CLUSTERS = 500  # for labelled points


def query(vae: nn.Module, x: ArrayLike, y: ArrayLike | None = None, *, n: int = 20, seed: int = 0) -> pd.DataFrame:
    """Choose ``n`` of the points without a label to be labelled next.

    The points are clustered at the standardised means of q(z | x), by k-means with one cluster for each labelled point
    and each point to choose, and with the weights ::

        w = 1/N + H / Σ H,        H the entropy of q(y | x)

    so that half of the mass lies where the points are, half where the uncertainty is. Clusters with few labels come
    first, heavier ones before lighter ones; of a cluster, the point nearest to its centre. While labels are few this
    chooses representative points of what no label covers yet: a model of ten labels is often wrong and sure of it, so
    that its uncertainty alone is a bad guide. Later it chooses what many uncertain points resemble, and never the same
    twice.

    Sources: Hacohen, Dekel, Weinshall (2022), arXiv:2202.02794 (TypiClust: clusters without a label); Zhdanov (2019),
    arXiv:1901.05954 (k-means weighted by uncertainty). Choices: the weights' two halves, and the centre in place of the
    densest point. What it saves: results/suggest.md. q(y | z) varies with z in the ReVAE and its like alone, so that
    the mutual information of y and z (BALD) is no measure for all models; the entropy of q(y | x) is.

    Of more than 10,000 points without a label, or with one, 10,000 are drawn at random and the others left out.

    :param vae: a model with ``predict_proba(x)`` and ``encode(x)``.
    :param y: labels, -1 where missing; None for none. Points with any known label are not chosen.
    :returns: one row a point in the order chosen, ``index`` its row of x: ``entropy`` of q(y | x) in nats; of class
        labels ``first``, ``p_first``, ``second``, ``p_second``, the two most probable; of attributes ``p_NAME`` each.
    :raises InputError: a model that does not classify, or fewer than ``n`` points without a label.

    Example::

        rows = ps.suggest(vae, x, y, n=20).index
    """
    import pandas as pd

    classifier, encoder = require(vae, Classifies), require(vae, Encodes)
    points, known = checked(vae, x, y, own=True)
    missing = torch.ones(len(points), dtype=torch.bool)
    if known is not None:
        missing = (known == MISSING).reshape(len(points), -1).all(1).cpu()
    n = whole_number("n", n)
    if n > int(missing.sum()):
        raise InputError(f"n: {n}; from 1 to {int(missing.sum())} points without a label are there")
    generator = torch.Generator().manual_seed(seed)
    open_rows, labelled = (some(rows.nonzero().squeeze(-1), n, generator) for rows in (missing, ~missing))
    labels, points = classifier.labels, points[torch.cat([open_rows, labelled]).to(points.device)]
    probs = batched(vae, classifier.predict_proba, points, rows=ROWS, seed=seed).cpu().double()
    means = batched(vae, lambda part: encoder.encode(part).mean.flatten(1), points, rows=ROWS, seed=seed)
    h = entropy(probs, isinstance(labels, ClassLabels))
    chosen = representatives(means.cpu().double(), h, len(open_rows), n, seed)
    table = pd.DataFrame({"entropy": h[chosen].numpy()})
    table.index = pd.Index(open_rows[chosen].tolist(), name="index")
    if isinstance(labels, ClassLabels) and labels.size > 1:
        p, k = probs[chosen].topk(2)
        for i, place in enumerate(("first", "second")):
            table[place] = [labels.names[j] for j in k[:, i].tolist()]
            table[f"p_{place}"] = p[:, i].numpy()
    if isinstance(labels, AttributeLabels):
        table[[f"p_{name}" for name in labels.names]] = probs[chosen].numpy()
    return table


def some(rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return all of the rows or, of very many, a random part that has at least n, in order."""
    most = max(n, MOST_POINTS)
    return rows if len(rows) <= most else rows[torch.randperm(len(rows), generator=generator)[:most]].sort().values


def representatives(z: Tensor, uncertainty: Tensor, n_open: int, n: int, seed: int = 0) -> Tensor:
    """Return rows of n of the first ``n_open`` of the points ``z [N, D]``; the others are those with a label."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    points = ((z - z.mean(0)) / z.std(0, unbiased=False).clamp_min(1e-12)).numpy()
    total = float(uncertainty.sum())
    weights = 1 / len(z) + (uncertainty / total).numpy() if total > 0 else np.full(len(z), 1 / len(z))
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
