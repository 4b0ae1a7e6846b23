"""One's own npz file: layouts, labels, and everything that can be wrong with it."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_makers import npy_header, npz, raw_npz, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_ssvae.data import Dataset, checks, load, load_npz
from pyro_ssvae.data.layouts import LAYOUTS, counts_in, layout_of
from pyro_ssvae.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.random((10, 4))
GREY = RNG.integers(0, 256, (10, 6, 5), np.uint8)
COLOUR = RNG.integers(0, 256, (10, 3, 6, 5), np.uint8)


@pytest.mark.parametrize(
    ("x", "shape", "dtype"),
    [
        (GREY, (1, 6, 5), torch.uint8),
        (GREY > 100, (1, 6, 5), torch.uint8),
        (GREY[..., None], (1, 6, 5), torch.uint8),
        (GREY[:, None].astype(np.int64), (1, 6, 5), torch.uint8),
        (COLOUR, (3, 6, 5), torch.uint8),
        (COLOUR.transpose(0, 2, 3, 1), (3, 6, 5), torch.uint8),
        (COLOUR / 255, (3, 6, 5), torch.float32),
        (GREY / 255, (1, 6, 5), torch.float32),
        (GREY.astype(np.int32), (1, 6, 5), torch.uint8),
        (GREY - 128.0, (5, 6), torch.float32),
        (X, (4,), torch.float32),
        (X.astype(">f2"), (4,), torch.float32),
        (np.asfortranarray(X), (4,), torch.float32),
        (GREY[:, 0], (5,), torch.float32),
    ],
)
def test_layouts(tmp_path: Path, x: np.ndarray, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    data = load_npz(npz(tmp_path / "own.npz", x=x, y=np.zeros(10, int), x_test=x[:3], y_test=np.zeros(3)))
    assert data.input_shape == shape
    assert data.x.dtype == data.x_test.dtype == dtype
    assert len(data.x) == 10
    assert data.name == "own"
    assert data.kind == {1: "vectors", 2: "series", 3: "images"}[len(shape)]


def test_values_survive(tmp_path: Path) -> None:
    data = load_npz(npz(tmp_path / "a.npz", x=COLOUR.transpose(0, 2, 3, 1), x_test=COLOUR.transpose(0, 2, 3, 1)[:1]))
    assert bool((data.x == torch.from_numpy(COLOUR)).all())
    assert bool(
        (
            load_npz(npz(tmp_path / "b.npz", x=GREY > 9, x_test=GREY[:1] > 9)).x[:, 0]
            == 255 * (torch.from_numpy(GREY) > 9)
        ).all()
    )
    compressed = tmp_path / "c.npz"
    np.savez_compressed(compressed, x=X, x_test=X[:1])
    assert bool((load_npz(compressed).x == torch.from_numpy(X).float()).all())


def labelled(tmp_path: Path, **arrays: Any) -> Dataset:
    return load_npz(npz(tmp_path / "y.npz", x=X, x_test=X[:2], **arrays))


def test_labels(tmp_path: Path) -> None:
    y = np.array([0, 1, 2, -1, 0, 1, 2, 0, 1, 4])
    data = labelled(tmp_path, y=y)
    assert data.y.tolist() == y.tolist()
    assert data.y_test.tolist() == [-1, -1]
    assert data.labels.names == ("0", "1", "2", "3", "4")
    assert labelled(tmp_path, y=y.astype(float), y_test=np.array([7.0, -1])).labels.size == 8
    assert labelled(tmp_path, y=y, names=list("abcdefg")).labels.names == tuple("abcdefg")
    assert labelled(tmp_path).labels.size == 10
    assert labelled(tmp_path, y=np.full(10, -1)).labels.size == 10
    assert labelled(tmp_path, y=np.full(10, -1), names=["a", "b"]).labels.size == 2
    assert labelled(tmp_path, y=y > 1).labels.size == 2
    attributes = labelled(tmp_path, y=RNG.integers(-1, 2, (10, 3)), names=["hat", "beard", "smile"])
    assert attributes.labels.names == ("hat", "beard", "smile")
    assert attributes.y_test.tolist() == [[-1] * 3] * 2
    assert labelled(tmp_path, y=RNG.integers(-1, 2, (10, 3))).labels.names == ("attribute0", "attribute1", "attribute2")


def test_words(tmp_path: Path) -> None:
    words = np.array(["owl", "cat", "", "owl", " cat ", "dog", "-1", "cat", "owl", "owl"])
    data = labelled(tmp_path, y=words, y_test=np.array(["bat", ""]))
    assert data.labels.names == ("bat", "cat", "dog", "owl")
    assert data.y.tolist() == [3, 1, -1, 3, 1, 2, -1, 1, 3, 3]
    assert data.y_test.tolist() == [0, -1]
    named = labelled(tmp_path, y=words, names=["owl", "dog", "cat", "emu"])
    assert named.y.tolist()[:3] == [0, 2, -1]
    assert named.labels.size == 4
    assert labelled(tmp_path, y=np.array(["10", "9", "2"] + [""] * 7)).labels.names == ("2", "9", "10")
    refused(lambda: labelled(tmp_path, y=words, names=["owl", "dog", "cats"]), "y.npz", "'cat'", "'cats'")
    refused(lambda: labelled(tmp_path, y=words, y_test=np.array([1, 2])), "y_test")
    refused(lambda: labelled(tmp_path, y=words[:, None]), "y is text")
    refused(lambda: labelled(tmp_path, y=np.array(["a\x07b"] * 10)), "y.npz", "\\x07")


def test_a_fifth_is_held_out_the_same_each_time(tmp_path: Path) -> None:
    y = np.arange(50) % 5
    x = np.arange(50.0)[:, None]
    path = npz(tmp_path / "a.npz", x=x, y=y)
    data = load_npz(path)
    assert data.y_test.bincount().tolist() == [2] * 5
    assert sorted(data.x[:, 0].tolist() + data.x_test[:, 0].tolist()) == x[:, 0].tolist()
    assert bool((data.x_test[:, 0].long() % 5 == data.y_test).all())
    assert load_npz(path).x_test.tolist() == data.x_test.tolist()


@pytest.mark.parametrize(("size", "shape"), [(3, (3, 3)), ((8, 4), (8, 4)), (12, (12, 12))])
def test_image_size(tmp_path: Path, size: Any, shape: tuple[int, int]) -> None:
    for x in (COLOUR, COLOUR / 255):
        data = load(npz(tmp_path / "a.npz", x=x), image_size=size)
        assert data.input_shape == (3, *shape)
        assert data.x_test.shape[1:] == data.x.shape[1:]
        assert float(data.x.float().max()) <= (255 if data.x.dtype == torch.uint8 else 1)
    flat = load(npz(tmp_path / "b.npz", x=np.full((4, 9, 5), 77, np.uint8)), image_size=size)
    assert flat.x.unique().tolist() == [77]


def test_resizing_cuts_the_sides_not_the_middle(tmp_path: Path) -> None:
    x = np.zeros((2, 4, 12), np.uint8)
    x[:, :, 4:8] = 200
    data = load(npz(tmp_path / "a.npz", x=x), image_size=2)
    assert data.x.unique().tolist() == [200]


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no x": ({"points": X}, ["no array 'x'", "'points'"]),
    "lengths": ({"x": X, "y": np.zeros(9, int)}, ["y has 9 rows", "x has 10"]),
    "test lengths": ({"x": X, "x_test": X[:2], "y_test": np.zeros(3, int)}, ["y_test has 3 rows", "x_test has 2"]),
    "nan": ({"x": np.where(np.arange(10)[:, None] == 7, np.nan, X)}, ["x: row 7", "NaN"]),
    "infinite": ({"x": X, "x_test": np.where(np.arange(10)[:, None] == 3, -np.inf, X)}, ["x_test: row 3", "infinite"]),
    "beyond float32": ({"x": np.where(np.arange(10)[:, None] == 2, 1e300, X)}, ["x: row 2", "float32"]),
    "pixels to 255": (
        {"x": np.where(np.arange(10)[:, None, None, None] == 4, COLOUR * 1.0, 0)},
        ["row 4", "range", "255"],
    ),
    "pixels below 0": ({"x": COLOUR / 255 - 0.5}, ["x: pixel values", "row 0", "-0.5"]),
    "pixels of 256": ({"x": COLOUR.astype(int) + 1000}, ["row 0", "0 to 255"]),
    "five channels": ({"x": np.zeros((4, 5, 8, 8), np.uint8)}, ["[4, 5, 8, 8]", "1 or 3 channels"]),
    "rank 1": ({"x": np.zeros(4)}, ["x: shape [4]"]),
    "rank 5": ({"x": np.zeros((2, 2, 2, 2, 2))}, ["x: shape [2, 2, 2, 2, 2]"]),
    "no rows": ({"x": np.zeros((0, 4))}, ["x: shape [0, 4]"]),
    "one row": ({"x": X[:1]}, ["x has 1 row", "at least 2"]),
    "text": ({"x": np.array([["a"]])}, ["x: text"]),
    "complex": ({"x": X + 1j}, ["x: dtype 'complex128'"]),
    "objects": ({"x": np.array([[1, "a"]], dtype=object)}, ["x: a pickled object"]),
    "object labels": ({"x": X, "y": np.array(["a", None] * 5, dtype=object)}, ["y: a pickled object"]),
    "structured": ({"x": np.zeros(3, [("a", "f4")])}, ["x: dtype"]),
    "other test": ({"x": X, "x_test": X[:, :3]}, ["x_test", "[10, 3]"]),
    "other dtype": ({"x": GREY, "x_test": GREY[:, None] / 255}, ["x_test", "float64"]),
    "y_test alone": ({"x": X, "y_test": np.zeros(2)}, ["y_test without x_test"]),
    "label beyond names": ({"x": X, "y": np.arange(10), "names": ["a", "b"]}, ["y: row 2 is 2", "0 to 1"]),
    "label below -1": ({"x": X, "y": np.arange(10) - 2}, ["y: row 0 is -2", "-1 for missing"]),
    "half label": ({"x": X, "y": np.arange(10) / 2}, ["y: row 1 is 0.5"]),
    "infinite label": ({"x": X, "y": np.full(10, np.inf)}, ["y: row 0 is inf"]),
    "gigantic label": ({"x": X, "y": np.full(10, 2**62)}, ["y: row 0", "9999"]),
    "unsigned label": ({"x": X, "y": np.full(10, 2**64 - 1, np.uint64)}, ["y: row 0"]),
    "attribute of 2": ({"x": X, "y": np.full((10, 2), 2)}, ["y: row 0 is [2, 2]", "0, 1, and -1", "[N]"]),
    "attributes and classes": ({"x": X, "x_test": X, "y": np.ones((10, 2)), "y_test": np.ones(10)}, ["y and y_test"]),
    "names of attributes": ({"x": X, "y": np.ones((10, 2)), "names": ["a"]}, ["1 name for 2 attributes"]),
    "rank of y": ({"x": X, "y": np.ones((10, 2, 2))}, ["y has shape [10, 2, 2]"]),
    "no attributes": ({"x": X, "y": np.ones((10, 0))}, ["y has shape [10, 0]"]),
    "numbers as names": ({"x": X, "names": np.arange(3)}, ["names is int64"]),
    "repeated names": ({"x": X, "names": ["a", "a"]}, ["names ['a', 'a']"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, case: str) -> None:
    arrays, culprits = WRONG[case]
    path = npz(tmp_path / "bad.npz", **arrays)
    refused(lambda: load_npz(path), "bad.npz", *culprits)


def test_not_an_npz_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    refused(lambda: load_npz(path), "bad.npz", "no such file")
    for content in (b"", b"hello", pickle.dumps({"x": 1}), npz(tmp_path / "a.npz", x=X).read_bytes()[:-300]):
        path.write_bytes(content)
        refused(lambda: load_npz(path), "bad.npz")
    npz(path, x=X)
    refused(lambda: load(path, image_size=8), "--image-size", "bad.npz")
    np.save(tmp_path / "b.npy", X)
    refused(lambda: load(tmp_path / "b.npy"), "b.npy", "npz")


class Trap:
    """Unpickling this makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "bad.npz"
    trap = pickle.dumps(Trap(str(sprung)))
    for name in ("x", "y", "x_test", "y_test", "names"):
        with zipfile.ZipFile(npz(path, **({} if name == "x" else {"x": X})), "a") as archive:
            archive.writestr(f"{name}.npy", npy_header((1,), "|O") + trap)
        refused(lambda: load_npz(path), f"bad.npz: {name}", "pickled")
        raw_npz(path, {"x": trap, name: trap})
        refused(lambda: load_npz(path), "bad.npz")
    path.write_bytes(trap)
    refused(lambda: load_npz(path), "bad.npz")
    assert not sprung.exists()
    pickle.loads(trap)  # the trap works
    assert sprung.exists()


