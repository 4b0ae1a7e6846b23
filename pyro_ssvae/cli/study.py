"""Compute a claim of the papers: a table, a picture, an answer.

What is there is not computed again.

Example: pyro-ssvae study sparse-labels --data mnist --labels 100 600 1000 3000 all --seeds 3
"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ..errors import InputError, nearest
from .arguments import read

if TYPE_CHECKING:
    from ..data import Dataset
    from ..studies import Plan, Study
    from ..studies.cells import Cell
    from ..studies.executors import Executor


@dataclass(frozen=True)
class StudyOptions:
    """The command's options."""

    name: tyro.conf.Positional[str]
    """sparse-labels, ablation, labels-and-bound, anomaly, semi-unsupervised, transfer or label-characteristics."""
    data: tuple[str, ...] = ()
    """As for train, for ablation several; by default the study's own."""
    target: tuple[str, ...] = ()
    """Of a table: its column of labels, or several, as for train."""
    id: str | None = None
    """Of a table: the column that names the rows."""
    columns: tuple[str, ...] = ()
    """Of a table: the kinds of columns that were inferred wrongly, such as age=count."""
    labels: tuple[str, ...] = ()
    """Numbers of labels: all, 0, counts or fractions; by default the study's own."""
    models: tuple[str, ...] = ()
    """Some of the study's models, such as m2 or augmented-enumerate; by default all."""
    classes: tuple[str, ...] = ()
    """The classes that are left out in turn, have no label, or are new; by default the study's choice."""
    seeds: int | None = None
    """How many seeds; by default 3, for ablation and labels-and-bound 5."""
    first_seed: int | None = None
    """The first seed, which the others follow; by default 0."""
    epochs: int | None = None
    """Passes over the training rows, for every model."""
    steps: int | None = None
    """Or batches, for every model; by default 1,000 to 2,000, depending on the points' size; for
    labels-and-bound 25 epochs, or more by --gain."""
    gain: float | None = None
    """Of labels-and-bound: double the length of a training until that raises the validation rows' bound by less than
    this many nats, at most to 8 times; by default 0.2, with --steps or --epochs not at all."""
    networks: str | None = None
    """default, or mlp: two layers of 500 on either side of z (augmented, vae, classifier)."""
    batch_size: int | None = None
    """Rows a batch."""
    latent_dim: int | None = None
    """Width of z."""
    image_size: int | None = None
    """Images are converted to squares of this side."""
    draws: int | None = None
    """Draws of the importance-weighted bound; by default 100, for labels-and-bound 500."""
    points: int | None = None
    """Test points that interventions are evaluated on, by default 500; for labels-and-bound, that the bound is taken
    of, by default 10,000."""
    quick: bool = False
    """A small version for a first look, about a minute; other options still count."""
    jobs: int | None = None
    """Processes; by default one a core (at most 8), on a GPU 1; with slurm, and with a dask cluster, one a cell."""
    executor: str = "local"
    """Who starts them: local (this program), joblib, dask, slurm (by submitit), or submitit-local, to try that here."""
    address: str | None = None
    """Of a dask scheduler, such as tcp://10.0.0.1:8786, for --executor dask; by default workers on this machine."""
    executor_options: tuple[str, ...] = ()
    """Of each SLURM job: partition=gpu time=120 (minutes) gpus_per_node=1 cpus_per_task=4 mem_gb=16 account=NAME …"""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or mps."""
    compile: bool = False
    """Compile the training steps: 10 to 30 seconds a cell at the start, faster steps from then on."""
    out: Path | None = None
    """The folder of its cells and tables; by default results/NAME, with --quick results/NAME-quick."""
    report: bool = False
    """Compute nothing: the table and the picture of the cells that are there so far."""
    quiet: bool = False
    """No progress, only failures."""


PLANNED = (
    "target", "id", "columns", "labels", "classes", "seeds", "first_seed", "epochs", "steps", "gain", "batch_size",
    "latent_dim", "image_size", "draws", "points", "networks", "compile",
)  # fmt: skip
"""Options that take the place of the plan's own choices."""
COUNTS = ("seeds", "epochs", "steps", "batch_size", "latent_dim", "draws", "points", "jobs")


