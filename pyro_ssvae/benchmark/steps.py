"""``pyro-ssvae benchmark``: what a training step costs here, in plain Pyro and in hand-written PyTorch."""

from __future__ import annotations

import copy
import json
import math
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.infer import SVI
from pyro.optim import Adam  # type: ignore[attr-defined]
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ..errors import InputError
from ..labels import AttributeLabels, ClassLabels
from ..models import MODELS
from ..models.revae import BOUND_ALONE
from ..nn.networks import Decoder, Encoder, mlp
from ..train.compile import CompiledStep
from ..train.fit import FitSettings, Step, fit, make_fabric
from ..train.launch import no_look_for_gpus
from ..train.schedule import lister, make_optimizer, moving_average, values
from .reference_losses import LOSSES

VARIANTS = ("eager", "compiled", "pyro SVI", "by hand", "by hand, compiled")


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
    """Print the figures as JSON."""


@dataclass(frozen=True)
class Case:
    """One line of the table: a model, its options, its networks' size and the batch."""

    model: str
    size: str
    batch: int
    class_input: str | None = None

    @property
    def name(self) -> str:
        """The model in words."""
        return f"{self.model} {self.class_input}" if self.class_input else self.model


SMALL, LARGE, IMAGES = "16-16-4", "784-500-500-50", "3x64x64-45"
CASES = (
    Case("augmented", SMALL, 32, "probabilities"),
    *(Case("augmented", LARGE, 256, c) for c in ("probabilities", "enumerate", "sparse")),
    Case("augmented", LARGE, 64, "probabilities"),
    Case("revae", IMAGES, 32),
    Case("m2", SMALL, 32),
    Case("m2", LARGE, 256),
)
QUICK = CASES[:1]


def make(case: Case) -> nn.Module:
    """The case's model; for AugVAE and M2 MLPs of the given widths, for the ReVAE its default convolutions."""
    torch.manual_seed(0)
    if case.size == IMAGES:
        labels = AttributeLabels([f"attribute {i}" for i in range(18)])
        shape = tuple(int(n) for n in IMAGES.split("-")[0].split("x"))
        model: nn.Module = MODELS[case.model].default(shape, labels, 45, **BOUND_ALONE)
        return model
    flat, *hidden, latent = (int(n) for n in case.size.split("-"))
    norm = case.size == LARGE
    encoder = Encoder(*mlp([flat, *hidden], norm=norm), out_features=hidden[-1])
    body = nn.Sequential(*mlp(hidden[::-1], norm=False), nn.Linear(hidden[0], flat))
    decoder = Decoder(latent, 10, hidden[-1], body, (flat,))
    options: dict[str, Any] = {"class_input": case.class_input} if case.class_input else {}
    model = MODELS[case.model](
        encoder, decoder, ClassLabels(10), latent_dim=latent, likelihood="bernoulli", alpha=50.0, **options
    )
    return model


def make_data(case: Case, batches: int) -> tuple[Tensor, Tensor]:
    """Points that have classes, so that training settles, and a label, or each attribute, known in a quarter."""
    generator = torch.Generator().manual_seed(0)
    n = case.batch * batches
    shape = (3, 64, 64) if case.size == IMAGES else (int(case.size.split("-")[0]),)
    truth = torch.randint(10, (n,), generator=generator)
    centres = torch.rand((10, *shape), generator=generator)
    x = (centres[truth].round() * 0.8 + 0.2 * torch.rand((n, *shape), generator=generator)).clamp(0, 1)
    y = (truth.unsqueeze(-1) >> torch.arange(18) % 4) & 1 if case.size == IMAGES else truth
    return x, y.where(torch.rand(y.shape, generator=generator) < 0.25, -1)


def our_step(model: nn.Module, settings: FitSettings) -> Callable[[Tensor, Tensor], Any]:
    """The step of :func:`~pyro_ssvae.fit`: gradients, AdamW and the moving average."""
    fabric = make_fabric(settings)
    objective = Step(model)
    parameters: list[Tensor] = list(model.parameters())
    optimizer = make_optimizer(parameters, settings)
    step, wrapped = fabric.setup(objective.train(), optimizer)
    averages, current, update = values(copy.deepcopy(model)), lister(model), moving_average(settings.average)

    def gradients(x: Tensor, y: Tensor) -> Tensor:
        wrapped.zero_grad()
        loss: Tensor = step(x, y)
        fabric.backward(loss)
        return loss.detach()

    if settings.compile:
        gradients = CompiledStep(objective, parameters, gradients, fabric.autocast)

    def run(x: Tensor, y: Tensor) -> None:
        gradients(x, y)
        wrapped.step()
        update(averages, current(), 1000)

    return run


