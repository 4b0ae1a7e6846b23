"""Interventions and swaps on points, as an oracle reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..infer.batched import batched, evaluating
from ..infer.protocols import Intervenes, Intervention, Reconstructs, require
from ..labels import MISSING, Labels
from .oracle import Reading


class Reader(Protocol):
    """What reads points: :class:`~pyro_ssvae.evaluation.oracle.Oracle`, or one of one's own."""

    labels: Labels

    def read(self, x: ArrayLike) -> Reading:
        """Labels, factor values and features of points."""


class Trial:
    """The points, and what the oracle reads on them, on their reconstructions and on interventions."""

    def __init__(
        self, model: nn.Module, oracle: Reader, x: Tensor, y: Tensor, draws: int, batch_size: int, seed: int
    ) -> None:
        self.model, self.oracle, self.x, self.y = model, oracle, x, y
        self.draws, self.batch_size, self.seed = draws, batch_size, seed
        self.intervening = require(model, Intervenes)
        self.labels = self.intervening.labels
        reconstruct = require(model, Reconstructs).reconstruct
        self.x_hat = batched(model, reconstruct, x, rows=batch_size, seed=seed).cpu().reshape(x.shape)
        self.real, self.recon = oracle.read(x), oracle.read(self.x_hat)
        self.current = torch.where(y == MISSING, self.real.labels, y)

    def edited(self, rows: Tensor, values: Intervention) -> Iterator[tuple[Tensor, Tensor, list[Reading]]]:
        """Yield some of ``rows`` at a time, the images ``[S, b, ...]`` of an intervention on them, and S readings."""
        with evaluating(self.model, self.seed):
            for some in rows.split(self.batch_size) if len(rows) else ():
                images = self.intervening.intervene(self.x[some], values, num_samples=self.draws).cpu()
                yield some, images, [self.oracle.read(image.reshape(self.x[some].shape)) for image in images]

    def swapped(self, receivers: Tensor, donors: Tensor, name: str) -> Iterator[tuple[Tensor, Reading]]:
        """Yield some of the pairs at a time, and what the oracle reads on receivers with their donors' attribute."""
        with evaluating(self.model, self.seed):
            for some in torch.arange(len(receivers)).split(self.batch_size):
                x = self.x[receivers[some]]
                images = self.intervening.swap(x, self.x[donors[some]], name).cpu()
                yield some, self.oracle.read(images.reshape(x.shape))
