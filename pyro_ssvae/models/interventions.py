"""What one can do to the characteristics of a point: set them, take them from another point, walk along them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import SupportsIndex

import numpy as np
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from pyro import poutine
from torch import Tensor

from ..data.checks import shown
from ..data.label_words import attribute_value as word_value
from ..errors import InputError, counted, nearest, whole_number
from ..infer.batched import checked
from ..infer.expected import expected_x
from ..infer.protocols import Intervention
from ..infer.traces import drawn
from ..labels import MISSING, AttributeLabels, ClassLabels, Labels
from ..nn.networks import evaluation
from .generative import GenerativeModel, moment_of
from .rewritten import overridden_since, prior_of


def asked(labels: Labels, values: Intervention) -> dict[str, int]:
    """Return the value of each attribute that was named, or ``{"class": k}``."""
    if isinstance(labels, AttributeLabels):
        if not isinstance(values, Mapping):
            raise InputError(f"intervene: {values!r}; attributes and their values, such as {{'Smiling': 1}}, needed")
        return {name: attribute_value(labels, name, value) for name, value in values.items()}
    if isinstance(values, str):
        if values not in labels.names:
            raise InputError(f"class: there is no {values!r}{nearest(values, labels.names)}")
        return {"class": list(labels.names).index(values)}
    k = whole(values)
    if k is None or not 0 <= k < labels.size:
        raise InputError(f"intervene: {shown(values)}; a class of {', '.join(labels.names)} is needed")
    return {"class": k}


def whole(value: object) -> int | None:
    """Return a whole number of Python, NumPy or PyTorch, such as ``y[i]``, as an int; None for anything else."""
    value = value.item() if isinstance(value, (Tensor, np.ndarray, np.generic)) and value.ndim == 0 else value
    if isinstance(value, (bool, Tensor, np.ndarray)) or not isinstance(value, SupportsIndex):
        return None
    return operator.index(value)


def attribute_value(labels: AttributeLabels, name: str, value: object) -> int:
    """Return an attribute's value as an int; raise :class:`InputError` unless it is 0 or 1, true or false, or the word
    for one."""
    pair = labels.words[index(labels, name)]
    value = value.item() if isinstance(value, (Tensor, np.ndarray, np.generic)) and value.ndim == 0 else value
    if isinstance(value, (bool, str)):
        k = word_value(str(value), pair)
    else:
        k = int(value) if isinstance(value, float) and value in (0.0, 1.0) else whole(value)
    if k not in (0, 1):
        words = "" if pair == ("0", "1") else f", {pair[0]} or {pair[1]},"
        raise InputError(f"{name}: {shown(value)}; 0 or 1{words} is needed")
    return k


def check_part(labels: Labels, name: str) -> None:
    """Raise :class:`InputError` unless ``name`` is an attribute or, of class labels, ``"class"``."""
    if not isinstance(labels, ClassLabels):
        index(labels, name)
    elif name != "class":
        raise InputError(f"class labels have one characteristic, 'class', and no {shown(name)}")


def index(labels: Labels, name: str) -> int:
    """Return the number of an attribute."""
    if not isinstance(name, str):
        raise InputError(f"attribute: {shown(name)}; one name of {', '.join(labels.names)[:200]} is needed")
    if name not in labels.names:
        raise InputError(f"attribute: there is no {name!r}{nearest(name, labels.names)}")
    return list(labels.names).index(name)


def asked_labels(labels: Labels, values: Intervention, device: torch.device) -> Tensor:
    """Return the values as one point's ``y``, -1 for an attribute that was not named."""
    chosen = asked(labels, values)
    if isinstance(labels, ClassLabels):
        return torch.tensor(chosen["class"], device=device)
    y = torch.full((labels.size,), MISSING, device=device)
    for name, value in chosen.items():
        y[index(labels, name)] = value
    return y


def swapped_labels(labels: Labels, y: Tensor, donor: Tensor, name: str) -> Tensor:
    """Return labels ``y`` with the donors' value of the attribute ``name``, or with their class."""
    check_part(labels, name)
    if len(donor) not in (1, len(y)):
        raise InputError(
            f"swap: {counted(len(y), 'point')} and {counted(len(donor), 'donor')}; as many or one donor are needed"
        )
    if isinstance(labels, ClassLabels):
        return donor.expand_as(y)
    y, i = y.clone(), index(labels, name)
    y[:, i] = donor[:, i]
    return y


