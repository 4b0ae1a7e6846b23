"""UCI-HAR: six activities from a phone at the waist, as 561 features or as windows of nine signals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..labels import ClassLabels
from .checks import MAX_BYTES, finite, read_bytes, reason, shown
from .class_words import MAX_CLASSES
from .dataset import Dataset

FOLDER = "UCI HAR Dataset"
SIGNALS = tuple(f"{signal}_{axis}" for signal in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
SOURCE = "UCI Machine Learning Repository, 'Human Activity Recognition Using Smartphones'"


def load_har(root: Path) -> Dataset:
    """Return the 561 features, float32 ``[N, 561]``, and the activities, split by subject as UCI did.

    :param root: holds the folder ``UCI HAR Dataset`` as UCI ships it, or is it.
    :raises InputError: a file is absent, damaged, or does not fit the others.
    """
    folder = _folder(root)
    width = len(_text(folder / "features.txt").splitlines())
    splits = {}
    for split in ("train", "test"):
        path = folder / split / f"X_{split}.txt"
        splits[split] = finite(_numbers(path), str(path))
        if splits[split].shape[1] != width:
            raise InputError(f"{path}: {splits[split].shape[1]} columns, but features.txt names {width}")
    return _with_activities("har", folder, splits["train"], splits["test"])


def load_har_windows(root: Path) -> Dataset:
    """Return the raw windows, float32 ``[N, 9, 128]``: nine signals (:data:`SIGNALS`), 2.56 s at 50 Hz.

    Otherwise as :func:`load_har`.
    """
    folder = _folder(root)
    splits = {}
    for split in ("train", "test"):
        signals = []
        for signal in SIGNALS:
            path = folder / split / "Inertial Signals" / f"{signal}_{split}.txt"
            signals.append(finite(_numbers(path), str(path)))
            if signals[-1].shape != signals[0].shape:
                raise InputError(
                    f"{path}: {list(signals[-1].shape)} numbers, but {SIGNALS[0]}_{split}.txt has "
                    f"{list(signals[0].shape)}; the signals need one shape"
                )
        splits[split] = torch.stack(signals, 1)
    if splits["train"].shape[2] != splits["test"].shape[2]:
        steps = splits["train"].shape[2], splits["test"].shape[2]
        raise InputError(f"{folder}: windows of {steps[0]} steps in train, {steps[1]} in test; one length is needed")
    return _with_activities("har-windows", folder, splits["train"], splits["test"])


def _folder(root: Path) -> Path:
    for folder in (root / FOLDER, root):
        if (folder / "activity_labels.txt").is_file():
            return folder
    if (root / f"{FOLDER}.zip").is_file():
        raise InputError(f"{root / FOLDER}.zip: unpack it there; the folder {FOLDER} is needed")
    raise InputError(f"har: no folder {root / FOLDER}; unpack there what {SOURCE} offers, or set PYRO_SSVAE_DATA")


def _with_activities(name: str, folder: Path, x: Tensor, x_test: Tensor) -> Dataset:
    path = folder / "activity_labels.txt"
    names = []
    for line, text in enumerate(_text(path).splitlines(), 1):
        number, _, activity = text.strip().partition(" ")
        if number != str(line) or not activity.strip() or activity.strip() in names or line > MAX_CLASSES:
            raise InputError(f"{path}: line {line} is {shown(text)}; '{line} ACTIVITY' is needed, each only once")
        names.append(activity.strip())
    if not names:
        raise InputError(f"{path}: empty; lines such as '1 WALKING' are needed")
    ys = []
    for split, points in (("train", x), ("test", x_test)):
        path = folder / split / f"y_{split}.txt"
        numbers = _numbers(path)
        if numbers.shape != (len(points), 1):
            raise InputError(f"{path}: {list(numbers.shape)} numbers for {len(points)} points; one a line is needed")
        wrong = ~np.isin(numbers[:, 0], np.arange(1, len(names) + 1))
        if wrong.any():
            line = int(wrong.argmax()) + 1
            raise InputError(f"{path}: line {line} is {numbers[line - 1, 0]:g}; activities are 1 to {len(names)}")
        ys.append(torch.from_numpy(numbers[:, 0].astype(np.int64) - 1))
    return Dataset(name, x, ys[0], x_test, ys[1], ClassLabels(len(names), names))


def _text(path: Path) -> str:
    try:
        return read_bytes(path, MAX_BYTES // 4).decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8; unpack the original again") from None


def _numbers(path: Path) -> np.ndarray:
    """Return a table of numbers, float32 ``[N, D]``; raise :class:`InputError` naming the first line that differs."""
    lines = [line for line in _text(path).splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path}: empty; lines of numbers are needed")
    try:
        return np.loadtxt(lines, dtype=np.float32, comments=None, ndmin=2)
    except ValueError as error:
        width = len(lines[0].split())
        for number, line in enumerate(lines, 1):
            if len(line.split()) != width or not _all_numbers(line):
                raise InputError(f"{path}: line {number} is not {width} numbers as line 1; it is damaged") from None
        raise InputError(f"{path}: not a table of numbers ({reason(error)})") from None


def _all_numbers(line: str) -> bool:
    try:
        return bool([float(word) for word in line.split()])
    except ValueError:
        return False
