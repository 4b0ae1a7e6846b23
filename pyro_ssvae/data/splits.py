"""Splits of the rows, and hidden labels, each fixed by its seed."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError, counted
from ..labels import MISSING, AttributeLabels, Labels
from .checks import hint, shown
from .dataset import Dataset

TEST_FRACTION = 0.2
"""Share of the rows held out for the test where a source brings no test split."""
FEW_LABELS = 1000
"""Labels below which none of them is held out for validation, where there are rows without a label."""
PROPORTIONAL, BALANCED = LABELS_BY = ("proportional", "balanced")
"""How many labels of each class are kept: in the classes' own proportions, or the same number of each."""


def known_rows(y: Tensor) -> Tensor:
    """Return bool ``[N]``: the rows of ``y`` (``[N]`` or ``[N, A]``) that have a label, or at least one."""
    known = y != MISSING
    return known if y.dim() == 1 else known.any(1)


def hide_labels(y: Tensor, labels: Labels, keep: str | int | float, seed: int, by: str = PROPORTIONAL) -> Tensor:
    """Return ``y`` with all labels missing but some that are drawn at random.

    Classes keep the proportions of the known labels, at least one label each. Or they are balanced: their numbers of
    kept labels differ by at most one, unless a class has no more; such labels say nothing of the classes' frequencies.
    Of attributes whole rows are kept, as far as they were known. With one seed, the labels of a smaller ``keep`` are
    among those of a larger.

    :param y: int64 ``[N]`` or ``[N, A]``.
    :param keep: ``"all"``; how many (``50``, ``"50"``, ``0``); or which share of the known ones (``0.2``, ``"0.2"``;
        ``1.0`` is all). Of attributes, the rows are counted that have at least one.
    :param by: ``"proportional"`` or ``"balanced"``.
    :raises InputError: naming ``--labels``: neither of these, more than are known, fewer than classes that have labels;
        or ``--labels-by``: another word.

    Example::

        hide_labels(torch.tensor([0, 0, 1, 1]), ClassLabels(2), 2, seed=0)  # [-1, 0, 1, -1], say
    """
    if by not in LABELS_BY:
        raise InputError(f"--labels-by {shown(by)}: {' or '.join(LABELS_BY)} is needed")
    candidates = known_rows(y).nonzero().squeeze(1)
    count = _count(keep, len(candidates))
    generator = _generator(seed)
    if isinstance(labels, AttributeLabels):
        kept = candidates[torch.randperm(len(candidates), generator=generator)[:count]]
    else:
        kept = _in_order(y, candidates, labels.names, generator, count, by)
    shown_y = torch.full_like(y, MISSING)
    shown_y[kept] = y[kept]
    return shown_y


def hide_classes(y: Tensor, labels: Labels, names: str | Sequence[str]) -> Tensor:
    """Return ``y`` with every label of the named classes missing, the rows kept (semi-unsupervised).

    :raises InputError: a name that is no class.
    """
    names = [names] if isinstance(names, str) else names
    hidden = torch.tensor([_class(labels, name, "hidden classes") for name in names], dtype=y.dtype, device=y.device)
    return y.masked_fill(torch.isin(y, hidden), MISSING)


def leave_out(dataset: Dataset, class_name: str) -> Dataset:
    """Return the data set without the training rows of one class; the test keeps it (anomaly detection).

    Rows without a label stay, whatever they show. The classes keep their numbers.

    :raises InputError: naming ``--leave-out``: no such class, or no row is left.
    """
    rows = dataset.y != _class(dataset.labels, class_name, "--leave-out")
    if not bool(rows.any()):
        raise InputError(f"--leave-out {class_name}: no training row is left; another class is needed")
    return dataclasses.replace(dataset, x=dataset.x[rows], y=dataset.y[rows])


def hold_out(dataset: Dataset, *, fraction: float = 0.1, seed: int = 0) -> tuple[Dataset, Tensor, Tensor]:
    """Split a validation part off the training rows, stratified as in :func:`split_rows`.

    Where fewer than :data:`FEW_LABELS` rows have a label and others have none, all of the labels are left to train on:
    the part is of rows without a label. Labels that were hidden before stay hidden in both parts.

    :returns: the data set with the other training rows, ``x_val`` and ``y_val``.
    """
    known = known_rows(dataset.y)
    few = 0 < int(known.sum()) < FEW_LABELS and int((~known).sum()) >= 2
    if few:
        unlabelled = (~known).nonzero().squeeze(1)
        share = min(fraction * len(known) / len(unlabelled), 0.5)
        held = unlabelled[split_rows(dataset.y[unlabelled], fraction=share, seed=seed)[1]]
        left = torch.ones(len(known), dtype=torch.bool)
        left[held] = False
        rows = left.nonzero().squeeze(1)
    else:
        rows, held = split_rows(dataset.y, fraction=fraction, seed=seed)
    return dataclasses.replace(dataset, x=dataset.x[rows], y=dataset.y[rows]), dataset.x[held], dataset.y[held]


