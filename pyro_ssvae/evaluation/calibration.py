"""Probabilities and prediction sets that hold on labels which training did not learn from.

``predict_proba`` stays the model's own q(y | x). What is here is laid over it: a temperature, what its classes mean
(:mod:`~pyro_ssvae.evaluation.confusion`), and the scores that prediction sets are cut at
(:mod:`~pyro_ssvae.evaluation.prediction_sets`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..data.frame_types import Frame
from ..data.frames import in_order, names_of, with_names
from ..data.inputs import numbers
from ..data.label_values import label_values
from ..errors import InputError
from ..files import write_atomically
from ..infer.batched import batched, checked
from ..infer.pairs import PairLike, as_pair
from ..infer.protocols import Classifies, require
from ..labels import MISSING, ClassLabels, Labels
from .bootstrap import Metrics
from .metrics import SMALLEST, calibration_error, chance_calibration_error
from .prediction_sets import label_sets, log_odds, places, rank, true_scores
from .scaling import ROUNDING, Scaling, fitted, likelihood

COVERAGE = 0.9
"""Of prediction sets, where nothing else is said."""
MOST_LABELS = 10_000
"""Labels that a scaling is fitted to, at most."""
MOST_SCORES = 2000
"""Scores that are kept, at most; evenly spaced ones of more."""


@dataclass(frozen=True)
class Fold:
    """Log-odds of true labels, in order, under a scaling that was not fitted to them."""

    scaling: Scaling
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """What held-out labels say of a model's probabilities.

    :ivar labels: the model's.
    :ivar scalings: what is done to the probabilities of the classes, or to each attribute's: one, or A
        (:class:`~.scaling.Scaling`).
    :ivar folds: of each of these what its sets are cut at.
    :ivar rows: how many labels there were (of attributes, rows with at least one).
    :ivar how: ``held-out`` labels, or ``cross-fitted``: of models that were trained without them.
    """

    labels: Labels
    scalings: tuple[Scaling, ...]
    folds: tuple[tuple[Fold, ...], ...] = field(repr=False)  # as many scores as held-out labels
    rows: int
    how: str = "held-out"

    @property
    def classes(self) -> bool:
        """Whether labels are classes; else attributes."""
        return isinstance(self.labels, ClassLabels)

    @property
    def temperature(self) -> tuple[float, ...]:
        """T, ``[1]`` for classes, ``[A]`` for attributes; 1 where it does not help."""
        return tuple(scaling.temperature for scaling in self.scalings)

    @property
    def shift(self) -> tuple[float, ...]:
        """b, ``[A]`` for attributes, 0 where it does not help; nothing for classes."""
        return () if self.classes else tuple(scaling.shift for scaling in self.scalings)

    @property
    def confusion(self) -> tuple[tuple[float, ...], ...]:
        """C of classes, ``[K, K]``; nothing where it does not help, and for attributes."""
        return self.scalings[0].confusion if self.classes else ()

    def checked(self, probs: ArrayLike) -> Tensor:
        """Return probabilities as a tensor; the columns of a table by their names, ``cat`` or ``p_cat``, in any order.

        :raises InputError: those of other labels; or a row of others than probabilities, such as logits.
        """
        given, what = with_names(probs), "classes" if self.classes else "attributes"
        found = numbers(given, "probs")
        if found.dim() != 2 or found.shape[1] != self.labels.size:
            needed = f"[N, {self.labels.size}] of {what}"
            raise InputError(f"probs: shape {list(found.shape)}; {needed}, as predict_proba gives them, are needed")
        if isinstance(given, Frame) and (names := names_of(given)):
            known = list(self.labels.names)
            bare = names if set(names) == set(known) else [name.removeprefix("p_") for name in names]
            order = in_order(bare, known, "probs", f"the {what}")
            found = found if order is None else found[:, order]
        within = ((found >= -ROUNDING) & (found <= 1 + ROUNDING)).all(1)
        one = (found.double().sum(1) - 1).abs() <= ROUNDING if self.classes else torch.ones_like(within)
        wrong = (~(within & one)).nonzero()
        if len(wrong):
            row = int(wrong[0])
            said = ", ".join(f"{p:.3g}" for p in found[row, :3].tolist()) + " …" * (found.shape[1] > 3)
            needed = f"numbers from 0 to 1{' that sum to 1' * self.classes}"
            raise InputError(f"probs: row {row} is {said}; {needed}, as predict_proba gives them, are needed")
        return found if found.is_floating_point() else found.float()

    def predict_proba(self, probs: ArrayLike) -> Tensor:
        """Return probabilities ``softmax(log p / T) C`` of classes, ``sigmoid(logit p / T + b)`` of attributes."""
        probs = self.checked(probs)
        if all(scaling == Scaling() for scaling in self.scalings):
            return probs
        parts = zip(self.scalings, self.parts(probs))
        return torch.cat([scaling(p, self.classes) for scaling, p in parts], -1).to(probs)

    def parts(self, probs: Tensor) -> tuple[Tensor, ...]:
        """The probabilities that are scaled together: ``[N, K]``, or ``[N, 1]`` of each attribute."""
        return (probs,) if self.classes else probs.split(1, -1)

    def predict_set(self, probs: ArrayLike, coverage: float = COVERAGE) -> Tensor:
        """Return which labels are in each point's set, the most probable one always.

        :param probs: the model's own, ``[N, K]`` or ``[N, A]``.
        :return: bool ``[N, K]``, or ``[N, A, 2]`` for the values 0 and 1, each attribute with its own coverage.
        """
        p = self.checked(probs).double()
        inside = [self.inside(part, folds, coverage) for part, folds in zip(self.parts(p), self.folds)]
        found = inside[0] if self.classes else torch.cat(inside, 1)
        return label_sets(found, log_odds(self.predict_proba(p), self.classes))

    def inside(self, p: Tensor, folds: tuple[Fold, ...], coverage: float) -> Tensor:
        """Which labels are as probable as the true ones mostly were: ``[N, K]`` or ``[N, 1, 2]``."""
        below = [
            places(log_odds(fold.scaling(p, self.classes), self.classes), p.new_tensor(fold.scores)) for fold in folds
        ]
        return torch.stack(below).sum(0) >= rank(sum(len(fold.scores) for fold in folds), coverage)

    def metrics(self, probs: ArrayLike, y: ArrayLike, coverage: float = COVERAGE) -> Metrics:
        """Return what the calibration comes to on other labelled points, -1 where missing.

        ``accuracy``, ``nll`` and calibration errors as in :func:`~.metrics.class_metrics`, of the calibrated
        probabilities; ``coverage``, the share of true labels in their sets; ``set_size``, the mean number of labels in
        a set; ``single_sets``, the share of sets of one label.

        :param y: numbers, or the words of the labels.
        :raises InputError: labels of another shape than the probabilities, or none that is known.
        """
        probs, y = self.checked(probs), label_values(y, self.labels)
        if y.shape != (probs.shape[:1] if self.classes else probs.shape):
            raise InputError(f"y: shape {list(y.shape)}; labels of probabilities {list(probs.shape)} are needed")
        y = self.labels.check(y, len(probs), probs.device)
        if not bool((y != MISSING).any()):
            raise InputError("y: no label is known; at least one is needed")
        known, t = y != MISSING, self.predict_proba(probs.double())
        sets = self.predict_set(probs, coverage)
        inside = sets.gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1)[known].double()
        sizes = sets.sum(-1)[known].double()
        if self.classes:
            error = calibration_error(t[known].amax(-1), t[known].argmax(-1) == y[known])
            chance = chance_calibration_error(t[known].amax(-1))
        else:
            parts = [(p[k], v[k]) for p, v, k in zip(t.T, y.T, known.T) if k.any()]
            error = sum(calibration_error(p, v) for p, v in parts) / max(1, len(parts))
            chance = sum(chance_calibration_error(p) for p, _ in parts) / max(1, len(parts))
        return {
            "temperature": self.temperature[0] if self.classes else list(self.temperature),
            **({} if self.classes else {"shift": list(self.shift)}),
            "calibration_labels": self.rows,
            "accuracy": float((self.labels.mode(t) == y)[known].double().mean()),
            "nll": float(-likelihood(t, y, self.classes)[known].clamp_min(SMALLEST).log().mean()),
            "calibration_error": error,
            "calibration_error_by_chance": chance,
            "coverage": float(inside.mean()),
            "set_size": float(sizes.mean()),
            "single_sets": float((sizes == 1).double().mean()),
        }

    def as_json(self) -> Metrics:
        """Return what :meth:`load` reads."""
        return {
            "labels": "classes" if self.classes else "attributes",
            "rows": self.rows,
            "how": self.how,
            "parts": [
                {**scaling.as_json(), "folds": [{**f.scaling.as_json(), "scores": list(f.scores)} for f in folds]}
                for scaling, folds in zip(self.scalings, self.folds)
            ],
        }

    def save(self, path: Path) -> None:
        """Write the calibration as JSON."""
        write_atomically(path, json.dumps(self.as_json()).encode())

    @classmethod
    def load(cls, path: Path, labels: Labels) -> Calibration:
        """Read what :meth:`save` wrote.

        :raises InputError: naming the file, where it is no calibration of a model with these labels.
        """
        classes = isinstance(labels, ClassLabels)
        width, size = (1, labels.size) if classes else (labels.size, 0)
        try:
            saved = json.loads(path.read_text("utf-8"))
            parts = saved["parts"] if "parts" in saved else earlier_parts(saved)
            if saved["labels"] != ("classes" if classes else "attributes") or len(parts) != width:
                raise ValueError("other labels")
            scalings = tuple(Scaling.of_json(part, size) for part in parts)
            folds = tuple(tuple(Fold(Scaling.of_json(f, size), tuple(map(float, f["scores"]))) for f in part["folds"])
                          for part in parts)  # fmt: skip
            return cls(labels, scalings, folds, int(saved["rows"]), str(saved["how"]))
        except (KeyError, TypeError, ValueError, OverflowError, OSError, RecursionError) as error:
            reason = " ".join(str(error).split())[:100]
            raise InputError(f"{path}: it is not the calibration of this run ({reason}); train the run anew") from None


def calibrate(model: PairLike, x: ArrayLike, y: ArrayLike | None = None) -> Calibration:
    """Return the calibration of a model on labelled points that it did not learn from.

    :param x: points ``[N, *input_shape]``.
    :param y: labels, -1 where missing; None where x has labels of its own.
    :raises InputError: a model without labels, points or labels that do not fit, or no known label.

    Example::

        calibration = ps.calibrate(vae, x_held, y_held)
        calibration.predict_proba(vae.predict_proba(x))  # calibrated
        calibration.predict_set(vae.predict_proba(x))  # bool [N, K]; the true label is in 90 of 100
    """
    pair = as_pair(model)
    classifier = require(pair, Classifies)
    points, known = checked(pair, x, y, own=True)
    if known is None:
        raise InputError("y: no labels; a calibration needs some that training did not learn from")
    probs = batched(pair, classifier.predict_proba, points).cpu()
    return from_probs(probs, known.cpu(), classifier.labels)


def from_probs(probs: Tensor, y: Tensor, labels: Labels, how: str = "held-out") -> Calibration:
    """Return the calibration of predicted probabilities ``[N, K]`` or ``[N, A]`` for labels, -1 where missing.

    :raises InputError: no label is known.
    """
    classes = isinstance(labels, ClassLabels)
    known = (y != MISSING).reshape(len(y), -1)
    rows = int(known.any(-1).sum())
    if not rows:
        raise InputError("y: no known label; a calibration needs some that training did not learn from")
    parts = [(probs, y)] if classes else [(p[:, None], v[:, None]) for p, v in zip(probs.T, y.T)]
    scalings, folds = [], []
    for (p, v), seen in zip(parts, known.T):
        some = some_of(seen)
        p, v = p[some], v[some]
        scaling, without = fitted(p, v, classes)
        scalings.append(scaling)
        most = MOST_SCORES // len(without)
        scores = [true_scores(log_odds(each(p[own], classes), classes), v[own]).flatten() for each, own in without]
        folds.append(tuple(Fold(each, kept(s, most)) for (each, _), s in zip(without, scores)))
    return Calibration(labels, tuple(scalings), tuple(folds), rows, how)


def some_of(seen: Tensor) -> Tensor:
    """Return the rows that are seen, at most :data:`MOST_LABELS`, drawn."""
    rows = seen.nonzero().squeeze(1)
    if len(rows) <= MOST_LABELS:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST_LABELS]]


def earlier_parts(saved: Metrics) -> list[Metrics]:
    """Return what an earlier version wrote as :meth:`Calibration.as_json` does: one temperature, scores in one fold."""
    shifts = dict(saved).get("shift") or [0.0] * len(saved["temperature"])
    parts = []
    for t, b, scores in zip(saved["temperature"], shifts, saved["scores"], strict=True):
        scaling = {"temperature": t, "shift": b, "confusion": []}
        at = scaling if "tempered" not in saved or saved["tempered"] else Scaling().as_json()
        parts.append({**scaling, "folds": [{**at, "scores": scores}]})
    return parts


def kept(scores: Tensor, most: int = MOST_SCORES) -> tuple[float, ...]:
    """Return scores in order, at most so many."""
    ordered = scores.sort().values
    if len(ordered) > most:
        ordered = ordered[torch.linspace(0, len(ordered) - 1, most).round().long()]
    return tuple(float(score) for score in ordered)
