"""Kill a small run at random moments, go on with it, and compare with a run that nobody killed, bit for bit.

    python tests/cli/kills.py --kills 200            # the long version, some minutes
    python tests/cli/kills.py --kills 20 --compile   # compiled steps
    python tests/cli/kills.py --kills 20 --devices 2

Each child is a fork of a process that has imported everything, does what ``pyro-ssvae train`` does, and gets SIGKILL.
One trial is one run, killed once or several times before it ends.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PRELOAD = ["pyro_ssvae.cli.train", "pyro_ssvae.experiment.run", "lightning.fabric", "sklearn.cluster"]
PRELOAD += ["sklearn.datasets", "matplotlib.backends.backend_agg", "kills"]
RUN = ["--batch-size", "16", "--labelled-rows", "4", "--latent-dim", "2", "--labels", "12", "--quiet", "--seed", "3"]
RUN += ["--checkpoint-epochs", "1", "--keep-checkpoints", "3"]


@dataclass
class Count:
    """What came of the trials."""

    trials: int = 0
    kills: int = 0
    before: int = 0
    """Kills before the run's configuration was written: nothing was begun, and the first command is given again."""
    writing: int = 0
    """Kills that left a half-written file behind."""
    lost: int = 0
    differing: int = 0
    told: list[str] = field(default_factory=list)


