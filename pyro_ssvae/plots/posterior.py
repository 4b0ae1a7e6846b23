"""Pictures of what a model believes of one point: its label, its latents, what it expects to see, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..data.augment import unit_scale
from .summary import BLUE, GREY, ORANGE, VERMILLION, _fit, _inches, _lines, _mosaic, _panels, styled

MOST_LATENTS = 16
MOST_NAMES = 18


@styled
def label_bars(
    beliefs: Mapping[str, Sequence[float]], names: Sequence[str], known: Sequence[int] = (), ax: Axes | None = None
) -> Figure:
    """Probabilities of labels as pairs of bars, one pair a class or attribute; the point's own label is starred.

    Above 18 names the most probable are shown.

    :param beliefs: up to two, such as ``{"q(y | x)": [...], "p(y | x)": [...]}``.
    :param known: the label's places among the names.
    """
    values = np.array([list(column) for column in beliefs.values()])
    order = sorted(np.argsort(-values.max(0), kind="stable")[:MOST_NAMES].tolist())
    words = [("★ " if i in known else "") + _fit(names[i], 20) for i in order]
    figure, (panel,) = _panels(ax, 1, (2.6 + _inches(words), 0.26 * len(words) + 0.9))
    places, height = np.arange(len(order)), 0.8 / len(values)
    looks = ((BLUE, ""), (ORANGE, "////"))
    for j, (label, (colour, hatch)) in enumerate(zip(beliefs, looks)):
        at = places + (j - (len(values) - 1) / 2) * height
        panel.barh(at, values[j, order], height, label=label, color=colour, hatch=hatch, edgecolor="#404040", lw=0.4)
    panel.set_yticks(places, words)
    panel.set_ylim(len(order) - 0.5, -0.5)
    panel.set_xlim(0, 1)
    panel.set_xticks([0, 0.5, 1])
    panel.set_xlabel("probability" + ("; ★ its label" if len(known) else ""))
    panel.tick_params(axis="y", length=0)
    panel.grid(True, axis="x")
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.2)
    return figure


@styled
def term_bars(terms: Mapping[str, float], ax: Axes | None = None) -> Figure:
    """The ELBO's terms of one point, in nats, those that are zero left out; their sum stands in the title.

    :param terms: by site, as a row of ``ps.sites(...).terms``.
    """
    shown = {name: value for name, value in terms.items() if abs(value) > 1e-9}
    words = [_fit(name, 24) for name in shown]
    figure, (panel,) = _panels(ax, 1, (2.8 + _inches(words), 0.3 * len(words) + 1.0))
    values = list(shown.values())
    panel.barh(range(len(words)), values, 0.6, color=[VERMILLION if v < 0 else BLUE for v in values])
    panel.axvline(0, color="black", lw=0.6)
    for i, value in enumerate(values):
        panel.text(value, i, f" {value:.4g} ", va="center", ha="left" if value >= 0 else "right", fontsize=7)
    panel.set_yticks(range(len(words)), words)
    panel.set_ylim(max(len(words), 1) - 0.5, -0.5)
    reach = max([abs(v) for v in values], default=1.0)
    panel.set_xlim(min([0.0, *values]) - 0.35 * reach, max([0.0, *values]) + 0.35 * reach)
    panel.locator_params(axis="x", nbins=4)
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel("nats")
    panel.set_title(f"ELBO {sum(terms.values()):.4g} nats, by site", loc="left")
    return figure


@styled
def latent_intervals(draws: Mapping[str, Tensor], ax: Axes | None = None) -> Figure:
    """Mean and ± 2 standard deviations of latent dimensions; above 16, those that are known best.

    :param draws: ``[S]`` by the dimension's name.
    """
    found = {name: (float(v.double().mean()), float(v.double().std())) for name, v in draws.items()}
    narrow = sorted(found, key=lambda name: found[name][1])[:MOST_LATENTS]
    chosen = [name for name in found if name in narrow]
    words = [_fit(name, 18) for name in chosen]
    figure, (panel,) = _panels(ax, 1, (2.6 + _inches(words), 0.2 * len(words) + 0.9))
    loc, scale = (np.array([found[name][i] for name in chosen]) for i in (0, 1))
    panel.errorbar(loc, np.arange(len(loc)), xerr=2 * scale, fmt="o", color=BLUE, ms=3, lw=1.2)
    panel.axvline(0, color=GREY, lw=0.6, ls="--")
    panel.set_yticks(range(len(words)), words)
    panel.set_ylim(len(words) - 0.5, -0.5)
    panel.locator_params(axis="x", nbins=5)
    panel.tick_params(axis="y", length=0)
    panel.grid(True, axis="x")
    panel.set_xlabel("mean ± 2 sd under the guide")
    few = f", the {len(chosen)} of {len(found)} known best" if len(chosen) < len(found) else ""
    panel.set_title(f"latents{few}", loc="left")
    return figure


@styled
def expected_points(x: Any, predictive: Any, *, draws: int = 4, ax: Axes | None = None) -> Figure:
    """A point beside the mean and the standard deviation of its posterior predictive, and some draws of that.

    :param x: ``[C, H, W]``, ``[C, T]`` or ``[D]``, on the scale of the model.
    :param predictive: draws ``[S, *x.shape]``.
    """
    x, predictive = torch.as_tensor(x).float(), torch.as_tensor(predictive).float()
    if x.dim() != 3:
        groups = [x[None, None], predictive.mean(0)[None, None]]
        return _lines(groups, ["input", "posterior predictive mean"], [""], x[None], ax)
    images = [x, predictive.mean(0), predictive.std(0), *predictive[:draws]]
    figure, (panel,) = _panels(ax, 1, (0.95 * len(images) + 0.3, 1.5))
    _mosaic(panel, torch.stack(images).clamp(0, 1)[None], [""], len(images))
    pitch = panel.get_images()[0].get_array().shape[1] / len(images)  # type: ignore[union-attr]
    words = ["point", "mean", "sd", *[f"draw {i + 1}" for i in range(min(draws, len(predictive)))]]
    panel.xaxis.tick_top()
    panel.set_xticks([(i + 0.5) * pitch - 0.5 for i in range(len(words))], words)
    cell = 0.9 if ax is None else panel.get_window_extent().width / figure.dpi / len(images)
    panel.tick_params(axis="x", length=0, labelsize=min(8.0, 8 * 0.9 * cell / _inches(words)))
    return figure


@styled
def contact_sheet(x: Any, titles: Sequence[str], columns: int = 5) -> Figure:
    """Points beside one another, each under its title of up to two lines; vectors and series as lines.

    :param x: images ``[n, C, H, W]``, vectors ``[n, D]`` or series ``[n, C, T]``.
    """
    x = unit_scale(torch.as_tensor(x).detach().cpu())
    if x.dim() != 4:
        return _lines([x[:, None]], ["point"], [title.replace("\n", " ") for title in titles], x, None)
    rows = math.ceil(len(x) / columns)
    figure = Figure(figsize=(1.5 * columns, 1.85 * rows), layout="constrained")
    for i, title in enumerate(titles):
        panel = figure.add_subplot(rows, columns, i + 1)
        _mosaic(panel, x[None, i : i + 1].float(), [""], 1)
        panel.set_anchor("S")
        panel.set_title("\n".join(_fit(line, 20) for line in title.split("\n")), fontsize=7)
    return figure


@styled
def inspection(
    data: Any,
    terms: Mapping[str, float],
    beliefs: Mapping[str, Sequence[float]],
    known: Sequence[int] = (),
    title: str = "",
) -> Figure:
    """All of one point: what the model expects to see, the label, the latents, the ELBO's terms.

    :param data: what :func:`~pyro_ssvae.posterior` gave for this one point.
    :param terms: its row of ``ps.sites(...).terms``.
    :param beliefs: as for :func:`label_bars`; may be empty.
    :param known: as there.
    """
    latents, names = latent_draws(data), label_names(data)
    panels = [bool(beliefs), bool(latents), True]
    rows = max(min(len(names), MOST_NAMES) if beliefs else 0, min(len(latents), MOST_LATENTS), len(terms))
    seen = "x" in data["observed_data"] if "observed_data" in names_of(data) else False
    height = 0.23 * rows + 1.3
    figure = Figure(figsize=(3.1 * sum(panels), height + (1.7 if seen else 0.0)), layout="constrained")
    grid = figure.add_gridspec(2 if seen else 1, sum(panels), height_ratios=[1.5, height] if seen else None)
    if seen:
        x = data["observed_data"]["x"].isel(point=0).values
        predictive = data["posterior_predictive"]["x"].isel(point=0).values
        expected_points(x, predictive.reshape(-1, *x.shape), ax=figure.add_subplot(grid[0, :]))
    places = iter(grid[-1, i] for i in range(sum(panels)))
    if beliefs:
        label_bars(beliefs, names, known, ax=figure.add_subplot(next(places)))
    if latents:
        latent_intervals(latents, ax=figure.add_subplot(next(places)))
    costs = figure.add_subplot(next(places))
    term_bars(terms, ax=costs)
    costs.set_ylim(max(costs.get_ylim()[0], 7.5), -0.5)  # bars no thicker than those beside them
    if title:
        figure.suptitle(_fit(title, 70), x=0.01, ha="left", fontsize=10)
    return figure


def names_of(data: Any) -> list[str]:
    """The groups of ArviZ data, of either version."""
    groups = data.groups() if callable(data.groups) else data.groups
    return [str(group).strip("/") for group in groups]


def label_names(data: Any) -> list[str]:
    """The class or attribute names that ArviZ data holds."""
    for group in ("constant_data", "posterior", "observed_data"):
        for name in ("class", "attribute") if group in names_of(data) else ():
            if name in data[group].coords:
                return [str(word) for word in data[group].coords[name].values]
    return []


def latent_draws(data: Any) -> dict[str, Tensor]:
    """The draws ``[S]`` of every real-valued latent dimension of the first point, by name."""
    found: dict[str, Tensor] = {}
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
