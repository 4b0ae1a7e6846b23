"""When a training's state is written to a file, and how it goes on from one."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..files import CannotWrite, differences, installed, of_another_version
from .checkpoints import FORMAT, Json, load_newest, load_state, sibling, write_best, write_state
from .state import MEASURES, NotFinite, TrainingState, part


@dataclass(frozen=True)
class CheckpointPlan:
    """Where and when the state is written.

    :ivar path: the file; None for none.
    :ivar about: facts, ready for JSON, in which a checkpoint and the training that goes on from it must agree.
    :ivar seconds: between two checkpoints.
    :ivar epochs: between two checkpoints at the end of an epoch; None for none.
    :ivar keep: how many of the latest are kept.
    :ivar source: the file to go on from, where it is another one.
    """

    path: Path | None
    about: Json
    seconds: float = 60.0
    epochs: int | None = None
    keep: int = 1
    source: Path | None = None


MAY_CHANGE = frozenset({"steps", "labels"})
"""Facts in which a training that goes on may differ."""
OF_LABELS = frozenset({"label_prior"})
"""Facts in which one that goes on with other labels may differ too."""
TABLES = ("settings", "options")
"""Facts that are tables of others."""


@dataclass(frozen=True)
class GoingOn:
    """How a training goes on from a checkpoint.

    :ivar other_labels: whether the labels are others than before.
    :ivar begins: whether another cycle of the learning rate begins: of other labels, or of another number of epochs.
    """

    other_labels: bool
    begins: bool


class Checkpointer:
    """Writes a state, and reads it back.

    :param writes: False in all processes of a training but one.
    """

    def __init__(self, state: TrainingState, plan: CheckpointPlan, *, writes: bool = True) -> None:
        self.state, self.plan, self.path, self.writes = state, plan, plan.path, writes
        self.written = time.monotonic()
        self.written_once = False

    @property
    def place(self) -> str:
        """Where the state is, in words; empty without a file."""
        return "" if self.path is None else f"; the state is in {self.path}"

    def write_when_due(self) -> None:
        """Write a checkpoint where the last one is old enough. One that cannot be written is tried again later."""
        epochs = self.plan.epochs
        at_end = epochs is not None and self.state.done % (epochs * self.state.plan.per_epoch) == 0
        if not (at_end or time.monotonic() - self.written > self.plan.seconds):
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

        The newest comes last: a training that goes on from an older one finds the same best and finite states again.
        """
        if self.path is None or not self.writes:
            return
        state, about = self.state, {"about": self.plan.about, "version": installed()}
        try:
            tensors, numbers = state.snapshot()
        except NotFinite:  # which all processes of the training notice at the end of the epoch
            return
        if not state.last_finite_written:
            finite, finite_numbers = state.last_finite
            write_state(sibling(self.path, "good"), (finite, about | finite_numbers))
            state.last_finite_written = True
        if state.best is not None and not state.best_written:
            weights, facts = state.best
            pair = state.objective.module
            write_best(self.path, state.average.state_dict(pair, weights), **{**facts, "epoch": int(facts["epoch"])})
            state.best_written = True
        write_state(self.path, (tensors, about | numbers), self.plan.keep)
        self.written, self.written_once = time.monotonic(), True

    def restore(self) -> GoingOn:
        """Go on from the newest whole checkpoint; raise :class:`InputError` where none is there, or another's.

        Also where it leaves no step to do: a training of other labels, or of fewer epochs, needs more than are done.
        """
        path = self.plan.source or self.path
        if path is None:
            raise InputError("resume: it needs checkpoint, the file to go on from")
        tensors, numbers = load_newest(path, quiet=not self.writes)
        about = numbers["about"]
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise InputError(f"{path}: made by another version of pyro_ssvae; train it anew")
        self.check_networks(tensors, numbers, path)
        if not self.same_training(about) or not self.same_columns(numbers["history"].keys(), about):
            raise InputError(f"{path}: it belongs to a training with other settings or data{self.other(numbers)}")
        going_on, columns = self.how(about, numbers["done"], path), list(self.state.history)
        try:
            self.state.put_back(tensors, numbers)
            self.state.add_columns(columns)
        except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{path}: it does not fit this model ({str(error).splitlines()[0]})") from None
        state = self.state
        state.started = time.monotonic() - numbers["seconds"]
        self.written_once = path == self.path
        state.last_finite, state.last_finite_written = state.snapshot(), True
        try:
            finite = load_state(sibling(path, "good"))
            if finite[1]["about"] == self.plan.about and finite[1]["done"] <= state.done:
                state.last_finite = finite
        except InputError:  # none was needed yet, or it is damaged
            pass
        return going_on

    def check_networks(self, tensors: Mapping[str, Tensor], numbers: Json, path: Path) -> None:
        """Raise :class:`InputError` where a checkpoint's networks are not those of the pair."""
        found = differences(self.state.objective.module.state_dict(), part(tensors, "model."))
        if found:
            raise InputError(
                f"{path}: it does not fit this model ({found[:300]}): of another model, or "
                f"{of_another_version(numbers.get('version'))}"
            )

    def same_training(self, about: Json) -> bool:
        """Whether a checkpoint is of this training, but for what may change, and what it does not say."""
        ours = self.plan.about
        other_labels = about.get("labels") != ours["labels"]
        may = MAY_CHANGE | OF_LABELS if other_labels else MAY_CHANGE
        return about.keys() <= ours.keys() and all(about[name] == ours[name] for name in about.keys() - may)

    def same_columns(self, theirs: Collection[str], about: Json) -> bool:
        """Whether a checkpoint's history has this training's columns, but that other labels may be judged otherwise."""
        ours, other_labels = self.state.history.keys(), about.get("labels") != self.plan.about["labels"]
        new, old = ours - set(theirs), set(theirs) - ours
        return new <= (MEASURES if other_labels else set()) and old <= (MEASURES if ours & MEASURES else set())

    def how(self, about: Json, done: int, path: Path) -> GoingOn:
        """Return how this training goes on from a checkpoint written after ``done`` steps."""
        ours, plan = self.plan.about, self.state.plan
        other_labels = about["labels"] != ours["labels"]
        begins = other_labels or about["steps"] != ours["steps"]
        if begins and plan.steps <= done:
            epochs = done // plan.per_epoch
            raise InputError(
                f"{path}: {epochs} epochs are done; epochs={plan.epochs}, and more than {epochs} are needed"
            )
        return GoingOn(other_labels, begins and (other_labels or done > 0))

    def other(self, numbers: Json) -> str:
        """Return which fact a checkpoint's training has otherwise, in words."""
        theirs, ours = (
            {**{name: value for table in TABLES for name, value in about.get(table, {}).items()}, **about}
            for about in (numbers["about"], self.plan.about)
        )
        for name in ours:
            if name not in (*TABLES, *MAY_CHANGE) and theirs.get(name, ours[name]) != ours[name]:
                if name in ("data", "labels"):  # digests, which tell a person nothing
                    return f" (other {name})"
                told = [str(value)[:40] for value in (theirs.get(name), ours[name])]
                return f" ({name} {told[0]}, not {told[1]})"
        return ""
