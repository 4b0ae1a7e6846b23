"""Tables in files, CSV, TSV, Parquet and Feather, as data frames."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import InputError
from .cells import MISSING_LABELS
from .checks import MAX_BYTES, reason, shown
from .codes import code_columns, has_codes
from .labels_csv import ENCODINGS, SEPARATORS
from .number_words import COMMA, commas_of, frame_comma
from .own_types import arrow_frame, own_types
from .packed import Content, content_of, inner_suffix, open_content

if TYPE_CHECKING:
    import pyarrow as pa

HEAD_BYTES = 2**20
"""Of the beginning of a file, by which its separator is told."""
_NULLS = sorted(
    {form for word in MISSING_LABELS for form in (word, word.upper(), word.capitalize(), word.title())}
    | {"NaN", "<NA>"}
)


def read_file(
    path: Path, text: Collection[str] = (), note: Callable[[str], None] = lambda line: None, comma: bool = False
) -> pd.DataFrame:
    """Return a table as a data frame, its columns' names as words, numbers as numbers.

    :param text: columns whose cells stay words, such as ``01``.
    :param note: told, in a line, what was taken for granted, such as semicolons between the columns.
    :param comma: whether ``1,132`` has a decimal comma where the file itself does not tell.
    :raises InputError: naming the file, and the row where one cannot be read.
    """
    try:
        parts = path.is_dir() and path.suffix.lower() == ".parquet"  # as Spark and Dask write a table
        if not path.is_file() and not parts:
            raise InputError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
        size = sum(file.stat().st_size for file in ([*path.rglob("*.parquet")] if parts else [path]))
        if size == 0:
            raise InputError(f"{path}: empty; a header and a row a point are needed")
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size / 2**30:,.1f} GiB; at most {MAX_BYTES / 2**30:g} GiB can be loaded")
        readers = {".parquet": read_columns, ".feather": read_columns}
        frame = readers.get(path.suffix.lower(), read_text)(path, text, note, comma)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from None
    told = frame.attrs.get(COMMA)
    frame.columns = pd.Index(column_names(frame, str(path)))
    frame = own_types(frame)
    frame.attrs[COMMA] = frame_comma(frame, MISSING_LABELS) if told is None else told
    if not len(frame):
        raise InputError(f"{path}: no row below the header; a row a point is needed")
    return frame


def column_names(frame: pd.DataFrame, where: str) -> list[str]:
    """Return the columns' names as words, white space as one blank; raise :class:`InputError` where two are alike."""
    names = [" ".join(str(name).split()) for name in frame.columns]
    check_names(names, where)
    return names


