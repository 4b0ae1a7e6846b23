"""Print the metrics of runs as a Markdown table: python benchmarks/table.py runs/a runs/b ..."""

from __future__ import annotations

import json
import sys
from pathlib import Path

COLUMNS = ("accuracy", "calibration_error", "elbo", "log_likelihood", "reconstruction_error")


def main(folders: list[str]) -> None:
    """One row a run: data, labels, seed, test metrics, accuracy of labels alone, seconds of training."""
    print(f"| data | labels | seed | {' | '.join(c.replace('_', ' ') for c in COLUMNS)} | labels alone | s |")
    print("|---" * (len(COLUMNS) + 5) + "|")
    for folder in folders:
        metrics = json.loads(Path(folder, "metrics.json").read_text())
        settings = json.loads(Path(folder, "config.json").read_text())["settings"]
        test = [f"{metrics['test'][name]:.4g}" if metrics["test"].get(name) is not None else "" for name in COLUMNS]
        test[0] = f"{metrics['test']['accuracy']:.4f}"
        cells = [
            settings["source"]["data"],
            settings["source"]["labels"],
            str(settings["training"]["seed"]),
            *test,
            f"{metrics.get('baseline', {}).get('accuracy', float('nan')):.4f}",
            f"{metrics['train']['seconds']:.0f}",
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
