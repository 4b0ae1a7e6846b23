"""The MVAE's objective: the bounds of several subsets of the modalities.

Source: Wu, Goodman (2018), arXiv:1802.05335.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from ..labels import MISSING
from .ccvae_bound import DifferentiableELBO
from .pairs import Program

Part = tuple[str, Program, Program, tuple[object, ...]]
"""One of several bounds: a name, a model, a guide and their arguments."""


class Multimodal(Protocol):
    """A pair ``model(x, y, seen)``, ``guide(x, y, seen)``, where ``seen`` says of which rows x is there."""

    subsets: int

    def inputs(self, x: Tensor) -> Tensor: ...

    def targets(self, y: Tensor | None, x: Tensor) -> Tensor: ...

    def encoding_once(self) -> AbstractContextManager[None]: ...


class SubsampledELBO(DifferentiableELBO):
    """The sub-sampled training paradigm, for rows with some known label::

        ELBO(x, y_O) + ELBO(x) + ELBO(y_O) + Σ over random subsets S of {x, y_O}  ELBO(S)

    A row without any has ELBO(x), once. In a random subset, x and every known label is there with probability 1/2.
    (Choice: the paper takes each attribute by itself beside random subsets; here all known ones together, and what is
    in between is left to the random ones.)
    """

    def __init__(self, vae: Multimodal) -> None:
        super().__init__(max_plate_nesting=1, strict_enumeration_warning=False)
        self.vae = vae

    def parts(self, model: Program, guide: Program, x: Tensor, y: Tensor | None = None) -> list[Part]:
        """The bounds that it is the sum of, the full one first: a name, a model, a guide and their arguments."""
        x = self.vae.inputs(x)
        full = ("ELBO(x, y)", model, guide, (x, y))
        if y is None:
            return [full]
        y = self.vae.targets(y, x)
        labelled = (y != MISSING).reshape(len(y), -1).any(1)
        masked: Any = poutine.mask(mask=labelled)  # type: ignore[call-overload]
        model, guide = masked(model), masked(guide)
        more: list[tuple[str, Tensor | None, Tensor | bool]] = [("ELBO(x)", None, True), ("ELBO(y)", y, False)]
        for i in range(self.vae.subsets):
            kept = torch.rand(y.shape, device=y.device) < 0.5
            seen = torch.rand(len(y), device=y.device) < 0.5
            more.append((f"ELBO(subset {i + 1})", torch.where(kept, y, MISSING), seen))
        return [full, *((name, model, guide, (x, some, seen)) for name, some, seen in more)]

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The negative sum, over the batch too; ``args`` are x and y."""
        with self.vae.encoding_once():
            losses = [
                TraceEnum_ELBO.differentiable_loss(self, model, guide, *of)
                for _, model, guide, of in self.parts(model, guide, *args, **kwargs)
            ]
        return torch.stack(losses).sum()

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """The same number, without gradients."""
        parts = self.parts(model, guide, *args, **kwargs)
        with torch.no_grad(), self.vae.encoding_once():
            return sum(float(TraceEnum_ELBO.loss(self, model, guide, *of)) for _, model, guide, of in parts)
