"""Points, labels and options in the types of other libraries: read by their meaning, or refused in one line."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyro
import pyro.distributions as dist
import pytest
import scipy.sparse as sp
import torch
from data_makers import refused
from PIL import Image
from torch import nn
from torch.utils import data as torch_data

import pyro_ssvae as ps
from pyro_ssvae.data import read_table
from pyro_ssvae.data.checks import finite
from pyro_ssvae.data.inputs import read_data
from pyro_ssvae.data.label_values import label_values
from pyro_ssvae.models import MODELS
from pyro_ssvae.train.class_weights import weights_in_order

N, D, NAMES = 24, 4, ["owl", "cat", "dog"]
Y = np.arange(N) % 3
X = (np.random.default_rng(0).normal(size=(N, D)) + 3 * np.eye(3, D)[Y]).astype(np.float32)
OWN = ["cat", "dog", "owl"]  # a source's classes, in another order than the model's
OF_OWN = np.array([2, 0, 1])[Y]


def small(labels: Any = None, name: str = "augmented", shape: Any = (D,), **options: Any) -> Any:
    torch.manual_seed(0)
    made = ps.ClassLabels(3, NAMES) if labels is None else labels
    return ps.create_model(name, input_shape=shape, labels=made, latent_dim=4, **options)


class Animals(torch_data.Dataset[Any]):
    """A data set that says what its classes are called, as torchvision's do."""

    classes = OWN

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(X[i]), int(OF_OWN[i])


HALVES = [torch_data.Subset(Animals(), range(0, 12)), torch_data.Subset(Animals(), range(12, N))]


@pytest.mark.parametrize(
    "source",
    [
        torch_data.Subset(Animals(), range(N)),
        torch_data.Subset(torch_data.Subset(Animals(), range(N)), range(N)),
        torch_data.ConcatDataset(HALVES),
        torch_data.DataLoader(torch_data.ConcatDataset(HALVES), 5, shuffle=True),
        {"data": X, "target": OF_OWN, "target_names": np.array(OWN)},
        {"x": X, "y": torch.from_numpy(OF_OWN), "names": OWN},
    ],
    ids=["part", "part of a part", "two parts", "loader", "scikit-learn's", "names"],
)
def test_classes_are_taken_by_name_where_names_lie_beside_them(source: object) -> None:
    read = read_data(small(), source)
    assert torch.equal(torch.as_tensor(read.x[:]), torch.from_numpy(X))
    assert read.y.tolist() == Y.tolist()
    numbered = small(ps.ClassLabels(3))  # without names of its own, a pair takes the numbers
    assert read_data(numbered, source).y.tolist() == OF_OWN.tolist()


def test_names_of_rows_are_no_classes_and_attributes_have_names_too() -> None:
    rows = [f"row {i}" for i in range(N)]
    assert read_data(small(), {"x": X, "y": Y, "names": rows}).y.tolist() == Y.tolist()
    both = small(ps.AttributeLabels(["hat", "tie"]))
    y = np.stack([Y > 0, Y > 1], -1).astype(int)
    assert read_data(both, {"x": X, "y": y[:, ::-1], "names": ["tie", "hat"]}).y.tolist() == y.tolist()


def test_a_loader_of_single_points() -> None:
    loader = torch_data.DataLoader(Animals(), batch_size=None)
    read = read_data(small(), loader)
    assert read.x.shape == (N, D)
    assert read.y.tolist() == Y.tolist()


