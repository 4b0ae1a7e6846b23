"""The pieces of the page of ``pyro-ssvae explore``: images, bars and intervals as HTML, with nothing from outside.

Images are PNGs inside the page and lines are SVGs, so that the server keeps no files; every word is escaped.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape

import torch
from PIL import Image
from torch import Tensor

from ..plots.style import BLUE, ORANGE
from .grids import Grid

MOST_BARS = 18
MOST_LATENTS = 16
SIDE = 200  # of a picture, in pixels, about
LARGE = 32  # pixels a side from which images stay as they are, for the browser to enlarge

STYLE = f"""
.ps figure {{ margin: 0; display: inline-block; text-align: center; vertical-align: top; }}
.ps figcaption {{ font-size: 13px; margin-top: 4px; }}
.ps figcaption a {{ font-size: 12px; margin-left: 6px; }}
.ps img, .ps svg {{ border-radius: 4px; display: block; margin: 0 auto; }}
.ps .big img {{ width: {SIDE}px; max-width: none; }}
.ps .lines {{ color: var(--body-text-color); background: var(--background-fill-primary); }}
.ps .side {{ display: flex; gap: 14px; flex-wrap: wrap; }}
.ps .quiet {{ color: var(--body-text-color-subdued); font-size: 13px; }}
.ps .scroll {{ overflow-x: auto; }}
.ps .grid, .ps .grid tr, .ps .grid td, .ps .grid th {{ border: 0 !important; background: none !important; }}
.ps .grid td {{ padding: 2px; }}
.ps .grid th {{ padding: 2px 6px; font-weight: 500; font-size: 13px; white-space: nowrap; text-align: center; }}
.ps .grid th:first-child {{ text-align: right; }}
.ps .grid img {{ width: 56px; }}
.ps .cells td {{ padding: 1px 8px; font-size: 13px; text-align: right; font-variant-numeric: tabular-nums; }}
.ps .bars {{ display: grid; grid-template-columns: max-content 1fr max-content; gap: 5px 8px; font-size: 13px;
  align-items: center; }}
