from __future__ import annotations

from pathlib import Path

import pytest
import torch
from data_makers import refused
from torch import Tensor
from toy_blocks import BlockFactors

from pyro_ssvae import AttributeLabels, ClassLabels
from pyro_ssvae.data import Dataset
from pyro_ssvae.evaluation import oracle
from pyro_ssvae.evaluation.oracle import (
    Oracle,
    OracleSettings,
    load_oracle,
    oracle_for,
    save_oracle,
    softened,
    train_oracle,
)

LABELS = AttributeLabels(["red", "green"])
FEW = OracleSettings(steps=50, batch_size=48)


def squares(n: int, seed: int = 0) -> tuple[Tensor, Tensor, BlockFactors]:
    """Grey images ``[n, 3, 20, 20]`` with a red square on the left, high or low, and a green one on the right."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.full((n, 3, 20, 20), 60, dtype=torch.uint8)
    y = torch.randint(2, (n, 2), generator=generator)
    low = torch.randint(2, (n,), generator=generator)
    for row in range(n):
        top = 2 + 10 * int(low[row])
        if y[row, 0]:
            x[row, 0, top : top + 6, 2:8] = 250
        if y[row, 1]:
            x[row, 1, 7:13, 12:18] = 250
    values = {"height": torch.where(y[:, 0] == 1, low, -1)}
    return x, y, BlockFactors({"height": ["high", "low"]}, values, {"height": "red"})


@pytest.fixture(scope="module")
def trained() -> Oracle:
    torch.set_num_threads(1)
    return train_oracle(*squares(300)[:2], LABELS, squares(300)[2], settings=FEW)


def test_it_reads_attributes_and_factors(trained: Oracle) -> None:
    x, y, factors = squares(200, seed=1)
    reading = trained.read(x, batch_size=70)
    assert float((reading.labels == y).float().mean()) > 0.97
    there = factors.values["height"] >= 0
    assert float((reading.factor_values["height"] == factors.values["height"])[there].float().mean()) > 0.97
    assert reading.probs.shape == y.shape
    assert reading.features.shape == (200, 256)
    assert torch.equal(trained.read(x / 255).labels, reading.labels)  # floats on [0, 1] are the same images
    soft = trained.read(softened(x / 255))
    assert float((soft.labels == y).float().mean()) > 0.95


def test_unknown_labels_do_not_count(trained: Oracle) -> None:
    x, y, factors = squares(60)
    y = y.clone()
    y[::2, 1] = -1
    values = {"height": torch.full_like(factors.values["height"], -1)}
    nowhere = BlockFactors(factors.names, values, factors.attributes)
    a = train_oracle(x, y, LABELS, nowhere, settings=OracleSettings(steps=3, batch_size=60))
    assert all(p.isfinite().all() for p in a.parameters())
    noise = torch.randint(0, 255, x.shape, dtype=torch.uint8)
    logits, _, _ = trained(noise / 255)
    everything_missing = oracle.oracle_loss(trained, noise / 255, torch.full_like(y, -1), values)
    assert logits.isfinite().all()
    assert everything_missing.item() == 0


def test_the_same_seed_gives_the_same_oracle_and_leaves_the_random_state() -> None:
    x, y, factors = squares(40)
    before = torch.get_rng_state()
    a, b = (train_oracle(x, y, LABELS, factors, settings=OracleSettings(steps=3, batch_size=20)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    other = train_oracle(x, y, LABELS, factors, settings=OracleSettings(steps=3, batch_size=20, seed=1))
    assert not torch.equal(a.label_head.weight, other.label_head.weight)


def test_class_labels_and_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    x = torch.randn(300, 4, generator=generator) + 4 * torch.nn.functional.one_hot(y, 4)
    y[:30] = -1
    reading = train_oracle(x, y, ClassLabels(3), settings=OracleSettings(steps=40, batch_size=64)).read(x)
    assert reading.probs.shape == (300, 3)
    assert float((reading.labels == torch.arange(300) % 3).float().mean()) > 0.9


COLUMNS = ("normal", "categorical:5")


def rows(n: int = 300) -> tuple[Tensor, Tensor]:
    """A table of an income, high where one attribute is 1, and of a category, 1 or 3 where the other is; with gaps."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (n, 2), generator=generator)
    income = 20_000 + 9_000 * y[:, 0] + 1_000 * torch.randn(n, generator=generator)
    code = 2 * torch.randint(2, (n,), generator=generator) + y[:, 1]
    x = torch.stack([income, code], 1)
    x[torch.rand(n, 2, generator=generator) < 0.1] = torch.nan
    return x, y


