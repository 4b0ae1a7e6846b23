"""``ablation``: which part of AugVAE's training gives the gain over the labels alone, and what is its decoder's share?

From the objective of arXiv:1908.03015 alone to the default, part by part; beside it the same training without a
decoder, the labels alone, and scikit-learn's methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from ..data import Dataset, known_rows
from ..evaluation.metrics import class_metrics
from ..experiment.data import train_split
from .cells import Cell, Json, Result
from .forest import Panel, forest, over_seeds
from .grid import label_counts, need_classes, source
from .intervals import Interval, Where, by_data, counts, difference, interval, methods
from .methods import METHODS, facts, trained
from .plan import Column, Part, Plan, Study
from .scikit_learn import sklearn_proba
from .words import Finding, amount, summary, verdict

STEPS = ("paper", "paper+entropy", "paper+entropy+alignment", "augmented")
"""From the paper's objective alone to the default: each has one part more than the one before."""
PARTS = ("entropy minimisation", "distribution alignment", "augmentation")
DEFAULT, WITHOUT, BASELINE = "augmented", "no-decoder", "classifier"
TABLES_ALONE = "gradient-boosting"
METRICS = (
    ("accuracy", "accuracy", "higher", 4),
    ("balanced_accuracy", "balanced accuracy", "higher", 4),
    ("calibration_error", "calibration error", "lower", 4),
    ("label_log_likelihood", "log-likelihood of the labels", "higher", 3),
)
"""Metric, words, better side, digits."""


def combinations(plan: Plan, dataset: Dataset) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield all methods at all numbers of labels; trees on tables alone."""
    need_classes("ablation", dataset)
    for labels in label_counts(plan, dataset):
        for method in plan.methods:
            if labels != "0" and (method != TABLES_ALONE or dataset.kind == "vectors"):
                yield method, labels, ()


def compute(cell: Cell, dataset: Dataset, device: str) -> Json:
    """Return :func:`~.class_metrics` of the test rows, and ``label_log_likelihood``, nats a row."""
    split, _ = train_split(dataset, source(cell), cell.seed)
    known = known_rows(dataset.y_test)
    x, y = dataset.x_test[known], dataset.y_test[known]
    if METHODS[cell.method].model is None:
        probs = sklearn_proba(cell.method, split, x, cell.seed)
    else:
        probs = trained(cell, split, device).predict_proba(x).cpu()  # type: ignore[operator]
    metrics = class_metrics(probs, y)
    return {**facts(split), **metrics, "label_log_likelihood": -metrics["nll"]}


def places(results: Sequence[Result]) -> list[tuple[str, list[Result], str]]:
    """Return where methods are compared: the words ``on wine with 30 labels``, the data set's results, the labels."""
    return [(f"on {data} with {n} labels", some, n) for data, some in by_data(results).items() for n in counts(some)]


def findings(results: Sequence[Result], a: str, b: str, path: str = "accuracy") -> list[Finding]:
    """Return ``a`` less ``b`` in each place that has both."""
    found = [(words, difference(some, path, Where(a, n), Where(b, n))) for words, some, n in places(results)]
    return [(words, value) for words, value in found if value is not None]


def answers(results: Sequence[Result]) -> list[str]:
    """Say what the VAE adds, what each part adds, and how the default compares with everything else."""
    there, nothing = methods(results), ["- Nothing was compared."]
    lines = ["**What does the VAE add to the same training without a decoder?**", "", sentence(results), ""]
    for path, words, better, digits in METRICS:
        lines.append(f"- {words}: {summary(findings(results, DEFAULT, WITHOUT, path), better, digits)}")
    lines += ["", "**What does each part add?** Accuracy less that without this part.", ""]
    pairs = [(part, a, b) for part, a, b in zip(PARTS, STEPS[1:], STEPS) if {a, b} <= set(there)]
    lines += [f"- {part}: {summary(findings(results, a, b))}" for part, a, b in pairs] or nothing
    lines += ["", "**Is it better than the labels alone?** Accuracy less that of `classifier`.", ""]
    others = [name for name in there if name != BASELINE and BASELINE in there]
    lines += [f"- {name}: {summary(findings(results, name, BASELINE))}" for name in others] or nothing
    lines += ["", "**Is the default better than what one would otherwise pick?** Its accuracy less theirs.", ""]
    others = [name for name in there if METHODS[name].model is None and DEFAULT in there]
    lines += [f"- {name}: {summary(findings(results, DEFAULT, name))}" for name in others] or nothing
    return lines


