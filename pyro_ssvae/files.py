"""Tensors and metadata in one file, replaced only once the new file is complete.

The file is safetensors: tensors by name, metadata as text in its header, and a checksum, since neither the format nor
most discs notice a flipped bit. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import InputError


class CannotWrite(InputError):  # noqa: N818
    """A file cannot be written: the disk is full, or the folder read-only. An older file of its name is whole."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under another name, sync it, and only then give it its name; then sync the folder.

    :raises CannotWrite: naming the file; an older file of that name is left as it was.
    """
    try:
        os.replace(write_partial(path, data), path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from None


def write_partial(path: Path, data: bytes) -> Path:
    """Write a whole, synced file beside ``path`` and return its name; a write that fails leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):  # a full disk needs the space
            partial.unlink()
        raise
    return partial


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as the files, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def opened_folder(folder: Path) -> Iterator[int | None]:
    """Give a folder's descriptor; None where the system opens no folders."""
    try:
        place = os.open(folder, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield place
    finally:
        os.close(place)


def lock(file: int, wait: bool = False) -> bool:
    """Lock an open file for this process; return False where another one has, unless it is to be waited for.

    The lock ends with the file's closing, and with the process, however it ends. Where the system or the file system
    has no locks, nobody is kept out.
    """
    try:
        import fcntl  # not on Windows
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """Return the error of a file that cannot be written, with its cause."""
    return CannotWrite(f"{path}: it cannot be written ({error.strerror or type(error).__name__})")


def save_tensors(path: Path, tensors: dict[str, Tensor], **metadata: str) -> None:
    """Write tensors and metadata; tensors that share memory, such as tied weights, are written apart."""
    write_atomically(path, packed(tensors, **metadata))


def packed(tensors: dict[str, Tensor], **metadata: str) -> bytes:
    """Return the content of the file of these tensors and metadata."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(tensors, metadata={**metadata, "sha256": checksum(tensors, metadata)})


def load_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what :func:`save_tensors` wrote, or safetensors of another origin, which have no checksum.

    :param what: what the file should be, for the message.
    :raises InputError: naming the file, where it is absent or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {what} is needed") from None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not {what}, or a damaged one ({str(error).splitlines()[0][:200]})") from None
    wanted = metadata.pop("sha256", None)
    if wanted is not None and wanted != checksum(tensors, metadata):
        raise InputError(f"{path}: damaged (its checksum is wrong); {what} is needed")
    return tensors, metadata


def checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Return the SHA-256 of names, types, shapes, values and metadata."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def installed(package: str = "pyro_ssvae") -> str:
    """Return the version of a package, empty where it runs without being installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def differences(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> str:
    """Return in what saved tensors differ from those of a model by name and shape, in words; empty where in nothing."""
    lacking, unknown = [name for name in own if name not in saved], [name for name in saved if name not in own]
    other = [name for name in own if name in saved and own[name].shape != saved[name].shape]
    kinds = ((lacking, "is missing"), (unknown, "is unknown"))
    words = [f"{names[0]} {what}{more(names)}" for names, what in kinds if names]
    if other:
        shapes = f"{list(saved[other[0]].shape)}, not {list(own[other[0]].shape)}"
        words.append(f"{other[0]} has shape {shapes}{more(other)}")
    return ", ".join(words)


def more(names: list[str]) -> str:
    """Return how many names there are beyond the first, in words."""
    return f", and {len(names) - 1} more" if len(names) > 1 else ""


def of_another_version(saved_by: object, what: str = "networks") -> str:
    """Return what there is to do about a file that has other networks than this version makes, in words.

    :param saved_by: the version that wrote it, None or empty where the file does not say.
    :param what: is otherwise.
    """
    own = installed()
    if not isinstance(saved_by, str) or not saved_by:
        return f"saved by a version of pyro_ssvae with other {what}; train it anew, or install that version"
    if saved_by == own:
        return f"saved by another state of pyro_ssvae {own}, with other {what}, or changed since; train it anew"
    here = f" (this is {own})" if own else ""
    return f"saved by pyro_ssvae {saved_by}{here}, with other {what}; train it anew, or install that version"
