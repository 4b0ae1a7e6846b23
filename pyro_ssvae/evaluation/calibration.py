"""Probabilities and prediction sets that hold on labels which training did not learn from.

``predict_proba`` stays the model's own q(y | x). What is here is laid over it: a temperature, and the scores that
prediction sets are cut at (:mod:`~pyro_ssvae.evaluation.prediction_sets`).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..data.inputs import numbers
from ..data.label_values import label_values
from ..errors import InputError
from ..files import write_atomically
from ..infer.batched import batched, checked
from ..infer.pairs import PairLike, as_pair
from ..infer.protocols import Classifies, require
from ..labels import MISSING, AttributeLabels, ClassLabels, Labels
from .bootstrap import Metrics
from .metrics import SMALLEST, calibration_error, chance_calibration_error
from .prediction_sets import label_sets, log_odds, threshold, true_scores
from .temperature import likelihood, temperature, tempered

COVERAGE = 0.9
"""Of prediction sets, where nothing else is said."""
MOST_SCORES = 2000
"""Scores that are kept, at most; evenly spaced ones of more."""
ROUNDING = 1e-2
"""How far probabilities may be from summing to 1: those of 16 bits, or written with few digits, are."""


@dataclass(frozen=True)
class Calibration:
    """What held-out labels say of a model's probabilities.

    :ivar classes: whether labels are classes; else attributes.
    :ivar temperature: T, ``[1]`` for classes, ``[A]`` for attributes; 1 where it does not help.
    :ivar shift: b, ``[A]`` for attributes, 0 where it does not help; without it, what cannot be known would tend to 1/2
        and not to its share. Nothing for classes.
    :ivar scores: log-odds of the true labels under the model's own probabilities, in order, one list for the classes,
        or one an attribute. Temperature and shift come from the same labels, and would make sets of too few labels.
    :ivar rows: how many labels there were (of attributes, rows with at least one).
    :ivar how: ``held-out`` labels, or ``cross-fitted``: of models that were trained without them.
    """

    classes: bool
    temperature: tuple[float, ...]
    scores: tuple[tuple[float, ...], ...] = field(repr=False)  # as many as held-out labels
    rows: int
    how: str = "held-out"
    shift: tuple[float, ...] = ()
    tempered: bool = False
    """Whether the scores are of the probabilities at the temperature, as earlier versions wrote them."""

    def checked(self, probs: ArrayLike) -> Tensor:
        """Return probabilities as a tensor.

        :raises InputError: those of another kind of labels, or of another number of attributes; or a row of others
            than probabilities, such as logits.
        """
        found = numbers(probs, "probs")
        if found.dim() != 2 or not (self.classes or found.shape[1] == len(self.temperature)):
            needed = "[N, K] of classes" if self.classes else f"[N, {len(self.temperature)}] of attributes"
            raise InputError(f"probs: shape {list(found.shape)}; {needed}, as predict_proba gives them, are needed")
        within = ((found >= -ROUNDING) & (found <= 1 + ROUNDING)).all(1)
        one = (found.double().sum(1) - 1).abs() <= ROUNDING if self.classes else torch.ones_like(within)
        wrong = (~(within & one)).nonzero()
        if len(wrong):
            row = int(wrong[0])
            said = ", ".join(f"{p:.3g}" for p in found[row, :3].tolist()) + " …" * (found.shape[1] > 3)
            needed = f"numbers from 0 to 1{' that sum to 1' * self.classes}"
            raise InputError(f"probs: row {row} is {said}; {needed}, as predict_proba gives them, are needed")
        return found

    def predict_proba(self, probs: ArrayLike) -> Tensor:
        """Return probabilities at the temperature, as given (:func:`~.temperature.tempered`)."""
        probs = self.checked(probs)
        p = probs.double()
        t, b = (torch.tensor(each, dtype=torch.double, device=p.device) for each in (self.temperature, self.shift))
        if bool((t == 1).all()) and not bool(b.any()):
            return probs
        return tempered(p, t, b if len(b) else 0.0, self.classes).to(probs)

    def predict_set(self, probs: ArrayLike, coverage: float = COVERAGE) -> Tensor:
        """Return which labels are in each point's set, the most probable one always.

        :param probs: the model's own, ``[N, K]`` or ``[N, A]``.
        :return: bool ``[N, K]``, or ``[N, A, 2]`` for the values 0 and 1, each attribute with its own coverage.
        """
        p = self.checked(probs).double()
        shown = log_odds(self.predict_proba(p), self.classes)
        scores = shown if self.tempered else log_odds(p, self.classes)
        cut = torch.tensor([threshold(torch.tensor(s), coverage) for s in self.scores], dtype=torch.double)
        return label_sets(scores, (cut[0] if self.classes else cut).to(scores.device), shown)

    def metrics(self, probs: ArrayLike, y: ArrayLike, coverage: float = COVERAGE) -> Metrics:
        """Return what the calibration comes to on other labelled points, -1 where missing.

        ``nll`` and calibration errors as in :func:`~.metrics.class_metrics`, at the temperature; ``coverage``, the
        share of true labels in their sets; ``set_size``, the mean number of labels in a set; ``single_sets``, the share
        of sets of one label.

        :raises InputError: labels of another shape than the probabilities, or none that is known.
        """
        probs, y = self.checked(probs), label_values(y, None)
        if y.shape != (probs.shape[:1] if self.classes else probs.shape) or not bool((y != MISSING).any()):
            raise InputError(f"y: shape {list(y.shape)}; known labels of probabilities {list(probs.shape)} are needed")
        width = probs.shape[1]
        labels = ClassLabels(width) if self.classes else AttributeLabels([f"a{i}" for i in range(width)])
        y = labels.check(y, len(probs), probs.device)
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
            "temperature": list(self.temperature),
            "shift": list(self.shift),
            "rows": self.rows,
            "how": self.how,
            "tempered": self.tempered,
            "scores": [list(scores) for scores in self.scores],
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
        width = 1 if classes else len(labels.names)
        try:
            saved = json.loads(path.read_text("utf-8"))
            t, scores = tuple(map(float, saved["temperature"])), [tuple(map(float, s)) for s in saved["scores"]]
            b = tuple(map(float, saved.get("shift", ())))  # earlier versions had none
            right = saved["labels"] == ("classes" if classes else "attributes") and len(t) == len(scores) == width
            right = right and len(b) in (0, 0 if classes else width) and all(map(math.isfinite, b))
            if not right or not all(0 < value < math.inf for value in t):
                raise ValueError("other labels")
            return cls(
                classes=classes,
                temperature=t,
                scores=tuple(scores),
                rows=int(saved["rows"]),
                how=str(saved["how"]),
                shift=b,
                tempered=saved.get("tempered", True),
            )
        except (KeyError, TypeError, ValueError, OSError, RecursionError) as error:
            reason = " ".join(str(error).split())[:100]
            raise InputError(f"{path}: it is not the calibration of this run ({reason}); train the run anew") from None


def calibrate(model: PairLike, x: ArrayLike, y: ArrayLike | None = None) -> Calibration:
    """Return the calibration of a model on labelled points that it did not learn from.

    :param x: points ``[N, *input_shape]``.
    :param y: labels, -1 where missing; None where x has labels of its own.
    :raises InputError: a model without labels, points or labels that do not fit, or no known label.

    Example::

        calibration = ps.calibrate(vae, x_held, y_held)
        calibration.predict_proba(vae.predict_proba(x))  # at the temperature
        calibration.predict_set(vae.predict_proba(x))  # bool [N, K]; the true label is in 90 of 100 or more
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
    if classes:
        fitted = [temperature(probs[known[:, 0]], y[known[:, 0]], classes)]
    else:
        fitted = [temperature(p[k][:, None], v[k][:, None], classes) for p, v, k in zip(probs.T, y.T, known.T)]
    t, b = zip(*fitted)
    made = Calibration(classes, t, (), rows, how, () if classes else b)
    scores = true_scores(log_odds(probs.double(), classes), y).reshape(len(y), -1)
    return replace(made, scores=tuple(kept(s[~s.isnan()]) for s in scores.T))


def kept(scores: Tensor) -> tuple[float, ...]:
    """Return scores in order, at most :data:`MOST_SCORES`."""
    ordered = scores.sort().values
    if len(ordered) > MOST_SCORES:
        ordered = ordered[torch.linspace(0, len(ordered) - 1, MOST_SCORES).round().long()]
    return tuple(float(score) for score in ordered)
