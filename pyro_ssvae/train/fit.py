"""``fit``: train any pair of a model and a guide, the library's, or one edited in a notebook."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from pyro.infer import ELBO, ReweightedWakeSleep
from torch import Tensor, nn

from ..data.dataset import digest
from ..data.inputs import open_data, unlearnt_where_refused
from ..data.pair_order import Points
from ..data.random_rows import some_of
from ..errors import InputError, plain_value
from ..infer.batched import alone
from ..infer.pairs import PairLike, as_pair, replaced
from ..infer.program_errors import program_errors
from ..infer.protocols import Schedules
from ..labels import labels_of
from . import loggers
from .checkpointer import CheckpointPlan
from .checkpoints import FORMAT, Json, check_checkpoints, checkpoint_file
from .class_weights import weights_in_order
from .launch import is_main_process, starts_processes
from .loggers import LoggerLike
from .optimizer import OptimizerLike, check_optimizer, name_of
from .plan import Plan, make_plan
from .progress import Callbacks, Interrupted, Row, progress_bar, stop_requests
from .runs import train_here, train_in_processes
from .settings import FitSettings, make_settings
from .state import History
from .step import check_loss
from .training import Job
from .validation import Validation, check_validation, given_rows, held_out, say_held_out

__all__ = ["FitSettings", "History", "Interrupted", "fit"]

ValidationLike: TypeAlias = tuple[object, object] | float | object


def fit(
    pair: PairLike,
    x: object,
    y: object = None,
    *,
    optimizer: OptimizerLike | None = None,
    loss: ELBO | None = None,
    validation: ValidationLike | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    resume: bool | str | Path = False,
    checkpoint_every: float = 60.0,
    checkpoint_epochs: int | None = None,
    keep_checkpoints: int = 2,
    on_epoch: Callable[[Row], None] | None = None,
    logger: LoggerLike | None = None,
    **settings: object,
) -> History:
    """Train a pair in place and return its history: one entry an epoch in each column.

    Columns: ``epoch``, ``loss`` (nats a row), ``seconds``; where the model counts them
    (``label_inference="sparse"``), ``decodes`` (decodes a point); of a pair with a bound on log p(x), ``kl`` of all
    latents and ``reconstruction`` E_q log p(x | z) (nats a row, unscaled) and ``active_units``
    (:func:`~pyro_ssvae.infer.latent_use.active_units`), of the averaged weights on at most 500 random rows, about forty
    times in a training (NaN between, and at least 50 steps, or a tenth of it, apart); with ``validation``,
    ``validation_accuracy`` or, where nothing is predicted or no label is trained on, ``validation_loss`` (NaN in epochs
    without); with ``early_stopping``, ``best_epoch`` (the best one so far). Where hardly any latent dimension is active
    in the end, one line on stderr says so.

    Afterwards, and after an error, the pair has its averaged weights and is in evaluation mode. An exception on the
    way, of ``on_epoch`` or a KeyboardInterrupt, has the history so far as its attribute ``history``.

    :param pair: a module with ``model(x, y)`` and ``guide(x, y)``, or ``(model, guide)``, two functions, whose
        parameters live in Pyro's store. What it can do beyond (:mod:`pyro_ssvae.infer.protocols`) is used:
        ``objective()``, ``prepare(x, y)``, ``set_progress(progress)``.
    :param x: points ``[N, ...]`` (tensor or array; uint8 pixels of pictures are scaled to [0, 1]), or a ``ps.data``
        data set. Or points in files, which above 1 GB stay there and are read some blocks at a time: ``np.memmap``,
        the path of a .npy, .npz, .parquet or .zarr file, of a folder of .npy or .parquet files, or of a folder of
        images with ``labels.csv``; or :func:`~pyro_ssvae.stream`. ``prepare`` then gets a random sample of them.
    :param y: labels, -1 where missing; None for none.
    :param optimizer: a class of ``torch.optim``, which gets ``learning_rate`` and ``weight_decay``, or a function of
        the list of parameters that returns an optimiser, whose own learning rates then are the schedule's peaks; AdamW
        by default. Weight matrices decay, and nothing else.
    :param loss: any Pyro ELBO, such as ``TraceMeanField_ELBO()``; by default the pair's own objective. Those without
        ``differentiable_loss`` (RenyiELBO, TraceGraph_ELBO, ReweightedWakeSleep) are not compiled.
    :param validation: ``(x, y)``, a data set with labels, or a share of the rows, which is held out: accuracy, or loss,
        is measured on them while training. Nothing is chosen by it, unless ``early_stopping`` says so.
    :param progress: show a progress bar.
    :param checkpoint: a file that the training's state is written to: every ``checkpoint_every`` seconds, at the end
        of every ``checkpoint_epochs`` epochs, at the end, and when stopped by SIGINT or SIGTERM. Beside it
        (:mod:`~pyro_ssvae.train.checkpoints`) lie the latest ``keep_checkpoints - 1`` before it and the weights of the
        best epoch, by validation or, without, by ``loss``. A checkpoint that is there is written over, unless
        ``resume``; a file of anything else is refused.
    :param resume: go on from that file, or from the one before it where it is damaged; a path is another file to go on
        from, or a run's folder. Where nothing else is changed, the training is the one that was not interrupted.
        ``epochs``, which counts those before, may be larger, and ``y`` may have other labels of the same rows: then
        another cycle of the learning rate begins, over the epochs that are left. Other settings, or other options of
        the model, are refused.
    :param on_epoch: called with each epoch's row of the history. The pair then has its latest weights, not the average.
    :param logger: ``"tensorboard"``, ``"mlflow"`` or ``"wandb"``, in the current folder
        (:func:`~pyro_ssvae.train.loggers.open_logger`), or any logger of Lightning: each epoch's numbers go there.
    :param settings: fields of :class:`FitSettings`. The best epoch of ``early_stopping`` is that of the best accuracy,
        of equal ones that of the lowest loss; or that of the lowest ``validation_loss``. ``class_weights`` hold
        for this training alone: ``"balanced"``, a number a class in their order, or ``{"ill": 5.0}`` by name, the
        others then 1; of attributes they are two numbers each, for 0 and 1. With ``devices`` or
        ``num_nodes`` above 1, processes share every batch. They are started for the purpose and get the pair by value;
        under a launcher such as ``torchrun`` or ``srun`` (:mod:`~pyro_ssvae.train.launchers`) they run already, and
        share every batch unless ``devices=1`` says otherwise. ``prepare``, ``on_epoch`` and the pair's end are the
        caller's own.
    :raises InputError: data or settings that cannot be used, in one line.
    :raises Interrupted: after a signal, once the checkpoint is written; as
        :class:`~pyro_ssvae.train.launch.WorkerLost` after the loss of a process.
    """
    module = as_pair(pair)
    weights = weights_in_order(settings.get("class_weights"), labels_of(module))
    s = make_settings(settings if weights is None else {**settings, "class_weights": weights})
    validation = plain_value(validation) if isinstance(validation, np.generic) else validation
    check_checkpoints(checkpoint_every, checkpoint_epochs, keep_checkpoints)
    check_choices(s, optimizer, loss, validation)
    if not (on_epoch is None or callable(on_epoch)):
        raise InputError(f"on_epoch: {str(on_epoch)[:80]!r}; a function of an epoch's row is needed")
    if isinstance(logger, str):
        loggers.check(logger, "logger")
    with alone(), program_errors(), torch.inference_mode(False), torch.enable_grad(), whole_afterwards(module):
        points, labels = open_data(module, x, y)
        path = checkpoint_file(checkpoint, begins=resume is not True)
        source = None if isinstance(resume, bool) else checkpoint_of(resume)
        noted = path is not None or source is not None
        data = (digest(some_of(points, 2_000_000)), digest(labels)) if noted else None
        points, labels, judged = validation_of(module, points, labels, validation, s)
        plan = make_plan(points, labels, s)
        about = {**training_facts(s, plan, data, judged, optimizer, loss), **pair_facts(module)}
        written = CheckpointPlan(path, about, checkpoint_every, checkpoint_epochs, keep_checkpoints, source)
        job = Job(
            pair=module,
            settings=s,
            plan=plan,
            loss=loss,
            optimizer=optimizer,
            validation=judged,
            checkpoints=written,
            resume=resume is not False,
        )
        main = is_main_process(s)
        with (
            loggers.logging_to(logger if main else None, on_epoch) as each_epoch,
            progress_bar(plan.steps, progress and main) as show,
            stop_requests(path is not None) as stop_requested,
        ):
            run = train_in_processes if starts_processes(s) else train_here
            return run(job, points, labels, Callbacks(show, stop_requested, each_epoch))


def checkpoint_of(place: object) -> Path:
    """Return the checkpoint that a path means: a file, or that of a run's folder."""
    if not isinstance(place, (str, PathLike)):
        raise InputError(f"resume: {str(place)[:80]!r}; True, False, a checkpoint or a run's folder is needed")
    path = Path(place)
    return path / "checkpoint" / "last.safetensors" if path.is_dir() else path


