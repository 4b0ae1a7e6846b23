"""Interventions that are read as they were meant: what the ReVAE's training adds to its bound.

A choice of this project. The bound asks the decoder to follow z_c only where z_c came from an encoder that also saw the
rest; it may then read an attribute off z_s as well, and draw glasses that an intervention took away.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call

from ..labels import MISSING
from ..models.base import evaluation

if TYPE_CHECKING:
    from ..models.revae import ReVAE

FLIPPED = 0.3  # of the attributes of a row


def steering(vae: ReVAE, z_c: Tensor, z_s: Tensor, y: Tensor) -> Tensor:
    """``log q(y' | x')`` of the pictures x' of interventions: ``[n]`` nats.

    y' is y, or its most probable value where it is missing, with some attributes flipped (classes: another class);
    z_c' is drawn from p(z_c | y') where they differ, and x' = E[x | z_c', z_s]. The gradient reaches the decoder alone:
    encoder and head, in evaluation mode, read x' as they would read a real point.

    :param z_c: a draw of q(z_c | x), ``[A, n, d]``, classes ``[n, d]``; ``z_s`` ``[n, D_s]`` likewise.
    :param y: ``[A, n]`` or ``[n]``, -1 where missing.
    """
    with torch.no_grad():
        now = torch.where(y == MISSING, vae.log_q_y(z_c).argmax(-1), y)
        if vae.factorised:
            wanted = torch.where(torch.rand(now.shape, device=y.device) < FLIPPED, 1 - now, now)
        else:
            wanted = torch.randint_like(now, vae.labels.size)
        z = vae.join(torch.where((wanted != now).unsqueeze(-1), vae.p_z_c(wanted).sample(), z_c), z_s)
    x = vae.likelihood.mean(vae.decoder(z, None))
    held = {name: t.detach() for name, t in chain(vae.named_parameters(), vae.named_buffers())}
    with evaluation(vae):
        log_q: Tensor = functional_call(vae, held, (x,))
    return vae.sum_known(wanted, log_q)
