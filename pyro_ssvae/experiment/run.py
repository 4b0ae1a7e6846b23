"""The main job: data in, a trained model with its metrics and figures out, in one folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path

import pyro
from torch import Tensor

from .. import data as datasets
from ..data import Dataset, known_rows
from ..data.augment import make_augmentation
from ..data.table_report import show_kinds
from ..errors import InputError
from ..evaluation.evaluate import evaluate
from ..files import CannotWrite, cannot_write, write_atomically
from ..labels import ClassLabels
from ..models import Model, create_model
from ..models.saved_config import read_config, save_config
from ..models.saving import save
from ..plots.summary import save_all
from ..train import loggers
from ..train.checkpoints import CheckpointSettings, check_checkpoints, checkpoints
from ..train.fit import History, fit
from ..train.launch import WorkerLost, is_main_process
from ..train.progress import Interrupted
from ..train.settings import check_settings
from . import reliability
from .baseline import baseline
from .config import ExperimentConfig, Json, ModelConfig, network_for
from .data import Rows, check_there, network_of_data, prepare_data
from .folder import CHECKPOINT, abandon, check_free, claim, free_folder, locked, write_history
from .going_on import going_on, reopened
from .metadata import check_begun, note_differences, resumed_metadata, run_metadata

MOST_SECONDS = 600  # that cross-fitting may take


@dataclass(frozen=True, eq=False)
class Experiment:
    """Everything that a run works with.

    :param split: the training part of ``dataset``, its labels hidden.
    :param metadata: what ``config.json`` says beside the model.
    """

    settings: ExperimentConfig
    dataset: Dataset
    split: Dataset
    validation: Rows
    model: Model
    metadata: Json


def train(settings: ExperimentConfig) -> Path:
    """Run the main job and return the run's folder.

    :raises InputError: what a person gave cannot be used.
    :raises Interrupted: stopped by a signal; the state is on disk.
    """
    settings = resumed(settings)
    check(settings)
    experiment = prepare(settings)
    if not is_main_process(settings.training):  # it writes nothing
        fit_model(experiment, settings.resume or Path(), progress=False)
        return settings.out or Path("runs")
    name = f"{Path(settings.source.data).stem}-{settings.network.name}-{settings.source.keep}"
    folder = settings.out or free_folder(name)
    if settings.resume is None:
        if settings.config is not None:
            note_differences(read_config(settings.config), experiment.metadata, settings.source, settings.config)
        claim(folder)
        save_config(experiment.model, folder, **experiment.metadata)
    else:
        experiment = replace(experiment, metadata=resumed_metadata(folder, experiment.metadata, settings.source))
    begun = settings.resume is not None
    with (
        locked(folder),
        how_to_go_on(folder, begun),
        reopened(folder, experiment.metadata) if begun else nullcontext(),
        loggers.logger_of(settings.logger, folder, folder.name, resumed=begun) as logger,
    ):
        run(experiment, folder, logger)
    return folder


def resumed(settings: ExperimentConfig) -> ExperimentConfig:
    """Return the settings, of a run that is gone on with its own, with the number of labels written out."""
    folder = settings.resume
    if folder is not None:
        settings = going_on(settings, folder)
        check_there(settings.source, folder)
    return replace(settings, source=replace(settings.source, labels=settings.source.keep))


def check(settings: ExperimentConfig) -> None:
    """Raise :class:`InputError` naming the setting that cannot be used, before any data is read."""
    check_settings(settings.training)
    saving = settings.saving
    check_checkpoints(
        saving.checkpoint_minutes, saving.checkpoint_epochs, saving.keep_checkpoints, "checkpoint_minutes"
    )
    if settings.logger is not None:
        loggers.check(settings.logger)
    # Under torchrun other processes may come once the folder is taken.
    if settings.out is not None and settings.resume is None and is_main_process(settings.training):
        check_free(settings.out)


def prepare(settings: ExperimentConfig) -> Experiment:
    """Read the data, hide labels, and make the model, its weights at random."""
    source, training = settings.source, settings.training
    main = is_main_process(training)
    folder = settings.resume
    check = None if folder is None else partial(check_begun, folder, source=source)
    dataset, split, validation = prepare_data(source, training.seed, quiet=not main, check=check)
    if dataset.table is not None and main:
        show_kinds(dataset.table)
    if settings.network.name == "classifier" and not known_rows(split.y).any():
        raise InputError(f"--labels: {source.keep} leaves no label; a classifier needs some")
    make_augmentation(training.augment, split.x)
    hidden = isinstance(dataset.labels, ClassLabels) and bool(known_rows(dataset.y).all())
    network = network_of_data(network_for(settings.network, source, hidden), source, split)
    model = make_model(network, split, training.seed)
    return Experiment(settings, dataset, split, validation, model, run_metadata(settings, dataset, split))


def make_model(network: ModelConfig, split: Dataset, seed: int) -> Model:
    """Return the model of the settings, for data like ``split``."""
    pyro.set_rng_seed(seed)
    schema = None if split.table is None else split.table.schema
    model = create_model(
        network.name, input_shape=split.input_shape, labels=split.labels, schema=schema, **asdict(network.options)
    )
    model.column_names, model.white_level = split.columns, split.white_level
    return model


@contextmanager
def how_to_go_on(folder: Path, begun: bool) -> Iterator[None]:
    """Turn what ends a run into one line that says how to go on; leave no folder of a run that came to nothing.

    :param begun: whether the folder is that of an earlier run, which stays whatever happens.
    """
    command = f"pyro-ssvae train --resume {shlex.quote(str(folder))}"
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stop:
        kind = WorkerLost if isinstance(stop, WorkerLost) else Interrupted
        raise kind(f"{str(stop) or 'stopped'}; to go on: {command}") from None
    except (OSError, CannotWrite) as error:
        if not begun:
            abandon(folder)
        said = error if isinstance(error, CannotWrite) else cannot_write(Path(error.filename or folder), error)
        if not checkpoints(folder / CHECKPOINT):
            raise said from None
        raise InputError(f"{said}; once that is mended: {command}") from None
    except InputError:
        if not begun:
            abandon(folder)
        raise


def run(experiment: Experiment, folder: Path, logger: loggers.Logger | None = None) -> None:
    """Train, evaluate, and write all into the run's folder, ``metrics.json`` last: it says that the run has ended."""
    settings, dataset, split = experiment.settings, experiment.dataset, experiment.split
    model, options = experiment.model, experiment.metadata["evaluation"]
    on_epoch = None if logger is None else loggers.log_epochs(logger)
    history = fit_model(experiment, folder, progress=not settings.quiet, on_epoch=on_epoch)
    save(model, folder, **experiment.metadata)
    write_history(folder / "history.csv", history)
    test = evaluate(model, dataset.x_test, dataset.y_test, **options)
    train, calibrate = refitting(experiment, history), settings.calibration
    calibration = reliability.note(model, split, experiment.validation, train, folder, calibrate)
    if calibration is not None:
        test["calibrated"] = reliability.judged(calibration, model, dataset.x_test, dataset.y_test, options)
    metrics = {**counts(dataset, split, experiment.validation[1], history), "test": test}
    labelled, epochs = metrics["data"]["labelled"], metrics["train"]["epochs"]
    if settings.baseline and labelled and settings.network.name != "classifier":
        metrics["baseline"] = baseline(settings, model, dataset, split, epochs)
    if logger is not None:
        for name in ("test", "baseline"):
            loggers.log_metrics(logger, metrics.get(name, {}), name, step=epochs)
    if settings.figures:
        left_out = settings.source.leave_out
        seen = dataset if left_out is None else datasets.leave_out(dataset, left_out)
        scaled = None if calibration is None else calibration.predict_proba
        save_all(model, history, test, seen.x_test, seen.y_test, folder / "figures", scaled=scaled)
    write_atomically(folder / "metrics.json", json.dumps(metrics, indent=2).encode())


