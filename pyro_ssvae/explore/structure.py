"""Which sites of a model depend on which, as Pyro traces it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from pyro import poutine
from pyro.infer.inspect import get_dependencies

from ..infer.traces import sampled
from ..models import Model


@dataclass(frozen=True)
class Structure:
    """A model's graph.

    :ivar parents: the sites that each site depends on directly.
    :ivar plates: the plates that each site is in.
    """

    parents: dict[str, frozenset[str]]
    plates: dict[str, frozenset[str]]

    @property
    def decoder_hears_y(self) -> bool:
        """Whether x depends on the label directly, not through a latent alone."""
        return "y" in self.parents.get("x", ())

    @property
    def latents_share_labels(self) -> bool:
        """Whether one latent depends on all attributes together, so that none can be set or taken alone."""
        return any(
            "y" in parents and "attributes" not in self.plates[site]
            for site, parents in self.parents.items()
            if site in self.parents.get("x", ())
        )

    def descendants(self, site: str) -> set[str]:
        """Return the sites that depend on a site, directly or not."""
        found = {site}
        while more := {name for name, parents in self.parents.items() if parents & found} - found:
            found |= more
        return found - {site}


def structure(model: Model) -> Structure:
    """Return a model's graph, traced at a point of zeros."""
    x = next(model.parameters()).new_zeros(1, *model.input_shape)
    found = cast(dict[str, dict[str, set[str]]], get_dependencies(model.model, (x,))["prior_dependencies"])
    parents = {site: frozenset(upstream) - {site} for site, upstream in found.items()}
    with torch.no_grad():
        sites = sampled(poutine.trace(model.model).get_trace(x))
    plates = {name: frozenset(frame.name for frame in site["cond_indep_stack"]) for name, site in sites.items()}
    return Structure(parents, plates)
