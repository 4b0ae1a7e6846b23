"""Coverage of AugVAE's 90 % prediction sets on the tables of benchmarks/tables.py. Writes results/coverage.

python benchmarks/coverage.py [--adult adult.data] [--seeds 10 11 12 13 14]

20 labels of each class, 10 % of the cells taken out, a fifth of the rows as test. No label is set apart: the sets are
calibrated as ``pyro-ssvae train`` does it, by five further trainings without a fifth of the labels each. Rows that
``runs.csv`` has are not computed again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import sys
import warnings
from pathlib import Path

import pandas as pd
import pyro
import torch
from tables import TABLES, Task, make_task, read, told_rows

import pyro_ssvae as ps
from pyro_ssvae.data import Dataset
from pyro_ssvae.experiment.reliability import calibration_of

LABELS, GAPS = 20, 0.1


def covered(task: Task, seed: int) -> dict[str, float]:
    """Return accuracy, coverage and size of the sets on the test rows."""
    data = ps.data.read_table(told_rows(task), target="target", quiet=True)

    def train(part: Dataset) -> ps.AugmentedVAE:
        pyro.set_rng_seed(seed)
        model = ps.create_model("augmented", **data.model_options(), label_prior="unlabelled")
        ps.fit(model, part.x, part.y, seed=seed, progress=False)
        return model

    model = train(data)
    found = calibration_of(model, data, data.x_test[:0], data.y_test[:0], train)
    judged = found.metrics(model.predict_proba(data.x_test), data.y_test)
    right = model.predict_proba(data.x_test).argmax(1) == data.y_test
    return {"accuracy": float(right.double().mean())} | {k: judged[k] for k in ("coverage", "set_size", "single_sets")}


def report(runs: pd.DataFrame) -> str:
    """Return the table of the runs, as Markdown."""
    parts = runs.groupby("table")
    mean = parts[["accuracy", "coverage", "set_size", "single_sets"]].mean()
    mean["half_width"] = 1.96 * parts.coverage.std() / parts.coverage.count() ** 0.5
    return "\n".join(
        [
            "# Prediction sets of 90 %: how often they hold the true label",
            "",
            f"`python benchmarks/coverage.py`: AugVAE, {runs.seed.nunique()} seeds, {LABELS} labels a class, "
            f"{GAPS:.0%} gaps; test rows. `half_width`: of coverage's 95 % interval over seeds.",
            "",
            mean.round(3).reset_index().to_markdown(index=False),
            "",
        ]
    )


def main() -> None:
    """Compute what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adult", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11, 12, 13, 14])
    parser.add_argument("--out", type=Path, default=Path("results/coverage"))
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    path = told.out / "runs.csv"
    runs = pd.read_csv(path) if path.exists() else pd.DataFrame()
    done = {(r.table, r.seed) for r in runs.itertuples()}
    for seed, name in itertools.product(told.seeds, TABLES):
        if (name, seed) in done or (name == "adult" and told.adult is None):
            continue
        task = make_task(read(name, told.adult), LABELS, GAPS, seed)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            row = {"table": name, "seed": seed, "test_rows": int(task.test.sum()), **covered(task, seed)}
        runs = pd.concat([runs, pd.DataFrame([row])], ignore_index=True)
        runs.to_csv(path, index=False, float_format="%.5f")
        (told.out / "table.md").write_text(report(runs), "utf-8")
        print(row, file=sys.stderr, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
