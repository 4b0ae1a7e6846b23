"""From what a person calls a data set, a name or a path, to the data set."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError, nearest
from .arrays import load_npz
from .checks import shown
from .dataset import Dataset
from .folder import load_folder
from .har import load_har, load_har_windows
from .images import ImageSize, height_width
from .standard import load_digits, load_fashion_mnist, load_mnist

NAMES = ("digits", "mnist", "fashion-mnist", "har", "har-windows")


def load(name: str | Path, *, root: str | Path | None = None, image_size: ImageSize = None) -> Dataset:
    """Return the data set of this name, or at this path.

    :param name: one of :data:`NAMES`, an ``.npz`` file (:func:`~pyro_ssvae.data.load_npz`), or a folder of images with
        ``labels.csv`` (:func:`~pyro_ssvae.data.load_folder`). A name wins over a file of that name: ``./mnist``.
    :param root: the folder where named data sets lie; ``PYRO_SSVAE_DATA`` or ``data`` by default.
    :param image_size: a side or (height, width) that images are resized to.
    :raises InputError: one line that names the file, the row or the option, and what would be right.

    Example::

        digits = load("digits")
        digits.x.shape  # [1438, 1, 8, 8]
    """
    root = Path(root if root is not None else os.environ.get("PYRO_SSVAE_DATA") or "data")
    height_width(image_size)
    try:
        return _load(name, root, image_size)
    except InputError as error:
        raise InputError(" ".join(str(error).split())) from None  # one line, even where a file's name has two


def _load(name: str | Path, root: Path, image_size: ImageSize) -> Dataset:
    match name:
        case "digits":
            return load_digits(image_size=image_size)
        case "mnist":
            return load_mnist(root, image_size=image_size)
        case "fashion-mnist":
            return load_fashion_mnist(root, image_size=image_size)
        case "har" | "har-windows" if image_size is not None:
            raise InputError(f"--image-size: {name} has no images; leave the option out")
        case "har":
            return load_har(root)
        case "har-windows":
            return load_har_windows(root)
    return _own(Path(name), str(name), image_size)


def _own(path: Path, name: str, image_size: ImageSize) -> Dataset:
    """A person's own file or folder."""
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError):  # too long, or with a null character
        is_folder = is_file = False
    if is_folder:
        return load_folder(path, image_size=image_size)
    if path.suffix == ".npz":
        return load_npz(path, image_size=image_size)
    if is_file:
        raise InputError(f"{path}: neither an .npz file nor a folder of images; one of these, or a name, is needed")
    if path.suffix or len(path.parts) > 1:
        raise InputError(f"{name[:300]}: no such file or folder")
    raise InputError(f"--data {shown(name)}: no such data set, file or folder{nearest(name, NAMES)}")
