"""Long runs and extreme inputs: memory stays flat, all numbers are finite, or one line says what is wrong."""

from __future__ import annotations

import gc
import itertools
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from data_makers import refused
from tiny import ATTRIBUTES, CLASSES, build, mostly_slow, points, some_labels
from torch import Tensor

from pyro_ssvae import create_model, evaluate, fit
from pyro_ssvae.distributions.sparse import sparsemax
from pyro_ssvae.infer.protocols import Classifies
from pyro_ssvae.models import MODELS, GenerativeModel
from pyro_ssvae.nn.likelihoods import Bernoulli, Laplace, Normal

TINY = {**{name: name for name in MODELS}, "augmented": "probabilities"}  # names of tiny.CASES
N = 24


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc on this system")
@pytest.mark.parametrize("case", mostly_slow(["enumerate", "revae-attributes"], "enumerate"))
def test_memory_is_flat_from_epoch_to_epoch(case: str) -> None:
    model, x = build(case), torch.ones(320, 5)
    seen: list[tuple[int, int]] = []

    def look(row: dict[str, float]) -> None:
        if row["epoch"] in (3, 10, 17):
            gc.collect()
            seen.append((sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()), resident()))

    fit(model, x, some_labels(model.labels, 320), epochs=18, batch_size=64, progress=False, on_epoch=look)
    tensors, size = zip(*seen, strict=True)
    assert len(set(tensors)) == 1, "tensors are left behind from step to step"
    grown = [after - before for before, after in itertools.pairwise(size)]
    assert min(grown) < 2**20, "35 steps each; what a step leaves behind would be some 30 KB, in both halves"


def extreme(kind: str, images: bool) -> tuple[Tensor, Tensor]:
    """Points that people do have, and labels of which two thirds are missing."""
    x = points(N, (3, 8, 8) if images else (6,))
    y = torch.arange(N) % 3
    match kind:
        case "black":
            x = torch.zeros_like(x)
        case "white":
            x = torch.ones_like(x)
        case "constant":
            x = x[:1].expand_as(x).contiguous()
        case "large":
            x = 1e6 * x
        case "small":
            x = 1e-6 * x
        case "far":
            x = x + 1e6
        case "one class":
            y = torch.zeros_like(y)
        case "one outlier":
            x = x.clone()
            x[3] *= 0.0 if images else 1e6
    return x, y.where(torch.arange(N) < 9, -1)


def is_finite(model: Any, x: Tensor, y: Tensor) -> None:
    """Everything that a person would ask of a trained model is a number."""
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values() if value.is_floating_point())
    if isinstance(model, Classifies):
        assert bool(model.predict_proba(x).isfinite().all())
    if isinstance(model, GenerativeModel):
        assert bool(model.reconstruct(x).isfinite().all())
        assert bool(model.generate(3).isfinite().all())
        assert bool(model.elbo(x, None if model.labels is None else y).isfinite().all())
        assert bool(model.log_likelihood(x, num_samples=3).isfinite().all())


@pytest.mark.parametrize("images", [False, True], ids=["vectors", "images"])
@pytest.mark.parametrize("name", mostly_slow(MODELS, "augmented", "revae"))
def test_extreme_points_are_trained_on_or_refused(name: str, images: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """Vectors by the default networks, images by tiny ones; of those, pixels outside of [0, 1] are refused."""
    options: dict[str, Any] = {"epochs": 1, "batch_size": 8, "progress": False}
    for kind in ("black", "white", "constant", "one class", "small", "one outlier", "large", "far"):
        x, y = extreme(kind, images)
        model = (
            build(TINY[name], (3, 8, 8))
            if images
            else create_model(name, input_shape=(6,), labels=CLASSES, latent_dim=4)
        )
        if images and kind in ("large", "far"):
            if name != "classifier":  # which takes any numbers
                refused(lambda m=model, x=x, y=y: fit(m, x, y, **options), "[0, 1]")
            continue
        history = fit(model, x, y, **options)
        assert all(math.isfinite(loss) for loss in history["loss"]), kind
        is_finite(model, x, y)
        assert "not finite" not in capfd.readouterr().err, kind
        if kind == "black":
            assert evaluate(model, x, y if model.labels is not None else None, num_samples=2)["rows"] == N


@pytest.mark.parametrize("size", [1e-33, 1e-20, 1e19, 1e30])
def test_scales_without_a_density_in_float32_are_refused(size: float) -> None:
    x, y = points(N, (6,)), torch.arange(N) % 3
    x[:, 2] = torch.randn(N) * size
    for likelihood in ("normal", "laplace", "student-t"):
        model = create_model("augmented", input_shape=(6,), labels=CLASSES, latent_dim=4, likelihood=likelihood)
        if likelihood != "normal" and size < 1:
            fit(model, x, y, epochs=1, batch_size=8, progress=False)
            is_finite(model, x, y)
            continue
        refused(lambda m=model: fit(m, x, y, epochs=1, progress=False), "x: column of values from", "another unit")


@pytest.mark.parametrize("name", MODELS)
def test_one_point_and_a_batch_of_one_are_refused_or_trained_on(name: str) -> None:
    x, y = extreme("ordinary", False)
    model = create_model(name, input_shape=(6,), labels=CLASSES, latent_dim=4)
    refused(lambda: fit(model, x[:1], y[:1], progress=False), "at least 2 points")
    refused(lambda: fit(model, x, y, batch_size=1, progress=False), "batch_size: 1", "from 2")
    history = fit(model, x[:2], y[:2], epochs=2, progress=False)
    assert all(math.isfinite(loss) for loss in history["loss"])
    is_finite(model, x[:1], y[:1])  # one point may well be asked about


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e30])
def test_sums_of_logarithms_are_finite_in_float32(scale: float) -> None:
    logits = (scale * torch.tensor([[1.0, -1.0, 0.0], [-1.0, -1.0, -1.0], [0.0, 0.0, 1.0]])).requires_grad_()
    for labels, y in ((CLASSES, torch.tensor([0, 1, -1])), (ATTRIBUTES, torch.tensor([[0, 1, -1]] * 3))):
        log_p = labels.log_probs(logits)
        assert bool(log_p.isfinite().all())
        with torch.no_grad():
            assert bool(labels.probs(logits).isfinite().all())
        scored = labels.observed(logits).log_prob(y)
        assert bool(scored.isfinite().all())
        (gradient,) = torch.autograd.grad(log_p.sum() + scored.sum(), logits)
        assert bool(gradient.isfinite().all())
    assert torch.allclose(sparsemax(logits.detach()).sum(-1), torch.ones(3))
    x = torch.tensor([[0.0, 1.0, 0.5]] * 3)
    for likelihood in (Bernoulli((3,)), Normal((3,)), Laplace((3,))):
        out = (min(scale, 1e15) * torch.tensor([[1.0, -1.0, 0.0]] * 3)).requires_grad_()  # (1e15)² is within float32
        log_p = (
            likelihood(out).log_prob(likelihood.target(x))
            if hasattr(likelihood, "target")
            else likelihood(out).log_prob(x)
        )
        assert bool(log_p.isfinite().all()), type(likelihood)
        (gradient,) = torch.autograd.grad(log_p.sum(), out)
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("name", MODELS)
def test_points_unlike_any_in_training_give_numbers(name: str) -> None:
    """A model in use meets a sensor that failed: 1e6 times the scale that it knows."""
    x, y = extreme("ordinary", False)
    model = create_model(name, input_shape=(6,), labels=CLASSES, latent_dim=4)
    fit(model, x, y, epochs=2, batch_size=8, progress=False)
    is_finite(model, 1e6 * x[:4], y[:4])
