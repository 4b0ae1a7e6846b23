"""The command ``study``: from options to a plan, from the plan to cells, from cells to a table, a picture and words."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..errors import InputError, nearest
from ..experiment.run import DataSettings, OptionalInt, OptionalPath, OptionalStr, load_data
from ..studies import STUDIES, Plan, Study
from ..studies.cells import Cell, read
from ..studies.methods import choose_methods
from ..studies.plan import grid
from ..studies.run import default_jobs, run
from ..studies.table import FILES, write_all
from ..train.fit import FitSettings, Interrupted, make_fabric

Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="STR ...", help_behavior_hint="")]


@dataclass(frozen=True)
class StudyCommand:
    """Compute a claim of the papers as a table, a picture and an answer in words; what is there is not computed again.

    Example: pyro-ssvae study sparse-labels --data mnist --labels 100 600 1000 3000 all --seeds 3
    """

    name: tyro.conf.Positional[str]
    """sparse-labels, anomaly, semi-unsupervised, transfer or label-characteristics."""
    data: OptionalStr = None
    """As for train; by default digits, for label-characteristics avatars."""
    labels: Words = ()
    """Numbers of labels: all, 0, counts or fractions; by default the study's own."""
    models: Words = ()
    """Some of the study's models, such as m2 or augmented-enumerate; by default all."""
    classes: Words = ()
    """The classes that are left out in turn, have no label, or are new; by default the study's choice."""
    seeds: OptionalInt = None
    """How many seeds, 0 and up; by default 3."""
    epochs: OptionalInt = None
    """Passes over the training rows, for every model."""
    steps: OptionalInt = None
    """Or batches, for every model; by default 1,000 to 2,000, depending on the points' size."""
    batch_size: OptionalInt = None
    """Rows a batch."""
    latent_dim: OptionalInt = None
    """Width of z."""
    image_size: OptionalInt = None
    """Images are converted to squares of this side."""
    draws: OptionalInt = None
    """Draws of the importance-weighted bound; by default 100."""
    points: OptionalInt = None
    """Test points that interventions are judged on; by default 500."""
    quick: bool = False
    """A small version for a first look, about a minute; other options still count."""
    jobs: OptionalInt = None
    """Processes; by default one a core (at most 8), on a GPU 1."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or mps."""
    out: OptionalPath = None
    """The folder of its cells and tables; by default results/NAME, with --quick results/NAME-quick."""
    report: bool = False
    """Compute nothing: the table and the picture of the cells that are there so far."""
    quiet: bool = False
    """No progress, only failures."""


def plan_of(command: StudyCommand) -> tuple[Study, Plan]:
    """The study and its plan, options in place of its own choices.

    :raises InputError: naming the option that cannot be used.
    """
    if command.name not in STUDIES:
        raise InputError(f"there is no study {command.name!r}{nearest(command.name, STUDIES)}")
    for name in ("seeds", "epochs", "steps", "batch_size", "latent_dim", "draws", "points", "jobs"):
        value, low = getattr(command, name), 2 if name == "batch_size" else 1
        if value is not None and not low <= value <= 10**9:
            raise InputError(f"--{name.replace('_', '-')}: {value}; a whole number of at least {low} is needed")
    if command.epochs is not None and command.steps is not None:
        raise InputError("--epochs, --steps: one of the two is needed, not both")
    study = STUDIES[command.name]
    methods = choose_methods(command.name, study.methods, command.models)
    names = (
        "data", "labels", "classes", "seeds", "epochs", "steps", "batch_size", "latent_dim", "image_size", "draws",
        "points",
    )  # fmt: skip
    given: dict[str, Any] = {name: getattr(command, name) for name in names if getattr(command, name) not in (None, ())}
    plan = replace(study.quick if command.quick else study.full, methods=methods, **given)
    if command.epochs is not None:
        plan = replace(plan, steps=None)
    if command.quick and command.data is not None and not given.keys() & {"classes"}:
        plan = replace(plan, classes=())  # those of the quick version are of its own data
    make_fabric(FitSettings(device=command.device))
    return study, plan


