"""The parts of a training step and of an epoch: which rows, what learning rate, which optimiser, what average."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .settings import FitSettings


def make_optimizer(parameters: list[Tensor], s: FitSettings) -> torch.optim.AdamW:
    """AdamW; weight matrices decay, biases and scales don't."""
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": s.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=s.learning_rate, betas=(0.9, 0.99), fused=True)


def batches(n: int, known: Tensor, batch_size: int, extra: int, seed: int, epoch: int) -> Tensor:
    """The rows of an epoch's batches: all rows in random order, each batch with ``extra`` known rows added.

    It depends on its arguments alone, so that a resumed training takes the same rows. Rows that do not fill a
    batch wait for another epoch's order.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    full = n // batch_size
    rows = torch.randperm(n, generator=generator)[: full * batch_size].reshape(full, batch_size)
    if extra:
        rounds = math.ceil(full * extra / len(known))
        order = torch.cat([torch.randperm(len(known), generator=generator) for _ in range(rounds)])
        rows = torch.cat([rows, known[order[: full * extra]].reshape(full, extra)], 1)
    return rows


def one_cycle(progress: float, step: float) -> float:
    """The learning rate's share of its peak: up over the first tenth, then down to zero as half a cosine."""
    if progress < 0.1:
        return min(1.0, (progress + step) / 0.1)
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))


def moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], int], None]:
    """An exponential moving average that begins with a short memory, so that it forgets the initial weights.

    :returns: a function that moves tensors towards others, after so many steps; integers are taken over as they are.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], n: int) -> None:
        pairs = list(zip(averaged, current, strict=True))
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        if moving:
            torch._foreach_lerp_(*map(list, zip(*moving)), 1 - min(decay, (1 + n) / (10 + n)))  # type: ignore[call-overload]
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)

    return update


def values(module: nn.Module) -> list[Tensor]:
    """A module's parameters and buffers."""
    return lister(module)()


def lister(module: nn.Module) -> Callable[[], list[Tensor]]:
    """A function that gives :func:`values` as they are at the time, buffers that were assigned anew included, without
    walking the module again."""
    places: list[tuple[Any, str]] = []
    for kind, named in (("_parameters", module.named_parameters()), ("_buffers", module.named_buffers())):
        for name, _ in named:
            path, _, last = name.rpartition(".")
            places.append((getattr(module.get_submodule(path), kind), last))
    return lambda: [held[name] for held, name in places]
