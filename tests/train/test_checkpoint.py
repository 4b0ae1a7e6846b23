from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from data_makers import refused
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from pyro_ssvae.files import load_tensors, save_tensors, write_atomically
from pyro_ssvae.train.checkpoints import (
    checkpoints,
    load_newest,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    sibling,
    write_state,
)


def save_state(path: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    write_state(path, (tensors, state))


STATE: dict[str, Any] = {"about": {"a": 1}, "done": 3, "seconds": 0.1 + 0.2, "history": {"loss": [1 / 3, 1e-300]}}


class Planted:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, (os.environ["PLANTED"],))


def test_all_kinds_of_tensors_come_back_to_the_last_bit(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(3, 4),
        "double": torch.randn(2, dtype=torch.float64),
        "half": torch.randn(5).to(torch.bfloat16),
        "long": torch.tensor(7),
        "bool": torch.tensor([True, False]),
        "bytes": torch.get_rng_state(),
        "empty": torch.zeros(0, 3),
        "nan": torch.tensor([float("nan"), -0.0, float("inf")]),
        "turned": torch.randn(4, 5).T,
        "parameter": nn.Parameter(torch.randn(2)),
    }
    save_state(tmp_path / "new" / "c", tensors, STATE)
    loaded, state = load_state(tmp_path / "new" / "c")
    assert state == STATE
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert torch.equal(*(t.detach().reshape(-1).view(torch.uint8) for t in (loaded[name], tensor.contiguous())))
    with safe_open(tmp_path / "new" / "c", "pt") as file:  # any reader of safetensors reads it
        assert json.loads(file.metadata()["state"]) == STATE


def test_tied_tensors_are_written_apart(tmp_path: Path) -> None:
    weight = torch.randn(3, 3)
    save_tensors(tmp_path / "c", {"one": weight, "other": weight, "part": weight[:2]})
    loaded, _ = load_tensors(tmp_path / "c", "a file")
    assert torch.equal(loaded["one"], loaded["other"])
    assert torch.equal(loaded["part"], weight[:2])


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "c"
    save_state(file, {"a": torch.randn(4), "b": torch.arange(3)}, STATE)
    content = file.read_bytes()
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            tensors, state = load_state(file)
        except ValueError:
            refused(lambda: load_state(file), str(file))
        else:  # in the header's padding: nothing was lost
            assert state == STATE
            assert torch.equal(tensors["b"], torch.arange(3))
    for length in (0, 4, 8, 40, len(content) - 1):
        file.write_bytes(content[:length])
        refused(lambda: load_state(file), str(file))
    file.write_bytes(content + b"more")
    refused(lambda: load_state(file), str(file))


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "c"
    refused(lambda: load_state(file), str(file), "no such file", "a checkpoint is needed")
    refused(lambda: load_state(tmp_path), str(tmp_path))
    file.write_text("epoch,loss\n1,2\n")
    refused(lambda: load_state(file), str(file))
    save_file({"a": torch.zeros(1)}, file)
    refused(lambda: load_state(file), str(file), "not a checkpoint")
    for text in ("{", "[]", "7", '{"done": 3}', '"x"'):
        save_file({"a": torch.zeros(1)}, file, metadata={"state": text})
        refused(lambda: load_state(file), str(file), "not a checkpoint")


def test_a_planted_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, trace = tmp_path / "c", tmp_path / "ran"
    monkeypatch.setenv("PLANTED", str(trace))
    file.write_bytes(pickle.dumps(Planted()))
    refused(lambda: load_state(file), str(file))
    torch.save({"state": Planted()}, file)
    refused(lambda: load_state(file), str(file))
    assert not trace.exists()
    torch.load(file, weights_only=False)
    assert trace.exists()  # the trap does work


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c"
    write_atomically(file, b"good")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    refused(lambda: write_atomically(file, b"bad"), str(file), "No space left on device")
    assert file.read_bytes() == b"good"
    assert os.listdir(tmp_path) == ["c"], "the part that was written takes no space"


def test_the_last_ones_are_kept_and_the_newest_whole_one_is_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "last.safetensors"
    refused(lambda: load_newest(file), str(file), "no such file")
    for done in range(5):
        write_state(file, ({"a": torch.tensor(done)}, {**STATE, "done": done}), keep=3)
    write_state(sibling(file, "good"), ({"a": torch.tensor(-1)}, {**STATE, "done": -1}))
    (tmp_path / "last-best.safetensors").write_bytes(b"")
    (tmp_path / "last-.safetensors").write_bytes(b"")
    (tmp_path / "other.safetensors").write_bytes(b"")
    names = ["last.safetensors", "last-1.safetensors", "last-2.safetensors", "last-good.safetensors"]
    assert [path.name for path in checkpoints(file)] == names
    capfd.readouterr()
    for name, done in zip(names, (4, 3, 2, -1), strict=True):
        tensors, state = load_newest(file)
        assert (int(tensors["a"]), state["done"]) == (done, done)
        said = capfd.readouterr().err
        assert said.count("\n") == (done < 4)
        assert done == 4 or (str(file) in said and f"going on from {name}, step {done}" in said)
        damaged = bytearray((tmp_path / name).read_bytes())
        damaged[-1] ^= 1
        (tmp_path / name).write_bytes(damaged)
    refused(lambda: load_newest(file), str(file), "damaged")


def test_an_optimiser_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    def stepped(p: nn.Parameter, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            (p**3).sum().backward()
            optimizer.step()

    p, q = (nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    one, other = torch.optim.AdamW([p], lr=0.1), torch.optim.AdamW([q], lr=0.1)
    stepped(p, one, 3)
    save_tensors(tmp_path / "c", {**optimizer_tensors(one), "p": p})
    loaded, _ = load_tensors(tmp_path / "c", "a file")
    q.data.copy_(loaded["p"])
    restore_optimizer(other, loaded)
    stepped(p, one, 2)
    stepped(q, other, 2)
    assert torch.equal(p, q)
