"""The command as a function, and the way back from the file that it writes."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_makers import folder, npz, refused
from PIL import Image

import pyro_ssvae as ps
from pyro_ssvae.cli import suggest as command
from pyro_ssvae.cli.main import main
from pyro_ssvae.cli.suggest import Suggest
from pyro_ssvae.experiment import run as training
from pyro_ssvae.experiment.config import DataConfig, experiment_of
from pyro_ssvae.experiment.data import prepare_data, training_rows

TINY = (
    "--epochs", "1", "--batch-size", "8", "--latent-dim", "2", "--quiet", "--no-baseline", "--no-calibration",
)  # fmt: skip


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "save_all", lambda *rest, **more: [])


def a_run(*options: str) -> Path:
    assert main(["train", *options, *TINY, "--out", "run"]) == 0
    return Path("run")


def own(n: int = 60) -> str:
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    x = rng.integers(0, 255, (n, 1, 4, 4), np.uint8)
    names = np.array(["cat", "dog", "owl"])
    return str(npz(Path("own.npz"), x=x, y=np.where(np.arange(n) < 30, y, -1), x_test=x[:9], y_test=y[:9], names=names))


def filled(path: Path, words: list[str]) -> list[str]:
    """Fill the last column of a file in, and return its first."""
    rows = list(csv.reader(path.read_text().splitlines()))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *([*row[:-1], word] for row, word in zip(rows[1:], words))])
    return [row[0] for row in rows[1:]]


def test_from_a_run_to_a_file_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run("--data", own(), "--labels", "9")
    command.run(Suggest(run, n=4))
    said = capsys.readouterr().out
    assert "train --data own.npz --labels 9 --label-file run/suggest.csv" in said
    with Image.open(run / "suggest.png") as image:
        assert image.width > image.height
    chosen = filled(run / "suggest.csv", ["cat", "owl", "", "dog"])
    assert len(set(chosen)) == 4
    again = ("--labels", "9", "--label-file", "run/suggest.csv")
    assert main(["train", "--data", "own.npz", *again, *TINY, "--out", "second"]) == 0
    metrics = json.loads(Path("second/metrics.json").read_text())
    assert metrics["data"]["labelled"] == 9 + 3
    capsys.readouterr()
    command.run(Suggest(Path("second"), n=20, out=Path("next.csv")))  # the second run knows of its labels
    assert "--label-file run/suggest.csv --label-file next.csv" in capsys.readouterr().out
    rows = {row[0] for row in csv.reader(Path("next.csv").read_text().splitlines())}
    assert not rows & {chosen[0], chosen[1], chosen[3]}
    command.run(Suggest(run, n=2))
    assert (run / "suggest-2.csv").exists()


def labelled(path: Path, word: str) -> None:
    """Fill in the label of a file's first point, which stands in its second column."""
    header, first, *others = csv.reader(path.read_text().splitlines())
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, [first[0], word, *first[2:]], *others])


def test_the_rows_are_those_of_the_data_as_its_source_has_it() -> None:
    run = a_run("--data", own(), "--labels", "9")
    command.run(Suggest(run, n=5))
    rows = [int(row[0]) for row in list(csv.reader((run / "suggest.csv").read_text().splitlines()))[1:]]
    settings = experiment_of(json.loads((run / "config.json").read_text()), run)
    dataset, split, _ = prepare_data(settings.source, 0)
    found = ps.suggest(ps.load(run), split.x, split.y, n=5)
    assert torch.equal(dataset.x[rows], split.x[torch.tensor(found.index.to_list())])


def test_a_folder_s_file_has_the_form_of_labels_csv() -> None:
    names = [f"{i}.png" for i in range(24)]
    lines = [f"{name},{'01'[i % 2] if i < 12 else ''},{i % 3 // 2}" for i, name in enumerate(names)]
    root = folder(Path("photos"), "\n".join(["name,hat,scarf", *lines, ""]), names)
    rows = (root / "labels.csv").read_text().replace(",0\n", ",\n").replace(",1\n", ",\n").splitlines()
    lines = [row if i <= 12 else row.rpartition(",")[0] + "," for i, row in enumerate(rows)]
    lines[1:5] = ["0.png,0,1", "1.png,1,0", "2.png,0,1", "3.png,1,0"]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    run = a_run("--data", "photos", "--labels", "all")
    command.run(Suggest(run, n=3))
    header, *rows_written = (run / "suggest.csv").read_text().splitlines()
    assert header == "file,hat,scarf"
    assert all(row.endswith(".png,,") for row in rows_written)
    filled(run / "suggest.csv", ["1", "0", "1"])
    assert main(["train", "--data", "photos", "--label-file", "run/suggest.csv", *TINY, "--out", "second"]) == 0
    first, second = (json.loads(Path(p, "metrics.json").read_text())["data"]["labelled"] for p in ("run", "second"))
    assert second == first + 3


