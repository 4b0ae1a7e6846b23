from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from data_makers import refused
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from texts import texts_apart
from torch import Tensor
from toy_blocks import NAMES, BlockClasses, BlockModel, BlockOracle, blocks, pictures, world

from pyro_ssvae import AttributeLabels, Classifier, create_model, plots
from pyro_ssvae.evaluation.interventions import evaluate_interventions
from pyro_ssvae.plots.points import one_label_a_row

X, Y, FACTORS = world()
MODEL = BlockModel()


def cells(ax: Axes) -> Tensor:
    """The brightnesses ``[rows, columns, 3]`` that a mosaic of the toy world shows."""
    shown = torch.from_numpy(np.asarray(ax.images[0].get_array(), dtype=np.float32))
    rows, columns = (shown.shape[0] + 1) // 5, (shown.shape[1] + 1) // 13
    padded = torch.nn.functional.pad(shown, (0, 1, 0, 1))
    images = padded.reshape(rows, 5, columns, 13)[:, :4, :, :12].permute(0, 2, 1, 3)
    return blocks(images.reshape(-1, 1, 4, 12)).reshape(rows, columns, 3)


def words(ax: Axes) -> list[str]:
    return [label.get_text().replace("-\n", "") for label in ax.get_xticklabels()]


def nothing_is_cut_or_covered(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = []
    for ax in figure.axes:
        texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels()]
        boxes += [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
        boxes.append(ax.get_window_extent())
    width, height = canvas.get_width_height()
    for box in boxes:
        assert -1 <= box.x0 <= box.x1 <= width + 1
        assert -1 <= box.y0 <= box.y1 <= height + 1
    for a, b in combinations(boxes, 2):
        over = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(over) <= 1, (a, b)


def test_interventions_show_each_attribute_at_0_and_1() -> None:
    figure = plots.intervention_table(MODEL, X[:5], y=Y[:5])
    start, *groups = figure.axes
    assert words(start) == ["image", "reconstruction"]
    assert torch.equal(cells(start)[:, 0], blocks(X[:5]))
    assert [ax.get_title() for ax in groups] == list(NAMES)
    for i, ax in enumerate(groups):
        assert words(ax) == ["0", "1"]
        there = cells(ax)[..., i] > 0
        assert not there[:, 0].any()
        assert there[:, 1].all()
        assert len(ax.patches) == 5  # one of the two is set against the label, and framed
        assert all(patch.get_edgecolor() == to_rgba(plots.VERMILLION) for patch in ax.patches)
        for row, patch in zip(range(5), sorted(ax.patches, key=lambda patch: patch.get_y()), strict=True):
            assert round(patch.get_x() / 13) == 1 - int(Y[row, i])
    nothing_is_cut_or_covered(figure)


def test_interventions_of_some_attributes_and_without_labels() -> None:
    figure = plots.intervention_table(MODEL, X[:2], ["scarf"])
    assert [ax.get_title() for ax in figure.axes] == ["", "scarf"]
    assert len(figure.axes[1].patches) == 2
    refused(lambda: plots.intervention_table(MODEL, X[:2], ["scraf"]), "scraf", "scarf")


def test_many_attributes_go_below_one_another() -> None:
    names = [f"Attribute_number_{i}_of_a_long_name" for i in range(12)]
    model = create_model("revae", input_shape=(3, 8, 8), labels=AttributeLabels(names), latent_dim=14)
    figure = plots.intervention_table(model, torch.rand(2, 3, 8, 8))
    assert len(figure.axes) == 2 + 12
    nothing_is_cut_or_covered(figure)


def test_interventions_of_classes() -> None:
    x = pictures(torch.arange(3).unsqueeze(1).expand(-1, 3))
    figure = plots.intervention_table(BlockClasses(), x)
    assert words(figure.axes[1]) == ["dark", "dim", "light"]
    assert len(figure.axes[1].patches) == 6
    nothing_is_cut_or_covered(figure)
    assert "class = dim" in plots.intervention_draws(BlockClasses(), x, 1, draws=3).axes[1].get_title()


def test_draws_of_one_intervention() -> None:
    figure = plots.intervention_draws(MODEL, X[:4], {"hat": 1, "beard": 0}, draws=6)
    start, drawn = figure.axes
    assert drawn.get_title() == "hat = 1, beard = 0, 6 draws"
    shown = cells(drawn)
    assert shown.shape == (4, 6, 3)
    assert (shown[..., 0] > 0).all()
    assert (shown[..., 1] == 0).all()
    assert len(shown[..., 0].unique()) == 3  # several kinds
    assert torch.equal(cells(start)[:, 1], blocks(X[:4]))
    nothing_is_cut_or_covered(figure)
    again = plots.intervention_draws(MODEL, X[:4], {"hat": 1, "beard": 0}, draws=6)
    assert torch.equal(cells(again.axes[1]), shown)


def test_values_are_called_by_the_labels_own_words() -> None:
    model = BlockModel()
    model.labels = AttributeLabels(NAMES, [("none", "straw"), ("1", "2"), ("0", "1")])
    drawn = plots.intervention_draws(model, X[:1], {"hat": 1, "beard": 0, "scarf": 1}, draws=6)
    assert drawn.axes[1].get_title() == "hat = straw, beard = 1, scarf = 1, 6 draws"
    table = plots.intervention_table(model, X[:2])
    assert [words(ax) for ax in table.axes[1:]] == [["none", "straw"], ["1", "2"], ["0", "1"]]
    assert any("each attribute set to both of its values" in text.get_text() for text in table.texts)
    assert plots.walk(model, X[:1], "hat", steps=3).axes[1].get_xlabel() == "hat:  none  →  straw"
    names, _ = one_label_a_row(model.labels)
    assert names[:3] == ["hat = none", "hat = straw", "beard = 1"]
    for figure in (drawn, table):
        nothing_is_cut_or_covered(figure)


def test_swaps_show_receiver_donor_and_result() -> None:
    figure = plots.swaps(MODEL, X[:4], X[4:8], "beard")
    assert [words(ax) for ax in figure.axes] == [["receiver", "reconstruction", "donor"], ["with its\nbeard"]]
    first, result = (cells(ax) for ax in figure.axes)
    assert torch.equal(first[:, 0], blocks(X[:4]))
    assert torch.equal(first[:, 2], blocks(X[4:8]))
    assert torch.equal(result[:, 0, 1], blocks(X[4:8])[:, 1])
    assert torch.equal(result[:, 0, 0], blocks(X[:4])[:, 0])
    nothing_is_cut_or_covered(figure)
    one = plots.swaps(MODEL, X[:3], X[5:6], "beard")
    assert torch.equal(cells(one.axes[0])[:, 2], blocks(X[5:6]).expand(3, -1))


def test_every_receiver_with_every_donor() -> None:
    figure = plots.swap_table(MODEL, X[:3], X[4:8], "beard")
    _, top, side, grid = figure.axes
    assert top.get_title() == "donors of beard"
    assert side.get_ylabel() == "receivers"
    assert torch.equal(cells(top)[0], blocks(X[4:8]))
    assert torch.equal(cells(grid)[..., 1], blocks(X[4:8])[:, 1].expand(3, -1))
    assert torch.equal(cells(grid)[..., 0], blocks(X[:3])[:, :1].expand(-1, 4))
    nothing_is_cut_or_covered(figure)


def test_walks() -> None:
    figure = plots.walk(MODEL, X[:3], "beard", steps=4)
    assert figure.axes[1].get_xlabel() == "beard:  0  →  1"
    assert torch.equal(cells(figure.axes[1])[..., 1], torch.arange(4).expand(3, -1))
    nothing_is_cut_or_covered(figure)
    plane = plots.walk(MODEL, X[:4], "beard", "hat", steps=4)
    assert len(plane.axes) == 8
    for i, ax in enumerate(plane.axes[::2]):  # the image and its reconstruction beside its walk
        assert words(ax) == ["image", "reconstruction"]
        assert torch.equal(cells(ax)[0, 0], blocks(X[i : i + 1])[0])
    for ax in plane.axes[1::2]:
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("beard:  0  →  1", "hat:  0  →  1")
        assert torch.equal(cells(ax)[..., 1], torch.arange(4).expand(4, -1))  # beard to the right
        assert torch.equal(cells(ax)[..., 0], 3 - torch.arange(4).unsqueeze(1).expand(-1, 4))  # hat upwards
    nothing_is_cut_or_covered(plane)


@pytest.mark.parametrize("how", ["perfect", "nothing", "blank"])
def test_bars_of_the_oracles_numbers(how: str) -> None:
    metrics = evaluate_interventions(BlockModel(how), BlockOracle(), X, Y, FACTORS, draws=2, resamples=50)
    metrics = json.loads(json.dumps(metrics))
    figure = plots.intervention_bars(metrics)
    assert figure.axes[0].get_title(loc="left") == "success"
    success = figure.axes[0]
    assert [label.get_text() for label in success.get_yticklabels()] == ["mean", *NAMES]
    shown = [bar.get_width() for bar in success.patches]
    assert texts_apart(figure)
    assert shown == [metrics["success"]["mean"]["value"]] + [
        metrics["success"]["per_attribute"][name]["value"] for name in NAMES
    ]


def test_random_state_and_training_mode_are_left_alone() -> None:
    model = create_model("revae", input_shape=(1, 4, 12), labels=AttributeLabels(NAMES), latent_dim=5).train()
    before = torch.get_rng_state()
    plots.intervention_table(model, X[:2])
    plots.walk(model, X[:2], "hat")
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_a_title_says_what_is_to_be_seen() -> None:
    for figure, said in (
        (plots.walk(MODEL, X[:2], "beard", k=3.0), "walk along beard, from μ₀ - 3σ₀ to μ₁ + 3σ₁"),
        (plots.swaps(MODEL, X[:2], X[2:3], "hat"), "the donor's hat in the receiver"),
        (plots.intervention_table(MODEL, X[:2]), "each attribute set to 0 and to 1, the rest as it is"),
    ):
        assert figure.texts[0].get_text().replace("\n", " ") == said
        nothing_is_cut_or_covered(figure)


def test_bad_input() -> None:
    plain = Classifier.default((1, 4, 12), AttributeLabels(NAMES))
    refused(lambda: plots.intervention_table(plain, X), "Classifier", "no interventions")
    refused(lambda: plots.swaps(plain, X, X, "hat"), "Classifier", "no interventions")
    refused(lambda: plots.walk(BlockClasses(), X, "hat"), "BlockClasses", "to walk along", "revae")
    refused(lambda: plots.intervention_table(MODEL, torch.rand(2, 5)), "[2, 5]", "images")
