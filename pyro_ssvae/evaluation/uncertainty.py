"""Of which points a model is unsure, and why; and what its generative side believes of their labels."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..labels import MISSING, ClassLabels
from .evaluate import batched
from .sites import check_data_of, sites

WHY = {"label": "label_entropy", "reconstruction": "reconstruction", "KL of z": "kl"}


def class_posterior(vae: nn.Module, x: Any, *, num_samples: int = 100, seed: int = 0) -> Tensor:
    """``p(y | x)`` of the generative model itself, beside the guide's q(y | x) that ``predict_proba`` gives::

        p(y | x) = p(x, y) / Σ_y' p(x, y'),     p(x, y) ≈ 1/S Σ_s p(x, y, z_s) / q(z_s | x)

    The sum over labels is exact; the integral over z is an importance-weighted mean over ``num_samples`` draws (for
    all values of y from the same random numbers), so that the result is exact in the limit of many draws only. Where
    the two differ, the guide's class head has not caught up with the decoder, or the other way round.

    :param vae: a model with labels and ``log_likelihood(x, y, num_samples=)``.
    :returns: ``[B, K]``, or ``[B, A]`` the probabilities that each attribute is 1, the others summed over.
    :raises InputError: a model that has no p(x, y).
    """
    labels = getattr(vae, "labels", None)
    if labels is None or not hasattr(vae, "log_likelihood") or not hasattr(vae, "predict_proba"):
        raise InputError(f"class_posterior: a {type(vae).__name__} has no p(x, y); a generative model with labels has")
    x, _ = check_data_of(vae, x, None)

    pair: Any = vae

    def log_p(y: Tensor) -> Tensor:
        def verb(part: Tensor) -> Tensor:
            value: Tensor = pair.log_likelihood(part, y.expand(len(part), *y.shape), num_samples=num_samples)
            return value

        return batched(vae, verb, x, seed=seed).double()

    if isinstance(labels, ClassLabels):
        return torch.stack([log_p(torch.tensor(k)) for k in range(labels.size)], -1).softmax(-1)
    ones = []
    for i in range(labels.size):
        y = torch.full((2, labels.size), MISSING)
        y[:, i] = torch.arange(2)
        ones.append(torch.stack([log_p(value) for value in y], -1).softmax(-1)[:, 1])
    return torch.stack(ones, -1)


def doubts(vae: nn.Module, x: Any, *, num_samples: int = 8, seed: int = 0, batch_size: int = 500) -> pd.DataFrame:
    """What a model's uncertainty about each point is made of, labels unseen: one row a point, nats.

    ``label_entropy`` is the entropy of q(y | x), summed over attributes; ``reconstruction`` is -E_q[log p(x | z)];
    ``kl`` is E_q[log q(z | x) - log p(z)]: how much the point's z tells beyond the prior. The expectations are means
    over ``num_samples`` draws. A quantity that a model does not have is absent; so it is with a pair of one's own.
    """
    x, _ = check_data_of(vae, x, None)
    parts = []
    for i, rows in enumerate(x.split(batch_size)):
        s = sites(vae, rows, num_samples=num_samples, seed=seed + i)
        of_kind = {kind: list(group.index) for kind, group in s.table.groupby("kind")}
        part = pd.DataFrame(index=s.log_p.index)
        enumerated = [name for name in of_kind.get("enumerated", []) if name in s.log_q]
        if enumerated and not hasattr(vae, "predict_proba"):
            part["label_entropy"] = -s.log_q[enumerated].sum(axis=1)
        if of_kind.get("observed"):
            part["reconstruction"] = -s.log_p[of_kind["observed"]].sum(axis=1)
        z = [name for name in of_kind.get("latent", []) if name in s.log_q]
        if z:
            part["kl"] = (s.log_q[z] - s.log_p[z]).sum(axis=1)
        parts.append(part)
    found = pd.concat(parts, ignore_index=True)
    if hasattr(vae, "predict_proba"):
        probs = batched(vae, vae.predict_proba, x, seed=seed).double()  # type: ignore[arg-type]
        found.insert(0, "label_entropy", entropy(probs, isinstance(vae.labels, ClassLabels)).numpy())
    return found.loc[:, (found != 0).any()].rename_axis("point")


def entropy(probs: Tensor, classes: bool) -> Tensor:
    """Entropy of ``[..., K]`` class probabilities, or of ``[..., A]`` independent attributes together, nats."""
    p = probs if classes else torch.stack([1 - probs, probs], -1)
    h = torch.special.entr(p).sum(-1)
    return h if classes else h.sum(-1)


def least_sure(
    vae: nn.Module, x: Any, *, n: int = 10, by: str | None = None, num_samples: int = 8, seed: int = 0
) -> pd.DataFrame:
    """The points that a model is least sure of, the worst first, and which part of its uncertainty stands out.

    Each of :func:`doubts` is put in standard deviations above its mean over the given points; ``score`` is the largest
    of the three and ``why`` names it: ``label``, ``reconstruction`` or ``KL of z``.

    :param n: how many.
    :param by: one of these three words, to rank by it alone.
    :returns: columns ``score``, ``why``, those of :func:`doubts` and, of class labels, the two most probable classes
        and their probabilities (``first``, ``p_first``, ``second``, ``p_second``); the index is the row of x.
    :raises InputError: a word that is none of these, or that the model does not have.

    Example::

        ps.least_sure(vae, x_test)  # any reason
        ps.least_sure(vae, x_test, by="label")
    """
    found = doubts(vae, x, num_samples=num_samples, seed=seed)
    reasons = {why: column for why, column in WHY.items() if column in found}
    if by is not None and by not in reasons:
        raise InputError(f"by: {by!r}; one of {', '.join(map(repr, reasons))} is needed")
    columns = [reasons[by]] if by is not None else list(reasons.values())
    spread = found[columns].std(ddof=0)
    z = ((found[columns] - found[columns].mean()) / spread.where(spread > 0, 1.0)).fillna(0.0)
    words = {column: why for why, column in WHY.items()}
    table = pd.DataFrame({"score": z.max(axis=1), "why": z.idxmax(axis=1).map(words)}).join(found)
    table = table.sort_values("score", ascending=False, kind="stable").head(n)
    labels = getattr(vae, "labels", None)
    if isinstance(labels, ClassLabels) and hasattr(vae, "predict_proba") and len(labels.names) > 1:
        rows = torch.as_tensor(x)[torch.from_numpy(table.index.to_numpy(copy=True))]
        rows, _ = check_data_of(vae, rows, None)
        probs, k = batched(vae, vae.predict_proba, rows, seed=seed).topk(2)  # type: ignore[arg-type]
        for i, place in enumerate(("first", "second")):
            table[place] = [labels.names[j] for j in k[:, i].tolist()]
            table[f"p_{place}"] = probs[:, i].double().numpy()
    return table
