"""The models by name."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from ..data.schema import Schema
from ..errors import InputError, nearest, plain_value
from ..labels import AttributeLabels, ClassLabels, Labels
from .adgm import ADGM
from .augmented import AugmentedVAE
from .base import Model
from .classifier import Classifier
from .config import option_names
from .diva import DIVA
from .generative import GenerativeModel
from .m1 import M1
from .m1m2 import M1M2
from .m2 import M2
from .mvae import MVAE
from .revae import ReVAE
from .vae import VAE

MODELS: dict[str, type[Model]] = {
    "augmented": AugmentedVAE,
    "revae": ReVAE,
    "vae": VAE,
    "classifier": Classifier,
    "m1": M1,
    "m2": M2,
    "m1+m2": M1M2,
    "adgm": ADGM,
    "mvae": MVAE,
    "diva": DIVA,
}
PAPERS = {"augvae": "augmented", "ccvae": "revae"}
"""What papers call a model; a class's own name is known too."""


def model_name(word: str) -> str:
    """Return the name in :data:`MODELS` for a model as people write it: ``AugVAE``, ``CC-VAE``, ``"M1 + M2"``.

    Capitals, spaces, dashes and underscores count for nothing, and classes and papers have their own names.

    :raises InputError: with the nearest name, where there is none.
    """
    written = {squeezed(name): name for name in MODELS}
    written |= {squeezed(model.__name__): name for name, model in MODELS.items()} | PAPERS
    name = written.get(squeezed(str(word)))
    if name is None:
        raise InputError(f"model: there is no {word!r}{nearest(str(word), MODELS)}")
    return name


def squeezed(word: str) -> str:
    """Return a word in small letters, without what people leave out."""
    return re.sub(r"[-_ ]", "", word.lower())


def create_model(
    name: str,
    *,
    input_shape: int | tuple[int, ...],
    labels: Labels | None = None,
    schema: Schema | None = None,
    **options: Any,
) -> Model:
    """Create a model by name, its networks chosen by the input's shape.

    :param name: one of :data:`MODELS`, as people write it: ``"M1+M2"``, ``"AugVAE"``.
    :param input_shape: shape of one point: ``(D,)`` or D for vectors, ``(C, T)`` series, ``(C, H, W)`` images.
    :param labels: what ``y`` means; only ``"vae"`` does without.
    :param schema: how tables become points, so that the model's verbs take tables (``data.model_options()`` has it).
    :param options: the model's own options, the fields of its ``Config``.
    :raises InputError: an unknown name, or an option that the model does not have.

    Example::

        vae = create_model("augmented", input_shape=(1, 28, 28), labels=ClassLabels(10), label_inference="enumerate")
    """
    name, shape = model_name(name), checked_shape(input_shape)
    if labels is not None and not isinstance(labels, (ClassLabels, AttributeLabels)):
        raise InputError(f"labels: {labels!r}; ClassLabels(3) or AttributeLabels(['Smiling', 'Male']) is needed")
    if labels is None and name != "vae":
        raise InputError(f"labels: {name!r} needs ClassLabels or AttributeLabels")
    for option in options:
        check_option(name, option)
    if schema is not None and shape != (len(schema.columns),):
        raise InputError(f"schema: {len(schema.columns)} columns, but input_shape is {list(shape)}; both must agree")
    model = MODELS[name].default(shape, labels, **options)  # type: ignore[arg-type]
    model.schema = schema
    own = {key: value for key, value in options.items() if key not in asdict(model.config)}
    recorded = {**asdict(model.config), **own}
    if options.get("likelihood") is not None and recorded["likelihood"] != options["likelihood"]:
        return model  # a likelihood of one's own
    model.recipe = {"name": name, "input_shape": list(shape), "options": recorded}
    return model


def checked_shape(input_shape: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one point; raise :class:`InputError` where no network suits it."""
    sizes = plain_value(input_shape)
    shape = sizes if isinstance(sizes, tuple) else (sizes,)
    if not all(type(size) is int for size in shape):
        raise InputError(f"input_shape: {input_shape!r}; (D,), (C, T) or (C, H, W) is needed")
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise InputError(f"input_shape: {list(shape)}; (D,), (C, T) or (C, H, W) is needed")
    return shape


def check_option(name: str, option: str) -> None:
    """Raise :class:`InputError` where a model lacks an option, naming those that have it."""
    known = option_names(MODELS[name].Config)
    if option in known:
        return
    others = [other for other, model in MODELS.items() if option in option_names(model.Config)]
    if others:
        raise InputError(
            f"{option}: {name!r} has no such option; {', '.join(others)} {'has' if len(others) == 1 else 'have'}"
        )
    raise InputError(f"{option}: {name!r} has no such option{nearest(option, known)}")


__all__ = [
    "ADGM",
    "DIVA",
    "M1",
    "M1M2",
    "M2",
    "MODELS",
    "MVAE",
    "VAE",
    "AugmentedVAE",
    "Classifier",
    "GenerativeModel",
    "Model",
    "ReVAE",
    "check_option",
    "create_model",
    "model_name",
]
