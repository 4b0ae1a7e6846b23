"""How many labels are saved by asking for the suggested ones: python benchmarks/suggest.py --seeds 0 1 2

A simulated annotator on scikit-learn's digits: AugVAE is trained on all 1,438 training points and ten labels, one a
class; then ten labels at a time are asked for, by each strategy, and the model is trained anew. Strategies: random
rows, the largest entropy of q(y | x), and ``ps.suggest``. Printed: test accuracy by number of labels.
"""

from __future__ import annotations

import argparse

import pyro
import torch

import pyro_ssvae as ps
from pyro_ssvae.doubt import entropy

STRATEGIES = ("random", "entropy", "suggest")


def trained(x: torch.Tensor, y: torch.Tensor, labels: ps.ClassLabels, seed: int, epochs: int) -> ps.Model:
    """A new AugVAE on all points and the known labels."""
    pyro.set_rng_seed(seed)
    vae = ps.create_model("augmented", input_shape=tuple(x.shape[1:]), labels=labels)
    ps.fit(vae, x, y, epochs=epochs, seed=seed, progress=False)
    return vae


def asked(strategy: str, vae: ps.Model, x: torch.Tensor, y: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """The rows whose labels are asked for."""
    missing = (y == ps.MISSING).nonzero().squeeze(1)
    if strategy == "random":
        return missing[torch.randperm(len(missing), generator=torch.Generator().manual_seed(seed))[:n]]
    if strategy == "entropy":
        probs = vae.predict_proba(x[missing])  # type: ignore[operator]
        return missing[entropy(probs.double(), True).topk(n).indices]
    return torch.tensor(ps.suggest(vae, x, y, n=n, seed=seed).index.to_list())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--start", type=int, default=10)
    parser.add_argument("--step", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    given = parser.parse_args()
    digits = ps.data.load("digits")
    assert isinstance(digits.labels, ps.ClassLabels)
    print("seed,strategy,labels,classes,accuracy", flush=True)
    for seed in given.seeds:
        start = ps.data.hide_labels(digits.y, digits.labels, given.start, seed)
        first = trained(digits.x, start, digits.labels, seed, given.epochs)
        for strategy in given.strategies:
            vae, y = first, start.clone()
            for round_number in range(given.rounds + 1):
                known = y[y != ps.MISSING]
                accuracy = float((vae.predict(digits.x_test) == digits.y_test).double().mean())  # type: ignore[operator]
                print(f"{seed},{strategy},{len(known)},{len(known.unique())},{accuracy:.4f}", flush=True)
                if round_number < given.rounds:
                    rows = asked(strategy, vae, digits.x, y, given.step, 1000 * seed + round_number)
                    y[rows] = digits.y[rows]
                    vae = trained(digits.x, y, digits.labels, seed, given.epochs)


if __name__ == "__main__":
    main()
