"""How strange a point is to a model: its distance from the training points, in what the encoder makes of them.

With features ``h = encoder(x)``, their means μ_k over the training points of each predicted class k, and Σ, the
covariance within classes (shrunk), the score is ::

    novelty(x) = min_k sqrt( (h - μ_k)ᵀ Σ⁻¹ (h - μ_k) ) / q

q is the 0.95 quantile of that distance over points that the model did not learn from: a point above 1 is stranger than
95 of 100 points like those of training. Missing labels are no hindrance: classes are the predicted ones. Attributes,
and models without labels, have one mean.

Sources: Lee et al. (2018), arXiv:1807.03888, for the distance; Ledoit, Wolf (2004) for the shrinkage. It was chosen by
measurement, among the bound, typicality, likelihood ratios, distances in z, nearest neighbours and the classes' energy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..errors import InputError
from ..files import load_tensors, save_tensors
from ..infer.batched import batched, checked, evaluating
from ..infer.pairs import PairLike, as_pair, is_pair, name_of_pair
from ..infer.protocols import Classifies, Encodes, HasFeatures
from ..infer.traces import run
from ..labels import ClassLabels

ROWS = 20_000
"""Training points that the statistics are taken of, at most."""
LEAST = 10
"""Training points that the statistics are taken of, at least."""
QUANTILE = 0.95


@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of the training points' features.

    :ivar means: μ, ``[K, H]`` of the classes that are predicted, float64.
    :ivar whiten: W ``[H, H]`` with ``W Wᵀ = Σ⁻¹``.
    :ivar unit: q.
    """

    means: Tensor
    whiten: Tensor
    unit: Tensor

    def distance(self, h: Tensor) -> Tensor:
        """The least distance from a mean, in q: float64 ``[N]`` of features ``[N, H]``; taken in their precision."""
        centre, whiten = self.means[0].to(h), self.whiten.to(h)
        means = ((self.means - self.means[0]) @ self.whiten).to(h)
        return torch.cdist((h - centre) @ whiten, means).amin(-1).double() / self.unit

    def save(self, path: Path) -> None:
        """Write the statistics as safetensors."""
        save_tensors(path, {"means": self.means, "whiten": self.whiten, "unit": self.unit})

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read what :meth:`save` wrote.

        :raises InputError: naming the file, where it is absent, damaged or something else.
        """
        tensors, _ = load_tensors(path, "a run's statistics for novelty")
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        width = shapes.get("means", (0, 0))[-1]
        if shapes != {"means": (*shapes.get("means", ())[:1], width), "whiten": (width, width), "unit": ()}:
            raise InputError(f"{path}: not a run's statistics for novelty; train the run anew")
        return cls(tensors["means"], tensors["whiten"], tensors["unit"])


def novelty(model: PairLike, x: ArrayLike, reference: Reference | ArrayLike) -> Tensor:
    """Return the novelty of points, float64 ``[N]``: 1 is where 95 of 100 points like those of training lie below.

    :param x: points ``[N, *input_shape]``.
    :param reference: the points that the model was trained on; or what :func:`reference_of` made of them, once for many
        calls.
    :raises InputError: points that do not fit, or a model without encoder.

    Example::

        strange = ps.novelty(vae, x_new, reference=x_train) > 1
    """
    known = reference if isinstance(reference, Reference) else reference_of(model, reference)
    pair = as_pair(model)
    points, _ = checked(pair, x)
    features = features_of(pair, points)
    return batched(pair, lambda part: known.distance(features(part).cpu()), points)


def reference_of(model: PairLike, x: ArrayLike, held: ArrayLike | None = None, *, seed: int = 0) -> Reference:
    """Return the statistics of the points that a model was trained on, of at most 20,000 of them.

    :param held: points of the same kind that it did not learn from, for q; without any, q is taken of a fifth of x, the
        other statistics of the rest.
    :param seed: of the choice of points.
    :raises InputError: fewer than 10 points, points that do not fit, or a model without encoder.
    """
    pair = as_pair(model)
    points, _ = checked(pair, x)
    features = features_of(pair, points)
    if len(points) < LEAST:
        raise InputError(f"reference: {len(points)} rows; at least {LEAST} of the points that the model was trained on "
                         "are needed")  # fmt: skip
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:ROWS].to(points.device)
    if held is None:
        order, rest = order[len(order) // 5 :], order[: len(order) // 5]
    else:
        rest = order[:0]
    h, groups = batched(pair, features, points[order]).double().cpu(), groups_of(pair, points[order])
    means, whiten = moments(h, groups)
    own = Reference(means, whiten, torch.tensor(1.0, dtype=torch.double))
    if held is not None:
        rows, _ = checked(pair, held)
    else:
        rows = points[rest]
    distances = own.distance(batched(pair, features, rows).cpu())
    unit = torch.quantile(distances, QUANTILE).clamp_min(1e-12)
    return Reference(means, whiten, unit)


def features_of(pair: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what gives a point's features ``[B, H]``: the encoder, or the posterior's mean where there is none, or
    where a guide of one's own does without it.

    :param x: points to try.
    :raises InputError: neither is there.
    """
    if isinstance(pair, HasFeatures) and not (isinstance(pair, Encodes) and leaves_encoder(pair, x[:2])):
        return lambda x: pair.features(x).flatten(1)
    if isinstance(pair, Encodes):
        return lambda x: pair.encode(x).mean.flatten(1)
    raise InputError(f"novelty: {name_of_pair(pair)} has no encoder; a model with features or a posterior is needed")


