"""Points in shards, Parquet and Zarr, and those that a function reads: the same as the array in memory, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyro
import pytest
import torch
from data_makers import refused
from test_fit import same
from torch import nn

import pyro_ssvae as ps
from pyro_ssvae import ClassLabels, create_model, fit
from pyro_ssvae.data import random_rows, row_groups, streaming, zarr_arrays
from pyro_ssvae.data.inputs import read_data
from pyro_ssvae.data.parts import by_parts
from pyro_ssvae.data.random_rows import draw_rows, some_of
from pyro_ssvae.data.streaming import Streamed

N, D = 120, 6
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(N, D)).astype(np.float32)
Y = np.where(np.arange(N) < 30, np.arange(N) % 3, -1)
WORDS = ("ant", "bee", "cat")
NAMES = [f"f{i}" for i in range(D)]


@pytest.fixture(autouse=True)
def never_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "IN_MEMORY", 0)


def model(shape: tuple[int, ...] = (D,)) -> Any:
    pyro.set_rng_seed(0)
    return create_model("augmented", input_shape=shape, labels=ClassLabels(list(WORDS)), latent_dim=2)


def trained(x: Any, y: Any = None, shape: tuple[int, ...] = (D,)) -> nn.Module:
    made = model(shape)
    fit(made, x, y, progress=False, batch_size=16, epochs=2)
    return made


def columns(folder: Path, rows: int = 50, **more: Any) -> Path:
    """X and Y as columns of a file, some rows a group."""
    table = pd.DataFrame(X, columns=NAMES).assign(**more)
    table.to_parquet(folder / "columns.parquet", row_group_size=rows)
    return folder / "columns.parquet"


def vectors(folder: Path, rows: int = 50, name: str = "vectors.parquet", x: np.ndarray = X, **more: Any) -> Path:
    """X as a column of lists, some rows a group."""
    items = pa.array(x.reshape(-1), type=pa.from_numpy_dtype(x.dtype))
    pq.write_table(
        pa.table({"x": pa.FixedSizeListArray.from_arrays(items, x[0].size), **more}), folder / name, row_group_size=rows
    )
    return folder / name


def test_columns_of_parquet_are_the_array(tmp_path: Path) -> None:
    named = [WORDS[k] if k >= 0 else None for k in Y]
    assert same(trained(columns(tmp_path, rows=7, kind=named), "kind"), trained(X, Y)), "words, by the model's numbers"
    job = read_data(model(), columns(tmp_path, job=Y), "job")
    assert torch.equal(job.y, torch.from_numpy(Y))
    assert not read_data(model(), columns(tmp_path)).labelled
    read = read_data(model(), columns(tmp_path, label=Y))
    assert torch.equal(read.y, torch.from_numpy(Y))
    assert isinstance(read.x, Streamed)
    assert torch.equal(read.x[torch.tensor([119, 3, 50, 49])], torch.from_numpy(X[[119, 3, 50, 49]]))
    assert read.x.starts.tolist() == [0, 50, 100, 120]  # type: ignore[union-attr]
    turned = pd.DataFrame(X[:, ::-1], columns=NAMES[::-1])
    turned.to_parquet(tmp_path / "turned.parquet", row_group_size=9)
    own = model()
    own.column_names = tuple(NAMES)
    assert torch.equal(read_data(own, tmp_path / "turned.parquet").x[:], torch.from_numpy(X))


def test_a_label_that_is_nan_is_missing_as_in_an_array(tmp_path: Path) -> None:
    """As polars, and pyarrow of NumPy's numbers, write it; pandas writes a gap."""
    numbers = pa.array(np.where(Y < 0, np.nan, Y))
    assert numbers.null_count == 0
    assert torch.equal(read_data(model(), vectors(tmp_path, label=numbers)).y, torch.from_numpy(Y))