def test_a_gigantic_claim_is_refused_before_allocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bad.npz"
    raw_npz(path, {"x": npy_header((10**6, 10**6)) + bytes(64)})
    refused(lambda: load_npz(path), "bad.npz: x", "4000000000000")
    raw_npz(path, {"x": npy_header((2**62, 2**62)) + bytes(64)})
    refused(lambda: load_npz(path), "bad.npz: x")
    raw_npz(path, {"x": npy_header((-4, -4)) + bytes(64)})
    refused(lambda: load_npz(path), "bad.npz: x")
    raw_npz(path, {"x": npy_header((16,))[:20]})
    refused(lambda: load_npz(path), "bad.npz: x")
    npz(path, x=X)
    monkeypatch.setattr(checks, "MAX_BYTES", 250)
    refused(lambda: load_npz(path), "bad.npz", "GiB")
    npz(path, x=GREY[:2, :2, :2], y=[0, 1])
    refused(lambda: load(path), "bad.npz", "GiB")  # the arrays together
    monkeypatch.setattr(checks, "MAX_BYTES", 100_000)
    npz(path, x=GREY)
    refused(lambda: load(path, image_size=4000), "--image-size 4000")


@pytest.mark.parametrize("size", [0, -3, 5000, (4,), (4, 4, 4), (4, 0), 2.5, True, (4, 4.0)])
def test_wrong_image_size(tmp_path: Path, size: Any) -> None:
    path = npz(tmp_path / "a.npz", x=GREY)
    refused(lambda: load(path, image_size=size), "--image-size")


