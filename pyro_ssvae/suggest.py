"""Which points to label next: those whose label would change the model most, and not all of them for one reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .doubt import entropy
from .errors import InputError
from .evaluate import batched
from .labels import MISSING, ClassLabels
from .sites import check_data_of


def suggest(vae: nn.Module, x: Any, y: Any = None, *, n: int = 20, seed: int = 0) -> pd.DataFrame:
    """Choose ``n`` of the points without a label to be labelled next.

    Each point stands at ``g = (π - onehot(argmax π)) ⊗ (1, z)``, with π = q(y | x) and z the standardised mean of
    q(z | x): how the class head would move if the model's own guess were the label. Its length is the doubt about the
    label, its direction says between which classes and of which looks. The points are drawn as the first centres of
    k-means++: the longest g first, then each with probability in proportion to its squared distance to those chosen
    before, or to g = 0, where the sure points are. So they are doubtful and differ from each other. (With attributes,
    π - 1[π > 1/2] of each.)

    Source: Ash, Zhang, Krishnamurthy, Langford, Agarwal (2020), arXiv:1906.03671 (BADGE). Choices: z in the place of
    the last layer's features, and g = 0 as a centre from the start, without which the second point is a sure one.
    Only the ReVAE and its like have a q(y | z) that varies with z, so that the mutual information of y and z (BALD) is
    no measure for all models; the entropy of q(y | x) is.

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
    open_rows = torch.arange(len(x))
    if known is not None:
        open_rows = (known == MISSING).reshape(len(x), -1).all(1).nonzero().squeeze(-1).cpu()
    if not 1 <= n <= len(open_rows):
        raise InputError(f"n: {n}; from 1 to {len(open_rows)} points without a label are there")
    classes, x = isinstance(labels, ClassLabels), x[open_rows.to(x.device)]
    probs = batched(vae, vae.predict_proba, x, seed=seed).double()  # type: ignore[arg-type]
    pair: Any = vae
    z = batched(vae, lambda part: pair.encode(part).mean.flatten(1), x, seed=seed).double()
    chosen = k_means_plus_plus(gradients(probs, z, classes), n, seed)
    table = pd.DataFrame({"entropy": entropy(probs, classes)[chosen].numpy()})
    table.index = pd.Index(open_rows[chosen].tolist(), name="index")
    if classes and labels.size > 1:
        p, k = probs[chosen].topk(2)
        for i, place in enumerate(("first", "second")):
            table[place] = [labels.names[j] for j in k[:, i].tolist()]
            table[f"p_{place}"] = p[:, i].numpy()
    return table


def gradients(probs: Tensor, z: Tensor, classes: bool) -> Tensor:
    """``(π - guess) ⊗ (1, z)`` of each point: ``[N, K (1 + D)]``, z in standard deviations over √D."""
    guess = torch.nn.functional.one_hot(probs.argmax(-1), probs.shape[-1]) if classes else (probs > 0.5)
    z = (z - z.mean(0)) / z.std(0, unbiased=False).clamp_min(1e-12) / max(z.shape[1], 1) ** 0.5
    features = torch.cat([torch.ones(len(z), 1, dtype=z.dtype), z], 1)
    return ((probs - guess.to(probs)).unsqueeze(-1) * features.unsqueeze(1)).flatten(1)


def k_means_plus_plus(points: Tensor, n: int, seed: int = 0) -> Tensor:
    """Rows of n of the ``points [N, D]``: the longest, then each in proportion to its squared distance to those before
    and to 0. Where all distances are 0, the first row that is left.
    """
    generator = np.random.default_rng(seed)
    nearest = points.square().sum(1)
    chosen = [int(nearest.argmax())]
    for _ in range(n - 1):
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
        nearest[chosen] = 0
        total = float(nearest.sum())
        if total > 0:
            chosen.append(int(generator.choice(len(points), p=(nearest / total).numpy())))
        else:
            left = torch.ones(len(points), dtype=torch.bool)
            left[chosen] = False
            chosen.append(int(left.nonzero()[0]))
    return torch.tensor(chosen)
