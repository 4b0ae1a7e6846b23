"""Where the unnamed kinds are: which swap brings them, and which part of the latents tells them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_blocks import NAMES, BlockModel, BlockOracle, blocks, pictures, world

from pyro_ssvae.cli.tables import show_interventions
from pyro_ssvae.evaluation.interventions import evaluate_interventions
from pyro_ssvae.evaluation.leakage import classified, kinds_after, kinds_in_latents

X, Y, FACTORS = world(400)


class Leaky(BlockModel):
    """A swap of hats brings the donor's scarf and nothing of its hat; beards are their own."""

    def swap(self, x: Tensor, donor: Tensor, name: str) -> Tensor:
        value, theirs = blocks(x), blocks(donor)
        moved = {"hat": "scarf", "scarf": None, "beard": "beard"}[name]
        if moved is not None:
            i = NAMES.index(moved)
            value[:, i] = theirs[:, i]
        return pictures(value)


class WithParts(Leaky):
    """z_c^i is block i, but that the hat's is noise and the beard's holds the hat too; z_s holds the hat's kind.

    Under the guide for the scarf all but the scarf's part is 0.
    """

    z_c_dim = 12

    def place(self, name: str) -> slice:
        i = NAMES.index(name)
        return slice(4 * i, 4 * i + 4)

    def encode_for(self, x: Tensor, names: Iterable[str]) -> Tensor:
        code = torch.nn.functional.one_hot(blocks(x), 4).float() @ torch.tensor([[0.0, 0], [1, 0], [0, 1], [-1, -1]])
        hat, beard, scarf = code.unbind(1)
        noise = torch.randn(len(x), 4)
        z = torch.cat([noise, beard, hat, scarf, scarf, hat], 1)
        if list(names) == ["scarf"]:
            z[:, :8] = z[:, 12:] = 0
        return z


def table(model: Any, points: int = 60) -> Any:
    found = evaluate_interventions(model, BlockOracle(), X, Y, FACTORS, draws=2, resamples=5, leakage_points=points)
    return found["leakage"]


def test_each_swap_says_whose_kind_it_brings() -> None:
    swaps = table(Leaky())["swaps"]
    assert list(swaps) == [f"{name} kind" for name in NAMES]
    for factor, row in swaps.items():
        bringer = {"hat kind": None, "beard kind": "beard", "scarf kind": "hat"}[factor]
        assert list(row) == list(NAMES)
        for name, shares in row.items():
            if factor == "scarf kind" and name == "hat":
                # donors have the scarf too, so that each brings its own kind
                assert shares == [1, 0]
            else:
                assert shares == ([1, 0] if name == bringer else [0, 1]), (factor, name)


def test_a_swap_is_judged_on_as_many_different_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def watched(trial: Any, factor: str, value: Tensor, receivers: Tensor, donors: Tensor, name: str) -> list[float]:
        seen.append(receivers)
        return kinds_after(trial, factor, value, receivers, donors, name)

    monkeypatch.setattr("pyro_ssvae.evaluation.leakage.kinds_after", watched)
    table(Leaky(), points=60)
    assert [len(receivers.unique()) for receivers in seen] == [60] * 9


def test_each_part_of_the_latents_is_read_apart_under_the_guide_of_the_swap() -> None:
    latents = table(WithParts())["latents"]
    hat, beard, scarf = (latents[f"{name} kind"] for name in NAMES)
    for row in (hat, beard, scarf):
        assert 0.3 < row["chance"] < 0.55
    assert hat["points"] == int((Y[:, 0] == 1).sum())
    assert hat["own"] < hat["chance"] + 0.15  # noise
    assert hat["others"] > 0.9  # in the beard's
    assert hat["rest"] == 1
    assert beard["own"] > 0.9
    assert beard["rest"] < beard["chance"] + 0.15
    assert scarf["own"] == 1
    assert scarf["others"] == scarf["rest"] == scarf["chance"]  # nothing is left there


