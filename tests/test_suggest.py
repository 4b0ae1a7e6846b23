from __future__ import annotations

import numpy as np
import torch
from data_makers import refused
from tiny import ATTRIBUTES, CLASSES, augmented, build, points, some_labels

import pyro_ssvae as ps
from pyro_ssvae.suggest import gradients, k_means_plus_plus


def test_only_points_without_a_label_and_none_twice() -> None:
    model, x, y = augmented(), points(30), some_labels(CLASSES, 30)
    found = ps.suggest(model, x, y, n=15)
    assert sorted(found.index) == (y == -1).nonzero().squeeze(1).tolist()
    assert found.equals(ps.suggest(model, x, y, n=15))
    refused(lambda: ps.suggest(model, x, y, n=16), "n: 16", "from 1 to 15")
    refused(lambda: ps.suggest(model, x, y, n=0), "n: 0")
    refused(lambda: ps.suggest(build("vae"), x), "suggest", "VAE", "predicts no labels")


def test_the_columns_are_the_head_s() -> None:
    torch.set_default_dtype(torch.float64)
    model, x = augmented().double(), points(12)
    found = ps.suggest(model, x, n=5)
    probs = model.predict_proba(x)[torch.tensor(found.index.to_list())]
    np.testing.assert_allclose(found["entropy"], -(probs * probs.log()).sum(-1))
    np.testing.assert_allclose(found["p_first"], probs.amax(-1))
    assert list(found["first"]) == [CLASSES.names[k] for k in probs.argmax(-1).tolist()]
    attributes = augmented(ATTRIBUTES).double()
    y = torch.full((12, 3), -1)
    y[4, 1] = 0
    assert sorted(ps.suggest(attributes, x, y, n=11).index) == [0, 1, 2, 3, *range(5, 12)]


def test_gradients_by_hand() -> None:
    probs, z = torch.tensor([[0.7, 0.3], [0.4, 0.6]]), torch.tensor([[1.0], [3.0]])
    expected = torch.tensor([[-0.3, 0.3, 0.3, -0.3], [0.4, 0.4, -0.4, -0.4]])
    torch.testing.assert_close(gradients(probs, z, classes=True), expected)
    of_attributes = torch.tensor([[-0.3, 0.3, 0.3, -0.3], [0.4, 0.4, -0.4, -0.4]])
    torch.testing.assert_close(gradients(probs, z, classes=False), of_attributes)


def test_doubtful_points_of_different_kinds_come_first() -> None:
    """Of many sure points and two tight groups of doubtful ones, the first two are one of each group."""
    generator = torch.Generator().manual_seed(0)
    sure = 1e-4 * torch.randn(200, 2, generator=generator)
    groups = torch.cat([torch.tensor([[1.0, 0.0]]).repeat(10, 1), torch.tensor([[0.0, -0.9]]).repeat(10, 1)])
    found = k_means_plus_plus(torch.cat([sure, groups]), 2, seed=3).tolist()
    assert 200 <= found[0] < 210
    assert 210 <= found[1] < 220
    assert len(set(k_means_plus_plus(torch.zeros(5, 2), 5).tolist())) == 5
