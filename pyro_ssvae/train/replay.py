"""Run a recorded program again and again, without Python on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .record import Op, Program, Value, mapped, values_of

Run: TypeAlias = Callable[..., Sequence[Tensor]]
"""A function of a program's inputs, in their order: its outputs."""

FORMATS = (torch.contiguous_format, torch.preserve_format, torch.channels_last, torch.channels_last_3d)


def runner(program: Program) -> Run:
    """Return the function that runs a program: TorchScript's interpreter, without any of its optimisations.

    Where TorchScript does not know an operation, Python runs them one by one.
    """
    try:
        function = scripted(program)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError):
        return one_by_one(program)
    constants = tuple(program.constants.values())

    def interpreted(*inputs: Tensor) -> Sequence[Tensor]:
        with torch.jit.optimized_execution(False):  # which may reorder sums
            found: Sequence[Tensor] = function(*inputs, *constants)
        return found

    return interpreted


def scripted(program: Program) -> Run:
    """Return a program as a function of TorchScript, of its inputs and constants.

    :raises RuntimeError: TorchScript does not know an operation.
    """
    graph: Any = torch._C.Graph()
    known = {value: graph.addInput() for value in (*program.inputs, *program.constants)}
    for op in program.ops:
        node = graph.create(f"{op.fn.namespace}::{op.name}", arguments(graph, op, known), len(op.fn._schema.returns))
        graph.appendNode(node)
        outputs = list(node.outputs())
        if len(outputs) == 1 and "List[" in str(op.fn._schema.returns[0].type):
            outputs[0].setType(torch._C.ListType.ofTensors())
            node = graph.create("prim::ListUnpack", outputs, len(op.results))
            outputs = list(graph.appendNode(node).outputs())
        elif not is_meant(str(node.schema()), op):
            raise RuntimeError(f"another operation than {op.fn} would run")
        known |= {value: out for value, out in zip(op.results, outputs) if value is not None and value not in known}
    results = graph.create("prim::TupleConstruct", [known[value] for value in program.outputs], 1)
    results.output().setType(torch._C.TupleType([torch._C.TensorType.get() for _ in program.outputs]))
    graph.registerOutput(graph.appendNode(results).output())
    graph.lint()
    function: Run = torch._C._create_function_from_graph("step", graph)
    return function


def is_meant(schema: str, op: Op) -> bool:
    """Whether TorchScript runs the operation; with a number in a tensor's place, the same for numbers."""
    formal = op.fn._schema.arguments
    if any(str(a.type) == "Tensor" and isinstance(value, (int, float)) for a, value in zip(formal, op.args)):
        return ".Scalar(" in schema
    return schema.partition("(")[0] == str(op.fn._schema).partition("(")[0]


def arguments(graph: Any, op: Op, known: dict[Value, Any]) -> list[Any]:
    """Return all arguments of an operation as values of a TorchScript graph."""

    def constant(value: object, kind: str) -> Any:
        if isinstance(value, Value):
            return known[value]
        if isinstance(value, torch.memory_format):
            value = FORMATS.index(value)
        elif "float" in kind and isinstance(value, int):
            value = float(value)
        return graph.insertConstant(value)

    found = []
    for i, argument in enumerate(op.fn._schema.arguments):
        value = op.args[i] if i < len(op.args) else op.kwargs.get(argument.name, argument.default_value)
        kind = str(argument.type)
        if "List[" in kind and isinstance(value, (int, float)):
            value = [value]
        if not isinstance(value, (list, tuple)) or isinstance(value, Value):
            found.append(constant(value, kind))
            continue
        node = graph.create("prim::ListConstruct", [constant(each, kind) for each in value], 1)
        node.output().setType(list_type(kind, value))
        found.append(graph.appendNode(node).output())
    return found


def list_type(kind: str, value: Sequence[object]) -> Any:
    """Return the type of a list in TorchScript."""
    if "Optional[Tensor]" in kind:
        return torch._C.ListType(torch._C.OptionalType(torch._C.TensorType.get()))
    if "Tensor" in kind:
        return torch._C.ListType.ofTensors()
    if isinstance(next(iter(value), None), bool):
        return torch._C.ListType.ofBools()
    return torch._C.ListType.ofFloats() if "float" in kind else torch._C.ListType.ofInts()


def one_by_one(program: Program) -> Run:
    """Return the function that runs a program's operations from Python, and frees what is no longer needed."""
    kept = {*program.inputs, *program.constants, *program.outputs}
    last: dict[Value, int] = {}
    for i, op in enumerate(program.ops):
        last |= dict.fromkeys([*values_of((op.args, op.kwargs)), *values_of(op.results)], i)
    over: list[list[Value]] = [[] for _ in program.ops]
    for value, i in last.items():
        if value not in kept:
            over[i].append(value)

    def run(*inputs: Tensor) -> Sequence[Tensor]:
        tensors = {**dict(zip(program.inputs, inputs)), **program.constants}
        for op, done in zip(program.ops, over):
            out = op.fn(*mapped(op.args, tensors.__getitem__, Value), **mapped(op.kwargs, tensors.__getitem__, Value))
            for value, tensor in zip(op.results, out if isinstance(out, (tuple, list)) else (out,)):
                if value is not None:
                    tensors[value] = tensor
            for value in done:
                del tensors[value]
        return tuple(tensors[value] for value in program.outputs)

    return run
