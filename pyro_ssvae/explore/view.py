"""What the page of ``pyro-ssvae explore`` shows, computed: a model, a point and the sliders' values make pictures.

Nothing here remembers anything: what a visitor has set comes in as an argument and goes out as a result.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..evaluation.evaluate import evaluating
from ..infer.label_prior import ToldDecoder
from ..labels import AttributeLabels, ClassLabels
from ..models import DIVA, M1M2, M2, Model

STEPS = 400  # of a slider, about
DRAWS = 8  # pictures in a row of draws

_alone = threading.RLock()


@contextmanager
def alone(model: Model, seed: int = 0) -> Iterator[None]:
    """Evaluation mode and random numbers from ``seed``, one caller at a time.

    Models draw from PyTorch's one generator: two visitors who seed it at once would get parts of each other's numbers.
    """
    with _alone, evaluating(model, seed):
        yield


@dataclass(frozen=True)
class Axis:
    """What one slider moves: the part ``place`` of a point's code, along a line through where the point is.

    The line has the unit direction u from the mean of ``p(z_c^i | y_i = 0)`` to that of ``y_i = 1``. A code stands on
    it at ``u · z_c^i``, which is ±z_c^i itself where z_c^i has one dimension; what is at right angles to u, such as the
    kind of the glasses, stays as it is. A decoder that is told its labels takes the label for z_c^i, from 0 to 1.

    :ivar low, high: ``u · μ_0 - 4σ_0`` and ``u · μ_1 + 4σ_1``, σ_v the deviation of u · z_c^i under p(z_c^i | y_i = v),
        to the next ``step``, a round number.
    :ivar marks: ``u · μ_0`` and ``u · μ_1``.
    :ivar means, scales: those of p(z_c^i | y_i = v) for v = 0 and 1, each ``[d]``.
    """

    name: str
    place: slice
    direction: Tensor
    low: float
    high: float
    marks: tuple[float, float]
    means: tuple[Tensor, Tensor]
    scales: tuple[Tensor, Tensor]
    step: float

    def at(self, code: Tensor) -> float:
        """Where the slider of a code stands: on a step, and on the slider."""
        return self.nearest(float(code[self.place] @ self.direction))

    def nearest(self, value: float) -> float:
        """The slider's step nearest to a value."""
        return min(max(float(f"{round(value / self.step) * self.step:.9g}"), self.low), self.high)


def axes(model: Model, k: float = 4.0) -> list[Axis]:
    """A slider for each attribute that a model's code has a part for: of the ReVAE, of AugVAE and of M2; else none."""
    labels = model.labels
    found: list[Axis] = []
    if not isinstance(labels, AttributeLabels) or not (hasattr(model, "walk") or isinstance(model, ToldDecoder)):
        return found
    for i, name in enumerate(labels.names):
        if isinstance(model, ToldDecoder):
            place = slice(model.latent_dim + i, model.latent_dim + i + 1)
            like = next(model.parameters()).new_zeros(1)
            means, scales, k_i = (like, like + 1), (like, like), 0.0
        else:
            pair: Any = model
            (loc_0, scale_0), (loc_1, scale_1) = pair.conditional(name, 0), pair.conditional(name, 1)
            place, means, scales, k_i = pair.place(name), (loc_0, loc_1), (scale_0, scale_1), k
        gap = means[1] - means[0]
        length = float(gap.norm())
        u = gap / length if length > 1e-12 else torch.full_like(gap, 1 / math.sqrt(len(gap)))
        marks = (float(u @ means[0]), float(u @ means[1]))
        low, high = (marks[v] + side * k_i * float((u * scales[v]).norm()) for v, side in ((0, -1), (1, 1)))
        step = 10.0 ** round(math.log10(max(high - low, 1e-9) / STEPS))
        low, high = (float(f"{side(end / step) * step:.9g}") for side, end in ((math.floor, low), (math.ceil, high)))
        found.append(Axis(name, place, u, low, high, marks, means, scales, step))
    return found


def encoded(model: Model, x: Tensor) -> Tensor:
    """The code of one point ``x [1, ...]``: the mean of q(z | x), and, for a decoder that is told labels, those."""
    pair: Any = model
    with alone(model):
        z: Tensor = pair.encode(x).mean
        if isinstance(model, M2):
            z = torch.cat([z, model.labels.encode(model.predict(x)).to(z)], 1)
        elif isinstance(model, ToldDecoder):
            z = torch.cat([z, model.predict_proba(x)], 1)
    return z[0]


def decoded(model: Model, code: Tensor) -> Tensor:
    """The mean image of a code; of :func:`encoded`'s, the reconstruction."""
    pair: Any = model
    with alone(model):
        if isinstance(model, ToldDecoder):
            return model.decode(code[None, : model.latent_dim], code[None, model.latent_dim :])[0]
        image: Tensor = pair.decode(code[None])[0]
    return image


def moved(sliders: Sequence[Axis], code: Tensor, start: Sequence[float], values: Sequence[Any]) -> Tensor:
    """The code after the sliders went from ``start`` to ``values``; exactly ``code`` where none has left its step.

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
        if abs(value - before) >= axis.step / 2:
            code[axis.place] += (value - before) * axis.direction
    return code


def redrawn(axis: Axis, code: Tensor, value: int, seed: int) -> Tensor:
    """The code with ``z_c^i ~ p(z_c^i | y_i = value)``; with the label's own value, where the decoder is told it."""
    noise = torch.randn(len(axis.direction), generator=torch.Generator().manual_seed(seed), dtype=code.dtype)
    code = code.clone()
    code[axis.place] = axis.means[value] + axis.scales[value] * noise.to(code)
    return code


