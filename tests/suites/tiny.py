"""Models small enough to be checked by brute force, and their objective at noise that the test chooses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import pyro
import pytest
import torch
from torch import Tensor, nn

from pyro_ssvae import AttributeLabels, AugmentedVAE, ClassLabels, Model
from pyro_ssvae.distributions.relaxed import AcceptRelaxed, PlugIn, StraightThrough
from pyro_ssvae.labels import Labels
from pyro_ssvae.models import MODELS
from pyro_ssvae.models.conditional_decoder import ConditionalDecoder
from pyro_ssvae.nn.networks import Decoder

CLASSES = ClassLabels(3)
ATTRIBUTES = AttributeLabels(["hat", "beard", "scarf"])

# Every model under every option that changes its program. A new model is a line here, and has the whole suite.
CASES: dict[str, tuple[str, Labels, dict[str, Any]]] = {
    "vae": ("vae", CLASSES, {}),
    "classifier": ("classifier", CLASSES, {}),
    "classifier-attributes": ("classifier", ATTRIBUTES, {}),
    "probabilities": ("augmented", CLASSES, {"label_inference": "plug-in"}),
    "enumerate": ("augmented", CLASSES, {"label_inference": "enumerate"}),
    "sparse": ("augmented", CLASSES, {"label_inference": "sparse"}),
    "probabilities-attributes": ("augmented", ATTRIBUTES, {"label_inference": "plug-in"}),
    "enumerate-attributes": ("augmented", ATTRIBUTES, {"label_inference": "enumerate"}),
    "revae": ("revae", CLASSES, {"label_dim": 1}),
    "revae-attributes": ("revae", ATTRIBUTES, {"latent_dim": 4}),
    "revae-local": ("revae", ATTRIBUTES, {"latent_dim": 4, "locality": 1.0, "one_sided": ("hat",)}),
    "m1": ("m1", CLASSES, {}),
    "m1-attributes": ("m1", ATTRIBUTES, {}),
    "m2": ("m2", CLASSES, {}),
    "m2-attributes": ("m2", ATTRIBUTES, {}),
    "m2-straight-through": ("m2", ATTRIBUTES, {"label_inference": "straight-through"}),
    "m1+m2": ("m1+m2", CLASSES, {}),
    "m1+m2-straight-through": ("m1+m2", ATTRIBUTES, {"label_inference": "straight-through"}),
    "adgm": ("adgm", CLASSES, {}),
    "adgm-attributes": ("adgm", ATTRIBUTES, {}),
    "mvae": ("mvae", CLASSES, {}),
    "mvae-attributes": ("mvae", ATTRIBUTES, {"subsets": 0}),
    "diva": ("diva", CLASSES, {}),
    "diva-attributes": ("diva", ATTRIBUTES, {}),
    "diva-straight-through": ("diva", ATTRIBUTES, {"label_inference": "straight-through"}),
}
WIDTH = 8  # of the noise that serves any model's latents
LabelNoise = Literal["inferred", "drawn", "left"]


def mostly_slow(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """The cases, of which all but the named ones are left to ``pytest -m slow``."""
    return [
        case if case in quick else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]


def tiny_encoder(input_shape: tuple[int, ...], width: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), width), nn.Tanh())


def tiny_decoder(input_shape: tuple[int, ...], latent_dim: int, class_dim: int, width: int = 7) -> Decoder:
    return Decoder(latent_dim, class_dim, width, nn.Linear(width, math.prod(input_shape)), input_shape)


def randomize(model: Model, seed: int = 0) -> Model:
    """Give every parameter, the heads that begin at zero too, a value of no symmetry; π is far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            power = 1.0 if "log_scale" in name else 0.5
            scale = 0.5 * min(1.0, (8 / p.shape[-1]) ** power) if p.dim() == 2 else 0.5  # wide layers must not explode
            p.copy_(scale * torch.randn(p.shape, generator=generator, dtype=torch.float64))
        if isinstance(getattr(model, "head", None), nn.Linear):
            model.head.weight.mul_(3)
    return model


def hears_label(name: str) -> bool:
    """Whether the decoder of this model takes the label beside z."""
    return issubclass(MODELS[name], ConditionalDecoder)


