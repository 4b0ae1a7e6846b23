"""Take out of a recorded program what need not be computed: constants, what is computed twice, and what nobody uses.

Numbers stay the same to the last bit. Random numbers are drawn by the same operations in the same order, and what is
changed in place stays in its place.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .record import Op, Program, Value, mapped, values_of

ALIASES = {"detach", "alias", "lift_fresh"}  # the same memory under another name; autograd's matter


def simplify(program: Program) -> Program:
    """Return a program with the same results and the same effects, of fewer operations."""
    return used(once(folded(program)))


def unstable(program: Program) -> set[Value]:
    """Return the roots of memory that is written to, by the program or by whoever gets its results."""
    root = program.root
    return {root[v] for op in program.ops for v in op.changed} | {root[v] for v in program.outputs}


def folded(program: Program) -> Program:
    """Take constants and second names out; what Python makes anew at each step and is written to is copied first."""
    moving, root = unstable(program), program.root
    constants = {value: t for value, t in program.constants.items() if root[value] not in moving}
    names: dict[Value, Value] = {}
    ops = []
    for op in program.ops:
        op = renamed(op, names)
        result = op.results[0] if len(op.results) == 1 else None
        if result is not None and result in constants:
            continue
        if op.name == "lift_fresh" and result is not None and root[result] in moving:
            op = replace(op, fn=torch.ops.aten.clone.default)
        elif op.name in ALIASES and result is not None and not op.kwargs:
            (names[result],) = values_of(op.args)
            continue
        ops.append(op)
    outputs = [names.get(value, value) for value in program.outputs]
    return replace(program, ops=ops, constants=constants, outputs=outputs)


def once(program: Program) -> Program:
    """Take out operations that do what an earlier one has done, unless they draw, or their memory is written to."""
    moving, root = unstable(program), program.root
    version = dict.fromkeys(moving, 0)
    done: dict[str, tuple[Value | None, ...]] = {}
    names: dict[Value, Value] = {}
    ops = []
    for op in program.ops:
        op = renamed(op, names)
        for value in op.changed:
            version[root[value]] += 1
        made = [value for value in op.results if value is not None]
        if not op.random and not op.changed and not any(root[value] in moving for value in made):
            read = {root[value]: version.get(root[value], 0) for value in values_of((op.args, op.kwargs))}
            key = repr((op.fn, op.args, op.kwargs, sorted(read.items())))
            if key in done:
                names |= {
                    own: known for own, known in zip(op.results, done[key]) if own is not None and known is not None
                }
                continue
            done[key] = op.results
        ops.append(op)
    return replace(program, ops=ops)


def used(program: Program) -> Program:
    """Take out operations whose results nobody uses, unless they draw or write; and inputs and constants likewise."""
    needed = set(program.outputs)
    ops = []
    for op in reversed(program.ops):
        if op.random or op.changed or any(value in needed for value in op.results):
            needed.update(values_of((op.args, op.kwargs)))
            ops.append(op)
    return replace(
        program,
        ops=ops[::-1],
        inputs={value: tensor for value, tensor in program.inputs.items() if value in needed},
        constants={value: tensor for value, tensor in program.constants.items() if value in needed},
    )


def renamed(op: Op, names: dict[Value, Value]) -> Op:
    """Return the operation with other values in the place of some."""

    def of(value: Value) -> Value:
        return names.get(value, value)

    return replace(
        op,
        args=mapped(op.args, of, Value),
        kwargs=mapped(op.kwargs, of, Value),
        changed=tuple(of(value) for value in op.changed),
    )
