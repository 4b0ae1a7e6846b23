"""One style for all plots: readable in grey and for the colour-blind; and what fits words into them."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
import warnings
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath

from ..data.notices import say

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, "#CC79A7", "#56B4E9", "#000000")
"""Okabe and Ito's, without the yellow, which is too light on white."""
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "*")
"""Ten shapes for seven colours: seventy classes have a pair each, and the first ten differ by shape alone."""
DASHES = ("-", "--", ":", "-.")
GREY = "#8C8C8C"
MOST_PIXELS = 4096
"""A side of a figure, which a person can still look at."""
HALO = withStroke(linewidth=3, foreground="white")
"""Around lines that cross images or bars, so that they are seen in grey too."""
FALLBACKS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic"),
    *("Microsoft YaHei", "Malgun Gothic", "WenQuanYi Zen Hei", "Noto Sans Devanagari", "Noto Sans Thai", "Nirmala UI"),
    *("Noto Emoji", "Segoe UI Emoji", "Segoe UI Symbol", "Arial Unicode MS"),
)
"""Fonts that have letters which DejaVu Sans lacks, as systems come with them."""
STYLE = {
    "font.family": ["DejaVu Sans", *(font for font in FALLBACKS if font in get_font_names())],
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


def resolution(figure: Figure) -> float:
    """Return the dots an inch that keep a figure within :data:`MOST_PIXELS` a side."""
    return float(min(120.0, 0.99 * MOST_PIXELS / max(figure.get_size_inches())))


def save_figure(figure: Figure, file: str | Path | BytesIO, kind: str = "png") -> None:
    """Write a figure into a file; one line says which letters no font here has, in place of a warning for each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(file, format=kind, dpi=resolution(figure))
    words = [str(warning.message) for warning in caught]
    lacking = dict.fromkeys(chr(int(m[1])) for w in words if (m := re.match(r"Glyph (\d+) .* missing from font", w)))
    if lacking:
        say_lacking("".join(lacking))
    for warning, message in zip(caught, words):
        if not message.startswith("Glyph "):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@cache
def say_lacking(letters: str) -> None:
    """Say once that letters are drawn as boxes."""
    say(f"figures: no font here has {letters}; where one that has is installed, such as Noto Sans CJK, it is taken")


def make_panels(ax: Axes | None, n: int, size: tuple[float, float], wide: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a new figure with n panels, ``wide`` side by side; or, where ``ax`` is given, its figure and it."""
    if ax is not None:
        dress(ax)
        return ax.get_figure(root=True), [ax]  # type: ignore[return-value]
    figure = Figure(figsize=size, layout="constrained")
    return figure, [figure.add_subplot(math.ceil(n / wide), wide, i + 1) for i in range(n)]


def dress(ax: Axes) -> None:
    """Set the style on axes of one's own: matplotlib applies it to new axes alone."""
    ax.spines[["top", "right"]].set_visible(False)
    for spine in ax.spines.values():
        spine.set_linewidth(0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8, width=0.6, grid_color="#E0E0E0", grid_linewidth=0.6)
    for words in (ax.title, ax.xaxis.label, ax.yaxis.label):
        words.set_fontsize(9)


LEAST_WIDTH = 3.2
"""Of a figure with a long title, in inches."""
LINE = 0.17
"""Height of a line of a title, in inches."""


def entitle(figure: Figure, words: str) -> None:
    """Put a title over a figure, from the left, in lines as wide as the figure, which grows where it is too small."""
    width, height = figure.get_size_inches()
    wide = max(width, min(LEAST_WIDTH, 0.1 * len(words)))
    lines = title_lines(words, wide)
    if lines:
        figure.set_size_inches(wide, height + LINE * (len(lines) - 1))
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10)


def title_lines(words: str, inches: float) -> list[str]:
    """Return a title in lines of at most ``inches``."""
    return textwrap.wrap(words.replace("$", r"\$"), max(16, int(12.5 * inches)))


def fit_text(name: str, width: int, lines: int = 1) -> str:
    """Return the name in ``lines`` lines of ``width`` letters; a longer one loses its middle: ends tell names apart."""
    for length in range(min(len(name), width * lines), 0, -1):
        tail = (length - 1) // 3
        short = name if length == len(name) else f"{name[: length - 1 - tail]}…{name[len(name) - tail :]}"
        wrapped = textwrap.wrap(short, width)
        if len(wrapped) <= lines:
            return "\n".join(wrapped).replace("$", r"\$")
    return ""


def fit_names(names: Sequence[str], width: int, lines: int = 1) -> list[str]:
    """Return names as :func:`fit_text` has them, but those that would then look alike whole from where they differ."""
    short = [fit_text(name, width, lines) for name in names]
    fitted = list(short)
    for word in {word for word in short if short.count(word) > 1}:
        alike = [name for name, other in zip(names, short) if other == word]
        common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(min(alike), max(alike))))
        start = len(re.sub(r"[^\W_]*$", "", alike[0][:common])) or common  # of a word
        for i, name in enumerate(names):
            if short[i] == word and len(set(alike)) > 1:
                cut = [f"{name[:head]}…{name[start:]}" for head in range(start, -1, -1)]
                fitted[i] = fit_text(
                    next((c for c in cut if len(textwrap.wrap(c, width)) <= lines), cut[-1]), width, lines
                )
    return fitted


def text_width(words: Sequence[str], size: float = 8) -> float:
    """Return the width of the widest line, in inches."""
    lines = {line for word in words for line in word.split("\n") if line.strip()}
    return max((float(TextPath((0, 0), line, size=size).get_extents().width) / 72 for line in lines), default=0.0)
