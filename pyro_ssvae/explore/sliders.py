"""The page's sliders: each moves one attribute's part of a point's code along a line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import InputError
from ..infer.batched import evaluating
from ..labels import AttributeLabels
from ..models import Model
from .structure import structure
from .view import encoded

STEPS = 400  # of a slider, about


@runtime_checkable
class Characterises(Protocol):
    """A model whose code has a part for each attribute, with p(z_c^i | y_i)."""

    def place(self, name: str) -> slice: ...

    def conditional(self, name: str, value: int) -> tuple[Tensor, Tensor]: ...

    def encode_for(self, x: Tensor, names: Iterable[str]) -> Tensor: ...


@dataclass(frozen=True)
class Axis:
    """What one slider moves: the part ``place`` of a point's code, along a line through where the point is.

    The line has the unit direction u from the mean of ``p(z_c^i | y_i = 0)`` to that of ``y_i = 1``. A code stands on
    it at ``u · z_c^i``, which is ±z_c^i itself where z_c^i has one dimension; what is at right angles to u, such as the
    kind of the glasses, stays as it is. For a decoder that hears the label, the label takes the place of z_c^i, from 0
    to 1.

    :ivar words: what the attribute's 0 and 1 are called.
    :ivar low, high: ``u · μ_0 - 4σ_0`` and ``u · μ_1 + 4σ_1``, σ_v the deviation of u · z_c^i under p(z_c^i | y_i = v),
        to the next ``step``, a round number.
    :ivar marks: ``u · μ_0`` and ``u · μ_1``.
    :ivar means, scales: those of p(z_c^i | y_i = v) for v = 0 and 1, each ``[d]``.
    """

    name: str
    words: tuple[str, str]
    place: slice
    direction: Tensor
    low: float
    high: float
    marks: tuple[float, float]
    means: tuple[Tensor, Tensor]
    scales: tuple[Tensor, Tensor]
    step: float

    def at(self, code: Tensor) -> float:
        """Return where the slider of a code stands: on a step, and on the slider."""
        return self.nearest(float(code[self.place] @ self.direction))

    def nearest(self, value: float) -> float:
        """Return the slider's step nearest to a value."""
        return min(max(float(f"{round(value / self.step) * self.step:.9g}"), self.low), self.high)


def axes(model: Model, k: float = 4.0) -> list[Axis]:
    """Return a slider for each attribute that a model's code has a part for; none for other models."""
    labels = model.labels
    if not isinstance(labels, AttributeLabels):
        return []
    named = list(zip(labels.names, labels.words))
    with evaluating(model, 0):
        if isinstance(model, Characterises):
            ends = {name: (model.conditional(name, 0), model.conditional(name, 1)) for name in labels.names}
            return [make_axis(name, pair, model.place(name), *ends[name], k) for name, pair in named]
        if not structure(model).decoder_hears_y:
            return []
    zero, start = next(model.parameters()).new_zeros(1), model.config.dim
    places = [slice(start + i, start + i + 1) for i in range(labels.size)]
    return [make_axis(*each, place, (zero, zero), (zero + 1, zero), 0.0) for each, place in zip(named, places)]


def make_axis(
    name: str,
    words: tuple[str, str],
    place: slice,
    at_0: tuple[Tensor, Tensor],
    at_1: tuple[Tensor, Tensor],
    k: float,
) -> Axis:
    """Return the slider from k deviations below the mean at 0 to k deviations above the mean at 1.

    :param at_0: mean and deviation ``[d]`` of the part where the attribute is 0; ``at_1`` where it is 1.
    """
    (loc_0, scale_0), (loc_1, scale_1) = at_0, at_1
    gap = loc_1 - loc_0
    length = float(gap.norm())
    u = gap / length if length > 1e-12 else torch.full_like(gap, 1 / math.sqrt(len(gap)))
    marks = (float(u @ loc_0), float(u @ loc_1))
    low, high = marks[0] - k * float((u * scale_0).norm()), marks[1] + k * float((u * scale_1).norm())
    step = 10.0 ** round(math.log10(max(high - low, 1e-9) / STEPS))
    low, high = (float(f"{side(end / step) * step:.9g}") for side, end in ((math.floor, low), (math.ceil, high)))
    return Axis(
        name=name,
        words=words,
        place=place,
        direction=u,
        low=low,
        high=high,
        marks=marks,
        means=(loc_0, loc_1),
        scales=(scale_0, scale_1),
        step=step,
    )


def moved(sliders: Sequence[Axis], code: Tensor, start: Sequence[float], values: Sequence[object]) -> Tensor:
    """Return the code after the sliders went from ``start`` to ``values``; ``code`` itself where none left its step.

    :raises InputError: a value that is no number on its slider.
    """
    code = code.clone()
    if len(values) != len(sliders):
        raise InputError(f"{len(values)} values for {len(sliders)} sliders")
    for axis, before, value in zip(sliders, start, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{axis.name}: {value!r}; a number is needed")
        if not axis.low - axis.step <= value <= axis.high + axis.step:
            raise InputError(f"{axis.name}: {value:.4g}; a number from {axis.low:.4g} to {axis.high:.4g} is needed")
        if abs(value - before) >= axis.step / 2:  # of a code beyond the slider, which stood at its end, too
            code[axis.place] += (value - code[axis.place] @ axis.direction) * axis.direction
    return code


def redrawn(axis: Axis, code: Tensor, value: int, seed: int) -> Tensor:
    """Return the code with ``z_c^i ~ p(z_c^i | y_i = value)``, or with the label's value where the decoder hears it."""
    noise = torch.randn(len(axis.direction), generator=torch.Generator().manual_seed(seed), dtype=code.dtype)
    code = code.clone()
    code[axis.place] = axis.means[value] + axis.scales[value] * noise.to(code)
    return code


def taken(axis: Axis, code: Tensor, donor: Tensor) -> Tensor:
    """Return the code with the donor's part of it: the swap of one characteristic."""
    code = code.clone()
    code[axis.place] = donor[axis.place]
    return code


def inferred(model: Model, sliders: Sequence[Axis], x: Tensor, code: Tensor) -> Tensor:
    """Return the code with what is as encoded under the guide that an intervention on the other parts takes.

    :param x: the point ``[1, ...]``.
    """
    if not isinstance(model, Characterises):
        return code
    whole = encoded(model, x)
    changed = [axis for axis in sliders if not torch.equal(code[axis.place], whole[axis.place])]
    if not changed:
        return code
    with evaluating(model, 0):
        rest = model.encode_for(x, [axis.name for axis in changed])[0].clone()
    for axis in changed:
        rest[axis.place] = code[axis.place]
    return rest
