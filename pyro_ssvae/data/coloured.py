"""CIFAR-10 and SVHN, small pictures in colour, from torchvision's files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ..labels import ClassLabels
from .dataset import Dataset
from .download import downloaded
from .images import ImageSize, resize

T = TypeVar("T")


def load_cifar10(root: Path, *, image_size: ImageSize = None) -> Dataset:
    """Return CIFAR-10 with its official split, uint8 ``[N, 3, 32, 32]``, from ``root/cifar-10-batches-py``.

    :raises InputError: a file is absent or damaged, and the download fails.
    """
    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10.base_folder
    files = f"the files of {CIFAR10.filename}"
    parts = [
        kept_or_downloaded(partial(CIFAR10, root, train), "cifar10", folder, files, f"{CIFAR10.base_folder}/")
        for train in (True, False)
    ]
    (x, y), (x_test, y_test) = ((torch.from_numpy(p.data).permute(0, 3, 1, 2), torch.tensor(p.targets)) for p in parts)
    return _dataset("cifar10", (x, y, x_test, y_test), parts[0].classes, image_size)


def load_svhn(root: Path, *, image_size: ImageSize = None) -> Dataset:
    """Return the Street View House Numbers with their official split, uint8 ``[N, 3, 32, 32]``.

    Its files are ``root/train_32x32.mat`` and ``root/test_32x32.mat``; the 531,131 extra pictures are not read.

    :raises InputError: a file is absent or damaged, and the download fails.
    """
    from torchvision.datasets import SVHN

    parts = []
    for split in ("train", "test"):
        file = SVHN.split_list[split][1]
        parts.append(kept_or_downloaded(partial(SVHN, root, split), "svhn", root, file, file))
    (x, y), (x_test, y_test) = ((torch.from_numpy(p.data), torch.from_numpy(p.labels)) for p in parts)
    return _dataset("svhn", (x, y, x_test, y_test), (), image_size)


def kept_or_downloaded(make: Callable[..., T], name: str, place: Path, files: str, holder: str) -> T:
    """Return a data set of torchvision's, which compares checksums; it is downloaded where a file is not right."""
    try:
        return make(download=False)
    except RuntimeError:  # not found, or damaged
        return downloaded(partial(make, download=True), name, place, files, holder)


def _dataset(name: str, arrays: tuple[Tensor, ...], names: Iterable[str], size: ImageSize) -> Dataset:
    x, y, x_test, y_test = arrays
    x, x_test = (resize(part.contiguous(), size) for part in (x, x_test))
    return Dataset(name, x, y.long(), x_test, y_test.long(), ClassLabels(10, tuple(names)))