def parse(arguments: Sequence[str]) -> StudyOptions:
    """Return the options that were typed."""
    return read("study", StudyOptions, arguments, __doc__)


def run(options: StudyOptions) -> int:
    """Compute what is missing and show what there is; return 0, or 1 where cells failed."""
    from ..studies.grid import cells_of, cells_of_parts
    from ..studies.table import check_folder

    study, plan = plan_of(options)
    folder = options.out or Path("results") / (study.name + ("-quick" if options.quick else ""))
    check_folder(folder)
    if plan.parts:
        dataset, cells = None, cells_of_parts(study, plan, named=bool(options.data))
    else:
        dataset, cells = cells_of(study, plan)
    if not cells:
        raise InputError(f"study {study.name}: these models and labels leave nothing to compute")
    typed = typed_command(options)
    failed = 0 if options.report else compute(options, study, plan, cells, dataset, folder)
    return report(study, cells, folder, typed, failed)


def plan_of(options: StudyOptions) -> tuple[Study, Plan]:
    """Return the study and its plan, options in place of its own choices.

    :raises InputError: naming the option that cannot be used.
    """
    from ..studies.methods import check_networks, choose_methods
    from ..train.launch import make_fabric
    from ..train.settings import FitSettings

    study, typed = study_of(options), vars(options)
    methods = choose_methods(options.name, study.methods, options.models)
    given = {name: typed[name] for name in PLANNED if typed[name] not in (None, ())}
    plan = with_data(study, replace(study.quick if options.quick else study.full, methods=methods), options.data)
    plan = with_length(replace(plan, **given), options)
    if plan.gain is not None and (study.full.gain is None or not 0 < plan.gain < math.inf):
        wrong = "a number above 0 is needed" if study.full.gain else f"study {study.name} has trainings of one length"
        raise InputError(f"--gain: {plan.gain}; {wrong}")
    if not 0 <= plan.first_seed < 2**32 - plan.seeds:
        raise InputError(f"--first-seed: {plan.first_seed}; a whole number from 0 to 4,294,967,295 is needed")
    check_networks(plan.networks, methods)
    if options.quick and options.data and not options.classes:
        plan = replace(plan, classes=())  # those of the quick version are of its own data
    if not executor_of(options).elsewhere:
        make_fabric(FitSettings(device=options.device))
    return study, plan


def study_of(options: StudyOptions) -> Study:
    """Return the study of that name; raise :class:`InputError` for an option that it cannot take."""
    from ..studies import STUDIES
    from ..studies.plan import SOME_TAKE

    if options.name not in STUDIES:
        raise InputError(f"there is no study {options.name!r}{nearest(options.name, STUDIES)}")
    study, typed = STUDIES[options.name], vars(options)
    for name in COUNTS:
        value, low = typed[name], 2 if name == "batch_size" else 1
        if value is not None and not low <= value <= 10**9:
            raise InputError(f"--{name.replace('_', '-')}: {value}; a whole number of at least {low} is needed")
    if options.epochs is not None and options.steps is not None:
        raise InputError("--epochs, --steps: one of the two is needed, not both")
    for name in SOME_TAKE:
        if typed[name] not in (None, ()) and name not in study.takes:
            others = ", ".join(other for other, each in STUDIES.items() if name in each.takes)
            raise InputError(f"--{name}: study {study.name} has no use for it ({others} have); leave it out")
    return study


def with_length(plan: Plan, options: StudyOptions) -> Plan:
    """Return the plan of trainings of ``--epochs`` or ``--steps``, which are doubled by ``--gain`` alone."""
    if options.epochs is not None:
        return replace(plan, steps=None, gain=options.gain)
    if options.steps is not None:
        return replace(plan, epochs=None, gain=options.gain)
    return plan


def executor_of(options: StudyOptions) -> Executor:
    """Return who starts the processes.

    :raises InputError: naming the option that cannot be used.
    """
    from ..studies.executors import Executor, check

    pairs = [option.partition("=") for option in options.executor_options]
    for name, equals, _ in pairs:
        if not equals:
            raise InputError(f"--executor-options {name}: NAME=VALUE is needed, such as time=120")
    executor = Executor(options.executor, options.address, {name: value for name, _, value in pairs})
    check(executor)
    return executor


