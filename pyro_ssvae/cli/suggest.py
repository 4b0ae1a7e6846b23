"""The command ``suggest``: which points to label next, as a file to fill in and a picture to look at."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from ..data import label_file_text
from ..errors import InputError
from ..evaluation.active_learning import suggest
from ..experiment.run import OptionalPath, check_unchanged, prepare_data, row_names, settings_of, training_rows
from ..models.saving import load, read_config
from ..plots import posterior as pictures
from .intervene import save_picture


@dataclass(frozen=True)
class Suggest:
    """List the training points whose labels would teach the model most, as a CSV file to fill in, and as a picture.

    Example: pyro-ssvae suggest runs/digits-augmented-50 -n 20
    """

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 20
    """How many points."""
    out: OptionalPath = None
    """The CSV file, which must not exist; by default a new one in the run's folder. The picture lies beside it."""
    seed: int = 0
    """Of the choice."""


def run_suggest(command: Suggest) -> None:
    """``pyro-ssvae suggest``."""
    path = free_path(command)
    if not 0 <= command.seed <= 2**32 - 1:
        raise InputError(f"--seed: {command.seed}; a whole number from 0 to {2**32 - 1} is needed")
    model = load(command.run)
    config = read_config(command.run)
    settings = settings_of(config, command.run)
    whole, part, _ = prepare_data(settings.source, settings.training.seed, settings.network.classes)
    if whole.input_shape != model.input_shape:
        shapes = f"{list(whole.input_shape)}; the model needs {list(model.input_shape)}"
        raise InputError(f"{settings.source.data}: its points have shape {shapes}")
    check_unchanged(config, whole, command.run)
    try:
        found = suggest(model, part.x, part.y, n=command.n, seed=command.seed)
    except InputError as error:
        raise InputError(
            f"-n: {str(error)[3:]}" if str(error).startswith("n:") else f"{command.run}: {error}"
        ) from None
    chosen = torch.tensor(found.index.to_list())
    rows, files = training_rows(settings.source, whole)[chosen].tolist(), row_names(settings.source)
    names = [str(row) for row in rows] if files is None else [Path(files[row]).name for row in rows]
    guesses = [""] * len(names)
    if "first" in found:
        guesses = [f"{a} {p:.2f}, {b} {q:.2f}" for a, p, b, q in zip(*(found[c] for c in list(found)[1:5]))]
    figure = pictures.contact_sheet(part.x[chosen], [f"{a}\n{b}".strip() for a, b in zip(names, guesses)])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            file.write(label_file_text(rows, part.labels, files))
    except OSError as error:
        raise InputError(f"--out {path}: it cannot be written ({error.strerror})") from None
    picture = save_picture(figure, path.with_suffix(".png"), command.run, "suggest")
    print(f"to fill in: {path}\npicture: {picture}")
    again = ["pyro-ssvae", "train", "--data", settings.source.data, "--labels", settings.source.keep]
    again += [word for earlier in settings.source.label_file for word in ("--label-file", earlier)]
    print(f"then: {shlex.join([*again, '--label-file', str(path)])}, and the run's other options")


def free_path(command: Suggest) -> Path:
    """Where the file is to be written; nothing may be there, nor where its picture goes."""
    numbers = (f"-{i}" if i > 1 else "" for i in range(1, 1_000_000))
    names = (command.run / f"suggest{number}.csv" for number in numbers)
    path = command.out or next(p for p in names if not any(map(os.path.lexists, (p, p.with_suffix(".png")))))
    if path.suffix.lower() != ".csv":
        raise InputError(f"--out {path}: a name that ends in .csv is needed")
    for taken in (path, path.with_suffix(".png")):
        if os.path.lexists(taken):
            raise InputError(f"--out {path}: {taken} is there already; another name is needed")
    return path
