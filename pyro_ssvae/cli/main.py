"""The command line: it parses and calls, and turns what went wrong into one line."""

from __future__ import annotations

import contextlib
import io
import json
import operator
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import torch
import tyro
from rich.console import Console
from rich.table import Table

from ..benchmark.steps import Benchmark, run_benchmark
from ..data import Dataset
from ..errors import InputError, nearest
from ..evaluation.evaluate import evaluate
from ..experiment.run import OptionalPath, OptionalStr, Train, check_unchanged, load_data, settings_of, train
from ..labels import MISSING, AttributeLabels, ClassLabels, Labels
from ..models import Model
from ..models.saving import load, read_config
from ..plots import summary as figures
from ..studies import STUDIES
from ..train.fit import Interrupted
from ..train.launch import Lost, leads
from .explore import Explore, run_explore
from .inspect import Inspect, run_inspect
from .intervene import (
    Intervene,
    Swap,
    Walk,
    check,
    judged_interventions,
    run_intervene,
    run_swap,
    run_walk,
    save_picture,
    show_interventions,
)
from .study import StudyCommand, run_study
from .suggest import Suggest, run_suggest

ABOUT = """Semi-supervised variational autoencoders on Pyro: many data points, few labels.

Example: pyro-ssvae train --data mnist --labels 100
"""

# What a table shows of the metrics: key, words, digits.
SHOWN = (
    ("accuracy", "accuracy", 4),
    ("majority_accuracy", "majority guess", 4),
    ("balanced_accuracy", "balanced accuracy", 4),
    ("macro_f1", "macro F1", 4),
    ("average_precision", "average precision", 4),
    ("auroc", "AUROC", 4),
    ("nll", "negative log-likelihood of the label (nats)", 4),
    ("calibration_error", "calibration error", 4),
    ("elbo", "ELBO (nats a point)", 2),
    ("log_likelihood", "importance-weighted bound (nats a point)", 2),
    ("reconstruction_error", "reconstruction error (mean square)", 5),
)


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a trained model on its own test set, or on other data.

    Example: pyro-ssvae evaluate runs/digits-augmented-50
    """

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    data: OptionalStr = None
    """Other data, as for train; its test part is used."""
    interventions: bool = False
    """Also judge interventions and swaps, with a classifier trained apart for it."""
    json: bool = False
    """Print all metrics as JSON."""


@dataclass(frozen=True)
class Generate:
    """Draw new points from a trained model, as a picture.

    Example: pyro-ssvae generate runs/digits-augmented-50 --label 3
    """

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    label: OptionalStr = None
    """What to draw: a class by name, or attributes such as Smiling=1,Male=0; by default a row for each."""
    n: int = 10
    """How many, or how many in each row."""
    out: OptionalPath = None
    """The picture's file (.png, .pdf or .svg), which must not exist; by default generated.png in the run's figures."""
    seed: int = 0
    """Of the draws."""


def parse(arguments: Sequence[str]) -> Any:
    """The command that the arguments name; a wrong one raises :class:`InputError` instead of tyro's box."""
    heard = io.StringIO()
    begun = settings_given(arguments)
    try:
        with contextlib.redirect_stderr(heard):
            kinds: Any = [Annotated[kind, tyro.conf.subcommand(name)] for name, (kind, _) in COMMANDS.items()]
            if begun is not None:
                kinds[list(COMMANDS).index("train")] = Annotated[Train, tyro.conf.subcommand("train", default=begun)]
            return tyro.cli(reduce(operator.or_, kinds), prog="pyro-ssvae", description=ABOUT, args=arguments)
    except SystemExit as error:
        if error.code in (0, None):
            raise
        words = " ".join(line.strip("│╰╯╭╮─ ") for line in heard.getvalue().splitlines())
        raise InputError(complaint(arguments, words)) from None


def settings_given(arguments: Sequence[str]) -> Train | None:
    """The settings of the run that ``train --config`` names; the other arguments are read on top of them."""
    given = [argument for argument in arguments if argument.partition("=")[0] == "--config"]
    if list(arguments[:1]) != ["train"] or not given:
        return None
    following = list(arguments)[list(arguments).index(given[-1]) + 1 :][:1]
    path = given[-1].partition("=")[2] or next(iter(following), "")
    return settings_of(read_config(Path(path)), Path(path)) if path else None


