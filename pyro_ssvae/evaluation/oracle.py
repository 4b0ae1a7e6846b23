"""The judge of interventions: a classifier trained apart from the model, on all labels and true factors of real points.

It never sees a generated picture in training. Light moves and blur are added to its training images, so that it reads
a softly drawn reconstruction too; how well it does is measured, and reported as the ceiling of every other number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Dataset, fingerprint
from ..data.augment import affine, make_augmentation, unit_scale
from ..data.cache import keep, places
from ..errors import InputError
from ..files import load_tensors, save_tensors
from ..labels import MISSING, ClassLabels, Labels, describe, restore
from ..nn.networks import default_encoder, features
from ..train.fit import one_cycle, progress_bar
from .evaluate import evaluating, seeded

VERSION = 2
"""Part of a kept judge's key; to be raised whenever training gives another judge."""


class Factors(Protocol):
    """True factors of points, such as :func:`pyro_ssvae.data.avatars.avatar_factors` gives."""

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """The kinds of each factor."""

    @property
    def values(self) -> Mapping[str, Tensor]:
        """int64 ``[N]`` a factor, a number in ``names``; -1 where the factor does not apply."""

    @property
    def attributes(self) -> Mapping[str, str | None]:
        """The attribute that each factor's kinds refine, None where there is none."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What the judge says of B points.

    :param probs: ``[B, A]`` attribute or ``[B, K]`` class probabilities.
    :param labels: int64 ``[B, A]`` or ``[B]``, the most probable.
    :param kinds: int64 ``[B]`` a factor: the most probable kind, also where the factor does not apply.
    :param features: ``[B, H]``, what the heads read from.
    """

    probs: Tensor
    labels: Tensor
    kinds: dict[str, Tensor]
    features: Tensor


@dataclass(frozen=True)
class JudgeSettings:
    """How a judge is trained."""

    steps: int = 300
    """Batches."""
    batch_size: int = 128
    """Rows a batch, at most all."""
    learning_rate: float = 3e-3
    """Peak of AdamW's schedule."""
    seed: int = 0
    """Of weights, order and augmentation."""


class Judge(nn.Module):
    """One trunk with a head for the labels and a head for each factor's kind.

    :param input_shape: shape of one point; the trunk is the default encoder for it.
    :param labels: A attributes or K classes.
    :param kinds: the kinds of each factor.
    """

    def __init__(
        self, input_shape: Sequence[int], labels: Labels, kinds: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        super().__init__()
        self.input_shape, self.labels = tuple(input_shape), labels
        self.kind_names = {factor: list(names) for factor, names in (kinds or {}).items()}
        self.trunk = default_encoder(self.input_shape)
        width = features(self.trunk)
        self.label_head = nn.Linear(width, labels.size)
        self.kind_heads = nn.ModuleList(nn.Linear(width, len(names)) for names in self.kind_names.values())

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Logits of the labels, logits of each factor's kinds, and features of ``x`` on [0, 1]."""
        h = self.trunk(x)
        return self.label_head(h), [head(h) for head in self.kind_heads], h

    def read(self, x: Any, *, batch_size: int = 500) -> Reading:
        """Read points ``[B, *input_shape]``, uint8 images or floats; all of the result is on the CPU."""
        x = torch.as_tensor(x)
        if tuple(x.shape[1:]) != self.input_shape:
            raise InputError(f"judge: points of shape {list(x.shape[1:])}; it was trained on {list(self.input_shape)}")
        p = self.label_head.weight
        with evaluating(self):
            parts = [self(unit_scale(part.to(p.device)).to(p.dtype)) for part in x.split(batch_size)]
        probs = self.labels.probs(torch.cat([logits for logits, _, _ in parts])).cpu()
        kinds = [torch.cat([kinds[i] for _, kinds, _ in parts]).argmax(-1).cpu() for i in range(len(self.kind_heads))]
        h = torch.cat([h for _, _, h in parts]).cpu()
        return Reading(probs, self.labels.decide(probs), dict(zip(self.kind_names, kinds)), h)


def train_judge(
    x: Any, y: Any, labels: Labels, factors: Factors | None = None, *, device: str = "auto", progress: bool = False,
    **settings: Any,
) -> Judge:  # fmt: skip
    """Train a judge; unknown labels and factors that do not apply do not count.

    The same call gives the same judge on the same machine; the global random state is left as it was.

    :param x: training points ``[N, ...]``, uint8 images or floats.
    :param y: all their labels, ``[N]`` or ``[N, A]``, -1 where nobody knows.
    :param settings: fields of :class:`JudgeSettings`.
    :raises InputError: where no label is known, or the factors are not as many as the points.
    """
    s = JudgeSettings(**settings)
    x, y = torch.as_tensor(x), labels.check(y, len(torch.as_tensor(x)))
    if not (y != MISSING).any():
        raise InputError("judge: it learns from labels, and none is known")
    kinds = {name: value.long() for name, value in factors.values.items()} if factors is not None else {}
    for name, value in kinds.items():
        if len(value) != len(x):
            raise InputError(f"judge: factor {name!r} has {len(value)} rows, x {len(x)}; both need the same number")
    where = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))
    size = min(s.batch_size, len(x))
    with seeded(where, s.seed):
        judge = Judge(x.shape[1:], labels, factors.names if factors is not None else None).to(where).train()
        if x.dtype != torch.uint8:
            x = x.to(torch.get_default_dtype())
        augment = softened if x.dim() == 4 and min(x.shape[2:]) >= 20 else make_augmentation("auto", x)
        optimizer = torch.optim.AdamW(judge.parameters(), lr=s.learning_rate, weight_decay=1e-2, foreach=True)
        rows = endless_rows(len(x), size, s.seed)
        with progress_bar(s.steps, progress) as show:
            for step in range(s.steps):
                some = next(rows)
                for group in optimizer.param_groups:
                    group["lr"] = s.learning_rate * one_cycle(step / s.steps, 1 / s.steps)
                known = {name: value[some].to(where) for name, value in kinds.items()}
                loss = judge_loss(judge, augment(unit_scale(x[some].to(where))), y[some].to(where), known)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                show(step + 1, "the judge")
    return judge.eval()


