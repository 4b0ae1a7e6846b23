"""Compressed files: told by their first bytes, whatever they are called, and unpacked in memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, BinaryIO, TypeAlias

from ..errors import InputError
from .checks import MAX_BYTES, reason, shown

Content: TypeAlias = Path | bytes
"""A plain file, or what a compressed one holds."""


@contextmanager
def open_zip(path: Path) -> Iterator[IO[bytes]]:
    """Give the one file of a zip archive; those that a system hides in it do not count."""
    with zipfile.ZipFile(path) as archive:
        own = [name for name in archive.namelist() if not name.endswith("/")]
        names = [name for name in own if not any(part.startswith((".", "__")) for part in name.split("/"))]
        if len(names) != 1:
            raise InputError(f"{path}: an archive of {len(names)} files; one is needed")
        with archive.open(names[0]) as file:
            yield file


ENDINGS = (".gz", ".bz2", ".xz", ".zip")
OPENERS: dict[bytes, Callable[[Path], AbstractContextManager[IO[bytes] | io.BufferedIOBase]]] = {
    b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ\0": lzma.LZMAFile, b"PK\3\4": open_zip,
}  # fmt: skip
"""What opens a file that begins so."""


def inner_suffix(path: str | Path) -> str:
    """Return a file's ending in small letters; of a compressed one that of what it holds, ``.csv`` of ``a.csv.gz``."""
    path = Path(path)
    return (Path(path.stem) if path.suffix.lower() in ENDINGS else path).suffix.lower()


def content_of(path: Path, limit: int = MAX_BYTES) -> Content:
    """Return what a compressed file holds; of a plain one its path.

    :raises InputError: it is damaged, larger than the limit when unpacked, or an archive of several files.
    """
    with open(path, "rb") as file:
        start = file.read(max(map(len, OPENERS)))
    opened = next((opener for mark, opener in OPENERS.items() if start.startswith(mark)), None)
    if opened is None:
        return path
    try:
        size = 0
        with opened(path) as file:
            while part := file.read(2**20):
                size += len(part)
                if size > limit:
                    raise InputError(f"{path}: above {limit / 2**30:g} GiB when unpacked, more than can be loaded")
        with opened(path) as file:
            return file.read()
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path}: a damaged archive ({reason(error)})") from None
    except RuntimeError as error:
        raise InputError(f"{path}: an archive that cannot be opened ({shown(reason(error))})") from None


def open_content(content: Content) -> BinaryIO:
    """Return a file to read from."""
    return io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb")
