"""The main job: data in, a trained model with its metrics and figures out, in one folder."""

from __future__ import annotations

import csv
import inspect
import io
import json
import math
import platform
import shlex
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import pyro
import torch
import tyro
from torch import Tensor

from .. import data as datasets
from ..data import Dataset
from ..data.augment import make_augmentation
from ..errors import InputError, nearest
from ..evaluation.evaluate import evaluate
from ..files import CannotWrite, cannot_write, write_atomically
from ..labels import MISSING, ClassLabels
from ..models import MODELS, Model, create_model
from ..models.saving import config_file, read_config, save, save_config
from ..nn.likelihoods import LIKELIHOODS
from ..plots.summary import save_all
from ..train import loggers
from ..train.checkpoints import CheckpointSettings, check_checkpoints, checkpoints
from ..train.fit import FitSettings, History, Interrupted, check_settings, fit
from ..train.launch import Lost, leads
from .folder import CHECKPOINT, abandon, alone, check_free, claim, free_folder
from .saved_settings import read_settings

# Of options that may be left out, the help shows the kind alone.
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
OptionalStr = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
LEFT_OUT = tyro.conf.arg(metavar="PATH", help_behavior_hint="")

CHOICES = {
    "class_input": ("probabilities", "enumerate", "sparse"),
    "class_prior": ("estimated", "uniform"),
    "likelihood": tuple(LIKELIHOODS),
    "detach": ("none", "numerator", "all"),
    "integral": ("quadrature", "samples"),
    "missing": ("enumerate", "sample", "relax"),
}
PACKAGES = ("numpy", "pyro-ppl", "lightning", "pyro_ssvae")  # whose versions a run notes


@dataclass(frozen=True)
class DataSettings:
    """Which data, and how many of its labels."""

    data: str = "digits"
    """digits, mnist, fashion-mnist, har, har-windows, avatars, celeba, or the path of an .npz file or a folder."""
    labels: OptionalStr = None
    """How many known labels are kept: all, 0, a count, or a fraction; by default 50, of your own data all."""
    hide_classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="STR ...", help_behavior_hint="")] = ()
    """Classes of which no label is kept, to be found from the data alone."""
    label_file: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, LEFT_OUT] = ()
    """A CSV file with further labels of training points, as suggest writes it; may be given several times."""
    leave_out: OptionalStr = None
    """A class that training does not see at all, for anomaly detection."""
    image_size: OptionalInt = None
    """Images are converted to squares of this side; by default as their sizes suggest."""
    attributes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="STR ...", help_behavior_hint="")] = ()
    """Which attributes of celeba or avatars, and in which order; by default the data set's own choice."""

    @property
    def keep(self) -> str:
        """``labels``, with its default."""
        return self.labels or ("50" if self.data.partition(":")[0] in datasets.NAMES else "all")


@dataclass(frozen=True)
class ModelSettings:
    """Which model; what is not given is the model's own default."""

    model: str = "augmented"
    """augmented, revae, vae, classifier, m1, m2, m1+m2, mvae or diva."""
    latent_dim: int = 50
    """Width of the latent z."""
    classes: OptionalInt = None
    """Number of classes K, where it should exceed those that the data names."""
    class_input: OptionalStr = None
    """What the decoder gets for a missing label: probabilities, enumerate or sparse."""
    alpha: OptionalFloat = None
    """Weight of the supervised term."""
    beta: OptionalFloat = None
    """Weight of the KL term."""
    entropy_weight: OptionalFloat = None
    """Weight of the entropy of the missing labels' probabilities."""
    balance_weight: OptionalFloat = None
    """Weight that keeps the classes as frequent as the prior over labels says."""
    class_prior: OptionalStr = None
    """Prior over labels: estimated (from the known ones) or uniform."""
    likelihood: OptionalStr = None
    """bernoulli (pixels), normal or laplace."""
    steering: OptionalFloat = None
    """ReVAE: weight of the term that asks pictures of interventions to be read as they were meant."""
    z_c_gradient: OptionalFloat = None
    """ReVAE: the share of the reconstruction's gradient that reaches the labels' latents; 1, with classes 0.3."""
    label_dim: OptionalInt = None
    """ReVAE: latent dimensions an attribute, or of all classes together; DIVA: of all labels together."""
    detach: OptionalStr = None
    """ReVAE: what of the bound's weight carries no gradient: none, numerator or all."""
    integral: OptionalStr = None
    """ReVAE: how q(y | x) is computed: quadrature or samples."""
    missing: OptionalStr = None
    """A missing label is summed over (enumerate) or drawn (ReVAE: sample; attributes of M2, M1+M2, DIVA: relax)."""
    subsets: OptionalInt = None
    """MVAE: random subsets of x and the labels that each step trains, beside the whole and each alone."""


