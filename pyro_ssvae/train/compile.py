"""The compiled training step: a pair's loss and gradients, captured once from plain Pyro as one program of tensors.

``torch.compile`` around Pyro's own step stumbles over its handlers. Here they run once, on tensors without numbers;
what remains is the arithmetic of loss and gradients (``make_fx``), which TorchInductor compiles.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

import numpy as np
import pyro
import torch
import torch._inductor
from torch import Tensor, nn
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from .branchless import branchless

MOST_SHAPES = 8  # of batches that programs are made for


class CompiledStep:
    """A function of a batch: its loss, with the gradients left in the parameters' ``grad``.

    A program is captured at the first batch of each shape. Parameters, buffers and data are its inputs, so that it
    computes with their values of the moment; buffers that the pair changes are changed; random numbers are drawn from
    PyTorch's generator, afresh at every call, as the uncompiled step draws them. Python runs at the capture only: where
    it could matter later (a branch or a shape that depends on numbers, an attribute that changes from step to step,
    Python's or NumPy's random numbers) one line on stderr says so, and ``otherwise`` takes the steps. Lists,
    dictionaries and global variables that change are not noticed.

    :param objective: a module whose ``forward(x, y)`` is the loss, as :class:`~pyro_ssvae.fit.Step`.
    :param parameters: those to train, of the module or of Pyro's store.
    :param otherwise: the uncompiled step, which does the same.
    :param context: the context to capture in: of precision.
    """

    def __init__(
        self,
        objective: nn.Module,
        parameters: Sequence[Tensor],
        otherwise: Callable[[Tensor, Tensor], Tensor],
        context: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.objective, self.parameters = objective, list(parameters)
        self.otherwise, self.context = otherwise, context
        self.programs: dict[Any, Callable[[Tensor, Tensor], Tensor]] = {}
        self.python: list[tuple[dict[str, Any], str, Any]] = []
        self.refused = False

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        shape = (x.shape, x.dtype, y.shape)
        if not self.refused and (name := changed(self.python)):
            self.refuse(f"{name} changes while the model trains")
        if not self.refused and shape not in self.programs:
            try:
                self.programs[shape] = self.compile(x, y)
            except Exception as error:
                self.refuse(reason(error))
        return self.otherwise(x, y) if self.refused else self.programs[shape](x, y)

    def refuse(self, why: str) -> None:
        """Take the uncompiled step from now on."""
        self.refused = True
        print(f"fit: the step cannot be compiled ({why}); it runs uncompiled", file=sys.stderr)

    def compile(self, x: Tensor, y: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The compiled program for batches like this one."""
        if len(self.programs) == MOST_SHAPES:
            raise CannotCompile(f"batches of more than {MOST_SHAPES} shapes")
        dtype = self.parameters[0].dtype
        x = x.to(dtype) if x.is_floating_point() else x
        # Shapes are those of this batch; a count of numbers that are not zero stays open, as for sparsemax.
        shapes = ShapeEnv(allow_scalar_outputs=False, allow_dynamic_output_shape_ops=True)
        fake = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=True)
        with self.context():
            graph, inputs, trained = capture(self.objective, self.parameters, x, y, fake)
        self.python = python_state(self.objective)
        # CUDA graphs spare a GPU the launches one by one; they have not been tried yet on one.
        options = {"fallback_random": True, "triton.cudagraphs": x.device.type == "cuda"}
        with torch.no_grad(), tracing(TracingContext(fake)):
            run: Any = torch._inductor.compile(graph, [stand_in(t, fake) for t in (x, y, *inputs)], options=options)
        for p in self.parameters:
            p.grad = None

        def program(x: Tensor, y: Tensor) -> Tensor:
            with torch.no_grad():
                loss, *gradients = run(x.to(dtype) if x.is_floating_point() else x, y, *inputs)
            for p, gradient in zip(trained, gradients):
                p.grad = gradient
            result: Tensor = loss
            return result

        return program


class CannotCompile(Exception):  # noqa: N818
    """Why a step is not compiled, in words that follow "cannot be compiled"."""


