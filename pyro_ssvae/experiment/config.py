"""What an experiment is made of, with the same names in Python, in the shell and in ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, get_type_hints

from ..data.sources import NAMES
from ..data.splits import BALANCED
from ..errors import InputError, nearest
from ..models import MODELS, check_option
from ..models.classifier import ClassifierConfig
from ..models.config import Config, HeadConfig, has_type, make_config
from ..models.saved_config import config_file, other_version
from ..train.checkpoints import CheckpointSettings
from ..train.settings import FitSettings

Json: TypeAlias = dict[str, Any]
"""A JSON object."""
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class DataConfig:
    """Which data, and how many of its labels."""

    data: str = "digits"
    """digits, imbalanced-digits, marked-digits, mnist, fashion-mnist, cifar10, svhn, celeba, har, har-windows,
    breast-cancer, wine, counts, avatars, or the path of a table (.csv, .tsv, .parquet, .feather), an .npz or .h5ad file
    or a folder."""
    labels: str | None = None
    """How many known labels are kept: all, 0, a count, or a fraction; by default 50, of your own data all."""
    labels_by: str = "proportional"
    """How many labels of each class are kept: proportional (the classes' own shares, at least one each), or balanced
    (the same number; p(y) is then estimated from the rows without a label alone)."""
    target: tuple[str, ...] = ()
    """Of a table, or an .h5ad file's obs: the column of labels (classes, by any words), or several (attributes, of two
    words each)."""
    id: str | None = None
    """Of a table: the column that names the rows."""
    columns: tuple[str, ...] = ()
    """Of a table: the kinds of columns that were inferred wrongly, such as age=count job=category zip=leave-out; of
    other data, for likelihood mixed: the kind of each column in turn, such as normal categorical:3."""
    hide_classes: tuple[str, ...] = ()
    """Classes of which no label is kept, to be found from the data alone."""
    label_file: tuple[str, ...] = ()
    """A CSV file with further labels of training points, as suggest writes it; may be given several times."""
    leave_out: str | None = None
    """A class that training does not see at all, for anomaly detection."""
    image_size: int | None = None
    """Images are converted to squares of this side; by default as their sizes suggest."""
    layout: str | None = None
    """Which axis of your own arrays is which: nchw, nhwc, nhw (pictures), nct or ntc (series of C channels); by default
    as their shape and values suggest, which is said."""
    attributes: tuple[str, ...] = ()
    """Which of the data's attributes, and in which order; by default all, of celeba the paper's 18."""
    classes: int | None = None
    """Number of classes K, where it exceeds those that the data names; without any label 10, or this."""

    @property
    def keep(self) -> str:
        """``labels``, with its default."""
        return self.labels or ("50" if self.data.partition(":")[0] in NAMES else "all")


@dataclass(frozen=True)
class ModelConfig:
    """Which model, with its own options."""

    name: str = "augmented"
    """A name in :data:`~pyro_ssvae.models.MODELS`."""
    options: Config = field(default_factory=lambda: model_options("augmented"))
    """Of that model's ``Config``."""


@dataclass(frozen=True)
class ExperimentConfig:
    """An experiment: data, model, training, and where its results go."""

    source: DataConfig = field(default_factory=DataConfig)
    network: ModelConfig = field(default_factory=ModelConfig)
    training: FitSettings = field(default_factory=FitSettings)
    saving: CheckpointSettings = field(default_factory=CheckpointSettings)
    baseline: bool = True
    """Also train the same trunk on the kept labels alone."""
    calibration: bool = True
    """Calibrate the probabilities, and what prediction sets are cut at, on labels that training did not learn from;
    with fewer than 20 of them by five further trainings."""
    figures: bool = True
    """Draw the run's figures."""
    logger: str | None = None
    """tensorboard, mlflow or wandb: write each epoch's numbers, and the metrics, for it to show; into the run's folder
    (mlflow: to MLFLOW_TRACKING_URI, where that is set)."""
    out: Path | None = None
    """The run's folder, which must not hold a run; by default a new one in runs/."""
    resume: Path | None = None
    """The folder of a run that was stopped: go on with it, with its own settings; --devices may be another. With
    --epochs N, of all epochs, a run that has ended goes on too, and --label-file adds labels."""
    config: Path | None = None
    """A run's config.json: repeat that run, in a new folder; the options given beside it win over it."""
    quiet: bool = False
    """No progress bar."""

    def recorded(self) -> Json:
        """Return what ``config.json`` says of the settings: all that is needed to repeat the run."""
        every = asdict(self)
        parts = ("source", "network", "training", "saving", "baseline", "calibration", "figures", "logger")
        return {name: every[name] for name in parts}


