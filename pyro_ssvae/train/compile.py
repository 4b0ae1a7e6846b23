"""The compiled training step: a pair's loss and gradients, captured once from plain Pyro as one program of tensors.

``torch.compile`` around Pyro's own step stumbles over its handlers. Here they run once, on tensors without numbers;
what remains is the arithmetic of loss and gradients (``make_fx``), which TorchInductor compiles.
"""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import pyro
import torch
from pyro.infer import trace_elbo, trace_mean_field_elbo, traceenum_elbo
from pyro.infer.util import Dice
from pyro.ops import packed
from pyro.ops.rings import LogRing
from torch import Tensor, nn

from .capture import CannotCompile, capture, laid_out, stand_in
from .cuda_graph import Recorded
from .python_state import Attribute, changed, python_state

Ordinal: TypeAlias = frozenset[Any]  # of Pyro's sites that are enumerated in the same plates
Program: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Run: TypeAlias = Callable[..., Sequence[Tensor]]
MOST_SHAPES = 8  # of batches that programs are made for


class BranchlessDice(Dice):
    """``Σ prob · cost`` with a product of zero where ``prob`` is zero, instead of a selection of the others.

    ``prob`` is the marginal, over a cost's own dimensions, of the product of the enumerated sites' factors.
    """

    def compute_expectation(self, costs: dict[Ordinal, list[Any]]) -> Tensor | float:
        """Return the expected cost, a scalar, of the costs at each ordinal."""
        expected: Tensor | float = 0.0
        for ordinal, terms in costs.items():
            factors = self._get_log_factors(ordinal)
            scale = math.exp(sum(f for f in factors if not isinstance(f, Tensor)))
            factors = [f for f in factors if isinstance(f, Tensor)]
            enumerated = {dim for f in factors for dim in f._pyro_dims} - ordinal
            for cost in terms:
                if factors:
                    own = torch.zeros_like(cost)
                    own._pyro_dims = cost._pyro_dims  # type: ignore[attr-defined]
                    log_prob = LogRing().sumproduct([*factors, own], enumerated - set(cost._pyro_dims))
                    prob = log_prob.exp()
                    prob._pyro_dims = log_prob._pyro_dims
                    cost, prob = packed.broadcast_all(cost, prob)
                    cost = torch.where(prob > 0, cost, 0.0) * prob  # the gradient is zero there too, where cost is -inf
                expected = expected + scale * cost.sum()
        return expected


@contextmanager
def branchless(checked: bool = False) -> Iterator[None]:
    """Within it Pyro's objectives take no branch that looks at numbers, which no captured program can follow.

    Enumerated sites are summed by :class:`BranchlessDice`; nothing is validated or searched for NaN.
    Value and gradients stay those of Pyro's own form.

    :param checked: validate and search for NaN nevertheless. The numbers are the same to the last bit.
    """
    replaced = WITHOUT_BRANCHES if checked else WITHOUT_BRANCHES + WITHOUT_SEARCH
    before = [getattr(module, name) for module, name, _ in replaced]
    for module, name, value in replaced:
        setattr(module, name, value)
    try:
        with nullcontext() if checked else pyro.validation_enabled(False):
            yield
    finally:
        for (module, name, _), value in zip(replaced, before):
            setattr(module, name, value)


def detached(value: Tensor | float) -> Tensor | float:
    """Return what ``torch_item`` would, as a tensor."""
    return value.detach() if isinstance(value, Tensor) else value


WITHOUT_BRANCHES = (
    (traceenum_elbo, "Dice", BranchlessDice),
    (trace_elbo, "torch_item", detached),
    (trace_mean_field_elbo, "torch_item", detached),
)
WITHOUT_SEARCH = (
    (pyro.util, "torch_isnan", lambda value: False),
    (pyro.util, "torch_isinf", lambda value: False),
)