def with_data(study: Study, plan: Plan, data: Sequence[str]) -> Plan:
    """Return the plan of the data sets that are named, or of its own.

    :raises InputError: several are named, and the study takes one.
    """
    from ..experiment.config import DataConfig
    from ..studies.plan import Part

    if not data:
        return plan
    if not plan.parts:
        if len(data) > 1:
            raise InputError(f"--data {' '.join(data)}: study {study.name} takes one data set")
        return replace(plan, data=data[0])
    own = {part.data: part for part in study.full.parts}
    return replace(plan, parts=tuple(own.get(name) or Part(name, (DataConfig(name).keep,)) for name in data))


def compute(
    options: StudyOptions, study: Study, plan: Plan, cells: list[Cell], dataset: Dataset | None, folder: Path
) -> int:
    """Compute the cells that the folder lacks; return how many failed."""
    from ..studies.cells import read as read_cell
    from ..studies.run import default_jobs
    from ..studies.run import run as run_cells
    from ..train.progress import Interrupted

    typed = typed_command(options)
    missing = [cell for cell in cells if read_cell(folder, cell) is None]
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        if missing and study.prepare is not None and dataset is not None:
            study.prepare(plan, dataset)
        executor = executor_of(options)
        jobs = options.jobs or (len(missing) if executor.elsewhere else default_jobs(options.device, len(missing)))
        if not options.quiet:
            there = f", {len(cells) - len(missing)} of them there already" if len(missing) < len(cells) else ""
            data = ", ".join(dict.fromkeys(cell.data for cell in cells))
            steps = " or ".join(map(str, sorted({cell.steps for cell in cells})))
            print(f"{study.name} on {data}: {len(cells)} cells of {steps} steps{there}; {jobs} at a time")
        outcomes = run_cells(
            study, cells, dataset, folder,
            jobs=jobs, device=options.device, progress=not options.quiet, executor=executor,
        )  # fmt: skip
    except Interrupted as stop:
        paths = write_finished(study, cells, folder, typed)
        shown = f"; {paths[1]} shows them" if paths else ""
        raise Interrupted(f"{stop}{shown}; to go on: {typed}") from None
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; to go on: {typed}") from None
    except OSError as error:
        raise InputError(f"--out {folder}: it cannot be written to ({error.strerror})") from None
    return sum(outcome.error is not None for outcome in outcomes)


def report(study: Study, cells: list[Cell], folder: Path, typed: str, failed: int) -> int:
    """Write and show what there is; return 0, or 1 where cells failed."""
    paths = write_finished(study, cells, folder, typed)
    if not paths:
        what, there = ("every cell failed", "says where") if failed else ("no cell of it has been computed", "has none")
        raise InputError(f"study {study.name}: {what}; {folder / 'cells'} {there}")
    print(paths[1].read_text("utf-8"))
    print("\n".join(f"{path.stem}: {path}" for path in paths))
    if failed:
        print(f"pyro-ssvae: {failed} of {len(cells)} cells failed; to try them again: {typed}", file=sys.stderr)
    return 1 if failed else 0


def write_finished(study: Study, cells: list[Cell], folder: Path, typed: str) -> list[Path]:
    """Write the files that show the finished cells, and return their paths; none where there is no such cell."""
    from ..studies.cells import read as read_cell
    from ..studies.claims import alone
    from ..studies.table import write_all

    results = [result for cell in cells if (result := read_cell(folder, cell)) is not None]
    if not results:
        return []
    try:
        with alone(folder / "cells"):  # several studies may work on one folder
            return write_all(study, results, folder, command=typed, lacking=len(cells) - len(results))
    except OSError as error:
        raise InputError(f"--out {folder}: it cannot be written to ({error.strerror})") from None


def typed_command(options: StudyOptions) -> str:
    """Return the command as it was typed, or would be where it is called from Python; without ``--report``."""
    if sys.argv[1:2] == ["study"]:
        return shlex.join(["pyro-ssvae", "study", *(word for word in sys.argv[2:] if word != "--report")])
    words = ["pyro-ssvae", "study", options.name]
    for name, value in vars(replace(options, report=False)).items():
        if name == "name" or value == getattr(StudyOptions, name, None):
            continue
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, *map(str, value if isinstance(value, tuple) else [value])]
    return shlex.join(words)
