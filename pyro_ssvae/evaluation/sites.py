"""What a pair says of each point, site by site: log-probabilities, and the terms that its ELBO is the sum of.

Any module with ``model(x, y)`` and ``guide(x, y)``: the library's, or one of one's own.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

from ..data.augment import unit_scale
from ..errors import InputError
from ..train.fit import check_data
from .evaluate import evaluating


@dataclass(frozen=True, eq=False)
class Sites:
    """What :func:`sites` returns; a notebook shows its ``table``.

    :ivar table: one row a site, in the order of the model's program: ``kind``, ``shape`` (of one draw, plates first),
        ``plates``, and the means over points of ``log p``, ``log q`` and ``term``, in nats a point. The column
        ``term`` sums to the mean ELBO.
    :ivar log_p: ``[B, sites]``: log-probability a point under the model, E over enumerated values, scales left out.
    :ivar log_q: the same under the guide.
    :ivar terms: ``[B, terms]``: nats a point; a row's sum is that point's ELBO. Scales (α, β) are in it.
    :ivar bound: the objective's class.
    """

    table: pd.DataFrame
    log_p: pd.DataFrame
    log_q: pd.DataFrame
    terms: pd.DataFrame
    bound: str

    @property
    def elbo(self) -> Tensor:
        """The objective's ELBO of each point: ``[B]`` nats."""
        return torch.from_numpy(self.terms.to_numpy(copy=True)).sum(1)

    def __repr__(self) -> str:
        return f"{self.bound}, {len(self.terms)} points, nats a point\n{self.table.to_string(float_format='%.4g')}"

    def _repr_html_(self) -> str:
        html: str = self.table.to_html(float_format="%.4g")
        return html


def sites(vae: nn.Module, x: Any, y: Any = None, *, num_samples: int = 1, seed: int = 0) -> Sites:
    """The table of the sites that a pair's ELBO visits at ``x`` and ``y``, in evaluation mode, without gradients.

    An enumerated site of the guide enters as the sum that the ELBO has, ``Σ_y q(y) log p(y, ...)``. One that the
    model enumerates and the guide lacks enters with its exact posterior given the draws, ``q(y) = p(y | x, z)``, so
    that its term holds that posterior's entropy and the terms sum to ``log Σ_y p(x, y, z)``.

    The ELBO is that of ``vae.objective()``, so with the weights of training (α, β, the prior on π);
    ``vae.elbo(x, y)`` is without them. An objective that is not of the form ``E_q[log p - log q]`` says its own terms
    by a method ``terms(model_trace, guide_trace, x, y)``, a dict of ``[B]``, as the ReVAE's does. One that is a sum of
    several ELBOs has a method ``parts(model, guide, x, y)`` that lists them, as the MVAE's: the sites are those of the
    first, and each further ELBO is one more term. Where there is no ``objective()``, TraceEnum_ELBO. A site outside
    the plate over points adds an equal share to each.

    :param x: points ``[B, ...]``.
    :param y: labels, -1 where missing.
    :param num_samples: draws of the guide that all numbers are the means of.
    :returns: :class:`Sites`.
    :raises InputError: points or labels that do not fit the model.

    Example::

        s = ps.sites(vae, x[:8])
        s.table  # kind, shape, log p, log q and term of each site
        s.terms.idxmin(axis=1)  # each point's dearest term
    """
    x, y = check_data_of(vae, x, y)
    if num_samples < 1:
        raise InputError(f"num_samples: {num_samples}; at least 1 is needed")
    with evaluating(vae, seed):
        p, q = traced(vae, x, y)
    nest = max((-frame.dim for site in sampled(p).values() for frame in site["cond_indep_stack"]), default=0)
    plain_elbo = TraceEnum_ELBO(max_plate_nesting=nest, strict_enumeration_warning=False)
    pair: Any = vae
    elbo = pair.objective() if hasattr(pair, "objective") else plain_elbo
    parts = getattr(elbo, "parts", lambda model, guide, x, y: [("", model, guide, (x, y))])
    draws: list[_Draw] = []
    with evaluating(vae, seed), warnings.catch_warnings():
        # Pyro warns that a site may depend on an enumerated one of another plate, which for the ReVAE's x is not so.
        warnings.filterwarnings("ignore", ".*possibly invalid dependency")
        for _ in range(num_samples):
            (_, *whole), *further = parts(pair.model, pair.guide, x, y)
            found = [_Draw(p_s, q_s, elbo, x, y) for p_s, q_s in _traces(elbo, *whole)]
            for name, *part in further:
                more = (_Draw(p_s, q_s, elbo, x, y) for p_s, q_s in _traces(elbo, *part))
                for draw, bound in zip(found, more):
                    draw.terms[name] = torch.stack(list(bound.terms.values())).sum(0)
            draws.extend(found)
    first = draws[0]

    def mean(part: str) -> pd.DataFrame:
        columns = {name: [getattr(draw, part)[name] for draw in draws] for name in getattr(first, part)}
        stacked = {name: torch.stack(rows).double().mean(0).cpu().numpy() for name, rows in columns.items()}
        return pd.DataFrame(stacked, index=pd.RangeIndex(len(x), name="point"))

    log_p, log_q, terms = mean("log_p"), mean("log_q"), mean("terms")
    rows = {name: (kind, *place({**sampled(q), **sampled(p)}[name])) for name, kind in first.kinds.items()}
    rows |= {name: ("term of the bound", "", "") for name in terms if name not in rows}
    index = pd.Index(list(rows), name="site")
    table = pd.DataFrame(list(rows.values()), columns=["kind", "shape", "plates"], index=index)
    for name, values in (("log p", log_p), ("log q", log_q), ("term", terms)):
        table[name] = values.mean().reindex(table.index)
    return Sites(table, log_p, log_q, terms, type(elbo).__name__)