def test_reading_a_loader_takes_no_random_number() -> None:
    vae, before = small(), torch.get_rng_state()
    for loader in (torch_data.DataLoader(Animals(), 5, shuffle=True), torch_data.DataLoader(Animals(), 5)):
        ps.evaluate(vae, loader, num_samples=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
def test_sparse_matrices_of_every_format(kind: str) -> None:
    for matrix in (getattr(sp, f"{kind}_matrix"), getattr(sp, f"{kind}_array")):
        assert torch.equal(torch.as_tensor(read_data(small(), matrix(X)).x[:]), torch.from_numpy(X))


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_annotated_matrices_that_stay_in_their_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anndata = pytest.importorskip("anndata")
    table = pd.DataFrame({"animal": pd.Categorical(np.array(NAMES)[Y])}, index=[f"cell {i}" for i in range(N)])
    whole = anndata.AnnData(sp.csr_matrix(X) if kind == "sparse" else X, obs=table)
    whole.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    for most in (2**30, 1):  # read whole, and some rows at a time
        monkeypatch.setattr("pyro_ssvae.data.containers.IN_MEMORY", most)
        read = read_data(small(), backed, "animal")
        assert torch.equal(read.x[:], torch.from_numpy(X))
        assert read.y.tolist() == Y.tolist()
    backed.file.close()
    refused(lambda: read_data(small(), whole, table["animal"][::-1]), "another order", "y.loc")


BYTES = np.clip(np.round(20 * X + 100), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("likelihood", ["normal", "student-t", "poisson"])
def test_the_same_numbers_in_one_byte_or_eight_are_the_same_points(likelihood: str, tmp_path: Path) -> None:
    """Only pictures have pixels: a table whose columns fit a byte, such as one of ages, has numbers."""
    vae = small(likelihood=likelihood)
    ps.fit(vae, BYTES, Y, epochs=2, progress=False)
    np.save(tmp_path / "x.npy", BYTES)
    expected = vae.predict_proba(BYTES)
    for same in (BYTES.astype(int), pd.DataFrame(BYTES), BYTES.tolist(), sp.csr_matrix(BYTES), tmp_path / "x.npy"):
        assert torch.equal(vae.predict_proba(same), expected)
    wide = small(likelihood=likelihood)
    ps.fit(wide, BYTES.astype(np.int64), Y, epochs=2, progress=False)
    assert torch.equal(wide.predict_proba(BYTES), expected)


def test_numbers_of_one_byte_in_a_large_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_ssvae.data.containers.IN_MEMORY", 1)
    losses = []
    for x in (sp.csr_matrix(BYTES), sp.csr_matrix(BYTES.astype(np.float32))):
        losses.append(ps.fit(small(likelihood="poisson"), x, Y, epochs=2, progress=False)["loss"])
    assert losses[0] == losses[1]


def test_flat_pictures_of_eight_bits_are_pixels_where_the_likelihood_is_of_pixels() -> None:
    vae = small(likelihood="bernoulli")
    ps.fit(vae, BYTES, Y, epochs=1, progress=False)
    near = vae.predict_proba(BYTES.astype(np.float32) / 255)
    torch.testing.assert_close(vae.predict_proba(BYTES), near, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", ["U", "S", object, "string"])
def test_numbers_in_words_are_numbers_whatever_holds_them(dtype: Any) -> None:
    words = X.astype(str)
    x = pd.DataFrame(words).astype("string").mask(X > 4) if dtype == "string" else words.astype(dtype)
    expected = torch.from_numpy(np.where((X > 4) & (dtype == "string"), np.nan, X))
    assert torch.allclose(torch.as_tensor(read_data(small(), x).x[:]), expected, equal_nan=True)
    words[3, 1] = "many"
    refused(lambda: read_data(small(), words), "row 3, column 1 is 'many'", "read_table")


def test_what_is_no_array_is_one_line() -> None:
    vae = small()
    for x in ((row for row in X), map(list, X), zip(X, Y), torch.nested.nested_tensor(list(torch.from_numpy(X)))):
        refused(lambda x=x: read_data(vae, x), "x: a ")
    refused(lambda: read_data(vae, torch.empty(3, D, device="meta")), "without values")
    refused(lambda: read_data(vae, np.zeros(5, dtype=[("a", float, (2,)), ("b", float)])), "'a'", "[2]")
    refused(lambda: read_data(vae, X, (int(k) for k in Y)), "y: a generator")
    refused(lambda: read_data(vae, b"points"), "x: a bytes")
    refused(lambda: read_data(vae, torch_data.Dataset()), "__len__")
    refused(lambda: read_data(vae, X, [sp.csr_matrix(X)] * N), "y: row 0")


GAPS = np.arange(N) < 6
FLAGS = np.stack([Y > 0, Y > 1], -1).astype(int)


@pytest.mark.parametrize("gap", [np.float32("nan"), np.float16("nan"), Decimal("nan"), pd.NaT], ids=repr)
def test_a_nan_of_any_type_is_a_missing_label(gap: object) -> None:
    y = np.where(GAPS, None, Y)
    y[GAPS] = gap
    assert read_data(small(), X, y).y.tolist() == np.where(GAPS, -1, Y).tolist()


def test_a_masked_label_is_missing_whatever_the_classes_are_called(capsys: pytest.CaptureFixture[str]) -> None:
    asks = small(ps.ClassLabels(["?", "!", "."]))  # NumPy writes "?" for a masked object
    y = np.ma.array(np.array(["?", "!", "."])[Y], mask=GAPS)
    for masked in (y, np.ma.array(Y, mask=GAPS)):
        assert read_data(asks, X, masked).y.tolist() == np.where(GAPS, -1, Y).tolist()
    assert "note" not in capsys.readouterr().err


def test_labels_in_wide_floats_and_sparse_matrices() -> None:
    assert read_data(small(), X, np.where(GAPS, np.nan, Y).astype(np.longdouble)).y[6:].tolist() == Y[6:].tolist()
    both = small(ps.AttributeLabels(["hat", "tie"]))
    for matrix in (sp.csr_matrix(FLAGS), sp.coo_array(FLAGS)):
        assert read_data(both, X, matrix).y.tolist() == FLAGS.tolist()


def test_an_infinite_label_is_called_so() -> None:
    refused(lambda: read_data(small(), X, np.where(GAPS, np.inf, Y)), "y: row 0 is inf", "0 to 2")
    refused(lambda: read_data(small(), X, np.where(GAPS, 1e30, Y)), "y: row 0 is 1e+30")


@pytest.mark.parametrize("kind", [bool, object, torch.bool])
def test_booleans_mean_the_classes_called_so(kind: Any) -> None:
    truth = small(ps.ClassLabels(3, ["unknown", "True", "False"]))
    y: Any = torch.from_numpy(Y > 0) if kind is torch.bool else (Y > 0).astype(kind)
    assert read_data(truth, X, y).y.tolist() == np.where(Y > 0, 1, 2).tolist()
    assert read_data(small(), X, y).y.tolist() == (Y > 0).astype(int).tolist()
    turned = small(ps.ClassLabels(["Yes", "No"]))
    assert read_data(turned, X, y).y.tolist() == (Y < 1).astype(int).tolist()


@pytest.mark.parametrize("kind", [bool, object, "boolean", torch.bool])
def test_booleans_of_classes_with_other_names_are_said(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    y: Any = torch.from_numpy(Y > 0) if kind is torch.bool else pd.Series(Y > 0).astype(kind)
    assert read_data(small(ps.ClassLabels(["ill", "well"])), X, y).y.tolist() == (Y > 0).astype(int).tolist()
    assert "False and True are taken for 'ill' and 'well'" in capsys.readouterr().err
    read_data(small(ps.ClassLabels(2)), X, y)
    read_data(small(ps.ClassLabels(["no", "yes"])), X, y)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("y", [Y > 0, torch.tensor(Y > 0).long(), pd.Series(Y > 0).map({True: "yes", False: "no"})])
def test_one_attribute_may_be_a_column(y: Any) -> None:
    labels = ps.AttributeLabels(["ill"], [("no", "yes")])
    assert read_data(small(labels), X, y).y.tolist() == (Y[:, None] > 0).astype(int).tolist()


def test_a_column_of_lists_or_arrays_is_points() -> None:
    for cells in (pd.Series(list(X)), pd.Series(X.tolist()), pa.array(X.tolist()), np.array([*X, None], object)[:-1]):
        assert torch.equal(read_data(small(), cells).x, torch.tensor(X))
    ragged = pd.Series([*X.tolist()[:-1], [1.0]])
    refused(lambda: read_data(small(), ragged), "x: row 23 has shape [1], row 0 [4]")
    refused(lambda: read_data(small(), (X, Y)), "points and their labels are x and y, each by itself")


def test_pictures_of_more_than_eight_bits_keep_their_numbers() -> None:
    deep = (np.random.default_rng(0).random((6, 8, 8)) * 65535).astype(np.uint16)
    vae = small(shape=(1, 8, 8), likelihood="normal")
    for pictures in (
        [Image.fromarray(each) for each in deep],
        [Image.fromarray(each.astype(np.int32)) for each in deep],
        [Image.fromarray(each.astype(np.float32)) for each in deep],
    ):
        found = torch.as_tensor(read_data(vae, pictures).x[:])
        assert torch.equal(found, torch.from_numpy(deep.astype(np.float32))[:, None])


def test_a_model_forgets_data_that_were_refused() -> None:
    """Else the remedy that the line names would be refused too."""
    pixels = np.random.default_rng(0).integers(0, 256, (N, 1, 8, 8)).astype(np.float32)
    vae = small(ps.ClassLabels(3), shape=(1, 8, 8), likelihood="bernoulli")
    refused(lambda: ps.fit(vae, pixels, Y, progress=False), "scale them")
    assert vae.pixel_range is None
    ps.fit(vae, pixels / 255, Y, epochs=1, progress=False)
    table = pd.DataFrame(X, columns=list("abcd"))
    vae = small()
    refused(lambda: ps.fit(vae, table.set_axis(list("efgh"), axis=1), Y[:3], progress=False), "3 rows")
    refused(lambda: ps.fit(vae, table, Y, validation=(X[:, :2], Y), progress=False), "validation")
    assert vae.column_names is None
    ps.fit(vae, table, Y, epochs=1, progress=False)
    refused(lambda: ps.fit(vae, table, Y[:3], progress=False), "3 rows")
    assert vae.column_names == tuple("abcd")


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("classifier", "revae")])
def test_options_are_numbers_of_numpy_too(name: str, tmp_path: Any) -> None:
    vae = ps.create_model(
        name,
        input_shape=np.int64(D),
        labels=ps.ClassLabels(Y.max() + 1),
        latent_dim=np.int64(4),
        beta=np.float32(0.5),
    )
    assert type(vae.config.latent_dim) is int
    assert vae.recipe is not None
    assert vae.recipe["options"]["beta"] == 0.5
    seed = np.random.default_rng(0).integers(100)
    ps.fit(
        vae, X, Y, epochs=np.int64(1), batch_size=np.int32(12), seed=seed, validation=np.float32(0.2), progress=False
    )
    assert ps.load(ps.save(vae, tmp_path)).config == vae.config


def test_classes_and_shapes_are_what_arrays_say() -> None:
    assert ps.ClassLabels(torch.tensor(3)).size == 3  # type: ignore[arg-type]
    assert ps.ClassLabels(np.unique(NAMES)).names == ("cat", "dog", "owl")  # type: ignore[arg-type]
    assert ps.ClassLabels(pd.Series(NAMES, dtype="category").cat.categories).size == 3  # type: ignore[arg-type]
    assert ps.ClassLabels(2, np.array(["b", "a"])).names == ("b", "a")  # type: ignore[arg-type]
    refused(lambda: ps.ClassLabels(np.float64(3)), "3.0", "a number of classes")  # type: ignore[arg-type]
    for shape in ("4", (4.5,), (True,)):
        refused(lambda shape=shape: small(shape=shape), "input_shape", "(D,)")


def test_class_weights_are_taken_by_the_classes_names() -> None:
    numbered, named = ps.ClassLabels(3), ps.ClassLabels(3, ["cat", "dog", "owl"])
    worn = ps.AttributeLabels(["hat", "bow"])
    assert weights_in_order({2: 5.0, 0: 2.0}, numbered) == (2.0, 1.0, 5.0)
    shares = pd.Series([0, 1, 1, 1, 2, 2]).value_counts()  # the most frequent first
    assert weights_in_order(shares, numbered) == (1, 3, 2)
    assert weights_in_order({"owl": np.float32(4)}, named) == (1.0, 1.0, 4.0)
    assert weights_in_order(pd.Series({"dog": 3.0, "cat": 2.0}), named) == (2.0, 3.0, 1.0)
    assert weights_in_order({"bow": [1, 9]}, worn) == ((1.0, 1.0), (1, 9))
    for positional in (pd.Series([1.0, 10.0, 1.0]), (1.0, 10.0, 1.0), "balanced", None):
        assert weights_in_order(positional, named) is positional
    refused(lambda: weights_in_order({"dgo": 1.0}, named), "class_weights", "no class 'dgo'", "'dog'")
    refused(lambda: weights_in_order({0: 1.0}, named), "class_weights", "no class 0", "cat, dog, owl")
    refused(lambda: weights_in_order({"hat": 2.0}, worn), "class_weights", "two numbers for each attribute")


def test_class_weights_by_name_reach_the_training() -> None:
    ps.fit(small(), X, Y, class_weights={"cat": 10.0}, epochs=1, progress=False)
    refused(lambda: ps.fit(small(), X, Y, class_weights={"cat": "much"}, progress=False), "class_weights")
    ill = np.array(["well", "ill"])[Y % 2]
    ps.SSVAEClassifier(epochs=1, fit_options={"class_weights": {"ill": 5}}).fit(X, ill)


def test_class_weights_by_numbers_are_refused_of_classes_with_names_and_not_their_keys_taken() -> None:
    vae = small()
    refused(lambda: ps.fit(vae, X, Y, class_weights={0: 1.0, 1: 10.0, 2: 1.0}, progress=False), "class_weights")
    ps.fit(vae, X, Y, class_weights=pd.Series([1.0, 10.0, 1.0]), epochs=1, progress=False)
    shares = pd.Series([0, 1, 1, 1, 2, 2]).value_counts(normalize=True)  # the most frequent first
    refused(lambda: ps.fit(vae, X, Y, class_weights=shares, progress=False), "class_weights")
    refused(lambda: small(label_prior=shares), "label_prior")


def test_a_model_in_double_precision_trains_on_what_it_predicts_on() -> None:
    """Digits beyond a float32's: rounded, all points would be alike."""
    x = X.astype(np.float64) * 1e-4 + 1e4  # a float32 has steps of 1e-3 there
    vae = small().double()
    ps.fit(vae, x, Y, epochs=60, progress=False)
    assert float((vae.predict(x).numpy() == Y).mean()) > 0.9


class OwnPair(nn.Module):
    """A pair of one's own: factor analysis."""

    def __init__(self) -> None:
        super().__init__()
        self.loc, self.out = nn.Linear(D, 2), nn.Linear(2, D)

    def model(self, x: torch.Tensor, y: object = None) -> None:
        pyro.module("own", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.out(z), 1.0).to_event(1), obs=x)

    def guide(self, x: torch.Tensor, y: object = None) -> None:
        pyro.module("own", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.loc(x), 1.0).to_event(1))


