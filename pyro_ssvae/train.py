"""The main job: data in, a trained model with its metrics and figures out, in one folder."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyro
import torch
import tyro

from . import data as datasets
from .augment import make_augmentation
from .checkpoint import write_atomically
from .data import Dataset
from .errors import InputError, nearest
from .evaluate import evaluate
from .figures import save_all
from .fit import FitSettings, History, check_settings, fit
from .labels import MISSING, ClassLabels
from .models import MODELS, Model, create_model
from .saving import read_config, save

Flat = tyro.conf.OmitArgPrefixes


@dataclass(frozen=True)
class DataSettings:
    """Which data, and how many of its labels."""

    data: str = "digits"
    """digits, mnist, fashion-mnist, har, har-windows, or the path of an .npz file or a folder with labels.csv."""
    labels: str = "50"
    """How many of the known labels are kept: all, 0, a count, or a fraction such as 0.1."""
    hide_classes: tuple[str, ...] = ()
    """Classes of which no label is kept, to be found from the data alone."""
    leave_out: str | None = None
    """A class that training does not see at all, for anomaly detection."""
    image_size: int | None = None
    """Images are converted to squares of this side; by default as their sizes suggest."""


@dataclass(frozen=True)
class ModelSettings:
    """Which model; what is not given is the model's own default."""

    model: str = "augmented"
    """augmented, vae or classifier."""
    latent_dim: int = 50
    """Width of the latent z."""
    classes: int | None = None
    """Number of classes K, where it should exceed those that the data names."""
    class_input: str | None = None
    """What the decoder gets for a missing label: probabilities, enumerate or sparse."""
    alpha: float | None = None
    """Weight of the supervised term."""
    beta: float | None = None
    """Weight of the KL term."""
    entropy_weight: float | None = None
    """Weight of the entropy of the missing labels' probabilities."""
    balance_weight: float | None = None
    """Weight that keeps the classes as frequent as the prior over labels says."""
    class_prior: str | None = None
    """Prior over labels: estimated (from the known ones) or uniform."""
    likelihood: str | None = None
    """bernoulli (pixels), normal or laplace."""


@dataclass(frozen=True)
class Train:
    """Train a model, evaluate it, and write all of it into a folder.

    Example: pyro-ssvae train --data mnist --labels 100 --out runs/mnist-100
    """

    source: Flat[DataSettings] = field(default_factory=DataSettings)
    network: Flat[ModelSettings] = field(default_factory=ModelSettings)
    training: Flat[FitSettings] = field(default_factory=FitSettings)
    out: Path | None = None
    """The run's folder, which must not hold a run; by default a new one in runs/."""
    resume: Path | None = None
    """The folder of a run that was stopped: go on with it, with its own settings."""
    baseline: bool = True
    """Also train the same trunk on the kept labels alone."""
    quiet: bool = False
    """No progress bar."""


