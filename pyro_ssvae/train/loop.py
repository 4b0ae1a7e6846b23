"""The training loop: one mixed batch of labelled and unlabelled rows a step, one objective, one optimiser."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from .average import Average
from .checkpointer import Checkpointer
from .divergence import FiniteGuard
from .group import Group, Measured
from .plan import Batch, Batches, Plan
from .progress import Callbacks, Interrupted, Row
from .state import TrainingState

SHOWN = 0.1  # seconds between two looks of a person at the progress
APART = 50  # steps between two measurements of the latents' use, at least; a tenth of a shorter training


@dataclass(frozen=True)
class Loop:
    """A training with every choice made: one process or many, captured or not, in mixed precision or not.

    :ivar step: takes the gradients of a batch.
    :ivar schedule: sets what changes with the progress.
    :ivar optimize: takes a step along the gradients.
    :ivar recovering: rolls back where the loss is not finite.
    """

    batches: Batches
    state: TrainingState
    group: Group
    guard: FiniteGuard
    average: Average
    schedule: Callable[[], None]
    step: Callable[[Batch], Measured]
    optimize: Callable[[], object]
    recovering: Callable[[], AbstractContextManager[None]]
    hooks: Hooks

    def run(self) -> None:
        """Train until nothing is left to do."""
        state, group = self.state, self.group
        for batch in self.batches.since(state):
            with self.recovering():
                self.schedule()
                with group.sharing(state.done):
                    measured = group.reduce(self.step(batch), len(batch.y), state.done)
                self.guard.check(measured.loss)
                self.optimize()
                self.average.update(state.done)
                state.count(measured)
                self.hooks.after_step()


@dataclass
class Hooks:
    """What happens between two steps: the end of an epoch, the progress bar, a request to stop, checkpoints.

    :ivar validate: measures the model's averages; None without validation.
    :ivar measure: the history's column for it.
    :ivar measure_latents: measures how much the averages use the latents.
    :ivar latent_columns: the history's columns for it; none where it is not measured.
    """

    state: TrainingState
    plan: Plan
    group: Group
    callbacks: Callbacks
    checkpointer: Checkpointer
    validate: Callable[[], float] | None
    measure: str
    measure_latents: Callable[[], Row]
    latent_columns: Sequence[str] = ()
    shown: float = -math.inf

    def after_step(self) -> None:
        """End the epoch, show the progress, write a checkpoint or stop, whichever is due.

        :raises Interrupted: somebody asks to stop; the state is written.
        """
        state, plan = self.state, self.plan
        if state.done % plan.per_epoch == 0:
            self.end_epoch()
        if time.monotonic() - self.shown > SHOWN or state.finished:
            self.shown = time.monotonic()
            epoch = math.ceil(state.done / plan.per_epoch)
            self.callbacks.show(state.done, f"epoch {epoch}/{plan.epochs}{state.summary()}")
        if self.group.stops():
            self.checkpointer.write()
            raise Interrupted(f"stopped after {state.done} of {plan.steps} steps{self.checkpointer.place}")
        self.checkpointer.write_when_due()

    def end_epoch(self) -> None:
        """Add the epoch to the history."""
        row = self.state.end_epoch()
        if self.validate is not None:
            row[self.measure] = self.group.same(self.validate()) if self.is_validated(self.state.epoch) else math.nan
        if self.latent_columns:
            found = self.measure_latents() if self.is_measured(self.state.epoch) else {}
            row |= {name: self.group.same(found[name]) if found else math.nan for name in self.latent_columns}
        self.state.record(row)
        if self.callbacks.on_epoch is not None and self.group.rank == 0:
            self.callbacks.on_epoch(row)
            if not self.state.objective.module.training:  # as predictions of one's own leave a pair
                self.state.objective.train()

    def is_validated(self, epoch: int) -> bool:
        """Whether an epoch's averages are validated: about forty in all, the last included; or each, to stop early."""
        few = epoch % max(1, self.plan.epochs // 40) == 0 or epoch == self.plan.epochs
        return few or self.state.patience is not None

    def is_measured(self, epoch: int) -> bool:
        """Whether the use of the latents is measured: about forty times, the last epoch included, and at least
        :data:`APART` steps or a tenth of the training apart, for a measurement costs as much as one step or two."""
        apart = min(APART, self.plan.steps / 10)
        every = max(1, self.plan.epochs // 40, math.ceil(apart / self.plan.per_epoch))
        return epoch % every == 0 or epoch == self.plan.epochs
