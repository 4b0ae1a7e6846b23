"""What simple methods expect a head to err on vectors, and the smoothing that follows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pyro_ssvae as ps
from pyro_ssvae.infer.auxiliary import smoothing_for
from pyro_ssvae.infer.expected_error import evenly, expected_error, folds_of, rows_to_ask, spread_mistakes
from pyro_ssvae.labels import ClassLabels


def rings(n: int = 400, labelled: int = 20) -> tuple[Tensor, Tensor]:
    """Two rings, one in the other: neighbours tell them apart, no plane does."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 2
    angle, radius = 6.2832 * torch.rand(n, generator=g), 1 + 2.0 * y + 0.1 * torch.randn(n, generator=g)
    x = radius.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1)
    known = y.clone()
    known[labelled:] = ps.MISSING
    return x, known


def test_labels_that_a_plane_tells_apart_are_expected_right() -> None:
    """No mistake on n labels is (0 + 1) / (n + 2)."""
    y = torch.arange(30) % 2
    x = torch.stack([10.0 * y, torch.zeros(30)], 1)
    assert expected_error(x, y) == pytest.approx(1 / 32)


def test_labels_that_are_noise_are_expected_wrong() -> None:
    """Half of 200 coins are missed: within four standard errors, 4 sqrt(.25 / 200) = .14."""
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(200, 3, generator=g), torch.randint(2, (200,), generator=g)
    error = expected_error(x, y)
    assert error is not None
    assert abs(error - 0.5) < 0.15


def test_rows_without_a_label_count() -> None:
    x, y = rings()
    error, alone = expected_error(x, y), expected_error(x[:20], y[:20])  # no plane; few neighbours
    assert error is not None
    assert alone is not None
    assert error < 0.75 * alone


def test_attributes_are_a_mean_and_rare_labels_say_nothing() -> None:
    y = torch.arange(30) % 2
    x = torch.stack([10.0 * y, torch.zeros(30)], 1)
    same = torch.zeros(30, dtype=torch.long)
    assert expected_error(x, torch.stack([y, same, y], 1)) == pytest.approx(1 / 32)
    assert expected_error(x, same) is None
    assert expected_error(x, torch.tensor([0, 1] + [-1] * 28)) is None


def test_a_class_of_one_label_is_left_out() -> None:
    y = torch.cat([torch.arange(30) % 2, torch.tensor([2])])
    x = torch.stack([10.0 * y, torch.zeros(31)], 1)
    assert expected_error(x, y) == pytest.approx(1 / 32)


def test_a_plane_counts_where_neighbours_do_not() -> None:
    """Four columns of noise, ten times as wide as the gap of 6 that the first one tells the classes apart by."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(100) % 2
    x = torch.cat([6.0 * y.unsqueeze(1) - 3, 60 * torch.randn(100, 4, generator=g)], 1)
    assert spread_mistakes(x.double().numpy(), y.numpy(), np.arange(100)) > 25
    assert expected_error(x, y) == pytest.approx(1 / 102)


@pytest.mark.parametrize(("n", "d"), [(8, 2), (40, 60), (60, 55)])
def test_few_rows_of_few_or_many_columns_are_asked(n: int, d: int) -> None:
    """Fewer than eleven neighbours, or components than columns."""
    y = torch.arange(n) % 2
    x = torch.zeros(n, d)
    x[:, 0] = 10.0 * y
    assert expected_error(x + 1e-3 * torch.randn(n, d), y) == pytest.approx(1 / (n + 2))


def test_there_are_five_folds_or_as_many_as_the_rarest_class_has_labels() -> None:
    assert [folds_of(np.array([0] * 20 + [1] * rare)).get_n_splits() for rare in (2, 3, 5, 20)] == [2, 3, 5, 5]


def test_a_row_with_any_attribute_has_a_label() -> None:
    y = torch.full((6000, 2), ps.MISSING)
    y[:3000, 0] = torch.arange(3000) % 2
    y[3000:5000, 1] = 1
    known = (y[rows_to_ask(y)] != ps.MISSING).any(1)
    assert (len(known), int(known.sum())) == (1500, 500)


def test_rows_to_ask_hold_all_classes_and_are_few() -> None:
    y = torch.full((10_000,), ps.MISSING)
    y[:3000] = 0
    y[3000:3100] = 1
    rows = rows_to_ask(y)
    assert len(rows) == len(rows.unique()) == 2000
    known = y[rows][y[rows] != ps.MISSING]
    assert len(known) == 500
    assert int((known == 1).sum()) == pytest.approx(500 * 100 / 3100, abs=1)


def test_a_rare_class_that_even_steps_would_miss_stays() -> None:
    """Of 5,000 labels every tenth is asked: of 20 of one class two."""
    y = torch.zeros(5000, dtype=torch.long)
    missed = torch.ones(5000, dtype=torch.bool)
    missed[evenly(5000, 500)] = False
    y[missed.nonzero().squeeze(1)[::220][:20]] = 1
    rows = rows_to_ask(y)
    assert len(rows) == 500
    assert int((y[rows] == 1).sum()) == pytest.approx(2, abs=1)


def test_smoothing_is_half_of_it_of_vectors_alone() -> None:
    g = torch.Generator().manual_seed(1)
    labels = ClassLabels(2)
    x, y = torch.randn(200, 16, generator=g), torch.randint(2, (200,), generator=g)
    model: Any = ps.create_model("augmented", input_shape=16, labels=labels)
    model.prepare(x, y)
    error = expected_error(model.likelihood.standardize(x), y)
    assert error is not None
    assert float(model.head_terms.epsilon) == pytest.approx(error / 2)
    assert smoothing_for(labels, y, error) == pytest.approx(error / 2)
    pictures: Any = ps.create_model("augmented", input_shape=(1, 4, 4), labels=labels)
    pictures.prepare(x.reshape(200, 1, 4, 4).sigmoid(), y)
    assert float(pictures.head_terms.epsilon) == pytest.approx(smoothing_for(labels, y)) == pytest.approx(1 / 202)
    given: Any = ps.create_model("augmented", input_shape=16, labels=labels, label_smoothing=0.01)
    given.prepare(x, y)
    assert float(given.head_terms.epsilon) == pytest.approx(0.01)
