"""Further classes for a trained model, without losing the old ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..data.schema import Schema
from ..errors import InputError, kind_of, plain_value
from ..labels import ClassLabels
from . import Model, create_model
from .identity import edits

HEADS = (("head.weight", "head.bias"), ("head_weight", "head_bias"))
BELOW = 6.0
"""How far below the others a new class's logit begins where its row of the head does not begin at zero."""


def add_classes(model: Model, names: Sequence[str], *, seed: int = 0, **options: Any) -> Model:
    """Return a model with further classes, whose weights are the given one's wherever it has some.

    The old classes keep their numbers 0 to K - 1, and the new ones are K, K + 1, …; only what belongs to a new class,
    such as its row of the head and its column of the decoder's input, begins as in a new model. To be trained on rows
    of all classes, with :func:`pyro_ssvae.fit`; the given model stays as it is.

    :param names: of the new classes.
    :param seed: of the new classes' weights.
    :param options: of the model, where one depends on the number of classes, such as ``label_prior=(0.5, 0.3, 0.2)``.
    :raises InputError: attributes, a name that is there already, networks of one's own, or an edited model.

    Example::

        larger = ps.add_classes(vae, ["owl"])  # cat, dog → cat, dog, owl
        ps.fit(larger, x, y)  # y: 0, 1, 2, -1 where missing
    """
    labels = model.labels
    if not isinstance(labels, ClassLabels):
        raise InputError(f"add_classes: {kind_of(model)} without classes; a model of ClassLabels is needed")
    if model.recipe is None:
        raise InputError("add_classes: networks of one's own cannot be made larger; a model of create_model is needed")
    if edited := edits(model):
        raise InputError(f"add_classes: an edited model ({edited}); one as create_model makes it is needed, edited "
                         "once it is larger")  # fmt: skip
    given_names = [names] if isinstance(names, str) else plain_value(names)
    if not isinstance(given_names, (list, tuple)) or not given_names:
        raise InputError(f"add_classes: {names!r}; a list of at least one name is needed")
    further = [str(name) for name in given_names]
    twice = [name for i, name in enumerate(further) if name in [*labels.names, *further[:i]]]
    if twice:
        raise InputError(f"add_classes: {twice[0]!r} is a class already; another name is needed")
    given = model.recipe["options"]
    given = given | widths(model, given) | options
    if isinstance(given.get("label_prior"), (tuple, list)) and "label_prior" not in options:
        raise InputError(f"label_prior: {labels.size} probabilities; label_prior={labels.size + len(further)} of them, "
                         "or a word, is needed beside the names")  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        larger = create_model(
            model.recipe["name"],
            input_shape=tuple(model.recipe["input_shape"]),
            labels=ClassLabels([*labels.names, *further]),
            schema=extended(model.schema, further),
            **given,
        )
    p = next(model.parameters())
    larger.to(device=p.device, dtype=p.dtype)
    state = grown(model.state_dict(), larger.state_dict())
    for weight, bias in HEADS:
        if weight in state and bool(state[weight][labels.size :].any()):
            state[bias][labels.size :] -= BELOW
    larger.load_state_dict(state)
    larger.column_names, larger.pixel_range = model.column_names, model.pixel_range
    larger.white_level = model.white_level
    return larger.train(model.training)


def extended(schema: Schema | None, names: Sequence[str]) -> Schema | None:
    """Return how a table becomes points and labels, with further words of its target."""
    if schema is None or len(schema.targets) != 1:
        return schema
    target = schema.targets[0]
    return replace(schema, targets=(replace(target, words=(*target.words, *names)),))


def widths(model: Model, options: dict[str, Any]) -> dict[str, int]:
    """Return the options that a model otherwise sets by the number of its classes, as they are."""
    width = model.__dict__.get("label_dim")
    return {"label_dim": width} if "label_dim" in options and isinstance(width, int) else {}


def grown(old: dict[str, Tensor], new: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the new tensors with the old ones as their first entries along every dimension.

    :raises InputError: tensors of other names, or smaller ones.
    """
    if old.keys() != new.keys():
        raise InputError(f"add_classes: the options change the networks ({sorted(old.keys() ^ new.keys())[0]})")
    for name, value in old.items():
        target = new[name]
        if value.dim() != target.dim() or any(a > b for a, b in zip(value.shape, target.shape)):
            raise InputError(
                f"add_classes: {name} has shape {list(value.shape)}, and {list(target.shape)} in the new one"
            )
        target[tuple(slice(0, size) for size in value.shape)] = value
    return new
