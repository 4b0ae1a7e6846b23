"""The sites of a pair at one draw of the guide, added up: terms of log w, of the ELBO, of a divergence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from ..errors import InputError
from .traces import (
    Site,
    Trace,
    check_latents,
    is_computed,
    is_factor,
    row_frame,
    sampled,
    unscaled,
)


def counted(p: Site, q: Site) -> tuple[Site, Site]:
    """Return a latent's sites, of which ``log p - log q`` is 0 where a mask leaves the model's out, as that of an
    ``obs_mask`` does: there is no such latent. What is enumerated keeps its q, which is a weight of each value."""
    enumerated = q["infer"].get("_enumerate_dim") is not None
    masks = [site["mask"] for site in ((p, q) if enumerated else (p,)) if site["mask"] is not None]
    if not masks:
        return p, q
    log_p, log_q = p["unscaled_log_prob"], q["unscaled_log_prob"]
    if not enumerated:
        log_q = scale_and_mask(log_q, mask=q["mask"])
    for mask in masks:
        log_p = torch.where(torch.as_tensor(mask, device=log_p.device), log_p, log_q)
    return {**p, "unscaled_log_prob": log_p, "mask": None}, {**q, "unscaled_log_prob": log_q, "mask": None}


@dataclass(frozen=True)
class Term:
    """A site's log-probability, signed: what it depends on and what it adds up over."""

    name: str
    value: Tensor
    enumerated: frozenset[int]
    """Dimensions of enumerated sites that it varies along."""
    inner: frozenset[int]
    """Dimensions of plates other than that over rows."""


