"""Faces with eight attributes, drawn on the spot, and the kinds behind the attributes (which glasses, which hat).

Every attribute is drawn on its own, with the probability in :data:`ATTRIBUTES`, and every factor in :data:`FACTORS`
uniformly among the kinds that fit its attribute: all are statistically independent. The drawing keeps each attribute in
sight whatever the others are: hats sit high, so that hair shows below the brim; the mouth lies over the beard and
glasses over the hair; beards have the hair's colour. What remains: a hat covers the top of the hair, so kinds of hair
differ less below one.
"""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..labels import MISSING, AttributeLabels
from .arrays import read_npz
from .cache import keep, places
from .checks import reason, shown
from .dataset import Dataset
from .images import ImageSize, resize

VERSION = 1
"""Part of the kept file's name; to be raised whenever other pictures are drawn."""
SEED = 0
TRAIN = 10_000
TEST_SHARE = 5
"""One test face for so many training faces."""
MAX_FACES = 200_000
SIDE = 64

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
"""What the model sees, and how probable each is."""

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


@dataclass(frozen=True)
class Factor:
    """What a face shows beyond its attributes: ``present`` are the kinds where ``attribute`` is 1, else ``absent``.

    Where there are none, the factor does not apply. Without an attribute, ``present`` are the kinds of every face.
    """

    attribute: str | None
    present: tuple[str, ...]
    absent: tuple[str, ...] = ()


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
"""What only an evaluation sees. Kinds have python_avatars' names, colours those of :data:`COLORS`."""

_VIEW = "2 -18 260 260"
_RAISED = {"hat": 8, "winter_hat_2": 20, "winter_hat_3": 27, "winter_hat_4": 27, "turban": 26}
_RAISED |= {"moustache_fancy": 6, "moustache_magnum": 11}
_BRIM = 16
"""The row above which a hat hides hair, also beside it."""


@dataclass(frozen=True, eq=False)
class Factors:
    """The true factors of a split's faces, for evaluation only.

    :param names: the kinds of each factor.
    :param values: int64 ``[N]`` a factor, a number in ``names``; -1 where it does not apply (a face without glasses).
    :param attributes: the attribute that each factor's kinds refine, None where there is none.
    """

    names: dict[str, list[str]]
    values: dict[str, Tensor]
    attributes: dict[str, str | None]


def load_avatars(name: str, root: Path, *, image_size: ImageSize = None) -> Dataset:
    """Return faces, uint8 ``[N, 3, 64, 64]``, and their attributes, all known.

    They depend on nothing but the name. They are drawn once and kept in ``root/avatars`` or, where that cannot be
    written, in ``~/.cache/pyro_ssvae/avatars``; a damaged file is drawn again.

    :param name: ``avatars``, 10,000 training and 2,000 test faces, or ``avatars:N``, the first N and N / 5 of these.
    :raises InputError: the packages that draw are absent, or N is not a number in range.
    """
    n, n_test = sizes(name)
    x = _faces(root / "avatars", n, n_test)
    if image_size is not None:
        x = resize(x, image_size)
    y, y_test = (torch.from_numpy(_draw_labels(m, split)[0]) for split, m in enumerate((n, n_test)))
    return Dataset("avatars", x[:n], y, x[n:], y_test, AttributeLabels(list(ATTRIBUTES)))


def avatar_factors(name: str = "avatars") -> tuple[Factors, Factors]:
    """Return the true factors of the training and of the test faces that ``load(name)`` has, row by row.

    Example::

        train, test = avatar_factors("avatars:500")
        test.names["hat"][int(test.values["hat"][0])]  # "turban", say
    """
    names = {factor: [*about.absent, *about.present] for factor, about in FACTORS.items()}
    attributes = {factor: about.attribute for factor, about in FACTORS.items()}
    train, test = (
        Factors(names, {key: torch.from_numpy(value) for key, value in _draw_labels(m, split)[1].items()}, attributes)
        for split, m in enumerate(sizes(name))
    )
    return train, test


