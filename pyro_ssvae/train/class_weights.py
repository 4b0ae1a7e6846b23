"""The weights of the classes in the supervised term."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError, counted, kind_of
from ..infer.protocols import WeighsClasses
from ..labels import AttributeLabels, Labels, labels_of, value_counts
from .settings import BALANCED


def set_class_weights(pair: nn.Module, weights: tuple[float, ...] | str, y: Tensor) -> None:
    """Give a pair the weights of its classes; raise :class:`InputError` where it takes none, or another number."""
    labels = labels_of(pair)
    if not isinstance(pair, WeighsClasses) or labels is None:
        raise InputError(f"class_weights: {kind_of(pair)} weighs no classes; leave the option out")
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


def balanced(labels: Labels, y: Tensor) -> Tensor:
    """Return weights that let every class count alike: ``n / (K n_k)`` of n known labels, as scikit-learn has it.

    A class without a known label has the weight 1. Of attributes: ``[A, 2]``, for 0 and 1, each attribute on its own.
    """
    size = 2 if isinstance(labels, AttributeLabels) else labels.size
    counts = value_counts(y, size)
    weights = counts.sum(1, keepdim=True) / (size * counts.clamp_min(1))
    weights = torch.where(counts > 0, weights, 1.0)
    return weights if isinstance(labels, AttributeLabels) else weights[0]
