"""``pyro-ssvae benchmark``: the cost of a training step here, in plain Pyro and in hand-written PyTorch."""

from __future__ import annotations

import copy
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, TypeAlias

import pyro
import torch
from pyro.infer import SVI
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor

from ..errors import InputError
from ..infer.protocols import CountsDecodes
from ..models import Model
from ..train.average import Average
from ..train.captured import CapturedStep
from ..train.compile import CompiledStep
from ..train.fit import FitSettings, fit
from ..train.launch import make_fabric, no_look_for_gpus
from ..train.optimizer import make_optimizer, weight_matrices
from ..train.settings import option
from ..train.step import Step, eager_step
from .cases import CASES, QUICK, SMALL, Case, make, make_data
from .memory import peak_memory, reset_peak_memory
from .reference_losses import LOSSES, Loss
from .table import VARIANTS, Row, tables

Run: TypeAlias = Callable[[Tensor, Tensor], object]
"""One step on a batch."""


@dataclass(frozen=True)
class Benchmark:
    """Compare a training step here with plain Pyro's and with hand-written PyTorch's.

    All variants train the same networks with the same loss on the same batch; they take turns, and medians count.

    Example: pyro-ssvae benchmark --quick
    """

    quick: bool = False
    """One model only, in about a minute."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or mps."""
    json: bool = False
    """Print the numbers as JSON."""
    minutes: Annotated[float | None, option("FLOAT")] = None
    """Instead, check every model on the device, and measure it there, in at most about this many minutes."""
    out: Annotated[Path | None, option("PATH")] = None
    """With --minutes: a file that the table is written to too, such as results/gpu.md."""

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise InputError(f"--minutes: {self.minutes:g}; a number above 0 is needed")
        if self.out is not None and self.minutes is None:
            raise InputError("--out: only --minutes writes a table; --minutes 8 does")


def our_step(model: Model, settings: FitSettings) -> Run:
    """Return the step of :func:`~pyro_ssvae.fit`: gradients, AdamW and the moving average."""
    fabric = make_fabric(settings)
    objective = Step(model)
    parameters: list[Tensor] = list(model.parameters())
    optimizer = make_optimizer(parameters, weight_matrices(model), settings)
    forward, wrapped = fabric.setup(objective.train(), optimizer)
    average = Average({"": model}, decay=settings.average)
    gradients = eager_step(objective, forward, fabric.backward, wrapped.zero_grad, lambda: False)
    if settings.compile:
        gradients = CompiledStep(objective, parameters, gradients, fabric.autocast)
    elif settings.compile is None:
        gradients = CapturedStep(objective, objective.programs, parameters, gradients, gradients, lambda: 1000)

    def run(x: Tensor, y: Tensor) -> None:
        gradients(x, y)
        wrapped.step()
        average.update(1000)

    return run


def reference_step(model: Model, settings: FitSettings, loss: Loss) -> Run:
    """Return the same written by hand: a loss of PyTorch, fused AdamW, the moving average in one call."""
    model.train()
    optimizer = make_optimizer(list(model.parameters()), weight_matrices(model), settings)
    current = [p.detach() for p in model.parameters()]
    averages = [p.clone() for p in current]

    def run(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        loss(model, x, y).backward()
        optimizer.step()
        torch._foreach_lerp_(averages, current, 1 - settings.average)

    return run


def svi_step(model: Model) -> Run:
    """Return the step of plain Pyro, as its tutorials have it."""
    model.train()
    svi = SVI(model.model, model.guide, Adam({"lr": 1e-3}), loss=model.objective())
    run: Run = svi.step
    return run


def check_same_loss(model: Model, reference: Loss, x: Tensor, y: Tensor) -> None:
    """Raise AssertionError unless the hand-written loss and its gradients are the pair's, at the same noise."""
    found = []
    losses: tuple[Loss, Loss] = (lambda m, x, y: Step(m)(x, y), reference)
    for loss in losses:
        own = copy.deepcopy(model).train()
        torch.manual_seed(1)
        value = loss(own, x, y)
        value.backward()
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in own.parameters() if p.grad is not None))
        found.append((float(value.detach()), norm))
    for one, other in zip(*found):
        if not math.isclose(one, other, rel_tol=1e-3):
            raise AssertionError(f"loss and norm of the gradient: {found[0]} in Pyro, {found[1]} by hand")