def capture(
    objective: nn.Module, parameters: Sequence[Tensor], x: Tensor, y: Tensor, fake: FakeTensorMode
) -> tuple[torch.fx.GraphModule, list[Tensor], list[Tensor]]:
    """Capture loss and gradients as a graph of ``x``, ``y`` and further tensors.

    :returns: the graph, whose results are the loss and gradients; the further tensors; the parameters that have one.
    """
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
        stored: Any = {"params": dict(zip(free, values[len(own) :])), "constraints": dict(state["constraints"])}
        with store.scope(stored), branchless(), torch.enable_grad():
            swapped = {name: values[places[id(t)]] for name, t in held.items()}
            loss = functional_call(objective, swapped, (x, y), tie_weights=False)
            found = torch.autograd.grad(loss, [values[places[id(p)]] for p in parameters], allow_unused=True)
        for name, after in swapped.items():  # buffers that were assigned anew
            before = values[places[id(held[name])]]
            if after is not before:
                before.detach().copy_(after.detach())
        trained[:] = [p for p, g in zip(parameters, found) if g is not None]
        return [loss.detach(), *(laid_out(g, p) for p, g in zip(parameters, found) if g is not None)]

    before, others = python_state(objective), (random.getstate(), np.random.get_state())  # noqa: NPY002
    drawn = str(others)
    try:
        stand_ins = [stand_in(t, fake) for t in (x, y, *inputs)]
        with fake:
            graph = make_fx(loss_and_gradients, tracing_mode="real", _allow_non_fake_inputs=True)(*stand_ins)
        if name := changed(before):
            raise CannotCompile(f"{name} changes while the model trains")
        if drawn != str((random.getstate(), np.random.get_state())):  # noqa: NPY002
            raise CannotCompile("the pair draws random numbers outside of PyTorch")
    finally:  # what the capture did to Python's state must not be done twice
        for attributes, name, value in before:
            if attributes.get(name) is not value:
                attributes[name] = value
        random.setstate(others[0])
        np.random.set_state(others[1])  # noqa: NPY002
    return graph, free_inputs(graph, inputs), trained


def stand_in(tensor: Tensor, fake: FakeTensorMode) -> Tensor:
    """A tensor of the same form, without numbers."""
    return fake.from_tensor(tensor, static_shapes=True)


def laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient with its parameter's strides, as autograd leaves it in ``grad``."""
    same = gradient.stride() == parameter.stride()
    return gradient if same else torch.empty_like(parameter).copy_(gradient)


def free_inputs(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> list[Tensor]:
    """Take unused inputs out of a graph, and make inputs of tensors that the pair holds outside of modules."""
    places = [node for node in graph.graph.nodes if node.op == "placeholder"]
    for node in (unused := [node for node in places[2:] if not node.users]):
        graph.graph.erase_node(node)
    inputs = [tensor for node, tensor in zip(places[2:], inputs) if node not in unused]
    last = next(node for node in reversed(graph.graph.nodes) if node.op == "placeholder")
    for node in [node for node in graph.graph.nodes if node.op == "get_attr"]:
        value: Any = getattr(graph, str(node.target), None)
        lifted = all(user.target == torch.ops.aten.lift_fresh_copy.default for user in node.users)
        if isinstance(value, Tensor) and not lifted:  # lifted ones are constants made on the spot
            with graph.graph.inserting_after(last):
                last = graph.graph.placeholder(f"held_{node.name}")
            last.meta = dict(node.meta)
            node.replace_all_uses_with(last)
            graph.graph.erase_node(node)
            inputs = [*inputs, value]
    graph.recompile()
    return inputs


PLAIN = (int, float, str, tuple, type(None), Tensor)


def python_state(module: nn.Module) -> list[tuple[dict[str, Any], str, Any]]:
    """The plain attributes of a module's parts, and of what objects they hold: where, name, value."""
    internal = set(vars(nn.Module())) - {"training"}
    parts = [vars(part) for part in module.modules()]
    others = [value for part in parts for name, value in part.items() if name not in internal]
    parts += [vars(value) for value in others if hasattr(value, "__dict__") and not isinstance(value, (type, *PLAIN))]
    return [
        (part, name, value)
        for part in parts
        for name, value in part.items()
        if name not in internal and isinstance(value, PLAIN)
    ]


def changed(state: list[tuple[dict[str, Any], str, Any]]) -> str | None:
    """The name of an attribute that is no longer what it was."""
    for attributes, name, value in state:
        now = attributes.get(name)
        if now is not value and (isinstance(value, Tensor) or isinstance(now, Tensor) or now != value):
            return name
    return None


def reason(error: Exception) -> str:
    """Why the capture or the compilation failed, in a few words."""
    if isinstance(error, CannotCompile):
        return str(error)
    kind = type(error).__name__
    if any(word in kind for word in ("DataDependent", "DynamicOutputShape")):
        return "its shapes or branches depend on numbers"
    if "Compiler" in kind or "Cxx" in kind:
        return "no C++ compiler is found"
    return f"{kind}: {(str(error).splitlines() or [''])[0][:150]}"
