"""The models by name."""

from __future__ import annotations

from typing import Any

from ..errors import InputError, nearest
from ..labels import Labels
from .augmented import AugmentedVAE
from .base import Model
from .classifier import Classifier
from .diva import DIVA
from .m1 import M1
from .m1m2 import M1M2
from .m2 import M2
from .mvae import MVAE
from .revae import ReVAE
from .vae import VAE

MODELS: dict[str, Any] = {
    "augmented": AugmentedVAE,
    "revae": ReVAE,
    "vae": VAE,
    "classifier": Classifier,
    "m1": M1,
    "m2": M2,
    "m1+m2": M1M2,
    "mvae": MVAE,
    "diva": DIVA,
}


def create_model(
    name: str, *, input_shape: tuple[int, ...], labels: Labels | None = None, latent_dim: int = 50, **options: Any
) -> Model:
    """Create a model by name, its networks chosen by the input's shape.

    :param name: one of :data:`MODELS`.
    :param input_shape: shape of one point: ``(D,)`` vectors, ``(C, T)`` series, ``(C, H, W)`` images.
    :param labels: what ``y`` means; only ``"vae"`` does without.
    :param latent_dim: width of z.
    :param options: the model's own options, as its class takes them.
    :raises InputError: an unknown name, or an option that the model does not have.

    Example::

        vae = create_model("augmented", input_shape=(1, 28, 28), labels=ClassLabels(10), class_input="enumerate")
    """
    if name not in MODELS:
        raise InputError(f"model: there is no {name!r}{nearest(name, MODELS)}")
    input_shape = tuple(int(size) for size in input_shape)
    if not 1 <= len(input_shape) <= 3 or min(input_shape) < 1:
        raise InputError(f"input_shape: {list(input_shape)}; (D,), (C, T) or (C, H, W) is needed")
    if labels is None and name != "vae":
        raise InputError(f"labels: {name!r} needs ClassLabels or AttributeLabels")
    try:
        model: Model = MODELS[name].default(input_shape, labels, latent_dim, **options)
    except TypeError as error:
        raise InputError(f"options of {name!r}: {error}") from error
    model.config = {"name": name, "input_shape": list(input_shape), "latent_dim": latent_dim, "options": options}
    return model


__all__ = [
    "DIVA",
    "M1",
    "M1M2",
    "M2",
    "MODELS",
    "MVAE",
    "VAE",
    "AugmentedVAE",
    "Classifier",
    "Model",
    "ReVAE",
    "create_model",
]
