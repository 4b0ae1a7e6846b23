"""Faces with eight attributes, drawn on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..labels import AttributeLabels
from .arrays import read_npz
from .avatar_drawing import SIDE, draw
from .avatar_labels import ATTRIBUTES, FACTORS, draw_labels, sizes
from .cache import keep, places
from .dataset import Dataset
from .factors import Factors, named
from .images import ImageSize, resize

VERSION = 1
"""Part of the kept file's name; to be raised whenever other pictures are drawn."""


def load_avatars(name: str, root: Path, *, image_size: ImageSize = None) -> Dataset:
    """Return faces, uint8 ``[N, 3, 64, 64]``, and their attributes, all known.

    They depend on nothing but the name. They are drawn once and kept in ``root/avatars`` or, where that cannot be
    written, in ``~/.cache/pyro_ssvae/avatars``; a damaged file is drawn again.

    :param name: ``avatars``, 10,000 training and 2,000 test faces, or ``avatars:N``, the first N and N / 5 of these.
    :raises InputError: the packages that draw are absent, or N is not a number in range.
    """
    n, n_test = sizes(name)
    x = faces(root / "avatars", n, n_test)
    if image_size is not None:
        x = resize(x, image_size)
    y, y_test = (torch.from_numpy(draw_labels(m, split)[0]) for split, m in enumerate((n, n_test)))
    return Dataset("avatars", x[:n], y, x[n:], y_test, AttributeLabels(list(ATTRIBUTES)))


def avatar_factors(name: str = "avatars") -> tuple[Factors, Factors]:
    """Return the true factors of the training and of the test faces that ``load(name)`` has, row by row.

    Example::

        train, test = avatar_factors("avatars:500")
        test.names["hat"][int(test.values["hat"][0])]  # "turban", say
    """
    train, test = (named(FACTORS, draw_labels(n, split)[1]) for split, n in enumerate(sizes(name)))
    return train, test


def faces(folder: Path, n: int, n_test: int) -> Tensor:
    """Training and then test faces, kept or drawn."""
    file, shape = f"avatars-{VERSION}-{n}.npz", (n + n_test, 3, SIDE, SIDE)
    for place in places(folder):
        try:
            x = read_npz(place / file, ["x"])["x"]  # it compares a checksum
        except (InputError, KeyError, OSError):  # absent or damaged
            continue
        if x.shape == shape and x.dtype == np.uint8:
            return torch.from_numpy(x)
    drawn = draw([draw_labels(m, split)[1] for split, m in enumerate((n, n_test))])

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, x=drawn)

    keep(folder, file, drawn.nbytes + 2**16, write)
    return torch.from_numpy(drawn)
