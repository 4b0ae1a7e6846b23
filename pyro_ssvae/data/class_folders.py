"""Images in one folder a class, as torchvision and most tools lay them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import InputError, counted
from ..labels import MISSING
from .checks import shown
from .class_words import class_labels, clean_word, encode_words, means_missing
from .images import NOT_READ, SUFFIXES
from .labels_csv import Table
from .notices import say
from .schema import is_table
from .split_words import TRAIN, parts_of, said_of_validation

NO_CLASS = frozenset({"unlabeled", "unlabelled", "unsup", "unsupervised"})
"""Folders of images without a label, in small letters."""


def is_image(path: Path) -> bool:
    """Whether a file's ending is that of an image, and neither it nor a folder on its way is hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def by_folders(folder: Path, files: Mapping[str, Path]) -> Table:
    """Return each image's label: the folder that it lies in.

    ``CLASS/….jpg``, or ``train/CLASS/….jpg`` and ``test/CLASS/….jpg``. Images outside of any class's folder, or in
    ``unlabeled``, have no label. ``val`` is the test where there is no ``test``, else part of the training. Folders
    within a class's are the class's too. How it was read is said.

    :param files: all files by their names relative to the folder.
    :raises InputError: there is no image.
    """
    names = [name for name, path in files.items() if is_image(path) and not hidden(name)]
    others = Counter(path.suffix.lower() for name, path in files.items() if not hidden(name))
    unread = ", ".join(f"{n} {suffix}" for suffix, n in sorted(others.items()) if suffix in NOT_READ)
    unread = unread and f"{unread} are not read; {', '.join(sorted(SUFFIXES))} are"
    table = next(filter(is_table, files), None)
    if not names:
        what = f"a table is given by its own path, such as {folder / table}" if table else unread
        what = what or "images, in a folder a class or with labels.csv, are needed"
        raise InputError(f"{folder}: no image in it; {what}")
    if unread:
        say(f"{folder}: {unread}")
    parts = [name.split("/")[:-1] for name in names]
    splits = split_folders(parts)
    words, test = [], []
    for folders in parts:
        split = splits.get(folders[0].lower()) if folders else None
        own = folders[1:] if split is not None else folders
        test.append(split == "test")
        words.append("" if not own or own[0].lower() in NO_CLASS else clean_word(own[0], str(folder)))
    if table and not any(words):
        say(f"{folder}: {shown(table)} is not read; a list of labels is named labels.csv")
    counts = Counter(words)
    sure = [word for word in counts if word and not means_missing(word, ())]
    (y,), found = encode_words([words], None, f"{folder}: folders", "rename the folder")
    labels = class_labels(found)
    say(described(folder, counts, len(names), int((y == MISSING).sum()), sure, any(test), splits))
    if empty := without_images(folder, parts) if sure else []:
        say(f"{folder}: {', '.join(map(shown, empty[:5]))}: no image in it, and no class")
    files_of = [unicodedata.normalize("NFC", name) for name in names]
    return Table(files_of, y, labels, torch.tensor(test) if splits else None)


def without_images(folder: Path, parts: list[list[str]]) -> list[str]:
    """Return the folders in a folder that hold no image."""
    filled = {folders[0] for folders in parts if folders}
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.is_symlink()]
    names = [unicodedata.normalize("NFC", path.name) for path in found]
    return [name for name in names if name not in filled and not hidden(f"{name}/") and name.lower() not in NO_CLASS]


def hidden(name: str) -> bool:
    """Whether a folder on the way to a file is hidden, or a system's own."""
    return any(part.startswith((".", "__")) for part in name.split("/")[:-1])


def split_folders(parts: list[list[str]]) -> dict[str, str]:
    """Return which folders are splits: ``train`` and ``test``, or validation, beside each other.

    Beside ``bus`` and ``car``, and without folders of its own, ``train`` is a class.
    """
    tops = {folders[0].lower() for folders in parts if folders}
    found = parts_of(tops)
    deep = any(len(folders) > 1 and folders[0].lower() in found for folders in parts)
    if not set(TRAIN) & set(found) or not (deep or tops <= set(found) | NO_CLASS):
        return {}
    return found | dict.fromkeys(tops & NO_CLASS, "train")


def described(
    folder: Path, counts: Counter[str], n: int, missing: int, classes: list[str], split: bool, splits: dict[str, str]
) -> str:
    """Return how a folder was read, in words."""
    if not classes:
        return f"{folder}: {counted(n, 'image')}, no folders of classes: none has a label"
    some = ", ".join(f"{shown(word)} {counts[word]}" for word in sorted(classes)[:6]) + " …" * (len(classes) > 6)
    parts = "; train and test by their folders" if split else ""
    parts += f"; {validation}" if (validation := said_of_validation(splits)) else ""
    return f"{folder}: {counted(n, 'image')}, a folder a class: {some}; {missing} without a label{parts}"
