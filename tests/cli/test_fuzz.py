from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_makers import npz, refused
from fuzz import bounded, fuzz

from pyro_ssvae.data import load_npz
from pyro_ssvae.data.standard import read_idx
from pyro_ssvae.experiment.config import experiment_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bound on memory is read from Linux's /proc")


@pytest.mark.parametrize(("inputs", "seed"), [(2400, 1), pytest.param(100_000, 2, marks=pytest.mark.slow)])
def test_no_file_gets_beyond_one_line(inputs: int, seed: int) -> None:
    came = fuzz([], inputs, seed)
    assert sum(each.accepted + each.refused for each in came.values()) == inputs
    for name, each in came.items():
        assert each.escaped == [], name
        assert each.refused > 0.2 * inputs / len(came), name
        assert each.accepted > 0, name  # the valid files, among others: not everything is refused


def test_what_the_fuzzer_found(tmp_path: Path) -> None:
    idx = tmp_path / "idx"
    idx.write_bytes(b"\0\0\x08\2\0\0\x80\0\0\0\x80\0" + bytes(8))  # says 1 GiB; it was allocated
    with bounded(2**28):
        refused(lambda: read_idx(idx), str(idx), "length")
    idx.write_bytes(b"\0\0\x08\4" + 3 * b"\xff\xff\xff\xff" + bytes(4))  # of no entry, and no shape of NumPy's
    refused(lambda: read_idx(idx), str(idx), "GiB")
    words = np.array(["ab", "c", "a"])
    words.view(np.uint32)[1] = 0x110000  # beyond Unicode: Python's str holds it, and its split raises SystemError
    own = npz(tmp_path / "own.npz", x=np.zeros((3, 2)), y=words)
    refused(lambda: load_npz(own), str(own), "Unicode")
    later = npz(tmp_path / "later.npz", x=np.zeros((3, 2)))
    content = bytearray(later.read_bytes())
    content[content.rindex(b"PK\1\2") + 6] = 123  # its directory asks for version 12.3 of ZIP
    later.write_bytes(content)
    refused(lambda: load_npz(later), str(later), "version 12.3")
    good: dict[str, Any] = {"source": {"data": "digits"}, "network": {"name": "vae", "options": {}}, "training": {}}
    good |= {"saving": {}, "baseline": True, "logger": None}

    def option(value: object) -> dict[str, Any]:
        return {"network": {"name": "vae", "options": {"latent_dim": value}}}

    changes: tuple[dict[str, Any], ...] = (
        {"source": [1]}, {"source": {"data": 3}}, option("2"), option(True), {"network": {"options": {}}},
        {"network": {"name": "ave", "options": {}}}, {"network": {"name": "vae", "options": {"alpha": 1}}},
        {"network": {"name": "vae"}}, {"network": {"name": ["vae"], "options": {}}}, {"network": 7},
        {"training": {"epochs": 2.5}}, {"training": {"rate": 1}}, {"source": {"hide_classes": [1]}}, {"baseline": 1},
        {"saving": {"keep_checkpoints": None}}, {"saving": 3}, {"logger": 7}, {"source": {"data": None}},
    )  # fmt: skip
    for change in changes:
        changed: Any = {**good, **change}
        refused(lambda settings=changed: experiment_of({"settings": settings}, tmp_path), "config.json")
    read = experiment_of({"settings": {**good, "training": {"learning_rate": 1, "epochs": None}}}, tmp_path)
    assert (read.source.data, read.training.learning_rate, read.baseline) == ("digits", 1, True)
