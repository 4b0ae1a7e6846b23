"""Evaluate a pair on many rows: in evaluation mode, without gradients, some rows at a time."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from pyro import poutine
from torch import Tensor, nn

from ..data.inputs import read_data, read_whole
from ..data.pair_order import Points
from ..data.pair_protocols import ChecksPoints
from ..data.streaming import Streamed
from ..errors import InputError
from ..nn.networks import evaluation
from .automatic import few_rows
from .draws import enumerated
from .pairs import networks
from .program_errors import program_errors
from .traces import sampled

ROWS = 1000  # rows at a time, at most
NUMBERS = 2**23  # of a site under all enumerated values, at a time
_turn = threading.RLock()


def checked(
    pair: nn.Module, x: object, y: object = None, least: int = 1, *, own: bool = False, gaps: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return points and labels as :func:`~pyro_ssvae.fit` takes them, as tensors where the pair is.

    :param own: take the labels that come with the points, of a data set, where ``y`` is None.
    :param gaps: let a NaN be an entry that is missing, also for a pair that does not say that it takes it.
    :raises InputError: points or labels that do not fit the pair, or a weight of it that is no number.
    """
    points, labels = opened(pair, x, y, least, own=own, gaps=gaps)
    return points if isinstance(points, Tensor) else in_units(read_whole(points), like(pair, x)), labels


def opened(
    pair: nn.Module, x: object, y: object = None, least: int = 1, *, own: bool = False, gaps: bool = False
) -> tuple[Points, Tensor | None]:
    """Return points, those of a large file still in it, and labels: see :func:`checked`."""
    need_numbers(pair)
    p = like(pair, x)
    read = read_data(pair, x, y, least=least, dtype=p.dtype, gaps=gaps)
    points = in_units(read.x, p) if isinstance(read.x, Tensor) else read.x
    return points, read.y.to(p.device) if read.labelled and (own or y is not None) else None


def need_numbers(pair: nn.Module) -> None:
    """Raise :class:`InputError` where a weight is no number (:func:`spoilt`): answers would be NaN, or class 0."""
    if what := spoilt(pair):
        raise InputError(f"model: weight {what}, so the model has diverged; train it anew, more slowly")


def spoilt(pair: nn.Module) -> str | None:
    """Return which weight is NaN, or infinite though it is trained, in words; None where all are numbers."""
    if all_finite(pair.parameters()):
        return None
    for name, p in pair.named_parameters():
        if not bool(p.isfinite().all()) and (p.requires_grad or bool(p.isnan().any())):
            return f"{name!r} is {'NaN' if bool(p.isnan().any()) else 'infinite'}"
    return None


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no entry is NaN or infinite; a GPU is waited for once."""
    found: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        found.setdefault(tensor.device, []).append(tensor.isfinite().all())
    return all(bool(torch.stack(looks).all()) for looks in found.values())


def in_units(points: Tensor, p: Tensor) -> Tensor:
    """Return points where a parameter is and in its precision, pixels in [0, 1]."""
    pixels = points.dtype == torch.uint8
    return points.to(p) / 255 if pixels else points.to(p)


def like(pair: nn.Module, x: object) -> Tensor:
    """Return a tensor of the device and the precision that a pair computes with."""
    p: Tensor | None = next((p for p in pair.parameters() if p.is_floating_point()), None)
    if p is None:  # functions, whose parameters cannot be seen
        p = torch.zeros(()).to(x.dtype if isinstance(x, Tensor) and x.is_floating_point() else None)
    return p


def batched(
    pair: nn.Module,
    fn: Callable[..., Tensor],
    x: Points,
    y: Tensor | None = None,
    *,
    rows: int = ROWS,
    seed: int | None = None,
) -> Tensor:
    """Return ``fn(x)``, or ``fn(x, y)`` where labels are given, of some rows at a time, :func:`evaluating` the pair.

    :param x: points; those of a large file are read shortly before their turn.
    :param rows: at a time.
    :param seed: of the random numbers; None takes them as they come.
    """
    with evaluating(pair, seed), once_per_input(pair):
        parts = []
        for i in range(0, len(x), rows):
            some = x[i : i + rows]
            if isinstance(x, Streamed):
                some = in_units(checked_part(pair, some, i), like(pair, some))
            parts.append(fn(some) if y is None else fn(some, y[i : i + rows]))
        return torch.cat(parts)


def checked_part(pair: nn.Module, x: Tensor, start: int) -> Tensor:
    """Return some rows of a large file as the pair takes them; an error counts rows from the file's first."""
    try:
        return pair.check_points(x) if isinstance(pair, ChecksPoints) else x
    except InputError as error:
        raise InputError(counted_from(start, str(error))) from None


def counted_from(start: int, words: str) -> str:
    """Return what is said of a row of a part, ``x: row 3 …``, with the row's number in the whole."""
    return re.sub(r"^x: row (\d+)", lambda found: f"x: row {int(found[1]) + start}", words)


