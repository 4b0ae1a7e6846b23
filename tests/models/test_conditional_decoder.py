"""What ``decode`` takes for a label: values, inputs from 0 to 1, and missing ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from data_makers import refused
from tiny import ATTRIBUTES, CLASSES, make
from torch import Tensor

from pyro_ssvae import MISSING

Z = torch.tensor([[0.3, -1.0], [1.2, 0.4], [-0.7, 0.1]]).double()


def model_of(labels: Any = CLASSES, **options: Any) -> Any:
    return make("augmented", labels, **options).double().eval()


def by_hand(model: Any, c: Tensor) -> Tensor:
    mean: Tensor = model.p_x(model.decoder(Z, c.double())).mean
    return mean


def test_inputs_from_0_to_1_are_decoded_as_they_are() -> None:
    model = model_of()
    c = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    torch.testing.assert_close(model.decode(Z, c), by_hand(model, c))
    torch.testing.assert_close(model.decode(Z, c.numpy()), by_hand(model, c))
    torch.testing.assert_close(model.decode(Z, c[:1]), by_hand(model, c[:1].expand(3, -1)))  # one row for all
    rounded = c + torch.tensor([[0.0, 0.0, 0.00005], [0.00005, -0.00005, 0.0], [0.0, 0.0, 0.0]])
    assert model.decode(Z, rounded).isfinite().all()


@pytest.mark.parametrize("wrong", [1.01, -0.01, float("nan")])
def test_inputs_outside_are_named_by_row(wrong: float) -> None:
    model, c = model_of(), torch.full((3, 3), 1 / 3)
    c[1, 2] = wrong
    refused(lambda: model.decode(Z, c), f"y: row 1 holds {wrong:g}", "from 0 to 1")


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES])
def test_a_missing_label_enters_as_its_probabilities_under_the_prior(labels: Any) -> None:
    prior = (0.7, 0.2, 0.1)
    model = model_of(labels, label_prior=prior)
    p = torch.tensor([prior])
    torch.testing.assert_close(model.decode(Z), by_hand(model, p.expand(3, -1)))
    y = torch.tensor([2, MISSING, 0]) if labels is CLASSES else torch.tensor([[1, 0, 1], [MISSING, 1, 0], [0, 0, 0]])
    if labels is CLASSES:
        c = torch.stack([torch.eye(3)[2], p[0], torch.eye(3)[0]])
    else:
        c = torch.tensor([[1, 0, 1], [prior[0], 1, 0], [0, 0, 0]])
    torch.testing.assert_close(model.decode(Z, y), by_hand(model, c))


def test_floats_of_attributes_that_are_values_are_values() -> None:
    """0, 1 and missing ones, of which shares would be taken as they are."""
    model = model_of(ATTRIBUTES)
    y = torch.tensor([[1.0, 0.0, 1.0], [-1.0, 1.0, 0.0], [float("nan"), 0.0, 0.0]])
    whole = torch.tensor([[1, 0, 1], [MISSING, 1, 0], [MISSING, 0, 0]])
    torch.testing.assert_close(model.decode(Z, y), model.decode(Z, whole))
    shares = torch.tensor([[1.0, 0.0, 1.0], [0.5, 1.0, 0.0], [0.25, 0.0, 0.0]])
    torch.testing.assert_close(model.decode(Z, shares), by_hand(model, shares))
