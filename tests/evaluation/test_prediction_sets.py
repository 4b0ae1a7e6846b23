"""Prediction sets against their guarantee; temperature and confusion against a model that is wrong by known ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from data_makers import refused
from scipy.optimize import brentq, minimize, minimize_scalar
from torch import Tensor
from torch.utils.data import TensorDataset

import pyro_ssvae as ps
from pyro_ssvae import AttributeLabels, ClassLabels
from pyro_ssvae.evaluation.calibration import Calibration, Fold, from_probs, kept
from pyro_ssvae.evaluation.prediction_sets import label_sets, log_odds, places, rank
from pyro_ssvae.evaluation.scaling import Scaling, by_confusion, by_temperature, fitted, tempered
from pyro_ssvae.infer.protocols import Classifies


def drawn(n: int, seed: int, sharpness: float = 3.0, k: int = 4) -> tuple[Tensor, Tensor]:
    """Probabilities ``[n, k]`` and classes drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    p = (sharpness * torch.randn(n, k, generator=generator, dtype=torch.double)).softmax(-1)
    return p, torch.multinomial(p, 1, generator=generator).squeeze(1)


def test_log_odds_are_those_of_each_label() -> None:
    p, _ = drawn(50, 0)
    assert log_odds(p, True).allclose(p.logit(), atol=1e-9)
    attributes = torch.tensor([[0.2, 0.9]], dtype=torch.double)
    expected = torch.stack([-attributes.logit(), attributes.logit()], -1)
    assert log_odds(attributes, False).allclose(expected)


def test_probabilities_that_round_to_one_are_told_apart() -> None:
    p = torch.tensor([[1.0, 1e-12], [1.0, 1e-20], [1.0, 0.0]])
    scores = log_odds(p, True)[:, 0]
    assert bool((scores.diff() > 1).all())
    assert scores[0].item() == pytest.approx(12 * math.log(10))
    least = torch.tensor([[1.0, 1e-44], [1.0, 0.0]], dtype=torch.double)  # about the least of single precision
    assert log_odds(least, True)[:, 0].tolist() == pytest.approx([44 * math.log(10), 45 * math.log(10)])


def inside(scores: Tensor, known: Tensor, coverage: float) -> Tensor:
    return places(scores, known) >= rank(len(known), coverage)


def test_a_label_is_in_from_the_score_of_the_rank_on() -> None:
    scores = torch.arange(1.0, 20.0)[torch.randperm(19)]  # 1 … 19: rank 20 · 0.1 = 2
    assert inside(torch.tensor([1.9, 2.0, 3.0]), scores, 0.9).tolist() == [False, True, True]
    assert inside(torch.tensor([0.9, 1.0]), torch.arange(1.0, 15.0), 0.9).tolist() == [False, True]  # rank 1.5
    assert rank(8, 0.9) == 0  # 8 points: every label
    assert inside(torch.tensor([-9.0]), torch.arange(1.0, 9.0), 0.9).tolist() == [True]
    assert rank(9, 0.9) == 1  # 9 points suffice
    for wrong in (0, 1, 1.5, -0.1):
        refused(lambda wrong=wrong: rank(19, wrong), "coverage", "0.9")


@pytest.mark.parametrize(("n", "coverage"), [(14, 0.9), (29, 0.9), (100, 0.9), (100, 0.7)])
def test_sets_cover_what_they_say(n: int, coverage: float) -> None:
    """Averaged over 400 calibrations of n labels: ``1 - r / (n + 1)`` with the whole rank r, and no less.

    The coverage of one has a standard deviation of about sqrt(.09/n).
    """
    p, y = drawn(400 * n, 1)
    p_new, y_new = drawn(4000, 2)
    new, found = log_odds(p_new, True), []
    for p_part, y_part in zip(p.split(n), y.split(n)):
        bare = inside(new, log_odds(p_part, True).gather(-1, y_part[:, None]).squeeze(1), coverage)
        sets = label_sets(bare, new)
        assert sets.equal(bare | torch.nn.functional.one_hot(new.argmax(-1), 4).bool())
        found.append(bare.gather(-1, y_new[:, None]).double().mean())
    exact = 1 - math.floor((n + 1) * (1 - coverage) + 1e-9) / (n + 1)
    assert exact >= coverage - 1e-9
    assert abs(float(torch.stack(found).mean()) - exact) < 0.015  # 3 standard errors at n = 14: 0.012