@dataclass(frozen=True)
class Train:
    """Train a model, evaluate it, and write all of it into a folder.

    Example: pyro-ssvae train --data mnist --labels 100 --out runs/mnist-100
    """

    source: Annotated[DataSettings, tyro.conf.OmitArgPrefixes] = field(default_factory=DataSettings)
    network: Annotated[ModelSettings, tyro.conf.OmitArgPrefixes] = field(default_factory=ModelSettings)
    training: Annotated[FitSettings, tyro.conf.OmitArgPrefixes] = field(default_factory=FitSettings)
    saving: Annotated[CheckpointSettings, tyro.conf.OmitArgPrefixes] = field(default_factory=CheckpointSettings)
    out: OptionalPath = None
    """The run's folder, which must not hold a run; by default a new one in runs/."""
    resume: OptionalPath = None
    """The folder of a run that was stopped: go on with it, with its own settings (--devices may be another)."""
    config: OptionalPath = None
    """A run's config.json: repeat that run, in a new folder; the options given beside it win over it."""
    baseline: bool = True
    """Also train the same trunk on the kept labels alone."""
    logger: OptionalStr = None
    """tensorboard: write each epoch's numbers, and the metrics, for TensorBoard to show, into the run's folder."""
    quiet: bool = False
    """No progress bar."""


def settings_of(config: dict[str, Any], where: Path) -> Train:
    """The settings that a run's ``config.json`` holds."""
    try:
        saved = config["settings"]
        source, network = read_settings(DataSettings, saved["source"]), read_settings(ModelSettings, saved["network"])
        training = read_settings(FitSettings, saved["training"])
        saving = read_settings(CheckpointSettings, saved.get("saving", {}))
        baseline, logger = saved["baseline"], saved.get("logger")
        if not isinstance(baseline, bool) or not isinstance(logger, (str, type(None))):
            raise TypeError("baseline or logger")
        return Train(source, network, training, saving, baseline=baseline, logger=logger)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{config_file(where)}: it is not a run's configuration ({error})") from None


def load_data(source: DataSettings) -> Dataset:
    """The data set as its source has it."""
    return datasets.load(source.data, image_size=source.image_size, attributes=source.attributes or None)


def prepare_data(source: DataSettings, seed: int, classes: int | None = None) -> tuple[Dataset, Dataset, Any]:
    """Return the data set as its source has it, the training part with labels hidden, and a validation part.

    The validation part is a tenth of the training rows, at most 2,000; its labels are looked at, never learnt from.
    """
    whole = load_data(source)
    if classes is not None:
        if not isinstance(whole.labels, ClassLabels) or classes < whole.labels.num_classes:
            what = "classes" if isinstance(whole.labels, ClassLabels) else "attributes"
            raise InputError(f"--classes {classes}: the data has {len(whole.labels.names)} {what}; more are needed")
        more = [f"found {i + 1}" for i in range(classes - whole.labels.num_classes)]
        whole = replace(whole, labels=ClassLabels(classes, [*whole.labels.names, *more]))
    return whole, *training_part(whole, source, seed)


def training_part(whole: Dataset, source: DataSettings, seed: int) -> tuple[Dataset, tuple[Tensor, Tensor]]:
    """Return the training part of a data set, less what its source leaves out and hides, and the validation part."""
    seen = whole if source.leave_out is None else datasets.leave_out(whole, source.leave_out)
    train, x_val, y_val = datasets.hold_out(seen, fraction=min(0.1, 2000 / len(seen.x)), seed=0)
    y = datasets.hide_classes(train.y, train.labels, source.hide_classes) if source.hide_classes else train.y
    y = datasets.hide_labels(y, train.labels, source.keep, seed)
    if source.label_file:
        rows, files = training_rows(source, whole), row_names(source)
        for path in source.label_file:
            y = datasets.add_labels(Path(path), y, rows, train.labels, files)
    return replace(train, y=y), (x_val, y_val)


