"""Sources that set points apart for the test: what is trained on, what is judged, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from data_makers import picture, refused

import pyro_ssvae as ps
from pyro_ssvae.data import read_table
from pyro_ssvae.data.inputs import read_data

N = 20


def pets(folder: Path, *parts: str) -> Path:
    """Images in a folder a class, in each of some folders above these."""
    for part in parts or (".",):
        for i in range(N):
            picture(folder / part / ["cat", "dog"][i % 2] / f"{i:02}.png", value=10 * i)
    return folder


def model() -> ps.Model:
    return ps.create_model("augmented", input_shape=(1, 28, 28), labels=ps.ClassLabels(["cat", "dog"]), latent_dim=2)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_all_images_of_a_folder_are_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not those alone that a training on it would take."""
    vae, folder = model(), pets(tmp_path)
    assert len(vae.predict(folder)) == len(vae.predict_proba(str(folder))) == len(ps.elbo(vae, folder)) == N
    read = read_data(vae, folder)
    assert read.y.tolist() == [0] * (N // 2) + [1] * (N // 2)  # by their names, as predict in the shell
    said(capsys)
    ps.fit(vae, folder, epochs=1)
    assert f"{folder}: 16 of 20 images, those of the training" in said(capsys)
    assert ps.evaluate(vae, folder)["rows"] == N
    assert "all 20 images are judged; a model that was trained on this folder has seen 16 of them" in said(capsys)


def test_a_test_of_the_folder_s_own_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vae, folder = model(), pets(tmp_path, "train", "test")
    ps.fit(vae, folder, epochs=1)
    assert "20 of 40 images, those of the training" in said(capsys)
    found = ps.evaluate(vae, folder)
    assert (found["rows"], found["n"]) == (N, N)
    assert "20 of 40 images, those of the test" in said(capsys)
    assert len(vae.predict(folder)) == 2 * N
    history = ps.fit(vae, folder / "train", epochs=1, validation=folder)
    assert "validation_accuracy" in history


def test_folders_that_are_no_classes_of_the_model(tmp_path: Path) -> None:
    (pets(tmp_path) / "cat").rename(tmp_path / "day 1")
    (tmp_path / "dog").rename(tmp_path / "day 2")
    assert len(model().predict(tmp_path)) == N
    assert not read_data(model(), tmp_path).labelled
    (tmp_path / "day 2").rename(tmp_path / "dog")
    refused(lambda: read_data(model(), tmp_path), "no class 'day 1'")


def test_arrays_of_a_test_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    x, names = rng.normal(size=(N, 3)), ["cat", "dog"]
    np.savez(tmp_path / "a.npz", X_train=x, y_train=np.arange(N) % 2, X_test=x[:6], y_test=np.ones(6, int), names=names)
    vae = ps.create_model("augmented", input_shape=(3,), labels=ps.ClassLabels(["dog", "cat"]), latent_dim=2)
    read = read_data(vae, tmp_path / "a.npz", part="test")
    assert read.y.tolist() == [0] * 6  # by its name
    assert ps.evaluate(vae, tmp_path / "a.npz")["rows"] == 6
    assert "a.npz: its X_test is judged" in said(capsys)
    assert ps.evaluate(vae, tmp_path / "a.npz", np.zeros(N, int))["rows"] == N  # labels of one's own, of x
    assert len(vae.predict(tmp_path / "a.npz")) == N


def test_a_table_s_column_split_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"v": np.sin(np.arange(N)), "w": np.cos(np.arange(N)), "y": ["a", "b"] * (N // 2)})
    frame["split"] = np.where(np.arange(N) % 4, "train", "test")
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = read_table(frame, target="y", quiet=True)
    vae = ps.create_model("augmented", latent_dim=2, **data.model_options())  # type: ignore[arg-type]
    for source in (frame, tmp_path / "t.csv"):
        read = read_data(vae, source, learn=True)
        torch.testing.assert_close(read.x, data.x)
        assert torch.equal(read.y, data.y)
        assert "15 of 20 rows, those of the training by the column 'split'" in said(capsys)
        assert ps.evaluate(vae, source)["rows"] == 5
        assert "5 of 20 rows, those of the test by the column 'split'" in said(capsys)
        assert len(vae.predict(source)) == N
        assert ps.evaluate(vae, source, frame["y"])["rows"] == N  # labels of all rows
        assert len(read_data(vae, source, frame["y"], learn=True).x) == N