def test_sets_cover_what_they_say_where_scores_lie_in_two_groups() -> None:
    """Ten labels, of which a model is surely wrong in 15 of 100: coverage is the mean over 4,000 calibrations.

    Exactly 1 - 1/11 = .909, with a standard error of .0045. A threshold a tenth of the way from the first score to the
    second covered .879: it lay above all wrong answers where just one of the ten was wrong.
    """
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(4000, 11, generator=generator, dtype=torch.double) < 0.15
    noise = torch.rand(4000, 11, generator=generator, dtype=torch.double)
    scores = torch.where(wrong, -3.0, 8.0) + 0.1 * noise
    found = [float(inside(new, old, 0.9)) for old, new in zip(scores[:, :10], scores[:, 10])]
    assert sum(found) / 4000 == pytest.approx(10 / 11, abs=0.0135)  # 3 standard errors of a share of 4,000


def test_a_set_has_the_most_probable_label_always() -> None:
    p, y = drawn(2000, 5, sharpness=20.0)  # right in 95 of 100: sets of 90 % would be empty
    right = float((p.argmax(-1) == y).double().mean())
    assert right > 0.93
    made = from_probs(p[:1000], y[:1000], ClassLabels(4))
    for coverage in (0.5, 0.9):
        sets = made.predict_set(p, coverage)
        assert bool(sets.gather(-1, p.argmax(-1, keepdim=True)).all())
        assert not bool(made.inside(p, made.folds[0], coverage).any(-1).all())
    metrics = made.metrics(p[1000:], y[1000:])
    assert metrics["coverage"] >= float((p[1000:].argmax(-1) == y[1000:]).double().mean())
    assert metrics["set_size"] >= 1
    ties = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.4, 0.4, 0.2]], dtype=torch.double)
    none = torch.zeros_like(ties, dtype=torch.bool)
    assert label_sets(none, log_odds(ties, True)).tolist() == [[True] * 3, [True, True, False]]
    attributes = torch.tensor([[0.3, 0.5]], dtype=torch.double)
    sets = label_sets(torch.zeros(1, 2, 2, dtype=torch.bool), log_odds(attributes, False))
    assert sets.tolist() == [[[True, False], [True, True]]]


def test_calibration_of_attributes_is_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(4000, 2, generator=generator, dtype=torch.double)
    y = torch.bernoulli(p, generator=generator).long()
    p[:, 1] = (3 * p[:, 1].logit()).sigmoid()  # of the second, too sure by a temperature of 3
    y[::5, 0] = -1
    made = from_probs(p[:2000], y[:2000], AttributeLabels(["a", "b"]))
    assert made.temperature[0] == pytest.approx(1.0, abs=0.1)
    assert made.temperature[1] == pytest.approx(3.0, rel=0.1)
    assert sum(len(fold.scores) for fold in made.folds[0]) == 1600
    sets = made.predict_set(p[2000:])
    known = y[2000:] >= 0
    held = sets.gather(-1, y[2000:].clamp_min(0)[..., None]).squeeze(-1)
    for a in range(2):
        assert float(held[known[:, a], a].double().mean()) == pytest.approx(0.9, abs=0.025)
    metrics = made.metrics(p[2000:], y[2000:])
    assert metrics["calibration_error"] < 0.05
    assert metrics["coverage"] == pytest.approx(0.9, abs=0.02)


def test_few_labels_of_attributes_cover_what_they_say() -> None:
    """600 attributes of 30 labels each: sets cover 0.9 and more, though temperature and shift come from these labels.

    An attribute's coverage spreads by sqrt(.9 .1 / 31) = .054 about its mean, the mean of 600 by .0022: two of these
    are allowed. Scores at a temperature and a shift that were fitted to their own labels would cover .893.
    """
    generator = torch.Generator().manual_seed(0)
    q = (1.5 * torch.randn(830, 600, generator=generator, dtype=torch.double)).sigmoid()
    y, p = torch.bernoulli(q, generator=generator).long(), (2 * q.logit()).sigmoid()  # too sure
    made = from_probs(p[:30], y[:30], AttributeLabels([f"a{i}" for i in range(600)]))
    sets, shown = made.predict_set(p[30:]), made.predict_proba(p[30:])
    share = sets.gather(-1, y[30:, :, None]).double().mean()
    assert 0.9 - 0.0044 < float(share) < 0.92
    assert bool(sets.gather(-1, (shown > 0.5).long()[..., None]).all())  # the label that people see is in


