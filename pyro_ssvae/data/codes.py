"""Columns of a text file that hold codes, such as ``01069``, which a reader would take for numbers."""

from __future__ import annotations

import mmap
import re
from typing import TYPE_CHECKING

from .packed import Content, open_content

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import csv as reader

CODE = r"^\s*0\d+\s*$"


def has_codes(content: Content, separator: str, encoding: str) -> bool:
    """Whether a cell of a file, anywhere in it, is a whole number that begins with a needless 0."""
    if encoding != "utf8":
        with open_content(content) as file:
            words = file.read().decode(encoding)
        return re.search(CODE.replace("^", f'(?:^|[{separator}"])').replace("$", f'(?=[{separator}"]|$)'),
                         words, re.MULTILINE) is not None  # fmt: skip
    sign = re.escape(separator).encode()
    cell = re.compile(rb'[\n\r"' + sign + rb'] *0\d+ *(?=[\n\r"' + sign + rb"]|\Z)")
    if isinstance(content, bytes):
        return cell.search(content) is not None
    with open(content, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return cell.search(mapped) is not None


def code_columns(
    table: pa.Table, source: pa.NativeFile, read: reader.ReadOptions, parse: reader.ParseOptions, nulls: list[str]
) -> dict[int, pa.ChunkedArray]:
    """Return the columns of numbers of a table that hold codes, by their place, as the words that they are."""
    import pyarrow as pa
    from pyarrow import compute, csv

    numbers = {
        i for i, kind in enumerate(table.schema.types) if pa.types.is_integer(kind) or pa.types.is_floating(kind)
    }
    names = [table.schema.names[i] for i in sorted(numbers)]
    if not names:
        return {}
    options = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=names,
        null_values=nulls,
        strings_can_be_null=True,
    )
    words = csv.read_csv(source, read, parse, options)
    found = {}
    for i, column in zip(sorted(numbers), words.columns):
        if compute.any(compute.match_substring_regex(column, CODE)).as_py():
            found[i] = column
    return found