def test_a_pair_of_ones_own_imputes_columns_by_name() -> None:
    torch.manual_seed(0)
    pair = OwnPair()
    table = pd.DataFrame(X, columns=list("abcd"))
    ps.fit(pair, table, epochs=1, progress=False)
    gappy = table.mask(table > 2)
    expected = ps.impute(pair, gappy, num_samples=3, seed=0)
    assert torch.equal(ps.impute(pair, gappy[["d", "b", "a", "c"]], num_samples=3, seed=0), expected)
    assert torch.equal(ps.impute(pair, gappy.to_numpy(), num_samples=3, seed=0), expected)
    refused(lambda: ps.impute(pair, gappy.drop(columns="a")), "no column 'a'")
    refused(lambda: ps.impute(pair, gappy.replace(gappy.iloc[3, 0], np.inf)), "row 3", "infinite")


class PlainFrame:
    """A table of a library that pandas is unknown to."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame, self.columns, self.dtypes = frame, list(frame.columns), list(frame.dtypes)

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, columns: list[object]) -> np.ndarray:
        return self.frame[columns].to_numpy()

    def to_numpy(self) -> np.ndarray:
        return self.frame.to_numpy()


def test_labels_in_an_array_of_pyarrow() -> None:
    """Its ``to_numpy`` refuses words and gaps, which it must copy."""
    for y in (pa.array(["dog", None, "cat"]), pa.chunked_array([["dog", None], ["cat"]]), pa.array([1, None, 0])):
        assert label_values(y, ps.ClassLabels(["cat", "dog"])).tolist() == [1, -1, 0]


@pytest.mark.parametrize("library", ["pyarrow", "polars", "plain"])
def test_tables_of_other_libraries_are_read_as_those_of_pandas(library: str) -> None:
    """A table of polars ended in "expected str, bytes or os.PathLike object"."""
    ages = np.where(np.arange(N) == 3, np.nan, np.arange(N))
    table = pd.DataFrame({"age": ages, "job": np.array(["u", "v"])[np.arange(N) % 2], "kind": np.array(NAMES)[Y]})
    if library == "plain":
        other: object = PlainFrame(table)
    else:
        module = pytest.importorskip(library)
        other = module.from_pandas(table) if library == "polars" else module.Table.from_pandas(table)
    data, found = read_table(table, target=["kind"], quiet=True), read_table(other, target=["kind"], quiet=True)
    np.testing.assert_array_equal(found.x, data.x)
    assert torch.equal(found.y, data.y)
    assert found.table.schema == data.table.schema
    vae = ps.create_model("augmented", **data.model_options(), latent_dim=2)
    assert torch.equal(vae.predict_proba(other), vae.predict_proba(table))


def test_what_is_no_table_is_said() -> None:
    refused(lambda: read_table([[1.0, 2.0]], target="kind"), "the table: a list", "a data frame")


def test_what_single_precision_cannot_tell_apart_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds within a minute of 2023, steps of 128 in single precision: the column was a constant, in silence."""
    seconds = 1_700_000_000 + np.arange(N)
    rounded = [seconds, seconds.astype(float), 60 * seconds]
    exact = [seconds - 1.7e9, 1.7e9 + 1e4 * np.arange(N), np.full(N, 1.7e9), np.full(N, 0.3)]
    for k, times in enumerate(rounded + exact):
        vae = ps.create_model("vae", input_shape=(2,), labels=None, latent_dim=1)
        read_data(vae, np.stack([np.arange(N), times], -1), learn=True)
        assert ("x: column 1 is of numbers near 1" in capsys.readouterr().err) == (k < len(rounded)), times
    for x in (np.stack([seconds, seconds], -1).astype(">f8")[::-1], np.stack([seconds, seconds], -1)):
        finite(x, "a.npz: x")
        assert "note: a.npz: x: column 0 is of numbers near 1.7e+09" in capsys.readouterr().err


