"""From what a person calls a data set, a name or a path, to the data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, nearest
from ..labels import AttributeLabels
from .arrays import load_npz
from .avatar_labels import Factors
from .avatars import avatar_factors, load_avatars
from .bundled import load_breast_cancer, load_counts, load_imbalanced_digits, load_wine
from .celeba import load_celeba
from .checks import hint, shown
from .dataset import Dataset
from .folder import load_folder
from .har import load_har, load_har_windows
from .images import ImageSize, height_width
from .standard import load_digits, load_fashion_mnist, load_mnist

NAMES = (
    *("digits", "mnist", "fashion-mnist", "har", "har-windows", "avatars", "celeba"),
    *("imbalanced-digits", "breast-cancer", "wine", "counts"),
)


def load(
    name: str | Path,
    *,
    root: str | Path | None = None,
    image_size: ImageSize = None,
    attributes: Sequence[str] | None = None,
) -> Dataset:
    """Return the data set of this name, or at this path.

    :param name: one of :data:`NAMES`, an ``.npz`` file (:func:`~pyro_ssvae.data.load_npz`), or a folder of images with
        ``labels.csv`` (:func:`~pyro_ssvae.data.load_folder`). A name wins over a file of that name: ``./mnist``.
        ``avatars:500`` is the first 500 training faces of ``avatars``, and 100 test faces.
    :param root: the folder where named data sets lie; ``PYRO_SSVAE_DATA`` or ``data`` by default.
    :param image_size: a side or (height, width) that images are resized to.
    :param attributes: which attributes, in which order; by default all, of celeba the 18 of the ReVAE paper.
    :raises InputError: one line that names the file, the row or the option, and what would be right.

    Example::

        digits = load("digits")
        digits.x.shape  # [1438, 1, 8, 8]
    """
    root = Path(root if root is not None else os.environ.get("PYRO_SSVAE_DATA") or "data")
    height_width(image_size)
    if attributes is not None:
        attributes = [attributes] if isinstance(attributes, str) else list(attributes)
        if not attributes or len(set(attributes)) != len(attributes):
            raise InputError(f"--attributes {shown(attributes)}: at least one name is needed, and no name twice")
    try:
        if name == "celeba":
            return load_celeba(root, attributes=attributes, image_size=image_size)
        dataset = _load(name, root, image_size)
        return dataset if attributes is None else _choose(dataset, attributes)
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
        case "imbalanced-digits":
            return load_imbalanced_digits(image_size=image_size)
        case "har" | "har-windows" | "breast-cancer" | "wine" | "counts" if image_size is not None:
            raise InputError(f"--image-size: {name} has no images; leave the option out")
        case "breast-cancer":
            return load_breast_cancer()
        case "wine":
            return load_wine()
        case "counts":
            return load_counts()
        case "har":
            return load_har(root)
        case "har-windows":
            return load_har_windows(root)
        case str() if name.partition(":")[0] == "avatars":
            return load_avatars(name, root, image_size=image_size)
    return _own(Path(name), str(name), image_size)


def _choose(dataset: Dataset, attributes: Sequence[str]) -> Dataset:
    """Return the data set with these attributes alone, in this order."""
    names = list(dataset.labels.names)
    if not isinstance(dataset.labels, AttributeLabels):
        raise InputError(f"--attributes: {dataset.name} has classes, not attributes; leave the option out")
    for name in attributes:
        if name not in names:
            raise InputError(f"--attributes: {dataset.name} has no attribute {shown(name)}{hint(name, names)}")
    columns = [names.index(name) for name in attributes]
    y, y_test = dataset.y[:, columns], dataset.y_test[:, columns]
    return dataclasses.replace(dataset, y=y, y_test=y_test, labels=AttributeLabels(attributes))


def _own(path: Path, name: str, image_size: ImageSize) -> Dataset:
    """Return the data of a person's own file or folder."""
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


def factors_of(name: str) -> tuple[Factors, Factors] | None:
    """Return the true factors of a data set's training and test points; None where nobody knows them."""
    return avatar_factors(name) if name.partition(":")[0] == "avatars" else None
