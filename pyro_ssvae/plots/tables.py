"""Rows of a table, drawn with its columns' names: numbers in standardised units, words as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..data.schema import Schema
from .style import GREY, VERMILLION, entitle, fit_names, fit_text, make_panels, text_width

MOST_COLUMNS = 30
"""Columns that are drawn; of a table of more, the first ones."""
REACH = 5.0
"""Standard deviations that a panel shows at most; what lies beyond is drawn at its edge."""
IN_UNITS = "standard deviations from the mean"


@runtime_checkable
class OfTable(Protocol):
    """A model whose points are rows of a table, or may be."""

    schema: Schema | None
    column_names: tuple[str, ...] | None


@dataclass(frozen=True)
class Units:
    """The columns that are drawn.

    :param names: of the columns.
    :param loc: each column's mean, and ``scale`` its standard deviation: ``[D]``.
    :param words: of each column the words that its codes stand for; none of a number.
    :param of: how many columns the table has.
    """

    names: tuple[str, ...]
    loc: Tensor
    scale: Tensor
    words: tuple[tuple[str, ...], ...]
    of: int

    def standardised(self, x: Tensor) -> Tensor:
        """Return ``(x - loc) / scale`` of the columns that are drawn, ``[..., D]``."""
        return (x[..., : len(self.names)].double().cpu() - self.loc) / self.scale

    @property
    def cut(self) -> str:
        """What a title says of columns that are left out."""
        return f"; the first {len(self.names)} of {self.of} columns" if len(self.names) < self.of else ""


def units_of(model: nn.Module, x: Tensor) -> Units | None:
    """Return the columns of a model's table, with mean and deviation of the rows ``x [N, D]``, gaps (NaN) left out.

    None of pictures and series, and of vectors of more than :data:`MOST_COLUMNS` features without names: these are
    lines.
    """
    schema = model.schema if isinstance(model, OfTable) else None
    names = model.column_names if schema is None and isinstance(model, OfTable) else None
    names = schema.names if schema is not None else names
    if x.dim() != 2 or (names is None and x.shape[1] > MOST_COLUMNS):
        return None
    shown = [column[~column.isnan()].double() for column in x[:, :MOST_COLUMNS].detach().cpu().unbind(1)]
    loc = torch.stack([values.sum() / max(1, len(values)) for values in shown])
    scale = torch.stack([((v - m).square().sum() / max(1, len(v))).sqrt() for v, m in zip(shown, loc)])
    words = [column.words for column in schema.columns] if schema is not None else [()] * len(shown)
    every = names or tuple(f"feature {i}" for i in range(x.shape[1]))
    kept = len(shown)
    return Units(tuple(every[:kept]), loc, scale.where(scale > 0, 1.0), tuple(words[:kept]), x.shape[1])


def draw_dots(
    x: Tensor,
    mean: Tensor,
    titles: Sequence[str],
    units: Units,
    *,
    sd: Tensor | None = None,
    title: str = "",
    words: tuple[str, str] = ("input", "reconstruction"),
    ax: Axes | None = None,
) -> Figure:
    """Draw a panel a row: each column's cell and what the model expects there, side by side on one scale.

    :param x: rows ``[n, D]``, NaN where a cell is missing.
    :param mean: what the model expects, ``[n, D]``; ``sd`` its deviation, drawn as ± 2 of it.
    :param words: what the two are called.
    """
    n, d = len(x), len(units.names)
    names = fit_names(units.names, 22)
    wide = min(6, n) if d <= 20 else min(4, n)
    high = math.ceil(n / wide)
    size = (1.75 * wide + text_width(names) + 0.3, (0.19 * d + 0.45) * high + 0.9)
    figure, panels = make_panels(ax, n, size, wide)
    place, at = units.standardised(x), units.standardised(mean)
    wide_sd = None if sd is None else 2 * sd[..., :d].double().cpu() / units.scale
    number = torch.tensor([not w for w in units.words])
    ends = [] if wide_sd is None else [at - wide_sd, at + wide_sd]
    seen = torch.cat([v[:, number].flatten() for v in (place, at, *ends)]).abs().nan_to_num()
    reach = min(REACH, max(2.0, float(seen.max()) * 1.1)) if len(seen) else 2.0
    for i, panel in enumerate(panels):
        draw_row(panel, place[i], at[i], None if wide_sd is None else wide_sd[i], number, reach, words)
        for k in (~number).nonzero().flatten().tolist():
            panel.text(-reach, k, expected_words(x[i, k], mean[i, k], units.words[k]), va="center", fontsize=6.5)
        panel.set_yticks(range(d), names if i % wide == 0 else [""] * d)
        panel.set_ylim(d - 0.5, -0.5)
        panel.set_xlim(-1.08 * reach, 1.08 * reach)
        panel.tick_params(axis="y", length=0)
        panel.grid(True)
        panel.set_title(fit_text(titles[i], 22), loc="left")
    handles, labels = legend_entries(panels)
    if ax is None:
        figure.legend(handles, labels, loc="outside lower left", ncols=3)
        panels[n - 1 - (n - 1) % wide].set_xlabel(IN_UNITS, loc="left")
        entitle(figure, title + units.cut if title else "")
    else:
        ax.set_xlabel(IN_UNITS)
        ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)
    return figure


def draw_row(
    panel: Axes, x: Tensor, mean: Tensor, reach_of: Tensor | None, number: Tensor, reach: float, words: tuple[str, str]
) -> None:
    """Draw one row's numbers ``[D]``; those beyond the panel lie at its edge."""
    rows = np.arange(len(x))
    here, gap = (number & ~x.isnan()).numpy(), (number & x.isnan()).numpy()
    seen, at = (v.clamp(-reach, reach).numpy() for v in (x, mean))
    panel.hlines(rows[here], seen[here], at[here], color=GREY, lw=0.8)
    if reach_of is not None:
        some = number.numpy()
        ends = [(mean + sign * reach_of).clamp(-reach, reach).numpy()[some] for sign in (-1, 1)]
        panel.hlines(rows[some], *ends, color=VERMILLION, lw=3.0, alpha=0.25)
    panel.plot(seen[here], rows[here], "o", color=GREY, ms=5, label=words[0])
    panel.plot(at[here], rows[here], "D", color=VERMILLION, ms=3.2, label=words[1])
    if gap.any():
        panel.plot(at[gap], rows[gap], "D", color="white", mec=VERMILLION, ms=4, label="of a missing cell")


