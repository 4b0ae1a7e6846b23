"""The verbs of a model that classifies, and what its head takes from the training data."""

from __future__ import annotations

import math
from functools import cache
from typing import ClassVar

from numpy.typing import ArrayLike
from torch import Tensor

from ..infer.auxiliary import HeadTerms
from ..label_arrays import value_counts
from ..labels import Labels
from ..nn.likelihood_base import Likelihood
from ..nn.networks import ClassHead
from .base import Model
from .rewritten import guided_probs, overridden_since


class ClassifierMixin(Model):
    """A model with a class head. Its ``q_y(x)`` gives the probabilities ``[B, K]`` or ``[B, A]``.

    :ivar y_is_observed: whether known labels are observed by the model's site y, and the guide has none.
    """

    labels: Labels
    y_is_observed: ClassVar[bool] = False

    def q_y(self, x: Tensor) -> Tensor:
        """The probabilities of q(y | x): ``[B, K]`` or ``[B, A]``."""
        raise NotImplementedError

    def expected_error(self, x: Tensor, y: Tensor) -> float | None:
        """How often simple methods miss labels that they have not seen; None of other points than vectors.

        See :func:`~pyro_ssvae.infer.expected_error.expected_error`. A sample of streamed rows has lost its labels.
        """
        if x.dim() != 2 or len(x) != len(y) or not isinstance(self.likelihood, Likelihood):
            return None
        from ..infer.expected_error import expected_error, rows_to_ask

        rows = rows_to_ask(y)
        return expected_error(self.likelihood.standardize(self.inputs(x[rows.to(x.device)])), y[rows.to(y.device)])

    def prepare_head(self, x: Tensor, y: Tensor, terms: HeadTerms | None) -> None:
        """Take from the training data what its labels say: p(y), ε, and how far the features of a table serve."""
        error = cache(lambda: self.expected_error(x, y))
        if terms is not None:
            terms.prepare(y, error)
        heads = [part for part in self.modules() if isinstance(part, ClassHead) and part.of_table]
        if heads:
            values = 2 if self.labels.event_shape else self.labels.size
            n = int(value_counts(y, values).sum()) / math.prod(self.labels.event_shape)
            for head in heads:
                head.lean_on_input(error() or 0.0, 1 - 1 / values, n)

    def class_probs(self, x: Tensor) -> Tensor:
        """The probabilities of the site y: :meth:`q_y`, unless a program that was rewritten since has others.

        It is the guide's site; the model's, in the mean of the guide's draws, where :attr:`y_is_observed`.
        """
        rewritten = ("model", "guide") if self.y_is_observed else ("guide", "infer_label")
        if any(overridden_since(self, program, "q_y") for program in rewritten):
            return guided_probs(self, x, of_model=self.y_is_observed)
        return self.q_y(x)

    def predict_proba(self, x: ArrayLike) -> Tensor:
        """q(y | x): ``[B, K]`` class or ``[B, A]`` attribute probabilities."""
        return self.read(self.class_probs, x)

    def predict(self, x: ArrayLike) -> Tensor:
        """The most probable labels: int64 ``[B]`` or ``[B, A]``."""
        return self.labels.mode(self.predict_proba(x))
