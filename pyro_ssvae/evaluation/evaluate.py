"""How good a model is on held-out points: labels, likelihood, reconstruction, clusters, anomalies."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from ..data.augment import unit_scale
from ..errors import InputError
from ..labels import MISSING, ClassLabels
from .metrics import attribute_metrics, class_metrics, clustering_metrics, semi_unsupervised_metrics


def evaluate(
    model: nn.Module,
    x: Any,
    y: Any = None,
    *,
    num_samples: int = 100,
    batch_size: int = 500,
    seed: int = 0,
    likelihood_rows: int | None = 1000,
    known_classes: Sequence[int] | None = None,
    left_out: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return the metrics that the model and the labels allow, ready for JSON (a number that is not finite is None).

    ==================== ==========================================================================================
    always               ``rows``: N
    labels               those of :func:`~.metrics.class_metrics` or :func:`~.metrics.attribute_metrics`, over the
                         known ones (``n`` rows)
    ``elbo``             mean bound on log p(x), nats a point, all rows
    ``log_likelihood``   mean importance-weighted bound on log p(x) of ``num_samples`` draws, nats a point, over
                         ``likelihood_rows`` rows drawn at random
    reconstruction_error mean squared error a pixel or feature, images on [0, 1]
    clustering           k-means on the latent means of all rows, K clusters (classes only)
    semi_unsupervised    where ``known_classes`` leaves out some of y's: :func:`~.metrics.semi_unsupervised_metrics`
    anomaly              AUROC of each of :func:`anomaly_scores` for ``left_out`` classes against the other known rows
    ==================== ==========================================================================================

    The generative metrics never see y. The same call gives the same numbers; the global random state, and every
    module's training mode, are left as they were.

    :param x: ``[N, *input_shape]``, uint8 images or floats; tensor or array.
    :param y: ``[N]`` or ``[N, A]``, -1 for missing; None where nothing is known.
    :param batch_size: rows a call of the model, which draws its ``num_samples`` within that call.
    :param likelihood_rows: at most so many rows for the importance-weighted bound; None for all.
    :param known_classes: classes that had labels in training; None for all. ``[]`` says that training saw no label:
        then what the model predicts has no agreed meaning, and only matched accuracies are given.
    :param left_out: classes that training never saw. Their rows count in ``anomaly`` and nowhere else.
    :raises InputError: where x is empty, or y does not fit x or the model's labels.
    """
    x = _inputs(model, x)
    if not len(x):
        raise InputError("x: no rows to evaluate on")
    labels = getattr(model, "labels", None)
    if labels is None:
        if y is not None:
            raise InputError(f"y: {type(model).__name__} has no labels to judge; leave y out")
        y = torch.full((len(x),), MISSING)
    else:
        y = labels.check(y, len(x)).cpu()
    classes = labels.num_classes if isinstance(labels, ClassLabels) else None
    for name, given in (("known_classes", known_classes), ("left_out", left_out)):
        wrong = [k for k in given or () if classes is None or not 0 <= k < classes]
        if wrong:
            raise InputError(f"{name}: {wrong[0]} is none of the model's {classes or 'no'} classes")

    result: dict[str, Any] = {}
    if left_out:
        out = torch.isin(y, torch.tensor(list(left_out)))
        if out.any() and ((y != MISSING) & ~out).any():
            judged = y != MISSING
            scores = anomaly_scores(model, x[judged], batch_size=batch_size, seed=seed)
            aurocs = {name: _auroc(out[judged], score) for name, score in scores.items()}
            result["anomaly"] = {**aurocs, "n": int(out.sum()), "left_out": sorted({int(k) for k in left_out})}
        x, y = x[~out], y[~out]
        if not len(x):
            raise InputError("left_out: these classes leave no row to evaluate on")
    result["rows"] = len(x)

    def per_row(function: Callable[[Tensor], Tensor], rows: Tensor = x) -> Tensor:
        return batched(model, function, rows, batch_size=batch_size, seed=seed)

    known = (y != MISSING).reshape(len(y), -1).any(-1)
    if labels is not None and hasattr(model, "predict_proba") and known.any():
        probs, y_known = per_row(model.predict_proba, x[known]), y[known]  # type: ignore[arg-type]
        if known_classes is None or len(known_classes):
            judge = class_metrics(probs, y_known) if classes else attribute_metrics(probs, y_known, labels.names)
            result.update(judge)
        if classes and known_classes is not None and set(y_known.tolist()) - set(known_classes):
            predicted = probs.argmax(-1)
            result["semi_unsupervised"] = semi_unsupervised_metrics(predicted, y_known, classes, known_classes)
    if hasattr(model, "elbo"):
        result["elbo"] = float(per_row(model.elbo).double().mean())  # type: ignore[arg-type]
    if hasattr(model, "log_likelihood"):
        some = x
        if likelihood_rows is not None and likelihood_rows < len(x):
            some = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:likelihood_rows]]
        bound = per_row(lambda part: model.log_likelihood(part, num_samples=num_samples), some)  # type: ignore[operator]
        result["log_likelihood"] = float(bound.double().mean())
        result["log_likelihood_samples"], result["log_likelihood_rows"] = num_samples, len(some)
    if hasattr(model, "reconstruct"):
        result["reconstruction_error"] = float(per_row(lambda part: _squared_error(model, part)).double().mean())
    if hasattr(model, "encode") and classes and known.any():
        clusters = _kmeans(per_row(lambda part: model.encode(part).mean.flatten(1)), classes, seed)  # type: ignore[operator]
        result["clustering"] = None if clusters is None else clustering_metrics(clusters[known], y[known], classes)
    return _plain(result)


