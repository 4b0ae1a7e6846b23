"""The metrics of a training as it runs, for TensorBoard, MLflow, Weights & Biases, or any other logger of Lightning."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..errors import InputError, nearest

if TYPE_CHECKING:
    from lightning.fabric.loggers import Logger, TensorBoardLogger
    from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

LOGGERS = ("tensorboard", "mlflow", "wandb")
PROJECT = "pyro_ssvae"
FOLDER = "pyro_ssvae.folder"
"""MLflow's tag that says where a run's files are."""
LoggerLike: TypeAlias = "str | Logger"
"""One of :data:`LOGGERS`, or a logger of Lightning Fabric or PyTorch Lightning."""
_stores: set[str] = set()  # addresses of MLflow that nobody gave
OnEpoch: TypeAlias = Callable[[dict[str, float]], None]
"""What is called with each epoch's row of the history."""


def check(name: str, option: str = "--logger") -> None:
    """Raise :class:`InputError` where there is no such logger, or its package is absent."""
    if name not in LOGGERS:
        raise InputError(f"{option}: there is no {name!r}{nearest(name, LOGGERS)}")
    if find_spec(name) is None:
        raise InputError(f"{option} {name}: the package {name} is absent; pip install pyro_ssvae[{name}]")


def open_logger(name: str, folder: str | Path, run: str | None = None, *, resumed: bool = False) -> Logger:
    """Return the logger of that name, one of :data:`LOGGERS`, that writes into a folder.

    ``tensorboard``: ``FOLDER/tensorboard``, where no run is named ``version_0`` there, then ``version_1``.
    ``mlflow``: the server that ``MLFLOW_TRACKING_URI`` names, or else ``FOLDER/mlflow.db``
    (``mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db``). ``wandb``: ``FOLDER/wandb`` and the account that
    ``wandb login`` knows; with ``WANDB_MODE=offline`` the folder alone.

    :param run: whose folder it is, as MLflow and Weights & Biases call it; None for a folder of several.
    :param resumed: go on with the run that MLflow has of this folder, where it has one.
    :raises InputError: no such logger, its package is absent, or it cannot be reached or written to.
    """
    check(name, "logger")
    try:
        logger = made(name, Path(folder), run, resumed)
        logger.experiment  # noqa: B018 (now, while nothing is trained yet)
    except Exception as error:  # of each package's own kinds
        said = " ".join(str(error).split())[:200]
        raise InputError(f"logger {name}: it cannot be opened ({type(error).__name__}: {said})") from None
    return logger


def made(name: str, folder: Path, run: str | None, resumed: bool) -> TensorBoardLogger | MLFlowLogger | WandbLogger:
    """Return a logger of Lightning; arguments as :func:`open_logger` has them."""
    if name == "tensorboard":
        return tensorboard(folder / "tensorboard", None if run is None else "")
    if name == "mlflow":
        from lightning.pytorch.loggers import MLFlowLogger

        address = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not address or address in _stores:  # MLflow itself notes the last one there
            address = f"sqlite:///{folder.absolute() / 'mlflow.db'}"
            _stores.add(address)
        place = str(folder.absolute())
        earlier = earlier_run(address, place) if resumed else None
        return MLFlowLogger(PROJECT, run or "fit", address, tags={FOLDER: place}, run_id=earlier)
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(project=PROJECT, name=run or "fit", save_dir=folder)