def check_choices(s: FitSettings, optimizer: object, loss: object, validation: object) -> None:
    """Raise :class:`InputError` naming the option that cannot be used."""
    check_validation(validation, s.early_stopping)
    if optimizer is not None:
        check_optimizer(optimizer)
    if loss is not None:
        check_loss(loss)
    if isinstance(loss, ReweightedWakeSleep) and ((s.devices or 1) > 1 or s.num_nodes > 1):
        raise InputError("loss: ReweightedWakeSleep weighs whole batches, which processes cannot share; devices=1 can")


@contextmanager
def whole_afterwards(pair: nn.Module) -> Iterator[None]:
    """In the end, errors included, what grows in training is whole and the pair in evaluation mode.

    Of data that were refused it remembers nothing.
    """
    try:
        with unlearnt_where_refused(pair):
            yield
    finally:
        if isinstance(pair, Schedules):
            pair.set_progress(1.0)
        pair.eval()


def validation_of(
    pair: nn.Module, x: Points, y: Tensor, validation: ValidationLike | None, s: FitSettings
) -> tuple[Points, Tensor, Validation | None]:
    """Return the rows to train on, and the validation."""
    if validation is None:
        return x, y, None
    if not isinstance(validation, float):
        return x, y, given_rows(pair, validation, y)
    left, known, judged = held_out(pair, x, y, validation, s.seed)
    if is_main_process(s):
        say_held_out(judged, len(x))
    return left, known, judged


