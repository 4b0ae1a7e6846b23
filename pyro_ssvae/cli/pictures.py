"""What commands that draw share: the run's model, the image or attribute that was named, and the picture's file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..errors import InputError, nearest
from .arguments import SEEDS, check_bounds
from .outputs import check_out, free_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from ..models import Model

Ability = TypeVar("Ability")
ENDINGS = (".png", ".pdf", ".svg")


class Draws(Protocol):
    """Options of a command that draws at random, into a file."""

    @property
    def seed(self) -> int: ...

    @property
    def out(self) -> Path | None: ...


def check(options: Draws, **bounds: tuple[int, int]) -> None:
    """Raise :class:`InputError` for numbers out of bounds and for an ``--out`` that cannot be taken.

    :param bounds: the least and the largest number of options beside ``--seed``.
    """
    check_bounds(options, seed=SEEDS, **bounds)
    check_out(options.out, ENDINGS)


def able(run: Path, model: object, ability: type[Ability]) -> Ability:
    """Return the model of a run as one that has the ability; raise :class:`InputError` naming the run."""
    from ..infer.protocols import require

    try:
        return require(model, ability)
    except InputError as error:
        raise InputError(f"{run}: {error}") from None


def image_model(run: Path, ability: type) -> Model:
    """Return the model of a run; raise :class:`InputError` where it lacks the ability, or has no images."""
    from ..models.saving import load

    model = load(run)
    able(run, model, ability)
    if len(model.input_shape) != 3 or model.input_shape[0] not in (1, 3):
        raise InputError(f"{run}: images are drawn; this model's points have shape {list(model.input_shape)}")
    return model


def asked_attribute(model: Model, option: str, name: str | None) -> str:
    """Return the attribute that an option names; a model with class labels has one characteristic, ``class``."""
    from ..infer.protocols import Classifies, require
    from ..labels import ClassLabels

    labels = require(model, Classifies).labels
    if isinstance(labels, ClassLabels):
        if name not in (None, "class"):
            raise InputError(f"{option} {name}: this model has class labels, and one characteristic; leave it out")
        return "class"
    if name is None:
        raise InputError(f"{option}: an attribute is needed (known: {', '.join(labels.names)})")
    if name not in labels.names:
        raise InputError(f"{option}: there is no attribute {name!r}{nearest(name, labels.names)}")
    return name


def asked_image(
    run: Path, model: Model, file_option: str, file: Path | None, index_option: str, index: int | None
) -> Tensor:
    """Return the image of a file, or of the run's test set, as the model takes it: floats ``[1, C, H, W]``."""
    import torch

    from ..data.augment import unit_scale
    from ..data.images import decode, white_of

    if file is not None and index is None:
        if not file.is_file():
            what = "it is a folder" if file.is_dir() else "no such file"
            raise InputError(f"{file_option} {file}: {what}; an image's file is needed")
        channels, height, width = model.input_shape
        white = white_of([file], model.white_level)
        pixels = decode(file, grey=channels == 1, size=(height, width), white=white)
        return unit_scale(torch.from_numpy(pixels.copy())).unsqueeze(0)
    if file is not None or index is None:
        raise InputError(f"{file_option}, {index_option}: one of the two is needed, an image's file or a test point")
    x = test_images(run, model)
    if not 0 <= index < len(x):
        raise InputError(f"{index_option}: {index}; a test point from 0 to {len(x) - 1} is needed")
    return unit_scale(x[index : index + 1])


@lru_cache(maxsize=1)
def test_images(run: Path, model: Model) -> Tensor:
    """Return the test points of a run, which are read once for a receiver and its donor."""
    from ..experiment.data import run_data

    return run_data(run, model).x_test


def save_picture(figure: Figure, out: Path | None, run: Path, stem: str) -> Path:
    """Write a figure to ``out``, by default to a new file in the run's figures; nothing is overwritten."""
    import io

    from ..plots.style import save_figure

    path = out or free_name(run / "figures", stem, ".png")
    picture = io.BytesIO()
    save_figure(figure, picture, path.suffix[1:].lower())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(picture.getvalue())
    except OSError as error:
        raise InputError(f"--out {path}: it cannot be written ({error.strerror})") from None
    return path
