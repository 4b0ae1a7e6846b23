"""Faces from their factors: each part drawn once, in every colour, then laid over one another.

The drawing keeps each attribute in sight whatever the others are: hats sit high, so that hair shows below the brim; the
mouth lies over the beard and glasses over the hair; beards have the hair's colour. What remains: a hat covers the top
of the hair, so haircuts differ less below one.
"""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from xml.etree import ElementTree

import numpy as np

from ..errors import InputError
from .avatar_labels import COLORS, FACTORS
from .checks import reason

SIDE = 64

_VIEW = "2 -18 260 260"
_RAISED = {"hat": 8, "winter_hat_2": 20, "winter_hat_3": 27, "winter_hat_4": 27, "turban": 26}
_RAISED |= {"moustache_fancy": 6, "moustache_magnum": 11}
_BRIM = 16
"""The row above which a hat hides hair, also beside it."""


def draw(splits: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """Return faces of these factors, uint8 ``[N, 3, 64, 64]``: each part drawn once, then laid over one another."""
    values = {factor: np.concatenate([split[factor] for split in splits]) for factor in FACTORS}
    faces = np.empty((len(values["skin"]), 3, SIDE, SIDE), np.uint8)
    for start in range(0, len(faces), 256):
        rows = slice(start, start + 256)
        faces[rows] = layers().faces({factor: value[rows] for factor, value in values.items()})
    return faces


@functools.cache
def layers() -> Layers:
    """Return all parts, drawn once a process."""
    return Layers()


class Layers:
    """Every part of a face in every colour, as uint8 RGBA ``[values..., 4, 64, 64]`` a slot."""

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
        default = {slot: getattr(self.avatars, enum).DEFAULT for slot, enum in look.items()}
        self.background = np.array([_rgb(COLORS["background"][name]) for name in names["background"]], np.uint16)
        self.skin = np.stack([self.layer("Body", skin_color=COLORS["skin"][name]) for name in names["skin"]])
        self.clothing = self.parts(names["clothing"], clothes, "Clothing", "clothing", "ClothingType", "clothing_color")
        self.face = self.layer("Face", **default)[None]
        self.hair = np.stack([hair, below_hat])
        self.facial_hair = self.parts(
            names["facial_hair"], hair_colors, "Top", "facial_hair", "FacialHairType", "facial_hair_color"
        )
        self.mouth = self.parts(names["mouth"], [], "Face", "mouth", "MouthType")[:, 0]
        self.hat = self.parts(names["hat"], hats, "Top", "top", "HatType", "hat_color")
        self.glasses = self.parts(names["glasses"], [], "Top", "accessory", "AccessoryType")[:, 0]

    def faces(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return faces ``[N, 3, 64, 64]``; a part of value -1 is left out."""
        n = len(values["skin"])
        canvas = np.empty((n, 3, SIDE, SIDE), np.uint16)
        canvas[:] = self.background[values["background"], :, None, None]

        def lay(layers: np.ndarray, *index: np.ndarray) -> None:
            rows = np.flatnonzero(np.min(index, 0) >= 0)
            part = layers[tuple(value[rows] for value in index)].astype(np.uint16)
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
        self, names: list[str], colors: list[str], group: str, slot: str, enum: str, color_slot: str = ""
    ) -> np.ndarray:
        """Return all named parts in all colours, or as they are where there is no ``color_slot``."""
        rows = []
        for name in names:
            part = getattr(self.avatars, enum)[name.upper()]
            colored = [{color_slot: color} for color in colors] if color_slot else [{}]
            rows.append([self.layer(group, _RAISED.get(name, 0), **{slot: part}, **color) for color in colored])
        return np.array(rows)

    def layer(self, group: str, raised: int = 0, **parts: object) -> np.ndarray:
        """Return one group of an avatar's drawing, alone on a transparent ground."""
        from PIL import Image

        chosen = {
            "style": self.avatars.AvatarStyle.TRANSPARENT,
            "top": self.avatars.HairType.NONE,
            "clothing": self.avatars.ClothingType.NONE,
            **dict.fromkeys(("eyes", "eyebrows", "nose", "mouth")),
            **parts,
        }
        drawing = ElementTree.fromstring(self.avatars.Avatar(**chosen).render())
        for size, value in (("viewBox", _VIEW), ("width", str(SIDE)), ("height", str(SIDE))):
            drawing.set(size, value)
        for avatar in drawing.findall("{http://www.w3.org/2000/svg}g"):
            for part in list(avatar):
                if not part.get("id", "").endswith(f"_{group}"):
                    avatar.remove(part)
                elif raised:
                    part.set("transform", f"translate(0,{-raised})")
        svg = ElementTree.tostring(drawing, encoding="unicode")
        png = self.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
        with Image.open(io.BytesIO(bytes(png)), formats=["PNG"]) as image:
            return np.asarray(image.convert("RGBA")).transpose(2, 0, 1)


def _packages() -> tuple[ModuleType, Callable[..., Sequence[int]]]:
    """Return python_avatars and resvg's ``svg_to_bytes``."""
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