def refitting(experiment: Experiment, history: History) -> reliability.Trainer | None:
    """Return what trains a run's model anew on other labels; None where five trainings take more than ten minutes."""
    training = replace(experiment.settings.training, devices=1, num_nodes=1)
    if reliability.FOLDS * history["seconds"][-1] > MOST_SECONDS:
        return None

    def train(split: Dataset) -> Model:
        recipe = experiment.model.recipe
        assert recipe is not None
        pyro.set_rng_seed(training.seed)
        model = create_model(recipe["name"], input_shape=split.input_shape, labels=split.labels, **recipe["options"])
        with redirect_stderr(StringIO()):  # it says again what the run's own training said
            fit(model, split.x, split.y, validation=experiment.validation, progress=False, **asdict(training))
        return model

    return train


def counts(dataset: Dataset, split: Dataset, validation: Tensor, history: History) -> Json:
    """Return ``data`` and ``train`` of ``metrics.json``: how many points and labels, epochs and seconds.

    :param validation: the labels of the rows that are held out.
    """
    labelled = int(known_rows(split.y).sum())
    held = {"validation": len(validation), "validation_labelled": int(known_rows(validation).sum())}
    epochs, seconds = len(history["epoch"]), history["seconds"][-1]
    speed = epochs * len(split.x) / max(seconds, 1e-9)
    return {
        "data": {
            "name": dataset.name,
            "train": len(split.x),
            "labelled": labelled,
            **held,
            "test": len(dataset.x_test),
        },
        "train": {"seconds": seconds, "examples_per_second": speed, "epochs": epochs},
    }


def fit_model(
    experiment: Experiment,
    folder: Path,
    *,
    progress: bool,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> History:
    """Train a run's model, from the checkpoint in its folder where it is gone on with and has one."""
    settings, split, checkpoint = experiment.settings, experiment.split, folder / CHECKPOINT
    return fit(
        experiment.model,
        split.x,
        split.y,
        validation=experiment.validation,
        checkpoint=checkpoint,
        resume=settings.resume is not None and bool(checkpoints(checkpoint)),
        progress=progress,
        on_epoch=on_epoch,
        **fit_options(settings.saving),
        **asdict(settings.training),
    )


def fit_options(saving: CheckpointSettings) -> Json:
    """Return the settings of checkpoints as :func:`~pyro_ssvae.fit` takes them."""
    return {
        "checkpoint_every": 60 * saving.checkpoint_minutes,
        "checkpoint_epochs": saving.checkpoint_epochs,
        "keep_checkpoints": saving.keep_checkpoints,
    }
