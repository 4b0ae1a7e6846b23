"""What a training step of the ReVAE costs beside a plain VAE's with the same networks.

    python benchmarks/revae_cost.py [--rows 128] [--steps 15] [--attributes 18]

64x64 images, 18 attributes of which a fifth is known, 45 latents; forward, backward and AdamW. The three take turns;
medians, and ratios to the VAE's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from pyro_ssvae import AttributeLabels, create_model
from pyro_ssvae.models.revae import BOUND_ALONE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--attributes", type=int, default=18)
    args = parser.parse_args()
    torch.manual_seed(0)
    labels = AttributeLabels([str(i) for i in range(args.attributes)])
    x = torch.rand(args.rows, 3, 64, 64)
    y = torch.where(torch.rand(args.rows, 1) < 0.2, torch.randint(0, 2, (args.rows, args.attributes)), -1)
    options: dict[str, Any] = {"input_shape": (3, 64, 64), "labels": labels, "latent_dim": 45, "likelihood": "laplace"}
    models: dict[str, Any] = {
        "VAE": create_model("vae", **options),
        "ReVAE, the bound alone": create_model("revae", **{**options, **BOUND_ALONE}),
        "ReVAE": create_model("revae", **options),
    }
    optimizers = {name: torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for step in range(args.steps + 2):
        for name, model in models.items():
            start = time.perf_counter()
            optimizers[name].zero_grad()
            model.objective().differentiable_loss(model.model, model.guide, x, y).backward()
            optimizers[name].step()
            if step >= 2:
                seconds[name].append(time.perf_counter() - start)
    vae = statistics.median(seconds["VAE"])
    print(f"{torch.get_num_threads()} threads, {args.rows} rows, median of {args.steps}")
    for name, times in seconds.items():
        print(f"{name}: {1e3 * statistics.median(times):.0f} ms, {statistics.median(times) / vae:.2f} times the VAE's")


if __name__ == "__main__":
    main()
