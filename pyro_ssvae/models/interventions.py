"""What one can do to the characteristics of a point: set them, take them from another point, walk along them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import InputError, nearest
from ..infer.protocols import Intervention
from ..labels import MISSING, AttributeLabels, ClassLabels, Labels
from .base import GenerativeModel


def asked(labels: Labels, values: Intervention) -> dict[str, int]:
    """Return the value of each attribute that was named, or ``{"class": k}``."""
    if isinstance(labels, AttributeLabels):
        if not isinstance(values, Mapping):
            raise InputError(f"intervene: {values!r}; attributes and their values, such as {{'Smiling': 1}}, needed")
        for name, value in values.items():
            index(labels, name)
            check_value(name, value)
        return {name: int(value) for name, value in values.items()}
    if isinstance(values, str):
        if values not in labels.names:
            raise InputError(f"class: there is no {values!r}{nearest(values, labels.names)}")
        values = list(labels.names).index(values)
    if not isinstance(values, int) or not 0 <= values < labels.size:
        raise InputError(f"intervene: {values!r}; a class of {', '.join(labels.names)} is needed")
    return {"class": values}


def check_value(name: str, value: int) -> None:
    """Raise :class:`InputError` unless an attribute's value is 0 or 1."""
    if isinstance(value, bool) or value not in (0, 1):
        raise InputError(f"{name}: {value!r}; 0 or 1 is needed")


def index(labels: Labels, name: str) -> int:
    """Return the number of an attribute."""
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
    if len(donor) not in (1, len(y)):
        raise InputError(f"swap: {len(y)} points and {len(donor)} donors; as many or one donor are needed")
    if isinstance(labels, ClassLabels):
        return donor.expand_as(y)
    y, i = y.clone(), index(labels, name)
    y[:, i] = donor[:, i]
    return y


def times(draw: Callable[[], Tensor], num_samples: int | None) -> Tensor:
    """One draw ``[B, ...]`` where ``num_samples`` is None, else ``[S, B, ...]``."""
    return draw() if num_samples is None else torch.stack([draw() for _ in range(num_samples)])


class Characteristics(GenerativeModel):
    """Interventions, swaps and walks of a model whose z_c stands first in z, a part of it for each attribute."""

    labels: Labels
    label_dim: int

    def p_z_c(self, y: Tensor) -> torch.distributions.Distribution:
        """p(z_c | y)."""
        raise NotImplementedError

    def place(self, name: str) -> slice:
        """Where in z the characteristic of an attribute lies; a class model has one, of all classes."""
        if isinstance(self.labels, ClassLabels):
            return slice(0, self.label_dim)
        i = index(self.labels, name)
        return slice(i * self.label_dim, (i + 1) * self.label_dim)

    def conditional(self, name: str, value: int) -> tuple[Tensor, Tensor]:
        """Mean and scale ``[d]`` of ``p(z_c^i | y_i = value)``, or of a class's ``p(z_c | y = value)``."""
        if isinstance(self.labels, ClassLabels):
            p = self.p_z_c(torch.tensor([value], device=self.device))
            return p.mean[0].detach(), p.stddev[0].detach()
        i = index(self.labels, name)
        check_value(name, value)
        p = self.p_z_c(torch.full((len(self.labels.names), 1), int(value), device=self.device))
        return p.mean[i, 0].detach(), p.stddev[i, 0].detach()

    def encode_for(self, x: ArrayLike, names: Iterable[str]) -> Tensor:
        """Means of z ``[B, D]`` under the guide that an intervention on these attributes takes; here q(z | x).

        :param names: the attributes, or ``["class"]``.
        :raises InputError: an attribute that does not exist.
        """
        for name in names:
            self.place(name)
        return self.encode(x).mean

    def intervene(self, x: ArrayLike, values: Intervention, *, num_samples: int | None = None) -> Tensor:
        """Encode ``x``, draw ``z_c^i ~ p(z_c^i | y_i = v)`` for each attribute named, keep the rest, decode.

        :param values: ``{"Smiling": 1}``; for class labels a class, by number or name.
        :param num_samples: S draws: ``[S, B, *input_shape]``; None for one without the first dimension.
        :raises InputError: an attribute or class that does not exist, or a value that is neither 0 nor 1.
        """
        chosen = asked(self.labels, values)
        z = self.encode_for(x, chosen) if chosen else self.encode(x).mean

        def draw() -> Tensor:
            changed = z.clone()
            for name, value in chosen.items():
                at = self.place(name)
                loc, scale = self.conditional(name, value)
                changed[:, at] = loc + scale * torch.randn_like(changed[:, at])
            return self.decode(changed)

        return times(draw, num_samples)

    def swap(self, x: ArrayLike, donor: ArrayLike, name: str = "class") -> Tensor:
        """``x`` with the donor's characteristic ``z_c^i``, whatever kind of it the donor has: ``[B, *input_shape]``.

        :param donor: as many points as ``x``, or one for all.
        """
        at = self.place(name)
        z, theirs = self.encode_for(x, [name]).clone(), self.encode(donor).mean
        if len(theirs) not in (1, len(z)):
            raise InputError(f"swap: {len(z)} points and {len(theirs)} donors; as many or one donor are needed")
        z[:, at] = theirs[:, at]
        return self.decode(z)

    def walk(self, x: ArrayLike, first: str, second: str | None = None, *, steps: int = 7, k: float = 2.0) -> Tensor:
        """Walk ``z_c^i`` of one or two attributes from ``μ_false - kσ_false`` to ``μ_true + kσ_true``.

        :returns: ``[B, steps, *input_shape]``; with a second attribute ``[B, steps, steps, *input_shape]``, the
            second along the first of these dimensions.
        """
        if isinstance(self.labels, ClassLabels):
            raise InputError("walk: it goes along attributes; this model has class labels")
        z = self.encode_for(x, [first] if second is None else [first, second])
        along = self._path(first, steps, k)
        if second is None:
            paths = z.unsqueeze(1).repeat(1, steps, 1)
            paths[:, :, self.place(first)] = along
        else:
            paths = z[:, None, None].repeat(1, steps, steps, 1)
            paths[:, :, :, self.place(first)] = along
            paths[:, :, :, self.place(second)] = self._path(second, steps, k).unsqueeze(1)
        images = self.decode(paths.flatten(0, -2))
        return images.reshape(paths.shape[:-1] + images.shape[1:])

    def _path(self, name: str, steps: int, k: float) -> Tensor:
        index(self.labels, name)
        (loc_0, scale_0), (loc_1, scale_1) = self.conditional(name, 0), self.conditional(name, 1)
        side = torch.where(loc_1 >= loc_0, 1.0, -1.0)
        t = torch.linspace(0, 1, steps, dtype=loc_0.dtype, device=loc_0.device).unsqueeze(-1)
        return torch.lerp(loc_0 - side * k * scale_0, loc_1 + side * k * scale_1, t)
