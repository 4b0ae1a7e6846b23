"""What the programs of a pair use and its module does not hold: parameters of Pyro's store, and networks with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ..data.augment import unit_scale
from ..data.pair_order import Points
from ..errors import InputError
from ..infer.automatic import refuse_row_latents, runs
from ..infer.protocols import TellsAdded
from ..infer.stored import note_stored, outside_of
from ..infer.traces import OtherRowsError, check_latents, plate_nesting, run
from ..nn.networks import evaluation
from .added import has_head, weighs_classes
from .shared import shared_latents
from .step import Step, check_factors


class Outside(NamedTuple):
    """Parameters of Pyro's store that a pair uses and does not hold; those among them that no network holds; whether
    what teaches a class head is known; and whether weights of classes would count."""

    trained: list[Tensor]
    free: list[Tensor]
    head: bool
    weighed: bool


def by_two_rows(objective: Step, x: Points, y: Tensor, device: torch.device) -> Outside:
    """Return what :func:`find_outside` finds with the first two rows.

    :raises InputError: programs that run on all rows alone.
    """
    try:
        return find_outside(objective, unit_scale(x[:2]).to(device), y[:2].long())
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError) and not isinstance(error, OtherRowsError):
            raise
        pair, labels = objective.module, y.long()
        if not isinstance(x, Tensor) or runs(pair, x[:2], labels[:2]) or not runs(pair, x, labels):
            raise
    raise InputError(f"fit: the programs hold values of each of {len(x)} rows, and a batch has some of them; a guide "
                     "that computes these from x is needed")  # fmt: skip


def find_outside(objective: Step, x: Tensor, y: Tensor) -> Outside:
    """Return the parameters of ``pyro.param`` and ``pyro.module`` that a run of the objective uses outside of its pair.

    Networks of ``pyro.module`` that the pair does not hold become parts of the objective: they then have its mode,
    device and precision, and their buffers are followed. The run is in evaluation mode; random numbers are put back.

    :raises InputError: nothing can be trained, an automatic guide has a latent for each row, or the guide has a latent
        that the model has not.
    """
    refuse_row_latents(objective.module, x, y, "fit")
    rng = torch.get_rng_state()
    with networks_called(objective, x.device) as called, poutine.trace(param_only=True) as capture:
        try:
            objective.eval()
            if objective.measures_plates and isinstance(objective.elbo, TraceEnum_ELBO):
                objective.elbo.max_plate_nesting = max(1, plate_nesting(objective.module, x, y))
            check_factors(objective, x, y)
            check_latents(*run(objective.module, x, y))
            objective.n, objective.shared = len(x), shared_latents(objective.module, x, y)
            own = isinstance(objective.elbo, TellsAdded)
            head = own or has_head(objective.module, x, y)
            weighed = own or weighs_classes(objective.module, x, y)
            if objective.differentiable:
                objective(x, y)
            else:
                objective.loss(x, y)
        except NotImplementedError as error:
            if "reparameterized" in str(error):
                raise InputError(
                    f"loss: {type(objective.elbo).__name__} needs reparameterised draws alone, and the guide has "
                    "others, such as a label; leave it out, or TraceEnum_ELBO"
                ) from None
            raise
        except ValueError as error:
            if "cannot be differentiated" in str(error):
                raise InputError("fit: the model has no parameters to train") from None
            raise
    torch.set_rng_state(rng)
    found = outside_of(objective.module, capture.trace)
    note_stored(objective.module, found)
    used = {id(p): p for p in found.values()}
    objective.outside.extend(n for n in called if any(id(p) in used for p in n.parameters()))
    held = {id(p) for p in objective.outside.parameters()}
    return Outside(list(used.values()), [p for p in used.values() if id(p) not in held], head, weighed)


@contextmanager
def networks_called(objective: nn.Module, device: torch.device) -> Iterator[list[nn.Module]]:
    """Yield a list that takes up the networks that run and are no part of the objective, in evaluation mode."""
    parts = {id(part) for part in objective.modules()}
    called: list[nn.Module] = []
    with ExitStack() as modes:

        def note(network: nn.Module, inputs: object) -> None:
            if id(network) not in parts:
                called.append(network.to(device))
                parts.update(id(part) for part in network.modules())
                modes.enter_context(evaluation(network))

        hook = register_module_forward_pre_hook(note)
        try:
            yield called
        finally:
            hook.remove()


@contextmanager
def store_apart(pair: nn.Module) -> Iterator[None]:
    """Keep what the programs put into Pyro's store apart from the caller's.

    In the end, errors included, the caller's store gets the parameters that the pair does not hold, as after ``SVI``.
    """
    store = pyro.get_param_store()
    try:
        with store.scope(store.get_state()):
            try:
                yield
            finally:
                after = store.get_state()
    finally:
        held = {id(p) for p in pair.parameters()}
        state = store.get_state()
        for name, p in after["params"].items():
            if id(p) not in held:
                state["params"][name], state["constraints"][name] = p, after["constraints"][name]
        store.set_state(state)