class CompiledStep:
    """A function of a batch: its loss, with the gradients left in the parameters' ``grad``.

    A program is captured at the first batch of each shape. Parameters, buffers and data are its inputs, so that it
    computes with their values of the moment; buffers that the pair changes are changed; random numbers are drawn from
    PyTorch's generator, afresh at every call, as the uncompiled step draws them. Python runs at the capture only: where
    it could matter later (a branch or a shape that depends on numbers, an attribute that changes from step to step,
    Python's or NumPy's random numbers) one line on stderr says so, and ``otherwise`` takes the steps.

    :param objective: a module whose ``forward(x, y)`` is the loss, such as :class:`~.step.Step`.
    :param parameters: those to train, of the module or of Pyro's store.
    :param otherwise: the uncompiled step, which does the same.
    :param context: of precision, to capture in.
    """

    def __init__(
        self,
        objective: nn.Module,
        parameters: Sequence[Tensor],
        otherwise: Program,
        context: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.objective, self.parameters = objective, list(parameters)
        self.otherwise, self.context = otherwise, context
        self.programs: dict[object, Program] = {}
        self.python: list[Attribute] = []
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

    def compile(self, x: Tensor, y: Tensor) -> Program:
        """Return the compiled program for batches like this one."""
        import torch._inductor
        from torch._guards import TracingContext, tracing
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.fx.experimental.symbolic_shapes import ShapeEnv

        if len(self.programs) == MOST_SHAPES:
            raise CannotCompile(f"batches of more than {MOST_SHAPES} shapes")
        dtype = self.parameters[0].dtype
        x = x.to(dtype) if x.is_floating_point() else x
        # Shapes are those of this batch; a count of numbers that are not zero stays open, as for sparsemax.
        shapes = ShapeEnv(allow_scalar_outputs=False, allow_dynamic_output_shape_ops=True)
        fake = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=True)
        with self.context():
            graph, inputs, trained = capture(self.objective, self.parameters, x, y, fake, branchless)
        self.python = python_state(self.objective)
        for hints in ("torch._inductor", "torch._dynamo", "torch.utils.cpp_extension"):  # what its developers may tune
            logging.getLogger(hints).setLevel(logging.ERROR)
        with torch.no_grad(), warnings.catch_warnings(), tracing(TracingContext(fake)):
            warnings.simplefilter("ignore")
            options = {"fallback_random": True}
            run: Run = torch._inductor.compile(graph, [stand_in(t, fake) for t in (x, y, *inputs)], options=options)
        for p in self.parameters:
            p.grad = None
        run = recorded(run, x, y, inputs) if x.device.type == "cuda" else partial(with_inputs, run, inputs)

        def program(x: Tensor, y: Tensor) -> Tensor:
            with torch.no_grad():
                loss, *gradients = run(x.to(dtype) if x.is_floating_point() else x, y)
            for p, gradient in zip(trained, gradients):
                p.grad = laid_out(gradient, p)  # TorchInductor chooses strides of its own, fused AdamW needs the same
            result: Tensor = loss.clone() if loss.is_cuda else loss  # a recording's memory is used again
            return result

        return program


def with_inputs(run: Run, inputs: Sequence[Tensor], x: Tensor, y: Tensor) -> Sequence[Tensor]:
    """Run a program on a batch and the tensors that it was captured with."""
    return run(x, y, *inputs)


def recorded(run: Run, x: Tensor, y: Tensor, inputs: Sequence[Tensor]) -> Run:
    """Return the program as a CUDA graph, which spares single launches; where it cannot be recorded, as it is."""
    try:
        with torch.no_grad():
            return Recorded(run, (x, y), inputs, [t for t in inputs if not t.requires_grad])
    except RuntimeError as error:
        print(
            f"fit: the compiled step is no CUDA graph ({reason(error)}); it is launched step by step", file=sys.stderr
        )
        return partial(with_inputs, run, inputs)


def reason(error: Exception) -> str:
    """Return why the capture or the compilation failed, in a few words."""
    if isinstance(error, CannotCompile):
        return str(error)
    kind = type(error).__name__
    if any(word in kind for word in ("DataDependent", "DynamicOutputShape")):
        return "its shapes or branches depend on numbers"
    if "Compiler" in kind or "Cxx" in kind:
        return "no C++ compiler is found"
    return f"{kind}: {(str(error).splitlines() or [''])[0][:150]}"
