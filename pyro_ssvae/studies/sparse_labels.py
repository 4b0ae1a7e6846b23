"""``sparse-labels``: one model from no label to all of them, beside what one would otherwise pick.

Claims of arXiv:1908.03015: unlabelled points improve the classifier, labels improve the unsupervised tasks, and with
all labels the model beats its trunk trained as a plain classifier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..data import Dataset, known_rows
from ..evaluation.evaluate import evaluate
from ..evaluation.metrics import class_metrics
from ..experiment.data import evaluation_options, train_split
from ..labels import ClassLabels
from .cells import Cell, Json, Result
from .grid import label_counts, need_classes, source
from .intervals import Interval, Where, counts, difference, methods
from .methods import METHODS, facts, trained
from .plan import Column, Plan, Study
from .scikit_learn import sklearn_proba
from .words import at_labels, summary, tally

GENERATIVE = ("augmented-probabilities", "augmented-enumerate", "augmented-sparse", "m2", "m1+m2", "revae")
"""What learns from labelled and unlabelled points, and models x."""
TASKS = (
    ("elbo", "ELBO, nats a point", "higher", 2),
    ("log_likelihood", "importance-weighted bound, nats a point", "higher", 2),
    ("reconstruction_error", "reconstruction error", "lower", 5),
    ("clustering.nmi", "NMI of clusters of the latents", "higher", 3),
)
"""The unsupervised tasks: metric, words, better side, digits."""


def combinations(plan: Plan, dataset: Dataset) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield all methods at all numbers of labels; without labels only what needs none, and the VAE only there."""
    if any(METHODS[method].model is None for method in plan.methods):
        need_classes("sparse-labels with label-spreading or self-training", dataset)
    wanted = label_counts(plan, dataset)
    for labels in dict.fromkeys([*(["0"] if "vae" in plan.methods else []), *wanted]):
        for method in plan.methods:
            if (
                (labels == "0" and labels in wanted and method in GENERATIVE)
                or (labels == "0" and method == "vae")
                or (labels != "0" and method != "vae")
            ):
                yield method, labels, ()


def compute(cell: Cell, dataset: Dataset, device: str) -> Json:
    """Return test metrics of :func:`~pyro_ssvae.evaluate`; without labels ``matched_accuracy``, under the matching
    of predicted to true classes that fits best (of the VAE: of k-means on its latents)."""
    split, _ = train_split(dataset, source(cell), cell.seed)
    if METHODS[cell.method].model is None:
        known = known_rows(dataset.y_test)
        probs = sklearn_proba(cell.method, split, dataset.x_test[known], cell.seed)
        return {**facts(split), **class_metrics(probs, dataset.y_test[known])}
    model = trained(cell, split, device)
    options = evaluation_options(source(cell), dataset, split)
    metrics = evaluate(model, dataset.x_test, dataset.y_test, num_samples=cell.draws, **options)
    if cell.labels == "0" and isinstance(dataset.labels, ClassLabels):
        found = metrics.get("clustering" if cell.method == "vae" else "semi_unsupervised") or {}
        metrics["matched_accuracy"] = found.get("accuracy")
    return {**facts(split), **metrics}


def answers(results: Sequence[Result]) -> list[str]:
    """Answer the three questions, each method's differences in turn."""
    return [*unlabelled_points(results), "", *labels_for_tasks(results), "", *direct_supervision(results)]


def unlabelled_points(results: Sequence[Result]) -> list[str]:
    """Compare accuracy with that of the trunk that sees the labelled points alone."""
    few = [labels for labels in counts(results) if labels not in ("0", "all")]
    found = {
        method: [difference(results, "accuracy", Where(method, n), Where("classifier", n)) for n in few]
        for method in methods(results)
        if method not in ("vae", "classifier")
    }
    lines = ["**Do unlabelled points help the classifier?** Accuracy less that of `classifier` on the same labels.", ""]
    return [*lines, *by_method(found, few, "higher", 4)] if few and found else [*lines, "- Nothing was compared."]


