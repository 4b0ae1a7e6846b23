"""The training loop: one mixed batch of labelled and unlabelled rows a step, one objective, one optimiser.

``fit`` trains any module with ``model(x, y)`` and ``guide(x, y)``: the library's, or one edited in a notebook.
"""

from __future__ import annotations

import copy
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyro
import torch
import tyro
from lightning.fabric import Fabric
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from .augment import make_augmentation, unit_scale
from .compiled import CompiledStep
from .errors import InputError, nearest
from .labels import MISSING
from .training_state import History, TrainingState

# Steps of a training whose number of epochs nobody gave, for points of at most so many numbers each.
STEPS = ((256, 1500), (4096, 2000), (math.inf, 1000))


class Interrupted(Exception):  # noqa: N818
    """Training was asked to stop, and has written its state to a checkpoint."""


@dataclass(frozen=True)
class FitSettings:
    """How to train."""

    epochs: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Passes over the data; by default as many as make 1,000 to 2,000 steps, depending on the points' size."""
    batch_size: int = 256
    """Rows a step, drawn from all rows."""
    labelled_rows: int = 64
    """Rows with a label that are added to each batch, where labels are too rare to be in it anyway."""
    learning_rate: float = 2e-3
    """Peak of a schedule that rises over the first tenth of the steps and falls to zero as a cosine (AdamW)."""
    weight_decay: float = 1e-4
    """AdamW's decay of weight matrices."""
    average: float = 0.99
    """Decay of the moving average of the weights, which is what a trained model has; 0 keeps the last weights."""
    augment: str = "auto"
    """Random changes of each batch: none, affine, affine+flip (images), noise; auto chooses by data and model."""
    seed: int = 0
    """Of the order of rows, the weights' noise and the augmentation."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or mps."""
    precision: str = "32-true"
    """Of the numbers, as Lightning Fabric names them: 32-true or 64-true."""
    compile: bool = False
    """Compile the training step: 10 to 30 seconds at the start, faster steps from then on; for long trainings."""


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
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    **settings: Any,
) -> History:
    """Train a model in place and return its history: one entry an epoch in each column.

    Columns: ``epoch``, ``loss`` (nats a row), ``seconds``; where the model counts them (``class_input="sparse"``),
    ``decodes`` (decodes a point); and, where ``validation`` is given, ``validation_accuracy`` (NaN in epochs without).

    :param model: a module with ``model(x, y)`` and ``guide(x, y)``; ``objective()``, ``prepare(x, y)`` and
        ``anneal(progress)`` are used where it has them.
    :param x: points ``[N, ...]`` (tensor or array; uint8 pixels are scaled to [0, 1]), or a ``ps.data`` data set.
    :param y: labels, -1 where missing; None for none.
    :param validation: ``(x, y)`` to show an accuracy of while training. Nothing is chosen by it.
    :param progress: show a progress bar.
    :param checkpoint: a file that the training's state is written to: every ``checkpoint_every`` seconds, at the end,
        and when stopped by SIGINT or SIGTERM.
    :param resume: go on from that file.
    :param on_epoch: called with each epoch's row of the history.
    :param settings: fields of :class:`FitSettings`.
    :raises InputError: data or settings that cannot be used, in one line.
    :raises Interrupted: after a signal, once the checkpoint is written.
    """
    if hasattr(x, "x") and hasattr(x, "y"):
        x, y = x.x, x.y if y is None else y
    s = make_settings(settings)
    x, y = check_data(model, x, y)
    fabric = make_fabric(s)
    pyro.set_rng_seed(s.seed)
    model.to(fabric.device)
    x, y = x.to(fabric.device), y.to(fabric.device)
    if hasattr(model, "prepare") and not resume:
        model.prepare(x, y)  # type: ignore[operator]
    augment = make_augmentation(getattr(model, "augmentation", "auto") if s.augment == "auto" else s.augment, x)

    known = (y != MISSING).reshape(len(y), -1).any(1).nonzero().squeeze(-1).cpu()
    batch_size = min(s.batch_size, len(x))
    extra = s.labelled_rows if 0 < len(known) * (batch_size + s.labelled_rows) < s.labelled_rows * len(x) else 0
    per_epoch = len(x) // batch_size
    enough = next(steps for most, steps in STEPS if x[0].numel() <= most)
    epochs = s.epochs if s.epochs is not None else max(1, math.ceil(enough / per_epoch))
    steps = epochs * per_epoch

    # Parameters of pyro.module and pyro.param are kept apart from the caller's for the time of the training.
    store = pyro.get_param_store()
    measured = ["decodes"] * hasattr(model, "decodes") + ["validation_accuracy"] * (validation is not None)
    with store.scope(store.get_state()) as apart:
        objective = Step(model)
        free = parameters_outside(objective, unit_scale(x[:2]), y[:2])
        trained = [p for p in [*model.parameters(), *free] if p.requires_grad]
        optimizer = make_optimizer(trained, s)
        step, wrapped = fabric.setup(objective.train(), optimizer)

        def gradients(x: Tensor, y: Tensor) -> Tensor:
            wrapped.zero_grad()
            loss: Tensor = step(x, y)
            fabric.backward(loss)
            return loss.detach()

        if s.compile:
            gradients = CompiledStep(objective, trained, gradients, fabric.autocast)
        averaged = copy.deepcopy(model)
        averages, update = values(averaged), moving_average(s.average)
        state = TrainingState(
            {"model": model, "averaged": averaged},
            free,
            optimizer,
            columns=["epoch", "loss", "seconds", *measured],
            path=Path(checkpoint) if checkpoint is not None else None,
            about={"settings": asdict(s), "rows": len(x), "steps": steps},
            device=fabric.device,
        )
        if resume:
            state.restore()
        with progress_bar(steps, progress) as show, stop_requests(checkpoint is not None) as asked:
            while state.done < steps:
                epoch, first = divmod(state.done, per_epoch)
                for rows in batches(len(x), known, batch_size, extra, s.seed, epoch)[first:]:
                    rows = rows.to(fabric.device)
                    for group in optimizer.param_groups:
                        group["lr"] = s.learning_rate * one_cycle(state.done / steps, 1 / steps)
                    if hasattr(model, "anneal"):
                        model.anneal(state.done / steps)  # type: ignore[operator]
                    with divergence(s, state.done, epoch):
                        loss = gradients(augment(unit_scale(x[rows])), y[rows])
                    wrapped.step()
                    update(averages, values(model), state.done)
                    state.count(loss / len(rows), getattr(model, "decodes", None))
                    if state.done % per_epoch == 0:
                        row = state.end_epoch(per_epoch)
                        if not math.isfinite(row["loss"]):
                            raise diverged(s, epoch)
                        if validation is not None:
                            due = (epoch + 1) % max(1, epochs // 40) == 0 or epoch + 1 == epochs
                            row["validation_accuracy"] = accuracy(averaged, *validation) if due else math.nan
                        state.record(row)
                        if on_epoch is not None:
                            on_epoch(row)
                    show(state.done, f"epoch {epoch + 1}/{epochs}{state.summary()}")
                    if asked():
                        state.write()
                        raise Interrupted(f"stopped after {state.done} of {steps} steps; the state is in {checkpoint}")
                    state.write_every(checkpoint_every)
            state.write()
        if s.average:
            model.load_state_dict(averaged.state_dict())
    if hasattr(model, "anneal"):
        model.anneal(1.0)  # type: ignore[operator]
    hand_over(free, apart)
    model.eval()
    return state.history


def make_settings(given: dict[str, Any]) -> FitSettings:
    """The settings of the given fields, checked."""
    names = [field.name for field in fields(FitSettings)]
    for name in given:
        if name not in names:
            raise InputError(f"fit: there is no setting {name!r}{nearest(name, names)}")
    s = FitSettings(**given)
    check_settings(s)
    return s


def make_fabric(s: FitSettings) -> Fabric:
    """The device and the precision."""
    try:
        return Fabric(accelerator=s.device, devices=1, precision=s.precision)  # type: ignore[arg-type]
    except Exception as error:
        raise InputError(f"device {s.device!r}, precision {s.precision!r}: {str(error).splitlines()[0]}") from None


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


def hand_over(parameters: list[Tensor], apart: Any) -> None:
    """Put these parameters, and no others, from the state of a parameter store into Pyro's own."""
    store = pyro.get_param_store()
    state = store.get_state()
    for name, value in apart["params"].items():
        if any(value is p for p in parameters):
            state["params"][name], state["constraints"][name] = value, apart["constraints"][name]
    store.set_state(state)


def make_optimizer(parameters: list[Tensor], s: FitSettings) -> torch.optim.AdamW:
    """AdamW; weight matrices decay, biases and scales don't."""
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": s.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=s.learning_rate, betas=(0.9, 0.99), fused=True)


@contextmanager
def divergence(s: FitSettings, done: int, epoch: int) -> Iterator[None]:
    """Name the cause where, after some steps, a distribution refuses parameters that are not finite or positive."""
    try:
        yield
    except ValueError as error:
        if done == 0 or "constraint" not in str(error):
            raise
        raise diverged(s, epoch) from None


def diverged(s: FitSettings, epoch: int) -> InputError:
    """The end of a training whose numbers are no longer finite."""
    return InputError(
        f"training: the loss is not finite in epoch {epoch + 1}; "
        f"a learning rate below {s.learning_rate:g} or data on a smaller scale would help"
    )


@contextmanager
def progress_bar(steps: int, visible: bool) -> Iterator[Callable[[int, str], None]]:
    """Give a function that shows the steps done and a few words."""
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(),
        disable=not visible,
    )
    task = bar.add_task("training", total=steps, words="")
    with bar:
        yield lambda done, words: bar.update(task, completed=done, words=words)