def pair_facts(pair: nn.Module) -> Json:
    """Return what a checkpoint notes of a pair beside its weights: its class, the methods that were replaced in this
    instance, the labels' names in order, the likelihood and the options; ``label_prior`` by itself."""
    labels, likelihood = labels_of(pair), dict(pair.named_children()).get("likelihood")
    config = vars(pair).get("config")
    options = asdict(config) if is_dataclass(config) and not isinstance(config, type) else {}
    about = {
        "model": type(pair).__name__,
        "replaced": replaced(pair),
        "label names": None if labels is None else list(labels.names),
        "likelihood": None if likelihood is None else type(likelihood).__name__,
        "label_prior": options.pop("label_prior", None),
        "options": options,
    }
    return dict(json.loads(json.dumps(about, default=lambda value: type(value).__name__)))


def training_facts(
    s: FitSettings,
    plan: Plan,
    data: tuple[str, str] | None,
    validation: Validation | None,
    optimizer: OptimizerLike | None,
    loss: ELBO | None,
) -> Json:
    """Return what a checkpoint notes of its training, as JSON gives it back: a training that resumes must agree."""
    settings = {name: value for name, value in asdict(s).items() if name not in ("devices", "num_nodes", "epochs")}
    about = {
        "format": FORMAT,
        "settings": settings,
        "rows": plan.n,
        "steps": plan.steps,
        "data": None if data is None else data[0],
        "labels": None if data is None else data[1],
        "validation": None if validation is None else validation.share,
        "optimizer": None if optimizer is None else name_of(optimizer),
        "loss": None if loss is None else name_of(loss),
    }
    return dict(json.loads(json.dumps(about)))
