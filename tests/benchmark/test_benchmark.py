from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from rich.console import Console
from torch import Tensor

from pyro_ssvae.benchmark.cases import CASES, QUICK, Case, make, make_data
from pyro_ssvae.benchmark.device_check import checks
from pyro_ssvae.benchmark.reference_losses import LOSSES
from pyro_ssvae.benchmark.steps import check_same_loss, take_turns
from pyro_ssvae.benchmark.table import VARIANTS, Row, tables
from pyro_ssvae.cli.main import main
from pyro_ssvae.models import MODELS


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} {case.size} {case.batch}")
def test_the_losses_written_by_hand_are_the_pairs(case: Case) -> None:
    model = make(case)
    x, y = make_data(case, 2)
    model.prepare(x, y)
    with torch.no_grad():
        for name, p in model.named_parameters():  # heads that begin at zero hide what depends on them
            if name.startswith("head"):
                p.add_(0.3 * torch.randn_like(p))
    x, y = x[: min(case.batch, 32)], y[: min(case.batch, 32)]
    check_same_loss(model, LOSSES[case.model], x, y)
    with pytest.raises(AssertionError, match="by hand"):
        check_same_loss(model, lambda m, x, y: 1.01 * LOSSES[case.model](m, x, y), x, y)


def test_data_are_partly_labelled_and_fit_the_models() -> None:
    for case in CASES:
        x, y = make_data(case, 3)
        assert len(x) == len(y) == 3 * case.batch
        assert 0 <= x.min() < x.max() <= 1
        assert 0.1 < (y >= 0).double().mean() < 0.4


def test_turns_are_taken_evenly() -> None:
    calls: dict[str, int] = {"a": 0, "b": 0}

    def step(name: str) -> Any:
        def run(x: Tensor, y: Tensor) -> None:
            calls[name] += 1
            torch.randn(400 if name == "a" else 800, 400).sort()

        return run

    found = take_turns({"a": step("a"), "b": step("b")}, torch.zeros(1), torch.zeros(1), 0.3)
    assert 0 < found["a"] < found["b"]
    assert min(calls.values()) >= 3 + 2 + 5


def test_the_command_prints_a_row_a_case(capsys: pytest.CaptureFixture[str]) -> None:
    small = Case("augmented", "16-16-4", 8, "sparse")
    with (
        patch("pyro_ssvae.benchmark.steps.QUICK", (small,)),
        patch("torch._inductor.compile", lambda graph, inputs, options: graph),  # a minute each
        patch("torch.compile", lambda function, fullgraph: function),
    ):
        assert main(["benchmark", "--quick", "--device", "cpu", "--json"]) == 0
    out, err = capsys.readouterr()
    (row,) = json.loads(out)
    assert row["model"] == "augmented sparse"
    assert set(row["milliseconds"]) == set(VARIANTS)
    assert min(row["milliseconds"].values()) > 0
    assert row["points_per_second"] > 0
    assert row["peak_megabytes"] > 50
    assert "cannot be compiled" not in err


def test_the_tables_fit_80_columns() -> None:
    row: Row = {
        "model": "augmented enumerate",
        "networks": "784-500-500-50",
        "batch": 256,
        "points_per_second": 22076.4,
        "milliseconds": {**dict.fromkeys(VARIANTS, 218.79), "pyro SVI": 437.58},
        "outside_steps": -0.01,
        "peak_megabytes": 1392.2,
    }
    text = io.StringIO()
    Console(width=80, file=text).print(*tables("title", [row]))
    said = text.getvalue()
    assert "…" not in said
    assert "784-500-500-50, 256" in said
    for number in ("218.79", "437.58", " 2.00 ", " 1.00 ", " 22076 ", " 1392 "):
        assert number in said, number


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--device", "tpu9"]) == 2
    assert "'tpu9' is not there" in capsys.readouterr().err


@pytest.mark.slow
def test_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--quick", "--device", "cpu", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["model"] == QUICK[0].name
    assert set(row["milliseconds"]) == set(VARIANTS)
    assert row["milliseconds"]["compiled"] < row["milliseconds"]["pyro SVI"] / 2


def test_a_device_is_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every kind of check, of one model; a model that fails is named, and the command says so."""
    with patch("pyro_ssvae.benchmark.device_check.MODELS", {"revae": MODELS["revae"]}), patch(
        "pyro_ssvae.benchmark.device_check.CASES", ()
    ):  # fmt: skip
        out = tmp_path / "gpu.md"
        assert main(["benchmark", "--device", "cpu", "--minutes", "5", "--out", str(out)]) == 0
        said = capsys.readouterr().out
        assert said.splitlines()[-1].endswith("7 checks, 0 wrong")
        assert "revae, attributes: captured as eager: captured;" in said
        assert "intervened" in said
        assert out.read_text().count("| right |") == 6
        with patch("pyro_ssvae.benchmark.device_check.TOLERANCE", 0.0):
            assert main(["benchmark", "--device", "cpu", "--minutes", "5"]) == 1
        assert "WRONG revae, classes: loss as on the CPU" in capsys.readouterr().out


def test_what_the_time_does_not_reach_is_left_out() -> None:
    found = list(checks(torch.device("cpu"), 1e-9, small=True))
    assert len(found) > 50
    assert all(check.fine is None and "left out" in check.found for check in found)


@pytest.mark.gpu
def test_the_gpu() -> None:
    """``pytest -m gpu``: every model on the GPU as on the CPU."""
    wrong = [check for check in checks(torch.device("cuda"), 8.0, small=False) if check.fine is False]
    assert not wrong


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--minutes", "0"], "--minutes: 0; a number above 0"),
        (["--out", "gpu.md"], "--out: only --minutes writes a table"),
        (
            ["--minutes", "1", "--device", "cuda"],
            "device: 'cuda', but no CUDA GPU is seen here; the devices here are cpu",
        ),
    ],
)
def test_what_a_check_cannot_use(arguments: list[str], culprit: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["benchmark", *arguments]) == 2
    assert culprit in capsys.readouterr().err
