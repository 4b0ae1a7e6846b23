"""What an attribute touches, and a point without it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_ssvae.infer.locality import data_range, draw_sets, erased, touched
from pyro_ssvae.infer.regions import JOINED, KEPT, Regions

LOW, HIGH = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
SPAN = HIGH - LOW
NONE, ALL = torch.tensor(False), torch.tensor(True)


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
    mask = touched(before, after, SPAN, 0.2)
    assert mask.shape == (4, 1, 12, 12)
    assert mask.any((1, 2, 3)).tolist() == [True, False, False, False]
    # smoothed, an edge's pixel has 2/3 of 0.5 and the next one outside 1/3; a corner 4/9; then it is widened by one
    assert rows_where(mask[0, 0]) == (3, 8)
    assert rows_where(touched(before, after, SPAN, 0.1)[0, 0]) == (2, 9)
    assert torch.equal(touched(after, before, SPAN, 0.2), mask)


def test_series_have_a_region_a_channel_and_vectors_an_entry() -> None:
    before = torch.zeros(1, 2, 9)
    after = before.clone()
    after[0, 1, 3:6] = 1
    assert touched(before, after, torch.ones(2, 1), 0.5)[0].nonzero().tolist() == [[1, t] for t in range(2, 7)]
    before, span = torch.zeros(1, 3), torch.tensor([1.0, 10.0, 1.0])
    assert touched(before, torch.tensor([[0.3, 0.3, -0.3]]), span, 0.2).tolist() == [[True, False, True]]


def test_another_code_is_a_change_whichever_it_is() -> None:
    before = torch.full((1, 3, 9), 3.0)
    after = before.clone()
    after[0, 0, 4], after[0, 1, 4], after[0, 2, 4] = 4, 7, 4
    span = torch.tensor([[0.0], [0.0], [7.0]])  # 0: codes
    assert touched(before, after, span, 0.2)[0].nonzero().tolist() == [[c, t] for c in (0, 1) for t in range(2, 7)]


def test_one_grey_a_channel_is_left_in_the_region_and_the_rest_as_it_was() -> None:
    x = picture()
    mask = torch.zeros(4, 1, 12, 12, dtype=torch.bool)
    mask[:, :, 2:7] = True
    torch.manual_seed(0)
    left = erased(x, mask, LOW + 0.1, HIGH, random=True)
    assert torch.equal(left[:, :, 7:], x[:, :, 7:])
    inside = left[:, :, 2:7].flatten(2)
    assert torch.equal(inside.amin(-1), inside.amax(-1))
    greys = inside[..., 0]
    assert len(greys.unique()) == 12  # a row and channel
    assert 0.1 <= greys.min() < greys.max() <= 1
    left = erased(x, mask, LOW + 0.2, HIGH, random=False)
    torch.testing.assert_close(left[:, :, 2:7], torch.full((4, 3, 5, 12), 0.6))


def test_missing_entries_stay_missing_but_where_they_are_erased() -> None:
    x = picture(1)
    x[0, 0, 0, 0] = x[0, 1, 5, 5] = torch.nan
    mask = torch.zeros(1, 1, 12, 12, dtype=torch.bool)
    mask[:, :, 4:8] = True
    left = erased(x, mask, LOW, HIGH, random=False)
    assert left.isnan().nonzero().tolist() == [[0, 0, 0, 0]]


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


# --- regions of other points


def of_attributes(*names: int, parts: int = 3) -> Tensor:
    """S of rows of one attribute each, bool ``[A, B]``."""
    return torch.arange(parts).unsqueeze(1) == torch.tensor(names)


def kept(parts: int = 3, width: int = 12) -> Regions:
    return Regions(parts, (width,)).eval()


def test_a_region_of_each_attribute_is_kept_of_rows_where_it_is_alone() -> None:
    regions = kept()
    masks = torch.eye(4, 12, dtype=torch.bool)
    sets = of_attributes(0, 1, 1, 0)
    sets[1, 3] = True  # row 3 has two
    for _ in range(KEPT):
        regions.remember(masks, sets, ALL)
    assert torch.equal(regions.kept[0], masks[:1].expand(KEPT, -1))
    assert {tuple(row.nonzero().flatten().tolist()) for row in regions.kept[1]} == {(1,), (2,)}
    assert not regions.kept[2].any()  # no row has it
    before = regions.kept.clone()
    regions.remember(~masks, sets, NONE)
    assert torch.equal(regions.kept, before)


def test_the_latest_take_the_place_of_the_oldest() -> None:
    regions = kept(1)
    for i in range(KEPT + 3):
        regions.remember(torch.tensor([[i & 1 << b > 0 for b in range(12)]]), of_attributes(0, parts=1), ALL)
    numbers = (regions.kept[0] * 2 ** torch.arange(12)).sum(1)
    assert numbers.tolist() == [KEPT, KEPT + 1, KEPT + 2, *range(3, KEPT)]


def test_other_regions_are_erased_but_where_another_attribute_usually_acts() -> None:
    regions = kept()
    regions.kept[0, 0, 0], regions.kept[0, 1, 1], regions.kept[0, 5, 2] = True, True, True
    regions.kept[1, :5, 1] = True  # in 5 of 16 points attribute 1 acts on entry 1
    regions.kept[2, :4, 0] = True  # a quarter is not usual yet
    found = regions.others(of_attributes(0, 1, 2))
    assert [row.nonzero().flatten().tolist() for row in found] == [[0], [1], [0]]  # the first JOINED of each
    assert JOINED == 3
    both = of_attributes(0) | of_attributes(1)
    assert not regions.others(both).any()


def test_in_training_they_are_drawn_for_half_of_the_rows() -> None:
    regions = kept(1).train()
    regions.kept[0, :, 0] = True
    regions.kept[0, 0, 1] = True
    torch.manual_seed(0)
    found = regions.others(of_attributes(*[0] * 8000, parts=1))
    # standard errors 0.0056 and 0.0032; 1 - (15/16)^3 = 0.176 of the half hold the one region with entry 1
    assert float(found[:, 0].double().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(found[:, 1].double().mean()) == pytest.approx(0.088, abs=0.012)


# --- what a mask covers


def test_a_mask_covers_an_attribute_that_usually_acts_within_it() -> None:
    regions = kept()
    regions.kept[0, :5, 2:6] = True  # usually, in 5 of 16 points, on four entries
    regions.kept[0, 5:9, 6:] = True  # a quarter is not usual yet
    regions.kept[1, :, :] = True
    mask = torch.zeros(4, 12, dtype=torch.bool)
    mask[0, 2:5] = True  # three of the four are not enough
    mask[1, 2:6] = mask[2, :6] = mask[3, :] = True
    assert regions.covered(mask).int().tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_in_training_what_is_covered_sees_the_whole_in_half_of_the_rows() -> None:
    regions = kept(2).train()
    regions.kept[:, :, 0] = True
    torch.manual_seed(0)
    found = regions.covered(torch.ones(8000, 12, dtype=torch.bool))
    assert torch.equal(found[0], found[1])  # all that are covered, or none
    assert float(found[0].double().mean()) == pytest.approx(0.5, abs=0.02)  # standard error 0.0056