@pytest.mark.parametrize("t", [0.5, 2.0])
def test_the_temperature_is_found(t: float) -> None:
    p, y = drawn(3000, 3)
    wrong = (t * p.log()).softmax(-1)  # too sure (t > 1) or too little
    made = from_probs(wrong, y, ClassLabels(4))
    assert made.temperature[0] == pytest.approx(t, rel=0.12)
    assert made.predict_proba(wrong).allclose((wrong.log() / made.temperature[0]).softmax(-1))
    before = Calibration(ClassLabels(4), (Scaling(),), made.folds, 0).metrics(wrong, y)
    after = made.metrics(wrong, y)
    assert after["nll"] < before["nll"]
    assert after["calibration_error"] < 0.03 < before["calibration_error"]


def mistaken(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """A model that is sure of one of three classes, and labels: 0.6 of its class 0 are called 1."""
    generator = torch.Generator().manual_seed(seed)
    k = torch.randint(3, (n,), generator=generator)
    y = torch.where((k == 0) & (torch.rand(n, generator=generator) < 0.6), 1, k)
    return torch.eye(3, dtype=torch.double)[k] * 0.97 + 0.01, y


def test_a_class_that_is_taken_for_another_is_found() -> None:
    """A share of 1,000 rows has a standard error of .016. The labels' entropy is a third of H(.6), .224 nats.

    One temperature makes the other classes unsure too: the model is right in .8 of the rows, .64 nats.
    """
    p, y = mistaken(3000, 0)
    made = from_probs(p, y, ClassLabels(3))
    truth = torch.tensor([[0.4, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).double()
    sure = torch.eye(3, dtype=torch.double) * 0.97 + 0.01
    assert made.predict_proba(sure).allclose(truth, atol=0.05)
    at_t = by_temperature(p, y, classes=True)
    new, labels = mistaken(3000, 1)
    before, after = (each.metrics(new, labels) for each in (Calibration(ClassLabels(3), (at_t,), made.folds, 0), made))
    assert (after["nll"], before["nll"]) == (pytest.approx(0.224, abs=0.03), pytest.approx(0.64, abs=0.05))
    assert after["calibration_error"] < 0.02
    assert after["accuracy"] - before["accuracy"] == pytest.approx(0.2 / 3, abs=0.02)  # .6 instead of .4 of a third
    assert after["coverage"] > 0.98  # the label 0 of the model's class 0 is that of 13 rows in 100
    few = from_probs(p[:29], y[:29], ClassLabels(3))
    assert few.confusion == ()  # ten a class are needed


def test_a_class_without_labels_stays_itself() -> None:
    """The labels of a class that a model takes for one without any say nothing of those that are that one."""
    generator = torch.Generator().manual_seed(0)
    k = torch.randint(3, (600,), generator=generator)
    said = torch.where((k == 0) & (torch.rand(600, generator=generator) < 0.3), 2, k)
    p = torch.eye(3, dtype=torch.double)[said] * 0.97 + 0.01
    found = by_confusion(p[k != 2], k[k != 2], classes=True)
    assert found.confusion[2] == (0.0, 0.0, 1.0)
    assert found.confusion[1][1] > 0.9
    made = from_probs(p, torch.where(k == 2, -1, k), ClassLabels(3))
    assert (made.predict_proba(p).argmax(1)[k == 2] == 2).all()


def test_the_confusion_is_the_most_probable_one() -> None:
    """Of two classes, against SciPy's minimum over log T and C's two free entries."""
    generator = torch.Generator().manual_seed(0)
    p, y = drawn(200, 6, k=2)
    y = torch.where((y == 0) & (torch.rand(200, generator=generator) < 0.4), 1, y)
    first = p[:, 0].numpy()

    def objective(at: np.ndarray) -> float:
        sharp = 1 / (1 + np.exp(-(np.log(first) - np.log(1 - first)) / np.exp(at[0])))
        a, b = 1 / (1 + np.exp(-at[1:]))
        shown = sharp * a + (1 - sharp) * b
        own = np.log(np.where(y.numpy() == 0, shown, 1 - shown)).sum()
        return float((at[0] / 0.5) ** 2 / 2 - own - 1.05 * np.log(a * (1 - b)) - 0.05 * np.log((1 - a) * b))

    best = minimize(objective, np.array([0.0, 1.0, -3.0]), method="Nelder-Mead", options={"maxiter": 4000})
    found = by_confusion(p, y, classes=True)
    shares = torch.tensor(found.confusion, dtype=torch.double)[:, 0]
    here = np.array([math.log(found.temperature), *shares.logit().tolist()])
    assert objective(here) == pytest.approx(best.fun, abs=0.05)
    assert shares.tolist() == pytest.approx((1 / (1 + np.exp(-best.x[1:]))).tolist(), abs=0.02)


def test_a_confusion_is_saved_and_another_refused(tmp_path: Path) -> None:
    p, y = mistaken(300, 2)
    made, path = from_probs(p, y, ClassLabels(3)), tmp_path / "calibration.json"
    made.save(path)
    assert Calibration.load(path, ClassLabels(3)) == made
    assert len(repr(made)) < 200
    saved = json.loads(path.read_text())
    rows = saved["parts"][0]["confusion"]
    for wrong in (rows[:2], [row[:2] for row in rows], [[2 * c for c in row] for row in rows], [[-1, 2, 0]] * 3):
        path.write_text(json.dumps({**saved, "parts": [{**saved["parts"][0], "confusion": wrong}]}))
        refused(lambda: Calibration.load(path, ClassLabels(3)), "calibration.json", "train the run anew")
    path.write_text(json.dumps({**saved, "rows": math.inf}))
    refused(lambda: Calibration.load(path, ClassLabels(3)), "calibration.json", "train the run anew")
    refused(lambda: made.predict_set(p[:, :2] / p[:, :2].sum(1, keepdim=True)), "[300, 2]", "[N, 3]")


def test_the_shift_of_an_attribute_is_found_and_read_from_files_that_have_none(tmp_path: Path) -> None:
    """logit p = 2 (logit q - 1) for the true q: T = 2, b = 1."""
    generator = torch.Generator().manual_seed(1)
    q = torch.rand(4000, 1, generator=generator, dtype=torch.double)
    y, p = torch.bernoulli(q, generator=generator).long(), (2 * (q.logit() - 1)).sigmoid()
    made = from_probs(p, y, AttributeLabels(["a"]))
    assert made.temperature[0] == pytest.approx(2.0, rel=0.1)
    assert made.shift[0] == pytest.approx(1.0, abs=0.1)
    expected = (p.logit() / made.temperature[0] + made.shift[0]).sigmoid()
    torch.testing.assert_close(made.predict_proba(p), expected)
    assert len(repr(made)) < 200  # however many labels were held out
    made.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json", AttributeLabels(["a"])) == made
    scores = sorted(log_odds(p, False).gather(-1, y[..., None]).flatten().tolist())
    saved = {"labels": "attributes", "temperature": [2.0], "scores": [scores], "rows": 4000, "how": "held-out"}
    (tmp_path / "earlier.json").write_text(json.dumps(saved))
    earlier = Calibration.load(tmp_path / "earlier.json", AttributeLabels(["a"]))
    torch.testing.assert_close(earlier.predict_proba(p), (p.logit() / 2).sigmoid())
    at = log_odds((p.logit() / 2).sigmoid(), False)  # which the scores were of
    assert earlier.predict_set(p).equal(label_sets(inside(at, torch.tensor(scores, dtype=torch.double), 0.9), at))
    (tmp_path / "shifted.json").write_text(json.dumps({**saved, "shift": [1.0], "tempered": False}))
    shifted = Calibration.load(tmp_path / "shifted.json", AttributeLabels(["a"]))
    torch.testing.assert_close(shifted.predict_proba(p), (p.logit() / 2 + 1).sigmoid())
    own = inside(log_odds(p, False), torch.tensor(scores, dtype=torch.double), 0.9)
    assert shifted.predict_set(p).equal(label_sets(own, log_odds((p.logit() / 2 + 1).sigmoid(), False)))
    (tmp_path / "two.json").write_text(json.dumps({**saved, "shift": [0.1, 0.2]}))
    refused(lambda: Calibration.load(tmp_path / "two.json", AttributeLabels(["a"])), "two.json")


def test_what_cannot_be_known_has_its_share() -> None:
    """Predictions, sure and at random, of a coin that falls on 1 in 0.2 of the rows."""
    generator = torch.Generator().manual_seed(2)
    p = (8 * torch.randn(4000, 1, generator=generator, dtype=torch.double)).sigmoid()
    y = (torch.rand(4000, 1, generator=generator) < 0.2).long()
    made = from_probs(p[:2000], y[:2000], AttributeLabels(["coin"]))
    assert made.metrics(p[2000:], y[2000:])["calibration_error"] < 0.06  # 0.3 without b; the prior keeps T finite
    assert float(made.predict_proba(p).mean()) == pytest.approx(0.2, abs=0.03)


def test_the_temperature_stays_where_it_does_not_help() -> None:
    p, y = drawn(19, 4)
    assert fitted((5 * p.log()).softmax(-1), y, True)[0] == Scaling()  # too few
    right = torch.tensor([[0.99, 0.01]], dtype=torch.double).expand(40, 2)
    sure, _ = fitted(right, torch.zeros(40, dtype=torch.long), True)
    assert 0.2 < sure.temperature < 1.0  # not 0, though all are right


def test_what_is_no_probability_is_refused() -> None:
    """Of logits, of the classes' first columns, or of NaN, sets would hold anything, or nothing."""
    p, y = drawn(100, 5)
    made = from_probs(p, y, ClassLabels(4))
    assert made.predict_set(p.half()).any(1).all()
    assert made.predict_set(p.numpy().round(4)).any(1).all()
    few_digits = torch.tensor([[0.252, 0.252, 0.252, 0.252]]).double()  # they sum to 1.008
    assert made.predict_set(few_digits).any(1).all()
    for ask in (made.predict_proba, made.predict_set):
        refused(lambda ask=ask: ask(few_digits + 0.001), "probs: row 0", "sum to 1")
    refused(lambda: made.predict_set(p[:, :2]), "probs: shape [100, 2]", "[N, 4] of classes", "predict_proba")
    for wrong in (p.log(), p * torch.nan):
        for ask in (made.predict_proba, made.predict_set):
            refused(lambda ask=ask, wrong=wrong: ask(wrong), "probs: row 0", "sum to 1", "predict_proba")
    attributes = from_probs(p[:, :1], y.clamp_max(1)[:, None], AttributeLabels(["a"]))
    refused(lambda: attributes.predict_proba(p[:, :1] + 1), "probs: row 0", "from 0 to 1")


def test_a_temperature_is_taken_where_it_helps_labels_that_it_was_not_fitted_to() -> None:
    """Of right probabilities T is 1: fitted to 60 labels it helps these always, and others as often as not."""
    fold, gains = torch.randperm(60, generator=torch.Generator().manual_seed(0)) % 5, []
    for seed in range(12):
        p, y = drawn(60, seed, k=7)  # for whose confusion 60 labels are too few
        own = p.gather(1, y[:, None]).log()
        gains.append(0.0)
        for k in range(5):
            at = by_temperature(p[fold != k], y[fold != k], classes=True)
            other = (p.log() / at.temperature).log_softmax(-1).gather(1, y[:, None])
            gains[-1] += float((other - own)[fold == k].sum())
        assert (fitted(p, y, True)[0] == Scaling()) == (gains[-1] <= 0)
    assert min(gains) < 0 < max(gains)
    assert any(-1 < gain < 0 for gain in gains)


def test_a_temperature_s_logarithm_has_a_normal_prior_of_a_half() -> None:
    """Of n rows at log-odds a, m of them right, against SciPy's minimum of the same sum in one variable."""
    a, n, m = 3.0, 30, 21
    p = torch.tensor([[a, 0.0]]).double().softmax(-1).expand(n, 2)
    y = (torch.arange(n) >= m).long()

    def objective(log_t: float) -> float:
        scaled = a / math.exp(log_t)
        return m * math.log1p(math.exp(-scaled)) + (n - m) * math.log1p(math.exp(scaled)) + 0.5 * (log_t / 0.5) ** 2

    expected = math.exp(minimize_scalar(objective, bounds=(-2, 2), method="bounded", options={"xatol": 1e-9}).x)
    assert by_temperature(p, y, classes=True) == Scaling(pytest.approx(expected, rel=1e-4))
    assert expected > 1.5


def test_a_temperature_is_fitted_to_20_labels_at_least() -> None:
    """Of a model that is sure, and right in half of them."""
    p, y = torch.tensor([[0.998, 0.001, 0.001]]).double().expand(20, 3), torch.arange(20) % 2
    assert fitted(p, y, True)[0].temperature > 1.5
    assert fitted(p[:19], y[:19], True)[0] == Scaling()


def test_the_shift_has_a_standard_normal_prior() -> None:
    """Of probabilities of a half T does nothing, and b is where ``n (σ(b) - share) + b = 0``."""
    p, y = torch.full((30, 1), 0.5, dtype=torch.double), (torch.arange(30) < 24).long().unsqueeze(1)
    expected = brentq(lambda b: 30 / (1 + math.exp(-b)) - 24 + b, 0, 5)
    found = by_temperature(p, y, classes=False)
    assert (found.temperature, found.shift) == pytest.approx((1.0, expected), abs=1e-4)


def test_a_sure_attribute_is_as_sure_as_single_precision_allows() -> None:
    p = torch.tensor([[0.0, 1.0]], dtype=torch.double)
    assert tempered(p, 1.0, 0.0, classes=False)[0].tolist() == pytest.approx([0.0, 1 - 2**-24], abs=1e-10)


def test_the_most_probable_value_in_a_set_is_that_of_the_probabilities_people_see() -> None:
    """A shift of 2 makes .4 a 1; scores of 5 leave the most probable value alone in each set."""
    made = Calibration(AttributeLabels(["a"]), (Scaling(shift=2.0),), ((Fold(Scaling(), (5.0,) * 99),),), 99)
    p = torch.tensor([[0.4], [0.05]]).double()
    assert (made.predict_proba(p) > 0.5).flatten().tolist() == [True, False]
    assert made.predict_set(p).tolist() == [[[False, True]], [[True, False]]]


def test_of_very_many_labels_some_are_fitted_to_and_of_very_many_classes_no_confusion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    p, y = mistaken(300, 3)
    assert from_probs(p, y, ClassLabels(3)).confusion
    monkeypatch.setattr("pyro_ssvae.evaluation.calibration.MOST_LABELS", 29)
    few = from_probs(p, y, ClassLabels(3))
    assert few.confusion == ()  # which takes 30
    assert sum(len(fold.scores) for fold in few.folds[0]) == 29
    assert few.rows == 300
    monkeypatch.undo()
    monkeypatch.setattr("pyro_ssvae.evaluation.scaling.MOST_CLASSES", 2)
    assert from_probs(p, y, ClassLabels(3)).confusion == ()


def test_many_scores_are_kept_evenly() -> None:
    found = torch.tensor(kept(torch.randperm(5000, generator=torch.Generator().manual_seed(0)).double()))
    assert (len(found), float(found[0]), float(found[-1])) == (2000, 0.0, 4999.0)
    assert set(found.diff().tolist()) == {2.0, 3.0}  # 4999 / 1999 = 2.5
    assert kept(torch.tensor([2.0, 1.0])) == (1.0, 2.0)


def test_predict_proba_of_the_model_stays(tmp_path: Path) -> None:
    vae = ps.create_model("augmented", input_shape=(3,), labels=ClassLabels(2, ["cat", "dog"]), latent_dim=2)
    x, y = torch.randn(60, 3), torch.arange(60) % 2
    assert isinstance(vae, Classifies)
    before = vae.predict_proba(x)
    made = ps.calibrate(vae, x, y)
    assert vae.predict_proba(x).equal(before)
    assert made.rows == 60
    made.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json", vae.labels) == made
    refused(lambda: Calibration.load(tmp_path / "calibration.json", AttributeLabels(["a"])), "calibration.json")
    saved = json.loads((tmp_path / "calibration.json").read_text())
    wrong: list[object] = [
        {**saved, "parts": [{**saved["parts"][0], "temperature": 0}]},
        {**saved, "parts": "x"},
        [],
        {},
    ]
    for broken in wrong:
        (tmp_path / "broken.json").write_text(json.dumps(broken))
        refused(lambda: Calibration.load(tmp_path / "broken.json", ClassLabels(2)), "broken.json", "train the run anew")
    refused(lambda: ps.calibrate(vae, x, torch.full((60,), -1)), "y", "no known label")
    refused(lambda: ps.calibrate(ps.create_model("vae", input_shape=3), x, y), "VAE", "predicts no labels")


def test_probabilities_and_labels_in_any_form() -> None:
    p, y = drawn(200, 5)
    made = from_probs(p, y, ClassLabels(4))
    for same in (p.numpy(), p.tolist(), pd.DataFrame(p.numpy())):
        assert made.predict_proba(same).allclose(made.predict_proba(p))
        assert made.predict_set(same).equal(made.predict_set(p))
        assert made.metrics(same, y.tolist()) == made.metrics(p, y)
    pair = from_probs(p[:, :2], (p[:, :2] > 0.5).long(), AttributeLabels(["hat", "tie"]))
    refused(lambda: pair.predict_set(p), "[200, 4]", "[N, 2]")
    refused(lambda: made.predict_proba(p[0]), "[4]", "[N, 4]")
    shuffled = pd.DataFrame(p.numpy(), columns=list("0123"))[list("2310")]
    for named in (shuffled, shuffled.add_prefix("p_")):
        assert made.predict_set(named).equal(made.predict_set(p))
    for table in (shuffled.to_dict("records"), shuffled.to_dict("list"), pa.Table.from_pandas(shuffled)):
        assert made.predict_proba(table).equal(made.predict_proba(p))
    whole = torch.eye(4, dtype=torch.long)
    for same in (whole, whole.bool(), whole.numpy(), whole.tolist()):
        assert made.predict_proba(same).allclose(made.predict_proba(whole.double()).float())
    animals = from_probs(p, y, ClassLabels(4, ["ant", "bee", "cat", "dog"]))
    words = [animals.labels.names[k] for k in y.tolist()]
    assert animals.metrics(p, words) == animals.metrics(p, y) == animals.metrics(p, torch.eye(4)[y])
    refused(lambda: animals.metrics(p, ["cow", *words[1:]]), "y: row 0", "cow")
    refused(lambda: made.predict_set(shuffled.rename(columns={"2": "two"})), "probs: no column '2'", "the classes")
    refused(lambda: made.metrics(p, y[:5]), "y: shape [5]")
    refused(lambda: made.metrics(p, torch.full((200,), -1)), "y: no label is known")
    for wrong in (4, -3, 0.5):
        at_row = y.double().index_fill(0, torch.tensor(7), wrong)
        refused(lambda at_row=at_row: made.metrics(p, at_row), "y: row 7", "0 to 3", "-1 for missing")
    two = torch.zeros(200, 2).index_fill(0, torch.tensor(7), 2)
    refused(lambda: pair.metrics(p[:, :2], two), "y: row 7", "0 to 1")
    refused(lambda: made.predict_set(p, coverage="most"), "coverage")  # type: ignore[arg-type]
    assert made.predict_set(p, coverage=np.float64(0.9)).equal(made.predict_set(p))
    assert made.predict_set(p, coverage=np.float32(0.75)).equal(made.predict_set(p, 0.75))


def test_calibrate_takes_the_labels_that_come_along() -> None:
    vae = ps.create_model("augmented", input_shape=(3,), labels=ClassLabels(2), latent_dim=2)
    x, y = torch.randn(60, 3), torch.arange(60) % 2
    assert ps.calibrate(vae, TensorDataset(x, y)) == ps.calibrate(vae, x, y)  # type: ignore[arg-type]
    refused(lambda: ps.calibrate(vae, x), "y: no labels")