def sentence(results: Sequence[Result]) -> str:
    """Return in one sentence where the decoder raises accuracy, where it lowers it, and where neither is shown."""
    groups: dict[str, list[str]] = {}
    seeds = 0
    for words, found in findings(results, DEFAULT, WITHOUT):
        assert found is not None
        seeds = max(seeds, found.n)
        groups.setdefault(verdict(found), []).append(f"{words} ({points(found)})")
    if not groups:
        return "Nothing was compared."
    if "one seed" in groups:
        return f"One seed has no interval; its differences in accuracy are {', '.join(groups['one seed'])}."
    said = [
        f"{verb} {', '.join(groups[key])}"
        for key, verb in (
            ("yes", "it adds accuracy"),
            ("opposite", "it costs accuracy"),
            ("open", "it adds nothing that the intervals show"),
        )
        if key in groups
    ]
    return f"By {seeds} seeds, what the VAE adds to the same training without a decoder: {'; '.join(said)}."


def points(found: Interval) -> str:
    """Return a difference of accuracies in points: ``+1.2 [+0.3, +2.1] points``."""
    parts = [None if value is None else 100 * value for value in (found.low, found.high)]
    return f"{amount(Interval(100 * found.mean, parts[0], parts[1], found.n), 1)} points"


def picture(results: Sequence[Result]) -> Figure:
    """Draw each place's differences in accuracy to the labels alone, in points; without these to the first method.

    Where nothing can be paired, draw the accuracies themselves.
    """
    for base in (BASELINE, methods(results)[0], None):
        panels = picture_panels(results, base)
        if panels or base is None:
            break
    of_base = "" if base is None else f" less that of {'the labels alone' if base == BASELINE else base}"
    unit = "per cent" if base is None else "points"
    return forest(panels, f"accuracy{of_base}, {unit}", f"{STUDY.title}; {over_seeds(panels)}")


def picture_panels(results: Sequence[Result], base: str | None) -> list[Panel]:
    """Return each place with what is drawn there of each method, as far as there is anything."""
    panels = []
    for words, some, n in places(results):
        values = {}
        for name in (name for name in methods(results) if name != base):
            at = Where(name, n)
            paired = None if base is None else difference(some, "accuracy", at, Where(base, n))
            value = interval(some, "accuracy", at) if base is None else paired
            if value is not None:
                values[name] = {"": value}
        place, within = words.removeprefix("on ").replace(" with ", ", "), (0.0 if base is None else -1.0, 1.0)
        panels.append(Panel(place, values, scale=100, within=within, zero=base is not None))
    return [panel for panel in panels if panel.values]


STUDY = Study(
    name="ablation",
    title="Ablation: where the gain comes from",
    notes=(
        "`paper` is the first paper's objective alone, without augmentation; `paper+entropy` has entropy minimisation "
        "besides, `paper+entropy+alignment` distribution alignment too, and `augmented`, the default, all of these and "
        "augmentation.",
        "`no-decoder` is the default without its generative half: the same trunk, head, entropy minimisation, "
        "alignment and augmentation on the same labelled and unlabelled rows, but neither reconstruction nor KL. "
        "`classifier` is the trunk on the labelled rows alone, with augmentation.",
        "scikit-learn's: `label-spreading` (10 nearest neighbours) and `self-training` (logistic regression) on 50 "
        "principal components; `logistic-regression` and, on tables, `gradient-boosting` on the labelled rows alone.",
        "`counts` has a negative binomial likelihood, for which there is no augmentation.",
        "log-likelihood of the labels: mean of log π of the true class over the test rows, nats.",
    ),
    methods=(
        *STEPS, WITHOUT, BASELINE, "logistic-regression", "label-spreading", "self-training", TABLES_ALONE,
    ),
    full=Plan(
        "", (), seeds=5, parts=(
            Part("digits", ("50",)),
            Part("mnist", ("100",), "bernoulli"),  # as in the papers
            Part("fashion-mnist", ("100",)),
            Part("breast-cancer", ("20", "100")),
            Part("wine", ("30",)),
            Part("imbalanced-digits", ("50",)),
            Part("counts", ("50",), "negative-binomial", augment="none"),
        ),
    ),
    quick=Plan("", (), seeds=2, steps=30, parts=(Part("digits", ("50",)), Part("breast-cancer", ("20",)))),
    compute=compute,
    columns=tuple(Column(path, words, digits, better) for path, words, better, digits in METRICS),
    answers=answers,
    combinations=combinations,
    takes=(),
    picture=picture,
)  # fmt: skip