def one_line_or_data(path: Path, **options: Any) -> None:
    try:
        data = load(path, **options)
    except InputError as error:
        said = str(error)
    else:
        said = ""
        assert len(data.x) == len(data.y)
        assert bool(torch.isfinite(data.x.float()).all())
        data.labels.check(data.y, len(data.x))
        data.labels.check(data.y_test, len(data.x_test))
    assert "\n" not in said
    assert len(said) < 1000


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


SHAPES = st.lists(st.integers(0, 4), max_size=5).map(tuple)
DTYPES = st.sampled_from(
    ["u1", "i1", "i8", "u8", "f2", "f4", "f8", ">f4", "g", "?", "<U3", "S3", "c8", "M8[s]", "V4", "<U0"]
)


@st.composite
def any_array(draw: st.DrawFn) -> np.ndarray:
    shape, dtype = draw(SHAPES), np.dtype(draw(DTYPES))
    size = int(np.prod(shape)) * dtype.itemsize
    if draw(st.booleans()) or not size:
        return np.zeros(shape, dtype)
    seed = draw(st.binary(min_size=1, max_size=12))
    return np.ndarray(shape, dtype, (seed * size)[:size])


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["x", "y", "x_test", "y_test", "names"]), any_array()), st.sampled_from([None, 3])
)
@pytest.mark.filterwarnings("ignore")
def test_fuzz_arrays(scratch: Path, arrays: dict[str, np.ndarray], size: int | None) -> None:
    one_line_or_data(npz(scratch / "a.npz", **arrays), image_size=size)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([np.savez, np.savez_compressed]))
