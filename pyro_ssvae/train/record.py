"""Record what a training step computes: the operations on tensors of one ordinary step, in their order.

The recorder watches a step that is taken anyway, so that nothing happens twice: neither random numbers are drawn again
nor does Python do again what it does on the way. A step that looks at numbers (``.item()``, an ``if`` on a tensor, a
shape that depends on them) is refused, as its operations may be others the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

# How numbers of a tensor get into Python without an operation that could be seen.
LOOKS = {"tolist", "numpy", "__array__", "data_ptr", "__dlpack__", "storage", "untyped_storage"}
COLLECTIVES = ("c10d", "_c10d_functional", "c10d_functional")
# Results that depend on the shape of a tensor alone.
OF_SHAPES = {"new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like"}
LARGEST = 65536  # numbers of a constant that is kept


class Value(NamedTuple):
    """A tensor of a program: an input, or a result of one of its operations."""

    number: int


@dataclass(frozen=True, eq=False)
class Op:
    """An operation of a program, with :class:`Value` in the place of tensors."""

    fn: OpOverload
    args: tuple[object, ...]
    kwargs: dict[str, object]
    results: tuple[Value | None, ...]
    changed: tuple[Value, ...]
    """Values whose memory it writes to."""

    @property
    def random(self) -> bool:
        """Whether it draws random numbers."""
        return torch.Tag.nondeterministic_seeded in self.fn.tags

    @property
    def name(self) -> str:
        """Such as ``add``."""
        return str(self.fn.overloadpacket.__name__)


@dataclass
class Program:
    """Operations on tensors, in their order.

    :ivar inputs: tensors that come from outside, by the values that stand for them.
    :ivar constants: results that are the same at every run.
    :ivar root: of a value that shares the memory of an earlier one, that one; of others themselves.
    :ivar outputs: results that are asked for.
    """

    ops: list[Op] = field(default_factory=list)
    inputs: dict[Value, Tensor] = field(default_factory=dict)
    constants: dict[Value, Tensor] = field(default_factory=dict)
    root: dict[Value, Value] = field(default_factory=dict)
    outputs: list[Value] = field(default_factory=list)


class Recorder(TorchDispatchMode):
    """Within it operations are run, and noted in :attr:`program`.

    :ivar refused: why the step cannot be captured; None where it can.
    """

    def __init__(self) -> None:
        super().__init__()
        self.program = Program()
        self.values: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.refused: str | None = None
        self.looks = Looks(self)
        self.storages: dict[int, Value] = {}  # the memory of inputs
        self._count = 0

    def __enter__(self) -> Recorder:
        self.looks.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.looks.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        kwargs = dict(kwargs or {})
        if self.refused is None:
            self.refused = refusal(func, args)
        if self.refused is not None:
            return func(*args, **kwargs)
        own_args, own_kwargs = mapped(args, self.value), mapped(kwargs, self.value)
        out = func(*args, **kwargs)
        self.note(func, args, kwargs, own_args, own_kwargs, out)
        return out

    def value(self, tensor: Tensor) -> Value:
        """Return the value that a tensor is; one that no operation has made is an input."""
        known = self.values.get(tensor)
        if known is None:
            place = tensor.untyped_storage()._cdata
            known = self.add(tensor, self.storages.get(place))
            self.storages.setdefault(place, known)
            self.program.inputs[known] = tensor
        return known

    def add(self, tensor: Tensor, root: Value | None) -> Value:
        """Give a tensor a value."""
        value = Value(self._count)
        self._count += 1
        self.values[tensor] = value
        self.program.root[value] = value if root is None else root
        return value

    def note(
        self, func: OpOverload, args: tuple[object, ...], kwargs: dict[str, object], own_args: Any, own_kwargs: Any,
        out: object,
    ) -> None:  # fmt: skip
        """Add an operation that has run."""
        program = self.program
        given = {tensor.untyped_storage()._cdata: self.values[tensor] for tensor in tensors_of((args, kwargs))}
        results: list[Value | None] = []
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if not isinstance(tensor, Tensor):
                results.append(None)
                continue
            known = self.values.get(tensor)  # an operation in place returns what it changes
            if known is None:
                shared = given.get(tensor.untyped_storage()._cdata)
                known = self.add(tensor, None if shared is None else program.root[shared])
            results.append(known)
        op = Op(func, own_args, own_kwargs, tuple(results), tuple(written(func, own_args, own_kwargs)))
        program.ops.append(op)
        if is_constant(op, program) and isinstance(out, Tensor) and out.numel() <= LARGEST and results[0] is not None:
            program.constants[results[0]] = out


class Looks(TorchFunctionMode):
    """Notes a look at numbers that no operation would show."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        if func.__name__ in LOOKS:
            self.recorder.refused = "numbers of a tensor are read in Python"
        return func(*args, **(kwargs or {}))


def refusal(func: OpOverload, args: Sequence[object]) -> str | None:
    """Return why a step with this operation cannot be captured."""
    if not isinstance(func, OpOverload):
        return "an operation of another kind"
    if func.namespace in COLLECTIVES:
        return "processes exchange numbers within the step"
    if torch.Tag.data_dependent_output in func.tags:
        return "its branches depend on numbers"
    if torch.Tag.dynamic_output_shape in func.tags:
        masks = (torch.bool, torch.uint8)
        if func.overloadpacket is not torch.ops.aten.index or any(t.dtype in masks for t in tensors_of(args[1:])):
            return "its shapes depend on numbers"
    return None


def written(func: OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> Iterator[Value]:
    """Yield the values that an operation changes in place. Batch normalisation's schemas keep quiet about it."""
    for i, argument in enumerate(func._schema.arguments):
        quiet = argument.name in ("running_mean", "running_var") and "backward" not in func._schema.name
        if quiet or (argument.alias_info is not None and argument.alias_info.is_write):
            yield from values_of(args[i] if i < len(args) else kwargs.get(argument.name))


def is_constant(op: Op, program: Program) -> bool:
    """Whether an operation gives the same numbers at every run, whatever the inputs are."""
    if op.random or op.changed or op.name.startswith(("empty", "new_empty", "_efficientzerotensor")):
        return False
    if op.name == "lift_fresh":  # of a tensor that Python has just made
        return False
    return op.name in OF_SHAPES or all(value in program.constants for value in values_of((op.args, op.kwargs)))


def mapped(value: object, of: Callable[[Any], object], kind: type = Tensor) -> Any:
    """Return nested tuples, lists and dictionaries with every member of a kind replaced."""
    if isinstance(value, kind):
        return of(value)
    if isinstance(value, (tuple, list)):
        return type(value)([mapped(each, of, kind) for each in value])
    if isinstance(value, dict):
        return {name: mapped(each, of, kind) for name, each in value.items()}
    return value


def tensors_of(value: object) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dictionaries."""
    yield from members(value, Tensor)


def values_of(value: object) -> Iterator[Value]:
    """Yield the values in nested tuples, lists and dictionaries."""
    yield from members(value, Value)


def members(value: object, kind: type) -> Iterator[Any]:
    """Yield the members of a kind in nested tuples, lists and dictionaries."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from members(each, kind)
    elif isinstance(value, dict):
        for each in value.values():
            yield from members(each, kind)
