"""Models small enough to be checked by brute force, and their objective at noise that the test chooses."""

from __future__ import annotations

import math
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_ssvae import VAE, AttributeLabels, AugmentedVAE, Classifier, ClassLabels, Model
from pyro_ssvae.networks import Decoder

CLASSES = ClassLabels(3)
ATTRIBUTES = AttributeLabels(["hat", "beard", "scarf"])

# Every model under every option that changes its program; `build` makes it.
CASES: dict[str, tuple[str, ClassLabels | AttributeLabels, dict[str, Any]]] = {
    "vae": ("vae", CLASSES, {}),
    "classifier": ("classifier", CLASSES, {}),
    "classifier-attributes": ("classifier", ATTRIBUTES, {}),
    "probabilities": ("augmented", CLASSES, {"class_input": "probabilities"}),
    "enumerate": ("augmented", CLASSES, {"class_input": "enumerate"}),
    "sparse": ("augmented", CLASSES, {"class_input": "sparse"}),
    "probabilities-attributes": ("augmented", ATTRIBUTES, {"class_input": "probabilities"}),
    "enumerate-attributes": ("augmented", ATTRIBUTES, {"class_input": "enumerate"}),
}


def tiny_encoder(input_shape: tuple[int, ...], width: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), width), nn.Tanh())


def tiny_decoder(input_shape: tuple[int, ...], latent_dim: int, class_dim: int, width: int = 7) -> Decoder:
    return Decoder(latent_dim, class_dim, width, nn.Linear(width, math.prod(input_shape)), input_shape)


def randomize(model: Model, seed: int = 0) -> Model:
    """Give every parameter, the heads that begin at zero too, a value of no symmetry; π is far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
        if hasattr(model, "head"):
            model.head.weight.mul_(3)
    return model


def augmented(
    labels: ClassLabels | AttributeLabels = CLASSES,
    input_shape: tuple[int, ...] = (5,),
    latent_dim: int = 2,
    **options: Any,
) -> AugmentedVAE:
    encoder, decoder = tiny_encoder(input_shape), tiny_decoder(input_shape, latent_dim, labels.size)
    return randomize(AugmentedVAE(encoder, decoder, labels, latent_dim=latent_dim, **options))


def build(case: str, input_shape: tuple[int, ...] = (5,)) -> Model:
    name, labels, options = CASES[case]
    if name == "vae":
        return randomize(VAE(tiny_encoder(input_shape), tiny_decoder(input_shape, 2, 0), labels, latent_dim=2))
    if name == "classifier":
        return randomize(Classifier(tiny_encoder(input_shape), labels, input_shape=input_shape))
    return augmented(labels, input_shape, **options)


def points(n: int, input_shape: tuple[int, ...] = (5,)) -> Tensor:
    x = torch.randn(n, *input_shape)
    return x.sigmoid() if len(input_shape) == 3 else x


def some_labels(labels: ClassLabels | AttributeLabels, n: int) -> Tensor:
    """Known, missing and, for attributes, partly known rows in turn."""
    if isinstance(labels, ClassLabels):
        return torch.tensor([0, -1, 1, -1, 2, -1])[torch.arange(n) % 6]
    return torch.tensor([[0, 1, 1], [-1, -1, -1], [1, -1, 0], [-1, 0, -1]])[torch.arange(n) % 4]


class Noise(pyro.poutine.messenger.Messenger):
    """Draw ``z = loc + scale eps`` with the given ``eps``."""

    def __init__(self, eps: Tensor) -> None:
        super().__init__()
        self.eps = eps

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == "z":
            q = msg["fn"].base_dist
            msg["value"], msg["done"] = q.loc + q.scale * self.eps, True


def noisy_guide(model: Model, eps: Tensor) -> Any:
    def guide(x: Tensor, y: Tensor | None = None) -> Any:
        with Noise(eps):
            return model.guide(x, y)

    return guide


def loss_at(model: Model, x: Tensor, y: Tensor | None, eps: Tensor) -> Tensor:
    """The loss of the model's own objective, z's noise given."""
    return model.objective().differentiable_loss(model.model, noisy_guide(model, eps), x, y)


def gradients(loss: Tensor, model: Model) -> dict[str, Tensor]:
    """d loss / d parameter by name; zeros where the loss does not depend on it."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), found)}