def batches(n: int, known: Tensor, batch_size: int, extra: int, seed: int, epoch: int) -> list[Tensor]:
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
    return list(rows)


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
    return [*module.parameters(), *module.buffers()]


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of known labels that the model predicts; NaN for a model that predicts none."""
    if not hasattr(model, "predict"):
        return math.nan
    known = y != MISSING
    right = model.predict(x).cpu() == y  # type: ignore[operator]
    return float(right[known].double().mean()) if known.any() else math.nan


@contextmanager
def stop_requests(listen: bool) -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a question to ask between two steps; a second SIGINT stops at once."""
    asked: list[int] = []
    if not listen:
        yield lambda: False
        return

    def note(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, where Python takes no signals
        before = {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_data(model: nn.Module, x: Any, y: Any, least: int = 2) -> tuple[Tensor, Tensor]:
    """Return ``x`` and ``y`` as tensors, or raise :class:`InputError` naming the first row that cannot be used."""
    x = numbers(x, "x")
    if x.dim() < 2 or len(x) < least:
        raise InputError(f"x: shape {list(x.shape)}; at least {least} points are needed, [N, ...]")
    if x.dtype != torch.uint8:
        x = x.to(torch.get_default_dtype())
        bad = ~torch.isfinite(x).reshape(len(x), -1).all(1)
        if bad.any():
            raise InputError(f"x: row {int(bad.nonzero()[0])} has a NaN or infinite value; {int(bad.sum())} rows have")
    shape = getattr(model, "input_shape", None)
    if shape is not None and tuple(x.shape[1:]) != tuple(shape):
        raise InputError(f"x: shape {list(x.shape)}; this model needs [N, {', '.join(map(str, shape))}]")
    y = None if y is None else numbers(y, "y")
    labels = getattr(model, "labels", None)
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


def check_settings(s: FitSettings) -> None:
    """Raise :class:`InputError` naming the setting that cannot be used."""
    for name, low, high in (
        ("epochs", 1, 10**9),
        ("batch_size", 2, 10**9),
        ("labelled_rows", 0, 10**6),
        ("seed", 0, 2**32 - 1),
    ):
        value = getattr(s, name)
        if value is None and name == "epochs":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError(f"{name}: {value!r}; a whole number from {low} to {high} is needed")
    if s.precision not in ("32-true", "64-true"):
        raise InputError(f"precision: {s.precision!r}; 32-true or 64-true is needed")
    for name, fine, what in (
        ("learning_rate", lambda v: 0 < v < 10, "above 0 and below 10"),
        ("weight_decay", lambda v: 0 <= v < 10, "from 0 to below 10"),
        ("average", lambda v: 0 <= v < 1, "from 0 to below 1"),
    ):
        value = getattr(s, name)
        if not isinstance(value, (int, float)) or not fine(value):
            raise InputError(f"{name}: {value!r} is out of range; a number {what} is needed")
