"""The commands ``intervene``, ``swap`` and ``walk``, and the interventions of ``evaluate``: from a run to a picture."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..data import Dataset, factors_of
from ..data.augment import unit_scale
from ..data.images import decode
from ..errors import InputError, nearest
from ..evaluation.interventions import evaluate_interventions
from ..evaluation.oracle import judge_for
from ..experiment.run import OptionalInt, OptionalPath, OptionalStr, check_unchanged, load_data, settings_of
from ..labels import ClassLabels
from ..models import Model
from ..models.saving import load, read_config
from ..plots import interventions as pictures

GIVEN = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="STR", help_behavior_hint="")]


@dataclass(frozen=True)
class Intervene:
    """Set attributes of an image and draw what it would look like.

    Example: pyro-ssvae intervene runs/avatars-revae-0.2 --image me.png --set Glasses=1 --set Hat=0
    """

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    image: OptionalPath = None
    """The image's file; it is cut and scaled to the model's input."""
    index: OptionalInt = None
    """A row of the run's test set, in place of a file."""
    set: GIVEN = ()
    """NAME=0 or NAME=1, once for each attribute to set together; a class's name. By default each in turn."""
    draws: int = 8
    """How often the intervention is drawn."""
    out: OptionalPath = None
    """The picture's file (.png, .pdf or .svg), which must not exist; by default a new one in the run's figures."""
    seed: int = 0
    """Of the draws."""


@dataclass(frozen=True)
class Swap:
    """Give an image the characteristic of a donor: its glasses, not just some glasses.

    Example: pyro-ssvae swap runs/avatars-revae-0.2 --index 0 --donor-index 4 --attribute Glasses
    """

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    image: OptionalPath = None
    """The receiver's file; it is cut and scaled to the model's input."""
    index: OptionalInt = None
    """A row of the run's test set, in place of a file."""
    donor: OptionalPath = None
    """The donor's file."""
    donor_index: OptionalInt = None
    """The donor's row of the run's test set, in place of a file."""
    attribute: OptionalStr = None
    """Whose characteristic; a model with class labels has one, of all classes."""
    out: OptionalPath = None
    """The picture's file (.png, .pdf or .svg), which must not exist; by default a new one in the run's figures."""
    seed: int = 0
    """Of the encoding's noise, where a model has any."""


@dataclass(frozen=True)
class Walk:
    """Walk an image along one attribute, or over the plane of two.

    Example: pyro-ssvae walk runs/avatars-revae-0.2 --index 0 --attribute Smiling --second Long_Hair
    """

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    image: OptionalPath = None
    """The image's file; it is cut and scaled to the model's input."""
    index: OptionalInt = None
    """A row of the run's test set, in place of a file."""
    attribute: OptionalStr = None
    """Along the columns."""
    second: OptionalStr = None
    """Along the rows."""
    steps: int = 7
    """Images along each way."""
    out: OptionalPath = None
    """The picture's file (.png, .pdf or .svg), which must not exist; by default a new one in the run's figures."""
    seed: int = 0
    """Of the encoding's noise, where a model has any."""


def run_intervene(command: Intervene) -> None:
    """``pyro-ssvae intervene``."""
    check(command, draws=(1, 100))
    model = loaded(command.run, "intervene")
    values = asked_values(model, command.set)
    x = asked_image(command.run, model, "--image", command.image, "--index", command.index)
    if values is None:
        figure = pictures.interventions(model, x, seed=command.seed)
    else:
        figure = pictures.intervention_draws(model, x, values, command.draws, seed=command.seed)
    print(f"picture: {save_picture(figure, command.out, command.run, 'intervention')}")


def run_swap(command: Swap) -> None:
    """``pyro-ssvae swap``."""
    check(command)
    model = loaded(command.run, "swap")
    name = asked_attribute(model, "--attribute", command.attribute)
    x = asked_image(command.run, model, "--image", command.image, "--index", command.index)
    donor = asked_image(command.run, model, "--donor", command.donor, "--donor-index", command.donor_index)
    figure = pictures.swaps(model, x, donor, name, seed=command.seed)
    print(f"picture: {save_picture(figure, command.out, command.run, 'swap')}")


