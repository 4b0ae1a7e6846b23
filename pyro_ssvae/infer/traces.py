"""Traces of a pair: which sites are latents, in which plates; the guide's, and the model's run against it."""

from __future__ import annotations

from typing import Any, TypeAlias

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor, nn

from ..errors import InputError
from .automatic import check_row_latents, few_rows, other_rows
from .label_inference import ExactLabels
from .pairs import Program, programs

Site: TypeAlias = dict[str, Any]
Trace: TypeAlias = Any  # pyro.poutine.Trace, whose nodes have no types
PARTS_OF_X = ("x_observed", "x_unobserved")
"""What Pyro makes of a site ``x`` with an ``obs_mask``, which is then computed of them."""


def sampled(trace: Trace) -> dict[str, Site]:
    """Return a trace's sites of ``pyro.sample`` by name, plates left out."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not isinstance(site["fn"], _Subsample)
    }


def is_computed(site: Site) -> bool:
    """Whether a site is a ``pyro.deterministic``."""
    return bool(site["infer"].get("_deterministic"))


def is_factor(site: Site) -> bool:
    """Whether a site is a ``pyro.factor``."""
    return isinstance(plain(site["fn"]), dist.Unit)


def drawn(fn: torch.distributions.Distribution) -> Tensor:
    """Draw without a gradient; not by ``torch.normal`` where that is possible, which looks at the scales' numbers."""
    with torch.no_grad():
        value: Tensor = fn.rsample() if fn.has_rsample else fn.sample()
    return value


def plain(fn: Any) -> Any:
    """Return a distribution without what only masks it, expands it or counts dimensions as an event."""
    while hasattr(fn, "base_dist") and not isinstance(fn, torch.distributions.TransformedDistribution):
        fn = fn.base_dist
    return fn


def unscaled(site: Site) -> Tensor:
    """Return a site's log-probability with its mask, without its scale."""
    value: Tensor = scale_and_mask(site["unscaled_log_prob"], mask=site["mask"])
    return value


def subsamples(site: Site) -> bool:
    """Whether a site is in a plate, beside that over rows (:func:`mark_rows`), that has some of its elements."""
    frames = (f for f in site["cond_indep_stack"] if f.name not in site.get("row_plates", ()))
    return any(f.full_size and f.full_size != f.size for f in frames)


def row_frame(site: Site, n: int) -> CondIndepStackFrame | None:
    """Return the plate over n rows that a site is in: what :func:`mark_rows` found, else ``data``, or the first of
    their number; None where it is in none."""
    frames = [f for f in site["cond_indep_stack"] if f.dim is not None and f.size == n]
    names = site.get("row_plates", {"data"})
    found = next((f for f in frames if f.name in names), None)
    return frames[0] if found is None and frames and "row_plates" not in site else found


def row_plates(pair: nn.Module, x: Tensor, y: Tensor | None, *traces: Trace) -> frozenset[str]:
    """Return the names of the plates over rows. Where other plates are of as many elements, these are the ones that a
    run on another number of rows has of that number.

    :param traces: runs on these rows.
    :raises InputError: such a run is not possible.
    """
    sites = [site for trace in traces for site in sampled(trace).values()]
    stacks = [{f.name for f in s["cond_indep_stack"] if f.dim is not None and f.size == len(x)} for s in sites]
    found = frozenset[str]().union(*stacks)
    if all("data" in names for names in stacks if names):
        return found & {"data"}
    if len(found) == 1:
        return found
    n = len(x) - 1 or 2
    try:
        with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []), poutine.block():
            others = run(pair, *other_rows(x, y, n))
    except Exception:  # of a program of one's own
        raise InputError(f"plates {', '.join(sorted(found))}: each has {len(x)} elements, as x has rows; the plate "
                         "over rows must be named 'data'") from None  # fmt: skip
    frames = [f for trace in others for site in sampled(trace).values() for f in site["cond_indep_stack"]]
    return found & {f.name for f in frames if f.size == n}


def mark_rows(names: frozenset[str], *traces: Trace) -> None:
    """Note at every site which plates are those over rows: :func:`row_plates`."""
    for trace in traces:
        for site in sampled(trace).values():
            site["row_plates"] = names


def run(pair: nn.Module, x: Tensor, y: Tensor | None) -> tuple[Trace, Trace]:
    """Return the model's trace, replayed against one draw of the guide, and the guide's.

    :raises OtherRowsError: a value that is held, as by ``pyro.condition``, is of other rows.
    """
    model, guide = programs(pair)
    with SameRows():
        q = poutine.trace(guide).get_trace(x, y)
        return poutine.trace(poutine.replay(model, q)).get_trace(x, y), q


class OtherRowsError(InputError):
    """Values that a program holds, as by ``pyro.condition``, are of other rows than it is run on."""


class SameRows(poutine.messenger.Messenger):
    """Raise :class:`OtherRowsError` where observed values are of another number of elements than their plates have."""

    def _pyro_post_sample(self, msg: Site) -> None:
        if not (msg["is_observed"] and isinstance(msg["value"], Tensor)) or is_computed(msg):
            return
        shape = msg["value"].shape[: msg["value"].dim() - len(msg["fn"].event_shape)]
        for frame in msg["cond_indep_stack"]:
            size = shape[frame.dim] if frame.dim is not None and -frame.dim <= len(shape) else 1
            if size not in (1, frame.size):
                raise OtherRowsError(f"site {msg['name']!r}: values of {size} rows, where plate {frame.name!r} has "
                                f"{frame.size}; those of the same rows are needed")  # fmt: skip


