"""``transfer``: classes that are new, with few labels; does it pay to go on from a model of the other classes?

arXiv:1908.03015 names transfer learning; the protocol is this project's choice:

1. A model is trained on the rows of all classes, with all labels of the old classes and none of the new.
2. A model of the new classes alone takes over every weight whose shape does not depend on the number of classes.
   It is trained on the new classes' rows, few of them labelled: whole (``transfer``), or only what was not taken over,
   such as the class head (``head``).
3. The same from scratch: same rows, labels and steps as in 2, weights at random (``scratch``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..data import Dataset
from ..evaluation.evaluate import evaluate
from ..experiment.data import train_split
from ..labels import MISSING, ClassLabels
from ..models import Model
from .cells import Cell, Json, Result
from .grid import label_counts, last_classes, need_classes, source
from .intervals import Where, counts, difference, methods
from .methods import facts, learn, make_model, trained
from .plan import Column, Plan, Study
from .words import at_labels, summary

STARTS = ("transfer", "head", "scratch")


def combinations(plan: Plan, dataset: Dataset) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield all methods at all numbers of labels but 0."""
    need_classes("transfer", dataset)
    new = last_classes(plan, dataset)
    for labels in label_counts(plan, only(dataset, new)):
        for method in plan.methods:
            if labels != "0":
                yield method, labels, new


def only(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Return the rows of some classes, which are numbered anew in this order."""
    old = torch.tensor([list(dataset.labels.names).index(name) for name in names])

    def some(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.isin(y, old)
        return x[rows], (y[rows].unsqueeze(-1) == old).long().argmax(-1)

    (x, y), (x_test, y_test) = some(dataset.x, dataset.y), some(dataset.x_test, dataset.y_test)
    labels = ClassLabels(len(names), list(names))
    return Dataset(dataset.name, x, y, x_test, y_test, labels)


def compute(cell: Cell, dataset: Dataset, device: str) -> Json:
    """Return test metrics on the new classes, of each start."""
    new = only(dataset, cell.classes)
    split, _ = train_split(new, source(cell), cell.seed)
    before, _ = train_split(dataset, replace(source(cell, hide_classes=cell.classes), labels="all"), cell.seed)
    assert (split.y != MISSING).any()
    learnt = trained(cell, before, device).cpu()
    found = facts(split)
    for start in STARTS:
        model = make_model(cell, new)
        taken = take_over(model, learnt) if start != "scratch" else []
        for name, p in model.named_parameters():
            p.requires_grad_(start != "head" or name not in taken)
        steps = learn(model, cell, split, device)
        metrics = evaluate(model, new.x_test, new.y_test, num_samples=cell.draws)
        found[start] = {**metrics, "steps": steps, "weights_taken_over": len(taken)}
    return found


def take_over(model: Model, learnt: Model) -> list[str]:
    """Copy the weights and running means whose names and shapes agree; return the parameters' names."""
    state, there = model.state_dict(), learnt.state_dict()
    same = [
        name for name, value in state.items() if name in there and there[name].shape == value.shape and value.dim() > 0
    ]
    model.load_state_dict({name: there[name] for name in same}, strict=False)
    own = dict(model.named_parameters())
    return [name for name in same if name in own]


def answers(results: Sequence[Result]) -> list[str]:
    """Compare each start with scratch, and AugVAE's transfer with the classifier's."""
    lines: list[str] = []
    some = counts(results)
    for start, words in (("transfer", "going on from the other classes"), ("head", "fitting what is new alone")):
        lines += [
            f"**Does {words} beat training from scratch?** Accuracy on the new classes, `{start}` less scratch.",
            "",
        ]
        for method in methods(results):
            here = [Where(method, n) for n in some]
            found = [
                (at_labels(w.labels), difference(results, f"{start}.accuracy", w, w, "scratch.accuracy")) for w in here
            ]
            lines.append(f"- {method}: {summary(found)}")
        lines.append("")
    if "classifier" in methods(results):
        lines += [
            "**Does it transfer better than a classifier?** Accuracy after `transfer`, less the classifier's.",
            "",
        ]
        for method in (m for m in methods(results) if m != "classifier"):
            pairs = [(n, Where(method, n), Where("classifier", n)) for n in some]
            found = [(at_labels(n), difference(results, "transfer.accuracy", a, b)) for n, a, b in pairs]
            lines.append(f"- {method}: {summary(found)}")
    return lines


STUDY = Study(
    name="transfer",
    title="Transfer: new classes with few labels",
    notes=(
        "New are the last three tenths of the classes, or those that --classes names. First training: rows of all "
        "classes, all labels of the old, none of the new. Second: rows of the new classes alone, few of them labelled.",
        "transfer: the second training goes on from the first one's weights (those whose shape does not depend on the "
        "number of classes). head: only what was not taken over is trained. scratch: the second training alone, "
        "with the same rows, labels and steps.",
        "Accuracy is that among the new classes, on their test points.",
    ),
    methods=("augmented-probabilities", "augmented-enumerate", "m2", "m1+m2", "revae", "classifier"),
    full=Plan("digits", ("3", "15", "60"), draws=10),
    quick=Plan("digits", ("3", "15"), seeds=2, steps=20, draws=1),
    compute=compute,
    columns=(
        Column("transfer.accuracy", "accuracy, transfer", panel=True),
        Column("head.accuracy", "accuracy, head", panel=True),
        Column("scratch.accuracy", "accuracy, scratch", panel=True),
        Column("transfer.elbo", "ELBO, transfer", 2),
        Column("scratch.elbo", "ELBO, scratch", 2),
    ),
    answers=answers,
    combinations=combinations,
    takes=("classes", "draws"),
)
