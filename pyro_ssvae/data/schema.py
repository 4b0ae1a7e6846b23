"""What the columns of a table are: their names, kinds and words, so that another table is read alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from ..errors import InputError
from ..labels import AttributeLabels, ClassLabels, Labels
from .class_words import UNKNOWN_CLASSES
from .packed import inner_suffix

Reads: TypeAlias = Literal["number", "words", "date"]
"""How a cell becomes a number: as it is, by its place among the words, as days since a first date."""
SUFFIXES = (".csv", ".tsv", ".parquet", ".feather")
"""Endings of files that are tables, in small letters."""


def is_table(path: str | Path) -> bool:
    """Whether a file's ending is that of a table, or of a compressed one of text."""
    return Path(path).suffix.lower() in SUFFIXES or inner_suffix(path) in (".csv", ".tsv")


@dataclass(frozen=True)
class Column:
    """A column of a table, and how its cells become numbers.

    :param name: in the header.
    :param kind: its likelihood, as ``mixed`` takes it: ``"normal"``, ``"categorical:3"``, ``"bernoulli"`` …
    :param reads: ``"number"``: ``x - offset``; ``"words"``: the word's place in ``words``; ``"date"``: days since
        ``start``.
    :param words: the words in order; of yes and no, no first.
    :param offset: what is taken off a number, where all of them are far from 0 and float32 would lose their digits.
    :param whole: numbers are whole ones.
    :param start: the day that is 0, ISO 8601.
    :param format: how dates are written, for ``strptime``, empty for ISO 8601; of numbers that are seconds since
        midnight, how times are; ``","`` where numbers have decimal commas.
    :param zoned: dates say their distance from UTC; written are those of UTC.
    :param missing: a share of the cells that training had was missing.
    """

    name: str
    kind: str = "normal"
    reads: Reads = "number"
    words: tuple[str, ...] = ()
    offset: float = 0.0
    whole: bool = False
    start: str = ""
    format: str = ""
    zoned: bool = False
    missing: float = 0.0

    @property
    def is_time(self) -> bool:
        """Whether its cells are times of the day."""
        return self.reads == "number" and self.format.startswith("%")


@dataclass(frozen=True)
class Schema:
    """How a table becomes points and labels: :func:`~pyro_ssvae.data.encode`.

    :param columns: of x, in order.
    :param targets: none, one (classes by its words) or several (attributes, no and yes each).
    :param id: the column that names the rows.
    :param left_out: columns that are read and not used; a new table may lack them.
    """

    columns: tuple[Column, ...]
    targets: tuple[Column, ...] = ()
    id: str | None = None
    left_out: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of x."""
        return tuple(column.name for column in self.columns)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The likelihood of each column of x."""
        return tuple(column.kind for column in self.columns)

    @property
    def labels(self) -> Labels:
        """What y means."""
        if not self.targets:
            return ClassLabels(UNKNOWN_CLASSES)
        if len(self.targets) == 1:
            return ClassLabels(self.targets[0].words)
        return AttributeLabels([t.name for t in self.targets], [(t.words[0], t.words[1]) for t in self.targets])

    @property
    def text(self) -> tuple[str, ...]:
        """Columns whose cells a reader must not turn into numbers: ``01`` is a word."""
        words = [column.name for column in (*self.columns, *self.targets) if column.reads != "number"]
        return (*words, *([] if self.id is None else [self.id]))

    def to_json(self) -> dict[str, object]:
        """Return the schema ready for JSON."""
        return asdict(self)


def restore_schema(saved: object) -> Schema:
    """Return the schema that :meth:`Schema.to_json` described.

    :raises InputError: it is anything else.
    """
    try:
        if not isinstance(saved, Mapping):
            raise TypeError("no object")
        columns, targets = (tuple(_column(each) for each in saved[part]) for part in ("columns", "targets"))
        name = saved["id"]
        if not columns or not isinstance(name, (str, type(None))):
            raise TypeError("no columns, or an id that is no word")
        return Schema(columns, targets, name, tuple(str(word) for word in saved["left_out"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"schema: damaged ({type(error).__name__}: {str(error)[:100]})") from None


def _column(saved: Mapping[str, object]) -> Column:
    """Return a column of its JSON, every value of the type that it must have."""
    column = Column(**{**saved, "words": tuple(saved["words"])})  # type: ignore[arg-type]
    texts = (column.name, column.kind, column.start, column.format, *column.words)
    numbers = (column.offset, column.missing)
    if column.reads not in get_args(Reads) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"column {str(column.name)[:40]!r}")
    flags = all(isinstance(flag, bool) for flag in (column.whole, column.zoned))
    if not flags or not all(isinstance(number, (int, float)) for number in numbers):
        raise TypeError(f"column {column.name[:40]!r}")
    return column
