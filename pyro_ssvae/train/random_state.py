"""The states of all random numbers that a training, or a pair of one's own, may draw."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def generator_tensors(device: torch.device) -> dict[str, Tensor]:
    """Return the states of PyTorch's generators."""
    tensors = {"rng.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def other_generators() -> list[Any]:
    """Return the states of Python's and NumPy's random numbers, ready for JSON."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return [random.getstate(), [name, np.asarray(keys).tolist(), *rest]]


def restore_generators(tensors: Mapping[str, Tensor], others: list[Any], device: torch.device) -> None:
    """Put back what :func:`generator_tensors` and :func:`other_generators` returned."""
    restore_tensors(tensors, device)
    (version, numbers, gauss), numpy_state = others
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(numpy_state))  # noqa: NPY002


def restore_tensors(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Put back what :func:`generator_tensors` returned."""
    torch.set_rng_state(tensors["rng.cpu"])
    if device.type == "cuda" and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"], device)


@contextmanager
def put_back(device: torch.device) -> Iterator[None]:
    """Leave all random numbers as they were found: a training's seed is its own, and not the caller's."""
    tensors, others = generator_tensors(device), other_generators()
    try:
        yield
    finally:
        restore_generators(tensors, others, device)
