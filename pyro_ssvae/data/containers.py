"""What other libraries keep points in, and labels beside them: data sets, loaders, sparse and annotated matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from ..errors import InputError, nearest
from ..labels import AttributeLabels, ClassLabels, Labels
from .array_names import OTHER_NAMES, X_NAMES, Y_NAMES
from .checks import check_bytes, shown
from .dataset import Dataset
from .foreign_types import (
    Annotated,
    HasClasses,
    HasNames,
    HuggingFace,
    MadeOf,
    PartOf,
    Picture,
    SparseFile,
    SparseMatrix,
)
from .frame_types import Frame
from .frames import names_of, plain_array, record_columns, with_names
from .streaming import IN_MEMORY, Streamed

LABEL_NAMES = ("names", *OTHER_NAMES["names"])
"""What the names of classes or attributes are called beside them."""


@dataclass(frozen=True)
class SourceData:
    """Points, and what their source has beside them.

    :ivar x: a tensor, an array, nested lists, or :class:`~.streaming.Streamed`.
    :ivar y: labels of the source's own; None where it has none.
    :ivar columns: the names of the columns of x.
    :ivar labels: what ``y`` means, where the source says so.
    :ivar numbered: whether ``y`` are numbers in the source, and their names there beside the point for a pair whose
        classes have none.
    :ivar white_level: what is white in images of 16 bits; None where there are none.
    """

    x: object
    y: object = None
    columns: tuple[str, ...] | None = None
    labels: Labels | None = None
    numbered: bool = False
    white_level: int | None = None


def unpack(x: object, target: str | None = None) -> SourceData:
    """Return what a container holds; anything that is none stays as it is.

    :param target: the name of the column that holds the labels, of a table or of an annotated matrix.
    :raises InputError: a container without points, or without that column.
    """
    x = with_names(x)
    if isinstance(x, Tensor):
        given = SourceData(x)
    elif isinstance(x, np.ndarray):
        points, columns = record_columns(x, "x") if x.dtype.names else (x, None)
        given = SourceData(points, columns=columns)
    elif isinstance(x, Dataset):
        given = SourceData(x.x, x.y, x.columns, x.labels, white_level=x.white_level)
    elif isinstance(x, (SparseMatrix, SparseFile)):
        given = SourceData(dense(x))
    elif isinstance(x, Annotated):
        return annotated(x, target)
    elif isinstance(x, HuggingFace):
        return hugging_face(x, target)
    elif isinstance(x, Frame):
        return of_frame(x, target)
    elif isinstance(x, (torch_data.DataLoader, torch_data.Dataset)):
        given = of_items(x)
    elif isinstance(x, Mapping):
        given = of_mapping(x)
    elif isinstance(x, (list, tuple)) and any(isinstance(item, Mapping) for item in x):
        given = SourceData(*joined([as_item(item) for item in x], stacked))
    else:
        given = SourceData(stacked(x) if isinstance(x, (list, tuple)) else x)
    if target is not None:
        raise InputError(f"y: {shown(target)} names a column; x has no names of columns, so that labels are needed")
    return given


def dense(x: SparseMatrix | SparseFile) -> object:
    """Return a sparse matrix as an array; a large one row by row, as a file's rows are."""
    shape = tuple(x.shape)
    size = int(np.prod(shape, dtype=object)) * x.dtype.itemsize
    if size <= IN_MEMORY or len(shape) != 2:
        check_bytes(size, "x, as a dense array,")
        return (x.to_memory() if isinstance(x, SparseFile) else x).toarray()
    rows = x if isinstance(x, SparseFile) else x.tocsr()
    return Streamed(lambda some: rows[some].toarray(), shape, x.dtype, "x")


def of_frame(frame: Frame, target: str | None) -> SourceData:
    """Return a table's columns as a matrix, less the one that holds the labels."""
    y: object = None
    if target is not None:
        y = column_of(frame, target, "x")
        frame = frame[[name for name in frame.columns if str(name) != target]]
    return SourceData(frame, y, names_of(frame))


def column_of(frame: Frame, name: str, what: str) -> object:
    """Return a column of a table; raise :class:`InputError` naming the nearest where there is none."""
    for column in frame.columns:
        if str(column) == name:
            return np.asarray(frame[[column]])[:, 0]
    raise InputError(f"y: {what} has no column {shown(name)}{nearest(name, [str(c) for c in frame.columns])[:300]}")


def annotated(x: Annotated, target: str | None) -> SourceData:
    """Return an annotated matrix; its labels are a column of ``obs``."""
    given = unpack(x.X)
    y = None if target is None else column_of(x.obs, target, "obs")
    return SourceData(given.x, y, tuple(str(name) for name in x.var_names))


