"""Folders of images without labels.csv, names that differ in case, and pixels of 10 and 12 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_makers import folder, picture, refused
from PIL import Image

from pyro_ssvae.data import load_folder, training_files
from pyro_ssvae.labels import ClassLabels


def pictures(root: Path, *names: str) -> Path:
    """Grey pictures, the i-th of the grey 10 (i + 1)."""
    for i, name in enumerate(names):
        picture(root / name, value=10 * (i + 1))
    return root


def test_a_folder_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{word}/{i}.JPG" for i in range(5) for word in ("dog", "cat", "unlabeled")]
    root = pictures(tmp_path / "pets", *names, "loose.png", "cat/deeper/9.png", ".hidden/cat.png")
    data = load_folder(root)
    assert data.labels == ClassLabels(2, ["cat", "dog"])
    every = sorted([*data.y.tolist(), *data.y_test.tolist()])
    assert every == [-1] * 6 + [0] * 6 + [1] * 5
    values = data.x.float().mean((1, 2, 3)) / 10
    assert {round(float(v)) for v, k in zip(values, data.y) if k == 1} <= {1, 4, 7, 10, 13}
    files = training_files(root)
    assert len(files) == len(data.x)
    assert [name.split("/")[0] for name, k in zip(files, data.y.tolist()) if k == 1] == ["dog"] * int(
        (data.y == 1).sum()
    )
    said = capsys.readouterr().err
    assert "'cat' 6, 'dog' 5; 6 without a label" in said
    assert "held out for the test" in said


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    names = [f"{word}/{i}.png" for i in range(4) for word in ("bus", "train", "car")]
    assert load_folder(pictures(tmp_path, *names)).labels.names == ("bus", "car", "train")


def test_validation_beside_a_test_is_trained_on_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{part}/{word}/{i}.png" for i in range(2) for part in ("train", "val", "test") for word in "ab"]
    data = load_folder(pictures(tmp_path, *names))
    assert (len(data.x), len(data.x_test)) == (8, 4)
    assert "'val' is taken for part of the training" in capsys.readouterr().err


@pytest.mark.parametrize(("held", "test"), [("test", 2), ("val", 2), ("Testing", 2)])
def test_train_and_test_are_parents(tmp_path: Path, held: str, test: int) -> None:
    root = pictures(tmp_path, "train/a/0.png", "train/b/1.png", "train/2.png", f"{held}/a/3.png", f"{held}/b/4.png")
    data = load_folder(root)
    assert data.labels.names == ("a", "b")
    assert sorted(data.y.tolist()) == [-1, 0, 1]
    assert len(data.y_test) == test
    assert sorted(data.x_test.amax((1, 2, 3)).tolist()) == [40, 50]


def test_validation_beside_a_test_is_trained_on(tmp_path: Path) -> None:
    root = pictures(tmp_path, "train/a/0.png", "train/b/1.png", "valid/a/2.png", "test/b/3.png")
    assert (len(load_folder(root).x), load_folder(root).y_test.tolist()) == (3, [1])


def test_classes_may_be_called_train(tmp_path: Path) -> None:
    assert load_folder(pictures(tmp_path, "test/0.png", "car/1.png", "car/2.png")).labels.names == ("car", "test")


def test_names_without_case_or_ending(tmp_path: Path) -> None:
    csv = "file;species\nA.png;cat\nb;dog\nsub/C.JPG;cat\n"
    root = folder(tmp_path / "pets", csv, ["a.PNG", "b.png", "sub/c.jpg"])
    data = load_folder(root)
    assert data.labels.names == ("cat", "dog")
    assert set(training_files(root)) < {"a.PNG", "b.png", "sub/c.jpg"}
    refused(lambda: load_folder(folder(tmp_path / "x", "file,label\nA.png,x\n", ["a.png", "a.PNG"])), "may be")
    refused(
        lambda: load_folder(folder(tmp_path / "y", "file,label\nA.png,x\na,y\n", ["a.png"])), "two rows name 'a.png'"
    )


def test_a_word_for_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load_folder(folder(tmp_path, "file,label,split\na.png,cat,\nb.png,Unknown,\nc.png,dog,test\nd.png,cat,\n"))
    assert data.y.tolist() == [0, -1, 0]
    assert "'Unknown' (1 row) is taken as a missing label" in capsys.readouterr().err


@pytest.mark.parametrize(("most", "bits"), [(1023, 10), (4000, 12), (65535, 16), (200, 8)])
def test_pixels_of_fewer_bits_than_their_file(
    tmp_path: Path, most: int, bits: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").mkdir()
    for name, value in (("a", most), ("b", most // 2)):
        Image.fromarray(np.full((9, 9), value, np.uint16)).save(tmp_path / "x" / f"{name}.png")
    data = load_folder(tmp_path)
    seen = sorted([int(data.x.max()), int(data.x_test.max())])
    assert seen[1] == most * 255 // (2**bits - 1)
    assert abs(2 * seen[0] - seen[1]) <= 2
    assert (f"read as {bits} bits" in capsys.readouterr().err) == (bits < 16)
    assert data.white_level == 2**bits - 1


def test_a_folder_of_a_class_without_an_image_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pictures(tmp_path / "pets", *(f"{word}/{i}.png" for i in range(4) for word in ("dog", "cat")))
    for name in ("owl", "unlabeled", ".cache"):
        (root / name).mkdir()
    (root / "owl" / "notes.txt").write_text("none yet")
    assert load_folder(root).labels.names == ("cat", "dog")
    said = capsys.readouterr().err
    assert "'owl': no image in it, and no class" in said
    assert "unlabeled" not in said
    assert ".cache" not in said


def test_a_list_may_name_images_without_their_folder(tmp_path: Path) -> None:
    """labels.csv beside the folder images/, as many data sets lie."""
    names = [f"{c}.jpg" for c in "abcdefgh"]
    for listed in (names, [name[0] for name in names], [name.upper() for name in names]):
        root = pictures(tmp_path / f"pets{len(listed[0])}{listed[0][0]}", *(f"images/{name}" for name in names))
        lines = [f"{name},{'cat' if i % 2 else 'dog'}" for i, name in enumerate(listed)]
        (root / "labels.csv").write_text("\n".join(["file,label", *lines, ""]))
        data = load_folder(root)
        files = training_files(root)
        assert data.y.tolist() == [0 if names.index(name.removeprefix("images/")) % 2 else 1 for name in files]
    picture(root / "more" / "a.jpg")
    refused(lambda: load_folder(root), "'A.JPG' may be 'images/a.jpg', 'more/a.jpg'")


def test_a_list_that_begins_with_the_labels_is_refused(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "c.png"]
    root = folder(tmp_path / "pets", "label,file\ncat,a.png\ndog,b.png\ncat,c.png\n", names)
    refused(lambda: load_folder(root), "row 1 begins with 'label'", "must be the first")
