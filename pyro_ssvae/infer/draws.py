"""Traces of a pair at several draws of its guide, as many in a run as there is room for."""

from __future__ import annotations

from collections.abc import Iterator

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from .automatic import few_rows
from .label_inference import ExactLabels
from .pairs import Program, programs
from .traces import (
    Trace,
    mark_rows,
    observations,
    parallel,
    plate_nesting,
    row_frame,
    row_plates,
    run,
    sampled,
    subsamples,
    trace_log_prob,
)


def enumerated(
    pair: nn.Module, x: Tensor, y: Tensor | None, num_samples: int = 1, *, exact: bool = True
) -> Iterator[tuple[Trace, Trace]]:
    """Yield model and guide traces at ``num_samples`` draws of the guide, with log-probabilities.

    Sites that are marked for it, and missing labels of few values, have every value in turn, in dimensions left of the
    plates. What the model observes is the same in all draws, pixels that are binarised at random are drawn once, unless
    it is computed of latents.

    :param exact: take missing labels as labels (:class:`~.label_inference.ExactLabels`), else as the pair infers them.
    """
    for p, q, _ in several_at_once(pair, x, y, num_samples, 0, exact=exact):
        yield p, q


def several_at_once(
    pair: nn.Module, x: Tensor, y: Tensor | None, num_samples: int, most_rows: int, *, exact: bool = True
) -> Iterator[tuple[Trace, Trace, int]]:
    """Yield what :func:`enumerated` does, several draws in one run, and how many: the rows of ``x`` so often, one time
    after the other. A small network's draws cost less so than in as many runs.

    The first is alone, and each is where the pair's draws would meet in one run (:func:`rows_apart`).

    :param most_rows: of a run, where it is at several draws.
    """
    least = few_rows(pair, x, y)
    nest = plate_nesting(pair, *least)
    moved = moved_observations(pair, *least) if num_samples > 1 else set()
    own_model, own_guide = programs(pair)
    guide = ExactLabels()(parallel(own_guide)) if exact else parallel(own_guide)
    guide, model = poutine.enum(guide, first_available_dim=-1 - nest), poutine.enum(parallel(own_model))
    p, q = _one(model, guide, x, y)
    names = row_plates(pair, x, y, p, q)
    mark_rows(names, p, q)
    yield p, q, 1
    summed = any("_enumerate_dim" in site["infer"] for trace in (p, q) for site in sampled(trace).values())
    if not summed:  # every handler costs time
        guide = ExactLabels()(own_guide) if exact else own_guide
    left, points, labels, times = num_samples - 1, x, y, 1
    apart = left and len(least[0]) <= 2 and rows_apart(p, q, len(x), names)
    at_once = min(left, most_rows // len(x)) if apart else 1
    seen = {name: value for name, value in observations(p).items() if name not in moved}
    model = poutine.condition(own_model, seen)
    with pyro.validation_enabled(False):  # of the first draw it is enough
        while left:
            if times != max(1, min(at_once, left)):
                times = min(at_once, left)
                points = x.repeat(times, *[1] * (x.dim() - 1))
                labels = None if y is None else y.repeat(times, *[1] * (y.dim() - 1))
                model = poutine.condition(own_model, repeated(p, seen, len(x), times))
            further = _one(poutine.enum(parallel(model)) if summed else model, guide, points, labels)
            mark_rows(names, *further)
            yield *further, times
            left -= times


def rows_apart(p: Trace, q: Trace, n: int, plates: frozenset[str]) -> bool:
    """Whether every site is in one plate over all n rows, so that several draws can be rows of one run.

    Not so of a latent that all rows share, nor of a plate that subsamples, whose choice each draw has anew, nor of a
    mask or a scale of each row, which may be of the row's place.

    :param plates: over rows, by name.
    """
    sites = [site for trace in (p, q) for site in sampled(trace).values()]
    told = [site[what] for site in sites for what in ("mask", "scale")]
    if any(isinstance(value, Tensor) and value.numel() > 1 for value in told) or any(map(subsamples, sites)):
        return False
    names = [
        {f.name for f in site["cond_indep_stack"] if f.dim is not None and f.size == n == (f.full_size or n)}
        for site in sites
    ]
    return len(set.intersection(*names) & plates) == 1


def repeated(p: Trace, values: dict[str, Tensor], n: int, times: int) -> dict[str, Tensor]:
    """Return values of the model's sites with their rows repeated, as those of several draws in one run.

    :param n: rows.
    """
    found = {}
    for name, value in values.items():
        site = sampled(p)[name]
        frame = row_frame(site, n)
        assert frame is not None
        dim = frame.dim - site["fn"].event_dim
        rows = -dim <= value.dim() and value.shape[dim] == n
        found[name] = torch.cat([value] * times, dim) if rows else value
    return found


def moved_observations(pair: nn.Module, x: Tensor, y: Tensor | None) -> set[str]:
    """Return the observed sites whose values are computed of latents, by runs on these rows at two draws of them."""
    devices = [x.device] if x.device.type == "cuda" else []
    found = []
    with torch.random.fork_rng(devices):
        draws = [run(pair, x, y)[0] for _ in range(2)]
        for p in draws:  # what is drawn at random, such as binarised pixels, is the same in both
            torch.default_generator.manual_seed(0)
            for device in devices:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(0)
            found.append(observations(poutine.trace(poutine.replay(programs(pair)[0], p)).get_trace(x, y)))
    return {name for name, value in found[0].items() if name in found[1] and not torch.equal(value, found[1][name])}


def _one(model: Program, guide: Program, x: Tensor, y: Tensor | None) -> tuple[Trace, Trace]:
    """The traces at one draw, with log-probabilities."""
    q = poutine.trace(guide).get_trace(x, y)
    p = poutine.trace(poutine.replay(model, q)).get_trace(x, y)
    for trace in (p, q):
        for site in sampled(trace).values():
            trace_log_prob(site)
    return p, q
