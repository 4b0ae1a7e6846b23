"""What the page of ``pyro-ssvae explore`` shows of one point: its code, its latents, its label's probabilities.

Nothing here remembers anything: what a visitor has set comes in as an argument and goes out as a result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..data.dataset import listed
from ..data.label_words import answers
from ..data.schema import Column
from ..infer.batched import checked, evaluating
from ..infer.protocols import Classifies
from ..infer.traces import Site
from ..labels import MISSING, ClassLabels, Labels
from ..models import Model
from .structure import structure


@runtime_checkable
class Codes(Protocol):
    """A model whose latents stand side by side in a code ``[B, D]``."""

    latents: tuple[str, ...]

    def posterior_trace(self, x: Tensor, y: Tensor | None) -> dict[str, Site]: ...

    def reconstruction_values(self, x: Tensor, y: Tensor | None, sites: dict[str, Site]) -> dict[str, Tensor]: ...

    def joined(self, sites: dict[str, Site], moment: str) -> Tensor: ...

    def decode(self, z: Tensor, y: Tensor | None = None, *, like: Tensor | None = None) -> Tensor: ...


def posterior(model: Model, x: Tensor) -> tuple[dict[str, Site], dict[str, Tensor]]:
    """Return the guide's sites at their means for one point ``x [1, ...]``, and the values that reconstruct it."""
    assert isinstance(model, Codes)
    with evaluating(model, 0):
        x, _ = checked(model, x)
        sites = model.posterior_trace(x, None)
        return sites, model.reconstruction_values(x, None, sites)


def encoded(model: Model, x: Tensor) -> Tensor:
    """Return the code of one point ``x [1, ...]``: the mean of q(z | x), then the label where the decoder hears it."""
    assert isinstance(model, Codes)
    sites, values = posterior(model, x)
    with evaluating(model, 0):
        z = model.joined(sites, "mean")
        if model.labels is not None and structure(model).decoder_hears_y:
            z = torch.cat([z, model.labels.inputs(values["y"], z)], 1)
    return z[0]


def decoded(model: Model, code: Tensor, like: Tensor | None = None) -> Tensor:
    """Return the mean image of a code; of :func:`encoded`'s, the reconstruction.

    :param like: the point ``[1, ...]`` whose size counts have, where they are given it.
    """
    assert isinstance(model, Codes)
    with evaluating(model, 0):
        if model.labels is not None and structure(model).decoder_hears_y:
            z, y = code[None].tensor_split([-model.labels.size], 1)
            return model.decode(z, y, like=like)[0]
        return model.decode(code[None], like=like)[0]


def probabilities(model: Model, x: Tensor) -> list[float] | None:
    """Return q(y | x) of one point ``x [1, ...]``: K or A numbers; None of a model that classifies nothing."""
    if not isinstance(model, Classifies):
        return None
    with evaluating(model, 0):
        return [float(p) for p in model.predict_proba(x)[0]]


def latents(model: Model, x: Tensor) -> tuple[list[str], list[float], list[float]] | None:
    """Return names, means and deviations of the dimensions of q(z | x), of one point; None of a model without z."""
    if not isinstance(model, Codes):
        return None
    sites, _ = posterior(model, x)
    names = [name for site in model.latents for name in dimension_names(site, sites[site], model.labels)]
    loc, scale = (model.joined(sites, moment)[0].tolist() for moment in ("mean", "stddev"))
    return names, loc, scale


def dimension_names(name: str, site: Site, labels: Labels | None) -> list[str]:
    """Return a name for each dimension of a latent site, those in the plate ``attributes`` by attribute."""
    d = site["value"].shape[-1]
    if labels is None or "attributes" not in {frame.name for frame in site["cond_indep_stack"]}:
        return [f"{name}[{j}]" for j in range(d)]
    return [f"{name}[{word}]" if d == 1 else f"{name}[{word}, {j}]" for word in labels.names for j in range(d)]


def label_words(labels: Labels | None, y: Tensor) -> str:
    """Return a point's label in words, empty where it is missing: of attributes those that it has, or else those that
    it is known not to have."""
    if labels is None or bool((y == MISSING).all()):
        return ""
    if isinstance(labels, ClassLabels):
        return str(labels.names[int(y)])
    said, lacking = [], []
    for name, (zero, _), one, value in zip(labels.names, labels.words, answers(labels), y.tolist()):
        said += [one] if value == 1 else [f"{name} = {zero}"] if value == 0 and one != name else []
        lacking += [f"{name} = {zero}"] if value == 0 else []
    return ", ".join(said) or listed(lacking)


def cell_words(x: Tensor, columns: Sequence[Column]) -> list[str]:
    """Return the cells of a table's row ``[D]`` in the table's own units and words, ``?`` where one is missing."""
    return [cell(float(value), column) for value, column in zip(x.tolist(), columns, strict=True)]


def cell(value: float, column: Column) -> str:
    """Return one cell: of yes and no that lie between, the probability of yes."""
    if math.isnan(value):
        return "?"
    if column.reads == "date":
        return str(date.fromisoformat(column.start[:10]) + timedelta(days=round(value)))
    if column.reads == "number":
        number = value + column.offset
        return f"{number:.0f}" if 9999.5 <= abs(number) < 1e15 else f"{number:.4g}"
    if len(column.words) == 2 and value not in (0, 1):
        return f"{column.words[1]} {value:.0%}"
    return column.words[min(max(round(value), 0), len(column.words) - 1)]


def described(shape: Sequence[int]) -> str:
    """Return in words what a point is and how it is drawn."""
    if len(shape) == 3:
        channels, height, width = shape
        kind = {1: "grey", 3: "colour"}.get(channels)
        what = f"images of {height} × {width} {'' if kind is None else kind + ' '}pixels, enlarged"
        return what if kind else f"{what}, the mean of their {channels} channels in grey"
    if len(shape) == 2:
        what = f"no images: series of {shape[0]} channels × {shape[1]} time steps, one channel after another"
    else:
        what = f"no images: vectors of {shape[0]} features, a line over the features in their order"
    return f"{what}; in grey: the point"
