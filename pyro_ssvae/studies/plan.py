"""A study: its question, the grid of cells that answers it, and how these are computed and read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..data import Dataset
from .cells import Cell, Json, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Part:
    """One data set of a study that has several.

    :param labels: all, 0, counts or fractions.
    :param likelihood: of all models; by the data's shape where it is not given.
    :param augment: random changes of each batch; those of the study where it is not given.
    """

    data: str
    labels: tuple[str, ...]
    likelihood: str | None = None
    augment: str | None = None


@dataclass(frozen=True)
class Plan:
    """What a study runs; the command line's options replace fields of it."""

    data: str
    labels: tuple[str, ...]
    """All, 0, counts or fractions."""
    seeds: int = 3
    """How many seeds."""
    first_seed: int = 0
    """The first of them; the others follow."""
    steps: int | None = None
    """Batches a training; by default 1,000 to 2,000, depending on the points' size, as for ``train``."""
    epochs: int | None = None
    """Passes over the training rows, in place of ``steps``."""
    methods: tuple[str, ...] = ()
    """By default all of the study's."""
    classes: tuple[str, ...] = ()
    """The classes that are left out, hidden or transferred to; by default the study's choice."""
    batch_size: int = 256
    latent_dim: int = 50
    image_size: int | None = None
    draws: int = 100
    points: int = 500
    oracle_steps: int = 300
    likelihood: str | None = None
    augment: str | None = None
    networks: str = "default"
    gain: float | None = None
    """Double the steps until that is worth less than this many nats of the validation rows' bound."""
    compile: bool = False
    target: tuple[str, ...] = ()
    """Of a table: its columns of labels."""
    id: str | None = None
    """Of a table: the column that names the rows."""
    columns: tuple[str, ...] = ()
    """Of a table: kinds of columns, as ``train`` takes them."""
    parts: tuple[Part, ...] = ()
    """Data sets of a study of several, in place of ``data`` and, where that is empty, of ``labels``."""


SOME_TAKE = ("classes", "draws", "points")
"""Fields of a plan that not every study depends on."""


@dataclass(frozen=True)
class Column:
    """A metric in a table.

    :param path: keys in the metrics, joined by dots.
    :param words: what a table calls it.
    :param digits: after the point.
    :param better: ``"higher"`` or ``"lower"``.
    :param panel: whether the study's picture has a panel of it.
    :param chance: path of what this metric would be by chance, drawn as a grey line.
    """

    path: str
    words: str
    digits: int = 4
    better: str = "higher"
    panel: bool = False
    chance: str | None = None


@dataclass(frozen=True)
class Study:
    """One claim of the papers as a grid of cells.

    :param title: a table's heading.
    :param notes: what a reader must know of the comparison, beyond what holds for every study.
    :param methods: names in :data:`~.methods.METHODS`.
    :param full: the plan without options; ``quick`` with ``--quick``.
    :param compute: the metrics of a cell, from the data set and a device.
    :param answers: lines of Markdown that answer the study's questions from results.
    :param combinations: the (method, labels, classes) that make sense of all there are.
    :param takes: the options of :data:`SOME_TAKE` that its cells depend on.
    :param prepare: something that all cells need, made once before the first.
    """

    name: str
    title: str
    notes: tuple[str, ...]
    methods: tuple[str, ...]
    full: Plan
    quick: Plan
    compute: Callable[[Cell, Dataset, str], Json]
    columns: tuple[Column, ...]
    answers: Callable[[Sequence[Result]], list[str]]
    combinations: Callable[[Plan, Dataset], Iterator[tuple[str, str, tuple[str, ...]]]]
    takes: tuple[str, ...] = ("draws",)
    prepare: Callable[[Plan, Dataset], None] | None = None
    augment: str | None = None
    """Of all methods that have none of their own; by default affine for images, hide for tables, noise for the rest."""
    baseline: str | None = None
    """The method that the picture compares with."""
    picture: Callable[[Sequence[Result]], Figure] | None = None
    """A picture of its own, in place of panels over the number of labels."""
