from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from data_makers import refused
from torch import Tensor
from toy_blocks import NAMES, BlockClasses, BlockModel, BlockOracle, ClassOracle, blocks, pictures, world

from pyro_ssvae import AttributeLabels, Classifier, create_model
from pyro_ssvae.evaluation.bootstrap import estimates, resample
from pyro_ssvae.evaluation.interventions import evaluate_interventions
from pyro_ssvae.evaluation.oracle import Oracle
from pyro_ssvae.evaluation.swap_transfer import blind_share, choose_donors

X, Y, FACTORS = world()
OPTIONS: Any = {"draws": 4, "resamples": 200}


def evaluated(how: str, **options: object) -> dict:
    return evaluate_interventions(BlockModel(how), BlockOracle(), X, Y, FACTORS, **{**OPTIONS, **options})


def means(result: dict) -> dict[str, float]:
    return {key: value["mean"]["value"] for key, value in result.items() if isinstance(value, dict)}


def test_perfect_interventions_succeed_preserve_and_transfer() -> None:
    result = evaluated("perfect")
    found = means(result)
    for key in ("success", "preservation", "preservation_labels", "preservation_kinds"):
        assert found[key] == 1
        assert result[key]["mean"]["low"] == result[key]["mean"]["high"] == 1
    assert found["carry_over"] == found["carry_over_without"] == 1
    assert result["success"]["per_attribute"]["hat"]["to"] == [1, 1]
    assert found["diversity_pixels"] > 0
    json.dumps(result, allow_nan=False)


def test_interventions_that_do_nothing() -> None:
    result = evaluated("nothing")
    found = means(result)
    assert found["success"] == found["carry_over"] == found["carry_over_without"] == 0
    assert found["preservation"] == found["preservation_kinds"] == 1
    assert found["diversity_pixels"] == found["diversity_features"] == 0


def test_interventions_that_destroy_the_others() -> None:
    result = evaluated("destroys")
    assert means(result)["success"] == 1
    absent = (Y == 0).double().mean(0)
    for i, name in enumerate(NAMES):
        others = [j for j in range(3) if j != i]
        for key in ("preservation", "preservation_labels"):
            assert result[key]["per_attribute"][name]["value"] == pytest.approx(float(absent[others].mean()))
        # a vanished block reads as kind 0, so of the kinds that apply those of kind 0 are "kept"
        rows = []
        for row in range(len(Y)):
            kept = [float(blocks(X)[row, j] == 1) for j in others if Y[row, j] == 1]
            rows += [np.mean(kept)] if kept else []
        assert result["preservation_kinds"]["per_attribute"][name]["value"] == pytest.approx(np.mean(rows))


def test_a_share_of_the_draws() -> None:
    result = evaluated("half", draws=4)
    assert means(result)["success"] == 0.5
    assert result["success"]["per_attribute"]["beard"]["to"] == [0.5, 0.5]
    assert means(evaluated("half", draws=3))["success"] == pytest.approx(2 / 3)


def test_a_swap_that_ignores_the_donor_is_at_chance() -> None:
    result = evaluated("constant", draws=6)
    for name in NAMES:
        for key in ("carry_over", "carry_over_without"):
            entry = result[key]["per_factor"][f"{name} kind"]
            assert entry["attribute"] == name
            assert entry["chance"] == pytest.approx(1 / 2 if key == "carry_over" else 1 / 3, abs=0.01)
            assert entry["ceiling"] == {"real": 1, "reconstruction": 1}
            assert entry["without_swap"] == 0
        without = result["carry_over_without"]["per_factor"][f"{name} kind"]
        assert without["value"] == pytest.approx(1 / 3, abs=0.01)  # its donors' kinds are balanced, a third is kind 0
        assert without["n"] == int((Y[:, NAMES.index(name)] == 0).sum())
    # receivers of kind 0 get donors of another kind, and read kind 0: none right; the others every second
    share = [float((FACTORS.values[f"{name} kind"][Y[:, i] == 1] != 0).double().mean()) for i, name in enumerate(NAMES)]
    got = [result["carry_over"]["per_factor"][f"{name} kind"]["value"] for name in NAMES]
    assert got == pytest.approx([s / 2 for s in share], abs=0.02)


def test_chance_and_ceiling_where_reconstructions_are_black() -> None:
    result = evaluated("blank")
    q = Y.double().mean(0)
    for i, name in enumerate(NAMES):
        others = [j for j in range(3) if j != i]
        success = result["success"]["per_attribute"][name]
        assert success["chance"] == pytest.approx(float(q[i]))  # the black picture has no hat: right where one was
        assert success["ceiling"]["real"] == 1
        assert success["ceiling"]["reconstruction"] == pytest.approx(float(q[i]))
        labelled = result["preservation_labels"]["per_attribute"][name]
        assert labelled["ceiling"]["reconstruction"] == pytest.approx(float((1 - q[others]).mean()))
        assert labelled["chance"] == pytest.approx(float(torch.maximum(q, 1 - q)[others].mean()))
        assert result["preservation"]["per_attribute"][name]["chance"] == 1
    assert result["carry_over"]["mean"]["ceiling"] == {"real": 1, "reconstruction": 0}


