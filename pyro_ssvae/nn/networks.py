"""Default encoders and decoders, chosen by the input's shape; any ``nn.Module`` of the same form goes in their place.

An *encoder* maps ``x [B, *input_shape]`` to features ``h [B, H]`` and says H in its attribute ``out_features``.
A *decoder* maps ``z [..., D]`` and a class input ``c [..., C]``, whose leading dimensions broadcast, to
``[..., *input_shape]``. Its first layer is ``W_z z + W_c c``, so z's part is computed once where c is enumerated.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError

FEW = 50  # labels, of which an error rate is half believed
TAUGHT = 0.02  # of a head's gradient reaches a table's features


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; each part then has the mode it had."""
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


class Encoder(nn.Sequential):
    """``nn.Sequential`` that knows the width of its output.

    :ivar dropout: the share of features that a :class:`ClassHead` drops in training.
    """

    def __init__(self, *layers: nn.Module, out_features: int, dropout: float = 0.0) -> None:
        super().__init__(*layers)
        self.out_features = out_features
        self.dropout = dropout


class Beside(nn.Module):
    """``[body(x), x]``: a network's features beside its input, of which a head may be linear.

    :param body: maps ``[B, D]`` to ``[B, H]``.
    :ivar dropout: the share of features that a :class:`ClassHead` drops in training.
    :ivar out_features: H + D.
    """

    def __init__(self, body: Encoder, in_features: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.body = body
        self.dropout = dropout
        self.out_features = body.out_features + in_features

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.body(x), x], -1)


def zeroed(head: nn.Linear) -> nn.Linear:
    """Return a layer to logits with weights and biases of zero, so that training begins with equal logits."""
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


class ClassHead(nn.Linear):
    """A linear layer from an encoder's features to logits, :func:`zeroed`.

    What an encoder says is to be dropped in training is dropped here, and not before the heads of z, whose scale would
    take the noise for the data's. What stands :class:`Beside` the features is not dropped, nor is what ``more`` adds.

    The features of a table learn labels by heart where classes overlap, the sooner the larger α is. So little of the
    head's gradient reaches them (docs/recipe.md).

    :param more: further numbers behind the features.
    :param alone: nothing but the head teaches the encoder, so that the whole gradient reaches it.
    :ivar of_table: the encoder is :class:`Beside`.
    :ivar passed: the share of the gradient that reaches the features.
    :cvar set_by_data: attributes that training decides on by its rows, and no person.
    """

    set_by_data: ClassVar[tuple[str, ...]] = ("dropout", "passed")

    def __init__(self, encoder: nn.Module, size: int, more: int = 0, alone: bool = False) -> None:
        super().__init__(features(encoder) + more, size)
        zeroed(self)
        self.of_table = isinstance(encoder, Beside)
        self.features = features(encoder.body if isinstance(encoder, Beside) else encoder)
        self.dropout = encoder.dropout if isinstance(encoder, (Encoder, Beside)) else 0.0
        self.most_kept = 1 - self.dropout
        self.alone = alone
        self.passed = TAUGHT if self.of_table and not alone else 1.0

    def forward(self, h: Tensor) -> Tensor:
        if self.training and (self.dropout or self.passed < 1):
            f = F.dropout(h[..., : self.features], self.dropout)
            f = torch.lerp(f.detach(), f, self.passed) if self.passed < 1 else f
            h = torch.cat([f, h[..., self.features :]], -1)
        return super().forward(h)

    def lean_on_input(self, error: float, chance: float, labels: float) -> None:
        """Keep ``(1 - dropout) max(0.1, g²)`` of a table's features, and pass on g² / 50 of the gradient, with
        ``g = max(0, 1 - 2 e / e_0 n / (n + 50))``.

        :param error: e, how often simple methods miss labels that they have not seen.
        :param chance: e_0, how often a guess does; 0 of one class.
        :param labels: n, of which e is known.
        """
        g = max(0.0, 1 - 2 * error / chance * labels / (labels + FEW)) if chance else 1.0
        self.dropout = 1 - self.most_kept * max(0.1, g * g)
        self.passed = 1.0 if self.alone else TAUGHT * g * g


