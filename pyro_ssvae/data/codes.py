"""Columns of a text file that hold codes, such as ``01069``, which a reader would take for numbers."""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import csv as reader

CODE = r"^\s*0\d+\s*$"


def has_codes(path: Path, separator: str, encoding: str) -> bool:
    """Whether a cell of a file, anywhere in it, is a whole number that begins with a needless 0."""
    if encoding != "utf8":
        return re.search(CODE.replace("^", f'(?:^|[{separator}"])').replace("$", f'(?=[{separator}"]|$)'),
                         path.read_text(encoding), re.MULTILINE) is not None  # fmt: skip
    sign = re.escape(separator).encode()
    cell = re.compile(rb'[\n\r"' + sign + rb'] *0\d+ *(?=[\n\r"' + sign + rb"]|\Z)")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return cell.search(content) is not None


def code_columns(
    table: pa.Table, path: Path, read: reader.ReadOptions, parse: reader.ParseOptions, nulls: list[str]
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
    words = csv.read_csv(path, read, parse, options)
    found = {}
    for i, column in zip(sorted(numbers), words.columns):
        if compute.any(compute.match_substring_regex(column, CODE)).as_py():
            found[i] = column
    return found
