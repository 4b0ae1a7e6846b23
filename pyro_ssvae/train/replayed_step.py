"""A recorded training step, ready to run again with other batches and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from .cuda_graph import Recorded
from .record import Program, Recorder
from .replay import Run, runner
from .simplify import simplify

Place: TypeAlias = tuple[dict[str, Tensor | None], str]  # where a module holds a parameter or a buffer, and its name


class Changed(Exception):  # noqa: N818
    """What a captured step cannot follow, in a few words."""


class Replay:
    """A recorded step, ready to run again: the loss of a batch, and its gradients in the parameters' ``grad``.

    :param recorder: of the step.
    :param held: where modules hold parameters and buffers; ``before``, what was there before the step.
    :param x, y: the batch of the step; ``loss``, what it returned.
    :raises Changed: what the step did cannot be run again.
    """

    def __init__(
        self,
        recorder: Recorder,
        parameters: Sequence[Tensor],
        held: Sequence[Place],
        before: Sequence[Tensor | None],
        x: Tensor,
        y: Tensor,
        loss: Tensor,
    ) -> None:
        self.assigned = [place for place, t in zip(held, before) if place[0].get(place[1]) is not t]
        self.trained = [p for p in parameters if p.grad is not None]
        self.without = [p for p in parameters if p.grad is None]
        results = [loss, *(p.grad for p in self.trained), *(place[0][place[1]] for place in self.assigned)]
        found = [None if t is None else recorder.values.get(t) for t in results]
        recorder.program.outputs = [value for value in found if value is not None]
        if None in found:
            raise Changed("a result comes from outside of PyTorch's operations")
        program = simplify(recorder.program)
        self.inputs = list(program.inputs.values())
        self.batch = [next((i for i, t in enumerate(self.inputs) if t is own), None) for own in (x, y)]
        first: dict[int, int] = {id(t): i for i, t in enumerate(self.inputs)}
        self.places = [(first[id(t)], *place) for place, t in zip(held, before) if id(t) in first]
        self.form = [form_of(t) for t in self.inputs]
        self.run, self.fixed = self.prepare(program, x, y)
        for i in self.batch:  # the batch itself need not be kept
            if i is not None:
                self.inputs[i] = torch.empty(0)

    def prepare(self, program: Program, x: Tensor, y: Tensor) -> tuple[Run, bool]:
        """Return the program's runner, and whether its inputs must keep their places: as a CUDA graph."""
        run = runner(program)
        others = [t for i, t in enumerate(self.inputs) if i not in self.batch]
        if x.device.type != "cuda" or self.assigned or any(t.device != x.device for t in [y, *others]):
            return run, False
        order = [i for i in range(len(self.inputs)) if i not in self.batch]

        def on_batch(x: Tensor, y: Tensor, *others: Tensor) -> Sequence[Tensor]:
            inputs = dict(zip(order, others))
            inputs |= {i: t for i, t in zip(self.batch, (x, y)) if i is not None}
            return run(*(inputs[i] for i in range(len(inputs))))

        try:
            with torch.no_grad():
                graph = Recorded(on_batch, (x, y), others, [t for t in others if not t.requires_grad])
        except RuntimeError:  # something in it waits for the GPU
            return run, False
        return graph, True

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        inputs = self.current()
        with torch.no_grad():
            if self.fixed:
                loss, *found = self.run(x, y)
                loss = loss.clone()  # a graph's memory is used again
            else:
                for i, t in zip(self.batch, (x, y)):
                    if i is not None:
                        inputs[i] = t
                loss, *found = self.run(*inputs)
        for p, gradient in zip(self.trained, found):
            p.grad = gradient
        for p in self.without:
            p.grad = None
        for (held, name), value in zip(self.assigned, found[len(self.trained) :]):
            held[name] = value
        return loss

    def current(self) -> list[Tensor]:
        """Return the current inputs; raise :class:`Changed` where one is no longer of its form."""
        known = self.inputs
        new: dict[int, Tensor] = {}
        for i, held, name in self.places:
            t = held.get(name)
            if t is known[i] and i not in new:
                continue
            replaced = self.fixed or isinstance(t, nn.Parameter) or (i in new and t is not new[i])
            if t is None or replaced or form_of(t) != self.form[i]:
                raise Changed(f"{name} is replaced")
            new[i] = t
        for i, t in new.items():
            known[i] = t
        return known.copy()

    def state(self) -> list[Tensor]:
        """Return what a step may change beside the parameters: buffers, and tensors that no module holds."""
        kept = [t for i, t in enumerate(self.current()) if i not in self.batch and not t.requires_grad]
        return kept + [t for held, name in self.assigned if (t := held[name]) is not None]

    @torch.no_grad()
    def put_back(self, held: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Undo a step: the tensors of :meth:`state` get their values, and assigned places hold them again."""
        for t, value in zip(held, values):
            t.copy_(value)
        for (where, name), t in zip(reversed(self.assigned), reversed(held)):
            where[name] = t


def form_of(t: Tensor) -> object:
    """Return what a program relies on in a tensor."""
    return t.shape, t.stride(), t.dtype, t.device


def places_of(module: nn.Module) -> list[Place]:
    """Return where the parts of a module hold parameters and buffers."""
    held = [cast(dict[str, Tensor | None], d) for part in module.modules() for d in (part._parameters, part._buffers)]
    return [(d, name) for d in held for name in d]
