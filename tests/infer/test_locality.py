"""What an attribute touches, and a point without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_ssvae.data.avatar_drawing import draw
from pyro_ssvae.data.avatar_labels import ATTRIBUTES, FACTORS, draw_labels
from pyro_ssvae.infer.locality import Region, data_range, draw_sets, erased, explained, touched

LOW, HIGH = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
SPAN = HIGH - LOW


def picture(n: int = 4) -> Tensor:
    return torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(0)).mul(0.2).add(0.4)


def rows_where(mask: Tensor) -> tuple[int, int]:
    """First and last row of a mask ``[H, W]``."""
    rows = mask.any(1).nonzero().squeeze(1)
    return int(rows[0]), int(rows[-1])


def test_sets_hold_one_attribute_and_each_other_with_probability_015_on_average() -> None:
    torch.manual_seed(0)
    sets = draw_sets(5, 40_000, torch.device("cpu"))
    assert sets.any(0).all()
    # P(i in S) = 1/5 + 4/5 * 0.3 * E[u]; the standard error of each share is 0.0023
    torch.testing.assert_close(sets.double().mean(1), torch.full((5,), 0.32, dtype=torch.float64), rtol=0, atol=0.01)
    alone = float((sets.sum(0) == 1).double().mean())  # E[(1 - 0.3 u)^4] = (1 - 0.7^5) / 1.5
    assert alone == pytest.approx((1 - 0.7**5) / 1.5, abs=0.01)
    assert draw_sets(1, 7, torch.device("cpu")).all()


def test_the_region_of_images_is_where_they_differ_smoothed_and_widened() -> None:
    before = picture()
    after = before.clone()
    after[0, 1, 4:8, 3:9] += 0.5  # one channel is enough
    after[1, :, 6, 6] += 0.5  # one pixel is smoothed away: 0.5 / 9 < 0.2
    after[2, :, 4:8, 3:9] += 0.15  # too little
    region = touched(before, after, SPAN, 0.2)
    assert region.core.shape == region.mask.shape == (4, 1, 12, 12)
    assert region.core.any((1, 2, 3)).tolist() == [True, False, False, False]
    # smoothed, an edge's pixel has 2/3 of 0.5 and the next one outside 1/3; a corner 4/9
    assert rows_where(region.core[0, 0]) == (4, 7)
    assert rows_where(region.mask[0, 0]) == (3, 8)
    assert rows_where(touched(before, after, SPAN, 0.1).core[0, 0]) == (3, 8)
    assert torch.equal(touched(after, before, SPAN, 0.2).mask, region.mask)


def test_series_have_a_region_a_channel_and_vectors_an_entry() -> None:
    before = torch.zeros(1, 2, 9)
    after = before.clone()
    after[0, 1, 3:6] = 1
    region = touched(before, after, torch.ones(2, 1), 0.5)
    assert region.mask[0].nonzero().tolist() == [[1, t] for t in range(2, 7)]
    before, span = torch.zeros(1, 3), torch.tensor([1.0, 10.0, 1.0])
    region = touched(before, torch.tensor([[0.3, 0.3, -0.3]]), span, 0.2)
    assert region.mask.tolist() == region.core.tolist() == [[True, False, True]]


def test_noise_leaves_one_grey_a_channel_in_the_region_and_the_rest_as_it_was() -> None:
    x = picture()
    mask = torch.zeros(4, 1, 12, 12, dtype=torch.bool)
    mask[:, :, 2:7] = True
    region = Region(mask, mask, torch.tensor([True] * 4))  # of noise it does not matter whether it is one of colour
    torch.manual_seed(0)
    left = erased(x, region, LOW + 0.1, HIGH, "noise", random=True)
    assert torch.equal(left[:, :, 7:], x[:, :, 7:])
    inside = left[:, :, 2:7].flatten(2)
    assert torch.equal(inside.amin(-1), inside.amax(-1))
    greys = inside[..., 0]
    assert len(greys.unique()) == 12  # a row and channel
    assert 0.1 <= greys.min() < greys.max() <= 1
    left = erased(x, region, LOW + 0.2, HIGH, "noise", random=False)
    torch.testing.assert_close(left[:, :, 2:7], torch.full((4, 3, 5, 12), 0.6))


def test_recoloured_keeps_the_pattern_and_loses_the_colour() -> None:
    """Two pictures of one pattern in two colours: after erasing, the same but for the edge."""
    x = picture(1).repeat(2, 1, 1, 1)
    x[1] = x[1] + torch.tensor([0.3, -0.3, 0.2]).reshape(3, 1, 1)
    region = touched(x, x.flip(0), SPAN, 0.1)
    assert region.core.all()
    assert region.recolored.all()
    left = erased(x, region, LOW, HIGH, "color", random=False)
    torch.testing.assert_close(left[0], left[1])
    assert float(left[0].std()) == pytest.approx(float((x[0] - x[0].mean((1, 2), keepdim=True)).std()), rel=0.01)
    assert float(left[0].flatten(1).mean(1).sub(0.5).abs().max()) < 1e-5
    torch.manual_seed(0)
    drawn = erased(x, region, LOW - 9, HIGH + 9, "color", random=True)
    gain = [float(drawn[0, c].std() / x[0, c].std()) for c in range(3)]
    assert all(0.5 <= g <= 1.5 for g in gain)
    assert max(gain) - min(gain) > 0.01


def test_a_change_of_colour_is_told_from_one_of_shape_in_either_direction() -> None:
    before = picture(3)
    core = torch.zeros(3, 1, 12, 12, dtype=torch.bool)
    core[:, :, 3:9, 3:9] = True
    after = before.clone()
    after[0] = 0.5 * before[0] + 0.4  # gain and shift
    after[1, :, 3:9, 3:6] = 0.9  # half of the region is replaced by something flat
    after[1, :, 3:9, 6:9] = 0.1
    after[2] = before[2].mean() + 0.3  # what is hidden by a flat part: no gain brings it back
    shares = explained(before, after, core)
    assert float(shares[0]) == pytest.approx(1, abs=1e-4)
    assert float(shares[1]) < 0.3
    assert float(shares[2]) < 0.99
    torch.testing.assert_close(shares, explained(after, before, core))
    detailed = before.clone()
    detailed[2, :, 4:8:2] += 0.8
    flat = torch.full_like(detailed, 0.5)
    assert float(explained(detailed, flat, core)[2]) < 0.4
    assert not touched(before, before, SPAN, 0.2).recolored.any()  # nothing changes


def test_something_flat_that_comes_or_goes_is_no_change_of_colour() -> None:
    """A dark disc before a light ground, gone and recoloured: in its own entries both are one flat colour for another.

    Its outline is against the ground, and in one of the two pictures alone where the disc goes.
    """
    ground = torch.full((3, 3, 16, 16), 0.8)
    place = torch.linspace(-1, 1, 16)
    disc = (place.square().unsqueeze(1) + place.square() < 0.3).expand(3, 3, 16, 16)
    colors = torch.tensor([[0.1, 0.1, 0.1], [0.8, 0.8, 0.8], [0.6, 0.2, 0.3]]).reshape(3, 3, 1, 1)
    x = torch.where(disc, colors, ground)
    before, gone, other = x[:1], x[1:2], x[2:]
    assert float(explained(before, gone, disc[:1, :1])) > 0.99
    assert not touched(before, gone, SPAN, 0.2).recolored.any()
    assert not touched(gone, before, SPAN, 0.2).recolored.any()
    assert touched(before, other, SPAN, 0.2).recolored.all()


def faces_with(attribute: str, n: int = 40) -> tuple[Tensor, Tensor]:
    """Drawn faces, and the same with one attribute flipped, as a decoder without fault would draw them."""
    pytest.importorskip("python_avatars")
    y, values = draw_labels(n, 0)
    flipped = {factor: value.copy() for factor, value in values.items()}
    rng = np.random.default_rng(0)
    for factor, about in FACTORS.items():
        if about.attribute == attribute:
            now = y[:, list(ATTRIBUTES).index(attribute)]
            there, gone = len(about.present), len(about.absent)
            off = rng.integers(gone, size=n) if gone else np.full(n, -1)
            flipped[factor] = np.where(now == 1, off, gone + rng.integers(there, size=n))
    x = torch.from_numpy(draw([values, flipped])).float() / 255
    return x[:n], x[n:]


@pytest.mark.parametrize(
    ("attribute", "least", "most"),
    [("Light_Hair", 0.9, 1), ("Dark_Skin", 0.9, 1), ("Hat", 0, 0.1), ("Glasses", 0, 0.1), ("Long_Hair", 0, 0.15)],
)
def test_of_drawn_faces_hair_and_skin_are_recoloured_and_hats_are_not(
    attribute: str, least: float, most: float
) -> None:
    region = touched(*faces_with(attribute), SPAN, 0.2)
    assert region.core.any((1, 2, 3)).double().mean() > 0.9
    assert least <= float(region.recolored.double().mean()) <= most


def test_a_change_of_shape_is_erased_whole_by_color_too() -> None:
    x, after = picture(1), picture(1)
    after[0, :, 3:9, 3:6], after[0, :, 3:9, 6:9] = 0.95, 0.0
    region = touched(x, after, SPAN, 0.2)
    assert not region.recolored.any()
    assert torch.equal(
        erased(x, region, LOW, HIGH, "color", random=False), erased(x, region, LOW, HIGH, "noise", random=False)
    )


def test_missing_entries_stay_missing_outside_and_do_not_spread_inside() -> None:
    x = picture(1).repeat(2, 1, 1, 1)
    x[1] += 0.3
    region = touched(x, x.flip(0), SPAN, 0.1)
    x[0, 0, 0, 0] = torch.nan
    region.mask[:, :, 0] = False
    left = erased(x, Region(region.core & region.mask, region.mask, region.recolored), LOW, HIGH, "color", random=False)
    assert left.isnan().nonzero().tolist() == [[0, 0, 0, 0]]
    x[0, 1, 5, 5] = torch.nan
    left = erased(x, Region(region.core & region.mask, region.mask, region.recolored), LOW, HIGH, "color", random=False)
    assert left.isnan().nonzero().tolist() == [[0, 0, 0, 0], [0, 1, 5, 5]]


def test_the_data_s_range_leaves_out_the_outermost_half_percent() -> None:
    x = torch.linspace(0, 1, 1001).unsqueeze(1).repeat(1, 3)
    x[:, 1] = 7.0
    x[:, 2] *= -5
    x[500] = torch.nan
    low, high = data_range(x)
    torch.testing.assert_close(low, torch.tensor([0.005, 7.0, -4.975]), rtol=0, atol=0.01)
    torch.testing.assert_close(high, torch.tensor([0.995, 8.0, -0.025]), rtol=0, atol=0.01)
    low, high = data_range(torch.rand(50, 3, 8, 8), most=3 * 64 * 10)
    assert low.shape == high.shape == (3, 1, 1)
    assert (low < 0.05).all()
    assert (high > 0.95).all()
