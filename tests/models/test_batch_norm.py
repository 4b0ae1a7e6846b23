"""Batch normalisation in a decoder that hears the label: statistics of the labels that a row can have, no others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import ATTRIBUTES, CLASSES, tiny_encoder
from torch import Tensor, nn

from pyro_ssvae import ADGM, M1M2, M2, AugmentedVAE
from pyro_ssvae.labels import Labels
from pyro_ssvae.nn.networks import Decoder

NORMED = ("augmented", "m2", "adgm", "m1+m2")


def normed(width: int, out: int, label: int) -> Decoder:
    body = nn.Sequential(nn.Linear(7, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, out))
    return Decoder(width, label, 7, body, (out,))


def made(name: str, labels: Labels, how: str) -> Any:
    torch.manual_seed(0)
    encoder = tiny_encoder((5,))
    options: dict[str, Any] = {"latent_dim": 2, "label_inference": how, "entropy_weight": 0.0, "alignment_weight": 0.0}
    if name == "m1+m2":
        plain = Decoder(2, 0, 7, nn.Linear(7, 5), (5,))
        model: Any = M1M2(encoder, plain, labels, upper_decoder=normed(2, 2, labels.size), **options)
    else:
        kind = {"augmented": AugmentedVAE, "m2": M2, "adgm": ADGM}[name]
        model = kind(encoder, normed(2, 5, labels.size), labels, **options)
    return model.double().train()


def known(labels: Labels) -> Tensor:
    return torch.arange(8) % 3 if labels is CLASSES else torch.arange(24).reshape(8, 3) * 5 % 7 % 2


def loss(model: Any, y: Tensor) -> tuple[Tensor, Tensor]:
    """The objective at the means of all draws, and the statistics that it left."""
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(1)).double()
    value = model.objective().differentiable_loss(model.model, model.guide, x, y).detach()
    return value, next(part for part in model.modules() if isinstance(part, nn.BatchNorm1d)).running_mean


@pytest.fixture
def means(monkeypatch: pytest.MonkeyPatch) -> None:
    def mean(self: Any, sample_shape: Any = torch.Size()) -> Tensor:
        drawn: Tensor = self.loc.expand(self._extended_shape(sample_shape))
        return drawn

    monkeypatch.setattr(torch.distributions.Normal, "rsample", mean)
    monkeypatch.setattr(torch.distributions.Normal, "sample", mean)


@pytest.mark.usefixtures("means")
@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
@pytest.mark.parametrize("name", NORMED)
def test_known_labels_leave_the_statistics_of_one_decode(name: str, labels: Labels) -> None:
    """Summed over, with all labels known, is the same as a draw, which can only be the known label."""
    y = known(labels)
    (summed, seen), (drawn, expected) = (loss(made(name, labels, how), y) for how in ("enumerate", "sample"))
    torch.testing.assert_close(summed, drawn, rtol=1e-10, atol=0)
    torch.testing.assert_close(seen, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("means")
@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
def test_each_row_is_as_much_of_the_statistics_as_any_other(labels: Labels) -> None:
    """Of a missing label all values, of a known one the value: the mean over rows of means over their values."""
    y = known(labels)
    y[2:5] = -1
    if labels is ATTRIBUTES:
        y[5, 1] = -1
    model = made("m2", labels, "enumerate")
    heard: list[Tensor] = []
    model.decoder.register_forward_hook(lambda network, inputs, out: heard.append(inputs[1]))
    loss(model, y)
    (c,) = heard
    for row, label in enumerate(y):
        of_row = {tuple(place.tolist()) for place in c[:, row]}
        values = [v for v in labels.configurations() if ((label == -1) | (v == label)).all()]
        assert of_row == {tuple(labels.encode(v).tolist()) for v in values}
        counts = [sum(tuple(place.tolist()) == value for place in c[:, row]) for value in of_row]
        assert len(set(counts)) == 1
