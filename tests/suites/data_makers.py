"""Files in the layouts that data come in, small, for the tests to break."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyro_ssvae.errors import InputError

ACTIVITIES = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")


def refused(what: Callable[[], Any], *culprits: str) -> str:
    """Call ``what``; assert that it ends in an InputError of one line with each of ``culprits`` in it."""
    with pytest.raises(InputError) as caught:
        what()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 800
    for culprit in culprits:
        assert culprit in message, message
    return message


def picture(path: Path, size: tuple[int, int] = (20, 20), mode: str = "L", value: int = 128) -> Path:
    """Write an image of one colour, or as its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fill: Any = value if len(mode) == 1 or mode == "I;16" else (value,) * len(mode)
    Image.new(mode, size, fill).save(path)
    return path


def noise(path: Path, side: int = 40, seed: int = 0) -> Path:
    """Write an RGB image that doesn't compress."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(path)
    return path


def folder(root: Path, csv: str | bytes, images: Sequence[str] | None = None) -> Path:
    """A folder of grey images, by default those of a.png to d.png that the labels.csv lists, and that labels.csv."""
    if images is None:
        text = csv if isinstance(csv, str) else csv.decode("utf-8", "replace")
        images = [name for name in ("a.png", "b.png", "c.png", "d.png") if name in text] or ["a.png"]
    root.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(images):
        picture(root / name, value=10 * (i + 1))
    (root / "labels.csv").write_bytes(csv.encode() if isinstance(csv, str) else csv)
    return root


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def raw_npz(path: Path, members: dict[str, bytes]) -> Path:
    """An archive with these bytes as its arrays' files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy_header(shape: tuple[int, ...], descr: Any = "<f4") -> bytes:
    """The start of an array file that claims this shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def idx(path: Path, array: np.ndarray) -> Path:
    """A uint8 array in LeCun's format, gzipped where the suffix says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    content = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def mnist(root: Path, name: str = "MNIST", suffix: str = ".gz", n: int = 20) -> Path:
    """A small data set in torchvision's layout; returns its raw folder."""
    rng, raw = np.random.default_rng(0), root / name / "raw"
    for split, rows in (("train", n), ("t10k", n // 2)):
        idx(raw / f"{split}-images-idx3-ubyte{suffix}", rng.integers(0, 256, (rows, 28, 28)))
        idx(raw / f"{split}-labels-idx1-ubyte{suffix}", np.arange(rows) % 10)
    return raw


def har(root: Path, n: int = 12, n_test: int = 6, features: int = 561, steps: int = 128) -> Path:
    """The folder that UCI ships, with fewer rows: numbers in fixed-width scientific notation, one point a line."""
    rng, home = np.random.default_rng(0), root / "UCI HAR Dataset"
    home.mkdir(parents=True)
    (home / "activity_labels.txt").write_text("".join(f"{k} {name}\n" for k, name in enumerate(ACTIVITIES, 1)))
    (home / "features.txt").write_text("".join(f"{k} tBodyAcc-mean()-{k}\n" for k in range(1, features + 1)))
    for split, rows in (("train", n), ("test", n_test)):
        signals = home / split / "Inertial Signals"
        signals.mkdir(parents=True)
        np.savetxt(home / split / f"X_{split}.txt", rng.uniform(-1, 1, (rows, features)), fmt="%16.7e", delimiter="")
        np.savetxt(home / split / f"y_{split}.txt", np.arange(rows) % 6 + 1, fmt="%d")
        np.savetxt(home / split / f"subject_{split}.txt", np.arange(rows) % 30 + 1, fmt="%d")
        for i, signal in enumerate(
            f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"
        ):
            np.savetxt(signals / f"{signal}_{split}.txt", np.full((rows, steps), i), fmt="%16.7e", delimiter="")
    return home


def without_notes(said: str) -> str:
    """What was said, less the notes on the data."""
    return "".join(line for line in said.splitlines(keepends=True) if not line.startswith("note: "))
