"""Points that stay in their files: the same training as from memory, in a bounded part of it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from data_makers import refused
from PIL import Image
from test_fit import same
from torch import Tensor, nn

from pyro_ssvae import VAE, ClassLabels, InputError, create_model, data, fit, impute
from pyro_ssvae.benchmark.steps import peak_memory, reset_peak_memory
from pyro_ssvae.data import blocks, streaming
from pyro_ssvae.infer.batched import batched, opened

N, SHAPE = 120, (1, 6, 6)


@pytest.fixture
def never_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "IN_MEMORY", 0)


def trained(x: Any, y: Any, **options: Any) -> nn.Module:
    pyro.set_rng_seed(0)
    shape = tuple(np.shape(x)[1:]) if isinstance(x, (np.ndarray, Tensor)) else SHAPE
    model = create_model("augmented", input_shape=shape, labels=ClassLabels(3), latent_dim=2)
    fit(model, x, y, **{"progress": False, "batch_size": 16, "epochs": 2, **options})
    return model


def images(dtype: Any = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (N, *SHAPE)).astype(dtype)
    return (x / 255).astype(dtype) if x.dtype.kind == "f" else x, np.where(np.arange(N) < 30, np.arange(N) % 3, -1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">f8"])
@pytest.mark.usefixtures("never_in_memory")
def test_a_file_is_trained_on_as_the_array_is(tmp_path: Path, dtype: Any) -> None:
    x, y = images(dtype)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "both.npz", y=y, x=x)
    np.savez_compressed(tmp_path / "small.npz", y=y)
    mapped = np.lib.format.open_memmap(tmp_path / "more.npy", "w+", dtype, (N + 7, *SHAPE))
    mapped[7:] = x
    mapped.flush()
    whole = trained(x.astype(np.float32) if dtype == ">f8" else x, y)
    assert same(trained(str(tmp_path / "x.npy"), y), whole)
    assert same(trained(tmp_path / "both.npz", None), whole)
    part = np.load(tmp_path / "more.npy", mmap_mode="r")[7:]
    assert same(trained(part, y), whole)


@pytest.mark.usefixtures("never_in_memory")
def test_what_of_a_memory_map_is_not_in_its_file_is_trained_on(tmp_path: Path) -> None:
    """A copy on write is changed in memory alone; a map that was computed of one lies there."""
    x, y = images(np.float32)
    np.save(tmp_path / "x.npy", x)
    changed = np.load(tmp_path / "x.npy", mmap_mode="c")
    changed[:, 0, 2] = 0.25
    assert same(trained(changed, y), trained(np.array(changed), y))
    computed = np.load(tmp_path / "x.npy", mmap_mode="r").astype(np.float64)
    assert isinstance(computed, np.memmap)
    assert same(trained(computed, y), trained(x, y))


def test_a_stream_takes_numpy_s_numbers_and_names_what_it_cannot_use() -> None:
    x, _ = images(np.float32)
    points = streaming.stream(lambda rows: x[rows], (np.int64(N), *SHAPE), block=np.int32(50))  # type: ignore[arg-type]
    assert points.shape == x.shape
    assert points.starts.tolist() == [0, 50, 100, N]  # type: ignore[union-attr]
    refused(lambda: streaming.stream(x, x.shape), "x: a ndarray; a function of rows")  # type: ignore[arg-type]
    refused(lambda: streaming.stream(lambda rows: x[rows], (N, 0)), "x: shape (120, 0)")


def test_black_and_white_of_eight_bits_is_not_taken_for_almost_black(tmp_path: Path) -> None:
    x, y = images()
    np.save(tmp_path / "x.npy", x // 128)
    for source in (x // 128, tmp_path / "x.npy", streaming.stream(lambda rows: x[rows] // 128, x.shape, "uint8")):
        refused(lambda source=source: trained(source, y), "uint8 pixels of 0 and 1", "255 * x")  # type: ignore[misc]
    trained(x // 128 * 255, y, epochs=1)


def test_what_is_small_is_read_whole(tmp_path: Path) -> None:
    x, y = images()
    np.savez_compressed(tmp_path / "both.npz", x=x, y=y)
    assert same(trained(tmp_path / "both.npz", None), trained(x, y))


@pytest.mark.usefixtures("never_in_memory")
def test_a_folder_of_images_is_decoded_as_it_is_needed(tmp_path: Path) -> None:
    x, y = images()
    rows = ["file,label,split"]
    for i in range(N):
        Image.fromarray(x[i, 0]).save(tmp_path / f"{i:03}.png")
        rows.append(f"{i:03}.png,{'' if y[i] < 0 else 'abc'[y[i]]},{'test' if i >= 100 else 'train'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    loaded = data.load(str(tmp_path), image_size=6)
    pyro.set_rng_seed(0)
    model = create_model("augmented", input_shape=SHAPE, labels=loaded.labels, latent_dim=2)
    fit(model, tmp_path, progress=False, batch_size=16, epochs=2)
    pyro.set_rng_seed(0)
    other = create_model("augmented", input_shape=SHAPE, labels=loaded.labels, latent_dim=2)
    fit(other, loaded.x, loaded.y, progress=False, batch_size=16, epochs=2)
    assert same(model, other)
    refused(lambda: trained(tmp_path, None), "a, b, c")


@pytest.mark.usefixtures("never_in_memory")
def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    x, y = images(np.float32)
    x[77, 0, 1, 1] = np.inf
    np.save(tmp_path / "nan.npy", x)
    refused(
        lambda: trained(tmp_path / "nan.npy", y), "nan.npy", "row 77 has an infinite value", "NaN where it is missing"
    )
    x[77] = np.nan
    np.save(tmp_path / "empty.npy", x)
    refused(lambda: trained(tmp_path / "empty.npy", y), "empty.npy", "row 77 has no value at all")
    refused(lambda: trained(tmp_path / "none.npy", y), "none.npy", "no such file")
    refused(lambda: trained(tmp_path / "x.txt", y), "x.txt")
    (tmp_path / "short.npy").write_bytes((tmp_path / "nan.npy").read_bytes()[:-90])
    refused(lambda: trained(tmp_path / "short.npy", y), "short.npy")
    np.savez(tmp_path / "noy.npz", y=y)
    refused(lambda: trained(tmp_path / "noy.npz", y), "noy.npz", "'x'")
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    refused(lambda: trained(tmp_path / "objects.npy", None), "objects.npy")
    with pytest.raises(InputError, match="one after another"):
        trained(np.load(tmp_path / "nan.npy", mmap_mode="r")[:, :, ::2], y)


@pytest.mark.usefixtures("never_in_memory")
def test_missing_entries_in_a_file_are_those_of_the_array(tmp_path: Path) -> None:
    x, y = images(np.float32)
    x[np.random.default_rng(1).random(x.shape) < 0.2] = np.nan
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    whole: Any = trained(x, y)
    sources = [tmp_path / "x.npy", tmp_path / "x.npz", np.load(tmp_path / "x.npy", mmap_mode="r")]
    sources.append(streaming.stream(lambda rows: x[rows], shape=x.shape))
    sources.append(streaming.stream(lambda rows: x[rows, 0], shape=(N, *SHAPE[1:])))  # its axes are put in order
    for source in sources:
        assert same(trained(source, y, validation=None), whole)
        torch.testing.assert_close(whole.predict_proba(source), whole.predict_proba(x))
        torch.testing.assert_close(
            impute(whole, source, num_samples=3, seed=0), impute(whole, x, num_samples=3, seed=0)
        )
    trained(tmp_path / "x.npy", y, validation=0.2)
    assert not impute(whole, tmp_path / "x.npy", num_samples=3).isnan().any()

    class Own(nn.Module):
        """A pair that says nothing of missing entries."""

        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(()))

        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            pyro.module("own", self)
            with pyro.plate("data", len(x)):
                pyro.sample("x", pyro.distributions.Normal(self.mean, 1.0).expand(x.shape[1:]).to_event(3), obs=x)

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            pass

    refused(lambda: fit(Own(), tmp_path / "x.npy", progress=False), "x.npy", "row 0 has a NaN or infinite value")
    grey: Any = create_model("augmented", input_shape=SHAPE, labels=ClassLabels(3), likelihood="bernoulli")
    x[77, 0, 1, 1] = 2.0  # outside of the support, in the eighth part that is read
    np.save(tmp_path / "wrong.npy", x)
    refused(lambda: batched(grey, grey.predict, opened(grey, tmp_path / "wrong.npy")[0], rows=11), "row 77")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_are_read_as_carefully_as_by_load(tmp_path: Path, compression: int) -> None:
    x, y = images()

    def archive(name: str, content: bytes) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", compression) as made:
            made.writestr("x.npy", content)
        return tmp_path / name

    def saved(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
        file = io.BytesIO()
        np.lib.format.write_array(file, array, version)
        return file.getvalue()

    refused(lambda: trained(archive("third.npz", saved(x, (3, 0))), y), "third.npz", "x")
    refused(lambda: trained(archive("short.npz", saved(x)[:-9]), y), "short.npz", "are there")
    refused(lambda: trained(archive("words.npz", saved(np.array([["a"], ["b"]]))), y), "x")
    np.savez(tmp_path / "named.npz", x=x, y=np.array(["a"] * N))
    refused(lambda: trained(tmp_path / "named.npz", None), "the labels are a", "no class 'a'")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory cannot be reset")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of 410 MB (of holes, on most discs) in less than 330 MB beside what is there already: two buffers of 33
    MB, a sample of 20, 80 as numbers, and what the steps take."""
    torch.manual_seed(0)
    n = 25_000
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (n, 1, 128, 128)).flush()
    encoder = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(64, 4))
    small = VAE(encoder, nn.Sequential(nn.Linear(2, 128 * 128), nn.Unflatten(1, (1, 128, 128))), latent_dim=2)
    options: dict[str, Any] = {"progress": False, "batch_size": 100, "epochs": 1, "augment": "none"}
    fit(small, torch.zeros(200, 1, 128, 128), **options)
    reset_peak_memory()
    before = peak_memory(torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(streaming, "IN_MEMORY", 2**28)
        history = fit(small, tmp_path / "x.npy", **options)
    assert len(history["loss"]) == 1
    assert peak_memory(torch.device("cpu")) - before < 330e6


def test_a_function_is_asked_for_ascending_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks come in random order; what is read at once is one stretch, as the example of ``ps.stream`` takes it."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 24)  # several blocks a buffer, several buffers
    monkeypatch.setattr(blocks, "BUFFER_ROWS", 96)
    table = np.random.default_rng(0).normal(size=(N * 4, 5)).astype(np.float32)
    asked: list[np.ndarray] = []

    def read(rows: np.ndarray) -> np.ndarray:
        asked.append(rows)
        return table[rows[0] : rows[-1] + 1][rows - rows[0]]

    x = streaming.stream(read, shape=table.shape)
    y = np.where(np.arange(len(table)) % 7 == 0, np.arange(len(table)) % 3, -1)
    assert x.blocks().buffers > 2
    pyro.set_rng_seed(0)
    model = create_model("augmented", input_shape=(5,), labels=ClassLabels(3), latent_dim=2)
    fit(model, x, y, epochs=2, batch_size=16, labelled_rows=8, validation=0.1, progress=False)
    assert len(asked) > 40
    assert all((np.diff(rows) > 0).all() for rows in asked)
    some = torch.tensor([400, 3, 77, 3, 20])
    assert torch.equal(x[some], torch.from_numpy(table)[some])
    assert torch.equal(next(x.stream(iter([some]))), torch.from_numpy(table)[some])
