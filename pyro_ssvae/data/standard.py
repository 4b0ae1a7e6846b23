"""Well-known pictures: scikit-learn's digits, MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import math
import zlib
from functools import partial
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..labels import ClassLabels
from .checks import check_bytes, reason, shown
from .dataset import Dataset
from .download import downloaded
from .images import ImageSize, resize
from .splits import split_rows

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist lies."""
FASHION_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def load_digits(*, image_size: ImageSize = None) -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits, float32 ``[N, 1, 8, 8]``; a stratified fifth is the test."""
    from sklearn import datasets

    source = datasets.load_digits()
    x = resize(torch.from_numpy(source.images / 16).float().unsqueeze(1), image_size)
    y = torch.from_numpy(source.target).long()
    rows, held = split_rows(y)
    return Dataset("digits", x[rows], y[rows], x[held], y[held], ClassLabels(10))


def load_mnist(root: Path, *, image_size: ImageSize = None) -> Dataset:
    """Return MNIST with its official split, uint8 ``[N, 1, 28, 28]``, from ``root/MNIST/raw`` (torchvision's layout).

    Its files are read gzipped or plain, from a read-only folder too, and are downloaded where one is absent.

    :raises InputError: a file is damaged, or absent and the download fails.
    """
    return _idx_dataset("mnist", root, "MNIST", (), (), image_size)


def load_fashion_mnist(root: Path, *, image_size: ImageSize = None) -> Dataset:
    """Return Fashion-MNIST as :func:`load_mnist` does, from ``root/FashionMNIST/raw`` or Debian's package."""
    return _idx_dataset("fashion-mnist", root, "FashionMNIST", (DEBIAN_FASHION,), FASHION_NAMES, image_size)


def _idx_dataset(
    name: str, root: Path, torchvision_name: str, elsewhere: tuple[Path, ...], names: tuple[str, ...], size: ImageSize
) -> Dataset:
    folder = root / torchvision_name / "raw"
    found = next((place for place in (folder, *elsewhere) if all(_find(place, file) for file in FILES)), None)
    if found is None:
        from torchvision import datasets

        files, holder = f"{FILES[0]}.gz and its three companions", f"{torchvision_name}/raw"
        fetch = partial(getattr(datasets, torchvision_name), root, download=True)
        downloaded(fetch, name, folder, files, holder)
        found = folder
    x, y, x_test, y_test = (read_idx(_find(found, file) or found / file) for file in FILES)
    for images, labels, file in ((x, y, FILES[1]), (x_test, y_test, FILES[3])):
        if images.dim() != 3 or labels.dim() != 1 or len(images) != len(labels) or images.numel() == 0:
            raise InputError(f"{found / file}: {list(labels.shape)} labels for {list(images.shape)} images")
        if bool((labels > 9).any()):
            raise InputError(f"{found / file}: a label of {int(labels.max())}; 0 to 9 are expected")
    x, x_test = resize(x.unsqueeze(1), size), resize(x_test.unsqueeze(1), size)
    return Dataset(name, x, y.long(), x_test, y_test.long(), ClassLabels(10, names))


def read_idx(path: Path) -> Tensor:
    """Return a file of LeCun's idx format, plain or gzipped (by its suffix), as uint8 of the shape it says.

    :raises InputError: it is absent, of another format, of another length than it says, or too large.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(4)
            if len(start) < 4 or start[:3] != b"\0\0\x08" or not 1 <= start[3] <= 4:
                raise InputError(f"{path}: not an idx file of bytes (it starts with {shown(start)}); download it again")
            shape = [int.from_bytes(file.read(4), "big") for _ in range(start[3])]
            check_bytes(math.prod(n or 1 for n in shape), str(path))  # NumPy has no larger shape, even of nothing
            content = _read(file, math.prod(shape))
            # reading on makes gzip compare its checksum
            if len(content) < math.prod(shape) or file.read(1):
                raise InputError(f"{path}: its length is not that of the {shape} it says; download it again")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged or cut short ({reason(error)}); download it again") from None
    return torch.from_numpy(np.frombuffer(content, np.uint8).reshape(shape).copy())


def _read(file: BufferedIOBase, size: int) -> bytes:
    """Read ``size`` bytes, or as many as there are, and take no more memory than the file fills, whatever it claims."""
    content = bytearray()
    while piece := file.read(min(size - len(content), 2**20)):
        content += piece
    return bytes(content)


def _find(folder: Path, file: str) -> Path | None:
    """Return the plain or the gzipped file, whichever is there."""
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None)
