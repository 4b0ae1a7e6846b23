"""The guide of a model of characteristics that infers the rest from what the named attributes do not touch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import InputError
from ..infer.batched import batched, checked, evaluating
from ..infer.locality import data_range, draw_sets, erased, touched
from ..infer.regions import PROBES, SHARE, Regions
from ..infer.traces import drawn, plain
from ..labels import MISSING, ClassLabels
from ..nn.likelihood_base import Likelihood
from ..nn.networks import evaluation
from .config import HeadConfig, Range
from .generative import moment_of
from .interventions import Characteristics

BEGINS = 0.1  # share of the training before, in which the decoder learns what an attribute touches
KNOWN = 0.5  # share of it from which what is covered sees the whole point always


@dataclass(frozen=True, kw_only=True)
class LocalityConfig(HeadConfig):
    """Options of the guide q_S."""

    locality: Annotated[float, Range(0, 1)] = 0.0
    """Share of a batch that trains under a guide that does not see what an attribute touches; 0: the paper's form."""
    locality_threshold: Annotated[float, Range(0, 1, inside=True)] = 0.2
    """What an attribute touches: entries that it changes by more than this share of the data's range."""


class LocalGuide(Characteristics):
    """Training, interventions, swaps and walks under q_S (:mod:`~pyro_ssvae.infer.locality`)::

        q_S(z | x) = Π_{i in S} q(z_c^i | x) · q(z_s, z_c^{-S} | x̃_S)

    In training S is drawn for each row of a share of the batch, from a tenth of the training on; until then the pixels'
    gradient does not reach z_c. Under plain ``SVI`` it is so from the start. In an intervention, a swap or a walk S is
    what was named. Bounds and predictions, in evaluation mode, are those of q(z | x). Of classes S is their one block.
    It costs one encode and two decodes without gradients, a batch or an intervention. With S one attribute alone,
    regions that it had in other points are erased too (:mod:`~pyro_ssvae.infer.regions`).
    """

    config: LocalityConfig
    range_low: Tensor
    range_high: Tensor
    local: Tensor

    def set_locality(self) -> None:
        """Make the buffers; called once, by ``__init__``, after ``input_shape`` is known."""
        if self.config.locality:
            units = (self.input_shape[0], *[1] * (len(self.input_shape) - 1))
            low, high = (0.0, 1.0) if len(units) == 3 else (-2.0, 2.0)
            self.register_buffer("range_low", torch.full(units, low))
            self.register_buffer("range_high", torch.full(units, high))
            self.mark_codes()
            self.register_buffer("local", torch.tensor(True), persistent=False)
            parts = self.labels.size if self.labels.event_shape else 1
            self.regions = Regions(parts, (1, *self.input_shape[1:]) if len(units) == 3 else self.input_shape)

    def prepare(self, x: Tensor, y: Tensor) -> None:
        super().prepare(x, y)
        if self.config.locality:
            for buffer, value in zip((self.range_low, self.range_high), data_range(self.inputs(x))):
                buffer.copy_(value)
            self.mark_codes()

    def mark_codes(self) -> None:
        """Give codes, whose size says nothing, the range -1 to -1: none of them, which is left of an erased one."""
        if isinstance(self.likelihood, Likelihood):
            for buffer in (self.range_low, self.range_high):
                buffer[self.likelihood.codes] = -1

    def set_progress(self, progress: float) -> None:
        """As the other parts have it; q_S comes into force at a tenth of the training, and the pixels' gradient at z_c
        with it. What is covered sees the whole point always from half of it on; without a call, as under plain ``SVI``,
        for half of the points.

        :param progress: the share of the training that is done, 0 to 1.
        """
        super().set_progress(progress)
        if self.config.locality:
            self.local.fill_(progress >= BEGINS)
            self.regions.share.fill_(1.0 if progress >= KNOWN else SHARE)

    def heard(self, z_c: Tensor) -> Tensor:
        """``z_c`` as the decoder hears it: in training, before q_S is in force, without a gradient from the pixels.

        Until then nothing says what z_c^i is to hold, and what it once holds it keeps (docs/revae.md).
        """
        if not (self.training and self.config.locality):
            return z_c
        return torch.lerp(z_c.detach(), z_c, self.local.to(z_c))

    def q_z_given(self, x: Tensor) -> tuple[dist.TorchDistribution, dist.TorchDistribution]:
        """q(z_c | x) and q(z_s | x)."""
        raise NotImplementedError

    def q_z_local(
        self, x: Tensor, y: Tensor, q_c: dist.TorchDistribution, q_s: dist.TorchDistribution
    ) -> tuple[dist.TorchDistribution, dist.TorchDistribution]:
        """q_S(z_c | x) and q_S(z_s | x), S drawn for a share of the rows; of the others the given ones.

        :param y: as the site has it, -1 where missing.
        :param q_c: q(z_c | x) of all rows; ``q_s`` likewise.
        :raises InputError: a posterior that is no Normal.
        """
        n, whole_c, whole_s = len(x), plain(q_c), plain(q_s)
        if not isinstance(whole_c, dist.Normal) or not isinstance(whole_s, dist.Normal):
            raise InputError("locality: q(z_c | x) and q(z_s | x) must be Normal; locality=0 takes any")
        some = torch.randperm(n, device=x.device)[: max(2, round(self.config.locality * n))]  # batch norm needs two
        with torch.no_grad():
            x, y, c, s = x[some], y[..., some], whole_c.loc[..., some, :], whole_s.loc[some]
            sets = draw_sets(self.labels.size, len(some), x.device) if self.labels.event_shape else y == y
            now = torch.where(y == MISSING, self.log_q_y(c).argmax(-1), y)
            other = self.other_value(now, c)
            new = drawn(self.z_c_given(other, s))
            if self.labels.event_shape:
                self.probe(c, new, s, now)
            flipped = torch.where(sets.unsqueeze(-1), new, c)
            left, sets = self.without(x, self.join(c, s), self.join(flipped, s), sets, now)
            x = torch.where(self.local, left, x)
        rest_c, rest_s = (plain(q) for q in self.q_z_given(x))

        def mixed(moment: str) -> tuple[Tensor, Tensor]:
            c, s = getattr(whole_c, moment), getattr(whole_s, moment)
            rest = torch.where(sets.unsqueeze(-1), c[..., some, :], getattr(rest_c, moment))
            return c.index_copy(-2, some, rest), s.index_copy(0, some, getattr(rest_s, moment))

        (loc_c, loc_s), (scale_c, scale_s) = mixed("loc"), mixed("scale")
        return dist.Normal(loc_c, scale_c).to_event(1), dist.Normal(loc_s, scale_s).to_event(1)

    def other_value(self, y: Tensor, z_c: Tensor) -> Tensor:
        """Attributes: ``1 - y``. Classes: another class, in training any, else the most probable."""
        if self.labels.event_shape:
            return 1 - y
        if self.training:
            return (y + torch.randint_like(y, 1, max(2, self.labels.size))) % self.labels.size
        return self.log_q_y(z_c).scatter(-1, y.unsqueeze(-1), -torch.inf).argmax(-1)

    def probe(self, c: Tensor, new: Tensor, s: Tensor, y: Tensor) -> None:
        """Ask of a few points which attributes' regions lie within others', each attribute flipped alone.

        :param new: z_c of the other values ``[A, B, d]``, as ``c``.
        :param y: the attributes' values ``[A, B]``.
        """
        size, n = len(c), min(len(s), max(1, PROBES // len(c)))
        c, new, s = c[:, :n], new[:, :n], s[:n]
        alone = torch.eye(size, dtype=torch.bool, device=c.device).reshape(size, size, 1, 1)
        flipped = torch.where(alone, new.unsqueeze(1), c.unsqueeze(1)).flatten(1, 2)  # z_c, of each flipped, each row
        shown = self.pictures(torch.cat([self.join(c, s), self.join(flipped, s.repeat(size, 1))]))
        region = self.region(shown[:n].repeat(size, *[1] * (shown.dim() - 1)), shown[n:])
        self.regions.compare(region.unflatten(0, (size, n)), y[:, :n], self.local)

    def pictures(self, z: Tensor) -> Tensor:
        """The model's mean pictures of latents ``[B, D]``, in evaluation mode."""
        with evaluation(self.decoder):
            return self.mean_x(z)

    def region(self, before: Tensor, after: Tensor) -> Tensor:
        """Where two pictures differ: a mask ``[B, ...]``."""
        return touched(before, after, self.range_high - self.range_low, self.config.locality_threshold)

    def without(self, x: Tensor, z: Tensor, flipped: Tensor, sets: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """``x̃``: points without the entries in which the decoder's pictures of two latents ``[B, D]`` differ.

        :param sets: S, bool ``[A, B]``; of classes ``[B]``.
        :param y: the labels' values, likewise.
        :returns: x̃, and what sees the whole point: S, and attributes of which x̃ shows nothing.
        """
        region, named = self.region(*self.pictures(torch.cat([z, flipped])).chunk(2)), sets.reshape(-1, len(x))
        if self.training:
            self.regions.remember(region, named, self.local)
        region = self.regions.joined(region, named)
        seeing = sets | self.regions.covered(sets, y) if self.labels.event_shape else sets
        return erased(x, region, self.range_low, self.range_high, random=self.training), seeing

    def encode_for(self, x: ArrayLike, names: Iterable[str]) -> Tensor:
        names = list(names)
        named = [self.place(name) for name in names]
        if not self.config.locality:
            return super().encode_for(x, names)
        if not named:
            raise InputError(f"encode_for: no attribute is named; at least one of {self.names_of_parts()} is needed")
        points = checked(self, x)[0]
        z = self.encode(points).mean
        with evaluating(self):
            c, s = self.parts(z)["z_c"], self.parts(z)["z_s"]
            now = self.log_q_y(c).argmax(-1)
            other = self.other_value(now, c)
            new, flipped = self.join(moment_of(self.z_c_given(other, s), "mean"), s), z.clone()
            for at in named:
                flipped[:, at] = new[:, at]
            chosen = [name in names for name in self.labels.names] if self.labels.event_shape else [True]
            sets = torch.tensor(chosen, device=z.device).unsqueeze(-1).expand(-1, len(z))
            parts = zip(*(t.split(250) for t in (points, z, flipped)), sets.split(250, -1), now.split(250, -1))
            left, seeing = zip(*(self.without(*part) for part in parts))
        # Erased codes and counts need not be whole numbers, so that they are not checked as a person's data are.
        rest = batched(self, lambda x: self.joined(self.posterior_trace(x, None), "mean"), torch.cat(left)).clone()
        whole = torch.cat(seeing, -1)
        for i, name in enumerate(self.labels.names if self.labels.event_shape else ["class"]):
            at = self.place(name)
            rest[:, at] = torch.where(whole[i].unsqueeze(-1), z[:, at], rest[:, at])
        return rest

    def names_of_parts(self) -> str:
        """What :meth:`place` knows, in words."""
        return "class" if isinstance(self.labels, ClassLabels) else ", ".join(self.labels.names)[:200]
