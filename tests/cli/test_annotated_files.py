"""Annotated matrices, ``.h5ad``, in every command that takes a file.

Where anndata is not installed, a stand-in reads them: the same four members, kept in an npz file.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from data_makers import refused

import pyro_ssvae as ps
from pyro_ssvae.cli import evaluate, generate, predict, suggest
from pyro_ssvae.cli.evaluate import Evaluate
from pyro_ssvae.cli.generate import Generate
from pyro_ssvae.cli.main import main
from pyro_ssvae.cli.predict import Predict
from pyro_ssvae.cli.suggest import Suggest
from pyro_ssvae.models.saving import load

ANNDATA = importlib.util.find_spec("anndata") is not None
RUN = Path("run")
GENES, TYPES = [f"gene {g}" for g in "abcde"], ["B", "NK", "T"]
RATES = np.random.default_rng(0).gamma(1.0, 4.0, size=(3, 5))


def read_stand_in(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as file:
        x = file.get("x")
        obs = pd.DataFrame({name[4:]: file[name] for name in file if name.startswith("obs_")}, index=file["obs"])
        x = sp.csr_matrix(x) if x is not None and bool(file["sparse"]) else x
        return SimpleNamespace(X=x, obs=obs, obs_names=obs.index, var_names=pd.Index(file["var"]))


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if not ANNDATA:
        monkeypatch.setitem(sys.modules, "anndata", SimpleNamespace(read_h5ad=read_stand_in))


def write(path: str, x: np.ndarray | None, obs: pd.DataFrame, genes: Sequence[str] = GENES, sparse: bool = True) -> str:
    """Write an annotated matrix."""
    if ANNDATA:
        from anndata import AnnData, settings

        settings.allow_write_nullable_strings = True
        matrix = None if x is None else sp.csr_matrix(x) if sparse else x
        AnnData(matrix, obs, pd.DataFrame(index=list(genes))).write_h5ad(path)
        return path
    parts: dict[str, Any] = {
        f"obs_{name}": obs[name].to_numpy(obs[name].dtype if obs[name].dtype.kind in "if" else "U") for name in obs
    }
    parts |= {} if x is None else {"x": x}
    with open(path, "wb") as file:
        np.savez(file, obs=obs.index.to_numpy().astype("U"), var=list(genes), sparse=sparse, **parts)
    return path


def cells(n: int, seed: int, **obs: Any) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Counts, their types by number, and ``obs`` with names and further columns."""
    y = np.arange(n) % 3
    x = np.random.default_rng(seed).poisson(RATES[y]).astype("f4")
    return x, y, pd.DataFrame({"batch": ["p"] * n, **obs}, index=[f"cell-{seed}-{i}" for i in range(n)])


def train(*arguments: str) -> None:
    short = [
        "--epochs",
        "3",
        "--batch-size",
        "64",
        "--no-baseline",
        "--no-calibration",
        "--no-figures",
        "--quiet",
        "--out",
        str(RUN),
    ]
    assert main(["train", *arguments, *short]) == 0


@pytest.fixture
def a_run() -> None:
    _, y, _ = cells(240, 1)
    words = np.where(np.arange(240) % 2, "unknown", np.array(TYPES)[y])
    x, _, obs = cells(240, 1, type=words)
    train("--data", write("old.h5ad", x, obs), "--target", "type", "--latent-dim", "2")


