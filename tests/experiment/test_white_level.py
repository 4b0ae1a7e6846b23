"""White is what it was in training, whatever the new pictures of 16 bits hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pyro_ssvae as ps
from pyro_ssvae.cli.main import main
from pyro_ssvae.cli.pictures import asked_image
from pyro_ssvae.experiment.new_points import read_new
from pyro_ssvae.experiment.predictions import read_run


def deep(folder: Path, levels: dict[str, int]) -> Path:
    """Write grey pictures of 16 bits, their left half black."""
    for name, level in levels.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((12, 12), level, np.uint16)
        pixels[:, :6] = 0
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_white_is_what_it_was_in_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a folder whose pictures are all dark nothing says that they have 12 bits; the run does."""
    old = deep(tmp_path / "old", {f"{k}/{i}.png": 900 + 3000 * k + i for k in (0, 1) for i in range(8)})
    dark = deep(tmp_path / "dark", {"a.png": 900, "b.png": 1000})
    short = [
        "--epochs",
        "1",
        "--latent-dim",
        "2",
        "--no-baseline",
        "--no-calibration",
        "--no-figures",
        "--quiet",
        "--image-size",
        "12",
    ]
    assert main(["train", "--data", str(old), *short, "--out", str(tmp_path / "run")]) == 0
    run = read_run(tmp_path / "run")
    assert run.model.white_level == 4095
    points = read_new(str(dark), run.model, run.config, run.folder)
    assert points.read(slice(0, 2)).amax((1, 2, 3)).tolist() == [900 * 255 // 4095, 1000 * 255 // 4095]
    image = asked_image(run.folder, run.model, "--image", dark / "a.png", "--index", None)
    assert float(image.max()) == pytest.approx(900 * 255 // 4095 / 255)
    capsys.readouterr()
    bright = deep(tmp_path / "bright", {"a.png": 60000})
    assert int(read_new(str(bright), run.model, run.config, run.folder).read(slice(0, 1)).max()) == 255
    assert "go to 60000; in those of the training 4095 is white" in capsys.readouterr().err
    arrays = {"a": np.full((2, 12, 12), 900, np.uint16), "b": np.full((2, 12, 12), 90, np.uint8)}
    for name, level in (("a", 900 / 4095), ("b", 90)):
        np.savez(tmp_path / f"{name}.npz", x=arrays[name])
        read = read_new(str(tmp_path / f"{name}.npz"), run.model, run.config, run.folder).read
        assert float(read(slice(0, 2)).max()) == pytest.approx(level)


def test_white_is_what_it_was_in_python_too(tmp_path: Path) -> None:
    old = deep(tmp_path / "old", {f"{k}/{i}.png": 900 + 3000 * k for k in (0, 1) for i in range(8)})
    dark = deep(tmp_path / "dark", {f"{k}/{i}.png": 900 for k in (0, 1) for i in range(8)})
    vae: Any = ps.create_model("augmented", input_shape=(1, 12, 12), labels=ps.ClassLabels(["0", "1"]), latent_dim=2)
    ps.fit(vae, str(old), epochs=1, progress=False)
    assert vae.white_level == 4095
    ps.save(vae, tmp_path / "saved")
    loaded: Any = ps.load(tmp_path / "saved")
    pixels = torch.zeros(1, 1, 12, 12, dtype=torch.uint8)
    pixels[..., 6:] = 900 * 255 // 4095
    torch.testing.assert_close(loaded.predict_proba(str(dark))[:1], loaded.predict_proba(pixels))
    assert ps.add_classes(vae, ["2"]).white_level == 4095


def test_black_and_white_is_what_it_was_in_training(tmp_path: Path) -> None:
    """Pixels of 0 and 1 were black and white; they are not nearly black ones afterwards."""
    x = (np.random.default_rng(0).random((20, 12, 12)) < 0.5).astype(np.uint8)
    np.savez(tmp_path / "old.npz", x=x, y=np.arange(20) % 2)
    short = ["--epochs", "1", "--latent-dim", "2", "--no-baseline", "--no-calibration", "--no-figures", "--quiet"]
    assert main(["train", "--data", str(tmp_path / "old.npz"), *short, "--out", str(tmp_path / "run")]) == 0
    run = read_run(tmp_path / "run")
    np.savez(tmp_path / "new.npz", x=x)
    read = read_new(str(tmp_path / "new.npz"), run.model, run.config, run.folder).read(slice(0, 20))
    assert read.equal(torch.from_numpy(x).float().unsqueeze(1))
    np.savez(tmp_path / "grey.npz", x=200 * x)
    grey = read_new(str(tmp_path / "grey.npz"), run.model, run.config, run.folder).read(slice(0, 20))
    assert grey.equal(torch.from_numpy(200 * x).unsqueeze(1))