def model_options(name: str, given: Mapping[str, object] | None = None) -> Config:
    """Return a model's options, those that are not given at their defaults.

    :raises InputError: naming an option that another model has, or none, or whose value is out of range.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise InputError(f"model: there is no {name!r}{nearest(str(name), MODELS)}")
    options = dict(given or {})
    for option in options:
        check_option(name, option)
    return make_config(MODELS[name].Config, options)


def network_for(network: ModelConfig, source: DataConfig, hidden: bool) -> ModelConfig:
    """Return the model's settings for labels of this source, where p(y) is to be estimated.

    Labels that were drawn class by class (``labels_by``), or chosen (``label_file``), say nothing of the classes'
    frequencies. Those that keep the classes' proportions say them exactly.

    :param hidden: whether the labels are kept ones of classes that all rows had.
    """
    options = network.options
    if not isinstance(options, (HeadConfig, ClassifierConfig)) or options.label_prior != "estimated":
        return network
    if source.labels_by == BALANCED or source.label_file:
        return replace(network, options=replace(options, label_prior="unlabelled"))
    return replace(network, options=replace(options, label_prior="proportional")) if hidden else network


def experiment_of(config: Json, where: str | Path) -> ExperimentConfig:
    """Return the settings that a run's ``config.json`` holds.

    :param where: the run's folder or its configuration's file.
    :raises InputError: naming the file, where it holds anything else.
    """
    try:
        saved = config["settings"]
        network, baseline, logger = saved["network"], saved["baseline"], saved["logger"]
        calibration, figures = saved.get("calibration", True), saved.get("figures", True)
        switches = all(isinstance(each, bool) for each in (baseline, calibration, figures))
        if not switches or not isinstance(logger, (str, type(None))):
            raise TypeError("baseline, calibration, figures or logger")
        options = {name: as_setting(value) for name, value in network["options"].items()}
        return ExperimentConfig(
            source=read_settings(DataConfig, saved["source"]),
            network=ModelConfig(network["name"], model_options(network["name"], options)),
            training=read_settings(FitSettings, saved["training"]),
            saving=read_settings(CheckpointSettings, saved["saving"]),
            baseline=baseline,
            calibration=calibration,
            figures=figures,
            logger=logger,
        )
    except (KeyError, TypeError, AttributeError, OverflowError, InputError) as error:
        why = other_version(config, "settings")
        raise InputError(f"{config_file(where)}: it is not a run's configuration ({str(error)[:300]}){why}") from None


def read_settings(kind: type[Settings], saved: object) -> Settings:
    """Return a dataclass of settings with the values of a JSON object, which may be of any kind.

    :raises TypeError: naming the field that is unknown, or has a value of another type.
    """
    if not isinstance(saved, dict):
        raise TypeError(f"{kind.__name__} is {str(saved)[:40]!r}")
    hints, values = get_type_hints(kind), {}
    for name, saved_value in saved.items():
        value = as_setting(saved_value)
        if name not in hints:
            raise TypeError(f"there is no setting {name[:40]!r}")
        if not has_type(value, hints[name]):
            raise TypeError(f"{name} is {str(value)[:40]!r}")
        values[name] = value
    return kind(**values)


def as_setting(value: object) -> object:
    """Return a JSON value as settings have it: a list as a tuple."""
    return tuple(value) if isinstance(value, list) else value
