"""The training loop: one mixed batch of labelled and unlabelled rows a step, one objective, one optimiser.

``fit`` trains any module with ``model(x, y)`` and ``guide(x, y)``: the library's, or one edited in a notebook.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from lightning.fabric import Fabric
from pyro import poutine
from pyro.infer import ELBO, TraceEnum_ELBO
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .augment import make_augmentation
from .checkpoint import load_state, optimizer_tensors, restore_optimizer, save_state
from .errors import InputError
from .labels import MISSING

STEPS = 2000  # of a training whose number of epochs nobody gave
History = dict[str, list[float]]


class Interrupted(Exception):
    """Training was asked to stop, and has written its state to a checkpoint."""


@dataclass(frozen=True)
class FitSettings:
    """How to train."""

    epochs: int | None = None
    """Passes over the data; by default as many as make about 2,000 steps."""
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
    """Random changes of each batch: none, affine, affine+flip (images), noise; auto chooses by the data's kind."""
    seed: int = 0
    """Of the order of rows, the weights' noise and the augmentation."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or mps."""
    precision: str = "32-true"
    """Lightning Fabric's: 32-true, bf16-mixed, 16-mixed, 64-true."""


class Step(nn.Module):
    """The objective of a batch as a module's ``forward``, which is what Fabric wraps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = model
        self.elbo: ELBO = (
            model.objective()
            if hasattr(model, "objective")
            else TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)
        )

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The loss ``SVI.step`` would differentiate: nats, summed over the batch."""
        return self.elbo.differentiable_loss(self.module.model, self.module.guide, x, y)


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

    Columns: ``epoch``, ``loss`` (nats a row), ``validation_accuracy`` (where given; NaN in epochs without), ``seconds``.

    :param model: a module with ``model(x, y)`` and ``guide(x, y)``; ``objective()``, ``prepare(x, y)`` and
        ``anneal(progress)`` are used where it has them.
    :param x: points ``[N, ...]`` (tensor or array; uint8 pixels are scaled to [0, 1]), or a ``ps.data`` data set.
    :param y: labels, -1 where missing; None for none.
    :param validation: ``(x, y)`` to show an accuracy of while training. Nothing is chosen by it.
    :param progress: show a progress bar.
    :param checkpoint: a file that the training's state is written to, every ``checkpoint_every`` seconds and when
        stopped by SIGINT or SIGTERM.
    :param resume: go on from that file.
    :param on_epoch: called with each epoch's row of the history.
    :param settings: fields of :class:`FitSettings`.
    :raises InputError: data or settings that cannot be used, in one line.
    :raises Interrupted: after a signal, once the checkpoint is written.
    """
    try:
        s = FitSettings(**settings)
    except TypeError as error:
        raise InputError(f"fit: {str(error).split('__init__() ')[-1]}") from None
    if hasattr(x, "x") and hasattr(x, "y"):
        x, y = x.x, x.y if y is None else y
    x, y = check_data(model, x, y)
    check_settings(s)
    accelerator, devices = ("auto", 1) if s.device == "auto" else (s.device, 1)
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, precision=s.precision)  # type: ignore[arg-type]
    except Exception as error:
        raise InputError(f"device {s.device!r}, precision {s.precision!r}: {str(error).splitlines()[0]}") from None
    pyro.set_rng_seed(s.seed)
    model.to(fabric.device)
    model.train()
    x, y = x.to(fabric.device), y.to(fabric.device)
    if hasattr(model, "prepare") and not resume:
        model.prepare(x, y)
    augment = make_augmentation(s.augment, x)

    known = (y != MISSING).reshape(len(y), -1).any(1).nonzero().squeeze(-1).cpu()
    batch_size = min(s.batch_size, len(x))
    extra = s.labelled_rows if 0 < len(known) * (batch_size + s.labelled_rows) < s.labelled_rows * len(x) else 0
    per_epoch = len(x) // batch_size
    epochs = s.epochs if s.epochs is not None else max(1, math.ceil(STEPS / per_epoch))
    steps = epochs * per_epoch

    # Parameters of pyro.module and pyro.param are kept apart from the caller's for the time of the training.
    store = pyro.get_param_store()
    with store.scope(store.get_state()):
        step_module = Step(model)
        with poutine.trace(param_only=True) as capture:
            first = slice(0, min(2, len(x)))
            was, rng = model.training, torch.get_rng_state()
            step_module.eval()(to_unit(x[first]), y[first])
            step_module.train(was)
            torch.set_rng_state(rng)
        ids = {id(p) for p in model.parameters()}
        found = [site["value"].unconstrained() for site in capture.trace.nodes.values() if site["type"] == "param"]
        free = [p for p in found if id(p) not in ids and p.requires_grad]
        trained = [p for p in model.parameters() if p.requires_grad] + free
        if not trained:
            raise InputError("fit: the model has no parameters to train")
        groups = [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": s.weight_decay},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=s.learning_rate, betas=(0.9, 0.99), foreach=True)
        averaged = AveragedModel(model, multi_avg_fn=moving_average(s.average), use_buffers=True)
        step, wrapped = fabric.setup(step_module, optimizer)

        history: History = {"epoch": [], "loss": [], "seconds": []}
        if validation is not None:
            history["validation_accuracy"] = []
        done, total, spent = 0, torch.zeros((), device=fabric.device), 0.0
        path = Path(checkpoint) if checkpoint is not None else None

        def tensors() -> dict[str, Tensor]:
            rng = {"rng.cpu": torch.get_rng_state()}
            if fabric.device.type == "cuda":
                rng["rng.cuda"] = torch.cuda.get_rng_state(fabric.device)
            return {
                **{f"model.{k}": v for k, v in model.state_dict().items()},
                **{f"averaged.{k}": v for k, v in averaged.state_dict().items()},
                **{f"free.{i}": p for i, p in enumerate(free)},
                **optimizer_tensors(optimizer),
                **rng,
                "total": total,
            }

        def write() -> None:
            assert path is not None
            now = spent + time.monotonic() - started
            state = {"done": done, "history": history, "seconds": now, "settings": asdict(s), "steps": steps}
            save_state(path, tensors(), state)

        if resume:
            assert path is not None
            saved, state = load_state(path)
            try:
                if state["settings"] != asdict(s) or state["steps"] != steps:
                    raise InputError(f"{path}: it belongs to a training with other settings or data")
                model.load_state_dict(part(saved, "model."))
                averaged.load_state_dict(part(saved, "averaged."))
                for i, p in enumerate(free):
                    p.data.copy_(saved[f"free.{i}"])
                restore_optimizer(optimizer, saved)
                done, history, spent = state["done"], state["history"], state["seconds"]
                total = saved["total"].to(fabric.device)
                torch.set_rng_state(saved["rng.cpu"])
                if "rng.cuda" in saved:
                    torch.cuda.set_rng_state(saved["rng.cuda"], fabric.device)
            except (KeyError, RuntimeError, TypeError) as error:
                raise InputError(f"{path}: it does not fit this model ({str(error).splitlines()[0]})") from None

        started = last_write = time.monotonic()
        bar = Progress(
            TextColumn("training"), BarColumn(), TextColumn("{task.fields[status]}"), TimeRemainingColumn(),
            disable=not progress,
        )  # fmt: skip
        with bar, stop_requests(path is not None) as asked:
            task = bar.add_task("fit", total=steps, completed=done, status="")
            while done < steps:
                epoch = done // per_epoch
                for rows in batches(len(x), known, batch_size, extra, s.seed, epoch)[done % per_epoch :]:
                    rows = rows.to(fabric.device)
                    for group in optimizer.param_groups:
                        group["lr"] = s.learning_rate * one_cycle(done / steps, 1 / steps)
                    if hasattr(model, "anneal"):
                        model.anneal(done / steps)
                    loss = step(augment(to_unit(x[rows])), y[rows])
                    wrapped.zero_grad()
                    fabric.backward(loss)
                    wrapped.step()
                    averaged.update_parameters(model)
                    total += loss.detach() / len(rows)
                    done += 1
                    bar.update(task, completed=done)
                    if asked():
                        write()
                        raise Interrupted(f"stopped after {done} of {steps} steps; the state is in {path}")
                    if path is not None and time.monotonic() - last_write > checkpoint_every:
                        write()
                        last_write = time.monotonic()
                mean = total.item() / per_epoch
                if not math.isfinite(mean):
                    raise InputError(
                        f"training: the loss is {mean} in epoch {epoch + 1}; "
                        f"a learning rate below {s.learning_rate:g} or data on a smaller scale would help"
                    )
                total.zero_()
                row = {"epoch": epoch + 1.0, "loss": mean, "seconds": spent + time.monotonic() - started}
                status = f"epoch {epoch + 1}/{epochs}  loss {mean:.2f}"
                if validation is not None:
                    due = (epoch + 1) % max(1, epochs // 40) == 0 or epoch + 1 == epochs
                    row["validation_accuracy"] = accuracy(averaged.module, *validation) if due else math.nan
                    latest = next((a for a in [row["validation_accuracy"], *history["validation_accuracy"][::-1]] if a == a), 0)
                    status += f"  validation accuracy {latest:.3f}"
                for column, value in row.items():
                    history[column].append(value)
                bar.update(task, status=status)
                if on_epoch is not None:
                    on_epoch(row)
        if s.average:
            model.load_state_dict(averaged.module.state_dict())
        kept = store.get_state()
    taken = {id(p) for p in free}
    for name, value in kept["params"].items():
        if id(value) in taken:
            constraint = kept["constraints"][name]
            store[name] = torch.distributions.transform_to(constraint)(value.detach())
    model.eval()
    return history


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


def moving_average(decay: float) -> Callable[..., None]:
    """An exponential moving average that begins with a short memory, so that it forgets the initial weights."""

    def update(averaged: Any, current: Any, count: Tensor) -> None:
        n = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, count)

    return update


def to_unit(x: Tensor) -> Tensor:
    """uint8 pixels as numbers in [0, 1]; all else as it is."""
    return x.to(torch.get_default_dtype()) / 255 if x.dtype == torch.uint8 else x


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with ``prefix``, which is cut off."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of known labels that the model predicts; NaN for a model that predicts none."""
    if not hasattr(model, "predict") or not hasattr(model, "head"):
        return math.nan
    known = y != MISSING
    return (model.predict(x).cpu() == y)[known].double().mean().item() if known.any() else math.nan


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