def run_walk(command: Walk) -> None:
    """``pyro-ssvae walk``."""
    check(command, steps=(2, 25))
    model = loaded(command.run, "walk")
    if isinstance(model.labels, ClassLabels):
        raise InputError(f"{command.run}: a walk goes along attributes; this model has class labels")
    first = asked_attribute(model, "--attribute", command.attribute)
    second = None if command.second is None else asked_attribute(model, "--second", command.second)
    if first == second:
        raise InputError(f"--second {second}: it is the first attribute too; another is needed")
    x = asked_image(command.run, model, "--image", command.image, "--index", command.index)
    figure = pictures.walk(model, x, first, second, steps=command.steps, seed=command.seed)
    print(f"picture: {save_picture(figure, command.out, command.run, 'walk')}")


def check(command: Any, **bounds: tuple[int, int]) -> None:
    """Raise :class:`InputError` for numbers out of bounds and for an ``--out`` that cannot be taken."""
    for name, (low, high) in {"seed": (0, 2**32 - 1), **bounds}.items():
        value = getattr(command, name)
        if not low <= value <= high:
            raise InputError(f"--{name}: {value}; a whole number from {low} to {high} is needed")
    out = command.out
    if out is not None and out.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"--out {out}: a name that ends in .png, .pdf or .svg is needed")
    if out is not None and os.path.lexists(out):
        raise InputError(f"--out {out}: this file is there already; another name is needed")


def loaded(run: Path, verb: str) -> Model:
    """The model of a run; raise :class:`InputError` where it does not have the verb."""
    model = load(run)
    if not hasattr(model, verb):
        name = (model.config or {}).get("name", type(model).__name__.lower())
        raise InputError(f"{run}: {verb}: the model {name!r} {pictures.unable(verb)}")
    if len(model.input_shape) != 3 or model.input_shape[0] not in (1, 3):
        raise InputError(f"{run}: {verb} draws images; this model's points have shape {list(model.input_shape)}")
    return model


def asked_values(model: Model, given: tuple[str, ...]) -> dict[str, int] | str | None:
    """What ``--set`` asks for: attributes and their values, or a class; None for nothing."""
    if not given:
        return None
    names = list(model.labels.names if model.labels is not None else ())
    if isinstance(model.labels, ClassLabels):
        word = given[-1].removeprefix("class=")
        if len(given) > 1 or word not in names:
            raise InputError(f"--set {' '.join(given)}: one class is needed{nearest(word, names)}")
        return word
    values: dict[str, int] = {}
    for word in given:
        name, _, value = word.rpartition("=") if "=" in word else (word, "", "")
        if name not in names:
            raise InputError(f"--set: there is no attribute {name!r}{nearest(name, names)}")
        if value not in ("0", "1"):
            raise InputError(f"--set {word}: {name}=0 or {name}=1 is needed")
        if values.get(name, int(value)) != int(value):
            raise InputError(f"--set {word}: {name}={values[name]} is asked for too; one of the two is needed")
        values[name] = int(value)
    return values


def asked_attribute(model: Model, option: str, name: str | None) -> str:
    """The attribute that an option names; a model with class labels has one characteristic, ``class``."""
    labels = model.labels
    assert labels is not None
    if isinstance(labels, ClassLabels):
        if name not in (None, "class"):
            raise InputError(f"{option} {name}: this model has class labels, and one characteristic; leave it out")
        return "class"
    if name is None:
        raise InputError(f"{option}: an attribute is needed (known: {', '.join(labels.names)})")
    if name not in labels.names:
        raise InputError(f"{option}: there is no attribute {name!r}{nearest(name, labels.names)}")
    return name


def asked_image(
    run: Path, model: Model, file_option: str, file: Path | None, index_option: str, index: int | None
) -> Tensor:
    """The image of a file, or of the run's test set, as the model takes it: floats ``[1, C, H, W]``."""
    if (file is None) == (index is None):
        raise InputError(f"{file_option}, {index_option}: one of the two is needed, an image's file or a test point")
    if file is not None:
        if not file.is_file():
            what = "it is a folder" if file.is_dir() else "no such file"
            raise InputError(f"{file_option} {file}: {what}; an image's file is needed")
        channels, height, width = model.input_shape
        pixels = decode(file, grey=channels == 1, size=(height, width))
        return unit_scale(torch.from_numpy(pixels.copy())).unsqueeze(0)
    x = run_data(run, model).x_test
    assert index is not None
    if not 0 <= index < len(x):
        raise InputError(f"{index_option}: {index}; a test point from 0 to {len(x) - 1} is needed")
    return unit_scale(x[index : index + 1])


