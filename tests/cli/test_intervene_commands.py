"""The commands as functions; that the program knows them is test_cli.py's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_makers import npz, picture, refused
from PIL import Image
from toy_blocks import NAMES, world

from pyro_ssvae import AttributeLabels, ClassLabels, create_model, data, load, plots, save
from pyro_ssvae.cli import evaluate, generate, intervene, swap, walk
from pyro_ssvae.cli.evaluate import Evaluate
from pyro_ssvae.cli.generate import Generate, asked_label
from pyro_ssvae.cli.intervene import Intervene
from pyro_ssvae.cli.swap import Swap
from pyro_ssvae.cli.tables import show_interventions
from pyro_ssvae.cli.walk import Walk
from pyro_ssvae.evaluation.oracle import OracleSettings, train_oracle
from pyro_ssvae.experiment.config import DataConfig, ExperimentConfig, ModelConfig, model_options
from pyro_ssvae.experiment.oracle import intervention_metrics

LABELS = AttributeLabels(NAMES)


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYRO_SSVAE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def a_run(name: str = "revae", labels: Any = LABELS, input_shape: tuple[int, ...] = (1, 4, 12)) -> Path:
    """A run's folder as train leaves it, its model untrained, its data an .npz file."""
    x, y, _ = world(30)
    x = (255 * x).byte() if len(input_shape) == 3 else torch.rand(30, *input_shape)
    y = y if isinstance(labels, AttributeLabels) else torch.arange(30) % labels.size
    names = np.array(labels.names)
    file = npz(
        Path("own.npz"), x=x[:20].numpy(), y=y[:20].numpy(), x_test=x[20:].numpy(), y_test=y[20:].numpy(), names=names
    )
    model = create_model(name, input_shape=input_shape, labels=labels, latent_dim=6)
    source = DataConfig(data=str(file), labels="all")
    settings = ExperimentConfig(source=source, network=ModelConfig(name, model_options(name))).recorded()
    return save(model, Path("run"), settings=settings, evaluation={})


def test_intervene_draws_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run()
    intervene.run(Intervene(run, index=3, set=("hat=1", "beard=0"), draws=3))
    assert capsys.readouterr().out == f"picture: {run}/figures/intervention.png\n"
    with Image.open(run / "figures" / "intervention.png") as image:
        assert image.width > image.height
    intervene.run(Intervene(run, index=3))  # each attribute in turn; the first picture stays
    assert (run / "figures" / "intervention-2.png").exists()
    intervene.run(Intervene(run, image=picture(Path("a.jpg"), (90, 33), "RGB"), set=("hat=1",), out=Path("new/b.svg")))
    assert Path("new/b.svg").read_text().count("<svg") == 1