@pytest.mark.filterwarnings("ignore")
def test_fuzz_bytes(scratch: Path, data: st.DataObject, save: Any) -> None:
    path = scratch / "b.npz"
    save(path, x=X, y=np.array(["a", "b"] * 5), names=["a", "b"])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
    one_line_or_data(path)


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(max_codepoint=127), max_size=40),
    st.sampled_from([(1, 0), (2, 0), (3, 0), (9, 9)]),
    st.booleans(),
)
@pytest.mark.filterwarnings("ignore")
def test_fuzz_headers(scratch: Path, text: str, version: tuple[int, int], near: bool) -> None:
    if near:  # close to a header
        text = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + re.sub(r"[^0-9,()\[\]<f'-]", "", text) + "), }"
    head = text.encode("latin1")
    magic = b"\x93NUMPY" + bytes(version)
    raw_npz(
        scratch / "c.npz", {"x": magic + len(head).to_bytes(2 if version == (1, 0) else 4, "little") + head + bytes(64)}
    )
    one_line_or_data(scratch / "c.npz")


SERIES = RNG.normal(size=(10, 40, 3))


@pytest.mark.parametrize(
    ("x", "layout", "shape"),
    [
        (SERIES, None, (3, 40)),
        (SERIES.transpose(0, 2, 1), None, (3, 40)),
        (SERIES, "nct", (40, 3)),
        (GREY / 255, "nct", (6, 5)),
        (GREY / 255, "ntc", (5, 6)),
        (GREY, "ntc", (5, 6)),
        (RNG.random((10, 8, 8)), None, (1, 8, 8)),
        (RNG.random((10, 30, 6)), None, (6, 30)),
        (RNG.random((10, 3, 5, 3)), "nhwc", (3, 3, 5)),
        (RNG.integers(0, 256, (10, 8, 8, 4), np.uint8), None, (4, 8, 8)),
        (RNG.integers(0, 256, (10, 5, 8, 8), np.uint8), "nchw", (5, 8, 8)),
    ],
)
def test_a_layout_is_guessed_and_said_or_given(
    tmp_path: Path, x: np.ndarray, layout: str | None, shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    data = load(npz(tmp_path / "a.npz", x=x, x_test=x[:2]), layout=layout)
    assert data.input_shape == shape
    assert ("--layout" in capsys.readouterr().err) == (layout is None)
    assert len(data.x) == 10
    if x.dtype != np.uint8 and layout != "nhwc":
        assert np.allclose(np.sort(data.x.numpy().ravel()), np.sort(x.ravel()), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((10, 6, 12), "nhw"),  # sides that differ by twice
        ((10, 6, 13), "nct"),  # and by more
        ((10, 13, 6), "ntc"),
        ((10, 5, 5), "nhw"),
        ((10, 4, 4), "nct"),  # too small for a picture; of equal axes channels come first
        ((10, 2, 7, 4), "nhwc"),  # four channels are likelier than two
        ((10, 4, 7, 2), "nchw"),
        ((10, 4, 7, 4), "nchw"),
    ],
)
def test_the_likely_layout_of_numbers_from_0_to_1(shape: tuple[int, ...], layout: str) -> None:
    found, line = layout_of(RNG.random(shape), None, "a.npz")
    assert found == layout
    assert line is not None
    assert LAYOUTS[layout] in line