class Draw:
    """The sites of a pair at one draw of the guide, summed to numbers a row.

    :param p: the model's trace; ``q`` the guide's, both with their log-probabilities.
    :param n: rows.
    :param every: rows that share what is in no plate over rows, where these are a part of them.
    """

    def __init__(self, p: Trace, q: Trace, n: int, every: int | None = None) -> None:
        self.p = {name: site for name, site in sampled(p).items() if not is_computed(site)}
        self.q = {name: site for name, site in sampled(q).items() if not (is_factor(site) or is_computed(site))}
        self.n, self.every = n, every or n
        for name in self.p.keys() & self.q.keys():
            self.p[name], self.q[name] = counted(self.p[name], self.q[name])
        if not self.q:
            raise InputError("the guide has no latent site, so that there is nothing to bound; a pair with latents has")
        if self.p:  # else of the guide alone
            check_latents(p, q)
        sites = [*self.p.values(), *self.q.values()]
        self.nest = max((-f.dim for s in sites for f in s["cond_indep_stack"] if f.dim is not None), default=1)
        found = {site["name"]: site["infer"].get("_enumerate_dim") for site in sites}
        self.dims = {dim: name for name, dim in found.items() if dim is not None}
        self.in_guide = frozenset(dim for dim, name in self.dims.items() if name in self.q)
        self.log_q = [self.term(site) for name, site in self.q.items() if name in self.dims.values()]

    def weights(self) -> list[Term]:
        """Return what ``log w`` is the sum of."""
        latent = (site for name, site in self.q.items() if name not in self.dims.values())
        joint = (site for site in self.p.values() if not self.from_prior(site))
        return [*map(self.term, joint), *(self.term(site, -1) for site in latent)]

    def from_prior(self, site: Site) -> bool:
        """Whether the model draws a site by itself, as the guide lacks it: p drew it, and log p - log q is 0."""
        name = site["name"]
        return not (site["is_observed"] or is_factor(site) or name in self.q or name in self.dims.values())

    def elbo(self) -> Tensor:
        """``Σ_y q(y) [ log w - log q(y) ]``, ``[B]``; values of y of the model alone are summed inside log w."""
        return self._total(self.weights(), self._expected_log)

    def log_weight(self) -> Tensor:
        """``log Σ_y w``, ``[B]``."""
        if why := self.joined_rows():
            raise InputError(f"log_likelihood: {why}")
        return self._total(self.weights(), self._log_sum)

    def joined_rows(self) -> str | None:
        """Why rows have no likelihood of their own; None where they have."""
        for site in [*self.p.values(), *self.q.values()]:
            if self.share(site) != 1:
                return (f"site {site['name']!r} is in a plate that subsamples, of which elbo alone has an unbiased "
                        "estimate")  # fmt: skip
        if outside := self.outside():
            return (f"site {outside[0]!r} is in no plate over the rows, so that rows have no likelihood of their own; "
                    "elbo shares it out")  # fmt: skip
        return None

    def log_weight_of_rows(self) -> Tensor:
        """``log Σ_y w`` of the sites in the plate over rows, given the others, ``[B]``."""
        outside = set(self.outside())
        return self._total([term for term in self.weights() if term.name not in outside], self._log_sum)

    def outside(self) -> list[str]:
        """The sites that are in no plate over rows."""
        return [site["name"] for site in [*self.p.values(), *self.q.values()] if self.row_dim(site) is None]

    def divergence(self) -> Tensor:
        """``Σ_y q(y) [ log q(z, y) - log p(z, y) ]`` of all that is not observed, ``[B]``."""
        prior = (self.term(site) for site in self.p.values() if not (site["is_observed"] or self.from_prior(site)))
        latent = (self.term(site, -1) for name, site in self.q.items() if name not in self.dims.values())
        return -self._total([*prior, *latent], self._expected_log)

    def no_number(self) -> str | None:
        """The first site whose log-probability is NaN, in words; None where all are numbers."""
        for sites, program in ((self.q, "guide"), (self.p, "model")):
            for name, site in sites.items():
                if bool(unscaled(site).isnan().any()):
                    return f"site {name!r} of the {program}"
        return None

    def expected(self, names: Iterable[str]) -> Tensor:
        """``Σ_y q(y) log p`` of some sites of the model, given all others: ``[B]``.

        What the model alone enumerates is summed inside the logarithm: ``log Σ_k p(k) p(x | k)``.
        """
        terms = [self.term(self.p[name]) for name in names]
        if all(self.linked(term.enumerated) <= self.in_guide for term in terms):
            return self._total(terms, self._mean)
        every, chosen = self.weights(), {term.name for term in terms}
        rest = [term for term in every if term.name not in chosen]
        return self._total(every, self._expected_log) - self._total(rest, self._expected_log)

    def mean(self, term: Term) -> Tensor:
        """``Σ_y q(y)`` of one term, ``[B]``."""
        return self._total([term], self._mean)

    def term(self, site: Site, sign: int = 1) -> Term:
        """A site as a term: its plates' dimensions in place, nothing summed yet."""
        value = sign * self.share(site) * unscaled(site)
        value = value.reshape((1,) * (self.nest - value.dim()) + value.shape)
        known = {frame.dim for frame in site["cond_indep_stack"]} | self.dims.keys()
        if any(size > 1 and i - value.dim() not in known for i, size in enumerate(value.shape)):
            raise InputError(f"site {site['name']!r}: a log-probability of shape {list(unscaled(site).shape)}, not all "
                             "of it in plates; pyro.plate, or .to_event(1) of the distribution, is needed")  # fmt: skip
        varies = frozenset(d for d in self.dims if -d <= value.dim() and value.shape[d] > 1)
        row = self.row_dim(site)
        inner = frozenset(d for d in range(-self.nest, 0) if d != row and value.shape[d] > 1)
        if row is None:
            if varies:
                raise InputError(f"site {site['name']!r} is enumerated outside of the plate over rows")
            value, inner = value.sum(tuple(inner), keepdim=True) / self.every, frozenset()
        elif row != -1:  # rows come last
            value = value.transpose(row, -1)
            inner = frozenset(row if d == -1 else d for d in inner)
        return Term(site["name"], value, varies, inner)

    def share(self, site: Site) -> float:
        """How many elements of plates, beside that over rows, each that a site has stands for: 1 unless they subsample.

        :raises InputError: a plate that has some of the rows.
        """
        row, share = row_frame(site, self.n), 1.0
        for frame in site["cond_indep_stack"]:
            if frame is row or not frame.full_size or frame.full_size == frame.size:
                continue
            if row is None and frame.full_size == self.n:
                raise InputError(
                    f"plate {frame.name!r} takes {frame.size} of the {self.n} rows; for a number of each, a plate over "
                    "all of x is needed"
                )
            share *= frame.full_size / frame.size
        return share

    def row_dim(self, site: Site) -> int | None:
        """The dimension of the plate over rows; None outside of it."""
        frame = row_frame(site, self.n)
        return None if frame is None or frame.dim is None else frame.dim

    def _total(self, terms: list[Term], reduce: Callable[[Tensor, Tensor, frozenset[int]], Tensor]) -> Tensor:
        """Sum terms that nothing enumerated joins; of those that are joined, ``reduce`` the sum over values."""
        total = terms[0].value.new_zeros(self.n)
        joined: list[tuple[frozenset[int], list[Term]]] = []
        for term in terms:
            if not term.enumerated:
                total = total + self.over_plates(term.value)
                continue
            dims, group = self.linked(term.enumerated), [term]
            for other in [g for g in joined if g[0] & dims]:
                joined.remove(other)
                dims, group = dims | other[0], [*other[1], *group]
            joined.append((dims, group))
        for dims, group in joined:
            log_q = [q for q in self.log_q if q.enumerated & dims]
            plates = self._common_plates(group, dims)
            value = sum((self._kept(t, plates) for t in group), torch.zeros((), dtype=total.dtype))
            q_value = sum((self._kept(t, plates) for t in log_q), torch.zeros((), dtype=total.dtype))
            total = total + self.over_plates(reduce(value, q_value, dims))
        return total

    def linked(self, dims: frozenset[int]) -> frozenset[int]:
        """Enumerated dimensions, and all that the guide joins to them: what q of a site depends on, and so on."""
        while more := frozenset[int]().union(*(q.enumerated for q in self.log_q if q.enumerated & dims)) - dims:
            dims |= more
        return dims

    def _common_plates(self, group: list[Term], dims: frozenset[int]) -> frozenset[int]:
        """The plates that the enumerated sites of a group are in; all that depends on them must be there too."""
        owners = {self.dims[dim] for dim in dims}
        sites = [{**self.p, **self.q}[name] for name in owners]
        plates = [self.term(site).inner for site in sites]
        first = frozenset.union(*plates)
        for term in group:
            if first - term.inner:
                raise InputError(
                    f"site {term.name!r} depends on the enumerated {', '.join(sorted(owners))}, which is in a plate "
                    "that it is not in; the sum over all values together is not done"
                )
        return first

    def _kept(self, term: Term, plates: frozenset[int]) -> Tensor:
        """A term with the dimensions of other inner plates summed over."""
        over = tuple(term.inner - plates)
        return term.value.sum(over, keepdim=True) if over else term.value

    def over_plates(self, value: Tensor) -> Tensor:
        """Sum over inner plates, rows kept: ``[B]`` or, outside the plate over rows, ``[1]``."""
        value = value.reshape(value.shape[max(value.dim() - self.nest, 0) :])
        return value.reshape(-1, value.shape[-1]).sum(0)

    def _log_sum(self, log_w: Tensor, log_q: Tensor, dims: frozenset[int]) -> Tensor:
        log_w, log_q = torch.broadcast_tensors(log_w, log_q)
        return log_w.masked_fill(log_q == -torch.inf, -torch.inf).logsumexp(sorted(dims), keepdim=True)

    def _expected_log(self, log_w: Tensor, log_q: Tensor, dims: frozenset[int]) -> Tensor:
        alone = sorted(dims - self.in_guide)  # enumerated by the model alone
        log_w = log_w.logsumexp(alone, keepdim=True) if alone else log_w
        log_w, log_q = torch.broadcast_tensors(log_w, log_q)
        value = log_q.exp() * torch.where(log_q > -torch.inf, log_w - log_q, 0.0)
        return value.sum(sorted(dims & self.in_guide), keepdim=True) if dims & self.in_guide else value

    def _mean(self, log_p: Tensor, log_q: Tensor, dims: frozenset[int]) -> Tensor:
        log_p, log_q = torch.broadcast_tensors(log_p, log_q)
        value = log_q.exp() * torch.where(log_q > -torch.inf, log_p, 0.0)
        return value.sum(sorted(dims), keepdim=True)
