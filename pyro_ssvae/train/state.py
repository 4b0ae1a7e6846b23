"""What changes from step to step of a training, and how it goes to a checkpoint and back."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..files import CannotWrite, load_state, optimizer_tensors, restore_optimizer
from .checkpoints import State, load_newest, sibling, write_best, write_state

History = dict[str, list[float]]
APART = 200  # steps between two good states at least: keeping one costs as much as some steps


class NotFinite(Exception):  # noqa: N818
    """A loss or a parameter that is NaN or infinite.

    :ivar step: the step that it came up in, counted from 0.
    :ivar where: in words; empty where it is not known.
    """

    def __init__(self, step: int, where: str = "") -> None:
        super().__init__(step, where)
        self.step, self.where = step, where


class TrainingState:
    """Parameters, their average, the optimiser, the random numbers, the steps done and the history so far.

    :param modules: the model and its moving average, by name.
    :param free: parameters outside of the model, those of ``pyro.param``.
    :param optimizer: over all of them.
    :param columns: of the history.
    :param steps: of the whole training; about twenty times, at the end of an epoch, the state is kept as
        ``good``, but not more often than every :data:`APART` steps.
    :param per_epoch: steps of an epoch.
    :param rows: of a step.
    :param path: the checkpoint's file; None for none.
    :param about: JSON-ready facts in which a checkpoint and the training that goes on from it must agree.
    :param every: seconds, and epochs or None, between two checkpoints.
    :param keep: how many of the latest are kept.
    :param writes: False in all processes of a training but one.
    :ivar setbacks: how many times the training went back because of numbers that were not finite.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        free: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        columns: Sequence[str],
        steps: int,
        per_epoch: int,
        rows: int,
        path: Path | None,
        about: dict[str, Any],
        device: torch.device,
        every: tuple[float, int | None] = (60.0, None),
        keep: int = 1,
        writes: bool = True,
    ) -> None:
        self.modules, self.free, self.optimizer = modules, free, optimizer
        self.path, self.about, self.device, self.writes = path, about, device, writes
        self.every, self.keep, self.steps, self.per_epoch, self.rows = every, keep, steps, per_epoch, rows
        self.mark = max(steps // per_epoch // 20, math.ceil(APART / per_epoch)) * per_epoch
        self.history: History = {column: [] for column in columns}
        self.done = self.setbacks = 0
        counted = [column for column in columns if column in ("loss", "decodes")]
        self.counts = {column: torch.zeros(per_epoch, device=device) for column in counted}  # of the epoch's steps
        self.score: list[float] | None = None  # of the best epoch: larger is better
        self.best: tuple[dict[str, Tensor], dict[str, Any]] | None = None  # its weights, until they are written
        self.started = self.written = time.monotonic()
        self.written_once = False
        self.good = self.snapshot()
        self.good_written = True  # the beginning needs no file

    @property
    def seconds(self) -> float:
        """How long the training has run; the time between a stop and its resumption does not count."""
        return time.monotonic() - self.started

    @property
    def slower(self) -> float:
        """What the learning rate is multiplied by, after setbacks."""
        return float(0.1**self.setbacks)

    def count(self, loss: Tensor, decodes: Tensor | None = None) -> None:
        """Note a step with this loss, and so many decodes a row."""
        place = self.done % self.per_epoch
        self.counts["loss"][place] = loss.detach()
        if decodes is not None:
            self.counts["decodes"][place] = decodes
        self.done += 1

    def end_epoch(self) -> dict[str, float]:
        """The row of the history for an epoch that ends here; raise :class:`NotFinite` where its loss is not."""
        self.check_loss()
        means = {column: count.double().mean().item() for column, count in self.counts.items()}
        means["loss"] /= self.rows
        for count in self.counts.values():
            count.zero_()
        return {"epoch": float(self.done // self.per_epoch), **means, "seconds": self.seconds}

    def check_loss(self) -> None:
        """Raise :class:`NotFinite` naming the epoch's first step whose loss was not finite."""
        wrong = ~self.counts["loss"].isfinite()
        if bool(wrong.any()):
            first = (self.done - 1) // self.per_epoch * self.per_epoch
            raise NotFinite(first + int(wrong.int().argmax()))

    def record(self, row: dict[str, float]) -> None:
        """Add an epoch's row to the history, and keep what is best so far, and what is good."""
        for column, value in row.items():
            self.history[column].append(value)
        accuracy = row.get("validation_accuracy")
        if accuracy is None or not math.isnan(accuracy):
            score = [-row["loss"]] if accuracy is None else [accuracy, -row["loss"]]
            if self.path is not None and self.writes and (self.score is None or score > self.score):
                self.score = score
                facts = {"epoch": int(row["epoch"]), **{k: v for k, v in row.items() if k not in ("epoch", "seconds")}}
                self.best = (copied(self.modules["averaged"].state_dict()), facts)
        if self.done % self.mark == 0 or self.done == self.steps:
            self.good, self.good_written = self.snapshot(), False

    def summary(self) -> str:
        """The latest numbers, in words."""
        words = ""
        for column, digits in (("loss", 2), ("decodes", 2), ("validation_accuracy", 3)):
            numbers = [value for value in self.history.get(column, ())[-100:] if not math.isnan(value)]
            words += f"  {column.replace('_', ' ')} {numbers[-1]:.{digits}f}" if numbers else ""
        return words

    def snapshot(self) -> State:
        """Everything, copied to the CPU; raise :class:`NotFinite` where a parameter or the loss is not finite."""
        self.check_finite()
        tensors = {f"{name}.{k}": t for name, module in self.modules.items() for k, t in module.state_dict().items()}
        tensors |= {f"free.{i}": p for i, p in enumerate(self.free)}
        tensors |= optimizer_tensors(self.optimizer)
        tensors |= {f"count.{column}": count for column, count in self.counts.items()}
        tensors |= {"rng.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        state = {
            "about": self.about,
            "done": self.done,
            "seconds": self.seconds,
            "history": {column: list(values) for column, values in self.history.items()},
            "setbacks": self.setbacks,
            "score": self.score,
            "random": other_random_numbers(),
        }
        return copied(tensors), state

    def check_finite(self) -> None:
        """Raise :class:`NotFinite` where steps have left a loss or a parameter that is not finite."""
        if self.done == 0:
            return
        if self.done % self.per_epoch:
            self.check_loss()
        free = ((f"{i} of pyro.param", p) for i, p in enumerate(self.free))
        for name, p in (*self.modules["model"].named_parameters(), *free):
            if p.requires_grad and not bool(torch.isfinite(p).all()):
                raise NotFinite(self.done - 1, f"parameter {name}")

    def write_when_due(self) -> None:
        """Write a checkpoint where the last one is old enough. One that cannot be written is tried again later."""
        seconds, epochs = self.every
        at_end = epochs is not None and self.done % (epochs * self.per_epoch) == 0
        if not (at_end or time.monotonic() - self.written > seconds):
            return
        try:
            self.write()
        except CannotWrite as error:
            if not self.written_once:
                raise
            print(f"fit: {error}; training goes on, the checkpoint before it is whole", file=sys.stderr)
            self.written = time.monotonic()

    def write(self) -> None:
        """Write the checkpoint; raise :class:`CannotWrite` where its folder doesn't take it.

        The newest comes last: where a training goes on from an older one, it finds the same best and good ones again.
        """
        if self.path is None or not self.writes:
            return
        try:
            state = self.snapshot()
        except NotFinite:  # which all processes of the training notice at the end of the epoch
            return
        if not self.good_written:
            write_state(sibling(self.path, "good"), self.good)
            self.good_written = True
        if self.best is not None:
            weights, facts = self.best
            write_best(self.path, weights, **facts)
            self.best = None
        write_state(self.path, state, self.keep)
        self.written, self.written_once = time.monotonic(), True

    def restore(self) -> None:
        """Go on from the newest whole checkpoint; raise :class:`InputError` where none is there, or another's."""
        if self.path is None:
            raise InputError("resume: it needs checkpoint, the file to go on from")
        tensors, state = load_newest(self.path, quiet=not self.writes)
        if state["about"] != self.about or state["history"].keys() != self.history.keys():
            raise InputError(
                f"{self.path}: it belongs to a training with other settings or data{self.differing(state)}"
            )
        try:
            self.put_back(tensors, state)
        except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{self.path}: it does not fit this model ({str(error).splitlines()[0]})") from None
        self.started = time.monotonic() - state["seconds"]
        self.written_once = True
        self.good, self.good_written = self.snapshot(), True
        try:
            good = load_state(sibling(self.path, "good"))
            if good[1]["about"] == self.about and good[1]["done"] <= self.done:
                self.good = good
        except InputError:  # none was needed yet, or it is damaged
            pass

    def differing(self, state: dict[str, Any]) -> str:
        """Which fact a checkpoint's training has otherwise, in words."""
        theirs, ours = ({**about.get("settings", {}), **about} for about in (state["about"], self.about))
        for name in ours:
            if name != "settings" and theirs.get(name) != ours[name]:
                told = [str(value)[:40] for value in (theirs.get(name), ours[name])]
                return f" ({name} {told[0]}, not {told[1]})"
        return ""

    def go_back(self) -> None:
        """Go back to the good state."""
        setbacks, score, best = self.setbacks, self.score, self.best
        self.put_back(*self.good)
        self.setbacks, self.score, self.best = setbacks + 1, score, best

    def put_back(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Take over what :meth:`snapshot` gave."""
        for name, module in self.modules.items():
            module.load_state_dict(part(tensors, f"{name}."))
        for i, p in enumerate(self.free):
            p.data.copy_(tensors[f"free.{i}"])
        restore_optimizer(self.optimizer, tensors)
        for column, count in self.counts.items():
            count.copy_(tensors[f"count.{column}"])
        torch.set_rng_state(tensors["rng.cpu"])
        if self.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        (version, numbers, gauss), numpy_state = state["random"]
        random.setstate((version, tuple(numbers), gauss))
        np.random.set_state(tuple(numpy_state))  # noqa: NPY002
        self.history = {column: list(values) for column, values in state["history"].items()}
        self.done, self.setbacks, self.score = state["done"], state["setbacks"], state["score"]


def other_random_numbers() -> list[Any]:
    """The states of Python's and NumPy's random numbers, ready for JSON; a pair of one's own may draw from them."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return [random.getstate(), [name, np.asarray(keys).tolist(), *rest]]


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with ``prefix``, which is cut off."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
