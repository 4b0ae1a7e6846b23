"""Files from others: no pickle runs, nothing outside of a folder is read, no process or connection is started."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_makers import folder, har, mnist, npz, picture
from fuzz import kinds
from test_checkpoint import Planted

import pyro_ssvae
from pyro_ssvae.data import load, load_folder
from pyro_ssvae.errors import InputError
from pyro_ssvae.evaluation.oracle import load_oracle
from pyro_ssvae.studies.cells import Cell
from pyro_ssvae.studies.cells import read as read_cell
from pyro_ssvae.train.checkpoints import load_newest, sibling

FORBIDDEN = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
heard: list[list[tuple[str, Any]]] = []


def hear(event: str, arguments: Any) -> None:
    if heard and (event in FORBIDDEN or event == "open"):
        heard[-1].append((event, arguments))


sys.addaudithook(hear)


@contextmanager
def listening() -> Iterator[list[tuple[str, Any]]]:
    """What Python's own audit hears meanwhile: files that are opened, and what must never happen."""
    heard.append([])
    try:
        yield heard[-1]
    finally:
        done = heard.pop()
    assert [event for event, _ in done if event in FORBIDDEN] == []


def planted() -> dict[str, bytes]:
    """Pickles as they are, as torch.save packs them, and as arrays of objects, alone and in an archive."""
    torch_file, array, archive = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"state": Planted()}, torch_file)
    np.save(array, np.array([Planted()]), allow_pickle=True)
    objects: Any = {name: np.array([Planted()] * 4) for name in ("x", "y", "names")}
    np.savez(archive, **objects)
    made = {f"protocol {n}": pickle.dumps(Planted(), protocol=n) for n in range(pickle.HIGHEST_PROTOCOL + 1)}
    return made | {"torch": torch_file.getvalue(), "npy": array.getvalue(), "npz": archive.getvalue()}


def readers(place: Path) -> dict[str, tuple[Path, Callable[[], Any]]]:
    """Every file that the program reads, and what reads it."""
    found: dict[str, tuple[Path, Callable[[], Any]]] = {}
    work = place / "work"
    work.mkdir()
    names = {"npz": "own.npz", "configuration": "config.json", "image": "a.png"}
    for name, kind in kinds(place).items():
        path = work / name / names.get(name, "file")
        path.parent.mkdir()
        found[name] = (path, lambda kind=kind, path=path: kind.read(path))
    mnist(place / "data")
    har(place / "data")
    for path in sorted((place / "data").rglob("*")):
        if path.is_file() and not path.name.startswith(("subject", "features")):  # which are not read
            name = "mnist" if "MNIST" in path.parts else "har-windows" if "Inertial" in str(path) else "har"
            found[str(path.relative_to(place))] = (path, lambda name=name: load(name, root=place / "data"))
    own = folder(place / "own", "file,label\na.png,cat\nb.png,dog\nc.png,cat\nd.png,dog\n")
    for name in ("labels.csv", "a.png"):
        found[f"folder {name}"] = (own / name, lambda: load_folder(own))
    for word in ("last", "1", "good"):
        path = place / word / "last.safetensors"
        path.parent.mkdir()
        at = path if word == "last" else sibling(path, word)
        found[f"checkpoint {word}"] = (at, lambda path=path: load_newest(path))
    found["oracle"] = (place / "oracle.safetensors", lambda: load_oracle(place / "oracle.safetensors"))
    cell = Cell("anomaly", "x", "cd", "m1", "all", seed=2, steps=8, batch_size=9, latent_dim=2, augment="none")
    found["cell"] = (cell.path(place), lambda: read_cell(place, cell))
    return found


def outcome(read: Callable[[], Any]) -> Any:
    """What a reader returns; None where it refuses its file in one line."""
    try:
        return read()
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    return None


def test_no_pickle_runs_from_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "ran"
    monkeypatch.setenv("PLANTED", str(trace))
    pickles, tried = planted(), 0
    for name, (path, read) in readers(tmp_path).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = path.read_bytes() if path.exists() else b""
        for content in pickles.values():
            path.write_bytes(content)
            with listening():
                assert outcome(read) is None, name  # of a damaged cell, too: it is computed again
            tried += 1
            assert not trace.exists(), name
        path.write_bytes(kept)
    assert tried >= 25 * 9
    with pytest.raises(AssertionError), listening():
        pickle.loads(pickles["protocol 0"])
    assert trace.exists()  # the trap does work


