"""Tables in files: separators, encodings, quotes, and each fault in one line."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_makers import refused

from pyro_ssvae.data import load, read_table
from pyro_ssvae.data.packed import content_of
from pyro_ssvae.data.table_files import read_file
from pyro_ssvae.data.tables import in_memory


def text(path: Path, cells: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(cells.encode(encoding))
    return path


def rows(row: str = "{i}.5,{word}", n: int = 30, header: str = "a,t") -> str:
    """A header and n rows of the form ``row``."""
    return "\n".join([header, *(row.format(i=i, word="pq"[i % 2], other="xyz"[i % 3]) for i in range(n))]) + "\n"


@pytest.mark.parametrize(
    ("name", "cells", "encoding", "note"),
    [
        ("a.csv", rows(), "utf-8", ""),
        ("A.CSV", rows(), "utf-8-sig", ""),
        ("a.tsv", rows("{i}.5\t{word}", header="a\tt"), "utf-8", ""),
        ("b.csv", rows().replace("\n", "\r\n"), "utf-8", ""),
        ("c.csv", rows(" {i}.5 , {word} ", header=" a , t "), "utf-8", ""),
        ("d.csv", rows(), "utf-16", ""),
        ("e.csv", rows("{i},5;{word}", header="a;t"), "utf-8", "semicolons"),
        ("f.csv", rows("{i}.5\t{word}", header="a\tt"), "utf-8", "tabs"),
        ("g.csv", rows('"{i}.5","{word}"', header='"a","t"'), "utf-8", ""),
        ("h.csv", rows().rstrip("\n"), "utf-8", ""),
        ("i.tsv", rows(), "utf-8", "commas"),
    ],
)
def test_text_as_people_write_it(
    name: str, cells: str, encoding: str, note: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_table(text(tmp_path / name, cells, encoding), target="t")
    values = sorted([*data.x[:, 0].tolist(), *data.x_test[:, 0].tolist()])
    assert values == [i + 0.5 for i in range(30)]
    assert list(data.labels.names) == ["p", "q"]
    said = capsys.readouterr().err
    assert note in said
    assert ("between the columns" in said) == bool(note)


def test_a_cell_may_hold_a_separator_or_a_new_line(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", rows('"{other}\n, 1",{i}.5,{word}', header='"b, or\nc",a,t'))
    data = read_table(path, target="t", quiet=True)
    assert data.table is not None
    assert data.table.schema.columns[0].words == ("x , 1", "y , 1", "z , 1")
    assert data.table.schema.names == ("b, or c", "a")


@pytest.mark.parametrize("divided", [False, True])
def test_a_folder_of_parquet_files_is_one_table(divided: bool, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(30) / 4, "t": ["p", "q", None] * 10})
    folder = tmp_path / "a.parquet"
    if divided:  # by the values of a column, of which some are missing
        frame.to_parquet(folder, partition_cols=["t"])
    else:
        folder.mkdir()
        for i in range(3):
            frame[10 * i : 10 * (i + 1)].to_parquet(folder / f"part-{i}.parquet")
        (folder / "_SUCCESS").touch()
    found = read_file(folder).sort_values("a")
    assert found.a.tolist() == frame.a.tolist()
    assert found.t.astype(object).where(found.t.notna(), None).tolist() == frame.t.tolist()
    assert read_table(folder, target="t", quiet=True).x.shape[1:] == (1,)


def test_a_folder_of_parquet_files_without_any_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").mkdir()
    refused(lambda: read_file(tmp_path / "a.parquet"), "a.parquet: empty; a header and a row a point are needed")


def test_columns_of_parquet_and_feather(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(30) ** 1.5, "b": pd.Categorical(list("xyz") * 10), "t": ["p", "q"] * 15})
    frame.index = pd.Index([f"r{i}" for i in range(30)], name="row")
    frame.to_parquet(tmp_path / "a.parquet")
    frame.reset_index().to_feather(tmp_path / "a.feather")
    for name in ("a.parquet", "a.feather"):
        data = read_table(tmp_path / name, target="t", id="row", quiet=True)
        assert data.table is not None
        assert data.table.schema.kinds == ("normal", "categorical:3")
        assert data.ids is not None
        assert data.ids[0].startswith("r")


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zip"])
def test_compressed_text_is_that_text(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = rows("{i},5;{word};0{other}", header="a;t;c").replace("x", "1").replace("y", "2").replace("z", "3")
    plain, packed = text(tmp_path / "a.csv", cells), tmp_path / f"b.csv.{ending}"
    pd.DataFrame([line.split(";") for line in cells.splitlines()]).to_csv(
        packed, sep=";", index=False, header=False, compression="infer"
    )
    pd.testing.assert_frame_equal(read_file(packed), read_file(plain))
    data = load(packed, target=("t",), quiet=False)
    assert data.table is not None
    assert data.table.schema.columns[1].words == ("01", "02", "03")
    assert f"{packed}: read with semicolons" in capsys.readouterr().err
    packed.rename(tmp_path / "c.csv")  # however it is called
    assert len(read_file(tmp_path / "c.csv")) == 30
    plain.rename(packed)
    assert len(read_file(packed)) == 30


def test_faults_of_compressed_text_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(rows().replace("7.5,q", "7.5,q,9").encode()))
    refused(lambda: read_file(path), str(path), "line 9", "3 cells")
    path.write_bytes(gzip.compress(rows("{i}.5,{word}é").encode("latin-1")))
    refused(lambda: read_file(path), str(path), "line 2", "UTF-8")
    path.write_bytes(gzip.compress(rows().encode())[:60])
    refused(lambda: read_file(path), str(path), "damaged archive")
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a.csv", rows())
        archive.writestr("__MACOSX/._a.csv", "hidden")
    assert len(read_file(tmp_path / "a.csv.zip")) == 30
    with zipfile.ZipFile(tmp_path / "b.csv.zip", "w") as archive:
        archive.writestr("a.csv", rows())
        archive.writestr("b.csv", rows())
    refused(lambda: read_file(tmp_path / "b.csv.zip"), "an archive of 2 files; one is needed")
    path.write_bytes(gzip.compress(b"a,t\n" + b"1,2\n" * 10**6))
    refused(lambda: content_of(path, limit=10**6), str(path), "when unpacked")


def test_whole_numbers_beside_gaps_keep_their_digits(tmp_path: Path) -> None:
    large = [None if i % 5 == 0 else 2**60 + i % 3 for i in range(30)]
    table = pa.table({"a": np.arange(30) ** 1.5, "n": pa.array(large), "small": pa.array([None, 1, 2] * 10)})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text(table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get).to_csv(index=False))
    for frame in (read_file(tmp_path / "a.parquet"), read_file(tmp_path / "a.csv"), in_memory(table)):
        assert [None if gap else int(n) for n, gap in zip(frame["n"], frame["n"].isna())] == large
    for source in (tmp_path / "a.parquet", tmp_path / "a.csv", table):
        assert read_table(source, target="n", quiet=True).labels.names == tuple(str(2**60 + i) for i in range(3))
    assert in_memory(table.select(["a", "small"]))["small"].dtype == np.float64  # which is smaller, and exact


def test_words_keep_their_zeros_in_target_and_id(tmp_path: Path) -> None:
    cells = rows("{i}.5,{other},0{i}", header="a,b,id").replace("x", "01").replace("y", "1").replace("z", "2")
    data = read_table(text(tmp_path / "a.csv", cells), target="b", id="id", quiet=True)
    assert set(data.labels.names) == {"01", "1", "2"}
    assert data.table is not None
    assert data.ids is not None
    assert all(word[0] == "0" for word in data.ids)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ("", ["empty"]),
        ("\n \n", ["empty"]),
        ("a,t\n", ["no row below the header"]),
        (rows().replace("7.5,q", "7.5,q,9"), ["line 9", "3 cells", "header has 2"]),
        (rows().replace("\n7.5,q", '\n"7.5,q'), ["line 31", "not valid CSV"]),
        (rows().replace("\n7.5,q", '\n"7.5,q').replace("\n9.5,q", '\n9.5",q'), ["column 'a'", "3 lines", "quote"]),
        (rows(header="a,a"), ["two columns are named 'a'"]),
        ("My results,,\n" + rows("{i}.5,o,{word}", header="a,b,t"), ["line 1 names 1 of 3 columns", "no title"]),
        ("\n".join(f"{i}.5,{i % 2}" for i in range(9)), ["line 1", "names"]),
    ],
)
def test_faults_of_text_are_named(cells: str, words: list[str], tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", cells)
    refused(lambda: read_table(path, target="t", quiet=True), str(path), *words)


@pytest.mark.parametrize("late", [False, True])
def test_a_byte_that_is_not_in_utf8_is_found(late: bool, tmp_path: Path) -> None:
    n = 60_000 if late else 30
    cells = rows("{i}.5,o,{word}", n, "a,b,t").replace(f"{n - 2}.5,o", f"{n - 2}.5,é")
    path = text(tmp_path / "a.csv", cells, "latin-1")
    refused(lambda: read_table(path, target="t", quiet=True), str(path), f"line {n}", "UTF-8")


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet", "a.feather"):
        (tmp_path / name).write_bytes(b"\0\1\2 no table" * 9)
        refused(lambda name=name: read_file(tmp_path / name), name)
        refused(lambda name=name: read_file(tmp_path / f"no-{name}"), f"no-{name}", "no such file")
    (tmp_path / "b.csv").mkdir()
    refused(lambda: read_file(tmp_path / "b.csv"), "b.csv", "not a file")


def test_options_of_tables_belong_to_tables(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", rows())
    assert load(path, target=("t",)).labels.names == ("p", "q")
    refused(lambda: load("digits", target=("t",)), "--target", "digits is no table")
    refused(lambda: load("digits", id="t"), "--id", "digits is no table")
    refused(lambda: load(path, target=("t",), image_size=8), "--image-size")
    refused(lambda: load(path, attributes=["t"]), "--attributes", "--target")
    refused(lambda: load(tmp_path / "b.csv"), "no such file")
