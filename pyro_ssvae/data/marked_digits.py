"""Handwritten digits with attributes and kinds behind them: colours, grounds, frames, lines and textured strokes.

Each picture shows one of scikit-learn's digits at a random place. Training and test pictures share no handwriting.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..labels import AttributeLabels
from .dataset import Dataset
from .factors import Factor, Factors, draw_factors, named
from .images import ImageSize, resize
from .standard import load_digits

SEED = 0
SIZES = (10_000, 2_000)
"""Training and test pictures."""
SIDE, GLYPH, MOST = 32, 20, 2
"""Pixels of a picture's and a digit's side, and by how many it is moved at most."""

ATTRIBUTES = {"Even": 0.5, "Warm": 0.5, "Dark": 0.5, "Framed": 0.4, "Underlined": 0.4, "Textured": 0.4}
"""What the model sees, and the probability of each."""

COLORS = {
    "stroke": {
        **{"red": (220, 40, 40), "orange": (245, 140, 20), "pink": (255, 120, 200)},
        **{"blue": (40, 90, 230), "green": (20, 160, 70), "violet": (130, 60, 220)},
    },
    "ground": {
        **{"black": (15, 15, 20), "navy": (20, 25, 80), "maroon": (80, 15, 25)},
        **{"white": (250, 250, 250), "sand": (235, 215, 170), "mint": (190, 235, 205)},
    },
}

FACTORS = {
    "digit": Factor("Even", tuple("02468"), tuple("13579")),
    "stroke": Factor("Warm", ("red", "orange", "pink"), ("blue", "green", "violet")),
    "ground": Factor("Dark", ("black", "navy", "maroon"), ("white", "sand", "mint")),
    "frame": Factor("Framed", ("single", "double", "dashed", "corners")),
    "line": Factor("Underlined", ("straight", "wave", "dots")),
    "texture": Factor("Textured", ("hollow", "striped", "dotted")),
}
"""What only an evaluation sees. Three attributes have nothing behind their 0: Framed, Underlined and Textured."""


def load_marked_digits(*, image_size: ImageSize = None) -> Dataset:
    """Return 10,000 training and 2,000 test pictures, uint8 ``[N, 3, 32, 32]``, and their attributes, all known."""
    digits = load_digits()
    sources = ((digits.x, digits.y), (digits.x_test, digits.y_test))
    (x, y), (x_test, y_test) = (pictures(split, *source) for split, source in enumerate(sources))
    if image_size is not None:
        x, x_test = resize(x, image_size), resize(x_test, image_size)
    return Dataset("marked-digits", x, y, x_test, y_test, AttributeLabels(list(ATTRIBUTES)))


def marked_digit_factors() -> tuple[Factors, Factors]:
    """Return the true factors of the training and of the test pictures, row by row."""
    train, test = (
        named(FACTORS, draw_factors(n, (SEED, split), ATTRIBUTES, FACTORS)[1]) for split, n in enumerate(SIZES)
    )
    return train, test


def pictures(split: int, glyphs: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pictures of a split, uint8 ``[N, 3, 32, 32]``, and their attributes ``[N, A]``.

    :param glyphs: digits ``[M, 1, 8, 8]`` from 0 to 1, and ``classes`` ``[M]``.
    """
    n = SIZES[split]
    y, values = draw_factors(n, (SEED, split), ATTRIBUTES, FACTORS)
    rng = np.random.default_rng((SEED, split, 1))
    share = rng.random(n)
    rows = np.empty(n, dtype=np.int64)
    for value, digit in enumerate(FACTORS["digit"].names):
        of_class, wanted = np.flatnonzero(classes.numpy() == int(digit)), values["digit"] == value
        rows[wanted] = of_class[(share[wanted] * len(of_class)).astype(np.int64)]
    ink = F.interpolate(glyphs[torch.from_numpy(rows)], GLYPH, mode="bicubic", align_corners=False).clamp(0, 1)
    places = torch.from_numpy(rng.integers(-MOST, MOST + 1, (n, 2)))
    ground, stroke = (colors(name, values[name]) for name in ("ground", "stroke"))
    opposite = torch.where(torch.from_numpy(y[:, list(ATTRIBUTES).index("Dark")] == 1), 235.0, 60.0)
    x = ground.reshape(n, 3, 1, 1).expand(-1, -1, SIDE, SIDE)
    frames = masks("frame", values["frame"]) + masks("line", values["line"])
    x = torch.lerp(x, opposite.reshape(n, 1, 1, 1), frames)
    x = torch.lerp(x, stroke.reshape(n, 3, 1, 1), placed(textured(ink, values["texture"]), places))
    return x.round().to(torch.uint8), torch.from_numpy(y)


def colors(factor: str, values: np.ndarray) -> Tensor:
    """``[N, 3]``, 0 to 255."""
    table = torch.tensor([COLORS[factor][name] for name in FACTORS[factor].names], dtype=torch.float32)
    return table[torch.from_numpy(values)]


def masks(factor: str, values: np.ndarray) -> Tensor:
    """``[N, 1, 32, 32]``, 1 where a frame or a line is; no pixel is of both."""
    i, j = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    edge = torch.minimum(torch.minimum(i, SIDE - 1 - i), torch.minimum(j, SIDE - 1 - j))
    inner, ring = (j >= 6) & (j < 26), edge == 1
    drawn = {
        "single": ring,
        "double": (edge == 0) | (edge == 2),
        "dashed": ring & ((i + j) // 4 % 2 == 0),
        "corners": ring & (torch.minimum((i - 15.5).abs(), (j - 15.5).abs()) > 7),
        "straight": (i == 27) & inner,
        "wave": (i == 27 + ((j % 8) // 2 - 1).abs() - 1) & inner,
        "dots": (i >= 26) & (i <= 27) & (j % 5 < 2) & inner,
    }
    names = FACTORS[factor].present
    table = torch.stack([*(drawn[name] for name in names), torch.zeros(SIDE, SIDE, dtype=torch.bool)]).float()
    return table[torch.from_numpy(values)].unsqueeze(1)  # -1, it does not apply, is the last


def textured(ink: Tensor, values: np.ndarray) -> Tensor:
    """The strokes ``[N, 1, 20, 20]`` with their textures."""
    i, j = torch.meshgrid(torch.arange(GLYPH), torch.arange(GLYPH), indexing="ij")
    hollow = ink - F.avg_pool2d(F.pad(-F.max_pool2d(-ink, 3, 1, 1), (1,) * 4), 3, 1)
    striped, dotted = ink * ((i + j) // 2 % 2), ink * ((i // 2 + j // 2) % 2)
    table = {"hollow": (1.6 * hollow).clamp(0, 1), "striped": striped, "dotted": dotted}
    every = torch.stack([*(table[name] for name in FACTORS["texture"].present), ink])
    return every[torch.from_numpy(values), torch.arange(len(ink))]


def placed(ink: Tensor, places: Tensor) -> Tensor:
    """``[N, 1, 32, 32]`` with the digits ``[N, 1, 20, 20]`` moved from the middle, a little above it."""
    rows = (places[:, :1] + (SIDE - GLYPH) // 2 - 2 + torch.arange(GLYPH)).unsqueeze(2)
    columns = (places[:, 1:] + (SIDE - GLYPH) // 2 + torch.arange(GLYPH)).unsqueeze(1)
    empty = ink.new_zeros(len(ink), SIDE, SIDE)
    empty[torch.arange(len(ink)).reshape(-1, 1, 1), rows, columns] = ink[:, 0]
    return empty.unsqueeze(1)
