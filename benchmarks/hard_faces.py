"""Faces whose attributes are rare, hard, noisy or cannot be known: ``python benchmarks/hard_faces.py FILE.npz``.

Then ``pyro-ssvae train --data FILE.npz --labels 0.06 --model revae`` shows whether the probabilities say so. Labels of
training and test rows are drawn alike. ``Coin`` has nothing to do with the picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from pyro_ssvae.data import load
from pyro_ssvae.data.avatar_labels import ATTRIBUTES, FACTORS, draw_labels

KINDS = {
    "Sunglasses": ("glasses", "sunglasses"),
    "Tongue": ("mouth", "tongue"),
    "Turban": ("hat", "turban"),
    "Brown_Skin": ("skin", "brown"),
    "Silver_Hair": ("hair_color", "silver"),
    "Moustache": ("facial_hair", "moustache_fancy", "moustache_magnum"),
}
"""Attributes that are some values of a factor, from 8 to 25 % of the faces."""
NOISE = {"Glasses": 0.0, "Hat": 0.05, "Smiling": 0.15, "Suit": 0.1}
"""Share of the labels that are wrong."""


def labels(n: int, split: int) -> dict[str, np.ndarray]:
    """Return each attribute of the first faces of a split, 0 or 1."""
    y, values = draw_labels(n, split)
    rng = np.random.default_rng([7, split])
    known = dict(zip(ATTRIBUTES, y.T))

    def shows(factor: str, *words: str) -> np.ndarray:
        names = [*FACTORS[factor].absent, *FACTORS[factor].present]
        return np.isin(values[factor], [names.index(word) for word in words])

    def drawn(logits: np.ndarray) -> np.ndarray:
        return rng.random(n) < 1 / (1 + np.exp(-logits))

    taste = 1.5 * known["Smiling"] + known["Long_Hair"] - 1.2 * known["Facial_Hair"] - 0.8 * known["Glasses"] - 0.3
    young = 2.5 * shows("hair_color", "pink") + 1.5 * shows("clothing", "hoodie") - known["Facial_Hair"] - 2
    noisy: Callable[[np.ndarray, float], np.ndarray] = lambda a, p: np.where(rng.random(n) < p, 1 - a, a)  # noqa: E731
    found = {name: noisy(known[name], share) for name, share in NOISE.items()}
    found |= {name: shows(*about) for name, about in KINDS.items()}
    return {**found, "Attractive": drawn(taste), "Young": drawn(young), "Coin": rng.random(n) < 0.3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--data", default="avatars", help="avatars, or avatars:N")
    options = parser.parse_args()
    faces = load(options.data)
    train, test = labels(len(faces.x), 0), labels(len(faces.x_test), 1)
    y, y_test = (np.stack([*part.values()], 1).astype(np.int64) for part in (train, test))
    np.savez(options.file, x=faces.x, y=y, x_test=faces.x_test, y_test=y_test, names=np.array([*train]))


if __name__ == "__main__":
    main()