def test_chance_of_a_swap_is_the_best_score_of_a_model_blind_to_the_donor() -> None:
    own, wanted = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2]), torch.tensor([1, 1, 2, 0, 2, 2, 2, 0])
    guesses = itertools.product(range(3), repeat=3)  # a value for receivers of each kind
    best = max(float((torch.tensor(guess)[own] == wanted).double().mean()) for guess in guesses)
    assert blind_share(own, wanted) == best == 6 / 8
    assert blind_share(None, wanted) == float(wanted.bincount().max()) / 8 == 4 / 8
    assert blind_share(torch.tensor([0, 1, 1]), torch.tensor([1, 0, 0])) == 1  # of two kinds the donor's is known


def test_chance_of_preservation_is_one_picture_for_all_points() -> None:
    result = evaluated("perfect")
    p = Y.double().mean(0)
    agree = torch.maximum(p, 1 - p)
    assert result["preservation"]["per_attribute"]["hat"]["chance"] == pytest.approx(float(agree[1:].mean()))


def test_diversity_by_hand() -> None:
    result = evaluated("perfect", draws=200)
    # setting a block to one of three brightnesses: variance 1/16 * 2/3 over a third of the image, where it is set to 1
    share = (Y == 0).double().mean(0)
    for i, name in enumerate(NAMES):
        value = result["diversity_pixels"]["per_attribute"][name]["value"]
        assert value == pytest.approx(float(share[i]) * 2 / 3 / 16 / 3, rel=0.03)
        assert result["diversity_features"]["per_attribute"][name]["value"] == pytest.approx(48 / 3 * value)
    between = X.double().var(0).mean()
    assert result["diversity_pixels"]["mean"]["ceiling"]["real"] == pytest.approx(float(between))
    assert "diversity_pixels" not in evaluated("perfect", draws=1)


def test_missing_labels_are_read_by_the_oracle() -> None:
    y = Y.clone()
    y[::2] = -1
    result = evaluate_interventions(BlockModel("half"), BlockOracle(), X, y, FACTORS, **OPTIONS)
    assert result["success"]["mean"]["n"] == len(Y)
    assert result["success"]["mean"]["value"] == 0.5
    assert result["preservation_labels"]["mean"]["n"] == len(Y) // 2
    unknown = evaluate_interventions(BlockModel(), BlockOracle(), X, torch.full_like(Y, -1), FACTORS, **OPTIONS)
    assert unknown["success"]["mean"]["value"] == 1
    assert unknown["success"]["mean"]["ceiling"]["real"] is None
    assert "preservation_labels" not in unknown
    assert "carry_over" not in unknown
    json.dumps(unknown, allow_nan=False)


def test_only_what_can_be_measured() -> None:
    without = evaluate_interventions(BlockModel(), BlockOracle(), X, Y, **OPTIONS)
    assert not {"carry_over", "carry_over_without", "preservation_kinds"} & without.keys()
    ones = torch.ones(9, 3, dtype=torch.long)
    _, _, factors = world(9)
    values = {name: torch.zeros(9, dtype=torch.long) for name in factors.values}
    factors = type(factors)(factors.names, values, factors.attributes)
    result = evaluate_interventions(BlockModel(), BlockOracle(), pictures(ones), ones, factors, **OPTIONS)
    assert result["success"]["per_attribute"]["hat"]["to"] == [1, None]
    assert "carry_over" not in result  # one kind alone cannot be told from another


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    first = evaluated("perfect", num_points=60)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert evaluated("perfect", num_points=60) == first
    assert first["points"] == 60
    assert evaluated("perfect", num_points=60, seed=1) != first
    assert means(evaluated("perfect", batch_size=7))["success"] == 1


def test_class_labels_have_success_alone() -> None:
    x = pictures((torch.arange(90) % 3).unsqueeze(1).expand(-1, 3))
    y = torch.arange(90) % 3
    result = evaluate_interventions(BlockClasses(), ClassOracle(), x, y, **OPTIONS)
    assert [v["value"] for v in result["success"]["per_class"].values()] == [1, 1, 0]
    assert result["success"]["mean"]["value"] == pytest.approx(2 / 3)
    assert result["success"]["mean"]["chance"] == 0
    assert result["success"]["mean"]["ceiling"] == {"real": 1, "reconstruction": 1}
    assert "preservation" not in result


