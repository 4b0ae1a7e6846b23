"""New data for a trained run: any file or folder, read as the run's model takes its points, every row of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .. import data as datasets
from ..data.annotated import encode_h5ad, is_annotated
from ..data.checks import check_bytes, hint, shown
from ..data.folder import new_images
from ..data.images import SUFFIXES, decode, white_of
from ..data.schema import is_table
from ..data.sources import NAMES
from ..data.tables import as_frame, encode_frame, given_cells, held_rows
from ..errors import InputError, counted
from ..models import Model
from .config import Json, experiment_of
from .data import check_shape
from .new_arrays import as_points, shaped, usual_arrays
from .new_labels import array_labels, folder_labels, renumbered

if TYPE_CHECKING:
    import pandas as pd

Given: TypeAlias = "Sequence[pd.Series]"


@dataclass(frozen=True, eq=False)
class NewPoints:
    """Points of a file or folder, and what it says of them.

    :param name: the file or folder.
    :param count: N.
    :param read: some of the points, as the model takes them.
    :param y: labels, int64 ``[N]`` or ``[N, A]`` by the model's numbers, -1 where missing; None where there are none.
    :param ids: a name a row, or its number.
    :param id_name: what ``ids`` are: ``id``, ``file`` or ``row``.
    :param about: which rows of the data these are, where not all.
    :param test: the rows that the file itself says are for the test; None where it says nothing.
    :param given: the cells of some rows as the file has them, a column each, missing where the model sees none; None
        where it has none but the points.
    """

    name: str
    count: int
    read: Callable[[slice], Tensor]
    y: Tensor | None
    ids: Sequence[str | int]
    id_name: str = "row"
    about: str = ""
    test: Tensor | None = None
    given: Callable[[slice], Given] | None = None

    def judged(self) -> tuple[Tensor, Tensor | None, str]:
        """The points that a model is judged on, their labels, and which they are in words.

        These are all rows, unless the file itself sets some apart for the test.
        """
        x = self.read(slice(0, self.count))
        if self.test is None:
            return x, self.y, f"{counted(self.count, 'point')}{self.about and ', ' + self.about}"
        y = None if self.y is None else self.y[self.test]
        return x[self.test], y, f"{len(self.test)} of {counted(self.count, 'point')}, its test part"


def read_new(where: str, model: Model, config: Json, run: Path) -> NewPoints:
    """Return all points of new data, as a run's model takes them.

    :param where: an ``.npz``, ``.npy`` or ``.h5ad`` file, a table, an image's file, a folder of images, or a data set's
        name, of which these are the test points.
    :param config: the run's ``config.json``.
    :raises InputError: naming the file and the row, or what does not fit the model.
    """
    path = Path(where)
    if where.partition(":")[0] in NAMES:
        return of_name(where, model, config, run)
    if path.is_dir() and not is_table(path):
        return of_folder(path, model)
    if not path.exists():
        if path.suffix or len(path.parts) > 1:
            raise InputError(f"--data {where[:300]}: no such file or folder")
        raise InputError(f"--data {shown(where)}: no such data set, file or folder{hint(where, NAMES)}")
    suffix = path.suffix.lower()
    if is_table(path):
        return of_table(path, model)
    if not path.is_file():
        raise InputError(f"--data {where}: not a file")
    if is_annotated(path):
        return of_annotated(path, model, experiment_of(config, run).source.target)
    if suffix in (".npz", ".npy"):
        return of_arrays(path, model)
    if suffix in SUFFIXES:
        read = images([path], image_shape(model, f"--data {where}"), model.white_level)
        return NewPoints(where, 1, read, None, [path.name], "file")
    raise InputError(
        f"--data {where}: an .npz or .h5ad file, a table (.csv, .tsv, .parquet), an image or a folder is needed"
    )


def of_name(where: str, model: Model, config: Json, run: Path) -> NewPoints:
    """The test points of a data set that has a name."""
    source = experiment_of(config, run).source
    dataset = datasets.load(where, image_size=source.image_size, attributes=source.attributes or None)
    check_shape(model, dataset.input_shape, f"--data {where}")
    y = None if model.labels is None else renumbered(model.labels, dataset.y_test, dataset.labels, f"--data {where}")
    x = dataset.x_test
    return NewPoints(where, len(x), lambda rows: x[rows], y, range(len(x)), about="its test points")


def of_table(path: Path, model: Model) -> NewPoints:
    """The rows of a table, by the columns that the run's data had."""
    schema = model.schema
    if schema is None:
        raise InputError(
            f"--data {path}: a table, but the run was not trained on one; an .npz file or a folder is needed"
        )
    frame = as_frame(path, schema)
    x, y, ids = encode_frame(frame, schema, str(path))
    if not len(x):
        raise InputError(f"--data {path}: no row; at least one is needed")
    known = y if model.labels is not None and schema.targets else None
    test, cells = held_rows(frame, schema), cache(lambda: given_cells(path, schema, x))
    names, called = (range(len(x)), "row") if ids is None else (ids, schema.id or "id")

    def given(rows: slice) -> Given:
        return [column[rows] for column in cells()]

    return NewPoints(str(path), len(x), lambda rows: x[rows], known, names, called, test=test, given=given)


