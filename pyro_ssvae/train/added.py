"""Known rows that are added to a batch: they teach the class head, and the bound is that of the batch alone.

A batch is drawn from all rows, so its bound is right in the mean. Where labels are rare, known rows are added to it.
In the bound they would count a thousand times as much as any other point, and decoder and encoder learnt them by
heart (choice of this project).
"""

from __future__ import annotations

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ..infer.auxiliary import HEAD
from ..infer.pairs import Program, programs
from ..infer.traces import Site, is_factor, row_frame, sampled

NOTHING = 1e-20
"""A scale: 0 times the -inf of a value that a known label rules out is NaN."""


def factors_of(program: Program, x: Tensor, y: Tensor) -> list[str]:
    """Return the names of a program's factors, by a run on these rows."""
    with torch.no_grad(), poutine.block():
        sites = sampled(poutine.trace(program).get_trace(x, y))
    return [name for name, site in sites.items() if is_factor(site)]


def has_head(pair: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether a class head learns from a factor ``head`` of the guide, by a run on these rows."""
    return HEAD in factors_of(programs(pair)[1], x, y)


def weighs_classes(pair: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether weights of classes count in a factor of the pair's, by a run on these rows."""
    return any(name in (HEAD, "class_weights") for program in programs(pair) for name in factors_of(program, x, y))


def apart(model: Program, guide: Program, added: int) -> tuple[Program, Program]:
    """Return the programs, of which the last ``added`` rows count in the class head's factor alone."""

    def under(program: Program, scales: bool) -> Program:
        def run(x: Tensor, *more: object) -> object:
            with HeadAlone(torch.arange(len(x), device=x.device) < len(x) - added, scales):
                return program(x, *more)

        return run

    return under(model, False), under(guide, True)


class HeadAlone(Messenger):
    """Let some rows count in the site ``head`` alone.

    :param others: the rows that count everywhere, bool ``[B]``.
    :param scales: multiply by next to nothing, else mask. ``TraceEnum_ELBO`` takes a masked site of the guide to have
        weight 1 at every enumerated value, and sums out the model's own sites under one scale only.
    """

    def __init__(self, others: Tensor, scales: bool) -> None:
        super().__init__()
        self.others, self.scales = others, scales

    def _pyro_sample(self, msg: Site) -> None:
        frame = None if msg["name"] == HEAD else row_frame(msg, len(self.others))
        if frame is None or frame.dim is None:
            return
        others = self.others.reshape(-1, *[1] * (-frame.dim - 1))
        if self.scales:
            msg["scale"] = msg["scale"] * others.to(torch.get_default_dtype()).clamp_min(NOTHING)
        else:
            msg["mask"] = others if msg["mask"] is None else msg["mask"] & others
