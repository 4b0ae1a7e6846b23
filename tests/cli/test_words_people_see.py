"""What the terminal shows: tables of 80 columns, help in whole sentences, names as people write them, pipes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console
from rich.table import Table

import pyro_ssvae as ps
from pyro_ssvae.cli import inspect, tables
from pyro_ssvae.cli.field_help import field_help
from pyro_ssvae.cli.main import COMMANDS, main, overview
from pyro_ssvae.cli.train import parse
from pyro_ssvae.errors import InputError, counted, kind_of
from pyro_ssvae.experiment.config import ExperimentConfig, experiment_of
from pyro_ssvae.models import MODELS, model_name
from pyro_ssvae.models.config import LabelConfig
from pyro_ssvae.train.settings import FitSettings

WIDE = "a very long name of an attribute or class"
"""Too long for its column."""
SWAPS = {f"kind of {WIDE}": {WIDE: [0.91, 0.02], "b": [0.33, 0.44]}}
LATENTS = {f"kind of {WIDE}": {"own": 0.91, "others": 0.22, "rest": 0.333, "chance": 0.444}}


def at_80_columns(table: Table) -> str:
    """The table as a terminal of 80 columns shows it."""
    console = Console(width=80, no_color=True)
    with console.capture() as shown:
        console.print(table)
    return shown.get()


def numbers_are_whole(table: Table, *numbers: str) -> None:
    text = at_80_columns(table)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for number in numbers:
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", text), (number, text)


def entry(value: float) -> dict[str, object]:
    ends = {"low": value - 0.01, "high": value + 0.01}
    return {"value": value, **ends, "chance": 0.125, "ceiling": {"real": 0.987, "reconstruction": 0.654}}


def frame(name: str) -> pd.DataFrame:
    """What ``least_sure`` gives, with long names and numbers."""
    row = {"why": "reconstruction", "score": 12.3, "label_entropy": 1.25, "reconstruction": 12345.6, "kl": 1.5}
    row |= {"first": name, "p_first": 0.98, "second": f"not {name}", "p_second": 0.02}
    return pd.DataFrame([row, row], index=[1234567, 7])


def interventions() -> dict[str, object]:
    names = [f"{WIDE} {i}" for i in range(3)]
    per = {"mean": entry(0.789), "per_attribute": {name: entry(0.321) for name in names}}
    factor = {**entry(0.456), "attribute": WIDE}
    found: dict[str, object] = {key: per for key, _ in tables.INTERVENTIONS if "carry" not in key}
    found["carry_over"] = {"mean": entry(0.5), "per_factor": {f"kind of {WIDE}": factor}}
    found["carry_over_without"] = {"mean": entry(0.5), "per_factor": {f"kind of {WIDE}": entry(0.777)}}
    return {**found, "points": 500, "draws": 4}


@pytest.mark.parametrize(
    ("made", "numbers"),
    [
        (lambda: tables.mean_table(interventions()), ["0.789", "0.779–0.799", "0.125", "0.987", "0.654"]),
        (lambda: tables.attribute_table(interventions()), ["0.321"]),
        (lambda: tables.kind_table(interventions()), ["0.456", "0.125", "0.777"]),
        (lambda: tables.swap_table(SWAPS, {f"kind of {WIDE}": WIDE}), ["0.91", "0.02", "0.33", "0.44"]),
        (lambda: tables.latent_table(LATENTS), ["0.910", "0.220", "0.333", "0.444"]),
        (lambda: inspect.uncertain_table(frame(WIDE), "test", [WIDE, ""]), ["1234567", "12.3", "12346", "0.98"]),
    ],
)
def test_tables_never_cut_a_number_at_80_columns(made: Callable[[], Table], numbers: list[str]) -> None:
    numbers_are_whole(made(), *numbers)


def test_sites_are_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"attribute_{i}" for i in range(8)]
    model = ps.create_model("revae", input_shape=(3, 32, 32), labels=ps.AttributeLabels(names), latent_dim=45)
    found = ps.sites(model, torch.rand(1, 3, 32, 32))
    inspect.show_sites(f"test point 1, labelled {', '.join(names)}", found)
    said = capsys.readouterr().out
    assert "…" not in said
    assert f"{float(found.elbo[0]):.2f}" in said
    tables.show_metrics("a title", {"test": {"elbo": -123456.78, "accuracy": 0.9}, "labels alone": {"accuracy": 0.8}})
    said = capsys.readouterr().out
    assert "-123456.78" in said
    assert "…" not in said


def test_titles_are_as_wide_as_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However narrow the table; and nothing is padded with blanks."""
    monkeypatch.setenv("COLUMNS", "80")
    title, caption = "test points that the model is least sure of", "nats; terms sum to the objective"
    table = Table("i", title=title, caption=caption)
    table.add_row("[7]")
    tables.show(table)
    first, *rest = capsys.readouterr().out.splitlines()
    assert (first, rest[-1]) == (title, caption)
    assert table.title == title


