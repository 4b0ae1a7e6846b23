from __future__ import annotations

from typing import Any

import pyro
import pytest
import torch
from data_makers import refused
from torch import Tensor, nn

from pyro_ssvae import AttributeLabels, ClassLabels, create_model
from pyro_ssvae.labels import Labels
from pyro_ssvae.nn.networks import (
    AddClass,
    ClassHead,
    Decoder,
    default_decoder,
    default_encoder,
    features,
    mixes_rows,
    table_encoder,
    takes_class_input,
)

SHAPES = [(7,), (3, 20), (1, 8, 8), (1, 28, 28), (3, 64, 64), (3, 36, 50), (1, 33, 71), (3, 129, 96)]


@pytest.mark.parametrize("shape", SHAPES)
def test_default_networks_fit_their_shape(shape: tuple[int, ...]) -> None:
    encoder = default_encoder(shape)
    h = encoder(torch.rand(2, *shape))
    assert h.shape == (2, encoder.out_features)
    assert features(encoder) == encoder.out_features
    decoder = default_decoder(shape, 4, 3)
    assert decoder(torch.randn(2, 4), torch.zeros(2, 3)).shape == (2, *shape)
    enumerated = decoder(torch.randn(2, 4), torch.eye(3).unsqueeze(1))
    assert enumerated.shape == (3, 2, *shape)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((7,), nn.Linear),
        ((1, 7, 7), nn.Linear),
        ((1, 8, 8), nn.Conv2d),
        ((3, 20), nn.Conv1d),
        ((1, 28, 28), nn.Conv2d),
        ((3, 64, 64), nn.Conv2d),
    ],
)
def test_the_shape_chooses_the_kind_of_network(shape: tuple[int, ...], kind: type[nn.Module]) -> None:
    weighted = [m for m in default_encoder(shape) if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
    assert type(weighted[0]) is kind


def layers(network: nn.Module) -> str:
    """The layers with weights: numbers or channels in and out, a convolution's side and stride."""
    found = []
    for part in network.modules():
        if isinstance(part, nn.Linear):
            found.append(f"{part.in_features}-{part.out_features}")
        elif isinstance(part, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)):
            found.append(f"{part.in_channels}-{part.out_channels}:{part.kernel_size[0]}/{part.stride[0]}")
    return " ".join(found)


@pytest.mark.parametrize(
    ("shape", "standard", "deep"),
    [
        ((7,), "7-256 256-256", "7-256 256-256 256-256"),
        (
            (3, 20),
            "3-64:5/2 64-128:5/2 128-128:5/2",
            "3-64:5/2 64-64:3/1 64-128:5/2 128-128:3/1 128-128:5/2 128-128:3/1",
        ),
        ((1, 8, 8), "1-32:5/2 512-256", "1-32:5/2 32-32:3/1 512-256"),
        (
            (1, 28, 28),
            "1-32:5/2 32-64:3/2 64-128:3/2 2048-256",
            "1-32:5/2 32-32:3/1 32-64:3/2 64-64:3/1 64-128:3/2 128-128:3/1 2048-256",
        ),
        (
            (3, 64, 64),
            "12-32:4/2 32-64:4/2 64-128:4/2 2048-256",
            "12-32:4/2 32-32:3/1 32-64:4/2 64-64:3/1 64-128:4/2 128-128:3/1 2048-256",
        ),
    ],
)
def test_the_layers_of_default_encoders(shape: tuple[int, ...], standard: str, deep: str) -> None:
    assert layers(default_encoder(shape)) == standard
    assert layers(default_encoder(shape, deep=True)) == deep


