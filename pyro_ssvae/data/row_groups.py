"""Points in files of Parquet, which are read a row group at a time: columns of numbers, or one column of vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, nearest
from ..labels import ClassLabels, Labels
from .array_names import OTHER_NAMES
from .checks import reason, shown
from .parts import by_parts
from .streaming import Streamed

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

LARGEST = 150_000_000  # bytes of a row group's points in memory; a buffer holds some of them


def open_parquet(
    files: Sequence[Path], input_shape: tuple[int, ...] | None, target: str | None = None
) -> tuple[Streamed, object, Labels | None, tuple[str, ...] | None]:
    """Return the points of files of Parquet, their labels, what these mean, and the names of the columns.

    A column of lists with a usual name for points (``x``, ``features``, …) holds vectors, or points of
    ``input_shape``, flat. Otherwise every column of numbers is one of a vector.

    :param target: the labels' column; by default the first with a usual name for labels (``y``, ``label``, …).
    :raises InputError: naming the file: damaged, without rows, of other columns than the first one, of words, with row
        groups that are too large.
    """
    footers = [footer(file) for file in files]
    schema = footers[0].schema.to_arrow_schema()
    for file, one in zip(files, footers):
        same_columns(file, one, files[0], schema)
    usual = ("y", *OTHER_NAMES["y"])
    label = target if target is not None else next((name for name in usual if name in schema.names), None)
    if label is not None and label not in schema.names:
        raise InputError(f"y: {files[0]} has no column {shown(label)}{nearest(label, schema.names)}")
    lists = [name for name in ("x", *OTHER_NAMES["x"]) if name in schema.names and is_list(schema.field(name).type)]
    columns = lists[:1] or [name for name in schema.names if name != label]
    words = next((name for name in columns if not lists and not is_number(schema.field(name).type)), None)
    if words is not None or not columns:
        what = f"column {shown(words)} is {schema.field(words).type}" if words else "no column of points"
        raise InputError(f"{files[0]}: {what}; columns of numbers, or one of lists 'x', are needed; ps.data.read_table "
                         "makes numbers of words")  # fmt: skip
    if lists and not is_number(schema.field(columns[0]).type.value_type):
        raise InputError(f"{files[0]}: column {shown(columns[0])} is {schema.field(columns[0]).type}; lists of numbers "
                         "are needed")  # fmt: skip
    groups = [(file, one, g) for file, one in zip(files, footers) for g in range(one.num_row_groups)]
    groups = [(file, one, g) for file, one, g in groups if one.row_group(g).num_rows]
    if not groups:
        raise InputError(f"{files[0]}: no rows; at least 2 are needed")
    width = (len(vectors(*groups[0], columns[0], 1)[0]),) if lists else (len(columns),)
    shape = input_shape if lists and input_shape and math.prod(input_shape) == width[0] else width
    sizes = [one.row_group(g).num_rows for _, one, g in groups]
    large = next((i for i, n in enumerate(sizes) if n * width[0] * 4 > LARGEST), None)
    if large is not None:
        file, _, g = groups[large]
        raise InputError(
            f"{file}: row group {g} has {sizes[large]:,} rows, {sizes[large] * width[0] * 4 / 1e6:,.0f} MB; write it "
            f"with row_group_size={max(1, LARGEST // (8 * width[0])):,} or less"
        )
    pixels = lists and list_item(schema.field(columns[0]).type) == "uint8" and len(shape) == 3
    points = streamed_groups(groups, np.cumsum([0, *sizes]), columns, shape, bool(lists), bool(pixels))
    y, meaning = (None, None) if label is None else labels_of_column(groups, label, sum(sizes))
    return points, y, meaning, None if lists else tuple(columns)


def streamed_groups(
    groups: Sequence[tuple[Path, pq.FileMetaData, int]],
    starts: np.ndarray,
    columns: Sequence[str],
    shape: tuple[int, ...],
    lists: bool,
    pixels: bool,
) -> Streamed:
    """Return the points of row groups."""

    def group(b: int) -> np.ndarray:
        file, one, g = groups[b]
        if lists:
            points = vectors(file, one, g, columns[0])
            if points.shape[1] != math.prod(shape):
                raise InputError(
                    f"{file}: lists of {points.shape[1]} in row group {g}; all need {math.prod(shape)} numbers"
                )
            return points.reshape(-1, *shape)
        table = read_columns(file, one, g, columns)
        return np.stack([table.column(name).to_numpy().astype(np.float32) for name in columns], 1)

    file = groups[0][0]
    name = str(file if all(other == file for other, _, _ in groups) else file.parent)
    return by_parts(group, starts, (int(starts[-1]), *shape), np.uint8 if pixels else np.float32, name)


def footer(file: Path) -> pq.FileMetaData:
    """Return what a file says of itself."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(file)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file}: not a file of Parquet, or a damaged one ({reason(error)})") from None