def test_a_column_of_lists_and_shards_are_the_array(tmp_path: Path) -> None:
    whole = trained(X, Y)
    assert same(trained(vectors(tmp_path, y=Y)), whole)
    (tmp_path / "parts").mkdir()
    (tmp_path / "arrays").mkdir()
    for i, rows in zip((2, 9, 10), (slice(0, 33), slice(33, 100), slice(100, N))):  # 10 comes after 9
        vectors(tmp_path / "parts", 20, f"{i}.parquet", X[rows], y=Y[rows])
        np.save(tmp_path / "arrays" / f"{i}.npy", X[rows])
    assert same(trained(tmp_path / "parts"), whole)
    assert same(trained(tmp_path / "arrays", Y), whole)
    every = read_data(model(), tmp_path / "arrays").x
    assert torch.equal(every[torch.tensor([0, 110, 33, 32])], torch.from_numpy(X[[0, 110, 33, 32]]))
    pixels = GENERATOR.integers(0, 256, (N, 1, 4, 4), np.uint8)
    read = read_data(model((1, 4, 4)), vectors(tmp_path, 7, "pixels.parquet", pixels.reshape(N, 16)))
    assert read.pixels
    assert torch.equal(read.x[:], torch.from_numpy(pixels))


def test_zarr_is_the_array(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: pip install 'pyro_ssvae[zarr]'")
    whole = trained(X, Y)
    place = tmp_path / "x.zarr"
    zarr.save_array(str(place), X, chunks=(7, D)) if zarr.__version__ < "3" else zarr.create_array(
        store=str(place), data=X, chunks=(7, D)
    )
    assert same(trained(place, Y), whole)
    assert same(trained(zarr.open(str(place), mode="r"), Y), whole)
    read = read_data(model(), place).x
    assert isinstance(read, Streamed)
    assert read.starts.tolist() == [*range(0, N, 7), N]  # type: ignore[union-attr]
    assert torch.equal(read[torch.tensor([119, 3, 50, 49])], torch.from_numpy(X[[119, 3, 50, 49]]))
    group = zarr.open_group(str(tmp_path / "both.zarr"), mode="w")
    group.create_array("features", data=X, chunks=(N, 2))
    group.create_array("label", data=Y.astype(np.int8))
    assert same(trained(tmp_path / "both.zarr"), whole)
    assert same(trained(group), whole)


def test_zarr_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: pip install 'pyro_ssvae[zarr]'")
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group.create_array("x", shape=(0, D), dtype="f4", chunks=(5, D))
    refused(lambda: trained(tmp_path / "g.zarr"), "g.zarr", "no rows")
    refused(lambda: trained(tmp_path / "none.zarr"), "none.zarr", "no such folder")
    zarr.open_group(str(tmp_path / "h.zarr"), mode="w").create_array("z", data=X)
    refused(lambda: trained(tmp_path / "h.zarr"), "h.zarr", "no array 'x'", "'z'")
    zarr.open_group(str(tmp_path / "i.zarr"), mode="w").create_array("x", data=X.astype(np.complex64))
    refused(lambda: trained(tmp_path / "i.zarr"), "i.zarr", "numbers")
    monkeypatch.setattr(zarr_arrays, "LARGEST", 4 * D * 10)
    zarr.open_group(str(tmp_path / "j.zarr"), mode="w").create_array("x", data=X, chunks=(11, D))
    refused(lambda: trained(tmp_path / "j.zarr"), "j.zarr", "chunks of 11 rows", "chunks of 5 rows")
    (tmp_path / "k.zarr").mkdir()
    (tmp_path / "k.zarr" / "zarr.json").write_text("{")
    refused(lambda: trained(tmp_path / "k.zarr"), "k.zarr", "damaged")


def test_parquet_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(lambda: trained(columns(tmp_path, words="a"), Y), "columns.parquet", "'words' is", "read_table")
    refused(lambda: trained(columns(tmp_path), "kid"), "columns.parquet", "no column 'kid'")
    refused(lambda: trained(columns(tmp_path, kind=0.5), "kind"), "'kind'", "row 0", "whole number")
    refused(lambda: trained(tmp_path / "none.parquet"), "none.parquet", "no such file")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    refused(lambda: trained(tmp_path / "x.parquet"), "x.parquet", "damaged")
    uneven = pa.table({"x": pa.array([[1.0] * D, [3.0] * D, [5.0]])})
    pq.write_table(uneven, tmp_path / "uneven.parquet")
    refused(lambda: trained(tmp_path / "uneven.parquet"), "uneven.parquet", "'x'", "lengths")
    pq.write_table(
        pa.table({"x": pa.array([[1.0] * D] * 4 + [[1.0] * 3] * 4)}), tmp_path / "2.parquet", row_group_size=4
    )
    refused(lambda: trained(tmp_path / "2.parquet"), "2.parquet", "lists of 3 in row group 1")
    pq.write_table(pa.table({"x": pa.array([], pa.list_(pa.float32()))}), tmp_path / "0.parquet")
    refused(lambda: trained(tmp_path / "0.parquet"), "0.parquet", "no rows")
    gaps = columns(tmp_path, f3=np.where(np.arange(N) == 77, np.nan, 1.0))
    trained(gaps, Y)  # an entry that is missing
    gaps = columns(tmp_path, f3=np.where(np.arange(N) == 77, np.inf, 1.0))
    refused(lambda: trained(gaps, Y), "columns.parquet", "row 77", "finite")
    monkeypatch.setattr(row_groups, "LARGEST", 4 * D * 10)
    refused(lambda: trained(columns(tmp_path, 11), Y), "row group 0 has 11 rows", "row_group_size=5")


def test_lists_of_lists_are_named(tmp_path: Path) -> None:
    for name, value in (("nested", [[1.0, 2.0], [3.0, 4.0]]), ("words", ["a", "b"])):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"x": [value] * N}), path)
        refused(lambda path=path: trained(path, Y), path.name, "column 'x' is list<", "lists of numbers")  # type: ignore[misc]


