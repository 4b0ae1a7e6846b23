"""Evaluate a trained model on its own test set, or on other data.

Example: pyro-ssvae evaluate runs/digits-augmented-50
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ..errors import InputError
from .arguments import read
from .pictures import able
from .tables import show_interventions, show_metrics

if TYPE_CHECKING:
    from ..data import Dataset
    from ..experiment.config import DataConfig, Json
    from ..models import Model

LEAKAGE_POINTS = 100  # receivers of each swap whose kinds are read


@dataclass(frozen=True)
class Evaluate:
    """The command's options."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    data: str | None = None
    """Other data, as for train; its test part is used."""
    interventions: bool = False
    """Also evaluate interventions and swaps, as an oracle, a classifier trained apart for it, reads them."""
    json: bool = False
    """Print all metrics as JSON."""


def parse(arguments: Sequence[str]) -> Evaluate:
    """Return the options that were typed."""
    return read("evaluate", Evaluate, arguments, __doc__)


def run(options: Evaluate) -> None:
    """Print the metrics."""
    import json

    from ..evaluation.evaluate import evaluate
    from ..experiment.config import experiment_of
    from ..experiment.data import check_unchanged, renumbered
    from ..experiment.oracle import intervention_metrics
    from ..infer.protocols import Intervenes
    from ..models.saving import load, read_config

    config = read_config(options.run)
    source = experiment_of(config, options.run).source
    model = load(options.run)
    data = options.data or source.data
    dataset = test_data(model, source, options.data)
    if options.data is None:
        check_unchanged(config, dataset, options.run)
    y_test = dataset.y_test if model.labels is None else renumbered(model.labels, dataset)
    metrics = evaluate(model, dataset.x_test, y_test, **evaluation_options(config, options.run))
    if options.interventions:
        able(options.run, model, Intervenes)
        metrics["interventions"] = intervention_metrics(
            model, dataset, data, progress=not options.json, leakage_points=LEAKAGE_POINTS
        )
    if options.json:
        print(json.dumps(metrics, indent=2))
        return
    show_metrics(f"{options.run} on {dataset.name}: {len(dataset.x_test)} test points", {"test": metrics})
    if options.interventions:
        show_interventions(metrics["interventions"])


def test_data(model: Model, source: DataConfig, other: str | None) -> Dataset:
    """Return a run's data set, or other data; images of a folder in the model's size."""
    from .. import data as datasets
    from ..experiment.data import check_shape, load_data

    if other is None:
        dataset = load_data(source)
    elif Path(other).is_dir() and len(model.input_shape) == 3:
        _, height, width = model.input_shape
        dataset = datasets.load(other, image_size=(height, width), attributes=source.attributes or None)
    else:
        dataset = load_data(replace(source, data=other))
    check_shape(model, dataset, f"--data {other or source.data}")
    return dataset


def evaluation_options(config: Json, run: Path) -> Json:
    """Return what a run's ``config.json`` says of its classes."""
    found = config.get("evaluation")
    if not isinstance(found, dict) or not found.keys() <= {"known_classes", "left_out"}:
        raise InputError(f"{run / 'config.json'}: it is not a run's configuration ('evaluation' is missing)")
    return found
