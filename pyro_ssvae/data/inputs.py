"""Points and labels as :func:`~pyro_ssvae.fit` takes them, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..labels import MISSING
from .streaming import Streamed, open_points


def check_data(model: nn.Module, x: Any, y: Any, least: int = 2) -> tuple[Any, Tensor]:
    """Return ``x`` and ``y`` as tensors, ``x`` as :class:`~.streaming.Streamed` where it is a large file.

    :raises InputError: naming the first row that cannot be used.
    """
    input_shape, labels = getattr(model, "input_shape", None), getattr(model, "labels", None)
    x, own, meaning = open_points(x, input_shape)
    if y is None and own is not None:
        if labels is not None and meaning is not None and list(meaning.names) != list(labels.names):
            raise InputError(f"x: the folder's labels are {', '.join(meaning.names)[:200]}; the model's differ")
        y = own
    x = x if isinstance(x, Streamed) else numbers(x, "x")
    if x.dim() < 2 or len(x) < least:
        raise InputError(f"x: shape {list(x.shape)}; at least {least} points are needed, [N, ...]")
    if x.dtype != torch.uint8 and not isinstance(x, Streamed):
        x = x.to(torch.get_default_dtype())
        bad = ~torch.isfinite(x).reshape(len(x), -1).all(1)
        if bad.any():
            raise InputError(f"x: row {int(bad.nonzero()[0])} has a NaN or infinite value; {int(bad.sum())} rows have")
    if input_shape is not None and tuple(x.shape[1:]) != tuple(input_shape):
        raise InputError(f"x: shape {list(x.shape)}; this model needs [N, {', '.join(map(str, input_shape))}]")
    y = None if y is None else numbers(y, "y")
    if labels is not None:
        return x, labels.check(y, len(x))
    y = torch.full((len(x),), MISSING) if y is None else y
    if y.dim() < 1 or len(y) != len(x):
        raise InputError(f"y: {len(y) if y.dim() else 'no'} rows, but x has {len(x)}; both need the same number")
    return x, y


def numbers(values: Any, name: str) -> Tensor:
    """A tensor of a tensor, an array or nested lists of numbers."""
    try:
        return values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: not a tensor or an array of numbers ({str(error).splitlines()[0]})") from None
