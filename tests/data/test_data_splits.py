"""Hidden labels, left-out classes, held-out rows: sizes, balance, determinism."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from data_makers import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyro_ssvae.data import Dataset, fingerprint, hide_classes, hide_labels, hold_out, known_rows, leave_out, split_rows
from pyro_ssvae.data.splits import LABELS_BY
from pyro_ssvae.labels import AttributeLabels, ClassLabels

CLASSES = ClassLabels(3, ["cat", "dog", "owl"])
ATTRIBUTES = AttributeLabels(["hat", "beard"])
Y = torch.tensor([0] * 20 + [1] * 12 + [2] * 3 + [-1] * 15)[
    torch.randperm(50, generator=torch.Generator().manual_seed(7))
]


def dataset(y: Tensor = Y, labels: ClassLabels | AttributeLabels = CLASSES) -> Dataset:
    x = torch.arange(len(y) * 2.0).reshape(-1, 2)
    return Dataset("toy", x, y, x[:4] + 0.5, torch.full((4, *labels.event_shape), -1), labels)


def counts(y: Tensor) -> list[int]:
    return (y + 1).bincount(minlength=4)[1:].tolist()


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("all", 35),
        ("ALL", 35),
        (35, 35),
        ("1.0", 35),
        (1.0, 35),
        ("0", 0),
        (0, 0),
        ("0.0", 0),
        (9, 9),
        ("9", 9),
        (" 9 ", 9),
        ("0.2", 7),
        (0.2, 7),
    ],
)
def test_how_many_labels_are_kept(keep: str | int | float, kept: int) -> None:
    hidden = hide_labels(Y, CLASSES, keep, 0)
    assert int((hidden != -1).sum()) == kept
    assert bool(((hidden == -1) | (hidden == Y)).all())
    assert hidden.dtype == torch.int64


def test_the_source_stays_as_it_is() -> None:
    before = Y.clone()
    hide_labels(Y, CLASSES, 9, 0)
    hide_classes(Y, CLASSES, ["dog"])
    assert bool((before == Y).all())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-1, 4), max_size=60), st.data(), st.sampled_from(LABELS_BY))
def test_labels_are_nested_and_every_class_has_one(values: list[int], data: st.DataObject, by: str) -> None:
    y = torch.tensor(values, dtype=torch.long)
    available = torch.bincount(y[y >= 0], minlength=5)
    present, n = int((available > 0).sum()), int(available.sum())
    keep = data.draw(st.one_of(st.just(0), st.integers(present, max(n, present))))
    seed = data.draw(st.integers(0, 5))
    kept = hide_labels(y, ClassLabels(5), keep, seed, by)
    got = torch.bincount(kept[kept >= 0], minlength=5)
    assert int(got.sum()) == keep
    assert not keep or bool(((got > 0) == (available > 0)).all())
    unexhausted = got[got < available]
    if by == "balanced" and len(unexhausted):
        assert int(got.max()) - int(unexhausted.min()) <= 1
    if by == "proportional":  # no class has more than its quota, rounded up, but for the one label that each has
        assert bool((got <= (keep * available.double() / max(n, 1)).ceil().clamp_min(1) + 1).all())
    more = hide_labels(y, ClassLabels(5), n, seed, by)
    assert bool((more == y).all())
    if keep < n and keep:
        larger = hide_labels(y, ClassLabels(5), keep + 1, seed, by)
        assert bool((larger[kept != -1] == kept[kept != -1]).all())  # nested


def test_classes_keep_their_proportions_unless_balanced() -> None:
    y = torch.tensor([0] * 570 + [1] * 300 + [2] * 130)
    assert counts(hide_labels(y, CLASSES, 100, 3)) == [57, 30, 13]
    assert counts(hide_labels(y, CLASSES, 99, 3, "balanced")) == [33, 33, 33]
    assert counts(hide_labels(y, CLASSES, 0.1, 3)) == [57, 30, 13]
    rare = torch.tensor([0] * 990 + [1] * 10)
    assert counts(hide_labels(rare, ClassLabels(2), 20, 0))[:2] == [19, 1]  # its share of 20 is 0.2
    assert counts(hide_labels(rare, ClassLabels(2), 200, 0))[:2] == [198, 2]
    drawn = [hide_labels(y, CLASSES, 100, seed) != -1 for seed in range(20)]
    assert 0.02 < torch.stack(drawn).double().mean(0)[:570].std() < 0.12  # at random: sd √(.1 · .9 / 20) = .067
    refused(lambda: hide_labels(y, CLASSES, 100, 0, "even"), "--labels-by 'even'", "balanced")


def test_a_further_label_goes_to_the_class_that_sainte_lague_gives_it() -> None:
    """Counted anew, one label after another: to the class of the least ``(2 j + 1) / n_k``, j of its labels kept."""
    sizes = [64, 24, 10]  # of which no two quotients are alike
    y, kept = torch.arange(3).repeat_interleave(torch.tensor(sizes)), [1, 1, 1]
    for keep in range(3, sum(sizes) + 1):
        assert counts(hide_labels(y, CLASSES, keep, 0)) == kept, keep
        following = [(2 * j + 1) / n if j < n else torch.inf for j, n in zip(kept, sizes)]
        kept[following.index(min(following))] += 1


def test_a_seed_decides_and_another_draws_others() -> None:
    y = torch.arange(300) % 3
    assert bool((hide_labels(y, CLASSES, 30, 4) == hide_labels(y, CLASSES, 30, 4)).all())
    assert not bool((hide_labels(y, CLASSES, 30, 4) == hide_labels(y, CLASSES, 30, 5)).all())
    first = [int(known_rows(hide_labels(y, CLASSES, 3, seed)).nonzero()[0]) for seed in range(20)]
    assert len(set(first)) > 5  # not the first rows


def test_attributes_keep_whole_rows_as_far_as_known() -> None:
    y = torch.tensor([[0, 1], [-1, -1], [1, -1], [0, 0], [-1, 1]])
    for seed in range(5):
        kept = hide_labels(y, ATTRIBUTES, 2, seed)
        rows = known_rows(kept)
        assert int(rows.sum()) == 2
        assert bool((kept[rows] == y[rows]).all())
    assert int(known_rows(hide_labels(y, ATTRIBUTES, "0.5", 0)).sum()) == 2
    assert int(known_rows(hide_labels(y, ATTRIBUTES, 1, 0)).sum()) == 1
    refused(lambda: hide_labels(y, ATTRIBUTES, 5, 0), "--labels 5", "4")


@pytest.mark.parametrize(
    "keep", ["some", "", "-1", -1, "20%", "1.5", 1.5, "nan", "inf", "50.0", "--5", "9" * 5000, True, None, [3]]
)
def test_garbage_is_refused(keep: object) -> None:
    refused(lambda: hide_labels(Y, CLASSES, keep, 0), "--labels", "fraction")  # type: ignore[arg-type]


def test_too_many_or_too_few_labels_are_refused() -> None:
    refused(lambda: hide_labels(Y, CLASSES, 36, 0), "--labels 36", "35")
    refused(lambda: hide_labels(Y, CLASSES, "2", 0), "--labels", "2 labels for 3 classes")
    refused(lambda: hide_labels(Y, CLASSES, "1", 0), "--labels", "1 label for 3 classes")
    refused(lambda: hide_labels(Y, CLASSES, 0.01, 0), "--labels", "3 classes")
    refused(lambda: hide_labels(Y, CLASSES, 9, 2**70), "--seed")
    none = torch.full((4,), -1)
    refused(lambda: hide_labels(none, CLASSES, 3, 0), "--labels 3: no point has a label", "--target")
    for keep in ("all", "0.5", 0):
        assert bool((hide_labels(none, CLASSES, keep, 0) == -1).all())


def test_a_class_without_labels_needs_none() -> None:
    y = hide_classes(Y, CLASSES, "owl")
    assert counts(y) == [20, 12, 0]
    assert counts(hide_labels(y, CLASSES, 2, 0)) == [1, 1, 0]
    assert counts(hide_classes(Y, CLASSES, ["owl", "cat"])) == [0, 12, 0]
    assert bool((hide_classes(Y, CLASSES, []) == Y).all())
    refused(lambda: hide_classes(Y, CLASSES, ["owls"]), "'owls'", "did you mean 'owl'?")


def test_leave_out_removes_a_class_from_training_only() -> None:
    whole = dataclasses.replace(dataset(), y_test=torch.tensor([0, 1, 2, -1]))
    left = leave_out(whole, "dog")
    assert counts(left.y) == [20, 0, 3]
    assert len(left.x) == len(left.y) == 38
    assert left.y_test.tolist() == [0, 1, 2, -1]
    assert left.labels.names == CLASSES.names
    assert bool((Y[(left.x[:, 0] / 2).long()] == left.y).all())  # x and y still belong together
    refused(lambda: leave_out(whole, "dgo"), "--leave-out", "'dgo'", "did you mean 'dog'?")
    refused(lambda: leave_out(dataset(torch.zeros(4, 2).long(), ATTRIBUTES), "hat"), "--leave-out", "attributes")
    refused(lambda: leave_out(dataset(torch.zeros(4).long()), "cat"), "--leave-out cat", "no training row")


def test_hold_out_is_stratified_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_ssvae.data.splits.FEW_LABELS", 0)  # as of many
    train, x_val, y_val = hold_out(dataset(), fraction=0.25, seed=3)
    assert counts(y_val) == [5, 3, 1]
    assert int((y_val == -1).sum()) == 3  # 12 in all
    assert sorted(torch.cat([train.x, x_val])[:, 0].tolist()) == dataset().x[:, 0].tolist()
    assert bool((Y[(x_val[:, 0] / 2).long()] == y_val).all())
    again = hold_out(dataset(), fraction=0.25, seed=3)
    assert fingerprint(again[0]) == fingerprint(train)
    assert fingerprint(hold_out(dataset(), fraction=0.25, seed=4)[0]) != fingerprint(train)


def test_few_labels_are_all_trained_on_and_half_of_the_other_rows_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """35 labels and 15 rows without one: a quarter of all would be 12 of the 15."""
    monkeypatch.setattr("pyro_ssvae.data.splits.FEW_LABELS", 35)
    assert counts(hold_out(dataset(), fraction=0.25)[2]) == [5, 3, 1]
    monkeypatch.setattr("pyro_ssvae.data.splits.FEW_LABELS", 36)
    first, again, other = (hold_out(dataset(), fraction=0.25, seed=seed) for seed in (0, 0, 1))
    assert first[2].tolist() == [-1] * 8
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(-1, 4), min_size=2, max_size=60), st.floats(0.01, 0.99))
def test_split_rows_divides_every_stratum(values: list[int], fraction: float) -> None:
    y = torch.tensor(values)
    rows, held = split_rows(y, fraction=fraction)
    assert sorted(rows.tolist() + held.tolist()) == list(range(len(y)))
    assert len(rows) >= 1
    assert len(held) >= 1
    for k in y.unique():
        size, out = int((y == k).sum()), int((y[held] == k).sum())
        assert abs(out - fraction * size) <= 1
        if size > 1:
            assert out < size  # one row at least stays
    assert bool((split_rows(y, fraction=fraction)[1] == held).all())


def test_split_rows_of_attributes_and_of_too_little() -> None:
    y = torch.tensor([[1, -1]] * 10 + [[-1, -1]] * 20)
    _, held = split_rows(y)
    assert int(known_rows(y[held]).sum()) == 2
    assert len(held) == 6
    refused(lambda: split_rows(torch.tensor([1])), "at least 2")
    refused(lambda: split_rows(Y, fraction=1.0), "1.0")


def test_fingerprint_sees_every_part_but_the_name() -> None:
    base = dataset()
    assert fingerprint(base) == fingerprint(dataclasses.replace(base, name="other"))
    x = base.x.clone()
    x[7, 1] += 1e-3
    changed = [
        dataclasses.replace(base, x=x),
        dataclasses.replace(base, y=hide_labels(Y, CLASSES, 34, 0)),
        dataclasses.replace(base, x_test=base.x_test + 1),
        dataclasses.replace(base, y_test=torch.tensor([0, -1, -1, -1])),
        dataclasses.replace(base, labels=ClassLabels(3, ["cat", "dog", "eagle"])),
        dataclasses.replace(base, x=base.x.reshape(50, 1, 2), x_test=base.x_test.reshape(4, 1, 2)),
        dataclasses.replace(base, x=base.x.double(), x_test=base.x_test.double()),
    ]
    assert len({fingerprint(part) for part in (base, *changed)}) == 8
    assert fingerprint(dataclasses.replace(base, x=base.x.t().contiguous().t())) == fingerprint(base)


def test_a_dataset_that_does_not_fit_is_refused() -> None:
    base = dataset()
    refused(lambda: dataclasses.replace(base, y=base.y[1:]), "toy", "50 training points", "49")
    refused(lambda: dataclasses.replace(base, x_test=base.x_test[:0], y_test=base.y_test[:0]), "no test points")
    refused(lambda: dataclasses.replace(base, x_test=base.x_test[:, :1]), "one shape")
    refused(lambda: dataclasses.replace(base, x=base.x[:, 0]), "[50]")
    assert base.kind == "vectors"
    assert base.input_shape == (2,)


def test_few_labels_are_all_left_to_train_on() -> None:
    y = torch.full((300,), -1)
    y[:40] = torch.arange(40) % 4
    x = torch.arange(300.0).unsqueeze(1)
    data = Dataset("own", x, y, x, y, ClassLabels(4))
    train, x_val, y_val = hold_out(data)
    assert (len(train.x), len(x_val), int((train.y != -1).sum())) == (270, 30, 40)
    assert y_val.tolist() == [-1] * 30
    assert sorted([*train.x.flatten().tolist(), *x_val.flatten().tolist()]) == x.flatten().tolist()
    every = Dataset("own", x, torch.arange(300) % 4, x, y, ClassLabels(4))
    assert int((hold_out(every)[2] != -1).sum()) == 30
    few = Dataset("own", x[:42], y[:42], x, y, ClassLabels(4))
    assert hold_out(few)[2].tolist() == [-1], "one of the two rows without a label"
    (one,) = hold_out(Dataset("own", x[:41], y[:41], x, y, ClassLabels(4)), fraction=1 / 41)[2].tolist()
    assert one != -1, "of a single one the other rows are"