def rows_at_a_time(pair: nn.Module, x: Tensor, y: Tensor | None, times: int = 1) -> int:
    """Return how many rows keep :data:`NUMBERS` within memory, by the sites of two rows under all enumerated values.

    All at once where an automatic guide has a latent of each row.

    :param times: how often the rows of ``x`` may be taken.
    """
    if len(x) * times <= 2:
        return 2
    with evaluating(pair), torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        few, labels = few_rows(pair, x, y)
        if len(few) > 2:
            return len(x)
        ((p, q),) = enumerated(pair, few, labels)
    sites = [*sampled(p).values(), *sampled(q).values()]
    numbers = (s["log_prob"].numel() * s["fn"].event_shape.numel() / min(2, len(x)) for s in sites)
    return max(1, min(ROWS, int(NUMBERS / max(numbers, default=1.0))))


@contextmanager
def alone() -> Iterator[None]:
    """Let one thread after another in: Pyro's handlers and parameters, and a module's mode, are a process's."""
    with _turn:
        yield


@contextmanager
def evaluating(pair: nn.Module, seed: int | None = None) -> Iterator[None]:
    """Evaluation mode, no gradients and, with a seed, random numbers from it; afterwards all is as it was.

    Threads take turns (:func:`alone`). What Pyro says of the pair's shapes is said in a line (:func:`program_errors`).
    """
    with ExitStack() as stack:
        stack.enter_context(alone())
        stack.enter_context(program_errors())
        stack.enter_context(evaluation(pair))
        stack.enter_context(torch.no_grad())
        if seed is not None:
            device = next((p.device for p in pair.parameters()), torch.device("cpu"))
            stack.enter_context(seeded(device, seed))
        yield


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Random numbers from ``seed`` for a while; afterwards the global state is as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also touch devices not in use
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def once_per_input(pair: nn.Module) -> Iterator[None]:
    """For a while, while nothing is trained, a network that gets the input of its last call gives the same output.

    Many draws at the same rows then cost one run of the encoder. A network that draws random numbers is left alone.
    """
    with ExitStack() as stack:
        for network in networks(pair):
            stack.enter_context(replaced(network, "forward", remembered(network.forward, network)))
            if isinstance(network, Standardizes):
                stack.enter_context(replaced(network, "standardize", remembered(network.standardize, network)))
        yield


@runtime_checkable
class Standardizes(Protocol):
    """A likelihood that puts points in the encoder's units."""

    def standardize(self, x: Tensor) -> Tensor: ...


@contextmanager
def replaced(network: nn.Module, name: str, method: Callable[..., Tensor]) -> Iterator[None]:
    """Another method of a network for a while."""
    own = network.__dict__.get(name)
    network.__dict__[name] = method
    try:
        yield
    finally:
        del network.__dict__[name]
        if own is not None:
            network.__dict__[name] = own


def remembered(forward: Callable[..., Tensor], network: nn.Module) -> Callable[..., Tensor]:
    """Return the function of a network with its last result kept for the same arguments.

    It is not kept where the function draws random numbers, or makes statements to Pyro, and no longer valid once it is
    changed in place, or the network is: a program may set an attribute of it to a draw.
    """
    last: list[tuple[tuple[object, ...], list[Held], Tensor, int]] = []

    def call(*inputs: object, **named: object) -> Tensor:
        arguments = (*inputs, *named, *named.values())
        if last:
            known, state, output, version = last[0]
            alike = len(known) == len(arguments) and all(map(same, known, arguments))
            if alike and output._version == version and unchanged(state, held(network)):
                return output
        before = random_states()
        with Statements() as statements:
            output = forward(*inputs, **named)
        alike = isinstance(output, Tensor) and all(map(torch.equal, before, random_states()))
        last[:] = [(arguments, held(network), output, output._version)] if alike and not statements.made else []
        return output

    return call


Held: TypeAlias = tuple[object, int]
"""A tensor or another plain value that a network holds, and the version of its memory."""


def held(network: nn.Module) -> list[Held]:
    """Return what the parts of a network hold: parameters, buffers, and attributes that are tensors or plain values."""
    parts = list(network.modules())
    values = [value for part in parts for value in (*part._parameters.values(), *part._buffers.values())]
    plain = [value for part in parts for value in vars(part).values() if isinstance(value, (Tensor, int, float, str))]
    return [(value, value._version if isinstance(value, Tensor) else 0) for value in (*values, *plain)]


def unchanged(before: list[Held], now: list[Held]) -> bool:
    """Whether a network holds what it held: the same tensors, not changed in place, and equal plain values."""
    return len(before) == len(now) and all(
        i == j and (one is other or (not isinstance(one, Tensor) and not isinstance(other, Tensor) and one == other))
        for (one, i), (other, j) in zip(before, now)
    )


class Statements(poutine.messenger.Messenger):
    """Notes whether a function makes statements to Pyro, such as those of a Bayesian network."""

    made = False

    def _process_message(self, msg: object) -> None:
        self.made = True


def random_states() -> list[Tensor]:
    """The states of PyTorch's generators that are in use."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.random.get_rng_state(), *cuda]


def same(one: object, other: object) -> bool:
    """Whether two arguments of a network are the same."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other))
    return one is other or (isinstance(one, (str, int, float)) and one == other)
