"""Which score tells a digit that training never saw from the others: AUROC over the left-out classes.

python benchmarks/novelty.py [--likelihood bernoulli] [--classes 0 1 … 9] [--seed 0]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score

import pyro_ssvae as ps
from pyro_ssvae.experiment.config import DataConfig, ModelConfig, model_options, network_for
from pyro_ssvae.experiment.data import prepare_data
from pyro_ssvae.experiment.run import make_model

Parts = dict[str, np.ndarray]


def parts(vae: ps.AugmentedVAE, x: torch.Tensor) -> Parts:
    """What the scores are made of."""
    with torch.no_grad():
        q, h = vae.encode(x), vae.features(x)
        elbo = vae.elbo(x, num_samples=8)
        found = {"h": h, "z": q.mean, "logits": vae.head(h), "x": x, "elbo": elbo}
    flat = {name: value.double().flatten(1) if value.dim() > 1 else value.double() for name, value in found.items()}
    return {name: value.numpy() for name, value in flat.items()}


def nearest(train: np.ndarray, new: np.ndarray, k: int) -> np.ndarray:
    """Distance from the k-th nearest training point."""
    return np.sort(torch.cdist(torch.from_numpy(new), torch.from_numpy(train)).numpy(), 1)[:, k - 1]


def gaussian(train: np.ndarray, new: np.ndarray) -> np.ndarray:
    """log-density of one Gaussian, up to a constant."""
    covariance, _ = ledoit_wolf(train)
    centred = new - train.mean(0)
    return -0.5 * np.einsum("nd,de,ne->n", centred, np.linalg.inv(covariance + 1e-9 * np.eye(len(covariance))), centred)


def by_class(train: np.ndarray, classes: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Mahalanobis distance from the nearest class, of one covariance within classes."""
    means = [train[classes == k].mean(0) for k in np.unique(classes)]
    inside = np.concatenate([train[classes == k] - mean for k, mean in zip(np.unique(classes), means)])
    covariance, _ = ledoit_wolf(inside, assume_centered=True)
    inverse = np.linalg.inv(covariance + 1e-9 * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))
    return np.min([np.einsum("nd,de,ne->n", new - mean, inverse, new - mean) for mean in means], 0)


def scores(a: Parts, b: Parts) -> dict[str, np.ndarray]:
    """Every score of the new points ``b``, the higher the stranger, by the training points ``a``."""
    classes, p = a["logits"].argmax(1), torch.from_numpy(b["logits"]).softmax(-1).numpy()
    return {
        "-ELBO": -b["elbo"],
        "typicality, distance of the ELBO from its training mean": np.abs(b["elbo"] - a["elbo"].mean()),
        "likelihood ratio to one Gaussian of the pixels": gaussian(a["x"], b["x"]) - b["elbo"],
        "energy, -log Σ exp logits": -torch.from_numpy(b["logits"]).logsumexp(-1).numpy(),
        "1 - largest probability": 1 - p.max(1),
        "Mahalanobis by class, z": by_class(a["z"], classes, b["z"]),
        "Mahalanobis by class, features": by_class(a["h"], classes, b["h"]),
        "Mahalanobis of one mean, features": by_class(a["h"], 0 * classes, b["h"]),
        "5th nearest neighbour, z": nearest(a["z"], b["z"], 5),
        "nearest neighbour, features": nearest(a["h"], b["h"], 1),
        "5th nearest neighbour, features": nearest(a["h"], b["h"], 5),
        "nearest neighbour, pixels (no model)": nearest(a["x"], b["x"], 1),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--likelihood")
    parser.add_argument("--classes", nargs="+", default=[str(k) for k in range(10)])
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    found: dict[str, list[float]] = {}
    for name in told.classes:
        source = DataConfig(data="digits", labels="50", leave_out=name)
        dataset, split, validation = prepare_data(source, told.seed)
        options = {} if told.likelihood is None else {"likelihood": told.likelihood}
        network = network_for(ModelConfig("augmented", model_options("augmented", options)), source, True)
        vae = make_model(network, split, told.seed)
        assert isinstance(vae, ps.AugmentedVAE)
        ps.fit(vae, split.x, split.y, seed=told.seed, validation=validation)
        torch.manual_seed(0)
        for score, values in scores(parts(vae, split.x), parts(vae, dataset.x_test)).items():
            found.setdefault(score, []).append(roc_auc_score(dataset.y_test == int(name), values))
    print(f"| score | mean | {' | '.join(told.classes)} |\n|---|---:|{'---:|' * len(told.classes)}")
    for score, areas in sorted(found.items(), key=lambda row: -sum(row[1])):
        print(f"| {score} | {np.mean(areas):.3f} | {' | '.join(f'{area:.2f}' for area in areas)} |")


if __name__ == "__main__":
    main()
