"""What a pair says of each point, site by site: log-probabilities, and the terms that its ELBO is the sum of.

Any module with ``model(x, y)`` and ``guide(x, y)``: the library's, or one of one's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from numpy.typing import ArrayLike
from pyro.infer import ELBO, TraceEnum_ELBO
from torch import Tensor, nn

from ..errors import whole_number
from ..infer.batched import checked, evaluating
from ..infer.pairs import PairLike, Program, as_pair, programs
from ..infer.protocols import HasObjective
from ..infer.subsampled_elbo import Part
from ..infer.traces import Site, Trace, mark_rows, plate_nesting, row_plates, sampled, traced
from .site_terms import SiteTerms

if TYPE_CHECKING:
    import pandas as pd


@runtime_checkable
class HasParts(Protocol):
    """An objective that is a sum of several ELBOs: a name, a model, a guide and their arguments each."""

    def parts(self, model: Program, guide: Program, x: Tensor, y: Tensor | None) -> list[Part]: ...


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


def sites(vae: PairLike, x: ArrayLike, y: ArrayLike | None = None, *, num_samples: int = 1, seed: int = 0) -> Sites:
    """Return the table of the sites that a pair's ELBO visits at ``x`` and ``y``, in evaluation mode.

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
    pair = as_pair(vae)
    points, labels = checked(pair, x, y)
    num_samples = whole_number("num_samples", num_samples)
    with evaluating(pair, seed):
        elbo = objective_of(pair, points, labels)
        p, q = traced(pair, points, labels)  # nothing enumerated: each site as it is drawn
    with evaluating(pair, seed), warnings.catch_warnings():
        # Pyro warns that a site may depend on an enumerated one of another plate, which for the ReVAE's x is not so.
        warnings.filterwarnings("ignore", ".*possibly invalid dependency")
        draws = [draw for _ in range(num_samples) for draw in drawn(pair, elbo, points, labels)]
    return tabulated(draws, {**sampled(q), **sampled(p)}, type(elbo).__name__)


def objective_of(pair: nn.Module, x: Tensor, y: Tensor | None) -> ELBO:
    """Return the pair's own objective, else TraceEnum_ELBO."""
    if isinstance(pair, HasObjective):
        return pair.objective()
    return TraceEnum_ELBO(max_plate_nesting=plate_nesting(pair, x, y), strict_enumeration_warning=False)


def drawn(pair: nn.Module, elbo: ELBO, x: Tensor, y: Tensor | None) -> Iterator[SiteTerms]:
    """Yield one draw of the guide; several where it enumerates one value after another."""
    model, guide = programs(pair)
    whole: Part = ("", model, guide, (x, y))
    first, *further = elbo.parts(model, guide, x, y) if isinstance(elbo, HasParts) else [whole]
    found = [SiteTerms(p, q, elbo, x, y) for p, q in marked(pair, traces_of(elbo, first), x, y)]
    for part in further:
        more = (SiteTerms(p, q, elbo, x, y) for p, q in marked(pair, traces_of(elbo, part), x, y))
        for draw, bound in zip(found, more):
            draw.terms[part[0]] = torch.stack(list(bound.terms.values())).sum(0)
    yield from found


def marked(
    pair: nn.Module, traces: Iterator[tuple[Trace, Trace]], x: Tensor, y: Tensor | None
) -> Iterator[tuple[Trace, Trace]]:
    """Yield the traces with the plates over rows noted."""
    for p, q in traces:
        mark_rows(row_plates(pair, x, y, p, q), p, q)
        yield p, q


def traces_of(elbo: ELBO, part: Part) -> Iterator[tuple[Trace, Trace]]:
    """Yield the traces that an ELBO sums, of the model and of the guide."""
    _, model, guide, arguments = part
    found: Iterator[tuple[Trace, Trace]] = elbo._get_traces(model, guide, arguments, {})
    return found


def tabulated(draws: list[SiteTerms], places: dict[str, Site], bound: str) -> Sites:
    """Return the means of several draws.

    :param places: each site at one draw, for its shape and plates.
    """
    import pandas as pd

    first = draws[0]

    def mean(found: list[dict[str, Tensor]]) -> pd.DataFrame:
        stacked = {n: torch.stack([d[n] for d in found]).double().mean(0).cpu().numpy() for n in found[0]}
        return pd.DataFrame(stacked, index=pd.RangeIndex(first.n, name="point"))

    log_p, log_q = mean([draw.log_p for draw in draws]), mean([draw.log_q for draw in draws])
    terms = mean([draw.terms for draw in draws])
    rows = {name: (kind, *place(places[name])) for name, kind in first.kinds.items()}
    rows |= {name: ("term of the bound", "", "") for name in terms if name not in rows}
    index = pd.Index(list(rows), name="site")
    table = pd.DataFrame(list(rows.values()), columns=["kind", "shape", "plates"], index=index)
    for name, values in (("log p", log_p), ("log q", log_q), ("term", terms)):
        table[name] = values.mean().reindex(table.index)
    return Sites(table, log_p, log_q, terms, bound)


def place(site: Site) -> tuple[str, str]:
    """Return a site's shape and plates in words."""
    shape = " × ".join(map(str, site["value"].shape))
    return shape or "1", ", ".join(f.name for f in reversed(site["cond_indep_stack"]))
