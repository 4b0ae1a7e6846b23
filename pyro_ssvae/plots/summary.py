"""Pictures of a trained model, in one style: readable in grey and for the colour-blind.

Each function returns a matplotlib figure that no global state knows of. Those of one panel take ``ax``, to draw into
a figure of one's own, and then return that figure.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from ..data.augment import unit_scale
from ..errors import InputError
from ..evaluation.evaluate import batched, evaluating
from ..labels import MISSING, AttributeLabels, ClassLabels

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, "#CC79A7", "#56B4E9", "#000000")
"""Okabe and Ito's, without the yellow, which is too light on white."""
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "*")
"""Ten, for seven colours: seventy classes have a pair each, and the first ten differ by shape alone."""
DASHES = ("-", "--", ":", "-.")
GREY = "#8C8C8C"
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E0E0E0",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "figure.facecolor": "white",
    "savefig.dpi": 120,
}
styled = matplotlib.rc_context(STYLE)  # type: ignore[arg-type]  # a decorator too
NO_CURVE = ("epoch", "step", "seconds", "examples_per_second")
MOST_POINTS = 2000


@styled
def learning_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """One panel a quantity over the epochs, training and validation in the same panel; NaN is a gap bridged.

    :param history: columns of equal length. ``train_loss``, ``validation_loss`` and ``loss`` share a panel, and so on.
    :raises InputError: where no column holds a number.
    """
    columns = {name: np.asarray(column, dtype=float) for name, column in history.items()}
    epochs = columns.get("epoch", np.arange(1, 1 + max((len(c) for c in columns.values()), default=0)))
    panels: dict[str, list[tuple[str, np.ndarray]]] = {}
    for name, column in columns.items():
        if name not in NO_CURVE and np.isfinite(column).any():
            part, _, quantity = name.partition("_")
            if part not in ("train", "validation", "val", "test") or not quantity:
                part, quantity = "train", name
            panels.setdefault(quantity, []).append((part, column))
    if not panels:
        raise InputError("history: no column with a number to draw")
    order = sorted(panels, key=lambda q: (q != "loss", q != "accuracy"))
    width = min(4, len(order))
    height = math.ceil(len(order) / width)
    figure = Figure(figsize=(2.9 * width, 2.2 * height + 0.3), layout="constrained")
    for i, quantity in enumerate(order):
        ax = figure.add_subplot(height, width, i + 1)
        lines = panels[quantity]
        for j, (part, column) in enumerate(sorted(lines, key=lambda line: line[0] != "train")):
            there = np.isfinite(column)
            marker = MARKERS[j] if there.sum() <= 30 else ""
            ax.plot(epochs[there], column[there], color=COLOURS[j], linestyle=DASHES[j], marker=marker, label=part)
        ax.set_title(_fit(quantity.replace("_", " "), 30) + (f" ({lines[0][0]})" if len(lines) == 1 else ""))
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        ax.grid(True)
        if len(lines) > 1:
            ax.legend()
    return figure


@styled
def reconstructions(
    x: Any, x_hat: Any, titles: Sequence[str] = (), columns: int = 10, ax: Axes | None = None
) -> Figure:
    """Each point above its reconstruction; vectors and series as lines, the reconstruction dashed on the point.

    :param x: images ``[n, C, H, W]`` (on [0, 1], or uint8), vectors ``[n, D]`` or series ``[n, C, T]``.
    :param x_hat: their mean images, same shape.
    :param titles: n words, one a pair.
    :param columns: pairs a row, for images.
    """
    x, x_hat = (unit_scale(torch.as_tensor(v).detach().cpu()) for v in (x, x_hat))
    x_hat = x_hat.reshape(x.shape)
    if x.dim() != 4:
        return _lines([x[:, None], x_hat[:, None]], ["input", "reconstruction"], list(titles) or [""] * len(x), x, ax)
    blocks = [slice(start, start + columns) for start in range(0, len(x), columns)]
    if ax is not None:
        blocks = [slice(0, len(x))]
    size = min(columns, len(x))
    figure, axes = _panels(ax, len(blocks), (0.75 * size + 1.3, (1.95 if titles else 1.6) * len(blocks)))
    for panel, block in zip(axes, blocks, strict=True):
        _mosaic(panel, torch.stack([x[block], x_hat[block]]), ["input", "reconstruction"], size)
        if titles:
            pitch = x.shape[-1] + _gap(x)
            panel.xaxis.tick_top()
            words = [_fit(title, 11, lines=2) for title in titles[block]]
            panel.set_xticks([i * pitch + (x.shape[-1] - 1) / 2 for i in range(len(words))], words)
            panel.tick_params(axis="x", length=0, labelsize=7)
    return figure