def run_study(command: StudyCommand) -> int:
    """``pyro-ssvae study``; returns 0, or 1 where cells failed."""
    study, plan = plan_of(command)
    folder = command.out or Path("results") / (study.name + ("-quick" if command.quick else ""))
    check_folder(folder)
    whole = load_data(DataSettings(plan.data, image_size=plan.image_size))
    cells = grid(study, plan, whole)
    if not cells:
        raise InputError(f"study {study.name}: these models and labels leave nothing to compute")
    typed = (
        shlex.join(["pyro-ssvae", "study", *(word for word in sys.argv[2:] if word != "--report")])
        if is_own(sys.argv)
        else command_line(replace(command, report=False))
    )
    if command.report:
        return report(study, cells, folder, typed, 0)
    missing = [cell for cell in cells if read(folder, cell) is None]
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        if missing and study.prepare is not None:
            study.prepare(plan, whole)
        jobs = command.jobs or default_jobs(command.device, len(missing))
        if not command.quiet:
            there = f", {len(cells) - len(missing)} of them there already" if len(missing) < len(cells) else ""
            print(f"{study.name} on {plan.data}: {len(cells)} cells of {cells[0].steps} steps{there}; {jobs} at a time")
        outcomes = run(study, cells, whole, folder, jobs=jobs, device=command.device, progress=not command.quiet)
    except Interrupted as stop:
        paths = write_what_is_there(study, cells, folder, typed)
        shown = f"; {paths[1]} shows them" if paths else ""
        raise Interrupted(f"{stop}{shown}; to go on: {typed}") from None
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; to go on: {typed}") from None
    except OSError as error:
        raise InputError(f"--out {folder}: it cannot be written to ({error.strerror})") from None
    return report(study, cells, folder, typed, sum(outcome.error is not None for outcome in outcomes))


def report(study: Study, cells: list[Cell], folder: Path, typed: str, failed: int) -> int:
    """Write and show what there is."""
    paths = write_what_is_there(study, cells, folder, typed)
    if not paths:
        what, there = ("every cell failed", "says where") if failed else ("no cell of it has been computed", "has none")
        raise InputError(f"study {study.name}: {what}; {folder / 'cells'} {there}")
    print(paths[1].read_text("utf-8"))
    print("\n".join(f"{path.stem}: {path}" for path in paths))
    if failed:
        print(f"pyro-ssvae: {failed} of {len(cells)} cells failed; to try them again: {typed}", file=sys.stderr)
    return 1 if failed else 0


def write_what_is_there(study: Study, cells: list[Cell], folder: Path, typed: str) -> list[Path]:
    """The files that show the finished cells; none where there is no such cell."""
    results = [result for cell in cells if (result := read(folder, cell)) is not None]
    if not results:
        return []
    try:
        return write_all(study, results, folder, command=typed, lacking=len(cells) - len(results))
    except OSError as error:
        raise InputError(f"--out {folder}: it cannot be written to ({error.strerror})") from None


def is_own(arguments: list[str]) -> bool:
    """Whether the process was begun as this command."""
    return len(arguments) > 1 and arguments[1] == "study"


def command_line(command: StudyCommand) -> str:
    """A command given from Python as one would type it."""
    words = ["pyro-ssvae", "study", command.name]
    for name, value in vars(command).items():
        if name == "name" or value == getattr(StudyCommand, name, None):
            continue
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, *map(str, value if isinstance(value, tuple) else [value])]
    return shlex.join(words)


def check_folder(folder: Path) -> None:
    """Refuse a folder whose files of the same names are not a study's."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: it is a file; a folder is needed")
    there = [name for name in FILES if os.path.lexists(folder / name)]
    if there and not (folder / "cells").is_dir():
        raise InputError(f"--out {folder}: it holds a {there[0]} that is no study's; another folder is needed")
