"""Interventions that are read as they were meant: what the ReVAE's training adds to its bound.

A choice of this project. The bound asks the decoder to follow z_c only where z_c came from an encoder that also saw the
rest; it may then read an attribute off z_s as well, and draw glasses that an intervention took away.
"""

from __future__ import annotations

from itertools import chain
from typing import Protocol

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..labels import MISSING, Labels
from ..nn.networks import evaluation
from .traces import drawn

FLIPPED = 0.3  # of the attributes of a row


class ReadsInterventions(Protocol):
    """A module that maps x to log q(y | x) of each value, and has what an intervention needs."""

    labels: Labels
    multilabel: bool

    def log_q_y(self, z_c: Tensor) -> Tensor: ...

    def z_c_given(self, y: Tensor, z_s: Tensor) -> dist.TorchDistribution: ...

    def join(self, z_c: Tensor, z_s: Tensor) -> Tensor: ...

    def mean_x(self, z: Tensor, y: Tensor | None = None) -> Tensor: ...

    def sum_known(self, y: Tensor, log_q: Tensor) -> Tensor: ...


def intervention_consistency(vae: ReadsInterventions, z_c: Tensor, z_s: Tensor, y: Tensor) -> Tensor:
    """Return ``log q(y' | x')`` of the pictures x' of interventions: ``[n]`` nats.

    y' is y, or its most probable value where it is missing, with some attributes flipped (classes: any at random);
    z_c' is drawn from the model's p(z_c | y') where they differ, and x' = E[x | z_c', z_s, y']. The gradient reaches
    the decoder alone: encoder and head, in evaluation mode, read x' as they would read a real point.

    :param z_c: a draw of q(z_c | x), ``[A, n, d]``, classes ``[n, d]``; ``z_s`` ``[n, D_s]`` likewise.
    :param y: ``[A, n]`` or ``[n]``, -1 where missing.
    """
    with torch.no_grad():
        now = torch.where(y == MISSING, vae.log_q_y(z_c).argmax(-1), y)
        wanted = flipped(now) if vae.multilabel else torch.randint_like(now, vae.labels.size)
        z = vae.join(torch.where((wanted != now).unsqueeze(-1), drawn(vae.z_c_given(wanted, z_s)), z_c), z_s)
    x = vae.mean_x(z, wanted)
    assert isinstance(vae, nn.Module)
    held = {name: t.detach() for name, t in chain(vae.named_parameters(), vae.named_buffers())}
    with evaluation(vae):
        log_q: Tensor = functional_call(vae, held, (x,))
    return vae.sum_known(wanted, log_q)


def flipped(y: Tensor) -> Tensor:
    """Attributes, each set anew with probability :data:`FLIPPED`."""
    return torch.where(torch.rand(y.shape, device=y.device) < FLIPPED, 1 - y, y)
