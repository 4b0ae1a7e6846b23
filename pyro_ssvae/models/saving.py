"""Models on disk: weights as safetensors, configuration as JSON; nothing is pickled, nothing in a file is run."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, overload

import torch
from torch import Tensor, nn

from ..data.label_words import other_words
from ..errors import InputError, kind_of
from ..files import differences, load_tensors, of_another_version, save_tensors
from ..infer.pairs import Pair, PairLike, as_pair
from ..infer.protocols import WeighsClasses
from ..infer.stored import KEY, may_use, stored_parameters
from ..labels import labels_of
from . import Model
from .hub import ADDRESS, download
from .identity import difference, kinds, signature
from .saved_config import (
    Json,
    build,
    config_file,
    label_description,
    other_version,
    read_config,
    restore_memory,
    save_config,
    saved_by,
    saved_labels,
)

Module = TypeVar("Module", bound=nn.Module)

WEIGHTS = "model.safetensors"


def save(pair: PairLike, folder: str | Path, **metadata: object) -> Path:
    """Write ``config.json`` and ``model.safetensors`` into ``folder``, which is made where it is absent.

    What ``pyro.param`` keeps in Pyro's store for an edited model is written too.

    :param pair: a model of the library, or a pair of one's own: its weights, to be loaded ``into=`` a like one. So it
        is with a model of :func:`~pyro_ssvae.create_model` whose class, methods, networks or options were edited.
    :param metadata: further JSON-ready entries of ``config.json``.
    :raises InputError: where the folder cannot be written to, or where the weights cannot be seen; an entry that JSON
        does not know, or that has a name of the model's own.
    """
    model = as_pair(pair)
    if isinstance(model, Pair) and not all(isinstance(program, nn.Module) for program in (model.model, model.guide)):
        raise InputError(
            "save: a function's parameters cannot be seen; one module with model(x, y) and guide(x, y) is needed "
            "(pyro.get_param_store().save writes those that the functions made by pyro.param)"
        )
    tensors = {**model.state_dict(), **{KEY + name: p for name, p in kept_in_store(model).items()}}
    if not tensors:
        raise InputError(f"save: {kind_of(model)} without any parameter; there is nothing to save")
    folder = save_config(model, folder, **metadata)
    save_tensors(folder / WEIGHTS, tensors)
    return folder


def kept_in_store(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that Pyro's store holds for a model, unconstrained, by name.

    :raises InputError: those that could not be put back.
    """
    found = stored_parameters(model)
    lost = may_use(model) if found is None else [name for name in found if "$$$" in name]
    if not lost:
        return found or {}
    network, inside, _ = lost[0].partition("$$$")
    what = f"network {network!r} of pyro.module" if inside else f"{network!r} of pyro.param"
    more = "" if inside or found is not None else "; or give it an input_shape, so that it can be run"
    how = "make it an attribute" if inside else "make it an attribute, an nn.Parameter or a PyroParam"
    raise InputError(f"save: {what} is in Pyro's store, and no part of the {type(model).__name__}; {how}{more}")


@overload
def load(folder: str | Path, *, into: None = None, weights: str = WEIGHTS) -> Model: ...


@overload
def load(folder: str | Path, *, into: Module, weights: str = WEIGHTS) -> Module: ...


@overload
def load(folder: str | Path, *, into: PairLike, weights: str = WEIGHTS) -> nn.Module: ...


