from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_makers import npz, refused, without_notes
from matplotlib.figure import Figure
from test_cli import TINY, contents, metrics_of, small
from test_fit import layered, pictures, same, train

from pyro_ssvae import save
from pyro_ssvae.cli.main import main
from pyro_ssvae.experiment import run as training
from pyro_ssvae.train import state as training_state
from pyro_ssvae.train.checkpoints import checkpoints, load_newest


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """A place where no file can be larger: the system refuses the write, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(autouse=True)
def good_states_in_short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_state, "APART", 1)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of a given size, or mounts it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def mount(options: str) -> Path:
        nonlocal mounted
        kind = (
            ["-o", f"remount,{options}", str(place)] if mounted else ["-t", "tmpfs", "-o", options, "none", str(place)]
        )
        done = subprocess.run(["mount", *kind], capture_output=True, text=True, check=False)
        if done.returncode != 0 and not mounted:
            pytest.skip(f"NO DISK CAN BE MOUNTED HERE, which takes root: {done.stderr.strip()[:100]}")
        assert done.returncode == 0, done.stderr
        mounted = True
        return place

    yield mount
    if mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_checkpoint_that_finds_no_room_is_tried_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, file = pictures(), tmp_path / "c"
    limits: list[Any] = []
    whole = layered()
    train(whole, **data, epochs=5)

    def full(row: dict[str, float]) -> None:
        """In epochs 2 and 3 there is no room."""
        if row["epoch"] == 2:
            limits.append(files_up_to(1000))
            limits[0].__enter__()
        elif row["epoch"] == 4:
            assert load_newest(file)[1]["done"] == 3
            assert sorted(os.listdir(tmp_path)) == ["c", "c-best", "c-good"], "a part was left that takes room"
            limits[0].__exit__(None, None, None)

    model = layered()
    train(model, **data, epochs=5, checkpoint=file, checkpoint_epochs=1, on_epoch=full)
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2
    for line in said:
        assert str(tmp_path / "c") in line
        assert "File too large" in line
        assert "training goes on" in line
    assert same(whole, model)
    assert load_newest(file)[1]["done"] == 15


def test_a_disk_that_stays_full_ends_the_training_and_loses_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, file = pictures(), tmp_path / "c"
    whole = layered()
    train(whole, **data, epochs=4)
    with contextlib.ExitStack() as stack:

        def full(row: dict[str, float]) -> None:
            if row["epoch"] == 3:
                stack.enter_context(files_up_to(1000))

        options: dict[str, Any] = {"epochs": 4, "checkpoint": file, "checkpoint_epochs": 1}
        refused(lambda: train(layered(), **data, **options, on_epoch=full), str(file), "File too large")
    assert load_newest(file)[1]["done"] == 6
    model = layered()
    train(model, **data, **options, resume=True)
    assert same(whole, model)
    with files_up_to(1000):  # from the beginning
        refused(lambda: train(layered(), **data, **{**options, "checkpoint": tmp_path / "d"}), "d", "File too large")
        refused(lambda: save(layered(), tmp_path / "saved"), "saved", "File too large")
    assert checkpoints(tmp_path / "d") == []


def test_a_full_disk_at_any_time_of_a_run(
    tmp_path: Path,
    disk: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """No room for the checkpoint, the weights, the figures or the metrics; room is made, and the run goes on."""
    own, place = small(tmp_path / "own.npz"), disk("size=64m")
    arguments = ["train", "--data", str(own), "--labels", "9", "--no-baseline", *TINY]

    def one_figure(*rest: Any, **more: Any) -> None:
        rest[-1].mkdir(exist_ok=True)
        Figure().savefig(rest[-1] / "a.png")

    monkeypatch.setattr(training, "save_all", one_figure)
    assert main([*arguments, "--out", str(tmp_path / "whole")]) == 0

    def before(module: Any, name: str, patch: pytest.MonkeyPatch) -> None:
        """Fill the disk before a function is called."""
        real = getattr(module, name)

        def filled(*rest: Any, **options: Any) -> Any:
            with contextlib.suppress(OSError), open(place / "ballast", "wb") as file:
                while True:
                    file.write(bytes(2**16))
                    file.flush()
            return real(*rest, **options)

        patch.setattr(module, name, filled)

    for name in ("fit", "save", "write_history", "save_all"):
        out = place / f"run-{name}"
        with monkeypatch.context() as patch:
            before(training, name, patch)
            capfd.readouterr()
            assert main([*arguments, "--out", str(out)]) == 2
        said = without_notes(capfd.readouterr().err)
        assert sum(not line.startswith("fit: ") for line in said.splitlines()) == 1, said
        assert "No space left on device" in said
        (place / "ballast").unlink()
        if name == "fit":  # nothing was begun: the same command works now
            assert main([*arguments, "--out", str(out)]) == 0
        else:
            assert f"pyro-ssvae train --resume {out}" in said
            assert main(["train", "--resume", str(out), "--quiet"]) == 0
        assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
        assert metrics_of(out)["test"] == metrics_of(tmp_path / "whole")["test"]
        shutil.rmtree(out)


def test_a_folder_that_has_become_read_only(
    tmp_path: Path, disk: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    own, place = small(tmp_path / "own.npz"), disk("size=64m")
    arguments = ["train", "--data", str(own), "--labels", "9", "--no-baseline", *TINY]
    assert main([*arguments, "--out", str(place / "run")]) == 0
    (place / "run" / "metrics.json").unlink()  # as if it had not ended
    kept = contents(place)
    disk("ro")
    for command, words in (
        ([*arguments, "--out", str(place / "new")], ["--out", "cannot be made (Read-only file system)"]),
        (["train", "--resume", str(place / "run"), "--quiet"], [str(place / "run"), "Read-only file system"]),
        (["generate", str(place / "run")], [str(place / "run"), "Read-only file system"]),
    ):
        capfd.readouterr()
        assert main(command) == 2
        said = without_notes(capfd.readouterr().err)
        assert said.count("\n") == 1, said
        for word in words:
            assert word in said
    assert main(["evaluate", str(place / "run")]) == 0  # which writes nothing
    assert contents(place) == kept
    refused(lambda: save(layered(), place / "saved"), "saved", "Read-only file system")


def test_data_that_disappears_or_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "save_all", lambda *rest, **more: [])
    own, genuine = small(Path("own.npz")), training.fit
    arguments = ["train", "--data", "own.npz", "--labels", "9", "--no-baseline", *TINY]
    assert main([*arguments, "--out", "whole"]) == 0

    def gone(*rest: Any, **options: Any) -> Any:
        """The file disappears in the middle of the training, which has all of it in memory."""
        options["on_epoch"] = lambda row: own.unlink(missing_ok=True)
        return genuine(*rest, **options)

    content = own.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", gone)
        assert main([*arguments, "--out", "run"]) == 0
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    ended = Path("run/metrics.json").read_bytes()
    commands = {"--resume": ["train", "--resume", "run"], "evaluate": ["evaluate", "run"]}
    commands |= {"inspect": ["inspect", "run"], "suggest": ["suggest", "run"]}

    def refuse(command: str, *culprits: str) -> None:
        if command == "--resume":
            Path("run/metrics.json").unlink()
        before = contents(Path())
        capfd.readouterr()
        assert main(commands[command]) == 2
        said = without_notes(capfd.readouterr().err)
        assert said.count("\n") == 1
        for culprit in culprits:
            assert culprit in said
        assert contents(Path()) == before
        Path("run/metrics.json").write_bytes(ended)

    for command in commands:
        refuse(command, "own.npz", "no such file", "call the command from there")
    npz(own, **np.load(io.BytesIO(content)))
    assert main(["evaluate", "run"]) == 0  # written again, the same numbers
    for part in ("x", "y"):
        arrays = dict(np.load(io.BytesIO(content)))
        arrays[part].reshape(-1)[0] += 1  # one pixel, or one label
        npz(own, **arrays)
        for command in commands:
            refuse(command, "own.npz", "has changed since")
    assert main(["evaluate", "run", "--data", "own.npz"]) == 0
    own.write_bytes(content[: len(content) // 2])
    for command in commands:
        refuse(command, "own.npz")
