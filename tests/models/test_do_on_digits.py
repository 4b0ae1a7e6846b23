"""``poutine.do(model, {"y": 3})`` draws threes, as the trained classifier reads them."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import poutine
from sklearn.datasets import load_digits

import pyro_ssvae as ps


@pytest.mark.parametrize("name", ["augmented", "m2", pytest.param("adgm", marks=pytest.mark.slow)])
def test_an_intervention_on_the_label_is_drawn(name: str) -> None:
    """Decoders that hear y, after a short training with all labels: at least 95 % of 200 draws read as 3."""
    x, y = (torch.tensor(values) for values in load_digits(return_X_y=True))
    x = (x / 16).float().reshape(-1, 1, 8, 8)
    pyro.set_rng_seed(0)
    vae = ps.create_model(name, input_shape=(1, 8, 8), labels=ps.ClassLabels(10), latent_dim=8)
    ps.fit(vae, x, y, epochs=25, augment="none", progress=False)
    with torch.no_grad():
        p = poutine.trace(poutine.do(poutine.uncondition(vae.model), {"y": 3})).get_trace(torch.zeros(200, 1, 8, 8))
    assert (vae.predict(p.nodes["x"]["fn"].mean) == 3).double().mean() >= 0.95
