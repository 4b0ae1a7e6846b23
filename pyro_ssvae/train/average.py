"""The moving average of the weights, which is what a trained model has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..infer.stored import KEY, stored_name

Place = tuple[dict[str, Tensor], str]  # where a module holds a parameter or a buffer, and under which name


class Average:
    """An exponential moving average of modules' parameters and buffers, and of further parameters.

    It is a list of tensors, not a copy of the modules: flows hold cached tensors, which cannot be copied. Buffers that
    are assigned anew are followed.

    :param modules: by what their parameters' and buffers' names begin with.
    :param free: further parameters, named ``<free>.0`` and so on.
    :param decay: of the average; 0 keeps the latest values.
    """

    def __init__(self, modules: Mapping[str, nn.Module], free: Sequence[Tensor] = (), *, decay: float) -> None:
        places = {prefix + name: place for prefix, module in modules.items() for name, place in places_of(module)}
        self.free = list(free)
        self.names = [*places, *(f"<free>.{i}" for i in range(len(self.free)))]
        self._places = list(places.values())
        self._update = moving_average(decay)
        self.values = [value.detach().clone() for value in self.current()]

    def current(self) -> list[Tensor]:
        """Return the current tensors that are averaged."""
        return [held[name] for held, name in self._places] + self.free

    def update(self, done: int) -> None:
        """Move the average towards the current values, after ``done`` steps."""
        self._update(self.values, self.current(), done)

    def tensors(self) -> dict[str, Tensor]:
        """Return the averages by name."""
        return dict(zip(self.names, self.values))

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over averages by name."""
        for name, value in zip(self.names, self.values):
            value.copy_(tensors[name])

    @torch.no_grad()
    def install(self) -> None:
        """Give the module the averages."""
        for value, average in zip(self.current(), self.values):
            value.copy_(average)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within it the module has the averages; afterwards its own values again."""
        before = [(value, value.detach().clone()) for value in self.current()]
        self.install()
        try:
            yield
        finally:
            with torch.no_grad():
                for (held, name), (value, own) in zip(self._places, before):
                    value.copy_(own)
                    if held[name] is not value:  # assigned anew
                        held[name] = value
                for p, (_, own) in zip(self.free, before[len(self._places) :]):
                    p.copy_(own)

    def state_dict(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a module's ``state_dict`` with averages by name, :meth:`tensors`, in the place of its own values, and
        those of parameters that Pyro's store holds, by the names that :func:`pyro_ssvae.save` gives them."""
        names = {id(value): name for name, value in zip(self.names, self.current())}
        own = module.state_dict(keep_vars=True)
        found = {key: tensors[names[id(value)]] if id(value) in names else value for key, value in own.items()}
        return found | {KEY + stored_name(p): tensors[names[id(p)]] for p in self.free}


def moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], int], None]:
    """Return a function that moves averages towards tensors, by the number of steps; integers are copied.

    The average begins with a short memory, so that it forgets the initial weights.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], n: int) -> None:
        pairs = list(zip(averaged, current, strict=True))
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        if moving:
            weight = 1 - min(decay, (1 + n) / (10 + n))
            torch._foreach_lerp_(*map(list, zip(*moving)), weight)  # type: ignore[call-overload]
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)

    return update


def tensors_of(modules: Mapping[str, nn.Module], free: Sequence[Tensor] = ()) -> list[Tensor]:
    """Return what an :class:`Average` of the same modules and parameters averages, in its order."""
    return [held[name] for module in modules.values() for _, (held, name) in places_of(module)] + list(free)


def places_of(module: nn.Module) -> Iterator[tuple[str, Place]]:
    """Yield the names of a module's parameters and buffers, and where it or its parts hold them; each tensor once."""
    for kind, named in (("_parameters", module.named_parameters()), ("_buffers", module.named_buffers())):
        for name, _ in named:
            path, _, last = name.rpartition(".")
            yield name, (module.get_submodule(path).__dict__[kind], last)
