"""Draw new points from a trained model, as a picture.

Example: pyro-ssvae generate runs/digits-augmented-50 --label 3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ..errors import InputError, nearest
from .arguments import read
from .pictures import able, check, save_picture

if TYPE_CHECKING:
    from torch import Tensor

    from ..models import Model


@dataclass(frozen=True)
class Generate:
    """The command's options."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    label: str | None = None
    """What to draw: a class by name, or attributes such as Smiling=1,Male=0; by default a row for each."""
    n: int = 10
    """How many, or how many in each row."""
    out: Path | None = None
    """The picture's file (.png, .pdf or .svg), which must not exist; by default generated.png in the run's figures."""
    seed: int = 0
    """Of the draws."""


def parse(arguments: Sequence[str]) -> Generate:
    """Return the options that were typed."""
    return read("generate", Generate, arguments, __doc__)


def run(options: Generate) -> None:
    """Draw the picture and say where it is."""
    from .. import plots
    from ..infer.protocols import Generates
    from ..models.saving import load

    check(options, n=(1, 1000))
    model = load(options.run)
    able(options.run, model, Generates)
    if options.label is None:
        figure = plots.samples_by_class(model, n_per_class=options.n, seed=options.seed)
    else:
        label = asked_label(model, options.label)
        figure = plots.samples(model, options.n, label, seed=options.seed, title=options.label)
    print(f"picture: {save_picture(figure, options.out, options.run, 'generated')}")


def asked_label(model: Model, words: str) -> Tensor:
    """Return the label of a class's name, or of attributes such as ``Smiling=1,Male=0``."""
    import torch

    from ..infer.protocols import Classifies
    from ..labels import MISSING, ClassLabels

    if not isinstance(model, Classifies):
        raise InputError(f"--label {words}: this model knows no labels; leave the option out")
    names = list(model.labels.names)
    if isinstance(model.labels, ClassLabels):
        if words not in names:
            raise InputError(f"--label: there is no class {words!r}{nearest(words, names)}")
        return torch.tensor(names.index(words))
    y = torch.full((len(names),), MISSING)
    for word in words.split(","):
        name, _, value = word.strip().partition("=")
        if name not in names:
            raise InputError(f"--label: there is no attribute {name!r}{nearest(name, names)}")
        if value not in ("", "0", "1"):
            raise InputError(f"--label {word}: {name}=0 or {name}=1 is needed")
        y[names.index(name)] = int(value or 1)
    return y
