"""Which part of a pair sees randomly changed points in training."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae import AttributeLabels, ClassLabels


class Seen:
    """The points that a pair's programs got, a training's."""

    def __init__(self, pair: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model: list[Tensor] = []
        self.guide: list[Tensor] = []
        for name in ("model", "guide"):
            monkeypatch.setattr(pair, name, self.noting(getattr(pair, name), getattr(self, name), pair))

    def noting(self, program: Any, seen: list[Tensor], pair: nn.Module) -> Any:
        def run(x: Tensor, *more: Any) -> Any:
            if pair.training:
                seen.append(x)
            return program(x, *more)

        return run


def trained(pair: nn.Module, x: Tensor, y: Tensor | None, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Seen:
    seen = Seen(pair, monkeypatch)
    ps.fit(pair, x, y, epochs=1, batch_size=len(x), labelled_rows=0, progress=False, device="cpu", **options)
    return seen


def rows_of(some: Tensor, x: Tensor) -> Tensor:
    """Which rows are rows of x."""
    return (some.flatten(1)[:, None] == x.flatten(1)).all(-1).any(1)


@pytest.mark.parametrize("name", ["augmented", "m2", "mvae", "vae"])
@pytest.mark.parametrize("shape", [(5,), (1, 8, 8)])
def test_the_guide_of_what_generates_sees_changed_points_and_the_model_the_data(
    name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = torch.rand(200, *shape), torch.arange(200) % 3
    labels = None if name == "vae" else ClassLabels(3)
    pair = ps.create_model(name, input_shape=shape, labels=labels, latent_dim=2, likelihood="normal")
    seen = trained(pair, x, None if name == "vae" else y, monkeypatch)
    assert seen.model
    assert all(rows_of(some, x).all() for some in seen.model)
    stay = torch.cat([rows_of(some, x) for some in seen.guide]).double().mean()
    assert 0.1 < stay < 0.4


def test_a_classifier_is_trained_on_changed_points(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 3
    pair = ps.create_model("classifier", input_shape=(1, 8, 8), labels=ClassLabels(3))
    seen = trained(pair, x, y, monkeypatch)
    assert not rows_of(seen.model[-1], x).any()


class Counts(nn.Module):
    """A pair of one's own, of counts: it refuses anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Linear(1, 4)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Poisson(self.rate(z).exp()).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, :1].log1p(), 1.0).to_event(1))


def test_a_pair_of_ones_own_gets_its_data_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.poisson(torch.full((30, 4), 3.0))
    seen = trained(Counts(), x, None, monkeypatch)
    for some in [*seen.model, *seen.guide]:
        assert rows_of(some, x).all()
    seen = trained(Counts(), x + 9.5, None, monkeypatch, augment="noise", loss=Unchecked())
    assert not rows_of(seen.model[-1], x + 9.5).any(), "asked for, both programs get it"


class Unchecked(pyro.infer.Trace_ELBO):
    """Takes fractional counts."""

    def differentiable_loss(self, *args: Any, **options: Any) -> Any:
        with pyro.validation_enabled(False):
            return super().differentiable_loss(*args, **options)


@pytest.mark.parametrize("name", ["m1", "revae"])
def test_models_of_latents_that_would_hold_what_moved_see_the_data_as_they_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody says otherwise, pictures too."""
    x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 3
    pair = ps.create_model(name, input_shape=(1, 8, 8), labels=ClassLabels(3), latent_dim=6, likelihood="normal")
    seen = trained(pair, x, y, monkeypatch)
    assert seen.guide
    assert all(rows_of(some, x).all() for some in [*seen.model, *seen.guide])


def test_without_augmentation_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(100, 3), torch.randint(2, (100, 2))
    pair = ps.create_model("m2", input_shape=(3,), labels=AttributeLabels(["a", "b"]), latent_dim=2)
    seen = trained(pair, x, y, monkeypatch, augment="none")
    assert all(rows_of(some, x).all() for some in [*seen.model, *seen.guide])


def test_cells_of_a_table_are_hidden_from_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows of four lose three cells of ten: .225 of 800, within four standard errors (.06)."""
    x, y = torch.rand(200, 4), torch.arange(200) % 3
    kinds = ("normal",) * 4
    pair = ps.create_model("augmented", input_shape=4, labels=ClassLabels(3), columns=kinds, missing=True, latent_dim=2)
    seen = trained(pair, x, y, monkeypatch)
    assert all(rows_of(some, x).all() for some in seen.model)
    for some in seen.guide:
        gone = some.isnan()
        assert abs(float(gone.double().mean()) - 0.225) < 0.06
        whole = x[[int((~(row.isnan() | (row == x)).logical_not()).all(1).nonzero()[0]) for row in some]]
        assert torch.equal(torch.where(gone, whole, some), whole)
