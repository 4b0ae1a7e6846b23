"""How noisy the ReVAE's gradient is on unlabelled images: missing labels summed over against drawn.

    python benchmarks/revae_gradient_variance.py [--draws 100] [--size 64] [--steps 60]

Images on which every attribute brightens a patch of its own; CelebA's set-up otherwise: 18 attributes, 45 latents,
Laplace likelihood. Once at the start and once after some training on 20 % of the labels, it prints for one batch of
unlabelled rows the trace of the covariance of the gradient of the class head q(y | z_c), over repeated draws, with
``label_inference="enumerate"`` and with ``"sample"`` (the score function, as in the released Pyro code under
Trace_ELBO), and their ratio. The two have the same mean.
"""

from __future__ import annotations

import argparse

import pyro
import torch
from pyro.infer import SVI
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor

from pyro_ssvae import AttributeLabels, ReVAE, create_model
from pyro_ssvae.infer.label_inference import How
from pyro_ssvae.models.revae import BOUND_ALONE

HOWS: tuple[How, ...] = ("enumerate", "sample")


def images(n: int, size: int, attributes: int) -> tuple[Tensor, Tensor]:
    """Noise, and a bright patch for each attribute that is 1."""
    y = torch.randint(0, 2, (n, attributes))
    across = int(attributes**0.5 + 0.999)
    patch = size // across
    x = 0.3 + 0.1 * torch.rand(n, 3, size, size)
    for i in range(attributes):
        top, left = patch * (i // across), patch * (i % across)
        x[:, i % 3, top : top + patch, left : left + patch] += 0.4 * y[:, i, None, None]
    return x.clamp(0, 1), y


def head_gradients(vae: ReVAE, x: Tensor, how: How, draws: int) -> Tensor:
    """Gradients of the mean loss with respect to the head's weights and biases: ``[draws, 2 A]``."""
    vae.label_inference.how = how
    head = [vae.head_weight, vae.head_bias]
    found = []
    for _ in range(draws):
        loss = vae.objective().differentiable_loss(vae.model, vae.guide, x) / len(x)
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, head)]))
    return torch.stack(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--attributes", type=int, default=18)
    args = parser.parse_args()
    pyro.set_rng_seed(0)
    labels = AttributeLabels([f"patch {i}" for i in range(args.attributes)])
    vae = create_model(
        "revae",
        input_shape=(3, args.size, args.size),
        labels=labels,
        latent_dim=int(2.5 * args.attributes),
        likelihood="laplace",
        alpha=10.0,
        **BOUND_ALONE,
    )
    assert isinstance(vae, ReVAE)
    x, y = images(1000, args.size, args.attributes)
    y = torch.where(torch.rand(len(x), 1) < 0.2, y, -1)
    vae.prepare(x, y)
    svi = SVI(vae.model, vae.guide, Adam({"lr": 1e-3}), loss=vae.objective())
    for steps in (0, args.steps):
        vae.label_inference.how = "enumerate"
        vae.train()
        for _ in range(steps):
            rows = torch.randint(len(x), (64,))
            svi.step(x[rows], y[rows])
        vae.eval()
        batch = x[: args.rows]
        variance: dict[How, float] = {}
        mean: dict[How, Tensor] = {}
        for how in HOWS:
            found = head_gradients(vae, batch, how, args.draws)
            variance[how], mean[how] = found.var(0).sum().item(), found.mean(0)
        error = (variance["sample"] / args.draws) ** 0.5
        print(
            f"after {steps} steps: bound {vae.elbo(batch).mean():.0f} nats, variance enumerate "
            f"{variance['enumerate']:.3g}, sample {variance['sample']:.3g}, ratio "
            f"{variance['sample'] / variance['enumerate']:.3g}; means differ by "
            f"{(mean['sample'] - mean['enumerate']).norm():.3g}, standard error {error:.3g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
