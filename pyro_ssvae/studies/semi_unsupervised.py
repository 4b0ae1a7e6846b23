"""``semi-unsupervised``: some classes have no label at all; are they found, beside those that have?

Task and name: Willetts, Roberts, Holmes, arXiv:1810.12176. Claim: arXiv:1908.03015.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from ..data import Dataset
from ..evaluation.evaluate import evaluate
from ..evaluation.metrics import agreement, match
from ..experiment.data import evaluation_options, train_split
from ..infer.protocols import Encodes, require
from ..labels import MISSING
from ..models import Model
from .cells import Cell, Json, Result
from .grid import label_counts, last_classes, need_classes, source
from .intervals import Where, counts, difference, methods
from .methods import facts, trained
from .plan import Column, Plan, Study
from .words import at_labels, summary

MOST_ROWS = 10_000  # that k-means learns its centres from


def combinations(plan: Plan, dataset: Dataset) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield all methods; the VAE, which no label reaches, once."""
    need_classes("semi-unsupervised", dataset)
    hidden = last_classes(plan, dataset)
    for labels in dict.fromkeys([*(["0"] if "vae" in plan.methods else []), *label_counts(plan, dataset, hidden)]):
        for method in plan.methods:
            if (method == "vae") == (labels == "0"):
                yield method, labels, hidden


def compute(cell: Cell, dataset: Dataset, device: str) -> Json:
    """Return ``semi_unsupervised`` of :func:`~pyro_ssvae.evaluate`, and its other metrics."""
    told = source(cell, hide_classes=cell.classes)
    split, _ = train_split(dataset, told, cell.seed)
    model = trained(cell, split, device)
    options = evaluation_options(told, dataset, split)
    metrics = evaluate(model, dataset.x_test, dataset.y_test, num_samples=cell.draws, **options)
    if cell.method == "vae":
        hidden = [list(dataset.labels.names).index(name) for name in cell.classes]
        metrics["semi_unsupervised"] = k_means(model, split.x, dataset.x_test, dataset.y_test, hidden, cell.seed)
    return {**facts(split), **metrics}


def k_means(model: Model, x: Tensor, x_test: Tensor, y_test: Tensor, hidden: Sequence[int], seed: int) -> Json:
    """Make K clusters of the training points' latent means, and return how test points fall into them.

    All clusters are matched one-to-one to classes, since k-means knows no label.
    """

    def latents(rows: Tensor) -> np.ndarray:
        means: np.ndarray = require(model, Encodes).encode(rows).mean.flatten(1).double().numpy()
        return means

    assert model.labels is not None
    size = model.labels.size
    pick = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:MOST_ROWS]
    known = y_test != MISSING
    y = y_test[known]
    centres = KMeans(size, n_init=4, random_state=seed).fit(latents(x[pick]))
    found = torch.from_numpy(centres.predict(latents(x_test[known]))).long()
    right = (match(found, y, size)[found] == y).double()
    unseen = torch.isin(y, torch.tensor(list(hidden)))
    return {
        "accuracy": float(right.mean()),
        "seen_accuracy": float(right[~unseen].mean()) if (~unseen).any() else None,
        "unseen_accuracy": float(right[unseen].mean()) if unseen.any() else None,
        **agreement(found, y),
    }


def answers(results: Sequence[Result]) -> list[str]:
    """Compare AugVAE with k-means and M2."""
    lines: list[str] = []
    some = [labels for labels in counts(results) if labels != "0"]
    ours = [method for method in methods(results) if method.startswith("augmented")]
    others = (("vae", "k-means on a VAE's latents"), ("m2", "M2"))
    for other, words in others:
        there = other in methods(results)
        lines += [f"**Does it find classes without any label better than {words}?** Differences to it.", ""]
        for method in ours if there else ():
            for column in COLUMNS[:3]:
                base = [Where(other, "0" if other == "vae" else n) for n in some]
                found = [
                    (at_labels(n), difference(results, column.path, Where(method, n), b)) for n, b in zip(some, base)
                ]
                lines.append(f"- {method}, {column.words}: {summary(found, digits=column.digits)}")
        lines += [""] if ours and there else ["- Nothing was compared.", ""]
    return lines[:-1]


COLUMNS = (
    Column("semi_unsupervised.unseen_accuracy", "accuracy, classes without labels", 3, panel=True),
    Column("semi_unsupervised.seen_accuracy", "accuracy, classes with labels", 3, panel=True),
    Column("semi_unsupervised.nmi", "NMI", 3, panel=True),
    Column("semi_unsupervised.ari", "ARI", 3),
    Column("elbo", "ELBO", 2),
)

STUDY = Study(
    name="semi-unsupervised",
    title="Semi-unsupervised: classes without any label",
    notes=(
        "The classes without labels are the last three tenths, or those that --classes names; their points are there. "
        "Their accuracy is that under the best one-to-one matching of the outputs that no label claims.",
        "`vae` is k-means (K clusters) on its latent means, all clusters matched to classes: it is allowed more "
        "matching than the others, and knows no label.",
    ),
    methods=("augmented-probabilities", "augmented-enumerate", "m2", "vae"),
    full=Plan("digits", ("50", "200", "all")),
    quick=Plan("digits", ("50", "all"), seeds=2, steps=60, draws=1),
    compute=compute,
    columns=COLUMNS,
    answers=answers,
    combinations=combinations,
    takes=("classes", "draws"),
)
