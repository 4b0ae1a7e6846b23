"""How a training runs: in this process, or in several that are started for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pyro
import torch
from pyro.params.param_store import StateDict
from torch import Tensor

from ..data.augment import unit_scale
from ..data.pair_order import Points
from ..data.random_rows import some_of
from ..infer.protocols import Prepares, WeighsClasses
from .allocator import keep_freed_memory
from .average import tensors_of
from .class_weights import set_class_weights
from .launch import join, no_look_for_gpus
from .outside import find_outside, store_apart
from .progress import Callbacks
from .random_state import put_back
from .state import History
from .step import Step
from .training import Job, Training
from .workers import run_workers


def prepare(job: Job, x: Points, y: Tensor) -> None:
    """Let the pair take from the data what is not trained, and its class weights."""
    pyro.set_rng_seed(job.settings.seed)
    pair, weights = job.pair, job.settings.class_weights
    if isinstance(pair, Prepares):  # of a run that goes on too: what it keeps in Python is in no checkpoint
        pair.prepare(some_of(x).to(y.device), y)
    if weights is not None:
        set_class_weights(pair, weights, y)


@contextmanager
def prepared(job: Job, x: Points, y: Tensor) -> Iterator[None]:
    """:func:`prepare` the pair; in the end its classes count alike again, as another training has its own weights, and
    random numbers are as they were found."""
    with put_back(y.device):
        prepare(job, x, y)
        try:
            yield
        finally:
            if job.settings.class_weights is not None and isinstance(job.pair, WeighsClasses):
                job.pair.set_class_weights(None)


def train_here(job: Job, x: Points, y: Tensor, callbacks: Callbacks) -> History:
    """Train in this process; return the history."""
    fabric = join(job.settings)
    job.pair.to(fabric.device)
    x, y = x.to(fabric.device), y.to(fabric.device)
    with prepared(job, x, y), store_apart(job.pair):
        return train(Training(job, x, y, fabric, callbacks))


def train(training: Training) -> History:
    """Run a training and return its history; an error has it as an attribute."""
    if training.fabric.device.type == "cpu":
        keep_freed_memory()
    try:
        with no_look_for_gpus():
            training.run()
    except BaseException as error:
        error.history = training.state.history  # type: ignore[attr-defined]
        raise
    finally:
        training.close()
    return training.state.history


def train_in_processes(job: Job, x: Points, y: Tensor, callbacks: Callbacks) -> History:
    """Train in processes that are started for it; return the history."""
    history: History = {}
    with prepared(job, x, y), store_apart(job.pair):
        objective = Step(job.pair, job.loss)
        free = find_outside(objective, unit_scale(x[:2]), y[:2].long()).free  # some come into being at the first call
        mine = tensors_of(objective.parts, free)

        def take(result: object) -> None:
            columns, values = cast(tuple[History, list[Tensor]], result)
            history.update(columns)
            with torch.no_grad():
                for own, trained in zip(mine, values, strict=True):
                    own.copy_(trained)

        work = {"job": job, "stored": pyro.get_param_store().get_state()}
        try:
            run_workers(job.settings, train_in_worker, x, y, work, callbacks=callbacks, take=take)
        except BaseException as error:
            error.history = history  # type: ignore[attr-defined]
            raise
        finally:
            objective.eval()
    return history


def train_in_worker(
    x: Points, y: Tensor, *, job: Job, stored: StateDict, callbacks: Callbacks, take: Callable[[object], None]
) -> None:
    """Train in a process that was started for it, and give the history and the trained values, errors included."""
    fabric = join(job.settings)
    pyro.get_param_store().set_state(stored)
    pyro.set_rng_seed(job.settings.seed)
    job.pair.to(fabric.device)
    training = Training(job, x.to(fabric.device), y.to(fabric.device), fabric, callbacks)
    try:
        train(training)
    finally:
        values = [value.detach().cpu() for value in training.average.current()]
        take((training.state.history, values))