def test_rows_of_a_table_are_named_by_their_number() -> None:
    rows = [f"{i / 4},{i % 5},{'ab'[i % 2] if i % 3 else ''}" for i in range(40)]
    Path("t.csv").write_text("\n".join(["v,w,y", *rows, ""]))
    command.run(Suggest(a_run("--data", "t.csv", "--target", "y"), n=4))
    header, *chosen = csv.reader(Path("run/suggest.csv").read_text().splitlines())
    assert header == ["index", "label", "guess", "row", "v", "w"]
    for row in chosen:
        v, w, y = rows[int(row[3])].split(",")
        assert [float(v), float(w), y] == [float(row[4]), float(row[5]), ""]


def test_what_is_guessed_of_attributes_stands_beside_them() -> None:
    rows = [
        f"{i / 4},{i % 5},{'ab'[i % 2] if i % 3 else ''},{('no', 'yes')[i % 2] if i % 3 else ''}" for i in range(40)
    ]
    Path("t.csv").write_text("\n".join(["v,w,kind,ill", *rows, ""]))
    command.run(Suggest(a_run("--data", "t.csv", "--target", "kind", "ill"), n=4))
    header, *chosen = csv.reader(Path("run/suggest.csv").read_text().splitlines())
    for row in chosen:
        assert re.fullmatch(r"kind = b 0\.\d\d, ill 0\.\d\d", row[header.index("guess")])


