"""One's own folder of images: with ``labels.csv``, or with a folder a class."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..labels import Labels
from .checks import check_bytes, reason, shown
from .class_folders import by_folders, hidden, is_image
from .class_words import untaught
from .dataset import Dataset
from .images import ImageSize, decode, height_width, inspect, white_of
from .labels_csv import Table, is_list, read_labels_csv
from .notices import say
from .split_words import Part
from .splits import held_out_words, split_rows


def load_folder(folder: Path, *, image_size: ImageSize = None) -> Dataset:
    """Return the images of a folder, uint8 ``[N, C, S, S]``, and their labels.

    Without ``labels.csv`` the folder that an image lies in is its class
    (:func:`~pyro_ssvae.data.class_folders.by_folders`). With it, every image in the folder and below needs a row, with
    an empty cell where its label is missing; hidden files are left alone. Names may differ in the case of letters, or
    lack a folder or an ending, where one image is meant. Without a column ``split``, a stratified fifth of the images
    is the test.

    C is 1 where all images are grey, else 3. ``image_size`` decides on S; without it S is 28 where the shorter side
    is at most 32 in the median, else 64. An image's largest centred part of that shape is scaled.

    :raises InputError: naming the file or the row.
    """
    size = height_width(image_size)
    table, paths = _listed(folder)
    train, test = _split(table.y, table.test, folder)
    array, white = _read(paths, size, str(folder))
    pixels, name = torch.from_numpy(array), folder.resolve().name
    if table.test is None or not bool(table.test.any()):
        say(f"{folder}: {held_out_words(table.y, test, 'images')}")
    parts = (pixels[train], table.y[train], pixels[test], table.y[test])
    if line := untaught(table.y[train], table.y[test], table.labels.names):
        say(f"{folder}: {line}")
    return Dataset(name, *parts, table.labels, white_level=white)


def new_images(folder: Path) -> tuple[Table, list[Path], bool]:
    """Return the table of a folder's images, as :func:`load_folder` reads it, the files, and whether it is listed.

    An image that ``labels.csv`` does not list has no label.

    :raises InputError: naming the file or the row.
    """
    files = _files(folder)
    csv = _list_in(files)
    if csv is None:
        table = by_folders(folder, files)
        return table, [files[name] for name in table.files], False
    table = read_labels_csv(folder / csv)
    names = _found(table.files, files, folder / csv)
    listed = set(names)
    more = [name for name, path in files.items() if name not in listed and is_image(path) and not hidden(name)]
    y = torch.cat([table.y, table.labels.check(None, len(more))])
    test = None if table.test is None else torch.cat([table.test, torch.zeros(len(more), dtype=torch.bool)])
    names += more
    order = sorted(range(len(names)), key=names.__getitem__)
    table = Table([names[i] for i in order], y[order], table.labels, None if test is None else test[order])
    return table, [files[name] for name in table.files], True


def _list_in(files: Iterable[str]) -> str | None:
    """Return the name of the list of labels among files; None where there is none."""
    return next(filter(is_list, files), None)


def _listed(folder: Path) -> tuple[Table, list[Path]]:
    """Return the table of the images and the file of each row: of ``labels.csv``, or else by the images' folders."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files = _files(folder)
    csv = _list_in(files)
    if csv is None:
        table = by_folders(folder, files)
        return table, [files[name] for name in table.files]
    _check_within(folder / csv, os.path.realpath(folder), str(folder))
    table = read_labels_csv(folder / csv)
    names = _found(table.files, files, folder / csv)
    listed = set(names)
    unlisted = [name for name, path in files.items() if name not in listed and is_image(path)]
    if unlisted:
        more = f" (and {len(unlisted) - 1} more)" if len(unlisted) > 1 else ""
        raise InputError(
            f"{folder / csv}: no row for {shown(unlisted[0])}{more}; each image needs one, with an empty cell "
            "where its label is missing"
        )
    return replace(table, files=names), [files[name] for name in names]


def _found(names: list[str], files: dict[str, Path], csv: Path) -> list[str]:
    """Return the files that rows name; the case of letters, the folder before a name and the ending behind it may
    differ where one image alone is meant.

    :raises InputError: a name of no file, or of several, or two names of one.
    """
    paths = {name: PurePosixPath(name) for name in files}
    ways = [
        _images_by({name: name.lower() for name in files}, files),
        _images_by({name: path.with_suffix("").as_posix() for name, path in paths.items()}, files),
        _images_by({name: path.name.lower() for name, path in paths.items()}, files),
        _images_by({name: path.stem for name, path in paths.items()}, files),
    ]
    found, absent = [], []
    for name in names:
        keys = (name.lower(), name, name.lower(), name)
        others = next((images for way, key in zip(ways, keys) if (images := way.get(key))), [])
        candidates = [name] if name in files else others
        if len(candidates) > 1:
            several = ", ".join(map(shown, candidates[:3]))
            raise InputError(f"{csv}: {shown(name)} may be {several}; a row must name one file")
        absent += [] if candidates else [name]
        found += candidates
    if absent:
        more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        raise InputError(f"{csv}: {shown(absent[0])}{more} is not in the folder; every row must name a file in it")
    twice = next((name for name, n in Counter(found).items() if n > 1), None)
    if twice is not None:
        raise InputError(f"{csv}: two rows name {shown(twice)}; once is enough")
    return found


