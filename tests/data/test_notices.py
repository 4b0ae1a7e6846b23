"""What is said of data: once in a command, each time elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyro_ssvae.cli.main import main
from pyro_ssvae.data.notices import once, say, silent


def test_a_command_says_a_thing_once_of_a_file_and_its_arrays(capsys: pytest.CaptureFixture[str]) -> None:
    with once():
        with silent():
            say("y: in units of 1: half")
        say("a.npz: y and y_test: in units of 1: half")
        say("y: in units of 1: half")
        say("y: in units of 1: a third")
        say("no place at all")
        say("no  place at all")
    say("y: in units of 1: half")
    assert capsys.readouterr().err.splitlines() == [
        "note: a.npz: y and y_test: in units of 1: half", "note: y: in units of 1: a third", "note: no place at all",
        "note: y: in units of 1: half",
    ]  # fmt: skip


def test_training_says_once_what_labels_of_two_signs_are_taken_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was said six times: of the file, of its parts, and of each training that calibrates."""
    x = np.random.default_rng(0).normal(size=(60, 3))
    path, out = tmp_path / "a.npz", tmp_path / "run"
    np.savez(path, x=x, y=np.where(x[:, 0] > 0, 1, -1), x_test=x[:20], y_test=np.ones(20, int))
    assert main(["train", "--data", str(path), "--epochs", "1", "--no-figures", "--out", str(out)]) == 0
    assert capsys.readouterr().err.count("-1 and 1 alone") == 1