def labels_for_tasks(results: Sequence[Result]) -> list[str]:
    """Compare the unsupervised tasks with labels with the same model without, or a VAE where that is not there."""
    every = methods(results)
    without = "0" in counts(results)
    lines = [
        "**Do labels help the unsupervised tasks?** Each task with labels less the same without; where the model "
        "itself was not trained without labels, less that of `vae`.",
        "",
    ]
    some = [labels for labels in counts(results) if labels != "0"]
    for method in (m for m in every if m in GENERATIVE) if without else ():
        own = any(r.cell.method == method and r.cell.labels == "0" for r in results)
        base = Where(method if own else "vae", "0")
        tasks = {path: [difference(results, path, Where(method, n), base) for n in some] for path, _, _, _ in TASKS}
        all_found = [(d, better) for path, _, better, _ in TASKS for d in tasks[path]]
        lines.append(f"- {method}, against {'itself' if own else 'vae'} without labels: {tally(all_found)}")
        for path, words, better, digits in TASKS:
            if any(found is not None for found in tasks[path]):
                pairs = list(zip([at_labels(n) for n in some], tasks[path]))
                lines.append(f"  - {words}: {summary(pairs, better, digits)}")
    return lines if len(lines) > 2 else [*lines, "- Nothing was compared."]


def direct_supervision(results: Sequence[Result]) -> list[str]:
    """Compare, with all labels, with the same trunk as a classifier."""
    found = {
        method: [difference(results, "accuracy", Where(method, "all"), Where("classifier", "all"))]
        for method in methods(results)
        if method not in ("vae", "classifier")
        and any(r.cell.method == method and r.cell.labels == "all" for r in results)
    }
    lines = [
        "**Does it beat direct supervision when all labels are there?** Accuracy less that of `classifier` on all.",
        "",
    ]
    return [*lines, *by_method(found, ["all"], "higher", 4)] if found else [*lines, "- Nothing was compared."]


def by_method(found: dict[str, list[Interval | None]], places: Sequence[str], better: str, digits: int) -> list[str]:
    """Return one line a method."""
    return [
        f"- {name}: {summary(list(zip([at_labels(n) for n in places], d)), better, digits)}"
        for name, d in found.items()
    ]


STUDY = Study(
    name="sparse-labels",
    title="Sparse labels: from none to all",
    notes=(
        "`classifier` is the same trunk on the labelled rows alone, `vae` the same networks without labels.",
        "Without labels what a class output means is not agreed: only the accuracy under the best one-to-one matching "
        "of outputs (of `vae`: of k-means clusters of its latents) to classes is given, as matched accuracy.",
        "ELBO and importance-weighted bound are of log p(x), nats a point, a missing label summed out.",
        "`label-spreading` (a graph of 10 nearest neighbours) and `self-training` (logistic regression) are "
        "scikit-learn's, on 50 principal components of all training points, without augmentation.",
    ),
    methods=(*GENERATIVE, "classifier", "vae", "label-spreading", "self-training"),
    full=Plan("digits", ("0", "50", "100", "200", "all")),
    quick=Plan("digits", ("0", "50", "all"), seeds=2, steps=30, draws=5),
    compute=compute,
    columns=(
        Column("accuracy", "accuracy", panel=True),
        Column("matched_accuracy", "matched accuracy", 3),
        Column("calibration_error", "calibration error", better="lower", panel=True),
        Column("elbo", "ELBO", 2, panel=True),
        Column("log_likelihood", "importance-weighted bound", 2, panel=True),
        Column("reconstruction_error", "reconstruction error", 5, better="lower", panel=True),
        Column("clustering.nmi", "NMI of clusters", 3, panel=True),
    ),
    answers=answers,
    combinations=combinations,
    baseline="classifier",
)