def test_missing_entries_and_units_of_columns_do_not_matter() -> None:
    x, y = rows()
    series, there = x[:, :1, None].expand(-1, 1, 6), ~x.isnan()
    for points, columns in ((x, COLUMNS), (x, ()), (series, ())):
        reading = train_oracle(points, y, LABELS, columns=columns, settings=FEW).read(points)
        assert reading.probs.isfinite().all()
        right = [float((reading.labels == y)[there[:, i], i].float().mean()) for i in range(2)]
        assert right[0] > 0.97
        assert not columns or right[1] > 0.97  # of numbers 0 to 3 it would have to learn which are odd
    images, y, _ = squares(60)
    gaps = images.float() / 255
    gaps[:, :, :3] = torch.nan
    for points in (gaps, gaps[:, :, :12]):  # softened, and moved alone
        reading = train_oracle(points, y, LABELS, settings=OracleSettings(steps=20, batch_size=20)).read(points)
        assert reading.probs.isfinite().all()


def test_saved_and_loaded_it_reads_the_same(trained: Oracle, tmp_path: Path) -> None:
    table = train_oracle(*rows(), LABELS, columns=COLUMNS, settings=OracleSettings(steps=3))
    save_oracle(table, tmp_path / "table.safetensors")
    assert torch.equal(load_oracle(tmp_path / "table.safetensors").read(rows()[0]).probs, table.read(rows()[0]).probs)
    save_oracle(trained, tmp_path / "oracle.safetensors")
    again = load_oracle(tmp_path / "oracle.safetensors")
    x = squares(20, seed=2)[0]
    assert torch.equal(again.read(x).probs, trained.read(x).probs)
    assert again.factor_names == {"height": ["high", "low"]}
    refused(lambda: load_oracle(tmp_path / "other.safetensors"), "other.safetensors", "no such file")
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "oracle.safetensors").read_bytes()[:-9])
    refused(lambda: load_oracle(tmp_path / "damaged.safetensors"), "damaged.safetensors")


def test_a_data_set_has_one_oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    x, y, factors = squares(30)
    whole = Dataset("squares", x, y, x[:5], y[:5], LABELS)
    calls: list[int] = []

    def counted(*args: object, **options: object) -> Oracle:
        calls.append(1)
        return train_oracle(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(oracle, "train_oracle", counted)
    few = OracleSettings(steps=2, batch_size=10)
    first = oracle_for(whole, factors, folder=tmp_path / "oracles", settings=few)
    again = oracle_for(whole, factors, folder=tmp_path / "oracles", settings=few)
    assert len(calls) == 1
    assert torch.equal(first.read(x).probs, again.read(x).probs)
    (kept,) = (tmp_path / "oracles").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    oracle_for(whole, factors, folder=tmp_path / "oracles", settings=few)
    assert len(calls) == 2  # a damaged one is made again
    values = {"height": 1 - factors.values["height"].clamp_min(0)}
    others = (
        lambda: oracle_for(whole, folder=tmp_path / "oracles", settings=few),
        lambda: oracle_for(whole, BlockFactors(factors.names, values, {}), folder=tmp_path / "oracles", settings=few),
        lambda: oracle_for(
            whole, factors, folder=tmp_path / "oracles", settings=OracleSettings(steps=3, batch_size=10)
        ),
        lambda: oracle_for(
            Dataset("s", x, 1 - y, x[:5], y[:5], LABELS), factors, folder=tmp_path / "oracles", settings=few
        ),
    )
    for i, other in enumerate(others, 3):
        other()
        assert len(calls) == i
    (tmp_path / "file").write_text("")
    brief = OracleSettings(steps=1, batch_size=10)
    oracle_for(whole, folder=tmp_path / "file" / "oracles", settings=brief)  # kept in the home folder
    oracle_for(whole, folder=tmp_path / "file" / "oracles", settings=brief)
    assert len(calls) == 7


def test_bad_input(trained: Oracle) -> None:
    x, y, factors = squares(10)
    refused(lambda: train_oracle(x, torch.full_like(y, -1), LABELS), "oracle", "none is known")
    refused(lambda: train_oracle(x[:5], y[:5], LABELS, factors), "height", "10 rows", "5")
    refused(lambda: trained.read(x[:, :, :10]), "oracle", "[3, 10, 20]", "[3, 20, 20]")
