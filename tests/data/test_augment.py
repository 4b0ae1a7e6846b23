from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from data_makers import refused
from torch import Tensor
from torch.nn import functional as F

from pyro_ssvae.data.augment import AUGMENTATIONS, affine, automatic, make_augmentation, mostly


def disc(n: int, side: int = 28) -> torch.Tensor:
    axis = torch.arange(side) - (side - 1) / 2
    return ((axis[:, None] - 4) ** 2 + axis[None] ** 2 < 16).float().expand(n, 1, side, side).clone()


def centre(x: torch.Tensor) -> torch.Tensor:
    """Row and column of each image's centre of mass, from the middle."""
    axis = torch.arange(x.shape[-1]) - (x.shape[-1] - 1) / 2
    mass = x.sum((1, 2, 3))
    return torch.stack([(x.sum((1, 3)) * axis).sum(1) / mass, (x.sum((1, 2)) * axis).sum(1) / mass], 1)


def test_images_are_moved_a_little_each_in_its_own_way() -> None:
    x = disc(200)
    moved = affine(x)
    assert moved.shape == x.shape
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert len({image.sum().item() for image in moved}) > 150
    away = (centre(moved) - centre(x)).abs().max()
    assert 1 < away < 5  # pixels
    assert 0.6 < (moved.sum((1, 2, 3)) / x.sum((1, 2, 3))).median() < 1.5


def test_no_change_at_size_nothing() -> None:
    x = torch.rand(5, 3, 9, 7)
    torch.testing.assert_close(affine(x, shift=0, angle=0, scale=0, shear=0), x)


def test_a_shift_is_a_share_of_the_side() -> None:
    for side in (28, 56):
        moved = affine(disc(500, side), shift=0.1, angle=0, scale=0, shear=0)
        offsets = (centre(moved) - centre(disc(500, side))) / side
        assert offsets.abs().max() <= 0.1 + 1e-3
        assert offsets.max() > 0.09
        assert offsets.min() < -0.09


def test_a_flip_mirrors_every_second_time() -> None:
    x = torch.zeros(400, 1, 8, 8)
    x[..., 0] = 1
    flipped = affine(x, shift=0, angle=0, scale=0, shear=0, flip=True)
    share = (flipped[:, 0, 0, 7] > 0.5).float().mean()
    assert 0.4 < share < 0.6
    torch.testing.assert_close(flipped.sum((1, 2, 3)), torch.full((400,), 8.0))


def test_beyond_the_border_the_edge_goes_on() -> None:
    """No dark corners in pictures whose background is light."""
    light = torch.full((50, 3, 16, 16), 0.75)
    torch.testing.assert_close(affine(light, shift=0.3, angle=0.5), light)
    ramp = torch.linspace(-1, 3, 16).expand(50, 1, 16, 16)  # no pixels: any range stays
    moved = affine(ramp, shift=0.3, angle=0, scale=0, shear=0)
    assert moved.min() == -1
    assert moved.max() == 3
    assert moved[:, 0, :, 8].std() > 0.1


def test_entries_that_are_missing_move_with_the_picture() -> None:
    x = disc(20)
    x[:, :, :, :6] = torch.nan
    moved = affine(x, shift=0.1, angle=0, scale=0, shear=0)
    assert not moved[:, :, :, 11:].isnan().any()
    assert moved[:, :, :, 0].isnan().all() or moved.isnan().any((1, 2, 3)).all()
    noisy = make_augmentation("noise", x)(x)
    assert torch.equal(noisy.isnan(), x.isnan())


def test_a_quarter_of_the_rows_stay_as_they_are() -> None:
    x = torch.rand(4000, 3)
    same = (mostly(lambda batch: batch + 1)(x) == x).all(1)
    assert 0.22 < same.double().mean() < 0.28
    assert (mostly(lambda batch: batch + 1)(x)[:, 0] >= x[:, 0]).all()


class Own:
    """A pair of one's own says nothing of augmentation."""


class OfCounts:
    augmentation = "none"


class OfPixels:
    augmentation = "auto"


