"""Missing entries of x, filled from the posterior: importance-weighted means or draws.

With S draws of the guide at a point of which x_obs (and some labels) are known, ::

    w_s = p(x_obs, y, z_s) / q(z_s, y_mis | x_obs)        E[x_mis | x_obs] ≈ Σ_s w_s E[x_mis | z_s, y] / Σ_s w_s

which tends to the exact mean as S grows, whatever the guide. A draw is x_mis ~ p(x | z_s, y) with s drawn in
proportion to w_s (sampling-importance-resampling).

Source: Mattei, Frellsen (2019), MIWAE, arXiv:1812.02633, equations 12 and 13.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from pyro import poutine
from torch import Tensor, nn

from ..data.pair_protocols import ChecksPoints
from ..distributions.columns import Columns
from ..distributions.counts import Codes, sized_as
from ..distributions.observed import ObservedEntries
from ..errors import InputError, whole_number
from .batched import batched, checked
from .label_inference import ExactLabels
from .pairs import PairLike, as_pair, programs
from .terms import Draw
from .traces import Site, Trace, is_computed, mark_rows, need_site, plain, row_plates, sampled, trace_log_prob


def impute(
    pair: PairLike,
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    num_samples: int = 100,
    draws: bool = False,
    seed: int | None = None,
) -> Tensor:
    """Return ``x`` with its missing entries (NaN) filled: ``[B, *input_shape]``; observed entries are unchanged.

    :param pair: a model of the library, or any pair whose site ``x`` is observed, a distribution for each entry. The
        guide of a pair of one's own sees 0 where an entry is missing.
    :param y: labels, -1 where missing; they are drawn there.
    :param num_samples: S, draws of the guide for each row.
    :param draws: a draw of x_mis in place of its mean. The mean of a category is the most probable one.
    :param seed: of the random numbers; None takes them as they come.
    :raises InputError: points or labels that do not fit, or a pair without a site ``x`` over entries.

    Example::

        full = ps.impute(vae, x)  # as x, NaN replaced
    """
    module = as_pair(pair)
    num_samples = whole_number("num_samples", num_samples)
    points, labels = checked(module, x, y, gaps=True)
    if not points.isnan().any():
        return points
    filler = Filler(module, num_samples, draws)
    return batched(module, filler.rows, points, labels, seed=seed)


class Filler:
    """Fills some rows: see :func:`impute`."""

    def __init__(self, pair: nn.Module, num_samples: int, draws: bool) -> None:
        self.pair, self.num_samples, self.draws = pair, num_samples, draws
        self.own = not isinstance(pair, ChecksPoints)

    def rows(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``[B, *input_shape]`` of rows with missing entries."""
        missing = x.isnan()
        total = x.new_full((len(x),), -torch.inf)
        sums: list[Tensor] = []
        for s in range(self.num_samples):
            p, q = self.traces(x, missing, y)
            log_w = self.log_weight(Draw(p, q, len(x)))
            if log_w.isnan().any():
                raise InputError("impute: the model's joint is no number where entries of x are missing")
            total = torch.logaddexp(total, log_w)
            share = torch.where(total.isneginf(), 1 / (s + 1), (log_w - total).exp())  # of the weights so far
            fn = self.p_x(p, x)
            if self.draws:
                values, share = [fn.sample()], torch.bernoulli(share.clamp(0, 1))
            else:
                values = averaged(fn)
            sums = [mixed(old, new, share) for old, new in zip(sums or values, values)]
        filled = sums[0] if self.draws else restored(fn, sums)
        if not filled[missing].isfinite().all():
            kind = type(plain(fn)).__name__
            raise InputError(f"impute: the mean of a {kind} is no finite number there; draws=True has draws of it")
        return torch.where(missing, filled, x)

    def log_weight(self, draw: Draw) -> Tensor:
        """``log w`` of each row. What all rows share must be the same in all draws; then it weighs none of them."""
        for name in draw.outside():
            known = draw.p[name]["is_observed"] if name not in draw.q else is_point(draw.q[name])
            if not known:
                raise InputError(
                    f"impute: site {name!r} is in no plate over the rows, and differs from draw to draw, so that rows "
                    "have no weights of their own; a point mass of it in the guide is needed"
                )
        return draw.log_weight_of_rows()

    def traces(self, x: Tensor, missing: Tensor, y: Tensor | None) -> tuple[Trace, Trace]:
        """The model's and the guide's trace at one draw, with log-probabilities; missing labels are drawn."""
        model, guide = programs(self.pair)
        seen = torch.where(missing, 0.0, x) if self.own else x
        with pyro.validation_enabled(False):
            q = poutine.trace(ExactLabels(enumerate_most=0)(guide)).get_trace(seen, y)
            replayed = poutine.replay(model, q)
            if self.own:
                replayed = LeaveOut(missing)(replayed)
            p = poutine.trace(replayed).get_trace(seen, y)
            for trace in (p, q):
                for site in sampled(trace).values():
                    trace_log_prob(site)
            mark_rows(row_plates(self.pair, seen, y, p, q), p, q)
        return p, q

    def p_x(self, p: Trace, x: Tensor) -> dist.TorchDistribution:
        """p(x | z, y) of rows as large as these."""
        site = need_site(p, "x", "impute")
        if is_computed(site):
            raise InputError("impute: site x is computed (pyro.deterministic, obs_mask); an observed one is needed")
        fn: dist.TorchDistribution = site["fn"]
        shape = fn.batch_shape + fn.event_shape
        if shape != x.shape:
            raise InputError(f"impute: site x has shape {list(shape)}, and the points {list(x.shape)}")
        return sized_as(fn, x)


