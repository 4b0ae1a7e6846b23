"""How good a model is on held-out points: labels, likelihood, reconstruction, clusters, anomalies."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..data.dataset import Dataset
from ..data.inputs import read_data, read_whole
from ..errors import InputError, plain_value, whole_number
from ..infer import bounds
from ..infer.automatic import refuse_row_latents
from ..infer.batched import batched, checked, evaluating, in_units, like, need_numbers
from ..infer.pairs import PairLike, as_pair
from ..infer.protocols import Classifies, Encodes
from ..labels import MISSING, ClassLabels, Labels, labels_of
from .bootstrap import Metrics
from .generative import bounded, generative_metrics
from .metrics import (
    attribute_metrics,
    class_metrics,
    clustering_metrics,
    json_ready,
    semi_unsupervised_metrics,
)

CLUSTERED = 20_000
"""Rows that k-means sees at most."""


@dataclass(frozen=True)
class Held:
    """Held-out points of a pair, and how they are judged."""

    pair: nn.Module
    x: Tensor
    y: Tensor
    """int64 ``[N]`` or ``[N, A]``, -1 for missing; on the CPU."""
    labels: Labels | None
    seed: int
    batch_size: int

    def read(self, fn: Callable[[Tensor], Tensor]) -> Tensor:
        """``fn`` of some rows at a time, in evaluation mode, on the CPU."""
        return batched(self.pair, fn, self.x, rows=self.batch_size, seed=self.seed).cpu()

    @property
    def classes(self) -> int | None:
        """K; None where the labels are attributes, or there are none."""
        return self.labels.num_classes if isinstance(self.labels, ClassLabels) else None

    @property
    def known(self) -> Tensor:
        """The rows with a known label: bool ``[N]``."""
        return (self.y != MISSING).reshape(len(self.y), -1).any(-1)

    def rows(self, which: Tensor) -> Held:
        """Some of the rows."""
        return replace(self, x=self.x[which.to(self.x.device)], y=self.y[which])


def evaluate(
    model: PairLike,
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    num_samples: int = 100,
    batch_size: int = 500,
    seed: int = 0,
    likelihood_rows: int | Literal["auto"] | None = "auto",
    known_classes: Sequence[int] | None = None,
    left_out: Sequence[int] | None = None,
) -> Metrics:
    """Return the metrics that the pair and the labels allow, ready for JSON (a number that is not finite is None).

    ========================== ====================================================================================
    always                     ``rows``: N
    labels                     those of :func:`~.metrics.class_metrics` or :func:`~.metrics.attribute_metrics`, over the
                               known ones (``n`` rows)
    latents and likelihood     those of :func:`~.generative.generative_metrics`: ``elbo``, ``kl``, ``active_units``, ...
    ``clustering``             k-means on the latent means of all rows, K clusters (classes only)
    ``semi_unsupervised``      where ``known_classes`` leaves out some of y's:
                               :func:`~.metrics.semi_unsupervised_metrics`
    ``anomaly``                AUROC of each of :func:`anomaly_scores` for ``left_out`` classes against the other known
                               rows
    ========================== ====================================================================================

    The generative metrics are read off the pair's traces and never see y. The same call gives the same numbers; the
    global random state, and every module's training mode, are left as they were. Memory is bounded: rows are taken as
    many at a time as the number of classes allows, and draws one after another.

    :param model: the library's or one's own: a module with ``model`` and ``guide``, or the two as functions. A module
        without them is judged by the verbs that it has.
    :param x: ``[N, *input_shape]`` in any form that :func:`~pyro_ssvae.fit` takes; of a ``ps.data`` data set, and of a
        folder, an ``.npz`` file or a table that sets some apart, the test points.
    :param y: ``[N]`` or ``[N, A]``, -1 for missing, or the classes' names; None where nothing is known, or where x has
        labels of its own.
    :param num_samples: draws of the importance-weighted bound.
    :param batch_size: rows a call of ``predict_proba``, ``reconstruct`` and ``encode``.
    :param likelihood_rows: rows of the importance-weighted bound, at most; None for all; ``"auto"`` is 1,000,
        fewer where points have very many values.
    :param known_classes: classes that had labels in training; None for all. ``[]`` says that training saw no label:
        then what the model predicts has no agreed meaning, and only matched accuracies are given.
    :param left_out: classes that training never saw. Their rows count in ``anomaly`` and nowhere else.
    :raises InputError: where x is empty, y does not fit x or the model's labels, or a weight is no number.
    """
    num_samples, batch_size = whole_number("num_samples", num_samples), whole_number("batch_size", batch_size)
    if likelihood_rows is not None and likelihood_rows != "auto":
        likelihood_rows = whole_number("likelihood_rows", likelihood_rows)
    pair = as_module(model)
    need_numbers(pair)
    held, pixel_bits = held_out(pair, x, y, seed, batch_size)
    refuse_row_latents(held.pair, held.x, None, "evaluate")
    known_classes = class_numbers("known_classes", known_classes, held.classes)
    left_out = class_numbers("left_out", left_out, held.classes)
    result: Metrics = {}
    if left_out:
        out = torch.isin(held.y, torch.tensor(list(left_out)))
        result.update(anomaly_metrics(held, out))
        held = held.rows(~out)
        if not len(held.x):
            raise InputError("left_out: these classes leave no row to evaluate on")
    result["rows"] = len(held.x)
    result.update(label_metrics(held, known_classes))
    result.update(generative_metrics(held.pair, held.x, num_samples, likelihood_rows, seed, batch_size, pixel_bits))
    result.update(cluster_metrics(held))
    plain = json_ready(result)
    assert isinstance(plain, dict)
    return plain


def class_numbers(name: str, given: Sequence[int] | None, k: int | None) -> Sequence[int] | None:
    """Return an option that lists classes by their numbers; raise :class:`InputError` naming it where it does not."""
    numbers = plain_value(given)
    if numbers is None:
        return None
    if not isinstance(numbers, tuple):
        raise InputError(f"{name}: {given!r}; a list of classes by their numbers is needed")
    for number in numbers:
        if k is None or not isinstance(number, (int, float)) or number not in range(k):
            raise InputError(f"{name}: {number!r} is none of the model's {k or 'no'} classes, by their numbers from 0")
    return [int(number) for number in numbers]


def as_module(model: PairLike) -> nn.Module:
    """Return a module; of two functions, the pair."""
    return model if isinstance(model, nn.Module) else as_pair(model)


def held_out(pair: nn.Module, x: object, y: object, seed: int, batch_size: int) -> tuple[Held, int | None]:
    """Return the checked points and labels, of a data set of this library its test points; and 8 where the points are
    images of 8 bits, else None."""
    labels = labels_of(pair)
    if labels is None and y is not None:
        raise InputError(f"y: {type(pair).__name__} has no labels to judge; leave y out")
    if isinstance(x, Dataset):
        x = replace(x, x=x.x_test, y=x.y_test)
    p = like(pair, x)
    read = read_data(pair, x, y, least=0, dtype=p.dtype, part="test")
    if not len(read.x):
        raise InputError("x: no rows to evaluate on")
    known = read.y if labels is not None else torch.full((len(read.x),), MISSING)
    held = Held(pair, in_units(read_whole(read.x), p), known.cpu(), labels, seed, batch_size)
    return held, 8 if read.pixels else None


def anomaly_metrics(held: Held, out: Tensor) -> Metrics:
    """``anomaly``: the AUROC of each score for the rows ``out`` against the other known ones."""
    if not (out.any() and (held.known & ~out).any()):
        return {}
    judged = held.known
    scores = anomaly_scores(held.pair, held.x[judged.to(held.x.device)], seed=held.seed)
    aurocs = {name: auroc(out[judged], score) for name, score in scores.items()}
    return {"anomaly": {**aurocs, "n": int(out.sum()), "left_out": sorted(set(held.y[out].tolist()))}}


def label_metrics(held: Held, known_classes: Sequence[int] | None) -> Metrics:
    """Metrics of the predictions for the rows with a known label."""
    pair, labels = held.pair, held.labels
    if labels is None or not isinstance(pair, Classifies) or not held.known.any():
        return {}
    some = held.rows(held.known)
    probs = some.read(pair.predict_proba)
    result: Metrics = {}
    if known_classes is None or len(known_classes):
        classes = isinstance(labels, ClassLabels)
        result.update(class_metrics(probs, some.y) if classes else attribute_metrics(probs, some.y, labels.names))
    if held.classes and known_classes is not None and set(some.y.tolist()) - set(known_classes):
        found = semi_unsupervised_metrics(probs.argmax(-1), some.y, held.classes, known_classes)
        result["semi_unsupervised"] = found
    return result


def cluster_metrics(held: Held) -> Metrics:
    """``clustering``: k-means on the latent means, where there are latents and classes; of at most
    :data:`CLUSTERED` rows, the labelled first."""
    pair, known = held.pair, held.known
    if not (isinstance(pair, Encodes) and held.classes and known.any()):
        return {}
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(held.seed))
    some = torch.cat([order[known[order]], order[~known[order]]])[:CLUSTERED].sort().values
    rows = replace(held, x=held.x[some], y=held.y[some]) if len(some) < len(known) else held
    try:
        z = rows.read(lambda part: pair.encode(part).mean.flatten(1))
    except InputError:  # a rewritten guide whose latents have other names
        return {}
    clusters = kmeans(z, held.classes, held.seed)
    known = rows.known
    found = None if clusters is None else clustering_metrics(clusters[known], rows.y[known], held.classes)
    return {"clustering": found}


def anomaly_scores(model: PairLike, x: ArrayLike, *, seed: int = 0) -> dict[str, Tensor]:
    """Return scores ``[N]`` in nats, the higher the stranger: ``negative_elbo`` = -ELBO(x) and ``reconstruction`` =
    -E_q log p(x|z, y), one draw. A plain classifier has none."""
    pair = as_module(model)
    points, _ = checked(pair, x)
    scores = {"negative_elbo": bounds.elbo, "reconstruction": bounds.reconstruction}
    if not bounded(pair, points):
        return {}
    found = {}
    for name, bound in scores.items():
        with evaluating(pair, seed):
            found[name] = -bound(pair, points).cpu()
    return found


def kmeans(points: Tensor, clusters: int, seed: int) -> Tensor | None:
    """Return the cluster of each point; None for points that are not finite, of a model that diverged."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if not points.isfinite().all():
        return None
    fitted = KMeans(min(clusters, len(points)), n_init=4, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a collapsed posterior has fewer distinct means
        return torch.from_numpy(fitted.fit_predict(points.double().numpy())).long()


def auroc(out: Tensor, score: Tensor) -> float | None:
    """Return the area under the ROC curve; None where a score is not finite."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(out.numpy(), score.numpy())) if score.isfinite().all() else None
