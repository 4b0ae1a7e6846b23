"""The attributes of drawn faces, and the factors behind them: which glasses, which hat."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .checks import shown
from .factors import Factor, draw_factors

SEED = 0
TRAIN = 10_000
TEST_SHARE = 5
"""Training faces for each test face."""
MAX_FACES = 200_000

ATTRIBUTES = {
    "Glasses": 0.4,
    "Hat": 0.4,
    "Facial_Hair": 0.4,
    "Smiling": 0.5,
    "Light_Hair": 0.5,
    "Long_Hair": 0.5,
    "Dark_Skin": 0.5,
    "Suit": 0.4,
}
"""What the model sees, and the probability of each."""

COLORS = {
    "background": {"sky": "#A9D6EE", "sage": "#B7D7B0", "sand": "#E3CFA8", "lilac": "#CDBBE4", "grey": "#98A2AE"},
    "skin": {"pale": "#FBCFA0", "light": "#E8AE7A", "brown": "#AE5D29", "dark": "#8F5230"},
    "hair_color": {
        **{"black": "#1E1614", "brown": "#3D2014", "navy": "#1F2C5C"},
        **{"blond": "#F9D93C", "silver": "#E8F0F8", "pink": "#FF8FC0"},
    },
    "hat_color": {"red": "#C0392B", "green": "#2E8B57", "blue": "#2E7FD0", "orange": "#E67E22", "purple": "#7D3C98"},
    "clothing_color": {"red": "#FF5C5C", "blue": "#5199E4", "green": "#7BD8A0", "cream": "#FFF6C8", "pink": "#FF488E"},
}

FACTORS = {
    "glasses": Factor("Glasses", ("kurt", "prescription_1", "prescription_2", "round", "sunglasses")),
    "hat": Factor("Hat", ("hat", "winter_hat_2", "winter_hat_3", "winter_hat_4", "turban")),
    "facial_hair": Factor("Facial_Hair", ("beard_light", "beard_magestic", "moustache_fancy", "moustache_magnum")),
    "mouth": Factor("Smiling", ("smile", "big_smile", "tongue"), ("sad", "scream_open", "grimace")),
    "hair_color": Factor("Light_Hair", ("blond", "silver", "pink"), ("black", "brown", "navy")),
    "hair": Factor(
        "Long_Hair",
        ("bob", "straight_1", "straight_strand", "big_hair"),
        ("pixie", "shaggy", "mowgli", "short_dreads_2"),
    ),
    "skin": Factor("Dark_Skin", ("brown", "dark"), ("pale", "light")),
    "clothing": Factor(
        "Suit",
        ("blazer_shirt", "bond_suit", "shirt_wick"),
        ("shirt_crew_neck", "shirt_v_neck", "hoodie", "overall"),
    ),
    "hat_color": Factor("Hat", tuple(COLORS["hat_color"])),
    "clothing_color": Factor(None, tuple(COLORS["clothing_color"])),
    "background": Factor(None, tuple(COLORS["background"])),
}
"""What only an evaluation sees. Values have python_avatars' names, colours those of :data:`COLORS`."""


def sizes(name: str) -> tuple[int, int]:
    """Return the numbers of training and test faces of ``avatars`` or ``avatars:N``."""
    _, colon, count = name.partition(":")
    if not colon:
        return TRAIN, TRAIN // TEST_SHARE
    if not (count.isascii() and count.isdecimal() and len(count) < 9 and 10 <= int(count) <= MAX_FACES):
        raise InputError(
            f"--data {shown(name)}: avatars:N, N training faces, a whole number from 10 to {MAX_FACES}, is needed"
        )
    return int(count), int(count) // TEST_SHARE


def draw_labels(n: int, split: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return attributes ``[n, A]`` and factors ``[n]`` of the training (0) or the test (1) faces."""
    return draw_factors(n, (SEED, split), ATTRIBUTES, FACTORS)