def test_shards_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    def shards(name: str, *files: Callable[[Path], object]) -> Path:
        (tmp_path / name).mkdir()
        for file in files:
            file(tmp_path / name)
        return tmp_path / name

    def table(name: str, **values: Any) -> Callable[[Path], object]:
        return lambda folder: pq.write_table(pa.table(values), folder / name)

    def array(name: str, values: np.ndarray) -> Callable[[Path], object]:
        return lambda folder: np.save(folder / name, values)

    one = table("0.parquet", a=[1.0, 2.0], b=[1.0, 2.0])
    refused(lambda: trained(shards("a", one, table("1.parquet", a=[1.0]))), "1.parquet", "no column 'b'")
    more = table("1.parquet", a=[1.0], b=[1.0], c=[1.0])
    refused(lambda: trained(shards("b", one, more)), "1.parquet", "'c'")
    other = table("1.parquet", a=[1.0], b=["w"])
    refused(lambda: trained(shards("c", one, other)), "1.parquet", "'b' is string", "0.parquet")
    refused(lambda: trained(shards("d", one, array("1.npy", X))), "0.parquet", "one kind")
    refused(lambda: trained(shards("e", array("0.npy", X), array("1.npy", X[:, :2]))), "1.npy", "[2]", "[6]")
    refused(lambda: trained(shards("f", array("0.npy", X), array("1.npy", X.astype(np.uint8)))), "1.npy", "uint8")
    refused(lambda: trained(shards("g", array("0.npy", X), array("1.npy", X[0]))), "1.npy", "[N, ...]")


def read_rows(rows: np.ndarray) -> np.ndarray:
    return X[rows]


def test_points_that_a_function_reads_are_the_array() -> None:
    whole = trained(X, Y)
    assert same(trained(ps.stream(read_rows, X.shape), Y), whole)
    assert same(trained(ps.stream(lambda rows: torch.from_numpy(X)[rows], X.shape, block=13), Y), whole)
    assert same(trained(ps.stream(lambda rows: X[rows].astype(np.float64), X.shape), Y), whole)
    asked = list[np.ndarray]()
    noted = ps.stream(lambda rows: X[asked.append(rows) or rows], X.shape, block=50)  # type: ignore[func-returns-value]
    assert torch.equal(noted.read_all(), torch.from_numpy(X))
    assert sorted(map(len, asked)) == [20, 50, 50]