def make(name: str, labels: Labels = CLASSES, input_shape: tuple[int, ...] = (5,), **options: Any) -> Any:
    """A model by name with tiny networks and random parameters, two latent dimensions unless the options say."""
    dim = options.setdefault("latent_dim", 2)
    encoder = tiny_encoder(input_shape)
    if name == "classifier":
        return randomize(MODELS[name](encoder, labels, input_shape=input_shape))
    if name == "m1+m2":
        upper = tiny_decoder((dim,), dim, labels.size)
        options = {"upper_encoder": tiny_encoder((dim,)), "upper_decoder": upper, **options}
    decoder = tiny_decoder(input_shape, dim, labels.size if hears_label(name) else 0)
    return randomize(MODELS[name](encoder, decoder, labels, **options))


def build(case: str, input_shape: tuple[int, ...] = (5,)) -> Any:
    """The model of one of :data:`CASES`."""
    name, labels, options = CASES[case]
    return make(name, labels, input_shape, **options)


def augmented(
    labels: Labels = CLASSES, input_shape: tuple[int, ...] = (5,), latent_dim: int = 2, **options: Any
) -> AugmentedVAE:
    made: AugmentedVAE = make("augmented", labels, input_shape, latent_dim=latent_dim, **options)
    return made


def points(n: int, input_shape: tuple[int, ...] = (5,)) -> Tensor:
    x = torch.randn(n, *input_shape)
    return x.sigmoid() if len(input_shape) == 3 else x


def some_labels(labels: Labels, n: int) -> Tensor:
    """Known, missing and, for attributes, partly known rows in turn."""
    if isinstance(labels, ClassLabels):
        return torch.tensor([0, -1, 1, -1, 2, -1])[torch.arange(n) % 6]
    return torch.tensor([[0, 1, 1], [-1, -1, -1], [1, -1, 0], [-1, 0, -1]])[torch.arange(n) % 4]


class Noise(pyro.poutine.messenger.Messenger):
    """Draw every latent ``loc + scale eps``, and labels, with the given ``eps [N, WIDTH]``, a part each.

    The model's own y is left alone.

    :param labels: of the guide: ``"inferred"`` (a relaxed label takes its logistic or Gumbel noise from there, a drawn
        one is a function of it, one that is enumerated is left alone), ``"drawn"`` (that one too), ``"left"`` (all).
    """

    PARTS: ClassVar[dict[str, slice]] = {
        "z": slice(0, 2),
        "z_1": slice(2, 4),
        "a": slice(2, 4),
        "z_s": slice(0, 1),
        "z_c": slice(2, 5),
        "y": slice(5, 8),
    }

    def __init__(self, eps: Tensor, *, labels: LabelNoise = "inferred") -> None:
        super().__init__()
        self.eps, self.labels = eps, labels

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.PARTS or msg["done"] or msg["is_observed"]:
            return
        fn, eps = msg["fn"], self.eps[:, self.PARTS[msg["name"]]]
        if msg["name"] == "y":
            summed = self.labels == "inferred" and msg["infer"].get("enumerate")
            if self.labels == "left" or summed or isinstance(fn, AcceptRelaxed):
                return
            if isinstance(fn, StraightThrough):
                msg["value"], msg["done"] = fn.at(1.7 * eps), True
            elif not isinstance(fn, PlugIn):
                msg["value"], msg["done"] = drawn(fn, torch.special.ndtr(eps)), True
            return
        q = fn.base_dist
        if msg["name"] == "z_c" and q.loc.dim() == 3:  # the ReVAE's attributes, one part of z_c each: [A, B, 1]
            eps = eps.t().unsqueeze(-1)
        msg["value"], msg["done"] = q.loc + q.scale * eps[..., : q.loc.shape[-1]], True


def drawn(fn: Any, u: Tensor) -> Tensor:
    """A label drawn with the uniform noise ``u [B, 3]``: the inverse of the cumulative distribution."""
    if fn.event_shape:
        return (u < fn.probs).long()
    u = u.t() if fn.probs.dim() == 3 else u[:, 0]
    return (u.unsqueeze(-1) > fn.probs.cumsum(-1)).sum(-1).clamp_max(fn.probs.shape[-1] - 1)


def noisy_guide(model: Any, eps: Tensor, *, labels: LabelNoise = "inferred") -> Callable[..., Any]:
    def guide(x: Tensor, y: Tensor | None = None, *more: Any) -> Any:
        with Noise(eps[torch.arange(len(x)) % len(eps)], labels=labels):
            return model.guide(x, y, *more)

    return guide


def loss_at(model: Any, x: Tensor, y: Tensor | None, eps: Tensor) -> Tensor:
    """The loss of the model's own objective, z's noise given."""
    loss: Tensor = model.objective().differentiable_loss(model.model, noisy_guide(model, eps), x, y)
    return loss


def gradients(loss: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """d loss / d parameter by name; zeros where the loss does not depend on it."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), found)}