def take_turns(steps: dict[str, Run], x: Tensor, y: Tensor, seconds: float) -> dict[str, float]:
    """Return the median milliseconds a step of each, measured in turns of some steps."""

    def timed(step: Run, n: int) -> float:
        started = time.perf_counter()
        for _ in range(n):
            step(x, y)
        if x.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / n

    for step in steps.values():
        timed(step, 3)
    repeats = {name: max(1, round(0.03 / timed(step, 2))) for name, step in steps.items()}
    found: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, found.values())) < 5:
        for name, step in steps.items():
            found[name].append(timed(step, repeats[name]))
    return {name: 1e3 * statistics.median(times) for name, times in found.items()}


def measure(case: Case, settings: FitSettings, seconds: float) -> Row:
    """Return one line of the table."""
    reset_peak_memory()
    device = make_fabric(settings).device
    batches = 100 if case.size == SMALL else 20
    x, y = (t.to(device) for t in make_data(case, batches))
    model = make(case).to(device)
    model.prepare(x, y)
    reference = LOSSES[case.model]
    check_same_loss(model, reference, x[: case.batch], y[: case.batch])
    compiled = replace(settings, compile=True)
    trained = copy.deepcopy(model)
    history = fit(trained, x, y, progress=False, **{**asdict(compiled), "batch_size": case.batch, "epochs": 6})
    epoch = statistics.median(after - before for before, after in zip(history["seconds"], history["seconds"][1:]))
    if isinstance(model, CountsDecodes) and model.count_decodes() is not None:
        model = trained  # settled, as sparsemax is to be measured
    start = [copy.deepcopy(model) for _ in VARIANTS]
    steps = {
        "eager": our_step(start[0], replace(settings, compile=False)),
        "captured": our_step(start[1], settings),
        "compiled": our_step(start[2], compiled),
        "pyro SVI": svi_step(start[3]),
        "by hand": reference_step(start[4], settings, reference),
        "by hand, compiled": reference_step(start[5], settings, torch.compile(reference, fullgraph=True)),
    }
    counts = torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)  # sparsemax's, by hand
    with counts, no_look_for_gpus():  # for all alike
        found = take_turns(steps, x[: case.batch], y[: case.batch], seconds)
    torch._dynamo.reset()
    pyro.clear_param_store()
    return {
        "model": case.name,
        "networks": case.size,
        "batch": case.batch,
        "milliseconds": found,
        "points_per_second": len(x) / epoch,
        "outside_steps": 1 - batches * found["compiled"] / 1e3 / epoch,
        "peak_megabytes": peak_memory(device) / 1e6,
    }


def benchmark(cases: tuple[Case, ...], device: str, seconds: float) -> Iterator[Row]:
    """Measure one case after another."""
    settings = FitSettings(device=device, augment="none", labelled_rows=0)
    for case in cases:
        yield measure(case, settings, seconds)


def run_benchmark(command: Benchmark) -> None:
    """Measure, and print the tables."""
    from rich.console import Console

    device = make_fabric(FitSettings(device=command.device)).device
    title = f"{name_of(device)}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads"
    try:
        rows = list(benchmark(QUICK if command.quick else CASES, command.device, 3.0))
    except torch._dynamo.exc.BackendCompilerFailed as error:
        raise InputError(f"benchmark: hand-written PyTorch does not compile here ({error})") from None
    if command.json:
        print(json.dumps(rows, indent=2))
        return
    Console().print(*tables(f"median step in milliseconds; {title}", rows))


def name_of(device: torch.device) -> str:
    """Return a device's name in words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
