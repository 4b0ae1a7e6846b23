"""A model whose decoder hears the label beside z, and what is decoded of it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..data.inputs import numbers
from ..distributions.observed import entrywise
from ..distributions.sparse import Scattered
from ..errors import InputError
from ..infer.label_inference import MOST_SUMMED, How, Known
from ..label_arrays import value_counts
from ..labels import MISSING, Labels
from .base import given_labels
from .config import LabelConfig
from .label_mixin import LabelMixin
from .rewritten import overridden_since, prior_of, probs_of

ROUNDING = 1e-4  # of a probability
SMALL = 256  # numbers of a point, whose decode costs no more than to find those that need one


class ConditionalDecoder(LabelMixin):
    """A model whose decoder hears z and the label: ``p(y) p(z) p(x | z, y)``.

    ``decode(z, y)`` takes integers, one a row or for all, or inputs ``[B, K]`` from 0 to 1; a missing label enters as
    its probabilities under p(y).

    :ivar decodes: with ``label_inference="sparse"``, how many decodes a point the latest batch took.
    :ivar mostly_known: whether more than half of the rows that :meth:`prepare` saw have a class, and a decode costs
        more than to find them.
    """

    Config: ClassVar[type[LabelConfig]] = LabelConfig
    config: LabelConfig
    mostly_known = False

    def prepare(self, x: Tensor, y: Tensor) -> None:
        super().prepare(x, y)
        self.mostly_known = (
            not self.labels.event_shape
            and x[0].numel() > SMALL
            and int(value_counts(y, self.labels.size).sum()) > len(y) / 2
        )

    def known_places(self) -> Known:
        """With few labels missing, a known one is decoded once.

        Not on a GPU, where the number of decodes would have to be asked for: that keeps a step from being a CUDA graph,
        and costs more than the decodes.
        """
        known = super().known_places()
        if known == "own" and self.mostly_known and self.device.type == "cpu":
            return "skip"
        return known

    def set_label(self, labels: Labels, how: How, *, summed: int = MOST_SUMMED, joint: bool = True) -> None:
        super().set_label(labels, how, summed=summed, joint=joint)
        if self.label_inference.how == "sparse":
            self.decodes: Tensor
            self.register_buffer("decodes", torch.tensor(1.0), persistent=False)

    def count_decodes(self) -> Tensor | None:
        """How many decodes a point the latest batch took; None where it is the same number always."""
        return self.decodes if self.label_inference.how == "sparse" else None

    def networks_of_label(self) -> tuple[nn.Module, ...]:
        return (self.decoder,)

    def p_x_given(self, z: Tensor, y: Tensor, x: Tensor) -> dist.TorchDistribution:
        """p(x | z, y). Places of an enumeration that no class takes are not decoded."""
        c = self.class_input(y, x)
        sparse = self.label_inference.how == "sparse"
        gaps = sparse or (self.training and self.known_places() == "skip")
        if not gaps or y.is_floating_point() or y.dim() != 2:
            return self.p_x(self.decoder(z, c))
        needed = y != MISSING
        place, row = needed.nonzero(as_tuple=True)
        if sparse:
            self.decodes.copy_(needed.sum() / len(x))
        torch._check(row.shape[0] >= len(x))  # what a captured program may rely on
        z = z[row] if z.dim() == 2 else z.expand(*needed.shape, -1)[place, row]
        return Scattered(entrywise(self.p_x(self.decoder(z, c[place, row]))), place, row, needed.shape)

    @property
    def takes_probs(self) -> bool:
        """Whether x is decoded of a missing label's probabilities; what was rewritten and never trained on any may take
        labels alone, such as by ``one_hot``."""
        parts = ("model", "p_x_given", "class_input")
        return self.label_inference.relaxed or not any(overridden_since(self, part, "default") for part in parts)

    def decode(self, z: Tensor, y: ArrayLike | None = None, *, like: ArrayLike | None = None) -> Tensor:
        try:
            return super().decode(z, y, like=like)
        except (RuntimeError, TypeError, IndexError):  # of a program of one's own
            if self.takes_probs or not self.label_values(len(z), y, self.parts(z))["y"].is_floating_point():
                raise
        raise InputError(
            "decode: the model as it was rewritten takes labels, and no probabilities; all labels are needed"
        )

    def label_values(self, n: int, y: ArrayLike | None, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        if isinstance(y, (Tensor, np.ndarray)) and is_float(y) and y.ndim == 2:
            given = numbers(y, "y").to(self.device)
            if not (self.labels.event_shape and are_values(given)):
                return {"y": self.checked_inputs(given, n)}
        known = self.labels.check(None, n, self.device) if y is None else given_labels(y, n, self.labels, self.device)
        missing = bool((known == MISSING).any())
        return {"y": self.labels.impute(self.prior_probs(n, parts), known) if missing else known}

    def prior_probs(self, n: int, parts: dict[str, Tensor]) -> Tensor:
        """The probabilities of p(y), of a rewritten model p(y | z), for ``n`` points: ``[n, K]`` or ``[n, A]``."""
        rewritten = overridden_since(self, "model", "default")
        p_y = prior_of(self, "y", n, parts, "decode") if rewritten else self.p_y()
        return probs_of(p_y, "decode: p(y)", "all labels are needed").expand(n, -1)

    def checked_inputs(self, c: Tensor, n: int) -> Tensor:
        """Inputs of the label for ``n`` points, from inputs a row or from one row for all."""
        size = self.labels.size
        if c.shape not in ((n, size), (1, size)):
            raise InputError(f"y: shape {list(c.shape)}; labels, or inputs [{n}, {size}] of them, are needed")
        wrong = ~((c >= -ROUNDING) & (c <= 1 + ROUNDING))
        if bool(wrong.any()):
            row = int(wrong.any(1).nonzero()[0])
            raise InputError(f"y: row {row} holds {float(c[row][wrong[row]][0]):g}; inputs of a label are from 0 to 1")
        return c.expand(n, -1)


def is_float(y: Tensor | np.ndarray) -> bool:
    """Whether labels are no integers, such as probabilities."""
    return y.is_floating_point() if isinstance(y, Tensor) else y.dtype.kind == "f"


def are_values(y: Tensor) -> bool:
    """Whether numbers are attributes' values, missing ones among them, and no shares."""
    return bool(((y == MISSING) | (y == 0) | (y == 1) | y.isnan()).all())
