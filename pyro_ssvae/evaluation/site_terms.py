"""The terms of an ELBO at one draw of the guide, site by site and point by point."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import pyro.distributions as dist
import torch
from pyro.infer import ELBO
from torch import Tensor

from ..distributions.relaxed import PlugIn
from ..errors import InputError
from ..infer.traces import Site, Trace, is_factor, plain, row_frame, sampled, unscaled


@runtime_checkable
class HasTerms(Protocol):
    """An objective that is not of the form ``E_q[log p - log q]`` and says its own terms."""

    def terms(self, p: Trace, q: Trace, x: Tensor, y: Tensor | None) -> dict[str, Tensor]: ...


class SiteTerms:
    """The sites at one draw of the guide: ``log_p``, ``log_q`` and ``terms``, each by name ``[B]``."""

    def __init__(self, p: Trace, q: Trace, elbo: ELBO, x: Tensor, y: Tensor | None) -> None:
        p.compute_log_prob()
        q.compute_log_prob()
        self.n, self.p, self.q = len(x), sampled(p), sampled(q)
        used = [f.dim for site in self.everything for f in site["cond_indep_stack"] if f.dim is not None]
        self.nest = max([-dim for dim in used], default=0)
        values = {name: site for name, site in {**self.p, **self.q}.items() if "_enumerate_dim" in site["infer"]}
        self.dims = {site["infer"]["_enumerate_dim"]: name for name, site in values.items()}
        self.exact = self._posteriors([name for name in values if name not in self.q])
        self.kinds = {name: kind(self.p.get(name), self.q.get(name)) for name in {**self.p, **self.q}}
        self.log_p = {name: self._a_point(site, unscaled(site)) for name, site in self.p.items()}
        self.log_q = {n: self._a_point(s, unscaled(s)) for n, s in self.q.items() if not is_factor(s)}
        self.log_q |= {", ".join(group): self._a_point(self.p[group[0]], log_q) for group, log_q, _ in self.exact}
        self.terms = dict(elbo.terms(p, q, x, y)) if isinstance(elbo, HasTerms) else self._terms()

    @property
    def everything(self) -> list[Site]:
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

    def _depends(self, site: Site) -> set[int]:
        """The enumerated dimensions that a site's log-probability varies along."""
        shape = unscaled(site).shape
        return {dim for dim in self.dims if -dim <= len(shape) and shape[dim] > 1}

    def _exact_dims(self, group: list[str]) -> set[int]:
        return {self.p[name]["infer"]["_enumerate_dim"] for name in group}

    def _posteriors(self, names: list[str]) -> list[tuple[list[str], Tensor, Tensor | float]]:
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

    def _a_point(self, site: Site, log_prob: Tensor) -> Tensor:
        """A site's log-probability, averaged over enumerated values, summed over plates: ``[B]``."""
        dims = {dim for dim in self.dims if -dim <= log_prob.dim() and log_prob.shape[dim] > 1}
        if dims:
            weights = self._weights(dims).exp()
            log_prob = weights * torch.where(weights > 0, log_prob, 0.0)
            log_prob = log_prob.sum(list(range(log_prob.dim() - self.nest)))
        log_prob = log_prob.reshape(log_prob.shape[max(log_prob.dim() - self.nest, 0) :])
        frame = row_frame(site, self.n)
        if frame is None or frame.dim is None or -frame.dim > log_prob.dim() or log_prob.shape[frame.dim] != self.n:
            return log_prob.sum().expand(self.n) / self.n
        return log_prob.movedim(frame.dim, 0).reshape(self.n, -1).sum(1)


def kind(p: Site | None, q: Site | None) -> str:
    """What a site is: of the model ``p`` and the guide ``q``, where they have it.

    ``enumerated`` (summed over), ``relaxed`` (a label between labels), ``observed``, ``factor``, ``deterministic`` (a
    point mass, or handed over by the guide), ``auxiliary`` (in the guide alone) or ``latent``.
    """
    found = [site for site in (q, p) if site is not None]
    if any("_enumerate_dim" in site["infer"] for site in found):
        return "enumerated"
    if all(is_factor(site) for site in found):
        return "factor"
    if isinstance(found[0]["fn"], PlugIn):
        return "relaxed"
    if p is None:
        return "auxiliary"
    if p["infer"].get("_deterministic") or isinstance(plain(found[0]["fn"]), dist.Delta):
        return "deterministic"
    return "observed" if p["is_observed"] and q is None else "latent"