def plate_nesting(pair: nn.Module, x: Tensor, y: Tensor | None) -> int:
    """Return how many dimensions the pair's plates take, by a run on these rows."""
    check_row_latents(pair, x, y)
    with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        p, q = run(pair, x, y)
    frames = (frame for trace in (p, q) for site in sampled(trace).values() for frame in site["cond_indep_stack"])
    return max((-frame.dim for frame in frames if frame.dim is not None), default=0)


def traced(pair: nn.Module, x: Tensor, y: Tensor | None, *, exact: bool = False) -> tuple[Trace, Trace]:
    """Return the model's trace, replayed against one draw of the guide, and the guide's; nothing is enumerated.

    :param exact: draw missing labels from q(y | x), also where the pair relaxes them.
    :raises InputError: a latent of the guide is none of the model's.
    """
    check_row_latents(pair, x, y)
    model, guide = programs(pair)
    guide = ExactLabels(enumerate_most=0)(guide) if exact else guide
    with SameRows():
        q = poutine.trace(guide).get_trace(x, y)
        p = poutine.trace(poutine.replay(model, q)).get_trace(x, y)
    check_latents(p, q)
    mark_rows(row_plates(pair, x, y, p, q), p, q)
    return p, q


def trace_log_prob(site: Site) -> None:
    """Note a site's log-probability, as ``Trace.compute_log_prob`` does, without its sum over everything.

    A value that is enumerated, and whose probability was given as 0, is ruled out; PyTorch has ``log(eps)`` there.
    """
    try:
        log_p = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    except ValueError as error:
        raise ValueError(f"Error while computing log_prob at site {site['name']!r}:\n{error}") from error
    if site["infer"].get("_enumerate_dim") is not None:
        log_p = log_p.masked_fill(ruled_out(plain(site["fn"]), site["value"]), -torch.inf)
    site["unscaled_log_prob"] = log_p
    site["log_prob"] = scale_and_mask(log_p, site["scale"], site["mask"])


def ruled_out(fn: object, value: Tensor) -> Tensor:
    """Where a categorical distribution that was made of probabilities has exactly 0: bool, as its log-probability."""
    if type(fn) is not dist.Categorical or "probs" not in vars(fn):
        return torch.zeros((), dtype=torch.bool, device=value.device)
    places, probs = torch.broadcast_tensors(value.long().unsqueeze(-1), fn.probs)
    return probs.gather(-1, places[..., :1]).squeeze(-1) == 0


def parallel(program: Program) -> Program:
    """Return the program with sites that it enumerates one after another enumerated at once."""

    def config(site: Any) -> Any:
        return {"enumerate": "parallel"} if site["infer"].get("enumerate") == "sequential" else {}

    return poutine.infer_config(program, config_fn=config)


def observations(trace: Trace) -> dict[str, Tensor]:
    """Return the values of a trace's observed sites; what is computed, or a plate's subsample, is another in each
    draw."""
    seen = {n: s for n, s in sampled(trace).items() if s["is_observed"] and not subsamples(s)}
    return {n: s["value"] for n, s in seen.items() if not (is_factor(s) or is_computed(s))}


def need_site(trace: Trace, name: str, verb: str) -> Site:
    """Return a site of the model; raise :class:`InputError` where it has none of that name."""
    sites = sampled(trace)
    if name not in sites:
        known = ", ".join(sites) or "none"
        raise InputError(f"{verb}: the model has no site {name!r} (its sites: {known})")
    return sites[name]


def check_latents(p: Trace, q: Trace) -> None:
    """Raise :class:`InputError` where a latent of the guide, unless it is marked as auxiliary, is none of the model's,
    or has an event of another shape there.

    So it is once the model's is renamed, conditioned on, blocked, or made anew by a ``reparam``. ``-log q`` alone
    bounds nothing.
    """
    latents = [n for n, s in sampled(p).items() if not (s["is_observed"] or is_factor(s) or is_computed(s))]
    for name in own_latents(sampled(q)):
        if name not in latents:
            raise InputError(f"site {name!r} of the guide is no latent of the model (its latents: "
                             f"{', '.join(latents) or 'none'}); both must have the same")  # fmt: skip
        shapes = [list(sampled(trace)[name]["fn"].event_shape) for trace in (p, q)]
        if shapes[0] != shapes[1]:
            raise InputError(f"site {name!r}: an event of shape {shapes[0]} in the model, of {shapes[1]} in the guide; "
                             "both must be alike, as by .to_event(1)")  # fmt: skip


def has_bound(pair: nn.Module, x: Tensor) -> bool:
    """Whether the pair has a site ``x`` and a latent site in the guide, by a run on two rows."""
    p, q = run(pair, *few_rows(pair, x, None))
    return "x" in sampled(p) and any(not is_factor(site) for site in sampled(q).values())


class Unobserved(poutine.uncondition_messenger.UnconditionMessenger):
    """``poutine.uncondition``, by which what is computed (``pyro.deterministic``) stays: as a draw it would be expanded
    by its plates.

    :param all_sites: False leaves what is observed beside ``x`` as it is.
    :param but: sites that are left in any case.
    :ivar observed: the values of the sites beside ``x`` that came observed.
    """

    def __init__(self, all_sites: bool = True, but: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.all_sites, self.but = all_sites, but
        self.observed: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if is_computed(msg):
            return
        if name not in ("x", *PARTS_OF_X) and msg["is_observed"] and not is_factor(msg):
            self.observed[name] = msg["value"]
        if name in ("x", *PARTS_OF_X) or (self.all_sites and name not in self.but):
            super()._pyro_sample(msg)


def own_latents(sites: dict[str, Site]) -> list[str]:
    """Return the latents of a guide that the model must have."""
    return [
        name
        for name, site in sites.items()
        if not (site["is_observed"] or is_factor(site) or is_computed(site) or site["infer"].get("is_auxiliary"))
        and site["mask"] is not False
    ]
