"""Plots of one point: its label, its latents, its posterior predictive, the terms of its objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from .lines import draw_lines
from .points import mosaic
from .style import BLUE, GREY, ORANGE, VERMILLION, entitle, fit_names, make_panels, styled, text_width
from .tables import Units, draw_dots

Groups: TypeAlias = Any  # ArviZ data, whose versions have no type in common

CUT = 4.0
"""A term more than :data:`CUT` times the next largest is cut off in the plot, so that the others can be seen."""
MOST_LATENTS = 16
MOST_NAMES = 18


@styled
def label_bars(
    probs: Mapping[str, Sequence[float]], names: Sequence[str], known: Sequence[int] = (), ax: Axes | None = None
) -> Figure:
    """Plot probabilities of labels as pairs of bars, one pair a class or attribute; the point's own label is starred.

    Above 18 names the most probable are shown, and the point's own label.

    :param probs: one or two, such as ``{"q(y | x)": [...], "p(y | x)": [...]}``.
    :param known: the label's places among the names.
    """
    values = np.array([list(column) for column in probs.values()])
    own = np.isin(np.arange(values.shape[1]), known)
    order = sorted(np.argsort(-values.max(0) - own, kind="stable")[:MOST_NAMES].tolist())
    short = fit_names(names, 20)
    words = [("★ " if i in known else "") + short[i] for i in order]
    figure, (panel,) = make_panels(ax, 1, (2.6 + text_width(words), 0.26 * len(words) + 0.9))
    places, height = np.arange(len(order)), 0.8 / len(values)
    looks = ((BLUE, ""), (ORANGE, "////"))
    for j, (label, (colour, hatch)) in enumerate(zip(probs, looks)):
        at = places + (j - (len(values) - 1) / 2) * height
        panel.barh(at, values[j, order], height, label=label, color=colour, hatch=hatch, edgecolor="#404040", lw=0.4)
    panel.set_yticks(places, words)
    panel.set_ylim(len(order) - 0.5, -0.5)
    panel.set_xlim(0, 1)
    panel.set_xticks([0, 0.5, 1])
    panel.set_xlabel("probability" + ("; ★ its label" if own.any() else ""))
    panel.tick_params(axis="y", length=0)
    panel.grid(True, axis="x")
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.2)
    return figure


@styled
def term_bars(terms: Mapping[str, float], ax: Axes | None = None) -> Figure:
    """Plot the terms of one point's objective, in nats, without those that are zero; their sum stands in the title.

    A bar of more than four times the next largest is cut, in a lighter shade, so that the others are seen beside it.

    :param terms: by site, as a row of ``ps.sites(...).terms``.
    """
    shown = {name: value for name, value in terms.items() if abs(value) > 1e-9}
    words = fit_names(list(shown), 24)
    figure, (panel,) = make_panels(ax, 1, (2.8 + text_width(words), 0.3 * len(words) + 1.0))
    sizes = sorted((abs(v) for v in shown.values()), reverse=True)
    most = CUT * sizes[1] if len(sizes) > 1 and sizes[0] > CUT * sizes[1] else float("inf")
    values = [float(np.clip(v, -most, most)) for v in shown.values()]
    bars = panel.barh(range(len(words)), values, 0.6, color=[VERMILLION if v < 0 else BLUE for v in values])
    panel.axvline(0, color="black", lw=0.6)
    for i, (full, value, bar) in enumerate(zip(shown.values(), values, bars)):
        number = f"{full:.4g}" if abs(full) < 1e4 else f"{full:.2g}"
        if full != value:
            bar.set(alpha=0.5, hatch="//", edgecolor="white")
            number += ", cut"
        panel.text(value, i, f" {number} ", va="center", ha="left" if value >= 0 else "right", fontsize=7)
    panel.set_yticks(range(len(words)), words)
    panel.set_ylim(max(len(words), 1) - 0.5, -0.5)
    least, largest = min([0.0, *values]), max([0.0, *values])
    room = (0.36 if most == float("inf") else 0.8) * (largest - least or 1.0)  # for the numbers
    panel.set_xlim(least - room, largest + room)
    panel.locator_params(axis="x", nbins=4)
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel("nats")
    panel.set_title(f"objective {sum(terms.values()):.4g} nats, by site", loc="left")
    return figure


@styled
def latent_intervals(draws: Mapping[str, Tensor], ax: Axes | None = None) -> Figure:
    """Plot mean and ± 2 standard deviations of latent dimensions; above 16, of those with the least deviation.

    :param draws: ``[S]`` by the dimension's name.
    """
    found = {name: (float(v.double().mean()), float(v.double().std())) for name, v in draws.items()}
    narrow = sorted(found, key=lambda name: found[name][1])[:MOST_LATENTS]
    chosen = [name for name in found if name in narrow]
    words = fit_names(chosen, 18)
    figure, (panel,) = make_panels(ax, 1, (2.6 + text_width(words), 0.2 * len(words) + 0.9))
    loc, scale = (np.array([found[name][i] for name in chosen]) for i in (0, 1))
    panel.errorbar(loc, np.arange(len(loc)), xerr=2 * scale, fmt="o", color=BLUE, ms=3, lw=1.2)
    panel.axvline(0, color=GREY, lw=0.6, ls="--")
    panel.set_yticks(range(len(words)), words)
    panel.set_ylim(len(words) - 0.5, -0.5)
    panel.locator_params(axis="x", nbins=5)
    panel.tick_params(axis="y", length=0)
    panel.grid(True, axis="x")
    panel.set_xlabel("mean ± 2 sd under the guide")
    few = f", the {len(chosen)} of {len(found)} that vary least" if len(chosen) < len(found) else ""
    panel.set_title(f"latents{few}", loc="left")
    return figure


@styled
def expected_points(
    x: ArrayLike, predictive: ArrayLike, *, draws: int = 4, ax: Axes | None = None, units: Units | None = None
) -> Figure:
    """Plot a point beside the mean and the standard deviation of draws of what the model expects, and some of these.

    Vectors and series are lines with a band of ± 2 standard deviations, rows of a table are drawn column by column.

    :param x: ``[C, H, W]``, ``[C, T]`` or ``[D]``, on the scale of the model.
    :param predictive: draws ``[S, *x.shape]``, of x or of E[x | z].
    :param draws: how many of them are shown. The standard deviation is drawn from black, 0, to white, its largest.
    :param units: of a row of a table, its columns (:func:`units_of`).
    """
    point, drawn = torch.as_tensor(x).float(), torch.as_tensor(predictive).float()
    mean, sd = drawn.mean(0), drawn.std(0)
    if point.dim() == 1 and units is not None:
        both = ("input", "expected, ± 2 sd")
        return draw_dots(point[None], mean[None], [""], units, sd=sd[None], ax=ax, words=both)
    if point.dim() != 3:
        groups = [point[None, None], mean[None, None]]
        band = ((mean - 2 * sd)[None], (mean + 2 * sd)[None])
        return draw_lines(groups, ["input", "expected, ± 2 sd"], [""], point[None], ax, band=band)
    most = max(float(sd.max()), 1e-12)
    images = [point, mean, sd / most, *drawn[:draws]]
    figure, (panel,) = make_panels(ax, 1, (0.95 * len(images) + 0.3, 1.5))
    mosaic(panel, torch.stack(images)[None], [""], len(images))
    pitch = panel.get_images()[0].get_array().shape[1] / len(images)  # type: ignore[union-attr]
    words = ["point", "mean", f"sd, to {most:.2g}", *[f"draw {i + 1}" for i in range(min(draws, len(drawn)))]]
    panel.xaxis.tick_top()
    panel.set_xticks([(i + 0.5) * pitch - 0.5 for i in range(len(words))], words)
    cell = 0.9 if ax is None else panel.get_window_extent().width / figure.dpi / len(images)
    panel.tick_params(axis="x", length=0, labelsize=min(8.0, 8 * 0.9 * cell / text_width(words)))
    return figure


@styled
def inspection(
    data: Groups,
    terms: Mapping[str, float],
    probs: Mapping[str, Sequence[float]],
    known: Sequence[int] = (),
    title: str = "",
    *,
    names: Sequence[str] = (),
    expected: ArrayLike | None = None,
    units: Units | None = None,
) -> Figure:
    """Plot all of one point: what the model expects, its label, its latents, the terms of its objective.

    :param data: what :func:`~pyro_ssvae.posterior` gave for this one point.
    :param terms: its row of ``ps.sites(...).terms``.
    :param probs: as for :func:`label_bars`; may be empty.
    :param known: as there.
    :param names: those of the probabilities; by default the data's, or else numbers.
    :param expected: draws ``[S, *x.shape]`` of E[x | z] under the guide, for pictures; without them mean and standard
        deviation of the posterior predictive alone, whose single draws are mostly noise.
    :param units: of a row of a table, its columns (:func:`units_of`).
    """
    latents, size = latent_draws(data), max(map(len, probs.values()), default=0)
    names = list(names) or label_names(data) or [str(i) for i in range(size)]
    panels = [bool(probs), bool(latents), True]
    rows = max(min(len(names), MOST_NAMES) if probs else 0, min(len(latents), MOST_LATENTS), len(terms))
    seen = "x" in data["observed_data"] if "observed_data" in names_of(data) else False
    height, top = 0.23 * rows + 1.4, 1.5 if units is None else 0.19 * len(units.names) + 0.8
    page = (3.1 * sum(panels), height + (top + 0.2 if seen else 0.0))
    figure = Figure(figsize=page, layout="constrained")
    grid = figure.add_gridspec(2 if seen else 1, sum(panels), height_ratios=[top, height] if seen else None)
    if seen:
        x = data["observed_data"]["x"].isel(point=0).values
        predictive = data["posterior_predictive"]["x"].isel(point=0).values.reshape(-1, *x.shape)
        pictures, draws = (predictive, 0) if expected is None or x.ndim != 3 else (expected, 4)
        expected_points(x, pictures, draws=draws, ax=figure.add_subplot(grid[0, :]), units=units)
    places = iter(grid[-1, i] for i in range(sum(panels)))
    if probs:
        beliefs = figure.add_subplot(next(places))
        label_bars(probs, names, known, ax=beliefs)
        beliefs.set_ylim(max(beliefs.get_ylim()[0], 5.5), -0.5)  # bars no thicker than elsewhere
    if latents:
        latent_intervals(latents, ax=figure.add_subplot(next(places)))
    costs = figure.add_subplot(next(places))
    term_bars(terms, ax=costs)
    costs.set_ylim(max(costs.get_ylim()[0], 7.5), -0.5)  # bars no thicker than those beside them
    entitle(figure, title)
    return figure


def names_of(data: Groups) -> list[str]:
    """Return the groups of ArviZ data, of either version."""
    groups = data.groups() if callable(data.groups) else data.groups
    return [str(group).strip("/") for group in groups]


def label_names(data: Groups) -> list[str]:
    """Return the class or attribute names that ArviZ data holds."""
    for group in ("constant_data", "posterior", "observed_data"):
        for name in ("class", "attribute") if group in names_of(data) else ():
            if name in data[group].coords:
                return [str(word) for word in data[group].coords[name].values]
    return []


def latent_draws(data: Groups) -> dict[str, Tensor]:
    """Return the draws ``[S]`` of every real-valued latent dimension of the first point, by name."""
    found: dict[str, Tensor] = {}
    if "posterior" not in names_of(data):
        return found
    for name, values in data["posterior"].data_vars.items():
        if values.attrs.get("kind") not in ("latent", "auxiliary") or "point" not in values.dims:
            continue
        one = values.isel(point=0)
        if one.dtype.kind != "f" or not [d for d in one.dims if str(d).startswith(str(name))]:
            continue
        rest = [d for d in one.dims if d not in ("chain", "draw")]
        flat = one.stack(draws=("chain", "draw"), at=rest).transpose("at", "draws")
        for at, column in zip(flat.coords["at"].values, flat.values):
            places = ", ".join(str(part) for part in at)
            found[f"{name}[{places}]"] = torch.as_tensor(np.array(column))
    return found
