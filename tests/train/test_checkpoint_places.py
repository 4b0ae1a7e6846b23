"""Where a training's state may be written to: nothing that is there is moved aside or written over unless it is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from data_makers import refused
from safetensors.torch import save_file
from tiny import CLASSES, augmented, points, some_labels

from pyro_ssvae import fit
from pyro_ssvae.train.checkpoints import load_state


def train(**options: Any) -> dict[str, list[float]]:
    x = points(32)
    return fit(augmented(), x, some_labels(CLASSES, 32), epochs=1, batch_size=16, progress=False, **options)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder_is_left_where_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "kept.txt").write_text("mine")
    for resume in (False, True):
        refused(lambda: train(checkpoint=folder, resume=resume), "checkpoint:", "folder", "last.safetensors")  # noqa: B023
    assert names(tmp_path) == ["checkpoints", "checkpoints/kept.txt"]


@pytest.mark.parametrize("kind", ["text", "weights", "empty"])
def test_a_file_of_something_else_is_not_written_over(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "model.safetensors"
    if kind == "weights":
        save_file({"w": torch.ones(3)}, file)
    else:
        file.write_text("my results" if kind == "text" else "")
    before = file.read_bytes()
    refused(lambda: train(checkpoint=file), "checkpoint:", str(file), "no checkpoint")
    assert file.read_bytes() == before
    assert names(tmp_path) == ["model.safetensors"]


def test_a_training_that_begins_anew_takes_the_file_of_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "last.safetensors"
    train(checkpoint=file)
    file.write_bytes(file.read_bytes()[:-1])  # also a damaged one
    train(checkpoint=file, seed=1)
    assert load_state(file)[1]["about"]["settings"]["seed"] == 1


def test_what_is_no_path_and_no_number_is_named(tmp_path: Path) -> None:
    file = tmp_path / "c"
    refused(lambda: train(checkpoint=3), "checkpoint: '3'", "path")
    refused(lambda: train(checkpoint=""), "checkpoint: ''", "folder")
    refused(lambda: train(checkpoint=file, resume=None), "resume: 'None'", "True, False")
    refused(lambda: train(checkpoint=file, checkpoint_every=None), "checkpoint_every: None", "number")
    refused(lambda: train(checkpoint=file, checkpoint_every=-1), "checkpoint_every: -1")
    refused(lambda: train(on_epoch="print"), "on_epoch: 'print'", "function")
