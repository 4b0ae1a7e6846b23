"""The classifier's terms of rows without a label: the other models' head, without a decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from data_makers import refused
from pair_suite import points, some_labels
from pyro import poutine
from pyro.infer import SVI
from sklearn.metrics import log_loss
from tiny import ATTRIBUTES, CLASSES

from pyro_ssvae import ClassLabels, create_model, fit, load, save
from pyro_ssvae.infer.auxiliary import supervised
from pyro_ssvae.labels import Labels

WEIGHTS: dict[str, Any] = {"entropy_weight": 0.3, "alignment_weight": 0.7}


def made(labels: Labels = CLASSES, **options: Any) -> Any:
    pyro.set_rng_seed(0)
    model: Any = create_model("classifier", input_shape=(5,), labels=labels, **options)
    torch.nn.init.normal_(model.head.weight)
    return model.double().eval()


def loss(model: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    value: torch.Tensor = model.objective().differentiable_loss(model.model, model.guide, x, y)
    return value


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
def test_the_loss_is_the_head_s_terms_at_weight_one(labels: Labels) -> None:
    model = made(labels, **WEIGHTS)
    x, y = points(9).double(), some_labels(labels, 9)
    model.prepare(x, y)
    terms = model.head_terms(model.logits(x), y)
    assert loss(model, x, y).item() == pytest.approx(-terms.sum().item(), rel=1e-12)
    assert terms.sum().item() != pytest.approx(supervised(labels, model.logits(x), y).sum().item(), rel=1e-3)


def test_weights_over_alpha_give_the_direction_of_a_model_with_alpha() -> None:
    """A VAE's factor at α is α times the classifier's at weights over α: so what differs is the decoder alone."""
    model = made(**WEIGHTS)
    vae: Any = create_model(
        "augmented", input_shape=(5,), labels=CLASSES, alpha=200.0, entropy_weight=60.0, alignment_weight=140.0
    )
    x, y = points(9).double(), some_labels(CLASSES, 9)
    model.prepare(x, y)
    vae.double().eval().prepare(x, y)
    logits = model.logits(x).detach()
    torch.testing.assert_close(vae.head_terms(logits, y), 200 * model.head_terms(logits, y))


def test_without_weights_rows_without_a_label_count_nothing() -> None:
    model = made()
    x, y = points(9).double(), some_labels(CLASSES, 9)
    assert model.head_terms is None
    assert "head" not in poutine.trace(model.model).get_trace(x, y).nodes
    expected = -supervised(CLASSES, model.logits(x), y).sum()
    torch.testing.assert_close(loss(model, x, y), expected)


def test_class_weights_reach_the_terms() -> None:
    model = made(**WEIGHTS)
    x, y = points(9).double(), some_labels(CLASSES, 9)
    before = loss(model, x, y)
    model.set_class_weights(torch.tensor([3.0, 1.0, 0.2]))
    torch.testing.assert_close(loss(model, x, y), -model.head_terms(model.logits(x), y).sum())
    assert abs((loss(model, x, y) - before).item()) > 1e-3


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
def test_class_weights_multiply_the_loss_of_each_known_label(labels: Labels) -> None:
    """Without terms of the missing ones, against scikit-learn's weighted log loss."""
    model = made(labels)
    x, y = points(9).double(), some_labels(labels, 9)
    weights = torch.tensor([3.0, 1.0, 0.2] if labels is CLASSES else [[3.0, 1.0], [0.2, 2.0], [1.0, 0.5]]).double()
    model.set_class_weights(weights)
    probs = model.predict_proba(x)
    if labels is CLASSES:
        columns = [(y.numpy(), probs.numpy(), weights.numpy())]
    else:
        both = torch.stack([1 - probs, probs], -1).transpose(0, 1)
        columns = list(zip(y.T.numpy(), both.numpy(), weights.numpy()))
    expected = sum(
        log_loss(v[v >= 0], p[v >= 0], normalize=False, sample_weight=w[v[v >= 0]], labels=range(p.shape[-1]))
        for v, p, w in columns
    )
    assert loss(model, x, y).item() == pytest.approx(expected, rel=1e-9)


def test_labels_are_smoothed_with_the_entropy_s_term_alone() -> None:
    x, y = points(9).double(), some_labels(CLASSES, 9)
    found = []
    for options in ({"alignment_weight": 1.0}, {"entropy_weight": 1.0}):
        model = made(**options)
        model.prepare(x, y)
        found.append(float(model.head_terms.epsilon))
    assert found[0] == 0
    assert found[1] > 0.03


def test_rows_without_a_label_move_the_border_between_the_classes() -> None:
    """Two clouds, three labels each, whose second feature leans as the class does and else says nothing.

    Of the labels alone the border is aslant: 0.81 to 0.82 on seeds 0 to 2; entropy finds the gap between the clouds:
    0.995 at least.
    """
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 2
    x = torch.randn(400, 2, generator=generator) * torch.tensor([0.4, 1.0])
    x[:, 0] += 2.5 * y
    shown = torch.full_like(y, -1)
    for k in (0, 1):
        rows = (y == k).nonzero().squeeze(1)
        shown[rows[x[rows, 1] * (2 * k - 1) > 1][:3]] = k
    accuracy = {}
    for name, options in {"labels": {}, "all rows": {"entropy_weight": 0.04, "alignment_weight": 0.1}}.items():
        pyro.set_rng_seed(0)
        model: Any = create_model("classifier", input_shape=(2,), labels=ClassLabels(2), **options)
        fit(model, x, shown, epochs=60, batch_size=200, augment="none", progress=False)
        accuracy[name] = float((model.predict(x) == y).double().mean())
    assert accuracy["all rows"] > 0.98
    assert accuracy["labels"] < 0.9


@pytest.mark.parametrize(
    "options", [{}, {"columns": ("normal", "categorical:3", "poisson")}, {"likelihood": "laplace"}]
)
@pytest.mark.filterwarnings("error::UserWarning")
def test_what_is_not_learnt_is_no_parameter(options: dict[str, Any], tmp_path: Path) -> None:
    """Pyro warns of a parameter without a gradient, at every step."""
    x = torch.cat([torch.randn(40, 1), torch.randint(0, 3, (40, 2)).float()], 1)
    model: Any = create_model("classifier", input_shape=(3,), labels=ClassLabels(3), **options)
    assert not list(model.likelihood.parameters())
    fit(model, x, x[:, 1].long(), epochs=2, progress=False)
    SVI(model.model, model.guide, pyro.optim.Adam({"lr": 1e-3}), loss=model.objective()).step(x, x[:, 1].long())
    save(model, tmp_path)
    other: Any = load(tmp_path)
    assert other.state_dict().keys() == model.state_dict().keys()
    assert other.predict_proba(x).equal(model.eval().predict_proba(x))
    assert model.double().predict_proba(x.double()).dtype == torch.float64


@pytest.mark.parametrize("options", [{}, WEIGHTS], ids=["labels alone", "all rows"])
def test_without_a_label_there_is_nothing_to_learn(options: dict[str, Any]) -> None:
    model = create_model("classifier", input_shape=(5,), labels=CLASSES, **options)
    for y in (None, torch.full((9,), -1)):
        refused(lambda y=y: fit(model, points(9), y, progress=False), "y: no label is known", "needs some")
