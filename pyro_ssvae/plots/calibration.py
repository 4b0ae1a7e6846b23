"""The reliability plot: how often a label is right that the model gives a probability of p."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import counted
from ..evaluation.bootstrap import wilson
from ..labels import MISSING
from .style import BLUE, GREY, VERMILLION, entitle, fit_names, make_panels, styled

PANELS = 20
"""Classes or attributes that have a panel of their own, at most: the most frequent ones."""
LINES = (("q(y | x)", BLUE, "o", "-"), ("calibrated", VERMILLION, "^", "--"))
Rescaling = Callable[[Tensor], Tensor]


@styled
def reliability(
    probs: ArrayLike, y: ArrayLike, names: Sequence[str], scaled: Rescaling | None = None, bins: int = 10
) -> Figure:
    """Plot the share of points that are right over their predicted probability, in ten bins of equal width.

    The first panel is that of the predicted class, each further one of a class against all others. Attributes have a
    panel each. A point is a bin's mean, its bar the 95 % interval of the share (Wilson's).

    :param probs: ``[N, K]`` of classes, or ``[N, A]`` of attributes.
    :param y: classes ``[N]`` or attributes ``[N, A]``, -1 where missing.
    :param scaled: what gives the calibrated probabilities of these, for a second line.
    :param bins: how many; those of fewer than ten points are joined with the next.
    """
    p, known = torch.as_tensor(probs).double().cpu(), torch.as_tensor(y).cpu()
    shown = [p, *([] if scaled is None else [scaled(p)])]
    classes = known.dim() == 1
    hits = torch.nn.functional.one_hot(known.clamp_min(0), p.shape[1]) if classes else (known == 1).long()
    there = (known != MISSING).unsqueeze(-1).expand_as(p) if classes else known != MISSING
    frequent = (hits * there).sum(0).argsort(descending=True, stable=True)[:PANELS].sort().values.tolist()
    fitted = fit_names(names, 22, lines=2)
    titles = [*(["predicted class"] if classes else []), *(fitted[k] for k in frequent)]
    wide = min(4, len(titles))
    figure, panels = make_panels(None, len(titles), (2.1 * wide + 0.3, 2.1 * math.ceil(len(titles) / wide) + 0.7), wide)
    for panel, title, k in zip(panels, titles, [*([None] if classes else []), *frequent], strict=True):
        panel.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
        for (label, colour, marker, dashes), values in zip(LINES, shown):
            if k is None:
                rows = there[:, 0]
                confidence, hit = values[rows].amax(-1), values[rows].argmax(-1) == known[rows]
            else:
                confidence, hit = values[there[:, k], k], hits[there[:, k], k]
            draw(panel, confidence.numpy(), hit.numpy().astype(float), bins, (label, colour, marker, dashes))
        panel.set_title(title, loc="left")
        panel.set_xlim(-0.03, 1.03)
        panel.set_ylim(-0.03, 1.03)
        panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        panel.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        panel.grid(True)
    if len(shown) > 1:
        handles, words = panels[0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside right upper")
    figure.supxlabel("predicted probability", fontsize=9)
    figure.supylabel("share that is right" if classes else "share that has the attribute", fontsize=9)
    n = int((known != MISSING).reshape(len(known), -1).any(-1).sum())
    some = "" if len(hits.T) <= PANELS else f"; the {PANELS} most frequent of {hits.shape[1]} classes"
    entitle(figure, f"do the probabilities hold? {counted(n, 'point')}, 95 % intervals{some}")
    return figure


def draw(panel: Axes, confidence: np.ndarray, hit: np.ndarray, bins: int, look: tuple[str, str, str, str]) -> None:
    """Draw one line with its bars; nothing where there is no point."""
    if not len(confidence):
        return
    label, colour, marker, dashes = look
    parts = binned(confidence, bins)
    at = [float(confidence[part].mean()) for part in parts]
    share = [float(hit[part].mean()) for part in parts]
    ends = [wilson(int(hit[part].sum()), len(part)) for part in parts]
    for x, (low, high) in zip(at, ends):
        panel.plot([x, x], [low, high], color=colour, lw=0.8, alpha=0.5)
    panel.plot(at, share, color=colour, marker=marker, ls=dashes, lw=1.0, label=label)


def binned(confidence: np.ndarray, bins: int, least: int = 10) -> list[np.ndarray]:
    """Return the points of each bin of equal width; a bin of fewer than ``least`` points is joined with the next."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    parts: list[np.ndarray] = []
    small = np.zeros(0, dtype=int)
    for k in range(bins):
        small = np.concatenate([small, np.flatnonzero(place == k)])
        if len(small) >= least:
            parts, small = [*parts, small], small[:0]
    if len(small):
        parts = [*parts[:-1], np.concatenate([*parts[-1:], small])]
    return parts