def test_a_kind_that_the_rest_alone_tells_is_not_among_the_others() -> None:
    """Two attributes of two dimensions; z_s holds the kind, z_c nothing of it."""
    value = torch.randint(3, (600,))
    hot = torch.nn.functional.one_hot(value, 3).float()

    class Model(torch.nn.Module):
        z_c_dim = 4

        def place(self, name: str) -> slice:
            return slice(2, 4)

        def encode_for(self, x: Tensor, names: Iterable[str]) -> Tensor:
            return torch.cat([torch.randn(len(x), 4), hot], 1)

    found = kinds_in_latents(Model(), torch.zeros(600, 1), value, "hat", 0)
    assert found["rest"] == 1
    assert max(found["own"], found["others"]) < 0.45  # 4 standard errors of 300 above a third


def test_parts_of_the_latents_are_read_on_points_that_no_classifier_learnt_from() -> None:
    """Noise of 150 dimensions tells the values that it was fitted to, here of 200 points, and no others."""

    class Noise(torch.nn.Module):
        z_c_dim = 4

        def place(self, name: str) -> slice:
            return slice(0, 4)

        def encode_for(self, x: Tensor, names: Iterable[str]) -> Tensor:
            return torch.randn(len(x), 154)

    value = torch.randint(2, (400,), generator=torch.Generator().manual_seed(0))
    assert kinds_in_latents(Noise(), torch.zeros(400, 1), value, "hat", 0)["rest"] < 0.65  # 4 sd of 200 above a half


def test_a_classifier_is_of_ten_times_as_many_points_as_a_swap() -> None:
    latents = table(WithParts(), points=5)["latents"]
    assert [latents[f"{name} kind"]["points"] for name in NAMES] == [50, 50, 50]


def test_the_tables_show_whose_kind_a_swap_brings_and_where_it_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluate_interventions(WithParts(), BlockOracle(), X, Y, FACTORS, draws=2, resamples=5, leakage_points=60)
    show_interventions(found)
    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    assert "scarf kind scarf 0.00 1.00 hat 1.00 0.00" in lines
    assert "beard kind beard 1.00 0.00 hat 0.00 1.00" in lines
    latents = found["leakage"]["latents"]["hat kind"]
    cells = [f"{latents[key]:.3f}" for key in ("own", "others", "rest", "chance")]
    assert " ".join(["hat kind", *cells]) in lines


def test_a_model_without_parts_has_swaps_alone_and_few_points_no_classifier() -> None:
    assert table(BlockModel())["latents"] == {}
    few = evaluate_interventions(
        WithParts(), BlockOracle(), X[:50], Y[:50], FACTORS, draws=2, resamples=5, leakage_points=5
    )
    assert few["leakage"]["latents"] == {}
    assert "leakage" not in evaluate_interventions(BlockModel(), BlockOracle(), X, Y, FACTORS, draws=2, resamples=5)


def test_the_classifier_is_judged_on_points_that_it_did_not_learn_from() -> None:
    torch.manual_seed(0)
    z, value = torch.randn(100, 60).double(), torch.randint(2, (100,))
    assert classified(z, value, z, value) > 0.85
    assert classified(z, value, torch.randn(2000, 60).double(), torch.randint(2, (2000,))) == pytest.approx(
        0.5, abs=0.05
    )
    shifted = 1000 + 1e-3 * z
    assert classified(shifted, value, shifted, value) > 0.85  # in units of its deviation
    side = torch.where(value == 1, 1.0, -1.0).double().unsqueeze(1) + 0.1 * z[:, :1]
    right = value == 1
    assert classified(side, value, side[right], value[right]) == 1, "in units of what it learnt from"
    ones = torch.ones(100, dtype=torch.long)
    assert classified(z, ones, z, value) == pytest.approx(float((value == 1).double().mean()))