def legend_entries(panels: Sequence[Axes]) -> tuple[list[Artist], list[str]]:
    """Return what a legend of all panels shows, each word once."""
    found: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels()):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def expected_words(x: Tensor, mean: Tensor, words: Sequence[str]) -> str:
    """Return a cell of words and what is expected: the word, ``→`` another one, or the probability of the second."""
    own = "?" if bool(x.isnan()) else word_of(float(x), words)
    value = float(mean)
    if len(words) == 2:
        return f"{fit_text(own, 8)}; {fit_text(words[1], 8)} {value:.0%}"
    expected = word_of(value, words)
    return fit_text(own, 12) if own == expected else f"{fit_text(own, 9)} → {fit_text(expected, 9)}"


def word_of(value: float, words: Sequence[str]) -> str:
    """Return the word of a code."""
    return words[min(max(round(value), 0), len(words) - 1)]


def draw_heat(grid: Tensor, names: Sequence[str], units: Units, *, title: str = "", ax: Axes | None = None) -> Figure:
    """Draw rows of a table as shades of standardised units, with their numbers; of several draws, the mean.

    :param grid: ``[rows, n, D]``.
    :param names: of the rows.
    """
    values = units.standardised(grid.double().nanmean(1)).numpy()
    columns = fit_names([column_words(name, words) for name, words in zip(units.names, units.words)], 24)
    rows = fit_names(names, 36)
    size = (0.42 * len(columns) + text_width(rows) + 1.3, 0.24 * len(rows) + text_width(columns) + 1.0)
    figure, (panel,) = make_panels(ax, 1, (max(size[0], 4.5), size[1]))
    number = np.array([not words for words in units.words])
    image = panel.imshow(np.where(number, values, np.nan), cmap="PuOr_r", vmin=-3, vmax=3, aspect="auto")
    for i, k in np.ndindex(values.shape):
        words = units.words[k]
        text = f"{values[i, k]:.1f}".replace("-0.0", "0.0") if not words else heat_words(grid[i, :, k], words)
        colour = "white" if not words and abs(values[i, k]) > 2.2 else "black"
        panel.text(k, i, text, ha="center", va="center", fontsize=6.5, color=colour)
    panel.xaxis.tick_top()
    panel.set_xticks(range(len(columns)), columns, rotation=90)
    panel.set_yticks(range(len(rows)), rows)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    figure.colorbar(image, ax=panel, shrink=0.8, aspect=12, label="sd")
    if ax is None:
        entitle(figure, f"{title}, in {IN_UNITS}{units.cut}".removeprefix(", "))
    return figure


def column_words(name: str, words: Sequence[str]) -> str:
    """Return a column's name; of one of two words also the second, whose share stands in the cells."""
    return f"{name}: {words[1]}" if len(words) == 2 else name


def heat_words(codes: Tensor, words: Sequence[str]) -> str:
    """Return the share of the second of two words, the commonest of more."""
    if len(words) == 2:
        return f"{float(codes.nanmean()):.0%}"
    counts = torch.bincount(codes.nan_to_num().round().long().clamp(0, len(words) - 1), minlength=len(words))
    return fit_text(words[int(counts.argmax())], 7)
