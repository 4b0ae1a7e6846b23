"""One program of tensors that computes the loss and the gradients of a batch, captured from a run of the objective."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyro
import torch
from torch import Tensor, nn
from torch.func import functional_call

from .python_state import changed, python_state, restore

if TYPE_CHECKING:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx import GraphModule


class CannotCompile(Exception):  # noqa: N818
    """Why a step is not compiled, in words that follow "cannot be compiled"."""


def capture(
    objective: nn.Module,
    parameters: Sequence[Tensor],
    x: Tensor,
    y: Tensor,
    fake: FakeTensorMode,
    context: Callable[[], AbstractContextManager[object]],
) -> tuple[GraphModule, list[Tensor], list[Tensor]]:
    """Capture loss and gradients as a graph of ``x``, ``y`` and further tensors.

    :param context: to run the objective in.
    :returns: the graph, whose results are the loss and gradients; the further tensors; the parameters that have one.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    if any(p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None) for p in parameters):
        raise CannotCompile("a parameter has a hook on its gradient")
    store = pyro.get_param_store()
    state = store.get_state()
    held = {  # every place once, though a module may stand in two, and a tensor too
        f"{path}.{name}" if path else name: t
        for path, part in objective.named_modules()
        for name, t in chain(
            part.named_parameters(recurse=False, remove_duplicate=False),
            part.named_buffers(recurse=False, remove_duplicate=False),
        )
    }
    own = {id(t): t for t in held.values()}
    free = {name: p for name, p in state["params"].items() if id(p) not in own}
    inputs = [*own.values(), *free.values()]
    places = {id(t): i for i, t in enumerate(inputs)}
    trained: list[Tensor] = []

    def loss_and_gradients(x: Tensor, y: Tensor, *values: Tensor) -> list[Tensor]:
        stored = {"params": dict(zip(free, values[len(own) :])), "constraints": dict(state["constraints"])}
        with store.scope(stored), context(), torch.enable_grad():  # type: ignore[arg-type]
            swapped = {name: values[places[id(t)]] for name, t in held.items()}
            loss = functional_call(objective, swapped, (x, y), tie_weights=False)
            sources = [values[places[id(p)]] for p in parameters]
            found = torch.autograd.grad(loss, sources, allow_unused=True)
        for name, after in swapped.items():  # buffers that were assigned anew
            before = values[places[id(held[name])]]
            if after is not before:
                before.detach().copy_(after.detach())
        trained[:] = [p for p, g in zip(parameters, found) if g is not None]
        return [loss.detach(), *(laid_out(g, p) for p, g in zip(sources, found) if g is not None)]

    before, generators = python_state(objective), (random.getstate(), np.random.get_state())  # noqa: NPY002
    drawn = str(generators)
    try:
        stand_ins = [stand_in(t, fake) for t in (x, y, *inputs)]
        with fake:
            graph = make_fx(loss_and_gradients, tracing_mode="real", _allow_non_fake_inputs=True)(*stand_ins)
        if name := changed(before):
            raise CannotCompile(f"{name} changes while the model trains")
        if drawn != str((random.getstate(), np.random.get_state())):  # noqa: NPY002
            raise CannotCompile("the pair draws random numbers outside of PyTorch")
    finally:  # what the capture did to Python's state must not be done twice
        restore(before)
        random.setstate(generators[0])
        np.random.set_state(generators[1])  # noqa: NPY002
    return graph, free_inputs(graph, inputs, parameters), trained


def stand_in(tensor: Tensor, fake: FakeTensorMode) -> Tensor:
    """Return a tensor of the same form, without numbers."""
    return fake.from_tensor(tensor, static_shapes=True)


def laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Return the gradient with its parameter's strides, as autograd leaves it in ``grad``."""
    same = gradient.stride() == parameter.stride()
    return gradient if same else torch.empty_like(parameter).copy_(gradient)


def free_inputs(graph: GraphModule, inputs: list[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Take unused inputs out of a graph, and make inputs of tensors that the pair holds outside of modules."""
    places = [node for node in graph.graph.nodes if node.op == "placeholder"]
    for node in (unused := [node for node in places[2:] if not node.users]):
        graph.graph.erase_node(node)
    inputs = [tensor for node, tensor in zip(places[2:], inputs) if node not in unused]
    last = next(node for node in reversed(graph.graph.nodes) if node.op == "placeholder")
    for node in [node for node in graph.graph.nodes if node.op == "get_attr"]:
        value = getattr(graph, str(node.target), None)
        lifted = all(user.target == torch.ops.aten.lift_fresh_copy.default for user in node.users)
        if any(value is p for p in parameters):  # its gradient would be missing
            raise CannotCompile("a parameter is neither the pair's own nor taken from Pyro's store where it is used")
        if isinstance(value, Tensor) and not lifted:  # lifted ones are constants made on the spot
            with graph.graph.inserting_after(last):
                last = graph.graph.placeholder(f"held_{node.name}")
            last.meta = dict(node.meta)
            node.replace_all_uses_with(last)
            graph.graph.erase_node(node)
            inputs = [*inputs, value]
    graph.recompile()
    return inputs
