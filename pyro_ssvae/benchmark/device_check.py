"""``pyro-ssvae benchmark --minutes N``: whether every model works on a device as on the CPU, and how fast it is there.

Nothing is fetched: the data are drawn, or shipped with scikit-learn; MNIST is used where it lies in the data folder.
A check that fails is a line of the table, and the others go on until the time is up.
"""

from __future__ import annotations

import copy
import io
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pyro
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..data import load as load_data
from ..data.splits import hide_labels
from ..errors import InputError
from ..files import write_atomically
from ..infer.protocols import Classifies, Intervenes
from ..labels import AttributeLabels, ClassLabels, Labels
from ..models import MODELS, AugmentedVAE, Model, create_model
from ..models.saving import load, save
from ..train.captured import CapturedStep
from ..train.fit import FitSettings, fit
from ..train.launch import make_fabric
from ..train.step import Gradients, Step, eager_step
from .cases import CASES, LARGE, SMALL, Case, make, make_data
from .memory import peak_memory, reset_peak_memory
from .reference_losses import LOSSES
from .steps import Benchmark, name_of, our_step, reference_step, svi_step, take_turns

Work: TypeAlias = Callable[[], tuple[str, bool | None]]
"""A check: what is found, and whether that is right; None where it is a measurement."""

TOLERANCE = 1e-4  # of a loss on the device, relative to the CPU's
SEVERAL = 40  # steps that are taken captured and eagerly


@dataclass(frozen=True)
class Check:
    """A line of the table."""

    name: str
    found: str
    fine: bool | None


def checks(device: torch.device, minutes: float, small: bool) -> Iterator[Check]:
    """Yield one check after the other; those that the time does not reach say so.

    :param small: small networks and few steps, for a CPU.
    """
    end = time.monotonic() + 60 * minutes
    for name, run in [*of_models(device), *of_speed(device, small), *of_training(device, small)]:
        if time.monotonic() > end:
            yield Check(name, "left out, the time is up", None)
            continue
        try:
            with redirect_stderr(io.StringIO()):  # trainings as short as these have their remarks
                found, fine = run()
        except Exception as error:  # whatever a device does
            found, fine = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}", False
        pyro.clear_param_store()
        yield Check(name, found, fine)


def of_models(device: torch.device) -> Iterator[tuple[str, Work]]:
    """Yield the checks of every model, with class labels, and with attributes where it takes them."""
    for name in MODELS:
        for labels in (ClassLabels(4), AttributeLabels(["hat", "beard", "scarf"])):
            try:
                model, x, y = example(name, labels)
            except InputError:  # a model that does not take them
                continue
            words = f"{name}, {'attributes' if labels.event_shape else 'classes'}"
            yield f"{words}: loss as on the CPU", partial(same_loss, model, x, y, device)
            yield f"{words}: captured as eager", partial(same_steps, model, x, y, device)
            yield f"{words}: bf16-mixed, saved, loaded, asked", partial(verbs, model, x, y, device)


def example(name: str, labels: Labels) -> tuple[Model, Tensor, Tensor]:
    """Return a model of 8x8 images, and partly labelled points for it."""
    torch.manual_seed(0)
    x = torch.rand(128, 1, 8, 8)
    entries = (128, labels.size) if labels.event_shape else (128,)
    y = torch.randint(0, 2 if labels.event_shape else labels.size, entries)
    y = y.where(torch.rand(y.shape) < 0.5, -1)
    model = create_model(name, input_shape=(1, 8, 8), labels=labels, latent_dim=labels.size + 4)
    model.prepare(x, y)
    return model, x, y


def same_loss(model: Model, x: Tensor, y: Tensor, device: torch.device) -> tuple[str, bool]:
    """Compare the loss on the device with the CPU's, in evaluation mode, at the same noise."""
    losses = []
    for where in (torch.device("cpu"), device):
        own = copy.deepcopy(model).eval().to(where)
        torch.manual_seed(1)
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # else a convolution keeps ten bits
        with DrawOnCPU(where), pyro.validation_enabled(False), exact:
            losses.append(float(Step(own)(x.to(where), y.to(where)).detach()))
    error = abs(losses[0] - losses[1]) / abs(losses[0])
    return f"relative difference {error:.1e}", error < TOLERANCE


class DrawOnCPU(TorchFunctionMode):
    """Within it random numbers are drawn on the CPU, so that devices compute with the same ones."""

    KINDS = (
        *("rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm"),
        *("normal", "bernoulli", "poisson", "binomial", "multinomial", "_standard_gamma", "_sample_dirichlet"),
    )
    IN_PLACE = ("normal_", "uniform_", "random_", "bernoulli_", "exponential_")

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        kwargs = kwargs or {}
        name = func.__name__
        if name not in self.KINDS + self.IN_PLACE:
            return func(*args, **kwargs)
        kwargs = {**kwargs, "device": "cpu"} if "device" in kwargs else kwargs
        drawn = func(*(a.cpu() if isinstance(a, Tensor) else a for a in args), **kwargs)
        if name in self.IN_PLACE and isinstance(args[0], Tensor):
            return args[0].copy_(drawn)
        return drawn.to(self.device)


