"""Plots of numbers: a training's history, and the metrics of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import InputError, counted
from ..evaluation.bootstrap import wilson
from .style import (
    BLUE,
    COLOURS,
    DASHES,
    GREY,
    HALO,
    MARKERS,
    VERMILLION,
    entitle,
    fit_names,
    fit_text,
    make_panels,
    styled,
    text_width,
)

Metrics: TypeAlias = Mapping[str, Any]
"""Numbers by name, nested, as JSON has them."""
MOST_NAMES = 60
"""Names along an axis."""
MOST_CLASSES = 40
"""Classes of a confusion matrix; of more, those with the most errors."""
NO_CURVE = ("epoch", "step", "seconds", "examples_per_second")
TITLES = {
    "loss": "loss, nats a point",
    "reconstruction": "reconstruction, nats a point",
    "kl": "KL, nats a point",
    "kl_divergence": "KL, nats a point",
    "active_units": "active latent dimensions",
}
FIRST = ("loss", "accuracy", "reconstruction", "kl", "kl_divergence", "active_units")
"""The panels of learning curves, in this order; others follow."""


@styled
def learning_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Plot each quantity over the epochs, training and validation in one panel; lines bridge NaN.

    :param history: columns of equal length. ``train_loss``, ``validation_loss`` and ``loss`` share a panel, and so on.
    :raises InputError: where no column holds a number.
    """
    columns = {name: np.asarray(column, dtype=float) for name, column in history.items()}
    epochs = columns.get("epoch", np.arange(1, 1 + max((len(c) for c in columns.values()), default=0)))
    panels = curves(columns)
    if not panels:
        raise InputError("history: no column with a number to draw")
    order = sorted(panels, key=lambda q: FIRST.index(q) if q in FIRST else len(FIRST))
    margin = 0.05 * float(epochs[-1] - epochs[0]) or 0.5
    width = 3 if len(order) in (5, 6, 9) else min(4, len(order))
    height = math.ceil(len(order) / width)
    figure = Figure(figsize=(2.9 * width, 2.2 * height + 0.5), layout="constrained")
    for i, quantity in enumerate(order):
        ax = figure.add_subplot(height, width, i + 1)
        lines = panels[quantity]
        for j, (split, column) in enumerate(sorted(lines, key=lambda line: line[0] != "train")):
            there = np.isfinite(column)
            marker = MARKERS[j] if there.sum() <= 30 else ""
            ax.plot(epochs[there], column[there], color=COLOURS[j], linestyle=DASHES[j], marker=marker, label=split)
        title = fit_text(TITLES.get(quantity, quantity.replace("_", " ")), 34)
        ax.set_title(title + (f" ({lines[0][0]})" if len(lines) == 1 else ""))
        ax.set_xlabel("epoch")
        ax.set_xlim(float(epochs[0]) - margin, float(epochs[-1]) + margin)
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=quantity == "active_units", min_n_ticks=1))
        ax.ticklabel_format(axis="y", useOffset=False)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        ax.grid(True)
        if len(lines) > 1:
            ax.legend()
    passes = len(epochs)
    entitle(figure, f"training over {counted(passes, 'epoch')}")
    return figure


