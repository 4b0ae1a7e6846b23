"""New data for a trained run: any file or folder, read as the run's model takes its points, every row of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import data as datasets
from ..data.annotated import encode_h5ad, is_annotated
from ..data.arrays import read_npz, white_level
from ..data.checks import check_bytes, clean_word, hint, means_missing, shown
from ..data.folder import CSV
from ..data.images import SUFFIXES, decode, white_of
from ..data.label_values import label_values
from ..data.labels_csv import read_labels_csv
from ..data.notices import say
from ..data.schema import is_table
from ..data.sources import NAMES
from ..data.tables import encode
from ..errors import InputError
from ..labels import MISSING, AttributeLabels, ClassLabels, Labels
from ..models import Model
from .config import Json, experiment_of

X_NAMES = ("x", "x_test", "X", "data", "features", "inputs", "images")
Y_NAMES = {"x": ("y", "labels", "label", "target"), "x_test": ("y_test",)}


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
    """

    name: str
    count: int
    read: Callable[[slice], Tensor]
    y: Tensor | None
    ids: Sequence[str | int]
    id_name: str = "row"
    about: str = ""
    test: Tensor | None = None

    def judged(self) -> tuple[Tensor, Tensor | None, str]:
        """The points that a model is judged on, their labels, and which they are in words.

        These are all rows, unless the file itself sets some apart for the test.
        """
        x = self.read(slice(0, self.count))
        if self.test is None:
            return x, self.y, f"{self.count} points{self.about and ', ' + self.about}"
        y = None if self.y is None else self.y[self.test]
        return x[self.test], y, f"{len(self.test)} of {self.count} points, its test part"


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
    if path.is_dir():
        return of_folder(path, model)
    if not path.is_file():
        if path.suffix or len(path.parts) > 1:
            raise InputError(f"--data {where[:300]}: no such file or folder")
        raise InputError(f"--data {shown(where)}: no such data set, file or folder{hint(where, NAMES)}")
    suffix = path.suffix.lower()
    if is_table(path):
        return of_table(path, model)
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
    if dataset.input_shape != model.input_shape:
        shapes = f"{list(dataset.input_shape)}; the model needs {list(model.input_shape)}"
        raise InputError(f"--data {where}: its points have shape {shapes}")
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
    x, y, ids = encode(path, schema)
    if not len(x):
        raise InputError(f"--data {path}: no row; at least one is needed")
    known = y if model.labels is not None and schema.targets else None
    if ids is None:
        return NewPoints(str(path), len(x), lambda rows: x[rows], known, range(len(x)))
    return NewPoints(str(path), len(x), lambda rows: x[rows], known, ids, schema.id or "id")


def of_annotated(path: Path, model: Model, target: Sequence[str]) -> NewPoints:
    """The observations of an annotated matrix by their names, its variables in the order that the run's data had."""
    if model.schema is not None:
        raise InputError(f"--data {path}: an annotated matrix, but the run was trained on a table; one is needed")
    x, y, names = encode_h5ad(path, model.column_names, model.labels, target)
    if tuple(x.shape[1:]) != model.input_shape:
        shapes = f"{list(x.shape[1:])}; the model needs {list(model.input_shape)}"
        raise InputError(f"--data {path}: its points have shape {shapes}")
    return NewPoints(str(path), len(x), lambda rows: x[rows], y, names, "id")


def of_arrays(path: Path, model: Model) -> NewPoints:
    """The points of all arrays of a file."""
    names = tuple(dict.fromkeys([*X_NAMES, *(name for y in Y_NAMES.values() for name in y), "names"]))
    arrays = {"x": read_npy(path)} if path.suffix.lower() == ".npy" else read_npz(path, names)
    found = [name for name in X_NAMES if name in arrays]
    if not found:
        raise InputError(f"--data {path}: no array 'x'; x [N, ...] is needed, or x_test")
    xs, ys = [], []
    for name in found if found[0] in Y_NAMES else found[:1]:
        points = shaped(arrays[name], model.input_shape, f"--data {path}: {name}", model.white_level)
        label = next((y for y in Y_NAMES.get(name, Y_NAMES["x"]) if y in arrays), None)
        given = None
        if label is not None:
            given = array_labels(arrays[label], arrays.get("names"), model.labels, f"{path}: {label}")
        if given is not None and len(given) != len(points):
            rows = f"{label} has {len(given)} rows, but {name} has {len(points)}"
            raise InputError(f"{path}: {rows}; both need the same number")
        xs.append(torch.from_numpy(np.ascontiguousarray(points)))
        ys.append(given)
    x, known = torch.cat(xs), None
    if model.labels is not None and any(y is not None for y in ys):
        known = torch.cat([model.labels.check(None, len(part)) if y is None else y for part, y in zip(xs, ys)])
    test = torch.arange(len(xs[0]), len(x)) if "x_test" in found and len(xs) > 1 else None
    return NewPoints(str(path), len(x), lambda rows: x[rows], known, range(len(x)), test=test)


def read_npy(path: Path) -> np.ndarray:
    """Return an array's file; raise :class:`InputError` where it is damaged, too large, or holds objects."""
    check_bytes(path.stat().st_size, str(path))
    try:
        return np.asanyarray(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0][:200]}); np.save writes one") from None


