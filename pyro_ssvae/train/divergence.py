"""Roll back when a loss is no longer finite, and say where that began; say what fits when memory is out."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..errors import InputError
from ..infer.traces import Site
from .state import NotFinite, TrainingState
from .step import Gradients, Step

ROLLBACKS = 2  # times that a training goes back to its last finite state


class FiniteGuard:
    """The gradients of a batch, guarded: a loss that is not finite is found before it spoils the weights.

    On a GPU, where looking at each loss would make it wait, this begins after the first rollback; until then the end
    of the epoch tells. Where processes share a batch, all of them learn it from the summed loss.

    :param shared: whether processes share each batch.
    """

    def __init__(self, gradients: Gradients, objective: Step, state: TrainingState, shared: bool = False) -> None:
        self.gradients, self.objective, self.state, self.shared = gradients, objective, state, shared

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss; its gradients are in the parameters."""
        self.looks = self.state.device.type == "cpu" or self.state.rollbacks > 0
        self.batch, self.rng = (x, y), torch.get_rng_state() if self.looks else None
        # Where processes share, a refusal by one would leave the others waiting; what is left is refused by all.
        begun = self.state.done > 0 or self.state.rollbacks > 0
        checks = pyro.validation_enabled(False) if self.shared and begun else nullcontext()
        try:
            with checks:
                return self.gradients(x, y)
        except (ValueError, RuntimeError) as error:  # a distribution refuses its parameters, after some steps
            refused = "constraint" in str(error) or "probability tensor" in str(error)
            values = str(error).partition("invalid values")[2]  # in the first step finite ones are the pair's mistake
            if not refused or not (begun or "nan" in values or "inf" in values):
                raise
            raise NotFinite(self.state.done, self.place()) from None

    def check(self, loss: Tensor) -> None:
        """Raise :class:`~.state.NotFinite`, with the first site, where the loss is not finite."""
        if self.looks and not math.isfinite(loss.item()):
            raise NotFinite(self.state.done, self.place())

    def place(self) -> str:
        """Return the first place in the latest batch where numbers are not finite."""
        return "" if self.rng is None else first_site(self.objective, *self.batch, self.rng)


@contextmanager
def recovering(state: TrainingState, rate: float, batch_size: int, attempt: Callable[[int], object]) -> Iterator[None]:
    """Roll back to the last finite state, with a smaller learning rate, where the loss is not finite.

    The training then goes on from ``state.done``. It ends where it was rolled back :data:`ROLLBACKS` times already, or
    where no step lies between the last finite state and the loss, so that no learning rate would help.

    :param rate: the peak of the learning rate.
    :param batch_size: of the settings.
    :param attempt: a function of a number of rows that takes the gradients of such a batch.
    :raises InputError: the end, naming step and site; or memory is out, naming a batch size that fits.
    """
    try:
        yield
    except NotFinite as found:
        epoch, step = found.step // state.plan.per_epoch + 1, found.step + 1
        times, reached = state.rollbacks, state.rate_scale * rate
        what = f"the loss is not finite in epoch {epoch}, step {step}"
        what += f", first at {found.where}" if found.where else ""
        hopeless = times == ROLLBACKS or found.step <= state.last_finite[1]["done"]
        state.roll_back()
        if hopeless:
            what += f", after going back {times} times" if times else ""
            raise InputError(
                f"training: {what}; a learning rate below {reached:g} or data on a smaller scale would help"
            ) from None
        if state.is_main:
            lower = state.rate_scale * rate
            print(f"fit: {what}; back to step {state.done}, with a learning rate of {lower:g}", file=sys.stderr)
    except torch.OutOfMemoryError:
        fits = fitting_batch(batch_size, attempt)
        would = f"batch_size {fits} fits" if fits else "not even a batch of 2 rows fits; a smaller model would"
        raise InputError(f"batch_size {batch_size}: the device's memory is out; {would}") from None


def fitting_batch(size: int, attempt: Callable[[int], object]) -> int | None:
    """Return the largest of half the batch size, a quarter and so on whose gradients fit into memory."""
    while size >= 4:
        size //= 2
        try:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            attempt(size)
            return size
        except torch.OutOfMemoryError:
            continue
    return None


def first_site(objective: Step, x: Tensor, y: Tensor, rng: Tensor) -> str:
    """Return the first place of a pair where numbers are not finite: a parameter, or a site in program order.

    The pair is run once more with the random numbers that the step had.

    :param rng: the state of PyTorch's generator before the step.
    """
    for name, p in objective.named():
        if not bool(torch.isfinite(p).all()):
            return f"parameter {name}"
    (model, guide), after = objective.programs, torch.get_rng_state()
    torch.set_rng_state(rng)
    try:
        with torch.no_grad(), pyro.validation_enabled(False):
            q = poutine.trace(guide).get_trace(x, y)
            p_trace = poutine.trace(poutine.replay(model, q)).get_trace(x, y)
            for program, trace in (("guide", q), ("model", p_trace)):
                nodes: dict[str, Site] = dict(trace.nodes)  # type: ignore[arg-type]
                for name, site in nodes.items():
                    if site["type"] == "sample" and (what := not_finite(site)):
                        return f"site {name!r} of the {program} ({what})"
    except Exception as error:  # whatever a pair of one's own does with such numbers
        return f"a place that cannot be traced ({type(error).__name__})"
    finally:
        torch.set_rng_state(after)
    return "the objective's sum, though every site is finite"


def not_finite(site: Site) -> str:
    """Return what of a site is not finite; empty where all is."""
    value = site["value"]
    if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
        return "its value"
    log_p = site["fn"].log_prob(value)
    return "" if bool(torch.isfinite(log_p).all()) else "its log-probability"
