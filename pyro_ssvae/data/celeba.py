"""CelebA: 202,599 aligned faces with 40 attributes, from torchvision's folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..labels import AttributeLabels
from .cache import keep, places
from .checks import check_bytes, hint, read_bytes, reason, shown
from .dataset import Dataset
from .download import downloaded
from .images import ImageSize, decode, height_width

FOLDER = "celeba"
IMAGES = "img_align_celeba"
ATTRIBUTES_FILE = "list_attr_celeba.txt"
PARTITION_FILE = "list_eval_partition.txt"
TRAIN, VALID, TEST = 0, 1, 2
DEFAULT_SIZE = (64, 64)
DEFAULT_ATTRIBUTES = (
    *("Arched_Eyebrows", "Bags_Under_Eyes", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Bushy_Eyebrows"),
    *("Chubby", "Eyeglasses", "Heavy_Makeup", "Male", "No_Beard", "Pale_Skin", "Receding_Hairline", "Smiling"),
    *("Wavy_Hair", "Wearing_Necktie", "Young"),
)
"""The 18 of the 40 that the ReVAE paper takes."""
MAX_LIST_BYTES = 64 * 2**20
"""Largest list of attributes or splits that is read; the real one has 26 MB."""
VERSION = 1
"""Part of the kept file's name; to be raised whenever images are cut or scaled in another way."""


def load_celeba(root: Path, *, attributes: Sequence[str] | None = None, image_size: ImageSize = None) -> Dataset:
    """Return CelebA, uint8 ``[N, 3, 64, 64]``, training on its partition 0 (162,770) and testing on 2 (19,962).

    The validation partition is left out, since a run holds out its own. An image's largest centred part of the wanted
    shape is scaled (178 x 178 of 178 x 218; the ReVAE authors' code squeezes the whole image).

    The images are decoded once and kept as one file of 2.2 GB that is read as needed: beside the data or, where that
    cannot be written, in ``~/.cache/pyro_ssvae/celeba``. It is found again by the two lists; where other images take
    the place of the old ones, it must be removed.

    :param root: holds the folder ``celeba`` in torchvision's layout, which is downloaded where it is absent.
    :param attributes: which of the 40, in which order; :data:`DEFAULT_ATTRIBUTES` by default.
    :raises InputError: a file is absent, damaged, or does not fit the others.
    """
    folder = root / FOLDER
    _check_folder(folder)
    lists = {name: read_bytes(folder / name, MAX_LIST_BYTES) for name in (ATTRIBUTES_FILE, PARTITION_FILE)}
    split = _partition(lists[PARTITION_FILE], folder / PARTITION_FILE)
    chosen = DEFAULT_ATTRIBUTES if attributes is None else tuple(attributes)
    values = _attributes(lists[ATTRIBUTES_FILE], folder / ATTRIBUTES_FILE, chosen, list(split))
    partition = np.array(list(split.values()))
    train, test = np.flatnonzero(partition == TRAIN), np.flatnonzero(partition == TEST)
    names = list(split)
    paths = [folder / IMAGES / names[row] for row in (*train, *test)]
    digest = hashlib.sha256(b"".join(lists.values())).hexdigest()[:12]
    x = _pixels(folder, paths, height_width(image_size) or DEFAULT_SIZE, digest)
    y = torch.from_numpy(values.astype(np.int64))
    return Dataset("celeba", x[: len(train)], y[train], x[len(train) :], y[test], AttributeLabels(chosen))


def _check_folder(folder: Path) -> None:
    """Download the folder where it is absent or empty; refuse it where a part is missing."""
    try:
        found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({reason(error)})") from None
    if not found:
        from torchvision import datasets

        files = f"{IMAGES}/, {ATTRIBUTES_FILE} and {PARTITION_FILE}"
        downloaded(partial(datasets.CelebA, folder.parent, download=True), "celeba", folder, files, f"{FOLDER}/")
        return
    for name in (ATTRIBUTES_FILE, PARTITION_FILE, IMAGES):
        if name not in found:
            packed = name == IMAGES and f"{IMAGES}.zip" in found
            what = f"unpack {IMAGES}.zip" if packed else "complete the folder, or remove it to have it downloaded"
            raise InputError(f"{folder / name}: no such file or folder; {what}")