def of_annotated(path: Path, model: Model, target: Sequence[str]) -> NewPoints:
    """The observations of an annotated matrix by their names, its variables in the order that the run's data had."""
    if model.schema is not None:
        raise InputError(f"--data {path}: an annotated matrix, but the run was trained on a table; one is needed")
    x, y, names = encode_h5ad(path, model.column_names, model.labels, target)
    check_shape(model, tuple(x.shape[1:]), f"--data {path}")
    return NewPoints(str(path), len(x), lambda rows: x[rows], y, names, "id")


def of_arrays(path: Path, model: Model) -> NewPoints:
    """The points of a file's arrays: those of ``x``, then those of ``x_test``."""
    arrays = usual_arrays(path)
    parts, ys = [], []
    for name, label in (("x", "y"), ("x_test", "y_test")):
        if name not in arrays:
            continue
        points = shaped(arrays[name], model.input_shape, f"--data {path}: {name}", model.white_level)
        given = None
        if label in arrays:
            given = array_labels(arrays[label], arrays.get("names"), model.labels, f"--data {path}: {label}")
            if len(arrays[label]) != len(points):
                rows = f"{label} has {len(arrays[label])} rows, but {name} has {len(points)}"
                raise InputError(f"{path}: {rows}; both need the same number")
        parts.append(points)
        ys.append(given)
    x, known = torch.cat([as_points(part) for part in parts]), None
    if model.labels is not None and any(y is not None for y in ys):
        known = torch.cat([model.labels.check(None, len(part)) if y is None else y for part, y in zip(parts, ys)])
    test = torch.arange(len(parts[0]), len(x)) if len(parts) > 1 else None
    return NewPoints(str(path), len(x), lambda rows: x[rows], known, range(len(x)), test=test, given=of_file(parts))


def of_file(parts: Sequence[np.ndarray]) -> Callable[[slice], Given] | None:
    """Return what gives the numbers of some rows as a file has them, a column each; None for pixels."""
    import pandas as pd

    if any(part.dtype == np.uint8 for part in parts):
        return None

    def columns(rows: slice) -> Given:
        some = (parts[0] if len(parts) == 1 else np.concatenate(parts))[rows]
        dtype = np.dtype(np.float32) if some.dtype == np.float16 else some.dtype.newbyteorder("=")
        return [pd.Series(column) for column in some.reshape(len(some), -1).T.astype(dtype)]

    return columns


def image_shape(model: Model, where: str) -> tuple[int, int, int]:
    """Return the shape of a model's images; raise :class:`InputError` where its points are no images."""
    if len(model.input_shape) != 3 or model.input_shape[0] not in (1, 3):
        raise InputError(f"{where}: images, but the model's points have shape {list(model.input_shape)}")
    channels, height, width = model.input_shape
    return channels, height, width


def images(paths: Sequence[Path], shape: tuple[int, int, int], white_level: int | None) -> Callable[[slice], Tensor]:
    """Return what decodes some of the files, uint8 ``[N, C, H, W]``.

    :param white_level: what was white in the images of 16 bits of the training; None where it had none.
    """
    white = white_of(paths, white_level)

    def read(rows: slice) -> Tensor:
        some = paths[rows]
        check_bytes(len(some) * int(np.prod(shape)), f"{len(some)} images")
        pixels = (decode(path, grey=shape[0] == 1, size=shape[1:], white=white) for path in some)
        return torch.stack([torch.from_numpy(each.copy()) for each in pixels])

    return read


def of_folder(folder: Path, model: Model) -> NewPoints:
    """The images of a folder and below, with the labels of ``labels.csv`` or of folders that are named as classes.

    They are read as for training, but an image that ``labels.csv`` does not list has no label.
    """
    shape = image_shape(model, f"--data {folder}")
    table, paths, listed = new_images(folder)
    y = folder_labels(folder, table, listed, model.labels)
    some = table.test is not None and bool(table.test.any()) and not bool(table.test.all())
    test = table.test.nonzero().squeeze(1) if some and table.test is not None else None
    read = images(paths, shape, model.white_level)
    return NewPoints(str(folder), len(paths), read, y, table.files, "file", test=test)
