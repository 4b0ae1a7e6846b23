"""How near a bound comes to the truth on counts: ``python benchmarks/counts_bound.py [--seeds 0 1 2]``.

x is drawn from five classes of negative binomials, so that log p(x) is a sum over classes. A VAE and AugVAE with 100
labels are trained on 10,000 rows; importance-weighted bounds (1,000 draws) of 2,000 other rows are compared with it.
"""

from __future__ import annotations

import argparse
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import NegativeBinomial

import pyro_ssvae as ps

SHARES = torch.tensor([0.3, 0.25, 0.2, 0.15, 0.1])
TOTAL = 4.0  # r: variance mean + mean² / r
GENES = 20


def drawn(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return counts ``[n, 20]``, their classes, and log p(x) in nats, ``[n]``."""
    means = torch.exp(1.5 + torch.randn(len(SHARES), GENES, generator=torch.Generator().manual_seed(0)))
    torch.manual_seed(seed)
    y = torch.multinomial(SHARES, n, replacement=True)
    kinds = NegativeBinomial(TOTAL, logits=(means / TOTAL).log())
    x = NegativeBinomial(TOTAL, logits=(means[y] / TOTAL).log()).sample()
    log_p = (SHARES.log() + kinds.log_prob(x.unsqueeze(1)).sum(-1)).logsumexp(-1)
    return x, y, log_p


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=150)
    options = parser.parse_args()
    print("| model | seed | truth | importance-weighted bound | below it |\n|---|---|---|---|---|")
    for seed in options.seeds:
        x, y, _ = drawn(10_000, 2 * seed + 10)
        x_test, _, log_p = drawn(2_000, 2 * seed + 11)
        known = torch.where(torch.arange(len(y)) < 100, y, -1)
        for name, more in (("vae", {}), ("augmented", {"labels": ps.ClassLabels(len(SHARES))})):
            pyro.set_rng_seed(seed)
            own: dict[str, Any] = {"likelihood": "negative-binomial", "latent_dim": 8, **more}
            vae = ps.create_model(name, input_shape=(GENES,), **own)
            ps.fit(vae, x, known if more else None, epochs=options.epochs, progress=False, seed=seed)
            bound, truth = float(ps.log_likelihood(vae, x_test, num_samples=1000).mean()), float(log_p.mean())
            share = (truth - bound) / abs(truth)
            print(f"| {name} | {seed} | {truth:.3f} | {bound:.3f} | {100 * share:.2f} % |", flush=True)


if __name__ == "__main__":
    main()
