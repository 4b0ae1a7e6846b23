"""Tables that commands write: part by part, and under their name only once they are whole."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol

from ..errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = (".csv", ".tsv", ".parquet", ".feather")
"""Endings of the files that are written."""
PACKERS: dict[str, Callable[[Path, Literal["xb"]], BinaryIO | io.BufferedIOBase]] = {
    ".gz": gzip.GzipFile, ".bz2": bz2.BZ2File, ".xz": lzma.LZMAFile,
}  # fmt: skip
"""What writes compressed text, by the ending beyond ``.csv`` or ``.tsv``."""


class Writer(Protocol):
    """What takes a table part by part."""

    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


def may_end_in(out: Path | None) -> tuple[str, ...]:
    """Return the endings that a table's file may have; of a compressed one those of text."""
    packing = "" if out is None else endings(out)[1]
    return tuple(kind + packing for kind in (FORMATS[:2] if packing else FORMATS))


def endings(out: Path) -> tuple[str, str]:
    """Return a file's ending, and that of its compression beyond it, in small letters; empty where there is none."""
    packing = out.suffix.lower() if out.suffix.lower() in PACKERS else ""
    return (Path(out.stem) if packing else out).suffix.lower(), packing


def write_tables(parts: Iterator[pa.Table], out: Path | None) -> int:
    """Write tables of the same columns below one another, to a file or as CSV to the screen; return the rows.

    Nothing is left of a file that cannot be finished, and none that came to be there meanwhile is overwritten.

    :raises InputError: the file cannot be written to.
    """
    if out is None:
        return sum(show(part, header=i == 0) for i, part in enumerate(parts))
    rows = 0
    with new_file(out) as partial:
        writer: Writer | None = None
        try:
            for part in parts:
                writer = writer or writer_of(partial, out, part.schema)
                writer.write_table(part)
                rows += part.num_rows
        finally:
            if writer is not None:
                writer.close()
    return rows


def show(part: pa.Table, header: bool) -> int:
    """Print a table as CSV."""
    text = io.BytesIO()
    write_text(part, text, ",", header)
    sys.stdout.write(text.getvalue().decode())
    return int(part.num_rows)


def write_text(part: pa.Table, file: BinaryIO | io.BufferedIOBase, delimiter: str, header: bool) -> None:
    """Write a table as text, words in quotes where they need them."""
    import pyarrow as pa
    from pyarrow import compute, csv

    special = f'["\\r\\n{delimiter}]'
    words = [column for column in part.columns if pa.types.is_string(column.type)]
    quoted = any(compute.any(compute.match_substring_regex(column, special)).as_py() for column in words)
    names = any(compute.match_substring_regex(pa.array(part.column_names), special).to_pylist())
    options = csv.WriteOptions(
        include_header=header,
        delimiter=delimiter,
        quoting_style="needed" if quoted else "none",
        quoting_header="needed" if names else "none",
    )
    csv.write_csv(part, file, options)


class TextWriter:
    """Writes tables as text, one below another, under one header."""

    def __init__(self, path: Path, delimiter: str, packing: str = "") -> None:
        self.file = PACKERS.get(packing, open)(path, "xb")
        self.delimiter, self.begun = delimiter, False

    def write_table(self, table: pa.Table) -> None:
        """Write a table."""
        write_text(table, self.file, self.delimiter, not self.begun)
        self.begun = True

    def close(self) -> None:
        """End the file."""
        self.file.close()


@contextmanager
def new_file(out: Path) -> Iterator[Path]:
    """Give a name to write to; what was written gets the name ``out`` at the end, unless it went wrong."""
    partial = out.with_name(f".{out.name}.partial{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        try:
            os.link(partial, out)  # unlike a rename, it overwrites nothing
        except (PermissionError, NotImplementedError):  # a file system without links
            if os.path.lexists(out):
                raise FileExistsError from None
            os.replace(partial, out)
    except FileExistsError:
        raise InputError(f"--out {out}: this file is there already; another name is needed") from None
    except OSError as error:
        raise InputError(f"--out {out}: it cannot be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def writer_of(path: Path, out: Path, schema: pa.Schema) -> Writer:
    """Return what writes a file that will be called ``out``."""
    import pyarrow as pa
    from pyarrow import parquet

    kind, packing = endings(out)
    if kind == ".parquet":
        return parquet.ParquetWriter(path, schema)
    if kind == ".feather":
        return pa.ipc.new_file(path, schema)
    return TextWriter(path, "\t" if kind == ".tsv" else ",", packing)