def split_rows(y: Tensor, *, fraction: float = TEST_FRACTION, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the rows that stay and the rows held out, both int64 and in order.

    Every class gives its share, rounded, and so do the rows without a label (attributes: without any); a class keeps
    at least one row.

    :param y: int64 ``[N]`` or ``[N, A]``, N at least 2.
    """
    if not 0 < fraction < 1:
        raise InputError(f"held-out share: {fraction}; it must lie between 0 and 1")
    if len(y) < 2:
        raise InputError(f"{counted(len(y), 'row')}; at least 2 are needed, since one is held out")
    strata = y if y.dim() == 1 else known_rows(y).long()
    _, member, counts = strata.unique(return_inverse=True, return_counts=True)
    generator = _generator(seed)
    held = []
    for k, size in enumerate(_shares(counts, fraction, len(y))):
        rows = (member == k).nonzero().squeeze(1)
        held.append(rows[torch.randperm(len(rows), generator=generator)[:size]])
    out = torch.zeros(len(y), dtype=torch.bool)
    out[torch.cat(held)] = True
    return (~out).nonzero().squeeze(1), out.nonzero().squeeze(1)


def held_out_words(y: Tensor, held: Tensor, what: str = "rows") -> str:
    """Return, for a line on how data were read, how many points are the test.

    :param y: all labels.
    :param held: the rows that are held out.
    """
    labelled = int(known_rows(y[held]).sum())
    return f"{len(held)} of {len(y)} {what} are held out for the test, {labelled} of them with a label"


def _shares(counts: Tensor, fraction: float, n: int) -> list[int]:
    """Return the rows to hold out of each stratum: the largest remainders are rounded up, at least one row stays."""
    quota = counts.double() * fraction
    shares = torch.minimum(quota.floor().long(), counts - 1)
    wanted = min(max(round(fraction * n), 1), n - 1)
    remainder = (quota - quota.floor()).tolist()
    for k in sorted(range(len(counts)), key=lambda k: (remainder[k], k), reverse=True):  # of equal ones, -1 is the last
        if shares.sum() < wanted and shares[k] < counts[k] - 1:
            shares[k] += 1
    if shares.sum() == 0:  # every class has one row: one of them must go
        shares[-1] = 1
    return [int(size) for size in shares]


def _in_order(
    y: Tensor, candidates: Tensor, names: Sequence[str], generator: torch.Generator, count: int, by: str
) -> Tensor:
    """Return the first ``count`` of the candidates' rows in an order in which every beginning has the classes' shares.

    The j-th row of a class (j = 0, 1, …) has the place j where classes are balanced. In their proportions, after one
    row of each, it has the place ``(2 j + 1) / n_k``, n_k the class's rows (the divisors of Sainte-Laguë).
    """
    present = y[candidates].unique()
    if 0 < count < len(present):
        raise InputError(
            f"--labels: {counted(count, 'label')} for {len(present)} classes ({shown(names[int(present[0])])}, ...); "
            f"at least {len(present)}, or 0, are needed"
        )
    present = present[torch.randperm(len(present), generator=generator)]
    pools = [candidates[y[candidates] == k] for k in present]
    pools = [pool[torch.randperm(len(pool), generator=generator)] for pool in pools]
    places = [torch.arange(len(pool), dtype=torch.double) for pool in pools]
    if by == PROPORTIONAL:
        places = [torch.where(j == 0, 0.0, (2 * j + 1) / len(j)) for j in places]
    if not pools:
        return candidates[:0]
    return torch.cat(pools)[torch.cat(places).argsort(stable=True)][:count]


def _count(keep: str | int | float, known: int) -> int:
    """Return how many of the ``known`` labels ``keep`` stands for."""
    wrong = InputError(f"--labels {shown(keep)}: 'all', 0, a count such as 50 or a fraction such as 0.2 is needed")
    if isinstance(keep, str):
        if keep.strip().lower() == "all":
            return known
        try:
            keep = int(keep) if keep.strip().lstrip("+-").isdecimal() else float(keep)
        except ValueError:
            raise wrong from None
    if isinstance(keep, bool) or not isinstance(keep, numbers.Real):
        raise wrong
    if isinstance(keep, numbers.Integral):
        if keep < 0:
            raise wrong
        if keep > known == 0:
            raise InputError(
                f"--labels {keep}: no point has a label; labels, of a table in the column of --target, or "
                "--labels 0 are needed"
            )
        if keep > known:
            there = counted(known, "label is", "labels are")
            raise InputError(f"--labels {keep}: only {there} known; at most {known}, or all, can be kept")
        return int(keep)
    if not 0 <= keep <= 1:
        raise wrong
    return max(round(float(keep) * known), min(1, known)) if keep else 0


def _class(labels: Labels, name: str, option: str) -> int:
    """Return the number of a class; raise :class:`InputError` naming ``option`` where there is none of that name."""
    if isinstance(labels, AttributeLabels):
        raise InputError(f"{option}: the data has attributes ({', '.join(labels.names[:5])}); classes are needed")
    if str(name) not in labels.names:
        raise InputError(f"{option}: no class {shown(str(name))}{hint(str(name), labels.names)}")
    return list(labels.names).index(str(name))


def _generator(seed: int) -> torch.Generator:
    try:
        return torch.Generator().manual_seed(seed)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise InputError(f"--seed {shown(seed)}: a whole number of at most 64 bits is needed") from None
