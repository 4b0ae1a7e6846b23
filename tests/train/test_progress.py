"""What is seen of a training while it runs."""

from __future__ import annotations

import re

import pytest

from pyro_ssvae.train.progress import fitting, progress_bar

WORDS = "epoch 3/3  loss 300.99  kl 2.52  reconstruction -21.00  active units 40  validation loss 35.02"


def test_progress_goes_to_stderr_and_cuts_no_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for columns in (60, 80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        with progress_bar(3, visible=True) as show:
            show(3, WORDS)
        assert capsys.readouterr() == ("", "")  # a file or a pipe has no use for a bar
        monkeypatch.setenv("FORCE_COLOR", "1")
        with progress_bar(3, visible=True) as show:
            show(3, WORDS)
        said = capsys.readouterr()
        assert said.out == ""
        monkeypatch.delenv("FORCE_COLOR")
        line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.err).split("\n")[-2].split("\r")[-1]
        assert "…" not in line
        assert line.startswith("training ")
        assert "epoch 3/3  loss 300.99" in line
        assert (WORDS in line) == (columns == 200)


def test_the_last_words_are_left_out_whole() -> None:
    assert fitting(WORDS, 200) == WORDS
    assert fitting(WORDS, 40) == "epoch 3/3  loss 300.99  kl 2.52"
    assert fitting(WORDS, 0) == "epoch 3/3"
