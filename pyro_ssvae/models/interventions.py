"""What one can do to the characteristics of a point: set them, take them from another point, walk along them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, nearest
from ..labels import MISSING, AttributeLabels, ClassLabels


class Interventions:
    """What was asked of ``intervene`` and ``swap``, checked; a model's own verbs follow it."""

    labels: Any
    device: torch.device

    def _chosen(self, values: Mapping[str, int] | str | int) -> dict[str, int]:
        """The value of each attribute that was named, or ``{"class": k}``."""
        if isinstance(self.labels, AttributeLabels):
            if not isinstance(values, Mapping):
                raise InputError(
                    f"intervene: {values!r}; attributes and their values, such as {{'Smiling': 1}}, needed"
                )
            for name, value in values.items():
                self._index(name)
                if isinstance(value, bool) or value not in (0, 1):
                    raise InputError(f"{name}: {value!r}; 0 or 1 is needed")
            return dict(values)
        if isinstance(values, str):
            if values not in self.labels.names:
                raise InputError(f"class: there is no {values!r}{nearest(values, self.labels.names)}")
            values = list(self.labels.names).index(values)
        if not isinstance(values, int) or not 0 <= values < self.labels.size:
            raise InputError(f"intervene: {values!r}; a class of {', '.join(self.labels.names)} is needed")
        return {"class": values}

    def _index(self, name: str) -> int:
        if name not in self.labels.names:
            raise InputError(f"attribute: there is no {name!r}{nearest(name, self.labels.names)}")
        return list(self.labels.names).index(name)

    def _asked(self, values: Mapping[str, int] | str | int) -> Tensor:
        """The values as one point's ``y``, -1 for an attribute that was not named."""
        chosen = self._chosen(values)
        if isinstance(self.labels, ClassLabels):
            return torch.tensor(chosen["class"], device=self.device)
        y = torch.full((self.labels.size,), MISSING, device=self.device)
        for name, value in chosen.items():
            y[self._index(name)] = int(value)
        return y

    def _given(self, y: Tensor, donor: Tensor, name: str) -> Tensor:
        """Labels ``y`` with the donor's value of the attribute ``name``, or with its class."""
        if isinstance(self.labels, ClassLabels):
            return donor.expand_as(y)
        y, i = y.clone(), self._index(name)
        y[:, i] = donor[:, i]
        return y

    def _pair(self, x: Any, donor: Any, name: str) -> tuple[Tensor, Tensor]:
        """The points and the donors of a swap."""
        if isinstance(self.labels, AttributeLabels):
            self._index(name)
        x, donor = torch.as_tensor(x), torch.as_tensor(donor)
        if x.shape[1:] != donor.shape[1:] or len(donor) not in (1, len(x)):
            raise InputError(
                f"swap: x is {list(x.shape)}, the donor {list(donor.shape)}; points of one shape, and as many or one "
                "donor, are needed"
            )
        return x, donor


def repeated(draw: Callable[[], Tensor], num_samples: int | None) -> Tensor:
    """One draw ``[B, ...]`` where ``num_samples`` is None, else ``[S, B, ...]``."""
    return draw() if num_samples is None else torch.stack([draw() for _ in range(num_samples)])


class Characteristics(Interventions):
    """The verbs of a model with ``labels``, ``label_dim``, ``encode``, ``decode``, ``p_z_c``; z_c stands first in z."""

    label_dim: int
    encode: Any
    decode: Any
    p_z_c: Any

    def place(self, name: str) -> slice:
        """Where in z the characteristic of an attribute lies; a class model has one, of all classes."""
        if isinstance(self.labels, ClassLabels):
            return slice(0, self.label_dim)
        i = self._index(name)
        return slice(i * self.label_dim, (i + 1) * self.label_dim)

    def conditional(self, name: str, value: int) -> tuple[Tensor, Tensor]:
        """Mean and scale ``[d]`` of ``p(z_c^i | y_i = value)``, or of a class's ``p(z_c | y = value)``."""
        if isinstance(self.labels, AttributeLabels):
            self.place(name)
            if isinstance(value, bool) or value not in (0, 1):
                raise InputError(f"{name}: {value!r}; 0 or 1 is needed")
            y = torch.full((len(self.labels.names), 1), int(value), device=self.device)
            i = list(self.labels.names).index(name)
            p = self.p_z_c(y).base_dist
            return p.loc[i, 0].detach(), p.scale[i, 0].detach()
        p = self.p_z_c(torch.tensor([value], device=self.device)).base_dist
        return p.loc[0].detach(), p.scale[0].detach()

    def intervene(self, x: Any, values: Mapping[str, int] | str | int, *, num_samples: int | None = None) -> Tensor:
        """Encode ``x``, draw ``z_c^i ~ p(z_c^i | y_i = v)`` for each attribute named, keep the rest, decode.

        :param values: ``{"Smiling": 1}``; for class labels a class, by number or name.
        :param num_samples: S draws: ``[S, B, *input_shape]``; None for one without the first dimension.
        :raises InputError: an attribute or class that does not exist, or a value that is neither 0 nor 1.
        """
        chosen = self._chosen(values)
        z = self.encode(x).mean

        def draw() -> Tensor:
            changed = z.clone()
            for name, value in chosen.items():
                at = self.place(name)
                loc, scale = self.conditional(name, value)
                changed[:, at] = loc + scale * torch.randn_like(changed[:, at])
            images: Tensor = self.decode(changed)
            return images

        return repeated(draw, num_samples)

    def swap(self, x: Any, donor: Any, name: str = "class") -> Tensor:
        """``x`` with the donor's characteristic ``z_c^i``, whatever kind of it the donor has: ``[B, *input_shape]``.

        :param donor: as many points as ``x``, or one for all.
        """
        at = self.place(name)
        x, donor = self._pair(x, donor, name)
        z = self.encode(x).mean.clone()
        z[:, at] = self.encode(donor).mean[:, at]
        return self.decode(z)

    def walk(self, x: Any, first: str, second: str | None = None, *, steps: int = 7, k: float = 2.0) -> Tensor:
        """Walk ``z_c^i`` of one or two attributes from ``μ_false - kσ_false`` to ``μ_true + kσ_true``.

        :returns: ``[B, steps, *input_shape]``; with a second attribute ``[B, steps, steps, *input_shape]``, the
            second along the first of these dimensions.
        """
        if isinstance(self.labels, ClassLabels):
            raise InputError("walk: it goes along attributes; this model has class labels")
        z = self.encode(x).mean
        along = self._path(first, steps, k)
        if second is None:
            paths = z.unsqueeze(1).repeat(1, steps, 1)
            paths[:, :, self.place(first)] = along
        else:
            paths = z[:, None, None].repeat(1, steps, steps, 1)
            paths[:, :, :, self.place(first)] = along
            paths[:, :, :, self.place(second)] = self._path(second, steps, k).unsqueeze(1)
        images: Tensor = self.decode(paths.flatten(0, -2))
        return images.reshape(paths.shape[:-1] + images.shape[1:])

    def _path(self, name: str, steps: int, k: float) -> Tensor:
        self.place(name)
        (loc_0, scale_0), (loc_1, scale_1) = self.conditional(name, 0), self.conditional(name, 1)
        side = torch.where(loc_1 >= loc_0, 1.0, -1.0)
        t = torch.linspace(0, 1, steps, dtype=loc_0.dtype, device=loc_0.device).unsqueeze(-1)
        return torch.lerp(loc_0 - side * k * scale_0, loc_1 + side * k * scale_1, t)
