from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from data_makers import refused

from pyro_ssvae import AttributeLabels, ClassLabels
from pyro_ssvae.distributions.clamped import ClampedBernoulli
from pyro_ssvae.labels import Labels, describe, restore

C = ClassLabels(3, names=["cat", "dog", "owl"])
A = AttributeLabels(["hat", "beard"])


def test_class_encoding() -> None:
    one_hot = C.encode(torch.tensor([2, -1, 0]))
    torch.testing.assert_close(one_hot, torch.tensor([[0.0, 0, 1], [0, 0, 0], [1, 0, 0]]))
    probs = torch.tensor([[0.2, 0.3, 0.5]]).expand(3, 3)
    filled = C.impute(probs, torch.tensor([2, -1, 0]))
    torch.testing.assert_close(filled, torch.tensor([[0.0, 0, 1], [0.2, 0.3, 0.5], [1, 0, 0]]))
    assert C.mode(probs).tolist() == [2, 2, 2]
    assert C.configurations().tolist() == [0, 1, 2]


def test_attribute_encoding() -> None:
    y = torch.tensor([[1, -1], [-1, 0]])
    torch.testing.assert_close(A.encode(y), torch.tensor([[1.0, 0.5], [0.5, 0.0]]))
    torch.testing.assert_close(A.impute(torch.full((2, 2), 0.3), y), torch.tensor([[1.0, 0.3], [0.3, 0.0]]))
    assert A.mode(torch.tensor([[0.49, 0.51]])).tolist() == [[0, 1]]
    assert A.mode(A.probs(torch.zeros(1, 2))).tolist() == [[0, 0]], "an untrained head stands at a half, which is no 1"
    assert A.configurations().tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert A.num_configurations == 4


def test_encoding_keeps_the_precision_of_the_network() -> None:
    assert C.impute(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([1])).dtype == torch.float64
    assert A.impute(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[1, -1]])).dtype == torch.float64


def test_log_probs() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    torch.testing.assert_close(C.log_probs(logits).exp(), C.probs(logits))
    logits = torch.tensor([[0.3, -200.0]])
    both = A.log_probs(logits)
    torch.testing.assert_close(both[..., 1].exp(), A.probs(logits))
    assert both[0, 1].tolist() == [0.0, -200.0], "log σ overflows"


@pytest.mark.parametrize("labels", [C, A])
def test_logits_of_probabilities_give_them_back_down_to_1e_8(labels: Labels) -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0]] if labels is C else [[0.3, -2.0]], dtype=torch.float64)
    probs = labels.log_probs(logits).exp()
    torch.testing.assert_close(labels.log_probs(labels.logits_of(probs)).exp(), probs)
    rare = torch.tensor([1e-8, 1 - 1e-8], dtype=torch.float64)
    none = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found = [labels.log_probs(labels.logits_of(p if labels is C else p.expand(2, 2))) for p in (rare, none)]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=2e-8)
    torch.testing.assert_close(found[0], rare.log().expand_as(found[0]), rtol=0, atol=2e-8)


@pytest.mark.parametrize(
    ("labels", "y", "expected"),
    [
        (C, [1, -1], [[0.0, 1, 0], [0.2, 0.3, 0.5]]),
        (A, [[1, -1], [-1, -1]], [[0.0, 0.4, 0, 0.6], [0.28, 0.12, 0.42, 0.18]]),
    ],
)
def test_clamped_is_a_point_mass_on_what_is_known(labels: Labels, y: Any, expected: Any) -> None:
    """Over all configurations: of classes 0 to 2, of attributes 00, 10, 01, 11 with p(hat) = 0.3, p(beard) = 0.6."""
    expected, y = torch.tensor(expected), torch.tensor(y)
    logits = torch.tensor([0.2, 0.3, 0.5]).log() if labels is C else torch.tensor([0.3, 0.6]).logit()
    q = labels.clamped(logits.expand(2, -1), y)
    values = q.enumerate_support(expand=False)
    assert q.batch_shape == (2,)
    assert tuple(q.event_shape) == labels.event_shape
    torch.testing.assert_close(q.log_prob(values).exp().T, expected)
    torch.testing.assert_close(values.reshape(-1, *labels.event_shape).long(), labels.configurations())
    drawn = q.sample((500,)).long()
    assert (drawn[:, y >= 0] == y[y >= 0]).all()
    frequencies = (drawn[:, 1] == 1).double().mean(0)
    marginal = torch.tensor([0.3]) if labels is C else torch.tensor([0.3, 0.6])
    torch.testing.assert_close(frequencies.reshape(-1).float(), marginal, atol=0.08, rtol=0)