def test_vectors_look_like_counts_where_they_are_whole_and_not_0_and_1_alone() -> None:
    x = np.tile(np.array([[0.0, 1.0, 2.0]]), (5, 1))
    said = counts_in(x)
    assert said is not None
    assert said.startswith("whole numbers from 0 to 2;")
    for other in (x.clip(0, 1), x + 0.5, x - 1, x[:, 2:], np.where(x == 2, np.nan, x)):
        assert counts_in(other) is None


def test_a_layout_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x=SERIES, x_test=SERIES)
    refused(lambda: load(path, layout="nhwc"), "--layout nhwc", "[10, 40, 3]")
    refused(lambda: load(path, layout="ntx"), "--layout", "did you mean 'ntc'?")
    refused(lambda: load("digits", layout="nhw"), "--layout nhw", "'digits'")
    refused(lambda: load(npz(tmp_path / "b.npz", x=X, x_test=X), layout="nct"), "--layout nct", "[10, 4]")


def test_arrays_by_other_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    y = np.arange(10) % 2
    path = npz(tmp_path / "a.npz", X_train=X, labels=y, test_images=X[:3], test_labels=y[:3], ids=np.arange(10))
    data = load_npz(path)
    assert (data.y.tolist(), data.y_test.tolist()) == (y.tolist(), y[:3].tolist())
    said = capsys.readouterr().err
    assert "'labels' is taken for y" in said
    assert "not used: 'ids'" in said
    np.savez(tmp_path / "b.npz", X, y)
    assert sorted([*load_npz(tmp_path / "b.npz").y.tolist(), *load_npz(tmp_path / "b.npz").y_test.tolist()]) == sorted(
        y
    )
    both = load_npz(npz(tmp_path / "c.npz", x=X, X=X + 1, x_test=X[:2]))
    assert torch.equal(both.x, torch.from_numpy(X).float())