.ps .bars .name {{ text-align: right; max-width: 150px; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }}
.ps .bars .number {{ font-variant-numeric: tabular-nums; }}
.ps .track {{ background: var(--background-fill-secondary); border-radius: 2px; }}
.ps .bar {{ height: 7px; min-width: 1px; border-radius: 2px; }}
.ps .zeroth {{ background: #A0A0A0; margin-bottom: 1px; }}
.ps .first {{ background: {BLUE}; }}
.ps .second {{ background: repeating-linear-gradient(135deg, {ORANGE} 0 4px, #F5CF80 4px 7px); margin-top: 1px; }}
.axis label span {{ font-size: 12px; }}
.axis {{ align-items: center; gap: 6px; }}
.axis button.sm {{ padding: 4px 6px; font-size: 12px; }}
.ps .key {{ display: inline-block; width: 22px; margin: 0 5px 1px 0; vertical-align: middle; }}
"""


def png(x: Tensor, least: int = SIDE, gap: int = 0) -> bytes:
    """Return an image ``[C, H, W]``, or a mosaic of images ``[rows, columns, C, H, W]``, as a PNG.

    Small images are enlarged to at least ``least`` a side, so that their pixels are seen as such.

    Channels other than 1 and 3 are averaged. Black is 0 and white 1 in every picture, so that any two can be compared.
    """
    x = x.detach().float().cpu()
    x = x[None, None] if x.dim() == 3 else x
    if x.shape[2] not in (1, 3):
        x = x.mean(2, keepdim=True)
    rows, columns, channels, height, width = x.shape
    canvas = torch.ones(rows, columns, channels, height + gap, width + gap)
    canvas[..., :height, :width] = x.clamp(0, 1)
    flat = canvas.permute(0, 3, 1, 4, 2).reshape(rows * (height + gap), columns * (width + gap), channels)
    flat = flat[: flat.shape[0] - gap, : flat.shape[1] - gap].mul(255).round().byte()
    image = Image.fromarray(flat.squeeze(-1).numpy() if channels == 1 else flat.numpy())
    side = max(height, width)
    times = 1 if side >= LARGE else math.ceil(least / side)
    file = io.BytesIO()
    image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def svg(x: Tensor, behind: Tensor | None = None, width: int = SIDE, height: int = 150) -> str:
    """Return a vector ``[D]`` or series ``[C, T]`` as a line, one channel after another, over the grey ``behind``.

    What is missing (NaN) is drawn as 0.
    """
    lines = [line.nan_to_num() for line in ([x] if behind is None else [behind, x])]
    low, high = min(float(line.min()) for line in lines), max(float(line.max()) for line in lines)
    drawn = []
    for line, look in zip(lines[::-1], ('stroke="currentColor" stroke-width="1"', 'stroke="#A0A0A0" stroke-width="2"')):
        y = (line.detach().float().cpu().flatten() - low) / max(high - low, 1e-12)
        across = torch.linspace(2, width - 2, len(y)) if len(y) > 1 else torch.tensor([width / 2])
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across.tolist(), (height - 4 - y * (height - 8)).tolist()))
        drawn.append(f'<polyline points="{points}" fill="none" {look}/>')
    for c in range(1, x.shape[0] if x.dim() == 2 else 1):
        at = 2 + c * (width - 4) / x.shape[0]
        drawn.append(f'<path d="M{at:.1f} 0V{height}" stroke="#A0A0A0" stroke-width="0.6" stroke-dasharray="2 2"/>')
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="lines" {size}>{"".join(drawn[::-1])}</svg>'


def address(content: bytes, kind: str) -> str:
    """Return a file as an address that holds all of it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture(x: Tensor, words: str, name: str, behind: Tensor | None = None) -> str:
    """Return one point, its caption, and a link that saves it as a file of that name.

    :param x: ``[C, H, W]``, ``[C, T]`` or ``[D]``.
    :param behind: a point of the same shape, drawn in grey behind lines.
    """
    if x.dim() == 3:
        source = address(png(x), "image/png")
        shown, file = f'<img src="{source}" alt="{escape(words)}">', f"{name}.png"
    else:
        shown, file = svg(x, behind), f"{name}.svg"
        source = address(shown.replace("currentColor", "black").encode(), "image/svg+xml")
    save = f'<a href="{source}" download="{escape(file)}">save</a>'
    return f'<figure class="big">{shown}<figcaption>{escape(words)}{save}</figcaption></figure>'


def cells(
    names: Sequence[str], first: Sequence[str], second: Sequence[str], heads: tuple[str, str], both: bool = True
) -> str:
    """Return two rows of a table beside one another, a column a line; where they differ in bold.

    :param both: show the first too; without, names are cut to 14 letters, for a narrow place.
    """
    rows = "".join(
        f'<tr><th title="{escape(name)}">{escape(name if both else shortened(name))}</th>'
        f"{f'<td>{escape(a)}</td>' if both else ''}<td>{escape(b) if a == b else f'<b>{escape(b)}</b>'}</td></tr>"
        for name, a, b in zip(names, first, second, strict=True)
    )
    head = "".join(f"<th>{escape(word)}</th>" for word in ("", *(heads if both else heads[1:])))
    return f'<div class="scroll"><table class="grid cells"><tr>{head}</tr>{rows}</table></div>'


def shortened(name: str, letters: int = 14) -> str:
    """Return a name of ``letters`` letters at most; its end stays."""
    return name if len(name) <= letters else f"{name[: letters - 5]}…{name[-4:]}"


def heading(name: str, words: str) -> str:
    """Return the page's first line."""
    metadata = f'<span class="quiet">&nbsp; {escape(words)}</span>'
    return f'<div class="ps"><b style="font-size:18px">{escape(name)}</b> {metadata}</div>'


def quiet(words: str) -> str:
    """Return words in grey."""
    return f'<div class="ps"><span class="quiet">{escape(words)}</span></div>'


def small(x: Tensor, words: str) -> str:
    """Return one point, small, and words beside it."""
    shown = (
        f'<img src="{address(png(x, 96), "image/png")}" alt="" width="96">' if x.dim() == 3 else svg(x, None, 200, 70)
    )
    return f'<div class="ps"><div class="side">{shown}<span class="quiet">{escape(words)}</span></div></div>'


def page(*pieces: str) -> str:
    """Return pieces side by side."""
    return f'<div class="ps"><div class="side">{"".join(pieces)}</div></div>'


def table(grid: Grid, name: str) -> str:
    """Return a grid of points with its words, and, of images, a link that saves all of it as one."""
    images = grid.images
    head = "".join(f"<th>{escape(word)}</th>" for word in ("", *grid.columns))
    body = []
    for word, row in zip(grid.rows, images, strict=True):
        cells = [
            f'<img src="{address(png(x, 56), "image/png")}" alt="">' if x.dim() == 3 else svg(x, None, 120, 44)
            for x in row
        ]
        body.append(f"<tr><th>{escape(word)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    save = ""
    if images.dim() == 5:
        mosaic = address(png(images, 64, gap=max(1, min(images.shape[-2:]) // 14)), "image/png")
        save = f'<a class="quiet" href="{mosaic}" download="{escape(name)}.png">save</a>'
    rows = f"<tr>{head}</tr>{''.join(body)}"
    return f'<div class="ps"><div class="scroll"><table class="grid">{rows}</table></div>{save}</div>'


def bars(names: Sequence[str], shown: Mapping[str, Sequence[float]], known: Sequence[int]) -> str:
    """Return probabilities of labels, one to three bars each; true labels starred, above 18 the most probable ones.

    :param shown: by whose they are, such as the point, its reconstruction, and this as edited.
    """
    values = torch.tensor(list(shown.values())).amax(0)
    order = sorted(values.argsort(descending=True, stable=True)[:MOST_BARS].tolist())
    kinds = ["zeroth", "first", "second"][3 - len(shown) :] if len(shown) > 1 else ["first"]
    rows = []
    for i in order:
        each = [(column[i], kind) for column, kind in zip(shown.values(), kinds)]
        drawn = "".join(f'<div class="bar {kind}" style="width:{100 * p:.1f}%"></div>' for p, kind in each)
        name = f"{'★ ' if i in known else ''}{escape(names[i])}"
        rows.append(
            f'<div class="name" title="{escape(names[i])}">{name}</div><div class="track">{drawn}</div>'
            f'<div class="number">{" → ".join(f"{p:.2f}" for p, _ in each)}</div>'
        )
    key = " &nbsp; ".join(f'<span class="bar {kind} key"></span>{escape(words)}' for words, kind in zip(shown, kinds))
    star = ", ★ its label" if known else ""
    more = f", the {len(order)} most probable" if len(order) < len(names) else ""
    return (
        f'<div class="ps"><div class="quiet" style="margin-bottom:6px">q(y | x){more}{star}<br>{key}</div>'
        f'<div class="bars">{"".join(rows)}</div></div>'
    )


def intervals(names: Sequence[str], loc: Sequence[float], scale: Sequence[float]) -> str:
    """Return mean ± 2 standard deviations of latent dimensions, above 16 of those that vary least."""
    chosen = sorted(sorted(range(len(names)), key=lambda j: scale[j])[:MOST_LATENTS])
    low = min(-2.0, *(loc[j] - 2 * scale[j] for j in chosen))
    high = max(2.0, *(loc[j] + 2 * scale[j] for j in chosen))
    width, row, left = 460, 18, 150

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - 10)

    drawn = []
    ticks = range(math.ceil(low), math.floor(high) + 1, max(1, math.ceil((high - low) / 6)))
    for tick in ticks:
        look = 'stroke="currentColor" opacity="0.6"' if tick == 0 else 'stroke="currentColor" opacity="0.15"'
        drawn.append(f'<path d="M{x(tick):.1f} 4V{4 + row * len(chosen)}" {look}/>')
        drawn.append(f'<text x="{x(tick):.1f}" y="{20 + row * len(chosen)}" text-anchor="middle">{tick}</text>')
    for place, j in enumerate(chosen):
        y = 4 + row * (place + 0.5)
        ends = f"M{x(loc[j] - 2 * scale[j]):.1f} {y}H{x(loc[j] + 2 * scale[j]):.1f}"
        name = names[j] if len(names[j]) <= 24 else f"{names[j][:15]}…{names[j][-8:]}"
        drawn.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        drawn.append(f'<path d="{ends}" stroke="{BLUE}" stroke-width="2"/>')
        drawn.append(f'<circle cx="{x(loc[j]):.1f}" cy="{y}" r="3.2" fill="{BLUE}"/>')
    height = 28 + row * len(chosen)
    few = f", the {len(chosen)} of {len(names)} dimensions that vary least" if len(chosen) < len(names) else ""
    return (
        f'<div class="ps"><div class="quiet">mean ± 2 standard deviations of q(z | x){few}</div>'
        f'<svg class="lines" style="margin:0" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        f' font-size="12" fill="currentColor" font-family="sans-serif">{"".join(drawn)}</svg></div>'
    )
