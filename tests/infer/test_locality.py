"""What an attribute touches, and a point without it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from pyro_ssvae.infer.locality import data_range, draw_sets, erased, smoothed, touched
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


def test_of_many_points_an_even_sample_has_the_range() -> None:
    low, high = data_range(torch.linspace(0, 1, 10_000).unsqueeze(1), most=100)  # in order
    torch.testing.assert_close(torch.cat([low, high]), torch.tensor([0.005, 0.995]), rtol=0, atol=0.011)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 6)])
def test_smoothed_is_the_mean_of_the_neighbours_that_are_there(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, dtype=torch.float64)
    found = smoothed(x)
    for place in itertools.product(*map(range, shape[2:])):
        around = tuple(slice(max(0, i - 1), i + 2) for i in place)
        expected = x[(slice(None), slice(None), *around)].flatten(2).mean(-1)
        torch.testing.assert_close(found[(slice(None), slice(None), *place)], expected)


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


def test_regions_of_other_points_join_a_point_s_own() -> None:
    regions = kept()
    regions.kept[0, 0, 0], regions.kept[0, 1, 1], regions.kept[0, 5, 2] = True, True, True
    regions.kept[1, 2, 4], regions.kept[2, 0, 5] = True, True
    own = torch.zeros(3, 12, dtype=torch.bool)
    own[:, 9] = True
    found = regions.joined(own, of_attributes(0, 1, 2))
    assert [row.nonzero().flatten().tolist() for row in found] == [[0, 1, 9], [4, 9], [5, 9]]  # the first JOINED
    assert JOINED == 3
    both = of_attributes(0, 1, 2) | of_attributes(1, 0, 0)
    assert torch.equal(regions.joined(own, both), own)


def test_they_spare_where_another_attribute_acts_that_they_would_hide() -> None:
    """Attribute 1 usually acts on entries 0 to 3, in 5 of 16 points; three quarters of them may be hidden, not all."""
    regions = kept()
    regions.kept[1, :5, :4] = True
    regions.kept[2, :4, 6:9] = True  # a quarter is not usual yet
    regions.kept[0, 0, :3], regions.kept[0, 1, 2:5], regions.kept[0, 2, 6:9] = True, True, True
    own = torch.zeros(2, 12, dtype=torch.bool)
    own[1, 3] = True
    found = regions.joined(own, of_attributes(0, 0))
    assert found[0].nonzero().flatten().tolist() == [0, 1, 2, 4, 6, 7, 8]  # the first joins, of the second entry 4
    assert found[1].nonzero().flatten().tolist() == [2, 3, 4, 6, 7, 8]  # the first would hide all four
    of_it = regions.joined(own, of_attributes(1, 1))
    assert of_it[0].nonzero().flatten().tolist() == [0, 1, 2, 3]  # S itself is not spared


def test_in_training_they_are_drawn_for_half_of_the_rows() -> None:
    regions = kept(1).train()
    regions.kept[0, :, 0] = True
    regions.kept[0, 0, 1] = True
    torch.manual_seed(0)
    found = regions.joined(torch.zeros(8000, 12, dtype=torch.bool), of_attributes(*[0] * 8000, parts=1))
    # standard errors 0.0056 and 0.0032; 1 - (15/16)^3 = 0.176 of the half hold the one region with entry 1
    assert float(found[:, 0].double().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(found[:, 1].double().mean()) == pytest.approx(0.088, abs=0.012)


# --- what lies within another's region


def test_a_region_lies_within_another_in_most_points_of_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attribute 1 acts on four entries of those of 0 where it is 1, on others where it is 0; 2 acts on nothing."""
    regions = kept()
    masks, y = torch.zeros(3, 4, 12, dtype=torch.bool), torch.tensor([[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 1, 1]])
    masks[0, :, :6] = True
    masks[1, 0, 6:10] = masks[1, 1, 2:6] = masks[1, 2, 3:7] = masks[1, 3, 4:8] = True  # of 4: 0, 4, 3 and 2 inside
    monkeypatch.setattr("pyro_ssvae.infer.regions.PACE", 1.0)
    regions.compare(masks, y, NONE)
    assert not regions.within.any()
    regions.compare(masks, y, ALL)
    found = regions.within[0, 1]
    torch.testing.assert_close(found, torch.tensor([0.0, 1 / 3]))  # three quarters are not more than three quarters
    assert regions.within[1, 0].tolist() == [0.0, 0.0]
    assert not regions.within[:, 2].any()
    assert regions.within[0, 0].tolist() == [1.0, 1.0]


def test_the_shares_run_over_the_steps_that_have_such_points() -> None:
    regions, masks = kept(2), torch.ones(2, 3, 12, dtype=torch.bool)
    ones = torch.ones(2, 3, dtype=torch.long)
    for _ in range(60):
        regions.compare(masks, ones, ALL)
    torch.testing.assert_close(regions.within[0, 1], torch.tensor([0.0, 1 - 0.98**60]))
    regions.compare(masks, 1 - ones, ALL)
    torch.testing.assert_close(regions.within[0, 1], torch.tensor([0.02, 1 - 0.98**60]))


def test_what_lies_within_the_region_of_any_of_s_is_covered() -> None:
    regions = kept()
    regions.within[0, 1, 1], regions.within[2, 1, 0], regions.within[1, 0] = 0.6, 0.9, 0.5  # half is not most
    sets = torch.tensor([[1, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]]) == 1
    y = torch.tensor([[0, 1, 0, 1, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    assert regions.covered(sets, y).int().tolist() == [[0, 0, 0, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]]


def test_in_training_what_is_covered_sees_the_whole_in_half_of_the_rows() -> None:
    regions = kept(3).train()
    regions.within[0, 1:] = 1.0
    torch.manual_seed(0)
    found = regions.covered(of_attributes(*[0] * 8000), torch.zeros(3, 8000, dtype=torch.long))
    assert torch.equal(found[1], found[2])  # all that are covered, or none
    assert float(found[1].double().mean()) == pytest.approx(0.5, abs=0.02)  # standard error 0.0056
