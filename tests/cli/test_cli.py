from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from data_makers import folder, noise, npz, picture, without_notes
from PIL import Image
from tiny import mostly_slow

from pyro_ssvae import load
from pyro_ssvae.cli.main import ABOUT, COMMANDS, about, main, parse
from pyro_ssvae.data import NAMES
from pyro_ssvae.errors import nearest
from pyro_ssvae.experiment import run as training
from pyro_ssvae.experiment.folder import locked
from pyro_ssvae.models import MODELS
from pyro_ssvae.models.config import option_names
from pyro_ssvae.train import divergence
from pyro_ssvae.train.step import Step

TINY = (
    "--epochs", "2", "--batch-size", "16", "--labelled-rows", "4", "--latent-dim", "2", "--quiet", "--no-calibration",
)  # fmt: skip
FILES = {"config.json", "metrics.json", "history.csv", "model.safetensors", "checkpoint", "figures"}
FILES |= {"calibration.json", "novelty.safetensors"}
PRIOR = {
    "m1": "classes", "m2": "attributes", "m1+m2": "classes",
    "adgm": "classes", "mvae": "attributes", "diva": "attributes",
}  # fmt: skip
Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYRO_SSVAE_DATA", str(tmp_path / "data"))


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "save_all", lambda *rest, **more: [])