def run_data(run: Path, model: Model) -> Dataset:
    """The data set that a run was trained on, with all its labels."""
    config = read_config(run)
    source = settings_of(config, run).source
    whole = load_data(source)
    if whole.input_shape != model.input_shape:
        shapes = f"{list(whole.input_shape)}; the model needs {list(model.input_shape)}"
        raise InputError(f"{source.data}: its points have shape {shapes}")
    check_unchanged(config, whole, run)
    return whole


def save_picture(figure: Figure, out: Path | None, run: Path, stem: str) -> Path:
    """Write a figure to ``out``, by default to a new file in the run's figures; nothing is overwritten."""
    numbers = (f"-{i}" if i > 1 else "" for i in range(1, 1_000_000))
    names = (run / "figures" / f"{stem}{number}.png" for number in numbers)
    path = out or next(name for name in names if not os.path.lexists(name))
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(picture.getvalue())
    except OSError as error:
        raise InputError(f"--out {path}: it cannot be written ({error.strerror})") from None
    return path


def judged_interventions(
    run: Path, model: Model, whole: Dataset, data: str, *, progress: bool = True, **options: Any
) -> dict[str, Any]:
    """``pyro-ssvae evaluate RUN --interventions``: what :func:`~.interventions.evaluate_interventions` returns.

    The judge learns from all of the training points; it is kept beside the data, so that a data set has one.

    :param data: what ``--data`` named ``whole`` by.
    :param options: those of :func:`~.interventions.evaluate_interventions`.
    """
    if not hasattr(model, "intervene"):
        name = (model.config or {}).get("name", type(model).__name__.lower())
        raise InputError(f"--interventions: the model {name!r} has none; a run of revae, m2, mvae or diva is needed")
    train, test = factors_of(data) or (None, None)
    folder = Path(os.environ.get("PYRO_SSVAE_DATA") or "data") / "judges"
    judge = judge_for(whole, train, folder=folder, progress=progress)
    return evaluate_interventions(model, judge, whole.x_test, whole.y_test, test, **options)


SHOWN = (
    ("success", "success"),
    ("preservation", "others preserved"),
    ("preservation_labels", "others as labelled"),
    ("preservation_kinds", "other kinds preserved"),
    ("carry_over", "kind carried over"),
    ("carry_over_without", "to points without"),
    ("diversity_pixels", "variance a pixel"),
    ("diversity_features", "variance a feature"),
)


def show_interventions(metrics: dict[str, Any]) -> None:
    """Print the metrics of interventions as a table: means with everything beside them, then one row an attribute."""
    about = f"{metrics['points']} test points, {metrics['draws']} draws each"
    note = "real, recon.: the ceiling, what the judge reads on real points and on reconstructions"
    table = Table(title=f"interventions, as the judge reads them: {about}", title_justify="left", caption=note)
    table.add_column("", no_wrap=True)
    for column in ("mean", "95% interval", "chance", "real", "recon."):
        table.add_column(column, justify="right", no_wrap=True)

    def cell(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}" if value >= 0.1 or value == 0 else f"{value:.2g}"

    for key, words in SHOWN:
        if key in metrics:
            m = metrics[key]["mean"]
            between = "" if m["low"] is None else f"{cell(m['low'])}–{cell(m['high'])}"
            best = [cell(m["ceiling"][name]) for name in ("real", "reconstruction")]
            table.add_row(words, cell(m["value"]), between, cell(m["chance"]), *best)
    Console().print(table)
    kind = "per_class" if "per_class" in metrics["success"] else "per_attribute"
    columns = [(key, words) for key, words in SHOWN if kind in metrics.get(key, {}) and "variance" not in words]
    table = Table()
    table.add_column("")
    for _, words in columns:
        table.add_column(words, justify="right")
    for name in metrics["success"][kind]:
        table.add_row(name, *(cell(metrics[key][kind][name]["value"]) for key, _ in columns))
    Console().print(table)
    if "carry_over" in metrics:
        table = Table()
        for column in ("kind", "of", "carried over", "chance", "to points without"):
            table.add_column(column, justify="left" if column in ("kind", "of") else "right")
        without = metrics.get("carry_over_without", {}).get("per_factor", {})
        for name, m in metrics["carry_over"]["per_factor"].items():
            other = cell(without[name]["value"]) if name in without else ""
            table.add_row(name, m["attribute"], cell(m["value"]), cell(m["chance"]), other)
        Console().print(table)
