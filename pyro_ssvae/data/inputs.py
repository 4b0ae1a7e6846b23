"""Points and labels in every form that :func:`~pyro_ssvae.fit` takes, checked once for all functions that take them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..label_arrays import all_missing
from ..labels import Labels, labels_of
from .annotated import is_annotated, read_h5ad
from .checks import say_rounded, shown
from .class_words import say_meaning
from .containers import SourceData, unpack
from .foreign_types import Annotated
from .frame_types import Frame
from .frames import float_array, plain_array, same_rows, with_names
from .label_values import by_name, label_values
from .label_words import numbered
from .pair_order import Points, check_shape, in_axis_order, in_column_order, known_columns
from .pair_protocols import ChecksPoints, HasInputShape, HasPixelRange, HasSchema, HasWhiteLevel, TakesPixels
from .point_files import open_points
from .schema import Schema, is_table
from .split_words import Part
from .streaming import Streamed
from .zarr_arrays import ZarrArray, ZarrGroup

LEARNT = ("column_names", "pixel_range", "white_level")
"""What a pair remembers of the data that it was trained on."""


class Read(NamedTuple):
    """Points and labels, checked.

    :ivar y: all missing where there are none.
    :ivar labelled: whether labels were given, or came with the points.
    :ivar pixels: whether the points are images of 8 bits.
    """

    x: Points
    y: Tensor
    labelled: bool
    pixels: bool


def check_data(pair: nn.Module, x: object, y: object = None, *, least: int = 2) -> tuple[Tensor, Tensor]:
    """Return points and labels as tensors; files are read whole.

    :param least: rows that are needed.
    :raises InputError: naming the first row that cannot be used, or a file that is too large to be read whole.
    """
    read = read_data(pair, x, y, least=least)
    return read_whole(read.x), read.y


def read_whole(points: Points) -> Tensor:
    """Return points as a tensor, those of files read whole.

    :raises InputError: a file that is too large for it.
    """
    return points.read_all() if isinstance(points, Streamed) else points


def open_data(pair: nn.Module, x: object, y: object = None) -> tuple[Points, Tensor]:
    """Return points and labels as :func:`read_data` does, to train on: the names of the columns are remembered."""
    read = read_data(pair, x, y, learn=True)
    return read.x, read.y


@contextmanager
def unlearnt_where_refused(pair: nn.Module) -> Iterator[None]:
    """Put back what the pair remembers of earlier data where these are refused."""
    before = {name: vars(pair)[name] for name in LEARNT if name in vars(pair)}
    try:
        yield
    except InputError:
        for name in LEARNT:
            vars(pair).pop(name, None)
        vars(pair).update(before)
        raise


def read_data(
    pair: nn.Module,
    x: object,
    y: object = None,
    *,
    least: int = 2,
    dtype: torch.dtype | None = None,
    learn: bool = False,
    gaps: bool = False,
    part: Part = "all",
) -> Read:
    """Return points and labels as tensors, the points as :class:`~.streaming.Streamed` where they are a large file.

    Points: tensors and arrays of any stride, byte order and type of number, sparse and masked ones, nested lists,
    tables of pandas, polars and pyarrow, data sets and loaders of PyTorch and of Hugging Face, AnnData, data sets of
    this library, files and folders. Columns with names are put in the order that the pair was trained on. Axes are put
    in the pair's order where its ``input_shape`` leaves one reading alone. Labels: :func:`~.label_values.label_values`;
    or the name of the column of ``x`` that holds them.

    Tensors are detached: no gradient passes to what they were computed by.

    :param dtype: of points that are no uint8 pixels; None for the default one, or double where the pair is.
    :param learn: let the pair remember the names of the columns.
    :param gaps: let a NaN be an entry that is missing, also for a pair that does not check its points.
    :param part: of a source that itself sets points apart for the test: a folder of images, an ``.npz`` file, a table.
        Where labels are given beside it, a table and the test are whole.
    :raises InputError: naming the first row that cannot be used.
    """
    input_shape = tuple(pair.input_shape) if isinstance(pair, HasInputShape) else None
    meaning, part = labels_of(pair), "train" if learn else part
    x, y = with_names(x), with_names(y)
    part = "all" if part == "test" and y is not None and not isinstance(y, str) else part
    given = by_schema(pair, x, y, part) or open_source(x, y, input_shape, pair, part)
    same_rows(x.obs if isinstance(x, Annotated) else x, y)
    labels = given_labels(given, y, meaning)
    points = given.x if isinstance(given.x, Streamed) else numbers(given.x, "x", given.columns)
    if isinstance(points, Streamed) and not isinstance(pair, ChecksPoints) and not gaps:
        points = points.without_gaps()
    points = in_axis_order(in_column_order(pair, points, given.columns), input_shape)
    check_shape(points, input_shape, least)
    if learn:
        remember(pair, given)
    pixels = points.dtype == torch.uint8 and points.dim() == 4
    points = checked_values(pair, points, dtype, learn, gaps)
    checked = checked_labels(labels, meaning, len(points), narrow=learn)
    if y is not None and meaning is not None:
        say_meaning(checked, "y", meaning.names)
    return Read(points, checked, labels is not None, pixels)


def remember(pair: nn.Module, given: SourceData) -> None:
    """Let a pair remember the names of the columns, and what is white, where it knows none yet."""
    if given.columns is not None and known_columns(pair) is None:
        pair.column_names = given.columns  # type: ignore[assignment]
    if isinstance(pair, HasWhiteLevel) and given.white_level is not None and pair.white_level is None:
        pair.white_level = given.white_level


def checked_values(pair: nn.Module, points: Points, dtype: torch.dtype | None, learn: bool, gaps: bool) -> Points:
    """Return points in the type of number that a pair takes; arguments as for :func:`read_data`.

    :raises InputError: naming the first row that cannot be used, or pictures on another scale than before.
    """
    if points.dtype == torch.uint8 and isinstance(pair, TakesPixels) and not pair.takes_pixels:
        points = points.as_numbers() if isinstance(points, Streamed) else points.to(torch.get_default_dtype())
    if isinstance(points, Streamed):  # its values are checked as they are read
        return points
    if isinstance(pair, HasPixelRange) and points.dim() == 4 and len(points):
        pair.pixel_range = same_scale(points, pair.pixel_range, learn)
    if learn and (dtype or precision(pair)) == torch.float32:
        say_rounded(points, "x")
    points = points if points.dtype == torch.uint8 else points.to(dtype or precision(pair))
    if not len(points):
        return points
    return pair.check_points(points) if isinstance(pair, ChecksPoints) else finite(points, gaps=gaps)


def checked_labels(labels: Tensor | None, meaning: Labels | None, n: int, narrow: bool) -> Tensor:
    """Return the labels of n points; all missing where there are none.

    :param narrow: in as few bytes as hold them, where they are many.
    :raises InputError: another number of rows, or naming the first row with a value that has no meaning.
    """
    if meaning is not None:
        if labels is not None and labels.dim() == 1 and meaning.event_shape == (1,):  # one attribute, as a column
            labels = labels[:, None]
        return meaning.check(labels, n, narrow=narrow)
    labels = all_missing((n,), narrow=narrow) if labels is None else labels
    if labels.dim() < 1 or len(labels) != n:
        rows = len(labels) if labels.dim() else "no"
        raise InputError(f"y: {rows} rows, but x has {n}; both need the same number")
    return labels


def precision(pair: nn.Module) -> torch.dtype:
    """Return the dtype of points: the default one, or double, where a pair computes in it."""
    double = any(p.dtype == torch.float64 for p in pair.parameters())
    return torch.float64 if double else torch.get_default_dtype()


def same_scale(x: Tensor, before: tuple[float, float] | None, learn: bool) -> tuple[float, float] | None:
    """Return the range of the pictures that a pair was trained on; that of these where there is none and it ``learn``s.

    :raises InputError: pictures on [0, 255] where it was trained on [0, 1], or the other way round.
    """
    scale = 255.0 if x.dtype == torch.uint8 else 1.0
    low, high = (float(value) / scale for value in (x if scale > 1 else x.nan_to_num(posinf=0.0)).aminmax())
    if before is None:
        return (low, high) if learn else None
    if before[1] <= 1.0 and before[0] >= 0.0 and high > 2.0:
        raise InputError(f"x: pixels go to {high:g}; the model was trained on 0 to 1: divide by 255, or give uint8")
    if before[1] > 16.0 and before[0] >= 0.0 and 0.0 < high <= 1.0:
        raise InputError(f"x: pixels go to {high:g}; the model was trained on floats of 0 to {before[1]:g}")
    return before


def by_schema(pair: nn.Module, x: object, y: object, part: Part) -> SourceData | None:
    """Return what a table holds as a pair that was made for one reads it; None of anything else.

    :param part: its rows, where it has a column ``split`` and no labels are given beside it.
    """
    schema = pair.schema if isinstance(pair, HasSchema) else None
    if not isinstance(schema, Schema):
        return None
    if not (isinstance(x, Frame) or (isinstance(x, (str, Path)) and is_table(x))):
        return None
    from .tables import as_frame, encode_frame, part_rows

    if isinstance(y, str) and [y] != [target.name for target in schema.targets]:
        raise InputError(f"y: {y!r} is not the target that the model was made for")
    where = str(x) if isinstance(x, (str, Path)) else "the table"
    whole = part == "all" or (y is not None and not isinstance(y, str))
    frame = as_frame(x, schema)
    points, labels, _ = encode_frame(frame, schema, where)
    rows = None if whole else part_rows(frame, schema, part, where)
    if rows is not None:
        points, labels = points[rows], None if labels is None else labels[rows]
    return SourceData(points, labels)


def open_source(x: object, y: object, input_shape: tuple[int, ...] | None, pair: nn.Module, part: Part) -> SourceData:
    """Return what ``x`` holds: a file is opened, a container unpacked."""
    white_level = pair.white_level if isinstance(pair, HasWhiteLevel) else None
    if isinstance(x, (str, Path)) and is_annotated(x):
        return unpack(read_h5ad(Path(x)), y if isinstance(y, str) else None)
    target = y if isinstance(y, str) else None
    if not isinstance(x, Tensor) and isinstance(x, (np.memmap, str, Path, ZarrArray, ZarrGroup)):
        opened = open_points(x, input_shape, target, white_level, part, labels_of(pair))
        if target is not None and opened.y is None:
            raise InputError(f"y: {shown(target)} names a column; {shown(str(x))} has no labels; some are needed")
        return opened
    return unpack(x, target)


def given_labels(given: SourceData, y: object, meaning: Labels | None) -> Tensor | None:
    """Return the labels that were given, or else those of the source; None where there are none."""
    if y is not None and not isinstance(y, str):
        return label_values(y, meaning)
    if given.y is None:
        return None
    if meaning is None and y is None and plain_array(given.y, "y").dtype.kind in "OUS":
        return None  # words of a source, for a pair that has no labels
    own = label_values(given.y, given.labels or meaning)
    if given.labels is None or meaning is None or (given.numbered and numbered(meaning.names)):
        return own
    return by_name(given.labels.check(own, narrow=True), given.labels, meaning, "x")


def finite(x: Tensor, name: str = "x", gaps: bool = False) -> Tensor:
    """Return ``x``; raise :class:`InputError` naming the first row that is not finite, but for ``gaps``, NaN."""
    if x.dtype == torch.uint8 or not x.numel():
        return x
    bad = (torch.isinf(x) if gaps else ~torch.isfinite(x)).reshape(len(x), -1).any(1)
    if bad.any():
        what = "an infinite" if gaps else "a NaN or infinite"
        raise InputError(f"{name}: row {int(bad.nonzero()[0])} has {what} value; {int(bad.sum())} rows have")
    return x


def numbers(values: object, name: str, columns: tuple[str, ...] | None = None) -> Tensor:
    """Return a tensor of a tensor, an array, a table or nested lists of numbers, NaN where one is missing.

    It is detached from what it was computed by.

    :param columns: names for what is said of a cell.
    """
    if isinstance(values, Tensor):
        tensor = values.detach()
        if tensor.is_nested or tensor.is_meta:
            raise InputError(f"{name}: a {'nested tensor' if tensor.is_nested else 'tensor without values'}; a tensor "
                             "of numbers, [N, ...], is needed")  # fmt: skip
        tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
        if tensor.is_complex() or tensor.is_quantized:
            raise InputError(f"{name}: {tensor.dtype}; a tensor of plain numbers is needed")
        return tensor.clone() if tensor.is_inference() else tensor
    if isinstance(values, Frame):
        columns = tuple(str(column) for column in values.columns)
    return torch.from_numpy(float_array(plain_array(values, name), name, columns))
