"""The latent means of points in two dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..data.inputs import check_data
from ..errors import InputError, counted
from ..infer.batched import batched
from ..infer.protocols import Encodes, require
from ..labels import MISSING, AttributeLabels, Labels, labels_of
from .style import COLOURS, GREY, MARKERS, entitle, fit_names, fit_text, make_panels, styled, text_width

MOST_POINTS = 2000
MOST_CLASSES = 20
"""Classes with a colour and a marker; of more, the ten most frequent have one."""
MOST_FREQUENT = 10
OTHERS = "another class"
ROWS = 500  # at a time


@styled
def latent_space(
    model: nn.Module,
    x: ArrayLike,
    y: ArrayLike | None = None,
    attribute: str | None = None,
    seed: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """Plot the latent means of up to 2,000 points, coloured and marked by true label; unknown in grey.

    Two latents are drawn as they are, one against its posterior scale, more by their first two principal components.
    Each attribute has a panel of its own. Of more than 20 classes the ten most frequent are told apart.

    :param attribute: draw this attribute only.
    :raises InputError: where ``ax`` is one panel and the attributes need several.
    """
    labels, (points, known) = labels_of(model), check_data(model, x, y, least=1)
    pick = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:MOST_POINTS].sort().values
    known = known.cpu()[pick] if labels is not None else torch.full((len(pick),), MISSING)
    parts = label_parts(labels, known, attribute)
    if ax is not None and len(parts) > 1:
        raise InputError("latent_space: ax is one panel; attribute= says which attribute to draw there")
    plane, axis_names = two_dimensions(model, points[pick], seed)
    wide = min(4, len(parts))
    if len(parts) == 1:
        words = fit_names([*parts[0].names, OTHERS, "unknown"], 28, lines=2)
        size = (5.0 + (text_width(words) + 0.6) * math.ceil(len(words) / 24), 4.8)
    else:
        size = (2.6 * wide + 0.7, 2.5 * math.ceil(len(parts) / wide) + 0.2)
    figure, panels = make_panels(ax, len(parts), size, wide)
    for i, (panel, part) in enumerate(zip(panels, parts, strict=True)):
        handles = scatter(panel, plane, part, small=len(parts) > 1)
        panel.set_title(fit_text(part.title, 28, lines=2))
        if i >= len(parts) - wide:
            panel.set_xlabel(axis_names[0])
        if i % wide == 0:
            panel.set_ylabel(axis_names[1])
        if handles and (i == wide - 1 or len(parts) == 1):
            panel.legend(
                handles=handles,
                loc="upper left",
                bbox_to_anchor=(1.01, 1),
                ncols=math.ceil(len(handles) / 24),
                markerscale=1.5 if len(parts) == 1 else 2.5,
            )
    if ax is None:
        by = "label" if len(parts) == 1 else "attribute"
        entitle(figure, f"latent means of {counted(len(plane), 'point')}, by {by}")
    return figure


@dataclass(frozen=True)
class Part:
    """A panel's labels ``y [n]``, -1 where unknown, and the names of their values."""

    title: str
    y: Tensor
    names: Sequence[str]


def label_parts(labels: Labels | None, y: Tensor, attribute: str | None) -> list[Part]:
    """Return a panel for the class, or one for each attribute (for the named one alone)."""
    if not isinstance(labels, AttributeLabels):
        names = labels.names if labels is not None else ()
        return [most_frequent(y, names) if len(names) > MOST_CLASSES else Part("", y, names)]
    names = list(labels.names)
    if attribute is not None and attribute not in names:
        raise InputError(f"attribute: {attribute!r} is none of {', '.join(names)}")
    wanted = names if attribute is None else [attribute]
    return [Part(name, y[:, names.index(name)], ("0", "1")) for name in wanted]


def most_frequent(y: Tensor, names: Sequence[str]) -> Part:
    """Return the labels with the ten most frequent classes as they are, and all others as one more."""
    kept = torch.bincount(y[y != MISSING], minlength=len(names)).argsort(descending=True, stable=True)[:MOST_FREQUENT]
    kept = kept.sort().values
    place = torch.full((len(names),), len(kept)).scatter(0, kept, torch.arange(len(kept)))
    known = torch.where(y == MISSING, MISSING, place[y.clamp_min(0)])
    return Part("", known, (*(names[k] for k in kept.tolist()), OTHERS))


def two_dimensions(model: nn.Module, x: Tensor, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    """Return the latent means in the plane ``[n, 2]`` and the names of its axes."""
    encoder = require(model, Encodes)

    def moments(part: Tensor) -> Tensor:
        posterior = encoder.encode(part)
        return torch.stack([posterior.mean.flatten(1), posterior.stddev.flatten(1)], -1)

    loc, scale = batched(model, moments, x, rows=ROWS, seed=seed).cpu().double().unbind(-1)
    if loc.shape[1] == 1:
        return torch.cat([loc, scale], 1).numpy(), ("latent mean", "posterior scale")
    if loc.shape[1] == 2:
        return loc.numpy(), ("latent 1", "latent 2")
    centred = loc - loc.mean(0)
    u, s, _ = torch.linalg.svd(torch.nn.functional.pad(centred, (0, 0, 0, 1)), full_matrices=False)
    share = s.square() / s.square().sum().clamp_min(1e-300)
    first, second = (f"principal component {i + 1} ({share[i]:.0%})" for i in range(2))
    return (u * s)[: len(loc), :2].numpy(), (first, second)


def scatter(ax: Axes, points: np.ndarray, part: Part, small: bool) -> list[PathCollection]:
    """Draw the points of each value, and those of unknown value in grey; return the legend's handles."""
    values, size, handles = part.y.numpy(), 7 if small else 20, []
    unknown = values == MISSING
    if unknown.any():
        x, y = points[unknown].T
        grey = ax.scatter(x, y, size / 2, GREY, marker=".", linewidths=0, label="unknown")
    for k, (name, word) in enumerate(zip(part.names, fit_names(part.names, 28, lines=2))):
        here = values == k
        if here.any():
            dots = ax.scatter(
                points[here, 0],
                points[here, 1],
                size,
                GREY if name == OTHERS else COLOURS[k % len(COLOURS)],
                marker=MARKERS[k % len(MARKERS)],
                alpha=0.75,
                linewidths=0,
                label=word,
            )
            handles.append(dots)
    ax.locator_params(nbins=5)
    return [*handles, grey] if unknown.any() else handles