@styled
def samples_by_class(model: nn.Module, n_per_class: int = 10, seed: int = 0, ax: Axes | None = None) -> Figure:
    """A row of samples for each class, or for each attribute at 0 and at 1 (the others left to the model).

    Every row starts from the same random state, so a column tends to share what the label does not say. A model that
    cannot be asked for a label (no ``predict_proba``, or ``generate`` refuses ``y``) shows plain samples.
    """
    labels = getattr(model, "labels", None)
    rows: list[Tensor] = []
    names: list[str] = []
    if labels is not None and hasattr(model, "predict_proba"):
        names, asked = _one_label_a_row(labels)
        try:
            rows = [_generate(model, n_per_class, y.expand(n_per_class, *y.shape), seed) for y in asked]
        except InputError:
            rows = []
    if not rows:
        names = [""] * 5
        rows = list(_generate(model, 5 * n_per_class, None, seed).unflatten(0, (5, n_per_class)))
    grid = torch.stack(rows)
    if grid.dim() != 5:
        return _lines([grid], ["sample"], names, grid[0], ax)
    words = [_fit(name, 28, lines=2) for name in names]
    cell = 0.6 if len(words) <= 20 else 0.45
    figure, (panel,) = _panels(ax, 1, (cell * n_per_class + _inches(words) + 0.3, cell * len(words) + 0.3))
    _mosaic(panel, grid, words, n_per_class)
    return figure


@styled
def samples(model: nn.Module, n: int = 10, y: Any = None, seed: int = 0, title: str = "") -> Figure:
    """``n`` samples, of label ``y`` where it is given; images ten a row.

    :param y: one label for all, as ``model.generate`` takes it: a number or, of attributes, ``[A]`` with -1 for any.
    """
    drawn = _generate(model, n, None if y is None else torch.as_tensor(y), seed)
    rows = drawn.split(min(n, 10)) if drawn.dim() == 4 else [drawn]
    if drawn.dim() != 4:
        figure = _lines([drawn[None]], ["sample"], [title], drawn, None)
    else:
        height = 0.62 * len(rows) + (0.25 if title else 0.02)
        figure, panels = _panels(None, len(rows), (0.6 * len(rows[0]) + 0.1, height))
        for panel, row in zip(panels, rows, strict=True):
            _mosaic(panel, row[None], [""], len(rows[0]))
        panels[0].set_title(_fit(title, 40), loc="left")
    return figure


@styled
def latent_space(
    model: nn.Module,
    x: Any,
    y: Any = None,
    attribute: str | None = None,
    seed: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """The latent means of up to 2,000 points in two dimensions, coloured and marked by true label; unknown in grey.

    Two latents are drawn as they are, one against its posterior scale, more by their first two principal components.
    Attributes get a panel each.

    :param attribute: draw this attribute only.
    :raises InputError: where ``ax`` is one panel and the attributes need several.
    """
    labels = getattr(model, "labels", None)
    x = torch.as_tensor(x)
    pick = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:MOST_POINTS].sort().values
    y = labels.check(y, len(x)).cpu()[pick] if labels is not None else torch.full((len(pick),), MISSING)
    points, axis_names = _two_dimensions(model, x[pick], seed)
    if not isinstance(labels, AttributeLabels):
        parts = [("", y, labels.names if labels is not None else ())]
    else:
        wanted = [attribute] if attribute is not None else list(labels.names)
        if not set(wanted) <= set(labels.names):
            raise InputError(f"attribute: {attribute!r} is none of {', '.join(labels.names)}")
        parts = [(name, y[:, labels.names.index(name)], ("0", "1")) for name in wanted]
    if ax is not None and len(parts) > 1:
        raise InputError("latent_space: ax is one panel; attribute= says which attribute to draw there")
    wide = min(4, len(parts))
    if len(parts) == 1:
        words = [_fit(name, 28, lines=2) for name in (*parts[0][2], "unknown")]
        size = (5.0 + (_inches(words) + 0.6) * math.ceil(len(words) / 20), 4.6)
    else:
        size = (2.6 * wide + 0.7, 2.5 * math.ceil(len(parts) / wide))
    figure, panels = _panels(ax, len(parts), size, wide)
    for i, (panel, (name, values, value_names)) in enumerate(zip(panels, parts, strict=True)):
        handles = _scatter(panel, points, values, value_names, small=len(parts) > 1)
        panel.set_title(_fit(name, 28, lines=2))
        if i >= len(parts) - wide:
            panel.set_xlabel(axis_names[0])
        if i % wide == 0:
            panel.set_ylabel(axis_names[1])
        if handles and (i == wide - 1 or len(parts) == 1):
            panel.legend(
                handles=handles,
                loc="upper left",
                bbox_to_anchor=(1.01, 1),
                ncols=math.ceil(len(handles) / 20),
                markerscale=1.5 if len(parts) == 1 else 2.5,
            )
    return figure


