"""The objective and the gradients of a batch, before they are compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias, cast, runtime_checkable

import pyro
import torch
from pyro.infer import ELBO, ReweightedWakeSleep, TraceEnum_ELBO
from torch import Tensor, nn

from ..errors import InputError
from ..infer.pairs import Program, programs
from ..infer.protocols import HasObjective, TellsAdded
from .added import apart, factors_of
from .compile import branchless
from .shared import Shared, in_part

Loss: TypeAlias = float | tuple[float, ...]
Gradients: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A function of a batch: its loss, with the gradients left in the parameters' ``grad``."""


class Objective(Protocol):
    """What every objective of Pyro can do."""

    def loss(self, model: Program, guide: Program, *args: object) -> Loss: ...

    def loss_and_grads(self, model: Program, guide: Program, *args: object) -> Loss: ...


@runtime_checkable
class Differentiable(Protocol):
    """An objective whose loss autograd can differentiate; others have ``loss_and_grads`` alone."""

    def differentiable_loss(self, model: Program, guide: Program, *args: object) -> Tensor: ...


class Step(nn.Module):
    """The objective of a batch as a module's ``forward``, which Fabric wraps and which is captured to be compiled.

    :param pair: a module with ``model(x, y)`` and ``guide(x, y)``.
    :param loss: a Pyro ELBO; by default the pair's own objective, or ``TraceEnum_ELBO``.
    :ivar outside: networks that the programs use and the pair does not hold (:mod:`~.outside`).
    :ivar augment: random changes of the points that the guide sees in training. Whatever the guide sees, the objective
        is a bound on log p(x) of the unchanged x, so that what is generated is like the data, not like changed data.
    :ivar added: rows at a batch's end that count in what teaches the class head alone (:mod:`~.added`).
    :ivar shared: latents that all ``n`` rows share (:mod:`~.shared`); None where there are none.
    """

    def __init__(self, pair: nn.Module, loss: ELBO | None = None) -> None:
        super().__init__()
        self.augment: Callable[[Tensor], Tensor] | None = None
        self.added = self.n = 0
        self.shared: Shared | None = None
        self.module, self.outside = pair, nn.ModuleList()
        self.elbo = cast(Objective, loss if loss is not None else objective_of(pair))
        self.measures_plates = loss is None and not isinstance(pair, HasObjective)

    @property
    def programs(self) -> tuple[Program, Program]:
        """The pair's model and guide, in which a batch has its part of what all rows share."""
        model, guide = cast(Program, self.module.model), cast(Program, self.module.guide)
        if self.shared is None:
            return model, guide
        added = self.added if self.training else 0
        return in_part(model, self.shared, self.n, added), in_part(guide, self.shared, self.n, added)

    @property
    def differentiable(self) -> bool:
        """Whether :meth:`forward` can be used."""
        return isinstance(self.elbo, Differentiable)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The pair and the networks outside of it, by what their parameters' names begin with."""
        return {"": self.module, "<outside>.": self.outside}

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the names of the parameters, as :attr:`parts` has them, and the parameters."""
        for prefix, module in self.parts.items():
            yield from ((prefix + name, p) for name, p in module.named_parameters())

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Return the loss that ``SVI.step`` would differentiate: nats, summed over the batch."""
        assert isinstance(self.elbo, Differentiable)
        return self.elbo.differentiable_loss(*self.trained(), x, y)

    def trained(self) -> tuple[Program, Program]:
        """The pair's programs as a step runs them: in training points are changed, and added rows are told apart."""
        model, guide = self.augmented()
        own = isinstance(self.elbo, TellsAdded)
        return (model, guide) if own or not (self.added and self.training) else apart(model, guide, self.added)

    def tell_added(self, rows: int) -> None:
        """Set how many rows at a batch's end were added to it for their labels."""
        self.added = rows
        if isinstance(self.elbo, TellsAdded):
            self.elbo.added = rows

    def augmented(self) -> tuple[Program, Program]:
        """The pair's model, and its guide at randomly changed points: the same ones, however often it is run on x."""
        model, guide = self.programs
        augment = self.augment
        if augment is None or not self.training:
            return model, guide
        changed: list[tuple[Tensor, Tensor]] = []

        def augmented(x: Tensor, *more: object) -> object:
            if not changed or changed[0][0] is not x:
                changed[:] = [(x, augment(x))]
            return guide(changed[0][1], *more)

        return model, augmented

    def loss(self, x: Tensor, y: Tensor | None) -> float:
        """Return the loss of a batch, without a gradient."""
        return first(self.elbo.loss(*self.programs, x, y))

    def loss_and_grads(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Return the loss of an objective that computes the gradients itself; they are in the parameters' ``grad``."""
        trained = next((p for p in self.module.parameters() if p.requires_grad and p.is_contiguous()), None)

        model, guide = self.trained()

        def registering(x: Tensor, y: Tensor | None) -> object:
            if trained is not None:  # RenyiELBO takes no gradient unless it sees a parameter in the traces
                pyro.param("a parameter of the pair", trained)
            return model(x, y)

        return torch.tensor(first(self.elbo.loss_and_grads(registering, guide, x, y)), device=x.device)


def objective_of(pair: nn.Module) -> ELBO:
    """Return a pair's own objective, or ``TraceEnum_ELBO``."""
    if isinstance(pair, HasObjective):
        return pair.objective()
    return TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)


def check_loss(loss: object) -> None:
    """Raise :class:`InputError` where it is no instance of a Pyro ELBO."""
    if isinstance(loss, type) and issubclass(loss, ELBO):
        raise InputError(f"loss: {loss.__name__} is a class; an instance such as {loss.__name__}() is needed")
    if not isinstance(loss, ELBO):
        raise InputError(f"loss: a Pyro ELBO such as pyro.infer.Trace_ELBO() is needed, not a {type(loss).__name__}")


def check_factors(objective: Step, x: Tensor, y: Tensor) -> None:
    """Raise :class:`InputError` where the loss would train a factor of the guide, such as a class head's, backwards.

    ReweightedWakeSleep raises the guide's log-probability, in which a factor has the opposite sign of its cost.
    """
    if isinstance(objective.elbo, ReweightedWakeSleep):
        for name in factors_of(programs(objective.module)[1], x, y):
            raise InputError(
                f"loss: ReweightedWakeSleep would train the guide's factor {name!r} backwards; another is needed"
            )


def first(loss: Loss) -> float:
    """Return a loss; of several, such as ReweightedWakeSleep's two, the model's."""
    return float(loss[0] if isinstance(loss, tuple) else loss)


def eager_step(
    objective: Step,
    forward: Callable[[Tensor, Tensor], Tensor],
    backward: Callable[[Tensor], None],
    zero_grad: Callable[[], None],
    checks: Callable[[], bool],
) -> Gradients:
    """Return the step that runs the pair's programs each time.

    :param forward: the objective, as Fabric wraps it.
    :param checks: whether Pyro checks this step. A look at numbers in each would make a GPU wait.
    """

    def differentiate(x: Tensor, y: Tensor) -> Tensor:
        zero_grad()
        with branchless(checks()):
            loss = forward(x, y)
            backward(loss)
        return loss.detach()

    def loss_and_grads(x: Tensor, y: Tensor) -> Tensor:
        zero_grad()
        with branchless(checks()):
            return objective.loss_and_grads(x, y)

    return differentiate if objective.differentiable else loss_and_grads
