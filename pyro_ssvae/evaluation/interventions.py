"""What interventions are worth, as a judge that was trained apart from the model reads their pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..data.augment import unit_scale
from ..errors import InputError
from ..labels import MISSING, ClassLabels, Labels
from .evaluate import batched, evaluating
from .oracle import Factors, Reading


class Reader(Protocol):
    """What reads points: :class:`~pyro_ssvae.evaluation.oracle.Judge`, or one of one's own."""

    labels: Labels

    def read(self, x: Any) -> Reading:
        """Labels, kinds and features of points."""


def evaluate_interventions(
    model: nn.Module,
    judge: Reader,
    x: Any,
    y: Any,
    factors: Factors | None = None,
    *,
    num_points: int = 500,
    draws: int = 4,
    resamples: int = 1000,
    batch_size: int = 250,
    seed: int = 0,
) -> dict[str, Any]:
    """Intervene on held-out points, let the judge read the pictures, and return the shares of what should be there.

    Each attribute ``i`` of each point is set to ``v = 1 - y_i``, the opposite of its true label (where nobody knows
    that, of what the judge reads on the real point), ``draws`` times. The label decides, not the reconstruction, so
    that a model whose reconstructions read wrong is not asked for less; what it gains by that is the chance level.

    ======================= ========================================================================================
    ``success``             share where the judge reads v of attribute i. Chance: it reads v on the reconstruction,
                            without any intervention. ``to``: the same by v, 0 and 1
    ``preservation``        share of the *other* attributes that read as on the reconstruction. Chance: the
                            reconstruction of another point in its place
    ``preservation_labels`` the same against the true labels
    ``preservation_kinds``  share of the kinds of other factors that read as on the reconstruction, where they apply
    ``diversity_pixels``    variance over the draws, mean over pixels. Ceiling: the variance between points
    ``diversity_features``  the same in the judge's features
    ``carry_over``          ``swap``, donors with the attribute, receivers with the attribute *of another kind*: share
                            where the judge reads the attribute, and of the donor's kind. The donor's kinds are
                            balanced; chance is the share of the commonest. ``without_swap``: the same share read on
                            the receivers' reconstructions
    ``carry_over_without``  the same for receivers without the attribute
    ======================= ========================================================================================

    Each is ``{"mean": entry, "per_attribute": {name: entry}}`` (``per_factor``, ``per_class``), an entry being
    ``value``, ``low`` and ``high`` (95% bootstrap interval over points), ``n`` points, ``chance``, and ``ceiling``:
    what the judge would read if the model did all right, on ``real`` points that have the wanted label or kind, and on
    their ``reconstruction``. What cannot be measured is None or absent: a swap the model does not have, diversity of
    one draw.

    For class labels there is ``success`` alone: v is another class, drawn at random.

    :param model: with ``intervene(x, {name: v}, num_samples=S)`` → ``[S, B, ...]`` (class labels: ``intervene(x, v,
        num_samples=S)``), ``reconstruct(x)``, and, for carry-over, ``swap(x, donor, name)``.
    :param judge: :func:`~pyro_ssvae.evaluation.oracle.train_judge` makes one.
    :param x: held-out points ``[N, ...]``.
    :param y: all their labels.
    :param factors: their true factors.
    :param num_points: at most so many points, drawn at random; donors are among them.
    :param draws: interventions a point and attribute, and donors a receiver.
    :raises InputError: a model that has no interventions, or a judge of other labels.
    """
    labels = getattr(model, "labels", None)
    if not hasattr(model, "intervene") or labels is None:
        raise InputError(f"interventions: a {type(model).__name__} has none; a revae, m2, mvae or diva is needed")
    if type(labels) is not type(judge.labels) or list(labels.names) != list(judge.labels.names):
        raise InputError(f"judge: it reads {', '.join(judge.labels.names)[:200]}; the model's labels differ")
    for word, given in (("num_points", num_points), ("draws", draws), ("resamples", resamples)):
        if given < 1:
            raise InputError(f"{word}: {given}; at least 1 is needed")
    x = torch.as_tensor(x)
    y = labels.check(y, len(x)).cpu()
    if not len(x):
        raise InputError("x: no rows to evaluate on")
    pick = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:num_points].sort().values
    study = _Study(model, judge, x[pick], y[pick], draws, batch_size, seed)
    sampled = np.random.default_rng(seed).multinomial(len(pick), np.full(len(pick), 1 / len(pick)), resamples)
    result: dict[str, Any] = {"points": len(pick), "draws": draws, "resamples": resamples, "seed": seed}
    if isinstance(labels, ClassLabels):
        return {**result, **study.classes(sampled)}
    values = {} if factors is None else {name: torch.as_tensor(v)[pick] for name, v in factors.values.items()}
    owners = {} if factors is None else dict(factors.attributes)
    result.update(study.attributes(values, owners, sampled))
    if hasattr(model, "swap"):
        for key, other_kind in (("carry_over", True), ("carry_over_without", False)):
            found = study.carry_over(values, owners, other_kind, sampled)
            if found is not None:
                result[key] = found
    return result


