"""What people hand over: every container gives a model the same numbers, in every verb, or is refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from data_makers import refused
from PIL import Image
from torch import Tensor
from torch.utils import data as torch_data

import pyro_ssvae as ps
from pyro_ssvae.data import Dataset
from pyro_ssvae.data.inputs import read_data
from pyro_ssvae.models.base import given_labels

N, D, NAMES, COLUMNS = 24, 4, ["owl", "cat", "dog"], list("abcd")
Y = np.arange(N) % 3
X = (np.random.default_rng(0).normal(size=(N, D)) + 3 * np.eye(3, D)[Y]).astype(np.float32)
FRAME = pd.DataFrame(X, columns=COLUMNS)


@pytest.fixture(scope="module")
def model() -> ps.Model:
    """A model trained for a moment on a table with names."""
    torch.manual_seed(0)
    vae = ps.create_model("augmented", input_shape=(D,), labels=ps.ClassLabels(3, NAMES), latent_dim=2)
    ps.fit(vae, FRAME, Y, epochs=1, progress=False)
    return vae


class Items(torch_data.Dataset[Any]):
    """Points and labels as dicts."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"x": torch.from_numpy(X[i]), "label": int(Y[i])}


class Stream(torch_data.IterableDataset[Any]):
    """Pairs, one after another."""

    def __iter__(self) -> Iterator[Any]:
        return iter(zip(X, Y.tolist()))


def read_only() -> np.ndarray:
    x = X.copy()
    x.setflags(write=False)
    return x


BOTH = torch_data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
NULLABLE = FRAME.astype("Float64")
CONTAINERS: dict[str, Callable[[], object]] = {
    "csr": lambda: sp.csr_matrix(X),
    "coo array": lambda: sp.coo_array(X),
    "torch coo": lambda: torch.from_numpy(X).to_sparse(),
    "torch csr": lambda: torch.from_numpy(X).to_sparse_csr(),
    "float64": lambda: X.astype(np.float64),
    "big-endian": lambda: X.astype(">f4"),
    "reversed twice": lambda: np.ascontiguousarray(X[::-1])[::-1],
    "columns first": lambda: np.asfortranarray(X),
    "read-only": read_only,
    "lists": lambda: X.tolist(),
    "list of tensors": lambda: list(torch.from_numpy(X)),
    "objects": lambda: X.astype(object),
    "masked": lambda: np.ma.array(X),
    "records": lambda: np.rec.fromarrays(X[:, ::-1].T, names="d,c,b,a"),
    "long double": lambda: X.astype(np.longdouble),
    "history": lambda: torch.from_numpy(X).requires_grad_() * 1,
    "TensorDataset": lambda: BOTH,
    "Subset": lambda: torch_data.Subset(BOTH, range(N)),
    "dicts": Items,
    "stream": Stream,
    "loader": lambda: torch_data.DataLoader(BOTH, 7, shuffle=True),
    "loader of dicts": lambda: torch_data.DataLoader(Items(), 7, drop_last=True),
    "loader of a stream": lambda: torch_data.DataLoader(Stream(), 7),
    "table": lambda: FRAME,
    "table in another order": lambda: FRAME[["c", "a", "d", "b"]],
    "nullable table": lambda: NULLABLE,
    "dict": lambda: {"data": X, "target": Y},
    "data set": lambda: Dataset("mine", *map(torch.from_numpy, (X, Y, X, Y)), ps.ClassLabels(3, NAMES)),
}


@pytest.mark.filterwarnings("error:The given NumPy array is not writable", "ignore:Sparse CSR")
@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_container_holds_the_same_points(model: ps.Model, kind: str) -> None:
    read = read_data(model, CONTAINERS[kind](), least=1)
    assert isinstance(read.x, Tensor)
    assert torch.equal(read.x, torch.from_numpy(X))
    if read.labelled:
        assert read.y.tolist() == Y.tolist()


@pytest.mark.parametrize("kind", ["dicts", "stream", "loader", "dict", "TensorDataset", "data set"])
def test_evaluate_takes_the_labels_that_come_along(model: ps.Model, kind: str) -> None:
    expected = ps.evaluate(model, X, Y, num_samples=1)
    found = ps.evaluate(model, CONTAINERS[kind](), num_samples=1)  # type: ignore[arg-type]
    assert found["n"] == N
    assert found["accuracy"] == expected["accuracy"]