def training_rows(source: DataSettings, whole: Dataset) -> Tensor:
    """Which rows of the whole data set :func:`prepare_data` leaves for training, in order."""
    x, x_test = (torch.arange(len(part)).reshape(-1, 1) for part in (whole.x, whole.x_test))
    numbered = replace(whole, x=x, x_test=x_test)
    seen = numbered if source.leave_out is None else datasets.leave_out(numbered, source.leave_out)
    train, _, _ = datasets.hold_out(seen, fraction=min(0.1, 2000 / len(seen.x)), seed=0)
    return train.x.squeeze(1)


def row_names(source: DataSettings) -> list[str] | None:
    """The files that the rows of a folder's data set come from; None where rows have numbers alone."""
    return datasets.training_files(Path(source.data)) if Path(source.data).is_dir() else None


def train(settings: Train) -> Path:
    """Run the main job and return the run's folder.

    :raises InputError: what a person gave cannot be used.
    :raises Interrupted: stopped by a signal; the state is on disk.
    """
    if settings.resume is not None:
        folder = settings.resume
        resumed = settings_of(read_config(folder), folder)
        if (folder / "metrics.json").exists():
            raise InputError(f"--resume {folder}: this run has ended; there is nothing to go on with")
        if settings.training.devices is not None:  # as many processes as there are now
            resumed = replace(resumed, training=replace(resumed.training, devices=settings.training.devices))
        settings = replace(resumed, out=folder, resume=folder, quiet=settings.quiet)
    settings = replace(settings, source=replace(settings.source, labels=settings.source.keep))
    source, network, training = settings.source, settings.network, settings.training
    check_settings(training)
    check_checkpoints(*fit_options(settings.saving).values())
    check_network(network)
    if settings.logger is not None:
        loggers.check(settings.logger)
    if settings.out is not None and settings.resume is None and leads(training):  # others may come once it is taken
        check_free(settings.out)
    whole, part, validation = prepare_data(source, training.seed, network.classes)
    labelled = int((part.y != MISSING).reshape(len(part.y), -1).any(1).sum())
    if network.model == "classifier" and labelled == 0:
        raise InputError(f"--labels: {source.keep} leaves no label; a classifier needs some")
    make_augmentation(training.augment, part.x)
    vae = make_model(network, part, training.seed)
    about = facts(settings, whole, part)
    if not leads(training):
        fit_run(settings, part, validation, vae, settings.resume or Path(), progress=False)  # it writes nothing
        return settings.out or Path("runs")
    folder = settings.out or free_folder(f"{Path(source.data).stem}-{network.model}-{source.keep}")
    if settings.resume is None:
        if settings.config is not None:
            note_differences(read_config(settings.config), about, settings.config)
        claim(folder)
        save_config(vae, folder, **about)
    else:
        about = go_on(folder, source, about)
    with alone(folder):
        try:
            run(settings, whole, part, validation, vae, folder, about)
        except (Interrupted, KeyboardInterrupt) as stop:
            kind = Lost if isinstance(stop, Lost) else Interrupted
            raise kind(
                f"{str(stop) or 'stopped'}; to go on: pyro-ssvae train --resume {shlex.quote(str(folder))}"
            ) from None
        except (OSError, CannotWrite) as error:
            if settings.resume is None:
                abandon(folder)
            raise unfinished(folder, error) from None
        except InputError:
            if settings.resume is None:
                abandon(folder)
            raise
    return folder


def facts(settings: Train, whole: Dataset, part: Dataset) -> dict[str, Any]:
    """What ``config.json`` says of a run beside its model: all that is needed to repeat it."""
    return {
        "settings": {**asdict(settings), "out": None, "resume": None, "config": None},
        "command": shlex.join(["pyro-ssvae", *sys.argv[1:]]) if sys.argv[1:2] == ["train"] else None,
        "judged": judged(settings.source, whole, part),
        "points": datasets.digest(whole.x, whole.y, whole.x_test, whole.y_test),
        "fingerprint": datasets.fingerprint(part),
        "label_set": datasets.digest(part.y),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{name: installed(name) for name in PACKAGES},
        },
        "threads": torch.get_num_threads(),
    }


