"""One cell: computed, written with what its result depends on, and looked at afterwards."""

from __future__ import annotations

import os
import platform
import signal
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyro
import torch
from threadpoolctl import threadpool_limits

from ..data import Dataset, fingerprint
from ..data.notices import silent
from ..errors import InputError
from ..evaluation.metrics import json_ready
from ..experiment.data import load_data
from ..files import installed, write_atomically
from .cells import Cell, Result, read, write
from .claims import ATTEMPTS, claimed
from .grid import source
from .plan import Study

BUSY = 75
"""The exit status of a process whose cell is another one's (``EX_TEMPFAIL``)."""
LOST = "its process was lost {} times; too little memory, or too little time?"


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: its seconds, or in one line why there is no result.

    :param state: ``busy`` where another process is at the cell, ``lost`` where its own was killed; else ``ended``.
    """

    cell: Cell
    seconds: float | None
    error: str | None = None
    state: Literal["ended", "busy", "lost"] = "ended"


@dataclass(frozen=True)
class Work:
    """How cells are computed, whatever starts them.

    :param folder: the study's.
    :param run: a word of this run, by which it knows its own attempts.
    :param threads: of a process; None for as many as PyTorch takes.
    """

    folder: Path
    device: str = "auto"
    run: str = "run"
    threads: int | None = None


def attempt(study: Study, cell: Cell, dataset: Dataset | None, work: Work) -> bool:
    """Compute a cell that is not there, unless another process is at it; return False where one is.

    Where its process has been killed :data:`~.claims.ATTEMPTS` times in this run, by whatever starts processes anew,
    that is its failure.
    """
    with claimed(cell.claim(work.folder), work.run) as lost:
        if lost is None:
            return False
        if read(work.folder, cell) is not None:
            return True
        if lost >= ATTEMPTS:
            write_atomically(cell.failure(work.folder), f"{LOST.format(lost)}\n".encode())
        else:
            compute(study, cell, dataset, work.folder, work.device)
        return True


def compute(study: Study, cell: Cell, dataset: Dataset | None, folder: Path, device: str) -> None:
    """Compute a cell and write it; where it fails, write why.

    :param dataset: the cell's data; None to load it.
    """
    started = time.monotonic()
    cell.failure(folder).unlink(missing_ok=True)
    try:
        if dataset is None:
            with silent():
                dataset = load_data(source(cell))
            if fingerprint(dataset)[:16] != cell.fingerprint:
                raise InputError(f"{cell.data}: it has changed since the study began; the same command begins anew")
        with threadpool_limits(torch.get_num_threads()), silent():
            metrics = study.compute(cell, dataset, device)
        result = Result(cell, {key: json_ready(item) for key, item in metrics.items()}, time.monotonic() - started)
        write(folder, result, versions=versions(), device=device_words(device), threads=torch.get_num_threads())
    except Exception as error:  # whatever it is, the other cells go on
        said = " ".join(str(error).split())[:300]
        line = said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"
        write_atomically(cell.failure(folder), f"{line}\n\n{traceback.format_exc()}".encode())


def outcome_of(cell: Cell, folder: Path, exitcode: int | None) -> Outcome:
    """Return what came of a cell, by what it left behind.

    :param exitcode: of its process, negative where a signal ended it, :data:`BUSY` where the cell was another one's.
    """
    result = read(folder, cell)
    if result is not None:
        return Outcome(cell, result.seconds)
    if exitcode == BUSY:
        return Outcome(cell, None, "another process is at it", "busy")
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return Outcome(cell, None, f"its process was ended by {name}; too little memory?", "lost")
    try:
        return Outcome(cell, None, cell.failure(folder).read_text("utf-8").splitlines()[0])
    except (OSError, ValueError, IndexError):
        pass
    if exitcode:
        return Outcome(cell, None, f"it left no result (exit status {exitcode})", "lost")
    where = os.path.abspath(folder)
    return Outcome(cell, None, f"it left no result in {where}, which every process must be able to write to")


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {
        "pyro_ssvae": installed() or "unknown",  # run from a checkout
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pyro": pyro.__version__,
        "scikit-learn": installed("scikit-learn"),
    }


def device_words(device: str) -> str:
    """Return the processor that ``device`` means here."""
    if device in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return "cpu" if device == "auto" else device