def test_auto_is_what_the_model_or_its_likelihood_says() -> None:
    def model(likelihood: object, augmentation: str = "auto") -> SimpleNamespace:
        return SimpleNamespace(likelihood=likelihood, augmentation=augmentation)

    assert automatic(Own()) == "none"
    assert automatic(model(OfCounts())) == "none"
    assert automatic(model(OfPixels())) == "auto"
    assert automatic(model(Own())) == "none"  # a likelihood of one's own
    assert automatic(model(OfPixels(), "none")) == "none"


def test_the_random_state_decides() -> None:
    x = torch.rand(4, 1, 8, 8)
    torch.manual_seed(3)
    one = affine(x)
    torch.manual_seed(3)
    assert torch.equal(one, affine(x))
    assert not torch.equal(one, affine(x))


def test_noise_has_the_size_of_each_feature() -> None:
    x = torch.randn(4000, 3) * torch.tensor([1.0, 100.0, 0.0]) + 7
    change = make_augmentation("noise", x)(x) - x
    torch.testing.assert_close(change.std(0), torch.tensor([0.2, 20.0, 0.0]), atol=1, rtol=0.1)
    assert (change[:, 2] == 0).all()


def test_a_large_constant_has_no_noise() -> None:
    """Its mean in single precision is off by the rounding, which was taken for a spread: noise of 1e7 in a column whose
    unit is 1 kept all others from being learnt (.57 of their variance was reconstructed beside 0.1, 0 beside 1e15)."""
    constants = torch.tensor([0.1, 1.7e9, 1e15]).expand(400, 3)
    change = make_augmentation("noise", constants)
    assert torch.equal(change(constants), constants)
    times = 1.7e9 + 1e5 * torch.linspace(-1, 1, 400, dtype=torch.float64).unsqueeze(1)
    noise = make_augmentation("noise", times)(times.expand(400, 100)) - times
    assert noise.std() == pytest.approx(0.2 * float(times.std()), rel=0.02)  # 40,000 draws: a standard error of 0.4 %


def test_noise_of_series_is_by_channel_and_of_bytes_by_unit() -> None:
    x = torch.randn(500, 2, 20) * torch.tensor([1.0, 50.0]).reshape(2, 1)
    change = make_augmentation("auto", x)(x) - x
    torch.testing.assert_close(change.std((0, 2)), torch.tensor([0.2, 10.0]), atol=0.01, rtol=0.05)
    pixels = torch.randint(0, 256, (300, 1, 6, 6), dtype=torch.uint8)
    change = make_augmentation("noise", pixels)(pixels / 255) - pixels / 255
    assert 0.03 < change.std() < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_precision_stays(dtype: torch.dtype) -> None:
    for x in (torch.rand(6, 1, 8, 8, dtype=dtype), torch.rand(6, 4, dtype=dtype)):
        changed = make_augmentation("auto", x)(x)
        assert changed.dtype == dtype
        assert not torch.equal(changed, x)


def test_auto_suits_the_data_and_none_does_nothing() -> None:
    image, vector = torch.rand(3, 1, 8, 8), torch.rand(3, 4)
    for x in (image, vector):
        assert make_augmentation("none", x)(x) is x
    dark = torch.zeros(3, 1, 8, 8)
    assert torch.equal(make_augmentation("auto", image)(dark), dark)  # moved, not noisy
    assert make_augmentation("affine+flip", image)(image).shape == image.shape


def test_pictures_are_made_black_or_white_afresh() -> None:
    """The share of white is the grey level: 0.25 ± 0.0075 is four standard deviations of 80,000 draws."""
    x = torch.full((1000, 1, 8, 10), 0.25)
    x[:, :, 0, 0] = torch.nan
    change = make_augmentation("binarize", x)
    first, second = change(x), change(x)
    assert bool(first[:, :, 0, 0].isnan().all())
    assert first[:, :, 1:].unique().tolist() == [0, 1]
    assert first[:, :, 1:].mean().item() == pytest.approx(0.25, abs=0.0075)
    assert not torch.equal(first[:, :, 1:], second[:, :, 1:])
    assert torch.equal(change(first[:, :, 1:]), first[:, :, 1:])
    refused(lambda: make_augmentation("binarize", torch.rand(3, 4)), "binarize", "[N, C, H, W]")