def installed(package: str) -> str:
    """The version of a package, empty where it runs without being installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def go_on(folder: Path, source: DataSettings, about: dict[str, Any]) -> dict[str, Any]:
    """The facts of a run that is gone on with: its own, where its data and label set are as they were."""
    begun = read_config(folder)
    if begun.get("fingerprint") != about["fingerprint"]:
        raise InputError(f"--resume {folder}: {source.data} has changed since it was begun; a new run is needed")
    note_differences(begun, about, folder)
    return {name: begun.get(name, value) for name, value in about.items()}


def check_unchanged(config: dict[str, Any], whole: Dataset, run: Path) -> None:
    """Raise :class:`InputError` where a run's data set is no longer the one that it was trained on."""
    points = datasets.digest(whole.x, whole.y, whole.x_test, whole.y_test)
    if config.get("points", points) != points:
        name = config["settings"]["source"]["data"]
        raise InputError(
            f"{run}: {name} has changed since this run; it is needed as it was then (evaluate --data takes any other)"
        )


def note_differences(begun: dict[str, Any], about: dict[str, Any], where: Path) -> None:
    """Say, on stderr, why a run will not give the same numbers as the one that has this configuration."""
    told = []
    if begun["settings"]["source"] == json.loads(json.dumps(about["settings"]["source"])):
        told += [name for name in ("fingerprint", "label_set") if begun.get(name) != about[name]]
    then = {**begun.get("versions", {}), "threads": begun.get("threads")}
    now = {**about["versions"], "threads": about["threads"]}
    told += [f"{name} {then.get(name)}, now {value}" for name, value in now.items() if then.get(name) != value]
    if told:
        words = ", ".join(told).replace("fingerprint", "data").replace("label_set", "label set")
        print(f"train: not bit for bit as {where}: other {words}", file=sys.stderr)


def unfinished(folder: Path, error: OSError | CannotWrite) -> InputError:
    """The error of a run that could not write, with the way to go on where it has a checkpoint."""
    said = error if isinstance(error, CannotWrite) else cannot_write(Path(error.filename or folder), error)
    if not checkpoints(folder / CHECKPOINT):
        return said
    return InputError(f"{said}; once that is mended: pyro-ssvae train --resume {shlex.quote(str(folder))}")


def fit_options(saving: CheckpointSettings) -> dict[str, Any]:
    """The settings of checkpoints as :func:`~.fit.fit` takes them."""
    return {
        "checkpoint_every": 60 * saving.checkpoint_minutes,
        "checkpoint_epochs": saving.checkpoint_epochs,
        "keep_checkpoints": saving.keep_checkpoints,
    }


def run(
    settings: Train,
    whole: Dataset,
    part: Dataset,
    validation: tuple[Tensor, Tensor],
    vae: Model,
    folder: Path,
    about: dict[str, Any],
) -> None:
    """Train, evaluate, and write all into the run's folder, ``metrics.json`` last: it says that the run has ended."""
    logger = None if settings.logger is None else loggers.tensorboard(folder / "tensorboard")
    on_epoch = None if logger is None else loggers.log_epochs(logger)
    history = fit_run(settings, part, validation, vae, folder, progress=not settings.quiet, on_epoch=on_epoch)
    save(vae, folder, **about)
    write_history(folder / "history.csv", history)
    test = evaluate(vae, whole.x_test, whole.y_test, **about["judged"])
    labelled = int((part.y != MISSING).reshape(len(part.y), -1).any(1).sum())
    epochs, seconds = len(history["epoch"]), history["seconds"][-1]
    metrics: dict[str, Any] = {
        "data": {"name": whole.name, "train": len(part.x), "labelled": labelled, "test": len(whole.x_test)},
        "train": {
            "seconds": seconds,
            "examples_per_second": epochs * len(part.x) / max(seconds, 1e-9),
            "epochs": epochs,
        },
        "test": test,
    }
    if settings.baseline and labelled and settings.network.model != "classifier":
        metrics["baseline"] = baseline(settings, whole, part, history, about["judged"])
    if logger is not None:
        for name in ("test", "baseline"):
            loggers.log_metrics(logger, metrics.get(name, {}), name, step=epochs)
    seen = whole if settings.source.leave_out is None else datasets.leave_out(whole, settings.source.leave_out)
    save_all(vae, history, test, seen.x_test, seen.y_test, folder / "figures")
    write_atomically(folder / "metrics.json", json.dumps(metrics, indent=2).encode())


def fit_run(
    settings: Train, part: Dataset, validation: tuple[Tensor, Tensor], vae: Model, folder: Path, **watching: Any
) -> History:
    """Train a run's model, from the checkpoint in its folder where it is gone on with and has one."""
    checkpoint = folder / CHECKPOINT
    return fit(
        vae, part.x, part.y, validation=validation, checkpoint=checkpoint,
        resume=settings.resume is not None and bool(checkpoints(checkpoint)),
        **fit_options(settings.saving), **asdict(settings.training), **watching,
    )  # fmt: skip