ONE_HOT = np.eye(3, dtype=np.float32)[Y]
DUMMIES = pd.get_dummies(pd.Series(np.array(NAMES)[Y]))  # columns by the alphabet, not in the classes' order


@pytest.mark.parametrize(
    "one_hot",
    [
        ONE_HOT, ONE_HOT.astype(bool), torch.tensor(ONE_HOT).long(), torch.tensor(ONE_HOT) > 0, ONE_HOT.tolist(),
        sp.csr_matrix(ONE_HOT), DUMMIES, DUMMIES.astype(float), DUMMIES.astype("Int64"), pa.Table.from_pandas(DUMMIES),
    ],
    ids=lambda y: type(y).__name__,
)  # fmt: skip
def test_a_column_for_each_class_is_one_hot(one_hot: Any) -> None:
    """By name where the columns have the classes' names, and by place where they have none."""
    labels = ps.ClassLabels(3, NAMES)
    assert label_values(one_hot, labels).tolist() == Y.tolist()


def test_one_hot_columns_with_numbers_for_names_are_those_classes() -> None:
    """In pandas' dummies of words ``10`` comes before ``2``."""
    y = np.arange(11)
    labels, dummies = ps.ClassLabels(11), pd.get_dummies(pd.Series(y.astype(str)))
    for columns in (dummies, dummies.rename(columns=int)):
        assert label_values(columns, labels).tolist() == y.tolist()
    named = pd.DataFrame(np.eye(11), columns=[f"class {k}" for k in y])
    assert label_values(named, labels).tolist() == y.tolist()


