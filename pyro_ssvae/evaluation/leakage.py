"""Where the unnamed kinds are: which swap brings them, and which part of the latents tells them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..infer.batched import seeded
from ..labels import MISSING
from .bootstrap import Metrics
from .swap_transfer import matched
from .trial import Trial

LEAST = 40  # points of a factor, of which half teach the classifier


@runtime_checkable
class HasParts(Protocol):
    """A model with a part of z for each attribute, and the guide that an intervention takes."""

    z_c_dim: int

    def place(self, name: str) -> slice: ...

    def encode_for(self, x: ArrayLike, names: Iterable[str]) -> Tensor: ...


def leakage(trial: Trial, values: Mapping[str, Tensor], owners: Mapping[str, str | None], points: int) -> Metrics:
    """Return where each factor's kind is, of the factors that refine an attribute.

    ``swaps``: ``{factor: {attribute: [donor's, own]}}``. Receiver and donor both have the factor's attribute, of
    different kinds; each attribute is swapped in turn: the shares that then read as the donor's kind, and as the
    receiver's own. ``latents`` (of models with a part a label): what a classifier, logistic regression on one half of
    the points, reads of the kind on the other half, under the guide of a swap of its attribute: from ``own`` (z_c^i),
    ``others`` (z_c^{-i}) and ``rest`` (z_s), beside ``chance``, the share of the commonest, and ``points``.
    ``attributes``: the factors' own.

    :param values: true values of the factors, -1 where one does not apply.
    :param owners: the attributes that they refine.
    :param points: receivers of a swap, at most; of a classifier ten times as many.
    """
    swaps: dict[str, dict[str, list[float]]] = {}
    latents: dict[str, dict[str, float]] = {}
    for factor, owner in owners.items():
        if owner is None or owner not in trial.labels.names:
            continue
        receivers, donors = (rows[:: trial.draws][:points] for rows in matched(trial, values[factor], owner, True))
        if len(receivers):
            swaps[factor] = {
                name: kinds_after(trial, factor, values[factor], receivers, donors, name) for name in trial.labels.names
            }
        there = trial.y[:, list(trial.labels.names).index(owner)] == 1
        rows = (there & (values[factor] != MISSING)).nonzero().squeeze(-1)[: 10 * points]
        if isinstance(trial.model, HasParts) and len(rows) >= LEAST:
            latents[factor] = kinds_in_latents(trial.model, trial.x[rows], values[factor][rows], owner, trial.seed)
    return {"swaps": swaps, "latents": latents, "attributes": {factor: owners[factor] for factor in swaps}}


def kinds_after(trial: Trial, factor: str, value: Tensor, receivers: Tensor, donors: Tensor, name: str) -> list[float]:
    """Return the shares that read as the donor's kind, and as the receiver's own, after a swap of an attribute."""
    read = torch.cat([reading.factor_values[factor] for _, reading in trial.swapped(receivers, donors, name)])
    return [float((read == value[rows]).double().mean()) for rows in (donors, receivers)]


def kinds_in_latents(model: nn.Module, x: Tensor, value: Tensor, owner: str, seed: int) -> dict[str, float]:
    """Return the accuracy of a classifier of the kind on each part of z, on points that it did not learn from."""
    assert isinstance(model, HasParts)
    with seeded(x.device, seed):
        z, order = model.encode_for(x, [owner]).cpu().double(), torch.randperm(len(x))
    at, c = model.place(owner), z[:, : model.z_c_dim]
    parts = {
        "own": z[:, at],
        "others": torch.cat([c[:, : at.start], c[:, at.stop :]], 1),
        "rest": z[:, model.z_c_dim :],
    }
    train, test = order.chunk(2)
    found = {
        key: classified(part[train], value[train], part[test], value[test])
        for key, part in parts.items()
        if part.shape[1]
    }
    chance = float(value[test].bincount().max()) / len(test)
    return {**found, "chance": chance, "points": float(len(x))}


def classified(z: Tensor, value: Tensor, z_test: Tensor, value_test: Tensor) -> float:
    """Return the accuracy on test points of logistic regression of a value on latents in units of their deviation."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scale = z.std(0).clamp_min(1e-6)
    if len(value.unique()) < 2:
        return float((value_test == value[0]).double().mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(max_iter=300).fit(((z - z.mean(0)) / scale).numpy(), value.numpy())
    read: np.ndarray = fitted.predict(((z_test - z.mean(0)) / scale).numpy())
    return float((read == value_test.numpy()).mean())