def load(folder: str | Path, *, into: PairLike | None = None, weights: str = WEIGHTS) -> nn.Module:
    """Return the model that :func:`save` wrote, on the CPU, in evaluation mode.

    :param folder: or the address of a model on the Hugging Face Hub: ``"hf://owner/name"``, also ``…@revision``.
    :param into: the model or pair to load the weights into; needed for one with networks of one's own, or edited. Its
        labels, in their order, its likelihood, its shape of a point, its class, the methods replaced in it and the
        kinds of its networks must be those that were saved.
    :param weights: their file in the folder; ``checkpoint/last-best.safetensors`` for those of a run's best epoch.
    :raises InputError: where a file is absent, damaged, or another model's.
    """
    online = isinstance(folder, str) and folder.startswith(ADDRESS)
    folder = download(str(folder)) if online else config_file(folder).parent
    config = read_config(folder)
    if into is None and config["model"] is None:
        edited = config.get("edited")
        what = f"a model that was edited ({edited})" if edited else "a model with networks of its own"
        raise InputError(f"{folder}: {what}; make it and use load({str(folder)!r}, into=it)")
    model = build(config, folder / "config.json") if into is None else as_pair(into)
    path = folder / weights
    if not path.exists():
        raise InputError(f"{path}: no such file; the run may not have ended (train --resume {folder} goes on with it)")
    check_same(config, model, path)
    tensors, _ = load_tensors(path, "a model's weights")
    stored = {name.removeprefix(KEY): tensors.pop(name) for name in list(tensors) if name.startswith(KEY)}
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(dtypes) == 1:
        model.to(dtypes.pop())
    why = None if into is not None else of_another_version(saved_by(config))
    check_weights(model, tensors, path, why)
    check_networks(config, model, path)
    kept = counterparts(model, stored, path)
    load_weights(model, tensors, path)
    if weights != WEIGHTS and isinstance(model, WeighsClasses):
        model.set_class_weights(None)  # of a checkpoint: they are the training's
    with torch.no_grad():
        for p, value in kept:
            p.copy_(value)
    restore_memory(config, model, folder)
    return model.eval()


def check_weights(model: nn.Module, tensors: dict[str, Tensor], path: Path, why: str | None) -> None:
    """Raise :class:`InputError` where weights are missing, unknown or of another shape.

    :param why: how weights of this file may be others, in words.
    """
    found = differences(model.state_dict(), tensors)
    if found:
        raise InputError(f"{path}: not the weights of this model ({found[:300]}){'' if why is None else f': {why}'}")


def load_weights(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a model its weights."""
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(" ".join(str(error).splitlines()[1:2]).split())[:200]
        raise InputError(f"{path}: not the weights of this model ({reason})") from None


def counterparts(model: nn.Module, saved: dict[str, Tensor], path: Path) -> list[tuple[Tensor, Tensor]]:
    """Return what the model has in Pyro's store and what was saved of it, in pairs; a run lets it come into being.

    :raises InputError: other names or shapes.
    """
    if not saved:
        return []
    found = stored_parameters(model) or {}
    if wrong := differences(found, saved):
        raise InputError(f"{path}: saved with other parameters of pyro.param ({wrong[:300]}); the model as edited then "
                         "is needed, as into=")  # fmt: skip
    return [(p, saved[name]) for name, p in found.items()]


def check_same(config: Json, model: nn.Module, path: Path) -> None:
    """Raise :class:`InputError` where weights were saved beside other labels, another likelihood or another shape, of
    a model of another class, or with other methods replaced. What earlier versions did not write is not compared."""
    saved, own = config.get("signature"), signature(model)
    if not isinstance(saved, dict) or not {"likelihood", "input_shape"} <= saved.keys():
        raise InputError(f"{path.parent}: its configuration is damaged ('signature' is not that of a model)")
    named = {name: name.replace("_", " ") for name in own if name != "networks"} | {"replaced": "replaced methods"}
    pairs = [(f"the {words}", saved[name], own[name]) for name, words in named.items() if name in saved]
    labels = [without_words(described) for described in (config["labels"], label_description(model))]
    for what, before, after in [("labels", *labels), *pairs]:
        if before != after:
            words = f"saved with {what} {in_words(before)}; the model to load it into has {in_words(after)}"
            raise InputError(f"{path}: {words}")
    try:
        found = other_words(saved_labels(config), labels_of(model))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path.parent}: its configuration is damaged ('labels' are none)") from None
    if found:
        raise InputError(f"{path}: saved with {found}, for 0 or 1; a model with these words is needed")


def without_words(labels: object) -> object:
    """Labels by their kind and names alone."""
    return {key: labels[key] for key in labels if key != "words"} if isinstance(labels, dict) else labels


def check_networks(config: Json, model: nn.Module, path: Path) -> None:
    """Raise :class:`InputError` where weights of the same shapes are those of other kinds of networks."""
    saved = config["signature"].get("networks")
    if isinstance(saved, dict) and (found := difference(kinds(model), saved)):
        words = f"not the weights of this model, of which the network {found} as it was saved"
        raise InputError(f"{path}: {words}{other_version(config, 'networks')}")


def in_words(value: object) -> str:
    """Return labels by their kind and names, anything else as it is."""
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return ", ".join(value) or "none"
    if isinstance(value, dict) and isinstance(value.get("names"), list):
        return f"{', '.join(map(str, value['names']))} ({value.get('kind')})"[:300]
    return "none" if value is None else str(value)[:300]