class Decoder(nn.Module):
    """``body(relu(W_z z + W_c c))``, reshaped to the input's shape.

    :param body: maps ``[N, width]`` to ``[N, prod(input_shape)]`` in any shape.
    """

    def __init__(
        self, latent_dim: int, class_dim: int, width: int, body: nn.Module, input_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.from_z = nn.Linear(latent_dim, width)
        self.from_c = nn.Linear(class_dim, width, bias=False) if class_dim else None
        self.body = body
        self.input_shape = tuple(input_shape)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        h = self.from_z(z)
        if self.from_c is not None and c is not None:
            h = h + self.from_c(c)
        out = self.body(h.relu().flatten(0, -2))
        return out.reshape(h.shape[:-1] + self.input_shape)


class AddClass(nn.Module):
    """Extend a decoder of ``z`` alone by a class input: ``decoder(z + W c)``.

    Where the decoder begins with a linear layer V this is V z + (V W) c: for no more classes than latent dimensions
    as general as a class input of its own beside z.
    """

    def __init__(self, decoder: nn.Module, latent_dim: int, class_dim: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.from_c = nn.Linear(class_dim, latent_dim, bias=False) if class_dim else None

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        h = z if self.from_c is None or c is None else z + self.from_c(c)
        out = self.decoder(h.flatten(0, -2))
        return out.reshape(h.shape[:-1] + out.shape[1:])


def takes_class_input(decoder: nn.Module) -> bool:
    """Whether the decoder's ``forward`` has a second argument."""
    parameters = inspect.signature(decoder.forward).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 2


def with_class_input(decoder: nn.Module, latent_dim: int, class_dim: int) -> nn.Module:
    """Return a decoder of ``(z, c)``: the decoder itself where it takes both, else in :class:`AddClass`."""
    return decoder if takes_class_input(decoder) else AddClass(decoder, latent_dim, class_dim)


def features(encoder: nn.Module) -> int:
    """The width H of an encoder's output: its ``out_features``, or that of its last layer that has one."""
    for module in [encoder, *reversed(list(encoder.modules()))]:
        width = getattr(module, "out_features", None)
        if isinstance(width, int):
            return width
    raise InputError("encoder: its output's width is not known; give it an attribute out_features = H")


def mixes_rows(network: nn.Module) -> bool:
    """Whether a row's output in training depends on the other rows, as batch normalisation makes it."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules())


def mlp(sizes: Sequence[int], *, norm: bool = True, dropout: float = 0.0) -> list[nn.Module]:
    """Linear layers with ReLU after each, batch normalisation before it."""
    layers: list[nn.Module] = []
    for i, j in pairwise(sizes):
        layers += [nn.Linear(i, j), *([nn.BatchNorm1d(j)] if norm else []), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return layers


def mlp_width(flat: int) -> int:
    """Width of the default MLPs for inputs of ``flat`` numbers."""
    return 256 if flat <= 256 else 500


def default_encoder(input_shape: tuple[int, ...], deep: bool = False) -> Encoder:
    """Convolutions for images of at least 8 pixels (of more than 32: patches first) and series, an MLP for the rest.

    :param input_shape: ``(D,)``, ``(C, T)`` or ``(C, H, W)``.
    :param deep: a further layer after each.
    """
    if len(input_shape) == 2:
        sizes = [input_shape[0], 64, 128, 128]
        layers: list[nn.Module] = []
        for i, j in pairwise(sizes):
            layers += [nn.Conv1d(i, j, 5, stride=2, padding=2), nn.BatchNorm1d(j), nn.ReLU()]
            layers += [nn.Conv1d(j, j, 3, padding=1), nn.BatchNorm1d(j), nn.ReLU()] if deep else []
        return Encoder(*layers, nn.AdaptiveAvgPool1d(4), nn.Flatten(), out_features=512)
    if len(input_shape) == 3 and min(input_shape[1:]) > 32:
        return patch_encoder(input_shape, deep)
    if len(input_shape) == 3 and min(input_shape[1:]) >= 8:
        return conv_encoder(input_shape, deep)
    flat = math.prod(input_shape)
    width = mlp_width(flat)
    layers = mlp([flat, *(width,) * (3 if deep else 2)])
    return Encoder(nn.Flatten(), *layers, out_features=width, dropout=0.2)


def table_encoder(flat: int, deep: bool = False) -> Beside:
    """Two layers of 128 beside the cells: tables are often all but linear.

    :param flat: numbers that the encoder sees of a row.
    :param deep: a third layer.
    """
    layers = mlp([flat, *(128,) * (3 if deep else 2)])
    return Beside(Encoder(*layers, out_features=128), flat)


def conv_encoder(input_shape: tuple[int, ...], deep: bool = False) -> Encoder:
    """Convolutions of stride 2, the first 5x5, the others 3x3, until the image's side is at most 4; a linear layer."""
    channels, height, width = input_shape
    layers: list[nn.Module] = []
    i, j, kernel = channels, 32, 5
    while min(height, width) > 4:
        layers += [nn.Conv2d(i, j, kernel, stride=2, padding=kernel // 2, bias=False), nn.BatchNorm2d(j), nn.ReLU()]
        layers += same_size(j) if deep else []
        i, j, kernel, height, width = j, min(2 * j, 128), 3, (height + 1) // 2, (width + 1) // 2
    return Encoder(*layers, nn.Flatten(), *mlp([i * height * width, 256]), out_features=256)


def same_size(channels: int) -> list[nn.Module]:
    """A 3x3 convolution that keeps size and channels."""
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(channels), nn.ReLU()]


def patch_encoder(input_shape: tuple[int, ...], deep: bool = False) -> Encoder:
    """2x2 pixels become channels, then 4x4 convolutions of stride 2 until the side is at most 4; a linear layer.

    On a CPU twice as fast as convolutions of the pixels themselves.
    """
    channels, height, width = input_shape
    sizes = [4 * channels, *(min(128, 32 * 2**k) for k in range(halvings(input_shape)))]
    layers: list[nn.Module] = [nn.ZeroPad2d((0, width % 2, 0, height % 2)), nn.PixelUnshuffle(2)]
    height, width = (height + 1) // 2, (width + 1) // 2
    for i, j in pairwise(sizes):
        layers += [nn.Conv2d(i, j, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(j), nn.ReLU()]
        layers += same_size(j) if deep else []
        height, width = height // 2, width // 2
    return Encoder(*layers, nn.Flatten(), *mlp([sizes[-1] * height * width, 256]), out_features=256)


def halvings(input_shape: tuple[int, ...]) -> int:
    """How often the shorter side of the 2x2 patches is halved until it is at most 4 (a remainder is cut off)."""
    n, side = 0, (min(input_shape[1:]) + 1) // 2
    while side > 4:
        n, side = n + 1, side // 2
    return n


def default_decoder(input_shape: tuple[int, ...], latent_dim: int, class_dim: int, deep: bool = False) -> Decoder:
    """The counterpart of :func:`default_encoder`: an MLP up to 32 x 32 pixels, else transposed convolutions.

    :param deep: convolutions for smaller images too, which on a CPU take several times as long; a layer more for the
        rest.
    """
    if len(input_shape) == 3 and min(input_shape[1:]) > 32:
        return patch_decoder(input_shape, latent_dim, class_dim)
    if deep and len(input_shape) == 3 and min(input_shape[1:]) >= 8:
        return conv_decoder(input_shape, latent_dim, class_dim)
    flat = math.prod(input_shape)
    width = mlp_width(flat)
    hidden = [layer for _ in range(2 if deep else 1) for layer in (nn.Linear(width, width), nn.ReLU())]
    return Decoder(latent_dim, class_dim, width, nn.Sequential(*hidden, nn.Linear(width, flat)), input_shape)


def conv_decoder(input_shape: tuple[int, ...], latent_dim: int, class_dim: int, channels: int = 32) -> Decoder:
    """A linear layer to an image of a quarter of the side, a transposed convolution that doubles it, 3x3 convolutions,
    and channels that become 2x2 pixels, cropped to the input's size."""
    out, height, width = input_shape
    small, wide = (math.ceil(height / 4), math.ceil(width / 4)), 2 * channels
    body = nn.Sequential(
        *(nn.Linear(512, 2 * wide * math.prod(small)), nn.ReLU(), nn.Unflatten(1, (2 * wide, *small))),
        *(nn.ConvTranspose2d(2 * wide, wide, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, channels, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(channels, 4 * out, 3, padding=1), nn.PixelShuffle(2), Crop(height, width)),
    )
    return Decoder(latent_dim, class_dim, 512, body, input_shape)


def patch_decoder(input_shape: tuple[int, ...], latent_dim: int, class_dim: int) -> Decoder:
    """A linear layer to a small image, 4x4 transposed convolutions that double it, and channels that become 2x2
    pixels, cropped to the input's size. Batch normalisation makes it learn several times as fast."""
    channels, height, width = input_shape
    n = halvings(input_shape)
    small = [math.ceil(side / 2 ** (n + 1)) for side in (height, width)]
    sizes = [128 if k >= 2 else 64 for k in reversed(range(n))]
    flat = sizes[0] * small[0] * small[1]
    layers = [*mlp([256, flat]), nn.Unflatten(1, (sizes[0], *small))]
    for i, j in pairwise(sizes):
        layers += [nn.ConvTranspose2d(i, j, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(j), nn.ReLU()]
    last = [nn.ConvTranspose2d(sizes[-1], 4 * channels, 4, stride=2, padding=1), nn.PixelShuffle(2)]
    return Decoder(latent_dim, class_dim, 256, nn.Sequential(*layers, *last, Crop(height, width)), input_shape)


class Crop(nn.Module):
    """Keep the top left ``height x width`` pixels."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.height, : self.width]