def judged(source: DataSettings, whole: Dataset, part: Dataset) -> dict[str, Any]:
    """What :func:`~.evaluate.evaluate` must be told: the classes that had labels, and those training never saw."""
    if not isinstance(whole.labels, ClassLabels):
        return {}
    classes = part.y[part.y != MISSING].unique().tolist()
    left_out = [] if source.leave_out is None else [list(whole.labels.names).index(source.leave_out)]
    every = len({*classes, *left_out}) == whole.labels.num_classes and len(classes) > 0
    return {"known_classes": None if every else classes, "left_out": left_out or None}


def check_network(network: ModelSettings) -> None:
    """Raise :class:`InputError` naming the option that cannot be used, before any data is read."""
    if network.model not in MODELS:
        raise InputError(f"--model: there is no {network.model!r}{nearest(network.model, MODELS)}")
    if network.label_dim is not None and network.label_dim < 1:
        raise InputError(f"--label-dim: {network.label_dim}; at least 1 is needed")
    if network.latent_dim < 1:
        raise InputError(f"--latent-dim: {network.latent_dim}; at least 1 is needed")
    if network.z_c_gradient is not None and not 0 <= network.z_c_gradient <= 1:
        raise InputError(f"--z-c-gradient: {network.z_c_gradient}; a share from 0 to 1 is needed")
    for name in ("alpha", "beta", "entropy_weight", "balance_weight", "steering", "subsets"):
        value = getattr(network, name)
        if value is not None and not 0 <= value < math.inf:
            raise InputError(f"--{name.replace('_', '-')}: {value}; a number of at least 0 is needed")
    for name, known in CHOICES.items():
        value = getattr(network, name)
        if value is not None and value not in known:
            raise InputError(f"--{name.replace('_', '-')}: there is no {value!r}{nearest(value, known)}")
    takes = inspect.signature(MODELS[network.model].__init__).parameters
    for name in given_options(network):
        if name not in takes:
            raise InputError(
                f"--{name.replace('_', '-')}: the model {network.model!r} has no such option; leave it out"
            )


def given_options(network: ModelSettings) -> dict[str, Any]:
    """The model's options that were given."""
    apart = ("model", "latent_dim", "classes")
    return {name: value for name, value in asdict(network).items() if value is not None and name not in apart}


def make_model(network: ModelSettings, part: Dataset, seed: int) -> Model:
    """The model of the settings, for data like ``part``."""
    pyro.set_rng_seed(seed)
    options: dict[str, Any] = {"latent_dim": network.latent_dim, **given_options(network)}
    return create_model(network.model, input_shape=part.input_shape, labels=part.labels, **options)


def baseline(
    settings: Train, whole: Dataset, part: Dataset, history: History, judged: dict[str, Any]
) -> dict[str, Any]:
    """The same trunk, augmentation and number of steps on the kept labels alone: its metrics on the test set."""
    training = settings.training
    rows = (part.y != MISSING).reshape(len(part.y), -1).any(1)
    if int(rows.sum()) < 2:
        return {}
    units: dict[str, Any] = {} if settings.network.likelihood is None else {"likelihood": settings.network.likelihood}
    pyro.set_rng_seed(training.seed)
    trunk = create_model("classifier", input_shape=part.input_shape, labels=part.labels, **units)
    size = training.batch_size
    steps = len(history["epoch"]) * (len(part.x) // min(size, len(part.x)))
    n = int(rows.sum())
    augment = MODELS[settings.network.model].augmentation if training.augment == "auto" else training.augment
    epochs = max(1, steps // (n // min(size, n)))
    own = replace(training, epochs=epochs, augment=augment, devices=1, num_nodes=1)
    started = time.monotonic()
    fit(trunk, part.x[rows], part.y[rows], progress=not settings.quiet, **asdict(own))
    seconds = time.monotonic() - started
    return {**evaluate(trunk, whole.x_test, whole.y_test, **judged), "seconds": seconds}


def write_history(path: Path, history: History) -> None:
    """Write the history as CSV; a value that was not measured is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(history)
    for row in zip(*history.values()):
        writer.writerow(["" if value != value else f"{value:.6g}" for value in row])
    write_atomically(path, text.getvalue().encode())
