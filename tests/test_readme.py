"""README is short, its links lead somewhere, its commands are the program's, its numbers those of results/."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pyro_ssvae.cli.main import COMMANDS
from pyro_ssvae.data.sources import NAMES
from pyro_ssvae.studies import STUDIES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WORDS_FOR = {
    "digits": "digits",
    "digits, five classes rare": "imbalanced-digits",
    "breast cancer": "breast-cancer",
    "wine": "wine",
    "simulated counts": "counts",
}


def rows(text: str) -> list[list[str]]:
    """The cells of all tables of a page."""
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_it_is_short() -> None:
    assert len(README.split()) <= 900
    assert all(
        len(re.findall(r"(?<![\w.+])\d+(?:\.\d+)?", cell)) <= 3
        for row in rows(README)
        for cell in row
        if "[" not in cell
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


def test_commands_are_the_programs() -> None:
    lines = [
        line.split("#")[0] for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()
    ]
    lines += re.findall(r"`(pyro-ssvae [^`]+)`", README)
    started = [shlex.split(line.split("&&")[-1]) for line in lines if "pyro-ssvae" in line]
    assert started
    for _, command, *options in started:
        assert command in COMMANDS
        if command == "study":
            assert options[0] in {study.name for study in STUDIES.values()}
            assert set(options[options.index("--data") + 1 : options.index("--seeds")]) <= set(NAMES)


def test_numbers_are_those_of_the_ablation() -> None:
    table = rows((ROOT / "results" / "ablation" / "table.md").read_text())
    measured = {(row[0], row[1], row[2]): row[4] for row in table if len(row) > 5}
    shown = [row for row in rows(README) if row[0] in WORDS_FOR]
    assert len(shown) == 6
    for words, labels, *cells in shown:
        others = ("logistic-regression", "label-spreading", "self-training", "gradient-boosting")
        best = re.search(r"\((.*)\)", cells[2])
        assert best
        methods = ("augmented", "classifier", best[1].replace(" ", "-"))
        at = {method: measured.get((WORDS_FOR[words], labels, method)) for method in (*methods, *others)}
        for method, cell in zip(methods, cells):
            mean, half = re.findall(r"\d\.\d+", cell)
            true_mean, true_half = (float(part) for part in str(at[method]).split(" ± "))
            assert abs(float(mean) - true_mean) <= 0.00051
            assert abs(float(half) - true_half) <= 0.00051
        means = {method: float(str(value).split()[0]) for method, value in at.items() if value and method in others}
        assert means[methods[2]] == max(means.values())


def test_mnist_is_that_of_its_table() -> None:
    table = rows((ROOT / "results" / "ablation-mnist" / "table.md").read_text())
    (measured,) = (row[3] for row in table if row[:2] == ["100", "augmented"])
    pages = (ROOT / "docs" / "results.md").read_text()
    assert measured in pages
    runs = rows((ROOT / "results" / "ablation-mnist" / "longer.md").read_text())
    longer = [float(row[2]) for row in runs if len(row) == 6 and row[0] == "12,656"]
    assert len(longer) == 5
    half = stats.t.ppf(0.975, 4) * np.std(longer, ddof=1) / math.sqrt(5)
    for page in (README, pages):
        assert f"{np.mean(longer):.4f} ± {half:.4f}" in page
