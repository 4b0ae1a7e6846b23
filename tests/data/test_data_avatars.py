"""Faces drawn on the spot: their attributes, the factors behind them, and the file they are kept in."""

from __future__ import annotations

import functools
import io
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from data_makers import npz, refused
from PIL import Image

from pyro_ssvae.data import avatar_drawing, avatar_factors, avatars, fingerprint, load
from pyro_ssvae.data.avatar_labels import ATTRIBUTES, COLORS, FACTORS, draw_labels
from pyro_ssvae.labels import AttributeLabels

python_avatars = pytest.importorskip("python_avatars")
resvg_py = pytest.importorskip("resvg_py")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of the tests' own, and the folder of data sets in it."""
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(root))
        yield root / "data"


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    avatar_drawing.layers.cache_clear()
    monkeypatch.setitem(sys.modules, "python_avatars", None)


def test_a_small_set(home: Path) -> None:
    data = load("avatars:500", root=home)
    assert (data.x.shape, data.x_test.shape, data.x.dtype) == ((500, 3, 64, 64), (100, 3, 64, 64), torch.uint8)
    assert isinstance(data.labels, AttributeLabels)
    assert data.labels.names == tuple(ATTRIBUTES)
    assert data.labels.size >= 8
    assert set(data.y.unique().tolist()) == {0, 1}
    assert load("avatars:20", root=home, image_size=32).x_test.shape == (4, 3, 32, 32)
    every = torch.cat([data.x, data.x_test]).flatten(1)
    assert len(every.unique(dim=0)) > 590  # hardly any face twice, none of the test in training
    smaller = load("avatars:20", root=home)
    assert bool((smaller.x == data.x[:20]).all())
    assert bool((smaller.y_test == data.y_test[:4]).all())


def test_attributes_are_chosen_by_name(home: Path) -> None:
    whole = load("avatars:20", root=home)
    names = list(ATTRIBUTES)
    part = load("avatars:20", root=home, attributes=["Hat", "Glasses"])
    assert list(part.labels.names) == ["Hat", "Glasses"]
    assert bool((part.y == whole.y[:, [names.index("Hat"), names.index("Glasses")]]).all())
    assert load("avatars:20", root=home, attributes="Suit").y_test.shape == (4, 1)
    refused(lambda: load("avatars:20", root=home, attributes=["hats"]), "--attributes", "'hats'", "did you mean 'Hat'?")
    refused(lambda: load("avatars:20", root=home, attributes=[]), "--attributes", "at least one")
    refused(lambda: load("avatars:20", root=home, attributes=["Hat", "Hat"]), "twice")
    refused(lambda: load("digits", attributes=["Hat"]), "--attributes", "digits", "classes")


def test_names_that_are_no_number(home: Path) -> None:
    for name in ("avatars:", "avatars:x", "avatars:5", "avatars:-20", "avatars:1e3", "avatars:999999999", "avatars:²"):
        refused(functools.partial(load, name, root=home), "--data", "avatars:N", "10 to 200000")
        refused(functools.partial(avatar_factors, name), "avatars:N")
    refused(lambda: load("avatar", root=home), "did you mean 'avatars'?")


def test_attributes_are_independent_and_as_frequent_as_stated() -> None:
    y = draw_labels(100_000, 0)[0].astype(float)
    assert np.abs(y.mean(0) - list(ATTRIBUTES.values())).max() < 0.008
    assert np.abs(np.corrcoef(y.T) - np.eye(y.shape[1])).max() < 0.015
    configurations, counts = np.unique(y, axis=0, return_counts=True)
    p = np.array(list(ATTRIBUTES.values()))
    expected = len(y) * np.where(configurations == 1, p, 1 - p).prod(1)
    assert len(counts) == 2 ** y.shape[1]
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi2 - 255) < 4 * (2 * 255) ** 0.5


def test_factors_fit_their_attributes_and_are_uniform() -> None:
    train, test = avatar_factors()
    data_y, values = draw_labels(10_000, 0)
    assert len(test.values["hat"]) == 2000
    names = list(ATTRIBUTES)
    for factor, about in FACTORS.items():
        kinds, value = train.names[factor], train.values[factor]
        assert value.dtype == torch.int64
        assert bool((value.numpy() == values[factor]).all())
        assert train.attributes[factor] == about.attribute
        on = data_y[:, names.index(about.attribute)] == 1 if about.attribute else np.ones(10_000, bool)
        for rows, allowed in ((on, about.present), (~on, about.absent)):
            seen = value.numpy()[rows]
            if not allowed:
                assert (seen == -1).all()
                continue
            counts = np.array([(seen == kinds.index(kind)).sum() for kind in allowed])
            assert counts.sum() == rows.sum()
            assert np.abs(counts / rows.sum() - 1 / len(allowed)).max() < 0.03
    columns = np.stack([train.values[factor].numpy() for factor in ("mouth", "skin", "clothing_color", "background")])
    assert np.abs(np.corrcoef(columns) - np.eye(4)).max() < 0.04
    for factor in ("glasses", "hat", "facial_hair"):
        assert len(FACTORS[factor].present) >= 3


