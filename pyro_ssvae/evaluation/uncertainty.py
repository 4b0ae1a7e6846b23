"""The uncertainty of a model about each point, by its source, and p(y | x) of the generative model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..errors import InputError, whole_number
from ..infer import bounds
from ..infer.batched import checked, evaluating
from ..infer.pairs import PairLike, as_pair, name_of_pair
from ..infer.protocols import Classifies
from ..infer.traces import need_site, traced
from ..labels import MISSING, ClassLabels, Labels, labels_of
from .sites import sites

if TYPE_CHECKING:
    import pandas as pd

WHY = {"label": "label_entropy", "reconstruction": "reconstruction", "KL of z": "kl"}


def class_posterior(vae: PairLike, x: ArrayLike, *, num_samples: int = 1000, seed: int = 0) -> Tensor:
    """Return ``p(y | x)`` of the generative model, beside the guide's q(y | x) that ``predict_proba`` gives::

        p(y | x) = p(x, y) / Σ_y' p(x, y'),     p(x, y) ≈ 1/S Σ_s p(x, y, z_s) / q(z_s | x, y)

    The sum over labels is exact; the integral over z is an importance-weighted mean over ``num_samples`` draws (for
    all values of y from the same random numbers). The result is exact in the limit of many draws only: on digits its
    standard deviation is about 0.009 at 100 draws and 0.002 at 1,000, up to 0.02 for a point between two classes
    (0.09 at 100). Where the two differ, the class head has not caught up with the decoder, or the other way round.

    :param vae: a pair with ``labels`` whose model has a site ``y``.
    :returns: ``[B, K]``, or ``[B, A]`` the probabilities that each attribute is 1, the others summed over.
    :raises InputError: a model that has no p(x, y).
    """
    pair = as_pair(vae)
    labels = labels_of(pair)
    if labels is None:
        raise InputError(f"class_posterior: {name_of_pair(pair)} has no labels; a module with labels is needed")
    points, _ = checked(pair, x)
    need_joint(pair, points, labels)

    def log_p(y: Tensor) -> Tensor:
        with evaluating(pair, seed):
            rows = y.expand(len(points), *y.shape)
            return bounds.log_likelihood(pair, points, rows, num_samples=num_samples).double()

    if isinstance(labels, ClassLabels):
        return possible(torch.stack([log_p(torch.tensor(k)) for k in range(labels.size)], -1)).softmax(-1)
    ones = []
    for i in range(labels.size):
        y = torch.full((2, labels.size), MISSING)
        y[:, i] = torch.arange(2)
        ones.append(possible(torch.stack([log_p(value) for value in y], -1)).softmax(-1)[:, 1])
    return torch.stack(ones, -1)


def possible(log_p: Tensor) -> Tensor:
    """Return ``log p(x, y)`` of every y; raise :class:`InputError` where all are -inf."""
    if bool((never := (log_p == -torch.inf).all(-1)).any()):
        raise InputError(f"class_posterior: x: row {int(never.nonzero()[0])} has a probability of 0 with every label; "
                         "points in the support of the model's x are needed")  # fmt: skip
    return log_p


def need_joint(pair: nn.Module, x: Tensor, labels: Labels) -> None:
    """Raise :class:`InputError` unless the model has sites x and y, so that it has a p(x, y)."""
    with evaluating(pair, 0):
        p, _ = traced(pair, x[:2], labels.check(None, len(x[:2]), x.device))
    for name in ("x", "y"):
        need_site(p, name, f"class_posterior: {name_of_pair(pair)} has no p(x, y)")


def uncertainty(
    vae: PairLike, x: ArrayLike, *, num_samples: int = 8, seed: int = 0, batch_size: int = 500
) -> pd.DataFrame:
    """Return the parts of a model's uncertainty about each point, labels unseen: one row a point, nats.

    ``label_entropy`` is the entropy of q(y | x), summed over attributes; ``reconstruction`` is -E_q[log p(x | z)];
    ``kl`` is E_q[log q(z | x) - log p(z)]: how much the point's z tells beyond the prior. The expectations are means
    over ``num_samples`` draws. A quantity that a model does not have is absent; so it is with a pair of one's own.
    """
    import pandas as pd

    pair = as_pair(vae)
    num_samples, batch_size = whole_number("num_samples", num_samples), whole_number("batch_size", batch_size)
    points, _ = checked(pair, x)
    parts = []
    for i, rows in enumerate(points.split(batch_size)):
        s = sites(pair, rows, num_samples=num_samples, seed=seed + i)
        of_kind = {kind: list(group.index) for kind, group in s.table.groupby("kind")}
        part = pd.DataFrame(index=s.log_p.index)
        enumerated = [name for name in of_kind.get("enumerated", []) if name in s.log_q]
        if enumerated and not isinstance(pair, Classifies):
            part["label_entropy"] = -s.log_q[enumerated].sum(axis=1)
        if of_kind.get("observed"):
            part["reconstruction"] = -s.log_p[of_kind["observed"]].sum(axis=1)
        z = [name for name in of_kind.get("latent", []) if name in s.log_q and name != "y"]
        if z:
            part["kl"] = (s.log_q[z] - s.log_p[z]).sum(axis=1)
        parts.append(part)
    found = pd.concat(parts, ignore_index=True)
    if isinstance(pair, Classifies):
        with evaluating(pair, seed):
            probs = pair.predict_proba(points).cpu().double()
        found.insert(0, "label_entropy", entropy(probs, isinstance(pair.labels, ClassLabels)).numpy())
    there = (found != 0).any() | (found.columns == "label_entropy")  # 0 for all where the model is sure of each
    return found.loc[:, there].rename_axis("point")


def entropy(probs: Tensor, classes: bool) -> Tensor:
    """Return the entropy of ``[..., K]`` class, or of ``[..., A]`` independent attribute probabilities, in nats."""
    p = probs if classes else torch.stack([1 - probs, probs], -1)
    h = torch.special.entr(p).sum(-1)
    return h if classes else h.sum(-1)


def most_uncertain(
    vae: PairLike, x: ArrayLike, *, n: int = 10, by: str | None = None, num_samples: int = 8, seed: int = 0
) -> pd.DataFrame:
    """Return the points that a model is least sure of, the worst first, and which part of its uncertainty stands out.

    Each part of :func:`doubts` is put in standard deviations above its mean over the given points; ``score`` is
    the largest of them and ``why`` names it: ``label``, ``reconstruction`` or ``KL of z``.

    :param n: how many.
    :param by: one of these words, to rank by it alone.
    :returns: columns ``score``, ``why``, those of :func:`doubts` and, of class labels, the two most probable
        classes and their probabilities (``first``, ``p_first``, ``second``, ``p_second``); the index is the row of x.
    :raises InputError: ``n`` below 1, a word that is none of these, or that the model does not have.

    Example::

        ps.least_sure(vae, x_test)  # any reason
        ps.least_sure(vae, x_test, by="label")
    """
    import pandas as pd

    pair = as_pair(vae)
    n = whole_number("n", n)
    points, _ = checked(pair, x)
    found = uncertainty(pair, points, num_samples=num_samples, seed=seed)
    reasons = {why: column for why, column in WHY.items() if column in found}
    if not reasons:
        raise InputError(f"least_sure: {name_of_pair(pair)} has no label, no latent and no x to be unsure of; one is "
                         "needed")  # fmt: skip
    if by is not None and by not in reasons:
        raise InputError(f"by: {by!r}; one of {', '.join(map(repr, reasons))} is needed")
    columns = [reasons[by]] if by is not None else list(reasons.values())
    spread = found[columns].std(ddof=0)
    z = ((found[columns] - found[columns].mean()) / spread.where(spread > 0, 1.0)).fillna(0.0)
    words = {column: why for why, column in WHY.items()}
    table = pd.DataFrame({"score": z.max(axis=1), "why": z.idxmax(axis=1).map(words)}).join(found)
    table = table.sort_values("score", ascending=False, kind="stable").head(n)
    if isinstance(pair, Classifies) and isinstance(pair.labels, ClassLabels) and len(pair.labels.names) > 1:
        with evaluating(pair, seed):
            probs, k = pair.predict_proba(points[torch.from_numpy(table.index.to_numpy(copy=True))]).cpu().topk(2)
        for i, place in enumerate(("first", "second")):
            table[place] = [pair.labels.names[j] for j in k[:, i].tolist()]
            table[f"p_{place}"] = probs[:, i].double().numpy()
    return table
