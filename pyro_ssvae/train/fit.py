"""The training loop: one mixed batch of labelled and unlabelled rows a step, one objective, one optimiser.

``fit`` trains any module with ``model(x, y)`` and ``guide(x, y)``: the library's, or one edited in a notebook.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyro
import torch
from lightning.fabric import Fabric
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

from ..data.augment import make_augmentation, unit_scale
from ..data.dataset import digest
from ..data.inputs import check_data
from ..data.streaming import Streamed, batches_of
from ..distributed import copy_first, seed_step, shared_batch, sum_gradients
from ..errors import InputError
from ..labels import MISSING
from .branchless import branchless
from .checkpoints import check_checkpoints
from .compile import CompiledStep
from .divergence import Watch, recovering
from .launch import Lost, by_torchrun, check_alike, is_lost, join, make_fabric, no_look_for_gpus, run_workers
from .precision import mixed_networks
from .progress import Interrupted, progress_bar, stop_requests
from .schedule import batches, lister, make_optimizer, moving_average, one_cycle, values
from .settings import FitSettings, check_settings, make_settings
from .state import History, TrainingState

__all__ = ["FitSettings", "History", "Interrupted", "Step", "check_settings", "fit", "make_fabric"]

# Steps of a training whose number of epochs nobody gave, for points of at most so many numbers each.
STEPS = ((256, 1500), (4096, 2000), (math.inf, 1000))


class Step(nn.Module):
    """The objective of a batch as a module's ``forward``, which is what Fabric wraps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = model
        self.elbo: Any = (
            model.objective()  # type: ignore[operator]
            if hasattr(model, "objective")
            else TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)
        )

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The loss ``SVI.step`` would differentiate: nats, summed over the batch."""
        loss: Tensor = self.elbo.differentiable_loss(self.module.model, self.module.guide, x, y)
        return loss


def fit(
    model: nn.Module,
    x: Any,
    y: Any = None,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    checkpoint_every: float = 60.0,
    checkpoint_epochs: int | None = None,
    keep_checkpoints: int = 2,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    **settings: Any,
) -> History:
    """Train a model in place and return its history: one entry an epoch in each column.

    Columns: ``epoch``, ``loss`` (nats a row), ``seconds``; where the model counts them (``class_input="sparse"``),
    ``decodes`` (decodes a point); and, where ``validation`` is given, ``validation_accuracy`` (NaN in epochs without).

    :param model: a module with ``model(x, y)`` and ``guide(x, y)``; ``objective()``, ``prepare(x, y)`` and
        ``anneal(progress)`` are used where it has them.
    :param x: points ``[N, ...]`` (tensor or array; uint8 pixels are scaled to [0, 1]), or a ``ps.data`` data set. Or
        points in files, which above 1 GB stay there and are read batch by batch: ``np.memmap``, the path of a .npy or
        .npz file, or of a folder of images with ``labels.csv``. ``prepare`` then gets a random sample of them.
    :param y: labels, -1 where missing; None for none.
    :param validation: ``(x, y)`` to show an accuracy of while training. Nothing is chosen by it.
    :param progress: show a progress bar.
    :param checkpoint: a file that the training's state is written to: every ``checkpoint_every`` seconds, at the end of
        every ``checkpoint_epochs`` epochs, at the end, and when stopped by SIGINT or SIGTERM. Beside it
        (:mod:`~pyro_ssvae.train.checkpoints`) lie the latest ``keep_checkpoints - 1`` before it and the weights of the best epoch,
        by ``validation_accuracy`` or, without, by ``loss``.
    :param resume: go on from that file, or from the one before it where it is damaged.
    :param on_epoch: called with each epoch's row of the history.
    :param settings: fields of :class:`FitSettings`. With ``devices`` or ``num_nodes`` above 1, every batch is shared by
        processes, which are started for the purpose and get the model by value; under ``torchrun`` it is shared by
        those that run already. ``prepare``, ``on_epoch`` and the model's end are the caller's own.
    :raises InputError: data or settings that cannot be used, in one line.
    :raises Interrupted: after a signal, once the checkpoint is written; as :class:`~pyro_ssvae.train.launch.Lost` after
        the loss of a process.
    """
    if hasattr(x, "x") and hasattr(x, "y"):
        x, y = x.x, x.y if y is None else y
    s = make_settings(settings)
    x, y = check_data(model, x, y)
    plan = make_plan(x, y, s)
    options: dict[str, Any] = {"validation": validation, "checkpoint": None if checkpoint is None else Path(checkpoint)}
    check_checkpoints(checkpoint_every, checkpoint_epochs, keep_checkpoints)
    options |= {"resume": resume, "every": (checkpoint_every, checkpoint_epochs), "keep": keep_checkpoints}
    seen = x.sample(2_000_000) if isinstance(x, Streamed) else x
    options |= {"data": None if checkpoint is None else digest(seen, y)}
    several = ((s.devices or 1) > 1 or s.num_nodes > 1) and not by_torchrun(s)
    fabric = None if several else join(s)
    pyro.set_rng_seed(s.seed)
    if fabric is not None:
        model.to(fabric.device)
        x, y = x.to(fabric.device), y.to(fabric.device)
    if hasattr(model, "prepare") and not resume:
        model.prepare(x.sample().to(y.device) if isinstance(x, Streamed) else x, y)  # type: ignore[operator]
    visible = progress and (fabric is None or fabric.is_global_zero)
    with progress_bar(plan.steps, visible) as show, stop_requests(checkpoint is not None) as asked:
        watching: dict[str, Any] = {"show": show, "asked": asked, "on_epoch": on_epoch}
        if fabric is not None:
            history, outside = train(model, x, y, s, plan, fabric, **options, **watching)
        else:
            store = pyro.get_param_store()
            with store.scope(store.get_state()):
                parameters_outside(Step(model), unit_scale(x[:2]), y[:2])  # some come into being at the first call
                work = {"model": model, "s": s, "plan": plan, "stored": store.get_state(), **options}
            history, outside, trained = run_workers(s, train_in_worker, x, y, work, **watching)
            with torch.no_grad():
                for mine, theirs in zip(values(model), trained, strict=True):
                    mine.copy_(theirs)
    if hasattr(model, "anneal"):
        model.anneal(1.0)  # type: ignore[operator]
    hand_over(outside)
    model.eval()
    return history


@dataclass(frozen=True)
class Plan:
    """How many steps a training takes, and of which rows.

    :ivar known: the rows with a label.
    :ivar batch_size: rows of all that a step takes, in all processes together.
    :ivar extra: known rows that are added to them.
    """

    n: int
    known: Tensor
    batch_size: int
    extra: int
    per_epoch: int
    epochs: int

    @property
    def steps(self) -> int:
        return self.epochs * self.per_epoch


def make_plan(x: Any, y: Tensor, s: FitSettings) -> Plan:
    """The plan for these points and labels."""
    known = (y != MISSING).reshape(len(y), -1).any(1).nonzero().squeeze(-1).cpu()
    batch_size = min(s.batch_size, len(x))
    extra = s.labelled_rows if 0 < len(known) * (batch_size + s.labelled_rows) < s.labelled_rows * len(x) else 0
    per_epoch = len(x) // batch_size
    enough = next(steps for most, steps in STEPS if math.prod(x.shape[1:]) <= most)
    epochs = s.epochs if s.epochs is not None else max(1, math.ceil(enough / per_epoch))
    return Plan(len(x), known, batch_size, extra, per_epoch, epochs)


def train_in_worker(
    x: Any, y: Tensor, *, model: nn.Module, s: FitSettings, plan: Plan, stored: Any, **options: Any
) -> tuple[History, Any, list[Tensor]]:
    """:func:`train` in a process that was started for it; also returns the model's parameters and buffers."""
    fabric = join(s)
    pyro.get_param_store().set_state(stored)
    pyro.set_rng_seed(s.seed)
    model.to(fabric.device)
    history, outside = train(model, x.to(fabric.device), y.to(fabric.device), s, plan, fabric, **options)
    return history, outside, [value.detach().cpu() for value in values(model)]


