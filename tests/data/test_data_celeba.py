"""CelebA in a small folder laid out as torchvision's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from data_makers import refused
from PIL import Image

from pyro_ssvae.data import cache, celeba, fingerprint, load
from pyro_ssvae.labels import AttributeLabels

FORTY = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry
Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
Wearing_Necktie Young
""".split()  # noqa: SIM905
SPLIT = [0, 0, 2, 1, 0, 2, 0]


def make(root: Path, split: Sequence[int] = SPLIT) -> Path:
    """The folder with its lists in CelebA's own format; image i is of one colour, (30 i, 100, 200), white at top."""
    folder, rng = root / "celeba", np.random.default_rng(0)
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, len(split) + 1)]
    for i, name in enumerate(names):
        image = Image.new("RGB", (178, 218), (30 * i, 100, 200))
        image.paste("white", (0, 0, 178, 18))  # cut off: 20 rows above and below the centred square
        image.save(folder / "img_align_celeba" / name, quality=95)
    values = rng.choice([-1, 1], (len(split), 40))
    rows = ["  ".join([name, *(f"{value:2d}" for value in row)]) for name, row in zip(names, values)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([f"{len(split)}", " ".join(FORTY) + " ", *rows]) + "\n")
    partition = "".join(f"{name} {value}\n" for name, value in zip(names, split))
    (folder / "list_eval_partition.txt").write_text(partition)
    (folder / "identity_CelebA.txt").write_text("".join(f"{name} {i}\n" for i, name in enumerate(names, 1)))
    boxes = "".join(f"{name}    95  71 226 313\n" for name in names)
    (folder / "list_bbox_celeba.txt").write_text(f"{len(names)}\nimage_id x_1 y_1 width height\n{boxes}")
    points = "".join(f"{name} 69  109  106  113   77  142   73  152  108  154\n" for name in names)
    header = " ".join(
        f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
    )
    (folder / "list_landmarks_align_celeba.txt").write_text(f"{len(names)}\n{header}\n{points}")
    return folder


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_images_and_the_18_attributes(tmp_path: Path) -> None:
    folder = make(tmp_path)
    data = load("celeba", root=tmp_path)
    assert (data.x.shape, data.x_test.shape, data.x.dtype) == ((4, 3, 64, 64), (2, 3, 64, 64), torch.uint8)
    assert isinstance(data.labels, AttributeLabels)
    assert len(data.labels.names) == 18
    assert set(data.labels.names) <= set(FORTY)
    for x, rows in ((data.x, [0, 1, 4, 6]), (data.x_test, [2, 5])):
        wanted = torch.tensor([[30 * i, 100, 200] for i in rows])[:, :, None, None]
        assert int((x.long() - wanted).abs().max()) <= 3  # the right rows, and nothing of the white edge
    values = np.random.default_rng(0).choice([-1, 1], (7, 40))
    columns = [FORTY.index(name) for name in data.labels.names]
    assert data.y.tolist() == ((values[[0, 1, 4, 6]][:, columns] + 1) // 2).tolist()
    assert data.y_test.dtype == torch.int64
    assert folder.is_dir()


def test_our_reader_agrees_with_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    monkeypatch.setattr(torchvision.datasets.CelebA, "_check_integrity", lambda self: True)  # of the real files' sums
    data = load("celeba", root=tmp_path, attributes=FORTY)
    for split, y in (("train", data.y), ("test", data.y_test)):
        theirs = torchvision.datasets.CelebA(str(tmp_path), split=split)
        assert bool((theirs.attr == y).all())
        assert theirs.attr_names[:40] == list(data.labels.names)


def test_attributes_and_size_are_chosen(tmp_path: Path) -> None:
    make(tmp_path)
    whole = load("celeba", root=tmp_path)
    part = load("celeba", root=tmp_path, attributes=["Young", "Smiling"], image_size=(20, 16))
    assert part.x.shape == (4, 3, 20, 16)
    assert list(part.labels.names) == ["Young", "Smiling"]
    names = list(whole.labels.names)
    assert bool((part.y == whole.y[:, [names.index("Young"), names.index("Smiling")]]).all())
    refused(lambda: load("celeba", root=tmp_path, attributes=["Smilling"]), "--attributes", "did you mean 'Smiling'?")
    refused(lambda: load("celeba", root=tmp_path, attributes=["Young", "Young"]), "--attributes", "twice")
    refused(lambda: load("celeba", root=tmp_path, image_size=0), "--image-size")


def test_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path)
    first = fingerprint(load("celeba", root=tmp_path))
    (kept,) = folder.glob("pyro_ssvae-*.npy")
    content = kept.read_bytes()
    load("celeba", root=tmp_path).x.zero_()  # the file must not change
    with monkeypatch.context() as patch:
        patch.setattr(celeba, "decode", None)
        assert fingerprint(load("celeba", root=tmp_path)) == first
    assert kept.read_bytes() == content
    for wrong in (content[: len(content) // 2], b"", b"\x93NUMPY", content[:40]):
        kept.write_bytes(wrong)
        assert fingerprint(load("celeba", root=tmp_path)) == first
        assert kept.read_bytes() == content
    assert len(list(folder.glob("*.part"))) + len(list(folder.glob(".*"))) == 0


def test_other_lists_are_other_images(tmp_path: Path) -> None:
    folder = make(tmp_path)
    load("celeba", root=tmp_path)
    path = folder / "list_eval_partition.txt"
    path.write_text(path.read_text().replace("000001.jpg 0", "000001.jpg 2").replace("000003.jpg 2", "000003.jpg 0"))
    data = load("celeba", root=tmp_path)
    assert abs(int(data.x_test[0, 0, 0, 0]) - 0) <= 3
    assert abs(int(data.x[1, 0, 0, 0]) - 60) <= 3


def test_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path)
    wanted = fingerprint(load("celeba", root=tmp_path))
    (kept,) = folder.glob("pyro_ssvae-*.npy")
    kept.unlink()
    elsewhere = tmp_path / "home" / ".cache" / "pyro_ssvae" / "celeba"
    monkeypatch.setattr(cache, "places", lambda folder: [tmp_path / "home" / "file" / "x", elsewhere])
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "file").write_text("")
    assert fingerprint(load("celeba", root=tmp_path)) == wanted
    assert len(list(elsewhere.iterdir())) == 1
    monkeypatch.setattr(cache, "places", lambda folder: [tmp_path / "home" / "file" / "x"])
    assert fingerprint(load("celeba", root=tmp_path)) == wanted
    assert not list(folder.glob("pyro_ssvae-*"))