def same_steps(model: Model, x: Tensor, y: Tensor, device: torch.device) -> tuple[str, bool]:
    """Train some steps eagerly and captured, from the same start and with the same random numbers."""
    losses, how = [], "eager"
    for captured in (False, True):
        own = copy.deepcopy(model).to(device)
        objective = Step(own).train()
        parameters = [p for p in own.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        eager: Gradients = eager_step(objective, objective, torch.Tensor.backward, optimizer.zero_grad, lambda: False)
        step = CapturedStep(objective, objective.programs, parameters, eager, eager, lambda: 1000)
        torch.manual_seed(1)
        for _ in range(SEVERAL):
            loss = (step if captured else eager)(x.to(device), y.to(device))
            optimizer.step()
        losses.append(float(loss))
        how = step.how
    error = abs(losses[0] - losses[1]) / abs(losses[0])
    return f"{how}; relative difference of the last loss {error:.1e}", error < TOLERANCE


def verbs(model: Model, x: Tensor, y: Tensor, device: torch.device) -> tuple[str, bool]:
    """Train in mixed precision, from a checkpoint too; save, load on the CPU, and ask both."""
    own = copy.deepcopy(model)
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"device": str(device), "precision": "bf16-mixed", "progress": False}
        options |= {"batch_size": 64, "epochs": 2, "checkpoint": Path(folder) / "state"}
        history = fit(own, x, y, **options)
        fit(own, x, y, resume=True, **options)
        there = load(save(own.to(device), Path(folder) / "model"))
    own.to(device)
    fine = all(map(math.isfinite, history["loss"])) and all(
        torch.allclose(a.cpu(), b.cpu()) for a, b in zip(own.state_dict().values(), there.state_dict().values())
    )
    asked = "trained, moved"
    if isinstance(own, Classifies) and own.labels.size:
        error = float((own.predict_proba(x.to(device)).cpu() - there.predict_proba(x)).abs().max())
        fine, asked = fine and error < 1e-3, f"{asked}, predictions differ by {error:.1e}"
    if isinstance(own, Intervenes) and own.labels.event_shape:
        changed = own.intervene(x[:4].to(device), {"hat": 1})
        fine, asked = fine and bool(torch.isfinite(changed).all()), f"{asked}, intervened"
    return asked, fine


def of_speed(device: torch.device, small: bool) -> Iterator[tuple[str, Work]]:
    """Yield measurements of a step of the benchmark's cases."""
    for case in CASES:
        if case.size == SMALL or (not small and (case.size != LARGE or case.batch == 256)):
            yield f"step: {case.name}, {case.size}, {case.batch} rows", partial(step_times, case, device)


def step_times(case: Case, device: torch.device) -> tuple[str, None]:
    """Measure a step: SVI's, eager, captured, and written by hand."""
    reset_peak_memory()
    settings = FitSettings(device=str(device), augment="none", labelled_rows=0)
    x, y = (t.to(device) for t in make_data(case, 20))
    model = make(case).to(device)
    model.prepare(x, y)
    x, y = x[: case.batch], y[: case.batch]
    steps = {
        "SVI": svi_step(copy.deepcopy(model)),
        "eager": our_step(copy.deepcopy(model), FitSettings(**{**vars(settings), "compile": False})),
        "captured": our_step(copy.deepcopy(model), settings),
        "by hand": reference_step(copy.deepcopy(model), settings, LOSSES[case.model]),
    }
    ms = take_turns(steps, x, y, 2.0)
    words = ", ".join(f"{name} {time:.2f} ms" for name, time in ms.items())
    rate = case.batch / ms["captured"] * 1e3
    ratio = ms["SVI"] / ms["captured"]
    return f"{words}; SVI / captured {ratio:.1f}; {rate:.0f} points/s; {peak_memory(device) / 1e6:.0f} MB", None


def of_training(device: torch.device, small: bool) -> Iterator[tuple[str, Work]]:
    """Yield a whole training on real images."""
    for name, epochs in (("digits", 5),) if small else (("digits", None), ("mnist", 26)):
        yield f"{name}, 100 labels", partial(accuracy, name, device, epochs)


def accuracy(name: str, device: torch.device, epochs: int | None) -> tuple[str, None]:
    """Train AugVAE with 100 labels, and measure its accuracy on the test rows."""
    data = load_data(name)
    y = hide_labels(data.y, data.labels, 100, 0)
    options: dict[str, Any] = {"latent_dim": 50, "likelihood": "bernoulli", "label_prior": "proportional"}
    model = AugmentedVAE.default(tuple(data.x.shape[1:]), data.labels, **options)
    started = time.perf_counter()
    fit(model, data.x, y, epochs=epochs, device=str(device), progress=False)
    seconds = time.perf_counter() - started
    right = float((model.to(device).predict(data.x_test).cpu() == data.y_test.cpu()).double().mean())
    return f"accuracy {right:.4f} in {seconds:.1f} s", None


def markdown(title: str, found: list[Check]) -> str:
    """Return the checks as a page."""
    signs = {True: "right", False: "WRONG", None: ""}
    lines = [f"| {c.name} | {c.found} | {signs[c.fine]} |" for c in found]
    return "\n".join([f"# {title}", "", "| check | found | |", "|---|---|---|", *lines, ""])


def run_checks(command: Benchmark) -> int:
    """Check and measure the device, print each line as it comes, and write the table; return how many are wrong.

    :raises InputError: a device that is not there.
    """
    device = make_fabric(FitSettings(device=command.device)).device
    found = []
    for check in checks(device, command.minutes or math.inf, small=device.type == "cpu"):
        found.append(check)
        print("WRONG " if check.fine is False else "", f"{check.name}: {check.found}", sep="", flush=True)
    title = f"{name_of(device)}, PyTorch {torch.__version__}"
    if command.out is not None:
        write_atomically(command.out, markdown(title, found).encode())
    wrong = sum(check.fine is False for check in found)
    print(f"{title}: {len(found)} checks, {wrong} wrong")
    return wrong