def leaves_encoder(pair: nn.Module, x: Tensor) -> bool:
    """Whether a run of the pair does not call its ``encoder``, which then has learnt nothing."""
    called: list[bool] = []
    encoder = dict(pair.named_children()).get("encoder")
    if encoder is None or not is_pair(pair) or not len(x):
        return False
    hook = encoder.register_forward_hook(lambda *_: called.append(True))
    try:
        with evaluating(pair, 0):
            run(pair, x, None)
    finally:
        hook.remove()
    return not called


def groups_of(pair: nn.Module, x: Tensor) -> Tensor:
    """The predicted class of each point; of other labels, or without any, zeros."""
    if isinstance(pair, Classifies) and isinstance(pair.labels, ClassLabels):
        return batched(pair, pair.predict_proba, x).argmax(-1).cpu()
    return torch.zeros(len(x), dtype=torch.long)


def varies(h: Tensor) -> bool:
    """Whether differences from a mean are more than rounding."""
    return float(h.abs().max()) > 1e-10


def moments(h: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return the groups' means ``[K, H]`` and W ``[H, H]`` of the covariance within groups, shrunk (Ledoit-Wolf).

    Directions in which no feature varies keep a ten-thousandth of the mean variance. Where nothing varies within
    groups, as of one point each, all points are one group.

    :raises InputError: nothing varies at all, or features that are not finite.
    """
    from sklearn.covariance import ledoit_wolf

    if not h.isfinite().all():
        raise InputError("novelty: the encoder gives values that are not finite; the model has diverged")
    present, member = groups.unique(return_inverse=True)
    means = torch.stack([h[member == k].mean(0) for k in range(len(present))])
    if not varies(h - means[member]):
        if not varies(h - h.mean(0)):
            raise InputError("reference: the points are all alike to the model; different ones are needed")
        return moments(h, torch.zeros_like(groups))
    found, _ = ledoit_wolf((h - means[member]).numpy(), assume_centered=True)
    covariance = torch.from_numpy(found)
    floor = 1e-4 * covariance.diagonal().mean().clamp_min(1e-12)
    variances, axes = torch.linalg.eigh(covariance)
    return means, axes / variances.clamp_min(floor).sqrt()
