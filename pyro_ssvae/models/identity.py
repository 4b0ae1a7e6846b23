"""What makes a model the one that it is beside its weights: its class, its methods, its networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from types import FunctionType

import torch
from torch import nn

from ..infer.pairs import replaced
from . import Model, create_model


def signature(model: nn.Module) -> dict[str, object]:
    """Return what weights of the same shapes may still differ in, as JSON has it: the likelihood's name, the shape of
    a point, the class's name, the methods that were replaced in this very model, and the kind of each network."""
    likelihood, shape = getattr(model, "likelihood", None), getattr(model, "input_shape", None)
    return {
        "likelihood": type(likelihood).__name__ if isinstance(likelihood, nn.Module) else None,
        "input_shape": list(shape) if isinstance(shape, (tuple, list)) else None,
        "class": type(model).__name__,
        "replaced": replaced(model),
        "networks": kinds(model),
    }


def kinds(model: nn.Module) -> dict[str, str]:
    """Return the kind of each network of a model by name."""
    return {name: kind(part) for name, part in model.named_modules() if name}


def kind(part: nn.Module) -> str:
    """Return a network's class, and the functions that it was given: ``Layer(activation=relu)``."""
    functions = [f"{name}={value.__name__}" for name, value in vars(part).items() if isinstance(value, FunctionType)]
    return type(part).__name__ + (f"({', '.join(functions)})" if functions else "")


def edits(model: Model) -> str:
    """Return in what a model of :func:`~.create_model` is no longer what its recipe makes, in words; empty where in
    nothing, and for a model without a recipe."""
    recipe = model.recipe
    if recipe is None:
        return ""
    with torch.random.fork_rng(devices=[]):
        made = create_model(
            recipe["name"], input_shape=tuple(recipe["input_shape"]), labels=model.labels, **recipe["options"]
        )
    if type(model) is not type(made):
        return f"its class is {type(model).__name__}"
    if names := replaced(model):
        return f"{names[0]} is replaced"
    if found := difference(described(model), described(made)):
        return f"its network {found}"
    if found := difference(asdict(model.config), asdict(made.config)):
        return f"its option {found}"
    own, other = settings(model), settings(made)
    both = own.keys() & other.keys()
    found = difference(*({name: values[name] for name in values if name in both} for values in (own, other)))
    return f"its {found}" if found else ""


def settings(model: nn.Module) -> dict[str, object]:
    """Return the numbers and words that a model, its networks and what else of this library it holds have as plain
    attributes, by name: ``head_terms.alpha``. Left out are switches, and what a class says is ``set_by_data``."""
    holders = dict(model.named_modules())
    for path, part in model.named_modules():
        own = {f"{path}.{name}".lstrip("."): value for name, value in vars(part).items() if is_of_library(value)}
        holders.update(own)
    return {
        f"{path}.{name}".lstrip("."): value
        for path, holder in holders.items()
        for name, value in vars(holder).items()
        if isinstance(value, (int, float, str)) and not isinstance(value, bool) and not name.startswith("_")
        if name not in getattr(type(holder), "set_by_data", ())
    }


def is_of_library(thing: object) -> bool:
    """Whether it is an object of a class of this library, and no frozen one such as a configuration."""
    return hasattr(thing, "__dict__") and type(thing).__module__.startswith("pyro_ssvae.") and not is_dataclass(thing)


def described(model: nn.Module) -> dict[str, str]:
    """Return each network of a model in words, with its class's place and what it says of itself."""
    return {
        name: f"{type(part).__module__}.{kind(part)} {part.extra_repr()}".strip()
        for name, part in model.named_modules()
        if name
    }


def difference(own: Mapping[str, object], other: Mapping[str, object]) -> str:
    """Return the first entry in which two differ, in words: ``decoder.1 is Tanh, not ReLU``."""
    for name in [*own, *other]:
        if own.get(name) != other.get(name):
            words = [str(value).removeprefix("torch.nn.modules.") if value is not None else "none"
                     for value in (own.get(name), other.get(name))]  # fmt: skip
            return f"{name} is {words[0]}, not {words[1]}"
    return ""
