"""Metrics of predictions against scikit-learn's."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import f1_score

from pyro_ssvae.evaluation.metrics import class_metrics


def test_a_predicted_class_that_is_never_true_counts_in_macro_f1() -> None:
    """Class 2 is predicted and never true, class 3 neither: F1 of the first is 0, the second does not count."""
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    predicted = torch.tensor([0, 0, 2, 1, 1, 2])
    probs = torch.full((6, 4), 0.1).scatter(1, predicted.unsqueeze(1), 0.7)
    found = class_metrics(probs, y)
    assert found["macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))
    assert found["macro_f1"] == pytest.approx(0.8 * 2 / 3)