VERBS: dict[str, Callable[[Any, Any], Any]] = {
    "predict": lambda m, x: m.predict(x),
    "predict_proba": lambda m, x: m.predict_proba(x),
    "encode": lambda m, x: m.encode(x).mean,
    "reconstruct": lambda m, x: m.reconstruct(x),
    "elbo": ps.elbo,
    "log_likelihood": lambda m, x: ps.log_likelihood(m, x, num_samples=2),
    "posterior": lambda m, x: ps.posterior(m, x, num_samples=4),
    "sites": ps.sites,
    "impute": ps.impute,
    "anomaly_scores": ps.anomaly_scores,
    "doubts": ps.doubts,
    "least_sure": ps.least_sure,
    "suggest": lambda m, x: ps.suggest(m, x, n=2),
    "class_posterior": lambda m, x: ps.class_posterior(m, x, num_samples=2),
    "evaluate": lambda m, x: ps.evaluate(m, x, num_samples=1),
    "validation": lambda m, x: ps.fit(m, X, Y, validation=(x, Y), epochs=1, progress=False),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_and_refuses_the_same(model: ps.Model, verb: str) -> None:
    call = VERBS[verb]
    for kind in ("table in another order", "csr", "big-endian"):
        call(model, CONTAINERS[kind]())
    refused(lambda: call(model, FRAME.drop(columns="c")), "no column 'c'", "by name")
    refused(lambda: call(model, FRAME.assign(e=1.0)), "'e'", "leave it out")
    refused(lambda: call(model, FRAME.assign(b="f")), "row 0, column 'b' is 'f'", "a number is needed")
    refused(lambda: call(model, X[:, :3]), "[24, 3]", "[N, 4]")
    refused(lambda: call(model, np.where(X[5, 2] == X, np.inf, X)), "row 5", "finite")


def test_another_order_of_columns_gives_the_same_answers(model: ps.Model, tmp_path: Path) -> None:
    assert model.column_names == tuple(COLUMNS)
    again = ps.load(ps.save(model, tmp_path))
    assert again.column_names == tuple(COLUMNS)
    for vae in (model, again):
        assert torch.equal(vae.predict_proba(FRAME[FRAME.columns[::-1]]), vae.predict_proba(X))


def test_large_sparse_matrices_are_made_dense_row_by_row(model: ps.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_ssvae.data.containers.IN_MEMORY", 1)
    read = read_data(model, sp.csr_matrix(X))
    assert not isinstance(read.x, Tensor)
    assert torch.equal(model.predict_proba(sp.csr_matrix(X)), model.predict_proba(X))  # type: ignore[arg-type]


def words(gap: object) -> np.ndarray:
    y = np.array(NAMES)[Y].astype(object)
    y[:6] = gap
    return y


@pytest.mark.parametrize("gap", [None, np.nan, pd.NA, "", "nan", "-1", "Unknown", "?"], ids=str)
def test_words_and_gaps_of_y(model: ps.Model, gap: object) -> None:
    expected = [-1] * 6 + Y[6:].tolist()
    assert read_data(model, X, words(gap)).y.tolist() == expected
    assert read_data(model, X, pd.Series(words(gap))).y.tolist() == expected


@pytest.mark.parametrize(
    "y",
    [
        np.where(np.arange(N) < 6, np.nan, Y),
        np.where(np.arange(N) < 6, None, Y),
        np.ma.array(Y, mask=np.arange(N) < 6),
        pd.Series(Y, dtype="Int64").mask(np.arange(N) < 6),
        pd.Series(words(None), dtype="category"),
        pd.DataFrame({"k": words(None)}),
        torch.where(torch.arange(N) < 6, torch.nan, torch.from_numpy(Y)),
        np.where(np.arange(N) < 6, -1, Y).astype(">i2"),
    ],
    ids=["NaN", "None", "masked", "Int64", "category", "table", "tensor", "big-endian"],
)
def test_numbers_and_gaps_of_y(model: ps.Model, y: object) -> None:
    assert read_data(model, X, y).y.tolist() == [-1] * 6 + Y[6:].tolist()


def test_a_class_called_unknown_is_a_class() -> None:
    vae = ps.create_model("augmented", input_shape=(D,), labels=ps.ClassLabels(2, ["cell", "unknown"]), latent_dim=2)
    assert read_data(vae, X[:2], ["unknown", "cell"]).y.tolist() == [1, 0]


def test_what_is_guessed_of_labels_is_said(model: ps.Model, capsys: pytest.CaptureFixture[str]) -> None:
    read_data(model, X, words("nan"))
    assert "'nan' (6 rows) is taken as a missing label" in capsys.readouterr().err
    refused(lambda: read_data(model, X, words("owll")), "row 0", "'owll'", "did you mean 'owl'?")
    two = ps.create_model("augmented", input_shape=(D,), labels=ps.ClassLabels(2), latent_dim=2)
    read_data(two, X, np.where(Y == 0, -1, 1))
    assert "-1 and 1 alone" in capsys.readouterr().err


def test_attributes_by_name() -> None:
    vae = ps.create_model("augmented", input_shape=(D,), labels=ps.AttributeLabels(["nose", "hat"]), latent_dim=2)
    table = pd.DataFrame({"hat": ["yes", "no", None], "nose": [0, 1, 1]})
    assert read_data(vae, X[:3], table).y.tolist() == [[0, 1], [1, 0], [1, -1]]
    refused(lambda: read_data(vae, X[:3], table.rename(columns={"hat": "hats"})), "'hat'", "'hats'")
    refused(lambda: read_data(vae, X[:3], table.assign(beard=1)), "'beard'")


def libraries(table: pd.DataFrame) -> dict[str, Any]:
    """A table as each library that gives names to columns has it."""
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    dask, xarray = pytest.importorskip("dask.dataframe"), pytest.importorskip("xarray")
    columns = ("column", list(table.columns))
    return {
        "table of pyarrow": pa.Table.from_pandas(table),
        "batch of pyarrow": pa.RecordBatch.from_pandas(table),
        "lazy polars": pl.from_pandas(table).lazy(),
        "structures of polars": pl.from_pandas(table).to_struct("s"),
        "dask": dask.from_pandas(table, npartitions=2),
        "xarray": xarray.DataArray(table.to_numpy(), dims=("row", "column"), coords={"column": columns}),
        "records": table.to_records(index=False),
    }


def test_columns_have_names_in_every_library(model: ps.Model) -> None:
    """pyarrow's attributes, polars' structures, dask's tables and xarray's arrays were taken by place, in silence."""
    for kind, x in libraries(FRAME[FRAME.columns[::-1]]).items():
        np.testing.assert_array_equal(read_data(model, x).x, X, err_msg=kind)
    attributes = ps.AttributeLabels(["nose", "hat"])
    vae = ps.create_model("augmented", input_shape=(D,), labels=attributes, latent_dim=2)
    for kind, y in libraries(pd.DataFrame({"hat": [1, 0, 0], "nose": [0, 1, -1]})).items():
        assert read_data(vae, X[:3], y).y.tolist() == [[0, 1], [1, 0], [-1, 0]], kind
    for y in libraries(pd.DataFrame({"hats": [1, 0, 0], "nose": [0, 1, -1]})).values():
        refused(lambda y=y: read_data(vae, X[:3], y), "'hat'", "'hats'")


def test_classes_of_a_source_are_taken_by_name(model: ps.Model, tmp_path: Path) -> None:
    other = ps.ClassLabels(3, ["cat", "dog", "owl"])
    y = torch.tensor([NAMES.index(name) for name in NAMES])
    of = Dataset("d", torch.from_numpy(X[:3]), torch.tensor([2, 0, 1]), torch.from_numpy(X), torch.from_numpy(Y), other)
    assert read_data(model, of).y.tolist() == y.tolist()
    np.savez(tmp_path / "a.npz", features=X, labels=[2, 0, 1] * 8, class_names=["cat", "dog", "owl"])
    assert read_data(model, tmp_path / "a.npz").y.tolist() == Y.tolist()
    np.savez(tmp_path / "b.npz", x=X, y=np.array(NAMES)[Y])
    assert read_data(model, tmp_path / "b.npz").y.tolist() == Y.tolist()
    strange = Dataset("d", *map(torch.from_numpy, (X, Y, X, Y)), ps.ClassLabels(3, ["owl", "cat", "cow"]))
    refused(lambda: read_data(model, strange), "'cow'")


def test_rows_in_another_order_are_refused(model: ps.Model) -> None:
    y = pd.Series(np.array(NAMES)[Y])
    refused(lambda: read_data(model, FRAME, y.iloc[::-1]), "index", "y.loc[x.index]")
    assert read_data(model, FRAME, y.iloc[::-1].loc[FRAME.index]).y.tolist() == Y.tolist()


def test_a_column_of_the_table_may_be_the_labels(model: ps.Model) -> None:
    table = FRAME.assign(animal=np.array(NAMES)[Y])
    assert read_data(model, table, "animal").y.tolist() == Y.tolist()
    refused(lambda: read_data(model, table, "animals"), "'animals'", "did you mean 'animal'?")
    refused(lambda: read_data(model, X, "animal"), "'animal'", "no names")


def test_what_has_no_points_is_refused(model: ps.Model) -> None:
    for x in (None, {1, 2}, [[1.0], [1.0, 2.0]], X + 1j, torch.from_numpy(X) + 1j, np.array([["a"] * D])):
        refused(lambda x=x: read_data(model, x), "x:")
    refused(lambda: read_data(model, {"train": X, "test": X}), "'train'", "one of these parts")
    refused(lambda: read_data(model, {"points": X}), "'points'")


SIDE = np.random.default_rng(1).random((N, 1, 6, 6)).astype(np.float32)


class Pictures(torch_data.Dataset[Any]):
    """Pillow's images, as torchvision's data sets give them."""

    classes = ("a", "b", "c")

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return Image.fromarray((SIDE[i, 0] * 255).round().astype(np.uint8)), int(Y[i])


def test_pictures_in_other_layouts_and_scales() -> None:
    vae = ps.create_model("classifier", input_shape=(1, 6, 6), labels=ps.ClassLabels(3), latent_dim=2)
    ps.fit(vae, SIDE, Y, epochs=1, progress=False, augment="none", validation=Pictures())
    probs = vae.predict_proba(SIDE)
    for same in (SIDE[:, 0], SIDE.transpose(0, 2, 3, 1)):
        assert torch.equal(vae.predict_proba(same), probs)
    near = vae.predict_proba(Pictures())  # type: ignore[arg-type]
    assert float((near - probs).abs().max()) < 0.02
    refused(lambda: vae.predict(SIDE * 255), "divide by 255")
    wide = ps.create_model(
        "classifier", input_shape=(1, 6, 6), labels=ps.ClassLabels(3), latent_dim=2, likelihood="normal"
    )
    ps.fit(wide, SIDE * 255, Y, epochs=1, progress=False, augment="none")
    refused(lambda: wide.predict(SIDE), "floats of 0 to 2")


def test_words_of_a_source_are_compared() -> None:
    """A data set in which 0 is male was read by a model in which 0 is female, in silence."""

    def labels(names: list[str], *words: tuple[str, str]) -> ps.AttributeLabels:
        return ps.AttributeLabels(names, words=words)

    own = labels(["old", "sex"], ("no", "yes"), ("male", "female"))
    x, y = torch.from_numpy(X), torch.from_numpy(np.stack([Y > 0, Y > 1], -1).astype(int))
    data = Dataset("d", x, y, x, y, own)
    for words, right in ((("male", "female"), True), (("0", "1"), True), (("female", "male"), False)):
        meaning = labels(["sex", "old"], words, ("0", "1"))
        vae = ps.create_model("augmented", input_shape=(D,), labels=meaning, latent_dim=2)
        if right:
            assert read_data(vae, data).y.tolist() == data.y[:, [1, 0]].tolist()
        else:
            refused(lambda vae=vae: read_data(vae, data), "'sex' as male or female, not female or male")


def test_a_row_of_words_is_one_label_for_all() -> None:
    """``generate(3, ["yes", "no"])`` was refused by "an attribute is 0 or 1, yes or no"."""
    labels = ps.AttributeLabels(["nose", "hat"], words=[("small", "big"), ("0", "1")])
    vae = ps.create_model("m2", input_shape=(D,), labels=labels, latent_dim=2)
    assert given_labels(["big", "no"], 3, labels, vae.device).tolist() == 3 * [[1, 0]]
    refused(lambda: vae.generate(3, ["big", "red"]), "'red'")
    refused(lambda: vae.generate(3, "hat"), "'hat'", "each of nose, hat")