def times(draw: Callable[[], Tensor], num_samples: int | None) -> Tensor:
    """One draw ``[B, ...]`` where ``num_samples`` is None, else ``[S, B, ...]``.

    :raises InputError: a number of draws below 1, or that is not whole.
    """
    if num_samples is None:
        return draw()
    n = whole(num_samples)
    if n is None or n < 1:
        raise InputError(f"num_samples: {shown(num_samples)}; None or a whole number of at least 1 is needed")
    return torch.stack([draw() for _ in range(n)])


class Characteristics(GenerativeModel):
    """Interventions, swaps and walks of a model whose z_c stands first in z, a part of it for each attribute."""

    labels: Labels
    label_dim: int

    def join(self, z_c: Tensor, z_s: Tensor) -> Tensor:
        """Sites z_c and z_s side by side, as :meth:`encode` has them."""
        raise NotImplementedError

    def log_q_y(self, z_c: Tensor) -> Tensor:
        """log q(y | z_c) of each value."""
        raise NotImplementedError

    def place(self, name: str) -> slice:
        """Where in z the characteristic of an attribute lies; a class model has one, of all classes: ``"class"``."""
        check_part(self.labels, name)
        if isinstance(self.labels, ClassLabels):
            return slice(0, self.label_dim)
        i = index(self.labels, name)
        return slice(i * self.label_dim, (i + 1) * self.label_dim)

    def z_c_given(self, y: Tensor, z_s: Tensor) -> dist.TorchDistribution:
        """What the model, as it is, draws z_c from: ``p(z_c | y)``, or of a rewritten one ``p(z_c | y, z_s)``.

        :param y: every value, as the site has it, of n points.
        :param z_s: ``[n, D_s]``.
        """
        return prior_of(self, "z_c", len(z_s), {"y": y, "z_s": z_s})

    @torch.no_grad()
    def conditional(self, name: str, value: int) -> tuple[Tensor, Tensor]:
        """Mean and scale ``[d]`` of ``p(z_c^i | y_i = value)``, or of a class's ``p(z_c | y = value)``."""
        if isinstance(self.labels, ClassLabels):
            at: tuple[int, ...] = (0,)
            y = torch.tensor([value], device=self.device)
        else:
            at = index(self.labels, name), 0
            y = torch.full((self.labels.size, 1), attribute_value(self.labels, name, value), device=self.device)
        p = prior_of(self, "z_c", 1, {"y": y})
        return moment_of(p, "mean")[at], moment_of(p, "stddev")[at]

    def mean_x(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x | z] of latents ``[B, D]``, with its gradient: the decoder's, or a rewritten model's in evaluation mode.

        :param y: every value, as the site has it, which a rewritten x may hear; by default what z_c tells.
        """
        if not overridden_since(self, "model", "default"):
            return self.p_x(self.decoder(z, None)).mean
        parts = self.parts(z)
        label = self.label_values(len(z), None, parts) if y is None else {"y": y}
        with evaluation(self), poutine.block():
            return expected_x(self, self.stand_in(len(z)), {**parts, **label}, stand_in=True)

    def encode_for(self, x: ArrayLike, names: Iterable[str]) -> Tensor:
        """Means of z ``[B, D]`` under the guide that an intervention on these attributes takes; here q(z | x).

        :param names: the attributes, or ``["class"]``.
        :raises InputError: an attribute that does not exist.
        """
        for name in names:
            self.place(name)
        return self.encode(x).mean

    @torch.no_grad()
    def intervene(self, x: ArrayLike, values: Intervention, *, num_samples: int | None = None) -> Tensor:
        """Encode ``x``, draw ``z_c^i ~ p(z_c^i | y_i = v)`` for each attribute named, keep the rest, decode.

        The draw is from the site ``z_c`` of the model as it is; attributes that are not named have the value that is
        read off the point.

        :param values: ``{"Smiling": 1}``, or the value's own word; for class labels a class, by number or name.
        :param num_samples: S draws: ``[S, B, *input_shape]``; None for one without the first dimension.
        :raises InputError: an attribute or class that does not exist, or a value that is neither 0 nor 1.
        """
        chosen, (x, _) = asked(self.labels, values), checked(self, x)
        z = self.encode_for(x, chosen) if chosen else self.encode(x).mean
        c, s = self.parts(z)["z_c"], self.parts(z)["z_s"]
        y = self.log_q_y(c).argmax(-1)
        for name, value in chosen.items():
            y[... if isinstance(self.labels, ClassLabels) else index(self.labels, name)] = value

        rewritten = overridden_since(self, "model", "default")  # x may hear y
        heard = ((y if isinstance(self.labels, ClassLabels) else y.t()),) if rewritten else ()

        def draw() -> Tensor:
            changed = z.clone()
            if chosen and len(z):
                new = self.join(drawn(self.z_c_given(y, s)), s)
                for at in map(self.place, chosen):
                    changed[:, at] = new[:, at]
            return self.decode(changed, *heard, like=x)

        return times(draw, num_samples)

    def swap(self, x: ArrayLike, donor: ArrayLike, name: str = "class") -> Tensor:
        """``x`` with the donor's characteristic ``z_c^i``, whatever kind of it the donor has: ``[B, *input_shape]``.

        :param donor: as many points as ``x``, or one for all.
        """
        at, (x, _) = self.place(name), checked(self, x)
        z, theirs = self.encode_for(x, [name]).clone(), self.encode(donor).mean
        if len(theirs) not in (1, len(z)):
            raise InputError(
                f"swap: {counted(len(z), 'point')} and {counted(len(theirs), 'donor')}; as many or one donor are needed"
            )
        z[:, at] = theirs[:, at]
        return self.decode(z, like=x)

    def walk(self, x: ArrayLike, first: str, second: str | None = None, *, steps: int = 7, k: float = 2.0) -> Tensor:
        """Walk ``z_c^i`` of one or two attributes from ``μ_false - kσ_false`` to ``μ_true + kσ_true``: moments of what
        the model, as it is, draws z_c from, of a rewritten one at the point's own z_s and other attributes.

        :returns: ``[B, steps, *input_shape]``; with a second attribute ``[B, steps, steps, *input_shape]``, the
            second along the first of these dimensions.
        :raises InputError: an attribute that does not exist, a number of steps below 1, or a k that is no number.
        """
        if isinstance(self.labels, ClassLabels):
            raise InputError("walk: it goes along attributes; this model has class labels")
        if first == second:
            raise InputError(f"walk: {shown(second)} is the first attribute too; another is needed")
        steps = whole_number("steps", steps)
        if not isinstance(k, Real) or not math.isfinite(k):
            raise InputError(f"k: {shown(k)}; a number of standard deviations, such as 2, is needed")
        x, _ = checked(self, x)
        z = self.encode_for(x, [first] if second is None else [first, second])
        along = self._path(first, z, steps, k)
        if second is None:
            paths = z.unsqueeze(1).repeat(1, steps, 1)
            paths[:, :, self.place(first)] = along
        else:
            paths = z[:, None, None].repeat(1, steps, steps, 1)
            paths[:, :, :, self.place(first)] = along.unsqueeze(1)
            paths[:, :, :, self.place(second)] = self._path(second, z, steps, k).unsqueeze(2)
        images = self.decode(paths.flatten(0, -2), like=x.repeat_interleave(paths[0, ..., 0].numel(), 0))
        return images.reshape(paths.shape[:-1] + images.shape[1:])

    @torch.no_grad()
    def _path(self, name: str, z: Tensor, steps: int, k: float) -> Tensor:
        """The steps of an attribute's z_c from each of some points' latents on: ``[B, steps, d]``."""
        i, parts = index(self.labels, name), self.parts(z)
        y = self.log_q_y(parts["z_c"]).argmax(-1)
        ends = []
        for value in (0, 1):
            y[i] = value
            p = self.z_c_given(y, parts["z_s"])
            ends.append((moment_of(p, "mean")[i].unsqueeze(1), moment_of(p, "stddev")[i].unsqueeze(1)))
        (loc_0, scale_0), (loc_1, scale_1) = ends
        side = torch.where(loc_1 >= loc_0, 1.0, -1.0)
        t = torch.linspace(0, 1, steps, dtype=z.dtype, device=z.device).unsqueeze(-1)
        return torch.lerp(loc_0 - side * k * scale_0, loc_1 + side * k * scale_1, t)
