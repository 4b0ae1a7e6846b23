"""Give an image the characteristic of a donor: its very glasses.

Example: pyro-ssvae swap runs/avatars-revae-0.2 --index 0 --donor-index 4 --attribute Glasses
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from .arguments import read
from .pictures import asked_attribute, asked_image, check, image_model, save_picture


@dataclass(frozen=True)
class Swap:
    """The command's options."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    image: Path | None = None
    """The receiver's file; it is cut and scaled to the model's input."""
    index: int | None = None
    """A row of the run's test set, in place of a file."""
    donor: Path | None = None
    """The donor's file."""
    donor_index: int | None = None
    """The donor's row of the run's test set, in place of a file."""
    attribute: str | None = None
    """Whose characteristic; a model with class labels has one, of all classes."""
    out: Path | None = None
    """The picture's file (.png, .pdf or .svg), which must not exist; by default a new one in the run's figures."""
    seed: int = 0
    """Of the encoding's noise, where a model has any."""


def parse(arguments: Sequence[str]) -> Swap:
    """Return the options that were typed."""
    return read("swap", Swap, arguments, __doc__)


def run(options: Swap) -> None:
    """Draw the picture and say where it is."""
    from .. import plots
    from ..infer.protocols import Intervenes

    check(options)
    model = image_model(options.run, Intervenes)
    name = asked_attribute(model, "--attribute", options.attribute)
    x = asked_image(options.run, model, "--image", options.image, "--index", options.index)
    donor = asked_image(options.run, model, "--donor", options.donor, "--donor-index", options.donor_index)
    figure = plots.swaps(model, x, donor, name, seed=options.seed)
    print(f"picture: {save_picture(figure, options.out, options.run, 'swap')}")
