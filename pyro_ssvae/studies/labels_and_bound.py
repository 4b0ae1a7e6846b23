"""``labels-and-bound``: do labels raise the bound on log p(x), once training has gone on for long enough?

Claim of arXiv:1908.03015: every label improves the unsupervised tasks. Pictures are black or white, drawn afresh for
each batch, so that the bound is one on a probability, as in the published figures of MNIST.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..data import Dataset
from ..data.augment import unit_scale
from ..errors import InputError
from ..evaluation.evaluate import evaluate
from ..experiment.data import evaluation_options, train_split
from ..infer.batched import evaluating
from ..infer.bounds import elbo
from ..models import Model
from .cells import Cell, Json, Result
from .grid import label_counts, source
from .intervals import Where, counts, difference, methods
from .methods import facts, learn, make_model
from .plan import Column, Plan, Study
from .words import Finding, amount, at_labels, summary, verdict

LONGEST = 8
"""Times the first length."""
METRICS = (
    ("log_likelihood", "importance-weighted bound, nats a point", "higher", 2),
    ("elbo", "ELBO, nats a point", "higher", 2),
    ("active_units", "active units", "higher", 1),
    ("kl", "KL, nats a point", "higher", 2),
)
"""Metric, words, better side, digits."""


def combinations(plan: Plan, dataset: Dataset) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield every number of labels; the VAE, which no label reaches, only without."""
    if dataset.kind != "images":
        raise InputError(f"study labels-and-bound: {dataset.name} has {dataset.kind}; images are needed, such as mnist")
    wanted = label_counts(plan, dataset)
    for labels in dict.fromkeys([*(["0"] if "vae" in plan.methods else []), *wanted]):
        for method in plan.methods:
            if (method == "vae" and labels == "0") or (method != "vae" and labels in wanted):
                yield method, labels, ()


def binarized(x: Tensor, seed: int) -> Tensor:
    """Return black-or-white pictures ``b ~ Bernoulli(x)``, the same ones always; grey levels in [0, 1] or uint8."""
    return torch.bernoulli(unit_scale(x), generator=torch.Generator().manual_seed(seed))


def compute(cell: Cell, dataset: Dataset, device: str) -> Json:
    """Return test metrics of :func:`~pyro_ssvae.evaluate` on pictures that were binarised once for all cells, and
    ``steps``, the training's length."""
    split, (x_val, _) = train_split(dataset, source(cell), cell.seed)
    model, steps = longest_useful(cell, split, device, binarized(x_val, 1))
    options = evaluation_options(source(cell), dataset, split)
    metrics = evaluate(
        model,
        binarized(dataset.x_test, 0),
        dataset.y_test,
        num_samples=cell.draws,
        likelihood_rows=cell.points,
        **options,
    )
    return {**facts(split), **metrics, "steps": steps}


def longest_useful(cell: Cell, split: Dataset, device: str, x_val: Tensor) -> tuple[Model, int]:
    """Return a model that longer training would not make better, and its steps.

    A learning rate that falls to 0 makes the bound rise to the last step of every training, so that none can be stopped
    early. Whole trainings are compared instead, each twice as long as the one before, from the same initial weights,
    until the ELBO of ``x_val`` rises by less than the cell's gain, and the better of the last two is taken. Without a
    gain there is one training.
    """
    best: tuple[float, Model, int] | None = None
    steps = cell.steps
    while True:
        model = make_model(cell, split)
        taken = learn(model, replace(cell, steps=steps), split, device)
        with evaluating(model, 0):
            bound = float(elbo(model, x_val).double().mean())
        gained = math.inf if best is None else bound - best[0]
        if best is None or gained > 0:
            best = bound, model, taken
        steps *= 2
        if cell.gain is None or gained < cell.gain or steps > LONGEST * cell.steps:
            return best[1], best[2]


def answers(results: Sequence[Result]) -> list[str]:
    """Compare each number of labels with none, of the same model and of the VAE."""
    some = [labels for labels in counts(results) if labels != "0"]
    lines = ["**Do labels raise the bound?**", "", sentence(results), ""]
    lines += ["Each metric with labels less that of the same model without:", ""]
    for method in (m for m in methods(results) if m != "vae"):
        for path, words, better, digits in METRICS:
            found: list[Finding] = [
                (at_labels(n), difference(results, path, Where(method, n), Where(method, "0"))) for n in some
            ]
            lines.append(f"- {method}, {words}: {summary(found, better, digits)}")
    lines += ["", "**Is it above a plain VAE's?** The importance-weighted bound less that of `vae`.", ""]
    for method in (m for m in methods(results) if m != "vae"):
        found = [
            (at_labels(n), difference(results, "log_likelihood", Where(method, n), Where("vae", "0")))
            for n in counts(results)
        ]
        lines.append(f"- {method}: {summary(found, digits=2)}")
    return lines


def sentence(results: Sequence[Result]) -> str:
    """Return the verdict of the most labels against none, with its interval, in one sentence."""
    some = [labels for labels in counts(results) if labels != "0"]
    method = next((m for m in methods(results) if m != "vae"), None)
    found = None
    if some and method is not None:
        found = difference(results, "log_likelihood", Where(method, some[-1]), Where(method, "0"))
    if found is None:
        return "Nothing was compared."
    nats = f"{amount(found, 2)} nats a point"
    if found.low is None or found.high is None:
        return f"One seed has no interval: {at_labels(some[-1])} the bound differs by {nats} from that without labels."
    said = {
        "yes": "Labels raise the bound",
        "opposite": "Labels lower the bound",
        "open": "That labels change the bound is not shown",
    }[verdict(found)]
    return (
        f"{said}: {at_labels(some[-1])} it differs by {nats} from that without labels (95 % interval, {found.n} seeds)."
    )


STUDY = Study(
    name="labels-and-bound",
    title="Labels and the bound: does a label improve the unsupervised task?",
    notes=(
        "Pixels are black or white, drawn with the grey level's probability; afresh for each training batch, once for "
        "the test. Encoder and likelihood (Bernoulli) see the same. No other augmentation.",
        "The bound is one on log p(x), nats a point, a missing label summed out; no test label is used.",
        "`vae` is the same networks without labels and without a class input.",
        "active units: latent dimensions whose posterior mean has a variance over test points above 0.01.",
    ),
    methods=("augmented-probabilities", "vae"),
    full=Plan(
        "mnist", ("0", "100", "1000", "all"), seeds=5, epochs=25, draws=500, points=10_000, likelihood="bernoulli",
        gain=0.2,
    ),
    quick=Plan("digits", ("0", "50"), seeds=2, steps=30, draws=5, points=200, likelihood="bernoulli"),
    compute=compute,
    columns=(
        *(Column(path, words, digits, better, panel=True) for path, words, better, digits in METRICS),
        Column("accuracy", "accuracy"),
        Column("steps", "steps", 0),
    ),
    answers=answers,
    combinations=combinations,
    takes=("draws", "points"),
    augment="binarize",
)  # fmt: skip