def curves(columns: Mapping[str, np.ndarray]) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Return the columns that hold numbers by their quantity, each with its split: ``train_loss`` is loss, train."""
    found: dict[str, list[tuple[str, np.ndarray]]] = {}
    for name, column in columns.items():
        if name not in NO_CURVE and np.isfinite(column).any():
            split, _, quantity = name.partition("_")
            if split not in ("train", "validation", "val", "test") or not quantity:
                split, quantity = "train", name
            found.setdefault(quantity, []).append((split, column))
    return found


@styled
def confusion_matrix(confusion: Sequence[Sequence[int]], names: Sequence[str] = (), ax: Axes | None = None) -> Figure:
    """Plot counts of the predicted class (column) for each true class (row), shaded by their share of the row.

    Zeros stay blank. Above 20 classes, or where a cell is too small, the shade alone is drawn; above 40, the classes
    that have a part in the most errors.

    :param confusion: ``[K, K]``.
    """
    every = np.asarray(confusion)
    right, n, of = int(np.trace(every)), int(every.sum()), len(every)
    kept = erring(every, MOST_CLASSES)
    counts, k = every[np.ix_(kept, kept)], len(kept)
    fitted = fit_names(names or [str(i) for i in range(of)], 24)
    words = [fitted[i] for i in kept]
    cell = float(np.clip(6.0 / k, 0.19, 0.5)) if k > 20 else max(0.38, 1.6 / k)
    side = cell * k + text_width(words)
    figure, (panel,) = make_panels(ax, 1, (side + 1.1, side + 0.8))
    share = counts / np.maximum(every.sum(1)[kept][:, None], 1)
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
    if ax is None:
        some = f"; the {k} of {of} classes with the most errors" if k < of else ""
        entitle(figure, f"{right} of {counted(n, 'point')} {'is' if n == 1 else 'are'} right{some}")
    return figure


def erring(counts: np.ndarray, most: int) -> list[int]:
    """Return the classes that have a part in the most errors, in their order; all where there are no more."""
    errors = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    return sorted(np.argsort(-errors, kind="stable")[:most].tolist())


@styled
def attribute_bars(metrics: Metrics, ax: Axes | None = None) -> Figure:
    """Plot each attribute's accuracy beside that of the majority guess; of more than 60, those of the lowest.

    A line is the 95 % interval (Wilson's), where the number of test points is known.

    :param metrics: what :func:`~.evaluate.evaluate` gave for attributes.
    """
    found = {name: one for name, one in metrics["per_attribute"].items() if one["accuracy"] is not None}
    worst = set(sorted(found, key=lambda name: float(found[name]["accuracy"]))[:MOST_NAMES])
    found = {name: one for name, one in found.items() if name in worst}
    words = fit_names(list(found), 28)
    figure, (panel,) = make_panels(ax, 1, (4.6 + text_width(words), 0.42 * len(words) + 1.0))
    places = np.arange(len(words))
    bars = (("model", "accuracy", BLUE, ""), ("majority guess", "majority_accuracy", "#D9D9D9", "////"))
    for offset, (label, key, colour, hatch) in zip((-0.19, 0.19), bars, strict=True):
        values = [one[key] for one in found.values()]
        panel.barh(
            places + offset, values, 0.36, label=label, color=colour, hatch=hatch, edgecolor="#404040", linewidth=0.4
        )
        for place, value in zip(places + offset, values, strict=True):
            panel.text(1.01, place, f"{value:.3f}", va="center", fontsize=7)
    for place, one in zip(places - 0.19, found.values(), strict=True):
        if one.get("n"):
            panel.plot(wilson(round(one["accuracy"] * one["n"]), one["n"]), [place, place], color="black", lw=1.0)
    panel.set_yticks(places, words)
    panel.set_ylim(len(words) - 0.5, -0.5)
    panel.set_xlim(0, 1)
    panel.set_xticks(np.linspace(0, 1, 6))
    panel.set_xlabel("accuracy")
    panel.grid(True, axis="x")
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    if ax is None:
        counts = [one["n"] for one in found.values() if one.get("n")]
        span = " to ".join(str(n) for n in sorted({min(counts), max(counts)})) if counts else ""
        points = f" on {span} point{'s' * (span != '1')}, 95 % intervals" if counts else ""
        entitle(figure, f"accuracy of each attribute{points}")
    return figure


INTERVENTION_PANELS = {
    "success": "success",
    "preservation": "the other attributes preserved",
    "carry_over": "the donor's kind arrives",
}


@styled
def intervention_bars(metrics: Metrics) -> Figure:
    """Plot success, preservation and swap transfer with their intervals; a line at chance, a diamond at the ceiling.

    :param metrics: what :func:`~.interventions.evaluate_interventions` returned.
    """
    panels = [key for key in INTERVENTION_PANELS if key in metrics and metrics[key]["mean"]["value"] is not None]
    tables = [next(value for name, value in metrics[key].items() if name != "mean") for key in panels]
    tables = [{"mean": metrics[key]["mean"], **table} for key, table in zip(panels, tables)]
    rows = max(len(table) for table in tables)
    words = [word for table in tables for word in fit_names(list(table), 20)]
    size = ((2.4 + text_width(words)) * len(panels), 0.27 * rows + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    for i, (key, table) in enumerate(zip(panels, tables)):
        panel = figure.add_subplot(1, len(panels), i + 1)
        there = {name: entry for name, entry in table.items() if entry["value"] is not None}
        for place, entry in enumerate(there.values()):
            draw_entry(panel, place, entry)
        panel.set_yticks(range(len(there)), fit_names(list(there), 20))
        panel.set_ylim(rows - 0.4, -0.6)
        panel.set_xlim(0, 1.07)
        panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        panel.grid(True, axis="x")
        panel.tick_params(axis="y", length=0)
        panel.set_title(INTERVENTION_PANELS[key], loc="left")
    note = "vertical line: chance;  diamond: what the oracle reads on reconstructions"
    figure.supxlabel(note, fontsize=8, color=GREY)
    if "points" in metrics:
        entitle(
            figure, f"interventions as the oracle reads them, {counted(metrics['points'], 'point')}, 95 % intervals"
        )
    return figure


def draw_entry(panel: Axes, place: int, entry: Metrics) -> None:
    """Draw one value as a bar, with its interval, chance and ceiling where they are known."""
    value, chance, ceiling = entry["value"], entry["chance"], entry["ceiling"]["reconstruction"]
    panel.barh(place, value, 0.62, color=BLUE, alpha=1.0 if place == 0 else 0.6)
    if entry["low"] is not None:
        panel.plot([entry["low"], entry["high"]], [place, place], color="black", lw=1.0)
    panel.text(1.08, place, f"{value:.2f}", va="center", fontsize=7)
    if chance is not None:
        line = [place - 0.42, place + 0.42]
        panel.plot([chance, chance], line, color=VERMILLION, lw=1.6, path_effects=[HALO])
    if ceiling is not None:
        panel.plot(ceiling, place, "D", color="white", markeredgecolor="black", markersize=4, clip_on=False)