def test_pixels_that_are_nan_are_missing(tmp_path: Path) -> None:
    x = (COLOUR / 255).astype(np.float32)
    x[3, 2, 1] = np.nan
    data = load(npz(tmp_path / "a.npz", x=x, x_test=x[:4]))
    assert int(data.x.isnan().sum()) == int(np.isnan(x).sum()) > 0
    assert int(data.x_test.isnan().sum()) == int(np.isnan(x[:4]).sum())
    x[5] *= 255
    refused(lambda: load(npz(tmp_path / "b.npz", x=x)), "b.npz: x", "row 5", "0 to ")
    x[5] = np.nan
    refused(lambda: load(npz(tmp_path / "c.npz", x=x)), "c.npz: x", "row 5 has no value at all")


@pytest.mark.parametrize(
    ("x", "most", "words", "white"),
    [
        (GREY.astype(np.uint16) * 4, 4 * int(GREY.max()) / 1023, "read as 10 bits, 1023 is white", 1023),
        (GREY.astype(np.uint16) * 16, 16 * int(GREY.max()) / 4095, "read as 12 bits", 4095),
        (GREY.astype(np.uint16) * 257, 1.0, "read as 16 bits", 65535),
        (GREY // 128, 1.0, "black and white", 1),
        (GREY // 16, 15, "255 is white", None),
    ],
)
def test_pixels_of_other_ranges_are_said(
    tmp_path: Path, x: np.ndarray, most: float, words: str, white: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    x = x.copy()
    x.ravel()[0] = x.max() if words != "read as 16 bits" else 65535
    data = load(npz(tmp_path / "a.npz", x=x, x_test=x[:2]), layout="nhw")
    assert float(data.x.max()) == pytest.approx(most)
    assert data.white_level == white
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.where(np.arange(20) < 10, -1, 1), "-1 and 1 alone"),
        (np.where(np.arange(20) < 10, "-1", "1"), "-1 and 1 alone"),
        (np.where(np.arange(40).reshape(20, 2) < 20, -1, 1), "'attribute0', 'attribute1'"),
        (1 + np.arange(20) % 3, "no label is 0"),
        (np.eye(3, dtype=int)[np.arange(20) % 3] - (np.arange(20) == 4)[:, None] * [0, 2, 1], None),
        (np.eye(3, dtype=int)[np.arange(20) % 3], "each row has a single 1; read as 3 attributes"),
        (np.where(np.arange(20) < 10, "nan", "owl"), "'nan' (10 rows) is taken as a missing label"),
        (np.where(np.arange(20) < 10, "-1.0", "1.0"), "'-1.0' (10 rows)"),
    ],
)
def test_labels_with_two_meanings_are_said(
    tmp_path: Path, y: np.ndarray, words: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    load_npz(npz(tmp_path / "a.npz", x=np.repeat(X, 2, 0), y=y, x_test=X))
    said = capsys.readouterr().err
    assert said == "" if words is None else words in said
    load_npz(npz(tmp_path / "b.npz", x=np.repeat(X, 2, 0), y=np.arange(20) % 3 - 1, x_test=X))
    assert capsys.readouterr().err == ""


def test_a_missing_label_among_floats_is_nan(tmp_path: Path) -> None:
    y = np.array([0, np.nan, 2, -1, 0, 1, 2, np.nan, 1, 1])
    assert labelled(tmp_path, y=y).y.tolist() == [0, -1, 2, -1, 0, 1, 2, -1, 1, 1]


def test_words_that_differ_in_capitals_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load_npz(npz(tmp_path / "own.npz", x=np.eye(40), y=np.array(["Cat", "cat", "dog", "dog"] * 10)))
    assert tuple(data.labels.names) == ("Cat", "cat", "dog")
    assert "own.npz: y: 'Cat' and 'cat' are different words" in capsys.readouterr().err