def anomaly_scores(model: nn.Module, x: Any, *, batch_size: int = 500, seed: int = 0) -> dict[str, Tensor]:
    """Return scores ``[N]`` in nats, the higher the stranger: ``negative_elbo`` = -ELBO(x) and ``reconstruction`` =
    -E_q log p(x|z, y), one draw. A model without the method lacks the score; a plain classifier has none."""
    x = _inputs(model, x)
    methods = {"negative_elbo": "elbo", "reconstruction": "reconstruction_log_prob"}
    return {
        score: -batched(model, getattr(model, method), x, batch_size=batch_size, seed=seed)
        for score, method in methods.items()
        if hasattr(model, method)
    }


@contextmanager
def evaluating(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Evaluation mode, no gradients, and random numbers from ``seed``; afterwards all is as it was."""
    training = {module: module.training for module in model.modules()}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    model.eval()
    try:
        with torch.no_grad(), seeded(device, seed):
            yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Random numbers from ``seed`` for a while; afterwards the global state is as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also touch devices not in use
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def batched(
    model: nn.Module, function: Callable[[Tensor], Tensor], x: Tensor, *, batch_size: int = 500, seed: int = 0
) -> Tensor:
    """``function`` of x, ``batch_size`` rows at a time, while :func:`evaluating`; the results joined on the CPU."""
    with evaluating(model, seed):
        return torch.cat([function(part).cpu() for part in x.split(batch_size)])


def _inputs(model: nn.Module, x: Any) -> Tensor:
    x = torch.as_tensor(x)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    return x.to(dtype) if x.is_floating_point() else x


def _squared_error(model: nn.Module, x: Tensor) -> Tensor:
    x_hat = model.reconstruct(x)  # type: ignore[operator]
    return (unit_scale(x).to(x_hat) - x_hat.reshape(x.shape)).square().flatten(1).mean(1)


def _kmeans(points: Tensor, clusters: int, seed: int) -> Tensor | None:
    if not points.isfinite().all():
        return None  # a model that diverged
    kmeans = KMeans(min(clusters, len(points)), n_init=4, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a collapsed posterior has fewer distinct means
        return torch.from_numpy(kmeans.fit_predict(points.double().numpy())).long()


def _auroc(out: Tensor, score: Tensor) -> float | None:
    return float(roc_auc_score(out.numpy(), score.numpy())) if score.isfinite().all() else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