def hugging_face(x: HuggingFace, target: str | None) -> SourceData:
    """Return the columns of a data set of Hugging Face: one of images or vectors, or several of numbers."""
    columns = list(x.column_names)
    if target is not None and target not in columns:
        raise InputError(f"y: x has no column {shown(target)}{nearest(target, columns)}")
    label = target or next((name for name in Y_NAMES if name in columns), None)
    points = [name for name in X_NAMES if name in columns and name != label][:1]
    names = points or [name for name in columns if name != label]
    if not names:
        raise InputError("x: a data set without a column of points")
    rows = x[:]
    y = None if label is None else list(cast(Iterable[object], rows[label]))
    feature = None if label is None else x.features[label]
    labels = ClassLabels(list(feature.names)) if isinstance(feature, HasNames) else None
    arrays = [stacked(list(cast(Iterable[object], rows[name]))) for name in names]
    if len(names) == 1 and np.ndim(cast(np.ndarray, arrays[0])) > 1:
        return SourceData(arrays[0], y, None, labels, numbered=True)
    return SourceData(
        np.stack([np.asarray(array, dtype=object) for array in arrays], -1), y, tuple(names), labels, numbered=True
    )


def of_mapping(x: Mapping[str, object]) -> SourceData:
    """Return points and labels by their usual names."""
    names = [str(name) for name in x]
    points = next((name for name in X_NAMES if name in names), None)
    if points is None:
        has = ", ".join(map(shown, names))[:200]
        if {"train", "test"} & set(names):
            raise InputError(f"x: a dict of {has}; one of these parts is needed, such as x[{names[0]!r}]")
        raise InputError(f"x: a dict of {has}; one of {', '.join(X_NAMES[:4])} is needed, or a list of records")
    label = next((name for name in Y_NAMES if name in names and name != points), None)
    inner = unpack(x[points])
    if label is None:
        return SourceData(inner.x, inner.y, inner.columns, inner.labels, inner.numbered)
    return SourceData(inner.x, x[label], inner.columns, labels_called(x, label, names), numbered=True)


def labels_called(x: Mapping[str, object], label: str, there: Sequence[str]) -> Labels | None:
    """Return what labels mean where their names lie beside them, as in scikit-learn's data sets."""
    own = next((name for name in LABEL_NAMES if name in there), None)
    words = x[own] if own is not None else None
    if not isinstance(words, (list, tuple, np.ndarray)) or np.ndim(words) != 1 or not len(words):
        return None
    names = [str(word) for word in words]
    shape = np.shape(plain_array(x[label], "y"))
    if len(set(names)) < len(names) or shape[:1] == (len(names),):  # names of rows
        return None
    if len(shape) == 1:
        return ClassLabels(names)
    return AttributeLabels(names) if shape[1:] == (len(names),) else None


def of_items(x: torch_data.DataLoader[object] | torch_data.Dataset[object]) -> SourceData:
    """Return the points, and the labels where there are some, of a data set or a loader of PyTorch.

    A loader's points come in the order of its data set where it takes each once, however it shuffles. PyTorch's global
    random numbers, of which a loader takes one, are left as they were.

    :raises InputError: no point, or a data set that does not say how many.
    """
    if not isinstance(x, (torch_data.DataLoader, torch_data.IterableDataset, Sized)):
        raise InputError(f"x: a {type(x).__name__} without __len__; it, or an IterableDataset, is needed")
    with torch.random.fork_rng(devices=[]):
        return read_items(x)


def read_items(x: torch_data.DataLoader[object] | torch_data.Dataset[object]) -> SourceData:
    """Return what a data set or a loader holds."""
    source = x.dataset if isinstance(x, torch_data.DataLoader) else x
    labels = class_names(source)
    if isinstance(x, torch_data.DataLoader):
        batches = [as_item(batch) for batch in in_own_order(x)]
        if not batches:
            raise InputError("x: a loader without any batch")
        single = x.batch_size is None and any(map(is_single, batches))
        return SourceData(*joined(batches, stacked if single else together), labels=labels, numbered=True)
    if isinstance(x, torch_data.TensorDataset):
        return SourceData(x.tensors[0], x.tensors[1] if len(x.tensors) > 1 else None)
    large = streamed(x)
    if large is not None:
        return SourceData(*large, labels=labels, numbered=True)
    items = [as_item(item) for item in each(x)]
    if not items:
        raise InputError("x: a data set without any point")
    return SourceData(*joined(items, stacked), labels=labels, numbered=True)


