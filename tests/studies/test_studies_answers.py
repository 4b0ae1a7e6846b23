"""From results to intervals, tables and answers in words, on results made up for it."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats
from texts import texts_apart

from pyro_ssvae.studies import STUDIES
from pyro_ssvae.studies.cells import Cell, Result
from pyro_ssvae.studies.figure import figure, possible
from pyro_ssvae.studies.forest import Panel, forest, limits, near, over_seeds
from pyro_ssvae.studies.intervals import (
    Interval,
    Where,
    by_seed,
    counts,
    difference,
    interval,
    look_up,
    rows,
    t_interval,
)
from pyro_ssvae.studies.methods import METHODS
from pyro_ssvae.studies.table import markdown, runs_csv, shown
from pyro_ssvae.studies.words import amount, summary, tally, verdict

SEEDS = range(3)
Figures = Callable[[int], Mapping[str, Any]]


def result(
    method: str, labels: str, seed: int, figures: Mapping[str, Any], classes: tuple[str, ...] = (), study: str = "s"
) -> Result:
    cell = Cell(study, "digits", "0" * 16, method, labels, seed, 100, 256, 50, "affine", classes)
    metrics: dict[str, Any] = {"train": {"rows": 1000, "labelled": 1, "label_set": "x"}}
    for path, value in figures.items():
        place = metrics
        *above, last = path.split(".")
        for key in above:
            place = place.setdefault(key, {})
        place[last] = value
    return Result(cell, metrics, 1.0)


def results(figures: Mapping[tuple[str, str], Figures], seeds: range = SEEDS) -> list[Result]:
    """Results by method and labels, each a function of the seed."""
    return [result(*at, seed, function(seed)) for seed in seeds for at, function in figures.items()]


def accuracy(mean: float, spread: float = 0.01) -> Figures:
    return lambda seed: {"accuracy": mean + spread * (seed - 1)}


def block(lines: list[str], question: str) -> str:
    """The lines of an answer, up to the next question."""
    text = "\n".join(lines)
    assert question in text
    return text.split(question)[1].split("**")[1]


def line(text: str, start: str) -> str:
    (found,) = (line for line in text.splitlines() if line.strip().startswith(f"- {start}"))
    return found


def test_an_interval_is_students() -> None:
    values = [0.91, 0.95, 0.92, 0.97]
    found = t_interval(values)
    assert found is not None
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((np.mean(values), low, high, 4), rel=1e-12)
    two = t_interval([0.0, 1.0])
    assert two is not None
    assert two.high == pytest.approx(0.5 + 12.7062 * math.sqrt(0.5) / math.sqrt(2), abs=1e-4)


def test_an_interval_of_one_value_has_no_ends_and_of_none_is_none() -> None:
    assert t_interval([0.3]) == Interval(0.3, None, None, 1)
    assert t_interval([]) is None


def test_a_difference_is_taken_seed_by_seed() -> None:
    """Seeds vary far more than the methods differ: pairs tell them apart, two samples could not."""
    noise = [0.1, 0.5, 0.9]
    a = [noise[seed] + (0.05, 0.06, 0.07)[seed] for seed in SEEDS]
    data = results(
        {("a", "50"): lambda seed: {"accuracy": a[seed]}, ("b", "50"): lambda seed: {"accuracy": noise[seed]}}
    )
    found = difference(data, "accuracy", Where("a", "50"), Where("b", "50"))
    expected = stats.ttest_rel(a, noise).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.low is not None
    assert found.low > 0
    one_less = [r for r in data if (r.cell.method, r.cell.seed) != ("b", 2)]
    found = difference(one_less, "accuracy", Where("a", "50"), Where("b", "50"))
    assert found is not None
    assert (found.n, found.mean) == (2, pytest.approx(0.055))


def test_classes_that_take_turns_are_averaged_and_an_incomplete_seed_does_not_count() -> None:
    data = [
        result("m2", "50", seed, {"auroc": value}, (name,))
        for seed, name, value in [(0, "1", 0.5), (0, "8", 0.7), (1, "1", 0.6), (1, "8", 0.9), (2, "1", 0.1)]
    ]
    assert by_seed(data, "auroc", Where("m2", "50")) == pytest.approx({0: 0.6, 1: 0.75})


def test_a_figure_is_found_by_its_path_and_a_missing_one_is_none() -> None:
    metrics = {"a": {"b": 2}, "c": None, "d": "word", "e": math.inf}
    assert look_up(metrics, "a.b") == 2.0
    assert [look_up(metrics, path) for path in ("a", "a.b.c", "c", "d", "e", "f")] == [None] * 6


def test_rows_go_from_few_labels_to_all() -> None:
    data = results({("m", n): accuracy(0.5) for n in ("all", "1000", "0", "50", "0.2")}, range(1))
    assert counts(data) == ["0", "0.2", "50", "1000", "all"]


@pytest.mark.parametrize(
    ("low", "high", "better", "said"),
    [
        (0.01, 0.03, "higher", "yes"),
        (0.01, 0.03, "lower", "opposite"),
        (-0.03, -0.01, "higher", "opposite"),
        (-0.03, -0.01, "lower", "yes"),
        (-0.01, 0.03, "higher", "open"),
        (-0.01, 0.03, "lower", "open"),
        (0.02, 0.02, "higher", "open"),
        (None, None, "higher", "one seed"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(
    low: float | None, high: float | None, better: str, said: str
) -> None:
    assert verdict(Interval(0.02, low, high, 3), better) == said


def test_a_summary_says_what_does_not_hold_as_plainly_as_what_does() -> None:
    holds, fails = Interval(0.1, 0.08, 0.12, 3), Interval(-0.1, -0.12, -0.08, 3)
    unclear, one = Interval(0.001, -0.01, 0.012, 3), Interval(0.5, None, None, 1)
    said = summary([("at 10", holds), ("at 20", unclear), ("at 30", fails), ("at 40", one), ("at 50", None)], digits=2)
    assert said == (
        "Yes at 10 (+0.10 [+0.08, +0.12]); no, the opposite at 30 (−0.10 [−0.12, −0.08]); "
        "not shown at 20 (0.00 [−0.01, +0.01]); not judged (one seed has no interval) at 40 (+0.50); no metrics at 50."
    )
    assert amount(fails, 3) == "−0.100 [−0.120, −0.080]"
    assert summary([]) == "Nothing was compared."
    assert tally([(holds, "higher"), (fails, "lower")]) == "yes (2 yes, of 2 comparisons)"
    assert tally([(holds, "higher"), (fails, "higher"), (unclear, "higher")]) == (
        "in part (1 yes, 1 the opposite, 1 not shown, of 3 comparisons)"
    )
    assert tally([(None, "higher")]) == "nothing was compared"


SPARSE = STUDIES["sparse-labels"]
UNLABELLED, TASKS, DIRECT = (
    "Do unlabelled points help the classifier?",
    "Do labels help the unsupervised tasks?",
    "Does it beat direct supervision when all labels are there?",
)


@pytest.mark.parametrize(
    ("few", "every", "said_few", "said_all"),
    [
        (0.98, 0.999, "Yes at 100 labels (+0.0800 [", "Yes at all labels (+0.0090 ["),
        (0.80, 0.95, "No, the opposite at 100 labels (−0.1000 [", "No, the opposite at all labels (−0.0400 ["),
    ],
)
def test_claims_on_accuracy_follow_the_figures(few: float, every: float, said_few: str, said_all: str) -> None:
    ours = {("augmented-probabilities", "100"): accuracy(few), ("augmented-probabilities", "all"): accuracy(every)}
    # the classifier's seeds vary a little otherwise, so that a difference has a width
    base = {
        ("classifier", "100"): lambda seed: {"accuracy": 0.90 + 0.01 * (seed - 1) + (0.0004, -0.0004, 0)[seed]},
        ("classifier", "all"): lambda seed: {"accuracy": 0.99 + 0.01 * (seed - 1) + (0.0004, -0.0004, 0)[seed]},
    }
    lines = SPARSE.answers(results({**ours, **base}))
    assert said_few in line(block(lines, UNLABELLED), "augmented-probabilities")
    assert "all labels" not in block(lines, UNLABELLED)
    assert said_all in line(block(lines, DIRECT), "augmented-probabilities")


def test_a_claim_that_seeds_disagree_on_is_not_shown() -> None:
    data = results(
        {
            ("m2", "100"): lambda seed: {"accuracy": (0.90, 0.95, 0.93)[seed]},
            ("classifier", "100"): lambda seed: {"accuracy": (0.93, 0.90, 0.92)[seed]},
        }
    )
    assert line(block(SPARSE.answers(data), UNLABELLED), "m2").startswith("- m2: Not shown at 100 labels (+0.0100 [")
    assert "Nothing was compared" in block(SPARSE.answers(data), TASKS)
    assert "Nothing was compared" in block(SPARSE.answers(data), DIRECT)


def test_labels_that_help_one_task_and_harm_another_are_told_apart() -> None:
    def figures(elbo: float, error: float) -> Figures:
        return lambda seed: {"elbo": elbo + 0.1 * seed**2, "reconstruction_error": error + 1e-5 * seed}

    data = results(
        {
            ("m2", "0"): lambda seed: {"elbo": -100 + 0.2 * seed, "reconstruction_error": 0.02 + 2e-5 * seed},
            ("m2", "100"): figures(-90, 0.03),  # ELBO higher: better; error higher: worse
            ("vae", "0"): figures(-80, 0.01),
            # not trained without labels: against the VAE
            ("revae", "100"): lambda seed: {"elbo": -95 + 0.2 * seed, "reconstruction_error": 0.005 + 2e-5 * seed},
        }
    )
    text = block(SPARSE.answers(data), TASKS)
    own = text[text.index("- m2") : text.index("- revae")]
    assert line(own, "m2") == "- m2, against itself without labels: in part (1 yes, 1 the opposite, of 2 comparisons)"
    assert re.match(r"Yes at 100 labels \(\+9\.\d+ \[", line(own, "ELBO").split(": ", 1)[1])
    assert line(own, "reconstruction error").split(": ")[1].startswith("No, the opposite at 100 labels (+0.00999")
    other = text[text.index("- revae") :]
    assert line(other, "revae").startswith("- revae, against vae without labels: in part")


def test_one_seed_claims_nothing() -> None:
    data = results({("m2", "100"): accuracy(0.99), ("classifier", "100"): accuracy(0.1)}, range(1))
    said = line(block(SPARSE.answers(data), UNLABELLED), "m2")
    assert said == "- m2: Not judged (one seed has no interval) at 100 labels (+0.8900)."


@pytest.mark.parametrize(("gain", "said"), [(0.1, "Yes"), (-0.1, "No, the opposite")])
def test_the_other_studies_answer_from_their_figures(gain: float, said: str) -> None:
    def figure_of(path: str, value: float, **more: float) -> Figures:
        return lambda seed: {path: value + 0.001 * seed**2, **more}

    auroc = "anomaly.negative_elbo"
    data = results({("m2", "0"): figure_of(auroc, 0.7, x=0), ("m2", "50"): lambda s: {auroc: 0.7 + gain + 0.002 * s}})
    answer = STUDIES["anomaly"].answers(data)
    assert line(block(answer, "Do labels help"), "m2, negative ELBO").startswith(f"- m2, negative ELBO: {said} at 50")
    assert "No metrics" in line(block(answer, "better at it than a plain VAE?"), "m2, negative ELBO")

    unseen = "semi_unsupervised.unseen_accuracy"
    data = results(
        {
            ("vae", "0"): figure_of(unseen, 0.6),
            ("augmented-enumerate", "50"): lambda s: {unseen: 0.6 + gain + 0.002 * s},
        }
    )
    answer = STUDIES["semi-unsupervised"].answers(data)
    words = "augmented-enumerate, accuracy, classes without labels"
    assert line(block(answer, "k-means on a VAE's latents?"), words).startswith(f"- {words}: {said} at 50")
    assert "Nothing was compared" in block(answer, "better than M2?")

    data = results(
        {
            ("revae", "15"): lambda s: {
                "transfer.accuracy": 0.8 + gain + 0.002 * s,
                "scratch.accuracy": 0.8 + 0.001 * s**2,
            }
        }
    )
    answer = STUDIES["transfer"].answers(data)
    assert line(block(answer, "going on from the other classes"), "revae").startswith(f"- revae: {said} at 15")

    kind, chance = "interventions.carry_over.mean.value", "interventions.carry_over.mean.chance"
    data = results(
        {
            ("revae", "0.2"): lambda s: {kind: 0.3 + gain + 0.002 * s, chance: 0.3},
            ("m2", "0.2"): figure_of(kind, 0.3),
        }
    )
    answer = STUDIES["label-characteristics"].answers(data)
    assert line(block(answer, "Does the kind arrive"), "revae").startswith(f"- revae: {said} at f = 0.2")
    assert (
        line(block(answer, "Does the ReVAE do it better"), "unnamed kind arrives")
        .strip()
        .startswith(f"- unnamed kind arrives: {said} at f = 0.2")
    )


def test_a_table_shows_means_with_half_the_interval_and_says_what_is_lacking() -> None:
    data = results(
        {
            ("classifier", "50"): accuracy(0.9),
            ("m2", "50"): accuracy(0.95, 0.0),
            ("vae", "0"): lambda s: {"elbo": -9.0 - s},
        }
    )
    text = markdown(SPARSE, data, "pyro-ssvae study sparse-labels", lacking=2)
    half = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert f"| 50 | classifier | 3 | 0.9000 ± {half:.4f} |  |" in text
    assert "| 50 | m2 | 3 | 0.9500 ± 0.0000 |" in text
    assert "| 0 | vae | 3 |  | -10.00 ± 2.48 |" in text
    assert "calibration" not in text.split("| labels |")[1].split("\n")[0]  # a column that nothing has is left out
    assert "2 cells of the plan have no result" in text
    assert "`pyro-ssvae study sparse-labels`" in text
    assert "1,000 training rows" in text
    assert "100 steps of 256 rows" in text
    assert shown(t_interval([0.5]), 2) == "0.50"
    assert shown(None, 2) == ""


def test_a_csv_has_one_line_a_cell_with_all_its_figures() -> None:
    data = [
        result("m2", "50", 0, {"accuracy": 0.5, "confusion": [[1]], "per_attribute.hat.accuracy": 0.25}, ("7", "8")),
        result("vae", "0", 1, {"elbo": -3.0, "note": None}),
    ]
    first, second = csv.DictReader(io.StringIO(runs_csv(data)))
    assert (first["method"], first["seed"], first["classes"], first["accuracy"]) == ("m2", "0", "7 8", "0.5")
    assert first["per_attribute.hat.accuracy"] == "0.25"
    assert (second["elbo"], second["accuracy"], second["train.rows"]) == ("-3.0", "", "1000")
    assert "confusion" not in first


def test_a_picture_has_a_row_a_method_with_differences_to_the_baseline() -> None:
    data = results({("classifier", "50"): accuracy(0.9), ("m2", "50"): accuracy(0.95), ("m2", "all"): accuracy(0.99)})
    drawn = figure(SPARSE, data)
    assert isinstance(drawn, Figure)
    (panel,) = drawn.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["m2"]
    assert panel.get_xlabel() == "less that of classifier, 0.9"
    found = difference(data, "accuracy", Where("m2", "50"), Where("classifier", "50"))
    assert found is not None
    lines = [line.get_xdata() for line in panel.lines]
    assert [found.low, found.high] == pytest.approx(lines[1])  # the first is the line at 0
    assert lines[2] == pytest.approx([found.mean])
    again = figure(STUDIES["transfer"], results({("m2", "50"): lambda s: {"transfer.accuracy": 0.9 + 0.01 * s}}))
    assert again.axes[0].get_xlabel() == ""  # a study without a baseline shows what was measured


def test_a_picture_tells_numbers_of_labels_by_shade_and_marker() -> None:
    data = results({("m2", n): (lambda s, n=n: {"elbo": -80 + float(n)}) for n in ("50", "0", "100")})
    drawn = figure(SPARSE, data)
    legend = drawn.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["0", "50", "100"]
    lines = legend.get_lines()
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 3
    assert "3 seeds" in drawn.get_suptitle()
    assert drawn.axes[0].get_xlabel() == "nats a point"


def test_intervals_end_at_what_can_be() -> None:
    data = results({("m2", "50"): lambda s: {"transfer.accuracy": [0.9, 1.0, 0.99][s % 3]}})
    (panel,) = figure(STUDIES["transfer"], data).axes
    found = interval(data, "transfer.accuracy", Where("m2", "50"))
    assert found is not None
    assert found.high is not None
    assert found.high > 1
    assert max(float(max(line.get_xdata())) for line in panel.lines) == 1.0
    assert possible("interventions.success.mean.value") == (0.0, 1.0)
    assert possible("reconstruction_error") == (0.0, math.inf)
    assert possible("elbo") == (-math.inf, math.inf)


def test_a_picture_shows_chance_where_a_figure_has_one() -> None:
    data = results(
        {
            ("revae", "0.2"): lambda s: {"accuracy": 0.9, "majority_accuracy": 0.6},
            ("m2", "0.2"): lambda s: {"accuracy": 0.8, "majority_accuracy": 0.7},
            ("m2", "all"): lambda s: {"accuracy": 0.8, "majority_accuracy": 0.8},
        }
    )
    drawn = figure(STUDIES["label-characteristics"], data)
    (panel,) = drawn.axes
    dotted = [float(line.get_xdata()[0]) for line in panel.lines if line.get_linestyle() == ":"]
    assert dotted == pytest.approx([0.6, 0.75])
    assert "dotted: chance" in drawn.get_suptitle().replace("\n", " ")


def test_a_picture_of_every_method_at_many_counts_can_be_read() -> None:
    for study in STUDIES.values():
        every: dict[tuple[str, str], Figures] = {}
        for i, method in enumerate(study.methods):
            numbers = {column.path: 0.5 + 0.03 * i for column in study.columns}
            for labels in ("0", "10", "100", "1000", "0.25", "all"):
                every[method, labels] = lambda seed, numbers=numbers: numbers
        made = results(every)
        assert texts_apart(figure(study, made) if study.picture is None else study.picture(made))


def test_wide_intervals_do_not_squeeze_the_means() -> None:
    low, high = limits([Interval(0.5, -5.0, 6.0, 2), Interval(0.7, 0.69, 0.71, 2)], zero=False)
    assert (low, high) == pytest.approx((0.3 - 0.036, 0.9 + 0.036))
    low, high = limits([Interval(0.5, 0.49, 0.51, 2), Interval(0.7, 0.69, 0.71, 2)], zero=False)
    assert (low, high) == pytest.approx((0.49 - 0.0132, 0.71 + 0.0132))
    low, high = limits([Interval(0.96, 0.92, 1.0, 3), Interval(0.95, 0.92, 0.98, 3)], zero=False)
    assert low <= 0.92  # means that no interval parts do not look far apart
    assert high > 0.98
    low, high = limits([Interval(0.0, None, None, 1)])
    assert low < 0 < high
    assert limits([Interval(0.5, 0.4, 0.6, 3)])[0] < 0  # with a line at 0


def test_a_mean_far_from_all_others_is_said_at_the_edge() -> None:
    means = [0.01 * i for i in range(9)]
    assert near([*means, 5.0, -0.03]) == [*means, -0.03]
    assert near([0.0, 0.0, 1.0]) == [0.0, 0.0, 1.0]  # too few to say
    values = {f"m{i}": {"": Interval(mean, mean - 0.01, mean + 0.01, 3)} for i, mean in enumerate([*means, 5.0])}
    (panel,) = forest([Panel("accuracy", values)]).axes
    assert panel.get_xlim()[1] < 0.2
    assert [text.get_text().strip() for text in panel.texts] == ["5"]


def test_a_figure_says_of_how_many_seeds_it_is() -> None:
    def panel(*n: int) -> Panel:
        return Panel("accuracy", {f"m{i}": {"": Interval(0.5, None, None, k)} for i, k in enumerate(n)})

    assert over_seeds([panel(5), panel(5)]) == "means over 5 seeds with 95 % intervals"
    assert over_seeds([panel(5), panel(1, 3)]) == "means over 1 to 5 seeds with 95 % intervals"
    assert over_seeds([panel(1)]) == "one seed"


def test_every_study_names_methods_that_are_defined() -> None:
    for study in STUDIES.values():
        assert set(study.methods) <= set(METHODS)
        assert study.quick.seeds >= 2
    assert {METHODS[name].model for name in SPARSE.methods} >= {
        "augmented",
        "m2",
        "m1+m2",
        "revae",
        "classifier",
        "vae",
        None,
    }
    ours = ("revae", "revae+locality", "revae+one-sided", "revae+both")
    assert STUDIES["label-characteristics"].methods == (*ours, "m2", "mvae", "diva")
    assert STUDIES["label-characteristics"].full.labels == ("0.004", "0.06", "0.2", "1.0")
    assert rows([]) == []
