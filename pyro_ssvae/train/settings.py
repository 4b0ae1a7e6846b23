"""How to train: the settings of :func:`~pyro_ssvae.fit` and of ``pyro-ssvae train``, and their check."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from itertools import chain
from typing import Annotated

import torch

from ..errors import InputError, nearest, plain_value

PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed")
BALANCED = "balanced"


def option(metavar: str | None = None, name: str | None = None) -> object:
    """Return what the command line shows of an option; tyro is imported only once the annotations are read."""
    import tyro

    return tyro.conf.arg(name=name) if metavar is None else tyro.conf.arg(metavar=metavar, help_behavior_hint="")


@dataclass(frozen=True)
class FitSettings:
    """How to train."""

    epochs: Annotated[int | None, option("INT")] = None
    """Passes over the data; by default as many as make 1,000 to 2,000 steps at least, depending on the points' size."""
    batch_size: int = 256
    """Rows a step, drawn from all rows."""
    labelled_rows: int = 64
    """Rows with a label that are added to each batch, for the class head, where labels are rare."""
    learning_rate: float = 2e-3
    """Peak of a schedule that rises over the first tenth of the steps and falls to zero as a cosine (AdamW); where the
    rows of a table are seen seldom, what generates them has up to five times as much."""
    weight_decay: float = 1e-4
    """AdamW's decay of weight matrices."""
    clip_norm: Annotated[float | None, option("FLOAT")] = None
    """Largest norm of a step's gradient, which is that of the loss summed over the rows; by default any."""
    average: float = 0.99
    """Decay of the moving average of the weights, which is what a trained model has; 0 keeps the last weights."""
    early_stopping: Annotated[int | None, option("INT")] = None
    """Stop after this many epochs without gain on the validation rows, and keep the best epoch's weights."""
    class_weights: Annotated[tuple[float, ...] | str | None, option("FLOAT ...")] = None
    """Weights of the classes in the supervised term: balanced (rare classes count more), or a number for each."""
    augment: str = "auto"
    """Random changes of each batch: none, affine, affine+flip, binarize (images), noise, hide (cells); auto: by data
    and model."""
    seed: int = 0
    """Of the order of rows, the weights' noise and the augmentation."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or mps."""
    precision: str = "32-true"
    """Of the numbers, as Lightning Fabric names them: 32-true, 64-true, bf16-mixed or, on CUDA, 16-mixed."""
    devices: Annotated[int | None, option("INT")] = None
    """Processes that share each batch: GPUs, or processes of the CPU; by default 1, under a launcher its number."""
    num_nodes: Annotated[int, option(name="nodes")] = 1
    """Machines with as many processes each; NODE_RANK, MASTER_ADDR and MASTER_PORT say which is which."""
    compile: bool | None = None
    """Compile the training step: 10 to 30 seconds at the start, for long trainings. By default it is captured, with the
    same numbers to the last bit, and replayed without Pyro where that is faster; no: the pair's programs run each time.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, plain_value(getattr(self, field.name)))
        weights: object = self.class_weights
        if isinstance(weights, tuple) and all(isinstance(w, tuple) and len(w) == 2 for w in weights):  # of attributes
            object.__setattr__(self, "class_weights", tuple(chain.from_iterable(weights)))
        object.__setattr__(self, "device", str(self.device))  # a torch.device too
        if str(self.compile) == "auto":
            object.__setattr__(self, "compile", None)


def make_settings(given: Mapping[str, object]) -> FitSettings:
    """Return the settings of the given fields, checked."""
    names = [field.name for field in fields(FitSettings)]
    for name in given:
        if name not in names:
            raise InputError(f"fit: there is no setting {name!r}{nearest(name, names)}")
    s = FitSettings(**given)  # type: ignore[arg-type]
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
        ("early_stopping", 1, 10**9),
        ("seed", 0, 2**32 - 1),
    ):
        value = getattr(s, name)
        if value is None and name in ("epochs", "devices", "early_stopping"):
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError(f"{name}: {value!r}; a whole number from {low} to {high} is needed")
    if s.compile not in (None, True, False):
        raise InputError(f"compile: {s.compile!r}; True, False or 'auto' is needed")
    check_precision(s)
    check_device(s.device)
    ranges: tuple[tuple[str, Callable[[float], bool], str], ...] = (
        ("learning_rate", lambda v: 0 < v < 10, "above 0 and below 10"),
        ("weight_decay", lambda v: 0 <= v < 10, "from 0 to below 10"),
        ("average", lambda v: 0 <= v < 1, "from 0 to below 1"),
        ("clip_norm", lambda v: 0 < v < math.inf, "above 0"),
    )
    for name, fine, what in ranges:
        value = getattr(s, name)
        if value is None and name == "clip_norm":
            continue
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not fine(value):
            raise InputError(f"{name}: {value!r} is out of range; a number {what} is needed")
    if s.class_weights is not None:
        check_class_weights(s.class_weights)


def check_precision(s: FitSettings) -> None:
    """Raise :class:`InputError` where the precision is unknown, or does not go with the other settings."""
    if s.precision not in PRECISIONS:
        raise InputError(f"precision: {s.precision!r}; one of {', '.join(PRECISIONS)} is needed")
    kind = s.device.partition(":")[0]
    if s.precision == "16-mixed" and (kind not in ("auto", "cuda", "gpu") or not torch.cuda.is_available()):
        raise InputError("precision: 16-mixed needs CUDA; bf16-mixed works everywhere")
    if s.precision == "16-mixed" and s.compile:
        raise InputError("precision: 16-mixed scales its gradients, which compile does not; bf16-mixed has no need to")


def check_device(device: str) -> None:
    """Raise :class:`InputError` where a device is named that is not there."""
    kind, _, index = device.partition(":")
    if kind in ("auto", "cpu"):
        return
    count = torch.cuda.device_count()
    names = ", ".join(f"cuda:{i}" for i in range(count))
    if kind in ("cuda", "gpu") and not count:
        raise InputError(f"device: {device!r}, but no CUDA GPU is seen here; the devices here are cpu and auto")
    if kind in ("cuda", "gpu") and index and (not index.isdecimal() or int(index) >= count):
        raise InputError(f"device: {device!r}; the GPUs here are {names} (CUDA_VISIBLE_DEVICES says which are seen)")
    mps = torch.backends.mps.is_available()
    if kind not in ("cuda", "gpu") and not (kind == "mps" and mps):
        there = [*("cuda", names) * bool(count), *("mps",) * mps, "cpu and auto"]
        raise InputError(f"device: {device!r} is not there; the devices here are {', '.join(there)}")


def torch_device(device: str) -> torch.device:
    """Return the device that a word means, ``"auto"`` a GPU where there is one.

    :raises InputError: it is not there.
    """
    check_device(device)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device.replace("gpu", "cuda"))


def check_class_weights(weights: tuple[float, ...] | str) -> None:
    """Raise :class:`InputError` unless the weights are the word ``balanced``, or numbers of at least 0."""
    if not isinstance(weights, tuple):
        fine = isinstance(weights, str) and weights == BALANCED
    else:
        numbers = [w for w in weights if isinstance(w, (int, float)) and 0 <= w < math.inf]
        fine = len(numbers) == len(weights) and sum(numbers) > 0
    if not fine:
        given = " ".join(str(weights).split())[:80]
        raise InputError(f"class_weights: {given!r}; {BALANCED!r}, or a number of at least 0 for each class (two for "
                         "each attribute), is needed")  # fmt: skip