def _images_by(keys: dict[str, str], files: dict[str, Path]) -> dict[str, list[str]]:
    """Return the images of each key."""
    found: dict[str, list[str]] = {}
    for name, key in keys.items():
        if is_image(files[name]):
            found.setdefault(key, []).append(name)
    return found


def images_of(folder: Path, part: Part, meaning: Labels | None) -> tuple[list[Path], Tensor | None, Labels]:
    """Return the files of a folder's images, their labels and what these mean, without any pixel.

    Of the training those that :func:`load_folder` trains on; of the test those that the folder itself sets apart, else
    all. Which they are is said.

    :param meaning: a pair's labels. Where no folder is named as one of its classes, none is taken for a label.
    :raises InputError: naming the file or the row.
    """
    listed = True
    if part == "train":
        table, paths = _listed(folder)
    else:
        table, paths, listed = new_images(folder)
    _check_files(paths, str(folder))
    rows, n = torch.arange(len(paths)), len(paths)
    apart = table.test is not None and bool(table.test.any()) and not bool(table.test.all())
    if part == "train" or (part == "test" and apart):
        rows = _split(table.y, table.test, folder)[part == "test"]
        say(f"{folder}: {len(rows)} of {n} images, those of the {'training' if part == 'train' else 'test'}")
    elif part == "test" and n > 1:
        seen = len(split_rows(table.y)[0])
        say(f"{folder}: all {n} images are judged; a model that was trained on this folder has seen {seen} of them")
    y = table.y[rows] if listed or meaning is None or set(table.labels.names) & set(meaning.names) else None
    return [paths[i] for i in rows.tolist()], y, table.labels


def training_files(folder: Path) -> list[str]:
    """Return the names of the images of :func:`load_folder`'s training rows, in their order."""
    return files_of_parts(folder)[0]


def files_of_parts(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the images of :func:`load_folder`'s training rows, and of its test's, in their order."""
    table, _ = _listed(folder)
    train, test = _split(table.y, table.test, folder)
    return [table.files[i] for i in train.tolist()], [table.files[i] for i in test.tolist()]


def _check_within(path: Path, root: str, where: str) -> None:
    """Raise :class:`InputError` where a link leads out of ``root``, a real path."""
    if os.path.commonpath([root, os.path.realpath(path)]) != root:
        raise InputError(f"{path}: a link that leads out of {where}; put the file itself there")


def _split(y: Tensor, test: Tensor | None, folder: Path) -> tuple[Tensor, Tensor]:
    """Return the rows of the training and of the test split."""
    if test is None or not bool(test.any()):
        if len(y) < 2:
            raise InputError(f"{_source(folder)}: 1 row; at least 2 are needed, since one is held out for the test")
        return split_rows(y)
    if bool(test.all()):
        raise InputError(f"{_source(folder)}: the split is 'test' in every row; some must be 'train'")
    return (~test).nonzero().squeeze(1), test.nonzero().squeeze(1)


def _source(folder: Path) -> Path:
    """Return what says which image is of which split."""
    return next((file for file in sorted(folder.iterdir()) if is_list(file.name)), folder)


def _files(folder: Path) -> dict[str, Path]:
    """Return all files in and below the folder by relative name, in order; linked folders are not entered, which is
    said.

    A name from ``labels.csv`` is only ever looked up here, so none can lead elsewhere.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{shown(error.filename)}: cannot be read ({reason(error)})")

    found, linked = {}, []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        linked += [name for name in folders if not name.startswith(".") and os.path.islink(os.path.join(place, name))]
        for name in sorted(names):
            path = Path(place, name)
            found[unicodedata.normalize("NFC", path.relative_to(folder).as_posix())] = path
    if linked:
        some = ", ".join(map(shown, linked[:5]))
        say(f"{folder}: {some}: a linked folder is not entered; put the folder itself there")
    return found


def _read(paths: list[Path], size: tuple[int, int] | None, where: str) -> tuple[np.ndarray, int | None]:
    """Return the images as uint8 ``[N, C, *size]``, and what was white in those of 16 bits.

    First all headers are read, then, within bounds, all pixels.
    """
    _check_files(paths, where)
    headers = [inspect(path) for path in paths]
    grey = all(is_grey for is_grey, _ in headers)
    if size is None:
        side = 28 if np.median([side for _, side in headers]) <= 32 else 64
        size = (side, side)
    shape = (len(paths), 1 if grey else 3, *size)
    check_bytes(int(np.prod(shape, dtype=object)), f"{where}: {len(paths)} images of {size[0]} x {size[1]}")
    white = white_of(paths)
    pixels = np.empty(shape, np.uint8)
    for i, path in enumerate(paths):
        pixels[i] = decode(path, grey=grey, size=size, white=white)
    return pixels, white


def _check_files(paths: list[Path], where: str) -> None:
    """Raise :class:`InputError` naming the first that is not a file of this folder."""
    root = os.path.realpath(where)
    for path in paths:
        _check_within(path, root, where)
        if not path.is_file():  # a pipe would wait for ever
            raise InputError(f"{path}: not a file; an image is needed")