def train(
    model: nn.Module,
    x: Any,
    y: Tensor,
    s: FitSettings,
    plan: Plan,
    fabric: Fabric,
    *,
    validation: tuple[Tensor, Tensor] | None,
    checkpoint: Path | None,
    resume: bool,
    every: tuple[float, int | None],
    keep: int,
    data: str | None,
    show: Callable[[int, str], None],
    asked: Callable[[], bool],
    on_epoch: Callable[[dict[str, float]], None] | None,
) -> tuple[History, Any]:
    """The loop, in one process or in each of several, which take every so-manieth row of a batch.

    :returns: the history, and the state of Pyro's parameter store as far as it was trained.
    """
    rank, shared, mixed = fabric.global_rank, fabric.world_size > 1, s.precision.endswith("mixed")
    augment = make_augmentation(getattr(model, "augmentation", "auto") if s.augment == "auto" else s.augment, x)
    # Parameters of pyro.module and pyro.param are kept apart from the caller's for the time of the training.
    store = pyro.get_param_store()
    measured = ["decodes"] * hasattr(model, "decodes") + ["validation_accuracy"] * (validation is not None)
    with store.scope(store.get_state()) as apart, no_look_for_gpus():
        objective = Step(model)
        free = parameters_outside(objective, unit_scale(x[:2]).to(fabric.device), y[:2])
        trained = [p for p in [*model.parameters(), *free] if p.requires_grad]
        if shared:
            check_alike(y, plan.n, fabric.device)
            copy_first([*values(model), *free])
        optimizer = make_optimizer(trained, s)
        step, wrapped = fabric.setup(objective.train(), optimizer)

        def gradients(x: Tensor, y: Tensor) -> Tensor:
            wrapped.zero_grad()
            # Pyro checks an epoch's first step; a look at numbers in each would make a GPU wait.
            with branchless() if state.done % plan.per_epoch else nullcontext():
                loss: Tensor = objective(x, y) if mixed else step(x, y)  # Fabric's wrapper would narrow x too
                fabric.backward(loss)
            return loss.detach()

        if s.compile:
            gradients = CompiledStep(objective, trained, gradients, nullcontext if mixed else fabric.autocast)
        averaged = copy.deepcopy(model)
        averages, current, update = values(averaged), lister(model), moving_average(s.average)
        about = {name: value for name, value in asdict(s).items() if name not in ("devices", "num_nodes")}
        state = TrainingState(
            {"model": model, "averaged": averaged},
            free,
            optimizer,
            columns=["epoch", "loss", "seconds", *measured],
            steps=plan.steps,
            per_epoch=plan.per_epoch,
            rows=plan.batch_size + plan.extra,
            path=checkpoint,
            about={"settings": about, "rows": plan.n, "steps": plan.steps, "data": data},
            device=fabric.device,
            every=every,
            keep=keep,
            writes=rank == 0,
        )
        watch = Watch(gradients, objective, state, shared)

        def attempt(n: int) -> None:
            rows = torch.arange((n + plan.extra) // fabric.world_size) % plan.n
            gradients(unit_scale(x[rows]).to(fabric.device), y[rows.to(y.device)])

        if resume:
            state.restore()
        elif shared:
            state.write()  # whatever happens, there is something to go on from
        shown = -math.inf
        while state.done < plan.steps:
            epoch, first = divmod(state.done, plan.per_epoch)
            order = batches(plan.n, plan.known, plan.batch_size, plan.extra, s.seed, epoch)[first:]
            with recovering(state, s, attempt):
                order = order[:, rank :: fabric.world_size].to(fabric.device)
                for rows, points in zip(order, batches_of(x, order, fabric.device)):
                    for group in optimizer.param_groups:
                        group["lr"] = (
                            state.slower * s.learning_rate * one_cycle(state.done / plan.steps, 1 / plan.steps)
                        )
                    if hasattr(model, "anneal"):
                        model.anneal(state.done / plan.steps)  # type: ignore[operator]
                    if shared:
                        seed_step(s.seed, rank, state.done)
                    before = [buffer.clone() for buffer in model.buffers()] if shared else []
                    stop = shared and asked()
                    try:
                        with (
                            shared_batch() if shared else nullcontext(),
                            mixed_networks(model, fabric.autocast) if mixed else nullcontext(),
                        ):
                            loss = watch(augment(unit_scale(points)), y[rows])
                            decodes = getattr(model, "decodes", None)
                            if shared:
                                loss, decodes, stop = sum_up(trained, loss, decodes, len(rows), stop, state.done)
                    except RuntimeError as error:
                        if not (shared and is_lost(error)):
                            raise
                        for buffer, value in zip(model.buffers(), before):
                            buffer.copy_(value)
                        state.write()
                        where = "" if checkpoint is None else f"; the state is in {checkpoint}"
                        raise Lost(
                            f"another process does not answer after {state.done} of {plan.steps} steps{where}"
                        ) from error
                    watch.check(loss)
                    wrapped.step()
                    update(averages, current(), state.done)
                    state.count(loss, decodes)
                    if state.done % plan.per_epoch == 0:
                        row = state.end_epoch()
                        if validation is not None:
                            due = (epoch + 1) % max(1, plan.epochs // 40) == 0 or epoch + 1 == plan.epochs
                            row["validation_accuracy"] = (
                                accuracy(averaged, *validation) if due and rank == 0 else math.nan
                            )
                        state.record(row)
                        if on_epoch is not None and rank == 0:
                            on_epoch(row)
                    if time.monotonic() - shown > 0.1 or state.done == plan.steps:
                        shown = time.monotonic()
                        show(state.done, f"epoch {epoch + 1}/{plan.epochs}{state.summary()}")
                    if stop or (not shared and asked()):
                        state.write()
                        raise Interrupted(
                            f"stopped after {state.done} of {plan.steps} steps; the state is in {checkpoint}"
                        )
                    state.write_when_due()
        state.write()
        if s.average:
            model.load_state_dict(averaged.state_dict())
    kept = {name: p for name, p in apart["params"].items() if any(p is one for one in free)}
    return state.history, {"params": kept, "constraints": {name: apart["constraints"][name] for name in kept}}


def sum_up(
    trained: list[Tensor], loss: Tensor, decodes: Tensor | None, rows: int, stop: bool, done: int
) -> tuple[Tensor, Tensor | None, bool]:
    """Sum gradients and loss over the processes; join the decodes a row, and whether anyone asks to stop."""
    mean = loss.new_zeros(()) if decodes is None else decodes.to(loss)
    own = torch.stack([loss, mean * rows, *loss.new_tensor([rows, stop]).unbind()])
    loss, decoded, rows_, stops = sum_gradients(trained, own).unbind()
    look = loss.device.type == "cpu" or done % 8 == 0  # a look at a GPU's number waits for it
    return loss, None if decodes is None else decoded / rows_, look and bool(stops > 0)


def parameters_outside(objective: Step, x: Tensor, y: Tensor) -> list[Tensor]:
    """The parameters that a run of the objective uses and its module does not hold: those of ``pyro.param``.

    The run is one in evaluation mode, and the random numbers it takes are put back.
    """
    rng = torch.get_rng_state()
    try:
        with poutine.trace(param_only=True) as capture:
            objective.eval()(x, y)
    except ValueError as error:
        if "cannot be differentiated" in str(error):
            raise InputError("fit: the model has no parameters to train") from None
        raise
    torch.set_rng_state(rng)
    held = {id(p) for p in objective.parameters()}
    nodes: Any = capture.trace.nodes
    used = [site["value"].unconstrained() for site in nodes.values() if site["type"] == "param"]
    return [p for p in used if id(p) not in held and p.requires_grad]


def hand_over(outside: Any) -> None:
    """Put these parameters, and no others, into Pyro's own store."""
    store = pyro.get_param_store()
    state = store.get_state()
    for kind in ("params", "constraints"):
        state[kind].update(outside[kind])
    store.set_state(state)


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of known labels that the model predicts; NaN for a model that predicts none."""
    if not hasattr(model, "predict"):
        return math.nan
    known = y != MISSING
    right = model.predict(x).cpu() == y  # type: ignore[operator]
    return float(right[known].double().mean()) if known.any() else math.nan
