"""Walk an image along one attribute, or over the plane of two.

Example: pyro-ssvae walk runs/avatars-revae-0.2 --index 0 --attribute Smiling --second Long_Hair
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..errors import InputError
from .arguments import read
from .pictures import asked_attribute, asked_image, check, image_model, save_picture


@dataclass(frozen=True)
class Walk:
    """The command's options."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    image: Path | None = None
    """The image's file; it is cut and scaled to the model's input."""
    index: int | None = None
    """A row of the run's test set, in place of a file."""
    attribute: str | None = None
    """Along the columns."""
    second: str | None = None
    """Along the rows."""
    steps: int = 7
    """Images along each way."""
    out: Path | None = None
    """The picture's file (.png, .pdf or .svg), which must not exist; by default a new one in the run's figures."""
    seed: int = 0
    """Of the encoding's noise, where a model has any."""


def parse(arguments: Sequence[str]) -> Walk:
    """Return the options that were typed."""
    return read("walk", Walk, arguments, __doc__)


def run(options: Walk) -> None:
    """Draw the picture and say where it is."""
    from .. import plots
    from ..infer.protocols import Walks
    from ..labels import ClassLabels

    check(options, steps=(2, 25))
    model = image_model(options.run, Walks)
    if isinstance(model.labels, ClassLabels):
        raise InputError(f"{options.run}: a walk goes along attributes; this model has class labels")
    first = asked_attribute(model, "--attribute", options.attribute)
    second = None if options.second is None else asked_attribute(model, "--second", options.second)
    if first == second:
        raise InputError(f"--second {second}: it is the first attribute too; another is needed")
    x = asked_image(options.run, model, "--image", options.image, "--index", options.index)
    figure = plots.walk(model, x, first, second, steps=options.steps, seed=options.seed)
    print(f"picture: {save_picture(figure, options.out, options.run, 'walk')}")