def earlier_run(address: str, folder: str) -> str | None:
    """Return the id of the latest run that an MLflow store has of a folder; None where it has none."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    experiment = client.get_experiment_by_name(PROJECT)
    if experiment is None:
        return None
    quote = '"' if "'" in folder else "'"
    runs = client.search_runs([experiment.experiment_id], f"tags.`{FOLDER}` = {quote}{folder}{quote}", max_results=1)
    return runs[0].info.run_id if runs else None


def tensorboard(folder: str | Path, version: str | None = "") -> TensorBoardLogger:
    """Return a logger into ``folder``, which ``tensorboard --logdir folder`` shows.

    :param version: of the run, a folder in it; None for a new one.
    :raises InputError: the package ``tensorboard`` is absent.

    Example::

        logger = tensorboard("runs/mine/tensorboard")
        history = ps.fit(vae, x, y, logger=logger)
        log_metrics(logger, ps.evaluate(vae, x_test, y_test), "test", step=len(history["epoch"]))
    """
    check("tensorboard")
    from lightning.fabric.loggers import TensorBoardLogger

    path = Path(folder)
    return TensorBoardLogger(root_dir=path.parent, name=path.name, version=version)


@contextmanager
def logger_of(
    name: str | None, folder: str | Path, run: str | None = None, *, resumed: bool = False
) -> Iterator[Logger | None]:
    """Give what :func:`open_logger` gives, None without a name, and end its run: as failed after an error or Ctrl-C."""
    logger = None if name is None else open_logger(name, folder, run, resumed=resumed)
    status = "failed"
    try:
        yield logger
        status = "success"
    finally:
        if logger is not None:
            close(logger, status)


@contextmanager
def logging_to(logger: LoggerLike | None, on_epoch: OnEpoch | None) -> Iterator[OnEpoch | None]:
    """Give what to call at each epoch, so that a training is logged and ``on_epoch`` is called; in the end close.

    :param logger: a word opens a logger in the current folder, which is closed in the end; one of one's own stays open.
    :raises InputError: what :func:`open_logger` refuses, or anything else.
    """
    if logger is None:
        yield on_epoch
        return
    with logger_of(logger, ".") if isinstance(logger, str) else nullcontext(logger) as opened:
        if not isinstance(opened, lightning_logger()):
            raise InputError(f"logger: {logger!r}; one of {', '.join(LOGGERS)}, or a logger of Lightning, is needed")
        log = log_epochs(opened)

        def both(row: dict[str, float]) -> None:
            log(row)
            if on_epoch is not None:
                on_epoch(row)

        yield both


def lightning_logger() -> type[Logger]:
    """Return the class that every logger of Lightning has among its bases."""
    from lightning.fabric.loggers import Logger

    return Logger


def close(logger: Logger, status: str = "success") -> None:
    """Write all that is left, and end the run, of a logger that :func:`open_logger` gave."""
    logger.finalize(status)
    wandb = sys.modules.get("wandb")  # imported by its logger alone
    if wandb is not None and logger.__class__.__module__.endswith(".wandb"):
        wandb.finish(exit_code=0 if status == "success" else 1)


def log_epochs(logger: Logger) -> OnEpoch:
    """Return a function for ``on_epoch`` of :func:`pyro_ssvae.fit` that logs every number of an epoch's row.

    ``loss`` becomes ``train/loss``, ``validation_accuracy`` becomes ``validation/accuracy``; what was not measured in
    an epoch (NaN) is left out.

    :param logger: any of Lightning's.
    """

    def log(row: dict[str, float]) -> None:
        named = {name if name.startswith("validation_") else f"train_{name}": v for name, v in row.items()}
        found = {name.replace("_", "/", 1): v for name, v in named.items() if math.isfinite(v)}
        found.pop("train/epoch", None)
        logger.log_metrics(found, step=int(row["epoch"]))

    return log


def log_metrics(logger: Logger, metrics: Mapping[str, object], name: str, step: int) -> None:
    """Log what :func:`pyro_ssvae.evaluate` returned, as ``name/accuracy`` and so on, and write it out.

    Tables within it become ``name/per_attribute/hat/accuracy``; lists, such as the confusion matrix, are left out.

    :param step: the number of epochs, say.
    """
    logger.log_metrics(dict(scalars(metrics, name)), step=step)
    logger.finalize("success")


def scalars(metrics: Mapping[str, object], name: str) -> list[tuple[str, float]]:
    """Return the finite numbers of nested tables, by path."""
    found: list[tuple[str, float]] = []
    for key, value in metrics.items():
        path = f"{name}/{key}"
        if isinstance(value, Mapping):
            found += scalars(value, path)
        elif isinstance(value, (int, float)) and math.isfinite(value):
            found.append((path, float(value)))
    return found
