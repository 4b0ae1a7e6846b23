"""A training in one process: every choice, made once before the loop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from ..data.augment import OF_DATA, automatic, make_augmentation, mostly, unchanged, unit_scale
from ..data.pair_order import Points
from ..data.random_rows import some_of
from ..distributed import broadcast
from ..errors import InputError
from ..infer.pairs import programs
from ..infer.protocols import CountsDecodes, Generates, Hurries, Prepares, Remarks, Schedules
from ..nn.networks import mixes_rows
from .average import Average, tensors_of
from .captured import CapturedStep
from .checkpointer import Checkpointer, CheckpointPlan
from .class_weights import set_class_weights
from .compile import CompiledStep
from .divergence import FiniteGuard, recovering
from .group import Alone, Group, Measured, Several, check_alike, meeting
from .latent_use import latent_use_of, say_collapse
from .loop import Hooks, Loop
from .optimizer import OptimizerLike, hurry, make_optimizer, weight_matrices
from .outside import by_two_rows
from .plan import Batch, Batches, Plan
from .precision import mixed_networks
from .progress import Callbacks, Row
from .schedule import LearningRate
from .settings import FitSettings
from .state import TrainingState
from .step import Gradients, Step, eager_step
from .validation import Validation

if TYPE_CHECKING:
    from lightning.fabric import Fabric


@dataclass(frozen=True)
class Job:
    """What every process of a training needs to know, beside the points and labels."""

    pair: nn.Module
    settings: FitSettings
    plan: Plan
    loss: ELBO | None
    optimizer: OptimizerLike | None
    validation: Validation | None
    checkpoints: CheckpointPlan
    resume: bool


class Training:
    """A training, ready to run.

    :param x, y: on the device.
    """

    def __init__(self, job: Job, x: Points, y: Tensor, fabric: Fabric, callbacks: Callbacks) -> None:
        self.job, self.x, self.y, self.fabric, self.callbacks = job, x, y, fabric, callbacks
        self.rank, self.size, self.device = fabric.global_rank, fabric.world_size, fabric.device
        needed = 2 if mixes_rows(job.pair) else 1
        if self.size > 1 and job.plan.rows < needed * self.size:
            raise InputError(
                f"devices: {self.size} processes share batches of {job.plan.rows} rows; each needs {needed} at least"
            )
        self.objective = Step(job.pair, job.loss)
        outside, self.free, self.has_head, weighed = by_two_rows(self.objective, x, y, self.device)
        self.objective.n = job.plan.n
        if job.settings.class_weights is not None and not weighed:
            raise InputError("class_weights: they weigh the factor 'head', which the pair as it was rewritten lacks; "
                             "leave the option out")  # fmt: skip
        self.trained = [*(p for p in job.pair.parameters() if p.requires_grad), *outside]
        if not self.trained:
            raise InputError("fit: the model has no parameters to train")
        if self.size > 1:
            check_alike(x, y, job.plan.n, self.device)
            with meeting():
                broadcast(tensors_of(self.objective.parts, self.free))
        s = job.settings
        fast = job.pair.hurried() if isinstance(job.pair, Hurries) else []
        passes = job.plan.steps * job.plan.batch_size / job.plan.n
        matrices = weight_matrices(self.objective)
        self.optimizer = make_optimizer(self.trained, matrices, s, job.optimizer, (fast, hurry(passes)))
        self.forward, self.wrapped = fabric.setup(self.objective.train(), self.optimizer)
        self.rate = LearningRate(self.optimizer)
        self.average = Average(self.objective.parts, self.free, decay=s.average)
        self.latent_use = latent_use_of(self.objective, x, y, s.seed, self.device)
        self.state = self.make_state()
        self.checkpointer = Checkpointer(self.state, job.checkpoints, writes=self.rank == 0)
        self.loop = self.make_loop()

    def run(self) -> None:
        """Train to the end."""
        if self.job.resume:
            self.go_on()
        elif self.size > 1:
            self.checkpointer.write()  # whatever happens, there is something to go on from
        self.loop.run()
        self.checkpointer.write()
        if self.state.patience is not None and self.state.best is not None:
            self.average.load(self.state.best[0])
        if self.rank == 0:
            self.report()

    def go_on(self) -> None:
        """Take over the state of a checkpoint; with other labels, or after the end, begin another cycle."""
        going_on = self.checkpointer.restore()
        if going_on.other_labels:
            self.prepare_anew()
        if going_on.begins:
            self.state.begin_cycle(anew=going_on.other_labels)

    def report(self) -> None:
        """Say on stderr what a person should know of the training: an early stop, a collapse, the pair's remarks."""
        state, pair = self.state, self.job.pair
        if state.best is not None and state.stopped_early:
            at, best = f"epoch {state.epoch} of {self.job.plan.epochs}", state.best[1]["epoch"]
            print(f"fit: no gain since epoch {state.gained[0]}; stopped after {at}, with the weights of epoch "
                  f"{best:.0f}", file=sys.stderr)  # fmt: skip
        if self.latent_use is not None and self.latent_use.units:
            say_collapse(self.measure_latents()["active_units"], self.latent_use.units)
        for line in pair.remarks() if isinstance(pair, Remarks) else ():
            print(f"fit: {line}", file=sys.stderr)

    def prepare_anew(self) -> None:
        """Let the pair take from other labels what is not trained, such as p(y), and its class weights."""
        pair, weights = self.job.pair, self.job.settings.class_weights
        with torch.no_grad():
            before = [value.clone() for value in self.average.current()]
            if isinstance(pair, Prepares):
                pair.prepare(some_of(self.x).to(self.device), self.y)
            if weights is not None:
                set_class_weights(pair, weights, self.y)
            for value, averaged, old in zip(self.average.current(), self.average.values, before):
                if not torch.equal(value, old):  # what was set anew has no past
                    averaged.copy_(value)

    def close(self) -> None:
        """Give the pair the averaged weights, in evaluation mode."""
        self.average.install()
        self.objective.eval()

    def make_state(self) -> TrainingState:
        """Return the state at the beginning."""
        job = self.job
        columns = ["epoch", "loss", "seconds"]
        columns += ["decodes"] * (counted(job.pair) is not None)
        columns += [] if self.latent_use is None else self.latent_use.columns
        columns += [] if job.validation is None else [job.validation.measure]
        columns += ["best_epoch"] * (job.settings.early_stopping is not None)
        written = job.checkpoints.path is not None and self.rank == 0
        return TrainingState(
            self.objective,
            self.free,
            self.optimizer,
            self.average,
            job.plan,
            columns=columns,
            device=self.device,
            keeps_best=written or job.settings.early_stopping is not None,
            patience=job.settings.early_stopping,
            is_main=self.rank == 0,
        )

    def make_loop(self) -> Loop:
        """Return the loop, with every choice made."""
        job, plan, state = self.job, self.job.plan, self.state
        group = self.make_group()
        batches = Batches(self.x, self.y, plan, job.settings.seed, self.device, self.rank, self.size)
        if self.has_head:
            self.objective.tell_added(batches.added_rows)
        guard = FiniteGuard(self.make_gradients(), self.objective, state, shared=self.size > 1)
        validation = job.validation
        return Loop(
            batches=batches,
            state=state,
            group=group,
            guard=guard,
            average=self.average,
            schedule=self.make_schedule(),
            step=self.make_step(guard),
            optimize=self.make_optimize(),
            recovering=partial(
                recovering, state, self.rate.peak, job.settings.batch_size, partial(self.attempt, guard.gradients)
            ),
            hooks=Hooks(
                state=state,
                plan=plan,
                group=group,
                callbacks=self.callbacks,
                checkpointer=self.checkpointer,
                validate=None if validation is None else self.validate,
                measure="" if validation is None else validation.measure,
                measure_latents=self.measure_latents,
                latent_columns=() if self.latent_use is None else self.latent_use.columns,
            ),
        )

    def make_group(self) -> Group:
        """Return this process's place among those that share each batch."""
        if self.size == 1:
            return Alone(self.callbacks.stop_requested)

        def lost() -> str:
            self.checkpointer.write()
            steps = f"{self.state.done} of {self.job.plan.steps} steps"
            return f"another process does not answer after {steps}{self.checkpointer.place}"

        stop, seed = self.callbacks.stop_requested, self.job.settings.seed
        return Several(self.rank, self.size, self.objective, self.trained, seed, stop, lost)

    def make_gradients(self) -> Gradients:
        """Return the function that takes a batch's gradients: captured, or not."""
        s, objective, mixed = self.job.settings, self.objective, self.mixed
        kind = type(objective.elbo).__name__
        if s.precision == "16-mixed" and not objective.differentiable:
            raise InputError(
                f"precision: 16-mixed scales gradients, which {kind} takes itself; bf16-mixed has no need to"
            )
        forward = objective if mixed else self.forward  # Fabric's wrapper would narrow x too
        of_pair = partial(eager_step, objective, forward, self.fabric.backward, self.wrapped.zero_grad)
        gradients = of_pair(lambda: self.state.done % self.job.plan.per_epoch == 0)
        if s.compile is None and s.precision != "16-mixed":  # which scales its gradients
            return CapturedStep(
                objective, programs(objective.module), self.trained, gradients, of_pair(lambda: False), self.steps_left
            )
        if not s.compile:
            return gradients
        if not objective.differentiable:
            print(f"fit: the step cannot be compiled ({kind} takes its gradients itself); it runs uncompiled",
                  file=sys.stderr)  # fmt: skip
            return gradients
        return CompiledStep(objective, self.trained, gradients, nullcontext if mixed else self.fabric.autocast)

    def steps_left(self) -> int:
        """Return how many steps the training still takes."""
        return self.job.plan.steps - self.state.done

    @property
    def mixed(self) -> bool:
        """Whether networks run in 16 bits."""
        return self.job.settings.precision.endswith("mixed")

    def make_step(self, guard: FiniteGuard) -> Callable[[Batch], Measured]:
        """Return the function that changes a batch at random and takes its gradients.

        A pair that generates is trained to generate the data as they are: its guide alone sees changed points.
        """
        pair = self.job.pair
        chosen = automatic(pair) if self.job.settings.augment == "auto" else self.job.settings.augment
        augment = make_augmentation(chosen, cast(Tensor, self.x))  # of which it takes some rows
        if isinstance(pair, Generates) and chosen not in OF_DATA:
            self.objective.augment, augment = None if chosen == "none" else mostly(augment), unchanged
        autocast, outside = self.fabric.autocast, self.objective.outside

        def networks() -> AbstractContextManager[None]:
            return mixed_networks(pair, autocast, outside) if self.mixed else nullcontext()

        def step(batch: Batch) -> Measured:
            with networks():
                loss = guard(augment(unit_scale(batch.x)), batch.y)
            return Measured(loss, counted(pair))

        return step

    def make_schedule(self) -> Callable[[], None]:
        """Return the function that sets the learning rate, and what else changes with the progress."""
        state, steps, pair = self.state, self.job.plan.steps, self.job.pair
        scheduled = pair if isinstance(pair, Schedules) else None

        def schedule() -> None:
            done, length = state.done - state.begun, steps - state.begun
            self.rate.set(done, length, state.rate_scale)
            if scheduled is not None:
                scheduled.set_progress(1.0 if state.warm else done / length)

        return schedule

    def make_optimize(self) -> Callable[[], object]:
        """Return the function that takes a step of the optimiser, with gradients clipped by ``clip_norm``."""
        most = self.job.settings.clip_norm
        if most is None:
            return self.wrapped.step

        def optimize() -> None:
            self.fabric.clip_gradients(self.forward, self.wrapped, max_norm=most, error_if_nonfinite=False)
            self.wrapped.step()

        return optimize

    def attempt(self, gradients: Gradients, n: int) -> None:
        """Take the gradients of a batch of ``n`` rows."""
        rows = torch.arange((n + self.job.plan.extra) // self.size) % self.job.plan.n
        gradients(unit_scale(self.x[rows]).to(self.device), self.y[rows.to(self.y.device)].long())

    def validate(self) -> float:
        """Return the validation's measure of the averages, what grows in training whole; the first process's counts."""
        assert self.job.validation is not None
        if self.rank > 0:
            return 0.0
        with self.average.installed():
            if isinstance(self.job.pair, Schedules):  # the next step sets it anew
                self.job.pair.set_progress(1.0)
            return self.job.validation(self.objective, self.job.settings.seed, self.device)

    def measure_latents(self) -> Row:
        """Return how much the averages use the latents; the first process's numbers count."""
        assert self.latent_use is not None
        if self.rank > 0:
            return dict.fromkeys(self.latent_use.columns, 0.0)
        with self.average.installed():
            return self.latent_use(self.objective)


def counted(pair: nn.Module) -> Tensor | None:
    """Return how many decodes a point the latest batch took, where the pair counts them."""
    return pair.count_decodes() if isinstance(pair, CountsDecodes) else None