def check_names(names: list[str], where: str) -> None:
    """Raise :class:`InputError` where two columns have one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{where}: two columns are named {shown(name)}; each needs a name of its own")
        seen.add(name)


def read_columns(path: Path, text: Collection[str], note: Callable[[str], None], comma: bool) -> pd.DataFrame:
    """Return the table of a Parquet or Feather file, or of a folder of Parquet files that are one table.

    The levels of an index that has names are columns, and so are those by which a folder is divided, ``sex=male/``.
    """
    import pyarrow as pa

    kind = path.suffix.lower()[1:].capitalize()
    try:
        if kind == "Parquet":
            from pyarrow.dataset import partitioning
            from pyarrow.parquet import ParquetFile, read_table

            named = partitioning(flavor="hive")  # words, of which some may be missing
            table = read_table(path, partitioning=named) if path.is_dir() else ParquetFile(path).read()
        else:
            from pyarrow import feather

            table = feather.read_table(path, memory_map=False)
        frame = arrow_frame(table, self_destruct=True, date_as_object=False)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(f"{path}: not a {kind} file, or a damaged one ({reason(error)})") from None
    if not isinstance(frame.index, pd.RangeIndex):
        note(f"{path}: the rows' index has no name and is left out; with one it is a column")
    return frame


def read_text(path: Path, text: Collection[str], note: Callable[[str], None], comma: bool) -> pd.DataFrame:
    """Return the table of a text file: a header, and cells between commas, semicolons, tabs or bars."""
    import pyarrow as pa
    from pyarrow import csv as reader

    content = content_of(path)
    encoding, lines = head_of(content, path)
    usual = "\t" if inner_suffix(path) == ".tsv" else ","
    separator = separator_of(lines, usual)
    names = header(lines, separator, path)
    if separator != usual:
        note(f"{path}: read with {SEPARATORS[separator]} between the columns")
    told = decimal_commas(lines, separator, path, note, comma)
    words = {raw: pa.string() for raw, name in zip(rows_of(lines, separator)[0], names) if name in text}
    options = reader.ConvertOptions(
        null_values=_NULLS, strings_can_be_null=False, true_values=["\0true"], false_values=["\0false"],
        timestamp_parsers=["\0"], column_types=words,
        auto_dict_encode=True, auto_dict_max_cardinality=2000, decimal_point="," if told else ".",
    )  # fmt: skip
    parse = reader.ParseOptions(delimiter=separator, newlines_in_values=any('"' in line for line in lines))
    failures: list[str] = []
    try:
        read = reader.ReadOptions(encoding=encoding, block_size=8 * 2**20)
        table = reader.read_csv(for_arrow(content), read, parse, options)
        if has_codes(content, separator, encoding):
            for i, column in code_columns(table, for_arrow(content), read, parse, _NULLS).items():
                table = table.set_column(i, table.schema.names[i], column)
        table = table.rename_columns(names)
    except (pa.ArrowException, UnicodeError, OSError) as error:
        failures.append(reason(error))
    if failures:
        raise InputError(f"{path}: {failure(content, failures[0], names, separator, encoding)}")
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
    if any(pa.types.is_binary(kind) for kind in kinds):  # what words are that are not in the encoding
        raise InputError(f"{path}: {failure(content, 'not in UTF-8', names, separator, encoding)}")
    frame = arrow_frame(table, split_blocks=True, self_destruct=True, date_as_object=False)
    frame.attrs[COMMA] = told
    if parse.newlines_in_values:
        check_quotes(frame, separator, path)
    return frame


def for_arrow(content: Content) -> pa.NativeFile:
    """Return a file's content as the reader takes it; of a path it would unpack what is called so."""
    import pyarrow as pa

    return pa.BufferReader(content) if isinstance(content, bytes) else pa.OSFile(str(content))


def release_memory() -> None:
    """Give memory back that the reader of a file, now out of use, had taken."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def check_quotes(frame: pd.DataFrame, separator: str, path: Path) -> None:
    """Raise :class:`InputError` for a cell that holds whole rows: its quote was not closed where it should be."""
    for name in frame.columns:
        if not isinstance(frame[name].dtype, pd.CategoricalDtype) and not pd.api.types.is_string_dtype(
            frame[name].dtype
        ):
            continue
        for word in frame[name].dropna().unique():
            lines = str(word).split("\n")
            if len(lines) > 1 and any(line.count(separator) == len(frame.columns) - 1 for line in lines):
                raise InputError(f"{path}: column {shown(name)}: a cell holds {len(lines)} lines, {shown(word)}; a "
                                 "quote is not closed, or should not be there")  # fmt: skip


def head_of(content: Content, path: Path) -> tuple[str, list[str]]:
    """Return a file's encoding, UTF-8 or UTF-16 with its mark, and its first lines."""
    with open_content(content) as file:
        start = file.read(HEAD_BYTES)
        whole = len(start) < HEAD_BYTES
    encoding = next((name for mark, name in ENCODINGS.items() if start.startswith(mark)), "utf8")
    if b"\0" in start and encoding == "utf8":
        raise InputError(f"{path}: not a text file; CSV in UTF-8 is needed, or a .parquet or .feather file")
    decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf8" else encoding)()
    try:
        words = decoder.decode(start, final=whole)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {not_utf8(start[: error.start])}") from None
    lines = words.splitlines()[: 1000 if whole else -1][:1000]
    if not any(line.strip() for line in lines):
        raise InputError(f"{path}: empty; a header and a row a point are needed")
    return encoding, lines