def test_clamped_has_a_gradient_that_is_finite_and_only_where_y_is_missing() -> None:
    for labels, y in ((C, torch.tensor([1, -1])), (A, torch.tensor([[1, -1], [0, 1]]))):
        logits = torch.randn(2, labels.size, requires_grad=True)
        q = labels.clamped(logits, y)
        log_prob = q.log_prob(q.enumerate_support(expand=False))
        log_prob[log_prob > -torch.inf].exp().square().sum().backward()
        assert logits.grad is not None
        missing = (y == -1) if labels is A else (y == -1).unsqueeze(-1).expand(2, 3)
        assert (logits.grad[missing] != 0).all()
        assert (logits.grad[~missing] == 0).all()


def test_prior_is_a_distribution_of_labels() -> None:
    values = A.configurations()
    q = A.prior(torch.tensor([0.3, 0.6]).logit())
    torch.testing.assert_close(q.log_prob(values).exp(), torch.tensor([0.28, 0.12, 0.42, 0.18]))
    assert q.enumerate_support().tolist() == values.tolist()
    torch.testing.assert_close(q.mean, torch.tensor([0.3, 0.6]))
    q = C.prior(torch.tensor([0.2, 0.3, 0.5]).log())
    torch.testing.assert_close(q.log_prob(C.configurations()).exp(), torch.tensor([0.2, 0.3, 0.5]))


def test_inputs_are_of_labels_and_of_relaxed_ones() -> None:
    """In the precision of the network; a class without a label is no class, an attribute without one is a half."""
    like = torch.zeros(2, dtype=torch.float64)
    assert C.inputs(torch.tensor([2, -1]), like).tolist() == [[0, 0, 1], [0, 0, 0]]
    assert C.inputs(torch.tensor(1.0), like).tolist() == [0, 1, 0]  # of a site that was set to a number
    assert C.inputs(torch.tensor([[0.25, 0.25, 0.5]]), like).tolist() == [[0.25, 0.25, 0.5]]
    assert A.inputs(torch.tensor([[1, -1]]), like).tolist() == [[1, 0.5]]
    assert A.inputs(torch.tensor([[0.75, 0.25]]), like).tolist() == [[0.75, 0.25]]
    assert C.inputs(torch.tensor([2]), like).dtype == A.inputs(torch.tensor([[1, 0]]), like).dtype == torch.float64


def test_clamped_bernoulli_expands() -> None:
    q = ClampedBernoulli(torch.tensor([0.0, 1.0]), torch.tensor([-1, 1])).expand([5])
    assert (q.batch_shape, q.event_shape) == ((5,), (2,))
    assert q.sample().shape == (5, 2)
    assert q.enumerate_support().shape == (4, 5, 2)
    assert q.enumerate_support(expand=False).shape == (4, 1, 2)


def test_observed_counts_known_labels_only() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]])
    y = torch.tensor([2, -1])
    log_prob = C.observed(logits).log_prob(y)
    torch.testing.assert_close(log_prob, torch.stack([logits[0].log_softmax(-1)[2], torch.tensor(0.0)]))

    logits, y = torch.tensor([[0.5, -1.0]]), torch.tensor([[-1, 1]])
    log_prob = A.observed(logits).log_prob(y)
    torch.testing.assert_close(log_prob, torch.tensor([-1.0]).sigmoid().log())


def test_class_prior_is_counts_plus_one_and_keeps_room_for_unseen_classes() -> None:
    two = ClassLabels(2).prior_logits(torch.tensor([0, 0, 0, 1, -1, -1])).exp()
    torch.testing.assert_close(two, torch.tensor([4 / 6, 2 / 6], dtype=torch.float64))
    four = ClassLabels(4).prior_logits(torch.tensor([0, 0, 0, 1, -1])).exp()
    torch.testing.assert_close(four, torch.tensor([2 / 6, 1 / 6, 1 / 4, 1 / 4], dtype=torch.float64))
    none = C.prior_logits(torch.tensor([-1, -1])).exp()
    torch.testing.assert_close(none, torch.full((3,), 1 / 3, dtype=torch.float64))


def test_what_known_labels_leave_to_the_rows_without_one() -> None:
    def left(labels: ClassLabels, y: Any) -> torch.Tensor:
        prior = labels.prior_logits(torch.as_tensor(y))
        return (prior + labels.log_left(prior, torch.as_tensor(y))).exp()

    hidden = [0] * 40 + [1] * 40 + [-1] * 40  # class 2 has no label, the others all theirs
    torch.testing.assert_close(left(C, hidden), torch.tensor([1 / 42, 1 / 42, 40 / 42], dtype=torch.float64))
    few = [0] * 2 + [1] * 2 + [-1] * 96  # p is 1/3 each
    torch.testing.assert_close(left(C, few), torch.tensor([94, 94, 100], dtype=torch.float64) * (1 / 288))
    at_random = [0, 1, 2] * 5 + [-1] * 60
    torch.testing.assert_close(left(C, at_random), torch.full((3,), 1 / 3, dtype=torch.float64))
    for y in ([0, 0, 1], [-1, -1]):
        prior = C.prior_logits(torch.tensor(y))
        assert C.log_left(prior, torch.tensor(y)).abs().max() == 0
    uneven = torch.tensor([0.98, 0.01, 0.01], dtype=torch.float64).log()  # .1 rows of 10 each
    assert C.log_left(uneven, torch.full((10,), -1)).abs().max() == 0
    assert A.log_left(torch.randn(2), torch.tensor([[0, -1], [-1, -1]])).abs().max() == 0