@styled
def confusion_matrix(confusion: Sequence[Sequence[int]], names: Sequence[str] = (), ax: Axes | None = None) -> Figure:
    """Counts of the predicted class (column) for each true class (row), shaded by their share of the row.

    Zeros stay blank. Above 20 classes, or where a cell is too small, the shade alone is drawn.

    :param confusion: ``[K, K]``.
    """
    counts = np.asarray(confusion)
    k = len(counts)
    words = [_fit(name, 24, lines=1) for name in (names or [str(i) for i in range(k)])]
    cell = float(np.clip(6.0 / k, 0.19, 0.5)) if k > 20 else max(0.38, 1.6 / k)
    side = cell * k + _inches(words)
    figure, (panel,) = _panels(ax, 1, (side + 1.1, side + 0.5))
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    short = max(len(word) for word in words) <= (2 if k > 20 else 4)
    panel.set_xticks(range(k), words, rotation=0 if short else 90)
    panel.set_yticks(range(k), words)
    panel.tick_params(length=0, labelsize=8 if cell >= 0.25 else 7)
    panel.spines[:].set_visible(False)
    panel.set_xlabel("predicted")
    panel.set_ylabel("true")
    room = cell if ax is None else panel.get_window_extent().width / panel.figure.dpi / k
    font = min(8.0, 72 * 0.9 * room / (0.62 * len(str(counts.max()))))
    if k <= 20 and font >= 4.5:
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "white" if share[i, j] > 0.55 else "black"
            panel.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=font)
    panel.figure.colorbar(image, ax=panel, shrink=0.6, label="share of the true class")
    return figure


@styled
def attribute_bars(metrics: Mapping[str, Any], ax: Axes | None = None) -> Figure:
    """Each attribute's accuracy beside what the majority guess scores.

    :param metrics: what :func:`~.evaluate.evaluate` gave for attributes.
    """
    judged = {name: one for name, one in metrics["per_attribute"].items() if one["accuracy"] is not None}
    words = [_fit(name, 28, lines=1) for name in judged]
    figure, (panel,) = _panels(ax, 1, (4.6 + _inches(words), 0.42 * len(words) + 1.0))
    places = np.arange(len(words))
    bars = (("model", "accuracy", BLUE, ""), ("majority guess", "majority_accuracy", "#D9D9D9", "////"))
    for offset, (label, key, colour, hatch) in zip((-0.19, 0.19), bars, strict=True):
        values = [one[key] for one in judged.values()]
        panel.barh(
            places + offset, values, 0.36, label=label, color=colour, hatch=hatch, edgecolor="#404040", linewidth=0.4
        )
        for place, value in zip(places + offset, values, strict=True):
            panel.text(value + 0.01, place, f"{value:.3f}", va="center", fontsize=7)
    panel.set_yticks(places, words)
    panel.set_ylim(len(words) - 0.5, -0.5)
    panel.set_xlim(0, 1.1)
    panel.set_xticks(np.linspace(0, 1, 6))
    panel.set_xlabel("accuracy")
    panel.grid(True, axis="x")
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    return figure