def class_names(source: object) -> Labels | None:
    """Return the classes of a data set that names them; of a part of one, or of several that name the same."""
    if isinstance(source, PartOf) and not isinstance(source, HasClasses):
        return class_names(source.dataset)
    if isinstance(source, MadeOf) and not isinstance(source, HasClasses):
        found = [class_names(each) for each in source.datasets] if isinstance(source.datasets, (list, tuple)) else []
        return found[0] if found and all(labels == found[0] for labels in found) else None
    names = source.classes if isinstance(source, HasClasses) else None
    if not isinstance(names, (list, tuple)) or len(set(map(str, names))) != len(names) or not names:
        return None
    return ClassLabels([str(name) for name in names])


def in_own_order(loader: torch_data.DataLoader[object]) -> Iterable[object]:
    """Return a loader's batches, of one that shuffles those of its data set in order."""
    source, sampler = loader.dataset, loader.sampler
    every = isinstance(sampler, (torch_data.SequentialSampler, torch_data.RandomSampler))
    again = isinstance(sampler, torch_data.RandomSampler) and (sampler.replacement or len(sampler) != len(source))  # type: ignore[arg-type]
    if isinstance(source, torch_data.IterableDataset) or not every or again or loader.batch_size is None:
        return loader
    return torch_data.DataLoader(
        source, loader.batch_size, num_workers=loader.num_workers, collate_fn=loader.collate_fn
    )


def each(source: torch_data.Dataset[object]) -> Iterator[object]:
    """Yield a data set's items."""
    if isinstance(source, torch_data.IterableDataset):
        yield from source
    else:
        for i in range(len(cast(Sequence[object], source))):
            yield source[i]


def streamed(source: torch_data.Dataset[object]) -> tuple[Streamed, object] | None:
    """Return the points of a data set that is too large to be read whole, and its labels; else None."""
    if isinstance(source, torch_data.IterableDataset) or len(cast(Sequence[object], source)) == 0:
        return None
    n, first = len(cast(Sequence[object], source)), np.asarray(as_item(source[0])[0])
    if n * first.nbytes <= IN_MEMORY:
        return None

    def read(rows: np.ndarray) -> np.ndarray:
        return np.stack([np.asarray(as_item(source[int(i)])[0]) for i in rows])

    labels = [as_item(source[i])[1] for i in range(n)]
    known = None if all(label is None for label in labels) else stacked(labels)
    return Streamed(read, (n, *first.shape), first.dtype, "x"), known


def is_single(item: tuple[object, object]) -> bool:
    """Whether an item of a loader is one point, not a batch of some."""
    x, y = (np.ndim(cast(np.ndarray, part)) if part is not None else None for part in item)
    return x == 1 or y == 0


def as_item(item: object) -> tuple[object, object]:
    """Return the points and the labels of an item or a batch: a pair, a dict, or points alone."""
    if isinstance(item, Mapping):
        given = of_mapping(item)
        return as_point(given.x), given.y
    if isinstance(item, (tuple, list)) and item:
        return as_point(item[0]), item[1] if len(item) > 1 else None
    return as_point(item), None


def as_point(point: object) -> object:
    """Return a picture as an array ``[C, H, W]``, with as many bits as it has; anything else as it is."""
    if not isinstance(point, Picture):
        return point.detach().cpu() if isinstance(point, Tensor) else point
    if point.mode not in ("L", "RGB", "I", "F") and not point.mode.startswith("I;16"):
        point = cast(Picture, point.convert("L" if point.mode in ("1", "LA") else "RGB"))
    pixels = np.asarray(point)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def joined(parts: list[tuple[object, object]], join: Callable[[list[object]], object]) -> tuple[object, object]:
    """Return all points, and all labels where there are some."""
    labels = [y for _, y in parts]
    return join([x for x, _ in parts]), None if all(y is None for y in labels) else join(labels)


def together(batches: list[object]) -> object:
    """Return batches as one."""
    if all(isinstance(batch, Tensor) for batch in batches):
        return torch.cat(cast(list[Tensor], batches))
    return np.concatenate([np.asarray(batch) for batch in batches])


def stacked(rows: Sequence[object]) -> object:
    """Return points or labels, one each, as an array; nested lists of numbers or words stay as they are."""
    rows = [as_point(row) for row in rows]
    if rows and all(isinstance(row, Tensor) for row in rows):
        tensors = cast(list[Tensor], rows)
        shapes = {tuple(row.shape) for row in tensors}
        if len(shapes) > 1:
            raise InputError(f"x: points of different shapes, {shown(sorted(shapes)[:3])}; one shape is needed")
        return torch.stack(tensors)
    if any(row is None or isinstance(row, (str, bytes)) for row in rows):
        return np.array(rows, dtype=object)
    return rows
