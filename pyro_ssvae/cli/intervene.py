"""Set attributes of an image and draw what it would look like.

Example: pyro-ssvae intervene runs/avatars-revae-0.2 --image me.png --set Glasses=1 --set Hat=0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..errors import InputError
from .arguments import read
from .pictures import asked_image, check, image_model, save_picture

if TYPE_CHECKING:
    from ..labels import Labels


@dataclass(frozen=True)
class Intervene:
    """The command's options."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    image: Path | None = None
    """The image's file; it is cut and scaled to the model's input."""
    index: int | None = None
    """A row of the run's test set, in place of a file."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="STR")] = ()
    """Attributes to set together, such as Smiling=1,Male=0, also one by one; or a class. By default each in turn."""
    draws: int = 8
    """How often the intervention is drawn."""
    out: Path | None = None
    """The picture's file (.png, .pdf or .svg), which must not exist; by default a new one in the run's figures."""
    seed: int = 0
    """Of the draws."""


def parse(arguments: Sequence[str]) -> Intervene:
    """Return the options that were typed."""
    return read("intervene", Intervene, arguments, __doc__)


def run(options: Intervene) -> None:
    """Draw the picture and say where it is."""
    from .. import plots
    from ..infer.protocols import Intervenes, require

    check(options, draws=(1, 100))
    model = image_model(options.run, Intervenes)
    values = asked_values(require(model, Intervenes).labels, options.set)
    x = asked_image(options.run, model, "--image", options.image, "--index", options.index)
    if values is None:
        figure = plots.intervention_table(model, x, seed=options.seed)
    else:
        figure = plots.intervention_draws(model, x, values, options.draws, seed=options.seed)
    print(f"picture: {save_picture(figure, options.out, options.run, 'intervention')}")


def asked_values(labels: Labels, given: tuple[str, ...]) -> dict[str, int] | str | None:
    """Return what ``--set`` names: attributes and their values, or a class; None for nothing."""
    from ..data.asked_labels import asked_attributes, asked_class
    from ..labels import ClassLabels

    if not given:
        return None
    if not isinstance(labels, ClassLabels):
        return asked_attributes("--set", given, labels, bare="")
    if len(given) > 1:
        raise InputError(f"--set {' '.join(given)}: one class is needed")
    return labels.names[asked_class("--set", given[0], labels)]
