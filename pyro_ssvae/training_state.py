"""What changes from step to step of a training, and how it goes to a checkpoint and back."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import load_state, optimizer_tensors, restore_optimizer, save_state
from .errors import InputError

History = dict[str, list[float]]


class TrainingState:
    """Parameters, their average, the optimiser, the random numbers, the steps done and the history so far.

    :param modules: the model and its moving average, by name.
    :param free: parameters outside of the model, those of ``pyro.param``.
    :param optimizer: over all of them.
    :param columns: of the history.
    :param path: the checkpoint's file; None for none.
    :param about: JSON-ready facts in which a checkpoint and the training that goes on from it must agree.
    :param writes: False in all processes of a training but one.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        free: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        columns: Sequence[str],
        path: Path | None,
        about: dict[str, Any],
        device: torch.device,
        writes: bool = True,
    ) -> None:
        self.modules, self.free, self.optimizer = modules, free, optimizer
        self.path, self.about, self.device, self.writes = path, about, device, writes
        self.history: History = {column: [] for column in columns}
        self.done = 0
        counted = [column for column in columns if column in ("loss", "decodes")]
        self.totals = {column: torch.zeros((), device=device) for column in counted}  # of the epoch so far
        self.started = self.written = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the training has run; the time between a stop and its resumption does not count."""
        return time.monotonic() - self.started

    def count(self, loss: Tensor, decodes: Tensor | None = None) -> None:
        """Note a step with this loss, and so many decodes, a row."""
        self.totals["loss"] += loss.detach()
        if decodes is not None:
            self.totals["decodes"] += decodes
        self.done += 1

    def end_epoch(self, steps: int) -> dict[str, float]:
        """The row of the history for an epoch of so many steps that ends here."""
        means = {column: total.item() / steps for column, total in self.totals.items()}
        for total in self.totals.values():
            total.zero_()
        return {"epoch": float(self.done // steps), **means, "seconds": self.seconds}

    def record(self, row: dict[str, float]) -> None:
        """Add an epoch's row to the history."""
        for column, value in row.items():
            self.history[column].append(value)

    def summary(self) -> str:
        """The latest numbers, in words."""
        words = ""
        for column, digits in (("loss", 2), ("decodes", 2), ("validation_accuracy", 3)):
            numbers = [value for value in self.history.get(column, ())[-100:] if not math.isnan(value)]
            words += f"  {column.replace('_', ' ')} {numbers[-1]:.{digits}f}" if numbers else ""
        return words

    def write_every(self, seconds: float) -> None:
        """Write the checkpoint, unless the last one is younger than that."""
        if time.monotonic() - self.written > seconds:
            self.write()

    def write(self) -> None:
        """Write the checkpoint; raise :class:`InputError` where its folder doesn't take it."""
        if self.path is None or not self.writes:
            return
        tensors = {f"{name}.{k}": t for name, module in self.modules.items() for k, t in module.state_dict().items()}
        tensors |= {f"free.{i}": p for i, p in enumerate(self.free)}
        tensors |= optimizer_tensors(self.optimizer)
        tensors |= {f"total.{column}": total for column, total in self.totals.items()}
        tensors |= {"rng.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        state = {"about": self.about, "done": self.done, "seconds": self.seconds, "history": self.history}
        try:
            save_state(self.path, tensors, state)
        except OSError as error:
            raise InputError(f"{self.path}: it cannot be written ({error.strerror})") from None
        self.written = time.monotonic()

    def restore(self) -> None:
        """Go back to the checkpoint; raise :class:`InputError` where it is absent, damaged or another training's."""
        if self.path is None:
            raise InputError("resume: it needs checkpoint, the file to go on from")
        tensors, state = load_state(self.path)
        if state.get("about") != self.about or state["history"].keys() != self.history.keys():
            raise InputError(f"{self.path}: it belongs to a training with other settings or data")
        try:
            for name, module in self.modules.items():
                module.load_state_dict(part(tensors, f"{name}."))
            for i, p in enumerate(self.free):
                p.data.copy_(tensors[f"free.{i}"])
            restore_optimizer(self.optimizer, tensors)
            for column, total in self.totals.items():
                total.copy_(tensors[f"total.{column}"])
            torch.set_rng_state(tensors["rng.cpu"])
            if self.device.type == "cuda" and "rng.cuda" in tensors:
                torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{self.path}: it does not fit this model ({str(error).splitlines()[0]})") from None
        self.history, self.done = state["history"], state["done"]
        self.started = time.monotonic() - state["seconds"]


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with ``prefix``, which is cut off."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