def test_the_same_seed_draws_the_same_picture() -> None:
    run = a_run()
    for name in ("a", "b"):
        intervene.run(Intervene(run, index=0, set=("hat=1",), out=Path(f"{name}.png")))
    intervene.run(Intervene(run, index=0, set=("hat=1",), out=Path("c.png"), seed=1))
    a, b, c = (np.asarray(Image.open(f"{name}.png")) for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_swap_and_walk_draw_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    run, file = a_run(), picture(Path("a.png"), (30, 10))
    swap.run(Swap(run, image=file, donor_index=2, attribute="beard"))
    swap.run(Swap(run, index=1, donor=file, attribute="beard"))
    walk.run(Walk(run, index=1, attribute="beard"))
    walk.run(Walk(run, image=file, attribute="beard", second="hat", steps=3, out=Path("plane.pdf")))
    said = capsys.readouterr().out
    for name in ("run/figures/swap.png", "run/figures/swap-2.png", "run/figures/walk.png", "plane.pdf"):
        assert name in said
        assert Path(name).stat().st_size > 500


def test_receiver_and_donor_are_read_once(capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run()
    npz(Path("own.npz"), **{name: part for name, part in np.load("own.npz").items() if not name.endswith("_test")})
    capsys.readouterr()
    config = json.loads((run / "config.json").read_text())
    config.pop("digest", None)
    (run / "config.json").write_text(json.dumps(config))
    swap.run(Swap(run, index=0, donor_index=1, attribute="beard"))
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == len(set(notes)) > 0


def test_class_labels() -> None:
    run = a_run(labels=ClassLabels(3, ["cat", "dog", "owl"]))
    intervene.run(Intervene(run, index=0, set=("dog",)))
    intervene.run(Intervene(run, index=0, set=("class=owl",)))
    intervene.run(Intervene(run, index=0))
    swap.run(Swap(run, index=0, donor_index=1))
    refused(lambda: intervene.run(Intervene(run, index=0, set=("cow",))), "--set cow", "owl")
    refused(lambda: swap.run(Swap(run, index=0, donor_index=1, attribute="hat")), "--attribute hat", "class labels")
    refused(lambda: walk.run(Walk(run, index=0, attribute="hat")), "walk", "class labels")


def test_wrong_words_are_refused() -> None:
    run = a_run()
    right = Intervene(run, index=0, set=("hat=1",))
    for given, *culprits in (
        (("hat=2",), "--set hat=2", "hat=0 or hat=1"),
        (("hat=",), "--set hat=", "hat=0 or hat=1"),
        (("hat",), "--set hat", "hat=0 or hat=1"),
        (("hta=1",), "--set", "'hta'", "'hat'"),
        (("hat=1", "hat=0"), "--set hat=0", "hat=1"),
        (("=1",), "--set", "''"),
    ):
        refused(lambda given=given: intervene.run(replace(right, set=given)), *culprits)
    refused(lambda: intervene.run(replace(right, draws=0)), "--draws", "0", "1 to 100")
    refused(lambda: intervene.run(replace(right, seed=-1)), "--seed", "-1")
    refused(lambda: intervene.run(replace(right, out=Path("a.txt"))), "--out a.txt", ".png")
    Path("there.png").write_text("mine")
    refused(lambda: intervene.run(replace(right, out=Path("there.png"))), "there.png", "already")
    assert Path("there.png").read_text() == "mine"
    refused(lambda: intervene.run(replace(right, out=Path("there.png/a.png"))), "there.png/a.png", "cannot be written")
    refused(lambda: swap.run(Swap(run, index=0, donor_index=1)), "--attribute", "hat, beard, scarf")
    refused(lambda: swap.run(Swap(run, index=0, donor_index=1, attribute="bread")), "--attribute", "'beard'")
    refused(lambda: swap.run(Swap(run, index=0, attribute="beard")), "--donor", "--donor-index")
    refused(lambda: walk.run(Walk(run, index=0, attribute="hat", second="hat")), "--second hat", "another")
    refused(lambda: walk.run(Walk(run, index=0, attribute="hat", second="scraf")), "--second", "'scarf'")
    refused(lambda: walk.run(Walk(run, index=0, attribute="hat", steps=1)), "--steps", "1", "2 to 25")
    assert not (run / "figures").exists()


def test_images_that_cannot_be_read_are_refused() -> None:
    run = a_run()
    right = Intervene(run, set=("hat=1",))
    Path("words.png").write_text("no image")
    refused(lambda: intervene.run(replace(right, image=Path("words.png"))), "words.png", "no readable image")
    refused(lambda: intervene.run(replace(right, image=Path("absent.png"))), "--image absent.png", "no such file")
    refused(lambda: intervene.run(replace(right, image=run)), "--image run", "folder")
    refused(lambda: intervene.run(right), "--image", "--index", "one of the two")
    refused(lambda: intervene.run(replace(right, index=0, image=Path("a.png"))), "--image", "--index")
    refused(lambda: intervene.run(replace(right, index=10)), "--index", "10", "0 to 9")
    refused(lambda: intervene.run(replace(right, index=-1)), "--index", "-1", "0 to 9")
    refused(lambda: swap.run(Swap(run, index=0, donor=Path("words.png"), attribute="hat")), "words.png")


def test_models_without_interventions_are_refused() -> None:
    for make, culprits in (
        (lambda: a_run("augmented"), ("run", "an AugmentedVAE has no", "revae")),
        (lambda: a_run("revae", input_shape=(7,)), ("run", "images", "[7]")),
    ):
        run = make()
        refused(lambda run=run: intervene.run(Intervene(run, index=0)), *culprits)
        refused(lambda run=run: swap.run(Swap(run, index=0, donor_index=0, attribute="hat")), *culprits)
        refused(lambda run=run: walk.run(Walk(run, index=0, attribute="hat")), *culprits)
    refused(lambda: intervene.run(Intervene(Path("none"), index=0)), "none", "no such file")


def test_the_words_of_the_shell() -> None:
    given = intervene.parse(["r", "--index", "3", "--set", "hat=1", "--set", "beard=0", "--draws", "5"])
    assert given == Intervene(Path("r"), index=3, set=("hat=1", "beard=0"), draws=5)
    assert swap.parse(["r", "--image", "a", "--donor", "b", "--attribute", "hat"]).donor == Path("b")
    assert walk.parse(["r", "--index", "0", "--attribute", "hat", "--second", "scarf"]).second == "scarf"


def test_evaluate_with_interventions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run()
    model, dataset = load(run), data.load("own.npz")
    trained: list[int] = []

    def short(*args: Any, **options: Any) -> Any:
        trained.append(1)
        return train_oracle(*args, **{**options, "settings": OracleSettings(steps=2)})

    monkeypatch.setattr("pyro_ssvae.evaluation.oracle.train_oracle", short)
    options: dict[str, Any] = {"draws": 2, "resamples": 20}
    metrics = intervention_metrics(model, dataset, "own.npz", **options)
    assert intervention_metrics(model, dataset, "own.npz", **options) == metrics
    assert len(trained) == 1
    assert len(list(Path("data/oracles").iterdir())) == 1
    json.dumps(metrics, allow_nan=False)
    show_interventions(metrics)
    said = capsys.readouterr().out
    for word in ("success", "chance", "ceiling", *NAMES, "10 test points"):
        assert word in said
    entry = metrics["diversity_pixels"]["mean"]
    entry.update(value=112218.7, low=90689.4, high=141741.3, ceiling={"real": 128951.5, "reconstruction": 128951.5})
    show_interventions(metrics)  # in a table's own units
    said = capsys.readouterr().out
    assert "1.1e+05" in said
    assert "9.1e+04–1.4e+05" in said
    assert "…" not in said
    plain = a_run("augmented")
    refused(lambda: evaluate.run(Evaluate(plain, interventions=True)), "run", "AugmentedVAE", "has no interventions")
    assert data.factors_of("digits") is None


def test_an_attribute_has_one_value_in_generate() -> None:
    model = create_model("m2", input_shape=(5,), labels=AttributeLabels(["hat", "suit"]))
    assert asked_label(model, "hat, suit=0").tolist() == [1, 0]
    assert asked_label(model, "suit=0,suit=0").tolist() == [-1, 0]
    refused(lambda: asked_label(model, "hat=1,suit=1,hat=0"), "--label hat=0: hat=1 is given too")


def test_a_model_without_labels_draws_as_many_as_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    drawn = plots.samples
    monkeypatch.setattr(plots, "samples", lambda *args, **more: asked.append(args[1]) or drawn(*args, **more))
    run = save(create_model("vae", input_shape=(1, 4, 12), latent_dim=2), Path("run"))
    generate.run(Generate(run, n=3))
    assert asked == [3]