def is_point(site: Site) -> bool:
    """Whether a site of the guide is a point mass."""
    return isinstance(plain(site["fn"]), dist.Delta)


def averaged(fn: dist.TorchDistribution) -> list[Tensor]:
    """What of a distribution may be averaged over draws: means, of categories their probabilities."""
    if isinstance(fn, Columns):
        return [value for part in fn.parts for value in averaged(part)]
    codes = fn.base_dist if isinstance(fn, ObservedEntries) else None
    return [codes.logits.softmax(-1)] if isinstance(codes, Codes) else [fn.mean]


def restored(fn: dist.TorchDistribution, values: list[Tensor]) -> Tensor:
    """The points of what :func:`averaged` gave: ``[B, *input_shape]``."""
    if isinstance(fn, Columns):
        return fn.joined([restored(part, [value]) for part, value in zip(fn.parts, values)])
    coded = isinstance(fn, ObservedEntries) and isinstance(fn.base_dist, Codes)
    return values[0].argmax(-1).to(values[0]) if coded else values[0]


def mixed(old: Tensor, new: Tensor, share: Tensor) -> Tensor:
    """``old + share (new - old)`` with a share of each row, ``[B]``: at 0 and 1 exactly one of the two."""
    share = share.reshape(-1, *(1,) * (new.dim() - 1))
    return torch.where(share < 1, torch.where(share > 0, old + share * (new - old), old), new)


class LeaveOut(poutine.messenger.Messenger):
    """At the observed site ``x`` of a pair of one's own leave out the entries that are missing."""

    def __init__(self, missing: Tensor) -> None:
        super().__init__()
        self.missing = missing

    def _pyro_sample(self, msg: Site) -> None:
        if msg["name"] != "x":
            return
        fn, value = msg["fn"], msg["value"]
        entries = isinstance(fn, dist.Independent) and not fn.base_dist.event_shape
        if not entries or value is None or value.shape != self.missing.shape:
            raise InputError(
                f"impute: site x is a {type(fn).__name__}; an observed distribution for each entry, such as "
                "Normal(...).to_event(1), is needed, so that some can be left out"
            )
        msg["fn"] = ObservedEntries(fn.base_dist, fn.reinterpreted_batch_ndims, value)
        msg["value"] = torch.where(self.missing, torch.nan, value)
