"""Novelty against SciPy's distance, and on points of a kind that training never had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from data_makers import refused
from scipy.spatial.distance import mahalanobis
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import pyro_ssvae as ps
from pyro_ssvae import ClassLabels
from pyro_ssvae.evaluation.novelty import Reference, moments, novelty, reference_of


class Identity(nn.Module):
    """A pair whose features are its points."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.double))

    def model(self, x: Tensor, y: Tensor | None = None) -> None: ...

    def guide(self, x: Tensor, y: Tensor | None = None) -> None: ...

    def features(self, x: Tensor) -> Tensor:
        return x


def test_the_distance_is_mahalanobis_from_the_nearest_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(5000) % 2
    h = torch.randn(5000, 3, generator=generator, dtype=torch.double) @ torch.tensor(
        [[1.0, 0.5, 0.0], [0.0, 2.0, 0.3], [0.0, 0.0, 0.5]], dtype=torch.double
    )
    h[groups == 1] += torch.tensor([6.0, 0.0, 0.0], dtype=torch.double)
    means, whiten = moments(h, groups)
    reference = Reference(means, whiten, torch.tensor(2.0, dtype=torch.double))
    points = 3 * torch.randn(20, 3, generator=generator, dtype=torch.double)
    inside = np.concatenate([h[groups == k] - h[groups == k].mean(0) for k in range(2)])
    inverse = np.linalg.inv(np.cov(inside.T))
    expected = [min(mahalanobis(p, h[groups == k].mean(0), inverse) for k in range(2)) / 2 for p in points.numpy()]
    assert np.allclose(reference.distance(points).numpy(), expected, rtol=0.01)  # the shrinkage at 5,000 points


