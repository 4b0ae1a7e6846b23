"""A world whose every number is known: an attribute is a block of an image, its kind the block's brightness.

Block ``i`` is 0 where attribute ``i`` is absent, and 1/4, 2/4 or 3/4 where it is there, of kind 0, 1 or 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pyro_ssvae.evaluation.oracle import Reading
from pyro_ssvae.labels import AttributeLabels, ClassLabels, Labels

NAMES = ("hat", "beard", "scarf")
SIDE = 4


@dataclass(frozen=True)
class BlockFactors:
    names: dict[str, list[str]]
    values: dict[str, Tensor]
    attributes: dict[str, str | None]


def pictures(values: Tensor) -> Tensor:
    """Images ``[n, 1, 4, 12]`` of brightnesses ``[n, 3]``, 0 to 3."""
    return (values / 4).repeat_interleave(SIDE, 1)[:, None, None].repeat(1, 1, SIDE, 1)


def blocks(x: Tensor) -> Tensor:
    """Brightnesses ``[n, 3]`` of images."""
    return (4 * x.unflatten(-1, (-1, SIDE)).mean((1, 2, 4))).round().long()


def world(n: int = 120, seed: int = 0) -> tuple[Tensor, Tensor, BlockFactors]:
    """Images, attributes and kinds; attributes are there in 2/5, 1/2 and 3/5."""
    generator = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, 3, generator=generator) < torch.tensor([0.4, 0.5, 0.6])).long()
    kind = torch.randint(3, (n, 3), generator=generator)
    kinds = {f"{name} kind": torch.where(y[:, i] == 1, kind[:, i], -1) for i, name in enumerate(NAMES)}
    names = {factor: ["low", "middle", "high"] for factor in kinds}
    owners: dict[str, str | None] = {f"{name} kind": name for name in NAMES}
    return pictures(y * (kind + 1)), y, BlockFactors(names, kinds, owners)


class BlockOracle:
    """It reads the blocks without error."""

    labels: Labels = AttributeLabels(NAMES)

    def read(self, x: Any) -> Reading:
        value = blocks(torch.as_tensor(x))
        kinds = {f"{name} kind": (value[:, i] - 1).clamp_min(0) for i, name in enumerate(NAMES)}
        return Reading((value > 0).double(), (value > 0).long(), kinds, value.float())


class BlockModel(nn.Module):
    """Interventions of a known worth.

    ``perfect``: the attribute is set, of a kind drawn at random, and swaps carry the kind over. ``nothing``: the image
    as it was. ``destroys``: as perfect, and all other attributes are gone. ``half``: every second draw is perfect, the
    others nothing. ``constant``: whatever is set or swapped in is of kind 0. ``blank``: perfect, but
    reconstructions are black.
    """

    def __init__(self, how: str = "perfect") -> None:
        super().__init__()
        self.how, self.labels = how, AttributeLabels(NAMES)

    def reconstruct(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x) if self.how == "blank" else x

    def predict_proba(self, x: Tensor) -> Tensor:
        return (blocks(x) > 0).float()

    def predict(self, x: Tensor) -> Tensor:
        return (blocks(x) > 0).long()

    def intervene(self, x: Tensor, values: dict[str, int], num_samples: int | None = None) -> Tensor:
        drawn = []
        for draw in range(num_samples or 1):
            value = blocks(x)
            for name, v in values.items():
                i = NAMES.index(name)
                kind = 1 if self.how == "constant" else torch.randint(1, 4, (len(x),))
                if self.how == "destroys":
                    value = torch.zeros_like(value)
                if self.how != "nothing" and not (self.how == "half" and draw % 2):
                    value[:, i] = kind * v
            drawn.append(pictures(value))
        return drawn[0] if num_samples is None else torch.stack(drawn)

    def swap(self, x: Tensor, donor: Tensor, name: str) -> Tensor:
        value, i = blocks(x), NAMES.index(name)
        if self.how == "constant":
            value[:, i] = 1
        elif self.how != "nothing":
            value[:, i] = blocks(donor)[:, i]
        return pictures(value)

    def walk(self, x: Tensor, first: str, second: str | None = None, *, steps: int = 7, k: float = 2.0) -> Tensor:
        path = torch.linspace(0, 3, steps)
        value = blocks(x).float()
        if second is None:
            images = [pictures(value.index_fill(1, torch.tensor(NAMES.index(first)), float(t))) for t in path]
            return torch.stack(images, 1)
        rows = [self.walk(pictures(self.set(value, second, float(t))), first, steps=steps) for t in path]
        return torch.stack(rows, 1)

    def set(self, value: Tensor, name: str, to: float) -> Tensor:
        return value.index_fill(1, torch.tensor(NAMES.index(name)), round(to))


class BlockClasses(nn.Module):
    """Three classes, the brightness of all blocks; setting class 2 fails."""

    def __init__(self) -> None:
        super().__init__()
        self.labels = ClassLabels(3, ["dark", "dim", "light"])

    def reconstruct(self, x: Tensor) -> Tensor:
        return x

    def predict_proba(self, x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(blocks(x)[:, 0], 3).float()

    def predict(self, x: Tensor) -> Tensor:
        return blocks(x)[:, 0]

    def intervene(self, x: Tensor, value: int | str, num_samples: int | None = None) -> Tensor:
        value = self.labels.names.index(value) if isinstance(value, str) else value
        new = x if value == 2 else pictures(torch.full((len(x), 3), value))
        return new if num_samples is None else new.expand(num_samples, *new.shape)

    def swap(self, x: Tensor, donor: Tensor, name: str = "class") -> Tensor:
        return donor.expand_as(x)


class ClassOracle:
    labels: Labels = ClassLabels(3, ["dark", "dim", "light"])

    def read(self, x: Any) -> Reading:
        value = blocks(torch.as_tensor(x))
        return Reading(torch.nn.functional.one_hot(value[:, 0], 3).double(), value[:, 0], {}, value.float())
