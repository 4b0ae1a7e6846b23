"""Pairs of one's own, as a person writes them in a notebook: no objective, no verbs, some with other sites."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn


class Mixture(nn.Module):
    """Two linked discrete sites that the model alone enumerates, a latent a row, and a latent of the whole data."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.loc = nn.Parameter(torch.randn(3, generator=generator))
        self.weights = nn.Parameter(torch.randn(3, generator=generator))
        self.encoder = nn.Linear(2, 2)
        self.scale = scale

    def rows(self, x: Tensor) -> Any:
        pyro.module("mixture", self)
        return pyro.plate("rows", len(x)), pyro.poutine.scale(scale=self.scale)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        rows, scale = self.rows(x)
        shift = pyro.sample("shift", dist.Normal(x.new_zeros(()), 1.0))
        with rows, scale:
            k = pyro.sample("k", dist.Categorical(logits=self.weights), infer={"enumerate": "parallel"})
            j = pyro.sample("j", dist.Bernoulli(logits=self.loc[k]), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            loc = (self.loc[k] + j + z + shift).unsqueeze(-1)
            pyro.sample("x", dist.Normal(loc, x.new_ones(2)).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        rows, scale = self.rows(x)
        pyro.sample("shift", dist.Normal(self.weights.sum(), 1.0))
        with rows, scale:
            h = self.encoder(x)
            pyro.sample("z", dist.Normal(h[:, 0], h[:, 1].exp()))


class GuidedMixture(Mixture):
    """The same, k enumerated in the guide, and z drawn for each of its values, as M2's."""

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        rows, scale = self.rows(x)
        pyro.sample("shift", dist.Normal(self.weights.sum(), 1.0))
        with rows, scale:
            h = self.encoder(x)
            logits = h[:, :1] * torch.arange(3.0, dtype=x.dtype)
            k = pyro.sample("k", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            pyro.sample("z", dist.Normal(h[:, 0] + k, h[:, 1].exp()))


# --- pairs whose sites are x and y, one class or edit each


class OwnPair(nn.Module):
    """Five numbers a row; a linear decoder and encoder, of two latent dimensions unless a class says otherwise."""

    latent_dim = 2

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        d = self.latent_dim
        self.encoder, self.decoder = nn.Linear(5, 2 * d), nn.Linear(d, 5)
        self.raw_scale = nn.Parameter(torch.zeros(5))
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # the order of a flow's dimensions is drawn
            self.more()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(0.4 * torch.randn(p.shape, generator=generator, dtype=torch.float64))

    def more(self) -> None:
        """Make further parameters."""

    def plate(self, x: Tensor) -> Any:
        """Tell Pyro of the parameters, under a name of this instance."""
        pyro.module(f"own pair {id(self)}", self)
        return pyro.plate("data", len(x))

    def p_z(self, x: Tensor) -> Any:
        return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)

    def p_x(self, out: Tensor) -> Any:
        return dist.Normal(out, nn.functional.softplus(self.raw_scale) + 0.5).to_event(1)

    def q_z(self, x: Tensor) -> Any:
        loc, raw = self.encoder(x).chunk(2, -1)
        return dist.Normal(loc, nn.functional.softplus(raw) + 0.2).to_event(1)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            pyro.sample("x", self.p_x(self.decoder(z)), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with self.plate(x):
            pyro.sample("z", self.q_z(x))


class MixturePrior(OwnPair):
    """p(z) is a mixture of two Gaussians."""

    def p_z(self, x: Tensor) -> Any:
        loc = x.new_tensor([[-2.0, 0.5], [1.5, 1.0]])
        parts = dist.Normal(loc, x.new_tensor([[0.5], [0.8]])).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(x.new_tensor([0.3, 0.7])), parts)


class HeavyTails(OwnPair):
    """p(z) is Student's t of five degrees of freedom."""

    def p_z(self, x: Tensor) -> Any:
        return dist.StudentT(5.0, x.new_full((2,), 0.7), 1.3).to_event(1)


class Counts(OwnPair):
    """A negative-binomial likelihood: points are counts."""

    def p_x(self, out: Tensor) -> Any:
        total = nn.functional.softplus(self.raw_scale) + 1.0
        return dist.NegativeBinomial(total, logits=out).to_event(1)


class Further(OwnPair):
    """A further Categorical site, which moves x: k. The guide draws it, or one of them enumerates it.

    :param how: ``"guide"`` or ``"model"`` enumerates it, or the guide has it ``"drawn"``.
    """

    how = "guide"

    def more(self) -> None:
        self.weights = nn.Parameter(torch.zeros(3))
        self.moves = nn.Linear(3, 5, bias=False)
        if self.how != "model":
            self.to_k = nn.Linear(5, 3)

    @property
    def infer(self) -> dict[str, str]:
        return {} if self.how == "drawn" else {"enumerate": "parallel"}

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with self.plate(x):
            k = pyro.sample("k", dist.Categorical(logits=self.weights), infer=self.infer)
            z = pyro.sample("z", self.p_z(x))
            one_hot = (k.unsqueeze(-1) == torch.arange(3)).to(x)
            pyro.sample("x", self.p_x(self.decoder(z) + self.moves(one_hot)), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with self.plate(x):
            if self.how != "model":
                pyro.sample("k", dist.Categorical(logits=self.to_k(x)), infer=self.infer)
            pyro.sample("z", self.q_z(x))


class FurtherDrawn(Further):
    how = "drawn"


class FurtherInModel(Further):
    how = "model"


class Layered(OwnPair):
    """z_2 → z → x."""

    def more(self) -> None:
        self.down, self.up = nn.Linear(2, 2), nn.Linear(2, 4)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with self.plate(x):
            z_2 = pyro.sample("z_2", self.p_z(x))
            z = pyro.sample("z", dist.Normal(self.down(z_2), 0.8).to_event(1))
            pyro.sample("x", self.p_x(self.decoder(z)), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with self.plate(x):
            z = pyro.sample("z", self.q_z(x))
            loc, raw = self.up(z).chunk(2, -1)
            pyro.sample("z_2", dist.Normal(loc, nn.functional.softplus(raw) + 0.2).to_event(1))


class Flow(OwnPair):
    """An inverse autoregressive flow in the guide: Kingma et al. (2016), arXiv:1606.04934."""

    def more(self) -> None:
        self.flow = pyro.distributions.transforms.affine_autoregressive(2, hidden_dims=[4])

    def q_z(self, x: Tensor) -> Any:
        return dist.TransformedDistribution(super().q_z(x), [self.flow])


class SplineFlow(Flow):
    """A spline in the guide: Durkan et al. (2019), arXiv:1906.04032."""

    def more(self) -> None:
        self.flow = pyro.distributions.transforms.spline(2)


OWN: dict[str, type[OwnPair]] = {
    "plain": OwnPair,
    "mixture prior": MixturePrior,
    "heavy tails": HeavyTails,
    "counts": Counts,
    "further, summed": Further,
    "further, drawn": FurtherDrawn,
    "further, of the model": FurtherInModel,
    "layered": Layered,
    "flow": Flow,
    "spline": SplineFlow,
}


def own_points(case: str, n: int) -> Tensor:
    x = torch.randn(n, 5)
    return (3 * x).abs().round() if case == "counts" else x


class OwnNoise(poutine.messenger.Messenger):
    """Draw each site with the noise ``eps [B, 8]``; what is enumerated is left alone."""

    PARTS: ClassVar[dict[str, slice]] = {"z": slice(0, 2), "z_2": slice(2, 4), "shift": slice(4, 5), "k": slice(5, 6)}

    def __init__(self, eps: Tensor, *, labels: str = "inferred", only: Iterable[str] = PARTS) -> None:
        super().__init__()
        self.eps, self.labels, self.only = eps, labels, only

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.only or msg["done"] or msg["is_observed"]:
            return
        fn, eps = msg["fn"], self.eps[:, self.PARTS[msg["name"]]]
        if msg["name"] == "k":
            if self.labels == "drawn" or not msg["infer"].get("enumerate"):
                u = torch.special.ndtr(eps)
                msg["value"], msg["done"] = (u > fn.probs.cumsum(-1)).sum(-1).clamp_max(2), True
            return
        transforms = fn.transforms if isinstance(fn, dist.TransformedDistribution) else []
        base = fn.base_dist
        while not isinstance(base, dist.Normal):
            base = base.base_dist
        value = base.loc + base.scale * eps
        for transform in transforms:
            value = transform(value)
        msg["value"], msg["done"] = value, True


def own_program(program: Callable[..., Any], eps: Tensor, **options: Any) -> Callable[..., Any]:
    """The model or guide with its draws made of the noise."""

    def noisy(x: Tensor, y: Tensor | None = None) -> Any:
        with OwnNoise(eps[: len(x)], **options):
            return program(x, y)

    return noisy
