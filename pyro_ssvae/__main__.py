"""The command line: it parses and calls, and turns what went wrong into one line."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from . import data as datasets
from .errors import InputError
from .evaluate import evaluate
from .fit import Interrupted
from .labels import ClassLabels
from .saving import load, read_config
from .train import Train, settings_of, train

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
    data: str | None = None
    """Other data, as for train; its test part is used."""
    json: bool = False
    """Print all metrics as JSON."""


@dataclass(frozen=True)
class Generate:
    """Draw new points from a trained model, as a picture.

    Example: pyro-ssvae generate runs/digits-augmented-50 --label 3
    """

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    label: str | None = None
    """The class to draw from, by name; by default a row for each."""
    n: int = 10
    """How many."""
    out: Path | None = None
    """The picture's file; by default generated.png in the run's figures."""
    seed: int = 0
    """Of the draws."""


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Generate, tyro.conf.subcommand("generate")]
)


def parse(arguments: Sequence[str]) -> Any:
    """The command that the arguments name; a wrong one raises :class:`InputError` instead of tyro's box."""
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            return tyro.cli(Command, prog="pyro-ssvae", args=arguments)  # type: ignore[call-overload]
    except SystemExit as error:
        if error.code in (0, None):
            raise
        lines = [line.strip("│ ╰╯╭╮─ ").strip() for line in heard.getvalue().splitlines()]
        body = [line for line in lines[1:] if line]
        raise InputError(" ".join(body)[:300] or "the arguments cannot be used; see pyro-ssvae --help") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status: 0, 2 for input that cannot be used, 130 after a signal."""
    try:
        command = parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(command, Train):
            run_train(command)
        elif isinstance(command, Evaluate):
            run_evaluate(command)
        else:
            run_generate(command)
        return 0
    except InputError as error:
        print(f"pyro-ssvae: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except Interrupted as error:
        print(f"pyro-ssvae: {error}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("pyro-ssvae: stopped", file=sys.stderr)
        return 130


def run_train(command: Train) -> None:
    """``pyro-ssvae train``."""
    folder = train(command)
    metrics = json.loads((folder / "metrics.json").read_text())
    counts = metrics["data"]
    title = f"{counts['name']}: {counts['train']} points, {counts['labelled']} with a label; {counts['test']} test points"
    show(title, {"test": metrics["test"], "labels alone": metrics.get("baseline")})
    took = metrics["train"]
    print(f"{took['epochs']} epochs in {took['seconds']:.1f} s, {took['examples_per_second']:.0f} points a second")
    print(f"run: {folder}\nfigures: {folder / 'figures'}")


def run_evaluate(command: Evaluate) -> None:
    """``pyro-ssvae evaluate``."""
    model = load(command.run)
    source = settings_of(read_config(command.run), command.run).source
    whole = datasets.load(command.data or source.data, image_size=source.image_size)
    if command.data is not None and model.labels is not None and list(whole.labels.names) != list(model.labels.names):
        raise InputError(f"--data {command.data}: its labels are {', '.join(whole.labels.names)}; the model's differ")
    left_out = None
    if source.leave_out is not None and isinstance(whole.labels, ClassLabels):
        left_out = [list(whole.labels.names).index(source.leave_out)]
    metrics = evaluate(model, whole.x_test, whole.y_test, left_out=left_out)
    if command.json:
        print(json.dumps(metrics, indent=2))
    else:
        show(f"{command.run} on {whole.name}: {len(whole.x_test)} test points", {"test": metrics})


def run_generate(command: Generate) -> None:
    """``pyro-ssvae generate``."""
    raise NotImplementedError


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


if __name__ == "__main__":
    sys.exit(main())
