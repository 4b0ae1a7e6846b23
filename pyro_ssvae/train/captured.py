"""The captured training step: recorded once, then replayed without Pyro, which handles messages at every site.

No compiler is needed, and the numbers are those of the ordinary step to the last bit: the same operations of PyTorch
run in the same order, with the same random numbers. Some steps, ever fewer, are taken both ways and compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, nn

from .python_state import Attribute, changed, python_state
from .random_state import generator_tensors, other_generators, restore_tensors
from .record import Recorder
from .replayed_step import Changed, Replay, places_of

Step: TypeAlias = Callable[[Tensor, Tensor], Tensor]

FIRST = 3  # ordinary steps before one is recorded
LEAST = 30  # steps that must be left for it
MOST_SHAPES = 8  # of batches that are captured
APART = 512  # steps between two comparisons, at most
TOLERANCE = 1e-3  # of a GPU's numbers, whose sums have no fixed order


@dataclass
class Shape:
    """What is known of batches of one shape.

    :ivar calls: steps so far.
    :ivar recorded: the step that was recorded.
    """

    calls: int = 0
    recorded: int = 0
    replay: Replay | None = None
    seconds: list[tuple[float, float]] = field(default_factory=list)


class CapturedStep:
    """A function of a batch: its loss, with the gradients left in the parameters' ``grad``.

    The first steps are ordinary ones. One of them is recorded (:mod:`~.record`), and the following ones replay what it
    computed. Parameters, buffers and data are inputs of the program; buffers that the pair changes are changed. After
    1, 2, 4 … steps, and then after every 512, a step is taken both ways. Where loss, a gradient, a buffer or the state
    of a generator differs in a bit, where Python holds other values than before (a number, a list, a hook, a parameter
    that is frozen), where a step looks at numbers, or where replaying brings nothing, the ordinary step is taken from
    then on, without a word. So a pair is never trained otherwise for being captured, at most 512 steps of one whose
    changes show in nothing that is watched.

    :param objective: a module that holds the pair; ``programs`` are its model and guide.
    :param parameters: those to train.
    :param ordinary: the step that runs the pair's programs.
    :param unchecked: the same without Pyro's checks, which look at numbers.
    :param left: how many steps are left.
    """

    def __init__(
        self,
        objective: nn.Module,
        programs: Sequence[object],
        parameters: Sequence[Tensor],
        ordinary: Step,
        unchecked: Step,
        left: Callable[[], int],
    ) -> None:
        self.objective, self.programs, self.parameters = objective, programs, list(parameters)
        self.ordinary, self.unchecked, self.left = ordinary, unchecked, left
        self.shapes: dict[object, Shape] = {}
        self.python: list[Attribute] = []
        self.hooks = hooks_of(objective)
        self.number_of_hooks = 0
        self.refused: str | None = "a module has a hook" if any(self.hooks) else None

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        if self.refused is not None:
            return self.ordinary(x, y)
        shape = self.shapes.setdefault((x.shape, x.dtype, y.shape, y.dtype), Shape())
        shape.calls += 1
        if shape.replay is None:
            captures = shape.calls > FIRST and self.left() >= LEAST and len(self.shapes) <= MOST_SHAPES
            return self.record(shape, x, y) if captures else self.ordinary(x, y)
        try:
            self.check()
            if is_compared(shape.calls - shape.recorded):
                return self.compare(shape, shape.replay, x, y)
            return shape.replay(x, y)
        except Changed as found:
            return self.refuse(str(found), x, y)

    @property
    def how(self) -> str:
        """How steps are taken now, in words."""
        replays = [shape.replay for shape in self.shapes.values() if shape.replay is not None]
        if self.refused is not None or not replays:
            return f"eager ({self.refused})" if self.refused else "eager"
        return "captured as a CUDA graph" if all(replay.fixed for replay in replays) else "captured"

    def refuse(self, why: str, x: Tensor, y: Tensor) -> Tensor:
        """Take the ordinary step, now and from now on."""
        self.refused = why
        self.shapes.clear()
        return self.ordinary(x, y)

    def check(self) -> None:
        """Raise :class:`Changed` where something that the program does not read is no longer what it was."""
        if name := changed(self.python):
            raise Changed(f"{name} changes while the model trains")
        if not all(p.requires_grad for p in self.parameters):
            raise Changed("a parameter is frozen")
        if sum(map(len, self.hooks)) != self.number_of_hooks:
            raise Changed("a hook is added or removed")

    def record(self, shape: Shape, x: Tensor, y: Tensor) -> Tensor:
        """Take an ordinary step, and record what it computes."""
        state, generators = python_state(self.objective, self.programs), other_generators()
        held = places_of(self.objective)
        before = [place[0][place[1]] for place in held]
        self.hooks = hooks_of(self.objective)
        self.number_of_hooks = sum(map(len, self.hooks))
        with Recorder() as recorder:
            loss = self.unchecked(x, y)
        try:
            if recorder.refused is not None:
                raise Changed(recorder.refused)
            if name := changed(state):
                raise Changed(f"{name} changes while the model trains")
            if other_generators() != generators:
                raise Changed("the pair draws random numbers outside of PyTorch")
            if any(p._backward_hooks or p._post_accumulate_grad_hooks for p in self.parameters):
                raise Changed("a parameter has a hook on its gradient")
            shape.replay = Replay(recorder, self.parameters, held, before, x, y, loss)
        except Changed as found:
            self.refused = str(found)
        self.python, shape.recorded = state, shape.calls
        return loss

    def compare(self, shape: Shape, replay: Replay, x: Tensor, y: Tensor) -> Tensor:
        """Take the step both ways, the ordinary one last; replay no more where they differ, or where it is no faster.

        :raises Changed: an input is no longer what it was.
        """
        held = replay.state()
        before, drawn = [t.clone() for t in held], generator_tensors(x.device)
        started = time.perf_counter()
        try:
            found: list[Tensor | None] = [replay(x, y), *(p.grad for p in self.parameters)]
        except RuntimeError as error:  # TorchScript knows an operation, but not with these arguments
            self.refused, found = f"it cannot be replayed: {error}", []
        captured_seconds = time.perf_counter() - started
        found = [None if t is None else t.detach().clone() for t in (*found, *replay.state())]
        after = generator_tensors(x.device)
        replay.put_back(held, before)
        restore_tensors(drawn, x.device)
        started = time.perf_counter()
        loss = self.ordinary(x, y)
        shape.seconds.append((captured_seconds, time.perf_counter() - started))
        own = [loss, *(p.grad for p in self.parameters), *replay.state()]
        as_many_drawn = all(map(torch.equal, after.values(), generator_tensors(x.device).values()))
        if self.refused is None and not (as_many_drawn and all(map(same_numbers, own, found))):
            self.refused = "a captured step computes other numbers"
        gained = [ordinary - captured for captured, ordinary in shape.seconds[1:]]
        if self.refused is None and x.device.type == "cpu" and len(gained) >= 3 and sum(gained) < 0:
            self.refused = "captured steps are no faster"
        if self.refused is not None:
            self.shapes.clear()
        return loss


def is_compared(n: int) -> bool:
    """Whether the n-th step after the recorded one is taken both ways: the 1st, 2nd, 4th, 8th … and each 512th."""
    return n % APART == 0 if n >= APART else n & (n - 1) == 0


def hooks_of(module: nn.Module) -> list[dict[int, object]]:
    """Return where the parts of a module hold their hooks."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [vars(part)[kind] for part in module.modules() for kind in kinds]


def same_numbers(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two results are the same to the last bit, NaN where the other is NaN; on a GPU nearly."""
    if one is None or other is None:
        return one is other
    if one.device.type == "cuda" and one.is_floating_point():
        size = float(one.detach().abs().max()) if one.numel() else 0.0
        return torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * size, equal_nan=True)
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())
