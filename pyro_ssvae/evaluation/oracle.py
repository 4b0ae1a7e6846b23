"""The oracle of interventions: a classifier trained apart from the model, on all labels and factors of real points.

It never sees a generated image in training. Its training images are shifted and blurred a little, so that it reads a
soft reconstruction too; its accuracy there is measured, and reported as the ceiling of every other number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Dataset, fingerprint
from ..data.augment import affine, make_augmentation, unit_scale
from ..data.cache import keep, places
from ..data.inputs import numbers
from ..data.label_values import label_values
from ..errors import InputError
from ..files import load_tensors, save_tensors
from ..infer.batched import evaluating, seeded
from ..labels import MISSING, ClassLabels, Labels, describe, restore
from ..nn.likelihoods import Likelihood, LikelihoodOptions, encoder_for, named_likelihood
from ..nn.networks import features
from ..train.progress import progress_bar
from ..train.schedule import one_cycle
from ..train.settings import torch_device

VERSION = 3
"""Part of a kept oracle's key; to be raised whenever training gives another oracle."""


class Factors(Protocol):
    """True factors of points, such as :func:`pyro_ssvae.data.avatars.avatar_factors` gives."""

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """The names of each factor's values."""

    @property
    def values(self) -> Mapping[str, Tensor]:
        """int64 ``[N]`` a factor, an index into ``names``; -1 where the factor does not apply."""

    @property
    def attributes(self) -> Mapping[str, str | None]:
        """The attribute that each factor refines, None where there is none."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What the oracle reads on B points.

    :param probs: ``[B, A]`` attribute or ``[B, K]`` class probabilities.
    :param labels: int64 ``[B, A]`` or ``[B]``, the most probable.
    :param factor_values: int64 ``[B]`` a factor: the most probable value, also where the factor does not apply.
    :param features: ``[B, H]``, what the heads read from.
    """

    probs: Tensor
    labels: Tensor
    factor_values: dict[str, Tensor]
    features: Tensor


@dataclass(frozen=True)
class OracleSettings:
    """How an oracle is trained."""

    steps: int = 300
    """Batches."""
    batch_size: int = 128
    """Rows a batch, at most all."""
    learning_rate: float = 3e-3
    """Peak of AdamW's schedule."""
    seed: int = 0
    """Of weights, order and augmentation."""


class Oracle(nn.Module):
    """One trunk with a head for the labels and a head for each factor.

    :param input_shape: shape of one point; the trunk is the default encoder for it.
    :param labels: A attributes or K classes.
    :param factors: the names of each factor's values.
    :param columns: of a table: the kind of each column.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        labels: Labels,
        factors: Mapping[str, Sequence[str]] | None = None,
        columns: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.input_shape, self.labels, self.columns = tuple(input_shape), labels, tuple(columns)
        self.factor_names = {factor: list(names) for factor, names in (factors or {}).items()}
        self.units = units_of(self.input_shape, self.columns)
        self.trunk, _ = encoder_for(self.units, self.input_shape, LikelihoodOptions())
        width = features(self.trunk)
        self.label_head = nn.Linear(width, labels.size)
        self.factor_heads = nn.ModuleList(nn.Linear(width, len(names)) for names in self.factor_names.values())

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Return logits of the labels, logits of each factor's values, and features of ``x``, pixels on [0, 1]."""
        h = self.trunk(self.units.standardize(x))
        return self.label_head(h), [head(h) for head in self.factor_heads], h

    def read(self, x: ArrayLike, *, batch_size: int = 500) -> Reading:
        """Read points ``[B, *input_shape]``, uint8 images or floats; all of the result is on the CPU."""
        x = numbers(x, "x")
        if tuple(x.shape[1:]) != self.input_shape:
            raise InputError(f"oracle: points of shape {list(x.shape[1:])}; it was trained on {list(self.input_shape)}")
        p = self.label_head.weight
        with evaluating(self):
            parts = [self(unit_scale(part.to(p.device)).to(p.dtype)) for part in x.split(batch_size)]
        logits, factors, h = zip(*parts)
        probs = self.labels.probs(torch.cat(logits)).cpu()
        values = [torch.cat(part).argmax(-1).cpu() for part in zip(*factors)]
        return Reading(probs, self.labels.mode(probs), dict(zip(self.factor_names, values)), torch.cat(h).cpu())


def units_of(input_shape: tuple[int, ...], columns: Sequence[str]) -> Likelihood:
    """Return what the trunk sees points through: pixels as they are, other numbers standardised, categories one-hot;
    0 where an entry is missing."""
    name = "mixed" if columns else "bernoulli" if len(input_shape) == 3 else "normal"
    return named_likelihood(name, input_shape, LikelihoodOptions(columns=tuple(columns)))


