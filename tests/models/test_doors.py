"""The pair is a door too: what plain ``SVI`` hands to it is checked, in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from data_makers import refused
from pair_suite import svi_of, weights
from tiny import ATTRIBUTES, CASES, CLASSES, build, points, some_labels

from pyro_ssvae import create_model
from pyro_ssvae.models import MODELS
from pyro_ssvae.models.generative import GenerativeModel

LABELLED = [case for case in CASES if CASES[case][0] != "vae"]
OF_CLASSES = [case for case in LABELLED if CASES[case][1] is CLASSES]


def step(model: Any, x: Any, y: Any) -> float:
    loss: float = svi_of(model).step(x, y)
    return loss


@pytest.mark.parametrize("case", LABELLED)
def test_values_that_are_no_labels(case: str) -> None:
    """Classes from 1, -100 for missing, NaN, numbers between; every one names its row and what would be right."""
    model, labels = build(case), CASES[case][1]
    size = 3 if labels is CLASSES else 2
    for wrong in (size, -100, float("nan"), 0.5):
        y = some_labels(labels, 6).double()
        y[4] = wrong
        refused(lambda y=y: step(model, points(6), y), "y: row 4", f"0 to {size - 1}", "-1 for missing")


@pytest.mark.parametrize("case", OF_CLASSES)
def test_labels_of_another_kind(case: str) -> None:
    model, x = build(case), points(4)
    assert np.isfinite(step(model, x, np.array([0, 1, 2, -1], dtype=np.int8)))
    assert np.isfinite(step(model, x, [0.0, 1.0, 2.0, -1.0]))
    refused(lambda: step(model, x, some_labels(ATTRIBUTES, 4)), "y: shape [4, 3]", "[N]")
    refused(lambda: step(model, x, torch.tensor([0, 1])), "y: 2 rows", "x has 4")
    refused(lambda: step(model, x, torch.tensor(1)), "y: shape []", "[N]")
    words = ["cat", "dog", "owl", "cat"]
    for y in (words, np.array(words), pd.Series(words), pd.DataFrame({"y": words}), "cat", {"y": 1}):
        refused(lambda y=y: step(model, x, y), "y: a ", "whole numbers are needed")
    for strange in (None, "a", [["a"]], pd.DataFrame({"a": ["b"]}), {"x": x}):
        refused(lambda x=strange: step(model, x, None), "x: a ", "a tensor [N, ...] is needed")


@pytest.mark.parametrize("case", [case for case in LABELLED if "classifier" not in case])
def test_labels_of_another_number_of_points_to_generate(case: str) -> None:
    """Nobody handed over an x: n says how many points."""
    labels, model = CASES[case][1], build(case)
    one = some_labels(labels, 1)[0]
    refused(lambda: model.generate(4, some_labels(labels, 3)), "y: labels of 3 rows, for 4 points")
    for n in (-1, 1.5, "a"):
        refused(lambda n=n: model.generate(n, one), f"generate: {n!r}", "at least 0")


@pytest.mark.parametrize("case", CASES)
def test_points_of_another_shape(case: str) -> None:
    model, y = build(case), some_labels(CASES[case][1], 4)
    for wrong in (points(4)[:, :3], points(4).unsqueeze(-1), points(4)[:, 0]):
        refused(lambda wrong=wrong: step(model, wrong, y), f"x: shape {list(wrong.shape)}", "[N, 5]")
    assert np.isfinite(step(model, points(4).numpy(), y))


@pytest.mark.parametrize("shape", [(6,), (3, 8, 8)])
def test_one_point_without_its_row(shape: tuple[int, ...]) -> None:
    model: Any = create_model("augmented", input_shape=shape, labels=CLASSES, latent_dim=4)
    x = points(2, shape)
    refused(lambda: model.predict(x[0]), f"x: shape {list(shape)}", "one point", "x[None]")
    assert model.predict(x[0][None]).shape == (1,)
    refused(lambda: model.predict(x[:0]), f"x: shape {[0, *shape]}; a point is needed")


@pytest.mark.parametrize("name", MODELS)
def test_one_row_and_batch_normalisation(name: str) -> None:
    """Refused in training mode; in evaluation mode one row is a batch like any other."""
    model: Any = create_model(name, input_shape=(6,), labels=CLASSES, latent_dim=4)
    x, y = points(3, (6,)), torch.tensor([0, 1, -1])
    before = weights(model)
    refused(lambda: step(model, x[:1], y[:1]), "x: 1 row", "batch normalisation", "at least 2")
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert np.isfinite(step(model.eval(), x[:1], y[:1]))
    assert np.isfinite(step(build("m2"), points(1), y[:1])), "a model without batch normalisation takes one row"


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if issubclass(model, GenerativeModel)])
def test_numbers_of_samples_and_points(name: str) -> None:
    model: Any = create_model(name, input_shape=(6,), labels=CLASSES, latent_dim=4)
    x = points(3, (6,))
    for wrong in (0, -1, 2.0, True, None):
        refused(lambda wrong=wrong: model.log_likelihood(x, num_samples=wrong), f"num_samples: {wrong!r}", "at least 1")
        refused(lambda wrong=wrong: model.elbo(x, num_samples=wrong), f"num_samples: {wrong!r}")
    refused(lambda: model.generate(-1), "generate: -1", "at least 0")
    assert model.generate(0).shape == (0, 6)
    assert model.elbo(x[:1]).shape == (1,)


def test_points_that_are_no_numbers() -> None:
    model: Any = build("m2")
    refused(lambda: model.elbo(points(3).where(torch.arange(3).unsqueeze(1) != 1, torch.nan)), "x: row 1", "NaN")
    refused(lambda: model.predict_proba([["a"] * 5]), "x", "numbers")
    refused(lambda: model.predict_proba(None), "x")


def test_values_are_unchecked_where_pyro_does_not_validate() -> None:
    """Which spares a GPU the wait; shapes are checked all the same."""
    model = build("m2")
    with pyro.validation_enabled(False):
        refused(lambda: step(model, points(4), torch.tensor([0, 1])), "y: 2 rows")
        assert np.isfinite(step(model, points(4), some_labels(CLASSES, 4)))


def test_latents_are_taken_in_any_form_and_checked() -> None:
    model: Any = build("m2")
    z = torch.randn(4, 2)
    expected = model.decode(z, [0, 1, 2, -1])
    for same in (z.numpy(), z.tolist(), pd.DataFrame(z.numpy()), z.clone().requires_grad_()):
        assert torch.equal(model.decode(same, [0, 1, 2, -1]), expected)
    assert torch.equal(model.decode(z[0], 0), expected[0])
    refused(lambda: model.decode(z.where(z < z.max(), torch.nan)), "z: row", "NaN")


@pytest.mark.parametrize("case", CASES)
def test_points_that_are_no_points(case: str) -> None:
    """Infinite entries and empty batches; in evaluation mode a batch may be empty, as ``generate(0)`` has it."""
    model, y = build(case), some_labels(CASES[case][1], 4)
    infinite = points(4)
    infinite[2].view(-1)[1] = torch.inf
    refused(lambda: step(model, infinite, y), "x: row 2", "is inf", "finite numbers are needed")
    refused(lambda: step(model, points(0), y[:0]), "x: no row", "at least 1")


@pytest.mark.parametrize("name", [name for name in MODELS if name != "classifier"])
def test_points_outside_of_the_likelihood(name: str) -> None:
    """Counts that are none, and a row without a value: each model asks the likelihood at its site x."""
    model = create_model(name, input_shape=(5,), labels=CLASSES, latent_dim=6, likelihood="poisson")
    x, y = torch.ones(4, 5), torch.tensor([0, 1, 2, -1])
    assert np.isfinite(step(model, x, y))
    for value in (-1.0, 1.5):
        wrong = x.clone()
        wrong[3, 2] = value
        refused(lambda wrong=wrong: step(model, wrong, y), f"x: row 3, column 2 is {value:g}", "counts")
    empty = x.clone()
    empty[1] = torch.nan
    refused(lambda: step(model, empty, y), "x: row 1 has no value")
