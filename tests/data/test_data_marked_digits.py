"""Digits with marks: attributes, the kinds behind them, and that a picture shows each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_makers import refused

from pyro_ssvae.data import Dataset, factors_of, load
from pyro_ssvae.data import marked_digits as marked
from pyro_ssvae.data.factors import draw_factors
from pyro_ssvae.data.marked_digits import ATTRIBUTES, COLORS, FACTORS, SIZES
from pyro_ssvae.data.standard import load_digits
from pyro_ssvae.studies.methods import one_sided_attributes


@pytest.fixture(scope="module")
def pictures() -> Dataset:
    return load("marked-digits")


def test_a_set_of_pictures(pictures: Dataset) -> None:
    assert (pictures.x.shape, pictures.x_test.shape) == ((10_000, 3, 32, 32), (2_000, 3, 32, 32))
    assert pictures.x.dtype == torch.uint8
    assert pictures.labels.names == tuple(ATTRIBUTES)
    again = load("marked-digits", attributes=["Framed", "Even"], image_size=16)
    assert again.x.shape == (10_000, 3, 16, 16)
    assert bool((again.y == pictures.y[:, [3, 0]]).all())
    refused(lambda: load("marked-digit"), "did you mean 'marked-digits'?")


def test_factors_are_those_of_the_attributes(pictures: Dataset) -> None:
    found = factors_of("marked-digits")
    assert found is not None
    for split, (factors, y) in enumerate(zip(found, (pictures.y, pictures.y_test))):
        assert bool((torch.from_numpy(draw_factors(SIZES[split], (0, split), ATTRIBUTES, FACTORS)[0]) == y).all())
        for name, about in FACTORS.items():
            on = y[:, list(ATTRIBUTES).index(str(about.attribute))] == 1
            for rows, kinds in ((on, about.present), (~on, about.absent)):
                seen = [factors.names[name][i] if i >= 0 else None for i in factors.values[name][rows].tolist()]
                assert set(seen) == (set(kinds) or {None})
                for kind in kinds:
                    assert abs(seen.count(kind) / len(seen) - 1 / len(kinds)) < 5 / len(seen) ** 0.5
    assert one_sided_attributes("marked-digits") == ("Framed", "Underlined", "Textured")


def test_colours_are_where_they_belong(pictures: Dataset) -> None:
    train, _ = factors_of("marked-digits") or (None, None)
    assert train is not None
    corner = pictures.x[:, :, 8, 3].float()  # neither frame, line nor digit
    for i, kind in enumerate(train.names["ground"]):
        assert bool((corner[train.values["ground"] == i] == torch.tensor(COLORS["ground"][kind]).float()).all())
    plain = train.values["texture"] == -1
    for i, kind in enumerate(train.names["stroke"]):
        x = pictures.x[plain & (train.values["stroke"] == i)].double()
        distance = (x - torch.tensor(COLORS["stroke"][kind]).reshape(3, 1, 1)).abs().amax(1).flatten(1).amin(1)
        assert float(distance.quantile(0.99)) < 30  # somewhere a stroke is all ink


def test_every_kind_changes_the_picture() -> None:
    digits = load_digits()
    x, y = marked.pictures(1, digits.x_test, digits.y_test)
    ink = torch.zeros(1, 1, 20, 20)
    ink[..., 4:16, 8:12] = 1
    for factor in ("frame", "line"):
        every = marked.masks(factor, np.arange(-1, len(FACTORS[factor].present)))
        assert int(every[0].sum()) == 0
        assert min(int((a != b).sum()) for i, a in enumerate(every) for b in every[:i]) >= 12
    frames, lines = (marked.masks(f, np.arange(len(FACTORS[f].present))) for f in ("frame", "line"))
    assert not bool((frames.amax(0) * lines.amax(0)).any())
    strokes = marked.textured(ink.expand(4, 1, 20, 20), np.array([-1, 0, 1, 2]))
    assert bool((strokes[0] == ink[0]).all())
    assert min(float((a - b).abs().sum()) for i, a in enumerate(strokes) for b in strokes[:i]) > 4
    moved = marked.placed(ink.expand(2, 1, 20, 20), torch.tensor([[0, 0], [2, -1]]))
    assert bool((moved[1, 0, 2:, :-1] == moved[0, 0, :-2, 1:]).all())
    assert float(moved[0].sum()) == float(ink.sum())
    assert len(x.flatten(1).unique(dim=0)) > 0.95 * len(y)


def test_no_handwriting_of_the_test_is_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture's ink is of one of the split's own digits, of the class that its factor says."""
    digits = load_digits()
    marks = torch.arange(len(digits.x)).float().reshape(-1, 1, 1, 1).expand_as(digits.x) / 2048
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(marked, "placed", lambda ink, places: seen.append(ink) or torch.zeros(len(ink), 1, 32, 32))
    monkeypatch.setattr(marked, "textured", lambda ink, values: ink)
    marked.pictures(0, marks, digits.y)
    rows = (seen[0][:, 0, 10, 10] * 2048).round().long()
    train, _ = marked.marked_digit_factors()
    names = [int(name) for name in train.names["digit"]]
    assert bool((digits.y[rows] == torch.tensor(names)[train.values["digit"]]).all())
    assert len(rows.unique()) == len(digits.x)
