"""The page's grids of points: every class or attribute value in several styles, and the second point's labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..infer.batched import checked, evaluating
from ..infer.expected import Means, expected_x
from ..infer.protocols import Classifies, Encodes, Generates, Intervenes, Intervention, require
from ..labels import MISSING, ClassLabels, Labels
from ..models import Model
from .structure import structure
from .view import Codes, encoded, posterior

DRAWS = 8  # images in a row of draws


@dataclass(frozen=True)
class Grid:
    """Points ``[rows, columns, *input_shape]`` and a word for each row and column."""

    images: Tensor
    rows: list[str]
    columns: list[str]


def grid(model: Model, x: Tensor, styles: int = 4, seed: int = 0) -> Grid | None:
    """Return what the model draws: a column a class (or attribute value), a row a style.

    The first row is the point's own style: z as encoded, the label set (of a model that does not generate from labels,
    such as M1, it is absent). The others are ``generate`` of the column's label, each column from the same seed, so
    that a row shares its z where the model has a style apart from the label. Without labels: a row of draws from
    q(z | x), and one from p(z).

    :param x: one point ``[1, ...]``.
    :returns: None for a model that generates nothing.
    """
    if not isinstance(model, Generates):
        return None
    if not isinstance(model, Classifies):
        return draws(model, x, seed)
    own_style = relabelling(model)
    drawn = []
    names, values = columns(model.labels)
    for value in values:
        with evaluating(model, seed):
            own = [] if own_style is None else [own_style(x, value)]
        with evaluating(model, seed):
            drawn.append(torch.cat([*own, model.generate(styles, as_labels(model.labels, value))]))
    rows = [*([] if own_style is None else ["this point"]), *(f"style {i + 1}" for i in range(styles))]
    return Grid(torch.stack(drawn, 1), rows, names)


def draws(model: Model, x: Tensor, seed: int) -> Grid:
    """Return a row of draws from q(z | x) and one from p(z)."""
    assert isinstance(model, Codes)
    with evaluating(model, seed):
        q = require(model, Encodes).encode(x)
        own = model.decode(torch.cat([q.sample() for _ in range(DRAWS)]))
        images = torch.stack([own, require(model, Generates).generate(DRAWS)])
    return Grid(images, ["from q(z | x)", "from p(z)"], [str(i + 1) for i in range(DRAWS)])


def columns(labels: Labels) -> tuple[list[str], list[Intervention]]:
    """Return every class, or every attribute at 0 and at 1, in words and as ``intervene`` takes it."""
    if isinstance(labels, ClassLabels):
        return list(labels.names), list(range(labels.size))
    named = [f"{name} = {word}" for name, pair in zip(labels.names, labels.words) for word in pair]
    return named, [{name: value} for name in labels.names for value in (0, 1)]


def as_labels(labels: Labels, values: Intervention) -> Tensor:
    """Return an intervention of :func:`columns` as one point's ``y``, -1 where it says nothing."""
    if not isinstance(values, dict):
        return torch.tensor(values)
    return torch.tensor([values.get(name, MISSING) for name in labels.names])


def relabelling(model: Model) -> Callable[[Tensor, Intervention], Tensor] | None:
    """Return how a model keeps a point's style and sets its label; None for one whose x does not follow the label.

    An attribute of a decoder that hears the label has a slider instead.
    """
    if isinstance(model, Intervenes):
        return model.intervene
    with evaluating(model, 0):
        graph = structure(model)
    if "x" not in graph.descendants("y") or (graph.decoder_hears_y and not isinstance(model.labels, ClassLabels)):
        return None
    return lambda x, values: relabelled(model, x, values)


def relabelled(model: Model, x: Tensor, values: Intervention) -> Tensor:
    """Return E[x] with the label set, latents that follow it at their means given it, and the others as encoded."""
    assert isinstance(model, Codes)
    assert isinstance(model, Classifies)
    labels: Labels = model.labels
    _, encoding = posterior(model, x)
    with evaluating(model, 0):
        rows, _ = checked(model, x)
        y, asked = model.predict(rows), as_labels(labels, values).to(rows.device)
        followers = structure(model).descendants("y")
        kept = {name: value for name, value in encoding.items() if name not in followers}
        with Means():
            return expected_x(model, rows, {**kept, "y": torch.where(asked == MISSING, y, asked)})


def swapped(model: Model, x: Tensor, donor: Tensor) -> Grid | None:
    """Return the point ``x [1, ...]`` with the donor's class, or one attribute of it a column; None without swaps."""
    labels = model.labels
    with evaluating(model, 0):
        if isinstance(model, Intervenes):
            names = ["class"] if isinstance(model.labels, ClassLabels) else list(model.labels.names)
            together = len(names) > 1 and structure(model).latents_share_labels
            images = [model.swap(x, donor, name) for name in (names[:1] if together else names)]
            return Grid(torch.stack(images, 1), [""], ["all labels"] if together else names)
        if isinstance(model, Codes) and isinstance(labels, ClassLabels) and structure(model).decoder_hears_y:
            z = encoded(model, x)[None, : -labels.size]
            image = model.decode(z, require(model, Classifies).predict_proba(donor), like=x)
            return Grid(image[None], [""], ["class"])
    return None
