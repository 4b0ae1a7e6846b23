"""Models small enough to be checked by brute force, and their objective at noise that the test chooses."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pyro
import torch
from torch import Tensor, nn

from pyro_ssvae import (
    DIVA,
    M1,
    M1M2,
    M2,
    MVAE,
    VAE,
    AttributeLabels,
    AugmentedVAE,
    Classifier,
    ClassLabels,
    Model,
    ReVAE,
)
from pyro_ssvae.infer.label_inference import StraightThroughBernoulli
from pyro_ssvae.nn.networks import Decoder

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
    "revae": ("revae", CLASSES, {"label_dim": 1}),
    "revae-attributes": ("revae", ATTRIBUTES, {}),
    "m1": ("m1", CLASSES, {}),
    "m1-attributes": ("m1", ATTRIBUTES, {}),
    "m2": ("m2", CLASSES, {}),
    "m2-attributes": ("m2", ATTRIBUTES, {}),
    "m2-relax": ("m2", ATTRIBUTES, {"missing": "relax"}),
    "m1+m2": ("m1+m2", CLASSES, {}),
    "m1+m2-relax": ("m1+m2", ATTRIBUTES, {"missing": "relax"}),
    "mvae": ("mvae", CLASSES, {}),
    "mvae-attributes": ("mvae", ATTRIBUTES, {"subsets": 0}),
    "diva": ("diva", CLASSES, {}),
    "diva-attributes": ("diva", ATTRIBUTES, {}),
    "diva-relax": ("diva", ATTRIBUTES, {"missing": "relax"}),
}
PRIOR_MODELS: dict[str, Any] = {"m1": M1, "m2": M2, "m1+m2": M1M2, "mvae": MVAE, "diva": DIVA}
TOLD = ("augmented", "m2")  # models whose decoder is told the label
WIDTH = 8  # of the noise that serves any model's latents


def tiny_encoder(input_shape: tuple[int, ...], width: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), width), nn.Tanh())


def tiny_decoder(input_shape: tuple[int, ...], latent_dim: int, class_dim: int, width: int = 7) -> Decoder:
    return Decoder(latent_dim, class_dim, width, nn.Linear(width, math.prod(input_shape)), input_shape)


def randomize(model: Model, seed: int = 0) -> Model:
    """Give every parameter, the heads that begin at zero too, a value of no symmetry; π is far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            scale = 0.5 * min(1.0, (8 / p.shape[-1]) ** 0.5) if p.dim() == 2 else 0.5  # wide layers must not explode
            p.copy_(scale * torch.randn(p.shape, generator=generator, dtype=torch.float64))
        if isinstance(getattr(model, "head", None), nn.Linear):
            model.head.weight.mul_(3)
    return model


def latent_dim_of(case: str) -> int:
    """2, and as many as the ReVAE of three attributes needs."""
    return 4 if case == "revae-attributes" else 2


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
    if name == "augmented":
        return augmented(labels, input_shape, **options)
    dim = latent_dim_of(case)
    decoder = tiny_decoder(input_shape, dim, labels.size if name in TOLD else 0)
    if name == "m1+m2":
        upper = tiny_decoder((dim,), dim, labels.size)
        options = {**options, "upper_encoder": tiny_encoder((dim,)), "upper_decoder": upper}
    made = {**PRIOR_MODELS, "revae": ReVAE}[name]
    return randomize(made(tiny_encoder(input_shape), decoder, labels, latent_dim=dim, **options))


def points(n: int, input_shape: tuple[int, ...] = (5,)) -> Tensor:
    x = torch.randn(n, *input_shape)
    return x.sigmoid() if len(input_shape) == 3 else x


def some_labels(labels: ClassLabels | AttributeLabels, n: int) -> Tensor:
    """Known, missing and, for attributes, partly known rows in turn."""
    if isinstance(labels, ClassLabels):
        return torch.tensor([0, -1, 1, -1, 2, -1])[torch.arange(n) % 6]
    return torch.tensor([[0, 1, 1], [-1, -1, -1], [1, -1, 0], [-1, 0, -1]])[torch.arange(n) % 4]


class Noise(pyro.poutine.messenger.Messenger):
    """Draw every latent ``loc + scale eps``, and relaxed labels, with the given ``eps [B, WIDTH]``, a part each."""

    PARTS: ClassVar[dict[str, slice]] = {
        "z": slice(0, 2),
        "z_1": slice(2, 4),
        "z_s": slice(0, 1),
        "z_c": slice(2, 5),
        "y_unobserved": slice(5, 8),
    }

    def __init__(self, eps: Tensor) -> None:
        super().__init__()
        self.eps = eps

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.PARTS:
            return
        eps = self.eps[:, self.PARTS[msg["name"]]]
        if msg["name"] == "y_unobserved":
            if isinstance(msg["fn"], StraightThroughBernoulli):
                msg["value"], msg["done"] = msg["fn"].at(1.7 * eps), True
            return
        q = msg["fn"].base_dist
        if msg["name"] == "z_c" and q.loc.dim() == 3:  # the ReVAE's attributes, one part of z_c each: [A, B, 1]
            eps = eps.t().unsqueeze(-1)
        msg["value"], msg["done"] = q.loc + q.scale * eps[..., : q.loc.shape[-1]], True


def noisy_guide(model: Model, eps: Tensor) -> Any:
    def guide(x: Tensor, y: Tensor | None = None, *more: Any) -> Any:
        with Noise(eps):
            return model.guide(x, y, *more)

    return guide


def loss_at(model: Model, x: Tensor, y: Tensor | None, eps: Tensor) -> Tensor:
    """The loss of the model's own objective, z's noise given."""
    return model.objective().differentiable_loss(model.model, noisy_guide(model, eps), x, y)


def gradients(loss: Tensor, model: Model) -> dict[str, Tensor]:
    """d loss / d parameter by name; zeros where the loss does not depend on it."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), found)}