@pytest.fixture
def refuses(capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run the program; assert status 2, one line with the culprits, notes on the data apart, and no file changed."""

    def check(arguments: list[Any], *culprits: str) -> str:
        before = contents(Path())
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        said = capfd.readouterr()
        assert status == 2, said
        assert said.out == ""
        lines = without_notes(said.err).splitlines()
        assert len(lines) == 1, said.err
        assert lines[0].startswith("pyro-ssvae: ")
        for culprit in culprits:
            assert culprit in lines[0], said.err
        assert contents(Path()) == before
        return f"{lines[0]}\n"

    return check


def contents(root: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))}


def small(path: Path, classes: int = 3, n: int = 90, **more: Any) -> Path:
    """Images of 4 x 4, a bright corner a class; every second label missing."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    x = rng.integers(0, 80, (n, 1, 4, 4), np.uint8)
    for k in range(classes):
        x[y == k, 0, k // 2 % 4, 2 * (k % 2) :] += 150
    return npz(path, **{"x": x, "y": np.where(np.arange(n) % 2, y, -1), **more})


def run(*arguments: Any) -> Path:
    """Train in the folder ``run`` and return it."""
    out = Path("run")
    assert main(["train", *map(str, arguments), *TINY, "--out", str(out)]) == 0
    return out


def metrics_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run on digits, with the program's own process, and what it printed."""
    place = tmp_path_factory.mktemp("finished")
    command = [sys.executable, "-m", "pyro_ssvae", "train", "--epochs", "3", "--seed", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all("latent dimensions" in line for line in done.stderr.splitlines()), done.stderr  # 15 steps are few
    return place / "runs" / "digits-augmented-50", done.stdout


@pytest.fixture
def trained(finished: tuple[Path, str]) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(finished[0], "trained"))


HELD = {"validation": 144, "validation_labelled": 144}


@pytest.mark.parametrize(
    ("set_by_hand", "kept"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, None)]
)
def test_threads_sleep_soon_where_nobody_set_how_long_they_wait(
    set_by_hand: dict[str, str], kept: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    for name, value in set_by_hand.items():
        monkeypatch.setenv(name, value)
    assert main([]) == 2
    assert os.environ.get("GOMP_SPINCOUNT") == kept


def test_the_main_job(finished: tuple[Path, str]) -> None:
    out, said = finished
    assert {path.name for path in out.iterdir()} == FILES
    metrics = metrics_of(out)
    assert metrics["data"] == {"name": "digits", "train": 1294, "labelled": 50, **HELD, "test": 359}
    assert metrics["train"].keys() == {"seconds", "examples_per_second", "epochs"}
    assert metrics["train"]["epochs"] == 3
    assert metrics["train"]["examples_per_second"] > 0
    wanted = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "calibration_error", "confusion", "elbo")
    for key in (*wanted, "log_likelihood", "reconstruction_error", "clustering"):
        assert key in metrics["test"], key
    assert 0 < metrics["baseline"]["accuracy"] < 1
    assert metrics["test"]["elbo"] <= metrics["test"]["log_likelihood"]
    with open(out / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all(float(row["loss"]) for row in rows)
    assert 0 <= float(rows[-1]["validation_accuracy"]) <= 1
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["training"]["seed"] == 1
    assert config["settings"]["source"]["labels"] == "50"
    assert config["labels"]["names"] == [str(k) for k in range(10)]
    figures = {"learning_curves", "reconstructions", "samples_by_class", "latent_space", "confusion_matrix"}
    figures.add("reliability")
    assert metrics["test"]["calibrated"].keys() >= {"temperature", "nll", "calibration_error", "coverage", "set_size"}
    assert metrics["test"]["calibrated"]["calibration_labels"] == 144
    assert {path.stem for path in (out / "figures").iterdir()} == figures
    for path in (out / "figures").iterdir():
        with Image.open(path) as image:
            assert min(image.size) > 100
    for words in ("accuracy", "labels alone", "calibration error", "runs/digits-augmented-50/figures"):
        assert words in said, words
    rows = "50 of 1294 points labelled; 144 more held out for validation, 144 of them labelled; 359 test points"
    assert rows in " ".join(said.split())
    assert ("ELBO" if metrics["test"]["density"] else "bound with relaxed") in said
    model = load(out)
    assert model.predict(torch.rand(3, 1, 8, 8)).shape == (3,)  # type: ignore[operator]


def test_the_same_seed_gives_the_same_run(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In this process as in its own; and a second run takes a new folder."""
    for number in ("", "-2"):
        assert main(["train", "--epochs", "3", "--seed", "1", "--quiet", "--no-baseline"]) == 0
        out = Path(f"runs/digits-augmented-50{number}")
        assert (out / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
        assert metrics_of(out)["test"] == metrics_of(trained)["test"]
        assert "baseline" not in metrics_of(out)
        if not number:
            assert "training" not in capfd.readouterr().out  # --quiet


def test_evaluate_gives_the_runs_own_metrics(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = contents(trained)
    assert main(["evaluate", str(trained), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == metrics_of(trained)["test"]
    assert main(["evaluate", str(trained)]) == 0
    said = capfd.readouterr().out
    assert f"{metrics_of(trained)['test']['accuracy']:.4f}" in said
    assert contents(trained) == before


def test_generate_draws_pictures_and_overwrites_none(
    trained: Path, capfd: pytest.CaptureFixture[str], refuses: Refused
) -> None:
    for name in ("generated", "generated-2"):
        assert main(["generate", str(trained)]) == 0
        assert capfd.readouterr().out == f"picture: {trained / 'figures' / name}.png\n"
    figures = trained / "figures"
    assert (figures / "generated.png").read_bytes() == (figures / "generated-2.png").read_bytes()
    assert main(["generate", str(trained), "--label", "3", "--n", "13", "--seed", "2", "--out", "new/three.png"]) == 0
    with Image.open("new/three.png") as image:
        assert image.size[0] > image.size[1]
    assert main(["generate", str(trained), "--label", "3", "--out", "three.svg"]) == 0
    assert b"<svg" in Path("three.svg").read_bytes()
    refuses(["generate", trained, "--out", "new/three.png"], "new/three.png", "there already")
    refuses(["generate", trained, "--label", "eleven"], "--label", "'eleven'", "known: 0, 1")
    refuses(["generate", trained, "--out", "three.doc"], "--out three.doc", ".png")
    refuses(["generate", trained, "--out", "three"], "--out three", ".png")
    refuses(["generate", trained, "--out", "three.svg/x.png"], "--out three.svg/x.png")
    refuses(["generate", trained, "--n", 0], "pyro-ssvae: -n: 0")
    refuses(["generate", trained, "--seed", -1], "--seed: -1")
    refuses(["generate", "nowhere"], "nowhere")


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("labels", "labelled"), [("0", 0), ("all", 41), ("0.5", 20), ("9", 9)], ids=["none", "all", "share", "count"]
)
def test_any_number_of_labels(labels: str, labelled: int) -> None:
    metrics = metrics_of(run("--data", small(Path("own.npz")), "--labels", labels))
    assert abs(metrics["data"]["labelled"] - labelled) <= 12
    assert metrics["data"]["name"] == "own"
    assert metrics["data"]["train"] + metrics["data"]["test"] <= 90
    assert ("baseline" in metrics) == (labelled > 0)
    assert ("accuracy" in metrics["test"]) == (labelled > 0)
    if labels == "0":
        assert "accuracy" in metrics["test"]["semi_unsupervised"]
        assert metrics["data"]["labelled"] == 0
    if labels == "9":
        assert metrics["data"]["labelled"] == 9
    assert metrics["test"]["clustering"] is not None


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("label_inference", ["plug-in", "enumerate", "sparse"])
def test_every_label_inference(label_inference: str, capfd: pytest.CaptureFixture[str]) -> None:
    out = run(
        "--data", small(Path("own.npz")), "--labels", "9", "--label-inference", label_inference, "--alpha", "3",
        "--beta", "0.5", "--entropy-weight", "0", "--alignment-weight", "1", "--label-prior", "uniform",
        "--augment", "none",
    )  # fmt: skip
    config = json.loads((out / "config.json").read_text())
    options = config["model"]["options"]
    assert config["settings"]["network"] == {"name": "augmented", "options": options}
    assert options["label_inference"] == label_inference
    assert options["alpha"] == 3
    assert asdict(load(out).config)["label_inference"] == label_inference
    capfd.readouterr()
    assert main(["evaluate", str(out), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == metrics_of(out)["test"]


@pytest.mark.parametrize("model", ["vae", "classifier"])
def test_other_models(model: str, capfd: pytest.CaptureFixture[str], refuses: Refused) -> None:
    out = run("--data", small(Path("own.npz")), "--labels", "9", "--model", model)
    metrics, figures = metrics_of(out), {path.stem for path in (out / "figures").iterdir()}
    assert ("accuracy" in metrics["test"]) == (model == "classifier")
    assert ("elbo" in metrics["test"]) == (model == "vae")
    assert "baseline" not in metrics or model == "vae"
    assert ("samples_by_class" in figures) == (model == "vae")
    assert main(["evaluate", str(out)]) == 0
    if model == "vae":
        assert main(["generate", str(out), "--n", "3"]) == 0
        refuses(["generate", out, "--label", "1"], "--label")
    else:
        refuses(["generate", out], "Classifier", "generates nothing")


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("model", "kind"), mostly_slow(itertools.product(PRIOR, ("classes", "attributes")), *PRIOR.items())
)
def test_prior_approaches(model: str, kind: str, capfd: pytest.CaptureFixture[str], refuses: Refused) -> None:
    attributes = {"y": np.random.default_rng(0).integers(-1, 2, (90, 2)), "names": np.array(["left", "right"])}
    data = small(Path("own.npz"), **(attributes if kind == "attributes" else {}))
    out = run("--data", data, "--labels", "0.3", "--model", model, "--alpha", "3")
    assert {"accuracy", "elbo", "log_likelihood", "reconstruction_error"} <= set(metrics_of(out)["test"])
    assert load(out).recipe["name"] == model  # type: ignore[index]
    capfd.readouterr()
    assert main(["evaluate", str(out), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == metrics_of(out)["test"]
    label = "1" if kind == "classes" else "left=1"
    assert main(["generate", str(out), "--label", label, "--n", "3"]) == 0
    if kind == "attributes" and model != "mvae":
        refuses(["train", "--data", data, "--model", model, "--subsets", "2"], "--subsets", repr(model), "mvae has")


def test_attributes_of_which_some_are_missing(refuses: Refused) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(-1, 2, (80, 2))
    x = rng.normal(size=(80, 6)) + 3 * np.maximum(y, 0)[:, [0, 0, 0, 1, 1, 1]]
    data = npz(Path("faces.npz"), x=x, y=y, names=np.array(["Smiling", "Hat"]))
    out = run("--data", data, "--labels", "0.6")
    metrics = metrics_of(out)
    assert set(metrics["test"]["per_attribute"]) == {"Smiling", "Hat"}
    for key in ("accuracy", "majority_accuracy", "average_precision", "auroc"):
        assert key in metrics["test"], key
    assert "attribute_bars" in {path.stem for path in (out / "figures").iterdir()}
    assert load(out).labels.names == ("Smiling", "Hat")  # type: ignore[union-attr]
    for label in ("Smiling", "Smiling=0", "Smiling=1,Hat=0"):
        assert main(["generate", str(out), "--label", label, "--n", "3"]) == 0
    refuses(["generate", out, "--label", "Smilin=1"], "--label", "did you mean 'Smiling'?")
    refuses(["generate", out, "--label", "Hat=2"], "--label", "Hat=1")
    refuses(["train", "--data", data, "--labels", "all", "--hide-classes", "Hat"], "attributes")
    refuses(["train", "--data", data, "--labels", "all", "--leave-out", "Hat"], "--leave-out")
    refuses(["train", "--data", data, "--labels", "all", "--classes", "9"], "--classes")
    refuses(
        ["train", "--data", data, "--labels", "all", "--label-inference", "sparse"], "label_inference", "class labels"
    )


def test_a_folder_with_words_for_labels(capfd: pytest.CaptureFixture[str], refuses: Refused) -> None:
    words = ("Kätzchen", "Eule, groß", "dog")
    lines = ["file,label"]
    for i in range(36):
        noise(Path("pets") / f"{i}.png", 12, i) if Path("pets").mkdir(exist_ok=True) is None else None
        lines.append(f'{i}.png,"{words[i % 3] if i % 4 else ""}"')
    (Path("pets") / "labels.csv").write_text("\n".join(lines))
    out = run("--data", "pets", "--labels", "all", "--image-size", "6")
    assert set(json.loads((out / "config.json").read_text())["labels"]["names"]) == set(words)
    model = load(out)
    assert model.input_shape == (3, 6, 6)
    assert set(model.labels.names) == set(words)  # type: ignore[union-attr]
    assert {"confusion_matrix", "samples_by_class"} <= {path.stem for path in (out / "figures").iterdir()}
    assert main(["generate", str(out), "--label", "Eule, groß", "--n", "2"]) == 0
    # Other pictures, of another size, with some of the classes in another order.
    more = "file,label,split\n" + "".join(f"{i}.png,{('dog', 'Kätzchen')[i % 2]},test\n" for i in range(4))
    for i in range(6):
        noise(Path("more") / f"{i}.png", 9, i) if Path("more").mkdir(exist_ok=True) is None else None
    (Path("more") / "labels.csv").write_text(more + "4.png,dog,train\n5.png,Kätzchen,train\n")
    capfd.readouterr()
    assert main(["evaluate", str(out), "--data", "more", "--json"]) == 0
    confusion = np.array(json.loads(capfd.readouterr().out)["confusion"])
    known = [model.labels.names.index(word) for word in ("dog", "Kätzchen")]  # type: ignore[union-attr]
    assert confusion.sum() == 4
    assert confusion[known].sum() == 4
    (Path("more") / "labels.csv").write_text(more.replace("dog", "dogs") + "4.png,dogs,train\n5.png,Kätzchen,train\n")
    refuses(["evaluate", out, "--data", "more"], "'dogs'", "did you mean 'dog'?")


@pytest.mark.usefixtures("no_figures")
def test_hidden_further_and_left_out_classes(capfd: pytest.CaptureFixture[str]) -> None:
    data = small(Path("own.npz"), classes=4, n=160)
    out = run("--data", data, "--labels", "all", "--hide-classes", "1", "--leave-out", "3", "--classes", "6")
    test = metrics_of(out)["test"]
    assert test["semi_unsupervised"].keys() >= {"accuracy", "nmi", "ari"}
    assert 0 <= test["anomaly"]["negative_elbo"] <= 1
    assert test["anomaly"]["left_out"] == [3]
    assert load(out).labels.names == ("0", "1", "2", "3", "found 1", "found 2")  # type: ignore[union-attr]
    capfd.readouterr()
    assert main(["evaluate", str(out), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == test
    assert main(["evaluate", str(out), "--json", "--data", str(data)]) == 0
    assert json.loads(capfd.readouterr().out) == test


@pytest.mark.usefixtures("no_figures")
def test_a_left_out_class_alone() -> None:
    test = metrics_of(run("--data", small(Path("own.npz")), "--labels", "all", "--leave-out", "2"))["test"]
    assert "semi_unsupervised" not in test
    assert {"negative_elbo", "reconstruction"} <= test["anomaly"].keys()


def test_a_stopped_run_goes_on(capfd: pytest.CaptureFixture[str], refuses: Refused) -> None:
    arguments = ["--data", str(small(Path("own.npz"))), "--labels", "9", "--no-baseline", "--seed", "4"]
    command = [sys.executable, "-m", "pyro_ssvae", "train", *arguments, *TINY, "--out", "a run", "--epochs", "3000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open("out.txt", "w") as out, open("err.txt", "w") as err:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=err)
        for _ in range(1200):
            if Path("a run/config.json").exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        time.sleep(0.7)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, Path("err.txt").read_text()
    (said,) = [line for line in Path("err.txt").read_text().splitlines() if not line.startswith("note: ")]
    assert "pyro-ssvae train --resume 'a run'" in said
    assert json.loads(Path("a run/config.json").read_text())["command"] == shlex.join(["pyro-ssvae", *command[3:]])
    assert "model.safetensors" not in {path.name for path in Path("a run").iterdir()}
    refuses(["train", *arguments, "--out", "a run"], "a run", "--resume")
    refuses(["evaluate", "a run"], "model.safetensors", "--resume a run")


def test_resuming_gives_what_an_uninterrupted_run_gives(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], refuses: Refused
) -> None:
    arguments = ["train", "--data", str(small(Path("own.npz"))), "--labels", "9", *TINY]
    assert main([*arguments, "--out", "whole"]) == 0
    genuine = training.fit

    def stopped(*rest: Any, **options: Any) -> Any:
        return genuine(*rest, **{**options, "on_epoch": lambda row: os.kill(os.getpid(), signal.SIGINT)})

    monkeypatch.setattr(training, "fit", stopped)
    capfd.readouterr()
    assert main([*arguments, "--out", "parts"]) == 130
    (said,) = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert said == (
        "pyro-ssvae: stopped after 4 of 8 steps; the state is in parts/checkpoint/last.safetensors; "
        "to go on: pyro-ssvae train --resume parts"
    )
    monkeypatch.setattr(training, "fit", genuine)
    with locked(Path("parts")):
        refuses(["train", "--resume", "parts"], "parts", "another process")

    def interrupted(*rest: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "baseline", interrupted)  # once more, after the training
    assert main(["train", "--resume", "parts", "--quiet"]) == 130
    assert "--resume parts" in capfd.readouterr().err
    monkeypatch.setattr(training, "baseline", lambda *rest: {"accuracy": 0.5})
    os.rename("parts", "moved")
    data = Path("own.npz").read_bytes()
    small(Path("own.npz"), n=100)
    refuses(["train", "--resume", "moved"], "--resume moved", "has changed")
    Path("own.npz").write_bytes(data)
    file = Path("moved/checkpoint/last.safetensors")
    good, before = (file.with_name(f"last-{word}.safetensors") for word in ("good", "1"))
    before.unlink()
    file.write_bytes(file.read_bytes()[:-9])
    good.rename("elsewhere")
    refuses(["train", "--resume", "moved"], str(file))
    Path("elsewhere").rename(good)
    capfd.readouterr()
    assert main(["train", "--resume", "moved", "--quiet"]) == 0
    said = capfd.readouterr().err
    first, *others = [line for line in said.splitlines() if not line.startswith("note: ")]
    assert "going on from last-good.safetensors, step 8" in first
    assert all("latent dimensions" in line for line in others)
    assert Path("moved/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert metrics_of(Path("moved"))["test"] == metrics_of(Path("whole"))["test"]
    columns = [
        [line.split(",")[:2] for line in (Path(name) / "history.csv").read_text().split()]
        for name in ("whole", "moved")
    ]
    assert columns[0] == columns[1]
    refuses(["train", "--resume", "moved"], "--resume moved", "has ended")
    refuses(["train", "--resume", "nowhere"], "nowhere/config.json", "no such file")


@pytest.mark.parametrize(
    ("arguments", "culprits"),
    [
        ([], ["train, predict, evaluate, generate"]),
        (["tran"], ["'tran'", "did you mean 'train'?"]),
        (["frobnicate"], ["'frobnicate'", "train, predict, evaluate, generate"]),
        (["train", "--modl", "vae"], ["--modl", "did you mean --model?"]),
        (["train", "--zzz"], ["--zzz", "train --help"]),
        (["train", "-x"], ["-x"]),
        (["train", "--epochs", "x"], ["--epochs", "'x'", "whole number"]),
        (["train", "--epochs=x"], ["--epochs", "'x'", "whole number"]),
        (["train", "--epochs", "2.5"], ["--epochs", "'2.5'", "whole number"]),
        (["train", "--alpha", "much"], ["--alpha", "'much'", "a number is needed"]),
        (["train", "--batch_size", "x"], ["--batch-size", "'x'"]),
        (["train", "--labels"], ["--labels", "is needed"]),
        (["train", "--out"], ["--out", "a path is needed"]),
        (["train", "more"], ["'more'", "too many"]),
        (["train", "--baseline", "yes"], ["'yes'", "too many"]),
        (["evaluate"], ["evaluate", "folder is needed"]),
        (["evaluate", "a", "b"], ["'b'", "too many"]),
        (["generate"], ["generate", "folder is needed"]),
        (["predict"], ["predict", "folder is needed"]),
        (["predict", "runs/x"], ["predict: --data is needed"]),
        (["predict", "runs/x", "--data"], ["--data: a word is needed"]),
        (["study"], ["a study's name is needed: sparse-labels"]),
        (["generate", "a", "--n", "x"], ["--n", "'x'", "whole number"]),
    ],
)
def test_arguments_that_cannot_be_used(arguments: list[str], culprits: list[str], refuses: Refused) -> None:
    said = refuses(arguments, *culprits)
    assert len(said) < 190, said
    assert "{None}" not in said


@pytest.mark.parametrize(
    ("arguments", "culprits"),
    [
        ("--model vea", ["--model", "'vea'", "did you mean 'vae'?"]),
        ("--data minst", ["--data", "'minst'", "did you mean 'mnist'?"]),
        ("--data none.npz", ["none.npz", "no such file"]),
        ("--labels some", ["--labels", "'some'"]),
        ("--labels -1", ["--labels"]),
        ("--labels 1.5", ["--labels", "1.5"]),
        ("--labels 2000", ["--labels", "1294"]),
        ("--labels 5", ["--labels", "5 labels for 10 classes", "at least 10"]),
        ("--labels 0 --model classifier", ["--labels", "a classifier needs some"]),
        ("--epochs 0", ["epochs: 0"]),
        ("--batch-size 1", ["batch_size: 1"]),
        ("--seed -1", ["seed: -1"]),
        ("--learning-rate 0", ["learning_rate"]),
        ("--average 1", ["average"]),
        ("--augment rotate", ["augment", "'rotate'"]),
        ("--device toaster", ["toaster"]),
        ("--precision 7", ["precision", "'7'", "bf16-mixed"]),
        ("--precision 16-mixed --device cpu", ["precision", "CUDA"]),
        ("--latent-dim 0", ["--latent-dim: 0"]),
        ("--classes 4", ["--classes 4", "10 classes"]),
        ("--classes 0", ["--classes 0", "at least 1"]),
        ("--label-inference enumerat", ["--label-inference", "did you mean 'enumerate'?"]),
        ("--label-prior flat", ["label_prior", "'flat'"]),
        ("--label-prior 0.5 0.5 0.5", ["label_prior", "10"]),
        ("--likelihood poisson", ["x: row 0, entry [0, 0, ", "likelihood='poisson'", "counts"]),
        ("--alpha -1", ["--alpha: -1"]),
        ("--model revae --intervention-consistency -1", ["--intervention-consistency: -1", "at least 0"]),
        ("--model revae --z-c-gradient 1.5", ["--z-c-gradient: 1.5", "0 to 1"]),
        ("--beta nan", ["--beta: nan"]),
        ("--model vae --label-inference enumerate", ["train: --label-inference: 'vae' has no such option", "m2"]),
        ("--model classifier --beta 2", ["--beta", "'classifier'"]),
        ("--model m2 --z-c-gradient 0.5", ["train: --z-c-gradient: 'm2' has no such option; revae has"]),
        ("--model ssvae", ["--model", "did you mean 'm2'?"]),
        ("--model m1+m3", ["--model", "did you mean 'm1+m2'?"]),
        ("--lr 0.1", ["train: there is no option --lr", "did you mean --learning-rate?"]),
        ("--batch 16", ["did you mean --batch-size?"]),
        ("--gpu 1", ["did you mean --device?"]),
        ("--hide-classes 7 eleven", ["'eleven'"]),
        ("--hide-classes 0 1 2 3 4 5 6 7 8 9", ["--hide-classes", "--labels 0"]),
        ("--leave-out eleven", ["--leave-out", "'eleven'"]),
        ("--image-size -3", ["--image-size", "-3"]),
    ],
)
def test_values_that_cannot_be_used(arguments: str, culprits: list[str], refuses: Refused) -> None:
    refuses(["train", *arguments.split(), "--quiet", "--out", "new"], *culprits)  # new is not there afterwards


def test_data_that_cannot_be_used(refuses: Refused) -> None:
    x, y = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 2
    wrong = x.copy()
    wrong[17, 2] = np.nan

    def refused(data: Path, *culprits: str, options: str = "--labels all") -> None:
        refuses(["train", "--data", data, *options.split(), "--out", "new", *TINY], str(data), *culprits)

    refused(npz(Path("lengths.npz"), x=x, y=y[:30]), "30 rows", "40")
    empty = np.where(np.arange(40)[:, None] == 17, np.nan, x)
    refused(npz(Path("nan.npz"), x=empty, y=y), "row 17", "no value at all")
    refused(npz(Path("infinite.npz"), x=np.where(np.isnan(wrong), np.inf, wrong), y=y), "row 17", "infinite")
    refused(npz(Path("range.npz"), x=np.full((9, 1, 4, 4), 300), y=y[:9]), "row 0", "out of range")
    refused(npz(Path("label.npz"), x=x, y=np.where(np.arange(40) == 7, -5, y)), "row 7", "-5")
    refused(npz(Path("pickled.npz"), x=np.array([{}] * 40), y=y), "pickled")
    refused(npz(Path("nothing.npz"), y=y), "'x'")
    Path("cut.npz").write_bytes(Path("nan.npz").read_bytes()[:300])
    refused(Path("cut.npz"))
    Path("text.txt").write_text("1,2,3")
    refused(Path("text.txt"), ".npz")
    csv_head = "file,label\n"
    refused(folder(Path("absent"), csv_head + "a.png,cat\nz.png,dog\n"), "z.png")
    refused(folder(Path("twice"), csv_head + "a.png,cat\na.png,dog\nb.png,cat\nc.png,cat\nd.png,dog\n"), "a.png")
    refused(folder(Path("lacking"), csv_head), "labels.csv")
    refused(folder(Path("value"), "file,hat,beard\na.png,1,0\nb.png,2,0\nc.png,0,1\nd.png,1,1\n"), "'2'")
    picture(Path("no_csv/a.png"))
    refused(Path("no_csv"), "at least 2 are needed")
    cut = folder(Path("short"), csv_head + "a.png,cat\nb.png,dog\nc.png,cat\nd.png,dog\n")
    noise(cut / "b.png")
    (cut / "b.png").write_bytes((cut / "b.png").read_bytes()[:500])
    refused(cut, "b.png")
    missing = npz(Path("unlabelled.npz"), x=x, y=np.full(40, -1))
    refuses(
        ["train", "--data", missing, "--model", "classifier", "--labels", "all", "--out", "new"],
        "--labels",
        "classifier",
    )
    refuses(
        ["train", "--data", npz(Path("two.npz"), x=x, y=y), "--labels", "1", "--out", "new"], "--labels: 1 label for 2"
    )
    refuses(["train", "--data", "two.npz", "--labels", "all", "--augment", "affine"], "augment", "images")
    refuses(["train", "--data", "two.npz", "--labels", "all", "--image-size", "8"], "--image-size", "two.npz")


def test_a_loss_that_is_not_finite_goes_back_and_ends_clearly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], no_figures: None
) -> None:
    arguments = ["train", "--data", str(small(Path("own.npz"))), "--labels", "9", "--epochs", "60"]
    arguments += ["--quiet", "--no-baseline", "--compile", "no"]  # a captured step calls no forward
    genuine, calls = Step.forward, [0]

    def forward(step: Step, x: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
        calls[0] += 1
        return genuine(step, x, y) * (torch.nan if calls[0] == 40 else 1)

    monkeypatch.setattr(Step, "forward", forward)
    assert main([*arguments, "--out", "new"]) == 0
    said = without_notes(capfd.readouterr().err)
    assert said.count("\n") == 1
    assert "fit: the loss is not finite in epoch" in said
    assert "learning rate of 0.0002" in said
    assert metrics_of(Path("new"))["train"]["epochs"] == 60
    calls[0] = 0
    monkeypatch.setattr(divergence, "ROLLBACKS", 0)
    assert main([*arguments, "--out", "other"]) == 2
    said = without_notes(capfd.readouterr().err)
    assert said.count("\n") == 1
    assert "learning rate below 0.002 or" in said
    assert not Path("other").exists(), "the corrected command takes the same folder"


def test_a_folder_that_is_not_free_is_left_as_it_was(trained: Path, refuses: Refused) -> None:
    refuses(["train", "--out", trained, "--epochs", 1], str(trained), "holds a run")
    for name in ("metrics.json", "history.csv", "model.safetensors", "figures"):
        place = Path(f"with-{name}")
        place.mkdir()
        (place / name).write_text("mine")
        refuses(["train", "--out", place, "--epochs", 1], str(place), name)
    Path("file").write_text("mine")
    refuses(["train", "--out", "file", "--epochs", 1, "--quiet"], "--out file", "it is a file")
    refuses(["train", "--out", "file/run", "--epochs", 1, "--quiet"], "--out file/run")
    refuses(["train", "--out", "x" * 300, "--epochs", 1, "--quiet"], "--out xxx", "too long")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc on this system")
def test_a_place_that_cannot_be_written_to_is_named(refuses: Refused) -> None:
    for place in ("/proc/run", "/proc/self"):
        refuses(["train", "--out", place, "--epochs", 1, "--quiet"], f"--out {place}")


def test_a_read_only_folder_is_named(tmp_path: Path, refuses: Refused) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("PERMISSIONS DO NOT BIND THIS USER (root): a read-only folder cannot be made")
    refuses(["train", "--out", closed, "--epochs", 1, "--quiet"], "--out", "read-only")
    refuses(["train", "--out", closed / "run", "--epochs", 1, "--quiet"], "--out", "cannot be made")


def test_a_run_that_is_damaged_or_none_is_named(trained: Path, refuses: Refused) -> None:
    refuses(["evaluate", "nowhere"], "nowhere/config.json", "no such file")
    (Path("empty")).mkdir()
    refuses(["evaluate", "empty"], "empty/config.json")
    refuses(["evaluate", trained, "--data", "minst"], "'minst'", "did you mean 'mnist'?")
    refuses(["evaluate", trained, "--data", small(Path("own.npz"))], "--data own.npz", "[1, 4, 4]", "[1, 8, 8]")
    content = (trained / "config.json").read_text()
    for old, new in (('"settings"', '"sets"'), ('"source"', '"sauce"'), ('"evaluation"', '"valuation"'), ("{", "[")):
        (trained / "config.json").write_text(content.replace(old, new, 1))
        refuses(["evaluate", trained], "config.json")
    (trained / "config.json").write_text(content)
    file = trained / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    refuses(["evaluate", trained], "model.safetensors")
    refuses(["generate", trained], "model.safetensors")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["evaluate", "--help"], ["generate", "-h"]])
def test_help_is_for_people(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    said = capfd.readouterr().out
    assert "usage: pyro-ssvae" in said
    assert "{None}" not in said
    assert "(default: None)" not in said
    if "train" in arguments:
        assert "--labels" in said
        assert "by default 50, of AugVAE" in " ".join(said.replace("│", "").split())
        assert "(default: 256)" in said


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_help_has_an_example_that_can_be_typed(command: str | None, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"] if command else ["--help"])
    said = " ".join(line.strip("│ ") for line in capfd.readouterr().out.splitlines())
    written = ABOUT if command is None else about(command)
    (example,) = re.findall(r"Example: (.*)", written)
    assert f"Example: {example}" in said
    program, *arguments = shlex.split(example)
    assert program == "pyro-ssvae"
    module, _ = parse(arguments)
    assert module.__name__ == f"pyro_ssvae.cli.{command or 'train'}"


def test_parameters_of_others_stay(trained: Path) -> None:
    mine = pyro.param("mine", torch.ones(2))
    assert main(["evaluate", str(trained)]) == 0
    assert list(pyro.get_param_store().keys()) == ["mine"]
    assert torch.equal(mine, torch.ones(2))


def test_a_configuration_repeats_its_run_bit_for_bit(
    capfd: pytest.CaptureFixture[str], no_figures: None, refuses: Refused
) -> None:
    data = small(Path("own.npz"))
    first = run("--data", data, "--labels", "9", "--seed", "5", "--learning-rate", "0.01", "--keep-checkpoints", "3")
    config = json.loads((first / "config.json").read_text())
    assert config["settings"]["training"]["seed"] == 5
    assert config["settings"]["saving"]["keep_checkpoints"] == 3
    assert config["versions"]["torch"] == torch.__version__
    assert {"python", "numpy", "pyro-ppl", "pyro_ssvae"} < config["versions"].keys()
    assert config["command"] is None, "called from Python"
    assert len(config["fingerprint"]) == len(config["label_set"]) == 64
    capfd.readouterr()
    assert main(["train", "--config", str(first / "config.json"), "--out", "again", "--quiet"]) == 0
    assert "bit for bit" not in capfd.readouterr().err
    again = Path("again")
    assert (again / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()
    for key in ("data", "test"):
        assert metrics_of(again)[key] == metrics_of(first)[key]
    assert metrics_of(again)["baseline"]["accuracy"] == metrics_of(first)["baseline"]["accuracy"]
    repeated = json.loads((again / "config.json").read_text())
    assert {k: v for k, v in repeated.items() if k != "command"} == {k: v for k, v in config.items() if k != "command"}
    assert load(first, weights="checkpoint/last-best.safetensors").input_shape == (1, 4, 4)

    # An option beside it wins, also where it is the option's default; data that changed is said.
    assert main(["train", f"--config={first}", "--out", "other", "--quiet", "--seed", "0", "--no-baseline"]) == 0
    other = json.loads(Path("other/config.json").read_text())
    assert other["settings"]["training"] == {**config["settings"]["training"], "seed": 0}
    assert other["label_set"] != config["label_set"]
    small(data, n=99)
    capfd.readouterr()
    assert main(["train", "--config", str(first), "--out", "changed", "--quiet", "--no-baseline"]) == 0
    said = without_notes(capfd.readouterr().err)
    assert said.startswith("train: not bit for bit as run: other data, label set\n")
    refuses(["train", "--config", "nowhere"], "nowhere/config.json", "no such file")
    Path("broken").mkdir()
    Path("broken/config.json").write_text('{"format": 2, "model": null, "labels": null}')
    refuses(["train", "--config", "broken/config.json"], "broken/config.json", "not a run's configuration")


def test_settings_of_checkpoints_that_cannot_be_used(refuses: Refused) -> None:
    refuses(["train", "--checkpoint-minutes", "-1"], "checkpoint_minutes", "-1")
    refuses(["train", "--checkpoint-minutes", "nan"], "checkpoint_minutes", "nan")
    refuses(["train", "--checkpoint-epochs", "0"], "checkpoint_epochs", "0")
    refuses(["train", "--keep-checkpoints", "0"], "keep_checkpoints", "0")


def test_each_model_has_its_own_options_in_the_help(capfd: pytest.CaptureFixture[str]) -> None:
    """All of them, with a line each, and none of another model's."""
    every = {option for model in MODELS.values() for option in option_names(model.Config)}
    for name, model in MODELS.items():
        with pytest.raises(SystemExit):
            main(["train", "--model", name, "--help"])
        said, own = capfd.readouterr().out, option_names(model.Config)
        assert re.search(r"\(default: .*" + re.escape(name) + r"\)", said)
        for option in every:
            assert (re.search(rf"--{option.replace('_', '-')}[ ,]", said) is not None) == (option in own), (
                name,
                option,
            )


def test_what_people_type_leads_to_names_that_are_there(capfd: pytest.CaptureFixture[str]) -> None:
    models = {"AugVAE": "augmented", "ccvae": "revae", "CC_VAE": "revae", "ssvae": "m2", "M1M2": "m1+m2"}
    for word, model in models.items():
        assert nearest(word, MODELS) == f" (did you mean {model!r}?)"
    assert "known: digits" in nearest("iris", NAMES)
    assert "'fashion-mnist'" in nearest("FashionMNIST", NAMES)
    assert "'normal'" in nearest("gaussian", ["normal", "bernoulli"])
    said: set[str] = set()
    for command in ("train --model m2", "train --model revae", "generate", "suggest"):
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])
        said |= set(re.findall(r"--([a-z-]+)", capfd.readouterr().out))
    for word, option in {"lr": "learning-rate", "bs": "batch-size", "Num_Epochs": "epochs", "gpu": "device"}.items():
        assert option in said
        assert nearest(f"--{word}", [f"--{name}" for name in sorted(said)]) == f" (did you mean '--{option}'?)"


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("model", ["augmented", "m2"])
@pytest.mark.parametrize("option", ["--alpha", "--beta"])
def test_a_weight_of_nothing_is_a_limit_that_trains(model: str, option: str) -> None:
    data = small(Path("own.npz"))
    out = run("--data", data, "--labels", "9", "--no-baseline", "--model", model, option, "0")
    assert json.loads((out / "config.json").read_text())["settings"]["network"]["options"][option[2:]] == 0
    assert np.isfinite(metrics_of(out)["test"]["elbo"])


@pytest.mark.usefixtures("no_figures")
def test_a_prior_over_labels_in_numbers() -> None:
    out = run("--data", small(Path("own.npz")), "--labels", "9", "--label-prior", "0.2", "0.3", "0.5", "--no-baseline")
    options = json.loads((out / "config.json").read_text())["settings"]["network"]["options"]
    assert options["label_prior"] == [0.2, 0.3, 0.5]
    prior = load(out).label_prior.logits.softmax(-1)  # type: ignore[union-attr, operator]
    assert torch.allclose(prior, torch.tensor([0.2, 0.3, 0.5]))
    assert main(["train", "--config", str(out), "--out", "again", "--quiet"]) == 0
    assert Path("again/model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


@pytest.mark.usefixtures("no_figures")
def test_options_of_a_training(refuses: Refused) -> None:
    data = small(Path("own.npz"))
    out = run(
        "--data", data, "--labels", "9", "--clip-norm", "1", "--class-weights", "balanced", "--early-stopping", "1"
    )
    training = json.loads((out / "config.json").read_text())["settings"]["training"]
    assert (training["clip_norm"], training["class_weights"], training["early_stopping"]) == (1.0, "balanced", 1)
    assert metrics_of(out)["baseline"]["accuracy"] >= 0
    refuses(["train", "--data", data, "--labels", "9", "--class-weights", "1", "2", "--out", "new"], "class_weights")
    refuses(["train", "--data", data, "--labels", "9", "--clip-norm", "0", "--quiet"], "clip_norm")


@pytest.mark.usefixtures("no_figures")
def test_another_model_than_that_of_the_configuration(refuses: Refused) -> None:
    first = run("--data", small(Path("own.npz")), "--labels", "9", "--alpha", "3", "--no-baseline")
    assert main(["train", "--config", str(first), "--model", "m2", "--out", "other", "--quiet"]) == 0
    one, other = (json.loads((out / "config.json").read_text())["settings"] for out in (first, Path("other")))
    assert other["network"]["name"] == "m2"
    assert other["network"]["options"]["alpha"] == 500.0, "its own default"
    assert other["training"] == one["training"]
    assert other["source"] == one["source"]
    refuses(
        ["train", "--config", first, "--model", "m2", "--label-dim", "3"], "--label-dim", "'m2'", "revae, diva have"
    )


def test_a_run_of_an_earlier_version_is_refused(trained: Path, refuses: Refused) -> None:
    config = json.loads((trained / "config.json").read_text())
    (trained / "metrics.json").unlink()
    commands: list[list[Any]] = [[name, trained] for name in ("evaluate", "generate", "inspect", "suggest")]
    commands += [["train", option, trained] for option in ("--resume", "--config")]
    for number, words in ((1, "earlier version"), (None, "earlier version"), (9, "later version")):
        (trained / "config.json").write_text(json.dumps({**config, "format": number}))
        for command in commands:
            said = refuses(command, str(trained / "config.json"), words)
            assert ("train it anew" in said) == (words == "earlier version")
    config.pop("format")
    (trained / "config.json").write_text(json.dumps(config))
    refuses(["evaluate", trained], "made by an earlier version of pyro_ssvae; train it anew")


def test_a_reader_that_stops_listening_is_no_error() -> None:
    """As ``pyro-ssvae ... | head -1`` does."""
    for command in ("--help", "train --help"):
        line = f"{shlex.quote(sys.executable)} -m pyro_ssvae {command} | true"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.stderr == ""


def test_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pyro_ssvae.cli.main import overview, import_module, COMMANDS; overview();"
        "[import_module(f'pyro_ssvae.cli.{name}') for name in COMMANDS if name not in ('train', 'benchmark')];"
        "heavy = ('torch', 'pyro', 'matplotlib', 'sklearn', 'pandas', 'lightning', 'gradio');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