def test_a_class_that_is_set_is_another_than_the_oracle_reads_where_the_label_is_missing() -> None:
    """All labels missing: what is set where, every draw; and which class is the seed's."""
    x = pictures((torch.arange(90) % 3).unsqueeze(1).expand(-1, 3))
    seen: dict[int, Tensor] = {}

    class Watched(BlockClasses):
        def intervene(self, x: Tensor, value: int | str, num_samples: int | None = None) -> Tensor:
            seen[int(value)] = blocks(x)[:, 0]
            return super().intervene(x, value, num_samples)

    found = evaluate_interventions(Watched(), ClassOracle(), x, torch.full((90,), -1), **OPTIONS)
    assert sum(map(len, seen.values())) == 90
    for value, shown in seen.items():
        assert not (shown == value).any()
        assert len(shown.unique()) == 2, "of either other class"
    assert found["success"]["mean"]["chance"] == 0


def test_without_a_swap_is_what_the_receivers_reconstructions_show() -> None:
    """All reconstructions show kind 0 of each attribute; of receivers without it every kind is wanted as often."""

    class Flat(BlockModel):
        def reconstruct(self, x: Tensor) -> Tensor:
            return pictures(torch.ones(len(x), 3))

    found = evaluate_interventions(Flat(), BlockOracle(), X, Y, FACTORS, **OPTIONS)
    for name in NAMES:
        share = found["carry_over_without"]["per_factor"][f"{name} kind"]["without_swap"]
        assert share == pytest.approx(1 / 3, abs=1 / 100)
        own = FACTORS.values[f"{name} kind"]
        there = float(
            (own[own >= 0] != 0).double().mean()
        )  # receivers of kind 0 want another; of the others half want it
        assert found["carry_over"]["per_factor"][f"{name} kind"]["without_swap"] == pytest.approx(there / 2, abs=0.02)


def test_bootstrap_interval_is_the_binomial_one() -> None:
    hits = (torch.arange(400) % 5 == 0).double().unsqueeze(1).expand(-1, 2).clone()
    hits[200:, 1] = math.nan
    _, result = estimates(hits, ["a", "b"], resample(400, 2000, 0))
    for name, n in (("a", 400), ("b", 200)):
        half = 1.96 * math.sqrt(0.2 * 0.8 / n)
        assert result[name]["value"] == pytest.approx(0.2)
        assert result[name]["low"] == pytest.approx(0.2 - half, abs=0.006)
        assert result[name]["high"] == pytest.approx(0.2 + half, abs=0.006)
        assert result[name]["n"] == n


def test_donors_are_of_another_value_and_balanced() -> None:
    own = torch.tensor([0] * 30 + [1] * 10 + [2] * 5 + [-1] * 8)
    donor_values = torch.tensor([0] * 50 + [1] * 3 + [2])
    rows = choose_donors(own, donor_values, 3)
    assert len(rows.unique()) > 20
    chosen = donor_values[rows]
    assert chosen.shape == (53, 3)
    assert not (chosen == own.unsqueeze(1)).any()
    for value in (0, 1, 2, -1):
        counts = chosen[own == value].flatten().bincount(minlength=3)
        there = counts[[k for k in range(3) if k != value]]
        assert int(there.max() - there.min()) <= 1
    other = donor_values[choose_donors(own, donor_values, 3, seed=1)]
    assert torch.equal(donor_values[choose_donors(own, donor_values, 3)], chosen)
    assert 0.2 < float((other != chosen).double().mean()) < 0.8, "which receiver wants which is drawn"


def test_a_revae_and_an_oracle_of_the_library() -> None:
    labels = AttributeLabels(NAMES)
    model = create_model("revae", input_shape=(1, 4, 12), labels=labels, latent_dim=5)
    oracle = Oracle((1, 4, 12), labels, FACTORS.names)
    result = evaluate_interventions(model, oracle, X[:20], Y[:20], world(20)[2], draws=2, resamples=20)
    assert 0 <= result["success"]["mean"]["value"] <= 1
    assert result["diversity_pixels"]["mean"]["value"] > 0
    json.dumps(result, allow_nan=False)


def test_bad_input() -> None:
    plain = Classifier.default((1, 4, 12), AttributeLabels(NAMES))
    refused(lambda: evaluate_interventions(plain, BlockOracle(), X, Y), "Classifier", "has no interventions", "revae")
    refused(lambda: evaluate_interventions(BlockModel(), ClassOracle(), X, Y), "oracle", "differ")
    refused(lambda: evaluated("perfect", draws=0), "draws", "0")
    refused(lambda: evaluated("perfect", num_points=0), "num_points", "0")
    refused(lambda: evaluate_interventions(BlockModel(), BlockOracle(), X[:0], Y[:0]), "no rows")