def complaint(arguments: Sequence[str], words: str) -> str:
    """What is wrong with arguments that tyro refused in these words."""
    command = next((argument for argument in arguments if not argument.startswith("-")), None)
    if command not in COMMANDS:
        if command is None:
            return f"a command is needed: {', '.join(COMMANDS)}; see pyro-ssvae --help"
        return f"there is no command {command!r}{nearest(command, COMMANDS)}"
    options = option_names(COMMANDS[command][0])
    see = f"see pyro-ssvae {command} --help"
    for argument in arguments:
        name = argument.split("=")[0].replace("_", "-")
        if re.match(r"--?[a-zA-Z]", name) and name not in [*options, "-n", "-h", "--help"]:
            close = nearest(name, options).replace("'", "")
            return f"{command}: there is no option {name}{close if 'mean' in close else f'; {see}'}"
    option = next(iter(re.findall(r"(?:parsing|argument) '?(--[a-z-]+)", words)), None)
    if option is not None:
        given = re.findall(r"from \['(.*?)'\]|base 10: '(.*?)'|to float: '(.*?)'", words)
        value = next((group for groups in given for group in groups if group), None)
        kind = options.get(option) or "a value"
        return f"{option}: {kind} is needed; {see}" if value is None else f"{option}: {value!r}; {kind} is needed"
    if "Unrecognized" in words:
        extra = re.sub(r".*?options:\s*", "", words).split(" ")[0].rstrip(",")
        return f"{command}: {extra!r} is one argument too many; {see}"
    if "Missing" in words:
        what = f"a study's name is needed: {', '.join(STUDIES)}" if command == "study" else "the run's folder is needed"
        return f"{command}: {what}; {see}"
    return f"{' '.join(words.split())[:300]}; {see}"


def option_names(command: Any) -> dict[str, str]:
    """A command's options and, in words, the values that they take."""
    kinds = {"int": "a whole number", "float": "a number", "Path": "a path", "str": "a word"}
    found: dict[str, str] = {}
    for field, kind in get_type_hints(command).items():
        name = field.removeprefix("num_").replace("_", "-")  # num_nodes is --nodes
        if hasattr(kind, "__dataclass_fields__"):
            found |= option_names(kind)
        elif kind is bool:
            found |= {f"--{name}": "no value", f"--no-{name}": "no value"}
        else:
            words = [said for word, said in kinds.items() if re.search(rf"\b{word}\b", str(kind))]
            found[f"--{name}"] = words[0] if words else "a value"
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status: 0, 1 where cells failed or a process was lost, 2 for bad input, 130
    if stopped."""
    try:
        command = parse(sys.argv[1:] if arguments is None else arguments)
        with warnings.catch_warnings():
            # Pyro's, on what a message of our own says, and on units that are not trained.
            warnings.filterwarnings("ignore", "Encountered .*(NaN|inf)|.* was not registered in the param store")
            run = next(run for kind, run in COMMANDS.values() if isinstance(command, kind))
            return run(command) or 0
    except InputError as error:
        print(f"pyro-ssvae: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:  # a disk that is full or read-only, where nobody else has said so
        print(f"pyro-ssvae: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except Interrupted as error:
        print(f"pyro-ssvae: {error}", file=sys.stderr)
        return 1 if isinstance(error, Lost) else 130
    except KeyboardInterrupt:
        print("pyro-ssvae: stopped", file=sys.stderr)
        return 130


def run_train(command: Train) -> None:
    """``pyro-ssvae train``."""
    folder = train(command)
    if not leads(command.training):
        return
    metrics = json.loads((folder / "metrics.json").read_text())
    counts = metrics["data"]
    rows = f"{counts['train']} points, {counts['labelled']} with a label; {counts['test']} test points"
    show(f"{counts['name']}: {rows}", {"test": metrics["test"], "labels alone": metrics.get("baseline")})
    took = metrics["train"]
    print(f"{took['epochs']} epochs in {took['seconds']:.1f} s, {took['examples_per_second']:.0f} points a second")
    print(f"run: {folder}\nfigures: {folder / 'figures'}")


def run_evaluate(command: Evaluate) -> None:
    """``pyro-ssvae evaluate``."""
    config = read_config(command.run)
    source = settings_of(config, command.run).source
    model = load(command.run)
    size: Any = source.image_size
    if command.data is not None and Path(command.data).is_dir() and len(model.input_shape) == 3:
        size = model.input_shape[1:]
    whole = load_data(replace(source, data=command.data or source.data, image_size=size))
    if whole.input_shape != model.input_shape:
        shapes = f"{list(whole.input_shape)}; the model needs {list(model.input_shape)}"
        raise InputError(f"--data {command.data or source.data}: its points have shape {shapes}")
    if command.data is None:
        check_unchanged(config, whole, command.run)
    y_test = whole.y_test if model.labels is None else numbered_as(model.labels, whole)
    judged = config.get("judged")
    if not isinstance(judged, dict) or not judged.keys() <= {"known_classes", "left_out"}:
        raise InputError(f"{command.run / 'config.json'}: it is not a run's configuration ('judged' is missing)")
    metrics = evaluate(model, whole.x_test, y_test, **judged)
    if command.interventions:
        name = command.data or source.data
        metrics["interventions"] = judged_interventions(command.run, model, whole, name, progress=not command.json)
    if command.json:
        print(json.dumps(metrics, indent=2))
    else:
        show(f"{command.run} on {whole.name}: {len(whole.x_test)} test points", {"test": metrics})
        if command.interventions:
            show_interventions(metrics["interventions"])


def numbered_as(labels: Labels, whole: Dataset) -> torch.Tensor:
    """The test labels of a data set by the numbers that the model has for their names."""
    y, names, known = whole.y_test, list(whole.labels.names), list(labels.names)
    same = isinstance(labels, ClassLabels) == isinstance(whole.labels, ClassLabels)
    if isinstance(labels, AttributeLabels) or not same:
        if not same or names != known:
            raise InputError(f"--data: {whole.name} has labels {', '.join(names)[:200]}; the model's differ")
        return y
    for k in y[y != MISSING].unique().tolist():
        if names[k] not in known:
            raise InputError(f"--data: {whole.name} has a class {names[k]!r}{nearest(names[k], known)}")
    numbers = [known.index(name) if name in known else MISSING for name in names]
    return torch.where(y == MISSING, y, torch.tensor(numbers)[y.clamp_min(0)])


def run_generate(command: Generate) -> None:
    """``pyro-ssvae generate``."""
    check(command, n=(1, 1000))
    model = load(command.run)
    if not hasattr(model, "generate"):
        raise InputError(f"{command.run}: a {type(model).__name__.lower()} generates nothing; another run is needed")
    if command.label is None:
        figure = figures.samples_by_class(model, n_per_class=command.n, seed=command.seed)
    else:
        label = asked_label(model, command.label)
        figure = figures.samples(model, command.n, label, seed=command.seed, title=command.label)
    print(f"picture: {save_picture(figure, command.out, command.run, 'generated')}")


def asked_label(model: Model, words: str) -> torch.Tensor:
    """The label of a class's name, or of attributes such as ``Smiling=1,Male=0``."""
    labels = model.labels
    if labels is None or not hasattr(model, "predict_proba"):
        raise InputError(f"--label {words}: this model knows no labels; leave the option out")
    names = list(labels.names)
    if isinstance(labels, ClassLabels):
        if words not in names:
            raise InputError(f"--label: there is no class {words!r}{nearest(words, names)}")
        return torch.tensor(names.index(words))
    y = torch.full((len(names),), MISSING)
    for word in words.split(","):
        name, _, value = word.strip().partition("=")
        if name not in names:
            raise InputError(f"--label: there is no attribute {name!r}{nearest(name, names)}")
        if value not in ("", "0", "1"):
            raise InputError(f"--label {word}: {name}=0 or {name}=1 is needed")
        y[names.index(name)] = int(value or 1)
    return y