@pytest.mark.parametrize(
    ("shape", "standard", "deep"),
    [
        ((300,), "5-500 3-500 500-500 500-300", "5-500 3-500 500-500 500-500 500-300"),
        (
            (1, 28, 28),
            "5-500 3-500 500-500 500-784",
            "5-512 3-512 512-6272 128-64:4/2 64-64:3/1 64-32:3/1 32-4:3/1",
        ),
        ((3, 64, 64), *["5-256 3-256 256-2048 128-64:4/2 64-64:4/2 64-12:4/2"] * 2),
    ],
)
def test_the_layers_of_default_decoders(shape: tuple[int, ...], standard: str, deep: str) -> None:
    assert layers(default_decoder(shape, 5, 3)) == standard
    assert layers(default_decoder(shape, 5, 3, deep=True)) == deep


def test_the_layers_of_a_table() -> None:
    assert layers(table_encoder(9)) == "9-128 128-128"
    assert layers(table_encoder(9, deep=True)) == "9-128 128-128 128-128"


@pytest.mark.parametrize("shape", [(7,), (3, 40, 40)])
def test_decoding_enumerated_classes_is_decoding_each(shape: tuple[int, ...]) -> None:
    decoder, z = default_decoder(shape, 4, 3).double().eval(), torch.randn(2, 4, dtype=torch.float64)
    classes = torch.eye(3, dtype=torch.float64)
    together = decoder(z, classes.unsqueeze(1))
    for k in range(3):
        torch.testing.assert_close(together[k], decoder(z, classes[k].expand(2, 3)))
    assert not torch.allclose(together[0], together[1])


def test_decoder_without_classes_ignores_them() -> None:
    decoder, z = Decoder(4, 0, 5, nn.Linear(5, 6), (2, 3)), torch.randn(2, 4)
    torch.testing.assert_close(decoder(z), decoder(z, torch.zeros(2, 0)))
    assert not any("from_c" in name for name, _ in decoder.named_parameters())


def test_add_class_is_a_shift_of_z() -> None:
    inner = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)))
    decoder = AddClass(inner, 4, 3)
    z, c = torch.randn(2, 4), torch.eye(3)
    out = decoder(z, c.unsqueeze(1))
    assert out.shape == (3, 2, 2, 3)
    assert decoder.from_c is not None
    torch.testing.assert_close(out[1], inner(z + decoder.from_c.weight[:, 1]))
    torch.testing.assert_close(decoder(z), inner(z))


def test_takes_class_input() -> None:
    class Both(nn.Module):
        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return z + c

    class OneAndAnOption(nn.Module):
        def forward(self, z: Tensor, *, temperature: float = 1.0) -> Tensor:
            return z

    assert takes_class_input(Both())
    assert takes_class_input(Decoder(2, 3, 4, nn.Identity(), (4,)))
    assert not takes_class_input(OneAndAnOption())
    assert not takes_class_input(nn.Sequential(nn.Linear(2, 2)))


def test_features_of_an_encoder_of_ones_own() -> None:
    assert features(nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU())) == 5
    said = nn.Sequential(nn.Linear(9, 8), nn.Flatten())
    said.out_features = 8  # type: ignore[assignment]
    assert features(said) == 8
    refused(lambda: features(nn.Sequential(nn.Flatten(), nn.ReLU())), "encoder", "out_features")


def test_whether_rows_meet_in_a_network() -> None:
    assert mixes_rows(nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.BatchNorm1d(3))))
    assert mixes_rows(default_decoder((1, 40, 40), 4, 3))
    assert not mixes_rows(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)))
    assert not mixes_rows(default_decoder((6,), 4, 3))


def test_features_of_a_table_serve_the_head_less_where_simple_methods_err() -> None:
    """Few labels say little of how often; at half of chance by many labels hardly any feature is left, and none is
    taught."""
    encoder = table_encoder(4)
    head, alone = ClassHead(encoder, 2), ClassHead(encoder, 2, alone=True)
    assert (head.dropout, head.passed, alone.passed) == (0.5, 0.02, 1.0)
    for error, labels, g in ((0.0, 1000, 1.0), (0.25, 50, 0.5), (0.25, 1e6, 0.0), (0.5, 10, 2 / 3)):
        for each in (head, alone):
            each.lean_on_input(error, 0.5, labels)
            assert each.dropout == pytest.approx(1 - max(0.05, g**2 / 2), abs=1e-4)
        assert head.passed == pytest.approx(g**2 / 50, abs=1e-5)
        assert alone.passed == 1


