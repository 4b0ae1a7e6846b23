"""``anomaly``: leave one class out of training; does the bound tell its points apart, and do labels help it to?

arXiv:1908.03015 names anomaly detection; the protocol is this project's choice: each class left out in turn, AUROC of
its test points against those of the other classes, averaged over classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .. import data as datasets
from ..data import Dataset
from ..evaluation.evaluate import evaluate
from ..experiment.data import evaluation_options, train_split
from .cells import Cell, Json, Result
from .grid import label_counts, need_classes, source
from .intervals import Where, counts, difference, methods
from .methods import facts, trained
from .plan import Column, Plan, Study
from .words import Finding, at_labels, summary

SCORES = (("anomaly.negative_elbo", "negative ELBO"), ("anomaly.reconstruction", "reconstruction term"))


def combinations(plan: Plan, dataset: Dataset) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield every class out in turn; the VAE, which no label reaches, only without labels."""
    names = plan.classes or tuple(need_classes("anomaly", dataset).names)
    wanted = label_counts(plan, datasets.leave_out(dataset, names[0]))
    for labels in dict.fromkeys([*(["0"] if "vae" in plan.methods else []), *wanted]):
        for name in names:
            for method in plan.methods:
                if (method == "vae" and labels == "0") or (method != "vae" and labels in wanted):
                    yield method, labels, (name,)


def compute(cell: Cell, dataset: Dataset, device: str) -> Json:
    """Return ``anomaly`` of :func:`~pyro_ssvae.evaluate`, and its other metrics on the classes that stay."""
    told = source(cell, leave_out=cell.classes[0])
    split, _ = train_split(dataset, told, cell.seed)
    model = trained(cell, split, device)
    options = evaluation_options(told, dataset, split)
    metrics = evaluate(model, dataset.x_test, dataset.y_test, num_samples=cell.draws, **options)
    return {**facts(split), **metrics}


def answers(results: Sequence[Result]) -> list[str]:
    """More labels against none, and each method against the VAE."""
    some = [labels for labels in counts(results) if labels != "0"]
    lines = ["**Do labels help to tell a class apart that training never saw?** AUROC less the same without labels."]
    lines.append("")
    for method in (m for m in methods(results) if m != "vae"):
        for path, words in SCORES:
            found: list[Finding] = [
                (at_labels(n), difference(results, path, Where(method, n), Where(method, "0"))) for n in some
            ]
            lines.append(f"- {method}, {words}: {summary(found)}")
    lines += ["", "**Is a model with labels better at it than a plain VAE?** AUROC less that of `vae`.", ""]
    for method in (m for m in methods(results) if m != "vae"):
        for path, words in SCORES:
            found = [
                (at_labels(n), difference(results, path, Where(method, n), Where("vae", "0"))) for n in counts(results)
            ]
            lines.append(f"- {method}, {words}: {summary(found)}")
    return lines


STUDY = Study(
    name="anomaly",
    title="Anomaly detection: one class left out",
    notes=(
        "One class after another is left out of training; AUROC of its test points against the other classes', "
        "averaged over the classes left out. The interval is that of this average over seeds.",
        "A score is the negative ELBO, or its reconstruction term alone; guessing has an AUROC of 0.5.",
    ),
    methods=("augmented-probabilities", "augmented-enumerate", "m2", "m1+m2", "revae", "vae"),
    full=Plan("digits", ("0", "50", "all"), draws=10),
    quick=Plan("digits", ("0", "50"), seeds=2, steps=25, classes=("1", "8"), draws=1),
    compute=compute,
    columns=(
        Column("anomaly.negative_elbo", "AUROC, negative ELBO", panel=True),
        Column("anomaly.reconstruction", "AUROC, reconstruction term", panel=True),
        Column("accuracy", "accuracy on the other classes"),
        Column("elbo", "ELBO of the other classes", 2),
    ),
    answers=answers,
    combinations=combinations,
    takes=("classes", "draws"),
    baseline="vae",
)