def sizes(name: str) -> tuple[int, int]:
    """Return how many training and test faces ``avatars`` or ``avatars:N`` means."""
    _, colon, count = name.partition(":")
    if not colon:
        return TRAIN, TRAIN // TEST_SHARE
    if not (count.isascii() and count.isdecimal() and len(count) < 9 and 10 <= int(count) <= MAX_FACES):
        raise InputError(
            f"--data {shown(name)}: avatars:N, N training faces, a whole number from 10 to {MAX_FACES}, is needed"
        )
    return int(count), int(count) // TEST_SHARE


def _draw_labels(n: int, split: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Attributes ``[n, A]`` and factors ``[n]``; a smaller n gives the first rows of a larger."""
    uniform = np.random.default_rng([SEED, split]).random((n, len(ATTRIBUTES) + len(FACTORS)))
    y = (uniform[:, : len(ATTRIBUTES)] < list(ATTRIBUTES.values())).astype(np.int64)
    columns = dict(zip(ATTRIBUTES, y.T))
    values = {}
    for i, (factor, about) in enumerate(FACTORS.items(), len(ATTRIBUTES)):
        present = columns[about.attribute] == 1 if about.attribute else np.ones(n, bool)
        count = np.where(present, len(about.present), len(about.absent))
        kind = np.floor(uniform[:, i] * count).astype(np.int64) + np.where(present, len(about.absent), 0)
        values[factor] = np.where(count > 0, kind, MISSING)
    return y, values


def _faces(folder: Path, n: int, n_test: int) -> Tensor:
    """Training and then test faces, kept or drawn."""
    file, shape = f"avatars-{VERSION}-{n}.npz", (n + n_test, 3, SIDE, SIDE)
    for place in places(folder):
        try:
            x = read_npz(place / file, ["x"])["x"]  # it compares a checksum
        except (InputError, KeyError, OSError):  # absent or damaged
            continue
        if x.shape == shape and x.dtype == np.uint8:
            return torch.from_numpy(x)
    drawn = draw([_draw_labels(m, split)[1] for split, m in enumerate((n, n_test))])

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, x=drawn)

    keep(folder, file, drawn.nbytes + 2**16, write)
    return torch.from_numpy(drawn)


def draw(splits: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """Return faces of these factors, uint8 ``[N, 3, 64, 64]``: each part drawn once, then laid over one another."""
    layers, values = _layers(), {factor: np.concatenate([split[factor] for split in splits]) for factor in FACTORS}
    faces = np.empty((len(values["skin"]), 3, SIDE, SIDE), np.uint8)
    for start in range(0, len(faces), 256):
        rows = slice(start, start + 256)
        faces[rows] = layers.faces({factor: value[rows] for factor, value in values.items()})
    return faces


@functools.cache
def _layers() -> _Layers:
    return _Layers()


class _Layers:
    """Every part of a face in every colour, as uint8 RGBA ``[kinds..., 4, 64, 64]`` a slot."""

    def __init__(self) -> None:
        self.avatars, self.svg_to_bytes = _packages()
        names = {factor: [*about.absent, *about.present] for factor, about in FACTORS.items()}
        hair_colors = [COLORS["hair_color"][name] for name in names["hair_color"]]
        hair = self.parts(names["hair"], hair_colors, "Top", "top", "HairType", "hair_color")
        below_hat = hair.copy()
        below_hat[..., 3, :_BRIM, :] = 0
        clothes = [COLORS["clothing_color"][name] for name in names["clothing_color"]]
        hats = [COLORS["hat_color"][name] for name in names["hat_color"]]
        look = {"eyes": "EyeType", "eyebrows": "EyebrowType", "nose": "NoseType"}
        default = {slot: getattr(self.avatars, kind).DEFAULT for slot, kind in look.items()}
        self.background = np.array([_rgb(COLORS["background"][name]) for name in names["background"]], np.uint16)
        self.skin = np.stack([self.layer("Body", skin_color=COLORS["skin"][name]) for name in names["skin"]])
        self.clothing = self.parts(names["clothing"], clothes, "Clothing", "clothing", "ClothingType", "clothing_color")
        self.face = self.layer("Face", **default)[None]
        self.hair = np.stack([hair, below_hat])
        self.facial_hair = self.parts(
            names["facial_hair"], hair_colors, "Top", "facial_hair", "FacialHairType", "facial_hair_color"
        )
        self.mouth = self.parts(names["mouth"], [None], "Face", "mouth", "MouthType")[:, 0]
        self.hat = self.parts(names["hat"], hats, "Top", "top", "HatType", "hat_color")
        self.glasses = self.parts(names["glasses"], [None], "Top", "accessory", "AccessoryType")[:, 0]

    def faces(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """Faces ``[N, 3, 64, 64]``; a part of kind -1 is left out."""
        n = len(values["skin"])
        canvas = np.empty((n, 3, SIDE, SIDE), np.uint16)
        canvas[:] = self.background[values["background"], :, None, None]

        def lay(layers: np.ndarray, *index: np.ndarray) -> None:
            rows = np.flatnonzero(np.min(index, 0) >= 0)
            part = layers[tuple(kind[rows] for kind in index)].astype(np.uint16)
            alpha = part[:, 3:]
            canvas[rows] = (canvas[rows] * (255 - alpha) + part[:, :3] * alpha + 127) // 255

        lay(self.skin, values["skin"])
        lay(self.clothing, values["clothing"], values["clothing_color"])
        lay(self.face, np.zeros(n, np.int64))
        lay(self.hair, (values["hat"] >= 0).astype(np.int64), values["hair"], values["hair_color"])
        lay(self.facial_hair, values["facial_hair"], values["hair_color"])
        lay(self.mouth, values["mouth"])
        lay(self.hat, values["hat"], values["hat_color"])
        lay(self.glasses, values["glasses"])
        return canvas.astype(np.uint8)

    def parts(
        self, names: list[str], colors: list[Any], group: str, slot: str, kind: str, color_slot: str = ""
    ) -> np.ndarray:
        """All named parts in all colours."""
        rows = []
        for name in names:
            part = getattr(self.avatars, kind)[name.upper()]
            colored = [{color_slot: color} if color_slot else {} for color in colors]
            rows.append([self.layer(group, _RAISED.get(name, 0), **{slot: part}, **color) for color in colored])
        return np.array(rows)

    def layer(self, group: str, raised: int = 0, **parts: Any) -> np.ndarray:
        """One group of an avatar's drawing, alone on a transparent ground."""
        nothing = {
            "style": self.avatars.AvatarStyle.TRANSPARENT,
            "top": self.avatars.HairType.NONE,
            "clothing": self.avatars.ClothingType.NONE,
            **dict.fromkeys(("eyes", "eyebrows", "nose", "mouth")),
        }
        drawing = ElementTree.fromstring(self.avatars.Avatar(**{**nothing, **parts}).render())
        for size, value in (("viewBox", _VIEW), ("width", str(SIDE)), ("height", str(SIDE))):
            drawing.set(size, value)
        for whole in drawing.findall("{http://www.w3.org/2000/svg}g"):
            for part in list(whole):
                if not part.get("id", "").endswith(f"_{group}"):
                    whole.remove(part)
                elif raised:
                    part.set("transform", f"translate(0,{-raised})")
        svg = ElementTree.tostring(drawing, encoding="unicode")
        png = self.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
        with Image.open(io.BytesIO(bytes(png)), formats=["PNG"]) as image:
            return np.asarray(image.convert("RGBA")).transpose(2, 0, 1)


def _packages() -> tuple[ModuleType, Any]:
    """python_avatars and resvg's ``svg_to_bytes``."""
    state = random.getstate()  # python_avatars draws a random number when it is imported
    try:
        import python_avatars
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise InputError(
            f"--data avatars: the packages that draw it are absent ({reason(error)}): pip install pyro_ssvae[avatars]"
        ) from None
    finally:
        random.setstate(state)
    return python_avatars, svg_to_bytes


def _rgb(color: str) -> list[int]:
    return list(bytes.fromhex(color[1:]))