def _partition(content: bytes, path: Path) -> dict[str, int]:
    """Return the split of each image, from rows of a file's name and 0, 1 or 2."""
    split: dict[str, int] = {}
    for number, line in enumerate(_lines(content, path), 1):
        cells = line.split()
        if len(cells) != 2 or cells[1] not in ("0", "1", "2"):
            raise InputError(f"{path}: line {number} is {shown(line)}; an image's name and 0, 1 or 2 are needed")
        if "/" in cells[0] or "\\" in cells[0] or cells[0] in split:
            raise InputError(f"{path}: line {number}: {shown(cells[0])} is no file's name, or there twice")
        split[cells[0]] = int(cells[1])
    for value, what in ((TRAIN, "training"), (TEST, "test")):
        if value not in split.values():
            raise InputError(f"{path}: no {what} image (partition {value}); at least one is needed")
    return split


def _attributes(content: bytes, path: Path, chosen: Sequence[str], files: list[str]) -> np.ndarray:
    """Return the chosen attributes as 0 and 1, ``[N, A]``, from the lines of the file."""
    lines = _lines(content, path)
    if len(lines) < 2 or not lines[0].strip().isdecimal() or int(lines[0]) != len(lines) - 2:
        raise InputError(f"{path}: line 1 must say how many images follow below the names ({max(len(lines) - 2, 0)})")
    header = lines[1].split()
    for name in chosen:
        if name not in header:
            raise InputError(f"--attributes: celeba has no attribute {shown(name)}{hint(name, header)}")
    columns = [header.index(name) + 1 for name in chosen]
    if len(lines) - 2 != len(files):
        raise InputError(f"{path}: {len(lines) - 2} images, but {PARTITION_FILE} has {len(files)}")
    flags, values = {"-1": 0, "1": 1}, bytearray()
    for number, (line, file) in enumerate(zip(lines[2:], files), 3):
        cells = line.split()
        if len(cells) != len(header) + 1 or cells[0] != file:
            raise InputError(
                f"{path}: line {number} is {shown(line)}; {shown(file)}, as in {PARTITION_FILE}, and {len(header)} "
                "values are needed"
            )
        try:
            values += bytes([flags[cells[i]] for i in columns])
        except KeyError as error:
            raise InputError(f"{path}: line {number} has a value {shown(error.args[0])}; -1 or 1 is needed") from None
    return np.frombuffer(bytes(values), np.uint8).reshape(len(files), len(chosen))


def _lines(content: bytes, path: Path) -> list[str]:
    try:
        lines = content.decode("ascii").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not ASCII; download it again") from None
    return lines


def _pixels(folder: Path, paths: list[Path], size: tuple[int, int], digest: str) -> Tensor:
    """Return all images as uint8 ``[N, 3, *size]``, from the kept file where there is one."""
    shape = (len(paths), 3, *size)
    total = int(np.prod(shape, dtype=object))
    check_bytes(total, f"{folder}: {len(paths)} images of {size[0]} x {size[1]}")
    name = f"pyro_ssvae-{VERSION}-{size[0]}x{size[1]}-{digest}.npy"
    for place in places(folder):
        kept = _open(place / name, shape)
        if kept is not None:
            return kept

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for images in _decode(paths, size):
                file.write(images.tobytes())

    path = keep(folder, name, total + 2**16, write)
    kept = None if path is None else _open(path, shape)
    return torch.from_numpy(np.concatenate(list(_decode(paths, size)))) if kept is None else kept


def _open(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Return a kept file, read as needed (writes to the tensor stay in memory); None where it is absent or cut."""
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return torch.from_numpy(array) if array.shape == shape and array.dtype == np.uint8 else None


def _decode(paths: list[Path], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the images in order, some at a time."""
    from rich.console import Console
    from rich.progress import track

    def one(path: Path) -> np.ndarray:
        if not path.is_file():
            raise InputError(f"{path}: no such file, but {PARTITION_FILE} names it")
        return decode(path, grey=False, size=size)

    starts = range(0, len(paths), 512)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        console = Console(stderr=True)
        for start in track(starts, "celeba: decoded once", console=console, disable=not console.is_terminal):
            yield np.stack(list(pool.map(one, paths[start : start + 512])))
