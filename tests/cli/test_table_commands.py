"""Tables in the shell: shown before training, trained on, gone on with, and each fault one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_ssvae.cli.main import main
from pyro_ssvae.data import encode
from pyro_ssvae.experiment import run as training
from pyro_ssvae.experiment.config import DataConfig
from pyro_ssvae.experiment.data import load_data, network_of_data, run_data
from pyro_ssvae.models.saving import load

QUICK = ("--epochs", "1", "--no-baseline", "--quiet", "--latent-dim", "2")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "save_all", lambda *rest, **more: [])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    g = np.random.default_rng(0)
    n = 60
    frame = pd.DataFrame(
        {
            "age": g.normal(40, 9, n).round(1),
            "visits": g.poisson(2, n),
            "job": g.choice(["clerk", "farmer", "smith"], n),
            "kind": np.where(np.arange(n) % 4 == 0, None, g.choice(["a", "b"], n)),
        }
    )
    frame.loc[::7, "age"] = None
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def test_a_table_trains(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    columns = ("--columns", "visits=number", "job=category")
    assert main(["train", "--data", str(table), "--target", "kind", *columns, *QUICK, "--out", str(out)]) == 0
    said = capsys.readouterr()
    for words in ("age", "category of 3", "clerk, farmer, smith", "12 of 60 rows are held out for the test"):
        assert words in said.err
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["source"]["target"] == ["kind"]
    assert [column["kind"] for column in config["schema"]["columns"]] == ["normal", "normal", "categorical:3"]
    assert config["model"]["options"]["columns"] == ["normal", "normal", "categorical:3"]
    assert config["model"]["options"]["missing"] is True
    model = load(out)
    assert model.schema is not None
    x, y, _ = encode(table, model.schema)
    assert x.shape == (60, 3)
    assert y is not None
    assert int((y == -1).sum()) == 15
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["data"]["test"] == 12
    again = tmp_path / "again"
    assert main(["train", "--config", str(out / "config.json"), "--quiet", "--out", str(again)]) == 0
    assert json.loads((again / "config.json").read_text())["schema"] == config["schema"]
    assert json.loads((again / "metrics.json").read_text())["test"]["elbo"] == metrics["test"]["elbo"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "kin"), ["--target", "'kind'"]),
        (("--target", "kind", "--id", "kind"), ["--id kind"]),
        (("--target", "kind", "--columns", "age"), ["--columns", "age=count"]),
        (("--target", "kind", "--columns", "age=word"), ["--columns age=word", "number"]),
        (("--target", "kind", "--columns", "age=number", "age=count"), ["--columns", "'age'", "two kinds"]),
        (("--target", "kind", "--likelihood", "normal"), ["--likelihood normal", "'job'", "words"]),
        (("--target", "kind", "--image-size", "8"), ["--image-size"]),
    ],
)
def test_faults_are_one_line(
    options: tuple[str, ...], words: list[str], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "--data", str(table), *options, *QUICK, "--out", str(out)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pyro-ssvae: ")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert not out.exists()


@pytest.mark.parametrize("rows", [2, 3])
def test_a_table_of_fewer_rows_than_its_parts_is_named(
    rows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three rows one is the test's and one validates: none of the sizes in between is the person's."""
    file = tmp_path / "small.csv"
    file.write_text("\n".join(["a,b,kind", "1.5,2.5,x", "0.5,3.5,y", "2.0,1.0,"][: rows + 1]) + "\n")
    assert main(["train", "--data", str(file), "--target", "kind", *QUICK, "--out", str(tmp_path / "run")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pyro-ssvae: ")]
    for word in (f"--data {file}", f"{rows - 1} to train on, beside 1 for the test", "at least 3", "validation"):
        assert word in line


def test_columns_of_other_data_are_kinds_in_turn(tmp_path: Path) -> None:
    g = np.random.default_rng(0)
    x = np.stack([g.normal(size=40), g.integers(0, 3, 40)], 1)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2)
    out = tmp_path / "run"
    columns = ("--columns", "normal", "categorical:3")
    assert main(["train", "--data", str(tmp_path / "a.npz"), *columns, *QUICK, "--out", str(out)]) == 0
    assert json.loads((out / "config.json").read_text())["model"]["options"]["columns"] == ["normal", "categorical:3"]


def test_without_a_table_the_network_is_as_it_was() -> None:
    from pyro_ssvae.experiment.config import ModelConfig

    source, network = DataConfig("wine"), ModelConfig()
    wine = load_data(source)
    assert network_of_data(network, source, wine) is network
    x = wine.x.clone()
    x[3, 1] = float("nan")
    assert network_of_data(network, source, replace(wine, x=x)).options.missing


@pytest.mark.parametrize("ending", [".csv.gz", ".tsv.bz2", ".csv.xz"])
def test_compressed_tables_come_in_and_go_out(ending: str, table: Path, tmp_path: Path) -> None:
    packed, out = tmp_path / f"packed{ending}", str(tmp_path / "run")
    sep = "\t" if "tsv" in ending else ","
    pd.read_csv(table).to_csv(packed, sep=sep, index=False)
    assert main(["train", "--data", str(packed), "--target", "kind", *QUICK, "--out", out, "--no-calibration"]) == 0
    assert main(["evaluate", out, "--data", str(packed), "--json"]) == 0
    answers = [tmp_path / f"answers{end}" for end in (ending, ".csv")]
    for data, answer in zip((packed, table), answers):
        assert main(["predict", out, "--data", str(data), "--impute", "--out", str(answer)]) == 0
    frames = [pd.read_csv(answers[0], sep=sep), pd.read_csv(answers[1])]
    pd.testing.assert_frame_equal(*frames)
    drawn = tmp_path / f"drawn{ending}"
    assert main(["generate", out, "--n", "2", "--out", str(drawn)]) == 0
    assert list(pd.read_csv(drawn, sep=sep)) == ["kind", "age", "visits", "job"]
    assert main(["predict", out, "--data", str(drawn), "--out", str(tmp_path / "answers.parquet.gz")]) == 2


def test_rows_have_their_names_and_any_number_of_them_is_drawn(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(table)
    frame.insert(0, "patient", [f"p{i}" for i in range(len(frame))])
    frame.to_csv(table, index=False)
    run = tmp_path / "run"
    assert (
        main(
            [
                "train",
                "--data",
                str(table),
                "--target",
                "kind",
                "--id",
                "patient",
                "--no-calibration",
                *QUICK,
                "--out",
                str(run),
            ]
        )
        == 0
    )
    names = run_data(run, load(run)).ids_test
    assert names is not None
    capsys.readouterr()
    assert main(["inspect", str(run), "-n", "2"]) == 0
    lines = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [name.strip() for _, name in lines] == [names[int(i)] for i, _ in lines]
    assert main(["inspect", str(run), "--index", "3", "--draws", "8"]) == 0
    assert f"test point 3 ({names[3]})" in capsys.readouterr().out
    assert main(["generate", str(run), "-n", "1001", "--label", "a"]) == 0
    assert "generated.csv, 1001 rows" in capsys.readouterr().out
