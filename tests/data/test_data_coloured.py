"""CIFAR-10 and SVHN from torchvision's files, here small ones of the same form."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from data_makers import refused
from scipy.io import savemat
from torchvision.datasets import CIFAR10, SVHN

from pyro_ssvae.data import download, load

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def checksum(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def make_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Write six batches of ten pictures, and let torchvision expect their checksums."""
    folder, rng = root / CIFAR10.base_folder, np.random.default_rng(0)
    folder.mkdir(parents=True)
    batches = {name: rng.integers(0, 256, (10, 3072)).astype(np.uint8) for name, _ in CIFAR10.train_list}
    batches["test_batch"] = rng.integers(0, 256, (10, 3072)).astype(np.uint8)
    for name, data in batches.items():
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": [(i + 3) % 10 for i in range(10)]}))
    meta = CIFAR10.meta["filename"]
    (folder / meta).write_bytes(pickle.dumps({"label_names": NAMES}))
    sums = [[name, checksum(folder / name)] for name in batches]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:-1])
    monkeypatch.setattr(CIFAR10, "test_list", sums[-1:])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": checksum(folder / meta)})
    return batches


def make_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Write both files, the digit 0 as class 10 as there, and let torchvision expect their checksums."""
    rng, found, sums = np.random.default_rng(0), {}, {}
    root.mkdir(exist_ok=True)
    for split, n in (("train", 30), ("test", 20)):
        url, file, _ = SVHN.split_list[split]
        found[split] = rng.integers(0, 256, (32, 32, 3, n)).astype(np.uint8)
        savemat(root / file, {"X": found[split], "y": (np.arange(n) % 10 + 1).reshape(-1, 1)})
        sums[split] = [url, file, checksum(root / file)]
    monkeypatch.setattr(SVHN, "split_list", {**SVHN.split_list, **sums})
    return found


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = make_cifar10(tmp_path, monkeypatch)
    data = load("cifar10", root=tmp_path)
    assert (data.name, data.labels.names) == ("cifar10", tuple(NAMES))
    assert (data.x.shape, data.x_test.shape, data.x.dtype) == ((50, 3, 32, 32), (10, 3, 32, 32), torch.uint8)
    assert np.array_equal(data.x[10].numpy(), batches["data_batch_2"][0].reshape(3, 32, 32))
    assert data.y_test.tolist() == [3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    assert load("cifar10", root=tmp_path, image_size=16).input_shape == (3, 16, 16)


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = make_svhn(tmp_path, monkeypatch)
    data = load("svhn", root=tmp_path)
    assert (data.name, data.x.shape, data.x_test.shape) == ("svhn", (30, 3, 32, 32), (20, 3, 32, 32))
    assert np.array_equal(data.x[7].numpy(), found["train"][..., 7].transpose(2, 0, 1))
    assert data.y[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


@pytest.mark.parametrize(("name", "make", "file"), [
    ("cifar10", make_cifar10, "cifar-10-batches-py/data_batch_3"), ("svhn", make_svhn, "test_32x32.mat"),
])  # fmt: skip
def test_a_damaged_file_is_fetched_again_or_named(
    name: str, make: object, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(make)
    make(tmp_path, monkeypatch)
    path = tmp_path / file
    good, asked = path.read_bytes(), []
    path.write_bytes(good[:-1])
    kind = {"cifar10": CIFAR10, "svhn": SVHN}[name]

    def fetch(self: CIFAR10 | SVHN) -> None:
        asked.append(self.root)
        path.write_bytes(good)

    def fail(self: object) -> None:
        raise RuntimeError("no network\nhere")

    monkeypatch.setattr(kind, "download", fail)
    refused(lambda: load(name, root=tmp_path), name, "no network", path.name if name == "svhn" else "cifar-10")
    monkeypatch.setattr(kind, "download", fetch)
    rows = len(load(name, root=tmp_path).x)
    assert (rows, asked) == (50 if name == "cifar10" else 30, [tmp_path])


def test_a_download_that_is_silent_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    before = socket.getdefaulttimeout()
    found = download.downloaded(socket.getdefaulttimeout, "mnist", Path("data"), "files", "MNIST/raw")
    assert found == download.SECONDS
    assert socket.getdefaulttimeout() == before