MEASURES = (
    "success",
    "preservation",
    "preservation_labels",
    "preservation_kinds",
    "diversity_pixels",
    "diversity_features",
)


class _Study:
    """The points, what the judge reads on them and on their reconstructions, and one method a question."""

    def __init__(
        self, model: nn.Module, judge: Reader, x: Tensor, y: Tensor, draws: int, batch_size: int, seed: int
    ) -> None:
        self.model, self.judge, self.x, self.y = model, judge, x, y
        self.draws, self.batch_size, self.seed = draws, batch_size, seed
        self.labels: Labels = model.labels  # type: ignore[assignment]
        x_hat = batched(model, model.reconstruct, x, batch_size=batch_size, seed=seed)  # type: ignore[arg-type]
        self.x_hat = x_hat.reshape(x.shape)
        self.real, self.recon = judge.read(x), judge.read(self.x_hat)
        self.current = torch.where(y == MISSING, self.real.labels, y)

    def edited(self, rows: Tensor, values: Any) -> Iterator[tuple[Tensor, Tensor, list[Reading]]]:
        """Some of ``rows`` at a time, the pictures ``[S, b, ...]`` of an intervention on them, and S readings."""
        with evaluating(self.model, self.seed):
            for some in rows.split(self.batch_size) if len(rows) else ():
                pictures = self.model.intervene(self.x[some], values, num_samples=self.draws).cpu()  # type: ignore[operator]
                yield some, pictures, [self.judge.read(picture.reshape(self.x[some].shape)) for picture in pictures]

    def attributes(
        self, kinds: Mapping[str, Tensor], owners: Mapping[str, str | None], sampled: np.ndarray
    ) -> dict[str, Any]:
        """Success, preservation and diversity."""
        names, target = list(self.labels.names), 1 - self.current
        n, a = target.shape
        table = {key: torch.full((n, a), math.nan, dtype=torch.float64) for key in MEASURES}
        label = masked(self.y, self.y != MISSING)
        for i, name in enumerate(names):
            others = [j for j in range(a) if j != i]
            foreign = [f for f in kinds if owners.get(f) != name]
            for v in (0, 1):
                for rows, pictures, readings in self.edited((target[:, i] == v).nonzero().squeeze(-1), {name: v}):
                    read = torch.stack([r.labels for r in readings])
                    table["success"][rows, i] = (read[..., i] == v).double().mean(0)
                    if others:
                        kept = (read == self.recon.labels[rows]).double().mean(0)
                        table["preservation"][rows, i] = kept[:, others].mean(1)
                        true = (read == label[rows]).double().masked_fill(label[rows].isnan(), math.nan)
                        table["preservation_labels"][rows, i] = true[..., others].mean(0).nanmean(1)
                    if foreign:
                        same = torch.stack([self.same_kind(f, kinds[f], rows, readings) for f in foreign], 1)
                        table["preservation_kinds"][rows, i] = same.nanmean(1)
                    if self.draws > 1:
                        h = torch.stack([r.features for r in readings]).double()
                        table["diversity_pixels"][rows, i] = pictures.double().var(0).flatten(1).mean(1)
                        table["diversity_features"][rows, i] = h.var(0).mean(1)
        chance, ceiling = self.expected(names, target, label)
        result = {}
        for key in MEASURES:
            if not table[key].isnan().all():
                result[key] = estimates(table[key], names, sampled, chance.get(key), ceiling.get(key, {}))
        for i, name in enumerate(names):
            to = [table["success"][target[:, i] == v, i].nanmean() for v in (0, 1)]
            result["success"]["per_attribute"][name]["to"] = [plain(float(share)) for share in to]
        return result

    def expected(self, names: list[str], target: Tensor, label: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        """Chance and ceilings of success, preservation and diversity, ``[A]`` each."""
        a, readings = len(names), {"real": self.real, "reconstruction": self.recon}
        others = (1 - torch.eye(a, dtype=torch.float64)) / max(a - 1, 1)  # row i: the mean over the others of i
        p, q = self.recon.labels.double().mean(0), label.nanmean(0)
        chance: dict[str, Any] = {"success": (self.recon.labels == target).double().mean(0)}
        chance["preservation"] = others @ (p * p + (1 - p) * (1 - p))
        chance["preservation_labels"] = others @ (p * q + (1 - p) * (1 - q)).nan_to_num()
        chance["diversity_pixels"] = chance["diversity_features"] = torch.zeros(a)
        ceiling: dict[str, Any] = {"preservation": {"reconstruction": torch.ones(a)}}
        ceiling["preservation_kinds"] = ceiling["preservation"]
        ceiling["success"] = {key: recall(r.labels, label, target) for key, r in readings.items()}
        for key, r in readings.items():
            right = (r.labels == label).double().masked_fill(label.isnan(), math.nan).nanmean(0)
            ceiling.setdefault("preservation_labels", {})[key] = others @ right.nan_to_num()
        if len(self.x) > 1:
            for key, x in (("real", unit_scale(self.x)), ("reconstruction", self.x_hat)):
                h = readings[key].features
                ceiling.setdefault("diversity_pixels", {})[key] = x.double().var(0).mean().expand(a)
                ceiling.setdefault("diversity_features", {})[key] = h.double().var(0).mean().expand(a)
        return chance, ceiling

    def same_kind(self, factor: str, true: Tensor, rows: Tensor, readings: list[Reading]) -> Tensor:
        """How often a factor's kind reads as on the reconstruction, ``[b]``; NaN where the factor does not apply."""
        read = torch.stack([r.kinds[factor] for r in readings])
        same = (read == self.recon.kinds[factor][rows]).double().mean(0)
        return same.masked_fill(true[rows] == MISSING, math.nan)

    def classes(self, sampled: np.ndarray) -> dict[str, Any]:
        """Success of setting a class."""
        k = self.labels.size
        if k < 2:
            raise InputError("interventions: at least two classes are needed")
        other = torch.randint(k - 1, (len(self.x),), generator=torch.Generator().manual_seed(self.seed))
        target = (self.current + 1 + other) % k
        success = torch.full((len(self.x), k), math.nan, dtype=torch.float64)
        for v in range(k):
            for rows, _, readings in self.edited((target == v).nonzero().squeeze(-1), v):
                success[rows, v] = torch.stack([r.labels == v for r in readings]).double().mean(0)
        wanted = torch.arange(k)
        asked = target.unsqueeze(-1) == wanted
        chance = masked((self.recon.labels.unsqueeze(-1) == wanted).long(), asked).nanmean(0)
        known = self.y.unsqueeze(-1) == wanted
        ceiling = {
            key: masked((r.labels.unsqueeze(-1) == wanted).long(), known).nanmean(0)
            for key, r in (("real", self.real), ("reconstruction", self.recon))
        }
        return {"success": estimates(success, list(self.labels.names), sampled, chance, ceiling, "per_class")}

    def carry_over(
        self, kinds: Mapping[str, Tensor], owners: Mapping[str, str | None], other_kind: bool, sampled: np.ndarray
    ) -> dict[str, Any] | None:
        """Whether a donor's kind arrives; None where no factor has donors of two kinds, and receivers."""
        names, columns = list(self.labels.names), []
        carried = {factor: owner for factor, owner in owners.items() if owner in names}
        extra: dict[str, list[float]] = {key: [] for key in ("chance", "without_swap", "real", "reconstruction")}
        found: list[str] = []
        for factor, owner in carried.items():
            a = names.index(str(owner))
            kind, has = kinds[factor], self.y[:, a] == 1
            donors = (has & (kind != MISSING)).nonzero().squeeze(-1)
            receivers = donors if other_kind else (self.y[:, a] == 0).nonzero().squeeze(-1)
            own = kind[receivers] if other_kind else torch.full_like(receivers, MISSING)
            present = kind[donors].unique()
            if len(present) < 2 or not len(receivers):
                continue
            give = donors[choose_donors(own, kind[donors], self.draws, self.seed)].flatten()  # [receivers x draws]
            take = receivers.repeat_interleave(self.draws)
            wanted = kind[give]

            def arrived(r: Reading, rows: Tensor, wanted: Tensor, a: int = a, factor: str = factor) -> Tensor:
                return ((r.kinds[factor][rows] == wanted) & (r.labels[rows, a] == 1)).double()

            hits = []
            with evaluating(self.model, self.seed):
                for part in torch.arange(len(give)).split(self.batch_size):
                    swapped = self.model.swap(self.x[take[part]], self.x[give[part]], owner).cpu()  # type: ignore[operator]
                    reading = self.judge.read(swapped.reshape(self.x[take[part]].shape))
                    hits.append(arrived(reading, torch.arange(len(part)), wanted[part]))
            column = torch.full((len(self.x),), math.nan, dtype=torch.float64)
            column[receivers] = torch.cat(hits).reshape(-1, self.draws).mean(1)
            columns.append(column)
            found.append(factor)
            extra["chance"].append(float(wanted.bincount().max()) / len(wanted))
            extra["without_swap"].append(float(arrived(self.recon, take, wanted).mean()))
            extra["real"].append(float(arrived(self.real, give, wanted).mean()))
            extra["reconstruction"].append(float(arrived(self.recon, give, wanted).mean()))
        if not found:
            return None
        per = {key: torch.tensor(values, dtype=torch.float64) for key, values in extra.items()}
        ceiling = {key: per[key] for key in ("real", "reconstruction")}
        result = estimates(torch.stack(columns, 1), found, sampled, per["chance"], ceiling, "per_factor")
        for factor, share in zip(found, extra["without_swap"]):
            entry = result["per_factor"][factor]
            entry["without_swap"], entry["attribute"] = share, owners[factor]
        result["mean"]["without_swap"] = float(per["without_swap"].mean())
        return result


def choose_donors(own: Tensor, donor_kinds: Tensor, draws: int, seed: int = 0) -> Tensor:
    """Donors of another kind than each receiver's own, their kinds as balanced as can be, int64 ``[R, draws]``.

    :param own: the receivers' kinds ``[R]``, -1 for none.
    :param donor_kinds: ``[D]``, at least two different ones.
    """
    generator = torch.Generator().manual_seed(seed)
    present = donor_kinds.unique().tolist()
    chosen = torch.zeros(len(own), draws, dtype=torch.long)
    for kind in own.unique().tolist():
        others = torch.tensor([k for k in present if k != kind])
        rows = (own == kind).nonzero().squeeze(-1)
        wanted = others[torch.arange(len(rows) * draws) % len(others)]
        wanted = wanted[torch.randperm(len(wanted), generator=generator)]
        flat = torch.zeros_like(wanted)
        for k in others.tolist():
            pool, here = (donor_kinds == k).nonzero().squeeze(-1), wanted == k
            flat[here] = pool[torch.randint(len(pool), (int(here.sum()),), generator=generator)]
        chosen[rows] = flat.reshape(len(rows), draws)
    return chosen


def recall(read: Tensor, label: Tensor, target: Tensor) -> Tensor:
    """How often attributes read right where they have the values that interventions ask for, ``[A]``.

    :param label: true labels ``[n, A]``, NaN where unknown.
    :param target: what is asked for ``[n, A]``: the shares of 0 and 1 in it weight the two recalls.
    """
    total = torch.zeros(label.shape[1], dtype=torch.float64)
    for v in (0, 1):
        share = (target == v).double().mean(0)
        right = masked((read == v).long(), label == v).nanmean(0)
        total += torch.where(share > 0, share * right, 0.0)
    return total


def masked(values: Tensor, where: Tensor) -> Tensor:
    """The values as float64, NaN elsewhere."""
    return values.double().masked_fill(~where, math.nan)


def estimates(
    table: Tensor,
    names: Sequence[str],
    sampled: np.ndarray,
    chance: Tensor | None = None,
    ceiling: Mapping[str, Tensor] | None = None,
    per: str = "per_attribute",
) -> dict[str, Any]:
    """Means over points of each column and of all, with 95% bootstrap intervals over points.

    :param table: ``[n, columns]``, NaN where a point does not count. A column without any point does not count.
    :param sampled: ``[R, n]``, how often each resample takes each point.
    :param chance: ``[columns]``; ``ceiling`` by name, likewise.
    """
    values = table.numpy()
    there = ~np.isnan(values)
    filled = np.where(there, values, 0.0)
    with np.errstate(invalid="ignore"):  # a column that no point of a resample counts in is NaN
        means = filled.sum(0) / there.sum(0)
        resampled = (sampled @ filled) / (sampled @ there)

    def entry(columns: slice) -> dict[str, Any]:
        ok = ~np.isnan(means[columns])
        if not ok.any():
            empty = {"value": None, "low": None, "high": None, "n": 0, "chance": None}
            return {**empty, "ceiling": dict.fromkeys(("real", "reconstruction"))}
        some = resampled[:, columns][:, ok]
        kept = ~np.isnan(some)
        some = np.where(kept, some, 0).sum(1)[kept.any(1)] / kept.sum(1)[kept.any(1)]
        low, high = np.percentile(some, [2.5, 97.5]) if len(some) else (math.nan, math.nan)

        def mean(values: Tensor | None) -> float | None:
            return None if values is None else plain(float(values[columns][torch.from_numpy(ok)].double().nanmean()))

        return {
            "value": float(means[columns][ok].mean()),
            "low": plain(float(low)),
            "high": plain(float(high)),
            "n": int(there[:, columns].any(1).sum()),
            "chance": mean(chance),
            "ceiling": {key: mean((ceiling or {}).get(key)) for key in ("real", "reconstruction")},
        }

    return {"mean": entry(slice(None)), per: {name: entry(slice(i, i + 1)) for i, name in enumerate(names)}}


def plain(value: float) -> float | None:
    """The number, or None where it is not finite."""
    return value if math.isfinite(value) else None