def test_a_row_of_one_hot_labels_without_any_is_a_missing_label() -> None:
    labels = ps.ClassLabels(3, NAMES)
    for gap in (0, -1, np.nan):
        y = ONE_HOT.copy()
        y[:5] = gap
        frame = pd.DataFrame(y[:, [2, 0, 1]], columns=[NAMES[2], NAMES[0], NAMES[1]])
        for given in (y, torch.tensor(y), frame):
            assert label_values(given, labels).tolist() == [-1] * 5 + Y.tolist()[5:]


def test_columns_that_are_no_one_hot_labels_are_refused() -> None:
    labels = ps.ClassLabels(3, NAMES)
    refused(lambda: label_values(ONE_HOT * 0.8 + 0.1, labels), "row 0", "y.argmax(1)")
    refused(lambda: label_values(np.ones((N, 3)), labels), "row 0", "a single 1")
    white = torch.tensor(ONE_HOT * 255).to(torch.uint8)  # 255 equals -1 there
    for y in (white, white.numpy(), white.int()):
        refused(lambda y=y: label_values(y, labels), "row 0", "255", "a single 1")
    refused(lambda: label_values(DUMMIES.add_prefix("is "), labels), "no column 'owl'", "the classes are needed")
    refused(lambda: ps.fit(small(), X, ONE_HOT[:, :2], progress=False), "[24, 2]; [N] is needed")
    refused(lambda: ps.SSVAEClassifier().fit(X, ONE_HOT), "y.argmax(1)")
    refused(lambda: ps.SSVAEClassifier().fit(X, DUMMIES), "y.idxmax(1)")