def check_data_of(vae: nn.Module, x: Any, y: Any) -> tuple[Tensor, Tensor | None]:
    """``x`` and ``y`` as :func:`~.fit.fit` takes them, one point or more, as tensors where the model is."""
    x, checked = check_data(vae, x, y, least=1)
    p = next((p for p in vae.parameters() if p.is_floating_point()), torch.zeros(()))
    x = unit_scale(x).to(p)
    return x, None if y is None else checked.to(p.device)


def _traces(elbo: Any, model: Any, guide: Any, args: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    """The traces that an ELBO sums, of the model and of the guide."""
    return list(elbo._get_traces(model, guide, args, {}))


class _Draw:
    """The sites at one draw of the guide: ``log_p``, ``log_q`` and ``terms``, each by name ``[B]``."""

    def __init__(self, p: Any, q: Any, elbo: Any, x: Tensor, y: Tensor | None) -> None:
        p.compute_log_prob()
        q.compute_log_prob()
        self.n, self.p, self.q = len(x), sampled(p), sampled(q)
        used = [f.dim for site in self.everything for f in site["cond_indep_stack"] if f.dim is not None]
        self.nest = max([-dim for dim in used], default=0)
        values = {name: site for name, site in {**self.p, **self.q}.items() if "_enumerate_dim" in site["infer"]}
        self.dims = {site["infer"]["_enumerate_dim"]: name for name, site in values.items()}
        self.exact = self._posteriors([name for name in values if name not in self.q])
        self.kinds = {name: kind(self.p.get(name), self.q.get(name)) for name in {**self.p, **self.q}}
        own = getattr(elbo, "terms", None)
        self.log_p = {name: self._a_point(site, unscaled(site)) for name, site in self.p.items()}
        self.log_q = {name: self._a_point(site, unscaled(site)) for name, site in self.q.items()}
        self.log_q |= {", ".join(group): self._a_point(self.p[group[0]], log_q) for group, log_q, _ in self.exact}
        self.terms = dict(own(p, q, x, y)) if own is not None else self._terms()

    @property
    def everything(self) -> list[Any]:
        return [*self.p.values(), *self.q.values()]

    def _terms(self) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}

        def add(name: str, value: Tensor) -> None:
            terms[name] = terms[name] + value if name in terms else value

        for name, site in self.p.items():
            scale = next((s for group, _, s in self.exact if self._exact_dims(group) & self._depends(site)), None)
            log_p = site["log_prob"] if scale is None else unscaled(site) * scale
            add(name, self._a_point(site, log_p))
        for name, site in self.q.items():
            add(name, -self._a_point(site, site["log_prob"]))
        for group, log_q, scale in self.exact:
            add(", ".join(group), -scale * self._a_point(self.p[group[0]], log_q))
        return terms

    def _depends(self, site: Any) -> set[int]:
        """The enumerated dimensions that a site's log-probability varies along."""
        shape = unscaled(site).shape
        return {dim for dim in self.dims if -dim <= len(shape) and shape[dim] > 1}

    def _exact_dims(self, group: list[str]) -> set[int]:
        return {self.p[name]["infer"]["_enumerate_dim"] for name in group}

    def _posteriors(self, names: list[str]) -> list[tuple[list[str], Tensor, Any]]:
        """``log p(y | x, z)`` of the sites that the model alone enumerates, those that depend on each other together.

        Each with the scale that TraceEnum_ELBO applies outside of the sum.
        """
        groups: list[set[str]] = []
        for site in self.p.values():
            linked = {self.dims[dim] for dim in self._depends(site)} & set(names)
            linked |= {str(site["name"])} & set(names)
            merged = [group for group in groups if group & linked]
            groups = [group for group in groups if not group & linked]
            if linked:
                groups.append(linked.union(*merged))
        found = []
        for chosen in groups:
            group = [name for name in self.p if name in chosen]
            dims, plates = self._exact_dims(group), [self.p[name]["cond_indep_stack"] for name in group]
            if any(stack != plates[0] for stack in plates):
                raise InputError(f"sites: {', '.join(group)} are enumerated together, but in different plates")
            inside = {f.dim for f in plates[0]}
            factors = [site for site in self.p.values() if dims & self._depends(site)]
            logits: Tensor = torch.zeros(())
            for site in factors:
                outside = [d for d in range(-min(self.nest, unscaled(site).dim()), 0) if d not in inside]
                value = unscaled(site)
                logits = logits + (value.sum(outside, keepdim=True) if outside else value)
            log_q = logits - logits.logsumexp(sorted(dims), keepdim=True)
            found.append((group, log_q, factors[0]["scale"]))
        return found

    def _weights(self, dims: set[int]) -> Tensor:
        """``log q`` of the enumerated values along these dimensions and those that they depend on."""
        total, todo = torch.zeros(()), set(dims)
        seen: set[int] = set()
        while todo:
            dim = todo.pop()
            if dim in seen:
                continue
            name = self.dims[dim]
            if name in self.q:
                value, seen = unscaled(self.q[name]), seen | {dim}
                todo |= self._depends(self.q[name]) - seen
            else:
                group, value, _ = next(part for part in self.exact if name in part[0])
                seen |= self._exact_dims(group)
                todo |= {d for d in self.dims if -d <= value.dim() and value.shape[d] > 1} - seen
            total = total + value
        return total

    def _a_point(self, site: Any, log_prob: Tensor) -> Tensor:
        """A site's log-probability, averaged over enumerated values, summed over plates: ``[B]``."""
        dims = {dim for dim in self.dims if -dim <= log_prob.dim() and log_prob.shape[dim] > 1}
        if dims:
            weights = self._weights(dims).exp()
            log_prob = weights * torch.where(weights > 0, log_prob, 0.0)
            log_prob = log_prob.sum(list(range(log_prob.dim() - self.nest)))
        log_prob = log_prob.reshape(log_prob.shape[max(log_prob.dim() - self.nest, 0) :])
        frames = [f for f in site["cond_indep_stack"] if f.dim is not None and -f.dim <= log_prob.dim()]
        over = [f for f in frames if log_prob.shape[f.dim] == self.n]
        frame = next((f for f in over if f.name == "data"), over[0] if over else None)
        if frame is None:
            return log_prob.sum().expand(self.n) / self.n
        return log_prob.movedim(frame.dim, 0).reshape(self.n, -1).sum(1)