def settings_of(config: dict[str, Any], where: Path) -> Train:
    """The settings that a run's ``config.json`` holds."""
    try:
        saved = config["settings"]
        source = DataSettings(**{**saved["source"], "hide_classes": tuple(saved["source"]["hide_classes"])})
        return Train(source, ModelSettings(**saved["network"]), FitSettings(**saved["training"]), baseline=saved["baseline"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{where / 'config.json'}: it is not a run's configuration ({error})") from None


def prepare_data(source: DataSettings, seed: int, classes: int | None = None) -> tuple[Dataset, Dataset, Any]:
    """Return the data set as its source has it, the training part with labels hidden, and a validation part.

    The validation part is a tenth of the training rows, at most 2,000; its labels are looked at, never learnt from.
    """
    whole = datasets.load(source.data, image_size=source.image_size)
    if classes is not None:
        if not isinstance(whole.labels, ClassLabels) or classes < whole.labels.num_classes:
            raise InputError(f"classes: {classes}; the data has {len(whole.labels.names)} {type(whole.labels).__name__}")
        more = [f"found {i + 1}" for i in range(classes - whole.labels.num_classes)]
        whole = replace(whole, labels=ClassLabels(classes, [*whole.labels.names, *more]))
    seen = whole if source.leave_out is None else datasets.leave_out(whole, source.leave_out)
    train, x_val, y_val = datasets.hold_out(seen, fraction=min(0.1, 2000 / len(seen.x)), seed=0)
    y = datasets.hide_classes(train.y, train.labels, source.hide_classes) if source.hide_classes else train.y
    y = datasets.hide_labels(y, train.labels, source.labels, seed)
    return whole, replace(train, y=y), (x_val, y_val)


def train(settings: Train) -> Path:
    """Run the main job and return the run's folder.

    :raises InputError: what a person gave cannot be used.
    :raises Interrupted: stopped by a signal; the state is on disk.
    """
    if settings.resume is not None:
        folder = settings.resume
        resumed = settings_of(read_config(folder), folder)
        settings = replace(resumed, out=folder, resume=folder, quiet=settings.quiet)
        if (folder / "metrics.json").exists():
            raise InputError(f"{folder}: this run has ended; there is nothing to resume")
    source, network, training = settings.source, settings.network, settings.training
    if network.model not in MODELS:
        raise InputError(f"--model: there is no {network.model!r}{nearest(network.model, MODELS)}")
    check_settings(training)
    whole, part, validation = prepare_data(source, training.seed, network.classes)
    labelled = int((part.y != MISSING).reshape(len(part.y), -1).any(1).sum())
    if network.model == "classifier" and labelled == 0:
        raise InputError(f"--labels: {source.labels} leaves no label; a classifier needs some")
    make_augmentation(training.augment, part.x)
    vae = make_model(network, part, training.seed)
    folder = settings.out or free_folder(f"{Path(source.data).stem}-{network.model}-{source.labels}")
    if settings.resume is None:
        claim(folder)
    about = {
        "settings": {**asdict(settings), "out": None, "resume": None},
        "command": shlex.join(["pyro-ssvae", *sys.argv[1:]]),
        "fingerprint": datasets.fingerprint(part),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "pyro": pyro.__version__},
    }
    if settings.resume is None:
        save(vae, folder, **about)
        (folder / "model.safetensors").unlink()  # until it is trained
    elif read_config(folder).get("fingerprint") != about["fingerprint"]:
        raise InputError(f"{source.data}: the data has changed since {folder} was begun; a new run is needed")

    started = time.monotonic()
    checkpoint = folder / "checkpoint" / "last.safetensors"
    history = fit(
        vae, part.x, part.y, validation=validation, progress=not settings.quiet, checkpoint=checkpoint,
        resume=settings.resume is not None and checkpoint.exists(), **asdict(training),
    )  # fmt: skip
    seconds = history["seconds"][-1] if history["seconds"] else time.monotonic() - started
    save(vae, folder, **about)
    write_history(folder / "history.csv", history)

    known = None
    left_out = None
    if isinstance(whole.labels, ClassLabels):
        classes = part.y[part.y != MISSING].unique().tolist()
        known = classes if len(classes) < whole.labels.num_classes or not classes else None
        left_out = None if source.leave_out is None else [list(whole.labels.names).index(source.leave_out)]
        if left_out and known is not None:
            known = sorted({*known, *left_out}) if len(known) + 1 == whole.labels.num_classes else known
    test = evaluate(vae, whole.x_test, whole.y_test, known_classes=known, left_out=left_out)
    epochs = len(history["epoch"])
    metrics: dict[str, Any] = {
        "data": {"name": whole.name, "train": len(part.x), "labelled": labelled, "test": len(whole.x_test)},
        "train": {
            "seconds": seconds,
            "examples_per_second": epochs * len(part.x) / max(seconds, 1e-9),
            "epochs": epochs,
        },
        "test": test,
    }
    if settings.baseline and labelled and network.model != "classifier":
        metrics["baseline"] = baseline(settings, whole, part, history, known, left_out)
    write_atomically(folder / "metrics.json", json.dumps(metrics, indent=2).encode())
    seen = whole if source.leave_out is None else datasets.leave_out(whole, source.leave_out)
    save_all(vae, history, test, seen.x_test, seen.y_test, folder / "figures")
    return folder


def make_model(network: ModelSettings, part: Dataset, seed: int) -> Model:
    """The model of the settings, for data like ``part``."""
    pyro.set_rng_seed(seed)
    names = ("class_input", "alpha", "beta", "entropy_weight", "balance_weight", "class_prior", "likelihood")
    options = {name: getattr(network, name) for name in names if getattr(network, name) is not None}
    labels, shape = part.labels, part.input_shape
    return create_model(network.model, input_shape=shape, labels=labels, latent_dim=network.latent_dim, **options)


def baseline(
    settings: Train,
    whole: Dataset,
    part: Dataset,
    history: History,
    known: Sequence[int] | None,
    left_out: Sequence[int] | None,
) -> dict[str, Any]:
    """The same trunk, augmentation and number of steps on the kept labels alone: its metrics on the test set."""
    training = settings.training
    rows = (part.y != MISSING).reshape(len(part.y), -1).any(1)
    if int(rows.sum()) < 2:
        return {}
    units = {} if settings.network.likelihood is None else {"likelihood": settings.network.likelihood}
    pyro.set_rng_seed(training.seed)
    trunk = create_model("classifier", input_shape=part.input_shape, labels=part.labels, **units)
    trunk.prepare(part.x, part.y)
    size = training.batch_size
    steps = len(history["epoch"]) * (len(part.x) // min(size, len(part.x)))
    n = int(rows.sum())
    own = replace(training, epochs=max(1, steps // (n // min(size, n))))
    started = time.monotonic()
    fit(trunk, part.x[rows], part.y[rows], progress=not settings.quiet, **asdict(own))
    seconds = time.monotonic() - started
    return {**evaluate(trunk, whole.x_test, whole.y_test, known_classes=known, left_out=left_out), "seconds": seconds}


def write_history(path: Path, history: History) -> None:
    """Write the history as CSV; a value that was not measured is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(history)
    for row in zip(*history.values()):
        writer.writerow(["" if value != value else f"{value:.6g}" for value in row])
    write_atomically(path, text.getvalue().encode())


def free_folder(name: str) -> Path:
    """A folder in runs/ that is not there yet."""
    numbers = (f"-{i}" if i > 1 else "" for i in range(1, 1_000_000))
    return next(path for number in numbers if not (path := Path("runs") / f"{name}{number}").exists())


def claim(folder: Path) -> None:
    """Make a run's folder; refuse one that holds a run, or that cannot be written to."""
    if (folder / "config.json").exists():
        raise InputError(f"--out {folder}: it holds a run already; another folder, or --resume {folder}, is needed")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"--out {folder}: it is a file; a folder is needed") from None
    except OSError as error:
        raise InputError(f"--out {folder}: it cannot be made ({error.strerror})") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"--out {folder}: it is read-only; a folder that can be written to is needed")

