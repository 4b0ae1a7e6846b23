"""How to train: the settings of :func:`~pyro_ssvae.fit` and of ``pyro-ssvae train``, and their check."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

import torch
import tyro

from ..errors import InputError, nearest

PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed")
OPTIONAL = tyro.conf.arg(metavar="INT", help_behavior_hint="")


@dataclass(frozen=True)
class FitSettings:
    """How to train."""

    epochs: Annotated[int | None, OPTIONAL] = None
    """Passes over the data; by default as many as make 1,000 to 2,000 steps, depending on the points' size."""
    batch_size: int = 256
    """Rows a step, drawn from all rows."""
    labelled_rows: int = 64
    """Rows with a label that are added to each batch, where labels are too rare to be in it anyway."""
    learning_rate: float = 2e-3
    """Peak of a schedule that rises over the first tenth of the steps and falls to zero as a cosine (AdamW)."""
    weight_decay: float = 1e-4
    """AdamW's decay of weight matrices."""
    average: float = 0.99
    """Decay of the moving average of the weights, which is what a trained model has; 0 keeps the last weights."""
    augment: str = "auto"
    """Random changes of each batch: none, affine, affine+flip (images), noise; auto chooses by data and model."""
    seed: int = 0
    """Of the order of rows, the weights' noise and the augmentation."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or mps."""
    precision: str = "32-true"
    """Of the numbers, as Lightning Fabric names them: 32-true, 64-true, bf16-mixed or, on CUDA, 16-mixed."""
    devices: Annotated[int | None, OPTIONAL] = None
    """Processes that share each batch: GPUs, or processes of the CPU; by default 1, under torchrun its number."""
    num_nodes: Annotated[int, tyro.conf.arg(name="nodes")] = 1
    """Machines with as many processes each; NODE_RANK, MASTER_ADDR and MASTER_PORT say which is which."""
    compile: bool = False
    """Compile the training step: 10 to 30 seconds at the start, faster steps from then on; for long trainings."""


def make_settings(given: dict[str, Any]) -> FitSettings:
    """The settings of the given fields, checked."""
    names = [field.name for field in fields(FitSettings)]
    for name in given:
        if name not in names:
            raise InputError(f"fit: there is no setting {name!r}{nearest(name, names)}")
    s = FitSettings(**given)
    check_settings(s)
    return s


def check_settings(s: FitSettings) -> None:
    """Raise :class:`InputError` naming the setting that cannot be used."""
    for name, low, high in (
        ("epochs", 1, 10**9),
        ("batch_size", 2, 10**9),
        ("devices", 1, 1024),
        ("num_nodes", 1, 1024),
        ("labelled_rows", 0, 10**6),
        ("seed", 0, 2**32 - 1),
    ):
        value = getattr(s, name)
        if value is None and name in ("epochs", "devices"):
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError(f"{name}: {value!r}; a whole number from {low} to {high} is needed")
    if s.precision not in PRECISIONS:
        raise InputError(f"precision: {s.precision!r}; one of {', '.join(PRECISIONS)} is needed")
    if s.precision == "16-mixed" and (s.device not in ("auto", "cuda", "gpu") or not torch.cuda.is_available()):
        raise InputError("precision: 16-mixed needs CUDA; bf16-mixed works everywhere")
    if s.precision == "16-mixed" and s.compile:
        raise InputError("precision: 16-mixed scales its gradients, which compile does not; bf16-mixed has no need to")
    for name, fine, what in (
        ("learning_rate", lambda v: 0 < v < 10, "above 0 and below 10"),
        ("weight_decay", lambda v: 0 <= v < 10, "from 0 to below 10"),
        ("average", lambda v: 0 <= v < 1, "from 0 to below 1"),
    ):
        value = getattr(s, name)
        if not isinstance(value, (int, float)) or not fine(value):
            raise InputError(f"{name}: {value!r} is out of range; a number {what} is needed")
