"""What to do when a loss is no longer finite, or a batch does not fit: go back, find the place, say what would help."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ..errors import InputError
from .state import NotFinite, TrainingState

Gradients = Callable[[Tensor, Tensor], Tensor]
SETBACKS = 2  # times that a training goes back to its last good state


class Watch:
    """The gradients of a batch, watched: a loss that is not finite is found before it spoils the weights.

    On a GPU, where looking at each loss would make it wait, this begins once the training has been set back; until then
    the end of the epoch tells. Where processes share a batch, all of them learn it from the summed loss.

    :param shared: whether processes share each batch.
    """

    def __init__(self, gradients: Gradients, objective: nn.Module, state: TrainingState, shared: bool) -> None:
        self.gradients, self.objective, self.state, self.shared = gradients, objective, state, shared

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss; its gradients are in the parameters."""
        self.looks = self.state.device.type == "cpu" or self.state.setbacks > 0
        self.batch, self.rng = (x, y), torch.get_rng_state() if self.looks else None
        # Where processes share, a refusal by one would leave the others waiting; what is left is refused by all.
        begun = self.state.done > 0 or self.state.setbacks > 0
        checks = pyro.validation_enabled(False) if self.shared and begun else nullcontext()
        try:
            with checks:
                return self.gradients(x, y)
        except (ValueError, RuntimeError) as error:  # a distribution refuses its parameters, after some steps
            refused = "constraint" in str(error) or "probability tensor" in str(error)
            if not (begun and refused):
                raise
            raise NotFinite(self.state.done, self.place()) from None

    def check(self, loss: Tensor) -> None:
        """Raise :class:`~.training_state.NotFinite`, with the first site, where the loss is not finite."""
        if self.looks and not math.isfinite(loss.item()):
            raise NotFinite(self.state.done, self.place())

    def place(self) -> str:
        """The first place in the latest batch where numbers are not finite."""
        return "" if self.rng is None else first_site(self.objective, *self.batch, self.rng)


@contextmanager
def recovering(state: TrainingState, settings: Any, attempt: Callable[[int], Any]) -> Iterator[None]:
    """Where the loss is not finite go back to the last good state, with a smaller learning rate.

    The training then goes on from ``state.done``. It ends where it was set back :data:`SETBACKS` times already, or
    where no step lies between the good state and the loss, so that no learning rate would help.

    :param settings: :class:`~.fit.FitSettings`.
    :param attempt: takes the gradients of a batch of so many rows.
    :raises InputError: the end, naming step and site; or memory is out, naming a batch size that fits.
    """
    try:
        yield
    except NotFinite as found:
        epoch, step = found.step // state.per_epoch + 1, found.step + 1
        rate = state.slower * settings.learning_rate
        what = f"the loss is not finite in epoch {epoch}, step {step}"
        what += f", first at {found.where}" if found.where else ""
        if state.setbacks == SETBACKS or found.step <= state.good[1]["done"]:
            what += f", after going back {state.setbacks} times" if state.setbacks else ""
            raise InputError(
                f"training: {what}; a learning rate below {rate:g} or data on a smaller scale would help"
            ) from None
        state.go_back()
        rate = state.slower * settings.learning_rate
        if state.writes:
            print(f"fit: {what}; back to step {state.done}, with a learning rate of {rate:g}", file=sys.stderr)
    except torch.OutOfMemoryError:
        fits = fitting_batch(settings.batch_size, attempt)
        would = f"batch_size {fits} fits" if fits else "not even a batch of 2 rows fits; a smaller model would"
        raise InputError(f"batch_size {settings.batch_size}: the device's memory is out; {would}") from None


def fitting_batch(size: int, attempt: Callable[[int], Any]) -> int | None:
    """The largest of half the batch size, a quarter and so on whose gradients fit into memory."""
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


def first_site(objective: nn.Module, x: Tensor, y: Tensor, rng: Tensor) -> str:
    """The first place of a pair where numbers are not finite, in words: a parameter, or a site in program order.

    The pair is run once more with the random numbers that the step had.

    :param objective: :class:`~.fit.Step`, which holds the pair as ``module``.
    :param rng: the state of PyTorch's generator before the step.
    """
    pair: Any = objective.module
    for name, p in pair.named_parameters():
        if not bool(torch.isfinite(p).all()):
            return f"parameter {name}"
    after = torch.get_rng_state()
    torch.set_rng_state(rng)
    try:
        with torch.no_grad(), pyro.validation_enabled(False):
            guide = poutine.trace(pair.guide).get_trace(x, y)
            model = poutine.trace(poutine.replay(pair.model, guide)).get_trace(x, y)
            for program, trace in (("guide", guide), ("model", model)):
                for name, site in trace.nodes.items():
                    if site["type"] == "sample" and (what := not_finite(site)):
                        return f"site {name!r} of the {program} ({what})"
    except Exception as error:  # whatever a pair of one's own does with such numbers
        return f"a place that cannot be traced ({type(error).__name__})"
    finally:
        torch.set_rng_state(after)
    return "the objective's sum, though every site is finite"


def not_finite(site: dict[str, Any]) -> str:
    """What of a site is not finite; empty where all is."""
    value = site["value"]
    if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
        return "its value"
    log_p = site["fn"].log_prob(value)
    return "" if bool(torch.isfinite(log_p).all()) else "its log-probability"
