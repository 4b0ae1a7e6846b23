"""A pair as a module, as two functions and as what it is not; its networks; what it can do."""

from __future__ import annotations

from typing import Any

import pyro
import pytest
from data_makers import refused
from edits import functions
from pairs import OwnPair
from pyro.infer import SVI, Trace_ELBO
from tiny import CASES, build, make, points
from torch import nn

import pyro_ssvae as ps
from pyro_ssvae.infer import protocols
from pyro_ssvae.infer.pairs import as_pair, networks
from pyro_ssvae.infer.protocols import require


def test_a_module_is_a_pair_and_so_are_two_programs() -> None:
    own = OwnPair()
    assert as_pair(own) is own
    model, guide = functions()
    pair: Any = as_pair((model, guide))
    assert (pair.model, pair.guide) == (model, guide)
    assert list(pair.parameters()) == []
    again: Any = as_pair([own.model, own.guide])
    assert again.model == own.model


def test_what_is_no_pair_is_refused() -> None:
    for wrong in (None, 3, nn.Linear(2, 2), (1, 2), (print,), (print, print, print), "vae", {"model": print}):
        refused(lambda wrong=wrong: as_pair(wrong), "model(x, y) and guide(x, y)", f"not a {type(wrong).__name__}")


def test_modules_among_the_two_are_parts_of_it() -> None:
    """So that ``fit`` and ``save`` see their parameters."""
    net = nn.Linear(2, 2)
    pair: Any = as_pair((net, lambda x, y=None: None))
    assert {id(p) for p in pair.parameters()} == {id(p) for p in net.parameters()}


def test_networks_are_the_parts_that_are_called() -> None:
    """Of a pair within a pair, its parts."""
    own = OwnPair()
    assert list(networks(own)) == [own.encoder, own.decoder]
    outer: Any = OwnPair()
    outer.inner, outer.encoder = own, own.encoder
    assert set(networks(outer)) == {own.encoder, outer.decoder, own.decoder}


def test_plain_functions_train_and_are_asked() -> None:
    """Their parameters are Pyro's own."""
    model, guide = functions()
    x = points(60).double()
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), loss=Trace_ELBO())
    before = ps.elbo((model, guide), x, num_samples=20).mean()
    for _ in range(150):
        svi.step(x)
    assert ps.elbo((model, guide), x, num_samples=20).mean() > before + 0.1
    assert ps.log_likelihood((model, guide), x, num_samples=20).shape == (60,)


# --- what a pair can do

CAN = {
    "Classifies": {"augmented", "revae", "classifier", "m1", "m2", "m1+m2", "adgm", "mvae", "diva"},
    "Encodes": {"augmented", "revae", "classifier", "vae", "m1", "m2", "m1+m2", "adgm", "mvae", "diva"},
    "Generates": {"augmented", "revae", "vae", "m1", "m2", "m1+m2", "adgm", "mvae", "diva"},
    "Reconstructs": {"augmented", "revae", "vae", "m1", "m2", "m1+m2", "adgm", "mvae", "diva"},
    "Intervenes": {"revae", "m2", "mvae", "diva"},
    "Walks": {"revae"},
    "WeighsClasses": {"augmented", "revae", "classifier", "m1", "m2", "m1+m2", "adgm", "diva"},
    "Schedules": set(ps.models.MODELS),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ability", CAN)
def test_abilities_of_the_models(case: str, ability: str) -> None:
    model, name = build(case), CASES[case][0]
    protocol = getattr(protocols, ability)
    assert isinstance(model, protocol) == (name in CAN[ability])
    if name in CAN[ability]:
        assert require(model, protocol) is model
    elif protocol in protocols.LACKS:
        refused(lambda: require(model, protocol), type(model).__name__, "needed")


def test_an_own_pair_can_do_nothing_beside() -> None:
    for name in ("Classifies", "Encodes", "Generates", "Reconstructs", "Intervenes", "Walks"):
        refused(lambda name=name: require(OwnPair(), getattr(protocols, name)), "an OwnPair", "needed")


def test_every_refusal_names_models_that_can() -> None:
    said = refused(lambda: require(make("vae"), protocols.Intervenes), "VAE", "interventions")
    assert all(name in said for name in CAN["Intervenes"])
