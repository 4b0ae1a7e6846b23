"""Pairs of one's own in the suite of all pairs: other priors, likelihoods, layers, flows and further sites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pyro
import pytest
import torch
from pair_suite import PairSuite
from pairs import OWN, own_points, own_program
from torch import Tensor

import pyro_ssvae as ps


class TestOwnPairs(PairSuite):
    cases: ClassVar[Any] = OWN
    casts = False
    uncopied = ("flow", "spline")

    def make(self, case: str) -> Any:
        return OWN[case]()

    def data(self, case: str, n: int) -> tuple[Tensor, Tensor]:
        return own_points(case, n), torch.full((n,), -1)

    def guide_at(self, pair: Any, eps: Tensor, *, labels: Any = "inferred") -> Callable[..., object]:
        return own_program(pair.guide, eps, labels=labels)

    def model_at(self, pair: Any, eps: Tensor) -> Callable[..., object]:
        return own_program(pair.model, eps, labels="drawn", only=["k"])


@pytest.mark.parametrize("case", OWN)
def test_fit_trains_them(case: str) -> None:
    pair, x = OWN[case](), own_points(case, 64)
    before = ps.elbo(pair, x, num_samples=20).mean()
    history = ps.fit(pair, x, epochs=12, batch_size=16, learning_rate=0.03, seed=0, augment="none", progress=False)
    assert history["loss"][-1] < history["loss"][0]
    assert ps.elbo(pair, x, num_samples=20).mean() > before
    pyro.clear_param_store()
