"""How well interventions work, as an oracle that was trained apart from the model reads their images."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import nn

from ..data.inputs import check_data
from ..errors import InputError
from ..infer.protocols import Intervenes, require
from ..labels import ClassLabels
from .bootstrap import Metrics, resample
from .intervention_metrics import attribute_metrics, class_success
from .leakage import leakage
from .oracle import Factors
from .swap_transfer import swap_transfer
from .trial import Reader, Trial


def evaluate_interventions(
    model: nn.Module,
    oracle: Reader,
    x: ArrayLike,
    y: ArrayLike,
    factors: Factors | None = None,
    *,
    num_points: int = 500,
    draws: int = 4,
    resamples: int = 1000,
    batch_size: int = 250,
    leakage_points: int = 0,
    seed: int = 0,
) -> Metrics:
    """Intervene on held-out points, let the oracle read the pictures, and return the shares that are as they should.

    Each attribute ``i`` of each point is set to ``v = 1 - y_i``, the opposite of its true label (where that is unknown,
    of what the oracle reads on the real point), ``draws`` times. The label decides, not the reconstruction, so that a
    model whose reconstructions read wrong does not have an easier task; what it gains by that is the chance level.

    ======================= ========================================================================================
    ``success``             share where the oracle reads v of attribute i. Chance: it reads v on the reconstruction,
                            without any intervention. ``to``: the same by v, 0 and 1
    ``preservation``        share of the *other* attributes that read as on the reconstruction. Chance: one picture for
                            all points, which shows the commonest values
    ``preservation_labels`` the same against the true labels
    ``preservation_kinds``  share of the other factors' values that read as on the reconstruction, where they apply
    ``diversity_pixels``    variance over the draws, mean over pixels. Ceiling: the variance between points
    ``diversity_features``  the same in the oracle's features
    ``carry_over``          swap transfer, the unnamed kind arrives: donors with the attribute, receivers with the
                            attribute *and another value of the factor*: share where the oracle reads the attribute and
                            the donor's value. The donors' values are balanced. Chance: the best that a model blind to
                            the donor scores, the share of the commonest among the donors of each kind of receiver.
                            ``without_swap``: the same share read on the receivers' reconstructions
    ``carry_over_without``  the same for receivers without the attribute
    ======================= ========================================================================================

    Each is ``{"mean": entry, "per_attribute": {name: entry}}`` (``per_factor``, ``per_class``), an entry being
    ``value``, ``low`` and ``high`` (95% bootstrap interval over points), ``n`` points, ``chance``, and ``ceiling``:
    what the oracle would read if the model did all right, on ``real`` points that have the wanted label or value, and
    on their ``reconstruction``. What cannot be measured is None or absent, such as the diversity of one draw.

    For class labels there is ``success`` alone: v is another class, drawn at random.

    :param model: with ``intervene``, ``swap`` and ``reconstruct``.
    :param oracle: :func:`~pyro_ssvae.evaluation.oracle.train_oracle` makes one.
    :param x: held-out points ``[N, ...]``.
    :param y: all their labels.
    :param factors: their true factors.
    :param num_points: at most this many points, drawn at random; donors are among them.
    :param draws: interventions a point and attribute, and donors a receiver.
    :param leakage_points: above 0, ``leakage`` is there too, of this many receivers a swap:
        :func:`~pyro_ssvae.evaluation.leakage.leakage`.
    :raises InputError: a model that has no interventions, or an oracle of other labels.
    """
    labels = require(model, Intervenes).labels
    if type(labels) is not type(oracle.labels) or list(labels.names) != list(oracle.labels.names):
        raise InputError(f"oracle: it reads {', '.join(oracle.labels.names)[:200]}; the model's labels differ")
    for word, given in (("num_points", num_points), ("draws", draws), ("resamples", resamples)):
        if given < 1:
            raise InputError(f"{word}: {given}; at least 1 is needed")
    points, known = check_data(model, x, y, least=0)
    if not len(points):
        raise InputError("x: no rows to evaluate on")
    pick = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:num_points].sort().values
    trial = Trial(model, oracle, points[pick], known[pick], draws, batch_size, seed)
    sampled = resample(len(pick), resamples, seed)
    result: Metrics = {"points": len(pick), "draws": draws, "resamples": resamples, "seed": seed}
    if isinstance(labels, ClassLabels):
        return {**result, "success": class_success(trial, sampled)}
    values = {} if factors is None else {name: torch.as_tensor(v)[pick] for name, v in factors.values.items()}
    owners = {} if factors is None else dict(factors.attributes)
    result.update(attribute_metrics(trial, values, owners, sampled))
    for key, with_attribute in (("carry_over", True), ("carry_over_without", False)):
        transfer = swap_transfer(trial, values, owners, with_attribute, sampled)
        if transfer is not None:
            result[key] = transfer
    if leakage_points > 0 and any(owners.values()):
        result["leakage"] = leakage(trial, values, owners, leakage_points)
    return result
