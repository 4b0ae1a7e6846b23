from __future__ import annotations

import numpy as np
import pytest
import torch
from data_makers import refused
from tiny import ATTRIBUTES, CLASSES, augmented, build, points, some_labels

import pyro_ssvae as ps
from pyro_ssvae.evaluation import active_learning
from pyro_ssvae.evaluation.active_learning import representatives


def test_only_points_without_a_label_and_none_twice() -> None:
    model, x, y = augmented(), points(30), some_labels(CLASSES, 30)
    found = ps.suggest(model, x, y, n=15)
    assert sorted(found.index) == (y == -1).nonzero().squeeze(1).tolist()
    assert found.equals(ps.suggest(model, x, y, n=15))
    refused(lambda: ps.suggest(model, x, y, n=16), "n: 16", "from 1 to 15")
    refused(lambda: ps.suggest(model, x, y, n=0), "n: 0")
    refused(lambda: ps.suggest(build("vae"), x), "VAE", "predicts no labels")


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
    found = ps.suggest(attributes, x, y, n=11)
    assert sorted(found.index) == [0, 1, 2, 3, *range(5, 12)]
    probs = attributes.predict_proba(x)[torch.tensor(found.index.to_list())]
    np.testing.assert_allclose(found[[f"p_{name}" for name in ATTRIBUTES.names]], probs)


def groups(*sizes: int, spread: float = 0.01, seed: int = 0) -> torch.Tensor:
    """Tight groups of points, one at each corner of a line, a triangle, ...; the first of each is at its centre."""
    corners = torch.eye(len(sizes), dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for corner, size in zip(corners, sizes, strict=True):
        away = spread * torch.randn(size - 1, len(sizes), generator=generator, dtype=torch.float64)
        parts.append(torch.cat([corner[None], corner + away - away.mean(0)]))
    return torch.cat(parts)


def test_representative_points_of_what_no_label_covers() -> None:
    """Of three groups one has a label: two points are the centres of the others, the larger group's first."""
    z = torch.cat([groups(10, 30, 20), torch.tensor([[1.0, 0.0, 0.0]])])  # the last has a label, in the first group
    assert representatives(z, torch.zeros(61), 60, 2).tolist() == [10, 40]
    assert representatives(z, torch.ones(61), 60, 2, seed=7).tolist() == [10, 40]
    nothing_known = representatives(z[:60], torch.ones(60), 60, 3)
    assert nothing_known.tolist() == [10, 40, 0]


def test_doubt_is_half_of_the_weight() -> None:
    """A group of 20 with all of the doubt weighs 1 + 1/3, one of 40 without any 2/3; half of the doubt is 1/2 + 1/3."""
    z = groups(40, 20)
    doubt = torch.zeros(60)
    doubt[40:] = 1
    assert representatives(z, torch.zeros(60), 60, 2).tolist() == [0, 40]
    assert representatives(z, doubt, 60, 2).tolist() == [40, 0]
    few = torch.zeros(60)
    few[[1, 41]] = torch.tensor([0.7, 0.3])  # 2/3 + 0.7 and 1/3 + 0.3
    assert int(representatives(z, few, 60, 2)[0]) < 40


def test_of_a_group_the_point_among_the_doubtful_ones() -> None:
    """On a line from 0 to 100 with its doubt at 80, the centre is there: half the mass at 50, half at 80, so 65."""
    z = torch.arange(101, dtype=torch.float64).unsqueeze(1)
    doubt = torch.zeros(101)
    doubt[80] = 3
    assert representatives(z, doubt, 101, 1).tolist() == [65]
    assert representatives(z, torch.zeros(101), 101, 1).tolist() == [50]


def test_groups_with_fewer_labels_come_first() -> None:
    """More points asked for than there are groups: in turns, and where a label lies last."""
    z = groups(6, 6, spread=0.0)
    found = representatives(torch.cat([z, z[:1]]), torch.zeros(13), 12, 4).tolist()
    assert [row >= 6 for row in found].count(True) >= 2
    assert found[0] >= 6  # the group without a label
    assert len(set(representatives(torch.zeros(5, 2), torch.zeros(5), 5, 5).tolist())) == 5


def test_more_than_10_000_points_or_as_many_as_are_asked_for_are_a_random_part_in_order() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = 2 * torch.arange(10_001)
    assert torch.equal(active_learning.some(rows[:-1], 5, generator), rows[:-1])
    for n, most in ((5, 10_000), (10_001, 10_001)):
        part = active_learning.some(rows, n, generator)
        assert len(part) == most
        assert (part.diff() > 0).all()
        assert torch.isin(part, rows).all()


def test_of_very_many_points_a_part_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(active_learning, "MOST_POINTS", 8)
    model, x, y = augmented(), points(60), some_labels(CLASSES, 60)
    seen = [set(ps.suggest(model, x, y, n=6, seed=seed).index) for seed in range(3)]
    assert all(len(rows) == 6 and (y[list(rows)] == -1).all() for rows in seen)
    assert len(set.union(*seen)) > 8
    assert len(ps.suggest(model, x, y, n=20)) == 20
