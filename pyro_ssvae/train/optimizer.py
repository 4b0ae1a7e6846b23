"""The optimiser of a training: AdamW, a torch optimiser class, or what a function makes of the parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeAlias

import torch
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..errors import InputError
from .settings import FitSettings

MakeOptimizer: TypeAlias = Callable[[list[Tensor]], torch.optim.Optimizer]
OptimizerLike: TypeAlias = type[torch.optim.Optimizer] | MakeOptimizer
"""A class of ``torch.optim``, or a function of the list of parameters that returns an optimiser."""

PASSES, FASTER = 400, 5.0
"""Up to how many passes over the rows the parameters that a pair names learn faster, and how much at most."""
NEEDED = "a class of torch.optim, or a function of the parameters that returns an optimiser, is needed"


def check_optimizer(given: object) -> None:
    """Raise :class:`InputError` where it is no :data:`OptimizerLike`, or one whose step needs more than gradients."""
    if isinstance(given, (torch.optim.Optimizer, PyroOptim)):
        kind = type(given).__name__
        raise InputError(f"optimizer: {kind} is made already; lambda parameters: torch.optim.SGD(parameters, lr=0.1)")
    if not callable(given) or (isinstance(given, type) and not issubclass(given, torch.optim.Optimizer)):
        raise InputError(f"optimizer: {name_of(given)}; {NEEDED}")
    if isinstance(given, type):
        check_step(given)


def check_step(kind: type[torch.optim.Optimizer]) -> None:
    """Raise :class:`InputError` where an optimiser's step needs more than dense gradients."""
    if needs_closure(kind):
        raise InputError(f"optimizer: {kind.__name__} evaluates the loss in its step; torch.optim.SGD, say, does not")
    if issubclass(kind, torch.optim.SparseAdam):
        raise InputError(f"optimizer: {kind.__name__} takes sparse gradients alone; torch.optim.Adam takes these")


def make_optimizer(
    parameters: Sequence[Tensor],
    matrices: Iterable[Tensor],
    s: FitSettings,
    given: OptimizerLike | None = None,
    hurried: tuple[Collection[Tensor], float] = ((), 1.0),
) -> torch.optim.Optimizer:
    """Return the optimiser of some parameters; the weight matrices among them decay, and nothing else.

    :param matrices: from :func:`weight_matrices`.
    :param given: AdamW by default. A class gets the learning rate and the decay of the settings; a function's own
        learning rates are the peaks of the schedule.
    :param hurried: parameters, and the factor of the learning rate that AdamW, as the default, gives them.
    :raises InputError: an optimiser that cannot be made of these parameters.
    """
    if given is None:
        fast, factor = {id(parameter) for parameter in hurried[0]}, hurried[1]
        groups = []
        for part, rate in (
            ([p for p in parameters if id(p) not in fast], s.learning_rate),
            ([p for p in parameters if id(p) in fast], factor * s.learning_rate),
        ):
            groups += [{**group, "lr": rate} for group in decaying(part, matrices, s.weight_decay)]
        return torch.optim.AdamW(groups, lr=s.learning_rate, betas=(0.9, 0.99), fused=True)
    try:
        if isinstance(given, type):
            takes = inspect.signature(given).parameters
            decays = "weight_decay" in takes
            groups = decaying(parameters, matrices, s.weight_decay) if decays else [{"params": list(parameters)}]
            made = given(groups, lr=s.learning_rate)
        else:
            made = given(list(parameters))
    except (TypeError, ValueError) as error:
        raise InputError(f"optimizer: {name_of(given)}: {str(error).splitlines()[0]}") from None
    if not isinstance(made, torch.optim.Optimizer):
        raise InputError(f"optimizer: the function returned {name_of(made)}; {NEEDED}")
    check_step(type(made))
    return made


def hurry(passes: float) -> float:
    """Return the factor of the learning rate that they get: ``400 / passes`` of the data, in [1, 5]."""
    return min(max(1.0, PASSES / passes), FASTER)


def decaying(parameters: Sequence[Tensor], matrices: Iterable[Tensor], decay: float) -> list[dict[str, object]]:
    """Return the optimiser's groups: weight matrices with the decay, the rest without."""
    chosen = {id(matrix) for matrix in matrices}
    groups = [
        ([p for p in parameters if id(p) in chosen], decay),
        ([p for p in parameters if id(p) not in chosen], 0.0),
    ]
    return [{"params": part, "weight_decay": own} for part, own in groups if part]


def weight_matrices(module: nn.Module) -> list[Tensor]:
    """Return the weights of every linear, convolutional, recurrent and attention layer; biases, scales and means are
    none."""
    layers = (nn.Linear, nn.Bilinear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
    parts = [part for part in module.modules() if isinstance(part, layers)]
    return [p for part in parts for name, p in part.named_parameters(recurse=False) if "weight" in name]


def needs_closure(kind: type[torch.optim.Optimizer]) -> bool:
    """Whether a step of these optimisers evaluates the loss itself, as L-BFGS does."""
    closure = inspect.signature(kind.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def name_of(given: object) -> str:
    """Return the name of a class or a function, or the kind of anything else, for messages and checkpoints."""
    return given.__qualname__ if inspect.isclass(given) or inspect.isfunction(given) else type(given).__name__
