"""The metrics of a training as it runs, for TensorBoard or any other of Lightning Fabric's loggers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, nearest

if TYPE_CHECKING:
    from lightning.fabric.loggers import Logger

LOGGERS = ("tensorboard",)


def check(name: str) -> None:
    """Raise :class:`InputError` where there is no such logger, or its package is absent."""
    if name not in LOGGERS:
        raise InputError(f"--logger: there is no {name!r}{nearest(name, LOGGERS)}")
    if find_spec(name) is None:
        raise InputError(f"--logger {name}: the package {name} is absent; pip install pyro_ssvae[{name}]")


def tensorboard(folder: str | Path) -> Logger:
    """Return a logger into ``folder``, which ``tensorboard --logdir folder`` shows.

    :raises InputError: the package ``tensorboard`` is absent.

    Example::

        logger = tensorboard("runs/mine/tensorboard")
        history = ps.fit(vae, x, y, on_epoch=log_epochs(logger))
        log_metrics(logger, ps.evaluate(vae, x_test, y_test), "test", step=len(history["epoch"]))
    """
    check("tensorboard")
    from lightning.fabric.loggers import TensorBoardLogger

    path = Path(folder)
    return TensorBoardLogger(root_dir=path.parent, name=path.name, version="")


def log_epochs(logger: Logger) -> Callable[[dict[str, float]], None]:
    """Return a function for ``on_epoch`` of :func:`pyro_ssvae.fit` that logs every number of an epoch's row.

    ``loss`` becomes ``train/loss``, ``validation_accuracy`` becomes ``validation/accuracy``; what was not measured in
    an epoch (NaN) is left out.

    :param logger: any of Lightning Fabric's.
    """

    def log(row: dict[str, float]) -> None:
        named = {name if name.startswith("validation_") else f"train_{name}": v for name, v in row.items()}
        found = {name.replace("_", "/", 1): v for name, v in named.items() if math.isfinite(v)}
        found.pop("train/epoch", None)
        logger.log_metrics(found, step=int(row["epoch"]))

    return log


def log_metrics(logger: Logger, metrics: Mapping[str, object], name: str, step: int) -> None:
    """Log what :func:`pyro_ssvae.evaluate` returned, as ``name/accuracy`` and so on, and close what is open.

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