def test_metrics_of_groups_are_in_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    calibrated = {"nll": 0.5, "calibration_error_by_chance": 0.1, "coverage": 0.9, "set_size": 1.5, "single_sets": 0.4}
    clustering = {"accuracy": 0.7, "nmi": 0.6, "ari": 0.3}
    metrics = {"accuracy": 0.9, "calibrated": calibrated, "clustering": clustering}
    tables.show_metrics("a title", {"test": metrics, "labels alone": {"accuracy": 0.8}})
    said = capsys.readouterr().out
    for words in ("likelihood (nats)", "sets with the true label", "labels a set", "adjusted Rand index"):
        assert words in said
    assert not re.search(r"\b(nll|nmi|ari)\b", said)
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(("n", "said"), [(0, "0 classes"), (1, "1 class"), (2, "2 classes")])
def test_one_is_counted_in_the_singular(n: int, said: str) -> None:
    assert counted(n, "class", "classes") == said
    assert counted(n, "row") == f"{n} row{'s' * (n != 1)}"


def test_guesses_are_parted_from_each_other() -> None:
    table = inspect.uncertain_table(frame("none at all"), "test", ["", ""])
    assert next(iter(table.columns[-2].cells)) == "none at all 0.98, not none at all 0.02"


def test_the_overview_has_a_line_a_command() -> None:
    lines = overview().splitlines()
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.strip().split(" ")[0] in COMMANDS]) == len(COMMANDS)


def test_help_is_in_whole_sentences(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert field_help(FitSettings)["epochs"].startswith("Passes over the data; by default as many as make 1000 to 2000")
    inherited = field_help(LabelConfig)
    assert {"latent_dim", "beta", "alpha"} <= inherited.keys()
    assert all("\n" not in words for words in inherited.values())
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = capsys.readouterr().out
    paragraph = " ".join(line.strip("│ ") for line in said.splitlines())
    files = "(.csv, .tsv, .parquet, .feather), an .npz or .h5ad file or a folder."
    assert f"avatars, or the path of a table {files}" in paragraph
    assert "1000 to 2000 steps" in paragraph


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("AugVAE", "augmented"),
        ("AugmentedVAE", "augmented"),
        ("CCVAE", "revae"),
        ("cc-vae", "revae"),
        ("ReVAE", "revae"),
        ("M1+M2", "m1+m2"),
        ("M1 + M2", "m1+m2"),
        ("m1m2", "m1+m2"),
        ("Classifier", "classifier"),
    ],
)
def test_models_have_the_names_that_people_write(word: str, name: str) -> None:
    assert model_name(word) == name
    assert parse(["--model", word]).network.name == name
    labels = ps.ClassLabels(2)
    made = ps.create_model(word, input_shape=3, labels=labels)
    assert type(made) is MODELS[name]
    assert made.recipe is not None
    assert made.recipe["name"] == name