def same_columns(file: Path, one: pq.FileMetaData, first: Path, schema: pa.Schema) -> None:
    """Raise :class:`InputError` where a file, or one of its row groups, has other columns than the first file."""
    own = one.schema.to_arrow_schema()
    for name in schema.names:
        if name not in own.names:
            raise InputError(f"{file}: no column {shown(name)}, which {first.name} has; all need the same columns")
        if own.field(name).type != schema.field(name).type:
            raise InputError(f"{file}: column {shown(name)} is {own.field(name).type}; in {first.name} it is "
                             f"{schema.field(name).type}")  # fmt: skip
    new = next((name for name in own.names if name not in schema.names), None)
    if new is not None:
        raise InputError(f"{file}: column {shown(new)}, which {first.name} has not; all need the same columns")
    paths = [one.schema.column(i).path for i in range(len(one.schema))]
    for g in range(one.num_row_groups):
        group = one.row_group(g)
        if [group.column(i).path_in_schema for i in range(group.num_columns)] != paths:
            raise InputError(f"{file}: row group {g} has other columns than the file says; it is damaged")


def read_columns(file: Path, one: pq.FileMetaData, g: int, columns: Sequence[str]) -> pa.Table:
    """Return some columns of a row group; raise :class:`InputError` where the file has gone or changed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, metadata=one) as opened:
            table = opened.read_row_group(g, columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file}: row group {g} cannot be read ({reason(error)})") from None
    if table.num_rows != one.row_group(g).num_rows:
        raise InputError(f"{file}: row group {g} has {table.num_rows} rows; its footer says other numbers")
    return table


def vectors(file: Path, one: pq.FileMetaData, g: int, column: str, most: int | None = None) -> np.ndarray:
    """Return a column of lists as an array ``[n, D]``; raise :class:`InputError` naming a list of another length.

    :param most: rows, at most.
    """
    lists = read_columns(file, one, g, [column]).column(column).combine_chunks()
    lists = lists if most is None else lists[:most]
    flat = lists.flatten()
    if lists.null_count or flat.null_count or len(flat) % len(lists):
        raise InputError(f"{file}: column {shown(column)}, row group {g}: lists with gaps, or of different lengths")
    width = len(flat) // len(lists)
    if any(n != width for n in lists.value_lengths().unique().to_pylist()):
        raise InputError(f"{file}: column {shown(column)}, row group {g}: lists of different lengths")
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(-1, width)


def labels_of_column(
    groups: Sequence[tuple[Path, pq.FileMetaData, int]], column: str, n: int
) -> tuple[np.ndarray, Labels | None]:
    """Return a column as labels, -1 where one is missing, and the words that they stand for; numbers have none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words: dict[str, int] = {}
    y, place = np.empty(n, np.int8), 0
    for file, one, g in groups:
        values = read_columns(file, one, g, [column]).column(column).combine_chunks()
        values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            coded = values.dictionary_encode()
            own = [words.setdefault(word, len(words)) if word else -1 for word in coded.dictionary.to_pylist()]
            part = np.asarray([*own, -1], np.int32)[coded.indices.fill_null(len(own)).to_numpy(zero_copy_only=False)]
        elif is_number(values.type):
            numbers = pc.fill_null(values.cast(pa.float64()), -1.0).to_numpy(zero_copy_only=False)
            part = np.where(np.isnan(numbers), -1.0, numbers)
            if not (part == np.round(part)).all():
                row = place + int(np.flatnonzero(part != np.round(part))[0])
                raise InputError(f"{file}: column {shown(column)}: row {row} is no whole number; labels are")
        else:
            raise InputError(f"{file}: column {shown(column)} is {values.type}; labels are whole numbers or words")
        y = y.astype(np.promote_types(y.dtype, narrowest(part)), copy=False)
        y[place : place + len(values)] = part
        place += len(values)
    return y, ClassLabels(list(words)) if words else None


def narrowest(numbers: np.ndarray) -> np.dtype:
    """Return the signed dtype of the fewest bytes that holds some whole numbers."""
    low, high = numbers.min(initial=0), numbers.max(initial=0)
    kinds = (np.int8, np.int16, np.int32)
    return np.dtype(next((k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max), np.int64))


def is_number(kind: pa.DataType) -> bool:
    """Whether a column holds numbers, or yes and no."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def list_item(kind: pa.DataType) -> str:
    """Return the type of what a column's lists hold, by name."""
    return str(kind.value_type)