def test_records_and_dicts_of_columns_are_tables() -> None:
    columns = ["width", "height", "depth", "weight"]
    records = [dict(zip(columns, row)) for row in X.tolist()]
    turned = [dict(reversed(record.items())) for record in records]
    vae = small()
    ps.fit(vae, records, Y, epochs=1, progress=False)
    truth = vae.predict_proba(X)
    for given in (records, tuple(turned), dict(zip(columns, X.T)), dict(zip(columns, X.T.tolist()))):
        torch.testing.assert_close(vae.predict_proba(given), truth)
    model = ps.SSVAEClassifier(epochs=1, random_state=0).fit(records, Y)
    assert list(model.feature_names_in_) == columns
    words = [{**record, "kind": "ab"[i % 2]} for i, record in enumerate(records)]
    mixed = ps.SSVAEClassifier(epochs=1, random_state=0).fit(words, Y)
    assert mixed.predict(words[:2]).tolist() == mixed.predict(pd.DataFrame(words[:2])).tolist()
    assert read_table(words, target="kind", quiet=True).table.schema.names == tuple(columns)
    refused(lambda: vae.predict(records[0]), "a list of records")
    refused(lambda: model.predict(records[0]), "a list of records")


def test_records_and_dicts_of_labels_are_attributes_by_name() -> None:
    labels = ps.AttributeLabels(["hat", "bow"], [("no", "yes"), ("red", "blue")])
    assert label_values({"bow": ["red", None], "hat": [True, False]}, labels).tolist() == [[1, 0], [0, -1]]
    assert label_values([{"bow": "blue", "hat": "no"}, None, {"hat": "yes"}], labels).tolist() == [
        [0, 1],
        [-1, -1],
        [1, -1],
    ]
    refused(lambda: label_values({"bow": ["red", None]}, labels), "no column 'hat'")


def test_a_list_of_points_beside_their_labels_is_read_as_a_data_set_is() -> None:
    items = [{"x": row, "label": k} for row, k in zip(X, Y.tolist())]
    read = read_data(small(), items)
    assert (read.y.tolist(), torch.equal(read.x, torch.tensor(X))) == (Y.tolist(), True)
