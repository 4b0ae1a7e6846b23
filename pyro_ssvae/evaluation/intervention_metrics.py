"""Success, preservation and diversity of interventions, from what an oracle reads."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..data.augment import unit_scale
from ..errors import InputError
from ..labels import MISSING
from .bootstrap import Metrics, estimates, finite_or_none, masked
from .oracle import Reading
from .trial import Trial

MEASURES = (
    "success",
    "preservation",
    "preservation_labels",
    "preservation_kinds",
    "diversity_pixels",
    "diversity_features",
)


def attribute_metrics(
    trial: Trial, values: Mapping[str, Tensor], owners: Mapping[str, str | None], sampled: np.ndarray
) -> Metrics:
    """Return success, preservation and diversity."""
    names, target = list(trial.labels.names), 1 - trial.current
    table = {key: torch.full(target.shape, math.nan, dtype=torch.float64) for key in MEASURES}
    label = masked(trial.y, trial.y != MISSING)
    for i, name in enumerate(names):
        foreign = {factor: value for factor, value in values.items() if owners.get(factor) != name}
        for v in (0, 1):
            for rows, images, readings in trial.edited((target[:, i] == v).nonzero().squeeze(-1), {name: v}):
                for key, column in measured(trial, i, v, label, foreign, rows, images, readings).items():
                    table[key][rows, i] = column
    chance, ceiling = expected(trial, target, label)
    result: Metrics = {}
    for key in MEASURES:
        if not table[key].isnan().all():
            mean, each = estimates(table[key], names, sampled, chance.get(key), ceiling.get(key, {}))
            result[key] = {"mean": mean, "per_attribute": each}
    for i, name in enumerate(names):
        to = [table["success"][target[:, i] == v, i].nanmean() for v in (0, 1)]
        result["success"]["per_attribute"][name]["to"] = [finite_or_none(float(share)) for share in to]
    return result


def measured(
    trial: Trial,
    i: int,
    v: int,
    label: Tensor,
    foreign: Mapping[str, Tensor],
    rows: Tensor,
    images: Tensor,
    readings: list[Reading],
) -> dict[str, Tensor]:
    """Return the measures ``[b]`` of setting attribute i of some rows to v.

    :param foreign: true values of the factors that belong to other attributes, or to none.
    """
    read = torch.stack([r.labels for r in readings])
    others = [j for j in range(read.shape[-1]) if j != i]
    found = {"success": (read[..., i] == v).double().mean(0)}
    if others:
        found["preservation"] = (read == trial.recon.labels[rows]).double().mean(0)[:, others].mean(1)
        true = (read == label[rows]).double().masked_fill(label[rows].isnan(), math.nan)
        found["preservation_labels"] = true[..., others].mean(0).nanmean(1)
    if foreign:
        same = [same_value(trial, factor, true, rows, readings) for factor, true in foreign.items()]
        found["preservation_kinds"] = torch.stack(same, 1).nanmean(1)
    if trial.draws > 1:
        h = torch.stack([r.features for r in readings]).double()
        found["diversity_pixels"] = images.double().var(0).flatten(1).mean(1)
        found["diversity_features"] = h.var(0).mean(1)
    return found


def same_value(trial: Trial, factor: str, true: Tensor, rows: Tensor, readings: list[Reading]) -> Tensor:
    """Return how often a factor's value reads as on the reconstruction, ``[b]``; NaN where it does not apply."""
    read = torch.stack([r.factor_values[factor] for r in readings])
    same = (read == trial.recon.factor_values[factor][rows]).double().mean(0)
    return same.masked_fill(true[rows] == MISSING, math.nan)


def expected(trial: Trial, target: Tensor, label: Tensor) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Return chance and ceilings of success, preservation and diversity, ``[A]`` each."""
    a, readings = target.shape[1], {"real": trial.real, "reconstruction": trial.recon}
    others = (1 - torch.eye(a, dtype=torch.float64)) / max(a - 1, 1)  # row i: the mean over the others of i
    p, q = trial.recon.labels.double().mean(0), label.nanmean(0)
    chance = {"success": (trial.recon.labels == target).double().mean(0)}
    chance["preservation"] = others @ torch.maximum(p, 1 - p)  # one picture for all points: the commonest values
    chance["preservation_labels"] = others @ torch.maximum(q, 1 - q).nan_to_num()
    chance["diversity_pixels"] = chance["diversity_features"] = torch.zeros(a)
    ceiling: dict[str, dict[str, Tensor]] = {"preservation": {"reconstruction": torch.ones(a)}}
    ceiling["preservation_kinds"] = ceiling["preservation"]
    ceiling["success"] = {key: recall(r.labels, label, target) for key, r in readings.items()}
    for key, r in readings.items():
        right = (r.labels == label).double().masked_fill(label.isnan(), math.nan).nanmean(0)
        ceiling.setdefault("preservation_labels", {})[key] = others @ right.nan_to_num()
    if len(trial.x) > 1:
        for key, x in (("real", unit_scale(trial.x)), ("reconstruction", trial.x_hat)):
            h = readings[key].features
            ceiling.setdefault("diversity_pixels", {})[key] = x.double().var(0).mean().expand(a)
            ceiling.setdefault("diversity_features", {})[key] = h.double().var(0).mean().expand(a)
    return chance, ceiling


def recall(read: Tensor, label: Tensor, target: Tensor) -> Tensor:
    """Return how often attributes read right where they have the values that interventions set, ``[A]``.

    :param label: true labels ``[n, A]``, NaN where unknown.
    :param target: what is set ``[n, A]``: the shares of 0 and 1 in it weight the two recalls.
    """
    total = torch.zeros(label.shape[1], dtype=torch.float64)
    for v in (0, 1):
        share = (target == v).double().mean(0)
        right = masked((read == v).long(), label == v).nanmean(0)
        total += torch.where(share > 0, share * right, 0.0)
    return total


def class_success(trial: Trial, sampled: np.ndarray) -> Metrics:
    """Return the success of setting a class."""
    k = trial.labels.size
    if k < 2:
        raise InputError("interventions: at least two classes are needed")
    other = torch.randint(k - 1, (len(trial.x),), generator=torch.Generator().manual_seed(trial.seed))
    target = (trial.current + 1 + other) % k
    success = torch.full((len(trial.x), k), math.nan, dtype=torch.float64)
    for v in range(k):
        for rows, _, readings in trial.edited((target == v).nonzero().squeeze(-1), v):
            success[rows, v] = torch.stack([r.labels == v for r in readings]).double().mean(0)
    wanted = torch.arange(k)

    def share(read: Tensor, where: Tensor) -> Tensor:
        return masked((read.unsqueeze(-1) == wanted).long(), where.unsqueeze(-1) == wanted).nanmean(0)

    chance = share(trial.recon.labels, target)
    ceiling = {key: share(r.labels, trial.y) for key, r in (("real", trial.real), ("reconstruction", trial.recon))}
    mean, each = estimates(success, list(trial.labels.names), sampled, chance, ceiling)
    return {"mean": mean, "per_class": each}
