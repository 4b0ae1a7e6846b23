"""``semi-unsupervised``: some classes have no label at all; are they found, beside those that have?

Task and name: Willetts, Roberts, Holmes, arXiv:1810.12176. Claim: arXiv:1908.03015.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from ..data import Dataset
from ..evaluation.evaluate import batched, evaluate
from ..evaluation.metrics import agreement, match
from ..experiment.run import judged, training_part
from ..labels import MISSING
from .cells import Cell, Result
from .intervals import Where, counts, difference, methods
from .methods import facts, trained
from .plan import Column, Plan, Study, label_counts, last_classes, need_classes, source
from .sparse_labels import at
from .words import summary

MOST_ROWS = 10_000  # that k-means learns its centres from


def combinations(plan: Plan, whole: Dataset) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The VAE, which no label reaches, once."""
    need_classes("semi-unsupervised", whole)
    hidden = last_classes(plan, whole)
    for labels in dict.fromkeys([*(["0"] if "vae" in plan.methods else []), *label_counts(plan, whole, hidden)]):
        for method in plan.methods:
            if (method == "vae") == (labels == "0"):
                yield method, labels, hidden


def compute(cell: Cell, whole: Dataset, device: str) -> dict[str, Any]:
    """``semi_unsupervised`` of :func:`~pyro_ssvae.evaluate.evaluate`, and its other metrics."""
    told = source(cell, hide_classes=cell.classes)
    part, _ = training_part(whole, told, cell.seed)
    model = trained(cell, part, device)
    metrics = evaluate(model, whole.x_test, whole.y_test, num_samples=cell.draws, **judged(told, whole, part))
    if cell.method == "vae":
        hidden = [list(whole.labels.names).index(name) for name in cell.classes]
        metrics["semi_unsupervised"] = k_means(model, part.x, whole.x_test, whole.y_test, hidden, cell.seed)
    return {**facts(part), **metrics}


def k_means(model: nn.Module, x: Tensor, x_test: Tensor, y_test: Tensor, hidden: Sequence[int], seed: int) -> dict:
    """K clusters of the training points' latent means, and how test points fall into them.

    All clusters are matched one-to-one to classes, since k-means knows no label.
    """

    def latents(rows: Tensor) -> Any:
        return batched(model, lambda some: model.encode(some).mean.flatten(1), rows).double().numpy()  # type: ignore[operator]

    size = int(model.labels.size)  # type: ignore[arg-type]
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
    """AugVAE against k-means and M2."""
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
                found = [(at(n), difference(results, column.path, Where(method, n), b)) for n, b in zip(some, base)]
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
)
