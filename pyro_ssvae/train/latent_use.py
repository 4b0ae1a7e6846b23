"""How much a model makes of its latents while it trains: KL, reconstruction, active units; and a word on collapse."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from ..data.augment import unit_scale
from ..data.pair_order import Points
from ..data.random_rows import draw_rows
from ..infer.batched import evaluating, rows_at_a_time, spoilt
from ..infer.latent_use import active_units, elbo_and_kl
from ..infer.traces import has_bound
from ..labels import labels_of
from .progress import Row
from .step import Step

ROWS = 500  # of the sample, at most
NUMBERS = 2**21  # values of its points, at most
FEW = 0.05  # share of the latent dimensions below which hardly any is active


@dataclass(frozen=True)
class LatentUse:
    """A fixed sample of the training's rows, on which the latents' use is measured.

    :ivar y: their labels; None, all missing, of a pair that says what its labels mean.
    :ivar units: latent dimensions; 0 where none is continuous.
    :ivar rows: at a time.
    """

    x: Tensor
    y: Tensor | None
    seed: int
    units: int
    rows: int

    @property
    def columns(self) -> list[str]:
        """The history's columns."""
        return ["kl", "reconstruction", *(["active_units"] if self.units else [])]

    def __call__(self, objective: Step) -> Row:
        """Return the columns' numbers (nats a row; a count), in evaluation mode; the same random numbers are drawn each
        time, and put back."""
        pair = objective.module
        with evaluating(objective, self.seed), pyro.validation_enabled(False):
            if spoilt(pair):  # the training goes back to its last finite state
                return dict.fromkeys(self.columns, math.nan)
            elbo, kl = elbo_and_kl(pair, self.x, self.y, summed=False, rows=len(self.x)).double().mean(0).tolist()
            row = {"kl": kl, "reconstruction": elbo + kl}
            if self.units:
                row["active_units"] = float(active_units(pair, self.x, self.y, rows=self.rows)[0])
        return row


def latent_use_of(objective: Step, x: Points, y: Tensor, seed: int, device: torch.device) -> LatentUse | None:
    """Return the measurement for a pair; None for one that has no bound on log p(x), or whose sites cannot be added up.

    :param x: all points of the training; at most 500 of them, drawn at random by the seed, are measured on.
    """
    pair = objective.module
    most = min(ROWS, max(2, NUMBERS // math.prod(x.shape[1:])))
    rows = draw_rows(x, most, seed)
    points = unit_scale(x[rows.to(x.device) if isinstance(x, Tensor) else rows]).to(device)
    known = None if labels_of(pair) is not None else y[rows.to(y.device)].long().to(device)
    try:
        with evaluating(objective, seed):
            if not has_bound(pair, points):
                return None
            elbo_and_kl(pair, points, known, summed=False, rows=len(points))
            most = rows_at_a_time(pair, points, known)
            units = active_units(pair, points, known, rows=most)[1]
    except Exception:  # one's own pair may do in its programs what a training bears, and a look at its sites does not
        return None
    return LatentUse(points, known, seed, units, most)


def say_collapse(active: float, units: int) -> None:
    """Say on stderr where fewer latent dimensions are active than two, or than one in twenty."""
    if active < min(units, max(2.0, FEW * units)):
        verb = "is" if active == 1 else "are"
        told = f"{active:.0f} of {units} latent dimensions {verb} active, the decoder hardly uses z"
        cure = "where entries of x tell of each other, a density as likelihood, more epochs or a smaller beta may help"
        print(f"fit: {told}; {cure}", file=sys.stderr)
