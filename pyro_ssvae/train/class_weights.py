"""The weights of the classes in the supervised term."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..data.checks import hint, shown
from ..data.label_words import class_places
from ..errors import InputError, counted, plain_value
from ..infer.pairs import name_of_pair
from ..infer.protocols import WeighsClasses
from ..label_arrays import value_counts
from ..labels import AttributeLabels, Labels, labels_of
from .settings import BALANCED


@runtime_checkable
class HasNames(Protocol):
    """Numbers that have a name each, as pandas' Series."""

    def to_dict(self) -> Mapping[object, object]: ...


def set_class_weights(pair: nn.Module, weights: tuple[float, ...] | str, y: Tensor) -> None:
    """Give a pair the weights of its classes; raise :class:`InputError` where it takes none, or another number."""
    labels = labels_of(pair)
    if not isinstance(pair, WeighsClasses) or labels is None:
        raise InputError(f"class_weights: {name_of_pair(pair)} weighs no classes; leave the option out")
    values = labels.size * (2 if isinstance(labels, AttributeLabels) else 1)
    if isinstance(weights, str):
        pair.set_class_weights(balanced(labels, y))
    elif len(weights) == values:
        pair.set_class_weights(torch.tensor(weights))
    else:
        each = "each value, 0 and 1, of each attribute" if values > labels.size else "each class"
        raise InputError(
            f"class_weights: {counted(len(weights), 'number')}; {values} are needed, one for {each}, or {BALANCED!r}"
        )


def weights_in_order(weights: object, labels: Labels | None) -> object:
    """Return weights by the names of the classes, or two of each attribute, in the labels' order; others as they are.

    A class that is not named has the weight 1, as in scikit-learn.

    :param weights: a dict, or a series of pandas with names.
    :raises InputError: a name that is none of the labels', or what is no weight.
    """
    given = plain_value(weights)
    by_name = given.to_dict() if isinstance(given, HasNames) else given
    if not isinstance(by_name, Mapping) or labels is None:
        return weights
    names, attributes = list(labels.names), isinstance(labels, AttributeLabels)
    found: list[object] = [(1.0, 1.0) if attributes else 1.0] * len(names)
    for name, value in by_name.items():
        place = class_places([str(name)], names)[0]
        if place is None:
            what = "attribute" if attributes else "class"
            raise InputError(f"class_weights: there is no {what} {shown(name)}{hint(str(name), names)}")
        found[place] = plain_value(value)
    if attributes and not all(isinstance(pair, tuple) and len(pair) == 2 for pair in found):
        raise InputError("class_weights: two numbers for each attribute, the weights of 0 and of 1, are needed")
    return tuple(found)


def balanced(labels: Labels, y: Tensor) -> Tensor:
    """Return weights that let every class count alike: ``n / (K n_k)`` of n known labels of K classes, as scikit-learn
    has it.

    A class without a known label is none of the K, and has the weight 1. Of attributes: ``[A, 2]``, for 0 and 1, each
    attribute on its own.
    """
    size = 2 if isinstance(labels, AttributeLabels) else labels.size
    counts = value_counts(y, size)
    there = counts > 0
    weights = counts.sum(1, keepdim=True) / (there.sum(1, keepdim=True) * counts).clamp_min(1)
    weights = torch.where(there, weights, 1.0)
    return weights if isinstance(labels, AttributeLabels) else weights[0]
