"""The ablation: several data sets, one part of the training at a time, and what is said of the decoder."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_makers import npz
from matplotlib.axes import Axes
from texts import texts_apart

from pyro_ssvae.cli.main import main
from pyro_ssvae.data import standard
from pyro_ssvae.errors import InputError
from pyro_ssvae.studies import STUDIES
from pyro_ssvae.studies import methods as studied
from pyro_ssvae.studies.cells import Cell, Result
from pyro_ssvae.studies.grid import cells_of_parts, grid, plans
from pyro_ssvae.studies.methods import METHODS, choose_methods, make_model
from pyro_ssvae.studies.plan import Part, Plan
from pyro_ssvae.studies.scikit_learn import sklearn_proba
from pyro_ssvae.studies.table import markdown

ABLATION = STUDIES["ablation"]
TINY = ("--steps", "2", "--batch-size", "16", "--latent-dim", "4", "--jobs", "1", "--quiet")


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYRO_SSVAE_DATA", str(tmp_path / "data"))


def made(accuracy: Mapping[tuple[str, str, str], tuple[float, ...]]) -> list[Result]:
    """Results by data, labels and method, of which the accuracies of the seeds are given."""
    found = []
    for (data, labels, method), values in accuracy.items():
        for seed, value in enumerate(values):
            cell = Cell("ablation", data, "0", method, labels, seed, 100, 256, 50, METHODS[method].augment or "affine")
            metrics: dict[str, Any] = {"train": {"rows": 1000}, "accuracy": value, "label_log_likelihood": value - 1}
            found.append(Result(cell, metrics, 1.0))
    return found


BASE = (0.90, 0.91, 0.92)
MORE, LESS, ALIKE = (0.95, 0.962, 0.97), (0.85, 0.862, 0.87), (0.88, 0.93, 0.92)


def some_results() -> list[Result]:
    return made(
        {
            (data, labels, method): values
            for data, labels, default in (
                ("digits", "50", MORE), ("wine", "30", LESS), ("breast-cancer", "20", ALIKE),
                ("breast-cancer", "100", MORE),
            )
            for method, values in (("paper", ALIKE), ("augmented", default), ("no-decoder", BASE), ("classifier", BASE))
        }
    )  # fmt: skip


def test_one_sentence_says_where_the_decoder_helps_where_it_harms_and_where_nothing_is_shown() -> None:
    said = ABLATION.answers(some_results())[2]
    assert said.startswith("By 3 seeds, what the VAE adds to the same training without a decoder: it adds accuracy on ")
    adds, costs, nothing = said.split("; ")
    assert "on digits with 50 labels (+5.1 [" in adds
    assert "on breast-cancer with 100 labels (+5.1 [" in adds
    assert costs.startswith("it costs accuracy on wine with 30 labels (−4.9 [")
    assert nothing.startswith("it adds nothing that the intervals show on breast-cancer with 20 labels (0.0 [−")
    assert said.count(".") - said.count("0.") >= 1  # one sentence
    one = [result for result in some_results() if result.cell.seed == 0]
    assert ABLATION.answers(one)[2].startswith("One seed has no interval")
    assert ABLATION.answers(made({("wine", "30", "paper"): BASE}))[2] == "Nothing was compared."


def test_the_parts_and_the_other_methods_are_compared_place_by_place() -> None:
    lines = ABLATION.answers(
        made(
            {
                ("wine", "30", method): tuple(np.add(BASE, shift) + np.array([0, 0.001, -0.001]))
                for method, shift in (("paper", 0.01), ("paper+entropy", 0.03), ("label-spreading", -0.02))
            }
            | {("wine", "30", "classifier"): BASE, ("wine", "30", "augmented"): MORE}
        )
    )
    text = "\n".join(lines)
    assert "- entropy minimisation: Not shown on wine with 30 labels (+0.0200 [+0.0200, +0.0200])." in lines
    assert "distribution alignment" not in text  # of which one row is absent
    assert "- paper: Yes on wine with 30 labels (+0.0100 [" in text
    assert "- label-spreading: No, the opposite on wine with 30 labels (−0.0200 [" in text
    assert "- label-spreading: Yes on wine with 30 labels (+0.0707 [" in text


def test_a_table_of_several_data_sets_names_them_and_what_each_was_trained_on() -> None:
    text = markdown(ABLATION, some_results(), "pyro-ssvae study ablation")
    assert "| data | labels | method | seeds | accuracy | log-likelihood of the labels |" in text
    assert "| digits | 50 | augmented | 3 | 0.9607 ± 0.0250 | -0.039 ± 0.025 |" in text
    order = [
        line.split(" | ")[0:2] for line in text.splitlines() if line.startswith(("| digits", "| wine", "| breast"))
    ]
    places = list(dict.fromkeys(map(tuple, order)))
    assert places == [("| digits", "50"), ("| wine", "30"), ("| breast-cancer", "20"), ("| breast-cancer", "100")]
    assert "- wine, 1,000 training rows" in text
    assert "100 steps, points moved, turned and stretched at random or, where the method says so, as they are." in text


def drawn_at(ax: Axes, row: int) -> tuple[float, tuple[float, float]]:
    """The mean and the ends of the interval that a panel shows in a row."""
    lines = [np.asarray(line.get_xdata()) for line in ax.lines if set(np.asarray(line.get_ydata())) == {row}]
    (mean,) = (line for line in lines if len(line) == 1)
    (ends,) = (line for line in lines if len(line) == 2)
    return float(mean[0]), (float(ends[0]), float(ends[1]))


def test_the_picture_has_a_panel_a_place_and_differences_in_points() -> None:
    assert ABLATION.picture is not None
    drawn = ABLATION.picture(some_results())
    assert [ax.get_title() for ax in drawn.axes] == [
        "digits, 50 labels", "wine, 30 labels", "breast-cancer, 20 labels", "breast-cancer, 100 labels",
    ]  # fmt: skip
    first = drawn.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["paper", "augmented", "no-decoder"]
    mean, (low, high) = drawn_at(first, 1)
    assert mean == pytest.approx(100 * (np.mean(MORE) - np.mean(BASE)))
    assert low < mean < high
    assert first.get_xlim()[0] < 0 < first.get_xlim()[1]
    assert texts_apart(drawn)
    without = [result for result in some_results() if result.cell.method != "classifier"]
    drawn = ABLATION.picture(without)
    assert drawn.get_supxlabel() == "accuracy less that of paper, points"
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == ["augmented", "no-decoder"]
    drawn = ABLATION.picture(made({("wine", "30", "paper"): BASE}))
    assert drawn.get_supxlabel() == "accuracy, per cent"
    assert drawn_at(drawn.axes[0], 0)[0] == pytest.approx(91)


def test_methods_differ_in_the_part_that_they_name() -> None:
    plan = replace(plans(ABLATION.quick)[1], methods=ABLATION.methods, seeds=1)
    cells = {cell.method: cell for cell in grid(ABLATION, plan, standard_data(plan))}
    assert {m: c.augment for m, c in cells.items() if c.augment != "noise"} == dict.fromkeys(
        ("paper", "paper+entropy", "paper+entropy+alignment"), "none"
    )
    assert len({replace(cell, method="", augment="").key for cell in cells.values()}) == 1  # all else is the same
    whole = standard_data(plan)
    models: dict[str, Any] = {m: make_model(cells[m], whole) for m in cells if METHODS[m].model is not None}
    weights = {m: (model.config.entropy_weight, model.config.alignment_weight) for m, model in models.items()}
    entropy, alignment = weights["augmented"]
    assert min(entropy, alignment) > 0
    assert weights["paper"] == (0, 0)
    assert weights["paper+entropy"] == (entropy, 0)
    assert weights["paper+entropy+alignment"] == (entropy, alignment)
    assert weights["classifier"] == (0, 0)
    alpha = models["augmented"].config.alpha
    assert weights["no-decoder"] == (entropy / alpha, alignment / alpha)
    trunks = [str(model.encoder) for model in models.values()]
    assert len(set(trunks)) == 1


def standard_data(plan: Plan) -> Any:
    from pyro_ssvae.experiment.config import DataConfig
    from pyro_ssvae.experiment.data import load_data

    return load_data(DataConfig(plan.data))


def test_the_head_without_a_decoder_sees_all_rows_and_the_classifier_the_labelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: dict[str, int] = {}

    def count(model: Any, x: Any, y: Any, **rest: Any) -> None:
        rows[cell.method] = len(x)

    monkeypatch.setattr(studied, "fit", count)
    plan = replace(plans(ABLATION.quick)[1], methods=("no-decoder", "classifier"), seeds=1)
    whole = standard_data(plan)
    for cell in grid(ABLATION, plan, whole):
        ABLATION.compute(cell, whole, "cpu")
    assert rows == {"no-decoder": 409, "classifier": 20}


def test_several_data_sets_run_in_one_study(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = rng.integers(0, 80, (60, 1, 4, 4), np.uint8)
    x[y == 1, 0, :2] += 150
    own = npz(Path("own.npz"), x=x, y=y)
    names = ["no-decoder", "logistic-regression", "gradient-boosting"]
    command = ["study", "ablation", "--data", str(own), "wine", "--labels", "12", "--models", *names]
    assert main([*command, "--seeds", "2", "--first-seed", "10", "--out", "out", *TINY]) == 0
    runs = list(csv.DictReader(Path("out/runs.csv").read_text().splitlines()))
    assert {(row["data"], row["method"]) for row in runs} == {
        ("own.npz", "no-decoder"), ("own.npz", "logistic-regression"), *(("wine", name) for name in names),
    }  # fmt: skip
    assert {row["seed"] for row in runs} == {"10", "11"}
    assert {row["labels"] for row in runs} == {"12"}
    for row in runs:
        assert 0 <= float(row["balanced_accuracy"]) <= 1
        assert float(row["label_log_likelihood"]) == -float(row["nll"])
    accuracy = [float(row["accuracy"]) for row in runs if row["method"] == "logistic-regression"]
    assert min(accuracy) > 0.8
    cells = [json.loads(path.read_text())["cell"] for path in Path("out/cells").glob("*.json")]
    assert {cell["data"]: cell["augment"] for cell in cells} == {"own.npz": "affine", "wine": "noise"}


def test_a_data_set_that_is_not_there_is_left_out_in_a_line_unless_it_was_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(fetch: object, name: str, root: Path, *rest: str) -> None:
        raise InputError(f"{name}: not in {root}")

    monkeypatch.setattr(standard, "downloaded", fail)
    plan = Plan("", (), methods=("classifier",), seeds=2, parts=(Part("mnist", ("100",)), Part("wine", ("30",))))
    cells = cells_of_parts(ABLATION, plan, named=False)
    assert [(cell.data, cell.labels, cell.seed) for cell in cells] == [("wine", "30", 0), ("wine", "30", 1)]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("study ablation: mnist is left out (mnist: not in ")
    with pytest.raises(InputError, match="mnist: not in"):
        cells_of_parts(ABLATION, plan, named=True)


def test_a_method_is_named_alone_even_where_others_have_its_name_s_model() -> None:
    assert choose_methods("ablation", ABLATION.methods, ["classifier", "augmented"]) == ("augmented", "classifier")
    assert choose_methods("ablation", ABLATION.methods, []) == ABLATION.methods


def test_seeds_come_one_after_another_over_all_data_sets() -> None:
    plan = replace(ABLATION.quick, methods=("paper",))
    assert [(cell.seed, cell.data) for cell in cells_of_parts(ABLATION, plan, named=False)] == [
        (0, "digits"), (0, "breast-cancer"), (1, "digits"), (1, "breast-cancer"),
    ]  # fmt: skip
    assert [(part.data, part.labels) for part in plans(replace(plan, labels=("33",)))] == [
        ("digits", ("33",)), ("breast-cancer", ("33",)),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["logistic-regression", "gradient-boosting"])
def test_methods_of_the_labels_alone_never_see_the_other_rows(name: str) -> None:
    plan = replace(plans(ABLATION.quick)[1], methods=(name,))
    whole = standard_data(plan)
    y = torch.full_like(whole.y, -1)
    for k in (0, 1):
        y[(whole.y == k).nonzero().squeeze(1)[:50]] = k
    split = replace(whole, y=y)
    probs = sklearn_proba(name, split, whole.x_test, 0)
    assert torch.allclose(probs.sum(1), torch.ones(len(probs), dtype=probs.dtype))
    assert float((probs.argmax(1) == whole.y_test).double().mean()) > 0.9
    moved = whole.x.clone()
    order = (y == -1).nonzero().squeeze(1)
    moved[order] = moved[order.flip(0)]  # the same columns' means and deviations
    assert torch.allclose(sklearn_proba(name, replace(split, x=moved), whole.x_test, 0), probs, atol=1e-6)
