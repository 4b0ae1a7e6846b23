"""How many labels are saved by asking for the suggested ones: python benchmarks/suggest.py --seeds 0 1 2 3 4 5 6 7 8 9

A simulated annotator on scikit-learn's digits: AugVAE is trained on all 1,438 training points and ten labels, one a
class; then ten labels at a time are asked for, by each strategy, and the model is trained anew. Strategies: random
rows, the largest entropy of q(y | x), BADGE (what ``ps.suggest`` did before) and ``ps.suggest``. Printed: test accuracy
by number of labels, as CSV; ``--table FILE`` makes the table of results/suggest.md of such lines.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyro
import torch

import pyro_ssvae as ps
from pyro_ssvae.evaluation.uncertainty import entropy
from pyro_ssvae.studies.intervals import t_interval

STRATEGIES = ("random", "entropy", "badge", "suggest")


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
    if strategy == "badge":
        z = vae.encode(x[missing]).mean.double()  # type: ignore[operator]
        return missing[badge(vae.predict_proba(x[missing]).double(), z, n, seed)]  # type: ignore[operator]
    return torch.tensor(ps.suggest(vae, x, y, n=n, seed=seed).index.to_list())


def badge(probs: torch.Tensor, z: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """First centres of k-means++ of ``(π - onehot(argmax π)) ⊗ (1, z)``, and of 0, where the sure points are.

    Source: Ash, Zhang, Krishnamurthy, Langford, Agarwal (2020), arXiv:1906.03671, with z for the last layer's features.
    """
    z = (z - z.mean(0)) / z.std(0, unbiased=False).clamp_min(1e-12) / z.shape[1] ** 0.5
    features = torch.cat([torch.ones(len(z), 1, dtype=z.dtype), z], 1)
    guess = torch.nn.functional.one_hot(probs.argmax(-1), probs.shape[-1])
    points = ((probs - guess).unsqueeze(-1) * features.unsqueeze(1)).flatten(1)
    generator, nearest = np.random.default_rng(seed), points.square().sum(1)
    chosen = [int(nearest.argmax())]
    for _ in range(n - 1):
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
        nearest[chosen] = 0
        chosen.append(int(generator.choice(len(points), p=(nearest / nearest.sum()).numpy())))
    return torch.tensor(chosen)


def table(lines: Iterable[str]) -> str:
    """Mean accuracies over seeds, and differences from random seed by seed, with 95 % intervals (Student's t).

    :param lines: what this program printed, headings and several runs' lines among it.
    """
    found: dict[tuple[str, int], dict[int, float]] = {}
    for line in lines:
        if line[:1].isdigit():
            seed, strategy, labels, _, accuracy = line.strip().split(",")
            found.setdefault((strategy, int(labels)), {})[int(seed)] = float(accuracy)
    strategies = [name for name in STRATEGIES if any(name == strategy for strategy, _ in found)]
    heads = [*strategies, *(f"{name} - random" for name in strategies if name != "random")]
    rows = [f"| labels | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for n in sorted({labels for _, labels in found}):
        cells = [[*found.get((name, n), {}).values()] for name in strategies]
        random = found.get(("random", n), {})
        for name in strategies:
            if name != "random":
                both = found.get((name, n), {})
                cells.append([both[seed] - random[seed] for seed in sorted(both.keys() & random.keys())])
        rows.append(f"| {n} | {' | '.join(map(words, cells))} |")
    return "\n".join(rows)


def words(values: list[float]) -> str:
    """``mean ± half of the interval (number of seeds)``."""
    interval = t_interval(values)
    if interval is None:
        return ""
    return f"{interval.mean:.3f}{'' if interval.half is None else f' ± {interval.half:.3f}'} ({interval.n})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--start", type=int, default=10)
    parser.add_argument("--step", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--table", nargs="+", type=Path)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    given = parser.parse_args()
    if given.table:
        print(table(line for file in given.table for line in file.read_text().splitlines()))
        return
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