def taken(axis: Axis, code: Tensor, donor: Tensor) -> Tensor:
    """The code with the donor's part of it: the swap of one characteristic."""
    code = code.clone()
    code[axis.place] = donor[axis.place]
    return code


def probabilities(model: Model, x: Tensor) -> list[float] | None:
    """q(y | x) of one point ``x [1, ...]``: K or A numbers; None of a model that classifies nothing."""
    if not hasattr(model, "predict_proba"):
        return None
    pair: Any = model
    with alone(model):
        return [float(p) for p in pair.predict_proba(x)[0]]


def latents(model: Model, x: Tensor) -> tuple[list[str], list[float], list[float]] | None:
    """Names, means and deviations of the dimensions of q(z | x), of one point; None of a model without z."""
    if not hasattr(model, "reconstruct"):
        return None
    pair: Any = model
    with alone(model):
        q = pair.encode(x)
    loc, scale = q.mean[0].tolist(), q.stddev[0].tolist()
    d = int(getattr(model, "label_dim", 0))
    if not d:
        names = [f"{'z_1' if isinstance(model, M1M2) else 'z'}[{j}]" for j in range(len(loc))]
    elif hasattr(model, "walk") and isinstance(model.labels, AttributeLabels):
        names = [f"z_c[{name}]" if d == 1 else f"z_c[{name}, {j}]" for name in model.labels.names for j in range(d)]
    else:
        names = [f"z_c[{j}]" for j in range(d)]
    return [*names, *(f"z_s[{j}]" for j in range(len(loc) - len(names)))], loc, scale


@dataclass(frozen=True)
class Grid:
    """Pictures ``[rows, columns, *input_shape]`` and a word for each row and column."""

    images: Tensor
    rows: list[str]
    columns: list[str]


def grid(model: Model, x: Tensor, styles: int = 4, seed: int = 0) -> Grid | None:
    """What the model draws: a column a class (or attribute value), a row a style.

    The first row is the point's own style: z as encoded, the label set (of M1, which has no such verb, it is absent).
    The others are ``generate`` of the column's label, each column from the same seed, so that a row shares its z where
    the model has a style apart from the label. Without labels: a row of draws from q(z | x), and one from p(z).

    :param x: one point ``[1, ...]``.
    :returns: None for a model that generates nothing.
    """
    if not hasattr(model, "generate"):
        return None
    pair: Any = model
    labels = model.labels
    if labels is None or not hasattr(model, "predict_proba"):
        with alone(model, seed):
            q = pair.encode(x)
            own = pair.decode(torch.cat([q.sample() for _ in range(DRAWS)]))
            rows = torch.stack([own, pair.generate(DRAWS)])
        return Grid(rows, ["from q(z | x)", "from p(z)"], [str(i + 1) for i in range(DRAWS)])
    asked: list[tuple[Any, Tensor]] = []  # as intervene takes it, as generate does
    if isinstance(labels, ClassLabels):
        columns = list(labels.names)
        asked = [(k, torch.tensor(k)) for k in range(labels.size)]
    else:
        columns = [f"{name} = {value}" for name in labels.names for value in (0, 1)]
        for i, name in enumerate(labels.names):
            for value in (0, 1):
                y = torch.full((labels.size,), -1)
                y[i] = value
                asked.append(({name: value}, y))
    own_style = setting(model)
    drawn = []
    for values, y in asked:
        with alone(model, seed):
            own = [] if own_style is None else [own_style(x, values)]
        with alone(model, seed):
            drawn.append(torch.cat([*own, pair.generate(styles, y)]))
    names = [*([] if own_style is None else ["this point"]), *(f"style {i + 1}" for i in range(styles))]
    return Grid(torch.stack(drawn, 1), names, columns)


def setting(model: Model) -> Callable[[Tensor, Any], Tensor] | None:
    """How a model keeps a point's style and sets its label: a function of x and of the values, to pictures."""
    pair: Any = model
    if hasattr(model, "intervene"):
        return lambda x, values: pair.intervene(x, values)
    if isinstance(model, M1M2):
        return lambda x, values: model.decode(model.m2.intervene(model.encode(x).mean, values))
    if isinstance(model, ToldDecoder) and isinstance(model.labels, ClassLabels):
        return lambda x, values: model.decode(pair.encode(x).mean, values)
    return None


def swapped(model: Model, x: Tensor, donor: Tensor) -> Grid | None:
    """The point ``x [1, ...]`` with the donor's class, or with one attribute of it a column; None without swaps."""
    pair: Any = model
    classes = isinstance(model.labels, ClassLabels)
    with alone(model):
        if hasattr(model, "swap") and model.labels is not None:
            names = ["class"] if classes else list(model.labels.names)
            columns = names if not isinstance(model, DIVA) else ["class" if classes else "all labels"]
            images = [pair.swap(x, donor, name) for name in names[: len(columns)]]
        elif isinstance(model, ToldDecoder) and classes:
            columns, images = ["class"], [model.decode(pair.encode(x).mean, model.predict_proba(donor))]
        else:
            return None
    return Grid(torch.stack(images, 1), [""], columns)


def described(shape: Sequence[int]) -> str:
    """What a point is and how it is drawn."""
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