def shaped(array: np.ndarray, shape: tuple[int, ...], where: str, white: int | None = None) -> np.ndarray:
    """Return points ``[N, *shape]``; a point alone is one row, images may lack their one channel or have it last.

    :param white: the number that was white in the images of the training; None for 255.
    :raises InputError: another shape, no row, or no numbers.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: {array.dtype}; numbers are needed")
    if array.dtype == np.bool_ and len(shape) == 3:
        array = array.astype(np.uint8) * 255
    if array.shape == shape:
        array = array[None]
    if array.ndim == len(shape) and shape[0] == 1 and len(shape) > 1 and array.shape[1:] == shape[1:]:
        array = array[:, None]
    last = (*shape[1:], shape[0])
    if len(shape) > 1 and array.ndim == len(shape) + 1 and array.shape[1:] == last and array.shape[1:] != shape:
        array = np.moveaxis(array, -1, 1)
    if len(shape) > 1 and array.shape == last and array.shape != shape:
        array = np.moveaxis(array, -1, 0)[None]
    if array.shape[1:] != shape:
        raise InputError(f"{where}: its points have shape {list(array.shape[1:])}; the model needs {list(shape)}")
    if not len(array):
        raise InputError(f"{where}: no row; at least one is needed")
    return in_range(array, where, white) if len(shape) == 3 and array.dtype.kind in "iu" else array.astype(np.float32)


def in_range(array: np.ndarray, where: str, white: int | None) -> np.ndarray:
    """Return images of whole numbers as the training read them: of 8 bits as they are, else floats in [0, 1]."""
    if white == 1 or array.dtype == np.uint16:
        found, how = white_level([array], white)
        if how is not None:
            say(f"{where}: {how}")
        if found is not None:
            return (array.astype(np.float32) / np.float32(found)).clip(0, 1)
    if array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    return array.astype(np.float32)


def array_labels(y: np.ndarray, names: np.ndarray | None, labels: Labels | None, where: str) -> Tensor | None:
    """Return labels by the model's numbers: of words, or of numbers with or without the file's own ``names``.

    :raises InputError: a class or attribute that the model lacks, or another shape.
    """
    if labels is None:
        return None
    words = None if names is None else [clean_word(str(name), where) for name in names.tolist()]
    if y.dtype.kind in "US" and isinstance(labels, ClassLabels) and y.ndim == 1:
        return labels.check(label_values(y, labels, where), len(y))
    if y.dtype.kind not in "biuf":
        raise InputError(f"{where}: {y.dtype} {list(y.shape)}; labels as the model has them are needed")
    whole = torch.from_numpy(np.nan_to_num(y, nan=MISSING) if y.dtype.kind == "f" else y.astype(np.int64))
    if words is None:
        return labels.check(whole, len(y))
    own: Labels = ClassLabels(len(words), words) if y.ndim == 1 else AttributeLabels(words)
    return renumbered(labels, own.check(whole, len(y)), own, where)


def renumbered(labels: Labels, y: Tensor, own: Labels, where: str) -> Tensor:
    """Return labels of data by the numbers that a model has for their names.

    :param own: what ``y`` means.
    :raises InputError: a known label of a class, or an attribute, that the model lacks.
    """
    names, known = list(own.names), list(labels.names)
    if isinstance(labels, ClassLabels) != isinstance(own, ClassLabels):
        raise InputError(f"{where}: labels {', '.join(names)[:200]}; the model's differ")
    if isinstance(labels, AttributeLabels):
        for name in names:
            if name not in known:
                raise InputError(f"{where}: attribute {shown(name)} is none of the model's{hint(name, known)}")
        result = labels.check(None, len(y))
        result[:, [known.index(name) for name in names]] = y
        return result
    for k in y[y != MISSING].unique().tolist():
        if names[k] not in known:
            raise InputError(f"{where}: class {shown(names[k])} is none of the model's{hint(names[k], known)}")
    numbers = [known.index(name) if name in known else MISSING for name in names]
    return torch.where(y == MISSING, y, torch.tensor(numbers)[y.clamp_min(0)])


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
    """The images of a folder and below, with the labels of ``labels.csv`` or of folders that are named as classes."""
    shape = image_shape(model, f"--data {folder}")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    paths = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not paths:
        raise InputError(f"--data {folder}: no image; files such as .png or .jpg are needed")
    names = [path.relative_to(folder).as_posix() for path in paths]
    y, test = folder_labels(folder, names, model.labels), None
    if (folder / CSV).is_file():
        y, test = listed_labels(folder / CSV, names, model.labels)
    return NewPoints(str(folder), len(paths), images(paths, shape, model.white_level), y, names, "file", test=test)


def listed_labels(path: Path, names: Sequence[str], labels: Labels | None) -> tuple[Tensor | None, Tensor | None]:
    """Return the labels that ``labels.csv`` has for the images, and the test rows where it has both kinds.

    An image that it does not list has no label.
    """
    table = read_labels_csv(path)
    place = {name: i for i, name in enumerate(names)}
    absent = [name for name in table.files if name not in place]
    if absent:
        raise InputError(f"{path}: {shown(absent[0])} is not in the folder; take the row out")
    rows = torch.tensor([place[name] for name in table.files])
    some = table.test is not None and bool(table.test.any()) and not bool(table.test.all())
    test = rows[table.test] if some else None
    if labels is None:
        return None, test
    y = labels.check(None, len(names))
    y[rows] = renumbered(labels, table.y, table.labels, str(path))
    return y, test


def folder_labels(folder: Path, names: Sequence[str], labels: Labels | None) -> Tensor | None:
    """Return the labels of images in folders that are named as classes; None where none is."""
    if not isinstance(labels, ClassLabels) or (folder / CSV).is_file():
        return None
    parents = [Path(name).parent.name for name in names]
    of_class = {name: k for k, name in enumerate(labels.names)}
    y = torch.tensor([of_class.get(parent, MISSING) for parent in parents])
    if not bool((y != MISSING).any()):
        return None
    for parent in sorted(set(parents) - of_class.keys() - {"", "train", "test"}):
        if not means_missing(parent, labels.names):
            raise InputError(f"{folder}: folder {shown(parent)} is no class of the model{hint(parent, labels.names)}")
    return y
