"""From what a person calls a data set, a name or a path, to the data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, nearest
from ..labels import AttributeLabels
from .annotated import is_annotated, load_h5ad
from .arrays import load_npz
from .avatars import avatar_factors, load_avatars
from .bundled import load_breast_cancer, load_counts, load_imbalanced_digits, load_wine
from .celeba import load_celeba
from .checks import hint, shown
from .coloured import load_cifar10, load_svhn
from .dataset import Dataset
from .factors import Factors
from .folder import load_folder
from .har import load_har, load_har_windows
from .images import ImageSize, height_width
from .layouts import check_layout
from .marked_digits import load_marked_digits, marked_digit_factors
from .schema import is_table
from .standard import load_digits, load_fashion_mnist, load_mnist

NAMES = (
    *("digits", "mnist", "fashion-mnist", "cifar10", "svhn", "celeba", "har", "har-windows", "avatars"),
    *("marked-digits", "imbalanced-digits", "breast-cancer", "wine", "counts"),
)


def load(
    name: str | Path,
    *,
    root: str | Path | None = None,
    image_size: ImageSize = None,
    layout: str | None = None,
    attributes: Sequence[str] | None = None,
    target: Sequence[str] = (),
    id: str | None = None,
    columns: Sequence[str] = (),
    quiet: bool = True,
) -> Dataset:
    """Return the data set of this name, or at this path.

    :param name: one of :data:`NAMES`, a table (:func:`~pyro_ssvae.data.read_table`), an ``.npz`` file
        (:func:`~pyro_ssvae.data.load_npz`), an ``.h5ad`` file, or a folder of images with ``labels.csv``
        (:func:`~pyro_ssvae.data.load_folder`). A name wins over a file of that name: ``./mnist``.
        ``avatars:500`` is the first 500 training faces of ``avatars``, and 100 test faces.
    :param root: the folder where named data sets lie; ``PYRO_SSVAE_DATA`` or ``data`` by default.
    :param image_size: a side or (height, width) that images are resized to.
    :param layout: of an ``.npz`` file: which axis is which (:data:`~pyro_ssvae.data.layouts.LAYOUTS`); None to guess.
    :param attributes: which attributes, in which order; by default all, of celeba the 18 of the ReVAE paper.
    :param target: of a table, or of an ``.h5ad`` file's ``obs``: the columns of labels.
    :param id: of a table: the column that names the rows.
    :param columns: of a table: corrections of the columns' kinds, such as ``age=count``.
    :param quiet: False says on stderr how a table was read.
    :raises InputError: one line that names the file, the row or the option, and what would be right.

    Example::

        digits = load("digits")
        digits.x.shape  # [1438, 1, 8, 8]
    """
    root = Path(root if root is not None else os.environ.get("PYRO_SSVAE_DATA") or "data")
    height_width(image_size)
    check_layout(layout)
    if layout is not None and Path(name).suffix.lower() != ".npz":
        raise InputError(f"--layout {layout}: {shown(str(name))} is no .npz file of arrays; leave the option out")
    if attributes is not None:
        attributes = [attributes] if isinstance(attributes, str) else list(attributes)
        if not attributes or len(set(attributes)) != len(attributes):
            raise InputError(f"--attributes {shown(attributes)}: at least one name is needed, and no name twice")
    try:
        if is_table(name):
            from .table_data import read_table  # pandas, where there is a table

            check_rows_only(image_size, attributes)
            return read_table(name, target=target, id=id, columns=columns, quiet=quiet)
        if is_annotated(name):
            check_rows_only(image_size, attributes)
            if id is not None:
                raise InputError(f"--id {shown(id)}: {name} has the names of its rows in obs; leave the option out")
            return load_h5ad(Path(name), target)
        for option, given in (("--target", target), ("--id", id)):
            if given:
                raise InputError(f"{option}: {name} is no table (.csv, .tsv, .parquet, .feather); leave the option out")
        if name == "celeba":
            return load_celeba(root, attributes=attributes, image_size=image_size)
        dataset = _load(name, root, image_size, layout)
        return dataset if attributes is None else _choose(dataset, attributes)
    except InputError as error:
        raise InputError(" ".join(str(error).split())) from None  # one line, even where a file's name has two


def check_rows_only(image_size: ImageSize, attributes: Sequence[str] | None) -> None:
    """Raise :class:`InputError` for an option that a table has no use for."""
    if image_size is not None:
        raise InputError("--image-size: a table has no images; leave the option out")
    if attributes is not None:
        raise InputError("--attributes: of a table, --target names the columns of labels; leave the option out")


def _load(name: str | Path, root: Path, image_size: ImageSize, layout: str | None) -> Dataset:
    match name:
        case "digits":
            return load_digits(image_size=image_size)
        case "mnist":
            return load_mnist(root, image_size=image_size)
        case "fashion-mnist":
            return load_fashion_mnist(root, image_size=image_size)
        case "cifar10":
            return load_cifar10(root, image_size=image_size)
        case "svhn":
            return load_svhn(root, image_size=image_size)
        case "marked-digits":
            return load_marked_digits(image_size=image_size)
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
    return _own(Path(name), str(name), image_size, layout)


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


def _own(path: Path, name: str, image_size: ImageSize, layout: str | None) -> Dataset:
    """Return the data of a person's own file or folder."""
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError):  # too long, or with a null character
        is_folder = is_file = False
    if is_folder:
        return load_folder(path, image_size=image_size)
    if path.suffix.lower() == ".npz":
        return load_npz(path, image_size=image_size, layout=layout)
    if is_file:
        raise InputError(
            f"{path}: neither a table (.csv, .tsv, .parquet, .feather), an .npz or .h5ad file nor a folder of "
            "images; one of these, or a name, is needed"
        )
    if path.suffix or len(path.parts) > 1:
        raise InputError(f"{name[:300]}: no such file or folder")
    raise InputError(f"--data {shown(name)}: no such data set, file or folder{nearest(name, NAMES)}")


def factors_of(name: str) -> tuple[Factors, Factors] | None:
    """Return the true factors of a data set's training and test points; None where nobody knows them."""
    if name == "marked-digits":
        return marked_digit_factors()
    return avatar_factors(name) if name.partition(":")[0] == "avatars" else None