def show(title: str, columns: dict[str, dict[str, Any] | None]) -> None:
    """Print metrics side by side."""
    columns = {name: metrics for name, metrics in columns.items() if metrics}
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for key, words, digits in SHOWN:
        cells = [metrics.get(key) for metrics in columns.values() if metrics is not None]
        if any(cell is not None for cell in cells):
            table.add_row(words, *("" if cell is None else f"{cell:.{digits}f}" for cell in cells))
    for group in ("clustering", "semi_unsupervised", "anomaly"):
        first = next(iter(columns.values())) or {}
        for key, value in (first.get(group) or {}).items():
            if isinstance(value, float):
                table.add_row(f"{group.replace('_', '-')}: {key.replace('_', ' ')}", f"{value:.4f}")
    Console().print(table)


# Each command's options and what runs it: its exit status, or None for 0.
COMMANDS: dict[str, tuple[Any, Callable[[Any], int | None]]] = {
    "train": (Train, run_train),
    "evaluate": (Evaluate, run_evaluate),
    "generate": (Generate, run_generate),
    "intervene": (Intervene, run_intervene),
    "swap": (Swap, run_swap),
    "walk": (Walk, run_walk),
    "inspect": (Inspect, run_inspect),
    "explore": (Explore, run_explore),
    "suggest": (Suggest, run_suggest),
    "study": (StudyCommand, run_study),
    "benchmark": (Benchmark, run_benchmark),
}


if __name__ == "__main__":
    sys.exit(main())