def table(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("a_run")
def test_predict_and_evaluate_by_names(capsys: pytest.CaptureFixture[str]) -> None:
    model = load(RUN)
    assert model.column_names == tuple(GENES)
    _, y, _ = cells(40, 2)
    x, _, obs = cells(40, 2, type=np.where(y == 2, "", np.array(TYPES)[y]))
    mixed = [3, 0, 4, 1, 2]
    write("new.h5ad", x[:, mixed], obs, [GENES[i] for i in mixed])
    predict.run(Predict(RUN, "new.h5ad", Path("new.csv"), embeddings=True))
    rows = table("new.csv")
    assert [row["id"] for row in rows] == list(obs.index)
    assert [row["known"] for row in rows] == ["B", "NK", ""] * 13 + ["B"]
    z = model.encode(torch.from_numpy(x)).mean  # type: ignore[operator]
    np.testing.assert_allclose([float(row["z0"]) for row in rows], z[:, 0].detach(), atol=1e-5)
    probs = model.predict_proba(torch.from_numpy(x))  # type: ignore[operator]
    assert [row["label"] for row in rows] == [TYPES[k] for k in probs.argmax(-1)]
    capsys.readouterr()
    evaluate.run(Evaluate(RUN, data="new.h5ad", json=True))
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["rows"] == 40
    known = y != 2
    assert metrics["accuracy"] == pytest.approx(float((probs.argmax(-1).numpy() == y)[known].mean()), abs=1e-6)
    evaluate.run(Evaluate(RUN))
    assert "48 test points" in capsys.readouterr().out
    generate.run(Generate(RUN, label="NK", n=3, out=Path("rows.csv")))
    assert list(table("rows.csv")[0]) == ["label", *GENES]
    suggest.run(Suggest(RUN, n=4, out=Path("s.csv")))
    assert len(table("s.csv")) == 4


@pytest.mark.usefixtures("a_run")
def test_dense_without_labels_and_one_row() -> None:
    x, _, obs = cells(3, 3)
    for sparse in (True, False):
        write("none.h5ad", x, obs, sparse=sparse)
        predict.run(Predict(RUN, "none.h5ad", Path(f"{sparse}.csv")))
    write("one.h5ad", x[:1], obs[:1])
    predict.run(Predict(RUN, "one.h5ad", Path("one.csv")))
    one, two = table("True.csv"), table("False.csv")
    assert one == two
    assert "known" not in one[0]
    assert table("one.csv")[0]["label"] == one[0]["label"]


@pytest.mark.usefixtures("a_run")
def test_a_large_sparse_matrix_is_made_dense_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _, obs = cells(30, 4)
    write("new.h5ad", x[:, ::-1].copy(), obs, GENES[::-1])
    predict.run(Predict(RUN, "new.h5ad", Path("whole.csv")))
    monkeypatch.setattr("pyro_ssvae.data.containers.IN_MEMORY", 100)
    predict.run(Predict(RUN, "new.h5ad", Path("parts.csv")))
    assert table("whole.csv") == table("parts.csv")


@pytest.mark.usefixtures("a_run")
def test_files_that_do_not_fit_are_refused_in_one_line() -> None:
    x, _, obs = cells(6, 5)
    write("less.h5ad", x[:, :4], obs, GENES[:4])
    write("other.h5ad", x, obs, [*GENES[:4], "gene f"])
    write("more.h5ad", np.hstack([x, x[:, :1]]), obs, [*GENES, "gene f"])
    write("none.h5ad", None, obs, [])
    write("empty.h5ad", x[:0], obs[:0])
    write("words.h5ad", x, obs.assign(type=["B", "NK", "T", "Tcell", "B", "B"]))
    write("inf.h5ad", np.where(x == x.max(), np.inf, x), obs)
    Path("text.h5ad").write_text("cells")
    for data, *words in (
        ("less.h5ad", "no column 'gene e'", "by name"),
        ("other.h5ad", "no column 'gene e'", "did you mean 'gene f'"),
        ("more.h5ad", "column 'gene f' is none of", "leave it out"),
        ("none.h5ad", "no X"),
        ("empty.h5ad", "at least one row"),
        ("words.h5ad", "obs 'type'", "'Tcell'"),
        ("inf.h5ad", "infinite value"),
        ("text.h5ad", "not an h5ad file"),
        ("absent.h5ad", "no such file"),
    ):
        refused(lambda data=data: predict.run(Predict(RUN, data, Path("out.csv"))), data, *words)
        refused(lambda data=data: evaluate.run(Evaluate(RUN, data=data)), data, *words)
    assert not Path("out.csv").exists()
    refused(lambda: ps.data.load("old.h5ad", target=["typ"]), "old.h5ad", "obs has no column 'typ'", "'type'")
    refused(lambda: ps.data.load("old.h5ad", id="batch"), "--id", "leave the option out")
    refused(lambda: ps.data.load("none.h5ad"), "none.h5ad", "no X")


def test_a_column_of_amounts_is_no_column_of_classes() -> None:
    x, _, obs = cells(120, 1, depth=np.arange(120) / 7)
    write("old.h5ad", x, obs)
    refused(lambda: ps.data.load("old.h5ad", target=["depth"]), "'depth'", "120 different values", "column of classes")


def test_attributes_and_whole_numbers_as_classes() -> None:
    x, y, obs = cells(60, 6)
    obs = obs.assign(sick=np.where(y > 0, "yes", "no"), old=np.where(y > 1, 1, 0))
    train("--data", write("old.h5ad", x, obs), "--target", "sick", "old", "--latent-dim", "2")
    predict.run(Predict(RUN, write("new.h5ad", x[:3], obs[:3].drop(columns="old")), Path("new.csv")))
    rows = table("new.csv")
    assert [row["known_sick"] for row in rows] == ["no", "yes", "yes"]
    assert [row["known_old"] for row in rows] == ["", "", ""]
    assert {row["old"] for row in rows} <= {"0", "1"}
    sexes = obs.assign(sex=np.where(y > 1, 2, 1), born=["early", "late"] * 30)
    told = ps.data.load(write("sexes.h5ad", x, sexes), target=["sex", "born"])
    assert isinstance(told.labels, ps.AttributeLabels)
    assert told.labels.words == (("1", "2"), ("early", "late"))
    assert sorted([*told.y[:, 0].tolist(), *told.y_test[:, 0].tolist()]) == sorted((y > 1).astype(int).tolist())
    refused(
        lambda: ps.data.load(write("types.h5ad", x, sexes.assign(type=["a", "b", "c"] * 20)), target=["sex", "type"]),
        "'type': 3 different words",
    )
    gaps = np.where(np.arange(60) % 2, np.nan, y + 4.0)
    found = ps.data.load(write("gaps.h5ad", x, obs.assign(k=gaps)), target=["k"])
    assert list(found.labels.names) == ["4", "5", "6"]  # as a file without gaps would call them


def test_an_array_of_other_columns_in_python() -> None:
    x, y, obs = cells(60, 7, type="")
    write("old.h5ad", x, obs.assign(type=np.array(TYPES)[y]))
    vae = ps.create_model("augmented", input_shape=(5,), labels=ps.ClassLabels(TYPES), latent_dim=2)
    ps.fit(vae, ps.data.load("old.h5ad", target=["type"]), epochs=1, progress=False)
    write("mixed.h5ad", x[:, ::-1].copy(), obs, GENES[::-1])
    same = [vae.predict_proba(points) for points in ("old.h5ad", "mixed.h5ad", torch.from_numpy(x))]
    torch.testing.assert_close(same[0], same[2])
    torch.testing.assert_close(same[1], same[2])
    write("less.h5ad", x[:, :4], obs, GENES[:4])
    refused(lambda: vae.predict("less.h5ad"), "no column 'gene e'")