def test_wrong_names_and_data_are_refused() -> None:
    refused(lambda: make_augmentation("afine", torch.rand(3, 1, 8, 8)), "'afine'", "did you mean 'affine'?")
    for name in ("affine", "affine+flip"):
        refused(lambda name=name: make_augmentation(name, torch.rand(3, 4)), name, "[N, C, H, W]", "[3, 4]", "noise")
    assert set(AUGMENTATIONS) == {"auto", "none", "affine", "affine+flip", "noise", "hide", "binarize"}


def test_a_missing_pixel_moves_and_does_not_spread() -> None:
    """A whole turn of nothing leaves gaps where they are; a small map keeps their share, where each pixel is one."""
    torch.manual_seed(0)
    x = torch.rand(60, 2, 12, 12)
    x[torch.rand_like(x) < 0.3] = torch.nan
    still = affine(x, shift=0, angle=0, scale=0, shear=0, gaps=True)
    torch.testing.assert_close(still, x, equal_nan=True, atol=1e-5, rtol=0)
    moved = affine(x, gaps=True)
    assert 0.15 < float(moved.isnan().float().mean()) < 0.35  # 0.3 of the entries; 1 - 0.7⁴ = 0.76 if they spread
    there = moved[~moved.isnan()]
    assert float(there.min()) >= 0
    assert float(there.max()) <= 1 + 1e-6
    grey = torch.where(x.isnan(), x, 0.4)
    assert affine(grey, gaps=True).nan_to_num(nan=0.4).allclose(torch.tensor(0.4), atol=1e-5)  # no dark rims
    assert make_augmentation("affine", x)(x).isnan().float().mean() < 0.35


@pytest.mark.parametrize("flip", [False, True])
def test_images_move_turn_stretch_and_shear_as_far_as_said(flip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4,000 maps ``R(turn) (1 shear; 0 1) diag(s_x, s_y)``, taken apart: each reaches its bound, and no more."""
    maps: list[Tensor] = []
    grid = F.affine_grid

    def watched(theta: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        maps.append(theta)
        return grid(theta, *args, **kwargs)

    monkeypatch.setattr(F, "affine_grid", watched)
    torch.manual_seed(0)
    affine(torch.zeros(4000, 1, 2, 2, dtype=torch.float64), flip=flip)
    (theta,) = maps
    m, move = theta[..., :2], theta[..., 2]
    mirrored = m[:, 0, 0] < 0
    assert abs(float(mirrored.double().mean()) - 0.5 * flip) < 0.04 * flip + 1e-9  # 5 standard errors of a half
    m = torch.stack([torch.where(mirrored, -1.0, 1.0).unsqueeze(-1) * m[..., 0], m[..., 1]], -1)
    turn = torch.atan2(m[:, 1, 0], m[:, 0, 0])
    s_x, s_y = m[..., 0].norm(dim=1), torch.linalg.det(m) / m[..., 0].norm(dim=1)
    shear = (turn.cos() * m[:, 0, 1] + turn.sin() * m[:, 1, 1]) / s_y
    parts = [(turn, 0.2), (s_x.log(), 0.1), (s_y.log(), 0.1), (shear, 0.1), *((d, 2 * 2 / 28) for d in move.T)]
    for part, most in parts:  # a side of the grid is 2 long; the outermost hundredth stays empty with e^-20
        assert -most * (1 + 1e-9) <= float(part.min()) < -0.99 * most
        assert 0.99 * most < float(part.max()) <= most * (1 + 1e-9)


def test_three_cells_in_ten_are_hidden() -> None:
    torch.manual_seed(0)
    hidden = make_augmentation("hide", torch.zeros(2, 4))(torch.zeros(10_000, 4))
    assert abs(float(hidden.isnan().double().mean()) - 0.3) < 0.012  # 5 standard errors