def test_the_program_has_no_call_that_unpickles_or_evaluates() -> None:
    """``cloudpickle`` joins the processes of one training, which one program starts; it reads no file."""
    sources = sorted(Path(pyro_ssvae.__file__).parent.rglob("*.py"))
    assert len(sources) > 50
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "dill", "joblib", "shelve", "marshal", "yaml"} & set(names), path
                assert "cloudpickle" not in names or path.parts[-2:] == ("train", "workers.py"), path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load", "os.system", "pd.read_pickle"), path
                for keyword in node.keywords:
                    value = ast.unparse(keyword.value)
                    assert (keyword.arg, value) not in [
                        ("allow_pickle", "True"),
                        ("weights_only", "False"),
                        ("shell", "True"),
                    ], path


SECRET = "geheim"


@pytest.mark.parametrize(
    "name",
    [
        "../geheim.png", "sub/../../geheim.png", "..\\geheim.png", "{root}/geheim.png", "/etc/../{root}/geheim.png",
        "C:\\geheim.png", "\\\\host\\geheim.png", "link.png", "linked/geheim.png", "sub/link.png", "./../geheim.png",
        "~/geheim.png", "file://{root}/geheim.png", "\u2024\u2024/geheim.png", "a.png\0/../../geheim.png", "pipe.png",
    ],
)  # fmt: skip
def test_no_row_of_a_table_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    name = name.format(root=tmp_path)
    secret = picture(tmp_path / "geheim.png")
    own = folder(tmp_path / "own", f"file,label\na.png,cat\nb.png,dog\n{name},dog\n", ["a.png", "b.png"])
    (own / "sub").mkdir()
    if name.endswith("link.png"):
        (own / name).symlink_to(secret)
    elif name.startswith("linked"):
        (own / "linked").symlink_to(tmp_path)
    elif name == "pipe.png":
        os.mkfifo(own / name)
    with listening() as opened, pytest.raises(InputError) as caught:
        load_folder(own)
    assert "\n" not in str(caught.value)
    assert not [path for _, (path, *_) in opened if SECRET in str(path)], "it was opened"


def test_a_labels_csv_that_is_a_link_out_is_no_table(tmp_path: Path) -> None:
    """What lies there could be quoted in a message."""
    own = folder(tmp_path / "own", "file,label\na.png,cat\n")
    (tmp_path / "geheim").write_text("root:x:0:0\n")
    (own / "labels.csv").unlink()
    (own / "labels.csv").symlink_to(tmp_path / "geheim")
    with listening() as opened, pytest.raises(InputError, match="leads out"):
        load_folder(own)
    assert not [path for _, (path, *_) in opened if SECRET in str(path)]


def test_no_member_of_an_archive_is_written_anywhere(tmp_path: Path) -> None:
    file = npz(tmp_path / "in" / "own.npz", x=np.zeros((4, 2))) if (tmp_path / "in").mkdir() is None else tmp_path
    import zipfile

    with zipfile.ZipFile(file, "a") as archive:
        for name in ("../out.npy", "/out.npy", "y.npy/../../out.npy", "x_test.npy "):
            archive.writestr(name, b"x" * 100)
    with listening() as opened:
        assert load(file).input_shape == (2,)
    written = [path for _, (path, mode, _) in opened if isinstance(mode, str) and set(mode) & set("wax+")]
    assert written == []
    assert sorted(os.listdir(tmp_path)) == ["in"]


def test_an_archive_that_unpacks_to_a_great_deal_is_refused_before(tmp_path: Path) -> None:
    """A bomb of 5 GB of zeros in 5 MB; and one that hides it behind a small size in its directory."""
    import zipfile

    from data_makers import npy_header, refused
    from fuzz import bounded

    file = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as out,
    ):
        out.write(npy_header((5000, 2**18)))
        for _ in range(20):
            out.write(bytes(2**18))
    content = bytearray(file.read_bytes())
    with bounded(2**28):
        refused(lambda: load(file), str(file), "damaged")  # the header says 5 GB, 5 MB are there
        place = content.rfind(b"PK\1\2")
        size = (2**32 - 2).to_bytes(4, "little")
        content[place + 24 : place + 28] = size  # the directory agrees with a header of 4 GB
        file.write_bytes(content)
        refused(lambda: load(file), str(file))


def test_names_of_a_run_are_words_and_nothing_else(tmp_path: Path) -> None:
    """A configuration from others: its words are shown, and end up in no path or command."""
    with listening() as opened:
        shutil.copytree(model_folder(tmp_path), tmp_path / "run")
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        config["labels"]["names"] = ["../../geheim", "$(touch geheim)", "`geheim`"]
        (tmp_path / "run" / "config.json").write_text(json.dumps(config))
        vae = pyro_ssvae.load(tmp_path / "run")
        assert vae.predict(torch.zeros(2, 5)).shape == (2,)
    assert not [path for _, (path, *_) in opened if SECRET in str(path)]


def model_folder(place: Path) -> Path:
    kinds(place)
    return place / "model"
