"""Swap transfer: whether what the label does not name arrives with it, the kind of the donor's glasses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..labels import MISSING
from .bootstrap import Metrics, estimates
from .oracle import Reading
from .trial import Trial


def swap_transfer(
    trial: Trial,
    values: Mapping[str, Tensor],
    owners: Mapping[str, str | None],
    with_attribute: bool,
    sampled: np.ndarray,
) -> Metrics | None:
    """Return how often a donor's factor value arrives; None where no factor has receivers, and donors of two values.

    :param values: true values of the factors, ``owners`` the attributes that they refine.
    :param with_attribute: take receivers that have the attribute, with another value; else receivers without it.
    """
    columns: dict[str, Tensor] = {}
    extra: dict[str, list[float]] = {key: [] for key in ("chance", "without_swap", "real", "reconstruction")}
    for factor, owner in owners.items():
        if owner is None or owner not in trial.labels.names:
            continue
        receivers, donors = matched(trial, values[factor], owner, with_attribute)
        if not len(receivers):
            continue
        wanted = values[factor][donors]
        arrived = Arrival(factor, list(trial.labels.names).index(owner))
        parts = [arrived(reading, wanted[some]) for some, reading in trial.swapped(receivers, donors, owner)]
        column = torch.full((len(trial.x),), math.nan, dtype=torch.float64)
        column[receivers[:: trial.draws]] = torch.cat(parts).reshape(-1, trial.draws).mean(1)
        columns[factor] = column
        extra["chance"].append(blind_share(values[factor][receivers] if with_attribute else None, wanted))
        extra["without_swap"].append(float(arrived(trial.recon, wanted, receivers).mean()))
        extra["real"].append(float(arrived(trial.real, wanted, donors).mean()))
        extra["reconstruction"].append(float(arrived(trial.recon, wanted, donors).mean()))
    if not columns:
        return None
    per = {key: torch.tensor(shares, dtype=torch.float64) for key, shares in extra.items()}
    ceiling = {key: per[key] for key in ("real", "reconstruction")}
    mean, each = estimates(torch.stack(list(columns.values()), 1), list(columns), sampled, per["chance"], ceiling)
    without = zip(columns, extra["without_swap"])
    return {
        "mean": {**mean, "without_swap": float(per["without_swap"].mean())},
        "per_factor": {f: {**each[f], "without_swap": share, "attribute": owners[f]} for f, share in without},
    }


def blind_share(own: Tensor | None, wanted: Tensor) -> float:
    """Return the best share right of a model that never looks at the donor::

        Σ_k n_k / n  max_v P(wanted = v | own = k)

    It knows what the receiver shows, which the donor's value differs from. Of two values it knows the donor's.

    :param own: the receivers' own values int64 ``[n]``; None where they show none.
    :param wanted: the donors' ``[n]``.
    """
    groups = torch.zeros_like(wanted) if own is None else own
    right = sum(int(wanted[groups == k].bincount().max()) for k in groups.unique().tolist())
    return right / len(wanted)


def matched(trial: Trial, value: Tensor, owner: str, with_attribute: bool) -> tuple[Tensor, Tensor]:
    """Return rows of receivers, each as often as there are draws, and of their donors; empty where there are none."""
    label = trial.y[:, list(trial.labels.names).index(owner)]
    donors = ((label == 1) & (value != MISSING)).nonzero().squeeze(-1)
    receivers = donors if with_attribute else (label == 0).nonzero().squeeze(-1)
    own = value[receivers] if with_attribute else torch.full_like(receivers, MISSING)
    if len(value[donors].unique()) < 2 or not len(receivers):
        return receivers[:0], donors[:0]
    chosen = choose_donors(own, value[donors], trial.draws, trial.seed)
    return receivers.repeat_interleave(trial.draws), donors[chosen].flatten()


@dataclass(frozen=True)
class Arrival:
    """Whether a reading shows an attribute, and the wanted value of one of its factors."""

    factor: str
    attribute: int

    def __call__(self, reading: Reading, wanted: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        value, label = reading.factor_values[self.factor][rows], reading.labels[rows, self.attribute]
        return ((value == wanted) & (label == 1)).double()


def choose_donors(own: Tensor, donor_values: Tensor, draws: int, seed: int = 0) -> Tensor:
    """Choose donors of another value than each receiver's own, the values as balanced as can be, int64 ``[R, draws]``.

    :param own: the receivers' values ``[R]``, -1 for none.
    :param donor_values: ``[D]``, at least two different ones.
    """
    generator = torch.Generator().manual_seed(seed)
    present = donor_values.unique().tolist()
    chosen = torch.zeros(len(own), draws, dtype=torch.long)
    for value in own.unique().tolist():
        others = torch.tensor([k for k in present if k != value])
        rows = (own == value).nonzero().squeeze(-1)
        wanted = others[torch.arange(len(rows) * draws) % len(others)]
        wanted = wanted[torch.randperm(len(wanted), generator=generator)]
        flat = torch.zeros_like(wanted)
        for k in others.tolist():
            pool, here = (donor_values == k).nonzero().squeeze(-1), wanted == k
            flat[here] = pool[torch.randint(len(pool), (int(here.sum()),), generator=generator)]
        chosen[rows] = flat.reshape(len(rows), draws)
    return chosen
