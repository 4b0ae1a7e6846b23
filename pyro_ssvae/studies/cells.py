"""A cell: all that one result of a study depends on, and the file that holds that result."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..files import write_atomically

Json: TypeAlias = dict[str, Any]
"""A JSON object."""
OF_TABLES = ("target", "id", "columns")
VERSION = 6
"""Part of a cell's identity; to be raised whenever the same settings would give another result."""


@dataclass(frozen=True)
class Cell:
    """One method on one set of labels with one seed.

    Cells of one study, data, number of labels and seed differ in the method alone: they share the training and test
    rows, the label set, the networks' trunks, the augmentation, the batches' size and the number of steps.
    """

    study: str
    """Its name."""
    data: str
    """What ``--data`` says."""
    fingerprint: str
    """The beginning of :func:`~pyro_ssvae.data.fingerprint` of that data: a file that changed gives other cells."""
    method: str
    """A name in :data:`~.methods.METHODS`."""
    labels: str
    """How many labels are kept: all, 0, a count or a fraction."""
    seed: int
    """Of the choice of labels, the weights, the order of rows and the augmentation."""
    steps: int
    """Batches that every method is trained on."""
    batch_size: int
    """Rows a batch, at most all."""
    latent_dim: int
    """Width of z."""
    augment: str
    """Random changes of each batch, as ``fit`` names them."""
    classes: tuple[str, ...] = ()
    """The classes that this cell leaves out, hides or transfers to."""
    image_size: int | None = None
    """Side that images are resized to."""
    draws: int = 100
    """Of the importance-weighted bound."""
    points: int = 500
    """Test points that interventions are evaluated on, or a bound is taken of."""
    oracle_steps: int = 0
    """Batches that the oracle of interventions was trained on; 0 where there is none."""
    likelihood: str | None = None
    """Of all models; by the data's shape where it is not given."""
    networks: str = "default"
    """A name in :data:`~.methods.NETWORKS`."""
    gain: float | None = None
    """Where there is one, trainings are doubled in length until that is worth less than this many nats of
    the validation rows' bound; ``steps`` is the first length."""
    compile: bool = False
    """Whether the training steps are compiled: the same sums in another order."""
    target: tuple[str, ...] = ()
    """Of a table: its columns of labels."""
    id: str | None = None
    """Of a table: the column that names the rows."""
    columns: tuple[str, ...] = ()
    """Of a table: kinds of columns, as ``train`` takes them."""

    @property
    def settings(self) -> Json:
        """All of these; what concerns tables only where it says something, as the files of other data have it."""
        return {name: value for name, value in asdict(self).items() if name not in OF_TABLES or value}

    @property
    def key(self) -> str:
        """The beginning of a SHA-256 of all settings."""
        return hashlib.sha256(json.dumps([VERSION, self.settings]).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """A file name that says what the cell is."""
        parts = [Path(self.data).stem, self.method, f"{self.labels}-labels", *self.classes, f"seed{self.seed}"]
        return f"{re.sub(r'[^A-Za-z0-9.+-]+', '-', '_'.join(parts).replace('_', '.'))[:150]}.{self.key}"

    def path(self, folder: Path) -> Path:
        """Where a study's folder has the result."""
        return folder / "cells" / f"{self.name}.json"

    def failure(self, folder: Path) -> Path:
        """Where a study's folder says why there is none: the error in one line, then where it arose."""
        return folder / "cells" / f"{self.name}.failed.txt"

    def claim(self, folder: Path) -> Path:
        """The file that the process at work on it holds."""
        return folder / "cells" / f"{self.name}.lock"


@dataclass(frozen=True, eq=False)
class Result:
    """A cell and what came out of it.

    :param metrics: ready for JSON.
    :param seconds: how long it took.
    """

    cell: Cell
    metrics: Json
    seconds: float


def write(folder: Path, result: Result, **metadata: object) -> None:
    """Write a result as JSON, whole or not at all.

    :param metadata: what else a reader of the file may want: versions, device.
    """
    content = {"cell": result.cell.settings, **metadata, "seconds": result.seconds, "metrics": result.metrics}
    text = json.dumps({**content, "sha256": checksum(content)}, indent=2, allow_nan=False)
    write_atomically(result.cell.path(folder), text.encode())


def read(folder: Path, cell: Cell) -> Result | None:
    """Return the result of a cell; None where there is none, or where its file is damaged or another cell's."""
    try:
        content = json.loads(cell.path(folder).read_text("utf-8"))
        wanted = content.pop("sha256")
        same = content["cell"] == json.loads(json.dumps(cell.settings))
        if not same or wanted != checksum(content):
            return None
        return Result(cell, dict(content["metrics"]), float(content["seconds"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def checksum(content: Json) -> str:
    """Return a SHA-256 of what a cell's file holds."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
