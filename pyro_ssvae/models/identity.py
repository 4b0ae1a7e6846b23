"""What makes a model the one that it is beside its weights: its class, its methods, its networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
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
    found = difference(asdict(model.config), asdict(made.config))
    return f"its option {found}" if found else ""


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