@pytest.mark.parametrize("id", [(), ("--id", "v")])
def test_labels_stay_with_their_points_when_rows_are_added(
    id: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{i / 4},{i % 5},{'ab'[i % 2] if i % 3 else ''}" for i in range(40)]
    Path("t.csv").write_text("\n".join(["v,w,y", *rows, ""]))
    command.run(Suggest(a_run("--data", "t.csv", "--target", "y", *id), n=4))
    header, *chosen = csv.reader(Path("run/suggest.csv").read_text().splitlines())
    Path("t.csv").write_text("\n".join(["v,w,y", *rows, *(f"{i},3," for i in range(100, 110)), ""]))
    source = DataConfig("t.csv", target=("y",), id=id[1] if id else None)
    dataset, split, _ = prepare_data(source, 0)
    v = header.index("v")
    every = dataset.ids or [f"{v:g}" for v in dataset.x[:, 0].tolist()]
    training = [f"{float(every[i]):g}" for i in training_rows(source, dataset)]
    kept = [row for row in chosen if f"{float(row[v]):g}" in training]
    lines = [",".join([row[0], "a", *row[2:]]).replace(row[header.index("guess")], "") for row in chosen]
    Path("filled.csv").write_text("\n".join([",".join(header), *lines, ""]))
    capsys.readouterr()
    _, more, _ = prepare_data(replace(source, label_file=("filled.csv",)), 0)
    assert ("held out" in capsys.readouterr().err) == (len(kept) < len(chosen))
    changed = {training[i] for i in (more.y != split.y).nonzero().squeeze(1).tolist()}
    assert changed == {f"{float(row[v]):g}" for row in kept}
    assert changed
    others = [f"{v},{(int(w) + 1) % 5},{y}" for v, w, y in (row.split(",") for row in rows)]
    Path("t.csv").write_text("\n".join(["v,w,y", *others, *(f"{i},3," for i in range(100, 110)), ""]))
    if id:
        prepare_data(replace(source, label_file=("filled.csv",)), 0)
    else:
        said = f"{len(kept)} of its {len(kept)} points have other numbers in the data"
        refused(lambda: prepare_data(replace(source, label_file=("filled.csv",)), 0), said, "--id")


def test_a_run_goes_on_with_its_label_files_wherever_it_lies(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"p{i},{i / 4},{'ab'[i % 2] if i % 3 else ''}" for i in range(40)]
    Path("t.csv").write_text("\n".join(["id,v,y", *rows, ""]))
    run = a_run("--data", "t.csv", "--target", "y", "--id", "id")
    command.run(Suggest(run, n=2))
    again = ["train", "--resume", "run", "--quiet", "--epochs"]
    assert main([*again, "2", "--label-file", "run/suggest.csv"]) == 2
    assert "run/suggest.csv adds no label" in capsys.readouterr().err
    labelled(run / "suggest.csv", "a")
    assert main([*again, "2", "--label-file", "run/suggest.csv"]) == 0
    run.rename("moved")
    again[2] = "moved"
    capsys.readouterr()
    command.run(Suggest(Path("moved"), n=1))
    assert "--label-file moved/suggest.csv" in capsys.readouterr().out
    assert main([*again, "3"]) == 0
    learnt = Path("moved/suggest.csv").read_text()
    labelled(Path("moved/suggest.csv"), "b")
    assert main([*again, "4"]) == 2
    assert "moved/suggest.csv has changed since its labels were learnt" in capsys.readouterr().err
    Path("moved/suggest.csv").write_text(learnt)
    Path("t.csv").write_text("\n".join(["id,v,y", *(f"q{row[1:]}" for row in rows[::-1]), ""]))
    assert main([*again, "4"]) == 2
    assert "t.csv has changed since it was begun" in capsys.readouterr().err
    refused(lambda: command.run(Suggest(Path("moved"), n=1)), "t.csv has changed")


def test_attributes_of_which_each_point_has_some(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (40, 2))
    y[:, 1] = np.where(np.arange(40) % 2, -1, y[:, 1])
    np.savez("a.npz", x=rng.normal(size=(40, 3)), y=y, names=np.array(["hat", "scarf"]))
    run = a_run("--data", "a.npz", "--labels", "all")
    capsys.readouterr()
    command.run(Suggest(run, n=3))
    assert "0 points are without any label; those that lack some count too" in capsys.readouterr().err
    settings = experiment_of(json.loads((run / "config.json").read_text()), run)
    dataset, _, _ = prepare_data(settings.source, 0)
    chosen = [int(row[0]) for row in list(csv.reader((run / "suggest.csv").read_text().splitlines()))[1:]]
    assert len(chosen) == 3
    assert dataset.y[chosen, 1].tolist() == [-1] * 3
    np.savez("a.npz", x=rng.normal(size=(40, 3)), y=np.arange(40) % 2)
    assert main(["train", "--data", "a.npz", "--labels", "all", *TINY, "--out", "whole"]) == 0
    refused(lambda: command.run(Suggest(Path("whole"), n=3)), "whole", "every training point has its label")


def test_wrong_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run("--data", own(), "--labels", "9")
    right = Suggest(run, n=2)
    refused(lambda: command.run(replace(right, n=1000)), "-n", "1000", "without a label")
    refused(lambda: command.run(replace(right, n=0)), "-n", "0")
    refused(lambda: command.run(replace(right, seed=-1)), "--seed", "-1")
    refused(lambda: command.run(replace(right, out=Path("a.txt"))), "--out a.txt", ".csv")
    Path("a.png").write_text("mine")
    refused(lambda: command.run(replace(right, out=Path("a.csv"))), "--out a.csv", "a.png is there already")
    refused(lambda: command.run(replace(right, out=Path("a.png/b.csv"))), "--out a.png/b.csv", "cannot be written")
    refused(lambda: command.run(Suggest(Path("none"))), "none", "no such file")
    Path("wrong.csv").write_text("index,label\n0,cow\n")
    capsys.readouterr()
    assert main(["train", "--data", "own.npz", "--label-file", "wrong.csv", *TINY, "--out", "other"]) == 2
    assert "wrong.csv: row 2" in capsys.readouterr().err
    assert not Path("other").exists()


def test_the_words_of_the_shell() -> None:
    for word in ("-n", "--n"):
        assert command.parse(["r", word, "3", "--out", "a.csv"]) == Suggest(Path("r"), 3, Path("a.csv"))
