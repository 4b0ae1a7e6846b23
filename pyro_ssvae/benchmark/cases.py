"""The benchmark's cases: models, sizes of their networks, and data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..infer.label_inference import How
from ..labels import AttributeLabels, ClassLabels
from ..models import M2, MODELS, AugmentedVAE, Model
from ..models.revae import BOUND_ALONE
from ..nn.networks import Decoder, Encoder, mlp


@dataclass(frozen=True)
class Case:
    """One line of the table: a model, its networks' size, the batch, and how a missing label is inferred."""

    model: str
    size: str
    batch: int
    label_inference: How | None = None

    @property
    def name(self) -> str:
        """The model in words."""
        return f"{self.model} {self.label_inference}" if self.label_inference else self.model


SMALL, LARGE, IMAGES = "16-16-4", "784-500-500-50", "3x64x64-45"
HOWS: tuple[How, ...] = ("plug-in", "enumerate", "sparse")
CASES = (
    Case("augmented", SMALL, 32, "plug-in"),
    *(Case("augmented", LARGE, 256, how) for how in HOWS),
    Case("augmented", LARGE, 64, "plug-in"),
    Case("revae", IMAGES, 32),
    Case("m2", SMALL, 32),
    Case("m2", LARGE, 256),
)
QUICK = CASES[:1]


def make(case: Case) -> Model:
    """Return the case's model: the ReVAE with its default convolutions, others with MLPs of the given widths."""
    torch.manual_seed(0)
    if case.size == IMAGES:
        labels = AttributeLabels([f"attribute {i}" for i in range(18)])
        shape = tuple(int(n) for n in IMAGES.split("-")[0].split("x"))
        return MODELS[case.model].default(shape, labels, latent_dim=45, **BOUND_ALONE)
    flat, *hidden, latent = (int(n) for n in case.size.split("-"))
    encoder = Encoder(*mlp([flat, *hidden], norm=case.size == LARGE), out_features=hidden[-1])
    body = nn.Sequential(*mlp(hidden[::-1], norm=False), nn.Linear(hidden[0], flat))
    decoder = Decoder(latent, 10, hidden[-1], body, (flat,))
    kinds: dict[str, type[AugmentedVAE] | type[M2]] = {"augmented": AugmentedVAE, "m2": M2}
    return kinds[case.model](
        encoder,
        decoder,
        ClassLabels(10),
        latent_dim=latent,
        likelihood="bernoulli",
        alpha=50.0,
        label_inference=case.label_inference,
    )


def make_data(case: Case, batches: int) -> tuple[Tensor, Tensor]:
    """Return points that have classes, so that training settles; a label, or each attribute, is known in a quarter."""
    generator = torch.Generator().manual_seed(0)
    n = case.batch * batches
    shape = (3, 64, 64) if case.size == IMAGES else (int(case.size.split("-")[0]),)
    truth = torch.randint(10, (n,), generator=generator)
    centres = torch.rand((10, *shape), generator=generator)
    x = (centres[truth].round() * 0.8 + 0.2 * torch.rand((n, *shape), generator=generator)).clamp(0, 1)
    y = (truth.unsqueeze(-1) >> torch.arange(18) % 4) & 1 if case.size == IMAGES else truth
    return x, y.where(torch.rand(y.shape, generator=generator) < 0.25, -1)