def test_a_name_that_is_none_is_refused() -> None:
    for word in ("transformer", "", "m3"):
        with pytest.raises(InputError, match="there is no"):
            model_name(word)
    with pytest.raises(InputError, match=r"--model: there is no 'ssvae' \(did you mean 'm2'\?\)"):
        parse(["--model", "ssvae"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--lr", "0.1"], "train: there is no option --lr (did you mean --learning-rate?)"),
        (["train", "--optimizer", "sgd"], "train: there is no option --optimizer; Adam trains;"),
        (["train", "--val-split", "0.1"], "there is no option --val-split; a tenth of the training rows"),
        (["train", "--steps", "500"], "there is no option --steps; --epochs says how long"),
        (["train", "--val", "0.1"], "there is no option --val; a tenth of the training rows"),
        (["train", "--test-size", "0.2"], "there is no option --test-size; a fifth of the rows is the test"),
        (["train", "--classification-weight", "3"], "--classification-weight (did you mean --alpha?)"),
        (["embed", "r"], "there is no command 'embed' (did you mean 'predict'?)"),
        (["impute", "r"], "there is no command 'impute' (did you mean 'predict'?)"),
        (["export", "r"], "there is no command 'export' (known: train, predict,"),
        (["evaluate", "--steps", "500"], "there is no option --steps; see pyro-ssvae evaluate --help"),
        (["train", "--dropout", "0.1"], "there is no option --dropout; in Python models take networks of your own"),
        (["train", "--momentum", "0.1"], "there is no option --momentum; Adam"),
        (["generate", "r", "--num", "3"], "there is no option --num (did you mean --n?)"),
        (["predict", "r", "new.csv"], "'new.csv' is one argument too many (did you mean --data new.csv?)"),
        (["intervene", "r", "--set", "Bright=1", "Big square=0"], "intervene: 'Big square=0' is one argument too many"),
        (["train", "--xyzzy"], "there is no option --xyzzy; see pyro-ssvae train --help"),
    ],
)
def test_hints_help(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_figures_can_be_switched_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--no-figures"]).figures is False
    saved = ExperimentConfig(figures=False).recorded()
    assert experiment_of({"settings": saved}, "run").figures is False
    del saved["figures"]  # a run of an earlier version
    assert experiment_of({"settings": saved}, "run").figures is True
    with pytest.raises(InputError, match="figures"):
        experiment_of({"settings": {**saved, "figures": "no"}}, "run")
    out = tmp_path / "run"
    options = ["--labels", "0", "--epochs", "1", "--no-figures", "--quiet", "--latent-dim", "2"]
    assert main(["train", *options, "--out", str(out)]) == 0
    assert not (out / "figures").exists()
    said = capsys.readouterr().out
    assert "figures:" not in said
    flat = " ".join(said.split())
    assert "0 of 1294 points labelled; 144 more held out for validation, 144 of them labelled; 359 test points" in flat


def test_a_data_set_and_a_model_say_what_they_are_in_a_few_lines(tmp_path: Path) -> None:
    digits = ps.data.load("digits")
    y = digits.y.clone()
    y[50:] = -1
    digits = replace(digits, y=y)
    lines = repr(digits).splitlines()
    assert lines[0] == "digits: 1,438 training and 359 test images of 1 × 8 × 8, float32"
    assert lines[1:] == [
        "  labels: 10 classes: 0, 1, 2, 3, 4, …",
        "  labelled: 50 of 1,438 training, 359 of 359 test points",
    ]
    (tmp_path / "t.csv").write_text(
        "a,b,kind\n" + "\n".join(f"{i % 7 / 8},{'pqr'[i % 3]},{'xy'[i % 2]}" for i in range(30))
    )
    table = repr(ps.data.load(str(tmp_path / "t.csv"), target=("kind",), quiet=True)).splitlines()
    assert table[0].endswith("vectors of 2 features, float32")
    assert table[-1].startswith("  2 columns: a, b; ")
    model = ps.create_model("m2", **digits.model_options(), latent_dim=7)
    lines = repr(model).splitlines()
    assert re.fullmatch(r"M2 'm2', [\d,]+ parameters on cpu", lines[0])
    assert lines[1] == "  x: 1 × 8 × 8, likelihood normal"
    assert lines[3] == "  z: 7 dimensions"
    assert len(lines) == 5
    assert "(encoder)" in model.architecture()
    assert len(model.architecture().splitlines()) > 15
    assert repr(ps.Model()) == "Model()"  # nothing in it yet


@pytest.mark.parametrize(
    ("names", "article"),
    [
        ("AugmentedVAE ADGM MVAE M1 M2 M1M2 int SVI", "an"),
        ("VAE DIVA ReVAE Classifier LinearModel Sequential str Unit TwoTower", "a"),
    ],
)
def test_an_article_is_that_of_the_sound(names: str, article: str) -> None:
    for name in names.split():
        assert kind_of(type(name, (), {})()) == f"{article} {name}"