def test_every_attribute_shows_whatever_the_others_are() -> None:
    n, noise = 200, np.random.default_rng(0)
    y, values = draw_labels(n, 0)
    pictures = avatar_drawing.draw([values]).astype(int)
    for i, attribute in enumerate(ATTRIBUTES):
        other = dict(values)
        for factor, about in FACTORS.items():
            if about.attribute == attribute:
                on = y[:, i] == 0
                count = np.where(on, len(about.present), len(about.absent))
                kind = (noise.random(n) * count).astype(int) + np.where(on, len(about.absent), 0)
                other[factor] = np.where(count > 0, kind, -1)
        change = np.abs(avatar_drawing.draw([other]).astype(int) - pictures).max(1) > 40
        assert change.reshape(n, -1).sum(1).min() >= 25, attribute


def test_every_kind_looks_different() -> None:
    plain = {factor: np.array([0]) for factor in FACTORS} | dict.fromkeys(("glasses", "hat"), np.array([-1]))
    plain["facial_hair"] = np.array([-1])
    for factor, about in FACTORS.items():
        count = len(about.present) + len(about.absent)
        rows = {key: value.repeat(count) for key, value in plain.items()} | {factor: np.arange(count)}
        if factor == "hat_color":
            rows["hat"] = np.zeros(count, int)
        pictures = avatar_drawing.draw([rows]).astype(int)
        change = (np.abs(pictures[:, None] - pictures[None]).max(2) > 30).sum((2, 3))
        assert change[~np.eye(count, dtype=bool)].min() >= 20, (factor, change)


def test_layers_give_the_picture_that_the_package_draws() -> None:
    """A face without hat, beard and glasses, drawn whole: the same but for rounding."""
    pa, values = python_avatars, {factor: np.array([0]) for factor in FACTORS}
    names = {factor: [*about.absent, *about.present] for factor, about in FACTORS.items()}
    ours = avatar_drawing.draw([values | dict.fromkeys(("hat", "facial_hair", "glasses"), np.array([-1]))])[0]
    whole = pa.Avatar(
        style=pa.AvatarStyle.TRANSPARENT,
        top=pa.HairType[names["hair"][0].upper()],
        eyebrows=pa.EyebrowType.DEFAULT,
        eyes=pa.EyeType.DEFAULT,
        nose=pa.NoseType.DEFAULT,
        mouth=pa.MouthType[names["mouth"][0].upper()],
        skin_color=COLORS["skin"][names["skin"][0]],
        hair_color=COLORS["hair_color"][names["hair_color"][0]],
        clothing=pa.ClothingType[names["clothing"][0].upper()],
        clothing_color=COLORS["clothing_color"][names["clothing_color"][0]],
    )
    drawing = ElementTree.fromstring(whole.render())
    for key, value in (("viewBox", avatar_drawing._VIEW), ("width", "64"), ("height", "64")):
        drawing.set(key, value)
    background = COLORS["background"][names["background"][0]]
    png = resvg_py.svg_to_bytes(svg_string=ElementTree.tostring(drawing, encoding="unicode"), background=background)
    theirs = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB")).transpose(2, 0, 1)
    assert np.abs(ours.astype(int) - theirs).max() <= 4


def test_faces_are_kept_and_drawn_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    state = random.getstate()
    drawn = load("avatars:20", root=tmp_path)
    assert random.getstate() == state
    (file,) = (tmp_path / "avatars").iterdir()
    assert not (tmp_path / "home").exists()
    request.getfixturevalue("no_packages")
    assert fingerprint(load("avatars:20", root=tmp_path)) == fingerprint(drawn)
    file.unlink()
    refused(lambda: load("avatars:20", root=tmp_path), "pip install pyro_ssvae[avatars]", "python_avatars")


def test_a_damaged_file_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    wanted = fingerprint(load("avatars:20", root=tmp_path))
    (file,) = (tmp_path / "avatars").iterdir()
    good = file.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for content in (good[: len(good) // 2], bytes(flipped), b"", b"PK", b"\0" * len(good)):
        file.write_bytes(content)
        assert fingerprint(load("avatars:20", root=tmp_path)) == wanted
        assert file.read_bytes() == good
    for arrays in ({"x": np.zeros((24, 3, 64, 64))}, {"x": np.zeros((23, 3, 64, 64), np.uint8)}, {"y": np.zeros(3)}):
        npz(file, **arrays)
        assert fingerprint(load("avatars:20", root=tmp_path)) == wanted
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_root_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = tmp_path / "root", tmp_path / "home" / ".cache" / "pyro_ssvae" / "avatars"
    root.write_text("a file")  # not even root's rights make a folder in it
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    wanted = fingerprint(load("avatars:20", root=root))
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(avatars, "draw", None)
    assert fingerprint(load("avatars:20", root=root)) == wanted
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(root))  # nowhere at all
    assert fingerprint(load("avatars:20", root=root)) == wanted
    assert root.read_text() == "a file"
