from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn
from torchmetrics.functional import classification as tm

import pyro_ssvae as ps
from pyro_ssvae import create_model
from pyro_ssvae.errors import InputError
from pyro_ssvae.evaluation.evaluate import anomaly_scores, evaluate
from pyro_ssvae.evaluation.generative import affordable_rows
from pyro_ssvae.evaluation.metrics import (
    attribute_metrics,
    calibration_error,
    class_metrics,
    clustering_metrics,
    match,
    semi_unsupervised_metrics,
)
from pyro_ssvae.infer import batched as infer_batched
from pyro_ssvae.infer.batched import batched, evaluating
from pyro_ssvae.labels import AttributeLabels, ClassLabels


class LinearGaussian(nn.Module):
    """x = W z + noise, z ~ N(0, I), with log p(x) known; q is the posterior, wider by ``slack``."""

    def __init__(self, labels: ClassLabels | AttributeLabels, features: int = 6, slack: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.labels, self.latent_dim, self.noise, self.slack = labels, 2, 0.5, slack
        self.weight = nn.Parameter(torch.randn(features, 2, generator=generator))
        self.head = nn.Linear(features, labels.size)
        self.dropout = nn.Dropout(0.5)
        self.rows: list[int] = []

    def predict_proba(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        return self.labels.probs(self.dropout(self.head(x)))

    def predict(self, x: Tensor) -> Tensor:
        return self.labels.mode(self.predict_proba(x))

    def encode(self, x: Tensor) -> torch.distributions.MultivariateNormal:
        precision = torch.eye(2) + self.weight.T @ self.weight / self.noise**2
        covariance = torch.linalg.inv(precision)
        return torch.distributions.MultivariateNormal(
            x @ self.weight @ covariance / self.noise**2, self.slack**2 * covariance
        )

    def marginal(self) -> torch.distributions.MultivariateNormal:
        eye = torch.eye(len(self.weight))
        return torch.distributions.MultivariateNormal(
            torch.zeros(len(self.weight)), self.weight @ self.weight.T + self.noise**2 * eye
        )

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        assert not torch.is_grad_enabled()
        assert not self.training
        self.rows.append(len(x))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.weight.T, self.noise).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        q = self.encode(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(q.loc, q.covariance_matrix))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.encode(x).mean @ self.weight.T

    def draw(self, n: int) -> Tensor:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(1)
            return self.marginal().sample((n,))


class Table(nn.Module):
    """Predictions read from the input itself: ``x`` holds the probabilities."""

    def __init__(self, labels: ClassLabels | AttributeLabels) -> None:
        super().__init__()
        self.labels = labels

    def predict_proba(self, x: Tensor) -> Tensor:
        return x

    def predict(self, x: Tensor) -> Tensor:
        return self.labels.mode(x)


def predictions(n: int, k: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    y = torch.randint(k, (n,), generator=generator)
    logits = 2 * torch.randn(n, k, generator=generator) + 2 * nn.functional.one_hot(y, k)
    return logits.softmax(-1), y


def by_hand(confidence: Any, hit: Any, bins: int = 15) -> float:
    confidence, hit = np.asarray(confidence, float), np.asarray(hit, float)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    error = [(place == b).mean() * abs(hit[place == b].mean() - confidence[place == b].mean()) for b in set(place)]
    return float(sum(error))


def test_class_metrics_agree_with_scikit_learn_and_torchmetrics() -> None:
    probs, y = predictions(400, 5)
    result = evaluate(Table(ClassLabels(5)), probs, y)
    said = probs.argmax(-1)
    assert result["n"] == result["rows"] == 400
    assert result["accuracy"] == pytest.approx(sk.accuracy_score(y, said))
    assert result["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, said))
    assert result["macro_f1"] == pytest.approx(sk.f1_score(y, said, average="macro"))
    assert result["nll"] == pytest.approx(sk.log_loss(y, probs.numpy()), rel=1e-5)
    assert result["confusion"] == sk.confusion_matrix(y, said).tolist()
    assert result["macro_f1"] == pytest.approx(float(tm.multiclass_f1_score(probs, y, 5, average="macro")), rel=1e-5)
    assert result["calibration_error"] == pytest.approx(float(tm.multiclass_calibration_error(probs, y, 5)), rel=1e-4)
    assert result["calibration_error"] == pytest.approx(by_hand(probs.amax(-1), said == y), rel=1e-4)


def test_class_metrics_by_hand_with_an_absent_class_and_certain_errors() -> None:
    probs = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5 - 1e-6, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    result = class_metrics(probs, torch.tensor([0, 0, 1, 1]))
    assert result["accuracy"] == 0.75
    assert result["balanced_accuracy"] == 0.75
    assert result["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)  # class 2 neither occurs nor is predicted
    assert result["nll"] == pytest.approx((math.log(2) - math.log(torch.finfo(torch.float32).eps)) / 4)
    assert result["calibration_error"] == pytest.approx(0.25 * 0.5 + 0.75 * (1 - 2 / 3), abs=1e-6)


def test_certainty_shares_the_last_bin() -> None:
    assert calibration_error(torch.tensor([1.0, 0.95]), torch.tensor([0, 1])) == pytest.approx(0.475)
    assert calibration_error(torch.tensor([1.0 + 1e-6, 0.2]), torch.tensor([1, 0])) == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize("n", [60, 1000])
def test_right_probabilities_have_a_calibration_error_by_chance(n: int) -> None:
    """That of labels drawn from the very probabilities, in the mean of 300 draws."""
    noise = torch.Generator().manual_seed(0)
    probs = (2 * torch.randn(n, 4, generator=noise, dtype=torch.double)).softmax(-1)
    drawn, (most, top) = torch.multinomial(probs, 300, replacement=True, generator=noise), probs.max(-1)
    errors = torch.tensor([calibration_error(most, top == y) for y in drawn.T])
    told = class_metrics(probs, drawn[:, 0])["calibration_error_by_chance"]
    assert abs(told - float(errors.mean())) < 0.06 * told  # bins of few rows are not quite normal
    p, y = probs[:, :2], (torch.rand(n, 2, generator=noise) < probs[:, :2]).long()
    each = attribute_metrics(p, y, ["a", "b"])
    names = [each["per_attribute"][name]["calibration_error_by_chance"] for name in "ab"]
    assert each["calibration_error_by_chance"] == pytest.approx(sum(names) / 2)
    assert class_metrics(torch.eye(4)[[0, 1]], torch.tensor([0, 0]))["calibration_error_by_chance"] == 0


def test_missing_labels_do_not_count() -> None:
    probs, y = predictions(300, 4)
    hidden = y.clone()
    hidden[::3] = -1
    some = evaluate(Table(ClassLabels(4)), probs, hidden)
    kept = evaluate(Table(ClassLabels(4)), probs[hidden >= 0], y[hidden >= 0])
    assert {**some, "rows": 200} == kept
    assert some["rows"] == 300
    assert some["n"] == 200


def test_attribute_metrics_agree_with_scikit_learn_and_leave_out_what_is_missing() -> None:
    generator = torch.Generator().manual_seed(5)
    names = ["smiling", "glasses", "always", "unknown"]
    probs = torch.rand(200, 4, generator=generator)
    y = (torch.rand(200, 4, generator=generator) < 0.5 * probs + 0.1).long()
    y[::4, 0], y[:, 2], y[:, 3] = -1, 1, -1
    result = evaluate(Table(AttributeLabels(names)), probs, y)
    each = result["per_attribute"]
    for i, name in enumerate(names[:2]):
        known = y[:, i] >= 0
        p, v = probs[known, i].double().numpy(), y[known, i].numpy()
        assert each[name]["n"] == known.sum()
        assert each[name]["accuracy"] == pytest.approx(sk.accuracy_score(v, p > 0.5))
        assert each[name]["majority_accuracy"] == pytest.approx(max(v.mean(), 1 - v.mean()))
        assert each[name]["average_precision"] == pytest.approx(
            float(tm.binary_average_precision(torch.tensor(p), torch.tensor(v))), rel=1e-5
        )
        assert each[name]["auroc"] == pytest.approx(float(tm.binary_auroc(torch.tensor(p), torch.tensor(v))), rel=1e-5)
        assert each[name]["nll"] == pytest.approx(sk.log_loss(v, p))
        assert each[name]["calibration_error"] == pytest.approx(by_hand(p, v))
    assert each["always"]["auroc"] is None
    assert each["always"]["average_precision"] is None
    assert each["always"]["majority_accuracy"] == 1.0
    assert each["unknown"]["n"] == 0
    assert each["unknown"]["accuracy"] is None
    assert result["auroc"] == pytest.approx((each["smiling"]["auroc"] + each["glasses"]["auroc"]) / 2)
    assert result["accuracy"] == pytest.approx(sum(each[name]["accuracy"] for name in names[:3]) / 3)
    assert result["n"] == 200
    assert "confusion" not in result


def test_generative_metrics_reach_the_known_likelihood() -> None:
    exact, wide = (LinearGaussian(ClassLabels(3), slack=slack) for slack in (1.0, 1.3))
    x = exact.draw(400)
    with torch.no_grad():
        truth = exact.marginal().log_prob(x).mean().item()
        residual = ((x - exact.reconstruct(x)) / x.std(0, correction=0)).square().mean().item()
    result = evaluate(exact, x, likelihood_rows=None, num_samples=7, batch_size=100)
    # q is the posterior: every importance weight is p(x)
    assert result["elbo"] == pytest.approx(truth, abs=1e-3)
    assert result["log_likelihood"] == pytest.approx(truth, abs=1e-3)
    assert result["reconstruction_error"] == pytest.approx(residual, rel=1e-4)
    assert (result["log_likelihood_samples"], result["log_likelihood_rows"]) == (7, 400)
    loose = evaluate(wide, x, likelihood_rows=None, num_samples=50)
    kl = 2 * (0.5 * 1.3**2 - 0.5 - math.log(1.3))
    assert loose["elbo"] == pytest.approx(truth - kl, abs=0.1)
    assert loose["elbo"] + 0.05 < loose["log_likelihood"] <= truth + 0.01
    assert "accuracy" not in result
    assert "clustering" not in result


def test_a_pair_without_verbs_is_judged_by_its_traces() -> None:
    whole = LinearGaussian(ClassLabels(3))
    x = whole.draw(50)
    expected = evaluate(whole, x, num_samples=3)
    found = evaluate((whole.model, whole.guide), x, num_samples=3)
    assert found.keys() == expected.keys() == {
        "rows", "elbo", "reconstruction", "kl", "density", "elbo_per_dimension", "log_likelihood",
        "log_likelihood_samples", "log_likelihood_rows", "active_units", "latent_units", "mutual_information",
        "mutual_information_rows", "reconstruction_error",
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_batches_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer_batched, "NUMBERS", 100 * 6)  # points of 6 numbers
    model = LinearGaussian(ClassLabels(3))
    x = model.draw(330)
    result = evaluate(model, x, torch.arange(330) % 3, batch_size=100, num_samples=2, likelihood_rows=142)
    assert max(model.rows) == 100
    assert sum(rows for rows in model.rows if rows > 2) == 3 * 330 + 2 * 142  # heads, bounds, the support; draws
    assert result["log_likelihood_rows"] == 142


def test_the_rows_of_the_likelihood_are_drawn_by_the_seed() -> None:
    model = LinearGaussian(ClassLabels(3))
    x = model.draw(400)
    x = x[model.marginal().log_prob(x).argsort()].detach()  # the first rows are the least probable

    def bound(rows: Tensor, seed: int, most: int | None = None) -> float:
        found = evaluate(model, rows, likelihood_rows=most, num_samples=1, seed=seed)["log_likelihood"]
        assert isinstance(found, float)
        return found

    first, chosen = bound(x[:40], 0), bound(x, 0, 40)
    assert chosen > first + 2, "the first rows were taken"
    assert chosen == bound(x, 0, 40)
    # q is the posterior: of the same rows every draw has the same weight, so that other rows alone make a difference
    assert bound(x[:40], 1) == pytest.approx(first, abs=1e-4)
    assert bound(x, 1, 40) != pytest.approx(chosen, abs=1e-2)


def test_active_units_are_of_rows_drawn_by_the_seed() -> None:
    """Of 1,200 rows the first 1,000, the most that are looked at, are alike."""
    model = LinearGaussian(ClassLabels(3))
    x = model.draw(1200)
    x[:1000] = 0.0
    found = evaluate(model, x, likelihood_rows=1, num_samples=1)
    assert (found["active_units"], found["mutual_information_rows"]) == (2, 200)


def test_rows_of_the_likelihood_are_a_thousand_or_fewer_but_fifty_at_least() -> None:
    model = LinearGaussian(ClassLabels(3))
    x = model.draw(8)
    with evaluating(model):
        assert [affordable_rows(model, x, n) for n in (1, 10**9)] == [1000, 50]


def test_reconstruction_error_of_bytes_is_on_the_unit_scale() -> None:
    class Grey(nn.Module):
        def reconstruct(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 1, 4, 4), 0.5)

    x = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 1, 4, 4)
    assert evaluate(Grey(), x) == {"rows": 2, "reconstruction_error": 0.25}
    assert evaluate(Grey(), x.numpy())["reconstruction_error"] == 0.25


def test_the_same_call_gives_the_same_numbers_and_leaves_the_model_alone() -> None:
    model = LinearGaussian(ClassLabels(3), slack=1.3).train()
    model.dropout.eval()  # a part frozen on its own
    x, y = model.draw(60), torch.arange(60) % 3
    state = torch.get_rng_state()
    first = evaluate(model, x, y)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert evaluate(model, x, y) == first
    assert evaluate(model, x, y, seed=1)["elbo"] != first["elbo"]
    assert evaluate(model, x.double().numpy(), y.numpy())["accuracy"] == first["accuracy"]
    assert model.training
    assert model.head.training
    assert not model.dropout.training
    with pytest.raises(RuntimeError), evaluating(model):
        raise RuntimeError
    assert model.training
    assert torch.is_grad_enabled()
    assert batched(model, lambda part: part[:, 0], x, rows=7).equal(x[:, 0])
    assert json.loads(json.dumps(first, allow_nan=False)) == first


def test_clusters_match_classes_whatever_their_order() -> None:
    y = torch.tensor([0, 0, 0, 1, 1, 2])
    clusters = torch.tensor([2, 2, 0, 0, 0, 1])
    result = clustering_metrics(clusters, y, 3)
    assert result["accuracy"] == pytest.approx(5 / 6)
    assert result["nmi"] == pytest.approx(sk.normalized_mutual_info_score(y, clusters))
    assert result["ari"] == pytest.approx(sk.adjusted_rand_score(y, clusters))
    generator = torch.Generator().manual_seed(0)
    found, truth = (torch.randint(5, (300,), generator=generator) for _ in range(2))
    matching = match(found, truth, 5)
    assert sorted(matching.tolist()) == list(range(5))
    best = max((torch.tensor(order)[found] == truth).sum() for order in permutations(range(5)))
    assert (matching[found] == truth).sum() == best


@pytest.mark.parametrize("most", [20_000, 70])
def test_latent_clusters_are_found(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Of more rows than k-means sees, all labelled ones are judged; here 60 of 90."""
    seen = []
    monkeypatch.setattr(sys.modules["pyro_ssvae.evaluation.evaluate"], "CLUSTERED", most)
    monkeypatch.setattr(
        "pyro_ssvae.evaluation.evaluate.clustering_metrics",
        lambda *told: (seen.append(len(told[0])), clustering_metrics(*told))[1],
    )
    model = LinearGaussian(ClassLabels(3))
    y = torch.arange(90) % 3
    centres = torch.tensor([[6.0, 0.0], [-6.0, 5.0], [0.0, -6.0]])
    with torch.no_grad():
        x = centres[y] @ model.weight.T + 0.1 * model.draw(90)
    hidden = y.clone()
    hidden[:30] = -1
    result = evaluate(model, x, hidden, known_classes=[])
    assert result["clustering"] == {"accuracy": 1.0, "nmi": pytest.approx(1.0), "ari": 1.0}
    assert seen == [60]
    assert "accuracy" not in result
    assert result["semi_unsupervised"]["seen_accuracy"] is None
    assert evaluate(Table(ClassLabels(3)), torch.eye(3), torch.arange(3)).keys().isdisjoint({"clustering", "elbo"})


def test_semi_unsupervised_accuracy_matches_only_the_unseen_classes() -> None:
    #                     seen: 0 1 | unseen: 2 3, found as outputs 3 and 2
    y = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3, 3])
    predicted = torch.tensor([0, 0, 1, 1, 1, 3, 3, 0, 2, 2])
    result = evaluate(Table(ClassLabels(4)), torch.eye(4)[predicted], y, known_classes=[0, 1])
    semi = result["semi_unsupervised"]
    assert semi["seen_accuracy"] == pytest.approx(4 / 5)
    assert semi["unseen_accuracy"] == pytest.approx(4 / 5)
    assert semi["accuracy"] == pytest.approx(0.8)
    assert semi["matching"] == [0, 1, 3, 2]
    assert semi["nmi"] == pytest.approx(sk.normalized_mutual_info_score(y, predicted))
    assert result["accuracy"] == pytest.approx(0.4)
    # swapped seen classes are errors, not another name
    swapped = semi_unsupervised_metrics(torch.tensor([1, 0, 2]), torch.tensor([0, 1, 2]), 3, [0, 1])
    assert swapped["seen_accuracy"] == 0.0
    assert swapped["unseen_accuracy"] == 1.0
    everything = evaluate(Table(ClassLabels(4)), torch.eye(4)[predicted], y, known_classes=[0, 1, 2, 3])
    assert "semi_unsupervised" not in everything


def test_anomalies_are_told_from_the_rest() -> None:
    model = LinearGaussian(ClassLabels(4))
    x, y = model.draw(200), torch.arange(200) % 4
    x[y == 2] += 3 * torch.randn(6, generator=torch.Generator().manual_seed(2))
    scores = anomaly_scores(model, x)
    with torch.no_grad():
        torch.testing.assert_close(scores["negative_elbo"], -model.marginal().log_prob(x), atol=2e-2, rtol=1e-3)
    hidden = y.clone()
    hidden[:20] = -1
    result = evaluate(model, x, hidden, left_out=[2])
    for name in ("negative_elbo", "reconstruction"):
        expected = sk.roc_auc_score(y[20:] == 2, scores[name][20:])
        assert result["anomaly"][name] == pytest.approx(expected, abs=0.01)
        assert expected > 0.9
    assert result["anomaly"]["n"] == 45
    assert result["rows"] == 155
    assert result["n"] == 135
    assert result["confusion"][2] == [0, 0, 0, 0]
    kept = evaluate(model, x[hidden != 2], hidden[hidden != 2])
    assert kept == {key: value for key, value in result.items() if key != "anomaly"}
    assert anomaly_scores(Table(ClassLabels(4)), x) == {}
    assert "anomaly" not in evaluate(model, x[y != 2], y[y != 2], left_out=[2])


def diverged(x: Tensor, y: Tensor | None = None) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(1e30 * (x + z.unsqueeze(-1)), 1.0).to_event(1), obs=x)


def standard(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def test_a_model_that_diverged_still_gives_json() -> None:
    model = LinearGaussian(ClassLabels(3))
    x = model.draw(30)
    with torch.no_grad():
        model.weight *= 1e30
    model.model = diverged  # type: ignore[method-assign, assignment]
    model.guide = lambda x, y=None: standard(x)  # type: ignore[method-assign]
    model.encode = lambda x: torch.distributions.Normal(x * torch.nan, 1.0, validate_args=False)  # type: ignore
    model.reconstruct = lambda x: x * torch.nan  # type: ignore[method-assign]
    result = evaluate(model, x, torch.arange(30) % 3)
    assert result["elbo"] is result["log_likelihood"] is result["reconstruction_error"] is result["clustering"] is None
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("labels", [ClassLabels(3), AttributeLabels(["a", "b"])], ids=["classes", "attributes"])
@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_weights_that_are_no_numbers_are_said(
    labels: ClassLabels | AttributeLabels, value: float, word: str, tmp_path: Path
) -> None:
    """By each verb: the labels of probabilities that are NaN would be class 0."""
    model = create_model("augmented", input_shape=4, labels=labels, latent_dim=2)
    with torch.no_grad():
        model.get_parameter("head.bias").fill_(value)
    x, y = torch.zeros(5, 4), torch.zeros(5, *labels.event_shape, dtype=torch.long)
    verbs: list[Callable[[], object]] = [
        lambda: evaluate(model, x, y),
        lambda: model.predict(x),
        lambda: model.generate(2),
        lambda: model.decode(torch.zeros(1, 2)),
        lambda: ps.calibrate(model, x, y),
        lambda: ps.suggest(model, x, n=1),
        lambda: ps.elbo(model, x),
        lambda: ps.posterior(model, x, num_samples=4),
        lambda: ps.export(model, tmp_path / "a.pt2"),
    ]
    for verb in verbs:
        with pytest.raises(InputError, match=rf"^model: weight 'head\.bias' is {word}, so the model has diverged"):
            verb()


def test_a_frozen_mask_may_be_infinite() -> None:
    model = create_model("vae", input_shape=4, latent_dim=2)
    model.mask = torch.nn.Parameter(torch.tensor([0.0, -math.inf]), requires_grad=False)
    assert bool(ps.elbo(model, torch.zeros(5, 4)).isfinite().all())


def test_what_cannot_be_judged_is_said() -> None:
    table = Table(ClassLabels(3))
    with pytest.raises(InputError, match="no rows"):
        evaluate(table, torch.zeros(0, 3))
    with pytest.raises(InputError, match="2 rows, but x has 3"):
        evaluate(table, torch.eye(3), [0, 1])
    with pytest.raises(InputError, match="left_out: 7 is none"):
        evaluate(table, torch.eye(3), [0, 1, 2], left_out=[7])
    with pytest.raises(InputError, match=r"left_out: 'cat' is none .*by their numbers"):
        evaluate(table, torch.eye(3), [0, 1, 2], left_out=["cat"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="known_classes: 1; a list"):
        evaluate(table, torch.eye(3), [0, 1, 2], known_classes=1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="leave no row"):
        evaluate(table, torch.eye(3), [0, 1, 2], left_out=[0, 1, 2])
    with pytest.raises(InputError, match="known_classes: 1 is none"):
        evaluate(Table(AttributeLabels(["a"])), torch.rand(2, 1), [[0], [1]], known_classes=[1])
    with pytest.raises(InputError, match="no labels"):
        evaluate(nn.Identity(), torch.eye(3), [0, 1, 2])
    for option in ("num_samples", "batch_size", "likelihood_rows"):
        for number in (0, -1, 2.5, "many", True):
            with pytest.raises(InputError, match=f"{option}: {number!r}; a whole number of at least 1"):
                evaluate(table, torch.eye(3), [0, 1, 2], **{option: number})  # type: ignore[arg-type]
    size: Any = np.int64(2)
    assert evaluate(table, torch.eye(3), [0, 1, 2], batch_size=size)["n"] == 3
