"""One's own folder of images with labels.csv: what is read, and everything that can be wrong with it."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from data_makers import folder, noise, picture, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pyro_ssvae.data import checks, images, load, load_folder
from pyro_ssvae.errors import InputError
from pyro_ssvae.labels import AttributeLabels, ClassLabels

GOOD = "file,label\na.png,dog\nb.png,cat\nc.png,\nd.png,dog\n"
SPLIT = "file,label,split\na.png,dog,train\nb.png,cat,test\nc.png,,\nd.png,owl,test\n"


def test_words_become_classes_and_the_split_is_kept(tmp_path: Path) -> None:
    data = load(folder(tmp_path / "pets", SPLIT))
    assert data.name == "pets"
    assert data.labels == ClassLabels(3, ["cat", "dog", "owl"])
    assert data.y.tolist() == [1, -1]
    assert data.y_test.tolist() == [0, 2]
    assert data.x.shape == (2, 1, 28, 28)
    assert data.x.dtype == torch.uint8
    assert data.x.amax((1, 2, 3)).tolist() == [10, 30]
    assert data.x_test.amin((1, 2, 3)).tolist() == [20, 40]


def test_validation_is_the_test_where_there_is_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load(folder(tmp_path / "a", SPLIT.replace("test", "Val"))).y_test.tolist() == [0, 2]
    assert "column 'split': 'val' is taken for the test" in capsys.readouterr().err
    assert load(folder(tmp_path / "b", SPLIT.replace("train", "val"))).y_test.tolist() == [0, 2]
    assert "column 'split': 'val' is taken for part of the training" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".gz", ".xz"])
def test_a_packed_list_is_read(tmp_path: Path, ending: str) -> None:
    root = folder(tmp_path / "pets", SPLIT)
    listed = (root / "labels.csv").read_bytes()
    (root / "labels.csv").unlink()
    (root / f"Labels.csv{ending}").write_bytes({".gz": gzip.compress, ".xz": lzma.compress}[ending](listed))
    assert load(root).y.tolist() == [1, -1]


def test_a_table_of_another_name_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "pets", GOOD)
    (root / "labels.csv").rename(root / "metadata.csv")
    load(root)
    assert "'metadata.csv' is not read; a list of labels is named labels.csv" in capsys.readouterr().err
    for picture_file in root.glob("*.png"):
        picture_file.unlink()
    refused(lambda: load(root), "no image in it; a table is given by its own path, such as", "metadata.csv")


def test_attributes(tmp_path: Path) -> None:
    csv = "image,hat,split,beard\na.png,1,train,0\nb.png,,train,1\nc.png,0,test,\nd.png,1.0,train,0.0\n"
    data = load_folder(folder(tmp_path, csv))
    assert data.labels == AttributeLabels(["hat", "beard"])
    assert data.y.tolist() == [[1, 0], [-1, 1], [1, 0]]
    assert data.y_test.tolist() == [[0, -1]]
    assert load_folder(folder(tmp_path / "one", "image,hat\na.png,1\nb.png,\n")).labels == AttributeLabels(["hat"])


def test_spelling_of_tables(tmp_path: Path) -> None:
    csv = '\ufeffFile, Label ,SPLIT\r\n"sub\\e, 1.png","two\nwords",Train\r\n\r\n'
    csv += "./a.png, b\u00fc ,TEST\r\nu\u0308.png,-1,\r\n,,\r\n"
    root = folder(tmp_path, csv, ["a.png", "sub/e, 1.png", "\u00fc.png"])
    data = load_folder(root)
    assert data.labels.names == ("b\u00fc", "two words")
    assert data.y.tolist() == [1, -1]
    assert data.y_test.tolist() == [0]


@pytest.mark.parametrize(("encoding", "mark", "word"), [("utf-16", ",", ""), ("utf-8", "|", "bars")])
def test_labels_are_read_as_tables_are(
    encoding: str, mark: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root := folder(tmp_path, GOOD)).joinpath("labels.csv").write_bytes(GOOD.replace(",", mark).encode(encoding))
    assert load_folder(root).labels.names == ("cat", "dog")
    assert ("separated by bars, not commas" in capsys.readouterr().err) == bool(word)


def test_what_is_taken_for_granted_of_images_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "pets", GOOD)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(root / "a.gif", save_all=True, append_images=frames[1:])
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(root / "b.png")
    (root / "a.png").unlink()
    (root / "labels.csv").write_text(GOOD.replace("a.png", "a.gif"))
    folder(tmp_path / "more", "file,label\nx.png,cow\n", ["x.png"])
    (root / "more").symlink_to(tmp_path / "more")
    assert len(load_folder(root).x) == 3
    said = capsys.readouterr().err
    assert "1 image, 'a.gif' the first, of several frames: of each the first is read" in said
    assert "1 image, 'b.png' the first, that may be transparent in parts: these are laid on white" in said
    assert "'more': a linked folder is not entered" in said


def test_numbers_are_classes_in_order_of_size(tmp_path: Path) -> None:
    csv = "file,label\na.png,10\nb.png,9\nc.png,1\nd.png,9\n"
    assert load_folder(folder(tmp_path, csv)).labels.names == ("1", "9", "10")


def test_every_image_needs_a_row_and_nothing_else_does(tmp_path: Path) -> None:
    csv = "file,label,split\na.png,x,train\nb.png,x,test\n"
    root = folder(tmp_path, csv, ["a.png", "b.png", "z/c.PNG", "d.jpg"])
    (root / "notes.txt").write_text("no image")
    (root / "._a.png").write_bytes(b"a Mac's resource fork")
    refused(lambda: load_folder(root), "labels.csv", "no row for 'd.jpg' (and 1 more)")
    (root / "labels.csv").write_text(csv + "z/c.PNG,,\nd.jpg,,train\n")
    data = load_folder(root)
    assert data.y.tolist() == [0, -1, -1]
    assert len(data.x_test) == 1


def test_without_a_split_a_fifth_of_the_listed_is_held_out(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(12)]
    rows = "".join(f"{name},{'ab'[i % 2] if i < 10 else ''}\n" for i, name in enumerate(names))
    data = load_folder(folder(tmp_path, f"file,label\n{rows}", names))
    assert sorted(data.y_test.tolist()) == [0, 1]
    assert data.y.add(1).bincount().tolist() == [2, 4, 4]


def test_no_known_label(tmp_path: Path) -> None:
    assert load_folder(folder(tmp_path, "file,label\na.png,\nb.png,\n")).labels == ClassLabels(10)


@pytest.mark.parametrize(
    ("mode", "suffix", "channels", "seen"),
    [
        ("L", "png", 1, 128),
        ("L", "bmp", 1, 128),
        ("1", "png", 1, 255),
        ("I;16", "png", 1, 128),
        ("LA", "png", 1, 191),
        ("RGB", "png", 3, 128),
        ("RGB", "jpg", 3, 128),
        ("RGBA", "webp", 3, 191),
        ("CMYK", "jpg", 3, 63),
        ("P", "png", 3, None),
    ],
)
def test_modes(tmp_path: Path, mode: str, suffix: str, channels: int, seen: int | None) -> None:
    root = folder(tmp_path, f"file,label,split\na.{suffix},x,test\nb.png,y,\n", ["b.png"])
    picture(root / f"a.{suffix}", mode=mode, value=128 * 257 if mode == "I;16" else 128)
    data = load_folder(root)
    assert data.input_shape[0] == channels
    if seen is not None:
        assert abs(int(data.x_test.float().mean()) - seen) <= 2
        assert int(data.x_test.max()) - int(data.x_test.min()) <= 2


def test_default_and_given_sizes(tmp_path: Path) -> None:
    root = folder(tmp_path, GOOD)
    assert load_folder(root).input_shape == (1, 28, 28)
    assert load_folder(root, image_size=32).input_shape == (1, 32, 32)
    assert load_folder(root, image_size=(16, 24)).input_shape == (1, 16, 24)
    for name in "abc":
        picture(root / f"{name}.png", (100, 33))
    assert load_folder(root).input_shape == (1, 64, 64)


def test_the_centre_is_cut_and_exif_turns(tmp_path: Path) -> None:
    root = folder(tmp_path, "file,label,split\nwide.png,x,\nturned.jpg,x,test\n", [])
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 200
    Image.fromarray(wide).save(root / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    left_half = np.zeros((32, 32), np.uint8)
    left_half[:, :16] = 200
    Image.fromarray(left_half).save(root / "turned.jpg", exif=exif, quality=95)
    data = load_folder(root, image_size=16)
    assert data.x.unique().tolist() == [200]
    tensors = images.resize(torch.from_numpy(np.array(Image.open(root / "wide.png")))[None, None], (9, 16))
    decoded = torch.from_numpy(images.decode(root / "wide.png", grey=True, size=(9, 16)))
    assert int((tensors[0].int() - decoded.int()).abs().max()) <= 1
    turned = data.x_test[0, 0].float()
    assert float(turned[:6].mean()) > 190
    assert float(turned[10:].mean()) < 10


WRONG: dict[str, tuple[str | bytes, list[str]]] = {
    "empty": ("", ["empty"]),
    "blank": ("\n \n,,\n", ["empty"]),
    "header only": ("file,label\n", ["no row"]),
    "no label column": ("file\na.png\n", ["no column of labels"]),
    "split only": ("file,split\na.png,train\n", ["no column of labels"]),
    "label and attributes": ("file,label,hat\na.png,x,1\n", ["'label'", "'hat'"]),
    "repeated column": ("file,hat,hat\na.png,1,1\n", ["row 1", "repeated"]),
    "unnamed column": ("file,hat,\na.png,1,1\n", ["row 1", "empty"]),
    "no header": ("a.png,cat\nb.png,dog\n", ["row 1", "'a.png'", "a header such as 'file,label'"]),
    "one cell too few": ("file,label\na.png,x\nb.png\n", ["row 3", "1 cells", "2"]),
    "one cell too many": ("file,label\na.png,x,y\n", ["row 2", "3 cells"]),
    "absent file": ("file,label\na.png,x\ne.png,x\nf.png,y\n", ["'e.png'", "1 more"]),
    "no file name": ("file,label\na.png,x\n,x\n", ["row 3", "no file name"]),
    "duplicate": ("file,label\na.png,x\nb.png,y\n./a.png,y\n", ["row 4", "'a.png'", "row 2"]),
    "attribute of 2": ("file,hat,beard\na.png,1,0\nb.png,0,2\n", ["row 3", "'beard'", "'2'", "0, 1"]),
    "attribute of -1": ("file,hat,beard\na.png,-1,0\n", ["row 2", "'hat'", "'-1'"]),
    "words among attributes": ("file,hat,species\na.png,1,cat\n", ["row 2", "'species'", "'cat'", "'label'"]),
    "wrong split": ("file,label,split\na.png,x,train\nb.png,x,fold1\n", ["row 3", "'split'", "'fold1'"]),
    "all test": ("file,label,split\na.png,x,test\n", ["split", "'train'"]),
    "one row": ("file,label\na.png,x\n", ["1 row", "at least 2"]),
    "not UTF-8": (b"file,label\na.png,x\nb.png,m\xfcde\n", ["row 3", "UTF-8"]),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), ["row 1", "cannot be printed"]),
    "UTF-16 cut short": (GOOD.encode("utf-16")[:-1], ["UTF-8"]),
    "an index": (",file,label\n0,a.png,x\n1,b.png,y\n", ["column 1 has no name", "the file's name"]),
    "open quote": ('file,label\na.png,"x\nb.png,y\n', ["row", "not valid CSV"]),
    "huge cell": ("file,label\na.png," + "x" * 200_000, ["row 2", "not valid CSV"]),
    "control character": ("file,label\na.png,x\x07y\n", ["'label'", "\\x07"]),
    "parent": ("file,label\n../secret.png,x\na.png,x\n", ["row 2", "'../secret.png'", "leads out"]),
    "hidden parent": ("file,label\na.png,x\nsub/../../secret.png,x\n", ["row 3", "leads out"]),
    "absolute": ("file,label\n/etc/passwd,x\n", ["row 2", "'/etc/passwd'", "leads out"]),
    "drive": ("file,label\nC:\\secret.png,x\n", ["row 2", "leads out"]),
    "backslashes": ("file,label\n..\\secret.png,x\n", ["row 2", "leads out"]),
    "null character": ("file,label\na\x00.png,x\nb.png,x\n", ["labels.csv"]),
    "no image": ("file,label\na.png,x\nlabels.csv,x\n", ["labels.csv", "no readable image"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, case: str) -> None:
    csv, culprits = WRONG[case]
    picture(tmp_path / "secret.png")
    refused(lambda: load(folder(tmp_path / "pets", csv)), "labels.csv", *culprits)


def test_absent_folder_or_table(tmp_path: Path) -> None:
    refused(lambda: load_folder(tmp_path / "pets"), "pets", "no such folder")
    refused(lambda: load(tmp_path / "pets"), "pets", "no such file or folder")
    refused(lambda: load(folder(tmp_path, GOOD), image_size="big"), "--image-size")  # type: ignore[arg-type]
    (tmp_path / "labels.csv").unlink()
    assert load(tmp_path).labels == ClassLabels(10)  # images alone: no label is known
    for image in tmp_path.glob("*.png"):
        image.rename(image.with_suffix(".txt"))
    refused(lambda: load(tmp_path), str(tmp_path), "no image", "labels.csv")
    (tmp_path / "a.txt").rename(tmp_path / "a.png")
    refused(lambda: load(tmp_path / "a.png"), "a.png", "neither")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tif", "ppm"])
def test_an_image_cut_short_or_no_image_is_named(tmp_path: Path, suffix: str) -> None:
    root = folder(tmp_path, f"file,label\na.png,x\ncut.{suffix},x\n")
    content = noise(root / f"cut.{suffix}").read_bytes()
    assert load_folder(root, image_size=8).input_shape == (3, 8, 8)
    for keep in (0, 3, len(content) // 2):
        (root / f"cut.{suffix}").write_bytes(content[:keep])
        refused(lambda: load_folder(root), f"cut.{suffix}")
    assert "cut short" in refused(lambda: load_folder(root))
    (root / f"cut.{suffix}").write_bytes(b"hello, world")
    refused(lambda: load_folder(root), f"cut.{suffix}", "no readable image")


def test_an_unlisted_image_with_an_odd_name(tmp_path: Path) -> None:
    root = folder(tmp_path, GOOD)
    (root / "two\nlines.png").write_bytes(b"")
    refused(lambda: load(root), "no row for", "lines.png")


def test_no_program_is_run_for_an_image(tmp_path: Path) -> None:
    root = folder(tmp_path, "file,label\na.png,x\nb.png,x\n")
    Image.new("RGB", (20, 20)).save(root / "b.eps")
    shutil.move(root / "b.eps", root / "b.png")  # Pillow would hand it to Ghostscript
    refused(lambda: load_folder(root), "b.png", "no readable image")
    Image.fromarray(np.zeros((20, 20), np.float32)).save(root / "b.tif")
    shutil.move(root / "b.tif", root / "b.png")
    refused(lambda: load_folder(root), "b.png", "floating-point")


def test_links_and_pipes(tmp_path: Path) -> None:
    picture(tmp_path / "secret.png")
    root = folder(tmp_path / "pets", GOOD + "e.png,\n")
    (root / "e.png").symlink_to("a.png")
    assert len(load_folder(root).x) == 4
    (root / "e.png").unlink()
    (root / "e.png").symlink_to(tmp_path / "secret.png")
    refused(lambda: load_folder(root), "e.png", "leads out")
    (root / "e.png").unlink()
    (root / "more").symlink_to(tmp_path, target_is_directory=True)
    (root / "e.png").symlink_to("a.png")
    assert len(load_folder(root).x) == 4
    (root / "e.png").unlink()
    os.mkfifo(root / "e.png")
    refused(lambda: load_folder(root), "e.png", "not a file")


def test_gigantic_images_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path, GOOD)
    claim = bytearray((root / "a.png").read_bytes())
    for sides in ((60_000, 60_000), (12_000, 9_000)):  # above and below what Pillow itself refuses
        claim[16:24] = b"".join(side.to_bytes(4, "big") for side in sides)
        claim[29:33] = zlib.crc32(claim[12:29]).to_bytes(4, "big")
        (root / "a.png").write_bytes(claim)
        refused(lambda: load_folder(root), "a.png", "64,000,000 pixels")
    picture(root / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 399)
    refused(lambda: load_folder(root), "a.png", "399 pixels")
    monkeypatch.undo()
    monkeypatch.setattr(checks, "MAX_BYTES", 4 * 28 * 28 - 1)
    refused(lambda: load_folder(root), str(root), "4 images of 28 x 28")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("fuzz") / "pets", GOOD, ["a.png", "b.png", "s/c.png"])


def one_line_or_data(root: Path) -> None:
    try:
        data = load(root, image_size=4)
    except InputError as error:
        said = str(error)
    else:
        said = ""
        data.labels.check(data.y, len(data.x))
        data.labels.check(data.y_test, len(data.x_test))
        assert len(data.x) + len(data.x_test) == 3  # every image once, none from elsewhere
    assert "\n" not in said
    assert len(said) < 1000


CELLS = st.one_of(
    st.sampled_from(["a.png", "b.png", "s/c.png", "../a.png", "s", "/", "", "0", "1", "-1", "label", "test", "cat"]),
    st.text(max_size=6),
)
HEADERS = st.sampled_from([["f", "label"], ["f", "label", "split"], ["f", "hat", "x"], ["f"], ["", ""]])


@settings(max_examples=200, deadline=None)
@given(HEADERS, st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=4), st.booleans())
def test_fuzz_tables(scratch: Path, header: list[str], rows: list[list[str]], even: bool) -> None:
    if even:
        rows = [(row * len(header))[: len(header)] for row in rows]
    text = "\n".join(",".join(cells) for cells in [header, *rows])
    (scratch / "labels.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    one_line_or_data(scratch)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_fuzz_table_bytes(scratch: Path, data: st.DataObject) -> None:
    content = bytearray(b'file,label,split\na.png,"cat",train\ns/c.png,dog,test\nb.png,\xc3\xbc,\n')
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (scratch / "labels.csv").write_bytes(content)
    one_line_or_data(scratch)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]))
@pytest.mark.filterwarnings("ignore")
def test_fuzz_image_bytes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, form: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.png"
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path, format=form)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        grey, side = images.inspect(path)
        assert side >= 0
        assert images.decode(path, grey=grey, size=(4, 4)).shape == (1 if grey else 3, 4, 4)
    except InputError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