def sampled(trace: Any) -> dict[str, Any]:
    """A trace's sites of ``pyro.sample`` by name, plates left out."""
    apart = poutine.subsample_messenger._Subsample
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not isinstance(site["fn"], apart)
    }


def traced(vae: nn.Module, x: Tensor, y: Tensor | None) -> tuple[Any, Any]:
    """The model's trace, replayed against one draw of the guide, and the guide's; nothing is enumerated."""
    pair: Any = vae
    q = poutine.trace(pair.guide).get_trace(x, y)
    return poutine.trace(poutine.replay(pair.model, q)).get_trace(x, y), q


def place(site: Any) -> tuple[str, str]:
    """A site's shape and plates in words."""
    shape = " × ".join(map(str, site["value"].shape))
    return shape or "1", ", ".join(f.name for f in reversed(site["cond_indep_stack"]))


def unscaled(site: Any) -> Tensor:
    """A site's log-probability with its mask, without its scale."""
    value: Tensor = scale_and_mask(site["unscaled_log_prob"], mask=site["mask"])
    return value


def kind(p: Any, q: Any) -> str:
    """What a site is: of the model ``p`` and the guide ``q``, where they have it.

    ``enumerated`` (summed over), ``observed``, ``factor``, ``deterministic`` (a point mass, or handed over by the
    guide), ``auxiliary`` (in the guide alone) or ``latent``.
    """
    site = q if q is not None else p
    if any(s is not None and "_enumerate_dim" in s["infer"] for s in (p, q)):
        return "enumerated"
    if p is None:
        return "auxiliary"
    if p["infer"].get("_deterministic") or isinstance(plain(site["fn"]), dist.Delta):
        return "deterministic"
    if isinstance(plain(p["fn"]), dist.Unit):
        return "factor"
    return "observed" if p["is_observed"] and q is None else "latent"


def plain(fn: Any) -> Any:
    """A distribution without what only masks it, expands it or counts dimensions as an event."""
    while hasattr(fn, "base_dist") and not isinstance(fn, dist.TransformedDistribution):
        fn = fn.base_dist
    return fn