@pytest.mark.parametrize(
    ("read", "dtype", "words"),
    [
        (lambda rows: X[rows[1:]], "float32", ["faces", "[119, 6]", "120 rows", "[120, 6]"]),
        (lambda rows: X[rows][:, :5], "float32", ["faces", "[120, 5]", "[120, 6]"]),
        (lambda rows: X[rows].astype(np.uint8), "float32", ["faces", "uint8", "numbers were promised"]),
        (lambda rows: X[rows], "uint8", ["faces", "float32", "uint8 was promised"]),
        (lambda rows: X[rows].astype(str), "float32", ["faces", "<U", "numbers were promised"]),
        (lambda rows: None, "float32", ["faces", "NoneType"]),
        (lambda rows: (X[rows], Y[rows]), "float32", ["faces", "not a tensor or an array of numbers"]),
        (lambda rows: {"x": X[rows]}, "float32", ["faces", "a dict"]),
        (lambda rows: np.where(rows[:, None] == 7, np.inf, X[rows]), "float32", ["faces", "row 7", "finite"]),
    ],
)
def test_a_function_that_reads_something_else_is_named(read: Any, dtype: str, words: list[str]) -> None:
    refused(lambda: trained(ps.stream(read, X.shape, dtype, name="faces"), Y), *words)


def test_what_is_said_of_a_function_is_checked() -> None:
    refused(lambda: ps.stream(read_rows, (0, 6)), "shape", "(0, 6)")
    refused(lambda: ps.stream(read_rows, (6,)), "shape")
    refused(lambda: ps.stream(read_rows, X.shape, "int8"), "'int8'", "'uint8'", "'float32'")
    refused(lambda: ps.stream(read_rows, X.shape, block=0), "block 0")


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    (tmp_path / "arrays").mkdir()
    for i in range(2):
        np.save(tmp_path / "arrays" / f"{i}.npy", X[60 * i : 60 * i + 60])
    points = read_data(model(), tmp_path / "arrays").x
    assert len(points[:]) == N
    (tmp_path / "arrays" / "1.npy").unlink()
    refused(lambda: points[:], "1.npy", "rows 0 to 59", "No such file")
    points = read_data(model(), vectors(tmp_path, 20)).x
    (tmp_path / "vectors.parquet").unlink()
    refused(lambda: points[:], "vectors.parquet", "row group 0 cannot be read")
    pytest.importorskip("zarr", reason="zarr is not installed").create_array(
        str(tmp_path / "x.zarr"), data=X, chunks=(9, D)
    )
    points = read_data(model(), tmp_path / "x.zarr").x
    (tmp_path / "x.zarr" / "zarr.json").unlink()
    refused(lambda: points[:], "x.zarr", "it is gone", "rows 0 to 8")


def test_processes_get_points_by_value_and_read_them_themselves(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    sources: list[Any] = [tmp_path / "x.npy", columns(tmp_path), vectors(tmp_path), ps.stream(read_rows, X.shape)]
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: pip install 'pyro_ssvae[zarr]'")
    zarr.open_group(str(tmp_path / "x.zarr"), mode="w").create_array("x", data=X, chunks=(9, D))
    for source in [*sources, tmp_path / "x.zarr"]:
        points = read_data(model(), source).x
        assert torch.equal(points[:], torch.from_numpy(X))  # a part is kept, and not sent
        sent = cloudpickle.dumps(points)
        assert torch.equal(cloudpickle.loads(sent)[:], torch.from_numpy(X))
        assert X[-1].tobytes() not in sent, source


def test_a_sample_of_parts_reads_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = set[int]()

    def part(b: int) -> np.ndarray:
        parts.add(b)
        return np.full((10, 4), b, np.float32)

    points = by_parts(part, np.arange(0, 10_001, 10), (10_000, 4), np.float32, "x")
    rows = draw_rows(points, 100, 3)
    assert len(rows) == 100
    assert torch.equal(rows, rows.sort().values)
    assert len(some_of(points, 400)) == 100
    assert len(parts) <= 64
    monkeypatch.setattr(random_rows, "MANY", 1000)
    every = draw_rows(torch.zeros(10_000, 1), 500, 0)
    assert 450 < len(every) <= 500
    assert every.max() > 9000
    assert torch.equal(draw_rows(torch.zeros(50, 1), 500, 0), torch.arange(50))
    few = points.subset(torch.arange(5, 10_000, 7))
    assert few.starts is not None
    assert torch.equal(few[:], torch.arange(5, 10_000, 7)[:, None].div(10, rounding_mode="floor").expand(-1, 4).float())
    assert (np.diff(few.starts) > 0).all()
