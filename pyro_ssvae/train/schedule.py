"""The learning rate, step by step."""

from __future__ import annotations

import math

import torch


def one_cycle(progress: float, step: float) -> float:
    """Return the learning rate's share of its peak: up over the first tenth, then down to zero as half a cosine."""
    if progress < 0.1:
        return min(1.0, (progress + step) / 0.1)
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))


class LearningRate:
    """The learning rate of each group of an optimiser: the group's own, times :func:`one_cycle`, times what is left
    of it after rollbacks.

    :ivar peak: the first group's own learning rate.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self.peak = self.peaks[0]

    def set(self, done: int, steps: int, scale: float) -> None:
        """Set the rates of the step after ``done`` of ``steps``; ``scale`` is what rollbacks have left."""
        share = scale * one_cycle(done / steps, 1 / steps)
        for group, peak in zip(self.optimizer.param_groups, self.peaks):
            group["lr"] = share * peak
