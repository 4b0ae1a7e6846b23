"""Latents that all rows share: a batch has its part of their terms, so that a pass over all rows has them once.

Of N rows a bound is ``Σ_i L_i + log p(g) - log q(g)``, whose unbiased estimate by a batch of B rows, over N/B, is
``Σ_batch L_i + B/N [ log p(g) - log q(g) ]``. A program whose own plate says how many rows there are, or that scales
its rows up, has this ratio already.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ..infer.automatic import other_rows
from ..infer.pairs import Program, programs
from ..infer.traces import Site, is_computed, is_factor, sampled


class Shared(NamedTuple):
    """Latents of the model that all rows share, and its other sites."""

    latents: frozenset[str]
    others: frozenset[str]


def shared_latents(pair: nn.Module, x: Tensor, y: Tensor) -> Shared | None:
    """Say which latents are in no plate over rows, by runs of the model on two rows and on three; None where it has
    none, where they are enumerated, or where rows are scaled up.

    The model alone is run: a run would bind an automatic guide to these rows.
    """
    two = sites_of(pair, x, y, 2)
    if all("data" in plates_of(site) for site in two.values() if is_latent(site)):
        return None
    three = sites_of(pair, x, y, 3)
    plates = {name for name, size in sizes(two) if size == 2} & {name for name, size in sizes(three) if size == 3}
    rows = {name for name, site in two.items() if plates & plates_of(site)}
    if not rows or two.keys() != three.keys() or any(scale(two[name]) != scale(three[name]) for name in rows):
        return None
    alike = {name for name, site in two.items() if site["value"].shape == three[name]["value"].shape}
    latents = {name for name in alike - rows if is_latent(two[name])}
    if not latents or any(two[name]["infer"].get("enumerate") for name in latents):
        return None
    return Shared(frozenset(latents), frozenset(two.keys() - latents))


def sites_of(pair: nn.Module, x: Tensor, y: Tensor, n: int) -> dict[str, Site]:
    """The sites of a run of the model on n rows; random numbers are put back."""
    forked = torch.random.fork_rng([x.device] if x.device.type == "cuda" else [])
    with forked, torch.no_grad(), poutine.block():
        return sampled(poutine.trace(programs(pair)[0]).get_trace(*other_rows(x, y, n)))


def sizes(sites: dict[str, Site]) -> set[tuple[str, int]]:
    """The plates that sites are in, and how many elements they have."""
    return {(f.name, f.size) for site in sites.values() for f in site["cond_indep_stack"]}


def plates_of(site: Site) -> frozenset[str]:
    """The names of the plates that a site is in."""
    return frozenset(f.name for f in site["cond_indep_stack"])


def scale(site: Site) -> float:
    """A site's scale; of several, the first."""
    return float(torch.as_tensor(site["scale"]).flatten()[0])


def is_latent(site: Site) -> bool:
    """Whether a site is neither observed nor computed."""
    return not (site["is_observed"] or is_factor(site) or is_computed(site))


class PartOf(Messenger):
    """Scale what all rows share, in the model and in a guide, which may have auxiliary latents of them.

    :param part: of all rows that a batch is.
    """

    def __init__(self, shared: Shared, part: float) -> None:
        super().__init__()
        self.shared, self.part = shared, part

    def _pyro_sample(self, msg: Site) -> None:
        name, auxiliary = msg["name"], is_latent(msg) and not msg["cond_indep_stack"]
        if name in self.shared.latents or (auxiliary and name not in self.shared.others):
            msg["scale"] = msg["scale"] * self.part


def in_part(program: Program, shared: Shared, n: int, added: int) -> Program:
    """Return the program, in which what all n rows share counts by the part of them that a batch is.

    :param added: rows at the batch's end that are added to it.
    """

    def run(x: Tensor, *more: object) -> object:
        with PartOf(shared, (len(x) - added) / n):
            return program(x, *more)

    return run