def test_attribute_prior_is_of_the_known_entries() -> None:
    y = torch.tensor([[1, -1], [1, -1], [0, -1], [-1, -1]])
    expected = torch.tensor([3 / 5, 1 / 2], dtype=torch.float64)
    torch.testing.assert_close(A.prior_logits(y).sigmoid(), expected)
    shares = torch.tensor([2.01 / 3.02, 1 / 2], dtype=torch.float64)  # nothing is added but a hundredth of each value
    torch.testing.assert_close(A.prior_logits(y, plus=0.0).sigmoid(), shares)
    torch.testing.assert_close(A.prior_logits(y[:2], plus=0.0)[0], torch.tensor(201.0, dtype=torch.float64).log())


@pytest.mark.parametrize(("size", "dtype"), [(128, torch.int8), (129, torch.int16), (2**15 + 1, torch.int32)])
def test_many_labels_are_kept_in_the_fewest_bytes_that_hold_them(
    size: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyro_ssvae.label_arrays.MANY", 3)
    y = torch.tensor([-1, 0, size - 1, 1])
    found = ClassLabels(size).check(y, narrow=True)
    assert found.dtype == dtype
    assert torch.equal(found.long(), y)
    assert ClassLabels(size).check(y[:3], narrow=True).dtype == torch.int64, "of no more than so many rows"
    assert ClassLabels(size).check(None, 3, narrow=True).dtype == torch.int64
    assert ClassLabels(size).check(None, 4, narrow=True).dtype == torch.int8


@pytest.mark.parametrize("y", [[0, -1, 2], np.array([0, -1, 2], dtype=np.int8), torch.tensor([0.0, -1.0, 2.0])])
def test_check_takes_what_people_have(y: Any) -> None:
    checked = C.check(y, 3)
    assert checked.dtype == torch.int64
    assert checked.tolist() == [0, -1, 2]


def test_no_labels_are_all_missing() -> None:
    assert C.check(None, 2).tolist() == [-1, -1]
    assert A.check(None, 1).tolist() == [[-1, -1]]


@pytest.mark.parametrize(
    ("labels", "y", "n", "culprits"),
    [
        (C, [0, 1, 3], 3, ["row 2", "is 3", "0 to 2", "-1"]),
        (C, [0, -2], 2, ["row 1", "is -2"]),
        (C, [0.0, 1.0, 0.5], 3, ["row 2", "whole number"]),
        (C, [0.0, float("nan")], 2, ["row 1", "whole number"]),
        (C, [0, 1], 3, ["2 rows", "x has 3"]),
        (C, [[0, 1]], 1, ["[1, 2]", "[N]"]),
        (C, None, None, ["labels are needed"]),
        (A, [[0, 1], [1, 2]], 2, ["row 1", "[1, 2]", "0 to 1"]),
        (A, [0, 1], 2, ["[2]", "[N, 2]"]),
        (A, [[0, 1, 1]], 1, ["[1, 3]", "[N, 2]"]),
    ],
)
def test_check_names_what_is_wrong(labels: Labels, y: Any, n: int | None, culprits: list[str]) -> None:
    refused(lambda: labels.check(y, n), "y:", *culprits)


def test_names() -> None:
    assert tuple(ClassLabels(2).names) == ("0", "1")
    assert ClassLabels(["cat", "dog"]) == ClassLabels(2, ["cat", "dog"])
    refused(lambda: ClassLabels("cat"), "ClassLabels", "'cat'")
    refused(lambda: ClassLabels(2.0), "ClassLabels", "2.0")
    refused(lambda: ClassLabels(0), "0 classes")
    refused(lambda: ClassLabels(2, names=["a"]), "2 classes", "a")
    refused(lambda: ClassLabels(2, names=["a", "a"]), "different names")
    refused(lambda: AttributeLabels("Smiling"), "Smiling", "list")
    refused(lambda: AttributeLabels(["a", "a"]), "no name twice")
    refused(lambda: AttributeLabels([]), "at least one name")
    refused(lambda: AttributeLabels(3), "a list of names is needed, not 3")


@pytest.mark.parametrize("labels", [C, A])
def test_describe_and_restore(labels: Labels) -> None:
    assert restore(describe(labels)) == labels
