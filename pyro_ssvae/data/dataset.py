"""A data set: training and test points, what is known of their labels, and the labels' readable names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..labels import MISSING, ClassLabels, Labels, describe
from .schema import Schema

KINDS = {2: "vectors", 3: "series", 4: "images"}


@dataclass(frozen=True, eq=False)
class Table:
    """What a table says of its points beside their numbers.

    :param schema: the columns' names, kinds and words.
    :param ranges: what each column holds, in a few words.
    """

    schema: Schema
    ranges: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Points and all labels that their source has; :func:`~pyro_ssvae.data.hide_labels` hides some.

    :param name: its name in tables and plots.
    :param x: training points: images ``[N, C, H, W]``, uint8 or float32 in [0, 1]; series ``[N, C, T]`` or vectors
        ``[N, D]``, float32.
    :param y: int64 ``[N]`` or ``[N, A]``, -1 where missing.
    :param x_test: test points, at least one, of the same shape and dtype.
    :param y_test: their labels.
    :param labels: what ``y`` means.
    :param table: of a table: what its columns are.
    :param columns: the names of the columns of x, of an annotated matrix.
    :param white_level: of images that were read from whole numbers other than 0 to 255: the number that is white.
    :param rows: the rows of the source, from 0, that its training points are, before any is held out for validation;
        None where they are all of its training rows.
    :param ids: the names of these rows; None where rows have numbers alone.
    :param ids_test: those of the test rows.

    ``dataclasses.replace(dataset, y=...)`` gives the same points with other labels.
    """

    name: str
    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    labels: Labels
    table: Table | None = None
    columns: tuple[str, ...] | None = None
    white_level: int | None = None
    rows: tuple[int, ...] | None = None
    ids: tuple[str, ...] | None = None
    ids_test: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.x.dim() not in KINDS:
            raise InputError(f"{self.name}: x has shape {list(self.x.shape)}; [N, C, H, W], [N, C, T] or [N, D] needed")
        if self.x_test.shape[1:] != self.x.shape[1:] or self.x_test.dtype != self.x.dtype:
            raise InputError(
                f"{self.name}: x_test is {self.x_test.dtype} {list(self.x_test.shape)}, x is {self.x.dtype} "
                f"{list(self.x.shape)}; points need one shape and one dtype"
            )
        for split, x, y in (("training", self.x, self.y), ("test", self.x_test, self.y_test)):
            if len(x) == 0 or x.numel() == 0:
                raise InputError(f"{self.name}: no {split} points; at least one is needed")
            if len(x) != len(y):
                raise InputError(f"{self.name}: {len(x)} {split} points, but {len(y)} rows of labels")

    def __repr__(self) -> str:
        """Say what the data are and how much of them is labelled, in a few lines."""
        n, tests = len(self.x), len(self.x_test)
        dtype = str(self.x.dtype).removeprefix("torch.")
        lines = [f"{self.name}: {n:,} training and {tests:,} test {self.kind} of {times(self.input_shape)}, {dtype}"]
        lines.append(f"  labels: {labels_in_words(self.labels)}")
        train, test = (int((y != MISSING).reshape(len(y), -1).any(1).sum()) for y in (self.y, self.y_test))
        lines.append(f"  labelled: {train:,} of {n:,} training, {test:,} of {tests:,} test points")
        if self.table is not None:
            names, missing = self.table.schema.names, float(torch.isnan(self.x).float().mean())
            lines.append(f"  {len(names)} columns: {listed(names)}; {missing:.1%} of the cells are missing")
        return "\n".join(lines)

    @property
    def kind(self) -> str:
        """``"images"``, ``"series"`` or ``"vectors"``."""
        return KINDS[self.x.dim()]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one point: ``(C, H, W)``, ``(C, T)`` or ``(D,)``."""
        return tuple(self.x.shape[1:])

    def model_options(self) -> dict[str, object]:
        """Return the options of :func:`~pyro_ssvae.create_model` that the data decide.

        The shape of a point and the labels; of a table also the kind of each column, that the encoder sees which cells
        are missing, and the schema, so that the model takes tables of that kind.
        """
        options: dict[str, object] = {"input_shape": self.input_shape, "labels": self.labels}
        if self.table is not None:
            schema = self.table.schema
            options |= {"columns": schema.kinds, "missing": True, "schema": schema}
        return options


def times(shape: tuple[int, ...]) -> str:
    """Return a shape in words: ``1 × 28 × 28``; of one dimension ``30 features``."""
    return f"{shape[0]} features" if len(shape) == 1 else " × ".join(map(str, shape))


def listed(words: Sequence[str], most: int = 6) -> str:
    """Return words in a row, the first few of many."""
    return ", ".join(words) if len(words) <= most else f"{', '.join(words[: most - 1])}, …"


def labels_in_words(labels: Labels | None) -> str:
    """Return what ``y`` means: ``3 classes: cat, dog, owl``."""
    if labels is None:
        return "none"
    kind = ("class", "classes") if isinstance(labels, ClassLabels) else ("attribute", "attributes")
    return f"{labels.size:,} {kind[labels.size != 1]}: {listed(labels.names)}"


def fingerprint(dataset: Dataset) -> str:
    """Return a SHA-256 of the points, their labels, shapes and dtypes, and the labels' names (not of ``name``)."""
    names = json.dumps(describe(dataset.labels))
    return digest(dataset.x, dataset.y, dataset.x_test, dataset.y_test, also=names)


def digest(*tensors: Tensor, also: str = "") -> str:
    """Return a SHA-256 of the words ``also`` and of tensors with rows: their values, shapes and dtypes."""
    made = hashlib.sha256(also.encode())
    for tensor in tensors:
        made.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
        for rows in tensor.split(4096):  # a bounded copy where the tensor is not contiguous, or on another device
            made.update(memoryview(rows.contiguous().cpu().numpy()).cast("B"))
    return made.hexdigest()
