"""All plots of a run that apply to its model, as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..data.inputs import check_data
from ..errors import counted
from ..infer.batched import batched
from ..infer.protocols import Classifies, Encodes, Generates, Reconstructs, require
from ..labels import MISSING, ClassLabels, labels_of
from .calibration import Rescaling, reliability
from .latents import latent_space
from .metrics import NO_CURVE, Metrics, attribute_bars, confusion_matrix, learning_curves
from .points import reconstructions, samples_by_class
from .style import save_figure
from .tables import Units, units_of

ROWS = 500  # at a time


def save_all(
    model: nn.Module,
    history: Mapping[str, Sequence[float]] | None,
    metrics: Metrics,
    x_test: ArrayLike,
    y_test: ArrayLike | None,
    folder: str | Path,
    seed: int = 0,
    scaled: Rescaling | None = None,
) -> list[Path]:
    """Write every plot that applies as PNG into ``folder``; return the paths.

    ``learning_curves``, ``reconstructions``, ``samples_by_class``, ``latent_space``, ``confusion_matrix``,
    ``attribute_bars`` and ``reliability``; a classifier has no samples, unknown labels no confusion matrix.

    :param metrics: what :func:`~.evaluate.evaluate` returned.
    :param scaled: what gives calibrated probabilities, for ``reliability``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (x, known), labels = check_data(model, x_test, y_test, least=1), labels_of(model)
    y_test, units = None if y_test is None else known, units_of(model, x)
    draw: dict[str, Callable[[], Figure]] = {}
    if history and any(name not in NO_CURVE and np.isfinite(c).any() for name, c in history.items()):
        draw["learning_curves"] = lambda: learning_curves(history)
    if isinstance(model, Reconstructs):
        draw["reconstructions"] = lambda: some_reconstructions(model, x, y_test, seed, units)
    if isinstance(model, Generates):
        draw["samples_by_class"] = lambda: samples_by_class(model, seed=seed, units=units)
    if isinstance(model, Encodes):
        draw["latent_space"] = lambda: latent_space(model, x, y_test, seed=seed)
    if metrics.get("confusion"):
        draw["confusion_matrix"] = lambda: confusion_matrix(metrics["confusion"], labels.names if labels else ())
    if metrics.get("per_attribute"):
        draw["attribute_bars"] = lambda: attribute_bars(metrics)
    if y_test is not None and (metrics.get("confusion") or metrics.get("per_attribute")):
        draw["reliability"] = lambda: reliability_of(model, x, y_test, scaled)
    paths = []
    for name, function in draw.items():
        paths.append(folder / f"{name}.png")
        save_figure(function(), paths[-1])
    return paths


def reliability_of(model: nn.Module, x: Tensor, y: ArrayLike, scaled: Rescaling | None) -> Figure:
    """Plot how far a model's probabilities hold."""
    classifier = require(model, Classifies)
    probs = batched(model, classifier.predict_proba, x, rows=ROWS)
    return reliability(probs, classifier.labels.check(y, len(x)), classifier.labels.names, scaled)


def some_reconstructions(
    model: nn.Module, x: Tensor, y: ArrayLike | None, seed: int, units: Units | None = None
) -> Figure:
    """Plot the reconstructions of points evenly spaced among all, since files often have them class by class; of
    classes under their names."""
    of, labels = len(x), labels_of(model)
    rows = torch.linspace(0, of - 1, min(of, 20 if x.dim() == 4 else 6)).round().long()
    x = x[rows]
    titles: list[str] = []
    if isinstance(labels, ClassLabels) and y is not None:
        titles = [labels.names[k] if k != MISSING else "no label" for k in labels.check(y)[rows].tolist()]
    x_hat = batched(model, require(model, Reconstructs).reconstruct, x, rows=ROWS, seed=seed).cpu()
    title = f"{len(x)} of {counted(of, 'test point')} and what the model makes of them, E[x | z]"
    return reconstructions(x, x_hat, titles, units=units, title=title)
