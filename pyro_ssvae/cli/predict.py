"""Predict the labels of new points, with probabilities.

A row a point: the label, every class's probability, a set of labels that holds the true one in 90 % of the cases, and
how strange the point is.

Example: pyro-ssvae predict runs/digits-augmented-50 --data new.npz --out predictions.csv
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..errors import counted
from .arguments import SEEDS, check_bounds, read
from .outputs import check_out
from .table_files import may_end_in, write_tables


@dataclass(frozen=True)
class Predict:
    """The command's options."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    data: str
    """The new points: an .npz or .h5ad file, a table, an image, a folder of images, or a data set's name (its test
    points)."""
    out: Path | None = None
    """The table's file (.csv, .tsv, .csv.gz, .parquet or .feather), which must not exist; by default CSV on the
    screen."""
    coverage: float = 0.9
    """Share of the points whose true label is in their set."""
    embeddings: bool = False
    """Also the means of the latents."""
    impute: bool = False
    """Also the points themselves, missing entries filled."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or mps."""
    seed: int = 0
    """Of the draws that fill missing entries."""


def parse(arguments: Sequence[str]) -> Predict:
    """Return the options that were typed."""
    return read("predict", Predict, arguments, __doc__)


def run(options: Predict) -> None:
    """Write the table, and say on stderr what it holds."""
    from ..experiment.config import experiment_of
    from ..experiment.new_points import read_new
    from ..experiment.predictions import Wanted, check_wanted, read_run, tables
    from ..infer.protocols import Classifies

    check_out(options.out, may_end_in(options.out))
    check_bounds(options, seed=SEEDS)
    trained = read_run(options.run, options.device)
    wanted = Wanted(options.coverage, options.embeddings, options.impute, seed=options.seed)
    check_wanted(trained, wanted)
    points = read_new(options.data, trained.model, trained.config, options.run)
    write_tables(tables(trained, points, wanted), options.out)
    lacks = []
    if trained.labelled == 0 and isinstance(trained.model, Classifies):
        lacks += ["training saw no label: which class an output stands for is not agreed"]
    elif trained.calibration is None:
        calibrated = experiment_of(trained.config, options.run).calibration
        why = "no labels to calibrate by" if calibrated else "trained with --no-calibration"
        lacks += [f"{why}: no column 'set', probabilities as they are"]
    lacks += [] if trained.reference else ["no statistics of the training points: no column 'novelty'"]
    for line in lacks if trained.model.labels is not None else ():
        print(f"predict: {options.run}: {line}", file=sys.stderr)
    if options.out is not None:
        print(f"predictions: {options.out}, {counted(points.count, 'row')}{points.about and ', ' + points.about}")
