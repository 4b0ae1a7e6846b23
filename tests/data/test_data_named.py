"""Data sets that have a name: digits, MNIST, Fashion-MNIST and UCI-HAR."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from data_makers import ACTIVITIES, har, idx, mnist, npz, refused

from pyro_ssvae.data import Dataset, fingerprint, load, standard


def test_digits() -> None:
    data = load("digits")
    assert data.x.shape == (1438, 1, 8, 8)
    assert data.x_test.shape == (359, 1, 8, 8)
    assert data.x.dtype == torch.float32
    assert (float(data.x.min()), float(data.x.max())) == (0, 1)
    assert data.y_test.bincount().tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    every = torch.cat([data.x, data.x_test]).flatten(1)
    assert len(every.unique(dim=0)) == 1797  # no point in both splits, none lost
    assert fingerprint(load("digits")) == fingerprint(data)
    assert load("digits", image_size=16).input_shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("name", "shape", "counts", "counts_test"),
    [
        ("breast-cancer", (30,), [170, 285], [42, 72]),
        ("wine", (13,), [47, 57, 38], [12, 14, 10]),
        ("counts", (50,), [640, 480, 320, 160], [160, 120, 80, 40]),
    ],
)
def test_tables_that_need_no_file(name: str, shape: tuple[int], counts: list[int], counts_test: list[int]) -> None:
    data = load(name)
    assert (data.name, data.input_shape, data.x.dtype, data.kind) == (name, shape, torch.float32, "vectors")
    assert data.y.bincount().tolist() == counts
    assert data.y_test.bincount().tolist() == counts_test
    every = torch.cat([data.x, data.x_test])
    assert len(every.unique(dim=0)) == len(every)  # no point in both splits
    assert fingerprint(load(name)) == fingerprint(data)
    refused(lambda: load(name, image_size=8), "--image-size", name, "no images")


def test_simulated_counts_are_negative_binomial_with_classes_that_differ() -> None:
    data = load("counts")
    x = torch.cat([data.x, data.x_test]).double()
    assert bool((x == x.round()).all() and (x >= 0).all())
    y = torch.cat([data.y, data.y_test])
    # a mixture of Poisson over a gamma of shape 2 has a variance of at least μ + μ² / 2 within a class
    mean, var = x[y == 0].mean(0), x[y == 0].var(0)
    large = mean > 1
    assert float((var / (mean + mean.square() / 2))[large].median()) > 1
    gaps = ((x[y == 0].mean(0) - x[y == 1].mean(0)).abs() / (var / 800 + x[y == 1].var(0) / 600).sqrt()) > 5
    assert 3 <= int(gaps.sum()) <= 25  # of 50 columns; a fifth is marked in each of the two


def test_imbalanced_digits_are_digits_with_a_tenth_of_the_first_five_classes() -> None:
    data, digits = load("imbalanced-digits"), load("digits")
    assert data.y.bincount().tolist() == [14, 15, 14, 15, 14, 146, 145, 143, 139, 144]
    assert data.y_test.bincount().tolist() == [4, 4, 4, 4, 4, 36, 36, 36, 35, 36]
    for x, y, x_all, y_all in (
        (data.x, data.y, digits.x, digits.y),
        (data.x_test, data.y_test, digits.x_test, digits.y_test),
    ):
        assert torch.equal(x[y >= 5], x_all[y_all >= 5])
        known = {(tuple(point.flatten().tolist()), int(k)) for point, k in zip(x_all, y_all)}
        assert {(tuple(point.flatten().tolist()), int(k)) for point, k in zip(x, y)} <= known
    assert fingerprint(load("imbalanced-digits")) == fingerprint(data)
    assert load("imbalanced-digits", image_size=16).input_shape == (1, 16, 16)


def test_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(lambda: load("digit"), "'digit'", "did you mean 'digits'?")
    refused(lambda: load("fashion_mnist"), "did you mean 'fashion-mnist'?")
    refused(lambda: load("xyzzy"), "'xyzzy'", "known: digits, mnist")
    refused(lambda: load("x" * 5000), "no such data set")
    refused(lambda: load("a\0b\nc"), "no such data set")
    refused(lambda: load("some/where"), "some/where", "no such file or folder")
    refused(lambda: load("a.npz"), "a.npz", "no such file")
    npz(tmp_path / "mnist.npz", x=np.zeros((4, 2)))
    assert load("mnist.npz").kind == "vectors"


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_layout_read_only(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = mnist(tmp_path, suffix=suffix)
    raw.chmod(0o555)
    try:
        monkeypatch.setenv("PYRO_SSVAE_DATA", str(tmp_path))
        data = load("mnist")
    finally:
        raw.chmod(0o755)
    assert data.x.shape == (20, 1, 28, 28)
    assert data.x.dtype == torch.uint8
    assert data.y_test.tolist() == list(range(10))
    first = np.random.default_rng(0).integers(0, 256, (20, 28, 28))
    assert bool((data.x[:, 0].numpy() == first).all())
    assert load("mnist", root=tmp_path, image_size=20).x_test.shape == (10, 1, 20, 20)
    assert len(list(raw.iterdir())) == 4


def test_our_reader_agrees_with_torchvision(tmp_path: Path) -> None:
    mnist(tmp_path, suffix="")
    theirs = torchvision.datasets.MNIST(tmp_path, train=False)
    data = load("mnist", root=tmp_path)
    assert bool((theirs.data == data.x_test[:, 0]).all())
    assert theirs.targets.tolist() == data.y_test.tolist()


def test_fashion_mnist_from_torchvisions_or_debians_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard, "DEBIAN_FASHION", tmp_path / "debian")
    raw = mnist(tmp_path, "FashionMNIST")
    data = load("fashion-mnist", root=tmp_path)
    assert data.labels.names[9] == "Ankle boot"
    assert data.name == "fashion-mnist"
    shutil.move(raw, tmp_path / "debian")
    assert fingerprint(load("fashion-mnist", root=tmp_path / "nowhere")) == fingerprint(data)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_a_failed_download_says_where_the_files_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: str
) -> None:
    def fail(root: Path, download: bool) -> None:
        raise RuntimeError("Error downloading\nfrom here")

    monkeypatch.setattr(standard, "DEBIAN_FASHION", tmp_path / "debian")
    monkeypatch.setattr(torchvision.datasets, folder, fail)
    refused(lambda: load(name, root=tmp_path), f"{folder}/raw", "PYRO_SSVAE_DATA", "Error downloading", "ubyte.gz")


def test_a_download_happens_only_where_a_file_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(root: Path, download: bool) -> None:
        asked.append(root)
        mnist(root)

    monkeypatch.setattr(torchvision.datasets, "MNIST", fetch)
    assert len(load("mnist", root=tmp_path).x) == 20
    assert len(load("mnist", root=tmp_path).x) == 20
    assert asked == [tmp_path]
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    load("mnist", root=tmp_path)
    assert len(asked) == 2


def test_damaged_idx_files_are_named(tmp_path: Path) -> None:
    raw = mnist(tmp_path)
    path = raw / "train-images-idx3-ubyte.gz"
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    plain = gzip.decompress(good)
    giant = bytes([0, 0, 8, 3]) + b"\xff" * 12
    damaged = {
        "cut": good[: len(good) // 2],
        "flipped": bytes(flipped),
        "checksum": good[:-8] + bytes(8),
        "empty": b"",
        "html": b"<html>",
        "short": gzip.compress(plain[:-1]),
        "long": gzip.compress(plain + b"\0"),
        "header": gzip.compress(plain[:3]),
        "floats": gzip.compress(b"\0\0\x0d\x03" + plain[4:]),
        "gigantic": gzip.compress(giant),
    }
    for content in damaged.values():
        path.write_bytes(content)
        refused(lambda: load("mnist", root=tmp_path), path.name)
    path.write_bytes(good)
    labels = raw / "t10k-labels-idx1-ubyte.gz"
    for wrong in (np.arange(9), np.full(10, 10), np.zeros((10, 1))):
        idx(labels, wrong)
        refused(lambda: load("mnist", root=tmp_path), "t10k-labels-idx1-ubyte")
    idx(labels, np.zeros(0))
    idx(raw / "t10k-images-idx3-ubyte.gz", np.zeros((0, 28, 28)))
    refused(lambda: load("mnist", root=tmp_path, image_size=3), "t10k-labels-idx1-ubyte")


@pytest.fixture(scope="module")
def har_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("har")
    har(root)
    return root


def test_har_features(har_root: Path) -> None:
    data = load("har", root=har_root)
    assert data.x.shape == (12, 561)
    assert data.x_test.shape == (6, 561)
    assert data.kind == "vectors"
    assert data.labels.names == ACTIVITIES
    assert data.y_test.tolist() == [0, 1, 2, 3, 4, 5]
    first = np.random.default_rng(0).uniform(-1, 1, (12, 561))
    assert np.allclose(data.x.numpy(), first, atol=1e-6)
    assert fingerprint(load("har", root=har_root / "UCI HAR Dataset")) == fingerprint(data)


def test_har_windows(har_root: Path) -> None:
    data = load("har-windows", root=har_root)
    assert data.x.shape == (12, 9, 128)
    assert data.kind == "series"
    assert data.x[0, :, 0].tolist() == list(range(9))  # the signals in their order
    refused(lambda: load("har-windows", root=har_root, image_size=8), "--image-size", "har-windows")


def test_har_absent_or_packed(tmp_path: Path) -> None:
    refused(lambda: load("har", root=tmp_path), "Human Activity Recognition Using Smartphones", str(tmp_path), "UCI")
    (tmp_path / "UCI HAR Dataset.zip").write_bytes(b"")
    refused(lambda: load("har", root=tmp_path), "UCI HAR Dataset.zip", "unpack")


HAR_WRONG = [
    ("har", "train/X_train.txt", None, ["no such file"]),
    ("har", "train/X_train.txt", "", ["empty"]),
    ("har", "train/X_train.txt", "1 2\n", ["2 columns", "features.txt", "3"]),
    ("har", "train/X_train.txt", "1 2 3\n4 5\n", ["line 2"]),
    ("har", "train/X_train.txt", "1 2 3\n4 five 6\n", ["line 2"]),
    ("har", "train/X_train.txt", "1 2 3\n4 nan 6\n", ["row 1", "NaN"]),
    ("har", "test/X_test.txt", b"\xff\xfe\x00", ["UTF-8"]),
    ("har", "train/y_train.txt", "1\n2\n", ["y_train.txt", "12 points"]),
    ("har", "train/y_train.txt", "1\n" * 11 + "7\n", ["line 12 is 7", "1 to 6"]),
    ("har", "train/y_train.txt", "1\n" * 11 + "1.5\n", ["line 12 is 1.5"]),
    ("har", "test/y_test.txt", "1 2\n" * 6, ["6 points"]),
    ("har", "activity_labels.txt", "", ["empty"]),
    ("har", "activity_labels.txt", "1 WALKING\n3 SITTING\n", ["line 2"]),
    ("har", "activity_labels.txt", "1 WALKING\n2 WALKING\n", ["line 2"]),
    ("har", "features.txt", None, ["no such file"]),
    ("har-windows", "train/Inertial Signals/body_gyro_y_train.txt", None, ["no such file"]),
    ("har-windows", "train/Inertial Signals/total_acc_z_train.txt", "1 2 3 4\n", ["[1, 4]", "[12, 4]"]),
]


@pytest.mark.parametrize(("name", "file", "content", "culprits"), HAR_WRONG)
def test_damaged_har(tmp_path: Path, name: str, file: str, content: str | bytes | None, culprits: list[str]) -> None:
    path = har(tmp_path, features=3, steps=4) / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    refused(lambda: load(name, root=tmp_path), path.name, *culprits)


def test_har_windows_of_two_lengths(tmp_path: Path) -> None:
    home = har(tmp_path, features=3, steps=4)
    har(tmp_path / "other", features=3, steps=5)
    shutil.rmtree(home / "test")
    shutil.move(tmp_path / "other" / "UCI HAR Dataset" / "test", home / "test")
    refused(lambda: load("har-windows", root=tmp_path), "4 steps in train, 5 in test")


def real(name: str, folder: str) -> Dataset:
    """The real data set, or a skip that says what was not tested."""
    root = os.environ.get("PYRO_SSVAE_DATA", "")
    if not root or not list(Path(root, folder, "raw").glob("t10k-labels-idx1-ubyte*")):
        pytest.skip(f"REAL {name} NOT TESTED: PYRO_SSVAE_DATA={root!r} holds no {folder}/raw")
    return load(name)


def test_real_mnist() -> None:
    data = real("mnist", "MNIST")
    assert data.x.shape == (60000, 1, 28, 28)
    assert data.x_test.shape == (10000, 1, 28, 28)
    assert data.y[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.y.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert abs(float(data.x.numpy().mean()) / 255 - 0.13066) < 1e-5
    assert abs(float(data.x_test.numpy().mean()) / 255 - 0.13251) < 1e-5


@pytest.mark.skipif(not standard.DEBIAN_FASHION.is_dir(), reason="REAL Fashion-MNIST NOT TESTED: no Debian package")
def test_real_fashion_mnist_of_debian(tmp_path: Path) -> None:
    data = load("fashion-mnist", root=tmp_path)
    assert data.y.bincount().tolist() == [6000] * 10
    assert data.y_test[:5].tolist() == [9, 2, 1, 1, 6]
