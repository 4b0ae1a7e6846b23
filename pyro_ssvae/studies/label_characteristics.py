"""``label-characteristics``: do the latents of a label hold more than its value?

Claim of arXiv:2006.10102: labels as auxiliary variables on the latents (ReVAE) capture characteristics, so that one can
intervene on them, draw several kinds, and swap a kind from one picture to another. Rates of supervision as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..data import Dataset
from ..errors import InputError
from ..evaluation.evaluate import evaluate
from ..experiment.data import evaluation_options, train_split
from ..experiment.oracle import intervention_metrics, oracle_of
from ..labels import AttributeLabels
from .cells import Cell, Json, Result
from .grid import label_counts, source
from .intervals import Where, counts, difference, methods
from .methods import METHODS, facts, one_sided_attributes, trained
from .plan import Column, Plan, Study
from .words import summary

RESAMPLES = 200  # of points; the study's intervals are over seeds
DRAWS = 4  # interventions a point and attribute, and donors a receiver


def combinations(plan: Plan, dataset: Dataset) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield all methods at all rates; with one-sided attributes where the data's factors say which these are."""
    if not isinstance(dataset.labels, AttributeLabels):
        raise InputError(f"study label-characteristics: {dataset.name} has classes; data with attributes is needed")
    there = bool(one_sided_attributes(plan.data))
    for labels in label_counts(plan, dataset):
        for method in plan.methods:
            if there or not METHODS[method].one_sided:
                yield method, labels, ()


def prepare(plan: Plan, dataset: Dataset) -> None:
    """Train the oracle, so that the cells find it."""
    oracle_of(plan.data, dataset, steps=plan.oracle_steps)


def compute(cell: Cell, dataset: Dataset, device: str) -> Json:
    """Return test metrics, and ``interventions`` as the oracle reads them."""
    split, _ = train_split(dataset, source(cell), cell.seed)
    model = trained(cell, split, device)
    options = evaluation_options(source(cell), dataset, split)
    metrics = evaluate(model, dataset.x_test, dataset.y_test, num_samples=cell.draws, **options)
    metrics["interventions"] = intervention_metrics(
        model, dataset, cell.data, steps=cell.oracle_steps, num_points=cell.points, draws=DRAWS, resamples=RESAMPLES
    )
    return {**facts(split), **metrics}


def at_rate(labels: str) -> str:
    """``at f = 0.2``."""
    return "at f = 1" if labels == "all" else f"at f = {labels}"


def answers(results: Sequence[Result]) -> list[str]:
    """Compare the ReVAE with each other model, and what arrives with a swap with chance."""
    rates, every = counts(results), methods(results)
    others = [method for method in every if METHODS[method].model != "revae"]
    ours = [method for method in every if METHODS[method].model == "revae"]
    lines = ["**Does the kind arrive with a swap, which no label named?** Its share less chance.", ""]
    for method in every:
        here = [Where(method, n) for n in rates]
        path, chance = "interventions.carry_over.mean.value", "interventions.carry_over.mean.chance"
        found = [(at_rate(w.labels), difference(results, path, w, w, chance)) for w in here]
        lines.append(f"- {method}: {summary(found, digits=3)}")
    lines += ["", "**Does the ReVAE do it better than the others?** Its metric less theirs.", ""]
    pairs = [(method, other) for method in ours if method in ("revae", "revae+locality") for other in others]
    lines += compared(results, rates, pairs)
    lines += ["", "**What do locality and one-sided attributes change?** Their metric less the paper's form's.", ""]
    lines += compared(results, rates, [(method, "revae") for method in ours if method != "revae" and "revae" in ours])
    return lines


def compared(results: Sequence[Result], rates: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return, of each pair of methods, every metric of the first less that of the second."""
    lines = []
    for method, other in pairs:
        lines.append(f"- {other}" if method == "revae" else f"- {method}, {other}")
        for column in COLUMNS:
            if column.path.endswith(("chance", "majority_accuracy")):
                continue
            found = [(at_rate(n), difference(results, column.path, Where(method, n), Where(other, n))) for n in rates]
            if any(value is not None for _, value in found):
                lines.append(f"  - {column.words}: {summary(found, column.better, column.digits)}")
    return lines or ["- Nothing was compared."]


COLUMNS = (
    Column("accuracy", "accuracy", panel=True, chance="majority_accuracy"),
    Column("majority_accuracy", "majority guess"),
    Column("average_precision", "average precision", panel=True),
    Column("interventions.success.mean.value", "success", 3, panel=True, chance="interventions.success.mean.chance"),
    Column("interventions.success.mean.chance", "its chance", 3),
    Column(
        "interventions.preservation.mean.value",
        "others preserved",
        3,
        panel=True,
        chance="interventions.preservation.mean.chance",
    ),
    Column("interventions.preservation.mean.chance", "its chance", 3),
    Column("interventions.preservation_kinds.mean.value", "others' kinds preserved", 3),
    Column("interventions.diversity_pixels.mean.value", "variance a pixel", 5),
    Column("interventions.diversity_features.mean.value", "variance a feature", 3, panel=True),
    Column(
        "interventions.carry_over.mean.value",
        "unnamed kind arrives",
        3,
        panel=True,
        chance="interventions.carry_over.mean.chance",
    ),
    Column("interventions.carry_over.mean.chance", "its chance", 3),
    Column("interventions.carry_over_without.mean.value", "to points without", 3),
    Column("interventions.carry_over.mean.ceiling.reconstruction", "ceiling on reconstructions", 3),
)

STUDY = Study(
    name="label-characteristics",
    title="Label characteristics: what the latents of a label hold",
    notes=(
        "labels: the share f of training rows that have their labels. Guessing each attribute's commoner value scores "
        "what the column majority guess says.",
        "Interventions and swaps are read by an oracle, trained apart on all labels and true kinds of the training "
        "rows; success and arrival are worth what they exceed their chance by.",
        "revae is the paper's form; +locality infers the rest from what an attribute does not touch; +one-sided "
        "declares the attributes with nothing behind their 0, where the data's true factors say which; +both.",
    ),
    methods=("revae", "revae+locality", "revae+one-sided", "revae+both", "m2", "mvae", "diva"),
    full=Plan("avatars", ("0.004", "0.06", "0.2", "1.0"), latent_dim=45),
    quick=Plan(
        "avatars:300", ("0.06", "1.0"), seeds=2, steps=20, batch_size=64, latent_dim=45, image_size=32, draws=1,
        points=20, oracle_steps=60,
    ),
    compute=compute,
    columns=COLUMNS,
    answers=answers,
    combinations=combinations,
    takes=("draws", "points"),
    prepare=prepare,
    augment="none",
)  # fmt: skip
