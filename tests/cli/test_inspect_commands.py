"""The command as a function; that the program knows it is test_cli.py's."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from data_makers import folder, refused
from PIL import Image
from test_intervene_commands import LABELS, a_run

import pyro_ssvae as ps
from pyro_ssvae import ClassLabels
from pyro_ssvae.cli import inspect as command
from pyro_ssvae.cli.inspect import Inspect
from pyro_ssvae.cli.main import main


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.mark.parametrize("name", ["augmented", "revae", "vae", "classifier"])
@pytest.mark.parametrize("labels", [LABELS, ClassLabels(3, ["cat", "dog", "owl"])])
def test_a_point(name: str, labels: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(name, labels)
    command.run(Inspect(run, index=3, draws=4))
    said = capsys.readouterr().out
    assert said.endswith(f"picture: {run}/figures/inspect_3.png\n")
    assert "test point 3, labelled" in said
    terms = [float(row.split("│")[6]) for row in said.splitlines() if row.startswith("│ ") and row.count("│") == 7]
    assert abs(sum(terms[:-1]) - terms[-1]) < 0.005 * len(terms)  # as printed: each to two places
    if name != "vae":
        assert re.search(r"(dog|beard) *│ *0\.\d{3}", said)
    with Image.open(run / "figures" / "inspect_3.png") as image:
        assert min(image.size) > 200


def test_the_label_is_seen_only_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run("augmented", ClassLabels(3, ["cat", "dog", "owl"]))
    command.run(Inspect(run, index=1, draws=2))
    assert "labelled cat (unseen)" in capsys.readouterr().out
    command.run(Inspect(run, index=1, draws=2, labelled=True, out=Path("seen.svg")))
    said = capsys.readouterr().out
    assert "(unseen)" not in said
    row = next(line for line in said.splitlines() if "│ head" in line)
    assert float(row.split("│")[6]) < -100  # α log π_y of an untrained head: 500 log 1/3


def test_without_an_index_the_least_sure_points(capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run("augmented", ClassLabels(3, ["cat", "dog", "owl"]))
    command.run(Inspect(run, n=4))
    said = capsys.readouterr().out
    whole = ps.data.load("own.npz")
    expected = ps.least_sure(ps.load(run), whole.x_test, n=4)
    rows = [line.split("│") for line in said.splitlines() if line.startswith("│")]
    assert [int(row[1]) for row in rows] == list(expected.index)
    short = {"label": "H(y)", "reconstruction": "-log p(x)", "KL of z": "KL(z)"}
    assert [row[2].strip() for row in rows] == [short[why] for why in expected["why"]]
    assert (run / "figures" / "least_sure.png").exists()
    command.run(Inspect(run, n=20, by="reconstruction", train=True))
    said = capsys.readouterr().out
    assert len([line for line in said.splitlines() if line.startswith("│")]) == 20  # of 10 test, 20 training points
    assert "--train --index" in said


def test_points_of_a_folder_are_named_by_their_files(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{c}.png" for c in "abcdefghijklmnop"]
    lines = [f"{name},{'cat' if i % 2 else 'dog'},{'test' if i % 4 > 1 else 'train'}" for i, name in enumerate(names)]
    root = folder(Path("pets"), "\n".join(["file,label,split", *lines, ""]), names)
    tiny = ("--epochs", "1", "--batch-size", "8", "--latent-dim", "2", "--quiet", "--no-baseline", "--no-calibration")
    assert main(["train", "--data", str(root), *tiny, "--out", "run"]) == 0
    capsys.readouterr()
    command.run(Inspect(Path("run"), index=0, draws=2))
    assert "test point 0 (c.png), labelled dog" in capsys.readouterr().out
    command.run(Inspect(Path("run"), train=True, n=3))
    assert re.search(r"│ *\d+│[abefijmn]\.png *│", capsys.readouterr().out)


def test_wrong_words_are_refused() -> None:
    run = a_run("augmented")
    right = Inspect(run, index=0)
    refused(lambda: command.run(replace(right, index=10)), "--index: 10", "0 to 9")
    refused(lambda: command.run(replace(right, index=20, train=True)), "--index: 20", "0 to 19", "training")
    refused(lambda: command.run(replace(right, draws=1)), "--draws: 1", "2 to 10000")
    refused(lambda: command.run(replace(right, index=None, n=0)), "-n: 0", "1 to 1000")
    refused(lambda: command.run(replace(right, index=None, by="labels")), "--by: 'labels'", "'label'")
    refused(lambda: command.run(replace(right, by="label")), "--by label", "leave it or --index out")
    refused(lambda: command.run(replace(right, index=None, labelled=True)), "--labelled", "--index")
    refused(lambda: command.run(replace(right, out=Path("a.txt"))), "--out a.txt")
    refused(lambda: command.run(Inspect(Path("none"))), "none", "no such file")


def test_the_words_of_the_shell(capsys: pytest.CaptureFixture[str]) -> None:
    given = command.parse(["r", "--index", "3", "--labelled", "--draws", "5", "--by", "KL of z"])
    assert given == Inspect(Path("r"), index=3, labelled=True, draws=5, by="KL of z")
    run = a_run("vae")
    assert main(["inspect", str(run), "--index", "2", "--draws", "3"]) == 0
    assert "inspect_2.png" in capsys.readouterr().out
