"""Evaluate a trained model on its own test set, or on other data.

Example: pyro-ssvae evaluate runs/digits-augmented-50
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ..errors import InputError, counted
from .arguments import read
from .pictures import able
from .tables import show_interventions, show_metrics

if TYPE_CHECKING:
    from torch import Tensor

    from ..experiment.config import Json
    from ..experiment.predictions import TrainedRun

LEAKAGE_POINTS = 100  # receivers of each swap whose kinds are read


@dataclass(frozen=True)
class Evaluate:
    """The command's options."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    data: str | None = None
    """Other data, as for predict: all its rows are used, or those that it sets apart for the test (x_test, split)."""
    interventions: bool = False
    """Also evaluate interventions and swaps, as an oracle, a classifier trained apart for it, reads them."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or mps."""
    json: bool = False
    """Print all metrics as JSON."""


def parse(arguments: Sequence[str]) -> Evaluate:
    """Return the options that were typed."""
    return read("evaluate", Evaluate, arguments, __doc__)


def run(options: Evaluate) -> None:
    """Print the metrics."""
    import json

    from ..evaluation.evaluate import evaluate
    from ..experiment.predictions import read_run
    from ..experiment.reliability import judged
    from ..infer.protocols import Intervenes

    trained = read_run(options.run, options.device)
    model, told = trained.model, recorded_classes(trained.config, options.run)
    if options.interventions:
        able(options.run, model, Intervenes)
    x, y, words = test_points(trained, options.data)
    try:
        metrics = evaluate(model, x, y, **told)
    except InputError as error:
        if options.data is None or not str(error).startswith(("x: ", "y: ")):
            raise
        raise InputError(f"--data {options.data}: {str(error)[3:]}") from None
    if trained.calibration is not None and y is not None:
        calibrated = judged(trained.calibration, model, x, y, told)
        metrics.update({"calibrated": calibrated} if calibrated else {})
    if options.interventions:
        metrics["interventions"] = intervened(trained, options)
    if options.json:
        print(json.dumps(metrics, indent=2))
        return
    show_metrics(f"{options.run} on {words}", {"test": metrics}, model.input_shape)
    if options.interventions:
        show_interventions(metrics["interventions"])


def test_points(trained: TrainedRun, other: str | None) -> tuple[Tensor, Tensor | None, str]:
    """Return the points that a run is judged on, their labels, and what they are in words.

    Of the data that the run was trained on, these are the test points, whatever they are called by.
    """
    from ..experiment.config import experiment_of
    from ..experiment.data import check_there, check_unchanged, data_digest, load_data
    from ..experiment.new_points import read_new

    source = experiment_of(trained.config, trained.folder).source
    if other is None or other == source.data or Path(other).resolve() == Path(source.data).resolve():
        if other is None:
            check_there(source, trained.folder)
        dataset = load_data(source)
        if other is None:
            check_unchanged(trained.config, dataset, trained.folder)
        if other is None or data_digest(dataset) == trained.config.get("digest"):
            y = None if trained.model.labels is None else dataset.y_test
            return dataset.x_test, y, f"{dataset.name}: {counted(len(dataset.x_test), 'test point')}"
    assert other is not None
    points = read_new(other, trained.model, trained.config, trained.folder)
    x, known, words = points.judged()
    return x, known, f"{other}: {words}"


def intervened(trained: TrainedRun, options: Evaluate) -> Json:
    """Return what an oracle reads of interventions on a data set's test points."""
    from ..experiment.config import experiment_of
    from ..experiment.data import check_shape, load_data
    from ..experiment.oracle import intervention_metrics

    source = experiment_of(trained.config, trained.folder).source
    data = options.data or source.data
    dataset = load_data(replace(source, data=data))
    check_shape(trained.model, dataset.input_shape, f"--data {data}")
    progress = not options.json
    return intervention_metrics(trained.model, dataset, data, progress=progress, leakage_points=LEAKAGE_POINTS)


def recorded_classes(config: Json, run: Path) -> Json:
    """Return what a run's ``config.json`` tells :func:`~pyro_ssvae.evaluate` of its classes."""
    found = config.get("evaluation")
    if not isinstance(found, dict) or not found.keys() <= {"known_classes", "left_out"}:
        raise InputError(f"{run / 'config.json'}: it is not a run's configuration ('evaluation' is missing)")
    return found