def not_utf8(before: bytes) -> str:
    """Return what is wrong with bytes that are not in UTF-8, by what comes before them."""
    row = before.count(b"\n") + 1
    return f"line {row} is not in UTF-8; save the file in that encoding"


def rows_of(lines: list[str], separator: str) -> list[list[str]]:
    """Return the cells of a file's first lines."""
    try:
        return [cells for cells in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator) if cells]
    except csv.Error:
        return []


def separator_of(lines: list[str], usual: str) -> str:
    """Return what stands between the columns: the usual sign, unless another one alone splits each row alike."""
    found = {}
    for separator in (usual, *SEPARATORS):
        widths = [len(cells) for cells in rows_of(lines, separator)[:100]]
        if widths and widths[0] > 1:
            found[separator] = sum(width == widths[0] for width in widths) / len(widths)
    if usual in found and found[usual] >= max(found.values()):
        return usual
    return max(found, key=lambda separator: found[separator]) if found else usual


def header(lines: list[str], separator: str, path: Path) -> list[str]:
    """Return the columns' names.

    :raises InputError: there is none, or the first line seems to be a row.
    """
    rows = rows_of(lines, separator)
    if lines and re.fullmatch(r"sep=.?\s*", lines[0]):
        raise InputError(f"{path}: line 1 is {shown(lines[0].strip())}, a spreadsheet's hint; the columns' names are "
                         "needed there, so take the line out")  # fmt: skip
    names = [" ".join(name.split()) for name in rows[0]] if rows else []
    numbers = [name for name in names if re.fullmatch(r"[+-]?\d*\.?\d+([eE][+-]?\d+)?", name)]
    counted = numbers == [str(i) for i in range(len(numbers))]  # as pandas names columns
    if len(numbers) > len(names) / 2 and not counted:
        raise InputError(f"{path}: line 1 holds numbers ({shown(names[0])} …); the columns' names are needed there")
    if names.count("") > 1:
        given = f"names {len(names) - names.count('')} of {len(names)} columns ({shown(names[0])} …)"
        raise InputError(f"{path}: line 1 {given}; the name of each is needed there, and no title above them")
    check_names(names, f"{path}: line 1")
    return names


def decimal_commas(
    lines: list[str], separator: str, path: Path, note: Callable[[str], None], usual: bool
) -> bool | None:
    """Return whether a file's numbers are written ``3,14``, None where nothing tells; say it where there are commas."""
    rows = rows_of(lines, separator)
    columns = list(zip(*(row for row in rows[1:] if len(row) == len(rows[0])))) if rows else []
    found, example = commas_of(columns, usual or separator == ";", MISSING_LABELS)
    if found:
        note(f"{path}: read with decimal commas, such as {shown(example)}")
    elif example:
        note(f"{path}: commas in numbers, such as {shown(example)}, are read as those between thousands, unless the "
             "column's others tell")  # fmt: skip
    return found


def failure(content: Content, said: str, names: list[str], separator: str, encoding: str) -> str:
    """Return why a text file cannot be read, with the line, which is looked for."""
    python = "utf-8" if encoding == "utf8" else encoding
    try:
        with io.TextIOWrapper(open_content(content), encoding=python, newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            for cells in reader:
                if cells and len(cells) != len(names):
                    return f"line {reader.line_num} has {len(cells)} cells; the header has {len(names)}"
    except UnicodeDecodeError:
        with open_content(content) as raw:
            data = raw.read()
        try:
            data.decode(python)
        except UnicodeDecodeError as error:
            return not_utf8(data[: error.start])
    except csv.Error as error:
        return f"line {reader.line_num} is not valid CSV ({reason(error)})"
    return f"it cannot be read ({said})"
