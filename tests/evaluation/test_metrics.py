"""Metrics of predictions against scikit-learn's."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import f1_score

from pyro_ssvae import AttributeLabels
from pyro_ssvae.evaluation.metrics import attribute_metrics, class_metrics


def test_a_predicted_class_that_is_never_true_counts_in_macro_f1() -> None:
    """Class 2 is predicted and never true, class 3 neither: F1 of the first is 0, the second does not count."""
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    predicted = torch.tensor([0, 0, 2, 1, 1, 2])
    probs = torch.full((6, 4), 0.1).scatter(1, predicted.unsqueeze(1), 0.7)
    found = class_metrics(probs, y)
    assert found["macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))
    assert found["macro_f1"] == pytest.approx(0.8 * 2 / 3)


def test_a_probability_of_exactly_a_half_reads_as_0() -> None:
    """As predictions have it (``AttributeLabels.mode``), where every untrained head stands."""
    y = torch.tensor([[0, 1], [0, 1], [0, -1], [1, 0]])
    probs = torch.full((4, 2), 0.5)
    found = attribute_metrics(probs, y, ["hat", "beard"])
    assert [found["per_attribute"][name]["accuracy"] for name in ("hat", "beard")] == [0.75, pytest.approx(1 / 3)]
    right = (AttributeLabels(["hat", "beard"]).mode(probs) == y)[y >= 0]
    assert right.sum() == 4
    many = (torch.arange(100) >= 90).long().unsqueeze(1)
    interval = attribute_metrics(torch.full((100, 1), 0.5), many, ["hat"])
    assert interval["accuracy"] == 0.9
    assert 0.8 < interval["accuracy_low"] < 0.9 < interval["accuracy_high"] < 1, "it is of the same predictions"
