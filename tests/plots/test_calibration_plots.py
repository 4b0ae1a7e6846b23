"""The reliability plot: what its points are, and that it is drawn for classes and attributes."""

from __future__ import annotations

import numpy as np
import torch

from pyro_ssvae import plots
from pyro_ssvae.plots.calibration import binned


def test_bins_of_equal_width_hold_ten_points_at_least() -> None:
    confidence = np.concatenate([np.full(9, 0.05), np.full(30, 0.15), np.full(3, 0.55), np.full(20, 1.0)])
    parts = binned(confidence, 10)
    assert [len(part) for part in parts] == [39, 23]
    assert sorted(np.concatenate(parts).tolist()) == list(range(62))
    assert [len(part) for part in binned(np.full(4, 0.3), 10)] == [4]
    assert [len(part) for part in binned(np.array([*[0.1] * 12, 0.95]), 10)] == [13]


def test_points_are_shares_over_probabilities() -> None:
    p = torch.tensor([0.8, 0.2]).expand(40, 2)
    y = torch.tensor([0] * 30 + [1] * 10)
    figure = plots.reliability(p, y, ["cat", "dog"], lambda p: torch.tensor([0.75, 0.25]).expand(len(p), 2))
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["predicted class", "cat", "dog"]
    marks = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", None, "")]
    assert [np.asarray(line.get_xdata()).round(6).tolist() for line in marks] == [[0.8], [0.75]]
    assert [np.asarray(line.get_ydata()).tolist() for line in marks] == [[0.75], [0.75]]
    dog = next(line for line in figure.axes[2].lines if line.get_marker() == "o")
    assert np.allclose(np.concatenate([np.asarray(dog.get_xdata()), np.asarray(dog.get_ydata())]), [0.2, 0.25])


def test_missing_labels_do_not_count() -> None:
    p = torch.full((40, 2), 0.7)
    y = torch.ones(40, 2, dtype=torch.long)
    y[20:, 0] = -1
    y[:10, 0] = 0
    figure = plots.reliability(p, y, ["hat", "beard"])
    hat = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert np.asarray(hat.get_ydata()).tolist() == [0.5]
    assert len(figure.axes) == 2
