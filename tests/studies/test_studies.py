"""Studies as they are run: cells on disk, resumed, in several processes, stopped, refused."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_makers import npz, without_notes

from pyro_ssvae.cli.hints import LACKING
from pyro_ssvae.cli.main import main
from pyro_ssvae.data import known_rows
from pyro_ssvae.errors import InputError
from pyro_ssvae.experiment.config import DataConfig
from pyro_ssvae.experiment.data import load_data, train_split
from pyro_ssvae.models import MODELS, create_model
from pyro_ssvae.studies import STUDIES, Plan
from pyro_ssvae.studies import cells as cells_of
from pyro_ssvae.studies import methods as studied
from pyro_ssvae.studies.cells import VERSION, Cell, Result, read, write
from pyro_ssvae.studies.grid import grid, label_counts
from pyro_ssvae.studies.methods import choose_methods
from pyro_ssvae.studies.progress import duration, estimate
from pyro_ssvae.studies.run import default_jobs, run
from pyro_ssvae.studies.scikit_learn import sklearn_proba
from pyro_ssvae.studies.transfer import only, take_over
from pyro_ssvae.studies.work import Outcome, outcome_of
from pyro_ssvae.train.progress import Interrupted

TINY = ("--steps", "4", "--batch-size", "16", "--latent-dim", "4")
SPARSE = STUDIES["sparse-labels"]
LONG = {"anomaly", "label-characteristics", "sparse-labels", "transfer"}


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYRO_SSVAE_DATA", str(tmp_path / "data"))


@pytest.fixture
def own() -> Path:
    """Images of 4 x 4 in three classes, a bright corner each."""
    return corners(Path("own.npz"))


def corners(path: Path, seed: int = 0, n: int = 90) -> Path:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.integers(0, 80, (n, 1, 4, 4), np.uint8)
    for k in range(3):
        x[y == k, 0, k // 2, 2 * (k % 2) :] += 150
    return npz(path, x=x, y=y)


def study(*arguments: Any, name: str = "sparse-labels", status: int = 0) -> Path:
    """Run a study into the folder ``out``."""
    given = [str(argument) for argument in arguments]
    assert main(["study", name, *given, *TINY, "--jobs", "1", "--out", "out"]) == status
    return Path("out")


def stamps(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}


def contents(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((out / "cells").glob("*.json"))]


def a_cell(**more: Any) -> Cell:
    plain: dict[str, Any] = {
        "study": "sparse-labels", "data": "digits", "fingerprint": "ab", "method": "m2", "labels": "50", "seed": 1,
        "steps": 9, "batch_size": 8, "latent_dim": 3, "augment": "none",
    }  # fmt: skip
    return Cell(**{**plain, **more})


def test_a_second_run_computes_nothing_and_a_deleted_cell_alone_is_computed_again(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", own, "--labels", "6", "all", "--seeds", 2, "--models", "classifier", "label-spreading", "vae"]
    out = study(*options)
    before = stamps(out)
    assert len(before) == 10  # two methods, two numbers of labels, two seeds; the VAE once a seed
    first = (out / "table.md").read_text()
    capsys.readouterr()
    study(*options)
    assert stamps(out) == before
    assert "10 of them there already" in capsys.readouterr().out
    assert (out / "table.md").read_text() == first
    victim = (
        next((out / "cells").glob("*classifier_6-labels_seed1*"), None)
        or sorted((out / "cells").glob("*classifier*6-labels*seed1*"))[0]
    )
    was = json.loads(victim.read_text())["metrics"]
    victim.unlink()
    study(*options)
    after = stamps(out)
    assert {name for name in after if after[name] != before[name]} == {victim.name}
    assert json.loads(victim.read_text())["metrics"] == was


def test_more_seeds_and_labels_keep_what_is_there(own: Path) -> None:
    out = study("--data", own, "--labels", "6", "--seeds", 1, "--models", "classifier")
    before = stamps(out)
    study("--data", own, "--labels", "6", "9", "--seeds", 2, "--models", "classifier")
    after = stamps(out)
    assert len(after) == 4
    assert before.items() <= after.items()
    assert len(list(csv.DictReader((out / "runs.csv").open()))) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"accuracy": 0.', '"accuracy": 1.', 1),
        lambda text: text.replace('"seed": 0', '"seed": 1', 1),
        lambda text: "[1, 2]",
        lambda text: "\udcff",
    ],
)
def test_a_damaged_cell_is_no_result(tmp_path: Path, damage: Callable[[str], str]) -> None:
    cell = a_cell(seed=0)
    write(tmp_path, Result(cell, {"accuracy": 0.25, "nll": None}, 1.5), versions={"torch": "x"})
    found = read(tmp_path, cell)
    assert found is not None
    assert (found.metrics, found.seconds) == ({"accuracy": 0.25, "nll": None}, 1.5)
    path = cell.path(tmp_path)
    damaged = damage(path.read_text())
    assert damaged != path.read_text()
    path.write_text(damaged, "utf-8", "surrogateescape")
    assert read(tmp_path, cell) is None


def test_a_damaged_cell_is_computed_again_and_the_others_are_not(own: Path) -> None:
    options = ["--data", own, "--labels", "6", "--seeds", 2, "--models", "label-spreading"]
    out = study(*options)
    before = stamps(out)
    good, other = sorted((out / "cells").glob("*.json"))
    text = good.read_text()
    good.write_text(text[:-40])
    study(*options)
    assert json.loads(good.read_text())["metrics"] == json.loads(text)["metrics"]
    assert stamps(out)[other.name] == before[other.name]


def test_a_cells_file_is_named_for_a_person_and_differs_by_every_setting() -> None:
    cell = a_cell(data="/far/away/my data.npz", method="m1+m2", classes=("7", "o/w l"))
    assert cell.name.startswith("my-data.m1+m2.50-labels.7.o-w-l.seed1.")
    others: dict[str, Any] = {
        "study": "anomaly", "data": "x", "fingerprint": "cd", "method": "m1", "labels": "all", "seed": 2, "steps": 8,
        "batch_size": 9, "latent_dim": 4, "augment": "affine", "classes": ("1",), "image_size": 8, "draws": 1,
        "points": 2, "oracle_steps": 3, "likelihood": "normal", "networks": "mlp", "gain": 0.1, "compile": True,
        "target": ("ill",), "id": "number", "columns": ("age=count",),
    }  # fmt: skip
    assert others.keys() == a_cell().__dataclass_fields__.keys()
    assert len({a_cell().key, *(a_cell(**{name: value}).key for name, value in others.items())}) == len(others) + 1


def test_a_report_computes_nothing_and_shows_what_is_there(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", own, "--labels", "6", "--models", "classifier"]
    assert main(["study", "sparse-labels", *map(str, options), "--out", "out", "--report"]) == 2
    assert "no cell of it has been computed; out/cells has none" in capsys.readouterr().err
    before = stamps(study(*options, "--seeds", 2))
    whole = Path("out/table.md").read_text()
    study(*options, "--seeds", 3, "--report")
    assert stamps(Path("out")) == before
    shown = Path("out/table.md").read_text()
    assert "| 6 | classifier | 2 |" in shown
    assert "**Incomplete**: one cell of the plan has no result" in shown
    assert "--report" not in shown
    study(*options, "--seeds", 2, "--report")
    assert Path("out/table.md").read_text() == whole


def test_another_version_gives_other_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    before = a_cell().key
    assert a_cell().key == before
    monkeypatch.setattr(cells_of, "VERSION", VERSION + 1)
    assert a_cell().key != before


def test_a_cells_file_holds_settings_versions_seconds_and_metrics(own: Path) -> None:
    out = study("--data", own, "--labels", "6", "--seeds", 1, "--models", "revae")
    (content,) = contents(out)
    assert content["cell"]["method"] == "revae"
    assert content["cell"]["steps"] == 4  # 65 rows make 4 batches of 16: one epoch
    assert content["versions"]["torch"] == torch.__version__
    assert content["device"] == "cpu"
    assert content["seconds"] > 0
    wanted = {"accuracy", "calibration_error", "elbo", "log_likelihood", "reconstruction_error"}
    assert wanted <= content["metrics"].keys()


def test_all_methods_of_a_row_have_the_same_labels_rows_and_steps(own: Path) -> None:
    names = [name for name in SPARSE.methods if studied.METHODS[name].model in {None, *MODELS}]
    study("--data", own, "--labels", "0", "6", "all", "--seeds", 1, "--models", *names)
    out = study("--data", own, "--labels", "6", "--seeds", 1, "--first-seed", 1, "--models", "m2", "classifier")
    cells = contents(out)
    sets: dict[tuple[str, int], set[str]] = {}
    for content in cells:
        cell, train = content["cell"], content["metrics"]["train"]
        sets.setdefault((cell["labels"], cell["seed"]), set()).add((train["label_set"], train["rows"], cell["steps"]))
        assert train["labelled"] == {"0": 0, "6": 6, "all": 65}[cell["labels"]]
    assert all(len(found) == 1 for found in sets.values())
    assert sets["6", 0] != sets["6", 1]  # a seed draws its own
    assert {c["cell"]["method"] for c in cells if c["cell"]["labels"] == "6"} == {*names} - {"vae"}
    unlabelled = [content for content in cells if content["cell"]["labels"] == "0"]
    assert {c["cell"]["method"] for c in unlabelled} == {*names} - {"classifier", "label-spreading", "self-training"}
    for content in unlabelled:  # outputs without agreed meaning have no accuracy, but one under the best matching
        assert "accuracy" not in content["metrics"]
        assert 0 <= content["metrics"]["matched_accuracy"] <= 1


def test_the_classifier_takes_as_many_steps_as_the_others(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, list[int]] = {}

    def count(model: Any, x: Any, y: Any, *, epochs: int, batch_size: int, **rest: Any) -> None:
        taken.setdefault(type(model).__name__, []).append(epochs * (len(x) // min(batch_size, len(x))))
        rows.setdefault(type(model).__name__, []).append(len(x))

    rows: dict[str, list[int]] = {}
    monkeypatch.setattr(studied, "fit", count)
    study("--data", own, "--labels", "6", "all", "--seeds", 1, "--models", "vae", "classifier", "revae")
    assert taken == {"VAE": [4], "ReVAE": [4, 4], "Classifier": [4, 4]}
    assert rows == {"VAE": [65], "ReVAE": [65, 65], "Classifier": [6, 65]}


def test_two_processes_give_the_same_cells_as_one(own: Path) -> None:
    whole = load_data(DataConfig(str(own)))
    names = ("classifier", "vae", "augmented-enumerate", "self-training")
    plan = Plan(str(own), ("6",), seeds=2, steps=4, methods=names, batch_size=16, latent_dim=4, draws=3)
    cells = grid(SPARSE, plan, whole)
    assert len(cells) == 8
    for jobs in (1, 2):
        outcomes = run(SPARSE, cells, whole, Path(f"jobs{jobs}"), jobs=jobs, device="cpu", progress=False)
        assert [outcome.error for outcome in outcomes] == [None] * len(cells)
        assert {outcome.cell for outcome in outcomes} == set(cells)
    for cell in cells:
        one, two = read(Path("jobs1"), cell), read(Path("jobs2"), cell)
        assert one is not None
        assert two is not None
        assert one.metrics == two.metrics, cell.name


def test_a_cell_that_fails_is_said_in_one_line_and_the_others_go_on(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", own, "--labels", "6", "--seeds", 1, "--models", "revae", "classifier", "--quiet"]
    too_narrow = ["--steps", "4", "--batch-size", "16", "--latent-dim", "2", "--jobs", "1", "--out", "out"]
    assert main(["study", "sparse-labels", *map(str, options), *too_narrow]) == 1
    said = capsys.readouterr()
    assert "failed: revae 6 labels seed 0: latent_dim: 2; z_c alone takes 3" in said.err
    assert without_notes(said.err).count("\n") == 2
    assert "1 of 2 cells failed; to try them again: pyro-ssvae study sparse-labels --data own.npz" in said.err
    assert len(stamps(Path("out"))) == 1
    (failure,) = Path("out/cells").glob("*.failed.txt")
    assert "Traceback" in failure.read_text()
    assert "one cell of the plan has no result" in Path("out/table.md").read_text()


def test_an_error_of_any_kind_stays_with_its_cell(own: Path) -> None:
    whole = load_data(DataConfig(str(own)))
    plan = Plan(str(own), ("6",), seeds=2, steps=4, methods=("classifier",), batch_size=16, latent_dim=4)
    cells = grid(SPARSE, plan, whole)

    def broken(cell: Cell, whole: Any, device: str) -> dict[str, Any]:
        if cell.seed == 0:
            raise RuntimeError("no\nmemory")
        return {"accuracy": float("nan"), "more": [float("inf"), 1.0]}

    first, second = run(replace(SPARSE, compute=broken), cells, whole, Path("out"), progress=False)
    assert (first.error, second.error) == ("RuntimeError: no memory", None)
    found = read(Path("out"), cells[1])
    assert found is not None
    assert found.metrics == {"accuracy": None, "more": [None, 1.0]}
    again = run(replace(SPARSE, compute=lambda *rest: {"accuracy": 1.0}), cells, whole, Path("out"), progress=False)
    assert [outcome.cell.seed for outcome in again] == [0]
    assert not list(Path("out/cells").glob("*.failed.txt"))


def test_a_process_that_is_killed_is_named() -> None:
    assert "SIGKILL" in str(outcome_of(a_cell(), Path("out"), -signal.SIGKILL).error)
    assert "exit status 1" in str(outcome_of(a_cell(), Path("out"), 1).error)


def started(*arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pyro_ssvae", "study", "sparse-labels", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_one_process_ends_with_what_is_done(own: Path, stop: signal.Signals) -> None:
    whole = load_data(DataConfig(str(own)))
    plan = Plan(str(own), ("6",), seeds=4, steps=4, methods=("classifier",), batch_size=16, latent_dim=4)
    cells = grid(SPARSE, plan, whole)

    def stopped(cell: Cell, whole: Any, device: str) -> dict[str, Any]:
        if cell.seed == 2:
            os.kill(os.getpid(), stop)
            time.sleep(5)
        return {"accuracy": 1.0}

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped with 2 of 4 cells done, which are in out/cells"):
        run(replace(SPARSE, compute=stopped), cells, whole, Path("out"), progress=False)
    assert [read(Path("out"), cell) is not None for cell in cells] == [True, True, False, False]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
def test_ctrl_c_in_several_processes_leaves_finished_cells_and_says_how_to_go_on(own: Path) -> None:
    options = ["--data", own, "--labels", "6", "--seeds", "40", "--models", "classifier", *TINY, "--jobs", "2"]
    process = started(*options, "--out", "out")
    deadline = time.monotonic() + 120
    while len(list(Path("out/cells").glob("*.json"))) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert without_notes(err).count("\n") == 1, err
    assert "of 40 cells done" in err
    assert f"to go on: pyro-ssvae study sparse-labels --data {own}" in err
    there = stamps(Path("out"))
    assert 3 <= len(there) < 40
    assert not list(Path("out/cells").glob("*.failed.txt"))
    assert "; out/table.md shows them; to go on:" in err
    assert f"**Incomplete**: {40 - len(there)} cells" in Path("out/table.md").read_text()
    assert main(["study", "sparse-labels", *map(str, options[:-1]), "1", "--seeds", "3", "--out", "out"]) == 0
    assert there.items() <= stamps(Path("out")).items()
    assert not [path for path in Path("out").iterdir() if "partial" in path.name]


def test_the_time_left_goes_by_method_and_number_of_labels() -> None:
    cells = [a_cell(method=m, labels=n, seed=s) for s in (0, 1) for m, n in (("m2", "50"), ("m2", "all"), ("vae", "0"))]
    done = [Outcome(cells[0], 10.0), Outcome(cells[1], 30.0), Outcome(cells[2], 2.0)]
    assert estimate(done, cells, 1) == pytest.approx(42)
    assert estimate(done, cells, 2) == pytest.approx(21)
    assert estimate(done[:1], cells, 1) == pytest.approx(50)
    assert estimate([Outcome(cells[0], None, "failed")], cells, 1) is None
    assert [duration(s) for s in (40, 700, 12600)] == ["40 s", "12 min", "3.5 h"]
    assert default_jobs("cpu", 1) == 1


REFUSALS: list[tuple[str, list[str]]] = [
    ("sparse-label", ["no study", "did you mean 'sparse-labels'?"]),
    ("", ["a study's name is needed", "transfer"]),
    ("transfer --models diva", ["--models", "study transfer has no 'diva'"]),
    ("sparse-labels --models augmentd", ["--models", "did you mean 'augmented'?"]),
    ("sparse-labels --models vae --labels 5000", ["--labels 5000", "1294"]),
    ("sparse-labels --models vae --labels some", ["--labels", "some"]),
    ("sparse-labels --models vae --labels 5", ["--labels", "10 classes"]),
    ("sparse-labels --models vae --seeds 0", ["--seeds: 0"]),
    ("sparse-labels --models vae --draws 0", ["--draws: 0"]),
    ("sparse-labels --quick --classes 3", ["--classes: study sparse-labels", "(anomaly, ", "transfer have); leave"]),
    ("label-characteristics --classes hat", ["--classes: study label-characteristics has no use for it"]),
    ("ablation --quick --draws 5", ["--draws: study ablation has no use for it"]),
    ("transfer --points 9", ["--points: study transfer", "(labels-and-bound, label-characteristics have)"]),
    ("sparse-labels --models vae --steps 0", ["--steps: 0"]),
    ("sparse-labels --models vae --jobs 0", ["--jobs: 0"]),
    ("sparse-labels --models vae --steps 3 --epochs 3", ["--epochs, --steps", "not both"]),
    ("sparse-labels --models vae --device toaster", ["toaster"]),
    ("sparse-labels --models vae --data minst", ["--data", "did you mean 'mnist'?"]),
    ("sparse-labels --models classifier --labels 0", ["nothing to compute"]),
    ("sparse-labels --models self-training --data avatars:40", ["attributes", "classes"]),
    ("anomaly --models vae --classes eleven", ["--classes", "'eleven'"]),
    ("anomaly --models vae --data avatars:40", ["attributes", "classes"]),
    ("semi-unsupervised --models vae --classes 0 1 2 3 4 5 6 7 8 9", ["--classes", "all 10 classes"]),
    ("label-characteristics --models revae --data digits", ["has classes", "attributes"]),
    ("sparse-labels --model vae --step 3", ["--model", "no option"]),
]


@pytest.mark.parametrize(("arguments", "culprits"), REFUSALS)
def test_what_cannot_be_used_is_one_line(
    arguments: str, culprits: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *arguments.split()]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    for culprit in culprits:
        assert culprit in said.err, said.err
    assert not Path("results").exists()


def test_a_model_that_the_library_lacks_is_named_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(MODELS, "m2", raising=False)
    monkeypatch.setitem(MODELS, "m1+m2", object)
    assert main(["study", "sparse-labels"]) == 2
    said = capsys.readouterr().err
    assert "study sparse-labels: the library has no model 'm2'; --models augmented-probabilities " in said
    assert " m2 " not in said.split("--models")[1]
    assert "m1+m2" in said.split("--models")[1]
    with pytest.raises(InputError, match="'m2'"):
        choose_methods("semi-unsupervised", STUDIES["semi-unsupervised"].methods, ["vae", "m2"])
    assert choose_methods("semi-unsupervised", STUDIES["semi-unsupervised"].methods, ["vae", "augmented"]) == (
        "augmented-probabilities", "augmented-enumerate", "vae",
    )  # fmt: skip


def test_files_that_are_no_studys_are_left_alone(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Path("mine/table.md").write_text("mine")
    for out in ("mine", "own.npz"):
        assert main(["study", "sparse-labels", "--models", "vae", "--out", out]) == 2
        assert f"--out {out}" in capsys.readouterr().err
    assert Path("mine/table.md").read_text() == "mine"
    assert [path.name for path in Path("mine").iterdir()] == ["table.md"]


def test_numbers_of_labels_that_mean_the_same_are_one() -> None:
    whole = load_data(DataConfig("digits"))
    assert label_counts(Plan("digits", ("0", "0.0", "50", "1294", "1.0", "all")), whole) == ["0", "50", "all"]
    hidden = label_counts(Plan("digits", ("50", "all", "0.5")), whole, ["7", "8", "9"])
    assert hidden == ["50", "all", "0.5"]


def test_data_that_changed_gives_other_cells(own: Path) -> None:
    plan = Plan(str(own), ("6",), seeds=1, methods=("vae",))
    first = grid(SPARSE, plan, load_data(DataConfig(str(own))))
    corners(own, seed=1)
    assert first != grid(SPARSE, plan, load_data(DataConfig(str(own))))


@pytest.mark.parametrize("name", ["label-spreading", "self-training"])
def test_scikit_learns_methods_learn_from_few_labels(name: str, own: Path) -> None:
    whole = load_data(DataConfig(str(own)))
    part, _ = train_split(whole, DataConfig(str(own), "6"), 0)
    probs = sklearn_proba(name, part, whole.x_test, 0)
    assert probs.shape == (len(whole.x_test), 3)
    assert torch.allclose(probs.sum(1), torch.ones(len(probs), dtype=probs.dtype))
    assert float((probs.argmax(1) == whole.y_test).double().mean()) > 0.9
    one = part.y.masked_fill(part.y == 0, -1)  # a class without any label gets no probability
    assert float(sklearn_proba(name, replace(part, y=one), whole.x_test, 0)[:, 0].max()) == 0


def test_new_classes_are_numbered_anew_and_weights_of_the_same_shape_are_taken_over(own: Path) -> None:
    whole = load_data(DataConfig(str(own)))
    new = only(whole, ["2", "0"])
    assert list(new.labels.names) == ["2", "0"]
    assert int(known_rows(new.y).sum()) == int((whole.y != 1).sum())
    assert torch.equal(new.y, torch.where(whole.y[whole.y != 1] == 2, 0, 1))
    learnt = create_model("augmented", input_shape=(1, 4, 4), labels=whole.labels, latent_dim=4)
    fresh = create_model("augmented", input_shape=(1, 4, 4), labels=new.labels, latent_dim=4)
    taken = take_over(fresh, learnt)
    ours, theirs = dict(fresh.named_parameters()), dict(learnt.named_parameters())
    assert set(ours) - set(taken) == {"head.weight", "head.bias", "decoder.from_c.weight"}
    assert all(torch.equal(ours[name], theirs[name]) for name in taken)


def test_transfer_trains_the_head_alone_where_it_says_so(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyro_ssvae.studies import transfer

    trained: list[tuple[int, int, int]] = []

    def note(model: Any, cell: Cell, part: Any, device: str) -> int:
        free = sum(p.requires_grad for p in model.parameters())
        trained.append((len(part.x), int(known_rows(part.y).sum()), free))
        return 0

    monkeypatch.setattr(studied, "learn", note)
    monkeypatch.setattr(transfer, "learn", note)
    whole = load_data(DataConfig(str(own)))
    study_ = STUDIES["transfer"]
    plan = Plan(str(own), ("4",), 1, steps=4, methods=("augmented-probabilities",), classes=("1", "2"), latent_dim=4)
    (cell,) = grid(study_, plan, whole)
    found = study_.compute(cell, whole, "cpu")
    every = len(list(create_model("augmented", input_shape=(1, 4, 4), labels=whole.labels, latent_dim=4).parameters()))
    old = train_split(whole, DataConfig(str(own), "all"), 0)[0].y
    assert trained[0] == (len(old), int((old == 0).sum()), every)
    (new, *_), *_ = trained[1:]
    assert trained[1:] == [(new, 4, every), (new, 4, 3), (new, 4, every)]
    assert found["train"]["labelled"] == 4
    assert found["transfer"]["weights_taken_over"] == found["head"]["weights_taken_over"] == every - 3
    assert found["scratch"]["weights_taken_over"] == 0


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in STUDIES])
def test_the_quick_version_of_every_study_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    has = [m for m in STUDIES[name].methods if studied.METHODS[m].model in {None, *MODELS}]
    few = [m for m in has if m in ("augmented-probabilities", "classifier", "vae", "label-spreading")] or has[:1]
    size = ["--data", "avatars:60", "--labels", "0.5", "1.0"] if name == "label-characteristics" else []
    command = ["study", name, "--quick", "--steps", "1", "--models", *few, *size, "--jobs", "1", "--quiet"]
    assert main(command) == 0
    out = Path("results") / f"{name}-quick"
    assert {path.name for path in out.iterdir()} == {"cells", "runs.csv", "table.md", "figure.png"}
    text = (out / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert f"`pyro-ssvae study {name} " in text
    assert " --quick " in text
    assert text.count("**") >= 2
    assert (out / "figure.png").stat().st_size > 10_000
    runs = list(csv.DictReader((out / "runs.csv").open()))
    assert {row["method"] for row in runs} == set(few)
    assert {row["seed"] for row in runs} == {"0", "1"}
    panels = [column.path for column in STUDIES[name].columns if column.panel]
    for path in panels:
        assert any(row.get(path) for row in runs), path


def test_where_the_name_is_lacking_every_study_is_named() -> None:
    assert all(name in LACKING["study"] for name in STUDIES)