def judge_loss(judge: Judge, x: Tensor, y: Tensor, kinds: Mapping[str, Tensor]) -> Tensor:
    """Cross-entropies of labels and kinds, summed over those that are known, nats a row."""
    logits, kind_logits, _ = judge(x)
    if isinstance(judge.labels, ClassLabels):
        loss = F.cross_entropy(logits, y, ignore_index=MISSING, reduction="sum")
    else:
        known = (y != MISSING).to(logits)
        loss = F.binary_cross_entropy_with_logits(logits, y.clamp_min(0).to(logits), known, reduction="sum")
    for name, out in zip(judge.kind_names, kind_logits):
        loss = loss + F.cross_entropy(out, kinds[name], ignore_index=MISSING, reduction="sum")
    return loss / len(x)


def softened(x: Tensor) -> Tensor:
    """Images moved a little and blurred, each by a random share of two 3x3 box blurs."""
    x = affine(x, shift=1 / 32, angle=0.08, scale=0.05, shear=0.05)
    soft = x
    for _ in range(2):
        soft = F.avg_pool2d(F.pad(soft, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x.lerp(soft, torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype))


def endless_rows(n: int, size: int, seed: int) -> Iterator[Tensor]:
    """Batches of row numbers, one random order of all rows after another."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n, generator=generator)[: n // size * size].split(size)


def judge_for(
    dataset: Dataset, factors: Factors | None = None, *, folder: Path, progress: bool = False, **settings: Any
) -> Judge:
    """The judge of a data set's training points: trained once, then read from where it is kept.

    It is kept in ``folder`` or, where that cannot be written, in ``~/.cache/pyro_ssvae``, under a key of the points,
    all labels, the factors and the settings; a damaged file is made again.

    :param factors: the true factors of ``dataset.x``.
    """
    name = f"judge-{judge_key(dataset, factors, JudgeSettings(**settings))[:16]}.safetensors"
    for place in places(folder):
        try:
            return load_judge(place / name)
        except InputError:  # absent or damaged
            continue
    judge = train_judge(dataset.x, dataset.y, dataset.labels, factors, progress=progress, **settings).cpu()
    size = sum(tensor.numel() * tensor.element_size() for tensor in judge.state_dict().values())
    keep(folder, name, size + 2**16, lambda path: save_judge(judge, path))
    return judge


def judge_key(dataset: Dataset, factors: Factors | None, settings: JudgeSettings) -> str:
    """What a judge depends on, as a SHA-256."""
    names = {} if factors is None else {factor: list(names) for factor, names in factors.names.items()}
    digest = hashlib.sha256(json.dumps([VERSION, fingerprint(dataset), asdict(settings), names]).encode())
    for name in names:
        digest.update(factors.values[name].long().numpy().tobytes())  # type: ignore[union-attr]
    return digest.hexdigest()


def save_judge(judge: Judge, path: Path) -> None:
    """Write a judge as one safetensors file, with what it was made for as JSON in its header."""
    about = {"input_shape": judge.input_shape, "labels": describe(judge.labels), "kinds": judge.kind_names}
    save_tensors(path, judge.state_dict(), judge=json.dumps(about))


def load_judge(path: Path) -> Judge:
    """Read what :func:`save_judge` wrote; raise :class:`InputError` where it is absent or damaged."""
    tensors, facts = load_tensors(path, "a judge")
    try:
        about = json.loads(facts["judge"])
        judge = Judge(about["input_shape"], restore(about["labels"]), about["kinds"])
        judge.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise InputError(f"{path}: not a judge, or a damaged one") from None
    return judge.eval()
