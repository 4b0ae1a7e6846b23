"""Models of the library with one method edited, as a notebook does it: each says what it is in a line."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_ssvae import ADGM, DIVA, M2, VAE, AugmentedVAE
from pyro_ssvae.models.m1m2 import M1M2


def mixture(x: Tensor, dim: int) -> dist.TorchDistribution:
    """0.3 N(-2, 0.5²) + 0.7 N(1.5, 0.8²), all dimensions of one part."""
    loc, scale = x.new_tensor([[-2.0], [1.5]]).expand(2, dim), x.new_tensor([[0.5], [0.8]])
    return dist.MixtureSameFamily(dist.Categorical(x.new_tensor([0.3, 0.7])), dist.Normal(loc, scale).to_event(1))


MIXTURE_MEAN = 0.3 * -2 + 0.7 * 1.5
MIXTURE_BETWEEN = 0.3 * 0.7 * 3.5**2  # variance of the parts' means, which all dimensions share
MIXTURE_WITHIN = 0.3 * 0.5**2 + 0.7 * 0.8**2


class MixtureVAE(VAE):
    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        return mixture(x, self.config.latent_dim)


class MixtureM2(M2):
    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        return mixture(x, self.config.latent_dim)


class MixtureADGM(ADGM):
    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        return mixture(x, self.config.latent_dim)


class MixtureM1M2(M1M2):
    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        return mixture(x, self.config.latent_dim)


class MixtureDIVA(DIVA):
    def p_z_s(self, x: Tensor) -> dist.TorchDistribution:
        return mixture(x, self.config.latent_dim - self.label_dim)


class HeavyAugmented(AugmentedVAE):
    """Student's t of six degrees of freedom, at 0.7, of scale 1.3."""

    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        return dist.StudentT(6.0, x.new_full((self.config.latent_dim,), 0.7), 1.3).to_event(1)


class CountsM2(M2):
    """Negative-binomial counts."""

    def p_x(self, out: Tensor) -> dist.TorchDistribution:
        return dist.NegativeBinomial(2.5, logits=out).to_event(1)


class ShiftedVAE(VAE):
    """The decoder's output is the mean less seven."""

    def p_x(self, out: Tensor) -> dist.TorchDistribution:
        return dist.Normal(out + 7, 0.5).to_event(1)


class FurtherM2(M2):
    """A further Categorical k, independent of y, moves x; the guide sums over both."""

    infer: dict[str, Any] = {"enumerate": "parallel"}  # noqa: RUF012

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.weights, self.to_k = nn.Parameter(torch.zeros(2)), nn.Linear(6, 2)
        self.moves = nn.Parameter(torch.tensor([-1.0, 2.0]))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            k = pyro.sample("k", dist.Categorical(logits=self.weights))
            z = pyro.sample("z", self.p_z(x))
            mean = self.likelihood(self.decoder(z, self.class_input(y, x))).mean + self.moves[k].unsqueeze(-1)
            pyro.sample("x", dist.Normal(mean, 0.8).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        super().guide(x, y)
        with pyro.plate("further", len(x)):
            logits = self.to_k(self.encoder(self.inputs(x)))
            pyro.sample("k", dist.Categorical(logits=logits), infer=self.infer)


class FurtherDrawnM2(FurtherM2):
    """The guide draws k."""

    infer: dict[str, Any] = {}  # noqa: RUF012


class LayeredVAE(VAE):
    """z_2 → z → x, another site and another model, the guide's q(z | x) kept."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            z_2 = pyro.sample("z_2", dist.Normal(x.new_zeros(1), 2.0).to_event(1))
            z = pyro.sample("z", dist.Normal(z_2.expand(*z_2.shape[:-1], self.config.latent_dim) + 1, 0.5).to_event(1))
            pyro.sample("x", self.p_x(self.decoder(z, None)), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        super().guide(x, y)
        with pyro.plate("further", len(x)):
            pyro.sample("z_2", dist.Normal(self.inputs(x)[:, :1], 1.0).to_event(1))


class FlowVAE(VAE):
    """An inverse autoregressive flow in the guide."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.flow = pyro.distributions.transforms.affine_autoregressive(self.config.latent_dim, hidden_dims=[4])

    def q_z(self, x: Tensor) -> dist.TorchDistribution:
        return dist.TransformedDistribution(super().q_z(x), [self.flow])


def functions() -> tuple[Any, Any]:
    """Plain functions whose parameters are Pyro's: a factor analysis with a guide of its own scale."""

    def weights() -> Tensor:
        start = torch.tensor([[1.0, -0.5], [0.3, 0.8], [0.0, 1.0], [0.6, 0.6], [-1.0, 0.2]], dtype=torch.float64)
        return pyro.param("weights", start)

    def model(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(F.linear(z, weights()), 0.7).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        scale = pyro.param("scale", torch.tensor(0.8, dtype=torch.float64), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.3 * x @ weights(), scale).to_event(1))

    return model, guide