def data(path: Path) -> Path:
    """Images of 4 x 4, a bright corner a class, every second label missing."""
    import numpy as np

    rng, y = np.random.default_rng(0), np.arange(90) % 3
    x = rng.integers(0, 80, (90, 1, 4, 4), np.uint8)
    for k in range(3):
        x[y == k, 0, k // 2, 2 * (k % 2) :] += 150
    np.savez(path, x=x, y=np.where(np.arange(90) % 4 < 2, y, -1))
    return path


def child(arguments: list[str], said: str, begun: Any, figures: bool) -> None:
    """What the killed process does; ``begun`` hears when it starts, so that the fork's own time does not count."""
    import torch

    from pyro_ssvae.cli.main import main
    from pyro_ssvae.experiment import run as train

    torch.set_num_threads(1)
    if not figures:
        train.save_all = lambda *rest, **more: []
    with open(said, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        begun.send(0)
        status = main(arguments)
        sys.stderr.flush()
    os._exit(status)


class Killer:
    """Starts children and kills them."""

    def __init__(self, place: Path, *, epochs: int = 12, options: tuple[str, ...] = (), figures: bool = False) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"  # before the first child: a fork of a process with threads is none
        self.context: Any = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD)
        self.place, self.figures = place, figures
        self.command = ["train", "--data", str(data(place / "own.npz")), *RUN, "--epochs", str(epochs), *options]

    def run(self, arguments: list[str], after: float | None = None) -> tuple[int, float]:
        """Exit status and seconds of a child, which is killed ``after`` so many seconds if it has not ended."""
        here, there = self.context.Pipe(False)
        said = str(self.place / "said.txt")
        process = self.context.Process(target=child, args=(arguments, said, there, self.figures))
        process.start()
        here.recv()
        started = time.monotonic()
        process.join(after)
        if process.is_alive():
            process.kill()
        process.join()
        return process.exitcode, time.monotonic() - started

    def whole(self) -> tuple[Path, float]:
        """A run that nobody kills, and its seconds; of the second one where steps are compiled, and kept."""
        for name in ("first", "whole") if "--compile" in self.command else ("whole",):
            status, seconds = self.run([*self.command, "--out", str(self.place / name)])
            assert status == 0, (self.place / "said.txt").read_text()
        return self.place / "whole", seconds

    def trial(self, out: Path, whole: Path, seconds: float, rng: random.Random, count: Count, most: int) -> None:
        """Run, be killed and go on until the run has ended; then compare."""
        first = [*self.command, "--out", str(out)]
        arguments, kills = first, 0
        wanted = min(most, rng.choice([1, 1, 2, 3]))
        while True:
            after = rng.uniform(0, seconds) if kills < wanted else None
            status, took = self.run(arguments, after)
            if status == 0:
                break
            if status != -9:
                count.lost += 1
                count.told.append((self.place / "said.txt").read_text()[-500:])
                return
            kills, count.kills = kills + 1, count.kills + 1
            count.writing += any(out.rglob(".*.partial"))
            begun = (out / "config.json").exists()
            count.before += not begun
            if (out / "metrics.json").exists():  # killed after its end
                break
            seconds = max(seconds - took, 0.2 * seconds) if begun else seconds
            arguments = ["train", "--resume", str(out), "--quiet"] if begun else first
        count.trials += 1
        if difference := compare(whole, out):
            count.differing += 1
            count.told.append(difference)


def compare(one: Path, other: Path) -> str:
    """What two runs differ in, in words; empty where everything but the time it took is the same bit for bit."""
    from pyro_ssvae.train.checkpoints import load_state

    if (one / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes():
        return "model.safetensors"
    files = [run / "checkpoint" / "last.safetensors" for run in (one, other)]
    if not alike(*(best(file) for file in files)):
        return "the best weights"
    states = [load_state(file) for file in files]
    if not alike(states[0][0], states[1][0]):
        return "the checkpoint's tensors"
    for _, state in states:
        state.pop("seconds")
        state["history"].pop("seconds")
    if states[0][1] != states[1][1]:
        return "the checkpoint's state"
    tables = []
    for run in (one, other):
        with open(run / "history.csv") as file:
            tables.append([{**row, "seconds": ""} for row in csv.DictReader(file)])
    if tables[0] != tables[1]:
        return "history.csv"
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (one, other)]
    for each in metrics:
        each["train"] = {"epochs": each["train"]["epochs"]}
        each.get("baseline", {}).pop("seconds", None)
    if metrics[0] != metrics[1]:
        return "metrics.json"
    configs = [json.loads((run / "config.json").read_text()) for run in (one, other)]
    for each in configs:
        each.pop("command")
    return "" if configs[0] == configs[1] else "config.json"


def best(file: Path) -> dict[str, Any]:
    """The best weights of a training, and what is said of them; in the file the header's order varies."""
    from pyro_ssvae.files import load_tensors
    from pyro_ssvae.train.checkpoints import sibling

    tensors, facts = load_tensors(sibling(file, "best"), "weights")
    return {**tensors, **facts}


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two dictionaries of tensors and words are the same bit for bit."""
    import torch

    same = (torch.equal(v, other[k]) if isinstance(v, torch.Tensor) else v == other[k] for k, v in one.items())
    return one.keys() == other.keys() and all(same)


def kill_many(killer: Killer, kills: int, seed: int = 0, progress: bool = False) -> Count:
    """Trials until there were so many kills."""
    whole, seconds = killer.whole()
    rng, count = random.Random(seed), Count()
    while count.kills < kills:
        out = killer.place / f"run{count.trials + count.lost}"
        killer.trial(out, whole, seconds, rng, count, kills - count.kills)
        shutil.rmtree(out, ignore_errors=True)
        if progress:
            print(f"\r{count.kills} kills, {count.lost} lost, {count.differing} differing", end="", flush=True)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--devices", type=int, default=1, help="processes that share each batch")
    parser.add_argument("--figures", action="store_true", help="also draw the figures, which takes most of the time")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        options = (*["--compile"] * asked.compile, *(["--devices", str(asked.devices)] if asked.devices > 1 else []))
        killer = Killer(Path(place), epochs=asked.epochs, options=options, figures=asked.figures)
        started = time.monotonic()
        count = kill_many(killer, asked.kills, asked.seed, progress=True)
    where = f"{count.before} before anything was begun, {count.writing} in the middle of a write"
    came = f"{count.lost} lost, {count.differing} differing"
    print(f"\n{count.kills} kills in {count.trials} runs ({where}): {came}; {time.monotonic() - started:.0f} s")
    print(*count.told, sep="\n")
    return int(bool(count.lost or count.differing))


if __name__ == "__main__":
    sys.exit(main())