@styled
def save_all(
    model: nn.Module,
    history: Mapping[str, Sequence[float]] | None,
    metrics: Mapping[str, Any],
    x_test: Any,
    y_test: Any,
    folder: str | Path,
    seed: int = 0,
) -> list[Path]:
    """Write every figure that applies as PNG into ``folder`` and return the paths.

    ``learning_curves``, ``reconstructions``, ``samples_by_class``, ``latent_space``, ``confusion_matrix`` and
    ``attribute_bars``; a classifier has no samples, labels nobody knows no confusion.

    :param metrics: what :func:`~.evaluate.evaluate` returned.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    x_test = torch.as_tensor(x_test)
    labels = getattr(model, "labels", None)
    draw: dict[str, Callable[[], Figure]] = {}
    if history and any(name not in NO_CURVE and np.isfinite(c).any() for name, c in history.items()):
        draw["learning_curves"] = lambda: learning_curves(history)
    if hasattr(model, "reconstruct"):
        draw["reconstructions"] = lambda: _first_reconstructions(model, x_test, y_test, seed)
    if hasattr(model, "generate"):
        draw["samples_by_class"] = lambda: samples_by_class(model, seed=seed)
    if hasattr(model, "encode"):
        draw["latent_space"] = lambda: latent_space(model, x_test, y_test, seed=seed)
    if metrics.get("confusion"):
        draw["confusion_matrix"] = lambda: confusion_matrix(metrics["confusion"], labels.names if labels else ())
    if metrics.get("per_attribute"):
        draw["attribute_bars"] = lambda: attribute_bars(metrics)
    paths = []
    for name, function in draw.items():
        paths.append(folder / f"{name}.png")
        function().savefig(paths[-1], dpi=120)
    return paths


def _first_reconstructions(model: nn.Module, x: Tensor, y: Any, seed: int) -> Figure:
    x = x[: 20 if x.dim() == 4 else 6]
    labels = getattr(model, "labels", None)
    titles: list[str] = []
    if isinstance(labels, ClassLabels) and y is not None:
        titles = [labels.names[k] if k != MISSING else "?" for k in labels.check(y)[: len(x)].tolist()]
    x_hat = batched(model, model.reconstruct, x, seed=seed)  # type: ignore[arg-type]
    return reconstructions(x, x_hat, titles)


def _one_label_a_row(labels: ClassLabels | AttributeLabels) -> tuple[list[str], list[Tensor]]:
    if isinstance(labels, ClassLabels):
        return list(labels.names), list(torch.arange(labels.num_classes))
    names, rows = [], []
    for i, name in enumerate(labels.names):
        for value in (0, 1):
            rows.append(torch.full((len(labels.names),), MISSING))
            rows[-1][i] = value
            names.append(f"{_fit(name, 24, lines=1)} = {value}")
    return names, rows


def _generate(model: nn.Module, n: int, y: Tensor | None, seed: int) -> Tensor:
    with evaluating(model, seed):
        return model.generate(n, y).cpu()  # type: ignore[operator]


def _two_dimensions(model: nn.Module, x: Tensor, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    def moments(part: Tensor) -> Tensor:
        posterior = model.encode(part)  # type: ignore[operator]
        return torch.stack([posterior.mean.flatten(1), posterior.stddev.flatten(1)], -1)

    loc, scale = batched(model, moments, x, seed=seed).double().unbind(-1)
    if loc.shape[1] == 1:
        return torch.cat([loc, scale], 1).numpy(), ("latent mean", "posterior scale")
    if loc.shape[1] == 2:
        return loc.numpy(), ("latent 1", "latent 2")
    centred = loc - loc.mean(0)
    u, s, _ = torch.linalg.svd(torch.nn.functional.pad(centred, (0, 0, 0, 1)), full_matrices=False)
    share = s.square() / s.square().sum().clamp_min(1e-300)
    first, second = (f"principal component {i + 1} ({share[i]:.0%})" for i in range(2))
    return (u * s)[: len(loc), :2].numpy(), (first, second)


def _scatter(ax: Axes, points: np.ndarray, y: Tensor, names: Sequence[str], small: bool) -> list[Any]:
    values, size, handles = y.numpy(), 7 if small else 20, []
    unknown = values == MISSING
    if unknown.any():
        grey = ax.scatter(
            points[unknown, 0], points[unknown, 1], size / 2, GREY, marker=".", linewidths=0, label="unknown"
        )
    for k, name in enumerate(names):
        here = values == k
        if here.any():
            dots = ax.scatter(
                points[here, 0],
                points[here, 1],
                size,
                COLOURS[k % len(COLOURS)],
                marker=MARKERS[k % len(MARKERS)],
                alpha=0.75,
                linewidths=0,
                label=_fit(name, 28, lines=2),
            )
            handles.append(dots)
    ax.locator_params(nbins=5)
    return [*handles, grey] if unknown.any() else handles


def _panels(ax: Axes | None, n: int, size: tuple[float, float], wide: int = 1) -> tuple[Figure, list[Axes]]:
    """The figure of ``ax`` and ax itself, in the style, or a new figure with n panels, ``wide`` beside one another."""
    if ax is not None:
        dress(ax)
        return ax.get_figure(root=True), [ax]  # type: ignore[return-value]
    figure = Figure(figsize=size, layout="constrained")
    return figure, [figure.add_subplot(math.ceil(n / wide), wide, i + 1) for i in range(n)]


def dress(ax: Axes) -> None:
    """Give axes that somebody else made the style, which matplotlib applies to new ones alone."""
    ax.spines[["top", "right"]].set_visible(False)
    for spine in ax.spines.values():
        spine.set_linewidth(0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8, width=0.6, grid_color="#E0E0E0", grid_linewidth=0.6)
    for words in (ax.title, ax.xaxis.label, ax.yaxis.label):
        words.set_fontsize(9)


def _gap(images: Tensor) -> int:
    """Width in pixels of the white line between images ``[..., H, W]``."""
    return max(1, min(images.shape[-2:]) // 14)


def _mosaic(ax: Axes, images: Tensor, names: Sequence[str], columns: int) -> None:
    """Images ``[rows, n, C, H, W]`` as one picture with white lines between them, rows named, n ≤ columns places."""
    rows, n, channels, height, width = images.shape
    if channels not in (3, 4):
        images = images.mean(2, keepdim=True)
    low, high, gap = min(0.0, float(images.min())), max(1.0, float(images.max())), _gap(images)
    canvas = torch.ones(rows, columns, images.shape[2], height + gap, width + gap)
    canvas[:, :n, :, :height, :width] = (images - low) / (high - low)
    picture = canvas.permute(0, 3, 1, 4, 2).reshape(rows * (height + gap), columns * (width + gap), -1)
    ax.imshow(picture[:-gap, :-gap].squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    ax.set_anchor("NW")  # constrained layout leaves too little room for labels on the sides that an image recedes from
    ax.set_xticks([])
    ax.set_yticks([i * (height + gap) + (height - 1) / 2 for i in range(rows)], names)
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)


def _lines(
    groups: Sequence[Tensor], labels: Sequence[str], names: Sequence[str], like: Tensor, ax: Axes | None
) -> Figure:
    """Vectors or series as lines, each group ``[rows, n, ...]`` over the one before, rows below one another."""
    words = [_fit(name, 28, lines=2) for name in names]
    rows, many = len(words), groups[0].shape[1] > 1
    figure, (panel,) = _panels(ax, 1, (7.5 + _inches(words), 0.7 * rows + 1.0))
    low, high = min(float(g.min()) for g in groups), max(float(g.max()) for g in groups)
    styles: Any = [(BLUE, "-", 0.6)] if many else [("#B0B0B0", "-", 2.0), (VERMILLION, (0, (5, 1)), 0.9)]
    for group, label, (colour, dashes, width) in zip(groups, labels, styles, strict=True):
        lines = 0.9 * (group.flatten(2) - low) / max(high - low, 1e-12) - 0.45
        for i, row in enumerate(lines):
            for j, line in enumerate(row):
                place = line.numpy() + rows - 1 - i
                name = label if i == j == 0 else None
                panel.plot(place, color=colour, ls=dashes, lw=width, alpha=0.5 if many else 1.0, label=name)
    length = like.shape[-1]
    series = like.dim() > 2
    for border in range(length, length * like.shape[1], length) if series else ():
        panel.axvline(border - 0.5, color=GREY, linewidth=0.6, linestyle=":")
    panel.set_yticks(range(rows - 1, -1, -1), words)
    panel.set_ylim(-0.6, rows - 0.4)
    panel.set_xlabel("time step, one channel after another" if series else "feature")
    panel.tick_params(axis="y", length=0)
    panel.margins(x=0.01)
    if len(groups) > 1:
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    return figure


def _fit(name: str, width: int, lines: int = 1) -> str:
    """The name in so many lines of so many letters; a longer one loses its middle, since ends tell names apart."""
    for length in range(min(len(name), width * lines), 0, -1):
        tail = (length - 1) // 3
        short = name if length == len(name) else f"{name[: length - 1 - tail]}…{name[len(name) - tail :]}"
        wrapped = textwrap.wrap(short, width)
        if len(wrapped) <= lines:
            return "\n".join(wrapped).replace("$", r"\$")
    return ""


def _inches(words: Sequence[str], size: float = 8) -> float:
    """How wide the widest line is."""
    lines = {line for word in words for line in word.split("\n") if line.strip()}
    return max((float(TextPath((0, 0), line, size=size).get_extents().width) / 72 for line in lines), default=0.0)