def check_data(model: nn.Module, x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Return ``x`` and ``y`` as tensors, or raise :class:`InputError` naming the first row that cannot be used."""
    x = x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    if x.dim() < 2 or len(x) < 2:
        raise InputError(f"x: shape {list(x.shape)}; at least 2 points are needed, [N, ...]")
    if x.dtype != torch.uint8:
        x = x.to(torch.get_default_dtype())
        bad = ~torch.isfinite(x).reshape(len(x), -1).all(1)
        if bad.any():
            raise InputError(f"x: row {int(bad.nonzero()[0])} has a NaN or infinite value; {int(bad.sum())} rows have")
    shape = getattr(model, "input_shape", None)
    if shape is not None and tuple(x.shape[1:]) != tuple(shape):
        raise InputError(f"x: shape {list(x.shape)}; this model needs [N, {', '.join(map(str, shape))}]")
    labels = getattr(model, "labels", None)
    if labels is not None:
        return x, labels.check(y, len(x))
    y = torch.full((len(x),), MISSING) if y is None else torch.as_tensor(y)
    if len(y) != len(x):
        raise InputError(f"y: {len(y)} rows, but x has {len(x)}; both need the same number")
    return x, y


def check_settings(s: FitSettings) -> None:
    """Raise :class:`InputError` naming the setting that cannot be used."""
    for name, low in (("epochs", 1), ("batch_size", 2), ("labelled_rows", 0)):
        value = getattr(s, name)
        if value is not None and (not isinstance(value, int) or value < low):
            raise InputError(f"{name}: {value!r}; a whole number of at least {low} is needed")
    for name, value, fine in (
        ("learning_rate", s.learning_rate, 0 < s.learning_rate < 10),
        ("weight_decay", s.weight_decay, 0 <= s.weight_decay < 10),
        ("average", s.average, 0 <= s.average < 1),
    ):
        if not fine:
            raise InputError(f"{name}: {value!r} is out of range")