def test_one_in_twenty_known_points_is_above_one() -> None:
    x = torch.randn(4000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    pair = Identity()
    held = reference_of(pair, x[:1000], x[1000:2000])
    assert abs(float((novelty(pair, x[2000:], held) > 1).double().mean()) - 0.05) < 0.025  # sd .0085 of both samples
    alone = ps.novelty(pair, x[2000:], reference=x[:2000])
    assert abs(float((alone > 1).double().mean()) - 0.05) < 0.03
    assert bool((ps.novelty(pair, 10 + x[:5], reference=held) > 3).all())


def test_the_points_of_the_statistics_are_drawn_by_the_seed() -> None:
    """Of points in order, the first fifth would be far from the others."""
    x = torch.randn(4000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    known, pair = x[:2000][x[:2000, 0].argsort()], Identity()
    first, again, other = (reference_of(pair, known, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.unit, again.unit)
    assert not torch.equal(first.unit, other.unit)
    for reference in (first, other):
        assert abs(float((novelty(pair, x[2000:], reference) > 1).double().mean()) - 0.05) < 0.03


def test_the_unit_is_of_a_fifth_and_the_statistics_of_the_rest() -> None:
    """Or of the points that are held, where some are."""
    x, pair, sizes = torch.randn(50, 3, dtype=torch.double), Identity(), list[int]()
    pair.features = lambda x: sizes.append(len(x)) or x  # type: ignore[method-assign,assignment,func-returns-value]
    reference_of(pair, x)
    reference_of(pair, x[:37], x[37:])
    assert sizes == [40, 10, 37, 13]
    sizes.clear()
    reference_of(pair, torch.arange(20_005.0).double().unsqueeze(1))  # at most 20,000
    reference_of(pair, x[:10])  # 10 at least
    assert [sum(sizes[:-2]), *sizes[-2:]] == [20_000, 8, 2]


def test_a_direction_without_variance_has_a_ten_thousandth_of_the_mean() -> None:
    """By 100,000 points Ledoit and Wolf leave it 2e-5 of the variance of the other."""
    h = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    h[:, 1] = 3.0
    _, whiten = moments(h, torch.zeros(len(h), dtype=torch.long))
    least = 1e-4 * h.var(0, correction=0).mean()
    assert torch.allclose((whiten @ whiten.T)[1, 1], 1 / least)


def test_a_class_that_was_left_out_is_strange() -> None:
    """On three clouds of which training had two; the bound is not asked."""
    generator = torch.Generator().manual_seed(2)
    means = torch.tensor([[4.0, 0, 0, 0], [0, 4.0, 0, 0], [0, 0, 4.0, 4.0]])
    y = torch.arange(450) % 3
    x = means[y] + torch.randn(450, 4, generator=generator)
    vae = ps.create_model("augmented", input_shape=4, labels=ClassLabels(3), latent_dim=2)
    known = y < 2
    ps.fit(vae, x[known][:200], y[known][:200], epochs=20, batch_size=50, progress=False)
    scores = ps.novelty(vae, torch.cat([x[known][200:], x[~known]]), reference=x[known][:200])
    out = torch.cat([torch.zeros(len(x[known]) - 200), torch.ones(int((~known).sum()))])
    assert roc_auc_score(out, scores) > 0.9


def test_the_statistics_are_kept(tmp_path: Path) -> None:
    x = torch.randn(100, 3, dtype=torch.double)
    pair = Identity()
    reference = reference_of(pair, x)
    reference.save(tmp_path / "novelty.safetensors")
    again = Reference.load(tmp_path / "novelty.safetensors")
    assert novelty(pair, x, again).equal(novelty(pair, x, reference))
    ps.save(ps.create_model("vae", input_shape=3), tmp_path / "vae")
    refused(lambda: Reference.load(tmp_path / "vae" / "model.safetensors"), "model.safetensors", "novelty")
    refused(lambda: Reference.load(tmp_path / "none"), "none", "no such file")


def test_constant_features_do_no_harm() -> None:
    x = torch.randn(50, 3, dtype=torch.double)
    x[:, 1] = 2.0
    scores = ps.novelty(Identity(), x, reference=x)
    assert bool(scores.isfinite().all())
    assert scores.max() < 10


def test_too_few_points_or_all_alike_are_no_reference() -> None:
    x = torch.randn(20, 3, dtype=torch.double)
    refused(lambda: ps.novelty(Identity(), x, reference=x[:1]), "reference: 1 rows", "at least 10")
    refused(lambda: ps.novelty(Identity(), x, reference=x[:9]), "reference: 9 rows", "at least 10")
    refused(lambda: ps.novelty(Identity(), x, reference=x[:1].expand(20, 3)), "reference: the points are all alike")


def test_one_point_a_class_is_one_group() -> None:
    h = torch.randn(12, 3, dtype=torch.double)
    alone, together = moments(h, torch.arange(12)), moments(h, torch.zeros(12, dtype=torch.long))
    assert all(map(torch.equal, alone, together))


def test_a_model_without_features_is_refused() -> None:
    class Bare(nn.Module):
        def model(self, x: Tensor, y: Tensor | None = None) -> None: ...

        def guide(self, x: Tensor, y: Tensor | None = None) -> None: ...

    refused(lambda: ps.novelty(Bare(), torch.randn(9, 2), torch.randn(9, 2)), "Bare", "no encoder")


class OwnGuide(ps.VAE):
    """Its guide has another network than the encoder."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__(encoder, decoder, likelihood="normal")
        self.own = nn.Linear(3, self.config.dim)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            pyro.sample("z", dist.Normal(self.own(x), 1.0).to_event(1))


def test_an_encoder_that_the_guide_leaves_says_nothing() -> None:
    torch.manual_seed(0)
    x, new = torch.randn(40, 3), torch.randn(5, 3)
    model = OwnGuide(nn.Linear(3, 6), nn.Linear(50, 3)).eval()
    before = ps.novelty(model, new, x)
    torch.testing.assert_close(before, ps.novelty(model, new, reference_of(model, x)))
    with torch.no_grad():
        model.encoder.weight.zero_()
    torch.testing.assert_close(ps.novelty(model, new, x), before)
    with torch.no_grad():
        model.own.weight[:, 0] = 0  # the posterior no longer sees the first feature
    moved = new + torch.tensor([100.0, 0.0, 0.0])
    torch.testing.assert_close(ps.novelty(model, moved, x), ps.novelty(model, new, x))