def test_a_table_is_encoded_without_noise_and_its_cells_are_never_dropped() -> None:
    torch.manual_seed(0)
    encoder = table_encoder(4)
    head = ClassHead(encoder, 2)
    nn.init.normal_(head.weight)
    x = torch.randn(8, 4)
    h = encoder(x)
    assert torch.equal(h, torch.cat([encoder.body(x), x], 1))
    head.dropout = 1.0
    torch.testing.assert_close(head(h), x @ head.weight[:, -4:].T)


def test_so_much_of_the_heads_gradient_reaches_a_tables_features() -> None:
    """The layer's own weights have all of it."""
    torch.manual_seed(0)
    grads = {}
    for passed in (1.0, 0.02, 0.0):
        torch.manual_seed(1)
        encoder = table_encoder(4)
        head = ClassHead(encoder, 2)
        nn.init.normal_(head.weight)
        head.passed, head.dropout = passed, 0.0
        head(encoder(torch.randn(8, 4))).square().sum().backward()
        grads[passed] = [p.grad for p in (head.weight, encoder.body[0].weight)]
    for passed, (own, body) in grads.items():
        torch.testing.assert_close(own, grads[1.0][0])
        torch.testing.assert_close(body, passed * grads[1.0][1])


@pytest.mark.parametrize("name", ["augmented", "m2", "adgm", "classifier"])
def test_features_of_vectors_are_dropped_before_the_class_head_alone(name: str) -> None:
    """The heads of z would take the noise for the data's. What stands behind the features is not dropped."""
    pyro.set_rng_seed(0)
    model = create_model(name, input_shape=4, labels=ClassLabels(2)).train()
    x = torch.randn(8, 4)
    h = model.encoder(x)
    assert torch.equal(h, model.encoder(x))
    head = model.head
    nn.init.normal_(head.weight)
    more = torch.randn(8, head.in_features - h.shape[1])
    full = torch.cat([h, more], 1)
    assert head.dropout == 0.2
    assert not torch.equal(head(full), head(full))
    head.dropout = 1.0
    torch.testing.assert_close(head(full), more @ head.weight[:, h.shape[1] :].T)
    torch.testing.assert_close(head.eval()(full), full @ head.weight.T)


def test_a_training_asks_how_often_simple_methods_err() -> None:
    """Of labels that nothing tells apart the features serve less than of labels that one column says."""
    torch.manual_seed(0)
    x = torch.randn(200, 3)
    kept = []
    for y in ((x[:, 0] > 0).long(), torch.randint(0, 2, (200,))):
        for name in ("augmented", "classifier"):
            vae = create_model(name, input_shape=3, labels=ClassLabels(2), columns=("normal",) * 3)
            vae.prepare(x, y)
            kept.append(1 - vae.head.dropout)
    assert kept[0] == kept[1] > 0.4
    assert kept[2] == kept[3] == pytest.approx(0.05)


@pytest.mark.parametrize(("labels", "chance"), [(ClassLabels(4), 0.75), (AttributeLabels(["a", "b", "c"]), 0.5)])
def test_a_head_is_told_chance_and_the_labels_of_one_attribute(labels: Labels, chance: float) -> None:
    """50 labels (of each attribute), of which a tenth is missed: g = 1 - 2 · 0.1 / e_0 · 50 / 100."""
    vae: Any = create_model("augmented", input_shape=3, labels=labels, columns=("normal",) * 3)
    vae.expected_error = lambda x, y: 0.1
    y = torch.full((80, *labels.event_shape), -1)
    y[:50] = (torch.arange(50) % 2).reshape(-1, *[1] * len(labels.event_shape))
    vae.prepare(torch.randn(80, 3), y)
    g = 1 - 0.1 / chance
    assert vae.head.passed == pytest.approx(0.02 * g**2)
    assert 1 - vae.head.dropout == pytest.approx(0.5 * g**2)