def train_oracle(
    x: ArrayLike,
    y: ArrayLike,
    labels: Labels,
    factors: Factors | None = None,
    *,
    columns: Sequence[str] = (),
    device: str = "auto",
    progress: bool = False,
    settings: OracleSettings | None = None,
) -> Oracle:
    """Train an oracle; unknown labels and factors that do not apply do not count.

    The same call gives the same oracle on the same machine; the global random state is left as it was.

    :param x: training points ``[N, ...]``, uint8 images or floats, NaN where an entry is missing.
    :param y: all their labels, ``[N]`` or ``[N, A]``, -1 where unknown.
    :param columns: of a table: the kind of each column.
    :raises InputError: where no label is known, or the factors are not as many as the points.
    """
    s, points = settings or OracleSettings(), numbers(x, "x")
    known = labels.check(label_values(y, labels), len(points))
    if not (known != MISSING).any():
        raise InputError("oracle: it learns from labels, and none is known")
    values = {name: value.long() for name, value in factors.values.items()} if factors is not None else {}
    for name, value in values.items():
        if len(value) != len(points):
            raise InputError(
                f"oracle: factor {name!r} has {len(value)} rows, x {len(points)}; both need the same number"
            )
    where = torch_device(device)
    with seeded(where, s.seed):
        oracle = Oracle(points.shape[1:], labels, factors.names if factors is not None else None, columns)
        points = points if points.dtype == torch.uint8 else points.to(torch.get_default_dtype())
        if points.dim() < 4:
            oracle.units.take_units(unit_scale(points))
        oracle = oracle.to(where).train()
        large = points.dim() == 4 and min(points.shape[2:]) >= 20
        augment = softened if large else make_augmentation(oracle.units.augmentation, points)
        optimizer = torch.optim.AdamW(oracle.parameters(), lr=s.learning_rate, weight_decay=1e-2, foreach=True)
        rows = endless_rows(len(points), min(s.batch_size, len(points)), s.seed)
        with progress_bar(s.steps, progress) as show:
            for step in range(s.steps):
                some = next(rows)
                for group in optimizer.param_groups:
                    group["lr"] = s.learning_rate * one_cycle(step / s.steps, 1 / s.steps)
                x_some, y_some = augment(unit_scale(points[some].to(where))), known[some].to(where)
                loss = oracle_loss(oracle, x_some, y_some, {name: v[some].to(where) for name, v in values.items()})
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                show(step + 1, "the oracle")
    return oracle.eval()


def oracle_loss(oracle: Oracle, x: Tensor, y: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Return the cross-entropies of labels and factors, summed over those that are known, nats a row."""
    logits, factor_logits, _ = oracle(x)
    if isinstance(oracle.labels, ClassLabels):
        loss = F.cross_entropy(logits, y, ignore_index=MISSING, reduction="sum")
    else:
        known = (y != MISSING).to(logits)
        loss = F.binary_cross_entropy_with_logits(logits, y.clamp_min(0).to(logits), known, reduction="sum")
    for name, out in zip(oracle.factor_names, factor_logits):
        loss = loss + F.cross_entropy(out, values[name], ignore_index=MISSING, reduction="sum")
    return loss / len(x)


def softened(x: Tensor) -> Tensor:
    """Shift images a little and blur them, each by a random share of two 3x3 box blurs."""
    x = affine(x.nan_to_num(0.0), shift=1 / 32, angle=0.08, scale=0.05, shear=0.05)
    soft = x
    for _ in range(2):
        soft = F.avg_pool2d(F.pad(soft, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x.lerp(soft, torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype))


def endless_rows(n: int, size: int, seed: int) -> Iterator[Tensor]:
    """Yield batches of row numbers, one random order of all rows after another."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n, generator=generator)[: n // size * size].split(size)


def oracle_for(
    dataset: Dataset,
    factors: Factors | None = None,
    *,
    folder: Path,
    progress: bool = False,
    settings: OracleSettings | None = None,
) -> Oracle:
    """Return the oracle of a data set's training points: trained once, then read from where it is kept.

    It is kept in ``folder`` or, where that cannot be written, in ``~/.cache/pyro_ssvae``, under a key of the points,
    all labels, the factors and the settings; a damaged file is made again.

    :param factors: the true factors of ``dataset.x``.
    """
    name = f"oracle-{oracle_key(dataset, factors, settings or OracleSettings())[:16]}.safetensors"
    for place in places(folder):
        try:
            return load_oracle(place / name)
        except InputError:  # absent or damaged
            continue
    oracle = train_oracle(
        dataset.x, dataset.y, dataset.labels, factors, columns=columns_of(dataset), progress=progress, settings=settings
    ).cpu()
    size = sum(tensor.numel() * tensor.element_size() for tensor in oracle.state_dict().values())
    keep(folder, name, size + 2**16, lambda path: save_oracle(oracle, path))
    return oracle


def columns_of(dataset: Dataset) -> tuple[str, ...]:
    """Return the kind of each column of a table; of other points none."""
    return () if dataset.table is None else dataset.table.schema.kinds


def oracle_key(dataset: Dataset, factors: Factors | None, settings: OracleSettings) -> str:
    """Return a SHA-256 of what an oracle depends on."""
    names = {} if factors is None else {factor: list(names) for factor, names in factors.names.items()}
    about = [VERSION, fingerprint(dataset), asdict(settings), names, columns_of(dataset)]
    digest = hashlib.sha256(json.dumps(about).encode())
    for name in names:
        digest.update(factors.values[name].long().numpy().tobytes())  # type: ignore[union-attr]
    return digest.hexdigest()


def save_oracle(oracle: Oracle, path: Path) -> None:
    """Write an oracle as one safetensors file, with its arguments as JSON in the header."""
    arguments = {
        "input_shape": oracle.input_shape,
        "labels": describe(oracle.labels),
        "factors": oracle.factor_names,
        "columns": oracle.columns,
    }
    save_tensors(path, oracle.state_dict(), oracle=json.dumps(arguments))


def load_oracle(path: Path) -> Oracle:
    """Read what :func:`save_oracle` wrote; raise :class:`InputError` where it is absent or damaged."""
    tensors, metadata = load_tensors(path, "an oracle")
    try:
        arguments = json.loads(metadata["oracle"])
        shape, labels = arguments["input_shape"], restore(arguments["labels"])
        oracle = Oracle(shape, labels, arguments["factors"], arguments["columns"])
        oracle.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise InputError(f"{path}: not an oracle, or a damaged one") from None
    return oracle.eval()