def test_a_failed_download_says_where_the_files_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fail(root: Path, download: bool) -> None:
        asked.append((root, download))
        raise RuntimeError("To download files from GDrive\nyou need gdown")

    monkeypatch.setattr(torchvision.datasets, "CelebA", fail)
    refused(lambda: load("celeba", root=tmp_path), str(tmp_path / "celeba"), "PYRO_SSVAE_DATA", "GDrive", "img_align")
    assert asked == [(tmp_path, True)]


def test_a_folder_that_is_absent_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "CelebA", lambda root, download: make(root))
    assert len(load("celeba", root=tmp_path).x) == 4


WRONG = [
    ("list_attr_celeba.txt", None, ["no such file", "complete"]),
    ("list_eval_partition.txt", None, ["no such file"]),
    ("img_align_celeba/000005.jpg", None, ["no such file", "list_eval_partition.txt"]),
    ("img_align_celeba/000003.jpg", b"", ["no readable image"]),
    ("img_align_celeba/000003.jpg", b"GIF89a", ["no readable image"]),
    ("list_eval_partition.txt", b"", ["no training image"]),
    ("list_eval_partition.txt", b"000001.jpg 3\n", ["line 1", "0, 1 or 2"]),
    ("list_eval_partition.txt", b"000001.jpg 0\n000001.jpg 2\n", ["line 2", "twice"]),
    ("list_eval_partition.txt", b"../x.jpg 0\n", ["line 1", "../x.jpg"]),
    ("list_eval_partition.txt", b"000001.jpg 0\n", ["no test image"]),
    ("list_eval_partition.txt", b"000001.jpg 0\n000002.jpg 2\n", ["list_attr_celeba.txt", "7 images", "has 2"]),
    ("list_eval_partition.txt", b"\xff 0\n", ["ASCII"]),
    ("list_attr_celeba.txt", b"", ["line 1"]),
    ("list_attr_celeba.txt", b"2\nSmiling\n", ["line 1"]),
    ("list_attr_celeba.txt", b"seven\nSmiling\n", ["line 1"]),
]


@pytest.mark.parametrize(("file", "content", "culprits"), WRONG)
def test_damaged_folders(tmp_path: Path, file: str, content: bytes | None, culprits: list[str]) -> None:
    folder = make(tmp_path)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    refused(lambda: load("celeba", root=tmp_path), *culprits)
    assert not list(folder.glob("*.npy"))
    assert not list(folder.glob(".*"))


def test_a_cut_image_is_named(tmp_path: Path) -> None:
    path = make(tmp_path) / "img_align_celeba" / "000006.jpg"
    path.write_bytes(path.read_bytes()[:-400])
    refused(lambda: load("celeba", root=tmp_path), "000006.jpg", "cut short")


def test_images_still_packed(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "img_align_celeba").rename(folder / "elsewhere")
    (folder / "img_align_celeba.zip").write_bytes(b"")
    refused(lambda: load("celeba", root=tmp_path), "img_align_celeba", "unpack img_align_celeba.zip")


def test_damaged_rows_of_attributes(tmp_path: Path) -> None:
    path = make(tmp_path) / "list_attr_celeba.txt"
    lines = path.read_text().splitlines()
    young = lines[4].rsplit(maxsplit=1)[0]
    for wrong, culprit in ((young, "40 values"), (f"{young} 0", "'0'"), (lines[3], "000003.jpg")):
        path.write_text("\n".join([*lines[:4], wrong, *lines[5:]]))
        refused(lambda: load("celeba", root=tmp_path), path.name, "line 5", culprit)
    path.write_text("\n".join(["7", "Smiling Young", *(f"{line.split()[0]} 1 -1" for line in lines[2:])]))
    refused(lambda: load("celeba", root=tmp_path), "Arched_Eyebrows", "known: Smiling, Young")
    assert load("celeba", root=tmp_path, attributes="Young").y.tolist() == [[0]] * 4