def hand_step(
    model: nn.Module, settings: FitSettings, loss: Callable[[nn.Module, Tensor, Tensor], Tensor]
) -> Callable[[Tensor, Tensor], Any]:
    """The same written by hand: a loss of PyTorch, fused AdamW, the moving average in one call."""
    model.train()
    optimizer = make_optimizer(list(model.parameters()), settings)
    current = [p.detach() for p in model.parameters()]
    averages = [p.clone() for p in current]

    def run(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        loss(model, x, y).backward()
        optimizer.step()
        torch._foreach_lerp_(averages, current, 1 - settings.average)

    return run


def svi_step(model: nn.Module) -> Callable[[Tensor, Tensor], Any]:
    """Plain Pyro, as its tutorials have it."""
    model.train()
    svi = SVI(model.model, model.guide, Adam({"lr": 1e-3}), loss=model.objective())  # type: ignore[operator]
    return svi.step


def check_same_loss(model: nn.Module, by_hand: Any, x: Tensor, y: Tensor) -> None:
    """Raise AssertionError unless the hand-written loss and its gradients are the pair's, at the same noise."""
    found = []
    for loss in (lambda m, x, y: Step(m)(x, y), by_hand):
        own = copy.deepcopy(model).train()
        torch.manual_seed(1)
        value = loss(own, x, y)
        value.backward()
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in own.parameters() if p.grad is not None))
        found.append((float(value.detach()), norm))
    for one, other in zip(*found):
        if not math.isclose(one, other, rel_tol=1e-3):
            raise AssertionError(f"loss and norm of the gradient: {found[0]} in Pyro, {found[1]} by hand")


def take_turns(
    steps: dict[str, Callable[[Tensor, Tensor], Any]], x: Tensor, y: Tensor, seconds: float
) -> dict[str, float]:
    """Median milliseconds a step of each, measured in turns of some steps."""

    def timed(step: Callable[[Tensor, Tensor], Any], n: int) -> float:
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


def measure(case: Case, settings: FitSettings, seconds: float) -> dict[str, Any]:
    """One line of the table: milliseconds a step of each variant, points a second in whole compiled epochs, memory."""
    reset_peak_memory()
    device = make_fabric(settings).device
    batches = 100 if case.size == SMALL else 20
    x, y = (t.to(device) for t in make_data(case, batches))
    model = make(case).to(device)
    model.prepare(x, y)  # type: ignore[operator]
    by_hand = LOSSES[case.model]
    check_same_loss(model, by_hand, x[: case.batch], y[: case.batch])
    compiled = replace(settings, compile=True)
    trained = copy.deepcopy(model)
    history = fit(trained, x, y, progress=False, **{**asdict(compiled), "batch_size": case.batch, "epochs": 6})
    epoch = statistics.median(after - before for before, after in zip(history["seconds"], history["seconds"][1:]))
    if "decodes" in history:
        model = trained  # settled, as sparsemax is to be judged
    start = [copy.deepcopy(model) for _ in VARIANTS]
    steps = {
        "eager": our_step(start[0], settings),
        "compiled": our_step(start[1], compiled),
        "pyro SVI": svi_step(start[2]),
        "by hand": hand_step(start[3], settings, by_hand),
        "by hand, compiled": hand_step(start[4], settings, torch.compile(by_hand, fullgraph=True)),
    }
    counts: Any = torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)  # sparsemax's, by hand
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


def reset_peak_memory() -> None:
    """Forget the largest memory so far, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> float:
    """The largest memory in bytes: the GPU's, or the process's since the reset (from its start, without /proc)."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * float(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def benchmark(cases: tuple[Case, ...], device: str, seconds: float) -> Iterator[dict[str, Any]]:
    """Measure one case after another; models that do not exist here are left out."""
    settings = FitSettings(device=device, augment="none", labelled_rows=0)
    for case in cases:
        if case.model in MODELS:
            yield measure(case, settings, seconds)


def run_benchmark(command: Benchmark) -> None:
    """``pyro-ssvae benchmark``."""
    make_fabric(FitSettings(device=command.device))
    try:
        rows = list(benchmark(QUICK if command.quick else CASES, command.device, 3.0))
    except torch._dynamo.exc.BackendCompilerFailed as error:
        raise InputError(f"benchmark: hand-written PyTorch does not compile here ({error})") from None
    if command.json:
        print(json.dumps(rows, indent=2))
        return
    device = make_fabric(FitSettings(device=command.device)).device
    title = f"median step in milliseconds; {device}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads"
    Console().print(*tables(title, rows))


def tables(title: str, rows: list[dict[str, Any]]) -> Iterator[Table]:
    """The milliseconds, then the ratios that matter."""
    hand = "by hand, compiled"
    steps = [[f"{row['milliseconds'][name]:.2f}" for name in VARIANTS] for row in rows]
    yield table(title, VARIANTS, rows, steps)
    ratios = []
    for row in rows:
        ms = row["milliseconds"]
        shares = [f"{ms['pyro SVI'] / ms['compiled']:.2f}", f"{ms['compiled'] / ms[hand]:.2f}"]
        outside = f"{max(0.0, row['outside_steps']):.0%}"
        ratios.append([*shares, f"{row['points_per_second']:.0f}", outside, f"{row['peak_megabytes']:.0f}"])
    columns = ("pyro SVI / compiled", f"compiled / {hand}", "points a second", "outside the steps", "MB")
    yield table("ratios of these; whole epochs, compiled; peak memory", columns, rows, ratios)


def table(title: str, columns: Sequence[str], rows: list[dict[str, Any]], cells: list[list[str]]) -> Table:
    """A line a case; narrow enough for 80 columns."""
    shown = Table(title=title, title_justify="left")
    shown.add_column("model\nnetworks, batch", no_wrap=True)
    for name in columns:
        shown.add_column(name, justify="right", max_width=10)
    for row, numbers in zip(rows, cells):
        shown.add_row(f"{row['model']}\n{row['networks']}, {row['batch']}", *numbers)
    return shown
